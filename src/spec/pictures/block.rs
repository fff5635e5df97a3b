//! Residual blocks: convolutions with their norms, and a shortcut.
use super::conv::{Conv2d, conv, conv_backward};
use super::norm::{BatchNorm, batch_norm, batch_norm_backward, batch_statistics, relu, relu_backward};
use super::*;

/// A convolution and its norm.
#[derive(Clone, Debug)]
pub struct ConvNorm<T> {
    pub conv: Conv2d<T>,
    pub norm: BatchNorm<T>,
}

/// K convolutions and norms, and those of the shortcut, unless it has no parameters.
#[derive(Clone, Debug)]
pub struct Block<T> {
    pub stages: Vec<ConvNorm<T>>,
    pub downsample: Option<ConvNorm<T>>,
}

/// What a convolution and its norm compute: `conv(x)`, the statistics, r.
pub struct Stage<T> {
    x: Array4<T>,
    convolved: Array4<T>,
    mean: Array1<T>,
    var: Array1<T>,
    pub(super) r: Array4<T>,
}

/// The statistics are those of the batch, or the running ones.
pub(super) fn stage<T: Scalar>(w: &ConvNorm<T>, x: &Array4<T>, of_batch: bool) -> Stage<T> {
    let convolved = conv(&w.conv, x);
    let running = (w.norm.running_mean.clone(), w.norm.running_var.clone());
    let (mean, var) = if of_batch { batch_statistics(&convolved) } else { running };
    let r = batch_norm(&w.norm, &convolved, &mean, &var);
    Stage { x: x.clone(), convolved, mean, var, r }
}

/// dr gives dW, dγ, dβ and dx.
pub(super) fn stage_backward<T: Real>(
    w: &ConvNorm<T>,
    s: &Stage<T>,
    of_batch: bool,
    dr: &Array4<T>,
) -> (ConvNorm<T>, Array4<T>) {
    let (weight, bias, dx) = batch_norm_backward(&w.norm, &s.convolved, (&s.mean, &s.var), of_batch, dr);
    let (conv, dx) = conv_backward(&w.conv, &s.x, &dx);
    (ConvNorm { conv, norm: BatchNorm { weight, bias, ..w.norm.clone() } }, dx)
}

/// y [N, O, Ho, Wo], and what the backward pass needs.
pub type Passed<T> = (Array4<T>, Vec<Stage<T>>, Option<Stage<T>>);

/// x [N, C, H, W] gives y.
pub fn block<T: Scalar>(w: &Block<T>, x: &Array4<T>, of_batch: bool) -> Passed<T> {
    let mut stages: Vec<Stage<T>> = Vec::new();
    for w in &w.stages {
        // (BLOCK-1)  r_k = norm_k(conv_k(h_{k − 1})), h_0 = x, h_k = max(0, r_k)
        let h = stages.last().map_or(x.clone(), |before| relu(&before.r));
        stages.push(stage(w, &h, of_batch));
    }
    let downsample = w.downsample.as_ref().map(|w| stage(w, x, of_batch));
    // (BLOCK-2)  y = max(0, r_K + s), s = x, x at every stride-th pixel, or norm(conv(x))
    let mut sum = stages[stages.len() - 1].r.clone();
    if let Some(s) = &downsample {
        sum += &s.r;
    } else {
        let (channels, stride) = taken(w, x);
        let mut sum = sum.slice_mut(s![.., channels, .., ..]);
        sum += &x.slice(s![.., .., ..;stride, ..;stride]);
    }
    let y = relu(&sum);
    (y, stages, downsample)
}

/// A shortcut without parameters: the channels of s that are those of x (the others are 0), and the stride.
pub(crate) fn taken<T>(w: &Block<T>, x: &Array4<T>) -> (std::ops::Range<usize>, usize) {
    let (outputs, inputs) = (w.stages[w.stages.len() - 1].conv.weight.dim().0, x.dim().1);
    let before = (outputs - inputs) / 2;
    (before..before + inputs, w.stages.iter().map(|stage| stage.conv.stride).product())
}

/// dy gives the gradients of the parameters, in a block of the same form, and dx.
pub fn block_backward<T: Real>(
    w: &Block<T>,
    (y, stages, downsample): &Passed<T>,
    of_batch: bool,
    dy: &Array4<T>,
) -> (Block<T>, Array4<T>) {
    let mut d = w.clone();
    // (BLOCK-2′)  dr_K = ds = dy where y > 0, else 0; dx += ds, at its pixels, or through norm and conv
    let mut dr = relu_backward(y, dy);
    let mut dx = Array4::zeros(stages[0].x.dim());
    if let (Some(w), Some(s)) = (&w.downsample, downsample) {
        let (gradient, through) = stage_backward(w, s, of_batch, &dr);
        (d.downsample, dx) = (Some(gradient), through);
    } else {
        let (channels, stride) = taken(w, &dx);
        dx.slice_mut(s![.., .., ..;stride, ..;stride]).assign(&dr.slice(s![.., channels, .., ..]));
    }
    for k in (0..stages.len()).rev() {
        // (BLOCK-1′)  dh_{k − 1} from dr_k through norm_k and conv_k, dr_k = dh_k where h_k > 0, else 0, dx += dh_0
        let (gradient, dh) = stage_backward(&w.stages[k], &stages[k], of_batch, &dr);
        d.stages[k] = gradient;
        if k == 0 {
            dx += &dh;
        } else {
            dr = relu_backward(&stages[k - 1].r, &dh);
        }
    }
    (d, dx)
}
