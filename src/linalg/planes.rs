//! Pictures [N, C, H, W] as planes of H·W numbers, and sums over a channel.

use ndarray::{Array1, Array4, ArrayBase, Data, Ix4};
use rayon::prelude::*;

use super::reduce::{lanes, reshape, rows_at_once};
use crate::real::Scalar;
use crate::simd::vectorized;

/// The numbers of pictures in standard layout. Plane k = n C + c is channel c of picture n.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planes<'a, T> {
    numbers: &'a [T],
    pictures: usize,
    channels: usize,
    pixels: usize,
}

impl<'a, T> Planes<'a, T> {
    /// # Panics
    ///
    /// If the array is not in standard layout.
    pub(crate) fn of(x: &'a ArrayBase<impl Data<Elem = T>, Ix4>) -> Self {
        let (pictures, channels, rows, columns) = x.dim();
        let numbers = x.as_slice().expect("in standard layout");
        Self { numbers, pictures, channels, pixels: rows * columns }
    }

    pub(crate) fn plane(&self, k: usize) -> &'a [T] {
        &self.numbers[k * self.pixels..(k + 1) * self.pixels]
    }
}

/// Runs `run(k, plane)` for every plane, on several threads if there is enough to do.
///
/// # Panics
///
/// If the array is not in standard layout.
pub(crate) fn each_plane<T: Send>(y: &mut Array4<T>, run: impl Fn(usize, &mut [T]) + Sync) {
    let pixels = y.dim().2 * y.dim().3;
    let numbers = y.as_slice_mut().expect("in standard layout");
    // A picture without pixels has no planes; rayon rejects a chunk size of 0.
    let planes = numbers.par_chunks_exact_mut(pixels.max(1)).enumerate();
    planes.with_min_len(rows_at_once(pixels)).for_each(|(k, plane)| run(k, plane));
}

/// Keeps the two results of `run(c)` for every channel c of x.
pub(crate) fn each_channel<T: Scalar>(
    x: Planes<'_, T>,
    first: &mut Array1<T>,
    second: &mut Array1<T>,
    run: impl Fn(usize) -> (T, T) + Sync,
) {
    reshape(first, x.channels);
    reshape(second, x.channels);
    let (first, second) = (first.as_slice_mut().expect("contiguous"), second.as_slice_mut().expect("contiguous"));
    let results = first.par_iter_mut().zip(second).enumerate();
    let at_once = rows_at_once(x.pictures * x.pixels);
    results.with_min_len(at_once).for_each(|(c, (first, second))| (*first, *second) = run(c));
}

/// Σ term(x, y) over the numbers of one channel of all pictures.
///
/// At most 1024 numbers are summed as [`super::dot`] does, in sixteen running sums. These blocks are added as a
/// binary tree. So the order depends on the shape alone, and the error stays small for millions of numbers.
pub(crate) fn channel_sum<T: Scalar>(
    x: Planes<'_, T>,
    y: Planes<'_, T>,
    channel: usize,
    term: impl Fn(T, T) -> T + Copy,
) -> T {
    const BLOCK: usize = 1 << 10;
    let blocks = x.pixels.div_ceil(BLOCK);
    let block = |k: usize| {
        let plane = k / blocks * x.channels + channel;
        let from = k % blocks * BLOCK;
        let to = x.pixels.min(from + BLOCK);
        let (x, y) = (&x.plane(plane)[from..to], &y.plane(plane)[from..to]);
        vectorized(
            #[inline(always)]
            || lanes(x, y, term),
        )
    };
    in_halves(0, x.pictures * blocks, &block)
}

/// Σ f(k) for from ≤ k < to: the two halves are summed separately.
fn in_halves<T: Scalar>(from: usize, to: usize, f: &impl Fn(usize) -> T) -> T {
    match to - from {
        0 => T::zero(),
        1 => f(from),
        n => in_halves(from, from + n / 2, f) + in_halves(from + n / 2, to, f),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_over_a_channel_is_that_of_its_numbers_and_the_same_on_any_number_of_threads() {
        // Small integers: every order of summation gives the same value.
        let x = Array4::from_shape_fn((3, 2, 50, 41), |(n, c, i, j)| ((n * 5 + c * 3 + i * 7 + j) % 11) as f64 - 4.0);
        let sums = |threads: usize, x: &Array4<f64>| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (mut sums, mut squares) = (Array1::default(0), Array1::default(0));
            let planes = Planes::of(x);
            let both = |c| (channel_sum(planes, planes, c, |x, _| x), channel_sum(planes, planes, c, |x, y| x * y));
            pool.install(|| each_channel(planes, &mut sums, &mut squares, both));
            (sums, squares)
        };
        let (found, squares) = sums(2, &x);
        for c in 0..2 {
            let channel = x.index_axis(ndarray::Axis(1), c);
            assert_eq!(found[c], channel.iter().fold(0.0, |sum, x| sum + x));
            assert_eq!(squares[c], channel.iter().fold(0.0, |sum, x| sum + x * x));
        }
        let tenths = x.mapv(|x| x / 10.0);
        assert!([2, 5].iter().all(|&threads| sums(threads, &tenths) == sums(1, &tenths)));
    }

    #[test]
    fn no_picture_or_no_pixel_has_the_sum_0() {
        for shape in [(0, 2, 3, 4), (3, 2, 0, 4)] {
            let mut x = Array4::<f32>::zeros(shape);
            each_plane(&mut x, |_, _| panic!("no plane"));
            let planes = Planes::of(&x);
            assert_eq!(channel_sum(planes, planes, 1, |x, _| x), 0.0);
        }
    }
}
