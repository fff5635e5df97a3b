//! The settings' flags: the original's options in kebab case.

use std::path::{Path, PathBuf};

use crate::escape;
use crate::files::read_text;
use crate::model::{Config, Preset};
use crate::similarity::Measure;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::note;

/// Every setting of [`Config`], each optional: what is not given is left as it is.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// Folder with {train,dev,test}_ims.npy and {train,dev,test}_caps.txt [default: the built-in scenes]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where the folder has no dev split: the last N images of train are dev
    #[arg(long, value_name = "N")]
    hold_out: Option<usize>,
    /// One of the original's four models; other flags override what it sets
    #[arg(long, value_enum)]
    pub(crate) preset: Option<PresetName>,
    /// α, the margin of the hinges
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    margin: Option<f64>,
    /// MH: only the hardest negative of each query counts (VSE++) [the default]
    #[arg(long, conflicts_with = "sum_violation")]
    max_violation: bool,
    /// SH: all negatives count (VSE0)
    #[arg(long)]
    sum_violation: bool,
    /// Epochs that train with SH first, before MH
    #[arg(long, value_name = "N")]
    warmup_epochs: Option<usize>,
    /// Leave captions of one image out of each other's negatives
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    mask_same_image: Option<bool>,
    /// How images and captions are compared
    #[arg(long, value_enum)]
    measure: Option<MeasureName>,
    /// Absolute values of both embeddings
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_abs: Option<bool>,
    /// Do not L2-normalise the image embeddings
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_imgnorm: Option<bool>,
    /// D, the dimension of the joint space
    #[arg(long, value_name = "N")]
    embed_size: Option<usize>,
    /// E, the dimension of the word vectors
    #[arg(long, value_name = "N")]
    word_dim: Option<usize>,
    /// Layers of the GRU
    #[arg(long, value_name = "N")]
    num_layers: Option<usize>,
    /// A learned projection on the caption side (the paper's `W_g`)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    caption_projection: Option<bool>,
    /// H, the GRU's hidden size, where there is a caption projection [default: D]
    #[arg(long, value_name = "N")]
    hidden_size: Option<usize>,
    /// F, the dimension of the image features, to be checked [default: what the data has]
    #[arg(long, value_name = "N")]
    img_dim: Option<usize>,
    /// Epochs to train
    #[arg(long, value_name = "N")]
    num_epochs: Option<usize>,
    /// B, pairs in a batch
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Adam's step size
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// Multiply the step size by 0.1 every N epochs
    #[arg(long, value_name = "N")]
    lr_update: Option<usize>,
    /// Largest global norm of the gradient; 0: no clipping
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    grad_clip: Option<f64>,
    /// Validate every N steps too; 0: only at the end of an epoch
    #[arg(long, value_name = "N")]
    val_step: Option<usize>,
    /// A line in metrics.jsonl every N steps
    #[arg(long, value_name = "N")]
    log_step: Option<usize>,
    /// A vocabulary to use [default: built from the training captions]
    #[arg(long, value_name = "FILE")]
    vocab_path: Option<PathBuf>,
    /// How often a word must occur to enter the vocabulary
    #[arg(long, value_name = "N")]
    word_threshold: Option<usize>,
    /// Seed of initialisation and shuffling
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PresetName {
    /// SH, image side not normalised
    Vse0,
    /// MH
    #[value(name = "vse++")]
    VsePlusPlus,
    /// Order similarity, absolute values, SH, margin 0.05, learning rate 1e-3
    Order0,
    /// Order similarity, MH
    #[value(name = "order++")]
    OrderPlusPlus,
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Self {
        match name {
            PresetName::Vse0 => Self::Vse0,
            PresetName::VsePlusPlus => Self::VsePlusPlus,
            PresetName::Order0 => Self::Order0,
            PresetName::OrderPlusPlus => Self::OrderPlusPlus,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MeasureName {
    /// The inner product
    Cosine,
    /// Minus the norm of the order violation
    Order,
    /// Minus its square
    OrderSquared,
}

impl From<MeasureName> for Measure {
    fn from(name: MeasureName) -> Self {
        match name {
            MeasureName::Cosine => Self::Cosine,
            MeasureName::Order => Self::Order,
            MeasureName::OrderSquared => Self::OrderSquared,
        }
    }
}

impl Settings {
    /// The settings of a new run: defaults (of the scenes where there is no data), then the file, then
    /// the preset, then the flags.
    pub(crate) fn resolve(&self, file: Option<&Path>) -> Result<Config> {
        let file = file.map(read_table).transpose()?.unwrap_or_default();
        let loss_is_given =
            self.max_violation || self.sum_violation || self.preset.is_some() || file.contains_key("max_violation");
        if let Some((flags, preset)) = self.like_the_original().filter(|_| !loss_is_given) {
            note(&format!(
                "{flags} without a loss: here it is MH (--max-violation); in the original SH is the default, and this is \
                 its model of --preset {preset}"
            ));
        }
        let on_scenes = self.data.is_none() && !file.contains_key("data");
        let base = if on_scenes { Config::scenes() } else { Config::default() };
        let mut config = over(&base, file).context("settings")?;
        self.apply(&mut config);
        Ok(config)
    }

    /// Flags by which the original's README asks for a model that trains with SH there, and its preset.
    fn like_the_original(&self) -> Option<(&'static str, &'static str)> {
        match (self.no_imgnorm, self.measure, self.use_abs) {
            (Some(true), ..) => Some(("--no-imgnorm", "vse0")),
            (_, Some(MeasureName::Order), Some(true)) => Some(("--measure order --use-abs", "order0")),
            _ => None,
        }
    }

    /// Sets what was given.
    pub(crate) fn apply(&self, config: &mut Config) {
        fn set<T: Clone>(field: &mut T, given: Option<&T>) {
            if let Some(given) = given {
                field.clone_from(given);
            }
        }
        if let Some(preset) = self.preset {
            config.apply(preset.into());
        }
        set(&mut config.margin, self.margin.as_ref());
        if self.max_violation || self.sum_violation {
            config.max_violation = self.max_violation;
        }
        set(&mut config.warmup_epochs, self.warmup_epochs.as_ref());
        set(&mut config.mask_same_image, self.mask_same_image.as_ref());
        set(&mut config.measure, self.measure.map(Measure::from).as_ref());
        set(&mut config.use_abs, self.use_abs.as_ref());
        set(&mut config.no_imgnorm, self.no_imgnorm.as_ref());
        set(&mut config.embed_size, self.embed_size.as_ref());
        set(&mut config.word_dim, self.word_dim.as_ref());
        set(&mut config.num_layers, self.num_layers.as_ref());
        set(&mut config.caption_projection, self.caption_projection.as_ref());
        set(&mut config.num_epochs, self.num_epochs.as_ref());
        set(&mut config.batch_size, self.batch_size.as_ref());
        set(&mut config.learning_rate, self.learning_rate.as_ref());
        set(&mut config.lr_update, self.lr_update.as_ref());
        set(&mut config.grad_clip, self.grad_clip.as_ref());
        set(&mut config.val_step, self.val_step.as_ref());
        set(&mut config.log_step, self.log_step.as_ref());
        set(&mut config.word_threshold, self.word_threshold.as_ref());
        set(&mut config.seed, self.seed.as_ref());
        for (field, given) in [
            (&mut config.hidden_size, self.hidden_size),
            (&mut config.img_dim, self.img_dim),
            (&mut config.hold_out, self.hold_out),
        ] {
            *field = given.or(*field);
        }
        for (field, given) in [(&mut config.data, &self.data), (&mut config.vocab_path, &self.vocab_path)] {
            if given.is_some() {
                field.clone_from(given);
            }
        }
    }
}

/// What a file sets. JSON, because the integers of a table in TOML end at 2⁶³.
fn read_table(path: &Path) -> Result<serde_json::Map<String, Value>> {
    let text = read_text(path, Config::LONGEST)?;
    // Checked by itself first, so that the message shows the line of the file.
    toml::from_str::<Config>(&text).with_context(|| escape::path(path))?;
    let table: serde_json::Map<String, Value> = toml::from_str(&text).with_context(|| escape::path(path))?;
    // TOML has no null; inf and nan become null in JSON.
    if let Some((key, _)) = table.iter().find(|(_, value)| value.is_null()) {
        bail!("{}: {key}: expected a finite number", escape::path(path));
    }
    Ok(table)
}

/// The base with what a file sets.
fn over(base: &Config, file: serde_json::Map<String, Value>) -> serde_json::Result<Config> {
    let mut table = serde_json::to_value(base)?;
    if let Value::Object(fields) = &mut table {
        fields.extend(file);
    }
    serde_json::from_value(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_the_preset_which_overrides_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "margin = 0.3\nnum_epochs = 7\ndata = \"x\"\n").unwrap();
        let mut settings = Settings { preset: Some(PresetName::Order0), ..Settings::default() };
        let config = settings.resolve(Some(file.path())).unwrap();
        assert!((config.margin - 0.05).abs() < 1e-15 && config.num_epochs == 7 && config.embed_size == 1024);
        settings.margin = Some(0.4);
        let config = settings.resolve(Some(file.path())).unwrap();
        assert!((config.margin - 0.4).abs() < 1e-15);
        assert_eq!(Settings::default().resolve(None).unwrap(), Config::scenes());
    }

    #[test]
    fn a_wrong_key_is_shown_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "margin = 0.3\nmargn = 1\n").unwrap();
        let message = format!("{:#}", Settings::default().resolve(Some(file.path())).unwrap_err());
        assert!(message.contains("line 2") && message.contains("margn"), "{message}");
    }
}
