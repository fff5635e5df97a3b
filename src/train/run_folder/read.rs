//! Reads a run, even while it is being trained.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::files::hex;
use crate::files::{open_regular, read_text};
use crate::model::{Config, Vse};
use crate::train::checkpoint::{Checkpoint, FolderState, load_model};

pub(super) const CONFIG: &str = "config.toml";
pub(super) const VOCABULARY: &str = "vocab.json";
pub(super) const METRICS: &str = "metrics.jsonl";
/// The figures of `metrics.jsonl`, for TensorBoard, which opens files of such names.
pub(super) const EVENTS: &str = "events.out.tfevents.vsepp";
pub(super) const LAST: &str = "last.safetensors";
pub(super) const BEST: &str = "best.safetensors";
/// The figures of the best model, which are there once the training has ended.
pub(super) const TEST: &str = "test.json";
pub(super) const FILES: [&str; 7] = [CONFIG, VOCABULARY, METRICS, EVENTS, LAST, BEST, TEST];

/// A complete checkpoint whose files are being moved to their places.
pub(super) const COMMIT: &str = ".vsepp-commit";

/// A run's files, to be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunFolder {
    pub(super) path: PathBuf,
}

/// Which model of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The model of the best epoch by rsum on the dev split.
    Best,
    /// The model of the newest checkpoint.
    Last,
}

impl RunFolder {
    /// The run in this folder, which need not exist yet.
    #[must_use]
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// Where `config.toml` is now.
    #[must_use]
    pub(crate) fn config(&self) -> PathBuf {
        self.find(CONFIG)
    }
    /// Where `vocab.json` is now.
    #[must_use]
    pub(crate) fn vocabulary(&self) -> PathBuf {
        self.find(VOCABULARY)
    }
    /// Where `metrics.jsonl` is now.
    #[must_use]
    pub(crate) fn metrics(&self) -> PathBuf {
        self.find(METRICS)
    }
    /// Where `last.safetensors` is now.
    #[must_use]
    pub(crate) fn last(&self) -> PathBuf {
        self.find(LAST)
    }
    /// Where `best.safetensors` is now.
    #[must_use]
    pub(crate) fn best(&self) -> PathBuf {
        self.find(BEST)
    }

    /// Where `test.json` is now.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn test(&self) -> PathBuf {
        self.find(TEST)
    }

    /// The path in `.vsepp-commit` if the file is there, otherwise its place in the folder.
    fn find(&self, name: &str) -> PathBuf {
        let committed = self.path.join(COMMIT).join(name);
        if committed.exists() { committed } else { self.path.join(name) }
    }

    /// Reads a file where it is, even if it is moved to its place in the meantime.
    fn read<T>(&self, name: &str, read: impl Fn(&Path) -> Result<T>) -> Result<T> {
        let path = self.find(name);
        read(&path).or_else(|error| if path.exists() { Err(error) } else { read(&self.find(name)) })
    }

    /// The settings of the run, unchecked.
    ///
    /// # Errors
    ///
    /// If `config.toml` is missing or is not a file of settings.
    pub(crate) fn read_config(&self) -> Result<Config> {
        self.read(CONFIG, |path| {
            let text = read_text(path, Config::LONGEST)?;
            toml::from_str(&text).map_err(|e| Error::file(path, e.to_string()))
        })
    }

    /// The vocabulary of the run.
    ///
    /// # Errors
    ///
    /// As [`Vocabulary::read`].
    pub(crate) fn read_vocabulary(&self) -> Result<Vocabulary> {
        self.read(VOCABULARY, Vocabulary::read)
    }

    /// A model of the run with its vocabulary, both from one checkpoint, even while the run is being trained.
    ///
    /// # Errors
    ///
    /// If a file is missing, damaged, or belongs to another checkpoint than `last.safetensors`.
    pub(crate) fn load(&self, which: Which) -> Result<(Vse<f32>, Checkpoint, Vocabulary)> {
        /// A checkpoint takes longer to write than to read, so this many tries are never needed.
        const TRIES: usize = 1000;
        for _ in 0..TRIES {
            let before = self.manifest();
            let found = match &before {
                Ok(manifest) => self.load_once(which, manifest.as_ref()),
                Err(error) => Err(Error::mismatch(error.to_string())),
            };
            // If a checkpoint was saved in the meantime, some files may be old and some new: try again.
            match (before, self.manifest()) {
                (Ok(before), Ok(after)) if before == after => return found,
                (Err(before), Err(after)) if before.to_string() == after.to_string() => return found,
                _ => {}
            }
        }
        Err(Error::file(&self.path, "a new checkpoint was saved during every attempt to read the run: try again later"))
    }

    fn load_once(&self, which: Which, manifest: Option<&Checkpoint>) -> Result<(Vse<f32>, Checkpoint, Vocabulary)> {
        let state = manifest.and_then(|manifest| manifest.folder.as_ref());
        let (model, checkpoint) = match which {
            Which::Last => self.read(LAST, load_model)?,
            Which::Best => {
                if state.is_some_and(|state| state.best.is_none()) {
                    let problem = "the run has no best model yet, because no epoch has ended; last.safetensors has its newest model";
                    return Err(Error::file(&self.path, problem));
                }
                let (model, best) = self.read(BEST, load_model)?;
                if let Some(manifest) = manifest {
                    check_best(manifest, &best).map_err(|problem| Error::file(&self.best(), problem))?;
                }
                (model, best)
            }
        };
        let vocabulary = self.read_vocabulary()?;
        checkpoint.check_vocabulary(&vocabulary, &self.vocabulary())?;
        Ok((model, checkpoint, vocabulary))
    }

    /// The metadata of `last.safetensors`; none if there is no such file.
    pub(super) fn manifest(&self) -> Result<Option<Checkpoint>> {
        match self.read(LAST, Checkpoint::read_head) {
            Err(_) if !self.last().exists() => Ok(None),
            other => other.map(Some),
        }
    }

    /// The first of a run's files that exists.
    pub(super) fn first_file(&self) -> Option<&'static str> {
        FILES.into_iter().find(|name| self.find(name).symlink_metadata().is_ok())
    }
}

/// Checks that `best.safetensors` is the one that belongs to `last.safetensors`.
pub(super) fn check_best(last: &Checkpoint, best: &Checkpoint) -> std::result::Result<(), String> {
    let Some(state) = &last.folder else { return Ok(()) };
    let expected = state.best.as_deref().unwrap_or("none");
    if expected != best.digest() {
        return Err(format!(
            "it does not belong to last.safetensors: expected the file with the digest {expected}, found {}",
            best.digest()
        ));
    }
    if last.progress.best != best.progress.best {
        return Err("its best epoch and score are not those that last.safetensors has".into());
    }
    Ok(())
}

/// The hash of the lines that belong to the checkpoint; none if there is no such file.
pub(super) fn read_metrics(path: &Path, files: &FolderState) -> Result<Option<Sha256>> {
    let differs = |problem: String| {
        Error::file(
            path,
            format!(
                "{problem}; the file was changed after the checkpoint: restore it, or move it away to begin a new one"
            ),
        )
    };
    if !path.exists() {
        return Ok(None);
    }
    let (file, length) = open_regular(path)?;
    let bytes = files.metrics_bytes;
    if length < bytes {
        return Err(differs(format!("expected at least the {bytes} bytes that last.safetensors has, found {length}")));
    }
    let mut file = file.take(bytes);
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block).map_err(|e| Error::io(path, "read", e))? {
            0 => break,
            n => hash.update(&block[..n]),
        }
    }
    let found = hex(&hash.clone().finalize());
    if found != files.metrics_sha256 {
        return Err(differs(format!(
            "its first {bytes} bytes: expected SHA-256 {}, found {found}",
            files.metrics_sha256
        )));
    }
    Ok(Some(hash))
}
