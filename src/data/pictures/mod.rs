//! Pictures: from files to the numbers that an image encoder sees.
//!
//! A file is decoded ([`Picture::read`]: `jpeg.rs`, `png.rs`, `exif.rs`, within `limits.rs`), cropped and resized
//! (`crops.rs`, `resize.rs`) and normalised (`normalise.rs`); `views.rs` does this for a batch. [`PictureFiles`] has the
//! pictures of a folder or a list, which are read when they are needed; `drawn.rs` has those that the program draws. From decoded pixels on, the bits are those of Pillow and torchvision;
//! `docs/pictures.md` says what is read, and how far decoders differ.

mod crops;
mod decode;
mod drawn;
mod exif;
mod jpeg;
mod limits;
mod list;
mod normalise;
mod picture;
mod png;
mod resize;
mod store;
mod views;

pub use crops::{Crops, RandomCrop};
pub(crate) use drawn::DrawnPictures;
pub use picture::Picture;
#[cfg(test)]
pub(crate) use png::encode;
pub use store::PictureFiles;

#[cfg(test)]
mod tests;
