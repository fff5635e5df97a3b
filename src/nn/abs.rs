//! Elementwise absolute value, after normalisation, for order embeddings (`use_abs`).
//!
//! ```text
//! (ABS-1)   y = |x|
//! backward  dx = sign(x) dy,   sign(0) = 0
//! ```

use ndarray::{Array2, ArrayView2, Zip};

use crate::real::{Real, Scalar};

/// |x| and the signs that backward needs.
#[derive(Clone, Debug)]
pub struct Abs<T> {
    /// y [N, D]
    pub output: Array2<T>,
    /// −1, 0 or 1 for every element of x, [N, D].
    pub signs: Array2<i8>,
}

impl<T: Scalar> Abs<T> {
    /// (ABS-1): [N, D] → [N, D].
    #[must_use]
    pub fn forward(x: ArrayView2<'_, T>) -> Self {
        let signs = x.mapv(|x| i8::from(x.re() > 0.0) - i8::from(x.re() < 0.0));
        let output = x.mapv(|x| if x.re() < 0.0 { -x } else { x });
        Self { output, signs }
    }
}

impl<T: Real> Abs<T> {
    /// dy [N, D] → dx [N, D].
    #[must_use]
    pub fn backward(&self, dy: ArrayView2<'_, T>) -> Array2<T> {
        Zip::from(dy).and(&self.signs).map_collect(|&dy, &sign| dy * T::from_f64(f64::from(sign)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn abs_1_and_its_gradient_at_zero() {
        let abs = Abs::forward(array![[-2.0, 0.0, 3.0]].view());
        assert_eq!(abs.output, array![[2.0, 0.0, 3.0]]);
        assert_eq!(abs.backward(array![[1.0, 1.0, 1.0]].view()), array![[-1.0, 0.0, 1.0]]);
    }
}
