//! Random numbers: `ChaCha8` streams, one for each named purpose.
//!
//! A stream depends only on (seed, purpose). So drawing more numbers in one place changes nothing in
//! another, and no generator state is saved: the shuffle of epoch 7 is the stream `shuffle/7`. Only `u32`
//! and `u64` are drawn, never `usize`, and the formulas that turn them into numbers are in this file. So
//! the bits are the same on every machine and with every version of `rand`. The built-in scenes have
//! their own streams and formulas (`data/scenes/dice.rs`), under the same rules.

use std::fmt::{self, Write};

use ndarray_rand::rand::distr::Distribution;
use ndarray_rand::rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The stream of a purpose: `ChaCha8`, keyed by the seed, with the FNV-1a hash of the name as stream number.
#[must_use]
pub(crate) fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(fnv1a(purpose.as_bytes()));
    rng
}

/// The stream of the purpose `{purpose}/{number}`, without memory for that name: for streams in a step.
#[must_use]
pub(crate) fn numbered_stream(seed: u64, purpose: &str, number: u64) -> ChaCha8Rng {
    let mut name = Hash(FNV_BASIS);
    write!(name, "{purpose}/{number}").expect("hashing does not fail");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(name.0);
    rng
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// The 64-bit FNV-1a hash.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_after(FNV_BASIS, bytes)
}

/// The hash of what has this hash, and these bytes after it.
fn fnv1a_after(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Hashes what is written to it.
struct Hash(u64);

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = fnv1a_after(self.0, text.as_bytes());
        Ok(())
    }
}

/// U(−a, a) on a grid of 2²⁴ points: `a (k / 2²³ − 1)` for the upper 24 bits k of a `u32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symmetric(pub(crate) f64);

impl Distribution<f64> for Symmetric {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> f64 {
        self.0 * (f64::from(rng.next_u32() >> 8) / f64::from(1u32 << 23) - 1.0)
    }
}

/// N(0, σ²) for a standard deviation σ, by Box and Muller (1958): `σ √(−2 ln(1 − u)) cos(2π v)` for the upper 53
/// bits u and v of two `u64`, as fractions. The logarithm and the cosine are `libm`'s, the same on every machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normal(pub(crate) f64);

impl Distribution<f64> for Normal {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> f64 {
        let mut fraction = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let (u, v) = (fraction(), fraction());
        // 1 − u is not 0, so its logarithm is finite.
        self.0 * (-2.0 * libm::log(1.0 - u)).sqrt() * libm::cos(std::f64::consts::TAU * v)
    }
}

/// A number below `n`, by multiplication and shift (Lemire 2019, without the rejection step: the
/// bias is below n / 2⁶⁴).
#[allow(clippy::cast_possible_truncation)] // below n, which is a usize
pub(crate) fn below(rng: &mut impl RngCore, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// 0..n in random order (Fisher and Yates).
#[must_use]
pub(crate) fn permutation(rng: &mut impl RngCore, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(rng, i + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned_and_differ_by_purpose() {
        let first = |seed, purpose| stream(seed, purpose).next_u64();
        assert_eq!(first(0, "shuffle/0"), first(0, "shuffle/0"));
        assert_ne!(first(0, "shuffle/0"), first(0, "shuffle/1"));
        assert_ne!(first(0, "shuffle/0"), first(1, "shuffle/0"));
        assert_eq!(permutation(&mut stream(0, "shuffle/0"), 10), [2, 0, 8, 4, 5, 9, 6, 1, 7, 3], "pinned");
    }

    #[test]
    fn normal_numbers_are_pinned_and_have_the_moments_of_the_normal_law() {
        let mut rng = stream(0, "normal");
        let x: Vec<f64> = (0..100_000).map(|_| Normal(2.0).sample(&mut rng)).collect();
        assert_eq!(
            x[..2].iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            [0xbff4_cff1_15c6_a4ca, 0x3ffc_56e4_beab_e499],
            "pinned"
        );
        // E xᵏ/σᵏ for k = 1 to 4, each within five standard deviations of a mean of 1e5 numbers.
        for (power, expected, deviation) in [(1, 0.0, 1.0f64), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let mean = x.iter().map(|x| (x / 2.0).powi(power)).fold(0.0, |s, x| s + x) / x.len() as f64;
            assert!((mean - expected).abs() < 5.0 * (deviation / x.len() as f64).sqrt(), "{power}: {mean}");
        }
    }

    #[test]
    fn a_numbered_stream_is_that_of_its_name() {
        for number in [0, 7, u64::MAX] {
            assert_eq!(numbered_stream(3, "dropout", number), stream(3, &format!("dropout/{number}")));
        }
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut order = permutation(&mut stream(3, "test"), 1000);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &x)| i == x));
    }
}
