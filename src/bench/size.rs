//! The sizes of the benchmarks' models.

use std::str::FromStr;

use serde::Serialize;

use super::captions::Captions;
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::model::{Architecture, Config, ValidConfig};

/// Dimensions of a model. B is 128 in all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// A small one: E 32 and H = D = 64 as for the built-in scenes, with F 256 (theirs is 944) and
    /// V 150 (theirs is 145).
    Demo,
    /// COCO with its annotated objects as features: E 128, H = D = 256, F 1618, V 2,006.
    Coco,
    /// The paper's, on COCO with VGG19 features: E 300, H = D = 1024, F 4096, V 11,755.
    Paper,
}

/// What differs from a named size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes {
    /// B.
    pub batch_size: Option<usize>,
    /// H and D.
    pub embed_size: Option<usize>,
    /// E.
    pub word_dim: Option<usize>,
    /// Layers of the GRU.
    pub num_layers: Option<usize>,
    /// F.
    pub img_dim: Option<usize>,
    /// V.
    pub vocab_size: Option<usize>,
    /// Sentences in a caption.
    pub sentences: usize,
}

#[cfg(test)]
impl Default for Changes {
    fn default() -> Self {
        let (batch_size, embed_size, word_dim, num_layers, img_dim, vocab_size) = (None, None, None, None, None, None);
        Self { batch_size, embed_size, word_dim, num_layers, img_dim, vocab_size, sentences: 1 }
    }
}

/// A model, and the length of its captions.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The size that it has, but for the changes.
    pub size: Size,
    /// The settings of a training.
    pub config: ValidConfig,
    /// All dimensions.
    pub architecture: Architecture,
    /// Sentences in a caption.
    pub sentences: usize,
}

impl Size {
    /// From the smallest to the largest.
    pub(crate) const ALL: [Self; 3] = [Self::Demo, Self::Coco, Self::Paper];

    /// The name on a command line.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Coco => "coco",
            Self::Paper => "paper",
        }
    }

    /// The sizes' names.
    #[must_use]
    pub(crate) fn names() -> [&'static str; 3] {
        Self::ALL.map(Self::name)
    }

    /// The model of this size.
    #[cfg(test)]
    pub(crate) fn model(self) -> Model {
        Model::new(self, &Changes::default()).expect("the constants are in range")
    }
}

impl Model {
    /// A model of this size, but for the changes.
    ///
    /// # Errors
    ///
    /// If a number is out of range.
    pub(crate) fn new(size: Size, changes: &Changes) -> Result<Self> {
        let (word_dim, embed_size, img_dim, vocab_size) = match size {
            Size::Demo => (32, 64, 256, 150),
            Size::Coco => (128, 256, 1618, 2006),
            Size::Paper => (300, 1024, 4096, 11_755),
        };
        let default = Config::default();
        let config = Config {
            batch_size: changes.batch_size.unwrap_or(default.batch_size),
            embed_size: changes.embed_size.unwrap_or(embed_size),
            word_dim: changes.word_dim.unwrap_or(word_dim),
            num_layers: changes.num_layers.unwrap_or(default.num_layers),
            seed: super::SEED,
            ..default
        };
        let config = config.check()?;
        let vocab_size = changes.vocab_size.unwrap_or(vocab_size);
        if vocab_size <= Vocabulary::SPECIAL.len() {
            let expected = format!("at least {}, with the special ones", Vocabulary::SPECIAL.len() + 1);
            return Err(Error::config("vocab_size", expected, vocab_size));
        }
        let architecture = config.architecture(vocab_size, changes.img_dim.unwrap_or(img_dim));
        architecture.check()?;
        if !(1..=1000).contains(&changes.sentences) {
            return Err(Error::config("sentences", "1 to 1000", changes.sentences));
        }
        Ok(Self { size, config, architecture, sentences: changes.sentences })
    }

    /// Captions as ids below V.
    ///
    /// # Errors
    ///
    /// If they come from a file that cannot be read or has too few.
    pub(crate) fn captions(&self, source: &Captions, number: usize) -> Result<Vec<Vec<u32>>> {
        let mut drawn = source.draw(self.architecture.vocab_size, number * self.sentences)?;
        let more = drawn.split_off(number);
        // <start> of the first sentence, the words of all, <end> of the last.
        for (k, sentence) in more.iter().enumerate() {
            let caption = &mut drawn[k % number];
            caption.pop();
            caption.extend(&sentence[1..]);
        }
        Ok(drawn)
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

    #[test]
    fn a_size_can_be_changed_and_wrong_numbers_are_named() {
        let changes = Changes { batch_size: Some(8), embed_size: Some(9), vocab_size: Some(50), ..Changes::default() };
        let model = Model::new(Size::Demo, &changes).unwrap();
        let Architecture { embed_size, hidden_size, word_dim, vocab_size, .. } = model.architecture;
        assert_eq!((embed_size, hidden_size, word_dim, vocab_size, model.config.batch_size), (9, 9, 32, 50, 8));
        let message = |changes| Model::new(Size::Demo, &changes).unwrap_err().to_string();
        assert!(message(Changes { vocab_size: Some(4), ..changes }).starts_with("vocab_size = 4: expected at least 5"));
        assert!(message(Changes { sentences: 0, ..changes }).starts_with("sentences = 0: expected 1 to 1000"));
        assert!(message(Changes { embed_size: Some(0), ..changes }).starts_with("embed_size = 0"));
        assert!(message(Changes { img_dim: Some(usize::MAX), ..changes }).contains("parameters"));
    }

    #[test]
    fn sentences_are_joined_without_the_marks_between_them() {
        let captions = |sentences| {
            let model = Model::new(Size::Demo, &Changes { sentences, ..Changes::default() }).unwrap();
            model.captions(&Captions::MadeUp, 10).unwrap()
        };
        let (one, three) = (captions(1), captions(3));
        assert_eq!((one.len(), three.len()), (10, 10));
        for (one, three) in one.iter().zip(&three) {
            assert_eq!(one[..one.len() - 1], three[..one.len() - 1]);
            let marks = three.iter().filter(|&&word| word == Vocabulary::START || word == Vocabulary::END);
            assert_eq!(marks.count(), 2);
        }
        let words = |captions: &[Vec<u32>]| captions.iter().map(|c| c.len() - 2).sum::<usize>();
        assert!(words(&three) > 2 * words(&one));
    }
}
