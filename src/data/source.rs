//! Where splits come from.

use std::path::PathBuf;

use super::folder;
use super::scenes::{self, ScenesConfig};
use super::split::Split;
use crate::error::{Error, Result};

/// A folder in the precomputed format, or the built-in scenes.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `{split}_ims.npy` and `{split}_caps.txt`.
    Folder(PathBuf),
    /// A folder without a dev split: so many images, the last of train, are dev.
    HeldOut(PathBuf, usize),
    /// Drawn by the program.
    Scenes(ScenesConfig),
}

impl Source {
    /// The folder, or the scenes where there is none.
    #[must_use]
    pub fn new(data: Option<PathBuf>) -> Self {
        data.map_or_else(|| Self::Scenes(ScenesConfig::default()), Self::Folder)
    }

    /// The last images of train as dev, where a folder has no such split.
    #[must_use]
    pub fn holding_out(self, images: Option<usize>) -> Self {
        match (self, images) {
            (Self::Folder(path), Some(images)) if !folder::has(&path, "dev") => Self::HeldOut(path, images),
            (other, _) => other,
        }
    }

    /// Whether a split is there to be read.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(path) => folder::has(path, name),
            Self::HeldOut(path, _) => name == "dev" || folder::has(path, name),
            Self::Scenes(_) => ["train", "dev", "test"].contains(&name),
        }
    }

    /// Reads or draws splits by name (`train`, `dev`, `test`; a folder may have others).
    ///
    /// **Errors** as [`Split::read`], or if there is no such split of the scenes.
    pub fn splits<const N: usize>(&self, names: [&str; N]) -> Result<[Split; N]> {
        let splits: Vec<Split> = match self {
            Self::Folder(folder) => {
                let splits = names.iter().map(|name| Split::read(folder, name)).collect::<Result<_>>()?;
                note_shared(splits)
            }
            Self::HeldOut(folder, images) => {
                let (mut train, mut dev) = (None, None);
                if names.iter().any(|name| ["train", "dev"].contains(name)) {
                    let (mut rest, held_out) = Split::read(folder, "train")?.hold_out("dev", *images)?;
                    if !names.contains(&"dev") {
                        rest.notes.extend_from_slice(&held_out.notes);
                    }
                    (train, dev) = (Some(rest), Some(held_out));
                }
                let read = |name: &&str| match *name {
                    "train" => train.take().map_or_else(|| Split::read(folder, name), Ok),
                    "dev" => dev.take().map_or_else(|| Split::read(folder, name), Ok),
                    _ => Split::read(folder, name),
                };
                note_shared(names.iter().map(read).collect::<Result<_>>()?)
            }
            Self::Scenes(config) => {
                if let Some(name) = names.iter().find(|name| !self.has(name)) {
                    return Err(Error::config("split", "train, dev or test of the built-in scenes", name));
                }
                let world = scenes::generate(config);
                let of = |name: &str| match name {
                    "train" => &world.train,
                    "dev" => &world.dev,
                    _ => &world.test,
                };
                let split = |name: &&str| Split::new(name, of(name).images.clone(), of(name).captions.clone());
                names.iter().map(split).collect::<Result<_>>()?
            }
        };
        Ok(splits.try_into().unwrap_or_else(|_| unreachable!("one split for each name")))
    }
}

/// Notes at each split which images an earlier one has too.
fn note_shared(mut splits: Vec<Split>) -> Vec<Split> {
    for later in 1..splits.len() {
        let (earlier, own) = splits.split_at_mut(later);
        let shared: Vec<String> = earlier.iter().filter_map(|split| own[0].shared_with(split)).collect();
        own[0].notes.extend(shared);
    }
    splits
}
