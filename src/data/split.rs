//! One split of a data set: images, captions, and which belong together.
//!
//! The precomputed format of the original: `{split}_ims.npy` [rows, F] and `{split}_caps.txt`, one
//! caption a line, UTF-8. The captions are a multiple k of the rows, and row i goes with the lines
//! k i … k i + k − 1. Where there are as many rows as captions, equal neighbouring rows are one image:
//! the original repeats every image five times, and R@K counts images, not copies. Where the lines begin
//! with the names of their images, the names decide.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use ndarray::{Array2, ArrayView1, Axis};

use super::captions::{read_captions, read_ids};
use super::copies::{Copies, Mark, NEARLY, mark_rows, shared};
use super::features;
use super::folder::Files;
use super::names::{Known, Pairing, Problem};
use crate::error::{Error, Result};

/// Images with their captions, image by image.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// `train`, `dev`, `test`, …
    pub name: String,
    /// φ of every distinct image, [N, F].
    pub images: Array2<f32>,
    /// The captions as they were written, `[M]`, image by image.
    pub captions: Vec<String>,
    /// The image of each caption, `[M]`, rising.
    pub image_of: Vec<usize>,
    /// The id of every distinct image, `[N]`, where there are ids.
    pub ids: Option<Vec<String>>,
    /// What was noticed on reading. A command prints each once.
    pub notes: Vec<String>,
    /// Caption i of image n is number `starts[n] + i`; `[N + 1]`.
    starts: Vec<usize>,
    /// What equal images are found by, `[N]`.
    marks: Vec<Mark>,
}

impl Split {
    /// Reads a split of a folder: `{split}_ims.npy`, `{split}_caps.txt` and, where it is there,
    /// `{split}_ids.txt`.
    ///
    /// **Errors** if a file is missing; if the features are no finite matrix; if the captions are not
    /// UTF-8, are none, or have a line that is not a caption; if there is no whole number of captions for
    /// each row; or if names and rows do not agree.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let files = Files::find(folder, name)?;
        // The captions first: they are small, and most mistakes are there.
        let rows = || features::read(&files.features).ok().map(|(rows, _)| rows.nrows());
        let found = read_captions(&files.captions, rows)?;
        let ids = files.ids.as_deref().map(read_ids).transpose()?;
        let (rows, noticed) = features::read(&files.features)?;
        let mut split = Self::pair(name, rows, found.captions, found.names.as_deref(), ids.as_deref()).map_err(
            |Problem { line, text }| match line {
                Some(line) => Error::line(&files.captions, line, text),
                None => Error::file(&files.captions, text),
            },
        )?;
        split.notes = [files.notes, found.notes, noticed, split.notes].concat();
        Ok(split)
    }

    /// A split from rows and captions, a whole number of captions for each row.
    ///
    /// **Errors** if the captions are not a multiple of the rows.
    pub fn new(name: &str, rows: Array2<f32>, captions: Vec<String>) -> Result<Self> {
        let (count, m) = (rows.nrows(), captions.len());
        Self::pair(name, rows, captions, None, None)
            .map_err(|_| Error::shape(&format!("{name} captions"), format!("a multiple of {count} rows"), &[m]))
    }

    fn pair(
        name: &str,
        rows: Array2<f32>,
        captions: Vec<String>,
        names: Option<&[String]>,
        ids: Option<&[String]>,
    ) -> std::result::Result<Self, Problem> {
        let mut marks = mark_rows(rows.view());
        let copies = Copies::of_marks(rows.view(), &marks);
        let known = Known { name, rows: rows.view(), copies: &copies, captions: captions.len(), names, ids };
        let Pairing { firsts, image_of, ids, mut notes } = known.pair()?;
        notes.extend(copies_left(name, &copies, &firsts));
        let images = if firsts.len() == rows.nrows() {
            rows
        } else {
            marks = firsts.iter().map(|&row| marks[row]).collect();
            rows.select(Axis(0), &firsts)
        };
        let (captions, image_of) = image_by_image(captions, image_of);
        let mut starts = vec![0; firsts.len() + 1];
        for &image in &image_of {
            starts[image + 1] += 1;
        }
        for image in 0..firsts.len() {
            starts[image + 1] += starts[image];
        }
        Ok(Self { name: name.into(), images, captions, image_of, ids, notes, starts, marks })
    }

    /// Takes the last images off, as a split of another name.
    ///
    /// **Errors** if none would be left.
    pub fn hold_out(mut self, name: &str, images: usize) -> Result<(Self, Self)> {
        let (n, columns) = self.images.dim();
        if images == 0 || images >= n {
            return Err(Error::config(
                "hold_out",
                format!("1 to {}, of the {n} images of {}", n.saturating_sub(1), self.name),
                images,
            ));
        }
        let left = n - images;
        // The features are cut in two, so that those which stay need no second copy.
        let images_in_order =
            if self.images.is_standard_layout() { self.images } else { self.images.as_standard_layout().into_owned() };
        let (mut numbers, offset) = images_in_order.into_raw_vec_and_offset();
        numbers.drain(..offset.unwrap_or(0));
        numbers.truncate(n * columns);
        let tail = numbers.split_off(left * columns);
        let matrix = |rows: usize, numbers| {
            Array2::from_shape_vec((rows, columns), numbers).map_err(|e| Error::mismatch(e.to_string()))
        };
        self.images = matrix(left, numbers)?;
        let first = self.starts[left];
        let mut other = Self {
            name: name.into(),
            images: matrix(images, tail)?,
            captions: self.captions.split_off(first),
            image_of: self.image_of.split_off(first),
            ids: self.ids.as_mut().map(|ids| ids.split_off(left)),
            notes: vec![format!("{name}: the last {images} of the {n} images of {}, which keeps {left}", self.name)],
            starts: self.starts.split_off(left),
            marks: self.marks.split_off(left),
        };
        self.starts.push(first);
        other.image_of.iter_mut().for_each(|image| *image -= left);
        other.starts.iter_mut().for_each(|start| *start -= first);
        Ok((self, other))
    }

    /// Says which images of this split are in another too, by their features or by their ids.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Option<String> {
        let (name, n) = (&self.name, self.images.nrows());
        let equal = shared((other.images.view(), &other.marks), (self.images.view(), &self.marks));
        if let Some((of_other, own)) = equal.first() {
            return Some(format!(
                "{name}: {} of its {n} images are in {} too (first: image {own} is image {of_other} there, both from 0)",
                equal.len(),
                other.name
            ));
        }
        let (ids, others) = (self.ids.as_ref()?, other.ids.as_ref()?);
        // Numbers of rows are the same in every split.
        if are_numbers_of_rows(ids) || are_numbers_of_rows(others) {
            return None;
        }
        let others: HashSet<&String> = others.iter().collect();
        let both: Vec<&String> = ids.iter().filter(|id| others.contains(id)).collect();
        let first = both.first()?;
        Some(format!(
            "{name}: {} of its {n} ids are in {} too, with other features (first: {first:?})",
            both.len(),
            other.name
        ))
    }

    /// The captions of an image, as numbers.
    #[must_use]
    pub fn captions_of(&self, image: usize) -> Range<usize> {
        self.starts[image]..self.starts[image + 1]
    }

    /// For every image its first caption, and M at the end: `[N + 1]`.
    #[must_use]
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// φ of the image of a caption, `[F]`.
    #[must_use]
    pub fn features_of(&self, caption: usize) -> ArrayView1<'_, f32> {
        self.images.row(self.image_of[caption])
    }
}

/// Whether ids are 0 to N − 1 or 1 to N, in any order.
fn are_numbers_of_rows(ids: &[String]) -> bool {
    let mut numbers: Vec<usize> = ids.iter().map_while(|id| id.parse().ok()).collect();
    numbers.sort_unstable();
    let first = numbers.first().copied().unwrap_or(0);
    numbers.len() == ids.len() && first <= 1 && numbers.iter().enumerate().all(|(n, &number)| number == first + n)
}

/// The captions in the order of their images; those of one image stay as they are.
fn image_by_image(mut captions: Vec<String>, image_of: Vec<usize>) -> (Vec<String>, Vec<usize>) {
    if image_of.is_sorted() {
        return (captions, image_of);
    }
    let mut order: Vec<usize> = (0..captions.len()).collect();
    order.sort_by_key(|&caption| image_of[caption]);
    let sorted = order.iter().map(|&caption| std::mem::take(&mut captions[caption])).collect();
    (sorted, order.iter().map(|&caption| image_of[caption]).collect())
}

/// Images that are copies of another one, and are counted as images of their own.
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
    fn any_whole_number_of_captions_an_image() {
        let split = Split::new("dev", array![[1.0], [1.0]], captions(6)).unwrap();
        assert_eq!(split.image_of, [0, 0, 0, 1, 1, 1]);
        assert_eq!((split.captions_of(0), split.captions_of(1)), (0..3, 3..6));
        assert_eq!(split.images.nrows(), 2, "equal rows stay apart where rows are not captions");
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
        assert_eq!(split.images, array![[1.0], [2.0], [1.0], [3.0]]);
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
        assert_eq!(split.images, array![[1.0], [2.0]]);
        assert_eq!(split.captions, ["caption 0", "caption 2", "caption 1", "caption 3"]);
        assert_eq!((split.starts(), split.notes.len()), (&[0, 2, 4][..], 1));
    }

    #[test]
    fn images_that_differ_by_a_millionth_are_noted() {
        let split = Split::new("dev", array![[1.0, 1.0], [1.0, 1.0 + f32::EPSILON]], captions(2)).unwrap();
        assert_eq!(split.images.nrows(), 2);
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
        assert_eq!((train.images, train.starts, train.captions.len()), (array![[1.0, 5.0]], vec![0, 2], 2));
        assert_eq!((&dev.images, &dev.image_of), (&array![[2.0, 5.0], [3.0, 5.0]], &vec![0, 1, 1]));
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
        let note = test.shared_with(&train).unwrap();
        assert!(note.contains("1 of its 2 images are in train too (first: image 1 is image 2 there"), "{note}");
        let mut other = Split::new("dev", array![[7.0], [8.0]], captions(2)).unwrap();
        let mut train = train;
        assert_eq!(other.shared_with(&train), None);
        (other.ids, train.ids) = (Some(vec!["x".into(), "b".into()]), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert!(other.shared_with(&train).unwrap().contains("1 of its 2 ids are in train too"));
        (other.ids, train.ids) = (Some(vec!["1".into(), "0".into()]), Some(vec!["0".into(), "2".into(), "1".into()]));
        assert_eq!(other.shared_with(&train), None, "numbers of rows");
    }
}
