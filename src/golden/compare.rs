//! The comparator: compares what a backend wrote with what was expected.
//!
//! For every tensor, in the order of the data flow: is it there, is its shape right, is its element
//! type one of the profile, are NaN and infinity where they belong, and then `!(error <= T)`, so that
//! whatever cannot be compared fails. The *first* divergence is the headline, because later ones may be
//! its consequences.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayD, Ix2};
use serde::Serialize;

use super::arithmetic::Arithmetic;
use super::cases::Expected;
use super::difference::{Deviation, Difference, Extent, difference, index_of, is_padded, lengths_of};
use super::mistakes::Mistakes;
use super::plain::{Kind, Plain};
use super::program::Program;
use super::stage::Stage;
use super::suite::{GoldenCase, TensorEntry};
use super::ties::Choices;
use super::tolerance::Profile;
use crate::error::{Error, Result};
use crate::files::ElementType;

/// A tensor that a backend wrote.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its element type in the file.
    pub element: ElementType,
    /// Its numbers.
    pub values: ArrayD<f64>,
}

/// The tensors that a backend wrote for a case, by name.
pub(crate) type FoundTensors = BTreeMap<String, Found>;

/// The tensor with which a backend says that it refuses a case.
pub(crate) const REJECTED: &str = "out.rejected";
/// The tensor with which a backend says that it cannot take a case's input, because its runtime has no way
/// to pass such an input. It then neither refuses nor accepts it.
pub(crate) const UNSUPPORTED: &str = "out.unsupported";

impl Found {
    /// The tensors computed here, as if a backend had written them.
    #[must_use]
    pub(crate) fn computed(kind: Kind, values: ArrayD<f64>) -> Self {
        Self { element: if kind == Kind::Real { ElementType::F64 } else { ElementType::I64 }, values }
    }
}

/// The outcome for a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Within its tolerance.
    Passed,
    /// Accepted, though not what is usual; the report says why.
    Remark,
    /// Not within its tolerance.
    Failed,
    /// The backend did not write it.
    Missing,
    /// This profile cannot judge it: a kink is too near, or the precision too low.
    NotJudged,
}

/// What was found about a tensor.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TensorReport {
    /// Its name.
    pub name: String,
    /// The stage of the data flow that computes it.
    pub stage: Stage,
    /// The outcome.
    pub status: Status,
    /// The error in units of the tolerance: up to 1 is accepted. None if nothing was compared, or if the
    /// error is not finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<f64>,
    /// Largest error, Frobenius norm, mean error, in parts of the scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<Deviation>,
    /// What is allowed of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Deviation>,
    /// Where the largest error is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub index: Vec<usize>,
    /// What was expected there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<f64>,
    /// What was found there, as text: JSON has no NaN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What is wrong, or the remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How many numbers were compared.
    pub compared: usize,
}

/// What was found about a case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseReport {
    /// The case.
    pub id: String,
    /// Its family.
    pub family: String,
    /// The outcome; [`Status::Missing`] if the backend wrote nothing for it.
    pub status: Status,
    /// What is wrong with the case as a whole, or the remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its tensors in the order of the data flow.
    pub tensors: Vec<TensorReport>,
    /// Tensors that the backend wrote but the case does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

impl CaseReport {
    /// The first divergence.
    #[must_use]
    pub(crate) fn headline(&self) -> Option<&TensorReport> {
        self.tensors.iter().find(|tensor| tensor.status == Status::Failed)
    }

    /// The largest error in units of the tolerance.
    #[must_use]
    pub(crate) fn worst(&self) -> f64 {
        let of_tensor = |t: &TensorReport| match t.status {
            Status::Failed => t.units.unwrap_or(f64::INFINITY),
            _ => t.units.unwrap_or(0.0),
        };
        self.tensors.iter().map(of_tensor).fold(0.0, f64::max)
    }

    /// How many tensors have an outcome.
    #[must_use]
    pub(crate) fn count(&self, status: Status) -> usize {
        self.tensors.iter().filter(|tensor| tensor.status == status).count()
    }

    /// A report on a case as a whole.
    #[must_use]
    pub(crate) fn whole(golden: &GoldenCase, status: Status, problem: impl Into<String>) -> Self {
        Self {
            id: golden.entry.id.clone(),
            family: golden.entry.family.clone(),
            status,
            problem: Some(problem.into()),
            tensors: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

/// Compares what a backend wrote for a case.
///
/// # Errors
///
/// If the case itself is broken. What the backend wrote never causes an error.
pub(crate) fn check_case(golden: &GoldenCase, found: &FoundTensors, profile: Profile) -> Result<CaseReport> {
    let says = |name: &str| found.get(name).map(|found| found.values.iter().any(|&x| x != 0.0));
    let rejected = says(REJECTED);
    let given = |name: &str| name.starts_with("in.") || name.starts_with("param.");
    let wrote = found.keys().any(|name| !given(name) && *name != UNSUPPORTED);
    if says(UNSUPPORTED) == Some(true) {
        let whole = |status, problem: &str| Ok(CaseReport::whole(golden, status, format!("{UNSUPPORTED}: {problem}")));
        return match golden.entry.result {
            _ if wrote => {
                whole(Status::Failed, "the backend says that it cannot be handed this input, but gives results")
            }
            Expected::Invalid => {
                whole(Status::Remark, "the backend cannot be handed this input: it is neither refused nor accepted")
            }
            _ => whole(Status::Missing, "the backend says that it cannot be handed this input"),
        };
    }
    match (golden.entry.result, rejected) {
        (Expected::Invalid, None) if !wrote => {
            return Ok(CaseReport::whole(golden, Status::Missing, "the backend wrote nothing for it"));
        }
        (Expected::Invalid, Some(true)) => {
            return Ok(CaseReport { problem: None, ..CaseReport::whole(golden, Status::Passed, "") });
        }
        (Expected::Invalid, _) => {
            let problem = format!(
                "an input that must be refused was accepted ({REJECTED} = [1] says that it is refused, {UNSUPPORTED} = [1] that the backend cannot be handed it)"
            );
            return Ok(CaseReport::whole(golden, Status::Failed, problem));
        }
        (Expected::Valid, Some(true)) => {
            return Ok(CaseReport::whole(golden, Status::Failed, "a valid input was refused"));
        }
        (Expected::Acceptable, Some(true)) => {
            return Ok(CaseReport::whole(
                golden,
                Status::Remark,
                "refused, which is acceptable: the values are near the limits of f32",
            ));
        }
        _ => {}
    }
    let choices = Choices::of(golden, profile)?;
    let mut expected = golden.expected.clone();
    let mut remarks: BTreeMap<String, String> = BTreeMap::new();
    if let Some(choices) = &choices {
        take_choice(golden, found, choices, profile, &mut expected, &mut remarks)?;
    }
    let lengths = lengths_of(&golden.inputs);
    let tensors: Vec<TensorReport> = golden
        .expected_entries()
        .map(|entry| {
            let extent = entry.extent(lengths.as_deref());
            let stage = golden.entry.program.stage(&entry.name);
            let found = found.get(&entry.name);
            let mut report = check_tensor(entry, stage, &expected[&entry.name], found, profile, extent);
            if let (Status::Passed, Some(remark)) = (report.status, remarks.get(&entry.name)) {
                (report.status, report.problem) = (Status::Remark, Some(remark.clone()));
            }
            report
        })
        .collect();
    // A case may have been written without the values of every step.
    let known = |name: &str| {
        golden.entry.tensors.iter().any(|tensor| tensor.name == name) || is_padded(golden.entry.program, name)
    };
    let says_something = |name: &str| name == REJECTED || name == UNSUPPORTED;
    let unknown = found.keys().filter(|name| !known(name) && !given(name) && !says_something(name)).cloned().collect();
    let mut report = CaseReport {
        id: golden.entry.id.clone(),
        family: golden.entry.family.clone(),
        status: Status::Passed,
        problem: None,
        tensors,
        unknown,
    };
    let compared = report.tensors.iter().any(|t| matches!(t.status, Status::Passed | Status::Remark | Status::Failed));
    report.status = if report.count(Status::Failed) > 0 {
        if golden.entry.result == Expected::Acceptable {
            report.problem = Some("differs, which is acceptable: the values are near the limits of f32".into());
            Status::Remark
        } else {
            Status::Failed
        }
    } else if !compared {
        report.problem = Some("the backend wrote none of its tensors".into());
        Status::Missing
    } else if report.count(Status::Remark) > 0 {
        Status::Remark
    } else {
        Status::Passed
    };
    Ok(report)
}

/// If hardest negatives tie and the backend's choice is valid, replaces the expected values with those
/// that follow from this choice.
fn take_choice(
    golden: &GoldenCase,
    found: &FoundTensors,
    choices: &Choices,
    profile: Profile,
    expected: &mut BTreeMap<String, ArrayD<f64>>,
    remarks: &mut BTreeMap<String, String>,
) -> Result<()> {
    let name = if golden.entry.program == Program::Loss { "grad.in.scores" } else { "grad.out.scores" };
    if !expected.contains_key(name) {
        return Err(Error::mismatch(format!("case {}: expected a tensor {name}, found none", golden.entry.id)));
    }
    let same = |expected: &ArrayD<f64>, found: &ArrayD<f64>| {
        found.shape() == expected.shape()
            && difference(expected, found, Extent::default()).deviation.max <= choices.slack
    };
    for which in ["s", "im"] {
        for kind in ["hardest", "active"] {
            let tensor = format!("mid.{kind}_{which}");
            let (Some(found), Some(value)) = (found.get(&tensor), expected.get_mut(&tensor)) else { continue };
            if found.values.shape() == value.shape()
                && !same(value, &found.values)
                && choices.accepts(kind, which == "s", &found.values)
            {
                value.assign(&found.values);
                remarks.insert(
                    tensor,
                    "another of several equally hard negatives, which is accepted (the specification takes the first)"
                        .into(),
                );
            }
        }
    }
    let matrix = |x: &ArrayD<f64>| x.clone().into_dimensionality::<Ix2>().ok();
    let given = found.get(name).filter(|given| given.values.shape() == expected[name].shape());
    let candidates: Vec<Array2<f64>> = match given {
        Some(given) if same(&expected[name], &given.values) => return Ok(()),
        Some(given) => matrix(&given.values).into_iter().filter(|d| choices.accepts_gradient(d)).collect(),
        None => choices.usual(),
    };
    let settings = golden.settings()?;
    let none = Mistakes::new();
    let mut best: Option<(usize, BTreeMap<String, ArrayD<f64>>)> = None;
    let lengths = lengths_of(&golden.inputs);
    let failures = |expected: &BTreeMap<String, ArrayD<f64>>| {
        let wrong = golden.expected_entries().filter(|entry| {
            let extent = entry.extent(lengths.as_deref());
            let (expected, found) = (&expected[&entry.name], found.get(&entry.name));
            check_tensor(entry, Stage::UNKNOWN, expected, found, profile, extent).status == Status::Failed
        });
        wrong.count()
    };
    let by_norm = failures(expected);
    for d_scores in &candidates {
        let plain = Plain { d_scores: Some(d_scores.view()), ..Plain::new(Arithmetic::PLAIN, &none) };
        let run = golden.entry.program.run::<f64>(&settings, &golden.inputs, &plain)?;
        let mut other = expected.clone();
        for entry in run.trace.entries.into_iter().filter(|entry| entry.name.starts_with("grad.")) {
            other.insert(entry.name, entry.values);
        }
        let wrong = failures(&other);
        if wrong < by_norm && best.as_ref().is_none_or(|(least, _)| wrong < *least) {
            best = Some((wrong, other));
        }
    }
    if let Some((_, other)) = best {
        for (name, values) in &other {
            if name.starts_with("grad.") && *values != expected[name] {
                remarks.insert(
                    name.clone(),
                    "the gradient of another choice among equally hard negatives, which is accepted".into(),
                );
            }
        }
        *expected = other;
    }
    Ok(())
}

/// Checks that a profile accepts an element type. The error says which types it accepts.
fn takes(profile: Profile, exact: bool, element: ElementType) -> std::result::Result<(), &'static str> {
    let real = match profile {
        _ if exact => {
            return if element.is_integer() || matches!(element, ElementType::F32 | ElementType::F64) {
                Ok(())
            } else {
                Err("whole numbers (I64, I32, U8, BOOL, …)")
            };
        }
        Profile::F64 => (matches!(element, ElementType::F64), "F64"),
        Profile::F32 | Profile::Tf32 => (matches!(element, ElementType::F32 | ElementType::F64), "F32 or F64"),
        Profile::Bf16 => {
            (matches!(element, ElementType::BF16 | ElementType::F32 | ElementType::F64), "BF16, F32 or F64")
        }
        Profile::F16 => (matches!(element, ElementType::F16 | ElementType::F32 | ElementType::F64), "F16, F32 or F64"),
    };
    if real.0 { Ok(()) } else { Err(real.1) }
}

/// Compares one tensor of a stage.
fn check_tensor(
    entry: &TensorEntry,
    stage: Stage,
    expected: &ArrayD<f64>,
    found: Option<&Found>,
    profile: Profile,
    extent: Extent<'_>,
) -> TensorReport {
    let mut report = TensorReport {
        name: entry.name.clone(),
        stage,
        status: Status::Missing,
        units: None,
        deviation: None,
        tolerance: None,
        index: Vec::new(),
        expected: None,
        found: None,
        problem: None,
        compared: 0,
    };
    let Some(found) = found else { return report };
    let mut fail = |problem: String| {
        report.status = Status::Failed;
        report.problem = Some(problem);
        report.clone()
    };
    let scalar = expected.len() == 1 && found.values.len() == 1;
    if found.values.shape() != expected.shape() && !scalar {
        return fail(format!("expected shape {:?}, found {:?}", expected.shape(), found.values.shape()));
    }
    if let Err(wanted) = takes(profile, entry.exact, found.element) {
        return fail(format!("expected {wanted} under profile {profile}, found {}", found.element));
    }
    let Some(&tolerance) = entry.tolerance.get(&profile) else {
        report.status = Status::NotJudged;
        report.problem = Some(format!(
            "{profile} cannot judge this tensor: a kink is too near, or the error is as large as the value"
        ));
        return report;
    };
    let values = if scalar {
        ArrayD::from_elem(expected.raw_dim(), found.values.iter().copied().next().unwrap_or(f64::NAN))
    } else {
        found.values.clone()
    };
    let d = difference(expected, &values, extent);
    report.compared = d.compared;
    report.tolerance = Some(tolerance);
    let units = d.deviation.in_units_of(tolerance, d.compared);
    if units.is_finite() {
        report.units = Some(units);
        report.deviation = Some(d.deviation);
    }
    report.index = index_of(expected.shape(), d.worst);
    report.expected = expected.iter().nth(d.worst).copied().filter(|x| x.is_finite());
    report.found = values.iter().nth(d.worst).map(|x| format!("{x}"));
    // Written so that NaN fails.
    report.status = if units <= 1.0 { Status::Passed } else { Status::Failed };
    if report.status == Status::Failed {
        report.problem = Some(describe(entry, expected, &values, extent, &d, tolerance));
    }
    report
}

/// What is wrong with the numbers.
fn describe(
    entry: &TensorEntry,
    expected: &ArrayD<f64>,
    found: &ArrayD<f64>,
    extent: Extent<'_>,
    d: &Difference,
    tolerance: Deviation,
) -> String {
    let shape = expected.shape();
    let compared = |x: &ArrayD<f64>| -> Vec<f64> {
        x.iter().enumerate().filter(|&(flat, _)| extent.holds(shape, flat)).map(|(_, &x)| x).collect()
    };
    let (e, f) = (compared(expected), compared(found));
    let zeros = |x: &[f64]| x.iter().filter(|&&x| x == 0.0).count();
    if d.pattern {
        let bad = f.iter().filter(|x| !x.is_finite()).count();
        return format!("{bad} of {} values are NaN or infinite", f.len());
    }
    if entry.exact {
        let wrong = e.iter().zip(&f).filter(|&(&e, &f)| e.total_cmp(&f).is_ne() && e - f != 0.0).count();
        return format!("{wrong} of {} whole numbers differ", e.len());
    }
    if zeros(&f) == f.len() && zeros(&e) < e.len() {
        return "every value is 0: was it written?".into();
    }
    if 2 * zeros(&f) > f.len() && 4 * zeros(&e) < e.len() {
        return format!("{} of {} values are 0: was all of it written?", zeros(&f), f.len());
    }
    if d.deviation.max <= tolerance.max && d.deviation.frobenius <= tolerance.frobenius {
        return "every value is close enough, but all are off in the same direction".into();
    }
    if d.deviation.max <= tolerance.max {
        return "no value is far off, but too many are slightly off".into();
    }
    let wrong = e.len().min(f.len());
    let scales = extent.scales(expected);
    let row = expected.len().max(1).div_ceil(scales.len().max(1));
    let off = expected.iter().zip(found).enumerate().filter(|&(flat, (e, f))| {
        let allowed = tolerance.max * scales[flat / row];
        let within = (e - f).abs() <= allowed;
        extent.holds(shape, flat) && !within
    });
    format!("{} of {wrong} values are off", off.count())
}
