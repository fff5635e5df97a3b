//! Where a sentence holds: everywhere, or at some steps, rows, units, words, settings.

use std::collections::BTreeMap;
use std::fmt;

use ndarray::{Dimension as _, IxDyn};

use super::elsewhere::Pair;
use super::language::{At, Factor, GATES};
use super::local::Site;
use super::values::Case;
use crate::golden::program::Settings;
use crate::loss::Violation;

/// A test of one index of an axis of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    First,
    NotFirst,
    Last,
    NotLast,
    Odd,
    Even,
    /// Beyond the last whole group of this many, where there is one.
    Tail(usize),
    /// The same, and all of a size that is smaller.
    AnyTail(usize),
    /// In whole groups of this many.
    Whole(usize),
    /// The last group of this many, whole or not.
    LastGroup(usize),
    NotLastGroup(usize),
    /// What the last whole group has in common with one of the same width that ends at the end.
    Overlap(usize),
    /// The second half of each group of this many, and its last.
    SecondHalf(usize),
    GroupEnd(usize),
    /// A multiple of this, but 0.
    Multiple(usize),
    /// The first ones, as many as a division by this leaves.
    Head(usize),
    /// At or beyond the largest power of two that is not larger than the size.
    BeyondPower,
    /// What is lost if a sum is halved again and again, rounding down.
    LostInTree,
    /// The middle of an odd number.
    Middle,
    /// The first or the second half; of an odd size the second, or the first, is the larger.
    FirstHalf,
    SecondOfTwo,
    FirstHalfRoundedUp,
    SecondOfTwoRoundedDown,
    From(usize),
    Below(usize),
    Is(usize),
    /// From the first number to before the second.
    Within(usize, usize),
    /// In the block of a gate, of three.
    Block(usize),
}

impl Test {
    /// Those without a number that is read off.
    pub(super) fn fixed() -> impl Iterator<Item = Self> {
        use Test as T;
        let groups = [2, 4, 8, 16, 32, 64, 128].into_iter();
        let groups = groups
            .flat_map(|n| [T::Tail(n), T::AnyTail(n), T::Whole(n), T::LastGroup(n), T::NotLastGroup(n), T::Overlap(n)]);
        let multiples = [3, 4, 5, 8, 10, 16, 32].map(T::Multiple);
        let parts = [8, 16, 32, 64].into_iter().flat_map(|n| [T::SecondHalf(n), T::GroupEnd(n)]);
        let parts = parts.chain([3, 4, 5, 10].map(T::GroupEnd));
        let single = [T::First, T::NotFirst, T::Last, T::NotLast, T::Odd, T::Even].into_iter();
        let halves = [T::FirstHalf, T::SecondOfTwo, T::FirstHalfRoundedUp, T::SecondOfTwoRoundedDown];
        let single = single
            .chain(halves)
            .chain([T::LostInTree, T::BeyondPower, T::Middle])
            .chain([2, 4, 8, 16, 32].map(T::Head));
        single.chain(multiples).chain(parts).chain(groups)
    }

    pub(super) fn holds(self, index: usize, size: usize) -> bool {
        match self {
            Self::First => index == 0,
            Self::NotFirst => index > 0,
            Self::Overlap(width) => size > width && index >= size - width && index < size / width * width,
            Self::Last => index + 1 == size,
            Self::NotLast => index + 1 < size,
            Self::Odd => index % 2 == 1,
            Self::Even => index.is_multiple_of(2),
            Self::Tail(width) => size >= width && index >= size / width * width,
            Self::AnyTail(width) => index >= size / width * width,
            Self::Whole(width) => index < size / width * width,
            Self::LastGroup(width) => size > width && index >= (size - 1) / width * width,
            Self::NotLastGroup(width) => size > width && index < (size - 1) / width * width,
            Self::SecondHalf(n) => index % n >= n / 2,
            Self::GroupEnd(n) => index % n + 1 == n,
            Self::Multiple(n) => index > 0 && index.is_multiple_of(n),
            Self::Head(n) => index < size % n,
            Self::LostInTree => {
                let (mut index, mut size) = (index, size);
                while size > 1 {
                    size /= 2;
                    if index >= 2 * size {
                        return true;
                    }
                    index %= size;
                }
                false
            }
            Self::BeyondPower => size > 0 && index >= 1 << size.ilog2(),
            Self::Middle => size % 2 == 1 && index == size / 2,
            Self::FirstHalf => index < size / 2,
            Self::SecondOfTwo => index >= size / 2,
            Self::FirstHalfRoundedUp => index < size.div_ceil(2),
            Self::SecondOfTwoRoundedDown => index >= size.div_ceil(2),
            Self::From(n) => index >= n,
            Self::Below(n) => index < n,
            Self::Is(n) => index == n,
            Self::Within(from, end) => (from..end).contains(&index),
            Self::Block(gate) => size.is_multiple_of(3) && index / (size / 3).max(1) == gate,
        }
    }

    /// The first or last index, or a bound: it needs few indices.
    pub(super) fn is_plain(self) -> bool {
        matches!(
            self,
            Self::First | Self::NotFirst | Self::Last | Self::NotLast | Self::Is(_) | Self::From(_) | Self::Below(_)
        )
    }

    pub(super) fn cost(self) -> f64 {
        match self {
            Self::First | Self::NotFirst | Self::Last | Self::NotLast | Self::Block(_) => 1.0,
            Self::Odd | Self::Even => 1.1,
            Self::FirstHalfRoundedUp
            | Self::SecondOfTwoRoundedDown
            | Self::Head(_)
            | Self::Multiple(_)
            | Self::SecondHalf(_)
            | Self::GroupEnd(_) => 1.3,
            Self::Tail(_)
            | Self::Middle
            | Self::FirstHalf
            | Self::SecondOfTwo
            | Self::LostInTree
            | Self::BeyondPower => 1.2,
            Self::AnyTail(_) | Self::Whole(_) => 1.35,
            Self::LastGroup(_) | Self::NotLastGroup(_) | Self::Overlap(_) => 1.4,
            Self::From(n) | Self::Below(n) if n.is_power_of_two() => 1.3,
            Self::From(_) | Self::Below(_) => 1.7,
            Self::Is(_) => 1.8,
            Self::Within(from, end) if from.is_power_of_two() && end.is_power_of_two() => 1.6,
            Self::Within(..) => 2.0,
        }
    }

    pub(super) fn says(self, letter: &str) -> String {
        match self {
            Self::First => format!("{letter} = 0"),
            Self::NotFirst => format!("{letter} ≥ 1"),
            Self::Last => format!("the last {letter}"),
            Self::NotLast => format!("every {letter} but the last"),
            Self::Odd => format!("odd {letter}"),
            Self::Even => format!("even {letter}"),
            Self::Tail(width) => format!("the {letter} beyond the last whole group of {width}"),
            Self::AnyTail(width) => {
                format!("the {letter} beyond the last whole group of {width}, sizes below {width} too")
            }
            Self::Whole(width) => format!("the {letter} in whole groups of {width}"),
            Self::Overlap(width) => format!(
                "the {letter} that a last group of {width}, moved back to end at the end, shares with the one before"
            ),
            Self::LastGroup(width) => format!("the {letter} in the last group of {width}"),
            Self::NotLastGroup(width) => format!("every {letter} before the last group of {width}"),
            Self::SecondHalf(n) => format!("{letter} in the second half of each group of {n}"),
            Self::GroupEnd(n) => format!("{letter} = {}, {}, …", n - 1, 2 * n - 1),
            Self::Multiple(n) => format!("{letter} = {n}, {}, …", 2 * n),
            Self::Head(n) => format!("the {letter} before the rest of its size modulo {n}"),
            Self::LostInTree => {
                format!("the {letter} that a tree of sums loses, which halves their number and rounds it down")
            }
            Self::BeyondPower => format!("the {letter} beyond the largest power of two in their number"),
            Self::Middle => format!("the middle {letter} of an odd number"),
            Self::FirstHalf => format!("{letter} in the first half"),
            Self::SecondOfTwo => format!("{letter} in the second half"),
            Self::FirstHalfRoundedUp => format!("{letter} in the first half, rounded up"),
            Self::SecondOfTwoRoundedDown => format!("{letter} in the second half, rounded down"),
            Self::From(n) => format!("{letter} ≥ {n}"),
            Self::Below(n) => format!("{letter} < {n}"),
            Self::Is(n) => format!("{letter} = {n}"),
            Self::Within(from, end) => format!("{from} ≤ {letter} < {end}"),
            Self::Block(gate) => format!("{letter} in the block {}", GATES[gate]),
        }
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Atom {
    /// An index; of the 3H rows of a GRU, the unit and the gate are indices too.
    Index(char, Test),
    Unit(Test),
    Gate(usize),
    OtherGates(usize),
    /// The row's own last token, or one before it; rows of full length, or shorter; of length 1.
    LastToken,
    NotLastToken,
    FullRow,
    ShortRow,
    LongRow,
    OneToken,
    /// The length of the row, and how many steps are missing to the full one.
    Length(Test),
    Missing(Test),
    /// The place counted over all axes but the last.
    Row(Test),
    /// The row's number among those that run at the step.
    Running(Test),
    /// i and j are equal modulo this.
    TileDiagonal(usize),
    /// i and j in the same part, or in others.
    Parts(Pair),
    /// i = j, i ≠ j, i < j, i > j
    Diagonal,
    OffDiagonal,
    Above,
    Below,
    /// A word that occurs several times in the batch, or once.
    Repeated,
    Single,
    /// The word's id; the largest that occurs.
    Word(Test),
    LargestWord,
    /// Something about the case or the part of the model.
    Fact(String),
    NotFact(String),
    /// An axis has at least this many places, or fewer.
    Size(char, usize),
    Fewer(char, usize),
    /// A size is a multiple of a number, or is not.
    Divides(usize, char, bool),
    /// How many tokens of its row come after it.
    After(Test),
    /// At or beyond the size of another letter; of a matrix, beyond its shape with the two sizes exchanged.
    Beyond(char, char),
    OutsideTransposed,
    /// The value of a leaf, or the right value of the result, is below, or at or above, a bound.
    Less(Option<Box<Factor>>, f64),
    AtLeast(Option<Box<Factor>>, f64),
}

/// A conjunction of conditions; none of them: everywhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place(pub Vec<Atom>);

impl Atom {
    /// Whether it is one of many tests of an index, not a plain one or a fact.
    pub(super) fn is_read_off(&self) -> bool {
        match self {
            Self::Index(_, test)
            | Self::Unit(test)
            | Self::Word(test)
            | Self::Length(test)
            | Self::Missing(test)
            | Self::After(test)
            | Self::Row(test)
            | Self::Running(test) => !matches!(test, Test::First | Test::NotFirst | Test::Last | Test::NotLast),
            Self::Parts(_) | Self::TileDiagonal(_) | Self::Above | Self::Below | Self::Beyond(..) => true,
            _ => false,
        }
    }

    fn cost(&self) -> f64 {
        match self {
            Self::Index(_, test) | Self::Unit(test) => test.cost(),
            Self::Word(test) => test.cost() + 0.1,
            Self::Row(test) | Self::Running(test) | Self::After(test) => test.cost() + 0.3,
            Self::Length(test) => test.cost() - 0.2,
            Self::Missing(test) => test.cost() + 0.2,
            Self::Parts(_) => 1.15,
            // About the settings, where other facts are nearer to a kernel.
            Self::Fact(fact)
                if fact.starts_with("cases of")
                    || fact.starts_with("cases that")
                    || fact.starts_with("cases sorted") =>
            {
                1.25
            }
            Self::Fact(_) | Self::Gate(_) | Self::LastToken | Self::OneToken | Self::Diagonal | Self::OffDiagonal => {
                1.0
            }
            Self::Repeated
            | Self::FullRow
            | Self::ShortRow
            | Self::LongRow
            | Self::NotLastToken
            | Self::OtherGates(_) => 1.1,
            Self::TileDiagonal(_) | Self::Beyond(..) | Self::OutsideTransposed => 1.3,
            Self::NotFact(_) | Self::LargestWord | Self::Above | Self::Below | Self::Single => 1.2,
            Self::Size(..) | Self::Fewer(..) | Self::Divides(..) => 1.5,
            Self::Less(..) | Self::AtLeast(..) => 1.9,
        }
    }
}

impl Place {
    pub(super) fn cost(&self) -> f64 {
        self.0.iter().map(Atom::cost).sum()
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |factor: &Option<Box<Factor>>| {
            factor.as_ref().map_or_else(|| "the right value".into(), ToString::to_string)
        };
        let text = match self {
            Self::Index(letter, test) => format!("at {}", test.says(&letter.to_string())),
            Self::Unit(test) => format!("at {}", test.says("unit")),
            Self::Gate(gate) => format!("in the gate {}", GATES[*gate]),
            Self::OtherGates(gate) => format!("in every gate but {}", GATES[*gate]),
            Self::LastToken => "at each row's own last token".into(),
            Self::NotLastToken => "at tokens before each row's last".into(),
            Self::FullRow => "in rows of the full length T".into(),
            Self::ShortRow => "in rows shorter than T".into(),
            Self::LongRow => "in rows of two tokens or more".into(),
            Self::OneToken => "in rows of one token".into(),
            Self::Length(test) => format!("in rows with {}", test.says("length")),
            Self::Missing(test) => format!("in rows with {}", test.says("T − length")),
            Self::Row(test) => format!("at {}", test.says("row (all axes but the last)")),
            Self::Running(test) => format!("at {}", test.says("row among those that still run")),
            Self::TileDiagonal(n) => format!("where i and j are equal modulo {n}"),
            Self::Parts(pair) => format!("at {}", pair.says("i", "j")),
            Self::Diagonal => "on the diagonal".into(),
            Self::OffDiagonal => "off the diagonal".into(),
            Self::Above => "above the diagonal".into(),
            Self::Below => "below the diagonal".into(),
            Self::Repeated => "for words that occur several times".into(),
            Self::Single => "for words that occur once".into(),
            Self::Word(test) => format!("for words with {}", test.says("id")),
            Self::LargestWord => "for the largest id that occurs".into(),
            Self::Fact(fact) => format!("in {fact}"),
            Self::NotFact(fact) => format!("everywhere but in {fact}"),
            Self::Size(letter, from) => format!("where {letter} has at least {from} places"),
            Self::Divides(n, letter, is) => {
                format!("where the size of {letter} is {}a multiple of {n}", if *is { "" } else { "not " })
            }
            Self::Fewer(letter, than) => format!("where {letter} has fewer than {than} places"),
            Self::After(test) => format!("at {}", test.says("tokens to the row's last")),
            Self::Beyond(letter, other) => format!("at {letter} at or beyond the size of {other}"),
            Self::OutsideTransposed => "outside the shape that has the two sizes exchanged".into(),
            Self::Less(factor, bound) if *bound <= f64::MIN_POSITIVE && *bound > 0.0 => {
                format!("where {} ≤ 0", of(factor))
            }
            Self::AtLeast(factor, bound) if *bound <= f64::MIN_POSITIVE && *bound > 0.0 => {
                format!("where {} > 0", of(factor))
            }
            Self::Less(factor, bound) => format!("where {} < {}", of(factor), short(*bound)),
            Self::AtLeast(factor, bound) => format!("where {} ≥ {}", of(factor), short(*bound)),
        };
        f.write_str(&text)
    }
}

/// A number in few digits.
pub(super) fn short(x: f64) -> String {
    if x == 0.0 || (1e-3..1e4).contains(&x.abs()) {
        let text = format!("{x:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{x:.3e}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&parts.join(", "))
    }
}

/// What the places of a site's elements are made of.
pub(super) struct Map<'c, 'a> {
    case: &'c Case<'a>,
    /// The letters of the axes of a site.
    letters: Vec<char>,
    shape: Vec<usize>,
    facts: Vec<String>,
    ids: Vec<usize>,
    counts: BTreeMap<usize, usize>,
    words: usize,
    gates: bool,
    equation: usize,
    /// The sizes of all letters of the relation.
    sizes: BTreeMap<char, usize>,
}

impl<'c, 'a> Map<'c, 'a> {
    pub(super) fn of(case: &'c Case<'a>, site: &Site) -> Self {
        let equation = &case.graph.equations[site.equation];
        let group = &case.graph.groups[equation.group];
        let letters: Vec<char> = equation.relation.out.axes.iter().map(|axis| axis.letter).collect();
        let lengths = &case.graph.lengths;
        let ids = case.golden.inputs.get("in.captions");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // ids
        let all: Vec<usize> = ids.map_or_else(Vec::new, |ids| ids.iter().map(|&id| id as usize).collect());
        let mut counts = BTreeMap::new();
        if let Some(ids) = ids {
            for (at, &id) in ids.indexed_iter() {
                if at[1] < lengths[at[0]] {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // ids
                    let id = id as usize;
                    *counts.entry(id).or_insert(0) += 1;
                }
            }
        }
        Self {
            case,
            shape: site.right.shape().to_vec(),
            facts: facts(case, group.kind, &group.part),
            ids: all,
            words: case.golden.inputs.get("param.txt_enc.embed.weight").map_or(0, |table| table.shape()[0]),
            counts,
            gates: group.kind == "gru" && letters.contains(&'j'),
            sizes: equation
                .relation
                .letters()
                .into_iter()
                .filter_map(|letter| Some((letter, case.size_of(site.equation, letter)?)))
                .collect(),
            letters,
            equation: site.equation,
        }
    }

    pub(super) fn facts(&self) -> &[String] {
        &self.facts
    }

    pub(super) fn letters(&self) -> &[char] {
        &self.letters
    }

    pub(super) fn sizes(&self) -> &BTreeMap<char, usize> {
        &self.sizes
    }

    pub(super) fn has_words(&self) -> bool {
        self.letters.contains(&'v') || (self.letters.contains(&'t') && !self.ids.is_empty())
    }

    pub(super) fn has_gates(&self) -> bool {
        self.gates
    }

    /// The index of each axis of an element.
    pub(super) fn at(&self, mut place: usize) -> IxDyn {
        let mut at = IxDyn::zeros(self.shape.len());
        for (index, &size) in at.slice_mut().iter_mut().zip(&self.shape).rev() {
            *index = place % size.max(1);
            place /= size.max(1);
        }
        at
    }

    /// The index and the size of a letter.
    pub(super) fn index(&self, at: &[usize], letter: char) -> Option<(usize, usize)> {
        let place = self.letters.iter().position(|&l| l == letter)?;
        Some((at[place], self.shape[place]))
    }

    /// The leaf's value at an element; none if the leaf has letters that the left side lacks.
    pub(super) fn value(&self, loaded: &super::evaluate::Lettered, at: &[usize]) -> Option<f64> {
        let own: Option<Vec<usize>> =
            loaded.letters.iter().map(|&letter| self.index(at, letter).map(|(index, _)| index)).collect();
        loaded.values.get(IxDyn(&own?)).copied()
    }

    /// A leaf's values.
    pub(super) fn load(&self, factor: &Factor) -> Option<super::evaluate::Lettered> {
        self.case.with_leaves(self.equation, |leaves| factor.load(leaves))
    }

    /// The word of an element: the row of the table, or the token.
    fn word(&self, at: &[usize]) -> Option<usize> {
        if let Some((word, _)) = self.index(at, 'v') {
            return Some(word);
        }
        let ((b, _), (t, steps)) = (self.index(at, 'b')?, self.index(at, 't')?);
        self.ids.get(b * steps + t).copied()
    }

    pub(super) fn length(&self, at: &[usize]) -> Option<usize> {
        self.case.graph.lengths.get(self.index(at, 'b')?.0).copied()
    }

    /// What a condition that is read off looks at.
    pub(super) fn key(&self, atom: &Atom, at: &[usize]) -> Option<(usize, usize)> {
        let row = self.index(at, 'b').map_or(0, |(b, _)| b);
        match atom {
            Atom::Word(_) => Some((self.word(at)?, 0)),
            Atom::Length(_) => Some((self.length(at)?, 0)),
            Atom::Missing(_) => Some((self.case.graph.steps.saturating_sub(self.length(at)?), 0)),
            Atom::After(_) => Some((self.after(at)?, 0)),
            Atom::Index(letter, _) | Atom::Beyond(letter, _) => self.index(at, *letter),
            Atom::Unit(_) => self.index(at, 'j'),
            Atom::Parts(_) | Atom::TileDiagonal(_) | Atom::Above | Atom::Below => {
                Some((self.index(at, 'i')?.0, self.index(at, 'j')?.0))
            }
            _ => Some((row, self.index(at, 't').map_or(0, |(t, _)| t))),
        }
    }

    /// How many tokens of its row come after an element's.
    pub(super) fn after(&self, at: &[usize]) -> Option<usize> {
        self.length(at)?.checked_sub(self.index(at, 't')?.0 + 1)
    }

    /// Whether a condition holds at an element.
    pub(super) fn holds(&self, atom: &Atom, at: &[usize]) -> bool {
        let pair = |holds: &dyn Fn(usize, usize) -> bool| match (self.index(at, 'i'), self.index(at, 'j')) {
            (Some((i, _)), Some((j, _))) => holds(i, j),
            _ => false,
        };
        let gate =
            || self.index(at, 'j').filter(|_| self.gates).map(|(j, size)| (j / (size / 3), j % (size / 3), size / 3));
        match atom {
            Atom::Index(letter, test) => self.index(at, *letter).is_some_and(|(index, size)| test.holds(index, size)),
            Atom::Unit(test) => gate().is_some_and(|(_, unit, hidden)| test.holds(unit, hidden)),
            Atom::Gate(which) => gate().is_some_and(|(gate, ..)| gate == *which),
            Atom::OtherGates(which) => gate().is_some_and(|(gate, ..)| gate != *which),
            Atom::LastToken => {
                self.length(at).is_some_and(|length| self.index(at, 't').is_some_and(|(t, _)| t + 1 == length))
            }
            Atom::NotLastToken => {
                self.length(at).is_some_and(|length| self.index(at, 't').is_some_and(|(t, _)| t + 1 < length))
            }
            Atom::FullRow => self.length(at) == Some(self.case.graph.steps),
            Atom::ShortRow => self.length(at).is_some_and(|length| length < self.case.graph.steps),
            Atom::LongRow => self.length(at).is_some_and(|length| length > 1),
            Atom::OneToken => self.length(at) == Some(1),
            Atom::Length(test) => self.length(at).is_some_and(|length| test.holds(length, self.case.graph.steps + 1)),
            Atom::Missing(test) => {
                let steps = self.case.graph.steps;
                self.length(at).is_some_and(|length| test.holds(steps.saturating_sub(length), steps + 1))
            }
            Atom::Row(test) => {
                let rows = self.shape.len().saturating_sub(1);
                let flat = at[..rows].iter().zip(&self.shape).fold(0, |flat, (&k, &size)| flat * size + k);
                rows > 1 && test.holds(flat, self.shape[..rows].iter().product())
            }
            Atom::Running(test) => match (self.index(at, 'b'), self.index(at, 't')) {
                (Some((b, _)), Some((t, _))) => {
                    let lengths = &self.case.graph.lengths;
                    let running = |rows: &[usize]| rows.iter().filter(|&&length| t < length).count();
                    lengths.get(b).is_some_and(|&length| t < length)
                        && test.holds(running(&lengths[..b]), running(lengths))
                }
                _ => false,
            },
            Atom::TileDiagonal(n) => pair(&|i, j| i % n == j % n),
            Atom::Parts(parts) => match (self.index(at, 'i'), self.index(at, 'j')) {
                (Some(i), Some(j)) => parts.holds(i, j),
                _ => false,
            },
            Atom::Diagonal => pair(&|i, j| i == j),
            Atom::OffDiagonal => pair(&|i, j| i != j),
            Atom::Above => pair(&|i, j| i < j),
            Atom::Below => pair(&|i, j| i > j),
            Atom::Repeated => self.word(at).is_some_and(|word| self.counts.get(&word).is_some_and(|&n| n > 1)),
            Atom::Single => self.word(at).is_some_and(|word| self.counts.get(&word) == Some(&1)),
            Atom::Word(test) => self.word(at).is_some_and(|word| test.holds(word, self.words)),
            Atom::LargestWord => {
                self.counts.last_key_value().is_some_and(|(largest, _)| self.word(at) == Some(*largest))
            }
            Atom::Fact(fact) => self.facts.contains(fact),
            Atom::NotFact(fact) => !self.facts.contains(fact),
            Atom::Size(letter, from) => {
                self.letters.iter().position(|l| l == letter).is_some_and(|k| self.shape[k] >= *from)
            }
            Atom::Divides(n, letter, is) => self.sizes.get(letter).is_some_and(|size| size.is_multiple_of(*n) == *is),
            Atom::Fewer(letter, than) => {
                self.letters.iter().position(|l| l == letter).is_some_and(|k| self.shape[k] < *than)
            }
            Atom::After(test) => self.after(at).is_some_and(|after| test.holds(after, self.case.graph.steps)),
            Atom::Beyond(letter, other) => self
                .index(at, *letter)
                .is_some_and(|(index, _)| self.sizes.get(other).is_some_and(|&size| index >= size)),
            Atom::OutsideTransposed => match (at, &self.shape[..]) {
                (&[row, column], &[rows, columns]) => row >= columns || column >= rows,
                _ => false,
            },
            // They are read off, not tried.
            Atom::Less(..) | Atom::AtLeast(..) => false,
        }
    }
}

/// What is true of a whole site, as the end of "only in …".
fn facts(case: &Case<'_>, kind: &str, part: &str) -> Vec<String> {
    let mut facts = vec![format!("the program {}", case.golden.entry.program.name())];
    let settings = &case.settings;
    let size = |name: &str, axis: usize| case.golden.inputs.get(name).and_then(|x| x.shape().get(axis).copied());
    let program = case.golden.entry.program;
    let keys = program.keys();
    facts.extend(facts_of_settings(settings, keys));
    if kind == "gru" {
        let layer: usize = part.parse().unwrap_or(0);
        facts.push(if layer == 0 { "layer 0".into() } else { "layers above 0".into() });
        facts.push(format!("layer {layer} of {}", settings.num_layers));
        facts.push(if layer + 1 == settings.num_layers {
            "the top layer".into()
        } else {
            "layers below the top".into()
        });
        facts.push(if settings.num_layers == 1 {
            "cases with one layer".into()
        } else {
            "cases with two layers or more".into()
        });
        if case.golden.inputs.contains_key("in.h0") || case.golden.inputs.contains_key("in.h") {
            facts.push("cases with a given h₀".into());
        } else {
            facts.push("cases without a given h₀".into());
        }
        let hidden = size(&format!("param.txt_enc.rnn.weight_hh_l{layer}"), 1);
        let inputs = size(&format!("param.txt_enc.rnn.weight_ih_l{layer}"), 1);
        if hidden == inputs {
            facts.push("cases where E = H".into());
        }
        if let (Some(hidden), Some(inputs)) = (hidden, inputs)
            && inputs == 3 * hidden
        {
            facts.push("cases where E = 3H".into());
        }
    } else if !part.is_empty() {
        facts.extend(end_of_parameters(case, kind, part));
        facts.push(match part {
            "image" => "the image side".into(),
            "caption" => "the caption side".into(),
            other => format!("the tensor {other}"),
        });
    }
    let batch =
        ["in.x", "in.captions", "in.scores", "in.images", "in.image_embedding"].iter().find_map(|name| size(name, 0));
    facts.push(if batch == Some(1) { "cases with B = 1".into() } else { "cases with B > 1".into() });
    if let Some(lengths) = case.golden.inputs.get("in.lengths") {
        let (least, most) = lengths.iter().fold((f64::INFINITY, 0.0f64), |(a, b), &x| (a.min(x), b.max(x)));
        facts.push(if least.total_cmp(&most).is_eq() {
            "cases of equal lengths".into()
        } else {
            "cases of different lengths".into()
        });
        let sorted = lengths.iter().zip(lengths.iter().skip(1)).all(|(a, b)| a >= b);
        facts.push(if sorted { "cases sorted by length".into() } else { "cases that are not sorted by length".into() });
        if most < 2.0 {
            facts.push("cases with T = 1".into());
        }
    }
    if keys.contains(&"steps") && settings.steps > 1 {
        facts.push("cases of several steps".into());
    }
    if program == crate::golden::program::Program::Optimiser {
        facts.push(if case.golden.inputs.contains_key("in.step") {
            "resumed cases".into()
        } else {
            "cases that begin anew".into()
        });
        facts.push(if settings.grad_clip > 0.0 {
            "cases with clipping".into()
        } else {
            "cases without clipping".into()
        });
    }
    facts
}

/// What is true of the settings that a program has.
fn facts_of_settings(settings: &Settings, keys: &[&str]) -> Vec<String> {
    let mut facts = Vec::new();
    let mut flag = |key: &str, value: bool| {
        if keys.contains(&key) {
            facts.push(format!("cases {} {key}", if value { "with" } else { "without" }));
        }
    };
    flag("max_violation", settings.max_violation);
    flag("mask_same_image", settings.mask_same_image);
    flag("use_abs", settings.use_abs);
    flag("no_imgnorm", settings.no_imgnorm);
    flag("caption_projection", settings.caption_projection);
    flag("padding", settings.padding > 0);
    flag("training", settings.training);
    flag("stride", settings.stride > 1);
    if keys.contains(&"max_violation") {
        match settings.hinge().violation {
            Violation::Hardest(_) => facts.push("cases with hardest > 1".into()),
            Violation::LogSumExp(_) => facts.push("cases with a temperature".into()),
            Violation::SemiHard => facts.push("cases with semi_hard".into()),
            Violation::Sum | Violation::Max => {}
        }
        if !matches!(settings.hinge().violation, Violation::LogSumExp(_)) {
            facts.push("cases without a temperature".into());
        }
    }
    if keys.contains(&"margin") {
        facts.push(
            if settings.margin == 0.0 { "cases with a margin of 0" } else { "cases with a margin above 0" }.into(),
        );
    }
    if keys.contains(&"measure") {
        facts.push(format!("cases with measure = {}", settings.measure));
    }
    facts
}

/// Whether a group of the optimiser is that of the first or the last parameter, in the order of the model or by name.
fn end_of_parameters(case: &Case<'_>, kind: &str, part: &str) -> Vec<String> {
    let groups = case.graph.groups.iter().filter(|group| group.kind == "adam" && kind == "adam");
    let parts: Vec<&str> = groups.map(|group| group.part.as_str()).collect();
    let mut sorted = parts.clone();
    sorted.sort_unstable();
    let mut facts = Vec::new();
    for (parts, order) in [(parts, ""), (sorted, " by name")] {
        facts.extend((parts.first() == Some(&part)).then(|| format!("the first parameter{order}")));
        facts.extend((parts.last() == Some(&part)).then(|| format!("the last parameter{order}")));
    }
    facts
}

/// The letters along which a factor may be read elsewhere.
pub(super) fn plain_axes(factor: &Factor) -> impl Iterator<Item = (usize, char)> {
    factor
        .axes
        .iter()
        .enumerate()
        .filter(|(_, axis)| matches!(axis.at, At::Shift(_)))
        .map(|(place, axis)| (place, axis.letter))
}
