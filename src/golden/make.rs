//! Makes a suite: golden values, tolerances, the mistakes that each case catches, and the files.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::ArrayD;
use rayon::prelude::*;
use serde_json::Value;

use super::cases::{Case, Expected, FLAGS};
use super::compare::{Found, check_case};
use super::difference::{extent, is_padded, lengths_of};
use super::inputs::{RNN, rnn};
use super::mistakes;
use super::pictures::layout::PictureLayout;
use super::plain::{Entry, Kind};
use super::program::{Margins, Program, Settings};
use super::relations::planted::{Planting, Until, Way};
use super::stage::Stage;
use super::suite::{CaseEntry, FORMAT, Format, GoldenCase, Manifest, TensorEntry, json, sha256};
use super::tolerance::{self, Measured, Profile, Tolerances};
use crate::error::{Error, Result};
use crate::files::{TensorWriter, write_atomically};
use crate::interop::{Layout, convert};
use crate::loss::Violation;
use crate::nn::GruLayer;

/// The equations' labels of a program.
fn equations(program: Program, settings: &Settings) -> Vec<String> {
    let gru = ["GRU-1", "GRU-2", "GRU-3", "GRU-4"];
    let measure = match settings.measure {
        crate::similarity::Measure::Cosine => "SIM-1",
        crate::similarity::Measure::Order => "SIM-2",
        crate::similarity::Measure::OrderSquared => "SIM-3",
    };
    let violation = match settings.hinge().violation {
        Violation::Sum => "SH-1",
        Violation::Max => "MH-1",
        Violation::Hardest(_) => "KH-1",
        Violation::LogSumExp(_) => "LSE-1",
        Violation::SemiHard => "SEMI-1",
    };
    let loss = ["HINGE-1", "HINGE-2", violation, "LOSS-1"];
    let adam = ["CLIP-1", "CLIP-2", "ADAM-1", "ADAM-2", "ADAM-3"];
    let norm = if settings.training { &["BN-1", "BN-2", "BN-3"][..] } else { &["BN-2"] };
    let labels: Vec<&str> = match program {
        Program::GruCell => gru.to_vec(),
        Program::Gru => [&gru[..], &["TXT-1"]].concat(),
        Program::Embedding => vec!["EMB-1"],
        Program::Linear => vec!["LIN-1"],
        Program::L2norm => vec!["NORM-1", "NORM-2"],
        Program::Scores => vec![measure],
        Program::Loss => loss.to_vec(),
        Program::Optimiser => adam.to_vec(),
        Program::Model => {
            let mut labels = [&["EMB-1", "LIN-1"][..], &gru, &["TXT-1", "TXT-2", "IMG-1", "NORM-1", "NORM-2"]].concat();
            if settings.use_abs {
                labels.push("ABS-1");
            }
            labels.push(measure);
            labels.extend(loss);
            if settings.steps > 0 {
                labels.extend(adam);
            }
            labels
        }
        Program::Conv => vec!["CONV-1"],
        Program::BatchNorm => norm.to_vec(),
        Program::MaxPool => vec!["MAXPOOL-1"],
        Program::AvgPool => vec!["AVGPOOL-1"],
        Program::Block => [&["CONV-1"], norm, &["RELU-1", "BLOCK-1", "BLOCK-2"][..]].concat(),
        Program::Resnet => {
            let mut labels = [&["CONV-1"], norm, &["RELU-1"][..]].concat();
            if settings.pool {
                labels.push("MAXPOOL-1");
            }
            labels.extend(["BLOCK-1", "BLOCK-2", "AVGPOOL-1", "FLAT-1", "RESNET-1", "RESNET-2"]);
            labels
        }
        Program::Vgg => {
            vec!["CONV-1", "RELU-1", "MAXPOOL-1", "AVGPOOL-1", "FLAT-1", "LIN-1", "VGG-1", "VGG-2"]
        }
    };
    labels.into_iter().map(Into::into).collect()
}

/// Expected matrices of a loss with at least this many numbers (B = 128) are not written. They follow from
/// the scores, and a reader of the suite computes them again ([`GoldenCase::from_file`]).
const COMPUTED: usize = 128 * 128;

/// A case ready to be written: its entry, and the tensors of its file.
#[derive(Debug)]
pub(crate) struct Written {
    /// The manifest's entry.
    pub entry: CaseEntry,
    /// The tensors.
    pub tensors: TensorWriter,
}

/// Whether an input holds ids or counts.
fn is_integer(name: &str) -> bool {
    matches!(name, "in.captions" | "in.lengths" | "in.image_ids" | "in.step")
}

/// Adds a tensor to a writer and returns its entry, without tolerances.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole numbers, and f32 by definition
fn add(writer: &mut TensorWriter, name: &str, kind: Kind, single: bool, values: &ArrayD<f64>) -> Result<TensorEntry> {
    let shape = values.shape().to_vec();
    let dtype = match kind {
        Kind::Index => {
            writer.add_integers(name, &shape, &values.iter().map(|&x| x as i64).collect::<Vec<_>>())?;
            "I64"
        }
        Kind::Mask => {
            writer.add_bytes(name, &shape, &values.iter().map(|&x| x as u8).collect::<Vec<_>>())?;
            "U8"
        }
        Kind::Real if single => {
            writer.add(name, &values.mapv(|x| x as f32).view());
            "F32"
        }
        Kind::Real => {
            writer.add(name, &values.view());
            "F64"
        }
    };
    Ok(TensorEntry {
        name: name.into(),
        dtype: dtype.into(),
        shape,
        sha256: sha256(dtype, values),
        scale: None,
        rows: false,
        padded: false,
        computed: false,
        exact: kind != Kind::Real,
        tolerance: Tolerances::new(),
    })
}

/// Which parts of a case are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MakeOptions<'a> {
    /// The profiles whose tolerances are measured.
    pub profiles: &'a [Profile],
    /// Layouts in which the GRU's weights are added.
    pub layouts: &'a [Layout],
    /// Layouts in which pictures and kernels are added.
    pub of_pictures: &'a [PictureLayout],
    /// Whether per-step values of the GRU are written too.
    pub steps: bool,
    /// Whether to find out which mistakes the case catches.
    pub kills: bool,
    /// Whether inputs are written as `f32` (those of the suite are; a user's keep their type).
    pub single: bool,
    /// Whether the cases are wide, so that fewer honest ways are enough; see [`tolerance::measure`].
    pub wide: bool,
}

impl Case {
    /// Computes everything that is written for this case.
    ///
    /// # Errors
    ///
    /// As [`Program::run`], except for a case that must be refused.
    pub(crate) fn make(&self, options: MakeOptions<'_>) -> Result<Written> {
        let mut writer = TensorWriter::default();
        let mut tensors: Vec<TensorEntry> = Vec::new();
        for (name, values) in &self.inputs {
            let kind = if is_integer(name) { Kind::Index } else { Kind::Real };
            tensors.push(add(&mut writer, name, kind, options.single, values)?);
        }
        for &layout in options.layouts {
            for (name, values) in self.converted(layout)? {
                tensors.push(add(&mut writer, &name, Kind::Real, options.single, &values)?);
            }
        }
        for &layout in options.of_pictures {
            for (name, values) in self.inputs.iter().filter(|(_, values)| values.ndim() == 4) {
                let turned = layout.turned_from(name, values);
                tensors.push(add(
                    &mut writer,
                    &format!("layout.{layout}.{name}"),
                    Kind::Real,
                    options.single,
                    &turned,
                )?);
            }
        }
        let mut margins = Margins::NONE;
        let mut expected = BTreeMap::new();
        if self.expected != Expected::Invalid {
            let measured =
                tolerance::measure(self.program, &self.settings, &self.inputs, options.profiles, options.wide)?;
            margins = measured.golden.margins;
            tensors.extend(self.expected_entries(&mut writer, &measured, options.steps)?);
            expected = measured.golden.trace.entries.into_iter().map(|entry| (entry.name, entry.values)).collect();
        }
        let keys = self.program.keys();
        let config = serde_json::to_value(&self.settings).map_err(|e| Error::mismatch(e.to_string()))?;
        let config = config.as_object().into_iter().flatten().filter(|(key, _)| keys.contains(&key.as_str()));
        let mut entry = CaseEntry {
            id: self.id.clone(),
            family: self.family.into(),
            program: self.program,
            equations: equations(self.program, &self.settings),
            note: self.note.clone(),
            flags: self.flags.iter().map(|&flag| flag.into()).collect(),
            result: self.expected,
            config: config.map(|(key, value)| (key.clone(), value.clone())).collect(),
            margins,
            kills: Vec::new(),
            tensors,
        };
        if options.kills && self.expected == Expected::Valid {
            let golden = GoldenCase { entry: entry.clone(), inputs: self.inputs.clone(), expected };
            entry.kills = kills(&golden)?;
        }
        Ok(Written { entry, tensors: writer })
    }

    fn expected_entries(
        &self,
        writer: &mut TensorWriter,
        measured: &Measured,
        steps: bool,
    ) -> Result<Vec<TensorEntry>> {
        let lengths = lengths_of(&self.inputs);
        let kept = |entry: &Entry<f64>| steps || !is_padded(self.program, &entry.name);
        let entries = measured.golden.trace.entries.iter().zip(&measured.tolerances).filter(|(entry, _)| kept(entry));
        entries
            .map(|(entry, tolerances)| {
                if self.program.stage(&entry.name) == Stage::UNKNOWN {
                    let (name, program) = (&entry.name, self.program.name());
                    return Err(Error::mismatch(format!(
                        "{name}: expected a tensor of a stage of the program {program}"
                    )));
                }
                let computed = self.program == Program::Loss && entry.values.len() >= COMPUTED;
                let mut left_out = TensorWriter::default();
                let into = if computed { &mut left_out } else { &mut *writer };
                let mut out = add(into, &entry.name, entry.kind, false, &entry.values)?;
                let extent = extent(self.program, &entry.name, lengths.as_deref());
                out.computed = computed;
                out.rows = extent.rows;
                out.padded = extent.lengths.is_some();
                if entry.kind == Kind::Real {
                    let scales = extent.scales(&entry.values);
                    out.scale = Some(scales.into_iter().fold(0.0, f64::max));
                }
                out.tolerance.clone_from(tolerances);
                Ok(out)
            })
            .collect()
    }

    /// The GRU's weights in the layout of another library, `layout.<library>.l{k}.<tensor>`.
    fn converted(&self, layout: Layout) -> Result<Vec<(String, ArrayD<f64>)>> {
        let mut all = Vec::new();
        for k in 0.. {
            let [Some(w_ih), Some(w_hh), Some(b_ih), Some(b_hh)] =
                RNN.map(|part| self.inputs.get(&format!("param.{}", rnn(part, k))))
            else {
                break;
            };
            let layer = GruLayer {
                weight_ih: shaped(w_ih)?,
                weight_hh: shaped(w_hh)?,
                bias_ih: shaped(b_ih)?,
                bias_hh: shaped(b_hh)?,
            };
            all.extend(
                convert(&layer, layout)
                    .into_iter()
                    .map(|(name, values)| (format!("layout.{layout}.l{k}.{name}"), values)),
            );
        }
        Ok(all)
    }
}

fn shaped<D: ndarray::Dimension>(x: &ArrayD<f64>) -> Result<ndarray::Array<f64, D>> {
    x.clone().into_dimensionality().map_err(|e| Error::mismatch(e.to_string()))
}

/// The mistakes that a case catches by at least ten times the `f32` tolerance.
fn kills(golden: &GoldenCase) -> Result<Vec<String>> {
    const CLEARLY: f64 = 10.0;
    let planting = Planting::new(golden)?;
    let caught = mistakes::ALL.par_iter().filter(|mistake| {
        [true, false].into_iter().any(|autograd| {
            let values = planting.values(&[mistake], Way { autograd, single: false, until: Until::End });
            values.is_some_and(|values| {
                let kind = |name: &str| if golden.is_exact(name) { Kind::Index } else { Kind::Real };
                let mut all = golden.expected.clone();
                all.extend(values);
                let found = all.into_iter().map(|(name, x)| (name.clone(), Found::computed(kind(&name), x)));
                check_case(golden, &found.collect(), Profile::F32).is_ok_and(|report| report.worst() >= CLEARLY)
            })
        })
    });
    Ok(caught.map(|mistake| mistake.id.to_owned()).collect())
}

/// The JSON Schema of `manifest.json`.
const SCHEMA: &str = include_str!("manifest.schema.json");
/// What is different in the schema of a suite of pictures, as a merge patch (RFC 7396).
const PATCH_OF_PICTURES: &str = include_str!("pictures/schema.patch.json");

/// The JSON Schema of a manifest.
///
/// # Errors
///
/// If the schema is not JSON.
fn schema(manifest: &Manifest) -> Result<String> {
    /// null takes a key away, an object changes some keys, anything else takes the place of what was there.
    fn merge(into: &mut Value, patch: Value) {
        match (into.as_object_mut(), patch) {
            (Some(into), Value::Object(patch)) => {
                for (key, value) in patch {
                    if value.is_null() {
                        into.shift_remove(&key);
                    } else {
                        merge(into.entry(key).or_insert(Value::Null), value);
                    }
                }
            }
            (_, patch) => *into = patch,
        }
    }
    if !manifest.cases.iter().any(|case| case.program.is_of_pictures()) {
        return Ok(SCHEMA.into());
    }
    let parsed = |text: &str| serde_json::from_str(text).map_err(|e| Error::mismatch(e.to_string()));
    let mut schema: Value = parsed(SCHEMA)?;
    merge(&mut schema, parsed(PATCH_OF_PICTURES)?);
    Ok(format!("{schema:#}\n"))
}

/// Writes a suite into a folder: the cases, the manifest, its schema.
///
/// # Errors
///
/// If a case cannot be computed, or if writing fails.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    cases: &[Case],
    format: Format,
    options: MakeOptions<'_>,
    done: impl Fn(&str) + Sync,
) -> Result<Manifest> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
    let write_one = |case: &Case| {
        let Written { entry, tensors } = case.make(options)?;
        let path = folder.join(format!("{}.{}", case.id, format.extension()));
        let short = CaseEntry { tensors: Vec::new(), ..entry.clone() };
        write_file(&path, &tensors, &short, format)?;
        done(&case.id);
        Ok(entry)
    };
    // Large cases are parallel inside, and together they would not fit into memory.
    let large = cases.iter().any(|case| case.inputs.values().map(ArrayD::len).sum::<usize>() > 1 << 20);
    let entries: Result<Vec<CaseEntry>> =
        if large { cases.iter().map(write_one).collect() } else { cases.par_iter().map(write_one).collect() };
    let cases = entries?;
    let used = |flag: &str| cases.iter().any(|case| case.flags.iter().any(|of_case| of_case == flag));
    let flags = FLAGS.iter().filter(|(flag, _)| used(flag));
    let flags = flags.map(|&(flag, says)| (flag.to_owned(), says.to_owned())).collect();
    let mut kills: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, case) in cases.iter().enumerate() {
        for mistake in &case.kills {
            kills.entry(mistake.clone()).or_default().push(place);
        }
    }
    let manifest = Manifest { format: FORMAT, suite: name.into(), flags, kills, cases };
    write_atomically(&folder.join("manifest.json"), manifest.to_text()?.as_bytes())?;
    write_atomically(&folder.join("manifest.schema.json"), schema(&manifest)?.as_bytes())?;
    Ok(manifest)
}

/// Writes one case's file. Its entry goes into the metadata, except in npz, which has none.
///
/// # Errors
///
/// If writing fails.
pub(crate) fn write_file(path: &Path, tensors: &TensorWriter, entry: &CaseEntry, format: Format) -> Result<()> {
    match format {
        Format::Safetensors => tensors.write_safetensors(path, Some(json(entry)?)),
        Format::Npz => tensors.write_npz(path),
    }
}
