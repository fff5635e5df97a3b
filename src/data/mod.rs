//! Data: captions, tokens, vocabulary, image features, batches, and the built-in scenes.

mod ahead;
mod batches;
mod captions;
mod copies;
mod features;
mod folder;
mod pairing;
mod plausible;
mod row_file;
pub mod scenes;
mod source;
mod split;
mod store;
pub(crate) mod tokenizer;
mod vocabulary;

pub use ahead::{Ahead, Plan, Prepared, prepare_ahead};
pub use batches::EpochOrder;
pub(crate) use copies::differ_little;
pub use copies::{Copies, Grouping, NEARLY};
pub use row_file::RowFile;
pub use source::Source;
pub use split::Split;
pub use store::{Draw, ImageStore, Memory, SplitImages};
pub use tokenizer::tokenize;
pub use vocabulary::{Encoded, Vocabulary, tokenize_all};
