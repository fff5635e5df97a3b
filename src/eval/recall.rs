//! Recall at K and the ranks' median and mean.
//!
//! ```text
//! (EVAL-1)  R@K = 100 · mean(rank < K), K = 1, 5, 10
//! (EVAL-2)  Med r = ⌊median(rank)⌋ + 1, Mean r = mean(rank) + 1            ranks count from 0
//! (EVAL-3)  rsum = the sum of the six recalls
//! (EVAL-4)  folds: the mean of every figure over k sequential parts of the images        COCO 1K: k = 5
//! ```

use ndarray::{ArrayView2, s};
use serde::{Deserialize, Serialize};

use super::ranks::rank;
use crate::error::{Error, Result};
use crate::similarity::Measure;

/// The figures of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// R@1, in per cent.
    pub r1: f64,
    /// R@5, in per cent.
    pub r5: f64,
    /// R@10, in per cent.
    pub r10: f64,
    /// Med r, from 1.
    pub medr: f64,
    /// Mean r, from 1.
    pub meanr: f64,
    /// Queries whose rank depends on a tie, summed over folds.
    pub tied: usize,
}

/// Both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// N, the total number of images.
    pub images: usize,
    /// M, the total number of captions.
    pub captions: usize,
    /// The number of parts evaluated separately; 1 for a single evaluation.
    pub folds: usize,
    /// Caption retrieval.
    pub image_to_text: Recall,
    /// Image retrieval.
    pub text_to_image: Recall,
    /// The sum of the six recalls.
    pub rsum: f64,
}

impl Recall {
    /// (EVAL-1) and (EVAL-2) for ranks from 0. Without ranks, all figures are 0.
    #[must_use]
    pub(crate) fn new(ranks: &[usize], tied: usize) -> Self {
        if ranks.is_empty() {
            return Self::default();
        }
        let n = ranks.len();
        // (EVAL-1)  R@K = 100 · mean(rank < K), K = 1, 5, 10
        let recall = |k: usize| 100.0 * ranks.iter().filter(|&&rank| rank < k).count() as f64 / n as f64;
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        // (EVAL-2)  Med r = ⌊median(rank)⌋ + 1, Mean r = mean(rank) + 1
        // The median of an even number of ranks is the mean of the middle two; it is rounded down.
        let median = usize::midpoint(sorted[(n - 1) / 2], sorted[n / 2]);
        let total = ranks.iter().sum::<usize>();
        Self {
            r1: recall(1),
            r5: recall(5),
            r10: recall(10),
            medr: median as f64 + 1.0,
            meanr: total as f64 / n as f64 + 1.0,
            tied,
        }
    }

    fn sum(&self) -> f64 {
        self.r1 + self.r5 + self.r10
    }

    /// Adds a k-th of each of a fold's figures.
    fn add_fold(&mut self, fold: &Self, folds: usize) {
        let k = folds as f64;
        self.r1 += fold.r1 / k;
        self.r5 += fold.r5 / k;
        self.r10 += fold.r10 / k;
        self.medr += fold.medr / k;
        self.meanr += fold.meanr / k;
        self.tied += fold.tied;
    }
}

/// Ranks in both directions and their recall; shapes as in [`rank`].
///
/// ```
/// use ndarray::{Array2, array};
/// use vsepp::eval::evaluate;
/// use vsepp::similarity::Measure;
///
/// # fn main() -> vsepp::Result<()> {
/// // Three images with a caption each; the captions of images 1 and 2 are exchanged.
/// let images = Array2::eye(3);
/// let captions = array![[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]];
/// let found = evaluate(images.view(), captions.view(), &[0, 1, 2, 3], Measure::Cosine)?;
/// assert!((found.image_to_text.r1 - 100.0 / 3.0).abs() < 1e-9);
/// assert_eq!(found.text_to_image.r5, 100.0);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The same as [`rank`].
pub fn evaluate(
    images: ArrayView2<'_, f32>,
    captions: ArrayView2<'_, f32>,
    starts: &[usize],
    measure: Measure,
) -> Result<Evaluation> {
    let ranks = rank(images, captions, starts, measure)?;
    let image_to_text = Recall::new(&ranks.image_to_text, ranks.tied_images);
    let text_to_image = Recall::new(&ranks.text_to_image, ranks.tied_captions);
    Ok(Evaluation {
        images: images.nrows(),
        captions: captions.nrows(),
        folds: 1,
        image_to_text,
        text_to_image,
        // (EVAL-3)  rsum = the sum of the six recalls
        rsum: image_to_text.sum() + text_to_image.sum(),
    })
}

/// (EVAL-4): [`evaluate`] on `folds` equal sequential parts of the images, and the mean of the figures.
///
/// # Errors
///
/// The same as [`rank`]; also if the images cannot be divided into `folds` equal parts.
pub fn evaluate_folds(
    images: ArrayView2<'_, f32>,
    captions: ArrayView2<'_, f32>,
    starts: &[usize],
    measure: Measure,
    folds: usize,
) -> Result<Evaluation> {
    let n = images.nrows();
    if folds == 0 || n < folds || !n.is_multiple_of(folds) {
        return Err(Error::config("folds", format!("a number that divides the {n} images"), folds));
    }
    if folds == 1 || starts.len() != n + 1 {
        return evaluate(images, captions, starts, measure);
    }
    let size = n / folds;
    let mut mean = Evaluation { images: n, captions: captions.nrows(), folds, ..Evaluation::default() };
    // (EVAL-4)  folds: the mean of every figure over k sequential parts of the images
    for first in (0..n).step_by(size) {
        let (start, end) = (starts[first], starts[first + size]);
        let borders: Vec<usize> = starts[first..=first + size].iter().map(|border| border - start).collect();
        let fold =
            evaluate(images.slice(s![first..first + size, ..]), captions.slice(s![start..end, ..]), &borders, measure)?;
        mean.image_to_text.add_fold(&fold.image_to_text, folds);
        mean.text_to_image.add_fold(&fold.text_to_image, folds);
        mean.rsum += fold.rsum / folds as f64;
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn eval_1_and_2_by_hand() {
        let recall = Recall::new(&[0, 0, 3, 4, 9, 10, 100, 2], 0);
        assert_eq!((recall.r1, recall.r5, recall.r10), (25.0, 62.5, 75.0));
        // Sorted 0 0 2 3 4 9 10 100: the median is 3.5, its floor 3.
        assert_eq!((recall.medr, recall.meanr), (4.0, 17.0));
        assert_eq!(Recall::new(&[5], 0).medr, 6.0);
        assert_eq!(Recall::new(&[], 0), Recall::default());
    }

    #[test]
    fn eval_3_and_4_folds_are_the_mean_of_their_parts() {
        let images = Array2::from_shape_fn((6, 4), |(i, j)| ((i * 5 + j * 3) % 7) as f32);
        let captions = Array2::from_shape_fn((12, 4), |(i, j)| ((i * 3 + j * 5) % 7) as f32);
        let starts: Vec<usize> = (0..=6).map(|n| 2 * n).collect();
        let part = |k: usize| {
            let (f, g) = (images.slice(s![3 * k..3 * k + 3, ..]), captions.slice(s![6 * k..6 * k + 6, ..]));
            evaluate(f, g, &[0, 2, 4, 6], Measure::Cosine).unwrap()
        };
        let (a, b) = (part(0), part(1));
        let mean = evaluate_folds(images.view(), captions.view(), &starts, Measure::Cosine, 2).unwrap();
        approx::assert_relative_eq!(mean.rsum, f64::midpoint(a.rsum, b.rsum), max_relative = 1e-14);
        assert_eq!(mean.image_to_text.meanr, f64::midpoint(a.image_to_text.meanr, b.image_to_text.meanr));
        approx::assert_relative_eq!(a.rsum, a.image_to_text.sum() + a.text_to_image.sum());
        let error = evaluate_folds(images.view(), captions.view(), &starts, Measure::Cosine, 4).unwrap_err();
        assert!(error.to_string().contains("folds = 4: expected a number that divides the 6 images"));
    }
}
