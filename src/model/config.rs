//! Settings: unchecked [`Config`] → [`Config::check`] → [`ValidConfig`].
//!
//! The keys are the original's options in snake case; the command line has the same in kebab case.

use std::ops::Deref;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::vse::Objective;
use crate::error::{Error, Result};
use crate::loss::{HingeLoss, Loss, Violation, WarmUp};
use crate::similarity::Measure;

/// Every setting of a training run, as `config.toml` holds it.
///
/// The defaults are the original's, except that the loss is MH: this is VSE++.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder with `{train,dev,test}_ims.npy` and `_caps.txt`; none: the built-in scenes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Where a folder has no dev split: so many images, the last of train, are dev.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_out: Option<usize>,
    /// A vocabulary to use; none: built from the training captions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_path: Option<PathBuf>,
    /// A word must occur this often in the training captions to enter the vocabulary.
    pub word_threshold: usize,

    /// D: dimension of the joint space.
    pub embed_size: usize,
    /// E: dimension of the word vectors.
    pub word_dim: usize,
    /// Layers of the GRU.
    pub num_layers: usize,
    /// F: dimension of the image features; none: whatever the data has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub img_dim: Option<usize>,
    /// A learned projection [H → D] on the caption side (the paper's `W_g`; the original has none).
    pub caption_projection: bool,
    /// H: hidden size of the GRU; none: D. Another H needs `caption_projection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// How images and captions are compared.
    pub measure: Measure,
    /// |·| of both embeddings (order embeddings).
    pub use_abs: bool,
    /// No L2 normalisation on the image side.
    pub no_imgnorm: bool,

    /// α: margin of the hinges.
    pub margin: f64,
    /// MH (true) or SH (false).
    pub max_violation: bool,
    /// The first epochs train with SH whatever `max_violation` says.
    pub warmup_epochs: usize,
    /// Captions of one image are no negatives of each other.
    pub mask_same_image: bool,

    /// Epochs of training.
    pub num_epochs: usize,
    /// B: pairs in a batch.
    pub batch_size: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// The step size is multiplied by 0.1 every so many epochs.
    pub lr_update: usize,
    /// Largest global norm of the gradient; 0: no clipping.
    pub grad_clip: f64,
    /// Validate every so many steps too, not only at the end of an epoch; 0: never.
    pub val_step: usize,
    /// Write a line of training figures every so many steps.
    pub log_step: usize,
    /// Seed of initialisation and shuffling.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: None,
            hold_out: None,
            vocab_path: None,
            word_threshold: 4,
            embed_size: 1024,
            word_dim: 300,
            num_layers: 1,
            img_dim: None,
            caption_projection: false,
            hidden_size: None,
            measure: Measure::Cosine,
            use_abs: false,
            no_imgnorm: false,
            margin: 0.2,
            max_violation: true,
            warmup_epochs: 0,
            mask_same_image: false,
            num_epochs: 30,
            batch_size: 128,
            learning_rate: 2e-4,
            lr_update: 15,
            grad_clip: 2.0,
            val_step: 500,
            log_step: 10,
            seed: 0,
        }
    }
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

impl Config {
    /// The most bytes that a file of settings may have: fifty times what all of them take.
    pub const LONGEST: u64 = 1 << 16;

    /// The settings for the built-in scenes: a small model, trained in seconds.
    #[must_use]
    pub fn scenes() -> Self {
        Self { embed_size: 64, word_dim: 32, num_epochs: 12, learning_rate: 6e-3, lr_update: 9, ..Self::default() }
    }

    /// Sets loss, measure, abs, image normalisation and margin as the original's command for this
    /// model does, and the learning rate where that command names one (order0). Leaves the rest.
    pub fn apply(&mut self, preset: Preset) {
        let order = matches!(preset, Preset::Order0 | Preset::OrderPlusPlus);
        self.max_violation = matches!(preset, Preset::VsePlusPlus | Preset::OrderPlusPlus);
        self.no_imgnorm = preset == Preset::Vse0;
        self.measure = if order { Measure::Order } else { Measure::Cosine };
        self.use_abs = preset == Preset::Order0;
        self.margin = if preset == Preset::Order0 { 0.05 } else { 0.2 };
        if preset == Preset::Order0 {
            self.learning_rate = 1e-3;
        }
    }

    /// Whether a run begun with `before` can go on with these settings: all must be equal but those
    /// that change nothing about the steps already taken (`num_epochs`, `val_step`, `log_step`, and
    /// where the data lies).
    ///
    /// **Errors** with the first setting that differs.
    #[cfg(feature = "files")]
    pub fn check_resumes(&self, before: &Self) -> Result<()> {
        use serde_json::{Map, Value};
        // JSON, because the integers of a table in TOML end at 2⁶³.
        let table = |config: &Self| -> Result<Map<String, Value>> {
            let table = serde_json::to_value(config).map_err(|e| Error::mismatch(format!("settings: {e}")))?;
            let mut table = if let Value::Object(table) = table { table } else { Map::new() };
            for free in ["num_epochs", "val_step", "log_step", "data"] {
                table.remove(free);
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

    /// Checks every setting's range, and those that depend on one another.
    ///
    /// **Errors** with the setting's name, what it may be and what it is.
    pub fn check(self) -> Result<ValidConfig> {
        /// The largest size that a dimension may have: far above any use, far below overflow.
        const LARGEST: usize = 1 << 20;
        let sizes = [
            ("embed_size", self.embed_size, LARGEST),
            ("word_dim", self.word_dim, LARGEST),
            ("num_layers", self.num_layers, 64),
            ("batch_size", self.batch_size, LARGEST),
            ("num_epochs", self.num_epochs, usize::MAX),
            ("lr_update", self.lr_update, usize::MAX),
            ("log_step", self.log_step, usize::MAX),
            ("word_threshold", self.word_threshold, usize::MAX),
            ("hold_out", self.hold_out.unwrap_or(1), usize::MAX),
            ("hidden_size", self.hidden_size.unwrap_or(1), LARGEST),
            ("img_dim", self.img_dim.unwrap_or(1), LARGEST),
        ];
        for (key, value, largest) in sizes {
            if value == 0 || value > largest {
                let range = if largest == usize::MAX { "at least 1".into() } else { format!("1 to {largest}") };
                return Err(Error::config(key, range, value));
            }
        }
        if !(0.0..=1e6).contains(&self.margin) {
            return Err(Error::config("margin", "a number ≥ 0 and at most 1e6", self.margin));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(Error::config("learning_rate", "a number > 0", self.learning_rate));
        }
        if !(self.grad_clip.is_finite() && self.grad_clip >= 0.0) {
            return Err(Error::config("grad_clip", "a number ≥ 0 (0: no clipping)", self.grad_clip));
        }
        if !self.caption_projection && self.hidden_size.is_some_and(|h| h != self.embed_size) {
            let expected = format!("embed_size = {}, or caption_projection = true", self.embed_size);
            return Err(Error::config("hidden_size", expected, self.hidden_size.unwrap_or_default()));
        }
        Ok(ValidConfig(self))
    }
}

/// Settings that have been checked.
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
    pub fn into_inner(self) -> Config {
        self.0
    }

    /// The model for V words and F image features.
    #[must_use]
    pub fn architecture(&self, vocab_size: usize, img_dim: usize) -> Architecture {
        Architecture {
            vocab_size,
            img_dim,
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
    pub fn loss(&self) -> WarmUp {
        let violation = if self.max_violation { Violation::Max } else { Violation::Sum };
        WarmUp::new(HingeLoss { margin: self.margin, violation }, self.warmup_epochs)
    }

    /// What an epoch (from 0) minimises.
    #[must_use]
    pub fn objective(&self, epoch: usize) -> Objective {
        let mut loss = self.loss();
        loss.begin_epoch(epoch);
        Objective { loss: loss.now(), mask_same_image: self.mask_same_image }
    }
}

/// Sizes and switches that fix what a model computes; kept in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// V
    pub vocab_size: usize,
    /// F
    pub img_dim: usize,
    /// E
    pub word_dim: usize,
    /// H; equal to D unless there is a caption projection.
    pub hidden_size: usize,
    /// D
    pub embed_size: usize,
    /// Layers of the GRU.
    pub num_layers: usize,
    /// Whether the caption side has a projection [H → D].
    pub caption_projection: bool,
    /// The similarity.
    pub measure: Measure,
    /// |·| of both embeddings.
    pub use_abs: bool,
    /// No L2 normalisation on the image side.
    pub no_imgnorm: bool,
}

impl Architecture {
    /// More numbers than this are refused: training holds four times as many.
    const LARGEST: u128 = 1_000_000_000;

    /// How many numbers are trained.
    #[must_use]
    pub fn parameters(&self) -> u128 {
        // Sizes from a file may be anything: the sum ends at the largest number instead of beginning again.
        let [v, f, e, h, d, layers] = [
            self.vocab_size,
            self.img_dim,
            self.word_dim,
            self.hidden_size,
            self.embed_size,
            self.num_layers.saturating_sub(1),
        ]
        .map(|size| size as u128);
        let first = (3 * h).saturating_mul(e + h + 2);
        let above = (3 * h).saturating_mul(h + h + 2).saturating_mul(layers);
        let projection = if self.caption_projection { d.saturating_mul(h + 1) } else { 0 };
        [d.saturating_mul(f + 1), v.saturating_mul(e), first, above, projection]
            .into_iter()
            .fold(0, u128::saturating_add)
    }

    /// **Errors** if a size is 0, or if a model of these sizes cannot be held, naming how many parameters it
    /// would have.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("img_dim", self.img_dim),
            ("word_dim", self.word_dim),
            ("hidden_size", self.hidden_size),
            ("embed_size", self.embed_size),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::config(key, "at least 1", 0));
        }
        let parameters = self.parameters();
        if self.num_layers == 0 || parameters > Self::LARGEST {
            let problem = format!(
                "a model with V = {}, E = {}, H = {}, D = {}, F = {} and {} layer(s) would have {parameters} parameters; \
                 expected at least one layer and at most {} parameters",
                self.vocab_size,
                self.word_dim,
                self.hidden_size,
                self.embed_size,
                self.img_dim,
                self.num_layers,
                Self::LARGEST
            );
            return Err(Error::mismatch(problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_the_originals() {
        // The flags that the original's README gives for each model. Its defaults are ours, but for
        // the loss, which is SH there.
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
            // Whatever another preset has set before is set back.
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
    fn a_model_of_any_size_can_be_counted() {
        let largest = Architecture {
            vocab_size: usize::MAX,
            img_dim: usize::MAX,
            word_dim: usize::MAX,
            hidden_size: usize::MAX,
            embed_size: usize::MAX,
            num_layers: usize::MAX,
            caption_projection: true,
            measure: Measure::Cosine,
            use_abs: false,
            no_imgnorm: false,
        };
        assert_eq!(largest.parameters(), u128::MAX);
        assert!(largest.check().unwrap_err().to_string().contains("parameters"));
        let none = Architecture { word_dim: 0, ..largest };
        assert_eq!(none.check().unwrap_err().to_string(), "word_dim = 0: expected at least 1");
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
}
