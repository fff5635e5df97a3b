//! `.npy`: any array as an entry of an npz, and matrices of `f16`, `f32` or `f64` as separate files.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD, IxDyn};

use super::elements::{ElementType, Order, Problem, alternatives};
use super::npy_header::{Header, MAGIC};
use super::positioned::Positioned;
use super::regular::{open_regular, reserve};
use crate::error::{Error, Result};

/// A matrix of floating-point numbers in a `.npy` file, in either byte order, which is read as `f32` (exact
/// for `f16` and `f32`). Only its header has been read.
#[derive(Debug)]
pub(crate) struct NpyMatrix {
    path: PathBuf,
    file: Positioned,
    head: Head,
    /// The length of the file in bytes.
    length: u64,
    rows: usize,
    columns: usize,
}

impl NpyMatrix {
    /// Reads the header. Axes of length 1 after the first are left out; at most one other axis may remain.
    ///
    /// # Errors
    ///
    /// If the file is missing or not a regular file, if it is truncated or longer than its header says, if
    /// it is not a matrix, or if it does not hold floating-point numbers.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        const TYPES: [ElementType; 3] = [ElementType::F16, ElementType::F32, ElementType::F64];
        let (mut file, length) = open_regular(path)?;
        let head = Head::read::<f32>(&mut file, &TYPES).map_err(|problem| failed(path, problem))?;
        head.check_length(length).map_err(|problem| failed(path, problem))?;
        let [rows, columns] = as_matrix(&head.shape).ok_or_else(|| {
            Error::file(path, format!("expected a matrix [rows, columns], found shape {:?}", head.shape))
        })?;
        Ok(Self { path: path.into(), file: Positioned::new(file), head, length, rows, columns })
    }

    /// The shape that the file gives.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.head.shape
    }

    /// Rows and columns.
    pub(crate) fn dim(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Whether the file stores the numbers row by row, so that single rows can be read.
    pub(crate) fn is_by_rows(&self) -> bool {
        !self.head.by_columns
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All numbers.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or has become shorter, or if there is not enough memory; with row and
    /// column, if a number is not finite or too large for `f32`.
    pub(crate) fn read_all(&self) -> Result<Array2<f32>> {
        let Self { path, head, .. } = self;
        let place = |at: usize| {
            let index = head.index(at);
            let column = |index: &[usize]| index[1..].iter().copied().max().unwrap_or(0);
            index.map_or_else(String::new, |at| format!("row {}, column {}: ", at[0], column(&at)))
        };
        let numbers = FromHere { file: &self.file, position: head.bytes, left: self.length - head.bytes };
        let held = self.length - head.bytes;
        let (numbers, finite) =
            head.element.read_f32(head.order, numbers, head.len(), held).map_err(|problem| match problem {
                Problem::At(at, problem) => Error::file(path, format!("{}{problem}", place(at))),
                other => failed(path, other),
            })?;
        let array = head.arrange(numbers).map_err(|problem| failed(path, problem))?;
        let matrix =
            array.into_shape_with_order((self.rows, self.columns)).map_err(|e| Error::file(path, e.to_string()))?;
        if !finite {
            check_finite(path, "", &matrix)?;
        }
        Ok(matrix)
    }

    /// Reads consecutive rows from row `first` on, as many as `numbers` holds. Allocates nothing.
    ///
    /// # Errors
    ///
    /// With the row, if the file cannot be read or has become shorter; with row and column, if a number
    /// is not finite or too large for `f32`.
    ///
    /// # Panics
    ///
    /// If the file does not hold the numbers by rows.
    pub(crate) fn read_rows(&self, first: usize, numbers: &mut [f32]) -> Result<()> {
        /// Bytes read at once. They are on the stack, and are converted while they are in the cache.
        const BLOCK: usize = 1 << 14;
        assert!(self.is_by_rows(), "{}: the numbers are not stored row by row", self.path.display());
        let Head { element, order, bytes: start, .. } = self.head;
        let mut bytes = [0; BLOCK];
        let mut at = first * self.columns;
        for numbers in numbers.chunks_mut(BLOCK / element.bytes()) {
            let block = &mut bytes[..numbers.len() * element.bytes()];
            let place = |number: usize| (number / self.columns, number % self.columns);
            let position = |number: usize| start + (number * element.bytes()) as u64;
            if let Err(error) = self.file.read(block, position(at)) {
                // A block may hold several rows: find the first number that cannot be read.
                let numbers = at..at + numbers.len();
                let one = &mut block[..element.bytes()];
                let first = numbers.into_iter().find(|&number| self.file.read(one, position(number)).is_err());
                return Err(self.row_failed(place(first.unwrap_or(at)).0, &error));
            }
            let finite = element.convert_block(order, block, numbers).map_err(|(within, problem)| {
                let (row, column) = place(at + within.unwrap_or(0));
                Error::file(&self.path, format!("row {row}, column {column}: {problem}"))
            })?;
            if !finite && let Some(within) = numbers.iter().position(|x| !x.is_finite()) {
                let ((row, column), x) = (place(at + within), numbers[within]);
                return Err(not_finite(&self.path, "", x, (row, column)));
            }
            at += numbers.len();
        }
        Ok(())
    }

    fn row_failed(&self, row: usize, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let (rows, path) = (self.rows, &self.path);
            return Error::file(
                path,
                format!("row {row}: the file is truncated: it had {rows} rows when it was opened"),
            );
        }
        Error::io(&self.path, "read", io::Error::new(error.kind(), format!("row {row}: {error}")))
    }
}

/// The integers of a `.npy` file with one axis, of any integer type and in either byte order.
///
/// # Errors
///
/// If the file is missing or not a regular file, if it is truncated or longer than its header says, if it does not
/// hold a list of integers, or if one is beyond ±2⁵³.
pub(crate) fn read_integers(path: &Path) -> Result<Vec<i64>> {
    use ElementType::{I8, I16, I32, I64, U8, U16, U32, U64};
    let (mut file, length) = open_regular(path)?;
    let head = Head::read::<i64>(&mut file, &[I8, I16, I32, I64, U8, U16, U32, U64]).map_err(|e| failed(path, e))?;
    if head.shape.len() != 1 {
        return Err(Error::file(path, format!("expected a list of integers [n], found shape {:?}", head.shape)));
    }
    let held = head.check_length(length).map_err(|problem| failed(path, problem))?;
    #[allow(clippy::cast_possible_truncation)] // whole numbers up to 2⁵³
    let whole = |x: f64| Ok(x as i64);
    head.element.read(head.order, file, head.len(), held, whole).map_err(|problem| failed(path, problem))
}

/// The bytes from a position on, as a stream.
struct FromHere<'a> {
    file: &'a Positioned,
    position: u64,
    left: u64,
}

impl Read for FromHere<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.file.read(&mut bytes[..count], self.position)?;
        self.position += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn failed(path: &Path, problem: Problem) -> Error {
    match problem {
        Problem::Io(source) => Error::io(path, "read", source),
        other => Error::file(path, other.message("file")),
    }
}

/// Rows and columns, if at most one axis after the first is longer than 1.
fn as_matrix(shape: &[usize]) -> Option<[usize; 2]> {
    let (&rows, rest) = shape.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let mut long = rest.iter().copied().filter(|&axis| axis != 1);
    let columns = long.next().unwrap_or(1);
    long.next().is_none().then_some([rows, columns])
}

/// # Errors
///
/// If a number is not finite, with the place of the first.
pub(super) fn check_finite(path: &Path, tensor: &str, matrix: &Array2<f32>) -> Result<()> {
    match matrix.indexed_iter().find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some((place, &x)) => Err(not_finite(path, tensor, x, place)),
    }
}

fn not_finite(path: &Path, tensor: &str, x: f32, (row, column): (usize, usize)) -> Error {
    Error::file(path, format!("{tensor}{x} in row {row}, column {column}: every value must be finite"))
}

/// The header of an array.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) element: ElementType,
    pub(super) order: Order,
    pub(super) shape: Vec<usize>,
    /// Whether the first index varies fastest.
    by_columns: bool,
    /// The number of bytes before the first number.
    bytes: u64,
}

impl Head {
    /// A header for little-endian numbers whose last index runs fastest.
    pub(super) fn plain(element: ElementType, shape: Vec<usize>) -> Self {
        Self { element, order: Order::Little, shape, by_columns: false, bytes: 0 }
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// Fails if there is no valid header, if the type is not one of `types`, or if no array of `T` can have
    /// the shape.
    pub(super) fn read<T>(file: &mut impl Read, types: &[ElementType]) -> std::result::Result<Self, Problem> {
        /// `NumPy` allows at most 64.
        const AXES: usize = 64;
        let (header, bytes) = read_header(file)?;
        if header.shape.len() > AXES {
            return Err(refuse(&format!("expected at most {AXES} axes, found {}", header.shape.len())));
        }
        // An empty shape can be too large too: (0, 2⁴⁰, 2⁴⁰).
        let (element, order) = element_type(&header.descr, types)?;
        let widest = size_of::<T>().max(element.bytes());
        let size = header.shape.iter().try_fold(widest, |n, &axis| n.checked_mul(axis.max(1)));
        if size.is_none_or(|n| isize::try_from(n).is_err()) {
            return Err(refuse("overflow computing length from shape"));
        }
        Ok(Self { element, order, shape: header.shape, by_columns: header.fortran_order, bytes })
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The size of the numbers in bytes.
    ///
    /// # Errors
    ///
    /// If the array, of `length` bytes in total, is longer or shorter than the header says.
    pub(super) fn check_length(&self, length: u64) -> std::result::Result<u64, Problem> {
        let numbers = (self.len() * self.element.bytes()) as u64;
        match length.checked_sub(self.bytes).and_then(|rest| rest.checked_sub(numbers)) {
            None => Err(Problem::Truncated),
            Some(0) => Ok(numbers),
            Some(extra) => Err(Problem::TooLong(extra)),
        }
    }

    /// The index of the number at a position of the file; `None` in an empty array.
    pub(super) fn index(&self, mut at: usize) -> Option<Vec<usize>> {
        let mut index = vec![0; self.shape.len()];
        let axes: Vec<usize> =
            if self.by_columns { (0..self.shape.len()).collect() } else { (0..self.shape.len()).rev().collect() };
        for axis in axes {
            index[axis] = at.checked_rem(self.shape[axis])?;
            at /= self.shape[axis];
        }
        Some(index)
    }

    /// The numbers as an array whose last index runs fastest.
    pub(super) fn arrange<T: Copy>(&self, numbers: Vec<T>) -> std::result::Result<ArrayD<T>, Problem> {
        let failed = |e: ndarray::ShapeError| refuse(&e.to_string());
        if !self.by_columns {
            return ArrayD::from_shape_vec(IxDyn(&self.shape), numbers).map_err(failed);
        }
        let reversed: Vec<usize> = self.shape.iter().rev().copied().collect();
        let array = ArrayD::from_shape_vec(IxDyn(&reversed), numbers).map_err(failed)?.reversed_axes();
        let mut transposed = Vec::new();
        reserve(&mut transposed, array.len() as u64).map_err(Problem::Content)?;
        transposed.extend(array.iter().copied());
        ArrayD::from_shape_vec(IxDyn(&self.shape), transposed).map_err(failed)
    }
}

/// The type of a descriptor such as `<f4`.
///
/// # Errors
///
/// If it is not one of the allowed types, with their names.
fn element_type(found: &str, types: &[ElementType]) -> std::result::Result<(ElementType, Order), Problem> {
    let named = |letters: &str| types.iter().copied().find(|element| element.letters() == Some(letters));
    let element = match found.split_at_checked(1) {
        Some(("<", letters)) => named(letters).map(|element| (element, Order::Little)),
        Some((">", letters)) => named(letters).map(|element| (element, Order::Big)),
        // One byte has no order.
        Some(("|", letters)) => named(letters).filter(|e| e.bytes() == 1).map(|element| (element, Order::Little)),
        _ => None,
    };
    element.ok_or_else(|| {
        let expected = alternatives(types.iter().filter_map(|element| element.letters()));
        Problem::Content(format!("expected numbers of type {expected}, found {found}"))
    })
}

/// The header of a `.npy` file with little-endian numbers, the last index running fastest.
///
/// # Errors
///
/// If NumPy has no such type or the shape has too many axes.
pub(super) fn header(element: ElementType, shape: &[usize]) -> std::result::Result<Vec<u8>, String> {
    let letters = element.letters().ok_or_else(|| format!("NumPy has no type {element}"))?;
    let order = if element.bytes() == 1 { '|' } else { '<' };
    Header { descr: format!("{order}{letters}"), fortran_order: false, shape: shape.to_vec() }.to_bytes()
}

/// The header of a `.npy` file with a matrix of `f32`, row by row.
///
/// # Errors
///
/// If there are too many numbers.
pub(crate) fn matrix_header(shape: [usize; 2]) -> std::result::Result<Vec<u8>, String> {
    header(ElementType::F32, &shape)
}

fn refuse(problem: &str) -> Problem {
    Problem::Content(format!("not a .npy file that can be read: {problem}"))
}

/// Reads the header, and returns how many bytes come before the numbers.
fn read_header(file: &mut impl Read) -> std::result::Result<(Header, u64), Problem> {
    /// Far longer than an array's header, which has about a hundred bytes.
    const LONGEST: usize = 4096;
    let mut bytes = Vec::new();
    file.take(12).read_to_end(&mut bytes)?;
    let Some(start) = bytes.first_chunk().filter(|start| start.starts_with(MAGIC)) else {
        return Err(refuse("it does not begin like one"));
    };
    let (begin, length) = Header::place(start).map_err(|e| refuse(&e))?;
    if length > LONGEST {
        return Err(refuse(&format!("expected a header of at most {LONGEST} bytes, found {length}")));
    }
    let end = begin + length;
    file.take(end.saturating_sub(bytes.len()) as u64).read_to_end(&mut bytes)?;
    let dict = bytes.get(begin..end).ok_or_else(|| refuse("it ends within the header"))?;
    Ok((Header::parse(dict).map_err(|e| refuse(&e))?, end as u64))
}

/// A `.npy` file of version 1.0.
#[cfg(test)]
pub(crate) fn npy(descriptor: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descriptor}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    file.extend(header.bytes());
    file.extend(data);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;
    use ndarray::array;

    fn read_bytes(bytes: &[u8]) -> Result<Array2<f32>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        NpyMatrix::open(file.path())?.read_all()
    }

    #[test]
    fn every_width_and_byte_order_gives_the_same_matrix() {
        let expected = array![[1.0f32, -2.5, 0.25], [3.0, 0.0, -8.0]];
        let bytes = |to: fn(f32) -> Vec<u8>| expected.iter().flat_map(|&x| to(x)).collect::<Vec<u8>>();
        let cases: [(&str, Vec<u8>); 6] = [
            ("<f2", bytes(|x| f16::from_f32(x).to_le_bytes().to_vec())),
            (">f2", bytes(|x| f16::from_f32(x).to_be_bytes().to_vec())),
            ("<f4", bytes(|x| x.to_le_bytes().to_vec())),
            (">f4", bytes(|x| x.to_be_bytes().to_vec())),
            ("<f8", bytes(|x| f64::from(x).to_le_bytes().to_vec())),
            (">f8", bytes(|x| f64::from(x).to_be_bytes().to_vec())),
        ];
        for (descriptor, data) in cases {
            let matrix = read_bytes(&npy(descriptor, false, "(2, 3)", &data)).unwrap();
            assert_eq!(matrix, expected, "{descriptor}");
        }
        let columns: Vec<u8> = expected.t().iter().flat_map(|x| x.to_le_bytes()).collect();
        let matrix = read_bytes(&npy("<f4", true, "(2, 3)", &columns)).unwrap();
        assert!(matrix == expected && matrix.is_standard_layout(), "column order is turned");
    }

    /// No row ends near the end of a block; a block is 1 MiB of the file.
    #[test]
    fn the_blocks_of_a_long_file_are_joined() {
        type ToBytes = fn(f32) -> Vec<u8>;
        let (rows, columns) = (1021, 771);
        // Multiples of ½ that are exact in every type, of either sign.
        let expected = Array2::from_shape_fn((rows, columns), |(r, c)| ((r * columns + c) % 2003) as f32 / 2.0 - 500.0);
        let shape = format!("({rows}, {columns})");
        let to: [(&str, ToBytes); 6] = [
            ("<f2", |x| f16::from_f32(x).to_le_bytes().to_vec()),
            (">f2", |x| f16::from_f32(x).to_be_bytes().to_vec()),
            ("<f4", |x| x.to_le_bytes().to_vec()),
            (">f4", |x| x.to_be_bytes().to_vec()),
            ("<f8", |x| f64::from(x).to_le_bytes().to_vec()),
            (">f8", |x| f64::from(x).to_be_bytes().to_vec()),
        ];
        for (descriptor, to) in to {
            let data: Vec<u8> = expected.iter().flat_map(|&x| to(x)).collect();
            let matrix = read_bytes(&npy(descriptor, false, &shape, &data)).unwrap();
            assert!(matrix == expected, "{descriptor}");
            let message = |data: &[u8]| read_bytes(&npy(descriptor, false, &shape, data)).unwrap_err().to_string();
            assert!(message(&data[..data.len() - 1]).contains("truncated"), "{descriptor}");
            assert!(message(&[&data, [0; 3].as_slice()].concat()).contains("found 3 more byte"), "{descriptor}");
            let mut spoiled = data;
            let infinity = to(f32::NEG_INFINITY);
            // Not in the last block of any type.
            let at = infinity.len() * (301 * columns - 1);
            spoiled[at..][..infinity.len()].copy_from_slice(&infinity);
            assert!(message(&spoiled).contains("-inf in row 300, column 770"), "{descriptor}");
        }
        let mut columns_first = Vec::new();
        columns_first.extend(expected.t().iter().flat_map(|x| x.to_le_bytes()));
        assert!(read_bytes(&npy("<f4", true, &shape, &columns_first)).unwrap() == expected);
        columns_first[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        let error = read_bytes(&npy("<f4", true, &shape, &columns_first)).unwrap_err().to_string();
        assert!(error.contains("NaN in row 1, column 0"), "{error}");
    }

    #[test]
    fn integers_of_every_type_are_read() {
        let read = |bytes: Vec<u8>| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let found = read_integers(file.path()).map_err(|e| e.to_string());
            found.map_err(|e| e.split_once(": ").unwrap().1.to_owned())
        };
        let large = [3, -(1i64 << 53)];
        assert_eq!(read(npy("<i8", false, "(2,)", &large.map(i64::to_le_bytes).concat())).unwrap(), large);
        assert_eq!(read(npy(">i8", false, "(2,)", &large.map(i64::to_be_bytes).concat())).unwrap(), large);
        assert_eq!(read(npy("<i4", true, "(2,)", &[7i32, -1].map(i32::to_le_bytes).concat())).unwrap(), [7, -1]);
        assert_eq!(read(npy("|u1", false, "(3,)", &[0, 128, 255])).unwrap(), [0, 128, 255]);
        assert!(read(npy("<i8", false, "(0,)", &[])).unwrap().is_empty());
        let one = (1i64 << 53) + 1;
        let cases = [
            (
                npy("<i8", false, "(1,)", &one.to_le_bytes()),
                "position 0: expected an integer of at most ±2⁵³, found 9007199254740993",
            ),
            (npy("<i8", false, "(2, 1)", &[0; 16]), "expected a list of integers [n], found shape [2, 1]"),
            (npy("<i8", false, "()", &[0; 8]), "expected a list of integers [n], found shape []"),
            (
                npy("<f8", false, "(1,)", &[0; 8]),
                "expected numbers of type i1, i2, i4, i8, u1, u2, u4 or u8, found <f8",
            ),
            (npy("<i8", false, "(2,)", &[0; 15]), "the file is truncated: expected more data than it holds"),
            (
                npy("<i8", false, "(99999999999999,)", &[0; 8]),
                "the file is truncated: expected more data than it holds",
            ),
            (npy("<i8", false, "(1,)", &[0; 9]), "expected the end of the file, found 1 more byte(s)"),
        ];
        for (bytes, problem) in cases {
            assert_eq!(read(bytes).unwrap_err(), problem);
        }
    }

    #[test]
    fn axes_of_length_one_are_left_out() {
        let numbers = [1.0f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
        for shape in ["(2, 2)", "(2, 2, 1, 1)", "(2, 1, 2)"] {
            let matrix = read_bytes(&npy("<f4", false, shape, &numbers)).unwrap();
            assert_eq!(matrix, array![[1.0, 2.0], [3.0, 4.0]], "{shape}");
        }
        assert_eq!(read_bytes(&npy("<f4", false, "(4, 1, 1)", &numbers)).unwrap().dim(), (4, 1));
        let turned = read_bytes(&npy("<f4", true, "(2, 2, 1)", &numbers)).unwrap();
        assert_eq!(turned, array![[1.0, 3.0], [2.0, 4.0]]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let two = [1.0f32, f32::NAN].map(f32::to_le_bytes).concat();
        let message = |bytes: Vec<u8>| read_bytes(&bytes).unwrap_err().to_string();
        assert!(message(npy("<f4", false, "(1, 2)", &two)).contains("NaN in row 0, column 1"));
        assert!(message(npy("<f4", false, "(1, 3)", &two)).contains("truncated"));
        assert!(message(npy("<f4", false, "(1, 1)", &two)).contains("4 more byte"));
        assert!(message(npy("<f4", false, "(2,)", &two)).contains("found shape [2]"));
        assert!(message(npy("<f4", false, "(1, 2, 2)", &two.repeat(2))).contains("found shape [1, 2, 2]"));
        assert!(message(npy("<i4", false, "(1, 2)", &two)).contains("found <i4"));
        assert!(message(b"hello".to_vec()).contains("not a .npy file that can be read"));
        assert!(
            message(npy("<f8", false, "(1, 1)", &1e300f64.to_le_bytes()))
                .contains("row 0, column 0: 1e300 is beyond the range of f32")
        );
        assert!(message(npy("<f4", false, "(99999999, 99999999)", &two)).contains("truncated"));
        assert!(message(npy("<f4", false, "(0, 1099511627776, 1099511627776)", &[])).contains("overflow"));
        let nested = |n: usize| format!("{}1{}\n", "[".repeat(n), "]".repeat(n));
        for n in [25, 1500] {
            let mut file = b"\x93NUMPY\x01\x00".to_vec();
            file.extend(u16::try_from(nested(n).len()).unwrap().to_le_bytes());
            file.extend(nested(n).bytes());
            assert!(message(file).contains("in the header: expected {, found"));
        }
        assert!(message(b"\x93NUMPY\x02\x00\xff\xff\xff\xff\xff".to_vec()).contains("at most 4096 bytes"));
        let missing = NpyMatrix::open(Path::new("no_such.npy")).unwrap_err().to_string();
        assert!(missing.starts_with("no_such.npy: cannot read"), "{missing}");
    }
}
