//! What is checked: every layer by itself, then whole models.
//!
//! A layer's output y becomes a scalar by a curved readout, q(y) = Σ w∘y + 2 Σ y² with fixed random
//! w, so that every entry of dq/dy = w + 4y is different and no gradient is constant.

mod layers;
mod losses;
mod models;
mod pictures;

use ndarray::{Array, Array1, Array2, ArrayView, Dimension, IntoDimension};

use self::layers::{AbsProblem, EmbeddingProblem, GruProblem, L2NormProblem, LinearProblem, SimilarityProblem};
use self::losses::{VIOLATIONS, hinges};
use super::{Problem, Report, check};
use crate::error::Result;
use crate::nn::Module;
use crate::random::{Symmetric, stream};
use crate::real::Scalar;
use crate::similarity::Measure;
use ndarray_rand::rand::distr::Distribution;

pub use losses::LossProblem;
use models::models;

/// Every layer and every model; `each` receives every report as it comes.
///
/// # Errors
///
/// Only if a forward pass rejects its input, which would be a bug.
pub(crate) fn all(mut each: impl FnMut(&Report)) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    let mut add = |report: Report| {
        each(&report);
        reports.push(report);
    };
    add(check(&EmbeddingProblem)?);
    add(check(&LinearProblem)?);
    add(check(&L2NormProblem)?);
    add(check(&AbsProblem)?);
    for layers in 1..=2 {
        add(check(&GruProblem { layers })?);
    }
    for measure in [Measure::Cosine, Measure::Order, Measure::OrderSquared] {
        add(check(&SimilarityProblem { measure })?);
    }
    for violation in VIOLATIONS {
        for mask in [false, true] {
            add(check(&hinges(violation, mask))?);
        }
    }
    pictures::all(&mut add)?;
    for model in models() {
        add(check(&model)?);
    }
    Ok(reports)
}

/// Numbers in ±`bound` from a stream of their own.
fn numbers(n: usize, bound: f64, purpose: &str) -> Vec<f64> {
    let mut rng = stream(0, &format!("gradcheck/{purpose}"));
    (0..n).map(|_| Symmetric(bound).sample(&mut rng)).collect()
}

/// The readout's w.
fn weights<D: Dimension>(shape: D) -> Array<f64, D> {
    let w = numbers(shape.size(), 1.0, "readout");
    Array::from_shape_vec(shape, w).expect("as many as asked for")
}

/// q(y) = Σ w∘y + 2 Σ y²
fn readout<T: Scalar, D: Dimension>(y: ArrayView<'_, T, D>) -> T {
    let two = T::from_f64(2.0);
    y.iter().zip(&weights(y.raw_dim())).fold(T::zero(), |sum, (&y, &w)| sum + y * (T::from_f64(w) + two * y))
}

/// dq/dy = w + 4y
fn d_readout<D: Dimension>(y: ArrayView<'_, f64, D>) -> Array<f64, D> {
    weights(y.raw_dim()) + y.mapv(|y| 4.0 * y)
}

/// Takes arrays off a flat list of numbers, in order.
struct Blocks<'a, T>(&'a [T]);

impl<'a, T: Scalar> Blocks<'a, T> {
    fn take(&mut self, n: usize) -> &'a [T] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }
    fn array<D: Dimension>(&mut self, shape: impl IntoDimension<Dim = D>) -> Array<T, D> {
        let shape = shape.into_dimension();
        let numbers = self.take(shape.size());
        ArrayView::from_shape(shape, numbers).expect("as many as taken").to_owned()
    }
    fn vector(&mut self, n: usize) -> Array1<T> {
        self.array(n)
    }
    fn matrix(&mut self, rows: usize, columns: usize) -> Array2<T> {
        self.array((rows, columns))
    }
}

/// Fills a module's tensors in the order of a visit.
fn fill<T: Scalar>(module: &mut impl Module<T>, blocks: &mut Blocks<'_, T>) {
    module.each_mut(|_, _, mut tensor| {
        let numbers = blocks.take(tensor.len());
        tensor.iter_mut().zip(numbers).for_each(|(x, &number)| *x = number);
    });
}

/// A module's numbers in the order of a visit.
fn flat(module: &impl Module<f64>) -> Vec<f64> {
    let mut all = Vec::new();
    module.each(|_, _, tensor| all.extend(tensor));
    all
}

/// A module's tensors and their sizes in the order of a visit.
fn sizes(module: &impl Module<f64>) -> Vec<(String, usize)> {
    let mut sizes = Vec::new();
    module.each(|path, _, tensor| sizes.push((path.to_string(), tensor.len())));
    sizes
}

fn named(blocks: &[(&str, usize)]) -> Vec<(String, usize)> {
    blocks.iter().map(|&(name, size)| (name.to_owned(), size)).collect()
}

/// Captions that share prefixes, repeat words, occur twice, or are the beginning of another.
const CAPTIONS: [&[u32]; 7] = [
    &[1, 4, 5, 6, 2],
    &[1, 4, 5, 4, 4, 2],
    &[1, 4, 7, 2],
    &[1, 8, 5, 6, 9, 2],
    &[1, 4, 5],
    &[1, 4, 7, 2],
    &[1, 9, 9, 8, 2],
];
#[cfg(test)]
mod tests {
    use super::super::{TOLERANCE, complex_step};
    use super::pictures::{
        AvgPoolProblem, BatchNormProblem, BlockProblem, ConvProblem, DropoutProblem, FlattenProblem, MaxPoolProblem,
        ReluProblem,
    };
    use super::*;
    use crate::nn::Mode;

    #[test]
    fn every_gradient_passes() {
        let mut failed = false;
        for report in all(|_| ()).unwrap() {
            let worst = report.worst().unwrap();
            println!(
                "{}: {:.1e} in {}, slopes {:?} to {:?}, {} linear, {} near a kink, {} at one, {}",
                report.problem,
                worst.error,
                worst.name,
                report.taylor.slope_min,
                report.taylor.slope_max,
                report.taylor.linear,
                report.taylor.near_kink,
                report.taylor.at_kink,
                report.passed
            );
            failed |= !report.passed;
        }
        assert!(!failed, "see the lines above");
    }

    /// A right gradient in which one block is too large.
    struct Planted<'a, P> {
        problem: &'a P,
        block: usize,
    }

    impl<P: Problem> Problem for Planted<'_, P> {
        fn name(&self) -> String {
            self.problem.name()
        }
        fn blocks(&self) -> Vec<(String, usize)> {
            self.problem.blocks()
        }
        fn point(&self) -> Vec<f64> {
            self.problem.point()
        }
        fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
            self.problem.value(x)
        }
        fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
            let sizes: Vec<usize> = self.blocks().iter().map(|(_, n)| *n).collect();
            let start = sizes[..self.block].iter().sum::<usize>();
            let mut gradient = self.problem.gradient(x)?;
            gradient[start..start + sizes[self.block]].iter_mut().for_each(|g| *g *= 1.0 + 1e-6);
            Ok(gradient)
        }
        fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
            self.problem.active_set(x)
        }
    }

    /// Plants an error in one block after another.
    fn find_all<P: Problem>(problem: &P) {
        for block in 0..problem.blocks().len() {
            let planted = Planted { problem, block };
            let x = planted.point();
            let blocks = complex_step(&planted, &x, &planted.gradient(&x).unwrap()).unwrap();
            let wrong: Vec<_> = blocks.iter().filter(|b| b.error > TOLERANCE).collect();
            assert_eq!(wrong.len(), 1, "{}: block {block}: {blocks:#?}", problem.name());
            assert_eq!(wrong[0].name, problem.blocks()[block].0);
        }
    }

    #[test]
    fn a_relative_error_of_1e_6_in_any_one_block_is_found_and_named() {
        find_all(&EmbeddingProblem);
        find_all(&LinearProblem);
        find_all(&L2NormProblem);
        find_all(&AbsProblem);
        find_all(&ConvProblem);
        find_all(&GruProblem { layers: 2 });
        for measure in [Measure::Cosine, Measure::Order, Measure::OrderSquared] {
            find_all(&SimilarityProblem { measure });
        }
        for violation in VIOLATIONS {
            find_all(&hinges(violation, true));
        }
        for mode in [Mode::Train, Mode::Eval] {
            find_all(&BatchNormProblem { mode });
        }
        find_all(&ReluProblem);
        find_all(&MaxPoolProblem);
        find_all(&AvgPoolProblem);
        find_all(&DropoutProblem);
        find_all(&FlattenProblem);
        for mode in [Mode::Train, Mode::Eval] {
            for bottleneck in [false, true] {
                find_all(&BlockProblem { bottleneck, mode });
            }
        }
        models().iter().for_each(find_all);
    }
}
