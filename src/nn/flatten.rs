//! The numbers of a picture as one row, for a linear map.
//!
//! ```text
//! (FLAT-1)   y[n, (c H + i) W + j] = x[n, c, i, j]       the channel first
//! (FLAT-1′)  dx[n, c, i, j] = dy[n, (c H + i) W + j]
//! ```
//!
//! Shapes: x [N, C, H, W], y [N, C H W]. The order is part of the weights of VGG: `classifier.0` expects the 49
//! pixels of a channel next to each other, whatever the layout of x in memory.

use ndarray::{Array2, Array4, ArrayView4};

use super::{Layer, Mode};
use crate::error::Result;
use crate::linalg::{self, Write};
use crate::real::{Real, Scalar};

/// Pictures as rows; it has no parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flatten;

crate::module!(Flatten);

/// What [`Flatten`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct FlattenCache<T> {
    /// y [N, C H W]
    pub y: Array2<T>,
}

impl<T: Scalar> Layer<T> for Flatten {
    /// x [N, C, H, W]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = Array4<T>;
    type Cache = FlattenCache<T>;

    fn forward(&self, x: ArrayView4<'_, T>, _: Mode, cache: &mut FlattenCache<T>) -> Result<()> {
        let (pictures, channels, height, width) = x.dim();
        linalg::reshape(&mut cache.y, (pictures, channels * height * width));
        // (FLAT-1)  y[n, (c H + i) W + j] = x[n, c, i, j]
        cache.y.iter_mut().zip(x).for_each(|(y, &x)| *y = x);
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        _: &mut FlattenCache<T>,
        dy: &Array2<T>,
        _: Write,
        _: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        let Some(dx) = dx else { return };
        assert_eq!(dy.dim(), (x.dim().0, x.len() / x.dim().0.max(1)), "dy of x {:?}", x.dim());
        linalg::reshape(dx, x.dim());
        // (FLAT-1′)  dx[n, c, i, j] = dy[n, (c H + i) W + j]
        dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = dy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_1_puts_the_channel_first_in_any_layout() {
        let x = Array4::from_shape_fn((2, 3, 4, 5), |(n, c, i, j)| (n * 1000 + c * 100 + i * 10 + j) as f64);
        let mut channels_last = Array4::zeros((2, 4, 5, 3));
        channels_last.assign(&x.view().permuted_axes([0, 2, 3, 1]));
        for x in [x.view(), channels_last.view().permuted_axes([0, 3, 1, 2])] {
            let (mut cache, mut dx) = (FlattenCache::default(), Array4::zeros((0, 0, 0, 0)));
            Flatten.forward(x, Mode::Train, &mut cache).unwrap();
            assert_eq!(cache.y.dim(), (2, 60));
            assert_eq!((cache.y[[1, 4]], cache.y[[1, 5]], cache.y[[1, 59]]), (1004.0, 1010.0, 1234.0));
            let dy = cache.y.clone();
            Flatten.backward(x, &mut cache, &dy, Write::Add, &mut Flatten, Some(&mut dx));
            assert_eq!(dx, x);
        }
    }
}
