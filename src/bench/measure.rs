//! Products and embeddings for the benchmarks.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use serde::Serialize;

use super::SEED;
use super::captions::uniform;
use super::effort::Effort;
use super::spread::Spread;
use super::subject::{multiply, rank};
use super::work::{Form, Product};
use crate::error::Result;
use crate::eval::Evaluation;
use crate::files::TensorWriter;
use crate::nn::l2norm::normalise;
use crate::random::stream;
use crate::simd::fused_operations;

/// U(−1, 1).
fn matrix(rows: usize, columns: usize, purpose: &str) -> Array2<f32> {
    let mut rng = stream(SEED, purpose);
    #[allow(clippy::cast_possible_truncation)] // exact
    Array2::from_shape_simple_fn((rows, columns), || (2.0 * uniform(&mut rng) - 1.0) as f32)
}

/// The machine's peak on a number of threads, in 10⁹ operations per second: of a product of 2048³, measured in
/// two ways, and of the arithmetic alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Peak {
    /// Threads.
    pub threads: usize,
    /// The crate's own product.
    pub linalg: f64,
    /// `matrixmultiply` on one block of columns per thread, as an independent measure.
    pub matrixmultiply: f64,
    /// Fused multiplications and additions in registers, without memory: no product can be faster.
    pub fused: f64,
}

impl Peak {
    /// Rows, columns and sums of the product.
    pub(crate) const SIDE: usize = 2048;

    /// Times all three on the threads of the current pool. The minimum counts.
    #[must_use]
    pub(crate) fn measure(effort: Effort) -> Self {
        /// Rounds of arithmetic.
        const STEPS: usize = 1 << 22;
        let side = Self::SIDE;
        let (a, b) = (matrix(side, side, "bench/a"), matrix(side, side, "bench/b"));
        let mut c = Array2::zeros((side, side));
        let threads = rayon::current_num_threads();
        let operations = 2.0 * (side as f64) * (side as f64) * (side as f64);
        let rate = |seconds: f64| operations / seconds / 1e9;
        let own = effort.time(|| multiply(Form::Output, &[side], a.view(), b.view(), c.view_mut()));
        let yardstick = effort.time(|| by_columns(a.view(), b.view(), c.view_mut(), threads));
        let mut operations = 0.0;
        let arithmetic = effort.time(|| operations = rayon::broadcast(|_| fused_operations(STEPS)).iter().sum());
        let fused = operations / arithmetic.min / 1e9;
        Self { threads, linalg: rate(own.min), matrixmultiply: rate(yardstick.min), fused }
    }

    /// The faster of the two. Shares of the peak refer to it.
    #[must_use]
    pub(crate) fn best(&self) -> f64 {
        self.linalg.max(self.matrixmultiply)
    }
}

/// A time, and the rate that follows from it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Timing {
    /// Seconds.
    pub seconds: Spread,
    /// 10⁹ useful operations per second, by the median.
    pub gflops: f64,
    /// The share of the peak on the same number of threads.
    pub share: f64,
}

impl Timing {
    pub(super) fn new(seconds: Spread, operations: f64, peak: &Peak) -> Self {
        let gflops = operations / seconds.median / 1e9;
        Self { seconds, gflops, share: gflops / peak.best() }
    }
}

/// C = A · B, the columns divided among tasks.
fn by_columns(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, mut c: ArrayViewMut2<'_, f32>, tasks: usize) {
    if tasks < 2 {
        return general_mat_mul(1.0, &a, &b, 0.0, &mut c);
    }
    let left = tasks / 2;
    let border = b.ncols() * left / tasks;
    let (b0, b1) = b.split_at(Axis(1), border);
    let (c0, c1) = c.split_at(Axis(1), border);
    rayon::join(|| by_columns(a, b0, c0, left), || by_columns(a, b1, c1, tasks - left));
}

/// The operands of a product of a step, filled with numbers.
#[derive(Clone, Debug)]
pub(super) struct Operands {
    product: Product,
    a: Array2<f32>,
    b: Array2<f32>,
    c: Array2<f32>,
}

impl Operands {
    /// Allocates and fills the operands.
    #[must_use]
    pub(super) fn new(product: &Product) -> Self {
        let (m, k, n) = (product.rows(), product.k, product.n);
        let (a, b) = match product.form {
            Form::Output => ((m, k), (n, k)),
            Form::Input => ((m, k), (k, n)),
            Form::Weight => ((k, m), (k, n)),
        };
        Self {
            product: product.clone(),
            a: matrix(a.0, a.1, "bench/a"),
            b: matrix(b.0, b.1, "bench/b"),
            c: Array2::zeros((m, n)),
        }
    }

    /// Computes all calls of the product in turn.
    pub(super) fn run(&mut self) {
        let Product { form, m, .. } = &self.product;
        multiply(*form, m, self.a.view(), self.b.view(), self.c.view_mut());
    }

    /// The same by `matrixmultiply`, on one block of columns per thread.
    pub(super) fn run_matrixmultiply(&mut self) {
        let (a, b) = match self.product.form {
            Form::Output => (self.a.view(), self.b.t()),
            Form::Input => (self.a.view(), self.b.view()),
            Form::Weight => (self.a.t(), self.b.view()),
        };
        let mut first = 0;
        for &m in &self.product.m {
            let call = s![first..first + m, ..];
            by_columns(a.slice(call), b, self.c.slice_mut(call), rayon::current_num_threads());
            first += m;
        }
    }

    /// The product.
    pub(super) fn product(&self) -> &Product {
        &self.product
    }

    /// The last row of C, [1, N]. Every number of B counts in it.
    pub(super) fn last_row(&self) -> ArrayView2<'_, f32> {
        self.c.slice(s![-1.., ..])
    }

    /// Writes A and B as they are laid out, the rows of each call, and the form: 0 for A Bᵀ, 1 for A B, 2 for Aᵀ B.
    ///
    /// # Errors
    ///
    /// The same as [`TensorWriter::add_integers`].
    pub(super) fn write(&self, writer: &mut TensorWriter) -> Result<()> {
        writer.add("a", &self.a.view().into_dyn());
        writer.add("b", &self.b.view().into_dyn());
        #[allow(clippy::cast_possible_wrap)] // an address has at most 63 bits
        let rows: Vec<i64> = self.product.m.iter().map(|&m| m as i64).collect();
        writer.add_integers("rows", &[rows.len()], &rows)?;
        writer.add_integers("form", &[1], &[self.product.form as i64])
    }
}

/// Embedded images and captions, five captions per image, for an evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Embeddings {
    /// f [N, D].
    pub images: Array2<f32>,
    /// g [5N, D].
    pub captions: Array2<f32>,
}

impl Embeddings {
    /// Captions per image.
    pub(crate) const EACH: usize = 5;

    /// Draws random directions. Captions are so near to their images that recall is neither 0 nor 100 %.
    ///
    /// # Errors
    ///
    /// Fails if a vector is zero.
    pub(crate) fn new(images: usize, dimension: usize) -> Result<Self> {
        /// The length of the noise relative to the image's vector, for D = 1024. With it, the nearest of a few
        /// thousand other images is about as near as the right one. A smaller D has less noise.
        const NOISE: f32 = 9.0;
        let mut f = matrix(images, dimension, "bench/embeddings/images");
        let mut g = matrix(images * Self::EACH, dimension, "bench/embeddings/captions");
        let noise = NOISE * (dimension as f32 / 1024.0).sqrt();
        for (caption, mut row) in g.outer_iter_mut().enumerate() {
            row.zip_mut_with(&f.row(caption / Self::EACH), |x, &image| *x = noise * *x + image);
        }
        normalise(&mut f)?;
        normalise(&mut g)?;
        Ok(Self { images: f, captions: g })
    }

    /// Ranks in both directions.
    ///
    /// # Errors
    ///
    /// The same as [`crate::eval::evaluate`].
    pub(crate) fn evaluate(&self) -> Result<Evaluation> {
        rank(self.images.view(), self.captions.view())
    }

    /// The operations of the single product that both directions need.
    #[must_use]
    pub(crate) fn operations(&self) -> f64 {
        2.0 * self.images.nrows() as f64 * self.captions.nrows() as f64 * self.images.ncols() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Size;
    use crate::bench::captions::made_up;
    use crate::bench::work::{Pass, products};
    use crate::linalg;
    use crate::nn::PrefixTree;

    #[test]
    fn columns_divided_among_tasks_give_the_product() {
        let (a, b) = (matrix(5, 7, "a"), matrix(7, 11, "b"));
        let whole = a.dot(&b);
        for tasks in 1..6 {
            let mut c = Array2::ones((5, 11));
            by_columns(a.view(), b.view(), c.view_mut(), tasks);
            approx::assert_abs_diff_eq!(c, whole, epsilon = 1e-5);
        }
    }

    #[test]
    fn calls_level_by_level_make_up_the_whole_product() {
        for (form, m) in [(Form::Output, vec![2, 1, 3]), (Form::Input, vec![4, 2]), (Form::Weight, vec![6])] {
            let product = Product { name: "x", pass: Pass::Forward, form, m, k: 4, n: 5 };
            let mut operands = Operands::new(&product);
            operands.run();
            let whole = match form {
                Form::Output => linalg::matmul(operands.a.view(), operands.b.t()),
                Form::Input => linalg::matmul(operands.a.view(), operands.b.view()),
                Form::Weight => linalg::matmul(operands.a.t(), operands.b.view()),
            };
            assert_eq!(operands.c, whole, "{form:?}");
            operands.c.fill(0.0);
            operands.run_matrixmultiply();
            approx::assert_abs_diff_eq!(operands.c, whole, epsilon = 1e-5);
        }
    }

    #[test]
    fn every_product_of_a_step_can_be_run() {
        let architecture = Size::Demo.model().architecture;
        let tree = PrefixTree::new(&made_up(architecture.vocab_size, 5));
        for product in products(&architecture, &tree) {
            let mut operands = Operands::new(&product);
            operands.run();
            assert!(operands.c.iter().all(|x| *x != 0.0), "{product:?}: every element is computed");
        }
    }

    #[test]
    fn some_but_not_all_embeddings_are_retrieved() {
        for dimension in [64, 1024] {
            let evaluation = Embeddings::new(200, dimension).unwrap().evaluate().unwrap();
            assert!((30.0..590.0).contains(&evaluation.rsum), "D = {dimension}: {}", evaluation.rsum);
        }
    }
}
