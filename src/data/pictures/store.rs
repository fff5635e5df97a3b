//! Files of pictures as a store: each is decoded when it is needed.

use std::path::{Path, PathBuf};

use ndarray::Array4;
use rayon::prelude::*;

use super::crops::{Crops, RandomCrop};
use super::limits::FILE;
use super::list::List;
use super::normalise::normalise;
use super::picture::Picture;
use crate::data::store::{Draw, ImageStore, check_rows};
use crate::error::{Error, Result};
use crate::files::{digest, read_bytes};
use crate::model::Images;
use crate::random::numbered_stream;

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
    crops: Crops,
    shape: [usize; 3],
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
        crops.check()?;
        Ok(Self { list, crops, shape: [3, crops.crop, crops.crop] })
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

    /// The ten crops of a picture, [10, 3, C, C].
    ///
    /// # Errors
    ///
    /// If there is no such picture, if it cannot be read, or if R < C.
    pub fn ten(&self, row: usize) -> Result<Array4<f32>> {
        self.check(&[row])?;
        let crops = self.crops.ten(&self.read(row)?)?;
        let [colours, height, width] = self.shape;
        let mut pixels = Array4::zeros((10, colours, height, width));
        let numbers = pixels.as_slice_mut().unwrap_or_default(); // it is in standard layout
        for (to, crop) in numbers.chunks_exact_mut(colours * height * width).zip(&crops) {
            normalise(crop, to);
        }
        Ok(pixels)
    }

    fn check(&self, rows: &[usize]) -> Result<()> {
        check_rows(rows, self.len()).map_err(|problem| Error::mismatch(format!("pictures: {problem}")))
    }

    fn read(&self, row: usize) -> Result<Picture> {
        Picture::read(&self.list.paths[row], self.crops.upright)
    }

    /// What a picture becomes for a caption, by its law.
    fn view(&self, row: usize, view: Option<(RandomCrop, Draw<'_>, usize)>) -> Result<Picture> {
        let picture = self.read(row)?;
        Ok(match view {
            None => self.crops.centre(&picture),
            Some((law, draw, caption)) => {
                let mut rng = numbered_stream(draw.seed, &format!("crop/{}", draw.epoch), caption as u64);
                self.crops.random(&picture, law, &mut rng)
            }
        })
    }
}

/// The first error in the order of the rows, whichever thread is the first to find one.
fn first_error(results: Vec<Result<()>>) -> Result<()> {
    results.into_iter().collect()
}

impl ImageStore for PictureFiles {
    fn len(&self) -> usize {
        self.list.paths.len()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn fill(&self, rows: &[usize], draw: Option<Draw<'_>>, into: &mut Images<f32>) -> Result<()> {
        self.check(rows)?;
        if let Some(draw) = draw
            && draw.captions.len() != rows.len()
        {
            let (expected, found) = (rows.len(), draw.captions.len());
            return Err(Error::mismatch(format!("pictures: expected a caption for each of {expected}, found {found}")));
        }
        let mut pixels = into.make_pixels(rows.len(), self.shape);
        let pixels = pixels.as_slice_mut().unwrap_or_default(); // it is in standard layout
        let drawn = self.crops.random.zip(draw);
        let one = |(k, (to, &row)): (usize, (&mut [f32], &usize))| {
            let view = drawn.map(|(law, draw)| (law, draw, draw.captions[k]));
            normalise(&self.view(row, view)?, to);
            Ok(())
        };
        let size = self.shape.iter().product();
        first_error(pixels.par_chunks_exact_mut(size).zip(rows).enumerate().map(one).collect())
    }

    /// A digest of the files' bytes and of what is made of them.
    fn fingerprint(&self, rows: &[usize]) -> Result<String> {
        self.check(rows)?;
        let one = |&row: &usize| read_bytes(&self.list.paths[row], FILE).map(|bytes| digest(&bytes));
        let digests: Vec<Result<String>> = rows.par_iter().map(one).collect();
        let Crops { resize, crop, random, upright } = self.crops;
        let mut all = format!("{resize} {crop} {random:?} {upright}");
        for digest in digests {
            all.push('\n');
            all.push_str(&digest?);
        }
        Ok(digest(all.as_bytes()))
    }
}
