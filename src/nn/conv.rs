//! Convolution of pictures, as image encoders need it: a cross-correlation, the kernel is not flipped.
//!
//! ```text
//! x [N, C, H, W], W [O, C, kh, kw], b [O]; y [N, O, Ho, Wo], Ho = ⌊(H + 2p − kh) / s⌋ + 1, Wo likewise
//!
//! (CONV-1)   y[n, o, i, j] = b_o + Σ_{c, u, v} W[o, c, u, v] x[n, c, s i + u − p, s j + v − p]
//! (CONV-1′)  dW[o, c, u, v] += Σ_{n, i, j} dy[n, o, i, j] x[n, c, s i + u − p, s j + v − p]
//! (CONV-1′)  db_o += Σ_{n, i, j} dy[n, o, i, j]
//! (CONV-1′)  dx[n, c, s i + u − p, s j + v − p] += Σ_o W[o, c, u, v] dy[n, o, i, j]
//! (INIT-4)   W ~ N(0, 2 / (kh kw O)), b = 0             He et al. 2015, eq. 14
//! ```
//!
//! s is the stride, p the padding: outside the picture x is 0. The layer is that of Simonyan and Zisserman 2015
//! (VGG, with bias) and of He et al. 2016 (`ResNet`, without). Its tensors are those of `PyTorch`'s `Conv2d`.
//!
//! All sums over channels are matrix products. The numbers that the kernel sees at one output are a **column** of
//! K = C kh kw numbers, so that y [O, outputs] = W [O, K] · columns [K, outputs]. The forward pass writes the columns
//! into the panels of that product (`seen.rs`), and so does dx with stride 1: it is the convolution of dy with the
//! kernel turned round. dW writes rows instead (`conv_weight.rs`). For dx with another stride, the columns are in
//! memory, for a block of outputs at a time. A block is part of a picture, or some whole pictures if they are small;
//! its borders depend on the shapes alone. Therefore an element of y or dx has the same bits in any batch, and nothing
//! depends on the number of threads.

use std::ops::Range;

use ndarray::parallel::prelude::*;
use ndarray::{Array1, Array4, ArrayView2, ArrayView4, ArrayViewMut2, Axis, s};
use rayon::slice::ParallelSliceMut;

use super::conv_weight::{Block, add_block};
use super::module::missing;
use super::relu::rectified;
use super::seen::{Place, Sizes};
use super::{Layer, Mode, Module, Path, Tensor, Visitor, visit_tensor};
use crate::error::Result;
use crate::linalg::{self, Panels, Write};
use crate::real::{Real, Scalar};
use crate::simd::Memory;

/// A convolution with zeros around the picture.
///
/// ```
/// use ndarray::{Array4, array};
/// use vsepp::nn::{Conv2d, Conv2dCache, Layer, Mode};
///
/// # fn main() -> vsepp::Result<()> {
/// // One output, one channel, a kernel of 1 × 2 that subtracts the left neighbour; stride 1, no padding.
/// let mut layer = Conv2d::zeros([1, 1, 1, 2], 1, 0);
/// layer.weight = array![[[[-1.0, 1.0]]]];
/// let (x, mut cache) = (array![[[[1.0, 4.0, 9.0, 16.0]]]], Conv2dCache::default());
/// layer.forward(x.view(), Mode::Train, &mut cache)?;
/// assert_eq!(cache.y, array![[[[3.0, 5.0, 7.0]]]]);
///
/// let narrow = Array4::zeros((1, 1, 1, 1));
/// let error = layer.forward(narrow.view(), Mode::Train, &mut cache).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "x: expected [N, 1, H ≥ 1, W ≥ 2] for a kernel of 1 × 2 and padding 0, found [1, 1, 1, 1]"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d<T> {
    /// W [O, C, kh, kw]
    pub weight: Array4<T>,
    /// b `[O]`; a convolution before a normalisation has none.
    pub bias: Option<Array1<T>>,
    /// s, in both directions.
    pub stride: usize,
    /// p: rows and columns of zeros on each side.
    pub padding: usize,
}

impl<T: Clone + Default> Conv2d<T> {
    /// W [O, C, kh, kw] of zeros, without bias.
    #[must_use]
    pub fn zeros(weight: [usize; 4], stride: usize, padding: usize) -> Self {
        Self { weight: Array4::default(weight), bias: None, stride, padding }
    }
}

impl<T> Conv2d<T> {
    const BIAS: Tensor = Tensor::constant(0.0);

    /// The multiplications of (CONV-1) for a picture of so many rows and columns, which become those of its outputs.
    ///
    /// # Panics
    ///
    /// If the picture is too small.
    pub(crate) fn multiplications(&self, size: &mut [usize; 2]) -> usize {
        let x = (1, self.weight.dim().1, size[0], size[1]);
        let sizes = self.sizes(x).expect("a picture that is large enough");
        *size = [sizes.oh, sizes.ow];
        sizes.o * sizes.k() * sizes.oh * sizes.ow
    }

    fn sizes(&self, x: (usize, usize, usize, usize)) -> Result<Sizes> {
        Sizes::of(x, self.weight.dim(), self.stride, self.padding)
    }

    fn weight_tensor(&self) -> Tensor {
        let (o, _, kh, kw) = self.weight.dim();
        // (INIT-4)  W ~ N(0, 2 / (kh kw O)), b = 0
        Tensor::normal((2.0 / (kh * kw * o) as f64).sqrt())
    }
}

/// By hand, because the bias may be missing.
impl<T: Clone + Default> Module<T> for Conv2d<T> {
    fn visit<const M: usize, const S: usize>(
        mut changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        let all = || changed.iter().map(|layer| &**layer).chain(read);
        let tensor = all().next().expect("a visit has a value").weight_tensor();
        let biases = all().filter(|layer| layer.bias.is_some()).count();
        let weights = changed.each_mut().map(|layer| layer.weight.view_mut());
        visit_tensor(tensor, weights, read.map(|layer| layer.weight.view()), &path.child("weight"), visitor)?;
        let path = path.child("bias");
        if biases == 0 {
            return Ok(());
        }
        if biases < M + S {
            return Err(missing(&path));
        }
        let changed = changed.map(|layer| layer.bias.as_mut().expect("none is missing").view_mut());
        let read = read.map(|layer| layer.bias.as_ref().expect("none is missing").view());
        visit_tensor(Self::BIAS, changed, read, &path, visitor)
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        if which(&path.child("weight"), self.weight_tensor()) {
            self.weight = Array4::default([0; 4]);
        }
        if let Some(bias) = self.bias.as_mut().filter(|_| which(&path.child("bias"), Self::BIAS)) {
            *bias = Array1::default(0);
        }
    }
}

/// What [`Conv2d`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct Conv2dCache<T> {
    /// y [N, O, Ho, Wo]
    pub y: Array4<T>,
}

impl<T: Scalar> Layer<T> for Conv2d<T> {
    /// x [N, C, H, W]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array4<T>;
    type Dx = Array4<T>;
    type Cache = Conv2dCache<T>;

    /// # Errors
    ///
    /// If the picture with its padding is smaller than the kernel.
    fn forward(&self, x: ArrayView4<'_, T>, _: Mode, cache: &mut Conv2dCache<T>) -> Result<()> {
        let bias = self.bias.as_ref().inspect(|bias| assert_eq!(bias.len(), self.weight.dim().0, "the bias"));
        self.outputs(
            x,
            &mut cache.y,
            #[inline(always)]
            |place, sums, y| match bias {
                Some(bias) => y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = sum + bias[place.channel]),
                None => y.copy_from_slice(sums),
            },
        )
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        _: &mut Conv2dCache<T>,
        dy: &Array4<T>,
        write: Write,
        grad: &mut Self,
        mut dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let sizes = self.sizes(x.dim()).expect("the x of the forward pass");
        let Sizes { n, c, o, kh, kw, oh, ow, .. } = sizes;
        assert_eq!(dy.dim(), (n, o, oh, ow), "the shape of dy");
        let (x, dy, w) = (x.as_standard_layout(), dy.as_standard_layout(), matrix(&self.weight));
        let x = x.as_slice().expect("in standard layout");
        let dy = dy.to_shape((n, o, oh * ow)).expect("in standard layout");
        if let Some(db) = grad.bias.as_mut().filter(|db| !db.is_empty()) {
            assert_eq!(db.len(), o, "the gradient of a bias of {o} outputs");
            // (CONV-1′)  db_o += Σ_{n, i, j} dy[n, o, i, j]
            db.as_slice_mut().expect("a bias is contiguous").par_iter_mut().enumerate().for_each(|(o, db)| {
                let pictures = dy.outer_iter().map(|dy| dy.row(o).iter().fold(T::zero(), |sum, &dy| sum + dy));
                let start = if write == Write::Replace { T::zero() } else { *db };
                *db = pictures.fold(start, |sum, picture| sum + picture);
            });
        }
        let mut dw = (!grad.weight.is_empty()).then(|| {
            assert_eq!(grad.weight.dim(), self.weight.dim(), "the gradient of the weight");
            if write == Write::Replace {
                grad.weight.fill(T::zero());
            }
            grad.weight.view_mut().into_shape_with_order(w.dim()).expect("contiguous")
        });
        if let Some(dx) = dx.as_deref_mut() {
            linalg::reshape(dx, (n, c, sizes.h, sizes.w));
        }
        if let Some(dx) = dx.take_if(|_| self.stride == 1 && self.padding < kh && kh == kw) {
            self.correlate_back(sizes, dy.as_slice().expect("in standard layout"), dx);
        }
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(T::zero());
        }
        let transposed = dx.is_some().then(|| packed(w.t()));
        for block in Block::all(sizes) {
            let together = if block.picture().is_some() { 0 } else { o * block.len() };
            with_memory(Memory::Outputs, together, |memory: &mut [T]| {
                // The outputs of a block in one matrix [O, outputs].
                let dy = if let Some(picture) = block.picture() {
                    dy.slice(s![picture, .., block.outputs.clone()])
                } else {
                    let mut together = ArrayViewMut2::from_shape((o, block.len()), memory).expect("as many");
                    let pictures = together.axis_chunks_iter_mut(Axis(1), block.outputs.len()).into_par_iter();
                    let dy = dy.slice(s![block.pictures.clone(), .., ..]);
                    pictures.zip(dy.outer_iter().into_par_iter()).for_each(|(mut to, dy)| to.assign(&dy));
                    ArrayView2::from_shape((o, block.len()), &*memory).expect("as many")
                };
                if let Some(dw) = &mut dw {
                    // (CONV-1′)  dW[o, c, u, v] += Σ_{n, i, j} dy[n, o, i, j] x[n, c, s i + u − p, s j + v − p]
                    add_block(&sizes, x, &block, dy, dw.view_mut());
                }
                let (Some(dx), Some(w)) = (dx.as_deref_mut(), &transposed) else { return };
                with_memory(Memory::Columns, sizes.k() * block.len(), |memory: &mut [T]| {
                    let mut columns = ArrayViewMut2::from_shape((sizes.k(), block.len()), memory).expect("as many");
                    // (CONV-1′)  dx[n, c, s i + u − p, s j + v − p] += Σ_o W[o, c, u, v] dy[n, o, i, j]
                    linalg::matmul_left(w, dy, columns.view_mut());
                    sizes.add_columns(memory, &block, dx.as_slice_mut().expect("in standard layout"));
                });
            });
        }
        if let Some(panels) = transposed {
            T::memory(Memory::Weight).set(panels.into_memory());
        }
    }
}

impl<T: Scalar> Conv2d<T> {
    /// Computes y from the sums of (CONV-1), without the bias. `finish` gets the place of some outputs, their sums, and
    /// where they belong.
    pub(super) fn outputs(
        &self,
        x: ArrayView4<'_, T>,
        y: &mut Array4<T>,
        finish: impl Fn(Place, &[T], &mut [T]) + Sync,
    ) -> Result<()> {
        let sizes = self.sizes(x.dim())?;
        let Sizes { n, o, oh, ow, .. } = sizes;
        linalg::reshape(y, (n, o, oh, ow));
        let x = x.as_standard_layout();
        let w = packed(matrix(&self.weight));
        let y = y.view_mut().into_shape_with_order((n, o, oh * ow)).expect("in standard layout");
        // (CONV-1)  y[n, o, i, j] = b_o + Σ_{c, u, v} W[o, c, u, v] x[n, c, s i + u − p, s j + v − p]
        sizes.correlate(&w, x.as_slice().expect("in standard layout"), y, finish);
        T::memory(Memory::Weight).set(w.into_memory());
        Ok(())
    }

    /// y whose numbers are max(0, y).
    pub(crate) fn forward_rectified(&self, x: ArrayView4<'_, T>, y: &mut Array4<T>) -> Result<()> {
        let bias = self.bias.as_ref().expect("a bias");
        assert_eq!(bias.len(), self.weight.dim().0, "the bias");
        self.outputs(
            x,
            y,
            #[inline(always)]
            |place, sums, y| y.iter_mut().zip(sums).for_each(|(y, &sum)| *y = rectified(sum + bias[place.channel])),
        )
    }

    /// dx with stride 1. It is the convolution of dy with the kernel turned round, since dx[n, c, i, j] is the sum of
    /// W[o, c, u, v] dy[n, o, i − u + p, j − v + p]. One sum runs over o, u and v.
    fn correlate_back(&self, sizes: Sizes, dy: &[T], dx: &mut Array4<T>) {
        let Sizes { n, c, h, w: columns, o, kh, kw, oh, ow, padding, .. } = sizes;
        let back = Sizes::of((n, o, oh, ow), (c, o, kh, kw), 1, kh - 1 - padding).expect("the sizes of dy");
        let (taps, turned) = (kh * kw, o * kh * kw);
        let weight = self.weight.as_slice().expect("a weight is contiguous");
        with_memory(Memory::Outputs, c * turned, |memory: &mut [T]| {
            memory.par_chunks_exact_mut(turned.max(1)).enumerate().for_each(|(channel, line)| {
                for (line, weight) in line.chunks_exact_mut(taps).zip(weight.chunks_exact(c * taps)) {
                    let weight = weight[channel * taps..(channel + 1) * taps].iter().rev();
                    line.iter_mut().zip(weight).for_each(|(to, &w)| *to = w);
                }
            });
            let w = packed(ArrayView2::from_shape((c, turned), &*memory).expect("as many"));
            let dx = dx.view_mut().into_shape_with_order((n, c, h * columns)).expect("in standard layout");
            // (CONV-1′)  dx[n, c, s i + u − p, s j + v − p] += Σ_o W[o, c, u, v] dy[n, o, i, j]
            back.correlate(&w, dy, dx, |_, sums, dx| dx.copy_from_slice(sums));
            T::memory(Memory::Weight).set(w.into_memory());
        });
    }
}

/// The kernels of a convolution, or their transpose, as the left factor of all its products.
fn packed<T: Scalar>(w: ArrayView2<'_, T>) -> Panels<T> {
    let mut panels = Panels::over(T::memory(Memory::Weight).take());
    panels.pack_left(w);
    panels
}

/// The kernels as the rows of a matrix [O, K].
fn matrix<T>(weight: &Array4<T>) -> ArrayView2<'_, T> {
    let (o, c, kh, kw) = weight.dim();
    weight.view().into_shape_with_order((o, c * kh * kw)).expect("a weight is contiguous")
}

/// Lends `count` numbers of this thread's memory. They are taken, not borrowed: while this thread waits for others,
/// it may begin another convolution.
fn with_memory<T: Scalar, R>(of: Memory, count: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    let mut memory = T::memory(of).take();
    if memory.len() < count {
        memory.resize(count, T::zero());
    }
    let result = work(&mut memory[..count]);
    T::memory(of).set(memory);
    result
}

impl Sizes {
    /// Adds the numbers of a block's columns [K, outputs] to dx, where each was seen.
    /// The order of a sum is that of the taps (u, v).
    fn add_columns<T: Scalar>(&self, columns: &[T], block: &Block, dx: &mut [T]) {
        let plane = self.h * self.w;
        let planes = dx[block.pictures.start * self.c * plane..block.pictures.end * self.c * plane]
            .par_chunks_exact_mut(plane.max(1));
        planes.enumerate().for_each(|(number, dx)| {
            let (n, c) = (number / self.c, number % self.c);
            for k in c * self.kh * self.kw..(c + 1) * self.kh * self.kw {
                let tap = self.tap(k);
                let line = &columns[k * block.len() + n * block.outputs.len()..][..block.outputs.len()];
                for (i, line) in self.rows(block).zip(line.chunks_exact(self.ow)) {
                    if tap.rows.contains(&i) && !tap.columns.is_empty() {
                        let line = &line[tap.columns.clone()];
                        let seen = &mut dx[self.seen(&tap, i)..];
                        if self.stride == 1 {
                            seen.iter_mut().zip(line).for_each(|(dx, &d)| *dx += d);
                        } else {
                            seen.iter_mut().step_by(self.stride).zip(line).for_each(|(dx, &d)| *dx += d);
                        }
                    }
                }
            }
        });
    }

    /// The rows of y in a block.
    fn rows(&self, block: &Block) -> Range<usize> {
        block.outputs.start / self.ow..block.outputs.end / self.ow
    }

    /// The k-th place of the kernel.
    fn tap(&self, k: usize) -> Tap {
        let (u, v) = (k / self.kw % self.kh, k % self.kw);
        // 0 ≤ s i + u − p < H
        let inside = |u: usize, size: usize, outputs: usize| {
            let first = self.padding.saturating_sub(u).div_ceil(self.stride);
            let end = (size + self.padding).saturating_sub(u).div_ceil(self.stride).min(outputs);
            first.min(end)..end
        };
        Tap { u, v, rows: inside(u, self.h, self.oh), columns: inside(v, self.w, self.ow) }
    }

    /// Where in a plane of x the first output of row i that sees a pixel through this tap sees it.
    fn seen(&self, tap: &Tap, i: usize) -> usize {
        (self.stride * i + tap.u - self.padding) * self.w + self.stride * tap.columns.start + tap.v - self.padding
    }
}

/// A place of the kernel.
struct Tap {
    u: usize,
    v: usize,
    /// The rows and the columns of y that see a pixel through it, and not padding.
    rows: Range<usize>,
    columns: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Symmetric, stream};
    use crate::spec::pictures::conv as spec;
    use ndarray::{Array, Dimension, array};
    use ndarray_rand::RandomExt;

    fn numbers<T: Scalar, D: Dimension>(shape: impl ndarray::ShapeBuilder<Dim = D>, name: &str) -> Array<T, D> {
        Array::random_using(shape, Symmetric(1.0), &mut stream(0, name)).mapv(T::from_f64)
    }

    /// A convolution with random numbers, a picture for it, and dy.
    struct Case<T> {
        layer: Conv2d<T>,
        x: Array4<T>,
        dy: Array4<T>,
    }

    /// y, the gradients and dx.
    type Result<T> = (Array4<T>, Conv2d<T>, Array4<T>);

    impl<T: Real> Case<T> {
        fn new(weight: [usize; 4], stride: usize, padding: usize, [n, h, w]: [usize; 3]) -> Self {
            let mut layer = Conv2d::zeros(weight, stride, padding);
            layer.weight = numbers(weight, "weight");
            layer.bias = Some(numbers(weight[0], "bias"));
            let x = numbers((n, weight[1], h, w), "x");
            let size = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
            let dy = numbers((n, weight[0], size(h, weight[2]), size(w, weight[3])), "dy");
            Self { layer, x, dy }
        }

        fn run(&self) -> Result<T> {
            let (mut cache, mut grad, mut dx) = (Conv2dCache::default(), self.layer.clone(), Array4::default([0; 4]));
            self.layer.forward(self.x.view(), Mode::Train, &mut cache).unwrap();
            self.layer.backward(self.x.view(), &mut cache, &self.dy, Write::Replace, &mut grad, Some(&mut dx));
            (cache.y, grad, dx)
        }

        /// Picture n alone.
        fn picture(&self, n: usize) -> Self {
            let one = |x: &Array4<T>| x.slice(s![n..n + 1, .., .., ..]).to_owned();
            Self { layer: self.layer.clone(), x: one(&self.x), dy: one(&self.dy) }
        }
    }

    /// Kernels, strides and paddings at odd sizes. Of the last three, two are computed in several blocks, of parts of a
    /// picture and of several pictures, and one in several tasks, each of some channels.
    fn cases<T: Real>() -> Vec<Case<T>> {
        vec![
            Case::new([4, 3, 3, 3], 1, 1, [3, 5, 7]),
            Case::new([4, 3, 3, 3], 2, 1, [3, 5, 7]),
            Case::new([4, 3, 1, 1], 1, 0, [3, 5, 7]),
            Case::new([4, 3, 1, 1], 2, 0, [3, 5, 7]),
            Case::new([4, 3, 1, 1], 1, 0, [1, 5, 7]),
            Case::new([2, 3, 7, 7], 2, 3, [3, 5, 7]),
            Case::new([2, 3, 2, 5], 3, 2, [2, 9, 4]),
            Case::new([2, 1, 2, 2], 4, 0, [2, 6, 7]),
            Case::new([1, 2, 3, 3], 1, 4, [2, 1, 2]),
            Case::new([2, 64, 3, 3], 1, 1, [2, 48, 47]),
            Case::new([2, 80, 3, 3], 1, 1, [7, 20, 19]),
            Case::new([400, 3, 3, 3], 1, 1, [2, 9, 7]),
        ]
    }

    #[test]
    fn conv_1_by_hand() {
        let x = array![[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]];
        let mut case = Case {
            layer: Conv2d {
                weight: array![[[[1.0, 2.0], [3.0, 4.0]]]],
                bias: Some(array![10.0]),
                stride: 1,
                padding: 0,
            },
            dy: array![[[[1.0, 10.0], [100.0, 1000.0]]]],
            x,
        };
        let (y, grad, dx) = case.run();
        assert_eq!(y, array![[[[47.0, 57.0], [77.0, 87.0]]]]);
        assert_eq!(grad.weight, array![[[[5421.0, 6532.0], [8754.0, 9865.0]]]]);
        assert_eq!(grad.bias, Some(array![1111.0]));
        assert_eq!(dx, array![[[[1.0, 12.0, 20.0], [103.0, 1234.0, 2040.0], [300.0, 3400.0, 4000.0]]]]);
        // The four windows see 1, 2, 2 and 4 pixels; the rest is padding.
        (case.layer.stride, case.layer.padding) = (2, 1);
        let (y, grad, dx) = case.run();
        assert_eq!(y, array![[[[14.0, 28.0], [46.0, 87.0]]]]);
        assert_eq!(grad.bias, Some(array![1111.0]));
        assert_eq!(dx, array![[[[4.0, 30.0, 40.0], [200.0, 1000.0, 2000.0], [400.0, 3000.0, 4000.0]]]]);
        assert_eq!(grad.weight, array![[[[5000.0, 6400.0], [8020.0, 9731.0]]]]);
    }
    #[test]
    fn conv_1_equals_its_plain_form() {
        for Case { layer, x, dy } in cases::<f64>() {
            let Conv2d { weight, bias, stride, padding } = layer.clone();
            let plain = spec::Conv2d { weight, bias, stride, padding };
            let (found_y, grad, found_dx) = Case { layer, x: x.clone(), dy: dy.clone() }.run();
            let (d, dx) = spec::conv_backward(&plain, &x, &dy);
            assert_eq!(found_y, spec::conv(&plain, &x), "the same chain of sums");
            // n terms of at most 1, added in another order: the partial sums are at most n, and each of n additions
            // rounds by at most u of them.
            let bound = |n: usize| (n * n) as f64 * f64::EPSILON / 2.0;
            let outputs = dy.len() / plain.weight.dim().0;
            approx::assert_abs_diff_eq!(grad.weight, d.weight, epsilon = bound(outputs));
            approx::assert_abs_diff_eq!(grad.bias.unwrap(), d.bias.unwrap(), epsilon = bound(outputs));
            approx::assert_abs_diff_eq!(found_dx, dx, epsilon = bound(plain.weight.len()));
        }
    }

    #[test]
    fn single_precision_is_near_double_precision() {
        for (single, double) in cases::<f32>().into_iter().zip(cases::<f64>()) {
            let ((y, grad, dx), (exact_y, exact, exact_dx)) = (single.run(), double.run());
            // As above; the random numbers themselves are exact in f32.
            let near = |x: &Array4<f32>, exact: &Array4<f64>, terms: usize| {
                let bound = (terms * terms) as f64 * f64::from(f32::EPSILON) / 2.0;
                approx::assert_abs_diff_eq!(x.mapv(f64::from), exact, epsilon = bound);
            };
            near(&y, &exact_y, exact.weight.len() + 1);
            near(&grad.weight, &exact.weight, y.len());
            near(&dx, &exact_dx, exact.weight.len());
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        for case in cases::<f32>() {
            let run = |threads: usize| {
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| case.run())
            };
            let one = run(1);
            assert!([2, 3, 5].into_iter().all(|threads| run(threads) == one), "{:?}", case.layer.weight.dim());
        }
    }

    #[test]
    fn y_and_dx_of_a_picture_depend_on_it_alone() {
        for case in cases::<f32>() {
            let (y, _, dx) = case.run();
            for n in 0..case.x.dim().0 {
                let (one_y, _, one_dx) = case.picture(n).run();
                assert_eq!(one_y.index_axis(Axis(0), 0), y.index_axis(Axis(0), n));
                assert_eq!(one_dx.index_axis(Axis(0), 0), dx.index_axis(Axis(0), n));
            }
        }
    }

    #[test]
    fn blocks_are_bounded_and_cover_every_output_once() {
        let layer = Conv2d::<f32>::zeros([64, 512, 3, 3], 1, 1);
        for (shape, blocks) in [((100, 512, 7, 7), 25), ((2, 512, 40, 40), 2 * 8), ((0, 512, 7, 7), 0)] {
            let sizes = layer.sizes(shape).unwrap();
            let found: Vec<Block> = Block::all(sizes).collect();
            assert_eq!(found.len(), blocks, "{shape:?}");
            assert!(found.iter().all(|block| block.len() * sizes.k() <= 1 << 20), "{shape:?}");
            assert_eq!(found.iter().map(Block::len).sum::<usize>(), shape.0 * sizes.oh * sizes.ow, "{shape:?}");
        }
    }

    #[test]
    fn gradients_are_added_or_left_out_and_any_order_in_memory_will_do() {
        let case = &cases::<f64>()[1];
        let (y, grad, dx) = case.run();
        let channels_last = case.x.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned();
        let (mut cache, mut added) = (Conv2dCache::default(), grad.clone());
        let x = channels_last.view().permuted_axes([0, 3, 1, 2]);
        case.layer.forward(x, Mode::Eval, &mut cache).unwrap();
        assert_eq!(cache.y, y);
        case.layer.backward(x, &mut cache, &case.dy, Write::Add, &mut added, None);
        approx::assert_relative_eq!(added.weight, &grad.weight * 2.0, max_relative = 1e-14);
        approx::assert_relative_eq!(added.bias.unwrap(), grad.bias.as_ref().unwrap() * 2.0, max_relative = 1e-14);
        let mut frozen = grad.clone();
        frozen.empty(&Path::default(), &|_, _| true);
        let mut again = Array4::default([0; 4]);
        case.layer.backward(x, &mut cache, &case.dy, Write::Replace, &mut frozen, Some(&mut again));
        assert_eq!((frozen.count(), again), (0, dx));
    }

    #[test]
    fn a_picture_without_rows_is_padding() {
        let mut layer = Conv2d::zeros([2, 3, 2, 2], 1, 1);
        (layer.weight, layer.bias) = (numbers([2, 3, 2, 2], "weight"), Some(array![5.0, 7.0]));
        let (mut cache, mut rectified) = (Conv2dCache::default(), Array4::default([0; 4]));
        let x = Array4::<f64>::zeros((2, 3, 0, 4));
        layer.forward(x.view(), Mode::Eval, &mut cache).unwrap();
        assert_eq!(cache.y, Array4::from_shape_fn((2, 2, 1, 5), |(_, o, _, _)| [5.0, 7.0][o]));
        layer.bias = Some(array![-5.0, 7.0]);
        layer.forward_rectified(x.view(), &mut rectified).unwrap();
        assert_eq!(rectified, Array4::from_shape_fn((2, 2, 1, 5), |(_, o, _, _)| [0.0, 7.0][o]));
    }

    #[test]
    fn no_pictures_have_a_gradient_of_zero() {
        let (y, grad, dx) = Case::<f64>::new([4, 3, 3, 3], 1, 1, [0, 5, 7]).run();
        assert_eq!((y.dim(), dx.dim()), ((0, 4, 5, 7), (0, 3, 5, 7)));
        assert!(grad.weight.iter().chain(grad.bias.as_ref().unwrap()).all(|&d| d == 0.0));
    }

    #[test]
    fn init_4_draws_normal_numbers_by_the_fan_out() {
        let mut layer = Conv2d::<f64>::zeros([40, 20, 3, 5], 1, 0);
        layer.bias = Some(Array1::ones(40));
        layer.init(0);
        let n = layer.weight.len() as f64;
        // σ² = 2 / (3 · 5 · 40); the mean square of n normal numbers has the standard deviation σ² √(2 / n).
        let variance = 2.0 / (3.0 * 5.0 * 40.0);
        let square = layer.weight.iter().map(|w| w * w).fold(0.0, |s, x| s + x) / n;
        assert!((square / variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{square} {variance}");
        assert!(layer.weight.iter().any(|w| w * w > 9.0 * variance), "no uniform numbers");
        assert_eq!(layer.bias, Some(Array1::zeros(40)));
    }

    #[test]
    fn tensors_have_pytorchs_names_and_a_missing_bias_is_named() {
        let (bare, mut full) = (Conv2d::<f64>::zeros([4, 3, 2, 1], 1, 0), Conv2d::zeros([4, 3, 2, 1], 1, 0));
        full.bias = Some(Array1::zeros(4));
        let names = |layer: &Conv2d<f64>| layer.tensors().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!((names(&bare), names(&full)), (vec!["weight".into()], vec!["weight".into(), "bias".into()]));
        for (a, b) in [(&bare, &full), (&full, &bare)] {
            let message = a.check_gradient(b).unwrap_err().to_string();
            assert_eq!(message, "bias: one value has it, another has not");
        }
    }

    #[test]
    fn a_picture_that_does_not_fit_is_an_error_that_names_the_sizes() {
        let layer = Conv2d::<f64>::zeros([4, 3, 7, 5], 2, 1);
        for found in [[2, 3, 4, 9], [2, 3, 9, 2], [2, 1, 9, 9]] {
            let x = Array4::zeros(found);
            let error = layer.forward(x.view(), Mode::Eval, &mut Conv2dCache::default()).unwrap_err().to_string();
            let expected = "x: expected [N, 3, H ≥ 5, W ≥ 3] for a kernel of 7 × 5 and padding 1, found ";
            assert_eq!(error, format!("{expected}{found:?}"));
        }
        let least = Array4::zeros([1, 3, 5, 3]);
        layer.forward(least.view(), Mode::Eval, &mut Conv2dCache::default()).unwrap();
    }
}
