//! Karpathy's JSON: one file for all splits, `images[]` with `filename`, `split`, `sentences[].raw` and, for COCO,
//! `filepath`.

use std::path::Path;

use serde::Deserialize;

use super::field;
use super::json::{self, by_key};
use super::part::{Captioned, Part, Parts, as_lines, check_name};
use crate::error::{self, Error};

#[derive(Deserialize)]
#[serde(expecting = "an object with images")]
struct File {
    #[serde(deserialize_with = "field::images")]
    images: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(expecting = "an image, with filename, split and sentences")]
struct Image {
    #[serde(deserialize_with = "field::filename")]
    filename: String,
    #[serde(default, deserialize_with = "field::filepath")]
    filepath: Option<String>,
    #[serde(deserialize_with = "field::split")]
    split: String,
    #[serde(deserialize_with = "field::sentences")]
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
#[serde(expecting = "a sentence, with raw")]
struct Sentence {
    #[serde(deserialize_with = "field::raw")]
    raw: String,
}

/// The pictures of all parts, each part in the order of the file.
///
/// # Errors
///
/// If the file cannot be read; with the number of the image and the field, if one is missing or wrong; if two images
/// have one name.
pub(super) fn read(path: &Path) -> error::Result<Parts> {
    let file: File = json::read(path)?;
    by_key(path, ("images", "filename"), file.images.iter().map(|image| image.filename.as_str()))?;
    let mut parts = Parts::new();
    for (number, image) in file.images.into_iter().enumerate() {
        let (part, picture) =
            captioned(image).map_err(|problem| Error::file(path, format!("images[{number}]: {problem}")))?;
        parts.entry(part).or_default().push(picture);
    }
    Ok(parts)
}

fn captioned(image: Image) -> Result<(Part, Captioned), String> {
    let Image { filename: name, filepath: folder, split, sentences } = image;
    check_name(&name).map_err(|problem| format!("filename: {problem}"))?;
    if let Some(folder) = folder.as_deref() {
        check_name(folder).map_err(|problem| format!("filepath: {problem}"))?;
    }
    let part =
        Part::of(&split).ok_or_else(|| format!("split: expected train, restval, val or test, found {split:?}"))?;
    let captions = as_lines(sentences.iter().map(|sentence| sentence.raw.as_str()).enumerate());
    let captions = captions.map_err(|(at, problem)| match at {
        Some(at) => format!("sentences[{at}]: raw: {problem}"),
        None => format!("sentences: {problem}"),
    })?;
    Ok((part, Captioned { name, folder, captions }))
}

/// Whether some image is in this part.
pub(super) fn has(path: &Path, part: Part) -> bool {
    #[derive(Deserialize)]
    struct File {
        images: Vec<Image>,
    }
    #[derive(Deserialize)]
    struct Image {
        split: String,
    }
    json::read::<File>(path).is_ok_and(|file| file.images.iter().any(|image| Part::of(&image.split) == Some(part)))
}
