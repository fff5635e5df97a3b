//! Matrix products, split into blocks over rayon.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, LinalgScalar};

use crate::real::Scalar;

/// C = A · B for A *M × K* and B *K × N*.
///
/// **Panics** if the inner dimensions differ: shapes are checked where data enters the crate.
#[must_use]
pub fn matmul<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Array2<T> {
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    product(a, b, false, c.view_mut());
    c
}

/// As [`matmul`], into the place of C, whatever it held.
pub fn matmul_into<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, c: ArrayViewMut2<'_, T>) {
    product(a, b, false, c);
}

/// C += A · B.
pub fn matmul_add<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, c: ArrayViewMut2<'_, T>) {
    product(a, b, true, c);
}

fn product<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, keep: bool, c: ArrayViewMut2<'_, T>) {
    assert_eq!(a.ncols(), b.nrows(), "product of {:?} and {:?}", a.dim(), b.dim());
    assert_eq!(c.dim(), (a.nrows(), b.ncols()), "product into {:?}", c.dim());
    let work = a.nrows() * a.ncols() * b.ncols();
    // Eight blocks, unless they would be too small to be worth a task or larger than needed.
    split(a, b, keep, c, (work / 8).clamp(1 << 20, 1 << 27));
}

/// Halves the longer side of C until a block has at most `block` multiplications.
fn split<T: Scalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, keep: bool, c: ArrayViewMut2<'_, T>, block: usize) {
    /// The kernels' register tile has at most this many rows or columns: borders stay on it.
    const TILE: usize = 32;
    let (m, n) = c.dim();
    if m * n * a.ncols() <= block || m.max(n) < 2 * TILE {
        return if T::FAST_PRODUCTS { fast_block(a, b, keep, c) } else { portable_block(a, b, keep, c) };
    }
    if m > n {
        let half = (m / 2).next_multiple_of(TILE);
        let (a0, a1) = a.split_at(Axis(0), half);
        let (c0, c1) = c.split_at(Axis(0), half);
        rayon::join(|| split(a0, b, keep, c0, block), || split(a1, b, keep, c1, block));
    } else {
        let half = (n / 2).next_multiple_of(TILE);
        let (b0, b1) = b.split_at(Axis(1), half);
        let (c0, c1) = c.split_at(Axis(1), half);
        rayon::join(|| split(a, b0, keep, c0, block), || split(a, b1, keep, c1, block));
    }
}

/// One block by `matrixmultiply` (vector units, fused multiply-add where the machine has it).
fn fast_block<T: LinalgScalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, keep: bool, mut c: ArrayViewMut2<'_, T>) {
    general_mat_mul(T::one(), &a, &b, if keep { T::one() } else { T::zero() }, &mut c);
}

/// One block in the order of the definition: `c_ij = Σ_k a_ik b_kj`, k from 0 upwards.
///
/// The sum runs in a row of its own and is added to C once, so that `keep` does not change its order.
fn portable_block<T: LinalgScalar>(
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    keep: bool,
    mut c: ArrayViewMut2<'_, T>,
) {
    let b = b.as_standard_layout();
    let mut sums = vec![T::zero(); b.ncols()];
    for (a_row, mut c_row) in a.outer_iter().zip(c.outer_iter_mut()) {
        sums.fill(T::zero());
        for (&x, b_row) in a_row.iter().zip(b.outer_iter()) {
            for (sum, &y) in sums.iter_mut().zip(b_row.iter()) {
                *sum = *sum + x * y;
            }
        }
        for (c, &sum) in c_row.iter_mut().zip(&sums) {
            *c = if keep { *c + sum } else { sum };
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
    fn fast_and_portable_agree_with_the_definition() {
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
    fn keeping_adds_to_what_was_there() {
        let (a, b) = (matrix::<f64>(5, 7, 3), matrix::<f64>(7, 4, 4));
        let mut c = Array2::ones((5, 4));
        matmul_add(a.view(), b.view(), c.view_mut());
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
    fn empty_products_are_zero() {
        let c = matmul(Array2::<f32>::zeros((3, 0)).view(), Array2::zeros((0, 2)).view());
        assert_eq!(c, Array2::<f32>::zeros((3, 2)));
    }
}
