//! Run folders: locks, kills, full disks, resuming.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vsepp::model::{Config, Parameters};
use vsepp::optim::Adam;
use vsepp::train::Checkpoint;

use super::{as_refs, data, json, ok, refused, stoppable, text, train, vsepp};

/// A training that saves after every step.
fn saving(run: &str, epochs: &str, more: &[&str]) -> Vec<String> {
    train(run, epochs, &[&["--val-step", "1", "--log-step", "1"], more].concat())
}

fn start(args: &[String], folder: &Path) -> Child {
    stoppable().args(args).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits, at most for a minute, so that a failing test ends.
fn wait_for(mut what: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited for a minute");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Kills a training. Of three rounds, one kills it in its first milliseconds, one while a checkpoint is
/// written, and one after a checkpoint has become visible, on a machine of any speed.
fn kill_somewhere(child: &mut Child, run: &Path, round: u64, dice: &mut Dice) {
    let staged = run.join(".vsepp-next");
    let newest = || std::fs::metadata(last(run)).ok().map(|about| about.ino());
    let before = newest();
    match round % 3 {
        1 => wait_for(|| staged.exists() || child.try_wait().unwrap().is_some()),
        2 => wait_for(|| newest() != before || child.try_wait().unwrap().is_some()),
        _ => {}
    }
    // From a millisecond to a tenth of a second, because the time for a checkpoint depends on the disk.
    let most = 1 << (10 + dice.below(8));
    std::thread::sleep(Duration::from_micros(dice.below(most)));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.code().is_none_or(|code| code == 0), "{status}");
}

#[test]
fn the_chosen_number_of_threads_is_shown_unless_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let shown = |run, more: &[&str]| {
        let output = vsepp(&as_refs(&train(run, "1", more)), folder.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let stderr = text(&output.stderr);
        let at = |words: &str| stderr.lines().position(|line| line.contains(words));
        (at("forward and backward take"), at("epoch  1/1").or(at("epoch 1/1")).unwrap())
    };
    let (chosen, epoch) = shown("free", &[]);
    let many = std::thread::available_parallelism().unwrap().get() > 1;
    assert_eq!(chosen.is_some(), many, "one thread is no choice");
    assert!(chosen.is_none_or(|chosen| chosen < epoch));
    assert_eq!(shown("given", &["--threads", "2"]).0, None);
}

fn resume(run: &str) -> Vec<String> {
    ["train", "--run", run, "--resume"].map(str::to_owned).into()
}

fn in_bash(script: &str, folder: &Path) -> Output {
    let script = script.replace("VSEPP", env!("CARGO_BIN_EXE_vsepp"));
    Command::new("bash").args(["-c", &script]).current_dir(folder).output().unwrap()
}

/// The state of a run without times: its newest model, its optimiser, its progress, its figures.
fn state(run: &Path) -> (Parameters<f32>, Option<Adam<f32>>, Value, Vec<Value>) {
    fn without_times(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for time in ["time", "seconds", "pairs_per_second", "waiting"] {
                    fields.remove(time);
                }
                fields.values_mut().for_each(without_times);
            }
            Value::Array(values) => values.iter_mut().for_each(without_times),
            _ => {}
        }
    }
    let (checkpoint, parameters, adam) = Checkpoint::read(&last(run)).unwrap();
    let mut progress = serde_json::to_value(&checkpoint.progress).unwrap();
    without_times(&mut progress);
    let lines = std::fs::read_to_string(place(run, "metrics.jsonl")).unwrap();
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter_mut().for_each(without_times);
    (parameters, adam, progress, lines)
}

/// Where a file of a run is now: the files of a new checkpoint are in `.vsepp-commit` before they are moved.
fn place(run: &Path, file: &str) -> PathBuf {
    let committed = run.join(".vsepp-commit").join(file);
    if committed.exists() { committed } else { run.join(file) }
}

fn last(run: &Path) -> PathBuf {
    place(run, "last.safetensors")
}

/// The seed in the settings of a run, if they can be read.
fn seed(run: &Path) -> Option<u64> {
    let settings = std::fs::read_to_string(place(run, "config.toml")).ok()?;
    toml::from_str::<Config>(&settings).ok().map(|config| config.seed)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const EVENTS: &str = "events.out.tfevents.vsepp";
const FILES: [&str; 6] = ["best.safetensors", "config.toml", EVENTS, "last.safetensors", "metrics.jsonl", "vocab.json"];
/// The same when the training has ended.
const FINISHED: [&str; 7] =
    ["best.safetensors", "config.toml", EVENTS, "last.safetensors", "metrics.jsonl", "test.json", "vocab.json"];

/// Pseudo-random numbers, the same in every test run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn a_training_that_is_killed_again_and_again_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let args = saving("straight", "12", &[]);
    ok(&as_refs(&args), folder);
    let run = folder.join("killed");
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join("notes.txt"), "mine").unwrap();
    std::fs::write(run.join("config.toml.old"), "mine").unwrap();
    let (mut dice, mut with_checkpoint) = (Dice(1), 0);
    // Either a restart or a resume is always possible.
    let next = || if last(&run).exists() { resume("killed") } else { saving("killed", "12", &[]) };
    for round in 0..50 {
        kill_somewhere(&mut start(&next(), folder), &run, round, &mut dice);
        if last(&run).exists() {
            with_checkpoint += 1;
            ok(&["search", "--run", "killed", "--checkpoint", "last", "red", "--json"], folder);
        }
    }
    assert!(with_checkpoint > 20, "{with_checkpoint} of 50 kills left a checkpoint");
    ok(&as_refs(&next()), folder);
    assert_eq!(state(&run), state(&folder.join("straight")));
    let expected = [&FINISHED[..2], &["config.toml.old"], &FINISHED[2..5], &["notes.txt"], &FINISHED[5..]].concat();
    assert_eq!(names(&run), expected, "nothing is left, nothing is lost");
}

#[test]
fn force_keeps_the_old_run_whole_until_the_new_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&as_refs(&train("old", "3", &[])), folder);
    let new = saving("run", "4", &["--force", "--seed", "7", "--word-threshold", "5"]);
    let (mut dice, mut was_old, mut was_new) = (Dice(2), 0, 0);
    for round in 0..40 {
        let _ = std::fs::remove_dir_all(folder.join("run"));
        assert!(Command::new("cp").args(["-r", "old", "run"]).current_dir(folder).status().unwrap().success());
        kill_somewhere(&mut start(&new, folder), &folder.join("run"), round, &mut dice);
        let run = folder.join("run");
        let (checkpoint, ..) = Checkpoint::read(&last(&run)).unwrap();
        assert_eq!(seed(&run), Some(checkpoint.config.seed), "settings and checkpoint are of one run");
        let seen = ok(&["search", "--run", "run", "--checkpoint", "last", "red"], folder);
        assert!(seen.contains("score"));
        if checkpoint.config.seed == 7 {
            was_new += 1;
            ok(&as_refs(&resume("run")), folder);
        } else {
            was_old += 1;
            let still = |name: &str| std::fs::read(folder.join("run").join(name)).unwrap();
            for name in FILES {
                assert_eq!(still(name), std::fs::read(folder.join("old").join(name)).unwrap(), "{name}");
            }
        }
    }
    assert!(was_old > 3 && was_new > 3, "{was_old} kills left the old run, {was_new} the new one");
    // Before the end of its first epoch the new run has no best model, and must not show the old one's.
    let args = "train --data data --run run --force --seed 7 --val-step 1 --batch-size 1 --embed-size 8 --word-dim 4";
    let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
    std::fs::remove_dir_all(folder.join("run")).unwrap();
    assert!(Command::new("cp").args(["-r", "old", "run"]).current_dir(folder).status().unwrap().success());
    let mut child = start(&args, folder);
    wait_for(|| seed(&folder.join("run")) == Some(7));
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (checkpoint, ..) = Checkpoint::read(&folder.join("run/last.safetensors")).unwrap();
    if checkpoint.progress.epoch == 0 {
        assert!(!folder.join("run/best.safetensors").exists());
        refused(&["eval", "--run", "run"], folder, &["no best model yet"]);
    }
}

#[test]
fn force_replaces_runs_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let args = train("run", "2", &["--force"]);
    let run = folder.join("run");
    // For a new or an empty folder, --force changes nothing.
    ok(&as_refs(&args), folder);
    assert_eq!(names(&run), FINISHED);
    std::fs::remove_dir_all(&run).unwrap();
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join("thesis.tex"), "mine").unwrap();
    refused(&as_refs(&args), folder, &["run: the folder has files but no run that could be replaced", "thesis.tex"]);
    for name in ["config.toml", "last.safetensors"] {
        std::fs::write(run.join(name), "mine").unwrap();
        refused(&as_refs(&args), folder, &["no run that could be replaced", name]);
        refused(&as_refs(&train("run", "2", &[])), folder, &["already has a run"]);
        assert_eq!(std::fs::read(run.join(name)).unwrap(), b"mine");
    }
    assert_eq!(names(&run), ["config.toml", "last.safetensors", "thesis.tex"]);
    // A run may begin in a folder with other files, if no name collides.
    std::fs::remove_file(run.join("config.toml")).unwrap();
    std::fs::remove_file(run.join("last.safetensors")).unwrap();
    ok(&as_refs(&train("run", "2", &[])), folder);
    ok(&as_refs(&args), folder);
    assert_eq!(std::fs::read(run.join("thesis.tex")).unwrap(), b"mine");
    // A failed run does not change the old one.
    let before: Vec<Vec<u8>> = FINISHED.iter().map(|name| std::fs::read(run.join(name)).unwrap()).collect();
    let output = vsepp(
        &as_refs(&train("run", "2", &["--force", "--no-imgnorm", "--grad-clip", "0", "--margin", "1e6"])),
        folder,
    );
    if output.status.code() != Some(0) {
        let after: Vec<Vec<u8>> = FINISHED.iter().map(|name| std::fs::read(run.join(name)).unwrap()).collect();
        assert!(before == after);
    }
    assert!(text(&output.stderr).contains("note: the run in run is kept until the new one has its first checkpoint"));
}

#[test]
fn a_folder_allows_one_training_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let mut first = start(&saving("run", "100000", &[]), folder);
    wait_for(|| folder.join("run/last.safetensors").exists());
    let busy = ["run: another process is training in this folder"];
    refused(&as_refs(&resume("run")), folder, &busy);
    refused(&as_refs(&train("run", "1", &["--force"])), folder, &busy);
    refused(&as_refs(&train("run", "1", &[])), folder, &busy);
    // Commands that only read need no lock.
    for _ in 0..20 {
        ok(&["search", "--run", "run", "--checkpoint", "last", "red"], folder);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let (checkpoint, ..) = Checkpoint::read(&last(&folder.join("run"))).unwrap();
    let epochs = (checkpoint.progress.epoch + 1).to_string();
    ok(&["train", "--run", "run", "--resume", "--num-epochs", &epochs], folder);
    assert_eq!(names(&folder.join("run")), FINISHED);

    // Runs started at once with the default name get different folders.
    let args = || train("x", "1", &[]).into_iter().filter(|arg| arg != "--run" && arg != "x").collect::<Vec<_>>();
    let mut children: Vec<Child> = (0..8).map(|_| start(&args(), folder)).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().code() == Some(0)));
    let expected: Vec<String> = (1..=8).map(|n| format!("data-{n}")).collect();
    assert_eq!(names(&folder.join("runs")), expected);
    for name in expected {
        assert_eq!(names(&folder.join("runs").join(name)), FINISHED);
    }
}

#[test]
fn signals_that_were_ignored_stay_ignored_and_the_others_save() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let args = |run: &str| saving(run, "100000", &[]).join(" ");
    let ignoring = |signal: &str, run: &str| {
        let script = format!(
            "trap '' {signal}; VSEPP {} >/dev/null 2>&1 & pid=$!; while ! [ -e {run}/last.safetensors ]; do sleep 0.01; done; \
             kill -{signal} $pid; sleep 0.3; kill -0 $pid && echo alive; kill -TERM $pid; wait $pid; echo $?",
            args(run)
        );
        text(&in_bash(&script, folder).stdout)
    };
    if cfg!(target_os = "linux") {
        assert_eq!(ignoring("HUP", "a"), "alive\n130\n");
        assert_eq!(ignoring("INT", "b"), "alive\n130\n");
    }
    for name in ["-HUP", "-TERM"] {
        let run = format!("run{name}");
        let mut child = start(&saving(&run, "100000", &[]), folder);
        wait_for(|| folder.join(&run).join("last.safetensors").exists());
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{name}");
        let (checkpoint, ..) = Checkpoint::read(&folder.join(&run).join("last.safetensors")).unwrap();
        let epochs = (checkpoint.progress.epoch + 1).to_string();
        ok(&["train", "--run", &run, "--resume", "--num-epochs", &epochs], folder);
    }
}

#[test]
fn a_stop_before_the_first_step_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = data(folder);
    // Enough data that the signal arrives during reading.
    let (captions, images) = (data.join("train_caps.txt"), data.join("train_ims.npy"));
    std::fs::write(&captions, std::fs::read_to_string(&captions).unwrap().repeat(10_000)).unwrap();
    ndarray_npy::write_npy(&images, &ndarray::Array2::<f32>::ones((120_000, 6))).unwrap();
    let mut child = start(&saving("runs/run", "2", &[]), folder);
    wait_for(|| folder.join("runs/run/.vsepp-lock").exists());
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!folder.join("runs").exists(), "{:?}", names(folder));
}

#[test]
fn a_full_disk_gives_a_message_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&as_refs(&train("whole", "6", &[])), folder);
    let size = std::fs::metadata(folder.join("whole/last.safetensors")).unwrap().len() / 1024;
    // A new run that cannot be saved leaves nothing; a resumed run keeps its last checkpoint.
    let args = |run: &str| train(run, "6", &[]).join(" ");
    let output = in_bash(&format!("ulimit -f {}; VSEPP {}", size / 2, args("new")), folder);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("new/last.safetensors: cannot write: File too large"),
        "{}",
        text(&output.stderr)
    );
    assert!(!folder.join("new").exists());
    ok(&as_refs(&train("run", "2", &[])), folder);
    let before = state(&folder.join("run"));
    let output = in_bash(&format!("ulimit -f {}; VSEPP train --run run --resume --num-epochs 6", size / 2), folder);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("to continue: vsepp train --run run --resume"), "{}", text(&output.stderr));
    assert_eq!(names(&folder.join("run")), FINISHED);
    let after = state(&folder.join("run"));
    assert!(before.0 == after.0 && before.1 == after.1 && before.2 == after.2);
    ok(&["train", "--run", "run", "--resume", "--num-epochs", "6"], folder);
    assert_eq!(state(&folder.join("run")), state(&folder.join("whole")));
    // The figures alone can fill the disk too.
    let output = in_bash(
        &format!("ulimit -f {}; VSEPP {} --log-step 1", size * 2, train("long", "100000", &[]).join(" ")),
        folder,
    );
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("long/metrics.jsonl: cannot write: File too large"),
        "{}",
        text(&output.stderr)
    );
    let lines = std::fs::read_to_string(folder.join("long/metrics.jsonl")).unwrap();
    let (checkpoint, ..) = Checkpoint::read(&folder.join("long/last.safetensors")).unwrap();
    let epochs = (checkpoint.progress.epoch + 1).to_string();
    ok(&["train", "--run", "long", "--resume", "--num-epochs", &epochs], folder);
    let steps: Vec<u64> = std::fs::read_to_string(folder.join("long/metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["event"] == "step")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert!(
        lines.len() > 1000 && steps.iter().copied().eq(1..=steps.len() as u64),
        "no line is missing, torn or doubled"
    );
}

#[test]
fn the_files_of_a_run_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&as_refs(&train("run", "2", &["--log-step", "1"])), folder);
    ok(&as_refs(&train("other", "2", &["--seed", "1"])), folder);
    let run = folder.join("run");
    let more = ["train", "--run", "run", "--resume", "--num-epochs", "3"];
    let restored = |name: &str, spoil: &dyn Fn(&Path), check: &dyn Fn()| {
        let path = run.join(name);
        let before = std::fs::read(&path).unwrap();
        spoil(&path);
        check();
        std::fs::write(&path, before).unwrap();
    };
    let from_other = |name: &str| {
        let other = std::fs::read(folder.join("other").join(name)).unwrap();
        move |path: &Path| std::fs::write(path, &other).unwrap()
    };
    restored("best.safetensors", &from_other("best.safetensors"), &|| {
        let words = ["best.safetensors: it does not belong to last.safetensors", "digest"];
        refused(&more, folder, &words);
        refused(&["eval", "--run", "run"], folder, &words);
        ok(&["eval", "--run", "run", "--checkpoint", "run/best.safetensors"], folder);
    });
    restored("best.safetensors", &|path| std::fs::remove_file(path).unwrap(), &|| {
        refused(&more, folder, &["best.safetensors: cannot read"]);
    });
    restored("last.safetensors", &from_other("last.safetensors"), &|| {
        refused(&more, folder, &["seed = 0: expected 1, with which the run was begun"]);
    });
    for at in [20, 3000] {
        let flip = |path: &Path| {
            let mut bytes = std::fs::read(path).unwrap();
            let at = bytes.len() - at;
            bytes[at] ^= 0x40;
            std::fs::write(path, bytes).unwrap();
        };
        restored("last.safetensors", &flip, &|| {
            refused(&more, folder, &["last.safetensors: the file was damaged or changed"]);
        });
        restored("best.safetensors", &flip, &|| {
            refused(&["eval", "--run", "run"], folder, &["best.safetensors: the file was damaged or changed"]);
        });
    }
    let metrics = |path: &Path| std::fs::read_to_string(path).unwrap();
    restored(
        "metrics.jsonl",
        &|path| std::fs::write(path, metrics(path).replacen("loss", "gain", 1)).unwrap(),
        &|| {
            refused(
                &more,
                folder,
                &["metrics.jsonl: its first ", "bytes: expected SHA-256", "move it away to begin a new one"],
            );
        },
    );
    restored("metrics.jsonl", &|path| std::fs::write(path, &metrics(path)[..100]).unwrap(), &|| {
        refused(
            &more,
            folder,
            &["metrics.jsonl: expected at least the ", "bytes that last.safetensors has, found 100"],
        );
    });
    restored(
        "config.toml",
        &|path| std::fs::write(path, metrics(path).replace("margin = 0.2", "margin = 0.3")).unwrap(),
        &|| {
            refused(&more, folder, &["margin = 0.3: expected 0.2, with which the run was begun"]);
        },
    );
    // Another dev split could select another best epoch.
    let dev = folder.join("data/dev_caps.txt");
    let captions = metrics(&dev);
    std::fs::write(&dev, captions.replacen("red", "blue", 1)).unwrap();
    refused(&more, folder, &["dev: expected the data that the run was begun with (36 captions of 12 images"]);
    std::fs::write(&dev, captions).unwrap();
    // Everything after the checkpoint is removed: a torn line, whole lines, anything.
    let before = metrics(&run.join("metrics.jsonl"));
    let torn = format!("{before}{{\"event\":\"step\",\"step\":11}}\n{{\"event\":\"st");
    std::fs::write(run.join("metrics.jsonl"), torn).unwrap();
    ok(&more, folder);
    ok(&as_refs(&train("three", "3", &["--log-step", "1"])), folder);
    assert_eq!(state(&run), state(&folder.join("three")));
    // The file of events is written anew: another step at its end, a torn one, another file, none.
    let events = |run: &str| std::fs::read(folder.join(run).join(EVENTS)).unwrap();
    let whole = events("run");
    assert_eq!(whole.len(), events("three").len(), "it was extended as if it had never stopped");
    for damaged in [Some([&whole[..], &whole].concat()), Some(whole[..whole.len() - 9].into()), Some(vec![1; 99]), None]
    {
        match damaged {
            Some(bytes) => std::fs::write(run.join(EVENTS), bytes).unwrap(),
            None => std::fs::remove_file(run.join(EVENTS)).unwrap(),
        }
        ok(&more, folder);
        assert!(events("run") == whole);
    }
    // If the file is missing, a new one begins.
    std::fs::remove_file(run.join("metrics.jsonl")).unwrap();
    let output = vsepp(&["train", "--run", "run", "--resume", "--num-epochs", "4"], folder);
    assert!(text(&output.stderr).contains("metrics.jsonl is missing: a new one begins"), "{}", text(&output.stderr));
    assert_eq!(metrics(&run.join("metrics.jsonl")).lines().count(), 6, "five steps and the epoch's end");
}

#[test]
fn tensorboard_reads_each_number_of_metrics_once_after_a_kill_too() {
    /// The scalars of all runs in the folder `runs`, by TensorBoard's own reader: {run: {tag: [[time, step, value]]}}.
    const READ: &str = "
import json
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
runs = EventMultiplexer(size_guidance={'scalars': 0}).AddRunsFromDirectory('runs').Reload()
scalars = lambda run, tag: [(event.wall_time, event.step, event.value) for event in runs.Scalars(run, tag)]
print(json.dumps({run: {tag: scalars(run, tag) for tag in tags['scalars']} for run, tags in runs.Runs().items()}))";
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // PYTHON names another interpreter, such as one of a virtual environment.
    let name = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let python = |code: &str| Command::new(&name).args(["-c", code]).current_dir(folder).output();
    if !python("import tensorboard").is_ok_and(|output| output.status.success()) {
        // The test runner captures what `eprintln!` prints.
        let _ = writeln!(std::io::stderr(), "skipped: TensorBoard reads a run ({name} lacks tensorboard)");
        return;
    }
    data(folder);
    ok(&as_refs(&train("runs/whole", "2", &["--val-step", "2"])), folder);
    let mut child = start(&saving("runs/killed", "400", &[]), folder);
    kill_somewhere(&mut child, &folder.join("runs/killed"), 2, &mut Dice(7));
    let epochs = Checkpoint::read(&last(&folder.join("runs/killed"))).unwrap().0.progress.epoch + 2;
    ok(&["train", "--run", "runs/killed", "--resume", "--num-epochs", &epochs.to_string()], folder);
    let output = python(READ).unwrap();
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    assert_eq!(found.as_object().unwrap().len(), 2);
    for run in ["whole", "killed"] {
        let lines = std::fs::read_to_string(folder.join("runs").join(run).join("metrics.jsonl")).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let tags = found[run].as_object().unwrap();
        for tag in [
            "step/loss",
            "step/gap",
            "epoch/loss_per_pair",
            "dev/rsum",
            "dev/image_to_text/r1",
            "dev/hardest_percentile",
        ] {
            assert!(tags.contains_key(tag), "{run}: {tag}");
        }
        for (tag, scalars) in tags {
            let (kind, path) = tag.split_once('/').unwrap();
            let of_tag = |line: &Value| {
                let place = if kind == "dev" && path != "hardest_percentile" { &line["dev"] } else { line };
                #[allow(clippy::cast_possible_truncation)] // TensorBoard has f32
                let value = place.pointer(&format!("/{path}"))?.as_f64()? as f32;
                (kind == "dev" || line["event"] == kind).then(|| json!([line["time"], line["step"], f64::from(value)]))
            };
            assert_eq!(*scalars, lines.iter().filter_map(of_tag).collect::<Value>(), "{run}: {tag}");
        }
    }
}

#[test]
fn permissions_and_names_are_respected() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&as_refs(&train("run", "1", &[])), folder);
    let mode = |name: &str| std::fs::metadata(folder.join("run").join(name)).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(folder.join("run/last.safetensors"), PermissionsExt::from_mode(0o640)).unwrap();
    let output = in_bash("umask 077; VSEPP train --run run --resume --num-epochs 2", folder);
    assert!(output.status.success());
    assert_eq!(mode("last.safetensors"), 0o640, "that of the file before");
    let output = in_bash(&format!("umask 077; VSEPP {}", train("private", "1", &[]).join(" ")), folder);
    assert!(output.status.success());
    for name in FILES {
        let path = folder.join("private").join(name);
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }

    // Names that are not UTF-8, that have spaces, that begin with a dash.
    let name = OsStr::from_bytes(b"r\xff un");
    let args = train("x", "1", &["--json"]);
    let args: Vec<&OsStr> = args.iter().map(|arg| if arg == "x" { name } else { OsStr::new(arg) }).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_vsepp")).args(&args).current_dir(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap();
    for name in ["my run", "-x", "it's"] {
        let mut args = train("x", "1", &[]);
        let at = args.iter().position(|arg| arg == "--run").unwrap();
        args.splice(at..at + 2, [format!("--run={name}")]);
        let shown = ok(&as_refs(&args), folder);
        let command = shown.lines().find_map(|line| line.split_once("vsepp eval ")).unwrap().1.to_owned();
        let output = in_bash(&format!("VSEPP eval {command}"), folder);
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    }
}

#[test]
fn large_numbers_are_saved_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let largest = u64::MAX.to_string();
    let flags = ["--seed", &largest, "--lr-update", &largest, "--val-step", &largest, "--log-step", &largest];
    let args = train("run", "1", &flags);
    let printed = ok(&[&as_refs(&args)[..], &["--print-config"]].concat(), folder);
    assert!(printed.contains("seed = 18446744073709551615"), "{printed}");
    std::fs::write(folder.join("c.toml"), &printed).unwrap();
    assert_eq!(ok(&["train", "--config", "c.toml", "--print-config"], folder), printed);
    let shown = json(&["train", "--config", "c.toml", "--print-config", "--json"], folder);
    assert_eq!(shown["seed"].as_u64(), Some(u64::MAX));
    ok(&as_refs(&args), folder);
    assert_eq!(std::fs::read_to_string(folder.join("run/config.toml")).unwrap(), printed);
    assert_eq!(ok(&["train", "--run", "run", "--resume", "--print-config"], folder), printed);
    ok(&["train", "--run", "run", "--resume", "--num-epochs", "2"], folder);
    refused(
        &["train", "--run", "run", "--resume", "--seed", "18446744073709551614"],
        folder,
        &["seed = 18446744073709551614"],
    );
    let (checkpoint, ..) = Checkpoint::read(&folder.join("run/last.safetensors")).unwrap();
    assert_eq!((checkpoint.config.seed, checkpoint.progress.epoch), (u64::MAX, 2));
    // A training that runs until it is stopped.
    let mut child = start(&saving("endless", &largest, &[]), folder);
    wait_for(|| folder.join("endless/best.safetensors").exists());
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn settings_from_a_file_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    std::fs::write(folder.join("c.toml"), "word_dim = 8\nmargin = -0.5\n").unwrap();
    let args = ["train", "--data", "data", "--run", "run", "--config", "c.toml"];
    refused(&args, folder, &["error: c.toml:2: margin = -0.5: expected a number ≥ 0"]);
    let output = vsepp(&[&args[..], &["--margin", "-0.6"]].concat(), folder);
    assert!(text(&output.stderr).starts_with("error: margin = -0.6"), "{}", text(&output.stderr));
    std::fs::write(folder.join("c.toml"), "word_dim = 8\nmargin = \"wide\"\n").unwrap();
    refused(&args, folder, &["c.toml", "line 2", "margin"]);
    assert!(!folder.join("run").exists());
}

/// A file of one tensor whose metadata describe any model.
fn describing(path: &PathBuf, spoil: impl Fn(&mut Value)) {
    let bytes = std::fs::read(path).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut about: Value = serde_json::from_str(header["__metadata__"]["vsepp"].as_str().unwrap()).unwrap();
    spoil(&mut about);
    header["__metadata__"]["vsepp"] = about.to_string().into();
    let header = header.to_string().into_bytes();
    let all = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]].concat();
    std::fs::write(path, all).unwrap();
}

#[test]
fn a_model_that_is_only_described_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&as_refs(&train("run", "1", &[])), folder);
    let path = folder.join("run/best.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for (size, words) in [
        (Value::from(u64::MAX), "parameters"),
        (Value::from(500_000_000), "parameters"),
        (Value::from(30_000_000), "tensors expected but not found"),
        (Value::from(10_000), "tensors expected but not found"),
        (Value::from(0), "embed_size = 0: expected at least 1"),
        (Value::from(-1), "not a checkpoint of this version"),
    ] {
        std::fs::write(&path, &whole).unwrap();
        describing(&path, |about| {
            // With a caption projection, D may be any number.
            about["architecture"]["caption_projection"] = true.into();
            about["architecture"]["embed_size"] = size.clone();
        });
        // An address space of 400 MB: the program can start, but 10⁹ parameters do not fit.
        let script = "ulimit -v 1000000; VSEPP eval --run run --checkpoint run/best.safetensors --threads 1";
        let output = in_bash(script, folder);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(words), "{size}: {}", text(&output.stderr));
    }
}

#[test]
fn a_run_needs_neither_the_old_place_of_its_data_nor_the_file_of_its_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    ok(&["vocab", "build", "--data", "data", "--word-threshold", "1", "--out", "v.json"], folder);
    ok(&as_refs(&train("run", "2", &["--vocab-path", "v.json"])), folder);
    std::fs::remove_file(folder.join("v.json")).unwrap();
    std::fs::rename(folder.join("data"), folder.join("moved")).unwrap();
    // There is no further step, so best.safetensors still has the old path.
    ok(&["train", "--run", "run", "--resume", "--data", "moved"], folder);
    ok(&["eval", "--run", "run"], folder);
}

#[test]
fn a_lock_that_is_not_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    std::fs::create_dir(folder.join("run")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("run/.vsepp-lock")).status().unwrap().success());
    refused(&as_refs(&train("run", "1", &[])), folder, &[".vsepp-lock", "expected a regular file or none"]);
}
