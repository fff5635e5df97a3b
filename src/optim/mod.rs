//! Optimisation: Adam, clipping by the global norm, the step schedule. It works on any
//! [`Module`](crate::nn::Module) and knows no model.

mod adam;
mod clip;
mod schedule;

pub use adam::{Adam, Group, Moments, gradient_of};
pub use clip::{clip_coefficient, global_norm};
pub use schedule::learning_rate;
