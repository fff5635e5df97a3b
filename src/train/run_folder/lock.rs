//! The lock: only one training at a time uses a folder.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::disk::{disk, make_folders};
use crate::error::{Error, Result};

/// Locked while a training works on the folder.
pub(super) const LOCK: &str = ".vsepp-lock";

/// Makes the folder if necessary, and locks it.
pub(super) fn take(path: &Path, made: &mut Vec<PathBuf>) -> Result<File> {
    /// Another try is needed only if another process has just removed the folder or the lock.
    const TRIES: usize = 100;
    let name = path.join(LOCK);
    for _ in 0..TRIES {
        make_folders(path, made)?;
        // Opening a named pipe would wait for a reader.
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
                    "another process is training in this folder: wait until it ends, or use another folder",
                ));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&name, "lock", e)),
        }
    }
    Err(Error::file(&name, "cannot be locked: it is removed again and again"))
}

/// Whether the file of this name is still this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Always true: on these systems the lock file is never removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}
