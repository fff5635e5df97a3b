//! Runs the backends of `examples/backends` on the golden suites. They need a C compiler, and a Python with
//! NumPy (and PyTorch) and safetensors. Without these, a test prints that it was skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A line on the real stderr: the test runner captures what `eprintln!` prints.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn backend(name: &str) -> PathBuf {
    root().join("examples/backends").join(name)
}

/// The output of `golden check`, and whether it passes.
fn check(suite: &str, out: &Path, profile: &str) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vsepp"))
        .current_dir(root())
        .args(["golden", "check", "--suite", suite, "--profile", profile])
        .arg(out)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

const CORE: &str = "fixtures/golden";
const PICTURES: &str = "fixtures/golden-pictures";

/// The number of a suite's cases for some programs, or for all programs if none is named.
fn cases_of(suite: &str, programs: &[&str]) -> usize {
    let manifest = std::fs::read_to_string(root().join(suite).join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let cases = manifest["cases"].as_array().unwrap();
    cases.iter().filter(|case| programs.is_empty() || programs.contains(&case["program"].as_str().unwrap())).count()
}

fn assert_passes(suite: &str, out: &Path, profile: &str, cases: usize) {
    let (passed, text) = check(suite, out, profile);
    assert!(passed, "{profile}:\n{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with(&format!("PASSED: {cases} cases")), "{profile}: {last}");
}

#[test]
fn the_c_backend_passes_in_both_precisions() {
    let Some(compiler) = ["cc", "gcc", "clang"].into_iter().find(|cc| runs(Command::new(cc).arg("--version"))) else {
        return say("skipped: the C backend (no C compiler)");
    };
    let folder = tempfile::tempdir().unwrap();
    for (profile, real) in [("f32", "float"), ("f64", "double")] {
        let (program, out) = (folder.path().join(profile), folder.path().join(format!("out-{profile}")));
        std::fs::create_dir(&out).unwrap();
        let mut compile = Command::new(compiler);
        compile.args(["-O2", "-std=c11", "-Wall", "-Wextra", &format!("-DREAL={real}")]).arg(backend("c_backend.c"));
        assert!(runs(compile.arg("-lm").arg("-o").arg(&program)), "{compiler} failed");
        assert!(runs(Command::new(&program).arg(root().join(CORE)).arg(&out)));
        assert_passes(CORE, &out, profile, cases_of(CORE, &["gru_cell", "loss"]));
    }
}

#[test]
fn the_python_backends_pass_in_both_precisions() {
    for (name, modules, suite) in [
        ("numpy_backend.py", "numpy, safetensors", CORE),
        ("pytorch_backend.py", "numpy, safetensors, torch", CORE),
        ("pytorch_backend.py", "numpy, safetensors, torch", PICTURES),
    ] {
        // PYTHON names another interpreter, such as one of a virtual environment.
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        if !runs(Command::new(&python).args(["-c", &format!("import {modules}")])) {
            say(&format!("skipped: {name} ({python} lacks {modules})"));
            continue;
        }
        for profile in ["f64", "f32"] {
            let out = tempfile::tempdir().unwrap();
            let mut run = Command::new(&python);
            run.arg(backend(name)).arg(root().join(suite)).arg(out.path()).args(["--precision", profile]);
            assert!(runs(&mut run), "{name} {suite} {profile} failed");
            assert_passes(suite, out.path(), profile, cases_of(suite, &[]));
        }
    }
}

/// Whether a command can be started and succeeds.
fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
