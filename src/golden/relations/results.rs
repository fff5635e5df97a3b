//! What a backend gives that changes the result of a relation, not what it is made of.

use ndarray::{ArrayD, Dimension as _, IxDyn};

use super::edit::{Along, Edit, Masked, Operation, Whole};
use super::elsewhere::Order;
use super::evaluate::{Leaves, Lettered, contract};
use super::graph::Equation;
use super::language::{At, Axis, Factor, Function, Initial, Layer, Relation};
use super::values::Case;

/// A sum is not rounded on the way if it has more summands than this, those of all elements together.
const MOST: usize = 1 << 22;

impl Edit {
    /// What a backend with this change of the result gives, from the right result.
    pub(super) fn of_result(&self, case: &Case<'_>, place: usize, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
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
                let factor = power.of(case.size_of(place, *letter)?);
                Some(right.mapv(|x| x * factor))
            }
            Whole::Moved(letter, at) => moved_along(axes, *letter, at, right, &as_leaf),
            Whole::OfToken(token) => {
                let mut moved = axes.clone();
                let tokens = moved.iter_mut().filter(|axis| matches!(axis.letter, 'b' | 't'));
                tokens.for_each(|axis| axis.at = At::Token(*token));
                as_leaf(moved, [0, 1, 2])
            }
            Whole::Normalised => scaled_rows(right, |norm| 1.0 / norm),
            Whole::AtMostNorm(most) => scaled_rows(right, |norm| (most / norm).min(1.0)),
            Whole::PerPart(_)
            | Whole::PerHalf
            | Whole::SquaredParts(_)
            | Whole::Accumulated(..)
            | Whole::Partial(..) => self.summed_otherwise(case, place),
            Whole::UpTo(along, n) => up_to(case, &equation.relation.out.letters(), *along, *n, right),
            Whole::With(operation, leaf) => with_leaf(case, place, *operation, leaf, right),
            Whole::Onwards(letter, n) => {
                let back = |x: &mut ArrayD<f64>| -> Option<()> {
                    x.invert_axis(ndarray::Axis(equation.relation.out.letters().iter().position(|l| l == letter)?));
                    Some(())
                };
                let mut right = right.clone();
                back(&mut right)?;
                let mut sums = up_to(case, &equation.relation.out.letters(), Along::Letter(*letter), *n, &right)?;
                back(&mut sums)?;
                Some(sums.as_standard_layout().into_owned())
            }
            Whole::OfRounded(format) => {
                let function = self.relation.function;
                Some(case.sums(place, &self.relation)?.mapv(|sum| function.at(format.round(sum))))
            }
            Whole::MaskedAfterwards(among) => masked_afterwards(case, place, &self.relation, *among),
            Whole::Plus(more) => Some(right.mapv(|x| x + more)),
            Whole::Interleaved => interleaved(case, equation, right),
            Whole::Modulo(n) => Some(right.mapv(|x| if x < 0.0 { x } else { x % *n as f64 })),
            Whole::SignedByte => Some(right.mapv(|x| (x + 128.0).rem_euclid(256.0) - 128.0)),
            Whole::NegatedSignedByte => Some(right.mapv(|x| 128.0 - (128.0 - x).rem_euclid(256.0))),
            Whole::Transposed => {
                let [rows, columns] = *right.shape() else { return None };
                (rows == columns).then(|| right.t().to_owned())
            }
            Whole::OfTranspose => {
                let flat = (right.ndim() == 2).then(|| right.t().iter().copied().collect())?;
                ArrayD::from_shape_vec(right.raw_dim(), flat).ok()
            }
            Whole::Blocks(order) => {
                if right.ndim() == 3 {
                    Some(blocks(*order, right))
                } else {
                    as_leaf(axes, *order)
                }
            }
            Whole::OfLayer(layer) => of_layer(case, equation, *layer).filter(|x| x.shape() == right.shape()),
            Whole::WithLayers(above) => with_layers(case, equation, *above, right),
            Whole::Pooled(letter, n, mean) => pooled(equation, *letter, *n, *mean, right),
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
            Whole::LastForNone => last_for_none(case, place, equation, right),
            Whole::TermsThrough(function) => terms_through(case, place, &self.relation, *function),
        }
    }
}

impl Edit {
    /// The result, with the summands of each element added up in another way.
    fn summed_otherwise(&self, case: &Case<'_>, place: usize) -> Option<ArrayD<f64>> {
        let relation = &self.relation;
        let of = |part: &[f64]| relation.function.at(part.iter().sum());
        let sums = |sum: &dyn Fn(&[f64]) -> f64, function| summed(case, place, relation, sum, function);
        match &self.whole {
            Whole::PerPart(n) => sums(&|all| all.chunks(*n).map(of).sum(), Function::Identity),
            Whole::PerHalf => sums(&|all| of(&all[..all.len() / 2]) + of(&all[all.len() / 2..]), Function::Identity),
            Whole::SquaredParts(n) => {
                let sign = relation.terms.first()?.coefficient;
                let square = |part: &[f64]| Function::Square.at(part.iter().sum());
                sums(&|all| sign * all.chunks(*n).map(square).sum::<f64>(), relation.function)
            }
            Whole::Accumulated(format, n) => {
                let add = |sum: f64, part: &[f64]| format.round(sum + part.iter().sum::<f64>());
                sums(&|all| all.chunks(*n).fold(0.0, add), relation.function)
            }
            Whole::Partial(format, n) => {
                let part = |part: &[f64]| format.round(part.iter().sum::<f64>());
                sums(&|all| all.chunks(*n).map(part).sum(), relation.function)
            }
            _ => None,
        }
    }
}

/// Each value is that of another place along a letter, or that of one place for all.
fn moved_along(
    mut axes: Vec<Axis>,
    letter: char,
    at: &At,
    right: &ArrayD<f64>,
    as_leaf: &dyn Fn(Vec<Axis>, [usize; 3]) -> Option<ArrayD<f64>>,
) -> Option<ArrayD<f64>> {
    let place = axes.iter().position(|axis| axis.letter == letter)?;
    axes[place].at = at.clone();
    let values = as_leaf(axes, [0, 1, 2])?;
    if values.ndim() == right.ndim() {
        return Some(values);
    }
    // One place for all: the letter is gone.
    let wide = values.insert_axis(ndarray::Axis(place));
    wide.broadcast(right.raw_dim()).map(|x| x.to_owned())
}

/// Times, plus or minus a leaf.
fn with_leaf(
    case: &Case<'_>,
    place: usize,
    operation: Operation,
    leaf: &Factor,
    right: &ArrayD<f64>,
) -> Option<ArrayD<f64>> {
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

/// The right values, with those of all layers above or below added.
fn with_layers(case: &Case<'_>, equation: &Equation, above: bool, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let own = layer_number(case, equation)?;
    let others = if above { own + 1..case.settings.num_layers } else { 0..own };
    let mut sum = right.clone();
    for layer in others {
        let other = of_number(case, equation, layer)?;
        (other.shape() == sum.shape()).then(|| sum += &other)?;
    }
    Some(sum)
}

fn layer_number(case: &Case<'_>, equation: &Equation) -> Option<usize> {
    case.graph.groups[equation.group].part.parse().ok()
}

/// The right values of another layer.
fn of_layer(case: &Case<'_>, equation: &Equation, layer: Layer) -> Option<ArrayD<f64>> {
    of_number(case, equation, layer.of(layer_number(case, equation)?, case.settings.num_layers))
}

fn of_number(case: &Case<'_>, equation: &Equation, layer: usize) -> Option<ArrayD<f64>> {
    let part = layer.to_string();
    let same = |other: &Equation| {
        let group = &case.graph.groups[other.group];
        group.kind == "gru" && group.part == part && other.relation.out == equation.relation.out
    };
    case.right(case.graph.equations.iter().position(same)?)
}

/// The sums or means of groups of n places along a letter, at all of their places.
fn pooled(equation: &Equation, letter: char, n: usize, mean: bool, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let axis = equation.relation.out.letters().iter().position(|&l| l == letter)?;
    let mut pooled = right.clone();
    for mut lane in pooled.lanes_mut(ndarray::Axis(axis)) {
        let size = lane.len();
        for begin in (0..size).step_by(n) {
            let group = begin..begin.saturating_add(n).min(size);
            let sum: f64 = group.clone().map(|k| lane[k]).sum();
            let value = if mean { sum / group.len() as f64 } else { sum };
            group.for_each(|k| lane[k] = value);
        }
    }
    Some(pooled)
}

/// A left side with an index, where −1 is the last place.
fn last_for_none(case: &Case<'_>, place: usize, equation: &Equation, right: &ArrayD<f64>) -> Option<ArrayD<f64>> {
    let out = &equation.relation.out;
    let along = out.axes.iter().position(|axis| matches!(axis.at, At::Through(..)))?;
    let index = case.leaf(place, out.through().next()?.0)?;
    let mut values = right.clone();
    for (mut lane, index) in values.lanes_mut(ndarray::Axis(along)).into_iter().zip(&index) {
        if let (true, Some(last)) = (*index < 0.0, lane.len().checked_sub(1)) {
            lane[last] = 1.0;
        }
    }
    Some(values)
}

/// Each term that is a sum goes through a function.
fn terms_through(case: &Case<'_>, place: usize, relation: &Relation, function: Function) -> Option<ArrayD<f64>> {
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

/// The blocks of the last axis of a tensor of tokens in another order.
fn blocks(order: [usize; 3], right: &ArrayD<f64>) -> ArrayD<f64> {
    let hidden = right.shape()[2] / 3;
    ArrayD::from_shape_fn(right.raw_dim(), |at| {
        right[IxDyn(&[at[0], at[1], order[at[2] / hidden] * hidden + at[2] % hidden])]
    })
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

/// The place of the largest of some scores, or −1 where that pair has no cost.
fn masked_afterwards(case: &Case<'_>, place: usize, relation: &Relation, among: Masked) -> Option<ArrayD<f64>> {
    let leaf = |name: &str| case.leaf(place, name);
    let cost = leaf(&relation.terms.first()?.factors.last()?.leaf)?;
    let (scores, wrong) = (leaf("s")?, leaf("wrong")?);
    let along = ndarray::Axis(usize::from(relation.out.letters() == ['i']));
    let lanes = ndarray::Zip::from(scores.lanes(along)).and(wrong.lanes(along)).and(cost.lanes(along));
    Some(lanes.map_collect(|scores, wrong, cost| {
        let counts = |k: &usize| among != Masked::Negatives || wrong[*k] > 0.0;
        let score = |k: usize| if among == Masked::Filled { wrong[k] * scores[k] } else { scores[k] };
        // The first of equal ones.
        let larger = |best: usize, k: usize| if score(k) > score(best) { k } else { best };
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
