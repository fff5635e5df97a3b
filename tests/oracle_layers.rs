//! The layers of image encoders as `PyTorch` computes them in `f64` (`fixtures/oracle/make_layers.py`): y, the
//! gradient of every parameter and of x, and the running statistics after a step.
//!
//! Tolerance: 1e-12 of the largest entry of the tensor. A value is the end of at most four sums, one after the
//! other, of at most 147 terms each, and both sides sum in different orders: n terms differ by at most n u of the
//! largest partial sum, u = 1.1e-16, which is 7e-14 for all four. A division by a standard deviation keeps that
//! relative error; a norm whose gradient is the small difference of larger sums loses another digit. The tests
//! print what they see.
#![allow(clippy::float_cmp)]

mod tensors;

use std::path::Path;
use std::sync::LazyLock;

use ndarray::{Array, Array1, Array4, ArrayView4, ArrayViewD, Dimension};
use vsepp::nn::{AvgPool, BatchNorm, Block, Conv2d, Layer, MaxPool, Mode, Module, Relu, Role, Write};

use tensors::Tensors;

const TOLERANCE: f64 = 1e-12;

/// How the names of the cases begin. Each kind has a test below.
const KINDS: [&str; 7] = ["conv", "batch_norm", "relu", "max_pool", "avg_pool", "basic", "bottleneck"];

static FIXTURE: LazyLock<Tensors> =
    LazyLock::new(|| Tensors::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle/layers.safetensors")));

/// One case: `name/x`, `name/weight`, `name/grad.weight` and so on.
struct Case(String);

/// The cases of a kind, in alphabetical order.
fn cases(kind: &str) -> Vec<Case> {
    let mut names: Vec<&str> = FIXTURE.names().filter_map(|name| name.split_once('/')).map(|(case, _)| case).collect();
    names.dedup();
    let found: Vec<Case> =
        names.into_iter().filter(|name| name.starts_with(kind)).map(|name| Case(name.into())).collect();
    assert!(!found.is_empty(), "no case of the kind {kind}");
    found
}

impl Case {
    fn get<D: Dimension>(&self, tensor: &str) -> Array<f64, D> {
        FIXTURE.get(&format!("{}/{tensor}", self.0)).into_dimensionality().expect("the axes of the tensor")
    }

    /// How many outputs, inputs, rows and columns a weight has.
    fn shape(&self, tensor: &str) -> Vec<usize> {
        FIXTURE.get(&format!("{}/{tensor}", self.0)).shape().to_vec()
    }

    fn has(&self, tensor: &str) -> bool {
        let name = format!("{}/{tensor}", self.0);
        FIXTURE.names().any(|found| found == name)
    }

    /// Training mode, if the name says so.
    fn mode(&self) -> Mode {
        if self.0.contains("_train") { Mode::Train } else { Mode::Eval }
    }

    /// Compares; returns the largest difference over the largest expected entry.
    fn compare(&self, tensor: &str, found: ArrayViewD<'_, f64>) -> f64 {
        let expected = FIXTURE.get(&format!("{}/{tensor}", self.0));
        assert_eq!(found.shape(), expected.shape(), "{}/{tensor}", self.0);
        let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        // `max` would swallow NaN.
        let worse = |m: f64, d: f64| if d > m || d.is_nan() { d } else { m };
        let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, worse);
        let error = if difference == 0.0 { 0.0 } else { difference / largest };
        assert!(error <= TOLERANCE, "{}/{tensor}: error {error:.1e} of the largest entry", self.0);
        error
    }

    /// Fills the layer with the case's parameters, runs it forward and backward, and compares y and every
    /// gradient. Returns the layer and its cache.
    fn check<L>(&self, mut layer: L, y: impl Fn(&L::Cache) -> &Array4<f64>) -> (L, L::Cache)
    where
        L: for<'a> Layer<f64, X<'a> = ArrayView4<'a, f64>, Y = Array4<f64>, Dx = Array4<f64>> + Clone,
    {
        layer.fill(|name, _| Ok(FIXTURE.get(&format!("{}/{name}", self.0)))).unwrap();
        let (x, dy): (Array4<f64>, Array4<f64>) = (self.get("x"), self.get("dy"));
        let (mut cache, mut grad, mut dx) = (L::Cache::default(), layer.clone(), Array4::zeros((0, 0, 0, 0)));
        // What a gradient holds before is replaced.
        grad.each_mut(|_, _, mut tensor| tensor.fill(f64::NAN));
        layer.forward(x.view(), self.mode(), &mut cache).unwrap();
        layer.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));

        let mut worst = self.compare("y", y(&cache).view().into_dyn());
        worst = worst.max(self.compare("grad.x", dx.view().into_dyn()));
        grad.each(|path, tensor, found| {
            if tensor.role == Role::Trained {
                worst = worst.max(self.compare(&format!("grad.{path}"), found));
            }
        });
        println!("{}: {worst:.1e}", self.0);
        (layer, cache)
    }

    /// Compares the running statistics after a step, `after.running_mean`.
    fn check_after(&self, layer: &impl Module<f64>) {
        layer.each(|path, tensor, found| {
            if tensor.role == Role::Buffer {
                self.compare(&format!("after.{path}"), found);
            }
        });
    }
}

#[test]
fn every_case_is_of_a_kind_with_a_test() {
    for name in FIXTURE.names() {
        assert!(KINDS.iter().any(|kind| name.starts_with(kind)), "{name}");
    }
}

#[test]
fn convolutions_agree_with_pytorch() {
    for case in cases("conv") {
        // `conv3x3s2`: the stride is 1 if it is not named, the padding is half of the kernel.
        let (weight, stride) = (case.shape("weight"), if case.0.ends_with("s2") { 2 } else { 1 });
        let mut layer = Conv2d::zeros(weight.try_into().unwrap(), stride, case.shape("weight")[2] / 2);
        layer.bias = case.has("bias").then(|| Array1::zeros(layer.weight.dim().0));
        case.check(layer, |cache| &cache.y);
    }
}

#[test]
fn batch_norm() {
    for case in cases("batch_norm") {
        let (mut layer, cache) = case.check(BatchNorm::zeros(3), |cache| &cache.y);
        layer.update(&cache);
        if case.mode() == Mode::Train {
            case.check_after(&layer);
        }
    }
}

#[test]
fn relu() {
    for case in cases("relu") {
        case.check(Relu, |cache| &cache.y);
    }
}

/// `max_pool3s2`: windows of 3 × 3, every second pixel.
#[test]
fn max_pool() {
    for case in cases("max_pool") {
        let (kernel, stride, padding) = match case.0.as_str() {
            "max_pool2s2" => (2, 2, 0),
            "max_pool3s2" => (3, 2, 1),
            other => panic!("{other}: which window?"),
        };
        case.check(MaxPool { kernel, stride, padding }, |cache| &cache.y);
    }
}

/// `avg_pool7`: 7 × 7 cells.
#[test]
fn avg_pool() {
    for case in cases("avg_pool") {
        let size = case.0.trim_start_matches("avg_pool").parse().expect("the number of cells");
        case.check(AvgPool { size }, |cache| &cache.y);
    }
}

/// Checks a block, and its running statistics after a step.
fn check_block(case: &Case, block: Block<f64>) {
    let (mut block, cache) = case.check(block, |cache| &cache.y);
    block.update(&cache);
    if case.mode() == Mode::Train {
        case.check_after(&block);
    }
}

/// `down`: with a stride of 2 and so with `downsample`.
#[test]
fn basic_blocks() {
    for case in cases("basic") {
        let (stride, shape) = (if case.0.contains("_down") { 2 } else { 1 }, case.shape("conv1.weight"));
        check_block(&case, Block::basic(shape[1], shape[0], stride));
    }
}

/// `first`: the stride is on the first 1 × 1.
#[test]
fn bottlenecks() {
    for case in cases("bottleneck") {
        let (stride, shape) = (if case.0.contains("_down") { 2 } else { 1 }, case.shape("conv1.weight"));
        let strides = if case.0.contains("_first") { [stride, 1] } else { [1, stride] };
        check_block(&case, Block::bottleneck(shape[1], shape[0], strides));
    }
}
