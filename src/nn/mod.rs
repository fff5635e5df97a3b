//! The layers: one file or folder each = equation, shapes, struct, cache, forward, backward, tests.
//!
//! All follow one convention, [`Layer`]: `forward(x, mode, cache)` writes y and what backward needs into
//! the cache; `backward(x, cache, dy, write, grad, dx)` takes the gradient of the loss with respect to y and
//! writes those with respect to the parameters and to x. There is no tape. A cache can be reused for other
//! batches, so a training step allocates nothing.
//!
//! The names are those of the equations: `x`, `y`, `a`, `h`; `dx`, `dy`, `da`, `dh` are the gradients of the
//! loss with respect to them.

pub(crate) mod abs;
pub(crate) mod avg_pool;
pub(crate) mod batch_norm;
pub(crate) mod block;
pub(crate) mod conv;
pub(crate) mod conv_norm;
mod conv_weight;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod flatten;
pub(crate) mod gru;
pub(crate) mod l2norm;
pub(crate) mod linear;
pub(crate) mod max_pool;
pub(crate) mod module;
pub(crate) mod prefix_tree;
pub(crate) mod relu;
mod seen;

use crate::error::Result;
use crate::real::{Real, Scalar};

pub use crate::linalg::Write;
pub use abs::{Abs, AbsCache};
pub use avg_pool::{AvgPool, AvgPoolCache};
pub use batch_norm::{BatchNorm, BatchNormCache};
pub use block::{Block, BlockCache};
pub use conv::{Conv2d, Conv2dCache};
pub use conv_norm::ConvNorm;
pub use dropout::{Dropout, DropoutCache};
pub use embedding::{Embedding, EmbeddingCache};
pub use flatten::{Flatten, FlattenCache};
pub use gru::{Gru, GruCache, GruLayer, GruLayerCache, Sequences};
pub use l2norm::{L2Norm, L2NormCache};
pub use linear::{Linear, LinearCache};
pub use max_pool::{MaxPool, MaxPoolCache};
pub use module::{Module, Path, Role, Tensor, Visitor, visit_tensor};
pub use prefix_tree::PrefixTree;
pub use relu::{Relu, ReluCache};

/// Whether a pass belongs to training: dropout and batch normalisation compute something else then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout drops, and a batch is normalised with its own statistics.
    Train,
    /// Nothing is dropped, and the running statistics are used. A backward pass may follow all the same.
    Eval,
}

/// A layer y = f(x; parameters).
pub trait Layer<T: Scalar>: Module<T> {
    /// The input x.
    type X<'a>: Copy
    where
        T: 'a;
    /// The output y; dy has the same type.
    type Y;
    /// The gradient with respect to x; `()` if x has none.
    type Dx;
    /// y, and what backward needs besides x. Its `Default` is a cache that has seen no batch.
    type Cache: Default;

    /// Computes y.
    ///
    /// # Errors
    ///
    /// If y is undefined for this x. The cache is then unspecified until a pass succeeds.
    ///
    /// # Panics
    ///
    /// If the shape of x does not fit the layer: shapes are checked where data enters the model.
    fn forward(&self, x: Self::X<'_>, mode: Mode, cache: &mut Self::Cache) -> Result<()>;

    /// From dy, the gradient of the loss with respect to y, computes the gradients with respect to the
    /// parameters and to x. `x` and `cache` are those of the last forward pass; a layer may keep its own
    /// intermediate gradients in the cache.
    ///
    /// `write` says whether the parameters' gradients are added to `grad` or replace what it holds. An
    /// empty tensor of `grad` asks for no gradient. dx is overwritten; `None` asks for none.
    ///
    /// # Panics
    ///
    /// If dy or `grad` does not fit the layer.
    fn backward(
        &self,
        x: Self::X<'_>,
        cache: &mut Self::Cache,
        dy: &Self::Y,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Self::Dx>,
    ) where
        T: Real;
}
