//! Batch normalisation of pictures, channel by channel (Ioffe and Szegedy 2015, algorithms 1 and 2).
//!
//! ```text
//! (BN-1)   μ = Σ x / M, σ² = Σ (x − μ)² / M                       the batch's statistics, M = N H W
//! (BN-2)   y = γ (x − μ) / √(σ² + ε) + β                          ε = 1e-5
//! (BN-3)   running ← 0.9 running + 0.1 batch, the variance as σ² M / (M − 1)
//! (BN-2′)  dγ += Σ dy x̂, dβ += Σ dy, x̂ = (x − μ) / √(σ² + ε)
//! (BN-2′)  dx = γ dy / √(σ² + ε)                                  with running statistics
//! (BN-1′)  dx = γ (dy − (Σ dy + x̂ Σ dy x̂) / M) / √(σ² + ε)        with the batch's
//! ```
//!
//! Shapes: x, y [N, C, H, W]; γ, β, μ, σ² `[C]`. The sums run over N, H and W.
//!
//! **Which statistics.** [`Mode::Train`] takes those of the batch, [`Mode::Eval`] the running ones. A backward pass
//! may follow either: the cache remembers which they were. So *frozen* statistics are a forward pass in
//! [`Mode::Eval`]; γ and β still learn, and the pictures of a batch do not depend on each other.
//!
//! **When the running ones move.** A forward pass changes no layer. [`BatchNorm::update`] does (BN-3) from the cache,
//! once for each step, however often the pass was computed again.
//!
//! As in PyTorch, y is normalised with the variance of the M numbers, and the running variance gets the unbiased
//! one. γ = 1, β = 0, running mean 0 and running variance 1 at first.

use ndarray::{Array1, Array4, ArrayView4, Axis};

use super::relu::rectified;
use super::{Layer, Mode, Tensor};
use crate::error::{Error, Result};
use crate::linalg::{self, Planes, Write};
use crate::real::{Real, Scalar};
use crate::simd::vectorized;

/// ε of (BN-2), inside the root: running variances may be 0.
const EPSILON: f64 = 1e-5;
/// How far (BN-3) moves the running statistics.
const MOMENTUM: f64 = 0.1;

/// A normalisation of C channels.
///
/// ```
/// use ndarray::{Array4, array};
/// use vsepp::nn::{BatchNorm, BatchNormCache, Layer, Mode, Module};
///
/// # fn main() -> vsepp::Result<()> {
/// let mut layer = BatchNorm::<f64>::zeros(1);
/// layer.init(0);
/// let x = Array4::from_shape_vec((1, 1, 1, 2), vec![1.0, 3.0]).expect("two numbers");
/// let mut cache = BatchNormCache::default();
/// layer.forward(x.view(), Mode::Train, &mut cache)?;
/// assert_eq!((&cache.mean, &cache.var), (&array![2.0], &array![1.0]));
/// assert!((cache.y[[0, 0, 0, 1]] - 1.0).abs() < 1e-5);
///
/// layer.update(&cache); // the unbiased variance of 1 and 3 is 2
/// assert_eq!((layer.running_mean, layer.running_var), (array![0.2], array![1.1]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm<T> {
    /// γ `[C]`
    pub weight: Array1<T>,
    /// β `[C]`
    pub bias: Array1<T>,
    /// The running mean `[C]`.
    pub running_mean: Array1<T>,
    /// The running variance `[C]`.
    pub running_var: Array1<T>,
}

crate::module!(
    BatchNorm<T>,
    layer {
        weight: Tensor::constant(1.0),
        bias: Tensor::constant(0.0),
        running_mean: Tensor::buffer(0.0),
        running_var: Tensor::buffer(1.0),
    }
);

impl<T: Clone + Default> BatchNorm<T> {
    /// C channels, all zeros.
    #[must_use]
    pub fn zeros(channels: usize) -> Self {
        let zeros = Array1::default(channels);
        Self { weight: zeros.clone(), bias: zeros.clone(), running_mean: zeros.clone(), running_var: zeros }
    }
}

/// What [`BatchNorm`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct BatchNormCache<T> {
    /// y [N, C, H, W]
    pub y: Array4<T>,
    /// μ `[C]` of this pass.
    pub mean: Array1<T>,
    /// σ² `[C]` of this pass, divided by M, not M − 1.
    pub var: Array1<T>,
    /// M, if the statistics are the batch's; none, if they are the running ones.
    pub count: Option<usize>,
    /// Σ dy x̂ and Σ dy, `[C]`.
    d_weight: Array1<T>,
    d_bias: Array1<T>,
}

impl<T: Scalar> BatchNormCache<T> {
    /// 1 / √(σ² + ε) of a channel.
    fn inverse_deviation(&self, channel: usize) -> T {
        inverse_deviation(self.var[channel])
    }
}

/// 1 / √(σ² + ε)
fn inverse_deviation<T: Scalar>(var: T) -> T {
    T::one() / (var + T::from_f64(EPSILON)).sqrt()
}

/// (BN-2) of one channel.
#[derive(Clone, Copy)]
pub(super) struct ChannelNorm<T> {
    mean: T,
    /// γ / √(σ² + ε)
    scale: T,
    bias: T,
}

impl<T: Scalar> ChannelNorm<T> {
    /// y of x.
    #[inline(always)]
    pub(super) fn of(&self, x: T) -> T {
        // (BN-2)  y = γ (x − μ) / √(σ² + ε) + β
        self.scale * (x - self.mean) + self.bias
    }
}

impl<T: Scalar> Layer<T> for BatchNorm<T> {
    /// x [N, C, H, W]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array4<T>;
    type Dx = Array4<T>;
    type Cache = BatchNormCache<T>;

    /// # Errors
    ///
    /// If M < 2 in [`Mode::Train`]: one number has no variance.
    fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut BatchNormCache<T>) -> Result<()> {
        let x = x.as_standard_layout();
        self.statistics(x.view(), mode, cache)?;
        self.normalise(
            Planes::of(&x),
            x.dim(),
            #[inline(always)]
            |y| y,
            cache,
        );
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut BatchNormCache<T>,
        dy: &Array4<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        assert_eq!(x.dim(), dy.dim(), "dy of x");
        let (x, dy) = (x.as_standard_layout(), dy.as_standard_layout());
        let (x_planes, dy_planes, channels) = (Planes::of(&x), Planes::of(&dy), x.dim().1);
        let mut sums = (std::mem::take(&mut cache.d_weight), std::mem::take(&mut cache.d_bias));
        linalg::each_channel(x_planes, &mut sums.0, &mut sums.1, |c| {
            let (mean, inverse) = (cache.mean[c], cache.inverse_deviation(c));
            // (BN-2′)  dγ += Σ dy x̂, dβ += Σ dy, x̂ = (x − μ) / √(σ² + ε)
            let d_weight = linalg::channel_sum(x_planes, dy_planes, c, |x, dy| dy * ((x - mean) * inverse));
            (d_weight, linalg::channel_sum(dy_planes, dy_planes, c, |dy, _| dy))
        });
        (cache.d_weight, cache.d_bias) = sums;
        for (total, grad) in [(&cache.d_weight, &mut grad.weight), (&cache.d_bias, &mut grad.bias)] {
            if !grad.is_empty() {
                linalg::column_sums(total.view().insert_axis(Axis(0)), write, grad);
            }
        }
        let Some(dx) = dx else { return };
        linalg::reshape(dx, x.dim());
        linalg::each_plane(dx, |k, dx| {
            let c = k % channels;
            let (mean, inverse) = (cache.mean[c], cache.inverse_deviation(c));
            let scale = self.weight[c] * inverse;
            let (x, dy) = (x_planes.plane(k), dy_planes.plane(k));
            if let Some(m) = cache.count {
                let one = T::one() / T::from_f64(m as f64);
                let (d_weight, d_bias) = (cache.d_weight[c], cache.d_bias[c]);
                vectorized(
                    #[inline(always)]
                    || {
                        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                            let hat = (x - mean) * inverse;
                            // (BN-1′)  dx = γ (dy − (Σ dy + x̂ Σ dy x̂) / M) / √(σ² + ε)
                            *dx = scale * (dy - (d_bias + hat * d_weight) * one);
                        }
                    },
                );
            } else {
                // (BN-2′)  dx = γ dy / √(σ² + ε)
                vectorized(
                    #[inline(always)]
                    || dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = scale * dy),
                );
            }
        });
    }
}

impl<T: Scalar> BatchNorm<T> {
    fn of_channel(&self, c: usize, mean: T, var: T) -> ChannelNorm<T> {
        ChannelNorm { mean, scale: self.weight[c] * inverse_deviation(var), bias: self.bias[c] }
    }

    /// The norm of every channel with running statistics.
    pub(super) fn running(&self) -> Vec<ChannelNorm<T>> {
        let statistics = self.running_mean.iter().zip(&self.running_var).enumerate();
        statistics.map(|(c, (&mean, &var))| self.of_channel(c, mean, var)).collect()
    }

    /// (BN-1): μ and σ² of the pass, for the cache.
    fn statistics(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut BatchNormCache<T>) -> Result<()> {
        let (pictures, channels, rows, columns) = x.dim();
        assert_eq!(channels, self.weight.len(), "the channels of x {:?}", x.dim());
        let m = pictures * rows * columns;
        if mode == Mode::Train && m < 2 {
            let expected = "two numbers per channel or more (N · H · W), to take their variance";
            return Err(Error::shape("x", expected, x.shape()));
        }
        let x = x.as_standard_layout();
        let planes = Planes::of(&x);
        cache.count = (mode == Mode::Train).then_some(m);
        if mode == Mode::Train {
            let count = T::from_f64(m as f64);
            linalg::each_channel(planes, &mut cache.mean, &mut cache.var, |c| {
                // (BN-1)  μ = Σ x / M, σ² = Σ (x − μ)² / M
                let mean = linalg::channel_sum(planes, planes, c, |x, _| x) / count;
                let var = linalg::channel_sum(planes, planes, c, |x, _| (x - mean) * (x - mean)) / count;
                (mean, var)
            });
        } else {
            cache.mean.clone_from(&self.running_mean);
            cache.var.clone_from(&self.running_var);
        }
        Ok(())
    }

    /// A forward pass whose y is max(0, y).
    pub(crate) fn forward_rectified(&self, x: &Array4<T>, mode: Mode, cache: &mut BatchNormCache<T>) -> Result<()> {
        self.statistics(x.view(), mode, cache)?;
        self.rectified_again(x, cache);
        Ok(())
    }

    /// (BN-2) with the statistics of the cache, and `then` of every y.
    fn normalise(
        &self,
        x: Planes<'_, T>,
        shape: (usize, usize, usize, usize),
        then: impl Fn(T) -> T + Sync,
        cache: &mut BatchNormCache<T>,
    ) {
        let mut y = std::mem::take(&mut cache.y);
        linalg::reshape(&mut y, shape);
        linalg::each_plane(&mut y, |k, y| {
            let c = k % shape.1;
            let norm = self.of_channel(c, cache.mean[c], cache.var[c]);
            vectorized(
                #[inline(always)]
                || {
                    for (y, &x) in y.iter_mut().zip(x.plane(k)) {
                        *y = then(norm.of(x));
                    }
                },
            );
        });
        cache.y = y;
    }

    /// max(0, y) of the x of the last forward pass, with its statistics, in place of y.
    pub(crate) fn rectified_again(&self, x: &Array4<T>, cache: &mut BatchNormCache<T>) {
        self.normalise(Planes::of(x), x.dim(), rectified, cache);
    }

    /// Moves the running statistics towards those of the pass: once after each step. Nothing moves if the pass took
    /// the running ones.
    pub fn update(&mut self, cache: &BatchNormCache<T>) {
        let Some(m) = cache.count else { return };
        let (keep, take) = (T::from_f64(1.0 - MOMENTUM), T::from_f64(MOMENTUM));
        let unbiased = T::from_f64(m as f64 / (m - 1) as f64);
        // (BN-3)  running ← 0.9 running + 0.1 batch, the variance as σ² M / (M − 1)
        self.running_mean.zip_mut_with(&cache.mean, |running, &mean| *running = keep * *running + take * mean);
        self.running_var.zip_mut_with(&cache.var, |running, &var| *running = keep * *running + take * (var * unbiased));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// 1, 3 | 5, 7 in channel 0 and 0, 0 | 2, 2 in channel 1, of two pictures of 1 × 2 pixels.
    fn x() -> Array4<f64> {
        Array4::from_shape_vec((2, 2, 1, 2), vec![1.0, 3.0, 0.0, 0.0, 5.0, 7.0, 2.0, 2.0]).unwrap()
    }

    /// ε does not show: the variances are 1 less ε.
    fn layer() -> BatchNorm<f64> {
        BatchNorm {
            weight: array![2.0, 3.0],
            bias: array![10.0, 20.0],
            running_mean: array![1.0, 2.0],
            running_var: array![1.0 - EPSILON, 0.25 - EPSILON],
        }
    }

    fn run(layer: &BatchNorm<f64>, x: &Array4<f64>, mode: Mode) -> BatchNormCache<f64> {
        let mut cache = BatchNormCache::default();
        layer.forward(x.view(), mode, &mut cache).unwrap();
        cache
    }

    fn back(
        layer: &BatchNorm<f64>,
        cache: &mut BatchNormCache<f64>,
        dy: &Array4<f64>,
    ) -> (BatchNorm<f64>, Array4<f64>) {
        let (mut grad, mut dx) = (layer.clone(), Array4::zeros((0, 0, 0, 0)));
        layer.backward(x().view(), cache, dy, Write::Replace, &mut grad, Some(&mut dx));
        (grad, dx)
    }

    #[test]
    fn bn_1_and_2_by_hand() {
        let cache = run(&layer(), &x(), Mode::Train);
        // Channel 0: mean 4, deviations −3, −1, 1, 3. Channel 1: mean 1, deviations −1, −1, 1, 1.
        assert_eq!((&cache.mean, &cache.var, cache.count), (&array![4.0, 1.0], &array![5.0, 1.0], Some(4)));
        let y = |c: usize, deviation: f64| {
            let layer = layer();
            layer.weight[c] * deviation / (cache.var[c] + 1e-5).sqrt() + layer.bias[c]
        };
        let expected = [y(0, -3.0), y(0, -1.0), y(1, -1.0), y(1, -1.0), y(0, 1.0), y(0, 3.0), y(1, 1.0), y(1, 1.0)];
        let expected = Array4::from_shape_vec((2, 2, 1, 2), expected.to_vec()).unwrap();
        approx::assert_abs_diff_eq!(cache.y, expected, epsilon = 1e-14);

        let cache = run(&layer(), &x(), Mode::Eval);
        let expected = vec![10.0, 14.0, 8.0, 8.0, 18.0, 22.0, 20.0, 20.0];
        let expected = Array4::from_shape_vec((2, 2, 1, 2), expected).unwrap();
        approx::assert_abs_diff_eq!(cache.y, expected, epsilon = 1e-14);
        assert_eq!(cache.count, None);
    }

    #[test]
    fn bn_2_gradients_with_running_statistics_by_hand() {
        let mut cache = run(&layer(), &x(), Mode::Eval);
        let dy = Array4::from_shape_vec((2, 2, 1, 2), vec![1.0, 0.0, 1.0, 2.0, 0.0, 2.0, 0.0, 1.0]).unwrap();
        let (grad, dx) = back(&layer(), &mut cache, &dy);
        // x̂ = (0, 2, 4, 6) and (−4, −4, 0, 0).
        approx::assert_abs_diff_eq!(grad.weight, array![12.0, -12.0], epsilon = 1e-12);
        assert_eq!(grad.bias, array![3.0, 4.0]);
        let expected = vec![2.0, 0.0, 6.0, 12.0, 0.0, 4.0, 0.0, 6.0];
        approx::assert_abs_diff_eq!(dx, Array4::from_shape_vec((2, 2, 1, 2), expected).unwrap(), epsilon = 1e-12);
        assert_eq!(grad.running_mean, layer().running_mean, "a buffer has no gradient");
    }

    #[test]
    fn bn_1_gradient_has_no_part_along_1_and_along_the_input() {
        // y does not change if a channel moves, and hardly if it grows: ε.
        let mut cache = run(&layer(), &x(), Mode::Train);
        let dy = Array4::from_shape_fn((2, 2, 1, 2), |(n, c, _, j)| (n * n + 3 * c + 5 * j * n) as f64);
        let (_, dx) = back(&layer(), &mut cache, &dy);
        for c in 0..2 {
            let of = |x: &Array4<f64>| x.index_axis(Axis(1), c).iter().copied().collect::<Vec<f64>>();
            let (dx, x) = (of(&dx), of(&x()));
            assert!(dx.iter().any(|dx| dx.abs() > 0.1), "{dx:?}");
            assert!(linalg::dot(&dx, &[1.0; 4]).abs() < 1e-12, "{dx:?}");
            assert!(linalg::dot(&dx, &x).abs() < 1e-3, "{dx:?}"); // ε, as a part of σ²
        }
        // By hand in channel 0, where dy = 0, 0, 1, 6: Σ dy = 7, Σ dy x̂ = 19 / √5.
        let expected = [0.0f64, 0.0, 1.0, 6.0].iter().zip([-3.0, -1.0, 1.0, 3.0]);
        let expected: Vec<f64> =
            expected.map(|(dy, d)| 2.0 / 5f64.sqrt() * (dy - (7.0 + d * 19.0 / 5.0) / 4.0)).collect();
        let found: Vec<f64> = dx.index_axis(Axis(1), 0).iter().copied().collect();
        approx::assert_relative_eq!(found[..], expected[..], epsilon = 1e-4);
    }

    #[test]
    fn bn_3_moves_by_a_tenth_with_the_unbiased_variance() {
        let mut moved = layer();
        moved.update(&run(&layer(), &x(), Mode::Eval));
        assert_eq!(moved, layer(), "running statistics do not move towards themselves");
        moved.update(&run(&layer(), &x(), Mode::Train));
        approx::assert_abs_diff_eq!(moved.running_mean, array![0.9 + 0.4, 1.8 + 0.1], epsilon = 1e-15);
        let var = [0.9 * (1.0 - EPSILON) + 0.1 * 20.0 / 3.0, 0.9 * (0.25 - EPSILON) + 0.1 * 4.0 / 3.0];
        approx::assert_abs_diff_eq!(moved.running_var, Array1::from_vec(var.to_vec()), epsilon = 1e-15);
    }

    #[test]
    fn one_number_per_channel_is_an_error_in_training_alone() {
        let x = Array4::<f64>::ones((1, 2, 1, 1));
        let error = layer().forward(x.view(), Mode::Train, &mut BatchNormCache::default()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("x: expected two numbers per channel") && message.ends_with("[1, 2, 1, 1]"),
            "{message}"
        );
        run(&layer(), &x, Mode::Eval);
    }

    #[test]
    fn any_layout_and_any_number_of_threads_give_the_same_bits() {
        let x = Array4::from_shape_fn((5, 3, 40, 41), |(n, c, i, j)| {
            f64::from(((n * 7919 + c * 104_729 + i * 1299 + j * 15_485) % 1009) as u32) / 331.0
        });
        let layer = BatchNorm { weight: array![1.5, 0.5, 2.0], bias: array![0.1, 0.2, 0.3], ..BatchNorm::zeros(3) };
        let run = |threads: usize, x: ArrayView4<'_, f64>| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (mut cache, mut grad, mut dx) = (BatchNormCache::default(), layer.clone(), Array4::zeros((0, 0, 0, 0)));
            pool.install(|| layer.forward(x, Mode::Train, &mut cache)).unwrap();
            let dy = cache.y.mapv(|y| y * y);
            pool.install(|| layer.backward(x, &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx)));
            (cache.y, cache.mean, cache.var, grad, dx)
        };
        let one = run(1, x.view());
        for threads in [2, 5] {
            assert!(run(threads, x.view()) == one, "{threads} threads");
        }
        let mut channels_last = Array4::zeros((5, 40, 41, 3));
        channels_last.assign(&x.view().permuted_axes([0, 2, 3, 1]));
        assert!(run(2, channels_last.view().permuted_axes([0, 3, 1, 2])) == one, "channels last");
    }
}
