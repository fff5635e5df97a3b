//! `vsepp train`

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::ErrorKind;
use crate::data::{Pairs, Source, Split, Vocabulary, tokenize_all};
use crate::escape;
use crate::eval::Chance;
use crate::files::read_text;
use crate::model::{Config, Statistics, ValidConfig, View};
use crate::report::{Console, JsonLines, evaluation_table, say, thousands};
use crate::train::embed::encode_split;
use crate::train::{
    Embedded, Event, Observer, Outcome, Run, RunFolder, Trained, Trainer, TrainingData, Which, read_encoder, source_of,
};
use anyhow::{Context, Result, anyhow};
use serde_json::json;

use super::eval::{json_of, note_chance};
use super::load::{check_run, embed};
use super::quote::shell_quote;
use super::settings::Settings;
use super::signals::{SAVING, stop_signal};
use super::tested::Tested;
use super::{Output, busy, note, pictures_bar};

/// Trains a model. Without --data, on the built-in scenes: small pictures that the program draws.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  vsepp train\n  vsepp train --sum-violation\n  vsepp train --data DIR --run runs/coco --embed-size 256 --word-dim 128 \
                        --learning-rate 1e-3\n  vsepp train --run runs/coco --resume\n\nThe settings' defaults are the original's with --data, and those of the scenes without; --print-config shows \
                        all values in use, docs/training.md explains them.\n\n`tensorboard --logdir runs` shows the figures of the runs while they train.\n\nCtrl-C finishes the step, saves, and says how to continue."
)]
pub(crate) struct Args {
    /// Folder for settings, vocabulary, metrics and checkpoints [default: runs/scenes-1, runs/NAME-1, … the next free]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Continue the run, with the same bits as if it had not stopped
    #[arg(long, requires = "run", conflicts_with = "force")]
    resume: bool,
    /// Replace an existing run once the new one has its first checkpoint
    #[arg(long)]
    force: bool,
    /// Settings in TOML, as in a run's config.toml; flags override them
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Train on the pixels of the scenes, with a small image encoder
    #[arg(long, conflicts_with_all = ["data", "images", "init"])]
    pixels: bool,
    /// Print the settings as TOML and stop
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Args {
    /// A training with these settings, in a folder that [`Self::at`] says.
    pub(crate) fn new(pixels: bool, config: Option<PathBuf>, settings: Settings) -> Self {
        Self { run: None, resume: false, force: false, config, pixels, print_config: false, settings }
    }

    /// The training in a folder, from the beginning or from its last checkpoint on.
    pub(crate) fn at(&self, run: PathBuf, resume: bool) -> Self {
        let new = if resume { Self::new(false, None, Settings::default()) } else { self.clone() };
        Self { run: Some(run), resume, ..new }
    }

    #[cfg(test)]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings of a new run.
    pub(crate) fn new_config(&self) -> Result<Config> {
        let mut config = self.settings.resolve(self.pixels, self.config.as_deref())?;
        make_paths_absolute(&mut config, None)?;
        Ok(config)
    }
}

/// On as many threads as the user says, or as are fastest.
pub(crate) fn run(args: Args, threads: Option<usize>) -> Result<Output> {
    let begun = Instant::now();
    let config = settings(&args)?;
    if args.print_config {
        return Ok(Output::done(toml::to_string(&config)?, serde_json::to_value(&config)?));
    }
    let stop = stop_signal(SAVING)?;
    let run = take_folder(&args, &config)?;
    let quoted = shell_quote(run.folder().path());
    if run.replaces() {
        note(&format!("the run in {quoted} is kept until the new one has its first checkpoint"));
    }
    // Read the settings again under the lock, because another training may have changed them.
    let config = if args.resume { settings(&args)? } else { config };
    let json = |step: u64| json!({ "run": json_path(&run), "interrupted": true, "step": step });

    let source = source_of(&config);
    let (mut train, dev, test) = read_splits(&source)?;
    train.exchange_captions(config.label_noise, config.seed);
    check_sizes(&config, &train, [Some(&dev), test.as_ref()])?;
    without_effect(&config);
    if config.hold_out.is_some() && !matches!(source, Source::HeldOut(..)) {
        note("--hold-out has no effect: the data have a dev split");
    }
    let tokens = tokenize_all(&train.captions);
    if stop.load(Ordering::Relaxed) {
        let text = "stopped before the first step; nothing was written\n".into();
        return Ok(Output { text, json: json(0), exit: 130 });
    }
    let img_dim = image_size(&config, &train)?;
    let (vocabulary, mut trainer) = prepare(&args, &config, &run, img_dim, &tokens)?;
    let (train, dev) = encode_once(&config, &trainer, train, dev)?;
    let advice = Advice::of(&vocabulary, test.as_ref().unwrap_or(&dev));
    let dev_chance = Chance::of(dev.starts(), 1);
    let data = encode(&vocabulary, train, &tokens, dev)?;
    // A step with an encoder is long enough for all threads, and too long to be tried.
    trainer.choose_threads = threads.is_none() && config.encoder.is_none();
    let metrics = JsonLines::new(&run, config.log_step);
    let mut observers = Observers { console: Console::since(begun), metrics };
    let outcome = trainer.run(&data, Some(&run), &mut observers, &stop);
    if let Err(error) = &outcome
        && run.saved()
    {
        // Resuming would repeat the same steps, and with them any error but this one.
        let again = matches!(error.kind(), ErrorKind::Io { .. });
        let how = if again { format!("; to continue: vsepp train --run {quoted} --resume") } else { String::new() };
        note(&format!("the run is in the state of its last checkpoint{how}"));
    }
    if outcome? == Outcome::Interrupted {
        let text = if run.saved() {
            let step = thousands(usize::try_from(trainer.progress.step)?);
            format!(
                "stopped after step {step}; everything is saved. To continue:\n  vsepp train --run {quoted} --resume\n"
            )
        } else {
            "stopped before the first step; nothing was written\n".into()
        };
        return Ok(Output { text, json: json(trainer.progress.step), exit: 130 });
    }
    result(&run, test, dev_chance, &advice)
}

fn json_path(run: &Run) -> String {
    escape::json_path(run.folder().path())
}

/// The settings of a new run, or those of the run that is resumed.
fn settings(args: &Args) -> Result<ValidConfig> {
    let config = if args.resume { resumed_config(args)? } else { args.new_config()? };
    let (given, file) = (config.clone(), args.config.as_deref());
    config.check().map_err(|error| match (error.kind(), file) {
        (ErrorKind::Config { key, .. }, Some(file)) => {
            place(&given, key, file).map_or_else(|| anyhow!("{error}"), |place| anyhow!("{place}: {error}"))
        }
        _ => error.into(),
    })
}

/// The file and the line that a setting comes from, unless it comes from a flag.
fn place(config: &Config, key: &str, file: &Path) -> Option<String> {
    let text = read_text(file, Config::LONGEST).ok()?;
    let value = |config: &Config| serde_json::to_value(config).ok()?.get(key).cloned();
    let in_file = value(&toml::from_str(&text).ok()?);
    let is_key = |line: &str| line.split_once('=').is_some_and(|(before, _)| before.trim().trim_matches('"') == key);
    let line = text.lines().position(is_key)?;
    (in_file == value(config)).then(|| format!("{}:{}", escape::path(file), line + 1))
}

/// Locks the folder before the data are read, so that no other training takes it.
fn take_folder(args: &Args, config: &ValidConfig) -> Result<Run> {
    Ok(match &args.run {
        Some(path) if args.resume => Run::reopen(path)?,
        Some(path) => Run::create(path, args.force)?,
        None => Run::create_next(Path::new("runs"), &default_name(config.data.as_deref()))?,
    })
}

/// F: the encoder's, or that of the data.
fn image_size(config: &ValidConfig, train: &Split) -> Result<usize> {
    Ok(config.encoder.map_or_else(|| train.img_dim(), |network| Ok(network.features()))?)
}

/// Replaces pictures by their features, which are computed once, where they do not change: with an encoder that does
/// not move, those of dev, and those of train if training sees their centre.
fn encode_once(config: &ValidConfig, trainer: &Trainer, train: Split, dev: Split) -> Result<(Split, Split)> {
    if config.encoder.is_none() || config.finetune || config.statistics != Statistics::Frozen {
        return Ok((train, dev));
    }
    let encode = |split: Split| {
        let bar = pictures_bar(split.images().len());
        let encoded = encode_split(&trainer.model, split, |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        encoded
    };
    let dev = encode(dev)?;
    Ok((if config.view == View::Centre { encode(train)? } else { train }, dev))
}

fn check_sizes(config: &ValidConfig, train: &Split, others: [Option<&Split>; 2]) -> Result<()> {
    let img_dim = image_size(config, train)?;
    let what = if config.encoder.is_some() { "image encoder has" } else { "image features of the data have" };
    anyhow::ensure!(
        config.img_dim.is_none_or(|expected| expected == img_dim),
        "img_dim = {}: the {what} F = {img_dim}",
        config.img_dim.unwrap_or_default()
    );
    if config.encoder.is_some() {
        return Ok(());
    }
    for split in others.into_iter().flatten() {
        anyhow::ensure!(
            split.img_dim()? == img_dim,
            "{}: expected image features of dimension F = {img_dim}, as in train, found {}",
            split.name,
            split.img_dim()?
        );
    }
    Ok(())
}

/// Makes paths absolute, because a run must find its data from any folder. A run that goes on has its own vocabulary
/// and weights, so the files that it was begun with may be gone.
fn make_paths_absolute(config: &mut Config, begun_with: Option<&Config>) -> Result<()> {
    let absolute = |path: &mut Option<PathBuf>| -> Result<()> {
        if let Some(path) = path {
            *path = std::fs::canonicalize(&*path).with_context(|| format!("{}: cannot read", escape::path(path)))?;
        }
        Ok(())
    };
    absolute(&mut config.data)?;
    absolute(&mut config.images)?;
    let before = begun_with.map(|before| [&before.vocab_path, &before.weights, &before.init]);
    for (k, path) in [&mut config.vocab_path, &mut config.weights, &mut config.init].into_iter().enumerate() {
        if before.is_none_or(|before| before[k] != path) {
            absolute(path)?;
        }
    }
    Ok(())
}

/// The run's own settings. Only settings that do not affect the steps already done may change.
fn resumed_config(args: &Args) -> Result<Config> {
    let path = args.run.as_deref().unwrap_or(Path::new(""));
    check_run(path)?;
    let run = RunFolder::at(path);
    let before = run.read_config()?;
    let mut config = before.clone();
    args.settings.apply(&mut config)?;
    make_paths_absolute(&mut config, Some(&before))?;
    config.check_resumes(&before)?;
    Ok(config)
}

fn default_name(data: Option<&Path>) -> String {
    let name = |data: &Path| {
        let name = if data.is_file() { data.file_stem() } else { data.file_name() };
        name.map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned())
    };
    data.map_or_else(|| "scenes".into(), name)
}

fn read_splits(source: &Source) -> Result<(Split, Split, Option<Split>)> {
    let bar = busy(match source {
        Source::Scenes(_) | Source::Pixels { .. } => "drawing the scenes".into(),
        Source::Folder(folder) | Source::HeldOut(folder, _) | Source::Pictures { captions: folder, .. } => {
            format!("reading {}", escape::path(folder))
        }
    });
    let (train, dev, test) = if source.has("test") {
        let [train, dev, test] = source.splits(["train", "dev", "test"])?;
        (train, dev, Some(test))
    } else {
        let [train, dev] = source.splits(["train", "dev"])?;
        (train, dev, None)
    };
    bar.finish_and_clear();
    for split in [Some(&train), Some(&dev), test.as_ref()].into_iter().flatten() {
        split.notes.iter().for_each(|text| note(text));
    }
    Ok((train, dev, test))
}

/// Notes on settings that are valid but have no effect together.
fn without_effect(config: &ValidConfig) {
    let of_pixels = config.encoder.is_some() && config.data.is_none();
    let usual = if of_pixels { Config::pixels() } else { Config::default() };
    if config.warmup_epochs != usual.warmup_epochs && config.warmup_epochs > 0 && !config.max_violation {
        note("--warmup-epochs has no effect: the loss is SH in every epoch");
    }
    let others = config.batch_size - 1;
    if config.negatives > 0 && config.negatives >= others {
        note(&format!("--negatives has no effect: a query has {others} negatives"));
    }
    if config.hardest > 1 && config.hardest >= others {
        note(&format!("--hardest {}: a query has {others} negatives, so the loss is SH", config.hardest));
    }
    if config.batch_size == 1 {
        note("a batch of one pair has no negatives: the loss and its gradient are 0");
    }
    if config.encoder.is_none() {
        let set = [
            ("--statistics", config.statistics != usual.statistics),
            ("--view", config.view != usual.view),
            ("--crop-size", config.crop_size != usual.crop_size),
            ("--resize", config.resize != usual.resize),
            ("--upright", config.upright),
        ];
        for (flag, _) in set.iter().filter(|(_, set)| *set) {
            note(&format!("{flag} has no effect: there is no image encoder"));
        }
    }
    if config.vocab_path.is_some() && config.word_threshold != Config::default().word_threshold {
        note("--word-threshold has no effect if a vocabulary is given");
    }
}

/// The vocabulary and the trainer, new or as the run left them.
fn prepare(
    args: &Args,
    config: &ValidConfig,
    run: &Run,
    img_dim: usize,
    tokens: &[Vec<String>],
) -> Result<(Vocabulary, Trainer)> {
    if args.resume {
        let vocabulary = run.folder().read_vocabulary()?;
        let trainer = Trainer::resume(config.clone(), &vocabulary, img_dim, run)?;
        if !run.folder().metrics().exists() {
            note("metrics.jsonl is missing: a new one begins with the next step");
        }
        return Ok((vocabulary, trainer));
    }
    let first = config.init.as_deref().map(Trained::open).transpose()?;
    let vocabulary = match (&config.vocab_path, &first) {
        (Some(path), _) => Vocabulary::read(path)?,
        (None, Some(first)) => first.vocabulary.clone(),
        (None, None) => Vocabulary::of_tokens(tokens, config.word_threshold),
    };
    anyhow::ensure!(
        vocabulary.len() > Vocabulary::SPECIAL.len(),
        "word_threshold = {}: no word of the training captions occurs that often",
        config.word_threshold
    );
    let mut trainer = Trainer::new(config.clone(), &vocabulary, img_dim)?;
    if let Some(first) = &first {
        first.checkpoint.check_vocabulary(&vocabulary, &run.folder().vocabulary())?;
        trainer.begin_with(&first.model)?;
    }
    let is_usual = config.data.is_none() && config.finetune;
    match (config.encoder, &config.weights) {
        (Some(network), Some(path)) => trainer.set_encoder(read_encoder(network, path)?)?,
        (Some(_), None)
            if !is_usual && first.as_ref().is_none_or(|first| first.model.architecture().encoder.is_none()) =>
        {
            note("the image encoder begins with random numbers: --weights FILE reads trained ones");
        }
        _ => {}
    }
    run.begin(config, &vocabulary)?;
    Ok((vocabulary, trainer))
}

fn encode(vocabulary: &Vocabulary, train: Split, tokens: &[Vec<String>], dev: Split) -> Result<TrainingData> {
    let (train_ids, dev_ids) = (vocabulary.encode_tokens(tokens), vocabulary.encode_all(&dev.captions));
    let unknown = |e: &crate::data::Encoded| 100.0 * e.unknown as f64 / e.words.max(1) as f64;
    say(&format!(
        "train: {} captions of {} images; dev: {} of {}; V = {}, unknown words {:.1} % and {:.1} %",
        thousands(train.captions.len()),
        thousands(train.images().len()),
        thousands(dev.captions.len()),
        thousands(dev.images().len()),
        thousands(vocabulary.len()),
        unknown(&train_ids),
        unknown(&dev_ids),
    ));
    Ok(TrainingData { train: Pairs::new(train, train_ids.captions)?, dev: Pairs::new(dev, dev_ids.captions)? })
}

struct Observers<'a> {
    console: Console,
    metrics: JsonLines<'a>,
}

impl Observer for Observers<'_> {
    fn event(&mut self, event: &Event<'_>) -> crate::Result<()> {
        self.metrics.event(event)?;
        self.console.event(event)
    }
}

/// Evaluates the best model on the test split: R@K, and some retrieved images, shown by their captions.
fn result(run: &Run, test: Option<Split>, dev_chance: Chance, advice: &Advice) -> Result<Output> {
    let path = shell_quote(run.folder().path());
    let (model, checkpoint, vocabulary) = run.folder().load(Which::Best)?;
    let best = checkpoint.progress.best.clone();
    let (epoch, rsum) = best.as_ref().map_or((0, 0.0), |best| (best.epoch, best.dev.rsum));
    let mut recalls = Vec::new();
    if best.is_some() {
        recalls.push(("dev", rsum, dev_chance));
    }
    let mut tested = Tested { dev: best.as_ref().map(|best| best.dev), ..Tested::default() };
    let mut text = format!("best epoch {epoch}: dev rsum {rsum:.1}; the run is in {path}\n");
    let mut json = json!({ "run": json_path(run), "best": best, "test": null });
    if let Some(test) = test {
        let e = embed(&Trained { model, vocabulary, checkpoint }, test)?;
        let (evaluation, chance) = (e.evaluate(1)?, e.chance(1));
        recalls.push(("test", evaluation.rsum, chance));
        let _ = writeln!(text, "\n{}\n{}", evaluation_table("test", &evaluation), examples(&e)?);
        json["test"] = json_of(&evaluation, chance)?;
        tested.test.push((1, evaluation));
    }
    tested.write(run.folder().path())?;
    note_chance(&recalls);
    text += &advice.lines(run.folder().path());
    Ok(Output::done(text, json))
}

/// What to try next, with a split that exists and a sentence with known words.
struct Advice {
    split: String,
    sentence: Option<String>,
}

impl Advice {
    fn of(vocabulary: &Vocabulary, split: &Split) -> Self {
        let usable = |caption: &&String| {
            let (ids, unknown) = vocabulary.encode(caption);
            caption.len() < 80
                && !caption.starts_with('-')
                && !caption.chars().any(escape::is_obeyed)
                && unknown.len() + 2 < ids.len()
        };
        let sentence = split.captions.iter().take(1000).find(usable).cloned();
        Self { split: split.name.clone(), sentence }
    }

    fn lines(&self, run: &Path) -> String {
        let run = shell_quote(run);
        let split = if self.split == "test" { String::new() } else { format!(" --split {}", shell_quote(&self.split)) };
        let search = self
            .sentence
            .as_ref()
            .map(|sentence| format!("  vsepp search --run {run}{split} {}\n", shell_quote(sentence)));
        format!("Try:\n  vsepp eval --run {run}{split}\n{}", search.unwrap_or_default())
    }
}

/// A few queries, spread over the split, with the images that are found for them.
fn examples(e: &Embedded) -> Result<String> {
    const QUERIES: usize = 4;
    const SHOWN: usize = 3;
    let mut text = String::from("Retrieved (* the right image; an image is shown by its last caption):\n");
    for k in 0..QUERIES.min(e.split.images().len()) {
        let right = k * e.split.images().len() / QUERIES.min(e.split.images().len());
        let caption = e.split.captions_of(right).start;
        let _ = writeln!(text, "\n  \"{}\"", e.split.captions[caption]);
        let found = e.search_images(e.captions.row(caption), SHOWN)?;
        for (rank, (image, score)) in (1..).zip(found) {
            let mark = if image == right { '*' } else { ' ' };
            let words = &e.split.captions[e.split.captions_of(image).end - 1];
            let _ = writeln!(text, "   {rank}. {mark} {score:.3}  {words}");
        }
    }
    Ok(text)
}
