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

use crate::loss::Hinges;

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
#[derive(Clone, Debug, Default)]
pub struct CollapseDetector {
    in_a_row: usize,
}

impl CollapseDetector {
    /// Steps in a row that make a collapse.
    pub const STEPS: usize = 50;
    /// How near the loss must be to (COLLAPSE-1), relatively.
    const NEAR: f64 = 0.02;
    /// How little the scores of a batch may differ, in margins.
    const ALIKE: f64 = 0.1;

    /// Looks at a step; tells when it is the [`Self::STEPS`]-th in a row, and once only.
    pub fn see(
        &mut self,
        step: u64,
        margin: f64,
        hinges: &Hinges<f32>,
        scores: &ndarray::Array2<f32>,
    ) -> Option<Collapse> {
        let loss = f64::from(hinges.loss);
        let stationary = margin * hinges.possible as f64;
        let (least, most) =
            scores.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &s| (least.min(s), most.max(s)));
        let spread = f64::from(most) - f64::from(least);
        let collapsed = margin > 0.0
            && hinges.possible > 0
            && (loss - stationary).abs() <= Self::NEAR * stationary
            && spread <= Self::ALIKE * margin;
        self.in_a_row = if collapsed { self.in_a_row + 1 } else { 0 };
        let steps = self.in_a_row;
        (steps == Self::STEPS).then_some(Collapse { step, loss, stationary, spread, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{HingeLoss, Violation};
    use ndarray::Array2;

    fn watch(scores: &Array2<f32>, violation: Violation, steps: u64) -> Vec<u64> {
        let hinges = HingeLoss { margin: 0.2, violation }.forward(scores.view(), None).unwrap();
        let mut detector = CollapseDetector::default();
        (1..=steps).filter(|&step| detector.see(step, 0.2, &hinges, scores).is_some()).collect()
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
