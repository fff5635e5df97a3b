//! VGG: convolutions of 3 × 3, pools, two linear maps (Simonyan and Zisserman 2015).
//!
//! ```text
//! (VGG-1)   h = max(0, conv(h)), in each layer several times, then h = maxpool(h)     h = x first
//! (VGG-2)   φ = the mean of 7 × 7 cells as a row, twice: dropout(max(0, linear(·)))
//! (VGG-2′)  from dφ back through both linear maps to dh
//! (VGG-1′)  from dh back through every pool and convolution to dx
//! ```
//!
//! A picture of 224 × 224 has 7 × 7 pixels in the end; the mean of cells makes any other size fit. Dropout with
//! p = 0.5 acts in training alone, so φ ≥ 0, and its last layer before the classes is fc7. The convolutions have
//! torchvision's numbers in `features`, where ReLU and pools count too.

use ndarray::{Array1, Array2, Array4, ArrayView4, Axis};

use super::network::Network;
use crate::error::{Error, Result};
use crate::linalg::{self, Write};
use crate::nn::avg_pool::AvgPoolCache;
use crate::nn::conv::Conv2dCache;
use crate::nn::dropout::DropoutCache;
use crate::nn::flatten::FlattenCache;
use crate::nn::linear::LinearCache;
use crate::nn::max_pool::MaxPoolCache;
use crate::nn::relu::{relu, relu_backward};
use crate::nn::{AvgPool, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool, Mode, Module, Path, Tensor, Visitor};
use crate::real::{Real, Scalar};

const POOL: MaxPool = MaxPool { kernel: 2, stride: 2, padding: 0 };
const CELLS: AvgPool = AvgPool { size: 7 };
/// The places of the linear maps in `classifier`.
const LINEAR: [&str; 2] = ["0", "3"];

/// A VGG network without its last linear map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vgg<T> {
    /// `features.0`, `features.2`, …: the convolutions of each layer.
    layers: Vec<Vec<Conv2d<T>>>,
    /// `classifier.0` and `classifier.3`.
    classifier: [Linear<T>; 2],
    dropout: [Dropout; 2],
}

impl<T: Clone + Default> Vgg<T> {
    pub(super) fn zeros(network: Network, features: usize) -> Self {
        let mut inputs = 3;
        let mut layer = |(&planes, &count): (&usize, &usize)| {
            let conv = |_| {
                let mut conv = Conv2d::zeros([planes, std::mem::replace(&mut inputs, planes), 3, 3], 1, 1);
                conv.bias = Some(Array1::default(planes));
                conv
            };
            (0..count).map(conv).collect()
        };
        let layers = network.planes().iter().zip(network.table().blocks).map(&mut layer).collect();
        let cells = CELLS.size * CELLS.size * inputs;
        let dropout = |purpose| Dropout { p: 0.5, seed: 0, purpose };
        Self {
            layers,
            classifier: [Linear::zeros(features, cells), Linear::zeros(features, features)],
            dropout: [dropout("dropout/classifier.2"), dropout("dropout/classifier.5")],
        }
    }

    /// All convolutions with their numbers in `features`.
    fn numbers(&self) -> impl Iterator<Item = usize> {
        let mut number = 0;
        let layers: Vec<usize> = self.layers.iter().map(Vec::len).collect();
        layers.into_iter().flat_map(move |count| {
            let first = number;
            number += 2 * count + 1;
            (0..count).map(move |k| first + 2 * k)
        })
    }
}

impl<T> Vgg<T> {
    /// See [`Network::multiplications`].
    pub(super) fn multiplications(&self, mut size: [usize; 2]) -> [usize; 2] {
        let mut each = Vec::new();
        for convs in &self.layers {
            each.extend(convs.iter().map(|conv| conv.multiplications(&mut size)));
            size = size.map(|n| POOL.windows(n));
        }
        each.extend(self.classifier.iter().map(|linear| linear.weight.len()));
        [each[0], each[1..].iter().sum()]
    }
}

/// By hand, because the numbers of the convolutions have gaps.
impl<T: Clone + Default> Module<T> for Vgg<T> {
    fn visit<const M: usize, const S: usize>(
        mut changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        let counts = |vgg: &Self| vgg.layers.iter().map(Vec::len).collect::<Vec<_>>();
        let all = || changed.iter().map(|vgg| &**vgg).chain(read);
        let any = all().next().expect("a visit has a value");
        if let Some(other) = all().find(|other| counts(other) != counts(any)) {
            let (one, other) = (counts(any), counts(other));
            return Err(Error::mismatch(format!("{path}: one value has {one:?} convolutions, another {other:?}")));
        }
        let numbers: Vec<usize> = any.numbers().collect();
        let features = path.child("features");
        let mut lists = changed.each_mut().map(|vgg| vgg.layers.iter_mut().flatten());
        let mut read_lists = read.map(|vgg| vgg.layers.iter().flatten());
        for number in numbers {
            let changed = lists.each_mut().map(|list| list.next().expect("as many"));
            let read = read_lists.each_mut().map(|list| list.next().expect("as many"));
            Conv2d::visit(changed, read, &features.numbered("", number), visitor)?;
        }
        let classifier = path.child("classifier");
        for (k, name) in LINEAR.into_iter().enumerate() {
            let changed = changed.each_mut().map(|vgg| &mut vgg.classifier[k]);
            Linear::visit(changed, read.map(|vgg| &vgg.classifier[k]), &classifier.child(name), visitor)?;
        }
        Ok(())
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        let (features, classifier) = (path.child("features"), path.child("classifier"));
        let numbers: Vec<usize> = self.numbers().collect();
        for (conv, number) in self.layers.iter_mut().flatten().zip(numbers) {
            conv.empty(&features.numbered("", number), which);
        }
        for (linear, name) in self.classifier.iter_mut().zip(LINEAR) {
            linear.empty(&classifier.child(name), which);
        }
    }
}

/// What [`Vgg`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub(super) struct VggCache<T> {
    layers: Vec<LayerCache<T>>,
    rows: RowsCache<T>,
    /// dh, and the gradient before it.
    dh: Array4<T>,
    dx: Array4<T>,
}

/// What the convolutions of a layer and its pool keep.
#[derive(Clone, Debug, Default)]
struct LayerCache<T> {
    /// Their y are those of the ReLU.
    convs: Vec<Conv2dCache<T>>,
    pool: MaxPoolCache<T>,
}

/// What the second part of the network keeps.
#[derive(Clone, Debug, Default)]
struct RowsCache<T> {
    cells: AvgPoolCache<T>,
    row: FlattenCache<T>,
    /// Their y are those of the ReLU.
    linear: [LinearCache<T>; 2],
    /// φ is y of the second.
    dropout: [DropoutCache<T>; 2],
    d_linear: Array2<T>,
    d_row: Array2<T>,
    d_cells: Array4<T>,
}

impl<T: Scalar> Vgg<T> {
    /// The rows and columns that a picture must have, so that the last pool has two of each.
    pub(super) fn least(&self) -> usize {
        1 << self.layers.len()
    }

    pub(super) fn set_seed(&mut self, seed: u64) {
        self.dropout.iter_mut().for_each(|dropout| dropout.seed = seed);
    }

    pub(super) fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut VggCache<T>) -> Result<()> {
        let VggCache { layers, rows, .. } = cache;
        layers.resize_with(self.layers.len(), LayerCache::default);
        for (k, convs) in self.layers.iter().enumerate() {
            let (before, now) = layers.split_at_mut(k);
            let x = before.last().map_or(x, |before| before.pool.y.view());
            let LayerCache { convs: caches, pool } = &mut now[0];
            caches.resize_with(convs.len(), Conv2dCache::default);
            for (k, conv) in convs.iter().enumerate() {
                let (before, now) = caches.split_at_mut(k);
                // (VGG-1)  h = max(0, conv(h)), in each layer several times, then h = maxpool(h)
                conv.forward_rectified(before.last().map_or(x, |before| before.y.view()), &mut now[0].y)?;
            }
            POOL.forward(last(caches).y.view(), mode, pool)?;
        }
        self.rows(last(layers).pool.y.view(), mode, rows)
    }

    /// (VGG-2) from the last pictures.
    fn rows(&self, h: ArrayView4<'_, T>, mode: Mode, cache: &mut RowsCache<T>) -> Result<()> {
        let RowsCache { cells, row, linear, dropout, .. } = cache;
        CELLS.forward(h, mode, cells)?;
        Flatten.forward(cells.y.view(), mode, row)?;
        for (k, linear) in linear.iter_mut().enumerate() {
            let (before, now) = dropout.split_at_mut(k);
            // (VGG-2)  φ = the mean of 7 × 7 cells as a row, twice: dropout(max(0, linear(·)))
            self.classifier[k].forward(before.last().map_or(&row.y, |x| &x.y).view(), mode, linear)?;
            relu(&mut linear.y);
            self.dropout[k].forward(linear.y.view(), mode, &mut now[0])?;
        }
        Ok(())
    }

    /// φ in evaluation, for which nothing is kept.
    pub(super) fn embed(&self, x: ArrayView4<'_, T>) -> Result<Array2<T>> {
        let (mut h, mut next) = (x.to_owned(), Array4::default([0; 4]));
        for convs in &self.layers {
            Self::embed_layer(convs, h.view(), &mut next)?;
            std::mem::swap(&mut h, &mut next);
        }
        let mut rows = RowsCache::default();
        self.rows(h.view(), Mode::Eval, &mut rows)?;
        let [_, dropout] = rows.dropout;
        Ok(dropout.y)
    }

    /// (VGG-1) of one layer in evaluation. The pictures of the first layers are large, and are taken a few at a time
    /// through all convolutions and the pool, so that less memory is needed, and more of it is in a cache.
    fn embed_layer(convs: &[Conv2d<T>], x: ArrayView4<'_, T>, pooled: &mut Array4<T>) -> Result<()> {
        /// The most numbers of the pictures that a convolution makes.
        const NUMBERS: usize = 1 << 22;
        let (pictures, _, rows, columns) = x.dim();
        let planes = last(convs).weight.dim().0;
        linalg::reshape(pooled, (pictures, planes, POOL.windows(rows), POOL.windows(columns)));
        let (mut h, mut y) = (Array4::default([0; 4]), Array4::default([0; 4]));
        let some = (NUMBERS / (planes * rows * columns)).max(1);
        for (x, mut pooled) in x.axis_chunks_iter(Axis(0), some).zip(pooled.axis_chunks_iter_mut(Axis(0), some)) {
            for (k, conv) in convs.iter().enumerate() {
                conv.forward_rectified(if k == 0 { x } else { h.view() }, &mut y)?;
                std::mem::swap(&mut h, &mut y);
            }
            POOL.embed(h.view(), &mut y);
            pooled.assign(&y);
        }
        Ok(())
    }

    pub(super) fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut VggCache<T>,
        d_phi: &Array2<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let VggCache { layers, rows, dh, dx: before_h } = cache;
        self.rows_backward(last(layers).pool.y.view(), rows, d_phi, write, grad, dh);
        for k in (0..self.layers.len()).rev() {
            let (before, now) = layers.split_at_mut(k);
            let x = before.last().map_or(x, |before| before.pool.y.view());
            let LayerCache { convs, pool } = &mut now[0];
            POOL.backward(last(convs).y.view(), pool, dh, write, &mut POOL.clone(), Some(before_h));
            std::mem::swap(dh, before_h);
            for i in (0..convs.len()).rev() {
                let (before, now) = convs.split_at_mut(i);
                // (VGG-1′)  from dh back through every pool and convolution to dx
                relu_backward(now[0].y.view(), dh);
                let x = before.last().map_or(x, |before| before.y.view());
                let wanted = ((k, i) != (0, 0) || dx.is_some()).then_some(&mut *before_h);
                self.layers[k][i].backward(x, &mut now[0], dh, write, &mut grad.layers[k][i], wanted);
                std::mem::swap(dh, before_h);
            }
        }
        if let Some(dx) = dx {
            std::mem::swap(dx, dh);
        }
    }

    fn rows_backward(
        &self,
        h: ArrayView4<'_, T>,
        cache: &mut RowsCache<T>,
        d_phi: &Array2<T>,
        write: Write,
        grad: &mut Self,
        dh: &mut Array4<T>,
    ) where
        T: Real,
    {
        let RowsCache { cells, row, linear, dropout, d_linear, d_row, d_cells } = cache;
        for k in (0..2).rev() {
            let (before, now) = dropout.split_at_mut(k);
            let x = before.last().map_or(&row.y, |x| &x.y).view();
            let dy = if k == 1 { d_phi } else { &*d_row };
            // (VGG-2′)  from dφ back through both linear maps to dh
            self.dropout[k].backward(
                linear[k].y.view(),
                &mut now[0],
                dy,
                write,
                &mut self.dropout[k].clone(),
                Some(d_linear),
            );
            relu_backward(linear[k].y.view(), d_linear);
            self.classifier[k].backward(x, &mut linear[k], d_linear, write, &mut grad.classifier[k], Some(d_row));
        }
        Flatten.backward(cells.y.view(), row, d_row, write, &mut Flatten, Some(d_cells));
        CELLS.backward(h, cells, d_cells, write, &mut CELLS.clone(), Some(dh));
    }
}

impl<T> VggCache<T> {
    /// φ [N, F]
    pub(super) fn phi_mut(&mut self) -> &mut Array2<T> {
        &mut self.rows.dropout[1].y
    }

    /// [`DropoutCache::draw`] of both.
    pub(super) fn set_draw(&mut self, draw: u64) {
        self.rows.dropout.iter_mut().for_each(|dropout| dropout.draw = draw);
    }
}

fn last<X>(list: &[X]) -> &X {
    list.last().expect("a network has layers")
}
