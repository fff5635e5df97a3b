//! Relations as data: `out[b,k] = g(± term ± term …)`, a term a product of leaves, summed over the letters that
//! the left side does not have.
//!
//! ```text
//! n[b,t,k]    = tanh(a.n[b,t,k] + r[b,t,k] c.n[b,t,k])
//! d.W_hh[j,k] = d.c[b,t,j] h[b,t-1,k]
//! d.W[id(b,t),e] = d.words[b,t,e]
//! ```
//!
//! `a.n` is the block of the gate n, `(1-z)` a function of a leaf, `h[b,t-1,k]` the state before the step (h₀ before
//! the first), `id(b,t)` an index that is read from another tensor. A number is a leaf without letters.

use std::fmt;

use super::elsewhere::{Jump, Token};
use crate::golden::arithmetic::Rounding;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    Identity,
    Sigmoid,
    Tanh,
    Relu,
    Abs,
    Sign,
    Square,
    Root,
    /// −√x
    MinusRoot,
    /// 1 − x
    Complement,
    /// x (1 − x), the derivative of σ by its value.
    SigmoidSlope,
    /// 1 − x², the derivative of tanh by its value.
    TanhSlope,
    /// The derivatives of σ and tanh at x.
    SigmoidSlopeAt,
    TanhSlopeAt,
    /// 1 / x
    Inverse,
    /// 1 / x, 0 where x is 0.
    InverseOrZero,
    /// 1 / (x + 1e-6)
    InverseEpsilon,
    /// min(1, x)
    AtMostOne,
    /// √x + 1e-8
    RootPlusEpsilon,
    /// √(x + 1e-8)
    RootOfEpsilon,
    /// 1 where x > 0.
    Positive,
    /// 1 where x ≥ 0.
    NotNegative,
    /// x cut off at 0 and 1, and at −1 and 1.
    Saturate,
    HardTanh,
    /// log(1 + eˣ)
    Softplus,
    /// clip(0.2 x + 0.5, 0, 1)
    HardSigmoid,
    /// clip(x / 6 + 0.5, 0, 1)
    HardSigmoidSix,
    /// x (27 + x²) / (27 + 9 x²), as it is and with x cut off at −3 and 3: approximations of tanh.
    TanhRational,
    TanhRationalCut,
    /// x / (1 + |x|), and ½ + ½ x / (1 + |x|).
    Softsign,
    SoftsignGate,
    Exp,
    /// ln x
    Log,
}

use Function as F;

impl Function {
    /// Each with its text; `@` is the argument.
    const TEXTS: [(Self, &'static str); 33] = [
        (F::Identity, "@"),
        (F::Sigmoid, "σ(@)"),
        (F::Tanh, "tanh(@)"),
        (F::Relu, "relu(@)"),
        (F::Abs, "|@|"),
        (F::Sign, "sign(@)"),
        (F::Square, "@²"),
        (F::Root, "√(@)"),
        (F::MinusRoot, "-√(@)"),
        (F::Complement, "(1-@)"),
        (F::SigmoidSlope, "@(1-@)"),
        (F::TanhSlope, "(1-@²)"),
        (F::SigmoidSlopeAt, "σ'(@)"),
        (F::TanhSlopeAt, "tanh'(@)"),
        (F::Inverse, "1/@"),
        (F::InverseOrZero, "[@≠0]/@"),
        (F::InverseEpsilon, "1/(@+1e-6)"),
        (F::AtMostOne, "min1(@)"),
        (F::RootPlusEpsilon, "√ε(@)"),
        (F::RootOfEpsilon, "√(@+1e-8)"),
        (F::Positive, "[@>0]"),
        (F::NotNegative, "[@≥0]"),
        (F::Saturate, "clip01(@)"),
        (F::HardTanh, "clip11(@)"),
        (F::Softplus, "log(1+exp(@))"),
        (F::HardSigmoid, "clip(0.2@+0.5)"),
        (F::HardSigmoidSix, "clip(@/6+0.5)"),
        (F::TanhRational, "@(27+@²)/(27+9@²)"),
        (F::TanhRationalCut, "rational(@)"),
        (F::Softsign, "@/(1+|@|)"),
        (F::SoftsignGate, "(1+@/(1+|@|))/2"),
        (F::Exp, "exp(@)"),
        (F::Log, "ln(@)"),
    ];

    /// All of them but those of (LSE-1) alone.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::TEXTS.iter().map(|&(function, _)| function).filter(|function| !matches!(function, F::Exp | F::Log))
    }

    fn text(self) -> &'static str {
        Self::TEXTS.iter().find(|(function, _)| *function == self).map_or("@", |(_, text)| text)
    }

    /// The function of an argument, as people write it.
    pub(crate) fn of(self, argument: &str) -> String {
        match self {
            F::RootPlusEpsilon => format!("(√{argument} + 1e-8)"),
            F::AtMostOne => format!("min(1, {argument})"),
            F::Saturate => format!("min(1, max(0, {argument}))"),
            F::HardTanh => format!("min(1, max(−1, {argument}))"),
            F::TanhRationalCut => format!("u(27 + u²)/(27 + 9u²) with u = {argument}, cut off at −3 and 3"),
            _ => self.text().replace('@', argument).replace("(1-", "(1 − "),
        }
    }

    /// Where a term of its argument is, if it is a function.
    pub(crate) fn inside(self) -> String {
        if self == F::Identity { String::new() } else { format!(" in the argument of {}", self.of("x")) }
    }

    /// Its value.
    pub(crate) fn at(self, x: f64) -> f64 {
        use crate::real::Scalar;
        match self {
            F::Identity => x,
            F::Sigmoid => x.sigmoid(),
            F::Tanh => Scalar::tanh(x),
            F::Relu => {
                if x > 0.0 || x.is_nan() {
                    x
                } else {
                    0.0
                }
            }
            F::Abs => x.abs(),
            F::Sign => {
                if x == 0.0 || x.is_nan() {
                    x
                } else {
                    x.signum()
                }
            }
            F::Square => x * x,
            F::Root => x.sqrt(),
            F::MinusRoot => -x.sqrt(),
            F::Complement => 1.0 - x,
            F::SigmoidSlope => x * (1.0 - x),
            F::TanhSlope => 1.0 - x * x,
            F::SigmoidSlopeAt => F::SigmoidSlope.at(x.sigmoid()),
            F::TanhSlopeAt => F::TanhSlope.at(Scalar::tanh(x)),
            F::Inverse => 1.0 / x,
            F::InverseOrZero => {
                if x == 0.0 {
                    0.0
                } else {
                    1.0 / x
                }
            }
            F::InverseEpsilon => 1.0 / (x + 1e-6),
            F::AtMostOne => {
                if x > 1.0 {
                    1.0
                } else {
                    x
                }
            }
            F::RootPlusEpsilon => x.sqrt() + 1e-8,
            F::RootOfEpsilon => (x + 1e-8).sqrt(),
            F::Positive => f64::from(u8::from(x > 0.0)),
            F::NotNegative => f64::from(u8::from(x >= 0.0)),
            F::Saturate => x.clamp(0.0, 1.0),
            F::HardTanh => x.clamp(-1.0, 1.0),
            F::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            F::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
            F::HardSigmoidSix => (x / 6.0 + 0.5).clamp(0.0, 1.0),
            F::TanhRational => x * (27.0 + x * x) / (27.0 + 9.0 * x * x),
            F::TanhRationalCut => F::TanhRational.at(x.clamp(-3.0, 3.0)),
            F::Softsign => x / (1.0 + x.abs()),
            F::SoftsignGate => 0.5 + 0.5 * F::Softsign.at(x),
            F::Exp => libm::exp(x),
            F::Log => libm::log(x),
        }
    }

    /// Its derivative; 0 where it jumps.
    pub(crate) fn slope(self, x: f64) -> f64 {
        use crate::real::Scalar;
        let when = |holds: bool| f64::from(u8::from(holds));
        match self {
            F::Identity => 1.0,
            F::Sigmoid => F::SigmoidSlopeAt.at(x),
            F::Tanh => F::TanhSlopeAt.at(x),
            F::Relu => when(x > 0.0),
            F::Abs => F::Sign.at(x),
            F::Square => 2.0 * x,
            F::Root | F::RootPlusEpsilon if x > 0.0 => 0.5 / x.sqrt(),
            F::MinusRoot if x > 0.0 => -0.5 / x.sqrt(),
            F::Complement => -1.0,
            F::SigmoidSlope => 1.0 - 2.0 * x,
            F::TanhSlope => -2.0 * x,
            F::SigmoidSlopeAt => F::SigmoidSlopeAt.at(x) * (1.0 - 2.0 * x.sigmoid()),
            F::TanhSlopeAt => -2.0 * Scalar::tanh(x) * F::TanhSlopeAt.at(x),
            F::Inverse => -1.0 / (x * x),
            F::InverseOrZero if x != 0.0 => -1.0 / (x * x),
            F::InverseEpsilon => -1.0 / ((x + 1e-6) * (x + 1e-6)),
            F::AtMostOne => when(x <= 1.0),
            F::RootOfEpsilon => 0.5 / (x + 1e-8).sqrt(),
            F::Saturate => when(x > 0.0 && x < 1.0),
            F::HardTanh => when(x.abs() < 1.0),
            F::Softplus => x.sigmoid(),
            F::HardSigmoid => 0.2 * when((0.2 * x + 0.5).abs() < 1.0 && 0.2 * x + 0.5 > 0.0),
            F::HardSigmoidSix => when((x / 6.0 + 0.5).abs() < 1.0 && x / 6.0 + 0.5 > 0.0) / 6.0,
            F::TanhRational => {
                let (square, below) = (x * x, 27.0 + 9.0 * x * x);
                (27.0 + 3.0 * square) / below - 18.0 * square * (27.0 + square) / (below * below)
            }
            F::TanhRationalCut => when(x.abs() < 3.0) * F::TanhRational.slope(x),
            F::Softsign => 1.0 / ((1.0 + x.abs()) * (1.0 + x.abs())),
            F::SoftsignGate => 0.5 * F::Softsign.slope(x),
            F::Exp => libm::exp(x),
            F::Log if x > 0.0 => 1.0 / x,
            F::Sign
            | F::Positive
            | F::NotNegative
            | F::Root
            | F::MinusRoot
            | F::InverseOrZero
            | F::RootPlusEpsilon
            | F::Log => 0.0,
        }
    }
}

/// Where along an axis a leaf is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum At {
    /// At the letter plus this. Along t, the state before the first step is h₀; everything else outside is 0.
    Shift(isize),
    /// At the first or the last place, whatever the letter is.
    First,
    Last,
    /// From the end to the beginning (along t: of each row's own length).
    Reversed,
    /// Rows in the order of falling lengths; the permutation that sorts them is taken this many times, backwards if
    /// negative.
    Sorted(isize),
    /// Rows of one length in the opposite order.
    TiesReversed,
    /// The row that has this number among those that still run at the step, 0 where there is none; or the other way
    /// round, the row with the number that this one has there.
    Running,
    NumberOfRunning,
    /// The first row that still runs.
    FirstRunning,
    /// The row that had at the step before the number that this one has.
    SameNumberBefore,
    /// At a function of the index, or at one place for all.
    By(Jump),
    Is(usize),
    /// The row, or the step, of another token.
    Token(Token),
    /// At the index that a tensor of these letters holds.
    Through(String, Vec<char>),
}

/// One axis of a leaf.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// The letter; of an index that is read from a tensor, the letter of the range.
    pub letter: char,
    pub at: At,
}

/// What the state before the first step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    Given,
    Zero,
    One,
    /// The last state of the row in the layer below.
    LastBelow,
    /// That of another layer.
    Of(Layer),
    /// From all of them as if they lay row by row, the layers of each in turn.
    BatchFirst,
}

/// Another layer of a GRU, or of a layer that has none in this place the layer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    First,
    Top,
    Below,
    Above,
    /// Counted from the top.
    Mirrored,
}

impl Layer {
    /// Each with what the names of its leaves begin with, and what it is called.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::First, "first", "layer 0"),
        (Self::Top, "top", "the top layer"),
        (Self::Below, "below", "the layer below"),
        (Self::Above, "up", "the layer above"),
        (Self::Mirrored, "mirrored", "the layer with the same number counted from the top"),
    ];

    /// The layer that it is for layer `k`, of so many.
    pub(crate) fn of(self, k: usize, layers: usize) -> usize {
        match self {
            Self::First => 0,
            Self::Top => layers - 1,
            Self::Below => k.saturating_sub(1),
            Self::Above => (k + 1).min(layers - 1),
            Self::Mirrored => layers - 1 - k,
        }
    }

    /// Whether a leaf is one of another layer.
    pub(crate) fn is_of_another(short: &str) -> bool {
        Self::ALL.iter().any(|(_, begin, _)| short.strip_prefix(begin).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The name of a leaf of this layer.
    pub(crate) fn leaf(self, short: &str) -> String {
        let begin = Self::ALL.iter().find(|(layer, ..)| *layer == self).map_or("", |(_, begin, _)| begin);
        format!("{begin}.{short}")
    }
}

/// A leaf that is changed before its function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Argument {
    Rounded(Rounding),
    /// A number, whatever x is.
    Is(f64),
    /// x + ε, and ±√(x² + ε)
    Plus(f64),
    RootOfSquarePlus(f64),
    /// max(x, c), min(x, c), and x cut off at −c and c
    AtLeast(f64),
    AtMost(f64),
    Within(f64),
}

impl Argument {
    pub(crate) const KEPT: Self = Self::Rounded(Rounding::Exact);

    pub(crate) fn at(self, x: f64) -> f64 {
        match self {
            Self::Rounded(rounding) => rounding.round(x),
            Self::Is(value) => value,
            Self::Plus(more) => x + more,
            Self::RootOfSquarePlus(more) => (x * x + more).sqrt().copysign(x),
            Self::AtLeast(least) => x.max(least),
            Self::AtMost(most) => x.min(most),
            Self::Within(most) => x.min(most).max(-most),
        }
    }
}

/// How the two axes of a leaf lie in memory, or the blocks of its last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Own,
    /// With its two strides exchanged.
    Exchanged,
    /// Each of the three square blocks is transposed.
    BlocksTurned,
    /// With the number of rows as the stride of a row; after the end it goes on at the beginning.
    RowsAsStride,
    /// As if rows, or the blocks of a row, were padded to a multiple of this; 0 after the end.
    Padded(usize),
    /// The beginning of each row is rounded down to a multiple of this.
    Aligned(usize),
    /// The blocks of a row as if they lay unit by unit.
    Interleaved,
    /// A block so many elements after its beginning, within the row.
    Offset(isize),
}

/// A leaf, read at letters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Factor {
    pub function: Function,
    /// The leaf's short name in its group of equations.
    pub leaf: String,
    /// One of the three gates' blocks of the last axis.
    pub block: Option<usize>,
    pub axes: Vec<Axis>,
    /// The state before the first step.
    pub initial: Initial,
    /// Whether what is written after the end of a row is read too.
    pub padding: bool,
    pub reading: Reading,
    /// The order in which the three blocks of its first axis are read.
    pub order: [usize; 3],
    pub rounding: Rounding,
    /// What is done to the leaf before the function.
    pub argument: Argument,
}

/// ± c · Π factors
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    pub coefficient: f64,
    pub factors: Vec<Factor>,
}

/// A relation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Relation {
    pub out: Factor,
    pub function: Function,
    /// Instead of the sum over the letters that the left side does not have, the index of the largest value of the
    /// last factor, the first: where the others are positive, or else among the positive ones; −1 if there is none.
    pub argmax: bool,
    pub terms: Vec<Term>,
    /// How the result is rounded.
    pub rounding: Rounding,
}

impl Term {
    /// The letters of its factors.
    pub(crate) fn letters(&self) -> Vec<char> {
        self.factors.iter().flat_map(Factor::letters).collect()
    }
}

impl Factor {
    pub(super) fn named(leaf: &str, block: Option<usize>, axes: Vec<Axis>) -> Self {
        Self {
            function: F::Identity,
            leaf: leaf.into(),
            block,
            axes,
            initial: Initial::Given,
            padding: false,
            reading: Reading::Own,
            order: [0, 1, 2],
            rounding: Rounding::Exact,
            argument: Argument::KEPT,
        }
    }

    /// Its letters, those of a tensor that gives an index in the place of the index.
    pub(crate) fn letters(&self) -> Vec<char> {
        let mut letters = Vec::new();
        for axis in &self.axes {
            let own: &[char] = match &axis.at {
                At::Through(_, letters) => letters,
                At::First | At::Last | At::Is(_) => &[],
                _ => &[axis.letter],
            };
            for &letter in own {
                if !letters.contains(&letter) {
                    letters.push(letter);
                }
            }
        }
        letters
    }

    /// The tensors that give an index, and their letters.
    pub(crate) fn through(&self) -> impl Iterator<Item = (&String, &Vec<char>)> {
        self.axes.iter().filter_map(|axis| match &axis.at {
            At::Through(tensor, letters) => Some((tensor, letters)),
            _ => None,
        })
    }

    /// The name with its block.
    pub(crate) fn name(&self) -> String {
        match self.block {
            Some(block) => format!("{}.{}", self.leaf, GATES[block]),
            None => self.leaf.clone(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.parse::<f64>().is_ok() {
            return None;
        }
        let (head, index) = text
            .strip_suffix(']')
            .and_then(|text| text.rsplit_once('['))
            .unwrap_or_else(|| panic!("{text}: expected name[letters]"));
        // W_ih{zrn}: the blocks in another order; {T}: each of them transposed; {0}, {1}: another initial state.
        let (head, option) = match head.split_once('{') {
            Some((before, rest)) => {
                let (option, after) = rest.split_once('}').expect("closed");
                (format!("{before}{after}"), Some(option))
            }
            None => (head.to_owned(), None),
        };
        let head = head.as_str();
        let named = Function::TEXTS.iter().find_map(|&(function, text)| {
            let rest = head.strip_prefix(text.split('@').next()?)?;
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "._".contains(*c)).collect();
            (text.replace('@', &name) == head).then_some((function, name))
        });
        let (function, name) = named.unwrap_or_else(|| panic!("{text}: no such function"));
        let mut axes = Vec::new();
        let mut rest = index;
        while !rest.is_empty() {
            let end = match (rest.find('('), rest.find(',')) {
                (Some(open), Some(comma)) if open < comma => rest.find(')').expect("closed") + 1,
                (Some(_), None) => rest.len(),
                (_, comma) => comma.unwrap_or(rest.len()),
            };
            axes.push(Axis::parse(&rest[..end]));
            rest = rest[end..].trim_start_matches(',');
        }
        let block = name.rsplit_once('.').and_then(|(base, gate)| {
            let block = GATES.iter().position(|&g| g == gate)?;
            STACKED.contains(&base).then_some((base, block))
        });
        let (leaf, block) = block.map_or((name.as_str(), None), |(base, block)| (base, Some(block)));
        let mut factor = Self { function, ..Self::named(leaf, block, axes) };
        match option {
            None => {}
            Some("0") => factor.initial = Initial::Zero,
            Some("1") => factor.initial = Initial::One,
            Some("T") => factor.reading = Reading::BlocksTurned,
            Some(order) => {
                let blocks: Vec<usize> =
                    order.chars().filter_map(|c| GATES.iter().position(|gate| gate.starts_with(c))).collect();
                factor.order = blocks.try_into().unwrap_or_else(|_| panic!("{text}: expected three gates"));
            }
        }
        Some(factor)
    }
}

/// The gates, in the order of their blocks.
pub(crate) const GATES: [&str; 3] = ["r", "z", "n"];
/// The leaves whose last axis has a block for each gate.
pub(crate) const STACKED: [&str; 7] = ["a", "c", "d.a", "d.c", "b_hh", "p", "q"];

/// The letters of the range of an index, by how its name begins.
const RANGES: [(&str, char); 12] = [
    ("hardest_s", 'j'),
    ("hardest_im", 'i'),
    ("index", 'm'),
    ("id", 'v'),
    ("row", 'h'),
    ("column", 'w'),
    ("pixel", 'm'),
    ("largest", 'k'),
    ("channel", 'c'),
    ("output_row", 'p'),
    ("output_column", 'q'),
    ("output", 'o'),
];

impl Axis {
    fn parse(text: &str) -> Self {
        if let Some((tensor, letters)) = text.split_once('(') {
            let letters: Vec<char> = letters.trim_end_matches(')').chars().filter(|c| c.is_alphabetic()).collect();
            let only = |letters: &Vec<char>| *letters.first().expect("a letter");
            match tensor {
                "reversed" => return Self { letter: only(&letters), at: At::Reversed },
                "sorted" => return Self { letter: only(&letters), at: At::Sorted(1) },
                _ => {}
            }
            // The range of the index; else the last letter of its name.
            let range = RANGES.iter().find(|(begin, _)| tensor.starts_with(begin)).map(|&(_, letter)| letter);
            let letter = range.unwrap_or_else(|| tensor.chars().next_back().expect("a name"));
            return Self { letter, at: At::Through(tensor.into(), letters) };
        }
        let letter = text.chars().next().expect("a letter");
        let shift = &text[letter.len_utf8()..];
        Self { letter, at: At::Shift(if shift.is_empty() { 0 } else { shift.parse().expect("a shift") }) }
    }
}

impl Relation {
    /// Reads `out[…] = g(± term …)`. The texts are those of [`super::equations`]; a mistake in them panics.
    pub(crate) fn parse(text: &str) -> Self {
        let (left, right) = text.split_once(" = ").unwrap_or_else(|| panic!("{text}: expected a relation"));
        let out = Factor::parse(left.trim()).expect("a left side");
        let mut right = right.trim();
        let (mut function, mut argmax) = (F::Identity, false);
        if let Some(inner) = right.strip_prefix("argmax(").and_then(|text| text.strip_suffix(')')) {
            (argmax, right) = (true, inner);
        }
        for (outer, text) in Function::TEXTS.iter().filter(|(_, text)| text.ends_with("(@)")) {
            if let Some(inner) = right.strip_prefix(text.trim_end_matches("@)")).and_then(|text| text.strip_suffix(')'))
            {
                (function, right) = (*outer, inner);
                break;
            }
        }
        let mut terms: Vec<Term> = Vec::new();
        let (mut sign, mut open) = (1.0, false);
        for word in right.split_whitespace() {
            match word {
                "+" => (sign, open) = (1.0, false),
                "-" => (sign, open) = (-1.0, false),
                _ => {
                    if !open {
                        terms.push(Term { coefficient: sign, factors: Vec::new() });
                        open = true;
                    }
                    let term = terms.last_mut().expect("begun");
                    match Factor::parse(word) {
                        Some(factor) => term.factors.push(factor),
                        None => term.coefficient *= word.parse::<f64>().expect("a number"),
                    }
                }
            }
        }
        Self { out, function, argmax, terms, rounding: Rounding::Exact }
    }

    /// The letters of a term that the left side does not have.
    pub(crate) fn summed(&self, term: &Term) -> Vec<char> {
        let own = self.out.letters();
        let mut summed: Vec<char> = Vec::new();
        for letter in term.factors.iter().flat_map(Factor::letters) {
            if !own.contains(&letter) && !summed.contains(&letter) {
                summed.push(letter);
            }
        }
        summed
    }

    /// The letters of [`Self::summed`] over which there is a sum: of `start[t]` all summands but the first are 0.
    pub(crate) fn free(&self, term: &Term) -> Vec<char> {
        let is_start = |letter: char| {
            term.factors.iter().any(|factor| factor.leaf == "start" && factor.letters().contains(&letter))
        };
        self.summed(term).into_iter().filter(|&letter| !is_start(letter)).collect()
    }

    /// The letters of both sides.
    pub(crate) fn letters(&self) -> Vec<char> {
        let mut letters = self.out.letters();
        let more = self.terms.iter().flat_map(|term| self.summed(term)).collect::<Vec<char>>();
        letters.extend(more);
        letters.sort_unstable();
        letters.dedup();
        letters
    }

    /// Whether it is part of the backward pass.
    pub(crate) fn is_backward(&self) -> bool {
        self.out.leaf.starts_with("d.") || matches!(self.out.leaf.as_str(), "along" | "by_input")
    }

    /// Whether it reads the layer above.
    pub(crate) fn reads_above(&self) -> bool {
        self.leaves().any(|leaf| leaf.starts_with("up."))
    }

    /// The leaves that it reads.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().flat_map(|term| term.factors.iter().map(|factor| factor.leaf.as_str()))
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Shift(0) => write!(f, "{}", self.letter),
            At::Shift(by) => write!(f, "{}{}{}", self.letter, if *by < 0 { '−' } else { '+' }, by.abs()),
            At::First => write!(f, "0"),
            At::Last => write!(f, "last"),
            At::Reversed => write!(f, "reversed {}", self.letter),
            At::Sorted(1) => write!(f, "sorted {}", self.letter),
            At::Sorted(-1) => write!(f, "rank of {} by length", self.letter),
            At::Sorted(times) => write!(f, "{} permuted {times} times", self.letter),
            At::Running => write!(f, "{}-th row that still runs", self.letter),
            At::SameNumberBefore => {
                write!(f, "row with the number, among those that ran a step before, that {} has now", self.letter)
            }
            At::FirstRunning => write!(f, "first row that still runs"),
            At::NumberOfRunning => write!(f, "number of {} among the rows that still run", self.letter),
            At::TiesReversed => write!(f, "{} with rows of one length in the opposite order", self.letter),
            At::Is(k) => write!(f, "{k}"),
            At::By(jump) => f.write_str(&jump.says(&self.letter.to_string())),
            At::Token(token) => write!(f, "token {token}"),
            // Named in words.
            At::Through(tensor, _) if tensor.contains(' ') => f.write_str(tensor),
            At::Through(tensor, letters) => {
                write!(f, "{tensor}({})", letters.iter().map(char::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The row and the step of a token are shown as one.
        let is_shown = |axis: &&Axis| axis.letter != 't' || !matches!(axis.at, At::Token(_));
        let axes: Vec<String> = self.axes.iter().filter(is_shown).map(ToString::to_string).collect();
        let index = if axes.is_empty() { String::new() } else { format!("[{}]", axes.join(",")) };
        f.write_str(&self.function.of(&format!("{}{index}", self.name())))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.coefficient.abs();
        let mut parts: Vec<String> = self.factors.iter().map(ToString::to_string).collect();
        if (size - 1.0).abs() > 0.0 || parts.is_empty() {
            parts.insert(0, format!("{size}"));
        }
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut inner = String::new();
        for (place, term) in self.terms.iter().enumerate() {
            let minus = term.coefficient < 0.0;
            let summed = self.summed(term);
            inner += match (place, minus) {
                (0, false) => "",
                (0, true) => "−",
                (_, false) => " + ",
                (_, true) => " − ",
            };
            if !summed.is_empty() && !self.argmax {
                inner.extend(["Σ_", &summed.iter().collect::<String>(), " "]);
            }
            inner += &term.to_string();
        }
        if self.terms.is_empty() {
            inner += "0";
        }
        if self.argmax {
            inner = format!("argmax {inner}");
        }
        let many = self.terms.len() > 1 || self.function != F::Identity;
        let right = match self.function {
            F::Identity => inner,
            function if function.text().contains("(@)") => function.text().replace('@', &inner),
            function if many => function.of(&format!("({inner})")),
            function => function.of(&inner),
        };
        write!(f, "{} = {right}", self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_written() {
        let texts = [
            ("n[b,t,k] = tanh(a.n[b,t,k] + r[b,t,k] c.n[b,t,k])", "n[b,t,k] = tanh(a.n[b,t,k] + r[b,t,k] c.n[b,t,k])"),
            ("d.W_hh[j,k] = d.c[b,t,j] h[b,t-1,k]", "d.W_hh[j,k] = Σ_bt d.c[b,t,j] h[b,t−1,k]"),
            ("d.W[id(b,t),e] = d.words[b,t,e]", "d.W[id(b,t),e] = d.words[b,t,e]"),
            ("dF[i,d] = 2 dS[i,j] v[i,j,d]", "dF[i,d] = Σ_j 2 dS[i,j] v[i,j,d]"),
            ("h[b,k] = (1-z)[b,k] n[b,k] - q[b,k]", "h[b,k] = (1 − z[b,k]) n[b,k] − q[b,k]"),
        ];
        for (text, shown) in texts {
            assert_eq!(Relation::parse(text).to_string(), shown);
        }
        let relation = Relation::parse(texts[0].0);
        assert_eq!(
            (relation.function, relation.terms.len(), relation.terms[0].factors[0].block),
            (F::Tanh, 2, Some(2))
        );
    }
}
