//! Changes to a run folder on disk. A test can make each of them fail.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{folder_of, keep_owner_and_mode, sync_folder as sync};

/// Makes the folders that are missing, and adds them to `made`.
pub(super) fn make_folders(path: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
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

/// Whether this is a folder. A link to a folder is not, because it leads elsewhere.
pub(super) fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.is_dir())
}

pub(super) fn ignore_missing(result: std::io::Result<()>) -> std::io::Result<()> {
    result.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// Writes a new file with the owner and mode of the one that it will replace. It is on disk when this
/// returns.
pub(super) fn write_synced(path: &Path, replaces: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = disk(|| File::create_new(path))?;
    if let Ok(before) = std::fs::metadata(replaces) {
        disk(|| keep_owner_and_mode(path, &before))?;
    }
    write_all(&mut file, bytes)?;
    disk(|| file.sync_all())
}

/// Every change to a run folder goes through this function, so that a test can make each of them fail.
pub(super) fn disk<T>(change: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    #[cfg(test)]
    faults::fault()?;
    change()
}

pub(super) fn write_all(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    #[cfg(test)]
    if let Err(error) = faults::fault() {
        // Fails like a full disk.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    file.write_all(bytes)
}

/// Syncs a folder: a rename is on disk only after that.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    disk(|| sync(folder)).map_err(|e| Error::io(folder, "sync", e))
}

#[cfg(test)]
pub(super) mod faults {
    use std::cell::Cell;

    thread_local! {
        /// How many changes still succeed, and whether all later ones fail.
        pub(in super::super) static FAULT: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
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
}
