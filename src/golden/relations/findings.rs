//! The explanation of a red check: which relations are broken, in the order of the data flow, and why.

use std::collections::BTreeSet;
use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use super::edit::Edit;
use super::family::{Family, Fit};
use super::local::{Kind, Site, sites};
use super::places::Place;
use super::search::explain;
use super::values::Case;
use crate::golden::arithmetic::Rounding;
use crate::golden::compare::{CaseReport, FoundTensors};
use crate::golden::difference::index_of;
use crate::golden::stage::Stage;
use crate::golden::suite::GoldenCase;

/// At most so many sentences that cost nearly the same are given.
const MOST_OR: usize = 3;

/// A broken relation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// The stage of the data flow.
    pub stage: Stage,
    /// The tensor, in its short form.
    pub tensor: String,
    /// The relation that it does not satisfy.
    pub relation: String,
    /// What the backend computes instead; several sentences if the values do not tell them apart, none if no change
    /// of the relation gives the values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub says: Vec<String>,
    /// How many more sentences cost nearly the same.
    pub more: usize,
    /// What the short names of given tensors mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// What to look at in a kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<&'static str>,
    /// Where the values are wrong, if nothing is said about how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The smallest example.
    pub example: Example,
    /// The cases in which the relation is broken, and in how many the tensor was written.
    pub cases: Vec<String>,
    pub written: usize,
    /// Other tensors that are wrong for the same reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Tensors between this one and those that were written: the mistake may be in any of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<String>,
    /// A tensor made of the same unwritten ones that comes before this one and is not explained: it is to be looked at
    /// first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The one that would narrow it down most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_next: Option<String>,
}

/// One wrong element.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Example {
    pub case: String,
    pub tensor: String,
    pub index: Vec<usize>,
    /// What the relation gives on the backend's own values; as text, because JSON has no NaN.
    pub expected: String,
    pub found: String,
}

/// One case that was checked.
pub(crate) struct Given<'a> {
    pub golden: &'a GoldenCase,
    pub found: &'a FoundTensors,
    pub report: &'a CaseReport,
}

/// The broken relations of all cases, in the order of the data flow.
pub(crate) fn findings(given: &[Given<'_>]) -> Vec<Finding> {
    let pairs: Vec<(Case<'_>, &CaseReport)> = given
        .par_iter()
        .filter(|given| !given.found.is_empty() && !given.report.tensors.is_empty())
        .filter_map(|given| Some((Case::new(given.golden, given.found, given.golden.settings().ok()?), given.report)))
        .collect();
    let (mut cases, reports): (Vec<Case<'_>>, Vec<&CaseReport>) = pairs.into_iter().unzip();
    let mut all = all_sites(&cases, &reports);
    let (alone, joined): (Vec<Broken>, Vec<Broken>) =
        broken(&cases, &all).into_iter().partition(|broken| broken.before.is_empty());
    let mut found: Vec<Found> = alone
        .par_iter()
        .filter_map(|broken| {
            let family = Family::new(&broken.family, &cases, &all)?;
            let fits = explain(&family, &[]);
            let (key, finding) = describe(&family, &fits);
            let change = fits.into_iter().find(|fit| fit.place == Place::default()).and_then(|fit| fit.edit);
            Some((key, finding, change))
        })
        .collect();
    joined_findings(&mut cases, &reports, &mut all, joined, &mut found);
    found.sort_by_key(|(key, ..)| *key);
    let mut sorted: Vec<Finding> = found.into_iter().map(|(_, finding, _)| finding).collect();
    keep_common(&mut sorted);
    let mut findings: Vec<Finding> = Vec::new();
    for mut finding in sorted {
        finding.more = finding.says.len().saturating_sub(MOST_OR);
        finding.says.truncate(MOST_OR);
        finding.names = names(&format!("{} {}", finding.relation, finding.says.join(" ")));
        finding.look = finding.says.first().and_then(|says| look(says));
        // A leaf that is misread is misread wherever it is used; a tensor is computed in one way in all kinds.
        let same = findings.iter_mut().find(|known| {
            !finding.says.is_empty()
                && known.says == finding.says
                && known.place == finding.place
                && (known.tensor == finding.tensor
                    || ["takes", "follows", "is stored"].iter().any(|begin| finding.says[0].starts_with(begin)))
        });
        match same {
            Some(known) => known.also.push(finding.tensor),
            None => findings.push(finding),
        }
    }
    findings
}

/// Of sentences that one kind of a tensor leaves open, another kind of the same tensor may refute some: those that both
/// have are kept.
fn keep_common(findings: &mut [Finding]) {
    for one in 0..findings.len() {
        for other in 0..one {
            let [first, second] = [one, other].map(|k| &findings[k]);
            let common: Vec<String> = first.says.iter().filter(|says| second.says.contains(says)).cloned().collect();
            if first.tensor == second.tensor && !common.is_empty() {
                findings[one].says.clone_from(&common);
                findings[other].says = common;
            }
        }
    }
}

/// A finding, and the change that explains it everywhere.
type Found = (Key, Finding, Option<Edit>);

fn all_sites(cases: &[Case<'_>], reports: &[&CaseReport]) -> Vec<Site> {
    let of_case = |(place, (case, report)): (usize, (&Case<'_>, &&CaseReport))| sites(place, case, report);
    cases.par_iter().zip(reports).enumerate().flat_map_iter(of_case).collect()
}

/// A broken relation, and the families of the unwritten tensors that it is made of.
struct Broken {
    family: String,
    backward: bool,
    before: BTreeSet<String>,
    place: usize,
    tensor: String,
}

fn broken(cases: &[Case<'_>], all: &[Site]) -> Vec<Broken> {
    let mut found: Vec<Broken> = Vec::new();
    for site in all.iter().filter(|site| site.broken()) {
        let case = &cases[site.case];
        let name = family(cases, site);
        let k = found.iter().position(|known| known.family == name).unwrap_or_else(|| {
            let relation = &case.graph.equations[site.equation].relation;
            found.push(Broken {
                family: name.to_owned(),
                backward: relation.is_backward(),
                before: BTreeSet::new(),
                place: site.equation,
                tensor: relation.out.name(),
            });
            found.len() - 1
        });
        let before = case.unwritten_before(site.equation).iter().map(|&place| &case.graph.equations[place].family);
        found[k].before.extend(before.filter(|&other| other != name).cloned());
    }
    found
}

/// Those that are made of unwritten tensors, one after another: a mistake in an unwritten tensor breaks all relations that
/// read it. A change that is found is taken for what the backend computes, and what holds with it has the same cause.
fn joined_findings(
    cases: &mut [Case<'_>],
    reports: &[&CaseReport],
    all: &mut Vec<Site>,
    mut joined: Vec<Broken>,
    found: &mut Vec<Found>,
) {
    // Forward before backward. Fewer tensors come into question for the first ones.
    joined.sort_by_key(|broken| (broken.backward, broken.before.len(), broken.place));
    let mut refuted: BTreeSet<String> = BTreeSet::new();
    // Forward relations without an explanation.
    let mut unexplained: Vec<(BTreeSet<String>, String)> = Vec::new();
    let mut rounded: Vec<(BTreeSet<String>, String)> = Vec::new();
    while !joined.is_empty() {
        let next = joined.remove(0);
        let Some(mut family) = Family::new(&next.family, cases, all) else { continue };
        // A change of a tensor that other cases have is the same where it is not written.
        let is_same = |(_, _, change): &&mut Found| {
            let change = change.as_ref().filter(|edit| edit.is_of_unwritten(&next.family));
            change.is_some_and(|edit| family.test(edit).iter().any(|fit| fit.place == Place::default()))
        };
        if let Some((_, known, Some(edit))) = found.iter_mut().find(is_same) {
            known.also.push(next.tensor);
            cases.par_iter_mut().for_each(|case| edit.take(case));
            *all = all_sites(cases, reports);
            known.also.extend(keep_open(&broken(cases, all), &mut joined));
            continue;
        }
        let is_read = |(before, _): &&(BTreeSet<String>, String)| before.intersection(&next.before).count() > 0;
        let reason = unexplained.iter().filter(|_| next.backward).chain(&rounded).find(is_read);
        if let Some((_, first)) = reason {
            let (key, finding) = describe(&family, &[]);
            found.push((key, Finding { after: Some(first.clone()), ..finding }, None));
            continue;
        }
        let mut searched = refuted.clone();
        let way = |family: &Family<'_, '_, '_>, searched: &mut BTreeSet<String>| {
            let (case, place) = (&family.cases[family.model.case], family.model.equation);
            let way = case.on_the_way(place, searched);
            searched.extend(way.iter().map(|&place| case.graph.equations[place].family.clone()));
            way
        };
        let mut fits = explain(&family, &way(&family, &mut searched));
        // What the smallest case does not explain, a tensor that it lacks may.
        family.model = family.longest();
        let more = way(&family, &mut searched);
        if fits.is_empty() && !more.is_empty() {
            fits = explain(&family, &more);
        }
        let (key, mut finding) = describe(&family, &fits);
        let change = fits.into_iter().find(|fit| fit.place == Place::default()).and_then(|fit| fit.edit);
        let of_unwritten = change.as_ref().filter(|edit| edit.is_of_unwritten(&next.family));
        if let Some(edit) = of_unwritten {
            refuted.insert(edit.family.clone());
            refuted.extend(edit.also.iter().map(|(family, _)| family.clone()));
            // What is rounded on the way is not known to the last bit.
            if edit.relation.rounding != Rounding::Exact {
                rounded.push((BTreeSet::from([edit.family.clone()]), finding.tensor.clone()));
            }
            cases.par_iter_mut().for_each(|case| edit.take(case));
            *all = all_sites(cases, reports);
            finding.also.extend(keep_open(&broken(cases, all), &mut joined));
        } else if finding.says.is_empty() {
            refuted.extend(searched);
            if !next.backward {
                unexplained.push((next.before, finding.tensor.clone()));
            }
        }
        found.push((key, finding, change));
    }
}

/// Keeps the relations that are still broken, and gives the tensors of the others.
fn keep_open(left: &[Broken], joined: &mut Vec<Broken>) -> Vec<String> {
    let (open, explained): (Vec<Broken>, Vec<Broken>) =
        joined.drain(..).partition(|other| left.iter().any(|left| left.family == other.family));
    *joined = open;
    explained.into_iter().map(|other| other.tensor).collect()
}

/// The relations of a case that are broken, or may be the reason why one is: those of unwritten tensors before it.
pub(crate) fn suspicious(given: &Given<'_>) -> BTreeSet<String> {
    let mut families = BTreeSet::new();
    if let Ok(settings) = given.golden.settings() {
        let case = Case::new(given.golden, given.found, settings);
        for site in sites(0, &case, given.report).iter().filter(|site| site.broken()) {
            let places = case.unwritten_before(site.equation).iter().chain([&site.equation]);
            families.extend(places.map(|&place| case.graph.equations[place].family.clone()));
        }
    }
    families
}

fn family<'c>(cases: &'c [Case<'_>], site: &Site) -> &'c str {
    &cases[site.case].graph.equations[site.equation].family
}

/// The order in the data flow: the stage; inside a recurrence the step; the equation.
type Key = ((usize, usize), usize, usize);

fn describe(family: &Family<'_, '_, '_>, fits: &[Fit]) -> (Key, Finding) {
    let broken = || family.sites.iter().filter(|site| site.broken());
    let first = broken().next().expect("a broken site");
    let case = &family.cases[first.case];
    let equation = &case.graph.equations[first.equation];
    let stage = case.golden.entry.program.stage(&equation.tensor);
    let key = broken().map(|site| key(family, site)).min().expect("a broken site");
    let ids: BTreeSet<&str> = broken().map(|site| family.cases[site.case].golden.entry.id.as_str()).collect();
    let all: BTreeSet<usize> = family.sites.iter().map(|site| site.case).collect();
    let place = first.kinds.iter().position(|&kind| kind == Kind::Wrong).expect("a wrong element");
    let shape = case.golden.expected[&equation.tensor].shape();
    let number = |x: Option<&f64>| x.map_or_else(String::new, |x| format!("{x:.9e}"));
    let example = Example {
        case: case.golden.entry.id.clone(),
        tensor: equation.tensor.clone(),
        index: index_of(shape, first.flat[place]),
        expected: number(first.right.iter().nth(place)),
        found: number(first.found.iter().nth(place)),
    };
    let sentence = |fit: &Fit| {
        if fit.place == Place::default() { fit.says.clone() } else { format!("{}, {}", fit.says, fit.place) }
    };
    let says: Vec<String> = fits.iter().map(sentence).collect();
    let place = if says.is_empty() {
        family.where_wrong().filter(|place| *place != Place::default()).map(|place| place.to_string())
    } else {
        None
    };
    let spans = case.unwritten_span(first.equation);
    // It parts the span in two halves.
    let write_next = spans.get(spans.len() / 2).cloned();
    let finding = Finding {
        stage,
        tensor: equation.relation.out.name(),
        relation: equation.relation.to_string(),
        names: Vec::new(),
        look: None,
        says,
        more: 0,
        place,
        example,
        cases: ids.into_iter().map(Into::into).collect(),
        written: all.len(),
        also: Vec::new(),
        spans,
        after: None,
        write_next,
    };
    (key, finding)
}

/// The meaning of the short names in a text that are not tensors of a case.
fn names(text: &str) -> Vec<String> {
    const NAMES: [(&str, &str); 43] = [
        ("end[", "end is 1 at each row's own last token, 0 elsewhere"),
        ("padded_end[", "padded_end is 1 at t = T − 1"),
        ("one_before_end[", "one_before_end is 1 one token before each row's last"),
        ("first[", "first is 1 at t = 0"),
        ("start[", "start is 1 at t = 0"),
        ("mean[", "mean is 1 / length"),
        ("wrong[", "wrong is 1 for a pair that counts as a negative"),
        ("without_neighbours[", "without_neighbours is 1 where i ≠ j, 0 for neighbours (|i − j| = 1) of one image"),
        ("off_diagonal[", "off_diagonal is 1 where i ≠ j"),
        ("every[", "every is 1 for every pair"),
        ("eye[", "eye is 1 on the diagonal"),
        ("along[", "along is y · d.y of each row"),
        ("v[i,j", "v is max(0, g − f)"),
        ("all[", "all are the gradients of all parameters"),
        ("ratio[", "ratio is limit / (norm + 1e-6)"),
        ("m_all[", "m_all is m after each step"),
        ("v_all[", "v_all is v after each step"),
        ("root[", "root is √v̂ + ε"),
        ("v_hat[", "v_hat is v / (1 − β₂ᵗ)"),
        ("correct_m[", "correct_m is 1 / (1 − β₁ᵗ)"),
        ("correct_v[", "correct_v is 1 / (1 − β₂ᵗ)"),
        ("final[", "final is 1 at the last step"),
        ("ones[", "ones is 1 at every step"),
        ("up.", "up is the layer above"),
        ("first.", "first is layer 0"),
        ("bottom[", "bottom are the states of layer 0"),
        ("row(p,u)", "row is the row of x that row u of the kernel meets at p, −1 outside, column alike"),
        ("row(p)", "row and column are the pixel of x that the shortcut takes at (p, q)"),
        ("channel(", "channel is that of x which the shortcut takes, −1 for zeros"),
        ("output(", "output, output_row and output_column are where the shortcut puts x, −1 for nowhere"),
        ("per_number[", "per_number is 1 / M, one over the numbers of a channel"),
        ("centred[", "centred is x − mean"),
        ("deviation[", "deviation is √(σ² + ε)"),
        ("hat[", "hat is (x − mean) / √(σ² + ε)"),
        ("unbiased[", "unbiased is M / (M − 1)"),
        ("old_mean[", "old_mean is the running mean before the step"),
        ("old_var[", "old_var is the running variance before the step"),
        ("pixel(", "pixel is the number of the pixel in place k of a window, −1 outside"),
        ("largest[", "largest is the place of a window's first maximum"),
        ("chosen[", "chosen is 1 at the place of a window's first maximum"),
        ("rows[", "rows and columns are 1 for what belongs to a cell"),
        ("pixels[", "pixels is how many pixels a cell has"),
        ("d.side[", "d.main and d.side are the gradients through the convolutions and the shortcut"),
    ];
    let begins = |at: usize| text[..at].chars().last().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.');
    let used = |name: &str| text.match_indices(name).any(|(at, _)| begins(at));
    NAMES.iter().filter(|(name, _)| used(name)).map(|(_, means)| (*means).to_owned()).collect()
}

/// What to look at in a kernel that does this.
fn look(says: &str) -> Option<&'static str> {
    const HINTS: [(&str, &str); 18] = [
        ("a tree of sums", "the reduction, where the number of its parts is odd"),
        ("whole group", "the mask or the bounds of the last, partial tile"),
        ("the last group", "the mask or the bounds of the last, partial tile"),
        ("rounded to", "the type of operands, accumulators and stores, and switches such as allow_tf32"),
        ("rounds ", "the type of this operand"),
        ("never written", "the store, and its mask"),
        ("not cleared", "where the accumulator is set to 0"),
        ("initial state", "the state before the first step"),
        ("overwrites instead", "the store: it has to add, atomically or by segments"),
        ("after the end of each row", "the mask t < length"),
        ("its transpose", "the strides of this operand"),
        ("two strides", "the strides of this operand"),
        ("transposed", "the strides of the operands"),
        ("the order", "how the blocks of the gates are converted"),
        ("is still", "the store, and a buffer of the step before"),
        ("is the value of t − 1", "a barrier, or a buffer of the step before"),
        ("leaves out the summands", "the bounds of the loop over the summands"),
        ("modulo", "an index that is taken within a tile"),
    ];
    HINTS.iter().find(|(part, _)| says.contains(part)).map(|(_, hint)| *hint)
}

fn key(family: &Family<'_, '_, '_>, site: &Site) -> Key {
    let case = &family.cases[site.case];
    let equation = &case.graph.equations[site.equation];
    let stage = case.golden.entry.program.stage(&equation.tensor);
    let kind = case.graph.groups[equation.group].kind;
    let axis = equation.relation.out.axes.iter().position(|axis| axis.letter == 't');
    let step = match axis {
        Some(axis) if kind == "gru" => {
            let steps = site.right.shape()[axis];
            let inner: usize = site.right.shape()[axis + 1..].iter().product();
            let wrong = site
                .kinds
                .iter()
                .enumerate()
                .filter(|(_, kind)| **kind == Kind::Wrong)
                .map(|(place, _)| place / inner % steps);
            if stage.backward { wrong.map(|t| steps - t).min() } else { wrong.min() }.unwrap_or(0)
        }
        // Outside a recurrence: after its steps.
        _ => usize::MAX,
    };
    (stage.rank(), step, site.equation)
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index: Vec<String> = self.index.iter().map(ToString::to_string).collect();
        let Self { case, tensor, expected, found, .. } = self;
        write!(f, "{tensor}[{}] in {case}: expected {expected}, found {found}", index.join(", "))
    }
}
