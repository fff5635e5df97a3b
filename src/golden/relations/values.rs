//! A case with the backend's values: what each relation gives on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use ndarray::{ArrayD, Axis, CowArray, IxDyn, Slice};

use super::evaluate::Leaves;
use super::graph::{ALL, Graph, with_padding};
use super::language::Relation;
use super::simulate::{Compiled, Other};
use crate::golden::compare::FoundTensors;
use crate::golden::difference::Extent;
use crate::golden::program::Settings;
use crate::golden::suite::GoldenCase;

/// The relations of unwritten tensors are searched too, if there are no more kinds than these on the way; else those of
/// the same group alone.
const UNWRITTEN: usize = 12;

/// For changed equations and a place: those on the way from the ones to the other.
type Ways = BTreeMap<(Vec<usize>, usize), Vec<usize>>;

/// A case, and the value of every leaf: what the backend wrote, or what follows from what it wrote.
pub(super) struct Case<'a> {
    pub golden: &'a GoldenCase,
    pub settings: Settings,
    pub graph: Graph,
    /// 0 after the end of a row.
    values: BTreeMap<String, ArrayD<f64>>,
    found: &'a FoundTensors,
    /// Tensors that are neither given nor written: the equations give them.
    composed: BTreeSet<String>,
    producers: BTreeMap<String, Vec<usize>>,
    /// For each equation [`Case::unwritten_before`], once it was asked for.
    before: Vec<OnceLock<Vec<usize>>>,
    /// What [`Case::on_the_way_from`] gives, once it was asked for.
    ways: Mutex<Ways>,
    compiled: Option<Compiled>,
}

impl<'a> Case<'a> {
    pub(super) fn new(golden: &'a GoldenCase, found: &'a FoundTensors, settings: Settings) -> Self {
        let graph = Graph::of(golden, &settings);
        let mut case = Self {
            golden,
            settings,
            graph,
            values: BTreeMap::new(),
            found,
            composed: BTreeSet::new(),
            producers: BTreeMap::new(),
            before: Vec::new(),
            ways: Mutex::default(),
            compiled: None,
        };
        case.values = golden.inputs.iter().map(|(name, x)| (name.clone(), case.cleared(name, x.clone()))).collect();
        let given = std::mem::take(&mut case.graph.given);
        case.values.extend(given);
        for name in golden.expected.keys() {
            if let Some(written) = case.written(name) {
                let cleared = case.cleared(name, written.clone());
                if cleared != written {
                    case.values.insert(with_padding(name), written);
                }
                case.values.insert(name.clone(), cleared);
            }
        }
        for (place, equation) in case.graph.equations.iter().enumerate() {
            case.producers.entry(equation.tensor.clone()).or_default().push(place);
            if !case.values.contains_key(&equation.tensor) {
                case.composed.insert(equation.tensor.clone());
            }
        }
        case.before.resize_with(case.graph.equations.len(), OnceLock::new);
        let shapes = golden.expected.iter().map(|(name, x)| (name.clone(), x.shape().to_vec())).collect();
        case.compiled = Compiled::new(&case.graph, &shapes, &case.values).ok();
        case.compose();
        case
    }

    /// Computes what is not written.
    fn compose(&mut self) {
        let Some(mut compiled) = self.compiled.take() else { return };
        let all = 0..self.graph.equations.len();
        if compiled.run(all, &|tensor, _| self.composed.contains(tensor)).is_some() {
            let lacks = self.golden.expected.keys().filter(|name| !self.values.contains_key(*name));
            for name in lacks.chain(&self.composed).cloned().collect::<Vec<_>>() {
                if let Some(x) = compiled.tensor(&name, None) {
                    let x = self.cleared(&name, x);
                    self.values.insert(name, x);
                }
            }
            self.compiled = Some(compiled);
        }
        if !self.graph.concatenated.is_empty() {
            let parts: Option<Vec<ArrayD<f64>>> =
                self.graph.concatenated.iter().map(|(tensor, view)| Some(view.of(self.values.get(tensor)?))).collect();
            let views = parts.as_ref().map(|parts| parts.iter().map(|part| part.view()).collect::<Vec<_>>());
            if let Some(all) = views.and_then(|views| ndarray::concatenate(Axis(1), &views).ok()) {
                self.values.insert(ALL.into(), all);
            }
        }
    }

    /// Takes other relations of unwritten tensors for those of the backend, from here on.
    pub(super) fn take(&mut self, changes: &[(usize, Other<'_>)]) {
        let Some(compiled) = &mut self.compiled else { return };
        let unwritten = |place: usize| self.composed.contains(&self.graph.equations[place].tensor);
        let mut changed = false;
        for (place, other) in changes.iter().filter(|(place, _)| unwritten(*place)) {
            changed |= compiled.change(&self.graph, &self.values, *place, other).is_some();
        }
        if changed {
            self.compose();
        }
    }

    /// A padded tensor with 0 after the end of each row.
    fn cleared(&self, name: &str, x: ArrayD<f64>) -> ArrayD<f64> {
        cleared(self.golden, &self.graph.lengths, name, x)
    }

    /// Which written tensors and inputs an unwritten tensor, or the relation of a written one, is made of: the
    /// families on the way.
    pub(super) fn unwritten_before(&self, place: usize) -> &[usize] {
        self.before[place].get_or_init(|| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![place]);
            while let Some(place) = open.pop() {
                for tensor in self.graph.reads(&self.graph.equations[place]) {
                    if self.composed.contains(tensor) {
                        open.extend(self.producers[tensor].iter().filter(|&&place| seen.insert(place)));
                    }
                }
            }
            seen.into_iter().collect()
        })
    }

    /// The relations of unwritten tensors that a relation is made of, to be searched: without the families in `refuted`.
    /// A backward pass is not blamed on the forward pass, but for what it has to compute again because no case writes it.
    pub(super) fn on_the_way(&self, place: usize, refuted: &BTreeSet<String>) -> Vec<usize> {
        let backward = |place: usize| self.graph.equations[place].relation.is_backward();
        let kind = |place: usize| self.graph.groups[self.graph.equations[place].group].kind;
        let mut all = self.unwritten_before(place).to_vec();
        let open = |place: usize| !refuted.contains(&self.graph.equations[place].family);
        let is_read = |other: usize| {
            let tensor = &self.graph.equations[other].tensor;
            let hidden = !self.golden.expected.contains_key(tensor);
            backward(other) == backward(place)
                || (hidden && self.graph.reads(&self.graph.equations[place]).any(|of| of == tensor))
        };
        all.retain(|&other| other != place && is_read(other) && open(other));
        let count = |all: &[usize]| {
            all.iter().map(|&place| self.graph.equations[place].family.as_str()).collect::<BTreeSet<&str>>().len()
        };
        if count(&all) > UNWRITTEN {
            all.retain(|&other| kind(other) == kind(place));
        }
        if count(&all) > UNWRITTEN { Vec::new() } else { all }
    }

    /// The equations of the written tensors of its group that an equation reads.
    pub(super) fn written_before(&self, place: usize) -> impl Iterator<Item = usize> {
        let equation = &self.graph.equations[place];
        let tensors: BTreeSet<&str> = self.graph.reads(equation).collect();
        let written = tensors.into_iter().filter(|tensor| !self.composed.contains(*tensor));
        let makers = written.flat_map(|tensor| self.producers.get(tensor).into_iter().flatten().copied());
        makers.filter(move |&maker| maker != place && self.graph.equations[maker].group == equation.group)
    }

    /// The tensors of the case that the backend did not write, between the left side of an equation and what it did
    /// write, in the order of the data flow.
    pub(super) fn unwritten_span(&self, place: usize) -> Vec<String> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            for tensor in self.graph.reads(&self.graph.equations[place]) {
                let unwritten = !self.found.contains_key(tensor) && !self.golden.inputs.contains_key(tensor);
                if unwritten && self.producers.contains_key(tensor) && seen.insert(tensor.to_owned()) {
                    open.extend(&self.producers[tensor]);
                }
            }
        }
        let names = self.golden.expected_entries().map(|entry| entry.name.clone());
        names.filter(|name| seen.contains(name)).collect()
    }

    /// What a relation gives on the backend's values, in the shape of [`Case::seen`].
    pub(super) fn right(&self, place: usize) -> Option<ArrayD<f64>> {
        self.compiled.as_ref()?.right(place)
    }

    /// The same with another relation in the place of that of a family.
    pub(super) fn otherwise(&self, place: usize, other: &Other<'_>) -> Option<ArrayD<f64>> {
        let mut before = self.unwritten_before(place).to_vec();
        if other.again {
            let again = self.written_before(place);
            before.extend(again.filter(|&place| other.changes(&self.graph.equations[place].family)));
            before.sort_unstable();
        }
        let is_of = |place: &&usize| other.changes(&self.graph.equations[**place].family);
        let changed: Vec<usize> = before.iter().chain([&place]).filter(is_of).copied().collect();
        let compiled = self.compiled.as_ref()?;
        if changed.is_empty() {
            return compiled.right(place);
        }
        let way = if changed == [place] { Vec::new() } else { self.on_the_way_from(&changed, place) };
        compiled.otherwise(&self.graph, &self.values, place, &way, &changed, other)
    }

    /// The changed equations, and those that read them, directly or not, on the way to a place.
    fn on_the_way_from(&self, changed: &[usize], place: usize) -> Vec<usize> {
        let key = (changed.to_vec(), place);
        if let Some(known) = self.ways.lock().ok().and_then(|ways| ways.get(&key).cloned()) {
            return known;
        }
        let is_changed: Vec<bool> = (0..self.graph.equations.len()).map(|place| changed.contains(&place)).collect();
        let affected = self.graph.affected(&is_changed);
        let mut way: Vec<usize> = self.unwritten_before(place).iter().chain(changed).copied().collect();
        way.retain(|&place| affected[place]);
        way.sort_unstable();
        way.dedup();
        if let Ok(mut ways) = self.ways.lock() {
            ways.insert(key, way.clone());
        }
        way
    }

    /// How many numbers a case has, those that are not written too.
    pub(super) fn numbers(&self) -> usize {
        self.compiled.as_ref().map_or(0, Compiled::numbers)
    }

    /// The sizes of the letters of a left side.
    pub(super) fn sizes(&self, place: usize) -> Option<Vec<usize>> {
        Some(self.compiled.as_ref()?.sizes(place).to_vec())
    }

    /// The block of a gate, if the left side of an equation is one.
    fn block_of<T: Clone>(&self, place: usize, x: ArrayD<T>) -> ArrayD<T> {
        match self.graph.equations[place].relation.out.block {
            Some(block) => {
                let axis = Axis(x.ndim() - 1);
                let hidden = x.shape()[axis.index()] / 3;
                x.slice_axis(axis, Slice::from(block * hidden..(block + 1) * hidden)).to_owned()
            }
            None => x,
        }
    }

    /// The part of a tensor that is the left side of an equation, in the order of its letters.
    pub(super) fn seen<T: Clone>(&self, place: usize, x: &ArrayD<T>) -> ArrayD<T> {
        let equation = &self.graph.equations[place];
        let view = self.graph.groups[equation.group].leaves[&equation.relation.out.leaf].view;
        self.block_of(place, view.of(x))
    }

    /// The values of a leaf of an equation's group, as the backend wrote it.
    pub(super) fn leaf(&self, place: usize, name: &str) -> Option<ArrayD<f64>> {
        self.with_leaves(place, |leaves| leaves.leaf(name))
    }

    /// The leaves of an equation.
    pub(super) fn with_leaves<R>(&self, place: usize, use_them: impl FnOnce(&Reading<'_, '_>) -> R) -> R {
        use_them(&Reading { case: self, group: self.graph.equations[place].group })
    }

    /// Which elements of a tensor are compared.
    pub(super) fn extent(&self, tensor: &str) -> Extent<'_> {
        let entry = self.golden.entry.tensors.iter().find(|entry| entry.name == tensor);
        entry.map_or_else(Extent::default, |entry| entry.extent(Some(&self.graph.lengths)))
    }
}

/// The leaves of a group.
pub(super) struct Reading<'c, 'a> {
    case: &'c Case<'a>,
    group: usize,
}

impl Reading<'_, '_> {
    fn seen(&self, name: &str, of: impl Fn(&str) -> Option<ArrayD<f64>>) -> Option<ArrayD<f64>> {
        match self.case.graph.groups[self.group].leaves.get(name) {
            Some(leaf) => Some(leaf.view.of(&of(&leaf.tensor)?)),
            // Another given tensor.
            None => of(name),
        }
    }
}

impl Leaves for Reading<'_, '_> {
    fn leaf(&self, name: &str) -> Option<ArrayD<f64>> {
        self.seen(name, |tensor| self.case.values.get(tensor).cloned())
    }

    fn with_padding(&self, name: &str) -> Option<ArrayD<f64>> {
        self.seen(name, |tensor| self.case.values.get(&with_padding(tensor)).or(self.case.values.get(tensor)).cloned())
    }

    fn lengths(&self) -> &[usize] {
        &self.case.graph.lengths
    }
}

impl Case<'_> {
    /// A tensor as the backend wrote it; none if it did not, or in another shape.
    fn written(&self, tensor: &str) -> Option<ArrayD<f64>> {
        let (expected, found) = (self.golden.expected.get(tensor)?, &self.found.get(tensor)?.values);
        let scalar = found.len() == 1 && expected.len() == 1;
        (found.shape() == expected.shape() || scalar)
            .then(|| found.to_shape(expected.raw_dim()).ok())?
            .map(CowArray::into_owned)
    }

    /// The left side of an equation as the backend wrote it.
    pub(super) fn left_side(&self, place: usize) -> Option<ArrayD<f64>> {
        Some(self.seen(place, &self.written(&self.graph.equations[place].tensor)?))
    }

    /// The sum of all terms of a relation, before its function.
    pub(super) fn sums(&self, place: usize, relation: &Relation) -> Option<ArrayD<f64>> {
        let (letters, sizes) = (relation.out.letters(), self.sizes(place)?);
        let mut sums = ArrayD::zeros(IxDyn(&sizes));
        for term in 0..relation.terms.len() {
            sums += &self.with_leaves(place, |leaves| relation.term_values(leaves, &letters, &sizes, term))?;
        }
        Some(sums)
    }

    /// The size of a letter in an equation: of its left side, or of any leaf.
    pub(super) fn size_of(&self, place: usize, letter: char) -> Option<usize> {
        let relation = &self.graph.equations[place].relation;
        let own = relation
            .out
            .letters()
            .iter()
            .position(|&l| l == letter)
            .and_then(|k| self.sizes(place).map(|sizes| sizes[k]));
        own.or_else(|| {
            self.with_leaves(place, |leaves| {
                relation.terms.iter().flat_map(|term| &term.factors).find_map(|factor| {
                    let loaded = factor.load(leaves)?;
                    loaded.letters.iter().position(|&l| l == letter).map(|k| loaded.values.shape()[k])
                })
            })
        })
    }
}

/// A padded tensor with 0 after the end of each row.
pub(super) fn cleared(golden: &GoldenCase, lengths: &[usize], name: &str, mut x: ArrayD<f64>) -> ArrayD<f64> {
    let padded = golden.entry.tensors.iter().any(|tensor| tensor.name == name && tensor.padded)
        || matches!(name, "in.x" | "in.d_words") && x.ndim() == 3;
    if padded && x.ndim() > 1 && x.shape()[0] == lengths.len() {
        for (b, &length) in lengths.iter().enumerate() {
            let mut row = x.index_axis_mut(Axis(0), b);
            let steps = row.shape()[0];
            row.slice_axis_mut(Axis(0), Slice::from(length.min(steps)..)).fill(0.0);
        }
    }
    x
}
