//! The second oracle: scores, losses, all gradients and 25 Adam steps as `PyTorch` computes them in
//! `f64` (`fixtures/oracle/make_oracle.py`; its own `nn.GRU`, autograd, Adam and clipping).
//!
//! Tolerance: 1e-12 of the largest entry of the tensor. Both sides sum at most some hundred terms in
//! f64 (u = 1.1e-16) in different orders, so that one pass may differ by some hundred u, and Adam
//! divides by √v̂, which enlarges the differences of gradients near zero. The test prints what it sees.
#![allow(clippy::float_cmp)]

mod tensors;

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD, ArrayViewD, Ix2};
use serde::Deserialize;
use vsepp::loss::{Chosen, HingeLoss, Negatives, Terms, Violation};
use vsepp::model::{Architecture, Batch, Objective, Parameters, Pass, Vse};
use vsepp::nn::{Mode, Module, Write};
use vsepp::optim::{Adam, clip_coefficient, global_norm};
use vsepp::real::{Real, Scalar};
use vsepp::similarity::Measure;

use tensors::Tensors;

const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Settings,
}

#[derive(Deserialize)]
struct Settings {
    margin: f64,
    measure: Measure,
    max_violation: bool,
    use_abs: bool,
    no_imgnorm: bool,
    num_layers: usize,
    caption_projection: bool,
    vocab_size: usize,
    word_dim: usize,
    hidden: usize,
    embed_size: usize,
    img_dim: usize,
    learning_rate: f64,
    grad_clip: f64,
    steps: usize,
    mask_same_image: bool,
    hardest: usize,
    temperature: f64,
    semi_hard: bool,
}

impl Settings {
    fn architecture(&self) -> Architecture {
        Architecture {
            encoder: None,
            vocab_size: self.vocab_size,
            img_dim: self.img_dim,
            word_dim: self.word_dim,
            hidden_size: self.hidden,
            embed_size: self.embed_size,
            num_layers: self.num_layers,
            caption_projection: self.caption_projection,
            measure: self.measure,
            use_abs: self.use_abs,
            no_imgnorm: self.no_imgnorm,
        }
    }

    fn objective(&self) -> Objective {
        let violation = match *self {
            Self { max_violation: false, .. } => Violation::Sum,
            Self { semi_hard: true, .. } => Violation::SemiHard,
            Self { temperature, .. } if temperature > 0.0 => Violation::LogSumExp(temperature),
            Self { hardest: 1, .. } => Violation::Max,
            Self { hardest, .. } => Violation::Hardest(hardest),
        };
        let loss = HingeLoss { margin: self.margin, violation };
        Objective { mask_same_image: self.mask_same_image, ..Objective::new(loss) }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle")
}

fn cases() -> Vec<Case> {
    serde_json::from_str(&std::fs::read_to_string(folder().join("cases.json")).unwrap()).unwrap()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // ids
fn batch<T: Real>(file: &Tensors, k: usize) -> Batch<T> {
    let get = |name: &str| file.get(&format!("in.{k}.{name}"));
    let captions = get("captions").into_dimensionality::<Ix2>().unwrap();
    let lengths = get("lengths");
    let images = get("images").mapv(T::from_f64).into_dimensionality::<Ix2>().unwrap();
    let captions = captions
        .outer_iter()
        .zip(lengths.iter())
        .map(|(ids, &length)| ids.iter().take(length as usize).map(|&id| id as u32).collect())
        .collect();
    Batch::new(images, captions, get("image_ids").iter().map(|&id| id as usize).collect()).unwrap()
}

/// The largest difference over the largest expected entry.
fn error(found: &ArrayViewD<'_, f64>, expected: &ArrayViewD<'_, f64>) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let difference = found.iter().zip(expected).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    assert!(found.iter().all(|x| x.is_finite()));
    if difference == 0.0 { 0.0 } else { difference / largest }
}

fn check(file: &Tensors, case: &str, name: &str, found: ArrayViewD<'_, f64>) -> f64 {
    let error = error(&found, &file.get(name).view());
    assert!(error <= TOLERANCE, "{case}: {name}: error {error:.1e} of the largest entry");
    error
}

fn check_parameters(file: &Tensors, case: &str, prefix: &str, found: &Parameters<f64>) -> f64 {
    let tensors = found.tensors();
    let in_file = file.names().filter(|n| n.starts_with(prefix) && (n.contains("_enc."))).count();
    assert_eq!(tensors.len(), in_file, "{case}: every {prefix}* is compared");
    tensors.iter().map(|(name, t)| check(file, case, &format!("{prefix}{name}"), t.view())).fold(0.0, f64::max)
}

#[test]
fn forward_backward_and_25_adam_steps_agree_with_pytorch() {
    let cases = cases();
    assert!(cases.len() >= 15);
    for Case { name, config } in &cases {
        let file = Tensors::read(&folder().join(format!("{name}.safetensors")));
        let architecture = config.architecture();
        let mut parameters = Parameters::zeros(&architecture);
        parameters.fill(|name, _| Ok(file.get(&format!("param.{name}")))).unwrap();
        let mut model = Vse::new(architecture, parameters).unwrap();
        let batches = [batch(&file, 0), batch(&file, 1)];

        let (mut pass, mut gradient) = (Pass::default(), Parameters::zeros(&architecture));
        let mut d_images = Array2::zeros((0, 0));
        model.forward(&batches[0], &config.objective(), Mode::Train, &mut pass).unwrap();
        model.backward(&batches[0], &mut pass, Write::Replace, &mut gradient, Some(&mut d_images)).unwrap();
        let mut worst: f64 = 0.0;
        let mut see = |tensor: &str, found: ArrayViewD<'_, f64>| worst = worst.max(check(&file, name, tensor, found));
        see("out.image_embedding", pass.f().into_dyn());
        see("out.caption_embedding", pass.g().into_dyn());
        see("out.scores", pass.scores.view().into_dyn());
        see("out.loss", ArrayD::from_elem(vec![1], pass.terms.loss).view());
        see("grad.scores", pass.d_scores.view().into_dyn());
        see("grad.in.images", d_images.view().into_dyn());
        worst = worst.max(check_parameters(&file, name, "grad.", &gradient));

        let mut adam = Adam::new(&model.parameters);
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for step in 0..config.steps {
            let batch = &batches[step % 2];
            model.forward(batch, &config.objective(), Mode::Train, &mut pass).unwrap();
            model.backward(batch, &mut pass, Write::Replace, &mut gradient, None).unwrap();
            losses.push(pass.terms.loss);
            norms.push(global_norm(&gradient));
            let clip = clip_coefficient(norms[step], config.grad_clip);
            adam.update(&mut model.parameters, &gradient, config.learning_rate, clip).unwrap();
        }
        let steps = vec![config.steps];
        let losses = ArrayD::from_shape_vec(steps.clone(), losses).unwrap();
        let norms = ArrayD::from_shape_vec(steps, norms).unwrap();
        let mut late = check(&file, name, "opt.losses", losses.view());
        late = late.max(check(&file, name, "opt.grad_norms", norms.view()));
        late = late.max(check_parameters(&file, name, "opt.param.", &model.parameters));
        println!("{name}: {worst:.1e} in one pass, {late:.1e} after {} steps", config.steps);
    }
}

/// Every loss by itself: the ends and three points between them, with all negatives, with masks, and with drawn ones.
#[test]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // ids
fn losses_and_their_gradients_agree_with_pytorch() {
    let file = Tensors::read(&folder().join("losses.safetensors"));
    let matrix = |name: &str| file.get(name).into_dimensionality::<Ix2>().unwrap();
    let ids: Vec<usize> = file.get("image_ids").iter().map(|&id| id as usize).collect();
    let marks = |name: &str| matrix(name).mapv(|mark| mark == 1.0);
    let drawn = Chosen::new(marks("drawn.of_images"), marks("drawn.of_captions")).unwrap();
    let (scores, mut worst, mut cases) = (matrix("scores"), 0.0f64, 0);
    for name in file.names().filter_map(|name| name.strip_suffix(".loss")) {
        let (negatives, loss) = name.split_once('.').unwrap();
        let negatives = match negatives {
            "all" => Negatives::Others,
            "masked" => Negatives::OtherImages(&ids),
            _ => Negatives::Chosen(&drawn),
        };
        let number = |prefix: &str| loss.strip_prefix(prefix).map(|number| number.parse::<f64>().unwrap());
        let violation = match (number("hardest-"), number("log-sum-exp-"), loss) {
            (Some(k), ..) => Violation::Hardest(k as usize),
            (_, Some(temperature), _) => Violation::LogSumExp(temperature),
            (.., "semi-hard") => Violation::SemiHard,
            (.., "max") => Violation::Max,
            (.., "sum") => Violation::Sum,
            _ => panic!("{name}: no such loss"),
        };
        let (mut terms, mut d_scores) = (Terms::default(), Array2::default((0, 0)));
        terms.evaluate(&HingeLoss { margin: 0.2, violation }, scores.view(), negatives).unwrap();
        terms.backward(&mut d_scores);
        let found = ArrayD::from_elem(vec![1], terms.loss);
        worst = worst.max(check(&file, name, &format!("{name}.loss"), found.view()));
        worst = worst.max(check(&file, name, &format!("{name}.grad"), d_scores.view().into_dyn()));
        cases += 1;
    }
    assert_eq!(cases, 3 * 12);
    println!("losses: {worst:.1e}");
}

/// The same in `f32`, whose products, σ and tanh are other routines.
///
/// The inputs are exact in `f32`, u = 6e-8. A forward pass of T ≤ 9 steps, each of some 16 terms, and
/// its way back make some hundred roundings on the longest path, the norms and differences of scores
/// amplify them a few times: 1e-5 of the largest entry is a hundred and some u; up to 8e-7 is seen.
#[test]
fn forward_and_backward_in_f32_agree_with_pytorch_in_f64() {
    const TOLERANCE_F32: f64 = 1e-5;
    for Case { name, config } in &cases() {
        let file = Tensors::read(&folder().join(format!("{name}.safetensors")));
        let architecture = config.architecture();
        let mut parameters = Parameters::<f32>::zeros(&architecture);
        parameters.fill(|name, _| Ok(file.get(&format!("param.{name}")).mapv(f32::from_f64))).unwrap();
        let model = Vse::new(architecture, parameters).unwrap();
        let batch = batch(&file, 0);
        let (mut pass, mut gradient) = (Pass::default(), Parameters::zeros(&architecture));
        let mut d_images = Array2::zeros((0, 0));
        model.forward(&batch, &config.objective(), Mode::Train, &mut pass).unwrap();
        model.backward(&batch, &mut pass, Write::Replace, &mut gradient, Some(&mut d_images)).unwrap();
        let mut found =
            vec![("out.scores".to_owned(), pass.scores.into_dyn()), ("grad.in.images".to_owned(), d_images.into_dyn())];
        found.extend(gradient.tensors().into_iter().map(|(name, tensor)| (format!("grad.{name}"), tensor)));
        let mut worst: f64 = 0.0;
        for (tensor, found) in found {
            let error = error(&found.mapv(f64::from).view(), &file.get(&tensor).view());
            assert!(error <= TOLERANCE_F32, "{name}: {tensor}: error {error:.1e} of the largest entry");
            worst = worst.max(error);
        }
        println!("{name}: {worst:.1e}");
    }
}
