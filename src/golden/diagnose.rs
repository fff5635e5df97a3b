//! The diagnosis: which known mistake gives the backend's values.
//!
//! Each mistake changes relations, and the failing case is computed by them from the golden inputs: once with
//! the backward pass that an autograd would derive, and once with that of the relations, as in a
//! backend with a handwritten backward pass. A mistake is **named** only if
//!
//! - it gives every tensor that the backend wrote, from the first divergence to the last,
//! - it breaks no case that passes, and
//! - the named mistakes explain at least four of five failing cases.
//!
//! A mistake that explains less is reported as a likeness. If nothing fits, the report says so. Nothing is
//! guessed.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, Axis, Slice};
use rayon::prelude::*;
use serde::Serialize;

use super::cases::Expected;
use super::compare::{CaseReport, FoundTensors, Status, check_case};
use super::difference::{difference, lengths_of};
use super::mistakes::{self, Mistake};
use super::program::Program;
use super::relations::findings::{Given, suspicious};
use super::relations::planted::{Planting, Until, Values, Way, changes, of_optimiser};
use super::suite::GoldenCase;
use super::tolerance::{Profile, SAFETY};
use crate::error::Result;

/// How far the backend's values may be from a mistake's, in tolerances of the right values. It is more than
/// 1 because a wrong function may be worse conditioned than the right one.
const ALIKE: f64 = 4.0;
/// Up to this distance, the mistake's own error in `f32` is measured.
const NEARLY: f64 = 1e5;
/// A mistake must explain most of the error: its values are this many times nearer than the right ones.
const NEARER: f64 = 3.0;
/// With more numbers than this, a case is too large to try every mistake on.
const LARGE: usize = 1 << 19;
/// One in this many failing cases may stay unexplained if a mistake is named.
const UNEXPLAINED: usize = 5;
/// All mistakes are tried until they have said nothing new about this many failing cases of a program; on the others,
/// only those that explained another case.
const TRIED: usize = 3;

/// What a mistake explains of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reach {
    /// The first divergence, but not everything after it.
    First,
    /// Everything that was written.
    All,
}

/// A mistake that explains something of a case.
#[derive(Clone, Copy, Debug)]
struct Explanation {
    mistake: &'static Mistake,
    explains: Reach,
}

/// A mistake, or several that the written tensors do not distinguish, and the failing cases that it explains.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Diagnosis {
    /// The mistake's id; several ids if the written tensors do not distinguish them.
    pub mistakes: Vec<String>,
    /// What the backend computes.
    pub says: String,
    /// How to fix it.
    pub fix: String,
    /// The failing cases that it explains.
    pub cases: Vec<String>,
    /// Whether it explains everything in these cases, or only the first divergence.
    pub explains: Reach,
    /// Cases that pass although this mistake would break them. If the backend makes it, then only in some
    /// situations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<String>,
}

/// The diagnosis of all failing cases.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Diagnoses {
    /// The named mistakes. The one that explains most comes first.
    pub named: Vec<Diagnosis>,
    /// Mistakes that explain something, but too little to be named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub similar: Vec<Diagnosis>,
    /// Cases that two or more of the named mistakes explain together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<String>,
    /// Failing cases that no known mistake reproduces from the first divergence to the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unexplained: Vec<String>,
    /// If nothing was named: a lower precision under whose tolerances every failing case passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Profile>,
    /// Failing cases that are too large to try every mistake on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

/// A case, what the backend wrote for it, and the result of the comparison.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The case.
    pub golden: GoldenCase,
    /// What the backend wrote.
    pub found: FoundTensors,
    /// The comparison.
    pub report: CaseReport,
}

/// How a backend's tensor compares with a mistake's.
struct Likeness {
    name: String,
    /// Whether it has the mistake's values.
    alike: bool,
    /// Its error in units of the tolerance, against the right values and against the mistake's values.
    from_right: f64,
    from_wrong: f64,
}

impl Checked {
    fn is_large(&self) -> bool {
        self.golden.inputs.values().map(ArrayD::len).sum::<usize>() > LARGE
    }

    /// How long it takes to compute it, roughly: numbers times steps.
    fn work(&self) -> usize {
        let steps = self.golden.settings().map_or(1, |settings| settings.steps.max(1));
        self.golden.inputs.values().map(ArrayD::len).sum::<usize>() * steps
    }

    /// The tensor whose numbers diverge first. There is none if the case was refused, or if the first failing
    /// tensor is unreadable, missing, or of another shape or type.
    fn first(&self) -> Option<&str> {
        let failed = self.report.tensors.iter().find(|tensor| tensor.status == Status::Failed)?;
        // There is a tolerance only if numbers were compared.
        failed.tolerance.is_some().then_some(&failed.name)
    }
}

/// A case that may be computed with mistakes.
struct Suspect<'a> {
    case: &'a Checked,
    planting: Planting<'a>,
}

impl<'a> Suspect<'a> {
    fn new(case: &'a Checked) -> Result<Self> {
        Ok(Self { case, planting: Planting::new(&case.golden)? })
    }

    /// Compares each tensor that was written, is judged and is computed so far with that of a computation with
    /// mistakes; none if they change nothing here.
    fn against(&self, planted: &[&Mistake], profile: Profile, way: Way) -> Option<Vec<Likeness>> {
        let Checked { golden, found, .. } = self.case;
        let wrong = self.planting.values(planted, way)?;
        let lengths = lengths_of(&golden.inputs);
        // The wrong function computed in f32, when it is needed: how exact can f32 be?
        let mut single: Option<Values> = None;
        let mut out = Vec::new();
        for entry in golden.expected_entries().filter(|entry| way.until.has(&entry.name)) {
            let (Some(found), Some(&tolerance)) = (found.get(&entry.name), entry.tolerance.get(&profile)) else {
                continue;
            };
            if undetermined(planted, &entry.name) {
                continue;
            }
            let extent = entry.extent(lengths.as_deref());
            let units = |of: &ArrayD<f64>, found: &ArrayD<f64>| {
                if of.shape() != found.shape() {
                    return f64::INFINITY;
                }
                let off = difference(of, found, extent);
                off.deviation.in_units_of(tolerance, off.compared)
            };
            let right = &golden.expected[&entry.name];
            let scalar = found.values.len() == 1 && right.len() == 1;
            let values =
                if scalar { ArrayD::from_elem(right.raw_dim(), found.values.sum()) } else { found.values.clone() };
            let from_right = units(right, &values);
            // What the mistake does not change is right.
            let wrong = wrong.get(&entry.name);
            let from_wrong = wrong.map_or(from_right, |wrong| {
                let forms = other_forms(planted, &entry.name, wrong);
                forms.iter().map(|wrong| units(wrong, &values)).fold(f64::INFINITY, f64::min)
            });
            let near = from_wrong <= ALIKE;
            let alike = if entry.exact {
                from_wrong == 0.0
            } else if let Some(wrong) = wrong
                && !near
                && profile == Profile::F32
                && from_wrong <= NEARLY
            {
                let single = single.get_or_insert_with(|| {
                    self.planting.values(planted, Way { single: true, ..way }).unwrap_or_default()
                });
                let own = single.get(&entry.name).map_or(0.0, |single| units(wrong, single));
                from_wrong <= SAFETY * own
            } else {
                near
            };
            out.push(Likeness { name: entry.name.clone(), alike, from_right, from_wrong });
        }
        Some(out)
    }

    /// How much of this failing case some mistakes explain.
    fn explained_by(&self, planted: &[&Mistake], profile: Profile) -> Option<Reach> {
        let first = self.case.first()?;
        let much_nearer = |against: &[Likeness]| {
            let last = against.last().map_or((0.0, 0.0), |likeness| (likeness.from_right, likeness.from_wrong));
            last.0 > 1.0 && last.1 <= last.0 / NEARER && against.iter().all(|likeness| likeness.alike)
        };
        let reach = |autograd| {
            let way = |until| Way { autograd, single: false, until };
            // Most mistakes are refuted by a part of the case.
            for &until in self.planting.parts() {
                let against = self.against(planted, profile, way(until))?;
                let place = against.iter().position(|likeness| likeness.name == first);
                let fits = match place {
                    Some(place) => much_nearer(&against[..=place]),
                    None => until.has(first) || against.iter().all(|likeness| likeness.alike),
                };
                if !fits {
                    return None;
                }
            }
            let against = self.against(planted, profile, way(Until::End))?;
            let place = match against.iter().position(|likeness| likeness.name == first) {
                Some(place) => place,
                // The first divergence is undetermined under this mistake: the next one decides.
                None => against.iter().position(|likeness| likeness.from_right > 1.0)?,
            };
            if !much_nearer(&against[..=place]) {
                return None;
            }
            Some(if against.iter().all(|likeness| likeness.alike) { Reach::All } else { Reach::First })
        };
        match reach(true) {
            Some(Reach::All) => Some(Reach::All),
            part if planted.iter().all(|mistake| of_optimiser(mistake)) => part,
            part => part.max(reach(false)),
        }
    }

    /// Whether a mistake would break this case, which passes, with either form of the backward pass.
    fn contradicts(&self, planted: &Mistake, profile: Profile) -> bool {
        let way = |autograd| Way { autograd, single: false, until: Until::End };
        let both = [true, false].map(|autograd| self.against(&[planted], profile, way(autograd)));
        let breaks = |against: &Vec<Likeness>| against.iter().any(|likeness| !likeness.alike);
        both.iter().any(Option::is_some) && both.iter().flatten().all(breaks)
    }

    /// The mistakes that explain this failing case best. The suspects, which explained other cases, are tried
    /// first. If none of them explains all of it, all known mistakes that change a relation which is broken in some
    /// case are tried, if these are given.
    fn explanations(
        &self,
        suspects: &[&'static Mistake],
        profile: Profile,
        broken: Option<&BTreeSet<String>>,
    ) -> Vec<Explanation> {
        let among = |mistakes: &[&'static Mistake]| -> Vec<Explanation> {
            let found = mistakes.par_iter().filter_map(|&mistake| {
                let explains = self.explained_by(&[mistake], profile)?;
                Some(Explanation { mistake, explains })
            });
            let found: Vec<Explanation> = found.collect();
            let best = found.iter().map(|e| e.explains).max();
            found.into_iter().filter(|e| Some(e.explains) == best).collect()
        };
        let found = among(suspects);
        let Some(broken) = broken.filter(|_| found.iter().all(|e| e.explains != Reach::All)) else { return found };
        // Of several equal choices a backend may take any: no relation is broken by that.
        let tie = self.case.golden.entry.flags.iter().any(|flag| flag == "tie");
        let may_be = |mistake: &&Mistake| tie || broken.is_empty() || changes(mistake, broken);
        among(&mistakes::ALL.iter().filter(may_be).collect::<Vec<_>>())
    }
}

/// The forms in which a backend with a mistake may hold a tensor. With gates in another order, the weights
/// may have been rearranged when they were loaded; then everything that is stacked by gates is in that order.
fn other_forms(planted: &[&Mistake], name: &str, wrong: &ArrayD<f64>) -> Vec<ArrayD<f64>> {
    const ORDERS: [[usize; 3]; 5] = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let gates = ["gates-rnz", "gates-zrn", "gates-znr", "gates-nrz", "gates-nzr"];
    let mut forms = vec![wrong.clone()];
    let stacked_last = matches!(last_part(name), "a" | "c");
    let axis = if stacked_last { wrong.ndim().saturating_sub(1) } else { 0 };
    if !(stacked_last || name.contains("txt_enc.rnn.")) || !planted.iter().any(|mistake| gates.contains(&mistake.id)) {
        return forms;
    }
    let hidden = wrong.shape()[axis] / 3;
    for order in ORDERS {
        let mut form = wrong.clone();
        for (to, from) in order.into_iter().enumerate() {
            let rows = |block: usize| Slice::from(block * hidden..(block + 1) * hidden);
            form.slice_axis_mut(Axis(axis), rows(to)).assign(&wrong.slice_axis(Axis(axis), rows(from)));
        }
        forms.push(form);
    }
    forms
}

/// Tensors that a mistake leaves undefined: with the reset before the product, c has no unique meaning;
/// if steps are detached, h₀ may be detached or not.
fn undetermined(planted: &[&Mistake], name: &str) -> bool {
    let is_planted = |id: &str| planted.iter().any(|mistake| mistake.id == id);
    (is_planted("reset-before-product") && last_part(name) == "c") || (is_planted("truncated") && name == "grad.in.h0")
}

/// The part of a name after its last dot.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Mistakes that the written tensors do not distinguish, and the indices of the cases that they explain.
struct Choice {
    alike: Vec<&'static Mistake>,
    cases: Vec<usize>,
}

/// The mistake that explains most cases, then the one that explains most of the rest, and so on.
fn cover(
    explained: &[(Suspect<'_>, Vec<Explanation>)],
    spared: &BTreeMap<&'static Mistake, Vec<String>>,
) -> Vec<Choice> {
    let mut open: Vec<usize> = (0..explained.len()).filter(|&k| !explained[k].1.is_empty()).collect();
    let mut choices = Vec::new();
    while !open.is_empty() {
        let mut score: BTreeMap<&'static Mistake, (bool, usize, usize)> = BTreeMap::new();
        for &k in &open {
            for e in &explained[k].1 {
                let entry = score.entry(e.mistake).or_insert((spared[e.mistake].is_empty(), 0, 0));
                entry.1 += usize::from(e.explains == Reach::All);
                entry.2 += 1;
            }
        }
        let Some(&best) = score.values().max() else { break };
        let equals: Vec<&'static Mistake> = score.iter().filter(|(_, s)| **s == best).map(|(m, _)| *m).collect();
        let covers = |m: &Mistake, k: usize| explained[k].1.iter().any(|e| e.mistake == m);
        // Among equally good mistakes, those that explain the same cases are indistinguishable.
        let first = equals[0];
        let alike = equals.into_iter().filter(|&m| open.iter().all(|&k| covers(m, k) == covers(first, k))).collect();
        let cases: Vec<usize> = open.iter().copied().filter(|&k| covers(first, k)).collect();
        open.retain(|k| !cases.contains(k));
        choices.push(Choice { alike, cases });
    }
    choices
}

/// Finds the mistakes that explain the failing cases.
#[must_use]
pub(crate) fn diagnose(checked: &[Checked], profile: Profile, large_too: bool) -> Diagnoses {
    let mut out = Diagnoses::default();
    let failing = || checked.iter().filter(|c| c.report.status == Status::Failed && c.first().is_some());
    let passing: Vec<&Checked> = checked
        .iter()
        .filter(|c| matches!(c.report.status, Status::Passed | Status::Remark) && !c.found.is_empty() && !c.is_large())
        .filter(|c| c.golden.entry.result == Expected::Valid)
        .collect();
    let mut explained: Vec<(Suspect<'_>, Vec<Explanation>)> = Vec::new();
    let mut suspects: Vec<&'static Mistake> = Vec::new();
    let mut in_vain: BTreeMap<Program, usize> = BTreeMap::new();
    let given: Vec<Given<'_>> =
        failing().map(|c| Given { golden: &c.golden, found: &c.found, report: &c.report }).collect();
    let broken: BTreeSet<String> = given.par_iter().map(suspicious).flatten_iter().collect();
    // The small ones first: a mistake that is refuted there is not computed over a hundred steps.
    let mut order: Vec<(usize, &Checked)> = failing().enumerate().collect();
    order.sort_by_key(|(_, case)| case.work());
    let mut numbers = Vec::new();
    for (number, case) in order {
        if case.is_large() && !large_too {
            out.skipped.push(case.golden.entry.id.clone());
        } else if let Ok(case) = Suspect::new(case) {
            numbers.push(number);
            let tried = in_vain.entry(case.case.golden.entry.program).or_default();
            let found = case.explanations(&suspects, profile, (*tried < TRIED).then_some(&broken));
            let nothing_new = found.iter().all(|e| e.explains != Reach::All && suspects.contains(&e.mistake));
            *tried += usize::from(nothing_new);
            suspects.extend(found.iter().map(|e| e.mistake));
            suspects.sort_unstable();
            suspects.dedup();
            explained.push((case, found));
        }
    }
    let mut explained: Vec<(usize, (Suspect<'_>, Vec<Explanation>))> = numbers.into_iter().zip(explained).collect();
    explained.sort_by_key(|(number, _)| *number);
    let explained: Vec<(Suspect<'_>, Vec<Explanation>)> = explained.into_iter().map(|(_, case)| case).collect();
    let passing: Vec<Suspect<'_>> =
        passing.into_par_iter().filter(|_| !suspects.is_empty()).filter_map(|case| Suspect::new(case).ok()).collect();
    let spared_by = |&mistake: &&'static Mistake| {
        let contradicted = passing.par_iter().filter(|case| case.contradicts(mistake, profile));
        (mistake, contradicted.map(|case| case.case.golden.entry.id.clone()).collect::<Vec<String>>())
    };
    let spared: BTreeMap<&'static Mistake, Vec<String>> = suspects.iter().map(spared_by).collect();

    let id = |k: usize| explained[k].0.case.golden.entry.id.clone();
    let whole = |k: usize, m: &Mistake| explained[k].1.iter().any(|e| e.mistake == m && e.explains == Reach::All);
    let choices = cover(&explained, &spared);
    let fits =
        |choice: &Choice| spared[choice.alike[0]].is_empty() && choice.cases.iter().any(|&k| whole(k, choice.alike[0]));
    let chosen: Vec<&Mistake> = choices.iter().filter(|choice| fits(choice)).map(|choice| choice.alike[0]).collect();
    // A case that no single mistake explains completely may contain several of the chosen ones.
    let alone = |k: usize| chosen.iter().any(|m| whole(k, m));
    let together: Vec<usize> = (0..explained.len())
        .filter(|&k| !alone(k) && chosen.len() > 1 && explained[k].0.explained_by(&chosen, profile) == Some(Reach::All))
        .collect();
    let unexplained: Vec<usize> = (0..explained.len()).filter(|&k| !alone(k) && !together.contains(&k)).collect();
    let enough = unexplained.len() * UNEXPLAINED <= explained.len();
    for choice in &choices {
        let (first, named) = (choice.alike[0], enough && fits(choice));
        let kept = |k: &usize| !named || whole(*k, first) || together.contains(k);
        let cases: Vec<usize> = choice.cases.iter().copied().filter(kept).collect();
        let all = cases.iter().all(|&k| whole(k, first) || together.contains(&k));
        let diagnosis = Diagnosis {
            mistakes: choice.alike.iter().map(|m| m.id.to_owned()).collect(),
            says: choice.alike.iter().map(|m| m.says).collect::<Vec<_>>().join("; or "),
            fix: first.fix.to_owned(),
            cases: cases.iter().map(|&k| id(k)).collect(),
            explains: if all { Reach::All } else { Reach::First },
            spared: spared[first].clone(),
        };
        if named { &mut out.named } else { &mut out.similar }.push(diagnosis);
    }
    out.together = together.iter().filter(|_| enough).map(|&k| id(k)).collect();
    out.unexplained = unexplained.iter().map(|&k| id(k)).collect();
    if out.named.is_empty() {
        let passes = |lower: Profile, case: &Checked| {
            check_case(&case.golden, &case.found, lower).is_ok_and(|report| report.status != Status::Failed)
        };
        let all_failed_have_values = checked.iter().all(|c| c.report.status != Status::Failed || c.first().is_some());
        let mut lower = Profile::ALL.into_iter().filter(|&lower| lower > profile);
        out.within = lower.find(|&lower| {
            all_failed_have_values && !explained.is_empty() && failing().all(|case| passes(lower, case))
        });
    }
    out
}
