//! The batches of an epoch: shuffled pairs, the last one as large as what is left.

use ndarray::Array2;

use super::split::Split;
use crate::model::Batch;
use crate::random::{permutation, stream};

/// The order of one epoch's pairs: a function of the seed and the epoch alone, so that a run that is
/// taken up again needs to remember only how far it was.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    pairs: Vec<usize>,
    batch_size: usize,
}

impl EpochOrder {
    /// Shuffles M pairs for an epoch.
    #[must_use]
    pub fn new(pairs: usize, batch_size: usize, seed: u64, epoch: usize) -> Self {
        let pairs = permutation(&mut stream(seed, &format!("shuffle/{epoch}")), pairs);
        Self { pairs, batch_size }
    }

    /// How many batches there are.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.pairs.len().div_ceil(self.batch_size)
    }

    /// The captions of a batch, as numbers.
    #[must_use]
    pub fn captions(&self, batch: usize) -> &[usize] {
        let start = batch * self.batch_size;
        &self.pairs[start..self.pairs.len().min(start + self.batch_size)]
    }

    /// A batch's images, captions and image numbers.
    #[must_use]
    pub fn batch(&self, batch: usize, split: &Split, captions: &[Vec<u32>]) -> Batch<f32> {
        let pairs = self.captions(batch);
        let mut images = Array2::zeros((pairs.len(), split.images.ncols()));
        for (mut row, &caption) in images.outer_iter_mut().zip(pairs) {
            row.assign(&split.features_of(caption));
        }
        Batch {
            images,
            captions: pairs.iter().map(|&caption| captions[caption].clone()).collect(),
            image_ids: pairs.iter().map(|&caption| split.image_of[caption]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let ids: Vec<Vec<u32>> = (0..6).map(|i| vec![1, 4 + i, 2]).collect();
        let order = EpochOrder::new(6, 6, 0, 0);
        let batch = order.batch(0, &split, &ids);
        for (row, &caption) in order.captions(0).iter().enumerate() {
            assert_eq!(batch.captions[row], ids[caption]);
            assert_eq!(batch.image_ids[row], caption / 3);
            assert_eq!(batch.images[[row, 0]], if caption < 3 { 10.0 } else { 20.0 });
        }
    }
}
