//! What a training reads.

use super::checkpoint::Fingerprints;
use crate::data::Pairs;
use crate::error::{Error, Result};
use crate::files::digest;

/// The two splits that training reads.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// To train on.
    pub train: Pairs,
    /// To choose the best epoch by.
    pub dev: Pairs,
}

impl TrainingData {
    /// Identifies the data: for both splits the numbers of captions and images, and a digest of all
    /// features, all tokens, and the image of each caption.
    ///
    /// # Errors
    ///
    /// If an image cannot be read.
    pub(crate) fn fingerprints(&self) -> Result<Fingerprints> {
        Ok(Fingerprints { train: fingerprint(&self.train)?, dev: fingerprint(&self.dev)? })
    }

    /// Whether the images have the size that the model takes.
    pub(super) fn check(&self, img_dim: usize) -> Result<()> {
        for Pairs { split, .. } in [&self.train, &self.dev] {
            let (name, found) = (&split.name, split.img_dim()?);
            if found != img_dim {
                let problem = format!("{name}: expected image features of dimension F = {img_dim}, found {found}");
                return Err(Error::mismatch(problem));
            }
        }
        Ok(())
    }
}

fn fingerprint(Pairs { split, ids }: &Pairs) -> Result<String> {
    let mut captions = Vec::new();
    for (ids, image) in ids.iter().zip(&split.image_of) {
        captions.extend((*image as u64).to_le_bytes());
        captions.extend((ids.len() as u64).to_le_bytes());
        captions.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    let both = split.images.digest()? + &digest(&captions);
    // 128 bits are enough to tell any two data sets apart.
    let digest = &digest(both.as_bytes())[..32];
    let shape: Vec<String> = split.images().shape().iter().map(ToString::to_string).collect();
    let (captions, images, features) = (ids.len(), split.images().len(), shape.join(" × "));
    Ok(format!("{captions} captions of {images} images with {features} features, {digest}"))
}
