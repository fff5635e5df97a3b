//! A tensor of a PyTorch file: a view of a storage, with an offset and a stride per axis. Views may share a storage,
//! and a view may be transposed.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::{Arc, OnceLock};

use super::super::archive::Entry;
use super::super::elements::{ElementType, Order, Problem};
use super::super::npy::Head;
use super::super::regular::reserve;
use super::objects::Tensor;

/// The numbers of one or several tensors, in one piece of the file.
#[derive(Debug)]
pub(super) struct Storage {
    bytes: u64,
    /// The entry of a zip archive.
    entry: Option<Entry>,
    /// The position of the first byte. In an archive it is known as soon as the entry's checksum was compared.
    start: OnceLock<u64>,
}

impl Storage {
    /// A piece of a file.
    pub(super) fn piece(start: u64, bytes: u64) -> Self {
        Self { bytes, entry: None, start: OnceLock::from(start) }
    }

    /// An entry of an archive.
    pub(super) fn entry(entry: Entry) -> Self {
        Self { bytes: entry.size, entry: Some(entry), start: OnceLock::new() }
    }

    /// The position of the first byte. The first call compares an entry's checksum; a tensor alone has none.
    fn start(&self, file: &mut File) -> Result<u64, Problem> {
        if let Some(start) = self.start.get() {
            return Ok(*start);
        }
        let start = match &self.entry {
            Some(entry) => entry.check(file).map_err(Problem::Content)?,
            None => 0,
        };
        Ok(*self.start.get_or_init(|| start))
    }
}

/// A tensor's type, shape and place.
#[derive(Clone, Debug)]
pub(in crate::files) struct Strided {
    storage: Arc<Storage>,
    element: ElementType,
    order: Order,
    /// In numbers, as are the strides.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// From the first number to the last, both included.
    span: usize,
}

impl Strided {
    /// # Errors
    ///
    /// If the tensor is not within its storage, or has more numbers than it.
    pub(super) fn new(
        tensor: &Tensor,
        storage: Arc<Storage>,
        element: ElementType,
        order: Order,
    ) -> Result<Self, String> {
        let Tensor { offset, shape, strides, .. } = tensor;
        if shape.len() != strides.len() {
            return Err(format!("expected a stride for each axis of {shape:?}, found {strides:?}"));
        }
        // Even an empty shape can be too large: (0, 2⁴⁰, 2⁴⁰).
        let size = shape.iter().try_fold(8usize, |n, &axis| n.checked_mul(axis.max(1)));
        if size.is_none_or(|n| isize::try_from(n).is_err()) {
            return Err(format!("no array can have the shape {shape:?}"));
        }
        let numbers: usize = shape.iter().product();
        let mut axes = shape.iter().zip(strides);
        let span = if numbers == 0 {
            Some(0)
        } else {
            axes.try_fold(1usize, |span, (axis, &stride)| span.checked_add((axis - 1).checked_mul(stride)?))
        };
        let held = storage.bytes / element.bytes() as u64;
        let end = span.and_then(|span| span.checked_add(*offset));
        let (Some(span), Some(_)) = (span, end.filter(|&end| numbers == 0 || end as u64 <= held)) else {
            return Err(format!(
                "its storage has {held} numbers, too few for shape {shape:?} with strides {strides:?} from number {offset} on"
            ));
        };
        if numbers as u64 > held {
            return Err(format!("expected at most {held} numbers, as in its storage, found shape {shape:?}"));
        }
        Ok(Self { storage, element, order, offset: *offset, shape: shape.clone(), strides: strides.clone(), span })
    }

    /// Type and shape, for numbers whose last index runs fastest, as [`Self::open`] gives them.
    pub(in crate::files) fn head(&self) -> Head {
        let mut head = Head::plain(self.element, self.shape.clone());
        head.order = self.order;
        head
    }

    /// Opens the numbers, the last index running fastest; also the number of bytes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, if the storage's checksum differs, or if there is not enough memory.
    pub(in crate::files) fn open<'f>(&self, file: &'f mut File) -> Result<(Box<dyn Read + 'f>, u64), Problem> {
        let width = self.element.bytes();
        let start = self.storage.start(file)?;
        let bytes = (self.span * width) as u64;
        file.seek(SeekFrom::Start(start + (self.offset * width) as u64))?;
        if self.is_plain() {
            return Ok((Box::new(file.take(bytes)), bytes));
        }
        let (mut span, mut numbers) = (Vec::new(), Vec::new());
        reserve(&mut span, bytes).map_err(Problem::Content)?;
        file.take(bytes).read_to_end(&mut span)?;
        if span.len() as u64 != bytes {
            return Err(Problem::Truncated);
        }
        let length = self.shape.iter().product::<usize>() * width;
        reserve(&mut numbers, length as u64).map_err(Problem::Content)?;
        self.gather(&span, &mut numbers);
        Ok((Box::new(Cursor::new(numbers)), length as u64))
    }

    /// Whether the numbers are in the file as they are read. The stride of an axis of length 1 says nothing.
    fn is_plain(&self) -> bool {
        let mut expected = 1;
        let axes = self.shape.iter().zip(&self.strides).rev();
        self.span == 0
            || axes.filter(|(axis, _)| **axis > 1).all(|(axis, stride)| {
                let is_next = *stride == expected;
                expected *= axis;
                is_next
            })
    }

    /// Copies the numbers in the order of their indices. There is at least one.
    fn gather(&self, span: &[u8], numbers: &mut Vec<u8>) {
        let width = self.element.bytes();
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        loop {
            numbers.extend_from_slice(&span[at * width..(at + 1) * width]);
            // The next index: the last axis that has not come to its end goes on, those after it begin again.
            let Some(axis) = (0..index.len()).rev().find(|&axis| index[axis] + 1 < self.shape[axis]) else { return };
            for (later, stride) in index[axis + 1..].iter_mut().zip(&self.strides[axis + 1..]) {
                at -= *later * stride;
                *later = 0;
            }
            index[axis] += 1;
            at += self.strides[axis];
        }
    }
}
