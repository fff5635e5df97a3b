//! What a backend with a change gives.

use ndarray::{ArrayD, IxDyn};

use super::edits::{Edit, Only, Power, Summands, Whole};
use super::evaluate::{Leaves, Lettered, Weights};
use super::language::{At, Axis, Factor, Function, Initial};
use super::simulate::Other;
use super::values::Case;

impl Edit {
    /// What a backend with this change gives at an equation.
    pub(super) fn values(&self, case: &Case<'_>, place: usize) -> Option<ArrayD<f64>> {
        let equation = &case.graph.equations[place];
        let mut weights = Weights::new();
        if let Some((term, summands, weight)) = self.weights {
            let origin = case
                .graph
                .equations
                .iter()
                .position(|e| e.family == self.family && e.group == equation.group)
                .unwrap_or(place);
            weights.push((term, weight_of(case, origin, summands, weight)?));
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
            Whole::Stored(_) => Some(right.clone()),
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

/// 1 where a change of a family holds.
fn where_it_holds(case: &Case<'_>, place: usize, family: &str, only: Only) -> Option<Lettered> {
    let of_family = |&at: &usize| case.graph.equations[at].family == family;
    let place = *case.unwritten_before(place).iter().chain([&place]).find(|at| of_family(at))?;
    let letter = if matches!(only, Only::Block(_)) { 'j' } else { 't' };
    let letters = case.graph.equations[place].relation.out.letters();
    let size = *case.sizes(place)?.get(letters.iter().position(|&l| l == letter)?)?;
    let holds = |k: usize| match only {
        Only::Block(block) => k / (size / 3).max(1) == block,
        Only::First => k == 0,
        Only::Later => k > 0,
    };
    let values = (0..size).map(|k| f64::from(u8::from(holds(k)))).collect();
    Some(Lettered { letters: vec![letter], values: ArrayD::from_shape_vec(IxDyn(&[size]), values).ok()? })
}

/// The weight of each summand.
fn weight_of(case: &Case<'_>, place: usize, summands: Summands, weight: f64) -> Option<Lettered> {
    match summands {
        Summands::Index(letter, test) => {
            let size = case.size_of(place, letter)?;
            let values = (0..size).map(|index| if test.holds(index, size) { weight } else { 1.0 }).collect();
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
                    values.extend((0..numbers).map(|at| if test.holds(at, numbers) { weight } else { 1.0 }));
                    continue;
                }
                let is = match summands {
                    Summands::Vectors => axes < 2,
                    Summands::Matrices => axes > 1,
                    _ => k + 1 == parts.len(),
                };
                values.extend(std::iter::repeat_n(if is { weight } else { 1.0 }, numbers));
            }
            Some(Lettered { letters: vec!['x'], values: ArrayD::from_shape_vec(IxDyn(&[values.len()]), values).ok()? })
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
                    Summands::Token(test) => test.holds(at.0 * steps + at.1, lengths.len() * steps),
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
                    weight
                };
                if is {
                    values[[at.0, at.1].as_slice()] = value;
                }
            }
            Some(Lettered { letters: vec!['b', 't'], values })
        }
    }
}
