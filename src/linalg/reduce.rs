//! Sums in a fixed order.

use ndarray::parallel::prelude::*;
use ndarray::{Array, Array1, ArrayView2, ArrayViewMut2, Axis, Dimension, IntoDimension};
use rayon::slice::ParallelSliceMut;

use super::{PARALLEL_WORK, Write};
use crate::real::Scalar;
use crate::simd::vectorized;

/// Σ x∘y for two rows of equal length.
///
/// It keeps sixteen running sums, one for each residue of the index, and adds them at the end from the
/// first to the last. This is fast on any vector unit and gives the same bits on every machine.
///
/// # Panics
///
/// If the lengths differ.
#[must_use]
pub(crate) fn dot<T: Scalar>(x: &[T], y: &[T]) -> T {
    assert_eq!(x.len(), y.len(), "rows of equal length");
    vectorized(
        #[inline(always)]
        || {
            lanes(
                x,
                y,
                #[inline(always)]
                |x, y| x * y,
            )
        },
    )
}

/// Σ term(x, y) in the order of [`dot`].
#[inline(always)]
pub(super) fn lanes<T: Scalar>(x: &[T], y: &[T], term: impl Fn(T, T) -> T) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    let ((xs, x_tail), (ys, y_tail)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            sums[l] += term(x[l], y[l]);
        }
    }
    for ((sum, &x), &y) in sums.iter_mut().zip(x_tail).zip(y_tail) {
        *sum += term(x, y);
    }
    sums.iter().fold(T::zero(), |total, &sum| total + sum)
}

/// Σ x² of a whole tensor, given as a slice, in `f64`.
///
/// The two halves are summed separately, recursively down to blocks of fixed length, and then added. The
/// order is that of a binary tree over the blocks, for any number of threads.
#[must_use]
pub(crate) fn squared_norm<T: Scalar>(x: &[T]) -> f64 {
    const BLOCK: usize = 1 << 14;
    const LANES: usize = 16;
    if x.len() > BLOCK {
        let half = (x.len() / 2).next_multiple_of(BLOCK);
        let (left, right) = x.split_at(half);
        let (left, right) = rayon::join(|| squared_norm(left), || squared_norm(right));
        return left + right;
    }
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0; LANES];
            let (blocks, tail) = x.as_chunks::<LANES>();
            for block in blocks {
                for (sum, x) in sums.iter_mut().zip(block) {
                    *sum += x.re() * x.re();
                }
            }
            for (sum, x) in sums.iter_mut().zip(tail) {
                *sum += x.re() * x.re();
            }
            sums.iter().fold(0.0, |total, sum| total + sum)
        },
    )
}

/// `total[j] = Σ_i x_ij` or `+= Σ_i x_ij`, rows from the first to the last: the gradient of a bias.
///
/// # Panics
///
/// If `total` does not have one number per column.
pub(crate) fn column_sums<T: Scalar>(x: ArrayView2<'_, T>, write: Write, total: &mut Array1<T>) {
    /// Columns per task. The borders depend only on the shape.
    const COLUMNS: usize = 256;
    let sum = |(x, total): (ArrayView2<'_, T>, &mut [T])| {
        let mut sums = [T::zero(); COLUMNS];
        for row in x.outer_iter() {
            match row.to_slice() {
                Some(row) => add(&mut sums[..row.len()], row),
                None => sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x),
            }
        }
        if write == Write::Replace {
            total.fill(T::zero());
        }
        add(total, &sums[..total.len()]);
    };
    assert_eq!(x.ncols(), total.len(), "column sums of {:?}", x.dim());
    let total = total.as_slice_mut().expect("a bias is contiguous");
    if x.len() < PARALLEL_WORK {
        x.axis_chunks_iter(Axis(1), COLUMNS).zip(total.chunks_mut(COLUMNS)).for_each(sum);
    } else {
        x.axis_chunks_iter(Axis(1), COLUMNS).into_par_iter().zip(total.par_chunks_mut(COLUMNS)).for_each(sum);
    }
}

/// `x_ij += row[j]`: a bias.
///
/// # Panics
///
/// If `row` does not have one number per column.
pub(crate) fn add_to_rows<T: Scalar>(mut x: ArrayViewMut2<'_, T>, row: &Array1<T>) {
    assert_eq!(x.ncols(), row.len(), "a row for {:?}", x.dim());
    let row = row.as_slice().expect("a bias is contiguous");
    let one = |x: &mut [T]| add(x, row);
    let parallel = x.len() >= PARALLEL_WORK;
    match x.as_slice_mut() {
        _ if row.is_empty() => {}
        Some(x) if parallel => x.par_chunks_exact_mut(row.len()).with_min_len(rows_at_once(row.len())).for_each(one),
        Some(x) => x.chunks_exact_mut(row.len()).for_each(one),
        None => x.outer_iter_mut().for_each(|mut x| x.iter_mut().zip(row).for_each(|(x, &y)| *x += y)),
    }
}

/// `x += y`, number by number.
pub(crate) fn add<T: Scalar>(x: &mut [T], y: &[T]) {
    vectorized(
        #[inline(always)]
        || x.iter_mut().zip(y).for_each(|(x, &y)| *x += y),
    );
}

/// The number of rows of elementwise work per task.
pub(crate) fn rows_at_once(width: usize) -> usize {
    (PARALLEL_WORK / (8 * width.max(1))).max(1)
}

/// Changes an array's shape and keeps its memory. Its values are then unspecified.
///
/// The buffers of a step get a new shape for every batch. After the largest batch they allocate nothing.
///
/// # Panics
///
/// If no array can have that many numbers.
pub(crate) fn reshape<T: Clone + Default, D: Dimension>(array: &mut Array<T, D>, shape: impl IntoDimension<Dim = D>) {
    let shape = shape.into_dimension();
    if array.raw_dim() != shape || !array.is_standard_layout() {
        let (mut data, _) = std::mem::take(array).into_raw_vec_and_offset();
        data.resize(shape.size(), T::default());
        *array = Array::from_shape_vec(shape, data).expect("as many numbers as the shape has");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn dot_and_squared_norm_equal_plain_sums() {
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
        column_sums(x.view(), Write::Add, &mut parallel);
        for (j, total) in serial.iter_mut().enumerate() {
            *total += x.column(j).iter().fold(0.0, |s, &v| s + v);
        }
        assert_eq!(parallel, serial);
        column_sums(x.view(), Write::Replace, &mut parallel);
        serial -= 1.0;
        approx::assert_relative_eq!(parallel, serial, max_relative = 1e-5);
    }
}
