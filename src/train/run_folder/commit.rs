//! Writes checkpoints so that their files become visible together; [`super`] lists the steps.

use std::fs;

use super::disk::{disk, ignore_missing, is_folder, sync_folder, write_synced};
use super::read::{BEST, COMMIT, FILES, LAST, RunFolder, TEST};
use crate::error::{Error, Result};
use crate::train::checkpoint::Checkpoint;

/// The next checkpoint, while it is written.
pub(super) const NEXT: &str = ".vsepp-next";

impl RunFolder {
    /// Steps 2 to 4 for these files.
    pub(super) fn commit(&self, files: &[(&str, &[u8])]) -> Result<()> {
        let path = &self.path;
        let (next, commit) = (path.join(NEXT), path.join(COMMIT));
        let stage = || {
            disk(|| fs::create_dir(&next)).map_err(|e| Error::io(&next, "make the folder", e))?;
            for (name, bytes) in files {
                let place = path.join(name);
                write_synced(&next.join(name), &place, bytes).map_err(|e| Error::io(&place, "write", e))?;
            }
            sync_folder(&next)?;
            disk(|| fs::rename(&next, &commit)).map_err(|e| Error::io(&next, "rename", e))
        };
        if let Err(error) = stage() {
            // The disk may be full: free the space.
            let _ = self.discard(NEXT);
            return Err(error);
        }
        sync_folder(path)?;
        self.move_to_places()
    }

    /// Step 4, if there is a complete checkpoint.
    pub(super) fn move_to_places(&self) -> Result<()> {
        let path = &self.path;
        let commit = path.join(COMMIT);
        if !is_folder(&commit) {
            return Ok(());
        }
        let has_no_best = |last: Checkpoint| last.folder.is_some_and(|files| files.best.is_none());
        let stale_best = self.manifest()?.is_some_and(has_no_best);
        if commit.join(LAST).exists() {
            // These are the figures of an earlier model.
            let test = path.join(TEST);
            ignore_missing(disk(|| fs::remove_file(&test))).map_err(|e| Error::io(&test, "remove", e))?;
        }
        for name in FILES {
            let (from, to) = (commit.join(name), path.join(name));
            ignore_missing(disk(|| fs::rename(&from, &to))).map_err(|e| Error::io(&from, "move to its place", e))?;
        }
        if stale_best {
            // This file belongs to the run that was replaced.
            let best = path.join(BEST);
            ignore_missing(disk(|| fs::remove_file(&best))).map_err(|e| Error::io(&best, "remove", e))?;
        }
        sync_folder(path)?;
        disk(|| fs::remove_dir(&commit)).map_err(|e| Error::io(&commit, "remove", e))
    }

    /// Writes `test.json`, completely or not at all.
    ///
    /// # Errors
    ///
    /// If writing fails.
    #[cfg(feature = "cli")]
    pub(crate) fn write_test(&self, bytes: &[u8]) -> Result<()> {
        self.commit(&[(TEST, bytes)])
    }

    /// Removes a folder that this program made, with the files that it writes there.
    pub(super) fn discard(&self, name: &str) -> Result<()> {
        let folder = self.path.join(name);
        if !is_folder(&folder) {
            return Ok(());
        }
        for file in FILES.map(|name| folder.join(name)) {
            ignore_missing(disk(|| fs::remove_file(&file))).map_err(|e| Error::io(&file, "remove", e))?;
        }
        disk(|| fs::remove_dir(&folder)).map_err(|e| Error::io(&folder, "remove", e))
    }
}
