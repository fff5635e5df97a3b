//! The golden kit: what it publishes, what it catches, and what it must not reject.

#![allow(clippy::cast_sign_loss)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ndarray::{ArrayD, IxDyn};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::files::ElementType;
use crate::golden::Arithmetic;
use crate::golden::arithmetic::{Form, Order, Rounding, UlpError};
use crate::golden::cases::{self, Expected};
use crate::golden::compare::{Found, FoundTensors, REJECTED, Status, UNSUPPORTED, check_case};
use crate::golden::diagnose::{Checked, Reach, diagnose};
use crate::golden::make::{self, MakeOptions};
use crate::golden::mistakes::{self, Mistake, named};
use crate::golden::plain::{Kind, Plain};
use crate::golden::program::Program;
use crate::golden::relations::planted::{Planting, Until, Values, Way};
use crate::golden::suite::{Format, GoldenCase, Suite};
use crate::golden::tolerance::{self, Profile};
use crate::random::{below, stream};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden")
}

fn folder_of_pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden-pictures")
}

fn suite() -> &'static Vec<GoldenCase> {
    static SUITE: OnceLock<Vec<GoldenCase>> = OnceLock::new();
    SUITE.get_or_init(|| loaded(&folder()))
}

/// The suite of the layers of image encoders.
fn pictures() -> &'static Vec<GoldenCase> {
    static SUITE: OnceLock<Vec<GoldenCase>> = OnceLock::new();
    SUITE.get_or_init(|| loaded(&folder_of_pictures()))
}

fn loaded(folder: &Path) -> Vec<GoldenCase> {
    let suite = Suite::open(folder).unwrap();
    suite.manifest.cases.par_iter().map(|entry| suite.load(entry).unwrap()).collect()
}

/// Both suites.
fn all() -> impl Iterator<Item = &'static GoldenCase> {
    suite().iter().chain(pictures())
}

fn case(id: &str) -> &'static GoldenCase {
    all().find(|case| case.entry.id == id).unwrap_or_else(|| panic!("no case {id}"))
}

/// Valid cases of both suites: those that a backend must get right.
fn valid() -> impl Iterator<Item = &'static GoldenCase> {
    all().filter(|case| case.entry.result == Expected::Valid)
}

/// A backend that computes in `f32` (or `f64`) with an arithmetic.
fn backend(case: &GoldenCase, way: Arithmetic, double: bool) -> FoundTensors {
    if case.entry.result == Expected::Invalid {
        return refusal();
    }
    let settings = case.settings().unwrap();
    let plain = Plain::new(way);
    let element = |kind: Kind, real| if kind == Kind::Real { real } else { ElementType::I64 };
    let mut found = FoundTensors::new();
    if double {
        let Ok(run) = case.entry.program.run::<f64>(&settings, &case.inputs, &plain) else { return refusal() };
        for entry in run.trace.entries {
            found.insert(entry.name, Found { element: element(entry.kind, ElementType::F64), values: entry.values });
        }
    } else {
        let Ok(run) = case.entry.program.run::<f32>(&settings, &case.inputs, &plain) else { return refusal() };
        for entry in run.trace.entries {
            let values = entry.values.mapv(f64::from);
            found.insert(entry.name, Found { element: element(entry.kind, ElementType::F32), values });
        }
    }
    found
}

/// A backend in `f32` with some mistakes, and the backward pass that an autograd derives from them.
fn wrong(case: &GoldenCase, planted: &[&Mistake]) -> FoundTensors {
    let Ok(planting) = Planting::new(case) else { return right(case) };
    let of = |autograd| planting.values(planted, Way { autograd, single: true, until: Until::End });
    let backward = planted.iter().any(|mistake| mistake.relations.contains(": d."));
    let values = (!backward).then(|| of(true)).flatten().or_else(|| of(false));
    let mut found = right(case);
    let values = values.filter(|_| case.entry.result != Expected::Invalid).unwrap_or_default();
    found.extend(values.into_iter().map(|(name, values)| {
        let element = if case.is_exact(&name) { ElementType::I64 } else { ElementType::F32 };
        (name, Found { element, values })
    }));
    found
}

fn refusal() -> FoundTensors {
    let values = ndarray::arr1(&[1.0]).into_dyn();
    FoundTensors::from([(REJECTED.to_owned(), Found { element: ElementType::U8, values })])
}

fn check(case: &GoldenCase, found: FoundTensors, profile: Profile) -> Checked {
    let report = check_case(case, &found, profile).unwrap();
    Checked { golden: case.clone(), found, report }
}

/// A correct backend in `f32`.
fn right(case: &GoldenCase) -> FoundTensors {
    backend(case, Arithmetic::PLAIN, false)
}

const F32: Profile = Profile::F32;

mod encoders;
mod fuzz;
mod layers;
mod relations;
mod settings;

// --- what is published ---------------------------------------------------------------------------

#[test]
fn regenerating_gives_the_same_bytes() {
    for (name, cases, folder) in
        [("core", cases::core(), folder()), ("pictures", cases::of_pictures(), folder_of_pictures())]
    {
        regenerate(name, &cases.unwrap(), &folder);
    }
}

fn regenerate(suite: &str, cases: &[cases::Case], folder: &Path) {
    let out = tempfile::tempdir().unwrap();
    let options = MakeOptions {
        profiles: &Profile::ALL,
        layouts: &[],
        of_pictures: &[],
        steps: true,
        kills: true,
        single: true,
        wide: false,
    };
    make::write(out.path(), suite, cases, Format::Safetensors, options, |_| ()).unwrap();
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|n| n != ".gitattributes")
            .collect()
    };
    assert_eq!(names(out.path()), names(folder), "the files of the suite {suite}");
    for name in names(out.path()) {
        let (new, old) = (std::fs::read(out.path().join(&name)).unwrap(), std::fs::read(folder.join(&name)).unwrap());
        let folder = folder.display();
        assert!(
            new == old,
            "{name} differs: `vsepp golden make --suite {suite} --out {folder} --force`, and a line under Numerics"
        );
    }
}

#[test]
fn the_suite_is_what_it_promises() {
    let all = suite();
    assert!(all.len() >= 120, "{} cases", all.len());
    let size: u64 = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 10 << 20, "{size} bytes");
    let families: BTreeSet<&str> = all.iter().map(|case| case.entry.family.as_str()).collect();
    for family in [
        "gru-cell",
        "gru-sequence",
        "layout",
        "reset",
        "embedding",
        "linear",
        "l2norm",
        "scores",
        "loss",
        "kink",
        "optimiser",
        "model",
        "trajectory",
        "rejected",
    ] {
        assert!(families.contains(family), "{family}");
    }
    let manifest = Suite::open(&folder()).unwrap().manifest;
    for case in all {
        let id = &case.entry.id;
        assert!(id.starts_with(&format!("{}-", case.entry.family)), "{id}");
        assert!(case.entry.flags.iter().all(|flag| manifest.flags.contains_key(flag)), "{id}: every flag is explained");
        for tensor in case.entry.tensors.iter().filter(|tensor| tensor.is_input()) {
            let weights =
                tensor.name.starts_with("param.txt_enc.rnn.") || tensor.name == "in.h0" || tensor.name == "in.h";
            let values = &case.inputs[&tensor.name];
            if weights && !case.entry.flags.iter().any(|flag| flag == "reset-agree") {
                let distinct: BTreeSet<u64> = values.iter().map(|x| x.to_bits()).collect();
                assert_eq!(distinct.len(), values.len(), "{id}: {}: all values are distinct", tensor.name);
                assert!(values.iter().all(|&x| x != 0.0), "{id}: {}", tensor.name);
            }
            if tensor.name.contains("weight_hh") {
                assert!(values.shape()[1] >= 2, "{id}: H ≥ 2");
            }
        }
    }
}

#[test]
fn ids_are_only_ever_added() {
    // The ids of the first release: none may disappear or change its meaning.
    let pinned = include_str!("ids.txt");
    let programs: BTreeMap<&str, &str> =
        all().map(|case| (case.entry.id.as_str(), case.entry.program.name())).collect();
    for line in pinned.lines() {
        let (id, program) = line.split_once(' ').unwrap();
        assert_eq!(programs.get(id), Some(&program), "{id}");
    }
}

/// One tensor of every shape that a program has, and the letters of its axes (3H: the three gates of H units).
fn axes(program: Program) -> &'static [(&'static str, &'static [&'static str])] {
    match program {
        Program::GruCell => &[
            ("in.x", &["B", "E"]),
            ("in.h", &["B", "H"]),
            ("mid.a", &["B", "3H"]),
            ("param.txt_enc.rnn.weight_ih_l0", &["3H", "E"]),
            ("param.txt_enc.rnn.weight_hh_l0", &["3H", "H"]),
            ("param.txt_enc.rnn.bias_hh_l0", &["3H"]),
        ],
        Program::Gru => &[
            ("in.x", &["B", "T", "E"]),
            ("in.h0", &["L", "B", "H"]),
            ("in.d_last", &["B", "H"]),
            ("mid.l0.a", &["B", "T", "3H"]),
            ("mid.l0.h", &["B", "T", "H"]),
            ("param.txt_enc.rnn.weight_ih_l0", &["3H", "E"]),
            ("param.txt_enc.rnn.weight_hh_l0", &["3H", "H"]),
            ("param.txt_enc.rnn.bias_hh_l0", &["3H"]),
        ],
        Program::Embedding => &[
            ("in.captions", &["B", "T"]),
            ("in.d_words", &["B", "T", "E"]),
            ("param.txt_enc.embed.weight", &["V", "E"]),
        ],
        Program::Linear => &[
            ("param.img_enc.fc.weight", &["O", "I"]),
            ("param.img_enc.fc.bias", &["O"]),
            ("in.x", &["N", "I"]),
            ("in.d_y", &["N", "O"]),
        ],
        Program::L2norm => &[("in.x", &["N", "D"]), ("mid.norm", &["N"])],
        Program::Scores => {
            &[("in.image_embedding", &["N", "D"]), ("in.caption_embedding", &["M", "D"]), ("in.d_scores", &["N", "M"])]
        }
        Program::Loss => &[("in.scores", &["B", "B"])],
        // The gradients of all steps, and a parameter.
        Program::Optimiser => &[("in.grad.p0", &["steps", "rows", "columns"])],
        Program::Model => &[
            ("in.images", &["B", "F"]),
            ("in.captions", &["B", "T"]),
            ("param.txt_enc.embed.weight", &["V", "E"]),
            ("param.txt_enc.rnn.weight_ih_l0", &["3H", "E"]),
            ("param.txt_enc.rnn.weight_hh_l0", &["3H", "H"]),
            ("param.txt_enc.rnn.bias_hh_l0", &["3H"]),
            ("param.img_enc.fc.weight", &["D", "F"]),
            ("param.img_enc.fc.bias", &["D"]),
            ("param.txt_enc.proj.weight", &["D", "H"]),
            ("mid.caption.norm", &["B"]),
            ("mid.words", &["B", "T", "E"]),
            ("mid.l0.a", &["B", "T", "3H"]),
            ("mid.l0.h", &["B", "T", "H"]),
            ("mid.last", &["B", "H"]),
            ("out.caption_embedding", &["B", "D"]),
            ("out.scores", &["B", "B"]),
        ],
        Program::Conv => &[("in.x", &["N", "C", "H", "W"]), ("param.weight", &["O", "C", "kh", "kw"])],
        Program::BatchNorm | Program::MaxPool | Program::AvgPool | Program::Vgg => &[("in.x", &["N", "C", "H", "W"])],
        Program::Block | Program::Resnet => {
            &[("in.x", &["N", "C", "H", "W"]), ("param.conv1.weight", &["O", "C", "k", "k"])]
        }
    }
}

/// The shapes of a case's tensors that [`axes`] lists.
fn shapes(case: &GoldenCase) -> impl Iterator<Item = (&'static str, &'static [&'static str], &[usize])> {
    axes(case.entry.program).iter().filter_map(|&(name, letters)| {
        let values = case.inputs.get(name).or_else(|| case.expected.get(name))?;
        assert_eq!(values.ndim(), letters.len(), "{}: {name}", case.entry.id);
        Some((name, letters, values.shape()))
    })
}

#[test]
fn every_pair_of_sizes_is_equal_in_a_case_and_different_in_another() {
    // No size is three times itself, and no GRU has six layers.
    let impossible = [(Program::GruCell, "3H", "H"), (Program::Gru, "3H", "H"), (Program::Model, "3H", "H")];
    let too_deep = (Program::Gru, "3H", "L");
    let mut pairs: BTreeMap<(Program, &str, &str), [Vec<&str>; 2]> = BTreeMap::new();
    for case in valid() {
        let program = case.entry.program;
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for (tensor, letters, shape) in shapes(case) {
            for (&letter, &size) in letters.iter().zip(shape) {
                assert_eq!(*sizes.entry(letter).or_insert(size), size, "{}: {tensor}: {letter}", case.entry.id);
            }
        }
        for (&one, &size) in &sizes {
            for (&other, &another) in sizes.range(one..).skip(1) {
                let seen = pairs.entry((program, one, other)).or_default();
                seen[usize::from(size != another)].push(&case.entry.id);
            }
        }
    }
    let excused = |pair: &(Program, &str, &str)| impossible.contains(pair) || *pair == too_deep;
    let mut wrong = Vec::new();
    for (pair, [equal, different]) in &pairs {
        println!("{pair:?}: equal in {}, different in {} cases", equal.len(), different.len());
        if (equal.is_empty() && !excused(pair)) || different.is_empty() {
            wrong.push(*pair);
        }
        assert!(equal.is_empty() || !excused(pair), "{pair:?} occurs as equal in {equal:?}: it needs no excuse");
    }
    assert!(wrong.is_empty(), "no case has these sizes equal, or none has them different: {wrong:?}");
    // The pairs are counted, so that a letter lost from the table does not make the test empty.
    let of = |program: Program| pairs.keys().filter(|(p, _, _)| *p == program).count();
    let all = [Program::GruCell, Program::Gru, Program::Embedding, Program::Linear, Program::L2norm, Program::Scores];
    assert_eq!(all.map(of), [6, 15, 6, 3, 1, 3]);
    assert_eq!([Program::Optimiser, Program::Model].map(of), [3, 28]);
    let all = [Program::Conv, Program::BatchNorm, Program::MaxPool, Program::AvgPool, Program::Block];
    assert_eq!(all.map(of), [21, 6, 6, 6, 15]);
    assert_eq!([Program::Resnet, Program::Vgg].map(of), [15, 6]);
}

/// A backend that takes one tensor for another shows where both have one shape: elsewhere it cannot run.
#[test]
fn two_tensors_that_can_have_one_shape_have_it_in_some_case() {
    /// Whether sizes exist with which both are one shape: no size is three times itself, and no GRU has six layers.
    fn can_be_equal(one: &[&str], other: &[&str]) -> bool {
        let mut equal: Vec<BTreeSet<&str>> = Vec::new();
        for (one, other) in one.iter().zip(other) {
            let mut class = BTreeSet::from([*one, *other]);
            equal.retain(|of| {
                let apart = of.is_disjoint(&class);
                if !apart {
                    class.extend(of);
                }
                apart
            });
            equal.push(class);
        }
        one.len() == other.len() && !equal.iter().any(|of| of.contains("3H") && (of.contains("H") || of.contains("L")))
    }
    let mut missing: BTreeMap<(Program, &str, &str), usize> = BTreeMap::new();
    for case in suite().iter().filter(|case| case.entry.result == Expected::Valid) {
        // Every tensor of numbers has a shape of the table. (A loss, and what there is for each step, are no vectors.)
        let listed: BTreeSet<&[usize]> = shapes(case).map(|(_, _, shape)| shape).collect();
        let of_adam = case.entry.program == Program::Optimiser;
        for tensor in case.entry.tensors.iter().filter(|t| !t.exact && !t.name.starts_with("opt.") && !of_adam) {
            let shape = tensor.shape.as_slice();
            let found = listed.contains(shape) || tensor.name == "out.loss";
            assert!(found, "{}: {} {shape:?} is not in the table", case.entry.id, tensor.name);
        }
        let numbers = || shapes(case).filter(|(name, ..)| *name != "in.captions");
        for (one, letters, shape) in numbers() {
            for (other, other_letters, other_shape) in numbers() {
                if one < other && can_be_equal(letters, other_letters) {
                    let equal = missing.entry((case.entry.program, one, other)).or_default();
                    *equal += usize::from(shape == other_shape);
                }
            }
        }
    }
    let all = missing.len();
    missing.retain(|_, equal| *equal == 0);
    assert!(missing.is_empty(), "no case has these tensors in one shape: {:#?}", missing.keys());
    assert_eq!(all, 61, "the pairs are counted, so that the table cannot lose any");
}

/// Kernels work in tiles, and a mistake in the last, incomplete one begins where it begins: at 88 of 91 with tiles of
/// 8, at 80 with 16. Sizes at which all widths begin at different places distinguish them.
#[test]
fn sizes_distinguish_the_widths_of_tiles() {
    const WIDTHS: [usize; 5] = [8, 16, 32, 64, 128];
    // The axes that kernels cut into tiles, and their widest tile here: sums and units more than rows.
    let wanted: [(Program, &[&str], usize); 5] = [
        (Program::GruCell, &["E", "H"], 128),
        (Program::Linear, &["N", "I", "O"], 128),
        (Program::L2norm, &["D"], 128),
        (Program::Scores, &["N", "M"], 64),
        (Program::Model, &["E", "H", "D", "F"], 64),
    ];
    let mut missing = Vec::new();
    for (program, letters, widest) in wanted.into_iter().chain([(Program::Scores, &["D"][..], 128)]) {
        for &wanted in letters {
            let of_program = suite().iter().filter(|case| case.entry.program == program);
            let sizes: BTreeSet<usize> = of_program
                .flat_map(shapes)
                .flat_map(|(_, letters, shape)| letters.iter().zip(shape))
                .filter(|(letter, _)| **letter == wanted)
                .map(|(_, &size)| size)
                .collect();
            for (k, &wide) in WIDTHS.iter().enumerate().filter(|&(_, &wide)| wide <= widest) {
                for &narrow in &WIDTHS[..k] {
                    let tail =
                        |size: usize, width: usize| (!size.is_multiple_of(width)).then_some(size / width * width);
                    let differ = |&size: &usize| {
                        let tails = [narrow, wide].map(|width| tail(size, width));
                        tails[0].is_some() && tails[1].is_some() && tails[0] != tails[1]
                    };
                    if !sizes.iter().any(differ) {
                        missing.push(format!("{}: {wanted}: tiles of {narrow} and {wide}", program.name()));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "no size distinguishes these: {missing:#?}");
}

#[test]
fn a_matrix_read_or_written_with_swapped_strides_is_rejected() {
    let (mut read, mut shown, mut written) = (BTreeSet::new(), BTreeSet::new(), 0);
    for case in valid() {
        let settings = case.settings().unwrap();
        // Two axes of the same size, in a tensor that is not symmetric in them.
        let swapped = |values: &ndarray::ArrayD<f64>| -> Vec<ndarray::ArrayD<f64>> {
            let pairs = (0..values.ndim()).flat_map(|a| (0..a).map(move |b| (a, b)));
            let square = pairs.filter(|&(a, b)| values.shape()[a] == values.shape()[b] && values.shape()[a] > 1);
            let turned = square.map(|(a, b)| {
                let mut turned = values.clone();
                turned.swap_axes(a, b);
                turned.as_standard_layout().into_owned()
            });
            // −0 is 0.
            let differ = |(x, y): (&f64, &f64)| (x + 0.0).to_bits() != (y + 0.0).to_bits();
            turned.filter(|turned| turned.iter().zip(values).any(differ)).collect()
        };
        let integers = ["in.captions", "in.lengths", "in.image_ids", "in.step"];
        for (name, values) in case.inputs.iter().filter(|(name, _)| !integers.contains(&name.as_str())) {
            for turned in swapped(values) {
                let mut inputs = case.inputs.clone();
                inputs.insert(name.clone(), turned);
                let plain = Plain::new(Arithmetic::PLAIN);
                // NaN from the padding may stop the computation: then nothing is accepted either.
                let Ok(run) = case.entry.program.run::<f32>(&settings, &inputs, &plain) else { continue };
                let mut found = FoundTensors::new();
                for entry in run.trace.entries {
                    let element = if entry.kind == Kind::Real { ElementType::F32 } else { ElementType::I64 };
                    found.insert(entry.name, Found { element, values: entry.values.mapv(f64::from) });
                }
                let worst = |found: &FoundTensors| check_case(case, found, F32).unwrap().worst();
                // If all tensors are written, each case shows it, except for some losses: a sum of hinges that
                // are all positive, or all 0, is the same for S and its transpose.
                let shows = worst(&found) >= 10.0 || case.entry.program == Program::Loss;
                assert!(shows, "{}: {name}, read with swapped strides: {} tolerances", case.entry.id, worst(&found));
                read.insert((case.entry.program.name(), name.as_str()));
                // If only results and gradients are written, at least one case shows it.
                // (The result of an embedding is called mid.words.)
                let inner = |name: &str| name.starts_with("mid.") || name.starts_with("grad.mid.");
                let results = |name: &str| !inner(name) || case.entry.program == Program::Embedding;
                let partial =
                    found.iter().filter(|(name, _)| results(name.as_str())).map(|(n, f)| (n.clone(), f.clone()));
                if worst(&partial.collect()) >= 10.0 {
                    shown.insert((case.entry.program.name(), name.as_str()));
                }
            }
        }
        let found = right(case);
        for entry in case.expected_entries().filter(|entry| !entry.exact) {
            for turned in swapped(&case.expected[&entry.name]) {
                let mut found = FoundTensors::from([(entry.name.clone(), found[&entry.name].clone())]);
                found.get_mut(&entry.name).unwrap().values = turned;
                let report = check_case(case, &found, F32).unwrap();
                assert_eq!(
                    report.status,
                    Status::Failed,
                    "{}: {} written with swapped strides",
                    case.entry.id,
                    entry.name
                );
                written += 1;
            }
        }
    }
    println!("read: {read:?}; {written} tensors written");
    assert_eq!(read, shown, "from results and gradients alone no case shows it");
    for square in [
        ("gru_cell", "param.txt_enc.rnn.weight_ih_l0"),
        ("gru_cell", "in.x"),
        ("gru_cell", "in.h"),
        ("gru", "param.txt_enc.rnn.weight_ih_l0"),
        ("gru", "in.h0"),
        ("embedding", "param.txt_enc.embed.weight"),
        ("linear", "param.img_enc.fc.weight"),
        ("linear", "in.x"),
        ("scores", "in.image_embedding"),
        ("scores", "in.caption_embedding"),
        ("scores", "in.d_scores"),
        ("loss", "in.scores"),
        ("optimiser", "param.p0"),
        ("optimiser", "in.grad.p0"),
        ("model", "param.txt_enc.rnn.weight_ih_l0"),
        ("model", "param.txt_enc.embed.weight"),
        ("model", "param.img_enc.fc.weight"),
        ("model", "param.txt_enc.proj.weight"),
        ("model", "in.images"),
        ("conv", "param.weight"),
        ("conv", "in.x"),
        ("batch_norm", "in.x"),
        ("max_pool", "in.x"),
        ("avg_pool", "in.d_y"),
        ("block", "param.conv1.weight"),
        ("resnet", "param.conv1.weight"),
        ("vgg", "param.features.0.weight"),
    ] {
        assert!(read.contains(&square), "no case has a square {square:?}");
    }
}

#[test]
fn a_square_input_weight_read_with_swapped_strides_is_named() {
    // A kernel in f32 whose backward pass has the mistake too.
    let planted = [named("input-strides-swapped")];
    let of_cells = suite().iter().filter(|case| case.entry.program == Program::GruCell);
    let checked: Vec<Checked> = of_cells.map(|case| check(case, wrong(case, &planted), F32)).collect();
    let failed: Vec<&str> =
        checked.iter().filter(|c| c.report.status == Status::Failed).map(|c| c.report.id.as_str()).collect();
    assert!(failed.len() >= 4 && failed.iter().all(|id| id.contains("input-square")), "{failed:?}");
    assert_eq!(diagnose(&checked, F32, false).named[0].mistakes, ["input-strides-swapped"]);
}

#[test]
fn what_a_large_loss_does_not_store_is_computed_and_compared() {
    let manifest = Suite::open(&folder()).unwrap().manifest;
    let left_out = |entry: &crate::golden::suite::CaseEntry| entry.tensors.iter().filter(|t| t.computed).count();
    let large: Vec<_> = manifest.cases.iter().filter(|entry| left_out(entry) > 0).collect();
    assert_eq!(large.len(), 6);
    for entry in large {
        assert!(entry.id.contains("-b128-") && left_out(entry) == 5, "{}", entry.id);
        let file = crate::files::TensorFile::read(&folder().join(format!("{}.safetensors", entry.id))).unwrap();
        let names: BTreeSet<&str> = file.names().collect();
        assert!(entry.tensors.iter().all(|t| names.contains(t.name.as_str()) != t.computed), "{}", entry.id);
        for tensor in entry.tensors.iter().filter(|t| t.computed) {
            let spoiled = after(&entry.id, |found| {
                let value = &mut found.get_mut(&tensor.name).unwrap().values[[127, 3]];
                *value = if tensor.exact { 1.0 - *value } else { *value + 0.1 };
            });
            assert_eq!(spoiled.report.headline().map(|t| &t.name), Some(&tensor.name), "{}", entry.id);
        }
    }
    // A manifest that differs from what is computed is rejected, and so is one that asks for what cannot be
    // computed.
    let entry = manifest.cases.iter().find(|entry| entry.id == "loss-sh-b128-m2").unwrap();
    let says = |change: fn(&mut crate::golden::suite::TensorEntry), what: &str| {
        let mut entry = entry.clone();
        change(entry.tensors.iter_mut().find(|t| t.name == "mid.cost_im").unwrap());
        let error = Suite::open(&folder()).unwrap().load(&entry).unwrap_err().to_string();
        assert!(error.contains("loss-sh-b128-m2.safetensors") && error.contains(what), "{error}");
    };
    says(|t| t.sha256.replace_range(..1, if t.sha256.starts_with('0') { "1" } else { "0" }), "mid.cost_im: computed");
    says(|t| t.shape = vec![128, 127], "[128, 127]");
    says(|t| t.name = "mid.hinges".into(), "mid.hinges: the program loss does not compute it");
}

// --- the publishing gate -------------------------------------------------------------------------

/// Honest ways to compute that are not among the measured ones.
fn honest() -> Vec<Arithmetic> {
    let way = |order, ulp_error, form| Arithmetic { order, ulp_error, form, ..Arithmetic::PLAIN };
    let (definition, rearranged, interpolated) = (Form::Definition, Form::Rearranged, Form::Interpolated);
    vec![
        way(Order::Split(5), UlpError::None, definition),
        way(Order::Split(16), UlpError::Random(77), rearranged),
        way(Order::Fused, UlpError::Ulps(3), interpolated),
        way(Order::Backward, UlpError::Random(101), rearranged),
        way(Order::Forward, UlpError::Random(202), interpolated),
        way(Order::Split(7), UlpError::Ulps(-4), rearranged),
        way(Order::Fused, UlpError::Random(303), rearranged),
        way(Order::Backward, UlpError::Ulps(4), definition),
    ]
}

#[test]
fn no_honest_variant_is_rejected() {
    let (mut worst, mut place): (f64, _) = (0.0, String::new());
    for (profile, double) in [(Profile::F64, true), (Profile::F32, false)] {
        for way in honest() {
            for case in all() {
                let found = backend(case, way, double);
                let report = check_case(case, &found, profile).unwrap();
                let accepted = matches!(report.status, Status::Passed | Status::Remark);
                assert!(accepted, "{profile}, {way:?}: {}: {:?}", case.entry.id, report.headline());
                if case.entry.result == Expected::Valid && report.worst() > worst {
                    (worst, place) = (report.worst(), format!("{profile}, {way:?}, {}", case.entry.id));
                }
            }
        }
    }
    println!("the largest error of an honest way is {worst:.2} tolerances: {place}");
}

#[test]
fn a_wide_case_has_the_bits_of_the_specification_and_much_the_same_tolerances() {
    for id in ["gru-cell-remainder-wide", "linear-remainder", "l2norm-remainder", "scores-cosine-remainder"] {
        let case = case(id);
        let settings = case.settings().unwrap();
        let [all, few] = [false, true].map(|wide| {
            tolerance::measure(case.entry.program, &settings, &case.inputs, &[Profile::F64, F32], wide).unwrap()
        });
        let entries = all.golden.trace.entries.iter().zip(&few.golden.trace.entries);
        for ((entry, other), (all, few)) in entries.zip(all.tolerances.iter().zip(&few.tolerances)) {
            assert_eq!(entry.values, other.values, "{id}: {}", entry.name);
            for (profile, allowed) in all {
                let parts = [(few[profile].max, allowed.max), (few[profile].frobenius, allowed.frobenius)];
                for (few, allowed) in parts {
                    assert!((allowed / 3.0..=allowed).contains(&few), "{id}: {}: {few:e} of {allowed:e}", entry.name);
                }
            }
        }
    }
}

#[test]
fn honest_low_precision_is_accepted_under_its_profile() {
    let kept = |rounding| Arithmetic { operands: rounding, storage: rounding, ..Arithmetic::PLAIN };
    let operands = |operands| Arithmetic { operands, ..Arithmetic::PLAIN };
    let dither = |bits, seed| Rounding::Dithered { bits, seed };
    let all = [
        (Profile::Tf32, operands(dither(10, 91))),
        (Profile::Tf32, Arithmetic { order: Order::Split(4), ..operands(Rounding::Tf32Truncated) }),
        (Profile::Bf16, operands(dither(7, 92))),
        (Profile::Bf16, Arithmetic { form: Form::Rearranged, ..kept(dither(7, 93)) }),
        (Profile::F16, operands(dither(10, 94))),
        (Profile::F16, Arithmetic { order: Order::Backward, ..kept(dither(10, 95)) }),
        (Profile::F16, Arithmetic { order: Order::Split(4), form: Form::Interpolated, ..kept(Rounding::F16) }),
    ];
    for (profile, way) in all {
        for case in valid() {
            // Half precision has no numbers for a few norms: it refuses them.
            let found = backend(case, way, false);
            let report = check_case(case, &found, profile).unwrap();
            assert_ne!(report.status, Status::Failed, "{profile}, {way:?}: {}: {:?}", case.entry.id, report.headline());
        }
    }
}

#[test]
fn tf32_and_bf16_are_rejected_under_f32_wherever_there_is_a_product() {
    for rounding in [Rounding::Tf32, Rounding::Tf32Truncated, Rounding::Bf16] {
        let way = Arithmetic { operands: rounding, ..Arithmetic::PLAIN };
        for case in valid() {
            let order = case.entry.config.get("measure").is_some_and(|m| m != "cosine");
            let product = match case.entry.program {
                Program::GruCell
                | Program::Gru
                | Program::Linear
                | Program::Model
                | Program::Conv
                | Program::Block
                | Program::Resnet
                | Program::Vgg => true,
                Program::Scores => !order,
                _ => false,
            };
            if product {
                let report = check_case(case, &backend(case, way, false), F32).unwrap();
                assert_eq!(report.status, Status::Failed, "{rounding:?}: {} must fail", case.entry.id);
            }
        }
    }
}

#[test]
fn kinks_are_far_from_rounding_unless_flagged() {
    let flagged =
        |case: &GoldenCase| case.entry.flags.iter().any(|flag| ["tie", "kink", "pool-tie"].contains(&flag.as_str()));
    let mut seen = BTreeMap::<&str, usize>::new();
    for case in valid().filter(|case| !flagged(case)) {
        let names = ["out.scores", "mid.cost_s"];
        // What a ReLU or a pool of a block or a network is applied to.
        let layers = ["bn1", "bn2", "sum", "relu1"];
        let before = |t: &&crate::golden::suite::TensorEntry| match (case.entry.program, t.name.strip_prefix("mid.")) {
            (Program::Block | Program::Resnet, Some(name)) => layers.iter().any(|layer| name.ends_with(layer)),
            (Program::Vgg, Some(_)) => true,
            _ => names.contains(&t.name.as_str()),
        };
        let before_kinks = case.entry.tensors.iter().filter(before);
        let error = |t: &crate::golden::suite::TensorEntry| {
            t.tolerance[&F32].max / crate::golden::tolerance::SAFETY * t.scale.unwrap()
        };
        let error = before_kinks.map(error).fold(0.0, f64::max);
        let kink = case.entry.margins.kink();
        if kink.is_finite() {
            *seen.entry(case.entry.program.name()).or_default() += 1;
            assert!(kink > 0.0, "{}: at a kink", case.entry.id);
        }
        assert!(kink >= 100.0 * error, "{}: {kink:e} against an error of {error:e}", case.entry.id);
    }
    assert_eq!(
        seen.keys().copied().collect::<Vec<_>>(),
        ["block", "loss", "max_pool", "model", "resnet", "scores", "vgg"]
    );
}

#[test]
fn every_known_mistake_is_caught_clearly_by_two_cases() {
    let mut caught: BTreeMap<&str, usize> = BTreeMap::new();
    for case in all() {
        for id in &case.entry.kills {
            *caught.entry(id).or_default() += 1;
        }
    }
    let few: Vec<_> = mistakes::ALL.iter().filter(|d| caught.get(d.id).is_none_or(|&n| n < 2)).map(|d| d.id).collect();
    assert!(few.is_empty(), "caught at ten tolerances by fewer than two cases: {few:?}");
}

// --- the mutation bench --------------------------------------------------------------------------

/// The suite that catches a mistake.
fn catching(mistake: &Mistake) -> &'static [GoldenCase] {
    let catches = |case: &GoldenCase| case.entry.kills.iter().any(|id| id == mistake.id);
    if pictures().iter().any(catches) { pictures() } else { suite() }
}

/// What happened to one planted mistake.
struct Outcome {
    mistake: &'static Mistake,
    rejected_by: usize,
    named: Option<Vec<String>>,
    reach: Option<Reach>,
    unexplained: Vec<String>,
    others: usize,
}

fn plant(mistake: &'static Mistake) -> Outcome {
    let planted = [mistake];
    let cases = catching(mistake).iter();
    let checked: Vec<Checked> = cases.map(|case| check(case, wrong(case, &planted), F32)).collect();
    let d = diagnose(&checked, F32, false);
    Outcome {
        mistake,
        rejected_by: checked.iter().filter(|c| c.report.status == Status::Failed).count(),
        named: d.named.first().map(|d| d.mistakes.clone()),
        reach: d.named.first().map(|d| d.explains),
        unexplained: d.unexplained.clone(),
        others: d.named.len().saturating_sub(1),
    }
}

#[test]
fn mutation_bench_every_mistake_is_rejected_and_nearly_all_are_named() {
    let outcomes: Vec<Outcome> = mistakes::ALL.par_iter().map(plant).collect();
    let (mut right, mut wrong) = (0, Vec::new());
    for o in &outcomes {
        let id = o.mistake.id;
        assert!(o.rejected_by >= 2, "{id} is rejected by {} cases", o.rejected_by);
        match &o.named {
            Some(names) if names.iter().any(|name| name == id) => {
                right += usize::from(names.len() == 1 && o.others == 0);
                if names.len() > 1 || o.others > 0 || !o.unexplained.is_empty() {
                    println!(
                        "{id}: named as {names:?} ({:?}), {} others, unexplained: {:?}",
                        o.reach, o.others, o.unexplained
                    );
                }
            }
            Some(names) => wrong.push(format!("{id} named as {names:?} {:?}", o.reach)),
            None => println!("{id}: not named, rejected by {}", o.rejected_by),
        }
    }
    println!(
        "{} mistakes, all rejected by at least two cases, {right} named alone, {} wrongly",
        outcomes.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(outcomes.len() >= 40 && right * 10 >= outcomes.len() * 9, "{right} of {} named", outcomes.len());
}

#[test]
fn mistakes_are_named_from_outputs_and_parameter_gradients_alone() {
    // What most backends write: no mid.*, no grad.mid.*.
    let partial = |found: FoundTensors| -> FoundTensors {
        found.into_iter().filter(|(name, _)| !name.starts_with("mid.") && !name.starts_with("grad.mid.")).collect()
    };
    // Both suites are read on all cores, before these are taken.
    let _ = (suite(), pictures());
    // One in five, but for one that shows in `mid.active_*` alone.
    let sample: Vec<&'static Mistake> =
        mistakes::ALL.iter().step_by(5).filter(|mistake| mistake.id != "kink-active").collect();
    let results: Vec<(&Mistake, usize, Vec<String>)> = sample
        .par_iter()
        .map(|&mistake| {
            let planted = [mistake];
            let found = |case: &GoldenCase| partial(wrong(case, &planted));
            let cases = catching(mistake).iter();
            let checked: Vec<Checked> = cases.map(|case| check(case, found(case), F32)).collect();
            let rejected = checked.iter().filter(|c| c.report.status == Status::Failed).count();
            (mistake, rejected, diagnose(&checked, F32, false).named.first().map_or(Vec::new(), |d| d.mistakes.clone()))
        })
        .collect();
    let mut alone = 0;
    for (mistake, rejected, names) in &results {
        let id = mistake.id;
        assert!(*rejected >= 2, "{id} is rejected by {rejected}");
        assert!(names.is_empty() || names.iter().any(|name| name == id), "{id} named as {names:?}");
        alone += usize::from(names.len() == 1);
    }
    assert!(alone * 10 >= results.len() * 9, "{alone} of {} named alone", results.len());
}

#[test]
fn two_mistakes_at_once_are_both_named() {
    let planted = [named("update-complement"), named("mean-over-batch")];
    let checked: Vec<Checked> = suite().iter().map(|case| check(case, wrong(case, &planted), F32)).collect();
    let d = diagnose(&checked, F32, false);
    let named: BTreeSet<&str> = d.named.iter().flat_map(|d| d.mistakes.iter().map(String::as_str)).collect();
    assert!(named.is_superset(&BTreeSet::from(["update-complement", "mean-over-batch"])), "{named:?}");
    assert!(!d.together.is_empty(), "whole models hold both");
}

#[test]
fn what_is_in_no_list_is_rejected_and_not_named() {
    // A mistake of no list: the update gate is applied twice.
    let mut checked = Vec::new();
    for case in suite().iter().filter(|case| case.entry.program == Program::GruCell) {
        let mut found = right(case);
        let z = found["mid.z"].values.clone();
        let (n, h) = (found["mid.n"].values.clone(), &case.inputs["in.h"]);
        let squared = &z * &z;
        found.get_mut("out.h_next").unwrap().values = (1.0 - &squared) * n + squared * h;
        checked.push(check(case, found, F32));
    }
    let d = diagnose(&checked, F32, false);
    assert!(checked.iter().all(|c| c.report.status == Status::Failed));
    assert!(d.named.is_empty(), "{:?}", d.named);
    assert_eq!(d.unexplained.len(), checked.len());
    assert_eq!(d.within, None);
}

#[test]
fn a_lower_precision_is_told() {
    let way = Arithmetic { operands: Rounding::Tf32, ..Arithmetic::PLAIN };
    let of_cells = suite().iter().filter(|case| case.entry.program == Program::GruCell);
    let checked: Vec<Checked> = of_cells.map(|case| check(case, backend(case, way, false), F32)).collect();
    let d = diagnose(&checked, F32, false);
    assert!(d.named.is_empty(), "{:?}", d.named);
    assert_eq!(d.within, Some(Profile::Tf32));
}

// --- the comparator ------------------------------------------------------------------------------

/// The outcome after a change to a correct backend's tensors.
fn after(id: &str, spoil: impl FnOnce(&mut FoundTensors)) -> Checked {
    let mut found = right(case(id));
    spoil(&mut found);
    check(case(id), found, F32)
}

#[test]
fn the_comparator_rejects_what_it_must() {
    let id = "model-vsepp";
    assert_eq!(after(id, |_| ()).report.status, Status::Passed);
    let entry = |name: &str| case(id).entry.tensors.iter().find(|t| t.name == name).unwrap();
    let fails = |name: &str, spoil: &dyn Fn(&mut Found), says: &str| {
        let checked = after(id, |found| spoil(found.get_mut(name).unwrap()));
        let headline = checked.report.headline().unwrap_or_else(|| panic!("{name}: accepted"));
        assert_eq!(headline.name, name);
        let problem = headline.problem.clone().unwrap();
        assert!(problem.contains(says), "{name}: {problem}");
    };
    for name in ["out.scores", "grad.txt_enc.rnn.weight_hh_l0", "mid.l0.c", "opt.param.img_enc.fc.weight"] {
        let allowed = entry(name).tolerance[&F32].max * entry(name).scale.unwrap();
        let expected = case(id).expected[name].clone();
        let place = expected.iter().position(|&x| x != 0.0).unwrap();
        fails(
            name,
            &|f| f.values.as_slice_mut().unwrap()[place] = expected.iter().nth(place).unwrap() + 1.5 * allowed,
            "1 of",
        );
        let within = after(id, |f| {
            let x = expected.iter().nth(place).unwrap() + 0.5 * allowed;
            f.get_mut(name).unwrap().values.as_slice_mut().unwrap()[place] = x;
        });
        assert_eq!(within.report.status, Status::Passed, "{name}: half a tolerance is accepted");
        fails(name, &|f| f.values.as_slice_mut().unwrap()[place] = f64::NAN, "NaN");
        fails(name, &|f| f.values.fill(0.0), "every value is 0");
        fails(name, &|f| f.element = ElementType::F16, "found F16");
        fails(name, &|f| f.element = ElementType::I64, "found I64");
        fails(
            name,
            &|f| f.values = f.values.clone().into_shape_with_order(vec![f.values.len()]).unwrap(),
            "expected shape",
        );
    }
    // A permuted gate.
    fails("mid.l0.r", &|f| f.values = case(id).expected["mid.l0.z"].clone(), "are off");
    fails("mid.hardest_s", &|f| f.values[[0]] = 4.0 - f.values[[0]], "whole numbers differ");
    // Half of it not written.
    fails("grad.img_enc.fc.weight", &|f| f.values.slice_mut(ndarray::s![2.., ..]).fill(0.0), "values");
    // Close everywhere, but slightly off everywhere: the norm of the error sees it.
    let tolerance = entry("grad.img_enc.fc.weight").tolerance[&F32];
    if tolerance.frobenius < 0.9 * tolerance.max {
        fails("grad.img_enc.fc.weight", &|f| f.values.mapv_inplace(|x| x * (1.0 + 2.0 * tolerance.frobenius)), "off");
    }
}

/// What a backend writes: real numbers as `f32`, all others as integers.
#[allow(clippy::cast_possible_truncation)] // they were such numbers before
fn written(tensors: &FoundTensors) -> crate::files::TensorWriter {
    let mut writer = crate::files::TensorWriter::default();
    for (name, found) in tensors {
        if found.element == ElementType::F32 {
            writer.add(name.as_str(), &found.values.mapv(|x| x as f32).view());
        } else {
            let whole: Vec<i64> = found.values.iter().map(|&x| x as i64).collect();
            writer.add_integers(name.as_str(), found.values.shape(), &whole).unwrap();
        }
    }
    writer
}

#[test]
fn what_is_missing_is_said_and_under_complete_it_fails() {
    let checked = after("model-vsepp", |found| {
        found.remove("out.scores");
    });
    assert_eq!(checked.report.status, Status::Passed);
    assert_eq!(checked.report.count(Status::Missing), 1);
    let nothing = after("model-vsepp", FoundTensors::clear);
    assert_eq!(nothing.report.status, Status::Missing, "nothing compared is not passed");
    let out = tempfile::tempdir().unwrap();
    let suite = Suite::open(&folder()).unwrap();
    let check = |complete| {
        let checking = crate::golden::check::CheckOptions {
            cases: vec!["model-vsepp".into(), "rejected-zero-row".into()],
            complete,
            diagnose_large: false,
        };
        crate::golden::check::check_against(&suite, out.path(), F32, &checking, None, |_| ()).unwrap()
    };
    assert!(!check(false).passed, "an empty folder is no evidence");
    let write = |id: &str, tensors: &FoundTensors| {
        written(tensors).write_npz(&out.path().join(format!("{id}.npz"))).unwrap();
    };
    write("rejected-zero-row", &refusal());
    assert!(!check(false).passed, "refusing what must be refused is no evidence by itself");
    let mut found = right(case("model-vsepp"));
    found.insert("out.scroes".into(), found["out.scores"].clone());
    found.remove("out.scores");
    write("model-vsepp", &found);
    let partial = check(false);
    assert!(partial.passed && partial.counts.tensors_missing == 1);
    assert_eq!(partial.reports[0].unknown, ["out.scroes"]);
    assert!(!check(true).passed);
    std::fs::write(out.path().join("model-vsepp.npz"), b"PK, but no more").unwrap();
    let broken = check(false);
    assert!(!broken.passed && broken.first.unwrap().problem.unwrap().contains("model-vsepp.npz"));
}

#[test]
fn what_must_be_refused_is_refused_here_and_demanded_of_others() {
    let mut refused = 0;
    for golden in all().filter(|case| case.entry.result == Expected::Invalid) {
        let (settings, plain) = (golden.settings().unwrap(), Plain::new(Arithmetic::PLAIN));
        let run = golden.entry.program.run::<f64>(&settings, &golden.inputs, &plain);
        assert!(run.is_err(), "{}", golden.entry.id);
        assert_eq!(check(golden, refusal(), F32).report.status, Status::Passed);
        let accepted = FoundTensors::from([("out.loss".to_owned(), refusal().remove(REJECTED).unwrap())]);
        assert_eq!(check(golden, accepted, F32).report.status, Status::Failed);
        refused += 1;
    }
    assert!(refused >= 15);
    assert_eq!(check(case("model-vsepp"), refusal(), F32).report.status, Status::Failed, "a valid input");
    assert_eq!(check(case("l2norm-extreme-small"), refusal(), F32).report.status, Status::Remark);
}

#[test]
fn what_a_backend_cannot_be_handed_is_no_failure() {
    let id = "rejected-scores-not-square";
    let says = |name: &str| FoundTensors::from([(name.to_owned(), refusal().remove(REJECTED).unwrap())]);
    // Nothing written, or an empty file: not judged. If the backend says why: a remark.
    assert_eq!(check(case(id), FoundTensors::new(), F32).report.status, Status::Missing);
    assert_eq!(check(case(id), says("in.scores"), F32).report.status, Status::Missing, "an input is no result");
    let unsupported = check(case(id), says(UNSUPPORTED), F32).report;
    assert_eq!(unsupported.status, Status::Remark);
    assert!(unsupported.problem.unwrap().contains("cannot be handed"));
    // A result counts as an acceptance, whatever else the backend says.
    let mut both = says("out.loss");
    assert_eq!(check(case(id), both.clone(), F32).report.status, Status::Failed);
    both.extend(says(UNSUPPORTED));
    assert_eq!(check(case(id), both, F32).report.status, Status::Failed);
    // A valid input that the backend cannot be handed counts as not written.
    let valid = check(case("loss-mh-b3-m0.2"), says(UNSUPPORTED), F32).report;
    assert_eq!((valid.status, valid.unknown.len()), (Status::Missing, 0));

    // A backend for two programs: all that it writes is right, and it says what it cannot be handed.
    let out = tempfile::tempdir().unwrap();
    let suite = Suite::open(&folder()).unwrap();
    let write = |id: &str, tensors: &FoundTensors| {
        written(tensors).write_safetensors(&out.path().join(format!("{id}.safetensors")), None).unwrap();
    };
    for id in ["gru-cell-smallest", "loss-mh-b3-m0.2"] {
        write(id, &right(case(id)));
    }
    let cases = ["gru-cell-smallest", "loss-mh-b3-m0.2", id].map(String::from).to_vec();
    let check = |complete| {
        let checking = crate::golden::check::CheckOptions { cases: cases.clone(), complete, ..Default::default() };
        crate::golden::check::check_against(&suite, out.path(), F32, &checking, None, |_| ()).unwrap()
    };
    assert!(check(false).passed && !check(true).passed, "under --complete it must be said");
    write(id, &says(UNSUPPORTED));
    for complete in [false, true] {
        let checkup = check(complete);
        assert!(checkup.passed && checkup.counts.remarks == 1 && checkup.counts.passed == 2, "{complete}");
    }
    // For a valid case this does not get around --complete.
    write("loss-mh-b3-m0.2", &says(UNSUPPORTED));
    assert!(check(false).passed && !check(true).passed);
}

#[test]
fn other_choices_among_ties_are_accepted_with_a_remark() {
    for id in ["kink-mh-tie-row", "kink-mh-tie-column", "kink-mh-tie-both", "kink-mh-collapse", "kink-hardest-tie"] {
        let choices = crate::golden::ties::Choices::of(case(id), F32).unwrap().expect("a tie");
        let usual = choices.usual();
        for (k, gradient) in usual.iter().enumerate() {
            let checked = after(id, |found| {
                found.retain(|name, _| !name.starts_with("mid.hardest") && !name.starts_with("mid.active"));
                found.get_mut("grad.in.scores").unwrap().values = gradient.clone().into_dyn();
            });
            let expected = if k == 0 { Status::Passed } else { Status::Remark };
            assert_eq!(checked.report.status, expected, "{id}, choice {k}");
        }
        let twice = after(id, |found| found.get_mut("grad.in.scores").unwrap().values *= 2.0);
        assert_eq!(twice.report.status, Status::Failed, "{id}");
    }
    // A kink is no tie: there is one right gradient.
    let active = [named("kink-active")];
    let found = wrong(case("kink-mh-kink"), &active);
    assert_eq!(check(case("kink-mh-kink"), found, F32).report.status, Status::Failed);
}

// --- against the model of this crate ---------------------------------------------------------------

#[test]
fn the_plain_computation_and_the_model_on_the_tree_agree() {
    use crate::linalg::Write;
    use crate::model::{Architecture, Batch, Objective, Parameters, Pass, Vse};
    use crate::nn::{Mode, Module};
    use crate::optim::{Adam, clip_coefficient, global_norm};
    let mut worst: f64 = 0.0;
    for golden in valid().filter(|case| case.entry.program == Program::Model) {
        let s = golden.settings().unwrap();
        let shape = |name: &str, axis: usize| golden.inputs[name].shape()[axis];
        let architecture = Architecture {
            encoder: None,
            vocab_size: shape("param.txt_enc.embed.weight", 0),
            img_dim: shape("in.images", 1),
            word_dim: shape("param.txt_enc.embed.weight", 1),
            hidden_size: shape("param.txt_enc.rnn.weight_hh_l0", 1),
            embed_size: shape("param.img_enc.fc.weight", 0),
            num_layers: s.num_layers,
            caption_projection: s.caption_projection,
            measure: s.measure,
            use_abs: s.use_abs,
            no_imgnorm: s.no_imgnorm,
        };
        let mut parameters = Parameters::<f64>::zeros(&architecture);
        parameters.fill(|name, _| Ok(golden.inputs[&format!("param.{name}")].clone())).unwrap();
        let mut model = Vse { architecture, parameters };
        let lengths = golden.inputs["in.lengths"].mapv(|x| x as usize);
        let captions = golden.inputs["in.captions"].outer_iter().zip(&lengths);
        let captions: Vec<Vec<u32>> =
            captions.map(|(row, &length)| row.iter().take(length).map(|&id| id as u32).collect()).collect();
        let image_ids = match golden.inputs.get("in.image_ids") {
            Some(ids) => ids.iter().map(|&id| id as usize).collect(),
            None => (0..captions.len()).collect(),
        };
        let images: ndarray::Array2<f64> = golden.inputs["in.images"].clone().into_dimensionality().unwrap();
        let batch = Batch { images: images.into(), captions, image_ids };
        let objective = Objective { mask_same_image: s.mask_same_image, ..Objective::new(s.hinge()) };
        let mut see = |name: &str, found: ndarray::ArrayViewD<'_, f64>| {
            let expected = &golden.expected[name];
            assert_eq!(expected.shape(), found.shape(), "{}: {name}", golden.entry.id);
            let scale = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs())).max(f64::MIN_POSITIVE);
            let error = expected.iter().zip(&found).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())) / scale;
            // As the oracle's bound, one more digit for a hundred steps.
            assert!(error <= if s.steps > 25 { 1e-11 } else { 1e-12 }, "{}: {name}: {error:e}", golden.entry.id);
            worst = worst.max(error);
        };
        let mut adam = Adam::new(&model.parameters);
        let (mut pass, mut gradient) = (Pass::default(), Parameters::zeros(&architecture));
        let mut d_images = ndarray::Array2::zeros((0, 0));
        for step in 0..s.steps.max(1) {
            model.forward(&batch, &objective, Mode::Train, &mut pass).unwrap();
            model.backward(&batch, &mut pass, Write::Replace, &mut gradient, Some(&mut d_images)).unwrap();
            if step == 0 {
                see("out.image_embedding", pass.image.head.y().into_dyn());
                see("out.caption_embedding", pass.text.head.y().into_dyn());
                see("out.scores", pass.scores.view().into_dyn());
                see("out.loss", ndarray::arr1(&[pass.terms.loss]).into_dyn().view());
                see("grad.out.scores", pass.d_scores.view().into_dyn());
                see("grad.in.images", d_images.view().into_dyn());
                gradient.each(|path, _, tensor| see(&format!("grad.{path}"), tensor));
            }
            if s.steps > 0 {
                let clip = clip_coefficient(global_norm(&gradient), s.grad_clip);
                adam.update(&mut model.parameters, &gradient, s.learning_rate, clip).unwrap();
            }
        }
        if s.steps > 0 {
            model.parameters.each(|path, _, tensor| see(&format!("opt.param.{path}"), tensor));
            for moments in &adam.moments {
                see(&format!("opt.m.{}", moments.name), moments.m.view());
                see(&format!("opt.v.{}", moments.name), moments.v.view());
            }
        }
    }
    println!("largest difference {worst:.1e}");
}

/// The expected values are computed with [`crate::spec`], tolerances with [`crate::golden::plain`]. In exact order the
/// two are the same function.
#[test]
fn the_specification_and_the_plain_computation_give_the_same_bits() {
    let (mut tensors, mut refused) = (0, 0);
    for golden in all() {
        let (id, program, settings) = (&golden.entry.id, golden.entry.program, golden.settings().unwrap());
        let plain = program.run::<f64>(&settings, &golden.inputs, &Plain::new(Arithmetic::PLAIN));
        match (program.specified(&settings, &golden.inputs), plain) {
            (Ok(specified), Ok(plain)) => {
                assert_eq!(specified.margins, plain.margins, "{id}");
                assert_eq!(specified.trace.entries.len(), plain.trace.entries.len(), "{id}");
                for (s, p) in specified.trace.entries.iter().zip(&plain.trace.entries) {
                    assert_eq!((&s.name, s.kind, s.values.shape()), (&p.name, p.kind, p.values.shape()), "{id}");
                    let same = s.values.iter().zip(&p.values).all(|(s, p)| s.to_bits() == p.to_bits());
                    assert!(same, "{id}: {}", s.name);
                    tensors += 1;
                }
            }
            (Err(specified), Err(plain)) => {
                assert_eq!(specified.to_string(), plain.to_string(), "{id}");
                refused += 1;
            }
            (specified, plain) => panic!("{id}: {:?} and {:?}", specified.is_ok(), plain.is_ok()),
        }
    }
    assert!(tensors > 3000 && refused > 5, "{tensors} tensors, {refused} refused");
}

/// The backward pass that is derived from a forward pass with a mistake is its derivative.
#[test]
fn planted_gradients_are_the_derivatives_of_planted_outputs() {
    // Central differences with h: an error of h² f‴ and of u f / h, near 1e-9 at h = 1e-5.
    const H: f64 = 1e-5;
    const BOUND: f64 = 1e-6;
    let cases = [
        ("gru-cell-e2-h5", "out.h_next", "in.d_h_next", &["in.x", "in.h"][..]),
        ("gru-cell-input-square-h2", "out.h_next", "in.d_h_next", &["in.x", "in.h"]),
        ("layout-h3", "out.h_next", "in.d_h_next", &["in.x", "in.h"]),
        ("gru-sequence-two-layers", "out.last", "in.d_last", &["in.x", "in.h0"]),
        ("gru-sequence-square", "out.last", "in.d_last", &["in.x"]),
        ("linear-small", "out.y", "in.d_y", &["in.x"]),
        ("l2norm-plain", "out.y", "in.d_y", &["in.x"]),
        ("l2norm-square", "out.y", "in.d_y", &["in.x"]),
        ("scores-cosine-square", "out.scores", "in.d_scores", &["in.image_embedding", "in.caption_embedding"]),
        ("scores-order-square", "out.scores", "in.d_scores", &["in.image_embedding", "in.caption_embedding"]),
        ("scores-order-squared-square", "out.scores", "in.d_scores", &["in.image_embedding", "in.caption_embedding"]),
        ("loss-sh-b3-m0.2", "out.loss", "", &["in.scores"]),
        ("loss-mh-b7-m0.2", "out.loss", "", &["in.scores"]),
        ("loss-sh-masked-pair", "out.loss", "", &["in.scores"]),
        ("loss-mh-masked-pair", "out.loss", "", &["in.scores"]),
        ("loss-hardest-2-masked", "out.loss", "", &["in.scores"]),
        ("loss-log-sum-exp-masked", "out.loss", "", &["in.scores"]),
        ("loss-semi-hard-masked", "out.loss", "", &["in.scores"]),
        ("conv-smallest", "out.y", "in.d_y", &["in.x"]),
        ("conv-all-equal", "out.y", "in.d_y", &["in.x"]),
        ("conv-tall-kernel-padded", "out.y", "in.d_y", &["in.x"]),
        ("batch-norm-training-one-picture", "out.y", "in.d_y", &["in.x"]),
        ("batch-norm-evaluation-one-picture", "out.y", "in.d_y", &["in.x"]),
        ("max-pool-negative", "out.y", "in.d_y", &["in.x"]),
        ("avg-pool-to-3", "out.y", "in.d_y", &["in.x"]),
        ("block-basic-smallest", "out.y", "in.d_y", &["in.x"]),
        ("resnet-smallest", "out.phi", "in.d_phi", &["in.x"]),
    ];
    // The gradient of these mistakes is not a derivative: it is cut, or there is none where the place is fixed.
    let apart = [named("kink-active"), named("tie-all")];
    let (mut checked, mut wrong) = (BTreeSet::new(), BTreeMap::new());
    for (id, output, upstream, wanted) in cases {
        let golden = case(id);
        let run = |inputs: &crate::golden::program::Inputs, planted: &'static Mistake| -> Option<Values> {
            let golden = GoldenCase { inputs: inputs.clone(), ..golden.clone() };
            Planting::new(&golden).unwrap().values(&[planted], Way { autograd: true, single: false, until: Until::End })
        };
        for mistake in mistakes::ALL.iter().filter(|mistake| !apart.contains(mistake)) {
            // What does not change the output does not change the gradient.
            let planted = run(&golden.inputs, mistake).filter(|planted| planted.contains_key(output));
            let Some(planted) = planted else { continue };
            let value = |inputs: &crate::golden::program::Inputs| {
                let planted = run(inputs, mistake).unwrap();
                let out = &planted[output];
                match golden.inputs.get(upstream) {
                    None => out.sum(),
                    Some(d) => out.iter().zip(d).map(|(y, d)| y * d).fold(0.0, |sum, x| sum + x),
                }
            };
            for name in wanted {
                let gradient = &planted[&format!("grad.{name}")];
                let scale = gradient.iter().fold(1e-3, |m: f64, x| m.max(x.abs()));
                for flat in 0..gradient.len() {
                    let shifted = |by: f64| {
                        let mut inputs = golden.inputs.clone();
                        inputs.get_mut(*name).unwrap().as_slice_mut().unwrap()[flat] += by;
                        value(&inputs)
                    };
                    if golden.inputs[*name].iter().nth(flat).unwrap().is_nan() {
                        continue;
                    }
                    let difference = (shifted(H) - shifted(-H)) / (2.0 * H);
                    let found = gradient.iter().nth(flat).unwrap();
                    let error = (difference - found).abs() / scale;
                    let says =
                        format!("{id}: {}: grad.{name}[{flat}]: {found:e}, by differences {difference:e}", mistake.id);
                    if !(error <= BOUND || difference.is_nan()) {
                        wrong.entry((id, mistake.id)).or_insert(says);
                    }
                }
            }
            checked.insert(mistake.id);
        }
    }
    println!("{} mistakes: {checked:?}", checked.len());
    assert!(wrong.is_empty(), "{:#?}", wrong.values());
    assert!(checked.len() >= 60, "{checked:?}");
}

#[test]
fn a_mistake_that_explains_a_minority_is_a_likeness_and_no_diagnosis() {
    let planted = [named("mean-over-batch")];
    let mut checked = Vec::new();
    for case in suite().iter().filter(|case| case.entry.family == "loss" && !case.entry.id.contains("-b1-")) {
        // The known mistake for two pairs, an unknown one elsewhere.
        let known = case.entry.id.contains("-b2-");
        let mut found = if known { wrong(case, &planted) } else { right(case) };
        if !known {
            found.get_mut("out.loss").unwrap().values *= 1.37;
        }
        checked.push(check(case, found, F32));
    }
    let d = diagnose(&checked, F32, false);
    assert!(d.named.is_empty(), "{:?}", d.named);
    // With two pairs, half of the loss is the same.
    assert!(d.similar.iter().any(|similar| similar.mistakes.contains(&"mean-over-batch".into())), "{:?}", d.similar);
    assert!(d.unexplained.len() > d.similar[0].cases.len());
}

/// Draws what to damage, and how.
struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        below(&mut self.0, limit.max(1))
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

fn right_values(case: &GoldenCase) -> FoundTensors {
    let types = |name: &str| case.entry.tensors.iter().find(|tensor| tensor.name == name).unwrap().exact;
    let found = |(name, values): (&String, &ArrayD<f64>)| {
        let kind = if types(name) { Kind::Mask } else { Kind::Real };
        (name.clone(), Found::computed(kind, values.clone()))
    };
    case.expected.iter().map(found).collect()
}

/// A manifest and a file can agree with each other, so that every checksum is right, and still be
/// nonsense.
#[test]
fn cases_that_make_no_sense() {
    let mut kinds = Vec::new();
    let mut cases: Vec<&GoldenCase> = Vec::new();
    for case in all() {
        // One case of each program and of each special kind, if it is small.
        let kind = (case.entry.program.name(), &case.entry.flags, case.entry.config.get("num_layers"));
        if case.inputs.values().map(ArrayD::len).sum::<usize>() < 600 && !kinds.contains(&kind) {
            kinds.push(kind);
            cases.push(case);
        }
    }
    assert!(cases.len() > 10, "{}", cases.len());
    let mut dice = Dice(stream(17, "nonsense"));
    let profiles = [Profile::F64, Profile::F32, Profile::Bf16];
    let mut refused = 0;
    for n in 0..1500 {
        let mut case = cases[n % cases.len()].clone();
        let mut found = right_values(&case);
        for _ in 0..=dice.below(3) {
            nonsense(&mut case, &mut found, &mut dice);
        }
        let profile = dice.of(&profiles);
        match check_case(&case, &found, profile) {
            Err(_) => refused += 1,
            // The diagnosis is slow.
            Ok(report) if n % 10 == 0 => {
                let checked = [Checked { golden: case, found, report }];
                let _ = diagnose(&checked, profile, false);
            }
            Ok(_) => {}
        }
    }
    assert!(refused > 0, "no nonsense was met");
}

fn nonsense(case: &mut GoldenCase, found: &mut FoundTensors, dice: &mut Dice) {
    let shapes: [&[usize]; 8] = [&[], &[0], &[1], &[3], &[2, 3], &[3, 2], &[0, 4], &[2, 2, 2]];
    let numbers = [0.0, 1.0, -1.0, 0.5, 3.0, 1e18, f64::NAN, f64::INFINITY];
    let inputs: Vec<String> = case.inputs.keys().cloned().collect();
    let expected: Vec<String> = case.expected.keys().cloned().collect();
    let value = dice.of(&numbers);
    let array = |dice: &mut Dice| ArrayD::from_elem(IxDyn(dice.of(&shapes)), value);
    match dice.below(10) {
        0..=2 if inputs.is_empty() => {}
        0 => {
            let name = inputs[dice.below(inputs.len())].clone();
            case.inputs.insert(name, array(dice));
        }
        1 => drop(case.inputs.remove(&inputs[dice.below(inputs.len())])),
        2 => {
            let name = inputs[dice.below(inputs.len())].clone();
            let at = dice.below(case.inputs[&name].len());
            if let Some(x) = case.inputs.get_mut(&name).and_then(|tensor| tensor.iter_mut().nth(at)) {
                *x = value;
            }
        }
        3 if !expected.is_empty() => {
            // The file agrees with its manifest.
            let name = expected[dice.below(expected.len())].clone();
            let other = array(dice);
            if let Some(tensor) = case.entry.tensors.iter_mut().find(|tensor| tensor.name == name) {
                tensor.shape = other.shape().to_vec();
            }
            if dice.below(2) == 0 {
                found.insert(name.clone(), Found::computed(Kind::Real, other.clone()));
            }
            case.expected.insert(name, other);
        }
        4 if !expected.is_empty() => {
            let name = expected[dice.below(expected.len())].clone();
            case.expected.remove(&name);
            case.entry.tensors.retain(|tensor| tensor.name != name);
        }
        5 => {
            for tensor in &mut case.entry.tensors {
                (tensor.padded, tensor.rows) = (dice.below(2) == 0, dice.below(2) == 0);
            }
        }
        6 => case.entry.flags = vec![dice.of(&["tie", "kink", "x"]).into()],
        7 => {
            let key = dice.of(&[
                "num_layers",
                "steps",
                "margin",
                "mask_same_image",
                "max_violation",
                "hardest",
                "temperature",
                "stride",
                "padding",
                "kernel",
                "size",
            ]);
            let number = serde_json::json!(dice.of(&[0u64, 1, 2, 7, u64::MAX]));
            let value = if key.starts_with('m') && key != "margin" { (dice.below(2) == 0).into() } else { number };
            case.entry.config.insert(key.into(), value);
        }
        8 => case.entry.margins.hinge = Some(0.0),
        _ => {
            let names: Vec<String> = found.keys().cloned().collect();
            if let Some(tensor) = names.get(dice.below(names.len())).and_then(|name| found.get_mut(name)) {
                tensor.values = array(dice);
            }
        }
    }
}
