//! The number of threads on which a step is fastest.
//!
//! More threads share the work, but they wait for each other more often. Which number is best depends on the model,
//! on the captions and on the machine, so it is measured. The bits of a training do not depend on it.

use std::time::Instant;

use super::figures::Pace;
use super::team::Team;
use super::trainer::Trainer;
use super::training_data::TrainingData;
use crate::data::batches::EpochOrder;
use crate::error::Result;
use crate::loss::Loss;

/// A number of threads that is tried.
struct Trial {
    team: Team,
    pace: Pace,
}

/// If a number of threads needs as much more time, smaller ones are not tried,
const HOPELESS: f64 = 1.3;
/// and if the passes take as many seconds. Shorter ones are disturbed more, and are soon timed.
const LONG: f64 = 0.05;
/// Fewer threads are taken if they need at most as much more time.
const EQUAL: f64 = 1.02;

impl<L: Loss> Trainer<L> {
    /// Measures forward and backward pass on all threads of the current pool, and on 16, 8, 4, 2 and 1 if those are
    /// fewer. Returns the times, the chosen number of threads first. The model does not change. Nothing is measured
    /// if there is one thread, no training is left, or the passes fail: the training reports why, with the place.
    ///
    /// # Errors
    ///
    /// If threads cannot be started.
    pub(super) fn paces(&mut self, data: &TrainingData) -> Result<Vec<Pace>> {
        /// Seconds for each number of threads.
        const TIME: f64 = 0.1;
        let most = rayon::current_num_threads();
        if most == 1 || data.train.ids.is_empty() || self.progress.epoch >= self.config.num_epochs {
            return Ok(Vec::new());
        }
        let (pairs, epoch) = (data.train.ids.len(), self.progress.epoch);
        let order = EpochOrder::new(pairs, self.config.batch_size, self.config.seed, epoch);
        let Ok(batch) = order.batch(0, &data.train) else { return Ok(Vec::new()) };
        // The mean of some passes.
        let time = |trainer: &mut Self, trial: &mut Trial, passes: usize| {
            trial.team.run(|| -> Result<f64> {
                let start = Instant::now();
                (0..passes).try_for_each(|_| trainer.passes(&batch))?;
                Ok(start.elapsed().as_secs_f64() / passes as f64)
            })
        };
        let mut trials: Vec<Trial> = Vec::new();
        let powers = (0..=most.ilog2()).rev().map(|power| 1 << power);
        for threads in [most].into_iter().chain(powers.filter(|&threads| threads < most)) {
            let mut trial = Trial { team: Team::new(threads)?, pace: Pace { threads, seconds: 0.0 } };
            // The first pass allocates its memory.
            if time(self, &mut trial, 1).is_err() {
                return Ok(Vec::new());
            }
            trial.pace.seconds = time(self, &mut trial, 1)?;
            let best = fastest(&trials).map_or(f64::INFINITY, |pace| pace.seconds);
            let hopeless = trial.pace.seconds > HOPELESS * best && trial.pace.seconds > LONG;
            trials.push(trial);
            if hopeless {
                break;
            }
        }
        let start = Instant::now();
        let budget = TIME * trials.len() as f64;
        // In turn, because other programs may use the machine for a while. The fastest time is the least disturbed.
        let mut rounds = 0;
        while rounds < 3 || start.elapsed().as_secs_f64() < budget {
            for trial in &mut trials {
                // About 10 ms of them.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1 to 1000
                let passes = (0.01 / trial.pace.seconds).clamp(1.0, 1000.0) as usize;
                let seconds = time(self, trial, passes)?;
                trial.pace.seconds = if rounds == 0 { seconds } else { trial.pace.seconds.min(seconds) };
            }
            rounds += 1;
        }
        let chosen = fastest(&trials).map_or(most, |pace| pace.threads);
        let mut paces: Vec<Pace> = trials.iter().map(|trial| trial.pace).collect();
        paces.sort_by_key(|pace| (pace.threads != chosen, pace.threads));
        Ok(paces)
    }
}

/// The fewest threads that are nearly as fast as any.
fn fastest(trials: &[Trial]) -> Option<Pace> {
    let paces = || trials.iter().map(|trial| trial.pace);
    let least = paces().map(|pace| pace.seconds).fold(f64::INFINITY, f64::min);
    paces().filter(|pace| pace.seconds <= EQUAL * least).min_by_key(|pace| pace.threads)
}
