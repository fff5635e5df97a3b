//! `vsepp vocab`

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::data::{Source, Vocabulary, tokenize_all};
use crate::escape;
use crate::files::write_atomically;
use crate::model::Config;
use crate::report::thousands;
use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::load::check_free;
use super::{Output, note};

/// Builds, shows or converts a vocabulary.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Count the words of the training captions and keep the frequent ones
    Build {
        /// Folder of the data [default: the built-in scenes]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// How often a word must occur
        #[arg(long, value_name = "N", default_value_t = Config::default().word_threshold)]
        word_threshold: usize,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace the file, if it is there already
        #[arg(long)]
        force: bool,
    },
    /// Print the words with their ids, or look some up
    Show {
        /// A vocabulary: vocab.json, or the original's JSON
        file: PathBuf,
        /// Words to look up [default: all words]
        words: Vec<String>,
    },
    /// Write a vocabulary in another format
    Convert {
        /// A vocabulary: vocab.json, or the original's JSON
        file: PathBuf,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Its format
        #[arg(long, value_enum)]
        to: Format,
        /// Replace the file, if it is there already
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// vocab.json of this program
    Vsepp,
    /// word2idx, idx2word, idx: what ports of the original read
    Original,
    /// One word per line, in the order of the ids
    Text,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    match args.action {
        Action::Build { data, word_threshold, out, force } => {
            anyhow::ensure!(word_threshold > 0, "--word-threshold: expected at least 1, found 0");
            check_free(&out, force)?;
            let [train] = Source::new(data).splits(["train"])?;
            train.notes.iter().for_each(|text| note(text));
            let tokens = tokenize_all(&train.captions);
            let vocabulary = Vocabulary::of_tokens(&tokens, word_threshold);
            let encoded = vocabulary.encode_tokens(&tokens);
            vocabulary.write(&out)?;
            let share = 100.0 * encoded.unknown as f64 / encoded.words.max(1) as f64;
            let text = format!(
                "{}: {} words; {share:.2} % of the {} words in {} training captions have no id of their own\n",
                escape::path(&out),
                thousands(vocabulary.len()),
                thousands(encoded.words),
                thousands(train.captions.len())
            );
            Ok(Output::done(text, summary(&out, &vocabulary)))
        }
        Action::Show { file, words } => {
            let vocabulary = Vocabulary::read(&file)?;
            if words.is_empty() {
                let mut text = String::new();
                for (id, word) in vocabulary.words().iter().enumerate() {
                    let _ = writeln!(text, "{id}\t{}", escape::name(word));
                }
                return Ok(Output::done(text, json!({ "words": vocabulary.words() })));
            }
            let ids: Vec<Option<u32>> = words.iter().map(|word| vocabulary.id(word)).collect();
            let shown = |id: Option<u32>| id.map_or_else(|| "not in the vocabulary".to_owned(), |id| id.to_string());
            let mut text = String::new();
            for (word, id) in words.iter().zip(&ids) {
                let _ = writeln!(text, "{}\t{}", escape::name(word), shown(*id));
            }
            let found: serde_json::Map<String, Value> =
                words.into_iter().zip(ids).map(|(w, id)| (w, json!(id))).collect();
            Ok(Output::done(text, json!(found)))
        }
        Action::Convert { file, out, to, force } => {
            check_free(&out, force)?;
            let vocabulary = Vocabulary::read(&file)?;
            let text = match to {
                Format::Vsepp => vocabulary.to_json(),
                Format::Original => vocabulary.to_original_json(),
                Format::Text => one_per_line(vocabulary.words()).with_context(|| escape::path(&file))?,
            };
            write_atomically(&out, text.as_bytes())?;
            Ok(Output::done(
                format!("{}: {} words\n", escape::path(&out), thousands(vocabulary.len())),
                summary(&out, &vocabulary),
            ))
        }
    }
}

/// # Errors
///
/// If a word contains a line break, with the first such word.
fn one_per_line(words: &[String]) -> Result<String> {
    for (id, word) in words.iter().enumerate() {
        anyhow::ensure!(!word.contains(['\n', '\r']), "word {id}: {word:?} has a line break, so it cannot be a line");
    }
    Ok(words.join("\n") + "\n")
}

fn summary(file: &Path, vocabulary: &Vocabulary) -> Value {
    json!({ "file": escape::json_path(file), "words": vocabulary.len(), "fingerprint": vocabulary.fingerprint() })
}
