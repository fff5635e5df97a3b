//! The layers of image encoders on pictures [2, 3, 5, 7].

use ndarray::{Array, Array1, Array4};

use super::layers::run;
use super::{Blocks, Problem, Report, check, d_readout, flat, named, numbers, readout};
use crate::error::Result;
use crate::linalg::Write;
use crate::nn::{
    AvgPool, BatchNorm, BatchNormCache, Block, BlockCache, Conv2d, Dropout, Flatten, Layer, MaxPool, MaxPoolCache,
    Mode, Module, Path, Relu, Role,
};
use crate::real::Scalar;

const SHAPE: (usize, usize, usize, usize) = (2, 3, 5, 7);
const SIZE: usize = 2 * 3 * 5 * 7;

/// (BN-1) and (BN-2), with the statistics of the batch or with running ones.
pub(super) struct BatchNormProblem {
    pub(super) mode: Mode,
}

impl BatchNormProblem {
    fn parts<T: Scalar>(x: &[T]) -> (BatchNorm<T>, Array4<T>) {
        let mut blocks = Blocks(x);
        let running = |of: &str, least: f64| -> Array1<T> {
            numbers(3, 0.5, of).into_iter().map(|x| T::from_f64(x + least)).collect()
        };
        let layer = BatchNorm {
            weight: blocks.vector(3),
            bias: blocks.vector(3),
            running_mean: running("running mean", 0.0),
            running_var: running("running variance", 0.6),
        };
        (layer, blocks.array(SHAPE))
    }

    fn pass<T: Scalar>(&self, layer: &BatchNorm<T>, x: &Array4<T>) -> Result<BatchNormCache<T>> {
        let mut cache = BatchNormCache::default();
        layer.forward(x.view(), self.mode, &mut cache)?;
        Ok(cache)
    }
}

impl Problem for BatchNormProblem {
    fn name(&self) -> String {
        let statistics = if self.mode == Mode::Train { "the batch's" } else { "running" };
        format!("batch norm, {statistics} statistics")
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("weight", 3), ("bias", 3), ("input", SIZE)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(6 + SIZE, 1.0, "batch norm")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (layer, x) = Self::parts(x);
        Ok(readout(self.pass(&layer, &x)?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (layer, x) = Self::parts(x);
        let (mut grad, mut dx) = (BatchNorm::zeros(3), Array4::default((0, 0, 0, 0)));
        let mut cache = self.pass(&layer, &x)?;
        let dy = d_readout(cache.y.view());
        // The running statistics have no gradient.
        (grad.running_mean, grad.running_var) = (Array1::default(0), Array1::default(0));
        layer.backward(x.view(), &mut cache, &dy, Write::Add, &mut grad, Some(&mut dx));
        Ok(flat(&grad).into_iter().chain(dx).collect())
    }
}

/// A problem for a layer without parameters: its name, the layer, the shape of x, and the smooth piece of its
/// output, given x and the cache.
macro_rules! map_problem {
    ($(#[$doc:meta])* $problem:ident, $name:literal, $layer:expr, $shape:expr, $active:expr) => {
        $(#[$doc])*
        pub(super) struct $problem;

        impl Problem for $problem {
            fn name(&self) -> String {
                $name.into()
            }
            fn blocks(&self) -> Vec<(String, usize)> {
                named(&[("input", SIZE)])
            }
            fn point(&self) -> Vec<f64> {
                numbers(SIZE, 1.0, $name)
            }
            fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
                Ok(readout(run(&$layer, Blocks(x).array($shape).view())?.y.view()))
            }
            fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
                let x = Blocks(x).array($shape);
                let (mut cache, mut dx) = (run(&$layer, x.view())?, Array::default(x.raw_dim()));
                let dy = d_readout(cache.y.view());
                $layer.backward(x.view(), &mut cache, &dy, Write::Add, &mut $layer, Some(&mut dx));
                Ok(dx.into_iter().collect())
            }
            fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
                let x = Blocks(x).array($shape);
                let cache = run(&$layer, x.view())?;
                Ok($active(&x, &cache))
            }
        }
    };
}

map_problem!(
    /// (RELU-1)
    ReluProblem,
    "relu",
    Relu,
    SHAPE,
    |x: &Array4<f64>, _: &_| x.iter().map(|&x| x > 0.0).collect()
);

map_problem!(
    /// (MAXPOOL-1) with windows that overlap and reach outside.
    MaxPoolProblem,
    "max pool",
    MaxPool { kernel: 3, stride: 2, padding: 1 },
    SHAPE,
    |_: &_, cache: &MaxPoolCache<f64>| cache.pixel.iter().flat_map(|pixel| (0..6).map(move |bit| pixel >> bit & 1 == 1)).collect()
);

map_problem!(
    /// (AVGPOOL-1) with cells that share rows and columns.
    AvgPoolProblem,
    "average pool",
    AvgPool { size: 4 },
    SHAPE,
    |_: &_, _: &_| Vec::new()
);

map_problem!(
    /// (DROP-1) with one mask.
    DropoutProblem,
    "dropout",
    Dropout { p: 0.5, seed: 0, purpose: "gradcheck/dropout" },
    (6, 35),
    |_: &_, _: &_| Vec::new()
);

map_problem!(
    /// (FLAT-1)
    FlattenProblem,
    "flatten",
    Flatten,
    SHAPE,
    |_: &_, _: &_| Vec::new()
);

/// (BLOCK-1) and (BLOCK-2) of a block with a shortcut, with the statistics of the batch or with running ones.
pub(super) struct BlockProblem {
    pub(super) bottleneck: bool,
    pub(super) mode: Mode,
}

impl BlockProblem {
    fn layer<T: Scalar>(&self) -> Block<T> {
        if self.bottleneck { Block::bottleneck(3, 1, [1, 2]) } else { Block::basic(3, 3, 1) }
    }

    /// The parameters of a trained block and x; the running statistics are fixed, and have no gradient.
    fn parts<T: Scalar>(&self, x: &[T]) -> (Block<T>, Array4<T>) {
        let (mut blocks, mut layer) = (Blocks(x), self.layer());
        layer.each_mut(|path, tensor, mut values| {
            let size = values.len();
            let given: Vec<T> = if tensor.role == Role::Trained {
                blocks.vector(size).to_vec()
            } else {
                let centre = if path.to_string().ends_with("running_var") { 0.8 } else { 0.0 };
                numbers(size, 0.5, &path.to_string()).into_iter().map(|x| T::from_f64(centre + x)).collect()
            };
            values.iter_mut().zip(given).for_each(|(value, given)| *value = given);
        });
        (layer, blocks.array(SHAPE))
    }

    fn pass<T: Scalar>(&self, layer: &Block<T>, x: &Array4<T>) -> Result<BlockCache<T>> {
        let mut cache = BlockCache::default();
        layer.forward(x.view(), self.mode, &mut cache)?;
        Ok(cache)
    }
}

impl Problem for BlockProblem {
    fn name(&self) -> String {
        let form = if self.bottleneck { "bottleneck" } else { "basic block" };
        format!("{form}, {} statistics", if self.mode == Mode::Train { "the batch's" } else { "running" })
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        let mut sizes = Vec::new();
        self.layer::<f64>().each(|path, tensor, values| {
            if tensor.role == Role::Trained {
                sizes.push((path.to_string(), values.len()));
            }
        });
        sizes.push(("input".into(), SIZE));
        sizes
    }
    fn point(&self) -> Vec<f64> {
        numbers(self.blocks().iter().map(|(_, size)| size).sum(), 1.0, &self.name())
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (layer, x) = self.parts(x);
        Ok(readout(self.pass(&layer, &x)?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (layer, x) = self.parts(x);
        let (mut grad, mut dx) = (self.layer(), Array4::default((0, 0, 0, 0)));
        grad.empty(&Path::default(), &|_, tensor| tensor.role == Role::Buffer);
        let mut cache = self.pass(&layer, &x)?;
        let dy = d_readout(cache.y.view());
        layer.backward(x.view(), &mut cache, &dy, Write::Add, &mut grad, Some(&mut dx));
        Ok(flat(&grad).into_iter().chain(dx).collect())
    }
    /// The sign of every number that a `ReLU` gives.
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let (layer, x) = self.parts(x);
        Ok(self.pass(&layer, &x)?.open().collect())
    }
}

/// (CONV-1) of pictures of 3 × 5 × 4 with a kernel of 3 × 2, with stride and padding.
pub(super) struct ConvProblem;

impl ConvProblem {
    fn parts<T: Scalar>(x: &[T]) -> (Conv2d<T>, Array4<T>) {
        let mut blocks = Blocks(x);
        let (weight, bias) = (blocks.array((2, 3, 3, 2)), Some(blocks.vector(2)));
        (Conv2d { weight, bias, stride: 2, padding: 1 }, blocks.array((2, 3, 5, 4)))
    }
}

impl Problem for ConvProblem {
    fn name(&self) -> String {
        "convolution".into()
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        named(&[("weight", 36), ("bias", 2), ("input", 120)])
    }
    fn point(&self) -> Vec<f64> {
        numbers(158, 1.0, "convolution")
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (layer, input) = Self::parts(x);
        Ok(readout(run(&layer, input.view())?.y.view()))
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let ((layer, input), (mut grad, mut dx)) = (Self::parts(x), Self::parts(&[0.0; 158]));
        let mut cache = run(&layer, input.view())?;
        let dy = d_readout(cache.y.view());
        layer.backward(input.view(), &mut cache, &dy, Write::Add, &mut grad, Some(&mut dx));
        Ok(flat(&grad).into_iter().chain(dx).collect())
    }
}

/// Every layer of image encoders.
pub(super) fn all(mut add: impl FnMut(Report)) -> Result<()> {
    add(check(&ConvProblem)?);
    for mode in [Mode::Train, Mode::Eval] {
        add(check(&BatchNormProblem { mode })?);
    }
    add(check(&ReluProblem)?);
    add(check(&MaxPoolProblem)?);
    add(check(&AvgPoolProblem)?);
    add(check(&DropoutProblem)?);
    add(check(&FlattenProblem)?);
    for mode in [Mode::Train, Mode::Eval] {
        for bottleneck in [false, true] {
            add(check(&BlockProblem { bottleneck, mode })?);
        }
    }
    Ok(())
}
