//! Checkpoints from other programs: those that can be read, and messages for the rest.

use std::path::Path;

use crate::escape;
use crate::files::{Kind, TensorFile};
use crate::model::Vse;
use crate::train::{Checkpoint, RunFolder, Which, has_parameters, load_model, parameters_of};
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
                has_parameters(&file),
                "{}: expected `model`, the parameters for images and for captions, as in a checkpoint of the original",
                escape::path(path)
            );
            Some(file)
        }
        // Reading another file as a checkpoint gives the error.
        Some(Kind::Safetensors) => TensorFile::read(path).ok().filter(has_parameters),
        _ => None,
    };
    let Some(file) = bare else { return Ok(load_model(path)?) };
    let (model, checkpoint, _) = run.load(Which::Best)?;
    let parameters = parameters_of(&model.architecture, &file)?;
    note(&format!(
        "{}: it holds only parameters; measure, norms and vocabulary are those of the run {}",
        escape::path(path),
        escape::path(run.path())
    ));
    Ok((Vse { architecture: model.architecture, parameters }, checkpoint))
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
