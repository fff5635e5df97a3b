//! The common end of both towers: normalisation, then the absolute value.

use ndarray::{Array2, ArrayView2};

use crate::error::Result;
use crate::linalg::{self, Write};
use crate::nn::abs::{AbsCache, absolute};
use crate::nn::l2norm::{L2NormCache, normalise};
use crate::nn::{Abs, L2Norm, Layer, Mode};
use crate::real::{Real, Scalar};

/// What is done to a tower's vectors before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// (NORM-1)
    pub(crate) normalise: bool,
    /// (ABS-1)
    pub(crate) use_abs: bool,
}

/// What a [`Head`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadCache<T> {
    /// The steps that the last forward pass took.
    head: Head,
    /// y, where no step is taken: a copy of x.
    plain: Array2<T>,
    norm: L2NormCache<T>,
    abs: AbsCache<T>,
    /// The gradient with respect to the normalised vectors, where both steps are taken.
    d_norm: Array2<T>,
}

impl Head {
    /// x [B, D] → [B, D]; the result is [`HeadCache::y`].
    ///
    /// # Errors
    ///
    /// If a row to be normalised is zero or not finite.
    pub(crate) fn forward<T: Scalar>(self, x: ArrayView2<'_, T>, mode: Mode, cache: &mut HeadCache<T>) -> Result<()> {
        let HeadCache { head, plain, norm, abs, .. } = cache;
        *head = self;
        if self.normalise {
            L2Norm.forward(x, mode, norm)?;
        }
        match self {
            Self { use_abs: true, normalise: true } => Abs.forward(norm.y.view(), mode, abs)?,
            Self { use_abs: true, normalise: false } => Abs.forward(x, mode, abs)?,
            Self { use_abs: false, normalise: true } => {}
            Self { use_abs: false, normalise: false } => {
                linalg::reshape(plain, x.dim());
                plain.assign(&x);
            }
        }
        Ok(())
    }

    /// The same in place and without a cache, where no backward pass follows.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub(crate) fn apply<T: Scalar>(self, x: &mut Array2<T>) -> Result<()> {
        if self.normalise {
            normalise(x)?;
        }
        if self.use_abs {
            x.mapv_inplace(absolute);
        }
        Ok(())
    }
}

impl<T: Real> HeadCache<T> {
    /// From dy [B, D], the gradient with respect to the embedding, to dx [B, D].
    pub(crate) fn backward(&mut self, x: ArrayView2<'_, T>, dy: &Array2<T>, dx: &mut Array2<T>) {
        let Self { head, norm, abs, d_norm, .. } = self;
        // Neither step has parameters: only dx is written.
        let write = Write::Replace;
        match *head {
            Head { use_abs: true, normalise: true } => {
                Abs.backward(norm.y.view(), abs, dy, write, &mut Abs, Some(d_norm));
                L2Norm.backward(x, norm, d_norm, write, &mut L2Norm, Some(dx));
            }
            Head { use_abs: true, normalise: false } => Abs.backward(x, abs, dy, write, &mut Abs, Some(dx)),
            Head { use_abs: false, normalise: true } => L2Norm.backward(x, norm, dy, write, &mut L2Norm, Some(dx)),
            Head { use_abs: false, normalise: false } => {
                linalg::reshape(dx, x.dim());
                dx.assign(dy);
            }
        }
    }
}

impl<T: Scalar> HeadCache<T> {
    /// The joint embedding f or g, [B, D].
    #[must_use]
    pub(crate) fn y(&self) -> ArrayView2<'_, T> {
        match self.head {
            Head { use_abs: true, .. } => self.abs.y.view(),
            Head { normalise: true, .. } => self.norm.y.view(),
            _ => self.plain.view(),
        }
    }

    /// Appends the signs under the absolute value; see [`super::Pass::active_set`].
    pub(super) fn active_set(&self, active: &mut Vec<bool>) {
        if self.head.use_abs {
            active.extend(self.abs.sign.iter().map(|&sign| sign > 0));
        }
    }
}
