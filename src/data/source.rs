//! Where splits come from.

use std::path::{Path, PathBuf};

use super::pictures::Crops;
use super::scenes::{self, Part, PixelScenes, SceneSplit, ScenesConfig};
use super::split::Split;
use super::{captioned, folder};
use crate::error::{Error, Result};

/// A folder in the precomputed format, the built-in scenes, or pictures with captions.
///
/// ```
/// use vsepp::data::{ScenesConfig, Source};
///
/// # fn main() -> vsepp::Result<()> {
/// let scenes = Source::Scenes(ScenesConfig { train: 6, dev: 2, test: 0, ..ScenesConfig::default() });
/// let [train, dev] = scenes.splits(["train", "dev"])?;
/// assert_eq!((train.images().len(), train.captions().len()), (6, 30)); // five captions an image
/// assert_eq!(dev.img_dim()?, train.img_dim()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `{split}_ims.npy` and `{split}_caps.txt`.
    Folder(PathBuf),
    /// A folder without a dev split, and how many of the last images of train are used as dev.
    HeldOut(PathBuf, usize),
    /// Drawn by the program.
    Scenes(ScenesConfig),
    /// Drawn by the program, as pictures for an image encoder.
    Pixels {
        /// Whether a picture has a label instead of captions; they are other pictures, too.
        labels: bool,
        /// What is made of a picture.
        crops: Crops,
    },
    /// Files of pictures, which are decoded when they are needed. A split of them has the names of the files as ids.
    Pictures {
        /// A file in Karpathy's JSON, or a folder with COCO's annotations and, if they are there, the original's lists
        /// of ids.
        captions: PathBuf,
        /// The folder of the files, which may be in folders below it.
        images: PathBuf,
        /// Whether restval is a part of train.
        restval: bool,
        /// What is made of a picture.
        crops: Crops,
    },
}

impl Source {
    /// The folder, or the scenes if there is none.
    #[must_use]
    pub fn new(data: Option<PathBuf>) -> Self {
        data.map_or_else(|| Self::Scenes(ScenesConfig::default()), Self::Folder)
    }

    /// Uses the last images of train as dev, if the folder has no dev split.
    #[must_use]
    pub(crate) fn holding_out(self, images: Option<usize>) -> Self {
        match (self, images) {
            (Self::Folder(path), Some(images)) if !folder::has(&path, "dev") => Self::HeldOut(path, images),
            (other, _) => other,
        }
    }

    /// Whether there is such a split, or a part of one.
    #[must_use]
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(path) => folder::has(path, name),
            Self::HeldOut(path, _) => name == "dev" || folder::has(path, name),
            Self::Scenes(_) | Self::Pixels { .. } => part(name).is_ok(),
            Self::Pictures { captions, .. } => captioned::has(captions, name),
        }
    }

    /// Reads or draws splits by name (`train`, `dev`, `test`; a folder may have others, and pictures `restval`).
    ///
    /// # Errors
    ///
    /// As [`Split::read`]; also if there is no such split of the scenes or the pictures, if a file of captions is wrong,
    /// or if a picture is missing.
    pub fn splits<const N: usize>(&self, names: [&str; N]) -> Result<[Split; N]> {
        let splits: Vec<Split> = match self {
            Self::Folder(folder) => {
                note_shared(names.iter().map(|name| Split::read(folder, name)).collect::<Result<_>>()?)?
            }
            Self::HeldOut(folder, images) => note_shared(held_out(folder, *images, &names)?)?,
            Self::Scenes(config) => of_scenes(config, &names)?,
            Self::Pixels { labels, crops } => {
                let scenes = if *labels { PixelScenes::LABELLED } else { PixelScenes::CAPTIONED };
                names.iter().map(|name| scenes.split(part(name)?, *crops)).collect::<Result<_>>()?
            }
            Self::Pictures { captions, images, restval, crops } => {
                note_shared(captioned::splits(captions, images, *restval, *crops, &names)?)?
            }
        };
        Ok(splits.try_into().unwrap_or_else(|_| unreachable!("one split for each name")))
    }
}

/// The splits of a folder whose dev split is taken from train.
fn held_out(folder: &Path, images: usize, names: &[&str]) -> Result<Vec<Split>> {
    let (mut train, mut dev) = (None, None);
    if names.iter().any(|name| ["train", "dev"].contains(name)) {
        let (mut rest, held_out) = Split::read(folder, "train")?.hold_out("dev", images)?;
        if !names.contains(&"dev") {
            rest.notes.extend_from_slice(&held_out.notes);
        }
        (train, dev) = (Some(rest), Some(held_out));
    }
    let read = |name: &&str| match *name {
        "train" => train.clone().map_or_else(|| Split::read(folder, name), Ok),
        "dev" => dev.clone().map_or_else(|| Split::read(folder, name), Ok),
        other => Split::read(folder, other),
    };
    names.iter().map(read).collect()
}

fn of_scenes(config: &ScenesConfig, names: &[&str]) -> Result<Vec<Split>> {
    let parts: Vec<Part> = names.iter().map(|name| part(name)).collect::<Result<_>>()?;
    let world = scenes::generate(config);
    let split = |(name, part): (&&str, &Part)| {
        let SceneSplit { images, captions } = match part {
            Part::Train => &world.train,
            Part::Dev => &world.dev,
            Part::Test => &world.test,
        };
        Split::new(name, images.clone(), captions.clone())
    };
    names.iter().zip(&parts).map(split).collect()
}

/// The part of the scenes with this name.
fn part(name: &str) -> Result<Part> {
    let part = [Part::Train, Part::Dev, Part::Test].into_iter().find(|part| part.name() == name);
    part.ok_or_else(|| Error::config("split", "train, dev or test of the built-in scenes", name))
}

/// Adds to each split a note on the images that an earlier split has too.
///
/// # Errors
///
/// If an image cannot be read.
fn note_shared(mut splits: Vec<Split>) -> Result<Vec<Split>> {
    for later in 1..splits.len() {
        let (earlier, own) = splits.split_at_mut(later);
        for split in earlier {
            own[0].notes.extend(own[0].shared_with(split)?);
        }
    }
    Ok(splits)
}
