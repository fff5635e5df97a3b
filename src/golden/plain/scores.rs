//! The score matrix and its adjoint: (SIM-1), (SIM-2), (SIM-3).

use ndarray::{Array2, ArrayView2};

use super::Plain;
use crate::golden::mistakes::Mistake as M;
use crate::real::Real;
use crate::similarity::Measure;

impl Plain<'_> {
    /// S [N, M] of images F [N, D] and captions G [M, D].
    pub(crate) fn scores<T: Real>(&self, measure: Measure, f: ArrayView2<'_, T>, g: ArrayView2<'_, T>) -> Array2<T> {
        let way = self.arithmetic;
        let scores = match self.measure(measure) {
            Measure::Cosine => {
                let scale =
                    if self.wrong(M::ScoresUnnormalised) { T::from_f64((f.ncols() as f64).sqrt()) } else { T::one() };
                way.product(f, g.t()) / scale
            }
            measure => Array2::from_shape_fn((f.nrows(), g.nrows()), |(i, j)| {
                let v: Vec<T> = f.row(i).iter().zip(g.row(j)).map(|(&f, &g)| self.violation(f, g)).collect();
                let squared = way.dot(&v, &v);
                let s = if measure == Measure::Order { squared.sqrt() } else { squared };
                if self.wrong(M::OrderSign) { s } else { -s }
            }),
        };
        way.store(if self.wrong(M::ScoresTransposed) { turned(&scores) } else { scores })
    }

    /// The measure that this backend takes.
    fn measure(&self, measure: Measure) -> Measure {
        match measure {
            Measure::Order if self.wrong(M::OrderRootMissing) => Measure::OrderSquared,
            Measure::OrderSquared if self.wrong(M::OrderRootExtra) => Measure::Order,
            Measure::Order | Measure::OrderSquared if self.wrong(M::MeasureIgnored) => Measure::Cosine,
            measure => measure,
        }
    }

    /// v = max(0, g − f)
    fn violation<T: Real>(&self, f: T, g: T) -> T {
        let v = if self.wrong(M::OrderReversed) { f - g } else { g - f };
        if v > T::zero() || self.wrong(M::OrderAbsolute) { v } else { T::zero() }
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
        let square = f.nrows() == g.nrows();
        // What is transposed on the way there is taken back here, where it has the shape for it.
        let right = |x: &Array2<T>| {
            let (upright, lying) = ((f.nrows(), g.nrows()), (g.nrows(), f.nrows()));
            let turn = x.dim() == lying && (self.wrong(M::ScoresTransposed) || upright != lying);
            if turn { turned(x) } else { x.clone() }
        };
        let (scores, d_scores) = (right(scores), right(d_scores));
        let measure = self.measure(measure);
        let (df, dg) = if measure == Measure::Cosine {
            let scale =
                if self.wrong(M::ScoresUnnormalised) { T::from_f64((f.ncols() as f64).sqrt()) } else { T::one() };
            let d = if square && self.wrong(M::ScoreGradientTransposed) { turned(&d_scores) } else { d_scores };
            (way.product(d.view(), g) / scale, way.product(d.t(), f) / scale)
        } else {
            // The derivative of s_ij by g_j is slope · v, by f_i its negative.
            let slopes = ndarray::Zip::from(&scores).and(&d_scores).map_collect(|&s, &ds| {
                let sign = if self.wrong(M::OrderSign) { -T::one() } else { T::one() };
                if s == T::zero() {
                    T::zero()
                } else if measure == Measure::Order {
                    if self.wrong(M::OrderGradientWithoutRoot) { -ds } else { ds / s }
                } else if self.wrong(M::OrderGradientHalved) {
                    -ds * sign
                } else {
                    -(ds + ds) * sign
                }
            });
            let reversed = if self.wrong(M::OrderReversed) { -T::one() } else { T::one() };
            let term = |i: usize, j: usize, k: usize| reversed * slopes[[i, j]] * self.violation(f[[i, k]], g[[j, k]]);
            let df = Array2::from_shape_fn(f.raw_dim(), |(i, k)| {
                let terms: Vec<T> = (0..g.nrows()).map(|j| -term(i, j, k)).collect();
                if self.wrong(M::OrderGradientImagesDropped) { T::zero() } else { way.sum(&terms) }
            });
            let dg = Array2::from_shape_fn(g.raw_dim(), |(j, k)| {
                let terms: Vec<T> = (0..f.nrows()).map(|i| term(i, j, k)).collect();
                way.sum(&terms)
            });
            (df, dg)
        };
        (way.store(df), way.store(dg))
    }
}

fn turned<T: Real>(x: &Array2<T>) -> Array2<T> {
    x.t().as_standard_layout().into_owned()
}
