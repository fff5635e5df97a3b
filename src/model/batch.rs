//! The input of one training step.

use ndarray::{Array2, Array4, ArrayView2, ArrayViewMut2};

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
    pub fn len(&self) -> usize {
        self.shape()[0]
    }

    /// B = 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [B, F] or [B, 3, Y, X].
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Features(features) => features.shape(),
            Self::Pixels(pixels) => pixels.shape(),
        }
    }

    /// All numbers, image by image. None if an array is not in standard layout.
    #[must_use]
    pub fn numbers(&self) -> Option<&[T]> {
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
    pub fn make_features(&mut self, size: usize, features: usize) -> ArrayViewMut2<'_, T> {
        if let Self::Pixels(_) = self {
            *self = Self::default();
        }
        let Self::Features(matrix) = self else { unreachable!("pixels were just replaced") };
        linalg::reshape(matrix, (size, features));
        matrix.view_mut()
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
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T> {
    /// One image for each pair: an image with two captions in the batch occurs twice.
    pub images: Images<T>,
    /// The captions' token ids, `<start>` … `<end>`, B of them, not padded.
    pub captions: Vec<Vec<u32>>,
    /// Which image each pair shows, `[B]`: equal ids are captions of one image.
    pub image_ids: Vec<usize>,
}

impl<T> Batch<T> {
    /// B.
    #[must_use]
    pub fn len(&self) -> usize {
        self.captions.len()
    }

    /// B = 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.captions.is_empty()
    }

    /// Unordered pairs of captions that show the same image: false negatives of each other.
    /// 1.08 are expected in a batch of 128 from Flickr8k, 0.22 from `Flickr30K`, 0.06 from COCO.
    #[must_use]
    pub fn same_image_pairs(&self) -> usize {
        self.same_image_pairs_with(&mut Vec::new())
    }

    /// As [`Self::same_image_pairs`], with `ids` as scratch memory.
    pub fn same_image_pairs_with(&self, ids: &mut Vec<usize>) -> usize {
        ids.clone_from(&self.image_ids);
        ids.sort_unstable();
        ids.chunk_by(|a, b| a == b).map(|same| same.len() * (same.len() - 1) / 2).sum()
    }

    /// # Errors
    ///
    /// If images, captions and ids differ in number, if an image does not have F features, or if a caption
    /// is empty.
    pub(super) fn check(&self, features: usize) -> Result<()> {
        let size = self.len();
        if self.images.shape() != [size, features] {
            let expected = format!("[B = {size}, F = {features}]");
            return Err(Error::shape("images", expected, self.images.shape()));
        }
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
        let batch = Batch { images: Array2::<f32>::zeros((6, 1)).into(), captions: vec![vec![1, 2]; 6], image_ids };
        assert_eq!(batch.same_image_pairs(), 3 + 1);
    }

    #[test]
    fn images_have_a_kind_and_a_shape() {
        let features = Images::from(Array2::<f32>::ones((4, 5)));
        assert_eq!((features.len(), features.shape(), features.is_empty()), (4, &[4, 5][..], false));
        assert_eq!(features.features().unwrap().dim(), (4, 5));
        let pixels = Images::from(Array4::<f32>::zeros((4, 3, 8, 6)));
        assert_eq!((pixels.len(), pixels.shape()), (4, &[4, 3, 8, 6][..]));
        let error = pixels.features().unwrap_err().to_string();
        assert_eq!(error, "images: expected feature vectors [B, F], found [4, 3, 8, 6]");
        assert!(Images::<f64>::default().is_empty());
        let batch = Batch { images: pixels, captions: vec![vec![1, 2]; 4], image_ids: vec![0; 4] };
        assert_eq!(batch.check(5).unwrap_err().to_string(), "images: expected [B = 4, F = 5], found [4, 3, 8, 6]");
    }
}
