//! The golden kit: is a backend right, and if not, where is it wrong?
//!
//! A backend author takes the cases of `fixtures/golden`, computes, and asks `vsepp golden check`.
//! `docs/validate-a-backend.md` is where to start, `docs/golden.md` is the reference of the format.
//!
//! # How it works, in reading order
//!
//! | | |
//! |---|---|
//! | [`program`] | what a case computes: a cell, a sequence, a norm, a loss, …, a whole model |
//! | [`plain`] | the equations on padded rows, step by step, every intermediate value kept |
//! | [`arithmetic`] | the freedom of an honest backend: orders of summation, rounding, σ and tanh |
//! | [`tolerance`] | golden values, and how far honest backends lie from them: T = 8 E |
//! | [`cases`] | the suite: small inputs on which mistakes show |
//! | [`suite`] | the manifest and the files of a suite |
//! | [`compare`], [`ties`] | a backend's tensors against the golden ones; where several gradients are right |
//! | [`mistakes`], [`diagnose`] | what is known to go wrong, and which of it gives the backend's values |
//! | [`make`] | a suite is computed and written |
//! | [`check`] | a folder or a file against a suite or a case |
//! | [`custom`] | cases of the user's own, at the user's sizes |
//! | [`layouts`] | the GRU's weights as other libraries hold them |
//!
//! The plain computation is written apart from [`crate::model`], and a test compares the two; so the
//! golden values have three sources that agree: the prefix tree, the padded rows, and `PyTorch`.

pub mod arithmetic;
pub mod cases;
pub mod check;
pub mod compare;
pub mod custom;
pub mod diagnose;
pub mod difference;
mod inputs;
pub mod make;
pub mod mistakes;
pub mod plain;
pub mod program;
mod runner;
mod specified;
pub mod stage;
pub mod suite;
pub mod ties;
pub mod tolerance;

pub use arithmetic::Arithmetic;
