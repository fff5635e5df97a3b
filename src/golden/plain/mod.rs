//! The plain computation: the equations as most kernels have them, with everything kept.
//!
//! The model of [`crate::model`] computes on a prefix tree and keeps what backward needs. Kernels
//! pad the captions to [B, T] and go one time step after another, row by row; their authors want to
//! see every intermediate value, and its gradient. This is that computation, written apart from the
//! other so that the two can check each other (`tests/golden.rs` compares them), slow and simple.
//!
//! Every line stands for itself, in any honest [`Arithmetic`], and any [`Mistake`] can be planted:
//! wherever `wrong(…)` is asked, the branch taken otherwise is the specification.

mod dense;
mod gru;
mod loss;
mod optimiser;
mod scores;

use ndarray::{Array, ArrayD, ArrayView2, Dimension};

pub use dense::Normalised;
pub use gru::{Padded, Pass};
pub use loss::{Costs, Terms};
pub use optimiser::{Optimiser, OptimiserStep, Tensors};

use super::arithmetic::Arithmetic;
use super::mistakes::{Mistake, Mistakes};
use crate::real::Real;

/// How to compute: an arithmetic, and the mistakes to make.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// Order of sums, rounding, exactness of σ and tanh.
    pub arithmetic: Arithmetic,
    /// The mistakes that are planted.
    pub mistakes: &'a Mistakes,
    /// A gradient of the scores to go on with, in the place of the one that (LOSS-1) gives: where
    /// hardest negatives tie, several are right.
    pub d_scores: Option<ArrayView2<'a, f64>>,
    /// The mistakes are made on the way forward alone; the way back is the right one, on the wrong
    /// values: what a backend with a hand-written backward pass does.
    pub forward_only: bool,
}

/// No mistake.
static NONE: Mistakes = Mistakes::new();

impl<'a> Plain<'a> {
    /// Computes as an arithmetic does, with some mistakes.
    #[must_use]
    pub fn new(arithmetic: Arithmetic, mistakes: &'a Mistakes) -> Self {
        Self { arithmetic, mistakes, d_scores: None, forward_only: false }
    }

    /// How to compute backward.
    #[must_use]
    pub fn back(&self) -> Plain<'a> {
        Plain { mistakes: if self.forward_only { &NONE } else { self.mistakes }, ..*self }
    }

    /// Whether a mistake is planted.
    fn wrong(&self, mistake: Mistake) -> bool {
        self.mistakes.contains(&mistake)
    }
}

/// What the numbers of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Real numbers.
    Real,
    /// Indices, compared exactly.
    Index,
    /// 0 or 1, compared exactly.
    Mask,
}

/// One named tensor.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// Its name in a case: `mid.…`, `out.…`, `grad.…`, `opt.…`.
    pub name: String,
    /// What its numbers are.
    pub kind: Kind,
    /// Its numbers; indices and masks as whole numbers.
    pub values: ArrayD<T>,
}

/// All tensors of a computation in the order of the data flow.
#[derive(Clone, Debug, Default)]
pub struct Trace<T> {
    /// The tensors.
    pub entries: Vec<Entry<T>>,
}

impl<T: Real> Trace<T> {
    /// Adds a tensor of real numbers.
    pub fn real<D: Dimension>(&mut self, name: impl Into<String>, values: &Array<T, D>) {
        self.add(name, Kind::Real, values);
    }

    /// Adds a tensor.
    pub fn add<D: Dimension>(&mut self, name: impl Into<String>, kind: Kind, values: &Array<T, D>) {
        let values = values.as_standard_layout().into_owned().into_dyn();
        self.entries.push(Entry { name: name.into(), kind, values });
    }

    /// Adds numbers as a vector.
    pub fn vector(&mut self, name: impl Into<String>, values: Vec<T>) {
        self.real(name, &ndarray::Array1::from(values));
    }

    /// A tensor by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ArrayD<T>> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.values)
    }
}
