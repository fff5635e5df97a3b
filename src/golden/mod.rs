//! The golden kit: is a backend right, and if not, where is it wrong?
//!
//! A backend author takes the cases of `fixtures/golden` or of `fixtures/golden-pictures`, computes, and runs
//! `vsepp golden check`. Start with `docs/validate-a-backend.md`; `docs/golden.md` is the reference of the format.
//!
//! # How it works, in reading order
//!
//! | | |
//! |---|---|
//! | [`program`], `inputs` | what a case computes (a cell, a sequence, a norm, a loss, …, a whole model), and from what |
//! | `specified` | the expected values: each program computed by [`crate::spec`] |
//! | [`plain`], `runner` | the same equations once more, in any arithmetic |
//! | [`pictures`] | the layers of image encoders, both ways; the order of their axes |
//! | [`arithmetic`] | the freedom of an honest backend: orders of summation, rounding, σ and tanh |
//! | [`difference`], [`tolerance`] | how far two tensors are apart, and how far honest backends may be: T = 8 E |
//! | [`cases`] | the suite: small inputs on which mistakes show |
//! | [`suite`], [`make`] | the manifest and the files of a suite, and how they are written |
//! | [`stage`] | which step of the data flow makes a tensor |
//! | `judge`, [`compare`], [`ties`] | one tensor of a backend, then all of a case; cases with several right gradients |
//! | [`relations`] | each tensor from the backend's own values: which step is wrong, and what it computes instead |
//! | [`mistakes`], [`diagnose`] | known mistakes, and which of them gives the backend's values |
//! | [`check`], `outputs` | a folder, a file or tensors in memory against a suite or a case |
//! | [`custom`] | users' own cases, in any sizes |
//! | [`mod@fuzz`] | random cases, and the smallest on which a backend is wrong |
//!
//! The public items are those that a check needs, for a backend in Rust with tests of its own:
//! [`check_folder`] for files, [`Outputs`] for tensors in memory, [`Profile`].
//!
//! Several computations of the model agree: [`crate::spec`] and [`plain`] to the bit, the fast one of
//! [`crate::model`] and that of `PyTorch` up to rounding. Tests compare all of them.

pub(crate) mod arithmetic;
pub(crate) mod cases;
pub(crate) mod check;
pub(crate) mod compare;
pub(crate) mod custom;
pub(crate) mod diagnose;
pub(crate) mod difference;
pub(crate) mod fuzz;
mod inputs;
mod judge;
pub(crate) mod make;
pub(crate) mod mistakes;
mod outputs;
pub(crate) mod pictures;
pub(crate) mod plain;
pub(crate) mod program;
pub(crate) mod relations;
mod runner;
mod specified;
pub(crate) mod stage;
pub(crate) mod suite;
pub(crate) mod ties;
pub(crate) mod tolerance;

pub(crate) use arithmetic::Arithmetic;
pub use check::{CheckOptions, CheckReport, check_folder};
pub use fuzz::{FuzzOptions, Fuzzed, fuzz};
pub use outputs::Outputs;
pub use suite::Suite;
pub use tolerance::Profile;

#[cfg(test)]
mod tests;
