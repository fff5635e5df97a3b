//! The specification (`src/spec/`): its gradients are right, and the fast model computes the same.

#![allow(clippy::float_cmp)] // where exact numbers are expected

use std::path::Path;

use ndarray::{Array1, Array2, ArrayD, array};
use num_complex::Complex;
use vsepp::loss::{Query, Violation};
use vsepp::model::{Batch, Config, Parameters, Pass, ValidConfig, Vse};
use vsepp::nn::{Mode, Module, Write};
use vsepp::optim::{Adam, clip_coefficient, global_norm};
use vsepp::real::{Real, Scalar};
use vsepp::similarity::Measure;
use vsepp::spec;
use vsepp::spec::gru::GruLayer;
use vsepp::spec::layers::Linear;
use vsepp::spec::model::Task;

/// V and F.
const WORDS: usize = 9;
const FEATURES: usize = 5;

/// Every switch is on in a configuration and off in another: layers, projection (with H ≠ D), measure,
/// absolute values, image norm, loss, mask, clipping.
fn configurations() -> Vec<ValidConfig> {
    let base = Config { embed_size: 6, word_dim: 4, learning_rate: 1e-2, ..Config::default() };
    let projection = Config { hidden_size: Some(3), caption_projection: true, ..base.clone() };
    let all = [
        base.clone(),
        Config { num_layers: 2, measure: Measure::Order, use_abs: true, max_violation: false, ..base.clone() },
        Config { measure: Measure::OrderSquared, no_imgnorm: true, grad_clip: 0.0, ..projection.clone() },
        Config { num_layers: 2, max_violation: false, mask_same_image: true, ..projection.clone() },
        Config { num_layers: 3, use_abs: true, no_imgnorm: true, mask_same_image: true, margin: 0.5, ..base.clone() },
        Config { measure: Measure::Order, grad_clip: 1e-3, ..projection },
        Config { hardest: 2, margin: 0.5, ..base.clone() },
        Config { temperature: 0.1, mask_same_image: true, ..base.clone() },
        Config { semi_hard: true, margin: 0.5, ..base.clone() },
        Config { mask_equal_text: true, max_violation: false, ..base.clone() },
        Config { negatives: 2, mask_equal_text: true, mask_same_image: true, ..base },
    ];
    all.into_iter().map(|config| config.check().unwrap()).collect()
}

/// Shared prefixes, repeated words, a caption of one token, two equal captions, an image that occurs twice.
fn batch() -> Batch<f64> {
    let captions: [&[u32]; 6] = [&[1, 4, 5, 4, 2], &[1, 4, 5, 2], &[1, 6, 6, 6, 8, 2], &[3], &[1, 4, 5, 2], &[1, 7, 2]];
    let images = Array2::from_shape_fn((6, FEATURES), |(i, j)| libm::sin((i * FEATURES + j) as f64 * 0.7));
    Batch::new(images, captions.map(<[u32]>::to_vec).into(), vec![0, 1, 0, 3, 4, 5]).unwrap()
}

// --- the fast model: all that this test uses of it ------------------------------------------------

struct Fast {
    config: ValidConfig,
    model: Vse<f64>,
    adam: Adam<f64>,
}

type Named = Vec<(String, ArrayD<f64>)>;

impl Fast {
    fn new(config: ValidConfig) -> Self {
        let model = Vse::init(config.architecture(WORDS, FEATURES), 3);
        let adam = Adam::new(&model.parameters);
        Self { config, model, adam }
    }

    fn zeros(&self) -> Parameters<f64> {
        Parameters::zeros(self.model.architecture())
    }

    /// Forward and backward: what was computed, the gradients of the parameters, and dℓ/dφ.
    fn pass(&self, batch: &Batch<f64>) -> (Pass<f64>, Parameters<f64>, Array2<f64>) {
        let (mut pass, mut gradient, mut d_images) = (Pass::default(), self.zeros(), Array2::zeros((0, 0)));
        self.model.forward(batch, &self.config.objective(0), Mode::Train, &mut pass).unwrap();
        self.model.backward(batch, &mut pass, Write::Replace, &mut gradient, Some(&mut d_images)).unwrap();
        (pass, gradient, d_images)
    }

    /// Clips and moves the parameters; returns the gradient's norm.
    fn step(&mut self, gradient: &Parameters<f64>) -> f64 {
        let norm = global_norm(gradient);
        let clip = clip_coefficient(norm, self.config.grad_clip);
        self.adam.update(&mut self.model.parameters, gradient, self.config.learning_rate, clip).unwrap();
        norm
    }

    /// Parameters, first moments, second moments.
    fn state(&self) -> [Named; 3] {
        let moments = &self.adam.moments;
        [
            self.model.parameters.tensors(),
            moments.iter().map(|moments| (moments.name.clone(), moments.m.clone())).collect(),
            moments.iter().map(|moments| (moments.name.clone(), moments.v.clone())).collect(),
        ]
    }
}

// --- the specification ----------------------------------------------------------------------------

/// Parameters of the specification, filled with named tensors.
fn specified(config: &ValidConfig, tensors: &Named) -> spec::model::Parameters<f64> {
    let hidden = config.hidden_size.unwrap_or(config.embed_size);
    let linear = |o, i| Linear { weight: Array2::zeros((o, i)), bias: Array1::zeros(o) };
    let layer = |inputs| GruLayer {
        weight_ih: Array2::zeros((3 * hidden, inputs)),
        weight_hh: Array2::zeros((3 * hidden, hidden)),
        bias_ih: Array1::zeros(3 * hidden),
        bias_hh: Array1::zeros(3 * hidden),
    };
    let inputs = (0..config.num_layers).map(|k| if k == 0 { config.word_dim } else { hidden });
    let mut w = spec::model::Parameters {
        fc: linear(config.embed_size, FEATURES),
        embed: Array2::zeros((WORDS, config.word_dim)),
        rnn: inputs.map(layer).collect(),
        proj: config.caption_projection.then(|| linear(config.embed_size, hidden)),
    };
    let mut own = w.named();
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(own.iter().map(|(n, _)| n).collect()), names(tensors.iter().map(|(n, _)| n).collect()));
    for ((_, into), (_, from)) in own.iter_mut().zip(tensors) {
        into.assign(from);
    }
    w
}

fn task<T: Scalar>(config: &ValidConfig, batch: &Batch<f64>) -> Task<T> {
    let steps = batch.captions().iter().map(Vec::len).max().unwrap();
    let id = |(b, t): (usize, usize)| batch.captions()[b].get(t).map_or(0, |&id| id as usize);
    Task {
        images: batch.images().features().unwrap().mapv(T::from_f64),
        captions: Array2::from_shape_fn((batch.captions().len(), steps), id),
        lengths: batch.captions().iter().map(Vec::len).collect(),
        negatives: spec::loss::negatives(batch.captions().len(), |i, j| {
            let same_image = config.mask_same_image && batch.image_ids()[i] == batch.image_ids()[j];
            let equal_text = config.mask_equal_text && batch.captions()[i] == batch.captions()[j];
            !same_image && !equal_text
        }),
        margin: config.margin,
        violation: match config.objective(0).loss.violation {
            Violation::Sum => spec::loss::Violation::Sum,
            Violation::Max => spec::loss::Violation::Max,
            Violation::Hardest(k) => spec::loss::Violation::Hardest(k),
            Violation::LogSumExp(temperature) => spec::loss::Violation::LogSumExp(temperature),
            Violation::SemiHard => spec::loss::Violation::SemiHard,
        },
        measure: match config.measure {
            Measure::Cosine => spec::scores::Measure::Cosine,
            Measure::Order => spec::scores::Measure::Order,
            Measure::OrderSquared => spec::scores::Measure::OrderSquared,
        },
        use_abs: config.use_abs,
        no_imgnorm: config.no_imgnorm,
    }
}

/// Each value is the end of fewer than 100 sums, one after the other, of fewer than 100 terms. Adding
/// n terms in another order moves a sum by at most n u of its largest partial sum, u = 2⁻⁵³. Together
/// that is 100 · 100 · u, in parts of a tensor's largest entry.
const TOLERANCE: f64 = 100.0 * 100.0 * f64::EPSILON / 2.0;

/// Compares a tensor of the fast model with that of the specification; returns the error.
fn compare(what: &str, fast: &ArrayD<f64>, spec: &ArrayD<f64>) -> f64 {
    assert_eq!(fast.shape(), spec.shape(), "{what}");
    let largest = spec.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let error = fast.iter().zip(spec).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    assert!(error <= TOLERANCE * largest, "{what}: off by {error:e}, the largest entry is {largest:e}");
    error / largest.max(f64::MIN_POSITIVE)
}

#[test]
fn the_fast_model_computes_what_the_specification_says() {
    const STEPS: u64 = 5;
    let batch = batch();
    let mut worst: f64 = 0.0;
    for (number, config) in configurations().into_iter().enumerate() {
        let mut task = task::<f64>(&config, &batch);
        let (lr, max_norm) = (config.learning_rate, config.grad_clip);
        let mut fast = Fast::new(config.clone());
        let mut w = specified(&config, &fast.model.parameters.tensors());
        let zeros = fast.zeros().tensors();
        let (mut m, mut v) = (specified(&config, &zeros), specified(&config, &zeros));
        for t in 1..=STEPS {
            let (pass, fast_gradient, d_images) = fast.pass(&batch);
            if config.negatives > 0 {
                // The specification says nothing about how they are drawn.
                task.negatives = [Query::Image(0), Query::Caption(0)].map(|kind| pass.chosen.marks(kind).clone());
            }
            let (y, loss) = spec::model::forward(&w, &task).unwrap();
            let (d, mut gradient) = spec::model::backward(&w, &task, &y, spec::loss::loss_backward(&loss));
            let mut see = |what: &str, fast: ArrayD<f64>, spec: ArrayD<f64>| {
                worst = worst.max(compare(&format!("configuration {number}, step {t}: {what}"), &fast, &spec));
            };
            see("scores", pass.scores.into_dyn(), y.scores.into_dyn());
            see("loss", array![pass.terms.loss].into_dyn(), array![loss.loss].into_dyn());
            see("d images", d_images.into_dyn(), d.images.into_dyn());
            assert!(loss.loss > 0.0, "configuration {number}: a loss of 0 would compare nothing");
            for ((name, fast), (_, spec)) in fast_gradient.tensors().into_iter().zip(gradient.named()) {
                see(&format!("gradient of {name}"), fast, spec.to_owned());
            }
            let norm = fast.step(&fast_gradient);
            let (spec_norm, _) = spec::model::step([&mut w, &mut gradient, &mut m, &mut v], t, lr, max_norm);
            see("norm", array![norm].into_dyn(), array![spec_norm].into_dyn());
            for ((what, fast), spec) in
                ["", "m of ", "v of "].into_iter().zip(fast.state()).zip([&mut w, &mut m, &mut v])
            {
                assert_eq!(fast.len(), spec.named().len());
                for ((name, fast), (spec_name, spec)) in fast.into_iter().zip(spec.named()) {
                    assert_eq!(name, spec_name);
                    see(&format!("{what}{name}"), fast, spec.to_owned());
                }
            }
        }
    }
    println!("largest difference {worst:.1e}, tolerance {TOLERANCE:.1e}");
}

// --- the specification by itself ------------------------------------------------------------------

/// The same numbers in another type.
fn cast<T: Scalar>(w: &spec::model::Parameters<f64>) -> spec::model::Parameters<T> {
    let matrix = |x: &Array2<f64>| x.mapv(T::from_f64);
    let vector = |x: &Array1<f64>| x.mapv(T::from_f64);
    let linear = |l: &Linear<f64>| Linear { weight: matrix(&l.weight), bias: vector(&l.bias) };
    let layer = |l: &GruLayer<f64>| GruLayer {
        weight_ih: matrix(&l.weight_ih),
        weight_hh: matrix(&l.weight_hh),
        bias_ih: vector(&l.bias_ih),
        bias_hh: vector(&l.bias_hh),
    };
    spec::model::Parameters {
        fc: linear(&w.fc),
        embed: matrix(&w.embed),
        rnn: w.rnn.iter().map(layer).collect(),
        proj: w.proj.as_ref().map(linear),
    }
}

/// ∂ℓ/∂θ = Im ℓ(θ + i h) / h for every parameter, without subtraction, so that h may be tiny.
#[test]
fn the_gradients_of_the_specification_are_derivatives() {
    const H: f64 = 1e-60;
    let batch = batch();
    for (number, config) in configurations().into_iter().enumerate() {
        let real = task(&config, &batch);
        let mut w = specified(&config, &Fast::new(config.clone()).model.parameters.tensors());
        let (y, loss) = spec::model::forward(&w, &real).unwrap();
        let (_, mut gradient) = spec::model::backward(&w, &real, &y, spec::loss::loss_backward(&loss));
        let complex = task(&config, &batch);
        let sizes: Vec<(String, usize)> = w.named().iter().map(|(name, x)| (name.clone(), x.len())).collect();
        let gradient: Vec<Vec<f64>> = gradient.named().iter().map(|(_, g)| g.iter().copied().collect()).collect();
        for ((place, (name, size)), gradient) in sizes.iter().enumerate().zip(&gradient) {
            assert_eq!(gradient.len(), *size, "{name}");
            let largest = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            for (k, &expected) in gradient.iter().enumerate() {
                let mut moved = cast::<Complex<f64>>(&w);
                move_one(&mut moved, place, k, H);
                let (_, loss) = spec::model::forward(&moved, &complex).unwrap();
                let error = (loss.loss.im / H - expected).abs();
                assert!(error <= 1e-13 * largest, "configuration {number}: {name}[{k}]: {error:e} of {largest:e}");
            }
        }
    }
}

/// `θ_k += i h` in the tensor at a place.
fn move_one(w: &mut spec::model::Parameters<Complex<f64>>, place: usize, k: usize, h: f64) {
    let mut linears = vec![(0, &mut w.fc)];
    let proj = 3 + 4 * w.rnn.len();
    linears.extend(w.proj.as_mut().map(|linear| (proj, linear)));
    for (first, linear) in linears {
        if place == first {
            linear.weight.iter_mut().nth(k).unwrap().im += h;
        } else if place == first + 1 {
            linear.bias[k].im += h;
        }
    }
    if place == 2 {
        w.embed.iter_mut().nth(k).unwrap().im += h;
    }
    if (3..proj).contains(&place) {
        let layer = &mut w.rnn[(place - 3) / 4];
        match (place - 3) % 4 {
            0 => layer.weight_ih.iter_mut().nth(k).unwrap().im += h,
            1 => layer.weight_hh.iter_mut().nth(k).unwrap().im += h,
            2 => layer.bias_ih[k].im += h,
            _ => layer.bias_hh[k].im += h,
        }
    }
}

#[test]
fn the_worked_example() {
    const SUM: spec::loss::Violation = spec::loss::Violation::Sum;
    const MAX: spec::loss::Violation = spec::loss::Violation::Max;
    let s: Array2<f64> = array![[0.5, 0.6, 0.1], [0.4, 0.3, 0.35], [0.2, 0.0, 0.7]];
    let all = |batch| spec::loss::negatives(batch, |_, _| true);
    let (sh, mh) = (spec::loss::loss(&s, 0.2, SUM, &all(3)), spec::loss::loss(&s, 0.2, MAX, &all(3)));
    assert!((sh.loss - 1.45).abs() < 1e-15 && (mh.loss - 1.20).abs() < 1e-15, "{} {}", sh.loss, mh.loss);
    assert_eq!(spec::loss::loss_backward(&sh), array![[-2.0, 2.0, 0.0], [2.0, -3.0, 1.0], [0.0, 0.0, 0.0]]);
    assert_eq!(spec::loss::loss_backward(&mh), array![[-2.0, 2.0, 0.0], [2.0, -2.0, 0.0], [0.0, 0.0, 0.0]]);
    // Of equally hard negatives the first counts; a hinge of exactly 0 does not.
    let tied = spec::loss::loss(&Array2::<f64>::zeros((3, 3)), 0.5, MAX, &all(3));
    assert_eq!(spec::loss::loss_backward(&tied), array![[-2.0, 2.0, 1.0], [2.0, -2.0, 0.0], [1.0, 0.0, -2.0]]);
    let kink = spec::loss::loss(&array![[0.75, 0.5], [0.5, 0.75]], 0.25, SUM, &all(2));
    assert_eq!((kink.loss, spec::loss::loss_backward(&kink)), (0.0, Array2::zeros((2, 2))));
}

#[test]
fn edges_of_the_norm() {
    assert_eq!(spec::layers::l2norm::<f64>(&array![[1.0, 0.0], [0.0, 0.0]]).unwrap_err(), 1, "a row of zeros");
    // Rows whose squares vanish or overflow.
    let (y, norms) = spec::layers::l2norm::<f64>(&array![[3e-200, 4e-200], [3e200, 4e200]]).unwrap();
    for row in 0..2 {
        assert!((y[[row, 0]] - 0.6).abs() < 1e-15 && (y[[row, 1]] - 0.8).abs() < 1e-15, "{y}");
    }
    assert!((norms[0] / 5e-200 - 1.0).abs() < 1e-15 && (norms[1] / 5e200 - 1.0).abs() < 1e-15, "{norms}");
}

/// The source files of the specification in `src/spec/` or in a folder of it.
fn sources(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/spec").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The model, and the layers of image encoders.
const FOLDERS: [&str; 2] = ["", "pictures"];

#[test]
fn it_is_read_in_one_sitting_and_by_itself() {
    let texts = FOLDERS.map(sources);
    for (texts, (files, most)) in texts.iter().zip([(5, 560), (3, 410)]) {
        let lines: usize = texts.iter().map(|text| text.lines().count()).sum();
        assert!(texts.len() >= files && lines <= most, "{lines} lines in {} files", texts.len());
    }
    for line in texts.iter().flatten().flat_map(|text| text.lines()).filter(|line| !line.trim_start().starts_with("//"))
    {
        for (at, _) in line.match_indices("crate::") {
            let path = &line[at + "crate::".len()..];
            assert!(path.starts_with("real::") || path.starts_with("error::"), "the specification uses {line:?}");
        }
    }
}

/// `docs/02-equations.md` says so. (GRU-5) is (TXT-1) in the words of a layer.
#[test]
fn every_equation_of_the_model_is_in_it() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/02-equations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let code = FOLDERS.map(|folder| sources(folder).concat()).concat();
    let families = [
        "EMB", "LIN", "GRU", "NORM", "ABS", "IMG", "TXT", "SIM", "HINGE", "SH", "MH", "KH", "LSE", "SEMI", "LOSS",
        "CLIP", "ADAM", // model
        "CONV", "BLOCK", "BN", "RELU", "DROP", "FLAT", "MAXPOOL", "AVGPOOL", "RESNET", // pictures
    ];
    let mut found = 0;
    for line in page.lines() {
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_start_matches("| ")).collect();
        let Some(label) = cells[0].strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else { continue };
        let family = label.split('-').next().unwrap();
        if cells.len() != 4 || !families.contains(&family) || label.starts_with("GRU-5") {
            continue;
        }
        for equation in cells[1].split("<br>") {
            let equation = equation.trim_matches('`').replace("\\|", "|");
            assert!(code.contains(&format!("// ({label})  {equation}")), "({label})  {equation}");
            found += 1;
        }
    }
    assert!(found >= 40, "{found} equations");
}

/// Generic over the number type, as it says.
#[test]
fn it_runs_in_single_precision() {
    fn half<T: Real>() -> T {
        let (y, _) = spec::layers::l2norm(&array![[T::one(), T::one()]]).unwrap();
        y[[0, 0]] * y[[0, 1]]
    }
    assert!((half::<f32>() - 0.5).abs() < 1e-6 && (half::<f64>() - 0.5).abs() < 1e-15);
}
