//! What a backend with a change gives.

use ndarray::{ArrayD, Dimension as _, IxDyn};

use super::edits::{Along, Edit, Only, Operation, Power, Summands, Weight, Whole};
use super::elsewhere::{Order, units};
use super::evaluate::{Leaves, Lettered, Weights, contract};
use super::graph::Equation;
use super::language::{At, Axis, Factor, Function, Initial, Relation};
use super::simulate::Other;
use super::values::Case;

/// A sum is not rounded on the way if it has more summands than this, those of all elements together.
const MOST: usize = 1 << 22;

impl Edit {
    /// What a backend with this change gives at an equation.
    pub(super) fn values(&self, case: &Case<'_>, place: usize) -> Option<ArrayD<f64>> {
        let equation = &case.graph.equations[place];
        if self.whole == Whole::Kept {
            return case.otherwise(place, &self.other(case, place)?);
        }
        if equation.family != self.family {
            return None;
        }
        self.of_result(case, place, &case.right(place)?)
    }

    /// The change as relations, at an equation.
    fn other(&self, case: &Case<'_>, place: usize) -> Option<Other<'_>> {
        let mut weights = Weights::new();
        if !self.weights.is_empty() {
            let group = case.graph.equations[place].group;
            let origin = case.graph.equations.iter().position(|e| e.family == self.family && e.group == group);
            for weight in &self.weights {
                weights.push((weight.term, weight_of(case, origin.unwrap_or(place), weight)?));
            }
        }
        Some(Other {
            family: &self.family,
            relation: &self.relation,
            weights,
            only: self.only.and_then(|only| where_it_holds(case, place, &self.family, only)),
            also: &self.also,
            again: self.again,
        })
    }

    /// Whether it is a change of unwritten tensors alone.
    pub(super) fn is_of_unwritten(&self, own: &str) -> bool {
        self.whole == Whole::Kept && !self.again && self.family != own
    }

    /// The unwritten tensors that it changes are computed with it from here on.
    pub(super) fn take(&self, case: &mut Case<'_>) {
        let shared: &Case<'_> = case;
        let families = shared.graph.equations.iter().enumerate();
        let mut changes: Vec<(usize, Other<'_>)> = Vec::new();
        for (place, equation) in families {
            if self.family == equation.family || self.also.iter().any(|(family, _)| *family == equation.family) {
                changes.extend(self.other(shared, place).map(|other| (place, other)));
            }
        }
        case.take(&changes);
    }

    /// The same of a change of the result.
    fn of_result(&self, case: &Case<'_>, place: usize, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
        let equation = &case.graph.equations[place];
        let axes: Vec<Axis> =
            equation.relation.out.axes.iter().map(|axis| Axis { letter: axis.letter, at: At::Shift(0) }).collect();
        let as_leaf = |axes: Vec<Axis>, order: [usize; 3]| {
            let factor = Factor {
                function: Function::Identity,
                leaf: "result".into(),
                block: None,
                axes,
                initial: Initial::Zero,
                order,
                ..self.relation.out.clone()
            };
            factor.load(&Result { values: right, lengths: &case.graph.lengths }).map(|loaded| loaded.values)
        };
        match &self.whole {
            Whole::Kept => None,
            Whole::Constant(value) => Some(ArrayD::from_elem(right.raw_dim(), *value)),
            Whole::Stored(_) | Whole::Times(..) => Some(right.clone()),
            Whole::Between(low, high) => Some(right.mapv(|x| x.max(*low).min(*high))),
            Whole::Scaled(letter, power) => {
                let size = case.size_of(place, *letter)? as f64;
                let factor = match power {
                    Power::Times => size,
                    Power::Over => 1.0 / size,
                    Power::TimesRoot => size.sqrt(),
                    Power::OverRoot => 1.0 / size.sqrt(),
                };
                Some(right.mapv(|x| x * factor))
            }
            Whole::Moved(letter, at) => {
                let mut moved = axes.clone();
                let place = moved.iter().position(|axis| axis.letter == *letter)?;
                moved[place].at = at.clone();
                let values = as_leaf(moved, [0, 1, 2])?;
                if values.ndim() == right.ndim() {
                    return Some(values);
                }
                // One place for all: the letter is gone.
                let wide = values.insert_axis(ndarray::Axis(place));
                wide.broadcast(right.raw_dim()).map(|x| x.to_owned())
            }
            Whole::OfToken(token) => {
                let mut moved = axes.clone();
                let tokens = moved.iter_mut().filter(|axis| matches!(axis.letter, 'b' | 't'));
                tokens.for_each(|axis| axis.at = At::Token(*token));
                as_leaf(moved, [0, 1, 2])
            }
            Whole::Normalised => scaled_rows(right, |norm| 1.0 / norm),
            Whole::AtMostNorm(most) => scaled_rows(right, |norm| (most / norm).min(1.0)),
            Whole::PerPart(n) => {
                let of = |part: &[f64]| self.relation.function.at(part.iter().sum());
                summed(case, place, &self.relation, &|all| all.chunks(*n).map(of).sum(), Function::Identity)
            }
            Whole::PerHalf => {
                let of = |part: &[f64]| self.relation.function.at(part.iter().sum());
                let halves = |all: &[f64]| of(&all[..all.len() / 2]) + of(&all[all.len() / 2..]);
                summed(case, place, &self.relation, &halves, Function::Identity)
            }
            Whole::UpTo(along, n) => up_to(case, &equation.relation.out.letters(), *along, *n, right),
            Whole::With(operation, leaf) => {
                let other = case.with_leaves(place, |leaves| leaf.load(leaves))?.values;
                let both = |x: &mut f64, &y: &f64| match operation {
                    Operation::Times => *x *= y,
                    Operation::Plus => *x += y,
                    Operation::Minus => *x -= y,
                };
                let mut values = right.clone();
                (other.shape() == right.shape()).then(|| values.zip_mut_with(&other, both))?;
                Some(values)
            }
            Whole::MaskedAfterwards(negatives) => masked_afterwards(case, place, &self.relation, *negatives),
            Whole::Interleaved => interleaved(case, equation, right),
            Whole::Modulo(n) => Some(right.mapv(|x| if x < 0.0 { x } else { x % *n as f64 })),
            Whole::SignedByte => Some(right.mapv(|x| (x + 128.0).rem_euclid(256.0) - 128.0)),
            Whole::NegatedSignedByte => Some(right.mapv(|x| 128.0 - (128.0 - x).rem_euclid(256.0))),
            Whole::Accumulated(format, n) => {
                let sum =
                    |all: &[f64]| all.chunks(*n).fold(0.0, |sum, part| format.round(sum + part.iter().sum::<f64>()));
                summed(case, place, &self.relation, &sum, self.relation.function)
            }
            Whole::Partial(format, n) => {
                let sum = |all: &[f64]| all.chunks(*n).map(|part| format.round(part.iter().sum::<f64>())).sum();
                summed(case, place, &self.relation, &sum, self.relation.function)
            }
            Whole::Transposed => {
                let [rows, columns] = *right.shape() else { return None };
                (rows == columns).then(|| right.t().to_owned())
            }
            Whole::Blocks(order) => {
                if right.ndim() == 3 {
                    let hidden = right.shape()[2] / 3;
                    return Some(ArrayD::from_shape_fn(right.raw_dim(), |at| {
                        right[IxDyn(&[at[0], at[1], order[at[2] / hidden] * hidden + at[2] % hidden])]
                    }));
                }
                as_leaf(axes, *order)
            }
            Whole::OfLayer(layer) => {
                let layers = case.settings.num_layers;
                let part = layer.of(case.graph.groups[equation.group].part.parse().ok()?, layers).to_string();
                let same = |other: &Equation| {
                    let group = &case.graph.groups[other.group];
                    group.kind == "gru" && group.part == part && other.relation.out == equation.relation.out
                };
                case.right(case.graph.equations.iter().position(same)?).filter(|x| x.shape() == right.shape())
            }
            Whole::Pooled(letter, n, mean) => {
                let axis = equation.relation.out.letters().iter().position(|l| l == letter)?;
                let mut pooled = right.clone();
                for mut lane in pooled.lanes_mut(ndarray::Axis(axis)) {
                    let size = lane.len();
                    for begin in (0..size).step_by(*n) {
                        let group = begin..begin.saturating_add(*n).min(size);
                        let sum: f64 = group.clone().map(|k| lane[k]).sum();
                        let value = if *mean { sum / group.len() as f64 } else { sum };
                        group.for_each(|k| lane[k] = value);
                    }
                }
                Some(pooled)
            }
            Whole::OverNorms => over_norms(case, place, &equation.relation, right),
            Whole::PerActive => {
                let count = |name: &str| Some(case.leaf(place, name)?.iter().filter(|x| **x > 0.0).count());
                let pairs = (count("active_s")? + count("active_im")?).max(1) as f64;
                Some(right.mapv(|x| x / pairs))
            }
            Whole::Larger(one, other) => {
                let larger = |terms: &mut Vec<ArrayD<f64>>| {
                    let two = terms.remove(*other);
                    terms[*one].zip_mut_with(&two, |x, &y| *x = x.max(y));
                };
                of_terms(case, place, &self.relation, &larger)
            }
            Whole::LastForNone => {
                let axes = &equation.relation.out.axes;
                let along = axes.iter().position(|axis| matches!(axis.at, At::Through(..)))?;
                let index = case.leaf(place, equation.relation.out.through().next()?.0)?;
                let mut values = right.clone();
                for (mut lane, index) in values.lanes_mut(ndarray::Axis(along)).into_iter().zip(&index) {
                    if let (true, Some(last)) = (*index < 0.0, lane.len().checked_sub(1)) {
                        lane[last] = 1.0;
                    }
                }
                Some(values)
            }
            Whole::TermsThrough(function) => {
                let relation = &self.relation;
                let through = |terms: &mut Vec<ArrayD<f64>>| {
                    for (x, term) in terms.iter_mut().zip(&relation.terms) {
                        let sign = term.coefficient.signum();
                        if !relation.summed(term).is_empty() {
                            x.mapv_inplace(|x| sign * function.at(sign * x));
                        }
                    }
                };
                of_terms(case, place, relation, &through)
            }
        }
    }
}

/// A result as a leaf.
struct Result<'a> {
    values: &'a ArrayD<f64>,
    lengths: &'a [usize],
}

impl Leaves for Result<'_> {
    fn leaf(&self, name: &str) -> Option<ArrayD<f64>> {
        (name == "result").then(|| self.values.clone())
    }
    fn with_padding(&self, name: &str) -> Option<ArrayD<f64>> {
        self.leaf(name)
    }
    fn lengths(&self) -> &[usize] {
        self.lengths
    }
}

/// Each row times a function of its L2 norm.
fn scaled_rows(x: &ArrayD<f64>, scale: impl Fn(f64) -> f64) -> Option<ArrayD<f64>> {
    let mut rows = x.clone();
    for mut row in rows.lanes_mut(ndarray::Axis(x.ndim().checked_sub(1)?)) {
        let scale = scale(row.iter().map(|x| x * x).sum::<f64>().sqrt());
        row.mapv_inplace(|x| x * scale);
    }
    Some(rows)
}

/// A function of the sum of the terms, after something is done to them.
fn of_terms(
    case: &Case<'_>,
    place: usize,
    relation: &Relation,
    change: &dyn Fn(&mut Vec<ArrayD<f64>>),
) -> Option<ArrayD<f64>> {
    let (letters, sizes) = (relation.out.letters(), case.sizes(place)?);
    let term = |k: usize| case.with_leaves(place, |leaves| relation.term_values(leaves, &letters, &sizes, k));
    let mut terms: Vec<ArrayD<f64>> = (0..relation.terms.len()).map(term).collect::<Option<_>>()?;
    change(&mut terms);
    let sum = terms.into_iter().reduce(|sum, term| sum + term)?;
    Some(sum.mapv(|x| relation.function.at(x)))
}

/// A product divided by the norms of what its factors are at the summands.
fn over_norms(case: &Case<'_>, place: usize, relation: &Relation, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let (letters, sizes) = (relation.out.letters(), case.sizes(place)?);
    let mut factors = vec![Lettered { letters: letters.clone(), values: right.clone() }];
    for factor in &relation.terms.first()?.factors {
        let x = case.with_leaves(place, |leaves| factor.load(leaves))?;
        let own: Vec<char> = x.letters.iter().copied().filter(|letter| letters.contains(letter)).collect();
        let widths: Vec<usize> = own.iter().map(|&letter| case.size_of(place, letter)).collect::<Option<_>>()?;
        let mut squares = vec![0.0; widths.iter().product()];
        contract(&own, &widths, 1.0, &[x.clone(), x], &mut squares)?;
        let norms = squares.into_iter().map(|x| 1.0 / x.sqrt()).collect();
        factors.push(Lettered { letters: own, values: ArrayD::from_shape_vec(IxDyn(&widths), norms).ok()? });
    }
    let mut product = vec![0.0; right.len()];
    contract(&letters, &sizes, 1.0, &factors, &mut product)?;
    ArrayD::from_shape_vec(right.raw_dim(), product).ok()
}

/// The place of the largest score, of all or of the negatives alone, or −1 where that pair has no cost.
fn masked_afterwards(case: &Case<'_>, place: usize, relation: &Relation, negatives: bool) -> Option<ArrayD<f64>> {
    let leaf = |name: &str| case.leaf(place, name);
    let cost = leaf(&relation.terms.first()?.factors.last()?.leaf)?;
    let (scores, wrong) = (leaf("s")?, leaf("wrong")?);
    let along = ndarray::Axis(usize::from(relation.out.letters() == ['i']));
    let lanes = ndarray::Zip::from(scores.lanes(along)).and(wrong.lanes(along)).and(cost.lanes(along));
    Some(lanes.map_collect(|scores, wrong, cost| {
        let counts = |k: &usize| !negatives || wrong[*k] > 0.0;
        // The first of equal ones.
        let larger = |best: usize, k: usize| if scores[k] > scores[best] { k } else { best };
        let best = (0..scores.len()).filter(counts).reduce(larger);
        best.filter(|&k| cost[k] > 0.0).map_or(-1.0, |k| k as f64)
    }))
}

/// A block of a tensor whose three blocks are written unit by unit.
fn interleaved(case: &Case<'_>, equation: &Equation, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let out = &equation.relation.out;
    let block = |block: usize| {
        let same = |other: &Equation| {
            let its = &other.relation.out;
            other.group == equation.group && its.leaf == out.leaf && its.block == Some(block)
        };
        case.right(case.graph.equations.iter().position(same)?)
    };
    let blocks: Vec<ArrayD<f64>> = (0..3).map(block).collect::<Option<_>>()?;
    let (own, hidden) = (out.block?, *right.shape().last()?);
    Some(ArrayD::from_shape_fn(right.raw_dim(), |at| {
        let mut at = at.slice().to_vec();
        let flat = own * hidden + at[at.len() - 1];
        *at.last_mut().expect("a unit") = flat / 3;
        blocks[flat % 3][IxDyn(&at)]
    }))
}

/// The result of a relation if the first of its sums is computed in some way from the summands of each element, and then
/// a function.
fn summed(
    case: &Case<'_>,
    place: usize,
    relation: &Relation,
    sum: &dyn Fn(&[f64]) -> f64,
    function: Function,
) -> Option<ArrayD<f64>> {
    let (letters, sizes) = (relation.out.letters(), case.sizes(place)?);
    let first = relation.terms.iter().position(|term| !relation.summed(term).is_empty())?;
    let (mut all_letters, mut all_sizes) = (letters.clone(), sizes.clone());
    for letter in relation.summed(&relation.terms[first]) {
        all_letters.push(letter);
        all_sizes.push(case.size_of(place, letter)?);
    }
    if relation.out.through().next().is_some() || all_sizes.iter().product::<usize>() > MOST {
        return None;
    }
    case.with_leaves(place, |leaves| {
        let summands = relation.term_values(leaves, &all_letters, &all_sizes, first)?;
        let summands: Vec<f64> = summands.into_iter().collect();
        let width = summands.len() / sizes.iter().product::<usize>().max(1);
        let sums = summands.chunks(width.max(1)).map(sum);
        let mut total = ArrayD::from_shape_vec(IxDyn(&sizes), sums.collect()).ok()?;
        for other in (0..relation.terms.len()).filter(|&other| other != first) {
            total += &relation.term_values(leaves, &letters, &sizes, other)?;
        }
        Some(total.mapv(|x| function.at(x)))
    })
}

/// Each result with those of the places n, 2n, … before it added.
fn up_to(case: &Case<'_>, letters: &[char], along: Along, n: usize, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let axis = |letter: char| letters.iter().position(|&l| l == letter);
    let mut sums = right.clone();
    match along {
        Along::Letter(letter) => {
            for mut lane in sums.lanes_mut(ndarray::Axis(axis(letter)?)) {
                (n..lane.len()).for_each(|k| lane[k] += lane[k - n]);
            }
        }
        Along::Tokens(order) => {
            let (b, t) = (axis('b')?, axis('t')?);
            let numbers = order.numbers(&case.graph.lengths, case.graph.steps);
            // In the order of the numbers: of those of one step alone, if they are counted there.
            let mut all: Vec<(usize, usize)> = ndarray::indices_of(&numbers).into_iter().collect();
            all.sort_by_key(|&at| numbers[at]);
            let earlier = |(row, step): (usize, usize)| {
                let wanted = numbers[(row, step)]?.0.checked_sub(n)?;
                all.iter().copied().find(|&at| {
                    numbers[at].map(|(number, _)| number) == Some(wanted) && (order != Order::Running || at.1 == step)
                })
            };
            for &(row, step) in &all {
                let Some((from_row, from_step)) = earlier((row, step)) else { continue };
                let before = sums.index_axis(ndarray::Axis(b.max(t)), if b > t { from_row } else { from_step });
                let before =
                    before.index_axis(ndarray::Axis(b.min(t)), if b > t { from_step } else { from_row }).to_owned();
                let mut into = sums.index_axis_mut(ndarray::Axis(b.max(t)), if b > t { row } else { step });
                let mut into = into.index_axis_mut(ndarray::Axis(b.min(t)), if b > t { step } else { row });
                into += &before;
            }
        }
    }
    Some(sums)
}

/// 1 where a change of a family holds.
fn where_it_holds(case: &Case<'_>, place: usize, family: &str, only: Only) -> Option<Lettered> {
    let of_family = |&at: &usize| case.graph.equations[at].family == family;
    let place = *case.unwritten_before(place).iter().chain([&place]).find(|at| of_family(at))?;
    let letter = if let Only::Index(letter, _) = only { letter } else { 'j' };
    let letters = case.graph.equations[place].relation.out.letters();
    let size = *case.sizes(place)?.get(letters.iter().position(|&l| l == letter)?)?;
    let holds = |k: usize| match only {
        Only::Block(block) => k / (size / 3).max(1) == block,
        Only::Index(_, test) => test.holds(k, size),
    };
    let values = (0..size).map(|k| f64::from(u8::from(holds(k)))).collect();
    Some(Lettered { letters: vec![letter], values: ArrayD::from_shape_vec(IxDyn(&[size]), values).ok()? })
}

/// The weight of each summand.
fn weight_of(case: &Case<'_>, place: usize, weight: &Weight) -> Option<Lettered> {
    let Weight { ref summands, inside, outside, .. } = *weight;
    let either = |holds: bool| if holds { inside } else { outside };
    match *summands {
        Summands::Less(ref factor, bound) => {
            let mut loaded = case.with_leaves(place, |leaves| factor.load(leaves))?;
            loaded.values.mapv_inplace(|x| either(x < bound));
            Some(loaded)
        }
        Summands::Index(letter, test) => {
            let size = case.size_of(place, letter)?;
            let values = (0..size).map(|index| either(test.holds(index, size))).collect();
            Some(Lettered { letters: vec![letter], values: ArrayD::from_shape_vec(IxDyn(&[size]), values).ok()? })
        }
        Summands::Pair(letter, own, pair) => {
            let (size, others) = (case.size_of(place, letter)?, case.size_of(place, own)?);
            let units = units(own, others, size);
            let values = ArrayD::from_shape_fn(IxDyn(&[size, others]), |at| {
                either(pair.holds((at[0], size), (at[1] % units, units)))
            });
            Some(Lettered { letters: vec![letter, own], values })
        }
        Summands::PerPart(letter, n) => {
            let times = case.size_of(place, letter)?.div_ceil(n);
            Some(Lettered { letters: Vec::new(), values: ArrayD::from_elem(IxDyn(&[]), times as f64) })
        }
        Summands::PaddedWithLast(letter, n) | Summands::PaddedWithFirst(letter, n) => {
            let size = case.size_of(place, letter)?;
            let more = size.next_multiple_of(n) - size;
            let mut values = ArrayD::ones(IxDyn(&[size]));
            for k in 0..more {
                values[if matches!(summands, Summands::PaddedWithLast(..)) { size - 1 } else { k % size }] += 1.0;
            }
            Some(Lettered { letters: vec![letter], values })
        }
        Summands::Beyond(letter, other) => {
            let (size, other) = (case.size_of(place, letter)?, case.size_of(place, other)?);
            let values = (0..size).map(|index| either(index >= other)).collect();
            Some(Lettered { letters: vec![letter], values: ArrayD::from_shape_vec(IxDyn(&[size]), values).ok()? })
        }
        Summands::Shared(letter, another, _) | Summands::UpTo(letter, another) => {
            let size = case.size_of(place, letter)?;
            let counts = |at: &IxDyn| match summands {
                Summands::Shared(_, _, n) => at[0] / n == at[1] / n,
                _ => at[1] <= at[0],
            };
            let values = ArrayD::from_shape_fn(IxDyn(&[size, size]), |at| f64::from(u8::from(counts(&at))));
            Some(Lettered { letters: vec![letter, another], values })
        }
        Summands::Vectors | Summands::Matrices | Summands::LastTensor | Summands::Element(_) => {
            let parts = &case.graph.concatenated;
            let mut values = Vec::new();
            for (k, (tensor, _)) in parts.iter().enumerate() {
                let x = case.golden.inputs.get(tensor).or_else(|| case.golden.expected.get(tensor))?;
                let axes = x.ndim() - usize::from(tensor.starts_with("in."));
                let steps = if tensor.starts_with("in.") { x.shape()[0] } else { 1 };
                let numbers = x.len() / steps.max(1);
                if let Summands::Element(test) = summands {
                    values.extend((0..numbers).map(|at| either(test.holds(at, numbers))));
                    continue;
                }
                let is = match summands {
                    Summands::Vectors => axes < 2,
                    Summands::Matrices => axes > 1,
                    _ => k + 1 == parts.len(),
                };
                values.extend(std::iter::repeat_n(either(is), numbers));
            }
            Some(Lettered { letters: vec!['x'], values: ArrayD::from_shape_vec(IxDyn(&[values.len()]), values).ok()? })
        }
        Summands::Token(order, test) => {
            let numbers = order.numbers(&case.graph.lengths, case.graph.steps);
            let values = numbers.map(|number| either(number.is_some_and(|(number, count)| test.holds(number, count))));
            Some(Lettered { letters: vec!['b', 't'], values: values.into_dyn() })
        }
        _ => {
            let lengths = &case.graph.lengths;
            let steps = case.graph.steps;
            let ids = case.golden.inputs.get("in.captions");
            let mut values = ArrayD::ones(IxDyn(&[lengths.len(), steps]));
            let tokens = || (0..lengths.len()).flat_map(|b| (0..lengths[b]).map(move |t| (b, t)));
            let same = |a: (usize, usize), b: (usize, usize)| {
                ids.is_some_and(|ids| ids[[a.0, a.1].as_slice()].total_cmp(&ids[[b.0, b.1].as_slice()]).is_eq())
            };
            for at in tokens() {
                let is = match summands {
                    Summands::LastToken(test) => {
                        let length = lengths[at.0];
                        at.1 + 1 == length && test.is_none_or(|test| test.holds(length, length + 1))
                    }
                    Summands::Overwritten(among) => tokens().any(|other| among.is_lost(at, other) && same(at, other)),
                    Summands::SameAsBefore => at.1 > 0 && same(at, (at.0, at.1 - 1)),
                    Summands::NotFirstOccurrence => tokens().any(|other| other < at && same(at, other)),
                    _ => true,
                };
                let value = if *summands == Summands::Averaged {
                    1.0 / tokens().filter(|&other| same(at, other)).count() as f64
                } else {
                    either(is)
                };
                values[[at.0, at.1].as_slice()] = value;
            }
            Some(Lettered { letters: vec!['b', 't'], values })
        }
    }
}
