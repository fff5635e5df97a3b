//! What a backend gives that makes a known mistake: its case, computed by the changed relations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, OnceLock};

use ndarray::{Array1, ArrayD, IxDyn};

use super::graph::{Change, Graph, constants};
use super::simulate::Compiled;
use super::values::cleared;
use crate::error::Result;
use crate::golden::arithmetic::Arithmetic;
use crate::golden::mistakes::{self, Mistake};
use crate::golden::plain::Plain;
use crate::golden::program::{Program, Settings};
use crate::golden::suite::GoldenCase;

/// Tensors by name.
pub(crate) type Values = BTreeMap<String, ArrayD<f64>>;

/// The changes of each known mistake.
static CHANGES: LazyLock<BTreeMap<&str, Vec<Change>>> =
    LazyLock::new(|| mistakes::ALL.iter().map(|mistake| (mistake.id, Change::parse(mistake.relations))).collect());

/// Whether a mistake changes one of some families of relations.
pub(crate) fn changes(mistake: &Mistake, families: &BTreeSet<String>) -> bool {
    let is_of = |change: &Change, family: &str| {
        let rest = family.strip_prefix(&change.kind).and_then(|rest| rest.strip_prefix(' '));
        rest.and_then(|rest| rest.strip_prefix(&change.relation.out.name()))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    CHANGES[mistake.id].iter().any(|change| families.iter().any(|family| is_of(change, family)))
}

/// Whether a mistake changes the step of the optimiser alone: then it does not matter how gradients are derived.
pub(crate) fn of_optimiser(mistake: &Mistake) -> bool {
    CHANGES[mistake.id].iter().all(|change| matches!(change.kind.as_str(), "clip" | "unclipped" | "adam"))
}

/// A case, ready to be computed with mistakes.
pub(crate) struct Planting<'a> {
    golden: &'a GoldenCase,
    steps: usize,
    graph: Graph,
    known: BTreeMap<String, ArrayD<f64>>,
    shapes: BTreeMap<String, Vec<usize>>,
    /// The first pass without a mistake, in `f64` and in `f32`: with a mistake, only what it affects is computed.
    right: [OnceLock<Option<Compiled>>; 2],
}

/// How far a case is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the loss.
    Forward,
    /// To the end of the first of several steps on one batch.
    FirstPass,
    /// To its end.
    End,
}

impl Until {
    /// Whether a tensor has its final values then.
    pub(crate) fn has(self, name: &str) -> bool {
        match self {
            Self::Forward => !name.starts_with("grad.") && !name.starts_with("opt."),
            Self::FirstPass => !name.starts_with("opt."),
            Self::End => true,
        }
    }
}

/// How a backend with a mistake computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The backward pass is derived from the changed forward pass, as an autograd does; else it is that of the
    /// relations, on the changed values.
    pub autograd: bool,
    /// Every number is rounded to `f32`.
    pub single: bool,
    /// How far it is computed.
    pub until: Until,
}

impl<'a> Planting<'a> {
    /// # Errors
    ///
    /// If the inputs or the settings of the case are broken.
    pub(crate) fn new(golden: &'a GoldenCase) -> Result<Self> {
        let settings = golden.settings()?;
        let program = golden.entry.program;
        let model = program == Program::Model;
        let once = Settings { steps: if model { settings.steps.min(1) } else { settings.steps }, ..settings.clone() };
        // It checks the inputs, and gives every shape.
        let right = program.run::<f64>(&once, &golden.inputs, &Plain::new(Arithmetic::PLAIN))?.trace;
        let graph = Graph::of(golden, &once);
        let mut known = graph.given.clone();
        for (name, x) in &golden.inputs {
            known.insert(name.clone(), cleared(golden, &graph.lengths, name, x.clone()));
        }
        let mut shapes: BTreeMap<String, Vec<usize>> =
            right.entries.iter().map(|entry| (entry.name.clone(), entry.values.shape().to_vec())).collect();
        if model && settings.steps > 0 {
            shapes.insert("opt.norms".into(), vec![1]);
        }
        let steps = if model { settings.steps } else { 0 };
        Ok(Self { golden, steps, graph, known, shapes, right: Default::default() })
    }

    /// How far it is worth computing to refute a mistake before all is computed.
    pub(crate) fn parts(&self) -> &'static [Until] {
        if self.steps > 1 { &[Until::Forward, Until::FirstPass] } else { &[Until::Forward] }
    }

    /// The first pass without a mistake.
    fn first_pass(&self, single: bool) -> Option<&Compiled> {
        let compute = || {
            let mut compiled = Compiled::new(&self.graph, &self.shapes, &self.known).ok()?;
            compiled.single = single;
            compiled.run(0..self.graph.equations.len(), &|_, _| true)?;
            Some(compiled)
        };
        self.right[usize::from(single)].get_or_init(compute).as_ref()
    }

    /// All expected tensors.
    #[cfg(test)]
    pub(crate) fn right(&self, way: Way) -> Option<Values> {
        let all = vec![true; self.graph.equations.len()];
        self.computed(&self.graph, self.first_pass(way.single)?.clone(), &all, way)
    }

    /// The expected tensors that some mistakes may change; none if they change no relation here.
    pub(crate) fn values(&self, mistakes: &[&Mistake], way: Way) -> Option<Values> {
        let mut changes: Vec<Change> =
            mistakes.iter().flat_map(|mistake| CHANGES[mistake.id].iter().cloned()).collect();
        if way.autograd {
            changes.retain(|change| !change.relation.is_backward());
        }
        let right = self.first_pass(way.single)?;
        // Where the shapes do not fit, as for the transpose of what is not square, a mistake cannot be made.
        let mut but = BTreeSet::new();
        loop {
            let (graph, same) = self.graph.with(&changes, &but)?;
            match right.with(&graph, &same, &self.known) {
                Ok(compiled) => {
                    let changed: Vec<bool> = same.iter().map(Option::is_none).collect();
                    return self.computed(&graph, compiled, &graph.affected(&changed), way);
                }
                Err(group) => but.insert(group).then_some(())?,
            }
        }
    }

    /// The tensors of the equations that are affected.
    fn computed(&self, graph: &Graph, mut compiled: Compiled, affected: &[bool], way: Way) -> Option<Values> {
        let Self { golden, steps, .. } = *self;
        let [backward, optimiser] = graph.parts();
        let end = graph.equations.len();
        let mut tensors: BTreeSet<&str> =
            graph.equations.iter().zip(affected).filter(|(_, affected)| **affected).map(|(e, _)| &*e.tensor).collect();
        if way.autograd {
            // All gradients are derived anew.
            tensors.extend(self.shapes.keys().filter(|name| !Until::Forward.has(name)).map(String::as_str));
        }
        let mut out = Values::new();
        let mut collect = |compiled: &Compiled, which: &dyn Fn(&str) -> bool| {
            for name in self.shapes.keys().filter(|name| tensors.contains(name.as_str()) && which(name)) {
                out.insert(name.clone(), compiled.tensor(name, None)?);
            }
            Some(())
        };
        compiled.run(0..backward, &|_, place| affected[place])?;
        if way.until == Until::Forward {
            collect(&compiled, &|name| Until::Forward.has(name))?;
            return Some(out);
        }
        let seeds = seeds(golden, &graph.lengths)?;
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for pass in 0..if way.until == Until::End { steps.max(1) } else { 1 } {
            if pass > 0 {
                for (name, x) in constants(1, pass as f64) {
                    compiled.set(&name.replace("correct_", "fresh_"), &x);
                    compiled.set(&name, &x);
                }
                next(&mut compiled, golden);
                compiled.run(0..backward, &|_, _| true)?;
            }
            let is_wanted = |place: usize| pass > 0 || affected[place];
            if way.autograd {
                let gradient = compiled.back(0..backward, &seeds)?;
                for name in self.shapes.keys() {
                    if let Some(d) =
                        name.strip_prefix("grad.").and_then(|of| compiled.tensor(&primal(of), Some(&gradient)))
                    {
                        compiled.set(name, &d);
                    }
                }
            } else {
                compiled.run(backward..optimiser, &|_, place| is_wanted(place))?;
            }
            compiled.run(optimiser..end, &|_, place| way.autograd || is_wanted(place))?;
            // The gradients are those of the first pass, the optimiser's tensors those of the last.
            if pass == 0 {
                collect(&compiled, &|_| true)?;
            }
            if steps > 0 {
                losses.push(compiled.tensor("out.loss", None)?.sum());
                norms.push(compiled.tensor("opt.norms", None)?.sum());
            }
        }
        if steps > 0 && way.until == Until::End {
            for name in self.shapes.keys().filter(|name| name.starts_with("opt.")) {
                out.insert(name.clone(), compiled.tensor(name, None)?);
            }
            for (name, numbers) in [("opt.losses", losses), ("opt.norms", norms)] {
                out.insert(name.into(), Array1::from(numbers).into_dyn());
            }
        }
        Some(out)
    }
}

/// The tensor that `grad.X` is the derivative by.
fn primal(of: &str) -> String {
    let own = ["in.", "mid.", "out."].iter().any(|prefix| of.starts_with(prefix));
    if own { of.into() } else { format!("param.{of}") }
}

/// The given derivatives of a program's results.
fn seeds(golden: &GoldenCase, lengths: &[usize]) -> Option<Vec<(String, ArrayD<f64>)>> {
    let (result, given) = match golden.entry.program {
        Program::GruCell => ("out.h_next", "in.d_h_next"),
        Program::Gru => ("out.last", "in.d_last"),
        Program::Embedding => ("mid.words", "in.d_words"),
        Program::Linear
        | Program::L2norm
        | Program::Conv
        | Program::BatchNorm
        | Program::MaxPool
        | Program::AvgPool
        | Program::Block => ("out.y", "in.d_y"),
        Program::Scores => ("out.scores", "in.d_scores"),
        Program::Loss | Program::Model => {
            return Some(vec![("out.loss".into(), ArrayD::ones(IxDyn(&[1])))]);
        }
        Program::Optimiser => return Some(Vec::new()),
        Program::Resnet | Program::Vgg => ("out.phi", "in.d_phi"),
    };
    Some(vec![(result.into(), cleared(golden, lengths, given, golden.inputs.get(given)?.clone()))])
}

/// The parameters and moments after a step are those before the next.
fn next(compiled: &mut Compiled, golden: &GoldenCase) {
    for name in golden.inputs.keys().filter_map(|name| name.strip_prefix("param.")) {
        let state = |part: &str| format!("adam.{name}.{part}");
        let after = ["opt.param.", "opt.m.", "opt.v."].map(|part| format!("{part}{name}"));
        let after = after.into_iter().chain([state("so_far"), state("largest")]);
        for (before, after) in ["param", "m0", "v0", "so_far0", "largest0"].iter().zip(after) {
            if let Some(x) = compiled.tensor(&after, None) {
                compiled.set(&format!("{before}.{name}"), &x);
            }
        }
    }
    if let Some(x) = compiled.tensor("clip..so_far", None) {
        compiled.set("clip..so_far0", &x);
    }
}
