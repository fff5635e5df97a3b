//! Training: steps, epochs, validation, model selection, checkpoints.
//!
//! The trainer prints nothing. It sends every [`Event`] to an [`Observer`]; `report` shows them.

pub(crate) mod checkpoint;
pub(crate) mod collapse;
pub(crate) mod embed;
pub(crate) mod events;
mod features;
pub(crate) mod figures;
mod pace;
pub(crate) mod progress;
pub(crate) mod run_folder;
mod team;
pub(crate) mod trained;
pub(crate) mod trainer;
mod training_data;
mod weights;

pub use checkpoint::Checkpoint;
pub(crate) use checkpoint::load_model;
pub use collapse::Collapse;
pub(crate) use collapse::CollapseDetector;
pub use events::{Event, Ignore, Observer};
pub(crate) use features::{About, Extraction, digest_of_names, digest_of_weights};
pub use figures::{EpochReport, Pace, StepReport};
pub use progress::{Best, Progress};
pub use run_folder::Run;
pub(crate) use run_folder::{RunFolder, Which};
pub(crate) use team::Team;
pub use trained::{Embedded, Trained};
pub use trainer::{Outcome, Trainer};
pub use training_data::TrainingData;
pub(crate) use training_data::source_of;
pub(crate) use weights::{has_parameters, parameters_of};
pub use weights::{read_encoder, read_parameters};
