//! Linear projection.
//!
//! ```text
//! (LIN-1)   y = x Wᵀ + b        x [N, I], W [O, I], b [O]; y [N, O]
//! (LIN-1′)  dW += dyᵀ x, db += Σ dy, dx = dy W        Σ over the rows
//! (INIT-1)  W ~ U(±√6 / √(in + out)), b = 0           Glorot and Bengio 2010
//! ```
//!
//! W is stored as `PyTorch` stores it, the transpose of the paper's `W_f` and `W_g` (section 2.1).

use ndarray::{Array1, Array2, ArrayView2};

use super::{Layer, Mode, Tensor};
use crate::error::Result;
use crate::linalg::{self, Write};
use crate::real::{Real, Scalar};

/// A projection with bias.
///
/// ```
/// use ndarray::{Array2, array};
/// use vsepp::nn::{Layer, Linear, LinearCache, Mode, Write};
///
/// # fn main() -> vsepp::Result<()> {
/// let layer = Linear { weight: array![[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]], bias: array![0.0, 1.0, 0.5] };
/// let (x, mut cache) = (array![[1.0, 1.0]], LinearCache::default());
/// layer.forward(x.view(), Mode::Train, &mut cache)?;
/// assert_eq!(cache.y, array![[3.0, 0.0, 3.5]]);
///
/// let (mut grad, mut dx) = (Linear::zeros(3, 2), Array2::zeros((0, 0)));
/// let dy = array![[1.0, 0.0, 2.0]];
/// layer.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));
/// assert_eq!(grad.weight, array![[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]); // dW = dyᵀ x
/// assert_eq!(dx, array![[7.0, 2.0]]); // dx = dy W
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Linear<T> {
    /// W [O, I]
    pub weight: Array2<T>,
    /// b `[O]`
    pub bias: Array1<T>,
}

crate::module!(
    Linear<T>,
    layer {
        // (INIT-1)  W ~ U(±√6 / √(in + out)), b = 0
        weight: Tensor::uniform((6.0 / (layer.weight.nrows() + layer.weight.ncols()) as f64).sqrt()),
        bias: Tensor::constant(0.0),
    }
);

impl<T: Clone + Default> Linear<T> {
    /// O outputs and I inputs, all zeros.
    #[must_use]
    pub fn zeros(outputs: usize, inputs: usize) -> Self {
        Self { weight: Array2::default((outputs, inputs)), bias: Array1::default(outputs) }
    }
}

/// What [`Linear`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct LinearCache<T> {
    /// y [N, O]
    pub y: Array2<T>,
}

impl<T: Scalar> Layer<T> for Linear<T> {
    /// x [N, I]
    type X<'a>
        = ArrayView2<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = Array2<T>;
    type Cache = LinearCache<T>;

    fn forward(&self, x: ArrayView2<'_, T>, _: Mode, cache: &mut LinearCache<T>) -> Result<()> {
        linalg::reshape(&mut cache.y, (x.nrows(), self.weight.nrows()));
        // (LIN-1)  y = x Wᵀ + b
        linalg::matmul_into(x, self.weight.t(), cache.y.view_mut());
        linalg::add_to_rows(cache.y.view_mut(), &self.bias);
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView2<'_, T>,
        _: &mut LinearCache<T>,
        dy: &Array2<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array2<T>>,
    ) where
        T: Real,
    {
        // (LIN-1′)  dW += dyᵀ x, db += Σ dy, dx = dy W
        if !grad.weight.is_empty() {
            linalg::matmul_write(dy.t(), x, write, grad.weight.view_mut());
        }
        if !grad.bias.is_empty() {
            linalg::column_sums(dy.view(), write, &mut grad.bias);
        }
        if let Some(dx) = dx {
            linalg::reshape(dx, x.dim());
            linalg::matmul_into(dy.view(), self.weight.view(), dx.view_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn lin_1_by_hand() {
        let layer = Linear { weight: array![[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], bias: array![10.0, 20.0, 30.0] };
        let (x, mut cache) = (array![[1.0, 2.0]], LinearCache::default());
        layer.forward(x.view(), Mode::Train, &mut cache).unwrap();
        assert_eq!(cache.y, array![[15.0, 18.0, 34.0]]);
        let dy = array![[1.0, 10.0, 100.0]];
        let mut grad = Linear { weight: Array2::ones((3, 2)), bias: Array1::ones(3) };
        layer.backward(x.view(), &mut cache, &dy, Write::Add, &mut grad, None);
        assert_eq!(grad.weight, array![[2.0, 3.0], [11.0, 21.0], [101.0, 201.0]], "adds, not overwrites");
        assert_eq!(grad.bias, array![2.0, 11.0, 101.0]);
        let mut dx = Array2::default((0, 0));
        layer.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));
        assert_eq!(grad.weight, array![[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]);
        assert_eq!(grad.bias, array![1.0, 10.0, 100.0]);
        assert_eq!(dx, array![[301.0, 42.0]]);
    }

    #[test]
    fn an_empty_gradient_is_left_alone() {
        let layer = Linear::<f64>::zeros(3, 2);
        let (x, mut cache, dy) = (array![[1.0, 2.0]], LinearCache::default(), array![[1.0, 10.0, 100.0]]);
        let mut grad = Linear { weight: Array2::default((0, 0)), bias: Array1::zeros(3) };
        layer.backward(x.view(), &mut cache, &dy, Write::Add, &mut grad, None);
        assert_eq!((grad.weight.len(), grad.bias), (0, array![1.0, 10.0, 100.0]));
    }
}
