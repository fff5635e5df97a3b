//! The loss as weighted terms, and its two kinds in the paper: sum of hinges (SH, "VSE0") and max of
//! hinges (MH, "VSE++").
//!
//! S [B, B] holds the scores of a batch, its diagonal d the right pairs; α is the margin.
//!
//! ```text
//! (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i         caption retrieval: along the row
//! (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j        image retrieval: along the column
//! (SH-1)     ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]                  paper, eq. 5
//! (MH-1)     ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]        paper, eq. 6
//! (LOSS-1)   a term of weight w = ∂ℓ/∂(S_ij − d_k): dS_ij += w, dS_kk −= w   backward
//! ```
//!
//! Every **query** has one right answer and some negatives: image i asks for its caption along row i,
//! caption j for its image along column j. A loss compares each negative with the right answer, and says
//! with a [`Term`] how it depends on that difference. For a term of `cost_s` the right pair is that of its
//! row, k = i; for a term of `cost_im` it is that of its column, k = j. SH and MH give every term that
//! counts the weight 1.
//!
//! **Sums, not means**, over the batch. Part of the specification:
//!
//! - a hinge that is exactly 0 has gradient 0 (a term counts only if it is > 0);
//! - among several hardest negatives the one with the lowest index gets the whole gradient;
//! - Σ dS = 0, since every term adds w and −w; with B = 1 there is no negative, and all is 0.
//!
//! A loss of your own implements [`Loss`]: `examples/loss.rs` defines one, checks its gradient and trains
//! with it.

use std::fmt::Debug;

use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::linalg;
use crate::real::{Real, Scalar};

/// One item of a batch that asks for its counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Image i asks for its caption: row i of S.
    Image(usize),
    /// Caption j asks for its image: column j of S.
    Caption(usize),
}

impl Query {
    /// The place in S of the query's score with another item.
    #[must_use]
    pub fn pair(self, other: usize) -> (usize, usize) {
        match self {
            Self::Image(i) => (i, other),
            Self::Caption(j) => (other, j),
        }
    }

    /// The item that asks, which is also the number of its right answer.
    #[must_use]
    pub fn number(self) -> usize {
        match self {
            Self::Image(number) | Self::Caption(number) => number,
        }
    }

    /// The queries of a batch of B pairs: image 0, caption 0, image 1, …
    pub fn all(batch: usize) -> impl Iterator<Item = Self> {
        (0..batch).flat_map(|number| [Self::Image(number), Self::Caption(number)])
    }
}

/// Which pairs of a batch are negatives of each other.
///
/// ```
/// use vsepp::loss::{Negatives, Query};
///
/// let of_caption_0 = |negatives: Negatives<'_>| negatives.of(Query::Caption(0), 4).collect::<Vec<_>>();
/// assert_eq!(of_caption_0(Negatives::Others), [1, 2, 3]);
/// assert_eq!(of_caption_0(Negatives::OtherImages(&[7, 8, 7, 9])), [1, 3], "pair 2 shows the same image");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negatives<'a> {
    /// All but the right pair.
    Others,
    /// Those of another image: captions with equal ids `[B]` show one image (`mask_same_image`).
    OtherImages(&'a [usize]),
}

impl<'a> Negatives<'a> {
    /// The negatives of a query in a batch of B pairs, in rising order.
    ///
    /// # Panics
    ///
    /// If there are fewer than B ids.
    pub fn of(self, query: Query, batch: usize) -> impl Iterator<Item = usize> + use<'a> {
        let number = query.number();
        (0..batch).filter(move |&other| match self {
            Self::Others => other != number,
            Self::OtherImages(ids) => ids[other] != ids[number],
        })
    }
}

/// A loss of B pairs when all scores are equal: the value at which a collapsed model stays.
#[must_use]
pub(crate) fn at_collapse(loss: &impl Loss, negatives: Negatives<'_>, batch: usize) -> f64 {
    match negatives {
        // 2B queries with B − 1 negatives each.
        Negatives::Others => (2 * batch) as f64 * loss.at_collapse(batch.saturating_sub(1)),
        Negatives::OtherImages(_) => Query::all(batch)
            .map(|query| loss.at_collapse(negatives.of(query, batch).count()))
            .fold(0.0, |sum, part| sum + part),
    }
}

/// ℓ depends on `S_at` − `S_right`, the difference of a negative and the right pair of its query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term<T> {
    /// The negative's place in S: row, column.
    pub at: (usize, usize),
    /// k: the right pair is at (k, k).
    pub right: usize,
    /// w = ∂ℓ/∂(`S_at` − `S_right`)
    pub weight: T,
}

/// The value of a loss and the terms that make up its gradient.
#[derive(Clone, Debug, Default)]
pub struct Terms<T> {
    /// ℓ
    pub loss: T,
    /// The terms that count.
    list: Vec<Term<T>>,
    /// How many terms could have counted: 2B(B − 1) for SH, 2B for MH, fewer if some pairs are masked.
    pub possible: usize,
    batch: usize,
}

/// A loss on the scores of a batch.
pub trait Loss: Debug + Send + Sync {
    /// Adds the loss of S [B, B] to `terms.loss`, its terms with [`Terms::push`], and how many there could
    /// have been to `terms.possible`. S is square and finite.
    fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, negatives: Negatives<'_>, terms: &mut Terms<T>);

    /// The loss of one query with this number of negatives, when all scores are equal. The collapse
    /// detector compares the loss with it.
    fn at_collapse(&self, negatives: usize) -> f64;

    /// The name in reports.
    fn name(&self) -> &'static str;

    /// Sets the epoch, from 0, of a loss that changes during training. The trainer calls it before every step,
    /// so a second call with the same epoch must change nothing.
    fn set_epoch(&mut self, epoch: usize) {
        let _ = epoch;
    }
}

impl<T: Scalar> Terms<T> {
    /// The loss of S [B, B]; the terms reuse the buffers of `self`.
    ///
    /// # Errors
    ///
    /// If S is not square or not finite, or if there are not B image ids.
    pub fn evaluate(&mut self, loss: &impl Loss, scores: ArrayView2<'_, T>, negatives: Negatives<'_>) -> Result<()> {
        let batch = scores.nrows();
        if scores.ncols() != batch {
            return Err(Error::shape("scores", format!("[B, B] with B = {batch}"), scores.shape()));
        }
        if let Negatives::OtherImages(ids) = negatives
            && ids.len() != batch
        {
            return Err(Error::shape("image_ids", format!("[B = {batch}]"), &[ids.len()]));
        }
        if let Some(((i, j), s)) = scores.indexed_iter().find(|(_, s)| !s.re().is_finite()) {
            return Err(ErrorKind::NotFinite { tensor: "scores".into(), index: vec![i, j], value: s.re() }.into());
        }
        (self.loss, self.possible, self.batch) = (T::zero(), 0, batch);
        self.list.clear();
        loss.forward(scores, negatives, self);
        Ok(())
    }

    /// The terms that count.
    #[must_use]
    pub fn terms(&self) -> &[Term<T>] {
        &self.list
    }

    /// Adds the term of a query and one of its negatives.
    ///
    /// # Panics
    ///
    /// If the batch has no such query or negative.
    pub fn push(&mut self, query: Query, negative: usize, weight: T) {
        let (number, batch) = (query.number(), self.batch);
        assert!(number.max(negative) < batch, "{query:?}, negative {negative}: expected numbers below B = {batch}");
        self.list.push(Term { at: query.pair(negative), right: number, weight });
    }

    /// The share of the possible terms that count; 0 if none is possible.
    #[must_use]
    pub(crate) fn active_share(&self) -> f64 {
        self.list.len() as f64 / self.possible.max(1) as f64
    }

    /// Appends which places of S have a term, first for image queries, then for caption queries. For a loss
    /// made of hinges this identifies the smooth piece.
    pub(crate) fn active_set(&self, active: &mut Vec<bool>) {
        let (start, places) = (active.len(), self.batch * self.batch);
        active.resize(start + 2 * places, false);
        for &Term { at: (i, j), right, .. } in &self.list {
            let offset = if right == i { 0 } else { places };
            active[start + offset + i * self.batch + j] = true;
        }
    }

    /// (LOSS-1): dS [B, B].
    pub fn backward(&self, d_scores: &mut Array2<T>)
    where
        T: Real,
    {
        linalg::reshape(d_scores, (self.batch, self.batch));
        d_scores.fill(T::zero());
        for &Term { at, right, weight } in &self.list {
            // (LOSS-1)  a term of weight w = ∂ℓ/∂(S_ij − d_k): dS_ij += w, dS_kk −= w
            d_scores[at] += weight;
            d_scores[[right, right]] -= weight;
        }
    }
}

/// Which violations of the margin count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Violation {
    /// (SH-1): all of them.
    Sum,
    /// (MH-1): the hardest of each query.
    Max,
}

/// The hinge loss: SH or MH.
///
/// ```
/// use ndarray::{Array2, array};
/// use vsepp::loss::{HingeLoss, Negatives, Terms, Violation};
///
/// # fn main() -> vsepp::Result<()> {
/// let scores = array![[0.5, 0.6, 0.1], [0.4, 0.3, 0.35], [0.2, 0.0, 0.7]];
/// let mut terms = Terms::<f64>::default();
/// for (violation, loss, count) in [(Violation::Sum, 1.45, 5), (Violation::Max, 1.2, 4)] {
///     terms.evaluate(&HingeLoss { margin: 0.2, violation }, scores.view(), Negatives::Others)?;
///     assert!((terms.loss - loss).abs() < 1e-12);
///     assert_eq!(terms.terms().len(), count);
/// }
/// let mut d_scores = Array2::zeros((0, 0));
/// terms.backward(&mut d_scores);
/// assert_eq!(d_scores, array![[-2.0, 2.0, 0.0], [2.0, -2.0, 0.0], [0.0, 0.0, 0.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HingeLoss {
    /// α
    pub margin: f64,
    /// SH or MH.
    pub violation: Violation,
}

impl Loss for HingeLoss {
    fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, negatives: Negatives<'_>, terms: &mut Terms<T>) {
        let (batch, margin) = (scores.nrows(), T::from_f64(self.margin));
        for query in Query::all(batch) {
            let right = scores[query.pair(query.number())];
            let (mut sum, mut hardest, mut count) = (T::zero(), None, 0);
            for negative in negatives.of(query, batch) {
                count += 1;
                // (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i
                // (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j
                let cost = margin + scores[query.pair(negative)] - right;
                if cost.re() <= 0.0 {
                    continue; // a hinge of exactly 0 does not count
                }
                match self.violation {
                    // (SH-1)  ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]
                    Violation::Sum => {
                        sum += cost;
                        terms.push(query, negative, T::one());
                    }
                    // (MH-1)  ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]
                    // Strictly greater, so that the first of several equals is kept.
                    Violation::Max if hardest.is_none_or(|(_, most): (usize, T)| cost.re() > most.re()) => {
                        hardest = Some((negative, cost));
                    }
                    Violation::Max => {}
                }
            }
            if let Some((negative, cost)) = hardest {
                sum = cost;
                terms.push(query, negative, T::one());
            }
            terms.loss += sum;
            terms.possible += if self.violation == Violation::Sum { count } else { count.min(1) };
        }
    }

    fn at_collapse(&self, negatives: usize) -> f64 {
        // Every cost is α.
        let count = if self.violation == Violation::Sum { negatives } else { negatives.min(1) };
        self.margin * count as f64
    }

    fn name(&self) -> &'static str {
        match self.violation {
            Violation::Sum => "sum",
            Violation::Max => "max",
        }
    }
}

/// SH in the first epochs, then another loss (`--warmup-epochs`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    loss: HingeLoss,
    epochs: usize,
    epoch: usize,
}

impl WarmUp {
    /// `epochs` epochs of SH, then `loss`.
    #[must_use]
    pub(crate) fn new(loss: HingeLoss, epochs: usize) -> Self {
        Self { loss, epochs, epoch: 0 }
    }

    /// The loss of the epoch.
    #[must_use]
    pub(crate) fn now(&self) -> HingeLoss {
        let violation = if self.epoch < self.epochs { Violation::Sum } else { self.loss.violation };
        HingeLoss { violation, ..self.loss }
    }
}

impl Loss for WarmUp {
    fn forward<T: Scalar>(&self, scores: ArrayView2<'_, T>, negatives: Negatives<'_>, terms: &mut Terms<T>) {
        self.now().forward(scores, negatives, terms);
    }

    fn at_collapse(&self, negatives: usize) -> f64 {
        self.now().at_collapse(negatives)
    }

    fn name(&self) -> &'static str {
        self.now().name()
    }

    fn set_epoch(&mut self, epoch: usize) {
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    const SH: HingeLoss = HingeLoss { margin: 0.2, violation: Violation::Sum };
    const MH: HingeLoss = HingeLoss { margin: 0.2, violation: Violation::Max };

    fn terms(loss: HingeLoss, scores: &Array2<f64>, negatives: Negatives<'_>) -> Result<Terms<f64>> {
        let mut terms = Terms::default();
        terms.evaluate(&loss, scores.view(), negatives)?;
        Ok(terms)
    }

    fn run(loss: HingeLoss, scores: &Array2<f64>) -> (f64, Array2<f64>) {
        let (terms, mut d_scores) = (terms(loss, scores, Negatives::Others).unwrap(), Array2::default((0, 0)));
        terms.backward(&mut d_scores);
        (terms.loss, d_scores)
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
    #[should_panic(expected = "Caption(2), negative 3: expected numbers below B = 3")]
    fn a_term_is_of_the_batch() {
        let mut terms = terms(SH, &example(), Negatives::Others).unwrap();
        terms.push(Query::Caption(2), 3, 1.0);
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
        for loss in [MH, SH] {
            assert_abs_diff_eq!(run(loss, &scores).0, at_collapse(&loss, Negatives::Others, 128), epsilon = 1e-8);
            let ids: Vec<usize> = (0..128).map(|pair| pair / 3).collect();
            let masked = terms(loss, &scores, Negatives::OtherImages(&ids)).unwrap().loss;
            assert_abs_diff_eq!(masked, at_collapse(&loss, Negatives::OtherImages(&ids), 128), epsilon = 1e-8);
            assert_eq!(at_collapse(&loss, Negatives::Others, 1), 0.0);
        }
    }

    #[test]
    fn captions_of_one_image_can_be_left_out() {
        let ids = [7, 7, 9];
        let terms = terms(SH, &example(), Negatives::OtherImages(&ids)).unwrap();
        assert!(terms.terms().iter().all(|term| ids[term.at.0] != ids[term.at.1]));
        assert_eq!(terms.possible, 8);
        // What is left: cost_s[1,2] = .25. In cost_im, S_12 − d_2 + α < 0, and S_02, S_20, S_21 < 0.
        assert_abs_diff_eq!(terms.loss, 0.25, epsilon = 1e-15);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let message = |scores: Array2<f64>, negatives| terms(SH, &scores, negatives).unwrap_err().to_string();
        assert!(message(Array2::zeros((2, 3)), Negatives::Others).contains("[2, 3]"));
        assert!(message(array![[0.0, f64::NAN], [0.0, 0.0]], Negatives::Others).contains("[0, 1]"));
        let few = message(Array2::zeros((2, 2)), Negatives::OtherImages(&[1]));
        assert_eq!(few, "image_ids: expected [B = 2], found [1]");
    }
}
