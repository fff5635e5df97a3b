//! The image side.
//!
//! ```text
//! (IMG-1)  f(i) = W_fᵀ φ(i) + b_f, then (NORM-1) unless no_imgnorm, then (ABS-1) if use_abs
//! ```
//!
//! φ(i) `[F]` is the image's feature vector as the data gives it (paper, section 2.1). Without
//! `no_imgnorm` f has norm 1.

use ndarray::{Array2, ArrayView2};

use super::architecture::Architecture;
use super::head::{Head, HeadCache};
use crate::error::Result;
use crate::linalg::Write;
use crate::nn::linear::LinearCache;
use crate::nn::{Layer, Linear, Mode};
use crate::real::{Real, Scalar};

/// `img_enc`: a projection of the feature vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTower<T> {
    /// `img_enc.fc` [D, F]
    pub fc: Linear<T>,
}

crate::module!(ImageTower<T>, tower { fc });

impl<T: Clone + Default> ImageTower<T> {
    pub(super) fn zeros(a: &Architecture) -> Self {
        Self { fc: Linear::zeros(a.embed_size, a.img_dim) }
    }
}

/// What the image side keeps of a pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageCache<T> {
    /// `W_fᵀ` φ + `b_f`, [B, D].
    pub fc: LinearCache<T>,
    /// Normalisation and absolute value: f [B, D] is its y.
    pub head: HeadCache<T>,
    /// The gradient with respect to the projection's output, [B, D].
    d_fc: Array2<T>,
}

impl<T: Scalar> ImageTower<T> {
    /// (IMG-1): features x [B, F] → f [B, D].
    ///
    /// # Errors
    ///
    /// If a projected row is zero or not finite and is to be normalised.
    pub(super) fn forward(
        &self,
        x: ArrayView2<'_, T>,
        mode: Mode,
        head: Head,
        cache: &mut ImageCache<T>,
    ) -> Result<()> {
        // (IMG-1)  f(i) = W_fᵀ φ(i) + b_f, then (NORM-1) unless no_imgnorm, then (ABS-1) if use_abs
        self.fc.forward(x, mode, &mut cache.fc)?;
        head.forward(cache.fc.y.view(), mode, &mut cache.head).map_err(|e| e.of("image embedding"))
    }

    /// The same without a cache, where no backward pass follows.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub(super) fn embed(&self, x: ArrayView2<'_, T>, head: Head) -> Result<Array2<T>> {
        let mut fc = LinearCache::default();
        self.fc.forward(x, Mode::Eval, &mut fc)?;
        head.apply(&mut fc.y).map_err(|e| e.of("image embedding"))?;
        Ok(fc.y)
    }

    /// From df [B, D] to the parameters' gradients, and to dℓ/dφ [B, F] if `dx` is given.
    pub(super) fn backward(
        &self,
        x: ArrayView2<'_, T>,
        cache: &mut ImageCache<T>,
        df: &Array2<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array2<T>>,
    ) where
        T: Real,
    {
        let ImageCache { fc, head, d_fc } = cache;
        head.backward(fc.y.view(), df, d_fc);
        self.fc.backward(x, fc, d_fc, write, &mut grad.fc, dx);
    }
}
