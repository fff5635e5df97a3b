//! The suite of image encoders: what it promises, the layers of this crate, and backends with mistakes.

use std::collections::BTreeSet;

use ndarray::{Array1, Array4, ArrayD, ArrayView4, Axis, Ix1, Ix4, s};

use super::{F32, backend, check, folder_of_pictures, pictures, right, right_values};
use crate::files::ElementType;
use crate::golden::Arithmetic;
use crate::golden::cases::{self, Expected};
use crate::golden::compare::{Found, FoundTensors, Status, check_case};
use crate::golden::plain::Plain;
use crate::golden::program::{Inputs, Program, Settings};
use crate::golden::suite::GoldenCase;
use crate::golden::tolerance::Profile;
use crate::linalg::Write;
use crate::nn::{
    AvgPool, AvgPoolCache, BatchNorm, BatchNormCache, Block, BlockCache, Conv2d, Conv2dCache, ConvNorm, Layer, MaxPool,
    MaxPoolCache, Mode, Module,
};

fn valid() -> impl Iterator<Item = &'static GoldenCase> {
    pictures().iter().filter(|case| case.entry.result == Expected::Valid)
}

pub(super) fn of(program: Program) -> impl Iterator<Item = &'static GoldenCase> {
    valid().filter(move |case| case.entry.program == program)
}

pub(super) fn four(x: &ArrayD<f64>) -> Array4<f64> {
    x.clone().into_dimensionality::<Ix4>().unwrap()
}

pub(super) fn one(x: &ArrayD<f64>) -> Array1<f64> {
    x.clone().into_dimensionality::<Ix1>().unwrap()
}

#[test]
fn the_suite_of_pictures_is_what_it_promises() {
    let files = std::fs::read_dir(folder_of_pictures()).unwrap();
    let size: u64 = files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= 3 << 20, "{size} bytes");
    let mut ids = BTreeSet::new();
    for case in pictures() {
        let id = &case.entry.id;
        assert!(id.starts_with(&format!("{}-", case.entry.family)) && case.entry.program.is_of_pictures(), "{id}");
        assert!(ids.insert(id), "{id}");
        for (name, values) in case.inputs.iter().filter(|(name, _)| name.starts_with("param.")) {
            let distinct: BTreeSet<u64> = values.iter().map(|x| x.to_bits()).collect();
            assert!(distinct.len() == values.len() && values.iter().all(|&x| x != 0.0), "{id}: {name}");
        }
        if case.entry.result == Expected::Valid {
            let judged = |profile| case.expected_entries().all(|tensor| tensor.tolerance.contains_key(&profile));
            assert!(judged(Profile::F64) && judged(F32), "{id}: f64 and f32 judge every tensor");
            for (name, values) in &case.expected {
                let zeros = values.iter().filter(|&&x| x == 0.0).count();
                // The gradient goes to one pixel of each window of a max pool.
                let before_pool = match case.entry.program {
                    Program::Resnet if case.settings().unwrap().pool => {
                        ["grad.mid.relu1", "grad.mid.bn1", "grad.mid.conv1"].contains(&name.as_str())
                    }
                    Program::Vgg => name.starts_with("grad.mid.features."),
                    _ => false,
                };
                let sparse = name == "grad.in.x" || name == "mid.index" || before_pool;
                assert!(sparse || 5 * zeros <= 4 * values.len(), "{id}: {name}: {zeros} of {} are 0", values.len());
            }
        }
    }
    assert!(super::suite().iter().all(|case| !ids.contains(&case.entry.id)), "ids of both suites differ");
    let flags = crate::golden::suite::Suite::open(&folder_of_pictures()).unwrap().manifest.flags;
    let used: BTreeSet<&String> = pictures().iter().flat_map(|case| &case.entry.flags).collect();
    assert_eq!(flags.keys().collect::<BTreeSet<_>>(), used, "the flags that occur are explained, and no others");
    assert!(cases::of_pictures().unwrap().len() == pictures().len());
}

pub(super) fn found(values: ArrayD<f64>) -> Found {
    Found { element: ElementType::F64, values }
}

/// What a layer of this crate computes for a case: y, the gradients of its parameters and of x, and the cache.
fn computed<L>(mut layer: L, golden: &GoldenCase, y: impl Fn(&L::Cache) -> &Array4<f64>) -> (FoundTensors, L, L::Cache)
where
    L: for<'a> Layer<f64, X<'a> = ArrayView4<'a, f64>, Y = Array4<f64>, Dx = Array4<f64>> + Module<f64> + Clone,
{
    let mode = if golden.settings().unwrap().training { Mode::Train } else { Mode::Eval };
    layer.fill(|name, _| Ok(golden.inputs[&format!("param.{name}")].clone())).unwrap();
    let (x, dy) = (four(&golden.inputs["in.x"]), four(&golden.inputs["in.d_y"]));
    let (mut cache, mut gradient, mut dx) = (L::Cache::default(), layer.clone(), Array4::zeros((0, 0, 0, 0)));
    layer.forward(x.view(), mode, &mut cache).unwrap();
    layer.backward(x.view(), &mut cache, &dy, Write::Replace, &mut gradient, Some(&mut dx));
    let mut all = FoundTensors::from([
        ("out.y".to_owned(), found(y(&cache).clone().into_dyn())),
        ("grad.in.x".to_owned(), found(dx.into_dyn())),
    ]);
    gradient.each(|name, _, tensor| {
        if !name.to_string().contains("running") {
            all.insert(format!("grad.{name}"), found(tensor.to_owned()));
        }
    });
    (all, layer, cache)
}

/// The running statistics of a layer, as a case names them.
pub(super) fn add_running(all: &mut FoundTensors, layer: &impl Module<f64>) {
    layer.each(|name, _, tensor| {
        if name.to_string().contains("running") {
            all.insert(format!("out.{name}"), found(tensor.to_owned()));
        }
    });
}

#[test]
fn the_layers_of_this_crate_give_the_values() {
    let mut tensors = 0;
    for golden in valid().filter(|case| !matches!(case.entry.program, Program::Resnet | Program::Vgg)) {
        let settings = golden.settings().unwrap();
        let shape = |name: &str| -> [usize; 4] { golden.inputs[name].shape().try_into().unwrap() };
        let all = match golden.entry.program {
            Program::Conv => {
                let mut layer = Conv2d::zeros(shape("param.weight"), settings.stride, settings.padding);
                let bias = golden.inputs.contains_key("param.bias");
                layer.bias = bias.then(|| Array1::zeros(shape("param.weight")[0]));
                computed(layer, golden, |cache: &Conv2dCache<f64>| &cache.y).0
            }
            Program::BatchNorm => {
                let layer = BatchNorm::zeros(shape("in.x")[1]);
                let (mut all, mut layer, cache) = computed(layer, golden, |cache: &BatchNormCache<f64>| &cache.y);
                if settings.training {
                    all.insert("mid.mean".into(), found(cache.mean.clone().into_dyn()));
                    all.insert("mid.var".into(), found(cache.var.clone().into_dyn()));
                    layer.update(&cache);
                    add_running(&mut all, &layer);
                }
                all
            }
            Program::MaxPool => {
                let Settings { kernel, stride, padding, .. } = settings;
                let layer = MaxPool { kernel, stride, padding };
                let (mut all, _, cache) = computed(layer, golden, |cache: &MaxPoolCache<f64>| &cache.y);
                all.insert("mid.index".into(), found(cache.pixel.mapv(f64::from).into_dyn()));
                all
            }
            Program::AvgPool => {
                computed(AvgPool { size: settings.size }, golden, |cache: &AvgPoolCache<f64>| &cache.y).0
            }
            _ => {
                let pair = |name: &str, stride: usize| {
                    let [o, c, kh, kw] = shape(&format!("param.{name}.weight"));
                    ConvNorm { conv: Conv2d::zeros([o, c, kh, kw], stride, kh / 2), norm: BatchNorm::zeros(o) }
                };
                let strides = settings.strides.iter().enumerate();
                let stages = strides.map(|(k, &stride)| pair(&format!("conv{}", k + 1), stride)).collect();
                let projected = golden.inputs.contains_key("param.downsample.0.weight");
                let downsample = projected.then(|| pair("downsample.0", settings.strides.iter().product::<usize>()));
                let layer = Block { stages, downsample };
                let (mut all, mut layer, cache) = computed(layer, golden, |cache: &BlockCache<f64>| &cache.y);
                if settings.training {
                    layer.update(&cache);
                    add_running(&mut all, &layer);
                }
                all
            }
        };
        tensors += all.len();
        assert_passes(golden, &all, |name| !name.contains("mid.") || !golden.is_block());
    }
    assert!(tensors > 300, "{tensors}");
}

/// Asserts that values in `f64` pass, and that those of some names are all there.
pub(super) fn assert_passes(golden: &GoldenCase, all: &FoundTensors, wanted: impl Fn(&str) -> bool) {
    for entry in golden.expected_entries().filter(|entry| wanted(&entry.name)) {
        assert!(all.contains_key(&entry.name), "{}: {} is not compared", golden.entry.id, entry.name);
    }
    let report = check_case(golden, all, Profile::F64).unwrap();
    assert!(report.unknown.is_empty(), "{}: {:?}", golden.entry.id, report.unknown);
    assert_eq!(report.status, Status::Passed, "{}: {:?}", golden.entry.id, report.headline());
}

impl GoldenCase {
    fn is_block(&self) -> bool {
        self.entry.program == Program::Block
    }

    /// What a backend in `f32` computes from other inputs or settings.
    fn from(&self, change: impl FnOnce(&mut Inputs, &mut Settings)) -> FoundTensors {
        let (mut inputs, mut settings) = (self.inputs.clone(), self.settings().unwrap());
        change(&mut inputs, &mut settings);
        let run = self.entry.program.run::<f32>(&settings, &inputs, &Plain::new(Arithmetic::PLAIN)).unwrap();
        let entries = run.trace.entries.into_iter().map(|entry| {
            let element = if entry.name == "mid.index" { ElementType::I64 } else { ElementType::F32 };
            (entry.name, Found { element, values: entry.values.mapv(f64::from) })
        });
        entries.collect()
    }

    /// What a right backend in `f32` writes, with some tensors replaced.
    fn but(&self, change: impl FnOnce(&mut FoundTensors)) -> FoundTensors {
        let mut all = right(self);
        change(&mut all);
        all
    }

    fn channels(&self) -> usize {
        self.inputs["in.x"].shape()[1]
    }

    /// M, the numbers of a channel.
    fn numbers(&self) -> f64 {
        (self.inputs["in.x"].len() / self.channels()) as f64
    }
}

/// A tensor with some axes reversed.
fn reversed(x: &ArrayD<f64>, axes: &[usize]) -> ArrayD<f64> {
    let mut x = x.clone();
    for &axis in axes {
        x.invert_axis(Axis(axis));
    }
    x.as_standard_layout().into_owned()
}

/// A tensor in which an axis begins so many places later.
fn rolled(x: &ArrayD<f64>, axis: usize, by: usize) -> ArrayD<f64> {
    let size = x.shape()[axis];
    let order: Vec<usize> = (0..size).map(|k| (k + size - by) % size).collect();
    x.select(Axis(axis), &order)
}

fn change(all: &mut FoundTensors, name: &str, with: impl FnOnce(&ArrayD<f64>) -> ArrayD<f64>) {
    let found = all.get_mut(name).unwrap();
    found.values = with(&found.values);
}

/// A wrong backend: for each case that shows its mistake, what it writes.
type Wrong = fn(&GoldenCase) -> Option<FoundTensors>;

const WRONG: [(&str, Wrong); 15] = [
    ("kernel-flipped", |case| {
        let conv = case.entry.program == Program::Conv && case.inputs["param.weight"].len() > case.channels() * 4;
        conv.then(|| {
            let mut all = case.from(|inputs, _| {
                inputs.insert("param.weight".into(), reversed(&case.inputs["param.weight"], &[2, 3]));
            });
            change(&mut all, "grad.weight", |d| reversed(d, &[2, 3]));
            all
        })
    }),
    ("padding-one-pixel-off", |case| {
        let padded = case.entry.program == Program::Conv && case.settings().unwrap().padding > 0;
        padded.then(|| {
            case.from(|inputs, _| {
                // One more row of zeros above, one less below.
                let x = four(&inputs["in.x"]);
                let mut lower = Array4::zeros(x.dim());
                lower.slice_mut(s![.., .., 1.., ..]).assign(&x.slice(s![.., .., ..-1, ..]));
                inputs.insert("in.x".into(), lower.into_dyn());
            })
        })
    }),
    ("channels-reversed", |case| {
        let program = case.entry.program;
        let networks = matches!(program, Program::Block | Program::Resnet | Program::Vgg);
        let colours = (networks || program == Program::Conv) && case.channels() > 1;
        colours.then(|| {
            let mut all = case.from(|inputs, _| {
                inputs.insert("in.x".into(), reversed(&case.inputs["in.x"], &[1]));
            });
            change(&mut all, "grad.in.x", |d| reversed(d, &[1]));
            all
        })
    }),
    ("unbiased-variance-in-y", |case| {
        (case.entry.program == Program::BatchNorm && case.settings().unwrap().training).then(|| {
            let (var, bias) = (one(&case.expected["mid.var"]), one(&case.inputs["param.bias"]));
            let m = case.numbers();
            case.but(|all| {
                change(all, "out.y", |y| {
                    let mut y = four(y);
                    for ((_, c, ..), y) in y.indexed_iter_mut() {
                        let ratio = ((var[c] + 1e-5) / (var[c] * m / (m - 1.0) + 1e-5)).sqrt();
                        *y = (*y - bias[c]) * ratio + bias[c];
                    }
                    y.into_dyn()
                });
            })
        })
    }),
    ("biased-running-variance", |case| moved(case, "var", |running, batch| 0.9 * running + 0.1 * batch)),
    ("momentum-reversed", |case| {
        let m = case.numbers();
        moved(case, "var", |running, batch| 0.1 * running + 0.9 * batch * m / (m - 1.0))
    }),
    ("momentum-of-the-mean-reversed", |case| moved(case, "mean", |running, batch| 0.1 * running + 0.9 * batch)),
    ("running-statistics-in-training", |case| {
        let training = case.settings().unwrap().training;
        training.then(|| case.from(|_, settings| settings.training = false))
    }),
    ("statistics-of-the-batch-in-evaluation", |case| {
        let norms = matches!(case.entry.program, Program::BatchNorm | Program::Block | Program::Resnet);
        let evaluation = norms && !case.settings().unwrap().training;
        evaluation.then(|| {
            let mut all = case.from(|_, settings| settings.training = true);
            all.retain(|name, _| case.expected.contains_key(name));
            all
        })
    }),
    ("statistics-taken-as-constants", |case| {
        (case.entry.program == Program::BatchNorm && case.settings().unwrap().training).then(|| {
            let frozen = case.from(|inputs, settings| {
                settings.training = false;
                for part in ["mean", "var"] {
                    inputs.insert(format!("param.running_{part}"), case.expected[&format!("mid.{part}")].clone());
                }
            });
            case.but(|all| change(all, "grad.in.x", |_| frozen["grad.in.x"].values.clone()))
        })
    }),
    ("the-last-of-equal-maxima", |case| {
        let settings = case.settings().unwrap();
        let fits = |pixels: usize| (pixels + 2 * settings.padding - settings.kernel).is_multiple_of(settings.stride);
        let whole = case.inputs["in.x"].shape()[2..].iter().all(|&pixels| fits(pixels));
        let tie = case.entry.flags.iter().any(|flag| flag == "pool-tie");
        (tie && whole).then(|| {
            let mut all = case.from(|inputs, _| {
                for name in ["in.x", "in.d_y"] {
                    inputs.insert(name.into(), reversed(&case.inputs[name], &[2, 3]));
                }
            });
            let pixels: usize = case.inputs["in.x"].shape()[2..].iter().product();
            change(&mut all, "mid.index", |at| reversed(at, &[2, 3]).mapv(|at| pixels as f64 - 1.0 - at));
            change(&mut all, "out.y", |y| reversed(y, &[2, 3]));
            change(&mut all, "grad.in.x", |d| reversed(d, &[2, 3]));
            all
        })
    }),
    ("shortcut-without-its-norm", |case| {
        let projected = case.inputs.contains_key("param.downsample.1.weight") && !case.settings().unwrap().training;
        projected.then(|| {
            case.from(|inputs, _| {
                for (part, value) in [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)] {
                    inputs.get_mut(&format!("param.downsample.1.{part}")).unwrap().fill(value);
                }
            })
        })
    }),
    ("channels-of-zeros-all-after-x", |case| {
        let zeros = case.is_block() && case.entry.flags.iter().any(|flag| flag == "shortcut-of-zeros");
        zeros.then(|| {
            // As if the other outputs came in another order: rolled by the channels before x, and back.
            let before = (case.inputs["in.d_y"].shape()[1] - case.channels()) / 2;
            let mut all = case.from(|inputs, _| {
                let of_channels = ["conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"];
                for (name, axis) in
                    of_channels.map(|name| (format!("param.{name}"), 0)).into_iter().chain([("in.d_y".into(), 1)])
                {
                    inputs.insert(name.clone(), rolled(&case.inputs[&name], axis, before));
                }
            });
            all.retain(|name, _| ["mid.sum", "out.y", "grad.in.x", "grad.mid.relu1"].contains(&name.as_str()));
            for name in ["mid.sum", "out.y"] {
                let outputs = case.inputs["in.d_y"].shape()[1];
                change(&mut all, name, |y| rolled(y, 1, outputs - before));
            }
            all
        })
    }),
    ("channel-last-in-the-row", |case| {
        (case.entry.program == Program::Vgg).then(|| {
            let mut all = case.from(|inputs, _| {
                let name = "param.classifier.0.weight";
                let weight = inputs[name].clone();
                let channels = weight.shape()[1] / 49;
                // The place of (c, pixel) in a row: 49 c + pixel.
                let taken = |at: &ndarray::IxDyn| weight[[at[0], at[1] % 49 * channels + at[1] / 49]];
                inputs.insert(name.into(), ArrayD::from_shape_fn(weight.raw_dim(), |at| taken(&at)));
            });
            all.remove("grad.classifier.0.weight");
            all
        })
    }),
    ("stride-on-the-other-convolution", |case| {
        let strides = case.settings().unwrap().strides;
        (strides.len() == 3 && strides.contains(&2))
            .then(|| case.from(|_, settings| settings.strides = vec![strides[1], strides[0], 1]))
    }),
];

/// A backend that moves the running statistics in another way.
fn moved(case: &GoldenCase, part: &str, to: impl Fn(f64, f64) -> f64) -> Option<FoundTensors> {
    (case.entry.program == Program::BatchNorm && case.settings().unwrap().training).then(|| {
        let (running, batch) = (&case.inputs[&format!("param.running_{part}")], &case.expected[&format!("mid.{part}")]);
        let values = ndarray::Zip::from(running).and(batch).map_collect(|&running, &batch| to(running, batch));
        case.but(|all| change(all, &format!("out.running_{part}"), |_| values))
    })
}

#[test]
fn wrong_layers_are_rejected_clearly_by_two_cases() {
    for (name, wrong) in WRONG {
        let mut caught = 0;
        for case in valid() {
            let Some(found) = wrong(case) else { continue };
            let checked = check(case, found, F32);
            caught += usize::from(checked.report.status == Status::Failed && checked.report.worst() >= 10.0);
        }
        assert!(caught >= 2, "{name} is rejected at ten tolerances by {caught} cases");
    }
}

/// The wrong backends above know nothing of relations.
#[test]
fn wrong_layers_are_named() {
    let names = [
        ("kernel-flipped", "conv-kernel-flipped"),
        ("biased-running-variance", "running-variance-biased"),
        ("running-statistics-in-training", "norm-running-in-training"),
        ("statistics-of-the-batch-in-evaluation", "norm-batch-in-evaluation"),
        ("statistics-taken-as-constants", "norm-gradient-of-constants"),
        ("the-last-of-equal-maxima", "pool-last-of-equal"),
        ("channels-of-zeros-all-after-x", "shortcut-channels-first"),
        ("channel-last-in-the-row", "row-channel-last"),
    ];
    for (name, id) in names {
        let (_, wrong) = WRONG.iter().find(|(other, _)| *other == name).unwrap();
        let checked: Vec<_> = valid().filter_map(|case| Some(check(case, wrong(case)?, F32))).collect();
        let d = crate::golden::diagnose::diagnose(&checked, F32, false);
        let named: Vec<&str> = d.named.iter().flat_map(|d| d.mistakes.iter().map(String::as_str)).collect();
        assert_eq!(named, [id], "{name}: {:?} {:?}", d.similar, d.unexplained);
        assert!(d.unexplained.len() * 10 <= checked.len(), "{name}: {:?}", d.unexplained);
    }
    // A lower precision is named.
    let way = Arithmetic { operands: crate::golden::arithmetic::Rounding::Tf32, ..Arithmetic::PLAIN };
    let checked: Vec<_> = of(Program::Conv).map(|case| check(case, backend(case, way, false), F32)).collect();
    assert_eq!(crate::golden::diagnose::diagnose(&checked, F32, false).within, Some(Profile::Tf32));
}

/// Where maxima tie, this suite has one right answer.
#[test]
fn the_values_of_a_tie_pass_as_they_are() {
    for case in of(Program::MaxPool) {
        assert_eq!(check(case, right_values(case), Profile::F64).report.status, Status::Passed, "{}", case.entry.id);
    }
}
