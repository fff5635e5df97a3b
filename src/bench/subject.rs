//! The timed code: a training by [`Trainer`], and its parts one by one.
//!
//! All calls of the model, the optimiser and the products are in this file.

use std::time::Instant;

use ndarray::{Array2, ArrayView2, ArrayView4, ArrayViewMut2, s};

use super::size::Model;
use super::work::Form;
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::eval::{Evaluation, evaluate};
use crate::linalg::{self, Panels, Write};
use crate::model::{Batch, Encoder, Parameters, Pass, ValidConfig, Vse};
use crate::nn::Mode;
use crate::optim::{Adam, clip_coefficient, global_norm, gradient_of};
use crate::real::Real;
use crate::similarity::Measure;
use crate::train::Trainer;

/// A training on made-up words; it times the trainer's own step.
#[derive(Debug)]
pub(crate) struct Training(Trainer);

impl Training {
    /// A freshly initialised model.
    ///
    /// # Errors
    ///
    /// The same as [`Trainer::new`].
    pub(crate) fn new(model: &Model) -> Result<Self> {
        let Model { config, architecture, .. } = model.clone();
        let words = architecture.vocab_size - Vocabulary::SPECIAL.len();
        let words: Vec<String> = (0..words).map(|word| format!("w{word}")).collect();
        let trainer = Trainer::new(config, &Vocabulary::build(&words, 1), architecture.img_dim)?;
        if trainer.model.architecture != architecture {
            let problem = format!("expected {architecture:?}, found {:?}", trainer.model.architecture);
            return Err(Error::mismatch(problem));
        }
        Ok(Self(trainer))
    }

    /// One step; returns the loss before it.
    ///
    /// # Errors
    ///
    /// The same as [`Trainer::step`].
    pub(crate) fn step(&mut self, batch: &Batch<f32>) -> Result<f64> {
        self.0.step(batch).map(|report| report.loss)
    }

    /// φ of pictures before it is normalised, [N, F].
    ///
    /// # Errors
    ///
    /// If the model has no encoder, or the pictures do not fit it.
    pub(super) fn embed(&self, pictures: ArrayView4<'_, f32>) -> Result<Array2<f32>> {
        encoder(&self.0.model.parameters)?.embed(pictures)
    }

    /// The current model.
    #[cfg(test)]
    fn model(&self) -> &Vse<f32> {
        &self.0.model
    }
}

/// The image encoder of a model.
///
/// # Errors
///
/// If it has none.
pub(super) fn encoder(parameters: &Parameters<f32>) -> Result<&Encoder<f32>> {
    parameters.img_enc.cnn.as_ref().ok_or_else(|| Error::mismatch("size: expected an image encoder"))
}

/// A model with its optimiser, step by step and part by part, in either precision.
#[derive(Debug)]
pub(super) struct Subject<T: 'static> {
    model: Vse<T>,
    config: ValidConfig,
    adam: Adam<T>,
    gradient: Parameters<T>,
    /// The buffers of a step, which the next step reuses.
    pass: Pass<T>,
}

/// The seconds of the parts of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Laps {
    /// From the batch to the loss.
    pub forward: f64,
    /// From the loss to the gradient.
    pub backward: f64,
    /// The global norm, clipping, Adam.
    pub update: f64,
}

impl<T: Real> Subject<T> {
    /// Freshly initialised.
    #[must_use]
    pub(super) fn new(model: &Model) -> Self {
        let Model { config, architecture, .. } = model.clone();
        let model = Vse::init(architecture, config.seed);
        let (adam, gradient) = (Adam::new(&model.parameters), gradient_of(&model.parameters, &[]));
        Self { model, adam, gradient, config, pass: Pass::default() }
    }

    /// From the batch to the loss.
    ///
    /// # Errors
    ///
    /// The same as [`Vse::forward`].
    pub(super) fn forward(&mut self, batch: &Batch<T>) -> Result<()> {
        self.model.forward(batch, &self.config.objective(0), Mode::Train, &mut self.pass)
    }

    /// From the loss of the last forward pass to the gradient, for the same batch.
    ///
    /// # Errors
    ///
    /// The same as [`Vse::backward`].
    pub(super) fn backward(&mut self, batch: &Batch<T>) -> Result<()> {
        self.model.backward(batch, &mut self.pass, Write::Replace, &mut self.gradient, None)
    }

    /// The global norm, clipping, Adam.
    ///
    /// # Errors
    ///
    /// The same as [`Adam::update`].
    pub(super) fn update(&mut self) -> Result<()> {
        let scale = clip_coefficient(global_norm(&self.gradient), self.config.grad_clip);
        self.adam.update(&mut self.model.parameters, &self.gradient, self.config.learning_rate, scale)
    }

    /// All three, each with its time.
    ///
    /// # Errors
    ///
    /// The same as [`Self::forward`].
    pub(super) fn step(&mut self, batch: &Batch<T>) -> Result<Laps> {
        let start = Instant::now();
        self.forward(batch)?;
        let forward = start.elapsed().as_secs_f64();
        self.backward(batch)?;
        let backward = start.elapsed().as_secs_f64();
        self.update()?;
        let update = start.elapsed().as_secs_f64();
        Ok(Laps { forward, backward: backward - forward, update: update - backward })
    }

    /// The joint embeddings of captions, [M, D].
    ///
    /// # Errors
    ///
    /// The same as [`Vse::embed_captions`].
    pub(super) fn encode(&self, captions: &[Vec<u32>]) -> Result<Array2<T>> {
        self.model.embed_captions(captions)
    }
}

/// Ranks in both directions, with the same number of captions for each image.
///
/// # Errors
///
/// The same as [`evaluate`].
pub(super) fn rank(images: ArrayView2<'_, f32>, captions: ArrayView2<'_, f32>) -> Result<Evaluation> {
    let each = captions.nrows() / images.nrows().max(1);
    let starts: Vec<usize> = (0..=images.nrows()).map(|image| image * each).collect();
    evaluate(images, captions, &starts, Measure::Cosine)
}

/// Computes the calls of one product, with operands laid out as `form` says; `rows` has the rows of A
/// and C per call. A B shared by several calls is packed once, as in the GRU.
pub(super) fn multiply(
    form: Form,
    rows: &[usize],
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    mut c: ArrayViewMut2<'_, f32>,
) {
    match (form, rows) {
        (Form::Output, [_]) => linalg::matmul_into(a, b.t(), c),
        (Form::Input, [_]) => linalg::matmul_into(a, b, c),
        (Form::Weight, _) => linalg::matmul_into(a.t(), b, c),
        _ => {
            let mut panels = Panels::default();
            panels.pack_right(if form == Form::Output { b.t() } else { b });
            let mut first = 0;
            for &m in rows {
                let call = s![first..first + m, ..];
                match form {
                    Form::Output => linalg::matmul_packed(a.slice(call), &panels, Write::Replace, c.slice_mut(call)),
                    _ => linalg::matmul_packed(a.slice(call), &panels, Write::Add, c.slice_mut(call)),
                }
                first += m;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::captions::{batch, made_up};
    use crate::bench::{SEED, Size};

    #[test]
    fn the_parts_make_up_the_trainer_s_step() {
        let model = Size::Demo.model();
        let architecture = &model.architecture;
        let batch = batch(architecture, made_up(architecture.vocab_size, 6));
        let (mut training, mut subject) = (Training::new(&model).unwrap(), Subject::<f32>::new(&model));
        assert_eq!(training.model().parameters, Parameters::init(architecture, SEED));
        for _ in 0..2 {
            training.step(&batch).unwrap();
            let laps = subject.step(&batch).unwrap();
            assert!(laps.forward > 0.0 && laps.backward > 0.0);
        }
        assert_eq!(training.model().parameters, subject.model.parameters);
    }

    #[test]
    fn training_finds_the_size_s_vocabulary() {
        for size in [Size::Demo, Size::Coco] {
            let model = size.model();
            assert_eq!(Training::new(&model).unwrap().model().architecture, model.architecture);
        }
    }
}
