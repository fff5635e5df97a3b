//! Reads named tensors from safetensors, npz and PyTorch files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::{Array2, ArrayD, Ix2};

use super::archive::{Entry, count_names, read_directory};
use super::elements::{ElementType, Problem};
use super::kind::Kind;
use super::npy::{Head, check_finite};
use super::pytorch::{Strided, StridedTensors, find_pickle, read_legacy, read_zip};
use super::regular::open_regular;
use super::safetensors::{LONGEST_HEADER, Place, SafetensorsHead};
use crate::error::{Error, Result};
use crate::escape;

/// The ending that npz adds to a tensor's name.
pub(super) const SUFFIX: &str = ".npy";

/// An open file of tensors. Names, types and shapes are known; the numbers of a tensor are read on
/// request.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    /// Locked for each read, because readers share the position in the file.
    file: Mutex<File>,
    /// A tensor that cannot be read is an error only when it is requested.
    tensors: BTreeMap<String, std::result::Result<Stored, String>>,
    metadata: Option<String>,
}

/// The place of a tensor.
#[derive(Clone, Debug)]
enum Stored {
    /// In a safetensors file.
    Plain(Place),
    /// A `.npy` in an archive.
    Entry(Entry),
    /// In a PyTorch file.
    Strided(Strided),
}

impl Stored {
    /// The word for it in messages.
    fn what(&self) -> &'static str {
        if matches!(self, Self::Entry(_)) { "entry" } else { "tensor" }
    }
}

/// Type and shape of a tensor, and the reader of its numbers.
struct Opened<'f> {
    head: Head,
    reader: Box<dyn Read + 'f>,
    held: u64,
}

impl TensorFile {
    /// Opens a safetensors, npz or PyTorch file. The first bytes decide which it is. In a PyTorch file only the
    /// pickle is read, and nothing in it is executed; what is nested has names such as `model.0.fc.weight`.
    ///
    /// # Errors
    ///
    /// Fails if the file is missing, not a regular file, truncated, or of another format; also if a pickle asks
    /// for a name that files of weights do not need.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (mut file, length) = open_regular(path)?;
        let mut begin = Vec::new();
        (&mut file).take(512).read_to_end(&mut begin).map_err(|e| Error::io(path, "read", e))?;
        let (tensors, metadata) = match Kind::of_bytes(&begin) {
            Kind::OldPyTorch | Kind::Pickle => (Self::of_legacy(path, &mut file, length)?, None),
            // A safetensors file whose header has 19,280 bytes begins with `PK` too.
            kind if kind != Kind::Safetensors && begin.starts_with(b"PK") => {
                (Self::of_zip(path, &mut file, length)?, None)
            }
            _ => {
                begin.truncate(8);
                file.seek(SeekFrom::Start(begin.len() as u64)).map_err(|e| Error::io(path, "read", e))?;
                Self::of_safetensors(path, begin, &mut file, length)?
            }
        };
        Ok(Self { path: path.into(), file: Mutex::new(file), tensors, metadata })
    }

    fn of_safetensors(path: &Path, begin: Vec<u8>, file: &mut File, length: u64) -> Result<(Tensors, Option<String>)> {
        let what = "not a safetensors, npz or PyTorch file, or a truncated one";
        let head = SafetensorsHead::read(path, (file, length), begin, LONGEST_HEADER, what)?;
        let tensors = head.places.into_iter().map(|(name, place)| (name, place.map(Stored::Plain)));
        Ok((tensors.collect(), head.metadata))
    }

    fn of_legacy(path: &Path, file: &mut File, length: u64) -> Result<Tensors> {
        read_legacy(file, length).map(strided).map_err(|problem| unread(path, &problem))
    }

    /// An archive: npz, or a PyTorch file, which has a pickle.
    fn of_zip(path: &Path, file: &mut File, length: u64) -> Result<Tensors> {
        let entries = read_directory(file, length).map_err(|problem| {
            let problem = format!("not an npz or PyTorch file that can be read, or a truncated one ({problem})");
            Error::file(path, problem)
        })?;
        if let Some(pickle) = find_pickle(&entries) {
            return read_zip(file, &entries, pickle).map(strided).map_err(|problem| unread(path, &problem));
        }
        let counts = count_names(entries.iter().map(|entry| stem(&entry.name)));
        let tensors = entries.iter().map(|entry| {
            let name = stem(&entry.name);
            let stored = match counts[name] {
                1 => Ok(Stored::Entry(entry.clone())),
                count => Err(format!("expected one entry of this name, found {count}")),
            };
            (name.to_owned(), stored)
        });
        Ok(tensors.collect())
    }

    /// The names, in alphabetical order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The JSON that this crate wrote into the file's metadata, if any.
    #[must_use]
    pub(crate) fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }

    /// The file's path.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The type of a tensor's numbers in the file. Reads no numbers.
    ///
    /// # Errors
    ///
    /// Fails if there is no such tensor (the message lists the names) or if it cannot be read.
    pub(crate) fn element_type(&self, name: &str) -> Result<ElementType> {
        Ok(self.head(name)?.element)
    }

    /// A tensor's shape. Reads no numbers.
    ///
    /// # Errors
    ///
    /// The same as [`TensorFile::element_type`].
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.head(name)?.shape)
    }

    /// Reads a tensor as `f64`, which represents the numbers of every type exactly.
    ///
    /// # Errors
    ///
    /// The same as [`TensorFile::element_type`]; also if there is not enough memory, or if an integer is
    /// beyond ±2⁵³.
    pub(crate) fn get(&self, name: &str) -> Result<ArrayD<f64>> {
        self.open::<f64, _>(name, |opened| {
            let Opened { head, reader, held } = opened;
            let numbers = head.element.read(head.order, reader, head.len(), held, Ok)?;
            head.arrange(numbers)
        })
    }

    /// Reads a tensor after comparing its shape with the expected one.
    ///
    /// # Errors
    ///
    /// The same as [`TensorFile::get`]; also if the shapes differ (the message gives both).
    pub(crate) fn get_shaped(&self, name: &str, shape: &[usize]) -> Result<ArrayD<f64>> {
        self.check_shape(name, shape)?;
        self.get(name)
    }

    /// Reads the weights of a model: finite floating-point numbers of a known shape, as `f32`. Type and
    /// shape are compared first.
    ///
    /// # Errors
    ///
    /// The same as [`TensorFile::get_shaped`]; also if the numbers are integers, or if one is not finite
    /// or too large for `f32` (the message gives its index).
    pub(crate) fn weights(&self, name: &str, shape: &[usize]) -> Result<ArrayD<f32>> {
        self.check_shape(name, shape)?;
        let weights = self.open::<f32, _>(name, |opened| read_f32(opened, |index| format!("{index:?}: ")))?;
        match weights.indexed_iter().find(|(_, x)| !x.is_finite()) {
            None => Ok(weights),
            Some((index, x)) => {
                let index = ndarray::Dimension::slice(&index);
                Err(self.problem(name, &format!("{x} at {index:?}: every value must be finite")))
            }
        }
    }

    /// Reads a finite matrix as `f32`.
    ///
    /// # Errors
    ///
    /// The same as [`TensorFile::get`]; also if the tensor is not a matrix, or if a number is not finite
    /// or too large for `f32` (the message gives row and column).
    pub(crate) fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let shape = self.shape(name)?;
        if shape.len() != 2 {
            return Err(self.problem(name, &format!("expected a matrix, found shape {shape:?}")));
        }
        // A matrix without columns takes no bytes, and its number of rows may be huge.
        if shape[0] > 0 && shape[1] == 0 {
            return Err(self.problem(name, &format!("expected at least one column, found shape {shape:?}")));
        }
        let place = |at: &[usize]| format!("row {}, column {}: ", at[0], at[1]);
        let matrix = self.open::<f32, _>(name, |opened| read_f32(opened, place))?;
        let matrix = matrix.into_dimensionality::<Ix2>().map_err(|e| self.problem(name, &e.to_string()))?;
        check_finite(&self.path, &format!("{name}: "), &matrix)?;
        Ok(matrix)
    }

    /// Reads a tensor of bytes (U8), the last index varying fastest.
    ///
    /// # Errors
    ///
    /// The same as [`TensorFile::get`]; also if the tensor has another type.
    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let element = self.element_type(name)?;
        if element != ElementType::U8 {
            return Err(self.problem(name, &format!("expected bytes (U8), found {element}")));
        }
        self.open::<u8, _>(name, |opened| {
            let Opened { head, reader, held } = opened;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the numbers come from bytes
            let bytes = head.element.read(head.order, reader, head.len(), held, |x| Ok(x as u8))?;
            Ok(head.arrange(bytes)?.into_raw_vec_and_offset().0)
        })
    }

    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let found = self.shape(name)?;
        if found == shape {
            return Ok(());
        }
        Err(self.problem(name, &format!("expected shape {shape:?}, found {found:?}")))
    }

    fn problem(&self, name: &str, problem: &str) -> Error {
        Error::file(&self.path, format!("{}: {problem}", escape::name(name)))
    }

    /// Type and shape of a tensor.
    fn head(&self, name: &str) -> Result<Head> {
        let stored = self.stored(name)?;
        let head = match stored {
            Stored::Plain(place) => Ok(Head::plain(place.element, place.shape.clone())),
            Stored::Strided(tensor) => Ok(tensor.head()),
            Stored::Entry(entry) => open_entry::<u8>(entry, &mut self.lock()).map(|opened| opened.head),
        };
        head.map_err(|problem| self.problem(name, &problem.message(stored.what())))
    }

    /// Opens a tensor to read it as an array of `T`.
    fn open<T, R>(&self, name: &str, read: impl FnOnce(Opened<'_>) -> std::result::Result<R, Problem>) -> Result<R> {
        let stored = self.stored(name)?;
        let mut file = self.lock();
        let opened = match stored {
            Stored::Plain(place) => open_plain(place, &mut file),
            Stored::Entry(entry) => open_entry::<T>(entry, &mut file),
            Stored::Strided(tensor) => {
                tensor.open(&mut file).map(|(reader, held)| Opened { head: tensor.head(), reader, held })
            }
        };
        opened.and_then(read).map_err(|problem| self.problem(name, &problem.message(stored.what())))
    }

    /// The place of a tensor.
    fn stored(&self, name: &str) -> Result<&Stored> {
        match self.tensors.get(name) {
            Some(Ok(stored)) => Ok(stored),
            Some(Err(problem)) => Err(self.problem(name, problem)),
            None => {
                let mut names: Vec<Cow<'_, str>> = self.names().take(8).map(escape::name).collect();
                if self.tensors.len() > names.len() {
                    names.push("…".into());
                }
                let problem = format!("expected a tensor {name}, found only: {}", names.join(", "));
                Err(Error::file(&self.path, problem))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Tensors = BTreeMap<String, std::result::Result<Stored, String>>;

fn strided(tensors: StridedTensors) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (name, tensor.map(Stored::Strided))).collect()
}

fn unread(path: &Path, problem: &str) -> Error {
    Error::file(path, format!("not a PyTorch file that can be read: {problem}"))
}

fn open_plain<'f>(place: &Place, file: &'f mut File) -> std::result::Result<Opened<'f>, Problem> {
    file.seek(SeekFrom::Start(place.start))?;
    let head = Head::plain(place.element, place.shape.clone());
    Ok(Opened { head, reader: Box::new(file.take(place.bytes)), held: place.bytes })
}

fn open_entry<'f, T>(entry: &Entry, file: &'f mut File) -> std::result::Result<Opened<'f>, Problem> {
    let mut content = entry.open(file).map_err(Problem::Content)?;
    let head = Head::read::<T>(&mut content, &ElementType::ALL)?;
    head.check_length(entry.size)?;
    Ok(Opened { head, reader: Box::new(content), held: entry.held() })
}

/// Reads numbers as `f32`; `place` describes the position of a number that does not fit.
fn read_f32(opened: Opened<'_>, place: impl Fn(&[usize]) -> String) -> std::result::Result<ArrayD<f32>, Problem> {
    let Opened { head, reader, held } = opened;
    let numbers = head.element.read_f32(head.order, reader, head.len(), held);
    let (numbers, _) = numbers.map_err(|problem| match problem {
        Problem::At(at, problem) => {
            let place = head.index(at).map_or_else(String::new, |index| place(&index));
            Problem::Content(format!("{place}{problem}"))
        }
        other => other,
    })?;
    head.arrange(numbers)
}

fn stem(name: &str) -> &str {
    name.strip_suffix(SUFFIX).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use ndarray::array;
    use safetensors::tensor::TensorView;
    use safetensors::{Dtype, serialize};
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::super::npy::npy;
    use super::super::tensor_writer::TensorWriter;
    use super::*;

    fn read_bytes(name: &str, bytes: &[u8]) -> Result<TensorFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        TensorFile::read(&path)
    }

    /// The message, without the folder.
    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        let message = result.unwrap_err().to_string();
        let start = message.find("a.").unwrap_or(0);
        message[start..].to_owned()
    }

    /// Bytes of 1, 2 and 3 (of 1, 0 and 1 as BOOL), in little-endian order.
    fn one_two_three(element: ElementType) -> Vec<u8> {
        let integers = |x: u8| [x, 0, 0, 0, 0, 0, 0, 0][..element.bytes()].to_vec();
        match element {
            ElementType::F16 => [0x3c00u16, 0x4000, 0x4200].map(u16::to_le_bytes).concat(),
            ElementType::BF16 => [0x3f80u16, 0x4000, 0x4040].map(u16::to_le_bytes).concat(),
            ElementType::F32 => [1.0f32, 2.0, 3.0].map(f32::to_le_bytes).concat(),
            ElementType::F64 => [1.0f64, 2.0, 3.0].map(f64::to_le_bytes).concat(),
            ElementType::BOOL => vec![1, 0, 255],
            _ => [1, 2, 3].map(integers).concat(),
        }
    }

    fn expected(element: ElementType) -> ArrayD<f64> {
        if element == ElementType::BOOL { array![1.0, 0.0, 1.0] } else { array![1.0, 2.0, 3.0] }.into_dyn()
    }

    #[test]
    fn safetensors_of_every_type_are_read() {
        let names: Vec<String> = ElementType::ALL.iter().map(ToString::to_string).collect();
        let bytes = ElementType::ALL.map(one_two_three);
        let views = ElementType::ALL.iter().zip(&names).zip(&bytes);
        let views = views.map(|((e, name), b)| (name, TensorView::new(e.safetensors(), vec![3], b).unwrap()));
        let bytes = serialize(views, None).unwrap();
        let file = read_bytes("a.safetensors", &bytes).unwrap();
        for element in ElementType::ALL {
            assert_eq!(file.get(&element.to_string()).unwrap(), expected(element), "{element}");
            assert_eq!(file.element_type(&element.to_string()).unwrap(), element);
        }
    }

    #[test]
    fn safetensors_that_are_not_exact_are_an_error_only_when_requested() {
        let (large, complex) = ((1u64 << 53 | 1).to_le_bytes(), [0; 8]);
        let views = [
            ("ids", TensorView::new(Dtype::U64, vec![1], &large).unwrap()),
            ("complex", TensorView::new(Dtype::C64, vec![1], &complex).unwrap()),
            ("right", TensorView::new(Dtype::I8, vec![1], &[0xff]).unwrap()),
        ];
        let bytes = serialize(views, None).unwrap();
        let file = read_bytes("a.safetensors", &bytes).unwrap();
        assert_eq!(file.get("right").unwrap(), array![-1.0].into_dyn());
        assert_eq!(
            message(file.get("ids")),
            "a.safetensors: ids: position 0: expected an integer of at most ±2⁵³, found 9007199254740993"
        );
        let problem = "a.safetensors: complex: expected F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64 or \
                       BOOL, found C64";
        assert_eq!(message(file.element_type("complex")), problem);
    }

    /// An archive with these entries.
    fn zip(entries: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn read_npz(bytes: &[u8]) -> Result<TensorFile> {
        read_bytes("a.npz", bytes)
    }

    fn read_stored(entries: &[(&str, Vec<u8>)]) -> TensorFile {
        read_npz(&zip(entries, CompressionMethod::Stored)).unwrap()
    }

    #[test]
    fn npz_of_every_type_and_byte_order_are_read() {
        let elements = ElementType::ALL.into_iter().filter(|&element| element != ElementType::BF16);
        let mut entries = Vec::new();
        for element in elements.clone() {
            let letters = element.letters().unwrap();
            let little = one_two_three(element);
            let big: Vec<u8> = little.chunks(element.bytes()).flat_map(|b| b.iter().rev().copied()).collect();
            let orders: &[char] = if element.bytes() == 1 { &['|', '<', '>'] } else { &['<', '>'] };
            for &order in orders {
                let data = if order == '>' { &big } else { &little };
                entries.push((format!("{order}{letters}.npy"), npy(&format!("{order}{letters}"), false, "(3,)", data)));
            }
        }
        let entries: Vec<(&str, Vec<u8>)> = entries.iter().map(|(name, b)| (name.as_str(), b.clone())).collect();
        assert_eq!(entries.len(), 2 * 12 + 3);
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let file = read_npz(&zip(&entries, method)).unwrap();
            assert_eq!(file.names().count(), entries.len());
            for element in elements.clone() {
                let letters = element.letters().unwrap();
                for name in file.names().filter(|name| name.ends_with(letters)) {
                    assert_eq!(file.get(name).unwrap(), expected(element), "{name}");
                    assert_eq!(file.element_type(name).unwrap(), element, "{name}");
                }
            }
        }
    }

    #[test]
    fn npz_of_every_shape_are_read_to_the_bit() {
        let bits = [0x3fd5_5555_5555_5555u64, 0x7ff8_0000_0000_0001, 1 << 63, 1, 0x7fef_ffff_ffff_ffff, 0xfff0 << 48];
        let data = bits.map(u64::to_le_bytes).concat();
        let file = read_stored(&[
            ("rows.npy", npy("<f8", false, "(2, 1, 3)", &data)),
            ("columns.npy", npy("<f8", true, "(2, 1, 3)", &data)),
            ("number.npy", npy("<f8", false, "()", &data[..8])),
            ("nothing.npy", npy("<f8", true, "(0, 3)", &[])),
        ]);
        let found = |name: &str| file.get(name).unwrap().iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
        assert_eq!(found("rows"), bits);
        assert_eq!(found("columns"), [0, 2, 4, 1, 3, 5].map(|k| bits[k]));
        assert_eq!(file.get("columns").unwrap().shape(), [2, 1, 3]);
        assert!(file.get("columns").unwrap().is_standard_layout());
        assert_eq!((file.get("number").unwrap().shape(), found("number")), (&[][..], vec![bits[0]]));
        assert_eq!(file.get("nothing").unwrap().shape(), [0, 3]);
    }

    #[test]
    fn a_bad_entry_is_an_error_only_when_it_is_requested() {
        let good = npy("<i2", false, "(1,)", &[5, 1]);
        let mut nested = b"\x93NUMPY\x01\x00".to_vec();
        nested.extend(3000u16.to_le_bytes());
        nested.extend([b'['; 3000]);
        let mut entries = vec![
            ("good.npy", good.clone()),
            ("short.npy", good[..good.len() - 1].to_vec()),
            ("cut.npy", good[..40].to_vec()),
            ("long.npy", [good.clone(), vec![0; 3]].concat()),
            ("complex.npy", npy("<c8", false, "(1,)", &[0; 8])),
            ("unordered.npy", npy("|i2", false, "(1,)", &[5, 1])),
            ("readme.txt", b"Vectors of nothing.".to_vec()),
            ("nested.npy", nested),
            ("endless.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff\xff".to_vec()),
            ("folder/", Vec::new()),
            ("overflow.npy", npy("<f8", false, "(0, 1099511627776, 1099511627776)", &[])),
            ("claims.npy", npy("<u1", false, "(1099511627776, 1024)", &[1, 2])),
            ("ids.npy", npy(">u8", false, "(2,)", &[0, 0, 0, 0, 0, 0, 0, 1, 255, 0, 0, 0, 0, 0, 0, 0])),
        ];
        let cases = [
            ("short", "the entry is truncated: expected more data than it holds"),
            ("cut", "not a .npy file that can be read: it ends within the header"),
            ("long", "expected the end of the entry, found 3 more byte(s)"),
            ("complex", "expected numbers of type f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8 or b1, found <c8"),
            ("unordered", "expected numbers of type f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8 or b1, found |i2"),
            ("readme.txt", "not a .npy file that can be read: it does not begin like one"),
            ("nested", "not a .npy file that can be read: the header does not end in a newline"),
            ("endless", "not a .npy file that can be read: expected a header of at most 4096 bytes, found 4294967295"),
            ("folder/", "not a .npy file that can be read: it does not begin like one"),
            ("overflow", "not a .npy file that can be read: overflow computing length from shape"),
            ("claims", "the entry is truncated: expected more data than it holds"),
            ("ids", "position 1: expected an integer of at most ±2⁵³, found 18374686479671623680"),
        ];
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let file = read_npz(&zip(&entries, method)).unwrap();
            assert_eq!(file.get("good").unwrap(), array![261.0].into_dyn());
            for (name, problem) in cases {
                assert_eq!(message(file.get(name)), format!("a.npz: {name}: {problem}"));
                if name != "ids" {
                    // Type and shape are read without the numbers.
                    assert_eq!(message(file.shape(name)), format!("a.npz: {name}: {problem}"));
                }
            }
        }
        // A wrong bit.
        entries.truncate(1);
        let mut bytes = zip(&entries, CompressionMethod::Stored);
        let at = bytes.windows(2).position(|pair| pair == [5, 1]).unwrap();
        bytes[at] = 4;
        let problem = message(read_npz(&bytes).unwrap().get("good"));
        assert_eq!(problem, "a.npz: good: cannot read the entry: invalid checksum");
        // The directory has the entry's offset before its name. Point it to the end of the file.
        let at = bytes.windows(8).rposition(|name| name == b"good.npy").unwrap() - 4;
        let end = u32::try_from(bytes.len()).unwrap() - 2;
        bytes[at..at + 4].copy_from_slice(&end.to_le_bytes());
        assert!(message(read_npz(&bytes)).ends_with("(its entry good.npy overlaps the directory)"));
        // Then to a place inside the entry.
        bytes[at..at + 4].copy_from_slice(&[0; 4]);
        bytes[0] = b'Q';
        bytes.splice(0..0, *b"PK");
        let place = bytes.len() - 6;
        let start = u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap()) + 2;
        bytes[place..place + 4].copy_from_slice(&start.to_le_bytes());
        let problem = message(read_npz(&bytes).unwrap().get("good"));
        assert_eq!(problem, "a.npz: good: cannot read the entry: there is no entry at its offset");
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        let byte = |x: u8| npy("|u1", false, "(1,)", &[x]);
        let mut bytes = zip(
            &[("a.npy", byte(1)), ("b.npy", byte(2)), ("c.npy", byte(3)), ("c", byte(4))],
            CompressionMethod::Stored,
        );
        // The writer rejects duplicate names, so change the name in the entry and in the directory.
        for at in 0..bytes.len() - 5 {
            if &bytes[at..at + 5] == b"b.npy" {
                bytes[at] = b'a';
            }
        }
        let file = read_npz(&bytes).unwrap();
        for name in ["a", "c"] {
            let problem = format!("a.npz: {name}: expected one entry of this name, found 2");
            assert_eq!(message(file.get(name)), problem);
        }
        let before = [b"PK".as_slice(), &bytes].concat();
        assert!(
            message(read_npz(&before)).contains("expected a directory of"),
            "offsets count from the beginning of the file"
        );
    }

    #[test]
    fn a_truncated_npz_is_refused() {
        let bytes = zip(&[("a.npy", npy("|u1", false, "(1,)", &[1]))], CompressionMethod::Stored);
        for cut in [2, 40, bytes.len() / 2, bytes.len() - 1] {
            let problem = message(read_npz(&bytes[..cut]));
            assert!(
                problem.starts_with("a.npz: not an npz or PyTorch file that can be read, or a truncated one"),
                "{problem}"
            );
        }
    }

    #[test]
    fn errors_name_the_tensor_and_the_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut writer = TensorWriter::default();
        writer.add("b", &array![[1.0f32, f32::NAN]].view().into_dyn());
        writer.write_safetensors(&path, None).unwrap();
        let file = TensorFile::read(&path).unwrap();
        assert!(file.get("c").unwrap_err().to_string().ends_with("expected a tensor c, found only: b"));
        assert!(file.get_shaped("b", &[2, 1]).unwrap_err().to_string().contains("expected shape [2, 1], found [1, 2]"));
        assert!(file.matrix("b").unwrap_err().to_string().contains("b: NaN in row 0, column 1"));
        writer.add_bytes("e", &[1 << 40, 0], b"").unwrap();
        writer.write_safetensors(&path, None).unwrap();
        let problem = TensorFile::read(&path).unwrap().matrix("e").unwrap_err().to_string();
        assert!(problem.ends_with("e: expected at least one column, found shape [1099511627776, 0]"), "{problem}");
        assert!(file.element_type("c").unwrap_err().to_string().ends_with("expected a tensor c, found only: b"));
        writer.add("b", &array![[0.0f64, 1.0], [1e300, f64::INFINITY]].view().into_dyn());
        writer.write_safetensors(&path, None).unwrap();
        let problem = TensorFile::read(&path).unwrap().matrix("b").unwrap_err().to_string();
        assert!(problem.ends_with("b: row 1, column 0: 1e300 is beyond the range of f32"), "{problem}");
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 5, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(TensorFile::read(&path).unwrap_err().to_string().contains("truncated"), "{cut} bytes");
        }
    }

    #[test]
    fn weights_are_finite_floating_point_numbers_of_a_known_shape() {
        let mut writer = TensorWriter::default();
        writer.add("w", &array![[1.0f32, -2.5]].view().into_dyn());
        writer.add("wide", &array![1.0f64, 1e300].view().into_dyn());
        writer.add("nan", &array![[0.0f32], [f32::NAN]].view().into_dyn());
        writer.add_integers("whole", &[2], &[1, 2]).unwrap();
        for (name, bytes) in [("a.safetensors", writer.to_safetensors(None)), ("a.npz", writer.to_npz())] {
            let file = read_bytes(name, &bytes.unwrap()).unwrap();
            assert_eq!(file.weights("w", &[1, 2]).unwrap(), array![[1.0f32, -2.5]].into_dyn());
            assert_eq!(file.shape("w").unwrap(), [1, 2]);
            let problem = |name: &str, shape: &[usize]| message(file.weights(name, shape));
            assert!(problem("w", &[2, 1]).ends_with(": w: expected shape [2, 1], found [1, 2]"));
            assert!(problem("wide", &[2]).ends_with(": wide: [1]: 1e300 is beyond the range of f32"));
            assert!(problem("nan", &[2, 1]).ends_with(": nan: NaN at [1, 0]: every value must be finite"));
            assert!(problem("whole", &[2]).ends_with(": whole: expected floating-point numbers, found I64"));
        }
    }

    #[test]
    fn an_entry_yields_at_most_its_declared_size() {
        let array = |numbers: usize| npy("|u1", false, &format!("({numbers},)"), &vec![0; numbers]);
        let size_at = |bytes: &[u8]| bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap() + 24;
        // A million zeros with a smaller and a larger declared size.
        for (numbers, declared, problem) in [
            (1_000_000, 1_000, "the entry is truncated"),
            (1_000_000, 20_000_000, "more than 256 times as much"),
            (1_000_000, 1_500_000, "expected the end of the entry, found 499872 more byte(s)"),
        ] {
            let mut bytes = zip(&[("a.npy", array(numbers))], CompressionMethod::Deflated);
            let at = size_at(&bytes);
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(declared));
            let found = message(read_npz(&bytes).unwrap().get("a"));
            assert!(found.contains(problem), "{found}");
        }
        // The header agrees with the declared size, but the packed data are longer.
        let mut entry = array(1_000);
        entry.resize(entry.len() + 100_000, 0);
        let mut bytes = zip(&[("a.npy", entry)], CompressionMethod::Deflated);
        let at = size_at(&bytes);
        bytes[at..at + 4].copy_from_slice(&1128u32.to_le_bytes());
        let found = message(read_npz(&bytes).unwrap().get("a"));
        assert!(found.ends_with("it is longer than declared"), "{found}");
        // A zip bomb: 100 MB of zeros in 100 KB.
        let bytes = zip(&[("a.npy", array(100_000_000))], CompressionMethod::Deflated);
        assert!(message(read_npz(&bytes).unwrap().get("a")).contains("more than 256 times as much"));
    }

    #[test]
    fn two_hundred_names_for_one_entry_are_refused() {
        let one = zip(&[("a.npy", npy("|u1", false, "(4,)", &[1, 2, 3, 4]))], CompressionMethod::Stored);
        let directory = one.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        let end = one.len() - 22;
        let mut bytes = one[..directory].to_vec();
        for n in 0..200u8 {
            let mut record = one[directory..end].to_vec();
            record[46] = n;
            bytes.extend(record);
        }
        let mut last = one[end..].to_vec();
        let size = u32::try_from(bytes.len() - directory).unwrap();
        last[8..12].copy_from_slice(&[200, 0, 200, 0]);
        last[12..16].copy_from_slice(&size.to_le_bytes());
        bytes.extend(last);
        let found = message(read_npz(&bytes));
        assert!(found.contains("overlaps"), "{found}");
    }
}
