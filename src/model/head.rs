//! The common end of both towers: normalisation, then the absolute value.

use ndarray::{Array2, ArrayView2};

use crate::error::Result;
use crate::nn::{Abs, L2Norm};
use crate::real::{Real, Scalar};

/// What is done to a tower's vectors before they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// (NORM-1)
    pub normalise: bool,
    /// (ABS-1)
    pub use_abs: bool,
    /// `image` or `caption`, for messages.
    pub side: &'static str,
}

/// What the steps taken leave for backward.
#[derive(Clone, Debug)]
pub struct HeadCache<T> {
    plain: Option<Array2<T>>,
    norm: Option<L2Norm<T>>,
    abs: Option<Abs<T>>,
}

impl Head {
    /// [B, D] → [B, D]; the result is [`HeadCache::embedding`].
    ///
    /// **Errors** if a row to be normalised is zero or not finite.
    pub fn forward<T: Scalar>(&self, x: Array2<T>) -> Result<HeadCache<T>> {
        let mut cache = HeadCache { plain: None, norm: None, abs: None };
        if self.normalise {
            cache.norm = Some(L2Norm::forward(x, self.side)?);
        } else {
            cache.plain = Some(x);
        }
        if self.use_abs {
            cache.abs = Some(Abs::forward(cache.embedding()));
        }
        Ok(cache)
    }
}

impl<T: Scalar> HeadCache<T> {
    /// The joint embedding f or g, [B, D].
    #[must_use]
    pub fn embedding(&self) -> ArrayView2<'_, T> {
        match (&self.abs, &self.norm, &self.plain) {
            (Some(abs), _, _) => abs.output.view(),
            (_, Some(norm), _) => norm.output.view(),
            (_, _, Some(plain)) => plain.view(),
            _ => unreachable!("forward fills one of the three"),
        }
    }

    /// The norms before normalisation, `[B]`, where there is one.
    #[must_use]
    pub fn norms(&self) -> Option<&ndarray::Array1<T>> {
        self.norm.as_ref().map(|norm| &norm.norms)
    }

    /// Appends the signs under the absolute value; see [`super::Forward::active_set`].
    pub(super) fn active_set(&self, active: &mut Vec<bool>) {
        if let Some(abs) = &self.abs {
            active.extend(abs.signs.iter().map(|&sign| sign > 0));
        }
    }
}

impl<T: Real> HeadCache<T> {
    /// From the gradient of the embedding to that of the tower's vectors, [B, D].
    #[must_use]
    pub fn backward(&self, d_embedding: Array2<T>) -> Array2<T> {
        let mut d = d_embedding;
        if let Some(abs) = &self.abs {
            d = abs.backward(d.view());
        }
        if let Some(norm) = &self.norm {
            d = norm.backward(d.view());
        }
        d
    }
}
