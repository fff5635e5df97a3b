//! The layers: one file each = equation, shapes, struct, cache, forward, backward, tests.
//!
//! Conventions of every layer:
//!
//! - `forward` writes its output, and what backward needs beside it, into a typed cache that it is
//!   given; there is no tape. A cache may be used again for another batch: its memory stays.
//! - `backward` takes the gradient of the loss by the layer's output and **adds** to gradients that
//!   are held in the same struct as the parameters, or replaces them where it is told so
//!   ([`Write`](crate::linalg::Write)): a training step then need not set them to zero first.
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
