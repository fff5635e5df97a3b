//! The right gradients when hardest negatives tie.
//!
//! The specification takes the first of several equally hard negatives. Any convex combination of the tied
//! choices is also a right sub-gradient: a backend that takes the last, or splits evenly, is accepted with a
//! remark. The same holds if a hinge is so near its kink that the precision cannot determine its side.
//!
//! Let `a_ij` be the weight of the term (i, j) along the row, `b_ij` along the column. A gradient of
//! the scores is right if such weights exist with
//!
//! ```text
//! dS_ij = a_ij + b_ij  (i ≠ j),   dS_ii = −Σ_j a_ij − Σ_j b_ji
//! MH: Σ_j a_ij = 1 over the tied choices of row i, likewise b along column j; k hardest: what is left of k
//! SH: a_ij, b_ij = 1 where the hinge is positive, 0 where it is not, from 0 to 1 where it is at its kink
//! ```
//!
//! Log-sum-exp has no ties: its weights are smooth but for the hinge of a query.
//!
//! Whether such weights exist is a flow problem: what flows into the cells flows out to rows and columns.

#![allow(clippy::float_cmp)] // indices and masks are whole numbers

use ndarray::{Array2, ArrayD, Ix1, Ix2};

use super::program::Program;
use super::suite::GoldenCase;
use super::tolerance::Profile;
use crate::error::{Error, Result};
use crate::loss::Violation;

/// A hinge, or the gap between the two hardest negatives, may be on either side of its kink if it is nearer
/// to it than this many tolerances of a score. It is 2 because both are differences of two scores.
const BAND: f64 = 2.0;
/// How far an element of a gradient of the scores may be off; they are small whole numbers or shares of 1.
/// It is the tolerance of the loss, limited to the first two; the last if the loss is not judged.
const SLACK: [f64; 3] = [1e-12, 1e-2, 1e-6];

/// The right choices of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    batch: usize,
    /// For each query of each direction (rows, columns): the terms that may count.
    rows: Vec<Query>,
    columns: Vec<Query>,
    /// How far an element of a gradient may be off.
    pub slack: f64,
}

/// The terms of one row or column.
#[derive(Clone, Debug, Default)]
struct Query {
    /// Terms that may count with any weight from 0 to 1.
    open: Vec<usize>,
    /// Terms that count.
    fixed: Vec<usize>,
    /// The least sum of the open weights, and the largest.
    least: usize,
    most: usize,
}

/// The terms of a query from its negatives and their hinges before [·]₊; `most` of them count.
fn query_of(raw: &[(usize, f64)], most: usize, band: f64, tied: bool) -> Query {
    let mut out = Query::default();
    if tied && raw.iter().all(|(_, x)| *x <= 0.0) {
        return out;
    }
    let sure = |x: f64| x > band || (tied && x > 0.0);
    for &(other, x) in raw {
        let ahead = raw.iter().filter(|(_, y)| *y > x + band).count();
        let as_hard = raw.iter().filter(|(_, y)| *y >= x - band).count();
        if sure(x) && as_hard <= most {
            out.fixed.push(other);
        } else if ahead < most && x > -band && (x > 0.0 || band > 0.0) {
            out.open.push(other);
            out.least += usize::from(sure(x));
        }
    }
    let left = (most - out.fixed.len()).min(out.open.len());
    (out.least, out.most) = (out.least.min(left), left);
    out
}

impl Choices {
    /// The choices of a case, if there is more than one.
    ///
    /// # Errors
    ///
    /// If the settings of the case are broken.
    pub(crate) fn of(golden: &GoldenCase, profile: Profile) -> Result<Option<Self>> {
        let program = golden.entry.program;
        if !matches!(program, Program::Loss | Program::Model) {
            return Ok(None);
        }
        let settings = golden.settings()?;
        let violation = settings.hinge().violation;
        let low = violation == Violation::SemiHard;
        let most = match violation {
            Violation::Sum => usize::MAX,
            Violation::Max | Violation::SemiHard => 1,
            Violation::Hardest(most) => most,
            Violation::LogSumExp(_) => return Ok(None),
        };
        let scores = golden.inputs.get("in.scores").or_else(|| golden.expected.get("out.scores"));
        let Some(scores) = scores.and_then(|s| s.clone().into_dimensionality::<Ix2>().ok()) else { return Ok(None) };
        // How far two scores may be off together.
        let source = if program == Program::Loss { "mid.cost_s" } else { "out.scores" };
        let off = golden.entry.tensors.iter().find(|tensor| tensor.name == source);
        let off = off.and_then(|tensor| Some(tensor.tolerance.get(&profile)?.max * tensor.scale?)).unwrap_or(0.0);
        let band = BAND * off;
        let flagged = |name: &str| golden.entry.flags.iter().any(|flag| flag == name);
        // Here hinges are exactly 0 in every precision, so there is only one right gradient.
        if flagged("kink") {
            return Ok(None);
        }
        let tied = flagged("tie");
        if !tied && golden.entry.margins.kink() > band {
            return Ok(None);
        }
        let ids = golden.inputs.get("in.image_ids").filter(|_| settings.mask_same_image);
        let ids: Option<Vec<f64>> = ids.map(|ids| ids.iter().copied().collect());
        let batch = scores.nrows();
        if scores.ncols() != batch || ids.as_ref().is_some_and(|ids| ids.len() != batch) {
            let found = ids.map_or_else(String::new, |ids| format!(" and {} image ids", ids.len()));
            let problem = format!("expected scores [B, B] and B image ids, found {:?}{found}", scores.dim());
            return Err(Error::mismatch(format!("case {}: {problem}", golden.entry.id)));
        }
        let negative = |i: usize, j: usize| i != j && ids.as_ref().is_none_or(|ids| ids[i] != ids[j]);
        let query = |rows: bool, query: usize| {
            let place = |other: usize| if rows { (query, other) } else { (other, query) };
            let right = scores[(query, query)];
            let raw: Vec<(usize, f64)> = (0..batch)
                .filter(|&other| negative(place(other).0, place(other).1))
                .filter(|&other| !low || scores[place(other)] < right)
                .map(|other| (other, settings.margin + scores[place(other)] - right))
                .collect();
            query_of(&raw, most, band, tied)
        };
        let slack = golden.entry.tensors.iter().find(|tensor| tensor.name == "out.loss");
        let slack = slack
            .and_then(|tensor| tensor.tolerance.get(&profile))
            .map_or(SLACK[2], |t| t.max.clamp(SLACK[0], SLACK[1]));
        Ok(Some(Self {
            batch,
            rows: (0..batch).map(|i| query(true, i)).collect(),
            columns: (0..batch).map(|j| query(false, j)).collect(),
            slack,
        }))
    }

    /// Whether indices of hardest negatives, or a mask of what counts, are among the right choices.
    #[must_use]
    pub(crate) fn accepts(&self, kind: &str, rows: bool, found: &ArrayD<f64>) -> bool {
        let queries = if rows { &self.rows } else { &self.columns };
        if kind == "hardest" {
            let Ok(found) = found.view().into_dimensionality::<Ix1>() else { return false };
            return found.iter().zip(queries).all(|(&index, query)| {
                let among = query.open.iter().chain(&query.fixed).any(|&other| other as f64 == index);
                among || (index == -1.0 && query.least == 0 && query.fixed.is_empty())
            });
        }
        let Ok(found) = found.view().into_dimensionality::<Ix2>() else { return false };
        queries.iter().enumerate().all(|(query, terms)| {
            let at = |other: usize| if rows { found[[query, other]] } else { found[[other, query]] };
            let right = |other: usize| {
                let x = at(other);
                (x == 0.0 || x == 1.0)
                    && if terms.fixed.contains(&other) { x == 1.0 } else { x == 0.0 || terms.open.contains(&other) }
            };
            let taken = terms.open.iter().filter(|&&other| at(other) == 1.0).count();
            taken >= terms.least && (0..self.batch).all(right)
        })
    }

    /// The gradients that backends usually give: for the first choice, the last, or equal shares.
    #[must_use]
    pub(crate) fn usual(&self) -> Vec<Array2<f64>> {
        type Share = fn(&[usize], usize) -> Vec<(usize, f64)>;
        let shares: [Share; 3] = [
            |open, most| open.iter().take(most).map(|&other| (other, 1.0)).collect(),
            |open, most| open.iter().rev().take(most).map(|&other| (other, 1.0)).collect(),
            |open, most| open.iter().map(|&other| (other, most as f64 / open.len() as f64)).collect(),
        ];
        let gradient = |share: Share| {
            let mut d = Array2::zeros((self.batch, self.batch));
            for (rows, queries) in [(true, &self.rows), (false, &self.columns)] {
                for (query, terms) in queries.iter().enumerate() {
                    let fixed = terms.fixed.iter().map(|&other| (other, 1.0));
                    for (other, weight) in fixed.chain(share(&terms.open, terms.most)) {
                        d[if rows { (query, other) } else { (other, query) }] += weight;
                        d[(query, query)] -= weight;
                    }
                }
            }
            d
        };
        shares.into_iter().map(gradient).collect()
    }

    /// Whether weights exist that give this gradient of the scores.
    #[must_use]
    pub(crate) fn accepts_gradient(&self, d: &Array2<f64>) -> bool {
        let n = self.batch;
        if d.dim() != (n, n) || d.iter().any(|x| !x.is_finite()) {
            return false;
        }
        // What is left for the open terms, cell by cell.
        let mut left = d.clone();
        for (rows, queries) in [(true, &self.rows), (false, &self.columns)] {
            for (query, terms) in queries.iter().enumerate() {
                for &other in &terms.fixed {
                    left[if rows { (query, other) } else { (other, query) }] -= 1.0;
                }
            }
        }
        // Each cell's amount goes to its row's query, its column's, or is shared.
        let mut cells = Vec::new();
        for i in 0..n {
            for j in (0..n).filter(|&j| j != i) {
                let (by_row, by_column) = (self.rows[i].open.contains(&j), self.columns[j].open.contains(&i));
                let amount = left[[i, j]];
                if amount < -self.slack || (amount.abs() > self.slack && !by_row && !by_column) {
                    return false;
                }
                if by_row || by_column {
                    cells.push((i, n + j, amount.max(0.0), by_row, by_column));
                }
            }
        }
        // What each query must receive. The diagonal gives the sum for row i and column i.
        let bounds: Vec<(f64, f64)> =
            self.rows.iter().chain(&self.columns).map(|q| (q.least as f64, q.most as f64)).collect();
        let mut got = vec![0.0; 2 * n];
        let mut to_row: Vec<f64> = Vec::new();
        for &(row, column, amount, by_row, by_column) in &cells {
            let first = if by_row && by_column {
                amount / 2.0
            } else if by_row {
                amount
            } else {
                0.0
            };
            got[row] += first;
            got[column] += amount - first;
            to_row.push(first);
        }
        // Shift the shared amounts until every query is within its bounds (Gauss–Seidel on a tiny flow).
        for _ in 0..200 * n.max(1) {
            let mut moved = 0.0;
            for (cell, &(row, column, amount, by_row, by_column)) in cells.iter().enumerate() {
                if !(by_row && by_column) {
                    continue;
                }
                let want = |query: usize| got[query] - got[query].clamp(bounds[query].0, bounds[query].1);
                let shift = ((want(column) - want(row)) / 2.0).clamp(-to_row[cell], amount - to_row[cell]);
                to_row[cell] += shift;
                got[row] += shift;
                got[column] -= shift;
                moved += shift.abs();
            }
            if moved < 1e-15 {
                break;
            }
        }
        let slack = self.slack * n as f64;
        let within = got.iter().zip(&bounds).all(|(&got, &(least, most))| got >= least - slack && got <= most + slack);
        let fixed = |query: usize| (self.rows[query].fixed.len() + self.columns[query].fixed.len()) as f64;
        let diagonal = (0..n).all(|i| (d[[i, i]] + got[i] + got[n + i] + fixed(i)).abs() <= slack);
        within && diagonal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MH on three pairs: row 0 ties between 1 and 2, column 0 between 1 and 2, the rest is fixed.
    fn choices() -> Choices {
        let query = |open: &[usize]| Query {
            open: open.to_vec(),
            fixed: Vec::new(),
            least: usize::from(!open.is_empty()),
            most: 1,
        };
        Choices {
            batch: 3,
            rows: vec![query(&[1, 2]), query(&[0]), query(&[0])],
            columns: vec![query(&[1, 2]), query(&[0]), query(&[])],
            slack: 1e-9,
        }
    }

    #[test]
    fn convex_combinations_are_accepted_and_nothing_else() {
        let choices = choices();
        for d in choices.usual() {
            assert!(choices.accepts_gradient(&d), "{d}");
        }
        let [first, last, _] = &choices.usual()[..] else { panic!("three") };
        let mixed = first * 0.3 + last * 0.7;
        assert!(choices.accepts_gradient(&mixed));
        let mut all = choices.usual()[0].clone();
        all[[0, 2]] += 1.0;
        all[[0, 0]] -= 1.0;
        assert!(!choices.accepts_gradient(&all), "given to both");
        let mut off = first.clone();
        off[[0, 1]] += 1e-3;
        assert!(!choices.accepts_gradient(&off));
        assert!(!choices.accepts_gradient(&(first * 2.0)));
        assert!(!choices.accepts_gradient(&Array2::zeros((3, 3))));
        let mut diagonal = first.clone();
        diagonal[[1, 1]] += 1.0;
        assert!(!choices.accepts_gradient(&diagonal));
    }

    #[test]
    fn of_the_k_hardest_those_that_tie_at_the_end_are_open() {
        let raw = [(1, 0.5), (2, 0.25), (3, 0.25), (4, 0.125), (5, -0.5)];
        let query = |most| query_of(&raw, most, 0.0, true);
        let of = |most| (query(most).fixed, query(most).open, query(most).least, query(most).most);
        assert_eq!(of(1), (vec![1], vec![], 0, 0));
        assert_eq!(of(2), (vec![1], vec![2, 3], 1, 1));
        assert_eq!(of(3), (vec![1, 2, 3], vec![], 0, 0));
        assert_eq!(of(9), (vec![1, 2, 3, 4], vec![], 0, 0));
        // A hinge that may be 0 may count or not.
        let near = query_of(&[(1, 0.5), (2, 0.01)], 2, 0.02, false);
        assert_eq!((near.fixed, near.open, near.least, near.most), (vec![1], vec![2], 0, 1));
    }

    #[test]
    fn tied_indices_and_masks() {
        let choices = choices();
        let index = |x: &[f64]| ndarray::arr1(x).into_dyn();
        assert!(choices.accepts("hardest", true, &index(&[2.0, 0.0, 0.0])));
        assert!(!choices.accepts("hardest", true, &index(&[0.0, 0.0, 0.0])));
        assert!(choices.accepts("hardest", false, &index(&[1.0, 0.0, -1.0])));
        let mask = ndarray::arr2(&[[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).into_dyn();
        assert!(choices.accepts("active", true, &mask));
        assert!(!choices.accepts("active", true, &ndarray::arr2(&[[0.0; 3]; 3]).into_dyn()));
    }
}
