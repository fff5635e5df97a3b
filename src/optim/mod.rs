//! Optimisation: Adam, clipping by the global norm, the step schedule.

mod adam;
mod clip;
mod schedule;

pub use adam::Adam;
pub use clip::{clip_coefficient, global_norm};
pub use schedule::learning_rate;
