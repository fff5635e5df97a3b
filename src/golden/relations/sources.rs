//! From which other places values come: read off in the smallest case that tells.

use ndarray::{ArrayD, Axis as Dimension, Dimension as _, IxDyn};

use super::edit::Edit;
use super::family::{Family, Fit};
use super::graph::GIVEN;
use super::identify::{before, solve};
use super::language::{At, Factor, Function, Relation, Term};
use super::local::{Kind, Site};
use super::places::plain_axes;
use super::values::Case;

/// Axes with more places are left out.
const MOST: usize = 64;
/// A place is taken for another one if at least so many numbers agree.
const FEWEST: usize = 3;
/// A number tells places apart if the right one is off by so many tolerances.
const CLEARLY: f64 = 8.0;
/// How many places a sentence has.
const SHOWN: usize = 6;
/// A number of an effective matrix is the nearest one of the matrix if it is so many times nearer than any other.
const NEARER: f64 = 50.0;

/// The values at each place of a letter are those of another place, or are made of a factor at another place.
pub(super) fn read_off(family: &Family<'_, '_, '_>) -> Option<Fit> {
    family.sites.iter().filter(|site| site.broken() && !site.exact).find_map(|site| {
        let case = &family.cases[site.case];
        let equation = &case.graph.equations[site.equation];
        let says =
            of_result(site, &equation.relation).or_else(|| of_last(case, site)).or_else(|| of_matrix(case, site));
        let says = says.or_else(|| {
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
        let none = ArrayD::zeros(site.right.raw_dim());
        let from = places(site, axis, size, &|source, _| Some(all[source].clone()), &none)?;
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

/// Of a product with a matrix: the matrix that the backend multiplies with has the same numbers at other places.
fn of_matrix(case: &Case<'_>, site: &Site) -> Option<String> {
    let relation = &case.graph.equations[site.equation].relation;
    if relation.out.through().next().is_some() {
        return None;
    }
    (0..relation.terms.len()).find_map(|i| {
        let [one, other] = &relation.terms[i].factors[..] else { return None };
        let [summed] = relation.summed(&relation.terms[i])[..] else { return None };
        [(one, other), (other, one)].into_iter().find_map(|(rows, matrix)| {
            let product = Product { case, site, relation, term: i, summed, rows, matrix };
            product.moved_numbers()
        })
    })
}

/// A term that is a product with a matrix, summed over one letter.
struct Product<'p, 'a> {
    case: &'p Case<'a>,
    site: &'p Site,
    relation: &'p Relation,
    term: usize,
    summed: char,
    rows: &'p Factor,
    matrix: &'p Factor,
}

impl Product<'_, '_> {
    /// The matrix that gives the values: for each place of its own letter, least squares over all other places of the
    /// result. Its axes are that letter and the summed one.
    fn effective(&self, letter: char) -> Option<Vec<Vec<f64>>> {
        let Self { case, site, relation, .. } = *self;
        let (own, sizes) = (relation.out.letters(), case.sizes(site.equation)?);
        let (axis, count) = (own.iter().position(|&l| l == letter)?, case.size_of(site.equation, self.summed)?);
        let rows = sizes.iter().product::<usize>() / sizes[axis].max(1);
        if count > MOST || sizes[axis] > MOST || rows < count + 2 {
            return None;
        }
        let values = |relation: &Relation, term: usize, letters: &[char], sizes: &[usize]| {
            case.with_leaves(site.equation, |leaves| relation.term_values(leaves, letters, sizes, term))
        };
        let mut alone = relation.clone();
        let coefficient = relation.terms[self.term].coefficient;
        alone.terms = vec![Term { coefficient, factors: vec![self.rows.clone()] }];
        let factors = values(&alone, 0, &[&own[..], &[self.summed]].concat(), &[&sizes[..], &[count]].concat())?;
        let mut rest = ArrayD::<f64>::zeros(IxDyn(&sizes));
        for other in (0..relation.terms.len()).filter(|&other| other != self.term) {
            rest += &values(relation, other, &own, &sizes)?;
        }
        let factors = factors.as_slice()?;
        let mut equations: Vec<Vec<(Vec<f64>, f64)>> = vec![Vec::new(); sizes[axis]];
        for (flat, (at, rest)) in rest.indexed_iter().enumerate() {
            let unit = site.allowed[flat].max(f64::MIN_POSITIVE);
            if let (Some(y), true) =
                (before(relation.function, site.found[at.clone()]), site.kinds[flat] != Kind::Ignored)
            {
                let row = factors[flat * count..][..count].iter().map(|x| x / unit).collect();
                equations[at[axis]].push((row, (y - rest) / unit));
            }
        }
        let solved = |rows: &Vec<(Vec<f64>, f64)>| {
            let x = solve(rows)?;
            let off = |(row, y): &(Vec<f64>, f64)| (row.iter().zip(&x).map(|(a, x)| a * x).sum::<f64>() - y).abs();
            rows.iter().all(|row| off(row) <= 1.0).then_some(x)
        };
        equations.iter().map(solved).collect()
    }

    /// Where the numbers of the effective matrix lie in the matrix, if they are not at their own places.
    fn moved_numbers(&self) -> Option<String> {
        let own = self.relation.out.letters();
        let [first, second] = &self.matrix.axes[..] else { return None };
        let plain = [first, second].iter().all(|axis| axis.at == At::Shift(0)) && !self.rows.letters().is_empty();
        let letter = if first.letter == self.summed { second.letter } else { first.letter };
        if !plain || !own.contains(&letter) || self.rows.letters().contains(&letter) {
            return None;
        }
        let effective = self.effective(letter)?;
        let matrix = self.case.with_leaves(self.site.equation, |leaves| self.matrix.load(leaves))?.values;
        let largest = matrix.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let mut moved: Vec<(Vec<usize>, Option<Vec<usize>>)> = Vec::new();
        for (k, row) in effective.iter().enumerate() {
            for (s, &x) in row.iter().enumerate() {
                let at = if first.letter == self.summed { vec![s, k] } else { vec![k, s] };
                let mut near: Vec<(f64, Vec<usize>)> =
                    matrix.indexed_iter().map(|(at, y)| ((x - y).abs(), at.slice().to_vec())).collect();
                near.push((x.abs(), Vec::new()));
                // The nearest two come first.
                near.select_nth_unstable_by(1, |a, b| a.0.total_cmp(&b.0));
                let is_sure = near[0].0 * NEARER < near[1].0 && near[0].0 < 1e-2 * largest;
                if !is_sure {
                    return None;
                }
                if near[0].1 != at {
                    moved.push((at, Some(near.swap_remove(0).1).filter(|at| !at.is_empty())));
                }
            }
        }
        let place = |at: &[usize]| format!("[{}, {}]", at[0], at[1]);
        let one = |(at, from): &(Vec<usize>, Option<Vec<usize>>)| {
            let from = from.as_ref().map_or_else(|| "0".into(), |from| format!("the number at {}", place(from)));
            format!("at {} {from}", place(at))
        };
        let shown: Vec<String> = moved.iter().take(SHOWN).map(one).collect();
        let more = moved.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (moved.len() >= FEWEST)
            .then(|| format!("multiplies with a matrix {} that has {}{more}", self.matrix, shown.join(", ")))
    }
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
        // Beyond the last place there is nothing.
        let mut at = Vec::new();
        for source in 0..=size {
            let mut changed = factor.clone();
            changed.axes.iter_mut().filter(|axis| axis.letter == letter).for_each(|axis| axis.at = At::Is(source));
            let x = values(changed)?;
            (x.shape() == site.right.shape()).then_some(())?;
            at.push(x);
        }
        let none = at.pop()?;
        let slice = |source: usize, k: usize| Some(at[source].index_axis(Dimension(axis), k).iter().copied().collect());
        let from = places(site, axis, size, &slice, &none)?;
        let name = &factor.axes[place].letter;
        Some(format!("takes {factor} at other places: for {name} = {}", list(&from)))
    })
}

/// For each place along an axis the place whose values are found there; none if there is no such place, or if all are
/// their own. A place says nothing if its values are those of nothing.
fn places(
    site: &Site,
    axis: usize,
    size: usize,
    slice: &dyn Fn(usize, usize) -> Option<Vec<f64>>,
    none: &ArrayD<f64>,
) -> Option<Vec<(usize, usize)>> {
    if !(2..=MOST).contains(&size) {
        return None;
    }
    let inner: usize = site.right.shape()[axis + 1..].iter().product();
    let flat = |k: usize| (0..site.right.len()).filter(move |flat| flat / inner % size == k);
    let (found, none) = (site.found.as_slice()?, none.as_slice()?);
    let agrees = |source: usize, k: usize| {
        let values = slice(source, k)?;
        let pairs = || flat(k).zip(&values).filter(|(flat, _)| site.kinds[*flat] != Kind::Ignored);
        let all = pairs().all(|(flat, &x)| site.agrees(flat, found[flat], x));
        let right = site.right.as_slice()?;
        let says_something = |&(flat, x): &(usize, &f64)| {
            let allowed = site.allowed[flat];
            (x - none[flat]).abs() > 2.0 * allowed && (right[flat] - found[flat]).abs() > CLEARLY * allowed
        };
        Some(all && (source == k || pairs().filter(says_something).count() >= FEWEST))
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
