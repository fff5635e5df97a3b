//! The local check: does a tensor follow from the backend's own values of what it is made of?

use ndarray::ArrayD;

use super::values::Case;
use crate::golden::compare::{CaseReport, Status};

/// How far a right backend's value may be from that of the relation, in tolerances of the golden value: the relation
/// is computed in `f64` from values that the backend has rounded.
const LOCAL: f64 = 4.0;

/// What an element of a written tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the relation gives.
    Right,
    /// Something else.
    Wrong,
    /// Not compared: after the end of a row, or made of values that are not finite.
    Ignored,
}

/// A written tensor, or a block of it, and what its relation gives, on the backend's values.
pub(super) struct Site {
    /// The case's place among those that are checked, and the equation's among the case's.
    pub case: usize,
    pub equation: usize,
    pub right: ArrayD<f64>,
    pub found: ArrayD<f64>,
    /// The largest error of a right value, element by element.
    pub allowed: Vec<f64>,
    /// The largest right value, of the tensor or of the row.
    pub scales: Vec<f64>,
    pub kinds: Vec<Kind>,
    /// The places of the elements in the tensor.
    pub flat: Vec<usize>,
    /// Whether the comparison with the golden values failed.
    pub failed: bool,
    /// Whole numbers: indices and masks.
    pub exact: bool,
}

impl Site {
    /// Whether the relation does not hold here.
    pub(super) fn broken(&self) -> bool {
        self.failed && self.kinds.contains(&Kind::Wrong)
    }

    /// Whether a value is what another relation gives there.
    pub(super) fn agrees(&self, place: usize, found: f64, other: f64) -> bool {
        if found.is_nan() || other.is_nan() {
            return found.is_nan() && other.is_nan();
        }
        if !found.is_finite() || !other.is_finite() {
            return found.total_cmp(&other).is_eq();
        }
        // Where a wrong relation's values are larger, so are its roundings.
        let growth = (other.abs() / self.scales[place]).clamp(1.0, 1e30);
        (found - other).abs() <= self.allowed[place] * growth
    }
}

/// All tensors of a case that the backend wrote, one site for each relation.
pub(super) fn sites(place: usize, case: &Case<'_>, report: &CaseReport) -> Vec<Site> {
    let tie = case.golden.entry.flags.iter().any(|flag| flag == "tie");
    let mut sites = Vec::new();
    for (number, equation) in case.graph.equations.iter().enumerate() {
        // Of several hardest negatives a backend may take any.
        if tie && ["max ", "hardest ", "semi-hard "].iter().any(|kind| equation.family.starts_with(kind)) {
            continue;
        }
        let Some(judged) = report.tensors.iter().find(|tensor| tensor.name == equation.tensor) else { continue };
        if !matches!(judged.status, Status::Passed | Status::Remark | Status::Failed) {
            continue;
        }
        let Some(tolerance) = judged.tolerance else { continue };
        let exact = case.golden.entry.tensors.iter().any(|tensor| tensor.name == equation.tensor && tensor.exact);
        let (Some(found), Some(right)) = (case.left_side(number), case.right(number)) else { continue };
        if found.shape() != right.shape() {
            continue;
        }
        let golden = &case.golden.expected[&equation.tensor];
        let extent = case.extent(&equation.tensor);
        let flat: Vec<usize> = {
            let mut index = ArrayD::zeros(golden.raw_dim());
            index.iter_mut().enumerate().for_each(|(place, x)| *x = place);
            case.seen(number, &index).iter().copied().collect()
        };
        let scales = extent.scales(golden);
        let row = golden.len().max(1).div_ceil(scales.len().max(1));
        // Where the backend's inputs are larger than the golden ones, so are its roundings.
        let mut own = scales.clone();
        for (x, &flat) in right.iter().zip(&flat) {
            if x.is_finite() && extent.holds(golden.shape(), flat) {
                own[flat / row] = own[flat / row].max(x.abs());
            }
        }
        let scales: Vec<f64> = flat.iter().map(|&flat| own[flat / row]).collect();
        let allowed: Vec<f64> =
            flat.iter().map(|&flat| if exact { 0.0 } else { LOCAL * tolerance.max * own[flat / row] }).collect();
        let kinds = flat
            .iter()
            .zip(right.iter().zip(&found))
            .zip(&allowed)
            .map(|((&flat, (&right, &found)), &allowed)| {
                if !extent.holds(golden.shape(), flat) || !right.is_finite() {
                    Kind::Ignored
                } else if (found - right).abs() <= allowed {
                    Kind::Right
                } else {
                    Kind::Wrong
                }
            })
            .collect();
        let failed = judged.status == Status::Failed;
        let (right, found) = (right.as_standard_layout().into_owned(), found.as_standard_layout().into_owned());
        sites.push(Site { case: place, equation: number, right, found, allowed, scales, kinds, flat, failed, exact });
    }
    sites
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::CheckOptions;
    use crate::golden::cases::Expected;
    use crate::golden::check::check_against;
    use crate::golden::suite::Suite;
    use crate::golden::tolerance::Profile;
    use std::path::Path;

    /// `crate::spec` computed the golden values; the relations hold on them.
    #[test]
    fn the_relations_hold_on_the_golden_values() {
        let (mut count, mut families) = (0, std::collections::BTreeSet::new());
        for folder in ["fixtures/golden", "fixtures/golden-pictures"].map(Path::new) {
            let suite = Suite::open(folder).unwrap();
            let report = check_against(&suite, folder, Profile::F64, &CheckOptions::default(), None, |_| ()).unwrap();
            for checked in report.checked.iter().filter(|c| c.golden.entry.result != Expected::Invalid) {
                let id = &checked.golden.entry.id;
                let case = Case::new(&checked.golden, &checked.found, checked.golden.settings().unwrap());
                for (number, equation) in case.graph.equations.iter().enumerate() {
                    assert!(case.right(number).is_some(), "{id}: {}", equation.relation);
                }
                let made: std::collections::BTreeSet<&str> =
                    case.graph.equations.iter().map(|equation| equation.tensor.as_str()).collect();
                let lacks = checked.golden.expected.keys().find(|name| !made.contains(name.as_str()));
                assert!(lacks.is_none_or(|name| name.starts_with("opt.")), "{id}: no relation gives {lacks:?}");
                for site in sites(0, &case, &checked.report) {
                    let equation = &case.graph.equations[site.equation];
                    count += 1;
                    families.insert(equation.family.clone());
                    assert!(!site.kinds.contains(&Kind::Wrong), "{id}: {}", equation.relation);
                }
            }
        }
        assert!(count > 6000 && families.len() > 80, "{count} tensors of {} kinds", families.len());
    }
}
