//! Clipping by the global norm (Pascanu et al. 2013).
//!
//! ```text
//! (CLIP-1)  norm = ‖g‖₂ over all parameters together
//! (CLIP-2)  g ← c g, c = max_norm / (norm + 1e-6), only where c < 1
//! ```

use crate::linalg;
use crate::model::Parameters;
use crate::real::Real;

/// (CLIP-1), summed tensor by tensor in the order of [`Parameters::named`].
#[must_use]
pub fn global_norm<T: Real>(gradient: &Parameters<T>) -> f64 {
    // (CLIP-1)  norm = ‖g‖₂ over all parameters together
    let squares = gradient.tensors().map(|g| linalg::squared_norm(g.as_slice().expect("contiguous")));
    squares.fold(0.0, |total, square| total + square).sqrt()
}

/// (CLIP-2): the coefficient; 1 where the norm is small enough or `max_norm` is 0 (no clipping).
#[must_use]
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    // (CLIP-2)  g ← c g, c = max_norm / (norm + 1e-6), only where c < 1
    let coefficient = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && coefficient < 1.0 { coefficient } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    #[test]
    fn clip_1_is_one_norm_over_all_tensors() {
        let architecture =
            Config { embed_size: 2, word_dim: 2, ..Config::default() }.check().unwrap().architecture(4, 3);
        let mut gradient = Parameters::<f32>::zeros(&architecture);
        gradient.fill_with(|| 0.5);
        let expected = 0.5 * (gradient.count() as f64).sqrt();
        approx::assert_relative_eq!(global_norm(&gradient), expected, max_relative = 1e-15);
    }

    #[test]
    fn clip_2_acts_only_above_the_limit() {
        assert_eq!(clip_coefficient(1.0, 2.0), 1.0);
        assert_eq!(clip_coefficient(4.0, 2.0), 2.0 / (4.0 + 1e-6));
        assert_eq!(clip_coefficient(4.0, 0.0), 1.0, "0 is off");
    }
}
