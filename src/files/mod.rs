//! Files of tensors: `.npy` arrays, safetensors, npz; reading that survives any file, and writing
//! without ever leaving half a file.
//!
//! A reader here trusts nothing that a file says of itself: sizes are compared with the file's own
//! before memory is taken, and memory that is not there is an error.

mod archive;
mod atomic;
mod elements;
mod kind;
mod npy;
mod npy_header;
mod regular;
mod safetensors;
mod tensors;

pub use atomic::{check_target, write_atomically};
pub(crate) use atomic::{folder_of, keep_owner_and_mode, sync_folder};
pub use elements::ElementType;
pub use kind::{Kind, start_of};
pub use npy::{read_matrix, read_rows};
pub(crate) use regular::reserve;
pub use regular::{open_regular, read_bytes, read_text};
pub use tensors::{TensorFile, TensorWriter};
