//! What an encoder sees of a picture.

use super::picture::Picture;
use crate::simd::vectorized;

/// The mean of each colour over `ImageNet`, in 0 … 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// The standard deviation of each colour.
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// The numbers of a picture, [3, Y, X]: x ↦ (x / 255 − mean) / deviation of its colour, with `f32`'s rounding
/// after each step, as torchvision's `ToTensor` and `Normalize` round.
pub(crate) fn normalise(picture: &Picture, to: &mut [f32]) {
    for (c, to) in to.chunks_exact_mut((picture.width * picture.height).max(1)).enumerate() {
        let (mean, deviation) = (MEAN[c], DEVIATION[c]);
        vectorized(
            #[inline(always)]
            || {
                for (to, pixel) in to.iter_mut().zip(picture.rgb.as_chunks::<3>().0) {
                    *to = (f32::from(pixel[c]) / 255.0 - mean) / deviation;
                }
            },
        );
    }
}

#[test]
fn colours_are_planes() {
    let picture = Picture { width: 2, height: 1, rgb: vec![0, 255, 51, 255, 0, 102] };
    let mut found = [0.0; 6];
    normalise(&picture, &mut found);
    let expected = [-0.485 / 0.229, 0.515 / 0.229, 0.544 / 0.224, -0.456 / 0.224, -0.206 / 0.225, -0.006 / 0.225];
    for (found, expected) in found.iter().zip(expected) {
        // Three roundings, of numbers below 1 and then of the result: 2⁻²⁴ · (1 + 1) / 0.22 + 2⁻²⁴ · 3.
        assert!((found - expected).abs() < 1e-6f32, "{found} {expected}");
    }
}
