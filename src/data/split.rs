//! One split of a data set: images, captions, and which belong together.
//!
//! The precomputed format of the original: `{split}_ims.npy` [rows, F] and `{split}_caps.txt`, one
//! caption a line, UTF-8. The captions are a multiple k of the rows, and row i goes with the lines
//! k i … k i + k − 1. Where there are as many rows as captions, equal neighbouring rows are one image:
//! the original repeats every image five times, and R@K counts images, not copies.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView1, Axis};

use super::copies::Copies;
use crate::error::{Error, Result};
use crate::files;

/// Images with their captions, image by image.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// `train`, `dev`, `test`, …
    pub name: String,
    /// φ of every distinct image, [N, F].
    pub images: Array2<f32>,
    /// The captions as they were written, `[M]`, image by image.
    pub captions: Vec<String>,
    /// The image of each caption, `[M]`, rising.
    pub image_of: Vec<usize>,
    /// The id of every distinct image, `[N]`, where there are ids.
    pub ids: Option<Vec<String>>,
    /// What was noticed on reading, for whoever talks to the user.
    pub notes: Vec<String>,
    /// Caption i of image n is number `starts[n] + i`; `[N + 1]`.
    starts: Vec<usize>,
}

impl Split {
    /// The two files of a split.
    #[must_use]
    pub fn paths(folder: &Path, name: &str) -> [PathBuf; 2] {
        [folder.join(format!("{name}_ims.npy")), folder.join(format!("{name}_caps.txt"))]
    }

    /// Reads a split in the precomputed format.
    ///
    /// **Errors** if a file is missing; if the features are no finite matrix; if the captions are not
    /// UTF-8, are none, have an empty line or are Python `bytes` literals; or if there is no whole
    /// number of captions for each row.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let [images, captions] = Self::paths(folder, name);
        // The captions first: they are small, and most mistakes are there.
        let lines = read_captions(&captions)?;
        let features = files::read_matrix(&images)?;
        if features.nrows() == 0 {
            return Err(Error::file(
                &images,
                format!("expected at least one image, found shape {:?}", features.shape()),
            ));
        }
        if features.ncols() == 0 {
            return Err(Error::file(
                &images,
                format!("expected at least one feature, found shape {:?}", features.shape()),
            ));
        }
        if features.nrows() == 0 || !lines.len().is_multiple_of(features.nrows()) {
            let problem = format!(
                "expected a multiple of the {} row(s) of {}, found {} captions",
                features.nrows(),
                images.display(),
                lines.len()
            );
            return Err(Error::file(&captions, problem));
        }
        Self::new(name, features, lines)
    }

    /// A split from rows and captions, a whole number of captions for each row.
    ///
    /// **Errors** if the captions are not a multiple of the rows.
    pub fn new(name: &str, rows: Array2<f32>, captions: Vec<String>) -> Result<Self> {
        let (count, m) = (rows.nrows(), captions.len());
        if count == 0 || !m.is_multiple_of(count) || m == 0 {
            return Err(Error::shape(&format!("{name} captions"), format!("a multiple of {count} rows"), &[m]));
        }
        let per_row = m / count;
        let distinct: Vec<usize> = if per_row == 1 { Copies::find(rows.view()).starts() } else { (0..count).collect() };
        let mut notes = Vec::new();
        let images = if distinct.len() == count {
            rows
        } else {
            notes.push(format!(
                "{name}: the {count} rows are {} images (equal neighbouring rows are one image); R@K counts images",
                distinct.len()
            ));
            rows.select(Axis(0), &distinct)
        };
        let mut starts: Vec<usize> = distinct.iter().map(|row| row * per_row).collect();
        starts.push(m);
        let image_of = starts.windows(2).enumerate().flat_map(|(n, w)| vec![n; w[1] - w[0]]).collect();
        Ok(Self { name: name.into(), images, captions, image_of, ids: None, notes, starts })
    }

    /// The captions of an image, as numbers.
    #[must_use]
    pub fn captions_of(&self, image: usize) -> Range<usize> {
        self.starts[image]..self.starts[image + 1]
    }

    /// For every image its first caption, and M at the end: `[N + 1]`.
    #[must_use]
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// φ of the image of a caption, `[F]`.
    #[must_use]
    pub fn features_of(&self, caption: usize) -> ArrayView1<'_, f32> {
        self.images.row(self.image_of[caption])
    }
}

/// One caption a line. A line may end with CR LF, and a byte-order mark is passed over.
fn read_captions(path: &Path) -> Result<Vec<String>> {
    /// Two hundred times the captions of COCO.
    const MOST: u64 = 1 << 32;
    let bytes = files::read_bytes(path, MOST)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].split(|&b| b == b'\n').count();
        Error::line(path, line, format!("expected UTF-8, found byte 0x{:02x}", bytes[e.valid_up_to()]))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Error::file(path, "expected one caption a line, found an empty file"));
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let mut captions = Vec::new();
    for (number, line) in (1..).zip(lines) {
        if line.chars().all(|c| c.is_whitespace() || c.is_control()) {
            return Err(Error::line(path, number, "expected a caption, found an empty line"));
        }
        if is_bytes_literal(line) {
            let start: String = line.chars().take(24).collect();
            let problem = format!(
                "found a Python bytes literal, {start}…: captions were read as bytes and printed as they are, \
                 which halves the recall in silence; expected decoded text (in Python: line.decode('utf-8'))"
            );
            return Err(Error::line(path, number, problem));
        }
        captions.push(line.to_owned());
    }
    Ok(captions)
}

/// `b'…'` or `b"…"`, what Python 3 prints for undecoded bytes.
fn is_bytes_literal(line: &str) -> bool {
    let line = line.trim();
    ['\'', '"'].iter().any(|&quote| {
        line.strip_prefix('b').and_then(|rest| rest.strip_prefix(quote)).is_some_and(|rest| rest.ends_with(quote))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn captions(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("caption {i}")).collect()
    }

    #[test]
    fn any_whole_number_of_captions_an_image() {
        let split = Split::new("dev", array![[1.0], [1.0]], captions(6)).unwrap();
        assert_eq!(split.image_of, [0, 0, 0, 1, 1, 1]);
        assert_eq!((split.captions_of(0), split.captions_of(1)), (0..3, 3..6));
        assert_eq!(split.images.nrows(), 2, "equal rows stay apart where rows are not captions");
        assert!(Split::new("dev", array![[1.0], [2.0]], captions(5)).is_err());
    }

    #[test]
    fn where_rows_are_captions_equal_neighbours_are_one_image() {
        let split = Split::new("dev", array![[1.0], [1.0], [2.0], [1.0], [1.0]], captions(5)).unwrap();
        assert_eq!(split.images, array![[1.0], [2.0], [1.0]]);
        assert_eq!(split.image_of, [0, 0, 1, 2, 2]);
        assert!(split.notes[0].contains("5 rows are 3 images"));
    }

    fn read(text: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        match read_captions(file.path()) {
            Ok(captions) => format!("{captions:?}"),
            Err(error) => error.to_string().replace(&file.path().display().to_string(), "FILE"),
        }
    }

    #[test]
    fn caption_files() {
        assert_eq!(read(b"A dog.\r\ntwo\n"), r#"["A dog.", "two"]"#);
        assert_eq!(read("\u{feff}é".as_bytes()), r#"["é"]"#);
        assert_eq!(read(b"b is for 'bee'"), r#"["b is for 'bee'"]"#);
        assert_eq!(read(b""), "FILE: expected one caption a line, found an empty file");
        assert_eq!(read(b"\n\n"), "FILE: expected one caption a line, found an empty file");
        assert_eq!(read(b"a\n\x1c\nb\n"), "FILE:2: expected a caption, found an empty line");
        assert_eq!(read(b"a\n \nb\n"), "FILE:2: expected a caption, found an empty line");
        assert_eq!(read(b"a\nb\n\n"), "FILE:3: expected a caption, found an empty line");
        assert_eq!(read(b"a\nb\xff\n"), "FILE:2: expected UTF-8, found byte 0xff");
        assert!(read(b"a\nb'a man'\n").starts_with("FILE:2: found a Python bytes literal"));
        assert!(read(b"b\"a man's\"").starts_with("FILE:1: found a Python bytes literal"));
    }
}
