//! VSE++ as a whole: two towers, a score matrix, a loss; and the way back.

use ndarray::{Array2, ArrayView2};

use super::batch::Batch;
use super::config::{Architecture, Objective};
use super::head::Head;
use super::image_tower::ImageCache;
use super::parameters::Parameters;
use super::text_tower::{TextBackward, TextCache};
use crate::error::{Error, Result};
use crate::linalg::Write;
use crate::loss::Hinges;
use crate::real::{Real, Scalar};

/// A model: what it computes, and the numbers it computes with.
#[derive(Clone, Debug, PartialEq)]
pub struct Vse<T> {
    /// Sizes and switches.
    pub architecture: Architecture,
    /// The trained numbers.
    pub parameters: Parameters<T>,
}

/// One forward pass: everything that a backward pass, a log or a student could ask for.
#[derive(Clone, Debug, Default)]
pub struct Forward<T> {
    /// The image side.
    pub image: ImageCache<T>,
    /// The caption side.
    pub text: TextCache<T>,
    /// S [B, B], rows images, columns captions.
    pub scores: Array2<T>,
    /// The loss and its terms.
    pub hinges: Hinges<T>,
}

/// What one backward pass computes on its way to the parameters' gradients.
#[derive(Clone, Debug, Default)]
pub struct Backward<T> {
    /// dS [B, B].
    pub scores: Array2<T>,
    /// df, and then the gradient of `fc`'s output, [B, D].
    pub images: Array2<T>,
    /// dg, and then the gradient before the caption side's head, [B, D].
    pub captions: Array2<T>,
    /// The caption side.
    pub text: TextBackward<T>,
}

impl<T: Scalar> Vse<T> {
    /// A freshly initialised model.
    #[must_use]
    pub fn init(architecture: Architecture, seed: u64) -> Self {
        Self { architecture, parameters: Parameters::init(&architecture, seed) }
    }

    /// The scores and the loss of a batch.
    ///
    /// **Errors** if the batch does not fit the architecture, if a token id is out of range, if an
    /// embedding is zero, or if anything is not finite.
    pub fn forward(&self, batch: &Batch<T>, objective: &Objective) -> Result<Forward<T>> {
        let mut forward = Forward::default();
        self.forward_into(batch, objective, &mut forward)?;
        Ok(forward)
    }

    /// As [`Self::forward`], in the memory of a pass that is no longer needed.
    ///
    /// **Errors** as [`Self::forward`]; `forward` is then unspecified until a pass succeeds.
    pub fn forward_into(&self, batch: &Batch<T>, objective: &Objective, forward: &mut Forward<T>) -> Result<()> {
        let Forward { image, text, scores, hinges } = forward;
        batch.check(self.architecture.img_dim)?;
        self.parameters.img_enc.forward(batch.images.view(), self.image_head(), image)?;
        self.parameters.txt_enc.forward(&batch.captions, self.caption_head(), text)?;
        self.architecture.measure.scores_into(image.head.embedding(), text.head.embedding(), scores);
        let image_ids = objective.mask_same_image.then_some(&batch.image_ids[..]);
        objective.hinge.forward_into(scores.view(), image_ids, hinges)
    }

    /// Joint embeddings of images: φ [N, F] → f [N, D].
    ///
    /// **Errors** if there are not F features, or if an embedding is zero or not finite.
    pub fn embed_images(&self, features: ArrayView2<'_, T>) -> Result<Array2<T>> {
        if features.ncols() != self.architecture.img_dim {
            let expected = format!("[N, F = {}]", self.architecture.img_dim);
            return Err(Error::shape("image features", expected, features.shape()));
        }
        let mut embeddings = Array2::default((0, 0));
        self.parameters.img_enc.fc.forward(features, &mut embeddings);
        self.image_head().apply(&mut embeddings)?;
        Ok(embeddings)
    }

    /// Joint embeddings of captions: M lists of token ids → g [M, D].
    ///
    /// All captions are one prefix tree, so that what they share is computed once. A caption's
    /// embedding does not depend on the others, to the bit.
    ///
    /// **Errors** if a token id is out of range, or if an embedding is zero or not finite.
    pub fn embed_captions<C: AsRef<[u32]>>(&self, captions: &[C]) -> Result<Array2<T>> {
        self.parameters.txt_enc.embed(captions, self.caption_head())
    }

    fn image_head(&self) -> Head {
        let a = &self.architecture;
        Head { normalise: !a.no_imgnorm, use_abs: a.use_abs, side: "image" }
    }

    fn caption_head(&self) -> Head {
        Head { normalise: true, use_abs: self.architecture.use_abs, side: "caption" }
    }
}

impl<T: Real> Vse<T> {
    /// Adds the gradient of the loss to `gradient` and returns what flows on into the image side:
    /// the gradient of `fc`'s output, [B, D].
    ///
    /// An image encoder in front of the tower turns it into dℓ/dφ [B, F] with
    /// [`super::ImageTower::backward_features`]; [`Self::backward_with_features`] does both.
    pub fn backward(&self, batch: &Batch<T>, forward: &Forward<T>, gradient: &mut Parameters<T>) -> Array2<T> {
        let mut backward = Backward::default();
        self.backward_into(batch, forward, &mut backward, Write::Add, gradient);
        backward.images
    }

    /// As [`Self::backward`], in the memory of a pass that is no longer needed; adds to `gradient` or
    /// replaces it.
    pub fn backward_into(
        &self,
        batch: &Batch<T>,
        forward: &Forward<T>,
        backward: &mut Backward<T>,
        write: Write,
        gradient: &mut Parameters<T>,
    ) {
        let (image, text) = (&forward.image, &forward.text);
        let Backward { scores: d_scores, images: d_images, captions: d_captions, text: d_text } = backward;
        forward.hinges.backward_into(d_scores);
        self.architecture.measure.backward_into(
            image.head.embedding(),
            text.head.embedding(),
            forward.scores.view(),
            d_scores.view(),
            d_images,
            d_captions,
        );
        self.parameters.txt_enc.backward(text, d_captions, d_text, write, &mut gradient.txt_enc);
        self.parameters.img_enc.backward(batch.images.view(), image, d_images, write, &mut gradient.img_enc);
    }

    /// As [`Self::backward`], and returns dℓ/dφ [B, F].
    pub fn backward_with_features(
        &self,
        batch: &Batch<T>,
        forward: &Forward<T>,
        gradient: &mut Parameters<T>,
    ) -> Array2<T> {
        let d_projected = self.backward(batch, forward, gradient);
        self.parameters.img_enc.backward_features(d_projected.view())
    }
}

impl<T: Scalar> Forward<T> {
    /// The smooth piece of the loss on which this batch lies: which terms count, which signs the
    /// absolute value sees, which violations an order similarity sees. Where it changes, there is a
    /// kink.
    #[must_use]
    pub fn active_set(&self, architecture: &Architecture) -> Vec<bool> {
        let mut active = Vec::new();
        self.image.head.active_set(&mut active);
        self.text.head.active_set(&mut active);
        architecture.measure.active_set(self.image.head.embedding(), self.text.head.embedding(), &mut active);
        for terms in [&self.hinges.caption_terms, &self.hinges.image_terms] {
            let mut counts = Array2::from_elem(self.scores.dim(), false);
            for &at in terms {
                counts[at] = true;
            }
            active.extend(counts);
        }
        active
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, ValidConfig};

    fn config() -> ValidConfig {
        Config { embed_size: 6, word_dim: 3, ..Config::default() }.check().unwrap()
    }

    fn batch() -> Batch<f32> {
        Batch {
            images: Array2::from_shape_fn((4, 5), |(i, j)| ((i * 5 + j) as f32 * 0.7).sin()),
            captions: vec![vec![1, 4, 2], vec![1, 4, 5, 2], vec![1, 6, 2], vec![1, 4, 5, 4, 2]],
            image_ids: vec![0, 1, 2, 3],
        }
    }

    #[test]
    fn an_embedding_does_not_depend_on_its_company() {
        let model = Vse::<f32>::init(config().architecture(10, 5), 0);
        let (batch, objective) = (batch(), config().objective(0));
        let forward = model.forward(&batch, &objective).unwrap();
        assert_eq!(model.embed_captions(&batch.captions).unwrap(), forward.text.head.embedding());
        assert_eq!(model.embed_images(batch.images.view()).unwrap(), forward.image.head.embedding());
        let captions: Vec<Vec<u32>> =
            (0..700u32).map(|i| vec![1, 4 + i % 6, 4 + i / 7 % 6, 4 + i / 50 % 6, 2]).collect();
        let all = model.embed_captions(&captions).unwrap();
        for i in [0, 1, 350, 699] {
            assert_eq!(model.embed_captions(&captions[i..=i]).unwrap().row(0), all.row(i));
        }
    }

    #[test]
    fn gradients_accumulate() {
        let config = config();
        let model = Vse::<f32>::init(config.architecture(10, 5), 0);
        let batch = batch();
        let forward = model.forward(&batch, &config.objective(0)).unwrap();
        let mut once = Parameters::zeros(&model.architecture);
        let d_features = model.backward_with_features(&batch, &forward, &mut once);
        assert_eq!(d_features.dim(), (4, 5));
        let mut twice = once.clone();
        model.backward(&batch, &forward, &mut twice);
        for ((name, once), (_, twice)) in once.named().iter().zip(twice.named()) {
            assert_eq!(once.mapv(|x| x + x), twice, "{name}");
        }
        model.backward_into(&batch, &forward, &mut Backward::default(), Write::Replace, &mut twice);
        assert_eq!(once, twice);
    }

    #[test]
    fn memory_used_again_leaves_no_trace() {
        use crate::similarity::Measure;
        let configs = [
            Config { embed_size: 6, word_dim: 3, ..Config::default() },
            Config { embed_size: 6, word_dim: 3, num_layers: 2, no_imgnorm: true, ..Config::default() },
            Config { embed_size: 6, hidden_size: Some(4), caption_projection: true, ..Config::default() },
            Config { embed_size: 6, use_abs: true, measure: Measure::Order, max_violation: false, ..Config::default() },
        ];
        for config in configs.map(|config| config.check().unwrap()) {
            let model = Vse::<f64>::init(config.architecture(10, 5), 0);
            let objective = config.objective(0);
            let (mut forward, mut backward) = (Forward::default(), Backward::default());
            let mut gradient = Parameters::zeros(&model.architecture);
            for pairs in [4, 1, 3, 0, 4, 2] {
                let Batch { images, captions, image_ids } = batch();
                let batch = Batch {
                    images: images.slice(ndarray::s![4 - pairs.., ..]).mapv(f64::from),
                    captions: captions[4 - pairs..].to_vec(),
                    image_ids: image_ids[..pairs].to_vec(),
                };
                model.forward_into(&batch, &objective, &mut forward).unwrap();
                model.backward_into(&batch, &forward, &mut backward, Write::Replace, &mut gradient);
                let fresh = model.forward(&batch, &objective).unwrap();
                let mut expected = Parameters::zeros(&model.architecture);
                let d_images = model.backward(&batch, &fresh, &mut expected);
                assert_eq!((forward.hinges.loss, &forward.scores), (fresh.hinges.loss, &fresh.scores), "{pairs} pairs");
                assert_eq!((&gradient, &backward.images), (&expected, &d_images), "{pairs} pairs");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let config = config();
        let model = Vse::<f32>::init(config.architecture(10, 5), 0);
        let message = |spoil: fn(&mut Batch<f32>)| {
            let mut batch = batch();
            spoil(&mut batch);
            model.forward(&batch, &config.objective(0)).unwrap_err().to_string()
        };
        assert_eq!(message(|b| b.images = Array2::zeros((4, 6))), "images: expected [B = 4, F = 5], found [4, 6]");
        assert!(message(|b| b.captions[2][1] = 10).contains("id 10"));
        assert!(message(|b| b.images.row_mut(1).fill(0.0)).contains("image embedding: row 1 has norm 0"));
        assert!(message(|b| b.images[[3, 0]] = f32::NAN).contains('3'));
        assert!(message(|b| b.captions[0].clear()).contains("caption 0"));
        assert!(message(|b| b.image_ids.truncate(3)).contains("image_ids: expected [B = 4], found [3]"));
    }
}
