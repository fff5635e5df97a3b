//! Rectified linear unit (Nair and Hinton 2010).
//!
//! ```text
//! (RELU-1)   y = max(0, x)
//! (RELU-1′)  dx = dy where x > 0, else 0
//! ```
//!
//! Shapes: x, y [N, C, H, W]. The functions [`relu`] and [`relu_backward`] do the same for arrays of any number of
//! axes. NaN stays NaN.

use ndarray::{Array, Array4, ArrayView, ArrayView4, Dimension};
use rayon::prelude::*;

use super::{Layer, Mode};
use crate::error::Result;
use crate::linalg::{self, PARALLEL_WORK, Write};
use crate::real::{Real, Scalar};
use crate::simd::vectorized;

/// max(0, x); it has no parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relu;

crate::module!(Relu);

/// What [`Relu`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct ReluCache<T> {
    /// y [N, C, H, W]
    pub y: Array4<T>,
}

impl<T: Scalar> Layer<T> for Relu {
    /// x [N, C, H, W]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array4<T>;
    type Dx = Array4<T>;
    type Cache = ReluCache<T>;

    fn forward(&self, x: ArrayView4<'_, T>, _: Mode, cache: &mut ReluCache<T>) -> Result<()> {
        relu(x, &mut cache.y);
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        _: &mut ReluCache<T>,
        dy: &Array4<T>,
        _: Write,
        _: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        if let Some(dx) = dx {
            relu_backward(x, dy.view(), dx);
        }
    }
}

/// (RELU-1) of every number.
pub(crate) fn relu<T: Scalar, D: Dimension>(x: ArrayView<'_, T, D>, y: &mut Array<T, D>) {
    linalg::reshape(y, x.raw_dim());
    let x = x.as_standard_layout();
    let (x, y) = (x.as_slice().expect("contiguous"), y.as_slice_mut().expect("contiguous"));
    y.par_chunks_mut(PARALLEL_WORK).zip(x.par_chunks(PARALLEL_WORK)).for_each(|(y, x)| {
        vectorized(
            #[inline(always)]
            || {
                for (y, &x) in y.iter_mut().zip(x) {
                    // (RELU-1)  y = max(0, x)
                    *y = if x.re() <= 0.0 { T::zero() } else { x };
                }
            },
        );
    });
}

/// (RELU-1′) of every number. y may be given for x: both are above 0 at the same places.
pub(crate) fn relu_backward<T: Real, D: Dimension>(
    x: ArrayView<'_, T, D>,
    dy: ArrayView<'_, T, D>,
    dx: &mut Array<T, D>,
) {
    assert_eq!(x.shape(), dy.shape(), "dy of x");
    linalg::reshape(dx, x.raw_dim());
    let (x, dy) = (x.as_standard_layout(), dy.as_standard_layout());
    let (x, dy) = (x.as_slice().expect("contiguous"), dy.as_slice().expect("contiguous"));
    let chunks = x.par_chunks(PARALLEL_WORK).zip(dy.par_chunks(PARALLEL_WORK));
    let dx = dx.as_slice_mut().expect("contiguous");
    dx.par_chunks_mut(PARALLEL_WORK).zip(chunks).for_each(|(dx, (x, dy))| {
        vectorized(
            #[inline(always)]
            || {
                for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                    // (RELU-1′)  dx = dy where x > 0, else 0
                    *dx = if x <= T::zero() { T::zero() } else { dy };
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn relu_1_and_its_gradient_at_zero() {
        let (x, mut cache, mut dx) =
            (array![[[[-2.0, 0.0], [-0.0, 3.0]]]], ReluCache::default(), Array4::default((0, 0, 0, 0)));
        Relu.forward(x.view(), Mode::Train, &mut cache).unwrap();
        assert_eq!(cache.y, array![[[[0.0, 0.0], [0.0, 3.0]]]]);
        let dy = array![[[[5.0, 6.0], [7.0, 8.0]]]];
        Relu.backward(x.view(), &mut cache, &dy, Write::Add, &mut Relu, Some(&mut dx));
        assert_eq!(dx, array![[[[0.0, 0.0], [0.0, 8.0]]]]);
        let mut from_y = Array4::default((0, 0, 0, 0));
        relu_backward(cache.y.view(), dy.view(), &mut from_y);
        assert_eq!(from_y, dx);
    }

    #[test]
    fn matrices_and_nan() {
        let mut y = ndarray::Array2::default((0, 0));
        relu(array![[f32::NAN, -1.0], [f32::INFINITY, 0.5]].reversed_axes().view(), &mut y);
        assert!(y[[0, 0]].is_nan());
        assert_eq!((y[[0, 1]], y[[1, 0]], y[[1, 1]]), (f32::INFINITY, 0.0, 0.5));
    }
}
