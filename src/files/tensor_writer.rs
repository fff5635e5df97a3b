//! Writes named tensors to safetensors and npz files.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Write};
use std::path::Path;

use ndarray::ArrayViewD;
use safetensors::serialize;
use safetensors::tensor::TensorView;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::atomic::write_atomically;
use super::elements::ElementType;
use super::npy::header;
use super::safetensors::{LONGEST_HEADER, METADATA_KEY};
use super::tensor_file::SUFFIX;
use crate::error::{Error, Result};
use crate::real::Real;

/// Collects tensors and writes them into one file.
#[derive(Debug, Default)]
pub(crate) struct TensorWriter {
    /// The bytes are little-endian, the last index running fastest.
    tensors: BTreeMap<String, (ElementType, Vec<usize>, Vec<u8>)>,
}

impl TensorWriter {
    /// Adds a tensor in its own precision. A tensor of the same name is replaced.
    pub(crate) fn add<T: Real>(&mut self, name: impl Into<String>, tensor: &ArrayViewD<'_, T>) {
        // `f32` has 4 bytes. Both types are written without rounding.
        #[allow(clippy::cast_possible_truncation)]
        let (element, bytes) = if size_of::<T>() == 4 {
            (ElementType::F32, to_bytes(tensor, |x| (x.re() as f32).to_le_bytes()))
        } else {
            (ElementType::F64, to_bytes(tensor, |x| x.re().to_le_bytes()))
        };
        self.tensors.insert(name.into(), (element, tensor.shape().to_vec(), bytes));
    }

    /// Adds integers as I64, the last index running fastest. A tensor of the same name is replaced.
    /// [`TensorFile`](super::TensorFile) reads integers only up to ±2⁵³.
    ///
    /// # Errors
    ///
    /// Fails if the number of values does not fit the shape.
    pub(crate) fn add_integers(&mut self, name: impl Into<String>, shape: &[usize], values: &[i64]) -> Result<()> {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.add_stored(name.into(), ElementType::I64, shape, bytes)
    }

    /// Adds bytes as U8, the last index running fastest. A tensor of the same name is replaced.
    ///
    /// # Errors
    ///
    /// Fails if the number of values does not fit the shape.
    pub(crate) fn add_bytes(&mut self, name: impl Into<String>, shape: &[usize], values: &[u8]) -> Result<()> {
        self.add_stored(name.into(), ElementType::U8, shape, values.to_vec())
    }

    fn add_stored(&mut self, name: String, element: ElementType, shape: &[usize], bytes: Vec<u8>) -> Result<()> {
        let found = bytes.len() / element.bytes();
        if shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis)) != Some(found) {
            return Err(Error::mismatch(format!(
                "{name}: expected as many numbers as shape {shape:?} holds, found {found}"
            )));
        }
        self.tensors.insert(name, (element, shape.to_vec(), bytes));
        Ok(())
    }

    /// The bytes of a safetensors file with one metadata key. The same tensors give the same bytes.
    ///
    /// # Errors
    ///
    /// Fails if the header would exceed the format's limit.
    pub(crate) fn to_safetensors(&self, metadata: Option<String>) -> Result<Vec<u8>> {
        let failed =
            |e: safetensors::SafeTensorError| Error::mismatch(format!("cannot be written as safetensors: {e}"));
        let mut views = Vec::with_capacity(self.tensors.len());
        for (name, (element, shape, bytes)) in &self.tensors {
            views.push((name, TensorView::new(element.safetensors(), shape.clone(), bytes).map_err(failed)?));
        }
        // This crate's reader would reject a longer header.
        if let Some(json) = metadata.as_ref().filter(|json| json.len() as u64 > LONGEST_HEADER / 2) {
            let problem = format!("expected metadata of at most {} bytes, found {}", LONGEST_HEADER / 2, json.len());
            return Err(Error::mismatch(format!("cannot be written as safetensors: {problem}")));
        }
        let metadata = metadata.map(|json| HashMap::from([(METADATA_KEY.to_owned(), json)]));
        serialize(views, metadata).map_err(failed)
    }

    /// Writes a safetensors file with one metadata key, atomically. The same tensors give the same bytes.
    ///
    /// # Errors
    ///
    /// Fails if the format cannot hold the tensors or if the file cannot be written.
    pub(crate) fn write_safetensors(&self, path: &Path, metadata: Option<String>) -> Result<()> {
        let bytes = self.to_safetensors(metadata).map_err(|e| Error::file(path, e.to_string()))?;
        write_atomically(path, &bytes)
    }

    /// The bytes of an npz file as `numpy.savez` would write it: entries in alphabetical order,
    /// uncompressed, all dated 1 January 1980. The same tensors give the same bytes.
    ///
    /// # Errors
    ///
    /// Fails if the format cannot hold the tensors: a name has at most 65531 bytes.
    pub(crate) fn to_npz(&self) -> Result<Vec<u8>> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default());
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, (element, shape, bytes)) in &self.tensors {
            let mut write = || {
                // The archive's writer would panic on a longer name.
                if name.len() + SUFFIX.len() > usize::from(u16::MAX) {
                    return Err(format!("expected a name of at most 65531 bytes, found {}", name.len()));
                }
                let header = header(*element, shape)?;
                // Sizes of 4 GiB and more need zip64 fields.
                let large = u32::try_from(header.len() + bytes.len()).is_err();
                archive.start_file(format!("{name}{SUFFIX}"), options.large_file(large)).map_err(explain)?;
                archive.write_all(&header).and_then(|()| archive.write_all(bytes)).map_err(|e| e.to_string())
            };
            write().map_err(|e| Error::mismatch(format!("{name}: cannot be written as npz: {e}")))?;
        }
        let archive =
            archive.finish().map_err(|e| Error::mismatch(format!("cannot be written as npz: {}", explain(e))))?;
        Ok(archive.into_inner())
    }

    /// Writes an npz file, atomically. The same tensors give the same bytes.
    ///
    /// # Errors
    ///
    /// Fails if the format cannot hold the tensors or if the file cannot be written.
    pub(crate) fn write_npz(&self, path: &Path) -> Result<()> {
        let bytes = self.to_npz().map_err(|e| Error::file(path, e.to_string()))?;
        write_atomically(path, &bytes)
    }
}

/// The message of a `ZipError`, which does not show its cause itself.
fn explain(error: ZipError) -> String {
    match error {
        ZipError::Io(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

/// The bytes of all numbers. A checkpoint has millions of them: an iterator over single bytes would take
/// ten times as long.
fn to_bytes<T: Real, const N: usize>(tensor: &ArrayViewD<'_, T>, number: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; N * tensor.len()];
    for (to, &x) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(tensor) {
        *to = number(x);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::tensor_file::TensorFile;
    use super::*;

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
    fn added_tensors_are_read_back_in_their_own_type() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = TensorWriter::default();
        // Stored column by column in memory.
        writer.add("vectors", &array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]].t().to_owned().view().into_dyn());
        writer.add("third", &array![1.0f64 / 3.0].view().into_dyn());
        writer.add_integers("ids", &[2, 1, 2], &[1 << 53, -(1 << 53), 0, -1]).unwrap();
        writer.add_integers("step", &[], &[7]).unwrap();
        writer.add_bytes("names", &[3], b"a\n\xff").unwrap();
        writer.add_bytes("nothing", &[0, 4], b"").unwrap();
        let names = ["ids", "names", "nothing", "step", "third", "vectors"];
        let types = [ElementType::I64, ElementType::U8, ElementType::U8, ElementType::I64];
        let types = [types.as_slice(), &[ElementType::F64, ElementType::F32]].concat();
        for file in ["a.safetensors", "a.npz"] {
            let path = folder.path().join(file);
            let write = || {
                if file == "a.npz" { writer.write_npz(&path) } else { writer.write_safetensors(&path, None) }.unwrap();
                std::fs::read(&path).unwrap()
            };
            let bytes = write();
            assert_eq!(write(), bytes, "{file}");
            let direct = if file == "a.npz" { writer.to_npz() } else { writer.to_safetensors(None) };
            assert_eq!(direct.unwrap(), bytes, "{file}");
            let file = TensorFile::read(&path).unwrap();
            assert!(file.names().eq(names));
            assert_eq!(names.map(|name| file.element_type(name).unwrap()).to_vec(), types);
            assert_eq!(file.matrix("vectors").unwrap(), array![[1.0f32, 3.0, 5.0], [2.0, 4.0, 6.0]]);
            assert_eq!(file.get("third").unwrap(), array![1.0 / 3.0].into_dyn());
            let most = 9_007_199_254_740_992.0;
            assert_eq!(file.get("ids").unwrap(), array![[[most, -most]], [[0.0, -1.0]]].into_dyn());
            assert_eq!(file.get_shaped("step", &[]).unwrap().first(), Some(&7.0));
            assert_eq!(file.get("names").unwrap(), array![97.0, 10.0, 255.0].into_dyn());
            assert_eq!(file.bytes("names").unwrap(), b"a\n\xff");
            assert!(file.bytes("ids").unwrap_err().to_string().ends_with("ids: expected bytes (U8), found I64"));
            assert_eq!(file.get("nothing").unwrap().shape(), [0, 4]);
        }
    }

    #[test]
    fn values_that_do_not_fit_the_shape_are_refused() {
        let mut writer = TensorWriter::default();
        let problem = |result: Result<()>| result.unwrap_err().to_string();
        assert_eq!(
            problem(writer.add_integers("ids", &[2, 2], &[1, 2, 3])),
            "ids: expected as many numbers as shape [2, 2] holds, found 3"
        );
        assert!(problem(writer.add_bytes("b", &[], b"")).ends_with("shape [] holds, found 0"));
        assert!(problem(writer.add_bytes("b", &[usize::MAX, 2], b"ab")).ends_with("holds, found 2"));
        assert!(writer.tensors.is_empty());
    }

    #[test]
    fn an_npz_is_sorted_and_has_no_time() {
        let mut writer = TensorWriter::default();
        writer.add_bytes("b", &[1], b"x").unwrap();
        writer.add_bytes("a", &[1], b"y").unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(writer.to_npz().unwrap())).unwrap();
        for (index, name) in ["a.npy", "b.npy"].into_iter().enumerate() {
            let entry = archive.by_index(index).unwrap();
            assert_eq!((entry.name(), entry.compression()), (name, CompressionMethod::Stored));
            assert_eq!(entry.last_modified().unwrap().to_string(), "1980-01-01 00:00:00");
        }
    }

    #[test]
    fn tensors_that_npz_cannot_hold_are_errors() {
        let mut writer = TensorWriter::default();
        writer.tensors.insert("half".into(), (ElementType::BF16, vec![1], vec![0, 0]));
        let problem = |writer: &TensorWriter| writer.to_npz().unwrap_err().to_string();
        assert_eq!(problem(&writer), "half: cannot be written as npz: NumPy has no type BF16");
        let mut writer = TensorWriter::default();
        writer.add_bytes("n".repeat(65531), &[0], b"").unwrap();
        writer.to_npz().unwrap();
        writer.add_bytes("n".repeat(65532), &[0], b"").unwrap();
        assert!(problem(&writer).ends_with("npz: expected a name of at most 65531 bytes, found 65532"));
        let path = Path::new("no/such/a.npz");
        assert!(writer.write_npz(path).unwrap_err().to_string().starts_with("no/such/a.npz: nnn"));
    }
}
