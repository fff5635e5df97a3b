//! Mean of the cells of a picture, k × k of them whatever its size (ResNet: k = 1, the mean of all pixels; VGG:
//! k = 7).
//!
//! ```text
//! (AVGPOOL-1)   y_ij = mean of x over the rows ⌊i H / k⌋ to ⌈(i + 1) H / k⌉ and the columns alike
//! (AVGPOOL-1′)  dx += dy / (pixels of the cell)
//! ```
//!
//! Shapes: x [N, C, H, W], y [N, C, k, k]. The last row of a range is not part of it. Where k does not divide H, two
//! neighbours share a row; where k is larger than H, a row belongs to several cells. Where k = H, nothing changes.

use std::ops::Range;

use ndarray::{Array4, ArrayView4};

use super::{Layer, Mode};
use crate::error::Result;
use crate::linalg::{self, Planes, Write};
use crate::real::{Real, Scalar};

/// The mean of each of k × k cells; it has no parameters.
///
/// ```
/// use ndarray::array;
/// use vsepp::nn::{AvgPool, AvgPoolCache, Layer, Mode};
///
/// # fn main() -> vsepp::Result<()> {
/// let (x, mut cache) = (array![[[[1.0, 5.0, 3.0], [3.0, 3.0, 9.0]]]], AvgPoolCache::default());
/// AvgPool { size: 1 }.forward(x.view(), Mode::Train, &mut cache)?;
/// assert_eq!(cache.y, array![[[[4.0]]]]);
///
/// // The middle column belongs to both cells of a row.
/// AvgPool { size: 2 }.forward(x.view(), Mode::Train, &mut cache)?;
/// assert_eq!(cache.y, array![[[[3.0, 4.0], [3.0, 6.0]]]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// k
    pub size: usize,
}

crate::module!(AvgPool);

/// What [`AvgPool`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct AvgPoolCache<T> {
    /// y [N, C, k, k]
    pub y: Array4<T>,
}

impl AvgPool {
    /// The rows of cell i, of n.
    fn rows(self, i: usize, n: usize) -> Range<usize> {
        i * n / self.size..((i + 1) * n).div_ceil(self.size)
    }

    /// The rows and the columns of every cell, in the order of y.
    fn cells(self, height: usize, width: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let columns = move |rows: Range<usize>| (0..self.size).map(move |j| (rows.clone(), self.rows(j, width)));
        (0..self.size).flat_map(move |i| columns(self.rows(i, height)))
    }
}

impl<T: Scalar> Layer<T> for AvgPool {
    /// x [N, C, H, W]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array4<T>;
    type Dx = Array4<T>;
    type Cache = AvgPoolCache<T>;

    fn forward(&self, x: ArrayView4<'_, T>, _: Mode, cache: &mut AvgPoolCache<T>) -> Result<()> {
        let (pictures, channels, height, width) = x.dim();
        assert!(self.size > 0 && height > 0 && width > 0, "{self:?} of x {:?}", x.dim());
        linalg::reshape(&mut cache.y, (pictures, channels, self.size, self.size));
        let x = x.as_standard_layout();
        let planes = Planes::of(&x);
        linalg::each_plane(&mut cache.y, |k, y| {
            let x = planes.plane(k);
            for (y, (rows, columns)) in y.iter_mut().zip(self.cells(height, width)) {
                let pixels = T::from_f64((rows.len() * columns.len()) as f64);
                let mut sum = T::zero();
                for row in rows {
                    x[row * width..][columns.clone()].iter().for_each(|&x| sum += x);
                }
                // (AVGPOOL-1)  y_ij = mean of x over the rows ⌊i H / k⌋ to ⌈(i + 1) H / k⌉ and the columns alike
                *y = sum / pixels;
            }
        });
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        _: &mut AvgPoolCache<T>,
        dy: &Array4<T>,
        _: Write,
        _: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let Some(dx) = dx else { return };
        let (pictures, channels, height, width) = x.dim();
        assert_eq!(dy.dim(), (pictures, channels, self.size, self.size), "dy of x {:?}", x.dim());
        linalg::reshape(dx, x.dim());
        let dy = dy.as_standard_layout();
        let planes = Planes::of(&dy);
        linalg::each_plane(dx, |k, dx| {
            dx.fill(T::zero());
            for (&dy, (rows, columns)) in planes.plane(k).iter().zip(self.cells(height, width)) {
                let share = dy / T::from_f64((rows.len() * columns.len()) as f64);
                for row in rows {
                    // (AVGPOOL-1′)  dx += dy / (pixels of the cell)
                    dx[row * width..][columns.clone()].iter_mut().for_each(|dx| *dx += share);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Axis, array};

    fn both(size: usize, x: &Array4<f64>, dy: &Array4<f64>) -> (Array4<f64>, Array4<f64>) {
        let (layer, mut cache, mut dx) = (AvgPool { size }, AvgPoolCache::default(), Array4::ones((1, 1, 9, 9)));
        layer.forward(x.view(), Mode::Train, &mut cache).unwrap();
        layer.backward(x.view(), &mut cache, dy, Write::Add, &mut layer.clone(), Some(&mut dx));
        (cache.y, dx)
    }

    #[test]
    fn avgpool_1_by_hand() {
        let x = array![[[[1.0, 5.0, 3.0], [3.0, 3.0, 9.0]]]];
        let (y, dx) = both(1, &x, &array![[[[6.0]]]]);
        assert_eq!((y, dx), (array![[[[4.0]]]], Array4::ones((1, 1, 2, 3))));
        let (y, dx) = both(2, &x, &array![[[[2.0, 4.0], [6.0, 8.0]]]]);
        assert_eq!(y, array![[[[3.0, 4.0], [3.0, 6.0]]]]);
        assert_eq!(dx, array![[[[1.0, 3.0, 2.0], [3.0, 7.0, 4.0]]]], "the middle column is in both cells");
    }

    #[test]
    fn avgpool_1_cells_of_seven_over_other_sizes() {
        let layer = AvgPool { size: 7 };
        let cells = |n| (0..7).map(|i| layer.rows(i, n)).collect::<Vec<_>>();
        assert_eq!(cells(9), [0..2, 1..3, 2..4, 3..6, 5..7, 6..8, 7..9]);
        assert_eq!(cells(5), [0..1, 0..2, 1..3, 2..3, 2..4, 3..5, 4..5]);
        let x = Array4::from_shape_fn((2, 3, 7, 7), |(n, c, i, j)| (n * 500 + c * 100 + i * 10 + j) as f64);
        assert_eq!(both(7, &x, &x), (x.clone(), x.clone()), "7 × 7 stays as it is");
        let x = x.index_axis_move(Axis(0), 1).insert_axis(Axis(0));
        assert_eq!(both(14, &x, &Array4::ones((1, 3, 14, 14))).1, Array4::from_elem((1, 3, 7, 7), 4.0));
    }
}
