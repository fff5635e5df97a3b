//! The types that numbers are stored in, and the way from their bytes to numbers.

use std::fmt;
use std::io::{self, Read};

use half::{bf16, f16};
use safetensors::Dtype;

/// The largest integer below which `f64` holds every one: 2⁵³.
const LARGEST_INTEGER: u64 = 1 << 53;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
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
    /// One byte: 0 is false and read as 0, all else is true and read as 1.
    BOOL,
}

impl ElementType {
    /// In the order in which messages list them.
    pub(super) const ALL: [Self; 13] = [
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

    /// The name, the bytes of one number, the letters of NumPy where it has the type, and safetensors' type.
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

    /// The bytes that one number takes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.row().1
    }

    /// Whether the numbers are integers by their type. BOOL counts as one.
    #[must_use]
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// NumPy's kind and width, as `f4`; NumPy has no BF16.
    pub(super) fn letters(self) -> Option<&'static str> {
        self.row().2
    }

    pub(super) fn safetensors(self) -> Dtype {
        self.row().3
    }

    /// None for a type that is not read here.
    pub(super) fn of_safetensors(found: Dtype) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.safetensors() == found)
    }

    /// Reads exactly `len` numbers, to the end of the reader. All formats are read here.
    ///
    /// **Errors** if there are fewer or more, if an integer is beyond ±2⁵³, or if `number` refuses one.
    pub(super) fn read<T>(
        self,
        order: Order,
        mut reader: impl Read,
        len: usize,
        number: impl Fn(f64) -> Result<T, String>,
    ) -> Result<Vec<T>, Problem> {
        /// Numbers converted at once. Memory grows with what is really there, not with what the header claims.
        const BLOCK: usize = 1 << 16;
        let mut numbers = Vec::new();
        let mut bytes = vec![0; len.min(BLOCK) * self.bytes()];
        while numbers.len() < len {
            let block = &mut bytes[..(len - numbers.len()).min(BLOCK) * self.bytes()];
            reader.read_exact(block)?;
            self.append(order, block, &mut numbers, &number).map_err(Problem::Content)?;
        }
        match io::copy(&mut reader, &mut io::sink())? {
            0 => Ok(numbers),
            extra => Err(Problem::TooLong(extra)),
        }
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
        let x = from_little_endian(b).map_err(|problem| format!("position {}: {problem}", numbers.len()))?;
        numbers.push(number(x)?);
    }
    Ok(())
}

/// An integer that `f64` holds, and its neighbours too: ids that differ stay different.
fn exact(x: i128) -> Result<f64, String> {
    if x.unsigned_abs() > LARGEST_INTEGER.into() {
        return Err(format!("expected an integer of at most ±2⁵³, found {x}"));
    }
    Ok(x as f64)
}

/// Rounds to `f32`; a number that is too large for it is an error, not infinity.
#[allow(clippy::cast_possible_truncation)] // rounding is what is wanted
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

/// Every name, for messages.
pub(super) fn all_names() -> String {
    alternatives(ElementType::ALL.iter().map(|element| element.row().0))
}

/// Why numbers could not be read. Whoever asked for them knows the place.
#[derive(Debug)]
pub(super) enum Problem {
    /// The operating system, or the decompression, refused.
    Io(io::Error),
    /// It ends before the last number.
    Truncated,
    /// So many bytes stand behind the last number.
    TooLong(u64),
    /// The content is not what it should be.
    Content(String),
}

impl Problem {
    /// The message; `what` is the file or a part of it.
    pub(super) fn tell(&self, what: &str) -> String {
        match self {
            Self::Io(source) => format!("cannot read the {what}: {source}"),
            Self::Truncated => format!("the {what} is truncated: expected more data than it holds"),
            Self::TooLong(n) => format!("expected the end of the {what}, found {n} more byte(s)"),
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
            element.read(Order::Little, bytes, bytes.len() / 8, Ok).map_err(|problem| problem.tell("file"))
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
        let read = ElementType::I32.read(Order::Big, bytes.as_slice(), numbers.len(), Ok).unwrap();
        assert!(read.iter().zip(&numbers).all(|(&x, &n)| x == f64::from(n)) && read.len() == numbers.len());
        let short = ElementType::I32.read(Order::Big, &bytes[..bytes.len() - 1], numbers.len(), Ok);
        assert_eq!(short.unwrap_err().tell("entry"), "the entry is truncated: expected more data than it holds");
        let long = ElementType::I32.read(Order::Big, bytes.as_slice(), numbers.len() - 2, Ok);
        assert_eq!(long.unwrap_err().tell("entry"), "expected the end of the entry, found 8 more byte(s)");
    }
}
