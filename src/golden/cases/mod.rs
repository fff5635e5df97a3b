//! The cases of the suite: families of small inputs on which mistakes show.
//!
//! Every number is drawn from a random stream named after the case, on a grid that `f32` holds
//! exactly, so that `f32` and `f64` backends start from the same bits. All weights are distinct,
//! biases and h₀ are not zero, H ≥ 2, so every permutation shows. A draw too near a kink is rejected, and
//! the next one is used.

mod blocks;
mod encoders;
mod gru;
mod layers;
mod losses;
mod models;
mod optimiser;
mod pictures;
pub(crate) mod random;
mod rejected;
mod wide;

use ndarray::{Array, Array1, Array3, ArrayD, Dimension, IntoDimension, s};
use ndarray_rand::rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;

pub(crate) use models::paper;
pub(crate) use wide::wide;

use super::arithmetic::Arithmetic;
use super::difference::{difference, extent, lengths_of};
use super::inputs::rnn;
use super::plain::Plain;
use super::program::{Inputs, Program, Settings};
use crate::error::{Error, Result};
use crate::random::{Symmetric, permutation, stream};
use crate::similarity::Measure;

/// What a backend is expected to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expected {
    /// To give these values.
    Valid,
    /// To give these values, or to fail, with a remark: the range of `f32` is nearly left.
    Acceptable,
    /// To refuse the input.
    Invalid,
}

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its name, for ever.
    pub id: String,
    /// The family it belongs to.
    pub family: &'static str,
    /// What it computes.
    pub program: Program,
    /// With which settings.
    pub settings: Settings,
    /// What is special about it; see [`FLAGS`].
    pub flags: Vec<&'static str>,
    /// What it is for.
    pub note: String,
    /// What a backend is expected to do.
    pub expected: Expected,
    /// `in.*` and `param.*`.
    pub inputs: Inputs,
}

/// What the flags mean.
pub(crate) const FLAGS: &[(&str, &str)] = &[
    (
        "nan-padding",
        "in.x or in.d_words is NaN after each row's end: a kernel that computes there, multiplies it by 0 or sums it spreads NaN",
    ),
    ("unsorted", "the rows are not sorted by length: a kernel that sorts them must restore their order"),
    ("equal-lengths", "all rows have one length: mistakes about padding do not show here"),
    ("two-layers", "two layers or more: the upper ones read the states below at every step"),
    ("square", "sizes are equal: a matrix whose axes are exchanged has the right shape, and only its values tell"),
    ("saturated", "large pre-activations: gates near 0 and 1, where 1 - z cancels"),
    (
        "reset-agree",
        "W_hn is diagonal and b_hn = 0: the reset gate before or after the product gives the same; its partner with reset-differ does not",
    ),
    ("reset-differ", "as its partner with reset-agree, but W_hn mixes the units and b_hn is not 0"),
    ("repeated-words", "a word occurs several times: its gradients add up"),
    (
        "cancellation",
        "terms that nearly cancel: honest orders of summation differ visibly, and the tolerance is measured accordingly",
    ),
    ("large-k", "long sums"),
    ("remainder", "sizes just above a multiple of 32: kernels that work in tiles have a remainder to compute"),
    ("tails", "sizes such as 23, 27, 55, 91 and 251: tiles of 8, 16, 32, 64 and 128 end at different places"),
    ("small-hinges", "hinges of about 1e-3: a threshold above 0 shows"),
    ("no-violation", "an image and a caption without any order violation: score 0, gradient 0, not 0 / 0"),
    ("tiny", "rows of small norm: an epsilon in the normalisation shows"),
    ("huge", "rows of large norm"),
    ("one-hot", "rows with a single non-zero element"),
    ("extreme-range", "squares leave the range of f32 unless rows are scaled first: to fail here is acceptable"),
    ("one-pair", "B = 1: no negatives, loss and gradient exactly 0"),
    ("kink", "hinges that are exactly 0 (all numbers are dyadic, so in any precision): their gradient is 0"),
    (
        "tie",
        "hardest negatives that are exactly equal: the first index is the norm; any convex combination of the tied choices is accepted with a remark",
    ),
    ("masked", "mask_same_image: captions of one image are no negatives of each other"),
    ("resumed", "moments and step count are given: the optimiser goes on with them"),
    ("zero-gradient", "elements with gradient 0 and moments that are not: Adam is dense and moves them"),
    ("small-gradient", "gradients from 1e-8 to 1e-6: the place and the size of an epsilon show"),
    ("clipped", "the global norm is above the limit"),
    ("not-clipped", "the global norm is below the limit: the gradient is left as it is"),
    ("trajectory", "steps repeated on one batch: small errors in backward or optimiser add up"),
    ("worked-example", "the example of docs/02-equations.md, to be followed by hand"),
    ("rejected", "an input that must be refused, not turned into NaN or into a plausible number"),
    (
        "running-statistics",
        "the running statistics are used, far from those of the batch, and the gradient flows past them",
    ),
    ("small-variance", "channels that hardly vary: the size and the place of the norm's epsilon show"),
    ("pool-tie", "several pixels of a window are the largest: the first in the order of the rows takes the gradient"),
    ("uneven-cells", "cells of an average pool that differ in size and share pixels"),
    (
        "shortcut-of-zeros",
        "a shortcut without parameters: every second pixel of x, with as many channels of zeros before as after it",
    ),
    ("unseen-pixels", "pixels that no kernel or window reaches: their gradient is 0"),
];

/// A stream of numbers for one case.
struct Draw(ChaCha8Rng);

impl Draw {
    /// An array of U(−a, a), rounded to `f32`, never 0.
    #[allow(clippy::cast_possible_truncation)] // rounding is what is wanted
    fn array<D: Dimension>(&mut self, shape: impl IntoDimension<Dim = D>, a: f64) -> Array<f64, D> {
        Array::from_shape_simple_fn(shape.into_dimension(), || {
            loop {
                let x = f64::from(Symmetric(a).sample(&mut self.0) as f32);
                if x != 0.0 {
                    return x;
                }
            }
        })
    }

    /// A number from `low` to `high`.
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + permutation(&mut self.0, high - low + 1)[0]
    }
}

/// A case in the making.
struct Sketch {
    id: String,
    family: &'static str,
    program: Program,
    settings: Settings,
    flags: Vec<&'static str>,
    note: String,
    expected: Expected,
    /// How far from a kink a draw must lie.
    apart: f64,
}

impl Sketch {
    fn new(family: &'static str, name: &str, program: Program, note: &str) -> Self {
        Self {
            id: format!("{family}-{name}"),
            family,
            program,
            settings: Settings::default(),
            flags: Vec::new(),
            note: note.into(),
            expected: Expected::Valid,
            apart: 0.0,
        }
    }

    fn flags(mut self, flags: &[&'static str]) -> Self {
        self.flags.extend(flags);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    fn apart(mut self, distance: f64) -> Self {
        self.apart = distance;
        self
    }

    fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// Inputs drawn until all parameters are distinct and no kink is near.
    ///
    /// # Errors
    ///
    /// If that does not succeed: then the case asks for too much.
    fn draw(self, inputs: impl Fn(&mut Draw) -> Inputs) -> Result<Case> {
        const ATTEMPTS: usize = 20_000;
        for attempt in 0..ATTEMPTS {
            let case = self.case(inputs(&mut Draw(stream(0, &format!("golden/{}/{attempt}", self.id)))));
            let apart = self.apart == 0.0 || case.kink()? >= self.apart;
            if case.is_distinct() && apart && (self.expected == Expected::Invalid || case.is_well_conditioned()?) {
                return Ok(case);
            }
        }
        Err(Error::mismatch(format!("{}: no draw in {ATTEMPTS} lies {} from every kink", self.id, self.apart)))
    }

    fn case(&self, inputs: Inputs) -> Case {
        Case {
            id: self.id.clone(),
            family: self.family,
            program: self.program,
            settings: self.settings.clone(),
            flags: self.flags.clone(),
            note: self.note.clone(),
            expected: self.expected,
            inputs,
        }
    }
}

impl Case {
    /// Whether no two numbers of a parameter are equal, those of the case that are zero on purpose
    /// aside.
    #[must_use]
    pub(crate) fn is_distinct(&self) -> bool {
        self.inputs.iter().filter(|(name, _)| name.starts_with("param.")).all(|(_, tensor)| {
            let mut bits: Vec<u64> = tensor.iter().filter(|&&x| x != 0.0).map(|x| x.to_bits()).collect();
            bits.sort_unstable();
            bits.windows(2).all(|pair| pair[0] != pair[1])
        })
    }

    /// Whether `f32` is precise enough for every tensor. It is not where a gradient cancels to nothing.
    fn is_well_conditioned(&self) -> Result<bool> {
        const LARGEST: f64 = 1e-4;
        let plain = Plain::new(Arithmetic::PLAIN);
        let exact = self.program.specified(&self.settings, &self.inputs)?.trace;
        let single = self.program.run::<f32>(&self.settings, &self.inputs, &plain)?.trace;
        let lengths = lengths_of(&self.inputs);
        Ok(exact.entries.iter().zip(&single.entries).all(|(exact, single)| {
            let extent = extent(self.program, &exact.name, lengths.as_deref());
            difference(&exact.values, &single.values.mapv(f64::from), extent).deviation.max <= LARGEST
        }))
    }

    /// The distance from the nearest kink.
    fn kink(&self) -> Result<f64> {
        Ok(self.program.specified(&self.settings, &self.inputs)?.margins.kink())
    }
}

/// Names and tensors.
fn named<const N: usize>(tensors: [(&str, ArrayD<f64>); N]) -> Inputs {
    tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
}

/// The parameters of a GRU layer, U(±a), under the original's names.
fn add_layer(inputs: &mut Inputs, draw: &mut Draw, k: usize, input: usize, hidden: usize, a: f64) {
    let name = |part: &str| format!("param.{}", rnn(part, k));
    inputs.insert(name("weight_ih"), draw.array((3 * hidden, input), a).into_dyn());
    inputs.insert(name("weight_hh"), draw.array((3 * hidden, hidden), a).into_dyn());
    inputs.insert(name("bias_ih"), draw.array(3 * hidden, a).into_dyn());
    inputs.insert(name("bias_hh"), draw.array(3 * hidden, a).into_dyn());
}

fn cell_inputs(draw: &mut Draw, [batch, input, hidden]: [usize; 3], a: f64) -> Inputs {
    let mut inputs = named([
        ("in.x", draw.array((batch, input), 1.0).into_dyn()),
        ("in.h", draw.array((batch, hidden), 0.9).into_dyn()),
        ("in.d_h_next", draw.array((batch, hidden), 1.0).into_dyn()),
    ]);
    add_layer(&mut inputs, draw, 0, input, hidden, a);
    inputs
}

/// Four times the inputs of a layer, and the gradient that it is given, so that they are beyond ±1: exact in any
/// precision.
fn enlarge(mut inputs: Inputs) -> Inputs {
    let is_value = |name: &str| name.starts_with("in.") && !["in.lengths", "in.captions"].contains(&name);
    inputs.iter_mut().filter(|(name, _)| is_value(name)).for_each(|(_, x)| *x *= 4.0);
    inputs
}

fn lengths(lengths: &[usize]) -> ArrayD<f64> {
    lengths.iter().map(|&length| length as f64).collect::<Array1<f64>>().into_dyn()
}

/// NaN after the end of each row.
fn poison(mut x: Array3<f64>, lengths: &[usize]) -> ArrayD<f64> {
    for (b, &length) in lengths.iter().enumerate() {
        x.slice_mut(s![b, length.., ..]).fill(f64::NAN);
    }
    x.into_dyn()
}

/// All cases of the suite, in the order of the manifest. New ones are added at the end of their
/// family; an id is never given to another case.
///
/// # Errors
///
/// If a case cannot be drawn as it asks.
pub(crate) fn core() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    gru::gru_cells(&mut cases)?;
    gru::layouts(&mut cases)?;
    gru::resets(&mut cases)?;
    gru::sequences(&mut cases)?;
    layers::embeddings(&mut cases)?;
    layers::linears(&mut cases)?;
    layers::norms(&mut cases)?;
    layers::scores(&mut cases)?;
    losses::losses(&mut cases)?;
    losses::kinks_and_ties(&mut cases)?;
    optimiser::optimisers(&mut cases)?;
    models::models(&mut cases)?;
    models::trajectories(&mut cases)?;
    rejected::rejected(&mut cases)?;
    Ok(cases)
}

/// All cases of the suite of pictures, likewise. In each family the smallest case comes first.
///
/// # Errors
///
/// If a case cannot be drawn as it asks.
pub(crate) fn of_pictures() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    pictures::convolutions(&mut cases)?;
    pictures::norms(&mut cases)?;
    pictures::max_pools(&mut cases)?;
    pictures::average_pools(&mut cases)?;
    blocks::blocks(&mut cases)?;
    encoders::resnets(&mut cases)?;
    encoders::vggs(&mut cases)?;
    blocks::rejected(&mut cases)?;
    Ok(cases)
}
