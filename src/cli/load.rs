//! A run that has been trained, and the split that a command works on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ndarray::Array2;
use vsepp::data::{Source, Split, Vocabulary};
use vsepp::escape;
use vsepp::files::check_target;
use vsepp::model::Vse;
use vsepp::report::thousands;
use vsepp::train::{Checkpoint, RunFolder, check_vocabulary, load_model};

use super::{busy, note};

/// Which run, which data.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// Folder of the data [default: the data that the run was trained on]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Split of the data
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub(crate) split: String,
    /// `best` or `last` of the run, or a checkpoint's file
    #[arg(long, value_name = "WHICH", default_value = "best")]
    pub(crate) checkpoint: String,
}

/// A model with its vocabulary.
pub(crate) struct Loaded {
    pub(crate) model: Vse<f32>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) checkpoint: Checkpoint,
}

/// Joint embeddings of a split.
pub(crate) struct Embedded {
    pub(crate) split: Split,
    pub(crate) images: Array2<f32>,
    pub(crate) captions: Array2<f32>,
}

impl RunArgs {
    /// Reads model and vocabulary, and checks that they belong together.
    pub(crate) fn load(&self) -> Result<Loaded> {
        let run = RunFolder::at(&self.run);
        anyhow::ensure!(run.path().is_dir(), "{}: expected the folder of a run, found none", escape::path(run.path()));
        let path = match self.checkpoint.as_str() {
            "best" => run.best(),
            "last" => run.last(),
            file => PathBuf::from(file),
        };
        let (model, checkpoint) = load_model(&path)?;
        let vocabulary = Vocabulary::read(&run.vocabulary())?;
        check_vocabulary(&checkpoint, &vocabulary, &run.vocabulary())?;
        Ok(Loaded { model, vocabulary, checkpoint })
    }

    /// Reads the split and embeds it.
    pub(crate) fn embed(&self, loaded: &Loaded) -> Result<Embedded> {
        let data = self.data.clone().or_else(|| loaded.checkpoint.config.data.clone());
        let [split] = Source::new(data).splits([&self.split])?;
        split.notes.iter().for_each(|text| note(text));
        loaded.embed(split)
    }
}

impl Loaded {
    pub(crate) fn embed(&self, split: Split) -> Result<Embedded> {
        let bar = busy(format!(
            "embedding {} images and {} captions",
            thousands(split.images.nrows()),
            thousands(split.captions.len())
        ));
        let encoded = self.vocabulary.encode_all(&split.captions);
        let images = self.model.embed_images(split.images.view())?;
        let captions = self.model.embed_captions(&encoded.captions)?;
        bar.finish_and_clear();
        if encoded.unknown * 20 > encoded.words {
            note(&format!(
                "{}: {:.1} % of the words are not in the run's vocabulary",
                split.name,
                100.0 * encoded.unknown as f64 / encoded.words.max(1) as f64
            ));
        }
        Ok(Embedded { split, images, captions })
    }
}

/// **Errors** if a file would be overwritten and that was not allowed, or cannot be written at all:
/// to be called before the work.
pub(crate) fn check_free(path: &Path, force: bool) -> Result<()> {
    let target = check_target(path)?;
    anyhow::ensure!(force || !target.exists(), "{}: exists already; --force overwrites it", escape::path(path));
    Ok(())
}
