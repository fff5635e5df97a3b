//! A user's own case: parameters, batch and settings from files, in any sizes.

use std::path::Path;

use super::cases::{Case, Expected};
use super::inputs::{EMBED, FC, PROJ, parameter_names, rnn};
use super::program::{Inputs, Program, Settings};
use crate::error::{Error, Result};
use crate::files::{TensorFile, read_text};
use crate::model::Config;

/// Reads a model's case from a file of tensors and, if there is one, a file of settings.
///
/// The tensors have the suite's names: `param.img_enc.fc.weight` [D, F], …, `in.images` [B, F],
/// `in.captions` [B, T], `in.lengths` `[B]`, and `in.image_ids` `[B]` if `mask_same_image` is set.
/// The settings are the keys of a run's `config.toml` (so that this file can be used unchanged), and
/// `steps`. The number of layers, and whether there is a projection, follow from the tensors; a setting
/// that contradicts them is an error.
///
/// # Errors
///
/// If a file cannot be read, a tensor is missing, or a setting is unknown or out of range.
pub(crate) fn read(inputs: &Path, config: Option<&Path>) -> Result<Case> {
    let file = TensorFile::read(inputs)?;
    let names: Vec<String> = file.names().map(Into::into).collect();
    let mut tensors = Inputs::new();
    for name in names.iter().filter(|name| name.starts_with("in.") || name.starts_with("param.")) {
        tensors.insert(name.clone(), file.get(name)?.to_owned());
    }
    if tensors.is_empty() {
        return Err(Error::file(inputs, "expected tensors named in.* and param.*, found none"));
    }
    for (name, tensor) in &tensors {
        if let Some((at, &value)) = tensor.indexed_iter().find(|(_, x)| !x.is_finite()) {
            let index = ndarray::Dimension::slice(&at);
            return Err(Error::file(inputs, format!("{name}: {value} at {index:?}: every value must be finite")));
        }
    }
    let first = format!("param.{}", rnn("weight_hh", 0));
    let any_layer = first.trim_end_matches('0');
    let is_layer = |name: &String| {
        let number = name.strip_prefix(any_layer);
        number.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let layers = tensors.keys().filter(|name| is_layer(name)).count();
    let projection = tensors.contains_key(&format!("param.{PROJ}.weight"));
    let settings = match config {
        Some(path) => read_settings(path, layers, projection, &tensors)?,
        None => Settings { num_layers: layers.max(1), caption_projection: projection, steps: 1, ..Settings::default() },
    };
    check_names(inputs, &tensors, &settings)?;
    let id = inputs.file_stem().and_then(|stem| stem.to_str()).unwrap_or("own").to_owned();
    let note = "A case of the user's own.".into();
    let case = Case {
        id,
        family: "own",
        program: Program::Model,
        settings,
        flags: Vec::new(),
        note,
        expected: Expected::Valid,
        inputs: tensors,
    };
    Ok(case)
}

/// # Errors
///
/// If the model does not have one of the tensors.
fn check_names(path: &Path, tensors: &Inputs, settings: &Settings) -> Result<()> {
    let inputs = ["in.images", "in.captions", "in.lengths", "in.image_ids"].map(str::to_owned);
    let parameters = parameter_names(settings.num_layers, settings.caption_projection);
    let known: Vec<String> =
        inputs.into_iter().chain(parameters.into_iter().map(|name| format!("param.{name}"))).collect();
    match tensors.keys().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let problem = format!("{name}: the model has no such tensor; expected {}", known.join(", "));
            Err(Error::file(path, problem))
        }
    }
}

fn read_settings(path: &Path, layers: usize, projection: bool, tensors: &Inputs) -> Result<Settings> {
    let text = read_text(path, Config::LONGEST)?;
    let mut table: toml::Table =
        toml::from_str(&text).map_err(|e| Error::file(path, format!("not valid TOML: {e}")))?;
    let steps = match table.remove("steps") {
        None => 1,
        Some(toml::Value::Integer(steps)) if (0..=100_000).contains(&steps) => usize::try_from(steps).unwrap_or(1),
        Some(other) => {
            let problem = format!("steps = {other}: expected a whole number from 0 to 100000");
            return Err(Error::file(path, problem));
        }
    };
    // Settings that follow from the tensors must agree with them.
    let dimension = |name: &str, axis: usize| {
        tensors.get(&format!("param.{name}")).and_then(|t| t.shape().get(axis)).and_then(|&n| i64::try_from(n).ok())
    };
    let facts = [
        ("num_layers", i64::try_from(layers).ok()),
        ("embed_size", dimension(&format!("{FC}.weight"), 0)),
        ("img_dim", dimension(&format!("{FC}.weight"), 1)),
        ("word_dim", dimension(EMBED, 1)),
        ("hidden_size", dimension(&rnn("weight_hh", 0), 1)),
    ];
    for (key, fact) in facts {
        let (Some(said), Some(fact)) = (table.get(key), fact) else { continue };
        if said.as_integer() != Some(fact) {
            return Err(Error::file(path, format!("{key} = {said}: expected {fact}, as in the tensors")));
        }
    }
    if let Some(said) = table.get("caption_projection").filter(|said| said.as_bool() != Some(projection)) {
        let has = if projection { "there is" } else { "there is no" };
        return Err(Error::file(path, format!("caption_projection = {said}: {has} param.{PROJ}.weight")));
    }
    let config: Config = table.try_into().map_err(|e| Error::file(path, format!("{e}")))?;
    let config = Config { num_layers: layers.max(1), caption_projection: projection, ..config };
    let config = config.check().map_err(|e| Error::file(path, e.to_string()))?;
    Ok(Settings::of(&config, steps))
}
