//! A change that holds for a part of a sum: which part is read off from the numbers.
//!
//! A relation is linear in each of its summands. If a change makes another number of each, a backend with the change in
//! a part P of them is wrong by the sum, over P, of the differences. These sums are compared with what is wrong with a
//! few elements, for all ranges and groups P. What agrees there is tested like any change.

use ndarray::Axis as Dimension;
use rayon::prelude::*;

use super::edit::{Edit, Summands, Weight, Whole};
use super::elsewhere::{Order, Pair, units};
use super::family::Family;
use super::identify::before;
use super::language::{Factor, Function, Relation, Term};
use super::local::{Kind, Site};
use super::places::{Test, short};
use super::values::Case;

/// With how many wrong elements the parts are compared, at most; with fewer than the second number nothing is read off.
const ELEMENTS: usize = 8;
const FEWEST: usize = 3;
/// Sums with more summands, those of all elements together, are left out.
const MOST: usize = 1 << 16;
/// A bound is read off from so many cases together.
const PROBES: usize = 8;
/// Changes that cost more are not tried in a part.
const PLAIN: f64 = 1.6;

/// What runs over the summands.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    Letter(char),
    Tokens(Order),
}

/// The wrong elements of one site.
struct Probe<'f, 'a> {
    case: &'f Case<'a>,
    equation: usize,
    /// Letters and sizes of the left side.
    letters: Vec<char>,
    sizes: Vec<usize>,
    /// The places of the elements, what is wrong with the sum there, and how exactly this is known.
    elements: Vec<usize>,
    wrong: Vec<f64>,
    exact: Vec<f64>,
}

/// Changes in parts of sums.
pub(super) fn in_parts(family: &Family<'_, '_, '_>, edits: &[Edit]) -> Vec<Edit> {
    let Some(first) = family.sites.first() else { return Vec::new() };
    let relation = &family.cases[first.case].graph.equations[first.equation].relation;
    if relation.argmax || relation.out.through().next().is_some() || first.exact {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (i, term) in relation.terms.iter().enumerate() {
        let summed = relation.free(term);
        let mut all: Vec<Over> = summed.iter().copied().map(Over::Letter).collect();
        if summed.contains(&'b') && summed.contains(&'t') {
            all.extend(Order::ALL.map(Over::Tokens));
        }
        for over in all {
            // The sites that tell most parts apart.
            let size = |site: &&&Site| over.indices(&family.cases[site.case], site.equation).map_or(0, |all| all.len());
            let can = |site: &&&Site| {
                let wrong = || site.kinds.iter().filter(|kind| **kind == Kind::Wrong).count();
                site.broken() && site.right.len().saturating_mul(size(site)) < MOST && wrong() >= FEWEST
            };
            let mut sites: Vec<&&Site> = family.sites.iter().filter(can).collect();
            sites.sort_by_key(|site| std::cmp::Reverse(size(site)));
            let probe = |site: &&&Site| Probe::of(&family.cases[site.case], site, relation);
            let probes: Vec<Probe<'_, '_>> = sites.iter().take(PROBES).filter_map(probe).collect();
            let Some(first) = probes.first() else { continue };
            found.extend(first.parts(relation, i, over, edits));
            if matches!(over, Over::Letter(_)) {
                found.extend(below_a_bound(&probes, relation, i, over));
            }
        }
    }
    found
}

impl Over {
    /// The index of each summand, and of how many; of tokens in their order.
    fn indices(self, case: &Case<'_>, equation: usize) -> Option<Vec<(usize, usize)>> {
        Some(match self {
            Self::Letter(letter) => {
                let size = case.size_of(equation, letter)?;
                (0..size).map(|k| (k, size)).collect()
            }
            Self::Tokens(order) => {
                let numbers = order.numbers(&case.graph.lengths, case.graph.steps);
                let mut all: Vec<(usize, usize)> = numbers.iter().copied().flatten().collect();
                all.sort_unstable();
                all
            }
        })
    }

    fn summands(self, part: Part) -> Summands {
        match (self, part) {
            (Self::Letter(letter), Part::Test(test)) => Summands::Index(letter, test),
            (Self::Letter(letter), Part::Pair(own, pair)) => Summands::Pair(letter, own, pair),
            (Self::Tokens(order), Part::Test(test)) => Summands::Token(order, test),
            (Self::Tokens(_), Part::Pair(..)) => unreachable!("pairs are of letters"),
        }
    }

    fn says(self, part: Part) -> String {
        match (self, part) {
            (Self::Letter(letter), Part::Test(test)) => test.says(&letter.to_string()),
            (Self::Letter(letter), Part::Pair(own, pair)) => pair.says(&letter.to_string(), &own.to_string()),
            (Self::Tokens(order), Part::Test(test)) => test.says(order.says()),
            (Self::Tokens(_), Part::Pair(..)) => unreachable!("pairs are of letters"),
        }
    }
}

/// Which summands: by their index, or by their index and one of the result.
#[derive(Clone, Copy)]
enum Part {
    Test(Test),
    Pair(char, Pair),
}

impl Part {
    fn cost(self) -> f64 {
        match self {
            Self::Test(test) => test.cost(),
            Self::Pair(..) => 1.8,
        }
    }
}

impl<'f, 'a> Probe<'f, 'a> {
    fn of(case: &'f Case<'a>, site: &Site, relation: &Relation) -> Option<Self> {
        let (letters, sizes) = (relation.out.letters(), case.sizes(site.equation)?);
        let total: Vec<f64> = case.sums(site.equation, relation)?.into_iter().collect();
        let mut probe =
            Self { case, equation: site.equation, letters, sizes, elements: vec![], wrong: vec![], exact: vec![] };
        let wrong: Vec<usize> = (0..total.len()).filter(|&place| site.kinds[place] == Kind::Wrong).collect();
        let found = site.found.as_slice()?;
        let step = wrong.len().div_ceil(ELEMENTS);
        for &place in wrong.iter().step_by(step.max(1)) {
            let at = |y: f64| before(relation.function, y);
            let (Some(sum), allowed) = (at(found[place]), site.allowed[place]) else { continue };
            let (Some(low), Some(high)) = (at(found[place] - allowed), at(found[place] + allowed)) else { continue };
            probe.elements.push(place);
            probe.wrong.push(sum - total[place]);
            probe.exact.push((high - low).abs());
        }
        (probe.elements.len() >= FEWEST).then_some(probe)
    }

    /// The summands of a term at each element.
    fn summands(&self, relation: &Relation, term: usize, over: Over) -> Option<Vec<Vec<f64>>> {
        let (mut letters, mut sizes) = (self.letters.clone(), self.sizes.clone());
        let more: &[char] = match &over {
            Over::Letter(letter) => std::slice::from_ref(letter),
            Over::Tokens(_) => &['b', 't'],
        };
        for &letter in more {
            letters.push(letter);
            sizes.push(self.case.size_of(self.equation, letter)?);
        }
        let values =
            self.case.with_leaves(self.equation, |leaves| relation.term_values(leaves, &letters, &sizes, term))?;
        let elements: usize = self.sizes.iter().product();
        let values =
            values.into_shape_with_order((elements, sizes[self.sizes.len()..].iter().product::<usize>())).ok()?;
        let of = |&place: &usize| {
            let row = values.index_axis(Dimension(0), place);
            let Over::Tokens(order) = over else { return row.to_vec() };
            let numbers = order.numbers(&self.case.graph.lengths, self.case.graph.steps);
            let mut sorted: Vec<((usize, usize), f64)> =
                numbers.iter().zip(row).filter_map(|(number, &x)| Some(((*number)?, x))).collect();
            sorted.sort_by_key(|(number, _)| *number);
            sorted.into_iter().map(|(_, x)| x).collect()
        };
        Some(self.elements.iter().map(of).collect())
    }

    fn parts(&self, relation: &Relation, i: usize, over: Over, edits: &[Edit]) -> Vec<Edit> {
        let Some(own) = self.summands(relation, i, over) else { return Vec::new() };
        let mut found = Vec::new();
        let base = Edit::none(&self.case.graph.equations[self.equation].family, relation, 1.1);
        // Left out, or counted twice.
        for (inside, text, twice) in [(0.0, "leaves out", ""), (2.0, "counts", " twice")] {
            let differences: Vec<Vec<f64>> =
                own.iter().map(|row| row.iter().map(|x| (inside - 1.0) * x).collect()).collect();
            for part in self.agreeing(&differences, over) {
                let mut edit = base.clone();
                edit.weigh(i, over.summands(part), inside);
                edit.says = format!("{text} the summands with {}{twice}", over.says(part));
                edit.cost += 0.4 * part.cost();
                found.push(edit);
            }
        }
        found.par_extend(edits.par_iter().flat_map_iter(|change| self.with(relation, i, over, change, &own)));
        found
    }

    /// The bounds below which, or from which on, the summands add up to what every element lacks.
    fn bounds(&self, values: &[Vec<f64>], own: &[Vec<f64>], below: bool) -> Vec<(f64, f64)> {
        let of_element = |k: usize| {
            let (values, own, wrong, exact) = (&values[k], &own[k], self.wrong[k], self.exact[k]);
            let mut sorted: Vec<(f64, f64)> = values.iter().copied().zip(own.iter().copied()).collect();
            sorted.sort_by(|a, b| if below { a.0.total_cmp(&b.0) } else { b.0.total_cmp(&a.0) });
            // Beyond all of them every bound is the same.
            sorted.push((if below { f64::INFINITY } else { f64::NEG_INFINITY }, 0.0));
            let mut sum = 0.0;
            let mut here: Vec<(f64, f64)> = Vec::new();
            for pair in sorted.windows(2) {
                sum += pair[0].1;
                if (sum + wrong).abs() <= exact && (pair[0].0 - pair[1].0).abs() > 0.0 {
                    here.push((pair[0].0.min(pair[1].0), pair[0].0.max(pair[1].0)));
                }
            }
            here
        };
        (0..self.wrong.len()).map(of_element).reduce(|a, b| both(&a, &b)).unwrap_or_default()
    }

    /// A change of a term in parts of its sum.
    fn with(&self, relation: &Relation, i: usize, over: Over, change: &Edit, own: &[Vec<f64>]) -> Vec<Edit> {
        let mut found = Vec::new();
        let Some(term) = only_term(relation, change, i) else { return found };
        let mut edit = Edit { relation: relation.clone(), ..change.clone() };
        edit.relation.terms.push(term);
        let last = relation.terms.len();
        let Some(changed) = self.summands(&edit.relation, last, over) else { return found };
        let difference = |(changed, own): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            changed.iter().zip(own).map(|(changed, own)| changed - own).collect()
        };
        let differences: Vec<Vec<f64>> = changed.iter().zip(own).map(difference).collect();
        // Without a factor, one summand in the place of all.
        if change.relation.terms[i].factors.len() < relation.terms[i].factors.len() {
            for k in self.instead(own, &changed) {
                let mut edit = change.clone();
                let summands = over.summands(Part::Test(Test::Is(k)));
                edit.weights.push(Weight { term: i, summands, inside: 1.0, outside: 0.0 });
                edit.says =
                    format!("{}, and has the summand with {} alone", edit.says, over.says(Part::Test(Test::Is(k))));
                edit.cost += 0.7;
                found.push(edit);
            }
        }
        // Summands of 0 are left out.
        let indices = over.indices(self.case, self.equation).unwrap_or_default();
        let is_zero = |part: &Part| {
            let holds = |k: usize| match part {
                Part::Test(test) => indices.get(k).is_some_and(|&(index, size)| test.holds(index, size)),
                Part::Pair(..) => true,
            };
            changed.iter().all(|row| row.iter().enumerate().all(|(k, x)| *x == 0.0 || !holds(k)))
        };
        for part in self.agreeing(&differences, over).into_iter().filter(|part| !is_zero(part)) {
            let mut edit = edit.clone();
            let summands = over.summands(part);
            edit.weights.push(Weight { term: i, summands: summands.clone(), inside: 0.0, outside: 1.0 });
            edit.weights.push(Weight { term: last, summands, inside: 1.0, outside: 0.0 });
            edit.says = format!("{} in the summands with {}", edit.says, over.says(part));
            edit.cost += 0.2 + 0.4 * part.cost();
            found.push(edit);
        }
        found
    }

    /// The summands that, changed, give the whole sum alone.
    fn instead(&self, own: &[Vec<f64>], changed: &[Vec<f64>]) -> Vec<usize> {
        let agrees = |&k: &usize| {
            let mut rows = own.iter().zip(changed).zip(self.wrong.iter().zip(&self.exact));
            rows.all(|((own, changed), (wrong, exact))| (changed[k] - own.iter().sum::<f64>() - wrong).abs() <= *exact)
        };
        (0..own[0].len()).filter(agrees).collect()
    }

    /// The parts over which the differences add up to what is wrong with every element.
    fn agreeing(&self, differences: &[Vec<f64>], over: Over) -> Vec<Part> {
        let size = differences[0].len();
        let agrees = |sum: &dyn Fn(&[f64]) -> f64| {
            let mut pairs = differences.iter().zip(self.wrong.iter().zip(&self.exact));
            pairs.all(|(row, (wrong, exact))| (sum(row) - wrong).abs() <= *exact)
        };
        let Some(indices) = over.indices(self.case, self.equation) else { return Vec::new() };
        let set = |test: &Test| {
            let holds: Vec<usize> = (0..size).filter(|&k| test.holds(indices[k].0, indices[k].1)).collect();
            !holds.is_empty() && holds.len() < size && agrees(&|row| holds.iter().map(|&k| row[k]).sum())
        };
        let blocks = (0..3).filter(|_| over == Over::Letter('j')).map(Test::Block);
        let mut all: Vec<Part> = Test::fixed().chain(blocks).filter(set).map(Part::Test).collect();
        all.extend(self.pairs(differences, over));
        // Ranges: the sum to the end of a range less that to its beginning.
        let sums: Vec<Vec<f64>> = differences
            .iter()
            .map(|row| {
                let mut sum = 0.0;
                let ends = row.iter().map(|x| {
                    sum += x;
                    sum
                });
                std::iter::once(0.0).chain(ends).collect()
            })
            .collect();
        let range = |&(from, end): &(usize, usize)| {
            let mut pairs = sums.iter().zip(self.wrong.iter().zip(&self.exact));
            end - from < size && pairs.all(|(sums, (wrong, exact))| (sums[end] - sums[from] - wrong).abs() <= *exact)
        };
        let all_of_one = indices.iter().all(|(_, count)| *count == size);
        let ranges = (0..size)
            .filter(|_| all_of_one)
            .flat_map(|from| (from + 1..=size).map(move |end| (from, end)))
            .filter(range);
        // Of several the shortest: the change makes no difference in the rest.
        let range = ranges.min_by_key(|(from, end)| end - from).map(|(from, end)| match (from, end) {
            _ if end - from == 1 => Test::Is(from),
            (0, _) => Test::Below(end),
            _ if end == size => Test::From(from),
            _ => Test::Within(from, end),
        });
        all.extend(range.map(Part::Test));
        all
    }

    /// The same for parts that are not the same for every element.
    fn pairs(&self, differences: &[Vec<f64>], over: Over) -> Vec<Part> {
        let Over::Letter(letter) = over else { return Vec::new() };
        let Some(size) = self.case.size_of(self.equation, letter) else { return Vec::new() };
        let mut all = Vec::new();
        for (axis, (&own, &others)) in self.letters.iter().zip(&self.sizes).enumerate() {
            let inner: usize = self.sizes[axis + 1..].iter().product();
            let units = units(own, others, size);
            let agrees = |pair: &Pair| {
                let mut rows = differences.iter().zip(&self.elements).zip(self.wrong.iter().zip(&self.exact));
                rows.all(|((row, &element), (wrong, exact))| {
                    let own = (element / inner % others % units, units);
                    let sum: f64 = (0..size).filter(|&k| pair.holds((k, size), own)).map(|k| row[k]).sum();
                    (sum - wrong).abs() <= *exact
                })
            };
            all.extend(Pair::all().filter(agrees).map(|pair| Part::Pair(own, pair)));
        }
        all
    }
}

/// The summands are left out where a factor is small, or where it is large: with one bound in all cases.
fn below_a_bound(probes: &[Probe<'_, '_>], relation: &Relation, i: usize, over: Over) -> Vec<Edit> {
    let mut found = Vec::new();
    let Some(first) = probes.first() else { return found };
    let family = &first.case.graph.equations[first.equation].family;
    let own: Vec<Option<Vec<Vec<f64>>>> = probes.iter().map(|probe| probe.summands(relation, i, over)).collect();
    let mut seen: Vec<Factor> = Vec::new();
    for factor in relation.terms[i].factors.iter().filter(|factor| factor.through().next().is_none()) {
        let mut is_signed = false;
        for function in [Function::Identity, Function::Abs] {
            let factor = Factor { function, ..factor.clone() };
            // What is never negative is its own magnitude.
            if seen.contains(&factor) || (function == Function::Abs && !is_signed) {
                continue;
            }
            let mut alone = relation.clone();
            alone.terms = vec![Term { coefficient: 1.0, factors: vec![factor.clone()] }];
            let values: Vec<Option<Vec<Vec<f64>>>> =
                probes.iter().map(|probe| probe.summands(&alone, 0, over)).collect();
            is_signed = values.iter().flatten().flatten().flatten().any(|x| *x < 0.0);
            seen.push(factor.clone());
            for below in [true, false] {
                let of_probe = |k: usize| Some(probes[k].bounds(values[k].as_ref()?, own[k].as_ref()?, below));
                let all = (0..probes.len()).filter_map(of_probe);
                let bounds = all.reduce(|a, b| both(&a, &b)).unwrap_or_default();
                let Some(&(low, high)) = bounds.iter().find(|(low, high)| low.is_finite() || high.is_finite()) else {
                    continue;
                };
                let bound = match (low.is_finite(), high.is_finite()) {
                    (true, true) => roundest(low, high),
                    (true, false) => low.next_up(),
                    _ => high,
                };
                let (inside, outside, sign) = if below { (0.0, 1.0, '<') } else { (1.0, 0.0, '≥') };
                let mut edit = Edit::none(family, relation, 1.9);
                let summands = Summands::Less(Box::new(factor.clone()), bound);
                edit.weights.push(Weight { term: i, summands, inside, outside });
                edit.says = format!("leaves out the summands where {factor} {sign} {}", short(bound));
                found.push(edit);
            }
        }
    }
    found
}

/// What two lists of ranges have in common.
fn both(one: &[(f64, f64)], other: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
    pairs.filter(|(low, high)| low < high).collect()
}

/// The number with the fewest digits in (low, high].
fn roundest(low: f64, high: f64) -> f64 {
    if low < 0.0 && high >= 0.0 {
        return 0.0;
    }
    let digits = |n: i32| {
        let unit = libm::pow(10.0, libm::log10(high.abs().max(low.abs())).floor() - f64::from(n));
        Some((high / unit).floor() * unit).filter(|&x| x > low && x <= high)
    };
    (0..8).find_map(digits).unwrap_or(high)
}

/// The term in the place of term `i`, if a change is a change of this term alone that keeps its letters.
fn only_term(relation: &Relation, change: &Edit, i: usize) -> Option<Term> {
    let plain = change.whole == Whole::Kept && change.weights.is_empty() && change.only.is_none();
    let of_terms = change.relation.terms.len() == relation.terms.len()
        && change.relation.function == relation.function
        && change.relation.rounding == relation.rounding;
    if !plain || !of_terms || change.cost > PLAIN {
        return None;
    }
    let mut terms = change.relation.terms.iter().zip(&relation.terms).enumerate();
    let others = terms.all(|(place, (new, old))| (new == old) != (place == i));
    let term = change.relation.terms[i].clone();
    (others && change.relation.summed(&term) == relation.summed(&relation.terms[i])).then_some(term)
}
