//! The built-in data: a small world of pictures and their captions.
//!
//! Without a data set the program draws its own data. A scene is a landmark on some ground under some sky,
//! and a smaller thing next to it (`world.rs`). It is drawn as 48 × 48 pixels (`render.rs`) and described
//! by five captions from a small grammar (`grammar.rs`). The model never sees the description: a fixed
//! bank of filters computes its image features only from the pixels (`filters.rs`), as the features of the
//! paper come from a fixed CNN.
//!
//! # Why it is hard
//!
//! The paper's claim is about *hard negatives*: captions that almost fit another image. Unrelated pictures
//! have none, and there the maximum of hinges has no advantage. The scenes have many. Ground, sky,
//! landmark and its colour are fixed together by one of 25 kinds ([`KINDS`]). So of 128 pairs in a batch
//! about five are of the same kind and agree in half of their attributes. They differ only in the thing:
//! its shape, colour, pattern and place, which is a small part of the picture with jitter, light and
//! grain. And every caption leaves out a quarter of the attributes on average, so no single word decides.
//! Of the negatives in a batch, 24 in 25 are of another kind and are easy. The sum of hinges sums over all
//! of them; the maximum uses only the hardest.
//!
//! # The same bits everywhere
//!
//! Random numbers are integers from `ChaCha8` streams, one for each image and purpose. Pictures use
//! integer arithmetic. Features are integer sums, one division, one square root and the standardisation,
//! in a fixed order. No number depends on the machine, its mathematical library or the number of threads.

mod dice;
mod filters;
mod grammar;
mod pixels;
mod render;
#[cfg(test)]
mod sheet;
mod world;

use ndarray::Array2;
use rayon::prelude::*;

use super::pictures::Picture;
use dice::{Dice, Purpose};
use filters::Standardiser;
use render::Framing;

pub(crate) use filters::FEATURES;
pub(crate) use pixels::PixelScenes;
pub(crate) use world::Scene;

/// Captions per image.
pub(crate) const CAPTIONS_PER_IMAGE: usize = 5;

/// The world's seed and the sizes of the splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScenesConfig {
    /// The seed of the world. It is not the seed of a training: all trainings share one world.
    pub seed: u64,
    /// Images to train on.
    pub train: usize,
    /// Images for choosing the best epoch.
    pub dev: usize,
    /// Images to report on.
    pub test: usize,
}

impl Default for ScenesConfig {
    fn default() -> Self {
        Self { seed: 1, train: 2000, dev: 300, test: 500 }
    }
}

/// One of the three parts of the data. They share no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// To train on.
    Train,
    /// To choose the best epoch by.
    Dev,
    /// To report on.
    Test,
}

impl Part {
    /// The name of the split.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

/// The images and captions of a split.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SceneSplit {
    /// Image features, `[N, FEATURES]`.
    pub images: Array2<f32>,
    /// 5 N captions, image by image: caption `k` is of image `k / 5`.
    pub captions: Vec<String>,
}

/// The built-in data, all three splits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenes {
    /// To train on.
    pub train: SceneSplit,
    /// To choose the best epoch by.
    pub dev: SceneSplit,
    /// To report on.
    pub test: SceneSplit,
}

/// Draws the scenes, their pictures and captions, and computes the features.
///
/// Equal configurations give equal bits, on every machine and with any number of threads. The features
/// are standardised by the training split. The pictures and captions of a row depend only on the seed, the
/// split and the row.
#[must_use]
pub(crate) fn generate(config: &ScenesConfig) -> Scenes {
    let mut scenes = Scenes {
        train: generate_split(config.seed, Part::Train, config.train),
        dev: generate_split(config.seed, Part::Dev, config.dev),
        test: generate_split(config.seed, Part::Test, config.test),
    };
    let standardiser = Standardiser::measure(&scenes.train.images);
    for split in [&mut scenes.train, &mut scenes.dev, &mut scenes.test] {
        standardiser.apply(&mut split.images);
    }
    scenes
}

/// The scene of a row of a split, shown by its picture and described by its captions.
#[must_use]
pub(crate) fn scene(config: &ScenesConfig, split: Part, row: usize) -> Scene {
    Scene::draw(&mut Dice::new(config.seed, split, row, Purpose::Scene))
}

/// The picture of a row of a split. Any row is valid; the sizes of the configuration do not limit it.
#[must_use]
pub(crate) fn picture(config: &ScenesConfig, split: Part, row: usize) -> Picture {
    let mut dice = Dice::new(config.seed, split, row, Purpose::Photograph);
    render::render(scene(config, split, row), Framing::Close, &mut dice)
}

/// The captions of a row of a split. Any row is valid.
#[must_use]
pub(crate) fn captions(config: &ScenesConfig, split: Part, row: usize) -> [String; CAPTIONS_PER_IMAGE] {
    let scene = scene(config, split, row);
    let mut dice = Dice::new(config.seed, split, row, Purpose::Captions);
    std::array::from_fn(|_| grammar::caption(scene, &mut dice))
}

/// Raw features and captions of a split. Each row has its own streams, so threads may process the rows in
/// any order.
fn generate_split(seed: u64, split: Part, rows: usize) -> SceneSplit {
    let config = ScenesConfig { seed, ..ScenesConfig::default() };
    let mut images = Array2::zeros((rows, FEATURES));
    let mut texts: Vec<[String; CAPTIONS_PER_IMAGE]> = vec![Default::default(); rows];
    images
        .as_slice_mut()
        .unwrap_or_default() // a fresh array is contiguous
        .par_chunks_exact_mut(FEATURES)
        .zip(texts.par_iter_mut())
        .enumerate()
        .for_each(|(row, (image, text))| {
            image.copy_from_slice(&filters::features(&picture(&config, split, row)));
            *text = captions(&config, split, row);
        });
    SceneSplit { images, captions: texts.into_iter().flatten().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::data::{Vocabulary, tokenize_all};
    use crate::model::Config;
    use crate::pages::{page, rows, thousands};

    fn small() -> ScenesConfig {
        ScenesConfig { train: 12, dev: 3, test: 4, ..ScenesConfig::default() }
    }

    /// FNV-1a over the bits of all features and the bytes of all captions.
    fn digest(scenes: &Scenes) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        let mut eat = |bytes: &[u8]| {
            for &byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for split in [&scenes.train, &scenes.dev, &scenes.test] {
            for feature in &split.images {
                eat(&feature.to_bits().to_le_bytes());
            }
            for caption in &split.captions {
                eat(caption.as_bytes());
                eat(b"\n");
            }
        }
        hash
    }

    /// The world is part of the specification. If this number changes, every published figure from the
    /// scenes must be measured again.
    #[test]
    fn the_world_is_always_the_same() {
        assert_eq!(digest(&generate(&small())), 15_609_691_289_584_911_685);
    }

    #[test]
    fn threads_do_not_matter() {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| generate(&small()))
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn a_row_does_not_depend_on_how_many_there_are() {
        let more = ScenesConfig { test: 9, ..small() };
        let (few, many) = (generate(&small()), generate(&more));
        assert_eq!(few.test.captions[..], many.test.captions[..20]);
        assert_eq!(few.test.images, many.test.images.slice(ndarray::s![..4, ..]));
        assert_eq!(captions(&more, Part::Test, 3)[..], few.test.captions[15..]);
    }

    #[test]
    fn sizes_are_those_of_the_configuration_even_zero() {
        for (train, dev, test) in [(0, 0, 0), (0, 2, 1), (1, 0, 0), (3, 1, 2)] {
            let config = ScenesConfig { train, dev, test, ..small() };
            let scenes = generate(&config);
            for (split, rows) in [(scenes.train, train), (scenes.dev, dev), (scenes.test, test)] {
                assert_eq!(split.images.dim(), (rows, FEATURES));
                assert_eq!(split.captions.len(), CAPTIONS_PER_IMAGE * rows);
                assert!(split.images.iter().all(|x| x.is_finite()));
            }
        }
    }

    #[test]
    fn seeds_splits_and_rows_give_other_pictures() {
        let config = small();
        let other = ScenesConfig { seed: 2, ..config };
        let pictures = [
            picture(&config, Part::Train, 0),
            picture(&config, Part::Train, 1),
            picture(&config, Part::Dev, 0),
            picture(&config, Part::Test, 0),
            picture(&other, Part::Train, 0),
        ];
        for (k, a) in pictures.iter().enumerate() {
            for b in &pictures[..k] {
                assert_ne!(a, b);
                assert_ne!(filters::features(a), filters::features(b));
            }
        }
    }

    /// Two pictures of one scene have similar but different features.
    #[test]
    fn a_scene_looks_alike_and_never_the_same() {
        let config = small();
        let look = |scene, row| {
            let mut dice = Dice::new(config.seed, Part::Train, row, Purpose::Photograph);
            filters::features(&render::render(scene, Framing::Close, &mut dice))
        };
        let distance = |a: &[f32], b: &[f32]| {
            let square = |(x, y): (&f32, &f32)| f64::from(x - y) * f64::from(x - y);
            a.iter().zip(b).map(square).fold(0.0, |sum, d| sum + d)
        };
        let (here, there) = (scene(&config, Part::Train, 0), scene(&config, Part::Train, 1));
        assert_ne!(here.kind, there.kind);
        let (first, again, other) = (look(here, 0), look(here, 1), look(there, 2));
        assert!(distance(&first, &again) > 0.0);
        assert!(distance(&first, &again) < distance(&first, &other));
    }

    #[test]
    fn the_figures_of_the_scenes_are_those_of_the_program() {
        let config = ScenesConfig::default();
        let scenes = generate(&config);
        let captions = &scenes.train.captions;
        let tokens = tokenize_all(captions);
        let vocabulary = Vocabulary::of_tokens(&tokens, Config::scenes().word_threshold);
        let words: Vec<usize> = tokens.iter().map(Vec::len).collect();
        let mean = words.iter().sum::<usize>() as f64 / words.len() as f64;
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        tokens.iter().flatten().for_each(|word| *uses.entry(word).or_default() += 1);
        let rarest = uses.values().copied().min().unwrap_or(0);
        let rows = rows(&page("docs/scenes.md"));
        let cell = |name: &str| {
            let found = rows.iter().find(|row| row[0] == name);
            found.unwrap_or_else(|| panic!("docs/scenes.md: no row {name:?}"))[1].clone()
        };
        let images = [config.train, config.dev, config.test].map(thousands).join(", ");
        assert_eq!(cell("images: train, dev, test"), images);
        assert!(cell("captions").ends_with(&format!("{} to train on", thousands(captions.len()))));
        assert!(cell("image features").starts_with(&format!("F = {FEATURES} ")), "F is {FEATURES}");
        let distinct = vocabulary.len() - Vocabulary::SPECIAL.len();
        assert_eq!(cell("words"), format!("{distinct}; the rarest occurs {rarest} times in the training captions"));
        let longest = words.iter().max().copied().unwrap_or(0);
        let length = format!("{mean:.1} words on average, {longest} at most, without `<start>` and `<end>`");
        assert_eq!(cell("caption length"), length);
    }
}
