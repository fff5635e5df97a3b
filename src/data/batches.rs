//! The batches of an epoch: shuffled pairs. The last batch holds what is left.

use super::pairs::Pairs;
use super::store::Draw;
use crate::error::Result;
use crate::model::{Batch, Images};
use crate::random::{permutation, stream};

/// The order of one epoch's pairs: a function of the seed and the epoch alone, so that a resumed run
/// needs to remember only how far it was.
#[derive(Clone, Debug)]
pub(crate) struct EpochOrder {
    /// Each pair as the number of its caption in the split.
    pairs: Vec<usize>,
    batch_size: usize,
    seed: u64,
    epoch: usize,
}

impl EpochOrder {
    /// Shuffles M pairs for an epoch.
    #[must_use]
    pub(crate) fn new(pairs: usize, batch_size: usize, seed: u64, epoch: usize) -> Self {
        let pairs = permutation(&mut stream(seed, &format!("shuffle/{epoch}")), pairs);
        Self { pairs, batch_size, seed, epoch }
    }

    /// How many batches there are.
    #[must_use]
    pub(crate) fn batches(&self) -> usize {
        self.pairs.len().div_ceil(self.batch_size)
    }

    /// The captions of a batch, as numbers in the split.
    #[must_use]
    pub(crate) fn captions(&self, batch: usize) -> &[usize] {
        let start = batch * self.batch_size;
        &self.pairs[start..self.pairs.len().min(start + self.batch_size)]
    }

    /// A batch in memory of its own.
    pub(crate) fn batch(&self, batch: usize, pairs: &Pairs) -> Result<Batch<f32>> {
        let mut filled = Buffer::default();
        filled.fill(self, batch, pairs)?;
        Ok(filled.batch)
    }
}

/// A batch whose memory the next batch reuses.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) batch: Batch<f32>,
    /// The rows of the batch's images in their store.
    rows: Vec<usize>,
    /// The memory of captions that a smaller batch does not need.
    spare: Vec<Vec<u32>>,
}

impl Default for Buffer {
    fn default() -> Self {
        let batch = Batch { images: Images::default(), captions: Vec::new(), image_ids: Vec::new() };
        Self { batch, rows: Vec::new(), spare: Vec::new() }
    }
}

impl Buffer {
    /// Fills the batch: see [`EpochOrder::batch`].
    ///
    /// # Errors
    ///
    /// As [`EpochOrder::batch`]; the batch is then unspecified.
    pub(super) fn fill(&mut self, order: &EpochOrder, batch: usize, of: &Pairs) -> Result<()> {
        let Pairs { split, ids } = of;
        let pairs = order.captions(batch);
        let Batch { images, captions: texts, image_ids } = &mut self.batch;

        image_ids.clear();
        image_ids.extend(pairs.iter().map(|&caption| split.image_of[caption]));
        self.rows.clear();
        self.rows.extend(image_ids.iter().map(|&image| split.images.rows()[image]));
        let draw = Draw { seed: order.seed, epoch: order.epoch, captions: pairs };
        split.images.store().fill(&self.rows, Some(draw), images)?;

        while texts.len() > pairs.len() {
            self.spare.extend(texts.pop());
        }
        while texts.len() < pairs.len() {
            texts.push(self.spare.pop().unwrap_or_default());
        }
        for (text, &caption) in texts.iter_mut().zip(pairs) {
            text.clone_from(&ids[caption]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;
    use ndarray::array;

    #[test]
    fn an_epoch_holds_every_pair_once_and_keeps_the_last_partial_batch() {
        let order = EpochOrder::new(10, 4, 0, 3);
        assert_eq!(order.batches(), 3);
        let sizes: Vec<usize> = (0..3).map(|b| order.captions(b).len()).collect();
        assert_eq!(sizes, [4, 4, 2]);
        let mut all: Vec<usize> = (0..3).flat_map(|b| order.captions(b).to_vec()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_ne!(order.captions(0), EpochOrder::new(10, 4, 0, 4).captions(0), "another epoch, another order");
    }

    #[test]
    fn a_batch_pairs_captions_with_their_images() {
        let captions: Vec<String> = (0..6).map(|i| i.to_string()).collect();
        let split = Split::new("train", array![[10.0], [20.0]], captions).unwrap();
        let pairs = Pairs::new(split, (0..6).map(|i| vec![1, 4 + i, 2]).collect()).unwrap();
        let order = EpochOrder::new(6, 6, 0, 0);
        let batch = order.batch(0, &pairs).unwrap();
        for (row, &caption) in order.captions(0).iter().enumerate() {
            assert_eq!(batch.captions[row], pairs.ids[caption]);
            assert_eq!(batch.image_ids[row], caption / 3);
            assert_eq!(batch.images.features().unwrap()[[row, 0]], if caption < 3 { 10.0 } else { 20.0 });
        }
    }

    /// 6 captions of 2 images, with different lengths.
    fn small() -> Pairs {
        let captions: Vec<String> = (0..6).map(|i| i.to_string()).collect();
        let split = Split::new("train", array![[10.0, 1.0], [20.0, 2.0]], captions).unwrap();
        Pairs::new(split, (0..6).map(|i| vec![4 + i; 2 + i as usize % 3]).collect()).unwrap()
    }

    #[test]
    fn a_buffer_that_is_used_again_holds_what_a_new_one_does() {
        let pairs = small();
        let mut buffer = Buffer::default();
        for (epoch, size) in [(0, 4), (1, 4), (2, 6), (3, 1), (4, 5)] {
            let order = EpochOrder::new(6, size, 0, epoch);
            for number in 0..order.batches() {
                buffer.fill(&order, number, &pairs).unwrap();
                assert_eq!(buffer.batch, order.batch(number, &pairs).unwrap(), "epoch {epoch}, batch {number}");
            }
        }
    }

    #[test]
    fn a_buffer_allocates_nothing_once_it_has_seen_the_largest() {
        let mut pairs = small();
        for ids in &mut pairs.ids {
            ids.resize(4, 0);
        }
        let mut buffer = Buffer::default();
        let memory = |buffer: &Buffer| {
            let Batch { images, captions, image_ids } = &buffer.batch;
            let mut texts: Vec<_> = captions.iter().chain(&buffer.spare).map(Vec::as_ptr).collect();
            texts.sort_unstable();
            (images.numbers().unwrap().as_ptr(), buffer.rows.as_ptr(), image_ids.as_ptr(), captions.as_ptr(), texts)
        };
        // Batches of 4 and 2.
        buffer.fill(&EpochOrder::new(6, 4, 0, 0), 0, &pairs).unwrap();
        let first = memory(&buffer);
        for epoch in 0..3 {
            let order = EpochOrder::new(6, 4, 0, epoch);
            for number in 0..order.batches() {
                buffer.fill(&order, number, &pairs).unwrap();
                assert_eq!(memory(&buffer), first, "epoch {epoch}, batch {number}");
            }
        }
    }
}
