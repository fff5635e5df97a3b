//! All tensors of one kind: whether a change of their relation gives the backend's values, and where.
//!
//! A change is refuted by any element, in any case, that disagrees with it. If the backend has the right value
//! somewhere although the change would not give it, the change holds only at a place: conditions that hold at every
//! wrong element and at none of those.

use std::collections::{BTreeSet, HashSet};
use std::sync::OnceLock;

use ndarray::{ArrayD, Dimension as _};
use rayon::prelude::*;

use super::edit::{Edit, Summands, Whole};
use super::elsewhere::{Pair, Parts};
use super::evaluate::Lettered;
use super::language::{At, Factor, Function};
use super::local::{Kind, Site};
use super::places::{Atom, Map, Place, Test};
use super::values::Case;
use crate::golden::arithmetic::Rounding;

/// A change must explain the error: its values are this many times nearer than the right ones, in the mean.
const NEARER: f64 = 5.0;
/// A bound on a leaf is read off from at least this many elements on each side.
const FOR_A_BOUND: usize = 6;
/// A place is shown by at least so many wrong elements.
const FOR_A_PLACE: usize = 4;
/// A function of an index is shown by at least so many indices.
const FOR_A_JUMP: usize = 3;
/// So much of what is rounded on the way must agree to the last bit; the rest may be near the border of two rounded values.
const TO_THE_LAST_BIT: f64 = 0.9;
/// How many roundings to 16 bits may lie between a value that is stored in this format and the right one.
const ROUNDINGS: f64 = 8.0;
/// With more elements than this that refute a change everywhere, no place is looked for.
const MOST: usize = 200_000;

/// Other groups are given too, with "or", if they cost at most this much more; and other tests of an index.
const AS_GOOD: f64 = 0.25;
const AS_GOOD_AN_INDEX: f64 = 0.12;
/// So many places are looked at, the cheapest ones.
const PLACES: usize = 100;
/// The evidence for a size that is a multiple of a number, for another test of an index or a size, and for one of a word
/// or a length.
const BITS_OF_A_MULTIPLE: f64 = 4.0;
const BITS_OF_A_PLACE: f64 = 5.0;
const BITS_OF_A_TEST: f64 = 8.0;

/// log2 of the number of ways to choose the wrong ones among all.
fn ways(wrong: usize, right: usize) -> f64 {
    (1..=wrong).map(|k| libm::log2((right + k) as f64 / k as f64)).sum()
}

/// An element: its site's place in the list of sites, and its own in the site.
pub(super) type Element = (usize, usize);

/// The sites of one family in all cases.
pub(super) struct Family<'s, 'c, 'a> {
    pub cases: &'c [Case<'a>],
    /// The sites with wrong elements first, the small ones first.
    pub sites: Vec<&'s Site>,
    pub maps: Vec<Map<'c, 'a>>,
    pub wrong: Vec<Element>,
    /// The site whose relation is searched; at first the smallest one.
    pub model: &'s Site,
    /// The sites of all families.
    all: &'s [Site],
    /// What [`Family::common`] gives, once it was asked for.
    common: OnceLock<Vec<Atom>>,
    /// What [`Family::held`] gives.
    held: Vec<OnceLock<Vec<u128>>>,
    /// Whether every wrong element is 0.
    is_lost: bool,
}

/// A change and where it holds.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    pub cost: f64,
    pub says: String,
    pub place: Place,
    /// The change; none of what was read off, or of what one relation alone reads otherwise.
    pub edit: Option<Edit>,
}

impl Fit {
    /// What was read off in one case.
    pub(super) fn read_off(cost: f64, says: String) -> Self {
        Self { cost, says, place: Place::default(), edit: None }
    }
}

impl<'s, 'c, 'a> Family<'s, 'c, 'a> {
    /// None if no site of this name is broken.
    pub(super) fn new(name: &str, cases: &'c [Case<'a>], all: &'s [Site]) -> Option<Self> {
        let of = |site: &&Site| cases[site.case].graph.equations[site.equation].family == name;
        let mut sites: Vec<&Site> = all.iter().filter(of).collect();
        sites.sort_by_key(|site| (!site.broken(), site.right.len()));
        let maps = sites.iter().map(|site| Map::of(&cases[site.case], site)).collect();
        let wrong = sites.iter().enumerate().filter(|(_, site)| site.broken()).flat_map(|(s, site)| {
            site.kinds.iter().enumerate().filter(|(_, kind)| **kind == Kind::Wrong).map(move |(place, _)| (s, place))
        });
        let wrong: Vec<Element> = wrong.collect();
        let is_zero = |&(s, place): &Element| sites[s].found.iter().nth(place).is_some_and(|x| *x == 0.0);
        let is_lost = wrong.iter().all(|element| !sites[element.0].exact && is_zero(element));
        let model = sites.first().copied().filter(|site| site.broken())?;
        let held = sites.iter().map(|_| OnceLock::new()).collect();
        Some(Self { cases, sites, maps, wrong, model, all, common: OnceLock::new(), held, is_lost })
    }

    /// The smallest of the broken sites that are made of the most unwritten tensors.
    pub(super) fn longest(&self) -> &'s Site {
        let before = |site: &Site| self.cases[site.case].unwritten_before(site.equation).len();
        let broken = self.sites.iter().copied().filter(|site| site.broken());
        broken.rev().max_by_key(|site| before(site)).unwrap_or(self.model)
    }

    /// How many bits the wrong elements have, if they are masks or indices.
    pub(super) fn bits(&self) -> f64 {
        let of = |site: &&Site| {
            let case = &self.cases[site.case];
            let relation = &case.graph.equations[site.equation].relation;
            let summed = relation.terms.first().map_or_else(Vec::new, |term| relation.summed(term));
            let size =
                summed.first().filter(|_| relation.argmax).and_then(|&letter| case.size_of(site.equation, letter));
            libm::log2(size.map_or(2.0, |size| size as f64))
        };
        self.wrong.iter().map(|&(s, _)| of(&self.sites[s])).sum()
    }

    /// Whether every wrong element is where its function is flat: there many changes give the same number.
    fn flat(&self) -> bool {
        self.wrong.iter().all(|&(s, place)| {
            let site = self.sites[s];
            let relation = &self.cases[site.case].graph.equations[site.equation].relation;
            let found = site.found.iter().nth(place).copied().unwrap_or(f64::NAN);
            relation.function == Function::AtMostOne && site.agrees(place, found, 1.0)
        })
    }

    /// Where a change holds that gives every wrong element: none, if it does not; several if they cannot be parted.
    pub(super) fn test(&self, edit: &Edit) -> Vec<Fit> {
        // One number of a tensor agrees with any change that has a number or a place.
        if let [(s, _)] = self.wrong[..]
            && self.sites[s].right.len() > 1
        {
            return Vec::new();
        }
        if !self.shows_jumps(edit) {
            return Vec::new();
        }
        // What is 0 does not tell from which tensor before it that comes.
        let own = &self.cases[self.model.case].graph.equations[self.model.equation].family;
        if self.is_lost && edit.family != *own {
            return Vec::new();
        }
        let mut places = self.places_of(edit).unwrap_or_default();
        // A few numbers agree with many changes at many places; where they are lost, the index says enough.
        if self.wrong.len() < FOR_A_PLACE {
            let lost = self.is_lost && matches!(edit.whole, Whole::Constant(_));
            let is_index = |atom: &Atom| matches!(atom, Atom::Index(..));
            places.retain(|place| *place == Place::default() || (lost && place.0.iter().all(is_index)));
        }
        // What is 0 wherever it is wrong is rather lost than read where 0 is.
        let elsewhere = edit.says.starts_with("takes ")
            || matches!(edit.whole, Whole::Moved(..) | Whole::OfToken(_))
            || edit.weights.iter().any(|weight| matches!(weight.summands, Summands::Pair(..)));
        let more = if self.is_lost && elsewhere { 1.0 } else { 0.0 };
        let fit = |place: Place| {
            let cost = edit.cost + more + place.cost();
            Fit { cost, says: edit.sentence(), place, edit: Some(edit.clone()) }
        };
        places.into_iter().map(fit).collect()
    }

    /// Whether a change of unwritten tensors breaks a relation of another tensor that is made of them and holds.
    pub(super) fn breaks_another(&self, edit: &Edit) -> bool {
        let own = &self.cases[self.model.case].graph.equations[self.model.equation].family;
        if !edit.is_of_unwritten(own) {
            return false;
        }
        self.all.par_iter().filter(|site| !site.broken()).any(|site| {
            let case = &self.cases[site.case];
            let is_changed = |&place: &usize| edit.changes(&case.graph.equations[place].family);
            if case.graph.equations[site.equation].family == *own
                || !case.unwritten_before(site.equation).iter().any(is_changed)
            {
                return false;
            }
            let values = edit.values(case, site.equation).filter(|values| values.shape() == site.right.shape());
            values.is_some_and(|values| {
                let mut elements = site.found.iter().zip(&values).zip(&site.kinds).enumerate();
                elements
                    .any(|(place, ((&found, &value), kind))| *kind == Kind::Right && !site.agrees(place, found, value))
            })
        })
    }

    /// Whether wrong elements have enough different indices to show the function of an index that a change reads at.
    fn shows_jumps(&self, edit: &Edit) -> bool {
        let jumps = edit.relation.terms.iter().flat_map(|term| &term.factors).flat_map(|factor| &factor.axes);
        let mut letters: BTreeSet<char> =
            jumps.filter(|axis| matches!(axis.at, At::By(_))).map(|axis| axis.letter).collect();
        letters.extend(match edit.whole {
            Whole::Moved(letter, At::By(_)) => Some(letter),
            _ => None,
        });
        letters.into_iter().filter(|letter| self.maps.iter().all(|map| map.letters().contains(letter))).all(|letter| {
            let index = |&(s, place): &Element| self.maps[s].index(self.maps[s].at(place).slice(), letter);
            let mut seen = BTreeSet::new();
            self.wrong.iter().filter_map(index).any(|index| seen.insert(index) && seen.len() >= FOR_A_JUMP)
        })
    }

    /// The same without the costs; none if the change does not give every wrong element.
    fn places_of(&self, edit: &Edit) -> Option<Vec<Place>> {
        // What overflowed says nothing about how, if anything else is wrong.
        let finite = self
            .wrong
            .iter()
            .any(|&(s, place)| self.sites[s].found.as_slice().is_some_and(|found| found[place].is_finite()));
        let (mut from_right, mut from_wrong) = (0.0, 0.0);
        let (mut agreeing, mut all) = (0.0, 0.0);
        let mut elsewhere: Vec<Element> = Vec::new();
        for (s, site) in self.sites.iter().enumerate() {
            let values = edit.values(&self.cases[site.case], site.equation);
            let fits = |values: &ArrayD<f64>| values.shape() == site.right.shape();
            let values = match values.filter(fits) {
                Some(values) => values,
                None if site.broken() => return None,
                None => continue,
            };
            let found = site.found.iter();
            // A right value near the border of two rounded ones may be rounded to either.
            let round = edit.relation.rounding;
            let agrees = |place: usize, found: f64, value: f64, right: f64| {
                if let Whole::Stored(format) = edit.whole {
                    let unit = if format == Rounding::Bf16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
                    return format.round(found).total_cmp(&found).is_eq()
                        && (found - right).abs() <= ROUNDINGS * unit * site.scales[place];
                }
                if let Whole::Times(low, high) = edit.whole {
                    let (a, b) = (low * right, high * right);
                    return site.agrees(place, found, found.clamp(a.min(b), a.max(b)));
                }
                if let (Some(format), Kind::Wrong) = (edit.whole.rounds_sums(), site.kinds[place]) {
                    // A sum near the border of two rounded ones may be rounded to either.
                    let unit = if format == Rounding::Bf16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
                    return (found - value).abs() <= site.allowed[place] + unit * site.scales[place];
                }
                site.agrees(place, found, value)
                    || (edit.whole == Whole::Kept && round != Rounding::Exact && {
                        let near = [right - site.allowed[place], right + site.allowed[place]].map(|x| round.round(x));
                        near.iter().any(|near| near.total_cmp(&found).is_eq())
                    })
            };
            for (place, ((&found, &value), &right)) in found.zip(values.iter()).zip(&site.right).enumerate() {
                match site.kinds[place] {
                    Kind::Ignored => {}
                    // An element that is wrong in a tensor that passes is within the tolerance of the golden value.
                    Kind::Wrong if !site.failed || (finite && !found.is_finite()) => {}
                    Kind::Wrong => {
                        if !agrees(place, found, value, right) {
                            return None;
                        }
                        all += 1.0;
                        agreeing += if site.agrees(place, found, value) { 1.0 } else { 0.0 };
                        if found.is_finite() {
                            from_right +=
                                ((found - right) / site.allowed[place].max(f64::MIN_POSITIVE)).abs().min(1e12);
                            from_wrong +=
                                ((found - value) / site.allowed[place].max(f64::MIN_POSITIVE)).abs().min(1e12);
                        }
                    }
                    Kind::Right => {
                        if !agrees(place, found, value, right) {
                            elsewhere.push((s, place));
                            if elsewhere.len() > MOST {
                                return None;
                            }
                        }
                    }
                }
            }
        }
        if edit.whole == Whole::Kept && self.flat() {
            return None;
        }
        if edit.whole.rounds_sums().is_some() && agreeing < TO_THE_LAST_BIT * all {
            return None;
        }
        let stored = matches!(edit.whole, Whole::Stored(_) | Whole::Times(..));
        if (stored && self.wrong.len() < FOR_A_BOUND) || (!stored && from_wrong * NEARER > from_right) {
            return None;
        }
        Some(if elsewhere.is_empty() { vec![Place::default()] } else { self.places(&elsewhere) })
    }

    /// The cheapest conditions that hold at every wrong element and at none of the others.
    fn places(&self, others: &[Element]) -> Vec<Place> {
        let atoms = self.common.get_or_init(|| self.common());
        let letters = self.shown_letters(others);
        let is_shown = |k: &usize| match &atoms[*k] {
            Atom::Index(letter, test) => test.is_plain() || letters.contains(letter),
            _ => true,
        };
        let shown: Vec<usize> = (0..atoms.len()).filter(is_shown).collect();
        let mut sets: Vec<u128> = others.iter().map(|&(s, place)| self.held(s)[place]).collect();
        sets.sort_unstable();
        sets.dedup();
        let apart = |all: &[usize]| sets.iter().all(|set| all.iter().any(|k| set >> k & 1 == 0));
        let place = |all: &[usize]| Place(all.iter().map(|&k| atoms[k].clone()).collect());
        let mut places: Vec<Place> = Vec::new();
        for (n, &k) in shown.iter().enumerate() {
            places.extend(apart(&[k]).then(|| place(&[k])));
            places.extend(shown[n + 1..].iter().filter(|&&l| apart(&[k, l])).map(|&l| place(&[k, l])));
        }
        places.extend(self.bounds(others));
        if places.is_empty() {
            // A third condition about the settings or the part of the model.
            let facts = shown.iter().filter(|&&k| matches!(atoms[k], Atom::Fact(_) | Atom::NotFact(_)));
            for &k in facts {
                for (n, &l) in shown.iter().enumerate().filter(|(_, l)| **l != k) {
                    let others = shown[n + 1..].iter().filter(|&&m| m != k);
                    places.extend(others.filter(|&&m| apart(&[k, l, m])).map(|&m| place(&[k, l, m])));
                }
            }
        }
        places.sort_by(|a, b| a.cost().total_cmp(&b.cost()));
        places.truncate(PLACES);
        let Some(cheapest) = places.iter().position(|place| self.tells(place, others)) else { return Vec::new() };
        let least = places[cheapest].cost();
        // Of groups of several sizes the data may not tell which.
        let is_as_good = |place: &Place| match place.0[..] {
            [Atom::Parts(_)] => place.cost() <= least + AS_GOOD,
            [Atom::Index(..)] => place.cost() <= least + AS_GOOD_AN_INDEX,
            _ => false,
        };
        let keep = |(k, place): &(usize, Place)| {
            *k == cheapest || (*k > cheapest && is_as_good(place) && self.tells(place, others))
        };
        places.into_iter().enumerate().filter(keep).map(|(_, place)| place).collect()
    }

    /// For each element of a site the conditions of [`Family::common`] that hold there, one bit each.
    fn held(&self, s: usize) -> &[u128] {
        self.held[s].get_or_init(|| {
            let atoms = self.common.get_or_init(|| self.common());
            let of = |place: usize| {
                let at = self.maps[s].at(place);
                let holds = atoms.iter().enumerate().filter(|(_, atom)| self.maps[s].holds(atom, at.slice()));
                holds.fold(0, |set, (k, _)| set | 1 << k)
            };
            (0..self.sites[s].right.len()).map(of).collect()
        })
    }

    /// Whether each condition of a place is shown by enough different indices, sizes or tensors: those that are wrong, and
    /// those that it excludes though the other conditions hold there.
    fn tells(&self, place: &Place, others: &[Element]) -> bool {
        place.0.iter().all(|atom| self.tensors_show(atom, place, others)) && self.indices_show(place, others)
    }

    /// Whether all conditions of a place but one hold at an element.
    fn holds_without(&self, atom: &Atom, place: &Place, (s, at): Element) -> bool {
        let at = self.maps[s].at(at);
        place.0.iter().all(|other| other == atom || self.maps[s].holds(other, at.slice()))
    }

    /// Whether enough tensors, or sizes, show a condition that holds in whole tensors.
    fn tensors_show(&self, atom: &Atom, place: &Place, others: &[Element]) -> bool {
        let size = |s: usize| match atom {
            // A program has code of its own more often than a size or a setting has.
            Atom::Fact(fact) | Atom::NotFact(fact) => (!fact.starts_with("the program")).then_some(s),
            Atom::Size(letter, _) | Atom::Fewer(letter, _) | Atom::Divides(_, letter, _) => {
                self.maps[s].sizes().get(letter).copied()
            }
            _ => None,
        };
        if size(0).is_none() {
            return true;
        }
        let needed = if matches!(atom, Atom::Divides(..)) { BITS_OF_A_MULTIPLE } else { BITS_OF_A_PLACE };
        let wrong: BTreeSet<usize> = self.wrong.iter().filter_map(|&(s, _)| size(s)).collect();
        // One element of each tensor is enough.
        let tensors = others
            .chunk_by(|one, next| one.0 == next.0)
            .filter(|all| all.iter().any(|&element| self.holds_without(atom, place, element)));
        let right: BTreeSet<usize> = tensors.filter_map(|all| size(all[0].0)).collect();
        ways(wrong.len(), right.len()) >= needed
    }

    /// Whether a place has at most one condition that is one of many tests (of two, so many pairs are tried that some agree
    /// by chance), and enough indices show it.
    fn indices_show(&self, place: &Place, others: &[Element]) -> bool {
        let mut read_off = place.0.iter().filter(|atom| atom.is_read_off());
        let (Some(atom), more) = (read_off.next(), read_off.count()) else { return true };
        let needed = match atom {
            Atom::Index(_, Test::From(_) | Test::Below(_) | Test::Is(_)) => 0.0,
            Atom::Index(..)
            | Atom::Row(_)
            | Atom::Running(_)
            | Atom::Parts(_)
            | Atom::TileDiagonal(_)
            | Atom::Above
            | Atom::Below
            | Atom::Beyond(..)
            | Atom::Length(Test::From(_) | Test::Below(_))
            | Atom::After(Test::From(_)) => BITS_OF_A_PLACE,
            Atom::Word(_) | Atom::Length(_) | Atom::Missing(_) | Atom::After(_) => BITS_OF_A_TEST,
            _ => 0.0,
        };
        let distinct = |elements: &mut dyn Iterator<Item = &Element>| {
            let key = |&(s, place): &Element| self.maps[s].key(atom, self.maps[s].at(place).slice());
            elements.filter_map(key).collect::<HashSet<_>>().len()
        };
        let shown = || {
            ways(
                distinct(&mut self.wrong.iter()),
                distinct(&mut others.iter().filter(|&&element| self.holds_without(atom, place, element))),
            )
        };
        more == 0 && (needed == 0.0 || shown() >= needed)
    }

    /// The letters whose indices can show a test: enough different ones are wrong, and right. With fewer, another test would
    /// agree by chance.
    fn shown_letters(&self, others: &[Element]) -> BTreeSet<char> {
        let letters: BTreeSet<char> = self.maps.iter().flat_map(Map::letters).copied().collect();
        let distinct = |elements: &[Element], letter: char| {
            let indices =
                elements.iter().filter_map(|&(s, place)| self.maps[s].index(self.maps[s].at(place).slice(), letter));
            indices.collect::<HashSet<_>>().len()
        };
        let is_shown =
            |&letter: &char| ways(distinct(&self.wrong, letter), distinct(others, letter)) >= BITS_OF_A_PLACE;
        letters.into_iter().filter(is_shown).collect()
    }

    /// The conditions that hold at all wrong elements, at most 128.
    fn common(&self) -> Vec<Atom> {
        let elements = &self.wrong;
        let Some(map) = elements.first().map(|&(s, _)| &self.maps[s]) else { return Vec::new() };
        let mut atoms: Vec<Atom> = map.facts().iter().cloned().map(Atom::Fact).collect();
        for &letter in map.letters() {
            atoms.extend(Test::fixed().map(|test| Atom::Index(letter, test)));
            let indices =
                || elements.iter().filter_map(|&(s, place)| self.maps[s].index(self.maps[s].at(place).slice(), letter));
            let (least, most) = indices().fold((usize::MAX, 0), |(least, most), (k, _)| (least.min(k), most.max(k)));
            let sizes = || indices().map(|(_, size)| size);
            let (size, widest) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
            if least == most {
                atoms.push(Atom::Index(letter, Test::Is(least)));
            }
            atoms.extend([Atom::Index(letter, Test::From(least)), Atom::Index(letter, Test::Below(most + 1))]);
            atoms.extend([Atom::Size(letter, size), Atom::Fewer(letter, widest + 1)]);
        }
        for &letter in map.sizes().keys() {
            atoms.extend(
                [2, 4, 8, 16, 32].into_iter().flat_map(|n| [true, false].map(|is| Atom::Divides(n, letter, is))),
            );
        }
        for &letter in map.letters() {
            let others = map.sizes().keys().filter(|&&other| other != letter);
            atoms.extend(others.map(|&other| Atom::Beyond(letter, other)));
        }
        if map.has_gates() {
            atoms.extend(Test::fixed().chain([8, 16, 32, 64, 128].map(Test::From)).map(Atom::Unit));
            atoms.extend((0..3).flat_map(|gate| [Atom::Gate(gate), Atom::OtherGates(gate)]));
        }
        let elsewhere = self
            .maps
            .iter()
            .flat_map(super::places::Map::facts)
            .filter(|fact| fact.starts_with("the ") || fact.starts_with("layer "));
        let mut elsewhere: Vec<Atom> = elsewhere.cloned().map(Atom::NotFact).collect();
        elsewhere.sort_by_key(ToString::to_string);
        elsewhere.dedup();
        atoms.extend(elsewhere);
        atoms.extend(Test::fixed().map(Atom::Row));
        atoms.extend(Test::fixed().map(Atom::Running));
        let lengths = || elements.iter().filter_map(|&(s, place)| self.maps[s].length(self.maps[s].at(place).slice()));
        if let (Some(least), Some(most)) = (lengths().min(), lengths().max()) {
            atoms.extend([Test::From(least), Test::Below(most + 1)].map(Atom::Length));
        }
        let after = || elements.iter().filter_map(|&(s, place)| self.maps[s].after(self.maps[s].at(place).slice()));
        atoms.extend(after().min().map(|least| Atom::After(Test::From(least))));
        for test in [Test::Odd, Test::Even] {
            atoms.extend([Atom::Length(test), Atom::Missing(test)]);
        }
        atoms.extend([4, 8, 16, 32].map(Atom::TileDiagonal));
        atoms.extend(Pair::all().filter(|pair| pair.parts != Parts::Groups(1)).map(Atom::Parts));
        if map.has_words() {
            atoms.extend(Test::fixed().chain([8, 16, 32, 64, 128, 256].map(Test::From)).map(Atom::Word));
            atoms.push(Atom::LargestWord);
        }
        atoms.extend([
            Atom::LastToken,
            Atom::NotLastToken,
            Atom::FullRow,
            Atom::ShortRow,
            Atom::LongRow,
            Atom::OneToken,
            Atom::OutsideTransposed,
            Atom::Diagonal,
            Atom::OffDiagonal,
            Atom::Above,
            Atom::Below,
            Atom::Repeated,
            Atom::Single,
        ]);
        let holds =
            |atom: &Atom| elements.iter().all(|&(s, place)| self.maps[s].holds(atom, self.maps[s].at(place).slice()));
        atoms.retain(|atom| !matches!(atom, Atom::Index(_, Test::From(0))) && holds(atom));
        atoms.truncate(128);
        atoms
    }

    /// Bounds on leaves of the relation that part the wrong elements from others.
    fn bounds(&self, others: &[Element]) -> Vec<Place> {
        if self.wrong.len() < FOR_A_BOUND || others.len() < FOR_A_BOUND {
            return Vec::new();
        }
        // Each side is shown within tensors that are wrong on the other side: those that are right altogether differ in
        // more than a leaf.
        let sites: BTreeSet<usize> = self.wrong.iter().map(|&(s, _)| s).collect();
        let is_large = sites.iter().any(|&s| self.sites[s].right.len() > FOR_A_BOUND);
        let is_in_a_wrong_one: Vec<bool> = others.iter().map(|(s, _)| sites.contains(s)).collect();
        let first = self.sites[self.wrong[0].0];
        let relation = &self.cases[first.case].graph.equations[first.equation].relation;
        let mut factors: Vec<Factor> = relation.terms.iter().flat_map(|term| term.factors.iter().cloned()).collect();
        for factor in &mut factors {
            factor.function = Function::Identity;
        }
        let mut bounds = Vec::new();
        let exact = first.exact;
        let magnitudes: Vec<Factor> =
            factors.iter().map(|factor| Factor { function: Function::Abs, ..factor.clone() }).collect();
        let choices = factors.into_iter().chain(magnitudes);
        let choices = choices.map(|factor| Some(Box::new(factor))).chain((!exact).then_some(None));
        for factor in choices {
            let loaded: Vec<Option<Lettered>> = match &factor {
                Some(factor) => self.maps.iter().map(|map| map.load(factor)).collect(),
                None => Vec::new(),
            };
            let value = |s: usize, place: usize| match &factor {
                Some(_) => loaded[s].as_ref().and_then(|x| self.maps[s].value(x, self.maps[s].at(place).slice())),
                None => self.sites[s].right.as_slice().map(|right| right[place]),
            };
            let wrong: Option<Vec<f64>> = self.wrong.iter().map(|&(s, place)| value(s, place)).collect();
            let Some(wrong) = wrong else { continue };
            let least = wrong.iter().copied().fold(f64::INFINITY, f64::min);
            let most = wrong.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // None at the first that is between them.
            let is_outside = |x: &f64| *x < least || *x > most;
            let outside = others.iter().map(|&(s, place)| value(s, place).filter(is_outside));
            let Some(others) = outside.collect::<Option<Vec<f64>>>() else { continue };
            let below = others.iter().copied().filter(|x| *x < least).fold(f64::NEG_INFINITY, f64::max);
            let above = others.iter().copied().filter(|x| *x > most).fold(f64::INFINITY, f64::min);
            let shows = |on_this_side: &dyn Fn(f64) -> bool| {
                let mut side = others.iter().zip(&is_in_a_wrong_one).filter(|(x, _)| on_this_side(**x)).peekable();
                side.peek().is_none() || side.filter(|(_, is_in_one)| **is_in_one).count() >= FOR_A_BOUND
            };
            if is_large && !(shows(&|x| x < least) && shows(&|x| x > most)) {
                continue;
            }
            let between = |below: f64, above: f64| {
                if below == 0.0 {
                    // More than 0.
                    f64::MIN_POSITIVE
                } else if below < 0.0 && above >= 0.0 {
                    0.0
                } else {
                    f64::midpoint(below, above)
                }
            };
            let mut place = Vec::new();
            if below.is_finite() {
                place.push(Atom::AtLeast(factor.clone(), between(below, least)));
            }
            if above.is_finite() {
                place.push(Atom::Less(factor.clone(), between(most, above)));
            }
            bounds.push(Place(place));
        }
        bounds
    }

    /// Where the wrong elements are, if that can be said in two conditions.
    pub(super) fn where_wrong(&self) -> Option<Place> {
        let mut right: Vec<Element> = Vec::new();
        for (s, site) in self.sites.iter().enumerate() {
            right.extend(
                site.kinds.iter().enumerate().filter(|(_, kind)| **kind == Kind::Right).map(|(place, _)| (s, place)),
            );
        }
        if right.is_empty() {
            return Some(Place::default());
        }
        if right.len() > MOST || self.wrong.len() < FOR_A_PLACE {
            return None;
        }
        // A bound that parts the wrong from the right ones is rarely the reason.
        let is_bound = |atom: &Atom| matches!(atom, Atom::Less(..) | Atom::AtLeast(..));
        self.places(&right).into_iter().find(|place| !place.0.iter().any(is_bound))
    }
}
