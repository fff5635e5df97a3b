//! Checkpoints from other programs: those that can be read, and messages for the rest.

use std::path::Path;

use crate::escape;
use crate::files::{Kind, TensorFile};
use crate::model::{Architecture, Parameters, Vse};
use crate::nn::Module;
use crate::train::{Checkpoint, RunFolder, Which, load_model};
use anyhow::Result;

use super::note;

/// Loads a model from a checkpoint. If a file holds only parameters, under this program's names, the
/// settings are those of the run.
///
/// # Errors
///
/// As [`load_model`]; also if the file is a pickle, and the message says how to convert it.
pub(super) fn load(path: &Path, run: &RunFolder) -> Result<(Vse<f32>, Checkpoint)> {
    match Kind::of(path) {
        Some(kind) if kind.is_pickle() => Err(pickle(path, kind, run)),
        Some(Kind::Safetensors) if is_bare(path) => {
            let (model, checkpoint, _) = run.load(Which::Best)?;
            let parameters = bare_parameters(path, &model.architecture)?;
            note(&format!(
                "{}: it holds only parameters; measure, norms and vocabulary are those of the run {}",
                escape::path(path),
                escape::path(run.path())
            ));
            Ok((Vse { architecture: model.architecture, parameters }, checkpoint))
        }
        _ => Ok(load_model(path)?),
    }
}

/// Whether a file holds parameters without this program's metadata. An unreadable file does not count;
/// reading it as a checkpoint then gives the error.
fn is_bare(path: &Path) -> bool {
    TensorFile::read(path)
        .is_ok_and(|file| file.metadata().is_none() && file.names().any(|name| name.starts_with("img_enc.")))
}

/// # Errors
///
/// If a tensor of the architecture is missing, has the wrong shape or a number that is not finite, or if
/// there is another tensor.
fn bare_parameters(path: &Path, architecture: &Architecture) -> Result<Parameters<f32>> {
    let file = TensorFile::read(path)?;
    let mut parameters = Parameters::zeros(architecture);
    let mut known = Vec::new();
    parameters.fill(|name, shape| {
        known.push(name.to_owned());
        file.weights(name, shape)
    })?;
    if let Some(more) = file.names().find(|name| !known.iter().any(|known| known == name)) {
        anyhow::bail!("{}: {}: the architecture has no such tensor", escape::path(path), escape::name(more));
    }
    Ok(parameters)
}

fn pickle(path: &Path, kind: Kind, run: &RunFolder) -> anyhow::Error {
    // A JSON string is also a valid Python string.
    let file = serde_json::Value::from(path.to_string_lossy().into_owned());
    anyhow::anyhow!(
        "{}: this is {}, not a checkpoint of this program; it is not read, and nothing in it was executed. Python \
         executes the code in such a file; if you trust it, PyTorch and safetensors convert a checkpoint of the original:\n  \
         import torch, safetensors.torch as st; sides = torch.load({file}, map_location=\"cpu\", weights_only=False, encoding=\"latin1\")[\"model\"]\n  \
         st.save_file({{f\"{{a}}.{{k}}\": v.contiguous() for a, d in zip((\"img_enc\", \"txt_enc\"), sides) for k, v in d.items()}}, \"converted.safetensors\")\n\
         Then --run {} --checkpoint converted.safetensors evaluates it with the settings and the vocabulary of that run, \
         which must have the same sizes and words",
        escape::path(path),
        kind.name(),
        super::quote::shell_quote(run.path())
    )
}
