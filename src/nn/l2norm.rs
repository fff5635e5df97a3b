//! L2 normalisation of rows.
//!
//! ```text
//! (NORM-1)  y = x / ‖x‖₂                      row by row, no epsilon
//! (NORM-2)  dx = (dy − y (y · dy)) / ‖x‖₂     backward
//! ```
//!
//! A row of zeros has no direction: it is an error that names the row and the side, never NaN.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2};
use rayon::slice::ParallelSliceMut;

use crate::error::{ErrorKind, Result};
use crate::linalg;
use crate::real::{Real, Scalar};
use crate::simd::vectorized;

/// What a forward pass leaves for its backward pass: the output and the norms.
#[derive(Clone, Debug, Default)]
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
    pub fn forward(&mut self, x: ArrayView2<'_, T>, side: &'static str) -> Result<()> {
        linalg::reshape(&mut self.output, x.dim());
        self.output.assign(&x);
        normalise_rows(&mut self.output, &mut self.norms, side)
    }
}

/// (NORM-1) in place, when no backward pass follows.
///
/// **Errors** as [`L2Norm::forward`].
pub fn normalise<T: Scalar>(x: &mut Array2<T>, side: &'static str) -> Result<()> {
    normalise_rows(x, &mut Array1::default(0), side)
}

fn normalise_rows<T: Scalar>(x: &mut Array2<T>, norms: &mut Array1<T>, side: &'static str) -> Result<()> {
    if !x.is_standard_layout() {
        *x = x.as_standard_layout().into_owned();
    }
    let (rows, width) = x.dim();
    if norms.len() != rows {
        let (mut memory, _) = std::mem::take(norms).into_raw_vec_and_offset();
        memory.resize(rows, T::zero());
        *norms = Array1::from_vec(memory);
    }
    let norms = norms.as_slice_mut().expect("contiguous");
    let x = x.as_slice_mut().expect("in standard layout");
    // A row without numbers has norm 0 too; rayon rejects a chunk size of 0.
    let lengths = x.par_chunks_exact_mut(width.max(1)).zip(norms).with_min_len(linalg::rows_at_once(width));
    let wrong = lengths.enumerate().filter_map(|(row, (x, norm))| {
        *norm = normalise_row(x);
        (norm.re() == 0.0 || !norm.re().is_finite()).then_some((row, norm.re()))
    });
    match wrong.min_by_key(|&(row, _)| row).or((width == 0 && rows > 0).then_some((0, 0.0))) {
        None => Ok(()),
        Some((row, 0.0)) => Err(ErrorKind::ZeroNorm { side, row }.into()),
        Some((row, value)) => {
            let tensor = format!("norm of the {side} embedding");
            Err(ErrorKind::NotFinite { tensor, index: vec![row], value }.into())
        }
    }
}

/// (NORM-1) of one row; returns ‖x‖. A row of zeros becomes NaN.
fn normalise_row<T: Scalar>(x: &mut [T]) -> T {
    let scale = safe_scale(x);
    vectorized(
        #[inline(always)]
        || {
            // Scaling by a power of two is exact; it only keeps the squares of tiny and huge rows in range.
            let inverse = T::from_f64(1.0 / scale);
            for x in x.iter_mut() {
                *x = *x * inverse;
            }
            // (NORM-1)  y = x / ‖x‖₂
            let length = linalg::dot(x, x).sqrt();
            for x in x.iter_mut() {
                *x = *x / length;
            }
            length * T::from_f64(scale)
        },
    )
}

impl<T: Real> L2Norm<T> {
    /// (NORM-2): dy [N, D] becomes dx [N, D].
    pub fn backward(&self, dy: &mut Array2<T>) {
        let at_once = linalg::rows_at_once(self.output.ncols());
        dy.outer_iter_mut().into_par_iter().with_min_len(at_once).enumerate().for_each(|(row, mut dx)| {
            let (y, norm) = (self.output.row(row), self.norms[row]);
            let (dx, y) = (dx.as_slice_mut().expect("contiguous"), y.to_slice().expect("contiguous"));
            // (NORM-2)  dx = (dy − y (y · dy)) / ‖x‖₂
            let along = linalg::dot(y, dx);
            vectorized(
                #[inline(always)]
                || dx.iter_mut().zip(y).for_each(|(dx, &y)| *dx = (*dx - y * along) / norm),
            );
        });
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

    fn forward<T: Scalar>(x: &Array2<T>, side: &'static str) -> Result<L2Norm<T>> {
        let mut norm = L2Norm { output: Array2::zeros((0, 0)), norms: Array1::zeros(0) };
        norm.forward(x.view(), side)?;
        Ok(norm)
    }

    #[test]
    fn norm_1_gives_rows_of_length_one() {
        let norm = forward(&array![[3.0, 4.0], [0.0, -2.0]], "image").unwrap();
        assert_eq!(norm.output, array![[0.6, 0.8], [0.0, -1.0]]);
        assert_eq!(norm.norms, array![5.0, 2.0]);
        let columns = array![[3.0, 0.0], [4.0, -2.0]].reversed_axes();
        assert_eq!(forward(&columns, "image").unwrap().output, norm.output, "any order in memory");
    }

    #[test]
    fn norm_2_has_no_part_along_the_row() {
        let norm = forward(&array![[3.0, 4.0]], "image").unwrap();
        for (dy, dx) in [([[0.6, 0.8]], [[0.0, 0.0]]), ([[-0.8, 0.6]], [[-0.16, 0.12]])] {
            let mut d = ndarray::arr2(&dy);
            norm.backward(&mut d);
            approx::assert_abs_diff_eq!(d, ndarray::arr2(&dx), epsilon = 1e-16);
        }
    }

    #[test]
    fn tiny_and_huge_rows_are_normalised_too() {
        for scale in [1e-30f32, 1e-22, 1e22, 1e30] {
            let norm = forward(&array![[3.0 * scale, 4.0 * scale]], "image").unwrap();
            approx::assert_relative_eq!(norm.output, array![[0.6, 0.8]], max_relative = 1e-6);
            approx::assert_relative_eq!(norm.norms[0], 5.0 * scale, max_relative = 1e-6);
        }
    }

    #[test]
    fn a_zero_row_is_an_error_that_names_row_and_side() {
        let message = forward(&array![[1.0f32], [0.0], [0.0]], "caption").unwrap_err().to_string();
        assert!(message.contains("caption") && message.contains("row 1"), "{message}");
        assert!(forward(&array![[f32::NAN]], "image").unwrap_err().to_string().contains("[0]"));
    }
}
