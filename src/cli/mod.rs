//! The command line: one file per command. Results go to stdout, progress and warnings to stderr.
//!
//! Exit codes: 0 done, 1 a check failed, 2 wrong usage or input, 130 interrupted (and saved).

mod bench;
mod compare;
mod embed;
mod eval;
mod features;
mod foreign;
mod fuzz;
mod golden;
mod gradcheck;
mod load;
mod original;
mod profile;
mod quote;
mod search;
mod series;
mod settings;
mod shell;
mod signals;
mod study;
mod tested;
mod train;
mod vocab;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::escape;
use crate::report::say;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// VSE++ as an executable specification: images and sentences in one space, on the CPU.
#[derive(Parser, Debug)]
#[command(
    name = "vsepp",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 a check failed, 2 wrong usage or input, 130 interrupted (and saved).\n\
                  Results go to stdout, progress and warnings to stderr."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Threads to use [default: all cores; for steps of training, as many as are fastest]; the results do not
    /// depend on it
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Train a model, on a folder of data or on the built-in scenes
    Train(Box<train::Args>),
    /// Compute R@K, median and mean rank, of a run or of embeddings from any program
    Eval(eval::Args),
    /// Write the joint embeddings of a split to a file
    Embed(embed::Args),
    /// Compute feature vectors of pictures with an image encoder, for train and eval
    Features(features::Args),
    /// Find images for a sentence, or captions for an image
    Search(search::Args),
    /// Train with several settings and seeds, and compare the results in a table and a figure
    Compare(Box<compare::Args>),
    /// Repeat a study of the paper: trainings, a table and a figure
    Study(Box<study::Args>),
    /// Build, show or convert a vocabulary
    Vocab(vocab::Args),
    /// Check every gradient by complex steps and Taylor remainders
    Gradcheck(gradcheck::Args),
    /// Check a backend against golden values, and find out where it goes wrong
    Golden(golden::Args),
    /// Time training, encoding and ranking, as shares of the machine's peak
    Bench(bench::Args),
    /// Print completions for a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write one for every command
    Man(shell::ManArgs),
}

/// A command's result as text and as JSON, and whether a check failed.
#[derive(Debug, Default)]
struct Output {
    text: String,
    json: Value,
    exit: u8,
}

impl Output {
    fn done(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, exit: 0 }
    }
}

/// Parses the arguments of the process, runs the command, prints its result, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let (result, json) = run();
    let output = match result {
        Ok(output) => output,
        Err(error) => {
            say(&format!("error: {error:#}"));
            return ExitCode::from(2);
        }
    };
    let text = if json { format!("{:#}\n", output.json) } else { output.text };
    // Text from untrusted files is displayed, never interpreted.
    let text = if json { escape::json(&text) } else { escape::text(&text) };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A closed pipe (`vsepp vocab show | head`) is not an error.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            say(&format!("error: cannot write to stdout: {e}"));
            ExitCode::from(2)
        }
        _ => ExitCode::from(output.exit),
    }
}

/// Parses the arguments and runs the command. Also returns whether the output is JSON.
fn run() -> (Result<Output>, bool) {
    signals::file_limit_is_an_error();
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(answer) = original::answer(&args) {
        return (Err(answer), false);
    }
    let cli = Cli::try_parse_from(original::with_hyphens(args.into_iter()))
        .unwrap_or_else(|error| end(&original::without_far_tips(error)));
    (dispatch(cli.command, cli.threads), cli.json)
}

/// Prints the help, the version, or what is wrong with the arguments, and exits.
fn end(error: &clap::Error) -> ! {
    let obeyed = |arg: OsString| arg.to_string_lossy().chars().any(escape::is_obeyed);
    if error.use_stderr() && std::env::args_os().any(obeyed) {
        // With colours, clap would print an argument without escaping it.
        say(error.to_string().trim_end());
        std::process::exit(2);
    }
    match error.print() {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            say(&format!("error: cannot write: {e}"));
            std::process::exit(2)
        }
        _ => std::process::exit(error.exit_code()),
    }
}

fn dispatch(command: Command, threads: Option<usize>) -> Result<Output> {
    if let Some(threads) = threads {
        anyhow::ensure!((1..=1024).contains(&threads), "--threads: expected 1 to 1024, found {threads}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().with_context(|| format!("cannot start {threads} threads"))?;
    }
    let own_pools = matches!(command, Command::Bench(_));
    let run = || match command {
        Command::Train(args) => train::run(*args, threads),
        Command::Compare(args) => compare::run(*args, threads),
        Command::Study(args) => study::run(*args, threads),
        Command::Eval(args) => eval::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Features(args) => features::run(args),
        Command::Search(args) => search::run(args),
        Command::Vocab(args) => vocab::run(args),
        Command::Gradcheck(args) => gradcheck::run(&args),
        Command::Golden(args) => golden::run(args),
        Command::Bench(args) => bench::run(args, threads),
        Command::Completions(args) => Ok(shell::completions(&args)),
        Command::Man(args) => shell::man(&args),
    };
    // Run on a thread of the pool: work spawned inside the pool allocates nothing and waits less.
    if own_pools { run() } else { rayon::scope(|_| run()) }
}

/// A warning, or something worth knowing.
fn note(text: &str) {
    say(&format!("note: {text}"));
}

/// A spinner during work, if stderr is a terminal.
fn busy(text: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(escape::name(&text).into_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A progress bar with the pictures of a second and the time left, if stderr is a terminal.
fn pictures_bar(total: usize) -> ProgressBar {
    let template = "  {bar:16} {human_pos}/{human_len} pictures  {per_sec:.1}  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
