//! Rectified linear unit (Nair and Hinton 2010).
//!
//! ```text
//! (RELU-1)   y = max(0, x)
//! (RELU-1′)  dx = dy where x > 0, else 0
//! ```
//!
//! Shapes: x, y [N, C, H, W]. The functions [`relu`] and [`relu_backward`] do the same in place, for arrays of any
//! number of axes. NaN stays NaN.

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
        linalg::reshape(&mut cache.y, x.dim());
        cache.y.assign(&x);
        relu(&mut cache.y);
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
        let Some(dx) = dx else { return };
        linalg::reshape(dx, dy.dim());
        dx.assign(dy);
        relu_backward(x.as_standard_layout().view(), dx);
    }
}

/// (RELU-1) of one number.
#[inline(always)]
pub(crate) fn rectified<T: Scalar>(x: T) -> T {
    // (RELU-1)  y = max(0, x)
    if x.re() <= 0.0 { T::zero() } else { x }
}

/// max(0, r + s) of every number, in one pass.
///
/// # Panics
///
/// If the shapes differ, or if an array is not in standard layout.
pub(crate) fn relu_of_sum<T: Scalar>(r: &Array4<T>, s: ArrayView4<'_, T>, y: &mut Array4<T>) {
    assert_eq!(r.dim(), s.dim(), "a sum");
    linalg::reshape(y, r.dim());
    let (r, s) = (r.as_slice().expect("in standard layout"), s.to_slice().expect("in standard layout"));
    let y = y.as_slice_mut().expect("in standard layout").par_chunks_mut(PARALLEL_WORK);
    y.zip(r.par_chunks(PARALLEL_WORK).zip(s.par_chunks(PARALLEL_WORK))).for_each(|(y, (r, s))| {
        vectorized(
            #[inline(always)]
            || {
                for ((y, &r), &s) in y.iter_mut().zip(r).zip(s) {
                    *y = rectified(r + s);
                }
            },
        );
    });
}

/// (RELU-1) of every number, in place.
///
/// # Panics
///
/// If the array is not in standard layout.
pub(crate) fn relu<T: Scalar, D: Dimension>(y: &mut Array<T, D>) {
    y.as_slice_mut().expect("in standard layout").par_chunks_mut(PARALLEL_WORK).for_each(|y| {
        vectorized(
            #[inline(always)]
            || {
                for y in y {
                    *y = rectified(*y);
                }
            },
        );
    });
}

/// (RELU-1′) of every number, in place: turns dy into dx. y may be given for x: both are above 0 at the same places.
///
/// # Panics
///
/// If the shapes differ, or if an array is not in standard layout.
pub(crate) fn relu_backward<T: Real, D: Dimension>(x: ArrayView<'_, T, D>, dx: &mut Array<T, D>) {
    assert_eq!(x.shape(), dx.shape(), "dy of x");
    let (x, dx) = (x.to_slice().expect("in standard layout"), dx.as_slice_mut().expect("in standard layout"));
    dx.par_chunks_mut(PARALLEL_WORK).zip(x.par_chunks(PARALLEL_WORK)).for_each(|(dx, x)| {
        vectorized(
            #[inline(always)]
            || {
                for (dx, &x) in dx.iter_mut().zip(x) {
                    // (RELU-1′)  dx = dy where x > 0, else 0
                    *dx = if x <= T::zero() { T::zero() } else { *dx };
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
        let (x, mut from_x) = (array![[[[-2.0, 0.0], [-0.0, 3.0]]]], dy);
        relu_backward(x.view(), &mut from_x);
        assert_eq!(from_x, dx);
    }

    #[test]
    fn matrices_and_nan() {
        let mut y = array![[f32::NAN, -1.0], [f32::INFINITY, 0.5]];
        relu(&mut y);
        assert!(y[[0, 0]].is_nan());
        assert_eq!((y[[0, 1]], y[[1, 0]], y[[1, 1]]), (0.0, f32::INFINITY, 0.5));
    }
}
