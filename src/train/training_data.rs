//! What a training reads.

use super::checkpoint::Fingerprints;
use crate::data::{Crops, Pairs, RandomCrop, Source};
use crate::error::{Error, Result};
use crate::files::digest;
use crate::model::{Architecture, Config, View};

/// What becomes of pictures in a training with these settings.
#[must_use]
pub(crate) fn crops_of(config: &Config) -> Crops {
    let random = match config.view {
        View::Centre => None,
        View::Random => Some(RandomCrop::Today),
        View::Random2019 => Some(RandomCrop::Before2019),
    };
    Crops { resize: config.resize, crop: config.crop_size, random, upright: config.upright }
}

/// Where the splits of a training with these settings come from.
#[must_use]
pub(crate) fn source_of(config: &Config) -> Source {
    match (&config.images, &config.data) {
        (Some(images), Some(captions)) => Source::Pictures {
            captions: captions.clone(),
            images: images.clone(),
            restval: config.restval,
            crops: crops_of(config),
        },
        (None, None) if config.encoder.is_some() => Source::Pixels { labels: config.labels, crops: crops_of(config) },
        (_, data) => Source::new(data.clone()).holding_out(config.hold_out),
    }
}

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

    /// Whether the images are what the model takes: feature vectors of its size, or pictures if it has an encoder.
    pub(super) fn check(&self, architecture: &Architecture) -> Result<()> {
        let img_dim = architecture.img_dim;
        for Pairs { split, .. } in [&self.train, &self.dev] {
            if architecture.encoder.is_some() && split.images().shape().len() == 3 {
                continue;
            }
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
