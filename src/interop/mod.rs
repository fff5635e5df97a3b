//! Exchange with other libraries.
//!
//! [`convert`] gives the weights of a GRU layer in the order, shapes and names of another library, which
//! [`Layout`] names.

mod layouts;

pub(crate) use layouts::{Layout, convert};
