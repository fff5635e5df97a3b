//! The layers of image encoders in their plainest form (`src/spec/pictures/`): their gradients are right, and the
//! fast layers compute the same.

use std::collections::BTreeMap;

use ndarray::{Array, Array1, Array2, Array4, ArrayD, Dimension, Ix1, Ix4, array};
use num_complex::Complex;
use vsepp::model::{Encoder, EncoderCache, Network};
use vsepp::nn::{
    AvgPool, AvgPoolCache, BatchNorm, BatchNormCache, Dropout, DropoutCache, Flatten, FlattenCache, Layer, MaxPool,
    MaxPoolCache, Mode, Module, Relu, ReluCache, Write,
};
use vsepp::real::Scalar;
use vsepp::spec::pictures::block::{Block, ConvNorm};
use vsepp::spec::pictures::conv::Conv2d;
use vsepp::spec::pictures::encoder::{self, ResNet};
use vsepp::spec::pictures::norm::{self, batch_norm, batch_norm_backward, batch_norm_update, batch_statistics};
use vsepp::spec::pictures::pools::{Window, avg_pool, avg_pool_backward, max_pool, max_pool_backward};

/// A value is the end of at most four sums, one after the other, of at most 105 numbers, and of a few products.
/// Adding n terms in another order moves a sum by at most n u of its largest partial sum, u = 2⁻⁵³: 500 u of a
/// tensor's largest entry. A gradient through the batch's statistics is the difference of numbers up to eight times
/// as large.
const TOLERANCE: f64 = 8.0 * 500.0 * f64::EPSILON / 2.0;

fn compare<D: Dimension>(what: &str, found: &Array<f64, D>, expected: &Array<f64, D>) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    // `max` would swallow NaN.
    let worse = |m: f64, d: f64| if d > m || d.is_nan() { d } else { m };
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, worse);
    assert!(error <= TOLERANCE * largest, "{what}: off by {error:e}, the largest entry is {largest:e}");
    println!("{what}: {:.1e}", error / largest.max(f64::MIN_POSITIVE));
}

/// Pictures [3, 2, 5, 7] of multiples of 1/8, with zeros and ties.
fn pictures() -> Array4<f64> {
    Array4::from_shape_fn((3, 2, 5, 7), |(n, c, i, j)| ((n * 31 + c * 17 + i * 13 + j * 29) % 19) as f64 / 8.0 - 1.25)
}

/// dy of any shape.
fn gradient_of<D: Dimension>(y: &Array<f64, D>) -> Array<f64, D> {
    let numbers = (0..y.len()).map(|k| libm::sin(k as f64 * 0.7)).collect();
    Array::from_shape_vec(y.raw_dim(), numbers).unwrap()
}

/// d(Σ dy f(x)) / dx by complex steps.
fn derivative<D: Dimension, E: Dimension>(
    x: &Array<f64, D>,
    dy: &Array<f64, E>,
    f: impl Fn(&Array<Complex<f64>, D>) -> Array<Complex<f64>, E>,
) -> Array<f64, D> {
    const H: f64 = 1e-60;
    let mut complex = x.mapv(Complex::from_f64);
    let mut dx = x.clone();
    for (k, dx) in dx.iter_mut().enumerate() {
        complex.iter_mut().nth(k).unwrap().im = H;
        *dx = f(&complex).iter().zip(dy).fold(0.0, |sum, (y, dy)| sum + y.im / H * dy);
        complex.iter_mut().nth(k).unwrap().im = 0.0;
    }
    dx
}

/// y and dx of a fast layer without parameters on pictures.
fn fast<L>(mut layer: L, x: &Array4<f64>, y: impl Fn(&L::Cache) -> &Array4<f64>, dy: &Array4<f64>) -> [Array4<f64>; 2]
where
    L: for<'a> Layer<f64, X<'a> = ndarray::ArrayView4<'a, f64>, Y = Array4<f64>, Dx = Array4<f64>> + Copy,
{
    let (mut cache, mut dx) = (L::Cache::default(), Array4::zeros((0, 0, 0, 0)));
    layer.forward(x.view(), Mode::Train, &mut cache).unwrap();
    layer.clone().backward(x.view(), &mut cache, dy, Write::Add, &mut layer, Some(&mut dx));
    [y(&cache).clone(), dx]
}

#[test]
fn batch_norm_with_both_statistics() {
    let mut layer = BatchNorm {
        weight: array![1.5, -0.5],
        bias: array![0.25, 0.5],
        running_mean: array![0.5, -0.25],
        running_var: array![1e-15, 2.0],
    };
    let x = pictures();
    for mode in [Mode::Train, Mode::Eval] {
        let (mut cache, mut grad, mut dx) = (BatchNormCache::default(), layer.clone(), Array4::zeros((0, 0, 0, 0)));
        layer.forward(x.view(), mode, &mut cache).unwrap();
        let dy = gradient_of(&cache.y);
        layer.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));

        let mut w = norm::BatchNorm {
            weight: layer.weight.clone(),
            bias: layer.bias.clone(),
            running_mean: layer.running_mean.clone(),
            running_var: layer.running_var.clone(),
        };
        let of_batch = mode == Mode::Train;
        let running = (layer.running_mean.clone(), layer.running_var.clone());
        let (mean, var) = if of_batch { batch_statistics(&x) } else { running };
        compare(&format!("{mode:?}: mean"), &cache.mean, &mean);
        compare(&format!("{mode:?}: variance"), &cache.var, &var);
        compare(&format!("{mode:?}: y"), &cache.y, &batch_norm(&w, &x, &mean, &var));
        let (d_weight, d_bias, spec_dx) = batch_norm_backward(&w, &x, (&mean, &var), of_batch, &dy);
        compare(&format!("{mode:?}: dγ"), &grad.weight, &d_weight);
        compare(&format!("{mode:?}: dβ"), &grad.bias, &d_bias);
        compare(&format!("{mode:?}: dx"), &dx, &spec_dx);

        let complex = |x: &Array1<f64>| x.mapv(Complex::from_f64);
        let forward = |weight: Array1<Complex<f64>>, bias: Array1<Complex<f64>>, x: &Array4<Complex<f64>>| {
            let (running_mean, running_var) = (complex(&w.running_mean), complex(&w.running_var));
            let w = norm::BatchNorm { weight, bias, running_mean, running_var };
            let of_pass = if of_batch { batch_statistics(x) } else { (complex(&mean), complex(&var)) };
            batch_norm(&w, x, &of_pass.0, &of_pass.1)
        };
        let (weight, bias, pixels) = (complex(&w.weight), complex(&w.bias), x.mapv(Complex::from_f64));
        let exact = derivative(&x, &dy, |x| forward(weight.clone(), bias.clone(), x));
        compare(&format!("{mode:?}: dx by complex steps"), &spec_dx, &exact);
        let exact = derivative(&w.weight, &dy, |weight| forward(weight.clone(), bias.clone(), &pixels));
        compare(&format!("{mode:?}: dγ by complex steps"), &d_weight, &exact);
        let exact = derivative(&w.bias, &dy, |bias| forward(weight.clone(), bias.clone(), &pixels));
        compare(&format!("{mode:?}: dβ by complex steps"), &d_bias, &exact);

        layer.update(&cache);
        if of_batch {
            batch_norm_update(&mut w, &mean, &var, 3 * 5 * 7);
        }
        compare(&format!("{mode:?}: running mean"), &layer.running_mean, &w.running_mean);
        compare(&format!("{mode:?}: running variance"), &layer.running_var, &w.running_var);
    }
    assert_eq!(layer.count(), 8);
}

#[test]
fn layers_without_parameters() {
    let x = pictures();
    let see =
        |what: &str, [fast_y, fast_dx]: [Array4<f64>; 2], [y, dx]: [Array4<f64>; 2], exact: Option<Array4<f64>>| {
            compare(&format!("{what}: y"), &fast_y, &y);
            compare(&format!("{what}: dx"), &fast_dx, &dx);
            if let Some(exact) = exact {
                compare(&format!("{what}: dx by complex steps"), &dx, &exact);
            }
        };
    let y = norm::relu(&x);
    let dy = gradient_of(&y);
    assert!(x.iter().any(|&x| x == 0.0), "a kink, where a complex step sees one side");
    see("relu", fast(Relu, &x, |cache: &ReluCache<f64>| &cache.y, &dy), [y, norm::relu_backward(&x, &dy)], None);

    for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)] {
        let window = Window { kernel, stride, padding };
        let y = max_pool(&x, window);
        let dy = gradient_of(&y);
        let exact = derivative(&x, &dy, |x| max_pool(x, window));
        let layer = MaxPool { kernel, stride, padding };
        let fast = fast(layer, &x, |cache: &MaxPoolCache<f64>| &cache.y, &dy);
        see(&format!("max pool {kernel}/{stride}"), fast, [y, max_pool_backward(&x, window, &dy)], Some(exact));
    }
    for size in [1, 2, 3, 7] {
        let y = avg_pool(&x, size);
        let dy = gradient_of(&y);
        let exact = derivative(&x, &dy, |x| avg_pool(x, size));
        let fast = fast(AvgPool { size }, &x, |cache: &AvgPoolCache<f64>| &cache.y, &dy);
        see(&format!("average pool {size}"), fast, [y, avg_pool_backward(&x, size, &dy)], Some(exact));
    }
}

#[test]
fn flatten_and_dropout() {
    let x = pictures();
    let (mut cache, mut dx) = (FlattenCache::default(), Array4::zeros((0, 0, 0, 0)));
    Flatten.forward(x.view(), Mode::Train, &mut cache).unwrap();
    let rows = cache.y.clone();
    compare("flatten: y", &rows, &norm::flatten(&x));
    let dy = gradient_of(&rows);
    Flatten.backward(x.view(), &mut cache, &dy, Write::Add, &mut Flatten, Some(&mut dx));
    compare("flatten: dx", &dx, &norm::flatten_backward(&x, &dy));
    compare("flatten: dx by complex steps", &dx, &derivative(&x, &dy, norm::flatten));

    let layer = Dropout { p: 0.3, seed: 1, purpose: "dropout/spec" };
    let (mut cache, mut dx) = (DropoutCache::default(), Array2::zeros((0, 0)));
    layer.forward(rows.view(), Mode::Train, &mut cache).unwrap();
    let kept = cache.scale.mapv(|scale| scale > 0.0);
    assert!(kept.iter().any(|&kept| kept) && kept.iter().any(|&kept| !kept));
    compare("dropout: y", &cache.y, &norm::dropout(&rows, &kept, 0.3));
    layer.backward(rows.view(), &mut cache, &dy, Write::Add, &mut layer.clone(), Some(&mut dx));
    compare("dropout: dx", &dx, &norm::dropout(&dy, &kept, 0.3));
    compare("dropout: dx by complex steps", &dx, &derivative(&rows, &dy, |x| norm::dropout(x, &kept, 0.3)));
}

/// The plain form of a residual network with basic blocks and its numbers, or those of a gradient.
fn plain(network: &str, encoder: &Encoder<f64>) -> ResNet<f64> {
    let tensors: BTreeMap<String, ArrayD<f64>> = encoder.tensors().into_iter().collect();
    let vector = |name: String| tensors[&name].clone().into_dimensionality::<Ix1>().unwrap();
    let pair = |conv: String, norm: String, stride: usize| {
        let weight = tensors[&format!("{conv}.weight")].clone().into_dimensionality::<Ix4>().unwrap();
        let padding = weight.dim().2 / 2;
        let [weight_, bias, running_mean, running_var] =
            ["weight", "bias", "running_mean", "running_var"].map(|name| vector(format!("{norm}.{name}")));
        let norm = norm::BatchNorm { weight: weight_, bias, running_mean, running_var };
        ConvNorm { conv: Conv2d { weight, bias: None, stride, padding }, norm }
    };
    let large = network.starts_with("resnet18");
    let mut blocks = Vec::new();
    for (layer, number) in (1..5).flat_map(|layer| (0..3).map(move |number| (layer, number))) {
        let path = format!("layer{layer}.{number}");
        if tensors.contains_key(&format!("{path}.conv1.weight")) {
            let stride = if layer > 1 && number == 0 { 2 } else { 1 };
            let stage = |k: usize, stride| pair(format!("{path}.conv{k}"), format!("{path}.bn{k}"), stride);
            let projects = tensors.contains_key(&format!("{path}.downsample.0.weight"));
            let downsample =
                projects.then(|| pair(format!("{path}.downsample.0"), format!("{path}.downsample.1"), stride));
            blocks.push(Block { stages: vec![stage(1, stride), stage(2, 1)], downsample });
        }
    }
    let pool = large.then_some(Window { kernel: 3, stride: 2, padding: 1 });
    ResNet { first: pair("conv1".into(), "bn1".into(), if large { 2 } else { 1 }), pool, blocks }
}

/// Weights of convolutions, γ and β of every norm, in order.
fn numbers(net: &ResNet<f64>) -> Vec<f64> {
    let stages = net.blocks.iter().flat_map(|block| block.stages.iter().chain(&block.downsample));
    let pairs = [&net.first].into_iter().chain(stages);
    pairs.flat_map(|pair| pair.conv.weight.iter().chain(&pair.norm.weight).chain(&pair.norm.bias)).copied().collect()
}

#[test]
fn a_residual_network_with_both_statistics() {
    let x = Array4::from_shape_fn((3, 3, 19, 17), |(n, c, i, j)| libm::sin((n * 97 + c * 31 + i * 7 + j * 3) as f64));
    for network in ["resnet18,planes=2-3-4-5", "resnet20,planes=2-4-6"] {
        let mut fast = Encoder::zeros(network.parse::<Network>().unwrap());
        fast.init(1);
        let w = plain(network, &fast);
        for mode in [Mode::Train, Mode::Eval] {
            let of_batch = mode == Mode::Train;
            let (mut cache, mut grad, mut dx) = (EncoderCache::default(), fast.clone(), Array4::zeros((0, 0, 0, 0)));
            fast.forward(x.view(), mode, &mut cache).unwrap();
            let (y, pass) = encoder::resnet(&w, &x, of_batch);
            let dy = gradient_of(&y);
            fast.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));
            let (d, d_x) = encoder::resnet_backward(&w, &pass, of_batch, &dy);
            // Up to twenty layers one after the other may each enlarge what comes in: `tests/oracle_encoders.rs`
            // sees 3e-14 in as deep a network.
            let near = |what: &str, found: &[f64], expected: &[f64]| {
                let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
                assert!(found.len() == expected.len() && error <= 1e-11, "{network} {mode:?} {what}: {error:.1e}");
            };
            near("φ", cache.y.as_slice().unwrap(), y.as_slice().unwrap());
            near("dx", dx.as_slice().unwrap(), d_x.as_slice().unwrap());
            near("gradient", &numbers(&plain(network, &grad)), &numbers(&d));
            let (phi, _) = encoder::features(&y).unwrap();
            assert!(phi.outer_iter().all(|phi| (phi.dot(&phi) - 1.0).abs() < 1e-12), "(IMG-2)");
        }
    }
}
