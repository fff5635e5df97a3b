//! All or nothing.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file so that at any moment there is the old one or the new one, never half of it: to a
/// temporary file beside it, synced to disk, then renamed.
///
/// **Errors** if the folder is not there or the disk refuses; the old file is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    // Through a link to what it points to; never in the place of a device or a folder.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    if target.exists() && !target.is_file() {
        return Err(Error::file(path, "cannot write: it is there, and no regular file"));
    }
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(Error::file(path, format!("cannot write: there is no folder {}", folder.display())));
    }
    let write = || {
        let mut temporary = tempfile::Builder::new().prefix(".vsepp-").tempfile_in(folder)?;
        temporary.write_all(bytes)?;
        set_usual_permissions(temporary.as_file())?;
        temporary.as_file().sync_all()?;
        temporary.persist(&target).map_err(|e| e.error)?;
        sync_folder(folder)
    };
    write().map_err(|source| Error::io(path, "write", source))
}

/// Temporary files are private; the file that one becomes is as readable as any other.
#[cfg(unix)]
fn set_usual_permissions(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_usual_permissions(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

/// A rename is only on disk when its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("no/such/b.txt");
        assert!(write_atomically(&missing, b"x").unwrap_err().to_string().contains("there is no folder"));
        assert!(write_atomically(folder.path(), b"x").unwrap_err().to_string().contains("no regular file"));
    }
}
