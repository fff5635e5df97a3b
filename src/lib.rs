//! VSE++ as an executable specification.
//!
//! VSE++ (Faghri, Fleet, Kiros and Fidler, "VSE++: Improving Visual-Semantic Embeddings with Hard
//! Negatives", BMVC 2018) learns one space for images and sentences. This crate computes it by hand,
//! forward and backward, checks every gradient, and trains on a CPU.
//!
//! # The paper on one page
//!
//! | letter | is | | letter | is |
//! |---|---|---|---|---|
//! | B | pairs in a batch | | H | hidden size of the GRU |
//! | T | time steps | | D | dimension of the joint space (= H, unless there is a caption projection) |
//! | V | words of the vocabulary | | F | dimension of an image's feature vector |
//! | E | dimension of a word vector | | α | margin |
//!
//! ```text
//! image      φ(i) [F] ── W_f ──▶ [D] ── ‖·‖ ──▶ f(i)                    model::image_tower  (IMG-1)
//! caption    words ── W[w] ──▶ [E] ── GRU ──▶ ψ(c) [H] ── ‖·‖ ──▶ g(c)   model::text_tower   (TXT-1)
//! similarity s(i, c) = f(i) · g(c);  S [B, B], rows images               similarity          (SIM-1)
//! VSE0       ℓ_SH = Σ over all negatives of [α + s(wrong) − s(right)]₊   loss                (SH-1)
//! VSE++      ℓ_MH = the same, of the hardest negative of each query      loss                (MH-1)
//! training   global-norm clipping, Adam, step schedule                   optim
//! retrieval  R@1, R@5, R@10, median and mean rank                        eval                (EVAL-1)
//! ```
//!
//! Each label is, with its equation, at the line of code that computes it; `docs/02-equations.md` lists
//! all of them with file and test.
//!
//! # Reading order
//!
//! [`spec`] first: every equation of the model once, in its plainest form. Then the fast code:
//! [`nn`] (layers), [`similarity`], [`loss`], [`model`], [`optim`], [`gradcheck`]. Then
//! [`data`], [`eval`], [`train`]. All of it uses [`real`] (numbers), [`linalg`] (matrix products) over
//! [`simd`] (the vector unit), [`random`] and [`files`]. [`golden`] checks other implementations against all
//! this; [`interop`] holds weights in the layouts of other libraries. `report` shows what happens, `bench`
//! measures what it costs, `cli` is the command line.
//!
//! # One training step
//!
//! ```
//! use ndarray::{Array2, array};
//! use vsepp::model::{Batch, Config, Pass, Vse};
//! use vsepp::nn::{Mode, Write};
//! use vsepp::optim::{Adam, clip_coefficient, global_norm, gradient_of};
//!
//! # fn main() -> vsepp::Result<()> {
//! let config = Config { embed_size: 8, word_dim: 4, ..Config::default() }.check()?;
//! let mut model = Vse::<f64>::init(config.architecture(10, 3), 0); // V = 10 words, F = 3
//! let mut adam = Adam::new(&model.parameters);
//! let (mut pass, mut gradient) = (Pass::default(), gradient_of(&model.parameters, &[]));
//!
//! // Two pairs: image features, and captions as ids between <start> = 1 and <end> = 2.
//! let images = array![[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]];
//! let batch = Batch::new(images, vec![vec![1, 4, 5, 2], vec![1, 4, 6, 7, 2]], vec![0, 1])?;
//! let mut d_images = Array2::zeros((0, 0)); // dℓ/dφ, for an image encoder in front
//! let mut losses = Vec::new();
//! for _ in 0..50 {
//!     model.forward(&batch, &config.objective(0), Mode::Train, &mut pass)?;
//!     model.backward(&batch, &mut pass, Write::Replace, &mut gradient, Some(&mut d_images))?;
//!     let clip = clip_coefficient(global_norm(&gradient), config.grad_clip);
//!     adam.update(&mut model.parameters, &gradient, 0.01, clip)?;
//!     losses.push(pass.terms.loss);
//! }
//! assert!(losses[49] < losses[0]);
//! assert_eq!(d_images.dim(), (2, 3));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | none | the mathematics |
//! | `files` | [`data`], [`eval`], [`train`], [`golden`] |
//! | `cli` (default) | the program |
// A link to what a feature leaves out.
#![cfg_attr(not(feature = "files"), allow(rustdoc::broken_intra_doc_links))]
// What only the program uses is not public.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]
#![cfg_attr(test, allow(clippy::float_cmp, clippy::cast_possible_truncation))]

mod error;
mod escape;
pub mod gradcheck;
mod linalg;
pub mod loss;
pub mod model;
pub mod nn;
pub mod optim;
mod random;
pub mod real;
mod simd;
pub mod similarity;
pub mod spec;

#[cfg(feature = "files")]
pub mod data;
#[cfg(feature = "files")]
pub mod eval;
#[cfg(feature = "files")]
mod files;
#[cfg(feature = "files")]
pub mod golden;
#[cfg(feature = "files")]
mod interop;
#[cfg(feature = "files")]
pub mod train;

#[cfg(feature = "cli")]
mod bench;
#[cfg(feature = "cli")]
#[doc(hidden)]
#[allow(rustdoc::invalid_html_tags)] // the doc comments of arguments are help texts
pub mod cli;
#[cfg(feature = "files")]
mod report;

/// The arrays of this crate's arguments and results.
pub use ndarray;

#[cfg(test)]
#[path = "../tests/pages/mod.rs"]
mod pages;

/// The page of crates.io: its example is tested.
#[cfg(doctest)]
#[doc = include_str!("../docs/crate.md")]
struct CratePage;

pub use error::{Error, ErrorKind, Result};
