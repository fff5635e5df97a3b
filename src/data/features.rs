//! The image features of a split, from the formats that are read.

use std::ffi::OsStr;
use std::path::Path;

use ndarray::Array2;

use super::copies::Mark;
use super::row_file::RowFile;
use crate::error::{Error, ErrorKind, Result};
use crate::escape;
use crate::files::{Kind, NpyMatrix, TensorFile};

/// A matrix [rows, F].
pub(super) enum Features {
    /// Already read, from an archive or from a `.npy` file with its numbers column by column.
    Memory(Array2<f32>),
    /// A `.npy` file with its numbers row by row. Only its header has been read.
    Rows(Unread),
}

/// A file whose rows have not been read yet.
pub(super) struct Unread(NpyMatrix);

impl Unread {
    /// Reads all rows once, to check them and to give each its [`Mark`].
    ///
    /// # Errors
    ///
    /// With row and column, if a number is not finite or beyond the range of `f32`; with the row, if the
    /// file cannot be read.
    pub(super) fn read_once(self) -> Result<(RowFile, Vec<Mark>)> {
        RowFile::marked(self.0)
    }
}

impl Features {
    /// Rows and columns.
    pub(super) fn dim(&self) -> (usize, usize) {
        match self {
            Self::Memory(rows) => rows.dim(),
            Self::Rows(Unread(file)) => file.dim(),
        }
    }
}

/// How many rows a file has, if it can be read.
pub(super) fn count(path: &Path) -> Option<usize> {
    open(path).ok().map(|(features, _)| features.dim().0)
}

/// Opens a file of features. Also returns notes on what was noticed.
///
/// # Errors
///
/// If it is not a matrix of floating-point numbers with a row and a column, if it holds several arrays, or,
/// where it is read at once, if a number is not finite.
pub(super) fn open(path: &Path) -> Result<(Features, Vec<String>)> {
    // A file that cannot be read gives its error below.
    let kind = Kind::of(path).unwrap_or(Kind::Other);
    let named = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let (features, notes) =
        if named == "npy" { of_npy(path, kind)? } else { (Features::Memory(of_archive(path, kind)?), Vec::new()) };
    let (rows, columns) = features.dim();
    for (size, what) in [(rows, "image"), (columns, "feature")] {
        if size == 0 {
            return Err(Error::file(path, format!("expected at least one {what}, found shape [{rows}, {columns}]")));
        }
    }
    Ok((features, notes))
}

fn of_npy(path: &Path, kind: Kind) -> Result<(Features, Vec<String>)> {
    if kind != Kind::Npy && !kind.may_be_text() {
        return Err(Error::file(path, format!("expected a .npy array, found {}", kind.name())));
    }
    let file = NpyMatrix::open(path).map_err(|error| with_advice(path, error))?;
    let (shape, (rows, columns)) = (file.shape(), file.dim());
    let mut notes = Vec::new();
    if shape.len() > 2 {
        let file = escape::path(path);
        notes.push(format!("{file}: shape {shape:?} is read as [{rows}, {columns}]: axes of length 1 are left out"));
    }
    let features = if file.is_by_rows() { Features::Rows(Unread(file)) } else { Features::Memory(file.read_all()?) };
    Ok((features, notes))
}

fn of_archive(path: &Path, kind: Kind) -> Result<Array2<f32>> {
    if !matches!(kind, Kind::Npz | Kind::Safetensors) && !kind.may_be_text() {
        return Err(Error::file(path, format!("expected an npz or a safetensors file, found {}", kind.name())));
    }
    let tensors = TensorFile::read(path)?;
    let names: Vec<&str> = tensors.names().collect();
    match names[..] {
        [name] => tensors.matrix(name),
        [] => Err(Error::file(path, "expected one array, found none")),
        _ => {
            let shown = names.iter().take(8).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            let more = if names.len() > 8 { ", …" } else { "" };
            let load = if kind == Kind::Safetensors { "safetensors.numpy.load_file" } else { "numpy.load" };
            let problem = format!(
                "expected one array, found {}: {shown}{more}. Write the features to a file of their own, in Python: \
                 numpy.save('{}.npy', {load}('{}')[NAME])",
                names.len(),
                path.file_stem().unwrap_or_default().to_string_lossy(),
                path.file_name().unwrap_or_default().to_string_lossy()
            );
            Err(Error::file(path, problem))
        }
    }
}

/// Adds to an error what to do about an array that does not have two dimensions.
fn with_advice(path: &Path, error: Error) -> Error {
    let ErrorKind::File { problem, .. } = error.kind() else { return error };
    let Some((before, shape)) = problem.split_once("found shape [") else { return error };
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sizes: Vec<&str> = shape.trim_end_matches(']').split(", ").filter(|size| !size.is_empty()).collect();
    // The old array is kept under another name.
    let save = |what: &str| {
        format!(
            "rename it to all_{file}, then in Python: import numpy; numpy.save('{file}', numpy.load('all_{file}'){what})"
        )
    };
    let advice = match sizes[..] {
        [] | [_] => "One row per image is needed".to_owned(),
        ["1", images, _] => {
            format!("The first axis seems to be that of a batch of one, with {images} images: {}", save("[0]"))
        }
        [_, regions, _] => {
            format!(
                "It seems to hold {regions} vectors per image (regions). To use their mean, {}",
                save(".mean(axis=1)")
            )
        }
        _ => format!(
            "It seems to hold a feature map per image. To use its mean, {} if channels come first, axis=(1, 2) if they \
             come last",
            save(".mean(axis=(2, 3))")
        ),
    };
    Error::file(path, format!("{before}found shape [{shape}. {advice}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::store::SplitImages;
    use super::*;
    use crate::files::TensorWriter;
    use ndarray::{Array3, Array4, array};
    use ndarray_npy::write_npy;

    fn read(path: &Path) -> Result<(Array2<f32>, Vec<String>)> {
        let (features, notes) = open(path)?;
        let array = match features {
            Features::Memory(rows) => rows,
            Features::Rows(file) => SplitImages::new(Arc::new(file.read_once()?.0)).to_array()?,
        };
        Ok((array, notes))
    }

    #[test]
    fn one_array_of_an_archive_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let matrix = array![[1.0f32, 2.0], [3.0, 4.0]];
        let mut writer = TensorWriter::default();
        writer.add("anything", &matrix.view().into_dyn());
        let npz = folder.path().join("test_ims.npz");
        writer.write_npz(&npz).unwrap();
        assert_eq!(read(&npz).unwrap().0, matrix);
        let safetensors = folder.path().join("test_ims.safetensors");
        writer.write_safetensors(&safetensors, None).unwrap();
        assert_eq!(read(&safetensors).unwrap().0, matrix);
        writer.add("other", &matrix.view().into_dyn());
        writer.write_npz(&npz).unwrap();
        let error = read(&npz).unwrap_err().to_string();
        assert!(error.contains("expected one array, found 2: \"anything\", \"other\""), "{error}");
    }

    #[test]
    fn other_dimensions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test_ims.npy");
        write_npy(&path, &Array4::<f32>::ones((2, 3, 1, 1))).unwrap();
        let (features, notes) = read(&path).unwrap();
        assert_eq!(features.dim(), (2, 3));
        assert!(notes[0].contains("shape [2, 3, 1, 1] is read as [2, 3]"), "{}", notes[0]);
        write_npy(&path, &Array3::<f32>::ones((2, 36, 3))).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("found shape [2, 36, 3]. It seems to hold 36 vectors per image"), "{error}");
        assert!(error.contains(".mean(axis=1))"), "{error}");
        write_npy(&path, &Array4::<f32>::ones((2, 3, 7, 7))).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains(".mean(axis=(2, 3)))"));
        write_npy(&path, &Array3::<f32>::ones((1, 4, 3))).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("batch of one"));
    }

    #[test]
    fn files_that_are_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let message = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            read(&path).unwrap_err().to_string()
        };
        assert!(message("a_ims.npy", b"\x1f\x8b\x08\x00").contains("expected a .npy array, found compressed by gzip"));
        assert!(message("a_ims.npy", b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS pointer"));
        assert!(message("a_ims.npy", b"\x80\x04\x95").contains("found a Python pickle"));
        assert!(message("a_ims.npz", b"\x93NUMPY\x01").contains("found a .npy file"));
        assert!(message("a_ims.npy", b"hello").contains("not a .npy file"));
    }
}
