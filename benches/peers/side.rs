//! Processes that do the same work, one run for each line on their input.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Options, What};

/// A process that waits for lines.
pub(super) struct Side {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    ready: Ready,
}

#[derive(Deserialize)]
struct Ready {
    peer: String,
    version: String,
    threads: usize,
    /// What is timed and on which machine, from our side.
    #[serde(default)]
    about: Value,
}

/// A side's report of one run.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Round {
    pub(super) seconds: f64,
    pub(super) value: f64,
    pub(super) peak_rss_mb: Option<f64>,
}

/// A peer that did not run.
#[derive(Serialize)]
pub(super) struct Skipped {
    pub(super) peer: &'static str,
    pub(super) reason: String,
}

impl Side {
    /// A process of this crate's program, doing this work.
    pub(super) fn ours(options: &Options, work: &str, product: Option<&str>) -> Result<Self> {
        Self::start(program(options, work, product), options.threads())
    }

    fn start(mut command: Command, threads: usize) -> Result<Self> {
        command.arg("--threads").arg(threads.to_string());
        for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(variable, threads.to_string());
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.with_context(|| format!("cannot start {program}"))?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("no pipe")?).lines();
        let ready = Ready { peer: program, version: String::new(), threads, about: Value::Null };
        let mut side = Self { process, input, output, ready };
        side.ready = side.line()?;
        let found = side.ready.threads;
        ensure!(found == threads, "{}: expected {threads} thread(s), found {found}", side.name());
        Ok(side)
    }

    pub(super) fn name(&self) -> &str {
        &self.ready.peer
    }

    pub(super) fn version(&self) -> &str {
        &self.ready.version
    }

    pub(super) fn about(&self) -> &Value {
        &self.ready.about
    }

    /// The next line that it prints.
    fn line<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T> {
        let Some(line) = self.output.next() else { bail!("{} ended early; see its message above", self.name()) };
        let line = line?;
        serde_json::from_str(&line).with_context(|| format!("{} said: {line}", self.name()))
    }

    pub(super) fn run(&mut self) -> Result<Round> {
        writeln!(self.input.as_mut().context("no pipe")?, "run")?;
        self.line()
    }
}

/// This crate's program, for this work.
fn program(options: &Options, work: &str, product: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsepp"));
    command.args(["bench", "--serve", work, "--size", options.size()]).args(&options.sizes);
    if options.what == What::Encode {
        command.args(["--encode", &options.encode.to_string()]);
    }
    command.args(["--evaluate", &options.evaluate.to_string()]);
    if let Some(product) = product {
        command.args(["--product", product]);
    }
    if let Some(captions) = &options.captions {
        command.arg("--captions").arg(captions);
    }
    if options.avx2 {
        command.arg("--avx2");
    }
    command
}

/// Writes the file that the other sides read.
pub(super) fn write(options: &Options, product: Option<&str>, file: &Path) -> Result<()> {
    let status = program(options, options.what.served(), product).arg("--write").arg(file).status()?;
    ensure!(status.success(), "cannot write the data; see the message above");
    Ok(())
}

impl Drop for Side {
    /// The process ends when its input is closed.
    fn drop(&mut self) {
        drop(self.input.take());
        self.process.wait().ok();
    }
}

/// A peer that may be installed.
pub(super) struct Starter {
    /// Its name on the command line.
    pub(super) key: &'static str,
    program: Program,
}

enum Program {
    /// A script, its further arguments, and the packages that it imports.
    Python(&'static str, &'static [&'static str], &'static str),
    Candle,
    /// This crate's program, doing this work.
    Ours(&'static str),
}

/// What leaves AVX-512 unused in `NumPy` (`OpenBLAS`), `PyTorch` (with oneDNN and MKL) and JAX. Candle has no such switch.
const AVX2: [(&str, &str); 5] = [
    ("OPENBLAS_CORETYPE", "Haswell"),
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
    ("XLA_FLAGS", "--xla_cpu_max_isa=AVX2"),
];

impl Starter {
    /// The peers for this work.
    pub(super) fn all(what: What) -> Vec<Self> {
        let python = |key, script, more, packages| Self { key, program: Program::Python(script, more, packages) };
        match what {
            What::Step => vec![
                python("pytorch", "pytorch_step.py", &[], "torch numpy safetensors"),
                python("jax", "jax_step.py", &[], "jax numpy safetensors"),
                Self { key: "candle", program: Program::Candle },
            ],
            What::Encoder | What::Finetune => {
                let layouts: [(_, &[_]); 2] = if what == What::Encoder {
                    [("nchw", &[]), ("nhwc", &["--channels-last"])]
                } else {
                    [("nchw", &["--step"]), ("nhwc", &["--step", "--channels-last"])]
                };
                let packages = "torch torchvision numpy safetensors";
                layouts.map(|(key, more)| python(key, "pytorch_encoder.py", more, packages)).into()
            }
            What::Encode => vec![python("pytorch", "pytorch_encode.py", &[], "torch numpy safetensors")],
            What::Evaluate => vec![
                python("numpy", "evaluation_peers.py", &["--method", "numpy"], "numpy safetensors"),
                python("pytorch", "evaluation_peers.py", &["--method", "pytorch"], "torch numpy safetensors"),
                python("loop", "evaluation_peers.py", &["--method", "loop"], "numpy safetensors"),
            ],
            What::Product => vec![
                Self { key: "matrixmultiply", program: Program::Ours("matrixmultiply") },
                python("numpy", "product_peers.py", &["--method", "numpy"], "numpy safetensors"),
                python("pytorch", "product_peers.py", &["--method", "pytorch"], "torch numpy safetensors"),
            ],
        }
    }

    /// Starts the peer, or says why it cannot take part.
    pub(super) fn start(
        &self,
        options: &Options,
        product: Option<&str>,
        file: &Path,
    ) -> Result<std::result::Result<Side, Skipped>> {
        let skipped = |reason: String| Ok(Err(Skipped { peer: self.key, reason }));
        let mut command = match self.program {
            Program::Candle | Program::Ours(_) if options.avx2 => {
                return skipped("it has no switch that leaves AVX-512 unused".into());
            }
            Program::Ours(work) => return Side::ours(options, work, product).map(Ok),
            Program::Python(script, more, packages) => {
                let imports = format!("import {}", packages.replace(' ', ", "));
                if !succeeds(Command::new(python()).args(["-c", &imports])) {
                    let python = python().display().to_string();
                    return skipped(format!(
                        "not installed; {python} -m pip install {packages} (VSEPP_PYTHON names another Python)"
                    ));
                }
                let mut command = Command::new(python());
                command.arg(folder().join(script)).args(more);
                command
            }
            Program::Candle => {
                let mut build = candle("build");
                eprintln!("candle: building, if its crates are there");
                if !succeeds(build.arg("--offline")) {
                    let manifest = "benches/peers/candle/Cargo.toml";
                    return skipped(format!("not installed; cargo build --release --manifest-path {manifest}"));
                }
                let mut command = candle("run");
                command.args(["--offline", "--quiet", "--"]);
                command
            }
        };
        if options.avx2 {
            command.envs(AVX2);
        }
        command.arg("--batch").arg(file);
        Side::start(command, options.threads()).map(Ok)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

fn python() -> PathBuf {
    std::env::var_os("VSEPP_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

/// A cargo command for the candle peer, which is a separate package with its own crates.
fn candle(verb: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([verb, "--release", "--locked", "--manifest-path"]).arg(folder().join("candle/Cargo.toml"));
    command
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
