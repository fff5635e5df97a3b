//! Retrieval: ranks, recall, folds.

mod ranks;
mod recall;

pub use ranks::{Ranks, rank};
pub use recall::{Evaluation, Recall, evaluate, evaluate_folds};
