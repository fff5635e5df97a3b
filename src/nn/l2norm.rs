//! L2 normalisation of rows.
//!
//! ```text
//! (NORM-1)  y = x / ‖x‖₂                      row by row, no epsilon
//! (NORM-2)  dx = (dy − y (y · dy)) / ‖x‖₂     backward
//! ```
//!
//! A row of zeros has no direction: it is an error that names the row, never NaN.

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array2, ArrayView2};
use rayon::slice::ParallelSliceMut;

use super::{Layer, Mode};
use crate::error::{ErrorKind, Result};
use crate::linalg::{self, Write};
use crate::real::{Real, Scalar};
use crate::simd::vectorized;

/// Rows of norm 1; it has no parameters.
///
/// ```
/// use ndarray::array;
/// use vsepp::nn::{L2Norm, L2NormCache, Layer, Mode};
///
/// # fn main() -> vsepp::Result<()> {
/// let mut cache = L2NormCache::default();
/// L2Norm.forward(array![[3.0, 4.0], [0.0, -2.0]].view(), Mode::Eval, &mut cache)?;
/// assert_eq!((cache.y, cache.norm), (array![[0.6, 0.8], [0.0, -1.0]], array![5.0, 2.0]));
///
/// let zero = L2Norm.forward(array![[1.0, 0.0], [0.0, 0.0]].view(), Mode::Eval, &mut L2NormCache::default());
/// assert!(zero.unwrap_err().to_string().contains("row 1 has norm 0"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L2Norm;

crate::module!(L2Norm);

/// What [`L2Norm`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct L2NormCache<T> {
    /// y [N, D], rows of norm 1.
    pub y: Array2<T>,
    /// ‖x‖ of every row, `[N]`.
    pub norm: Array1<T>,
}

impl<T: Scalar> Layer<T> for L2Norm {
    /// x [N, D]
    type X<'a>
        = ArrayView2<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = Array2<T>;
    type Cache = L2NormCache<T>;

    /// # Errors
    ///
    /// If a row is zero, or if its norm is not finite.
    fn forward(&self, x: ArrayView2<'_, T>, _: Mode, cache: &mut L2NormCache<T>) -> Result<()> {
        linalg::reshape(&mut cache.y, x.dim());
        cache.y.assign(&x);
        normalise_rows(&mut cache.y, &mut cache.norm)
    }

    fn backward(
        &self,
        x: ArrayView2<'_, T>,
        cache: &mut L2NormCache<T>,
        dy: &Array2<T>,
        _: Write,
        _: &mut Self,
        dx: Option<&mut Array2<T>>,
    ) where
        T: Real,
    {
        let Some(dx) = dx else { return };
        linalg::reshape(dx, x.dim());
        let at_once = linalg::rows_at_once(x.ncols());
        dx.outer_iter_mut().into_par_iter().with_min_len(at_once).enumerate().for_each(|(row, mut dx)| {
            let (y, dy, norm) = (cache.y.row(row), dy.row(row), cache.norm[row]);
            let dx = dx.as_slice_mut().expect("contiguous");
            let (y, dy) = (y.to_slice().expect("contiguous"), dy.to_slice().expect("contiguous"));
            // (NORM-2)  dx = (dy − y (y · dy)) / ‖x‖₂
            let along = linalg::dot(y, dy);
            vectorized(
                #[inline(always)]
                || dx.iter_mut().zip(dy).zip(y).for_each(|((dx, &dy), &y)| *dx = (dy - y * along) / norm),
            );
        });
    }
}

/// (NORM-1) in place, for vectors that need no gradient.
///
/// # Errors
///
/// If a row is zero, or if its norm is not finite.
pub(crate) fn normalise<T: Scalar>(x: &mut Array2<T>) -> Result<()> {
    normalise_rows(x, &mut Array1::default(0))
}

fn normalise_rows<T: Scalar>(x: &mut Array2<T>, norms: &mut Array1<T>) -> Result<()> {
    if !x.is_standard_layout() {
        *x = x.as_standard_layout().into_owned();
    }
    let (rows, width) = x.dim();
    linalg::reshape(norms, rows);
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
        Some((row, 0.0)) => Err(ErrorKind::ZeroNorm { tensor: "x".into(), row }.into()),
        Some((row, value)) => Err(ErrorKind::NotFinite { tensor: "norm".into(), index: vec![row], value }.into()),
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

/// Usually 1; where squares could overflow or vanish, a power of two near the row's largest |x|.
fn safe_scale<T: Scalar>(x: &[T]) -> f64 {
    let largest = x.iter().map(|x| x.re().abs()).fold(0.0, f64::max);
    let in_range = (1e-12..1e12).contains(&largest) || largest == 0.0 || !largest.is_finite();
    if in_range {
        return 1.0;
    }
    let power_of_two = f64::from_bits(largest.to_bits() & (0x7ff << 52)); // the exponent alone
    power_of_two.clamp(1.0 / T::SAFE_SCALE, T::SAFE_SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn forward<T: Scalar>(x: &Array2<T>) -> Result<L2NormCache<T>> {
        let mut cache = L2NormCache { y: Array2::zeros((0, 0)), norm: Array1::zeros(0) };
        L2Norm.forward(x.view(), Mode::Train, &mut cache)?;
        Ok(cache)
    }

    #[test]
    fn norm_1_gives_rows_of_length_one() {
        let cache = forward(&array![[3.0, 4.0], [0.0, -2.0]]).unwrap();
        assert_eq!(cache.y, array![[0.6, 0.8], [0.0, -1.0]]);
        assert_eq!(cache.norm, array![5.0, 2.0]);
        let columns = array![[3.0, 0.0], [4.0, -2.0]].reversed_axes();
        assert_eq!(forward(&columns).unwrap().y, cache.y, "any order in memory");
    }

    #[test]
    fn norm_2_has_no_part_along_the_row() {
        let x = array![[3.0, 4.0]];
        let mut cache = forward(&x).unwrap();
        for (dy, expected) in [([[0.6, 0.8]], [[0.0, 0.0]]), ([[-0.8, 0.6]], [[-0.16, 0.12]])] {
            let mut dx = Array2::default((0, 0));
            L2Norm.backward(x.view(), &mut cache, &ndarray::arr2(&dy), Write::Add, &mut L2Norm, Some(&mut dx));
            approx::assert_abs_diff_eq!(dx, ndarray::arr2(&expected), epsilon = 1e-16);
        }
    }

    #[test]
    fn tiny_and_huge_rows_are_normalised_too() {
        for scale in [1e-30f32, 1e-22, 1e22, 1e30] {
            let cache = forward(&array![[3.0 * scale, 4.0 * scale]]).unwrap();
            approx::assert_relative_eq!(cache.y, array![[0.6, 0.8]], max_relative = 1e-6);
            approx::assert_relative_eq!(cache.norm[0], 5.0 * scale, max_relative = 1e-6);
        }
    }

    #[test]
    fn a_zero_row_is_an_error_that_names_it() {
        let message = forward(&array![[1.0f32], [0.0], [0.0]]).unwrap_err().to_string();
        assert!(message.contains("row 1 has norm 0"), "{message}");
        assert!(forward(&array![[f32::NAN]]).unwrap_err().to_string().contains("[0]"));
    }
}
