//! Atomic writing: a file is replaced completely or not at all.

use std::fs::Metadata;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::escape;

/// Writes a file atomically: at any moment the path holds the complete old file or the complete new one.
/// The bytes go to a temporary file in the same folder, which is synced and then renamed. A link is
/// followed. A replaced file keeps its mode, and its owner if this process may set it; a new file gets
/// mode 0666 less the umask.
///
/// # Errors
///
/// Fails if the folder does not exist, if the path is neither free nor a regular file, if it is a
/// dangling link, or if writing fails. The old file is then unchanged.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = check_target(path)?;
    let folder = folder_of(&target);
    let before = std::fs::metadata(&target).ok();
    let write = || {
        let mut temporary = builder(before.as_ref()).tempfile_in(folder)?;
        temporary.write_all(bytes)?;
        if let Some(before) = &before {
            keep_owner_and_mode(temporary.path(), before)?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&target).map_err(|e| e.error)?;
        sync_folder(folder)
    };
    write().map_err(|source| Error::io(path, "write", source))
}

/// The file that writing to a path creates or replaces: the path itself, or the target of a link.
///
/// # Errors
///
/// The same as [`write_atomically`], before anything is written.
pub(crate) fn check_target(path: &Path) -> Result<PathBuf> {
    let refuse = |problem: String| Err(Error::file(path, format!("cannot write: {problem}")));
    let target = match std::fs::canonicalize(path) {
        Ok(target) if target.is_file() => target,
        Ok(_) => return refuse("it exists and is not a regular file".into()),
        Err(_) if path.is_symlink() => return refuse("it is a link to a file that does not exist".into()),
        Err(e) if e.kind() == ErrorKind::NotFound => path.into(),
        Err(e) => return Err(Error::io(path, "write", e)),
    };
    let folder = folder_of(&target);
    if !folder.is_dir() {
        return refuse(format!("there is no folder {}", escape::path(folder)));
    }
    Ok(target)
}

/// The folder of a file or of another folder.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A builder of temporary files with the mode of the final file. By default they would be private.
#[cfg(unix)]
fn builder(before: Option<&Metadata>) -> tempfile::Builder<'static, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mode = before.map_or(0o666, |before| before.permissions().mode() & 0o777);
    let mut builder = tempfile::Builder::new();
    // Other users may at no time read more than they may read of the final file. This process must be
    // able to write.
    builder.prefix(".vsepp-").permissions(std::fs::Permissions::from_mode(mode | 0o200));
    builder
}

#[cfg(unix)]
pub(crate) fn keep_owner_and_mode(path: &Path, before: &Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let now = std::fs::metadata(path)?;
    if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
        // Only root may change the owner. Otherwise the file belongs to this process's user.
        let _ = std::os::unix::fs::chown(path, Some(before.uid()), Some(before.gid()));
    }
    std::fs::set_permissions(path, before.permissions())
}

#[cfg(not(unix))]
fn builder(_: Option<&Metadata>) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".vsepp-");
    builder
}

#[cfg(not(unix))]
pub(crate) fn keep_owner_and_mode(_: &Path, _: &Metadata) -> std::io::Result<()> {
    Ok(())
}

/// Syncs a folder. A rename is on disk only after that.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_completely_and_no_temporary_file_remains() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("no/such/b.txt");
        assert!(write_atomically(&missing, b"x").unwrap_err().to_string().contains("there is no folder"));
        assert!(write_atomically(folder.path(), b"x").unwrap_err().to_string().contains("not a regular file"));
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_kept_and_the_umask_is_respected() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        // The mode that an ordinary program gets.
        let usual = folder.path().join("usual");
        std::fs::write(&usual, b"x").unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, b"one").unwrap();
        assert_eq!(mode(&path), mode(&usual));
        for kept in [0o600, 0o640, 0o444, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(kept)).unwrap();
            write_atomically(&path, b"two").unwrap();
            assert_eq!(mode(&path), kept, "{kept:o}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_and_a_dangling_link_refused() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        symlink(&file, &link).unwrap();
        let problem = write_atomically(&link, b"x").unwrap_err().to_string();
        assert!(problem.ends_with("link: cannot write: it is a link to a file that does not exist"), "{problem}");
        assert!(!file.exists() && link.is_symlink());
        std::fs::write(&file, b"old").unwrap();
        write_atomically(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());
        let null = write_atomically(Path::new("/dev/null"), b"x").unwrap_err().to_string();
        assert!(null.contains("not a regular file"), "{null}");
    }
}
