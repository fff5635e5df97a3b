//! Files of joint embeddings, with everything that an evaluation needs. Any program can write them.
//!
//! ```text
//! images     [N, D]  one row per image
//! captions   [M, D]  one row per caption, in any order
//! image_ids  [M]     the row of each caption's image; without it, M is a multiple of N and image i has
//!                    the captions i M / N … (i + 1) M / N − 1
//! vsepp              further information, as JSON: `format`, `measure`, `split`, `ids` (the images' names).
//!                    In safetensors it is a key of the metadata, in npz an array of bytes (U8)
//! ```

use std::collections::HashMap;
use std::path::Path;

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::data::{Copies, Grouping, NEARLY, Split, differ_little};
use crate::error::{Error, Result};
use crate::escape;
use crate::files::{ElementType, TensorFile, TensorWriter};
use crate::similarity::Measure;

/// Images and captions in the joint space, and which caption belongs to which image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Embeddings {
    /// f [N, D].
    pub(crate) images: Array2<f32>,
    /// g [M, D], image by image.
    pub(crate) captions: Array2<f32>,
    /// Image n has the captions `starts[n]..starts[n + 1]`; `[N + 1]`.
    pub(crate) starts: Vec<usize>,
    /// The similarity measure, if the file gives it.
    pub(crate) measure: Option<Measure>,
    /// The split, if the file gives it.
    pub(crate) split: Option<String>,
    /// The name of each image, `[N]`, if the file has names.
    pub(crate) ids: Option<Vec<String>>,
    /// Notes from reading the file.
    pub(crate) notes: Vec<String>,
}

/// The names of a file's arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The images' vectors.
    pub images: String,
    /// The captions' vectors.
    pub captions: String,
    /// The image of each caption. Optional in a file unless it is named here.
    pub image_ids: Option<String>,
}

impl Default for Names {
    fn default() -> Self {
        Self { images: IMAGES.into(), captions: CAPTIONS.into(), image_ids: None }
    }
}

const IMAGES: &str = "images";
const CAPTIONS: &str = "captions";
const IMAGE_IDS: &str = "image_ids";
/// The array of bytes in an npz, and the key of a safetensors file's metadata.
const ABOUT: &str = "vsepp";
const FORMAT: &str = "vsepp-embeddings-1";

/// The content of `vsepp`.
#[derive(Default, Serialize, Deserialize)]
struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measure: Option<Measure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<String>>,
}

/// Writes the embeddings of a split as npz if the file name ends in `.npz`, otherwise as safetensors.
///
/// # Errors
///
/// Fails if the file cannot be written.
pub(crate) fn write(
    path: &Path,
    images: ArrayView2<'_, f32>,
    captions: ArrayView2<'_, f32>,
    measure: Measure,
    split: &Split,
) -> Result<()> {
    let mut writer = TensorWriter::default();
    writer.add(IMAGES, &images.into_dyn());
    writer.add(CAPTIONS, &captions.into_dyn());
    let map: Vec<i64> = split.image_of.iter().map(|&image| i64::try_from(image).unwrap_or(i64::MAX)).collect();
    writer.add_integers(IMAGE_IDS, &[map.len()], &map)?;
    let about = About {
        format: Some(FORMAT.into()),
        measure: Some(measure),
        split: Some(split.name.clone()),
        ids: split.ids.clone(),
    };
    let json = serde_json::to_string(&about).map_err(|e| Error::file(path, e.to_string()))?;
    if path.extension().is_some_and(|extension| extension == "npz") {
        writer.add_bytes(ABOUT, &[json.len()], json.as_bytes())?;
        writer.write_npz(path)
    } else {
        writer.write_safetensors(path, Some(json))
    }
}

impl Embeddings {
    /// Reads a file of vectors from any program.
    ///
    /// # Errors
    ///
    /// Fails if an array is missing (the message gives the names and shapes found), is not a finite
    /// matrix, or does not fit the others; if the map gives a caption an image that does not exist, or an
    /// image no caption; or if there is no map and the number of captions is not a multiple of the number
    /// of images.
    pub(crate) fn read(path: &Path, names: &Names) -> Result<Self> {
        let file = TensorFile::read(path)?;
        let about = read_about(&file)?;
        let read = |name: &str| {
            if file.names().any(|there| there == name) {
                return file.matrix(name);
            }
            Err(Error::file(path, missing(&file, names)))
        };
        let (images, captions) = (read(&names.images)?, read(&names.captions)?);
        for (name, matrix) in [(&names.images, &images), (&names.captions, &captions)] {
            if matrix.is_empty() {
                let problem = format!("{name}: expected at least one vector, found shape {:?}", matrix.shape());
                return Err(Error::file(path, problem));
            }
        }
        if images.ncols() != captions.ncols() {
            let problem = format!(
                "{}: expected [M, D = {}], the dimension of {}, found {:?}",
                names.captions,
                images.ncols(),
                names.images,
                captions.shape()
            );
            return Err(Error::file(path, problem));
        }
        let ours = about.format.is_some();
        let map = match &names.image_ids {
            Some(name) => Some((name.as_str(), read_map(&file, name, &images, &captions)?)),
            None if file.names().any(|name| name == IMAGE_IDS) => {
                Some((IMAGE_IDS, read_map(&file, IMAGE_IDS, &images, &captions)?))
            }
            None => None,
        };
        let mut notes = Vec::new();
        if !ours {
            notes.extend(unused(&file, names, map.is_some(), images.nrows(), captions.nrows()));
        }
        let rows = images.nrows();
        let mut found = Self {
            images,
            captions,
            starts: Vec::new(),
            measure: about.measure,
            split: about.split,
            ids: about.ids,
            notes,
        };
        match map {
            Some((name, map)) => found.assign_by_map(path, name, map)?,
            None => found.assign_equally(path, names)?,
        }
        if !ours {
            found.look_for_copies(path, &names.images)?;
        }
        if let Some(ids) = &found.ids
            && ids.len() != rows
        {
            let problem = format!("{ABOUT}: ids: expected a name for each of {rows} images, found {}", ids.len());
            return Err(Error::file(path, problem));
        }
        if found.images.nrows() != rows {
            // They are names of rows, not of images.
            found.ids = None;
        }
        Ok(found)
    }

    /// Without a map: every image has the same number of captions.
    fn assign_equally(&mut self, path: &Path, names: &Names) -> Result<()> {
        let (n, m) = (self.images.nrows(), self.captions.nrows());
        if !m.is_multiple_of(n) {
            let hint = if n.is_multiple_of(m) {
                format!("if the two are exchanged: --names {},{}", names.captions, names.images)
            } else {
                format!(
                    "where images have different numbers of captions, an array {IMAGE_IDS} [M] says which row of {} each \
                     caption belongs to",
                    names.images
                )
            };
            let problem =
                format!("{}: expected a multiple of the {n} {}, found {m}; {hint}", names.captions, names.images);
            return Err(Error::file(path, problem));
        }
        self.starts = (0..=n).map(|image| image * (m / n)).collect();
        Ok(())
    }

    /// With a map: sorts the captions by image. The captions of one image keep their order.
    fn assign_by_map(&mut self, path: &Path, name: &str, map: Vec<usize>) -> Result<()> {
        let n = self.images.nrows();
        let map = self.rows_of_captions(map);
        let mut counts = vec![0usize; self.images.nrows()];
        for &image in &map {
            counts[image] += 1;
        }
        let empty: Vec<usize> = (0..counts.len()).filter(|&image| counts[image] == 0).collect();
        if let Some(first) = empty.first() {
            let problem = format!(
                "{name}: expected at least one caption for each of the {n} images, found none for {} of them, the first \
                 in row {first}; leave these rows out, and number the others from 0",
                empty.len()
            );
            return Err(Error::file(path, problem));
        }
        self.starts = std::iter::once(0)
            .chain(counts.iter().scan(0, |end, count| {
                *end += count;
                Some(*end)
            }))
            .collect();
        if !map.is_sorted() {
            let mut order: Vec<usize> = (0..map.len()).collect();
            order.sort_by_key(|&caption| map[caption]);
            self.captions = self.captions.select(Axis(0), &order);
        }
        Ok(())
    }

    /// A map may number the images although the rows are captions; row c is then the image of caption c.
    /// This is assumed if some rows would have no caption and all rows with one number are equal.
    fn rows_of_captions(&mut self, map: Vec<usize>) -> Vec<usize> {
        let n = self.images.nrows();
        let mut first = HashMap::new();
        for (caption, &image) in map.iter().enumerate() {
            first.entry(image).or_insert(caption);
        }
        let distinct = first.len();
        let per_caption = n == map.len()
            && distinct < n
            && map
                .iter()
                .enumerate()
                .all(|(row, image)| differ_little(self.images.row(row), self.images.row(first[image])));
        if !per_caption {
            return map;
        }
        let mut kept: Vec<usize> = first.values().copied().collect();
        kept.sort_unstable();
        let number: HashMap<usize, usize> = kept.iter().enumerate().map(|(new, &row)| (map[row], new)).collect();
        self.images = self.images.select(Axis(0), &kept);
        self.notes
            .push(format!("the {n} rows of images are {distinct} images, one row per caption; R@K counts images"));
        map.iter().map(|image| number[image]).collect()
    }

    /// As in [`Split::new`]: if rows are captions, equal rows are one image.
    fn look_for_copies(&mut self, path: &Path, name: &str) -> Result<()> {
        let copies = Copies::find(self.images.view());
        let one_each = self.starts.len() == self.captions.nrows() + 1;
        let mut apart = if one_each { copies.apart() } else { equal_rows(&copies) };
        if one_each {
            let Grouping { firsts, image_of, note } = copies.images();
            if let Some(note) = note {
                self.notes.push(format!("{name}: {note}"));
                self.images = self.images.select(Axis(0), &firsts);
                self.assign_by_map(path, name, image_of)?;
                // Only those that are still separate images.
                apart.retain(|(_, second)| firsts.contains(second));
            }
        }
        if let Some((first, second)) = apart.first() {
            self.notes.push(format!(
                "{name}: {} row(s) equal an earlier row, the first of them row {second} (equal to row {first}); they \
                 count as separate images, so R@K may count copies. An array {IMAGE_IDS} can say which captions \
                 belong to one image",
                apart.len()
            ));
        }
        if let Some((first, second)) = copies.nearly.first() {
            self.notes.push(format!(
                "{name}: {} row(s) differ by less than {NEARLY:.0e} of their length from an earlier row, the first of \
                 them row {second} (from row {first}); if they are one image, R@K counts copies",
                copies.nearly.len()
            ));
        }
        Ok(())
    }
}

/// Rows that equal an earlier one: pairs (earlier, later).
fn equal_rows(copies: &Copies) -> Vec<(usize, usize)> {
    copies.first.iter().enumerate().filter(|&(row, &first)| first < row).map(|(row, &first)| (first, row)).collect()
}

fn read_about(file: &TensorFile) -> Result<About> {
    let json = match file.metadata() {
        Some(json) => json.to_owned(),
        None if file.names().any(|name| name == ABOUT) => {
            let text = String::from_utf8(file.bytes(ABOUT)?);
            text.map_err(|_| Error::file(file.path(), format!("{ABOUT}: expected bytes of UTF-8 text")))?
        }
        None => return Ok(About::default()),
    };
    let about: About = serde_json::from_str(&json)
        .map_err(|e| Error::file(file.path(), format!("{ABOUT}: expected a JSON object about embeddings: {e}")))?;
    match &about.format {
        Some(format) if format != FORMAT => {
            Err(Error::file(file.path(), format!("{ABOUT}: format: expected {FORMAT}, found {format}")))
        }
        _ => Ok(about),
    }
}

/// The row of each caption's image.
fn read_map(file: &TensorFile, name: &str, images: &Array2<f32>, captions: &Array2<f32>) -> Result<Vec<usize>> {
    let (n, m) = (images.nrows(), captions.nrows());
    let shape = file.shape(name)?;
    let failed = |problem: String| Err(Error::file(file.path(), format!("{name}: {problem}")));
    if shape != [m] {
        return failed(format!("expected [M = {m}], the image of each caption, found {shape:?}"));
    }
    let values = file.get(name)?;
    let rows: Vec<f64> = values.iter().copied().collect();
    let (least, most) = rows.iter().fold((f64::MAX, f64::MIN), |(least, most), &x| (least.min(x), most.max(x)));
    for (caption, &x) in rows.iter().enumerate() {
        if x.fract() != 0.0 {
            return failed(format!("caption {caption}: expected a whole number, found {x}"));
        }
        if !(0.0..n as f64).contains(&x) {
            let hint = if (least, most) == (1.0, n as f64) {
                "; they run from 1, and rows are counted from 0".to_owned()
            } else {
                format!("; the numbers run from {least} to {most}")
            };
            return failed(format!("caption {caption}: expected the row of an image, 0 to {}, found {x}{hint}", n - 1));
        }
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
    Ok(rows.into_iter().map(|x| x as usize).collect())
}

/// The message for missing vectors, with the arrays found instead.
fn missing(file: &TensorFile, names: &Names) -> String {
    const SHOWN: usize = 8;
    let matrices: Vec<(String, Vec<usize>)> = file
        .names()
        .filter_map(|name| Some((name.to_owned(), file.shape(name).ok()?)))
        .filter(|(name, shape)| shape.len() == 2 && name.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c)))
        .collect();
    let among = |words: &[&str]| {
        let mut fitting = matrices.iter().filter(|(name, _)| {
            let name = name.to_lowercase();
            words.iter().any(|word| name.contains(word))
        });
        fitting.next().filter(|_| fitting.next().is_none())
    };
    let mut there: Vec<String> = file.names().take(SHOWN).map(|name| shown(file, name)).collect();
    if file.names().count() > SHOWN {
        there.push("…".into());
    }
    let there = if there.is_empty() { "nothing".into() } else { there.join(", ") };
    let absent: Vec<&str> = [names.images.as_str(), &names.captions]
        .into_iter()
        .filter(|name| !file.names().any(|there| there == *name))
        .collect();
    let expected = format!("expected a tensor {}, found only: {there}", absent.join(" and a tensor "));
    let guess = among(&["im", "vis"]).zip(among(&["cap", "txt", "text", "sent"]));
    match guess {
        Some(((images, f), (captions, g))) if f[1] == g[1] && images != captions => {
            format!("{expected}; perhaps --names {images},{captions}")
        }
        _ => format!("{expected}; --names IMAGES,CAPTIONS gives their names"),
    }
}

fn is_float(element: ElementType) -> bool {
    matches!(element, ElementType::F16 | ElementType::BF16 | ElementType::F32 | ElementType::F64)
}

/// A name with its shape.
fn shown(file: &TensorFile, name: &str) -> String {
    let shape = file.shape(name).map(|shape| format!(" {shape:?}")).unwrap_or_default();
    format!("{}{shape}", escape::name(name))
}

/// Notes on arrays that look relevant for an evaluation but are not used.
fn unused(file: &TensorFile, names: &Names, mapped: bool, n: usize, m: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for name in file.names().filter(|name| ![ABOUT, IMAGE_IDS, &names.images, &names.captions].contains(name)) {
        if names.image_ids.as_deref() == Some(name) {
            continue;
        }
        if name == "measure" {
            notes.push("measure: an array of this name is not read; --measure sets how vectors are compared".into());
            continue;
        }
        let is_map = |tensor: &[f64]| m > 1 && tensor.iter().all(|x| x.fract() == 0.0 && (0.0..n as f64).contains(x));
        let is_vector = file.shape(name).is_ok_and(|shape| shape == [m]);
        if mapped || !is_vector || file.element_type(name).is_ok_and(is_float) {
            continue;
        }
        let Ok(tensor) = file.get(name) else { continue };
        if is_map(&tensor.iter().copied().collect::<Vec<f64>>()) {
            let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
            let how = if [name, &names.images, &names.captions].into_iter().all(plain) {
                format!("--names {},{},{name} uses it", names.images, names.captions)
            } else {
                "--names IMAGES,CAPTIONS,IMAGE_IDS can name it".to_owned()
            };
            let name = escape::name(name);
            notes.push(format!("{name} [{m}] may be the image of each caption, but is not used; {how}"));
        }
    }
    notes
}
