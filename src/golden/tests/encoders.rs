//! Blocks and networks of the suite of image encoders, as the specification and the encoders of this crate have them.

use ndarray::{Array4, ArrayD, Ix2};

use super::layers::{add_running, assert_passes, found, four, of, one};
use crate::golden::compare::FoundTensors;
use crate::golden::program::Program;
use crate::golden::suite::GoldenCase;
use crate::linalg::Write;
use crate::model::{Encoder, EncoderCache, Network};
use crate::nn::{Layer, Mode, Module};
use crate::spec::pictures as spec;

impl GoldenCase {
    /// A convolution and its norm as the specification has them.
    fn stage_at(&self, conv: &str, norm: &str, stride: usize) -> spec::block::ConvNorm<f64> {
        let param = |name: &str| &self.inputs[&format!("param.{name}")];
        let weight = four(param(&format!("{conv}.weight")));
        let padding = weight.dim().2 / 2;
        let get = |part: &str| one(param(&format!("{norm}.{part}")));
        spec::block::ConvNorm {
            conv: spec::conv::Conv2d { weight, bias: None, stride, padding },
            norm: spec::norm::BatchNorm {
                weight: get("weight"),
                bias: get("bias"),
                running_mean: get("running_mean"),
                running_var: get("running_var"),
            },
        }
    }

    /// A block of the specification.
    fn block_at(&self, path: &str, strides: &[usize]) -> spec::block::Block<f64> {
        let stages = (1..).zip(strides);
        let stages = stages.map(|(k, &s)| self.stage_at(&format!("{path}conv{k}"), &format!("{path}bn{k}"), s));
        let [conv, norm] = [0, 1].map(|k| format!("{path}downsample.{k}"));
        let projected = self.inputs.contains_key(&format!("param.{conv}.weight"));
        let downsample = projected.then(|| self.stage_at(&conv, &norm, strides.iter().product()));
        spec::block::Block { stages: stages.collect(), downsample }
    }
}

/// The expected values of a block are put together from the layers of the specification; the specification's own
/// block gives the same bits.
#[test]
fn the_block_of_the_specification_gives_the_same_bits() {
    let mut blocks = 0;
    for golden in of(Program::Block) {
        let settings = golden.settings().unwrap();
        let w = golden.block_at("", &settings.strides);
        let (x, dy) = (four(&golden.inputs["in.x"]), four(&golden.inputs["in.d_y"]));
        let pass = spec::block::block(&w, &x, settings.training);
        let (d, dx) = spec::block::block_backward(&w, &pass, settings.training, &dy);
        let see = |name: &str, found: ArrayD<f64>| {
            let expected = &golden.expected[name];
            assert!(found.shape() == expected.shape(), "{}: {name}", golden.entry.id);
            let same = found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{}: {name}", golden.entry.id);
        };
        see("out.y", pass.0.clone().into_dyn());
        see("grad.in.x", dx.into_dyn());
        see_gradients(&d, "", see);
        blocks += 1;
    }
    assert!(blocks >= 10, "{blocks}");
}

/// The gradients of a block's parameters by name.
fn see_gradients(d: &spec::block::Block<f64>, path: &str, see: impl Fn(&str, ArrayD<f64>)) {
    let numbered = (1..).zip(&d.stages).map(|(k, d)| (format!("conv{k}"), format!("bn{k}"), d));
    let shortcut = d.downsample.iter().map(|d| ("downsample.0".into(), "downsample.1".into(), d));
    for (conv, norm, d) in numbered.chain(shortcut) {
        see(&format!("grad.{path}{conv}.weight"), d.conv.weight.clone().into_dyn());
        see(&format!("grad.{path}{norm}.weight"), d.norm.weight.clone().into_dyn());
        see(&format!("grad.{path}{norm}.bias"), d.norm.bias.clone().into_dyn());
    }
}

#[test]
fn the_residual_network_of_the_specification_gives_the_same_bits() {
    let mut networks = 0;
    for golden in of(Program::Resnet) {
        let settings = golden.settings().unwrap();
        let ones = vec![1; settings.strides.len()];
        let (mut blocks, mut paths) = (Vec::new(), Vec::new());
        for (layer, &count) in settings.layers.iter().enumerate() {
            for number in 0..count {
                let path = format!("layer{}.{number}.", layer + 1);
                let strides = if layer > 0 && number == 0 { &settings.strides } else { &ones };
                blocks.push(golden.block_at(&path, strides));
                paths.push(path);
            }
        }
        let pool = settings.pool.then_some(spec::pools::Window { kernel: 3, stride: 2, padding: 1 });
        let w = spec::encoder::ResNet { first: golden.stage_at("conv1", "bn1", settings.stride), pool, blocks };
        let x = four(&golden.inputs["in.x"]);
        let dphi = golden.inputs["in.d_phi"].clone().into_dimensionality::<Ix2>().unwrap();
        let (phi, pass) = spec::encoder::resnet(&w, &x, settings.training);
        let (d, dx) = spec::encoder::resnet_backward(&w, &pass, settings.training, &dphi);
        let see = |name: &str, found: ArrayD<f64>| {
            let same = found.iter().zip(&golden.expected[name]).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && found.shape() == golden.expected[name].shape(), "{}: {name}", golden.entry.id);
        };
        see("out.phi", phi.into_dyn());
        see("grad.in.x", dx.into_dyn());
        see_gradients(&spec::block::Block { stages: vec![d.first], downsample: None }, "", see);
        for (d, path) in d.blocks.iter().zip(&paths) {
            see_gradients(d, path, see);
        }
        networks += 1;
    }
    assert!(networks >= 8, "{networks}");
}

/// The networks of this crate from end to end.
#[test]
fn the_encoders_of_this_crate_give_the_values() {
    let mut tensors = 0;
    for golden in of(Program::Resnet).chain(of(Program::Vgg)) {
        let settings = golden.settings().unwrap();
        let size = |name: &str, axis: usize| golden.inputs[&format!("param.{name}")].shape()[axis];
        let mut encoder = Encoder::<f64>::zeros(if golden.entry.program == Program::Vgg {
            let mut number = 0;
            let planes = settings.layers.iter().map(|&count| {
                let planes = size(&format!("features.{number}.weight"), 0);
                number += 2 * count + 1;
                planes
            });
            Network::small_vgg(&planes.collect::<Vec<_>>(), &settings.layers, size("classifier.3.weight", 0))
        } else {
            let layers = 1..=settings.layers.len();
            let planes: Vec<usize> = layers.map(|layer| size(&format!("layer{layer}.0.conv1.weight"), 0)).collect();
            let projected = golden.inputs.keys().any(|name| name.contains("downsample"));
            let small = Network::small_resnet(&planes, &settings.layers, size("conv1.weight", 0), settings.pool);
            small.with_blocks(settings.strides.len() == 3, projected, settings.strides[0] == 2)
        });
        let mode = if settings.training { Mode::Train } else { Mode::Eval };
        encoder.fill(|name, _| Ok(golden.inputs[&format!("param.{name}")].clone())).unwrap();
        let x = four(&golden.inputs["in.x"]);
        let dphi = golden.inputs["in.d_phi"].clone().into_dimensionality::<Ix2>().unwrap();
        let (mut cache, mut gradient) = (EncoderCache::default(), encoder.clone());
        let mut dx = Array4::zeros((0, 0, 0, 0));
        encoder.forward(x.view(), mode, &mut cache).unwrap();
        encoder.backward(x.view(), &mut cache, &dphi, Write::Replace, &mut gradient, Some(&mut dx));
        let mut all = FoundTensors::from([
            ("out.phi".to_owned(), found(cache.y.clone().into_dyn())),
            ("grad.in.x".to_owned(), found(dx.into_dyn())),
        ]);
        gradient.each(|name, _, tensor| {
            if !name.to_string().contains("running") {
                all.insert(format!("grad.{name}"), found(tensor.to_owned()));
            }
        });
        if settings.training {
            encoder.update(&cache);
            add_running(&mut all, &encoder);
        }
        tensors += all.len();
        assert_passes(golden, &all, |name| !name.contains("mid."));
    }
    assert!(tensors > 300, "{tensors}");
}
