//! How a training uses pictures: what it sees of them, and which statistics the encoder's norms use.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// What training sees of a picture. Validation and test see the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// Its centre.
    Centre,
    /// A random part of it, mirrored or not: another one for each caption and each epoch (paper, section 4.1).
    Random,
    /// The same, drawn as torchvision did before 2019.
    #[serde(rename = "random-2019")]
    Random2019,
}

/// Which statistics the norms of an image encoder use in training. Validation and test use the running ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistics {
    /// The running ones, which stay as they are. Nothing is dropped.
    Frozen,
    /// As in the original: the batch's until an epoch's first validation, then the running ones.
    Original,
    /// The batch's; the running ones move, and dropout drops.
    Train,
}

impl Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Centre => "centre",
            Self::Random => "random",
            Self::Random2019 => "random-2019",
        })
    }
}

impl Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frozen => "frozen",
            Self::Original => "original",
            Self::Train => "train",
        })
    }
}
