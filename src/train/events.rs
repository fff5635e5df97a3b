//! What happens in a training, for observers.

use serde::Serialize;

use super::collapse::Collapse;
use super::progress::Progress;
use crate::error::Result;
use crate::eval::Evaluation;
use crate::model::ValidConfig;

/// Receives training events.
pub trait Observer {
    /// Takes an event.
    ///
    /// **Errors** if it cannot, for example because a disk is full; the training then ends with it.
    fn event(&mut self, event: &Event<'_>) -> Result<()>;
}

/// Ignores every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore;

impl Observer for Ignore {
    fn event(&mut self, _: &Event<'_>) -> Result<()> {
        Ok(())
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The first step is about to be taken, or the first after a checkpoint; all is ready.
    Started {
        /// The settings.
        config: &'a ValidConfig,
        /// Numbers trained.
        parameters: usize,
        /// Pairs in an epoch.
        pairs: usize,
        /// Steps in an epoch.
        batches: usize,
        /// How far it is.
        progress: &'a Progress,
    },
    /// A step was taken.
    Step(&'a StepReport),
    /// The embeddings have collapsed.
    Collapsed(&'a Collapse),
    /// The dev split was evaluated in the middle of an epoch.
    Validated {
        /// Steps taken so far.
        step: u64,
        /// The epoch, from 1.
        epoch: usize,
        /// The result.
        dev: &'a Evaluation,
    },
    /// An epoch ended, its dev evaluation done.
    EpochEnded(&'a EpochReport),
    /// A stop was asked for; what was done is saved now.
    Interrupted {
        /// How far it is.
        progress: &'a Progress,
    },
    /// All epochs are done.
    Finished {
        /// How far it is.
        progress: &'a Progress,
    },
}

/// The figures of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// The batch within the epoch, from 1.
    pub batch: usize,
    /// Batches in the epoch.
    pub batches: usize,
    /// Pairs in this batch.
    pub pairs: usize,
    /// The loss, a sum over the batch.
    pub loss: f64,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// And after.
    pub clipped_norm: f64,
    /// Share of the hinges that count.
    pub active: f64,
    /// Greatest less smallest score of the batch: near 0 when the embeddings are all alike.
    pub score_spread: f64,
    /// Pairs of captions in this batch that show one image.
    pub same_image_pairs: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Seconds that the step took, waiting for its batch included.
    pub seconds: f64,
}

/// The figures of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps taken so far.
    pub step: u64,
    /// The loss of this epoch: `sum`, `max`, or the name of a loss of one's own.
    #[serde(rename = "violation")]
    pub loss: &'static str,
    /// Adam's step size.
    pub learning_rate: f64,
    /// The loss for each pair: the steps' losses over the pairs, so that a smaller last batch weighs
    /// no more than its pairs. At collapse MH has 2α.
    pub loss_per_pair: f64,
    /// Mean global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Share of the steps that were clipped.
    pub clipped: f64,
    /// Mean share of the hinges that count.
    pub active: f64,
    /// Pairs of captions of one image that met in a batch.
    pub same_image_pairs: usize,
    /// Seconds of training, with all that lies between the steps; validation and saving not counted.
    pub seconds: f64,
    /// Pairs a second.
    pub pairs_per_second: f64,
    /// Share of the seconds in which training waited for its next batch.
    pub waiting: f64,
    /// The dev split.
    pub dev: Evaluation,
    /// Whether its rsum is the best so far.
    pub best: bool,
}
