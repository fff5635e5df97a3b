//! The search: which single change of a relation gives the backend's values. The cheapest sentence wins, the cost of
//! the change and that of its place together. Where none fits, changes are read off from the numbers.

use rayon::prelude::*;

use super::edits::{Candidates, Edit, Whole, edits, in_places};
use super::family::{Family, Fit};
use super::graph::{GIVEN, STATES, View};
use super::identify;
use super::language::{Factor, STACKED};
use super::parts::in_parts;
use super::values::Case;

/// Sentences that cost at most this much more than the cheapest are given too, with "or".
const AS_GOOD: f64 = 0.15;
/// Wrong masks and indices must tell changes apart by as many bits: a few agree with many changes.
const BITS: f64 = 8.0;

/// The cheapest changes that explain every wrong element; several if they cost nearly the same.
pub(super) fn explain(family: &Family<'_, '_, '_>) -> Vec<Fit> {
    let Some(first) = family.sites.first() else { return Vec::new() };
    let case = &family.cases[first.case];
    let exact = family.sites.iter().any(|site| site.exact);
    if exact && family.bits() < BITS {
        return Vec::new();
    }
    // The relation itself, and those of unwritten tensors that it is made of.
    let (mut all, mut unwritten): (Vec<Edit>, Vec<Edit>) = Default::default();
    let mut families: Vec<String> = Vec::new();
    for place in std::iter::once(first.equation).chain(case.on_the_way(first.equation)) {
        let equation = &case.graph.equations[place];
        if families.contains(&equation.family) {
            continue;
        }
        families.push(equation.family.clone());
        let mut own = edits(&equation.family, &equation.relation, &candidates(case, place));
        if place == first.equation {
            own.extend(in_parts(family, &own));
        } else {
            own.retain(|edit| edit.whole == Whole::Kept);
            let mut placed = in_places(&own);
            for edit in own.iter_mut().chain(&mut placed) {
                edit.says = format!("follows from {} if that {}", equation.relation.out, edit.says);
                edit.cost += 0.1;
            }
            unwritten.extend(placed);
        }
        all.extend(own);
    }
    let mut fits = best(family, &all);
    if fits.is_empty() {
        fits = best(family, &unwritten);
    }
    if fits.is_empty() {
        fits = best(family, &identify::fitted(family));
    }
    if fits.is_empty() { identify::weights(family).into_iter().collect() } else { fits }
}

fn best(family: &Family<'_, '_, '_>, edits: &[Edit]) -> Vec<Fit> {
    let mut fits: Vec<Fit> = edits.par_iter().filter_map(|edit| family.test(edit)).collect();
    fits.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let least = fits.first().map_or(0.0, |fit| fit.cost);
    let mut seen: Vec<String> = Vec::new();
    fits.retain(|fit| {
        fit.cost <= least + AS_GOOD && !seen.contains(&fit.says) && {
            seen.push(fit.says.clone());
            true
        }
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
    let mut sizes = equation.relation.out.letters();
    for letter in equation.relation.terms.iter().flat_map(|term| term.factors.iter().flat_map(Factor::letters)) {
        if !sizes.contains(&letter) {
            sizes.push(letter);
        }
    }
    Candidates { names, sizes }
}
