//! Random cases for `golden fuzz`. A case is a function of its program and its seed.
//!
//! Sizes are small, and one or two of them lie around the borders of tiles. Values are plain, tiny, large, zero,
//! or multiples of 1/8, so that scores tie and hinges are exactly 0 in any precision. A draw that `f32` cannot
//! compute well, or that is too near a kink, is not used ([`Case::is_fair`]).

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, ArrayViewD, Axis};

use super::layers::norm_inputs;
use super::{
    Arithmetic, Case, Draw, Expected, Inputs, Measure, Plain, Program, Result, Settings, difference, extent, lengths,
    lengths_of, poison, stream,
};
use crate::error::Error;
use crate::golden::arithmetic::Rounding;
use crate::golden::difference::Deviation;
use crate::golden::inputs::{EMBED, FC, PROJ, RNN, rnn};
use crate::golden::plain::{Entry, Trace};
use crate::golden::program::Run;
use crate::golden::tolerance::{self, Measured, Profile, SAFETY};

/// The programs that have random cases.
pub(crate) const PROGRAMS: [Program; 9] = [
    Program::GruCell,
    Program::Gru,
    Program::Embedding,
    Program::Linear,
    Program::L2norm,
    Program::Scores,
    Program::Loss,
    Program::Optimiser,
    Program::Model,
];

/// Sizes around the borders of tiles. 23, 45 and 55 leave different rests on 8, 16 and 32.
const TILES: [usize; 21] = [7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 45, 55, 63, 64, 65, 127, 128, 129, 255, 256, 257];

/// What a program may be given: names, and a letter for each axis. G is 3H, S the steps of an optimiser. Without a
/// projection of the captions D = H, and both are called H.
pub(crate) fn given(program: Program, settings: &Settings) -> Vec<(String, &'static str)> {
    let layers = |first: &'static str, count: usize| {
        (0..count).flat_map(move |k| {
            let axes = [if k == 0 { first } else { "GH" }, "GH", "G", "G"];
            RNN.into_iter().zip(axes).map(move |(part, axes)| (format!("param.{}", rnn(part, k)), axes))
        })
    };
    let linear = |path: &str, axes: [&'static str; 2]| {
        [(format!("param.{path}.weight"), axes[0]), (format!("param.{path}.bias"), axes[1])]
    };
    let embed = (format!("param.{EMBED}"), "VE");
    let fixed: &[(&str, &str)] = match program {
        Program::GruCell => &[("in.x", "BE"), ("in.h", "BH"), ("in.d_h_next", "BH")],
        Program::Gru => &[("in.x", "BTE"), ("in.lengths", "B"), ("in.h0", "LBH"), ("in.d_last", "BH")],
        Program::Embedding => &[("in.captions", "BT"), ("in.lengths", "B"), ("in.d_words", "BTE")],
        Program::Linear => &[("in.x", "NI"), ("in.d_y", "NO")],
        Program::L2norm => &[("in.x", "ND"), ("in.d_y", "ND")],
        Program::Scores => &[("in.image_embedding", "ND"), ("in.caption_embedding", "MD"), ("in.d_scores", "NM")],
        Program::Loss if settings.mask_same_image => &[("in.scores", "BB"), ("in.image_ids", "B")],
        Program::Loss => &[("in.scores", "BB")],
        Program::Optimiser => &[
            ("in.grad.p0", "SPQ"),
            ("in.grad.p1", "SR"),
            ("in.m.p0", "PQ"),
            ("in.m.p1", "R"),
            ("in.v.p0", "PQ"),
            ("in.v.p1", "R"),
            ("param.p0", "PQ"),
            ("param.p1", "R"),
        ],
        Program::Model if settings.mask_same_image => {
            &[("in.images", "BF"), ("in.captions", "BT"), ("in.lengths", "B"), ("in.image_ids", "B")]
        }
        Program::Model => &[("in.images", "BF"), ("in.captions", "BT"), ("in.lengths", "B")],
        _ => &[],
    };
    let mut all: Vec<(String, &str)> = fixed.iter().map(|&(name, axes)| (name.to_owned(), axes)).collect();
    match program {
        Program::GruCell => all.extend(layers("GE", 1)),
        Program::Gru => all.extend(layers("GE", settings.num_layers)),
        Program::Embedding => all.push(embed),
        Program::Linear => all.extend(linear(FC, ["OI", "O"])),
        Program::Optimiser => all.push(("in.step".into(), "")),
        Program::Model => {
            let projection = settings.caption_projection;
            all.extend(linear(FC, if projection { ["DF", "D"] } else { ["HF", "H"] }));
            all.push(embed);
            all.extend(layers("GE", settings.num_layers));
            all.extend(linear(PROJ, ["DH", "D"]).into_iter().filter(|_| projection));
        }
        _ => {}
    }
    all
}

impl Case {
    /// The size of every letter of its tensors, but for G = 3H.
    pub(crate) fn sizes(&self) -> BTreeMap<char, usize> {
        let mut sizes = BTreeMap::new();
        for (name, axes) in given(self.program, &self.settings) {
            if let Some(tensor) = self.inputs.get(&name) {
                sizes.extend(axes.chars().zip(tensor.shape().iter().copied()).filter(|&(letter, _)| letter != 'G'));
            }
        }
        sizes
    }

    /// Whether a case says something about a backend, however it computes: `f32` can compute it, no kink is nearer
    /// than 100 errors of a score, and no tolerance is small by luck. With few numbers all the ways that are measured
    /// may be nearly exact where another is not, so every stored number is also rounded up or down at random, to two
    /// bits less than `f32` has, four times: the tolerances must allow for that.
    ///
    /// Scores may tie exactly, and then the case is flagged; so are hinges of exactly 0 if all numbers are multiples
    /// of 1/8.
    pub(crate) fn is_fair(&mut self) -> bool {
        /// T = 8 E, and E is at most 1e-4, as in [`Case::is_well_conditioned`].
        const LARGEST: f64 = 8e-4;
        const PROFILES: [Profile; 2] = [Profile::F64, Profile::F32];
        let measured = tolerance::measure(self.program, &self.settings, &self.inputs, &PROFILES, false);
        let Ok(Measured { golden, tolerances }) = measured else { return false };
        let rough = |seed| {
            let storage = Rounding::Dithered { bits: 21, seed };
            let way = Plain::new(Arithmetic { storage, ..Arithmetic::PLAIN });
            self.program.run::<f64>(&self.settings, &self.inputs, &way)
        };
        let rough: Result<Vec<Run<f64>>> = (1..=4).map(rough).collect();
        let Ok(rough) = rough else { return false };
        let lengths = lengths_of(&self.inputs);
        let eighths = |x: f64| (8.0 * x).fract() == 0.0 && x.abs() <= 4.0;
        let is_exact = self.inputs.get("in.scores").is_some_and(|scores| scores.iter().all(|&x| eighths(x)))
            && eighths(self.settings.margin);
        let terms = golden.trace.get("mid.cost_s").map_or(0.0, |cost| 2.0 * cost.len() as f64);
        let mut near: f64 = 0.0;
        for (place, (entry, tolerances)) in golden.trace.entries.iter().zip(&tolerances).enumerate() {
            let extent = extent(self.program, &entry.name, lengths.as_deref());
            let rough =
                rough.iter().map(|run| difference(&entry.values, &run.trace.entries[place].values, extent).deviation);
            let rough = rough.fold(Deviation::default(), Deviation::largest);
            let scale = extent.scales(&entry.values)[0];
            if tolerances.len() < PROFILES.len() || tolerances[&Profile::F32].max > LARGEST {
                return false;
            }
            for (profile, allowed) in tolerances {
                // A loss is one number, and all the ways that are measured may happen to be near it. Each of n additions
                // is off by at most u times the sum so far, uniformly: the variance of n like terms is u² n / 9, and an
                // honest sum is within four deviations.
                if entry.name == "out.loss"
                    && !is_exact
                    && allowed.max < 4.0 / 3.0 * profile.unit_roundoff() * terms.sqrt()
                {
                    return false;
                }
                // Four roundings of what cancels on the way are honest.
                if allowed.max * scale < 4.0 * profile.unit_roundoff() * self.cancelled(&golden.trace, entry) {
                    return false;
                }
                // In roundings of this precision.
                let units = Profile::F32.unit_roundoff() / profile.unit_roundoff();
                if rough.max > allowed.max * units || rough.frobenius > allowed.frobenius * units {
                    return false;
                }
            }
            if self.cancels(entry) || self.unsure_step(entry) > tolerances[&Profile::F64].max * scale {
                return false;
            }
            if ["out.scores", "mid.cost_s"].contains(&entry.name.as_str()) {
                near = near.max(100.0 * scale * tolerances[&Profile::F32].max / SAFETY);
            }
        }
        let margins = golden.margins;
        let (tie, kink) = (margins.hardest == Some(0.0), margins.hinge == Some(0.0));
        self.flags = [("tie", tie), ("kink", kink)].into_iter().filter(|&(_, on)| on).map(|(flag, _)| flag).collect();
        let far = |margin: Option<f64>| margin.is_none_or(|margin| margin >= near);
        // Where scores tie, the steps depend on the choice.
        (far(margins.hinge) || (kink && is_exact && !tie))
            && (far(margins.hardest) || (tie && self.settings.steps == 0))
            && far(margins.sign)
    }

    /// Whether a row's gradient of the normalisation, (dy − y (y·dy)) / ‖x‖, is less than half of what it is the
    /// difference of. In a row of few numbers no way that is measured may show what that costs.
    fn cancels(&self, entry: &Entry<f64>) -> bool {
        let [Some(x), Some(d_y)] = ["in.x", "in.d_y"].map(|name| self.inputs.get(name)) else { return false };
        if self.program != Program::L2norm || entry.name != "grad.in.x" {
            return false;
        }
        let largest = |row: ArrayViewD<'_, f64>| row.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        entry.values.outer_iter().zip(x.outer_iter()).zip(d_y.outer_iter()).any(|((d_x, x), d_y)| {
            let norm = x.iter().fold(0.0, |sum, x| sum + x * x).sqrt();
            let left = largest(d_x) * norm;
            left > 0.0 && largest(d_y) > 2.0 * left
        })
    }

    /// The largest number that is rounded on the way to a tensor and may cancel: ways that are measured may all round
    /// it alike. Of a norm over one number, whose gradient is 0, dy / ‖x‖; of a cost the scores; of Adam's m its parts.
    fn cancelled(&self, trace: &Trace<f64>, entry: &Entry<f64>) -> f64 {
        let largest = |x: Option<&ArrayD<f64>>| x.map_or(0.0, |x| x.iter().fold(0.0, |most: f64, x| most.max(x.abs())));
        let input = |name: &str| self.inputs.get(name);
        match (self.program, entry.name.as_str()) {
            (Program::L2norm, "grad.in.x") if entry.values.shape()[1] == 1 => {
                let rows = input("in.d_y").into_iter().flatten().zip(input("in.x").into_iter().flatten());
                rows.fold(0.0, |most: f64, (dy, x)| most.max((dy / x).abs()))
            }
            // The same, with vectors that are not at hand.
            (Program::Model, "out.caption_embedding") if entry.values.shape()[1] == 1 => f64::INFINITY,
            (Program::Model, "mid.cost_s" | "mid.cost_im") => largest(trace.get("out.scores")),
            (Program::Optimiser, name) => name.strip_prefix("opt.m.").map_or(0.0, |name| {
                let clip = largest(trace.get("opt.clip"));
                let gradient = largest(input(&format!("in.grad.{name}")));
                largest(input(&format!("in.m.{name}"))).max(0.1 * clip * gradient)
            }),
            _ => 0.0,
        }
    }

    /// How far Adam's parameters may be off because 1 − βᵗ cancels: βᵗ by products and as a power differ in the last
    /// place, but for t = 1. All the ways that are measured take products.
    fn unsure_step(&self, entry: &Entry<f64>) -> f64 {
        let before = entry.name.strip_prefix("opt.param.").and_then(|name| self.inputs.get(&format!("param.{name}")));
        let before = before.filter(|_| self.program == Program::Optimiser);
        let first = self.inputs.get("in.step").and_then(|step| step.first()).map_or(1.0, |step| step + 1.0);
        let t = if first < 2.0 && self.settings.steps > 1 { 2.0 } else { first };
        let (Some(before), true) = (before, t > 1.0) else { return 0.0 };
        let update =
            entry.values.iter().zip(before).fold(0.0, |most: f64, (after, before)| most.max((after - before).abs()));
        let power = |beta: f64| (0..=1000u16).take_while(|&k| f64::from(k) < t).fold(1.0, |power, _| power * beta);
        let cancelled = |beta: f64| 1.0 / (1.0 - power(beta));
        update * Profile::F64.unit_roundoff() * (cancelled(0.9) + cancelled(0.999) / 2.0)
    }
}

impl Draw {
    fn one_in(&mut self, n: usize) -> bool {
        self.between(1, n) == 1
    }

    fn any<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.between(0, choices.len() - 1)]
    }

    fn size(&mut self, most: usize) -> usize {
        let fitting = TILES.iter().filter(|&&size| size <= most).count();
        TILES[self.between(0, fitting - 1)]
    }
}

/// The case of a program and a seed.
///
/// # Errors
///
/// If no draw is fair.
pub(crate) fn random(program: Program, seed: u64) -> Result<Case> {
    const ATTEMPTS: usize = 1000;
    let id = format!("fuzz-{}-{seed}", program.name().replace('_', "-"));
    for attempt in 0..ATTEMPTS {
        let mut draw = Draw(stream(seed, &format!("golden/{id}/{attempt}")));
        let settings = settings(&mut draw, program);
        let inputs = inputs(&mut draw, program, &settings);
        let mut case = Case {
            id: id.clone(),
            family: "fuzz",
            program,
            settings,
            flags: Vec::new(),
            note: format!("The random case of seed {seed}."),
            expected: Expected::Valid,
            inputs,
        };
        if case.is_fair() {
            return Ok(case);
        }
    }
    Err(Error::mismatch(format!("{id}: none of {ATTEMPTS} draws can be computed in f32, far from every kink")))
}

fn settings(draw: &mut Draw, program: Program) -> Settings {
    let mut settings = Settings {
        margin: draw.any(&[0.0, 0.125, 0.2, 0.25, 0.5, 2.0]),
        max_violation: draw.one_in(2),
        mask_same_image: draw.one_in(3),
        measure: draw.any(&[Measure::Cosine, Measure::Order, Measure::OrderSquared]),
        ..Settings::default()
    };
    match program {
        Program::Gru => settings.num_layers = draw.any(&[1, 1, 2, 3]),
        Program::Optimiser => {
            (settings.steps, settings.learning_rate) = (draw.between(1, 4), draw.any(&[1e-3, 1e-2, 0.1]));
            settings.grad_clip = draw.any(&[0.0, 1e-6, 0.5, 2.0, 50.0]);
        }
        Program::Model => {
            (settings.num_layers, settings.steps) = (draw.any(&[1, 1, 2, 3]), draw.any(&[0, 0, 1, 2]));
            (settings.learning_rate, settings.grad_clip) = (1e-2, draw.any(&[0.0, 0.5, 2.0]));
            (settings.use_abs, settings.no_imgnorm) = (draw.one_in(3), draw.one_in(3));
            settings.caption_projection = draw.one_in(2);
        }
        _ => {}
    }
    if matches!(program, Program::Loss | Program::Model) && settings.max_violation {
        match draw.between(1, 6) {
            1 => settings.hardest = draw.any(&[2, 3, 7]),
            2 => settings.temperature = draw.any(&[0.02, 0.1, 0.5, 2.0]),
            3 => settings.semi_hard = true,
            _ => {}
        }
    }
    settings
}

/// Small sizes. Two at most are around the border of a tile; now and then all are equal.
fn sizes(draw: &mut Draw, program: Program, settings: &Settings) -> BTreeMap<char, usize> {
    let letters: BTreeSet<char> = given(program, settings).iter().flat_map(|(_, axes)| axes.chars()).collect();
    let letters: Vec<char> = letters.into_iter().filter(|letter| !"GLS".contains(*letter)).collect();
    let recurrent = matches!(program, Program::GruCell | Program::Gru | Program::Model);
    let equal = draw.one_in(8).then(|| draw.between(1, 9));
    let mut sizes: BTreeMap<char, usize> =
        letters.iter().map(|&letter| (letter, equal.unwrap_or_else(|| draw.between(1, 6)))).collect();
    for _ in 0..if equal.is_some() { 0 } else { draw.between(0, 2) } {
        let letter = draw.any(&letters);
        let size = draw.size(match letter {
            'T' => 33,
            'V' => 257,
            'B' => 65,
            _ if recurrent => 65,
            _ => 257,
        });
        sizes.insert(letter, size);
    }
    sizes.extend([('G', 3 * sizes.get(&'H').copied().unwrap_or(0)), ('L', settings.num_layers), ('S', settings.steps)]);
    sizes
}

#[allow(clippy::cast_possible_truncation)] // rounding to f32 is what is wanted
fn inputs(draw: &mut Draw, program: Program, settings: &Settings) -> Inputs {
    let sizes = sizes(draw, program, settings);
    let of = |letter: char| sizes.get(&letter).copied().unwrap_or(1);
    let [x, d] = [draw.any(&[1.0, 1.0, 1e-3, 8.0]), draw.any(&[1.0, 1.0, 1e-4, 1e3])];
    let weight = draw.any(&[0.05, 0.5, 0.5, 0.9, 2.5]) / (of('H') as f64 / 8.0).max(1.0).sqrt();
    let in_eighths = draw.one_in(3);
    let mut inputs = Inputs::new();
    for (name, axes) in given(program, settings) {
        let shape: Vec<usize> = axes.chars().map(of).collect();
        let scale = match name.as_str() {
            "in.scores" => draw.any(&[1.0, 1.0, 0.004]),
            "in.h" | "in.h0" => draw.any(&[0.9, 0.9, 1e-3]),
            "in.images" | "in.image_embedding" | "in.caption_embedding" => 0.9,
            name if name.starts_with("in.d_") => d,
            name if name.starts_with("in.grad.") => draw.any(&[1.0, 0.1, 3.0, 1e-4, 1e-8]),
            name if name.starts_with("param.") => weight,
            _ => x,
        };
        let mut tensor = draw.array(shape, scale);
        if ["in.scores", "in.x", "in.h0"].contains(&name.as_str()) && in_eighths {
            tensor.mapv_inplace(|value| (8.0 * value / scale).round() / 8.0);
        }
        // Biases, states and gradients may be 0.
        let may_vanish = ["in.h", "in.h0", "in.grad.p1"].contains(&name.as_str()) || name.contains("bias");
        if may_vanish && draw.one_in(8) {
            tensor.fill(0.0);
        }
        inputs.insert(name, tensor);
    }
    match program {
        Program::L2norm => {
            let scales: Vec<f64> =
                (0..of('N')).map(|_| f64::from(draw.between(0, 96) as u8)).map(|k| (k - 46.0).exp2()).collect();
            let one_hot = draw.one_in(6);
            inputs = norm_inputs(draw, of('N'), of('D'), &scales, one_hot);
        }
        Program::Scores => {
            let scale = draw.any(&[1.0, 1.0, 1e-3, 30.0]);
            for name in ["in.image_embedding", "in.caption_embedding"] {
                inputs.entry(name.into()).and_modify(|x| x.mapv_inplace(|x| f64::from((scale * x) as f32)));
            }
        }
        Program::Optimiser => optimiser(draw, &mut inputs),
        _ => {}
    }
    rows(draw, &mut inputs, of('T'), of('V'));
    if program == Program::Model && draw.one_in(6) && of('B') > 1 {
        // Two equal images: hardest negatives tie.
        inputs.entry("in.images".into()).and_modify(|images| {
            let first = images.index_axis(Axis(0), 0).to_owned();
            images.index_axis_mut(Axis(0), 1).assign(&first);
        });
    }
    inputs
}

/// The optimiser may have no moments to go on with, and a single parameter.
fn optimiser(draw: &mut Draw, inputs: &mut Inputs) {
    let (resumed, single) = (draw.one_in(2), draw.one_in(3));
    let step = lengths(&[draw.any(&[0, 1, 7, 1000])]);
    inputs.insert("in.step".into(), step);
    inputs.retain(|name, _| resumed || !(name == "in.step" || name.starts_with("in.m.") || name.starts_with("in.v.")));
    inputs.retain(|name, _| !(single && name.contains(".p1")));
    for (_, moment) in inputs.iter_mut().filter(|(name, _)| name.starts_with("in.v.")) {
        moment.mapv_inplace(f64::abs);
    }
}

/// Lengths, ids and what comes after a row's end.
fn rows(draw: &mut Draw, inputs: &mut Inputs, steps: usize, vocabulary: usize) {
    if let Some(batch) = inputs.get("in.lengths").map(ArrayD::len) {
        let shortest = draw.any(&[1, 1, steps]);
        let mut all: Vec<usize> = (0..batch).map(|_| draw.between(shortest, steps)).collect();
        all[draw.between(0, batch - 1)] = steps;
        for name in ["in.x", "in.d_words"] {
            if let Some(x) = inputs.remove(name).and_then(|x| x.into_dimensionality().ok()) {
                inputs.insert(name.into(), poison(x, &all));
            }
        }
        inputs.insert("in.lengths".into(), lengths(&all));
    }
    let few = draw.any(&[1, 2, 3, vocabulary]).min(vocabulary);
    let first = draw.between(0, vocabulary - few);
    if let Some(ids) = inputs.get_mut("in.captions") {
        ids.mapv_inplace(|_| draw.between(first, first + few - 1) as f64);
    }
    if let Some(ids) = inputs.get_mut("in.image_ids") {
        let images = ids.len();
        ids.mapv_inplace(|_| draw.between(0, images) as f64);
    }
}
