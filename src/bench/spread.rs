//! How often something is timed, and what is kept of the times.

use std::time::Instant;

use serde::Serialize;

use crate::error::Result;

/// The middle, the least and the greatest of several numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many there were.
    pub count: usize,
}

impl Spread {
    /// Of some numbers. Without any, all is 0.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        if n == 0 {
            return Self::default();
        }
        let median = f64::midpoint(values[(n - 1) / 2], values[n / 2]);
        Self { median, min: values[0], max: values[n - 1], count: n }
    }
}

/// How often something is timed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Times before those that count.
    pub warm_up: usize,
    /// Times that count, at most; once is the least.
    pub repeats: usize,
    /// No further time is begun after so many seconds, the warm-up not counted.
    pub seconds: f64,
}

impl Effort {
    /// So many times, however long they take.
    #[must_use]
    pub fn times(warm_up: usize, repeats: usize) -> Self {
        Self { warm_up, repeats, seconds: f64::INFINITY }
    }

    /// Seconds of every time that counts, as `run` tells them.
    ///
    /// # Errors
    ///
    /// Fails with the first error of `run`.
    pub fn collect<R>(self, mut run: impl FnMut() -> Result<R>) -> Result<Vec<R>> {
        for _ in 0..self.warm_up {
            run()?;
        }
        let start = Instant::now();
        let mut results = Vec::with_capacity(self.repeats.min(1 << 10));
        while results.is_empty() || (results.len() < self.repeats && start.elapsed().as_secs_f64() < self.seconds) {
            results.push(run()?);
        }
        Ok(results)
    }

    /// The seconds that `run` takes.
    #[must_use]
    pub fn time(self, mut run: impl FnMut()) -> Spread {
        let spread = self.try_time(|| {
            run();
            Ok(())
        });
        spread.unwrap_or_else(|_| unreachable!("no error is returned"))
    }

    /// As [`Self::time`]; what `run` returns is dropped within its time.
    ///
    /// # Errors
    ///
    /// Fails with the first error of `run`.
    pub fn try_time<R>(self, mut run: impl FnMut() -> Result<R>) -> Result<Spread> {
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
    fn the_warm_up_does_not_count_and_once_is_the_least() {
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
        assert_eq!(count(Effort { warm_up: 1, repeats: 9, seconds: 0.0 }), (1, 2));
        assert_eq!(count(Effort::times(0, 0)), (1, 1));
    }
}
