//! The two losses of a batch: sum of hinges (SH) and max of hinges (MH). Sums, not means.
use super::*;

/// The hinges [B, B]: `_s` of all captions for the image of a row, `_im` of all images for the caption of a
/// column; 0 where the pair is no negative. `counts` is 1 where the loss counts the hinge, else 0.
pub struct Loss<T> {
    pub cost_s: Array2<T>,
    pub cost_im: Array2<T>,
    pub counts_s: Array2<T>,
    pub counts_im: Array2<T>,
    pub loss: T,
}

/// S [B, B], with the right pairs d on its diagonal, gives MH if `max`, else SH. With `image_ids` `[B]`,
/// pairs of one image are no negatives of each other.
pub fn loss<T: Scalar>(s: &Array2<T>, margin: f64, max: bool, image_ids: Option<&[usize]>) -> Loss<T> {
    let hinge = |(i, j): (usize, usize), d: T| {
        let negative = i != j && image_ids.is_none_or(|ids| ids[i] != ids[j]);
        let cost = T::from_f64(margin) + s[[i, j]] - d;
        if negative && cost.re() > 0.0 { cost } else { T::zero() }
    };
    // (HINGE-1)  cost_s[i, j] = [α + S_ij − d_i]₊, j ≠ i
    let cost_s = Array2::from_shape_fn(s.dim(), |(i, j)| hinge((i, j), s[[i, i]]));
    // (HINGE-2)  cost_im[i, j] = [α + S_ij − d_j]₊, i ≠ j
    let cost_im = Array2::from_shape_fn(s.dim(), |(i, j)| hinge((i, j), s[[j, j]]));
    // A hinge of exactly 0 does not count. MH counts the first of several hardest negatives.
    let counts = |cost: T, query: ArrayView1<'_, T>, place: usize| {
        let harder = |(k, other): (usize, &T)| other.re() > cost.re() || (k < place && other.re() >= cost.re());
        let is_left_out = cost.re() <= 0.0 || (max && query.iter().enumerate().any(harder));
        if is_left_out { T::zero() } else { T::one() }
    };
    let counts_s = Array2::from_shape_fn(s.dim(), |(i, j)| counts(cost_s[[i, j]], cost_s.row(i), j));
    let counts_im = Array2::from_shape_fn(s.dim(), |(i, j)| counts(cost_im[[i, j]], cost_im.column(j), i));
    let sum = |terms: Array2<T>| terms.iter().fold(T::zero(), |sum, &term| sum + term);
    // (SH-1)  ℓ_SH = Σ_ij cost_s[i, j] + Σ_ij cost_im[i, j]
    // (MH-1)  ℓ_MH = Σ_i max_j cost_s[i, j] + Σ_j max_i cost_im[i, j]
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
