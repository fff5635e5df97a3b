//! The losses, (HINGE-1), (HINGE-2), (SH-1) to (SEMI-1) and (LOSS-1), as matrices.

use ndarray::{Array1, Array2, ArrayView2};

use super::{Kind, Plain, Trace};
use crate::golden::arithmetic::Form;
use crate::loss::{HingeLoss, Violation};
use crate::real::Real;

/// One direction: the costs, which of them count, and the hardest of each query.
#[derive(Clone, Debug)]
pub(crate) struct Terms<T> {
    /// The hinges, 0 where there is no negative, [B, B].
    pub cost: Array2<T>,
    /// The weight with which an entry counts: 0 or 1, or that of (LSE-1′), [B, B].
    pub weight: Array2<T>,
    /// For each query the place of its hardest negative, −1 where no cost is > 0, `[B]`.
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

/// The place in S of a query's score with another item.
fn place(rows: bool, query: usize, other: usize) -> [usize; 2] {
    if rows { [query, other] } else { [other, query] }
}

impl Plain<'_> {
    /// The loss of S [B, B]. Adds `mid.cost_*`, `mid.hardest_*`, `mid.active_*` or `mid.weight_*`, `out.loss`.
    pub(crate) fn loss<T: Real>(
        &self,
        hinge: HingeLoss,
        scores: ArrayView2<'_, T>,
        image_ids: Option<&[usize]>,
        trace: &mut Trace<T>,
    ) -> Costs<T> {
        let way = self.arithmetic;
        let negative = |i: usize, j: usize| i != j && image_ids.is_none_or(|ids| ids[i] != ids[j]);
        let [mut rows, mut columns] = [true, false].map(|rows| {
            let cost = Array2::from_shape_fn(scores.raw_dim(), |(i, j)| {
                let right = if rows { i } else { j };
                let low = hinge.violation != Violation::SemiHard || scores[[i, j]] < scores[[right, right]];
                let x = self.hinge(hinge.margin, scores, rows, [i, j]);
                if negative(i, j) && low && x > T::zero() { x } else { T::zero() }
            });
            terms(cost, rows, hinge.violation)
        });
        let total = |terms: &Terms<T>| {
            let weighed = &terms.cost * &terms.weight;
            if way.form == Form::Rearranged {
                return way.sum(&weighed.columns().into_iter().map(|c| way.sum(&c.to_vec())).collect::<Vec<_>>());
            }
            way.sum(&weighed.iter().copied().collect::<Vec<_>>())
        };
        let mut loss = total(&rows) + total(&columns);
        if let Violation::LogSumExp(temperature) = hinge.violation {
            let mut values = Vec::new();
            for query in 0..scores.nrows() {
                let others: Vec<usize> = (0..scores.nrows()).filter(|&other| negative(query, other)).collect();
                for (is_row, terms) in [(true, &mut rows), (false, &mut columns)] {
                    let place = |other| place(is_row, query, other);
                    let costs = others.iter().map(|&other| self.hinge(hinge.margin, scores, is_row, place(other)));
                    let (value, weights) = self.log_sum_exp(&costs.collect::<Vec<_>>(), temperature);
                    if value > T::zero() {
                        values.push(value);
                        others.iter().zip(weights).for_each(|(&other, weight)| terms.weight[place(other)] = weight);
                    }
                }
            }
            loss = way.sum(&values);
        }
        let loss = way.storage.round(loss);
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            trace.real(format!("mid.cost_{name}"), &terms.cost);
        }
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            if matches!(hinge.violation, Violation::Max | Violation::SemiHard) {
                trace.add(format!("mid.hardest_{name}"), Kind::Index, &terms.hardest);
            }
        }
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            if matches!(hinge.violation, Violation::LogSumExp(_)) {
                trace.real(format!("mid.weight_{name}"), &terms.weight);
            } else {
                trace.add(format!("mid.active_{name}"), Kind::Mask, &terms.weight);
            }
        }
        trace.vector("out.loss", vec![loss]);
        Costs { rows, columns, loss }
    }

    /// τ ln Σ exp(cost / τ) over the negatives of a query, and their weights by (LSE-1′).
    fn log_sum_exp<T: Real>(&self, costs: &[T], temperature: f64) -> (T, Vec<T>) {
        let (way, tau) = (self.arithmetic, T::from_f64(temperature));
        let round = |x: T| way.storage.round(x);
        let Some(most) = costs.iter().copied().reduce(|a, b| if b > a { b } else { a }) else {
            return (T::zero(), Vec::new());
        };
        if way.form == Form::Rearranged {
            let scaled: Vec<T> = costs.iter().map(|&cost| round(cost / tau)).collect();
            let most = round(most / tau);
            let exps: Vec<T> = scaled.iter().map(|&x| round(way.exp(x - most))).collect();
            let log = most + way.ln(way.sum(&exps));
            return (round(tau * log), scaled.iter().map(|&x| round(way.exp(x - log))).collect());
        }
        let exps: Vec<T> = costs.iter().map(|&cost| round(way.exp((cost - most) / tau))).collect();
        let sum = way.sum(&exps);
        (round(most + tau * way.ln(sum)), exps.iter().map(|&exp| round(exp / sum)).collect())
    }

    /// `α + S_ij − d_i` for rows, `− d_j` for columns.
    fn hinge<T: Real>(&self, margin: f64, scores: ArrayView2<'_, T>, rows: bool, [i, j]: [usize; 2]) -> T {
        let right = if rows { scores[[i, i]] } else { scores[[j, j]] };
        let (margin, wrong) = (T::from_f64(margin), scores[[i, j]]);
        let rearranged = self.arithmetic.form == Form::Rearranged;
        self.arithmetic.storage.round(if rearranged { (wrong - right) + margin } else { margin + wrong - right })
    }

    /// (LOSS-1): dS.
    pub(crate) fn loss_backward<T: Real>(&self, costs: &Costs<T>) -> Array2<T> {
        if let Some(given) = &self.d_scores {
            return given.mapv(T::from_f64);
        }
        let mut d = &costs.rows.weight + &costs.columns.weight;
        let way = self.arithmetic;
        for k in 0..d.nrows() {
            let (row, column) = (costs.rows.weight.row(k), costs.columns.weight.column(k));
            d[[k, k]] = if way.form == Form::Rearranged {
                -(way.sum(&row.to_vec()) + way.sum(&column.to_vec()))
            } else {
                // In the order of the places of S.
                let all = column.iter().take(k).chain(row).chain(column.iter().skip(k));
                all.fold(T::zero(), |sum, &weight| sum - weight)
            };
        }
        way.store(d)
    }
}

/// Which costs count: the hardest of each query, at most so many.
fn terms<T: Real>(cost: Array2<T>, rows: bool, violation: Violation) -> Terms<T> {
    let batch = cost.nrows();
    let most = match violation {
        Violation::Sum => batch,
        Violation::Max | Violation::SemiHard => 1,
        Violation::Hardest(most) => most,
        Violation::LogSumExp(_) => 0,
    };
    let mut hardest = Array1::from_elem(batch, -T::one());
    let mut weight = Array2::zeros(cost.raw_dim());
    for query in 0..batch {
        let of = |&other: &usize| cost[place(rows, query, other)].re();
        let mut others: Vec<usize> = (0..batch).filter(|other| of(other) > 0.0).collect();
        // Of equally hard ones the first.
        others.sort_by(|a, b| of(b).total_cmp(&of(a)));
        if let Some(&first) = others.first() {
            hardest[query] = T::from_f64(first as f64);
        }
        others.iter().take(most).for_each(|&other| weight[place(rows, query, other)] = T::one());
    }
    Terms { cost, weight, hardest }
}
