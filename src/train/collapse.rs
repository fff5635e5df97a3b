//! Detects a collapse: all embeddings are equal.
//!
//! If every image and every caption has the same embedding, every score is the same, every hinge is
//! exactly α, and the gradients of attraction and repulsion cancel. Where both sides are normalised
//! (or the loss is SH, or the measure is an order) this is a stationary point; MH with `no_imgnorm` keeps
//! a gradient on the image side, along the common direction. Near that point every hinge counts, and
//! the loss shows whether the scores approach each other or spread:
//!
//! ```text
//! (COLLAPSE-1)  all scores equal: ℓ_MH = 2Bα, ℓ_SH = 2B(B − 1)α        51.2 and 6502.4 at B = 128, α = 0.2
//! (COLLAPSE-2)  every hinge counts: ℓ = (COLLAPSE-1) + Q, Q = Σ over the terms of S(negative) − S(right)
//! ```
//!
//! If all deviations from the common point are scaled by t, Q is scaled by t². So descent shrinks the
//! deviations where Q > 0 and lets them grow where Q < 0. With MH, Q > 0 at first in every run: pulling
//! everything together reduces the hardest negative fastest. In a run that recovers, the model nevertheless
//! learns the ranking, with small differences, until the right pair is ahead of the hardest negative and Q
//! changes sign. In other runs the ranking does not improve.
//!
//! So neither the loss nor the spread of the scores nor the sign of Q is enough for a warning. A warning
//! needs three signs together: in each of 400 steps the scores of a batch are within α of each other; Q is
//! not negative; and the negatives that score as high as the right pair are not becoming fewer.
//! `docs/traps.md` lists the runs on which this was tried.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::figures::StepReport;

/// A collapse. The figures are means over the last [`CollapseDetector::WINDOW`] steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Collapse {
    /// Steps taken so far.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// (COLLAPSE-1).
    pub stationary: f64,
    /// Largest minus smallest score of a batch.
    pub spread: f64,
    /// Q of (COLLAPSE-2), over the sum of the terms' weights: per term, for SH and MH.
    pub gap: f64,
    /// Share of the negatives that score at least as high as the right pair; one half by chance.
    pub ahead: f64,
    /// The same in the previous window.
    pub ahead_before: f64,
    /// The gradient's norm before clipping.
    pub grad_norm: f64,
}

/// Watches the steps of a training for a collapse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollapseDetector {
    /// Consecutive steps with scores within the margin, since the last full window.
    steps: usize,
    /// The sums over these steps.
    sums: Sums,
    /// `ahead` of the previous window, if this one followed without a gap.
    before: Option<f64>,
    /// Whether the previous window was a collapse, which has been reported.
    reported: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sums {
    loss: f64,
    stationary: f64,
    terms: f64,
    spread: f64,
    ahead: f64,
    grad_norm: f64,
}

impl CollapseDetector {
    /// Steps in a window, enough to see a slow fall of `ahead` above its noise. A collapse takes two windows
    /// in a row. Set by hand.
    pub(crate) const WINDOW: usize = 200;
    /// In a run that learns, `ahead` falls by at least this much from window to window. Set by hand, between
    /// the runs of `examples/collapse.rs` that recover and those that do not.
    const FALL: f64 = 0.03;
    /// If `ahead` is below this, the ranking is being learned, however slowly it improves. Set by hand.
    const LEARNED: f64 = 0.3;

    /// Adds a step with these scores. `point` gives the loss that it would have if all scores were equal, and the
    /// sum of the weights of its terms. Returns a collapse at the end of the window that shows it, once per streak
    /// of such windows.
    pub(crate) fn see(
        &mut self,
        margin: f64,
        step: &StepReport,
        point: impl FnOnce() -> (f64, f64),
        scores: &Array2<f32>,
    ) -> Option<Collapse> {
        // Far from the point, this comparison is all that a step costs.
        let is_near = margin > 0.0 && step.score_spread <= margin;
        // (COLLAPSE-1)  all scores equal: ℓ_MH = 2Bα, ℓ_SH = 2B(B − 1)α
        let (stationary, terms) = if is_near { point() } else { (0.0, 0.0) };
        if stationary == 0.0 {
            *self = Self::default();
            return None;
        }
        let sums = &mut self.sums;
        sums.loss += step.loss;
        sums.stationary += stationary;
        sums.terms += terms;
        sums.spread += step.score_spread;
        sums.ahead += share_ahead(scores);
        sums.grad_norm += step.grad_norm;
        self.steps += 1;
        (self.steps == Self::WINDOW).then(|| self.end_window(step.step)).flatten()
    }

    /// Checks the state of a detector that was read from a file.
    pub(super) fn check(&self) -> Result<(), String> {
        let Sums { loss, stationary, terms, spread, ahead, grad_norm } = self.sums;
        if self.steps >= Self::WINDOW {
            return Err(format!("collapse.steps: expected a number below {}, found {}", Self::WINDOW, self.steps));
        }
        let numbers = [loss, stationary, terms, spread, ahead, grad_norm, self.before.unwrap_or_default()];
        match numbers.iter().find(|x| !x.is_finite() || **x < 0.0) {
            Some(x) => Err(format!("collapse: expected finite numbers ≥ 0, found {x}")),
            None => Ok(()),
        }
    }

    /// Judges a full window by its sums, and compares it with the previous one.
    fn end_window(&mut self, step: u64) -> Option<Collapse> {
        let n = self.steps as f64;
        let sums = std::mem::take(&mut self.sums);
        self.steps = 0;
        let ahead = sums.ahead / n;
        let ahead_before = self.before.replace(ahead)?;
        // (COLLAPSE-2)  every hinge counts: ℓ = (COLLAPSE-1) + Q, Q = Σ over the terms of S(negative) − S(right)
        let q = sums.loss - sums.stationary;
        // Losses are sums in f32, so 1e-5 of the value may be rounding.
        let collapsed = q >= -1e-5 * sums.stationary && ahead > Self::LEARNED && ahead_before - ahead < Self::FALL;
        let reported = std::mem::replace(&mut self.reported, collapsed);
        (collapsed && !reported).then_some(Collapse {
            step,
            loss: sums.loss / n,
            stationary: sums.stationary / n,
            spread: sums.spread / n,
            gap: q / sums.terms,
            ahead,
            ahead_before,
            grad_norm: sums.grad_norm / n,
        })
    }
}

/// Largest minus smallest score.
pub(super) fn spread(scores: &Array2<f32>) -> f64 {
    let extremes = |(least, most): (f32, f32), &score: &f32| (least.min(score), most.max(score));
    let (least, most) = scores.iter().fold((f32::INFINITY, f32::NEG_INFINITY), extremes);
    f64::from(most) - f64::from(least)
}

/// Share of the negatives, along rows and columns, that score at least as high as the right pair.
fn share_ahead(scores: &Array2<f32>) -> f64 {
    let pairs = scores.nrows();
    let mut ahead = 0usize;
    for (row, right_of_row) in scores.outer_iter().zip(scores.diag()) {
        for (score, right_of_column) in row.iter().zip(scores.diag()) {
            ahead += usize::from(score >= right_of_row) + usize::from(score >= right_of_column);
        }
    }
    // Every right pair was compared with itself twice.
    (ahead - 2 * pairs) as f64 / (2 * pairs * pairs.saturating_sub(1)).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{HingeLoss, Negatives, Terms, Violation, at_collapse};
    use ndarray::array;

    fn evaluate(violation: Violation, scores: &Array2<f32>) -> (HingeLoss, Terms<f32>) {
        let (hinge, mut terms) = (HingeLoss { margin: 0.2, violation }, Terms::default());
        terms.evaluate(&hinge, scores.view(), Negatives::Others).unwrap();
        (hinge, terms)
    }

    /// The steps at which a collapse is reported, in a run whose scores are a function of the step.
    fn watch(violation: Violation, steps: u64, scores: impl Fn(u64) -> Array2<f32>) -> Vec<u64> {
        let mut detector = CollapseDetector::default();
        let mut see = |step: &u64| {
            let scores = scores(*step);
            let (hinge, terms) = evaluate(violation, &scores);
            let (loss, score_spread) = (f64::from(terms.loss), spread(&scores));
            let report = StepReport { step: *step, loss, score_spread, ..StepReport::default() };
            let point = || (at_collapse(&hinge, Negatives::Others, scores.nrows()), terms.weight());
            detector.see(0.2, &report, point, &scores).is_some()
        };
        (1..=steps).filter(|step| see(step)).collect()
    }

    /// Scores within 0.1 of each other, a given share of them ahead of the right pairs.
    fn ranked(ahead: f64) -> Array2<f32> {
        Array2::from_shape_fn((32, 32), |(i, j)| {
            let place = ((32 * i + j) * 389 % 1024) as f64 / 1024.0;
            if i == j {
                0.5
            } else if place < ahead {
                0.55
            } else {
                0.45
            }
        })
    }

    #[test]
    fn collapse_1_is_reported_once_for_both_losses() {
        for violation in [Violation::Max, Violation::Sum] {
            assert_eq!(watch(violation, 1000, |_| Array2::from_elem((16, 16), 0.9)), [400]);
        }
        // The same with scores that differ, in a ranking that stays at chance.
        assert_eq!(watch(Violation::Max, 1000, |_| ranked(0.5)), [400]);
    }

    #[test]
    fn a_ranking_that_improves_in_miniature_is_no_collapse() {
        // From chance to 0.3 in 1,000 steps: a fall of 0.04 in each window.
        let learning = |step: u64| ranked(0.5 - 0.2 * step as f64 / 1000.0);
        assert!(watch(Violation::Max, 1000, learning).is_empty());
        // A plateau with three negatives in four below the right pair: slow, not collapsed.
        assert!(watch(Violation::Max, 1000, |_| ranked(0.25)).is_empty());
        // And if it stops improving at 0.4, it is reported then.
        let stops = |step: u64| ranked(f64::max(0.4, 0.5 - 0.2 * step as f64 / 1000.0));
        assert_eq!(watch(Violation::Max, 1600, stops), [800]);
    }

    #[test]
    fn scores_that_lie_further_apart_than_the_margin_begin_a_new_row() {
        let apart = |step: u64| if step.is_multiple_of(300) { ranked(0.5) * 5.0 } else { ranked(0.5) };
        assert!(watch(Violation::Max, 1200, apart).is_empty());
        let once = |step: u64| if step == 300 { ranked(0.5) * 5.0 } else { ranked(0.5) };
        assert_eq!(watch(Violation::Max, 1200, once), [700]);
    }

    #[test]
    fn scores_that_grow_are_no_collapse() {
        // SH: half of the negatives score slightly higher, the others far lower, so Q < 0.
        let growing = |_| ranked(0.5).mapv(|s| if s < 0.5 { s - 0.05 } else { s });
        assert!(watch(Violation::Sum, 1000, growing).is_empty());
        assert_eq!(watch(Violation::Max, 1000, growing), [400], "the hardest is ahead: Q > 0");
    }

    #[test]
    fn collapse_2_is_the_loss_and_the_share_counts_both_directions() {
        let scores = array![[0.5f32, 0.6, 0.5], [0.4, 0.45, 0.55], [0.5, 0.4, 0.55]];
        // Rows: 2, 1, 0 negatives at or above 0.5, 0.45, 0.55; columns: 1, 1, 1.
        assert_eq!(share_ahead(&scores), 6.0 / 12.0);
        for violation in [Violation::Max, Violation::Sum] {
            let (_, terms) = evaluate(violation, &scores);
            let gaps = terms.terms().iter().map(|term| scores[term.at] - scores[[term.right, term.right]]);
            let q = gaps.fold(0.0, |sum, gap| sum + gap);
            approx::assert_abs_diff_eq!(terms.loss, 0.2 * terms.possible as f32 + q, epsilon = 1e-6);
        }
    }

    #[test]
    fn a_detector_that_was_saved_goes_on() {
        let report = StepReport { score_spread: 0.0, loss: 1.0, ..StepReport::default() };
        let mut detector = CollapseDetector::default();
        for _ in 0..399 {
            assert!(detector.see(0.2, &report, || (0.8, 4.0), &Array2::zeros((2, 2))).is_none());
        }
        let saved = serde_json::to_string(&detector).unwrap();
        let mut detector: CollapseDetector = serde_json::from_str(&saved).unwrap();
        assert!(detector.see(0.2, &report, || (0.8, 4.0), &Array2::zeros((2, 2))).is_some());
    }

    #[test]
    fn collapse_1_is_a_stationary_point() {
        // fc = 0 with a bias, GRU = 0 with biases: every embedding is the same, on both sides.
        use crate::linalg::Write;
        use crate::model::{Batch, Config, Parameters, Pass, Vse};
        use crate::nn::{Mode, Module};
        for max_violation in [false, true] {
            let config = Config { embed_size: 6, word_dim: 3, max_violation, ..Config::default() }.check().unwrap();
            let architecture = config.architecture(10, 5);
            let mut parameters = Parameters::<f64>::zeros(&architecture);
            parameters.img_enc.fc.bias.fill(0.5);
            parameters.txt_enc.rnn.layers[0].bias_ih.fill(0.3);
            let model = Vse { architecture, parameters };
            let batch = Batch {
                images: Array2::from_shape_fn((4, 5), |(i, j)| (i + 2 * j) as f64).into(),
                captions: vec![vec![1, 4, 2], vec![1, 5, 2], vec![1, 6, 2], vec![1, 7, 2]],
                image_ids: vec![0, 1, 2, 3],
            };
            let mut pass = Pass::default();
            model.forward(&batch, &config.objective(0), Mode::Train, &mut pass).unwrap();
            let terms = if max_violation { 2.0 * 4.0 } else { 2.0 * 4.0 * 3.0 };
            approx::assert_relative_eq!(pass.terms.loss, 0.2 * terms, max_relative = 1e-14);
            let mut gradient = Parameters::zeros(&architecture);
            model.backward(&batch, &mut pass, Write::Replace, &mut gradient, None).unwrap();
            let mut largest = 0.0f64;
            gradient.each(|_, _, g| largest = g.iter().fold(largest, |m, g| m.max(g.abs())));
            // Eight terms of ±1 times numbers below 1, which cancel: some ulp remain.
            assert!(largest < 1e-14, "max_violation = {max_violation}: {largest:e}");
        }
    }
}
