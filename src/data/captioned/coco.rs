//! COCO's annotations of 2014, and the original's lists of annotation ids, which make the splits.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::field;
use super::json::{self, by_key};
use super::part::{Captioned, Part, Parts, as_lines, check_name};
use crate::error::{Error, Result};
use crate::files::read_integers;

#[derive(Deserialize)]
#[serde(expecting = "an object with images and annotations")]
struct Annotations {
    #[serde(deserialize_with = "field::images")]
    images: Vec<Image>,
    #[serde(deserialize_with = "field::annotations")]
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
#[serde(expecting = "an image, with id and file_name")]
struct Image {
    #[serde(deserialize_with = "field::id")]
    id: i64,
    #[serde(deserialize_with = "field::file_name")]
    file_name: String,
}

#[derive(Deserialize)]
#[serde(expecting = "an annotation, with id, image_id and caption")]
struct Annotation {
    #[serde(deserialize_with = "field::id")]
    id: i64,
    #[serde(deserialize_with = "field::image_id")]
    image_id: i64,
    #[serde(deserialize_with = "field::caption")]
    caption: String,
}

/// The files of annotations.
const FILES: [&str; 2] = ["captions_train2014.json", "captions_val2014.json"];

impl Part {
    /// The file of annotations that has the captions of this part.
    fn annotations(self) -> &'static str {
        FILES[usize::from(self != Self::Train)]
    }

    /// The list of its annotation ids.
    fn list(self) -> &'static str {
        match self {
            Self::Train => "coco_train_ids.npy",
            Self::Restval => "coco_restval_ids.npy",
            Self::Dev => "coco_dev_ids.npy",
            Self::Test => "coco_test_ids.npy",
        }
    }
}

/// The pictures of these parts, with notes: by the lists of ids, each in the order of its list. Without lists, train is
/// all of train2014 and dev all of val2014.
///
/// # Errors
///
/// If a file is missing or cannot be read; with the number of the entry and the field, if one is missing or wrong; if
/// two images or two annotations have one id; if an id of a list is that of no annotation, or occurs twice; without
/// lists, if another part is asked for, or if an image has no captions.
pub(super) fn read(folder: &Path, parts: &BTreeSet<Part>) -> Result<(Parts, Vec<String>)> {
    let folder = folder_of(folder).ok_or_else(|| {
        let [train, val] = FILES;
        Error::file(folder, format!("expected {train} and {val}, here or in annotations/, found neither"))
    })?;
    let lists = has_lists(&folder);
    let (mut found, mut notes) = (Parts::new(), Vec::new());
    let mut open: HashMap<&str, Known> = HashMap::new();
    for &part in parts {
        if !lists && !matches!(part, Part::Train | Part::Dev) {
            let problem = format!("no split {}: expected {}, its list of annotation ids", part.name(), part.list());
            return Err(Error::file(&folder, problem));
        }
        let file = part.annotations();
        if !open.contains_key(file) {
            open.insert(file, Known::read(folder.join(file))?);
        }
        let known = &open[file];
        let pictures = if lists {
            let (pictures, note) = known.of_list(&folder.join(part.list()))?;
            notes.extend(note.map(|note| format!("{}: {note}", part.name())));
            pictures
        } else {
            notes.push(format!("{}: all of {file}, because there is no {}", part.name(), part.list()));
            known.all()?
        };
        found.insert(part, pictures);
    }
    Ok((found, notes))
}

/// Whether the files of this part are there.
pub(super) fn has(folder: &Path, part: Part) -> bool {
    folder_of(folder).is_some_and(|folder| {
        let lists = has_lists(&folder);
        let file = if lists { part.list() } else { part.annotations() };
        (lists || matches!(part, Part::Train | Part::Dev)) && folder.join(file).exists()
    })
}

/// The folder with the annotations: `annotations` in this one, or this one.
fn folder_of(folder: &Path) -> Option<PathBuf> {
    let folders = [folder.join("annotations"), folder.to_owned()];
    folders.into_iter().find(|folder| FILES.iter().any(|file| folder.join(file).exists()))
}

fn has_lists(folder: &Path) -> bool {
    [Part::Train, Part::Restval, Part::Dev, Part::Test].iter().any(|part| folder.join(part.list()).exists())
}

/// A file of annotations, and where each id is.
struct Known {
    path: PathBuf,
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    /// The number of each image by its id.
    image_of: HashMap<i64, usize>,
}

impl Known {
    fn read(path: PathBuf) -> Result<Self> {
        let Annotations { images, annotations } = json::read(&path)?;
        for (number, image) in images.iter().enumerate() {
            check_name(&image.file_name)
                .map_err(|problem| Error::file(&path, format!("images[{number}]: file_name: {problem}")))?;
        }
        by_key(&path, ("images", "file_name"), images.iter().map(|image| image.file_name.as_str()))?;
        let image_of = by_key(&path, ("images", "id"), images.iter().map(|image| image.id))?;
        if let Some((number, annotation)) =
            annotations.iter().enumerate().find(|(_, annotation)| !image_of.contains_key(&annotation.image_id))
        {
            let problem =
                format!("annotations[{number}]: image_id: expected the id of an image, found {}", annotation.image_id);
            return Err(Error::file(&path, problem));
        }
        Ok(Self { path, images, annotations, image_of })
    }

    /// All images with their captions, in the order of the images.
    fn all(&self) -> Result<Vec<Captioned>> {
        let mut of_image = vec![Vec::new(); self.images.len()];
        for (number, annotation) in self.annotations.iter().enumerate() {
            of_image[self.image_of[&annotation.image_id]].push(number);
        }
        of_image.iter().enumerate().map(|(image, numbers)| self.captioned(image, numbers)).collect()
    }

    /// The pictures of a list of annotation ids, in the order in which they occur first, and a note if the captions of
    /// one are apart in the list.
    fn of_list(&self, path: &Path) -> Result<(Vec<Captioned>, Option<String>)> {
        let by_id = by_key(&self.path, ("annotations", "id"), self.annotations.iter().map(|annotation| annotation.id))?;
        let ids = read_integers(path)?;
        if ids.is_empty() {
            return Err(Error::file(path, "expected annotation ids, found none"));
        }
        by_key(path, ("ids", "id"), ids.iter())?;
        // Each image with the numbers of its annotations, and its place in this list.
        let (mut images, mut places) = (Vec::<(usize, Vec<usize>)>::new(), HashMap::new());
        let mut apart = Vec::new();
        for (position, id) in ids.iter().enumerate() {
            let number = *by_id.get(id).ok_or_else(|| {
                let file = self.path.file_name().unwrap_or_default().to_string_lossy();
                Error::file(path, format!("ids[{position}]: expected the id of an annotation of {file}, found {id}"))
            })?;
            let image = self.image_of[&self.annotations[number].image_id];
            let at = *places.entry(image).or_insert(images.len());
            if at == images.len() {
                images.push((image, Vec::new()));
            } else if at + 1 < images.len() {
                apart.push((position, image));
            }
            images[at].1.push(number);
        }
        let note = apart.first().map(|&(position, image)| {
            format!(
                "{} ids do not follow those of the same image (first: ids[{position}], {:?}); captions of one image are \
                 brought together",
                apart.len(),
                self.images[image].file_name
            )
        });
        let pictures = images.iter().map(|(image, numbers)| self.captioned(*image, numbers)).collect::<Result<_>>()?;
        Ok((pictures, note))
    }

    /// An image with some of the annotations.
    fn captioned(&self, image: usize, annotations: &[usize]) -> Result<Captioned> {
        let texts = annotations.iter().map(|&number| (number, self.annotations[number].caption.as_str()));
        let captions = as_lines(texts).map_err(|(number, problem)| {
            let place = match number {
                Some(number) => format!("annotations[{number}]: caption"),
                None => format!("images[{image}] ({:?})", self.images[image].file_name),
            };
            Error::file(&self.path, format!("{place}: {problem}"))
        })?;
        Ok(Captioned { name: self.images[image].file_name.clone(), folder: None, captions })
    }
}
