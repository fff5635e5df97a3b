//! Clipping by the global norm (Pascanu et al. 2013).
//!
//! ```text
//! (CLIP-1)  norm = ‖g‖₂ over all parameters together
//! (CLIP-2)  g ← c g, c = max_norm / (norm + 1e-6), only where c < 1
//! ```

use crate::linalg;
use crate::nn::{Module, Role};
use crate::real::Real;

/// (CLIP-1), summed tensor by tensor in the order of a visit. Buffers and empty tensors do not count.
///
/// # Panics
///
/// If a tensor is not in standard layout.
#[must_use]
pub fn global_norm<T: Real>(gradient: &impl Module<T>) -> f64 {
    let mut total = 0.0;
    gradient.each(|_, tensor, g| {
        if tensor.role == Role::Trained {
            total += linalg::squared_norm(g.as_slice().expect("contiguous"));
        }
    });
    // (CLIP-1)  norm = ‖g‖₂ over all parameters together
    total.sqrt()
}

/// (CLIP-2): the coefficient; 1 where the norm is small enough or `max_norm` is 0 (no clipping).
///
/// ```
/// use vsepp::optim::clip_coefficient;
///
/// assert_eq!(clip_coefficient(1.5, 2.0), 1.0);
/// let c = clip_coefficient(8.0, 2.0);
/// assert!((c * 8.0 - 2.0).abs() < 1e-6);
/// assert_eq!(clip_coefficient(8.0, 0.0), 1.0, "off");
/// ```
#[must_use]
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    // (CLIP-2)  g ← c g, c = max_norm / (norm + 1e-6), only where c < 1
    let coefficient = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && coefficient < 1.0 { coefficient } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Tensor;
    use ndarray::{Array1, Array2, Array4};

    struct Layer<T> {
        weight: Array4<T>,
        mean: Array1<T>,
        frozen: Array2<T>,
    }
    crate::module!(
        Layer<T>,
        layer { weight: Tensor::constant(0.0), mean: Tensor::buffer(0.0), frozen: Tensor::constant(0.0) }
    );

    #[test]
    fn clip_1_is_one_norm_over_all_tensors() {
        let gradient =
            Layer::<f64> { weight: Array4::ones((2, 3, 2, 2)), mean: Array1::ones(9), frozen: Array2::default((0, 0)) };
        assert_eq!(global_norm(&gradient), 24f64.sqrt());
    }

    #[test]
    fn clip_2_acts_only_above_the_limit() {
        assert_eq!(clip_coefficient(1.0, 2.0), 1.0);
        assert_eq!(clip_coefficient(4.0, 2.0), 2.0 / (4.0 + 1e-6));
        assert_eq!(clip_coefficient(4.0, 0.0), 1.0, "0 is off");
    }
}
