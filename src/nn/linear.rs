//! Linear projection.
//!
//! ```text
//! (LIN-1)   y = x Wᵀ + b        x [N, I], W [O, I], b [O]; y [N, O]
//! (LIN-1′)  dW += dyᵀ x, db += Σ dy, dx = dy W        Σ over the rows
//! ```
//!
//! The paper's `W_f` and `W_g` (section 2.1) are stored transposed, as `PyTorch` stores them.

use ndarray::{Array1, Array2, ArrayView2};

use crate::linalg::{self, Write};
use crate::real::Scalar;

/// A projection with bias: `img_enc.fc` [D, F], and `txt_enc.proj` [D, H] where it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear<T> {
    /// W [O, I]
    pub weight: Array2<T>,
    /// b `[O]`
    pub bias: Array1<T>,
}

impl<T: Scalar> Linear<T> {
    /// (LIN-1): x [N, I] → y [N, O].
    pub fn forward(&self, x: ArrayView2<'_, T>, y: &mut Array2<T>) {
        linalg::reshape(y, (x.nrows(), self.weight.nrows()));
        // (LIN-1)  y = x Wᵀ + b
        linalg::matmul_into(x, self.weight.t(), y.view_mut());
        linalg::add_to_rows(y.view_mut(), &self.bias);
    }

    /// dW and db of (LIN-1′), from x and dy.
    pub fn backward(&self, x: ArrayView2<'_, T>, dy: ArrayView2<'_, T>, write: Write, gradient: &mut Self) {
        // (LIN-1′)  dW += dyᵀ x, db += Σ dy, dx = dy W
        linalg::matmul_write(dy.t(), x, write, gradient.weight.view_mut());
        linalg::column_sums(dy, write, &mut gradient.bias);
    }

    /// dx [N, I] of (LIN-1′): the gradient of the input, where it is needed.
    pub fn backward_input(&self, dy: ArrayView2<'_, T>, dx: &mut Array2<T>) {
        linalg::reshape(dx, (dy.nrows(), self.weight.ncols()));
        linalg::matmul_into(dy, self.weight.view(), dx.view_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn lin_1_by_hand() {
        let layer = Linear { weight: array![[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], bias: array![10.0, 20.0, 30.0] };
        let x = array![[1.0, 2.0]];
        let mut y = Array2::default((0, 0));
        layer.forward(x.view(), &mut y);
        assert_eq!(y, array![[15.0, 18.0, 34.0]]);
        let dy = array![[1.0, 10.0, 100.0]];
        let mut gradient = Linear { weight: Array2::ones((3, 2)), bias: Array1::ones(3) };
        layer.backward(x.view(), dy.view(), Write::Add, &mut gradient);
        assert_eq!(gradient.weight, array![[2.0, 3.0], [11.0, 21.0], [101.0, 201.0]], "adds, not overwrites");
        assert_eq!(gradient.bias, array![2.0, 11.0, 101.0]);
        layer.backward(x.view(), dy.view(), Write::Replace, &mut gradient);
        assert_eq!(gradient.weight, array![[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]);
        assert_eq!(gradient.bias, array![1.0, 10.0, 100.0]);
        let mut dx = Array2::default((0, 0));
        layer.backward_input(dy.view(), &mut dx);
        assert_eq!(dx, array![[301.0, 42.0]]);
    }
}
