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
    /// Of each row; empty until all have been read once.
    hashes: Vec<u64>,
}

impl RowFile {
    /// Opens a file and reads it once.
    ///
    /// # Errors
    ///
    /// If the file is missing or no regular file, is no matrix of floating-point numbers, or has its
    /// numbers column by column; if it is truncated or longer than its header says; with row and column,
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
        // Rows that are neighbours in the file too are read at once.
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
