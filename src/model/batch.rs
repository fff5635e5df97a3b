//! The input of one training step.

use ndarray::{Array2, Array4, ArrayView2, ArrayViewMut2, ArrayViewMut4};

use crate::error::{Error, Result};
use crate::linalg;
use crate::real::Scalar;

/// The images of a batch, one for each pair.
#[derive(Clone, Debug, PartialEq)]
pub enum Images<T> {
    /// φ: feature vectors, [B, F].
    Features(Array2<T>),
    /// Pictures, [B, 3, Y, X], for a model that begins with an image encoder.
    Pixels(Array4<T>),
}

impl<T> Images<T> {
    /// B.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.shape()[0]
    }

    /// [B, F] or [B, 3, Y, X].
    #[must_use]
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Features(features) => features.shape(),
            Self::Pixels(pixels) => pixels.shape(),
        }
    }

    /// All numbers, image by image. None if an array is not in standard layout.
    #[must_use]
    pub(crate) fn numbers(&self) -> Option<&[T]> {
        match self {
            Self::Features(features) => features.as_slice(),
            Self::Pixels(pixels) => pixels.as_slice(),
        }
    }

    /// The feature vectors, [B, F].
    ///
    /// # Errors
    ///
    /// If the images are pixels.
    pub fn features(&self) -> Result<ArrayView2<'_, T>> {
        match self {
            Self::Features(features) => Ok(features.view()),
            Self::Pixels(pixels) => Err(Error::shape("images", "feature vectors [B, F]", pixels.shape())),
        }
    }
}

impl<T: Scalar> Images<T> {
    /// Makes room for feature vectors [B, F], reusing the memory where it suffices. Their values are
    /// unspecified: the caller overwrites them.
    pub(crate) fn make_features(&mut self, size: usize, features: usize) -> ArrayViewMut2<'_, T> {
        if let Self::Pixels(_) = self {
            *self = Self::default();
        }
        let Self::Features(matrix) = self else { unreachable!("pixels were just replaced") };
        linalg::reshape(matrix, (size, features));
        matrix.view_mut()
    }

    /// Makes room for pictures [B, 3, Y, X], as [`Self::make_features`] does for feature vectors.
    pub(crate) fn make_pixels(&mut self, size: usize, [colours, height, width]: [usize; 3]) -> ArrayViewMut4<'_, T> {
        if let Self::Features(_) = self {
            *self = Self::Pixels(Array4::default((0, 0, 0, 0)));
        }
        let Self::Pixels(pixels) = self else { unreachable!("feature vectors were just replaced") };
        linalg::reshape(pixels, (size, colours, height, width));
        pixels.view_mut()
    }
}

impl<T: Default> Default for Images<T> {
    /// No images, of no features.
    fn default() -> Self {
        Self::Features(Array2::default((0, 0)))
    }
}

impl<T> From<Array2<T>> for Images<T> {
    fn from(features: Array2<T>) -> Self {
        Self::Features(features)
    }
}

impl<T> From<Array4<T>> for Images<T> {
    fn from(pixels: Array4<T>) -> Self {
        Self::Pixels(pixels)
    }
}

/// B pairs of an image and one of its captions.
///
/// ```
/// use ndarray::Array2;
/// use vsepp::model::Batch;
///
/// # fn main() -> vsepp::Result<()> {
/// // Two captions of image 7 and one of image 9, with F = 5 features.
/// let captions = vec![vec![1, 4, 2], vec![1, 5, 6, 2], vec![1, 4, 4, 2]];
/// let batch = Batch::new(Array2::<f32>::zeros((3, 5)), captions.clone(), vec![7, 7, 9])?;
/// assert_eq!(batch.captions().len(), 3);
///
/// let error = Batch::new(Array2::<f32>::zeros((2, 5)), captions, vec![7, 7, 9]).unwrap_err();
/// assert_eq!(error.to_string(), "images: expected [B = 3, …], found [2, 5]");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T> {
    /// One image for each pair: an image with two captions in the batch occurs twice.
    pub(crate) images: Images<T>,
    /// The captions' token ids, `<start>` … `<end>`, B of them, not padded.
    pub(crate) captions: Vec<Vec<u32>>,
    /// Which image each pair shows, `[B]`: equal ids are captions of one image.
    pub(crate) image_ids: Vec<usize>,
}

impl<T> Batch<T> {
    /// B images, the token ids of B captions, and which image each pair shows: equal ids are captions of one
    /// image.
    ///
    /// # Errors
    ///
    /// If there are not as many images, captions and ids, or if a caption has no token.
    pub fn new(images: impl Into<Images<T>>, captions: Vec<Vec<u32>>, image_ids: Vec<usize>) -> Result<Self> {
        let batch = Self { images: images.into(), captions, image_ids };
        batch.check_counts()?;
        Ok(batch)
    }

    /// Other images for the same pairs: what an image encoder makes of them, for example.
    ///
    /// # Errors
    ///
    /// If there are not B of them; the batch keeps its own then.
    pub fn set_images(&mut self, images: impl Into<Images<T>>) -> Result<()> {
        let images = images.into();
        self.check_images(&images)?;
        self.images = images;
        Ok(())
    }

    /// One image for each pair.
    #[must_use]
    pub fn images(&self) -> &Images<T> {
        &self.images
    }

    /// The captions' token ids, B of them, not padded.
    #[must_use]
    pub fn captions(&self) -> &[Vec<u32>] {
        &self.captions
    }

    /// Which image each pair shows, `[B]`.
    #[must_use]
    pub fn image_ids(&self) -> &[usize] {
        &self.image_ids
    }

    /// B.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.captions.len()
    }

    /// Unordered pairs of captions that show the same image: false negatives of each other.
    /// 1.08 are expected in a batch of 128 from Flickr8k, 0.22 from `Flickr30K`, 0.06 from COCO.
    /// `ids` is scratch memory.
    pub(crate) fn same_image_pairs(&self, ids: &mut Vec<usize>) -> usize {
        ids.clone_from(&self.image_ids);
        ids.sort_unstable();
        ids.chunk_by(|a, b| a == b).map(|same| same.len() * (same.len() - 1) / 2).sum()
    }

    /// # Errors
    ///
    /// As [`Self::new`], since a store may have filled the images, or if an image does not have F features.
    pub(super) fn check(&self, features: usize) -> Result<()> {
        self.check_counts()?;
        if self.images.shape() != [self.len(), features] {
            let expected = format!("[B = {}, F = {features}]", self.len());
            return Err(Error::shape("images", expected, self.images.shape()));
        }
        Ok(())
    }

    fn check_images(&self, images: &Images<T>) -> Result<()> {
        if images.len() == self.len() {
            return Ok(());
        }
        Err(Error::shape("images", format!("[B = {}, …]", self.len()), images.shape()))
    }

    fn check_counts(&self) -> Result<()> {
        let size = self.len();
        self.check_images(&self.images)?;
        if self.image_ids.len() != size {
            return Err(Error::shape("image_ids", format!("[B = {size}]"), &[self.image_ids.len()]));
        }
        if let Some(empty) = self.captions.iter().position(Vec::is_empty) {
            return Err(Error::mismatch(format!(
                "caption {empty} of the batch: expected at least one token, found none"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_image_pairs_are_counted_once_each() {
        let image_ids = vec![4, 1, 4, 2, 4, 2];
        let batch = Batch::new(Array2::<f32>::zeros((6, 1)), vec![vec![1, 2]; 6], image_ids).unwrap();
        assert_eq!(batch.same_image_pairs(&mut Vec::new()), 3 + 1);
    }

    #[test]
    fn images_have_a_kind_and_a_shape() {
        let features = Images::from(Array2::<f32>::ones((4, 5)));
        assert_eq!((features.len(), features.shape()), (4, &[4, 5][..]));
        assert_eq!(features.features().unwrap().dim(), (4, 5));
        let pixels = Images::from(Array4::<f32>::zeros((4, 3, 8, 6)));
        assert_eq!((pixels.len(), pixels.shape()), (4, &[4, 3, 8, 6][..]));
        let error = pixels.features().unwrap_err().to_string();
        assert_eq!(error, "images: expected feature vectors [B, F], found [4, 3, 8, 6]");
        assert_eq!(Images::<f64>::default().len(), 0);
        let batch = Batch::new(pixels, vec![vec![1, 2]; 4], vec![0; 4]).unwrap();
        assert_eq!(batch.check(5).unwrap_err().to_string(), "images: expected [B = 4, F = 5], found [4, 3, 8, 6]");
    }

    #[test]
    fn what_does_not_belong_together_is_no_batch() {
        let images = || Array2::<f32>::zeros((3, 5));
        let captions = || vec![vec![1, 4, 2], vec![1, 2], vec![1, 5, 2]];
        let message = |batch: Result<Batch<f32>>| batch.unwrap_err().to_string();
        let found = message(Batch::new(Array2::zeros((2, 5)), captions(), vec![0, 1, 2]));
        assert_eq!(found, "images: expected [B = 3, …], found [2, 5]");
        let found = message(Batch::new(images(), captions(), vec![0, 1]));
        assert_eq!(found, "image_ids: expected [B = 3], found [2]");
        let found = message(Batch::new(images(), vec![vec![1], vec![], vec![2]], vec![0, 1, 2]));
        assert_eq!(found, "caption 1 of the batch: expected at least one token, found none");
        let mut batch = Batch::new(images(), captions(), vec![0, 0, 1]).unwrap();
        let before = batch.clone();
        let found = batch.set_images(Array4::zeros((4, 3, 2, 2))).unwrap_err().to_string();
        assert_eq!((found.as_str(), &batch), ("images: expected [B = 3, …], found [4, 3, 2, 2]", &before));
        batch.set_images(Array4::zeros((3, 3, 2, 2))).unwrap();
        assert_eq!(
            (batch.images().shape(), batch.captions(), batch.image_ids()),
            (&[3, 3, 2, 2][..], &captions()[..], &[0, 0, 1][..])
        );
    }
}
