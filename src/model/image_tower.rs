//! The image side.
//!
//! ```text
//! (IMG-1)  f(i) = W_fᵀ φ(i) + b_f, then (NORM-1) unless no_imgnorm, then (ABS-1) if use_abs
//! ```
//!
//! φ(i) `[F]` is the image's feature vector as the data gives it (paper, section 2.1). Without
//! `no_imgnorm` f has norm 1. [`ImageTower::backward_features`] returns dℓ/dφ for an encoder in front
//! of this tower.

use ndarray::{Array2, ArrayView2};

use super::head::{Head, HeadCache};
use crate::error::Result;
use crate::linalg::Write;
use crate::nn::Linear;
use crate::real::{Real, Scalar};

/// `img_enc`: a projection of the feature vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTower<T> {
    /// `img_enc.fc` [D, F]
    pub fc: Linear<T>,
}

/// What the image side's forward pass leaves for its backward pass.
#[derive(Clone, Debug, Default)]
pub struct ImageCache<T> {
    /// `W_fᵀ` φ + `b_f`, [B, D].
    pub projected: Array2<T>,
    /// Normalisation and absolute value.
    pub head: HeadCache<T>,
}

impl<T: Scalar> ImageTower<T> {
    /// (IMG-1): features [B, F] → embeddings [B, D].
    ///
    /// **Errors** if a projected row is zero or not finite and is to be normalised.
    pub fn forward(&self, features: ArrayView2<'_, T>, head: Head, cache: &mut ImageCache<T>) -> Result<()> {
        // (IMG-1)  f(i) = W_fᵀ φ(i) + b_f, then (NORM-1) unless no_imgnorm, then (ABS-1) if use_abs
        self.fc.forward(features, &mut cache.projected);
        head.forward(cache.projected.view(), &mut cache.head)
    }
}

impl<T: Real> ImageTower<T> {
    /// From df [B, D] to the parameters' gradients; d becomes the gradient of `fc`'s output [B, D].
    pub fn backward(
        &self,
        features: ArrayView2<'_, T>,
        cache: &ImageCache<T>,
        d: &mut Array2<T>,
        write: Write,
        gradient: &mut Self,
    ) {
        cache.head.backward(d);
        self.fc.backward(features, d.view(), write, &mut gradient.fc);
    }

    /// dℓ/dφ [B, F] from what [`Self::backward`] made of df.
    #[must_use]
    pub fn backward_features(&self, d_projected: ArrayView2<'_, T>) -> Array2<T> {
        let mut d_features = Array2::default((0, 0));
        self.fc.backward_input(d_projected, &mut d_features);
        d_features
    }
}
