//! The threads that compute the steps. They stay awake between the tasks of a step.
//!
//! A thread that finds no task goes to sleep, and it takes some ten microseconds to wake it. A step of a small model
//! has hundreds of short tasks, one after the other. So the threads of a team look for tasks again and again until
//! its work is done, and let other programs run between two looks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

use crate::error::{Error, Result};

/// Threads for one piece of work at a time.
#[derive(Debug)]
pub(crate) struct Team {
    pool: ThreadPool,
}

/// Ends the watch, also on a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Team {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// If the system cannot start as many.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::mismatch(format!("cannot start {threads} thread(s): {e}")))?;
        Ok(Self { pool })
    }

    /// Does the work on one of the threads, while the others look for its tasks without sleeping.
    ///
    /// # Panics
    ///
    /// If the work panics.
    // Mutable, so that there is one piece of work at a time: a thread that watches for one returns to no other.
    pub(crate) fn run<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> R {
        let (done, watching) = (AtomicBool::new(false), AtomicUsize::new(0));
        self.pool.install(|| {
            let own = rayon::current_thread_index();
            rayon::in_place_scope(|scope| {
                let _done = Done(&done);
                scope.spawn_broadcast(|_, context| {
                    if Some(context.index()) == own {
                        return;
                    }
                    watching.fetch_add(1, Ordering::Relaxed);
                    while !done.load(Ordering::Acquire) {
                        if rayon::yield_now() != Some(Yield::Executed) {
                            thread::yield_now();
                        }
                    }
                });
                // A thread that began with a task of the work could begin its watch while it waits for a part of the
                // task. It would not return to the task before the work is done.
                while watching.load(Ordering::Relaxed) + 1 < rayon::current_num_threads() {
                    thread::yield_now();
                }
                work()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn sum(numbers: u64) -> u64 {
        if numbers < 2 {
            return numbers;
        }
        let half = numbers / 2;
        let (left, right) = rayon::join(|| sum(half), || sum(numbers - half));
        left + right
    }

    #[test]
    fn work_is_done_by_all_threads_and_again() {
        for threads in 1..6 {
            let mut team = Team::new(threads).unwrap();
            for _ in 0..50 {
                assert_eq!(team.run(|| (sum(1000), rayon::current_num_threads())), (1000, threads));
            }
            let seen = team.run(|| {
                let seen: Vec<AtomicBool> = (0..threads).map(|_| AtomicBool::new(false)).collect();
                // Each of these tasks waits until every thread has one.
                (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
                    seen[rayon::current_thread_index().unwrap()].store(true, Ordering::Relaxed);
                    while !seen.iter().all(|seen| seen.load(Ordering::Relaxed)) {
                        thread::yield_now();
                    }
                });
                seen.len()
            });
            assert_eq!(seen, threads);
        }
    }

    #[test]
    fn teams_do_not_wait_for_each_other() {
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let sums = pool.install(|| {
            (0..8u64)
                .into_par_iter()
                .map(|more| {
                    let mut team = Team::new(3).unwrap();
                    (0..20).map(|_| team.run(|| sum(500 + more))).sum::<u64>()
                })
                .collect::<Vec<u64>>()
        });
        assert_eq!(sums, (0..8).map(|more| 20 * (500 + more)).collect::<Vec<u64>>());
    }

    #[test]
    fn a_panic_ends_the_watch() {
        let mut team = Team::new(3).unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| team.run(|| panic!("the work"))));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"the work"));
        assert_eq!(team.run(|| sum(100)), 100);
    }
}
