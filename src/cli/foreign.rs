//! Checkpoints from other programs: those that can be read, and messages for the rest.

use std::collections::BTreeMap;
use std::path::Path;

use crate::escape;
use crate::files::{Kind, TensorFile};
use crate::model::{Architecture, Parameters, Vse};
use crate::nn::Module;
use crate::train::{Checkpoint, RunFolder, Which, load_model};
use anyhow::Result;

use super::note;

/// Loads a model from a checkpoint. If a file holds only parameters, under this program's names or in a checkpoint
/// of the original, the settings are those of the run.
///
/// # Errors
///
/// As [`load_model`]; also if the file is a pickle that is not read, and the message says how to convert it.
pub(super) fn load(path: &Path, run: &RunFolder) -> Result<(Vse<f32>, Checkpoint)> {
    let bare = match Kind::of(path) {
        Some(kind) if kind.is_pickle() => {
            let file = TensorFile::read(path).map_err(|error| pickle(path, &error, run))?;
            anyhow::ensure!(
                is_bare(&file),
                "{}: expected `model`, the parameters for images and for captions, as in a checkpoint of the original",
                escape::path(path)
            );
            Some(file)
        }
        // Reading another file as a checkpoint gives the error.
        Some(Kind::Safetensors) => TensorFile::read(path).ok().filter(is_bare),
        _ => None,
    };
    let Some(file) = bare else { return Ok(load_model(path)?) };
    let (model, checkpoint, _) = run.load(Which::Best)?;
    let parameters = bare_parameters(&file, &model.architecture)?;
    note(&format!(
        "{}: it holds only parameters; measure, norms and vocabulary are those of the run {}",
        escape::path(path),
        escape::path(run.path())
    ));
    Ok((Vse { architecture: model.architecture, parameters }, checkpoint))
}

/// Whether a file holds parameters without this program's metadata.
fn is_bare(file: &TensorFile) -> bool {
    file.metadata().is_none() && file.names().any(|name| own_name(name).starts_with("img_enc."))
}

/// This program's name of a tensor. The original saves a list of two state dicts: images, captions.
fn own_name(name: &str) -> String {
    let side = |place: &str, own: &str| name.strip_prefix(place).map(|rest| format!("{own}.{rest}"));
    side("model.0.", "img_enc").or_else(|| side("model.1.", "txt_enc")).unwrap_or_else(|| name.to_owned())
}

/// # Errors
///
/// If a tensor of the architecture is missing, has the wrong shape or a number that is not finite, or if
/// there is another tensor.
fn bare_parameters(file: &TensorFile, architecture: &Architecture) -> Result<Parameters<f32>> {
    let mut left: BTreeMap<String, &str> = file.names().map(|name| (own_name(name), name)).collect();
    let mut parameters = Parameters::zeros(architecture);
    parameters.fill(|name, shape| {
        let stored = left.remove(name);
        file.weights(stored.unwrap_or(name), shape)
    })?;
    if let Some(more) = left.values().next() {
        anyhow::bail!("{}: {}: the architecture has no such tensor", escape::path(file.path()), escape::name(more));
    }
    Ok(parameters)
}

/// The reason why a pickle is not read, and what to do.
fn pickle(path: &Path, error: &crate::error::Error, run: &RunFolder) -> anyhow::Error {
    // A JSON string is also a valid Python string.
    let file = serde_json::Value::from(path.to_string_lossy().into_owned());
    anyhow::anyhow!(
        "{error}\nPython executes the code in such a file; if you trust it, PyTorch and safetensors convert a \
         checkpoint of the original:\n  \
         import torch, safetensors.torch as st; sides = torch.load({file}, map_location=\"cpu\", weights_only=False, encoding=\"latin1\")[\"model\"]\n  \
         st.save_file({{f\"{{a}}.{{k}}\": v.contiguous() for a, d in zip((\"img_enc\", \"txt_enc\"), sides) for k, v in d.items()}}, \"converted.safetensors\")\n\
         Then --run {} --checkpoint converted.safetensors evaluates it with the settings and the vocabulary of that run, \
         which must have the same sizes and words",
        super::quote::shell_quote(run.path())
    )
}
