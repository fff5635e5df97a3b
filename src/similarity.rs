//! Similarity of every image with every caption: the score matrix and its adjoint.
//!
//! Rows are images, columns are captions: F [N, D] and G [M, D] give S [N, M].
//!
//! ```text
//! (SIM-1)  cosine         s_ij = f_i · g_j
//!          backward       dF = dS G,   dG = dSᵀ F
//! (SIM-2)  order          s_ij = −‖max(0, g_j − f_i)‖₂
//!          backward       with v = max(0, g_j − f_i):  dg_j += dS_ij v / s_ij,  df_i −= dS_ij v / s_ij
//! (SIM-3)  order-squared  s_ij = −‖max(0, g_j − f_i)‖₂²
//!          backward       dg_j −= 2 dS_ij v,  df_i += 2 dS_ij v
//! ```
//!
//! (SIM-1) is the paper's s(i, c) (section 2.1; the embeddings are already normalised). (SIM-2) is
//! what the original's code computes for order embeddings, (SIM-3) the penalty that Vendrov et al.
//! (2016, equation 2) define. Where v = 0 the root of (SIM-2) has no derivative; here it is 0.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::linalg;
use crate::real::{Real, Scalar};

/// How images and captions are compared.
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
        match self {
            Self::Cosine => linalg::matmul(images, captions.t()),
            Self::Order | Self::OrderSquared => {
                let (images, captions) = (images.as_standard_layout(), captions.as_standard_layout());
                let mut scores = Array2::zeros((images.nrows(), captions.nrows()));
                scores.axis_iter_mut(Axis(0)).into_par_iter().zip(images.axis_iter(Axis(0))).for_each(
                    |(mut scores, f)| {
                        let f = f.to_slice().expect("contiguous");
                        for (score, g) in scores.iter_mut().zip(captions.outer_iter()) {
                            let squared = squared_violation(f, g.to_slice().expect("contiguous"));
                            *score = if self == Self::OrderSquared { -squared } else { -root(squared) };
                        }
                    },
                );
                scores
            }
        }
    }

    /// The adjoint: (dF [N, D], dG [M, D]) from dS [N, M].
    #[must_use]
    pub fn backward<T: Real>(
        self,
        images: ArrayView2<'_, T>,
        captions: ArrayView2<'_, T>,
        scores: ArrayView2<'_, T>,
        d_scores: ArrayView2<'_, T>,
    ) -> (Array2<T>, Array2<T>) {
        if self == Self::Cosine {
            return (linalg::matmul(d_scores, captions), linalg::matmul(d_scores.t(), images));
        }
        // The derivative of s_ij by g_j is `slope` · v, by f_i its negative.
        let slope = |i: usize, j: usize| {
            let (s, ds) = (scores[[i, j]], d_scores[[i, j]]);
            match self {
                _ if s.re() == 0.0 => T::zero(),
                Self::OrderSquared => -(ds + ds),
                _ => ds / s,
            }
        };
        let d_images = rows(images.dim(), |i, mut df| {
            for (j, g) in captions.outer_iter().enumerate() {
                add_violation(-slope(i, j), images.row(i), g, &mut df);
            }
        });
        let d_captions = rows(captions.dim(), |j, mut dg| {
            for (i, f) in images.outer_iter().enumerate() {
                add_violation(slope(i, j), f, captions.row(j), &mut dg);
            }
        });
        (d_images, d_captions)
    }

    /// Appends which elements of max(0, g − f) are positive, pair by pair: the smooth piece on which
    /// the scores lie. Nothing for the cosine, which is smooth everywhere.
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

/// √x, and 0 at 0 also for numbers that carry a derivative.
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

/// A matrix made row by row, in parallel.
fn rows<T: Real>(dim: (usize, usize), row: impl Fn(usize, ndarray::ArrayViewMut1<'_, T>) + Sync) -> Array2<T> {
    let mut out = Array2::zeros(dim);
    out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(i, out)| row(i, out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

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
        let s = Measure::Order.scores(f.view(), g.view());
        let (df, dg) = Measure::Order.backward(f.view(), g.view(), s.view(), array![[1.0]].view());
        assert_eq!((df, dg), (array![[0.0, 0.0]], array![[0.0, 0.0]]));
    }

    #[test]
    fn sim_1_and_3_gradients_by_hand() {
        let (f, g) = (array![[0.0, 1.0]], array![[3.0, 5.0]]);
        let backward = |measure: Measure| {
            let s = measure.scores(f.view(), g.view());
            measure.backward(f.view(), g.view(), s.view(), array![[10.0]].view())
        };
        assert_eq!(backward(Measure::Cosine), (array![[30.0, 50.0]], array![[0.0, 10.0]]));
        assert_eq!(backward(Measure::OrderSquared), (array![[60.0, 80.0]], array![[-60.0, -80.0]]));
    }

    #[test]
    fn sim_2_gradient_by_hand() {
        let (f, g) = (array![[0.0, 1.0]], array![[3.0, 5.0]]);
        let s = Measure::Order.scores(f.view(), g.view());
        let (df, dg) = Measure::Order.backward(f.view(), g.view(), s.view(), array![[10.0]].view());
        assert_eq!((df, dg), (array![[6.0, 8.0]], array![[-6.0, -8.0]]));
    }
}
