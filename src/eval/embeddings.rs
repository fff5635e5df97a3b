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
use crate::files::{TensorFile, TensorWriter};
use crate::nn::l2norm::normalise;
use crate::similarity::Measure;

use super::names::{ABOUT, CAPTIONS, IMAGE_IDS, IMAGES, Names, missing, unused};
use super::ranks::check_finite;
use super::recall::{Evaluation, evaluate_folds};

/// Images and captions in the joint space, and which caption belongs to which image.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
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

/// Why captions cannot be divided equally among the images.
struct Uneven {
    problem: String,
    /// Images and captions may have been exchanged.
    exchanged: bool,
}

impl Embeddings {
    /// Images `[N, D]` and captions `[M, D]` of any program. `image_ids` `[M]` is the row of each caption's image; without
    /// it every image has M / N captions, image by image. Equal rows of images are one image if each row has one
    /// caption, as in `vsepp eval`; [`Embeddings::notes`] then says so.
    ///
    /// ```
    /// use ndarray::{Array2, array};
    /// use vsepp::eval::Embeddings;
    /// use vsepp::similarity::Measure;
    ///
    /// # fn main() -> vsepp::Result<()> {
    /// // The captions of images 1 and 2 are exchanged.
    /// let captions = array![[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]];
    /// let found = Embeddings::new(Array2::eye(3), captions.clone(), None)?.evaluate(Measure::Cosine, 1)?;
    /// assert!((found.image_to_text.r1 - 100.0 / 3.0).abs() < 1e-9);
    /// let found = Embeddings::new(Array2::eye(3), captions, Some(&[0, 2, 1]))?.evaluate(Measure::Cosine, 1)?;
    /// assert_eq!(found.image_to_text.r1, 100.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if there are no vectors, if their dimensions differ or a number is not finite, and if the captions
    /// cannot be divided among the images.
    pub fn new(images: Array2<f32>, captions: Array2<f32>, image_ids: Option<&[i64]>) -> Result<Self> {
        let names = Names::default();
        check_shapes(&images, &captions, &names).map_err(Error::mismatch)?;
        check_finite(images.view(), captions.view())?;
        let (n, m) = (images.nrows(), captions.nrows());
        let (starts, notes) = (Vec::new(), Vec::new());
        let mut found = Self { images, captions, starts, measure: None, split: None, ids: None, notes };
        if let Some(ids) = image_ids {
            if ids.len() != m {
                let problem =
                    format!("{IMAGE_IDS}: expected [M = {m}], the image of each caption, found [{}]", ids.len());
                return Err(Error::mismatch(problem));
            }
            let rows: Vec<f64> = ids.iter().map(|&id| id as f64).collect();
            let map = rows_of_images(&rows, n).map_err(|e| Error::mismatch(format!("{IMAGE_IDS}: {e}")))?;
            found.assign_by_map(IMAGE_IDS, map).map_err(Error::mismatch)?;
        } else {
            found.assign_equally(&names).map_err(|Uneven { problem, exchanged }| {
                Error::mismatch(if exchanged { format!("{problem}; are the two exchanged?") } else { problem })
            })?;
        }
        found.look_for_copies(&names.images).map_err(Error::mismatch)?;
        Ok(found)
    }

    /// What was assumed about the vectors, and what is odd about them.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Divides every vector by its length (NORM-1).
    ///
    /// # Errors
    ///
    /// Fails if a vector is zero.
    pub fn normalise(&mut self) -> Result<()> {
        normalise(&mut self.images).map_err(|e| e.of("image embedding"))?;
        normalise(&mut self.captions).map_err(|e| e.of("caption embedding"))
    }

    /// R@1, R@5, R@10, median and mean rank in both directions: the mean over `folds` equal parts of the images.
    ///
    /// # Errors
    ///
    /// As [`evaluate_folds`].
    pub fn evaluate(&self, measure: Measure, folds: usize) -> Result<Evaluation> {
        evaluate_folds(self.images.view(), self.captions.view(), &self.starts, measure, folds)
    }

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
        let fail = |problem: String| Error::file(path, problem);
        check_shapes(&images, &captions, names).map_err(fail)?;
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
            Some((name, map)) => found.assign_by_map(name, map).map_err(fail)?,
            None => found.assign_equally(names).map_err(|Uneven { problem, exchanged }| {
                let hint = format!("if the two are exchanged: --names {},{}", names.captions, names.images);
                fail(if exchanged { format!("{problem}; {hint}") } else { problem })
            })?,
        }
        if !ours {
            found.look_for_copies(&names.images).map_err(fail)?;
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
    fn assign_equally(&mut self, names: &Names) -> std::result::Result<(), Uneven> {
        let (n, m) = (self.images.nrows(), self.captions.nrows());
        if !m.is_multiple_of(n) {
            let exchanged = n.is_multiple_of(m);
            let problem = format!("{}: expected a multiple of the {n} {}, found {m}", names.captions, names.images);
            let problem = if exchanged {
                problem
            } else {
                format!(
                    "{problem}; where images have different numbers of captions, an array {IMAGE_IDS} [M] says which row \
                     of {} each caption belongs to",
                    names.images
                )
            };
            return Err(Uneven { problem, exchanged });
        }
        self.starts = (0..=n).map(|image| image * (m / n)).collect();
        Ok(())
    }

    /// With a map: sorts the captions by image. The captions of one image keep their order.
    fn assign_by_map(&mut self, name: &str, map: Vec<usize>) -> std::result::Result<(), String> {
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
            return Err(problem);
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
    fn look_for_copies(&mut self, name: &str) -> std::result::Result<(), String> {
        let copies = Copies::find(self.images.view());
        let one_each = self.starts.len() == self.captions.nrows() + 1;
        let mut apart = if one_each { copies.apart() } else { equal_rows(&copies) };
        if one_each {
            let Grouping { firsts, image_of, note } = copies.images();
            if let Some(note) = note {
                self.notes.push(format!("{name}: {note}"));
                self.images = self.images.select(Axis(0), &firsts);
                self.assign_by_map(name, image_of)?;
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
    let failed = |problem: String| Error::file(file.path(), format!("{name}: {problem}"));
    if shape != [m] {
        return Err(failed(format!("expected [M = {m}], the image of each caption, found {shape:?}")));
    }
    let values = file.get(name)?;
    let rows: Vec<f64> = values.iter().copied().collect();
    rows_of_images(&rows, n).map_err(failed)
}

/// The numbers of a map as rows of `n` images.
fn rows_of_images(rows: &[f64], n: usize) -> std::result::Result<Vec<usize>, String> {
    let (least, most) = rows.iter().fold((f64::MAX, f64::MIN), |(least, most), &x| (least.min(x), most.max(x)));
    for (caption, &x) in rows.iter().enumerate() {
        if x.fract() != 0.0 {
            return Err(format!("caption {caption}: expected a whole number, found {x}"));
        }
        if !(0.0..n as f64).contains(&x) {
            let hint = if (least, most) == (1.0, n as f64) {
                "; they run from 1, and rows are counted from 0".to_owned()
            } else {
                format!("; the numbers run from {least} to {most}")
            };
            return Err(format!("caption {caption}: expected the row of an image, 0 to {}, found {x}{hint}", n - 1));
        }
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
    Ok(rows.iter().map(|&x| x as usize).collect())
}

/// Neither may be empty, and both have the same dimension.
fn check_shapes(images: &Array2<f32>, captions: &Array2<f32>, names: &Names) -> std::result::Result<(), String> {
    for (name, matrix) in [(&names.images, images), (&names.captions, captions)] {
        if matrix.is_empty() {
            return Err(format!("{name}: expected at least one vector, found shape {:?}", matrix.shape()));
        }
    }
    if images.ncols() != captions.ncols() {
        return Err(format!(
            "{}: expected [M, D = {}], the dimension of {}, found {:?}",
            names.captions,
            images.ncols(),
            names.images,
            captions.shape()
        ));
    }
    Ok(())
}
