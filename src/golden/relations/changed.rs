//! What a backend with a change gives.

use ndarray::{ArrayD, IxDyn};

use super::edit::{Edit, Only, Summands, Weight, Whole};
use super::elsewhere::units;
use super::evaluate::{Lettered, Weights};
use super::factors::parameter;
use super::simulate::Other;
use super::values::Case;

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

    /// Whether a family's relation is another one.
    pub(super) fn changes(&self, family: &str) -> bool {
        self.family == family || self.also.iter().any(|(other, _)| other == family)
    }

    /// The unwritten tensors that it changes are computed with it from here on.
    pub(super) fn take(&self, case: &mut Case<'_>) {
        let shared: &Case<'_> = case;
        let families = shared.graph.equations.iter().enumerate();
        let mut changes: Vec<(usize, Other<'_>)> = Vec::new();
        for (place, equation) in families {
            if self.changes(&equation.family) {
                changes.extend(self.other(shared, place).map(|other| (place, other)));
            }
        }
        case.take(&changes);
    }
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
        Summands::Scaled(letter, power) => {
            let factor = power.of(case.size_of(place, letter)?);
            Some(Lettered { letters: Vec::new(), values: ArrayD::from_elem(IxDyn(&[]), factor) })
        }
        Summands::Vectors
        | Summands::Matrices
        | Summands::LastTensor
        | Summands::LastByName
        | Summands::Smaller(_)
        | Summands::Parameter(_)
        | Summands::Element(_) => {
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
                    Summands::LastByName => parts.iter().all(|(other, _)| parameter(other) <= parameter(tensor)),
                    Summands::Smaller(n) => numbers < *n,
                    Summands::Parameter(name) => parameter(tensor) == name,
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
        ref summands => Some(weight_of_tokens(case, summands, &either)),
    }
}

/// The same of tokens.
fn weight_of_tokens(case: &Case<'_>, summands: &Summands, either: &dyn Fn(bool) -> f64) -> Lettered {
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
            Summands::FullSteps => lengths.iter().all(|&length| at.1 < length),
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
    Lettered { letters: vec!['b', 't'], values }
}
