//! The list of single changes of a relation, each with a cost.

use std::collections::BTreeSet;

use super::edit::{Along, Among, Edit, Masked, Operation, Power, Summands, Weight, Whole};
use super::elsewhere::{Order, Pair, Token};
use super::factors::{Candidates, MASKS, ORDERS, ROUNDINGS, moves, of_factor, other_indices};
use super::language::{At, Axis, Factor, Function, GATES, Layer, Relation, Term};
use super::places::Test;

/// What a letter is called where it runs over the places whose sums are added up.
fn another(letter: char) -> char {
    letter.to_ascii_uppercase()
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
    list.of_rounded_sums();
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
            for (above, name) in [(true, "above"), (false, "below")] {
                let says = format!("has in it those of all layers {name}: it is not cleared");
                self.push(1.3, says, |edit| edit.whole = Whole::WithLayers(above));
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
            for (power, text, cost) in Power::ALL {
                let size = size_name(&family, letter);
                self.push(cost, format!("is {text} {size}"), |edit| edit.whole = Whole::Scaled(letter, power));
                // The result of a sum that is not written, or one of several terms.
                let many = relation.terms.len() > 1;
                for i in (0..relation.terms.len()).filter(|_| many || relation.function == Function::Identity) {
                    let term = &relation.terms[i];
                    let says =
                        if many { format!("has the term {term} {text} {size}") } else { format!("is {text} {size}") };
                    self.push(cost + 0.1, says, |edit| edit.weigh(i, Summands::Scaled(letter, power), 1.0));
                }
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
        if relation.argmax && relation.leaves().any(|leaf| leaf.starts_with("cost_")) {
            for (among, of) in [
                (Masked::All, "all scores"),
                (Masked::Negatives, "the scores of all negatives"),
                (Masked::Filled, "the scores with 0 for pairs that do not count"),
            ] {
                let says = format!("is the place of the largest of {of}, or −1 if that pair does not count");
                self.push(1.2, says, |edit| edit.whole = Whole::MaskedAfterwards(among));
            }
        }
        if relation.argmax {
            self.push(1.0, "counts from 1, with 0 for none".into(), |edit| edit.whole = Whole::Plus(1.0));
            for n in [8, 16, 32, 64, 128] {
                self.push(1.2, format!("is the index modulo {n}"), |edit| edit.whole = Whole::Modulo(n));
            }
        }
        if relation.out.axes.len() == 2 {
            self.push(1.1, "is transposed".into(), |edit| edit.whole = Whole::Transposed);
            let says = "has the numbers of its transpose, as they lie in memory";
            self.push(1.2, says.into(), |edit| edit.whole = Whole::OfTranspose);
            self.push(1.2, "has its rows divided by their L2 norm".into(), |edit| edit.whole = Whole::Normalised);
        }
        if relation.out.axes.len() > 1 && !relation.argmax {
            let says = "has its rows scaled down to an L2 norm of at most 1";
            self.push(1.3, says.into(), |edit| edit.whole = Whole::AtMostNorm(1.0));
        }
        let sums = relation.terms.iter().any(|term| !relation.summed(term).is_empty());
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
                if let Along::Letter(letter) = along {
                    let says =
                        format!("has in it the results of {place} + {n}, {place} + {}, …: it is not cleared", 2 * n);
                    self.push(1.4, says, |edit| edit.whole = Whole::Onwards(letter, n));
                }
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
            let says = "is divided by the number of terms that count";
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

    /// Sums that are rounded on the way.
    fn of_rounded_sums(&mut self) {
        let relation = self.relation;
        if relation.argmax {
            return;
        }
        let sums = relation.terms.iter().any(|term| !relation.summed(term).is_empty());
        for (rounding, name, _) in ROUNDINGS[..2].iter().filter(|_| sums) {
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
        if relation.function != Function::Identity && (sums || relation.terms.len() > 1) {
            for (rounding, name, more) in &ROUNDINGS[..2] {
                let says = format!("rounds the argument of {} to {name}", relation.function.of("x"));
                self.push(1.3 + more, says, |edit| edit.whole = Whole::OfRounded(*rounding));
            }
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
        self.of_all_sums();
        self.of_every_read();
        self.of_common_factors();
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

    /// A leaf that is read several times is another one each time.
    fn of_every_read(&mut self) {
        let (relation, candidates) = (self.relation, self.candidates);
        let factors = || relation.terms.iter().flat_map(|term| &term.factors);
        let mut seen: Vec<&Factor> = Vec::new();
        for leaf in factors() {
            let same = |other: &Factor| (&other.leaf, other.block) == (&leaf.leaf, leaf.block);
            if seen.iter().any(|seen| same(seen)) || factors().filter(|other| same(other)).count() < 2 {
                continue;
            }
            seen.push(leaf);
            for (name, block, axes) in &candidates.names {
                if *axes != leaf.axes.len() || (name, block) == (&leaf.leaf, &leaf.block) || *name == relation.out.leaf
                {
                    continue;
                }
                self.push(1.4, format!("takes {name} for {} each time it reads it", leaf.leaf), |edit| {
                    for factor in edit.relation.terms.iter_mut().flat_map(|term| &mut term.factors) {
                        if (&factor.leaf, factor.block) == (&leaf.leaf, leaf.block) {
                            (factor.leaf, factor.block) = (name.clone(), *block);
                        }
                    }
                });
            }
        }
    }

    /// A factor of several terms is another one in all of them.
    fn of_common_factors(&mut self) {
        let (relation, candidates) = (self.relation, self.candidates);
        let mut common: Vec<&Factor> = Vec::new();
        for (i, term) in relation.terms.iter().enumerate() {
            let is_common = |factor: &&Factor| relation.terms[i + 1..].iter().any(|term| term.factors.contains(factor));
            let new: Vec<&Factor> = term.factors.iter().filter(is_common).filter(|f| !common.contains(f)).collect();
            common.extend(new);
        }
        for factor in common {
            let mut change = |cost: f64, says: String, into: Factor| {
                // Another leaf each time is of_every_read.
                let is_another = (&into.leaf, into.block) != (&factor.leaf, factor.block) && into.axes == factor.axes;
                if (is_another && !Layer::is_of_another(&into.leaf))
                    || (&into.leaf, into.block) == (&relation.out.leaf, relation.out.block)
                {
                    return;
                }
                self.push(cost + 0.1, format!("{says}, in all terms"), |edit| {
                    let factors = edit.relation.terms.iter_mut().flat_map(|term| &mut term.factors);
                    factors.filter(|other| *other == factor).for_each(|other| *other = into.clone());
                });
            };
            of_factor(factor, candidates, &mut change);
            self.push(1.1, format!("lacks the factor {factor}, in all terms"), |edit| {
                edit.relation.terms.iter_mut().for_each(|term| term.factors.retain(|other| other != factor));
            });
        }
    }

    /// Summands that all sums lack, and a square of a sum for a sum of squares.
    fn of_all_sums(&mut self) {
        let relation = self.relation;
        let sums: Vec<(usize, Vec<char>)> = (0..relation.terms.len())
            .map(|i| (i, relation.summed(&relation.terms[i])))
            .filter(|(_, summed)| !summed.is_empty())
            .collect();
        if let [(_, first), _, ..] = &sums[..] {
            for &letter in first.iter().filter(|letter| sums.iter().all(|(_, summed)| summed.contains(letter))) {
                for test in Test::fixed().chain([2, 4, 8, 16, 32, 64, 128, 256].map(Test::From)) {
                    let says = format!("leaves out of every sum the summands with {}", test.says(&letter.to_string()));
                    self.push(1.3 + 0.4 * test.cost(), says, |edit| {
                        for (i, _) in &sums {
                            edit.weigh(*i, Summands::Index(letter, test), 0.0);
                        }
                    });
                }
            }
        }
        if let ([term], [_]) = (&relation.terms[..], &sums[..])
            && let [one, other] = &term.factors[..]
            && one == other
        {
            for n in [2, 4, 8, 16, 32, usize::MAX] {
                let says = if n == usize::MAX {
                    format!("squares the sum of {one}, not each")
                } else {
                    format!("squares the sums of every {n} {one}, not each")
                };
                self.push(1.3, says, |edit| {
                    edit.relation.terms[0].factors.truncate(1);
                    edit.whole = Whole::SquaredParts(n);
                });
            }
            if matches!(relation.function, Function::Root | Function::MinusRoot) {
                self.push(1.3, format!("has the sum of {one} for the root of the sum of its squares"), |edit| {
                    edit.relation.terms[0].factors.truncate(1);
                    edit.relation.terms[0].coefficient = if relation.function == Function::Root { 1.0 } else { -1.0 };
                    edit.relation.function = Function::Identity;
                });
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
        let summed = relation.terms.iter().flat_map(|term| relation.summed(term)).collect::<BTreeSet<char>>();
        for &letter in summed.iter().filter(|_| many) {
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
                (Summands::LastByName, "the last tensor in the order of names"),
            ] {
                self.push(1.2, format!("leaves out the gradients of {text}"), |edit| {
                    edit.weigh(i, summands, 0.0);
                });
            }
            for name in &candidates.parameters {
                self.push(1.3, format!("leaves out the gradient of {name}"), |edit| {
                    edit.weigh(i, Summands::Parameter(name.clone()), 0.0);
                });
            }
            for n in [2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 64, 128, 256, 512, 1024] {
                self.push(1.5, format!("leaves out the gradients of parameters with fewer than {n} numbers"), |edit| {
                    edit.weigh(i, Summands::Smaller(n), 0.0);
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
        for (name, block, _) in candidates.names.iter().filter(|(.., axes)| *axes == 0) {
            for function in [Function::Identity, Function::Inverse] {
                let into = Factor { function, ..Factor::named(name, *block, Vec::new()) };
                self.push(1.4, format!("has the further factor {into} in {term}"), |edit| {
                    edit.relation.terms[i].factors.push(into);
                });
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
        for &letter in &relation.free(&relation.terms[i]) {
            for own in relation.out.letters() {
                for pair in Pair::all() {
                    let says = pair.says(&letter.to_string(), &own.to_string());
                    self.push(1.8, format!("leaves out the summands with {says}"), |edit| {
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
        let summed = relation.free(&relation.terms[i]);
        let scattered: Vec<char> = relation.out.through().flat_map(|(_, letters)| letters.clone()).collect();
        for &letter in summed.iter().chain(scattered.iter()) {
            let tests = Test::fixed().chain([2, 4, 8, 16, 32, 64, 128, 256].map(Test::From));
            for test in tests {
                let cost = 1.2
                    + match test {
                        Test::Tail(_) | Test::Last | Test::First => 0.3,
                        Test::AnyTail(_) | Test::From(_) => 0.4,
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
            let says = "leaves out the tokens of steps in which not every row runs";
            self.push(1.6, says.into(), |edit| {
                edit.weights.push(Weight { term: i, summands: Summands::FullSteps, inside: 1.0, outside: 0.0 });
            });
            self.push(1.6, "counts each row's last token twice".into(), |edit| {
                edit.weigh(i, Summands::LastToken(None), 2.0);
            });
        }
        for (place, axis) in relation.out.axes.iter().enumerate() {
            let At::Through(name, letters) = &axis.at else { continue };
            for (other, cost) in other_indices(name) {
                let mut out = relation.out.clone();
                out.axes[place].at = At::Through(other, letters.clone());
                self.push(cost, format!("adds to {out}, not to {}", relation.out), |edit| edit.relation.out = out);
            }
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
        let summed = relation.summed(term);
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
                // In a sum over this factor alone another step is another name for a summand that is left out.
                let is_alone = |letter: char| {
                    let others = term.factors.iter().enumerate().filter(|(k, _)| *k != f);
                    summed.contains(&letter)
                        && !others.map(|(_, other)| other).any(|other| other.letters().contains(&letter))
                };
                let moved = into.axes.iter().zip(&factor.axes).any(|(new, old)| new != old && is_alone(old.letter));
                let cost = if moved && into.leaf == factor.leaf { cost + 0.7 } else { cost };
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
