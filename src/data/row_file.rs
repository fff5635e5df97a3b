//! A `.npy` file as a store: each row is read when it is needed.

use std::path::Path;

use super::copies::{Mark, hash, mark_store};
use super::store::{Draw, ImageStore, check_rows, numbers_of};
use crate::error::{Error, Result};
use crate::files::NpyMatrix;
use crate::model::Images;

/// Feature vectors in a `.npy` file of `f16`, `f32` or `f64`, in either byte order, row by row.
///
/// Opening reads the whole file once, in pieces, and remembers a hash of each row: 8 bytes. A row that
/// is read later must have the same hash, so a file that is changed while it is in use gives an error
/// and never another feature vector.
#[derive(Debug)]
pub struct RowFile {
    file: NpyMatrix,
    shape: [usize; 1],
    /// The hash of each row; empty until all rows have been read once.
    hashes: Vec<u64>,
}

impl RowFile {
    /// Opens a file and reads it once.
    ///
    /// # Errors
    ///
    /// If the file is missing, not a regular file or not a matrix of floating-point numbers; if its numbers
    /// are stored column by column; if it is truncated or longer than its header says; with row and column,
    /// from 0, if a number is not finite or beyond the range of `f32`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = NpyMatrix::open(path)?;
        if !file.is_by_rows() {
            let problem = "expected the numbers row by row, found them column by column (fortran_order)";
            return Err(Error::file(path, problem));
        }
        Ok(Self::marked(file)?.0)
    }

    /// The file, and the mark of each row.
    pub(super) fn marked(file: NpyMatrix) -> Result<(Self, Vec<Mark>)> {
        let mut store = Self { shape: [file.dim().1], file, hashes: Vec::new() };
        let marks = mark_store(&store)?;
        store.hashes = marks.iter().map(Mark::hash).collect();
        Ok((store, marks))
    }
}

impl ImageStore for RowFile {
    fn len(&self) -> usize {
        self.file.dim().0
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn fill(&self, rows: &[usize], _: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()> {
        check_rows(rows, self.len()).map_err(|problem| Error::file(self.file.path(), problem))?;
        let columns = self.shape[0];
        let mut matrix = into.make_features(rows.len(), columns);
        let mut numbers = matrix.as_slice_mut().unwrap_or_default(); // it is in standard layout
        // Rows that are also neighbours in the file are read together.
        for run in rows.chunk_by(|&row, &next| row + 1 == next) {
            let (these, rest) = numbers.split_at_mut(run.len() * columns);
            self.file.read_rows(run[0], these)?;
            numbers = rest;
        }
        if self.hashes.is_empty() {
            return Ok(());
        }
        for (numbers, &row) in numbers_of(into)?.chunks_exact(columns).zip(rows) {
            if hash(numbers) != self.hashes[row] {
                let problem = format!("row {row} has changed since the file was opened; expected the same numbers");
                return Err(Error::file(self.file.path(), problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use super::super::store::{Memory, SplitImages};
    use super::*;
    use crate::files::npy;
    use half::f16;
    use ndarray::Array2;

    /// Rows longer than what is read at once in any type, with numbers that every type holds.
    fn matrix() -> Array2<f32> {
        Array2::from_shape_fn((9, 8200), |(r, c)| ((r * 8200 + c) % 2003) as f32 / 2.0 - 500.0)
    }

    fn write(path: &Path, descriptor: &str, matrix: &Array2<f32>, to: fn(f32) -> Vec<u8>) {
        let numbers: Vec<u8> = matrix.iter().flat_map(|&x| to(x)).collect();
        let shape = format!("({}, {})", matrix.nrows(), matrix.ncols());
        std::fs::write(path, npy(descriptor, false, &shape, &numbers)).unwrap();
    }

    fn single(x: f32) -> Vec<u8> {
        x.to_le_bytes().to_vec()
    }

    /// Overwrites one number in a file of `<f4`.
    fn overwrite(path: &Path, columns: usize, (row, column): (usize, usize), x: f32) {
        let length = std::fs::metadata(path).unwrap().len() as usize;
        let rows = (length - 128) / (4 * columns);
        assert_eq!(128 + 4 * rows * columns, length, "the header has 128 bytes");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&x.to_le_bytes(), (128 + 4 * (row * columns + column)) as u64).unwrap();
    }

    #[test]
    fn every_type_gives_the_bits_of_memory() {
        type Bytes = fn(f32) -> Vec<u8>;
        let (folder, expected) = (tempfile::tempdir().unwrap(), matrix());
        let path = folder.path().join("a.npy");
        let memory = Memory::new(expected.clone());
        let types: [(&str, Bytes); 6] = [
            ("<f2", |x| f16::from_f32(x).to_le_bytes().to_vec()),
            (">f2", |x| f16::from_f32(x).to_be_bytes().to_vec()),
            ("<f4", single),
            (">f4", |x| x.to_be_bytes().to_vec()),
            ("<f8", |x| f64::from(x).to_le_bytes().to_vec()),
            (">f8", |x| f64::from(x).to_be_bytes().to_vec()),
        ];
        for (descriptor, to) in types {
            write(&path, descriptor, &expected, to);
            let file = RowFile::open(&path).unwrap();
            assert_eq!((file.len(), file.shape()), (9, &[8200][..]));
            let (mut found, mut right) = (Images::default(), Images::default());
            for rows in [&[0][..], &[8, 0, 3, 3, 4, 5, 4, 5], &[], &[0, 1, 2, 3, 4, 5, 6, 7, 8], &[6, 5, 4]] {
                file.fill(rows, None, &mut found).unwrap();
                memory.fill(rows, None, &mut right).unwrap();
                assert_eq!(found, right, "{descriptor}: {rows:?}");
                assert_eq!(
                    file.fingerprint(rows).unwrap(),
                    memory.fingerprint(rows).unwrap(),
                    "{descriptor}: {rows:?}"
                );
            }
            assert_eq!(mark_store(&file).unwrap(), mark_store(&memory).unwrap(), "{descriptor}");
            assert_eq!(SplitImages::new(Arc::new(file)).to_array().unwrap(), expected, "{descriptor}");
        }
    }

    #[test]
    fn what_is_wrong_is_found_on_opening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let message = || RowFile::open(&path).unwrap_err().to_string();
        // In the last row of many pieces.
        let mut rows = Array2::<f32>::ones((3000, 700));
        (rows[[2999, 698]], rows[[2999, 699]]) = (f32::NAN, f32::INFINITY);
        write(&path, "<f4", &rows, single);
        assert!(message().ends_with("a.npy: NaN in row 2999, column 698: every value must be finite"), "{}", message());
        rows[[1200, 3]] = f32::NEG_INFINITY;
        write(&path, "<f4", &rows, single);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let first = pool.install(message);
        assert!(first.ends_with("a.npy: -inf in row 1200, column 3: every value must be finite"), "{first}");
        let large = [1.0, 1e300, 1.0, 1.0].map(f64::to_le_bytes).concat();
        std::fs::write(&path, npy("<f8", false, "(2, 2)", &large)).unwrap();
        assert!(message().ends_with("a.npy: row 0, column 1: 1e300 is beyond the range of f32"), "{}", message());
        std::fs::write(&path, npy("<f8", false, "(2, 3)", &large)).unwrap();
        assert!(message().contains("truncated"), "{}", message());
        std::fs::write(&path, npy("<f8", true, "(2, 2)", &[0; 32])).unwrap();
        assert!(message().contains("found them column by column"), "{}", message());
    }

    #[test]
    fn a_file_that_changes_while_it_is_in_use_is_an_error_with_its_row() {
        let (folder, rows) = (tempfile::tempdir().unwrap(), matrix());
        let path = folder.path().join("a.npy");
        write(&path, "<f4", &rows, single);
        let file = RowFile::open(&path).unwrap();
        let mut images = Images::default();
        let mut message = |rows: &[usize]| {
            file.fill(rows, None, &mut images).err().map_or_else(String::new, |error| error.to_string())
        };
        assert!(message(&[2, 9]).ends_with("a.npy: expected a row below 9, found row 9"), "{}", message(&[2, 9]));
        overwrite(&path, 8200, (5, 8199), 7.0);
        let changed = "a.npy: row 5 has changed since the file was opened; expected the same numbers";
        assert!(message(&[4, 5, 6]).ends_with(changed), "{}", message(&[4, 5, 6]));
        assert!(file.fingerprint(&[0, 5]).unwrap_err().to_string().ends_with(changed));
        assert_eq!(message(&[4, 6]), "", "other rows are as they were");
        overwrite(&path, 8200, (5, 8199), f32::NAN);
        assert!(message(&[5]).contains("a.npy: NaN in row 5, column 8199"), "{}", message(&[5]));
        overwrite(&path, 8200, (5, 8199), rows[[5, 8199]]);
        assert_eq!(message(&[5]), "", "what was written back is right again");
        let handle = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        handle.set_len(128 + 4 * 8200 * 7 + 10).unwrap();
        assert_eq!(message(&[6]), "");
        let truncated = "a.npy: row 7: the file is truncated: it had 9 rows when it was opened";
        assert!(message(&[6, 7]).ends_with(truncated), "{}", message(&[6, 7]));
    }
}
