//! Command lines of the original: its spelling, and its flags that have other names here.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};

use super::Cli;
use super::load::run_of;
use super::quote::shell_quote;

/// Flags may be spelled with underscores: `--num_epochs` is `--num-epochs`. Values do not change.
pub(super) fn with_hyphens(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut flags = true;
    let spell = |arg: OsString| {
        flags &= arg != "--";
        if flags { with_hyphen(arg) } else { arg }
    };
    args.map(spell).collect()
}

fn with_hyphen(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text) if text.starts_with("--") && text.contains('_') => {
            let (name, value) = text.find('=').map_or((text, ""), |at| text.split_at(at));
            (name.replace('_', "-") + value).into()
        }
        _ => arg,
    }
}

/// This program's replacement for a flag of another program.
enum Here {
    /// A flag with another name and the same value.
    Flag(&'static str),
    /// This text instead; the value is dropped.
    Instead(&'static str),
    /// Nothing is needed, for this reason.
    Nothing(&'static str),
    /// In the original the folder of the data is given in two parts.
    DataPath,
    DataName,
}

/// A flag that this program does not have.
struct Foreign {
    name: &'static str,
    /// Whether a value follows.
    value: bool,
    here: Here,
}

/// Why flags of the loader are not needed.
const WORKERS: &str = "a separate thread prepares the batches; --threads N sets the number of cores for computing";

/// Flags of the original and of programs derived from it.
const FOREIGN: [Foreign; 22] = [
    Foreign { name: "--data-path", value: true, here: Here::DataPath },
    Foreign { name: "--data-name", value: true, here: Here::DataName },
    Foreign { name: "--logger-name", value: true, here: Here::Flag("--run") },
    Foreign { name: "--model-name", value: true, here: Here::Flag("--run") },
    Foreign { name: "--name", value: true, here: Here::Flag("--run") },
    Foreign { name: "--output-dir", value: true, here: Here::Flag("--run") },
    Foreign { name: "--save-dir", value: true, here: Here::Flag("--run") },
    Foreign { name: "--lr", value: true, here: Here::Flag("--learning-rate") },
    Foreign { name: "--lr-rate", value: true, here: Here::Flag("--learning-rate") },
    Foreign { name: "--epochs", value: true, here: Here::Flag("--num-epochs") },
    Foreign { name: "--vocab", value: true, here: Here::Flag("--vocab-path") },
    Foreign { name: "--threshold", value: true, here: Here::Flag("--word-threshold") },
    Foreign { name: "--sum-violations", value: false, here: Here::Instead("--sum-violation") },
    Foreign { name: "--model-path", value: true, here: Here::Nothing("evaluation takes a run: --run RUN") },
    Foreign { name: "--fold5", value: false, here: Here::Instead("--folds 5") },
    Foreign { name: "--workers", value: true, here: Here::Nothing(WORKERS) },
    Foreign { name: "--num-workers", value: true, here: Here::Nothing(WORKERS) },
    Foreign { name: "--reset-train", value: false, here: Here::Instead("--statistics train") },
    Foreign { name: "--cnn-type", value: true, here: Here::Flag("--encoder") },
    Foreign { name: "--use-restval", value: false, here: Here::Instead("--restval") },
    Foreign { name: "--gpu", value: true, here: Here::Nothing("this program computes on the CPU") },
    Foreign { name: "--device", value: true, here: Here::Nothing("this program computes on the CPU") },
];

/// What to type instead of a command line with flags of other programs; `None` if it has none. One answer
/// covers all of them.
pub(super) fn answer(args: &[OsString]) -> Option<anyhow::Error> {
    let command = args.iter().skip(1).position(is_command).map(|at| at + 1)?;
    let name = args[command].to_str()?;
    if name == "evalrank" {
        return Some(evalrank(&args[command + 1..]));
    }
    let mut typed = Typed { args: args[..=command].to_vec(), ..Typed::default() };
    let mut rest = args[command + 1..].iter().peekable();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            typed.args.push(arg.clone());
            typed.args.extend(rest.cloned());
            break;
        }
        let text = arg.to_str().unwrap_or_default();
        let (spelled, attached) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value.into())));
        let flag = &*spelled.replace('_', "-");
        if name == "train" && flag == "--resume" {
            // It takes no value here, and `train` has no positional arguments.
            let file = attached.or_else(|| rest.next_if(|next| !is_flag(next)).cloned());
            match file {
                Some(file) => typed.resume(file),
                None => typed.args.push(arg.clone()),
            }
            continue;
        }
        let Some(foreign) = FOREIGN.iter().find(|foreign| foreign.name == flag && !is_known(name, flag)) else {
            typed.args.push(with_hyphen(arg.clone()));
            continue;
        };
        let value: Option<OsString> =
            attached.or_else(|| rest.next_if(|next| foreign.value && !is_flag(next)).cloned());
        typed.is_original |= name == "train" && ["--data-path", "--data-name", "--logger-name"].contains(&flag);
        typed.replace(foreign, spelled, value);
    }
    typed.answer_all()
}

/// Whether an argument is a flag, and not a negative number.
fn is_flag(arg: &OsString) -> bool {
    let text = arg.to_string_lossy();
    text.len() > 1 && text.starts_with('-') && text.parse::<f64>().is_err()
}

fn is_command(arg: &OsString) -> bool {
    arg == "evalrank" || Cli::command().get_subcommands().any(|command| arg == command.get_name())
}

fn is_known(command: &str, flag: &str) -> bool {
    let cli = Cli::command();
    let known = |command: &clap::Command| command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
    cli.find_subcommand(command).is_some_and(|command| known(command) || command.get_subcommands().any(known))
}

/// A command line while it is translated into this program's flags.
#[derive(Default)]
struct Typed {
    args: Vec<OsString>,
    lines: String,
    data_path: Option<OsString>,
    data_name: Option<OsString>,
    /// A flag of the original's `train.py` that its relatives do not share.
    is_original: bool,
    /// The line cannot be translated completely.
    lost: bool,
}

impl Typed {
    fn line(&mut self, flag: &str, value: Option<&OsString>, answer: &str) {
        let value = value.map(|value| format!(" {}", quote_word(value))).unwrap_or_default();
        let _ = write!(self.lines, "\n  {flag}{value}: {answer}");
    }

    fn replace(&mut self, foreign: &Foreign, spelled: &str, value: Option<OsString>) {
        match foreign.here {
            Here::Flag(name) => {
                let shown = value.as_ref().map(|value| format!("{name} {}", quote_word(value)));
                self.line(spelled, value.as_ref(), &shown.unwrap_or_else(|| name.to_owned()));
                self.args.push(name.into());
                self.args.extend(value);
            }
            Here::Instead(words) => {
                self.line(spelled, None, words);
                self.args.extend(words.split(' ').map(OsString::from));
            }
            Here::Nothing(why) => self.line(spelled, value.as_ref(), &format!("leave it out; {why}")),
            Here::DataPath => self.data_path = value,
            Here::DataName => self.data_name = value,
        }
    }

    fn resume(&mut self, file: OsString) {
        let answer = match run_of(Path::new(&file)) {
            Some(run) => {
                let answer = format!("--run {} --resume", shell_quote(run));
                self.args.extend(["--run".into(), run.into(), "--resume".into()]);
                answer
            }
            None if Path::new(&file).join("config.toml").is_file() => {
                let answer = format!("--run {} --resume", shell_quote(&file));
                self.args.extend(["--run".into(), file.clone(), "--resume".into()]);
                answer
            }
            None => {
                self.lost = true;
                "--run RUN --resume continues a run of this program, given by its folder; a checkpoint of another \
                 program lacks what resuming needs (Adam's moments, the position in the epoch)"
                    .to_owned()
            }
        };
        self.line("--resume", Some(&file), &answer);
    }

    /// Adds the original's default loss if the command names no loss: it is the one default that differs.
    fn name_the_loss(&mut self) {
        let named = ["--max-violation", "--sum-violation", "--preset", "--resume", "--config"];
        if self.is_original
            && !self
                .args
                .iter()
                .any(|arg| arg.to_str().is_some_and(|arg| named.contains(&arg.split('=').next().unwrap_or_default())))
        {
            self.line(
                "no --max_violation",
                None,
                "--sum-violation, the original's default (here it is --max-violation)",
            );
            self.args.push("--sum-violation".into());
        }
    }

    fn answer_all(mut self) -> Option<anyhow::Error> {
        if self.data_path.is_some() || self.data_name.is_some() {
            let (path, name) = (self.data_path.take(), self.data_name.take());
            // `precomp` is the original's default.
            let folder = Path::new(path.as_deref().unwrap_or("DIR".as_ref()))
                .join(name.as_deref().unwrap_or("precomp".as_ref()));
            self.lost |= path.is_none() || name.is_none();
            let flags: Vec<&str> = [("--data_path", &path), ("--data_name", &name)]
                .iter()
                .filter(|(_, v)| v.is_some())
                .map(|(f, _)| *f)
                .collect();
            let answer = format!("--data {}, the folder that holds the files", shell_quote(&folder));
            self.line(&flags.join(" and "), None, &answer);
            self.args.extend(["--data".into(), folder.into()]);
        }
        if self.lines.is_empty() {
            return None;
        }
        self.name_the_loss();
        let mut message = format!("these flags of other programs have other names here:{}", self.lines);
        if !self.lost && Cli::try_parse_from(&self.args).is_ok() {
            let command: Vec<String> = self.args[1..].iter().map(quote_word).collect();
            let _ = write!(message, "\nSo type:\n  vsepp {}", command.join(" "));
        }
        Some(anyhow::anyhow!(message))
    }
}

/// Quotes a word of a command. A flag keeps its dashes, unlike a path that begins with one.
fn quote_word(arg: &OsString) -> String {
    match arg.to_str().and_then(|text| text.strip_prefix("--")) {
        Some(flag) => format!("--{}", if flag.is_empty() { String::new() } else { shell_quote(flag) }),
        None if arg.to_string_lossy().parse::<f64>().is_ok() => arg.to_string_lossy().into_owned(),
        None => shell_quote(arg),
    }
}

/// `evalrank(model_path, data_path, split, fold5)`, the original's function.
fn evalrank(rest: &[OsString]) -> anyhow::Error {
    let run = rest.iter().find(|arg| !is_flag(arg)).and_then(|file| run_of(Path::new(file)));
    let run = run.map_or_else(|| "RUN".to_owned(), shell_quote);
    anyhow::anyhow!(
        "evalrank is the original's function; here it is\n  vsepp eval --run {run} --data DIR --split test\n\
         and --folds 5 for its fold5=True. For a checkpoint of the original, add --checkpoint FILE: the message then says how to \
         convert it"
    )
}

/// A suggestion far from what was typed would mislead: `--lr` is not `--lr-update`.
pub(super) fn without_far_tips(mut error: clap::Error) -> clap::Error {
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let pairs = [
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ];
    for (typed, tip) in pairs {
        let (typed, tips) = (text(&error, typed), text(&error, tip));
        let near = |tip: &&String| typed.iter().any(|typed| is_near(typed, tip));
        let near: Vec<String> = tips.iter().filter(near).cloned().collect();
        if let [only] = &near[..] {
            error.insert(tip, ContextValue::String(only.clone()));
        } else if !near.is_empty() {
            error.insert(tip, ContextValue::Strings(near));
        } else if error.remove(tip).is_some() {
            // The usage line shows the flag that the tip named.
            error.remove(ContextKind::Usage);
        }
    }
    error
}

/// Whether at most one letter in four differs.
fn is_near(typed: &str, meant: &str) -> bool {
    let bare = |text: &str| text.trim_start_matches('-').split(['=', ' ']).next().unwrap_or_default().to_owned();
    let (typed, meant) = (bare(typed), bare(meant));
    4 * distance(&typed, &meant) <= typed.chars().count().max(meant.chars().count())
}

/// How many letters must be added, removed or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let changed = above + usize::from(x != y);
            above = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(above + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn flags_lose_their_underscores_and_values_keep_them() {
        let line = "vsepp train --num_epochs 3 --vocab_path=my_vocab.json --run my_run -- --a_b";
        assert_eq!(
            with_hyphens(args(line).into_iter()).join(" ".as_ref()),
            "vsepp train --num-epochs 3 --vocab-path=my_vocab.json --run my_run -- --a_b"
        );
    }

    #[test]
    fn a_whole_command_line_of_the_original_is_answered_at_once() {
        let line =
            "vsepp train --data_path D --data_name coco_precomp --logger_name runs/x --max_violation --workers 10";
        let message = answer(&args(line)).unwrap().to_string();
        assert!(message.ends_with("vsepp train --run runs/x --max-violation --data D/coco_precomp"), "{message}");
        assert!(
            message.contains("--workers 10: leave it out") && message.contains("--logger_name runs/x: --run runs/x")
        );
        let message = answer(&args("vsepp train --logger_name x --no_imgnorm")).unwrap().to_string();
        assert!(message.ends_with("vsepp train --run x --no-imgnorm --sum-violation"), "{message}");
        assert!(answer(&args("vsepp train --margin 0.1 --num_epochs 3 --threads 2")).is_none());
        assert!(
            answer(&args("vsepp vocab build --data D --out v.json --threshold 4"))
                .unwrap()
                .to_string()
                .contains("--word-threshold 4")
        );
        assert!(answer(&args("vsepp")).is_none() && answer(&args("vsepp --lr")).is_none());
        let message = answer(&args("vsepp train --lr -1")).unwrap().to_string();
        assert!(message.ends_with("vsepp train --learning-rate -1"), "{message}");
    }

    #[test]
    fn every_answer_is_a_flag_of_this_program() {
        let cli = Cli::command();
        let known = |flag: &str| cli.get_subcommands().any(|command| is_known(command.get_name(), flag));
        for foreign in &FOREIGN {
            assert!(!is_known("train", foreign.name), "{} is this program's own", foreign.name);
            if let Here::Flag(words) | Here::Instead(words) = foreign.here {
                assert!(known(words.split(' ').next().unwrap()), "{words}");
            }
        }
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, expected) in [("", "", 0), ("lr", "lr-update", 7), ("kitten", "sitting", 3), ("abc", "", 3)] {
            assert_eq!(distance(a, b), expected);
        }
        assert!(is_near("--num-epoch", "--num-epochs") && is_near("--learnin-rate", "--learning-rate"));
        assert!(!is_near("--lr", "--lr-update") && !is_near("--name", "--num-layers") && !is_near("test", "train"));
    }
}
