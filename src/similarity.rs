//! Similarity of every image with every caption: the score matrix, forward and backward.
//!
//! Rows are images, columns are captions: F [N, D] and G [M, D] give S [N, M].
//!
//! ```text
//! (SIM-1)   s_ij = f_i · g_j                             cosine
//! (SIM-1′)  dF = dS G, dG = dSᵀ F
//! (SIM-2)   s_ij = −‖v‖₂, v = max(0, g_j − f_i)          order
//! (SIM-2′)  dg_j += dS_ij v / s_ij, df_i −= dS_ij v / s_ij, 0 where v = 0
//! (SIM-3)   s_ij = −‖v‖₂², v = max(0, g_j − f_i)         order-squared
//! (SIM-3′)  dg_j −= 2 dS_ij v, df_i += 2 dS_ij v
//! ```
//!
//! (SIM-1) is the paper's s(i, c) (section 2.1). It is a cosine where both sides are normalised; with
//! `no_imgnorm`, as in VSE0, images keep their length and it is the inner product. (SIM-2) is what the
//! original's code computes for order embeddings, (SIM-3) the penalty that Vendrov et al.
//! (2016, equation 2) define. Where v = 0 the root of (SIM-2) has no derivative; here it is 0.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::linalg;
use crate::real::{Real, Scalar};

/// How images and captions are compared.
///
/// ```
/// use ndarray::array;
/// use vsepp::similarity::Measure;
///
/// let images = array![[0.6, 0.8], [1.0, 0.0]];
/// let captions = array![[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]];
/// let scores = Measure::Cosine.scores(images.view(), captions.view());
/// assert_eq!(scores.row(1), array![1.0, 0.0, 0.6]);
///
/// // An image above its caption in every coordinate violates no order.
/// let order = Measure::Order.scores(array![[1.0, 1.0]].view(), array![[0.5, 0.0], [1.0, 3.0]].view());
/// assert_eq!(order, array![[0.0, -2.0]]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// (SIM-1): the inner product of the two embeddings.
    #[default]
    Cosine,
    /// (SIM-2): minus the norm of the order violation.
    Order,
    /// (SIM-3): minus the squared norm of the order violation.
    OrderSquared,
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cosine => "cosine",
            Self::Order => "order",
            Self::OrderSquared => "order-squared",
        })
    }
}

impl Measure {
    /// S [N, M] of images [N, D] and captions [M, D].
    ///
    /// An element depends on its two vectors alone, to the bit.
    #[must_use]
    pub fn scores<T: Scalar>(self, images: ArrayView2<'_, T>, captions: ArrayView2<'_, T>) -> Array2<T> {
        let mut scores = Array2::default((0, 0));
        self.scores_into(images, captions, &mut scores);
        scores
    }

    /// The same, reusing the memory of `scores`.
    ///
    /// # Panics
    ///
    /// If images and captions have vectors of different lengths.
    pub(crate) fn scores_into<T: Scalar>(
        self,
        images: ArrayView2<'_, T>,
        captions: ArrayView2<'_, T>,
        scores: &mut Array2<T>,
    ) {
        linalg::reshape(scores, (images.nrows(), captions.nrows()));
        if self == Self::Cosine {
            // (SIM-1)  s_ij = f_i · g_j
            return linalg::matmul_into(images, captions.t(), scores.view_mut());
        }
        let (images, captions) = (images.as_standard_layout(), captions.as_standard_layout());
        scores.axis_iter_mut(Axis(0)).into_par_iter().zip(images.axis_iter(Axis(0))).for_each(|(mut scores, f)| {
            let f = f.to_slice().expect("contiguous");
            for (score, g) in scores.iter_mut().zip(captions.outer_iter()) {
                let squared = squared_violation(f, g.to_slice().expect("contiguous"));
                // (SIM-2)  s_ij = −‖v‖₂, v = max(0, g_j − f_i)
                // (SIM-3)  s_ij = −‖v‖₂², v = max(0, g_j − f_i)
                *score = if self == Self::OrderSquared { -squared } else { -root(squared) };
            }
        });
    }

    /// dF [N, D] and dG [M, D] from dS [N, M] and the scores S of the forward pass.
    pub(crate) fn backward_into<T: Real>(
        self,
        images: ArrayView2<'_, T>,
        captions: ArrayView2<'_, T>,
        scores: ArrayView2<'_, T>,
        d_scores: ArrayView2<'_, T>,
        d_images: &mut Array2<T>,
        d_captions: &mut Array2<T>,
    ) {
        linalg::reshape(d_images, images.dim());
        linalg::reshape(d_captions, captions.dim());
        if self == Self::Cosine {
            // (SIM-1′)  dF = dS G, dG = dSᵀ F
            linalg::matmul_into(d_scores, captions, d_images.view_mut());
            return linalg::matmul_into(d_scores.t(), images, d_captions.view_mut());
        }
        // The pair (i, j) adds `slope` · v to dg_j and subtracts it from df_i.
        let slope = |i: usize, j: usize| {
            let (s, ds) = (scores[[i, j]], d_scores[[i, j]]);
            match self {
                _ if s.re() == 0.0 => T::zero(),
                // (SIM-3′)  dg_j −= 2 dS_ij v, df_i += 2 dS_ij v
                Self::OrderSquared => -(ds + ds),
                // (SIM-2′)  dg_j += dS_ij v / s_ij, df_i −= dS_ij v / s_ij, 0 where v = 0
                _ => ds / s,
            }
        };
        rows(d_images, |i, df| {
            for (j, g) in captions.outer_iter().enumerate() {
                add_violation(-slope(i, j), images.row(i), g, df);
            }
        });
        rows(d_captions, |j, dg| {
            for (i, f) in images.outer_iter().enumerate() {
                add_violation(slope(i, j), f, captions.row(j), dg);
            }
        });
    }

    /// Appends which elements of max(0, g − f) are positive, pair by pair. They identify the smooth piece
    /// on which the scores lie, for the gradient checks. The cosine is smooth everywhere and appends nothing.
    pub(crate) fn active_set<T: Scalar>(
        self,
        images: ArrayView2<'_, T>,
        captions: ArrayView2<'_, T>,
        active: &mut Vec<bool>,
    ) {
        if self != Self::Cosine {
            for f in images.outer_iter() {
                for g in captions.outer_iter() {
                    active.extend(f.iter().zip(&g).map(|(f, g)| g.re() > f.re()));
                }
            }
        }
    }
}

/// Σ max(0, g − f)², in the fixed order of [`linalg::dot`].
fn squared_violation<T: Scalar>(f: &[T], g: &[T]) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    for (fs, gs) in f.chunks(LANES).zip(g.chunks(LANES)) {
        for (sum, (&f, &g)) in sums.iter_mut().zip(fs.iter().zip(gs)) {
            let v = if g.re() > f.re() { g - f } else { T::zero() };
            *sum += v * v;
        }
    }
    sums.iter().fold(T::zero(), |total, &sum| total + sum)
}

/// √x, and 0 where the real part is 0, so that a complex step finds the derivative 0 there.
fn root<T: Scalar>(x: T) -> T {
    if x.re() == 0.0 { T::zero() } else { x.sqrt() }
}

/// `into += slope · max(0, g − f)`.
fn add_violation<T: Real>(
    slope: T,
    f: ndarray::ArrayView1<'_, T>,
    g: ndarray::ArrayView1<'_, T>,
    into: &mut ndarray::ArrayViewMut1<'_, T>,
) {
    if slope != T::zero() {
        for ((into, &f), &g) in into.iter_mut().zip(f).zip(g) {
            if g > f {
                *into += slope * (g - f);
            }
        }
    }
}

/// Computes a matrix row by row, in parallel; each row starts as zeros.
fn rows<T: Real>(out: &mut Array2<T>, row: impl Fn(usize, &mut ndarray::ArrayViewMut1<'_, T>) + Sync) {
    out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(i, mut out)| {
        out.fill(T::zero());
        row(i, &mut out);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    /// dF and dG of one image and one caption.
    fn backward(measure: Measure, f: &Array2<f64>, g: &Array2<f64>, d_score: f64) -> (Array2<f64>, Array2<f64>) {
        let (mut df, mut dg) = (Array2::default((0, 0)), Array2::default((0, 0)));
        let s = measure.scores(f.view(), g.view());
        measure.backward_into(f.view(), g.view(), s.view(), array![[d_score]].view(), &mut df, &mut dg);
        (df, dg)
    }

    #[test]
    fn sim_1_2_3_by_hand() {
        let (f, g) = (array![[0.0, 1.0], [3.0, 3.0]], array![[3.0, 5.0], [0.0, 0.5]]);
        assert_eq!(Measure::Cosine.scores(f.view(), g.view()), array![[5.0, 0.5], [24.0, 1.5]]);
        // Violations g − f of the first image: (3, 4) and (0, −0.5 → 0).
        assert_eq!(Measure::Order.scores(f.view(), g.view()), array![[-5.0, 0.0], [-2.0, 0.0]]);
        assert_eq!(Measure::OrderSquared.scores(f.view(), g.view()), array![[-25.0, 0.0], [-4.0, 0.0]]);
    }

    #[test]
    fn sim_2_has_gradient_zero_where_nothing_is_violated() {
        let (f, g) = (array![[1.0, 1.0]], array![[0.5, 0.5]]);
        assert_eq!(backward(Measure::Order, &f, &g, 1.0), (array![[0.0, 0.0]], array![[0.0, 0.0]]));
    }

    #[test]
    fn sim_1_and_3_gradients_by_hand() {
        let (f, g) = (array![[0.0, 1.0]], array![[3.0, 5.0]]);
        assert_eq!(backward(Measure::Cosine, &f, &g, 10.0), (array![[30.0, 50.0]], array![[0.0, 10.0]]));
        assert_eq!(backward(Measure::OrderSquared, &f, &g, 10.0), (array![[60.0, 80.0]], array![[-60.0, -80.0]]));
    }

    #[test]
    fn sim_2_gradient_by_hand() {
        let (f, g) = (array![[0.0, 1.0]], array![[3.0, 5.0]]);
        assert_eq!(backward(Measure::Order, &f, &g, 10.0), (array![[6.0, 8.0]], array![[-6.0, -8.0]]));
    }
}
