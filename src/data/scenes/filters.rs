//! Computes image features from the pixels with a fixed bank of filters.
//!
//! Nothing is learned here, and the scene is not used: the only argument is the [`Picture`]. The bank is
//! classical: a soft colour histogram and a histogram of oriented gradients (Dalal and Triggs, CVPR 2005),
//! each over a grid of cells:
//!
//! - **colour**: in each of 4 × 4 cells, the amount of each of 27 colours;
//! - **edges**: in each of 8 × 8 cells, the strength of the edges in each of 8 directions.
//!
//! A feature is the square root of a cell's mean response, so that strong edges do not hide weak ones. The
//! responses are integers, and so are their sums: the order of addition cannot change them. Each feature
//! then takes one division and one square root, which IEEE 754 rounds correctly, so its bits are the same
//! on every machine. [`Standardiser`] then centres the features.

use ndarray::{Array1, Array2, Axis, s};

use crate::data::pictures::Picture;

/// Cells along a side of the colour grid.
const COLOUR_CELLS: usize = 4;

/// Cells along a side of the edge grid.
const EDGE_CELLS: usize = 8;

/// Levels of each of red, green and blue: none, half, full.
const LEVELS: usize = 3;

/// Points of the colour cube.
const COLOURS: usize = LEVELS * LEVELS * LEVELS;

/// Half the range of a channel, which is the distance between two levels.
const HALF: i32 = 128;

/// The directions of an edge's normal, up to sign, 22.5° apart, as integer vectors of length 65.
/// 25² + 60² = 65² exactly; 2·46² is slightly more than 65² (4232 instead of 4225).
const NORMALS: [(i32, i32); 8] = [(65, 0), (60, 25), (46, 46), (25, 60), (0, 65), (-25, 60), (-46, 46), (-60, 25)];

/// The colour features come first.
const COLOUR_FEATURES: usize = COLOUR_CELLS * COLOUR_CELLS * COLOURS;

/// The edge features follow.
const EDGE_FEATURES: usize = EDGE_CELLS * EDGE_CELLS * NORMALS.len();

/// Number of features of a picture: 432 for colour and 512 for edges.
pub(crate) const FEATURES: usize = COLOUR_FEATURES + EDGE_FEATURES;

/// The [`FEATURES`] features of a picture, all ≥ 0.
pub(super) fn features(picture: &Picture) -> Vec<f32> {
    let colour = pool(picture, COLOUR_CELLS, |x, y| colours(picture.pixel(x, y)));
    let edges = pool(picture, EDGE_CELLS, |x, y| edge(picture, x, y));
    colour.chain(edges).collect()
}

/// The square root of each response's mean over each cell of a `cells` × `cells` grid. The cells are in
/// row order, and the responses of a cell are adjacent.
fn pool<const N: usize>(
    picture: &Picture,
    cells: usize,
    response: impl Fn(usize, usize) -> [i32; N],
) -> impl Iterator<Item = f32> {
    let mut sums = vec![[0_i64; N]; cells * cells];
    for y in 0..picture.height {
        for x in 0..picture.width {
            let cell = (y * cells / picture.height) * cells + x * cells / picture.width;
            for (sum, value) in sums[cell].iter_mut().zip(response(x, y)) {
                *sum += i64::from(value);
            }
        }
    }
    let pixels = (picture.width * picture.height) as f64 / (cells * cells) as f64;
    sums.into_iter().flatten().map(move |sum| {
        let mean = sum as f64 / pixels; // the conversion is exact: a sum is below 2⁵³
        single(mean.sqrt())
    })
}

/// Rounds a feature to the precision of the model's input.
#[expect(clippy::cast_possible_truncation, reason = "rounding is intended")]
fn single(feature: f64) -> f32 {
    feature as f32
}

/// Distributes a pixel among the eight nearest points of the colour cube; nearer points get more. Along
/// each channel the weight is 1 − |v − level|/128 (here times 128) for the levels 0, 128 and 256; a share
/// is the product over the channels. The 27 shares sum to 128³.
fn colours(rgb: [i32; 3]) -> [i32; COLOURS] {
    let weight = |value: i32, level: i32| (HALF - (value - level).abs()).max(0);
    let weights = |value| [weight(value, 0), weight(value, HALF), weight(value, 2 * HALF)];
    let [red, green, blue] = [weights(rgb[0]), weights(rgb[1]), weights(rgb[2])];
    let mut shares = [0; COLOURS];
    for (k, share) in shares.iter_mut().enumerate() {
        let (r, g, b) = (k / (LEVELS * LEVELS), k / LEVELS % LEVELS, k % LEVELS);
        *share = red[r] * green[g] * blue[b];
    }
    shares
}

/// The edge at a pixel: for the normal nearest to the gradient, 65 times the gradient's component along
/// it; 0 for all others.
fn edge(picture: &Picture, x: usize, y: usize) -> [i32; NORMALS.len()] {
    let (gx, gy) = gradient(picture, x, y);
    let mut strengths = [0; NORMALS.len()];
    for (k, (nx, ny)) in NORMALS.iter().enumerate() {
        strengths[k] = (nx * gx + ny * gy).abs();
    }
    let mut response = [0; NORMALS.len()];
    // Among equally strong directions the first is taken, so that ties are well defined.
    let mut winner = 0;
    for (k, &strength) in strengths.iter().enumerate() {
        if strength > strengths[winner] {
            winner = k;
        }
    }
    response[winner] = strengths[winner];
    response
}

/// Sobel derivatives to the right and downwards (a central difference, smoothed across), for the channel
/// with the longest gradient. Beyond the border, the border's pixels are repeated.
fn gradient(picture: &Picture, x: usize, y: usize) -> (i32, i32) {
    let (left, right) = (x.saturating_sub(1), (x + 1).min(picture.width - 1));
    let row = |y| [picture.pixel(left, y), picture.pixel(x, y), picture.pixel(right, y)];
    let [above, level, below] = [row(y.saturating_sub(1)), row(y), row((y + 1).min(picture.height - 1))];
    let mut longest = (0, 0);
    for c in 0..3 {
        let right = above[2][c] + 2 * level[2][c] + below[2][c];
        let left = above[0][c] + 2 * level[0][c] + below[0][c];
        let down = below[0][c] + 2 * below[1][c] + below[2][c];
        let up = above[0][c] + 2 * above[1][c] + above[2][c];
        let (gx, gy) = (right - left, down - up);
        if gx * gx + gy * gy > longest.0 * longest.0 + longest.1 * longest.1 {
            longest = (gx, gy);
        }
    }
    longest
}

/// Centres the features, and gives colours and edges the same variance.
///
/// It subtracts from every feature its mean over the training split, and divides by one number for all
/// colours and one for all edges: the root of their mean variance. A whole family shares one number,
/// because dividing each feature by its own deviation would amplify the features that almost never
/// change, and those hold only grain.
#[derive(Clone, Debug)]
pub(super) struct Standardiser {
    mean: Array1<f64>,
    scale: Array1<f64>,
}

impl Standardiser {
    /// Measures the training split. Without images, or without variance, the divisor is 1. Sums run from
    /// the first row to the last, so their bits are fixed.
    pub(super) fn measure(features: &Array2<f32>) -> Self {
        let rows = features.nrows().max(1) as f64;
        let mut mean = Array1::zeros(FEATURES);
        for row in features.rows() {
            mean.zip_mut_with(&row, |sum: &mut f64, &x| *sum += f64::from(x));
        }
        mean /= rows;
        let mut variance = Array1::zeros(FEATURES);
        for row in features.rows() {
            for ((sum, &x), &centre) in variance.iter_mut().zip(row).zip(&mean) {
                let deviation = f64::from(x) - centre;
                *sum += deviation * deviation;
            }
        }
        variance /= rows;
        let mut scale = Array1::ones(FEATURES);
        for family in [s![..COLOUR_FEATURES], s![COLOUR_FEATURES..]] {
            let variances = variance.slice(family);
            let total: f64 = variances.iter().fold(0.0, |sum, &v: &f64| sum + v);
            if total > 0.0 {
                scale.slice_mut(family).fill((total / variances.len() as f64).sqrt());
            }
        }
        Self { mean, scale }
    }

    /// Centres and divides every row.
    pub(super) fn apply(&self, features: &mut Array2<f32>) {
        for mut row in features.axis_iter_mut(Axis(0)) {
            for ((x, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *x = single((f64::from(*x) - mean) / scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 48 × 48 pixels from a function of x and y.
    fn picture(rgb: impl Fn(usize, usize) -> [u8; 3]) -> Picture {
        let mut bytes = Vec::new();
        for y in 0..48 {
            for x in 0..48 {
                bytes.extend(rgb(x, y));
            }
        }
        Picture { width: 48, height: 48, rgb: bytes }
    }

    #[test]
    fn the_shares_of_a_pixel_have_a_fixed_sum() {
        for rgb in [[0, 0, 0], [255, 255, 255], [128, 3, 77], [200, 100, 50]] {
            assert_eq!(colours(rgb).iter().sum::<i32>(), HALF * HALF * HALF);
        }
        assert_eq!(colours([0, 0, 0])[0], HALF * HALF * HALF);
        assert_eq!(colours([128, 128, 128])[13], HALF * HALF * HALF);
    }

    #[test]
    fn a_flat_picture_has_colour_and_no_edges() {
        let features = features(&picture(|_, _| [128, 0, 128]));
        assert_eq!(features.len(), FEATURES);
        let full = f64::from(HALF * HALF * HALF).sqrt() as f32;
        for cell in features[..COLOUR_FEATURES].chunks(COLOURS) {
            // Levels (1, 0, 1) of red, green, blue: point 9·1 + 3·0 + 1.
            assert!(cell.iter().enumerate().all(|(k, &x)| x == if k == 10 { full } else { 0.0 }));
        }
        assert!(features[COLOUR_FEATURES..].iter().all(|&x| x == 0.0));
    }

    #[test]
    fn an_edge_answers_in_its_cell_and_direction() {
        // Dark on the left, bright from column 27 on. So the edges are at columns 26 and 27, in cell
        // column 4, and brightness rises to the right, direction 0.
        let features = features(&picture(|x, _| if x < 27 { [0; 3] } else { [200; 3] }));
        for (k, &x) in features[COLOUR_FEATURES..].iter().enumerate() {
            let (column, direction) = (k / NORMALS.len() % EDGE_CELLS, k % NORMALS.len());
            assert_eq!(x > 0.0, column == 4 && direction == 0, "cell {column}, {direction}");
        }
    }

    #[test]
    fn a_slanting_edge_falls_to_the_nearest_normal() {
        // Brightness rises along (12, 5)/13, that is 22.6°.
        let features = features(&picture(|x, y| [((12 * x + 5 * y) / 4) as u8; 3]));
        let strongest = |direction: usize| features[COLOUR_FEATURES + 8 * 27 + direction];
        assert!((0..8).all(|k| k == 1 || strongest(k) < strongest(1)));
    }

    #[test]
    fn standardised_features_have_mean_zero_and_mean_variance_one() {
        let mut features = Array2::from_shape_fn((5, FEATURES), |(i, j)| ((i * 7 + j) % 11) as f32);
        Standardiser::measure(&features).apply(&mut features);
        let wide = features.mapv(f64::from);
        let mean = wide.mean_axis(Axis(0)).unwrap();
        assert!(mean.iter().all(|m| m.abs() < 1e-6));
        for family in [s![.., ..COLOUR_FEATURES], s![.., COLOUR_FEATURES..]] {
            let square = wide.slice(family).mapv(|x| x * x).mean().unwrap();
            assert!((square - 1.0).abs() < 1e-6, "{square}");
        }
    }

    #[test]
    fn without_images_nothing_is_scaled() {
        let mut one = Array2::from_elem((1, FEATURES), 2.0_f32);
        let standardiser = Standardiser::measure(&one);
        standardiser.apply(&mut one);
        assert!(one.iter().all(|&x| x == 0.0));
        let nothing = Standardiser::measure(&Array2::zeros((0, FEATURES)));
        assert!(nothing.scale.iter().all(|&x| x == 1.0));
    }
}
