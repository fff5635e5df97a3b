//! `vsepp golden` as a user calls it: cases of one's own, checks, and what is said about bad input.

mod tensors;

use std::path::Path;
use std::process::{Command, Output};

use ndarray::{ArrayD, Axis};
use tensors::Tensors;

fn vsepp(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vsepp"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["golden"])
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The inputs of a case of the suite as a file of the user's own, after something was done to them.
fn own_inputs(path: &Path, spoil: impl Fn(&str, ArrayD<f64>) -> Option<ArrayD<f64>>) {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/model-vsepp.safetensors");
    let (file, mut own) = (Tensors::read(&suite), Tensors::default());
    for name in file.names().filter(|name| name.starts_with("in.") || name.starts_with("param.")) {
        let Some(values) = spoil(name, file.get(name)) else { continue };
        if name == "in.captions" || name == "in.lengths" {
            #[allow(clippy::cast_possible_truncation)] // ids
            own.add(name, values.mapv(|x| x as i64));
        } else {
            #[allow(clippy::cast_possible_truncation)] // they are f32
            own.add(name, values.mapv(|x| x as f32));
        }
    }
    own.write(path);
}

const CONFIG: &str = "margin = 0.2\nmax_violation = true\nlearning_rate = 0.01\ngrad_clip = 2.0\nsteps = 1\n";

#[test]
fn a_case_of_ones_own_has_the_values_of_the_suite_and_can_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let [inputs, config, expected, found] =
        ["mine.safetensors", "mine.toml", "expected.safetensors", "found.npz"].map(|n| folder.path().join(n));
    own_inputs(&inputs, |_, values| Some(values));
    std::fs::write(&config, CONFIG).unwrap();
    let make = ["make", "--inputs", text(&inputs), "--config", text(&config), "--out", text(&expected)];
    let made = vsepp(&make);
    assert!(made.status.success(), "{}", stderr(&made));
    let again = vsepp(&make);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));

    // As in the suite, whose case this is.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/model-vsepp.safetensors");
    let (golden, mine) = (Tensors::read(&golden), Tensors::read(&expected));
    let names: Vec<&str> = golden.names().collect();
    assert_eq!(names, mine.names().collect::<Vec<_>>());
    assert!(names.iter().all(|name| golden.get(name) == mine.get(name)));

    // What a backend in f32 writes, first right, then with a mean for the sum.
    let write = |loss: f64| {
        let mut values = Tensors::default();
        for name in names.iter().filter(|name| name.starts_with("out.")) {
            let factor = if *name == "out.loss" { loss } else { 1.0 };
            #[allow(clippy::cast_possible_truncation)] // a backend in f32
            values.add(name, mine.get(name).mapv(|x| (x * factor) as f32));
        }
        values.write(&found);
    };
    let page = folder.path().join("report.html");
    let check = |extra: &[&str]| {
        let arguments = [&["check", text(&found), "--expected", text(&expected)], extra].concat();
        vsepp(&arguments)
    };
    write(1.0);
    let passed = check(&["--report", text(&page)]);
    assert_eq!(passed.status.code(), Some(0), "{}", stdout(&passed));
    assert!(stdout(&passed).contains("PASSED: 1 case"));
    assert!(std::fs::read_to_string(&page).unwrap().starts_with("<!DOCTYPE html>"));
    write(0.2);
    let failed = check(&[]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stdout(&failed).contains("[mean-over-batch]"), "{}", stdout(&failed));
    let json: serde_json::Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    assert_eq!(json["passed"], false);
    assert_eq!(json["first"]["tensor"]["name"], "out.loss");
    assert_eq!(json["diagnosis"]["named"][0]["mistakes"][0], "mean-over-batch");
    let complete = check(&["--complete"]);
    assert_eq!(complete.status.code(), Some(1), "much was not written");
}

#[test]
fn bad_inputs_of_ones_own_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let [inputs, config, out] = ["mine.safetensors", "mine.toml", "out.safetensors"].map(|n| folder.path().join(n));
    let says = |what: &str| {
        let made = vsepp(&["make", "--inputs", text(&inputs), "--config", text(&config), "--out", text(&out)]);
        assert_eq!(made.status.code(), Some(2), "{what}: {}", stdout(&made));
        assert!(stderr(&made).contains(what), "expected {what:?} in {}", stderr(&made));
        assert!(!out.exists(), "{what}: nothing is written");
    };
    let spoil = |tensor: &'static str, change: fn(&mut ArrayD<f64>)| {
        own_inputs(&inputs, |name, mut values| {
            if name == tensor {
                change(&mut values);
            }
            Some(values)
        });
    };
    std::fs::write(&config, CONFIG).unwrap();
    own_inputs(&inputs, |name, values| (name != "in.lengths").then_some(values));
    says("in.lengths");
    own_inputs(&inputs, |name, mut values| {
        if name == "in.images" {
            values.slice_axis_inplace(Axis(1), (..4).into());
        }
        Some(values)
    });
    says("param.img_enc.fc.weight: expected [D, F] = [any, 4], not empty, found [4, 5]");
    spoil("in.lengths", |lengths| lengths[[1]] = 0.0);
    says("in.lengths: row 1: expected a length from 1 to T = 6, found 0");
    spoil("in.lengths", |lengths| lengths[[1]] = 7.0);
    says("row 1: expected a length from 1 to T = 6, found 7");
    spoil("in.captions", |captions| captions[[0, 1]] = 13.0);
    says("in.captions: word id 13 at [0, 1]: expected a whole number from 0 below 13");
    spoil("param.txt_enc.embed.weight", |weight| weight[[3, 1]] = f64::NAN);
    says("param.txt_enc.embed.weight: NaN at [3, 1]");
    own_inputs(&inputs, |_, values| Some(values));
    for (line, what) in [
        ("margn = 0.2", "margn"),
        ("steps = -1", "steps = -1"),
        ("num_layers = 2", "num_layers = 2: expected 1"),
        ("embed_size = 5", "embed_size = 5: expected 4"),
        ("caption_projection = true", "there is no param.txt_enc.proj.weight"),
        ("margin = -1", "margin"),
        ("no equals sign", "not valid TOML"),
    ] {
        std::fs::write(&config, line).unwrap();
        says(what);
    }
    std::fs::remove_file(&config).unwrap();
    says("mine.toml");
}

#[test]
fn the_suite_is_listed_shown_and_missed() {
    let list = vsepp(&["list"]);
    assert!(list.status.success() && stdout(&list).contains("model-vsepp-two-layers"));
    let mistakes = vsepp(&["list", "--mistakes"]);
    assert!(stdout(&mistakes).contains("reset-before-product"));
    let show = vsepp(&["show", "gru-cell-smallest"]);
    assert!(stdout(&show).contains("out.h_next") && stdout(&show).contains("f32 "), "{}", stdout(&show));
    let tensor = vsepp(&["show", "loss-mh-worked-example", "--tensor", "out.loss"]);
    assert!(stdout(&tensor).contains("1.2"), "{}", stdout(&tensor));
    for (arguments, what) in [
        (&["show", "none-such"][..], "there is no case none-such"),
        (&["show", "gru-cell-smallest", "--tensor", "out.g"], "has no tensor out.g"),
        (&["list", "--suite", "no/such"], "vsepp golden make --out DIR"),
        (&["check", "no/such"], "no/such: expected a folder"),
        (&["check", "fixtures/golden", "--case", "none-such"], "there is no case none-such"),
        (&["check", "x", "--expected", "fixtures/golden/model-vsepp.safetensors"], "belongs to a suite"),
        (&["make", "--out", "x.npz", "--inputs", "y"], "ends in .safetensors"),
    ] {
        let output = vsepp(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(what), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_backend_with_other_orders_of_axes_says_so() {
    let suite = "fixtures/golden-pictures";
    let folder = tempfile::tempdir().unwrap();
    // Sizes that differ, and the case in which all are 3: there only the values show the order.
    let ids = [
        "conv-tall-kernel-padded",
        "conv-all-equal",
        "max-pool-three-by-three",
        "block-bottleneck-training",
        "resnet-bottleneck-training",
        "vgg-two-layers",
    ];
    // For each axis of a backend's tensor, which axis of the suite's it is.
    let layouts = [("nhwc-hwio", [2, 3, 1, 0]), ("nhwc-ohwi", [0, 2, 3, 1]), ("nhwc-oihw", [0, 1, 2, 3])];
    let turned = |name: &str, x: ArrayD<f64>, kernel: [usize; 4]| {
        let axes = if name.ends_with("weight") { kernel } else { [0, 2, 3, 1] };
        let turned = if x.ndim() == 4 { x.permuted_axes(axes.to_vec()) } else { x };
        turned.as_standard_layout().into_owned()
    };
    let cases: Vec<&str> = ids.iter().flat_map(|id| ["--case", *id]).collect();
    for (layout, kernel) in layouts {
        let out = folder.path().join(layout);
        std::fs::create_dir(&out).unwrap();
        for id in ids {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(suite).join(format!("{id}.safetensors"));
            let (file, mut written) = (Tensors::read(&golden), Tensors::default());
            for name in file.names().filter(|name| !name.starts_with("in.") && !name.starts_with("param.")) {
                written.add(name, turned(name, file.get(name), kernel));
            }
            written.write(&out.join(format!("{id}.safetensors")));
        }
        let check = |extra: &[&str]| {
            let all = [&["check", text(&out), "--suite", suite, "--profile", "f64", "--complete"], extra, &cases[..]];
            vsepp(&all.concat())
        };
        let passed = check(&["--layout", layout]);
        assert!(passed.status.success(), "{layout}: {}{}", stdout(&passed), stderr(&passed));
        assert!(stdout(&passed).contains("PASSED: 6 cases"), "{}", stdout(&passed));
        for (other, _) in layouts.iter().filter(|(other, _)| *other != layout) {
            assert_eq!(check(&["--layout", other]).status.code(), Some(1), "{layout} read as {other}");
        }
        let unsaid = check(&[]);
        assert_eq!(unsaid.status.code(), Some(1), "{layout}");
        for id in ids {
            assert!(stdout(&unsaid).contains(id), "{layout}: {id} fails: {}", stdout(&unsaid));
        }
        assert!(!stdout(&unsaid).contains("diagnosis: these are"), "{}", stdout(&unsaid));

        // The given tensors in this order.
        let made = folder.path().join(format!("made-{layout}"));
        let make = ["make", "--suite", "pictures", "--layout", layout, "--profile", "f64", "--out", text(&made)];
        let made_it = vsepp(&[&make[..], &cases].concat());
        assert!(made_it.status.success(), "{}", stderr(&made_it));
        let file = Tensors::read(&made.join("conv-tall-kernel-padded.safetensors"));
        for name in ["in.x", "in.d_y", "param.weight"] {
            assert_eq!(file.get(&format!("layout.{layout}.{name}")), turned(name, file.get(name), kernel), "{name}");
        }
    }
    for (arguments, what) in [
        (&["check", "fixtures/golden", "--layout", "nhwc-hwio"][..], "there are no pictures in the suite core"),
        (&["check", suite, "--suite", suite, "--layout", "nhwc"], "nhwc-hwio, nhwc-ohwi, nhwc-oihw"),
        (&["make", "--suite", "pictures", "--layout", "keras", "--out", "none"], "nhwc-hwio, nhwc-ohwi, nhwc-oihw"),
        (&["make", "--layout", "nhwc-hwio", "--out", "none"], "cudnn, onnx"),
    ] {
        let output = vsepp(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(what), "{arguments:?}: {}", stderr(&output));
    }
}

/// The process that a command wrote into a file, once it has.
#[cfg(target_os = "linux")]
fn written(path: &Path) -> String {
    for _ in 0..6000 {
        match std::fs::read_to_string(path) {
            Ok(id) if id.ends_with('\n') => return id.trim().into(),
            _ => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    panic!("waited for a minute")
}

/// Whether a process ends within ten seconds; its parent need not have waited for it.
#[cfg(target_os = "linux")]
fn ends(process: &str) -> bool {
    let stat = || std::fs::read_to_string(format!("/proc/{process}/stat"));
    let ended = || stat().map_or(true, |stat| stat.contains(") Z "));
    let ended_later = || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        ended()
    };
    ended() || (0..1000).any(|_| ended_later())
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_that_hangs_is_stopped_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (out, process) = (folder.path().join("smallest"), folder.path().join("process"));
    // It waits for another process at the third case.
    let hang = format!("sleep 600 & echo $! > {}; wait", text(&process));
    let copy = format!("for f in \"$0\"/*.safetensors; do case $f in *norm-2.*) {hang};; esac; cp $f \"$1\"; done");
    let arguments = ["fuzz", "--programs", "l2norm", "--seeds", "4", "--timeout", "1", "--out", text(&out)];
    let failed = vsepp(&[&arguments[..], &["--", "sh", "-c", &copy]].concat());
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    let says = stdout(&failed);
    for what in ["seed 2: l2norm fails", "not made smaller", "stopped after 1 s (--timeout)", "golden fuzz --first 2"] {
        assert!(says.contains(what), "expected {what:?} in {says}");
    }
    assert!(ends(&written(&process)), "the process that the command started is still running");
    let list = vsepp(&["list", "--suite", text(&out)]);
    assert!(stdout(&list).contains("fuzz-l2norm-2"), "{}", stdout(&list));

    // A signal to the program alone ends the command too.
    std::fs::remove_file(&process).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let mut fuzz = Command::new(env!("CARGO_BIN_EXE_vsepp"));
    fuzz.args(["golden", "fuzz", "--out", text(&out), "--", "sh", "-c", &hang]);
    let mut fuzz = fuzz.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let process = written(&process);
    assert!(Command::new("kill").arg(fuzz.id().to_string()).status().unwrap().success());
    assert_eq!(fuzz.wait().unwrap().code(), Some(130));
    assert!(ends(&process) && !out.exists());
}

#[cfg(unix)]
#[test]
fn random_cases_are_computed_by_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("smallest");
    let fuzz = |arguments: &[&str]| vsepp(&[&["fuzz", "--out", text(&out)], arguments].concat());
    // The files of the suite hold the right values too.
    let right = ["--", "sh", "-c", "cp \"$0\"/*.safetensors \"$1\""];
    for profile in ["f32", "f64"] {
        let passed = fuzz(&[&["--seeds", "3", "--profile", profile], &right[..]].concat());
        assert_eq!(passed.status.code(), Some(0), "{}{}", stdout(&passed), stderr(&passed));
        assert_eq!(stdout(&passed), "PASSED: 27 random cases\n");
        assert!(!out.exists());
    }
    for (arguments, what) in [
        (&["--seeds", "1"][..], "COMMAND"),
        (&["--seeds", "0", "--", "true"], "seeds"),
        (&["--programs", "gru,lstm", "--", "true"], "lstm"),
        (&["--timeout", "0", "--", "true"], "--timeout: expected at least 1 second, found 0"),
        (&["--seeds", "1", "--", "./no-such-program"], "./no-such-program: cannot start"),
    ] {
        let refused = fuzz(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&refused).contains(what), "{arguments:?}: {}", stderr(&refused));
        assert!(!out.exists());
    }
    let broken = ["--programs", "l2norm", "--seeds", "2", "--", "sh", "-c", "echo no such device >&2; exit 3"];
    let failed = fuzz(&broken);
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    let says = stdout(&failed);
    for what in
        ["seed 0: l2norm", "D = 1, N = 1", "ended badly: exit status: 3\n  | no such device", "--first 0 --seeds 1"]
    {
        assert!(says.contains(what), "expected {what:?} in {says}");
    }
    let again = fuzz(&broken);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("already exists"), "{}", stderr(&again));
    std::fs::remove_dir_all(&out).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fuzz(&[&["--json"], &broken[..]].concat()).stdout).unwrap();
    assert_eq!((&json["passed"], &json["failed"]["program"]), (&false.into(), &"l2norm".into()));
    assert_eq!(json["failed"]["report"]["reports"][0]["status"], "missing");
    // What was written is a suite.
    let list = vsepp(&["list", "--suite", text(&out)]);
    assert!(list.status.success() && stdout(&list).contains("fuzz-l2norm-0"), "{}", stdout(&list));
}
