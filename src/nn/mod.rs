//! The layers: one file each = equation, shapes, struct, cache, forward, backward, tests.
//!
//! Conventions:
//!
//! - There is no tape. `forward` writes its output into memory that it is given, and the memory may be
//!   used again for another batch. What backward needs is kept in that output and in the inputs
//!   ([`Linear`], [`Embedding`]), in a typed cache ([`Gru`]), or in the layer itself, which has no
//!   parameters and *is* the cache ([`L2Norm`], [`Abs`]).
//! - `backward` takes the gradient of the loss by the layer's output. Layers with parameters write
//!   the parameters' gradients into a struct of the same type, and [`Write`](crate::linalg::Write)
//!   says whether they add or replace; dx is another output, or a call of its own
//!   ([`Linear::backward_input`]); [`Embedding`] has none. [`L2Norm`] and [`Abs`] turn dy into dx in
//!   place.
//! - Shapes are checked where data enters ([`crate::model::Vse::forward`]); a layer by itself
//!   panics on shapes that do not fit, as `ndarray` does.

pub mod abs;
pub mod embedding;
pub mod gru;
pub mod l2norm;
pub mod linear;
pub mod prefix_tree;

pub use abs::Abs;
pub use embedding::Embedding;
pub use gru::{Gru, GruBackward, GruCache, GruLayer, GruLayerBackward, GruLayerCache, Inputs};
pub use l2norm::L2Norm;
pub use linear::Linear;
pub use prefix_tree::{Level, PrefixTree};
