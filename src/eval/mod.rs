//! Retrieval: ranks, recall, folds, the chance level, files of vectors, search.

pub(crate) mod chance;
pub(crate) mod embeddings;
mod names;
pub(crate) mod nearest;
pub(crate) mod percentile;
pub(crate) mod ranks;
pub(crate) mod recall;

pub(crate) use chance::Chance;
pub use embeddings::Embeddings;
pub(crate) use names::Names;
pub use nearest::{Query, nearest};
pub(crate) use percentile::hardest_percentile;
pub use ranks::{Ranks, rank};
pub use recall::{Evaluation, Recall, evaluate, evaluate_folds};
