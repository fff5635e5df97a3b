//! The sizes of the benchmarks' models.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::captions::Captions;
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::model::{Architecture, Config, Network, ValidConfig};

/// Dimensions of a model. B is 128 in the first three, and 8 with an encoder of large pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// A small one: E 32 and H = D = 64 as for the built-in scenes, with F 256 (theirs is 944) and
    /// V 150 (theirs is 145).
    Demo,
    /// COCO with its annotated objects as features: E 128, H = D = 256, F 1618, V 2,006.
    Coco,
    /// The paper's, on COCO with VGG19 features: E 300, H = D = 1024, F 4096, V 11,755.
    Paper,
    /// The paper's with this image encoder, and pictures of 224 × 224. With an encoder of small pictures, that for the
    /// pixels of the scenes: B 32, E 32, H = D = 64.
    #[serde(untagged)]
    Encoder(Network),
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
    /// Those without an encoder, from the smallest to the largest.
    pub(crate) const ALL: [Self; 3] = [Self::Demo, Self::Coco, Self::Paper];

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
            Size::Encoder(network) if network.side() < 224 => (32, 64, 0, 150),
            Size::Paper | Size::Encoder(_) => (300, 1024, 4096, 11_755),
        };
        let default = match size {
            Size::Encoder(network) => {
                if let Some(found) = changes.img_dim {
                    return Err(Error::config("img_dim", format!("no value: {network} has its own"), found));
                }
                // Nothing is read from these.
                let files = Config { images: Some("pictures".into()), data: Some("data".into()), ..Config::default() };
                let batch_size = if network.side() < 224 { Config::pixels().batch_size } else { 8 };
                Config { encoder: Some(network), finetune: true, batch_size, ..files }
            }
            _ => Config::default(),
        };
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

    /// Fails if there is no size or encoder of that name.
    fn from_str(name: &str) -> Result<Self> {
        if let Some(size) = Self::ALL.into_iter().find(|size| size.to_string() == name) {
            return Ok(size);
        }
        if Network::names().any(|network| name.split(',').next() == Some(network)) {
            return name.parse().map(Self::Encoder);
        }
        let (sizes, encoders) = (Self::ALL.map(|size| size.to_string()), Network::names().collect::<Vec<_>>());
        let expected = format!("one of {}, or an encoder: {}", sizes.join(", "), encoders.join(", "));
        Err(Error::config("size", expected, name))
    }
}

/// The name on a command line.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str("demo"),
            Self::Coco => f.write_str("coco"),
            Self::Paper => f.write_str("paper"),
            Self::Encoder(network) => network.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused() {
        for size in Size::ALL {
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
        let size: Size = "resnet50,stride=1x1".parse().unwrap();
        assert_eq!(size.to_string(), "resnet50,stride=1x1");
        assert_eq!(serde_json::to_string(&[size, Size::Demo]).unwrap(), r#"["resnet50,stride=1x1","demo"]"#);
        let message = |name: &str| name.parse::<Size>().unwrap_err().to_string();
        let expected = "size = vgg: expected one of demo, coco, paper, or an encoder: vgg19, resnet18, ";
        assert!(message("vgg").starts_with(expected), "{}", message("vgg"));
        assert!(message("resnet50,stride=2").starts_with("encoder resnet50 = "), "{}", message("resnet50,stride=2"));
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
        let size: Size = "resnet18".parse().unwrap();
        let model = size.model();
        assert_eq!((model.architecture.img_dim, model.config.batch_size, model.config.finetune), (512, 8, true));
        let small = "resnet8".parse::<Size>().unwrap().model();
        assert_eq!((small.architecture.embed_size, small.config.batch_size), (64, 32), "as for the scenes");
        let message = Model::new(size, &Changes { img_dim: Some(9), ..Changes::default() }).unwrap_err().to_string();
        assert_eq!(message, "img_dim = 9: expected no value: resnet18 has its own");
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
