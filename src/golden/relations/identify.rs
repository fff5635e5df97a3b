//! What no change of the list gives is read off: coefficients, a further term, a bound, the weight of each summand.
//! What was read off is tested like any change.

use std::collections::BTreeSet;

use ndarray::{ArrayD, Dimension as _, IxDyn};

use super::edit::{Edit, Whole};
use super::family::{Element, Family, Fit};
use super::graph::{Equation, GIVEN};
use super::language::{Argument, At, Axis, Factor, Function, Layer, Relation, Term};
use super::local::{Kind, Site};
use super::places::short;
use super::values::Case;

/// An approximation is read off from at least so many elements, that are off by this part at most.
const FOR_A_RATIO: usize = 20;
const MOST_OF_A_RATIO: f64 = 0.05;
/// Numbers are read off from at most so many wrong elements.
const MOST_ROWS: usize = 2000;
/// At most so many weights are read off, and so many summands of one weight are shown.
const MOST_WEIGHTS: usize = 64;
const SHOWN: usize = 6;
/// So many wrong elements show a function, if their errors are off by less than this part of them from a line between
/// their neighbours'.
const FOR_A_FUNCTION: usize = 50;
const SMOOTH: f64 = 0.06;
/// How far a step is looked for.
const MOST_STEPS: u32 = 4096;
/// A coefficient that is as near as this to a plain number is that number.
const PLAIN: f64 = 2e-3;

/// Changes with numbers that are read off from the wrong elements.
pub(super) fn fitted(family: &Family<'_, '_, '_>, way: &[usize]) -> Vec<Edit> {
    let first = family.model;
    let case = &family.cases[first.case];
    let equation = &case.graph.equations[first.equation];
    let base = Edit::none(&equation.family, &equation.relation, 2.0);
    let mut all = Vec::new();
    if equation.relation.argmax {
        return all;
    }
    all.extend(coefficients(family, &base));
    all.extend(constants_for_factors(family, &base));
    all.extend(further_terms(family, &base));
    all.extend(bounds(family, &base));
    all.extend(ratios(family, &base));
    all.extend(numbers(family, way));
    all
}

/// The value before a function.
pub(super) fn before(function: Function, y: f64) -> Option<f64> {
    let x = match function {
        Function::Identity => y,
        Function::Sigmoid => libm::log(y / (1.0 - y)),
        Function::Tanh => libm::atanh(y),
        Function::Root | Function::MinusRoot => y * y,
        Function::Relu if y > 0.0 => y,
        _ => return None,
    };
    x.is_finite().then_some(x)
}

/// The wrong elements that are far from where a function is flat, with the values of some columns there.
fn rows(family: &Family<'_, '_, '_>, columns: &[Vec<Option<ArrayD<f64>>>], function: Function) -> Vec<(Vec<f64>, f64)> {
    let mut rows = Vec::new();
    for &(s, place) in family.wrong.iter().take(MOST_ROWS) {
        let site = family.sites[s];
        let found = site.found.iter().nth(place).copied().unwrap_or(f64::NAN);
        let flat = matches!(function, Function::Sigmoid) && !(0.02..0.98).contains(&found)
            || matches!(function, Function::Tanh) && found.abs() > 0.95;
        let row: Option<Vec<f64>> =
            columns.iter().map(|column| column[s].as_ref()?.iter().nth(place).copied()).collect();
        if let (Some(row), Some(y), false) = (row, before(function, found), flat)
            && row.iter().all(|x| x.is_finite())
        {
            // An element counts by how exactly it is known.
            let weight = 1.0 / site.allowed[place].max(f64::MIN_POSITIVE);
            rows.push((row.into_iter().map(|x| x * weight).collect(), y * weight));
        }
    }
    rows
}

/// Each term's values at the sites with wrong elements, so many of them as [`rows`] looks at.
fn terms(family: &Family<'_, '_, '_>, relation: &Relation) -> Vec<Vec<Option<ArrayD<f64>>>> {
    let last = family.wrong.get(MOST_ROWS).map_or(usize::MAX, |&(s, _)| s);
    (0..relation.terms.len())
        .map(|term| {
            family
                .sites
                .iter()
                .enumerate()
                .map(|(s, site)| {
                    if !site.broken() || s > last {
                        return None;
                    }
                    let case = &family.cases[site.case];
                    let sizes = case.sizes(site.equation)?;
                    let letters = relation.out.letters();
                    let values =
                        case.with_leaves(site.equation, |leaves| relation.term_values(leaves, &letters, &sizes, term))?;
                    (values.shape() == site.right.shape()).then_some(values)
                })
                .collect()
        })
        .collect()
}

/// Least squares by the normal equations; none if the columns depend on each other.
pub(super) fn solve(rows: &[(Vec<f64>, f64)]) -> Option<Vec<f64>> {
    let n = rows.first()?.0.len();
    if rows.len() < n + 2 {
        return None;
    }
    let mut a = vec![vec![0.0; n + 1]; n];
    for (row, y) in rows {
        for i in 0..n {
            for j in 0..n {
                a[i][j] += row[i] * row[j];
            }
            a[i][n] += row[i] * y;
        }
    }
    let size: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    for i in 0..n {
        let pivot = (i..n).max_by(|&p, &q| a[p][i].abs().total_cmp(&a[q][i].abs()))?;
        a.swap(i, pivot);
        if a[i][i].abs() <= 1e-9 * size[i] {
            return None;
        }
        for k in 0..n {
            if k != i {
                let factor = a[k][i] / a[i][i];
                let pivot = a[i].clone();
                a[k].iter_mut().zip(pivot).skip(i).for_each(|(x, p)| *x -= factor * p);
            }
        }
    }
    Some((0..n).map(|i| a[i][n] / a[i][i]).collect())
}

/// A plain number near to a coefficient, or the coefficient in four digits.
fn plain(x: f64) -> f64 {
    if x.abs() < 0.01 && x != 0.0 {
        // A small number, such as an epsilon, in two digits.
        let unit = libm::pow(10.0, libm::log10(x.abs()).floor() - 1.0);
        return (x / unit).round() * unit;
    }
    let halves = (2.0 * x).round() / 2.0;
    if (x - halves).abs() < PLAIN { halves + 0.0 } else { x }
}

fn coefficients(family: &Family<'_, '_, '_>, base: &Edit) -> Vec<Edit> {
    let relation = &base.relation;
    let columns = terms(family, relation);
    let rows = rows(family, &columns, relation.function);
    let Some(found) = solve(&rows) else { return Vec::new() };
    let mut edit = base.clone();
    let mut parts = Vec::new();
    for (term, &c) in edit.relation.terms.iter_mut().zip(&found) {
        // Next to the others it is what rounding leaves of 0.
        let c = if c.abs() < 1e-7 { 0.0 } else { plain(c) };
        if (c - 1.0).abs() > PLAIN {
            parts.push(format!("{} times {term}", short(c)));
        }
        term.coefficient *= c;
    }
    if parts.is_empty() {
        return Vec::new();
    }
    edit.says = if relation.terms.len() == 1 {
        format!("is {} times what it should be", short(plain(found[0])))
    } else {
        format!("has {}", parts.join(" and "))
    };
    edit.cost += 0.2 * parts.len() as f64;
    vec![edit]
}

/// A number in the place of a factor.
fn constants_for_factors(family: &Family<'_, '_, '_>, base: &Edit) -> Vec<Edit> {
    let mut all = Vec::new();
    for (i, term) in base.relation.terms.iter().enumerate().filter(|(_, term)| term.factors.len() > 1) {
        for (f, factor) in term.factors.iter().enumerate().filter(|(_, factor)| factor.through().next().is_none()) {
            let mut edit = base.clone();
            edit.relation.terms[i].factors.remove(f);
            // Without its factor a term may be no sum any more.
            if edit.relation.summed(&edit.relation.terms[i]) != base.relation.summed(term) {
                continue;
            }
            let columns = terms(family, &edit.relation);
            let Some(found) = solve(&rows(family, &columns, edit.relation.function)) else { continue };
            let c = plain(found[i]);
            let others = found.iter().enumerate().filter(|(k, _)| *k != i);
            if c == 0.0 || others.map(|(_, &c)| plain(c)).any(|c| (c - 1.0).abs() > PLAIN) {
                continue;
            }
            edit.relation.terms[i].coefficient *= c;
            edit.says = format!("takes {} for {factor}", short(c));
            edit.cost = 1.6;
            all.push(edit);
        }
    }
    all
}

/// A leaf of the shape of the result, or 1, times a number, added.
fn further_terms(family: &Family<'_, '_, '_>, base: &Edit) -> Vec<Edit> {
    let first = family.sites[0];
    let case = &family.cases[first.case];
    let relation = &base.relation;
    let group = &case.graph.groups[case.graph.equations[first.equation].group];
    let own = terms(family, relation);
    let mut names: Vec<Option<String>> = vec![None];
    names.extend(
        group
            .leaves
            .iter()
            .filter(|(short, leaf)| {
                let maker = case.graph.equations.iter().position(|other| other.tensor == leaf.tensor);
                **short != relation.out.leaf
                    && !Layer::is_of_another(short)
                    && maker.is_none_or(|maker| maker < first.equation)
                    && case.leaf(first.equation, short).is_some_and(|x| x.shape() == first.right.shape())
            })
            .map(|(short, _)| Some(short.clone())),
    );
    // What an accumulator that is not cleared still holds.
    let stale = relation.out.axes.iter().position(|axis| axis.letter == 't').filter(|_| relation.out.block.is_none());
    let mut all = Vec::new();
    if let Some(axis) = stale {
        let mut leaf = relation.out.clone();
        leaf.axes[axis].at = At::Shift(-1);
        leaf.initial = super::language::Initial::Zero;
        let mut edit = base.clone();
        edit.says = format!("has the further term {leaf}: what it sums in is not cleared between the steps");
        edit.relation.terms.push(Term { coefficient: 1.0, factors: vec![leaf] });
        edit.cost = 1.3;
        all.push(edit);
    }
    for name in names {
        let column: Vec<Option<ArrayD<f64>>> = family
            .sites
            .iter()
            .map(|site| {
                if !site.broken() {
                    return None;
                }
                match &name {
                    None => Some(ArrayD::ones(site.right.raw_dim())),
                    Some(name) => {
                        family.cases[site.case].leaf(site.equation, name).filter(|x| x.shape() == site.right.shape())
                    }
                }
            })
            .collect();
        let mut columns = own.clone();
        columns.push(column);
        let rows = rows(family, &columns, relation.function);
        let Some(found) = solve(&rows) else { continue };
        let (more, rest) = found.split_last().expect("one more");
        if !more.is_normal() || rest.iter().any(|&c| (plain(c) - 1.0).abs() > PLAIN) {
            continue;
        }
        let mut edit = base.clone();
        let c = plain(*more);
        let factors = match &name {
            None => Vec::new(),
            Some(name) => {
                let mut leaf = relation.out.clone();
                (leaf.leaf, leaf.block) = (name.clone(), None);
                leaf.axes = leaf.axes.iter().map(|axis| Axis { letter: axis.letter, at: At::Shift(0) }).collect();
                vec![leaf]
            }
        };
        let term = Term { coefficient: c, factors };
        let shown = name.as_ref().map_or(short(c), |_| {
            let leaf = Term { coefficient: 1.0, factors: term.factors.clone() }.to_string();
            if c.to_bits() == 1f64.to_bits() { leaf } else { format!("{} {leaf}", short(c)) }
        });
        edit.says = format!("has the further term {shown}{}", relation.function.inside());
        edit.relation.terms.push(term);
        all.push(edit);
    }
    all
}

/// A value that all wrong elements have, and that the right ones are above or below: the result is cut off.
fn bounds(family: &Family<'_, '_, '_>, base: &Edit) -> Vec<Edit> {
    let value = |&(s, place): &Element| -> Option<f64> { family.sites[s].found.iter().nth(place).copied() };
    let Some(values) = family.wrong.iter().map(value).collect::<Option<Vec<f64>>>() else { return Vec::new() };
    if values.len() < 3 || values.iter().any(|x| !x.is_finite()) {
        return Vec::new();
    }
    let (least, most) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let allowed = |&(s, place): &Element| family.sites[s].allowed[place];
    let ends = family
        .wrong
        .iter()
        .zip(&values)
        .all(|(element, x)| x - least <= allowed(element) || most - x <= allowed(element));
    if !ends {
        return Vec::new();
    }
    let first = values[0];
    let one = most - least <= allowed(&family.wrong[0]);
    let mut edit = base.clone();
    // Of one bound, the side on which it cuts follows from the right values.
    let above = family
        .wrong
        .iter()
        .all(|&(s, place)| family.sites[s].right.as_slice().is_some_and(|right| right[place] > most));
    let (low, high) = if one && above {
        (f64::NEG_INFINITY, most)
    } else if one {
        (least, f64::INFINITY)
    } else {
        (least, most)
    };
    edit.whole = Whole::Between(low, high);
    edit.says = if one {
        format!("is cut off at {}", short(first))
    } else {
        format!("is cut off at {} and {}", short(least), short(most))
    };
    edit.cost = 1.2;
    let mut constant = base.clone();
    constant.whole = Whole::Constant(first);
    constant.says = format!("is {}", short(first));
    constant.cost = 1.5;
    vec![edit, constant]
}

/// In the smallest case that tells: the weight that each summand has, if it is a plain one.
pub(super) fn weights(family: &Family<'_, '_, '_>) -> Option<Fit> {
    family.sites.iter().filter(|site| site.broken() && !site.exact).find_map(|site| {
        let case = &family.cases[site.case];
        let relation = &case.graph.equations[site.equation].relation;
        let many = relation.terms.len() > 1;
        let sums = (0..relation.terms.len()).find_map(|term| {
            let says = Sum::say(&[Sum::of(case, site, relation, term)?])?;
            Some(if many { format!("{says}, in the term {}", relation.terms[term]) } else { says })
        });
        let says = sums.or_else(|| Sum::say(&scattered(case, site, relation)))?;
        let says = format!("{says} (read off in {})", case.golden.entry.id);
        Some(Fit::read_off(4.0, says))
    })
}

/// Equations for the weights of some summands.
struct Sum {
    /// The letters that run over the summands, and the index of each.
    letters: Vec<char>,
    indices: Vec<Vec<usize>>,
    /// The summands at each element and their sum, in units of the largest error.
    rows: Vec<(Vec<f64>, f64)>,
}

impl Sum {
    /// Those of a term of a relation at one site.
    fn of(case: &Case<'_>, site: &Site, relation: &Relation, term: usize) -> Option<Self> {
        let place = site.equation;
        let (own, own_sizes) = (relation.out.letters(), case.sizes(place)?);
        let letters = relation.summed(&relation.terms[term]);
        let sizes: Vec<usize> = letters.iter().map(|&letter| case.size_of(place, letter)).collect::<Option<_>>()?;
        let count: usize = sizes.iter().product();
        if relation.out.through().next().is_some() || letters.is_empty() || count > MOST_WEIGHTS {
            return None;
        }
        let values = |term: usize, letters: &[char], sizes: &[usize]| {
            case.with_leaves(place, |leaves| relation.term_values(leaves, letters, sizes, term))
        };
        let summands = values(term, &[&own[..], &letters].concat(), &[&own_sizes[..], &sizes].concat())?;
        let summands = summands.as_slice()?;
        let mut rest = ArrayD::<f64>::zeros(site.right.raw_dim());
        for other in (0..relation.terms.len()).filter(|&other| other != term) {
            rest += &values(other, &own, &own_sizes)?;
        }
        let mut rows = Vec::new();
        for (at, (rest, &found)) in rest.iter().zip(&site.found).enumerate() {
            if let (Some(y), true) = (before(relation.function, found), site.kinds[at] != Kind::Ignored) {
                let unit = site.allowed[at].max(f64::MIN_POSITIVE);
                let row = summands[at * count..][..count].iter().map(|x| x / unit).collect();
                rows.push((row, (y - rest) / unit));
            }
        }
        let indices = ndarray::indices(IxDyn(&sizes)).into_iter().map(|index| index.slice().to_vec()).collect();
        Some(Self { letters, indices, rows })
    }

    /// The weights; none if they are no multiples of ½, or if there are not more equations than weights.
    fn weights(&self) -> Option<Vec<f64>> {
        let equations: Vec<(Vec<f64>, f64)> =
            self.rows.iter().filter(|(row, _)| row.iter().any(|x| x.abs() > 1.0)).cloned().collect();
        let half = |weight: f64| (2.0 * weight).round() / 2.0;
        let found = solve(&equations)?;
        let weights: Vec<f64> = found.iter().map(|&weight| half(weight)).collect();
        let plain = found.iter().zip(&weights).all(|(found, weight)| (found - weight).abs() < PLAIN);
        let sum = |row: &[f64]| row.iter().zip(&weights).map(|(x, weight)| x * weight).sum::<f64>();
        // Where nothing is left there is 0, not a small number. Half of each has to show.
        let some = weights.iter().any(|weight| *weight != 0.0) || equations.iter().all(|(_, y)| *y == 0.0);
        let shows = (0..weights.len()).all(|k| equations.iter().any(|(row, _)| row[k].abs() > 8.0));
        let fits = self.rows.iter().all(|(row, y)| (sum(row) - y).abs() <= 1.0);
        (some && shows && plain && fits).then_some(weights)
    }

    /// What is said of the weights of all of some sums; none if one of them cannot be read off, or if all are 1.
    fn say(sums: &[Self]) -> Option<String> {
        let is = |weight: f64, of: f64| (weight - of).abs() < PLAIN;
        let weights: Vec<Vec<f64>> = sums.iter().map(Self::weights).collect::<Option<_>>()?;
        let weights = weights.concat();
        let indices = || sums.iter().flat_map(|sum| &sum.indices);
        let mut kinds: Vec<f64> = weights.iter().copied().filter(|&weight| !is(weight, 1.0)).collect();
        kinds.sort_by(f64::total_cmp);
        kinds.dedup_by(|a, b| is(*a, *b));
        let list = |all: &[String]| if all.len() == 1 { all.concat() } else { format!("({})", all.join(", ")) };
        let letters = list(&sums.first()?.letters.iter().map(char::to_string).collect::<Vec<_>>());
        let part = |&kind: &f64| {
            let which = weights.iter().zip(indices()).filter(|(weight, _)| is(**weight, kind));
            let which: Vec<String> =
                which.map(|(_, index)| list(&index.iter().map(ToString::to_string).collect::<Vec<_>>())).collect();
            let more = which.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let text = if is(kind, 0.0) { "leaves out".into() } else { format!("has {} times", short(kind)) };
            format!("{text} the summands with {letters} = {}{more}", which[..which.len().min(SHOWN)].join(", "))
        };
        (!kinds.is_empty()).then(|| kinds.iter().map(part).collect::<Vec<_>>().join(" and "))
    }
}

/// Of a sum that is scattered over the rows of a matrix: those of each row with a wrong element.
fn scattered(case: &Case<'_>, site: &Site, relation: &Relation) -> Vec<Sum> {
    let all = || {
        let (name, letters) = relation.out.through().next()?;
        let index = case.leaf(site.equation, name)?;
        let sizes = case.sizes(site.equation)?;
        let (&width, [_, _]) = (sizes.last()?, site.right.shape()) else { return None };
        let own = relation.out.letters();
        let summands = case.with_leaves(site.equation, |leaves| relation.term_values(leaves, &own, &sizes, 0))?;
        let (summands, found) = (summands.as_slice()?, site.found.as_slice()?);
        let mut rows: Vec<usize> =
            (0..found.len()).filter(|&at| site.kinds[at] == Kind::Wrong).map(|at| at / width).collect();
        rows.dedup();
        let sum = |row: usize| {
            let here: Vec<(usize, Vec<usize>)> = index
                .indexed_iter()
                .enumerate()
                .filter(|(_, (at, to))| to.total_cmp(&(row as f64)).is_eq() && at[1] < case.graph.lengths[at[0]])
                .map(|(k, (at, _))| (k, at.slice().to_vec()))
                .collect();
            let equation = |e: usize| {
                let at = row * width + e;
                let unit = site.allowed[at].max(f64::MIN_POSITIVE);
                (here.iter().map(|(k, _)| summands[k * width + e] / unit).collect(), found[at] / unit)
            };
            let rows = (0..width).map(equation).collect();
            Sum { letters: letters.clone(), indices: here.into_iter().map(|(_, at)| at).collect(), rows }
        };
        let plain = relation.terms.len() == 1 && letters.len() == 2;
        let sums: Vec<Sum> = rows.into_iter().map(sum).collect();
        let few = sums.iter().all(|sum| (1..=MOST_WEIGHTS).contains(&sum.indices.len()));
        (plain && few).then_some(sums)
    };
    all().unwrap_or_default()
}

/// Values that are all a little too large, or too small.
fn ratios(family: &Family<'_, '_, '_>, base: &Edit) -> Vec<Edit> {
    let ratio = |&(s, place): &Element| {
        let site = family.sites[s];
        let (found, right) = (site.found.iter().nth(place)?, site.right.iter().nth(place)?);
        Some(found / right).filter(|ratio| ratio.is_finite())
    };
    let Some(ratios) = family.wrong.iter().map(ratio).collect::<Option<Vec<f64>>>() else { return Vec::new() };
    let (low, high) = ratios.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let one_way = low >= 1.0 || high <= 1.0;
    if ratios.len() < FOR_A_RATIO || !one_way || low < 1.0 - MOST_OF_A_RATIO || high > 1.0 + MOST_OF_A_RATIO {
        return Vec::new();
    }
    let (way, most) = if low >= 1.0 { ("large", high - 1.0) } else { ("small", 1.0 - low) };
    let mut edit = base.clone();
    edit.whole = Whole::Times(low.min(1.0), high.max(1.0));
    edit.says = format!(
        "is up to {} % too {way}, nowhere too {}",
        short(100.0 * most),
        if way == "large" { "small" } else { "large" }
    );
    edit.cost = 2.5;
    vec![edit]
}

/// A change with a number that is to be found, and where the search for it begins.
type Unknown<'f> = (Box<dyn Fn(f64) -> Edit + 'f>, f64);

/// One number in a relation, or in an unwritten one before it, is another one: a scalar leaf such as the margin, an
/// epsilon, the coefficient of a term.
fn numbers(family: &Family<'_, '_, '_>, way: &[usize]) -> Vec<Edit> {
    let first = family.model;
    let case = &family.cases[first.case];
    let mut all = Vec::new();
    for place in std::iter::once(first.equation).chain(way.iter().copied()) {
        let equation = &case.graph.equations[place];
        let own = place == first.equation;
        let mut unknown = scalars(case, place);
        unknown.extend(epsilons(equation));
        if own {
            unknown.extend(caps(equation));
        }
        if !own {
            unknown.extend(factors_of_terms(equation));
        }
        for (with, start) in unknown {
            // Newton's method with the slope of a secant.
            let solve = |&(s, at): &Element| {
                let site = family.sites[s];
                let found = site.found.iter().nth(at)?;
                let off = |value: f64| {
                    let values = with(value).values(&family.cases[site.case], site.equation)?;
                    Some(values.iter().nth(at)? - found)
                };
                let (mut one, mut two) = (start, start * 1.001 + 1e-3);
                let mut at_one = off(one)?;
                for _ in 0..8 {
                    let at_two = off(two)?;
                    if (at_two - at_one).abs() < f64::MIN_POSITIVE {
                        break;
                    }
                    let next = two - at_two * (two - one) / (at_two - at_one);
                    (one, two, at_one) = (two, next, at_two);
                }
                two.is_finite().then_some(two)
            };
            // The element that tells the number most exactly is among the first ones, or another edit is right.
            if let Some(value) = family.wrong.iter().take(20).find_map(solve) {
                let nice = if value.abs() < 0.01 { plain(value) } else { (value * 1e6).round() / 1e6 };
                // A plain number costs less than that which the first element gives.
                for (value, more) in [(nice, 0.0), (value, 0.2)] {
                    let mut edit = with(value);
                    edit.cost += more;
                    if !own {
                        edit.says = format!("follows from {} if that {}", equation.relation.out, edit.says);
                        edit.cost += 0.1;
                    }
                    all.push(edit);
                }
            }
        }
    }
    all
}

fn scalars<'f>(case: &Case<'_>, place: usize) -> Vec<Unknown<'f>> {
    let equation = &case.graph.equations[place];
    let factors = equation.relation.terms.iter().flat_map(|term| &term.factors);
    let names: BTreeSet<&str> =
        factors.filter(|factor| factor.axes.is_empty()).map(|factor| factor.leaf.as_str()).collect();
    let of = |name: &str| -> Option<Unknown<'f>> {
        let start = case.leaf(place, name).and_then(|x| x.iter().next().copied())?;
        let (base, name) = (Edit::none(&equation.family, &equation.relation, 1.4), name.to_owned());
        let with = move |value: f64| {
            let mut edit = base.clone();
            for term in &mut edit.relation.terms {
                let (out, kept): (Vec<Factor>, _) = term.factors.drain(..).partition(|factor| factor.leaf == name);
                term.factors = kept;
                term.coefficient *= out.iter().map(|factor| factor.function.at(value)).product::<f64>();
            }
            edit.says = format!("takes {} for {name}", if value.abs() < 1.0 { exact(value) } else { short(value) });
            edit
        };
        Some((Box::new(with), start))
    };
    names.into_iter().filter_map(of).collect()
}

/// What replaces a leaf x, with a number, and its text.
type Form = (fn(f64) -> Argument, fn(&Factor, f64) -> String);

/// Something added to what is divided by, or to its square; or a least number that it is replaced with.
fn epsilons<'f>(equation: &Equation) -> Vec<Unknown<'f>> {
    let mut all: Vec<Unknown<'f>> = Vec::new();
    for (i, term) in equation.relation.terms.iter().enumerate() {
        for (f, factor) in term.factors.iter().enumerate() {
            if !matches!(factor.function, Function::Inverse | Function::InverseOrZero | Function::InverseEpsilon) {
                continue;
            }
            let forms: [Form; 3] = [
                (Argument::Plus, |leaf, x| format!("({leaf} + {})", short(x))),
                (Argument::RootOfSquarePlus, |leaf, x| format!("√({leaf}² + {})", short(x))),
                // The result is linear in the inverse of this bound.
                (|x| Argument::AtLeast(1.0 / x), |leaf, x| format!("max({leaf}, {})", short(1.0 / x))),
            ];
            for (argument, text) in forms {
                let base = Edit::none(&equation.family, &equation.relation, 1.5);
                let leaf = Factor { function: Function::Identity, ..factor.clone() };
                let with = move |value: f64| {
                    let mut edit = base.clone();
                    let (argument, text) = (argument(value), text(&leaf, value));
                    // Every term of the same leaf.
                    let factors = edit.relation.terms.iter_mut().flat_map(|term| &mut term.factors);
                    factors.filter(|other| other.leaf == leaf.leaf).for_each(|factor| factor.argument = argument);
                    edit.says = format!("divides by {text}, not by {leaf}");
                    edit
                };
                let before = &equation.relation.terms[..i];
                let is_new = !before.iter().flat_map(|term| &term.factors).any(|other| other == factor);
                if is_new && !term.factors[..f].contains(factor) {
                    all.push((Box::new(with), 0.0));
                }
            }
        }
    }
    all
}

/// A factor is cut off, above or on both sides.
fn caps<'f>(equation: &Equation) -> Vec<Unknown<'f>> {
    let mut all: Vec<Unknown<'f>> = Vec::new();
    let forms: [Form; 2] = [
        (Argument::AtMost, |leaf, x| format!("min({leaf}, {})", short(x))),
        (Argument::Within, |leaf, x| format!("{leaf} cut off at {} and {}", short(-x), short(x))),
    ];
    for (i, term) in equation.relation.terms.iter().enumerate() {
        for (f, factor) in term.factors.iter().enumerate() {
            let is_mask = matches!(factor.function, Function::Positive | Function::NotNegative | Function::Sign)
                || GIVEN.contains(&factor.leaf.as_str());
            if is_mask || factor.axes.is_empty() || equation.relation.argmax || term.factors[..f].contains(factor) {
                continue;
            }
            for (argument, text) in forms {
                let base = Edit::none(&equation.family, &equation.relation, 1.6);
                let leaf = Factor { function: Function::Identity, ..factor.clone() };
                let with = move |value: f64| {
                    let mut edit = base.clone();
                    let factors = &mut edit.relation.terms[i].factors;
                    factors
                        .iter_mut()
                        .filter(|other| other.leaf == leaf.leaf)
                        .for_each(|x| x.argument = argument(value));
                    edit.says = format!("takes {} for {leaf}", text(&leaf, value));
                    edit
                };
                // Not at 0, where a square is flat.
                all.push((Box::new(with), 0.1));
            }
        }
    }
    all
}

fn factors_of_terms<'f>(equation: &Equation) -> Vec<Unknown<'f>> {
    let of = |i: usize| -> Unknown<'f> {
        let base = Edit::none(&equation.family, &equation.relation, 1.8);
        let with = move |value: f64| {
            let mut edit = base.clone();
            edit.says = format!("has {} times {}", short(value), edit.relation.terms[i]);
            edit.relation.terms[i].coefficient *= value;
            edit
        };
        (Box::new(with), 1.0)
    };
    (0..equation.relation.terms.len()).filter(|_| !equation.relation.argmax).map(of).collect()
}

/// Adam's corrections, both or one of them, are those of another step than that which it is.
pub(super) fn another_step(family: &Family<'_, '_, '_>) -> Option<Fit> {
    let ways = [
        (true, true, "bias corrections"),
        (true, false, "first bias correction"),
        (false, true, "second bias correction"),
    ];
    ways.iter().find_map(|&(first, second, what)| step_of(family, [first, second], what))
}

fn step_of(family: &Family<'_, '_, '_>, [first, second]: [bool; 2], what: &str) -> Option<Fit> {
    let corrected = |x: f64, beta: f64, t: u32| x / (1.0 - libm::pow(beta, f64::from(t)));
    let mut pairs: Vec<String> = Vec::new();
    let mut numbers = 0;
    for site in family.sites.iter().filter(|site| site.broken()) {
        let case = &family.cases[site.case];
        let relation = &case.graph.equations[site.equation].relation;
        // After several steps the numbers of all of them are mixed.
        if !relation.leaves().any(|leaf| leaf == "correct_m") || case.settings.steps > 1 {
            continue;
        }
        let leaf = |name: &str| case.leaf(site.equation, name);
        let scalar = |name: &str| leaf(name).and_then(|x| x.first().copied());
        let (p0, m, v, rate) = (leaf("p0")?, leaf("m")?, leaf("v")?, scalar("rate")?);
        let [beta1, beta2] = [scalar("beta1")?, scalar("beta2")?];
        let start = case.golden.inputs.get("in.step").and_then(|step| step.first().copied()).unwrap_or(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a step
        let own = start as u32 + 1;
        let fits = |t: &u32| {
            let [of_m, of_v] = [first, second].map(|other| if other { *t } else { own });
            let numbers = p0.iter().zip(m.iter().zip(&v)).zip(&site.found).enumerate();
            numbers.filter(|(at, _)| site.kinds[*at] != Kind::Ignored).all(|(at, ((p0, (&m, &v)), &found))| {
                let root = corrected(v, beta2, of_v).sqrt() + 1e-8;
                site.agrees(at, found, p0 - rate * corrected(m, beta1, of_m) / root)
            })
        };
        let t = (1..=MOST_STEPS).find(fits)?;
        numbers += site.right.len();
        let part = &case.graph.groups[case.graph.equations[site.equation].group].part;
        let pair = format!("{t} for {own} in {part}");
        if t != own && !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let more = if pairs.len() > SHOWN { ", …" } else { "" };
    let shown = pairs[..pairs.len().min(SHOWN)].join(", ");
    let says = format!("takes the {what} of another step: that of step {shown}{more}");
    (!pairs.is_empty() && numbers >= FOR_A_RATIO).then(|| Fit::read_off(3.0, says))
}

/// A number in as many digits as tell it from a rounded one.
fn exact(x: f64) -> String {
    let text = format!("{x:.7}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The values are another function of the same sum: what is wrong with them changes little between neighbouring sums.
pub(super) fn another_function(family: &Family<'_, '_, '_>) -> Option<Fit> {
    let first = family.sites.first()?;
    let relation = &family.cases[first.case].graph.equations[first.equation].relation;
    // Where a hinge is 0 it says nothing of its sum.
    let plain = matches!(relation.function, Function::Identity | Function::Relu);
    if plain
        || relation.argmax
        || first.exact
        || family.wrong.len() < FOR_A_FUNCTION
        || relation.out.through().next().is_some()
    {
        return None;
    }
    // The sum, and how far the value is off, as such and in units of the scale.
    let mut points: Vec<(f64, f64, f64)> = Vec::new();
    for site in family.sites.iter().filter(|site| site.broken()) {
        let case = &family.cases[site.case];
        let sums = case.sums(site.equation, relation)?;
        for (place, (&sum, (&found, &right))) in sums.iter().zip(site.found.iter().zip(&site.right)).enumerate() {
            let (off, scale) = (found - right, site.scales[place]);
            if site.kinds[place] != Kind::Ignored && sum.is_finite() && off.is_finite() && scale > 0.0 {
                points.push((sum, off, off / scale));
            }
        }
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bend = |three: &[(f64, f64, f64)]| {
        let [(x0, _, y0), (x1, _, y1), (x2, _, y2)] = [three[0], three[1], three[2]];
        let part = if x2 > x0 { (x1 - x0) / (x2 - x0) } else { 0.5 };
        (y1 - y0 - part * (y2 - y0)).abs()
    };
    let bends: f64 = points.windows(3).map(bend).sum();
    let all: f64 = points.iter().map(|(.., off)| off.abs()).sum();
    let &(at, most, _) = points.iter().max_by(|a, b| a.2.abs().total_cmp(&b.2.abs()))?;
    let function = relation.function.of("x");
    let says = format!("is another function of the same x than {function}: {} off at x = {}", short(most), short(at));
    (bends < SMOOTH * all).then(|| Fit::read_off(3.0, says))
}
