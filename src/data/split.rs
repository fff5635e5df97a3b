//! One split of a data set: images, captions, and which belong together.
//!
//! The precomputed format of the original: `{split}_ims.npy` [rows, F] and `{split}_caps.txt`, one
//! caption per line, UTF-8. There are k captions for each row, and row i goes with the lines
//! k i … k i + k − 1. If there are as many rows as captions, equal neighbouring rows are one image:
//! the original repeats every image five times, and R@K counts images, not copies. If the lines begin
//! with the names of their images, the names decide.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array2;

use super::captions::{read_captions, read_ids};
use super::copies::{Copies, Mark, NEARLY, mark_store, shared};
use super::features::{self, Features};
use super::folder::Files;
use super::pairing::{Known, Pairing, Problem, check_count};
use super::store::{ImageStore, Memory, SplitImages, width};
use crate::error::{Error, Result};
use crate::random::{permutation, stream};

/// Images with their captions, image by image.
///
/// ```
/// use ndarray::array;
/// use vsepp::data::Split;
///
/// # fn main() -> vsepp::Result<()> {
/// let captions = ["a dog", "the dog", "a cat", "two cats"].map(String::from);
/// let split = Split::new("train", array![[0.1, 0.9], [0.8, 0.3]], captions.into())?;
/// assert_eq!((split.images().len(), split.img_dim()?), (2, 2));
/// assert_eq!(split.captions()[split.captions_of(1)], ["a cat", "two cats"]);
///
/// let error = Split::new("train", array![[0.1], [0.8]], vec!["a dog".into(); 3]).unwrap_err();
/// assert_eq!(error.to_string(), "train captions: expected a multiple of 2 rows, found [3]");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Split {
    /// `train`, `dev`, `test`, …
    pub(crate) name: String,
    /// Every distinct image, N of them: image n of the split is number n of the store.
    pub(crate) images: SplitImages,
    /// The captions as they were written, `[M]`, image by image.
    pub(crate) captions: Vec<String>,
    /// The image of each caption, `[M]`, in rising order.
    pub(crate) image_of: Vec<usize>,
    /// The id of every distinct image, `[N]`, if there are ids.
    pub(crate) ids: Option<Vec<String>>,
    /// Notes from reading. A command prints each once.
    pub(crate) notes: Vec<String>,
    /// Caption i of image n is number `starts[n] + i`; `[N + 1]`.
    starts: Vec<usize>,
    /// For finding equal images, `[N]`. Pictures have none: decoding them all would take minutes, and they have names.
    marks: Option<Vec<Mark>>,
}

/// Captions, and what is known about the images that they belong to.
struct Texts<'a> {
    captions: Vec<String>,
    /// The name before each caption.
    names: Option<&'a [String]>,
    /// The file of ids, line by line.
    ids: Option<&'a [String]>,
}

impl Split {
    /// Exchanges a share of the captions, rounded to a whole number, among themselves: those chosen move round in a
    /// circle, so none of them stays where it was. (It may come to another place of the same image.)
    pub(crate) fn exchange_captions(&mut self, share: f64, seed: u64) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to M
        let count = (share * self.captions.len() as f64).round() as usize;
        let mut chosen = permutation(&mut stream(seed, "label noise"), self.captions.len());
        chosen.truncate(count);
        chosen.windows(2).for_each(|pair| self.captions.swap(pair[0], pair[1]));
    }

    /// Reads a split of a folder: `{split}_ims.npy`, `{split}_caps.txt` and, if it is there,
    /// `{split}_ids.txt`. The rows of a `.npy` file are checked here and read again when they are needed.
    ///
    /// # Errors
    ///
    /// If a file is missing; if the features are not a finite matrix; if there are no captions, if they are
    /// not UTF-8, or if a line is not a caption; if the captions are not a multiple of the rows; or if names
    /// and rows do not agree.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let files = Files::find(folder, name)?;
        // The captions first: they are small, and most mistakes are there.
        let found = read_captions(&files.captions, || features::count(&files.features))?;
        let ids = files.ids.as_deref().map(read_ids).transpose()?;
        let (features, noticed) = features::open(&files.features)?;
        let texts = Texts { captions: found.captions, names: found.names.as_deref(), ids: ids.as_deref() };
        let misfit = |problem| match problem {
            Problem::Misfit { line: Some(line), text } => Error::line(&files.captions, line, text),
            Problem::Misfit { line: None, text } => Error::file(&files.captions, text),
            Problem::Rows(error) => error,
        };
        if texts.names.is_none() && texts.ids.is_none() {
            // Checked before the features are read, which may take minutes.
            check_count(features.dim(), texts.captions.len()).map_err(misfit)?;
        }
        let mut split = match features {
            Features::Memory(rows) => Self::in_memory(name, rows, texts),
            Features::Rows(file) => {
                let (store, marks) = file.read_once()?;
                Self::of_store(name, Arc::new(store), Some(marks), texts)
            }
        }
        .map_err(misfit)?;
        split.notes = [files.notes, found.notes, noticed, split.notes].concat();
        Ok(split)
    }

    /// A split from rows in memory and captions, the same number of captions for each row.
    ///
    /// # Errors
    ///
    /// If the captions are not a multiple of the rows.
    pub fn new(name: &str, rows: Array2<f32>, captions: Vec<String>) -> Result<Self> {
        let (count, m) = (rows.nrows(), captions.len());
        Self::in_memory(name, rows, Texts { captions, names: None, ids: None })
            .map_err(|problem| wrong_count(name, count, m, problem))
    }

    /// A split from the images of a store and captions, the same number of captions for each image. Feature
    /// vectors are all read once, to find copies; pictures are not.
    ///
    /// # Errors
    ///
    /// If the captions are not a multiple of the images, or if an image cannot be read.
    pub fn from_store(name: &str, store: Arc<dyn ImageStore>, captions: Vec<String>) -> Result<Self> {
        let (count, m) = (store.len(), captions.len());
        let marks = if store.shape().len() == 1 { Some(mark_store(&*store)?) } else { None };
        Self::of_store(name, store, marks, Texts { captions, names: None, ids: None })
            .map_err(|problem| wrong_count(name, count, m, problem))
    }

    /// A split from the pictures of a store, each with its own name and its captions. No picture is read.
    pub(super) fn of_pictures(
        name: &str,
        store: Arc<dyn ImageStore>,
        names: Vec<String>,
        captions: Vec<Vec<String>>,
    ) -> Self {
        let images = captions.iter().enumerate();
        let image_of: Vec<usize> = images.flat_map(|(image, its)| vec![image; its.len()]).collect();
        Self {
            name: name.into(),
            images: SplitImages::new(store),
            starts: starts(&image_of, captions.len()),
            captions: captions.into_iter().flatten().collect(),
            image_of,
            ids: Some(names),
            notes: Vec::new(),
            marks: None,
        }
    }

    fn in_memory(name: &str, rows: Array2<f32>, texts: Texts<'_>) -> std::result::Result<Self, Problem> {
        let (count, memory) = (rows.nrows(), Arc::new(Memory::new(rows)));
        let marks = mark_store(&*memory)?;
        let mut split = Self::of_store(name, memory, Some(marks), texts)?;
        if split.images.len() < count {
            // Frees the memory of the rows that were left out.
            split.images = split.images.to_array()?.into();
        }
        Ok(split)
    }

    fn of_store(
        name: &str,
        store: Arc<dyn ImageStore>,
        marks: Option<Vec<Mark>>,
        Texts { captions, names, ids }: Texts<'_>,
    ) -> std::result::Result<Self, Problem> {
        let dim = (store.len(), width(&*store));
        let mut images = SplitImages::new(store);
        let copies = match &marks {
            Some(marks) => Copies::of_marks(&images, marks)?,
            None => Copies::none(dim.0),
        };
        let known = Known { name, rows: &images, dim, copies: &copies, captions: captions.len(), names, ids };
        let Pairing { firsts, image_of, ids, mut notes } = known.pair()?;
        notes.extend(copies_left(name, &copies, &firsts));
        images.select(&firsts);
        let (captions, image_of) = image_by_image(captions, image_of);
        let starts = starts(&image_of, firsts.len());
        let marks = marks.map(|marks| firsts.iter().map(|&row| marks[row]).collect());
        Ok(Self { name: name.into(), images, captions, image_of, ids, notes, starts, marks })
    }

    /// F, the number of features of an image.
    ///
    /// # Errors
    ///
    /// If the images are not feature vectors.
    pub fn img_dim(&self) -> Result<usize> {
        match *self.images.shape() {
            [features] => Ok(features),
            ref other => Err(Error::shape(&format!("{} images", self.name), "feature vectors [F]", other)),
        }
    }

    /// Moves the last images to a second split with this name.
    ///
    /// # Errors
    ///
    /// If one of the two splits would have no images.
    pub(crate) fn hold_out(mut self, name: &str, images: usize) -> Result<(Self, Self)> {
        let n = self.images.len();
        if images == 0 || images >= n {
            return Err(Error::config(
                "hold_out",
                format!("1 to {}, of the {n} images of {}", n.saturating_sub(1), self.name),
                images,
            ));
        }
        let left = n - images;
        let first = self.starts[left];
        let mut other = Self {
            name: name.into(),
            images: self.images.split_off(left),
            captions: self.captions.split_off(first),
            image_of: self.image_of.split_off(first),
            ids: self.ids.as_mut().map(|ids| ids.split_off(left)),
            notes: vec![format!("{name}: the last {images} of the {n} images of {}, which keeps {left}", self.name)],
            starts: self.starts.split_off(left),
            marks: self.marks.as_mut().map(|marks| marks.split_off(left)),
        };
        self.starts.push(first);
        other.image_of.iter_mut().for_each(|image| *image -= left);
        other.starts.iter_mut().for_each(|start| *start -= first);
        Ok((self, other))
    }

    /// A note on the images of this split that are also in another, by their features or by their ids. Pictures
    /// are compared by their names alone.
    ///
    /// # Errors
    ///
    /// If an image cannot be read.
    pub(crate) fn shared_with(&self, other: &Self) -> Result<Option<String>> {
        let (name, n) = (&self.name, self.images.len());
        let equal = match (&self.marks, &other.marks) {
            (Some(own), Some(others)) if self.images.shape() == other.images.shape() => {
                shared((&other.images, others), (&self.images, own))?
            }
            _ => Vec::new(),
        };
        if let Some((of_other, own)) = equal.first() {
            return Ok(Some(format!(
                "{name}: {} of its {n} images are in {} too (first: image {own} is image {of_other} there, both from 0)",
                equal.len(),
                other.name
            )));
        }
        let (Some(ids), Some(others)) = (&self.ids, &other.ids) else { return Ok(None) };
        let are_pictures = self.marks.is_none() && other.marks.is_none();
        // Ids that only number the rows are the same in every split.
        if !are_pictures && (are_numbers_of_rows(ids) || are_numbers_of_rows(others)) {
            return Ok(None);
        }
        let others: HashSet<&String> = others.iter().collect();
        let both: Vec<&String> = ids.iter().filter(|id| others.contains(id)).collect();
        Ok(both.first().map(|first| {
            let (count, other) = (both.len(), &other.name);
            if are_pictures {
                return format!("{name}: {count} of its {n} pictures are in {other} too (first: {first:?})");
            }
            format!("{name}: {count} of its {n} ids are in {other} too, with other features (first: {first:?})")
        }))
    }

    /// Every distinct image, N of them: image n of the split is number n of the store.
    #[must_use]
    pub fn images(&self) -> &dyn ImageStore {
        &self.images
    }

    /// The captions as they were written, `[M]`, image by image.
    #[must_use]
    pub fn captions(&self) -> &[String] {
        &self.captions
    }

    /// The captions of an image, as numbers.
    #[must_use]
    pub fn captions_of(&self, image: usize) -> Range<usize> {
        self.starts[image]..self.starts[image + 1]
    }

    /// For every image its first caption, and M at the end: `[N + 1]`.
    #[must_use]
    pub(crate) fn starts(&self) -> &[usize] {
        &self.starts
    }
}

/// For every image its first caption, and M at the end; `image_of` is in rising order.
fn starts(image_of: &[usize], images: usize) -> Vec<usize> {
    let mut starts = vec![0; images + 1];
    for &image in image_of {
        starts[image + 1] += 1;
    }
    for image in 0..images {
        starts[image + 1] += starts[image];
    }
    starts
}

fn wrong_count(name: &str, count: usize, m: usize, problem: Problem) -> Error {
    match problem {
        Problem::Misfit { .. } => {
            Error::shape(&format!("{name} captions"), format!("a multiple of {count} rows"), &[m])
        }
        Problem::Rows(error) => error,
    }
}

/// Whether ids are 0 to N − 1 or 1 to N, in any order.
fn are_numbers_of_rows(ids: &[String]) -> bool {
    let mut numbers: Vec<usize> = ids.iter().map_while(|id| id.parse().ok()).collect();
    numbers.sort_unstable();
    let first = numbers.first().copied().unwrap_or(0);
    numbers.len() == ids.len() && first <= 1 && numbers.iter().enumerate().all(|(n, &number)| number == first + n)
}

/// The captions in the order of their images. Those of one image keep their order.
fn image_by_image(mut captions: Vec<String>, image_of: Vec<usize>) -> (Vec<String>, Vec<usize>) {
    if image_of.is_sorted() {
        return (captions, image_of);
    }
    let mut order: Vec<usize> = (0..captions.len()).collect();
    order.sort_by_key(|&caption| image_of[caption]);
    let sorted = order.iter().map(|&caption| std::mem::take(&mut captions[caption])).collect();
    (sorted, order.iter().map(|&caption| image_of[caption]).collect())
}

/// Notes on images that are copies of another image but count as separate images.
fn copies_left(name: &str, copies: &Copies, firsts: &[usize]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut seen = HashMap::new();
    let equal: Vec<(usize, usize)> = firsts
        .iter()
        .filter_map(|&row| match seen.entry(copies.first[row]) {
            Entry::Occupied(earlier) => Some((*earlier.get(), row)),
            Entry::Vacant(free) => {
                free.insert(row);
                None
            }
        })
        .collect();
    let n = firsts.len();
    if let Some((a, b)) = equal.first() {
        notes.push(format!(
            "{name}: {} of the {n} images equal an earlier one (first: rows {a} and {b}, from 0); they stay images of their own, so R@K counts a copy as wrong",
            equal.len()
        ));
    }
    let nearly: Vec<&(usize, usize)> =
        copies.nearly.iter().filter(|(_, row)| firsts.binary_search(row).is_ok()).collect();
    if let Some((a, b)) = nearly.first() {
        notes.push(format!(
            "{name}: {} of the {n} images differ from an earlier one by less than {NEARLY:e} of its length, without being equal (first: rows {a} and {b}, from 0); they stay images of their own, so R@K counts a copy as wrong",
            nearly.len()
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn captions(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("caption {i}")).collect()
    }

    #[test]
    fn a_share_of_the_captions_is_exchanged() {
        let captions: Vec<String> = (0..40).map(|k| k.to_string()).collect();
        let original = Split::new("train", Array2::zeros((8, 1)), captions).unwrap();
        let moved = |share, seed| {
            let mut split = original.clone();
            split.exchange_captions(share, seed);
            let mut sorted = split.captions.clone();
            sorted.sort_by_key(|caption| caption.parse::<usize>().unwrap());
            assert_eq!(sorted, original.captions);
            (0..40).filter(|&k| split.captions[k] != original.captions[k]).collect::<Vec<_>>()
        };
        assert_eq!((moved(0.0, 0).len(), moved(0.2, 0).len(), moved(1.0, 0).len()), (0, 8, 40));
        assert_eq!(moved(0.2, 0), moved(0.2, 0));
        assert_ne!(moved(0.2, 0), moved(0.2, 1));
    }

    #[test]
    fn any_whole_number_of_captions_an_image() {
        let split = Split::new("dev", array![[1.0], [1.0]], captions(6)).unwrap();
        assert_eq!(split.image_of, [0, 0, 0, 1, 1, 1]);
        assert_eq!((split.captions_of(0), split.captions_of(1)), (0..3, 3..6));
        assert_eq!(split.images.len(), 2, "equal rows stay apart where rows are not captions");
        assert!(
            split.notes[0].contains("1 of the 2 images equal an earlier one (first: rows 0 and 1"),
            "{:?}",
            split.notes
        );
        assert!(Split::new("dev", array![[1.0], [2.0]], captions(5)).is_err());
    }

    #[test]
    fn where_rows_are_captions_equal_neighbours_are_one_image() {
        let rows = array![[1.0], [1.0], [2.0], [1.0], [1.0], [3.0]];
        let split = Split::new("dev", rows, captions(6)).unwrap();
        assert_eq!(split.images.to_array().unwrap(), array![[1.0], [2.0], [1.0], [3.0]]);
        assert_eq!(split.image_of, [0, 0, 1, 2, 2, 3]);
        assert!(split.notes[0].contains("6 rows are 4 images"));
        assert!(
            split.notes[1].contains("1 of the 4 images equal an earlier one (first: rows 0 and 3"),
            "{:?}",
            split.notes
        );
    }

    #[test]
    fn images_in_rounds_are_grouped_and_captions_follow() {
        let split = Split::new("dev", array![[1.0], [2.0], [1.0], [2.0]], captions(4)).unwrap();
        assert_eq!(split.images.to_array().unwrap(), array![[1.0], [2.0]]);
        assert_eq!(split.captions, ["caption 0", "caption 2", "caption 1", "caption 3"]);
        assert_eq!((split.starts(), split.notes.len()), (&[0, 2, 4][..], 1));
    }

    #[test]
    fn images_that_differ_by_a_millionth_are_noted() {
        let split = Split::new("dev", array![[1.0, 1.0], [1.0, 1.0 + f32::EPSILON]], captions(2)).unwrap();
        assert_eq!(split.images.len(), 2);
        assert!(
            split.notes[0].contains("1 of the 2 images differ from an earlier one by less than 1e-6"),
            "{:?}",
            split.notes
        );
    }

    #[test]
    fn the_last_images_are_held_out() {
        let rows = array![[1.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [3.0, 5.0]];
        let all = Split::new("train", rows, captions(5)).unwrap();
        let (train, dev) = all.clone().hold_out("dev", 2).unwrap();
        assert_eq!(
            (train.images.to_array().unwrap(), train.starts, train.captions.len()),
            (array![[1.0, 5.0]], vec![0, 2], 2)
        );
        assert_eq!((dev.images.to_array().unwrap(), &dev.image_of), (array![[2.0, 5.0], [3.0, 5.0]], &vec![0, 1, 1]));
        assert_eq!((dev.starts(), dev.captions.as_slice()), (&[0, 1, 3][..], &captions(5)[2..]));
        assert!(
            all.clone()
                .hold_out("dev", 3)
                .unwrap_err()
                .to_string()
                .contains("expected 1 to 2, of the 3 images of train")
        );
        assert!(all.hold_out("dev", 0).is_err());
    }

    #[test]
    fn images_of_another_split() {
        let train = Split::new("train", array![[1.0], [2.0], [3.0]], captions(3)).unwrap();
        let test = Split::new("test", array![[5.0], [3.0]], captions(2)).unwrap();
        let note = test.shared_with(&train).unwrap().unwrap();
        assert!(note.contains("1 of its 2 images are in train too (first: image 1 is image 2 there"), "{note}");
        let mut other = Split::new("dev", array![[7.0], [8.0]], captions(2)).unwrap();
        let mut train = train;
        assert_eq!(other.shared_with(&train).unwrap(), None);
        (other.ids, train.ids) = (Some(vec!["x".into(), "b".into()]), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert!(other.shared_with(&train).unwrap().unwrap().contains("1 of its 2 ids are in train too"));
        (other.ids, train.ids) = (Some(vec!["1".into(), "0".into()]), Some(vec!["0".into(), "2".into(), "1".into()]));
        assert_eq!(other.shared_with(&train).unwrap(), None, "numbers of rows");
    }
}
