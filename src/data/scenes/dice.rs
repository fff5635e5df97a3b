//! The random numbers of the scenes: one `ChaCha8` stream for each purpose and image.
//!
//! The integer formulas in this file turn `u32` draws into numbers, so neither a new version of a
//! distribution nor a 32-bit machine can change a pixel. Each purpose has its own stream: an additional
//! draw in the grammar changes no picture, and an additional image changes no other image.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Part;

/// The purpose of a stream of random numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The scene: its kind and its free attributes.
    Scene,
    /// The picture of the scene: positions, sizes, light, grain.
    Photograph,
    /// The captions: attributes kept, words, order.
    Captions,
}

/// A stream of random numbers, with the draws that the scenes need.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    rng: ChaCha8Rng,
}

impl Dice {
    /// The stream of `purpose` for one image: the key is the seed, the stream number is
    /// `256·row + 16·split + purpose`.
    pub(super) fn new(seed: u64, split: Part, row: usize, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        let row = row as u64; // usize has at most 64 bits on every platform Rust knows
        rng.set_stream((row << 8) | ((split as u64) << 4) | purpose as u64);
        Self { rng }
    }

    /// An integer in `0..n`: the high word of `u32 · n`. It differs from uniform by less than `n / 2³²`.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        let product = u64::from(self.rng.next_u32()) * u64::from(n);
        (product >> 32) as u32 // the high word: below n by construction
    }

    /// An integer in `low..=high`.
    pub(super) fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = high.abs_diff(low) + 1;
        low.saturating_add_unsigned(self.below(span))
    }

    /// True with a probability of `percent` %.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of the items, uniformly.
    pub(super) fn pick<T: Copy, const N: usize>(&mut self, items: &[T; N]) -> T {
        const { assert!(N > 0, "nothing to pick from") };
        items[self.index(N)]
    }

    /// An index in `0..n`, for tables.
    pub(super) fn index(&mut self, n: usize) -> usize {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.below(n) as usize // u32 fits usize wherever a picture fits memory
    }

    /// Bell-shaped noise: the centred sum of four uniform bytes. Its standard deviation is
    /// `√(4·(256² − 1)/12)` ≈ 148, and it is within ±510.
    pub(super) fn bell(&mut self) -> i32 {
        let bytes = self.rng.next_u32().to_le_bytes();
        bytes.into_iter().map(i32::from).sum::<i32>() - 510
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice(row: usize) -> Dice {
        Dice::new(1, Part::Train, row, Purpose::Scene)
    }

    #[test]
    fn draws_stay_in_range_and_reach_both_ends() {
        let mut dice = dice(0);
        let draws: Vec<i32> = (0..1000).map(|_| dice.between(-2, 3)).collect();
        assert_eq!(draws.iter().min(), Some(&-2));
        assert_eq!(draws.iter().max(), Some(&3));
    }

    #[test]
    fn the_bell_is_centred_and_as_wide_as_stated() {
        let mut dice = dice(1);
        let draws: Vec<f64> = (0..20_000).map(|_| f64::from(dice.bell())).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 4.0, "mean {mean}");
        assert!((variance.sqrt() - 147.8).abs() < 3.0, "variance {variance}");
    }

    #[test]
    fn every_row_split_and_purpose_has_its_own_stream() {
        let first = |split, row, purpose| Dice::new(1, split, row, purpose).rng.next_u64();
        let base = first(Part::Train, 0, Purpose::Scene);
        assert_ne!(base, first(Part::Train, 1, Purpose::Scene));
        assert_ne!(base, first(Part::Dev, 0, Purpose::Scene));
        assert_ne!(base, first(Part::Train, 0, Purpose::Photograph));
        assert_eq!(base, first(Part::Train, 0, Purpose::Scene));
    }
}
