//! The plain computation: the equations as most kernels have them, in any arithmetic and with any mistake.
//!
//! It pads captions to [B, T], goes one time step after another, and keeps every intermediate value. The
//! tolerances and the diagnosis need what [`crate::spec`] must not have: any honest [`Arithmetic`], and
//! any planted [`Mistake`]. Wherever a line checks `wrong(…)`, the other branch is the specification.
//! Without mistakes and in exact order both give the same bits (`golden/tests.rs`).

mod dense;
mod gru;
mod last;
mod loss;
mod optimiser;
mod scores;
mod weights;

use ndarray::{Array, ArrayD, ArrayView2, Dimension};

pub(crate) use dense::Normalised;
pub(crate) use gru::{Padded, Pass};
pub(crate) use optimiser::{Optimiser, Tensors};

use super::arithmetic::Arithmetic;
use super::mistakes::{Mistake, Mistakes};
use crate::real::Real;

/// How to compute: an arithmetic, and the mistakes to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    /// Order of sums, rounding, exactness of σ and tanh.
    pub arithmetic: Arithmetic,
    /// The mistakes that are planted.
    pub mistakes: &'a Mistakes,
    /// A gradient of the scores that replaces that of (LOSS-1): where hardest negatives tie, several are
    /// right.
    pub d_scores: Option<ArrayView2<'a, f64>>,
    /// Make the mistakes in the forward pass alone. The backward pass is right, on the wrong values: so
    /// does a backend whose backward pass is written by hand.
    pub forward_only: bool,
}

/// No mistake.
static NONE: Mistakes = Mistakes::new();

impl<'a> Plain<'a> {
    /// Computes as an arithmetic does, with some mistakes.
    #[must_use]
    pub(crate) fn new(arithmetic: Arithmetic, mistakes: &'a Mistakes) -> Self {
        Self { arithmetic, mistakes, d_scores: None, forward_only: false }
    }

    /// How to compute backward.
    #[must_use]
    pub(crate) fn back(&self) -> Plain<'a> {
        Plain { mistakes: if self.forward_only { &NONE } else { self.mistakes }, ..*self }
    }

    /// Whether a mistake is planted.
    fn wrong(&self, mistake: Mistake) -> bool {
        self.mistakes.contains(&mistake)
    }
}

/// What the numbers of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Real numbers.
    Real,
    /// Indices, compared exactly.
    Index,
    /// 0 or 1, compared exactly.
    Mask,
}

/// One named tensor.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    /// Its name in a case: `mid.…`, `out.…`, `grad.…`, `opt.…`.
    pub name: String,
    /// What its numbers are.
    pub kind: Kind,
    /// Its numbers; indices and masks as whole numbers.
    pub values: ArrayD<T>,
}

/// All tensors of a computation in the order of the data flow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace<T> {
    /// The tensors.
    pub entries: Vec<Entry<T>>,
}

impl<T: Real> Trace<T> {
    /// Adds a tensor of real numbers.
    pub(crate) fn real<D: Dimension>(&mut self, name: impl Into<String>, values: &Array<T, D>) {
        self.add(name, Kind::Real, values);
    }

    /// Adds a tensor.
    pub(crate) fn add<D: Dimension>(&mut self, name: impl Into<String>, kind: Kind, values: &Array<T, D>) {
        let values = values.as_standard_layout().into_owned().into_dyn();
        self.entries.push(Entry { name: name.into(), kind, values });
    }

    /// Adds numbers as a vector.
    pub(crate) fn vector(&mut self, name: impl Into<String>, values: Vec<T>) {
        self.real(name, &ndarray::Array1::from(values));
    }

    /// A tensor by name.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&ArrayD<T>> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.values)
    }
}
