//! Checks what a backend wrote: a folder against a suite, or one file against one case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use rayon::prelude::*;
use serde::Serialize;

use super::cases::Expected;
use super::compare::{CaseReport, Found, FoundTensors, REJECTED, Status, TensorReport, UNSUPPORTED, check_case};
use super::diagnose::{Checked, Diagnoses, diagnose};
use super::pictures::layout::PictureLayout;
use super::program::Inputs;
use super::relations::findings::{Finding, Given, findings};
use super::stage::Stage;
use super::suite::{CaseEntry, Format, GoldenCase, Suite, check_entry};
use super::tolerance::Profile;
use crate::error::{Error, Result};
use crate::escape;
use crate::files::TensorFile;

/// What to check, and how.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Only these cases; all if empty.
    pub cases: Vec<String>,
    /// Whether missing tensors and cases fail.
    pub complete: bool,
    /// Try every mistake on large cases too.
    pub diagnose_large: bool,
}

/// The result of a check. As JSON it has the counts, the first divergence, the diagnosis, and a report of each
/// stage and case.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Something was compared, and nothing failed.
    pub passed: bool,
    /// The profile whose tolerances were used.
    pub(crate) profile: Profile,
    /// The suite.
    pub(crate) suite: String,
    /// How many cases the suite has (of those that were selected).
    pub(crate) cases: usize,
    /// The number of cases and tensors with each outcome.
    pub(crate) counts: Counts,
    /// The first divergence in the data flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<First>,
    /// The tensors that do not follow from the backend's own values, and why, in the order of the data flow.
    pub(crate) broken: Vec<Finding>,
    /// The known mistakes that explain the failures.
    pub(crate) diagnosis: Diagnoses,
    /// One line for every stage of the data flow.
    pub(crate) stages: Vec<StageReport>,
    /// Every case.
    pub(crate) reports: Vec<CaseReport>,
    /// Files in the folder that belong to no case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unknown_files: Vec<String>,
    /// The cases with their numbers, for pictures.
    #[serde(skip)]
    pub(crate) checked: Vec<Checked>,
}

impl CheckReport {
    /// Whether a relation says how a step is wrong.
    #[must_use]
    pub(crate) fn is_explained(&self) -> bool {
        self.broken.iter().any(|finding| !finding.says.is_empty())
    }
}

/// How many cases and tensors have each outcome.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Cases within their tolerances.
    pub passed: usize,
    /// Cases accepted with a remark.
    pub remarks: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases for which the backend wrote nothing.
    pub missing: usize,
    /// Tensors that were compared.
    pub tensors: usize,
    /// Tensors of the checked cases that the backend did not write.
    pub tensors_missing: usize,
    /// Tensors that this profile cannot judge.
    pub tensors_not_judged: usize,
}

/// The first divergence.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct First {
    /// The case.
    pub case: String,
    /// What is wrong with the case as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<TensorReport>,
}

/// All tensors of one stage, in all cases.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// Tensors compared.
    pub tensors: usize,
    /// Of these, how many failed.
    pub failed: usize,
    /// Tensors that were not written.
    pub missing: usize,
    /// Tensors that this profile cannot judge.
    pub not_judged: usize,
    /// The largest error in units of the tolerance; none if a value was not finite or not comparable.
    pub worst: Option<f64>,
    /// The case and the tensor with this error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_at: Option<(String, String)>,
}

/// The tensors of a file. Only the names are read of those that the case does not have, not their numbers.
///
/// # Errors
///
/// If a tensor has a type that cannot be read, or is far larger than that of the case.
fn found_in(file: &TensorFile, case: &CaseEntry, layout: Option<PictureLayout>) -> Result<FoundTensors> {
    /// Up to this many numbers, a tensor of the wrong size is read nevertheless.
    const FEW: usize = 1 << 16;
    let names: Vec<String> = file.names().map(Into::into).collect();
    names
        .into_iter()
        .map(|name| {
            let (element, shape) = (file.element_type(&name)?, file.shape(&name)?);
            let wanted = case.tensors.iter().find(|tensor| tensor.name == name);
            let values = match wanted {
                None if name != REJECTED && name != UNSUPPORTED => ArrayD::zeros(vec![0]),
                wanted => {
                    let numbers = |shape: &[usize]| shape.iter().fold(1usize, |n, &axis| n.saturating_mul(axis));
                    let most = wanted.map_or(0, |tensor| numbers(&tensor.shape)).max(FEW);
                    if numbers(&shape) > most {
                        let expected = wanted.map_or(&[1][..], |tensor| &tensor.shape);
                        let name = escape::name(&name);
                        let problem = format!("{name}: expected shape {expected:?}, found {shape:?}");
                        return Err(Error::file(file.path(), problem));
                    }
                    let values = file.get(&name)?;
                    match layout {
                        Some(layout) => layout.turned_back(&name, &values),
                        None => values,
                    }
                }
            };
            Ok((name, Found { element, values }))
        })
        .collect()
}

/// The file of a case in a backend's folder.
fn file_of(folder: &Path, id: &str) -> Option<PathBuf> {
    let names = [Format::Safetensors, Format::Npz].map(|format| folder.join(format!("{id}.{}", format.extension())));
    // Anything of this name counts, even if it is not a regular file: reading it then gives the error.
    names.into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// The cases to check.
///
/// # Errors
///
/// If one of those that are named does not exist.
pub(crate) fn asked<'s>(suite: &'s Suite, options: &CheckOptions) -> Result<Vec<&'s CaseEntry>> {
    let all = &suite.manifest.cases;
    options.cases.iter().try_for_each(|id| known(suite, id))?;
    Ok(all.iter().filter(|case| options.cases.is_empty() || options.cases.contains(&case.id)).collect())
}

/// # Errors
///
/// If there is no such case.
pub(super) fn known(suite: &Suite, id: &str) -> Result<()> {
    let manifest = &suite.manifest;
    if manifest.cases.iter().any(|case| case.id == id) {
        return Ok(());
    }
    Err(Error::mismatch(format!("there is no case {} in the suite {}", escape::name(id), manifest.suite)))
}

/// Checks a folder of `<id>.safetensors` or `.npz` files against the suite in another folder.
///
/// ```
/// use std::path::Path;
/// use vsepp::golden::{CheckOptions, Profile, check_folder};
///
/// # fn main() -> vsepp::Result<()> {
/// // The files of the suite itself pass. A backend writes its own.
/// let (suite, found) = (Path::new("fixtures/golden"), Path::new("fixtures/golden"));
/// let options = CheckOptions { cases: vec!["gru-cell-smallest".into()], ..CheckOptions::default() };
/// let report = check_folder(suite, found, Profile::F32, &options)?;
/// assert!(report.passed);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the folder or the suite cannot be read, if the suite is damaged, or if a selected case does not
/// exist. A file that cannot be read is a failure of its case.
pub fn check_folder(suite: &Path, folder: &Path, profile: Profile, options: &CheckOptions) -> Result<CheckReport> {
    check_against(&Suite::open(suite)?, folder, profile, options, None, |_| ())
}

/// The same against an open suite. `layout` is the order of the axes of the backend's pictures and kernels, if it is
/// not that of the suite. Calls `done` with the id of each case that has been checked.
///
/// # Errors
///
/// As [`check_folder`].
pub(crate) fn check_against(
    suite: &Suite,
    folder: &Path,
    profile: Profile,
    options: &CheckOptions,
    layout: Option<PictureLayout>,
    done: impl Fn(&str) + Sync,
) -> Result<CheckReport> {
    if !folder.is_dir() {
        return Err(Error::file(folder, "expected a folder of <case>.safetensors or .npz files, found none"));
    }
    let all = &suite.manifest.cases;
    let asked = asked(suite, options)?;
    if let Some(layout) = layout
        && !all.iter().any(|case| case.program.is_of_pictures())
    {
        let problem = format!("layout {layout}: there are no pictures in the suite {}", suite.manifest.suite);
        return Err(Error::mismatch(problem));
    }
    let checked = check_files(suite, &asked, folder, profile, layout, done)?;
    let mut checkup = summary(suite.manifest.suite.clone(), checked, profile, options);
    checkup.unknown_files = unknown_files(folder, all)?;
    Ok(checkup)
}

/// Checks the files of some cases.
///
/// # Errors
///
/// If a case of the suite is damaged.
pub(crate) fn check_files(
    suite: &Suite,
    asked: &[&CaseEntry],
    folder: &Path,
    profile: Profile,
    layout: Option<PictureLayout>,
    done: impl Fn(&str) + Sync,
) -> Result<Vec<Checked>> {
    let check = |entry: &&CaseEntry| {
        let Some(path) = file_of(folder, &entry.id) else {
            return Ok(missing(entry));
        };
        let golden = suite.load(entry)?;
        let found = TensorFile::read(&path).and_then(|file| found_in(&file, entry, layout));
        let checked = check_one(golden, found, profile)?;
        done(&entry.id);
        Ok(checked)
    };
    asked.par_iter().map(check).collect()
}

/// Checks one file against the case in a file that `golden make --inputs` wrote.
///
/// # Errors
///
/// If the case's file cannot be read or is damaged.
pub(crate) fn check_file(
    expected: &Path,
    found: &Path,
    profile: Profile,
    options: &CheckOptions,
) -> Result<CheckReport> {
    let file = TensorFile::read(expected)?;
    let entry = file.metadata().ok_or_else(|| {
        Error::file(expected, "expected a file that `vsepp golden make --inputs` wrote, found no case in its metadata")
    })?;
    let entry: CaseEntry = serde_json::from_str(entry)
        .map_err(|e| Error::file(expected, format!("the case in its metadata cannot be read: {e}")))?;
    if entry.tensors.is_empty() {
        return Err(Error::file(expected, "it belongs to a suite: give the suite's folder as --suite"));
    }
    check_entry(&entry).map_err(|problem| Error::file(expected, problem))?;
    let golden = GoldenCase::from_file(entry, &file)?;
    let name = golden.entry.id.clone();
    let found = found_in(&TensorFile::read(found)?, &golden.entry, None)?;
    let checked = check_one(golden, Ok(found), profile)?;
    Ok(summary(name, vec![checked], profile, options))
}

/// A case for which the backend wrote nothing. Its numbers are not needed.
pub(super) fn missing(entry: &CaseEntry) -> Checked {
    let golden = GoldenCase { entry: entry.clone(), inputs: Inputs::new(), expected: BTreeMap::new() };
    let report = CaseReport::whole(&golden, Status::Missing, "the backend wrote no file for it");
    Checked { golden, found: FoundTensors::new(), report }
}

pub(super) fn check_one(golden: GoldenCase, found: Result<FoundTensors>, profile: Profile) -> Result<Checked> {
    let (report, found) = match found {
        Ok(found) => (check_case(&golden, &found, profile)?, found),
        Err(e) => (CaseReport::whole(&golden, Status::Failed, e.to_string()), FoundTensors::new()),
    };
    Ok(Checked { golden, found, report })
}

fn unknown_files(folder: &Path, all: &[CaseEntry]) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "read", e))?;
    let mut unknown = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let ours =
            [Format::Safetensors, Format::Npz].iter().any(|f| path.extension().is_some_and(|e| e == f.extension()));
        let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if ours && all.iter().all(|case| case.id != id) {
            unknown.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    unknown.sort();
    Ok(unknown)
}

pub(super) fn summary(
    suite: String,
    mut checked: Vec<Checked>,
    profile: Profile,
    options: &CheckOptions,
) -> CheckReport {
    if options.complete {
        for case in &mut checked {
            demand(&mut case.report);
        }
    }
    let broken = explain(&checked);
    let diagnosis = diagnose(&checked, profile, options.diagnose_large);
    let reports: Vec<CaseReport> = checked.iter().map(|case| case.report.clone()).collect();
    let of = |status: Status| reports.iter().filter(|report| report.status == status).count();
    let tensors = |status: Status| reports.iter().map(|report| report.count(status)).sum::<usize>();
    let counts = Counts {
        passed: of(Status::Passed),
        remarks: of(Status::Remark),
        failed: of(Status::Failed),
        missing: of(Status::Missing),
        tensors: tensors(Status::Passed) + tensors(Status::Remark) + tensors(Status::Failed),
        tensors_missing: tensors(Status::Missing),
        tensors_not_judged: tensors(Status::NotJudged),
    };
    // The first broken relation; if there is none, the first failing case.
    let headline = broken.first().and_then(|finding| {
        let report = reports.iter().find(|report| report.id == finding.example.case)?;
        let tensor = report.tensors.iter().find(|tensor| tensor.name == finding.example.tensor)?;
        Some(First { case: report.id.clone(), problem: None, tensor: Some(tensor.clone()) })
    });
    let first = headline.or_else(|| {
        reports.iter().find(|report| report.status == Status::Failed).map(|report| First {
            case: report.id.clone(),
            problem: report.problem.clone(),
            tensor: report.headline().cloned(),
        })
    });
    // If values were expected too, correct refusals alone are not enough to pass.
    let values = |case: &Checked| case.golden.entry.result != Expected::Invalid;
    let only_refusals = !checked.iter().any(values);
    let evidence = checked
        .iter()
        .any(|case| matches!(case.report.status, Status::Passed | Status::Remark) && (only_refusals || values(case)));
    CheckReport {
        passed: counts.failed == 0 && evidence,
        profile,
        suite,
        cases: reports.len(),
        counts,
        first,
        broken,
        diagnosis,
        stages: stages(&reports),
        reports,
        unknown_files: Vec::new(),
        checked,
    }
}

/// The broken relations of all cases.
fn explain(checked: &[Checked]) -> Vec<Finding> {
    if checked.iter().all(|checked| checked.report.status != Status::Failed) {
        return Vec::new();
    }
    let given = checked.iter().map(|c| Given { golden: &c.golden, found: &c.found, report: &c.report });
    findings(&given.collect::<Vec<_>>())
}

/// Turns missing tensors into failures.
fn demand(report: &mut CaseReport) {
    if !report.unknown.is_empty() {
        report.status = Status::Failed;
        report.problem = Some(format!("tensors that the case does not have: {}", report.unknown.join(", ")));
    }
    if report.status == Status::Missing {
        report.status = Status::Failed;
    }
    for tensor in report.tensors.iter_mut().filter(|tensor| tensor.status == Status::Missing) {
        tensor.status = Status::Failed;
        tensor.problem = Some("not written".into());
        report.status = Status::Failed;
    }
}

fn stages(reports: &[CaseReport]) -> Vec<StageReport> {
    let mut stages: Vec<StageReport> = Vec::new();
    for report in reports.iter().filter(|report| report.status != Status::Missing) {
        for tensor in &report.tensors {
            let place = stages.iter().position(|stage| stage.stage == tensor.stage).unwrap_or_else(|| {
                stages.push(StageReport {
                    stage: tensor.stage,
                    tensors: 0,
                    failed: 0,
                    missing: 0,
                    not_judged: 0,
                    worst: Some(0.0),
                    worst_at: None,
                });
                stages.len() - 1
            });
            let stage = &mut stages[place];
            match tensor.status {
                Status::Missing => stage.missing += 1,
                Status::NotJudged => stage.not_judged += 1,
                Status::Passed | Status::Remark => stage.tensors += 1,
                Status::Failed => {
                    stage.tensors += 1;
                    stage.failed += 1;
                }
            }
            if matches!(tensor.status, Status::Missing | Status::NotJudged) {
                continue;
            }
            let larger = match (tensor.units, stage.worst) {
                (None, Some(_)) => tensor.status == Status::Failed,
                (Some(units), Some(worst)) => units > worst,
                _ => false,
            };
            if larger {
                stage.worst = tensor.units;
                stage.worst_at = Some((report.id.clone(), tensor.name.clone()));
            }
        }
    }
    stages.sort_by_key(|stage| stage.stage.rank());
    stages
}
