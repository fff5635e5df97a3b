//! Pictures in memory as a store: those that the program draws.

use std::borrow::Cow;

use ndarray::Array4;

use super::crops::Crops;
use super::picture::Picture;
use super::views::Views;
use crate::data::store::{Draw, ImageStore, check_rows};
use crate::error::{Error, Result};
use crate::files::digest;
use crate::model::Images;

/// Pictures in memory, seen as those of [`PictureFiles`](super::PictureFiles) are.
#[derive(Clone, Debug)]
pub(crate) struct DrawnPictures {
    pictures: Vec<Picture>,
    views: Views,
}

impl DrawnPictures {
    /// # Errors
    ///
    /// If a size of the crops is 0 or above 4096.
    pub(crate) fn new(pictures: Vec<Picture>, crops: Crops) -> Result<Self> {
        Ok(Self { pictures, views: Views::new(crops)? })
    }

    fn check(&self, rows: &[usize]) -> Result<()> {
        check_rows(rows, self.len()).map_err(|problem| Error::mismatch(format!("pictures: {problem}")))
    }
}

impl ImageStore for DrawnPictures {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn shape(&self) -> &[usize] {
        self.views.shape()
    }

    fn fill(&self, rows: &[usize], draw: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()> {
        self.check(rows)?;
        self.views.fill(|row| Ok(Cow::Borrowed(&self.pictures[row])), rows, draw, into)
    }

    fn ten(&self, row: usize) -> Result<Array4<f32>> {
        self.check(&[row])?;
        self.views.ten(&self.pictures[row])
    }

    /// A digest of the pixels and of what is made of them.
    fn fingerprint(&self, rows: &[usize]) -> Result<String> {
        self.check(rows)?;
        let mut all = self.views.crops().to_string();
        for &row in rows {
            all.push('\n');
            all.push_str(&digest(self.pictures[row].rgb()));
        }
        Ok(digest(all.as_bytes()))
    }
}
