//! Files of tensors: `.npy` arrays, safetensors, npz; and writing without ever leaving half a file.

mod atomic;
mod elements;
mod npy;
mod tensors;

pub use atomic::write_atomically;
pub use elements::ElementType;
pub use npy::read_matrix;
pub use tensors::{TensorFile, TensorWriter};
