//! A convolution without bias and its batch normalisation, r = norm(conv(x)): what residual networks are made of.
//!
//! Its equations are those of [`conv`](super::conv) and [`batch_norm`](super::batch_norm).

use ndarray::{Array4, ArrayView4};

use super::batch_norm::{BatchNorm, BatchNormCache};
use super::conv::{Conv2d, Conv2dCache};
use super::relu::rectified;
use super::{Layer, Mode, Module, Path, Visitor};
use crate::error::Result;
use crate::linalg::{Planes, Write};
use crate::real::{Real, Scalar};

/// A convolution and its normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNorm<T> {
    /// W; it has no bias, since the norm has one.
    pub conv: Conv2d<T>,
    /// γ, β and the running statistics.
    pub norm: BatchNorm<T>,
}

/// What a convolution and its norm keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConvNormCache<T> {
    conv: Conv2dCache<T>,
    /// r [N, O, Ho, Wo], or max(0, r). No backward pass of a convolution and its norm needs it.
    norm: BatchNormCache<T>,
}

impl<T> ConvNormCache<T> {
    /// r, or max(0, r).
    pub(crate) fn r(&self) -> &Array4<T> {
        &self.norm.y
    }

    /// The same, to take it or its memory.
    pub(crate) fn r_mut(&mut self) -> &mut Array4<T> {
        &mut self.norm.y
    }
}

impl<T: Clone + Default> ConvNorm<T> {
    /// All zeros, for a square kernel; outside the picture x is 0, so that a kernel of 3 × 3 keeps its size.
    pub(crate) fn zeros(outputs: usize, inputs: usize, kernel: usize, stride: usize) -> Self {
        let conv = Conv2d::zeros([outputs, inputs, kernel, kernel], stride, kernel / 2);
        Self { conv, norm: BatchNorm::zeros(outputs) }
    }

    /// Visits the tensors of both, which have paths of their own: `conv1` and `bn1`, for example.
    pub(crate) fn visit<const M: usize, const S: usize>(
        mut changed: [&mut Self; M],
        read: [&Self; S],
        [conv, norm]: &[Path<'_>; 2],
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        Conv2d::visit(changed.each_mut().map(|pair| &mut pair.conv), read.map(|pair| &pair.conv), conv, visitor)?;
        BatchNorm::visit(changed.map(|pair| &mut pair.norm), read.map(|pair| &pair.norm), norm, visitor)
    }

    /// [`Module::empty`] of both.
    pub(crate) fn empty(&mut self, [conv, norm]: &[Path<'_>; 2], which: &dyn Fn(&Path<'_>, super::Tensor) -> bool) {
        self.conv.empty(conv, which);
        self.norm.empty(norm, which);
    }
}

impl<T: Scalar> ConvNorm<T> {
    pub(crate) fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut ConvNormCache<T>) -> Result<()> {
        self.conv.forward(x, mode, &mut cache.conv)?;
        self.norm.forward(cache.conv.y.view(), mode, &mut cache.norm)
    }

    /// A forward pass whose result is max(0, r).
    pub(crate) fn forward_rectified(
        &self,
        x: ArrayView4<'_, T>,
        mode: Mode,
        cache: &mut ConvNormCache<T>,
    ) -> Result<()> {
        self.conv.forward(x, mode, &mut cache.conv)?;
        self.norm.forward_rectified(&cache.conv.y, mode, &mut cache.norm)
    }

    /// `then(r)` in [`Mode::Eval`], for which nothing is kept.
    pub(crate) fn embed(&self, x: ArrayView4<'_, T>, then: impl Fn(T) -> T + Sync, y: &mut Array4<T>) -> Result<()> {
        let norms = self.norm.running();
        self.conv.outputs(
            x,
            y,
            #[inline(always)]
            |place, sums, y| {
                let norm = norms[place.channel];
                y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = then(norm.of(sum)));
            },
        )
    }

    /// max(0, r + s) in [`Mode::Eval`], for which nothing is kept.
    pub(crate) fn embed_with(&self, x: ArrayView4<'_, T>, s: ArrayView4<'_, T>, y: &mut Array4<T>) -> Result<()> {
        let (norms, shortcut) = (self.norm.running(), Planes::of(&s));
        self.conv.outputs(
            x,
            y,
            #[inline(always)]
            |place, sums, y| {
                let norm = norms[place.channel];
                let s = &shortcut.plane(place.picture * norms.len() + place.channel)[place.first..];
                y.iter_mut().zip(sums).zip(s).for_each(|((y, &sum), &s)| *y = rectified(norm.of(sum) + s));
            },
        )
    }

    /// max(0, r) once more, from what the convolution gave in the last forward pass: the same bits.
    pub(crate) fn rectified_again(&self, cache: &mut ConvNormCache<T>) {
        self.norm.rectified_again(&cache.conv.y, &mut cache.norm);
    }

    /// From dr to dx, if it is asked for. `d_conv` is memory for the gradient between the two.
    #[allow(clippy::too_many_arguments)] // those of a layer, and memory
    pub(crate) fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut ConvNormCache<T>,
        dr: &Array4<T>,
        write: Write,
        grad: &mut Self,
        d_conv: &mut Array4<T>,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let ConvNormCache { conv, norm } = cache;
        self.norm.backward(conv.y.view(), norm, dr, write, &mut grad.norm, Some(d_conv));
        self.conv.backward(x, conv, d_conv, write, &mut grad.conv, dx);
    }

    /// Moves the running statistics towards those of the pass: once after each step.
    pub(crate) fn update(&mut self, cache: &ConvNormCache<T>) {
        self.norm.update(&cache.norm);
    }
}
