//! All or nothing.

use std::fs::Metadata;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::escape;

/// Writes a file so that at any moment there is the old one or the new one, never half of it: to a
/// temporary file in the same folder, synced to disk, then renamed. A link is followed. A file that is
/// replaced keeps its mode, and its owner where this process may set it; a new one gets what the umask
/// leaves of 0666.
///
/// # Errors
///
/// Fails if the folder is not there, if the path is taken by something else than a regular file
/// or by a link to nothing, or if the disk refuses; the old file is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
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

/// The file that writing to a path makes or replaces: the path itself, or what it is a link to.
///
/// # Errors
///
/// Fails as [`write_atomically`], before anything is written.
pub fn check_target(path: &Path) -> Result<PathBuf> {
    let refuse = |problem: String| Err(Error::file(path, format!("cannot write: {problem}")));
    let target = match std::fs::canonicalize(path) {
        Ok(target) if target.is_file() => target,
        Ok(_) => return refuse("it is there, and no regular file".into()),
        Err(_) if path.is_symlink() => return refuse("it is a link to a file that is not there".into()),
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

/// Temporary files are private unless they are asked to be otherwise; the umask applies.
#[cfg(unix)]
fn builder(before: Option<&Metadata>) -> tempfile::Builder<'static, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mode = before.map_or(0o666, |before| before.permissions().mode() & 0o777);
    let mut builder = tempfile::Builder::new();
    // So that at no moment others may read what they may not read in the end, and this process may write.
    builder.prefix(".vsepp-").permissions(std::fs::Permissions::from_mode(mode | 0o200));
    builder
}

#[cfg(unix)]
pub(crate) fn keep_owner_and_mode(path: &Path, before: &Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let now = std::fs::metadata(path)?;
    if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
        // Only the system's administrator may give files away; then the new owner is who writes.
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

/// A rename is only on disk when its folder is.
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

    #[cfg(unix)]
    #[test]
    fn modes_are_kept_and_the_umask_is_respected() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        // As an ordinary program makes one.
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
    fn a_link_is_followed_and_a_link_to_nothing_refused() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        symlink(&file, &link).unwrap();
        let problem = write_atomically(&link, b"x").unwrap_err().to_string();
        assert!(problem.ends_with("link: cannot write: it is a link to a file that is not there"), "{problem}");
        assert!(!file.exists() && link.is_symlink());
        std::fs::write(&file, b"old").unwrap();
        write_atomically(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());
        let null = write_atomically(Path::new("/dev/null"), b"x").unwrap_err().to_string();
        assert!(null.contains("no regular file"), "{null}");
    }
}
