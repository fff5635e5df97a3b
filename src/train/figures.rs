//! The figures of a step and of an epoch, for observers.

use serde::Serialize;

use crate::eval::Evaluation;

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
    /// The same after clipping.
    pub clipped_norm: f64,
    /// Share of the queries, images and captions, with a hinge that counts.
    pub active: f64,
    /// Hinges that count, per query.
    pub votes: f64,
    /// How much more a negative that counts scores than the right pair, in the mean: the loss over the weights of its
    /// terms, less α. Near collapse, the scores are drawn together where it is positive, and part where it is negative.
    pub gap: f64,
    /// Largest minus smallest score of the batch: near 0 when all embeddings are alike.
    pub score_spread: f64,
    /// Pairs of captions in this batch that show one image.
    pub same_image_pairs: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Seconds that the step took, including the wait for its batch.
    pub seconds: f64,
}

/// The figures of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps taken so far.
    pub step: u64,
    /// The loss of this epoch: `sum`, `max`, or the name of a loss from outside the crate.
    #[serde(rename = "violation")]
    pub loss: &'static str,
    /// Adam's step size.
    pub learning_rate: f64,
    /// The loss per pair: the sum of the steps' losses divided by the pairs, so that a smaller last batch
    /// has no more weight than its pairs. At collapse it is 2α for MH.
    pub loss_per_pair: f64,
    /// Mean global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Share of the steps that were clipped.
    pub clipped: f64,
    /// Mean share of the queries with a hinge that counts.
    pub active: f64,
    /// Pairs of captions of one image that met in a batch.
    pub same_image_pairs: usize,
    /// Seconds of training, including everything between the steps except validation and saving.
    pub seconds: f64,
    /// Pairs per second.
    pub pairs_per_second: f64,
    /// Share of the seconds in which training waited for its next batch.
    pub waiting: f64,
    /// The evaluation on the dev split.
    pub dev: Evaluation,
    /// How hard the hardest negative of a batch of dev is: (EVAL-5), the mean over the queries of one batch. None if
    /// a query has no negative.
    pub hardest_percentile: Option<f64>,
    /// Whether its rsum is the best so far.
    pub best: bool,
}

/// The time of a step on a number of threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How many threads.
    pub threads: usize,
    /// Seconds of forward and backward pass.
    pub seconds: f64,
}
