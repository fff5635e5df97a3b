//! A case computed by its relations alone, from its inputs or from what a backend wrote: forward, and backward as an
//! autograd derives it.
//!
//! All numbers of a case lie in one arena. A relation is compiled once: each factor becomes an array of places in the
//! arena. Relations that read what they compute at another step are computed step by step.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayD, Axis as Dimension, IxDyn};

use super::evaluate::{Leaves, Lettered, Weights, contract, largest, scatter};
use super::graph::{ALL, Equation, Graph, View, with_padding};
use super::language::{Argument, At, Factor, Function, Relation};
use crate::golden::arithmetic::Rounding;

/// A relation in the place of that of a family.
pub(super) struct Other<'a> {
    pub family: &'a str,
    pub relation: &'a Relation,
    pub weights: Weights,
    /// Where it holds: 1, else 0. Elsewhere the family's own relation does.
    pub only: Option<Lettered>,
    /// Relations in the place of those of other families.
    pub also: &'a [(String, Relation)],
    /// Written tensors of the family are computed again where they are read.
    pub again: bool,
}

impl Other<'_> {
    /// Whether it changes the relation of a family.
    pub(super) fn changes(&self, family: &str) -> bool {
        self.family == family || self.also.iter().any(|(other, _)| other == family)
    }
}

/// Numbers at letters, by their places in the arena.
#[derive(Clone, Debug)]
struct Places {
    letters: Vec<char>,
    at: ArrayD<usize>,
}

/// A factor of a term.
#[derive(Clone, Debug)]
struct Operand {
    places: Places,
    function: Function,
    rounding: Rounding,
    argument: Argument,
}

/// A term: its coefficient, its factors, and the weights of its summands.
#[derive(Clone, Debug)]
struct Product {
    coefficient: f64,
    operands: Vec<Operand>,
    weights: Vec<Lettered>,
}

/// A compiled relation.
#[derive(Clone, Debug)]
struct Step {
    tensor: String,
    /// Letters and sizes of the left side.
    letters: Vec<char>,
    sizes: Vec<usize>,
    out: Target,
    products: Vec<Product>,
    function: Function,
    rounding: Rounding,
    argmax: bool,
    /// The relation that holds elsewhere, and where this one holds: 1, else 0.
    elsewhere: Option<(Arc<Self>, Lettered)>,
}

/// Where a result goes.
#[derive(Clone, Debug)]
enum Target {
    Places(Places),
    /// Added up at given places.
    Added(Places),
    /// At an index that is computed.
    Computed(Box<Scattered>),
}

/// A left side with an index that is computed: the places of its tensor, and those of the indices.
#[derive(Clone, Debug)]
struct Scattered {
    out: Factor,
    places: ArrayD<usize>,
    index: BTreeMap<String, ArrayD<usize>>,
}

impl Scattered {
    /// The whole tensor, from the values at the letters of the left side.
    fn tensor(&self, values: &ArrayD<f64>, arena: &[f64]) -> Option<ArrayD<f64>> {
        let index = self.index.iter().map(|(name, at)| (name.clone(), at.mapv(|place| arena[place]))).collect();
        scatter(&self.out, values, self.places.shape(), &index)
    }
}

/// Equations that are computed together, step by step if they depend on themselves.
#[derive(Clone, Debug)]
struct Block {
    equations: Range<usize>,
    /// The letter of the steps, how many there are, and whether the last comes first.
    over: Option<(char, usize, bool)>,
}

/// One step of a recurrence: its letter, and its index.
type Instant = Option<(char, usize)>;

/// The letters at one step, and the axis of the steps with their index.
fn at_step(letters: &[char], step: Instant) -> (Vec<char>, Option<(Dimension, usize)>) {
    let mut letters = letters.to_vec();
    let found = step.and_then(|(letter, k)| Some((letters.iter().position(|&l| l == letter)?, k)));
    if let Some((axis, _)) = found {
        letters.remove(axis);
    }
    (letters, found.map(|(axis, k)| (Dimension(axis), k)))
}

/// A case, compiled.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    /// Whether every number that is computed is rounded to `f32`.
    pub single: bool,
    arena: Vec<f64>,
    tensors: Arc<BTreeMap<String, (usize, Vec<usize>)>>,
    steps: Vec<Arc<Step>>,
    blocks: Vec<Block>,
}

/// The leaves of a group as places in the arena.
struct Addresses<'a> {
    graph: &'a Graph,
    group: usize,
    tensors: &'a BTreeMap<String, (usize, Vec<usize>)>,
    /// The values that are known before anything is computed.
    known: &'a BTreeMap<String, ArrayD<f64>>,
}

impl Addresses<'_> {
    fn of(&self, tensor: &str, view: View) -> Option<ArrayD<f64>> {
        if tensor == ALL {
            let parts = self.graph.concatenated.iter().map(|(tensor, view)| self.of(tensor, *view));
            let parts: Vec<ArrayD<f64>> = parts.collect::<Option<_>>()?;
            let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
            return ndarray::concatenate(Dimension(1), &views).ok();
        }
        let (base, shape) = self.tensors.get(tensor)?;
        let all = (*base..).take(shape.iter().product()).map(|place| place as f64).collect();
        Some(view.of(&ArrayD::from_shape_vec(IxDyn(shape), all).ok()?))
    }

    fn bound(&self, name: &str) -> (String, View) {
        let leaf = self.graph.groups[self.group].leaves.get(name);
        leaf.map_or((name.to_owned(), View::Whole), |leaf| (leaf.tensor.clone(), leaf.view))
    }

    fn places(&self, factor: &Factor) -> Option<Places> {
        let kept = Argument::KEPT;
        let plain =
            Factor { function: Function::Identity, rounding: Rounding::Exact, argument: kept, ..factor.clone() };
        let loaded = plain.load(self)?;
        Some(Places { letters: loaded.letters, at: whole(&loaded.values) })
    }
}

impl Leaves for Addresses<'_> {
    fn leaf(&self, name: &str) -> Option<ArrayD<f64>> {
        let (tensor, view) = self.bound(name);
        self.of(&tensor, view)
    }
    fn with_padding(&self, name: &str) -> Option<ArrayD<f64>> {
        let (tensor, view) = self.bound(name);
        self.of(&with_padding(&tensor), view).or_else(|| self.leaf(name))
    }
    fn index(&self, name: &str) -> Option<ArrayD<f64>> {
        let (tensor, view) = self.bound(name);
        Some(view.of(self.known.get(&tensor)?))
    }
    fn lengths(&self) -> &[usize] {
        &self.graph.lengths
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // places, and 0 for nothing
fn whole(x: &ArrayD<f64>) -> ArrayD<usize> {
    x.mapv(|x| x as usize)
}

impl Places {
    /// The places at one step.
    fn at(&self, step: Instant) -> (Vec<char>, ndarray::ArrayViewD<'_, usize>) {
        let (letters, axis) = at_step(&self.letters, step);
        (letters, axis.map_or_else(|| self.at.view(), |(axis, k)| self.at.index_axis(axis, k)))
    }
}

impl Operand {
    fn load(&self, arena: &[f64], step: Instant) -> Lettered {
        let (letters, at) = self.places.at(step);
        let exact = self.rounding == Rounding::Exact && self.argument == Argument::KEPT;
        let plain = self.function == Function::Identity && exact;
        let of = |&place: &usize| {
            let x = arena[place];
            if plain { x } else { self.rounding.round(self.function.at(self.argument.at(x))) }
        };
        Lettered { letters, values: at.map(of) }
    }
}

fn sliced(x: &Lettered, step: Instant) -> Lettered {
    let (letters, axis) = at_step(&x.letters, step);
    Lettered {
        letters,
        values: axis.map_or_else(|| x.values.clone(), |(axis, k)| x.values.index_axis(axis, k).to_owned()),
    }
}

impl Product {
    fn factors(&self, arena: &[f64], step: Instant) -> Vec<Lettered> {
        let operands = self.operands.iter().map(|operand| operand.load(arena, step));
        operands.chain(self.weights.iter().map(|weights| sliced(weights, step))).collect()
    }
}

impl Step {
    fn compile(relation: &Relation, weights: &Weights, tensor: &str, leaves: &Addresses<'_>) -> Option<Self> {
        let operand = |factor: &Factor| {
            let places = leaves.places(factor)?;
            let Factor { function, rounding, argument, .. } = *factor;
            Some(Operand { places, function, rounding, argument })
        };
        let mut products = Vec::new();
        for (place, term) in relation.terms.iter().enumerate() {
            let weights = weights.iter().filter(|(of, _)| *of == place).map(|(_, weights)| weights.clone());
            let operands = term.factors.iter().map(operand).collect::<Option<_>>()?;
            products.push(Product { coefficient: term.coefficient, operands, weights: weights.collect() });
        }
        let out = &relation.out;
        let index: Vec<&String> = out.through().map(|(name, _)| name).collect();
        let target = if index.iter().all(|name| leaves.index(name).is_some()) {
            let places = leaves.places(out)?;
            if index.is_empty() { Target::Places(places) } else { Target::Added(places) }
        } else {
            let of = |name: &&String| Some(((*name).clone(), whole(&leaves.leaf(name)?)));
            let index = index.iter().map(of).collect::<Option<_>>()?;
            let places = whole(&leaves.leaf(&out.leaf)?);
            Target::Computed(Box::new(Scattered { out: out.clone(), places, index }))
        };
        let letters = out.letters();
        let mut sizes = Sizes::of_indices(out, leaves)?;
        if let Target::Places(places) | Target::Added(places) = &target {
            sizes.see(&places.letters, places.at.shape())?;
        }
        for Operand { places, .. } in products.iter().flat_map(|product: &Product| &product.operands) {
            sizes.see(&places.letters, places.at.shape())?;
        }
        let sizes = letters.iter().map(|letter| sizes.0.get(letter).copied()).collect::<Option<_>>()?;
        Some(Self {
            tensor: tensor.into(),
            letters,
            sizes,
            out: target,
            products,
            function: relation.function,
            rounding: relation.rounding,
            argmax: relation.argmax,
            elsewhere: None,
        })
    }

    /// Letters and sizes of the left side at one step.
    fn extent(&self, step: Instant) -> (Vec<char>, Vec<usize>) {
        let all = self.letters.iter().copied().zip(self.sizes.iter().copied());
        all.filter(|(letter, _)| step.is_none_or(|(fixed, _)| fixed != *letter)).unzip()
    }

    /// The sum of the terms.
    fn sum(&self, arena: &[f64], step: Instant) -> Option<Vec<f64>> {
        let (letters, sizes) = self.extent(step);
        let mut sum = vec![0.0; sizes.iter().product()];
        for product in &self.products {
            contract(&letters, &sizes, product.coefficient, &product.factors(arena, step), &mut sum)?;
        }
        Some(sum)
    }

    /// The values of the left side.
    fn values(&self, arena: &[f64], step: Instant) -> Option<ArrayD<f64>> {
        let (letters, sizes) = self.extent(step);
        let values = if self.argmax {
            let product = self.products.first()?;
            let mut factors: Vec<Lettered> = product.operands.iter().map(|operand| operand.load(arena, step)).collect();
            // Of what has no mask, the positive ones count.
            if let ([x], false) = (&factors[..], product.weights.is_empty()) {
                factors.insert(0, x.clone());
            }
            factors.splice(0..0, product.weights.iter().map(|weights| sliced(weights, step)));
            largest(&letters, &factors)?
        } else {
            let round = |x: f64| if self.rounding == Rounding::Exact { x } else { self.rounding.round(x) };
            let sum = self.sum(arena, step)?;
            let values = sum.into_iter().map(|x| round(self.function.at(x))).collect();
            ArrayD::from_shape_vec(IxDyn(&sizes), values).ok()?
        };
        let Some((other, holds)) = &self.elsewhere else { return Some(values) };
        let (other, holds) = (other.values(arena, step)?, self.holds(holds, step)?);
        let both = values.iter().zip(&other).zip(holds);
        let values = both.map(|((&here, &there), holds)| if holds { here } else { there }).collect();
        ArrayD::from_shape_vec(IxDyn(&sizes), values).ok()
    }

    /// At which elements of the left side this relation holds.
    fn holds(&self, holds: &Lettered, step: Instant) -> Option<Vec<bool>> {
        let (letters, sizes) = self.extent(step);
        let mut mask = vec![0.0; sizes.iter().product()];
        contract(&letters, &sizes, 1.0, &[sliced(holds, step)], &mut mask)?;
        Some(mask.into_iter().map(|x| x > 0.0).collect())
    }

    fn store(&self, arena: &mut [f64], step: Instant, single: bool) -> Option<()> {
        let mut values = self.values(arena, step)?;
        if single {
            #[allow(clippy::cast_possible_truncation)] // rounding is what is wanted
            values.mapv_inplace(|x| f64::from(x as f32));
        }
        match &self.out {
            Target::Places(places) => {
                places.at(step).1.iter().zip(&values).for_each(|(&place, &x)| arena[place] = x);
            }
            Target::Added(places) => {
                places.at(step).1.iter().zip(&values).for_each(|(&place, &x)| arena[place] += x);
                arena[0] = 0.0;
            }
            Target::Computed(computed) => {
                let all = computed.tensor(&values, arena)?;
                computed.places.iter().zip(&all).for_each(|(&place, &x)| arena[place] = x);
            }
        }
        Some(())
    }

    /// Adds what this relation passes on from the gradient of its left side to those of its leaves.
    fn back(&self, arena: &[f64], gradient: &mut [f64], step: Instant) -> Option<()> {
        let (Target::Places(places) | Target::Added(places)) = &self.out else { return Some(()) };
        let d: Vec<f64> = places.at(step).1.iter().map(|&place| gradient[place]).collect();
        let Some((other, holds)) = &self.elsewhere else { return self.pass(&d, arena, gradient, step) };
        let holds = self.holds(holds, step)?;
        let part = |here: bool| -> Vec<f64> {
            d.iter().zip(&holds).map(|(&d, &holds)| if holds == here { d } else { 0.0 }).collect()
        };
        self.pass(&part(true), arena, gradient, step)?;
        other.pass(&part(false), arena, gradient, step)
    }

    fn pass(&self, d: &[f64], arena: &[f64], gradient: &mut [f64], step: Instant) -> Option<()> {
        if self.argmax {
            return Some(());
        }
        let (letters, sizes) = self.extent(step);
        let mut d = d.to_vec();
        if self.function != Function::Identity {
            let sum = self.sum(arena, step)?;
            d.iter_mut().zip(sum).for_each(|(d, x)| *d *= self.function.slope(x));
        }
        let d = Lettered { letters, values: ArrayD::from_shape_vec(IxDyn(&sizes), d).ok()? };
        for product in &self.products {
            let factors = product.factors(arena, step);
            for (k, operand) in product.operands.iter().enumerate() {
                let mut others = factors.clone();
                others[k] = d.clone();
                let own = &factors[k];
                let mut sum = vec![0.0; own.values.len()];
                contract(&own.letters, own.values.shape(), product.coefficient, &others, &mut sum)?;
                for (&place, sum) in operand.places.at(step).1.iter().zip(sum) {
                    gradient[place] += sum * operand.function.slope(arena[place]);
                }
            }
        }
        Some(())
    }
}

/// One size for each letter.
struct Sizes(BTreeMap<char, usize>);

impl Sizes {
    /// Those of the letters of indices on a left side.
    fn of_indices(out: &Factor, leaves: &Addresses<'_>) -> Option<Self> {
        let mut sizes = Self(BTreeMap::new());
        out.through().try_for_each(|(name, letters)| sizes.see(letters, leaves.leaf(name)?.shape()))?;
        Some(sizes)
    }

    /// None if a letter has another size.
    fn see(&mut self, letters: &[char], shape: &[usize]) -> Option<()> {
        letters.iter().zip(shape).all(|(&letter, &size)| *self.0.entry(letter).or_insert(size) == size).then_some(())
    }

    /// The shape of a left side that is no tensor of the case, from the leaves that are known.
    fn shape(relation: &Relation, leaves: &Addresses<'_>) -> Option<Vec<usize>> {
        let mut sizes = Self::of_indices(&relation.out, leaves)?;
        for factor in relation.terms.iter().flat_map(|term| &term.factors) {
            if let Some(places) = leaves.places(factor) {
                sizes.see(&places.letters, places.at.shape())?;
            }
        }
        relation.out.axes.iter().map(|axis| sizes.0.get(&axis.letter).copied()).collect()
    }
}

/// Equations that depend on themselves are computed together, over the letter of their steps.
fn blocks(graph: &Graph, steps: &[Arc<Step>]) -> Vec<Block> {
    let tensor_of = |equation: &Equation, leaf: &str| graph.groups[equation.group].leaves[leaf].tensor.clone();
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    graph.equations.iter().enumerate().for_each(|(place, equation)| {
        last.insert(&equation.tensor, place);
    });
    let mut blocks: Vec<Block> = Vec::new();
    let mut begin = 0;
    while begin < steps.len() {
        let (mut end, mut over, mut place) = (begin + 1, None, begin);
        while place < end {
            let equation = &graph.equations[place];
            for factor in equation.relation.terms.iter().flat_map(|term| &term.factors) {
                let shift = factor.axes.iter().find_map(|axis| match axis.at {
                    At::Shift(by) if by != 0 && matches!(axis.letter, 't' | 'u') => Some((axis.letter, by > 0)),
                    _ => None,
                });
                let maker = last.get(tensor_of(equation, &factor.leaf).as_str()).copied();
                if let Some(maker) = maker.filter(|&maker| maker >= place) {
                    end = end.max(maker + 1);
                    over = over.or(shift);
                }
            }
            place += 1;
        }
        let over = over.and_then(|(letter, down)| {
            let size = |step: &Arc<Step>| step.letters.iter().position(|&l| l == letter).map(|axis| step.sizes[axis]);
            Some((letter, steps[begin..end].iter().find_map(size)?, down))
        });
        blocks.push(Block { equations: begin..end, over });
        begin = end;
    }
    blocks
}

impl Compiled {
    /// The relations of a graph; `shapes` are those of the tensors of the case, `known` the values that are given.
    pub(super) fn new(
        graph: &Graph,
        shapes: &BTreeMap<String, Vec<usize>>,
        known: &BTreeMap<String, ArrayD<f64>>,
    ) -> Result<Self, usize> {
        let mut out = Self {
            single: false,
            // What lies outside a tensor, and an initial state of ones.
            arena: vec![0.0, 1.0],
            tensors: Arc::default(),
            steps: Vec::new(),
            blocks: Vec::new(),
        };
        for (name, x) in known {
            Arc::make_mut(&mut out.tensors).insert(name.clone(), (out.arena.len(), x.shape().to_vec()));
            out.arena.extend(x.iter());
        }
        for (name, shape) in shapes.iter().chain(&graph.shapes) {
            out.allocate(name, shape);
        }
        out.compile(graph, &vec![None; graph.equations.len()], known)?;
        Ok(out)
    }

    /// The same for a graph with changes. For each of its equations, `same_here` has the place of the same one in this
    /// graph, if there is one.
    pub(super) fn with(
        &self,
        graph: &Graph,
        same_here: &[Option<usize>],
        known: &BTreeMap<String, ArrayD<f64>>,
    ) -> Result<Self, usize> {
        let mut out = self.clone();
        out.compile(graph, same_here, known)?;
        Ok(out)
    }

    fn compile(
        &mut self,
        graph: &Graph,
        same_here: &[Option<usize>],
        known: &BTreeMap<String, ArrayD<f64>>,
    ) -> Result<(), usize> {
        for Equation { group, relation, tensor, .. } in &graph.equations {
            if !self.tensors.contains_key(tensor) {
                let leaves = Addresses { graph, group: *group, tensors: &self.tensors, known };
                let shape = Sizes::shape(relation, &leaves).ok_or(*group)?;
                self.allocate(tensor, &shape);
            }
        }
        let here = std::mem::take(&mut self.steps);
        for (Equation { group, relation, tensor, .. }, same) in graph.equations.iter().zip(same_here) {
            let leaves = Addresses { graph, group: *group, tensors: &self.tensors, known };
            let step = || Step::compile(relation, &Weights::new(), tensor, &leaves).map(Arc::new).ok_or(*group);
            self.steps.push(same.map_or_else(step, |place| Ok(here[place].clone()))?);
        }
        self.blocks = blocks(graph, &self.steps);
        Ok(())
    }

    fn allocate(&mut self, name: &str, shape: &[usize]) {
        if !self.tensors.contains_key(name) {
            Arc::make_mut(&mut self.tensors).insert(name.into(), (self.arena.len(), shape.to_vec()));
            self.arena.resize(self.arena.len() + shape.iter().product::<usize>(), 0.0);
        }
    }

    /// What an equation gives with another relation in some places of `changed`, where the equations in `way`, which
    /// lead to it, are computed again.
    pub(super) fn otherwise(
        &self,
        graph: &Graph,
        known: &BTreeMap<String, ArrayD<f64>>,
        place: usize,
        way: &[usize],
        changed: &[usize],
        other: &Other<'_>,
    ) -> Option<ArrayD<f64>> {
        if way.is_empty() {
            return self.result(&*self.step(graph, known, place, other)?);
        }
        let mut out = self.clone();
        for &place in changed {
            out.change(graph, known, place, other)?;
        }
        out.run(0..out.steps.len(), &|_, equation| way.binary_search(&equation).is_ok())?;
        out.right(place)
    }

    /// Puts another relation in the place of that of an equation.
    pub(super) fn change(
        &mut self,
        graph: &Graph,
        known: &BTreeMap<String, ArrayD<f64>>,
        place: usize,
        other: &Other<'_>,
    ) -> Option<()> {
        self.steps[place] = self.step(graph, known, place, other)?;
        Some(())
    }

    fn step(
        &self,
        graph: &Graph,
        known: &BTreeMap<String, ArrayD<f64>>,
        place: usize,
        other: &Other<'_>,
    ) -> Option<Arc<Step>> {
        let Equation { group, tensor, family, .. } = &graph.equations[place];
        let leaves = Addresses { graph, group: *group, tensors: &self.tensors, known };
        if let Some((_, relation)) = other.also.iter().find(|(of, _)| of == family) {
            return Step::compile(relation, &Weights::new(), tensor, &leaves).map(Arc::new);
        }
        let mut step = Step::compile(other.relation, &other.weights, tensor, &leaves)?;
        if let Some(only) = &other.only {
            step.elsewhere = Some((self.steps[place].clone(), only.clone()));
        }
        Some(Arc::new(step))
    }

    /// How many numbers it has.
    pub(super) fn numbers(&self) -> usize {
        self.arena.len()
    }

    /// The sizes of the letters of a left side.
    pub(super) fn sizes(&self, place: usize) -> &[usize] {
        &self.steps[place].sizes
    }

    /// Computes those of the equations in `which` that are wanted by their tensor and place.
    pub(super) fn run(&mut self, which: Range<usize>, wanted: &dyn Fn(&str, usize) -> bool) -> Option<()> {
        let Self { single, arena, steps, blocks, tensors } = self;
        let is_wanted = |place: usize, step: &Step| wanted(&step.tensor, place);
        for place in which.clone() {
            let step = &steps[place];
            if matches!(step.out, Target::Added(_)) && is_wanted(place, step) {
                let (base, shape) = &tensors[&step.tensor];
                arena[*base..base + shape.iter().product::<usize>()].fill(0.0);
            }
        }
        for block in blocks.iter().filter(|block| which.contains(&block.equations.start)) {
            for at in block.at(false) {
                for place in block.equations.clone().filter(|&place| is_wanted(place, &steps[place])) {
                    steps[place].store(arena, at, *single)?;
                }
            }
        }
        Some(())
    }

    /// The derivative by every number of the arena, from those by some tensors.
    pub(super) fn back(&self, which: Range<usize>, seeds: &[(String, ArrayD<f64>)]) -> Option<Vec<f64>> {
        let mut gradient = vec![0.0; self.arena.len()];
        for (tensor, d) in seeds {
            let (base, _) = self.tensors.get(tensor)?;
            gradient[*base..].iter_mut().zip(d).for_each(|(into, &d)| *into += d);
        }
        for block in self.blocks.iter().rev().filter(|block| which.contains(&block.equations.start)) {
            for at in block.at(true) {
                for step in self.steps[block.equations.clone()].iter().rev() {
                    step.back(&self.arena, &mut gradient, at)?;
                }
            }
        }
        Some(gradient)
    }

    /// What an equation gives on the numbers of the arena.
    pub(super) fn right(&self, place: usize) -> Option<ArrayD<f64>> {
        self.result(&self.steps[place])
    }

    fn result(&self, step: &Step) -> Option<ArrayD<f64>> {
        let values = step.values(&self.arena, None)?;
        match &step.out {
            Target::Places(_) => Some(values),
            Target::Added(places) => {
                let (base, shape) = &self.tensors[&step.tensor];
                let mut all: ArrayD<f64> = ArrayD::zeros(IxDyn(shape));
                let flat = all.as_slice_mut()?;
                for (&place, &x) in places.at.iter().zip(&values) {
                    if let Some(into) = place.checked_sub(*base).and_then(|place| flat.get_mut(place)) {
                        *into += x;
                    }
                }
                Some(all)
            }
            Target::Computed(computed) => computed.tensor(&values, &self.arena),
        }
    }

    /// The values of a tensor, in the arena or in an array of derivatives.
    pub(super) fn tensor(&self, name: &str, numbers: Option<&[f64]>) -> Option<ArrayD<f64>> {
        let (base, shape) = self.tensors.get(name)?;
        let numbers = numbers.unwrap_or(&self.arena).get(*base..base + shape.iter().product::<usize>())?;
        ArrayD::from_shape_vec(IxDyn(shape), numbers.to_vec()).ok()
    }

    /// Gives a tensor other values.
    pub(super) fn set(&mut self, name: &str, x: &ArrayD<f64>) {
        if let Some((base, _)) = self.tensors.get(name) {
            self.arena[*base..].iter_mut().zip(x).for_each(|(into, &x)| *into = x);
        }
    }
}

impl Block {
    /// The steps, in their order or from the last to the first.
    fn at(&self, backward: bool) -> Vec<Instant> {
        let Some((letter, size, down)) = self.over else { return vec![None] };
        let mut all: Vec<Instant> = (0..size).map(|k| Some((letter, k))).collect();
        if down != backward {
            all.reverse();
        }
        all
    }
}
