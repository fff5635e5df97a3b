//! The plain computation: the equations as most kernels have them, in any arithmetic.
//!
//! It pads captions to [B, T], goes one time step after another, and keeps every intermediate value. The
//! tolerances need what [`crate::spec`] must not have: any honest [`Arithmetic`]. In exact order both give the
//! same bits (`golden/tests.rs`).

mod dense;
mod gru;
mod loss;
mod optimiser;
mod scores;

use ndarray::{Array, ArrayD, ArrayView2, Dimension};

pub(crate) use dense::{Normalised, abs, abs_backward, words};
pub(crate) use gru::{Padded, Pass};
pub(crate) use optimiser::{Optimiser, Tensors};

use super::arithmetic::Arithmetic;
use crate::real::Real;

/// How to compute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    /// Order of sums, rounding, exactness of σ and tanh.
    pub arithmetic: Arithmetic,
    /// A gradient of the scores that replaces that of (LOSS-1): where hardest negatives tie, several are
    /// right.
    pub d_scores: Option<ArrayView2<'a, f64>>,
}

impl Plain<'_> {
    /// Computes as an arithmetic does.
    #[must_use]
    pub(crate) fn new(arithmetic: Arithmetic) -> Self {
        Self { arithmetic, d_scores: None }
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
