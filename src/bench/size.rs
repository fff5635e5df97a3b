//! The three model sizes of the benchmarks.

use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::model::{Architecture, Config, ValidConfig};

/// Dimensions of a model. B is 128 in all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// A small one: E 32 and H = D = 64 as for the built-in scenes, with F 256 (theirs is 944) and
    /// V 150 (theirs is 145).
    Demo,
    /// COCO with its annotated objects as features: E 128, H = D = 256, F 1618, V 2,006.
    Coco,
    /// The paper's, on COCO with VGG19 features: E 300, H = D = 1024, F 4096, V 11,755.
    Paper,
}

impl Size {
    /// From the smallest to the largest.
    pub const ALL: [Self; 3] = [Self::Demo, Self::Coco, Self::Paper];

    /// The name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Coco => "coco",
            Self::Paper => "paper",
        }
    }

    /// The settings of a training, and the architecture with this V and F.
    #[must_use]
    pub fn settings(self) -> (ValidConfig, Architecture) {
        let (word_dim, embed_size, img_dim, vocab_size) = match self {
            Self::Demo => (32, 64, 256, 150),
            Self::Coco => (128, 256, 1618, 2006),
            Self::Paper => (300, 1024, 4096, 11_755),
        };
        let config = Config { word_dim, embed_size, seed: super::SEED, ..Config::default() };
        let config = config.check().expect("the constants are in range");
        let architecture = config.architecture(vocab_size, img_dim);
        (config, architecture)
    }

    /// The sizes' names.
    #[must_use]
    pub fn names() -> [&'static str; 3] {
        Self::ALL.map(Self::name)
    }
}

impl FromStr for Size {
    type Err = Error;

    /// Fails if there is no size of that name.
    fn from_str(name: &str) -> Result<Self> {
        let size = Self::ALL.into_iter().find(|size| size.name() == name);
        size.ok_or_else(|| Error::config("size", format!("one of {}", Self::names().join(", ")), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused() {
        for size in Size::ALL {
            assert_eq!(size.name().parse::<Size>().unwrap(), size);
        }
        let message = "vgg".parse::<Size>().unwrap_err().to_string();
        assert_eq!(message, "size = vgg: expected one of demo, coco, paper");
    }
}
