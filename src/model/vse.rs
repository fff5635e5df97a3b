//! VSE++ as a whole: two towers, a score matrix and a loss, forward and backward.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, ArrayView4};

use super::architecture::Architecture;
use super::batch::{Batch, Images};
use super::head::Head;
use super::image_tower::ImageCache;
use super::parameters::Parameters;
use super::text_tower::TextCache;
use crate::error::{Error, Result};
use crate::linalg::Write;
use crate::loss::{Chosen, HingeLoss, Loss, Negatives, Sample, Terms};
use crate::nn::{Mode, Module};
use crate::real::{Real, Scalar};

/// A model: what it computes, and the numbers it computes with.
///
/// ```
/// use ndarray::array;
/// use vsepp::model::{Config, Vse};
///
/// # fn main() -> vsepp::Result<()> {
/// let config = Config { embed_size: 8, word_dim: 4, ..Config::default() }.check()?;
/// let model = Vse::<f32>::init(config.architecture(10, 3), 0); // V = 10 words, F = 3
///
/// let f = model.embed_images(array![[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]].view())?;
/// let g = model.embed_captions(&[[1, 4, 2].as_slice(), &[1, 5, 6, 2], &[1, 7, 2]])?;
/// let scores = config.measure.scores(f.view(), g.view());
/// assert_eq!(scores.dim(), (2, 3));
/// assert!(scores.iter().all(|s| s.abs() <= 1.0 + 1e-6), "unit vectors");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Vse<T> {
    /// Sizes and switches.
    pub(crate) architecture: Architecture,
    /// The trained numbers, in the shapes of the architecture.
    pub parameters: Parameters<T>,
}

/// What training minimises: a loss, and which pairs of a batch are negatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective<L = HingeLoss> {
    /// The loss.
    pub loss: L,
    /// Captions of one image are no negatives of each other.
    pub mask_same_image: bool,
    /// Captions of equal tokens are no negatives of each other.
    pub mask_equal_text: bool,
    /// Only some of the negatives that the masks leave count for each query.
    pub sample: Option<Sample>,
}

impl<L> Objective<L> {
    /// A loss for which all other pairs of a batch are negatives.
    pub fn new(loss: L) -> Self {
        Self { loss, mask_same_image: false, mask_equal_text: false, sample: None }
    }

    /// The negatives of a batch, which need `chosen` unless they are all others, or all of another image.
    fn choose<'a, T>(&self, batch: &'a Batch<T>, chosen: &'a mut Chosen) -> Negatives<'a> {
        let Batch { captions, image_ids: ids, .. } = batch;
        if self.is_chosen() {
            chosen.choose(captions.len(), self.sample, |i, j| {
                let same_image = self.mask_same_image && ids[i] == ids[j];
                let equal_text = self.mask_equal_text && captions[i] == captions[j];
                !same_image && !equal_text
            });
        }
        self.negatives(batch, chosen)
    }

    /// The negatives of a batch for which they have been chosen.
    pub(crate) fn negatives<'a, T>(&self, batch: &'a Batch<T>, chosen: &'a Chosen) -> Negatives<'a> {
        match self.mask_same_image {
            _ if self.is_chosen() => Negatives::Chosen(chosen),
            true => Negatives::OtherImages(&batch.image_ids),
            false => Negatives::Others,
        }
    }

    fn is_chosen(&self) -> bool {
        self.mask_equal_text || self.sample.is_some()
    }
}

/// One pass, forward and backward: everything that a step computes, for a log, a test or a student.
///
/// The next pass reuses its memory.
#[derive(Clone, Debug, Default)]
pub struct Pass<T: 'static> {
    /// The image side.
    pub(crate) image: ImageCache<T>,
    /// The caption side.
    pub(crate) text: TextCache<T>,
    /// S [B, B], rows images, columns captions.
    pub scores: Array2<T>,
    /// The negatives of each query, if they were drawn or captions of equal text are masked.
    pub chosen: Chosen,
    /// The loss and its terms.
    pub terms: Terms<T>,
    /// dS [B, B], after a backward pass.
    pub d_scores: Array2<T>,
    /// df [B, D], after a backward pass.
    pub df: Array2<T>,
    /// dg [B, D], after a backward pass.
    pub dg: Array2<T>,
}

impl<T: Scalar> Pass<T> {
    /// f, the images' joint embeddings, [B, D].
    #[must_use]
    pub fn f(&self) -> ArrayView2<'_, T> {
        self.image.head.y()
    }

    /// g, the captions' joint embeddings, [B, D].
    #[must_use]
    pub fn g(&self) -> ArrayView2<'_, T> {
        self.text.head.y()
    }
}

impl<T: Scalar> Vse<T> {
    /// A model before training.
    #[must_use]
    pub fn init(architecture: Architecture, seed: u64) -> Self {
        Self { architecture, parameters: Parameters::init(&architecture, seed) }
    }

    /// A model with numbers from elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Architecture::check`]; or if a tensor is missing, is one too many, or has another shape than the
    /// architecture gives it: the message names it.
    pub fn new(architecture: Architecture, parameters: Parameters<T>) -> Result<Self> {
        architecture.check()?;
        let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        parameters.each(|path, _, x| {
            found.insert(path.to_string(), x.shape().to_vec());
        });
        for (name, shape) in architecture.tensors() {
            match found.remove(&name) {
                Some(found) if found == shape => {}
                Some(found) => return Err(Error::shape(&name, format!("{shape:?}"), &found)),
                None => return Err(Error::mismatch(format!("{name}: expected {shape:?}, found no such tensor"))),
            }
        }
        match found.first_key_value() {
            None => Ok(Self { architecture, parameters }),
            Some((name, shape)) => {
                Err(Error::mismatch(format!("{name}: expected no such tensor in this architecture, found {shape:?}")))
            }
        }
    }

    /// Sizes and switches.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The scores and the loss of a batch.
    ///
    /// # Errors
    ///
    /// If the batch does not fit the architecture, if a token id is out of range, if an embedding is zero,
    /// or if anything is not finite. `pass` is then unspecified until a pass succeeds.
    pub fn forward<L: Loss>(
        &self,
        batch: &Batch<T>,
        objective: &Objective<L>,
        mode: Mode,
        pass: &mut Pass<T>,
    ) -> Result<()> {
        let Pass { image, text, scores, chosen, terms, .. } = pass;
        batch.check(&self.architecture)?;
        self.parameters.img_enc.forward(&batch.images, mode, self.image_head(), image)?;
        self.parameters.txt_enc.forward(&batch.captions, mode, self.caption_head(), text)?;
        self.architecture.measure.scores_into(image.head.y(), text.head.y(), scores);
        terms.evaluate(&objective.loss, scores.view(), objective.choose(batch, chosen))
    }

    /// Joint embeddings of images: φ [N, F] → f [N, D].
    ///
    /// # Errors
    ///
    /// If there are not F features, or if an embedding is zero or not finite.
    pub fn embed_images(&self, features: ArrayView2<'_, T>) -> Result<Array2<T>> {
        if features.ncols() != self.architecture.img_dim {
            let expected = format!("[N, F = {}]", self.architecture.img_dim);
            return Err(Error::shape("image features", expected, features.shape()));
        }
        self.parameters.img_enc.embed(features, self.image_head())
    }

    /// φ of pictures, [N, 3, Y, X] → [N, F]: what the encoder makes of them, rows of norm 1.
    ///
    /// # Errors
    ///
    /// If the model has no image encoder, if the pictures are too small for it, or if features are zero or not finite.
    pub fn encode_pictures(&self, pictures: ArrayView4<'_, T>) -> Result<Array2<T>> {
        self.parameters.img_enc.features(pictures)
    }

    /// Joint embeddings of feature vectors or pictures.
    ///
    /// # Errors
    ///
    /// As [`Self::embed_images`] or [`Self::encode_pictures`].
    pub(crate) fn embed(&self, images: &Images<T>) -> Result<Array2<T>> {
        match images {
            Images::Features(features) => self.embed_images(features.view()),
            Images::Pixels(pictures) => self.embed_images(self.encode_pictures(pictures.view())?.view()),
        }
    }

    /// Joint embeddings of captions: M lists of token ids → g [M, D].
    ///
    /// All captions are one prefix tree, so that what they share is computed once. A caption's
    /// embedding does not depend on the others, to the bit.
    ///
    /// # Errors
    ///
    /// If a token id is out of range, or if an embedding is zero or not finite.
    pub fn embed_captions<C: AsRef<[u32]>>(&self, captions: &[C]) -> Result<Array2<T>> {
        self.parameters.txt_enc.embed(captions, self.caption_head())
    }

    /// Moves the running statistics of the image encoder's norms towards those of the pass: once after each step.
    /// Nothing moves if the pass took the running ones ([`Mode::Eval`]), or feature vectors.
    pub fn update_statistics(&mut self, pass: &Pass<T>) {
        self.parameters.img_enc.update_statistics(&pass.image);
    }

    fn image_head(&self) -> Head {
        Head { normalise: !self.architecture.no_imgnorm, use_abs: self.architecture.use_abs }
    }

    fn caption_head(&self) -> Head {
        Head { normalise: true, use_abs: self.architecture.use_abs }
    }
}

impl<T: Real> Vse<T> {
    /// The gradient of the loss with respect to the parameters, for the batch of the last forward pass. With
    /// `d_images` also dℓ/dφ [B, F], for an image encoder in front of the model. The model's own encoder has a
    /// gradient if `grad` has one; with running statistics ([`Mode::Eval`]) it computes some pictures at a time again.
    ///
    /// `write` says whether the gradient is added to `grad` or replaces what it holds. An empty tensor of
    /// `grad` asks for no gradient.
    ///
    /// # Errors
    ///
    /// If a tensor of the model is missing in `grad` or has another shape there; the message names it.
    pub fn backward(
        &self,
        batch: &Batch<T>,
        pass: &mut Pass<T>,
        write: Write,
        grad: &mut Parameters<T>,
        d_images: Option<&mut Array2<T>>,
    ) -> Result<()> {
        self.parameters.check_gradient(grad)?;
        let Pass { image, text, scores, terms, d_scores, df, dg, .. } = pass;
        terms.backward(d_scores);
        let (f, g) = (image.head.y(), text.head.y());
        self.architecture.measure.backward_into(f, g, scores.view(), d_scores.view(), df, dg);
        self.parameters.txt_enc.backward(text, dg, write, &mut grad.txt_enc);
        self.parameters.img_enc.backward(&batch.images, image, df, write, &mut grad.img_enc, d_images)
    }
}

impl<T: Scalar> Pass<T> {
    /// The smooth piece of the loss on which this batch lies: which terms count, which signs the
    /// absolute value sees, which violations an order similarity sees. Where it changes, there is a
    /// kink.
    #[must_use]
    pub(crate) fn active_set(&self, architecture: &Architecture) -> Vec<bool> {
        let mut active = Vec::new();
        self.image.head.active_set(&mut active);
        self.text.head.active_set(&mut active);
        architecture.measure.active_set(self.image.head.y(), self.text.head.y(), &mut active);
        self.terms.active_set(&mut active);
        active
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Config, Images, ValidConfig};

    fn config() -> ValidConfig {
        Config { embed_size: 6, word_dim: 3, ..Config::default() }.check().unwrap()
    }

    fn batch() -> Batch<f32> {
        Batch {
            images: Array2::from_shape_fn((4, 5), |(i, j)| ((i * 5 + j) as f32 * 0.7).sin()).into(),
            captions: vec![vec![1, 4, 2], vec![1, 4, 5, 2], vec![1, 6, 2], vec![1, 4, 5, 4, 2]],
            image_ids: vec![0, 1, 2, 3],
        }
    }

    #[test]
    fn an_embedding_does_not_depend_on_its_company() {
        let model = Vse::<f32>::init(config().architecture(10, 5), 0);
        let (batch, objective) = (batch(), config().objective(0));
        let mut pass = Pass::default();
        model.forward(&batch, &objective, Mode::Eval, &mut pass).unwrap();
        assert_eq!(model.embed_captions(&batch.captions).unwrap(), pass.text.head.y());
        assert_eq!(model.embed_images(batch.images.features().unwrap()).unwrap(), pass.image.head.y());
        let captions: Vec<Vec<u32>> =
            (0..700u32).map(|i| vec![1, 4 + i % 6, 4 + i / 7 % 6, 4 + i / 50 % 6, 2]).collect();
        let all = model.embed_captions(&captions).unwrap();
        for i in [0, 1, 350, 699] {
            assert_eq!(model.embed_captions(&captions[i..=i]).unwrap().row(0), all.row(i));
        }
    }

    #[test]
    fn captions_of_equal_text_can_be_masked_with_those_of_one_image() {
        // Captions 0 and 3 are equal, images 1 and 2 are the same.
        let mut batch = batch();
        batch.captions[3] = batch.captions[0].clone();
        batch.image_ids[2] = batch.image_ids[1];
        let model = Vse::<f32>::init(config().architecture(10, 5), 0);
        let sum = Config { max_violation: false, mask_equal_text: true, margin: 10.0, ..config().into_inner() };
        for mask_same_image in [false, true] {
            let config = Config { mask_same_image, ..sum.clone() }.check().unwrap();
            let mut pass = Pass::default();
            model.forward(&batch, &config.objective(0), Mode::Train, &mut pass).unwrap();
            let left: Vec<_> = pass.terms.terms().iter().map(|term| term.at).collect();
            for (i, j) in ndarray::indices((4, 4)) {
                let masked = i == j || i + j == 3 && (i == 0 || j == 0 || mask_same_image);
                // With this margin each negative counts, for its row and for its column.
                let count = left.iter().filter(|&&at| at == (i, j)).count();
                assert_eq!(count, if masked { 0 } else { 2 }, "{i}, {j}");
            }
            assert_eq!(pass.terms.possible, left.len());
        }
    }

    #[test]
    fn gradients_accumulate() {
        let config = config();
        let model = Vse::<f32>::init(config.architecture(10, 5), 0);
        let batch = batch();
        let mut pass = Pass::default();
        model.forward(&batch, &config.objective(0), Mode::Train, &mut pass).unwrap();
        let (mut once, mut d_images) = (Parameters::zeros(&model.architecture), Array2::default((0, 0)));
        model.backward(&batch, &mut pass, Write::Add, &mut once, Some(&mut d_images)).unwrap();
        assert_eq!(d_images.dim(), (4, 5));
        let mut twice = once.clone();
        model.backward(&batch, &mut pass, Write::Add, &mut twice, None).unwrap();
        for ((name, once), (_, twice)) in once.tensors().iter().zip(twice.tensors()) {
            assert_eq!(once.mapv(|x| x + x), twice, "{name}");
        }
        model.backward(&batch, &mut pass, Write::Replace, &mut twice, None).unwrap();
        assert_eq!(once, twice);
    }

    #[test]
    fn a_gradient_of_another_architecture_is_refused() {
        let config = Config { caption_projection: true, ..config().into_inner() }.check().unwrap();
        let model = Vse::<f32>::init(config.architecture(10, 5), 0);
        let (batch, mut pass) = (batch(), Pass::default());
        model.forward(&batch, &config.objective(0), Mode::Train, &mut pass).unwrap();
        let mut message = |mut grad: Parameters<f32>| {
            model.backward(&batch, &mut pass, Write::Replace, &mut grad, None).unwrap_err().to_string()
        };
        let without = Config { caption_projection: false, ..config.clone().into_inner() }.check().unwrap();
        let found = message(Parameters::zeros(&without.architecture(10, 5)));
        assert_eq!(found, "txt_enc.proj.weight, txt_enc.proj.bias: one value has it, another has not");
        let found = message(Parameters::zeros(&config.architecture(7, 5)));
        assert_eq!(found, "txt_enc.embed.weight: expected [10, 3], found [7, 3]");
        let deeper = Config { num_layers: 2, ..config.clone().into_inner() }.check().unwrap();
        let found = message(Parameters::zeros(&deeper.architecture(10, 5)));
        assert_eq!(found, "txt_enc.rnn.weight_ih_l1: one value has it, another has only 1 layer(s)");
    }

    #[test]
    fn numbers_of_another_architecture_are_refused() {
        let plain = config().architecture(10, 5);
        let projected =
            Config { caption_projection: true, ..config().into_inner() }.check().unwrap().architecture(10, 5);
        let message = |architecture: Architecture, of: &Architecture| {
            Vse::new(architecture, Parameters::<f32>::zeros(of)).unwrap_err().to_string()
        };
        assert!(Vse::new(plain, Parameters::<f32>::zeros(&plain)).is_ok());
        let found = message(projected, &plain);
        assert_eq!(found, "txt_enc.proj.weight: expected [6, 6], found no such tensor");
        let found = message(plain, &projected);
        assert_eq!(found, "txt_enc.proj.bias: expected no such tensor in this architecture, found [6]");
        let found = message(plain, &Architecture { vocab_size: 7, ..plain });
        assert_eq!(found, "txt_enc.embed.weight: expected [10, 3], found [7, 3]");
        assert!(message(Architecture { num_layers: 0, ..plain }, &plain).contains("expected at least one layer"));
    }

    #[test]
    fn a_frozen_tensor_gets_no_gradient_and_changes_no_other() {
        for num_layers in [1, 2] {
            let config = Config { caption_projection: true, num_layers, ..config().into_inner() }.check().unwrap();
            let model = Vse::<f32>::init(config.architecture(10, 5), 0);
            let (batch, mut pass) = (batch(), Pass::default());
            model.forward(&batch, &config.objective(0), Mode::Train, &mut pass).unwrap();
            let mut all = Parameters::zeros(&model.architecture);
            model.backward(&batch, &mut pass, Write::Replace, &mut all, None).unwrap();
            for frozen in all.tensors().iter().map(|(name, _)| name.as_str()).chain(["txt_enc", "txt_enc.rnn"]) {
                let mut some = Parameters::zeros(&model.architecture);
                some.empty(&crate::nn::Path::default(), &|path, _| path.is_within(frozen));
                model.backward(&batch, &mut pass, Write::Replace, &mut some, None).unwrap();
                for ((name, expected), (_, found)) in all.tensors().into_iter().zip(some.tensors()) {
                    let is_frozen = name == frozen || name.starts_with(&format!("{frozen}."));
                    assert!(if is_frozen { found.is_empty() } else { found == expected }, "{frozen}: {name}");
                }
            }
        }
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
            let (mut pass, mut grad) = (Pass::default(), Parameters::zeros(&model.architecture));
            let mut d_images = Array2::default((0, 0));
            for pairs in [4, 1, 3, 0, 4, 2] {
                let Batch { images, captions, image_ids } = batch();
                let batch = Batch {
                    images: images.features().unwrap().slice(ndarray::s![4 - pairs.., ..]).mapv(f64::from).into(),
                    captions: captions[4 - pairs..].to_vec(),
                    image_ids: image_ids[..pairs].to_vec(),
                };
                let run = |pass: &mut Pass<f64>, grad: &mut Parameters<f64>, d_images: &mut Array2<f64>| {
                    model.forward(&batch, &objective, Mode::Train, pass).unwrap();
                    model.backward(&batch, pass, Write::Replace, grad, Some(d_images)).unwrap();
                };
                run(&mut pass, &mut grad, &mut d_images);
                let (mut fresh, mut expected) = (Pass::default(), Parameters::zeros(&model.architecture));
                let mut d_expected = Array2::default((0, 0));
                run(&mut fresh, &mut expected, &mut d_expected);
                assert_eq!((pass.terms.loss, &pass.scores), (fresh.terms.loss, &fresh.scores), "{pairs} pairs");
                assert_eq!((&grad, &d_images), (&expected, &d_expected), "{pairs} pairs");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        fn features(batch: &mut Batch<f32>) -> &mut Array2<f32> {
            let Images::Features(features) = &mut batch.images else { unreachable!() };
            features
        }
        let config = config();
        let model = Vse::<f32>::init(config.architecture(10, 5), 0);
        let message = |spoil: fn(&mut Batch<f32>)| {
            let mut batch = batch();
            spoil(&mut batch);
            let mut pass = Pass::default();
            model.forward(&batch, &config.objective(0), Mode::Train, &mut pass).unwrap_err().to_string()
        };
        let found = message(|b| b.images = Array2::zeros((4, 6)).into());
        assert_eq!(found, "images: expected [B = 4, F = 5], found [4, 6]");
        let found = message(|b| b.images = ndarray::Array4::zeros((4, 3, 8, 8)).into());
        assert_eq!(found, "images: expected [B = 4, F = 5], found [4, 3, 8, 8]");
        assert!(message(|b| b.captions[2][1] = 10).contains("id 10"));
        assert!(message(|b| features(b).row_mut(1).fill(0.0)).contains("image embedding: row 1 has norm 0"));
        assert!(message(|b| features(b)[[3, 0]] = f32::NAN).contains('3'));
        assert!(message(|b| b.captions[0].clear()).contains("caption 0"));
        assert!(message(|b| b.image_ids.truncate(3)).contains("image_ids: expected [B = 4], found [3]"));
    }
}
