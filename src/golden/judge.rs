//! One tensor that a backend wrote against what was expected.

use ndarray::ArrayD;
use serde::Serialize;

use super::difference::{Deviation, Difference, Extent, difference, index_of};
use super::plain::Kind;
use super::stage::Stage;
use super::suite::TensorEntry;
use super::tolerance::Profile;
use crate::files::ElementType;

/// A tensor that a backend wrote.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its element type in the file.
    pub element: ElementType,
    /// Its numbers.
    pub values: ArrayD<f64>,
}

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
pub(super) fn check_tensor(
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
