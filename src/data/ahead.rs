//! Prepares batches in advance on a separate thread.
//!
//! ```text
//! this thread:       wait  step t          wait  step t + 1
//! the other thread:        fill batch t + 1      fill batch t + 2
//! ```
//!
//! Double buffering: while one buffer is in use the other is filled. [`EpochOrder`] alone decides which
//! pairs a batch has, so the batches are the same as without a second thread.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{ScopedJoinHandle, scope};

use super::batches::{Buffer, EpochOrder};
use super::split::Split;
use crate::error::Result;
use crate::model::Batch;

/// Which batches, of what.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Where images and image numbers come from.
    pub split: &'a Split,
    /// The ids of its captions.
    pub captions: &'a [Vec<u32>],
    /// B.
    pub batch_size: usize,
    /// The seed of the shuffling, and of random views of the images.
    pub seed: u64,
    /// The epochs, from 0.
    pub epochs: Range<usize>,
    /// The first batch in the first of them; the others begin with batch 0.
    pub first_batch: usize,
}

/// A batch, and where it belongs.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The batch in the epoch, from 0.
    pub number: usize,
    /// Its captions, as numbers in the split, `[B]`.
    pub captions: Vec<usize>,
    buffer: Buffer,
}

impl Prepared {
    /// The batch.
    #[must_use]
    pub fn batch(&self) -> &Batch<f32> {
        &self.buffer.batch
    }
}

/// The batches of a plan, in its order.
#[derive(Debug)]
pub struct Ahead<'scope> {
    ready: Receiver<Result<Prepared>>,
    /// Where buffers go back to.
    spare: SyncSender<Prepared>,
    in_use: Option<Prepared>,
    thread: Option<ScopedJoinHandle<'scope, ()>>,
}

/// Does `work` while the batches of a plan are prepared on another thread. The thread ends with the
/// plan, with the work or with the first error, whichever comes first.
///
/// # Panics
///
/// If the other thread panics, for example because there are more captions than the split has.
pub fn prepare_ahead<R>(plan: &Plan<'_>, work: impl FnOnce(&mut Ahead<'_>) -> R) -> R {
    scope(|scope| {
        // The other thread never waits to hand something over: there are no more than two buffers.
        let (filled, ready) = sync_channel(2);
        let (spare, empty) = sync_channel(2);
        for _ in 0..2 {
            // The receiver is there.
            let _ = spare.send(Prepared::default());
        }
        let thread = Some(scope.spawn(move || fill_all(plan, &empty, &filled)));
        // Dropped with its channels before the scope waits for the thread, on a panic too: the thread
        // then finds its channels closed.
        let mut ahead = Ahead { ready, spare, in_use: None, thread };
        work(&mut ahead)
    })
}

/// Prepares batches until the plan is done, the other end is gone, or an image cannot be read.
fn fill_all(plan: &Plan<'_>, empty: &Receiver<Prepared>, filled: &SyncSender<Result<Prepared>>) {
    let mut first = plan.first_batch;
    for epoch in plan.epochs.clone() {
        let order = EpochOrder::new(plan.captions.len(), plan.batch_size, plan.seed, epoch);
        for number in std::mem::take(&mut first)..order.batches() {
            let Ok(mut prepared) = empty.recv() else { return };
            if let Err(error) = prepared.buffer.fill(&order, number, plan.split, plan.captions) {
                let _ = filled.send(Err(error));
                return;
            }
            (prepared.epoch, prepared.number) = (epoch, number);
            prepared.captions.clear();
            prepared.captions.extend_from_slice(order.captions(number));
            if filled.send(Ok(prepared)).is_err() {
                return;
            }
        }
    }
}

impl Ahead<'_> {
    /// Hands the last batch back and waits for the next; none when the plan is done.
    ///
    /// # Errors
    ///
    /// If an image of the batch cannot be read. There are no batches after that.
    ///
    /// # Panics
    ///
    /// With the other thread's panic, if it had one.
    pub fn next_batch(&mut self) -> Result<Option<&Prepared>> {
        if let Some(used) = self.in_use.take() {
            // The other thread may have finished; it then needs no more buffers.
            let _ = self.spare.send(used);
        }
        if let Ok(prepared) = self.ready.recv() {
            self.in_use = Some(prepared?);
        } else if let Some(Err(panic)) = self.thread.take().map(ScopedJoinHandle::join) {
            resume_unwind(panic);
        }
        Ok(self.in_use.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn data() -> (Split, Vec<Vec<u32>>) {
        let captions: Vec<String> = (0..30).map(|i| i.to_string()).collect();
        let images = Array2::from_shape_fn((10, 3), |(row, column)| (10 * row + column) as f32);
        let ids = (0..30).map(|i| vec![1, 4 + i, 2 + i % 5]).collect();
        (Split::new("train", images, captions).unwrap(), ids)
    }

    fn plan<'a>(split: &'a Split, captions: &'a [Vec<u32>]) -> Plan<'a> {
        Plan { split, captions, batch_size: 8, seed: 7, epochs: 1..4, first_batch: 2 }
    }

    #[test]
    fn the_batches_are_those_of_the_order_from_where_the_plan_begins() {
        let (split, ids) = data();
        let mut expected = Vec::new();
        for epoch in 1..4 {
            let order = EpochOrder::new(30, 8, 7, epoch);
            for number in if epoch == 1 { 2 } else { 0 }..4 {
                expected.push((
                    epoch,
                    number,
                    order.captions(number).to_vec(),
                    order.batch(number, &split, &ids).unwrap(),
                ));
            }
        }
        let found = prepare_ahead(&plan(&split, &ids), |ahead| {
            let mut found = Vec::new();
            while let Some(p) = ahead.next_batch().unwrap() {
                found.push((p.epoch, p.number, p.captions.clone(), p.batch().clone()));
            }
            assert!(ahead.next_batch().unwrap().is_none(), "it stays at its end");
            found
        });
        assert_eq!(found, expected);
        let behind = Plan { first_batch: 9, epochs: 1..2, ..plan(&split, &ids) };
        assert!(prepare_ahead(&behind, |ahead| ahead.next_batch().unwrap().is_none()));
    }

    #[test]
    fn work_may_end_before_the_plan() {
        let (split, ids) = data();
        for taken in 0..3 {
            let last = prepare_ahead(&plan(&split, &ids), |ahead| {
                (0..taken).map(|_| ahead.next_batch().unwrap().map(|p| p.number)).last()
            });
            assert_eq!(last, [None, Some(Some(2)), Some(Some(3))][taken]);
        }
    }

    #[test]
    fn a_panic_in_the_work_ends_the_other_thread() {
        let (split, ids) = data();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            prepare_ahead(&plan(&split, &ids), |ahead| {
                ahead.next_batch().unwrap();
                panic!("the work");
            })
        }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"the work"));
    }

    #[test]
    fn a_panic_in_the_other_thread_reaches_the_thread_that_waits() {
        let (split, mut ids) = data();
        // The split has no image for this one.
        ids.push(vec![1, 2]);
        let mut taken = 0;
        let panic = catch_unwind(AssertUnwindSafe(|| {
            prepare_ahead(&plan(&split, &ids), |ahead| {
                while ahead.next_batch().unwrap().is_some() {
                    taken += 1;
                }
            });
        }));
        let message = panic.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("index out of bounds"), "{message}");
        assert!(taken < 10, "the batches before it come first: {taken}");
    }
}
