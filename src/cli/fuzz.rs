//! `vsepp golden fuzz`

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::files::read_bytes;
use crate::golden::check::check_files;
use crate::golden::fuzz::{FuzzOptions, Ran, fuzz_with};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::json;

use super::Output;
use super::profile::ProfileName;
use super::quote::shell_quote;
use super::signals::stop_signal;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "The command is started with two more arguments: the folder of a suite, and the folder into which it \
                  writes\n<case>.safetensors or .npz. A program with other arguments is started by a shell:\n  \
                  vsepp golden fuzz --out DIR -- sh -c 'exec mine --in \"$0\" --to \"$1\"'\n\n\
                  Examples:\n  \
                  vsepp golden fuzz --seeds 1000 --out smallest -- python examples/backends/numpy_backend.py --precision f32\n  \
                  vsepp golden fuzz --programs gru_cell,loss --out smallest -- ./c_backend\n\n\
                  Exit codes: 0 no case failed, 1 a case failed, 2 wrong usage."
)]
pub(crate) struct Args {
    /// How many seeds; each gives a case of every program
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    first: u64,
    /// Only these programs: `gru_cell`, gru, embedding, linear, l2norm, scores, loss, optimiser or model
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    programs: Vec<String>,
    /// The precision in which the backend computes
    #[arg(long, value_enum, default_value = "f32")]
    profile: ProfileName,
    /// The folder to be made for the smallest case that fails: a suite, and in `found` what the command writes for it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the command may take for up to 200 cases, in seconds; then it is stopped, with all that it started
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// The command that computes a suite, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    anyhow::ensure!(args.timeout > 0, "--timeout: expected at least 1 second, found 0");
    let options = FuzzOptions {
        seeds: args.seeds,
        first: args.first,
        programs: args.programs,
        profile: args.profile.into(),
        out: args.out,
    };
    let bar = super::busy("computing random cases".into());
    let scratch = tempfile::tempdir().context("cannot make a folder for the results of the command")?;
    let backend = Backend {
        command: &args.command,
        limit: Duration::from_secs(args.timeout),
        log: scratch.path().join("log"),
        stop: stop_signal("stopping the command")?,
    };
    let mut starts = 0;
    let fuzzed = fuzz_with(&options, |suite| -> Result<Ran> {
        starts += 1;
        let smallest = suite.folder() == options.out;
        let found = if smallest { options.out.join("found") } else { scratch.path().join(starts.to_string()) };
        let (ended, late) = backend.start(suite.folder(), &found, &bar)?;
        let cases: Vec<_> = suite.manifest.cases.iter().collect();
        let checked = check_files(suite, &cases, &found, options.profile, None, |_| ())?;
        if !smallest {
            let _ = std::fs::remove_dir_all(&found);
        }
        Ok(Ran { checked, ended, late })
    });
    bar.finish_and_clear();
    if backend.stop.load(Ordering::Relaxed) {
        return Ok(Output { text: "stopped\n".into(), json: json!({ "interrupted": true }), exit: 130 });
    }
    let fuzzed = fuzzed?;
    let mut text = fuzzed.to_string();
    if let Some(failed) = &fuzzed.failed {
        let dir = shell_quote(&options.out);
        // The dashes of a flag stay at its beginning.
        let word = |word: &OsString| match word
            .to_str()
            .map(|text| text.split_at(text.len() - text.trim_start_matches('-').len()))
        {
            Some((dashes, rest)) if !rest.is_empty() => format!("{dashes}{}", shell_quote(rest)),
            _ => shell_quote(word),
        };
        let command: Vec<String> = args.command.iter().map(word).collect();
        let (command, profile) = (command.join(" "), options.profile);
        let _ = write!(
            text,
            "\nthis case again:\n  {command} {dir} {dir}/found\n  vsepp golden check {dir}/found --suite {dir} --profile {profile}\n\
             from its seed:\n  vsepp golden fuzz --first {} --seeds 1 --programs {} --profile {profile} --out DIR -- {command}\n",
            failed.seed,
            failed.program.name(),
        );
    }
    Ok(Output { text, json: serde_json::to_value(&fuzzed)?, exit: u8::from(!fuzzed.passed) })
}

/// A command that computes suites.
struct Backend<'a> {
    command: &'a [OsString],
    limit: Duration,
    /// What it prints.
    log: PathBuf,
    /// Whether the user wants to stop.
    stop: Arc<AtomicBool>,
}

impl Backend<'_> {
    /// Lets the command compute a suite; how it ended, if not well, and whether that was by the time limit.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or if the user wants to stop.
    fn start(&self, suite: &Path, found: &Path, bar: &ProgressBar) -> crate::Result<(Option<String>, bool)> {
        /// The last lines of what the command printed.
        const LINES: usize = 5;
        const PAUSE: Duration = Duration::from_millis(5);
        let io = |path: &Path, doing, e| crate::Error::io(path, doing, e);
        std::fs::create_dir_all(found).map_err(|e| io(found, "make", e))?;
        let log = File::create(&self.log).map_err(|e| io(&self.log, "create", e))?;
        let also = log.try_clone().map_err(|e| io(&self.log, "open", e))?;
        let (name, arguments) =
            self.command.split_first().ok_or_else(|| crate::Error::mismatch("expected a command"))?;
        let mut command = Command::new(name);
        command.args(arguments).arg(suite).arg(found).stdin(Stdio::null()).stdout(log).stderr(also);
        // Ctrl-C reaches this program alone, which then stops the group.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| io(Path::new(name), "start", e))?;
        let begun = Instant::now();
        let (how, late) = loop {
            match child.try_wait().map_err(|e| io(Path::new(name), "wait for", e))? {
                Some(status) if status.success() => return Ok((None, false)),
                Some(status) => break (status.to_string(), false),
                None if self.stop.load(Ordering::Relaxed) => {
                    kill_with_children(&mut child);
                    return Err(crate::Error::mismatch("stopped"));
                }
                None if begun.elapsed() > self.limit => {
                    kill_with_children(&mut child);
                    break (format!("stopped after {} s (--timeout)", self.limit.as_secs()), true);
                }
                None => std::thread::sleep(PAUSE),
            }
            bar.tick();
        };
        // What a command prints is for people: a log that is too long is left out.
        let printed = read_bytes(&self.log, 1 << 26).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed);
        let lines: Vec<&str> = printed.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("\n  | {line}"));
        Ok((Some(format!("the command ended badly: {how}{}", last.collect::<String>())), late))
    }
}

/// Ends a command that still runs, on Unix with its whole process group.
fn kill_with_children(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
