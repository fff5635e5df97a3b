//! The suite on disk: a manifest, and one file per case.
//!
//! ```text
//! manifest.json          what every case is: program, settings, flags, tensors, tolerances
//! manifest.schema.json   its JSON Schema
//! <id>.safetensors       in.*, param.* (f32, ids i64) and the expected values (f64, masks u8, indices i64)
//! ```
//!
//! The manifest says nothing twice. Whether a tensor is given or expected follows from its name; the stage
//! that computes it follows from its name and the program ([`Program::stage`]). The large matrices of a
//! loss follow from the scores, so they are in the manifest but not in the file ([`TensorEntry::computed`]).
//!
//! Everything is written deterministically: names in alphabetical order, one metadata key,
//! little-endian, C order. Regenerating gives the same bytes on every machine, since the golden
//! values are made of + − × ÷ √ and the pure-Rust exp and tanh, in a fixed order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cases::Expected;
use super::difference::Extent;
use super::program::{Inputs, Margins, Program, Settings};
use super::tolerance::Tolerances;
use crate::error::{Error, Result};
use crate::escape::is_obeyed;
use crate::files::{TensorFile, read_text};

/// The version of the format.
pub(crate) const FORMAT: u32 = 2;

/// `manifest.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// [`FORMAT`]
    pub format: u32,
    /// `core`, `paper`, `pictures`, `wide` or `fuzz`.
    pub suite: String,
    /// What the flags of the cases mean.
    pub flags: BTreeMap<String, String>,
    /// For each known mistake, the indices in `cases` of those that catch it by at least ten times the `f32`
    /// tolerance: the same as [`CaseEntry::kills`], by mistake.
    pub kills: BTreeMap<String, Vec<usize>>,
    /// The cases, in order.
    pub cases: Vec<CaseEntry>,
}

/// A case in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseEntry {
    /// Its name, which never changes.
    pub id: String,
    /// The family it belongs to.
    pub family: String,
    /// What it computes.
    pub program: Program,
    /// The labels of the equations, as in `docs/02-equations.md`.
    pub equations: Vec<String>,
    /// What it is for.
    pub note: String,
    /// What is special about it.
    pub flags: Vec<String>,
    /// Whether the values must be given, may be given, or the input must be refused.
    pub result: Expected,
    /// The settings that the program reads.
    pub config: serde_json::Map<String, Value>,
    /// Distance from kinks.
    pub margins: Margins,
    /// The mistakes that this case catches by at least ten times the `f32` tolerance. In the manifest they
    /// are in [`Manifest::kills`].
    #[serde(default)]
    pub kills: Vec<String>,
    /// Inputs, then expected values in the order of the data flow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorEntry>,
}

/// A tensor in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorEntry {
    /// Its name, which says whether it is given or expected.
    pub name: String,
    /// The element type in the file.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// SHA-256 of its bytes in the file.
    pub sha256: String,
    /// The largest |value| that is compared: errors are in parts of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Whether every row has its own scale.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rows: bool,
    /// Whether the tensor is padded, [B, T, …]: only t < `in.lengths` is compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub padded: bool,
    /// Whether it holds whole numbers that must be equal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Whether it is not in the file: a reader of the case computes it from the inputs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub computed: bool,
    /// [max, Frobenius] allowed under each profile that judges this tensor; for large tensors also the mean.
    #[serde(default, skip_serializing_if = "Tolerances::is_empty", with = "figures")]
    pub tolerance: Tolerances,
}

impl TensorEntry {
    /// Whether it is given (`in.*`, `param.*`, `layout.*`) and not expected (`mid.*`, `out.*`, `grad.*`,
    /// `opt.*`).
    #[must_use]
    pub(crate) fn is_input(&self) -> bool {
        ["in.", "param.", "layout."].iter().any(|prefix| self.name.starts_with(prefix))
    }

    /// Which of its elements are compared, and on what scale.
    #[must_use]
    pub(crate) fn extent<'a>(&self, lengths: Option<&'a [usize]>) -> Extent<'a> {
        Extent { rows: self.rows, lengths: lengths.filter(|_| self.padded) }
    }
}

/// Tolerances in JSON: two figures per profile, and the third if there is one.
mod figures {
    use std::collections::BTreeMap;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::golden::difference::Deviation;
    use crate::golden::tolerance::{Profile, Tolerances};

    pub(super) fn serialize<S: Serializer>(tolerances: &Tolerances, serializer: S) -> Result<S::Ok, S::Error> {
        let figures = |allowed: &Deviation| match <[f64; 3]>::from(*allowed) {
            [max, frobenius, 0.0] => vec![max, frobenius],
            all => all.to_vec(),
        };
        let all: BTreeMap<Profile, Vec<f64>> = tolerances.iter().map(|(&profile, t)| (profile, figures(t))).collect();
        all.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tolerances, D::Error> {
        let all = BTreeMap::<Profile, Vec<f64>>::deserialize(deserializer)?;
        let deviation = |(profile, figures): (Profile, Vec<f64>)| match figures[..] {
            [max, frobenius] => Ok((profile, Deviation { max, frobenius, bias: 0.0 })),
            [max, frobenius, bias] => Ok((profile, Deviation { max, frobenius, bias })),
            _ => {
                Err(D::Error::custom(format!("tolerance {profile}: expected 2 or 3 numbers, found {}", figures.len())))
            }
        };
        all.into_iter().map(deviation).collect()
    }
}

/// A case with all its numbers, as the checker needs it.
#[derive(Clone, Debug)]
pub(crate) struct GoldenCase {
    /// The manifest's entry.
    pub entry: CaseEntry,
    /// `in.*`, `param.*`
    pub inputs: Inputs,
    /// The expected values by name.
    pub expected: BTreeMap<String, ArrayD<f64>>,
}

/// The format of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// One safetensors file per case.
    #[default]
    Safetensors,
    /// One npz file per case.
    Npz,
}

impl Format {
    /// The ending of a file's name.
    #[must_use]
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
        }
    }
}

impl GoldenCase {
    /// The settings. Those that the program does not read have their defaults.
    ///
    /// # Errors
    ///
    /// If a key is unknown.
    pub(crate) fn settings(&self) -> Result<Settings> {
        serde_json::from_value(Value::Object(self.entry.config.clone()))
            .map_err(|e| Error::mismatch(format!("case {}: config: {e}", self.entry.id)))
    }

    /// Whether a tensor holds indices or a mask.
    pub(crate) fn is_exact(&self, name: &str) -> bool {
        self.entry.tensors.iter().any(|tensor| tensor.name == name && tensor.exact)
    }

    /// The expected tensors, in the order of the data flow.
    pub(crate) fn expected_entries(&self) -> impl Iterator<Item = &TensorEntry> {
        self.entry.tensors.iter().filter(|tensor| !tensor.is_input())
    }

    /// A case from its entry and its file; what is not in the file is computed.
    ///
    /// # Errors
    ///
    /// If a tensor is missing, or has another shape or other bytes than in the manifest.
    pub(crate) fn from_file(entry: CaseEntry, file: &TensorFile) -> Result<Self> {
        let (mut inputs, mut expected) = (Inputs::new(), BTreeMap::new());
        for tensor in entry.tensors.iter().filter(|tensor| !tensor.computed) {
            let values = file.get_shaped(&tensor.name, &tensor.shape)?;
            if sha256(&tensor.dtype, &values.to_owned()) != tensor.sha256 {
                let problem = format!("{}: its bytes are not those of the manifest (sha256)", tensor.name);
                return Err(Error::file(file.path(), problem));
            }
            let into = if tensor.is_input() { &mut inputs } else { &mut expected };
            into.insert(tensor.name.clone(), values.to_owned());
        }
        let mut case = Self { entry, inputs, expected };
        if case.entry.tensors.iter().any(|tensor| tensor.computed) {
            case.compute().map_err(|e| Error::file(file.path(), e.to_string()))?;
        }
        Ok(case)
    }

    /// The expected tensors that are not in the file.
    fn compute(&mut self) -> Result<()> {
        if self.entry.program != Program::Loss {
            let program = self.entry.program.name();
            return Err(Error::mismatch(format!(
                "expected every tensor of a {program} in the file, found computed ones"
            )));
        }
        let mut trace = self.entry.program.specified(&self.settings()?, &self.inputs)?.trace.entries;
        for tensor in self.entry.tensors.iter().filter(|tensor| tensor.computed) {
            let name = &tensor.name;
            let place = trace.iter().position(|entry| entry.name == *name).ok_or_else(|| {
                Error::mismatch(format!("{name}: the program {} does not compute it", self.entry.program.name()))
            })?;
            let values = trace.swap_remove(place).values;
            if values.shape() != tensor.shape {
                return Err(Error::shape(name, format!("{:?}, as the manifest says", tensor.shape), values.shape()));
            }
            if sha256(&tensor.dtype, &values) != tensor.sha256 {
                let problem =
                    format!("{name}: computed from the inputs, its bytes are not those of the manifest (sha256)");
                return Err(Error::mismatch(problem));
            }
            self.expected.insert(name.clone(), values);
        }
        Ok(())
    }
}

/// Bytes as text.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[digit as usize]))
        .collect()
}

/// SHA-256 of values, in the type in which they are written.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // they are of this type
pub(super) fn sha256(dtype: &str, values: &ArrayD<f64>) -> String {
    let mut hash = Sha256::new();
    match dtype {
        "I64" => values.iter().for_each(|&x| hash.update((x as i64).to_le_bytes())),
        "U8" => values.iter().for_each(|&x| hash.update([x as u8])),
        "F32" => values.iter().for_each(|&x| hash.update((x as f32).to_le_bytes())),
        _ => values.iter().for_each(|&x| hash.update(x.to_le_bytes())),
    }
    hexadecimal(&hash.finalize())
}

/// A suite on disk.
#[derive(Debug)]
pub struct Suite {
    folder: PathBuf,
    /// The manifest.
    pub(crate) manifest: Manifest,
}

impl Suite {
    /// Reads the manifest of a folder.
    ///
    /// # Errors
    ///
    /// If it is missing, is not a manifest, or has another format.
    pub fn open(folder: &Path) -> Result<Self> {
        /// The largest manifest in bytes, many times that of either suite.
        const MOST: u64 = 1 << 24;
        let path = folder.join("manifest.json");
        let text = read_text(&path, MOST)?;
        let not_a_manifest = |e: serde_json::Error| Error::line(&path, e.line(), format!("not a manifest: {e}"));
        // First parsed without keeping anything, because parsed values take more memory than the file.
        serde_json::from_str::<IgnoredAny>(&text).map_err(not_a_manifest)?;
        let mut manifest: Manifest = serde_json::from_str(&text).map_err(not_a_manifest)?;
        if manifest.format != FORMAT {
            let problem = format!("expected format {FORMAT}, found {}", manifest.format);
            return Err(Error::file(&path, problem));
        }
        manifest.cases.iter().try_for_each(check_entry).map_err(|problem| Error::file(&path, problem))?;
        let mut ids = BTreeSet::new();
        if let Some(twice) = manifest.cases.iter().find(|case| !ids.insert(&case.id)) {
            return Err(Error::file(&path, format!("two cases have the id {}", twice.id)));
        }
        for (mistake, places) in &manifest.kills {
            /// Each case that catches a mistake takes a copy of its name.
            const LONGEST: usize = 100;
            let mut seen = BTreeSet::new();
            if mistake.len() > LONGEST || !places.iter().all(|place| seen.insert(place)) {
                let problem = format!("kills: expected names of at most {LONGEST} bytes, and each place once");
                return Err(Error::file(&path, problem));
            }
            for &place in places {
                let count = manifest.cases.len();
                let problem = || format!("kills: {mistake}: expected the place of one of {count} cases, found {place}");
                let case = manifest.cases.get_mut(place).ok_or_else(|| Error::file(&path, problem()))?;
                case.kills.push(mistake.clone());
            }
        }
        Ok(Self { folder: folder.into(), manifest })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A case with its numbers.
    ///
    /// # Errors
    ///
    /// If its file is missing, or is not what the manifest says.
    pub(crate) fn load(&self, entry: &CaseEntry) -> Result<GoldenCase> {
        let path = Format::Safetensors.extension();
        let path = self.folder.join(format!("{}.{path}", entry.id));
        let path = if path.exists() { path } else { path.with_extension(Format::Npz.extension()) };
        GoldenCase::from_file(entry.clone(), &TensorFile::read(&path)?)
    }
}

/// # Errors
///
/// If a name would not be shown unchanged or occurs twice, or if an id is not the name of a file: a case
/// must be in the suite's own folder.
pub(super) fn check_entry(case: &CaseEntry) -> std::result::Result<(), String> {
    let hidden = |name: &str| name.chars().any(is_obeyed);
    if case.id.is_empty() || case.id.starts_with('.') || case.id.contains(['/', '\\', ':']) || hidden(&case.id) {
        return Err(format!("case {:?}: expected an id that can be a file's name", case.id));
    }
    let mut names = BTreeSet::new();
    for TensorEntry { name, .. } in &case.tensors {
        if hidden(name) {
            return Err(format!("case {}: {name:?}: expected a name of visible characters", case.id));
        }
        if !names.insert(name) {
            return Err(format!("case {}: the tensor {name} occurs twice", case.id));
        }
    }
    Ok(())
}

impl Manifest {
    /// JSON with one line per tensor.
    ///
    /// # Errors
    ///
    /// If a number cannot be written in JSON.
    pub(crate) fn to_text(&self) -> Result<String> {
        let mut out = String::from("{\n");
        let _ = writeln!(out, "  \"format\": {},\n  \"suite\": {},\n  \"flags\": {{", self.format, json(&self.suite)?);
        let flags: Result<Vec<String>> =
            self.flags.iter().map(|(flag, says)| Ok(format!("    {}: {}", json(flag)?, json(says)?))).collect();
        out += &flags?.join(",\n");
        out += "\n  },\n  \"kills\": {\n";
        let kills: Result<Vec<String>> =
            self.kills.iter().map(|(mistake, cases)| Ok(format!("    {}: {}", json(mistake)?, json(cases)?))).collect();
        out += &kills?.join(",\n");
        out += "\n  },\n  \"cases\": [\n";
        let mut cases = Vec::new();
        for case in &self.cases {
            let fields = serde_json::to_value(CaseEntry { tensors: Vec::new(), ..case.clone() });
            let fields = fields.map_err(|e| Error::mismatch(e.to_string()))?;
            let mut lines = Vec::new();
            for (key, value) in fields.as_object().into_iter().flatten().filter(|(key, _)| *key != "kills") {
                lines.push(format!("      \"{key}\": {value}"));
            }
            let tensors: Result<Vec<String>> =
                case.tensors.iter().map(|tensor| Ok(format!("        {}", json(tensor)?))).collect();
            lines.push(format!("      \"tensors\": [\n{}\n      ]", tensors?.join(",\n")));
            cases.push(format!("    {{\n{}\n    }}", lines.join(",\n")));
        }
        out += &cases.join(",\n");
        out += "\n  ]\n}\n";
        Ok(out)
    }
}

/// Compact JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::mismatch(e.to_string()))
}
