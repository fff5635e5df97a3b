//! Which pictures there are: those in a folder, or those in a list.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::escape;
use crate::files::read_text;

/// Pictures with their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) paths: Vec<PathBuf>,
    /// The path of each, below the folder or as in the list, with `/`.
    pub(super) names: Vec<String>,
}

/// The most bytes of a list.
const MOST: u64 = 1 << 28;

impl List {
    /// A folder: the files below it whose names end in `.jpg`, `.jpeg` or `.png` (in capitals, too) and do not begin
    /// with a dot, in the order of their names, byte by byte. Links are followed. A file: a list of paths, one a
    /// line, relative to the list's folder; its order stays.
    ///
    /// # Errors
    ///
    /// If there are no pictures; if a folder cannot be read, or a link leads to a folder above; with the line, if
    /// a picture of the list does not exist; if a name is not UTF-8 or has a line break.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut list = Self::default();
        if path.is_dir() {
            let mut found = Vec::new();
            collect(path, "", &mut Vec::new(), &mut found)?;
            found.sort_unstable();
            (list.names, list.paths) = found.into_iter().unzip();
        } else {
            let folder = path.parent().unwrap_or(Path::new(""));
            for (line, name) in (1..).zip(read_text(path, MOST)?.lines()) {
                let picture = folder.join(name);
                if !picture.is_file() {
                    let problem =
                        format!("expected the path of a picture, found `{}`: no such file", escape::name(name));
                    return Err(Error::line(path, line, problem));
                }
                list.paths.push(picture);
                list.names.push(name.into());
            }
        }
        if list.paths.is_empty() {
            return Err(Error::file(path, "expected pictures (.jpg, .jpeg, .png), found none"));
        }
        Ok(list)
    }
}

/// The pictures below a folder. `above` are the folders that lead to it, without links.
fn collect(folder: &Path, name: &str, above: &mut Vec<PathBuf>, found: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let failed = |e| Error::io(folder, "read", e);
    let real = folder.canonicalize().map_err(failed)?;
    if above.contains(&real) {
        return Err(Error::file(folder, "expected files and folders, found a link to a folder above"));
    }
    above.push(real);
    for entry in folder.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let file = path.file_name().unwrap_or_default();
        let Some(file) = file.to_str().filter(|file| !file.contains(['\n', '\r'])) else {
            return Err(Error::file(&path, "expected a name in UTF-8, in one line"));
        };
        if file.starts_with('.') {
            continue;
        }
        let below = if name.is_empty() { file.into() } else { format!("{name}/{file}") };
        if path.is_dir() {
            collect(&path, &below, above, found)?;
        } else if is_picture(&path) {
            found.push((below, path));
        }
    }
    above.pop();
    Ok(())
}

/// Whether a file is one of a picture by its name.
fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["jpg", "jpeg", "png"].iter().any(|picture| end.eq_ignore_ascii_case(picture)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_pictures_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(List::read(root).unwrap_err().to_string().ends_with("(.jpg, .jpeg, .png), found none"));
        std::fs::create_dir(root.join("b")).unwrap();
        for name in ["b/c.jpg", "b.png", "a.JPEG", "b/.hidden.jpg", "b/note.txt", "b/C.jpg", "ü.jpg", "png"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let list = List::read(root).unwrap();
        assert_eq!(list.names, ["a.JPEG", "b.png", "b/C.jpg", "b/c.jpg", "ü.jpg"]);
        assert_eq!(list.paths, list.names.iter().map(|name| root.join(name)).collect::<Vec<_>>());
        assert!(List::read(&root.join("no")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_a_circle() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("b")).unwrap();
        std::fs::create_dir(root.join("c")).unwrap();
        std::fs::write(root.join("b/x.jpg"), "").unwrap();
        std::os::unix::fs::symlink(root.join("b"), root.join("c/d")).unwrap();
        assert_eq!(List::read(root).unwrap().names, ["b/x.jpg", "c/d/x.jpg"]);
        std::os::unix::fs::symlink(root, root.join("b/e")).unwrap();
        let message = List::read(root).unwrap_err().to_string();
        assert!(message.ends_with("b/e: expected files and folders, found a link to a folder above"), "{message}");
    }

    #[test]
    fn a_list_keeps_its_order_and_names_the_line_of_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.txt");
        for name in ["b.jpg", "a"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::write(&list, "b.jpg\r\na\nb.jpg\n").unwrap();
        assert_eq!(List::read(&list).unwrap().names, ["b.jpg", "a", "b.jpg"]);
        for (text, problem) in [
            ("b.jpg\nc.jpg\n", "list.txt:2: expected the path of a picture, found `c.jpg`: no such file"),
            ("b.jpg\n\na\n", "list.txt:2: expected the path of a picture, found ``: no such file"),
            ("", "list.txt: expected pictures (.jpg, .jpeg, .png), found none"),
        ] {
            std::fs::write(&list, text).unwrap();
            let message = List::read(&list).unwrap_err().to_string();
            assert!(message.ends_with(problem), "{message}");
        }
    }
}
