//! Sums in a fixed order.

use ndarray::{Array1, ArrayView2, Axis};
use rayon::prelude::*;

use super::PARALLEL_WORK;
use crate::real::Scalar;

/// Σ x∘y of two rows of equal length.
///
/// Sixteen running sums, one for each residue of the index, added at the end from the first to the
/// last: fast on any vector unit, and the same bits on every machine.
#[must_use]
pub fn dot<T: Scalar>(x: &[T], y: &[T]) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let tail = xs.remainder().iter().zip(ys.remainder());
    for (xs, ys) in xs.zip(ys) {
        for l in 0..LANES {
            sums[l] += xs[l] * ys[l];
        }
    }
    for (l, (&x, &y)) in tail.enumerate() {
        sums[l] += x * y;
    }
    sums.iter().fold(T::zero(), |total, &sum| total + sum)
}

/// Σ x² of a whole tensor given as a slice, in `f64`.
///
/// Blocks of fixed length are summed in parallel, then their sums from the first to the last.
#[must_use]
pub fn squared_norm<T: Scalar>(x: &[T]) -> f64 {
    const BLOCK: usize = 1 << 14;
    let block = |x: &[T]| {
        let mut sums = [0.0; 8];
        for xs in x.chunks(8) {
            for (sum, x) in sums.iter_mut().zip(xs) {
                *sum += x.re() * x.re();
            }
        }
        sums.iter().fold(0.0, |total, sum| total + sum)
    };
    let sums: Vec<f64> = x.par_chunks(BLOCK).map(block).collect();
    sums.iter().fold(0.0, |total, sum| total + sum)
}

/// `total[j] += Σ_i x_ij`, rows from the first to the last: the gradient of a bias.
pub fn add_column_sums<T: Scalar>(x: ArrayView2<'_, T>, total: &mut Array1<T>) {
    /// Columns a task sums; a border that depends on nothing but the shape.
    const COLUMNS: usize = 256;
    let sum = |x: ArrayView2<'_, T>, total: &mut [T]| {
        let mut sums = vec![T::zero(); total.len()];
        for row in x.outer_iter() {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    };
    let total = total.as_slice_mut().expect("a bias is contiguous");
    if x.len() < PARALLEL_WORK {
        return sum(x, total);
    }
    let blocks: Vec<_> = x.axis_chunks_iter(Axis(1), COLUMNS).zip(total.chunks_mut(COLUMNS)).collect();
    blocks.into_par_iter().for_each(|(x, total)| sum(x, total));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn dot_and_squared_norm_are_the_sums_they_say() {
        let x: Vec<f64> = (0..1003).map(|i| f64::from(i % 7) - 3.0).collect();
        let y: Vec<f64> = (0..1003).map(|i| f64::from(i % 5) - 2.0).collect();
        // Small integers: every order of summation gives the same value.
        assert_eq!(dot(&x, &y), x.iter().zip(&y).map(|(x, y)| x * y).fold(0.0, |s, v| s + v));
        assert_eq!(squared_norm(&x), x.iter().map(|x| x * x).fold(0.0, |s, v| s + v));
        assert_eq!(dot::<f32>(&[], &[]), 0.0);
    }

    #[test]
    fn column_sums_accumulate_and_do_not_depend_on_the_path() {
        let x = Array2::from_shape_fn((130, 300), |(i, j)| 0.1f32 * (i as f32) - 0.7 * (j as f32));
        let (mut parallel, mut serial) = (Array1::<f32>::ones(300), Array1::<f32>::ones(300));
        add_column_sums(x.view(), &mut parallel);
        for (j, total) in serial.iter_mut().enumerate() {
            *total += x.column(j).iter().fold(0.0, |s, &v| s + v);
        }
        assert_eq!(parallel, serial);
    }
}
