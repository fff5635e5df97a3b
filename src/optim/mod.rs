//! Optimisation: Adam, clipping by the global norm, the step schedule.

pub mod adam;
pub mod clip;
pub mod schedule;

pub use adam::Adam;
pub use clip::{clip_coefficient, global_norm};
pub use schedule::learning_rate;
