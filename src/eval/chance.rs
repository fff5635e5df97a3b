//! Chance level: the distribution of rsum for random scores.
//!
//! Let all N M scores be independent draws from one continuous distribution, without loss of generality
//! the uniform one on (0, 1). Image n has k of the M captions. Let s be the distance of a right score
//! from 1, and K = 1, 5, 10:
//!
//! ```text
//! image → text   P(rank < K) = 1 − C(M − K, k) / C(M, k)     the best of k among M
//! text → image   P(rank < K) = min(K, N) / N                 the rank is uniform
//! rsum           100 · (mean over images of X + mean over captions of Y)
//!                X = Σ_K [rank < K] of an image, Y the same of a caption
//! E[X]   = Σ_K P_K,   E[X²] = 5 P_1 + 3 P_5 + P_10           the events are nested
//! ```
//!
//! Images are independent of each other, apart from shared rivals, and so are captions. But the score of
//! a right pair counts in both directions: if it is high, both ranks are good. Given s, the two ranks are
//! independent:
//!
//! ```text
//! h(s)      = Σ_K P(Binomial(N − 1, s) < K)                  rivals of a caption's image that are ahead
//! B(s)      = Σ_K P(Binomial(M − k, s) < K)                  rivals of an image's best caption
//! g(s)      = (1 − s)^(k−1) B(s) + ∫_0^s B(t) (k − 1) (1 − t)^(k−2) dt
//! Cov(X, Y) = ∫_0^1 g h ds − ∫_0^1 g ds · ∫_0^1 h ds
//! Var(rsum) = 100² · (Σ Var(X) / N² + Var(Y) / M + 2 Σ k Cov(X, Y) / (N M))
//! ```
//!
//! g(s) is the expected X of an image, given that one of its captions is at distance s. With probability
//! (1 − s)^(k−1) that caption is its best; otherwise the best is another one, at some t < s.
//!
//! The effect of rivals shared by two queries is neglected. It is small: a simulation of whole score
//! matrices differs by 3 % of the standard deviation.

use std::collections::BTreeMap;

/// Mean and standard deviation of rsum for random scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chance {
    /// The mean of rsum.
    pub rsum: f64,
    /// Its standard deviation.
    pub sd: f64,
}

/// The K of R@K.
const KS: [usize; 3] = [1, 5, 10];

impl Chance {
    /// Up to this many standard deviations above the mean, rsum counts as chance.
    pub(crate) const NEAR: f64 = 3.0;
    /// rsum of a perfect model.
    const MOST: f64 = 600.0;

    /// Image n has the captions `starts[n]..starts[n + 1]`. The images are evaluated in `folds` equal
    /// parts, as in [`super::evaluate_folds`]. Each image must have at least one caption, and `folds`
    /// must divide the number of images.
    #[must_use]
    pub(crate) fn of(starts: &[usize], folds: usize) -> Self {
        let images = starts.len().saturating_sub(1);
        let size = (images / folds.max(1)).max(1);
        let counts: Vec<usize> = starts.windows(2).map(|w| w[1] - w[0]).collect();
        let parts: Vec<(f64, f64)> = counts.chunks(size).map(mean_and_variance).collect();
        let n = parts.len().max(1) as f64;
        let (mean, variance) = parts.iter().fold((0.0, 0.0), |(m, v), part| (m + part.0, v + part.1));
        Self { rsum: mean / n, sd: variance.max(0.0).sqrt() / n }
    }

    /// Whether random scores explain this rsum: it is at most [`Self::NEAR`] standard deviations above
    /// the mean. Always false if there are too few images to decide, that is if even the best possible
    /// rsum is not twice as far from the mean.
    #[must_use]
    pub(crate) fn explains(&self, rsum: f64) -> bool {
        let near = Self::NEAR * self.sd;
        rsum <= self.rsum + near && self.rsum + 2.0 * near < Self::MOST
    }
}

/// Mean and variance of one part; `counts` has the number of captions of each image.
fn mean_and_variance(counts: &[usize]) -> (f64, f64) {
    let (n, m) = (counts.len(), counts.iter().sum::<usize>());
    let (images, captions) = (n as f64, m as f64);
    let mut of_counts = BTreeMap::new();
    for &k in counts {
        *of_counts.entry(k).or_insert(0.0) += 1.0;
    }
    let nested = |p: [f64; 3]| {
        let mean = p[0] + p[1] + p[2];
        (mean, 5.0 * p[0] + 3.0 * p[1] + p[2] - mean * mean)
    };
    let (mut mean, mut variance) = nested(KS.map(|k| k.min(n) as f64 / images));
    variance /= captions;
    let grid = Grid::new(n, m);
    let h: Vec<f64> = grid.s.iter().map(|&s| few_ahead(n - 1, s)).collect();
    for (k, times) in of_counts {
        let (of_one, spread) = nested(KS.map(|best| 1.0 - none_of(best, k, m)));
        mean += times * of_one / images;
        variance += times * spread / (images * images);
        variance += 2.0 * times * k as f64 * grid.covariance(k, m, &h) / (images * captions);
    }
    (100.0 * mean, 1e4 * variance)
}

/// C(m − best, k) / C(m, k): the probability that none of k draws is among the best.
fn none_of(best: usize, k: usize, m: usize) -> f64 {
    (0..k).fold(1.0, |p, drawn| p * m.saturating_sub(best + drawn) as f64 / (m - drawn) as f64)
}

/// `Σ_K P(Binomial(n, s) < K)`.
fn few_ahead(n: usize, s: f64) -> f64 {
    let rivals = n as f64;
    let (mut term, mut below, mut sum) = (1.0, 0.0, 0.0);
    for ahead in 0..=KS[2] {
        // At each K, add the partial sum up to K.
        if KS.contains(&ahead) {
            sum += below;
        }
        if ahead <= n {
            let among = libm::pow(1.0 - s, rivals - ahead as f64);
            below += term * among;
            term *= s * (rivals - ahead as f64) / (ahead as f64 + 1.0);
        }
    }
    sum
}

/// Points s = e^(−w) with w equally spaced, because the functions change where s is about 1 / M or 1 / N.
struct Grid {
    s: Vec<f64>,
    step: f64,
}

impl Grid {
    const POINTS: u32 = 400;

    fn new(n: usize, m: usize) -> Self {
        let last = libm::log(n as f64 * m as f64) + 12.0;
        let step = last / f64::from(Self::POINTS);
        Self { s: (0..=Self::POINTS).map(|i| libm::exp(-step * f64::from(i))).collect(), step }
    }

    /// ∫_0^1 f ds by trapezoids in w, ds = −s dw.
    fn integral(&self, f: impl Fn(usize) -> f64) -> f64 {
        let last = self.s.len() - 1;
        (0..last).fold(0.0, |sum, i| sum + self.area(f(i) * self.s[i], f(i + 1) * self.s[i + 1]))
    }

    fn area(&self, from: f64, to: f64) -> f64 {
        0.5 * self.step * (from + to)
    }

    fn covariance(&self, k: usize, m: usize, h: &[f64]) -> f64 {
        let own = k as f64;
        let b: Vec<f64> = self.s.iter().map(|&s| few_ahead(m - k, s)).collect();
        // (k − 1) (1 − t)^(k−2) B(t) t; one caption has no others.
        let others = |i: usize| {
            if k == 1 { 0.0 } else { b[i] * (own - 1.0) * libm::pow(1.0 - self.s[i], own - 2.0) * self.s[i] }
        };
        let mut g = vec![0.0; b.len()];
        let mut below = 0.0;
        for i in (0..b.len()).rev() {
            if i + 1 < b.len() {
                below += self.area(others(i), others(i + 1));
            }
            g[i] = libm::pow(1.0 - self.s[i], own - 1.0) * b[i] + below;
        }
        self.integral(|i| g[i] * h[i]) - self.integral(|i| g[i]) * self.integral(|i| h[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::evaluate_folds;
    use crate::random::stream;
    use crate::similarity::Measure;
    use ndarray::Array2;
    use ndarray_rand::rand::RngCore;

    fn starts(counts: &[usize]) -> Vec<usize> {
        std::iter::once(0)
            .chain(counts.iter().scan(0, |sum, k| {
                Some({
                    *sum += k;
                    *sum
                })
            }))
            .collect()
    }

    /// Mean and standard deviation of rsum over random scores. The image vectors are unit vectors, so a
    /// caption's vector holds its scores.
    fn simulated(counts: &[usize], folds: usize, times: usize) -> Chance {
        let (starts, mut rng) = (starts(counts), stream(0, "chance"));
        let (n, m) = (counts.len(), starts[counts.len()]);
        let images = Array2::eye(n);
        let rsums: Vec<f64> = (0..times)
            .map(|_| {
                let captions = Array2::from_shape_simple_fn((m, n), || (rng.next_u32() >> 8) as f32);
                evaluate_folds(images.view(), captions.view(), &starts, Measure::Cosine, folds).unwrap().rsum
            })
            .collect();
        let mean = rsums.iter().fold(0.0, |sum, x| sum + x) / times as f64;
        let variance = rsums.iter().fold(0.0, |sum, x| sum + (x - mean).powi(2)) / (times - 1) as f64;
        Chance { rsum: mean, sd: variance.sqrt() }
    }

    #[test]
    fn mean_and_deviation_match_a_simulation() {
        let uneven: Vec<usize> = (0..40).map(|n| [3, 1][n % 2]).collect();
        let cases: [(&[usize], usize); 6] =
            [(&[5; 40], 1), (&[3; 12], 1), (&[1; 50], 1), (&uneven, 1), (&[5; 60], 3), (&[20; 30], 1)];
        for (counts, folds) in cases {
            const TIMES: usize = 1000;
            let (found, expected) = (Chance::of(&starts(counts), folds), simulated(counts, folds, TIMES));
            // Four standard errors of the simulated mean.
            let error = 4.0 * expected.sd / (TIMES as f64).sqrt();
            assert!((found.rsum - expected.rsum).abs() < error, "{counts:?}: {found:?}, simulated {expected:?}");
            // 3 % for shared rivals, and four standard errors of the simulated standard deviation.
            let share = found.sd / expected.sd;
            assert!(
                (share - 1.0).abs() < 0.03 + 4.0 / (2.0 * TIMES as f64).sqrt(),
                "{counts:?}: {found:?}, {expected:?}"
            );
        }
    }

    #[test]
    fn by_hand() {
        // Two images with a caption each: R@5 and R@10 are 100 both ways, R@1 is 0 or 100 for each of
        // four queries.
        let chance = Chance::of(&[0, 1, 2], 1);
        approx::assert_relative_eq!(chance.rsum, 500.0);
        // 1000 images with five captions: 0.1 + 0.5 + 1 per cent in one direction. In the other,
        // P(rank < 1) is 5 / 5000, and so on.
        let even: Vec<usize> = (0..=1000).map(|n| 5 * n).collect();
        approx::assert_relative_eq!(Chance::of(&even, 1).rsum, 3.1956, max_relative = 1e-4);
        assert_eq!(none_of(1, 2, 4), 0.5);
        assert_eq!(none_of(10, 3, 12), 0.0);
        approx::assert_relative_eq!(few_ahead(2, 0.5), 0.25 + 1.0 + 1.0);
    }

    #[test]
    fn chance_is_detected_unless_there_are_too_few_images() {
        let even = |n: usize, k: usize| Chance::of(&(0..=n).map(|i| k * i).collect::<Vec<_>>(), 1);
        let forty = even(40, 5);
        for rsum in [0.0, 68.0, 70.5, 76.0, forty.rsum + 2.9 * forty.sd] {
            assert!(forty.explains(rsum), "{rsum}");
        }
        assert!(!forty.explains(forty.rsum + 3.1 * forty.sd) && !forty.explains(181.2));
        for (n, k) in [(1, 1), (2, 1), (5, 5), (5, 1), (6, 5)] {
            assert!(!even(n, k).explains(0.0), "{n} images with {k} captions are too few to decide");
        }
        assert_eq!(Chance::of(&[0], 1), Chance { rsum: 0.0, sd: 0.0 });
        // The result is finite for many images too.
        let many = even(30_000, 5);
        assert!(many.rsum > 0.1 && many.sd > 0.0 && many.sd < many.rsum);
    }
}
