//! Settings: unchecked [`Config`] → [`Config::check`] → [`ValidConfig`].
//!
//! [The table](Config::settings) is the only place that defines a setting. A new setting needs a row in it, the
//! line that uses it, a check if it depends on other settings, and a row in `docs/training.md`
//! (`tests/claims.rs` prints what that must be). Keys are the original's options in snake case; the
//! command line has them in kebab case.

use std::ffi::OsStr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::encoder::Network;
use super::setting::{Group, Row, Setting, Value, settings};
use super::view::{Statistics, View};
use super::vse::Objective;
use crate::error::{Error, Result};
use crate::loss::{HingeLoss, Loss, Sample, Violation, WarmUp};
use crate::optim;
use crate::similarity::Measure;

/// The largest size that a dimension may have: far above any use, far below overflow.
const LARGEST: usize = 1 << 20;

settings! {
    /// Folder with {train,dev,test}_ims.npy and {train,dev,test}_caps.txt.
    data: Option<PathBuf> = None, Data {
        value_name: "DIR", original: "`--data_path`, `--data_name`", unset: "the built-in scenes", may_change: true,
    }
    /// Folder of pictures for an image encoder; the data are then their captions: Karpathy's JSON or COCO's annotations.
    images: Option<PathBuf> = None, Data {
        value_name: "DIR", original: "`--data_path`", unset: "the data have feature vectors", may_change: true,
    }
    /// Train on restval too: the validation pictures that Karpathy's split adds to COCO's training set.
    restval: bool = false, Data { original: "`--use_restval`" }
    /// Begin with the best model of this run, with its settings and its vocabulary.
    init: Option<PathBuf> = None, Data {
        value_name: "RUN", original: "`--resume`", unset: "random numbers", may_change: true,
    }
    /// Name only two shapes and a colour in a picture of the scenes: another task, to train an encoder on first.
    labels: bool = false, Data {}
    /// Share of the training captions that are exchanged among themselves, for studies of wrong labels.
    label_noise: f64 = 0.0, Data { range: ("a number from 0 to 1", |x| (0.0..=1.0).contains(&x)) }
    /// Use the last N images of train as dev, if the folder has no dev split.
    hold_out: Option<usize> = None, Data { range: 1..=usize::MAX }
    /// A vocabulary to use.
    vocab_path: Option<PathBuf> = None, Words {
        value_name: "FILE", original: "`--vocab_path`", unset: "built from the training captions",
    }
    /// How often a word must occur to enter the vocabulary.
    word_threshold: usize = 4, Words { original: "(4 in `vocab.py`)", range: 1..=usize::MAX }

    /// D, the dimension of the joint space.
    embed_size: usize = 1024, Sizes { original: "`--embed_size`", range: 1..=LARGEST, scenes: Some(64) }
    /// E, the dimension of the word vectors.
    word_dim: usize = 300, Sizes { original: "`--word_dim`", range: 1..=LARGEST, scenes: Some(32) }
    /// Layers of the GRU.
    num_layers: usize = 1, Sizes { original: "`--num_layers`", range: 1..=64 }
    /// F, the dimension of the image features, to be checked.
    img_dim: Option<usize> = None, Features {
        original: "`--img_dim`", range: 1..=LARGEST, unset: "what the data has",
    }
    /// φ, the image encoder: one of the names in docs/encoders.md.
    encoder: Option<Network> = None, Features {
        original: "`--cnn_type`", unset: "none", pixels: Some("resnet8".parse().ok()),
    }
    /// The encoder's weights before training, of torchvision or another program.
    weights: Option<PathBuf> = None, Features {
        value_name: "FILE", original: "(downloaded)", unset: "random numbers", may_change: true,
    }
    /// Train the encoder, too.
    finetune: bool = false, Features { original: "`--finetune`", pixels: Some(true) }
    /// The statistics that the encoder's norms use in training.
    statistics: Statistics = Statistics::Frozen, Features {
        original: "(original); `--reset_train` (train)", pixels: Some(Statistics::Train),
    }
    /// What training sees of a picture.
    view: View = View::Random, Features { original: "(random)", pixels: Some(View::Centre) }
    /// The side of what the encoder sees, in pixels.
    crop_size: usize = 224, Features { original: "`--crop_size`", range: 1..=4096, pixels: Some(48) }
    /// The short side of a picture before its centre is cut out, in pixels.
    resize: usize = 256, Features { original: "(256)", range: 1..=4096, pixels: Some(54) }
    /// Turn pictures as their EXIF orientation says.
    upright: bool = false, Features {}
    /// A learned projection on the caption side (the paper's `W_g`).
    caption_projection: bool = false, Sizes {}
    /// H, the GRU's hidden size, where there is a caption projection.
    hidden_size: Option<usize> = None, Sizes { range: 1..=LARGEST, unset: "D" }
    /// How images and captions are compared.
    measure: Measure = Measure::Cosine, Comparison {
        value_name: "MEASURE", original: "`--measure`",
        presets: [Measure::Cosine, Measure::Cosine, Measure::Order, Measure::Order].map(Some),
    }
    /// Absolute values of both embeddings.
    use_abs: bool = false, Comparison { original: "`--use_abs`", presets: [false, false, true, false].map(Some) }
    /// Do not L2-normalise the image embeddings.
    no_imgnorm: bool = false, Comparison {
        original: "`--no_imgnorm`", presets: [true, false, false, false].map(Some),
    }

    /// α, the margin of the hinges.
    margin: f64 = 0.2, Loss {
        original: "`--margin`",
        range: ("a number ≥ 0 and at most 1e6", |x| (0.0..=1e6).contains(&x)),
        presets: [0.2, 0.2, 0.05, 0.2].map(Some),
    }
    /// MH: only the hardest negative of each query counts (VSE++).
    max_violation: bool = true, Loss {
        original: "`--max_violation` (off)",
        off: Some(("sum-violation", "SH: all negatives count (VSE0)")),
        presets: [false, true, false, true].map(Some),
    }
    /// k: the k hardest negatives of each query count; 1 is MH, B − 1 is SH.
    hardest: usize = 1, Loss { range: 1..=LARGEST, presets: [1; 4].map(Some) }
    /// τ: all negatives count, the harder the more, as τ ln Σ exp(cost / τ); 0: only the hardest.
    temperature: f64 = 0.0, Loss {
        range: ("0, or a number from 1e-6 to 1e6", |x| x == 0.0 || (1e-6..=1e6).contains(&x)),
        presets: [0.0; 4].map(Some),
    }
    /// Only the hardest negative that scores below the right pair counts.
    semi_hard: bool = false, Loss { presets: [false; 4].map(Some) }
    /// Epochs that train with SH first, before another loss.
    warmup_epochs: usize = 0, Loss { pixels: Some(3) }
    /// Do not count captions of the same image as negatives of each other.
    mask_same_image: bool = false, Loss {}
    /// Do not count captions of equal words as negatives of each other.
    mask_equal_text: bool = false, Loss {}
    /// M: only M negatives of each query count, drawn anew in each step; 0: all of the batch.
    negatives: usize = 0, Loss { range: 0..=LARGEST }

    /// Epochs to train.
    num_epochs: usize = 30, Training {
        original: "`--num_epochs`", range: 1..=usize::MAX, scenes: Some(12), pixels: Some(10), may_change: true,
    }
    /// B, pairs in a batch.
    batch_size: usize = 128, Training { original: "`--batch_size`", range: 1..=LARGEST, pixels: Some(32) }
    /// Adam's step size.
    learning_rate: f64 = 2e-4, Training {
        original: "`--learning_rate`",
        range: ("a number > 0", |x| x > 0.0),
        scenes: Some(6e-3),
        pixels: Some(3e-3),
        presets: [None, None, Some(1e-3), None],
    }
    /// Multiply the step size by 0.1 every N epochs.
    lr_update: usize = 15, Training {
        original: "`--lr_update`", range: 1..=usize::MAX, scenes: Some(9), pixels: Some(8),
    }
    /// Largest global norm of the gradient; 0: no clipping.
    grad_clip: f64 = 2.0, Training {
        original: "`--grad_clip`", range: ("a number ≥ 0 (0: no clipping)", |x| x >= 0.0),
    }
    /// Also validate every N steps; 0: only at the end of an epoch.
    val_step: usize = 500, Training { original: "`--val_step`", may_change: true }
    /// Write a line to metrics.jsonl every N steps.
    log_step: usize = 10, Training { original: "`--log_step`", range: 1..=usize::MAX, may_change: true }
    /// Seed of initialisation and shuffling.
    seed: u64 = 0, Seed {}
}

/// The four models of the original's README.
///
/// VSE0 and VSE++ differ in two things, the loss and the image normalisation. The paper's clean
/// ablation changes the loss alone: `vse++` with `--sum-violation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// SH, image side not normalised.
    Vse0,
    /// MH.
    VsePlusPlus,
    /// Order similarity, abs, SH, margin 0.05, learning rate 1e-3.
    Order0,
    /// Order similarity and MH, and nothing else: no abs, margin 0.2, the usual learning rate.
    OrderPlusPlus,
}

impl Preset {
    /// All of them, each with its name and what it sets.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Vse0, "vse0", "SH, image side not normalised"),
        (Self::VsePlusPlus, "vse++", "MH"),
        (Self::Order0, "order0", "Order similarity, absolute values, SH, margin 0.05, learning rate 1e-3"),
        (Self::OrderPlusPlus, "order++", "Order similarity, MH"),
    ];
}

impl Config {
    /// The most bytes that a file of settings may have: fifty times what all settings take.
    pub(crate) const LONGEST: u64 = 1 << 16;

    /// Checks that a run begun with `before` can go on with these settings: all must be equal, except
    /// those that have no effect on the steps already taken ([`Setting::may_change`]).
    ///
    /// # Errors
    ///
    /// Names the first setting that differs.
    #[cfg(feature = "files")]
    pub(crate) fn check_resumes(&self, before: &Self) -> Result<()> {
        use serde_json::{Map, Value};
        // Compared as JSON, because a seed may be above 2⁶³, where TOML's integers end.
        let table = |config: &Self| -> Result<Map<String, Value>> {
            let table = serde_json::to_value(config).map_err(|e| Error::mismatch(format!("settings: {e}")))?;
            let mut table = if let Value::Object(table) = table { table } else { Map::new() };
            for setting in Self::settings().iter().filter(|setting| setting.may_change) {
                table.remove(setting.key);
            }
            Ok(table)
        };
        let (old, new) = (table(before)?, table(self)?);
        let differing = old.keys().chain(new.keys()).find(|key| old.get(*key) != new.get(*key));
        let show = |table: &Map<String, Value>, key: &str| table.get(key).map_or("not set".into(), Value::to_string);
        match differing {
            None => Ok(()),
            Some(key) => {
                let expected = format!("{}, with which the run was begun", show(&old, key));
                Err(Error::config(key, expected, show(&new, key)))
            }
        }
    }

    /// Checks every setting's range, and the settings that depend on one another.
    ///
    /// # Errors
    ///
    /// Gives the setting's name, what it may be and what it is.
    pub fn check(self) -> Result<ValidConfig> {
        self.check_ranges()?;
        if !self.caption_projection && self.hidden_size.is_some_and(|h| h != self.embed_size) {
            let expected = format!("embed_size = {}, or caption_projection = true", self.embed_size);
            return Err(Error::config("hidden_size", expected, self.hidden_size.unwrap_or_default()));
        }
        if self.encoder.is_none() && self.images.is_some() {
            return Err(Error::config("encoder", "a value, since images has one", "none"));
        }
        if self.encoder.is_some() && self.images.is_none() && self.data.is_some() {
            return Err(Error::config("images", "a value, since encoder and data have one", "none"));
        }
        if self.labels && (self.encoder.is_none() || self.data.is_some()) {
            return Err(Error::config(
                "labels",
                "an encoder and no data: only pictures of the scenes have labels",
                true,
            ));
        }
        if self.images.is_some() && self.data.is_none() {
            return Err(Error::config(
                "data",
                "Karpathy's JSON or the folder of COCO's annotations, with images",
                "none",
            ));
        }
        let alone = [("weights", self.weights.is_some()), ("finetune", self.finetune)];
        if let Some((key, _)) = alone.iter().find(|(_, set)| *set && self.encoder.is_none()) {
            return Err(Error::config(key, "an encoder (encoder = …) and pictures (images = …)", "without them"));
        }
        if self.restval && self.images.is_none() {
            return Err(Error::config("restval", "pictures (images = …)", "without them"));
        }
        self.check_loss()?;
        Ok(ValidConfig(self))
    }
}

impl Config {
    /// At most one way to choose among the hardest negatives, and none with SH, which counts all.
    fn check_loss(&self) -> Result<()> {
        let ways = [
            ("hardest", self.hardest != 1, "1", self.hardest.to_string()),
            ("temperature", self.temperature != 0.0, "0", self.temperature.to_string()),
            ("semi_hard", self.semi_hard, "false", self.semi_hard.to_string()),
        ];
        let mut set = ways.into_iter().filter(|(_, is_set, ..)| *is_set);
        match (set.next(), set.next()) {
            (Some((key, _, usual, found)), _) if !self.max_violation => {
                let expected = format!("{usual} with max_violation = false, where all negatives count");
                Err(Error::config(key, expected, found))
            }
            (Some((first, ..)), Some((key, _, usual, found))) => {
                Err(Error::config(key, format!("{usual}, since {first} is set"), found))
            }
            _ => Ok(()),
        }
    }
}

/// Settings that have been checked.
///
/// ```
/// use vsepp::model::Config;
///
/// # fn main() -> vsepp::Result<()> {
/// let config = Config { embed_size: 64, num_layers: 2, ..Config::default() }.check()?;
/// assert_eq!(config.architecture(1000, 2048).hidden_size, 64, "H = D without a caption projection");
///
/// let error = Config { margin: -1.0, ..Config::default() }.check().unwrap_err();
/// assert_eq!(error.to_string(), "margin = -1: expected a number ≥ 0 and at most 1e6");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ValidConfig(Config);

impl Deref for ValidConfig {
    type Target = Config;
    fn deref(&self) -> &Config {
        &self.0
    }
}

impl ValidConfig {
    /// The settings, to change and check again.
    #[must_use]
    pub(crate) fn into_inner(self) -> Config {
        self.0
    }

    /// The model for V words and F image features; an encoder has its own F.
    #[must_use]
    pub fn architecture(&self, vocab_size: usize, img_dim: usize) -> Architecture {
        Architecture {
            vocab_size,
            encoder: self.encoder,
            img_dim: self.encoder.map_or(img_dim, |network| network.features()),
            word_dim: self.word_dim,
            hidden_size: self.hidden_size.unwrap_or(self.embed_size),
            embed_size: self.embed_size,
            num_layers: self.num_layers,
            caption_projection: self.caption_projection,
            measure: self.measure,
            use_abs: self.use_abs,
            no_imgnorm: self.no_imgnorm,
        }
    }

    /// The loss, with its warm-up.
    #[must_use]
    pub(crate) fn loss(&self) -> WarmUp {
        let violation = Violation::of(self.max_violation, self.hardest, self.temperature, self.semi_hard);
        WarmUp::new(HingeLoss { margin: self.margin, violation }, self.warmup_epochs)
    }

    /// What training with this loss minimises, in the first step.
    #[must_use]
    pub(crate) fn objective_of<L>(&self, loss: L) -> Objective<L> {
        let Config { mask_same_image, mask_equal_text, negatives: size, seed, .. } = **self;
        let sample = (size > 0).then_some(Sample { size, seed, step: 0 });
        Objective { loss, mask_same_image, mask_equal_text, sample }
    }

    /// The tensors that do not move.
    #[must_use]
    pub(crate) fn groups(&self) -> Vec<optim::Group> {
        if self.encoder.is_some() && !self.finetune { vec![optim::Group::frozen("img_enc.cnn")] } else { Vec::new() }
    }

    /// What an epoch (from 0) minimises.
    #[must_use]
    pub fn objective(&self, epoch: usize) -> Objective {
        let mut loss = self.loss();
        loss.set_epoch(epoch);
        self.objective_of(loss.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;
    use crate::pages::{page, rows};

    #[test]
    fn presets_are_the_originals() {
        // The flags that the original's README gives for each model. Its defaults are ours, except for the
        // loss, which is SH there.
        let commands = [
            (Preset::Vse0, "--no_imgnorm"),
            (Preset::VsePlusPlus, "--max_violation"),
            (Preset::Order0, "--measure order --use_abs --margin .05 --learning_rate .001"),
            (Preset::OrderPlusPlus, "--measure order --max_violation"),
        ];
        for (preset, command) in commands {
            let mut expected = Config { max_violation: false, ..Config::default() };
            let mut words = command.split(' ');
            while let Some(flag) = words.next() {
                let mut value = || words.next().expect("a value");
                match flag {
                    "--max_violation" => expected.max_violation = true,
                    "--no_imgnorm" => expected.no_imgnorm = true,
                    "--use_abs" => expected.use_abs = true,
                    "--measure" => expected.measure = toml::Value::from(value()).try_into().unwrap(),
                    "--margin" => expected.margin = value().parse().unwrap(),
                    "--learning_rate" => expected.learning_rate = value().parse().unwrap(),
                    _ => panic!("{flag}: not a flag of these commands"),
                }
            }
            // What another preset set before is set back.
            for before in [None, Some(Preset::Vse0), Some(Preset::OrderPlusPlus)] {
                let mut found = Config::default();
                if let Some(before) = before {
                    found.apply(before);
                }
                found.apply(preset);
                assert_eq!(found, expected, "{preset:?} after {before:?}: {command}");
            }
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        type Spoil = fn(&mut Config);
        let wrong: [(&str, Spoil); 9] = [
            ("margin", |c| c.margin = -0.1),
            ("margin", |c| c.margin = f64::NAN),
            ("learning_rate", |c| c.learning_rate = 0.0),
            ("grad_clip", |c| c.grad_clip = f64::INFINITY),
            ("embed_size", |c| c.embed_size = 0),
            ("num_layers", |c| c.num_layers = 65),
            ("batch_size", |c| c.batch_size = 0),
            ("lr_update", |c| c.lr_update = 0),
            ("hidden_size", |c| c.hidden_size = Some(7)),
        ];
        for (key, spoil) in wrong {
            let mut config = Config::default();
            spoil(&mut config);
            let message = config.check().unwrap_err().to_string();
            assert!(message.starts_with(key) && message.contains("expected"), "{message}");
        }
    }

    #[test]
    fn there_is_one_way_to_count_the_hardest_negatives() {
        let of = |config: Config| config.check().map(|config| config.objective(9).loss.violation);
        let base = Config::default();
        assert_eq!(of(base.clone()).unwrap(), Violation::Max);
        assert_eq!(of(Config { hardest: 3, ..base.clone() }).unwrap(), Violation::Hardest(3));
        assert_eq!(of(Config { temperature: 0.5, ..base.clone() }).unwrap(), Violation::LogSumExp(0.5));
        assert_eq!(of(Config { semi_hard: true, ..base.clone() }).unwrap(), Violation::SemiHard);
        let message = |config: Config| config.check().unwrap_err().to_string();
        let found = message(Config { hardest: 3, max_violation: false, ..base.clone() });
        assert_eq!(found, "hardest = 3: expected 1 with max_violation = false, where all negatives count");
        let found = message(Config { temperature: 0.5, semi_hard: true, ..base.clone() });
        assert_eq!(found, "semi_hard = true: expected false, since temperature is set");
        let found = message(Config { temperature: 2e6, ..base.clone() });
        assert_eq!(found, "temperature = 2000000: expected 0, or a number from 1e-6 to 1e6");
        // What a preset says is the whole loss.
        let mut config = Config { hardest: 3, semi_hard: true, ..base };
        config.apply(Preset::VsePlusPlus);
        assert_eq!(of(config).unwrap(), Violation::Max);
    }

    #[cfg(feature = "files")]
    #[test]
    fn a_run_goes_on_with_its_own_settings() {
        let before = Config::default();
        assert!(Config { num_epochs: 99, val_step: 1, ..before.clone() }.check_resumes(&before).is_ok());
        let message = Config { img_dim: Some(5), ..before.clone() }.check_resumes(&before).unwrap_err().to_string();
        assert_eq!(message, "img_dim = 5: expected not set, with which the run was begun");
        assert!(Config { seed: 1, ..before.clone() }.check_resumes(&before).is_err());
        let largest = Config { seed: u64::MAX, ..before.clone() };
        assert!(largest.check_resumes(&largest).is_ok());
        assert!(Config { seed: u64::MAX - 1, ..before }.check_resumes(&largest).is_err());
    }

    #[test]
    fn a_setting_is_set_by_its_name() {
        let mut config = Config::default();
        for (key, text) in [("margin", "0.3"), ("img_dim", "7"), ("use_abs", "true"), ("measure", "order-squared")] {
            config.set(key, text).unwrap();
        }
        let set = Config {
            margin: 0.3,
            img_dim: Some(7),
            use_abs: true,
            measure: Measure::OrderSquared,
            ..Config::default()
        };
        assert_eq!(config, set);
        for (key, text, message) in [
            ("margn", "1", "margn = 1: expected the name of a setting"),
            ("seed", "-1", "seed = -1: expected a whole number"),
            ("measure", "dot", "measure = dot: expected cosine or order or order-squared"),
        ] {
            assert_eq!(config.set(key, text).unwrap_err().to_string(), message);
        }
        let keys: Vec<&str> = Config::settings().iter().map(|setting| setting.key).collect();
        let table = serde_json::to_value(Config { data: Some("x".into()), ..Config::default() }).unwrap();
        assert!(table.as_object().unwrap().keys().all(|key| keys.contains(&key.as_str())), "{keys:?}");
    }

    #[test]
    fn warm_up_is_sh_then_mh() {
        let config = Config { warmup_epochs: 2, ..Config::default() }.check().unwrap();
        let violations = [0, 1, 2, 3].map(|epoch| config.objective(epoch).loss.violation);
        assert_eq!(violations, [Violation::Sum, Violation::Sum, Violation::Max, Violation::Max]);
    }

    #[test]
    fn toml_round_trip_and_unknown_keys() {
        let config = Config { data: Some("x".into()), seed: u64::MAX, num_epochs: usize::MAX, ..Config::default() };
        assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert!(toml::from_str::<Config>("margn = 0.1").unwrap_err().to_string().contains("margn"));
    }

    #[test]
    fn the_tables_of_presets_and_settings_are_those_of_the_program() {
        let text = page("docs/training.md");
        let rows = rows(&text);
        let row = |name: &str| {
            let found = rows.iter().find(|row| row[0].split(", ").any(|cell| cell == format!("`{name}`")));
            found.unwrap_or_else(|| panic!("docs/training.md: no row for {name}"))
        };
        let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("docs/training.md: no number: {text}"));
        let yes = |on: bool| if on { "yes" } else { "no" };

        for (preset, name, _) in Preset::ALL {
            let mut config = Config { learning_rate: 0.5, margin: 0.5, ..Config::default() };
            config.apply(preset);
            let row = row(name);
            let loss = if config.max_violation { "MH" } else { "SH" };
            let expected = [loss, &config.measure.to_string(), yes(config.use_abs), yes(!config.no_imgnorm)];
            assert_eq!(row[1..5], expected, "docs/training.md: {name}");
            assert_eq!(number(&row[5]), config.margin, "docs/training.md: margin of {name}");
            let rate = if row[6] == "unchanged" { 0.5 } else { number(&row[6]) };
            assert_eq!(rate, config.learning_rate, "docs/training.md: learning rate of {name}");
        }

        let expected = table_of_settings();
        assert!(text.contains(&expected), "docs/training.md: expected the table\n{expected}");
    }

    /// The table of `docs/training.md`: one row for each setting.
    fn table_of_settings() -> String {
        let mut table =
            "| flag | original | default | scenes | pixels | meaning |\n|---|---|---|---|---|---|\n".to_owned();
        for setting in Config::settings() {
            let value = |value: &Option<String>| match (value.as_deref(), setting.kind) {
                (Some("true"), Kind::Switch) => "on".to_owned(),
                (Some("false"), Kind::Switch) => "off".to_owned(),
                (value, _) => value.unwrap_or_default().to_owned(),
            };
            let default = match &setting.default {
                None if setting.unset.is_empty() => "none".to_owned(),
                None => setting.unset.to_owned(),
                default => value(default),
            };
            let (flag, help) = (&setting.flag, &setting.help);
            let (flags, is) = match (setting.off, setting.kind) {
                (Some((off, off_help)), _) => (format!("`--{flag}`, `--{off}`"), format!("{help}. {off_help}")),
                (None, Kind::Choice(names)) => {
                    let names: Vec<String> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
                    (format!("`--{flag}`"), format!("{help}: {}", names.join(", ")))
                }
                _ => (format!("`--{flag}`"), help.clone()),
            };
            let (scenes, pixels) = (value(&setting.scenes), value(&setting.pixels));
            let cells = [&flags, setting.original, &default, &scenes, &pixels, &is];
            let row: Vec<String> =
                cells.iter().map(|c| if c.is_empty() { " ".into() } else { format!(" {c} ") }).collect();
            table.extend(["|", &row.join("|"), "|\n"]);
        }
        table
    }
}
