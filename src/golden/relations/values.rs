//! A case with the backend's values: what each relation gives on them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, Axis, CowArray, IxDyn, Slice};

use super::evaluate::{Leaves, Weights, scatter};
use super::graph::{ALL, Equation, Graph, View};
use super::language::{At, Relation};
use crate::golden::compare::FoundTensors;
use crate::golden::difference::Extent;
use crate::golden::program::Settings;
use crate::golden::suite::GoldenCase;

/// A case, and the value of every leaf: what the backend wrote; where it wrote nothing, what follows from what it
/// wrote, or the golden value.
pub(super) struct Case<'a> {
    pub golden: &'a GoldenCase,
    pub settings: Settings,
    pub graph: Graph,
    /// 0 after the end of a row.
    values: BTreeMap<String, ArrayD<f64>>,
    found: &'a FoundTensors,
    /// Tensors that are neither given nor written: the equations give them.
    pub composed: BTreeSet<String>,
    producers: BTreeMap<String, Vec<usize>>,
}

/// A relation in the place of that of a family.
pub(super) struct Other<'a> {
    pub family: &'a str,
    pub relation: &'a Relation,
    pub weights: Weights,
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
        };
        case.values = golden.inputs.iter().map(|(name, x)| (name.clone(), case.cleared(name, x.clone()))).collect();
        let given = std::mem::take(&mut case.graph.given);
        case.values.extend(given);
        for (name, expected) in &golden.expected {
            let written = case.written(name);
            if written.is_none() {
                case.composed.insert(name.clone());
            }
            let values = case.cleared(name, written.unwrap_or_else(|| expected.clone()));
            case.values.insert(name.clone(), values);
        }
        if !case.graph.concatenated.is_empty() {
            let parts: Option<Vec<ArrayD<f64>>> =
                case.graph.concatenated.iter().map(|(tensor, view)| Some(view.of(case.values.get(tensor)?))).collect();
            let views = parts.as_ref().map(|parts| parts.iter().map(|part| part.view()).collect::<Vec<_>>());
            if let Some(all) = views.and_then(|views| ndarray::concatenate(Axis(1), &views).ok()) {
                case.values.insert(ALL.into(), all);
            }
        }
        for (place, equation) in case.graph.equations.iter().enumerate() {
            case.producers.entry(equation.tensor.clone()).or_default().push(place);
            if !golden.expected.contains_key(&equation.tensor) {
                case.composed.insert(equation.tensor.clone());
            }
        }
        let recurrent = case.graph.recurrent.clone();
        case.composed.retain(|name| !recurrent.contains(name) && case.producers.contains_key(name));
        // In the order of the data flow: what is read has its value.
        let order: Vec<String> = case.graph.equations.iter().map(|equation| equation.tensor.clone()).collect();
        for tensor in order {
            if case.composed.contains(&tensor)
                && let Some(values) = case.compose(&tensor, None, &RefCell::default())
            {
                case.values.insert(tensor, values);
            }
        }
        case
    }

    /// A padded tensor with 0 after the end of each row.
    fn cleared(&self, name: &str, mut x: ArrayD<f64>) -> ArrayD<f64> {
        let lengths = &self.graph.lengths;
        let padded = self.golden.entry.tensors.iter().any(|tensor| tensor.name == name && tensor.padded)
            || matches!(name, "in.x" | "in.d_words") && x.ndim() == 3;
        if padded && x.shape()[0] == lengths.len() {
            for (b, &length) in lengths.iter().enumerate() {
                let mut row = x.index_axis_mut(Axis(0), b);
                let steps = row.shape()[0];
                row.slice_axis_mut(Axis(0), Slice::from(length.min(steps)..)).fill(0.0);
            }
        }
        x
    }

    /// A tensor that is not written, from its relations.
    fn compose(&self, tensor: &str, other: Option<&Other<'_>>, memo: &Memo) -> Option<ArrayD<f64>> {
        let mut whole: Option<ArrayD<f64>> = self.values.get(tensor).cloned();
        for &place in self.producers.get(tensor)? {
            let equation = &self.graph.equations[place];
            let part = self.evaluate(place, other, memo)?;
            let leaf = &self.graph.groups[equation.group].leaves[&equation.relation.out.leaf];
            match (equation.relation.out.block, &mut whole) {
                (Some(block), Some(whole)) => {
                    let axis = whole.ndim() - 1;
                    let hidden = whole.shape()[axis] / 3;
                    let shape = whole.slice_axis(Axis(axis), Slice::from(..hidden)).shape().to_vec();
                    let part = part.to_shape(IxDyn(&shape)).ok()?.into_owned();
                    whole.slice_axis_mut(Axis(axis), Slice::from(block * hidden..(block + 1) * hidden)).assign(&part);
                }
                (_, Some(whole)) if matches!(leaf.view, View::Layer(_)) => {
                    let View::Layer(k) = leaf.view else { return None };
                    whole.index_axis_mut(Axis(0), k).assign(&part);
                }
                (_, known) => {
                    let shape = known.as_ref().map_or(part.shape().to_vec(), |known| known.shape().to_vec());
                    *known = Some(part.to_shape(IxDyn(&shape)).ok()?.into_owned());
                }
            }
        }
        whole.map(|x| self.cleared(tensor, x))
    }

    /// Which written tensors and inputs an unwritten tensor, or the relation of a written one, is made of: the
    /// families on the way.
    pub(super) fn unwritten_before(&self, place: usize) -> Vec<usize> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![place]);
        while let Some(place) = open.pop() {
            let equation = &self.graph.equations[place];
            for tensor in self.read(equation) {
                if self.composed.contains(&tensor) {
                    open.extend(self.producers[&tensor].iter().filter(|&&place| seen.insert(place)));
                }
            }
        }
        seen.into_iter().collect()
    }

    /// The tensors of the case that the backend did not write, between the left side of an equation and what it did
    /// write, in the order of the data flow.
    pub(super) fn unwritten_span(&self, place: usize) -> Vec<String> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            for tensor in self.read(&self.graph.equations[place]) {
                let unwritten = !self.found.contains_key(&tensor) && !self.golden.inputs.contains_key(&tensor);
                if unwritten && self.producers.contains_key(&tensor) && seen.insert(tensor.clone()) {
                    open.extend(&self.producers[&tensor]);
                }
            }
        }
        let names = self.golden.expected_entries().map(|entry| entry.name.clone());
        names.filter(|name| seen.contains(name)).collect()
    }

    /// The tensors that an equation reads.
    fn read(&self, equation: &Equation) -> Vec<String> {
        let leaves = &self.graph.groups[equation.group].leaves;
        equation.relation.leaves().filter_map(|short| leaves.get(short)).map(|leaf| leaf.tensor.clone()).collect()
    }

    /// What a relation gives on the backend's values, in the shape of [`Case::seen`].
    pub(super) fn right(&self, place: usize) -> Option<ArrayD<f64>> {
        self.evaluate(place, None, &RefCell::default())
    }

    /// The same with another relation in the place of that of a family.
    pub(super) fn otherwise(&self, place: usize, other: &Other<'_>) -> Option<ArrayD<f64>> {
        self.evaluate(place, Some(other), &RefCell::default())
    }

    fn evaluate(&self, place: usize, other: Option<&Other<'_>>, memo: &Memo) -> Option<ArrayD<f64>> {
        let equation = &self.graph.equations[place];
        let leaves = Reading { case: self, group: equation.group, other, memo };
        let (relation, sizes) = (&equation.relation, self.sizes(place)?);
        let values = match other.filter(|other| other.family == equation.family) {
            Some(other) => other.relation.evaluate(&leaves, &sizes, &other.weights)?,
            None => relation.evaluate(&leaves, &sizes, &Weights::new())?,
        };
        if relation.out.through().next().is_none() {
            return Some(values);
        }
        let index: Option<BTreeMap<String, ArrayD<f64>>> =
            relation.out.through().map(|(name, _)| Some((name.clone(), leaves.leaf(name)?))).collect();
        scatter(&relation.out, &self.masked(&relation.out.letters(), values), &self.out_shape(place)?, &index?)
    }

    /// 0 where a value at the letters b, t, … is after the end of its row.
    fn masked(&self, letters: &[char], mut values: ArrayD<f64>) -> ArrayD<f64> {
        if let ['b', 't', ..] = letters {
            for (b, &length) in self.graph.lengths.iter().enumerate() {
                let mut row = values.index_axis_mut(Axis(0), b);
                row.slice_axis_mut(Axis(0), Slice::from(length..)).fill(0.0);
            }
        }
        values
    }

    fn out_shape(&self, place: usize) -> Option<Vec<usize>> {
        let equation = &self.graph.equations[place];
        let leaf = self.graph.groups[equation.group].leaves.get(&equation.relation.out.leaf)?;
        let x = self.golden.expected.get(&leaf.tensor).or_else(|| self.values.get(&leaf.tensor))?;
        Some(self.block_of(place, leaf.view.of(x)).shape().to_vec())
    }

    /// The sizes of the letters of a left side.
    pub(super) fn sizes(&self, place: usize) -> Option<Vec<usize>> {
        let equation = &self.graph.equations[place];
        let letters = equation.relation.out.letters();
        if let Some(shape) = self.out_shape(place)
            && letters.len() == shape.len()
            && equation.relation.out.axes.iter().all(|axis| axis.at == At::Shift(0))
        {
            return Some(shape);
        }
        // From the leaves that have the letters.
        let memo = RefCell::default();
        let leaves = Reading { case: self, group: equation.group, other: None, memo: &memo };
        let mut sizes = vec![None; letters.len()];
        let factors = equation.relation.terms.iter().flat_map(|term| &term.factors);
        for factor in factors {
            let loaded = factor.load(&leaves)?;
            for (letter, &size) in loaded.letters.iter().zip(loaded.values.shape()) {
                if let Some(place) = letters.iter().position(|l| l == letter) {
                    sizes[place] = Some(size);
                }
            }
        }
        for axis in &equation.relation.out.axes {
            if let At::Through(name, own) = &axis.at {
                let index = leaves.leaf(name)?;
                for (letter, &size) in own.iter().zip(index.shape()) {
                    sizes[letters.iter().position(|l| l == letter)?] = Some(size);
                }
            } else {
                let (at, shape) = (letters.iter().position(|l| *l == axis.letter)?, self.out_shape(place));
                let own = equation.relation.out.axes.iter().position(|other| other.letter == axis.letter)?;
                if let Some(shape) = shape {
                    sizes[at] = Some(shape[own]);
                }
            }
        }
        sizes.into_iter().collect()
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
        let memo = RefCell::default();
        use_them(&Reading { case: self, group: self.graph.equations[place].group, other: None, memo: &memo })
    }

    /// Which elements of a tensor are compared.
    pub(super) fn extent(&self, tensor: &str) -> Extent<'_> {
        let entry = self.golden.entry.tensors.iter().find(|entry| entry.name == tensor);
        entry.map_or_else(Extent::default, |entry| entry.extent(Some(&self.graph.lengths)))
    }
}

type Memo = RefCell<BTreeMap<String, ArrayD<f64>>>;

/// The leaves of a group, with another relation in the place of one.
pub(super) struct Reading<'c, 'a> {
    case: &'c Case<'a>,
    group: usize,
    other: Option<&'c Other<'c>>,
    memo: &'c Memo,
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
        self.seen(name, |tensor| {
            if self.other.is_some() && self.case.composed.contains(tensor) {
                if let Some(known) = self.memo.borrow().get(tensor) {
                    return Some(known.clone());
                }
                // What is read while it is computed has the value that follows without the change.
                let known = self.case.values.get(tensor)?.clone();
                self.memo.borrow_mut().insert(tensor.into(), known);
                let values = self.case.compose(tensor, self.other, self.memo)?;
                self.memo.borrow_mut().insert(tensor.into(), values.clone());
                return Some(values);
            }
            self.case.values.get(tensor).cloned()
        })
    }

    fn with_padding(&self, name: &str) -> Option<ArrayD<f64>> {
        self.seen(name, |tensor| self.case.found.get(tensor).map(|found| found.values.clone()))
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
