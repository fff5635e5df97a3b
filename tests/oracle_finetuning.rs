//! 25 steps of fine-tuning a model with a ResNet-18 as `PyTorch` takes them in `f64`
//! (`fixtures/oracle/make_finetuning.py`; its own `ResNet`, GRU, autograd, Adam and clipping): from pictures through
//! φ, the joint space and the loss to every parameter, with running statistics and with those of the batch.
//!
//! Tolerance: 1e-8 of a tensor's largest movement. A gradient is off by some 1e-15 of the largest one, and Adam divides
//! by √v̂, which is far smaller where the gradients are small: `PyTorch`'s own two memory layouts, which sum in
//! different orders, differ by 1e-10 in such places (the script prints it). A deeper chain of sums, as this program
//! has, may lose 100 times as much. Losses and norms are sums over all these places and hardly see them: the layouts
//! differ by 1e-14 of the largest, and 1e-12 is allowed.
#![allow(clippy::float_cmp)]

mod hashed;
mod tensors;

use std::path::Path;

use ndarray::{Array4, ArrayD};
use vsepp::loss::{HingeLoss, Violation};
use vsepp::model::{Architecture, Batch, Objective, Parameters, Pass, Vse};
use vsepp::nn::{Mode, Module, Role, Write};
use vsepp::optim::{Adam, clip_coefficient, global_norm, gradient_of};
use vsepp::similarity::Measure;

use hashed::{digest_error, error, hashed, weights};
use tensors::Tensors;

const OF_MOVEMENT: f64 = 1e-8;
const OF_LOSS: f64 = 1e-12;

const STEPS: usize = 25;
const LEARNING_RATE: f64 = 1e-5;
const GRAD_CLIP: f64 = 10.0;

fn model() -> Vse<f64> {
    let architecture = Architecture {
        encoder: Some("resnet18".parse().expect("a network")),
        vocab_size: 12,
        img_dim: 512,
        word_dim: 7,
        hidden_size: 8,
        embed_size: 8,
        num_layers: 1,
        caption_projection: false,
        measure: Measure::Cosine,
        use_abs: false,
        no_imgnorm: false,
    };
    let mut parameters = Parameters::zeros(&architecture);
    parameters.fill(|name, shape| Ok(weights(name, shape))).expect("every tensor has a name");
    Vse::new(architecture, parameters).expect("they fit")
}

fn batch() -> Batch<f64> {
    let captions: [&[u32]; 6] =
        [&[1, 4, 5, 6, 2], &[1, 7, 2], &[1, 4, 5, 8, 9, 2], &[1, 10, 4, 2], &[1, 7, 7, 3, 5, 6, 2], &[1, 9, 8, 2]];
    let pictures: Array4<f64> = hashed("x", &[6, 3, 40, 33]).into_dimensionality().expect("four axes");
    Batch::new(pictures, captions.map(<[u32]>::to_vec).to_vec(), (0..6).collect()).expect("pairs")
}

fn check(case: &str, mode: Mode) {
    let fixture = Tensors::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle/finetuning.safetensors"));
    let (mut model, batch) = (model(), batch());
    let before = model.parameters.clone();
    let loss = HingeLoss { margin: 0.2, violation: Violation::Max };
    let objective = Objective::new(loss);
    let (mut adam, mut gradient) = (Adam::new(&model.parameters), gradient_of(&model.parameters, &[]));
    let (mut pass, mut losses, mut norms) = (Pass::default(), Vec::new(), Vec::new());
    for _ in 0..STEPS {
        model.forward(&batch, &objective, mode, &mut pass).expect("a loss");
        model.backward(&batch, &mut pass, Write::Replace, &mut gradient, None).expect("a gradient");
        let norm = global_norm(&gradient);
        let clip = clip_coefficient(norm, GRAD_CLIP);
        adam.update(&mut model.parameters, &gradient, LEARNING_RATE, clip).expect("a step");
        model.update_statistics(&pass);
        losses.push(pass.terms.loss);
        norms.push(norm);
    }

    for (name, found) in [("losses", losses), ("norms", norms)] {
        let found = ArrayD::from_shape_vec(vec![STEPS], found).expect("as many");
        let error = error(&found, &fixture.get(&format!("{case}/{name}")));
        println!("{case}: {name} {error:.1e}");
        assert!(error <= OF_LOSS, "{case}: {name}: error {error:.1e} of the largest");
    }
    let (mut before, mut moved, mut apart) = (before.tensors().into_iter(), 0, (0.0, String::new()));
    model.parameters.each(|path, tensor, after| {
        let (name, before) = before.next().expect("as many");
        assert_eq!(path.to_string(), name);
        if tensor.role == Role::Buffer && mode == Mode::Eval {
            assert_eq!(after, before, "{name} moved");
            return;
        }
        moved += 1;
        let error = digest_error(&name, &(&after - &before).view(), &fixture.get(&format!("{case}/moved.{name}")));
        assert!(error <= OF_MOVEMENT, "{case}: {name}: error {error:.1e} of the largest movement");
        if error > apart.0 {
            apart = (error, name);
        }
    });
    let expected = fixture.names().filter(|name| name.starts_with(&format!("{case}/moved."))).count();
    assert_eq!(moved, expected, "{case}: every tensor is compared");
    println!("{case}: {moved} movements {:.1e} ({})", apart.0, apart.1);
}

#[test]
fn steps_with_running_statistics() {
    check("eval", Mode::Eval);
}

#[test]
fn steps_with_the_statistics_of_the_batch() {
    check("train", Mode::Train);
}
