//! The common end of both towers: normalisation, then the absolute value.

use ndarray::{Array1, Array2, ArrayView2};

use crate::error::Result;
use crate::linalg;
use crate::nn::abs::absolute;
use crate::nn::l2norm::normalise;
use crate::nn::{Abs, L2Norm};
use crate::real::{Real, Scalar};

/// What is done to a tower's vectors before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// (NORM-1)
    pub normalise: bool,
    /// (ABS-1)
    pub use_abs: bool,
    /// `image` or `caption`, for messages.
    pub side: &'static str,
}

/// What the steps taken leave for backward.
#[derive(Clone, Debug, Default)]
pub struct HeadCache<T> {
    head: Head,
    plain: Array2<T>,
    norm: L2Norm<T>,
    abs: Abs<T>,
}

impl Head {
    /// [B, D] → [B, D]; the result is [`HeadCache::embedding`].
    ///
    /// **Errors** if a row to be normalised is zero or not finite.
    pub fn forward<T: Scalar>(self, x: ArrayView2<'_, T>, cache: &mut HeadCache<T>) -> Result<()> {
        cache.head = self;
        if self.normalise {
            cache.norm.forward(x, self.side)?;
        } else {
            linalg::reshape(&mut cache.plain, x.dim());
            cache.plain.assign(&x);
        }
        if self.use_abs {
            cache.abs.forward(if self.normalise { cache.norm.output.view() } else { cache.plain.view() });
        }
        Ok(())
    }
}

impl Head {
    /// As [`Self::forward`], in place and without a cache: [N, D] vectors become embeddings.
    ///
    /// **Errors** as [`Self::forward`].
    pub fn apply<T: Scalar>(self, x: &mut Array2<T>) -> Result<()> {
        if self.normalise {
            normalise(x, self.side)?;
        }
        if self.use_abs {
            x.mapv_inplace(absolute);
        }
        Ok(())
    }
}

impl<T: Scalar> HeadCache<T> {
    /// The joint embedding f or g, [B, D].
    #[must_use]
    pub fn embedding(&self) -> ArrayView2<'_, T> {
        match self.head {
            Head { use_abs: true, .. } => self.abs.output.view(),
            Head { normalise: true, .. } => self.norm.output.view(),
            _ => self.plain.view(),
        }
    }

    /// The norms before normalisation, `[B]`, where there is one.
    #[must_use]
    pub fn norms(&self) -> Option<&Array1<T>> {
        self.head.normalise.then_some(&self.norm.norms)
    }

    /// Appends the signs under the absolute value; see [`super::Forward::active_set`].
    pub(super) fn active_set(&self, active: &mut Vec<bool>) {
        if self.head.use_abs {
            active.extend(self.abs.signs.iter().map(|&sign| sign > 0));
        }
    }
}

impl<T: Real> HeadCache<T> {
    /// The gradient of the embedding becomes that of the tower's vectors, [B, D].
    pub fn backward(&self, d: &mut Array2<T>) {
        if self.head.use_abs {
            self.abs.backward(d);
        }
        if self.head.normalise {
            self.norm.backward(d);
        }
    }
}
