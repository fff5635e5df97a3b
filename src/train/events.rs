//! The events of a training, for observers.

use super::collapse::Collapse;
use super::figures::{EpochReport, Pace, StepReport};
use super::progress::Progress;
use crate::error::Result;
use crate::eval::Evaluation;
use crate::model::ValidConfig;

/// Receives training events, on the thread that takes the steps.
pub trait Observer: Send {
    /// Handles an event.
    ///
    /// # Errors
    ///
    /// If it fails, for example because a disk is full. The training then ends with this error.
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
    /// The first step is about to be taken, or the first after a resume.
    Started {
        /// The settings.
        config: &'a ValidConfig,
        /// How many numbers are trained.
        parameters: usize,
        /// Pairs in an epoch.
        pairs: usize,
        /// Steps in an epoch.
        batches: usize,
        /// How far the training is.
        progress: &'a Progress,
    },
    /// The number of threads for the steps was chosen by these times; the chosen one is the first.
    ThreadsChosen(&'a [Pace]),
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
        /// As in [`EpochReport::hardest_percentile`].
        hardest_percentile: Option<f64>,
    },
    /// An epoch has ended, and dev has been evaluated.
    EpochEnded(&'a EpochReport),
    /// The training was asked to stop; it saves a checkpoint next.
    Interrupted {
        /// How far the training is.
        progress: &'a Progress,
    },
    /// All epochs are done.
    Finished {
        /// How far the training is.
        progress: &'a Progress,
    },
}
