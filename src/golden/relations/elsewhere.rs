//! Other places than those that are meant: along an axis, or in a sequence of tokens.

use std::fmt;

use ndarray::Array2;

/// Another place along an axis, as a function of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jump {
    /// The same.
    Same,
    /// This many places before; there is none before the first.
    Back(usize),
    /// The place modulo this, or divided by it.
    Modulo(usize),
    Over(usize),
    /// The first or the last of its group of this many.
    GroupFirst(usize),
    GroupLast(usize),
    /// Beyond the last whole group of this many: the last place of that group.
    Clamped(usize),
    /// Beyond the last whole group: as if a group began there that is moved back to end at the end.
    MovedBack(usize),
    /// With this bit the other way round.
    Xor(usize),
    /// From the end to the beginning in each whole group of this many.
    Mirrored(usize),
    /// One place, or half of all, before; before the first comes the last.
    Rolled,
    HalfRolled,
    /// Three blocks, one after another, as if they were stored unit by unit; and the other way round.
    Interleaved,
    Separated,
}

impl Jump {
    /// All but the same, with what a sentence with them costs.
    pub(crate) fn all() -> impl Iterator<Item = (Self, f64)> {
        let of = |sizes: &'static [usize], jump: fn(usize) -> Self, cost| sizes.iter().map(move |&n| (jump(n), cost));
        of(&[4, 8, 16, 32, 64], Self::Back, 1.6)
            .chain(of(&[8, 16, 32, 64], Self::Modulo, 1.5))
            .chain(of(&[2, 4], Self::Over, 1.6))
            .chain(of(&[2, 4, 8, 16, 32], Self::GroupFirst, 1.6))
            .chain(of(&[2, 4, 8, 16, 32], Self::GroupLast, 1.65))
            .chain(of(&[4, 8, 16, 32], Self::Clamped, 1.5))
            .chain(of(&[4, 8, 16, 32], Self::MovedBack, 1.55))
            .chain(of(&[1, 2, 4, 8], Self::Xor, 1.5))
            .chain(of(&[4, 8, 16, 32], Self::Mirrored, 1.6))
            .chain([(Self::Rolled, 1.5), (Self::HalfRolled, 1.5)])
    }

    /// The place that a place becomes, along an axis of a size.
    pub(crate) fn of(self, k: usize, size: usize) -> Option<usize> {
        Some(match self {
            Self::Back(n) => return k.checked_sub(n),
            Self::Modulo(n) => k % n,
            Self::Over(n) => k / n,
            Self::GroupFirst(n) => k / n * n,
            Self::GroupLast(n) => (k / n * n + n - 1).min(size - 1),
            Self::Clamped(n) if size >= n => k.min(size / n * n - 1),
            Self::MovedBack(n) if size >= n && k >= size / n * n => size - n + k % n,
            Self::Xor(n) if k ^ n < size => k ^ n,
            Self::Mirrored(n) if k < size / n * n => k / n * n + n - 1 - k % n,
            Self::Rolled => (k + size - 1) % size,
            Self::HalfRolled => (k + size / 2) % size,
            Self::Interleaved if size.is_multiple_of(3) => k % 3 * (size / 3) + k / 3,
            Self::Separated if size.is_multiple_of(3) => k % (size / 3) * 3 + k / (size / 3),
            Self::Same
            | Self::Clamped(_)
            | Self::MovedBack(_)
            | Self::Xor(_)
            | Self::Mirrored(_)
            | Self::Interleaved
            | Self::Separated => k,
        })
    }

    pub(crate) fn says(self, place: &str) -> String {
        match self {
            Self::Same => place.into(),
            Self::Back(n) => format!("{place} − {n}"),
            Self::Modulo(n) => format!("{place} modulo {n}"),
            Self::Over(n) => format!("⌊{place} / {n}⌋"),
            Self::GroupFirst(n) => format!("the first {place} of each group of {n}"),
            Self::GroupLast(n) => format!("the last {place} of each group of {n}"),
            Self::Clamped(n) => format!("{place} cut to whole groups of {n}"),
            Self::MovedBack(n) => format!("{place}, a last group of {n} moved back to end at the end"),
            Self::Xor(n) => format!("{place} xor {n}"),
            Self::Mirrored(n) => format!("{place} mirrored in groups of {n}"),
            Self::Rolled => format!("{place} − 1, the last for the first"),
            Self::HalfRolled => format!("{place} moved by half of all, in a circle"),
            Self::Interleaved => format!("{place} of blocks that are interleaved unit by unit"),
            Self::Separated => format!("{place} of interleaved units that lie block by block"),
        }
    }
}

/// In which order tokens are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// b T + t, and t B + b.
    Rows,
    Steps,
    /// Row by row, and step by step with the longest row first, without what comes after the end of a row.
    Joined,
    Packed,
    /// Among the rows that run at its step.
    Running,
}

impl Order {
    pub(crate) const ALL: [Self; 5] = [Self::Rows, Self::Steps, Self::Joined, Self::Packed, Self::Running];

    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Rows => "b T + t",
            Self::Steps => "t B + b",
            Self::Joined => "number among the tokens, row by row",
            Self::Running => "number among the rows that still run at their step",
            Self::Packed => "number among the tokens, step by step, the longest row first",
        }
    }

    /// The places (b, t) of all tokens, in this order.
    fn places(self, lengths: &[usize], steps: usize) -> Vec<(usize, usize)> {
        let rows = lengths.len();
        let mut all: Vec<(usize, usize)> = match self {
            Self::Rows | Self::Joined => (0..rows).flat_map(|b| (0..steps).map(move |t| (b, t))).collect(),
            Self::Steps | Self::Running => (0..steps).flat_map(|t| (0..rows).map(move |b| (b, t))).collect(),
            Self::Packed => {
                let sorted = by_falling_length(lengths);
                (0..steps).flat_map(|t| sorted.clone().into_iter().map(move |b| (b, t))).collect()
            }
        };
        if matches!(self, Self::Joined | Self::Packed) {
            all.retain(|&(b, t)| t < lengths[b]);
        }
        all
    }

    /// The number of each token, and of how many; those after the end of a row have none if they do not count.
    pub(crate) fn numbers(self, lengths: &[usize], steps: usize) -> Array2<Option<(usize, usize)>> {
        let rows = lengths.len();
        if self == Self::Running {
            let runs = |b: usize, t: usize| t < lengths[b];
            let running = |rows: usize, t: usize| (0..rows).filter(|&row| runs(row, t)).count();
            return Array2::from_shape_fn((rows, steps), |(b, t)| {
                runs(b, t).then(|| (running(b, t), running(rows, t)))
            });
        }
        let all = self.places(lengths, steps);
        let mut numbers = Array2::from_elem((rows, steps), None);
        all.iter().enumerate().for_each(|(number, &at)| numbers[at] = Some((number, all.len())));
        numbers
    }
}

/// A token in the place of another: that with a number which follows from the number of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The order in which the other is numbered, and that in which it is looked up.
    pub order: Order,
    pub jump: Jump,
    pub read: Order,
}

impl Token {
    /// All of them, with what a sentence with them costs.
    pub(crate) fn all() -> impl Iterator<Item = (Self, f64)> {
        let orders = [Order::Rows, Order::Steps, Order::Packed, Order::Joined];
        let jumps = || [(Jump::Back(1), 1.5)].into_iter().chain(Jump::all());
        let one = orders
            .into_iter()
            .flat_map(move |order| jumps().map(move |(jump, cost)| (Self { order, jump, read: order }, cost + 0.2)));
        let two = orders.into_iter().flat_map(move |order| orders.map(|read| (order, read)));
        let two = two.filter(|(order, read)| order != read);
        one.chain(two.map(|(order, read)| (Self { order, jump: Jump::Same, read }, 1.5)))
    }

    /// The name of the ids that tokens have if each takes that of another.
    pub(crate) fn ids(self) -> String {
        format!("id of token {self}")
    }

    /// The row and the step of the token that each becomes; none where there is no such token.
    pub(crate) fn of(self, lengths: &[usize], steps: usize) -> Array2<Option<(usize, usize)>> {
        let places = self.read.places(lengths, steps);
        let of = |number: Option<(usize, usize)>| {
            let (number, count) = number?;
            places.get(self.jump.of(number, count)?).copied()
        };
        self.order.numbers(lengths, steps).mapv(of)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.jump.says(&format!("({})", self.order.says())))?;
        if self.read == self.order { Ok(()) } else { write!(f, " for ({})", self.read.says()) }
    }
}

/// Parts of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Groups of this many.
    Groups(usize),
    /// Two halves; of an odd size the second, or the first, is the larger.
    Halves,
    HalvesRoundedUp,
}

impl Parts {
    pub(crate) const ALL: [Self; 12] = [
        Self::Groups(1),
        Self::Groups(2),
        Self::Groups(4),
        Self::Groups(8),
        Self::Groups(16),
        Self::Groups(32),
        Self::Groups(64),
        Self::Groups(3),
        Self::Groups(5),
        Self::Groups(10),
        Self::Halves,
        Self::HalvesRoundedUp,
    ];

    fn of(self, k: usize, size: usize) -> usize {
        match self {
            Self::Groups(n) => k / n,
            Self::Halves => usize::from(k >= size / 2),
            Self::HalvesRoundedUp => usize::from(k >= size.div_ceil(2)),
        }
    }
}

/// What two indices have to do with each other: the part of the one against that of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub parts: Parts,
    /// In the same part, or (if not) in another one, an earlier one, a later one.
    pub order: Option<std::cmp::Ordering>,
}

impl Pair {
    /// All of them but those that say which is larger and no more.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let orders = [Some(Equal), None, Some(Less), Some(Greater)];
        Parts::ALL.into_iter().flat_map(move |parts| orders.map(|order| Self { parts, order }))
    }

    /// Each with its size.
    pub(crate) fn holds(self, one: (usize, usize), other: (usize, usize)) -> bool {
        let order = self.parts.of(one.0, one.1).cmp(&self.parts.of(other.0, other.1));
        self.order.map_or(order.is_ne(), |wanted| wanted == order)
    }

    pub(crate) fn says(self, one: &str, other: &str) -> String {
        let (part, numbers) = match self.parts {
            Parts::Groups(1) => {
                let sign = match self.order {
                    None => '≠',
                    Some(order) if order.is_eq() => '=',
                    Some(order) if order.is_lt() => '<',
                    Some(_) => '>',
                };
                return format!("{one} {sign} {other}");
            }
            Parts::Groups(n) => ("group", format!("groups of {n}")),
            Parts::Halves => ("half", "halves, the second the larger".into()),
            Parts::HalvesRoundedUp => ("half", "halves, the first the larger".into()),
        };
        match self.order {
            None => format!("{one} in another {part} than {other} ({numbers})"),
            Some(order) if order.is_eq() => format!("{one} in the same {part} as {other} ({numbers})"),
            Some(order) if order.is_lt() => format!("{one} in an earlier {part} than {other} ({numbers})"),
            Some(_) => format!("{one} in a later {part} than {other} ({numbers})"),
        }
    }
}

/// How many places a letter of the result has, to be compared with one of the summands: of the 3H rows of a GRU, the
/// units.
pub(crate) fn units(letter: char, size: usize, summands: usize) -> usize {
    if letter == 'j' && size == 3 * summands { summands } else { size }
}

/// Rows in the order of falling lengths; equal ones keep their order.
pub(crate) fn by_falling_length(lengths: &[usize]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    rows
}
