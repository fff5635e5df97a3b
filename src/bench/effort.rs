//! How often something is timed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::spread::Spread;
use crate::error::Result;

/// How often something is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Warm-up runs, which are not timed.
    pub warm_up: usize,
    /// The largest number of timed runs; there is at least one.
    pub repeats: usize,
    /// No further run starts after this many seconds, not counting the warm-up.
    pub seconds: f64,
    /// The pause before each run.
    pub pause: Duration,
}

impl Effort {
    /// A fixed number of runs, however long they take.
    #[must_use]
    pub(crate) fn times(warm_up: usize, repeats: usize) -> Self {
        Self { warm_up, repeats, seconds: f64::INFINITY, pause: Duration::ZERO }
    }

    /// As often, and after a pause each time.
    #[must_use]
    pub(crate) fn after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Collects what `run` returns for each timed run.
    ///
    /// # Errors
    ///
    /// Fails with the first error of `run`.
    pub(crate) fn collect<R>(self, mut run: impl FnMut() -> Result<R>) -> Result<Vec<R>> {
        for _ in 0..self.warm_up {
            run()?;
        }
        let start = Instant::now();
        let mut results = Vec::with_capacity(self.repeats.min(1 << 10));
        while results.is_empty() || (results.len() < self.repeats && start.elapsed().as_secs_f64() < self.seconds) {
            if !self.pause.is_zero() {
                sleep(self.pause);
            }
            results.push(run()?);
        }
        Ok(results)
    }

    /// Times `run`, in seconds.
    #[must_use]
    pub(crate) fn time(self, mut run: impl FnMut()) -> Spread {
        let spread = self.try_time(|| {
            run();
            Ok(())
        });
        spread.unwrap_or_else(|_| unreachable!("no error is returned"))
    }

    /// The same as [`Self::time`] for a `run` that may fail. Dropping its result is part of the time.
    ///
    /// # Errors
    ///
    /// Fails with the first error of `run`.
    pub(crate) fn try_time<R>(self, mut run: impl FnMut() -> Result<R>) -> Result<Spread> {
        let seconds = self.collect(|| {
            let start = Instant::now();
            drop(run()?);
            Ok(start.elapsed().as_secs_f64())
        })?;
        Ok(Spread::of(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_the_mean_of_two() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0, count: 3 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0, count: 4 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn the_warm_up_does_not_count_and_one_run_is_the_minimum() {
        let mut runs = 0;
        let mut count = |effort: Effort| {
            runs = 0;
            let counted = effort.try_time(|| {
                runs += 1;
                Ok(())
            });
            let counted = counted.unwrap().count;
            (counted, runs)
        };
        assert_eq!(count(Effort::times(2, 3)), (3, 5));
        assert_eq!(count(Effort { seconds: 0.0, ..Effort::times(1, 9) }), (1, 2));
        assert_eq!(count(Effort::times(0, 0)), (1, 1));
    }

    #[test]
    fn a_pause_is_not_timed() {
        let pause = Duration::from_millis(20);
        let start = Instant::now();
        let spread = Effort::times(0, 3).after(pause).time(|| ());
        assert!(start.elapsed() >= 3 * pause && spread.count == 3);
        assert!(spread.min < pause.as_secs_f64(), "{spread:?}");
    }
}
