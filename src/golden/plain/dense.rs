//! Word vectors, projections, normalisation, absolute value: (EMB-1), (LIN-1), (NORM-1), (ABS-1).

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, s};

use super::Plain;
use crate::error::{ErrorKind, Result};
use crate::golden::arithmetic::Form;
use crate::real::Real;
use crate::spec::layers::Linear;

/// Rows and what they were divided by.
#[derive(Clone, Debug)]
pub(crate) struct Normalised<T> {
    /// y [N, D]
    pub output: Array2<T>,
    /// ‖x‖ of every row, `[N]`.
    pub norms: Array1<T>,
}

impl Plain<'_> {
    /// dW[w] += dx for every token, row by row, t upwards.
    pub(crate) fn words_backward<T: Real>(
        &self,
        vocabulary: usize,
        ids: &Array2<usize>,
        lengths: &[usize],
        d: &Array3<T>,
    ) -> Array2<T> {
        let mut terms: Vec<Vec<(usize, usize)>> = vec![Vec::new(); vocabulary];
        for (b, &length) in lengths.iter().enumerate() {
            for t in 0..length {
                terms[ids[[b, t]]].push((b, t));
            }
        }
        let mut d_table = Array2::zeros((vocabulary, d.dim().2));
        for (tokens, mut row) in terms.iter().zip(d_table.outer_iter_mut()) {
            for (e, sum) in row.iter_mut().enumerate() {
                let of_tokens: Vec<T> = tokens.iter().map(|&(b, t)| d[[b, t, e]]).collect();
                *sum = self.arithmetic.sum(&of_tokens);
            }
        }
        self.arithmetic.store(d_table)
    }

    /// (LIN-1)  y = x Wᵀ + b
    pub(crate) fn linear<T: Real>(&self, layer: &Linear<T>, x: ArrayView2<'_, T>) -> Array2<T> {
        self.arithmetic.store(self.arithmetic.product(x, layer.weight.t()) + &layer.bias)
    }

    /// dW = dyᵀ x, db = Σ dy, dx = dy W.
    pub(crate) fn linear_backward<T: Real>(
        &self,
        layer: &Linear<T>,
        x: ArrayView2<'_, T>,
        dy: ArrayView2<'_, T>,
    ) -> (Linear<T>, Array2<T>) {
        let way = self.arithmetic;
        let d = Linear { weight: way.store(way.product(dy.t(), x)), bias: way.store(way.column_sums(dy)) };
        (d, way.store(way.product(dy, layer.weight.view())))
    }

    /// (NORM-1), row by row.
    ///
    /// # Errors
    ///
    /// If a row is zero.
    pub(crate) fn l2norm<T: Real>(&self, x: Array2<T>, side: &'static str) -> Result<Normalised<T>> {
        let (mut output, mut norms) = (x.clone(), Array1::zeros(x.nrows()));
        for (row, (mut y, norm)) in output.outer_iter_mut().zip(norms.iter_mut()).enumerate() {
            let length = self.length(x.row(row));
            if length == T::zero() {
                return Err(ErrorKind::ZeroNorm { tensor: format!("{side} embedding"), row }.into());
            }
            *norm = self.arithmetic.storage.round(length);
            let inverse = T::one() / length;
            y.mapv_inplace(|x| if self.arithmetic.form == Form::Rearranged { x * inverse } else { x / length });
        }
        Ok(Normalised { output: self.arithmetic.store(output), norms })
    }

    /// ‖x‖
    fn length<T: Real>(&self, x: ArrayView1<'_, T>) -> T {
        // Scaling by a power of two is exact: it only keeps squares in range.
        let largest = x.iter().map(|x| x.re().abs()).fold(0.0, f64::max);
        let in_range = (1e-12..1e12).contains(&largest) || largest == 0.0 || !largest.is_finite();
        let unit = if in_range { 1.0 } else { f64::from_bits(largest.to_bits() & (0x7ff << 52)) };
        let scaled: Vec<T> = x.iter().map(|&x| x / T::from_f64(unit)).collect();
        self.arithmetic.dot(&scaled, &scaled).sqrt() * T::from_f64(unit)
    }

    /// (NORM-2)
    pub(crate) fn l2norm_backward<T: Real>(&self, norm: &Normalised<T>, dy: ArrayView2<'_, T>) -> Array2<T> {
        let mut dx = dy.to_owned();
        for (row, mut dx) in dx.outer_iter_mut().enumerate() {
            let (y, dy, length) = (norm.output.row(row).to_vec(), dx.to_vec(), norm.norms[row]);
            let along = self.arithmetic.dot(&y, &dy);
            let inverse = T::one() / length;
            for k in 0..y.len() {
                dx[k] = if self.arithmetic.form == Form::Rearranged {
                    dy[k] * inverse - y[k] * (along * inverse)
                } else {
                    (dy[k] - y[k] * along) / length
                };
            }
        }
        self.arithmetic.store(dx)
    }
}

/// (EMB-1): ids [B, T] → x [B, T, E].
pub(crate) fn words<T: Real>(table: ArrayView2<'_, T>, ids: &Array2<usize>) -> Array3<T> {
    let mut words = Array3::zeros((ids.nrows(), ids.ncols(), table.ncols()));
    for ((b, t), &id) in ids.indexed_iter() {
        words.slice_mut(s![b, t, ..]).assign(&table.row(id));
    }
    words
}

/// (ABS-1)
pub(crate) fn abs<T: Real>(x: &Array2<T>) -> Array2<T> {
    x.mapv(|x| if x < T::zero() { -x } else { x })
}

/// dx = sign(x) dy, sign(0) = 0.
pub(crate) fn abs_backward<T: Real>(x: &Array2<T>, dy: ArrayView2<'_, T>) -> Array2<T> {
    ndarray::Zip::from(x).and(dy).map_collect(|&x, &dy| {
        let sign = if x > T::zero() {
            T::one()
        } else if x < T::zero() {
            -T::one()
        } else {
            T::zero()
        };
        sign * dy
    })
}
