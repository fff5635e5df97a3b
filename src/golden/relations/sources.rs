//! From which other places values come: read off in the smallest case that tells.

use ndarray::{ArrayD, Axis as Dimension};

use super::edits::Edit;
use super::family::{Family, Fit};
use super::graph::GIVEN;
use super::language::{At, Factor, Function, Relation};
use super::local::{Kind, Site};
use super::places::plain_axes;
use super::values::Case;

/// Axes with more places are left out.
const MOST: usize = 64;
/// A place is taken for another one if at least so many numbers agree.
const FEWEST: usize = 3;
/// How many places a sentence has.
const SHOWN: usize = 6;

/// The values at each place of a letter are those of another place, or are made of a factor at another place.
pub(super) fn read_off(family: &Family<'_, '_, '_>) -> Option<Fit> {
    family.sites.iter().filter(|site| site.broken() && !site.exact).find_map(|site| {
        let case = &family.cases[site.case];
        let equation = &case.graph.equations[site.equation];
        let says = of_result(site, &equation.relation).or_else(|| of_last(case, site)).or_else(|| {
            let terms = equation.relation.terms.iter().enumerate();
            terms.flat_map(|(i, term)| term.factors.iter().enumerate().map(move |(f, factor)| (i, f, factor))).find_map(
                |(i, f, factor)| {
                    let values = |changed: Factor| {
                        let mut edit = Edit::none(&equation.family, &equation.relation, 0.0);
                        edit.relation.terms[i].factors[f] = changed;
                        edit.values(case, site.equation)
                    };
                    of_factor(site, &equation.relation, factor, &values)
                },
            )
        })?;
        let says = format!("{says} (read off in {})", case.golden.entry.id);
        Some(Fit::read_off(4.0, says))
    })
}

/// The result at each place is that of another place.
fn of_result(site: &Site, relation: &Relation) -> Option<String> {
    if relation.out.through().next().is_some() {
        return None;
    }
    relation.out.letters().iter().enumerate().find_map(|(axis, &letter)| {
        let size = *site.right.shape().get(axis)?;
        let slice = |k: usize| site.right.index_axis(Dimension(axis), k).iter().copied().collect::<Vec<f64>>();
        let all: Vec<Vec<f64>> = (0..size).map(slice).collect();
        let from = places(site, axis, size, &|source, _| Some(all[source].clone()))?;
        Some(format!("has at {letter} = {}", list(&from)))
    })
}

/// The last state of a row is that of another token.
fn of_last(case: &Case<'_>, site: &Site) -> Option<String> {
    let relation = &case.graph.equations[site.equation].relation;
    let h = relation.leaves().find(|leaf| *leaf == "h").filter(|_| relation.out.leaf == "last")?;
    let h = case.leaf(site.equation, h)?;
    let tokens: Vec<(usize, usize)> = ndarray::indices((h.shape()[0], h.shape()[1])).into_iter().collect();
    let (lengths, width) = (&case.graph.lengths, h.shape()[2]);
    let found = site.found.as_slice()?;
    let mut from = Vec::new();
    for b in (0..lengths.len()).filter(|b| (0..width).any(|k| site.kinds[b * width + k] == Kind::Wrong)) {
        let is = |&&(row, t): &&(usize, usize)| {
            (0..width).all(|k| site.agrees(b * width + k, found[b * width + k], h[[row, t, k].as_slice()]))
        };
        let (row, t) = tokens.iter().filter(|_| width >= FEWEST).find(is)?;
        from.push(format!("for b = {b} (length {}) h[{row}, {t}]", lengths[b]));
    }
    Some(format!("takes {}", from[..from.len().min(SHOWN)].join(", ")))
}

/// A factor is read at another place.
fn of_factor(
    site: &Site,
    relation: &Relation,
    factor: &Factor,
    values: &dyn Fn(Factor) -> Option<ArrayD<f64>>,
) -> Option<String> {
    // A few numbers say little where there are only two values.
    let is_mask = matches!(factor.function, Function::Sign | Function::Positive | Function::NotNegative)
        || GIVEN.contains(&factor.leaf.as_str())
        || factor.leaf.starts_with("active");
    if is_mask {
        return None;
    }
    let own = relation.out.letters();
    plain_axes(factor).filter(|(place, _)| factor.axes[*place].at == At::Shift(0)).find_map(|(place, letter)| {
        let axis = own.iter().position(|&l| l == letter)?;
        let size = *site.right.shape().get(axis).filter(|&&size| size <= MOST)?;
        let mut at = Vec::new();
        for source in 0..size {
            let mut changed = factor.clone();
            changed.axes.iter_mut().filter(|axis| axis.letter == letter).for_each(|axis| axis.at = At::Is(source));
            let x = values(changed)?;
            (x.shape() == site.right.shape()).then_some(())?;
            at.push(x);
        }
        let slice = |source: usize, k: usize| Some(at[source].index_axis(Dimension(axis), k).iter().copied().collect());
        let from = places(site, axis, size, &slice)?;
        let name = &factor.axes[place].letter;
        Some(format!("takes {factor} at other places: for {name} = {}", list(&from)))
    })
}

/// For each place along an axis the place whose values are found there; none if there is no such place, or if all are
/// their own.
fn places(
    site: &Site,
    axis: usize,
    size: usize,
    slice: &dyn Fn(usize, usize) -> Option<Vec<f64>>,
) -> Option<Vec<(usize, usize)>> {
    if !(2..=MOST).contains(&size) {
        return None;
    }
    let inner: usize = site.right.shape()[axis + 1..].iter().product();
    let flat = |k: usize| (0..site.right.len()).filter(move |flat| flat / inner % size == k);
    let found = site.found.as_slice()?;
    let agrees = |source: usize, k: usize| {
        let values = slice(source, k)?;
        let pairs = || flat(k).zip(&values).filter(|(flat, _)| site.kinds[*flat] != Kind::Ignored);
        let all = pairs().all(|(flat, &x)| site.agrees(flat, found[flat], x));
        Some(all && (source == k || pairs().filter(|(flat, x)| x.abs() > 2.0 * site.allowed[*flat]).count() >= FEWEST))
    };
    let mut from = Vec::new();
    for k in 0..size {
        let source = std::iter::once(k).chain(0..size).find(|&source| agrees(source, k) == Some(true))?;
        if source != k {
            from.push((k, source));
        }
    }
    (!from.is_empty()).then_some(from)
}

/// "3 what belongs at 0, at 4 …"
fn list(from: &[(usize, usize)]) -> String {
    let all: Vec<String> = from.iter().take(SHOWN).map(|(k, source)| format!("{k} that of {source}")).collect();
    let more = from.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", all.join(", at "))
}
