//! Data: captions, tokens, vocabulary, image features, batches, and the built-in scenes.

mod ahead;
pub(crate) mod batches;
mod captioned;
mod captions;
mod copies;
mod features;
mod folder;
mod pairing;
mod pairs;
pub(crate) mod pictures;
mod plausible;
mod row_file;
pub(crate) mod scenes;
mod source;
mod split;
mod store;
pub(crate) mod tokenizer;
mod vocabulary;

pub(crate) use ahead::{Ahead, Plan, prepare_ahead};
pub(crate) use copies::{Copies, Grouping, NEARLY, differ_little};
pub use pairs::Pairs;
pub use pictures::{Crops, Picture, PictureFiles, RandomCrop};
pub use row_file::RowFile;
pub use scenes::ScenesConfig;
pub use source::Source;
pub use split::Split;
pub use store::{Draw, ImageStore, Memory};
pub use tokenizer::tokenize;
pub use vocabulary::Vocabulary;
pub(crate) use vocabulary::{Encoded, tokenize_all};
