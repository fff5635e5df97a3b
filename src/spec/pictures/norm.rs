//! Batch normalisation, ReLU, dropout, flatten.
use super::*;

pub(crate) const EPSILON: f64 = 1e-5;

/// γ and β; the running statistics, which are no parameters. All `[C]`.
#[derive(Clone, Debug)]
pub struct BatchNorm<T> {
    pub weight: Array1<T>,
    pub bias: Array1<T>,
    pub running_mean: Array1<T>,
    pub running_var: Array1<T>,
}

/// μ and σ² `[C]` of a batch.
pub fn batch_statistics<T: Scalar>(x: &Array4<T>) -> (Array1<T>, Array1<T>) {
    let m = T::from_f64((x.len() / x.dim().1) as f64);
    let (mut mean, mut var) = (Array1::zeros(x.dim().1), Array1::zeros(x.dim().1));
    for c in 0..mean.len() {
        // (BN-1)  μ = Σ x / M, σ² = Σ (x − μ)² / M
        mean[c] = channel_sum(x, c) / m;
        var[c] = channel_sum(&x.mapv(|x| (x - mean[c]) * (x - mean[c])), c) / m;
    }
    (mean, var)
}

/// x [N, C, H, W] and the statistics, of the batch or running ones, give y [N, C, H, W].
pub fn batch_norm<T: Scalar>(w: &BatchNorm<T>, x: &Array4<T>, mean: &Array1<T>, var: &Array1<T>) -> Array4<T> {
    Array4::from_shape_fn(x.dim(), |(n, c, i, j)| {
        let sigma = (var[c] + T::from_f64(EPSILON)).sqrt();
        w.weight[c] * (x[[n, c, i, j]] - mean[c]) / sigma + w.bias[c] // (BN-2)  y = γ (x − μ) / √(σ² + ε) + β
    })
}

/// dy [N, C, H, W] gives dγ, dβ and dx. The statistics are those of this batch, or running ones.
pub fn batch_norm_backward<T: Real>(
    w: &BatchNorm<T>,
    x: &Array4<T>,
    (mean, var): (&Array1<T>, &Array1<T>),
    of_batch: bool,
    dy: &Array4<T>,
) -> (Array1<T>, Array1<T>, Array4<T>) {
    let m = T::from_f64((x.len() / x.dim().1) as f64);
    let sigma = var.mapv(|var| (var + T::from_f64(EPSILON)).sqrt());
    let hat = Array4::from_shape_fn(x.dim(), |(n, c, i, j)| (x[[n, c, i, j]] - mean[c]) / sigma[c]);
    // (BN-2′)  dγ += Σ dy x̂, dβ += Σ dy, x̂ = (x − μ) / √(σ² + ε)
    let d_weight: Array1<T> = (0..mean.len()).map(|c| channel_sum(&(dy * &hat), c)).collect();
    let d_bias: Array1<T> = (0..mean.len()).map(|c| channel_sum(dy, c)).collect();
    let dx = Array4::from_shape_fn(x.dim(), |at| {
        let (c, scale) = (at.1, w.weight[at.1] / sigma[at.1]);
        if of_batch {
            // (BN-1′)  dx = γ (dy − (Σ dy + x̂ Σ dy x̂) / M) / √(σ² + ε)
            scale * (dy[at] - (d_bias[c] + hat[at] * d_weight[c]) / m)
        } else {
            scale * dy[at] // (BN-2′)  dx = γ dy / √(σ² + ε)
        }
    });
    (d_weight, d_bias, dx)
}

/// The running statistics after a step move a tenth towards those of a batch with M numbers per channel.
pub fn batch_norm_update<T: Scalar>(w: &mut BatchNorm<T>, mean: &Array1<T>, var: &Array1<T>, m: usize) {
    let unbiased = T::from_f64(m as f64 / (m - 1) as f64);
    let (keep, take) = (T::from_f64(0.9), T::from_f64(0.1));
    // (BN-3)  running ← 0.9 running + 0.1 batch, the variance as σ² M / (M − 1)
    w.running_mean.zip_mut_with(mean, |running, &batch| *running = keep * *running + take * batch);
    w.running_var.zip_mut_with(var, |running, &batch| *running = keep * *running + take * (batch * unbiased));
}

pub fn relu<T: Scalar>(x: &Array4<T>) -> Array4<T> {
    x.mapv(|x| if x.re() <= 0.0 { T::zero() } else { x }) // (RELU-1)  y = max(0, x)
}

pub fn relu_backward<T: Real>(x: &Array4<T>, dy: &Array4<T>) -> Array4<T> {
    let open = |x: T| if x <= T::zero() { T::zero() } else { T::one() };
    x.mapv(open) * dy // (RELU-1′)  dx = dy where x > 0, else 0
}

/// x [N, D] and the kept places m give y [N, D]; with dy for x, it gives dx.
pub fn dropout<T: Scalar>(x: &Array2<T>, m: &Array2<bool>, p: f64) -> Array2<T> {
    // (DROP-1)  y = m x / (1 − p)
    // (DROP-1′)  dx = m dy / (1 − p)
    Array2::from_shape_fn(x.dim(), |at| if m[at] { x[at] / T::from_f64(1.0 - p) } else { T::zero() })
}

/// x [N, C, H, W] gives y [N, C H W], the channel first.
pub fn flatten<T: Scalar>(x: &Array4<T>) -> Array2<T> {
    let (n, c, h, w) = x.dim();
    // (FLAT-1)  y[n, (c H + i) W + j] = x[n, c, i, j]
    Array2::from_shape_fn((n, c * h * w), |(n, k)| x[[n, k / (h * w), k / w % h, k % w]])
}

pub fn flatten_backward<T: Real>(x: &Array4<T>, dy: &Array2<T>) -> Array4<T> {
    let (_, _, h, w) = x.dim();
    // (FLAT-1′)  dx[n, c, i, j] = dy[n, (c H + i) W + j]
    Array4::from_shape_fn(x.dim(), |(n, c, i, j)| dy[[n, (c * h + i) * w + j]])
}
