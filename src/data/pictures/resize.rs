//! Pillow's bilinear resize, to the bit.
//!
//! ```text
//! along an axis, from n numbers to m:
//!   scale = n / m,  s = max(scale, 1),  centre = (x + ½) scale                               (in f64)
//!   from = max(0, trunc(centre − s + ½)),  to = min(n, trunc(centre + s + ½))
//!   weight of i = max(0, 1 − |(i − centre + ½) (1/s)|),  from ≤ i < to,  each divided by their sum
//!   c_i = trunc(½ + 2²² weight)
//!   y = (2²¹ + Σ c_i x_i) >> 22, clipped to 0 … 255                                      (in integers)
//! ```
//!
//! Across first, then down, with whole numbers in between. Pillow from version 13 on goes down first if the height
//! shrinks, and by more than twice as many pixels as the width. (Earlier ones never do: then up to a quarter of the
//! values of such a picture differ by 1.) A pass that changes no size is left out.

use std::ops::Range;

use super::picture::Picture;
use crate::simd::vectorized;

/// A part of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Window {
    /// All of a picture of some height and width.
    pub(crate) fn all([height, width]: [usize; 2]) -> Self {
        Self { top: 0, left: 0, height, width }
    }
}

/// How many bits of a coefficient are behind the point.
const BITS: u32 = 22;

/// What some numbers along an axis are computed from.
struct Taps {
    /// The numbers that are needed.
    needed: Range<usize>,
    /// For each result the first of its numbers, counted from `needed.start`, and the range of its coefficients. None
    /// if the size stays the same: the numbers that are needed are the results.
    places: Option<Vec<(usize, Range<usize>)>>,
    coefficients: Vec<i32>,
}

impl Taps {
    /// Of m results from n numbers, some.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` cuts off what is after the point, as in C
    fn new(n: usize, m: usize, results: Range<usize>) -> Self {
        if n == m {
            return Self { needed: results, places: None, coefficients: Vec::new() };
        }
        let scale = n as f64 / m as f64;
        let support = scale.max(1.0);
        let (mut places, mut coefficients, mut weights) = (Vec::with_capacity(results.len()), Vec::new(), Vec::new());
        let mut needed = n..0;
        for x in results {
            let centre = (x as f64 + 0.5) * scale;
            // `as` gives 0 for what is negative.
            let from = (centre - support + 0.5) as usize;
            let to = ((centre + support + 0.5) as usize).min(n);
            let weight = |i: usize| (1.0 - ((i as f64 - centre + 0.5) * (1.0 / support)).abs()).max(0.0);
            weights.clear();
            weights.extend((from..to).map(weight));
            let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
            let start = coefficients.len();
            coefficients.extend(weights.iter().map(|weight| (0.5 + weight / sum * f64::from(1 << BITS)) as i32));
            places.push((from, start..coefficients.len()));
            needed = needed.start.min(from)..needed.end.max(to);
        }
        for (from, _) in &mut places {
            *from -= needed.start;
        }
        Self { needed, places: Some(places), coefficients }
    }

    /// The first number and the coefficients of each result.
    fn iter<'a>(&'a self, places: &'a [(usize, Range<usize>)]) -> impl Iterator<Item = (usize, &'a [i32])> {
        places.iter().map(|(from, range)| (*from, &self.coefficients[range.clone()]))
    }
}

/// The whole number nearest to a sum.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clipped
fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// A part of what a window of a picture becomes if it is cut out and resized to a height and a width. Only this
/// part is computed.
///
/// # Panics
///
/// If the window is not in the picture, or the part not in what the window becomes.
pub(crate) fn resize(picture: &Picture, window: Window, [height, width]: [usize; 2], part: Window) -> Picture {
    let x = Taps::new(window.width, width, part.left..part.left + part.width);
    let y = Taps::new(window.height, height, part.top..part.top + part.height);
    let needed = Window {
        top: window.top + y.needed.start,
        left: window.left + x.needed.start,
        height: y.needed.len(),
        width: x.needed.len(),
    };
    let down_first = height < window.height && window.height - height + 2 * width > 2 * window.width;
    if down_first {
        let picture = down(picture, needed, &y);
        across(&picture, Window::all(picture.size()), &x)
    } else {
        let picture = across(picture, needed, &x);
        down(&picture, Window::all(picture.size()), &y)
    }
}

/// The rows of a window, resized across.
fn across(picture: &Picture, window: Window, taps: &Taps) -> Picture {
    let width = taps.places.as_ref().map_or(window.width, Vec::len);
    let mut rgb = Vec::with_capacity(3 * window.height * width);
    for y in window.top..window.top + window.height {
        let row = &picture.row(y)[3 * window.left..3 * (window.left + window.width)];
        match &taps.places {
            None => rgb.extend_from_slice(row),
            Some(places) => {
                for (from, coefficients) in taps.iter(places) {
                    let mut sums = [1 << (BITS - 1); 3];
                    for (&c, &[r, g, b]) in coefficients.iter().zip(&row.as_chunks().0[from..]) {
                        sums[0] += c * i32::from(r);
                        sums[1] += c * i32::from(g);
                        sums[2] += c * i32::from(b);
                    }
                    rgb.extend_from_slice(&sums.map(rounded));
                }
            }
        }
    }
    Picture { width, height: window.height, rgb }
}

/// The columns of a window, resized down.
fn down(picture: &Picture, window: Window, taps: &Taps) -> Picture {
    let row = |y: usize| &picture.row(window.top + y)[3 * window.left..3 * (window.left + window.width)];
    let mut rgb = Vec::new();
    let mut sums = vec![0; 3 * window.width];
    match &taps.places {
        None => (0..window.height).for_each(|y| rgb.extend_from_slice(row(y))),
        Some(places) => {
            for (from, coefficients) in taps.iter(places) {
                sums.fill(1 << (BITS - 1));
                for (y, &c) in (from..).zip(coefficients) {
                    add(&mut sums, c, row(y));
                }
                rgb.extend(sums.iter().map(|&sum| rounded(sum)));
            }
        }
    }
    let height = taps.places.as_ref().map_or(window.height, Vec::len);
    Picture { width: window.width, height, rgb }
}

/// Adds a row, times its coefficient.
fn add(sums: &mut [i32], c: i32, row: &[u8]) {
    vectorized(
        #[inline(always)]
        || {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += c * i32::from(x);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_as_many_by_hand() {
        // centre 1: 0.25, 0.75, 0.75, 0.25 less what is outside; all divided by their sum.
        let grey =
            |row: &[u8]| Picture { width: row.len(), height: 1, rgb: row.iter().flat_map(|&x| [x, x, x]).collect() };
        let picture = grey(&[0, 100, 200, 255]);
        let half = resize(&picture, Window::all([1, 4]), [1, 2], Window::all([1, 2]));
        // (0.75 · 0 + 0.75 · 100 + 0.25 · 200) / 1.75 = 71.4; (0.25 · 100 + 0.75 · 200 + 0.75 · 255) / 1.75 = 209.3.
        assert_eq!(half, grey(&[71, 209]));
        let twice = resize(&grey(&[0, 100]), Window::all([1, 2]), [1, 4], Window::all([1, 4]));
        assert_eq!(twice, grey(&[0, 25, 75, 100]));
    }

    #[test]
    fn a_height_that_shrinks_most_is_resized_first() {
        let rgb = (0..3 * 3 * 9u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let picture = Picture { width: 3, height: 9, rgb };
        let to = |picture: &Picture, size| resize(picture, Window::all(picture.size()), size, Window::all(size));
        let mut differ = 0;
        // Of 9 rows and 3 columns: more than twice as many rows less as columns less.
        for (down_first, height, width) in [
            (true, 6, 2),
            (false, 7, 2),
            (true, 4, 1),
            (false, 5, 1),
            (true, 8, 4),
            (true, 3, 5),
            (false, 9, 5),
            (false, 10, 4),
            (false, 10, 2),
        ] {
            let across = to(&to(&picture, [9, width]), [height, width]);
            let down = to(&to(&picture, [height, 3]), [height, width]);
            let expected = if down_first { &down } else { &across };
            assert_eq!(&to(&picture, [height, width]), expected, "{height} × {width}");
            differ += usize::from(across != down);
        }
        assert!(differ > 4, "{differ}");
    }

    #[test]
    fn a_part_is_that_part_of_the_whole() {
        let rgb = (0..3u32 * 37 * 29).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let picture = Picture { width: 37, height: 29, rgb };
        let window = Window { top: 2, left: 3, height: 25, width: 31 };
        let cut = resize(&picture, window, [25, 31], Window::all([25, 31]));
        assert_eq!(cut.row(4), &picture.row(6)[9..9 + 93], "no size changes: cut out");
        for size in [[25, 40], [60, 31], [60, 40], [9, 11], [1, 1]] {
            let whole = resize(&picture, window, size, Window::all(size));
            assert_eq!(whole, resize(&cut, Window::all(cut.size()), size, Window::all(size)), "cut out, then resized");
            let part =
                Window { top: size[0] / 3, left: size[1] / 4, height: size[0].div_ceil(2), width: size[1].div_ceil(2) };
            assert_eq!(
                resize(&picture, window, size, part),
                resize(&whole, part, [part.height, part.width], Window::all([part.height, part.width])),
                "{size:?}"
            );
        }
    }
}
