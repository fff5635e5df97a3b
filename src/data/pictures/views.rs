//! What an encoder sees of the pictures of a batch.

use std::borrow::Cow;

use ndarray::Array4;
use rayon::prelude::*;

use super::crops::Crops;
use super::normalise::normalise;
use super::picture::Picture;
use crate::data::store::Draw;
use crate::error::{Error, Result};
use crate::model::Images;
use crate::random::numbered_stream;

/// Crops of pictures as numbers, [3, C, C] each.
#[derive(Clone, Debug)]
pub(super) struct Views {
    crops: Crops,
    shape: [usize; 3],
}

impl Views {
    /// # Errors
    ///
    /// If a size of the crops is 0 or above 4096.
    pub(super) fn new(crops: Crops) -> Result<Self> {
        crops.check()?;
        Ok(Self { crops, shape: [3, crops.crop, crops.crop] })
    }

    pub(super) fn crops(&self) -> &Crops {
        &self.crops
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Replaces `into` by the pictures that `read` gives: by their centres, or with a `draw` by random crops if there
    /// is a law. All threads read; their number changes no bit.
    ///
    /// # Errors
    ///
    /// If there is not one caption for each picture, or the first error of `read` in the order of the rows.
    pub(super) fn fill<'a>(
        &self,
        read: impl Fn(usize) -> Result<Cow<'a, Picture>> + Sync,
        rows: &[usize],
        draw: Option<Draw<'_>>,
        into: &mut Images<f32>,
    ) -> Result<()> {
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
            let picture = read(row)?;
            let view = match drawn {
                None => self.crops.centre(&picture),
                Some((law, draw)) => {
                    let caption = draw.captions[k] as u64;
                    let mut rng = numbered_stream(draw.seed, &format!("crop/{}", draw.epoch), caption);
                    self.crops.random(&picture, law, &mut rng)
                }
            };
            normalise(&view, to);
            Ok(())
        };
        let size = self.shape.iter().product();
        let results: Vec<Result<()>> = pixels.par_chunks_exact_mut(size).zip(rows).enumerate().map(one).collect();
        results.into_iter().collect()
    }

    /// The ten crops of a picture, [10, 3, C, C].
    ///
    /// # Errors
    ///
    /// If R < C.
    pub(super) fn ten(&self, picture: &Picture) -> Result<Array4<f32>> {
        let crops = self.crops.ten(picture)?;
        let [colours, height, width] = self.shape;
        let mut pixels = Array4::zeros((10, colours, height, width));
        let numbers = pixels.as_slice_mut().unwrap_or_default(); // it is in standard layout
        for (to, crop) in numbers.chunks_exact_mut(colours * height * width).zip(&crops) {
            normalise(crop, to);
        }
        Ok(pixels)
    }
}
