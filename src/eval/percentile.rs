//! How hard the hardest negative of a batch is, among all the negatives of its query.
//!
//! ```text
//! (EVAL-5)  percentile = 100 r / (n + 1), r = the rank of the batch's hardest among the query's n negatives, from the lowest
//! ```
//!
//! Where scores are equal, r is the mean of their ranks. For m negatives drawn at random from n different ones the
//! expected value is exactly 100 m / (m + 1), whatever the scores are: with m = B − 1, 99.2 for B = 128.

// Scores tie if they are exactly equal.
#![allow(clippy::float_cmp)]

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2, Axis};
use ndarray_rand::rand::RngCore;

use crate::random::{below, permutation};
use crate::similarity::Measure;

/// Images that are drawn at least, if there are as many.
const IMAGES: usize = 128;

/// The mean of (EVAL-5) over the queries of a batch, images and captions: `batch` of the images `[N, D]`, drawn at
/// random, each with one of its captions `[M, D]`. Image n has the captions `starts[n]..starts[n + 1]`. Of small
/// batches there are several, with [`IMAGES`] images in all. None if a query has no negative.
pub(crate) fn hardest_percentile(
    images: ArrayView2<'_, f32>,
    captions: ArrayView2<'_, f32>,
    starts: &[usize],
    measure: Measure,
    batch: usize,
    rng: &mut impl RngCore,
) -> Option<f64> {
    let batch = batch.min(images.nrows());
    if batch < 2 {
        return None;
    }
    let mut drawn_images = permutation(rng, images.nrows());
    drawn_images.truncate(IMAGES.max(batch));
    drawn_images.truncate(drawn_images.len() / batch * batch);
    let captions_of = |image: usize| starts[image]..starts[image + 1];
    let one_of = |of: Range<usize>| of.start + below(rng, of.len());
    let drawn_captions: Vec<usize> = drawn_images.iter().map(|&image| captions_of(image)).map(one_of).collect();
    let of_images = measure.scores(images.select(Axis(0), &drawn_images).view(), captions);
    let of_captions = measure.scores(images, captions.select(Axis(0), &drawn_captions).view());
    let mut sum = 0.0;
    for (k, &image) in drawn_images.iter().enumerate() {
        let of_batch = k / batch * batch..(k / batch + 1) * batch;
        sum += percentile(of_images.row(k), captions_of(image), &drawn_captions[of_batch.clone()]);
        sum += percentile(of_captions.column(k), image..image + 1, &drawn_images[of_batch]);
    }
    Some(sum / (2 * drawn_images.len()) as f64)
}

/// (EVAL-5) of a query: its scores, which of them are right, and which are in the batch.
fn percentile(scores: ArrayView1<'_, f32>, right: Range<usize>, batch: &[usize]) -> f64 {
    let negatives = batch.iter().filter(|at| !right.contains(at));
    let hardest = negatives.fold(f32::NEG_INFINITY, |hardest, &at| hardest.max(scores[at]));
    let (mut lower, mut equal) = (0, 0);
    for (_, &score) in scores.indexed_iter().filter(|(at, _)| !right.contains(at)) {
        lower += usize::from(score < hardest);
        equal += usize::from(score == hardest);
    }
    let n = scores.len() - right.len();
    // (EVAL-5)  percentile = 100 r / (n + 1), r = the rank of the batch's hardest among the query's n negatives, from the lowest
    let r = lower as f64 + (equal + 1) as f64 / 2.0;
    100.0 * r / (n + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Symmetric, stream};
    use ndarray::{Array2, array};
    use ndarray_rand::RandomExt;

    #[test]
    fn eval_5_by_hand() {
        let scores = array![0.9, 0.8, 0.1, 0.5, 0.5, 0.3];
        // Right: 0 and 1. Four negatives: 0.1, 0.3, 0.5, 0.5.
        assert_eq!(percentile(scores.view(), 0..2, &[1, 2, 5]), 100.0 * 2.0 / 5.0);
        assert_eq!(percentile(scores.view(), 0..2, &[0, 2]), 100.0 / 5.0);
        assert_eq!(percentile(scores.view(), 0..2, &[3, 5]), 100.0 * 3.5 / 5.0, "the mean of ranks 3 and 4");
    }

    #[test]
    fn a_batch_of_all_images_has_the_hardest_of_all_and_one_image_has_no_negative() {
        let mut rng = stream(0, "hardest");
        let (images, starts): (_, Vec<usize>) = (Array2::<f32>::eye(5), (0..=5).collect());
        let captions = Array2::random_using((5, 5), Symmetric(1.0), &mut rng).mapv(|x| x as f32);
        let mut found =
            |batch| hardest_percentile(images.view(), captions.view(), &starts, Measure::Cosine, batch, &mut rng);
        approx::assert_relative_eq!(found(5).unwrap(), 80.0, max_relative = 1e-14);
        assert_eq!((found(1), found(9).is_some()), (None, true));
        let equal = Array2::ones((5, 5));
        let found = hardest_percentile(equal.view(), equal.view(), &starts, Measure::Cosine, 3, &mut rng);
        assert_eq!(found, Some(50.0));
    }

    #[test]
    fn small_batches_are_apart_from_each_other() {
        // A score is the product of two of the numbers 1 to 4. Image and caption i with the negative j: j has the rank
        // j among the negatives of i, or j − 1 if i < j. So the ranks of a pair add up to i + j − 1, and those of two
        // pairs to 8, whichever pairs are drawn: the mean is 2.
        let (column, starts) = (array![[1.0], [2.0], [3.0], [4.0]], [0, 1, 2, 3, 4]);
        for (batch, rank) in [(2, 2.0), (4, 3.0)] {
            let rng = &mut stream(0, "hardest");
            let found = hardest_percentile(column.view(), column.view(), &starts, Measure::Cosine, batch, rng);
            assert_eq!(found, Some(100.0 * rank / 4.0));
        }
    }

    /// Random vectors, 40 images with two captions each, batches of 8. The percentile of one query is between 0 and
    /// 100 and has a standard deviation of √(m / ((m + 1)² (m + 2))), 11 for m = 7: that of the mean over 2,000
    /// batches is at most 11 / √2000 = 0.25, however the queries of a batch depend on each other.
    #[test]
    fn the_mean_is_that_of_random_draws() {
        let mut rng = stream(0, "hardest");
        let starts: Vec<usize> = (0..=40).map(|image| 2 * image).collect();
        let images = Array2::random_using((40, 6), Symmetric(1.0), &mut rng).mapv(|x| x as f32);
        let captions = Array2::random_using((80, 6), Symmetric(1.0), &mut rng).mapv(|x| x as f32);
        let draw = |_| hardest_percentile(images.view(), captions.view(), &starts, Measure::Cosine, 8, &mut rng);
        let mean = (0..2000).filter_map(draw).sum::<f64>() / 2000.0;
        assert!((mean - 87.5).abs() < 4.0 * 0.25, "{mean}");
    }
}
