//! The losses, (HINGE-1), (HINGE-2), (SH-1), (MH-1) and (LOSS-1), as matrices.

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
        let negative = |i: usize, j: usize| i != j && image_ids.is_none_or(|ids| ids[i] != ids[j]);
        let [rows, columns] = [true, false].map(|rows| {
            let cost = Array2::from_shape_fn(scores.raw_dim(), |(i, j)| {
                let x = self.hinge(hinge.margin, scores, rows, [i, j]);
                if negative(i, j) && x > T::zero() { x } else { T::zero() }
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
        let loss = way.storage.round(total(&rows) + total(&columns));
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            trace.real(format!("mid.cost_{name}"), &terms.cost);
        }
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            if hinge.violation == Violation::Max {
                trace.add(format!("mid.hardest_{name}"), Kind::Index, &terms.hardest);
            }
        }
        for (name, terms) in [("s", &rows), ("im", &columns)] {
            trace.add(format!("mid.active_{name}"), Kind::Mask, &terms.weight);
        }
        trace.vector("out.loss", vec![loss]);
        Costs { rows, columns, loss }
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
        let mut d = Array2::zeros(costs.rows.weight.raw_dim());
        for (rows, terms) in [(true, &costs.rows), (false, &costs.columns)] {
            for ((i, j), &weight) in terms.weight.indexed_iter() {
                let right = if rows { i } else { j };
                d[[i, j]] += weight;
                d[[right, right]] -= weight;
            }
        }
        self.arithmetic.store(d)
    }
}

/// Which costs count: all (SH), or the first of the hardest of each query (MH).
fn terms<T: Real>(cost: Array2<T>, rows: bool, violation: Violation) -> Terms<T> {
    let batch = cost.nrows();
    let mut hardest = Array1::from_elem(batch, -T::one());
    let mut weight = cost.mapv(|x| if x > T::zero() { T::one() } else { T::zero() });
    if violation == Violation::Max {
        weight.fill(T::zero());
    }
    let place = |query: usize, other: usize| if rows { [query, other] } else { [other, query] };
    for query in 0..batch {
        let costs = (0..batch).filter(|&other| cost[place(query, other)] > T::zero());
        let harder = |best, other| if cost[place(query, other)] > cost[place(query, best)] { other } else { best };
        let Some(first) = costs.reduce(harder) else { continue };
        hardest[query] = T::from_f64(first as f64);
        weight[place(query, first)] = T::one();
    }
    Terms { cost, weight, hardest }
}
