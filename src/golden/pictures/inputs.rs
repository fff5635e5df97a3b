//! Reads and checks the tensors and settings of the programs of pictures.

use ndarray::{Array1, Array2, Array4, Axis, Ix4};

use crate::error::{Error, Result};
use crate::golden::inputs::Reader;
use crate::real::Real;
use crate::spec::pictures::block::{Block, ConvNorm};
use crate::spec::pictures::conv::Conv2d;
use crate::spec::pictures::encoder::ResNet;
use crate::spec::pictures::norm::BatchNorm;
use crate::spec::pictures::pools::Window;

/// A block, its input, and the gradient of its output.
pub(super) struct BlockInputs<T> {
    pub w: Block<T>,
    pub x: Array4<T>,
    pub dy: Array4<T>,
}

/// A residual network, its input, and the gradient of φ.
pub(super) struct ResnetInputs<T> {
    pub w: ResNet<T>,
    /// The paths of the blocks: `layer1.0.` and so on.
    pub paths: Vec<String>,
    pub x: Array4<T>,
    pub dphi: Array2<T>,
}

/// A VGG, its input, and the gradient of φ.
pub(super) struct VggInputs<T> {
    /// The convolutions of every layer.
    pub layers: Vec<Vec<Conv2d<T>>>,
    /// The linear maps, as convolutions of one pixel.
    pub linear: [Conv2d<T>; 2],
    pub x: Array4<T>,
    pub dphi: Array2<T>,
}

/// The max pool of a residual network, of a VGG, and the cells of a VGG's average pool.
pub(in crate::golden) const POOL_OF_RESNET: Window = Window { kernel: 3, stride: 2, padding: 1 };
pub(in crate::golden) const POOL_OF_VGG: Window = Window { kernel: 2, stride: 2, padding: 0 };
pub(in crate::golden) const CELLS_OF_VGG: usize = 7;

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

    /// A block, x and dy.
    pub(super) fn block<T: Real>(&self) -> Result<BlockInputs<T>> {
        let x = self.x()?;
        let (w, shape) = self.block_at("", shape_of(&x), &self.settings.strides)?;
        let dy = self.dy(shape)?;
        Ok(BlockInputs { w, x, dy })
    }

    /// The convolution of a path and its norm, for pictures of a shape, and the shape of their result.
    fn stage<T: Real>(
        &self,
        [conv, norm]: [&str; 2],
        shape: [usize; 4],
        stride: usize,
    ) -> Result<(ConvNorm<T>, [usize; 4])> {
        let (conv, out) = self.convolution(conv, shape, (stride, None))?;
        Ok((ConvNorm { conv, norm: self.norm(norm, out)? }, out))
    }

    /// The block of a path, for pictures of a shape, and the shape of its result: two convolutions or three, and a
    /// projected shortcut if there are tensors for it.
    fn block_at<T: Real>(&self, path: &str, inputs: [usize; 4], strides: &[usize]) -> Result<(Block<T>, [usize; 4])> {
        if !(2..=3).contains(&strides.len()) {
            return Err(Error::config("strides", "two strides (basic) or three (bottleneck)", strides.len()));
        }
        let (mut shape, mut stages) = (inputs, Vec::new());
        for (k, &stride) in (1..).zip(strides) {
            let (stage, out) = self.stage([&format!("{path}conv{k}."), &format!("{path}bn{k}.")], shape, stride)?;
            stages.push(stage);
            shape = out;
        }
        let stride = strides.iter().fold(1usize, |product, &stride| product.saturating_mul(stride));
        let [n, c, h, w] = inputs;
        let names = [&*format!("{path}downsample.0."), &*format!("{path}downsample.1.")];
        let (downsample, shortcut) = if self.inputs.contains_key(&format!("param.{}weight", names[0])) {
            let (stage, out) = self.stage(names, inputs, stride)?;
            (Some(stage), out)
        } else {
            // Every stride-th pixel, and as many channels of zeros before x as after it.
            let grown = if shape[1] >= c && (shape[1] - c).is_multiple_of(2) { shape[1] } else { c };
            (None, [n, grown, h.div_ceil(stride), w.div_ceil(stride)])
        };
        if shortcut != shape {
            let problem =
                format!("{path}: expected a shortcut of the shape of the last norm, {shape:?}, found {shortcut:?}");
            return Err(Error::mismatch(problem.trim_start_matches(": ")));
        }
        Ok((Block { stages, downsample }, shape))
    }

    /// How many blocks or convolutions every layer has: one or more.
    fn layers(&self) -> Result<&[usize]> {
        let layers = &self.settings.layers;
        match layers.iter().copied().min() {
            None | Some(0) => {
                Err(Error::config("layers", "one or more numbers, each at least 1", format!("{layers:?}")))
            }
            Some(_) => Ok(layers),
        }
    }

    /// dφ [N, F]
    fn dphi<T: Real>(&self, rows: usize, features: usize) -> Result<Array2<T>> {
        self.matrix("in.d_phi", Some(rows), Some(features), "[N, F]")
    }

    /// A residual network, x and dφ.
    pub(super) fn resnet<T: Real>(&self) -> Result<ResnetInputs<T>> {
        let (x, layers) = (self.x()?, self.layers()?);
        let (first, mut shape) = self.stage(["conv1.", "bn1."], shape_of(&x), self.settings.stride)?;
        let pool = self.settings.pool.then_some(POOL_OF_RESNET);
        if let Some(pool) = pool {
            // With this padding any picture has a window.
            shape = [shape[0], shape[1], pool.count(shape[2]), pool.count(shape[3])];
        }
        let (mut blocks, mut paths) = (Vec::new(), Vec::new());
        let ones = vec![1; self.settings.strides.len()];
        for (layer, &count) in layers.iter().enumerate() {
            for number in 0..count {
                let strides = if layer > 0 && number == 0 { &self.settings.strides } else { &ones };
                let path = format!("layer{}.{number}.", layer + 1);
                let (block, out) = self.block_at(&path, shape, strides)?;
                blocks.push(block);
                paths.push(path);
                shape = out;
            }
        }
        let dphi = self.dphi(shape[0], shape[1])?;
        Ok(ResnetInputs { w: ResNet { first, pool, blocks }, paths, x, dphi })
    }

    /// A VGG, x and dφ.
    pub(super) fn vgg<T: Real>(&self) -> Result<VggInputs<T>> {
        let x = self.x()?;
        let (mut shape, mut number, mut layers) = (shape_of(&x), 0, Vec::new());
        for &count in self.layers()? {
            let mut convs = Vec::new();
            for _ in 0..count {
                let path = format!("features.{number}.");
                let (mut conv, out) = self.convolution(&path, shape, (1, None))?;
                conv.bias = Some(self.vector(&format!("param.{path}bias"), out[1], "[O]")?);
                convs.push(conv);
                (shape, number) = (out, number + 2);
            }
            layers.push(convs);
            let [n, c, h, w] = shape;
            if h.min(w) < POOL_OF_VGG.kernel {
                let expected = format!("pictures of 2 × 2 pixels or more after layer {}", layers.len());
                return Err(Error::shape("in.x", expected, &[n, c, h, w]));
            }
            (shape, number) = ([n, c, POOL_OF_VGG.count(h), POOL_OF_VGG.count(w)], number + 1);
        }
        let linear = |path: &str, inputs: usize| -> Result<Conv2d<T>> {
            let weight = self.matrix(&format!("param.{path}.weight"), None, Some(inputs), "[O, I]")?;
            let bias = self.vector(&format!("param.{path}.bias"), weight.nrows(), "[O]")?;
            let weight = weight.insert_axis(Axis(2)).insert_axis(Axis(3));
            Ok(Conv2d { weight, bias: Some(bias), stride: 1, padding: 0 })
        };
        let first = linear("classifier.0", shape[1] * CELLS_OF_VGG * CELLS_OF_VGG)?;
        let second = linear("classifier.3", first.weight.dim().0)?;
        let dphi = self.dphi(shape[0], second.weight.dim().0)?;
        Ok(VggInputs { layers, linear: [first, second], x, dphi })
    }
}

fn shape_of<T>(x: &Array4<T>) -> [usize; 4] {
    let (n, c, h, w) = x.dim();
    [n, c, h, w]
}
