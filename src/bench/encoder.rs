//! An image encoder: the forward pass of some pictures, and a fine-tuning step.

use serde::Serialize;

use super::captions::{Captions, batch};
use super::effort::Effort;
use super::measure::{Peak, Timing};
use super::size::{Model, Size};
use super::spread::Spread;
use super::subject::Training;
use super::work::{operations, products};
use crate::error::Result;
use crate::model::Batch;
use crate::nn::PrefixTree;
use crate::train::Team;

/// The results for one encoder.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EncoderReport {
    /// The encoder.
    pub encoder: Size,
    /// Pictures in the batch.
    pub pictures: usize,
    /// Their rows and columns.
    pub picture: [usize; 2],
    /// The number of trained parameters of the whole model.
    pub parameters: u128,
    /// Useful operations of a forward pass of the encoder.
    pub forward_operations: f64,
    /// Useful operations of a step.
    pub step_operations: f64,
    /// The times for each number of threads.
    pub measured: Vec<EncoderMeasured>,
}

/// One encoder on one number of threads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EncoderMeasured {
    /// How many threads.
    pub threads: usize,
    /// From the pictures to φ; nothing is kept for a backward pass.
    pub forward: Rate,
    /// The trainer's step, with running statistics.
    pub step: Rate,
}

/// A time, and pictures per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Rate {
    /// For all pictures.
    #[serde(flatten)]
    pub timing: Timing,
    /// By the median.
    pub pictures_per_second: f64,
}

/// The useful operations of an encoder's forward pass, and of a step: the encoder's, and those of all other products.
/// The pictures have no gradient. What a step computes again, to save memory, counts once.
pub(super) fn useful_operations(model: &Model, captions: &[Vec<u32>]) -> [f64; 2] {
    let network = model.architecture.encoder;
    let [first, others] = network.map_or([0, 0], |network| network.multiplications([network.side(); 2]));
    let [first, others] = [first, others].map(|count| 2.0 * count as f64 * captions.len() as f64);
    let rest = operations(&products(&model.architecture, &PrefixTree::new(captions)), None);
    [first + others, 2.0 * first + 3.0 * others + rest]
}

/// An encoder to be measured.
pub(super) struct Pictures {
    model: Model,
    batch: Batch<f32>,
    forward_operations: f64,
    step_operations: f64,
}

impl Pictures {
    pub(super) fn new(model: &Model, captions: &Captions) -> Result<Self> {
        let captions = model.captions(captions, model.config.batch_size)?;
        let [forward_operations, step_operations] = useful_operations(model, &captions);
        let batch = batch(&model.architecture, captions);
        Ok(Self { model: model.clone(), batch, forward_operations, step_operations })
    }

    pub(super) fn report(&self) -> EncoderReport {
        EncoderReport {
            encoder: self.model.size,
            pictures: self.batch.len(),
            picture: [self.model.architecture.encoder.map_or(0, |network| network.side()); 2],
            parameters: self.model.architecture.parameters(),
            forward_operations: self.forward_operations,
            step_operations: self.step_operations,
            measured: Vec::new(),
        }
    }

    /// Measures both on the threads of the current pool.
    pub(super) fn measure(&self, effort: Effort, peak: &Peak, announce: &dyn Fn(&str)) -> Result<EncoderMeasured> {
        let threads = rayon::current_num_threads();
        let (mut training, mut team) = (Training::new(&self.model)?, Team::new(threads)?);
        let rate = |seconds: Spread, operations| Rate {
            timing: Timing::new(seconds, operations, peak),
            pictures_per_second: self.batch.len() as f64 / seconds.median,
        };
        announce("fine-tuning steps");
        let step = effort.try_time(|| team.run(|| training.step(&self.batch)))?;
        announce("forward pass");
        let pictures = self.batch.images().pixels()?;
        let forward = effort.try_time(|| team.run(|| training.embed(pictures.view())))?;
        Ok(EncoderMeasured {
            threads,
            forward: rate(forward, self.forward_operations),
            step: rate(step, self.step_operations),
        })
    }
}
