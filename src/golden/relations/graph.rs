//! The relations of a case: which equations its program has, and which tensor each of their leaves is.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn};

use super::elsewhere::Token;
use super::equations as text;
use super::language::{Layer, Relation};
use crate::golden::arithmetic::Rounding;
use crate::golden::difference::lengths_of;
use crate::golden::inputs::{EMBED, FC, PROJ, parameter_names, rnn};
use crate::golden::program::{Program, Settings};
use crate::golden::suite::GoldenCase;
use crate::loss::Violation;
use crate::similarity::Measure;

/// How a tensor is seen by the equations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Whole,
    /// One layer of [L, …].
    Layer(usize),
    /// [B, …] as one time step, [B, 1, …].
    Step,
    /// All axes as one.
    Flat,
    /// All axes after the first as one.
    FlatRows,
    /// All axes as one, and an axis of length 1 before them.
    OneRow,
    /// [1] as a number without axes.
    Scalar,
    /// [N, C, H, W] with its pixels in one axis.
    Pixels,
    /// [N, C] as pictures of one pixel.
    OnePixel,
}

impl View {
    pub(super) fn of<T: Clone>(self, x: &ArrayD<T>) -> ArrayD<T> {
        let reshaped = |shape: &[usize]| x.to_shape(IxDyn(shape)).expect("the same numbers").into_owned();
        match self {
            Self::Whole => x.clone(),
            Self::Layer(k) => x.index_axis(Axis(0), k).to_owned(),
            Self::Step => x.clone().insert_axis(Axis(1)),
            Self::Flat => reshaped(&[x.len()]),
            Self::FlatRows => reshaped(&[x.shape()[0], x.len() / x.shape()[0].max(1)]),
            Self::OneRow => reshaped(&[1, x.len()]),
            Self::Scalar => reshaped(&[]),
            Self::Pixels => reshaped(&[x.shape()[0], x.shape()[1], x.shape()[2..].iter().product()]),
            Self::OnePixel => reshaped(&[x.shape()[0], x.shape()[1], 1, 1]),
        }
    }
}

/// A leaf of a group: a tensor of the case, or one that only the equations have.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub tensor: String,
    pub view: View,
}

/// Equations with leaves of their own: a GRU layer, the normalisation of one side, …
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// `gru`, `norm`, …
    pub kind: &'static str,
    /// The layer of a GRU, `image` or `caption`, the name of a parameter; empty otherwise.
    pub part: String,
    pub leaves: BTreeMap<String, Leaf>,
}

/// One relation of a group.
#[derive(Clone, Debug)]
pub(super) struct Equation {
    pub group: usize,
    /// The group's kind and the left side: the same for all layers, sides and cases.
    pub family: String,
    pub relation: Relation,
    /// The tensor of the left side.
    pub tensor: String,
}

impl Equation {
    fn new(group: usize, of: &mut Group, relation: Relation) -> Self {
        let Group { kind, part, leaves } = of;
        let mut short = vec![relation.out.leaf.clone()];
        short.extend(relation.leaves().map(Into::into));
        for short in short {
            // What no tensor of the case is, the equations alone have.
            leaves.entry(short.clone()).or_insert_with(|| Leaf {
                tensor: if GIVEN.contains(&short.as_str()) || ASIDE.contains(&short.as_str()) {
                    short.clone()
                } else {
                    format!("{kind}.{part}.{short}")
                },
                view: View::Whole,
            });
        }
        let tensor = leaves[&relation.out.leaf].tensor.clone();
        // The gradient of a layer's states comes from the layer above, or from the last state.
        let below = if relation.reads_above() { " below the top" } else { "" };
        let family = format!("{kind} {}{below}", relation.out.name());
        Self { group, family, relation, tensor }
    }
}

/// All relations of a case, in the order of the data flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub groups: Vec<Group>,
    pub equations: Vec<Equation>,
    /// Tensors that follow from the settings and inputs, such as the mask of the negatives.
    pub given: BTreeMap<String, ArrayD<f64>>,
    /// Shapes of tensors that are no tensors of the case and whose left side has an index.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// `in.lengths`, or 1 for each row of a cell.
    pub lengths: Vec<usize>,
    /// T: the time steps of padded tensors; 1 where there are none.
    pub steps: usize,
    /// The gradients [steps, …] of all parameters, which [`ALL`] holds one after another.
    pub concatenated: Vec<(String, View)>,
}

/// The gradients of all parameters, [steps, elements].
pub(super) const ALL: &str = "all gradients";

/// The name of a tensor with what was written after the end of each row.
pub(super) fn with_padding(tensor: &str) -> String {
    format!("{tensor} with padding")
}

/// Adam's constants.
const BETAS: [f64; 2] = [0.9, 0.999];

/// A graph that is being built.
pub(super) struct Builder<'a> {
    pub case: &'a GoldenCase,
    pub settings: &'a Settings,
    pub graph: Graph,
}

impl Graph {
    /// The relations of a case.
    pub(super) fn of(case: &GoldenCase, settings: &Settings) -> Self {
        let mut build = Builder { case, settings, graph: Self::default() };
        build.graph.lengths = lengths_of(&case.inputs).unwrap_or_default();
        let padded = case.inputs.get("in.captions").or_else(|| case.inputs.get("in.x").filter(|x| x.ndim() == 3));
        build.graph.steps = padded.map_or(1, |x| x.shape()[1]);
        match case.entry.program {
            Program::GruCell => build.gru_cell(),
            Program::Gru => {
                let given = case.inputs.contains_key("in.h0");
                build.gru("in.x", "out.last", given);
                build.gru_back("in.d_last", "grad.in.x", given);
            }
            Program::Embedding => {
                build.words();
                build.words_back("in.d_words");
            }
            Program::Linear => {
                let names = ["in.x", FC, "out.y", "in.d_y", "grad.in.x"];
                build.linear(names, "");
                build.linear_back(names, "");
            }
            Program::L2norm => {
                build.equations("norm", "", text::NORM, &NORM_ALONE);
                build.equations("norm", "", text::NORM_BACK, &NORM_ALONE);
            }
            Program::Scores => {
                build.scores(["in.image_embedding", "in.caption_embedding", "out.scores"]);
                build.scores_back("in.d_scores", ["grad.in.image_embedding", "grad.in.caption_embedding"]);
            }
            Program::Loss => {
                build.loss("in.scores");
                build.loss_back("in.scores", "grad.in.scores");
            }
            Program::Optimiser => build.optimiser(),
            Program::Model => build.model(),
            _ => build.pictures(),
        }
        build.other_layers();
        build.graph
    }
}

/// A relation in the place of that with the same left side in the groups of a kind, or before the next such relation.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub kind: String,
    /// In this group of the kind alone.
    pub part: Option<String>,
    /// Only if no absolute value follows.
    pub to_embedding: bool,
    pub relation: Relation,
}

impl Change {
    /// Reads `kind: relation`, `kind part: relation` (`-` for the group without a part) or `kind to embedding: …`,
    /// line by line.
    pub(super) fn parse(text: &str) -> Vec<Self> {
        let line = |line: &str| {
            let (place, relation) = line.split_once(": ").unwrap_or_else(|| panic!("{line}: expected a place"));
            let (kind, part) = place.split_once(' ').map_or((place, None), |(kind, part)| (kind, Some(part)));
            let to_embedding = part == Some("to embedding");
            let part = part.filter(|_| !to_embedding).map(|part| part.trim_matches('-').to_owned());
            Self { kind: kind.into(), part, to_embedding, relation: Relation::parse(relation) }
        };
        text.lines().map(str::trim).map(line).collect()
    }

    fn is_of(&self, group: &Group) -> bool {
        let embedding = || group.leaves.get("y").is_some_and(|y| y.tensor.ends_with("_embedding"));
        self.kind == group.kind
            && self.part.as_ref().is_none_or(|part| *part == group.part)
            && (!self.to_embedding || embedding())
    }
}

impl Graph {
    /// The same with some changes, in all groups but some, and for each of its equations the place of the same one here;
    /// none if nothing is changed.
    pub(super) fn with(&self, changes: &[Change], but: &BTreeSet<usize>) -> Option<(Self, Vec<Option<usize>>)> {
        let same = |equation: &Equation, change: &Change| {
            change.relation.out.name() == equation.relation.out.name()
                && change.relation.reads_above() == equation.relation.reads_above()
        };
        let is_changed = |equation: &Equation| {
            let group = &self.groups[equation.group];
            !but.contains(&equation.group) && changes.iter().any(|change| change.is_of(group) && same(equation, change))
        };
        if !self.equations.iter().any(is_changed) {
            return None;
        }
        let mut out = Self { equations: Vec::new(), ..self.clone() };
        let mut same_here = Vec::new();
        for (place, equation) in self.equations.iter().enumerate() {
            let number = equation.group;
            let is_here = |change: &&Change| !but.contains(&number) && change.is_of(&self.groups[number]);
            let here: Vec<&Change> = changes.iter().filter(is_here).collect();
            let Some(found) = here.iter().position(|change| same(equation, change)) else {
                out.equations.push(equation.clone());
                same_here.push(Some(place));
                continue;
            };
            // What comes before it and has a left side of its own.
            let is_new = |change: &&&Change| !self.groups[number].leaves.contains_key(&change.relation.out.leaf);
            let begin = found - here[..found].iter().rev().take_while(is_new).count();
            for change in &here[begin..=found] {
                out.equations.push(Equation::new(number, &mut out.groups[number], change.relation.clone()));
                same_here.push(None);
            }
        }
        Some((out, same_here))
    }

    /// Which equations may give other values if some do: those that read them, directly or not, and those with the
    /// same left side.
    pub(super) fn affected(&self, changed: &[bool]) -> Vec<bool> {
        let mut tensors: BTreeSet<&str> = self
            .equations
            .iter()
            .zip(changed)
            .filter(|(_, changed)| **changed)
            .map(|(e, _)| e.tensor.as_str())
            .collect();
        loop {
            let before = tensors.len();
            for equation in &self.equations {
                if !tensors.contains(equation.tensor.as_str()) && self.reads(equation).any(|of| tensors.contains(of)) {
                    tensors.insert(&equation.tensor);
                }
            }
            if tensors.len() == before {
                return self.equations.iter().map(|equation| tensors.contains(equation.tensor.as_str())).collect();
            }
        }
    }

    /// The tensors on the right side of an equation, and those of its indices.
    pub(super) fn reads<'a>(&'a self, equation: &'a Equation) -> impl Iterator<Item = &'a str> {
        let Equation { group, relation, .. } = equation;
        let leaves = &self.groups[*group].leaves;
        let factors = relation.terms.iter().flat_map(|term| &term.factors).chain([&relation.out]);
        let indices = factors.flat_map(|factor| factor.through().map(|(name, _)| name.as_str()));
        let tensors = relation.leaves().chain(indices).filter_map(|short| leaves.get(short));
        tensors.flat_map(|leaf| {
            let parts = if leaf.tensor == ALL { self.concatenated.as_slice() } else { &[] };
            parts.iter().map(|(tensor, _)| tensor.as_str()).chain([leaf.tensor.as_str()])
        })
    }

    /// Where the backward pass and the optimiser begin.
    pub(super) fn parts(&self) -> [usize; 2] {
        let kind = |equation: &Equation| self.groups[equation.group].kind;
        let end = self.equations.len();
        let optimiser =
            self.equations.iter().position(|e| matches!(kind(e), "clip" | "unclipped" | "adam")).unwrap_or(end);
        let backward = self.equations.iter().position(|e| e.relation.is_backward()).unwrap_or(optimiser);
        [backward, optimiser]
    }
}

const NORM_ALONE: [(&str, &str); 5] =
    [("x", "in.x"), ("y", "out.y"), ("norm", "mid.norm"), ("d.y", "in.d_y"), ("d.x", "grad.in.x")];

impl Builder<'_> {
    pub(super) fn give(&mut self, name: &str, values: ArrayD<f64>) {
        self.graph.given.insert(name.into(), values);
    }

    /// Adds equations to a group, which begins with its first ones, and leaves to those that it has.
    pub(super) fn equations(&mut self, kind: &'static str, part: &str, text: &str, leaves: &[(&str, &str)]) {
        let leaves: Vec<(&str, String, View)> =
            leaves.iter().map(|&(short, tensor)| (short, tensor.to_owned(), View::Whole)).collect();
        self.viewed(kind, part, text, &leaves);
    }

    pub(super) fn viewed(&mut self, kind: &'static str, part: &str, text: &str, leaves: &[(&str, String, View)]) {
        let known = self.graph.groups.iter().position(|group| group.kind == kind && group.part == part);
        let group = known.unwrap_or_else(|| {
            self.graph.groups.push(Group { kind, part: part.into(), leaves: BTreeMap::new() });
            self.graph.groups.len() - 1
        });
        let into = &mut self.graph.groups[group].leaves;
        for (short, tensor, view) in leaves {
            into.insert((*short).into(), Leaf { tensor: tensor.clone(), view: *view });
        }
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.add(group, Relation::parse(line));
        }
    }

    fn add(&mut self, group: usize, relation: Relation) {
        let equation = Equation::new(group, &mut self.graph.groups[group], relation);
        self.graph.equations.push(equation);
    }

    fn words(&mut self) {
        let size = self.case.inputs.get(&format!("param.{EMBED}")).map_or(0, |w| w.shape()[0]) as f64;
        if let Some(ids) = self.case.inputs.get("in.captions").cloned() {
            self.give("id_plus_1", ids.mapv(|id| (id + 1.0) % size));
            self.give("id_minus_1", ids.mapv(|id| id - 1.0));
            self.give("id_at_most_V_minus_2", ids.mapv(|id| id.min(size - 2.0)));
            // Of f16 only the bits, not the range.
            for (name, rounding) in [
                ("bf16", Rounding::Bf16),
                ("bf16_cut_off", Rounding::Bf16Truncated),
                ("f16", Rounding::Tf32),
                ("f16_cut_off", Rounding::Tf32Truncated),
            ] {
                self.give(&format!("id_in_{name}"), ids.mapv(|id| rounding.round(id).min(size - 1.0)));
            }
            for n in [63, 127, 255, 511, 1023] {
                self.give(&format!("id_at_most_{n}"), ids.mapv(|id| id.min(f64::from(n))));
            }
            for n in [32, 64, 256] {
                self.give(&format!("id_modulo_{n}"), ids.mapv(|id| id % f64::from(n)));
            }
            for (token, _) in Token::all() {
                let tokens = token.of(&self.graph.lengths, self.graph.steps);
                let of = |at: Option<(usize, usize)>| at.map_or(-1.0, |(b, t)| ids[[b, t].as_slice()]);
                self.give(&token.ids(), tokens.mapv(of).into_dyn());
            }
            // How often each word occurs, and where last.
            let mut words: BTreeMap<u64, (f64, (usize, usize))> = BTreeMap::new();
            let id = |(b, t): (usize, usize)| ids[[b, t].as_slice()].to_bits();
            for (b, &length) in self.graph.lengths.iter().enumerate() {
                for at in (0..length).map(|t| (b, t)) {
                    let word = words.entry(id(at)).or_insert((0.0, at));
                    *word = (word.0 + 1.0, at);
                }
            }
            let each = |of: &dyn Fn((usize, usize)) -> f64| {
                Array2::from_shape_fn((self.graph.lengths.len(), ids.shape()[1]), of).into_dyn()
            };
            let last = each(&|at| words.get(&id(at)).map_or(1.0, |&(_, last)| f64::from(u8::from(last <= at))));
            let share = each(&|at| words.get(&id(at)).map_or(1.0, |&(count, _)| 1.0 / count));
            self.give("last_occurrence", last);
            self.give("per_word", share);
        }
        let weight = format!("param.{EMBED}");
        self.equations("words", "", text::WORDS, &[("words", "mid.words"), ("W", &weight), ("id", "in.captions")]);
    }

    fn words_back(&mut self, d_words: &str) {
        let grad = format!("grad.{EMBED}");
        self.equations("words", "", text::WORDS_BACK, &[("d.W", &grad), ("d.words", d_words)]);
    }

    /// x, path of the parameters, y, dy, dx.
    fn linear(&mut self, [x, path, y, ..]: [&str; 5], part: &str) {
        let (weight, bias) = (format!("param.{path}.weight"), format!("param.{path}.bias"));
        self.share_of_rows();
        let fc = format!("param.{FC}.weight");
        self.equations(
            "linear",
            part,
            text::LINEAR,
            &[("x", x), ("W", &weight), ("bias", &bias), ("y", y), ("fc.W", &fc)],
        );
    }

    /// 1 / N for each of N rows.
    fn share_of_rows(&mut self) {
        let rows =
            ["in.images", "in.x"].iter().find_map(|name| self.case.inputs.get(*name)).map_or(1, |x| x.shape()[0]);
        self.give("per_row", ArrayD::from_elem(IxDyn(&[rows]), 1.0 / rows as f64));
    }

    fn linear_back(&mut self, [_, path, _, dy, dx]: [&str; 5], part: &str) {
        let (weight, bias) = (format!("grad.{path}.weight"), format!("grad.{path}.bias"));
        self.equations(
            "linear",
            part,
            text::LINEAR_BACK,
            &[("d.W", &weight), ("d.bias", &bias), ("d.y", dy), ("d.x", dx)],
        );
    }

    fn gru_cell(&mut self) {
        let batch = self.case.inputs.get("in.x").map_or(0, |x| x.shape()[0]);
        self.graph.lengths = vec![1; batch];
        let names = [
            ("x", "in.x"),
            ("a", "mid.a"),
            ("c", "mid.c"),
            ("r", "mid.r"),
            ("z", "mid.z"),
            ("n", "mid.n"),
            ("h", "out.h_next"),
            ("d.h", "in.d_h_next"),
            ("d.n", "grad.mid.n"),
            ("d.z", "grad.mid.z"),
            ("d.r", "grad.mid.r"),
            ("d.a", "grad.mid.a"),
            ("d.c", "grad.mid.c"),
            ("d.x", "grad.in.x"),
        ];
        let mut leaves: Vec<(&str, String, View)> =
            names.iter().map(|&(short, tensor)| (short, tensor.to_owned(), View::Step)).collect();
        leaves.push(("h0", "in.h".into(), View::Whole));
        leaves.push(("d.h0", "grad.in.h".into(), View::Whole));
        leaves.extend(weights(0));
        self.give("start", ArrayD::ones(IxDyn(&[1])));
        self.give("start_of_zeros", ArrayD::zeros(IxDyn(&[1])));
        self.share_of_rows();
        for text in [text::GRU, text::GRU_BACK, text::GRU_INPUT_BACK, text::GRU_INITIAL_BACK] {
            self.viewed("gru", "0", text, &leaves);
        }
    }

    /// All layers.
    fn gru(&mut self, x: &str, last: &str, given: bool) {
        let layers = self.settings.num_layers;
        let (steps, lengths) = (self.graph.steps, self.graph.lengths.clone());
        let place = |is: &dyn Fn(usize, usize) -> f64| {
            Array2::from_shape_fn((lengths.len(), steps), |(b, t)| is(lengths[b], t)).into_dyn()
        };
        let when = |holds: bool| f64::from(u8::from(holds));
        self.give("end", place(&|length, t| when(t + 1 == length)));
        self.share_of_rows();
        self.give("full_end", place(&|length, t| when(t + 1 == length && length == steps)));
        self.give("padded_end", place(&|_, t| when(t + 1 == steps)));
        self.give("one_before_end", place(&|length, t| when(t + 2 == length.max(2))));
        self.give("first", place(&|_, t| when(t == 0)));
        self.give("mean", place(&|length, t| if t < length { 1.0 / length as f64 } else { 0.0 }));
        self.give("start", Array1::from_shape_fn(steps, |t| when(t == 0)).into_dyn());
        self.give("start_of_zeros", Array1::from_shape_fn(steps, |t| when(t == 0 && !given)).into_dyn());
        let hidden = self.case.inputs.get(&format!("param.{}", rnn("weight_hh", 0))).map_or(0, |w| w.shape()[1]);
        if !given {
            self.give("h0", ArrayD::zeros(IxDyn(&[lengths.len(), hidden])));
        }
        let h0 = self.case.inputs.get("in.h0").filter(|_| given && layers > 1);
        if let Some(rows) = h0.and_then(|h0| h0.to_shape((lengths.len(), layers, hidden)).ok()) {
            let swapped = rows.permuted_axes([1, 0, 2]).as_standard_layout().into_owned();
            self.give("h0_batch_first", swapped.into_dyn());
        }
        for k in 0..layers {
            let mut leaves: Vec<(&str, String, View)> =
                ["a", "c", "r", "z", "n", "h"].map(|part| (part, format!("mid.l{k}.{part}"), View::Whole)).into();
            leaves.push(("x", if k == 0 { x.into() } else { format!("mid.l{}.h", k - 1) }, View::Whole));
            // What stands before the first input of an upper layer.
            if k > 0 {
                leaves.push(if given {
                    ("x0", "in.h0".into(), View::Layer(k - 1))
                } else {
                    ("x0", "h0".into(), View::Whole)
                });
            }
            leaves.push(if given { ("h0", "in.h0".into(), View::Layer(k)) } else { ("h0", "h0".into(), View::Whole) });
            if given && layers > 1 {
                leaves.push(("batch_first.h0", "h0_batch_first".into(), View::Layer(k)));
            }
            leaves.extend(weights(k));
            self.viewed("gru", &k.to_string(), text::GRU, &leaves);
        }
        let top = format!("mid.l{}.h", layers - 1);
        let initial = if given { ("in.h0", View::Layer(layers - 1)) } else { ("h0", View::Whole) };
        let mut leaves: Vec<(&str, String, View)> = [("h", top.as_str()), ("last", last), ("bottom", "mid.l0.h")]
            .map(|(s, t)| (s, t.to_owned(), View::Whole))
            .into();
        leaves.push(("h0", initial.0.into(), initial.1));
        self.viewed("last", "", text::LAST, &leaves);
    }

    fn gru_back(&mut self, d_last: &str, d_x: &str, given: bool) {
        let layers = self.settings.num_layers;
        for k in (0..layers).rev() {
            let mut leaves: Vec<(&str, String, View)> = vec![("d.last", d_last.into(), View::Whole)];
            let backward = ["d.h", "d.n", "d.z", "d.r", "d.a", "d.c"];
            leaves.extend(backward.map(|part| (part, format!("grad.mid.l{k}.{}", &part[2..]), View::Whole)));
            leaves.push(("up.d.a", format!("grad.mid.l{}.a", k + 1), View::Whole));
            leaves.push(("up.d.c", format!("grad.mid.l{}.c", k + 1), View::Whole));
            leaves.push(("up.W_ih", format!("param.{}", rnn("weight_ih", k + 1)), View::Whole));
            if k == 0 {
                leaves.push(("d.x", d_x.into(), View::Whole));
            }
            leaves.push(("d.h0", "grad.in.h0".into(), View::Layer(k)));
            let part = k.to_string();
            let state = if k + 1 == layers { text::STATE_BACK } else { text::STATE_BACK_BELOW };
            self.viewed("gru", &part, state, &leaves);
            self.viewed("gru", &part, text::GRU_BACK, &leaves);
            if k == 0 {
                self.viewed("gru", &part, text::GRU_INPUT_BACK, &leaves);
            }
            if given {
                self.viewed("gru", &part, text::GRU_INITIAL_BACK, &leaves);
            }
        }
    }

    /// Every layer of a GRU may read the leaves of another one by mistake.
    fn other_layers(&mut self) {
        let groups = &mut self.graph.groups;
        let place = |groups: &[Group], k: usize| {
            groups.iter().position(|group| group.kind == "gru" && group.part == k.to_string())
        };
        let layers = groups.iter().filter(|group| group.kind == "gru").count();
        for k in 0..if layers > 1 { layers } else { 0 } {
            for (layer, ..) in Layer::ALL {
                let (Some(own), Some(other)) = (place(groups, k), place(groups, layer.of(k, layers))) else { continue };
                let others: Vec<(String, Leaf)> = groups[other].leaves.clone().into_iter().collect();
                for (short, leaf) in others.into_iter().filter(|(short, _)| !Layer::is_of_another(short)) {
                    groups[own].leaves.entry(layer.leaf(&short)).or_insert(leaf);
                }
            }
        }
    }

    fn scores(&mut self, [f, g, s]: [&str; 3]) {
        let (kind, forward, _) = self.measure();
        let width = self.case.inputs.get(f).or_else(|| self.case.expected.get(f)).map_or(1, |f| f.shape()[1]);
        self.give("per_root_of_D", ArrayD::from_elem(IxDyn(&[]), 1.0 / (width as f64).sqrt()));
        self.equations(kind, "", forward, &[("f", f), ("g", g), ("s", s)]);
    }

    fn scores_back(&mut self, ds: &str, [df, dg]: [&str; 2]) {
        let (kind, _, backward) = self.measure();
        self.equations(kind, "", backward, &[("d.s", ds), ("d.f", df), ("d.g", dg)]);
    }

    fn measure(&self) -> (&'static str, &'static str, &'static str) {
        match self.settings.measure {
            Measure::Cosine => ("cosine", text::COSINE, text::COSINE_BACK),
            Measure::Order => ("order", text::ORDER, text::ORDER_BACK),
            Measure::OrderSquared => ("order-squared", text::ORDER_SQUARED, text::ORDER_SQUARED_BACK),
        }
    }

    fn loss(&mut self, s: &str) {
        let shape = self
            .case
            .inputs
            .get(s)
            .or_else(|| self.case.expected.get(s))
            .map_or((0, 0), |s| (s.shape()[0], s.shape()[1]));
        let ids = self.case.inputs.get("in.image_ids").filter(|_| self.settings.mask_same_image);
        let same =
            |i: usize, j: usize| ids.is_some_and(|ids| ids[[i].as_slice()].total_cmp(&ids[[j].as_slice()]).is_eq());
        let pairs = |is: &dyn Fn(usize, usize) -> bool| {
            Array2::from_shape_fn(shape, |(i, j)| f64::from(u8::from(is(i, j)))).into_dyn()
        };
        self.give("wrong", pairs(&|i, j| i != j && !same(i, j)));
        self.give("without_neighbours", pairs(&|i, j| i != j && !(same(i, j) && i.abs_diff(j) == 1)));
        self.give("off_diagonal", pairs(&|i, j| i != j));
        self.give("every", pairs(&|_, _| true));
        self.give("eye", pairs(&|i, j| i == j));
        self.give("per_pair", ArrayD::from_elem(IxDyn(&[]), 1.0 / shape.0.max(1) as f64));
        self.give("margin", ArrayD::from_elem(IxDyn(&[]), self.settings.margin));
        let leaves = self.loss_leaves(s);
        let violation = self.settings.hinge().violation;
        match violation {
            Violation::LogSumExp(temperature) => {
                self.give("temperature", ArrayD::from_elem(IxDyn(&[]), temperature));
                for top in ["top_s", "top_im"] {
                    self.graph.shapes.insert(format!("log-sum-exp..{top}"), vec![shape.0, shape.1]);
                }
                self.viewed("log-sum-exp", "", text::LOG_SUM_EXP, &leaves);
                return;
            }
            Violation::Hardest(most) => {
                self.give("most", ArrayD::from_elem(IxDyn(&[]), most as f64));
                self.give("before", pairs(&|i, j| i < j));
            }
            Violation::SemiHard => {
                // Of a known mistake.
                for low in ["low_s", "low_im"] {
                    self.graph.shapes.insert(format!("semi-hard..{low}"), vec![shape.0, shape.1]);
                }
            }
            Violation::Sum | Violation::Max => {}
        }
        self.viewed("loss", "", text::HINGES, &leaves);
        let (kind, costs, active) = match violation {
            Violation::SemiHard => ("semi-hard", "semi-hard", [text::COSTS_BELOW, text::HARDEST]),
            Violation::Hardest(_) => ("hardest", "loss", [text::COSTS, text::MOST_HARDEST]),
            Violation::Max => ("max", "loss", [text::COSTS, text::HARDEST]),
            Violation::Sum | Violation::LogSumExp(_) => ("sum", "loss", [text::COSTS, text::ALL_COUNT]),
        };
        self.viewed(costs, "", active[0], &leaves);
        self.viewed(kind, "", active[1], &leaves);
        self.viewed("loss", "", text::LOSS, &leaves);
    }

    /// S and the tensors of the loss. What counts is `active`, or with log-sum-exp a weight.
    fn loss_leaves(&self, s: &str) -> Vec<(&'static str, String, View)> {
        let violation = self.settings.hinge().violation;
        let active = if matches!(violation, Violation::LogSumExp(_)) { "weight" } else { "active" };
        let mut leaves = vec![("s", s.to_owned(), View::Whole), ("loss", "out.loss".to_owned(), View::Scalar)];
        for name in ["cost_s", "cost_im", "hardest_s", "hardest_im"] {
            leaves.push((name, format!("mid.{name}"), View::Whole));
        }
        for (name, side) in [("active_s", "s"), ("active_im", "im")] {
            leaves.push((name, format!("mid.{active}_{side}"), View::Whole));
        }
        if violation == Violation::SemiHard {
            // The hinges are those of the group of every loss.
            leaves.extend(["hinge_s", "hinge_im"].map(|name| (name, format!("loss..{name}"), View::Whole)));
        }
        leaves
    }

    fn loss_back(&mut self, s: &str, ds: &str) {
        let mut leaves = self.loss_leaves(s);
        leaves.push(("d.s", ds.to_owned(), View::Whole));
        self.viewed("loss", "", text::LOSS_BACK, &leaves);
    }

    fn model(&mut self) {
        let Settings { use_abs, no_imgnorm, caption_projection, .. } = *self.settings;
        let fc = ["in.images", FC, "mid.image.projected", "grad.mid.image.projected", "grad.in.images"];
        let proj = ["mid.last", PROJ, "mid.caption.projected", "grad.mid.caption.projected", "grad.mid.last"];
        let vectors = if caption_projection { proj[2] } else { proj[0] };
        let d_vectors = if caption_projection { proj[3] } else { proj[4] };
        self.linear(fc, "image");
        self.head("image", [fc[2], fc[3]], !no_imgnorm, use_abs);
        self.words();
        self.gru("mid.words", "mid.last", false);
        if caption_projection {
            self.linear(proj, "caption");
        }
        self.head("caption", [vectors, d_vectors], true, use_abs);
        let (f, g) = ("out.image_embedding", "out.caption_embedding");
        self.scores([f, g, "out.scores"]);
        self.loss("out.scores");
        self.loss_back("out.scores", "grad.out.scores");
        self.scores_back("grad.out.scores", ["grad.out.image_embedding", "grad.out.caption_embedding"]);
        self.head_back("image", !no_imgnorm, use_abs);
        self.linear_back(fc, "image");
        self.head_back("caption", true, use_abs);
        if caption_projection {
            self.linear_back(proj, "caption");
        }
        self.gru_back("grad.mid.last", "grad.mid.words", false);
        self.words_back("grad.mid.words");
        if self.settings.steps == 1 {
            self.one_step();
        }
    }

    /// The normalisation and the absolute value of a side, [the vectors, their gradient].
    fn head(&mut self, side: &str, [x, d_x]: [&str; 2], norm: bool, abs: bool) {
        let (unit, embedding) = (format!("mid.{side}.unit"), format!("out.{side}_embedding"));
        let (d_unit, d_embedding) = (format!("grad.{unit}"), format!("grad.{embedding}"));
        let norms = format!("mid.{side}.norm");
        let (y, dy) = if abs { (&unit, &d_unit) } else { (&embedding, &d_embedding) };
        let leaves = [("x", x), ("y", y), ("norm", norms.as_str()), ("d.y", dy), ("d.x", d_x)];
        if norm {
            self.equations("norm", side, text::NORM, &leaves);
        } else if abs || x != y {
            self.equations("same", side, text::SAME, &leaves);
        }
        if abs {
            let leaves = [("x", unit.as_str()), ("y", &embedding), ("d.y", &d_embedding), ("d.x", &d_unit)];
            self.equations("abs", side, text::ABS, &leaves);
        }
    }

    fn head_back(&mut self, side: &str, norm: bool, abs: bool) {
        if abs {
            self.equations("abs", side, text::ABS_BACK, &[]);
        }
        if norm {
            self.equations("norm", side, text::NORM_BACK, &[]);
        } else {
            self.equations("same", side, text::SAME_BACK, &[]);
        }
    }

    fn constants(&mut self, steps: usize, start: f64) {
        let fresh = constants(steps, 0.0)
            .into_iter()
            .filter_map(|(name, x)| name.strip_prefix("correct_").map(|moment| (format!("fresh_{moment}"), x)));
        self.graph.given.extend(fresh);
        self.graph.given.extend(constants(steps, start));
        let last = Array1::from_shape_fn(steps, |u| f64::from(u8::from(u + 1 == steps)));
        self.give("final", last.into_dyn());
        self.give("ones", ArrayD::ones(IxDyn(&[steps])));
        self.give("rate", ArrayD::from_elem(IxDyn(&[]), self.settings.learning_rate));
        let limit = if self.settings.grad_clip > 0.0 { self.settings.grad_clip } else { f64::MAX };
        self.give("limit", ArrayD::from_elem(IxDyn(&[]), limit));
    }

    /// Norms and clipping of the gradients [steps, …] of some parameters, then Adam on each.
    fn adam(&mut self, names: &[String], gradient: &dyn Fn(&str) -> (String, View), resumed: bool) {
        self.graph.concatenated = names.iter().map(|name| gradient(name)).collect();
        let leaves = [("all", ALL), ("norms", "opt.norms"), ("clip", "opt.clip")];
        self.equations("clip", "", text::GLOBAL_NORM, &leaves);
        let (kind, clip) =
            if self.settings.grad_clip > 0.0 { ("clip", text::CLIP) } else { ("unclipped", text::NO_CLIP) };
        self.equations(kind, "", clip, &leaves);
        self.parts_of_gradients(names);
        for name in names {
            let (tensor, view) = gradient(name);
            let state = |part: &str| if resumed { format!("in.{part}.{name}") } else { format!("{part}0.{name}") };
            let leaves = [
                ("g", tensor, view),
                ("clip", "opt.clip".into(), View::Whole),
                ("m", format!("opt.m.{name}"), View::Flat),
                ("v", format!("opt.v.{name}"), View::Flat),
                ("p", format!("opt.param.{name}"), View::Flat),
                ("p0", format!("param.{name}"), View::Flat),
                ("m_all0", state("m"), View::Flat),
                ("v_all0", state("v"), View::Flat),
                ("q0", format!("param.{name}"), View::Flat),
                ("m_new0", format!("m0.{name}"), View::Flat),
                ("v_new0", format!("v0.{name}"), View::Flat),
                ("so_far0", format!("so_far0.{name}"), View::Flat),
                ("largest0", format!("largest0.{name}"), View::Flat),
            ];
            if let Some(shape) = self.case.inputs.get(&format!("param.{name}")).map(ndarray::ArrayBase::raw_dim) {
                for part in ["m0", "v0", "so_far0", "largest0"] {
                    self.give(&format!("{part}.{name}"), ArrayD::zeros(shape.clone()));
                }
            }
            self.viewed("adam", name, text::ADAM, &leaves);
        }
    }

    /// To which parameter each element of all gradients belongs, and what was added up before: nothing.
    fn parts_of_gradients(&mut self, names: &[String]) {
        let mut part = Vec::new();
        for (k, name) in names.iter().enumerate() {
            let len = self.case.inputs.get(&format!("param.{name}")).map_or(0, ArrayD::len);
            part.extend(std::iter::repeat_n(k as f64, len));
        }
        self.give("clip..so_far0", ArrayD::zeros(IxDyn(&[part.len()])));
        self.give("parts", ArrayD::ones(IxDyn(&[names.len()])));
        self.give("part_p", Array1::from(part).into_dyn());
    }

    fn optimiser(&mut self) {
        let start = self.case.inputs.get("in.step").and_then(|step| step.iter().next().copied());
        self.constants(self.settings.steps, start.unwrap_or(0.0));
        let names: Vec<String> =
            self.case.inputs.keys().filter_map(|name| name.strip_prefix("param.")).map(Into::into).collect();
        self.adam(&names, &|name| (format!("in.grad.{name}"), View::FlatRows), start.is_some());
    }

    /// The one step of a model: its gradients are those of the first pass.
    fn one_step(&mut self) {
        self.constants(1, 0.0);
        let names = parameter_names(self.settings.num_layers, self.settings.caption_projection);
        self.adam(&names, &|name| (format!("grad.{name}"), View::OneRow), false);
    }
}

/// Adam's constants after each of `steps` steps, from a step count.
pub(super) fn constants(steps: usize, start: f64) -> Vec<(String, ArrayD<f64>)> {
    let mut all: Vec<(String, ArrayD<f64>)> = Vec::new();
    let numbers = |of: &dyn Fn(usize) -> f64| Array1::from_shape_fn(steps, of).into_dyn();
    for (name, moment, beta) in [("beta1", "m", BETAS[0]), ("beta2", "v", BETAS[1]), ("beta_99", "99", 0.99)] {
        all.push((name.to_owned(), ArrayD::from_elem(IxDyn(&[]), beta)));
        let corrected = |t: f64| 1.0 / (1.0 - libm::pow(beta, t));
        all.push((format!("correct_{moment}"), numbers(&|u| corrected(start + u as f64 + 1.0))));
        all.push((format!("stale_{moment}"), numbers(&|_| corrected(1.0))));
        let late = |u: usize| corrected((start + u as f64).max(1.0));
        all.push((format!("late_{moment}"), numbers(&late)));
        all.push((format!("ahead_{moment}"), numbers(&|u| corrected(start + u as f64 + 2.0))));
    }
    all
}

/// Leaves that only known mistakes read.
const ASIDE: [&str; 20] = [
    "last_occurrence",
    "per_word",
    "per_row",
    "per_pair",
    "per_root_of_D",
    "full_end",
    "beta_99",
    "correct_99",
    "stale_m",
    "stale_v",
    "ahead_m",
    "late_m",
    "late_v",
    "start_of_zeros",
    "ahead_v",
    "fresh_m",
    "fresh_v",
    "part_p",
    "parts",
    "h0",
];
/// Leaves of an optimiser's group that only known mistakes read.
pub(super) const STATES: [&str; 7] = ["m_all0", "v_all0", "q0", "m_new0", "v_new0", "so_far0", "largest0"];

/// Leaves that follow from the settings and inputs.
pub(super) const GIVEN: [&str; 24] = [
    "end",
    "padded_end",
    "one_before_end",
    "first",
    "mean",
    "start",
    "h0",
    "wrong",
    "without_neighbours",
    "off_diagonal",
    "every",
    "eye",
    "margin",
    "most",
    "before",
    "temperature",
    "beta1",
    "beta2",
    "correct_m",
    "correct_v",
    "final",
    "ones",
    "rate",
    "limit",
];

fn weights(k: usize) -> Vec<(&'static str, String, View)> {
    let parts = [("W_ih", "weight_ih"), ("W_hh", "weight_hh"), ("b_ih", "bias_ih"), ("b_hh", "bias_hh")];
    let both = |(short, part): (&'static str, &str)| (short, format!("param.{}", rnn(part, k)), View::Whole);
    let gradients = [("d.W_ih", "weight_ih"), ("d.W_hh", "weight_hh"), ("d.b_ih", "bias_ih"), ("d.b_hh", "bias_hh")];
    let gradient = |(short, part): (&'static str, &str)| (short, format!("grad.{}", rnn(part, k)), View::Whole);
    parts.map(both).into_iter().chain(gradients.map(gradient)).collect()
}
