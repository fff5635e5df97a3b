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
fn the_c_header_reads_what_is_whole_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (input, copy) = (folder.path().join("in"), folder.path().join("copy"));
    let program = root().join("tests/header/copy.c");
    let file = |header: &str, numbers: &[u8]| {
        let length = u64::try_from(header.len()).unwrap();
        [&length.to_le_bytes(), header.as_bytes(), numbers].concat()
    };
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        file(&format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), &[0, 60, 0, 192])
    };
    let twice = ["0,2", "2,4"].map(|at| format!(r#""x":{{"dtype":"U8","shape":[2],"data_offsets":[{at}]}}"#));
    let broken = [
        (file(&format!("{{{}}}", twice.join(",")), &[0; 4]), "x occurs twice"),
        (b"1234567".to_vec(), "its 7 bytes end before its header does"),
        ([&6u64.to_le_bytes()[..], b"{}"].concat(), "its 10 bytes end before its header does"),
        ([255; 16].to_vec(), "its 16 bytes end before its header does"),
        (file("[]", b""), "its header is no JSON object of tensors and texts, from byte 8 on"),
        (file("{}", b"1"), "some of its 1 bytes of numbers belong to no tensor, or to two"),
        (file(r#"{"__metadata__":{"a":1}}"#, b""), "its header is no JSON object"),
        (file(r#"{"\ud800":1}"#, b""), "its header is no JSON object"),
        (tensor("F17", "[2]", "[0,4]"), "x: the type F17 is not known"),
        (tensor("F16", "[3]", "[0,4]"), "x: its shape does not take the 4 bytes of its data_offsets"),
        (tensor("F16", "[9223372036854775809,2]", "[0,4]"), "x: its shape does not take the 4 bytes"),
        (
            tensor("F16", "[18446744073709551616]", "[0,4]"),
            "x: expected dtype, shape (at most 8 axes) and data_offsets",
        ),
        (tensor("F16", "[1,1,1,1,1,1,1,1,2]", "[0,4]"), "x: expected dtype, shape (at most 8 axes) and data_offsets"),
        (tensor("F16", "[4]", "[0,8]"), "x: expected data_offsets within 4 bytes, found [0, 8]"),
        (tensor("F16", "[1]", "[0,2]"), "some of its 4 bytes of numbers belong to no tensor, or to two"),
    ];
    for (compiler, language) in [("cc", &["-x", "c", "-std=c99"][..]), ("c++", &["-x", "c++", "-std=c++17"])] {
        let run = folder.path().join(compiler);
        let mut compile = Command::new(compiler);
        compile.args(language).args(["-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
        compile.arg("-I").arg(root().join("examples/backends")).arg(&program).arg("-o").arg(&run);
        if !runs(Command::new(compiler).arg("--version")) {
            say(&format!("skipped: safetensors.h ({compiler} is not there)"));
            continue;
        }
        // Where the compiler has them, the sanitizers watch.
        let watched = runs(Command::new(compiler).args(compile.get_args()).args(["-fsanitize=address,undefined"]));
        assert!(watched || runs(&mut compile), "{compiler} failed");
        let output = |bytes: &[u8]| {
            std::fs::write(&input, bytes).unwrap();
            let output = Command::new(&run).arg(&input).arg(&copy).output().unwrap();
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        for (bytes, reason) in &broken {
            let expected = format!("{}: {reason}", input.display());
            let (code, found) = output(bytes);
            assert!(code == Some(1) && found.starts_with(&expected), "expected {expected}, found {found}");
        }
        assert_eq!(output(&tensor("F16", "[2]", "[0,4]")), (Some(0), "x F16 [2]: 1 -2\n".into()));
        assert_eq!(output(&tensor("BF16", "[1,2]", "[0,4]")), (Some(0), "x BF16 [1, 2]: 0.0078125 -2\n".into()));
        assert_eq!(output(&tensor("I16", "[2]", "[0,4]")), (Some(0), "x I16 [2]: 15360 -16384\n".into()));
        assert_eq!(output(&tensor("U32", "[1]", "[0,4]")), (Some(0), "x U32 [1]: 3.22124083e+09\n".into()));
        let metadata = file(r#"{"__metadata__":{"a":"\u00e9 \"\ud834\udd1e"}}"#, b"");
        assert_eq!(output(&metadata), (Some(0), "a = é \"𝄞\n".into()));
        // A file of the suite comes out as it went in, but for the order of the header.
        let case = root().join(CORE).join("gru-cell-smallest.safetensors");
        let (code, text) = output(&std::fs::read(&case).unwrap());
        assert!(code == Some(0) && text.contains("\nout.h_next F64 [1, 2]: -0.196322035 0.507367554\n"), "{text}");
        assert_eq!(output(&std::fs::read(&copy).unwrap()), (Some(0), text));
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
