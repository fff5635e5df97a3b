//! Weights from files without settings: an image encoder's, from torchvision or the original's checkpoint, and all
//! parameters of a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};
use crate::escape;
use crate::files::TensorFile;
use crate::model::{Architecture, Encoder, Network, Parameters};
use crate::nn::Module;

/// The counters of norms, which change nothing.
const COUNTER: &str = "num_batches_tracked";

/// The tensors of a network's last layer, which an encoder does not have, and the counters of its norms.
const LEFT_OUT: [&str; 4] = ["fc.", "linear.", "classifier.6.", COUNTER];

/// Old names of VGG's linear maps, which counted the dropout before them.
const OLD: [(&str, &str); 2] = [("classifier.1.", "classifier.0."), ("classifier.4.", "classifier.3.")];

/// Reads an image encoder's weights from a safetensors, npz or PyTorch file (`docs/encoders.md`).
///
/// The tensors have torchvision's names. A common prefix (`state_dict.`, `model.0.cnn.`) is found by itself; `module`
/// in a name, from `DataParallel`, is ignored. The last layer is left out.
///
/// # Errors
///
/// If the file cannot be read; if a tensor of the network is missing, has another shape or a number that is not
/// finite; or if the file has a tensor that the network does not have: then it is another network's.
pub fn read_encoder(network: Network, path: &Path) -> Result<Encoder<f32>> {
    let file = TensorFile::read(path)?;
    let mut encoder = Encoder::zeros(network);
    let expected: Vec<String> = encoder.tensors().into_iter().map(|(name, _)| name).collect();
    let names =
        Names::of(file.names(), &expected[0]).ok_or_else(|| not_found(path, network, &expected[0], file.names()))?;
    encoder.fill(|name, shape| match names.find(name) {
        Some(found) => file.weights(found, shape),
        None => Err(not_found(path, network, &format!("{}{name}", names.prefix), names.all())),
    })?;
    let own: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    match names
        .tensors
        .iter()
        .find(|(name, _)| !own.contains(&name[..]) && !LEFT_OUT.iter().any(|part| name.contains(part)))
    {
        None => Ok(encoder),
        Some((_, found)) => {
            let problem =
                format!("expected the tensors of {network}, found {} too, which it does not have", escape::name(found));
            Err(Error::file(path, problem))
        }
    }
}

/// Reads all parameters of a model from a file that holds nothing else of it: under this program's names
/// (`docs/data.md`), or a checkpoint of the original, with an image encoder or without.
///
/// The original keeps a list of two: the image side and the caption side. `module` in a name, from `DataParallel`, is
/// ignored, and so are the counters of norms.
///
/// # Errors
///
/// If the architecture is not one of a model; if the file cannot be read; if a tensor of the architecture is missing,
/// occurs twice, has another shape or a number that is not finite; or if there is another tensor.
pub fn read_parameters(architecture: &Architecture, path: &Path) -> Result<Parameters<f32>> {
    architecture.check()?;
    parameters_of(architecture, &TensorFile::read(path)?)
}

/// The parameters of a model from an open file, as [`read_parameters`].
pub(crate) fn parameters_of(architecture: &Architecture, file: &TensorFile) -> Result<Parameters<f32>> {
    let mut left: BTreeMap<String, &str> = BTreeMap::new();
    for name in file.names().filter(|name| !name.ends_with(COUNTER)) {
        let own = own_name(name);
        if let Some(other) = left.insert(own.clone(), name) {
            let [first, second] = [other, name].map(escape::name);
            return Err(Error::file(file.path(), format!("expected one tensor {own}, found {first} and {second}")));
        }
    }
    let mut parameters = Parameters::zeros(architecture);
    parameters.fill(|name, shape| {
        let stored = left.remove(name);
        file.weights(stored.unwrap_or(name), shape)
    })?;
    match left.values().next() {
        None => Ok(parameters),
        Some(more) => {
            Err(Error::file(file.path(), format!("{}: the architecture has no such tensor", escape::name(more))))
        }
    }
}

/// Whether a file holds parameters of a model without this program's metadata.
pub(crate) fn has_parameters(file: &TensorFile) -> bool {
    file.metadata().is_none() && file.names().any(|name| own_name(name).starts_with("img_enc."))
}

/// This program's name of a tensor.
fn own_name(name: &str) -> String {
    let name = without_module(name);
    let side = |place: &str, own: &str| name.strip_prefix(place).map(|rest| format!("{own}.{rest}"));
    side("model.0.", "img_enc").or_else(|| side("model.1.", "txt_enc")).unwrap_or(name)
}

fn not_found<'f>(path: &Path, network: Network, name: &str, mut names: impl Iterator<Item = &'f str>) -> Error {
    let mut found: Vec<_> = names.by_ref().take(4).map(escape::name).collect();
    if names.next().is_some() {
        found.push("…".into());
    }
    Error::file(path, format!("{network}: expected a tensor {name}, found only: {}", found.join(", ")))
}

/// The names of a file's tensors below a prefix, as an encoder calls them, with those that the file has.
struct Names<'f> {
    prefix: String,
    tensors: Vec<(String, &'f str)>,
}

impl<'f> Names<'f> {
    /// The shortest prefix below which there is a tensor of the name `first`. None if there is none.
    fn of(file: impl Iterator<Item = &'f str>, first: &str) -> Option<Self> {
        let all: Vec<(String, &str)> = file.map(|name| (without_module(name), name)).collect();
        let prefixes = all.iter().filter_map(|(name, _)| name.strip_suffix(first));
        let prefix =
            prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).min_by_key(|p| p.len())?.to_owned();
        let below = all.into_iter().filter_map(|(name, found)| Some((name.strip_prefix(&prefix)?.to_owned(), found)));
        let mut tensors: Vec<(String, &str)> = below.collect();
        if tensors.iter().any(|(name, _)| name == "classifier.1.weight") {
            for (name, _) in &mut tensors {
                if let Some((old, new)) = OLD.iter().find(|(old, _)| name.starts_with(old)) {
                    *name = name.replacen(old, new, 1);
                }
            }
        }
        Some(Self { prefix, tensors })
    }

    fn find(&self, name: &str) -> Option<&'f str> {
        self.tensors.iter().find(|(own, _)| own == name).map(|(_, found)| *found)
    }

    fn all(&self) -> impl Iterator<Item = &'f str> {
        self.tensors.iter().map(|(_, found)| *found)
    }
}

/// `cnn.module.conv1.weight` as `cnn.conv1.weight`.
fn without_module(name: &str) -> String {
    name.split('.').filter(|part| *part != "module").collect::<Vec<_>>().join(".")
}
