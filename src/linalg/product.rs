//! Matrix products: panels, register tiles, blocks over rayon.
//!
//! ```text
//! C [M, N] = A [M, K] · B [K, N],   c_ij = Σ_k a_ik b_kj,  k from 0 upwards
//! ```
//!
//! Both factors are packed into [`Panels`]. A **tile** of C, some rows by 32 columns, is summed over all
//! of K in registers. The threads share the tiles in blocks. Neither tiles nor blocks change the order of
//! a sum.

use std::ops::Range;

#[cfg(test)]
use ndarray::Array2;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};

use super::Write;
use super::panels::Panels;
use crate::real::Scalar;
use crate::simd::{Side, Sums, TILE_COLUMNS, TILE_ROWS};

/// C = A · B in new memory.
#[cfg(test)]
pub(crate) fn matmul<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Array2<T> {
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    matmul_into(a, b, c.view_mut());
    c
}

/// C = A · B for A *M × K* and B *K × N*.
///
/// # Panics
///
/// As [`matmul_write`].
pub(crate) fn matmul_into<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, c: ArrayViewMut2<'_, T>) {
    matmul_write(a, b, Write::Replace, c);
}

/// C = A · B or C += A · B. The whole sum is computed first and then added.
///
/// # Panics
///
/// If the shapes do not fit: they are checked where data enters the crate.
pub(crate) fn matmul_write<T: Scalar>(
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    write: Write,
    mut c: ArrayViewMut2<'_, T>,
) {
    assert_eq!(a.ncols(), b.nrows(), "product of {:?} and {:?}", a.dim(), b.dim());
    assert_eq!(c.dim(), (a.nrows(), b.ncols()), "product into {:?}", c.dim());
    // Taken, not borrowed: while this thread waits for others, it may begin another product.
    let mut panels = Panels::over(T::panel_memory(Side::Right).take());
    let columns = at_once(b.nrows(), TILE_COLUMNS);
    for (b, c) in b.axis_chunks_iter(Axis(1), columns).zip(c.axis_chunks_iter_mut(Axis(1), columns)) {
        panels.pack_right(b);
        matmul_packed(a, &panels, write, c);
    }
    T::panel_memory(Side::Right).set(panels.into_memory());
}

/// The same as [`matmul_write`], with B already packed.
///
/// # Panics
///
/// If the shapes do not fit: they are checked where data enters the crate.
pub(crate) fn matmul_packed<T: Scalar>(a: ArrayView2<'_, T>, b: &Panels<T>, write: Write, mut c: ArrayViewMut2<'_, T>) {
    assert_eq!(a.ncols(), b.depth(), "product of {:?} and [{}, {}]", a.dim(), b.depth(), b.lines());
    assert_eq!(c.dim(), (a.nrows(), b.lines()), "product into {:?}", c.dim());
    assert_eq!(b.width(), TILE_COLUMNS, "the right factor was packed as a left one");
    let mut panels = Panels::over(T::panel_memory(Side::Left).take());
    let rows = at_once(a.ncols(), TILE_ROWS);
    for (a, c) in a.axis_chunks_iter(Axis(0), rows).zip(c.axis_chunks_iter_mut(Axis(0), rows)) {
        panels.pack_left(a);
        let factors = Factors { a: &panels, b, write };
        let work = a.nrows() * a.ncols() * b.lines();
        // Eight blocks, unless they would be too small for a task or larger than needed.
        let block = (work / 8).clamp(1 << 20, 1 << 27);
        factors.split(0..panels.count(), 0..b.count(), c, block);
    }
    T::panel_memory(Side::Left).set(panels.into_memory());
}

/// The largest number of elements packed at once. It bounds the memory of a product.
const PACKED: usize = 1 << 23;

/// The number of lines of K numbers packed at once, a multiple of a tile's.
fn at_once(depth: usize, tile: usize) -> usize {
    (PACKED / depth.max(1)).max(1).next_multiple_of(tile)
}

/// Computes one block of A · B from two packed factors, given by ranges of panels, and writes it to C. It
/// runs on the calling thread only, for callers that schedule blocks themselves.
///
/// # Panics
///
/// If the shapes do not fit: they are checked where data enters the crate.
pub(crate) fn matmul_panels<T: Scalar>(
    a: &Panels<T>,
    b: &Panels<T>,
    rows: Range<usize>,
    columns: Range<usize>,
    c: ArrayViewMut2<'_, T>,
) {
    assert_eq!(a.depth(), b.depth(), "product of [{}, {}] and [{}, {}]", a.lines(), a.depth(), b.depth(), b.lines());
    assert!(a.width() <= T::tile_rows() && b.width() == TILE_COLUMNS, "a factor was packed for the other side");
    assert_eq!(c.dim(), (a.lines_in(rows.clone()), b.lines_in(columns.clone())), "product into {:?}", c.dim());
    Factors { a, b, write: Write::Replace }.block(rows, columns, c);
}

/// The two factors of a product, and how the result is written.
#[derive(Clone, Copy)]
struct Factors<'a, T> {
    a: &'a Panels<T>,
    b: &'a Panels<T>,
    write: Write,
}

impl<T: Scalar> Factors<'_, T> {
    /// Halves the longer side of C, at a panel border, until a block has at most `block` multiplications.
    fn split(self, rows: Range<usize>, columns: Range<usize>, c: ArrayViewMut2<'_, T>, block: usize) {
        let (m, n) = c.dim();
        if m * n * self.a.depth() <= block || rows.len().max(columns.len()) < 2 {
            return self.block(rows, columns, c);
        }
        if columns.len() < 2 || (rows.len() >= 2 && m > n) {
            let half = rows.start + rows.len() / 2;
            let (c0, c1) = c.split_at(Axis(0), rows.len() / 2 * self.a.width());
            let (rows0, rows1) = (rows.start..half, half..rows.end);
            let other = columns.clone();
            rayon::join(|| self.split(rows0, columns, c0, block), || self.split(rows1, other, c1, block));
        } else {
            let half = columns.start + columns.len() / 2;
            let (c0, c1) = c.split_at(Axis(1), columns.len() / 2 * TILE_COLUMNS);
            let (columns0, columns1) = (columns.start..half, half..columns.end);
            let other = rows.clone();
            rayon::join(|| self.split(rows, columns0, c0, block), || self.split(other, columns1, c1, block));
        }
    }

    /// One block of C, tile by tile. It goes through all columns for as many rows at a time as fit the
    /// second level of a core's cache.
    fn block(self, rows: Range<usize>, columns: Range<usize>, mut c: ArrayViewMut2<'_, T>) {
        const CACHED: usize = 384 << 10;
        let (height, depth) = (self.a.width(), self.a.depth());
        let at_once = (CACHED / (size_of::<T>() * (height * depth).max(1))).max(1);
        let mut sums: Sums<T> = [[T::zero(); TILE_COLUMNS]; TILE_ROWS];
        for start in rows.clone().step_by(at_once) {
            for column in columns.clone() {
                let width = self.b.lines_of(column);
                let left = (column - columns.start) * TILE_COLUMNS;
                for row in start..rows.end.min(start + at_once) {
                    T::tile(height, self.a.panel(row), self.b.panel(column), &mut sums);
                    let top = (row - rows.start) * height;
                    let tile = c.slice_mut(s![top..top + self.a.lines_of(row), left..left + width]);
                    store(&sums, self.write, tile);
                }
            }
        }
    }
}

/// C = sums, or C += sums.
fn store<T: Scalar>(sums: &Sums<T>, write: Write, mut c: ArrayViewMut2<'_, T>) {
    let put = |c: &mut T, sum: T| *c = if write == Write::Add { *c + sum } else { sum };
    for (sums, mut c) in sums.iter().zip(c.outer_iter_mut()) {
        // The compiler knows the length of a whole tile row.
        match c.as_slice_mut().and_then(|c| <&mut [T; TILE_COLUMNS]>::try_from(c).ok()) {
            Some(c) => c.iter_mut().zip(sums).for_each(|(c, &sum)| put(c, sum)),
            None => c.iter_mut().zip(sums).for_each(|(c, &sum)| put(c, sum)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::s;

    fn matrix<T: Scalar>(rows: usize, cols: usize, seed: u64) -> Array2<T> {
        let mut state = seed;
        Array2::from_shape_simple_fn((rows, cols), || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::from_f64((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
        })
    }

    fn threads(n: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()
    }

    #[test]
    fn fused_and_portable_sums_agree_with_the_definition() {
        let (a, b) = (matrix::<f64>(37, 300, 1), matrix::<f64>(300, 45, 2));
        let exact =
            Array2::from_shape_fn((37, 45), |(i, j)| (0..300).map(|k| a[[i, k]] * b[[k, j]]).fold(0.0, |s, x| s + x));
        assert_eq!(matmul(a.view(), b.view()), exact);
        let fast = matmul(a.mapv(|x| x as f32).view(), b.mapv(|x| x as f32).view());
        // |error| ≤ K u Σ|a||b| with K = 300, u = 2⁻²⁴ and |a|, |b| ≤ 1.
        let bound = 300.0 * 2f64.powi(-24) * 300.0;
        assert!(fast.iter().zip(&exact).all(|(&x, y)| (f64::from(x) - y).abs() <= bound));
    }

    #[test]
    fn adding_keeps_the_old_values() {
        let (a, b) = (matrix::<f64>(5, 7, 3), matrix::<f64>(7, 4, 4));
        let mut c = Array2::ones((5, 4));
        matmul_write(a.view(), b.view(), Write::Add, c.view_mut());
        assert_eq!(c, matmul(a.view(), b.view()) + 1.0);
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let (a, b) = (matrix::<f32>(700, 513, 5), matrix::<f32>(513, 900, 6));
        let one = threads(1).install(|| matmul(a.view(), b.view()));
        for n in [2, 3, 8] {
            assert_eq!(one, threads(n).install(|| matmul(a.view(), b.view())), "{n} threads");
        }
    }

    #[test]
    fn an_element_depends_on_its_row_and_column_alone() {
        for k in [1, 64, 255, 300, 1024] {
            let (a, b) = (matrix::<f32>(150, k, 7), matrix::<f32>(k, 333, 8));
            let whole = matmul(a.view(), b.view());
            for (i, m, j, n) in [(0, 1, 0, 1), (3, 1, 0, 333), (0, 150, 17, 1), (141, 9, 300, 33), (5, 64, 1, 7)] {
                let part = matmul(a.slice(s![i..i + m, ..]), b.slice(s![.., j..j + n]));
                assert_eq!(part, whole.slice(s![i..i + m, j..j + n]), "K = {k}, block {i} {m} {j} {n}");
                let (at, bt) = (a.t().as_standard_layout().to_owned(), b.t().as_standard_layout().to_owned());
                let part = matmul(at.t().slice(s![i..i + m, ..]), bt.t().slice(s![.., j..j + n]));
                assert_eq!(part, whole.slice(s![i..i + m, j..j + n]), "transposed, K = {k}");
            }
        }
    }

    #[test]
    fn factors_too_large_to_be_packed_at_once_are_packed_in_parts() {
        let a = Array2::from_shape_fn((PACKED + 50, 1), |(i, _)| (i % 1013) as f32);
        let b = Array2::from_shape_fn((1, 1), |_| 3.0f32);
        assert_eq!(matmul(a.view(), b.view()), a.mapv(|x| 3.0 * x));
        assert_eq!(matmul(b.view(), a.t()), a.mapv(|x| 3.0 * x).reversed_axes());
        let long = Array2::from_elem((1, PACKED + 1), 0.5f64);
        assert_eq!(matmul(long.view(), long.t()), ndarray::array![[0.25 * (PACKED + 1) as f64]]);
    }

    #[test]
    #[should_panic(expected = "packed as a left one")]
    fn a_factor_packed_for_the_other_side_is_refused() {
        let mut left = Panels::default();
        left.pack_left(matrix::<f32>(20, 16, 1).view());
        matmul_packed(matrix::<f32>(3, 16, 2).view(), &left, Write::Replace, Array2::zeros((3, 20)).view_mut());
    }

    #[test]
    fn blocks_of_panels_are_parts_of_the_product() {
        let (a, b) = (matrix::<f32>(100, 40, 9), matrix::<f32>(40, 70, 10));
        let whole = matmul(a.view(), b.view());
        let (mut left, mut right) = (Panels::default(), Panels::default());
        left.pack_left(a.view());
        right.pack_right(b.view());
        for (rows, columns) in [(0..left.count(), 0..right.count()), (2..5, 1..2), (4..left.count(), 2..3)] {
            let (top, m) = (left.lines_in(0..rows.start), left.lines_in(rows.clone()));
            let (start, n) = (right.lines_in(0..columns.start), right.lines_in(columns.clone()));
            let mut c = Array2::zeros((m, n));
            matmul_panels(&left, &right, rows, columns, c.view_mut());
            assert_eq!(c, whole.slice(s![top..top + m, start..start + n]));
        }
    }

    #[test]
    fn empty_products_are_zero() {
        let mut c = matmul(Array2::<f32>::zeros((3, 0)).view(), Array2::zeros((0, 2)).view());
        assert_eq!(c, Array2::<f32>::zeros((3, 2)));
        c.fill(1.0);
        matmul_into(Array2::<f32>::zeros((3, 0)).view(), Array2::zeros((0, 2)).view(), c.view_mut());
        assert_eq!(c, Array2::<f32>::zeros((3, 2)), "the old values are overwritten");
        assert_eq!(matmul(Array2::<f32>::zeros((0, 3)).view(), Array2::zeros((3, 2)).view()).dim(), (0, 2));
        assert_eq!(matmul(Array2::<f32>::zeros((2, 3)).view(), Array2::zeros((3, 0)).view()).dim(), (2, 0));
    }
}
