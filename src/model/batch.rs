//! What one step of training sees.

use ndarray::Array2;

use crate::error::{Error, Result};

/// B pairs of an image and one of its captions.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<T> {
    /// φ: the image feature vectors, [B, F]; an image with two captions in the batch stands twice.
    pub images: Array2<T>,
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

    /// As [`Self::same_image_pairs`]; sorts in the memory of `ids`.
    pub fn same_image_pairs_with(&self, ids: &mut Vec<usize>) -> usize {
        ids.clone_from(&self.image_ids);
        ids.sort_unstable();
        ids.chunk_by(|a, b| a == b).map(|same| same.len() * (same.len() - 1) / 2).sum()
    }

    /// **Errors** unless there are as many images, captions and ids, and F features.
    pub(super) fn check(&self, features: usize) -> Result<()> {
        let size = self.len();
        if self.images.dim() != (size, features) {
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
        let batch = Batch { images: Array2::<f32>::zeros((6, 1)), captions: vec![vec![1, 2]; 6], image_ids };
        assert_eq!(batch.same_image_pairs(), 3 + 1);
    }
}
