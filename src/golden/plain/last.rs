//! Which state is the vector of a row: (TXT-1), and the mistakes about it.

use ndarray::{Array2, Array3, ArrayView2, Axis, s};

use super::{Pass, Plain};
use crate::golden::mistakes::Mistake as M;
use crate::real::Real;

impl Plain<'_> {
    /// The layer whose states are taken.
    pub(super) fn top<T>(&self, pass: &Pass<T>) -> usize {
        if self.wrong(M::BottomLayer) { 0 } else { pass.layers.len() - 1 }
    }

    /// Which step's state is the row's: t = length − 1. None is h₀.
    pub(super) fn last_step(&self, length: usize) -> Option<usize> {
        if self.wrong(M::LastBeforeEnd) {
            length.checked_sub(2)
        } else if self.wrong(M::LastFirst) {
            Some(0)
        } else {
            Some(length - 1)
        }
    }

    /// To which row of the batch a row goes.
    pub(super) fn rows<T>(&self, pass: &Pass<T>) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..pass.lengths.len()).collect();
        if self.wrong(M::RowsNotRestored) {
            rows.sort_by_key(|&b| std::cmp::Reverse(pass.lengths[b]));
        }
        rows
    }

    /// (TXT-1): [B, H].
    pub(super) fn last<T: Real>(&self, pass: &Pass<T>, h0: &Array3<T>) -> Array2<T> {
        let (top, layer) = (self.top(pass), &pass.layers[self.top(pass)]);
        let (batch, steps, hidden) = layer.h.dim();
        let mut last = Array2::zeros((batch, hidden));
        for (mut out, &b) in last.outer_iter_mut().zip(&self.rows(pass)) {
            let length = pass.lengths[b];
            let states = layer.h.slice(s![b, ..length, ..]);
            if self.wrong(M::MeanPooling) {
                out.assign(&(states.sum_axis(Axis(0)) / T::from_f64(length as f64)));
            } else if self.wrong(M::MaxPooling) {
                out.assign(&states.map_axis(Axis(0), |h| h[largest(h)]));
            } else if self.wrong(M::LastOfZeros) && length < steps {
                out.fill(T::zero());
            } else {
                match self.last_step(length) {
                    Some(t) => out.assign(&states.row(t)),
                    None => out.assign(&h0.slice(s![top, b, ..])),
                }
            }
        }
        last
    }

    /// From the gradient of the last states to that of every state of the top layer, [B, T, H].
    pub(super) fn last_backward<T: Real>(&self, pass: &Pass<T>, d_last: ArrayView2<'_, T>) -> Array3<T> {
        let layer = &pass.layers[self.top(pass)];
        let steps = layer.h.dim().1;
        let mut d_states = Array3::zeros(layer.h.raw_dim());
        for (d, &b) in d_last.outer_iter().zip(&self.rows(pass)) {
            let length = pass.lengths[b];
            let mut d_row = d_states.slice_mut(s![b, .., ..]);
            if self.wrong(M::MeanPooling) {
                for mut d_state in d_row.outer_iter_mut().take(length) {
                    d_state.assign(&(&d / T::from_f64(length as f64)));
                }
            } else if self.wrong(M::MaxPooling) {
                for (k, &d) in d.iter().enumerate() {
                    d_row[[largest(layer.h.slice(s![b, ..length, k])), k]] = d;
                }
            } else if (self.wrong(M::LastOfZeros) || self.wrong(M::GradientAtPaddedEnd)) && length < steps {
            } else if let Some(t) = self.last_step(length) {
                d_row.row_mut(t).assign(&d);
            }
        }
        d_states
    }
}

/// The first of the largest.
fn largest<T: Real>(x: ndarray::ArrayView1<'_, T>) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}
