//! Training: steps, epochs, validation, model selection, checkpoints.
//!
//! The trainer prints nothing. It tells an [`Observer`] what happens ([`Event`]); [`crate::report`]
//! shows it.

pub mod checkpoint;
pub mod collapse;
pub mod events;
pub mod run_folder;
pub mod trainer;

pub use checkpoint::{Best, Checkpoint, EpochTotals, Progress, load_model};
pub use collapse::{Collapse, CollapseDetector};
pub use events::{EpochReport, Event, Ignore, Observer, StepReport};
pub use run_folder::RunFolder;
pub use trainer::{Outcome, Trainer, TrainingData, check_vocabulary};
