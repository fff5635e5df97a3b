//! The folder of a run.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | every setting, to repeat the run |
//! | `vocab.json` | the vocabulary |
//! | `metrics.jsonl` | figures of steps, epochs and validations, one JSON object per line |
//! | `events.out.tfevents.vsepp` | the same figures, for TensorBoard |
//! | `last.safetensors` | the newest checkpoint, for `--resume` |
//! | `best.safetensors` | the model of the best epoch by rsum on the dev split |
//! | `test.json` | its figures, from the end of the training until there is another checkpoint |
//!
//! The files of one checkpoint become visible together, by one rename:
//!
//! ```text
//! 1. lines are added to metrics.jsonl and their records to the file of events, and both are synced; the part of the
//!    last checkpoint does not change
//! 2. the files that change are written into .vsepp-next and synced
//! 3. .vsepp-next is renamed to .vsepp-commit: from here on the run has the new checkpoint
//! 4. the files of .vsepp-commit are moved to their places, and .vsepp-commit is removed
//! ```
//!
//! A file is read from `.vsepp-commit` if it is there, and otherwise from its place. So a reader sees the
//! old checkpoint before step 3 and the new one after it, wherever the program is killed. The next training
//! in the folder finishes step 4, or removes what steps 1 and 2 left. `last.safetensors` says which
//! `best.safetensors`, which vocabulary and which bytes of `metrics.jsonl` belong to it. The file of events is a function
//! of `metrics.jsonl`, and is written anew when a run is resumed, so nothing has to be known about it. It is extended
//! and not replaced, because a TensorBoard that shows a run keeps the file open.
//!
//! Only one training at a time uses the folder: [`Run`] holds a lock, which the operating system releases
//! when the process ends, however it ends. [`RunFolder`] only reads and takes no lock.

mod commit;
mod disk;
mod lock;
mod read;
mod tensorboard;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use self::commit::NEXT;
use self::disk::{disk, make_folders, sync_folder, write_all};
use self::lock::{LOCK, take};
use self::read::{BEST, COMMIT, CONFIG, EVENTS, LAST, METRICS, VOCABULARY, check_best, read_metrics};
pub(crate) use self::read::{RunFolder, Which};
use super::checkpoint::{Checkpoint, FolderState, load_model};
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::escape;
use crate::files::{folder_of, hex, read_bytes, read_text};
use crate::model::{Config, Parameters, ValidConfig};
use crate::optim::Adam;

/// The folder of a run that is being trained: holds the lock, and writes checkpoints.
///
/// A new run that is dropped before its first checkpoint leaves no files.
#[derive(Debug)]
pub struct Run {
    folder: RunFolder,
    /// Folders that were made for this run, the outermost first.
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
    /// Whether the folder has the `metrics.jsonl` of this run; otherwise all of it is in `lines`.
    has_metrics: bool,
    /// Lines of `metrics.jsonl` that are not in the file yet.
    lines: Vec<u8>,
    /// The number of bytes of all lines.
    bytes: u64,
    /// The hash of all lines.
    hash: Sha256,
    /// The digest of `best.safetensors`.
    best: Option<String>,
    /// Whether the folder has a checkpoint of this run.
    saved: bool,
}

impl State {
    /// The records of the lines that are not in the file yet, for the file of events.
    fn records(&self) -> Vec<u8> {
        tensorboard::records(&self.lines, self.bytes == self.lines.len() as u64)
    }
}

impl Run {
    /// Locks a folder for a new run and makes it if necessary. Nothing is written before the first
    /// checkpoint, which with `force` replaces the run that is there.
    ///
    /// # Errors
    ///
    /// If another training uses the folder; if it holds a run, without `force`; if it holds files but no
    /// run, with `force`; or if writing fails.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        let mut made = Vec::new();
        let lock = take(path, &mut made);
        Self::locked(path, made, lock?)?.check_free(force)
    }

    /// The same for the first of `{parent}/{name}-1`, `-2`, … that does not exist. If several processes do
    /// this at once, each gets a folder of its own.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub(crate) fn create_next(parent: &Path, name: &str) -> Result<Self> {
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

    /// Locks the folder of a run, to resume it.
    ///
    /// # Errors
    ///
    /// If there is no run, if another training uses the folder, or if writing fails.
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
            None => "there is no checkpoint to resume from: start the training again, without resuming".into(),
        };
        Err(Error::file(path, problem))
    }

    /// Finishes or removes what an earlier process left.
    fn locked(path: &Path, made: Vec<PathBuf>, lock: File) -> Result<Self> {
        let run = Self { folder: RunFolder::at(path), made, replaces: false, state: Mutex::default(), lock };
        run.folder.move_to_places()?;
        run.folder.discard(NEXT)?;
        Ok(run)
    }

    /// Checks that the folder is empty, or that it holds a run which `force` allows to replace.
    fn check_free(mut self, force: bool) -> Result<Self> {
        let path = self.folder.path();
        let found = self.folder.first_file();
        match found {
            Some(name) if !force => {
                let problem = format!(
                    "the folder already has a run ({name}); resume it, use another folder, or force it to be overwritten"
                );
                return Err(Error::file(path, problem));
            }
            // A file of this name may belong to something else than a run.
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
    pub(crate) fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Whether another run is in the folder until the first checkpoint replaces it.
    #[must_use]
    pub(crate) fn replaces(&self) -> bool {
        self.replaces && !self.saved()
    }

    /// Whether the folder has a checkpoint of this run.
    #[must_use]
    pub(crate) fn saved(&self) -> bool {
        self.state().saved
    }

    /// Sets the settings and the vocabulary of a new run. They are written with its first checkpoint.
    ///
    /// # Errors
    ///
    /// If the settings cannot be written as TOML (a path that is not UTF-8).
    pub fn begin(&self, config: &ValidConfig, vocabulary: &Vocabulary) -> Result<()> {
        let toml = self.to_toml(config)?;
        self.state().pending = vec![(CONFIG, toml), (VOCABULARY, vocabulary.to_json().into_bytes())];
        Ok(())
    }

    fn to_toml(&self, config: &ValidConfig) -> Result<Vec<u8>> {
        let toml = toml::to_string(config).map_err(|e| Error::file(&self.folder.path.join(CONFIG), e.to_string()))?;
        Ok(toml.into_bytes())
    }

    /// Checks that the other files belong to `last.safetensors`, and continues from it. If the settings
    /// differ from those in the folder, [`Self::start`] writes them.
    pub(super) fn go_on(&self, last: &Checkpoint, config: &ValidConfig) -> Result<()> {
        let folder = &self.folder;
        let Some(files) = &last.folder else {
            return Err(Error::file(&folder.last(), "expected a checkpoint to resume from, found only a model"));
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

    /// Called before the first step, after everything has been checked. Writes settings that have changed,
    /// removes the lines of `metrics.jsonl` that came after the checkpoint, and writes the file of events.
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
            let lines = read_bytes(&path, state.bytes)?;
            let (path, records) = (self.folder.path.join(EVENTS), tensorboard::records(&lines, true));
            let rewrite = || {
                let mut file = disk(|| File::options().write(true).create(true).truncate(false).open(&path))?;
                write_all(&mut file, &records)?;
                disk(|| file.set_len(records.len() as u64))?;
                disk(|| file.sync_all())
            };
            rewrite().map_err(|e| Error::io(&path, "write", e))?;
        }
        if state.saved && !state.pending.is_empty() {
            self.folder
                .commit(&state.pending.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>())?;
            state.pending.clear();
        }
        Ok(())
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub(crate) fn log(&self, line: &str) -> Result<()> {
        /// How many bytes are collected before they are written to the file.
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
        let records = state.records();
        for (name, bytes) in [(METRICS, &state.lines), (EVENTS, &records)] {
            let path = self.folder.path.join(name);
            let extend = || {
                let mut file = disk(|| File::options().append(true).create(true).open(&path))?;
                write_all(&mut file, bytes)?;
                if sync { disk(|| file.sync_all()) } else { Ok(()) }
            };
            extend().map_err(|e| Error::io(&path, "write", e))?;
        }
        state.lines.clear();
        Ok(())
    }

    /// Writes a checkpoint: `last.safetensors`, if `best` also `best.safetensors` with the same model, and
    /// everything else that has changed. All of it becomes visible together.
    ///
    /// # Errors
    ///
    /// If writing fails. The folder then has the previous checkpoint or this one, complete.
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
        let metrics = (!state.has_metrics).then(|| (state.lines.clone(), state.records()));
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
        files.extend(metrics.iter().flat_map(|(lines, records)| [(METRICS, &lines[..]), (EVENTS, &records[..])]));
        files.extend(best.as_ref().map(|(bytes, _)| (BEST, bytes.as_slice())));
        files.push((LAST, &last));
        self.folder.commit(&files)?;
        state.pending.clear();
        if metrics.is_some() {
            state.lines.clear();
        }
        (state.has_metrics, state.saved, state.best) = (true, true, best_digest);
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The lock file is removed while it is locked: another process that opened it sees that it is no
        // longer the file of this name.
        if cfg!(unix) {
            let _ = disk(|| std::fs::remove_file(self.folder.path.join(LOCK)));
        }
        if !self.saved() {
            for folder in self.made.iter().rev() {
                // This fails if the folder is not empty.
                let _ = disk(|| std::fs::remove_dir(folder));
            }
        }
        let _ = self.lock.unlock();
    }
}

fn no_run(path: &Path, problem: &str) -> Error {
    Error::file(path, format!("the folder has files but no run that could be replaced: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::disk::faults::FAULT;
    use super::*;
    use crate::eval::Evaluation;
    use crate::train::checkpoint::Fingerprints;
    use crate::train::progress::EpochTotals;
    use crate::train::{Best, Progress};

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
        run.log(&format!("{{\"event\":\"step\",\"step\":{number},\"seed\":{seed}}}"))?;
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

    /// Trains to the end, from the start or from the run's last checkpoint.
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

    /// Checks that all files a reader sees belong to one checkpoint, and returns its seed.
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
            [BEST, CONFIG, EVENTS, LAST, METRICS, VOCABULARY]
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
        // If many try at once, one of them has the lock at a time.
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
