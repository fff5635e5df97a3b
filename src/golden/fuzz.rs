//! Random cases for a backend, and the smallest case on which it is still wrong.
//!
//! The cases of [`cases::random`](super::cases::random) are written as a suite, the backend computes them, and they
//! are checked. The first that fails is made smaller: rows, steps and units are left out, settings get their
//! defaults, values become 0 or round. All such reductions are tried in one start of the backend. Those that still
//! fail in the same stage are applied one after another, as long as the case goes on failing there. When nothing
//! smaller fails, the case is written as a suite of its own.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, Axis};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::cases::Case;
use super::cases::random::{PROGRAMS, given, random};
use super::check::{CheckOptions, CheckReport, summary};
use super::compare::{Status, UNSUPPORTED};
use super::diagnose::Checked;
use super::make::{self, MakeOptions};
use super::outputs::Outputs;
use super::program::{Program, Settings};
use super::relations::findings::{Given, findings};
use super::stage::Step;
use super::suite::{Format, Suite};
use super::tolerance::Profile;
use crate::error::{Error, Result};
use crate::escape;

/// How many cases the backend is given in one start.
const BATCH: usize = 200;
/// How often the backend is started at most to make a case smaller.
const STARTS: usize = 200;

/// What to try.
#[derive(Clone, Debug)]
pub struct FuzzOptions {
    /// How many seeds; each gives a case of every program.
    pub seeds: u64,
    /// The first seed.
    pub first: u64,
    /// The names of the programs; all if empty.
    pub programs: Vec<String>,
    /// The precision in which the backend computes.
    pub profile: Profile,
    /// The folder to be made for the smallest case that fails.
    pub out: PathBuf,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Fuzzed {
    /// No case failed.
    pub passed: bool,
    /// How many cases were computed before the first that failed.
    pub(crate) cases: usize,
    /// The first case that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<Smallest>,
}

/// The first case that failed, made smaller.
#[derive(Debug, Serialize)]
pub(crate) struct Smallest {
    /// Its seed.
    pub seed: u64,
    /// Its program.
    pub program: Program,
    /// Its name.
    pub case: String,
    /// Its suite.
    pub folder: String,
    /// The sizes with which it was found.
    pub found: String,
    /// The sizes that it has now.
    pub now: String,
    /// How often the backend was started to make it smaller.
    pub starts: usize,
    /// How the backend ended, if not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// The check of the smallest case.
    pub report: CheckReport,
}

impl fmt::Display for Fuzzed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(failed) = &self.failed else { return writeln!(f, "PASSED: {} random cases", self.cases) };
        writeln!(f, "seed {}: {} fails with {}", failed.seed, failed.program.name(), failed.found)?;
        let (folder, starts) = (&failed.folder, failed.starts);
        match starts {
            0 => writeln!(f, "not made smaller, because every try may take as long; in {folder}")?,
            _ => writeln!(f, "in {starts} starts made smaller, in {folder}: {}", failed.now)?,
        }
        if let Some(ended) = &failed.ended {
            writeln!(f, "{ended}")?;
        }
        if failed.report.passed {
            writeln!(f, "computed once more, this case passes: the backend does not repeat its results")?;
        }
        write!(f, "\n{}", failed.report)
    }
}

/// What a backend computed of a suite.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Every case.
    pub checked: Vec<Checked>,
    /// How the backend ended, if not well: cases that it did not write may not be the cause.
    pub ended: Option<String>,
    /// Whether it was stopped because it took too long.
    pub late: bool,
}

/// Tries random cases on a backend in memory. It is given the folder of a suite, and returns what it computes of it.
///
/// # Errors
///
/// If an option cannot be meant, if the folder for the result exists, or if the backend gives an error.
pub fn fuzz<E: From<Error>>(
    options: &FuzzOptions,
    mut backend: impl FnMut(&Path) -> std::result::Result<Outputs, E>,
) -> std::result::Result<Fuzzed, E> {
    let profile = options.profile;
    fuzz_with(options, |suite| {
        let outputs = backend(suite.folder())?;
        Ok(Ran { checked: outputs.checked(suite, profile, &CheckOptions::default())?, ended: None, late: false })
    })
}

/// Tries random cases on a backend that computes suites.
///
/// # Errors
///
/// As [`fuzz`].
pub(crate) fn fuzz_with<E: From<Error>>(
    options: &FuzzOptions,
    backend: impl FnMut(&Suite) -> std::result::Result<Ran, E>,
) -> std::result::Result<Fuzzed, E> {
    let programs = programs(&options.programs)?;
    if options.seeds == 0 {
        return Err(Error::config("seeds", "at least 1", 0).into());
    }
    let end = options.first.checked_add(options.seeds);
    let end = end.ok_or_else(|| Error::config("first", "a seed after which there are enough", options.first))?;
    if options.out.symlink_metadata().is_ok() {
        return Err(Error::file(&options.out, "already exists: expected the name of a folder to be made").into());
    }
    let scratch = tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), "make a folder in", e))?;
    let mut fuzzer = Fuzzer { backend, profile: options.profile, scratch: scratch.path(), starts: 0 };
    let (mut cases, mut batch) = (0, Vec::new());
    for seed in options.first..end {
        batch.extend(programs.iter().map(|&program| (program, seed)));
        if batch.len() < BATCH && seed + 1 < end {
            continue;
        }
        let drawn: Result<Vec<Case>> = batch.par_iter().map(|&(program, seed)| random(program, seed)).collect();
        let drawn = drawn?;
        let failures = fuzzer.failures(&drawn)?;
        if let Some((place, Some(failure))) = failures.iter().enumerate().find(|(_, failure)| failure.is_some()) {
            let (case, seed) = (drawn[place].clone(), batch[place].1);
            let failed = Some(fuzzer.smallest(case, failure, seed, &options.out)?);
            return Ok(Fuzzed { passed: false, cases: cases + place, failed });
        }
        cases += batch.len();
        batch.clear();
    }
    Ok(Fuzzed { passed: true, cases, failed: None })
}

/// # Errors
///
/// If there is no program of a name.
fn programs(names: &[String]) -> Result<Vec<Program>> {
    let known = PROGRAMS.map(Program::name).join(", ");
    let find = |name: &String| {
        let found = PROGRAMS.into_iter().find(|program| program.name() == *name);
        found.ok_or_else(|| Error::config("programs", format!("some of {known}"), name))
    };
    if names.is_empty() { Ok(PROGRAMS.into()) } else { names.iter().map(find).collect() }
}

/// Where a case fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// The stage of the first wrong tensor, whatever its layer; true for gradients.
    Stage(Step, bool),
    /// The case as a whole: refused, not written, or a file that cannot be read.
    Whole(Status),
}

/// A case that fails.
struct Failure {
    place: Place,
    checked: Checked,
    /// Whether the backend was stopped at it because it took too long.
    late: bool,
}

impl Failure {
    /// The failure of a case, if it fails. A backend may say that it cannot take an input.
    fn of(checked: Checked, late: bool) -> Option<Self> {
        let report = &checked.report;
        let unsupported = report.problem.as_ref().is_some_and(|problem| problem.starts_with(UNSUPPORTED));
        let place = match report.status {
            Status::Passed | Status::Remark | Status::NotJudged => return None,
            Status::Missing if unsupported => return None,
            status => report
                .headline()
                .map_or(Place::Whole(status), |tensor| Place::Stage(tensor.stage.step, tensor.stage.backward)),
        };
        Some(Self { place, checked, late })
    }

    /// What the first broken relation says.
    fn explanation(&self) -> Vec<String> {
        let Checked { golden, found, report } = &self.checked;
        let all = findings(&[Given { golden, found, report }]);
        all.into_iter().next().map(|finding| finding.says).unwrap_or_default()
    }
}

/// A backend that is given cases.
struct Fuzzer<'a, B> {
    backend: B,
    profile: Profile,
    scratch: &'a Path,
    starts: usize,
}

impl<E: From<Error>, B: FnMut(&Suite) -> std::result::Result<Ran, E>> Fuzzer<'_, B> {
    /// Lets the backend compute cases.
    fn start(&mut self, cases: &[Case]) -> std::result::Result<Ran, E> {
        self.starts += 1;
        let folder = self.scratch.join(format!("suite-{}", self.starts));
        let suite = write(&folder, cases, &[self.profile])?;
        let ran = (self.backend)(&suite);
        std::fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, "remove", e))?;
        ran
    }

    /// The failure of each case. If the backend breaks off, the first case that it did not write, or whose file cannot
    /// be read, is computed alone. If that fails too, nothing is said about the cases after it.
    fn failures(&mut self, cases: &[Case]) -> std::result::Result<Vec<Option<Failure>>, E> {
        let mut all: Vec<Option<Failure>> = Vec::new();
        while all.len() < cases.len() {
            let rest = &cases[all.len()..];
            let mut ran = self.start(rest)?;
            let is_whole = |case: &Checked| !case.report.tensors.is_empty();
            let missing = ran.checked.iter().position(|case| !is_whole(case));
            let suspect = missing.filter(|_| ran.ended.is_some() && rest.len() > 1);
            if let Some(place) = suspect {
                let before = ran.checked.into_iter().take(place);
                all.extend(before.map(|checked| Failure::of(checked, false)));
                ran = self.start(&rest[place..=place])?;
            }
            all.extend(ran.checked.into_iter().map(|checked| Failure::of(checked, ran.late)));
            if suspect.is_some() && all.last().is_some_and(Option::is_some) {
                all.resize_with(cases.len(), || None);
            }
        }
        Ok(all)
    }

    /// Makes a case as small as it can be, writes it as a suite, and checks it once more. A case that takes too long
    /// stays as it is, because most tries would take as long.
    fn smallest(
        &mut self,
        mut case: Case,
        failure: &Failure,
        seed: u64,
        folder: &Path,
    ) -> std::result::Result<Smallest, E> {
        let found = described(&case);
        self.starts = 0;
        let mut smaller = !failure.late;
        while smaller && self.starts < STARTS {
            smaller = self.reduce_all(&mut case, of_shapes, |found| found.place == failure.place)?;
            // With simple values several mistakes may look alike: the explanation must stay the same.
            let failures = self.failures(std::slice::from_ref(&case))?;
            let says = failures.iter().flatten().next().map(Failure::explanation).unwrap_or_default();
            let same =
                |found: &Failure| found.place == failure.place && (says.is_empty() || found.explanation() == says);
            smaller |= self.reduce_all(&mut case, of_values, same)?;
        }
        let (starts, smallest) = (self.starts, described(&case));
        case.note = if failure.late {
            format!("Seed {seed}, as it was found.")
        } else {
            format!("Seed {seed} had {found}. The smallest case that fails in the same stage has {smallest}.")
        };
        let suite = write(folder, std::slice::from_ref(&case), &Profile::ALL)?;
        let Ran { checked, ended, .. } = (self.backend)(&suite)?;
        let report = summary(suite.manifest.suite.clone(), checked, self.profile, &CheckOptions::default());
        let (case, program, folder) = (case.id, case.program, escape::path(folder));
        Ok(Smallest { seed, program, case, folder, found, now: smallest, starts, ended, report })
    }

    /// Applies reductions with which the case still fails in the same way, until there is none; false if there was
    /// none.
    fn reduce_all(
        &mut self,
        case: &mut Case,
        all: fn(&Case) -> Vec<Reduction>,
        same: impl Fn(&Failure) -> bool,
    ) -> std::result::Result<bool, E> {
        let same = |found: &Option<Failure>| found.as_ref().is_some_and(&same);
        let mut smaller = false;
        while self.starts < STARTS {
            let reductions = all(case);
            let (tried, cases): (Vec<&Reduction>, Vec<Case>) =
                reductions.par_iter().filter_map(|reduction| Some((reduction, fair(reduction(case)?)?))).unzip();
            let failures = self.failures(&numbered(cases))?;
            let mut rows: Vec<Case> = Vec::new();
            for (reduction, _) in tried.into_iter().zip(&failures).filter(|(_, found)| same(found)) {
                rows.extend(reduction(rows.last().unwrap_or(case)).and_then(fair));
            }
            if rows.is_empty() {
                break;
            }
            // The first is one that was just seen to fail.
            let failures = if rows.len() > 1 { self.failures(&numbered(rows.clone()))? } else { Vec::new() };
            *case = rows.swap_remove(failures.iter().rposition(same).unwrap_or(0));
            smaller = true;
        }
        Ok(smaller)
    }
}

fn write(folder: &Path, cases: &[Case], profiles: &[Profile]) -> Result<Suite> {
    let options =
        MakeOptions { profiles, layouts: &[], of_pictures: &[], steps: true, kills: false, single: true, wide: false };
    make::write(folder, "fuzz", cases, Format::Safetensors, options, |_| ())?;
    Suite::open(folder)
}

/// The cases with a number behind their name.
fn numbered(mut cases: Vec<Case>) -> Vec<Case> {
    cases.iter_mut().enumerate().for_each(|(place, case)| case.id = format!("{}-{place}", case.id));
    cases
}

fn fair(mut case: Case) -> Option<Case> {
    case.is_fair().then_some(case)
}

/// The sizes and settings of a case in words.
fn described(case: &Case) -> String {
    let sizes: Vec<String> = case.sizes().into_iter().map(|(letter, size)| format!("{letter} = {size}")).collect();
    let mut out = sizes.join(", ");
    let settings = settings_of(case);
    for (key, value) in settings.iter().filter(|(key, _)| case.program.keys().contains(&key.as_str())) {
        let _ = write!(out, ", {key} = {}", value.as_str().map_or_else(|| value.to_string(), Into::into));
    }
    out
}

fn settings_of(case: &Case) -> serde_json::Map<String, Value> {
    serde_json::to_value(&case.settings).ok().and_then(|settings| settings.as_object().cloned()).unwrap_or_default()
}

/// Makes a case smaller; none if it is so already. It is applied to smaller cases than that for which it was made.
type Reduction = Box<dyn Fn(&Case) -> Option<Case> + Send + Sync>;

/// Sizes cut, settings set to their defaults, parameters left out.
fn of_shapes(case: &Case) -> Vec<Reduction> {
    type Part = fn(usize) -> std::ops::Range<usize>;
    let mut all: Vec<Reduction> = Vec::new();
    let parts: [Part; 5] = [|_| 0..1, |n| 0..n / 2, |n| n / 2..n, |n| 0..n - 1, |n| 1..n];
    for part in parts {
        for &letter in case.sizes().keys() {
            all.push(Box::new(move |case| {
                let size = *case.sizes().get(&letter)?;
                kept(case, letter, &part(size).collect::<Vec<_>>())
            }));
        }
    }
    for key in case.program.keys() {
        all.push(Box::new(move |case| with_default(case, key)));
    }
    if case.program == Program::Optimiser {
        for endings in [&[".p0"][..], &[".p1"], &["in.step", "in.m.p0", "in.m.p1", "in.v.p0", "in.v.p1"]] {
            all.push(Box::new(move |case| {
                let mut smaller = case.clone();
                smaller.inputs.retain(|name, _| !endings.iter().any(|ending| name.ends_with(ending)));
                (smaller.inputs.len() < case.inputs.len()).then_some(smaller)
            }));
        }
    }
    all
}

/// The case with these places of a letter alone.
fn kept(case: &Case, letter: char, places: &[usize]) -> Option<Case> {
    let size = *case.sizes().get(&letter)?;
    if places.is_empty() || places.len() >= size {
        return None;
    }
    let hidden = case.sizes().get(&'H').copied().unwrap_or(0);
    let gates: Vec<usize> = (0..3).flat_map(|gate| places.iter().map(move |place| gate * hidden + place)).collect();
    let mut smaller = case.clone();
    for (name, axes) in given(case.program, &case.settings) {
        let Some(tensor) = smaller.inputs.get_mut(&name) else { continue };
        for (axis, found) in axes.chars().enumerate() {
            let places = if found == 'G' && letter == 'H' { &gates[..] } else { places };
            if found == letter || (found == 'G' && letter == 'H') {
                *tensor = tensor.select(Axis(axis), places);
            }
        }
    }
    let count = places.len();
    match letter {
        'L' => smaller.settings.num_layers = count,
        'S' => smaller.settings.steps = count,
        'T' => {
            let before = |length: f64| places.iter().filter(|&&place| (place as f64) < length).count() as f64;
            smaller.inputs.get_mut("in.lengths")?.mapv_inplace(before);
        }
        'V' => {
            let word = |id: f64| places.iter().position(|&place| (place as f64 - id).abs() < 0.5).unwrap_or(0) as f64;
            smaller.inputs.get_mut("in.captions")?.mapv_inplace(word);
        }
        _ => {}
    }
    let names: BTreeMap<String, &str> = given(smaller.program, &smaller.settings).into_iter().collect();
    smaller.inputs.retain(|name, _| names.contains_key(name));
    // No row goes on to the end any more.
    let longest = smaller.inputs.get("in.lengths").map(|lengths| lengths.iter().copied().fold(0.0, f64::max));
    match (longest, smaller.sizes().get(&'T')) {
        (Some(longest), Some(&steps)) if longest < steps as f64 => {
            let steps: Vec<usize> = (0..steps).filter(|&step| (step as f64) < longest).collect();
            kept(&smaller, 'T', &steps)
        }
        _ => Some(smaller),
    }
}

/// The case with the default of a setting.
fn with_default(case: &Case, key: &str) -> Option<Case> {
    let mut smaller = case.clone();
    match key {
        "num_layers" if case.program == Program::Model && case.settings.num_layers > 1 => {
            smaller.settings.num_layers -= 1;
        }
        // The size of an axis.
        "num_layers" => return None,
        "steps" if case.program == Program::Optimiser => return None,
        "caption_projection" if case.settings.caption_projection => {
            // Without a projection D is H.
            let sizes = case.sizes();
            let places: Vec<usize> = (0..*sizes.get(&'D')?.min(sizes.get(&'H')?)).collect();
            for letter in ['D', 'H'] {
                smaller = kept(&smaller, letter, &places).unwrap_or(smaller);
            }
            smaller.settings.caption_projection = false;
        }
        _ => {
            let default = serde_json::to_value(Settings::default()).ok()?;
            let mut settings = settings_of(case);
            match default.get(key) {
                Some(default) => settings.insert(key.into(), default.clone()),
                // Not written where it is the default.
                None => settings.remove(key),
            };
            smaller.settings = serde_json::from_value(Value::Object(settings)).ok()?;
        }
    }
    let names: BTreeMap<String, &str> = given(smaller.program, &smaller.settings).into_iter().collect();
    smaller.inputs.retain(|name, _| names.contains_key(name));
    (smaller.settings != case.settings).then_some(smaller)
}

/// Tensors of zeros, parts of them, and round numbers.
fn of_values(case: &Case) -> Vec<Reduction> {
    /// Elements become 0 one by one up to this many.
    const FEW: usize = 12;
    fn power_of_two(x: f64) -> f64 {
        if x == 0.0 { x } else { x.signum() * x.abs().log2().round().exp2() }
    }
    let mut all: Vec<Reduction> = Vec::new();
    let whole = ["in.lengths", "in.image_ids", "in.step"];
    for (name, values) in case.inputs.iter().filter(|(name, _)| !whole.contains(&name.as_str())) {
        let numbers = values.len();
        let mut parts = vec![0..numbers, 0..numbers / 2, numbers / 2..numbers];
        if numbers <= FEW {
            parts.extend((0..numbers).map(|place| place..place + 1));
        }
        for part in parts {
            let zero = move |place: usize, x: f64| if part.contains(&place) { 0.0 } else { x };
            all.push(valued(name, zero));
        }
        all.push(valued(name, |_, x| x.round()));
        all.push(valued(name, |_, x| (4.0 * x).round() / 4.0));
        all.push(valued(name, |_, x| power_of_two(x)));
    }
    all
}

/// The reduction that changes each number of a tensor, NaN after a row's end aside.
fn valued(name: &str, change: impl Fn(usize, f64) -> f64 + Send + Sync + 'static) -> Reduction {
    let name = name.to_owned();
    Box::new(move |case| {
        let values: &ArrayD<f64> = case.inputs.get(&name)?;
        let mut changed = values.clone();
        changed.iter_mut().enumerate().filter(|(_, x)| !x.is_nan()).for_each(|(place, x)| *x = change(place, *x));
        let differs = |(x, y): (&f64, &f64)| !x.is_nan() && x.to_bits() != y.to_bits();
        let smaller = || {
            let mut smaller = case.clone();
            smaller.inputs.insert(name.clone(), changed.clone());
            smaller
        };
        values.iter().zip(&changed).any(differs).then(smaller)
    })
}
