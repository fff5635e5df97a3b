//! The losses of a batch: sum of hinges (SH), max of hinges (MH), and those between them. Sums, not means.
use super::*;

/// Which negatives of a query count: all, the hardest, the k hardest, all by a softmax with temperature τ, the
/// hardest of those that score below the right pair.
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

/// S [B, B], with the right pairs d on its diagonal. With `image_ids` `[B]`, pairs of one image are no negatives
/// of each other.
pub fn loss<T: Scalar>(s: &Array2<T>, margin: f64, violation: Violation, image_ids: Option<&[usize]>) -> Loss<T> {
    // (SEMI-1)  ℓ_SEMI = ℓ_MH over the negatives with S_ij < d_i along rows, S_ij < d_j along columns
    let is_negative = |(i, j): (usize, usize), d: T| {
        let lower = violation != Violation::SemiHard || s[[i, j]].re() < d.re();
        i != j && lower && image_ids.is_none_or(|ids| ids[i] != ids[j])
    };
    let raw = |at: (usize, usize), d: T| T::from_f64(margin) + s[at] - d;
    let hinge = |at: (usize, usize), d: T| {
        if is_negative(at, d) && raw(at, d).re() > 0.0 { raw(at, d) } else { T::zero() }
    };
    // (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i
    let cost_s = Array2::from_shape_fn(s.dim(), |(i, j)| hinge((i, j), s[[i, i]]));
    // (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j
    let cost_im = Array2::from_shape_fn(s.dim(), |(i, j)| hinge((i, j), s[[j, j]]));
    if let Violation::LogSumExp(temperature) = violation {
        let tau = T::from_f64(temperature);
        let mut y =
            Loss { counts_s: &cost_s * T::zero(), counts_im: &cost_im * T::zero(), cost_s, cost_im, loss: T::zero() };
        for q in 0..s.nrows() {
            for (counts, is_row) in [(&mut y.counts_s, true), (&mut y.counts_im, false)] {
                let places = (0..s.nrows()).map(|other| if is_row { (q, other) } else { (other, q) });
                let costs = places.filter(|&at| is_negative(at, s[[q, q]])).map(|at| (at, raw(at, s[[q, q]])));
                let costs: Vec<_> = costs.collect();
                // Less the hardest, so that no exponential overflows.
                let most = T::from_f64(costs.iter().fold(f64::NEG_INFINITY, |most, (_, cost)| most.max(cost.re())));
                let exps = costs.iter().map(|&(at, cost)| (at, ((cost - most) / tau).exp()));
                let sum = exps.clone().fold(T::zero(), |sum, (_, exp)| sum + exp);
                // (LSE-1)  ℓ_LSE = Σ_i [τ ln Σ_j exp((α + S_ij − d_i) / τ)]₊ + Σ_j [τ ln Σ_i exp((α + S_ij − d_j) / τ)]₊, i ≠ j
                let cost = most + tau * sum.ln();
                if cost.re() > 0.0 {
                    y.loss += cost;
                    // (LSE-1′)  w = exp((α + S_ij − d_k) / τ) / Σ exp((α + S_ij − d_k) / τ) over the negatives of the query
                    exps.for_each(|(at, exp)| counts[at] = exp / sum);
                }
            }
        }
        return y;
    }
    // A hinge of exactly 0 does not count. Of several equal hinges the first is the hardest.
    let k = match violation {
        Violation::Sum | Violation::LogSumExp(_) => s.nrows(),
        Violation::Max | Violation::SemiHard => 1,
        Violation::Hardest(k) => k,
    };
    let counts = |cost: T, query: ArrayView1<'_, T>, place: usize| {
        let harder = |(k, other): &(usize, &T)| other.re() > cost.re() || (*k < place && other.re() >= cost.re());
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
