//! The programs of image encoders: convolution, batch normalisation, pools, a residual block, whole networks.
//!
//! Each program is written once, over [`Layers`]. [`Specification`] computes the expected values with
//! [`crate::spec::pictures`]; [`Plain`](super::Plain) computes the same layers in any honest arithmetic, for the
//! tolerances.
//!
//! | | |
//! |---|---|
//! | [`inputs`] | reads and checks a program's tensors and settings |
//! | [`layers`] | the layers of the specification, and in any arithmetic |
//! | this file | the programs of layers: which tensors they give, in the order of the data flow |
//! | [`encoders`] | the programs of whole networks, from pictures to φ |
//! | [`layout`] | pictures and kernels with other orders of axes: NHWC, HWIO, OHWI |

mod encoders;
mod inputs;
mod layers;
pub(crate) mod layout;

use ndarray::{Array4, s};

use self::inputs::BlockInputs;
pub(super) use self::inputs::{CELLS_OF_VGG, POOL_OF_RESNET, POOL_OF_VGG};
pub(super) use self::layers::Specification;
use self::layers::{Layers, Statistics};
use super::inputs::Reader;
use super::plain::{Kind, Trace};
use super::program::{Margins, Program, Run};
use crate::error::Result;
use crate::real::Real;
use crate::spec::pictures::block::{Block, ConvNorm, taken};
use crate::spec::pictures::norm::{BatchNorm, relu, relu_backward};
use crate::spec::pictures::pools::{first_maximum, max_pool};

/// Computes a program of pictures.
///
/// # Errors
///
/// If an input is missing, or does not have the shape that the others and the settings imply.
pub(super) fn run<T: Real>(program: Program, read: &Reader<'_>, layers: &impl Layers<T>) -> Result<Run<T>> {
    let mut run = Running { read, layers, trace: Trace::default(), margins: Margins::NONE };
    match program {
        Program::Conv => run.conv()?,
        Program::BatchNorm => run.batch_norm()?,
        Program::MaxPool => run.max_pool()?,
        Program::AvgPool => run.avg_pool()?,
        Program::Block => run.block()?,
        Program::Resnet => run.resnet()?,
        Program::Vgg => run.vgg()?,
        _ => unreachable!("{} is no program of pictures", program.name()),
    }
    Ok(Run { trace: run.trace, margins: run.margins })
}

/// A running program.
struct Running<'a, 'r, T, L> {
    read: &'a Reader<'r>,
    layers: &'a L,
    trace: Trace<T>,
    margins: Margins,
}

/// What a convolution and its norm compute, for the backward pass.
struct Stage<T> {
    x: Array4<T>,
    convolved: Array4<T>,
    statistics: Statistics<T>,
    r: Array4<T>,
}

/// What a block computes, for the backward pass.
struct Passed<T> {
    stages: Vec<Stage<T>>,
    downsample: Option<Stage<T>>,
    /// Before the last `ReLU`.
    sum: Array4<T>,
}

/// The names of a convolution and its norm.
struct Names {
    conv: String,
    norm: String,
}

impl Names {
    /// Those of a block's stage k.
    fn numbered(path: &str, k: usize) -> Self {
        Self { conv: format!("{path}conv{k}"), norm: format!("{path}bn{k}") }
    }

    fn downsample(path: &str) -> Self {
        Self { conv: format!("{path}downsample.0"), norm: format!("{path}downsample.1") }
    }
}

impl<T: Real, L: Layers<T>> Running<'_, '_, T, L> {
    fn conv(&mut self) -> Result<()> {
        let (w, x, dy) = self.read.conv()?;
        self.trace.real("out.y", &self.layers.conv(&w, &x));
        let (d, dx) = self.layers.conv_backward(&w, &x, &dy);
        self.trace.real("grad.weight", &d.weight);
        if let Some(bias) = &d.bias {
            self.trace.real("grad.bias", bias);
        }
        self.trace.real("grad.in.x", &dx);
        Ok(())
    }

    fn batch_norm(&mut self) -> Result<()> {
        let (w, x, dy) = self.read.batch_norm()?;
        let statistics = self.statistics(&w, &x, ["mid", "out"]);
        self.trace.real("out.y", &self.layers.batch_norm(&w, &x, &statistics));
        let (d_weight, d_bias, dx) = self.layers.batch_norm_backward(&w, &x, &statistics, self.training(), &dy);
        self.trace.real("grad.weight", &d_weight);
        self.trace.real("grad.bias", &d_bias);
        self.trace.real("grad.in.x", &dx);
        Ok(())
    }

    fn max_pool(&mut self) -> Result<()> {
        let (window, x, dy) = self.read.max_pool()?;
        let (_, _, height, width) = x.dim();
        for (at, _) in dy.indexed_iter() {
            let (n, c, i, j) = at;
            let rows = window.rows(i, height);
            let pixels = rows.flat_map(|i| window.rows(j, width).map(move |j| [n, c, i, j]));
            self.margins.see_window(pixels.map(|at| x[at]));
        }
        let place = |at| {
            let [_, _, i, j] = first_maximum(&x, window, at);
            T::from_f64((i * width + j) as f64)
        };
        self.trace.add("mid.index", Kind::Index, &Array4::from_shape_fn(dy.dim(), place));
        self.trace.real("out.y", &max_pool(&x, window));
        self.trace.real("grad.in.x", &self.layers.max_pool_backward(&x, window, &dy));
        Ok(())
    }

    fn avg_pool(&mut self) -> Result<()> {
        let (size, x, dy) = self.read.avg_pool()?;
        self.trace.real("out.y", &self.layers.avg_pool(&x, size));
        self.trace.real("grad.in.x", &self.layers.avg_pool_backward(&x, size, &dy));
        Ok(())
    }

    fn block(&mut self) -> Result<()> {
        let BlockInputs { w, x, dy } = self.read.block()?;
        let pass = self.block_forward(&w, &x, "");
        self.trace.real("out.y", &relu(&pass.sum));
        let dx = self.block_backward(&w, &pass, "", &dy);
        self.trace.real("grad.in.x", &dx);
        Ok(())
    }

    fn block_forward(&mut self, w: &Block<T>, x: &Array4<T>, path: &str) -> Passed<T> {
        let mut stages: Vec<Stage<T>> = Vec::new();
        for (k, w) in w.stages.iter().enumerate() {
            let mut h = x.clone();
            if let Some(before) = stages.last() {
                self.margins.see_relu(&before.r);
                h = relu(&before.r);
                self.trace.real(format!("mid.{path}relu{k}"), &h);
            }
            stages.push(self.stage(w, h, &Names::numbered(path, k + 1)));
        }
        let downsample = w.downsample.as_ref().map(|w| self.stage(w, x.clone(), &Names::downsample(path)));
        let r = &stages[stages.len() - 1].r;
        let sum = if let Some(stage) = &downsample {
            self.layers.add(r, &stage.r)
        } else {
            let (channels, stride) = taken(w, x);
            let mut shortcut = Array4::zeros(r.dim());
            shortcut.slice_mut(s![.., channels, .., ..]).assign(&x.slice(s![.., .., ..;stride, ..;stride]));
            self.layers.add(r, &shortcut)
        };
        self.margins.see_relu(&sum);
        self.trace.real(format!("mid.{path}sum"), &sum);
        Passed { stages, downsample, sum }
    }

    /// dx from dy.
    fn block_backward(&mut self, w: &Block<T>, pass: &Passed<T>, path: &str, dy: &Array4<T>) -> Array4<T> {
        let dsum = relu_backward(&pass.sum, dy);
        self.trace.real(format!("grad.mid.{path}sum"), &dsum);
        let mut dx = Array4::zeros(pass.stages[0].x.dim());
        if let (Some(w), Some(stage)) = (&w.downsample, &pass.downsample) {
            dx = self.stage_backward(w, stage, &Names::downsample(path), &dsum);
        } else {
            let (channels, stride) = taken(w, &dx);
            dx.slice_mut(s![.., .., ..;stride, ..;stride]).assign(&dsum.slice(s![.., channels, .., ..]));
        }
        let mut dr = dsum;
        for (k, (w, stage)) in w.stages.iter().zip(&pass.stages).enumerate().rev() {
            let dh = self.stage_backward(w, stage, &Names::numbered(path, k + 1), &dr);
            if k == 0 {
                dx = self.layers.add(&dx, &dh);
            } else {
                self.trace.real(format!("grad.mid.{path}relu{k}"), &dh);
                dr = relu_backward(&pass.stages[k - 1].r, &dh);
            }
        }
        dx
    }

    fn stage(&mut self, w: &ConvNorm<T>, x: Array4<T>, names: &Names) -> Stage<T> {
        let convolved = self.layers.conv(&w.conv, &x);
        self.trace.real(format!("mid.{}", names.conv), &convolved);
        let within = ["mid", "out"].map(|prefix| format!("{prefix}.{}", names.norm));
        let statistics = self.statistics(&w.norm, &convolved, [&within[0], &within[1]]);
        let r = self.layers.batch_norm(&w.norm, &convolved, &statistics);
        self.trace.real(format!("mid.{}", names.norm), &r);
        Stage { x, convolved, statistics, r }
    }

    fn stage_backward(&mut self, w: &ConvNorm<T>, stage: &Stage<T>, names: &Names, dr: &Array4<T>) -> Array4<T> {
        self.trace.real(format!("grad.mid.{}", names.norm), dr);
        let (d_weight, d_bias, d_convolved) =
            self.layers.batch_norm_backward(&w.norm, &stage.convolved, &stage.statistics, self.training(), dr);
        self.trace.real(format!("grad.{}.weight", names.norm), &d_weight);
        self.trace.real(format!("grad.{}.bias", names.norm), &d_bias);
        self.trace.real(format!("grad.mid.{}", names.conv), &d_convolved);
        let (d, dx) = self.layers.conv_backward(&w.conv, &stage.x, &d_convolved);
        self.trace.real(format!("grad.{}.weight", names.conv), &d.weight);
        dx
    }

    fn training(&self) -> bool {
        self.read.settings.training
    }

    /// The statistics that a norm takes. Those of the batch are traced, and what the running ones become.
    fn statistics(&mut self, w: &BatchNorm<T>, x: &Array4<T>, [mid, out]: [&str; 2]) -> Statistics<T> {
        if !self.training() {
            return (w.running_mean.clone(), w.running_var.clone());
        }
        let statistics = self.layers.statistics(x);
        self.trace.real(format!("{mid}.mean"), &statistics.0);
        self.trace.real(format!("{mid}.var"), &statistics.1);
        let numbers = x.len() / x.dim().1;
        let running = self.layers.update(w, &statistics, numbers);
        self.trace.real(format!("{out}.running_mean"), &running.0);
        self.trace.real(format!("{out}.running_var"), &running.1);
        statistics
    }
}
