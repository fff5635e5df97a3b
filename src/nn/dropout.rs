//! Dropout (Srivastava et al. 2014), which scales what it keeps.
//!
//! ```text
//! (DROP-1)   y = m x / (1 − p)       m = 1 with probability 1 − p, else 0; in evaluation y = x
//! (DROP-1′)  dx = m dy / (1 − p)
//! ```
//!
//! Shapes: x, y, m [N, D]. The row n of m comes from a random stream of its own, named after the layer's purpose and
//! the number of the draw, [`DropoutCache::draw`] + n. So m does not depend on the threads, nor on how a batch is cut
//! into parts, and a pass that is computed again has the same m. A training that goes on where it stopped draws the
//! same if it counts its rows from where it stopped.

use ndarray::{Array2, ArrayView2, Axis, Zip};
use ndarray_rand::rand::RngCore;
use rayon::prelude::*;

use super::{Layer, Mode};
use crate::error::Result;
use crate::linalg::{self, Write};
use crate::random::numbered_stream;
use crate::real::{Real, Scalar};

/// Dropout with probability p; it has no parameters.
///
/// ```
/// use ndarray::Array2;
/// use vsepp::nn::{Dropout, DropoutCache, Layer, Mode};
///
/// # fn main() -> vsepp::Result<()> {
/// let layer = Dropout { p: 0.5, seed: 0, purpose: "dropout/classifier.2" };
/// let (x, mut cache) = (Array2::<f64>::ones((4, 8)), DropoutCache::default());
/// layer.forward(x.view(), Mode::Train, &mut cache)?;
/// assert!(cache.y.iter().all(|&y| y == 0.0 || y == 2.0));
/// let second = cache.y.row(1).to_owned();
///
/// cache.draw = 1; // another batch, which begins at the second row of the last one
/// layer.forward(x.view(), Mode::Train, &mut cache)?;
/// assert_eq!(cache.y.row(0), second);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability that a number becomes 0, in 0 ≤ p < 1.
    pub p: f64,
    /// The seed of the training.
    pub seed: u64,
    /// The name of the random streams. Each dropout of a model has another.
    pub purpose: &'static str,
}

crate::module!(Dropout);

/// What [`Dropout`] keeps of a forward pass, and the number of its draw.
#[derive(Clone, Debug, Default)]
pub struct DropoutCache<T> {
    /// y [N, D]
    pub y: Array2<T>,
    /// m / (1 − p), [N, D]; 1 in evaluation.
    pub scale: Array2<T>,
    /// How many rows were drawn before this batch; a forward pass reads it and leaves it.
    pub draw: u64,
}

impl<T: Scalar> Layer<T> for Dropout {
    /// x [N, D]
    type X<'a>
        = ArrayView2<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = Array2<T>;
    type Cache = DropoutCache<T>;

    fn forward(&self, x: ArrayView2<'_, T>, mode: Mode, cache: &mut DropoutCache<T>) -> Result<()> {
        assert!((0.0..1.0).contains(&self.p), "{self:?}: p is a probability below 1");
        let DropoutCache { y, scale, draw } = cache;
        linalg::reshape(y, x.dim());
        linalg::reshape(scale, x.dim());
        match mode {
            Mode::Eval => scale.fill(T::one()),
            Mode::Train => {
                let kept = T::from_f64(1.0 / (1.0 - self.p));
                scale.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(n, mut scale)| {
                    let mut rng = numbered_stream(self.seed, self.purpose, *draw + n as u64);
                    let mut uniform = || f64::from(rng.next_u32() >> 8) / f64::from(1u32 << 24);
                    scale.map_inplace(|scale| *scale = if uniform() < self.p { T::zero() } else { kept });
                });
            }
        }
        // (DROP-1)  y = m x / (1 − p)
        Zip::from(y).and(&x).and(scale).for_each(|y, &x, &mut scale| *y = scale * x);
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView2<'_, T>,
        cache: &mut DropoutCache<T>,
        dy: &Array2<T>,
        _: Write,
        _: &mut Self,
        dx: Option<&mut Array2<T>>,
    ) where
        T: Real,
    {
        let Some(dx) = dx else { return };
        linalg::reshape(dx, x.dim());
        // (DROP-1′)  dx = m dy / (1 − p)
        Zip::from(dx).and(dy).and(&cache.scale).for_each(|dx, &dy, &scale| *dx = scale * dy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: Dropout = Dropout { p: 0.25, seed: 3, purpose: "dropout/test" };

    fn run(layer: Dropout, x: &Array2<f64>, mode: Mode, draw: u64) -> DropoutCache<f64> {
        let mut cache = DropoutCache { draw, ..DropoutCache::default() };
        layer.forward(x.view(), mode, &mut cache).unwrap();
        cache
    }

    #[test]
    fn drop_1_drops_a_share_of_p_and_keeps_the_mean() {
        let x = Array2::from_elem((64, 1000), 3.0);
        let mut cache = run(LAYER, &x, Mode::Train, 0);
        let dropped = cache.y.iter().filter(|&&y| y == 0.0).count();
        assert!(cache.y.iter().all(|&y| y == 0.0 || y == 4.0), "3 / (1 − 1/4)");
        // 64,000 draws: the standard deviation is 110.
        assert!((15_500..16_500).contains(&dropped), "{dropped}");
        let (dy, mut dx) = (Array2::from_elem((64, 1000), 6.0), Array2::zeros((0, 0)));
        LAYER.backward(x.view(), &mut cache, &dy, Write::Add, &mut LAYER.clone(), Some(&mut dx));
        assert_eq!(dx, cache.y.mapv(|y| 2.0 * y), "the same places, the same scale");
    }

    #[test]
    fn drop_1_is_the_identity_in_evaluation() {
        let x = Array2::from_shape_fn((3, 5), |(n, d)| (n * 5 + d) as f64 - 7.0);
        let mut cache = run(LAYER, &x, Mode::Train, 0);
        assert_ne!(cache.y, x);
        LAYER.forward(x.view(), Mode::Eval, &mut cache).unwrap();
        assert_eq!(cache.y, x);
        let mut dx = Array2::zeros((0, 0));
        LAYER.backward(x.view(), &mut cache, &x, Write::Add, &mut LAYER.clone(), Some(&mut dx));
        assert_eq!(dx, x);
    }

    #[test]
    fn a_row_is_a_function_of_seed_purpose_and_draw() {
        let x = Array2::ones((6, 50));
        let all = run(LAYER, &x, Mode::Train, 10).scale;
        let part = run(LAYER, &Array2::ones((2, 50)), Mode::Train, 14).scale;
        assert_eq!(part, all.slice(ndarray::s![4.., ..]), "rows 4 and 5 of the batch");
        assert_ne!(all.row(0), all.row(1));
        for other in [Dropout { seed: 4, ..LAYER }, Dropout { purpose: "dropout/other", ..LAYER }] {
            assert_ne!(run(other, &x, Mode::Train, 10).scale, all);
        }
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| run(LAYER, &x, Mode::Train, 10)).scale, all);
        }
        let kept = all.row(0).iter().map(|&scale| char::from(b'0' + u8::from(scale > 0.0))).collect::<String>();
        assert_eq!(kept, "11111111111101111111111111011111101111011111110011", "pinned");
    }
}
