//! Matrix products: panels, register tiles, blocks over rayon.
//!
//! ```text
//! C [M, N] = A [M, K] · B [K, N],   c_ij = Σ_k a_ik b_kj,  k from 0 upwards
//! ```
//!
//! Both factors are packed into [`Panels`]. A **tile** of C, a panel of A by a panel of B, is summed in
//! registers over a block of K. Between the blocks of K its sums wait in a buffer, and they reach C once, at the
//! end. The threads share the tiles in blocks. Neither tiles nor blocks change the order of a sum: it is one
//! chain of additions, from k = 0 to the end.

use std::ops::Range;

#[cfg(test)]
use ndarray::Array2;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};

use super::Write;
use super::panels::Panels;
use crate::real::Scalar;
use crate::simd::Memory;

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
    c: ArrayViewMut2<'_, T>,
) {
    assert_eq!(a.ncols(), b.nrows(), "product of {:?} and {:?}", a.dim(), b.dim());
    each_right(a.len(), b, c, |b, c| product(a, b, write, c));
}

/// The same as [`matmul_into`], with A already packed, because several products share it.
///
/// # Panics
///
/// If the shapes do not fit: they are checked where data enters the crate.
pub(crate) fn matmul_left<T: Scalar>(a: &Panels<T>, b: ArrayView2<'_, T>, c: ArrayViewMut2<'_, T>) {
    assert_eq!(a.depth(), b.nrows(), "product of [{}, {}] and {:?}", a.lines(), a.depth(), b.dim());
    assert!(a.width() <= T::shape().rows, "the left factor was packed as a right one");
    assert_eq!(c.dim(), (a.lines(), b.ncols()), "product into {:?}", c.dim());
    each_right(a.lines() * a.depth(), b, c, |b, c| multiply(a, b, Write::Replace, c));
}

/// Computes with B as it is, if A is small, or else with packed columns of B, some at a time, and their columns of C.
fn each_right<T: Scalar>(
    numbers_of_a: usize,
    b: ArrayView2<'_, T>,
    mut c: ArrayViewMut2<'_, T>,
    compute: impl Fn(&Right<'_, T>, ArrayViewMut2<'_, T>),
) {
    /// The largest A that is read again for every task without loss.
    const SMALL: usize = 1 << 20;
    if numbers_of_a <= SMALL {
        return compute(&Right::Plain(b), c);
    }
    // Taken, not borrowed: while this thread waits for others, it may begin another product.
    let mut panels = Panels::over(T::memory(Memory::Right).take());
    let columns = at_once(b.nrows(), T::shape().columns);
    for (b, c) in b.axis_chunks_iter(Axis(1), columns).zip(c.axis_chunks_iter_mut(Axis(1), columns)) {
        panels.pack_right(b);
        compute(&Right::Packed(&panels), c);
    }
    T::memory(Memory::Right).set(panels.into_memory());
}

/// The same as [`matmul_write`], with B already packed.
///
/// # Panics
///
/// If the shapes do not fit: they are checked where data enters the crate.
pub(crate) fn matmul_packed<T: Scalar>(a: ArrayView2<'_, T>, b: &Panels<T>, write: Write, c: ArrayViewMut2<'_, T>) {
    assert_eq!(a.ncols(), b.depth(), "product of {:?} and [{}, {}]", a.dim(), b.depth(), b.lines());
    assert_eq!(b.width(), T::shape().columns, "the right factor was packed as a left one");
    product(a, &Right::Packed(b), write, c);
}

/// Packs A, some rows at a time, and computes their rows of C.
fn product<T: Scalar>(a: ArrayView2<'_, T>, b: &Right<'_, T>, write: Write, mut c: ArrayViewMut2<'_, T>) {
    let shape = T::shape();
    assert_eq!(c.dim(), (a.nrows(), b.lines()), "product into {:?}", c.dim());
    // Taken, not borrowed: while this thread waits for others, it may begin another product.
    let mut panels = Panels::over(T::memory(Memory::Left).take());
    let rows = at_once(a.ncols(), shape.rows);
    for (a, c) in a.axis_chunks_iter(Axis(0), rows).zip(c.axis_chunks_iter_mut(Axis(0), rows)) {
        panels.pack_left(a);
        multiply(&panels, b, write, c);
    }
    T::memory(Memory::Left).set(panels.into_memory());
}

/// The product of a packed A.
fn multiply<T: Scalar>(a: &Panels<T>, b: &Right<'_, T>, write: Write, c: ArrayViewMut2<'_, T>) {
    let work = a.lines() * a.depth() * b.lines();
    // Eight blocks, unless they would be too small for a task or larger than needed.
    let block = (work / 8).clamp(1 << 18, 1 << 27);
    Factors { a, b, write }.split(0..a.count(), 0..b.lines().div_ceil(T::shape().columns), c, block);
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
    let shape = T::shape();
    assert!(a.width() <= shape.rows && b.width() == shape.columns, "a factor was packed for the other side");
    assert_eq!(c.dim(), (a.lines_in(rows.clone()), b.lines_in(columns.clone())), "product into {:?}", c.dim());
    Factors { a, b: &Right::Packed(b), write: Write::Replace }.block(b, rows, columns, c);
}

/// The right factor.
enum Right<'a, T> {
    /// Packed before, because several products share it.
    Packed(&'a Panels<T>),
    /// Each task packs its columns, and uses them while they are in its cache.
    Plain(ArrayView2<'a, T>),
}

impl<T> Right<'_, T> {
    /// N.
    fn lines(&self) -> usize {
        match self {
            Self::Packed(b) => b.lines(),
            Self::Plain(b) => b.ncols(),
        }
    }
}

/// The two factors of a product, and how the result is written.
#[derive(Clone, Copy)]
struct Factors<'a, 'b, T> {
    a: &'a Panels<T>,
    b: &'a Right<'b, T>,
    write: Write,
}

impl<T: Scalar> Factors<'_, '_, T> {
    /// Halves C at a panel border until a block has at most `block` multiplications: the longer side, or the
    /// columns if the task packs them.
    fn split(self, rows: Range<usize>, columns: Range<usize>, c: ArrayViewMut2<'_, T>, block: usize) {
        /// Bytes of a block of B that is packed by its task.
        const PACKED: usize = 512 << 10;
        let (m, n) = c.dim();
        let (width, depth) = (T::shape().columns, self.a.depth());
        let plain = matches!(self.b, Right::Plain(_));
        let by_columns = columns.len() >= 2 && (plain || rows.len() < 2 || m <= n);
        let too_wide = by_columns && plain && n * depth * size_of::<T>() > PACKED;
        let small = m * n * depth <= block && !too_wide;
        if small || rows.len().max(columns.len()) < 2 {
            match self.b {
                Right::Packed(b) => self.block(b, rows, columns, c),
                Right::Plain(b) => {
                    let mut panels = Panels::over(T::memory(Memory::Right).take());
                    panels.pack_right_here(b.slice(s![.., columns.start * width..columns.start * width + n]));
                    self.block(&panels, rows, 0..panels.count(), c);
                    T::memory(Memory::Right).set(panels.into_memory());
                }
            }
        } else if by_columns {
            let half = columns.len() / 2;
            let (c0, c1) = c.split_at(Axis(1), half * width);
            let (columns0, columns1) = (columns.start..columns.start + half, columns.start + half..columns.end);
            let other = rows.clone();
            rayon::join(|| self.split(rows, columns0, c0, block), || self.split(other, columns1, c1, block));
        } else {
            let half = rows.len() / 2;
            let (c0, c1) = c.split_at(Axis(0), self.a.lines_in(rows.start..rows.start + half));
            let (rows0, rows1) = (rows.start..rows.start + half, rows.start + half..rows.end);
            let other = columns.clone();
            rayon::join(|| self.split(rows0, columns, c0, block), || self.split(rows1, other, c1, block));
        }
    }

    /// One block of C, in parts whose sums, and the numbers of A that they need, stay in a core's cache.
    fn block(self, b: &Panels<T>, rows: Range<usize>, columns: Range<usize>, mut c: ArrayViewMut2<'_, T>) {
        /// Rows and columns of a part.
        const PART: (usize, usize) = (96, 256);
        let Self { a, write, .. } = self;
        let (tall, wide) = ((PART.0 / a.width()).max(1), (PART.1 / b.width()).max(1));
        let mut memory = T::memory(Memory::Sums).take();
        for part_rows in parts(rows.clone(), tall) {
            for part_columns in parts(columns.clone(), wide) {
                let (height, width) = (a.lines_in(part_rows.clone()), part_columns.len() * b.width());
                let sums = height * width;
                if memory.len() < sums {
                    memory.resize(sums, T::zero());
                }
                let sums = &mut memory[..sums];
                if a.depth() == 0 {
                    sums.fill(T::zero());
                }
                // The panels of A have one of two heights; those of B have one width.
                for terms in a.blocks() {
                    let [(_, _, b), _] = b.groups(&terms, &part_columns);
                    let mut sums = &mut *sums;
                    for (rows, panels, a) in a.groups(&terms, &part_rows) {
                        let these;
                        (these, sums) = sums.split_at_mut(panels.len() * rows * width);
                        if !these.is_empty() {
                            T::tiles(rows, terms.len(), terms.start == 0, a, b, these);
                        }
                    }
                }
                let (top, left) =
                    (a.lines_in(rows.start..part_rows.start), b.lines_in(columns.start..part_columns.start));
                let mut c = c.slice_mut(s![top..top + height, left..left + b.lines_in(part_columns.clone())]);
                let mut sums = &*sums;
                for (height, panels, _) in a.groups(&(0..0), &part_rows) {
                    let (these, rest) = sums.split_at(panels.len() * height * width);
                    sums = rest;
                    let (now, later) = c.split_at(Axis(0), panels.len() * height);
                    store(these, b.width(), write, now);
                    c = later;
                }
            }
        }
        T::memory(Memory::Sums).set(memory);
    }
}

/// A range in pieces of some length; the last may be shorter.
fn parts(whole: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let end = whole.end;
    whole.step_by(length).map(move |start| start..end.min(start + length))
}

/// C = sums, or C += sums, from tiles [panel of columns, row, column].
fn store<T: Scalar>(sums: &[T], width: usize, write: Write, mut c: ArrayViewMut2<'_, T>) {
    if c.is_empty() {
        return;
    }
    let panel = c.nrows() * width;
    for (mut c, sums) in c.axis_chunks_iter_mut(Axis(1), width).zip(sums.chunks_exact(panel)) {
        for (mut c, sums) in c.outer_iter_mut().zip(sums.chunks_exact(width)) {
            match (c.as_slice_mut(), write) {
                (Some(c), Write::Replace) => c.copy_from_slice(&sums[..c.len()]),
                (Some(c), Write::Add) => c.iter_mut().zip(sums).for_each(|(c, &sum)| *c += sum),
                (None, Write::Replace) => c.iter_mut().zip(sums).for_each(|(c, &sum)| *c = sum),
                (None, Write::Add) => c.iter_mut().zip(sums).for_each(|(c, &sum)| *c += sum),
            }
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
