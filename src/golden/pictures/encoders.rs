//! The programs of whole networks: pictures give φ, and dφ gives the gradients of all parameters and of the pictures.
//!
//! The tensors of a residual network have the names of its blocks' programs after the block's path, as
//! `mid.layer1.0.conv1`. Those of a VGG have the numbers that torchvision gives the modules: `mid.features.0` is the
//! result of the first convolution, `mid.features.1` that of its `ReLU`.

use ndarray::{Array2, Array4, Axis};

use super::inputs::{CELLS_OF_VGG, POOL_OF_VGG, ResnetInputs, VggInputs};
use super::layers::Layers;
use super::{Names, Passed, Running};
use crate::error::Result;
use crate::real::Real;
use crate::spec::pictures::conv::Conv2d;
use crate::spec::pictures::norm::{flatten, flatten_backward, relu, relu_backward};
use crate::spec::pictures::pools::{Window, max_pool};

/// Rows as pictures of one pixel; [`flatten`] is the way back.
fn pixels<T: Real>(x: Array2<T>) -> Array4<T> {
    x.insert_axis(Axis(2)).insert_axis(Axis(3))
}

impl<T: Real, L: Layers<T>> Running<'_, '_, T, L> {
    /// A max pool after a `ReLU`. Where a window has zeros only, no gradient comes through the `ReLU`: that is no kink.
    fn see_pool(&mut self, x: &Array4<T>, window: Window) {
        let (pictures, channels, height, width) = x.dim();
        for (n, c) in (0..pictures).flat_map(|n| (0..channels).map(move |c| (n, c))) {
            for (i, j) in (0..window.count(height)).flat_map(|i| (0..window.count(width)).map(move |j| (i, j))) {
                let of_window = window.rows(i, height).flat_map(|i| window.rows(j, width).map(move |j| [n, c, i, j]));
                let all: Vec<T> = of_window.map(|at| x[at]).collect();
                if all.iter().any(|x| x.re() > 0.0) {
                    self.margins.see_window(all.into_iter());
                }
            }
        }
    }

    pub(super) fn resnet(&mut self) -> Result<()> {
        let ResnetInputs { w, paths, x, dphi } = self.read.resnet()?;
        let names = Names::numbered("", 1);
        let first = self.stage(&w.first, x, &names);
        self.margins.see_relu(&first.r);
        let relu_1 = relu(&first.r);
        self.trace.real("mid.relu1", &relu_1);
        let mut h = relu_1.clone();
        if let Some(pool) = w.pool {
            self.see_pool(&relu_1, pool);
            h = max_pool(&relu_1, pool);
            self.trace.real("mid.maxpool", &h);
        }
        let mut passes: Vec<Passed<T>> = Vec::new();
        for (w, path) in w.blocks.iter().zip(&paths) {
            let pass = self.block_forward(w, &h, path);
            h = relu(&pass.sum);
            self.trace.real(format!("mid.{path}y"), &h);
            passes.push(pass);
        }
        let mean = self.layers.avg_pool(&h, 1);
        self.trace.real("out.phi", &flatten(&mean));

        let mut dh = self.layers.avg_pool_backward(&h, 1, &flatten_backward(&mean, &dphi));
        for ((w, path), pass) in w.blocks.iter().zip(&paths).zip(&passes).rev() {
            self.trace.real(format!("grad.mid.{path}y"), &dh);
            dh = self.block_backward(w, pass, path, &dh);
        }
        if let Some(pool) = w.pool {
            self.trace.real("grad.mid.maxpool", &dh);
            dh = self.layers.max_pool_backward(&relu_1, pool, &dh);
        }
        self.trace.real("grad.mid.relu1", &dh);
        let dx = self.stage_backward(&w.first, &first, &names, &relu_backward(&first.r, &dh));
        self.trace.real("grad.in.x", &dx);
        Ok(())
    }

    pub(super) fn vgg(&mut self) -> Result<()> {
        let VggInputs { layers, linear, x, dphi } = self.read.vgg()?;
        // The input of every convolution and its result, and the input of every pool.
        let (mut convs, mut pools, mut h, mut number) = (Vec::new(), Vec::new(), x, 0);
        for layer in &layers {
            for w in layer {
                let y = self.layers.conv(w, &h);
                self.trace.real(format!("mid.features.{number}"), &y);
                self.margins.see_relu(&y);
                let before = std::mem::replace(&mut h, relu(&y));
                self.trace.real(format!("mid.features.{}", number + 1), &h);
                convs.push((w, before, y));
                number += 2;
            }
            self.see_pool(&h, POOL_OF_VGG);
            let pooled = max_pool(&h, POOL_OF_VGG);
            self.trace.real(format!("mid.features.{number}"), &pooled);
            pools.push(std::mem::replace(&mut h, pooled));
            number += 1;
        }
        let cells = self.layers.avg_pool(&h, CELLS_OF_VGG);
        self.trace.real("mid.avgpool", &cells);
        let row = pixels(flatten(&cells));
        let [first, second] = &linear;
        let y_0 = self.linear(first, &row, 0);
        let y_3 = self.linear(second, &relu(&y_0), 3);
        self.trace.real("out.phi", &flatten(&relu(&y_3)));

        let d_hidden = self.linear_backward(second, (&relu(&y_0), &y_3), &pixels(dphi), 3);
        self.trace.real("grad.mid.classifier.1", &flatten(&d_hidden));
        let d_row = self.linear_backward(first, (&row, &y_0), &d_hidden, 0);
        let d_cells = flatten_backward(&cells, &flatten(&d_row));
        self.trace.real("grad.mid.avgpool", &d_cells);
        let mut dh = self.layers.avg_pool_backward(&h, CELLS_OF_VGG, &d_cells);
        for layer in layers.iter().rev() {
            number -= 1;
            self.trace.real(format!("grad.mid.features.{number}"), &dh);
            let before = pools.pop().expect("a pool for each layer");
            dh = self.layers.max_pool_backward(&before, POOL_OF_VGG, &dh);
            for _ in layer {
                self.trace.real(format!("grad.mid.features.{}", number - 1), &dh);
                number -= 2;
                let (w, x, y) = convs.pop().expect("as many as before");
                let dy = relu_backward(&y, &dh);
                self.trace.real(format!("grad.mid.features.{number}"), &dy);
                let (d, dx) = self.layers.conv_backward(w, &x, &dy);
                self.gradient(&format!("features.{number}"), &d);
                dh = dx;
            }
        }
        self.trace.real("grad.in.x", &dh);
        Ok(())
    }

    /// A linear map of rows, each a picture of one pixel: `classifier.0` or `.3`. Its `ReLU` is the next module.
    fn linear(&mut self, w: &Conv2d<T>, x: &Array4<T>, number: usize) -> Array4<T> {
        let y = self.layers.conv(w, x);
        self.trace.real(format!("mid.classifier.{number}"), &flatten(&y));
        self.margins.see_relu(&y);
        if number == 0 {
            self.trace.real("mid.classifier.1", &flatten(&relu(&y)));
        }
        y
    }

    /// dx from the gradient after the `ReLU`.
    fn linear_backward(
        &mut self,
        w: &Conv2d<T>,
        (x, y): (&Array4<T>, &Array4<T>),
        d_relu: &Array4<T>,
        number: usize,
    ) -> Array4<T> {
        let dy = relu_backward(y, d_relu);
        self.trace.real(format!("grad.mid.classifier.{number}"), &flatten(&dy));
        let (d, dx) = self.layers.conv_backward(w, x, &dy);
        self.trace.real(format!("grad.classifier.{number}.weight"), &flatten(&d.weight));
        if let Some(bias) = &d.bias {
            self.trace.real(format!("grad.classifier.{number}.bias"), bias);
        }
        dx
    }

    fn gradient(&mut self, path: &str, d: &Conv2d<T>) {
        self.trace.real(format!("grad.{path}.weight"), &d.weight);
        if let Some(bias) = &d.bias {
            self.trace.real(format!("grad.{path}.bias"), bias);
        }
    }
}
