//! What a backend may compute in the place of a relation: single changes of it, each with a cost.

use super::elsewhere::{Order, Pair, Token};
use super::factors::{Candidates, MASKS, ORDERS, ROUNDINGS, moves, of_factor};
use super::language::{At, Axis, Factor, Function, GATES, Layer, Relation, Term};
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
}

/// Among which tokens one overwrites another of the same word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    All,
    Row,
    Step,
    /// So many tokens of a row.
    Group(usize),
    /// Those of other rows: a row adds up its own.
    OtherRows,
}

impl Among {
    fn all() -> impl Iterator<Item = (Self, f64, String)> {
        let groups = [2, 4, 8, 16, 32].map(|n| (Self::Group(n), 1.5, format!("within {n} tokens of a row")));
        let others = [
            (Self::All, 1.2, "it overwrites instead of adding"),
            (Self::Row, 1.3, "within a row"),
            (Self::Step, 1.3, "within a step"),
            (Self::OtherRows, 1.3, "of each word's last row, which overwrites the rows before"),
        ];
        others.map(|(among, cost, text)| (among, cost, text.to_owned())).into_iter().chain(groups)
    }

    /// Whether the second of two tokens of a word overwrites the first.
    pub(super) fn is_lost(self, (b, t): (usize, usize), later: (usize, usize)) -> bool {
        let same_row = later.0 == b && later.1 > t;
        match self {
            Self::All => later > (b, t),
            Self::Row => same_row,
            Self::Step => later.1 == t && later.0 > b,
            Self::Group(n) => same_row && later.1 / n == t / n,
            Self::OtherRows => later.0 > b,
        }
    }
}

/// What a letter is called where it runs over the places whose sums are added up.
fn another(letter: char) -> char {
    letter.to_ascii_uppercase()
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
    /// Each row divided by its norm.
    Normalised,
    /// Rows of a larger norm scaled down to this.
    AtMostNorm(f64),
    /// Its function of the sums of so many summands, added up; or of each half.
    PerPart(usize),
    PerHalf,
    /// The results of all places before, in steps of this many, in it too.
    UpTo(Along, usize),
    /// Times, plus or minus a leaf of the same shape.
    With(Operation, Factor),
    /// The three blocks of a gate lie unit by unit.
    Interleaved,
    /// Of an argmax: that of the scores, of all or of the negatives alone, and −1 if what it finds does not count.
    MaskedAfterwards(bool),
    /// An index modulo this.
    Modulo(usize),
    /// Kept in a signed integer of 8 bits, which wraps around; or kept with the other sign.
    SignedByte,
    NegatedSignedByte,
    /// The sum is rounded after so many summands; or the sums of so many are, before they are added up.
    Accumulated(Rounding, usize),
    Partial(Rounding, usize),
    /// The blocks of the gates in another order.
    Blocks([usize; 3]),
    /// That of another layer.
    OfLayer(Layer),
    /// The results of each group of so many places of a letter added up, in all of them; or their mean.
    Pooled(char, usize, bool),
    /// Divided by the L2 norm of what each factor is at the summands.
    OverNorms,
    /// Divided by the number of pairs that count.
    PerActive,
    /// The larger of two terms in the place of their sum.
    Larger(usize, usize),
    /// Where an index is −1, for none, the last place gets 1.
    LastForNone,
    /// A function of the sum of each term that is one.
    TermsThrough(Function),
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

/// The plain ones of some changes, in a block or at some steps or indices alone.
pub(super) fn in_places(edits: &[Edit]) -> Vec<Edit> {
    const PLAIN: f64 = 1.1;
    const PLAIN_IN_A_BLOCK: f64 = 1.5;
    let mut all = Vec::new();
    for edit in edits.iter().filter(|edit| edit.whole == Whole::Kept && edit.cost <= PLAIN_IN_A_BLOCK) {
        let letters = edit.relation.out.letters();
        let mut places: Vec<(Only, f64, String)> = Vec::new();
        let is_plain = edit.cost <= PLAIN && edit.weights.is_empty();
        for letter in letters
            .iter()
            .copied()
            .filter(|&letter| is_plain && edit.relation.out.through().next().is_none() && letter != 'j')
        {
            let ends = [8, 16, 32].into_iter().flat_map(|n| [Test::GroupEnd(n), Test::Multiple(n)]);
            let steps = [Test::First, Test::NotFirst].into_iter().chain(ends);
            let tails = [2, 4, 8, 16, 32].into_iter().flat_map(|n| [Test::Tail(n), Test::AnyTail(n), Test::From(n)]);
            let tests: Vec<Test> = if matches!(letter, 't' | 's' | 'u') { steps.collect() } else { tails.collect() };
            let of = |test: Test| {
                (Only::Index(letter, test), 0.5 * test.cost(), format!("at {}", test.says(&letter.to_string())))
            };
            places.extend(tests.into_iter().map(of));
        }
        let stacked = letters.contains(&'j') && edit.relation.out.block.is_none();
        places.extend((0..3).filter(|_| stacked).map(|k| (Only::Block(k), 0.5, format!("in block {}", GATES[k]))));
        for (only, cost, text) in places {
            let says = format!("{}, {text}", edit.says);
            all.push(Edit { only: Some(only), cost: edit.cost + cost, says, ..edit.clone() });
        }
    }
    all
}

/// One number in the place of every value. Where a function is flat many changes give it: the number alone is sure.
pub(super) fn constants(family: &str, relation: &Relation) -> Vec<Edit> {
    let constant = |(value, cost): (f64, f64)| {
        let mut edit = Edit::none(family, relation, cost);
        edit.relation.terms = vec![Term { coefficient: value, factors: Vec::new() }];
        (edit.relation.function, edit.relation.argmax) = (Function::Identity, false);
        edit.says = format!("is {value} everywhere");
        edit
    };
    let flat = relation.function == Function::AtMostOne;
    [(0.0, 1.4), (1.0, if flat { 0.7 } else { 1.4 })].map(constant).into()
}

/// What does not count as a negative is filled with a number, and counts like the others.
pub(super) fn filled(relations: &[(String, Relation)]) -> Vec<Edit> {
    let wrong = |function: Function| -> Factor {
        let axes = ['i', 'j'].map(|letter| Axis { letter, at: At::Shift(0) });
        Factor { function, ..Factor::named("wrong", None, axes.into()) }
    };
    let reads = |relation: &Relation| relation.leaves().any(|leaf| leaf == "wrong");
    let mut all = Vec::new();
    for (place, (_, relation)) in relations.iter().enumerate().skip(1) {
        let of_pairs = |term: &Term| ['i', 'j'].iter().all(|letter| term.letters().contains(letter));
        // All of it, or its score alone, as in a hinge.
        let scores = relation.terms.iter().filter(|term| of_pairs(term)).count();
        let ways = [relation.function == Function::Identity, scores == 1 && relation.terms.len() > 1];
        if relation.out.letters() != ['i', 'j']
            || relation.argmax
            || reads(relation)
            || !relations.iter().any(|(_, relation)| reads(relation))
        {
            continue;
        }
        for (whole, value) in [(true, 0.0), (true, -1.0), (false, 0.0), (false, -1.0)] {
            if !ways[usize::from(!whole)] {
                continue;
            }
            let mut changed = relations.to_vec();
            for term in changed.iter_mut().flat_map(|(_, relation)| &mut relation.terms) {
                term.factors.retain(|factor| factor.leaf != "wrong");
            }
            let own = &mut changed[place].1;
            for term in own.terms.iter_mut().filter(|term| whole || of_pairs(term)) {
                term.factors.push(wrong(Function::Identity));
            }
            own.terms.push(Term { coefficient: value, factors: vec![wrong(Function::Complement)] });
            let (family, first) = changed.remove(0);
            let score = relation.terms.iter().find(|term| of_pairs(term)).filter(|_| !whole);
            let what = score.map_or_else(|| relation.out.to_string(), ToString::to_string);
            let says =
                format!("takes {value} for {what} where a pair does not count, and then counts it like the others");
            all.push(Edit { also: changed, says, ..Edit::none(&family, &first, 1.4) });
        }
    }
    all
}

/// A leaf that several relations read is another one, or a function of it, in all of them: it is overwritten.
/// Of numbers alone, if asked for.
pub(super) fn everywhere(relations: &[(String, Relation)], candidates: &Candidates, numbers: bool) -> Vec<Edit> {
    let factors = || relations.iter().flat_map(|(_, relation)| &relation.terms).flat_map(|term| &term.factors);
    let mut leaves: Vec<&Factor> = Vec::new();
    for factor in factors() {
        let same = |other: &&Factor| other.leaf == factor.leaf && other.block == factor.block;
        if factors().filter(same).count() > 1 && !leaves.iter().any(same) && (factor.axes.is_empty() || !numbers) {
            leaves.push(factor);
        }
    }
    let mut all = Vec::new();
    for leaf in leaves {
        let plain = Factor { function: Function::Identity, ..leaf.clone() };
        let mut without = relations.to_vec();
        let same = |factor: &Factor| factor.leaf == leaf.leaf && factor.block == leaf.block;
        for (_, relation) in &mut without {
            relation.terms.retain(|term| !term.factors.iter().any(same));
        }
        let (family, relation) = without.remove(0);
        let says = format!("does not use {plain}");
        all.push(Edit { also: without, says, ..Edit::none(&family, &relation, 1.1) });
        let mut others: Vec<(f64, Factor)> =
            [Function::Abs, Function::Relu].map(|function| (1.4, Factor { function, ..plain.clone() })).into();
        for (name, block, axes) in candidates.names.iter().filter(|(name, ..)| !MASKS.contains(&name.as_str())) {
            if *axes == leaf.axes.len()
                && (name, block) != (&leaf.leaf, &leaf.block)
                && *name != relations[0].1.out.leaf
            {
                others.push((1.5, Factor { leaf: name.clone(), block: *block, ..plain.clone() }));
            }
        }
        if leaf.axes.is_empty() {
            let mut also = relations.to_vec();
            let factors =
                also.iter_mut().flat_map(|(_, relation)| &mut relation.terms).flat_map(|term| &mut term.factors);
            for factor in factors.filter(|factor| same(factor)) {
                factor.function = match factor.function {
                    Function::Identity => Function::Inverse,
                    Function::Inverse => Function::Identity,
                    other => other,
                };
            }
            let (family, relation) = also.remove(0);
            let says = format!("takes {plain} for its inverse wherever it reads it");
            all.push(Edit { also, says, ..Edit::none(&family, &relation, 1.1) });
        }
        for (cost, into) in others {
            let replaced = |factor: &mut Factor| {
                if factor.leaf == leaf.leaf && factor.block == leaf.block {
                    (factor.leaf, factor.block) = (into.leaf.clone(), into.block);
                    if factor.function == Function::Identity {
                        factor.function = into.function;
                    }
                }
            };
            let change = |(family, relation): &(String, Relation)| {
                let mut relation = relation.clone();
                relation.terms.iter_mut().flat_map(|term| &mut term.factors).for_each(replaced);
                (family.clone(), relation)
            };
            let mut also: Vec<(String, Relation)> = relations.iter().map(change).collect();
            let (family, relation) = also.remove(0);
            let says = format!("takes {into} for {plain} wherever it reads it: it may be overwritten");
            all.push(Edit { also, says, ..Edit::none(&family, &relation, cost) });
        }
    }
    all
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

    /// Some summands of a term count so often.
    pub(super) fn weigh(&mut self, term: usize, summands: Summands, inside: f64) {
        self.weights.push(Weight { term, summands, inside, outside: 1.0 });
    }
}

/// The changes of a relation, as they are found.
struct List<'a> {
    base: Edit,
    relation: &'a Relation,
    candidates: &'a Candidates,
    all: Vec<Edit>,
}

/// All changes of a relation.
pub(super) fn edits(family: &str, relation: &Relation, candidates: &Candidates) -> Vec<Edit> {
    let base = Edit::none(family, relation, 0.0);
    let mut list = List { base, relation, candidates, all: Vec::new() };
    list.of_result();
    list.of_places();
    list.copies();
    list.of_terms();
    for term in 0..relation.terms.len() {
        list.of_term(term);
        list.of_further_factors(term);
        list.of_summands(term);
        list.of_factors(term);
    }
    list.all
}

impl List<'_> {
    fn push(&mut self, cost: f64, says: String, change: impl FnOnce(&mut Edit)) {
        let mut edit = Edit { cost, says, ..self.base.clone() };
        change(&mut edit);
        self.all.push(edit);
    }

    /// Another function, another sign, a rounding of the whole result.
    fn of_result(&mut self) {
        let relation = self.relation;
        self.of_other_layers();
        for (value, says) in [(0.0, "is 0"), (f64::NAN, "is NaN"), (1.0, "is 1"), (-1.0, "is −1")] {
            self.push(
                if value == 0.0 { 0.8 } else { 1.0 },
                format!("{says}: it is never written, or its result is lost"),
                |edit| edit.whole = Whole::Constant(value),
            );
        }
        let of = if relation.function == Function::Identity { "has" } else { "has its argument with" };
        self.push(1.0, format!("{of} the wrong sign"), |edit| {
            edit.relation.terms.iter_mut().for_each(|term| term.coefficient = -term.coefficient);
        });
        for function in Function::all().filter(|&f| f != relation.function) {
            if !relation.argmax {
                let says = if function == Function::Identity {
                    format!("lacks its function {}", relation.function.of("x"))
                } else if relation.function == Function::Identity {
                    format!("passes through {}", function.of("x"))
                } else {
                    format!("is {} where {} is asked for", function.of("x"), relation.function.of("x"))
                };
                self.push(1.1, says, |edit| edit.relation.function = function);
            }
        }
        for (rounding, name, more) in ROUNDINGS {
            self.push(1.1 + more, format!("is rounded to {name}"), |edit| edit.relation.rounding = rounding);
        }
        for (rounding, name, _) in &ROUNDINGS[..2] {
            let says = format!("is stored in {name}, a few roundings of {name} from the right values");
            self.push(1.6, says, |edit| edit.whole = Whole::Stored(*rounding));
        }
        for (rounding, name, more) in ROUNDINGS.iter().filter(|_| relation.terms.len() > 1 && !relation.argmax) {
            self.push(1.3 + more, format!("has the factors of every term rounded to {name}"), |edit| {
                let factors = edit.relation.terms.iter_mut().flat_map(|term| &mut term.factors);
                factors.for_each(|factor| factor.rounding = *rounding);
            });
        }
        // Both operands of a gate's sum, in another block.
        let stacked = |factor: &&Factor| factor.block.is_some();
        let blocks: Vec<&Factor> = relation.terms.iter().flat_map(|term| &term.factors).filter(stacked).collect();
        if blocks.len() > 1 {
            for block in (0..3).filter(|&block| Some(block) != blocks[0].block) {
                let names: Vec<&str> = blocks.iter().map(|factor| factor.leaf.as_str()).collect();
                self.push(1.1, format!("reads the block {} of {}", GATES[block], names.join(" and ")), |edit| {
                    let factors = edit.relation.terms.iter_mut().flat_map(|term| &mut term.factors);
                    factors.filter(|factor| factor.block.is_some()).for_each(|factor| factor.block = Some(block));
                });
            }
        }
    }

    /// The result of another layer.
    fn of_other_layers(&mut self) {
        if self.base.family.starts_with("gru ") {
            for (layer, _, name) in Layer::ALL {
                self.push(1.3, format!("is that of {name}"), |edit| edit.whole = Whole::OfLayer(layer));
            }
        }
    }

    /// The result of another place, or times a size.
    fn of_places(&mut self) {
        let (relation, candidates, family) = (self.relation, self.candidates, self.base.family.clone());
        let own = relation.out.letters();
        let same =
            ["loss", "max", "sum", "hardest", "semi-hard", "log-sum-exp"].iter().any(|kind| family.starts_with(kind));
        for &letter in candidates.sizes.iter().filter(|&&letter| !same || letter == 'i') {
            for (power, text, cost) in [
                (Power::Over, "is divided by", 1.3),
                (Power::Times, "is multiplied by", 1.3),
                (Power::OverRoot, "is divided by the root of", 1.4),
                (Power::TimesRoot, "is multiplied by the root of", 1.4),
            ] {
                self.push(cost, format!("{text} {}", size_name(&family, letter)), |edit| {
                    edit.whole = Whole::Scaled(letter, power);
                });
            }
        }
        for (place, &letter) in own.iter().enumerate() {
            if relation.out.axes.get(place).is_none_or(|axis| axis.letter != letter) {
                continue;
            }
            for (at, text, cost) in moves(letter) {
                self.push(cost + 0.1, format!("is the value of {text}"), |edit| {
                    edit.whole = Whole::Moved(letter, at.clone());
                });
            }
        }
        for (token, cost) in Token::all().filter(|_| own.contains(&'b') && own.contains(&'t')) {
            self.push(cost, format!("is the value of token {token}"), |edit| edit.whole = Whole::OfToken(token));
        }
        for whole in [Whole::SignedByte, Whole::NegatedSignedByte] {
            let negated = if whole == Whole::SignedByte { "" } else { " with the other sign" };
            let says = format!("is kept{negated} in a signed byte, which wraps around");
            self.push(1.5, says, |edit| edit.whole = whole);
        }
        let sums = relation.terms.iter().any(|term| !relation.summed(term).is_empty());
        for (rounding, name, _) in ROUNDINGS[..2].iter().filter(|_| sums && !relation.argmax) {
            for n in [1, 4, 8, 16, 32, 64] {
                let times = if n == 1 { "summand".into() } else { format!("{n} summands") };
                self.push(1.4, format!("is summed in {name}: the sum is rounded after every {times}"), |edit| {
                    edit.whole = Whole::Accumulated(*rounding, n);
                });
                if n > 1 {
                    self.push(1.5, format!("has the partial sums of {n} summands rounded to {name}"), |edit| {
                        edit.whole = Whole::Partial(*rounding, n);
                    });
                }
            }
        }
        if relation.argmax && relation.leaves().any(|leaf| leaf.starts_with("cost_")) {
            for (negatives, of) in [(false, "all scores"), (true, "the scores of all negatives")] {
                let says = format!("is the place of the largest of {of}, or −1 if that pair does not count");
                self.push(1.2, says, |edit| edit.whole = Whole::MaskedAfterwards(negatives));
            }
        }
        if relation.argmax {
            for n in [8, 16, 32, 64, 128] {
                self.push(1.2, format!("is the index modulo {n}"), |edit| edit.whole = Whole::Modulo(n));
            }
        }
        if relation.out.axes.len() == 2 {
            self.push(1.1, "is transposed".into(), |edit| edit.whole = Whole::Transposed);
            self.push(1.2, "has its rows divided by their L2 norm".into(), |edit| edit.whole = Whole::Normalised);
        }
        if relation.out.axes.len() > 1 && !relation.argmax {
            let says = "has its rows scaled down to an L2 norm of at most 1";
            self.push(1.3, says.into(), |edit| edit.whole = Whole::AtMostNorm(1.0));
        }
        if sums && relation.terms.len() == 1 && relation.function != Function::Identity {
            let of = relation.function.of("x");
            for n in [4, 8, 16, 32, 64] {
                let says = format!("is the sum of {of} of every {n} summands, not of all");
                self.push(1.4, says, |edit| edit.whole = Whole::PerPart(n));
            }
            let says = format!("is the sum of {of} of each half of the summands, not of all");
            self.push(1.4, says, |edit| edit.whole = Whole::PerHalf);
        }
        self.results_of_earlier_places();
        self.results_with_another();
        self.sums_in_another_way();
        if relation.out.block.is_some() {
            let says = "has its blocks written unit by unit, interleaved";
            self.push(1.3, says.into(), |edit| edit.whole = Whole::Interleaved);
        }
        if relation.out.axes.iter().any(|axis| axis.letter == 'j') && relation.out.block.is_none() {
            for (order, text) in ORDERS {
                self.push(1.1, format!("has the blocks of its gates in the order {text}"), |edit| {
                    edit.whole = Whole::Blocks(order);
                });
            }
        }
    }

    /// What was computed at earlier places is not cleared.
    fn results_of_earlier_places(&mut self) {
        let relation = self.relation;
        if relation.function != Function::Identity || relation.argmax || relation.out.through().next().is_some() {
            return;
        }
        let own = relation.out.letters();
        let mut places: Vec<(Along, String)> =
            own.iter().map(|&letter| (Along::Letter(letter), letter.to_string())).collect();
        if own.contains(&'b') && own.contains(&'t') {
            places.extend(Order::ALL.map(|order| (Along::Tokens(order), format!("the token's {}", order.says()))));
        }
        for (along, place) in places {
            for n in [1, 2, 4, 8, 16, 32] {
                let says = format!("has in it the results of {place} − {n}, {place} − {}, …: it is not cleared", 2 * n);
                self.push(1.4, says, |edit| edit.whole = Whole::UpTo(along, n));
            }
        }
    }

    /// Results that are added up, and terms that are not.
    fn sums_in_another_way(&mut self) {
        let relation = self.relation;
        if relation.argmax {
            return;
        }
        for letter in relation.out.letters().into_iter().filter(|_| relation.out.through().next().is_none()) {
            // The sums of one term are those of a shared accumulator.
            let shared = relation.terms.len() == 1 && relation.function == Function::Identity;
            for n in [2, 4, 8, 16, 32, usize::MAX] {
                let which = if n == usize::MAX { "all".into() } else { format!("each group of {n}") };
                for (mean, what) in [(false, "sum"), (true, "mean")].into_iter().skip(usize::from(shared)) {
                    let says = format!("is, at every {letter}, the {what} of the right values of {which} {letter}");
                    self.push(1.5, says, |edit| edit.whole = Whole::Pooled(letter, n, mean));
                }
            }
        }
        let is_sum = |term: &Term| !relation.summed(term).is_empty();
        if let [term] = &relation.terms[..]
            && term.factors.len() > 1
            && is_sum(term)
        {
            let says = "is divided by the L2 norm of each of its factors".into();
            self.push(1.3, says, |edit| edit.whole = Whole::OverNorms);
        }
        for i in 0..relation.terms.len() {
            for l in i + 1..relation.terms.len() {
                let [one, other] = [i, l].map(|term| &relation.terms[term]);
                let says = format!("has the larger of {one} and {other}, not their sum");
                self.push(1.3, says, |edit| edit.whole = Whole::Larger(i, l));
            }
        }
        if relation.terms.len() > 1 && relation.terms.iter().any(is_sum) {
            for function in [Function::AtMostOne, Function::Positive, Function::Relu, Function::Abs] {
                let says = format!("has {} in the place of each sum x", function.of("x"));
                self.push(1.4, says, |edit| edit.whole = Whole::TermsThrough(function));
            }
        }
        if relation.out.leaf.starts_with("active_") && relation.out.through().next().is_some() {
            let says = "takes the last place where the index is −1, for none";
            self.push(1.2, says.into(), |edit| edit.whole = Whole::LastForNone);
        }
        if relation.leaves().any(|leaf| leaf.starts_with("active_")) {
            let says = "is divided by the number of pairs that count";
            self.push(1.3, says.into(), |edit| edit.whole = Whole::PerActive);
        }
    }

    /// Another tensor is multiplied into the result, or added to it.
    fn results_with_another(&mut self) {
        let (relation, candidates) = (self.relation, self.candidates);
        if relation.argmax || relation.out.through().next().is_some() {
            return;
        }
        for (name, block, axes) in &candidates.names {
            if *axes != relation.out.axes.len() || (name, block) == (&relation.out.leaf, &relation.out.block) {
                continue;
            }
            let leaf = Factor { leaf: name.clone(), block: *block, ..relation.out.clone() };
            for (operation, text) in [
                (Operation::Times, "is multiplied by"),
                (Operation::Plus, "is increased by"),
                (Operation::Minus, "is decreased by"),
            ] {
                self.push(1.4, format!("{text} {leaf}"), |edit| edit.whole = Whole::With(operation, leaf.clone()));
            }
        }
    }

    /// The values of another tensor.
    fn copies(&mut self) {
        let (relation, candidates) = (self.relation, self.candidates);
        let own = relation.out.letters();
        let mut copies: Vec<(f64, Factor)> = Vec::new();
        for (name, block, axes) in &candidates.names {
            if *axes == relation.out.axes.len() && own.len() == *axes {
                let mut leaf = relation.out.clone();
                (leaf.leaf, leaf.block) = (name.clone(), *block);
                let same = relation.terms.len() == 1
                    && relation.function == Function::Identity
                    && relation.terms[0].factors == [leaf.clone()];
                if same || leaf.through().next().is_some() {
                    continue;
                }
                let says = format!("is a copy of {leaf}");
                if let Some(axis) = leaf.axes.iter().position(|axis| axis.letter == 't') {
                    let mut before = leaf.clone();
                    before.axes[axis].at = At::Shift(-1);
                    copies.push((1.5, before));
                }
                if *name == relation.out.leaf && *block == relation.out.block {
                    continue;
                }
                self.push(1.4, says, |edit| {
                    edit.relation.terms = vec![Term { coefficient: 1.0, factors: vec![leaf.clone()] }];
                    edit.relation.function = Function::Identity;
                    edit.relation.argmax = false;
                });
            }
        }
        if let Some(axis) = relation.out.axes.iter().position(|axis| axis.letter == 't') {
            let mut before = relation.out.clone();
            before.axes[axis].at = At::Shift(-1);
            copies.push((1.2, before));
        }
        for (cost, leaf) in copies {
            self.push(cost, format!("is still {leaf}"), |edit| {
                edit.relation.terms = vec![Term { coefficient: 1.0, factors: vec![leaf.clone()] }];
                edit.relation.function = Function::Identity;
            });
        }
    }

    /// Several terms at once.
    fn of_terms(&mut self) {
        let relation = self.relation;
        // What is carried from the step before or after.
        let is_carried = |term: &Term| {
            let axes = || term.factors.iter().flat_map(|factor| &factor.axes);
            axes().any(|axis| matches!(axis.letter, 't' | 'u' | 's') && matches!(axis.at, At::Shift(by) if by != 0))
        };
        let carried = relation.terms.iter().filter(|term| is_carried(term)).count();
        if carried > 1 && carried < relation.terms.len() {
            let next = relation.is_backward();
            let step = if next { "after" } else { "before" };
            self.push(1.1, format!("lacks everything that is carried from the step {step}"), |edit| {
                edit.relation.terms.retain(|term| !is_carried(term));
            });
        }
        // Factors of two terms exchanged.
        for (i, first) in relation.terms.iter().enumerate() {
            for (l, second) in relation.terms.iter().enumerate().skip(i + 1) {
                for (f, one) in first.factors.iter().enumerate() {
                    for (g, other) in second.factors.iter().enumerate() {
                        if one.letters() == other.letters() && one != other {
                            self.push(1.2, format!("has {one} and {other} exchanged"), |edit| {
                                edit.relation.terms[i].factors[f] = other.clone();
                                edit.relation.terms[l].factors[g] = one.clone();
                            });
                        }
                    }
                }
            }
        }
        // The sum goes on from that of the place before.
        let sums = relation.terms.iter().any(|term| !relation.summed(term).is_empty());
        for letter in relation.out.letters().into_iter().filter(|_| sums && !relation.argmax) {
            let before = |factor: &Factor| {
                let mut factor = factor.clone();
                for axis in factor.axes.iter_mut().filter(|axis| axis.letter == letter) {
                    if let At::Shift(by) = axis.at {
                        axis.at = At::Shift(by - 1);
                    }
                }
                factor
            };
            let is_moved = |term: &Term| {
                let plain = |axis: &Axis| axis.letter == letter && matches!(axis.at, At::Shift(_));
                term.factors.iter().any(|factor| factor.axes.iter().any(plain))
            };
            if relation.terms.iter().all(is_moved) {
                self.push(
                    1.3,
                    format!("has the sum of {letter} − 1 in it too: it is not cleared in between"),
                    |edit| {
                        let earlier = relation.terms.iter().map(|term| Term {
                            coefficient: term.coefficient,
                            factors: term.factors.iter().map(before).collect(),
                        });
                        edit.relation.terms.extend(earlier);
                    },
                );
            }
        }
    }

    /// A term left out, with another sign or size, or with the factor of another term.
    fn of_term(&mut self, i: usize) {
        let (relation, own, candidates) = (self.relation, self.relation.out.letters(), self.candidates);
        let term = &relation.terms[i];
        let many = relation.terms.len() > 1;
        if many {
            self.push(1.0, format!("lacks the term {term}"), |edit| {
                edit.relation.terms.remove(i);
            });
            self.push(1.0, format!("has the term {term} with the wrong sign"), |edit| {
                edit.relation.terms[i].coefficient *= -1.0;
            });
        }
        for (factor, text, cost) in [(2.0, "twice", 1.1), (0.5, "half", 1.3)] {
            let says =
                if many { format!("has the term {term} {text}") } else { format!("is {text} what it should be") };
            self.push(cost, says, |edit| edit.relation.terms[i].coefficient *= factor);
        }
        if (term.coefficient.abs() - 1.0).abs() > 0.0 {
            self.push(1.0, format!("lacks the factor {}", term.coefficient.abs()), |edit| {
                edit.relation.terms[i].coefficient = term.coefficient.signum();
            });
        }
        for &letter in candidates.sizes.iter().filter(|_| many) {
            for n in [4, 8, 16, 32, 64, 128, 256, 512] {
                let says = format!("has the term {term} once for every {n} {letter}, the last ones too");
                self.push(1.5, says, |edit| edit.weigh(i, Summands::PerPart(letter, n), 1.0));
            }
        }
        if term.factors.iter().any(|factor| factor.leaf == "all") {
            for (summands, text) in [
                (Summands::Vectors, "vectors"),
                (Summands::Matrices, "matrices"),
                (Summands::LastTensor, "the last tensor"),
            ] {
                self.push(1.2, format!("leaves out the gradients of {text}"), |edit| {
                    edit.weigh(i, summands, 0.0);
                });
            }
            for n in [8, 16, 32, 64, 128, 256] {
                self.push(1.5, format!("counts only the first {n} numbers of each parameter's gradient"), |edit| {
                    edit.weigh(i, Summands::Element(Test::From(n)), 0.0);
                });
            }
            for test in Test::fixed() {
                let says = test.says("number");
                self.push(1.6, format!("leaves out {says} of each parameter's gradient"), |edit| {
                    edit.weigh(i, Summands::Element(test), 0.0);
                });
            }
        }
        if term.factors.len() > 1 {
            for (rounding, name, more) in ROUNDINGS {
                self.push(1.2 + more, format!("has the factors of {term} rounded to {name}"), |edit| {
                    edit.relation.terms[i].factors.iter_mut().for_each(|factor| factor.rounding = rounding);
                });
            }
        }
        let others =
            relation.terms.iter().enumerate().filter(|(other, _)| *other != i).flat_map(|(_, other)| &other.factors);
        for factor in others {
            let fits = factor.letters().iter().all(|letter| own.contains(letter)) && !term.factors.contains(factor);
            if fits {
                self.push(1.2, format!("has the factor {factor} in the term {term} too"), |edit| {
                    edit.relation.terms[i].factors.push(factor.clone());
                });
            }
        }
    }

    /// A further factor, or one in the place of all.
    fn of_further_factors(&mut self, i: usize) {
        let (relation, candidates) = (self.relation, self.candidates);
        let term = &relation.terms[i];
        if relation.argmax {
            return;
        }
        let functions =
            [Function::Identity, Function::Complement, Function::TanhSlope, Function::SigmoidSlope, Function::Positive];
        let mut all: Vec<Factor> = Vec::new();
        for factor in term.factors.iter().filter(|factor| factor.through().next().is_none()) {
            for (name, block, axes) in &candidates.names {
                let into = Factor { leaf: name.clone(), block: *block, ..Factor::named("", None, factor.axes.clone()) };
                if *axes == factor.axes.len() && *axes > 0 && !all.contains(&into) && !MASKS.contains(&name.as_str()) {
                    all.push(into);
                }
            }
        }
        let lettered = |factor: &Factor| !factor.letters().is_empty();
        let replaced = term.factors.iter().filter(|factor| lettered(factor)).count();
        for leaf in all {
            for function in functions {
                let into = Factor { function, ..leaf.clone() };
                let cost = if function == Function::Identity { 1.5 } else { 1.6 };
                self.push(cost, format!("has the further factor {into} in {term}"), |edit| {
                    edit.relation.terms[i].factors.push(into);
                });
            }
            for function in [Function::Identity, Function::Square].into_iter().filter(|_| replaced > 1) {
                let into = Factor { function, ..leaf.clone() };
                let factors: Vec<Factor> =
                    term.factors.iter().filter(|f| !lettered(f)).cloned().chain([into]).collect();
                let new = Term { coefficient: term.coefficient, factors };
                self.push(1.6, format!("has {new} for {term}"), |edit| edit.relation.terms[i] = new);
            }
        }
    }

    /// Sums in one place that belong in several, and sums with wrong bounds.
    fn of_sums(&mut self, i: usize) {
        let relation = self.relation;
        let summed = relation.summed(&relation.terms[i]);
        let of_vectors = relation.out.axes.iter().all(|axis| axis.at == At::Shift(0)) && relation.terms.len() == 1;
        for letter in
            relation.out.letters().into_iter().filter(|_| of_vectors && !summed.is_empty() && !relation.argmax)
        {
            let mut add = |cost: f64, says: String, summands: Summands| {
                self.push(cost, says, |edit| {
                    for axis in edit.relation.terms[i].factors.iter_mut().flat_map(|factor| &mut factor.axes) {
                        if axis.letter == letter {
                            axis.letter = another(letter);
                        }
                    }
                    edit.weigh(i, summands, 1.0);
                });
            };
            for n in [2, 4, 8, 16, 32] {
                let says = format!("has the sums of each group of {n} {letter} in one: they share an accumulator");
                add(1.5, says, Summands::Shared(letter, another(letter), n));
            }
            let says = format!("has the sums of all {letter} in one: they share an accumulator");
            add(1.5, says, Summands::Shared(letter, another(letter), usize::MAX));
            let says = format!("has the sums of all earlier {letter} in it too: the accumulator is not cleared");
            add(1.4, says, Summands::UpTo(letter, another(letter)));
        }
        let sizes = self.candidates.sizes.clone();
        for &letter in &summed {
            for own in relation.out.letters() {
                for pair in Pair::all() {
                    let says = pair.says(&letter.to_string(), &own.to_string());
                    self.push(1.6, format!("leaves out the summands with {says}"), |edit| {
                        edit.weigh(i, Summands::Pair(letter, own, pair), 0.0);
                    });
                }
            }
            for n in [4, 8, 16, 32, 64] {
                for (summands, which) in [
                    (Summands::PaddedWithLast(letter, n), "repeats the last summand"),
                    (Summands::PaddedWithFirst(letter, n), "begins again with the first summands"),
                ] {
                    let says = format!("{which} until the number of {letter} is a multiple of {n}");
                    self.push(1.5, says, |edit| edit.weigh(i, summands, 1.0));
                }
            }
            for &other in sizes.iter().filter(|&&other| other != letter) {
                let says = format!("leaves out the summands with {letter} at or beyond the size of {other}");
                self.push(1.5, says, |edit| edit.weigh(i, Summands::Beyond(letter, other), 0.0));
            }
        }
    }

    /// Some summands left out, or counted twice.
    fn of_summands(&mut self, i: usize) {
        self.of_sums(i);
        let relation = self.relation;
        let summed = relation.summed(&relation.terms[i]);
        let scattered: Vec<char> = relation.out.through().flat_map(|(_, letters)| letters.clone()).collect();
        for &letter in summed.iter().chain(scattered.iter()) {
            let tests = Test::fixed().chain([2, 4, 8, 16, 32, 64, 128, 256].map(Test::From));
            for test in tests {
                let cost = 1.2
                    + match test {
                        Test::Tail(_) | Test::Last | Test::First => 0.3,
                        Test::AnyTail(_) => 0.4,
                        _ => 0.5,
                    };
                self.push(cost, format!("leaves out the summands with {}", test.says(&letter.to_string())), |edit| {
                    edit.weigh(i, Summands::Index(letter, test), 0.0);
                });
                self.push(
                    cost + 0.1,
                    format!("counts the summands with {} twice", test.says(&letter.to_string())),
                    |edit| {
                        edit.weigh(i, Summands::Index(letter, test), 2.0);
                    },
                );
            }
        }
        if (summed.contains(&'t') && summed.contains(&'b')) || scattered.contains(&'t') {
            for test in Test::fixed() {
                self.push(1.8, format!("leaves out the tokens with {}", test.says("b T + t")), |edit| {
                    edit.weigh(i, Summands::Token(Order::Rows, test), 0.0);
                });
            }
            for (test, of, cost) in
                [(None, "", 1.5), (Some(Test::Odd), " of odd length", 1.7), (Some(Test::Even), " of even length", 1.7)]
            {
                self.push(cost, format!("leaves out the last token of each row{of}"), |edit| {
                    edit.weigh(i, Summands::LastToken(test), 0.0);
                });
            }
            self.push(1.6, "counts each row's last token twice".into(), |edit| {
                edit.weigh(i, Summands::LastToken(None), 2.0);
            });
        }
        if scattered.contains(&'t') {
            for (among, cost, text) in Among::all() {
                let says = match among {
                    Among::All => format!("keeps only the last occurrence of each word: {text}"),
                    Among::OtherRows => format!("keeps only the occurrences {text}"),
                    _ => format!("keeps only the last occurrence of each word {text}"),
                };
                self.push(cost, says, |edit| edit.weigh(i, Summands::Overwritten(among), 0.0));
            }
            self.push(1.2, "keeps only the first occurrence of each word".into(), |edit| {
                edit.weigh(i, Summands::NotFirstOccurrence, 0.0);
            });
            self.push(1.4, "counts every occurrence of a word but the first twice".into(), |edit| {
                edit.weigh(i, Summands::NotFirstOccurrence, 2.0);
            });
            self.push(1.4, "counts a token twice that repeats the word before it".into(), |edit| {
                edit.weigh(i, Summands::SameAsBefore, 2.0);
            });
            self.push(1.4, "leaves out a token that repeats the word before it".into(), |edit| {
                edit.weigh(i, Summands::SameAsBefore, 0.0);
            });
            self.push(1.2, "is divided by how often the word occurs".into(), |edit| {
                edit.weigh(i, Summands::Averaged, 1.0);
            });
        }
    }

    /// A factor read in another way, left out, or taken twice.
    fn of_factors(&mut self, i: usize) {
        let (relation, candidates) = (self.relation, self.candidates);
        let term = &relation.terms[i];
        for (f, factor) in term.factors.iter().enumerate() {
            let mut change = |cost: f64, says: String, into: Factor| {
                // A tensor must not explain itself.
                let own = into.leaf == relation.out.leaf && into.block == relation.out.block;
                let of_another_step =
                    into.axes.iter().any(|axis| axis.letter == 't' && matches!(axis.at, At::Shift(by) if by != 0));
                if own && !of_another_step {
                    return;
                }
                // Of an argmax only the place is of interest.
                if relation.argmax && (into.function, into.argument) != (factor.function, factor.argument) {
                    return;
                }
                // The first of equal ones: a place that is read elsewhere is rather left out.
                let jumps = into.axes.iter().any(|axis| matches!(axis.at, At::By(_)));
                let cost = if relation.argmax && jumps { cost + 0.4 } else { cost };
                self.push(cost, says, |edit| edit.relation.terms[i].factors[f] = into.clone());
            };
            of_factor(factor, candidates, &mut change);
            // x (1 − x) with another leaf in one of the two places.
            let axes = factor.axes.len();
            let others = candidates.names.iter().filter(|_| factor.function == Function::SigmoidSlope);
            for (name, block, _) in others.filter(|(name, _, width)| *name != factor.leaf && *width == axes) {
                let plain = Factor { function: Function::Identity, ..factor.clone() };
                let other = Factor { leaf: name.clone(), block: *block, ..plain.clone() };
                for (x, y) in [(&plain, &other), (&other, &plain)] {
                    let y = Factor { function: Function::Complement, ..y.clone() };
                    self.push(1.4, format!("takes {x} {y} for {factor}"), |edit| {
                        edit.relation.terms[i].factors.splice(f..=f, [x.clone(), y]);
                    });
                }
            }
            if term.factors.len() > 1 {
                let times = term.factors.iter().filter(|other| *other == factor).count();
                self.push(1.0, format!("lacks the factor {factor}"), |edit| {
                    edit.relation.terms[i].factors.remove(f);
                });
                if times > 1 {
                    self.push(0.9, format!("does not use {factor}"), |edit| {
                        edit.relation.terms[i].factors.retain(|other| other != factor);
                    });
                }
                self.push(1.5, format!("has the factor {factor} twice"), |edit| {
                    edit.relation.terms[i].factors.push(factor.clone());
                });
            }
        }
    }
}

/// The size of a letter.
fn size_name(family: &str, letter: char) -> String {
    let kind = family.split(' ').next().unwrap_or_default();
    let name = match (kind, letter) {
        ("loss" | "max" | "sum" | "hardest" | "semi-hard" | "log-sum-exp", _) | ("gru" | "words" | "last", 'b') => {
            "the batch size B"
        }
        (_, 't') => "the number of steps T",
        ("gru" | "last", 'k') => "the hidden size H",
        ("gru", 'j') => "3H",
        ("gru" | "words", 'e') => "the input size E",
        (_, 'd') => "the dimension D",
        ("linear" | "norm" | "abs" | "same", 'n') | ("cosine" | "order" | "order-squared", 'i') => {
            "the number of rows N"
        }
        ("linear", 'i') => "the number of inputs",
        ("linear", 'o') => "the number of outputs",
        ("adam" | "clip", 'x') => "the number of elements",
        _ => return format!("the size of {letter}"),
    };
    name.into()
}
