//! Collapse: all embeddings alike.
//!
//! If every image and every caption has the same embedding, every score is the same, every hinge is
//! exactly α, and the gradients of attraction and repulsion cancel. Where both sides are normalised
//! (or the loss is SH, or the measure an order) this is a stationary point; MH with `no_imgnorm` keeps
//! a gradient on the image side, along the common direction. The loss is there
//!
//! ```text
//! (COLLAPSE-1)  ℓ_MH = 2Bα (51.2 at B = 128, α = 0.2),   ℓ_SH = 2B(B − 1)α (6502.4)
//! ```
//!
//! that is α for every term that could count. MH falls towards it in its first steps, since pulling
//! everything together is the quickest way to please the hardest negative, and usually leaves again.
//! A run that stays shows it by two signs together: the loss sits at this value, and the scores of a
//! batch are all alike. The loss alone would not do: a healthy MH run passes through it.

use serde::{Deserialize, Serialize};

use super::events::StepReport;

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Collapse {
    /// Steps taken so far.
    pub step: u64,
    /// The loss of the last batch.
    pub loss: f64,
    /// (COLLAPSE-1) for that batch.
    pub stationary: f64,
    /// Greatest less smallest score of that batch.
    pub spread: f64,
    /// For how many steps in a row.
    pub steps: usize,
}

/// Watches the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollapseDetector {
    in_a_row: usize,
}

impl CollapseDetector {
    /// Steps in a row that make a collapse.
    pub const STEPS: usize = 50;
    /// How near the loss must be to (COLLAPSE-1), relatively.
    const NEAR: f64 = 0.02;
    /// How little the scores of a batch may differ, in margins. Seen at α = 0.2: 0.01 to 0.04 in runs
    /// that stay at the stationary point or leave it late, 0.09 and more in one that passes through.
    const ALIKE: f64 = 0.25;

    /// Looks at a step whose loss could have had `possible` terms; tells when it is the
    /// [`Self::STEPS`]-th in a row; each such row of steps is told once.
    pub fn see(&mut self, margin: f64, step: &StepReport, possible: usize) -> Option<Collapse> {
        let stationary = margin * possible as f64;
        let collapsed = stationary > 0.0
            && (step.loss - stationary).abs() <= Self::NEAR * stationary
            && step.score_spread <= Self::ALIKE * margin;
        self.in_a_row = if collapsed { self.in_a_row + 1 } else { 0 };
        (self.in_a_row == Self::STEPS).then_some(Collapse {
            step: step.step,
            loss: step.loss,
            stationary,
            spread: step.score_spread,
            steps: self.in_a_row,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{HingeLoss, Violation};
    use crate::train::trainer::spread;
    use ndarray::Array2;

    fn watch(scores: &Array2<f32>, violation: Violation, steps: u64) -> Vec<u64> {
        let hinges = HingeLoss { margin: 0.2, violation }.forward(scores.view(), None).unwrap();
        let (loss, score_spread) = (f64::from(hinges.loss), spread(scores));
        let mut detector = CollapseDetector::default();
        let mut see = |step: &u64| {
            let report = StepReport { step: *step, loss, score_spread, ..StepReport::default() };
            detector.see(0.2, &report, hinges.possible).is_some()
        };
        (1..=steps).filter(|step| see(step)).collect()
    }

    #[test]
    fn collapse_1_is_told_once_for_both_losses() {
        let alike = Array2::from_elem((16, 16), 0.9);
        assert_eq!(watch(&alike, Violation::Max, 200), [50]);
        assert_eq!(watch(&alike, Violation::Sum, 200), [50]);
    }

    #[test]
    fn collapse_1_is_a_stationary_point() {
        // fc = 0 with a bias, GRU = 0 with biases: every embedding is the same, on both sides.
        use crate::model::{Batch, Config, Parameters, Vse};
        for max_violation in [false, true] {
            let config = Config { embed_size: 6, word_dim: 3, max_violation, ..Config::default() }.check().unwrap();
            let architecture = config.architecture(10, 5);
            let mut parameters = Parameters::<f64>::zeros(&architecture);
            parameters.img_enc.fc.bias.fill(0.5);
            parameters.txt_enc.rnn.layers[0].bias_ih.fill(0.3);
            let model = Vse { architecture, parameters };
            let batch = Batch {
                images: Array2::from_shape_fn((4, 5), |(i, j)| (i + 2 * j) as f64),
                captions: vec![vec![1, 4, 2], vec![1, 5, 2], vec![1, 6, 2], vec![1, 7, 2]],
                image_ids: vec![0, 1, 2, 3],
            };
            let forward = model.forward(&batch, &config.objective(0)).unwrap();
            let terms = if max_violation { 2.0 * 4.0 } else { 2.0 * 4.0 * 3.0 };
            approx::assert_relative_eq!(forward.hinges.loss, 0.2 * terms, max_relative = 1e-14);
            let mut gradient = Parameters::zeros(&architecture);
            let _ = model.backward(&batch, &forward, &mut gradient);
            let largest =
                gradient.named().iter().flat_map(|(_, g)| g.iter().copied()).fold(0.0, |m: f64, g| m.max(g.abs()));
            // Eight terms of ±1 times numbers below 1, which cancel: some ulp remain.
            assert!(largest < 1e-14, "max_violation = {max_violation}: {largest:e}");
        }
    }

    #[test]
    fn the_same_loss_with_scores_that_differ_is_no_collapse() {
        // Every hardest negative equals its right pair, so the loss is 2Bα, but the others lie far off.
        let scores = Array2::from_shape_fn((16, 16), |(i, j)| if i / 2 == j / 2 { 0.9 } else { 0.0 });
        assert!(watch(&scores, Violation::Max, 200).is_empty());
    }
}
