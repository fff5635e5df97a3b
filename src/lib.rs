//! VSE++ as an executable specification.
#![cfg_attr(test, allow(clippy::float_cmp, clippy::cast_possible_truncation))]

pub mod data;
pub mod error;
pub mod eval;
pub mod files;
pub mod gradcheck;
pub mod linalg;
pub mod loss;
pub mod model;
pub mod nn;
pub mod optim;
pub mod random;
pub mod real;
pub mod report;
pub mod similarity;
pub mod train;

pub use error::{Error, ErrorKind, Result};
