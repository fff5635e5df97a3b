//! The scenes as pictures for an image encoder, not as features.
//!
//! They are framed wide: places and sizes vary more than the filters of the demo could bear. Captions are those of
//! `grammar.rs`. Instead a picture may have a **label**, its two shapes and the thing's colour: another task of the same
//! world, on which an encoder is trained before it sees a caption, as the paper's was on `ImageNet`.

use std::sync::Arc;

use rayon::prelude::*;

use super::dice::{Dice, Purpose};
use super::render::{Framing, render};
use super::{Part, Scene, grammar};
use crate::data::pictures::{Crops, DrawnPictures, Picture};
use crate::data::split::Split;
use crate::error::Result;

/// Which pictures of the world, and what is said about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PixelScenes {
    /// The seed of the world.
    pub(crate) seed: u64,
    /// Pictures in train, dev and test.
    pub(crate) pictures: [usize; 3],
    /// Whether a picture has one label instead of five captions.
    pub(crate) labels: bool,
}

impl PixelScenes {
    /// Pictures with captions.
    pub(crate) const CAPTIONED: Self = Self { seed: 1, pictures: [1000, 300, 500], labels: false };
    /// Others, with labels.
    pub(crate) const LABELLED: Self = Self { seed: 2, pictures: [10_000, 500, 500], labels: true };

    /// A split; its crops are as given.
    pub(crate) fn split(&self, part: Part, crops: Crops) -> Result<Split> {
        let name = part.name();
        let count = self.pictures[part as usize];
        let drawn = (0..count).into_par_iter().map(|row| self.picture(part, row)).collect();
        let names = (0..count).map(|row| format!("{name}-{row}")).collect();
        let texts = (0..count).map(|row| self.texts(part, row)).collect();
        Ok(Split::of_pictures(name, Arc::new(DrawnPictures::new(drawn, crops)?), names, texts))
    }

    fn scene(&self, part: Part, row: usize) -> Scene {
        Scene::draw(&mut Dice::new(self.seed, part, row, Purpose::Scene))
    }

    /// The picture of a row. Any row is valid.
    pub(crate) fn picture(&self, part: Part, row: usize) -> Picture {
        let mut dice = Dice::new(self.seed, part, row, Purpose::Photograph);
        render(self.scene(part, row), Framing::Wide, &mut dice)
    }

    /// Its captions, or its label.
    pub(crate) fn texts(&self, part: Part, row: usize) -> Vec<String> {
        let scene = self.scene(part, row);
        if self.labels {
            return vec![grammar::label(scene)];
        }
        let mut dice = Dice::new(self.seed, part, row, Purpose::Captions);
        (0..super::CAPTIONS_PER_IMAGE).map(|_| grammar::caption(scene, &mut dice)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::store::Draw;
    use crate::files::digest;
    use crate::model::Images;

    const SMALL: PixelScenes = PixelScenes { pictures: [3, 2, 2], ..PixelScenes::CAPTIONED };
    const CROPS: Crops = Crops { resize: 54, crop: 48, random: None, upright: false };

    /// As the digest of the close pictures: if it changes, `docs/ablation.md` must be measured again.
    #[test]
    fn the_pictures_and_their_words_are_always_the_same() {
        let mut all = Vec::new();
        for scenes in [SMALL, PixelScenes { pictures: [2, 1, 1], ..PixelScenes::LABELLED }] {
            for part in [Part::Train, Part::Dev, Part::Test] {
                for row in 0..scenes.pictures[part as usize] {
                    all.extend_from_slice(scenes.picture(part, row).rgb());
                    all.extend_from_slice(scenes.texts(part, row).join("\n").as_bytes());
                }
            }
        }
        assert_eq!(digest(&all)[..16], *"a67707b66c25c3bd");
    }

    #[test]
    fn a_split_has_the_pictures_with_five_captions_or_one_label() {
        let split = SMALL.split(Part::Dev, CROPS).unwrap();
        assert_eq!((split.images().len(), split.captions().len()), (2, 10));
        assert_eq!(
            split.captions_of(1).map(|c| split.captions()[c].clone()).collect::<Vec<_>>(),
            SMALL.texts(Part::Dev, 1)
        );
        let labels = PixelScenes { labels: true, ..SMALL };
        let scene = labels.scene(Part::Dev, 0);
        let split = labels.split(Part::Dev, CROPS).unwrap();
        assert_eq!(split.captions().len(), 2);
        let words: Vec<String> = split.captions()[0].split(' ').map(str::to_owned).collect();
        let name = |of: &dyn std::fmt::Debug| format!("{of:?}").to_lowercase();
        assert_eq!(words, [name(&scene.kind.landmark), name(&scene.colour), name(&scene.thing)]);
    }

    #[test]
    fn a_store_of_them_gives_the_crops_of_the_pictures() {
        let random = Crops { random: Some(crate::data::RandomCrop::Today), ..CROPS };
        let split = SMALL.split(Part::Train, random).unwrap();
        let (mut centre, mut drawn, mut again) = (Images::default(), Images::default(), Images::default());
        split.images().fill(&[2, 0], None, &mut centre).unwrap();
        assert_eq!(centre.pixels().unwrap().shape(), [2, 3, 48, 48]);
        let draw = |epoch| Some(Draw { seed: 1, epoch, captions: &[10, 0] });
        split.images().fill(&[2, 0], draw(0), &mut drawn).unwrap();
        split.images().fill(&[2, 0], draw(0), &mut again).unwrap();
        assert_eq!(drawn.pixels().unwrap(), again.pixels().unwrap());
        split.images().fill(&[2, 0], draw(1), &mut again).unwrap();
        assert_ne!(drawn.pixels().unwrap(), again.pixels().unwrap());
        let ten = split.images().ten(2).unwrap();
        assert_eq!(ten.shape(), [10, 3, 48, 48]);
        // The fifth of the ten is the centre.
        assert_eq!(ten.index_axis(ndarray::Axis(0), 4), centre.pixels().unwrap().index_axis(ndarray::Axis(0), 0));
        assert!(split.images().ten(3).is_err());
        let other = SMALL.split(Part::Train, CROPS).unwrap();
        assert_ne!(split.images().fingerprint(&[0]).unwrap(), other.images().fingerprint(&[0]).unwrap());
        assert_ne!(split.images().fingerprint(&[0]).unwrap(), split.images().fingerprint(&[1]).unwrap());
    }
}
