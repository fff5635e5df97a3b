//! The types of stored numbers, and the conversion of their bytes.

use std::fmt;
use std::io::{self, Read};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// `f64` represents every integer up to this one, 2⁵³.
const LARGEST_INTEGER: u64 = 1 << 53;

/// The type of a tensor's stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ElementType {
    /// Half precision: 5 bits of exponent, 10 of fraction.
    F16,
    /// The upper half of an `f32`: 8 bits of exponent, 7 of fraction.
    BF16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Signed, one byte.
    I8,
    /// Signed, two bytes.
    I16,
    /// Signed, four bytes.
    I32,
    /// Signed, eight bytes.
    I64,
    /// Unsigned, one byte.
    U8,
    /// Unsigned, two bytes.
    U16,
    /// Unsigned, four bytes.
    U32,
    /// Unsigned, eight bytes.
    U64,
    /// One byte: 0 is false and is read as 0; any other value is true and is read as 1.
    #[allow(clippy::upper_case_acronyms)] // as in the file
    BOOL,
}

impl ElementType {
    /// All types, in the order of messages.
    pub(crate) const ALL: [Self; 13] = [
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::BOOL,
    ];

    /// The name, the bytes per number, NumPy's letters if NumPy has the type, and safetensors' type.
    fn row(self) -> (&'static str, usize, Option<&'static str>, Dtype) {
        match self {
            Self::F16 => ("F16", 2, Some("f2"), Dtype::F16),
            Self::BF16 => ("BF16", 2, None, Dtype::BF16),
            Self::F32 => ("F32", 4, Some("f4"), Dtype::F32),
            Self::F64 => ("F64", 8, Some("f8"), Dtype::F64),
            Self::I8 => ("I8", 1, Some("i1"), Dtype::I8),
            Self::I16 => ("I16", 2, Some("i2"), Dtype::I16),
            Self::I32 => ("I32", 4, Some("i4"), Dtype::I32),
            Self::I64 => ("I64", 8, Some("i8"), Dtype::I64),
            Self::U8 => ("U8", 1, Some("u1"), Dtype::U8),
            Self::U16 => ("U16", 2, Some("u2"), Dtype::U16),
            Self::U32 => ("U32", 4, Some("u4"), Dtype::U32),
            Self::U64 => ("U64", 8, Some("u8"), Dtype::U64),
            Self::BOOL => ("BOOL", 1, Some("b1"), Dtype::BOOL),
        }
    }

    /// Bytes per number.
    #[must_use]
    pub(crate) fn bytes(self) -> usize {
        self.row().1
    }

    /// Whether the type is an integer type. BOOL counts as one.
    #[must_use]
    pub(crate) fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// NumPy's kind and width, such as `f4`; NumPy has no BF16.
    pub(super) fn letters(self) -> Option<&'static str> {
        self.row().2
    }

    pub(super) fn safetensors(self) -> Dtype {
        self.row().3
    }

    /// Reads exactly `len` numbers, to the end of the reader. All formats use this function. The first
    /// `held` bytes are known to exist, so their memory is reserved at once; beyond them, memory grows
    /// with the data.
    ///
    /// # Errors
    ///
    /// Fails if there are fewer or more numbers, if there is not enough memory, if an integer is beyond
    /// ±2⁵³, or if `number` rejects one.
    pub(super) fn read<T>(
        self,
        order: Order,
        mut reader: impl Read,
        len: usize,
        held: u64,
        number: impl Fn(f64) -> Result<T, String>,
    ) -> Result<Vec<T>, Problem> {
        /// Numbers per block.
        const BLOCK: usize = 1 << 16;
        let mut numbers = Vec::new();
        reserve(&mut numbers, self.held(len, held))?;
        let mut bytes = vec![0; len.min(BLOCK) * self.bytes()];
        while numbers.len() < len {
            let block = &mut bytes[..(len - numbers.len()).min(BLOCK) * self.bytes()];
            reader.read_exact(block)?;
            grow(&mut numbers, block.len() / self.bytes())?;
            self.append(order, block, &mut numbers, &number).map_err(|problem| Problem::At(numbers.len(), problem))?;
        }
        expect_end(reader)?;
        Ok(numbers)
    }

    /// Reads exactly `len` floating-point numbers as `f32`, to the end of the reader, and returns whether
    /// all are finite: testing a block that is in the cache costs almost nothing. Otherwise the same as
    /// [`Self::read`].
    ///
    /// # Errors
    ///
    /// The same as [`Self::read`]; also if a number is beyond the range of `f32`, or if the numbers are
    /// integers.
    pub(super) fn read_f32(
        self,
        order: Order,
        mut reader: impl Read,
        len: usize,
        held: u64,
    ) -> Result<(Vec<f32>, bool), Problem> {
        /// Bytes per block. A block is still in the cache when it is converted.
        const BLOCK: usize = 1 << 20;
        let per_block = BLOCK / self.bytes();
        let mut numbers = Vec::new();
        reserve(&mut numbers, self.held(len, held))?;
        let mut bytes = vec![0; len.min(per_block) * self.bytes()];
        let mut finite = true;
        while numbers.len() < len {
            let done = numbers.len();
            let more = (len - done).min(per_block);
            let block = &mut bytes[..more * self.bytes()];
            reader.read_exact(block)?;
            grow(&mut numbers, more)?;
            numbers.resize(done + more, 0.0);
            finite &= self.convert(order, block, &mut numbers[done..]).map_err(|(at, problem)| match at {
                Some(at) => Problem::At(done + at, problem),
                None => Problem::Content(problem),
            })?;
        }
        expect_end(reader)?;
        Ok((numbers, finite))
    }

    /// The number of elements in `held` bytes, at most `len`.
    fn held(self, len: usize, held: u64) -> u64 {
        (len as u64).min(held / self.bytes() as u64)
    }

    /// Converts a block on all threads, and returns whether all of it is finite.
    fn convert(self, order: Order, bytes: &[u8], numbers: &mut [f32]) -> Result<bool, (Option<usize>, String)> {
        /// Numbers per task.
        const PIECE: usize = 1 << 15;
        let pieces = numbers.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE * self.bytes())).enumerate();
        let finite: Vec<Result<bool, (Option<usize>, String)>> = pieces
            .map(|(piece, (to, from))| {
                let failed = |(at, problem): (Option<usize>, String)| (at.map(|at| piece * PIECE + at), problem);
                self.convert_block(order, from, to).map_err(failed)
            })
            .collect();
        // Reports the first error, for any number of threads.
        finite.into_iter().try_fold(true, |all, piece| Ok(all & piece?))
    }

    /// Converts a block of floating-point numbers, and returns whether all of it is finite.
    ///
    /// # Errors
    ///
    /// If a number is beyond the range of `f32`, with its place in the block; if the numbers are integers,
    /// without a place.
    #[allow(clippy::cast_possible_truncation)] // rounding is intended
    pub(super) fn convert_block(
        self,
        order: Order,
        bytes: &[u8],
        numbers: &mut [f32],
    ) -> Result<bool, (Option<usize>, String)> {
        match self {
            Self::F16 => halves(order, bytes, numbers),
            Self::BF16 => each_f32(order, bytes, numbers, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F32 => each_f32(order, bytes, numbers, f32::from_le_bytes),
            Self::F64 => each_f32(order, bytes, numbers, |b| f64::from_le_bytes(b) as f32),
            other => return Err((None, format!("expected floating-point numbers, found {other}"))),
        }
        // No early exit, so that the loop is vectorised.
        let finite = numbers.iter().fold(true, |all, x| all & x.is_finite());
        if !finite {
            // An infinity may come from a finite number beyond the range of `f32`. The slow path finds it.
            let mut before = Vec::new();
            self.append(order, bytes, &mut before, to_f32).map_err(|problem| (Some(before.len()), problem))?;
        }
        Ok(finite)
    }

    #[rustfmt::skip] // a table
    fn append<T>(
        self,
        order: Order,
        bytes: &[u8],
        numbers: &mut Vec<T>,
        number: impl Fn(f64) -> Result<T, String>,
    ) -> Result<(), String> {
        match self {
            Self::F16 => each(order, bytes, numbers, number, |b| Ok(f16::from_le_bytes(b).to_f64())),
            Self::BF16 => each(order, bytes, numbers, number, |b| Ok(bf16::from_le_bytes(b).to_f64())),
            Self::F32 => each(order, bytes, numbers, number, |b| Ok(f32::from_le_bytes(b).into())),
            Self::F64 => each(order, bytes, numbers, number, |b| Ok(f64::from_le_bytes(b))),
            Self::I8 => each(order, bytes, numbers, number, |b| Ok(i8::from_le_bytes(b).into())),
            Self::I16 => each(order, bytes, numbers, number, |b| Ok(i16::from_le_bytes(b).into())),
            Self::I32 => each(order, bytes, numbers, number, |b| Ok(i32::from_le_bytes(b).into())),
            Self::I64 => each(order, bytes, numbers, number, |b| exact(i64::from_le_bytes(b).into())),
            Self::U8 => each(order, bytes, numbers, number, |b| Ok(u8::from_le_bytes(b).into())),
            Self::U16 => each(order, bytes, numbers, number, |b| Ok(u16::from_le_bytes(b).into())),
            Self::U32 => each(order, bytes, numbers, number, |b| Ok(u32::from_le_bytes(b).into())),
            Self::U64 => each(order, bytes, numbers, number, |b| exact(u64::from_le_bytes(b).into())),
            Self::BOOL => each(order, bytes, numbers, number, |b| Ok(u8::from(b != [0]).into())),
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().0)
    }
}

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

fn each<const N: usize, T>(
    order: Order,
    bytes: &[u8],
    numbers: &mut Vec<T>,
    number: impl Fn(f64) -> Result<T, String>,
    from_little_endian: impl Fn([u8; N]) -> Result<f64, String>,
) -> Result<(), String> {
    for &b in bytes.as_chunks::<N>().0 {
        let mut b = b;
        if order == Order::Big {
            b.reverse();
        }
        numbers.push(number(from_little_endian(b)?)?);
    }
    Ok(())
}

/// Converts without a branch per number, for speed.
fn each_f32<const N: usize>(order: Order, bytes: &[u8], numbers: &mut [f32], from: impl Fn([u8; N]) -> f32) {
    let pairs = numbers.iter_mut().zip(bytes.as_chunks::<N>().0);
    match order {
        Order::Little => pairs.for_each(|(x, &b)| *x = from(b)),
        Order::Big => pairs.for_each(|(x, &b)| {
            let mut b = b;
            b.reverse();
            *x = from(b);
        }),
    }
}

/// Converts many halves at once, because processors have an instruction for it.
fn halves(order: Order, bytes: &[u8], numbers: &mut [f32]) {
    const ROW: usize = 256;
    let mut row = [f16::ZERO; ROW];
    for (numbers, bytes) in numbers.chunks_mut(ROW).zip(bytes.chunks(2 * ROW)) {
        let row = &mut row[..numbers.len()];
        for (x, &b) in row.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *x = if order == Order::Little { f16::from_le_bytes(b) } else { f16::from_be_bytes(b) };
        }
        row.convert_to_f32_slice(numbers);
    }
}

/// Fails if there are more bytes.
fn expect_end(mut reader: impl Read) -> Result<(), Problem> {
    match reader.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(Problem::Content("expected the end, found more bytes than declared".into())),
    }
}

fn reserve<T>(numbers: &mut Vec<T>, more: u64) -> Result<(), Problem> {
    super::regular::reserve(numbers, more).map_err(Problem::Content)
}

/// Makes room for a block. It at least doubles the capacity, so that not every block copies all numbers
/// before it.
fn grow<T>(numbers: &mut Vec<T>, more: usize) -> Result<(), Problem> {
    if numbers.capacity() - numbers.len() >= more {
        return Ok(());
    }
    reserve(numbers, more.max(numbers.len()) as u64)
}

/// Converts an integer exactly. Its neighbours are exact too, so different ids stay different.
fn exact(x: i128) -> Result<f64, String> {
    if x.unsigned_abs() > LARGEST_INTEGER.into() {
        return Err(format!("expected an integer of at most ±2⁵³, found {x}"));
    }
    Ok(x as f64)
}

/// Rounds to `f32`; a number that is too large for it is an error, not infinity.
#[allow(clippy::cast_possible_truncation)] // rounding is intended
pub(super) fn to_f32(x: f64) -> Result<f32, String> {
    let rounded = x as f32;
    if x.is_finite() && !rounded.is_finite() {
        return Err(format!("{x:e} is beyond the range of f32"));
    }
    Ok(rounded)
}

/// Names as `a, b or c`.
pub(super) fn alternatives<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        few => few.concat(),
    }
}

/// All type names, for messages.
pub(super) fn all_names() -> String {
    alternatives(ElementType::ALL.iter().map(|element| element.row().0))
}

/// The reason why numbers could not be read. The caller adds the file's name.
#[derive(Debug)]
pub(super) enum Problem {
    /// The operating system or the decompression failed.
    Io(io::Error),
    /// The data end before the last number.
    Truncated,
    /// This many bytes follow the last number.
    TooLong(u64),
    /// The number at this position, from 0, is wrong.
    At(usize, String),
    /// The content is wrong.
    Content(String),
}

impl Problem {
    /// The message; `what` is the file or a part of it.
    pub(super) fn message(&self, what: &str) -> String {
        match self {
            Self::Io(source) => format!("cannot read the {what}: {source}"),
            Self::Truncated => format!("the {what} is truncated: expected more data than it holds"),
            Self::TooLong(n) => format!("expected the end of the {what}, found {n} more byte(s)"),
            Self::At(position, problem) => format!("position {position}: {problem}"),
            Self::Content(problem) => problem.clone(),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_widths_and_integers() {
        let names = ElementType::ALL.map(|element| element.to_string());
        let expected = ["F16", "BF16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL"];
        assert_eq!(names, expected);
        assert_eq!(ElementType::ALL.map(ElementType::bytes), [2, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1]);
        let floats = ElementType::ALL.into_iter().filter(|element| !element.is_integer());
        assert!(floats.eq([ElementType::F16, ElementType::BF16, ElementType::F32, ElementType::F64]));
        assert_eq!(all_names(), "F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64 or BOOL");
        assert_eq!(alternatives(["a"].into_iter()), "a");
    }

    #[test]
    fn integers_are_exact_or_refused() {
        let read = |element: ElementType, bytes: &[u8]| {
            element
                .read(Order::Little, bytes, bytes.len() / 8, bytes.len() as u64, Ok)
                .map_err(|problem| problem.message("file"))
        };
        let most = 1i64 << 53;
        let signed = |x: i64| read(ElementType::I64, &[0, x].map(i64::to_le_bytes).concat());
        assert_eq!(signed(-most).unwrap(), [0.0, -9_007_199_254_740_992.0]);
        let problem = "position 1: expected an integer of at most ±2⁵³, found";
        assert_eq!(signed(-most - 1).unwrap_err(), format!("{problem} -9007199254740993"));
        assert_eq!(signed(i64::MIN).unwrap_err(), format!("{problem} -9223372036854775808"));
        let unsigned = |x: u64| read(ElementType::U64, &[0, x].map(u64::to_le_bytes).concat());
        assert_eq!(unsigned(1 << 53).unwrap(), [0.0, 9_007_199_254_740_992.0]);
        assert_eq!(unsigned(u64::MAX).unwrap_err(), format!("{problem} 18446744073709551615"));
    }

    #[test]
    fn the_blocks_of_a_long_array_are_joined() {
        let numbers: Vec<i32> = (0..200_001).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_be_bytes()).collect();
        let read = ElementType::I32.read(Order::Big, bytes.as_slice(), numbers.len(), 0, Ok).unwrap();
        assert!(read.iter().zip(&numbers).all(|(&x, &n)| x == f64::from(n)) && read.len() == numbers.len());
        let short = ElementType::I32.read(Order::Big, &bytes[..bytes.len() - 1], numbers.len(), 0, Ok);
        assert_eq!(short.unwrap_err().message("entry"), "the entry is truncated: expected more data than it holds");
        let long = ElementType::I32.read(Order::Big, bytes.as_slice(), numbers.len() - 2, 0, Ok);
        assert_eq!(long.unwrap_err().message("entry"), "expected the end, found more bytes than declared");
    }

    #[test]
    fn floating_point_numbers_become_f32_whatever_is_known_of_the_length() {
        let numbers: Vec<f64> = (0..300_000).map(|n| f64::from(n) / 7.0).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        #[allow(clippy::cast_possible_truncation)] // the reader must round in the same way
        let expected: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
        let read = |element: ElementType, bytes: &[u8], len, held| {
            element.read_f32(Order::Little, bytes, len, held).map_err(|problem| problem.message("file"))
        };
        // For compressed data, `held` says nothing.
        for held in [0, 1_000_000, bytes.len() as u64, u64::MAX] {
            assert_eq!(
                read(ElementType::F64, &bytes, numbers.len(), held).unwrap(),
                (expected.clone(), true),
                "{held}"
            );
        }
        // A header may claim any size.
        let claimed = read(ElementType::F64, &bytes, usize::MAX / 16, bytes.len() as u64);
        assert_eq!(claimed.unwrap_err(), "the file is truncated: expected more data than it holds");
        let mut spoiled = bytes;
        spoiled[8 * 299_999..].copy_from_slice(&f64::NAN.to_le_bytes());
        assert!(!read(ElementType::F64, &spoiled, numbers.len(), 0).unwrap().1);
        for (at, x) in [(299_998, -1e39f64), (200_000, 1e40)] {
            spoiled[8 * at..][..8].copy_from_slice(&x.to_le_bytes());
            let error = read(ElementType::F64, &spoiled, numbers.len(), 0).unwrap_err();
            assert_eq!(error, format!("position {at}: {x:e} is beyond the range of f32"), "the first is reported");
        }
        let integers = read(ElementType::I8, &[1], 1, 1).unwrap_err();
        assert_eq!(integers, "expected floating-point numbers, found I8");
    }
}
