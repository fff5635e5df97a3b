//! What a training reads.

use super::checkpoint::Fingerprints;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::files::digest;

/// The splits that training reads, with their captions as ids.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// To train on.
    pub train: Split,
    /// Its captions' ids.
    pub train_ids: Vec<Vec<u32>>,
    /// To choose the best epoch by.
    pub dev: Split,
    /// Its captions' ids.
    pub dev_ids: Vec<Vec<u32>>,
}

impl TrainingData {
    /// Identifies the data: for both splits the numbers of captions and images, and a digest of all
    /// features, of all tokens, and of which caption belongs to which image.
    ///
    /// # Errors
    ///
    /// If an image cannot be read.
    pub fn fingerprints(&self) -> Result<Fingerprints> {
        let train = fingerprint(&self.train, &self.train_ids)?;
        Ok(Fingerprints { train, dev: fingerprint(&self.dev, &self.dev_ids)? })
    }

    /// Whether every caption has an image, and every image the size that the model takes.
    pub(super) fn check(&self, img_dim: usize) -> Result<()> {
        for (split, ids) in [(&self.train, &self.train_ids), (&self.dev, &self.dev_ids)] {
            let (name, images) = (&split.name, split.images.len());
            let captions = split.image_of.len();
            if ids.len() != captions || captions == 0 {
                let problem =
                    format!("{name}: expected the ids of its {captions} captions, found those of {}", ids.len());
                return Err(Error::mismatch(problem));
            }
            if let Some((caption, image)) = split.image_of.iter().enumerate().find(|(_, image)| **image >= images) {
                let problem = format!("{name}: caption {caption}: expected an image below {images}, found {image}");
                return Err(Error::mismatch(problem));
            }
            let found = split.img_dim()?;
            if found != img_dim {
                let problem = format!("{name}: expected image features of dimension F = {img_dim}, found {found}");
                return Err(Error::mismatch(problem));
            }
        }
        Ok(())
    }
}

fn fingerprint(split: &Split, ids: &[Vec<u32>]) -> Result<String> {
    let mut captions = Vec::new();
    for (ids, image) in ids.iter().zip(&split.image_of) {
        captions.extend((*image as u64).to_le_bytes());
        captions.extend((ids.len() as u64).to_le_bytes());
        captions.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    let both = split.images.fingerprint()? + &digest(&captions);
    // 128 bits distinguish any two data sets.
    let digest = &digest(both.as_bytes())[..32];
    let shape: Vec<String> = split.images.shape().iter().map(ToString::to_string).collect();
    let (captions, images, features) = (ids.len(), split.images.len(), shape.join(" × "));
    Ok(format!("{captions} captions of {images} images with {features} features, {digest}"))
}
