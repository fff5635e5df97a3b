//! Changes of several relations at once, and of others than the one that is broken.

use std::collections::BTreeSet;

use super::edit::{Edit, Only, Whole};
use super::edits::edits;
use super::factors::{Candidates, MASKS, PAIRS};
use super::graph::Equation;
use super::language::{At, Axis, Factor, Function, GATES, Relation, Term};
use super::places::Test;
use super::values::Case;

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
/// Of numbers and masks of pairs alone, if asked for.
pub(super) fn everywhere(relations: &[(String, Relation)], candidates: &Candidates, numbers: bool) -> Vec<Edit> {
    let factors = || relations.iter().flat_map(|(_, relation)| &relation.terms).flat_map(|term| &term.factors);
    let mut leaves: Vec<&Factor> = Vec::new();
    for factor in factors() {
        let same = |other: &&Factor| other.leaf == factor.leaf && other.block == factor.block;
        let is_small = factor.axes.is_empty() || factor.leaf == "wrong";
        if factors().filter(same).count() > 1 && !leaves.iter().any(same) && (is_small || !numbers) {
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
        let is_mask = leaf.leaf == "wrong";
        let mut others: Vec<(f64, Factor)> = [Function::Abs, Function::Relu]
            .into_iter()
            .filter(|_| !is_mask)
            .map(|function| (1.4, Factor { function, ..plain.clone() }))
            .collect();
        let is_other = |name: &str| if is_mask { PAIRS.contains(&name) } else { !MASKS.contains(&name) };
        for (name, block, axes) in candidates.names.iter().filter(|(name, ..)| is_other(name)) {
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
            // What is made of the leaf cannot be made of itself.
            let of_itself = |(_, relation): &(String, Relation)| {
                let mut factors = relation.terms.iter().flat_map(|term| &term.factors);
                factors.any(|factor| {
                    let out = &relation.out;
                    factor.leaf == out.leaf && factor.block == out.block && factor.axes == out.axes
                })
            };
            if also.iter().any(of_itself) {
                continue;
            }
            let (family, relation) = also.remove(0);
            let reason = if is_mask { "" } else { ": it may be overwritten" };
            let says = format!("takes {into} for {plain} wherever it reads it{reason}");
            all.push(Edit { also, says, ..Edit::none(&family, &relation, cost) });
        }
    }
    all
}

/// The same changes in two relations with one right side.
pub(super) fn with_twin(case: &Case<'_>, of: usize, way: &[usize], place: usize, edits: &[Edit]) -> Vec<Edit> {
    let own = &case.graph.equations[place];
    let is_twin = |other: &&Equation| {
        let (one, two) = (&own.relation, &other.relation);
        let is_new =
            other.family > own.family || !way.iter().any(|&at| case.graph.equations[at].family == other.family);
        let same = one.terms == two.terms && one.function == two.function && !one.argmax;
        is_new && same && other.family != own.family
    };
    let twin = case.unwritten_before(of).iter().map(|&place| &case.graph.equations[place]).find(is_twin);
    let Some(twin) = twin else { return Vec::new() };
    let both = |edit: &Edit| {
        let also = Relation { out: twin.relation.out.clone(), ..edit.relation.clone() };
        let says = format!("{}, and so does {}", edit.says, twin.relation.out);
        Edit { also: vec![(twin.family.clone(), also)], says, ..edit.clone() }
    };
    edits.iter().filter(|edit| edit.weights.is_empty()).map(both).collect()
}

/// Changes of the written tensors that a relation reads: it may compute them again, in another way.
pub(super) fn computed_again(case: &Case<'_>, place: usize) -> Vec<Edit> {
    let mut all = Vec::new();
    let own = &case.graph.equations[place];
    let mut families: BTreeSet<&str> = BTreeSet::from([own.family.as_str()]);
    for maker in case.written_before(place) {
        let equation = &case.graph.equations[maker];
        if !families.insert(&equation.family) {
            continue;
        }
        // A backward pass is blamed on the forward pass last.
        let more = if equation.relation.is_backward() == own.relation.is_backward() { 0.4 } else { 0.6 };
        let mut right = Edit::none(&equation.family, &equation.relation, 0.9);
        right.says = format!("is made of {} as its relation gives it, not as it was written", equation.relation.out);
        right.again = true;
        all.push(right);
        for mut edit in edits(&equation.family, &equation.relation, &Candidates::of(case, maker)) {
            if edit.whole == Whole::Kept {
                edit.says = format!("follows from {} if that {} where this reads it", equation.relation.out, edit.says);
                (edit.cost, edit.again) = (edit.cost + more, true);
                all.push(edit);
            }
        }
    }
    all
}

/// Terms of another relation for the same tensor, such as that of the top layer.
pub(super) fn sisters(case: &Case<'_>, place: usize) -> Vec<Edit> {
    let equation = &case.graph.equations[place];
    let kind = |equation: &Equation| case.graph.groups[equation.group].kind;
    let others = case.graph.equations.iter().filter(|other| {
        kind(other) == kind(equation)
            && other.family != equation.family
            && other.relation.out.name() == equation.relation.out.name()
    });
    let terms = others.flat_map(|other| &other.relation.terms);
    let mut all: Vec<Edit> = Vec::new();
    for term in terms.filter(|term| !equation.relation.terms.contains(term)) {
        let mut edit = Edit::none(&equation.family, &equation.relation, 1.3);
        edit.says = format!("has the further term {term}{}", equation.relation.function.inside());
        edit.relation.terms.push(term.clone());
        if all.iter().all(|known| known.says != edit.says) {
            all.push(edit);
        }
    }
    all
}

/// What is carried along is read after one more step with the same inputs.
pub(super) fn once_more(case: &Case<'_>, place: usize) -> Vec<Edit> {
    let own = &case.graph.equations[place];
    let same_group = |equation: &&Equation| equation.group == own.group && equation.family != own.family;
    let mut all: Vec<Edit> = Vec::new();
    for other in case.graph.equations.iter().filter(same_group).map(|equation| &equation.relation) {
        let is_plain = other.terms.iter().all(|term| other.summed(term).is_empty());
        let mut step = other.terms.clone();
        let mut carried = 0;
        for factor in step.iter_mut().flat_map(|term| &mut term.factors) {
            let before = |axis: &&mut Axis| axis.at == At::Shift(-1);
            let is_out = factor.leaf == other.out.leaf && factor.block == other.out.block;
            if let Some(axis) = factor.axes.iter_mut().find(before).filter(|_| is_out) {
                axis.at = At::Shift(0);
                carried += 1;
            }
        }
        if carried == 0 || !is_plain || other.function != Function::Identity || other.argmax {
            continue;
        }
        for (i, term) in own.relation.terms.iter().enumerate() {
            for f in (0..term.factors.len()).filter(|&f| term.factors[f] == other.out) {
                let mut edit = Edit::none(&own.family, &own.relation, 1.4);
                let with = |new: &Term| {
                    let mut factors = term.factors.clone();
                    factors.splice(f..=f, new.factors.clone());
                    Term { coefficient: term.coefficient * new.coefficient, factors }
                };
                edit.relation.terms.splice(i..=i, step.iter().map(with));
                edit.says = format!("takes {} after one more step with the same inputs", other.out);
                if all.iter().all(|known| known.says != edit.says || known.relation != edit.relation) {
                    all.push(edit);
                }
            }
        }
    }
    all
}
