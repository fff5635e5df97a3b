//! The parts of a data set, and the pictures in them.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use crate::data::captions::plain;
use crate::data::folder::DEV;

/// The pictures of each part that has some.
pub(super) type Parts = BTreeMap<Part, Vec<Captioned>>;

/// What Karpathy's split divides a data set into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Train,
    /// The pictures of COCO's val2014 that are in neither dev nor test; training may use them too.
    Restval,
    Dev,
    Test,
}

impl Part {
    /// The part of this name; `val`, `valid` and `validation` are dev.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "train" => Some(Self::Train),
            "restval" => Some(Self::Restval),
            "test" => Some(Self::Test),
            name if DEV.contains(&name) => Some(Self::Dev),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Restval => "restval",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

/// A picture with its captions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Captioned {
    /// The name of its file, which no other picture of the data set has.
    pub(super) name: String,
    /// The folder that the captions give for it, below the folder of images.
    pub(super) folder: Option<String>,
    /// At least one.
    pub(super) captions: Vec<String>,
}

/// The captions of a picture as lines of text; the number of each is for the error.
///
/// # Errors
///
/// If there are none; with the number of the first that is no text.
pub(super) fn as_lines<'a, N>(texts: impl Iterator<Item = (N, &'a str)>) -> Result<Vec<String>, (Option<N>, String)> {
    let captions: Vec<String> =
        texts.map(|(number, text)| plain(text).map_err(|problem| (Some(number), problem))).collect::<Result<_, _>>()?;
    if captions.is_empty() { Err((None, "expected a caption, found none".into())) } else { Ok(captions) }
}

/// # Errors
///
/// If a name does not lead to something below the folder of images, or if it has control characters.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let mut parts = Path::new(name).components().peekable();
    let inside = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    if inside && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(format!("expected a path below the folder of images, found {name:?}"))
}
