//! The score matrix and its adjoint: (SIM-1), (SIM-2), (SIM-3).

use ndarray::{Array2, ArrayView2};

use super::Plain;
use crate::real::Real;
use crate::similarity::Measure;

impl Plain<'_> {
    /// S [N, M] of images F [N, D] and captions G [M, D].
    pub(crate) fn scores<T: Real>(&self, measure: Measure, f: ArrayView2<'_, T>, g: ArrayView2<'_, T>) -> Array2<T> {
        let way = self.arithmetic;
        way.store(match measure {
            Measure::Cosine => way.product(f, g.t()),
            measure => Array2::from_shape_fn((f.nrows(), g.nrows()), |(i, j)| {
                let v: Vec<T> = f.row(i).iter().zip(g.row(j)).map(|(&f, &g)| violation(f, g)).collect();
                let squared = way.dot(&v, &v);
                -(if measure == Measure::Order { squared.sqrt() } else { squared })
            }),
        })
    }

    /// (dF, dG) from dS.
    pub(crate) fn scores_backward<T: Real>(
        &self,
        measure: Measure,
        f: ArrayView2<'_, T>,
        g: ArrayView2<'_, T>,
        scores: &Array2<T>,
        d_scores: &Array2<T>,
    ) -> (Array2<T>, Array2<T>) {
        let way = self.arithmetic;
        let (df, dg) = if measure == Measure::Cosine {
            (way.product(d_scores.view(), g), way.product(d_scores.t(), f))
        } else {
            // The derivative of s_ij by g_j is slope · v, by f_i its negative.
            let slopes = ndarray::Zip::from(scores).and(d_scores).map_collect(|&s, &ds| {
                if s == T::zero() {
                    T::zero()
                } else if measure == Measure::Order {
                    ds / s
                } else {
                    -(ds + ds)
                }
            });
            let term = |i: usize, j: usize, k: usize| slopes[[i, j]] * violation(f[[i, k]], g[[j, k]]);
            let df = Array2::from_shape_fn(f.raw_dim(), |(i, k)| {
                way.sum(&(0..g.nrows()).map(|j| -term(i, j, k)).collect::<Vec<T>>())
            });
            let dg = Array2::from_shape_fn(g.raw_dim(), |(j, k)| {
                way.sum(&(0..f.nrows()).map(|i| term(i, j, k)).collect::<Vec<T>>())
            });
            (df, dg)
        };
        (way.store(df), way.store(dg))
    }
}

/// v = max(0, g − f)
fn violation<T: Real>(f: T, g: T) -> T {
    let v = g - f;
    if v > T::zero() { v } else { T::zero() }
}
