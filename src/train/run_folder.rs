//! The folder of a run.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | every setting, to run it again |
//! | `vocab.json` | the vocabulary |
//! | `metrics.jsonl` | figures of steps, epochs and validations, one JSON object a line |
//! | `last.safetensors` | the newest checkpoint, to go on from |
//! | `best.safetensors` | the model of the best epoch by rsum on the dev split |

use std::path::{Path, PathBuf};

use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::files::{read_text, write_atomically};
use crate::model::{Config, ValidConfig};

/// Where a run keeps its files.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    const FILES: [&str; 5] = ["config.toml", "vocab.json", "metrics.jsonl", "last.safetensors", "best.safetensors"];

    /// Makes the folder and writes settings and vocabulary. With `force`, the files of an earlier run
    /// are set aside, as `*.old`, until [`Self::forget_old`] or [`Self::give_up`].
    ///
    /// **Errors** if there is a run already and not `force`, or if the disk refuses.
    pub fn create(path: &Path, config: &ValidConfig, vocabulary: &Vocabulary, force: bool) -> Result<Self> {
        let run = Self { path: path.into() };
        run.check_free(force)?;
        for name in Self::FILES.iter().filter(|name| path.join(name).exists()) {
            let file = path.join(name);
            std::fs::rename(&file, run.old(name)).map_err(|e| Error::io(&file, "set aside", e))?;
        }
        std::fs::create_dir_all(path).map_err(|e| Error::io(path, "make the folder", e))?;
        run.write_config(config)?;
        vocabulary.write(&run.vocabulary())?;
        Ok(run)
    }

    /// Writes `config.toml`, all or nothing.
    ///
    /// **Errors** if the disk refuses.
    pub fn write_config(&self, config: &ValidConfig) -> Result<()> {
        let toml = toml::to_string(config).map_err(|e| Error::file(&self.config(), e.to_string()))?;
        write_atomically(&self.config(), toml.as_bytes())
    }

    fn old(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.old"))
    }

    /// Whether there are files of an earlier run, set aside by [`Self::create`].
    #[must_use]
    pub fn replaced(&self) -> bool {
        Self::FILES.iter().any(|name| self.old(name).exists())
    }

    /// Removes what [`Self::create`] set aside: the new run stands.
    ///
    /// **Errors** if the disk refuses.
    pub fn forget_old(&self) -> Result<()> {
        remove_files(&Self::FILES.map(|name| self.old(name)))
    }

    /// Removes the new run, and puts back what [`Self::create`] set aside.
    ///
    /// **Errors** if the disk refuses.
    pub fn give_up(&self) -> Result<()> {
        self.remove()?;
        for name in Self::FILES.iter().filter(|name| self.old(name).exists()) {
            let old = self.old(name);
            std::fs::rename(&old, self.path.join(name)).map_err(|e| Error::io(&old, "put back", e))?;
        }
        Ok(())
    }

    /// Removes the run's files, and the folder if nothing else is in it.
    ///
    /// **Errors** if the disk refuses.
    fn remove(&self) -> Result<()> {
        remove_files(&Self::FILES.map(|name| self.path.join(name)))?;
        // Fails if there are other files, which are not ours.
        let _ = std::fs::remove_dir(&self.path);
        Ok(())
    }

    /// A folder that may not be there yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// **Errors** if a run is there already and not `force`.
    pub fn check_free(&self, force: bool) -> Result<()> {
        match Self::FILES.iter().find(|name| self.path.join(name).exists()) {
            Some(name) if !force => {
                let problem = format!(
                    "the folder has a run already ({name}); resume it, name another, or force it to be overwritten"
                );
                Err(Error::file(&self.path, problem))
            }
            _ => Ok(()),
        }
    }

    /// The first of `{parent}/{name}-1`, `-2`, … that does not exist.
    #[must_use]
    pub fn next_free(parent: &Path, name: &str) -> PathBuf {
        (1..1_000_000).map(|n| parent.join(format!("{name}-{n}"))).find(|path| !path.exists()).unwrap_or_default()
    }

    /// The settings of the run, unchecked.
    ///
    /// **Errors** if `config.toml` is missing or cannot be understood.
    pub fn read_config(&self) -> Result<Config> {
        let path = self.config();
        let text = read_text(&path, Config::LONGEST)?;
        toml::from_str(&text).map_err(|e| Error::file(&path, e.to_string()))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// `config.toml`
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }
    /// `vocab.json`
    #[must_use]
    pub fn vocabulary(&self) -> PathBuf {
        self.path.join("vocab.json")
    }
    /// `metrics.jsonl`
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }
    /// `last.safetensors`
    #[must_use]
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }
    /// `best.safetensors`
    #[must_use]
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }
}

/// Removes those that are there.
fn remove_files(files: &[PathBuf]) -> Result<()> {
    for file in files.iter().filter(|file| file.exists()) {
        std::fs::remove_file(file).map_err(|e| Error::io(file, "remove", e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_never_overwritten_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/a");
        let config = Config::default().check().unwrap();
        let vocabulary = Vocabulary::build(&["a dog".to_owned()], 1);
        let run = RunFolder::create(&path, &config, &vocabulary, false).unwrap();
        assert_eq!(run.read_config().unwrap(), Config::default());
        std::fs::write(run.metrics(), "old").unwrap();
        let message = RunFolder::create(&path, &config, &vocabulary, false).unwrap_err().to_string();
        assert!(message.contains("has a run already"), "{message}");
        assert_eq!(std::fs::read(run.metrics()).unwrap(), b"old", "nothing is lost");
        RunFolder::create(&path, &config, &vocabulary, true).unwrap();
        assert!(!run.metrics().exists());
        assert!(run.replaced());
        run.give_up().unwrap();
        assert_eq!(std::fs::read(run.metrics()).unwrap(), b"old", "put back");
        let run = RunFolder::create(&path, &config, &vocabulary, true).unwrap();
        run.forget_old().unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2, "settings and vocabulary alone");
        assert_eq!(RunFolder::next_free(folder.path(), "runs"), folder.path().join("runs-1"));
    }
}
