//! `.npy` matrices of `f16`, `f32` or `f64`, in either byte order, read as `f32`.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use half::f16;
use ndarray::Array2;
use ndarray_npy::{ReadDataError, ReadNpyError, ReadNpyExt, ReadableElement};
use py_literal::Value;

use crate::error::{Error, Result};

/// Reads a matrix of floating-point numbers as `f32` (exact for `f16` and `f32`).
///
/// **Errors** if the file is missing, truncated or longer than its header says, if it is not a
/// matrix, if it holds no floating-point numbers, or if a number is not finite (row and column are
/// named, both from 0).
pub fn read_matrix(path: &Path) -> Result<Array2<f32>> {
    let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
    let mut file = BufReader::new(file);
    let header = read_header(path, &mut file)?;
    let matrix = Array2::<AnyFloat>::read_npy(Cursor::new(header).chain(file)).map_err(|e| explain(path, e))?;
    let matrix = matrix.mapv(|x| x.0);
    let matrix = if matrix.is_standard_layout() { matrix } else { matrix.as_standard_layout().into_owned() };
    check_finite(path, "", &matrix)?;
    Ok(matrix)
}

/// **Errors** with the place of the first number that is not finite.
pub(super) fn check_finite(path: &Path, tensor: &str, matrix: &Array2<f32>) -> Result<()> {
    match matrix.indexed_iter().find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some(((row, column), x)) => {
            let problem = format!("{tensor}{x} in row {row}, column {column}: every value must be finite");
            Err(Error::file(path, problem))
        }
    }
}

/// The magic string, the version, the length and the header, if it can be one: the parser behind it
/// takes its time over nested brackets, and its stack.
fn read_header(path: &Path, file: &mut impl Read) -> Result<Vec<u8>> {
    /// Far longer than the header of a matrix, which has about a hundred bytes.
    const LONGEST: usize = 4096;
    /// `{'descr': …, 'shape': (…)}` has two.
    const BRACKETS: usize = 2;
    let refuse = |problem: &str| Error::file(path, format!("not a .npy file that can be read: {problem}"));
    let mut header = Vec::new();
    file.take(12).read_to_end(&mut header).map_err(|e| Error::io(path, "read", e))?;
    if header.len() < 12 || !header.starts_with(b"\x93NUMPY") {
        return Err(refuse("it does not begin as one"));
    }
    let (start, length) = match header[6] {
        1 => (10, usize::from(u16::from_le_bytes([header[8], header[9]]))),
        _ => (12, u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize),
    };
    if length > LONGEST {
        return Err(refuse(&format!("expected a header of at most {LONGEST} bytes, found {length}")));
    }
    let rest = (start + length).saturating_sub(header.len());
    file.take(rest as u64).read_to_end(&mut header).map_err(|e| Error::io(path, "read", e))?;
    let brackets = header[start.min(header.len())..].iter().filter(|byte| b"([{".contains(byte)).count();
    if brackets > BRACKETS {
        return Err(refuse("its header does not describe a plain array"));
    }
    Ok(header)
}

fn explain(path: &Path, error: ReadNpyError) -> Error {
    let problem = match error {
        ReadNpyError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "not a .npy file that can be read: it ends within the header".into()
        }
        ReadNpyError::Io(source) => return Error::io(path, "read", source),
        ReadNpyError::WrongDescriptor(Value::String(found)) => {
            format!("expected numbers of type f2, f4 or f8, found {found}")
        }
        ReadNpyError::WrongNdim(_, found) => format!("expected a matrix [rows, columns], found {found} dimension(s)"),
        ReadNpyError::MissingData => "the file is truncated: expected more data than it holds".into(),
        ReadNpyError::ExtraBytes(n) => format!("expected the end of the file, found {n} more byte(s)"),
        ReadNpyError::ParseData(e) => e.to_string(),
        other => format!("not a .npy file that can be read: {other}"),
    };
    Error::file(path, problem)
}

/// A floating-point number of any width on disk.
#[derive(Clone, Copy, Default)]
pub(super) struct AnyFloat(pub(super) f32);

impl ReadableElement for AnyFloat {
    fn read_to_end_exact_vec<R: Read>(
        reader: R,
        type_desc: &Value,
        len: usize,
    ) -> std::result::Result<Vec<Self>, ReadDataError> {
        let Value::String(descriptor) = type_desc else {
            return Err(ReadDataError::WrongDescriptor(type_desc.clone()));
        };
        match descriptor.as_str() {
            "<f2" => read(reader, len, |b| f16::from_le_bytes(b).to_f32()),
            ">f2" => read(reader, len, |b| f16::from_be_bytes(b).to_f32()),
            "<f4" => read(reader, len, f32::from_le_bytes),
            ">f4" => read(reader, len, f32::from_be_bytes),
            "<f8" => read_f64(reader, len, f64::from_le_bytes),
            ">f8" => read_f64(reader, len, f64::from_be_bytes),
            _ => Err(ReadDataError::WrongDescriptor(type_desc.clone())),
        }
    }
}

/// As [`read`], rounding to `f32`; a number that is too large for it is an error, not infinity.
#[allow(clippy::cast_possible_truncation)] // rounding is what is wanted
fn read_f64(
    reader: impl Read,
    len: usize,
    number: impl Fn([u8; 8]) -> f64,
) -> std::result::Result<Vec<AnyFloat>, ReadDataError> {
    let too_large = std::cell::Cell::new(None);
    let numbers = read(reader, len, |bytes| {
        let x = number(bytes);
        if x.is_finite() && !(x as f32).is_finite() {
            too_large.set(Some(x));
        }
        x as f32
    })?;
    match too_large.get() {
        None => Ok(numbers),
        Some(x) => Err(ReadDataError::ParseData(format!("{x:e} is beyond the range of f32").into())),
    }
}

/// Reads exactly `len` numbers of `N` bytes.
fn read<const N: usize>(
    mut reader: impl Read,
    len: usize,
    number: impl Fn([u8; N]) -> f32,
) -> std::result::Result<Vec<AnyFloat>, ReadDataError> {
    /// Numbers converted at once. Memory grows with what is really there, not with what the header claims.
    const BLOCK: usize = 1 << 16;
    let mut numbers = Vec::new();
    let mut bytes = vec![0; BLOCK * N];
    while numbers.len() < len {
        let block = &mut bytes[..(len - numbers.len()).min(BLOCK) * N];
        reader.read_exact(block)?;
        numbers.extend(block.as_chunks::<N>().0.iter().map(|&b| AnyFloat(number(b))));
    }
    match std::io::copy(&mut reader, &mut std::io::sink())? {
        0 => Ok(numbers),
        extra => Err(ReadDataError::ExtraBytes(usize::try_from(extra).unwrap_or(usize::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// A `.npy` file of version 1.0.
    fn npy(descriptor: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
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

    fn read_bytes(bytes: &[u8]) -> Result<Array2<f32>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read_matrix(file.path())
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

    #[test]
    fn what_is_wrong_is_said() {
        let two = [1.0f32, f32::NAN].map(f32::to_le_bytes).concat();
        let message = |bytes: Vec<u8>| read_bytes(&bytes).unwrap_err().to_string();
        assert!(message(npy("<f4", false, "(1, 2)", &two)).contains("NaN in row 0, column 1"));
        assert!(message(npy("<f4", false, "(1, 3)", &two)).contains("truncated"));
        assert!(message(npy("<f4", false, "(1, 1)", &two)).contains("4 more byte"));
        assert!(message(npy("<f4", false, "(2,)", &two)).contains("found 1 dimension"));
        assert!(message(npy("<i4", false, "(1, 2)", &two)).contains("found <i4"));
        assert!(message(b"hello".to_vec()).contains("not a .npy file that can be read"));
        assert!(
            message(npy("<f8", false, "(1, 1)", &1e300f64.to_le_bytes())).contains("1e300 is beyond the range of f32")
        );
        assert!(message(npy("<f4", false, "(99999999, 99999999)", &two)).contains("truncated"));
        let nested = |n: usize| format!("{}1{}\n", "[".repeat(n), "]".repeat(n));
        for n in [25, 1500] {
            let mut file = b"\x93NUMPY\x01\x00".to_vec();
            file.extend(u16::try_from(nested(n).len()).unwrap().to_le_bytes());
            file.extend(nested(n).bytes());
            assert!(message(file).contains("does not describe a plain array"));
        }
        assert!(message(b"\x93NUMPY\x02\x00\xff\xff\xff\xff\xff".to_vec()).contains("at most 4096 bytes"));
        let missing = read_matrix(Path::new("no_such.npy")).unwrap_err().to_string();
        assert!(missing.starts_with("no_such.npy: cannot read"), "{missing}");
    }
}
