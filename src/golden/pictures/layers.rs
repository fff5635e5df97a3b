//! The layers of image encoders, twice: as the specification has them, and in any arithmetic.
//!
//! ReLU and the choice of a maximum need no arithmetic, so both take those of the specification.

use ndarray::{Array1, Array4, s};

use crate::golden::arithmetic::{Form, Order, fused};
use crate::golden::plain::Plain;
use crate::real::Real;
use crate::spec::pictures::conv::{Conv2d, conv, conv_backward};
use crate::spec::pictures::norm::{
    BatchNorm, EPSILON, batch_norm, batch_norm_backward, batch_norm_update, batch_statistics,
};
use crate::spec::pictures::pools::{Window, avg_pool, avg_pool_backward, cell, first_maximum, max_pool_backward};

/// Mean and variance `[C]`.
pub(super) type Statistics<T> = (Array1<T>, Array1<T>);

/// Ways to compute the layers.
pub(crate) trait Layers<T: Real> {
    fn conv(&self, w: &Conv2d<T>, x: &Array4<T>) -> Array4<T>;
    fn conv_backward(&self, w: &Conv2d<T>, x: &Array4<T>, dy: &Array4<T>) -> (Conv2d<T>, Array4<T>);
    fn statistics(&self, x: &Array4<T>) -> Statistics<T>;
    /// The running statistics after a step, from those of a batch with M numbers per channel.
    fn update(&self, w: &BatchNorm<T>, statistics: &Statistics<T>, m: usize) -> Statistics<T>;
    fn batch_norm(&self, w: &BatchNorm<T>, x: &Array4<T>, statistics: &Statistics<T>) -> Array4<T>;
    /// dγ, dβ and dx.
    fn batch_norm_backward(
        &self,
        w: &BatchNorm<T>,
        x: &Array4<T>,
        statistics: &Statistics<T>,
        of_batch: bool,
        dy: &Array4<T>,
    ) -> (Array1<T>, Array1<T>, Array4<T>);
    fn max_pool_backward(&self, x: &Array4<T>, window: Window, dy: &Array4<T>) -> Array4<T>;
    fn avg_pool(&self, x: &Array4<T>, size: usize) -> Array4<T>;
    fn avg_pool_backward(&self, x: &Array4<T>, size: usize, dy: &Array4<T>) -> Array4<T>;
    /// The sum of two values that are stored.
    fn add(&self, x: &Array4<T>, y: &Array4<T>) -> Array4<T>;
}

/// [`crate::spec::pictures`]
pub(crate) struct Specification;

impl Layers<f64> for Specification {
    fn conv(&self, w: &Conv2d<f64>, x: &Array4<f64>) -> Array4<f64> {
        conv(w, x)
    }

    fn conv_backward(&self, w: &Conv2d<f64>, x: &Array4<f64>, dy: &Array4<f64>) -> (Conv2d<f64>, Array4<f64>) {
        conv_backward(w, x, dy)
    }

    fn statistics(&self, x: &Array4<f64>) -> Statistics<f64> {
        batch_statistics(x)
    }

    fn update(&self, w: &BatchNorm<f64>, (mean, var): &Statistics<f64>, m: usize) -> Statistics<f64> {
        let mut after = w.clone();
        batch_norm_update(&mut after, mean, var, m);
        (after.running_mean, after.running_var)
    }

    fn batch_norm(&self, w: &BatchNorm<f64>, x: &Array4<f64>, (mean, var): &Statistics<f64>) -> Array4<f64> {
        batch_norm(w, x, mean, var)
    }

    fn batch_norm_backward(
        &self,
        w: &BatchNorm<f64>,
        x: &Array4<f64>,
        (mean, var): &Statistics<f64>,
        of_batch: bool,
        dy: &Array4<f64>,
    ) -> (Array1<f64>, Array1<f64>, Array4<f64>) {
        batch_norm_backward(w, x, (mean, var), of_batch, dy)
    }

    fn max_pool_backward(&self, x: &Array4<f64>, window: Window, dy: &Array4<f64>) -> Array4<f64> {
        max_pool_backward(x, window, dy)
    }

    fn avg_pool(&self, x: &Array4<f64>, size: usize) -> Array4<f64> {
        avg_pool(x, size)
    }

    fn avg_pool_backward(&self, x: &Array4<f64>, size: usize, dy: &Array4<f64>) -> Array4<f64> {
        avg_pool_backward(x, size, dy)
    }

    fn add(&self, x: &Array4<f64>, y: &Array4<f64>) -> Array4<f64> {
        x + y
    }
}

/// The factors of a sum's terms, for every element of a result.
struct Sums<T>(Vec<(Vec<T>, Vec<T>)>);

impl<T: Real> Sums<T> {
    fn new(elements: usize) -> Self {
        Self(vec![(Vec::new(), Vec::new()); elements])
    }

    fn add(&mut self, element: usize, x: T, y: T) {
        self.0[element].0.push(x);
        self.0[element].1.push(y);
    }

    /// The sums in the order of an arithmetic, in the shape of another tensor.
    fn in_shape_of(self, plain: &Plain<'_>, like: &Array4<T>) -> Array4<T> {
        let sums = self.0.iter().map(|(x, y)| plain.arithmetic.dot(x, y)).collect();
        Array4::from_shape_vec(like.dim(), sums).expect("a sum for each element")
    }
}

/// What is multiplied with what in a convolution: calls `see` with the flat places of y, W and x. For each of the
/// three the places of the other two come in the order of the specification. What lies outside a picture adds 0,
/// and is left out.
fn taps<T>(w: &Conv2d<T>, x: &Array4<T>, y: &Array4<T>, mut see: impl FnMut([usize; 3])) {
    let ((_, channels, kh, kw), (_, _, height, width)) = (w.weight.dim(), x.dim());
    let inside = |i: usize, u: usize, n: usize| (w.stride * i + u).checked_sub(w.padding).filter(|&row| row < n);
    for (at_y, ((n, o, i, j), _)) in y.indexed_iter().enumerate() {
        for c in 0..channels {
            for (u, v) in (0..kh).flat_map(|u| (0..kw).map(move |v| (u, v))) {
                if let (Some(row), Some(column)) = (inside(i, u, height), inside(j, v, width)) {
                    let at_w = ((o * channels + c) * kh + u) * kw + v;
                    see([at_y, at_w, ((n * channels + c) * height + row) * width + column]);
                }
            }
        }
    }
}

/// The numbers of every channel, in the order of the specification.
fn channels<T: Real>(x: &Array4<T>) -> impl Iterator<Item = Vec<T>> {
    x.axis_iter(ndarray::Axis(1)).map(|channel| channel.iter().copied().collect())
}

impl Plain<'_> {
    /// An operand of a product.
    fn operand<T: Real>(&self, x: &Array4<T>) -> Vec<T> {
        x.iter().map(|&x| self.arithmetic.operands.round(x)).collect()
    }

    fn is(&self, form: Form) -> bool {
        self.arithmetic.form == form
    }
}

impl<T: Real> Layers<T> for Plain<'_> {
    fn conv(&self, w: &Conv2d<T>, x: &Array4<T>) -> Array4<T> {
        let outputs = |n, kernel| (n + 2 * w.padding - kernel) / w.stride + 1;
        let ((n, _, height, width), (o, _, kh, kw)) = (x.dim(), w.weight.dim());
        let shape = Array4::zeros((n, o, outputs(height, kh), outputs(width, kw)));
        let (weights, pixels, mut sums) = (self.operand(&w.weight), self.operand(x), Sums::new(shape.len()));
        let bias = |at: usize| w.bias.as_ref().map(|bias| bias[at / (shape.len() / n / o) % o]);
        if self.is(Form::Rearranged) {
            // The sum begins with the bias.
            (0..shape.len()).for_each(|at| bias(at).into_iter().for_each(|bias| sums.add(at, bias, T::one())));
        }
        taps(w, x, &shape, |[at, at_w, at_x]| sums.add(at, weights[at_w], pixels[at_x]));
        let mut y = sums.in_shape_of(self, &shape);
        if !self.is(Form::Rearranged) {
            y.iter_mut().enumerate().for_each(|(at, y)| *y += bias(at).unwrap_or(T::zero()));
        }
        self.arithmetic.store(y)
    }

    fn conv_backward(&self, w: &Conv2d<T>, x: &Array4<T>, dy: &Array4<T>) -> (Conv2d<T>, Array4<T>) {
        let [weights, pixels, dys] = [&w.weight, x, dy].map(|x| self.operand(x));
        let (mut of_weight, mut of_x) = (Sums::new(w.weight.len()), Sums::new(x.len()));
        taps(w, x, dy, |[at, at_w, at_x]| {
            of_weight.add(at_w, dys[at], pixels[at_x]);
            of_x.add(at_x, dys[at], weights[at_w]);
        });
        let weight = self.arithmetic.store(of_weight.in_shape_of(self, &w.weight));
        let bias = w.bias.as_ref().map(|_| channels(dy).map(|dy| self.arithmetic.sum(&dy)).collect());
        let bias = bias.map(|bias: Array1<T>| self.arithmetic.store(bias));
        (Conv2d { weight, bias, ..*w }, self.arithmetic.store(of_x.in_shape_of(self, x)))
    }

    fn statistics(&self, x: &Array4<T>) -> Statistics<T> {
        let way = self.arithmetic;
        let m = T::from_f64((x.len() / x.dim().1) as f64);
        let of_channel = |x: Vec<T>| {
            let mean = way.sum(&x) / m;
            if self.is(Form::Interpolated) {
                // One pass over the numbers.
                let var = way.dot(&x, &x) / m - mean * mean;
                return (mean, if var < T::zero() { T::zero() } else { var });
            }
            let deviation: Vec<T> = x.iter().map(|&x| x - mean).collect();
            (mean, way.dot(&deviation, &deviation) / m)
        };
        let (mean, var): (Vec<T>, Vec<T>) = channels(x).map(of_channel).unzip();
        (way.store(mean.into()), way.store(var.into()))
    }

    fn update(&self, w: &BatchNorm<T>, (mean, var): &Statistics<T>, m: usize) -> Statistics<T> {
        let (keep, take) = (T::from_f64(0.9), T::from_f64(0.1));
        let moved = |running: T, batch: T| match self.arithmetic.form {
            Form::Definition => keep * running + take * batch,
            _ => running + take * (batch - running),
        };
        let unbiased = T::from_f64(m as f64 / (m - 1) as f64);
        let zip = |running: &Array1<T>, batch: &Array1<T>, factor: T| -> Array1<T> {
            running.iter().zip(batch).map(|(&running, &batch)| moved(running, batch * factor)).collect()
        };
        (
            self.arithmetic.store(zip(&w.running_mean, mean, T::one())),
            self.arithmetic.store(zip(&w.running_var, var, unbiased)),
        )
    }

    fn batch_norm(&self, w: &BatchNorm<T>, x: &Array4<T>, (mean, var): &Statistics<T>) -> Array4<T> {
        self.arithmetic.store(Array4::from_shape_fn(x.dim(), |at| {
            let c = at.1;
            let sigma = (var[c] + T::from_f64(EPSILON)).sqrt();
            if self.is(Form::Definition) {
                w.weight[c] * (x[at] - mean[c]) / sigma + w.bias[c]
            } else {
                // One multiplication and one addition for each number.
                let scale = w.weight[c] * (T::one() / sigma);
                let shift = w.bias[c] - mean[c] * scale;
                if self.arithmetic.order == Order::Fused { fused(x[at], scale, shift) } else { x[at] * scale + shift }
            }
        }))
    }

    fn batch_norm_backward(
        &self,
        w: &BatchNorm<T>,
        x: &Array4<T>,
        (mean, var): &Statistics<T>,
        of_batch: bool,
        dy: &Array4<T>,
    ) -> (Array1<T>, Array1<T>, Array4<T>) {
        let (way, definition) = (self.arithmetic, self.is(Form::Definition));
        let m = T::from_f64((x.len() / x.dim().1) as f64);
        let sigma = var.mapv(|var| (var + T::from_f64(EPSILON)).sqrt());
        // x̂, or x − μ, which is divided later.
        let hat = Array4::from_shape_fn(x.dim(), |at| {
            let deviation = x[at] - mean[at.1];
            if definition { deviation / sigma[at.1] } else { deviation }
        });
        let along: Array1<T> = channels(dy).zip(channels(&hat)).map(|(dy, hat)| way.dot(&dy, &hat)).collect();
        let d_bias: Array1<T> = channels(dy).map(|dy| way.sum(&dy)).collect();
        let d_weight = if definition { along.clone() } else { &along / &sigma };
        let dx = Array4::from_shape_fn(x.dim(), |at| {
            let c = at.1;
            let scale = w.weight[c] / sigma[c];
            if !of_batch {
                scale * dy[at]
            } else if definition {
                scale * (dy[at] - (d_bias[c] + hat[at] * d_weight[c]) / m)
            } else {
                let slope = along[c] / (sigma[c] * sigma[c]) / m;
                (dy[at] - d_bias[c] / m - hat[at] * slope) * scale
            }
        });
        (way.store(d_weight), way.store(d_bias), way.store(dx))
    }

    fn max_pool_backward(&self, x: &Array4<T>, window: Window, dy: &Array4<T>) -> Array4<T> {
        let (_, channels, height, width) = x.dim();
        let mut sums = Sums::new(x.len());
        for (at, &dy) in dy.indexed_iter() {
            let [n, c, i, j] = first_maximum(x, window, at);
            sums.add(((n * channels + c) * height + i) * width + j, dy, T::one());
        }
        self.arithmetic.store(sums.in_shape_of(self, x))
    }

    fn avg_pool(&self, x: &Array4<T>, size: usize) -> Array4<T> {
        let (n, c, h, w) = x.dim();
        self.arithmetic.store(Array4::from_shape_fn((n, c, size, size), |(n, c, i, j)| {
            let pixels = x.slice(s![n, c, cell(i, size, h), cell(j, size, w)]);
            let sum = self.arithmetic.sum(&pixels.iter().copied().collect::<Vec<T>>());
            let count = T::from_f64(pixels.len() as f64);
            if self.is(Form::Definition) { sum / count } else { sum * (T::one() / count) }
        }))
    }

    fn avg_pool_backward(&self, x: &Array4<T>, size: usize, dy: &Array4<T>) -> Array4<T> {
        let (_, channels, h, w) = x.dim();
        let mut sums = Sums::new(x.len());
        for ((n, c, i, j), &dy) in dy.indexed_iter() {
            let (rows, columns) = (cell(i, size, h), cell(j, size, w));
            let count = T::from_f64((rows.len() * columns.len()) as f64);
            let share = if self.is(Form::Definition) { dy / count } else { dy * (T::one() / count) };
            for (i, j) in rows.flat_map(|i| columns.clone().map(move |j| (i, j))) {
                sums.add(((n * channels + c) * h + i) * w + j, share, T::one());
            }
        }
        self.arithmetic.store(sums.in_shape_of(self, x))
    }

    fn add(&self, x: &Array4<T>, y: &Array4<T>) -> Array4<T> {
        self.arithmetic.store(x + y)
    }
}
