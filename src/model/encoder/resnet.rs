//! Residual networks (He et al. 2016).
//!
//! ```text
//! (RESNET-1)   h_0 = max(0, norm(conv(x))), then maxpool(h_0) for large pictures
//! (RESNET-2)   h_k = block_k(h_{k − 1}), φ = the mean of the pixels of the last h
//! (RESNET-2′)  from dφ back through every block to dh_0
//! (RESNET-1′)  from dh_0 back through the first convolution to dx
//! ```
//!
//! The blocks form layers; the first block of every layer but the first has stride 2. φ is pool5.

use ndarray::{Array2, Array4, ArrayView4};

use super::network::{BlockForm, First, Network, Shortcut};
use crate::error::{Error, Result};
use crate::linalg::Write;
use crate::nn::avg_pool::AvgPoolCache;
use crate::nn::block::Memory;
use crate::nn::conv_norm::ConvNormCache;
use crate::nn::flatten::FlattenCache;
use crate::nn::max_pool::MaxPoolCache;
use crate::nn::relu::{rectified, relu_backward};
use crate::nn::{AvgPool, Block, BlockCache, ConvNorm, Flatten, Layer, MaxPool, Mode, Module, Path, Tensor, Visitor};
use crate::real::{Real, Scalar};

const POOL: MaxPool = MaxPool { kernel: 3, stride: 2, padding: 1 };
const PIXELS: AvgPool = AvgPool { size: 1 };

/// A residual network without its last linear map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ResNet<T> {
    /// `conv1`, `bn1`
    first: ConvNorm<T>,
    /// Whether a max pool comes after it.
    pool: bool,
    /// `layer1.0`, `layer1.1`, …: the blocks of each layer.
    layers: Vec<Vec<Block<T>>>,
}

impl<T: Clone + Default> ResNet<T> {
    pub(super) fn zeros(network: Network, block: BlockForm, first: First, shortcut: Shortcut) -> Self {
        let mut inputs = network.first();
        let (kernel, stride) = match first {
            First::Seven => (7, 2),
            First::Three { stride } => (3, stride),
        };
        let first_conv = ConvNorm::zeros(inputs, 3, kernel, stride);
        let mut block_of = |layer: usize, number: usize| {
            let (stride, planes) = (if layer > 0 && number == 0 { 2 } else { 1 }, network.planes()[layer]);
            let inputs = std::mem::replace(&mut inputs, network.outputs(layer));
            let block = match block {
                BlockForm::Basic => Block::basic(inputs, planes, stride),
                BlockForm::Bottleneck => Block::bottleneck(inputs, planes, network.strides(stride)),
            };
            if shortcut == Shortcut::Zeros { Block { downsample: None, ..block } } else { block }
        };
        let counts = network.table().blocks.iter().enumerate();
        let layers = counts.map(|(layer, &count)| (0..count).map(|k| block_of(layer, k)).collect()).collect();
        Self { first: first_conv, pool: first == First::Seven, layers }
    }
}

/// By hand, because the layers and their blocks are numbered.
impl<T: Clone + Default> Module<T> for ResNet<T> {
    fn visit<const M: usize, const S: usize>(
        mut changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        let counts = |net: &Self| net.layers.iter().map(Vec::len).collect::<Vec<_>>();
        let all = || changed.iter().map(|net| counts(net)).chain(read.iter().map(|net| counts(net)));
        let one = all().next().expect("a visit has a value");
        if let Some(other) = all().find(|other| *other != one) {
            return Err(Error::mismatch(format!("{path}: one value has {one:?} blocks, another {other:?}")));
        }
        let firsts = changed.each_mut().map(|net| &mut net.first);
        let paths = [path.child("conv1"), path.child("bn1")];
        ConvNorm::visit(firsts, read.map(|net| &net.first), &paths, visitor)?;
        for (layer, &blocks) in one.iter().enumerate() {
            let path = path.numbered("layer", layer + 1);
            for block in 0..blocks {
                let changed = changed.each_mut().map(|net| &mut net.layers[layer][block]);
                let read = read.map(|net| &net.layers[layer][block]);
                Block::visit(changed, read, &path.numbered("", block), visitor)?;
            }
        }
        Ok(())
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        self.first.empty(&[path.child("conv1"), path.child("bn1")], which);
        for (layer, blocks) in self.layers.iter_mut().enumerate() {
            let path = path.numbered("layer", layer + 1);
            for (number, block) in blocks.iter_mut().enumerate() {
                block.empty(&path.numbered("", number), which);
            }
        }
    }
}

/// What [`ResNet`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub(super) struct ResNetCache<T> {
    /// Its result is that of the ReLU.
    first: ConvNormCache<T>,
    pool: MaxPoolCache<T>,
    blocks: Vec<BlockCache<T>>,
    mean: AvgPoolCache<T>,
    /// y is φ.
    row: FlattenCache<T>,
    /// dh, and the gradient before it.
    dh: Array4<T>,
    dx: Array4<T>,
    d_conv: Array4<T>,
    /// What the blocks need inside, one after the other.
    memory: Memory<T>,
}

impl<T> ResNet<T> {
    fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block<T>> {
        self.layers.iter().flatten()
    }

    /// See [`Network::multiplications`].
    pub(super) fn multiplications(&self, mut size: [usize; 2]) -> [usize; 2] {
        let first = self.first.conv.multiplications(&mut size);
        if self.pool {
            size = size.map(|n| POOL.windows(n));
        }
        let mut others = 0;
        for block in self.blocks() {
            others += block.downsample.as_ref().map_or(0, |pair| pair.conv.multiplications(&mut size.clone()));
            others += block.stages.iter().map(|stage| stage.conv.multiplications(&mut size)).sum::<usize>();
        }
        [first, others]
    }
}

impl<T: Scalar> ResNet<T> {
    /// (RESNET-1): the input of the first block.
    fn begin<'c>(
        &self,
        x: ArrayView4<'_, T>,
        mode: Mode,
        first: &'c mut ConvNormCache<T>,
        pool: &'c mut MaxPoolCache<T>,
    ) -> Result<&'c mut Array4<T>> {
        // (RESNET-1)  h_0 = max(0, norm(conv(x))), then maxpool(h_0) for large pictures
        self.first.forward_rectified(x, mode, first)?;
        if !self.pool {
            return Ok(first.r_mut());
        }
        POOL.forward(first.r().view(), mode, pool)?;
        Ok(&mut pool.y)
    }

    pub(super) fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut ResNetCache<T>) -> Result<()> {
        let ResNetCache { first, pool, blocks, mean, row, memory, .. } = cache;
        blocks.resize_with(self.blocks().count(), BlockCache::default);
        let mut h = &*self.begin(x, mode, first, pool)?;
        for (block, cache) in self.blocks().zip(blocks) {
            // (RESNET-2)  h_k = block_k(h_{k − 1}), φ = the mean of the pixels of the last h
            std::mem::swap(&mut cache.memory, memory);
            let result = block.forward(h.view(), mode, cache);
            std::mem::swap(&mut cache.memory, memory);
            result?;
            h = &cache.y;
        }
        PIXELS.forward(h.view(), mode, mean)?;
        Flatten.forward(mean.y.view(), mode, row)
    }

    /// φ in evaluation, for which nothing is kept.
    pub(super) fn embed(&self, x: ArrayView4<'_, T>) -> Result<Array2<T>> {
        let (mut h, mut y, mut memory) = (Array4::default([0; 4]), Array4::default([0; 4]), Memory::default());
        // (RESNET-1)  h_0 = max(0, norm(conv(x))), then maxpool(h_0) for large pictures
        self.first.embed(x, rectified, &mut h)?;
        if self.pool {
            POOL.embed(h.view(), &mut y);
            std::mem::swap(&mut h, &mut y);
        }
        for block in self.blocks() {
            block.embed(h.view(), &mut memory, &mut y)?;
            std::mem::swap(&mut h, &mut y);
        }
        let (mut mean, mut row) = (AvgPoolCache::default(), FlattenCache::default());
        PIXELS.forward(h.view(), Mode::Eval, &mut mean)?;
        Flatten.forward(mean.y.view(), Mode::Eval, &mut row)?;
        Ok(row.y)
    }

    pub(super) fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut ResNetCache<T>,
        d_phi: &Array2<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let ResNetCache { first, pool, blocks, mean, row, dh, dx: before_h, d_conv, memory } = cache;
        Flatten.backward(mean.y.view(), row, d_phi, write, &mut Flatten, Some(before_h));
        PIXELS.backward(
            blocks.last().expect("a network has blocks").y.view(),
            mean,
            before_h,
            write,
            &mut PIXELS.clone(),
            Some(dh),
        );
        let grads = grad.layers.iter_mut().flatten();
        let all: Vec<_> = self.blocks().zip(grads).collect();
        for (k, (block, grad)) in all.into_iter().enumerate().rev() {
            let (before, now) = blocks.split_at_mut(k);
            let start = if self.pool { pool.y.view() } else { first.r().view() };
            let h = before.last().map_or(start, |before| before.y.view());
            // (RESNET-2′)  from dφ back through every block to dh_0
            std::mem::swap(&mut now[0].memory, memory);
            block.backward(h, &mut now[0], dh, write, grad, Some(before_h));
            std::mem::swap(&mut now[0].memory, memory);
            std::mem::swap(dh, before_h);
        }
        // (RESNET-1′)  from dh_0 back through the first convolution to dx
        if self.pool {
            POOL.backward(first.r().view(), pool, dh, write, &mut POOL.clone(), Some(before_h));
            std::mem::swap(dh, before_h);
        }
        relu_backward(first.r().view(), dh);
        self.first.backward(x, first, dh, write, &mut grad.first, d_conv, dx);
    }

    /// Moves the running statistics of every norm towards those of the pass: once after each step.
    pub(super) fn update(&mut self, cache: &ResNetCache<T>) {
        self.first.update(&cache.first);
        for (block, cache) in self.layers.iter_mut().flatten().zip(&cache.blocks) {
            block.update(cache);
        }
    }
}

impl<T> ResNetCache<T> {
    /// φ [N, F]
    pub(super) fn phi_mut(&mut self) -> &mut Array2<T> {
        &mut self.row.y
    }
}
