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
use super::pairs::Pairs;
use crate::error::Result;
use crate::model::Batch;

/// Which batches to prepare, and from what.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    /// What the batches are drawn from.
    pub pairs: &'a Pairs,
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
pub(crate) struct Prepared {
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
    pub(crate) fn batch(&self) -> &Batch<f32> {
        &self.buffer.batch
    }
}

/// The batches of a plan, in its order.
#[derive(Debug)]
pub(crate) struct Ahead<'scope> {
    ready: Receiver<Result<Prepared>>,
    /// Returns used buffers to the other thread.
    spare: SyncSender<Prepared>,
    in_use: Option<Prepared>,
    thread: Option<ScopedJoinHandle<'scope, ()>>,
}

/// Does `work` while the batches of a plan are prepared on another thread. The thread ends with the
/// plan, with the work or with the first error, whichever comes first.
///
/// # Panics
///
/// If the other thread panics.
pub(crate) fn prepare_ahead<R>(plan: &Plan<'_>, work: impl FnOnce(&mut Ahead<'_>) -> R) -> R {
    scope(|scope| {
        // Each channel has room for both buffers, so sending never waits.
        let (filled, ready) = sync_channel(2);
        let (spare, empty) = sync_channel(2);
        for _ in 0..2 {
            // This cannot fail: the receiver exists.
            let _ = spare.send(Prepared::default());
        }
        let thread = Some(scope.spawn(move || fill_all(plan, &empty, &filled)));
        // `ahead` is dropped before the scope waits for the thread, on a panic too. That closes the
        // channels, and the thread ends.
        let mut ahead = Ahead { ready, spare, in_use: None, thread };
        work(&mut ahead)
    })
}

/// Prepares batches until the plan is done, the other end is gone, or an image cannot be read.
fn fill_all(plan: &Plan<'_>, empty: &Receiver<Prepared>, filled: &SyncSender<Result<Prepared>>) {
    let mut first = plan.first_batch;
    for epoch in plan.epochs.clone() {
        let order = EpochOrder::new(plan.pairs.ids.len(), plan.batch_size, plan.seed, epoch);
        for number in std::mem::take(&mut first)..order.batches() {
            let Ok(mut prepared) = empty.recv() else { return };
            if let Err(error) = prepared.buffer.fill(&order, number, plan.pairs) {
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
    /// Hands the last batch back and waits for the next. `None` when the plan is done.
    ///
    /// # Errors
    ///
    /// If an image of the batch cannot be read. There are no batches after that.
    ///
    /// # Panics
    ///
    /// With the other thread's panic, if it had one.
    pub(crate) fn next_batch(&mut self) -> Result<Option<&Prepared>> {
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
    use crate::data::{Draw, ImageStore, Split};
    use crate::model::{Config, Images, Pass, Vse};
    use crate::nn::Mode;
    use ndarray::{Array2, Array4};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    fn data() -> Pairs {
        let captions: Vec<String> = (0..30).map(|i| i.to_string()).collect();
        let images = Array2::from_shape_fn((10, 3), |(row, column)| (10 * row + column) as f32);
        let ids = (0..30).map(|i| vec![1, 4 + i, 2 + i % 5]).collect();
        Pairs::new(Split::new("train", images, captions).unwrap(), ids).unwrap()
    }

    fn plan(pairs: &Pairs) -> Plan<'_> {
        Plan { pairs, batch_size: 8, seed: 7, epochs: 1..4, first_batch: 2 }
    }

    #[test]
    fn the_batches_are_those_of_the_order_from_where_the_plan_begins() {
        let pairs = data();
        let mut expected = Vec::new();
        for epoch in 1..4 {
            let order = EpochOrder::new(30, 8, 7, epoch);
            for number in if epoch == 1 { 2 } else { 0 }..4 {
                expected.push((epoch, number, order.captions(number).to_vec(), order.batch(number, &pairs).unwrap()));
            }
        }
        let found = prepare_ahead(&plan(&pairs), |ahead| {
            let mut found = Vec::new();
            while let Some(p) = ahead.next_batch().unwrap() {
                found.push((p.epoch, p.number, p.captions.clone(), p.batch().clone()));
            }
            assert!(ahead.next_batch().unwrap().is_none(), "it stays at its end");
            found
        });
        assert_eq!(found, expected);
        let behind = Plan { first_batch: 9, epochs: 1..2, ..plan(&pairs) };
        assert!(prepare_ahead(&behind, |ahead| ahead.next_batch().unwrap().is_none()));
    }

    #[test]
    fn work_may_end_before_the_plan() {
        let pairs = data();
        for taken in 0..3 {
            let last = prepare_ahead(&plan(&pairs), |ahead| {
                (0..taken).map(|_| ahead.next_batch().unwrap().map(|p| p.number)).last()
            });
            assert_eq!(last, [None, Some(Some(2)), Some(Some(3))][taken]);
        }
    }

    #[test]
    fn a_panic_in_the_work_ends_the_other_thread() {
        let pairs = data();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            prepare_ahead(&plan(&pairs), |ahead| {
                ahead.next_batch().unwrap();
                panic!("the work");
            })
        }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"the work"));
    }

    #[test]
    fn a_panic_in_the_other_thread_reaches_the_thread_that_waits() {
        let mut pairs = data();
        // There is no image for this one.
        pairs.ids.push(vec![1, 2]);
        let mut taken = 0;
        let panic = catch_unwind(AssertUnwindSafe(|| {
            prepare_ahead(&plan(&pairs), |ahead| {
                while ahead.next_batch().unwrap().is_some() {
                    taken += 1;
                }
            });
        }));
        let message = panic.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("index out of bounds"), "{message}");
        assert!(taken < 10, "the batches before it come first: {taken}");
    }

    /// Pictures with a new view for every caption in every epoch: the last number says which view.
    #[derive(Debug)]
    struct Pictures;

    impl ImageStore for Pictures {
        fn len(&self) -> usize {
            8
        }

        fn shape(&self) -> &[usize] {
            &[3, 4, 5]
        }

        fn fill(&self, rows: &[usize], draw: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()> {
            let mut pixels = Array4::zeros((rows.len(), 3, 4, 5));
            for (at, &row) in rows.iter().enumerate() {
                let view =
                    draw.map_or(0, |draw| draw.seed * 1_000_000 + draw.epoch as u64 * 1000 + draw.captions[at] as u64);
                pixels[[at, 0, 0, 0]] = row as f32;
                pixels[[at, 2, 3, 4]] = view as f32;
            }
            *into = Images::Pixels(pixels);
            Ok(())
        }
    }

    #[test]
    #[allow(clippy::cast_sign_loss)] // small whole numbers
    fn a_store_draws_by_seed_epoch_and_caption() {
        let split =
            Split::from_store("train", Arc::new(Pictures), (0..16).map(|i| format!("caption {i}")).collect()).unwrap();
        assert_eq!((split.images.len(), split.images.shape()), (8, &[3, 4, 5][..]));
        let error = split.img_dim().unwrap_err().to_string();
        assert_eq!(error, "train images: expected feature vectors [F], found [3, 4, 5]");
        let pairs = Pairs::new(split, (0..16).map(|i| vec![1, 4 + i % 7, 4 + i % 5, 2]).collect()).unwrap();
        let of_plan = |epochs, first_batch| {
            let plan = Plan { pairs: &pairs, batch_size: 6, seed: 2, epochs, first_batch };
            let mut views = Vec::new();
            prepare_ahead(&plan, |ahead| {
                while let Some(next) = ahead.next_batch().unwrap() {
                    let Images::Pixels(pixels) = &next.batch().images else { panic!("expected pixels") };
                    assert_eq!(pixels.dim(), (next.captions.len(), 3, 4, 5));
                    for (at, &caption) in next.captions.iter().enumerate() {
                        assert_eq!(pixels[[at, 0, 0, 0]], (caption / 2) as f32);
                        assert_eq!(pixels[[at, 2, 3, 4]], (2_000_000 + next.epoch * 1000 + caption) as f32);
                        views.push((next.epoch, next.number, pixels[[at, 2, 3, 4]] as usize));
                    }
                }
            });
            views
        };
        let all = of_plan(0..3, 0);
        assert_eq!(all.len(), 48);
        let rest: Vec<_> = all.iter().copied().filter(|&(epoch, number, _)| (epoch, number) >= (1, 2)).collect();
        assert_eq!(of_plan(1..3, 2), rest, "as if it had never stopped");
        // Without a draw an image is always the same.
        pairs
            .split
            .images
            .in_blocks(|_, images| {
                assert!(images.numbers().unwrap().chunks(60).all(|image| image[59] == 0.0));
                Ok(())
            })
            .unwrap();
        // A model that takes feature vectors refuses pixels, and names both shapes.
        let config = Config { embed_size: 6, word_dim: 3, ..Config::default() }.check().unwrap();
        let batch = EpochOrder::new(16, 6, 0, 0).batch(0, &pairs).unwrap();
        let model = Vse::<f32>::init(config.architecture(20, 60), 0);
        let error = model.forward(&batch, &config.objective(0), Mode::Train, &mut Pass::default()).unwrap_err();
        assert_eq!(error.to_string(), "images: expected [B = 6, F = 60], found [6, 3, 4, 5]");
    }
}
