//! Residual blocks of two or three convolutions with a shortcut (He et al. 2016, "Deep residual learning", figures 2
//! and 5).
//!
//! ```text
//! (BLOCK-1)   r_k = norm_k(conv_k(h_{k − 1})), h_0 = x, h_k = max(0, r_k)           k = 1 … K
//! (BLOCK-2)   y = max(0, r_K + s), s = x, x at every stride-th pixel, or norm(conv(x))
//! (BLOCK-2′)  dr_K = ds = dy where y > 0, else 0; dx += ds, at its pixels, or through norm and conv
//! (BLOCK-1′)  dh_{k − 1} from dr_k through norm_k and conv_k, dr_k = dh_k where h_k > 0, else 0, dx += dh_0
//! ```
//!
//! - **Basic**, K = 2: 3 × 3 with the stride, 3 × 3.
//! - **Bottleneck**, K = 3: 1 × 1, 3 × 3, 1 × 1 to four times the channels. The stride is on the 3 × 3
//!   (torchvision) or on the first 1 × 1 (He et al.).
//!
//! The shortcut s is x itself if y has its shape. Otherwise it is a convolution of 1 × 1 with the stride, and a norm
//! (section 3.3, option B); or, without parameters, every stride-th row and column of x, with (O − C) / 2 channels of
//! zeros before and after it (option A, of the nets for CIFAR-10). No convolution has a bias. The tensors have torchvision's names: `conv1.weight`,
//! `bn1.weight`, …, `downsample.0.weight`, `downsample.1.weight`.

use ndarray::{Array4, ArrayView4, Zip, s};

use super::conv_norm::{ConvNorm, ConvNormCache};
use super::module::missing;
use super::relu::{rectified, relu, relu_backward, relu_of_sum};
use super::{Layer, Mode, Module, Path, Tensor, Visitor};
use crate::error::Result;
use crate::linalg::{self, Write};
use crate::real::{Real, Scalar};

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
    /// `downsample.0`, `downsample.1`; none if the shortcut has no parameters.
    pub downsample: Option<ConvNorm<T>>,
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
            ConvNorm::visit(changed, read.map(|block| &block.stages[k]), &paths, visitor)?;
        }
        if downsample {
            let path = path.child("downsample");
            let changed = changed.map(|block| block.downsample.as_mut().expect("none is missing"));
            let read = read.map(|block| block.downsample.as_ref().expect("none is missing"));
            ConvNorm::visit(changed, read, &[path.child("0"), path.child("1")], visitor)?;
        }
        Ok(())
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        for (k, stage) in self.stages.iter_mut().enumerate() {
            stage.empty(&[path.numbered("conv", k + 1), path.numbered("bn", k + 1)], which);
        }
        if let Some(pair) = &mut self.downsample {
            let path = path.child("downsample");
            pair.empty(&[path.child("0"), path.child("1")], which);
        }
    }
}

/// What [`Block`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct BlockCache<T> {
    /// y [N, O, Ho, Wo]
    pub y: Array4<T>,
    /// `conv1`, `bn1` and so on, without their results.
    stages: Vec<ConvNormCache<T>>,
    downsample: ConvNormCache<T>,
    /// Memory of a pass. Nothing of it is needed later, so the blocks of a network share it.
    pub(crate) memory: Memory<T>,
}

/// What is needed inside a block only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory<T> {
    /// `h_k`, k < K, then `r_K`: the results of `conv1`, `bn1` and so on. The backward pass computes `h_k` once more,
    /// which takes one pass over memory.
    results: Vec<Array4<T>>,
    /// That of the shortcut.
    shortcut: Array4<T>,
    /// `ds = dr_K`
    ds: Array4<T>,
    /// `dr_k`, k < K; in the end that of x through the shortcut's convolution.
    dr: Array4<T>,
    /// `dh_{k − 1}`
    dh: Array4<T>,
    /// With respect to the output of a convolution.
    conv: Array4<T>,
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
    /// As [`Conv2d`](super::Conv2d) and [`BatchNorm`](super::BatchNorm) do.
    fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut BlockCache<T>) -> Result<()> {
        let x = x.as_standard_layout();
        cache.stages.resize_with(self.stages.len(), ConvNormCache::default);
        cache.memory.results.resize_with(self.stages.len(), || Array4::default([0; 4]));
        cache.lend();
        let result = self.compute(x.view(), mode, cache);
        cache.lend();
        result
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
        cache.lend();
        let BlockCache { y, stages, downsample, memory: Memory { ds, dr, dh, conv, .. } } = cache;
        // (BLOCK-2′)  dr_K = ds = dy where y > 0, else 0; dx += ds, at its pixels, or through norm and conv
        linalg::reshape(ds, dy.dim());
        ds.assign(dy);
        relu_backward(y.view(), ds);
        let last = self.stages.len() - 1;
        for (stage, cache) in self.stages[..last].iter().zip(&mut *stages) {
            stage.rectified_again(cache);
        }
        for (k, (stage, grad)) in self.stages.iter().zip(&mut grad.stages).enumerate().rev() {
            let (before, rest) = stages.split_at_mut(k);
            let now = &mut rest[0];
            // (BLOCK-1′)  dh_{k − 1} from dr_k through norm_k and conv_k, dr_k = dh_k where h_k > 0, else 0, dx += dh_0
            if k < last {
                std::mem::swap(dr, dh);
                relu_backward(now.r().view(), dr);
            }
            let h = before.last().map_or(x, |before| before.r().view());
            let wanted = (k > 0 || dx.is_some()).then_some(&mut *dh);
            stage.backward(h, now, if k < last { dr } else { ds }, write, grad, conv, wanted);
        }
        if let (Some(pair), Some(grad)) = (&self.downsample, &mut grad.downsample) {
            pair.backward(x, downsample, ds, write, grad, conv, dx.is_some().then_some(&mut *dr));
        }
        cache.lend();
        let Memory { ds, dr, dh, .. } = &mut cache.memory;
        let Some(dx) = dx else { return };
        linalg::reshape(dx, x.dim());
        if self.downsample.is_some() {
            Zip::from(dx).and(dh).and(dr).par_for_each(|dx, &mut dh, &mut ds| *dx = dh + ds);
        } else if ds.dim() == x.dim() {
            Zip::from(dx).and(dh).and(ds).par_for_each(|dx, &mut dh, &mut ds| *dx = dh + ds);
        } else {
            dx.assign(dh);
            let (channels, stride) = self.taken(x.dim().1);
            let mut dx = dx.slice_mut(s![.., .., ..;stride, ..;stride]);
            dx += &ds.slice(s![.., channels, .., ..]);
        }
    }
}

impl<T: Scalar> Block<T> {
    /// The forward pass, with the memory lent.
    fn compute(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut BlockCache<T>) -> Result<()> {
        let BlockCache { y, stages, downsample, .. } = cache;
        for (k, stage) in self.stages.iter().enumerate() {
            let (before, now) = stages.split_at_mut(k);
            let h = before.last().map_or(x, |before| before.r().view());
            // (BLOCK-1)  r_k = norm_k(conv_k(h_{k − 1})), h_0 = x, h_k = max(0, r_k)
            if k + 1 < self.stages.len() {
                stage.forward_rectified(h, mode, &mut now[0])?;
            } else {
                stage.forward(h, mode, &mut now[0])?;
            }
        }
        let r = stages.last().expect("a block has convolutions").r();
        // (BLOCK-2)  y = max(0, r_K + s), s = x, x at every stride-th pixel, or norm(conv(x))
        if let Some(pair) = &self.downsample {
            pair.forward(x, mode, downsample)?;
            relu_of_sum(r, downsample.r().view(), y);
        } else if r.dim() == x.dim() {
            relu_of_sum(r, x, y);
        } else {
            y.clone_from(r);
            self.add_taken(x, y);
        }
        Ok(())
    }

    /// max(0, y + s) in place of y, for the shortcut without parameters.
    fn add_taken(&self, x: ArrayView4<'_, T>, y: &mut Array4<T>) {
        let (channels, stride) = self.taken(x.dim().1);
        let mut taken = y.slice_mut(s![.., channels, .., ..]);
        taken += &x.slice(s![.., .., ..;stride, ..;stride]);
        relu(y);
    }

    /// y in [`Mode::Eval`], for which nothing is kept: norms, `ReLU` and sum are computed with the convolutions.
    ///
    /// # Errors
    ///
    /// As a forward pass.
    pub(crate) fn embed(&self, x: ArrayView4<'_, T>, memory: &mut Memory<T>, y: &mut Array4<T>) -> Result<()> {
        let x = x.as_standard_layout();
        let (last, stages) = self.stages.split_last().expect("a block has convolutions");
        memory.results.resize_with(self.stages.len(), || Array4::default([0; 4]));
        for (k, stage) in stages.iter().enumerate() {
            let (before, now) = memory.results.split_at_mut(k);
            let h = before.last().map_or(x.view(), |before| before.view());
            // (BLOCK-1)  r_k = norm_k(conv_k(h_{k − 1})), h_0 = x, h_k = max(0, r_k)
            stage.embed(h, rectified, &mut now[0])?;
        }
        let h = stages.len().checked_sub(1).map_or(x.view(), |k| memory.results[k].view());
        // (BLOCK-2)  y = max(0, r_K + s), s = x, x at every stride-th pixel, or norm(conv(x))
        if let Some(pair) = &self.downsample {
            pair.embed(x.view(), |r| r, &mut memory.shortcut)?;
            return last.embed_with(h, memory.shortcut.view(), y);
        }
        let (outputs, stride) = (last.conv.weight.dim().0, self.taken(x.dim().1).1);
        if (outputs, stride) == (x.dim().1, 1) {
            return last.embed_with(h, x.view(), y);
        }
        last.embed(h, |r| r, y)?;
        self.add_taken(x.view(), y);
        Ok(())
    }

    /// The shortcut without parameters: the channels of y that get those of x, and the stride.
    fn taken(&self, inputs: usize) -> (std::ops::Range<usize>, usize) {
        let outputs = self.stages.last().expect("a block has convolutions").conv.weight.dim().0;
        let before = outputs.checked_sub(inputs).expect("a shortcut without parameters does not lose channels") / 2;
        (before..before + inputs, self.stages.iter().map(|stage| stage.conv.stride).product())
    }

    /// Moves the running statistics of every norm towards those of the pass: once after each step.
    pub fn update(&mut self, cache: &BlockCache<T>) {
        for (stage, cache) in self.stages.iter_mut().zip(&cache.stages) {
            stage.update(cache);
        }
        if let Some(pair) = &mut self.downsample {
            pair.update(&cache.downsample);
        }
    }
}

impl<T> BlockCache<T> {
    /// Exchanges the results of the stages with the shared memory: before a pass and after it.
    fn lend(&mut self) {
        let Memory { results, shortcut, .. } = &mut self.memory;
        for (stage, result) in self.stages.iter_mut().zip(results) {
            std::mem::swap(stage.r_mut(), result);
        }
        std::mem::swap(self.downsample.r_mut(), shortcut);
    }
}

impl<T: Scalar> BlockCache<T> {
    /// Which numbers are above 0 after every `ReLU`.
    pub(crate) fn open(&self) -> impl Iterator<Item = bool> + '_ {
        let inside = self.memory.results.split_last().map_or(&[][..], |(_, inside)| inside);
        inside.iter().flatten().chain(&self.y).map(|h| h.re() > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{BatchNorm, Conv2d, Role};
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

    /// With and without `downsample`, both places of the stride, and a shortcut without parameters that takes every
    /// second pixel.
    fn blocks<T: Scalar>() -> Vec<Block<T>> {
        let all = [
            Block { downsample: None, ..Block::basic(4, 7, 2) },
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
    fn a_pass_that_keeps_nothing_gives_the_same_bits() {
        for block in blocks::<f32>() {
            let (mut memory, mut y) = (Memory::default(), Array4::default([0; 4]));
            // The second pass finds used memory.
            for x in [input(&block, 4, (9, 6)), input(&block, 3, (5, 7))] {
                block.embed(x.view(), &mut memory, &mut y).unwrap();
                assert_eq!(y, run(&block, &x, Mode::Eval).0);
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
        let [_, basic, .., bottleneck] = &blocks::<f64>()[..] else { panic!("blocks") };
        assert_eq!(names(basic), [of("conv1", "bn1"), of("conv2", "bn2")].concat());
        let down = of("downsample.0", "downsample.1");
        assert_eq!(names(bottleneck), [of("conv1", "bn1"), of("conv2", "bn2"), of("conv3", "bn3"), down].concat());
        let message = basic.check_gradient(bottleneck).unwrap_err().to_string();
        assert_eq!(message, "conv3: one value has it, another has not");
        let message = Block::basic(4, 4, 2).check_gradient(basic).unwrap_err().to_string();
        assert_eq!(message, "downsample: one value has it, another has not");
    }
}
