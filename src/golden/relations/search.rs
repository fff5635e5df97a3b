//! The search: which single change of a relation gives the backend's values. The cheapest sentence wins, the cost of
//! the change and that of its place together. Where none fits, changes are read off from the numbers.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::edits::{Edit, Whole, constants, edits, everywhere, filled, in_places};
use super::factors::Candidates;
use super::family::{Family, Fit};
use super::graph::{Equation, GIVEN, STATES, View};
use super::identify;
use super::language::{Layer, Relation, STACKED};
use super::parts::in_parts;
use super::places::Place;
use super::sources;
use super::values::Case;

/// Sentences that cost at most this much more than the cheapest are given too, with "or".
const AS_GOOD: f64 = 0.15;
/// With more kinds of unwritten tensors on the way than these, each change is computed through all of them: only what
/// costs no more than this is tried.
const FEW: usize = 4;
const CHEAP: f64 = 1.45;
/// And so many of them that this many numbers are computed.
const WORK: usize = 3 << 24;
/// Wrong masks and indices must tell changes apart by as many bits: a few agree with many changes.
const BITS: f64 = 8.0;

/// The cheapest changes that explain every wrong element; several if they cost nearly the same. They are changes of the
/// relation itself, or of those of the unwritten tensors at `way`.
pub(super) fn explain(family: &Family<'_, '_, '_>, way: &[usize]) -> Vec<Fit> {
    let first = family.model;
    let case = &family.cases[first.case];
    let exact = family.sites.iter().any(|site| site.exact);
    if exact && family.bits() < BITS {
        return Vec::new();
    }
    // The relation itself, and those of unwritten tensors that it is made of.
    let (mut all, mut unwritten): (Vec<Edit>, Vec<Edit>) = Default::default();
    let mut relations: Vec<(String, Relation)> = Vec::new();
    let is_long = way.iter().map(|&place| &case.graph.equations[place].family).collect::<BTreeSet<_>>().len() > FEW;
    let first_is_backward = case.graph.equations[first.equation].relation.is_backward();
    for place in std::iter::once(first.equation).chain(way.iter().copied()) {
        let equation = &case.graph.equations[place];
        if relations.iter().any(|(family, _)| *family == equation.family) {
            continue;
        }
        relations.push((equation.family.clone(), equation.relation.clone()));
        let mut own = edits(&equation.family, &equation.relation, &candidates(case, place));
        if place == first.equation {
            own.extend(in_parts(family, &own));
        } else {
            own.retain(|edit| edit.whole == Whole::Kept && (!is_long || edit.cost <= CHEAP));
            own.extend(with_twin(case, first.equation, way, place, &own));
            own.extend(constants(&equation.family, &equation.relation));
            let mut placed = in_places(&own);
            // The forward pass is blamed for a gradient last.
            let more = if equation.relation.is_backward() == first_is_backward { 0.1 } else { 0.4 };
            for edit in own.iter_mut().chain(&mut placed) {
                edit.says = format!("follows from {} if that {}", equation.relation.out, edit.says);
                edit.cost += more;
            }
            unwritten.extend(placed);
        }
        all.extend(own);
    }
    all.extend(everywhere(&relations, &candidates(case, first.equation), is_long));
    all.extend(filled(&relations));
    all.extend(sisters(case, first.equation));
    if is_long {
        // Each is computed at least in the smallest case that is wrong.
        let most = WORK / case.numbers().max(1);
        let own = &case.graph.equations[first.equation].family;
        let (mut kept, mut others): (Vec<Edit>, Vec<Edit>) = all.into_iter().partition(|edit| edit.family == *own);
        for edits in [&mut others, &mut unwritten] {
            edits.sort_by(|a, b| a.cost.total_cmp(&b.cost));
            edits.truncate(most);
        }
        kept.extend(others);
        all = kept;
    }
    let mut fits = best(family, &all);
    if fits.is_empty() {
        fits = best(family, &unwritten);
    }
    if fits.is_empty() {
        fits = best(family, &identify::fitted(family, way));
    }
    // Masks and indices do not tell so many changes apart.
    if fits.is_empty() && !exact {
        fits = best(family, &computed_again(case, first.equation));
    }
    let read_off = [identify::weights, identify::another_step, identify::another_function, sources::read_off];
    if fits.is_empty() { read_off.iter().find_map(|read| read(family)).into_iter().collect() } else { fits }
}

/// The same changes in two relations with one right side.
fn with_twin(case: &Case<'_>, of: usize, way: &[usize], place: usize, edits: &[Edit]) -> Vec<Edit> {
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
fn computed_again(case: &Case<'_>, place: usize) -> Vec<Edit> {
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
        for mut edit in edits(&equation.family, &equation.relation, &candidates(case, maker)) {
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
fn sisters(case: &Case<'_>, place: usize) -> Vec<Edit> {
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
        edit.says = format!("has the further term {term}");
        edit.relation.terms.push(term.clone());
        if all.iter().all(|known| known.says != edit.says) {
            all.push(edit);
        }
    }
    all
}

fn best(family: &Family<'_, '_, '_>, edits: &[Edit]) -> Vec<Fit> {
    let mut fits: Vec<Fit> = edits.par_iter().flat_map_iter(|edit| family.test(edit)).collect();
    fits.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let least = fits.first().map_or(0.0, |fit| fit.cost);
    let mut seen: Vec<(String, Place)> = Vec::new();
    fits.retain(|fit| {
        let sentence = (fit.says.clone(), fit.place.clone());
        let is_new = fit.cost <= least + AS_GOOD && !seen.contains(&sentence);
        seen.push(sentence);
        is_new
    });
    fits
}

/// The leaves that may stand in a relation: its own, those that come before it, and what is given.
fn candidates(case: &Case<'_>, place: usize) -> Candidates {
    let equation = &case.graph.equations[place];
    let group = &case.graph.groups[equation.group];
    let made_later = |tensor: &str| {
        let maker = case.graph.equations.iter().position(|other| other.tensor == tensor);
        tensor == equation.tensor || maker.is_some_and(|maker| maker >= place)
    };
    let mut names: Vec<(String, Option<usize>, usize)> = Vec::new();
    let own: Vec<&str> = equation.relation.leaves().collect();
    let shorts = group.leaves.keys().map(String::as_str).chain(GIVEN);
    for short in shorts {
        let tensor = group.leaves.get(short).map_or(short, |leaf| leaf.tensor.as_str());
        if names.iter().any(|(name, ..)| name == short)
            || STATES.contains(&short)
            || Layer::is_of_another(short)
            || tensor == equation.tensor && equation.relation.out.block.is_none()
            || (made_later(tensor) && !own.contains(&short))
        {
            continue;
        }
        let Some(values) = case.leaf(place, short) else { continue };
        if STACKED.contains(&short) {
            names.extend((0..3).map(|block| (short.to_owned(), Some(block), values.ndim())));
        }
        names.push((short.to_owned(), None, values.ndim()));
    }
    // What the other side has in their place.
    if matches!(group.kind, "norm" | "abs" | "same" | "linear") {
        let others = case.graph.groups.iter().filter(|other| other.kind == group.kind && other.part != group.part);
        for leaf in others.flat_map(|other| other.leaves.values()).filter(|leaf| leaf.view == View::Whole) {
            if let (false, Some(values)) = (made_later(&leaf.tensor), case.leaf(place, &leaf.tensor)) {
                names.push((leaf.tensor.clone(), None, values.ndim()));
            }
        }
    }
    Candidates {
        names,
        sizes: equation.relation.letters(),
        layers: group.kind == "gru" && case.settings.num_layers > 1,
    }
}
