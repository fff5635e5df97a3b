//! Retrieval: ranks, recall, folds, search.

mod nearest;
mod ranks;
mod recall;

pub use nearest::{Query, nearest};
pub use ranks::{Ranks, rank};
pub use recall::{Evaluation, Recall, evaluate, evaluate_folds};
