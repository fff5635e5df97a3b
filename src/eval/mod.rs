//! Retrieval: ranks, recall, folds, search.

pub mod nearest;
pub mod ranks;
pub mod recall;

pub use nearest::{Query, nearest};
pub use ranks::{Ranks, rank};
pub use recall::{Evaluation, Recall, evaluate, evaluate_folds};
