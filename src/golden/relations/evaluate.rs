//! The value of a relation, from the values of its leaves.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis as Dimension, Dimension as _, IxDyn, Slice};

use super::elsewhere::by_falling_length;
use super::language::{Argument, At, Axis, Factor, Function, Initial, Reading, Relation};
use crate::golden::arithmetic::Rounding;

/// What a group of equations reads: its leaves by their short names.
pub(super) trait Leaves {
    /// The values of a leaf, 0 after the end of a row.
    fn leaf(&self, name: &str) -> Option<ArrayD<f64>>;
    /// The same with what was written after the end of a row.
    fn with_padding(&self, name: &str) -> Option<ArrayD<f64>>;
    /// The values of a leaf that holds indices.
    fn index(&self, name: &str) -> Option<ArrayD<f64>> {
        self.leaf(name)
    }
    /// How long each row is.
    fn lengths(&self) -> &[usize];
}

/// Values at letters: the array has one axis per letter.
#[derive(Clone, Debug)]
pub(super) struct Lettered {
    pub letters: Vec<char>,
    pub values: ArrayD<f64>,
}

impl Axis {
    /// The place that is read along an axis of a size, from the letters' indices; −1 for none. What is read through a
    /// tensor, or of another token, is not decided here.
    fn place(&self, size: usize, letter: &dyn Fn(char) -> Option<usize>, lengths: &[usize], sorted: &[usize]) -> isize {
        let own = letter(self.letter).unwrap_or(0);
        let runs = |length: usize| letter('t').is_none_or(|t| t < length);
        let ran = |length: usize| letter('t').is_none_or(|t| t < length + 1);
        let number = || lengths.iter().take(own).filter(|&&length| runs(length)).count();
        let last = |size: usize| size.cast_signed() - 1;
        let or_none = |place: Option<usize>| place.map_or(-1, usize::cast_signed);
        match &self.at {
            At::Shift(by) => own.cast_signed() + by,
            At::First => 0,
            At::Last => last(size),
            At::Is(k) => k.cast_signed(),
            At::Reversed if self.letter == 't' => {
                let length = letter('b').and_then(|row| lengths.get(row).copied());
                last(length.unwrap_or(size)) - own.cast_signed()
            }
            At::Reversed => last(size) - own.cast_signed(),
            At::By(jump) => or_none(jump.of(own, size)),
            At::Running => or_none((0..lengths.len()).filter(|&row| runs(lengths[row])).nth(own)),
            At::FirstRunning => or_none(lengths.iter().position(|&length| runs(length))),
            At::NumberOfRunning => number().cast_signed(),
            At::SameNumberBefore => or_none((0..lengths.len()).filter(|&row| ran(lengths[row])).nth(number())),
            At::TiesReversed => {
                let same = || sorted.iter().filter(|&&row| lengths.get(row) == lengths.get(own));
                let rank = same().position(|&row| row == own);
                or_none(rank.and_then(|rank| same().rev().nth(rank)).copied())
            }
            At::Sorted(times) => {
                let step = |row: usize| {
                    if *times > 0 { sorted.get(row).copied() } else { sorted.iter().position(|&other| other == row) }
                };
                or_none((0..times.unsigned_abs()).try_fold(own, |row, _| step(row)))
            }
            At::Through(..) | At::Token(_) => -1,
        }
    }
}

impl Factor {
    /// The leaf without its function, at the axes that it has: block, order and strides are done.
    fn source(&self, leaves: &impl Leaves) -> Option<ArrayD<f64>> {
        let mut x = if self.padding { leaves.with_padding(&self.leaf)? } else { leaves.leaf(&self.leaf)? };
        if let Some(block) = self.block {
            let axis = x.ndim().checked_sub(1)?;
            let hidden = x.shape()[axis] / 3;
            let begin = match self.reading {
                Reading::Padded(n) => Some(block * hidden.next_multiple_of(n)),
                // Before the first element is the last of the row before.
                Reading::Offset(by) => (block * hidden).checked_add_signed(by),
                _ => None,
            };
            if let Some(begin) = begin {
                let mut shape = x.shape().to_vec();
                shape[axis] = hidden;
                return Some(ArrayD::from_shape_fn(IxDyn(&shape), |at| {
                    let mut at = at.slice().to_vec();
                    at[axis] += begin;
                    x.get(IxDyn(&at)).copied().unwrap_or(0.0)
                }));
            }
            let interleaved = self.reading == Reading::Interleaved;
            let rows = if interleaved {
                Slice::new(block.cast_signed(), None, 3)
            } else {
                Slice::from(block * hidden..(block + 1) * hidden)
            };
            x = x.slice_axis(Dimension(axis), rows).to_owned();
            if interleaved {
                return Some(x);
            }
        }
        if self.order != [0, 1, 2] {
            let hidden = x.shape().first()? / 3;
            let from = x.clone();
            for (to, block) in self.order.into_iter().enumerate() {
                let rows = |block: usize| Slice::from(block * hidden..(block + 1) * hidden);
                x.slice_axis_mut(Dimension(0), rows(to)).assign(&from.slice_axis(Dimension(0), rows(block)));
            }
        }
        if self.reading == Reading::Own {
            return Some(x);
        }
        let [rows, columns] = *x.shape() else { return None };
        let flat: Vec<f64> = x.iter().copied().collect();
        let place = |row: usize, column: usize| match self.reading {
            Reading::Own | Reading::Interleaved | Reading::Offset(_) => row * columns + column,
            Reading::Exchanged => row + column * rows,
            Reading::BlocksTurned => (row / columns * columns + column) * columns + row % columns,
            Reading::RowsAsStride => (row * rows + column) % flat.len(),
            Reading::Padded(n) => row * columns.next_multiple_of(n) + column,
            Reading::Aligned(n) => row * columns / n * n + column,
        };
        if self.reading == Reading::BlocksTurned && rows != 3 * columns {
            return None;
        }
        x = ArrayD::from_shape_fn(IxDyn(&[rows, columns]), |at| flat.get(place(at[0], at[1])).copied().unwrap_or(0.0));
        Some(x)
    }

    /// The factor at its letters.
    pub(super) fn load(&self, leaves: &impl Leaves) -> Option<Lettered> {
        let x = self.source(leaves)?;
        if x.ndim() != self.axes.len() {
            return None;
        }
        let letters = self.letters();
        let plain = letters.len() == self.axes.len() && self.axes.iter().all(|axis| axis.at == At::Shift(0));
        let mut values = if plain { x } else { self.gather(&x, &letters, leaves)? };
        let as_it_is =
            (self.function, self.rounding, self.argument) == (Function::Identity, Rounding::Exact, Argument::KEPT);
        if !as_it_is {
            values.mapv_inplace(|x| self.rounding.round(self.function.at(self.argument.at(x))));
        }
        Some(Lettered { letters, values })
    }

    /// Reads a leaf at its axes.
    fn gather(&self, x: &ArrayD<f64>, letters: &[char], leaves: &impl Leaves) -> Option<ArrayD<f64>> {
        let mut sizes = vec![0; letters.len()];
        let mut through: Vec<Option<(ArrayD<f64>, Vec<usize>)>> = Vec::new();
        let place = |letter: char| letters.iter().position(|&l| l == letter);
        for (axis, &size) in self.axes.iter().zip(x.shape()) {
            through.push(None);
            match &axis.at {
                At::Through(name, own) => {
                    let index = leaves.index(name)?;
                    let places: Option<Vec<usize>> = own.iter().map(|&letter| place(letter)).collect();
                    let places = places?;
                    places.iter().zip(index.shape()).for_each(|(&place, &size)| sizes[place] = size);
                    *through.last_mut()? = Some((index, places));
                }
                At::First | At::Last | At::Is(_) => {}
                _ => sizes[place(axis.letter)?] = size,
            }
        }
        let lengths = leaves.lengths();
        let sorted = by_falling_length(lengths);
        let token = self.axes.iter().zip(x.shape()).find_map(|(axis, &size)| match axis.at {
            At::Token(token) if axis.letter == 't' => Some((token, size)),
            _ => None,
        });
        let tokens = token.map(|(token, steps)| token.of(lengths, steps));
        let initial = self
            .axes
            .iter()
            .any(|axis| matches!(axis.letter, 't' | 'u' | 's'))
            .then(|| {
                let name = format!("{}0", self.leaf);
                leaves.leaf(&match self.initial {
                    Initial::Of(layer) => layer.leaf(&name),
                    Initial::BatchFirst => format!("batch_first.{name}"),
                    _ => name,
                })
            })
            .flatten();
        let below = (self.initial == Initial::LastBelow).then(|| leaves.leaf("x")).flatten();
        let mut source = vec![0usize; self.axes.len()];
        Some(ArrayD::from_shape_fn(IxDyn(&sizes), |at| {
            let mut before = false;
            for (k, axis) in self.axes.iter().enumerate() {
                let size = x.shape()[k];
                let letter = |letter| place(letter).map(|place| at[place]);
                let from = match (&axis.at, &through[k]) {
                    (At::Through(..), Some((index, places))) => {
                        let own: Vec<usize> = places.iter().map(|&place| at[place]).collect();
                        #[allow(clippy::cast_possible_truncation)] // whole numbers
                        let index = index[IxDyn(&own)] as isize;
                        index
                    }
                    (At::Token(_), _) => {
                        let token = tokens.as_ref().and_then(|tokens| *tokens.get((letter('b')?, letter('t')?))?);
                        token.map_or(-1, |(b, t)| if axis.letter == 'b' { b } else { t }.cast_signed())
                    }
                    _ => axis.place(size, &letter, lengths, &sorted),
                };
                // Before the first token is its row's initial state.
                if from < 0 && matches!(axis.at, At::Token(_)) && initial.is_some() {
                    before = true;
                    source[k] = letter(axis.letter).unwrap_or(0);
                    continue;
                }
                if from < 0 && matches!(axis.letter, 't' | 'u' | 's') && !matches!(axis.at, At::Token(_)) {
                    before = true;
                    continue;
                }
                let Some(from) = usize::try_from(from).ok().filter(|&from| from < size) else { return 0.0 };
                source[k] = from;
            }
            if before {
                let rest = || {
                    source
                        .iter()
                        .zip(&self.axes)
                        .filter(|(_, axis)| !matches!(axis.letter, 't' | 'u' | 's'))
                        .map(|(&at, _)| at)
                };
                return match (self.initial, &initial) {
                    (Initial::One, _) => 1.0,
                    (Initial::LastBelow, _) => {
                        let mut at: Vec<usize> = rest().collect();
                        let length = lengths.get(at[0]).copied().unwrap_or(1);
                        at.insert(1, length.saturating_sub(1));
                        below.as_ref().and_then(|below| below.get(IxDyn(&at))).copied().unwrap_or(0.0)
                    }
                    (Initial::Given | Initial::Of(_) | Initial::BatchFirst, Some(initial)) => {
                        initial.get(IxDyn(&rest().collect::<Vec<_>>())).copied().unwrap_or(0.0)
                    }
                    _ => 0.0,
                };
            }
            x[IxDyn(&source)]
        }))
    }
}

/// The factors, with those that share a letter which is summed over, and which no other factor has, in one: their sum
/// over it. None if a letter has two sizes.
fn summed_first<'a>(letters: &[char], factors: &'a [Lettered]) -> Option<Vec<Cow<'a, Lettered>>> {
    let mut factors: Vec<Cow<'a, Lettered>> = factors.iter().map(Cow::Borrowed).collect();
    let inner = |factors: &[Cow<'_, Lettered>]| {
        let mut summed = factors.iter().flat_map(|factor| &factor.letters).filter(|letter| !letters.contains(letter));
        summed.find(|letter| factors.iter().any(|factor| !factor.letters.contains(letter))).copied()
    };
    while let Some(letter) = inner(&factors) {
        let (own, mut others): (Vec<_>, Vec<_>) =
            factors.into_iter().partition(|factor| factor.letters.contains(&letter));
        let mut kept: Vec<(char, usize)> = Vec::new();
        for (&other, &size) in own.iter().flat_map(|factor| factor.letters.iter().zip(factor.values.shape())) {
            if other != letter && kept.iter().all(|(known, _)| *known != other) {
                kept.push((other, size));
            }
        }
        let (kept, sizes): (Vec<char>, Vec<usize>) = kept.into_iter().unzip();
        let mut sum = vec![0.0; sizes.iter().product()];
        product(&kept, &sizes, 1.0, &own, &mut sum)?;
        let values = ArrayD::from_shape_vec(IxDyn(&sizes), sum).ok()?;
        others.push(Cow::Owned(Lettered { letters: kept, values }));
        factors = others;
    }
    Some(factors)
}

/// Adds c · Σ Π factors to `sum`, which has these letters with these sizes: the sum is over all other letters. None if
/// a letter has two sizes.
pub(super) fn contract(
    letters: &[char],
    sizes: &[usize],
    coefficient: f64,
    factors: &[Lettered],
    sum: &mut [f64],
) -> Option<()> {
    product(letters, sizes, coefficient, &summed_first(letters, factors)?, sum)
}

/// The same, over all places of all letters at once.
fn product(
    letters: &[char],
    sizes: &[usize],
    coefficient: f64,
    factors: &[Cow<'_, Lettered>],
    sum: &mut [f64],
) -> Option<()> {
    let mut all: Vec<(char, usize)> = letters.iter().copied().zip(sizes.iter().copied()).collect();
    for factor in factors {
        for (&letter, &size) in factor.letters.iter().zip(factor.values.shape()) {
            match all.iter().find(|(l, _)| *l == letter) {
                Some(&(_, known)) if known != size => return None,
                Some(_) => {}
                None => all.push((letter, size)),
            }
        }
    }
    let operands: Vec<(Vec<f64>, Vec<usize>)> = factors
        .iter()
        .map(|factor| {
            let mut strides = vec![0; all.len()];
            let mut stride = 1;
            for (&letter, &size) in factor.letters.iter().zip(factor.values.shape()).rev() {
                let place = all.iter().position(|(l, _)| *l == letter).unwrap_or(0);
                strides[place] += stride;
                stride *= size;
            }
            (factor.values.iter().copied().collect(), strides)
        })
        .collect();
    let mut out_strides = vec![0; all.len()];
    let mut stride = 1;
    for k in (0..letters.len()).rev() {
        out_strides[k] = stride;
        stride *= sizes[k];
    }
    if all.iter().any(|&(_, size)| size == 0) {
        return Some(());
    }
    let walk = Walk { sizes: all.iter().map(|&(_, size)| size).collect(), operands, out_strides, coefficient };
    walk.go(0, &mut vec![0; walk.operands.len()], 0, sum);
    Some(())
}

/// All places of all letters.
struct Walk {
    sizes: Vec<usize>,
    operands: Vec<(Vec<f64>, Vec<usize>)>,
    out_strides: Vec<usize>,
    coefficient: f64,
}

impl Walk {
    fn go(&self, depth: usize, at: &mut [usize], out: usize, sum: &mut [f64]) {
        if depth + 1 < self.sizes.len() {
            let mut own = at.to_vec();
            for k in 0..self.sizes[depth] {
                self.go(depth + 1, &mut own.clone(), out + k * self.out_strides[depth], sum);
                own.iter_mut().zip(&self.operands).for_each(|(at, (_, strides))| *at += strides[depth]);
            }
            return;
        }
        let Some(&size) = self.sizes.last() else {
            sum[out] += self.coefficient * self.operands.iter().map(|(x, _)| x[0]).product::<f64>();
            return;
        };
        let step = self.out_strides[depth];
        match &self.operands[..] {
            [(x, xs)] => {
                let (x, xs) = (&x[at[0]..], xs[depth]);
                (0..size).for_each(|k| sum[out + k * step] += self.coefficient * x[k * xs]);
            }
            [(x, xs), (y, ys)] => {
                let (x, xs, y, ys) = (&x[at[0]..], xs[depth], &y[at[1]..], ys[depth]);
                if step == 0 {
                    let total: f64 = (0..size).map(|k| x[k * xs] * y[k * ys]).sum();
                    sum[out] += self.coefficient * total;
                } else {
                    (0..size).for_each(|k| sum[out + k * step] += self.coefficient * (x[k * xs] * y[k * ys]));
                }
            }
            all => {
                for k in 0..size {
                    let product: f64 = all.iter().zip(at.iter()).map(|((x, s), at)| x[at + k * s[depth]]).product();
                    sum[out + k * step] += self.coefficient * product;
                }
            }
        }
    }
}

/// Further factors of one term: which summands count, and how often.
pub(super) type Weights = Vec<(usize, Lettered)>;

impl Relation {
    /// The sum of a term before the function, at the letters of the left side.
    pub(super) fn term_values(
        &self,
        leaves: &impl Leaves,
        letters: &[char],
        sizes: &[usize],
        term: usize,
    ) -> Option<ArrayD<f64>> {
        let term = &self.terms[term];
        let factors: Vec<Lettered> = term.factors.iter().map(|factor| factor.load(leaves)).collect::<Option<_>>()?;
        let mut sum = vec![0.0; sizes.iter().product()];
        contract(letters, sizes, term.coefficient, &factors, &mut sum)?;
        ArrayD::from_shape_vec(IxDyn(sizes), sum).ok()
    }
}

/// The place of the largest number along the one letter that `own` lacks, the first: where the product of the other
/// factors is positive, or else among the positive ones; −1 if there is none.
pub(super) fn largest(own: &[char], factors: &[Lettered]) -> Option<ArrayD<f64>> {
    let (x, others) = factors.split_last()?;
    let mut counts = vec![0.0; x.values.len()];
    contract(&x.letters, x.values.shape(), 1.0, if others.is_empty() { factors } else { others }, &mut counts)?;
    let counts = ArrayD::from_shape_vec(x.values.raw_dim(), counts).ok()?;
    let along = x.letters.iter().position(|letter| !own.contains(letter))?;
    (own.len() + 1 == x.letters.len()).then_some(())?;
    let rows = ndarray::Zip::from(x.values.lanes(Dimension(along))).and(counts.lanes(Dimension(along)));
    Some(rows.map_collect(|row, counts| {
        let mut best: Option<(usize, f64)> = None;
        for (place, (&x, &counts)) in row.iter().zip(counts).enumerate() {
            if counts > 0.0 && best.is_none_or(|(_, most)| x > most) {
                best = Some((place, x));
            }
        }
        best.map_or(-1.0, |(place, _)| place as f64)
    }))
}

/// Puts values at the letters of a left side with an index that is read from a tensor at their places, added up.
pub(super) fn scatter(
    out: &Factor,
    values: &ArrayD<f64>,
    shape: &[usize],
    index: &BTreeMap<String, ArrayD<f64>>,
) -> Option<ArrayD<f64>> {
    let letters = out.letters();
    let mut into = ArrayD::zeros(IxDyn(shape));
    for (at, &x) in values.indexed_iter() {
        let place = |letter: char| letters.iter().position(|&l| l == letter).map(|place| at[place]);
        let mut target = Vec::new();
        for axis in &out.axes {
            let index = match &axis.at {
                At::Through(name, own) => {
                    let own: Option<Vec<usize>> = own.iter().map(|&letter| place(letter)).collect();
                    #[allow(clippy::cast_possible_truncation)] // whole numbers
                    let index = index.get(name)?.get(IxDyn(&own?)).copied()? as isize;
                    index
                }
                _ => place(axis.letter)?.cast_signed(),
            };
            target.push(index);
        }
        if target.iter().zip(shape).all(|(&index, &size)| usize::try_from(index).is_ok_and(|index| index < size)) {
            let target: Vec<usize> = target.into_iter().map(isize::cast_unsigned).collect();
            into[IxDyn(&target)] += x;
        }
    }
    Some(into)
}
