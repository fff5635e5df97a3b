//! The training loop.
//!
//! ```text
//! for every epoch:   lr by (LR-1); the pairs in a new order
//!   for every batch: forward, backward, clip (CLIP-2), Adam (ADAM-3)
//!   rsum on dev; the best so far is kept
//! ```

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayD, ArrayViewD, Dimension};
use rayon::prelude::*;

use super::checkpoint::{Checkpoint, Fingerprints};
use super::collapse::spread;
use super::embed::embed_images;
use super::events::{Event, Observer};
use super::figures::{EpochReport, StepReport};
use super::progress::{Best, Progress};
use super::run_folder::Run;
use super::team::Team;
use super::training_data::TrainingData;
use crate::data::{Ahead, Pairs, Plan, Split, Vocabulary, prepare_ahead};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Evaluation, evaluate, hardest_percentile};
use crate::linalg::Write;
use crate::loss::{Loss, WarmUp, at_collapse};
use crate::model::{Batch, Encoder, Objective, Parameters, Pass, Statistics, ValidConfig, Vse};
use crate::nn::{Mode, Module, Path};
use crate::optim::{Adam, Moments, clip_coefficient, global_norm, gradient_of, learning_rate};
use crate::random::numbered_stream;

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was stopped on request.
    Interrupted,
}

/// After how long the number of threads is chosen again, at the next validation or end of an epoch.
const AGAIN: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(60) };

/// Why no further step is taken for now.
enum Pause {
    /// The user wants to stop.
    Stop,
    /// `val_step` steps were taken since the last validation, and the epoch goes on.
    Validation,
    /// All batches were used.
    EpochEnd,
}

/// A training under way, with the loss of the settings or with another ([`Trainer::with_loss`]).
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use vsepp::data::{Pairs, ScenesConfig, Source, Vocabulary};
/// use vsepp::model::Config;
/// use vsepp::train::{Ignore, Trainer, TrainingData};
///
/// # fn main() -> vsepp::Result<()> {
/// let scenes = Source::Scenes(ScenesConfig { train: 40, dev: 10, test: 0, ..ScenesConfig::default() });
/// let [train, dev] = scenes.splits(["train", "dev"])?;
/// let vocabulary = Vocabulary::build(train.captions(), 1);
/// let img_dim = train.img_dim()?;
/// let data = TrainingData { train: Pairs::encode(train, &vocabulary)?, dev: Pairs::encode(dev, &vocabulary)? };
///
/// let sizes = Config { embed_size: 16, word_dim: 8, batch_size: 32, ..Config::default() };
/// let config = Config { num_epochs: 3, learning_rate: 5e-3, ..sizes }.check()?;
/// let mut trainer = Trainer::new(config, &vocabulary, img_dim)?;
/// let before = trainer.evaluate(&data.dev)?;
/// trainer.run(&data, None, &mut Ignore, &AtomicBool::new(false))?;
/// assert!(trainer.progress.best.unwrap().dev.rsum > before.rsum);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Trainer<L = WarmUp> {
    /// The settings.
    pub config: ValidConfig,
    /// The model as it is now.
    pub model: Vse<f32>,
    /// The optimiser's state.
    pub adam: Adam<f32>,
    /// How far the training is.
    pub progress: Progress,
    objective: Objective<L>,
    /// The vocabulary's fingerprint.
    vocabulary: String,
    /// The data's fingerprints, once they are known.
    data: Option<Fingerprints>,
    /// The memory of a step, reused by the next.
    buffers: Buffers,
    /// Whether [`run`](Self::run) measures on how many threads of the current pool a step is fastest, and takes its
    /// steps on as many: before the first step, and from time to time, because other programs come and go. False: on
    /// all. The bits do not depend on it.
    pub choose_threads: bool,
}

/// The results of a step, kept so that the next step reuses their memory.
#[derive(Clone, Debug)]
struct Buffers {
    pass: Pass<f32>,
    gradient: Parameters<f32>,
    image_ids: Vec<usize>,
}

impl Buffers {
    fn new(model: &Vse<f32>, config: &ValidConfig) -> Self {
        let gradient = gradient_of(&model.parameters, &config.groups());
        Self { pass: Pass::default(), gradient, image_ids: Vec::new() }
    }
}

impl Trainer {
    /// A new training of a freshly initialised model.
    ///
    /// # Errors
    ///
    /// If the sizes are too large: see [`crate::model::Architecture::check`].
    pub fn new(config: ValidConfig, vocabulary: &Vocabulary, img_dim: usize) -> Result<Self> {
        let architecture = config.architecture(vocabulary.len(), img_dim);
        architecture.check()?;
        let model = Vse::init(architecture, config.seed);
        Ok(Self {
            adam: Adam::with_groups(&model.parameters, config.groups())?,
            buffers: Buffers::new(&model, &config),
            objective: config.objective_of(config.loss()),
            progress: Progress::default(),
            vocabulary: vocabulary.fingerprint(),
            data: None,
            choose_threads: false,
            config,
            model,
        })
    }

    /// Gives the image encoder weights from elsewhere, before the first step.
    ///
    /// # Errors
    ///
    /// If the model has no encoder, or another one.
    pub fn set_encoder(&mut self, encoder: Encoder<f32>) -> Result<()> {
        let Some(cnn) = &mut self.model.parameters.img_enc.cnn else {
            return Err(Error::mismatch("weights: expected a model with an image encoder"));
        };
        cnn.check_gradient(&encoder)?;
        *cnn = encoder;
        Ok(())
    }

    /// Begins with the numbers of another model: its tensors of the same names. An encoder that it does not have
    /// keeps its own.
    ///
    /// # Errors
    ///
    /// If one of the other tensors is missing, or has another shape.
    pub fn begin_with(&mut self, model: &Vse<f32>) -> Result<()> {
        let mut tensors: BTreeMap<String, ArrayD<f32>> = model.parameters.tensors().into_iter().collect();
        let has_encoder = model.architecture.encoder.is_some();
        Parameters::visit([&mut self.model.parameters], [], &Path::default(), &mut |path, _, [mut own], []| {
            match tensors.remove(&path.to_string()) {
                Some(found) if found.shape() == own.shape() => own.assign(&found),
                Some(found) => {
                    let expected = format!("{:?}, by the settings", own.shape());
                    return Err(Error::shape(&path.to_string(), expected, found.shape()));
                }
                None if !has_encoder && path.is_within("img_enc.cnn") => {}
                None => return Err(Error::mismatch(format!("{path}: the model to begin with has no such tensor"))),
            }
            Ok(())
        })
    }

    /// Continues from a run's last checkpoint, with the same bits as if it had never stopped.
    ///
    /// # Errors
    ///
    /// If there is no checkpoint, if it cannot be read, if it has no moments, if it was trained with other
    /// settings, another vocabulary or other sizes, or if the run's other files do not belong to it.
    pub fn resume(config: ValidConfig, vocabulary: &Vocabulary, img_dim: usize, run: &Run) -> Result<Self> {
        let last = run.folder().last();
        let (checkpoint, parameters, adam) = Checkpoint::read(&last)?;
        let architecture = config.architecture(vocabulary.len(), img_dim);
        checkpoint.check_vocabulary(vocabulary, &run.folder().vocabulary())?;
        config.check_resumes(&checkpoint.config)?;
        if config.num_epochs < checkpoint.progress.epoch {
            let expected = format!("at least the {} that are done", checkpoint.progress.epoch);
            return Err(Error::config("num_epochs", expected, config.num_epochs));
        }
        if checkpoint.architecture != architecture {
            let problem = format!("expected {architecture:?}, found {:?}", checkpoint.architecture);
            return Err(Error::file(&last, problem));
        }
        let adam = adam.ok_or_else(|| Error::file(&last, "expected Adam's moments (adam.m.*), found none"))?;
        run.go_on(&checkpoint, &config)?;
        let model = Vse { architecture, parameters };
        Ok(Self {
            buffers: Buffers::new(&model, &config),
            objective: config.objective_of(config.loss()),
            config,
            model,
            adam,
            progress: checkpoint.progress,
            vocabulary: checkpoint.vocabulary,
            data: Some(checkpoint.data),
            choose_threads: false,
        })
    }
}

impl<L: Loss> Trainer<L> {
    /// The same training with this loss instead of that of the settings.
    #[must_use]
    pub fn with_loss<M: Loss>(self, loss: M) -> Trainer<M> {
        let Self { config, model, adam, progress, objective, vocabulary, data, buffers, choose_threads } = self;
        let Objective { mask_same_image, mask_equal_text, sample, .. } = objective;
        let objective = Objective { loss, mask_same_image, mask_equal_text, sample };
        Trainer { config, model, adam, progress, objective, vocabulary, data, buffers, choose_threads }
    }

    /// Trains until all epochs are done or `stop` is set. With a run folder, a checkpoint is written at
    /// every epoch's end, at every validation and on a stop. The best model by dev rsum is kept too.
    ///
    /// # Errors
    ///
    /// If data and model do not fit, if a number is no longer finite, if an observer fails, or if a
    /// checkpoint cannot be written. The run folder then holds the last checkpoint.
    pub fn run(
        &mut self,
        data: &TrainingData,
        run: Option<&Run>,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        data.check(&self.model.architecture)?;
        let found = data.fingerprints()?;
        if let Some(before) = &self.data {
            for (split, before, found) in [("train", &before.train, &found.train), ("dev", &before.dev, &found.dev)] {
                if before != found {
                    let problem =
                        format!("{split}: expected the data that the run was begun with ({before}), found {found}");
                    return Err(Error::mismatch(problem));
                }
            }
        }
        self.data = Some(found);
        let batches = data.train.ids.len().div_ceil(self.config.batch_size);
        self.progress.check_batches(batches).map_err(|problem| Error::mismatch(format!("checkpoint: {problem}")))?;
        if let Some(run) = run {
            run.start()?;
        }
        let plan = Plan {
            pairs: &data.train,
            batch_size: self.config.batch_size,
            seed: self.config.seed,
            epochs: self.progress.epoch..self.config.num_epochs,
            first_batch: self.progress.batch,
        };
        prepare_ahead(&plan, |ahead| self.run_ahead(data, ahead, run, observer, stop))
    }

    /// The loop of [`Self::run`], with batches that are prepared on another thread.
    fn run_ahead(
        &mut self,
        data: &TrainingData,
        ahead: &mut Ahead<'_>,
        run: Option<&Run>,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        let pairs = data.train.ids.len();
        let batches = pairs.div_ceil(self.config.batch_size);
        let first_step = self.progress.step;
        let mut team = self.team(data, observer)?;
        let mut gathered = Instant::now();
        observer.event(&Event::Started {
            config: &self.config,
            parameters: self.model.parameters.count(),
            pairs,
            batches,
            progress: &self.progress,
        })?;
        while self.progress.epoch < self.config.num_epochs {
            match team.run(|| self.steps(data, ahead, batches, observer, stop))? {
                Pause::Stop => {
                    observer.event(&Event::Interrupted { progress: &self.progress })?;
                    if self.progress.step > first_step {
                        self.save(run, false)?;
                    }
                    return Ok(Outcome::Interrupted);
                }
                Pause::Validation => self.validate_within_epoch(data, run, observer)?,
                Pause::EpochEnd => self.end_epoch(data, run, observer)?,
            }
            if self.choose_threads && gathered.elapsed() > AGAIN {
                team = self.team(data, observer)?;
                gathered = Instant::now();
            }
        }
        observer.event(&Event::Finished { progress: &self.progress })?;
        Ok(Outcome::Finished)
    }

    /// The threads that take the steps.
    fn team(&mut self, data: &TrainingData, observer: &mut dyn Observer) -> Result<Team> {
        let paces = if self.choose_threads { self.paces(data)? } else { Vec::new() };
        let Some(chosen) = paces.first() else { return Team::new(rayon::current_num_threads()) };
        observer.event(&Event::ThreadsChosen(&paces))?;
        Team::new(chosen.threads)
    }

    /// Takes steps until something else has to be done.
    fn steps(
        &mut self,
        data: &TrainingData,
        ahead: &mut Ahead<'_>,
        batches: usize,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Pause> {
        let every = self.config.val_step as u64;
        while self.progress.batch < batches {
            if stop.load(Ordering::Relaxed) {
                return Ok(Pause::Stop);
            }
            let start = Instant::now();
            let Some(next) = ahead.next_batch()? else { unreachable!("the plan has a batch for every step") };
            let waited = start.elapsed().as_secs_f64();
            debug_assert_eq!((next.epoch, next.number), (self.progress.epoch, self.progress.batch));
            self.step_and_report(next.batch(), batches, waited, observer)
                .map_err(|e| self.locate(e, &next.captions, &data.train.split))?;
            self.progress.totals.waiting += waited;
            // Includes everything between two steps, so that slow parts show.
            self.progress.totals.seconds += start.elapsed().as_secs_f64();
            if every > 0 && self.progress.step.is_multiple_of(every) && self.progress.batch < batches {
                return Ok(Pause::Validation);
            }
        }
        Ok(Pause::EpochEnd)
    }

    /// Takes one step on a batch: forward, backward, clip, Adam.
    ///
    /// # Errors
    ///
    /// If the batch does not fit, or if the loss or the gradient is not finite. The parameters are then
    /// unchanged.
    pub fn step(&mut self, batch: &Batch<f32>) -> Result<StepReport> {
        let start = Instant::now();
        let epoch = self.progress.epoch;
        let rate = learning_rate(self.config.learning_rate, self.config.lr_update, epoch);
        self.objective.loss.set_epoch(epoch);
        self.passes(batch)?;
        let Buffers { pass, gradient, image_ids } = &mut self.buffers;
        let norm = global_norm(gradient);
        for (name, value) in [("loss", f64::from(pass.terms.loss)), ("norm of the gradient", norm)] {
            if !value.is_finite() {
                let tensor = format!("{name} in step {}", self.progress.step + 1);
                return Err(ErrorKind::NotFinite { tensor, index: vec![], value }.into());
            }
        }
        let coefficient = clip_coefficient(norm, self.config.grad_clip);
        self.adam.update(&mut self.model.parameters, gradient, rate, coefficient)?;
        self.model.update_statistics(pass);
        self.progress.step = self.adam.step;
        self.progress.batch += 1;
        let report = StepReport {
            step: self.progress.step,
            epoch: epoch + 1,
            batch: self.progress.batch,
            batches: 0,
            pairs: batch.len(),
            loss: f64::from(pass.terms.loss),
            grad_norm: norm,
            clipped_norm: norm * coefficient,
            active: pass.terms.active_share(),
            votes: pass.terms.votes(),
            gap: if pass.terms.weight() > 0.0 {
                f64::from(pass.terms.loss) / pass.terms.weight() - self.config.margin
            } else {
                0.0
            },
            score_spread: spread(&pass.scores),
            same_image_pairs: batch.same_image_pairs(image_ids),
            learning_rate: rate,
            seconds: start.elapsed().as_secs_f64(),
        };
        self.progress.totals.add(&report);
        Ok(report)
    }

    /// Forward and backward.
    pub(super) fn passes(&mut self, batch: &Batch<f32>) -> Result<()> {
        let mode = self.mode();
        let Buffers { pass, gradient, .. } = &mut self.buffers;
        // Dropout's row of a picture is the same, however the training was interrupted.
        if let Some(cnn) = &mut self.model.parameters.img_enc.cnn {
            cnn.set_seed(self.config.seed);
        }
        if let Some(sample) = &mut self.objective.sample {
            sample.step = self.progress.step;
        }
        pass.image.encoder.set_draw(self.progress.step * self.config.batch_size as u64);
        self.model.forward(batch, &self.objective, mode, pass)?;
        self.model.backward(batch, pass, Write::Replace, gradient, None)
    }

    /// The mode of the next step, by the statistics that the encoder's norms are to use.
    fn mode(&self) -> Mode {
        let (step, every) = (self.progress.step, self.config.val_step as u64);
        match self.config.statistics {
            Statistics::Frozen => Mode::Eval,
            Statistics::Train => Mode::Train,
            Statistics::Original => {
                // Whether there was a validation in this epoch, at a step that `every` divides.
                let begun = step - self.progress.batch as u64;
                let validated = every > 0 && step / every > begun / every;
                if validated { Mode::Eval } else { Mode::Train }
            }
        }
    }

    /// A step, with its events: the figures, and a collapse if there is one.
    fn step_and_report(
        &mut self,
        batch: &Batch<f32>,
        batches: usize,
        waited: f64,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let report = self.step(batch)?;
        let report = StepReport { batches, seconds: waited + report.seconds, ..report };
        observer.event(&Event::Step(&report))?;
        let Pass { terms, scores, chosen, .. } = &self.buffers.pass;
        let negatives = self.objective.negatives(batch, chosen);
        let point = || (at_collapse(&self.objective.loss, negatives, batch.len()), terms.weight());
        if let Some(collapse) = self.progress.collapse.see(self.config.margin, &report, point, scores) {
            observer.event(&Event::Collapsed(&collapse))?;
        }
        Ok(())
    }

    /// Evaluates on dev and saves.
    fn validate_within_epoch(
        &mut self,
        data: &TrainingData,
        run: Option<&Run>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let (dev, hardest_percentile) = self.validate(&data.dev)?;
        let (step, epoch) = (self.progress.step, self.progress.epoch + 1);
        observer.event(&Event::Validated { step, epoch, dev: &dev, hardest_percentile })?;
        self.save(run, false)
    }

    /// Evaluates on dev, reports the epoch and saves.
    fn end_epoch(&mut self, data: &TrainingData, run: Option<&Run>, observer: &mut dyn Observer) -> Result<()> {
        let (dev, hardest_percentile) = self.validate(&data.dev)?;
        let epoch = self.progress.epoch;
        let best = self.progress.best.as_ref().is_none_or(|best| dev.rsum > best.dev.rsum);
        let totals = std::mem::take(&mut self.progress.totals);
        let report = EpochReport {
            epoch: epoch + 1,
            step: self.progress.step,
            loss: self.objective.loss.name(),
            learning_rate: learning_rate(self.config.learning_rate, self.config.lr_update, epoch),
            loss_per_pair: totals.loss / totals.pairs as f64,
            grad_norm: totals.grad_norm / self.progress.batch as f64,
            clipped: totals.clipped as f64 / self.progress.batch as f64,
            active: totals.active / self.progress.batch as f64,
            same_image_pairs: totals.same_image_pairs,
            seconds: totals.seconds,
            pairs_per_second: totals.pairs as f64 / totals.seconds,
            waiting: totals.waiting / totals.seconds,
            dev,
            hardest_percentile,
            best,
        };
        self.progress.epoch += 1;
        self.progress.batch = 0;
        if best {
            self.progress.best = Some(Best { epoch: epoch + 1, dev });
        }
        observer.event(&Event::EpochEnded(&report))?;
        self.save(run, best)
    }

    /// R@K of the model as it is now.
    ///
    /// # Errors
    ///
    /// If an image cannot be read, or if the forward pass or the ranking fails.
    pub fn evaluate(&self, pairs: &Pairs) -> Result<Evaluation> {
        let (images, captions) = self.embed(pairs)?;
        evaluate(images.view(), captions.view(), pairs.split.starts(), self.config.measure)
    }

    /// [`Self::evaluate`], and how hard the hardest negative of a batch is.
    fn validate(&self, pairs: &Pairs) -> Result<(Evaluation, Option<f64>)> {
        let (images, captions) = self.embed(pairs)?;
        let (images, captions) = (images.view(), captions.view());
        let (starts, measure) = (pairs.split.starts(), self.config.measure);
        // As many negatives as a query has in training.
        let drawn = self.objective.sample.as_ref().map_or(usize::MAX, |sample| sample.size.saturating_add(1));
        let batch = self.config.batch_size.min(drawn);
        let mut rng = numbered_stream(self.config.seed, "validation", self.progress.step);
        let found = evaluate(images, captions, starts, measure)?;
        Ok((found, hardest_percentile(images, captions, starts, measure, batch, &mut rng)))
    }

    /// Images and captions in the joint space.
    fn embed(&self, Pairs { split, ids }: &Pairs) -> Result<(Array2<f32>, Array2<f32>)> {
        Ok((embed_images(&self.model, split)?, self.model.embed_captions(ids)?))
    }

    /// Writes a checkpoint. If `best`, the model is also saved as the best one.
    fn save(&self, run: Option<&Run>, best: bool) -> Result<()> {
        let Some(run) = run else { return Ok(()) };
        self.check_finite().map_err(|e| self.diverged(self.progress.step, &e))?;
        let checkpoint = Checkpoint::new(
            self.model.architecture,
            self.config.clone().into_inner(),
            self.data.clone().unwrap_or_default(),
            self.vocabulary.clone(),
            self.progress.clone(),
        );
        run.save(checkpoint, &self.model.parameters, &self.adam, best)
    }

    /// Checks all numbers before they are saved. Otherwise only the next step would notice that the last one
    /// diverged.
    fn check_finite(&self) -> Result<()> {
        /// Numbers per parallel task.
        const PIECE: usize = 1 << 14;
        let mut wrong = None;
        let mut look = |tensor: String, numbers: ArrayViewD<'_, f32>| {
            let finite = |piece: &[f32]| piece.iter().fold(true, |all, x| all & x.is_finite());
            if wrong.is_some() || numbers.as_slice().is_some_and(|numbers| numbers.par_chunks(PIECE).all(finite)) {
                return;
            }
            if let Some((index, &value)) = numbers.indexed_iter().find(|(_, x)| !x.is_finite()) {
                wrong = Some(ErrorKind::NotFinite { tensor, index: index.slice().to_vec(), value: f64::from(value) });
            }
        };
        self.model.parameters.each(|path, _, numbers| look(path.to_string(), numbers));
        for Moments { name, m, v } in &self.adam.moments {
            look(format!("adam.m.{name}"), m.view());
            look(format!("adam.v.{name}"), v.view());
        }
        wrong.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// The error of a training whose numbers are no longer finite.
    fn diverged(&self, step: u64, error: &Error) -> Error {
        Error::mismatch(format!(
            "step {step}, learning_rate = {:e}: {error}; the training has diverged (try a smaller learning rate), \
             or the image features are too large",
            self.config.learning_rate
        ))
    }

    /// Adds to an error of a step where in the data and in the training it occurred.
    fn locate(&self, error: Error, captions: &[usize], split: &Split) -> Error {
        match error.kind() {
            ErrorKind::ZeroNorm { tensor, row } => {
                let (caption, image) = (captions[*row], split.image_of[captions[*row]]);
                let place = format!("{}: image {image}, caption {caption} (from 0)", split.name);
                Error::mismatch(format!("{place}: the {tensor} is zero and cannot be L2-normalised"))
            }
            ErrorKind::NotFinite { .. } => self.diverged(self.progress.step + 1, &error),
            _ => error,
        }
    }
}
