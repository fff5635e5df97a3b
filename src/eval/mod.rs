//! Retrieval: ranks, recall, folds, the chance level, files of vectors, search.

pub mod chance;
pub mod embeddings;
pub mod nearest;
pub mod ranks;
pub mod recall;

pub use chance::Chance;
pub use embeddings::{Embeddings, Names};
pub use nearest::{Query, nearest};
pub use ranks::{Ranks, rank};
pub use recall::{Evaluation, Recall, evaluate, evaluate_folds};
