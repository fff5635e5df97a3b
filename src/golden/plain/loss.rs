//! The losses, (HINGE-1), (HINGE-2), (SH-1), (MH-1) and (LOSS-1), as matrices.

use ndarray::{Array1, Array2, ArrayView2};

use super::{Kind, Plain, Trace};
use crate::golden::arithmetic::Form;
use crate::golden::mistakes::Mistake as M;
use crate::loss::{HingeLoss, Violation};
use crate::real::Real;

/// One direction: the costs, which of them count, and the hardest of each query.
#[derive(Clone, Debug)]
pub(crate) struct Terms<T> {
    /// The hinges, 0 where there is no negative, [B, B].
    pub cost: Array2<T>,
    /// The weight with which an entry counts: 0 or 1, [B, B].
    pub weight: Array2<T>,
    /// For each query the place of its hardest negative, −1 where no cost is > 0, `[B]` (MH).
    pub hardest: Array1<T>,
}

/// Both directions and the loss.
#[derive(Clone, Debug)]
pub(crate) struct Costs<T> {
    /// Caption retrieval: queries are rows.
    pub rows: Terms<T>,
    /// Image retrieval: queries are columns.
    pub columns: Terms<T>,
    /// ℓ
    pub loss: T,
}

impl Plain<'_> {
    /// (SH-1) or (MH-1) of S [B, B]. Adds `mid.cost_*`, `mid.hardest_*`, `mid.active_*`, `out.loss`.
    pub(crate) fn loss<T: Real>(
        &self,
        hinge: HingeLoss,
        scores: ArrayView2<'_, T>,
        image_ids: Option<&[usize]>,
        trace: &mut Trace<T>,
    ) -> Costs<T> {
        let way = self.arithmetic;
        let max = (hinge.violation == Violation::Max || self.wrong(M::MaxForSum)) && !self.wrong(M::SumForMax);
        let masked = |rows: bool, i: usize, j: usize| {
            let ignored = self.wrong(M::MaskIgnored) || (!rows && self.wrong(M::MaskCaptionSideOnly));
            !ignored && image_ids.is_some_and(|ids| ids[i] == ids[j])
        };
        let direction = |rows: bool| {
            let negative = Array2::from_shape_fn(scores.raw_dim(), |(i, j)| {
                if i == j { self.wrong(M::DiagonalIncluded) } else { !masked(rows, i, j) }
            });
            let raw = self.hinges(hinge.margin, scores, rows);
            self.terms(&raw, &negative, scores, rows, max)
        };
        let (rows, columns) = (direction(true), direction(false));
        let total = |terms: &Terms<T>| {
            let weighed = &terms.cost * &terms.weight;
            if way.form == Form::Rearranged {
                return way.sum(&weighed.columns().into_iter().map(|c| way.sum(&c.to_vec())).collect::<Vec<_>>());
            }
            way.sum(&weighed.iter().copied().collect::<Vec<_>>())
        };
        let (of_rows, of_columns) = (total(&rows), total(&columns));
        let mut loss = if self.wrong(M::CaptionSideOnly) {
            of_rows
        } else if self.wrong(M::ImageSideOnly) {
            of_columns
        } else {
            of_rows + of_columns
        };
        loss = loss / T::from_f64(self.loss_divisor(scores.nrows()));
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            trace.real(format!("mid.cost_{name}"), &terms.cost);
        }
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            if hinge.violation == Violation::Max {
                trace.add(format!("mid.hardest_{name}"), Kind::Index, &terms.hardest);
            }
        }
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            let active = terms.weight.mapv(|w| if w > T::zero() { T::one() } else { T::zero() });
            trace.add(format!("mid.active_{name}"), Kind::Mask, &active);
        }
        loss = way.storage.round(loss);
        trace.vector("out.loss", vec![loss]);
        Costs { rows, columns, loss }
    }

    fn loss_divisor(&self, batch: usize) -> f64 {
        let batch = batch as f64;
        if self.wrong(M::MeanOverBatch) {
            batch
        } else if self.wrong(M::MeanOverPairs) {
            batch * batch
        } else if self.wrong(M::HalfLoss) {
            2.0
        } else {
            1.0
        }
    }

    /// `α + S_ij − d_i` for rows, `− d_j` for columns.
    fn hinges<T: Real>(&self, margin: f64, scores: ArrayView2<'_, T>, rows: bool) -> Array2<T> {
        let margin = if self.wrong(M::MarginDropped) {
            0.0
        } else if self.wrong(M::MarginSign) {
            -margin
        } else {
            margin
        };
        let by_row = rows != self.wrong(M::DiagonalSwapped);
        Array2::from_shape_fn(scores.raw_dim(), |(i, j)| {
            let right = if by_row { scores[[i, i]] } else { scores[[j, j]] };
            let (margin, wrong) = (T::from_f64(margin), scores[[i, j]]);
            let difference = if self.wrong(M::HingeSign) {
                margin + right - wrong
            } else if self.arithmetic.form == Form::Rearranged {
                (wrong - right) + margin
            } else {
                margin + wrong - right
            };
            self.arithmetic.storage.round(difference)
        })
    }

    /// [·]₊ of the negatives, and which of them count.
    fn terms<T: Real>(
        &self,
        raw: &Array2<T>,
        negative: &Array2<bool>,
        scores: ArrayView2<'_, T>,
        rows: bool,
        max: bool,
    ) -> Terms<T> {
        let batch = raw.nrows();
        let counts = |x: T| x > T::zero() || (x == T::zero() && self.wrong(M::KinkActive)) || self.wrong(M::NoHinge);
        let cost = Array2::from_shape_fn(raw.raw_dim(), |at| {
            let x = raw[at];
            if !negative[at] {
                T::zero()
            } else if self.wrong(M::Softplus) {
                softplus(x)
            } else if !counts(x) {
                T::zero()
            } else if self.wrong(M::SquaredHinge) {
                x * x
            } else {
                x
            }
        });
        let takes_part = |at: [usize; 2]| {
            let below = scores[at] < scores[[at[usize::from(!rows)]; 2]];
            negative[at] && (counts(raw[at]) || self.wrong(M::Softplus)) && (!self.wrong(M::SemiHard) || below)
        };
        let place = |query: usize, other: usize| if rows { [query, other] } else { [other, query] };
        let mut weight = Array2::zeros(raw.raw_dim());
        let mut hardest = Array1::from_elem(batch, -T::one());
        if !max {
            ndarray::Zip::indexed(&mut weight).for_each(|(i, j), w| {
                if takes_part([i, j]) {
                    *w = T::one();
                }
            });
        }
        let along_rows = rows != self.wrong(M::MaxAlongWrongAxis);
        let place_of_max = |query: usize, other: usize| if along_rows { [query, other] } else { [other, query] };
        for query in 0..batch {
            let candidates: Vec<usize> = (0..batch).filter(|&other| takes_part(place_of_max(query, other))).collect();
            let cost_of = |other: usize| cost[place_of_max(query, other)];
            let first = candidates
                .iter()
                .copied()
                .reduce(|best, other| if cost_of(other) > cost_of(best) { other } else { best });
            let Some(first) = first else { continue };
            let tied: Vec<usize> = candidates.into_iter().filter(|&other| cost_of(other) == cost_of(first)).collect();
            hardest[query] = T::from_f64(first as f64);
            if max {
                weight[place_of_max(query, first)] = T::one();
                if self.wrong(M::TieAll) {
                    for &other in &tied {
                        weight[place_of_max(query, other)] = T::one();
                    }
                }
            }
        }
        if max && self.wrong(M::BatchHardest) {
            let best = (0..batch * batch).map(|k| place(k / batch, k % batch)).filter(|&at| weight[at] > T::zero());
            let best = best.reduce(|best, at| if cost[at] > cost[best] { at } else { best });
            weight.fill(T::zero());
            if let Some(best) = best {
                weight[best] = T::one();
            }
        }
        Terms { cost, weight, hardest }
    }

    /// (LOSS-1): dS.
    pub(crate) fn loss_backward<T: Real>(&self, costs: &Costs<T>, scores: ArrayView2<'_, T>, margin: f64) -> Array2<T> {
        if let Some(given) = &self.d_scores {
            return given.mapv(T::from_f64);
        }
        let batch = scores.nrows();
        let mut d = Array2::zeros((batch, batch));
        let divisor = T::from_f64(self.loss_divisor(batch));
        let of_rows = !self.wrong(M::ImageSideOnly) && !self.wrong(M::GradientColumnsOnly);
        let of_columns = !self.wrong(M::CaptionSideOnly) && !self.wrong(M::GradientRowsOnly);
        for (rows, terms, used) in [(true, &costs.rows, of_rows), (false, &costs.columns, of_columns)] {
            let raw = self.hinges(margin, scores, rows);
            for ((i, j), &weight) in terms.weight.indexed_iter().filter(|_| used) {
                let mut slope = weight / divisor;
                if self.wrong(M::SquaredHinge) {
                    slope = slope * (raw[[i, j]] + raw[[i, j]]);
                }
                if self.wrong(M::Softplus) {
                    slope = slope * raw[[i, j]].sigmoid();
                }
                if self.wrong(M::HingeSign) {
                    slope = -slope;
                }
                let by_row = rows != (self.wrong(M::DiagonalSwapped) || self.wrong(M::DiagonalGradientSwapped));
                let right = if by_row { i } else { j };
                if !self.wrong(M::NegativeDetached) {
                    d[[i, j]] += slope;
                }
                if !self.wrong(M::PositiveDetached) {
                    d[[right, right]] -= slope;
                }
            }
        }
        self.arithmetic.store(d)
    }
}

/// log(1 + eˣ)
fn softplus<T: Real>(x: T) -> T {
    let x = x.re();
    T::from_f64(x.max(0.0) + libm::log1p(libm::exp(-x.abs())))
}
