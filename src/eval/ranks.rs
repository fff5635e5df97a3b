//! Ranks by counting.
//!
//! ```text
//! (RANK-1)  rank(i) = number of captions of other images ahead of the best of i's own        image → text
//! (RANK-2)  rank(c) = number of images ahead of the image of c        text → image
//! (RANK-3)  ahead: a strictly greater score, or an equal score and a lower index
//! ```
//!
//! Ranks count from 0. The best of an image's captions is the one with the greatest score, and among
//! equals the first. Nothing is sorted, and only blocks of the score matrix exist: a rank is a count, and
//! the counts of blocks add up. One pass gives both directions.
//!
//! The same product computes the score of a right pair and those of its rivals. An element of it depends
//! only on its two vectors ([`crate::linalg`]), so equal vectors tie exactly.

// Scores tie if they are exactly equal.
#![allow(clippy::float_cmp)]

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView2, Axis, s};

use crate::error::{Error, ErrorKind, Result};
use crate::linalg::{self, Panels};
use crate::simd::vectorized;
use crate::similarity::Measure;

/// Images and captions per block of scores: 1 MiB, which stays in a core's cache.
const BLOCK: (usize, usize) = (252, 1024);

/// Images, and captions, packed at once for the products. The tests use a small number, to compare with
/// the definition across the borders.
const PACKED: usize = if cfg!(test) { 512 } else { 8 * BLOCK.1 };

/// The ranks of all queries, and the number that depend on a tie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// (RANK-1), `[N]`.
    pub image_to_text: Vec<usize>,
    /// (RANK-2), `[M]`.
    pub text_to_image: Vec<usize>,
    /// Image queries with a rival whose score equals that of their best caption.
    pub tied_images: usize,
    /// Caption queries with a rival whose score equals that of their image.
    pub tied_captions: usize,
}

/// The right answer to a query: its score and its index.
#[derive(Clone, Copy)]
struct Target {
    score: f32,
    index: usize,
}

/// The counts of one block of scores: of its rows, of its columns.
type Counts = (Vec<Count>, Vec<Count>);

/// How many rivals are ahead of a query's target, and whether one has its score.
#[derive(Clone, Copy, Default)]
struct Count {
    ahead: usize,
    tied: bool,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.ahead += other.ahead;
        self.tied |= other.tied;
    }
}

/// Ranks images [N, D] and captions [M, D] against each other. Image n has the captions
/// `starts[n]..starts[n + 1]`.
///
/// ```
/// use ndarray::array;
/// use vsepp::eval::rank;
/// use vsepp::similarity::Measure;
///
/// # fn main() -> vsepp::Result<()> {
/// let images = array![[1.0, 0.0], [0.0, 1.0]];
/// // Image 0 has captions 0 and 1, image 1 has caption 2, which looks like image 0.
/// let captions = array![[0.9, 0.1], [0.2, 0.8], [0.7, 0.6]];
/// let ranks = rank(images.view(), captions.view(), &[0, 2, 3], Measure::Cosine)?;
/// assert_eq!(ranks.image_to_text, [0, 1]);
/// assert_eq!(ranks.text_to_image, [0, 1, 1]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Fails if the dimensions differ, if `starts` does not divide the captions among the images,
/// or if a number or a score is not finite.
pub fn rank(
    images: ArrayView2<'_, f32>,
    captions: ArrayView2<'_, f32>,
    starts: &[usize],
    measure: Measure,
) -> Result<Ranks> {
    check(images, captions, starts)?;
    let (best, own) = targets(images, captions, starts, measure)?;

    let mut rows = vec![Count::default(); images.nrows()];
    let mut columns = vec![Count::default(); captions.nrows()];
    for (start, some) in (0..).step_by(PACKED).zip(images.axis_chunks_iter(Axis(0), PACKED)) {
        let mut scorer = Scorer::new(some, measure);
        for first in (0..captions.nrows()).step_by(PACKED) {
            let last = captions.nrows().min(first + PACKED);
            scorer.pack_captions(captions.slice(s![first..last, ..]));
            let starts_of_rows =
                std::iter::successors(Some(0), |&i| Some(scorer.block_end(i))).take_while(|&i| i < some.nrows());
            let blocks: Vec<(usize, usize)> =
                starts_of_rows.flat_map(|i| (first..last).step_by(BLOCK.1).map(move |c| (i, c))).collect();
            let counts: Vec<Result<Counts>> = blocks
                .par_iter()
                .map_init(
                    || Array2::default((0, 0)),
                    |scores, &(i, c)| {
                        scorer.block(i, c - first, scores);
                        let i = start + i;
                        check_scores(scores, i, c)?;
                        Ok((count_rows(scores, i, c, &best, starts), count_columns(scores, i, c, &own)))
                    },
                )
                .collect();
            for ((i, c), counts) in blocks.into_iter().zip(counts) {
                // Reports the first error, for any number of threads.
                let (row_counts, column_counts) = counts?;
                rows[start + i..].iter_mut().zip(row_counts).for_each(|(count, more)| count.add(more));
                columns[c..].iter_mut().zip(column_counts).for_each(|(count, more)| count.add(more));
            }
        }
    }
    let ranks = |counts: &[Count]| counts.iter().map(|count| count.ahead).collect();
    let tied = |counts: &[Count]| counts.iter().filter(|count| count.tied).count();
    Ok(Ranks {
        image_to_text: ranks(&rows),
        text_to_image: ranks(&columns),
        tied_images: tied(&rows),
        tied_captions: tied(&columns),
    })
}

/// Computes scores block by block: some images against some captions.
struct Scorer<'a> {
    measure: Measure,
    images: ArrayView2<'a, f32>,
    captions: ArrayView2<'a, f32>,
    /// The packed factors, if the scores are inner products.
    packed: Option<(Panels<f32>, Panels<f32>)>,
}

impl<'a> Scorer<'a> {
    fn new(images: ArrayView2<'a, f32>, measure: Measure) -> Self {
        let packed = (measure == Measure::Cosine).then(|| {
            let mut left = Panels::default();
            left.pack_left(images);
            (left, Panels::default())
        });
        Self { measure, images, captions: images, packed }
    }

    /// Packs other captions.
    fn pack_captions(&mut self, captions: ArrayView2<'a, f32>) {
        self.captions = captions;
        if let Some((_, right)) = &mut self.packed {
            right.pack_right(captions.t());
        }
    }

    /// Where the block ends that begins with image i: it has whole panels.
    fn block_end(&self, i: usize) -> usize {
        let images = self.images.nrows();
        self.packed.as_ref().map_or(images.min(i + BLOCK.0), |(left, _)| {
            let panels = (BLOCK.0 / left.width()).max(1);
            left.start(left.count().min(left.panel_of(i) + panels))
        })
    }

    /// The scores from image i and from caption c of the packed captions, [≤ 252, ≤ 1024].
    fn block(&self, i: usize, c: usize, scores: &mut Array2<f32>) {
        let rows = i..self.block_end(i);
        let columns = c..self.captions.nrows().min(c + BLOCK.1);
        if let Some((left, right)) = &self.packed {
            linalg::reshape(scores, (rows.len(), columns.len()));
            let rows = left.panel_of(rows.start)..left.panel_of(rows.end);
            let columns = right.panel_of(columns.start)..columns.end.div_ceil(right.width());
            linalg::matmul_panels(left, right, rows, columns, scores.view_mut());
        } else {
            let (f, g) = (self.images.slice(s![rows, ..]), self.captions.slice(s![columns, ..]));
            self.measure.scores_into(f, g, scores);
        }
    }
}

fn check(images: ArrayView2<'_, f32>, captions: ArrayView2<'_, f32>, starts: &[usize]) -> Result<()> {
    if images.ncols() != captions.ncols() {
        let expected = format!("[M, D = {}], the dimension of the images", images.ncols());
        return Err(Error::shape("captions", expected, captions.shape()));
    }
    let divides = starts.len() == images.nrows() + 1
        && starts.first() == Some(&0)
        && starts.last() == Some(&captions.nrows())
        && starts.windows(2).all(|w| w[0] < w[1]);
    if !divides {
        let problem = format!(
            "expected at least one caption for each of {} images, {} in all; found borders {:?}…",
            images.nrows(),
            captions.nrows(),
            &starts[..starts.len().min(4)]
        );
        return Err(Error::mismatch(problem));
    }
    check_finite(images, captions)
}

/// # Errors
///
/// If a number is NaN or infinite.
pub(super) fn check_finite(images: ArrayView2<'_, f32>, captions: ArrayView2<'_, f32>) -> Result<()> {
    for (tensor, matrix) in [("images", images), ("captions", captions)] {
        if let Some(((row, column), value)) = not_finite(matrix) {
            let index = vec![row, column];
            return Err(ErrorKind::NotFinite { tensor: tensor.into(), index, value }.into());
        }
    }
    Ok(())
}

/// The first number that is not finite, and its index. A first pass tests all numbers without an early
/// exit, which is faster.
fn not_finite(matrix: ArrayView2<'_, f32>) -> Option<((usize, usize), f64)> {
    let finite = |row: ndarray::ArrayView1<'_, f32>| match row.to_slice() {
        Some(row) => vectorized(
            #[inline(always)]
            || row.iter().fold(true, |finite, x| finite & x.is_finite()),
        ),
        None => row.iter().all(|x| x.is_finite()),
    };
    let rows = matrix.axis_iter(Axis(0)).into_par_iter().with_min_len(linalg::rows_at_once(matrix.ncols()));
    if rows.all(finite) {
        return None;
    }
    matrix.indexed_iter().find(|(_, x)| !x.is_finite()).map(|(place, &x)| (place, f64::from(x)))
}

/// Fails if a score is not finite: the product of long finite vectors can overflow, and NaN would
/// silently rank first. The block begins at image i and caption c.
fn check_scores(scores: &Array2<f32>, i: usize, c: usize) -> Result<()> {
    match not_finite(scores.view()) {
        None => Ok(()),
        Some(((row, column), value)) => {
            let tensor = "score of image and caption".into();
            Err(ErrorKind::NotFinite { tensor, index: vec![i + row, c + column], value }.into())
        }
    }
}

/// The best caption of every image `[N]`, and the image of every caption `[M]`, with their scores.
fn targets(
    images: ArrayView2<'_, f32>,
    captions: ArrayView2<'_, f32>,
    starts: &[usize],
    measure: Measure,
) -> Result<(Vec<Target>, Vec<Target>)> {
    /// Images per product when right pairs are scored; most of each product is not used.
    const IMAGES: usize = 32;
    let blocks: Vec<usize> = (0..images.nrows()).step_by(IMAGES).collect();
    let found: Vec<Result<(Vec<Target>, Vec<Target>)>> = blocks
        .par_iter()
        .map(|&first| {
            let last = images.nrows().min(first + IMAGES);
            let offset = starts[first];
            let scores =
                measure.scores(images.slice(s![first..last, ..]), captions.slice(s![offset..starts[last], ..]));
            let (mut best, mut own) = (Vec::new(), Vec::new());
            for image in first..last {
                let mut target: Option<Target> = None;
                for index in starts[image]..starts[image + 1] {
                    let score = scores[[image - first, index - offset]];
                    own.push(Target { score, index: image });
                    if target.is_none_or(|best| score > best.score) {
                        target = Some(Target { score, index });
                    }
                }
                best.extend(target);
            }
            check_scores(&scores, first, offset)?;
            Ok((best, own))
        })
        .collect();
    // Reports the first error, for any number of threads.
    let found: Vec<_> = found.into_iter().collect::<Result<_>>()?;
    let (best, own): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    Ok((best.concat(), own.concat()))
}

/// (RANK-1) over one block of scores: a count for each of its rows.
fn count_rows(scores: &Array2<f32>, i: usize, c: usize, best: &[Target], starts: &[usize]) -> Vec<Count> {
    let count = |(row, scores): (usize, ndarray::ArrayView1<'_, f32>)| {
        let image = i + row;
        let target = best[image];
        let scores = scores.to_slice().expect("contiguous");
        // (RANK-1)  rank(i) = number of captions of other images ahead of the best of i's own
        let (ahead, equal) = compare(scores, target.score);
        let mut count = Count { ahead: ahead as usize, tied: false };
        if equal > 0 {
            for (column, _) in scores.iter().enumerate().filter(|(_, s)| **s == target.score) {
                let caption = c + column;
                // The image's own captions are not rivals, and none of them is ahead of the best.
                if !(starts[image]..starts[image + 1]).contains(&caption) {
                    count.tied = true;
                    // (RANK-3)  ahead: a strictly greater score, or an equal score and a lower index
                    count.ahead += usize::from(caption < target.index);
                }
            }
        }
        count
    };
    scores.outer_iter().enumerate().map(count).collect()
}

/// (RANK-2) over one block of scores: a count for each of its columns.
fn count_columns(scores: &Array2<f32>, i: usize, c: usize, own: &[Target]) -> Vec<Count> {
    let targets = &own[c..c + scores.ncols()];
    let target_scores: Vec<f32> = targets.iter().map(|target| target.score).collect();
    let mut ahead = vec![0u32; scores.ncols()];
    let mut equal = vec![0u32; scores.ncols()];
    for row in scores.outer_iter() {
        let row = row.to_slice().expect("contiguous");
        vectorized(
            #[inline(always)]
            || {
                for (((ahead, equal), &score), &target) in ahead.iter_mut().zip(&mut equal).zip(row).zip(&target_scores)
                {
                    *ahead += u32::from(score > target);
                    *equal += u32::from(score == target);
                }
            },
        );
    }
    // (RANK-2)  rank(c) = number of images ahead of the image of c
    let count = |(column, target): (usize, &Target)| {
        let mut count = Count { ahead: ahead[column] as usize, tied: false };
        if equal[column] > 0 {
            for (row, score) in scores.column(column).iter().enumerate() {
                let image = i + row;
                if *score == target.score && image != target.index {
                    count.tied = true;
                    count.ahead += usize::from(image < target.index);
                }
            }
        }
        count
    };
    targets.iter().enumerate().map(count).collect()
}

/// The number of scores strictly greater than the target, and the number equal to it.
fn compare(scores: &[f32], target: f32) -> (u32, u32) {
    vectorized(
        #[inline(always)]
        || {
            scores.iter().fold((0, 0), |(greater, equal), &score| {
                (greater + u32::from(score > target), equal + u32::from(score == target))
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn even(images: usize, each: usize) -> Vec<usize> {
        (0..=images).map(|n| n * each).collect()
    }

    /// The definition, with loops over a whole score matrix.
    fn by_definition(scores: &Array2<f32>, starts: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let (n, m) = scores.dim();
        let rows = (0..n).map(|i| {
            let own = starts[i]..starts[i + 1];
            let best = own.clone().fold(own.start, |b, c| if scores[[i, c]] > scores[[i, b]] { c } else { b });
            let ahead =
                |c: &usize| scores[[i, *c]] > scores[[i, best]] || (scores[[i, *c]] == scores[[i, best]] && *c < best);
            (0..m).filter(|c| !own.contains(c)).filter(ahead).count()
        });
        let columns = (0..m).map(|c| {
            let own = (0..n).find(|&i| (starts[i]..starts[i + 1]).contains(&c)).unwrap();
            let ahead =
                |i: &usize| scores[[*i, c]] > scores[[own, c]] || (scores[[*i, c]] == scores[[own, c]] && *i < own);
            (0..n).filter(ahead).count()
        });
        (rows.collect(), columns.collect())
    }

    fn vectors(rows: usize, seed: usize) -> Array2<f32> {
        // Few distinct values, so that many scores tie.
        Array2::from_shape_fn((rows, 3), |(i, j)| ((i * 7919 + j * 104_729 + seed) % 5) as f32 - 2.0)
    }

    #[test]
    fn rank_1_2_3_equal_the_definition_across_blocks_with_many_ties() {
        for measure in [Measure::Cosine, Measure::Order, Measure::OrderSquared] {
            let (images, captions) = (vectors(600, 1), vectors(1800, 2));
            let starts = even(600, 3);
            let ranks = rank(images.view(), captions.view(), &starts, measure).unwrap();
            let expected = by_definition(&measure.scores(images.view(), captions.view()), &starts);
            assert_eq!((&ranks.image_to_text, &ranks.text_to_image), (&expected.0, &expected.1), "{measure}");
            assert!(ranks.tied_images > 500 && ranks.tied_captions > 1500);
        }
    }

    #[test]
    fn rank_3_puts_the_lower_index_ahead() {
        let same = array![[1.0f32, 0.0], [1.0, 0.0], [1.0, 0.0]];
        let ranks = rank(same.view(), same.view(), &even(3, 1), Measure::Cosine).unwrap();
        assert_eq!(ranks.image_to_text, [0, 1, 2]);
        assert_eq!(ranks.text_to_image, [0, 1, 2]);
        assert_eq!((ranks.tied_images, ranks.tied_captions), (3, 3));
    }

    #[test]
    fn the_norm_of_an_image_moves_image_retrieval_and_not_caption_retrieval() {
        // `no_imgnorm`: scaling an image scales its whole row of scores, but only one entry of each column.
        let (images, captions) = (vectors(50, 3) + 0.25, vectors(150, 4) + 0.125);
        let scaled = Array2::from_shape_fn(images.dim(), |(i, j)| images[[i, j]] * [0.5, 1.0, 4.0][i % 3]);
        let starts = even(50, 3);
        let plain = rank(images.view(), captions.view(), &starts, Measure::Cosine).unwrap();
        let moved = rank(scaled.view(), captions.view(), &starts, Measure::Cosine).unwrap();
        assert_eq!(plain.image_to_text, moved.image_to_text);
        assert_ne!(plain.text_to_image, moved.text_to_image);
    }

    #[test]
    fn an_images_own_captions_are_not_rivals() {
        let images = array![[1.0f32, 0.0], [0.0, 1.0]];
        let captions = array![[1.0f32, 0.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]];
        let ranks = rank(images.view(), captions.view(), &[0, 2, 4], Measure::Cosine).unwrap();
        assert_eq!(ranks.image_to_text, [0, 0]);
        assert_eq!(ranks.text_to_image, [0, 0, 1, 0]);
        assert_eq!((ranks.tied_images, ranks.tied_captions), (0, 1));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let v = vectors(4, 0);
        let message = |images: &Array2<f32>, starts: &[usize]| {
            rank(images.view(), v.view(), starts, Measure::Cosine).unwrap_err().to_string()
        };
        assert!(message(&vectors(2, 0), &[0, 4]).contains("for each of 2 images"));
        assert!(message(&Array2::zeros((2, 5)), &[0, 2, 4]).contains("[M, D = 5]"));
        assert!(message(&array![[0.0, 0.0, 0.0], [0.0, f32::NAN, 0.0]], &[0, 2, 4]).contains("images: NaN at [1, 1]"));
        let huge = Array2::from_elem((4, 3), 1e30f32);
        let error = rank(huge.view(), huge.view(), &even(4, 1), Measure::Cosine).unwrap_err().to_string();
        assert!(error.contains("score of image and caption: inf at [0, 0]"), "{error}");
    }
}
