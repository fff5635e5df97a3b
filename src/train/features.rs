//! Features of pictures, computed block by block into a `.npy` file. What was computed is kept on the disk, so a
//! command that was stopped goes on where it was.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::embed::mean_of_ten;
use crate::data::{ImageStore, PictureFiles};
use crate::error::{Error, ErrorKind, Result};
use crate::escape;
use crate::files::{
    check_target, digest, digest_of_numbers, folder_of, npy_header, read_text, sync_folder, write_atomically,
};
use crate::model::{Encoder, Images};
use crate::nn::Module;
use crate::nn::l2norm::normalise;

/// What the features are, to compare with those of a file that is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct About {
    /// The network.
    pub encoder: String,
    /// A digest of its weights.
    pub weights: String,
    /// What becomes of a picture.
    pub crops: String,
    /// A digest of the pictures' names.
    pub pictures: String,
}

/// The pictures, and how their features are computed.
#[derive(Debug)]
pub(crate) struct Extraction<'a> {
    pub encoder: &'a Encoder<f32>,
    pub pictures: &'a PictureFiles,
    /// F
    pub features: usize,
    /// The mean of ten crops, not one.
    pub ten: bool,
    /// Crops at a time: more need more memory.
    pub block: usize,
}

/// Features that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Pictures whose features the file had already.
    pub before: usize,
    /// Pictures whose features were computed now.
    pub computed: usize,
    /// Whether the file is complete.
    pub complete: bool,
}

impl Extraction<'_> {
    /// Pictures at a time.
    fn pictures_at_once(&self) -> usize {
        (if self.ten { self.block / 10 } else { self.block }).max(1)
    }

    /// The features of some pictures, rows of norm 1.
    ///
    /// ```text
    /// one crop    φ / ‖φ‖
    /// ten crops   m / ‖m‖, m = the mean of their ten φ
    /// ```
    ///
    /// # Errors
    ///
    /// With the name of the picture, if it cannot be read, or if its features are zero or not finite.
    fn of(&self, rows: &[usize], images: &mut Images<f32>) -> Result<Array2<f32>> {
        let mut phi = if self.ten {
            let mut means = Array2::zeros((rows.len(), self.features));
            for (&row, mut mean) in rows.iter().zip(means.outer_iter_mut()) {
                mean.assign(&mean_of_ten(self.encoder, self.pictures, row)?);
            }
            means
        } else {
            self.pictures.fill(rows, None, images)?;
            self.encoder.embed(images.pixels()?)?
        };
        normalise(&mut phi).map_err(|error| match *error.kind() {
            ErrorKind::ZeroNorm { row, .. } => self.unusable(rows[row], "all features are 0"),
            ErrorKind::NotFinite { ref index, value, .. } => {
                self.unusable(rows[index[0]], &format!("a feature is {value}"))
            }
            _ => error,
        })?;
        Ok(phi)
    }

    fn unusable(&self, row: usize, problem: &str) -> Error {
        let name = escape::name(&self.pictures.names()[row]);
        Error::mismatch(format!("{name}: {problem}; expected finite features that are not all 0: do the weights fit?"))
    }

    /// Writes the features of all pictures to `out` and their names, one a line, to `names`. Until all are there,
    /// the rows are in `out` with `.part` at its end, and the next call goes on after them. After each block
    /// `progress` gets how many rows there are. `stop` ends the work after a block.
    ///
    /// # Errors
    ///
    /// If a picture or a file cannot be read or written, or if the incomplete file has other features, unless `force`
    /// begins it again. What was computed stays.
    pub(crate) fn write(
        &self,
        about: &About,
        (out, names): (&Path, &Path),
        force: bool,
        stop: &AtomicBool,
        mut progress: impl FnMut(usize),
    ) -> Result<Written> {
        let total = self.pictures.len();
        let target = check_target(out)?;
        let mut part = Part::open(&target, about, [total, self.features], self.pictures.paths(), force)?;
        let before = part.rows;
        progress(before);
        let (mut images, rows) = (Images::default(), (0..total).collect::<Vec<_>>());
        for rows in rows[before..].chunks(self.pictures_at_once()) {
            if stop.load(Ordering::Relaxed) {
                part.sync()?;
                return Ok(Written { before, computed: part.rows - before, complete: false });
            }
            part.append(&self.of(rows, &mut images)?)?;
            progress(part.rows);
        }
        let mut lines = self.pictures.names().join("\n");
        lines.push('\n');
        write_atomically(names, lines.as_bytes())?;
        part.finish(&target)?;
        Ok(Written { before, computed: total - before, complete: true })
    }
}

/// A `.npy` file that is not complete, and a description of it.
struct Part {
    path: PathBuf,
    about: PathBuf,
    file: File,
    rows: usize,
}

/// `path` with an ending after its own.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Part {
    /// The file that there is, from its complete rows on, or a new one. A picture that was changed since the file was
    /// written last, and those after it, are computed again.
    fn open(out: &Path, about: &About, [rows, columns]: [usize; 2], pictures: &[PathBuf], force: bool) -> Result<Self> {
        /// The most bytes of a description.
        const ABOUT: u64 = 1 << 16;
        let (path, about_path) = (with_ending(out, ".part"), with_ending(out, ".part.json"));
        let header = npy_header([rows, columns]).map_err(|problem| Error::file(out, problem))?;
        let begun = path.is_file() && about_path.is_file() && !force;
        let failed = |action| {
            let path = path.clone();
            move |e| Error::io(&path, action, e)
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed("write"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(&path, "another process is computing these features: wait until it ends"));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, "lock", e)),
        }
        if begun {
            let found: About = serde_json::from_str(&read_text(&about_path, ABOUT)?)
                .map_err(|e| Error::file(&about_path, format!("not a description of features: {e}")))?;
            if let Some(what) = different(about, &found) {
                return Err(Error::file(&path, format!("has features of {what}; --force begins it again")));
            }
        } else {
            let text = serde_json::to_string_pretty(about).expect("text");
            write_atomically(&about_path, text.as_bytes())?;
        }
        let mut kept = 0;
        if begun {
            kept = complete_rows(&mut file, &header, columns).map_err(failed("read"))?.min(rows);
            let written = file.metadata().and_then(|about| about.modified()).map_err(failed("read"))?;
            let changed =
                |path: &PathBuf| path.metadata().and_then(|about| about.modified()).is_ok_and(|at| at > written);
            kept = pictures[..kept].iter().position(changed).unwrap_or(kept);
        }
        if kept == 0 {
            file.rewind().and_then(|()| file.write_all(&header)).map_err(failed("write"))?;
        }
        let end = (header.len() + kept * columns * size_of::<f32>()) as u64;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed("write"))?;
        Ok(Self { path, about: about_path, file, rows: kept })
    }

    fn append(&mut self, features: &Array2<f32>) -> Result<()> {
        let bytes: Vec<u8> = features.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(|e| Error::io(&self.path, "write", e))?;
        self.rows += features.nrows();
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(&self.path, "write", e))
    }

    /// Moves the complete file to its place.
    fn finish(self, out: &Path) -> Result<()> {
        self.sync()?;
        std::fs::rename(&self.path, out).map_err(|e| Error::io(out, "write", e))?;
        sync_folder(folder_of(out)).map_err(|e| Error::io(out, "write", e))?;
        std::fs::remove_file(&self.about).map_err(|e| Error::io(&self.about, "remove", e))
    }
}

/// What is not the same.
fn different(expected: &About, found: &About) -> Option<String> {
    let shown = |what: &str, expected: &str, found: &str| Some(format!("{what} ({found}, now {expected})"));
    if expected.encoder != found.encoder {
        shown("another encoder", &expected.encoder, &found.encoder)
    } else if expected.crops != found.crops {
        shown("other crops", &expected.crops, &found.crops)
    } else if expected.weights != found.weights {
        Some("other weights".into())
    } else {
        (expected.pictures != found.pictures).then(|| "other pictures".into())
    }
}

/// How many rows at the beginning of the file are features: they have norm 1. After a failure of the machine the end
/// of a file may have been lost or be zeros.
fn complete_rows(file: &mut File, header: &[u8], columns: usize) -> std::io::Result<usize> {
    let mut begin = vec![0; header.len()];
    file.rewind()?;
    let mut reader = std::io::BufReader::new(file);
    if reader.read_exact(&mut begin).is_err() || begin != header {
        return Ok(0);
    }
    let (mut bytes, mut rows) = (vec![0; columns * size_of::<f32>()], 0);
    while reader.read_exact(&mut bytes).is_ok() {
        let numbers = bytes.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
        let norm = numbers.fold(0.0, |sum, x| sum + x * x).sqrt();
        // Each number is rounded by a part in 2²⁴, and the norm in f32 by some more.
        if norm.is_nan() || (norm - 1.0).abs() > 1e-3 {
            break;
        }
        rows += 1;
    }
    Ok(rows)
}

/// A digest of the pictures' names.
pub(crate) fn digest_of_names(pictures: &PictureFiles) -> String {
    digest(pictures.names().join("\n").as_bytes())
}

/// A digest of all numbers of an encoder, whichever file they are from.
pub(crate) fn digest_of_weights(encoder: &Encoder<f32>) -> Result<String> {
    let (mut digests, mut failed) = (String::new(), None);
    encoder.each(|_, _, x| {
        let numbers = x.as_slice().expect("weights are in standard layout");
        let read = |range: Range<usize>, (): &mut (), into: &mut Vec<f32>| {
            into.extend_from_slice(&numbers[range]);
            Ok(())
        };
        match digest_of_numbers(numbers.len(), read) {
            Ok(digest) => digests.push_str(&digest),
            Err(error) => failed = Some(error),
        }
    });
    failed.map_or_else(|| Ok(digest(digests.as_bytes())), Err)
}
