//! The search: which single change of a relation gives the backend's values. The cheapest sentence wins, the cost of
//! the change and that of its place together. Where none fits, changes are read off from the numbers.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::edit::{Edit, Whole};
use super::edits::edits;
use super::factors::Candidates;
use super::family::{Family, Fit};
use super::identify;
use super::language::Relation;
use super::parts::in_parts;
use super::places::Place;
use super::several::{computed_again, constants, everywhere, filled, in_places, once_more, sisters, with_twin};
use super::sources;

/// Sentences that cost at most this much more than the cheapest are given too, with "or".
const AS_GOOD: f64 = 0.15;
/// A change of an unwritten tensor costs so much more where others that are made of it are right.
const ELSEWHERE: f64 = 0.4;
/// So many changes are tested at once, the cheap ones first.
const AT_ONCE: usize = 128;
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
        let mut own = edits(&equation.family, &equation.relation, &Candidates::of(case, place));
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
    all.extend(everywhere(&relations, &Candidates::of(case, first.equation), is_long));
    all.extend(filled(&relations));
    all.extend(sisters(case, first.equation));
    all.extend(once_more(case, first.equation));
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

/// The cheapest of some changes that explain every wrong element.
fn best(family: &Family<'_, '_, '_>, edits: &[Edit]) -> Vec<Fit> {
    let mut order: Vec<usize> = (0..edits.len()).collect();
    order.sort_by(|&a, &b| edits[a].cost.total_cmp(&edits[b].cost));
    let mut fits: Vec<(usize, Fit)> = Vec::new();
    let mut least = f64::INFINITY;
    for some in order.chunks(AT_ONCE) {
        // With its place a change costs no less.
        if edits[some[0]].cost > least + AS_GOOD {
            break;
        }
        let test = |&place: &usize| family.test(&edits[place]).into_iter().map(move |fit| (place, fit));
        let mut new: Vec<(usize, Fit)> = some.par_iter().flat_map_iter(test).collect();
        for (_, fit) in new.iter_mut().filter(|(_, fit)| fit.place == Place::default()) {
            // What other tensors are made of is right: only this relation reads something else.
            if fit.edit.as_ref().is_some_and(|edit| family.breaks_another(edit)) {
                fit.cost += ELSEWHERE;
                fit.says += " where this reads it";
                fit.edit = None;
            }
        }
        least = new.iter().map(|(_, fit)| fit.cost).fold(least, f64::min);
        fits.extend(new);
    }
    fits.sort_by(|(a, one), (b, other)| one.cost.total_cmp(&other.cost).then(a.cmp(b)));
    let mut seen: Vec<(String, Place)> = Vec::new();
    fits.retain(|(_, fit)| {
        let sentence = (fit.says.clone(), fit.place.clone());
        let is_new = fit.cost <= least + AS_GOOD && !seen.contains(&sentence);
        seen.push(sentence);
        is_new
    });
    fits.into_iter().map(|(_, fit)| fit).collect()
}
