//! Residual blocks of two or three convolutions with a shortcut (He et al. 2016, "Deep residual learning", figures 2
//! and 5).
//!
//! ```text
//! (BLOCK-1)   r_k = norm_k(conv_k(h_{k − 1})), h_0 = x, h_k = max(0, r_k)           k = 1 … K
//! (BLOCK-2)   y = max(0, r_K + s), s = x or norm(conv(x))
//! (BLOCK-2′)  dr_K = ds = dy where y > 0, else 0; dx += ds, or through norm and conv
//! (BLOCK-1′)  dh_{k − 1} from dr_k through norm_k and conv_k, dr_k = dh_k where h_k > 0, else 0, dx += dh_0
//! ```
//!
//! - **Basic**, K = 2: 3 × 3 with the stride, 3 × 3.
//! - **Bottleneck**, K = 3: 1 × 1, 3 × 3, 1 × 1 to four times the channels. The stride is on the 3 × 3
//!   (torchvision) or on the first 1 × 1 (He et al.).
//!
//! The shortcut s is x itself if y has its shape, or else a convolution of 1 × 1 with the stride, and a norm
//! (section 3.3, option B). No convolution has a bias. The tensors have torchvision's names: `conv1.weight`,
//! `bn1.weight`, …, `downsample.0.weight`, `downsample.1.weight`.

use ndarray::{Array4, ArrayView4, Zip};

use super::batch_norm::{BatchNorm, BatchNormCache};
use super::conv::{Conv2d, Conv2dCache};
use super::module::missing;
use super::relu::{relu, relu_backward};
use super::{Layer, Mode, Module, Path, Tensor, Visitor};
use crate::error::Result;
use crate::linalg::{self, Write};
use crate::real::{Real, Scalar};

/// A convolution and its normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvNorm<T> {
    /// W; it has no bias, since the norm has one.
    pub conv: Conv2d<T>,
    /// γ, β and the running statistics.
    pub norm: BatchNorm<T>,
}

/// A residual block.
///
/// ```
/// use vsepp::nn::{Block, Module};
///
/// // The first block of ResNet-50's layer2, as torchvision has it, and as the paper has it.
/// let block = Block::<f32>::bottleneck(256, 128, [1, 2]);
/// assert_eq!(block.stages[1].conv.stride, 2);
/// let names: Vec<String> = block.tensors().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names[..3], ["conv1.weight", "bn1.weight", "bn1.bias"]);
/// assert_eq!(names[15], "downsample.0.weight");
/// let block = Block::<f32>::bottleneck(256, 128, [2, 1]);
/// assert_eq!(block.stages[0].conv.stride, 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Block<T> {
    /// `conv1`, `bn1` and so on: K of them.
    pub stages: Vec<ConvNorm<T>>,
    /// `downsample.0`, `downsample.1`; none if the shortcut is x itself.
    pub downsample: Option<ConvNorm<T>>,
}

impl<T: Clone + Default> ConvNorm<T> {
    /// All zeros, for a square kernel; outside the picture x is 0, so that a kernel of 3 × 3 keeps its size.
    fn zeros(outputs: usize, inputs: usize, kernel: usize, stride: usize) -> Self {
        let conv = Conv2d::zeros([outputs, inputs, kernel, kernel], stride, kernel / 2);
        Self { conv, norm: BatchNorm::zeros(outputs) }
    }
}

impl<T: Clone + Default> Block<T> {
    /// 3 × 3 with the stride, 3 × 3, from C channels to `planes`, all zeros.
    #[must_use]
    pub fn basic(inputs: usize, planes: usize, stride: usize) -> Self {
        let stages = vec![ConvNorm::zeros(planes, inputs, 3, stride), ConvNorm::zeros(planes, planes, 3, 1)];
        Self { stages, downsample: Self::shortcut(inputs, planes, stride) }
    }

    /// 1 × 1, 3 × 3, 1 × 1, from C channels to 4 `planes`, all zeros. The strides are those of the first 1 × 1 and of
    /// the 3 × 3.
    #[must_use]
    pub fn bottleneck(inputs: usize, planes: usize, strides: [usize; 2]) -> Self {
        let stages = vec![
            ConvNorm::zeros(planes, inputs, 1, strides[0]),
            ConvNorm::zeros(planes, planes, 3, strides[1]),
            ConvNorm::zeros(4 * planes, planes, 1, 1),
        ];
        Self { stages, downsample: Self::shortcut(inputs, 4 * planes, strides[0] * strides[1]) }
    }

    fn shortcut(inputs: usize, outputs: usize, stride: usize) -> Option<ConvNorm<T>> {
        (inputs != outputs || stride != 1).then(|| ConvNorm::zeros(outputs, inputs, 1, stride))
    }
}

/// By hand, because the names are numbered, and some are numbers.
impl<T: Clone + Default> Module<T> for Block<T> {
    fn visit<const M: usize, const S: usize>(
        mut changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        let all = || changed.iter().map(|block| &**block).chain(read);
        let shape = |block: &Self| (block.stages.len(), block.downsample.is_some());
        let (stages, downsample) = shape(all().next().expect("a visit has a value"));
        if let Some((other, _)) = all().map(shape).find(|&found| found != (stages, downsample)) {
            let (numbered, child) = (path.numbered("conv", stages.min(other) + 1), path.child("downsample"));
            let lacking = if stages == other { child } else { numbered };
            return Err(missing(&lacking));
        }
        for k in 0..stages {
            let changed = changed.each_mut().map(|block| &mut block.stages[k]);
            let paths = [path.numbered("conv", k + 1), path.numbered("bn", k + 1)];
            visit_pair(changed, read.map(|block| &block.stages[k]), &paths, visitor)?;
        }
        if downsample {
            let path = path.child("downsample");
            let changed = changed.map(|block| block.downsample.as_mut().expect("none is missing"));
            let read = read.map(|block| block.downsample.as_ref().expect("none is missing"));
            visit_pair(changed, read, &[path.child("0"), path.child("1")], visitor)?;
        }
        Ok(())
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        for (k, stage) in self.stages.iter_mut().enumerate() {
            stage.conv.empty(&path.numbered("conv", k + 1), which);
            stage.norm.empty(&path.numbered("bn", k + 1), which);
        }
        if let Some(stage) = &mut self.downsample {
            let path = path.child("downsample");
            stage.conv.empty(&path.child("0"), which);
            stage.norm.empty(&path.child("1"), which);
        }
    }
}

fn visit_pair<T: Clone + Default, const M: usize, const S: usize>(
    mut changed: [&mut ConvNorm<T>; M],
    read: [&ConvNorm<T>; S],
    [conv, norm]: &[Path<'_>; 2],
    visitor: &mut Visitor<'_, T, M, S>,
) -> Result<()> {
    Conv2d::visit(changed.each_mut().map(|pair| &mut pair.conv), read.map(|pair| &pair.conv), conv, visitor)?;
    BatchNorm::visit(changed.map(|pair| &mut pair.norm), read.map(|pair| &pair.norm), norm, visitor)
}

/// What [`Block`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct BlockCache<T> {
    /// y [N, O, Ho, Wo]
    pub y: Array4<T>,
    /// `conv1`, `bn1` and so on.
    stages: Vec<StageCache<T>>,
    downsample: StageCache<T>,
    /// `r_K + s`, and in the backward pass its gradient `ds`.
    sum: Array4<T>,
}

/// What a convolution, its norm and the ReLU after it keep.
#[derive(Clone, Debug, Default)]
struct StageCache<T> {
    conv: Conv2dCache<T>,
    /// Its y is `r_k`.
    norm: BatchNormCache<T>,
    /// `h_k`; not for the last stage.
    h: Array4<T>,
    /// The gradients with respect to the input of the convolution, its output, and `r_k`.
    dx: Array4<T>,
    d_conv: Array4<T>,
    dr: Array4<T>,
}

impl<T: Scalar> ConvNorm<T> {
    fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut StageCache<T>) -> Result<()> {
        self.conv.forward(x, mode, &mut cache.conv)?;
        self.norm.forward(cache.conv.y.view(), mode, &mut cache.norm)
    }

    /// From dr to `cache.dx`, if it is wanted.
    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut StageCache<T>,
        dr: &Array4<T>,
        write: Write,
        grad: &mut Self,
        wants_dx: bool,
    ) where
        T: Real,
    {
        let StageCache { conv, norm, dx, d_conv, .. } = cache;
        self.norm.backward(conv.y.view(), norm, dr, write, &mut grad.norm, Some(d_conv));
        self.conv.backward(x, conv, d_conv, write, &mut grad.conv, wants_dx.then_some(dx));
    }
}

impl<T: Scalar> Layer<T> for Block<T> {
    /// x [N, C, H, W]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array4<T>;
    type Dx = Array4<T>;
    type Cache = BlockCache<T>;

    /// # Errors
    ///
    /// As [`Conv2d`] and [`BatchNorm`] do.
    fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut BlockCache<T>) -> Result<()> {
        let BlockCache { y, stages, downsample, sum } = cache;
        stages.resize_with(self.stages.len(), StageCache::default);
        for (k, stage) in self.stages.iter().enumerate() {
            let (before, now) = stages.split_at_mut(k);
            let (h, now) = (before.last().map_or(x, |before| before.h.view()), &mut now[0]);
            // (BLOCK-1)  r_k = norm_k(conv_k(h_{k − 1})), h_0 = x, h_k = max(0, r_k)
            stage.forward(h, mode, now)?;
            if k + 1 < self.stages.len() {
                relu(now.norm.y.view(), &mut now.h);
            }
        }
        let s = match &self.downsample {
            Some(pair) => {
                pair.forward(x, mode, downsample)?;
                downsample.norm.y.view()
            }
            None => x,
        };
        let r = &stages.last().expect("a block has convolutions").norm.y;
        // (BLOCK-2)  y = max(0, r_K + s), s = x or norm(conv(x))
        linalg::reshape(sum, r.dim());
        Zip::from(&mut *sum).and(r).and(&s).par_for_each(|sum, &r, &s| *sum = r + s);
        relu(sum.view(), y);
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut BlockCache<T>,
        dy: &Array4<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let BlockCache { y, stages, downsample, sum: ds } = cache;
        // (BLOCK-2′)  dr_K = ds = dy where y > 0, else 0; dx += ds, or through norm and conv
        relu_backward(y.view(), dy.view(), ds);
        if let (Some(pair), Some(grad)) = (&self.downsample, &mut grad.downsample) {
            pair.backward(x, downsample, ds, write, grad, dx.is_some());
        }
        for (k, (stage, grad)) in self.stages.iter().zip(&mut grad.stages).enumerate().rev() {
            let (before, rest) = stages.split_at_mut(k);
            let (now, after) = rest.split_first_mut().expect("a stage has a cache");
            let mut dr = std::mem::take(&mut now.dr);
            // (BLOCK-1′)  dh_{k − 1} from dr_k through norm_k and conv_k, dr_k = dh_k where h_k > 0, else 0, dx += dh_0
            if let Some(after) = after.first() {
                relu_backward(now.h.view(), after.dx.view(), &mut dr);
            }
            let h = before.last().map_or(x, |before| before.h.view());
            stage.backward(h, now, if after.is_empty() { ds } else { &dr }, write, grad, k > 0 || dx.is_some());
            now.dr = dr;
        }
        if let Some(dx) = dx {
            let (dh, ds) = (&stages[0].dx, if self.downsample.is_some() { &downsample.dx } else { &*ds });
            linalg::reshape(dx, x.dim());
            Zip::from(dx).and(dh).and(ds).par_for_each(|dx, &dh, &ds| *dx = dh + ds);
        }
    }
}

impl<T: Scalar> Block<T> {
    /// Moves the running statistics of every norm towards those of the pass: once after each step.
    pub fn update(&mut self, cache: &BlockCache<T>) {
        for (stage, cache) in self.stages.iter_mut().zip(&cache.stages) {
            stage.norm.update(&cache.norm);
        }
        if let Some(pair) = &mut self.downsample {
            pair.norm.update(&cache.downsample.norm);
        }
    }
}

#[cfg(test)]
impl<T: Scalar> BlockCache<T> {
    /// Which numbers are above 0 after every `ReLU`.
    pub(crate) fn open(&self) -> impl Iterator<Item = bool> + '_ {
        self.stages.iter().flat_map(|stage| &stage.h).chain(&self.y).map(|h| h.re() > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Role;
    use crate::random::{Symmetric, stream};
    use crate::spec::pictures::block as spec;
    use crate::spec::pictures::{conv, norm};
    use ndarray::Array;
    use ndarray_rand::RandomExt;

    /// Random parameters, with variances above 0.3.
    fn filled<T: Scalar>(mut block: Block<T>) -> Block<T> {
        block.each_mut(|path, _, mut tensor| {
            let path = path.to_string();
            let centre = if path.ends_with("running_var") { 0.8 } else { 0.0 };
            let numbers = Array::random_using(tensor.raw_dim(), Symmetric(0.5), &mut stream(0, &path));
            tensor.zip_mut_with(&numbers, |x, &number| *x = T::from_f64(centre + number));
        });
        block
    }

    fn input<T: Scalar>(block: &Block<T>, pictures: usize, (h, w): (usize, usize)) -> Array4<T> {
        numbers((pictures, block.stages[0].conv.weight.dim().1, h, w), "x")
    }

    fn numbers<T: Scalar>(shape: (usize, usize, usize, usize), name: &str) -> Array4<T> {
        Array4::random_using(shape, Symmetric(1.0), &mut stream(0, name)).mapv(T::from_f64)
    }

    /// With and without `downsample`, and both places of the stride.
    fn blocks<T: Scalar>() -> Vec<Block<T>> {
        let all = [
            Block::basic(4, 4, 1),
            Block::basic(4, 5, 2),
            Block::bottleneck(8, 2, [1, 1]),
            Block::bottleneck(4, 2, [1, 2]),
            Block::bottleneck(4, 2, [2, 1]),
        ];
        all.into_iter().map(filled).collect()
    }

    fn run<T: Real>(block: &Block<T>, x: &Array4<T>, mode: Mode) -> (Array4<T>, Block<T>, Array4<T>) {
        let (mut cache, mut grad, mut dx) = (BlockCache::default(), block.clone(), Array4::default([0; 4]));
        // The second pass finds used memory.
        for x in [&(x * T::from_f64(2.0)), x] {
            block.forward(x.view(), mode, &mut cache).unwrap();
            let dy = numbers(cache.y.dim(), "dy");
            block.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));
        }
        (cache.y, grad, dx)
    }

    fn plain(pair: &ConvNorm<f64>) -> spec::ConvNorm<f64> {
        let Conv2d { weight, bias, stride, padding } = pair.conv.clone();
        let conv = conv::Conv2d { weight, bias, stride, padding };
        let BatchNorm { weight, bias, running_mean, running_var } = pair.norm.clone();
        spec::ConvNorm { conv, norm: norm::BatchNorm { weight, bias, running_mean, running_var } }
    }

    #[test]
    fn block_1_and_2_equal_their_plain_form() {
        for block in blocks::<f64>() {
            let x = input(&block, 3, (5, 7));
            for mode in [Mode::Train, Mode::Eval] {
                let (y, grad, dx) = run(&block, &x, mode);
                let of_batch = mode == Mode::Train;
                let plain_block = spec::Block {
                    stages: block.stages.iter().map(plain).collect(),
                    downsample: block.downsample.as_ref().map(plain),
                };
                let passed = spec::block(&plain_block, &x, of_batch);
                let (d, d_x) = spec::block_backward(&plain_block, &passed, of_batch, &numbers(y.dim(), "dy"));
                // A value is the end of fewer than 20 sums of at most 105 terms; see tests/spec.rs.
                let near = |found: &Array4<f64>, expected: &Array4<f64>| {
                    let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                    approx::assert_abs_diff_eq!(found, expected, epsilon = 20.0 * 105.0 * f64::EPSILON / 2.0 * largest);
                };
                near(&y, &passed.0);
                near(&dx, &d_x);
                let pairs = grad.stages.iter().chain(&grad.downsample);
                let plain_pairs = d.stages.iter().chain(&d.downsample);
                assert_eq!(pairs.clone().count(), plain_pairs.clone().count());
                for (pair, plain) in pairs.zip(plain_pairs) {
                    near(&pair.conv.weight, &plain.conv.weight);
                    let four = |x: &ndarray::Array1<f64>| x.clone().into_shape_with_order((x.len(), 1, 1, 1)).unwrap();
                    near(&four(&pair.norm.weight), &four(&plain.norm.weight));
                    near(&four(&pair.norm.bias), &four(&plain.norm.bias));
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        for block in blocks::<f32>() {
            let x = input(&block, 3, (19, 17));
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| run(&block, &x, Mode::Train))
            };
            let one = on(1);
            assert!([2, 3, 5].into_iter().all(|threads| on(threads) == one));
        }
    }

    #[test]
    fn frozen_tensors_have_no_gradient_and_dx_can_be_left_out() {
        for block in blocks::<f64>() {
            let x = input(&block, 2, (5, 7));
            let (_, expected, _) = run(&block, &x, Mode::Eval);
            let mut grad = expected.clone();
            grad.empty(&Path::default(), &|path, tensor| path.is_within("conv1") || tensor.role == Role::Buffer);
            let mut cache = BlockCache::default();
            block.forward(x.view(), Mode::Eval, &mut cache).unwrap();
            let dy = numbers(cache.y.dim(), "dy");
            block.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, None);
            assert!(grad.stages[0].conv.weight.is_empty());
            assert_eq!(grad.stages[1].conv, expected.stages[1].conv);
            assert_eq!(grad.stages[0].norm.weight, expected.stages[0].norm.weight);
        }
    }

    #[test]
    fn tensors_have_torchvisions_names_and_a_block_of_another_form_is_an_error() {
        let names = |block: &Block<f64>| block.tensors().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let of = |conv: &str, norm: &str| {
            let tensors = ["weight", "bias", "running_mean", "running_var"].map(|name| format!("{norm}.{name}"));
            [format!("{conv}.weight")].into_iter().chain(tensors).collect::<Vec<_>>()
        };
        let [basic, .., bottleneck] = &blocks::<f64>()[..] else { panic!("blocks") };
        assert_eq!(names(basic), [of("conv1", "bn1"), of("conv2", "bn2")].concat());
        let down = of("downsample.0", "downsample.1");
        assert_eq!(names(bottleneck), [of("conv1", "bn1"), of("conv2", "bn2"), of("conv3", "bn3"), down].concat());
        let message = basic.check_gradient(bottleneck).unwrap_err().to_string();
        assert_eq!(message, "conv3: one value has it, another has not");
        let message = Block::basic(4, 4, 2).check_gradient(basic).unwrap_err().to_string();
        assert_eq!(message, "downsample: one value has it, another has not");
    }
}
