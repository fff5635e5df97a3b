//! Rows that occur more than once: equal to the bit, or nearly equal.
//!
//! In one pass over all rows, each row gets a mark: a hash of its numbers, its length, and its inner
//! products with two fixed random directions. Equal rows have equal hashes; rows that differ by a
//! millionth of their length have nearly the same products. Candidates found by their marks are
//! read again and compared number by number, so that nothing false is reported. Only the marks are in
//! memory all at once, not the rows.

use std::collections::HashMap;

use ndarray::{ArrayView1, ArrayView2, Axis};
use ndarray_rand::rand::distr::Distribution;
use rayon::prelude::*;

use super::store::{ImageStore, SplitImages, numbers_of, width};
use crate::error::{Error, Result};
use crate::files::reserve;
use crate::model::Images;
use crate::random::{Symmetric, stream};
use crate::simd::vectorized;

/// Rows that differ by less than this share of their length are nearly equal.
pub(crate) const NEARLY: f64 = 1e-6;

/// Which rows of a matrix are copies of others. Rows are numbered from 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copies {
    /// For each row, the first row that equals it; its own number if there is no earlier one.
    /// −0 equals 0.
    pub first: Vec<usize>,
    /// Rows that are not equal to an earlier row but differ from it by less than [`NEARLY`] of its length:
    /// pairs (earlier, later), sorted by the later row. Copies of an earlier row are left out.
    pub nearly: Vec<(usize, usize)>,
}

impl Copies {
    /// Looks for copies: O(N F) for the marks, O(N log N) for the rest.
    #[must_use]
    pub(crate) fn find(rows: ArrayView2<'_, f32>) -> Self {
        Self::of_marks(&rows, &mark_rows(rows))
            .unwrap_or_else(|error| unreachable!("rows in memory can be read: {error}"))
    }

    /// Rows that are all taken to differ.
    pub(super) fn none(rows: usize) -> Self {
        Self { first: (0..rows).collect(), nearly: Vec::new() }
    }

    /// # Errors
    ///
    /// If a row cannot be read.
    pub(super) fn of_marks(rows: &dyn Rows, marks: &[Mark]) -> Result<Self> {
        let mut known = Known::default();
        let first: Vec<usize> =
            marks.iter().enumerate().map(|(row, mark)| known.find_or_add(rows, row, mark)).collect::<Result<_>>()?;
        let nearly = nearly_equal(rows, marks, &first)?;
        Ok(Self { first, nearly })
    }

    /// The first row of each run of equal neighbouring rows, in rising order.
    #[must_use]
    pub(crate) fn starts(&self) -> Vec<usize> {
        (0..self.first.len()).filter(|&row| row == 0 || self.first[row] != self.first[row - 1]).collect()
    }

    /// Groups rows into images, for data with one row per caption. Equal neighbours are one image. If at
    /// least half of the runs are copies of an earlier run, as in a file that goes through all images several
    /// times, all equal rows are one image.
    #[must_use]
    pub(crate) fn images(&self) -> Grouping {
        let (rows, apart) = (self.first.len(), self.apart());
        let rounds = apart.len() * 2 >= self.starts().len();
        let (mut firsts, mut image_of, mut image_at) = (Vec::new(), Vec::with_capacity(rows), HashMap::new());
        for (row, &first) in self.first.iter().enumerate() {
            let known = if rounds { image_at.get(&first).copied() } else { None };
            let neighbour = (row > 0 && first == self.first[row - 1]).then(|| image_of[row - 1]);
            let image = known.or(neighbour).unwrap_or_else(|| {
                firsts.push(row);
                firsts.len() - 1
            });
            image_at.entry(first).or_insert(image);
            image_of.push(image);
        }
        let how = match apart.first() {
            Some((a, b)) if rounds => format!(
                "equal rows are one image, and {} copies are not neighbours, such as rows {a} and {b}",
                apart.len()
            ),
            _ => "equal neighbouring rows are one image".to_owned(),
        };
        let note = (firsts.len() < rows)
            .then(|| format!("the {rows} rows are {} images ({how}); R@K counts images", firsts.len()));
        Grouping { firsts, image_of, note }
    }

    /// Runs of equal neighbouring rows that equal an earlier run: pairs (first equal row, first row of the
    /// run), in rising order.
    #[must_use]
    pub(crate) fn apart(&self) -> Vec<(usize, usize)> {
        self.starts().into_iter().filter(|&row| self.first[row] < row).map(|row| (self.first[row], row)).collect()
    }
}

/// The rows of data with one row per caption, grouped into images.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grouping {
    /// The first row of each image, in rising order.
    pub firsts: Vec<usize>,
    /// The image of each row.
    pub image_of: Vec<usize>,
    /// A note, if there are fewer images than rows.
    pub note: Option<String>,
}

/// Rows that can be read one at a time.
pub(super) trait Rows: Sync {
    /// The numbers of a row; `buffer` is memory for them.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn read_row<'a>(&'a self, row: usize, buffer: &'a mut Images<f32>) -> Result<&'a [f32]>;
}

impl Rows for ArrayView2<'_, f32> {
    fn read_row<'a>(&'a self, row: usize, buffer: &'a mut Images<f32>) -> Result<&'a [f32]> {
        if let Some(numbers) = self.as_slice() {
            return Ok(&numbers[row * self.ncols()..][..self.ncols()]);
        }
        buffer.make_features(1, self.ncols()).row_mut(0).assign(&self.row(row));
        numbers_of(buffer)
    }
}

impl Rows for SplitImages {
    fn read_row<'a>(&'a self, row: usize, buffer: &'a mut Images<f32>) -> Result<&'a [f32]> {
        self.store().fill(&[self.rows()[row]], None, buffer)?;
        numbers_of(buffer)
    }
}

/// What is kept of a row to find others like it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Mark {
    hash: u64,
    length: f64,
    /// Inner products with two random directions.
    along: [f64; 2],
}

impl Mark {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

/// Rows of one matrix by their hash.
#[derive(Default)]
struct Known {
    /// A list for each hash, because different rows may have the same one.
    by_hash: HashMap<u64, Vec<usize>>,
}

impl Known {
    /// The known row of `of` that equals a row of `rows`, if there is one.
    fn find(&self, of: &dyn Rows, rows: &dyn Rows, row: usize, mark: &Mark) -> Result<Option<usize>> {
        let Some(candidates) = self.by_hash.get(&mark.hash) else { return Ok(None) };
        let (mut buffer, mut other) = (Images::default(), Images::default());
        let numbers = rows.read_row(row, &mut buffer)?;
        for &candidate in candidates {
            if of.read_row(candidate, &mut other)? == numbers {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    fn find_or_add(&mut self, rows: &dyn Rows, row: usize, mark: &Mark) -> Result<usize> {
        if let Some(known) = self.find(rows, rows, row, mark)? {
            return Ok(known);
        }
        self.by_hash.entry(mark.hash).or_default().push(row);
        Ok(row)
    }
}

/// Rows of `b` that equal a row of `a`: pairs (first such row of a, row of b), in the order of b.
///
/// # Errors
///
/// If a row cannot be read.
pub(super) fn shared(
    (a, marks_a): (&dyn Rows, &[Mark]),
    (b, marks_b): (&dyn Rows, &[Mark]),
) -> Result<Vec<(usize, usize)>> {
    let mut known = Known::default();
    for (row, mark) in marks_a.iter().enumerate() {
        known.find_or_add(a, row, mark)?;
    }
    let mut found = Vec::new();
    for (row, mark) in marks_b.iter().enumerate() {
        found.extend(known.find(a, b, row, mark)?.map(|first| (first, row)));
    }
    Ok(found)
}

/// The marks of all images of a store.
///
/// # Errors
///
/// If an image cannot be read, or if there is no memory for the marks.
pub(super) fn mark_store<S: ImageStore + ?Sized>(store: &S) -> Result<Vec<Mark>> {
    /// Numbers that are read at once: one MiB.
    const NUMBERS: usize = 1 << 18;
    let width = width(store);
    let per_piece = (NUMBERS / width.max(1)).max(1);
    let directions = directions(width);
    let mut marks = Vec::new();
    reserve(&mut marks, store.len() as u64).map_err(|problem| Error::mismatch(format!("images: {problem}")))?;
    marks.resize(store.len(), Mark::default());
    let mark_piece = |(images, rows): &mut (Images<f32>, Vec<usize>), (piece, marks): (usize, &mut [Mark])| {
        let first = piece * per_piece;
        rows.clear();
        rows.extend(first..first + marks.len());
        store.fill(rows, None, images)?;
        let numbers = numbers_of(images)?;
        for (at, mark) in marks.iter_mut().enumerate() {
            *mark = mark_row(&numbers[at * width..][..width], &directions);
        }
        Ok(())
    };
    // Reports the first error, for any number of threads.
    let done: Vec<Result<()>> =
        marks.par_chunks_mut(per_piece).enumerate().map_init(Default::default, mark_piece).collect();
    done.into_iter().collect::<Result<()>>()?;
    Ok(marks)
}

/// The marks of all rows of a matrix.
fn mark_rows(rows: ArrayView2<'_, f32>) -> Vec<Mark> {
    let directions = directions(rows.ncols());
    let mark = |row: ArrayView1<'_, f32>| match row.as_slice() {
        Some(numbers) => mark_row(numbers, &directions),
        None => mark_row(&row.to_vec(), &directions),
    };
    rows.axis_iter(Axis(0)).into_par_iter().map(mark).collect()
}

fn directions(width: usize) -> [Vec<f32>; 2] {
    let mut rng = stream(0, "copies");
    #[allow(clippy::cast_possible_truncation)] // any direction will do
    let mut direction = || (0..width).map(|_| Symmetric(1.0).sample(&mut rng) as f32).collect();
    [direction(), direction()]
}

/// Independent lanes, which the vector unit computes in parallel.
const LANES: usize = 16;

/// A hash of a row's numbers; −0 and 0 are the same.
pub(super) fn hash(row: &[f32]) -> u64 {
    vectorized(
        #[inline(always)]
        || hash_lanes(row),
    )
}

#[inline(always)]
fn hash_lanes(row: &[f32]) -> u64 {
    let mut hashes = [0u32; LANES];
    let mut take = |xs: &[f32; LANES]| {
        for lane in 0..LANES {
            // + 0 turns −0 into 0, which it equals.
            let bits = (xs[lane] + 0.0).to_bits();
            hashes[lane] = (hashes[lane].rotate_left(13) ^ bits).wrapping_mul(0x9e37_79b1);
        }
    };
    let (xs, rest) = row.as_chunks::<LANES>();
    xs.iter().for_each(&mut take);
    take(&padded(rest));
    hashes.iter().fold(0u64, |hash, &lane| (hash.rotate_left(27) ^ u64::from(lane)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What is left of a row, padded with zeros to the number of lanes.
#[inline(always)]
fn padded(rest: &[f32]) -> [f32; LANES] {
    std::array::from_fn(|lane| rest.get(lane).copied().unwrap_or(0.0))
}

fn mark_row(row: &[f32], directions: &[Vec<f32>; 2]) -> Mark {
    vectorized(
        #[inline(always)]
        || mark_lanes(row, [&directions[0], &directions[1]]),
    )
}

#[inline(always)]
fn mark_lanes(row: &[f32], directions: [&[f32]; 2]) -> Mark {
    let (mut squares, mut along) = ([0.0f64; LANES], [[0.0f64; LANES]; 2]);
    let mut take = |xs: &[f32; LANES], us: &[f32; LANES], vs: &[f32; LANES]| {
        for lane in 0..LANES {
            let x = f64::from(xs[lane]);
            squares[lane] += x * x;
            along[0][lane] += x * f64::from(us[lane]);
            along[1][lane] += x * f64::from(vs[lane]);
        }
    };
    let (xs, rest) = row.as_chunks::<LANES>();
    let ((us, rest_u), (vs, rest_v)) = (directions[0].as_chunks::<LANES>(), directions[1].as_chunks::<LANES>());
    for ((xs, us), vs) in xs.iter().zip(us).zip(vs) {
        take(xs, us, vs);
    }
    take(&padded(rest), &padded(rest_u), &padded(rest_v));
    let sum = |lanes: [f64; LANES]| lanes.iter().fold(0.0, |sum, x| sum + x);
    Mark { hash: hash_lanes(row), length: sum(squares).sqrt(), along: along.map(sum) }
}

/// Pairs (earlier, later) of distinct rows that differ by less than [`NEARLY`] of the length: for each
/// later row, the first earlier one that is found.
///
/// If rows are sorted by the first product over the length, such rows are close together. Only the next few
/// rows are compared, so that data in which all rows are alike do not take longer. If very many rows are
/// nearly equal, some pairs may be missed.
///
/// # Errors
///
/// If a row cannot be read.
fn nearly_equal(rows: &dyn Rows, marks: &[Mark], first: &[usize]) -> Result<Vec<(usize, usize)>> {
    /// The product with a random direction changes by about the difference's length.
    const WINDOW: f64 = 10.0 * NEARLY;
    const NEXT: usize = 64;
    let along = |row: usize, k: usize| marks[row].along[k] / marks[row].length;
    let usable = |row: &usize| first[*row] == *row && marks[*row].length > 0.0 && marks[*row].length.is_finite();
    let mut order: Vec<usize> = (0..marks.len()).filter(usable).collect();
    order.sort_by(|&i, &j| along(i, 0).total_cmp(&along(j, 0)).then(i.cmp(&j)));
    let pairs = (0..order.len()).into_par_iter().flat_map_iter(|at| {
        let row = order[at];
        let near = order[at + 1..]
            .iter()
            .copied()
            .take(NEXT)
            .take_while(move |&other| along(other, 0) - along(row, 0) < WINDOW);
        near.filter(move |&other| {
            (along(other, 1) - along(row, 1)).abs() < WINDOW
                && (marks[other].length / marks[row].length - 1.0).abs() < 2.0 * NEARLY
        })
        .filter_map(move |other| match alike(rows, row, other) {
            Ok(alike) => alike.then_some(Ok((row.min(other), row.max(other)))),
            Err(error) => Some(Err(error)),
        })
    });
    // Reports the first error, for any number of threads.
    let pairs: Vec<Result<(usize, usize)>> = pairs.collect();
    let mut pairs: Vec<(usize, usize)> = pairs.into_iter().collect::<Result<_>>()?;
    pairs.sort_unstable_by_key(|&(earlier, later)| (later, earlier));
    pairs.dedup_by_key(|&mut (_, later)| later);
    Ok(pairs)
}

/// Whether two rows of one matrix are equal or nearly equal.
///
/// # Errors
///
/// If a row cannot be read.
pub(super) fn alike(rows: &dyn Rows, a: usize, b: usize) -> Result<bool> {
    let (mut buffer, mut other) = (Images::default(), Images::default());
    Ok(differ_little(rows.read_row(a, &mut buffer)?, rows.read_row(b, &mut other)?))
}

/// Whether two rows are equal or differ by less than [`NEARLY`] of the first one's length.
pub(crate) fn differ_little<'a>(a: impl IntoIterator<Item = &'a f32>, b: impl IntoIterator<Item = &'a f32>) -> bool {
    let (length, difference) = a.into_iter().zip(b).fold((0.0, 0.0), |(length, difference), (&a, &b)| {
        let (a, b) = (f64::from(a), f64::from(b));
        (length + a * a, difference + (a - b) * (a - b))
    });
    difference == 0.0 || f64::sqrt(difference) < NEARLY * f64::sqrt(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array, s};

    /// Rows of 37 numbers, more than the lanes, no two alike.
    fn distinct(rows: usize) -> Array2<f32> {
        Array2::from_shape_fn((rows, 37), |(r, c)| ((r * 7919 + c * 104_729) % 1009) as f32 / 16.0 - 30.0)
    }

    #[test]
    fn distinct_rows_have_no_copies() {
        let rows = distinct(400);
        let copies = Copies::find(rows.view());
        assert_eq!(copies.first, (0..400).collect::<Vec<_>>());
        assert_eq!((copies.starts().len(), copies.apart(), copies.nearly), (400, vec![], vec![]));
    }

    #[test]
    fn runs_and_copies_that_are_apart() {
        let copies =
            Copies::find(array![[1.0, 0.0], [1.0, -0.0], [2.0, 3.0], [1.0, 0.0], [1.0, 0.0], [2.0, 3.0]].view());
        assert_eq!(copies.first, [0, 0, 2, 0, 0, 2], "−0 equals 0");
        assert_eq!(copies.starts(), [0, 2, 3, 5]);
        assert_eq!(copies.apart(), [(0, 3), (2, 5)]);
        // Columns first: the rows are not contiguous.
        let rows = distinct(9);
        let rows = ndarray::concatenate![Axis(0), rows, rows];
        let turned = rows.t().as_standard_layout().into_owned();
        assert_eq!(Copies::find(turned.t()), Copies::find(rows.view()));
        assert_eq!(Copies::find(rows.view()).apart().len(), 9);
    }

    #[test]
    fn rows_that_differ_by_less_than_a_millionth() {
        let rows = distinct(50);
        let shifted = |share: f32| rows.mapv(|x| x * (1.0 + share));
        // A factor of 1 + 2⁻²¹ moves a row by 4.8e-7 of its length.
        let apart = ndarray::concatenate![Axis(0), rows, shifted(4.8e-7)];
        let copies = Copies::find(apart.view());
        assert_eq!(copies.nearly, (0..50).map(|i| (i, i + 50)).collect::<Vec<_>>());
        assert!(copies.apart().is_empty());
        let further = ndarray::concatenate![Axis(0), rows, shifted(3e-6)];
        assert!(Copies::find(further.view()).nearly.is_empty(), "three millionths are not nearly equal");
        let mut one = distinct(50);
        let copy = one.row(7).mapv(|x| x * (1.0 + 4.8e-7));
        one.slice_mut(s![8, ..]).assign(&copy);
        assert_eq!(Copies::find(one.view()).nearly, [(7, 8)]);
    }

    #[test]
    fn no_rows_no_columns_zeros_and_rows_that_are_all_alike() {
        assert!(Copies::find(Array2::zeros((0, 3)).view()).starts().is_empty());
        assert_eq!(Copies::find(Array2::zeros((3, 0)).view()).starts(), [0]);
        assert_eq!(Copies::find(Array2::zeros((4, 3)).view()).nearly, []);
        // 20,000 rows within 1e-6 of each other: a comparison of all pairs would take minutes.
        let alike =
            Array2::from_shape_fn((20_000, 64), |(r, c)| if c == r % 64 { 1.0 + r as f32 * 1e-11 } else { 1.0 });
        let _ = Copies::find(alike.view());
    }

    #[test]
    fn rows_of_another_matrix() {
        let a = distinct(20);
        let b = a.slice(s![5..9, ..]).to_owned();
        let found = |b: ArrayView2<'_, f32>| shared((&a.view(), &mark_rows(a.view())), (&b, &mark_rows(b))).unwrap();
        assert_eq!(found(b.view()), [(5, 0), (6, 1), (7, 2), (8, 3)]);
        assert!(found(a.slice(s![.., ..36])).is_empty());
    }
}
