//! Elementwise absolute value, after normalisation, for order embeddings (`use_abs`).
//!
//! ```text
//! (ABS-1)   y = |x|
//! (ABS-1′)  dx = sign(x) dy, sign(0) = 0
//! ```

use ndarray::{Array2, ArrayView2, Zip};

use crate::linalg;
use crate::real::{Real, Scalar};

/// |x| and the signs that backward needs.
#[derive(Clone, Debug, Default)]
pub struct Abs<T> {
    /// y [N, D]
    pub output: Array2<T>,
    /// −1, 0 or 1 for every element of x, [N, D].
    pub signs: Array2<i8>,
}

impl<T: Scalar> Abs<T> {
    /// (ABS-1): [N, D] → [N, D].
    pub fn forward(&mut self, x: ArrayView2<'_, T>) {
        linalg::reshape(&mut self.output, x.dim());
        linalg::reshape(&mut self.signs, x.dim());
        Zip::from(&mut self.output).and(&mut self.signs).and(&x).for_each(|y, sign, &x| {
            *sign = i8::from(x.re() > 0.0) - i8::from(x.re() < 0.0);
            *y = absolute(x);
        });
    }
}

/// (ABS-1) of one number.
pub fn absolute<T: Scalar>(x: T) -> T {
    // (ABS-1)  y = |x|
    if x.re() < 0.0 { -x } else { x }
}

impl<T: Real> Abs<T> {
    /// dy [N, D] becomes dx [N, D].
    pub fn backward(&self, dy: &mut Array2<T>) {
        // (ABS-1′)  dx = sign(x) dy, sign(0) = 0
        Zip::from(dy).and(&self.signs).for_each(|dy, &sign| *dy = *dy * T::from_f64(f64::from(sign)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn abs_1_and_its_gradient_at_zero() {
        let (mut abs, mut d) = (Abs::default(), array![[1.0, 1.0, 1.0]]);
        abs.forward(array![[-2.0, 0.0, 3.0]].view());
        assert_eq!(abs.output, array![[2.0, 0.0, 3.0]]);
        abs.backward(&mut d);
        assert_eq!(d, array![[-1.0, 0.0, 1.0]]);
    }
}
