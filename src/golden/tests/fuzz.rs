//! Random cases: honest backends pass them, a mistake is found and its case made as small as it can be.

use std::path::Path;

use super::{backend, check};
use crate::error::Result;
use crate::golden::Arithmetic;
use crate::golden::arithmetic::{Form, Order, UlpError};
use crate::golden::cases::random::{PROGRAMS, random};
use crate::golden::check::missing;
use crate::golden::compare::FoundTensors;
use crate::golden::fuzz::{FuzzOptions, Fuzzed, Ran, fuzz, fuzz_with};
use crate::golden::outputs::Outputs;
use crate::golden::program::Program;
use crate::golden::suite::{GoldenCase, Suite};
use crate::golden::tolerance::Profile;

fn options(seeds: u64, programs: &[&str], profile: Profile, out: &Path) -> FuzzOptions {
    let programs = programs.iter().map(|&name| name.into()).collect();
    FuzzOptions { seeds, first: 0, programs, profile, out: out.join("smallest") }
}

fn loaded(suite: &Suite) -> Vec<GoldenCase> {
    suite.manifest.cases.iter().map(|entry| suite.load(entry).unwrap()).collect()
}

/// Random cases on a backend in `f32` whose values are changed.
fn fuzzed(program: &str, out: &Path, change: impl Fn(&GoldenCase, &mut FoundTensors)) -> Fuzzed {
    let found = fuzz_with(&options(100, &[program], Profile::F32, out), |suite| -> Result<Ran> {
        let checked = loaded(suite).into_iter().map(|case| {
            let mut found = backend(&case, Arithmetic::PLAIN, false);
            change(&case, &mut found);
            check(&case, found, Profile::F32)
        });
        Ok(Ran { checked: checked.collect(), ended: None, late: false })
    });
    found.unwrap()
}

/// The only case in the folder of the smallest one.
fn smallest(out: &Path) -> GoldenCase {
    let mut all = loaded(&Suite::open(&out.join("smallest")).unwrap());
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn honest_backends_pass() {
    let out = tempfile::tempdir().unwrap();
    let way = |order, ulps, form| Arithmetic { order, ulp_error: UlpError::Random(ulps), form, ..Arithmetic::PLAIN };
    for (way, double) in [
        (way(Order::Split(5), 91, Form::Definition), false),
        (way(Order::Fused, 92, Form::Rearranged), false),
        (way(Order::Split(6), 93, Form::Interpolated), true),
    ] {
        let profile = if double { Profile::F64 } else { Profile::F32 };
        let found = fuzz_with(&options(8, &[], profile, out.path()), |suite| -> Result<Ran> {
            let cases = loaded(suite);
            let found = |case: &GoldenCase| check(case, backend(case, way, double), profile);
            Ok(Ran { checked: cases.iter().map(found).collect(), ended: None, late: false })
        });
        let found = found.unwrap();
        assert!(found.passed && found.to_string() == "PASSED: 72 random cases\n", "{found}");
    }
}

#[test]
fn a_mistake_beyond_a_tile_is_found_and_made_small() {
    let out = tempfile::tempdir().unwrap();
    let found = fuzzed("gru_cell", out.path(), |_, found| {
        let h = &mut found.get_mut("out.h_next").unwrap().values;
        h.indexed_iter_mut().filter(|(at, _)| at[1] >= 16).for_each(|(_, x)| *x += 1.0);
    });
    assert!(!found.passed);
    let text = found.to_string();
    assert!(text.contains("B = 1, E = 1, H = 17") && text.contains("out.h_next in fuzz-gru-cell-"), "{text}");
    let case = smallest(out.path());
    assert_eq!(case.inputs["in.h"].shape(), [1, 17]);
    assert!(case.inputs.values().all(|tensor| tensor.iter().all(|x| (4.0 * x).fract() == 0.0)), "round numbers");
}

#[test]
fn a_mistake_at_ties_is_found_and_made_small() {
    let out = tempfile::tempdir().unwrap();
    let found = fuzzed("loss", out.path(), |case, found| {
        // Another choice would be right; half a gradient more is not.
        if case.entry.flags.iter().any(|flag| flag == "tie") {
            found.get_mut("grad.in.scores").unwrap().values[[0, 0]] += 0.5;
        }
    });
    assert!(!found.passed);
    let case = smallest(out.path());
    assert_eq!(case.inputs["in.scores"].shape(), [3, 3], "two negatives that tie, and their right pair");
    assert!(case.entry.flags.contains(&"tie".to_owned()));
}

#[test]
fn the_case_at_which_a_backend_breaks_off_is_made_small() {
    let out = tempfile::tempdir().unwrap();
    let found = fuzz_with(&options(100, &["linear"], Profile::F32, out.path()), |suite| -> Result<Ran> {
        let mut ended = None;
        let checked = loaded(suite).into_iter().map(|case| {
            if ended.is_none() && case.inputs["in.x"].shape()[0] > 16 {
                ended = Some("out of memory".to_owned());
            }
            // It writes nothing from there on.
            match ended {
                Some(_) => missing(&case.entry),
                None => check(&case, backend(&case, Arithmetic::PLAIN, false), Profile::F32),
            }
        });
        let checked = checked.collect();
        Ok(Ran { checked, ended, late: false })
    });
    let text = found.unwrap().to_string();
    assert!(text.contains("I = 1, N = 17, O = 1\nout of memory\n"), "{text}");
    assert_eq!(smallest(out.path()).inputs["in.x"].shape(), [17, 1]);
}

#[test]
fn a_case_that_a_backend_cannot_compute_says_why() {
    let out = tempfile::tempdir().unwrap();
    let found = fuzz(&options(5, &["scores"], Profile::F32, out.path()), |folder| -> Result<Outputs> {
        let mut outputs = Outputs::default();
        for entry in &Suite::open(folder)?.manifest.cases {
            outputs.fail(&entry.id, "ValueError: no such measure");
        }
        Ok(outputs)
    });
    let text = found.unwrap().to_string();
    assert!(text.contains("D = 1, M = 1, N = 1, measure = cosine"), "{text}");
    assert!(text.contains("ValueError: no such measure"), "{text}");
}

/// Where all ways that are measured round what cancels alike, the tolerance says nothing of an honest backend.
#[test]
fn what_cancels_completely_is_not_drawn() {
    for seed in [1_300_143, 1_800_023] {
        let case = random(Program::L2norm, seed).unwrap();
        let (x, d_y) = (&case.inputs["in.x"], &case.inputs["in.d_y"]);
        // Four roundings of dy / ‖x‖ against the least tolerance, four roundings of 1.
        let large = x.shape()[1] == 1 && x.iter().zip(d_y).any(|(x, d_y)| (d_y / x).abs() > 2.0);
        assert!(!large, "{seed}: x = {x}, dy = {d_y}");
    }
}

#[test]
fn a_seed_gives_the_same_case() {
    for program in PROGRAMS {
        let [first, again, other] = [7, 7, 8].map(|seed| random(program, seed).unwrap().inputs);
        let bits = |inputs: &crate::golden::program::Inputs| -> Vec<u64> {
            inputs.values().flatten().map(|x| x.to_bits()).collect()
        };
        assert_eq!(bits(&first), bits(&again), "{}", program.name());
        assert_ne!(bits(&first), bits(&other), "{}", program.name());
    }
    let sum = |seed| random(Program::Linear, seed).unwrap().inputs["in.x"].iter().fold(0.0, |sum, x| sum + x.abs());
    assert_eq!([0, 1].map(sum), [514.625, 5.25], "pinned");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let files = folders.each_ref().map(|folder| {
        fuzzed("l2norm", folder.path(), |_, found| found.get_mut("out.y").unwrap().values += 1.0);
        let file = std::fs::read_dir(folder.path().join("smallest")).unwrap().map(|entry| entry.unwrap().path());
        file.map(|path| std::fs::read(path).unwrap()).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(files[0], files[1]);
}

#[test]
fn what_cannot_be_meant_is_an_error() {
    let out = tempfile::tempdir().unwrap();
    let says = |options: FuzzOptions| {
        fuzz(&options, |_| -> Result<Outputs> { unreachable!("the backend is not started") }).unwrap_err().to_string()
    };
    let right = options(1, &[], Profile::F32, out.path());
    let seeds = says(FuzzOptions { seeds: 0, ..right.clone() });
    assert!(seeds.contains("seeds") && seeds.contains("at least 1"), "{seeds}");
    let program = says(options(1, &["gru", "lstm"], Profile::F32, out.path()));
    assert!(program.contains("lstm") && program.contains("gru_cell, gru, embedding"), "{program}");
    let first = says(FuzzOptions { first: u64::MAX, ..right.clone() });
    assert!(first.contains("first"), "{first}");
    let exists = says(FuzzOptions { out: out.path().into(), ..right });
    assert!(exists.contains("already exists"), "{exists}");
}
