//! The losses of a batch: sum of hinges (SH), max of hinges (MH), and those between them. Sums, not means.
use super::*;

/// Which negatives of a query count: all, the hardest, the k hardest, all by a softmax, the hardest lower one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Violation {
    Sum,
    Max,
    Hardest(usize),
    LogSumExp(f64),
    SemiHard,
}

/// The hinges [B, B]: `_s` of all captions for the image of a row, `_im` of all images for the caption of a
/// column; 0 where the pair is no negative. `counts` is the hinge's weight in the loss: 1 or 0, or (LSE-1′).
pub struct Loss<T> {
    pub cost_s: Array2<T>,
    pub cost_im: Array2<T>,
    pub counts_s: Array2<T>,
    pub counts_im: Array2<T>,
    pub loss: T,
}

/// Which captions are negatives of the image of a row, which images are negatives of the caption of a column, [B, B]
/// each: all others that may be.
pub fn negatives(batch: usize, may_be: impl Fn(usize, usize) -> bool) -> [Array2<bool>; 2] {
    let of_images = Array2::from_shape_fn((batch, batch), |(i, j)| i != j && may_be(i, j));
    [of_images.clone(), of_images]
}

/// S [B, B], with the right pairs d on its diagonal, and the negatives.
pub fn loss<T: Scalar>(s: &Array2<T>, margin: f64, violation: Violation, negatives: &[Array2<bool>; 2]) -> Loss<T> {
    let [of_images, of_captions] = negatives;
    let hinge = |is_negative: bool, score: T, d: T| {
        // (SEMI-1)  ℓ_SEMI = ℓ_MH over the negatives with S_ij < d_i along rows, S_ij < d_j along columns
        let is_negative = is_negative && (violation != Violation::SemiHard || score.re() < d.re());
        let cost = T::from_f64(margin) + score - d;
        if is_negative && cost.re() > 0.0 { cost } else { T::zero() }
    };
    // (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i
    let cost_s = Array2::from_shape_fn(s.dim(), |(i, j)| hinge(of_images[[i, j]], s[[i, j]], s[[i, i]]));
    // (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j
    let cost_im = Array2::from_shape_fn(s.dim(), |(i, j)| hinge(of_captions[[i, j]], s[[i, j]], s[[j, j]]));
    if let Violation::LogSumExp(temperature) = violation {
        let [counts_s, counts_im] = [(); 2].map(|()| Array2::zeros(s.dim()));
        let hinges = Loss { cost_s, cost_im, counts_s, counts_im, loss: T::zero() };
        return log_sum_exp(s, margin, T::from_f64(temperature), negatives, hinges);
    }
    let k = match violation {
        Violation::Max | Violation::SemiHard => 1,
        Violation::Hardest(k) => k,
        Violation::Sum | Violation::LogSumExp(_) => s.nrows(),
    };
    // A hinge of exactly 0 does not count. The first of several equal hinges is the hardest.
    let counts = |cost: T, query: ArrayView1<'_, T>, place: usize| {
        let harder = |(j, other): &(usize, &T)| other.re() > cost.re() || (*j < place && other.re() >= cost.re());
        let is_left_out = cost.re() <= 0.0 || query.iter().enumerate().filter(harder).count() >= k;
        if is_left_out { T::zero() } else { T::one() }
    };
    let counts_s = Array2::from_shape_fn(s.dim(), |(i, j)| counts(cost_s[[i, j]], cost_s.row(i), j));
    let counts_im = Array2::from_shape_fn(s.dim(), |(i, j)| counts(cost_im[[i, j]], cost_im.column(j), i));
    let sum = |terms: Array2<T>| terms.iter().fold(T::zero(), |sum, &term| sum + term);
    // (SH-1)  ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]
    // (MH-1)  ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]
    // (KH-1)  ℓ_KH = Σ_i (the k greatest cost_s[i, j]) + Σ_j (the k greatest cost_im[i, j])
    let loss = sum(&cost_s * &counts_s) + sum(&cost_im * &counts_im);
    Loss { cost_s, cost_im, counts_s, counts_im, loss }
}

/// The weights and the loss of log-sum-exp, added to its hinges.
fn log_sum_exp<T: Scalar>(
    s: &Array2<T>,
    margin: f64,
    tau: T,
    [of_images, of_captions]: &[Array2<bool>; 2],
    mut y: Loss<T>,
) -> Loss<T> {
    for q in 0..s.nrows() {
        let row: Vec<_> = (0..s.nrows()).map(|j| (q, j)).filter(|&at| of_images[at]).collect();
        let column: Vec<_> = (0..s.nrows()).map(|i| (i, q)).filter(|&at| of_captions[at]).collect();
        for (counts, places) in [(&mut y.counts_s, row), (&mut y.counts_im, column)] {
            let cost = |at: (usize, usize)| T::from_f64(margin) + s[at] - s[[q, q]];
            // Less the greatest, so that no exponential overflows.
            let most = T::from_f64(places.iter().fold(f64::NEG_INFINITY, |most, &at| most.max(cost(at).re())));
            let exp = |at: (usize, usize)| ((cost(at) - most) / tau).exp();
            let sum = places.iter().fold(T::zero(), |sum, &at| sum + exp(at));
            // (LSE-1)  ℓ_LSE = Σ_i [τ ln Σ_j exp((α + S_ij − d_i) / τ)]₊ + Σ_j [τ ln Σ_i exp((α + S_ij − d_j) / τ)]₊, i ≠ j
            let value = most + tau * sum.ln();
            if value.re() > 0.0 {
                y.loss += value;
                // (LSE-1′)  w = exp((α + S_ij − d_k) / τ) / Σ exp((α + S_ij − d_k) / τ) over the negatives of the query
                for &at in &places {
                    counts[at] = exp(at) / sum;
                }
            }
        }
    }
    y
}

/// dS [B, B].
pub fn loss_backward<T: Real>(loss: &Loss<T>) -> Array2<T> {
    let mut ds = Array2::zeros(loss.cost_s.dim());
    for (i, j) in ndarray::indices(ds.dim()) {
        // (LOSS-1)  a term of weight w = ∂ℓ/∂(S_ij − d_k): dS_ij += w, dS_kk −= w
        for (k, w) in [(i, loss.counts_s[[i, j]]), (j, loss.counts_im[[i, j]])] {
            ds[[i, j]] += w;
            ds[[k, k]] -= w;
        }
    }
    ds
}
