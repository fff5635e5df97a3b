//! Decides which rows are one image, and which image each caption belongs to: by count, or by name.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::captions::{count_of, without_number};
use super::copies::{Copies, Grouping, Rows, alike};
use crate::error::Error;

/// Which rows and captions belong together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pairing {
    /// The first row of each image, `[N]`.
    pub(super) firsts: Vec<usize>,
    /// The image of each caption, in the order of the file, `[M]`.
    pub(super) image_of: Vec<usize>,
    /// The id of each image, if there are ids.
    pub(super) ids: Option<Vec<String>>,
    pub(super) notes: Vec<String>,
}

/// Why rows and captions could not be paired.
#[derive(Debug)]
pub(super) enum Problem {
    /// They do not fit. `line` is the line of the caption file where that shows, if there is one.
    Misfit { line: Option<usize>, text: String },
    /// A row could not be read.
    Rows(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Rows(error)
    }
}

fn misfit<T>(line: Option<usize>, text: String) -> Result<T, Problem> {
    Err(Problem::Misfit { line, text })
}

/// What is known about a split before its rows and captions are paired.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// The split's name.
    pub(super) name: &'a str,
    pub(super) rows: &'a dyn Rows,
    /// The number of rows, and F.
    pub(super) dim: (usize, usize),
    pub(super) copies: &'a Copies,
    /// M.
    pub(super) captions: usize,
    /// The name before each caption, `[M]`.
    pub(super) names: Option<&'a [String]>,
    /// The file of ids, line by line.
    pub(super) ids: Option<&'a [String]>,
}

/// # Errors
///
/// If the number of captions `m` is not a multiple of the number of rows.
pub(super) fn check_count((rows, columns): (usize, usize), m: usize) -> Result<(), Problem> {
    if rows > 0 && m > 0 && m.is_multiple_of(rows) {
        return Ok(());
    }
    let mut text = format!("expected a multiple of the {rows} row(s) of features, found {}", count_of(m, rows));
    let causes = if rows == 0 || m < rows {
        "There are fewer captions than images: is this the file of another split?".to_owned()
    } else if (m % rows) * 2 <= rows {
        "Usual causes: a line break within a caption, or a header line".to_owned()
    } else {
        "Usual causes: a lost caption, or two captions on one line".to_owned()
    };
    let _ = write!(text, ". {causes}");
    if columns > 1 && m.is_multiple_of(columns) && m >= columns {
        let _ = write!(text, ". It is a multiple of the {columns} columns: is the matrix transposed?");
    }
    misfit(None, text)
}

impl Known<'_> {
    /// Pairs rows and captions by name if there are names, and by count otherwise.
    ///
    /// # Errors
    ///
    /// If they do not fit, with the first line at which that shows.
    pub(super) fn pair(self) -> Result<Pairing, Problem> {
        let rows = self.dim.0;
        let Some(ids) = self.ids else {
            return match self.names {
                Some(names) => self.by_name(names),
                None => self.by_count(),
            };
        };
        let of_rows = ids.len() == rows;
        match self.names {
            Some(names) if of_rows => self.by_id(names, ids),
            // One id for each caption: the same as a name before each caption.
            None if !of_rows && ids.len() == self.captions && repeat(ids) => self.by_name(ids),
            // One id for each row. If rows are captions, equal ids may also say which rows are one image.
            None if of_rows => {
                let (mut pairing, note) = match (rows == self.captions && repeat(ids)).then(|| self.by_name(ids)) {
                    Some(Ok(pairing)) => (pairing, None),
                    Some(Err(Problem::Misfit { text, .. })) => {
                        (self.by_count()?, Some(format!("{}: by {text}", self.name)))
                    }
                    Some(Err(problem)) => return Err(problem),
                    None => (self.by_count()?, None),
                };
                pairing.notes.extend(note);
                pairing.ids = Some(pairing.firsts.iter().map(|&row| ids[row].clone()).collect());
                Ok(pairing)
            }
            names => {
                let mut pairing = names.map_or_else(|| self.by_count(), |names| self.by_name(names))?;
                pairing.notes.push(format!(
                    "{}: {}_ids.txt is not used: expected {rows} ids, one for each row, found {}",
                    self.name,
                    self.name,
                    ids.len()
                ));
                Ok(pairing)
            }
        }
    }

    /// Row i goes with the captions k i … k i + k − 1. With one caption for each row, equal rows are one
    /// image: see [`Copies::images`].
    fn by_count(self) -> Result<Pairing, Problem> {
        let (rows, m) = (self.dim.0, self.captions);
        check_count(self.dim, m)?;
        if m > rows {
            let image_of = (0..m).map(|caption| caption / (m / rows)).collect();
            return Ok(Pairing { firsts: (0..rows).collect(), image_of, ids: None, notes: Vec::new() });
        }
        let Grouping { firsts, image_of, note } = self.copies.images();
        let notes = note.map(|note| format!("{}: {note}", self.name)).into_iter().collect();
        Ok(Pairing { firsts, image_of, ids: None, notes })
    }

    /// By the names before the captions, without ids of the rows. If there are as many names as rows, the
    /// rows are in the order in which the names first occur. With one caption for each row, rows of one
    /// name are one image.
    fn by_name(self, names: &[String]) -> Result<Pairing, Problem> {
        let (rows, m) = (self.dim.0, self.captions);
        let (mut of_name, mut lines) = (HashMap::new(), Vec::new());
        let mut image_of = Vec::with_capacity(m);
        for (line, name) in names.iter().enumerate() {
            let image = *of_name.entry(name.as_str()).or_insert_with(|| {
                lines.push(line);
                lines.len() - 1
            });
            image_of.push(image);
        }
        let distinct = lines.len();
        let ids = Some(lines.iter().map(|&line| names[line].clone()).collect());
        let mut notes = Vec::new();
        if rows == m {
            for (row, &image) in image_of.iter().enumerate() {
                let first = lines[image];
                if !self.alike(first, row)? {
                    let text = format!(
                        "the name {:?} is that of line {} too, but rows {row} and {first} differ: by the names they are \
                         one image, by the features they are two",
                        names[row],
                        first + 1
                    );
                    return misfit(Some(row + 1), text);
                }
            }
            if distinct < rows {
                notes.push(format!(
                    "{}: the {rows} rows are {distinct} images, by their names; R@K counts images",
                    self.name
                ));
            }
            return Ok(Pairing { firsts: lines, image_of, ids, notes });
        }
        if distinct != rows {
            return self.wrong_number_of_names(names, distinct);
        }
        if let Some(line) = (0..m).find(|&line| !self.is_by_count(line, image_of[line])) {
            let sorted = image_of.is_sorted();
            let how = if sorted { "not every image has as many" } else { "those of one image are not neighbours" };
            notes.push(format!(
                "{}: captions are grouped by the names before them ({how}: line {} is the first that counting would \
                 give to another row); the rows are taken to be in the order in which the names occur first",
                self.name,
                line + 1
            ));
        }
        Ok(Pairing { firsts: (0..rows).collect(), image_of, ids, notes })
    }

    /// The error for another number of names than of rows, with the first line that counting and names place
    /// differently.
    fn wrong_number_of_names(self, names: &[String], distinct: usize) -> Result<Pairing, Problem> {
        let (rows, m) = (self.dim.0, self.captions);
        let text = format!(
            "the captions name {distinct} images, and there are {rows} rows of features ({})",
            count_of(m, rows)
        );
        if !m.is_multiple_of(rows) {
            return misfit(None, text);
        }
        let per_row = m / rows;
        let odd = (1..m).find(|&line| (names[line] == names[line - 1]) != (line % per_row != 0)).unwrap_or(0);
        let text = format!(
            "{text}: by count this line belongs to row {}, but its name is {:?} and that of the line before is {:?}",
            odd / per_row,
            names[odd],
            names[odd.saturating_sub(1)]
        );
        misfit(Some(odd + 1), text)
    }

    /// By names before the captions and ids of the rows, which are matched.
    fn by_id(self, names: &[String], ids: &[String]) -> Result<Pairing, Problem> {
        // Rows of one id are one image.
        let (mut of_id, mut firsts) = (HashMap::new(), Vec::new());
        for (row, id) in ids.iter().enumerate() {
            let image = *of_id.entry(id.as_str()).or_insert_with(|| {
                firsts.push(row);
                firsts.len() - 1
            });
            if !self.alike(firsts[image], row)? {
                let text = format!("rows {} and {row} have one id, {id:?}, but their features differ", firsts[image]);
                return misfit(None, text);
            }
        }
        let distinct: Vec<&str> = firsts.iter().map(|&row| ids[row].as_str()).collect();
        let image_of = match_names(names, &distinct).map_err(|line| Problem::Misfit {
            line: Some(line + 1),
            text: format!(
                "the caption's image is {:?}, and no row has this id in {}_ids.txt, whose ids are such as {:?}",
                names[line], self.name, ids[0]
            ),
        })?;
        let used: HashSet<usize> = image_of.iter().copied().collect();
        if let Some(image) = (0..firsts.len()).find(|image| !used.contains(image)) {
            let text = format!("row {} has the id {:?}, and no caption names it", firsts[image], distinct[image]);
            return misfit(None, text);
        }
        let moved: Vec<usize> =
            (0..self.captions).filter(|&line| !self.is_by_count(line, firsts[image_of[line]])).collect();
        let mut notes = Vec::new();
        if firsts.len() < ids.len() {
            notes.push(format!(
                "{}: the {} rows are {} images, by their ids; R@K counts images",
                self.name,
                ids.len(),
                firsts.len()
            ));
        } else if let Some(&line) = moved.first() {
            notes.push(format!(
                "{}: {} of the {} captions go to another row by name than by count (first: line {}, {:?}, row {}); the names \
                 are followed",
                self.name,
                moved.len(),
                self.captions,
                line + 1,
                names[line],
                firsts[image_of[line]]
            ));
        }
        let ids = Some(distinct.into_iter().map(str::to_owned).collect());
        Ok(Pairing { firsts, image_of, ids, notes })
    }

    /// Whether a line, counted from 0, belongs to a row by count.
    fn is_by_count(self, line: usize, row: usize) -> bool {
        self.captions.is_multiple_of(self.dim.0) && line / (self.captions / self.dim.0) == row
    }

    /// Whether two rows are equal, or nearly.
    ///
    /// # Errors
    ///
    /// If one cannot be read.
    fn alike(self, a: usize, b: usize) -> Result<bool, Error> {
        if a == b { Ok(true) } else { alike(self.rows, a, b) }
    }
}

/// Whether an id occurs twice.
fn repeat(ids: &[String]) -> bool {
    ids.iter().collect::<HashSet<_>>().len() < ids.len()
}

/// The place of each name in a list of ids. Four ways of comparing are tried in turn: as they are, without
/// folders, without the ending of a picture, and by the last number. The first way in which every name
/// matches one id, and no id two different names, is used.
///
/// # Errors
///
/// With the first name that has no such id, in the way that matches the most names.
fn match_names(names: &[String], ids: &[&str]) -> Result<Vec<usize>, usize> {
    let mut best: Option<(usize, usize)> = None;
    let keys: [fn(&str) -> Option<&str>; 4] = [|name| Some(as_is(name)), without_folder, without_ending, last_number];
    for key in keys {
        let mut places = HashMap::new();
        let unique =
            ids.iter().enumerate().all(|(place, id)| key(id).is_some_and(|k| places.insert(k, place).is_none()));
        if !unique {
            continue;
        }
        let found: Vec<Option<usize>> = names.iter().map(|name| places.get(key(name)?).copied()).collect();
        let mut name_at: HashMap<usize, &str> = HashMap::new();
        let known = found.iter().zip(names).take_while(|(place, name)| {
            place.is_some_and(|place| *name_at.entry(place).or_insert(name) == name.as_str())
        });
        let known = known.count();
        if known == names.len() {
            return Ok(found.into_iter().flatten().collect());
        }
        let matched = found.iter().flatten().count();
        if best.is_none_or(|(most, _)| matched > most) {
            best = Some((matched, known));
        }
    }
    Err(best.map_or(0, |(_, line)| line))
}

fn as_is(name: &str) -> &str {
    without_number(name).unwrap_or(name)
}

fn without_folder(name: &str) -> Option<&str> {
    as_is(name).rsplit(['/', '\\']).next()
}

fn without_ending(name: &str) -> Option<&str> {
    let name = without_folder(name)?;
    Some(name.rsplit_once('.').map_or(name, |(stem, _)| stem))
}

/// The last number, without leading zeros: `COCO_val2014_000000000042.jpg` is 42.
fn last_number(name: &str) -> Option<&str> {
    let stem = without_ending(name)?;
    let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + stem[at..].chars().next().map_or(1, char::len_utf8));
    let digits = stem[start..end].trim_start_matches('0');
    Some(if digits.is_empty() { "0" } else { digits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&s| s.to_owned()).collect()
    }

    fn pair(
        rows: &Array2<f32>,
        captions: usize,
        names: Option<&[&str]>,
        ids: Option<&[&str]>,
    ) -> Result<Pairing, Problem> {
        let copies = Copies::find(rows.view());
        let (names, ids) = (names.map(strings), ids.map(strings));
        Known {
            name: "test",
            rows: &rows.view(),
            dim: rows.dim(),
            copies: &copies,
            captions,
            names: names.as_deref(),
            ids: ids.as_deref(),
        }
        .pair()
    }

    #[track_caller]
    fn refused(found: Result<Pairing, Problem>) -> (Option<usize>, String) {
        match found {
            Err(Problem::Misfit { line, text }) => (line, text),
            other => panic!("expected rows and captions that do not fit, found {other:?}"),
        }
    }

    #[test]
    fn names_are_matched_to_ids_of_other_forms() {
        let rows = array![[1.0], [2.0], [3.0]];
        for ids in [["b.jpg", "a.jpg", "c.jpg"], ["x/b.jpg", "x/a.jpg", "x/c.jpg"], ["b", "a", "c"]] {
            let found =
                pair(&rows, 6, Some(&["a.jpg", "a.jpg", "b.jpg", "b.jpg", "c.jpg", "c.jpg"]), Some(&ids)).unwrap();
            assert_eq!(found.image_of, [1, 1, 0, 0, 2, 2], "{ids:?}");
            assert!(found.notes[0].contains("4 of the 6 captions go to another row"), "{:?}", found.notes);
            assert_eq!(found.ids.unwrap(), ids);
        }
        let coco = ["COCO_val_000000000042.jpg", "COCO_val_000000000007.jpg", "COCO_val_000000000100.jpg"];
        let found = pair(&rows, 3, Some(&coco), Some(&["7", "42", "100"])).unwrap();
        assert_eq!(found.image_of, [1, 0, 2]);
        // Images may have different numbers of captions if the names say so.
        let found = pair(&rows, 4, Some(&["3", "2", "3", "1"]), Some(&["1", "2", "3"])).unwrap();
        assert_eq!(found.image_of, [2, 1, 2, 0]);
    }

    #[test]
    fn names_that_match_no_id_or_not_every_id() {
        let rows = array![[1.0], [2.0]];
        let problem_of = |names: &[&str], ids: &[&str]| refused(pair(&rows, names.len(), Some(names), Some(ids)));
        let (line, text) = problem_of(&["a", "a", "x", "b"], &["a", "b"]);
        assert_eq!(line, Some(3));
        assert!(text.contains("\"x\"") && text.contains("\"a\""), "{text}");
        assert!(problem_of(&["a", "a", "a", "a"], &["a", "b"]).1.contains("row 1 has the id \"b\", and no caption"));
        // Two names with one number are two images.
        assert_eq!(problem_of(&["x1", "y1", "x2", "x2"], &["1", "2"]).0, Some(2));
        assert!(problem_of(&["a", "a"], &["a", "a"]).1.contains("rows 0 and 1 have one id"));
    }

    #[test]
    fn names_alone_must_agree_with_the_rows() {
        let rows = array![[1.0], [2.0]];
        let found = pair(&rows, 4, Some(&["a", "a", "b", "b"]), None).unwrap();
        assert_eq!((found.image_of, found.notes.len()), (vec![0, 0, 1, 1], 0));
        let found = pair(&rows, 4, Some(&["a", "b", "a", "b"]), None).unwrap();
        assert_eq!(found.image_of, [0, 1, 0, 1]);
        assert!(found.notes[0].contains("not neighbours: line 2"), "{:?}", found.notes);
        let found = pair(&rows, 3, Some(&["a", "a", "b"]), None).unwrap();
        assert_eq!(found.image_of, [0, 0, 1]);
        let (line, text) = refused(pair(&rows, 4, Some(&["a", "a", "b", "c"]), None));
        assert_eq!(line, Some(4));
        assert!(text.contains("name 3 images") && text.contains("\"c\""), "{text}");
    }

    #[test]
    fn where_rows_are_captions_rows_of_one_name_are_one_image() {
        let nearly = 1.0 + f32::EPSILON;
        let rows = array![[1.0, 1.0], [1.0, nearly], [2.0, 3.0], [2.0, 3.0]];
        let found = pair(&rows, 4, Some(&["a", "a", "b", "b"]), None).unwrap();
        assert_eq!((found.firsts, found.image_of), (vec![0, 2], vec![0, 0, 1, 1]));
        let (line, text) = refused(pair(&rows, 4, Some(&["a", "b", "b", "b"]), None));
        assert_eq!(line, Some(3));
        assert!(text.contains("\"b\"") && text.contains("rows 2 and 1 differ"), "{text}");
        // Ids that are repeated say the same as names.
        let found = pair(&rows, 4, None, Some(&["7", "7", "8", "8"])).unwrap();
        assert_eq!((found.firsts, found.ids), (vec![0, 2], Some(strings(&["7", "8"]))));
    }

    #[test]
    fn rounds_of_all_images_are_grouped_and_single_copies_are_not() {
        let rounds = array![[1.0], [2.0], [1.0], [2.0]];
        let found = pair(&rounds, 4, None, None).unwrap();
        assert_eq!((found.firsts, found.image_of), (vec![0, 1], vec![0, 1, 0, 1]));
        assert!(found.notes[0].contains("2 copies are not neighbours, such as rows 0 and 2"), "{:?}", found.notes);
        let single = array![[1.0], [2.0], [3.0], [1.0], [4.0]];
        let found = pair(&single, 5, None, None).unwrap();
        assert_eq!((found.firsts.len(), found.notes.len()), (5, 0));
    }

    #[test]
    fn a_wrong_count_is_explained() {
        let problem_of = |rows: usize, captions| refused(pair(&Array2::zeros((rows, 1)), captions, None, None)).1;
        assert!(
            problem_of(80, 401)
                .contains("401 = 5 · 80 + 1. Usual causes: a line break within a caption, or a header line")
        );
        assert!(problem_of(80, 399).contains("399 = 5 · 80 − 1. Usual causes: a lost caption"));
        assert!(problem_of(80, 79).contains("fewer captions than images"));
        let (_, turned) = refused(pair(&Array2::zeros((16, 40)), 200, None, None));
        assert!(turned.contains("It is a multiple of the 40 columns: is the matrix transposed?"), "{turned}");
    }

    #[test]
    fn ids_of_another_number_are_not_used() {
        let rows = array![[1.0], [2.0]];
        let found = pair(&rows, 4, None, Some(&["a", "b", "c"])).unwrap();
        assert!(found.notes[0].contains("test_ids.txt is not used: expected 2 ids"), "{:?}", found.notes);
        let found = pair(&rows, 4, None, Some(&["a", "b", "a", "b"])).unwrap();
        assert_eq!(found.image_of, [0, 1, 0, 1], "an id for each caption is a name");
        let found = pair(&rows, 4, None, Some(&["a", "b"])).unwrap();
        assert_eq!((found.ids, found.notes.len()), (Some(strings(&["a", "b"])), 0));
    }
}
