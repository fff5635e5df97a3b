//! The folder of a run.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | every setting, to run it again |
//! | `vocab.json` | the vocabulary |
//! | `metrics.jsonl` | figures of steps, epochs and validations, one JSON object a line |
//! | `last.safetensors` | the newest checkpoint, to go on from |
//! | `best.safetensors` | the model of the best epoch by rsum on the dev split |
//!
//! The files of one checkpoint become visible together, by one rename:
//!
//! ```text
//! 1. metrics.jsonl is extended and synced; what belongs to the last checkpoint stays as it is
//! 2. the files that change are written into .vsepp-next and synced
//! 3. .vsepp-next is renamed to .vsepp-commit: from here on the new checkpoint is the run's
//! 4. the files of .vsepp-commit are moved to their places, and it is removed
//! ```
//!
//! A file is read from `.vsepp-commit` if it is there, and otherwise from its place, so what is read is the
//! old checkpoint before step 3 and the new one after it, wherever the program is killed. The next training
//! on the folder finishes step 4, or removes what steps 1 and 2 left. `last.safetensors` says which
//! `best.safetensors`, which vocabulary and which bytes of `metrics.jsonl` belong to it.
//!
//! One training at a time has the folder: [`Run`] holds a lock, which the operating system releases when
//! the process ends, however it ends. [`RunFolder`] only reads and takes no lock.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::checkpoint::{Checkpoint, FolderState, load_model};
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::escape;
use crate::files::hex;
use crate::files::{folder_of, keep_owner_and_mode, open_regular, read_text, sync_folder as sync};
use crate::model::{Config, Parameters, ValidConfig, Vse};
use crate::optim::Adam;

const CONFIG: &str = "config.toml";
const VOCABULARY: &str = "vocab.json";
const METRICS: &str = "metrics.jsonl";
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
const FILES: [&str; 5] = [CONFIG, VOCABULARY, METRICS, LAST, BEST];

/// The next checkpoint, while it is written.
const NEXT: &str = ".vsepp-next";
/// A complete checkpoint whose files are being moved to their places.
const COMMIT: &str = ".vsepp-commit";
/// Locked while a training works on the folder.
const LOCK: &str = ".vsepp-lock";

/// A run's files, to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Which model of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of the best epoch by rsum on the dev split.
    Best,
    /// Of the newest checkpoint.
    Last,
}

impl RunFolder {
    /// A folder that may not be there yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Where `config.toml` is now.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.find(CONFIG)
    }
    /// Where `vocab.json` is now.
    #[must_use]
    pub fn vocabulary(&self) -> PathBuf {
        self.find(VOCABULARY)
    }
    /// Where `metrics.jsonl` is now.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.find(METRICS)
    }
    /// Where `last.safetensors` is now.
    #[must_use]
    pub fn last(&self) -> PathBuf {
        self.find(LAST)
    }
    /// Where `best.safetensors` is now.
    #[must_use]
    pub fn best(&self) -> PathBuf {
        self.find(BEST)
    }

    /// In `.vsepp-commit` if it is there, or in its place.
    fn find(&self, name: &str) -> PathBuf {
        let committed = self.path.join(COMMIT).join(name);
        if committed.exists() { committed } else { self.path.join(name) }
    }

    /// Reads a file where it is, even if it is moved to its place meanwhile.
    fn read<T>(&self, name: &str, read: impl Fn(&Path) -> Result<T>) -> Result<T> {
        let path = self.find(name);
        read(&path).or_else(|error| if path.exists() { Err(error) } else { read(&self.find(name)) })
    }

    /// The settings of the run, unchecked.
    ///
    /// **Errors** if `config.toml` is missing or cannot be understood.
    pub fn read_config(&self) -> Result<Config> {
        self.read(CONFIG, |path| {
            let text = read_text(path, Config::LONGEST)?;
            toml::from_str(&text).map_err(|e| Error::file(path, e.to_string()))
        })
    }

    /// The vocabulary of the run.
    ///
    /// **Errors** as [`Vocabulary::read`].
    pub fn read_vocabulary(&self) -> Result<Vocabulary> {
        self.read(VOCABULARY, Vocabulary::read)
    }

    /// A model of the run with its vocabulary, both of one checkpoint, while a training may go on.
    ///
    /// **Errors** if a file is missing, damaged, or belongs to another checkpoint than `last.safetensors`.
    pub fn load(&self, which: Which) -> Result<(Vse<f32>, Checkpoint, Vocabulary)> {
        /// A checkpoint takes longer to write than to read: this many in a row are not met.
        const TRIES: usize = 1000;
        for _ in 0..TRIES {
            let before = self.manifest();
            let found = match &before {
                Ok(manifest) => self.load_once(which, manifest.as_ref()),
                Err(error) => Err(Error::mismatch(error.to_string())),
            };
            // A checkpoint that was saved meanwhile: some files may be old and some new.
            match (before, self.manifest()) {
                (Ok(before), Ok(after)) if before == after => return found,
                (Err(before), Err(after)) if before.to_string() == after.to_string() => return found,
                _ => {}
            }
        }
        Err(Error::file(&self.path, "the run is saved again and again while it is read: try again later"))
    }

    fn load_once(&self, which: Which, manifest: Option<&Checkpoint>) -> Result<(Vse<f32>, Checkpoint, Vocabulary)> {
        let state = manifest.and_then(|manifest| manifest.folder.as_ref());
        let (model, checkpoint) = match which {
            Which::Last => self.read(LAST, load_model)?,
            Which::Best => {
                if state.is_some_and(|state| state.best.is_none()) {
                    let problem =
                        "the run has no best model yet: no epoch has ended; last.safetensors has its newest one";
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

    /// What `last.safetensors` says, without its numbers; none if there is no such file.
    fn manifest(&self) -> Result<Option<Checkpoint>> {
        match self.read(LAST, Checkpoint::read_head) {
            Err(_) if !self.last().exists() => Ok(None),
            other => other.map(Some),
        }
    }

    /// The first of a run's files that is there.
    fn first_file(&self) -> Option<&'static str> {
        FILES.into_iter().find(|name| self.find(name).symlink_metadata().is_ok())
    }
}

/// Whether `best.safetensors` is the one that `last.safetensors` means.
fn check_best(last: &Checkpoint, best: &Checkpoint) -> std::result::Result<(), String> {
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

/// The folder of a run that is being trained: holds the lock, and writes checkpoints.
///
/// Dropped before its first checkpoint, a new run leaves nothing behind.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
    /// Folders that were made for it, the outermost first.
    made: Vec<PathBuf>,
    /// Whether there is another run in the folder, which the first checkpoint replaces.
    replaces: bool,
    state: Mutex<State>,
    lock: File,
}

#[derive(Debug, Default)]
struct State {
    /// Files to be written with the next checkpoint.
    pending: Vec<(&'static str, Vec<u8>)>,
    /// Whether `metrics.jsonl` of this run is in its place; otherwise all of it is in `lines`.
    has_metrics: bool,
    /// Lines of `metrics.jsonl` that are not in the file yet.
    lines: Vec<u8>,
    /// Of all lines.
    bytes: u64,
    hash: Sha256,
    /// The digest of `best.safetensors`.
    best: Option<String>,
    /// Whether a checkpoint is there to go on from.
    saved: bool,
}

impl Run {
    /// Takes a folder for a new run and makes it if need be. Nothing is written before the first checkpoint;
    /// with `force` it then replaces the run that is there.
    ///
    /// **Errors** if another training has the folder; if there is a run and not `force`; with `force`, if the
    /// folder has files but no run; or if the disk refuses.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        let mut made = Vec::new();
        let lock = take(path, &mut made);
        Self::locked(path, made, lock?)?.check_free(force)
    }

    /// The same for the first of `{parent}/{name}-1`, `-2`, … that does not exist. Of several processes
    /// each gets one of its own.
    ///
    /// **Errors** if the disk refuses.
    pub fn create_next(parent: &Path, name: &str) -> Result<Self> {
        let mut made = Vec::new();
        for n in 1u64.. {
            let path = parent.join(format!("{name}-{n}"));
            make_folders(parent, &mut made)?;
            match disk(|| std::fs::create_dir(&path)) {
                Ok(()) => {
                    made.push(path.clone());
                    sync_folder(folder_of(&path))?;
                    let lock = take(&path, &mut made)?;
                    return Self::locked(&path, made, lock)?.check_free(false);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(&path, "make the folder", e)),
            }
        }
        unreachable!("there is a number for every run")
    }

    /// Takes the folder of a run, to go on with it.
    ///
    /// **Errors** if there is no run, if another training has the folder, or if the disk refuses.
    pub fn reopen(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::file(path, "expected the folder of a run, found none"));
        }
        let run = Self::locked(path, Vec::new(), take(path, &mut Vec::new())?)?;
        if run.folder.last().exists() {
            return Ok(run);
        }
        let problem = match run.folder.first_file() {
            Some(name) => format!("expected the folder of a run with {LAST}, found {name} and no {LAST}"),
            None => "there is no checkpoint to go on from: start the training again, without resuming".into(),
        };
        Err(Error::file(path, problem))
    }

    /// Finishes or removes what an earlier process left.
    fn locked(path: &Path, made: Vec<PathBuf>, lock: File) -> Result<Self> {
        let run = Self { folder: RunFolder::at(path), made, replaces: false, state: Mutex::default(), lock };
        run.move_to_places()?;
        run.discard(NEXT)?;
        Ok(run)
    }

    fn check_free(mut self, force: bool) -> Result<Self> {
        let path = self.folder.path();
        let found = self.folder.first_file();
        match found {
            Some(name) if !force => {
                let problem = format!(
                    "the folder has a run already ({name}); resume it, name another, or force it to be overwritten"
                );
                return Err(Error::file(path, problem));
            }
            // Not every file of this name is a run's.
            Some(name) => {
                let last = self.folder.last();
                if !last.exists() {
                    return Err(no_run(path, &format!("found {name} and no {LAST}")));
                }
                Checkpoint::check_kind(&last).map_err(|e| no_run(path, &e.to_string()))?;
                self.replaces = true;
            }
            None if force => {
                let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, "read", e))?;
                let other =
                    entries.flatten().find(|entry| ![LOCK, NEXT, COMMIT].map(Into::into).contains(&entry.file_name()));
                if let Some(other) = other {
                    return Err(no_run(path, &format!("found {}", escape::path(Path::new(&other.file_name())))));
                }
            }
            None => {}
        }
        Ok(self)
    }

    /// The run's files, to be read.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Whether another run is in the folder until the first checkpoint replaces it.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.replaces && !self.saved()
    }

    /// Whether a checkpoint of this run is there to go on from.
    #[must_use]
    pub fn saved(&self) -> bool {
        self.state().saved
    }

    /// Settings and vocabulary of a new run; they are written with its first checkpoint.
    ///
    /// **Errors** if the settings cannot be written as TOML (a path that is not UTF-8).
    pub fn begin(&self, config: &ValidConfig, vocabulary: &Vocabulary) -> Result<()> {
        let toml = self.to_toml(config)?;
        self.state().pending = vec![(CONFIG, toml), (VOCABULARY, vocabulary.to_json().into_bytes())];
        Ok(())
    }

    fn to_toml(&self, config: &ValidConfig) -> Result<Vec<u8>> {
        let toml = toml::to_string(config).map_err(|e| Error::file(&self.folder.path.join(CONFIG), e.to_string()))?;
        Ok(toml.into_bytes())
    }

    /// Checks that the other files are those that `last.safetensors` means, and goes on from it. Settings
    /// that differ from those in the folder are written by [`Self::start`].
    pub(super) fn go_on(&self, last: &Checkpoint, config: &ValidConfig) -> Result<()> {
        let folder = &self.folder;
        let Some(files) = &last.folder else {
            return Err(Error::file(&folder.last(), "expected a checkpoint to go on from, found a model alone"));
        };
        if files.best.is_some() {
            let (_, best) = load_model(&folder.best())?;
            check_best(last, &best).map_err(|problem| Error::file(&folder.best(), problem))?;
        }
        let mut state = State { best: files.best.clone(), saved: true, ..State::default() };
        if let Some(hash) = read_metrics(&folder.metrics(), files)? {
            (state.has_metrics, state.bytes, state.hash) = (true, files.metrics_bytes, hash);
        }
        let toml = self.to_toml(config)?;
        if toml != read_text(&folder.config(), Config::LONGEST)?.into_bytes() {
            state.pending.push((CONFIG, toml));
        }
        *self.state() = state;
        Ok(())
    }

    /// Before the first step, when nothing can be refused any more: settings that have changed are
    /// written, and lines of `metrics.jsonl` that came after the checkpoint are removed.
    pub(super) fn start(&self) -> Result<()> {
        let mut state = self.state();
        if state.has_metrics {
            let path = self.folder.path.join(METRICS);
            let cut = || {
                let file = disk(|| File::options().write(true).open(&path))?;
                disk(|| file.set_len(state.bytes))?;
                disk(|| file.sync_all())
            };
            cut().map_err(|e| Error::io(&path, "write", e))?;
        }
        if state.saved && !state.pending.is_empty() {
            self.commit(&state.pending.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>())?;
            state.pending.clear();
        }
        Ok(())
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// **Errors** if the disk refuses.
    pub fn log(&self, line: &str) -> Result<()> {
        /// Bytes that are kept before the file is extended.
        const KEPT: usize = 1 << 13;
        let mut state = self.state();
        for part in [line.as_bytes(), b"\n"] {
            state.lines.extend_from_slice(part);
            state.hash.update(part);
            state.bytes += part.len() as u64;
        }
        if state.has_metrics && state.lines.len() > KEPT { self.extend_metrics(&mut state, false) } else { Ok(()) }
    }

    fn extend_metrics(&self, state: &mut State, sync: bool) -> Result<()> {
        let path = self.folder.path.join(METRICS);
        let extend = || {
            let mut file = disk(|| File::options().append(true).create(true).open(&path))?;
            write_all(&mut file, &state.lines)?;
            if sync { disk(|| file.sync_all()) } else { Ok(()) }
        };
        extend().map_err(|e| Error::io(&path, "write", e))?;
        state.lines.clear();
        Ok(())
    }

    /// Writes a checkpoint: `last.safetensors`, with `best` the same model as `best.safetensors`, and all
    /// else that has changed, together.
    ///
    /// **Errors** if the disk refuses; the folder then has the checkpoint before, or this one.
    pub(super) fn save(
        &self,
        mut checkpoint: Checkpoint,
        parameters: &Parameters<f32>,
        adam: &Adam<f32>,
        best: bool,
    ) -> Result<()> {
        let mut state = self.state();
        let best = if best { Some(checkpoint.to_bytes(parameters, None)?) } else { None };
        let best_digest = best.as_ref().map(|(_, digest)| digest.clone()).or_else(|| state.best.clone());
        let metrics = (!state.has_metrics).then(|| state.lines.clone());
        if state.has_metrics {
            self.extend_metrics(&mut state, true)?;
        }
        checkpoint.folder = Some(FolderState {
            best: best_digest.clone(),
            metrics_bytes: state.bytes,
            metrics_sha256: hex(&state.hash.clone().finalize()),
        });
        let (last, _) = checkpoint.to_bytes(parameters, Some(adam))?;
        let mut files: Vec<(&str, &[u8])> = state.pending.iter().map(|(name, b)| (*name, b.as_slice())).collect();
        files.extend(metrics.as_deref().map(|bytes| (METRICS, bytes)));
        files.extend(best.as_ref().map(|(bytes, _)| (BEST, bytes.as_slice())));
        files.push((LAST, &last));
        self.commit(&files)?;
        state.pending.clear();
        if metrics.is_some() {
            state.lines.clear();
        }
        (state.has_metrics, state.saved, state.best) = (true, true, best_digest);
        Ok(())
    }

    /// Makes files visible together; the module's text has the steps.
    fn commit(&self, files: &[(&str, &[u8])]) -> Result<()> {
        let path = &self.folder.path;
        let (next, commit) = (path.join(NEXT), path.join(COMMIT));
        let stage = || {
            disk(|| std::fs::create_dir(&next)).map_err(|e| Error::io(&next, "make the folder", e))?;
            for (name, bytes) in files {
                let place = path.join(name);
                write_synced(&next.join(name), &place, bytes).map_err(|e| Error::io(&place, "write", e))?;
            }
            sync_folder(&next)?;
            disk(|| std::fs::rename(&next, &commit)).map_err(|e| Error::io(&next, "rename", e))
        };
        if let Err(error) = stage() {
            // If the disk is full, free the space.
            let _ = self.discard(NEXT);
            return Err(error);
        }
        sync_folder(path)?;
        self.move_to_places()
    }

    /// Finishes a checkpoint that is complete, if there is one.
    fn move_to_places(&self) -> Result<()> {
        let path = &self.folder.path;
        let commit = path.join(COMMIT);
        if !is_folder(&commit) {
            return Ok(());
        }
        let has_no_best = |last: Checkpoint| last.folder.is_some_and(|files| files.best.is_none());
        let stale_best = self.folder.manifest()?.is_some_and(has_no_best);
        for name in FILES {
            let (from, to) = (commit.join(name), path.join(name));
            ignore_missing(disk(|| std::fs::rename(&from, &to)))
                .map_err(|e| Error::io(&from, "move to its place", e))?;
        }
        if stale_best {
            // Of the run that this one replaces.
            let best = path.join(BEST);
            ignore_missing(disk(|| std::fs::remove_file(&best))).map_err(|e| Error::io(&best, "remove", e))?;
        }
        sync_folder(path)?;
        disk(|| std::fs::remove_dir(&commit)).map_err(|e| Error::io(&commit, "remove", e))
    }

    /// Removes a folder of this program's, and the files that this program writes there.
    fn discard(&self, name: &str) -> Result<()> {
        let folder = self.folder.path.join(name);
        if !is_folder(&folder) {
            return Ok(());
        }
        for file in FILES.map(|name| folder.join(name)) {
            ignore_missing(disk(|| std::fs::remove_file(&file))).map_err(|e| Error::io(&file, "remove", e))?;
        }
        disk(|| std::fs::remove_dir(&folder)).map_err(|e| Error::io(&folder, "remove", e))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The lock's file goes while it is locked: who opened it meanwhile sees that it is another's.
        if cfg!(unix) {
            let _ = disk(|| std::fs::remove_file(self.folder.path.join(LOCK)));
        }
        if !self.saved() {
            for folder in self.made.iter().rev() {
                // Fails if there is something in it.
                let _ = disk(|| std::fs::remove_dir(folder));
            }
        }
        let _ = self.lock.unlock();
    }
}

fn no_run(path: &Path, problem: &str) -> Error {
    Error::file(path, format!("the folder has files, and no run that could be replaced: {problem}"))
}

/// Makes the folder if need be, and locks it.
fn take(path: &Path, made: &mut Vec<PathBuf>) -> Result<File> {
    /// Each time another process has just removed the folder or the lock: it cannot go on for long.
    const TRIES: usize = 100;
    let name = path.join(LOCK);
    for _ in 0..TRIES {
        make_folders(path, made)?;
        // Opening a pipe would wait for a reader.
        if name.symlink_metadata().is_ok_and(|about| !about.is_file()) {
            return Err(Error::file(&name, "expected a regular file or none, for the lock of a training"));
        }
        let file = match disk(|| File::options().create(true).truncate(false).write(true).open(&name)) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(|e| Error::io(&name, "write", e))?,
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, &name) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(
                    path,
                    "another process is training in this folder: wait for its end, or name another folder",
                ));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&name, "lock", e)),
        }
    }
    Err(Error::file(&name, "cannot be locked: it is removed again and again"))
}

/// Whether a file is still the one of this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Whether a file is still the one of this name: it is not removed here.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Makes the folders that are missing, and adds them to `made`.
fn make_folders(path: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let parents = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    let missing: Vec<&Path> = parents.take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        match disk(|| std::fs::create_dir(folder)) {
            Ok(()) => {
                made.push(folder.into());
                sync_folder(folder_of(folder))?;
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(folder, "make the folder", e)),
        }
    }
    if !path.is_dir() {
        return Err(Error::file(path, "expected a folder, found a file"));
    }
    Ok(())
}

/// Not a link to one, which would lead elsewhere.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.is_dir())
}

fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// A new file, on disk when this returns, with owner and mode of the one that it will replace.
fn write_synced(path: &Path, replaces: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = disk(|| File::create_new(path))?;
    if let Ok(before) = std::fs::metadata(replaces) {
        disk(|| keep_owner_and_mode(path, &before))?;
    }
    write_all(&mut file, bytes)?;
    disk(|| file.sync_all())
}

/// Every change of a run folder is made through this, so that a test can fail at each of them.
fn disk<T>(change: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    #[cfg(test)]
    tests::fault()?;
    change()
}

fn write_all(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    #[cfg(test)]
    if let Err(error) = tests::fault() {
        // As a full disk does.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)
}

/// A rename is only on disk when its folder is.
fn sync_folder(folder: &Path) -> Result<()> {
    disk(|| sync(folder)).map_err(|e| Error::io(folder, "sync", e))
}

/// The hash of the lines that belong to the checkpoint; none if there is no such file.
fn read_metrics(path: &Path, files: &FolderState) -> Result<Option<Sha256>> {
    let differs = |problem: String| {
        Error::file(
            path,
            format!(
                "{problem}; the file was changed after the checkpoint: put it back, or move it away to begin a new one"
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::eval::Evaluation;
    use crate::train::{Best, EpochTotals, Fingerprints, Progress};

    thread_local! {
        /// Changes that still succeed, and whether all fail that come after.
        static FAULT: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
    }

    pub(super) fn fault() -> std::io::Result<()> {
        match FAULT.get() {
            None => Ok(()),
            Some((0, killed)) => {
                FAULT.set(Some((if killed { 0 } else { u32::MAX }, killed)));
                Err(std::io::Error::other("a fault"))
            }
            Some((left, killed)) => {
                FAULT.set(Some((left - 1, killed)));
                Ok(())
            }
        }
    }

    /// Epoch and batch of the checkpoints of a run, and whether the model is the best so far.
    const SAVES: [(usize, usize, bool); 4] = [(0, 1, false), (1, 0, true), (2, 0, false), (3, 0, true)];

    fn config(seed: u64) -> ValidConfig {
        let sizes = Config { embed_size: 2, word_dim: 2, batch_size: 4, ..Config::default() };
        Config { seed, num_epochs: 3, ..sizes }.check().unwrap()
    }

    fn vocabulary(seed: u64) -> Vocabulary {
        Vocabulary::build(&[format!("a dog of {seed}")], 1)
    }

    /// One of [`SAVES`], with a model that differs for each.
    fn save(run: &Run, seed: u64, number: usize) -> Result<()> {
        let (epoch, batch, best) = SAVES[number];
        run.log(&format!("{{\"step\":{number},\"seed\":{seed}}}"))?;
        let architecture = config(seed).architecture(vocabulary(seed).len(), 3);
        let parameters = Parameters::init(&architecture, 10 * seed + number as u64);
        let mut adam = Adam::new(&parameters);
        let of_best = [None, Some(1), Some(1), Some(3)][number];
        let progress = Progress {
            step: 5 * epoch as u64 + batch as u64,
            epoch,
            batch,
            totals: EpochTotals { pairs: 4 * batch, ..EpochTotals::default() },
            best: of_best.map(|epoch| Best { epoch, dev: Evaluation::default() }),
            ..Progress::default()
        };
        adam.step = progress.step;
        let vocabulary = vocabulary(seed).fingerprint();
        let config = config(seed).into_inner();
        let checkpoint = Checkpoint::new(architecture, config, Fingerprints::default(), vocabulary, progress);
        run.save(checkpoint, &parameters, &adam, best)
    }

    /// Trains to the end, from nothing or from the run's last checkpoint.
    fn train(path: &Path, seed: u64, force: bool) -> Result<()> {
        let last = Checkpoint::read(&RunFolder::at(path).last()).ok().map(|(last, ..)| last);
        let (run, next) = if let Some(last) = last.filter(|last| last.config.seed == seed) {
            let run = Run::reopen(path)?;
            run.go_on(&last, &config(seed))?;
            let place = (last.progress.epoch, last.progress.batch);
            (run, 1 + SAVES.iter().position(|save| (save.0, save.1) == place).unwrap())
        } else {
            let run = Run::create(path, force)?;
            run.begin(&config(seed), &vocabulary(seed))?;
            (run, 0)
        };
        run.start()?;
        (next..SAVES.len()).try_for_each(|number| save(&run, seed, number))
    }

    fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
        let entry = |e: std::io::Result<std::fs::DirEntry>| {
            let path = e.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap_or_default())
        };
        let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(entry).collect();
        files.sort();
        files
    }

    /// All that a reader can see is of one checkpoint; gives its seed.
    fn check_whole(path: &Path) -> u64 {
        let folder = RunFolder::at(path);
        let (_, last, _) = folder.load(Which::Last).unwrap();
        let state = last.folder.as_ref().unwrap();
        match state.best {
            Some(_) => assert_eq!(folder.load(Which::Best).unwrap().1.progress.best, last.progress.best),
            None => assert!(folder.load(Which::Best).unwrap_err().to_string().contains("no best model yet")),
        }
        assert!(read_metrics(&folder.metrics(), state).unwrap().is_some());
        assert_eq!(folder.read_config().unwrap().seed, last.config.seed);
        last.config.seed
    }

    #[test]
    fn a_fault_at_any_change_leaves_the_state_before_or_the_one_after() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        train(&old, 1, false).unwrap();
        train(&new, 2, false).unwrap();
        let (old, expected) = (files(&old), files(&new));
        assert_eq!(
            expected.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            [BEST, CONFIG, LAST, METRICS, VOCABULARY]
        );
        let run = folder.path().join("runs/run");
        for (force, killed) in [(false, true), (false, false), (true, true), (true, false)] {
            let mut faults = 0;
            loop {
                let _ = std::fs::remove_dir_all(folder.path().join("runs"));
                if force {
                    std::fs::create_dir_all(&run).unwrap();
                    for (name, bytes) in &old {
                        std::fs::write(run.join(name), bytes).unwrap();
                    }
                }
                FAULT.set(Some((faults, killed)));
                let ended = train(&run, 2, force);
                let fired = FAULT.replace(None).is_some_and(|(left, _)| left == 0 || left > u32::MAX / 2);
                let place = format!("force = {force}, killed = {killed}, fault {faults}: {ended:?}");
                if !fired {
                    ended.unwrap();
                    break;
                }
                faults += 1;
                if RunFolder::at(&run).last().exists() {
                    let seed = check_whole(&run);
                    if seed == 1 {
                        let now: Vec<_> =
                            files(&run).into_iter().filter(|(name, _)| !name.starts_with(".vsepp")).collect();
                        assert_eq!(now, old, "{place}: the old run is not touched");
                    }
                } else {
                    assert!(!force, "{place}: the old run is gone");
                }
                train(&run, 2, force).unwrap_or_else(|e| panic!("{place}: then {e}"));
                assert!(files(&run) == expected, "{place}: another end");
            }
            assert!(faults > 60, "{faults}");
        }
    }

    #[test]
    fn a_reader_sees_one_checkpoint_while_others_are_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        train(&path, 1, false).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for seed in 2..30 {
                    train(&path, seed, true).unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let mut seen = Vec::new();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let (_, last, vocabulary) = RunFolder::at(&path).load(Which::Last).unwrap();
                assert_eq!(vocabulary.words().last().unwrap(), &last.config.seed.to_string());
                match RunFolder::at(&path).load(Which::Best) {
                    Ok((_, best, vocabulary)) => {
                        assert_eq!(vocabulary.words().last().unwrap(), &best.config.seed.to_string());
                    }
                    Err(e) => assert!(e.to_string().contains("no best model yet"), "{e}"),
                }
                seen.push(last.config.seed);
            }
            assert!(seen.is_sorted());
        });
    }

    #[test]
    fn a_folder_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/a");
        let run = Run::create(&path, false).unwrap();
        for second in [Run::create(&path, false), Run::create(&path, true), Run::reopen(&path)] {
            assert!(second.unwrap_err().to_string().contains("another process is training in this folder"));
        }
        drop(run);
        assert!(!folder.path().join("runs").exists(), "nothing is left of a run that came to nothing");
        let first = Run::create_next(&folder.path().join("runs"), "x").unwrap();
        let second = Run::create_next(&folder.path().join("runs"), "x").unwrap();
        assert_eq!(second.folder().path(), folder.path().join("runs/x-2"));
        drop((first, second));
        // Of many at once one has it at a time.
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(run) = Run::create(&path, false) {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(run);
                        }
                    }
                });
            }
        });
    }
}
