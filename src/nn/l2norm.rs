//! L2 normalisation of rows.
//!
//! ```text
//! (NORM-1)  y = x / ‖x‖₂                      row by row, no epsilon
//! backward  dx = (dy − y (y · dy)) / ‖x‖₂     (NORM-2)
//! ```
//!
//! A row of zeros has no direction: it is an error that names the row and the side, never NaN.

use ndarray::{Array1, Array2, ArrayView2, Zip};

use crate::error::{ErrorKind, Result};
use crate::linalg;
use crate::real::{Real, Scalar};

/// What a forward pass leaves for its backward pass: the output and the norms.
#[derive(Clone, Debug)]
pub struct L2Norm<T> {
    /// y [N, D], rows of norm 1.
    pub output: Array2<T>,
    /// ‖x‖ of every row, `[N]`.
    pub norms: Array1<T>,
}

impl<T: Scalar> L2Norm<T> {
    /// (NORM-1): [N, D] → [N, D]. `side` is `image` or `caption`, for the message.
    ///
    /// **Errors** if a row is zero, or if its norm is not finite.
    pub fn forward(x: Array2<T>, side: &'static str) -> Result<Self> {
        let mut x = if x.is_standard_layout() { x } else { x.as_standard_layout().into_owned() };
        let mut norms = Array1::zeros(x.nrows());
        for (row, (mut x, norm)) in x.outer_iter_mut().zip(norms.iter_mut()).enumerate() {
            let x = x.as_slice_mut().expect("rows are contiguous");
            let scale = safe_scale(x);
            let unit = T::from_f64(scale);
            // Scaling by a power of two is exact; it only keeps the squares of tiny and huge rows in range.
            let inverse = T::from_f64(1.0 / scale);
            for x in x.iter_mut() {
                *x = *x * inverse;
            }
            let length = linalg::dot(x, x).sqrt();
            if length.re() == 0.0 {
                return Err(ErrorKind::ZeroNorm { side, row }.into());
            }
            if !length.re().is_finite() {
                let tensor = format!("norm of the {side} embedding");
                return Err(ErrorKind::NotFinite { tensor, index: vec![row], value: length.re() }.into());
            }
            for x in x.iter_mut() {
                *x = *x / length;
            }
            *norm = length * unit;
        }
        Ok(Self { output: x, norms })
    }
}

impl<T: Real> L2Norm<T> {
    /// (NORM-2): dy [N, D] → dx [N, D].
    #[must_use]
    pub fn backward(&self, dy: ArrayView2<'_, T>) -> Array2<T> {
        let mut dx = dy.as_standard_layout().into_owned();
        Zip::from(dx.rows_mut()).and(self.output.rows()).and(&self.norms).for_each(|mut dx, y, &norm| {
            let (dx, y) = (dx.as_slice_mut().expect("contiguous"), y.to_slice().expect("contiguous"));
            let along = linalg::dot(y, dx);
            for (dx, &y) in dx.iter_mut().zip(y) {
                *dx = (*dx - y * along) / norm;
            }
        });
        dx
    }
}

/// 1, or a power of two near the largest |x| of the row where squares could overflow or vanish.
fn safe_scale<T: Scalar>(x: &[T]) -> f64 {
    let largest = x.iter().map(|x| x.re().abs()).fold(0.0, f64::max);
    let in_range = (1e-12..1e12).contains(&largest) || largest == 0.0 || !largest.is_finite();
    if in_range {
        return 1.0;
    }
    let power_of_two = f64::from_bits(largest.to_bits() & (0x7ff << 52));
    power_of_two.clamp(1.0 / T::SAFE_SCALE, T::SAFE_SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn norm_1_gives_rows_of_length_one() {
        let norm = L2Norm::forward(array![[3.0, 4.0], [0.0, -2.0]], "image").unwrap();
        assert_eq!(norm.output, array![[0.6, 0.8], [0.0, -1.0]]);
        assert_eq!(norm.norms, array![5.0, 2.0]);
        let columns = array![[3.0, 0.0], [4.0, -2.0]].reversed_axes();
        assert_eq!(L2Norm::forward(columns, "image").unwrap().output, norm.output, "any order in memory");
    }

    #[test]
    fn norm_2_has_no_part_along_the_row() {
        let norm = L2Norm::forward(array![[3.0, 4.0]], "image").unwrap();
        let dx = norm.backward(array![[0.6, 0.8]].view());
        approx::assert_abs_diff_eq!(dx, array![[0.0, 0.0]], epsilon = 1e-16);
        let dx = norm.backward(array![[-0.8, 0.6]].view());
        approx::assert_abs_diff_eq!(dx, array![[-0.16, 0.12]], epsilon = 1e-16);
    }

    #[test]
    fn tiny_and_huge_rows_are_normalised_too() {
        for scale in [1e-30f32, 1e-22, 1e22, 1e30] {
            let norm = L2Norm::forward(array![[3.0 * scale, 4.0 * scale]], "image").unwrap();
            approx::assert_relative_eq!(norm.output, array![[0.6, 0.8]], max_relative = 1e-6);
            approx::assert_relative_eq!(norm.norms[0], 5.0 * scale, max_relative = 1e-6);
        }
    }

    #[test]
    fn a_zero_row_is_an_error_that_names_row_and_side() {
        let message = L2Norm::forward(array![[1.0f32], [0.0]], "caption").unwrap_err().to_string();
        assert!(message.contains("caption") && message.contains("row 1"), "{message}");
        assert!(L2Norm::forward(array![[f32::NAN]], "image").unwrap_err().to_string().contains("[0]"));
    }
}
