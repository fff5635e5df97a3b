//! Files of tensors: `.npy` arrays, safetensors, npz, PyTorch's.
//!
//! No file makes a reader panic. A reader does not trust what a file says about itself: it compares
//! sizes with the file's size before it allocates memory, and a failed allocation is an error. A writer
//! never leaves half a file.

mod archive;
mod atomic;
mod digest;
mod elements;
mod kind;
mod npy;
mod npy_header;
mod positioned;
mod pytorch;
mod regular;
mod safetensors;
mod tensor_file;
mod tensor_writer;

pub(crate) use atomic::{check_target, folder_of, keep_owner_and_mode, sync_folder, write_atomically};
pub(crate) use digest::{digest, digest_of_numbers, hex};
pub(crate) use elements::ElementType;
pub(crate) use kind::{Kind, start_of};
#[cfg(test)]
pub(crate) use npy::npy;
pub(crate) use npy::{NpyMatrix, matrix_header as npy_header, read_integers};
pub(crate) use regular::{open_regular, read_bytes, read_text, reserve};
pub(crate) use safetensors::{Places, SafetensorsHead};
pub(crate) use tensor_file::TensorFile;
pub(crate) use tensor_writer::TensorWriter;
