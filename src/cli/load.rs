//! Loads a trained run, and the split that a command works on.

use std::path::{Path, PathBuf};

use crate::data::{Source, Split};
use crate::escape;
use crate::files::check_target;
use crate::report::thousands;
use crate::train::{Embedded, RunFolder, Trained, Which};
use anyhow::{Context, Result};
use clap::Args;

use super::quote::shell_quote;
use super::{busy, foreign, note, pictures_bar};

/// Which run, and which data.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// Folder or file of the data [default: the data that the run was trained on]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder of the pictures [default: those that the run was trained on, if it has an image encoder]
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Split of the data
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub(crate) split: String,
    /// `best` or `last` of the run, or the file of a checkpoint
    #[arg(long, value_name = "WHICH", default_value = "best")]
    pub(crate) checkpoint: String,
}

impl RunArgs {
    /// The best model of a run, and the test split of its data.
    pub(crate) fn test_of(run: PathBuf) -> Self {
        Self { run, data: None, images: None, split: "test".into(), checkpoint: "best".into() }
    }

    /// Reads model and vocabulary, and checks that they belong together.
    pub(crate) fn load(&self) -> Result<Trained> {
        check_run(&self.run)?;
        let run = RunFolder::at(&self.run);
        Ok(match self.checkpoint.as_str() {
            "best" => Trained::of_run(&run, Which::Best)?,
            "last" => Trained::of_run(&run, Which::Last)?,
            file => {
                let (model, checkpoint) = foreign::load(Path::new(file), &run)?;
                Trained::with_run(model, checkpoint, &run)?
            }
        })
    }

    /// Reads the split and embeds it.
    pub(crate) fn embed(&self, trained: &Trained) -> Result<Embedded> {
        embed(trained, self.split(trained)?)
    }

    /// The same with ten crops of each picture.
    pub(crate) fn embed_ten(&self, trained: &Trained) -> Result<Embedded> {
        let split = self.split(trained)?;
        let bar = pictures_bar(split.images().len());
        let encoded = trained.encode_ten(split, |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        embed(trained, encoded)
    }

    fn split(&self, trained: &Trained) -> Result<Split> {
        let source = trained.source(self.data.clone(), self.images.clone());
        let [split] = source.splits([&self.split]).map_err(|error| with_splits(error, &source, &self.split))?;
        split.notes.iter().for_each(|text| note(text));
        Ok(split)
    }
}

/// Embeds a split, with a note if many words are unknown.
pub(crate) fn embed(trained: &Trained, split: Split) -> Result<Embedded> {
    let bar = busy(format!(
        "embedding {} images and {} captions",
        thousands(split.images().len()),
        thousands(split.captions.len())
    ));
    let embedded = trained.embed_split(split)?;
    bar.finish_and_clear();
    if embedded.unknown_share > 0.05 {
        note(&format!(
            "{}: {:.1} % of the words are not in the run's vocabulary",
            embedded.split.name,
            100.0 * embedded.unknown_share
        ));
    }
    Ok(embedded)
}

/// # Errors
///
/// If this is not the folder of a run. For a file in one, the message names the folder.
pub(crate) fn check_run(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    anyhow::ensure!(path.is_file(), "{}: expected the folder of a run, found none", escape::path(path));
    let folder = run_of(path);
    let folder =
        folder.with_context(|| format!("{}: expected the folder of a run, found a file", escape::path(path)))?;
    anyhow::bail!(
        "{}: expected the folder of a run, found a file in one; the folder is {}",
        escape::path(path),
        shell_quote(folder)
    )
}

/// The folder of the run that contains a file.
pub(crate) fn run_of(file: &Path) -> Option<&Path> {
    let named = |folder: &Path| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.join("config.toml");
    let folder = file.ancestors().skip(1).take(2).find(|folder| named(folder).is_file())?;
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// If a split does not exist, the error names one that does.
fn with_splits(error: crate::Error, source: &Source, split: &str) -> anyhow::Error {
    const USUAL: [&str; 4] = ["test", "testall", "dev", "train"];
    match USUAL.into_iter().find(|name| source.has(name)) {
        Some(name) if !source.has(split) => anyhow::anyhow!("{error}; --split {name} selects an existing one"),
        _ => error.into(),
    }
}

/// # Errors
///
/// If the file exists, without `force`, or if it cannot be written. Commands call this before the work.
pub(crate) fn check_free(path: &Path, force: bool) -> Result<()> {
    let target = check_target(path)?;
    anyhow::ensure!(force || !target.exists(), "{}: already exists; --force overwrites it", escape::path(path));
    Ok(())
}
