//! Pictures: from files to the numbers that an image encoder sees.
//!
//! A file is decoded ([`Picture::read`]: `jpeg.rs`, `png.rs`, `exif.rs`, within `limits.rs`), cropped and resized
//! (`crops.rs`, `resize.rs`) and normalised (`normalise.rs`). [`PictureFiles`] does this for the pictures of a folder
//! or a list, when they are needed. From decoded pixels on, the bits are those of Pillow and torchvision;
//! `docs/pictures.md` says what is read, and how far decoders differ.

mod crops;
mod decode;
mod exif;
mod jpeg;
mod limits;
mod list;
mod normalise;
mod picture;
mod png;
mod resize;
mod store;

pub use crops::{Crops, RandomCrop};
pub use picture::Picture;
#[cfg(test)]
pub(crate) use png::encode;
pub use store::PictureFiles;

#[cfg(test)]
mod tests;
