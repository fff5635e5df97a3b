//! Checkpoints: safetensors with the parameters under the original's names.
//!
//! `last.safetensors` holds everything needed to continue with the same bits: parameters, Adam's
//! moments (`adam.m.*`, `adam.v.*`) and, as JSON in the metadata, the settings, the step, the epoch,
//! the position in it, the best score, and digests of the other files of the run folder. No state of a
//! random generator is needed, because the order of an epoch is a function of seed and epoch.
//! `best.safetensors` holds the parameters and the same metadata. `PyTorch` reads both with
//! `safetensors.torch.load_file`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ndarray::{ArrayD, Dimension};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::progress::Progress;
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::files::{ElementType, Places, SafetensorsHead, TensorWriter, digest, open_regular, reserve};
use crate::model::{Architecture, Config, Parameters, Vse};
use crate::nn::Module;
use crate::optim::{Adam, Moments};

/// The metadata of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    format: String,
    /// The digest of the whole file, with zeros instead of these digits.
    digest: String,
    /// Sizes and switches.
    pub architecture: Architecture,
    /// The settings it was trained with.
    pub config: Config,
    /// What it was trained on.
    pub(crate) data: Fingerprints,
    /// [`crate::data::Vocabulary::fingerprint`] of the vocabulary it was trained with.
    pub(crate) vocabulary: String,
    /// How far the training had got.
    pub progress: Progress,
    /// The other files that belong to it; only in `last.safetensors`.
    pub(crate) folder: Option<FolderState>,
}

/// Identifies the data that a run is trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fingerprints {
    /// Of the training split.
    pub train: String,
    /// Of the dev split.
    pub dev: String,
}

/// The other files of a run folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FolderState {
    /// [`Checkpoint::digest`] of `best.safetensors`, if there is one.
    pub best: Option<String>,
    /// Bytes of `metrics.jsonl` that belong to this checkpoint.
    pub metrics_bytes: u64,
    /// Their SHA-256.
    pub metrics_sha256: String,
}

/// Replaces the digest while the digest is computed.
const NO_DIGEST: [u8; 64] = [b'0'; 64];

impl Checkpoint {
    const FORMAT: &str = "vsepp-checkpoint-2";
    const EARLIER: &str = "vsepp-checkpoint-1";

    /// The metadata of a checkpoint that is to be written.
    #[must_use]
    pub(crate) fn new(
        architecture: Architecture,
        config: Config,
        data: Fingerprints,
        vocabulary: String,
        progress: Progress,
    ) -> Self {
        let digest = String::from_utf8_lossy(&NO_DIGEST).into_owned();
        Self { format: Self::FORMAT.into(), digest, architecture, config, data, vocabulary, progress, folder: None }
    }

    /// The checksum of the file it was read from: SHA-256 of the digests of its blocks.
    #[must_use]
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// The bytes of the file, and its digest.
    ///
    /// # Errors
    ///
    /// If the format cannot hold it.
    pub(crate) fn to_bytes(&self, parameters: &Parameters<f32>, adam: Option<&Adam<f32>>) -> Result<(Vec<u8>, String)> {
        let mut writer = TensorWriter::default();
        parameters.each(|path, _, tensor| writer.add(path.to_string(), &tensor));
        if let Some(adam) = adam {
            adam.moments.iter().for_each(|Moments { name, m, .. }| writer.add(format!("adam.m.{name}"), &m.view()));
            adam.moments.iter().for_each(|Moments { name, v, .. }| writer.add(format!("adam.v.{name}"), &v.view()));
        }
        let undigested = Self { digest: String::from_utf8_lossy(&NO_DIGEST).into_owned(), ..self.clone() };
        let json = serde_json::to_string(&undigested).map_err(|e| Error::mismatch(format!("checkpoint: {e}")))?;
        let mut bytes = writer.to_safetensors(Some(json))?;
        let digest = digest(&bytes);
        let place = digest_place(&mut bytes).ok_or_else(|| Error::mismatch("checkpoint: no place for its digest"))?;
        place.copy_from_slice(digest.as_bytes());
        Ok((bytes, digest))
    }

    /// Writes the file by itself, outside a run folder.
    #[cfg(test)]
    pub(super) fn write(&self, path: &Path, parameters: &Parameters<f32>, adam: Option<&Adam<f32>>) -> Result<()> {
        crate::files::write_atomically(path, &self.to_bytes(parameters, adam)?.0)
    }

    /// Reads a checkpoint's metadata, its parameters, and its moments if it has them.
    ///
    /// # Errors
    ///
    /// If the file is missing, truncated, changed since it was written, or not written by this program; if
    /// its metadata contradict each other; or if a tensor is missing or unexpected, or has the wrong type,
    /// the wrong shape or a number that is not finite. Sizes are compared with the length of the file before
    /// any memory is allocated for them.
    pub fn read(path: &Path) -> Result<(Self, Parameters<f32>, Option<Adam<f32>>)> {
        let head = Head::read(path)?;
        let checkpoint = head.checkpoint(path)?;
        let broken = |problem: String| Error::file(path, problem);
        let has_adam = head.tensors.keys().any(|name| name.starts_with("adam."));
        let config = checkpoint.config.clone().check().map_err(|e| broken(e.to_string()))?;
        let moving = if has_adam { checkpoint.architecture.moving(&config.groups()) } else { Vec::new() };
        check_tensors(&head.tensors, &checkpoint.architecture, &moving).map_err(broken)?;
        let (bytes, found) = head.read_rest(path)?;
        if found != checkpoint.digest {
            let problem =
                format!("the file was damaged or changed: expected the digest {}, found {found}", checkpoint.digest);
            return Err(broken(problem));
        }
        checkpoint.check().map_err(broken)?;
        let read = |name: &str, shape: &[usize]| read_tensor(&head.tensors, &bytes, name, shape).map_err(broken);
        let mut parameters = Parameters::zeros(&checkpoint.architecture);
        parameters.fill(|name, shape| read(name, shape))?;
        let moments = |(name, shape): (String, Vec<usize>)| {
            let m = read(&format!("adam.m.{name}"), &shape)?;
            Ok(Moments { m, v: read(&format!("adam.v.{name}"), &shape)?, name })
        };
        let adam = if has_adam {
            let moments = moving.into_iter().map(moments).collect::<Result<_>>()?;
            Some(Adam::after(checkpoint.progress.step, moments, config.groups()))
        } else {
            None
        };
        Ok((checkpoint, parameters, adam))
    }

    /// # Errors
    ///
    /// If the file is not a checkpoint of this program, of any version.
    pub(super) fn check_kind(path: &Path) -> Result<()> {
        let format = Head::read(path)?.metadata(path)?["format"].take();
        match format.as_str() {
            Some(format) if format.starts_with("vsepp-checkpoint-") => Ok(()),
            _ => Err(Error::file(path, "not a checkpoint of this program")),
        }
    }

    /// Reads the metadata without the tensors.
    pub(super) fn read_head(path: &Path) -> Result<Self> {
        Head::read(path)?.checkpoint(path)
    }

    /// Checks that sizes, settings and progress fit each other.
    fn check(&self) -> std::result::Result<(), String> {
        let config = self.config.clone().check().map_err(|e| e.to_string())?;
        let Architecture { vocab_size, img_dim, .. } = self.architecture;
        let expected = config.architecture(vocab_size, img_dim);
        if self.architecture != expected {
            return Err(format!("architecture: expected {expected:?}, by the settings, found {:?}", self.architecture));
        }
        self.progress.check(&self.config)
    }

    /// # Errors
    ///
    /// If the model was trained with another vocabulary.
    pub(crate) fn check_vocabulary(&self, vocabulary: &Vocabulary, file: &Path) -> Result<()> {
        if self.vocabulary == vocabulary.fingerprint() && self.architecture.vocab_size == vocabulary.len() {
            return Ok(());
        }
        let problem = format!(
            "the vocabulary does not fit the checkpoint: expected V = {} words with fingerprint {}, found {} with {}",
            self.architecture.vocab_size,
            self.vocabulary,
            vocabulary.len(),
            vocabulary.fingerprint()
        );
        Err(Error::file(file, problem))
    }
}

/// An open checkpoint, without its numbers.
struct Head {
    file: File,
    length: u64,
    /// The header and the eight bytes with its length.
    bytes: Vec<u8>,
    tensors: Places,
    json: Option<String>,
}

impl Head {
    /// A header has a line for each tensor, at most 783 of them, and the settings.
    const LARGEST: u64 = 1 << 20;

    fn read(path: &Path) -> Result<Self> {
        let (mut file, length) = open_regular(path)?;
        let what = "not a checkpoint, or a truncated file";
        let head = SafetensorsHead::read(path, (&mut file, length), Vec::new(), Self::LARGEST, what)?;
        Ok(Self { file, length, bytes: head.bytes, tensors: head.places, json: head.metadata })
    }

    /// The metadata of a checkpoint of any version.
    fn metadata(&self, path: &Path) -> Result<Value> {
        let json = self.json.as_ref().ok_or_else(|| {
            Error::file(path, "not a checkpoint of this program: expected the metadata key `vsepp`, found none")
        })?;
        serde_json::from_str(json).map_err(|e| not_ours(path, &e))
    }

    /// The metadata of a checkpoint of this version, with sizes that a model can have.
    fn checkpoint(&self, path: &Path) -> Result<Checkpoint> {
        let broken = |problem: String| Error::file(path, problem);
        let value = self.metadata(path)?;
        match value["format"].as_str() {
            Some(Checkpoint::FORMAT) | None => {}
            Some(Checkpoint::EARLIER) => {
                let problem = format!(
                    "format: expected {}, found {}, from an earlier version of this program, which kept no checksums: \
                     train again (the settings are in config.toml, for --config)",
                    Checkpoint::FORMAT,
                    Checkpoint::EARLIER
                );
                return Err(broken(problem));
            }
            Some(other) => return Err(broken(format!("format: expected {}, found {other:?}", Checkpoint::FORMAT))),
        }
        let checkpoint: Checkpoint = serde_json::from_value(value).map_err(|e| not_ours(path, &e))?;
        checkpoint.architecture.check().map_err(|e| broken(e.to_string()))?;
        Ok(checkpoint)
    }

    /// The bytes of the file, and their digest.
    fn read_rest(&self, path: &Path) -> Result<(Vec<u8>, String)> {
        let mut bytes = Vec::new();
        reserve(&mut bytes, self.length).map_err(|problem| Error::file(path, problem))?;
        bytes.extend_from_slice(&self.bytes);
        let rest = self.length - self.bytes.len() as u64;
        (&self.file).take(rest).read_to_end(&mut bytes).map_err(|e| Error::io(path, "read", e))?;
        if let Some(place) = digest_place(&mut bytes[..self.bytes.len()]) {
            place.copy_from_slice(&NO_DIGEST);
        }
        let digest = digest(&bytes);
        Ok((bytes, digest))
    }
}

fn not_ours(path: &Path, error: &serde_json::Error) -> Error {
    Error::file(path, format!("not a checkpoint of this version of the program: {error}"))
}

/// The 64 digits of the digest in a header; quotes are escaped, because it is JSON inside a JSON string.
fn digest_place(bytes: &mut [u8]) -> Option<&mut [u8]> {
    const BEFORE: &[u8] = br#"\"digest\":\""#;
    let at = bytes.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
    bytes.get_mut(at..at + NO_DIGEST.len())
}

/// Checks that the file has the tensors of the architecture and the moments of those that move, with their types and
/// shapes, and no others.
fn check_tensors(
    found: &Places,
    architecture: &Architecture,
    moving: &[(String, Vec<usize>)],
) -> std::result::Result<(), String> {
    let tensors = architecture.tensors();
    let lists = [("", &tensors[..]), ("adam.m.", moving), ("adam.v.", moving)];
    let all = lists.iter().flat_map(|(prefix, list)| list.iter().map(move |(name, s)| (format!("{prefix}{name}"), s)));
    let expected: Vec<(String, &Vec<usize>)> = all.collect();
    let missing: Vec<&str> =
        expected.iter().map(|(name, _)| name.as_str()).filter(|name| !found.contains_key(*name)).collect();
    let mut extra: Vec<&str> =
        found.keys().map(String::as_str).filter(|name| !expected.iter().any(|(other, _)| other == name)).collect();
    extra.sort_unstable();
    for (what, names) in [("expected but not found", &missing), ("found but not expected", &extra)] {
        if !names.is_empty() {
            let more = if names.len() > 4 { format!(" and {} more", names.len() - 4) } else { String::new() };
            let shown: Vec<String> = names.iter().take(4).map(|name| format!("{name:?}")).collect();
            return Err(format!("tensors {what}: {}{more}", shown.join(", ")));
        }
    }
    for (name, shape) in expected {
        let tensor = found[&name].as_ref().map_err(|problem| format!("{name}: {problem}"))?;
        if tensor.element != ElementType::F32 {
            return Err(format!("{name}: expected numbers of type F32, found {}", tensor.element));
        }
        if tensor.shape != *shape {
            return Err(format!("{name}: expected shape {shape:?}, found {:?}", tensor.shape));
        }
    }
    Ok(())
}

fn read_tensor(places: &Places, file: &[u8], name: &str, shape: &[usize]) -> std::result::Result<ArrayD<f32>, String> {
    let place = places.get(name).and_then(|place| place.as_ref().ok());
    let bytes = place.and_then(|place| place.of(file));
    let bytes = bytes.ok_or_else(|| format!("{name}: its numbers are not in the file"))?;
    let mut tensor = ArrayD::zeros(shape);
    for (x, number) in tensor.iter_mut().zip(bytes.as_chunks().0) {
        *x = f32::from_le_bytes(*number);
    }
    if !tensor.iter().fold(true, |all, x| all & x.is_finite())
        && let Some((index, value)) = tensor.indexed_iter().find(|(_, x)| !x.is_finite())
    {
        return Err(format!("{name}: {value} at {:?}: every value must be finite", index.slice()));
    }
    Ok(tensor)
}

/// A trained model from a checkpoint.
///
/// # Errors
///
/// As [`Checkpoint::read`].
pub(crate) fn load_model(path: &Path) -> Result<(Vse<f32>, Checkpoint)> {
    let (checkpoint, parameters, _) = Checkpoint::read(path)?;
    Ok((Vse { architecture: checkpoint.architecture, parameters }, checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Evaluation, Recall};
    use crate::train::Best;
    use crate::train::progress::EpochTotals;

    fn small() -> (Checkpoint, Parameters<f32>, Adam<f32>) {
        let config = Config { embed_size: 4, word_dim: 3, num_epochs: 2, batch_size: 8, ..Config::default() };
        let architecture = config.clone().check().unwrap().architecture(7, 5);
        let recall = Recall { r1: 0.1, r5: 0.2, r10: 0.1 + 0.2, ..Recall::default() };
        let rsum = 0.1 + 0.2 + (0.1 + 0.2);
        let dev = Evaluation { image_to_text: recall, rsum, ..Evaluation::default() };
        let totals = EpochTotals { pairs: 16, loss: 1.0 / 3.0, ..EpochTotals::default() };
        let best = Some(Best { epoch: 1, dev });
        let progress = Progress { step: 12, epoch: 1, batch: 2, totals, best, ..Progress::default() };
        let data = Fingerprints { train: "a".into(), dev: "b".into() };
        let parameters = Parameters::init(&architecture, 3);
        let mut adam = Adam::new(&parameters);
        adam.step = 12;
        for Moments { m, v, .. } in &mut adam.moments {
            m.fill(1.0e-42); // a subnormal number
            v.fill(0.1);
        }
        (Checkpoint::new(architecture, config, data, "abc".into(), progress), parameters, adam)
    }

    #[test]
    fn everything_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (mut checkpoint, parameters, adam) = small();
        checkpoint.config.seed = u64::MAX;
        let files = FolderState { best: None, metrics_bytes: u64::MAX, metrics_sha256: "x".into() };
        checkpoint.folder = Some(files);
        checkpoint.write(&path, &parameters, Some(&adam)).unwrap();
        let (found, read_parameters, read_adam) = Checkpoint::read(&path).unwrap();
        assert_eq!(Checkpoint { digest: checkpoint.digest.clone(), ..found.clone() }, checkpoint);
        assert_eq!((read_parameters, read_adam), (parameters.clone(), Some(adam.clone())));
        assert_eq!(Checkpoint::read_head(&path).unwrap(), found);
        // PyTorch and this crate's own reader of tensors read it too.
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 21);
        assert_eq!(found.to_bytes(&parameters, Some(&adam)).unwrap(), (bytes, found.digest.clone()));
    }

    #[test]
    fn a_byte_that_changed_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (checkpoint, parameters, adam) = small();
        checkpoint.write(&path, &parameters, Some(&adam)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(Checkpoint::read(&path).is_err(), "byte {at} of {}", bytes.len());
        }
        for length in (0..bytes.len()).step_by(7) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(Checkpoint::read(&path).is_err(), "{length} bytes");
        }
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(Checkpoint::read(&path).unwrap_err().to_string().contains("damaged or changed: expected the digest"));
        std::fs::write(&path, bytes).unwrap();
        Checkpoint::read(&path).unwrap();
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let message = || Checkpoint::read(&path).unwrap_err().to_string();
        let (checkpoint, parameters, _) = small();
        checkpoint.write(&path, &parameters, None).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        assert!(message().contains("truncated"), "{}", message());
        let mut writer = TensorWriter::default();
        writer.add("weight", &ndarray::array![1.0f32].view().into_dyn());
        writer.write_safetensors(&path, None).unwrap();
        assert!(message().contains("not a checkpoint of this program"));
        writer.write_safetensors(&path, Some("{}".into())).unwrap();
        assert!(message().contains("not a checkpoint of this version"));
        writer.write_safetensors(&path, Some(r#"{"format": "vsepp-checkpoint-1"}"#.into())).unwrap();
        assert!(message().contains("found vsepp-checkpoint-1, from an earlier version"), "{}", message());
        std::fs::write(&path, [u64::MAX.to_le_bytes(), [b'{'; 8]].concat()).unwrap();
        assert!(message().contains("expected a header of 18446744073709551615 bytes, found 8"), "{}", message());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(message().contains("expected a regular file"), "{}", message());
    }

    #[test]
    fn what_contradicts_itself_is_named() {
        type Spoil = fn(&mut Checkpoint, &mut Parameters<f32>, &mut Adam<f32>);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let cases: [(Spoil, &str); 13] = [
            (|c, _, _| c.architecture.img_dim = 9, "img_enc.fc.weight: expected shape [4, 9], found [4, 5]"),
            (|c, _, _| c.architecture.embed_size = 9, "hidden_size = 4: expected embed_size = 9"),
            (
                |c, _, _| c.architecture.hidden_size = 10_000_000_000,
                "expected at least one layer and at most 1000000000",
            ),
            (|c, _, _| c.architecture.hidden_size = usize::MAX, "expected at least one layer and at most 1000000000"),
            (
                |c, _, _| c.architecture.vocab_size = 1 << 28,
                "txt_enc.embed.weight: expected shape [268435456, 3], found [7, 3]",
            ),
            (|c, _, _| c.architecture.num_layers = 0, "expected at least one layer"),
            (|c, _, _| c.architecture.num_layers = 2, "tensors expected but not found: \"txt_enc.rnn.weight_ih_l1\""),
            (|c, _, _| c.architecture.use_abs = true, "architecture: expected Architecture"),
            (|c, _, _| c.config.margin = -1.0, "margin = -1: expected"),
            (|c, _, _| c.progress.totals.pairs = 17, "totals.pairs: expected 16"),
            (|c, _, _| c.progress.step = u64::MAX, "step: expected at most"),
            (|_, p, _| p.img_enc.fc.bias[2] = f32::NAN, "img_enc.fc.bias: NaN at [2]"),
            (|_, _, a| a.moments[0].v[[3, 1]] = f32::INFINITY, "adam.v.img_enc.fc.weight: inf at [3, 1]"),
        ];
        for (spoil, expected) in cases {
            let (mut checkpoint, mut parameters, mut adam) = small();
            spoil(&mut checkpoint, &mut parameters, &mut adam);
            checkpoint.write(&path, &parameters, Some(&adam)).unwrap();
            let message = Checkpoint::read(&path).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}, expected {expected}");
        }
    }

    #[test]
    fn types_and_names_are_those_of_the_architecture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        let (checkpoint, parameters, _) = small();
        let json = serde_json::to_string(&checkpoint).unwrap();
        let message = |spoil: &dyn Fn(&mut TensorWriter)| {
            let mut writer = TensorWriter::default();
            parameters.each(|path, _, tensor| writer.add(path.to_string(), &tensor));
            spoil(&mut writer);
            writer.write_safetensors(&path, Some(json.clone())).unwrap();
            Checkpoint::read(&path).unwrap_err().to_string()
        };
        let found = message(&|w| w.add_integers("img_enc.fc.bias", &[4], &[1, 2, 3, 4]).unwrap());
        assert!(found.ends_with("img_enc.fc.bias: expected numbers of type F32, found I64"), "{found}");
        let found = message(&|w| w.add("img_enc.fc.bias", &ndarray::array![1.0f64, 2.0, 3.0, 4.0].view().into_dyn()));
        assert!(found.ends_with("img_enc.fc.bias: expected numbers of type F32, found F64"), "{found}");
        let found = message(&|w| w.add_bytes("extra", &[1], b"x").unwrap());
        assert!(found.ends_with("tensors found but not expected: \"extra\""), "{found}");
        let found = message(&|w| w.add_bytes("adam.m.x", &[1], b"x").unwrap());
        assert!(found.contains("but not found: \"adam.m.img_enc.fc.weight\", ") && found.ends_with(" more"), "{found}");
    }
}
