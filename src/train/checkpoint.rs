//! Checkpoints: safetensors with the parameters under the original's names.
//!
//! `last.safetensors` holds all that training needs to go on with the same bits: parameters, Adam's
//! moments (`adam.m.*`, `adam.v.*`) and, as JSON in the metadata, the settings, the step, the epoch,
//! the position in it and the best score. There is no state of a random generator to keep: the order
//! of an epoch is a function of seed and epoch. `best.safetensors` holds the parameters and the same
//! metadata. `PyTorch` reads both with `safetensors.torch.load_file`.

use std::path::Path;

use ndarray::Dimension;
use serde::{Deserialize, Serialize};

use super::collapse::CollapseDetector;
use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::files::{TensorFile, TensorWriter};
use crate::model::{Architecture, Config, Parameters, Vse};
use crate::optim::Adam;

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// The epoch that is under way, from 0; `num_epochs` when all are done.
    pub epoch: usize,
    /// Batches of it that are done.
    pub batch: usize,
    /// The epoch's figures so far.
    pub totals: EpochTotals,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// Whether the embeddings look alike, and for how long.
    pub collapse: CollapseDetector,
}

/// Sums over the steps of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochTotals {
    /// Losses.
    pub loss: f64,
    /// Norms before clipping.
    pub grad_norm: f64,
    /// Steps that were clipped.
    pub clipped: usize,
    /// Shares of active hinges.
    pub active: f64,
    /// Pairs.
    pub pairs: usize,
    /// Pairs of captions of one image.
    pub same_image_pairs: usize,
    /// Seconds.
    pub seconds: f64,
    /// Those of them in which training waited for a batch.
    #[serde(default)]
    pub waiting: f64,
}

/// The best epoch by rsum on the dev split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Its evaluation on the dev split.
    pub dev: Evaluation,
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    format: String,
    /// Sizes and switches.
    pub architecture: Architecture,
    /// The settings it was trained with.
    pub config: Config,
    /// [`super::TrainingData::fingerprint`] of what it was trained on.
    pub data: String,
    /// [`crate::data::Vocabulary::fingerprint`] of the vocabulary it was trained with.
    pub vocabulary: String,
    /// How far the training was.
    pub progress: Progress,
}

impl Checkpoint {
    const FORMAT: &str = "vsepp-checkpoint-1";

    /// A description to be written.
    #[must_use]
    pub fn new(
        architecture: Architecture,
        config: Config,
        data: String,
        vocabulary: String,
        progress: Progress,
    ) -> Self {
        Self { format: Self::FORMAT.into(), architecture, config, data, vocabulary, progress }
    }

    /// Writes parameters, and the moments where they are wanted; all or nothing.
    ///
    /// **Errors** if the disk refuses.
    pub fn write(&self, path: &Path, parameters: &Parameters<f32>, adam: Option<&Adam<f32>>) -> Result<()> {
        let mut writer = TensorWriter::default();
        for (name, tensor) in parameters.named() {
            writer.add(name, &tensor);
        }
        if let Some(adam) = adam {
            for (moment, parameters) in [("adam.m", &adam.m), ("adam.v", &adam.v)] {
                for (name, tensor) in parameters.named() {
                    writer.add(format!("{moment}.{name}"), &tensor);
                }
            }
        }
        let json = serde_json::to_string(self).map_err(|e| Error::file(path, e.to_string()))?;
        writer.write_safetensors(path, Some(json))
    }

    /// Reads what a checkpoint says of itself, its parameters, and its moments where it has them.
    ///
    /// **Errors** if the file is missing, truncated, not written by this program, or if a tensor is
    /// missing, has another shape or a number that is not finite.
    pub fn read(path: &Path) -> Result<(Self, Parameters<f32>, Option<Adam<f32>>)> {
        let file = TensorFile::read(path)?;
        let json = file.metadata().ok_or_else(|| {
            Error::file(path, "not a checkpoint of this program: expected the metadata key `vsepp`, found none")
        })?;
        let checkpoint: Self = serde_json::from_str(json)
            .map_err(|e| Error::file(path, format!("not a checkpoint of this version of the program: {e}")))?;
        if checkpoint.format != Self::FORMAT {
            let problem = format!("format: expected {}, found {}", Self::FORMAT, checkpoint.format);
            return Err(Error::file(path, problem));
        }
        // The sizes before the memory: those in the metadata may be anything.
        checkpoint.architecture.check().map_err(|e| Error::file(path, e.to_string()))?;
        let parameters = read_parameters(&file, "", &checkpoint.architecture)?;
        let adam = if file.names().any(|name| name.starts_with("adam.")) {
            Some(Adam {
                m: read_parameters(&file, "adam.m.", &checkpoint.architecture)?,
                v: read_parameters(&file, "adam.v.", &checkpoint.architecture)?,
                step: checkpoint.progress.step,
            })
        } else {
            None
        };
        Ok((checkpoint, parameters, adam))
    }
}

#[allow(clippy::cast_possible_truncation)] // they were f32 before
fn read_parameters(file: &TensorFile, prefix: &str, architecture: &Architecture) -> Result<Parameters<f32>> {
    let mut parameters = Parameters::zeros(architecture);
    for (name, mut tensor) in parameters.named_mut() {
        let name = format!("{prefix}{name}");
        let values = file.get_shaped(&name, tensor.shape())?;
        if let Some((index, value)) = values.indexed_iter().find(|(_, x)| !x.is_finite()) {
            return Err(Error::file(
                file.path(),
                format!("{name}: {value} at {:?}: every value must be finite", index.slice()),
            ));
        }
        tensor.zip_mut_with(&values, |x, &value| *x = value as f32);
    }
    Ok(parameters)
}

/// A trained model from a checkpoint.
///
/// **Errors** as [`Checkpoint::read`].
pub fn load_model(path: &Path) -> Result<(Vse<f32>, Checkpoint)> {
    let (checkpoint, parameters, _) = Checkpoint::read(path)?;
    Ok((Vse { architecture: checkpoint.architecture, parameters }, checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (Checkpoint, Parameters<f32>) {
        let config = Config { embed_size: 4, word_dim: 3, ..Config::default() };
        let architecture = config.clone().check().unwrap().architecture(7, 5);
        let best = Some(Best { epoch: 1, dev: Evaluation { rsum: 0.1 + 0.2, ..Evaluation::default() } });
        let progress = Progress { step: 12, best, ..Progress::default() };
        (
            Checkpoint::new(architecture, config, "data".into(), "abc".into(), progress),
            Parameters::init(&architecture, 3),
        )
    }

    #[test]
    fn everything_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (checkpoint, parameters) = small();
        let mut adam = Adam::new(&checkpoint.architecture);
        adam.step = 12;
        adam.m.fill_with(|| 1.0e-42); // a subnormal number
        adam.v.fill_with(|| 0.1);
        checkpoint.write(&path, &parameters, Some(&adam)).unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap(), (checkpoint, parameters, Some(adam)));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let message = || Checkpoint::read(&path).unwrap_err().to_string();
        let (checkpoint, parameters) = small();
        checkpoint.write(&path, &parameters, None).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        assert!(message().contains("truncated"), "{}", message());
        let mut writer = TensorWriter::default();
        writer.add("weight", &ndarray::array![1.0f32].view().into_dyn());
        writer.write_safetensors(&path, None).unwrap();
        assert!(message().contains("not a checkpoint of this program"));
        writer.write_safetensors(&path, Some("{}".into())).unwrap();
        assert!(message().contains("not a checkpoint of this version"));
        let mut other = checkpoint.clone();
        other.architecture.embed_size = 9;
        other.write(&path, &parameters, None).unwrap();
        assert!(message().contains("img_enc.fc.weight: expected shape [9, 5], found [4, 5]"), "{}", message());
        for spoil in [|a: &mut Architecture| a.hidden_size = 10_000_000_000, |a: &mut Architecture| a.num_layers = 0] {
            let mut other = checkpoint.clone();
            spoil(&mut other.architecture);
            other.write(&path, &parameters, None).unwrap();
            assert!(message().contains("expected at least one layer and at most"), "{}", message());
        }
        let mut spoiled = parameters.clone();
        spoiled.img_enc.fc.bias[2] = f32::NAN;
        checkpoint.write(&path, &spoiled, None).unwrap();
        assert!(message().contains("img_enc.fc.bias: NaN at [2]"), "{}", message());
    }
}
