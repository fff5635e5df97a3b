//! Where the files of pictures are.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::part::Captioned;
use crate::error::{Error, Result};

/// The file of each picture of a split. Only whether it is there is looked at.
///
/// # Errors
///
/// With the first picture that is missing, and how many are.
pub(super) fn find(images: &Path, split: &str, pictures: &[&Captioned]) -> Result<Vec<PathBuf>> {
    if !images.is_dir() {
        return Err(Error::file(images, "expected a folder of images, found none"));
    }
    let place =
        |picture: &&Captioned| places(picture).into_iter().map(|place| images.join(place)).find(|p| p.is_file());
    let found: Vec<Option<PathBuf>> = pictures.par_iter().map(place).collect();
    let missing: Vec<&&Captioned> = pictures.iter().zip(&found).filter(|(_, p)| p.is_none()).map(|(p, _)| p).collect();
    if let Some(first) = missing.first() {
        let places: Vec<String> = places(first).iter().map(|place| place.display().to_string()).collect();
        let problem = format!(
            "{} of the {} pictures of {split} are missing. The first is {:?}; looked for {}",
            missing.len(),
            pictures.len(),
            first.name,
            places.join(", ")
        );
        return Err(Error::file(images, problem));
    }
    Ok(found.into_iter().flatten().collect())
}

/// Where a picture may be, below the folder of images.
fn places(picture: &Captioned) -> Vec<PathBuf> {
    let mut folders = vec!["", "train2014", "val2014"];
    if let Some(folder) = picture.folder.as_deref() {
        folders.retain(|&other| other != folder);
        folders.insert(0, folder);
    }
    folders.into_iter().map(|folder| Path::new(folder).join(&picture.name)).collect()
}
