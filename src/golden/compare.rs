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
use super::difference::{Extent, difference, is_padded, lengths_of};
use super::judge::check_tensor;
pub(crate) use super::judge::{Found, Status, TensorReport};
use super::plain::Plain;
use super::program::Program;
use super::stage::Stage;
use super::suite::GoldenCase;
use super::ties::Choices;
use super::tolerance::Profile;
use crate::error::{Error, Result};

/// The tensors that a backend wrote for a case, by name.
pub(crate) type FoundTensors = BTreeMap<String, Found>;

/// The tensor with which a backend says that it refuses a case.
pub(crate) const REJECTED: &str = "out.rejected";
/// The tensor with which a backend says that it cannot take a case's input, because its runtime has no way
/// to pass such an input. It then neither refuses nor accepts it.
pub(crate) const UNSUPPORTED: &str = "out.unsupported";

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
        // A precision whose range the case leaves has no tolerance for any of its tensors.
        (Expected::Valid, Some(true)) if golden.expected_entries().all(|t| !t.tolerance.contains_key(&profile)) => {
            let problem = format!("refused, which is acceptable: {profile} judges no tensor of this case");
            return Ok(CaseReport::whole(golden, Status::Remark, problem));
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
        let plain = Plain { d_scores: Some(d_scores.view()), ..Plain::new(Arithmetic::PLAIN) };
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
