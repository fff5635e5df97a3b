//! What a backend with a change gives.

use ndarray::{Array2, ArrayD, IxDyn};

use super::edits::{Edit, Only, Order, Power, Summands, Weight, Whole};
use super::evaluate::{Leaves, Lettered, Weights, by_falling_length};
use super::language::{At, Axis, Factor, Function, Initial, Relation};
use super::simulate::Other;
use super::values::Case;

/// A sum is not rounded on the way if it has more summands than this, those of all elements together.
const MOST: usize = 1 << 22;

impl Edit {
    /// What a backend with this change gives at an equation.
    pub(super) fn values(&self, case: &Case<'_>, place: usize) -> Option<ArrayD<f64>> {
        let equation = &case.graph.equations[place];
        let mut weights = Weights::new();
        if !self.weights.is_empty() {
            let origin = case
                .graph
                .equations
                .iter()
                .position(|e| e.family == self.family && e.group == equation.group)
                .unwrap_or(place);
            for weight in &self.weights {
                weights.push((weight.term, weight_of(case, origin, *weight)?));
            }
        }
        let only = self.only.and_then(|only| where_it_holds(case, place, &self.family, only));
        let other = Other { family: &self.family, relation: &self.relation, weights, only };
        if self.whole == Whole::Kept {
            return case.otherwise(place, &other);
        }
        if equation.family != self.family {
            return None;
        }
        let right = case.right(place)?;
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
            factor.load(&Result { values: &right, lengths: &case.graph.lengths }).map(|loaded| loaded.values)
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
            Whole::Normalised => {
                if right.ndim() != 2 {
                    return None;
                }
                let mut rows = right.clone();
                for mut row in rows.outer_iter_mut() {
                    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                    row.mapv_inplace(|x| x / norm);
                }
                Some(rows)
            }
            Whole::Modulo(n) => Some(right.mapv(|x| if x < 0.0 { x } else { x % *n as f64 })),
            Whole::SignedByte => Some(right.mapv(|x| (x + 128.0).rem_euclid(256.0) - 128.0)),
            Whole::NegatedSignedByte => Some(right.mapv(|x| 128.0 - (128.0 - x).rem_euclid(256.0))),
            Whole::Accumulated(format, n) => {
                accumulated(case, place, &self.relation, *n, &|sum, part| format.round(sum + part))
            }
            Whole::Partial(format, n) => {
                accumulated(case, place, &self.relation, *n, &|sum, part| sum + format.round(part))
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

/// The result of a relation if the sums of n summands of the first of its sums are added in some way.
fn accumulated(
    case: &Case<'_>,
    place: usize,
    relation: &Relation,
    n: usize,
    add: &dyn Fn(f64, f64) -> f64,
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
        let sums = summands
            .chunks(width.max(1))
            .map(|summands| summands.chunks(n).fold(0.0, |sum, part| add(sum, part.iter().sum())));
        let mut total = ArrayD::from_shape_vec(IxDyn(&sizes), sums.collect()).ok()?;
        for other in (0..relation.terms.len()).filter(|&other| other != first) {
            total += &relation.term_values(leaves, &letters, &sizes, other)?;
        }
        Some(total.mapv(|x| relation.function.at(x)))
    })
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

/// The number of each token in an order, and how many there are; those after the end of a row have none if they do
/// not count.
pub(super) fn numbers(order: Order, lengths: &[usize], steps: usize) -> (Array2<Option<usize>>, usize) {
    let rows = lengths.len();
    if order == Order::Running {
        let runs = |b: usize, t: usize| t < lengths[b];
        let number = |(b, t)| runs(b, t).then(|| (0..b).filter(|&other| runs(other, t)).count());
        return (Array2::from_shape_fn((rows, steps), number), rows);
    }
    let mut all: Vec<(usize, usize)> = match order {
        Order::Rows | Order::Joined => (0..rows).flat_map(|b| (0..steps).map(move |t| (b, t))).collect(),
        Order::Steps => (0..steps).flat_map(|t| (0..rows).map(move |b| (b, t))).collect(),
        Order::Packed | Order::Running => {
            let sorted = by_falling_length(lengths);
            (0..steps).flat_map(|t| sorted.clone().into_iter().map(move |b| (b, t))).collect()
        }
    };
    if matches!(order, Order::Joined | Order::Packed) {
        all.retain(|&(b, t)| t < lengths[b]);
    }
    let mut numbers = Array2::from_elem((rows, steps), None);
    all.iter().enumerate().for_each(|(number, &at)| numbers[at] = Some(number));
    (numbers, all.len())
}

/// The weight of each summand.
fn weight_of(case: &Case<'_>, place: usize, weight: Weight) -> Option<Lettered> {
    let Weight { summands, inside, outside, .. } = weight;
    let either = |holds: bool| if holds { inside } else { outside };
    match summands {
        Summands::Index(letter, test) => {
            let size = case.size_of(place, letter)?;
            let values = (0..size).map(|index| either(test.holds(index, size))).collect();
            Some(Lettered { letters: vec![letter], values: ArrayD::from_shape_vec(IxDyn(&[size]), values).ok()? })
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
            let (numbers, count) = numbers(order, &case.graph.lengths, case.graph.steps);
            let values = numbers.map(|number| either(number.is_some_and(|number| test.holds(number, count))));
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
                    Summands::LastToken => at.1 + 1 == lengths[at.0],
                    Summands::NotLastOccurrence => tokens().any(|other| other > at && same(at, other)),
                    Summands::SameAsBefore => at.1 > 0 && same(at, (at.0, at.1 - 1)),
                    Summands::NotLastInRow => (at.1 + 1..lengths[at.0]).any(|t| same(at, (at.0, t))),
                    Summands::NotFirstOccurrence => tokens().any(|other| other < at && same(at, other)),
                    _ => true,
                };
                let value = if summands == Summands::Averaged {
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
