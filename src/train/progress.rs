//! The progress of a training.

use serde::{Deserialize, Serialize};

use super::collapse::CollapseDetector;
use super::figures::StepReport;
use crate::eval::{Evaluation, Recall};
use crate::model::Config;

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// The current epoch, from 0; `num_epochs` when all are done.
    pub epoch: usize,
    /// Batches of this epoch that are done.
    pub batch: usize,
    /// The epoch's figures so far.
    pub(crate) totals: EpochTotals,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// The state of the collapse detector.
    pub(crate) collapse: CollapseDetector,
}

/// Sums over the steps of an epoch so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EpochTotals {
    /// Losses.
    pub loss: f64,
    /// Norms before clipping.
    pub grad_norm: f64,
    /// Steps that were clipped.
    pub clipped: usize,
    /// Shares of queries with a hinge that counts.
    pub active: f64,
    /// Pairs.
    pub pairs: usize,
    /// Pairs of captions of one image.
    pub same_image_pairs: usize,
    /// Seconds.
    pub seconds: f64,
    /// Seconds in which training waited for a batch.
    pub waiting: f64,
}

/// The best epoch by rsum on the dev split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Its evaluation on the dev split.
    pub dev: Evaluation,
}

/// The most steps that are accepted: far above any training, far below overflow.
const MOST_STEPS: u64 = 1 << 53;

impl Progress {
    /// Checks that a training with these settings can have this progress. [`Self::check_batches`] checks the
    /// number of batches, once the data are known.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let Self { step, epoch, batch, totals, best, .. } = self;
        if *step > MOST_STEPS {
            return Err(format!("step: expected at most {MOST_STEPS}, found {step}"));
        }
        if *epoch > config.num_epochs {
            return Err(format!("epoch: expected at most num_epochs = {}, found {epoch}", config.num_epochs));
        }
        if *epoch == config.num_epochs && *batch > 0 {
            return Err(format!("batch: expected 0, since all {epoch} epochs are done, found {batch}"));
        }
        match best {
            None if *epoch > 0 => return Err(format!("best: expected the best of {epoch} epoch(s), found none")),
            Some(best) if best.epoch == 0 || best.epoch > *epoch => {
                return Err(format!(
                    "best.epoch: expected 1 to {epoch}, the epochs that are done, found {}",
                    best.epoch
                ));
            }
            Some(best) => check_evaluation(&best.dev)?,
            None => {}
        }
        self.collapse.check()?;
        totals.check(*batch, config.batch_size)
    }

    /// Checks that step, epoch and batch are consistent, in epochs of `batches` batches.
    pub(super) fn check_batches(&self, batches: usize) -> Result<(), String> {
        let Self { step, epoch, batch, .. } = self;
        if *batch >= batches {
            return Err(format!("batch: expected a number below {batches}, the batches of an epoch, found {batch}"));
        }
        let expected = *epoch as u128 * batches as u128 + *batch as u128;
        if u128::from(*step) != expected {
            let place = format!("{epoch} epoch(s) of {batches} batches and {batch} batch(es)");
            return Err(format!("step: expected {expected}, after {place}, found {step}"));
        }
        Ok(())
    }
}

impl EpochTotals {
    /// Adds a step, except for the times, which the training loop adds.
    pub(super) fn add(&mut self, step: &StepReport) {
        self.loss += step.loss;
        self.grad_norm += step.grad_norm;
        self.clipped += usize::from(step.clipped_norm < step.grad_norm);
        self.active += step.active;
        self.pairs += step.pairs;
        self.same_image_pairs += step.same_image_pairs;
    }

    fn check(&self, batch: usize, batch_size: usize) -> Result<(), String> {
        let numbers = [
            ("loss", self.loss),
            ("grad_norm", self.grad_norm),
            ("active", self.active),
            ("seconds", self.seconds),
            ("waiting", self.waiting),
        ];
        if let Some((name, x)) = numbers.into_iter().find(|(_, x)| !x.is_finite() || *x < 0.0) {
            return Err(format!("totals.{name}: expected a finite number ≥ 0, found {x}"));
        }
        let pairs = batch as u128 * batch_size as u128;
        if self.pairs as u128 != pairs {
            return Err(format!(
                "totals.pairs: expected {pairs}, {batch} batches of {batch_size}, found {}",
                self.pairs
            ));
        }
        if self.clipped > batch {
            return Err(format!("totals.clipped: expected at most {batch}, the batches done, found {}", self.clipped));
        }
        let most = pairs * batch_size as u128;
        if self.same_image_pairs as u128 > most {
            return Err(format!("totals.same_image_pairs: expected at most {most}, found {}", self.same_image_pairs));
        }
        Ok(())
    }
}

/// Checks that the recalls are percentages, and that rsum is their sum.
fn check_evaluation(dev: &Evaluation) -> Result<(), String> {
    let recalls = |side: &Recall| [side.r1, side.r5, side.r10];
    let all = [recalls(&dev.image_to_text), recalls(&dev.text_to_image)].concat();
    if let Some(x) = all.iter().find(|x| !(0.0..=100.0).contains(*x)) {
        return Err(format!("best.dev: expected recalls from 0 to 100, found {x}"));
    }
    let sum: f64 = all.iter().sum();
    if !dev.rsum.is_finite() || (dev.rsum - sum).abs() > 1e-9 {
        return Err(format!("best.dev.rsum: expected {sum}, the sum of the six recalls, found {}", dev.rsum));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the third epoch, 5 batches of 8 done.
    fn progress() -> Progress {
        let recall = Recall { r1: 10.0, r5: 20.0, r10: 30.5, ..Recall::default() };
        let dev = Evaluation { image_to_text: recall, text_to_image: recall, rsum: 121.0, ..Evaluation::default() };
        let totals = EpochTotals { pairs: 40, clipped: 5, same_image_pairs: 3, loss: 7.0, ..EpochTotals::default() };
        let best = Some(Best { epoch: 2, dev });
        Progress { step: 25, epoch: 2, batch: 5, totals, best, ..Progress::default() }
    }

    #[test]
    fn what_cannot_be_is_named() {
        type Spoil = fn(&mut Progress);
        let config = Config { batch_size: 8, num_epochs: 3, ..Config::default() };
        let check = |spoil: Spoil| {
            let mut progress = progress();
            spoil(&mut progress);
            progress.check(&config).and_then(|()| progress.check_batches(10))
        };
        assert_eq!(check(|_| {}), Ok(()));
        let cases: [(Spoil, &str); 16] = [
            (|p| p.step = u64::MAX, "step: expected at most 9007199254740992, found 18446744073709551615"),
            (|p| p.step = 24, "step: expected 25, after 2 epoch(s) of 10 batches and 5 batch(es), found 24"),
            (|p| p.epoch = 4, "epoch: expected at most num_epochs = 3, found 4"),
            (|p| p.epoch = 3, "batch: expected 0, since all 3 epochs are done, found 5"),
            (|p| (p.batch, p.totals.pairs) = (10, 80), "batch: expected a number below 10"),
            (|p| p.batch = 4, "totals.pairs: expected 32, 4 batches of 8, found 40"),
            (|p| p.best = None, "best: expected the best of 2 epoch(s), found none"),
            (|p| p.best.as_mut().unwrap().epoch = 3, "best.epoch: expected 1 to 2"),
            (|p| p.best.as_mut().unwrap().epoch = 0, "best.epoch: expected 1 to 2"),
            (
                |p| p.best.as_mut().unwrap().dev.rsum = 599.0,
                "best.dev.rsum: expected 121, the sum of the six recalls, found 599",
            ),
            (|p| p.best.as_mut().unwrap().dev.rsum = f64::NAN, "best.dev.rsum: expected 121"),
            (
                |p| p.best.as_mut().unwrap().dev.image_to_text.r5 = 101.0,
                "best.dev: expected recalls from 0 to 100, found 101",
            ),
            (|p| p.totals.clipped = usize::MAX, "totals.clipped: expected at most 5"),
            (|p| p.totals.same_image_pairs = usize::MAX, "totals.same_image_pairs: expected at most 320"),
            (|p| p.totals.loss = f64::INFINITY, "totals.loss: expected a finite number"),
            (|p| p.totals.seconds = -1.0, "totals.seconds: expected a finite number ≥ 0, found -1"),
        ];
        for (spoil, message) in cases {
            let found = check(spoil).unwrap_err();
            assert!(found.starts_with(message), "{found}, expected {message}");
        }
    }
}
