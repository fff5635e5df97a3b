//! Embeddings of a split's images, a block of images at a time.

use ndarray::{Array2, s};

use crate::data::Split;
use crate::error::{ErrorKind, Result};
use crate::model::Vse;

/// Joint embeddings of all images of a split, [N, D]. No more than a block of images is held at once;
/// an embedding does not depend on its block, to the bit.
///
/// # Errors
///
/// If an image cannot be read, has not the size that the model takes, or has an embedding that is zero
/// or not finite.
pub(crate) fn embed_images(model: &Vse<f32>, split: &Split) -> Result<Array2<f32>> {
    let mut embeddings = Array2::zeros((split.images.len(), model.architecture.embed_size));
    split.images.in_blocks(|first, images| {
        let block = model.embed_images(images.features()?).map_err(|error| match *error.kind() {
            ErrorKind::ZeroNorm { side, row } => ErrorKind::ZeroNorm { side, row: first + row }.into(),
            ErrorKind::NotFinite { ref tensor, ref index, value } => {
                let (tensor, mut index) = (tensor.clone(), index.clone());
                if let Some(row) = index.first_mut() {
                    *row += first;
                }
                ErrorKind::NotFinite { tensor, index, value }.into()
            }
            _ => error,
        })?;
        embeddings.slice_mut(s![first..first + block.nrows(), ..]).assign(&block);
        Ok(())
    })?;
    Ok(embeddings)
}
