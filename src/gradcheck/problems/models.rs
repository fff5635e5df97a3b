//! Whole models.

use ndarray::{Array2, ArrayView2, Axis};

use super::{Blocks, CAPTIONS, Problem, fill, flat, numbers, sizes};
use crate::error::Result;
use crate::linalg::Write;
use crate::model::{Architecture, Batch, Config, Objective, Parameters, Pass, Preset, Vse};
use crate::nn::{Mode, Module};
use crate::real::Scalar;
use crate::similarity::Measure;

/// The second and the fifth caption show one image.
const IMAGE_IDS: [usize; 7] = [0, 1, 2, 3, 1, 4, 5];

/// A whole model on one batch: every parameter, and the features of every distinct image.
///
/// An image that occurs twice in the batch is one block of numbers here: its two rows move together, as
/// when an encoder is trained. If they moved separately, they would break a tie between two hardest
/// negatives, which is a kink.
#[derive(Clone, Debug)]
pub(super) struct ModelProblem {
    name: String,
    architecture: Architecture,
    objective: Objective,
    image_ids: Vec<usize>,
    captions: Vec<Vec<u32>>,
    pictures: usize,
    point: Vec<f64>,
}

impl ModelProblem {
    /// A model with random parameters in ±0.6 (biases included, which start at zero in training), on a batch.
    ///
    /// `pictures` [N, F] are the distinct images; `image_ids` `[B]` gives the row of each caption's image.
    ///
    /// # Panics
    ///
    /// If an id is not below N.
    #[must_use]
    pub(super) fn new(
        name: &str,
        architecture: Architecture,
        objective: Objective,
        pictures: ArrayView2<'_, f64>,
        captions: Vec<Vec<u32>>,
        image_ids: Vec<usize>,
    ) -> Self {
        let n = pictures.nrows();
        assert!(image_ids.iter().all(|&id| id < n), "image_ids: expected ids below {n}, found {image_ids:?}");
        let parameters = Parameters::<f64>::zeros(&architecture).count();
        let mut point = numbers(parameters, 0.6, "model");
        point.extend(pictures);
        Self { name: name.into(), architecture, objective, image_ids, captions, pictures: n, point }
    }

    fn parts<T: Scalar>(&self, x: &[T]) -> (Vse<T>, Batch<T>) {
        let (mut parameters, mut blocks) = (Parameters::zeros(&self.architecture), Blocks(x));
        fill(&mut parameters, &mut blocks);
        let pictures = blocks.matrix(self.pictures, self.architecture.img_dim);
        let images = pictures.select(Axis(0), &self.image_ids);
        let batch = Batch { images: images.into(), captions: self.captions.clone(), image_ids: self.image_ids.clone() };
        (Vse { architecture: self.architecture, parameters }, batch)
    }
}

impl ModelProblem {
    fn pass<T: Scalar>(&self, model: &Vse<T>, batch: &Batch<T>) -> Result<Pass<T>> {
        let mut pass = Pass::default();
        model.forward(batch, &self.objective, Mode::Train, &mut pass)?;
        Ok(pass)
    }
}

impl Problem for ModelProblem {
    fn name(&self) -> String {
        format!("model, {}", self.name)
    }
    fn blocks(&self) -> Vec<(String, usize)> {
        let mut blocks = sizes(&Parameters::zeros(&self.architecture));
        blocks.push(("in.images".into(), self.pictures * self.architecture.img_dim));
        blocks
    }
    fn point(&self) -> Vec<f64> {
        self.point.clone()
    }
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
        let (model, batch) = self.parts(x);
        Ok(self.pass(&model, &batch)?.terms.loss)
    }
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
        let (model, batch) = self.parts(x);
        let mut pass = self.pass(&model, &batch)?;
        let (mut grad, mut d_images) = (Parameters::zeros(&self.architecture), Array2::default((0, 0)));
        model.backward(&batch, &mut pass, Write::Add, &mut grad, Some(&mut d_images))?;
        let mut d_pictures = Array2::<f64>::zeros((self.pictures, self.architecture.img_dim));
        for (&picture, d_image) in self.image_ids.iter().zip(d_images.outer_iter()) {
            let mut row = d_pictures.row_mut(picture);
            row += &d_image;
        }
        Ok(flat(&grad).into_iter().chain(d_pictures).collect())
    }
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let (model, batch) = self.parts(x);
        Ok(self.pass(&model, &batch)?.active_set(&self.architecture))
    }
}

/// All losses, all similarities, one and two layers, with and without projection; every one on a
/// batch with shared prefixes, repeated words, a repeated caption and two captions of one image.
#[must_use]
pub(super) fn models() -> Vec<ModelProblem> {
    let presets = [
        ("vse0", Preset::Vse0),
        ("vse++", Preset::VsePlusPlus),
        ("order0", Preset::Order0),
        ("order++", Preset::OrderPlusPlus),
    ];
    let vse_pp = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config
    };
    let mut configs: Vec<(&str, Config)> = presets
        .map(|(name, preset)| {
            let mut config = Config::default();
            config.apply(preset);
            (name, config)
        })
        .into();
    configs.extend([
        ("vse++ with sum of hinges", vse_pp(|c| c.max_violation = false)),
        ("vse++, two layers", vse_pp(|c| c.num_layers = 2)),
        ("vse0, two layers, caption projection with H ≠ D", {
            let mut config = vse_pp(|c| c.apply(Preset::Vse0));
            (config.num_layers, config.caption_projection, config.hidden_size) = (2, true, Some(4));
            config
        }),
        (
            "vse++, caption projection with H ≠ D",
            vse_pp(|c| {
                (c.caption_projection, c.hidden_size) = (true, Some(4));
            }),
        ),
        ("vse++, same images masked", vse_pp(|c| c.mask_same_image = true)),
        ("vse++ with the 2 hardest", vse_pp(|c| c.hardest = 2)),
        ("vse++ with log-sum-exp, temperature 0.1", vse_pp(|c| c.temperature = 0.1)),
        ("vse++, 3 negatives drawn, equal text masked", vse_pp(|c| (c.negatives, c.mask_equal_text) = (3, true))),
        (
            "order++ with abs, squared, two layers",
            vse_pp(|c| {
                c.apply(Preset::OrderPlusPlus);
                (c.use_abs, c.measure, c.num_layers) = (true, Measure::OrderSquared, 2);
            }),
        ),
    ]);
    // A margin that leaves hinges of both kinds: active and not.
    let mut all: Vec<_> = configs.into_iter().map(|(name, config)| model(name, config, 0.05)).collect();
    // A semi-hard hinge is below the margin. A loss near 0 would have no digits left for the slopes.
    all.push(model("vse++ with semi-hard negatives", vse_pp(|c| c.semi_hard = true), 0.5));
    all
}

fn model(name: &str, mut config: Config, margin: f64) -> ModelProblem {
    (config.embed_size, config.word_dim, config.margin) = (5, 3, margin);
    let config = config.check().expect("the settings above are valid");
    let architecture = config.architecture(10, 6);
    let pictures = numbers(6 * 6, 1.0, "images");
    let pictures = ArrayView2::from_shape((6, 6), &pictures).expect("as many as asked for");
    let captions = CAPTIONS.map(<[u32]>::to_vec).into();
    ModelProblem::new(name, architecture, config.objective(0), pictures, captions, IMAGE_IDS.into())
}
