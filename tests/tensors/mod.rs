//! Files of tensors as other programs write and read them: safetensors with the crate of that name, npz as an
//! archive of `.npy` files, PyTorch's two formats. Nothing of `src/files/` is used here.

// Each test program uses some of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use ndarray::{Array, Array2, ArrayD, Dimension, Ix2};
use ndarray_npy::WriteNpyExt;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The numbers of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    I64(ArrayD<i64>),
    U8(ArrayD<u8>),
    I8(ArrayD<i8>),
}

/// Evaluates an expression with the array, of whichever type it is.
macro_rules! with {
    ($numbers:expr, $x:ident => $value:expr) => {
        match $numbers {
            Numbers::F32($x) => $value,
            Numbers::F64($x) => $value,
            Numbers::I64($x) => $value,
            Numbers::U8($x) => $value,
            Numbers::I8($x) => $value,
        }
    };
}

macro_rules! from {
    ($type:ty, $kind:ident) => {
        impl<D: Dimension> From<Array<$type, D>> for Numbers {
            fn from(numbers: Array<$type, D>) -> Self {
                Self::$kind(numbers.into_dyn())
            }
        }
    };
}
from!(f32, F32);
from!(f64, F64);
from!(i64, I64);
from!(u8, U8);
from!(i8, I8);

impl Numbers {
    fn of(tensor: &TensorView<'_>) -> Self {
        fn array<T, const N: usize>(tensor: &TensorView<'_>, number: impl Fn([u8; N]) -> T) -> ArrayD<T> {
            let numbers = tensor.data().as_chunks().0.iter().map(|&bytes| number(bytes)).collect();
            ArrayD::from_shape_vec(tensor.shape(), numbers).unwrap()
        }
        match tensor.dtype() {
            Dtype::F32 => Self::F32(array(tensor, f32::from_le_bytes)),
            Dtype::F64 => Self::F64(array(tensor, f64::from_le_bytes)),
            Dtype::I64 => Self::I64(array(tensor, i64::from_le_bytes)),
            Dtype::U8 => Self::U8(array(tensor, u8::from_le_bytes)),
            Dtype::I8 => Self::I8(array(tensor, i8::from_le_bytes)),
            other => panic!("no test has tensors of {other:?}"),
        }
    }

    /// Little-endian, the last index running fastest.
    fn bytes(&self) -> Vec<u8> {
        with!(self, x => x.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::I64(_) => Dtype::I64,
            Self::U8(_) => Dtype::U8,
            Self::I8(_) => Dtype::I8,
        }
    }
}

/// Named tensors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tensors(BTreeMap<String, Numbers>);

impl Tensors {
    /// Reads a safetensors file.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(file.iter().map(|(name, tensor)| (name.to_owned(), Numbers::of(&tensor))).collect())
    }

    /// The names, in alphabetical order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A tensor's numbers as `f64`; none of the integers in the tests is rounded.
    pub(crate) fn get(&self, name: &str) -> ArrayD<f64> {
        #[allow(clippy::cast_lossless, clippy::unnecessary_cast)] // as for some of the types
        let numbers = |numbers: &Numbers| with!(numbers, x => x.mapv(|x| x as f64));
        numbers(self.0.get(name).unwrap_or_else(|| panic!("expected a tensor {name}")))
    }

    /// A matrix as `f32`.
    #[allow(clippy::cast_possible_truncation)] // to the nearest
    pub(crate) fn matrix(&self, name: &str) -> Array2<f32> {
        self.get(name).mapv(|x| x as f32).into_dimensionality::<Ix2>().unwrap()
    }

    /// Adds a tensor, or replaces the one of this name.
    pub(crate) fn add(&mut self, name: &str, numbers: impl Into<Numbers>) {
        self.0.insert(name.to_owned(), numbers.into());
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name).unwrap_or_else(|| panic!("expected a tensor {name}"));
    }

    /// A safetensors file, with JSON about the tensors in its metadata if there is any.
    pub(crate) fn to_safetensors(&self, about: Option<&str>) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> = self.0.values().map(Numbers::bytes).collect();
        let tensors = self.0.iter().zip(&bytes).map(|((name, numbers), bytes)| {
            let shape = with!(numbers, x => x.shape().to_vec());
            (name, TensorView::new(numbers.dtype(), shape, bytes).unwrap())
        });
        serialize(tensors, about.map(|json| [("vsepp".to_owned(), json.to_owned())].into())).unwrap()
    }

    /// An npz file, as `numpy.savez` writes it, or `numpy.savez_compressed`.
    pub(crate) fn to_npz(&self, method: CompressionMethod) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, numbers) in &self.0 {
            archive.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
            with!(numbers, x => x.write_npy(&mut archive)).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    /// A file as `torch.save` writes a dictionary: an archive.
    pub(crate) fn to_pytorch(&self) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let mut write = |name: String, bytes: &[u8]| {
            let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            archive.start_file(format!("archive/{name}"), stored).unwrap();
            archive.write_all(bytes).unwrap();
        };
        write("data.pkl".into(), &self.pickle(b"tQ"));
        for (key, numbers) in self.0.values().enumerate() {
            write(format!("data/{key}"), &numbers.bytes());
        }
        archive.finish().unwrap().into_inner()
    }

    /// A file as PyTorch wrote a dictionary before 1.6: magic number, version, system, pickle, keys, numbers.
    pub(crate) fn to_old_pytorch(&self) -> Vec<u8> {
        let mut bytes =
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
        bytes.extend(self.pickle(b"NtQ"));
        bytes.extend(b"\x80\x02](");
        for key in 0..self.0.len() {
            bytes.extend(text(&key.to_string()));
        }
        bytes.extend(b"e.");
        for numbers in self.0.values() {
            bytes.extend(with!(numbers, x => x.len() as u64).to_le_bytes());
            bytes.extend(numbers.bytes());
        }
        bytes
    }

    /// The pickle of the dictionary. The end of a storage's id differs between the formats.
    fn pickle(&self, end_of_id: &[u8]) -> Vec<u8> {
        let integer = |n: usize| [&b"J"[..], &i32::try_from(n).unwrap().to_le_bytes()].concat();
        let tuple = |all: &mut dyn Iterator<Item = usize>| {
            [b"(".to_vec(), all.flat_map(integer).collect(), b"t".to_vec()].concat()
        };
        let mut bytes = b"\x80\x02}(".to_vec();
        for (key, (name, numbers)) in self.0.iter().enumerate() {
            let storage = match numbers {
                Numbers::F32(_) => "ctorch\nFloatStorage\n",
                Numbers::F64(_) => "ctorch\nDoubleStorage\n",
                Numbers::I64(_) => "ctorch\nLongStorage\n",
                Numbers::U8(_) => "ctorch\nByteStorage\n",
                Numbers::I8(_) => "ctorch\nCharStorage\n",
            };
            let (len, shape) = with!(numbers, x => (x.len(), x.shape().to_vec()));
            let strides = (1..=shape.len()).map(|axis| shape[axis..].iter().product());
            bytes.extend(text(name));
            bytes.extend(b"ctorch._utils\n_rebuild_tensor\n((");
            bytes.extend([text("storage"), storage.into(), text(&key.to_string()), text("cpu"), integer(len)].concat());
            bytes.extend(end_of_id);
            bytes.extend([integer(0), tuple(&mut shape.iter().copied()), tuple(&mut strides.into_iter())].concat());
            bytes.extend(b"tR");
        }
        bytes.extend(b"u.");
        bytes
    }

    /// Writes an npz file if the name ends in `.npz`, otherwise a safetensors file.
    pub(crate) fn write(&self, path: &Path) {
        let is_npz = path.extension().is_some_and(|end| end == "npz");
        let bytes = if is_npz { self.to_npz(CompressionMethod::Stored) } else { self.to_safetensors(None) };
        std::fs::write(path, bytes).unwrap();
    }
}

/// A pickled string.
fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
}
