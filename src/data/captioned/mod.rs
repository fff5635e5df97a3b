//! Pictures with captions: Karpathy's JSON, or COCO's annotations with lists of ids.
//!
//! `karpathy.rs` and `coco.rs` read what the two say, as [`Captioned`] pictures of each [`Part`]; `json.rs` and
//! `field.rs` read the JSON itself; `places.rs` finds the files. The pictures themselves are not read here.

mod coco;
mod field;
mod json;
mod karpathy;
mod part;
mod places;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use part::{Captioned, Part};

use super::pictures::{Crops, PictureFiles};
use super::split::Split;
use crate::error::{Error, Result};

/// The splits of these names. A folder of captions is COCO's, a file is Karpathy's. With `restval` the pictures
/// of restval come after those of train.
///
/// # Errors
///
/// If a file is missing or wrong; if there is no such split; if a picture is missing in the folder of images; if
/// a size of the crops is wrong.
pub(super) fn splits(
    captions: &Path,
    images: &Path,
    restval: bool,
    crops: Crops,
    names: &[&str],
) -> Result<Vec<Split>> {
    let parts: Vec<Vec<Part>> = names.iter().map(|name| parts_of(name, restval)).collect::<Result<_>>()?;
    let wanted: BTreeSet<Part> = parts.iter().flatten().copied().collect();
    let (found, mut notes) =
        if captions.is_dir() { coco::read(captions, &wanted)? } else { (karpathy::read(captions)?, Vec::new()) };
    if let Some(missing) = wanted.iter().find(|&part| !found.contains_key(part)) {
        let there: Vec<&str> = found.keys().map(|part| part.name()).collect();
        let problem =
            format!("no pictures of the split {}; those that are there: {}", missing.name(), there.join(", "));
        return Err(Error::file(captions, problem));
    }
    let split = |(name, parts): (&&str, &Vec<Part>)| {
        let pictures: Vec<&Captioned> = parts.iter().flat_map(|part| &found[part]).collect();
        let paths = places::find(images, name, &pictures)?;
        let names = pictures.iter().map(|picture| picture.name.clone()).collect();
        let captions = pictures.iter().map(|picture| picture.captions.clone()).collect();
        let mut split = Split::of_pictures(name, Arc::new(PictureFiles::new(paths, crops)?), names, captions);
        split.notes.append(&mut notes);
        Ok(split)
    };
    names.iter().zip(&parts).map(split).collect()
}

/// Whether there is such a split. A file that cannot be read has none: [`splits`] says what is wrong with it.
pub(super) fn has(captions: &Path, name: &str) -> bool {
    let Some(part) = Part::of(name) else { return false };
    if captions.is_dir() { coco::has(captions, part) } else { karpathy::has(captions, part) }
}

/// What a split consists of.
fn parts_of(name: &str, restval: bool) -> Result<Vec<Part>> {
    match Part::of(name) {
        Some(Part::Train) if restval => Ok(vec![Part::Train, Part::Restval]),
        Some(part) => Ok(vec![part]),
        None => Err(Error::config("split", "train, dev, test or restval of pictures with captions", name)),
    }
}

#[cfg(test)]
mod tests;
