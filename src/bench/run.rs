//! The whole measurement and its report.

use std::time::Duration;

use serde::Serialize;

use super::captions::{Captions, batch};
use super::effort::Effort;
use super::encoder::{EncoderReport, Pictures};
use super::machine::{cores, load, peak_rss_mib, processor};
use super::measure::{Embeddings, Operands, Peak, Timing};
use super::size::{Model, Size};
use super::spread::Spread;
use super::subject::{Laps, Subject, Training};
use super::work::{Counts, Pass, Product, operations, products};
use crate::error::{Error, Result};
use crate::model::Architecture;
use crate::nn::PrefixTree;
use crate::train::Team;

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Models, in the order of the report.
    pub models: Vec<Model>,
    /// Numbers of threads, each measured separately.
    pub threads: Vec<usize>,
    /// Where the captions come from.
    pub captions: Captions,
    /// Timed steps, after two for warming up.
    pub steps: usize,
    /// The pause before each timed step.
    pub pause: Duration,
    /// Captions to encode; 0: leave it out. `None`: 5,000, or as many as the file has.
    pub encode: Option<usize>,
    /// Images to evaluate, with five captions each; 0: leave it out.
    pub evaluate: usize,
}

/// Steps for warming up.
const WARM_UP: usize = 2;

/// The results of a measurement. As JSON they are what `vsepp bench --json` prints.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// The version of this crate.
    pub(crate) version: &'static str,
    /// The processor's name, if the system provides it.
    pub(crate) processor: Option<String>,
    /// The vector unit in use.
    pub(crate) vectors: &'static str,
    /// The number of threads that the machine can run at once.
    pub(crate) cores: usize,
    /// Mean number of running tasks before the first measurement, if the system provides it.
    pub(crate) load: Option<f64>,
    /// Where the captions come from.
    pub(crate) captions: String,
    /// The machine's peak for each number of threads.
    pub(crate) peaks: Vec<Peak>,
    /// The results for each size without an encoder.
    pub(crate) sizes: Vec<SizeReport>,
    /// The results for each encoder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) encoders: Vec<EncoderReport>,
    /// The peak resident memory of this process, in MiB, if the system provides it.
    pub(crate) peak_rss_mib: Option<f64>,
}

/// One size.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SizeReport {
    /// The name of the size.
    pub size: Size,
    /// Its dimensions.
    pub architecture: Architecture,
    /// Sentences in a caption.
    pub sentences: usize,
    /// The number of trained parameters.
    pub parameters: u128,
    /// The counts of the batch.
    pub counts: Counts,
    /// Useful operations of a step.
    pub operations: f64,
    /// The times for each number of threads.
    pub measured: Vec<Measured>,
}

/// One size on one number of threads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// How many threads.
    pub threads: usize,
    /// The trainer's step.
    pub step: Timing,
    /// From the batch to the loss, measured in separate steps, as is `backward`.
    pub forward: Timing,
    /// From the loss to the gradient.
    pub backward: Timing,
    /// Seconds of the global norm, clipping and Adam.
    pub update: Spread,
    /// Seconds of a step in `f64`, which serves as the specification and is not optimised.
    pub step_f64: Spread,
    /// Encoding captions.
    pub encoding: Option<Encoded>,
    /// Ranking in both directions.
    pub evaluation: Option<Evaluated>,
    /// Every product of the step.
    pub products: Vec<ProductTime>,
}

/// The result for encoding captions.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Encoded {
    /// The number of captions.
    pub captions: usize,
    /// Seconds for all of them.
    pub seconds: Spread,
    /// The rate by the median.
    pub captions_per_second: f64,
}

/// The result for an evaluation.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Evaluated {
    /// N.
    pub images: usize,
    /// 5N.
    pub captions: usize,
    /// Ranks and recall in both directions.
    #[serde(flatten)]
    pub timing: Timing,
}

/// A product of the step.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProductTime {
    /// The product.
    #[serde(flatten)]
    pub product: Product,
    /// The time of all its calls in one step.
    #[serde(flatten)]
    pub timing: Timing,
}

impl Options {
    /// The default measurement of some models, on one thread.
    #[cfg(test)]
    pub(crate) fn of(models: Vec<Model>, captions: Captions) -> Self {
        let pause = Duration::ZERO;
        Self { models, threads: vec![1], captions, steps: 1, pause, encode: None, evaluate: 1000 }
    }

    /// Fails if a number is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let range = |key, found: usize, least: usize, most: usize| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(Error::config(key, format!("{least} to {most}"), found))
        };
        range("steps", self.steps, 1, 100_000)?;
        range("encode", self.encode.unwrap_or(0), 0, 1_000_000)?;
        range("evaluate", self.evaluate, 0, 50_000)?;
        range("pause", usize::try_from(self.pause.as_millis()).unwrap_or(usize::MAX), 0, 60_000)?;
        self.threads.iter().try_for_each(|&threads| range("threads", threads, 1, 1024))
    }

    /// The number of captions to encode.
    pub(super) fn number_to_encode(&self, model: &Model) -> Result<usize> {
        const DEFAULT: usize = 5000;
        match self.encode {
            Some(number) => Ok(number),
            None => Ok(self.captions.available()?.map_or(DEFAULT, |lines| DEFAULT.min(lines / model.sentences))),
        }
    }
}

/// Measures everything, and passes `progress` the name of each measurement before it starts.
///
/// # Errors
///
/// Fails if a number is out of range, if the file of captions cannot be read or has too few, or if threads
/// cannot be started.
pub(crate) fn run(options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    options.check()?;
    let load = load();
    let (encoders, models): (Vec<&Model>, Vec<&Model>) =
        options.models.iter().partition(|model| model.architecture.encoder.is_some());
    let inputs: Vec<Input> = models.into_iter().map(|model| Input::new(model, options)).collect::<Result<_>>()?;
    let encoders: Vec<Pictures> =
        encoders.into_iter().map(|model| Pictures::new(model, &options.captions)).collect::<Result<_>>()?;
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        processor: processor(),
        vectors: crate::simd::unit(),
        cores: cores(),
        load,
        captions: options.captions.to_string(),
        peaks: Vec::new(),
        sizes: inputs.iter().map(Input::report).collect(),
        encoders: encoders.iter().map(Pictures::report).collect(),
        peak_rss_mib: None,
    };
    for &threads in &options.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::mismatch(format!("cannot start {threads} thread(s): {e}")))?;
        let on = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
        pool.install(|| {
            progress(&format!("{on}: peak"));
            let peak = Peak::measure(Effort::times(1, options.steps.min(5)));
            report.peaks.push(peak);
            for (input, report) in inputs.iter().zip(&mut report.sizes) {
                let announce = |what: &str| progress(&format!("{on}, {}: {what}", input.model.size));
                report.measured.push(input.measure(options, &peak, &announce)?);
            }
            for (input, report) in encoders.iter().zip(&mut report.encoders) {
                let announce = |what: &str| progress(&format!("{on}, {}: {what}", report.encoder));
                let effort = Effort { seconds: 10.0, ..Effort::times(1, options.steps) }.after(options.pause);
                report.measured.push(input.measure(effort, &peak, &announce)?);
            }
            Ok::<(), Error>(())
        })?;
    }
    report.peak_rss_mib = peak_rss_mib();
    Ok(report)
}

/// The data for one model.
struct Input {
    model: Model,
    captions: Vec<Vec<u32>>,
    to_encode: Vec<Vec<u32>>,
    counts: Counts,
    products: Vec<Product>,
}

impl Input {
    fn new(model: &Model, options: &Options) -> Result<Self> {
        let captions = model.captions(&options.captions, model.config.batch_size)?;
        let to_encode = model.captions(&options.captions, options.number_to_encode(model)?)?;
        let tree = PrefixTree::new(&captions);
        let (counts, products) = (Counts::of(&tree), products(&model.architecture, &tree));
        Ok(Self { model: model.clone(), captions, to_encode, counts, products })
    }

    fn report(&self) -> SizeReport {
        let Model { size, architecture, sentences, .. } = self.model;
        SizeReport {
            size,
            architecture,
            sentences,
            parameters: architecture.parameters(),
            counts: self.counts,
            operations: operations(&self.products, None),
            measured: Vec::new(),
        }
    }

    /// Measures everything on the threads of the current pool.
    fn measure(&self, options: &Options, peak: &Peak, announce: &dyn Fn(&str)) -> Result<Measured> {
        let architecture = &self.model.architecture;
        let of_pass = |pass| operations(&self.products, pass);

        announce("steps");
        let images = batch::<f32>(architecture, self.captions.clone());
        let steps = Effort::times(WARM_UP, options.steps);
        let mut training = Training::new(&self.model)?;
        let mut team = Team::new(rayon::current_num_threads())?;
        let step = if options.pause.is_zero() {
            team.run(|| steps.try_time(|| training.step(&images)))
        } else {
            steps.after(options.pause).try_time(|| team.run(|| training.step(&images)))
        }?;
        drop(training);

        announce("parts of a step");
        let mut subject = Subject::<f32>::new(&self.model);
        let laps = team.run(|| steps.collect(|| subject.step(&images)))?;
        let part = |part: fn(&Laps) -> f64| Spread::of(laps.iter().map(part));
        drop(images);

        announce("captions");
        let encoding = self.encode(&subject, options)?;
        drop(subject);
        announce("evaluation");
        let evaluation = self.evaluate(options, peak)?;
        announce("products");
        let products = self.multiply(options, peak);

        announce("a step in f64");
        let images = batch::<f64>(architecture, self.captions.clone());
        let mut subject = Subject::<f64>::new(&self.model);
        let step_f64 = Self::long(options).try_time(|| subject.step(&images))?;

        Ok(Measured {
            threads: rayon::current_num_threads(),
            step: Timing::new(step, of_pass(None), peak),
            forward: Timing::new(part(|laps| laps.forward), of_pass(Some(Pass::Forward)), peak),
            backward: Timing::new(part(|laps| laps.backward), of_pass(Some(Pass::Backward)), peak),
            update: part(|laps| laps.update),
            step_f64,
            encoding,
            evaluation,
            products,
        })
    }

    /// The effort for work that takes seconds, so long that a warm-up does not matter.
    fn long(options: &Options) -> Effort {
        Effort { seconds: 2.0, ..Effort::times(0, options.steps.min(3)) }
    }

    fn encode(&self, subject: &Subject<f32>, options: &Options) -> Result<Option<Encoded>> {
        let captions = self.to_encode.len();
        if captions == 0 {
            return Ok(None);
        }
        let seconds = Self::long(options).try_time(|| subject.encode(&self.to_encode))?;
        Ok(Some(Encoded { captions, seconds, captions_per_second: captions as f64 / seconds.median }))
    }

    fn evaluate(&self, options: &Options, peak: &Peak) -> Result<Option<Evaluated>> {
        let images = options.evaluate;
        if images == 0 {
            return Ok(None);
        }
        let embeddings = Embeddings::new(images, self.model.architecture.embed_size)?;
        let seconds = Self::long(options).try_time(|| embeddings.evaluate())?;
        let timing = Timing::new(seconds, embeddings.operations(), peak);
        Ok(Some(Evaluated { images, captions: embeddings.captions.nrows(), timing }))
    }

    fn multiply(&self, options: &Options, peak: &Peak) -> Vec<ProductTime> {
        let effort = Effort { seconds: 0.5, ..Effort::times(1, options.steps) };
        let time = |product: &Product| {
            let mut operands = Operands::new(product);
            let seconds = effort.time(|| operands.run());
            ProductTime { product: product.clone(), timing: Timing::new(seconds, product.operations(), peak) }
        };
        self.products.iter().map(time).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let models = vec![Size::Demo.model()];
        Options { threads: vec![2], encode: Some(7), evaluate: 3, ..Options::of(models, Captions::MadeUp) }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let message = |spoil: fn(&mut Options)| {
            let mut options = options();
            spoil(&mut options);
            options.check().unwrap_err().to_string()
        };
        assert_eq!(message(|o| o.steps = 0), "steps = 0: expected 1 to 100000");
        assert_eq!(message(|o| o.threads = vec![1, 0]), "threads = 0: expected 1 to 1024");
        assert!(message(|o| o.encode = Some(usize::MAX)).starts_with("encode = "));
        assert!(message(|o| o.evaluate = usize::MAX).starts_with("evaluate = "));
        assert_eq!(message(|o| o.pause = Duration::from_secs(61)), "pause = 61000: expected 0 to 60000");
        assert!(options().check().is_ok());
    }

    #[test]
    fn all_captions_of_a_small_file_are_encoded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("caps.txt");
        std::fs::write(&path, "a dog\n".repeat(130)).unwrap();
        let options = Options { captions: Captions::File(path), encode: None, ..options() };
        assert_eq!(options.number_to_encode(&Size::Demo.model()).unwrap(), 130);
        assert_eq!(Input::new(&Size::Demo.model(), &options).unwrap().to_encode.len(), 130);
        let message = run(&Options { encode: Some(131), ..options }, &|_| ()).unwrap_err().to_string();
        assert!(message.contains("expected at least 131 captions, one per line, found 130"), "{message}");
    }

    #[test]
    fn a_timing_uses_the_median_and_the_best_peak() {
        let peak = Peak { threads: 1, linalg: 50.0, matrixmultiply: 40.0, fused: 60.0 };
        let timing = Timing::new(Spread::of([1.0, 2.0, 4.0]), 20e9, &peak);
        assert_eq!((timing.gflops, timing.share), (10.0, 0.2));
    }
}
