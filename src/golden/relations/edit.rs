//! A change of a relation: what a backend may compute in its place.

use super::elsewhere::{Order, Pair, Token};
use super::language::{At, Factor, Function, Layer, Relation};
use super::places::Test;
use crate::golden::arithmetic::Rounding;

/// Which summands of a term count 0 times or twice.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Summands {
    Index(char, Test),
    /// The number of a token in some order.
    Token(Order, Test),
    /// The place within a parameter.
    Element(Test),
    /// Each row's own last token, of rows of any length, or of odd or even ones.
    LastToken(Option<Test>),
    /// All but the last occurrence of a word among some tokens.
    Overwritten(Among),
    /// All but the first.
    NotFirstOccurrence,
    /// A token with the same word before it.
    SameAsBefore,
    /// Gradients of parameters that are vectors, or matrices.
    Vectors,
    Matrices,
    LastTensor,
    LastByName,
    /// Divided by how often a word occurs.
    Averaged,
    /// At or beyond the size of another letter.
    Beyond(char, char),
    /// A letter of the summands against one of the result: of 3H rows of a GRU, their units.
    Pair(char, char, Pair),
    /// So often as a size has parts of this many, the last one whole or not.
    PerPart(char, usize),
    /// The last one as often as a size lacks to a multiple of this, and once; or the first ones once more.
    PaddedWithLast(char, usize),
    PaddedWithFirst(char, usize),
    /// The sums of all places of a letter in a group of this many in one, or of all places up to each; the second
    /// letter is that of the summands.
    Shared(char, char, usize),
    UpTo(char, char),
    /// Where a factor is less than a bound.
    Less(Box<Factor>, f64),
    /// All, times a function of a size.
    Scaled(char, Power),
    /// Gradients of parameters with fewer numbers than this, or of one parameter.
    Smaller(usize),
    Parameter(String),
    /// Tokens of the steps in which every row still runs.
    FullSteps,
}

/// Among which tokens one overwrites another of the same word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    All,
    Row,
    Step,
    /// So many tokens of a row.
    Group(usize),
    /// The tokens of so many rows.
    Rows(usize),
    /// A token and the one after it.
    Run,
    /// Those of other rows: a row adds up its own.
    OtherRows,
}

impl Among {
    pub(super) fn all() -> impl Iterator<Item = (Self, f64, String)> {
        let groups = [2, 4, 8, 16, 32].map(|n| (Self::Group(n), 1.5, format!("within {n} tokens of a row")));
        let others = [
            (Self::All, 1.2, "it overwrites instead of adding"),
            (Self::Row, 1.3, "within a row"),
            (Self::Step, 1.3, "within a step"),
            (Self::Run, 1.3, "within a run of the same word"),
            (Self::OtherRows, 1.3, "of each word's last row, which overwrites the rows before"),
        ];
        let rows = [2, 4, 8, 16, 32].map(|n| (Self::Rows(n), 1.5, format!("within {n} rows")));
        let others = others.map(|(among, cost, text)| (among, cost, text.to_owned()));
        others.into_iter().chain(groups).chain(rows)
    }

    /// Whether the second of two tokens of a word overwrites the first.
    pub(super) fn is_lost(self, (b, t): (usize, usize), later: (usize, usize)) -> bool {
        let same_row = later.0 == b && later.1 > t;
        match self {
            Self::All => later > (b, t),
            Self::Row => same_row,
            Self::Step => later.1 == t && later.0 > b,
            Self::Group(n) => same_row && later.1 / n == t / n,
            Self::Rows(n) => later > (b, t) && later.0 / n == b / n,
            Self::Run => same_row && later.1 == t + 1,
            Self::OtherRows => later.0 > b,
        }
    }
}

/// The weight of the summands of a term.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weight {
    /// The term's place.
    pub term: usize,
    pub summands: Summands,
    /// The weight of these, and that of all others.
    pub inside: f64,
    pub outside: f64,
}

/// A factor from the sizes of the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Times,
    Over,
    TimesRoot,
    OverRoot,
}

impl Power {
    pub(super) const ALL: [(Self, &'static str, f64); 4] = [
        (Self::Over, "divided by", 1.3),
        (Self::Times, "multiplied by", 1.3),
        (Self::OverRoot, "divided by the root of", 1.4),
        (Self::TimesRoot, "multiplied by the root of", 1.4),
    ];

    pub(super) fn of(self, size: usize) -> f64 {
        let size = size as f64;
        match self {
            Self::Times => size,
            Self::Over => 1.0 / size,
            Self::TimesRoot => size.sqrt(),
            Self::OverRoot => 1.0 / size.sqrt(),
        }
    }
}

/// What happens to the whole result.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Whole {
    Kept,
    Constant(f64),
    Scaled(char, Power),
    /// Kept in a format of 16 bits, a few roundings from the right value.
    Stored(Rounding),
    /// Cut off below and above.
    Between(f64, f64),
    /// Times a number between these.
    Times(f64, f64),
    /// Read at another place along a letter.
    Moved(char, At),
    /// Read at another token.
    OfToken(Token),
    Transposed,
    /// The numbers of the transpose in the order in which they lie.
    OfTranspose,
    /// Each row divided by its norm.
    Normalised,
    /// Rows of a larger norm scaled down to this.
    AtMostNorm(f64),
    /// Its function of the sums of so many summands, added up; or of each half.
    PerPart(usize),
    PerHalf,
    /// The squares of the sums of so many summands, added up, and then its function.
    SquaredParts(usize),
    /// The results of all places before, in steps of this many, in it too; or of all places after.
    UpTo(Along, usize),
    Onwards(char, usize),
    /// Times, plus or minus a leaf of the same shape.
    With(Operation, Factor),
    /// The three blocks of a gate lie unit by unit.
    Interleaved,
    /// Of an argmax: that of the scores, and −1 if what it finds does not count.
    MaskedAfterwards(Masked),
    /// An index modulo this, or with this added.
    Modulo(usize),
    Plus(f64),
    /// Kept in a signed integer of 8 bits, which wraps around; or kept with the other sign.
    SignedByte,
    NegatedSignedByte,
    /// The sum is rounded after so many summands; or the sums of so many are, before they are added up.
    Accumulated(Rounding, usize),
    Partial(Rounding, usize),
    /// The sum of all terms is rounded before its function.
    OfRounded(Rounding),
    /// The blocks of the gates in another order.
    Blocks([usize; 3]),
    /// That of another layer, or its own and those of all layers above or below.
    OfLayer(Layer),
    WithLayers(bool),
    /// The results of each group of so many places of a letter added up, in all of them; or their mean.
    Pooled(char, usize, bool),
    /// Divided by the L2 norm of what each factor is at the summands.
    OverNorms,
    /// Divided by the number of terms that count.
    PerActive,
    /// The larger of two terms in the place of their sum.
    Larger(usize, usize),
    /// Where an index is −1, for none, the last place gets 1.
    LastForNone,
    /// A function of the sum of each term that is one.
    TermsThrough(Function),
}

impl Whole {
    /// The format to which sums are rounded on the way.
    pub(super) fn rounds_sums(&self) -> Option<Rounding> {
        match *self {
            Self::Accumulated(format, _) | Self::Partial(format, _) | Self::OfRounded(format) => Some(format),
            _ => None,
        }
    }
}

/// The scores among which the largest is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masked {
    All,
    Negatives,
    /// All, with 0 for those that do not count.
    Filled,
}

/// Along a letter, or along tokens in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    Letter(char),
    Tokens(Order),
}

/// What is done to a result afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Times,
    Plus,
    Minus,
}

/// Where a change of a tensor that is not written holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    /// In the block of a gate.
    Block(usize),
    Index(char, Test),
}

/// A change of a family's relation.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub family: String,
    pub relation: Relation,
    pub weights: Vec<Weight>,
    pub whole: Whole,
    /// Everywhere, if there is none.
    pub only: Option<Only>,
    /// Other families that are changed with it, and their relations.
    pub also: Vec<(String, Relation)>,
    /// The family is that of a written tensor which is computed again, with the change, where another one reads it.
    pub again: bool,
    pub cost: f64,
    /// What the backend does, as the end of "`d.W_hh` …".
    pub says: String,
}

impl Edit {
    /// No change yet.
    pub(super) fn none(family: &str, relation: &Relation, cost: f64) -> Self {
        Self {
            family: family.into(),
            relation: relation.clone(),
            weights: Vec::new(),
            whole: Whole::Kept,
            only: None,
            also: Vec::new(),
            again: false,
            cost,
            says: String::new(),
        }
    }

    /// What is said of it: of several terms, with the one that has the summands.
    pub(super) fn sentence(&self) -> String {
        let is_of_summands = ["leaves out the", "counts ", "repeats the last", "begins again"];
        match &self.weights[..] {
            [weight] if self.relation.terms.len() > 1 && is_of_summands.iter().any(|says| self.says.contains(says)) => {
                format!("{}, in the term {}", self.says, self.relation.terms[weight.term])
            }
            _ => self.says.clone(),
        }
    }

    /// Some summands of a term count so often.
    pub(super) fn weigh(&mut self, term: usize, summands: Summands, inside: f64) {
        self.weights.push(Weight { term, summands, inside, outside: 1.0 });
    }
}
