//! Elementwise absolute value, after normalisation, for order embeddings (`use_abs`).
//!
//! ```text
//! (ABS-1)   y = |x|
//! (ABS-1′)  dx = sign(x) dy, sign(0) = 0
//! ```

use ndarray::{Array2, ArrayView2, Zip};

use super::{Layer, Mode};
use crate::error::Result;
use crate::linalg::{self, Write};
use crate::real::{Real, Scalar};

/// |x|; it has no parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abs;

crate::module!(Abs);

/// What [`Abs`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct AbsCache<T> {
    /// y [N, D]
    pub y: Array2<T>,
    /// −1, 0 or 1 for every element of x, [N, D].
    pub sign: Array2<i8>,
}

impl<T: Scalar> Layer<T> for Abs {
    /// x [N, D]
    type X<'a>
        = ArrayView2<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = Array2<T>;
    type Cache = AbsCache<T>;

    fn forward(&self, x: ArrayView2<'_, T>, _: Mode, cache: &mut AbsCache<T>) -> Result<()> {
        let AbsCache { y, sign } = cache;
        linalg::reshape(y, x.dim());
        linalg::reshape(sign, x.dim());
        Zip::from(y).and(sign).and(&x).for_each(|y, sign, &x| {
            *sign = i8::from(x.re() > 0.0) - i8::from(x.re() < 0.0);
            *y = absolute(x);
        });
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView2<'_, T>,
        cache: &mut AbsCache<T>,
        dy: &Array2<T>,
        _: Write,
        _: &mut Self,
        dx: Option<&mut Array2<T>>,
    ) where
        T: Real,
    {
        let Some(dx) = dx else { return };
        linalg::reshape(dx, x.dim());
        // (ABS-1′)  dx = sign(x) dy, sign(0) = 0
        Zip::from(dx).and(dy).and(&cache.sign).for_each(|dx, &dy, &sign| *dx = dy * T::from_f64(f64::from(sign)));
    }
}

/// (ABS-1) of one number.
pub(crate) fn absolute<T: Scalar>(x: T) -> T {
    // (ABS-1)  y = |x|
    if x.re() < 0.0 { -x } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn abs_1_and_its_gradient_at_zero() {
        let (x, mut cache, mut dx) = (array![[-2.0, 0.0, 3.0]], AbsCache::default(), Array2::default((0, 0)));
        Abs.forward(x.view(), Mode::Train, &mut cache).unwrap();
        assert_eq!(cache.y, array![[2.0, 0.0, 3.0]]);
        Abs.backward(x.view(), &mut cache, &array![[1.0, 1.0, 1.0]], Write::Add, &mut Abs, Some(&mut dx));
        assert_eq!(dx, array![[-1.0, 0.0, 1.0]]);
    }
}
