//! The two losses: sum of hinges (SH, "VSE0") and max of hinges (MH, "VSE++").
//!
//! S [B, B] holds the scores of a batch, its diagonal d the right pairs; α is the margin.
//!
//! ```text
//! (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i         caption retrieval: along the row
//! (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j        image retrieval: along the column
//! (SH-1)     ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]                  paper, eq. 5
//! (MH-1)     ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]        paper, eq. 6
//! (LOSS-1)   a term of cost_s that counts: dS_ij += 1, dS_ii −= 1           backward
//! (LOSS-1)   a term of cost_im that counts: dS_ij += 1, dS_jj −= 1
//! ```
//!
//! A term of `cost_s` is compared with the right pair of its row, one of `cost_im` with that of its
//! column.
//!
//! **Sums, not means**, over the batch. Part of the specification:
//!
//! - a hinge that is exactly 0 has gradient 0 (a term counts only if it is > 0);
//! - of several hardest negatives the one with the lowest index takes the whole gradient;
//! - Σ dS = 0, since every term adds +1 and −1; with B = 1 there is no negative, and all is 0.

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::linalg;
use crate::real::{Real, Scalar};

/// Which violations of the margin count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Violation {
    /// (SH-1): all of them.
    Sum,
    /// (MH-1): the hardest of each query.
    Max,
}

/// The hinge loss on a score matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HingeLoss {
    /// α
    pub margin: f64,
    /// SH or MH.
    pub violation: Violation,
}

/// The loss and the terms that make it up, which is all that backward needs.
#[derive(Clone, Debug, Default)]
pub struct Hinges<T> {
    /// ℓ
    pub loss: T,
    /// (row, column) of the terms of (HINGE-1) that count, row by row.
    pub caption_terms: Vec<(usize, usize)>,
    /// (row, column) of the terms of (HINGE-2) that count, column by column.
    pub image_terms: Vec<(usize, usize)>,
    /// How many terms could have counted: 2B(B − 1) for SH, 2B for MH, less what is masked.
    pub possible: usize,
    batch: usize,
}

impl HingeLoss {
    /// (SH-1) or (MH-1) of S [B, B].
    ///
    /// With `image_ids` `[B]`, two captions of one image are no negatives of each other: their terms
    /// are left out of both sums (`mask_same_image`).
    ///
    /// **Errors** if S is not square, is not finite, or if there are not B ids.
    pub fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, image_ids: Option<&[usize]>) -> Result<Hinges<T>> {
        let mut hinges = Hinges::default();
        self.forward_into(scores, image_ids, &mut hinges)?;
        Ok(hinges)
    }

    /// As [`Self::forward`], in the memory of a loss that is no longer needed.
    ///
    /// **Errors** as [`Self::forward`]; the memory is then as it was.
    pub fn forward_into<T: Scalar>(
        &self,
        scores: ArrayView2<'_, T>,
        image_ids: Option<&[usize]>,
        hinges: &mut Hinges<T>,
    ) -> Result<()> {
        let batch = scores.nrows();
        if scores.ncols() != batch {
            return Err(Error::shape("scores", format!("[B, B] with B = {batch}"), scores.shape()));
        }
        if let Some(ids) = image_ids.filter(|ids| ids.len() != batch) {
            return Err(Error::shape("image_ids", format!("[B = {batch}]"), &[ids.len()]));
        }
        if let Some(((i, j), s)) = scores.indexed_iter().find(|(_, s)| !s.re().is_finite()) {
            return Err(ErrorKind::NotFinite { tensor: "scores".into(), index: vec![i, j], value: s.re() }.into());
        }
        let negative = |i: usize, j: usize| i != j && image_ids.is_none_or(|ids| ids[i] != ids[j]);
        let margin = T::from_f64(self.margin);

        (hinges.loss, hinges.possible, hinges.batch) = (T::zero(), 0, batch);
        hinges.caption_terms.clear();
        hinges.image_terms.clear();
        for query in 0..batch {
            let right = scores[[query, query]];
            // (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i
            let row = (0..batch).filter(|&j| negative(query, j)).map(|j| (query, j));
            hinges.possible += self.add_query(
                row.map(|at| (at, margin + scores[at] - right)),
                &mut hinges.loss,
                &mut hinges.caption_terms,
            );
            // (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j
            let column = (0..batch).filter(|&i| negative(i, query)).map(|i| (i, query));
            hinges.possible += self.add_query(
                column.map(|at| (at, margin + scores[at] - right)),
                &mut hinges.loss,
                &mut hinges.image_terms,
            );
        }
        Ok(())
    }

    /// Adds one query's costs to the loss and notes the terms that count; returns how many could have.
    fn add_query<T: Scalar>(
        &self,
        costs: impl Iterator<Item = ((usize, usize), T)>,
        loss: &mut T,
        terms: &mut Vec<(usize, usize)>,
    ) -> usize {
        let mut possible = 0;
        let mut hardest: Option<((usize, usize), T)> = None;
        let mut sum = T::zero();
        for (at, cost) in costs {
            possible += 1;
            if cost.re() <= 0.0 {
                continue; // [·]₊; exactly 0 does not count
            }
            match self.violation {
                // (SH-1)  ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]
                Violation::Sum => {
                    sum += cost;
                    terms.push(at);
                }
                // (MH-1)  ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]
                // Strictly greater: of equals the first stays.
                Violation::Max if hardest.is_none_or(|(_, worst)| cost.re() > worst.re()) => {
                    hardest = Some((at, cost));
                }
                Violation::Max => {}
            }
        }
        if let Some((at, cost)) = hardest {
            sum = cost;
            terms.push(at);
        }
        *loss += sum;
        if self.violation == Violation::Sum { possible } else { possible.min(1) }
    }
}

impl<T: Scalar> Hinges<T> {
    /// The share of terms that count, of those that could; 0 where there is none.
    #[must_use]
    pub fn active_share(&self) -> f64 {
        (self.caption_terms.len() + self.image_terms.len()) as f64 / self.possible.max(1) as f64
    }
}

impl<T: Real> Hinges<T> {
    /// (LOSS-1): dS [B, B].
    #[must_use]
    pub fn backward(&self) -> Array2<T> {
        let mut d_scores = Array2::default((0, 0));
        self.backward_into(&mut d_scores);
        d_scores
    }

    /// As [`Self::backward`], in the memory of a dS that is no longer needed.
    pub fn backward_into(&self, d_scores: &mut Array2<T>) {
        linalg::reshape(d_scores, (self.batch, self.batch));
        d_scores.fill(T::zero());
        // (LOSS-1)  a term of cost_s that counts: dS_ij += 1, dS_ii −= 1
        for &(i, j) in &self.caption_terms {
            d_scores[[i, j]] += T::one();
            d_scores[[i, i]] -= T::one();
        }
        // (LOSS-1)  a term of cost_im that counts: dS_ij += 1, dS_jj −= 1
        for &(i, j) in &self.image_terms {
            d_scores[[i, j]] += T::one();
            d_scores[[j, j]] -= T::one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    const SH: HingeLoss = HingeLoss { margin: 0.2, violation: Violation::Sum };
    const MH: HingeLoss = HingeLoss { margin: 0.2, violation: Violation::Max };

    fn run(loss: HingeLoss, scores: &Array2<f64>) -> (f64, Array2<f64>) {
        let hinges = loss.forward(scores.view(), None).unwrap();
        (hinges.loss, hinges.backward())
    }

    /// The worked example: also the one on the paper side of `docs/`.
    fn example() -> Array2<f64> {
        array![[0.5, 0.6, 0.1], [0.4, 0.3, 0.35], [0.2, 0.0, 0.7]]
    }

    #[test]
    fn hinge_1_hinge_2_sh_1_on_the_worked_example() {
        let (loss, d) = run(SH, &example());
        assert_abs_diff_eq!(loss, 1.45, epsilon = 1e-15);
        assert_eq!(d, array![[-2.0, 2.0, 0.0], [2.0, -3.0, 1.0], [0.0, 0.0, 0.0]]);
    }

    #[test]
    fn mh_1_loss_1_on_the_worked_example() {
        let (loss, d) = run(MH, &example());
        assert_abs_diff_eq!(loss, 1.20, epsilon = 1e-15);
        assert_eq!(d, array![[-2.0, 2.0, 0.0], [2.0, -2.0, 0.0], [0.0, 0.0, 0.0]]);
        assert_eq!(d.iter().fold(0.0, |s, x| s + x), 0.0);
    }

    #[test]
    fn one_pair_has_neither_loss_nor_gradient() {
        for loss in [SH, MH] {
            assert_eq!(run(loss, &array![[0.3]]), (0.0, array![[0.0]]));
        }
    }

    #[test]
    fn a_hinge_at_exactly_zero_has_no_gradient() {
        // α = ¼ and quarters: α + S − d is exactly 0.
        for violation in [Violation::Sum, Violation::Max] {
            let (loss, d) = run(HingeLoss { margin: 0.25, violation }, &array![[0.75, 0.5], [0.5, 0.75]]);
            assert_eq!((loss, d), (0.0, Array2::zeros((2, 2))));
        }
    }

    #[test]
    fn of_equally_hard_negatives_the_first_takes_the_whole_gradient() {
        let (loss, d) = run(HingeLoss { margin: 0.5, violation: Violation::Max }, &Array2::zeros((3, 3)));
        assert_eq!(loss, 3.0);
        // Rows: 0 → 1, 1 → 0, 2 → 0; columns the same.
        assert_eq!(d, array![[-2.0, 2.0, 1.0], [2.0, -2.0, 0.0], [1.0, 0.0, -2.0]]);
    }

    #[test]
    fn collapse_has_the_known_values() {
        // All scores equal: MH = 2Bα, SH = 2B(B − 1)α.
        let scores = Array2::<f64>::from_elem((128, 128), 1.0);
        assert_abs_diff_eq!(run(MH, &scores).0, 51.2, epsilon = 1e-10);
        assert_abs_diff_eq!(run(SH, &scores).0, 6502.4, epsilon = 1e-8);
    }

    #[test]
    fn captions_of_one_image_can_be_left_out() {
        let ids = [7, 7, 9];
        let hinges = SH.forward(example().view(), Some(&ids)).unwrap();
        let d = hinges.backward();
        assert_eq!((d[[0, 1]], d[[1, 0]]), (0.0, 0.0));
        assert_eq!(hinges.possible, 8);
        // Left are cost_s[1,2] = .25 and cost_im: S_12 − d_2 + α < 0, S_02, S_20, S_21 < 0.
        assert_abs_diff_eq!(hinges.loss, 0.25, epsilon = 1e-15);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let scores = Array2::<f64>::zeros((2, 3));
        assert!(SH.forward(scores.view(), None).unwrap_err().to_string().contains("[2, 3]"));
        let message = SH.forward(array![[0.0, f64::NAN], [0.0, 0.0]].view(), None).unwrap_err().to_string();
        assert!(message.contains("[0, 1]"), "{message}");
    }
}
