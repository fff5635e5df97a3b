//! Reads and checks the tensors and settings of the programs of pictures.

use ndarray::{Array1, Array4, Ix4};

use crate::error::{Error, Result};
use crate::golden::inputs::Reader;
use crate::real::Real;
use crate::spec::pictures::block::{Block, ConvNorm};
use crate::spec::pictures::conv::Conv2d;
use crate::spec::pictures::norm::BatchNorm;
use crate::spec::pictures::pools::Window;

/// A block, its input, and the gradient of its output.
pub(super) struct BlockInputs<T> {
    pub w: Block<T>,
    pub x: Array4<T>,
    pub dy: Array4<T>,
}

/// The outputs along an axis of n pixels: ⌊(n + 2p − k) / s⌋ + 1, none if the kernel does not fit.
fn outputs(pixels: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    Some((pixels.checked_add(padding.checked_mul(2)?)?.checked_sub(kernel)?) / stride + 1)
}

fn at_least_one(key: &'static str, value: usize) -> Result<usize> {
    if value == 0 { Err(Error::config(key, "at least 1", value)) } else { Ok(value) }
}

impl Reader<'_> {
    /// A tensor with four axes, none of them empty.
    fn four<T: Real>(&self, name: &str, letters: &str) -> Result<Array4<T>> {
        let x = self.dimensions::<Ix4>(name, letters)?;
        if x.is_empty() {
            return Err(Error::shape(name, format!("{letters}, not empty"), x.shape()));
        }
        Ok(self.load(&x))
    }

    fn x<T: Real>(&self) -> Result<Array4<T>> {
        self.four("in.x", "[N, C, H, W]")
    }

    /// dy, which has the shape of y.
    fn dy<T: Real>(&self, shape: [usize; 4]) -> Result<Array4<T>> {
        let dy = self.four("in.d_y", "[N, O, Ho, Wo]")?;
        if dy.shape() == shape {
            return Ok(dy);
        }
        Err(Error::shape("in.d_y", format!("the shape of y, {shape:?}"), dy.shape()))
    }

    /// A convolution of pictures of a shape, and the shape of its result.
    fn convolution<T: Real>(
        &self,
        path: &str,
        [n, c, h, w]: [usize; 4],
        (stride, padding): (usize, Option<usize>),
    ) -> Result<(Conv2d<T>, [usize; 4])> {
        let name = format!("param.{path}weight");
        let weight = self.four::<T>(&name, "[O, C, kh, kw]")?;
        let (o, channels, kh, kw) = weight.dim();
        // Without a given padding, a kernel of 3 × 3 keeps the size of a picture.
        let padding = padding.unwrap_or(kh / 2);
        let stride = at_least_one("stride", stride)?;
        if channels != c {
            return Err(Error::shape(&name, format!("[O, C = {c}, kh, kw]"), weight.shape()));
        }
        if padding >= kh.max(kw) {
            return Err(Error::config("padding", format!("less than the kernel, {kh} × {kw}"), padding));
        }
        let (Some(ho), Some(wo)) = (outputs(h, kh, stride, padding), outputs(w, kw, stride, padding)) else {
            let expected = format!("a kernel that fits into {h} × {w} pixels with padding {padding}");
            return Err(Error::shape(&name, expected, weight.shape()));
        };
        Ok((Conv2d { weight, bias: None, stride, padding }, [n, o, ho, wo]))
    }

    /// The layer, x and dy.
    pub(super) fn conv<T: Real>(&self) -> Result<(Conv2d<T>, Array4<T>, Array4<T>)> {
        let x = self.x()?;
        let place = (self.settings.stride, Some(self.settings.padding));
        let (mut layer, shape) = self.convolution("", shape_of(&x), place)?;
        if self.inputs.contains_key("param.bias") {
            layer.bias = Some(self.vector("param.bias", shape[1], "[O]")?);
        }
        let dy = self.dy(shape)?;
        Ok((layer, x, dy))
    }

    fn norm<T: Real>(&self, path: &str, [n, c, h, w]: [usize; 4]) -> Result<BatchNorm<T>> {
        let get = |part: &str| -> Result<Array1<T>> { self.vector(&format!("param.{path}{part}"), c, "[C]") };
        if self.settings.training && n * h * w < 2 {
            let expected = "two or more numbers per channel for the statistics of the batch";
            return Err(Error::shape(if path.is_empty() { "in.x" } else { path }, expected, &[n, c, h, w]));
        }
        Ok(BatchNorm {
            weight: get("weight")?,
            bias: get("bias")?,
            running_mean: get("running_mean")?,
            running_var: get("running_var")?,
        })
    }

    /// The layer, x and dy.
    pub(super) fn batch_norm<T: Real>(&self) -> Result<(BatchNorm<T>, Array4<T>, Array4<T>)> {
        let x = self.x()?;
        let layer = self.norm("", shape_of(&x))?;
        let dy = self.dy(shape_of(&x))?;
        Ok((layer, x, dy))
    }

    /// The window, x and dy.
    pub(super) fn max_pool<T: Real>(&self) -> Result<(Window, Array4<T>, Array4<T>)> {
        let x: Array4<T> = self.x()?;
        let kernel = at_least_one("kernel", self.settings.kernel)?;
        let stride = at_least_one("stride", self.settings.stride)?;
        let padding = self.settings.padding;
        if padding > kernel / 2 {
            let expected = format!("at most half of the kernel, {kernel}, so that a pixel is in each window");
            return Err(Error::config("padding", expected, padding));
        }
        let [n, c, h, w] = shape_of(&x);
        let (Some(ho), Some(wo)) = (outputs(h, kernel, stride, padding), outputs(w, kernel, stride, padding)) else {
            let expected = format!("a window that fits into {h} × {w} pixels with padding {padding}");
            return Err(Error::config("kernel", expected, kernel));
        };
        let dy = self.dy([n, c, ho, wo])?;
        Ok((Window { kernel, stride, padding }, x, dy))
    }

    /// The size of y, x and dy.
    pub(super) fn avg_pool<T: Real>(&self) -> Result<(usize, Array4<T>, Array4<T>)> {
        let x = self.x()?;
        let size = at_least_one("size", self.settings.size)?;
        let [n, c, ..] = shape_of(&x);
        let dy = self.dy([n, c, size, size])?;
        Ok((size, x, dy))
    }

    /// A block: two convolutions or three, and a projected shortcut if there are tensors for it. (No case has the
    /// shortcut without parameters that takes every second pixel.)
    pub(super) fn block<T: Real>(&self) -> Result<BlockInputs<T>> {
        let x = self.x()?;
        let strides = &self.settings.strides;
        if !(2..=3).contains(&strides.len()) {
            return Err(Error::config("strides", "two strides (basic) or three (bottleneck)", strides.len()));
        }
        let mut shape = shape_of(&x);
        let mut stages = Vec::new();
        for (k, &stride) in strides.iter().enumerate() {
            let (conv, out) = self.convolution(&format!("conv{}.", k + 1), shape, (stride, None))?;
            stages.push(ConvNorm { conv, norm: self.norm(&format!("bn{}.", k + 1), out)? });
            shape = out;
        }
        let mut downsample = None;
        let mut shortcut = shape_of(&x);
        if self.inputs.contains_key("param.downsample.0.weight") {
            let stride = strides.iter().fold(1usize, |product, &stride| product.saturating_mul(stride));
            let (conv, out) = self.convolution("downsample.0.", shortcut, (stride, None))?;
            downsample = Some(ConvNorm { conv, norm: self.norm("downsample.1.", out)? });
            shortcut = out;
        }
        if shortcut != shape {
            let problem = format!("expected a shortcut of the shape of the last norm, {shape:?}, found {shortcut:?}");
            return Err(Error::mismatch(problem));
        }
        let dy = self.dy(shape)?;
        Ok(BlockInputs { w: Block { stages, downsample }, x, dy })
    }
}

fn shape_of<T>(x: &Array4<T>) -> [usize; 4] {
    let (n, c, h, w) = x.dim();
    [n, c, h, w]
}
