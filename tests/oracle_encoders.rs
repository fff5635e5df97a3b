//! Image encoders as torchvision computes them in `f64` (`fixtures/oracle/make_encoders.py`): φ, the gradient of every
//! parameter and of x, and the running statistics after a step. Every number, of weights too, comes from an integer
//! hash of a name and an index, so no weights are kept.
//!
//! Tolerance: 1e-9 of the largest entry of a tensor. Both sides sum in different orders, which makes a relative
//! difference of some 1e-14 in a layer; 151 convolutions and norms one after the other may each
//! enlarge what comes in, and leave some 1e-12. The tests print what they see.
//!
//! At 224 × 224 in `f32`: 8 times the largest error of `PyTorch`'s four ways to compute the same in `f32`.
#![allow(clippy::float_cmp)]

mod hashed;
mod tensors;

use std::path::Path;
use std::sync::LazyLock;

use ndarray::{Array2, Array4, ArrayViewD};
use vsepp::model::{Encoder, EncoderCache, Network};
use vsepp::nn::{Layer, Mode, Module, Role, Write};

use hashed::{digest_error, error, hashed, weights};
use tensors::Tensors;

const TOLERANCE: f64 = 1e-9;

static FIXTURE: LazyLock<Tensors> = LazyLock::new(|| {
    Tensors::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle/encoders.safetensors"))
});

fn encoder(network: &str) -> Encoder<f64> {
    let mut encoder = Encoder::zeros(network.parse::<Network>().expect("a network"));
    encoder.fill(|name, shape| Ok(weights(name, shape))).expect("every tensor has a name");
    encoder
}

/// Compares 36 numbers about a tensor; returns the largest error.
fn compare(case: &str, name: &str, g: &ArrayViewD<'_, f64>) -> f64 {
    let worst = digest_error(name, g, &FIXTURE.get(&format!("{case}/{name}")));
    assert!(worst <= TOLERANCE, "{case}/{name}: error {worst:.1e} of the largest entry");
    worst
}

/// Compares a network in one mode: φ, all gradients, and the statistics after a step in training.
fn check(network: &str, mode: Mode) {
    let case = format!("{network}/{}", if mode == Mode::Train { "train" } else { "eval" });
    let (mut encoder, mut cache) = (encoder(network), EncoderCache::default());
    let x: Array4<f64> = hashed("x", &[2, 3, 40, 33]).into_dimensionality().expect("four axes");
    encoder.forward(x.view(), mode, &mut cache).expect("a picture of this size");
    let phi = cache.y.clone();
    let of_phi = error(&phi.clone().into_dyn(), &FIXTURE.get(&format!("{case}/phi")));
    assert!(of_phi <= TOLERANCE, "{case}: φ has the error {of_phi:.1e}");
    if mode == Mode::Eval {
        assert_eq!(encoder.embed(x.view()).expect("the same"), phi, "{case}: nothing kept, the same bits");
    }

    let mut grad = encoder.clone();
    grad.empty(&vsepp::nn::Path::default(), &|_, tensor| tensor.role == Role::Buffer);
    let d_phi: Array2<f64> = hashed("d_phi", phi.shape()).into_dimensionality().expect("two axes");
    let mut dx = Array4::zeros((0, 0, 0, 0));
    encoder.backward(x.view(), &mut cache, &d_phi, Write::Replace, &mut grad, Some(&mut dx));
    let mut worst = compare(&case, "grad.x", &dx.view().into_dyn());
    let mut count = 1;
    grad.each(|path, tensor, g| {
        if tensor.role == Role::Trained {
            worst = worst.max(compare(&case, &format!("grad.{path}"), &g));
            count += 1;
        }
    });
    if mode == Mode::Train {
        encoder.update(&cache);
        encoder.each(|path, tensor, x| {
            if tensor.role == Role::Buffer {
                worst = worst.max(compare(&case, &format!("after.{path}"), &x));
                count += 1;
            }
        });
    }
    let prefix = format!("{case}/");
    let expected = FIXTURE.names().filter(|name| name.starts_with(&prefix) && !name.ends_with("/phi")).count();
    assert_eq!(count, expected, "{case}: every tensor is compared");
    println!("{case}: φ {of_phi:.1e}, {count} gradients and statistics {worst:.1e}");
}

#[test]
fn vgg19() {
    check("vgg19", Mode::Eval);
}

#[test]
fn resnets_with_running_statistics() {
    for network in ["resnet18", "resnet50,stride=1x1", "resnet152", "resnet20"] {
        check(network, Mode::Eval);
    }
}

#[test]
fn resnets_with_the_statistics_of_the_batch() {
    for network in ["resnet18", "resnet50,stride=1x1", "resnet152", "resnet20"] {
        check(network, Mode::Train);
    }
}

/// The numbers rounded to `f32`.
#[allow(clippy::cast_possible_truncation)]
fn single(network: &str) -> Encoder<f32> {
    let exact = encoder(network);
    let mut tensors = exact.tensors().into_iter();
    let mut encoder = Encoder::zeros(network.parse().expect("a network"));
    encoder
        .fill(|name, _| {
            let (found, numbers) = tensors.next().expect("as many");
            assert_eq!(found, name);
            Ok(numbers.mapv(|x| x as f32))
        })
        .expect("the same tensors");
    encoder
}

#[test]
#[allow(clippy::cast_possible_truncation)]
fn pictures_of_224_in_single_precision() {
    for network in ["vgg19", "resnet152"] {
        let x: Array4<f64> = hashed("x", &[1, 3, 224, 224]).into_dimensionality().expect("four axes");
        let phi = single(network).embed(x.mapv(|x| x as f32).view()).expect("a picture");
        let found = error(&phi.mapv(f64::from).into_dyn(), &FIXTURE.get(&format!("{network}/224/phi")));
        let honest = FIXTURE.get(&format!("{network}/224/error"))[0];
        println!("{network} at 224 × 224: error {found:.1e}, PyTorch's {honest:.1e}");
        assert!(found <= 8.0 * honest, "{network}: error {found:.1e}, PyTorch's {honest:.1e}");
    }
}
