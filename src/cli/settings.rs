//! The flags of the settings: the keys of the table of settings, in kebab case.

use std::ffi::OsString;
use std::path::Path;

use crate::escape;
use crate::files::read_text;
use crate::model::{Config, Kind, Network, Preset, Setting};
use crate::similarity::Measure;
use crate::train::RunFolder;
use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde::Deserialize;
use serde_json::Value;

use super::note;

/// The settings that are given as flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    preset: Option<Preset>,
    /// The settings that were given, each with its value.
    given: Vec<(&'static Setting, OsString)>,
}

impl Args for Settings {
    fn augment_args(mut command: Command) -> Command {
        for setting in Config::settings() {
            if setting.key == "margin" {
                command = command.arg(preset_arg());
            }
            command = command.args(flags(setting));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            let value = match setting.off {
                Some((off, _)) => {
                    let is_on = matches.get_flag(setting.key);
                    (is_on || matches.get_flag(off)).then(|| is_on.to_string().into())
                }
                None => matches.get_raw(setting.key).and_then(|mut values| values.next_back()).map(OsString::from),
            };
            value.map(|value| (setting, value))
        };
        let given = Config::settings().iter().filter_map(given).collect();
        Ok(Self { preset: matches.get_one("preset").copied(), given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of a setting, or its two flags.
fn flags(setting: &'static Setting) -> Vec<Arg> {
    let help = match setting.unset {
        "" => setting.help.clone(),
        unset => format!("{} [default: {unset}]", setting.help),
    };
    let arg = Arg::new(setting.key).long(setting.flag.as_str()).help_heading("Settings");
    if let Some((off, off_help)) = setting.off {
        let on = arg.help(help + " [the default]").action(ArgAction::SetTrue).conflicts_with(off);
        let off = Arg::new(off).long(off).help(off_help).action(ArgAction::SetTrue).help_heading("Settings");
        return vec![on, off];
    }
    let arg = arg.help(help).value_name(setting.value_name);
    vec![match setting.kind {
        Kind::Path => arg.value_parser(value_parser!(std::path::PathBuf)),
        Kind::Count => arg.value_parser(value_parser!(usize)),
        Kind::Integer => arg.value_parser(value_parser!(u64)),
        Kind::Number => arg.value_parser(value_parser!(f64)).allow_negative_numbers(true),
        Kind::Switch => {
            arg.value_parser(value_parser!(bool)).num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Kind::Network => arg.value_parser(value_parser!(Network)),
        Kind::Choice(names) => arg.value_parser(names_parser(names)),
    }]
}

fn names_parser(names: &[(&'static str, &'static str)]) -> PossibleValuesParser {
    let values = names.iter().map(|(name, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(values)
}

fn preset_arg() -> Arg {
    let names = Preset::ALL.map(|(_, name, help)| (name, help));
    let preset = |name: String| Preset::ALL.into_iter().find(|(_, own, _)| *own == name).map(|(preset, ..)| preset);
    Arg::new("preset")
        .long("preset")
        .value_name("PRESET")
        .help("One of the original's four models; other flags override what it sets")
        .help_heading("Settings")
        .value_parser(names_parser(&names).try_map(move |name| preset(name).ok_or("no such preset")))
}

/// Reads a measure, with the names and the help that the setting has.
pub(crate) fn measure_parser() -> impl TypedValueParser<Value = Measure> {
    let kind = Config::settings().iter().find(|setting| setting.key == "measure").map(|setting| setting.kind);
    let names = if let Some(Kind::Choice(names)) = kind { names } else { &[] };
    names_parser(names).try_map(|name| Measure::deserialize(Value::from(name)))
}

impl Settings {
    /// Settings by their keys, with their values as text.
    ///
    /// # Errors
    ///
    /// If there is no such setting.
    pub(crate) fn of(values: &[(&str, OsString)]) -> Result<Self> {
        let find = |(key, value): &(&str, OsString)| {
            let setting = Config::settings().iter().find(|setting| setting.key == *key);
            Ok((setting.with_context(|| format!("{key}: no such setting"))?, value.clone()))
        };
        Ok(Self { preset: None, given: values.iter().map(find).collect::<Result<_>>()? })
    }

    /// These settings with others, which override them.
    pub(crate) fn with(&self, others: &Self) -> Self {
        let kept = self.given.iter().filter(|(setting, _)| !others.has(setting.key));
        Self { preset: others.preset.or(self.preset), given: kept.chain(&others.given).cloned().collect() }
    }

    /// The settings of a new run: the defaults (those of the scenes or their pixels if there is no data), then the file,
    /// then the preset, then the flags.
    pub(crate) fn resolve(&self, pixels: bool, file: Option<&Path>) -> Result<Config> {
        let file = file.map(read_table).transpose()?.unwrap_or_default();
        let loss_is_given = self.preset.is_some() || self.has("max_violation") || file.contains_key("max_violation");
        if let Some((flags, preset)) = self.like_the_original().filter(|_| !loss_is_given) {
            note(&format!(
                "{flags} without a loss: the loss here is MH (--max-violation). In the original SH is the default, and \
                 these flags give the model of --preset {preset}"
            ));
        }
        let named = |key: &str| self.has(key) || file.contains_key(key);
        if pixels && (named("data") || named("images") || named("init")) {
            bail!("--pixels: the settings have data, images or init; the pixels are those of the scenes");
        }
        let base = match self.given("init").or_else(|| file.get("init").and_then(Value::as_str).map(OsString::from)) {
            // The second stage of a training: everything as in the first, but for what is said.
            Some(run) => Config { init: None, weights: None, ..RunFolder::at(Path::new(&run)).read_config()? },
            None if named("data") || named("images") => Config::default(),
            None if pixels => Config::pixels(),
            None => Config::scenes(),
        };
        let mut config = over(&base, file).context("settings")?;
        self.apply(&mut config)?;
        Ok(config)
    }

    /// Flags with which the original's README trains a model with SH, and the preset of that model.
    fn like_the_original(&self) -> Option<(&'static str, &'static str)> {
        let is =
            |key: &str, value: &str| self.given.iter().any(|(setting, given)| setting.key == key && given == value);
        if is("no_imgnorm", "true") {
            Some(("--no-imgnorm", "vse0"))
        } else if is("measure", "order") && is("use_abs", "true") {
            Some(("--measure order --use-abs", "order0"))
        } else {
            None
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.preset.is_none() && self.given.is_empty()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.given(key).is_some()
    }

    fn given(&self, key: &str) -> Option<OsString> {
        self.given.iter().find(|(setting, _)| setting.key == key).map(|(_, value)| value.clone())
    }

    /// Sets what was given: the preset first, then the other flags.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<()> {
        if let Some(preset) = self.preset {
            config.apply(preset);
        }
        for (setting, value) in &self.given {
            config.set(setting.key, value)?;
        }
        Ok(())
    }
}

/// The settings in a file, as JSON: a seed may be above 2⁶³, where TOML's integers end.
fn read_table(path: &Path) -> Result<serde_json::Map<String, Value>> {
    let text = read_text(path, Config::LONGEST)?;
    // Parsed as settings first, so that an error shows the line of the file.
    toml::from_str::<Config>(&text).with_context(|| escape::path(path))?;
    let table: serde_json::Map<String, Value> = toml::from_str(&text).with_context(|| escape::path(path))?;
    // TOML has no null; inf and nan become null in JSON.
    if let Some((key, _)) = table.iter().find(|(_, value)| value.is_null()) {
        bail!("{}: {key}: expected a finite number", escape::path(path));
    }
    Ok(table)
}

/// The base, overridden by the settings of a file.
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
        let settings = |flags: &[&str]| {
            let command = Settings::augment_args(Command::new("train").no_binary_name(true));
            Settings::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
        };
        let config = settings(&["--preset", "order0"]).resolve(false, Some(file.path())).unwrap();
        assert!((config.margin - 0.05).abs() < 1e-15 && config.num_epochs == 7 && config.embed_size == 1024);
        let error = settings(&[]).resolve(true, Some(file.path())).unwrap_err().to_string();
        assert!(error.contains("--pixels: the settings have data"), "{error}");
        let config = settings(&["--margin", "0.4", "--preset", "order0"]).resolve(false, Some(file.path())).unwrap();
        assert!((config.margin - 0.4).abs() < 1e-15 && config.use_abs);
        assert!(settings(&["--max-violation"]).resolve(false, None).unwrap().max_violation);
        assert!(!settings(&["--sum-violation"]).resolve(false, None).unwrap().max_violation);
        assert_eq!(Settings::default().resolve(false, None).unwrap(), Config::scenes());
    }

    #[test]
    fn a_wrong_key_is_shown_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "margin = 0.3\nmargn = 1\n").unwrap();
        let message = format!("{:#}", Settings::default().resolve(false, Some(file.path())).unwrap_err());
        assert!(message.contains("line 2") && message.contains("margn"), "{message}");
    }
}
