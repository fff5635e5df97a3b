//! Tests of the program from outside: commands, files, messages, exit codes.
#![cfg(unix)]

mod answers;
mod commands;
mod data_sets;
mod hostile;
mod pictures;
mod runs;
#[path = "../tensors/mod.rs"]
mod tensors;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::Array2;
use ndarray_npy::write_npy;
use serde_json::Value;

fn vsepp(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vsepp")).args(args).current_dir(folder).output().unwrap()
}

/// The program, with default signal handling. The tests may run under `nohup` or in the background of a
/// script, where signals are ignored, and an ignored signal stays ignored in a child process.
fn stoppable() -> Command {
    let program = env!("CARGO_BIN_EXE_vsepp");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // HUP is signal 1, INT 2 and TERM 15.
    if ignored.is_none_or(|ignored| ignored & (1 | 1 << 1 | 1 << 14) == 0) {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM", program]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs, expects success, returns stdout.
fn ok(args: &[&str], folder: &Path) -> String {
    let output = vsepp(args, folder);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(args: &[&str], folder: &Path) -> Value {
    serde_json::from_str(&ok(args, folder)).unwrap()
}

/// Runs, expects exit code 2, nothing on stdout, and all of some words on stderr.
fn refused(args: &[&str], folder: &Path, words: &[&str]) {
    let output = vsepp(args, folder);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "{args:?}: expected {word:?} in: {message}");
    }
}

const WORDS: [&str; 6] = ["red", "green", "blue", "round", "square", "tall"];

/// A data folder of 12 images, each shown by two of six words, with three captions each.
fn data(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    for split in ["train", "dev", "test"] {
        let mut images = Array2::<f32>::zeros((12, 6));
        let mut captions = String::new();
        for i in 0..12 {
            let (a, b) = (i % 6, (i * 5 + 1) % 6);
            (images[[i, a]], images[[i, b]]) = (1.0, 0.5 + i as f32 / 24.0);
            for form in ["A {a} and {b} thing.", "the {b} one is {a}", "{a}, {b}"] {
                captions += &form.replace("{a}", WORDS[a]).replace("{b}", WORDS[b]);
                captions.push('\n');
            }
        }
        write_npy(data.join(format!("{split}_ims.npy")), &images).unwrap();
        std::fs::write(data.join(format!("{split}_caps.txt")), captions).unwrap();
    }
    data
}

/// The arguments of a small training.
fn train(run: &str, epochs: &str, more: &[&str]) -> Vec<String> {
    let mut args = vec!["train", "--data", "data", "--run", run, "--num-epochs", epochs];
    args.extend(["--embed-size", "16", "--word-dim", "8", "--batch-size", "8", "--learning-rate", "1e-2"]);
    args.extend(more);
    args.into_iter().map(str::to_owned).collect()
}

fn as_refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
