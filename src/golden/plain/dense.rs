//! Word vectors, projections, normalisation, absolute value: (EMB-1), (LIN-1), (NORM-1), (ABS-1).

use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis, s};

use super::Plain;
use crate::error::{ErrorKind, Result};
use crate::golden::arithmetic::Form;
use crate::golden::mistakes::Mistake as M;
use crate::real::Real;
use crate::spec::layers::Linear;

/// Rows and what they were divided by.
#[derive(Clone, Debug)]
pub(crate) struct Normalised<T> {
    /// x [N, D]
    pub input: Array2<T>,
    /// y [N, D]
    pub output: Array2<T>,
    /// ‖x‖ of every row, `[N]`.
    pub norms: Array1<T>,
    skipped: bool,
}

impl Plain<'_> {
    /// (EMB-1): ids [B, T] → x [B, T, E].
    pub(crate) fn words<T: Real>(&self, table: ArrayView2<'_, T>, ids: &Array2<usize>) -> Array3<T> {
        let mut words = Array3::zeros((ids.nrows(), ids.ncols(), table.ncols()));
        for ((b, t), &id) in ids.indexed_iter() {
            words.slice_mut(s![b, t, ..]).assign(&table.row(self.row_of(id, table.nrows())));
        }
        words
    }

    fn row_of(&self, id: usize, vocabulary: usize) -> usize {
        if self.wrong(M::WordOffByOne) { (id + 1) % vocabulary } else { id }
    }

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
                terms[self.row_of(ids[[b, t]], vocabulary)].push((b, t));
            }
        }
        let mut d_table = Array2::zeros((vocabulary, d.dim().2));
        for (tokens, mut row) in terms.iter().zip(d_table.outer_iter_mut()) {
            let tokens =
                if self.wrong(M::WordGradientOverwritten) { &tokens[tokens.len().saturating_sub(1)..] } else { tokens };
            for (e, sum) in row.iter_mut().enumerate() {
                let of_tokens: Vec<T> = tokens.iter().map(|&(b, t)| d[[b, t, e]]).collect();
                *sum = self.arithmetic.sum(&of_tokens);
                if self.wrong(M::WordGradientAveraged) && !tokens.is_empty() {
                    *sum = *sum / T::from_f64(tokens.len() as f64);
                }
            }
        }
        self.arithmetic.store(d_table)
    }

    /// (LIN-1)  y = x Wᵀ + b
    ///
    /// `bias_dropped` is the mistake of leaving b out.
    pub(crate) fn linear<T: Real>(&self, layer: &Linear<T>, x: ArrayView2<'_, T>, bias_dropped: M) -> Array2<T> {
        let product = self.arithmetic.product(x, layer.weight.t());
        self.arithmetic.store(if self.wrong(bias_dropped) { product } else { product + &layer.bias })
    }

    /// dW = dyᵀ x, db = Σ dy, dx = dy W.
    pub(crate) fn linear_backward<T: Real>(
        &self,
        layer: &Linear<T>,
        x: ArrayView2<'_, T>,
        dy: ArrayView2<'_, T>,
        bias_dropped: M,
    ) -> (Linear<T>, Array2<T>) {
        let way = self.arithmetic;
        let rows = T::from_f64(x.nrows() as f64);
        let mut d = Linear { weight: way.product(dy.t(), x), bias: way.column_sums(dy) };
        if self.wrong(bias_dropped) {
            d.bias.fill(T::zero());
        }
        if self.wrong(M::LinearBiasAveraged) {
            d.bias = d.bias / rows;
        }
        if self.wrong(M::LinearWeightAveraged) {
            d.weight = d.weight / rows;
        }
        let d = Linear { weight: way.store(d.weight), bias: way.store(d.bias) };
        (d, way.store(way.product(dy, layer.weight.view())))
    }

    /// (NORM-1), row by row. `skip` are the mistakes of leaving it out here.
    ///
    /// # Errors
    ///
    /// If a row is zero, unless a mistake is planted: then it is what it becomes.
    pub(crate) fn l2norm<T: Real>(&self, x: Array2<T>, side: &'static str, skip: &[M]) -> Result<Normalised<T>> {
        let skipped = skip.iter().any(|&mistake| self.wrong(mistake));
        let (mut output, mut norms) = (x.clone(), Array1::zeros(x.nrows()));
        if self.wrong(M::NormOverColumns) {
            for mut column in output.axis_iter_mut(Axis(1)) {
                let (_, divisor) = self.length(column.view());
                column.mapv_inplace(|x| x / divisor);
            }
        }
        for (row, (mut y, norm)) in output.outer_iter_mut().zip(norms.iter_mut()).enumerate() {
            let (length, divisor) = self.length(x.row(row));
            if length == T::zero() && self.mistakes.is_empty() {
                return Err(ErrorKind::ZeroNorm { tensor: format!("{side} embedding"), row }.into());
            }
            // What such a backend divides by is what it calls the norm, unless it only adds to it there.
            let roots = [M::NormRoot1e12, M::NormRoot1e8, M::NormRoot1e6, M::NormRoot1e5];
            let is_norm = roots.iter().chain(&[M::NormL1, M::NormMax, M::NormSquared]).any(|&m| self.wrong(m));
            *norm = self.arithmetic.storage.round(if is_norm { divisor } else { length });
            if !skipped && !self.wrong(M::NormOverColumns) {
                let inverse = T::one() / divisor;
                y.mapv_inplace(|x| if self.arithmetic.form == Form::Rearranged { x * inverse } else { x / divisor });
            }
        }
        Ok(Normalised { input: x, output: self.arithmetic.store(output), norms, skipped })
    }

    /// ‖x‖, and what a row is divided by, which is the same.
    fn length<T: Real>(&self, x: ArrayView1<'_, T>) -> (T, T) {
        let x = x.to_vec();
        // Scaling by a power of two is exact: it only keeps squares in range.
        let largest = x.iter().map(|x| x.re().abs()).fold(0.0, f64::max);
        let in_range = (1e-12..1e12).contains(&largest) || largest == 0.0 || !largest.is_finite();
        let unit = if in_range { 1.0 } else { f64::from_bits(largest.to_bits() & (0x7ff << 52)) };
        let scaled: Vec<T> = x.iter().map(|&x| x / T::from_f64(unit)).collect();
        let norm = self.arithmetic.dot(&scaled, &scaled).sqrt() * T::from_f64(unit);
        let absolute: Vec<T> = x.iter().map(|&x| if x < T::zero() { -x } else { x }).collect();
        let at_least = |least: f64| if norm.re() < least { T::from_f64(least) } else { norm };
        let with_inside = |epsilon: f64| (norm * norm + T::from_f64(epsilon)).sqrt();
        let divisors: [(M, T); 12] = [
            (M::NormL1, self.arithmetic.sum(&absolute)),
            (M::NormMax, T::from_f64(largest)),
            (M::NormSquared, norm * norm),
            (M::NormPlus1e8, norm + T::from_f64(1e-8)),
            (M::NormPlus1e6, norm + T::from_f64(1e-6)),
            (M::NormPlus1e5, norm + T::from_f64(1e-5)),
            (M::NormAtLeast1e12, at_least(1e-12)),
            (M::NormAtLeast1e8, at_least(1e-8)),
            (M::NormRoot1e12, with_inside(1e-12)),
            (M::NormRoot1e8, with_inside(1e-8)),
            (M::NormRoot1e6, with_inside(1e-6)),
            (M::NormRoot1e5, with_inside(1e-5)),
        ];
        let divisor =
            divisors.into_iter().find(|&(mistake, _)| self.wrong(mistake)).map_or(norm, |(_, divisor)| divisor);
        (norm, divisor)
    }

    /// (NORM-2)
    pub(crate) fn l2norm_backward<T: Real>(&self, norm: &Normalised<T>, dy: ArrayView2<'_, T>) -> Array2<T> {
        let mut dx = dy.to_owned();
        if (norm.skipped && !self.mistakes.is_empty()) || self.wrong(M::NormBackwardSkipped) {
            return dx;
        }
        if self.wrong(M::NormOverColumns) {
            for (j, mut dx) in dx.axis_iter_mut(Axis(1)).enumerate() {
                let (length, _) = self.length(norm.input.column(j));
                let y = norm.output.column(j).to_vec();
                let along = self.arithmetic.dot(&y, &dx.to_vec());
                dx.indexed_iter_mut().for_each(|(i, dx)| *dx = (*dx - y[i] * along) / length);
            }
            return dx;
        }
        for (row, mut dx) in dx.outer_iter_mut().enumerate() {
            let (x, y) = (norm.input.row(row).to_vec(), norm.output.row(row).to_vec());
            let (mut length, mut divisor) = self.length(norm.input.row(row));
            if self.mistakes.is_empty() {
                // What forward called the norm.
                (length, divisor) = (norm.norms[row], norm.norms[row]);
            }
            let dy = dx.to_vec();
            let along = self.arithmetic.dot(&y, &dy);
            let by_input = self.arithmetic.dot(&x, &dy);
            for k in 0..x.len() {
                let clean = dy[k] - y[k] * along;
                let inverse = T::one() / length;
                dx[k] = if self.wrong(M::NormBackwardWithoutProjection) {
                    dy[k] / length
                } else if self.wrong(M::NormBackwardWithoutDivision) {
                    clean
                } else if self.wrong(M::NormBackwardByInput) {
                    (dy[k] - x[k] * by_input) / length
                } else if self.wrong(M::NormBackwardSquared) {
                    clean / (length * length)
                } else if length == divisor && self.arithmetic.form == Form::Rearranged {
                    dy[k] * inverse - y[k] * (along * inverse)
                } else if length == divisor {
                    clean / length
                } else {
                    dy[k] / divisor - self.divisor_slope(&x, k, length, divisor) * along / divisor
                };
            }
        }
        self.arithmetic.store(dx)
    }

    /// The derivative of a wrong divisor by `x_k`.
    fn divisor_slope<T: Real>(&self, x: &[T], k: usize, length: T, divisor: T) -> T {
        let sign = |x: T| if x < T::zero() { -T::one() } else { T::one() };
        if self.wrong(M::NormL1) {
            sign(x[k])
        } else if self.wrong(M::NormMax) {
            let largest = (0..x.len()).fold(0, |best, i| if x[i].re().abs() > x[best].re().abs() { i } else { best });
            if k == largest { sign(x[k]) } else { T::zero() }
        } else if self.wrong(M::NormSquared) {
            x[k] + x[k]
        } else if self.wrong(M::NormAtLeast1e12) || self.wrong(M::NormAtLeast1e8) {
            T::zero()
        } else if [M::NormRoot1e12, M::NormRoot1e8, M::NormRoot1e6, M::NormRoot1e5].iter().any(|&m| self.wrong(m)) {
            x[k] / divisor
        } else {
            x[k] / length
        }
    }

    /// (ABS-1) where `use_abs` asks for it; `dropped` are the mistakes of leaving it out here.
    pub(crate) fn abs<T: Real>(&self, x: &Array2<T>, dropped: &[M]) -> Array2<T> {
        if dropped.iter().any(|&mistake| self.wrong(mistake)) {
            return x.clone();
        }
        let negative = |x: T| if self.wrong(M::AbsRelu) { T::zero() } else { -x };
        x.mapv(|x| if x < T::zero() { negative(x) } else { x })
    }

    /// dx = sign(x) dy, sign(0) = 0.
    pub(crate) fn abs_backward<T: Real>(&self, x: &Array2<T>, dy: ArrayView2<'_, T>, dropped: &[M]) -> Array2<T> {
        if self.wrong(M::AbsBackwardSign) || dropped.iter().any(|&mistake| self.wrong(mistake)) {
            return dy.to_owned();
        }
        let negative = if self.wrong(M::AbsRelu) { T::zero() } else { -T::one() };
        ndarray::Zip::from(x).and(dy).map_collect(|&x, &dy| {
            let sign = if x > T::zero() {
                T::one()
            } else if x < T::zero() {
                negative
            } else {
                T::zero()
            };
            sign * dy
        })
    }
}
