//! Maximum of windows of a picture (ResNet: 3 × 3 every second pixel, padding 1; VGG: 2 × 2 every second).
//!
//! ```text
//! (MAXPOOL-1)   y = max of x over the window                      k × k pixels from row i s − p and column j s − p
//! (MAXPOOL-1′)  dx += dy at the first maximum of the window       in the order of the rows
//! ```
//!
//! Shapes: x [N, C, H, W], y [N, C, H′, W′], H′ = ⌊(H + 2p − k) / s⌋ + 1 and W′ likewise; k the kernel, s the stride,
//! p the padding. Outside the picture is −∞, which is never the maximum. Windows may overlap: their gradients add.
//! NaN is larger than any number, so that it does not vanish.

use std::ops::Range;

use ndarray::{Array4, ArrayView4};

use super::{Layer, Mode};
use crate::error::Result;
use crate::linalg::{self, Planes, Write};
use crate::real::{Real, Scalar};
use crate::simd::vectorized;

/// The largest number of each window; it has no parameters.
///
/// ```
/// use ndarray::{Array4, array};
/// use vsepp::nn::{Layer, MaxPool, MaxPoolCache, Mode, Write};
///
/// # fn main() -> vsepp::Result<()> {
/// let layer = MaxPool { kernel: 2, stride: 2, padding: 0 };
/// let (x, mut cache) = (array![[[[1.0, 5.0, 2.0, 2.0], [3.0, 4.0, 0.0, 2.0]]]], MaxPoolCache::default());
/// layer.forward(x.view(), Mode::Train, &mut cache)?;
/// assert_eq!(cache.y, array![[[[5.0, 2.0]]]]);
///
/// let (dy, mut dx) = (array![[[[10.0, 20.0]]]], Array4::zeros((0, 0, 0, 0)));
/// layer.backward(x.view(), &mut cache, &dy, Write::Replace, &mut layer.clone(), Some(&mut dx));
/// assert_eq!(dx, array![[[[0.0, 10.0, 20.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]); // the first of three twos
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// k: the rows and columns of a window.
    pub kernel: usize,
    /// s: the pixels from one window to the next.
    pub stride: usize,
    /// p: the pixels outside the picture, at most k / 2.
    pub padding: usize,
}

crate::module!(MaxPool);

/// What [`MaxPool`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct MaxPoolCache<T> {
    /// y [N, C, H′, W′]
    pub y: Array4<T>,
    /// The pixel i W + j of each maximum, [N, C, H′, W′].
    pub pixel: Array4<u32>,
}

impl MaxPool {
    /// H′ for H.
    pub(crate) fn windows(self, n: usize) -> usize {
        let Self { kernel, stride, padding } = self;
        let fits = kernel > 0 && stride > 0 && 2 * padding <= kernel && n > 0 && n + 2 * padding >= kernel;
        assert!(fits, "{self:?} of {n} rows or columns");
        (n + 2 * padding - kernel) / stride + 1
    }

    /// The rows of window i, of n.
    fn rows(self, i: usize, n: usize) -> Range<usize> {
        let end = i * self.stride + self.kernel - self.padding;
        (i * self.stride).saturating_sub(self.padding)..end.min(n)
    }
}

impl MaxPool {
    /// y alone, where no backward pass follows: the maximum of the rows first. Of two zeros it may be the other.
    pub(crate) fn embed<T: Scalar>(self, x: ArrayView4<'_, T>, y: &mut Array4<T>) {
        let (pictures, channels, height, width) = x.dim();
        linalg::reshape(y, (pictures, channels, self.windows(height), self.windows(width)));
        let x = x.as_standard_layout();
        let planes = Planes::of(&x);
        let windows = self.windows(width);
        linalg::each_plane(y, |k, y| {
            let mut highest = vec![T::zero(); width];
            for (i, y) in y.chunks_exact_mut(windows).enumerate() {
                let rows = self.rows(i, height);
                let mut rows = planes.plane(k)[rows.start * width..rows.end * width].chunks_exact(width);
                highest.copy_from_slice(rows.next().expect("a window has a row"));
                vectorized(
                    #[inline(always)]
                    || {
                        for row in rows {
                            for (largest, &x) in highest.iter_mut().zip(row) {
                                *largest = if exceeds(x, *largest) { x } else { *largest };
                            }
                        }
                    },
                );
                for (j, y) in y.iter_mut().enumerate() {
                    let columns = &highest[self.rows(j, width)];
                    // (MAXPOOL-1)  y = max of x over the window
                    *y = columns.iter().copied().reduce(|y, x| if exceeds(x, y) { x } else { y }).expect("a column");
                }
            }
        });
    }
}

/// Whether a number takes the place of the largest before it: if it is larger, or the first NaN.
#[inline(always)]
fn exceeds<T: Scalar>(next: T, largest: T) -> bool {
    let (next, largest) = (next.re(), largest.re());
    next > largest || (next.is_nan() && !largest.is_nan())
}

impl<T: Scalar> Layer<T> for MaxPool {
    /// x [N, C, H, W]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array4<T>;
    type Dx = Array4<T>;
    type Cache = MaxPoolCache<T>;

    fn forward(&self, x: ArrayView4<'_, T>, _: Mode, cache: &mut MaxPoolCache<T>) -> Result<()> {
        let (pictures, channels, height, width) = x.dim();
        assert!(u32::try_from(height * width).is_ok(), "the pixels of x {:?}", x.dim());
        let shape = (pictures, channels, self.windows(height), self.windows(width));
        let MaxPoolCache { y, pixel } = cache;
        linalg::reshape(y, shape);
        linalg::reshape(pixel, shape);
        let x = x.as_standard_layout();
        let planes = Planes::of(&x);
        linalg::each_plane(pixel, |k, pixel| {
            let x = planes.plane(k);
            for (i, pixel) in pixel.chunks_exact_mut(shape.3).enumerate() {
                for (j, pixel) in pixel.iter_mut().enumerate() {
                    *pixel = first_maximum(x, width, self.rows(i, height), self.rows(j, width));
                }
            }
        });
        let pixels = Planes::of(pixel);
        linalg::each_plane(y, |k, y| {
            let x = planes.plane(k);
            for (y, &pixel) in y.iter_mut().zip(pixels.plane(k)) {
                // (MAXPOOL-1)  y = max of x over the window
                *y = x[pixel as usize];
            }
        });
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut MaxPoolCache<T>,
        dy: &Array4<T>,
        _: Write,
        _: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let Some(dx) = dx else { return };
        assert_eq!(dy.dim(), cache.pixel.dim(), "dy of y");
        linalg::reshape(dx, x.dim());
        let dy = dy.as_standard_layout();
        let (dy, pixels) = (Planes::of(&dy), Planes::of(&cache.pixel));
        linalg::each_plane(dx, |k, dx| {
            dx.fill(T::zero());
            for (&dy, &pixel) in dy.plane(k).iter().zip(pixels.plane(k)) {
                // (MAXPOOL-1′)  dx += dy at the first maximum of the window
                dx[pixel as usize] += dy;
            }
        });
    }
}

/// The pixel of the first of the largest numbers of a window, or of its first NaN.
fn first_maximum<T: Scalar>(x: &[T], width: usize, rows: Range<usize>, columns: Range<usize>) -> u32 {
    let mut best = rows.start * width + columns.start;
    for i in rows {
        for pixel in i * width + columns.start..i * width + columns.end {
            if exceeds(x[pixel], x[best]) {
                best = pixel;
            }
        }
    }
    u32::try_from(best).expect("fewer pixels, as checked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn both(layer: MaxPool, x: &Array4<f64>, dy: &Array4<f64>) -> (Array4<f64>, Array4<f64>) {
        let (mut cache, mut dx) = (MaxPoolCache::default(), Array4::ones((1, 1, 9, 9)));
        layer.forward(x.view(), Mode::Train, &mut cache).unwrap();
        layer.backward(x.view(), &mut cache, dy, Write::Add, &mut layer.clone(), Some(&mut dx));
        let mut alone = Array4::default([0; 4]);
        layer.embed(x.view(), &mut alone);
        assert!(alone.iter().zip(&cache.y).all(|(a, b)| a == b || a.is_nan() && b.is_nan()), "{alone} {}", cache.y);
        (cache.y, dx)
    }

    #[test]
    fn maxpool_1_outside_is_below_every_number_and_overlapping_gradients_add() {
        // 3 × 3 every second pixel, padding 1: four windows that share the middle.
        let layer = MaxPool { kernel: 3, stride: 2, padding: 1 };
        let x = array![[[[-9.0, -2.0, -3.0], [-4.0, -1.0, -5.0], [-6.0, -7.0, -8.0]]]];
        let (y, dx) = both(layer, &x, &array![[[[1.0, 2.0], [3.0, 4.0]]]]);
        assert_eq!(y, Array4::from_elem((1, 1, 2, 2), -1.0));
        assert_eq!(dx, array![[[[0.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 0.0]]]]);
    }

    #[test]
    fn maxpool_1_the_first_of_equal_maxima_in_row_order_takes_the_gradient() {
        let layer = MaxPool { kernel: 2, stride: 2, padding: 0 };
        // A last row and a last column that fill no window.
        let x = array![[[[0.0, 7.0, 3.0, 3.0, 9.0], [7.0, 7.0, 3.0, 3.0, 9.0], [9.0, 9.0, 9.0, 9.0, 9.0]]]];
        let (y, dx) = both(layer, &x, &array![[[[1.0, 2.0]]]]);
        assert_eq!(y, array![[[[7.0, 3.0]]]]);
        let (row, zeros) = ([0.0, 1.0, 2.0, 0.0, 0.0], [0.0; 5]);
        assert_eq!(dx, Array4::from_shape_vec((1, 1, 3, 5), [row, zeros, zeros].concat()).unwrap());
    }

    #[test]
    fn nan_is_seen() {
        let layer = MaxPool { kernel: 2, stride: 1, padding: 0 };
        let (y, dx) = both(layer, &array![[[[1.0, f64::NAN, 3.0], [1.0, 2.0, f64::NAN]]]], &array![[[[1.0, 1.0]]]]);
        assert!(y.iter().all(|y| y.is_nan()));
        assert_eq!(dx, array![[[[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]]], "the first of two");
    }

    #[test]
    #[should_panic(expected = "of 2 rows or columns")]
    fn a_picture_smaller_than_the_window_is_refused() {
        both(MaxPool { kernel: 3, stride: 1, padding: 0 }, &Array4::zeros((1, 1, 2, 5)), &Array4::zeros((1, 1, 1, 1)));
    }
}
