//! Where images come from: a store fills a batch by the numbers of its images.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, Array4};

use crate::error::{Error, Result};
use crate::files::digest_of_numbers;
use crate::model::Images;

/// What a random view of images, such as a crop, may depend on: the seed, the epoch and the caption, and
/// nothing else. So a resumed run sees the same views, on any number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw<'a> {
    /// The seed of the training.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: usize,
    /// The caption of each image, as a number in the split: an image may occur twice in a batch.
    pub captions: &'a [usize],
}

/// Images by their numbers, from 0.
///
/// Several threads may use a store at once. The same call must always give the same bits.
pub trait ImageStore: fmt::Debug + Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of one image: `[F]` of feature vectors, `[3, Y, X]` of pictures.
    fn shape(&self) -> &[usize];

    /// Replaces `into` by some images, in the order of `rows`; a row may occur twice. The memory of
    /// `into` is reused where it suffices. With a `draw` the images are for training, and a store that
    /// changes pictures at random takes its random numbers from it. Without one, and in a store that makes
    /// no such changes, an image is always the same.
    ///
    /// # Errors
    ///
    /// If there is no such image, or if it cannot be read; the images are then unspecified.
    fn fill(&self, rows: &[usize], draw: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()>;

    /// The ten crops of a picture, [10, 3, C, C].
    ///
    /// # Errors
    ///
    /// If there is no such picture, if it cannot be read, if it is too small for ten crops, or if the images are
    /// feature vectors: they have no crops.
    fn ten(&self, row: usize) -> Result<Array4<f32>> {
        Err(Error::mismatch(format!("image {row}: expected a picture for ten crops, found a feature vector")))
    }

    /// A digest of some images, in the order of `rows`: two lists of images have the same one only if
    /// they are equal. Checkpoints hold it. By default it covers all numbers; a store whose images take
    /// long to compute can digest what they are computed from.
    ///
    /// # Errors
    ///
    /// As [`Self::fill`].
    fn fingerprint(&self, rows: &[usize]) -> Result<String> {
        let width = width(self);
        let read = |range: Range<usize>, images: &mut Images<f32>, numbers: &mut Vec<f32>| {
            let first = range.start / width;
            self.fill(&rows[first..range.end.div_ceil(width)], None, images)?;
            numbers.extend_from_slice(&numbers_of(images)?[range.start - first * width..range.end - first * width]);
            Ok(())
        };
        digest_of_numbers(rows.len() * width, read)
    }
}

/// How many numbers an image has.
pub(super) fn width<S: ImageStore + ?Sized>(store: &S) -> usize {
    store.shape().iter().product()
}

/// The numbers of images that a store has filled.
pub(super) fn numbers_of(images: &Images<f32>) -> Result<&[f32]> {
    images.numbers().ok_or_else(|| Error::mismatch("images: expected an array in standard layout from the store"))
}

/// # Errors
///
/// With the first row that is not below `len`.
pub(super) fn check_rows(rows: &[usize], len: usize) -> std::result::Result<(), String> {
    match rows.iter().find(|&&row| row >= len) {
        None => Ok(()),
        Some(row) => Err(format!("expected a row below {len}, found row {row}")),
    }
}

/// Feature vectors in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    features: Array2<f32>,
    shape: [usize; 1],
}

impl Memory {
    /// A store of N images with F features each, [N, F].
    #[must_use]
    pub fn new(features: Array2<f32>) -> Self {
        Self { shape: [features.ncols()], features }
    }
}

impl ImageStore for Memory {
    fn len(&self) -> usize {
        self.features.nrows()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn fill(&self, rows: &[usize], _: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()> {
        check_rows(rows, self.len()).map_err(|problem| Error::mismatch(format!("images: {problem}")))?;
        let mut into = into.make_features(rows.len(), self.shape[0]);
        for (mut to, &row) in into.outer_iter_mut().zip(rows) {
            to.assign(&self.features.row(row));
        }
        Ok(())
    }
}

/// The images of a split: some rows of a store, in the order of the split.
#[derive(Clone, Debug)]
pub(crate) struct SplitImages {
    store: Arc<dyn ImageStore>,
    /// The row of each image.
    rows: Vec<usize>,
}

impl SplitImages {
    /// All images of a store.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn ImageStore>) -> Self {
        let rows = (0..store.len()).collect();
        Self { store, rows }
    }

    /// Keeps only some of the images.
    pub(super) fn select(&mut self, images: &[usize]) {
        self.rows = images.iter().map(|&image| self.rows[image]).collect();
    }

    /// The store.
    #[must_use]
    pub(crate) fn store(&self) -> &dyn ImageStore {
        &*self.store
    }

    /// The row of each image in the store, `[N]`.
    #[must_use]
    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// [`ImageStore::fingerprint`] of all these images.
    ///
    /// # Errors
    ///
    /// If an image cannot be read.
    pub(crate) fn digest(&self) -> Result<String> {
        self.store.fingerprint(&self.rows)
    }

    /// Calls `each` with the images in blocks of at most 16 MiB (or of one image, if it is larger), and with
    /// the number of the first image of the block. Only one block is in memory at a time.
    ///
    /// # Errors
    ///
    /// If an image cannot be read, or as `each` does.
    pub(crate) fn in_blocks(&self, mut each: impl FnMut(usize, &Images<f32>) -> Result<()>) -> Result<()> {
        const NUMBERS: usize = (16 << 20) / size_of::<f32>();
        let size = (NUMBERS / width(&*self.store).max(1)).max(1);
        let mut images = Images::default();
        for (block, rows) in self.rows.chunks(size).enumerate() {
            self.store.fill(rows, None, &mut images)?;
            each(block * size, &images)?;
        }
        Ok(())
    }

    /// All feature vectors, [N, F], in memory.
    ///
    /// # Errors
    ///
    /// If an image cannot be read, or if the images are not feature vectors.
    pub(crate) fn to_array(&self) -> Result<Array2<f32>> {
        let mut images = Images::default();
        self.store.fill(&self.rows, None, &mut images)?;
        images.features().map(|features| features.to_owned())
    }

    /// The rows of some images in the store.
    fn rows_of(&self, images: &[usize]) -> Result<Vec<usize>> {
        check_rows(images, self.rows.len()).map_err(|problem| Error::mismatch(format!("images: {problem}")))?;
        Ok(images.iter().map(|&image| self.rows[image]).collect())
    }

    /// Splits off the images from number `first` on.
    pub(super) fn split_off(&mut self, first: usize) -> Self {
        Self { store: Arc::clone(&self.store), rows: self.rows.split_off(first) }
    }
}

/// A split's images by their numbers in the split.
impl ImageStore for SplitImages {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn shape(&self) -> &[usize] {
        self.store.shape()
    }

    fn fill(&self, rows: &[usize], draw: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()> {
        self.store.fill(&self.rows_of(rows)?, draw, into)
    }

    fn ten(&self, row: usize) -> Result<Array4<f32>> {
        self.store.ten(self.rows_of(&[row])?[0])
    }

    fn fingerprint(&self, rows: &[usize]) -> Result<String> {
        self.store.fingerprint(&self.rows_of(rows)?)
    }
}

impl From<Array2<f32>> for SplitImages {
    fn from(features: Array2<f32>) -> Self {
        Self::new(Arc::new(Memory::new(features)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::digest;
    use ndarray::array;

    #[test]
    fn memory_gives_rows_in_the_order_asked_for() {
        let store = Memory::new(array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        assert_eq!((store.len(), store.shape()), (3, &[2][..]));
        let mut images = Images::Pixels(Array4::zeros((1, 3, 2, 2)));
        store.fill(&[2, 0, 2], None, &mut images).unwrap();
        assert_eq!(images.features().unwrap(), array![[5.0, 6.0], [1.0, 2.0], [5.0, 6.0]]);
        let error = store.fill(&[1, 3], None, &mut images).unwrap_err().to_string();
        assert_eq!(error, "images: expected a row below 3, found row 3");
    }

    #[test]
    fn a_fingerprint_is_the_digest_of_the_numbers_in_order() {
        // Rows whose ends are not near the ends of the digest's blocks.
        let features = Array2::from_shape_fn((1021, 771), |(r, c)| (r * 771 + c) as f32);
        let bytes: Vec<u8> = features.iter().flat_map(|x| x.to_le_bytes()).collect();
        let images = SplitImages::from(features.clone());
        assert_eq!(images.digest().unwrap(), digest(&bytes));
        let turned = SplitImages::from(features.t().as_standard_layout().into_owned().reversed_axes());
        assert_eq!(turned.digest().unwrap(), digest(&bytes), "columns first in memory");
        let mut some = images;
        some.select(&[7, 3]);
        assert_eq!(
            some.digest().unwrap(),
            digest(&[&bytes[4 * 771 * 7..][..4 * 771], &bytes[4 * 771 * 3..][..4 * 771]].concat())
        );
        assert_eq!(some.to_array().unwrap(), features.select(ndarray::Axis(0), &[7, 3]));
        assert_eq!(some.fingerprint(&[1]).unwrap(), digest(&bytes[4 * 771 * 3..][..4 * 771]));
        let mut filled = Images::default();
        some.fill(&[1, 0, 1], None, &mut filled).unwrap();
        assert_eq!(filled.features().unwrap(), features.select(ndarray::Axis(0), &[3, 7, 3]));
        let error = some.fill(&[0, 2], None, &mut filled).unwrap_err().to_string();
        assert_eq!(error, "images: expected a row below 2, found row 2");
    }

    #[test]
    fn blocks_follow_each_other() {
        let images = SplitImages::from(Array2::from_shape_fn((3, 3 << 20), |(r, _)| r as f32));
        let mut seen = Vec::new();
        images
            .in_blocks(|first, images| {
                seen.push((first, images.features()?.column(0).to_vec()));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(0, vec![0.0]), (1, vec![1.0]), (2, vec![2.0])], "12 MiB each");
    }
}
