//! Files of pictures as a store: each is decoded when it is needed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use ndarray::Array4;
use rayon::prelude::*;

use super::crops::Crops;
use super::limits::FILE;
use super::list::List;
use super::picture::Picture;
use super::views::Views;
use crate::data::store::{Draw, ImageStore, check_rows};
use crate::error::{Error, Result};
use crate::files::{digest, read_bytes};
use crate::model::Images;

/// Pictures in files, as the numbers that an image encoder sees: [3, C, C] each, the centre of the picture or, in
/// training, a random crop.
///
/// A random crop depends on the seed, the epoch and the caption alone. Pictures are decoded on all threads; their
/// number changes no bit.
///
/// ```no_run
/// use std::path::Path;
/// use vsepp::data::{Crops, ImageStore, PictureFiles};
/// use vsepp::model::Images;
///
/// # fn main() -> vsepp::Result<()> {
/// let pictures = PictureFiles::open(Path::new("val2014"), Crops::default())?;
/// let mut images = Images::default();
/// pictures.fill(&[0, 1], None, &mut images)?; // [2, 3, 224, 224]
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PictureFiles {
    list: List,
    views: Views,
}

impl PictureFiles {
    /// The pictures of a folder: the files below it whose names end in `.jpg`, `.jpeg` or `.png` and do not begin
    /// with a dot, in the order of their names. Or those of a list: a file with one path in each line, relative to
    /// the list's folder; its order stays. No picture is read yet.
    ///
    /// # Errors
    ///
    /// If there are none, if one of the list does not exist, or if a size of the crops is 0 or above 4096.
    pub fn open(path: &Path, crops: Crops) -> Result<Self> {
        Self::of(List::read(path)?, crops)
    }

    /// Some files, by their paths, which are also their names.
    ///
    /// # Errors
    ///
    /// If a size of the crops is 0 or above 4096.
    pub fn new(paths: Vec<PathBuf>, crops: Crops) -> Result<Self> {
        let names = paths.iter().map(|path| path.display().to_string()).collect();
        Self::of(List { paths, names }, crops)
    }

    fn of(list: List, crops: Crops) -> Result<Self> {
        Ok(Self { list, views: Views::new(crops)? })
    }

    /// The name of each picture: its path below the folder, or as the list has it.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.list.names
    }

    /// The file of each picture.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.list.paths
    }

    fn check(&self, rows: &[usize]) -> Result<()> {
        check_rows(rows, self.len()).map_err(|problem| Error::mismatch(format!("pictures: {problem}")))
    }

    fn read(&self, row: usize) -> Result<Picture> {
        Picture::read(&self.list.paths[row], self.views.crops().upright)
    }
}

impl ImageStore for PictureFiles {
    fn len(&self) -> usize {
        self.list.paths.len()
    }

    fn shape(&self) -> &[usize] {
        self.views.shape()
    }

    fn fill(&self, rows: &[usize], draw: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()> {
        self.check(rows)?;
        self.views.fill(|row| self.read(row).map(Cow::Owned), rows, draw, into)
    }

    fn ten(&self, row: usize) -> Result<Array4<f32>> {
        self.check(&[row])?;
        self.views.ten(&self.read(row)?)
    }

    /// A digest of the files' bytes and of what is made of them.
    fn fingerprint(&self, rows: &[usize]) -> Result<String> {
        self.check(rows)?;
        let one = |&row: &usize| read_bytes(&self.list.paths[row], FILE).map(|bytes| digest(&bytes));
        let digests: Vec<Result<String>> = rows.par_iter().map(one).collect();
        let mut all = self.views.crops().to_string();
        for digest in digests {
            all.push('\n');
            all.push_str(&digest?);
        }
        Ok(digest(all.as_bytes()))
    }
}
