//! Named tensors in one file: safetensors (read and written), npz (read and written).

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ndarray::{Array2, ArrayD, ArrayViewD, Ix2, IxDyn};
use ndarray_npy::{NpzReader, NpzWriter};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::atomic::write_atomically;
use super::npy::{AnyFloat, check_finite};
use crate::error::{Error, Result};
use crate::real::Real;

/// The one key of the `__metadata__` that this crate writes: more would come in random order.
const METADATA_KEY: &str = "vsepp";

/// A file of tensors that has been read; numbers as `f64`, which holds every `f32` and every id exactly.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// A tensor of a type that is not read here is an error only for whoever asks for it.
    tensors: BTreeMap<String, std::result::Result<ArrayD<f64>, String>>,
    metadata: Option<String>,
}

impl TensorFile {
    /// Reads a safetensors or npz file, told apart by how it begins.
    ///
    /// **Errors** if it is missing, truncated, or neither.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        if bytes.starts_with(b"PK") { Self::from_npz(path, bytes) } else { Self::from_safetensors(path, &bytes) }
    }

    fn from_safetensors(path: &Path, bytes: &[u8]) -> Result<Self> {
        let broken = |e: safetensors::SafeTensorError| {
            Error::file(path, format!("neither a safetensors nor an npz file, or a truncated one ({e})"))
        };
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = header.metadata().as_ref().and_then(|m| m.get(METADATA_KEY).cloned());
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let tensor = numbers(view.dtype(), view.data())
                .ok_or_else(|| format!("expected F16, BF16, F32, F64, I32, I64 or U8, found {:?}", view.dtype()))
                .and_then(|values| ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|e| e.to_string()));
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { path: path.into(), tensors, metadata })
    }

    fn from_npz(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let broken = |e: ndarray_npy::ReadNpzError| Error::file(path, format!("not an npz file that can be read: {e}"));
        let mut file = NpzReader::new(Cursor::new(bytes)).map_err(broken)?;
        let mut tensors = BTreeMap::new();
        for name in file.names().map_err(broken)? {
            let name = name.trim_end_matches(".npy");
            let tensor: std::result::Result<ArrayD<AnyFloat>, _> = file.by_name(name);
            let tensor = tensor.map(|values| values.mapv(|x| f64::from(x.0))).map_err(|e| e.to_string());
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self { path: path.into(), tensors, metadata: None })
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The JSON that this crate wrote into the file's metadata, if it did.
    #[must_use]
    pub fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }

    /// Where it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A tensor by name.
    ///
    /// **Errors** with the names that are there, if it is not.
    pub fn get(&self, name: &str) -> Result<ArrayViewD<'_, f64>> {
        match self.tensors.get(name) {
            Some(Ok(values)) => Ok(values.view()),
            Some(Err(problem)) => Err(Error::file(&self.path, format!("{name}: {problem}"))),
            None => {
                let mut names: Vec<&str> = self.names().take(8).collect();
                if self.tensors.len() > names.len() {
                    names.push("…");
                }
                let problem = format!("expected a tensor {name}, found only: {}", names.join(", "));
                Err(Error::file(&self.path, problem))
            }
        }
    }

    /// A tensor of a known shape.
    ///
    /// **Errors** with both shapes, if they differ.
    pub fn get_shaped(&self, name: &str, shape: &[usize]) -> Result<ArrayViewD<'_, f64>> {
        let tensor = self.get(name)?;
        if tensor.shape() == shape {
            return Ok(tensor);
        }
        Err(Error::file(&self.path, format!("{name}: expected shape {shape:?}, found {:?}", tensor.shape())))
    }

    /// A finite matrix as `f32`.
    ///
    /// **Errors** if it is missing, has another number of dimensions, or a number that is not finite.
    pub fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let tensor = self.get(name)?;
        let shape = tensor.shape().to_vec();
        let matrix = tensor
            .into_dimensionality::<Ix2>()
            .map_err(|_| Error::file(&self.path, format!("{name}: expected a matrix, found shape {shape:?}")))?;
        #[allow(clippy::cast_possible_truncation)] // rounding to f32 is what is asked for
        let matrix = matrix.as_standard_layout().mapv(|x| x as f32);
        check_finite(&self.path, &format!("{name}: "), &matrix)?;
        Ok(matrix)
    }
}

/// Little-endian bytes as numbers; none for a type that is not read here.
#[allow(clippy::cast_precision_loss)] // ids are far below 2⁵³
fn numbers(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&b| number(b)).collect()
    }
    Some(match dtype {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::U8 => each(bytes, |b: [u8; 1]| f64::from(b[0])),
        _ => return None,
    })
}

/// Tensors on their way into a file.
#[derive(Debug, Default)]
pub struct TensorWriter {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl TensorWriter {
    /// Adds a tensor, in its own precision.
    pub fn add<T: Real>(&mut self, name: impl Into<String>, tensor: &ArrayViewD<'_, T>) {
        // f32 has 4 bytes and is kept as it is; f64 likewise.
        #[allow(clippy::cast_possible_truncation)]
        let (dtype, bytes) = if size_of::<T>() == 4 {
            (Dtype::F32, tensor.iter().flat_map(|x| (x.re() as f32).to_le_bytes()).collect())
        } else {
            (Dtype::F64, tensor.iter().flat_map(|x| x.re().to_le_bytes()).collect())
        };
        self.tensors.insert(name.into(), (dtype, tensor.shape().to_vec(), bytes));
    }

    /// Writes safetensors with one metadata key, all or nothing. The same tensors give the same bytes.
    ///
    /// **Errors** if the disk refuses.
    pub fn write_safetensors(&self, path: &Path, metadata: Option<String>) -> Result<()> {
        let failed = |e: safetensors::SafeTensorError| Error::file(path, e.to_string());
        let mut views = Vec::with_capacity(self.tensors.len());
        for (name, (dtype, shape, bytes)) in &self.tensors {
            views.push((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(failed)?));
        }
        let metadata = metadata.map(|json| HashMap::from([(METADATA_KEY.to_owned(), json)]));
        write_atomically(path, &serialize(views, metadata).map_err(failed)?)
    }
}

/// Writes `f32` matrices as npz, all or nothing.
///
/// **Errors** if the disk refuses.
pub fn write_npz(path: &Path, matrices: &[(&str, &Array2<f32>)]) -> Result<()> {
    let failed = |e: ndarray_npy::WriteNpzError| Error::file(path, e.to_string());
    let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
    for (name, matrix) in matrices {
        npz.add_array(*name, *matrix).map_err(failed)?;
    }
    write_atomically(path, npz.finish().map_err(failed)?.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn safetensors_round_trip_is_exact_and_deterministic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut writer = TensorWriter::default();
        writer.add("b", &array![[1.0f32, -2.5]].view().into_dyn());
        writer.add("a", &array![1.0f64 / 3.0].view().into_dyn());
        writer.write_safetensors(&path, Some("{\"x\":1}".into())).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        writer.write_safetensors(&path, Some("{\"x\":1}".into())).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let file = TensorFile::read(&path).unwrap();
        assert_eq!(file.metadata(), Some("{\"x\":1}"));
        assert_eq!(file.get("a").unwrap()[[0]], 1.0 / 3.0);
        assert_eq!(file.matrix("b").unwrap(), array![[1.0f32, -2.5]]);
    }

    #[test]
    fn npz_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let matrix = array![[1.0f32, 2.0], [3.0, 4.0]];
        write_npz(&path, &[("images", &matrix)]).unwrap();
        assert_eq!(TensorFile::read(&path).unwrap().matrix("images").unwrap(), matrix);
        let columns = matrix.t().to_owned(); // in memory column by column, and so on disk
        write_npz(&path, &[("images", &columns)]).unwrap();
        let read = TensorFile::read(&path).unwrap().matrix("images").unwrap();
        assert!(read == columns && read.is_standard_layout());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut writer = TensorWriter::default();
        writer.add("b", &array![[1.0f32, f32::NAN]].view().into_dyn());
        writer.write_safetensors(&path, None).unwrap();
        let file = TensorFile::read(&path).unwrap();
        assert!(file.get("c").unwrap_err().to_string().ends_with("expected a tensor c, found only: b"));
        assert!(file.get_shaped("b", &[2, 1]).unwrap_err().to_string().contains("expected shape [2, 1], found [1, 2]"));
        assert!(file.matrix("b").unwrap_err().to_string().contains("b: NaN in row 0, column 1"));
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 5, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(TensorFile::read(&path).unwrap_err().to_string().contains("truncated"), "{cut} bytes");
        }
    }
}
