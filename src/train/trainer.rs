//! The training loop.
//!
//! ```text
//! for every epoch:   lr by (LR-1); the pairs in a new order
//!   for every batch: forward, backward, clip (CLIP-2), Adam (ADAM-3)
//!   rsum on dev; the best so far is kept
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ndarray::{ArrayViewD, Dimension};
use rayon::prelude::*;

use super::checkpoint::{Checkpoint, Fingerprints};
use super::collapse::spread;
use super::embed::embed_images;
use super::events::{Event, Observer};
use super::figures::{EpochReport, StepReport};
use super::progress::{Best, Progress};
use super::run_folder::Run;
use crate::data::{Ahead, Plan, Split, Vocabulary, prepare_ahead};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Evaluation, evaluate};
use crate::files::digest;
use crate::linalg::Write;
use crate::loss::{Loss, WarmUp, at_collapse};
use crate::model::{Batch, Objective, Parameters, Pass, ValidConfig, Vse};
use crate::nn::{Mode, Module};
use crate::optim::{Adam, Moments, clip_coefficient, global_norm, gradient_of, learning_rate};

/// The splits that training reads, with their captions as ids.
#[derive(Clone, Debug)]
pub struct TrainingData {
    /// The split to train on.
    pub train: Split,
    /// The token ids of its captions.
    pub train_ids: Vec<Vec<u32>>,
    /// The split that the best epoch is chosen by.
    pub dev: Split,
    /// The token ids of its captions.
    pub dev_ids: Vec<Vec<u32>>,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// It was stopped on request.
    Interrupted,
}

/// A training under way, with the loss of the settings or with another ([`Trainer::with_loss`]).
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
}

/// The results of a step, kept so that the next step reuses their memory.
#[derive(Clone, Debug)]
struct Buffers {
    pass: Pass<f32>,
    gradient: Parameters<f32>,
    image_ids: Vec<usize>,
}

impl Buffers {
    fn new(model: &Vse<f32>) -> Self {
        Self { pass: Pass::default(), gradient: gradient_of(&model.parameters, &[]), image_ids: Vec::new() }
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
            adam: Adam::new(&model.parameters),
            buffers: Buffers::new(&model),
            objective: objective(&config),
            progress: Progress::default(),
            vocabulary: vocabulary.fingerprint(),
            data: None,
            config,
            model,
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
            buffers: Buffers::new(&model),
            objective: objective(&config),
            config,
            model,
            adam,
            progress: checkpoint.progress,
            vocabulary: checkpoint.vocabulary,
            data: Some(checkpoint.data),
        })
    }
}

/// What training with these settings minimises.
fn objective(config: &ValidConfig) -> Objective<WarmUp> {
    Objective { loss: config.loss(), mask_same_image: config.mask_same_image }
}

impl<L: Loss> Trainer<L> {
    /// The same training with this loss instead of that of the settings.
    #[must_use]
    pub fn with_loss<M: Loss>(self, loss: M) -> Trainer<M> {
        let Self { config, model, adam, progress, objective, vocabulary, data, buffers } = self;
        let objective = Objective { loss, mask_same_image: objective.mask_same_image };
        Trainer { config, model, adam, progress, objective, vocabulary, data, buffers }
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
        data.check(self.model.architecture.img_dim)?;
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
        let batches = data.train_ids.len().div_ceil(self.config.batch_size);
        self.progress.check_batches(batches).map_err(|problem| Error::mismatch(format!("checkpoint: {problem}")))?;
        if let Some(run) = run {
            run.start()?;
        }
        let plan = Plan {
            split: &data.train,
            captions: &data.train_ids,
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
        let pairs = data.train_ids.len();
        let batches = pairs.div_ceil(self.config.batch_size);
        let first_step = self.progress.step;
        observer.event(&Event::Started {
            config: &self.config,
            parameters: self.model.parameters.count(),
            pairs,
            batches,
            progress: &self.progress,
        })?;
        while self.progress.epoch < self.config.num_epochs {
            while self.progress.batch < batches {
                if stop.load(Ordering::Relaxed) {
                    observer.event(&Event::Interrupted { progress: &self.progress })?;
                    if self.progress.step > first_step {
                        self.save(run, false)?;
                    }
                    return Ok(Outcome::Interrupted);
                }
                let start = Instant::now();
                let Some(next) = ahead.next_batch()? else { unreachable!("the plan has a batch for every step") };
                let waited = start.elapsed().as_secs_f64();
                debug_assert_eq!((next.epoch, next.number), (self.progress.epoch, self.progress.batch));
                self.step_and_report(next.batch(), batches, waited, observer)
                    .map_err(|e| self.locate(e, &next.captions, &data.train))?;
                self.progress.totals.waiting += waited;
                // Includes everything between two steps, so that slow parts show.
                self.progress.totals.seconds += start.elapsed().as_secs_f64();
                self.validate_within_epoch(data, batches, run, observer)?;
            }
            self.end_epoch(data, run, observer)?;
        }
        observer.event(&Event::Finished { progress: &self.progress })?;
        Ok(Outcome::Finished)
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
        let Buffers { pass, gradient, image_ids } = &mut self.buffers;
        self.model.forward(batch, &self.objective, Mode::Train, pass)?;
        self.model.backward(batch, pass, Write::Replace, gradient, None)?;
        let norm = global_norm(gradient);
        for (name, value) in [("loss", f64::from(pass.terms.loss)), ("norm of the gradient", norm)] {
            if !value.is_finite() {
                let tensor = format!("{name} in step {}", self.progress.step + 1);
                return Err(ErrorKind::NotFinite { tensor, index: vec![], value }.into());
            }
        }
        let coefficient = clip_coefficient(norm, self.config.grad_clip);
        self.adam.update(&mut self.model.parameters, gradient, rate, coefficient)?;
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
            score_spread: spread(&pass.scores),
            same_image_pairs: batch.same_image_pairs_with(image_ids),
            learning_rate: rate,
            seconds: start.elapsed().as_secs_f64(),
        };
        self.progress.totals.add(&report);
        Ok(report)
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
        let Pass { terms, scores, .. } = &self.buffers.pass;
        let negatives = self.objective.negatives(&batch.image_ids);
        let stationary = || at_collapse(&self.objective.loss, negatives, batch.len());
        let margin = self.config.margin;
        if let Some(collapse) = self.progress.collapse.see(margin, &report, terms.possible, stationary, scores) {
            observer.event(&Event::Collapsed(&collapse))?;
        }
        Ok(())
    }

    /// Evaluates on dev and saves every `val_step` steps, unless the epoch ends here anyway.
    fn validate_within_epoch(
        &mut self,
        data: &TrainingData,
        batches: usize,
        run: Option<&Run>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let every = self.config.val_step as u64;
        if every == 0 || !self.progress.step.is_multiple_of(every) || self.progress.batch == batches {
            return Ok(());
        }
        let dev = self.evaluate(&data.dev, &data.dev_ids)?;
        let (step, epoch) = (self.progress.step, self.progress.epoch + 1);
        observer.event(&Event::Validated { step, epoch, dev: &dev })?;
        self.save(run, false)
    }

    /// Evaluates on dev, reports the epoch and saves.
    fn end_epoch(&mut self, data: &TrainingData, run: Option<&Run>, observer: &mut dyn Observer) -> Result<()> {
        let dev = self.evaluate(&data.dev, &data.dev_ids)?;
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
    pub fn evaluate(&self, split: &Split, ids: &[Vec<u32>]) -> Result<Evaluation> {
        let images = embed_images(&self.model, split)?;
        let captions = self.model.embed_captions(ids)?;
        evaluate(images.view(), captions.view(), split.starts(), self.config.measure)
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

impl TrainingData {
    /// Identifies the data: for both splits the numbers of captions and images, and a digest of all
    /// features, of all tokens, and of which caption belongs to which image.
    ///
    /// # Errors
    ///
    /// If an image cannot be read.
    pub fn fingerprints(&self) -> Result<Fingerprints> {
        let train = fingerprint(&self.train, &self.train_ids)?;
        Ok(Fingerprints { train, dev: fingerprint(&self.dev, &self.dev_ids)? })
    }

    /// Checks that every caption has ids and an image, and that the images have the size that the model takes.
    fn check(&self, img_dim: usize) -> Result<()> {
        for (split, ids) in [(&self.train, &self.train_ids), (&self.dev, &self.dev_ids)] {
            let (name, images) = (&split.name, split.images.len());
            let captions = split.image_of.len();
            if ids.len() != captions || captions == 0 {
                let problem =
                    format!("{name}: expected the ids of its {captions} captions, found those of {}", ids.len());
                return Err(Error::mismatch(problem));
            }
            if let Some((caption, image)) = split.image_of.iter().enumerate().find(|(_, image)| **image >= images) {
                let problem = format!("{name}: caption {caption}: expected an image below {images}, found {image}");
                return Err(Error::mismatch(problem));
            }
            let found = split.img_dim()?;
            if found != img_dim {
                let problem = format!("{name}: expected image features of dimension F = {img_dim}, found {found}");
                return Err(Error::mismatch(problem));
            }
        }
        Ok(())
    }
}

fn fingerprint(split: &Split, ids: &[Vec<u32>]) -> Result<String> {
    let mut captions = Vec::new();
    for (ids, image) in ids.iter().zip(&split.image_of) {
        captions.extend((*image as u64).to_le_bytes());
        captions.extend((ids.len() as u64).to_le_bytes());
        captions.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    let both = split.images.fingerprint()? + &digest(&captions);
    // 128 bits are enough to tell any two data sets apart.
    let digest = &digest(both.as_bytes())[..32];
    let shape: Vec<String> = split.images.shape().iter().map(ToString::to_string).collect();
    let (captions, images, features) = (ids.len(), split.images.len(), shape.join(" × "));
    Ok(format!("{captions} captions of {images} images with {features} features, {digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Source;
    use crate::data::batches::EpochOrder;
    use crate::data::scenes::ScenesConfig;
    use crate::model::Config;
    use crate::train::Ignore;
    use ndarray::Array2;

    fn config() -> Config {
        Config {
            embed_size: 16,
            word_dim: 8,
            num_epochs: 3,
            learning_rate: 5e-3,
            batch_size: 32,
            val_step: 3,
            word_threshold: 1,
            ..Config::default()
        }
    }

    fn data() -> (Vocabulary, TrainingData) {
        let world = ScenesConfig { train: 40, dev: 10, test: 0, ..ScenesConfig::default() };
        let [train, dev] = Source::Scenes(world).splits(["train", "dev"]).unwrap();
        let vocabulary = Vocabulary::build(&train.captions, 1);
        let train_ids = vocabulary.encode_all(&train.captions).captions;
        let dev_ids = vocabulary.encode_all(&dev.captions).captions;
        (vocabulary, TrainingData { train, train_ids, dev, dev_ids })
    }

    fn change_image(split: &mut Split, at: [usize; 2], change: impl Fn(f32) -> f32) {
        let mut features = split.images.to_array().unwrap();
        features[at] = change(features[at]);
        split.images = features.into();
    }

    /// Sets the stop signal after a number of steps.
    struct StopAfter<'a> {
        steps: u64,
        stop: &'a AtomicBool,
        epochs: Vec<EpochReport>,
    }

    impl Observer for StopAfter<'_> {
        fn event(&mut self, event: &Event<'_>) -> Result<()> {
            match event {
                Event::Step(step) if step.step >= self.steps => self.stop.store(true, Ordering::Relaxed),
                Event::EpochEnded(report) => {
                    let report = (*report).clone();
                    self.epochs.push(EpochReport { seconds: 0.0, pairs_per_second: 0.0, waiting: 0.0, ..report });
                }
                _ => {}
            }
            Ok(())
        }
    }

    fn train(config: &ValidConfig, threads: usize) -> Trainer {
        let (vocabulary, data) = data();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = Trainer::new(config.clone(), &vocabulary, data.train.img_dim().unwrap()).unwrap();
            trainer.run(&data, None, &mut Ignore, &AtomicBool::new(false)).unwrap();
            trainer
        })
    }

    #[test]
    fn training_learns_and_gives_the_same_bits_on_any_number_of_threads() {
        let config = config().check().unwrap();
        let (one, three) = (train(&config, 1), train(&config, 3));
        assert_eq!(one.model, three.model);
        assert_eq!(one.adam, three.adam);
        // Chance: R@1 + R@5 + R@10 of 10 images both ways is about 10 + 50 + 100 for captions, less for images.
        let best = one.progress.best.unwrap();
        let (_, data) = data();
        let untrained = Trainer::new(config, &data_vocabulary(), data.train.img_dim().unwrap())
            .unwrap()
            .evaluate(&data.dev, &data.dev_ids)
            .unwrap();
        assert!(best.dev.rsum > untrained.rsum + 20.0, "{} against {}", best.dev.rsum, untrained.rsum);
    }

    fn data_vocabulary() -> Vocabulary {
        data().0
    }

    #[test]
    fn a_run_that_was_stopped_anywhere_goes_on_with_the_same_bits() {
        let config = config().check().unwrap();
        let (vocabulary, data) = data();
        let img_dim = data.train.img_dim().unwrap();
        let never = AtomicBool::new(false);
        let mut straight = Trainer::new(config.clone(), &vocabulary, img_dim).unwrap();
        let mut seen = StopAfter { steps: u64::MAX, stop: &never, epochs: Vec::new() };
        straight.run(&data, None, &mut seen, &never).unwrap();
        for steps in [1, 5, 7, 8, 14] {
            let folder = tempfile::tempdir().unwrap();
            let run = Run::create(folder.path(), false).unwrap();
            run.begin(&config, &vocabulary).unwrap();
            let stop = AtomicBool::new(false);
            let mut observer = StopAfter { steps, stop: &stop, epochs: Vec::new() };
            let mut first = Trainer::new(config.clone(), &vocabulary, img_dim).unwrap();
            assert_eq!(first.run(&data, Some(&run), &mut observer, &stop).unwrap(), Outcome::Interrupted);
            stop.store(false, Ordering::Relaxed);
            observer.steps = u64::MAX;
            drop(run);
            let run = Run::reopen(folder.path()).unwrap();
            let mut second = Trainer::resume(config.clone(), &vocabulary, img_dim, &run).unwrap();
            assert_eq!(second.progress.step, steps);
            assert_eq!(second.run(&data, Some(&run), &mut observer, &stop).unwrap(), Outcome::Finished);
            assert_eq!((&second.model, &second.adam), (&straight.model, &straight.adam), "stopped after {steps}");
            assert_eq!(second.progress.best, straight.progress.best);
            assert_eq!(observer.epochs, seen.epochs, "the figures of the epochs too");
        }
    }

    /// The data as files: features in a `.npy` file, or in an npz.
    fn written(data: &TrainingData, folder: &std::path::Path, archive: bool) {
        for split in [&data.train, &data.dev] {
            let features = split.images.to_array().unwrap();
            let mut writer = crate::files::TensorWriter::default();
            writer.add("features", &features.view().into_dyn());
            let path = folder.join(format!("{}_ims", split.name));
            if archive {
                writer.write_npz(&path.with_extension("npz")).unwrap();
            } else {
                ndarray_npy::write_npy(path.with_extension("npy"), &features).unwrap();
            }
            std::fs::write(folder.join(format!("{}_caps.txt", split.name)), split.captions.join("\n")).unwrap();
        }
    }

    fn read(data: &TrainingData, folder: &std::path::Path) -> TrainingData {
        let [train, dev] = Source::Folder(folder.into()).splits(["train", "dev"]).unwrap();
        TrainingData { train, dev, ..data.clone() }
    }

    #[test]
    fn features_from_files_train_to_the_bits_of_features_in_memory() {
        let config = Config { num_epochs: 2, ..config() }.check().unwrap();
        let (vocabulary, data) = data();
        let train = |data: &TrainingData| {
            let mut trainer = Trainer::new(config.clone(), &vocabulary, data.train.img_dim().unwrap()).unwrap();
            trainer.run(data, None, &mut Ignore, &AtomicBool::new(false)).unwrap();
            (trainer.model, trainer.adam, trainer.progress.best, data.fingerprints().unwrap())
        };
        let expected = train(&data);
        for (archive, kind) in [(false, "RowFile"), (true, "Memory")] {
            let folder = tempfile::tempdir().unwrap();
            written(&data, folder.path(), archive);
            let from_files = read(&data, folder.path());
            assert!(format!("{:?}", from_files.train.images.store()).starts_with(kind));
            assert_eq!(train(&from_files), expected, "{kind}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_changes_while_a_training_runs_ends_it() {
        use std::os::unix::fs::FileExt;
        /// Changes a number of every row at the second step.
        struct Change<'a>(&'a std::path::Path);
        impl Observer for Change<'_> {
            fn event(&mut self, event: &Event<'_>) -> Result<()> {
                if matches!(event, Event::Step(step) if step.step == 2) {
                    let file = std::fs::OpenOptions::new().write(true).open(self.0).unwrap();
                    for row in 0..40 {
                        file.write_all_at(&9.0f32.to_le_bytes(), 128 + row * 944 * 4).unwrap();
                    }
                }
                Ok(())
            }
        }
        let (vocabulary, data) = data();
        let folder = tempfile::tempdir().unwrap();
        written(&data, folder.path(), false);
        let from_files = read(&data, folder.path());
        let mut trainer = Trainer::new(config().check().unwrap(), &vocabulary, 944).unwrap();
        let path = folder.path().join("train_ims.npy");
        let error =
            trainer.run(&from_files, None, &mut Change(&path), &AtomicBool::new(false)).unwrap_err().to_string();
        assert!(error.contains("train_ims.npy: row ") && error.contains("has changed since"), "{error}");
        assert!((2..=4).contains(&trainer.progress.step), "two batches were ready: {}", trainer.progress.step);
    }

    #[test]
    fn batches_prepared_ahead_give_the_bits_of_batches_made_in_line() {
        let config = config().check().unwrap();
        let (vocabulary, data) = data();
        let mut in_line = Trainer::new(config.clone(), &vocabulary, data.train.img_dim().unwrap()).unwrap();
        for epoch in 0..config.num_epochs {
            let order = EpochOrder::new(data.train_ids.len(), config.batch_size, config.seed, epoch);
            for batch in 0..order.batches() {
                in_line.step(&order.batch(batch, &data.train, &data.train_ids).unwrap()).unwrap();
            }
            (in_line.progress.epoch, in_line.progress.batch) = (epoch + 1, 0);
        }
        let ahead = train(&config, 2);
        assert_eq!((&ahead.model, &ahead.adam), (&in_line.model, &in_line.adam));
    }

    #[test]
    fn an_epoch_counts_the_time_that_it_waits_and_keeps_it_in_a_checkpoint() {
        struct Times(f64, Vec<EpochReport>);
        impl Observer for Times {
            fn event(&mut self, event: &Event<'_>) -> Result<()> {
                match event {
                    Event::Step(step) => self.0 += step.seconds,
                    Event::EpochEnded(report) => self.1.push((*report).clone()),
                    _ => {}
                }
                Ok(())
            }
        }
        let (vocabulary, data) = data();
        let config = Config { num_epochs: 2, ..config() }.check().unwrap();
        let mut trainer = Trainer::new(config, &vocabulary, data.train.img_dim().unwrap()).unwrap();
        // As if resumed in the middle of the epoch, after hours: the time of a step is negligible.
        (trainer.progress.totals.seconds, trainer.progress.totals.waiting) = (40_000.0, 10_000.0);
        let mut times = Times(0.0, Vec::new());
        trainer.run(&data, None, &mut times, &AtomicBool::new(false)).unwrap();
        let [first, second] = times.1.as_slice() else { panic!("expected two epochs") };
        let seconds = first.seconds + second.seconds;
        assert!(seconds >= 40_000.0 + times.0, "{} of steps in {seconds}", times.0);
        approx::assert_relative_eq!(first.pairs_per_second, 200.0 / first.seconds, max_relative = 1e-12);
        approx::assert_relative_eq!(first.waiting, 0.25, max_relative = 0.01);
        assert!(0.0 < second.waiting && second.waiting < 1.0, "some time is always waited: {}", second.waiting);
    }

    #[test]
    fn data_that_do_not_belong_together_are_refused() {
        type Spoil = fn(&mut TrainingData);
        let cases: [(Spoil, &str); 5] = [
            (|d| d.train_ids.push(vec![1, 2]), "train: expected the ids of its 200 captions, found those of 201"),
            (|d| d.dev_ids.clear(), "dev: expected the ids of its 50 captions, found those of 0"),
            (|d| d.train.image_of[7] = 40, "train: caption 7: expected an image below 40, found 40"),
            (|d| d.dev.image_of[49] = usize::MAX, "dev: caption 49: expected an image below 10"),
            (
                |d| d.dev.images = Array2::zeros((10, 3)).into(),
                "dev: expected image features of dimension F = 944, found 3",
            ),
        ];
        for (spoil, expected) in cases {
            let (vocabulary, mut data) = data();
            let img_dim = data.train.img_dim().unwrap();
            spoil(&mut data);
            let mut trainer = Trainer::new(config().check().unwrap(), &vocabulary, img_dim).unwrap();
            let error = trainer.run(&data, None, &mut Ignore, &AtomicBool::new(false)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_not_finite_is_not_saved() {
        let (vocabulary, data) = data();
        let folder = tempfile::tempdir().unwrap();
        // The first step is taken with a finite gradient, and its result is infinite.
        let config = Config { learning_rate: 1e300, ..config() }.check().unwrap();
        let run = Run::create(&folder.path().join("run"), false).unwrap();
        run.begin(&config, &vocabulary).unwrap();
        let stop = AtomicBool::new(false);
        let mut observer = StopAfter { steps: 1, stop: &stop, epochs: Vec::new() };
        let mut trainer = Trainer::new(config, &vocabulary, data.train.img_dim().unwrap()).unwrap();
        let error = trainer.run(&data, Some(&run), &mut observer, &stop).unwrap_err().to_string();
        assert!(error.contains("step 1, learning_rate = 1e300") && error.contains("diverged"), "{error}");
        assert!(!run.saved() && !run.folder().last().exists());
        drop(run);
        assert!(!folder.path().join("run").exists());
    }

    #[test]
    fn an_observer_that_fails_at_the_last_batch_of_an_epoch_ends_the_training_with_its_error() {
        struct FullDisk;
        impl Observer for FullDisk {
            fn event(&mut self, event: &Event<'_>) -> Result<()> {
                match event {
                    Event::Step(step) if step.batch == step.batches => Err(Error::mismatch("the disk is full")),
                    _ => Ok(()),
                }
            }
        }
        let (vocabulary, data) = data();
        let config = config().check().unwrap();
        let mut trainer = Trainer::new(config, &vocabulary, data.train.img_dim().unwrap()).unwrap();
        let error = trainer.run(&data, None, &mut FullDisk, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
    }

    #[test]
    fn a_collapsed_training_is_reported_once() {
        struct Reported(Vec<u64>);
        impl Observer for Reported {
            fn event(&mut self, event: &Event<'_>) -> Result<()> {
                if let Event::Collapsed(collapse) = event {
                    approx::assert_relative_eq!(collapse.loss, 2.0 * 4.0 * 0.2, max_relative = 1e-4);
                    self.0.push(collapse.step);
                }
                Ok(())
            }
        }
        let (vocabulary, data) = data();
        let config = Config { num_epochs: 9, batch_size: 4, learning_rate: 1e-9, ..config() }.check().unwrap();
        let mut trainer = Trainer::new(config, &vocabulary, data.train.img_dim().unwrap()).unwrap();
        // Every embedding the same: no weights, only biases.
        let parameters = &mut trainer.model.parameters;
        parameters.each_mut(|_, _, mut x| x.fill(0.0));
        parameters.img_enc.fc.bias.fill(0.5);
        parameters.txt_enc.rnn.layers[0].bias_ih.fill(0.3);
        let mut reported = Reported(Vec::new());
        trainer.run(&data, None, &mut reported, &AtomicBool::new(false)).unwrap();
        assert_eq!(reported.0, [400]);
    }

    #[test]
    fn a_smaller_last_batch_weighs_no_more_than_its_pairs() {
        // 200 pairs in batches of 128 and 72.
        struct Losses(f64, f64);
        impl Observer for Losses {
            fn event(&mut self, event: &Event<'_>) -> Result<()> {
                match event {
                    Event::Step(step) => self.0 += step.loss,
                    Event::EpochEnded(epoch) => self.1 = epoch.loss_per_pair,
                    _ => {}
                }
                Ok(())
            }
        }
        let (vocabulary, data) = data();
        let config = Config { num_epochs: 1, batch_size: 128, ..config() }.check().unwrap();
        let mut trainer = Trainer::new(config, &vocabulary, data.train.img_dim().unwrap()).unwrap();
        let mut losses = Losses(0.0, 0.0);
        trainer.run(&data, None, &mut losses, &AtomicBool::new(false)).unwrap();
        assert_eq!(trainer.progress.step, 2);
        approx::assert_relative_eq!(losses.1, losses.0 / 200.0, max_relative = 1e-14);
    }

    #[test]
    fn fingerprints_are_pinned_and_see_every_number() {
        type Change = fn(&mut TrainingData, u8);
        let (_, mut data) = data();
        // Checkpoints hold them: if they change, no run can be resumed.
        let before = data.fingerprints().unwrap();
        assert_eq!(before.train, "200 captions of 40 images with 944 features, 57a9a2eff0194f5878b8dc9681a446cd");
        assert_eq!(before.dev, "50 captions of 10 images with 944 features, 987efb839b9ba1d03666efe25642b381");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| data.fingerprints().unwrap()), before);
        let changes: [(Change, bool); 6] = [
            (|d, by| change_image(&mut d.train, [0, 302], |_| f32::from(by)), true),
            (|d, by| change_image(&mut d.train, [39, 943], |_| f32::from(by)), true),
            (|d, by| d.train_ids[199][1] = u32::from(by), true),
            (|d, by| d.train.image_of[5] = usize::from(by), true),
            (|d, by| change_image(&mut d.dev, [9, 0], |_| f32::from(by)), false),
            (|d, by| d.dev_ids[49][1] = u32::from(by), false),
        ];
        for (number, (change, in_train)) in changes.into_iter().enumerate() {
            change(&mut data, 5);
            let before = data.fingerprints().unwrap();
            change(&mut data, 6);
            let after = data.fingerprints().unwrap();
            assert_eq!(
                (before.train != after.train, before.dev != after.dev),
                (in_train, !in_train),
                "change {number}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_on_resuming() {
        let (vocabulary, data) = data();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let config = Config { num_epochs: 1, ..config() }.check().unwrap();
        assert!(Run::reopen(&path).unwrap_err().to_string().contains("expected the folder of a run, found none"));
        let run = Run::create(&path, false).unwrap();
        run.begin(&config, &vocabulary).unwrap();
        let img_dim = data.train.img_dim().unwrap();
        let mut trainer = Trainer::new(config.clone(), &vocabulary, img_dim).unwrap();
        trainer.run(&data, Some(&run), &mut Ignore, &AtomicBool::new(false)).unwrap();
        drop(run);
        let run = Run::reopen(&path).unwrap();
        let message = |vocabulary: &Vocabulary, config: &ValidConfig| {
            Trainer::resume(config.clone(), vocabulary, img_dim, &run).unwrap_err().to_string()
        };
        let other = Vocabulary::build(&["a dog".to_owned()], 1);
        assert!(message(&other, &config).contains("does not fit the checkpoint"));
        let wider = Config { embed_size: 17, ..config.clone().into_inner() }.check().unwrap();
        assert!(message(&vocabulary, &wider).contains("embed_size = 17: expected 16"));
        for (split, spoil) in [
            ("train", (|d| change_image(&mut d.train, [3, 5], |x| x + 1.0)) as fn(&mut TrainingData)),
            ("dev", |d| change_image(&mut d.dev, [3, 5], |x| x + 1.0)),
        ] {
            let mut trainer = Trainer::resume(config.clone(), &vocabulary, img_dim, &run).unwrap();
            let mut other = data.clone();
            spoil(&mut other);
            let error = trainer.run(&other, Some(&run), &mut Ignore, &AtomicBool::new(false)).unwrap_err().to_string();
            let expected = format!("{split}: expected the data that the run was begun with (");
            assert!(error.starts_with(&expected), "{error}");
        }
        // A checkpoint with another number of steps, and otherwise correct.
        let (mut checkpoint, parameters, adam) = Checkpoint::read(&run.folder().last()).unwrap();
        checkpoint.progress.step += 1;
        checkpoint.write(&run.folder().last(), &parameters, adam.as_ref()).unwrap();
        let mut trainer = Trainer::resume(config, &vocabulary, img_dim, &run).unwrap();
        let error = trainer.run(&data, Some(&run), &mut Ignore, &AtomicBool::new(false)).unwrap_err().to_string();
        assert_eq!(error, "checkpoint: step: expected 7, after 1 epoch(s) of 7 batches and 0 batch(es), found 8");
    }
}
