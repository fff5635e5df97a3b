//! The image side.
//!
//! ```text
//! (IMG-2)  φ(i) = cnn(i) / ‖cnn(i)‖                          with an image encoder; else the data gives φ
//! (IMG-1)  f(i) = W_fᵀ φ(i) + b_f, then (NORM-1) unless no_imgnorm, then (ABS-1) if use_abs
//! ```
//!
//! φ(i) `[F]` is the image's feature vector (paper, section 2.1). Without `no_imgnorm` f has norm 1. That φ has norm 1
//! is the original's way; its feature vectors in files have it too.
//!
//! **Parts.** With running statistics ([`Mode::Eval`]) the pictures of a batch do not depend on each other. So the
//! forward pass keeps nothing of the encoder but φ, and the backward pass computes it again, some pictures at a time:
//! the memory is that of the part, not of the batch. With the batch's statistics everything is kept.

use ndarray::{Array2, ArrayView2, ArrayView4, Axis, s};

use super::architecture::Architecture;
use super::batch::Images;
use super::encoder::{Encoder, EncoderCache};
use super::head::{Head, HeadCache};
use crate::error::{Error, Result};
use crate::linalg::{self, Write};
use crate::nn::l2norm::{L2NormCache, normalise};
use crate::nn::linear::LinearCache;
use crate::nn::{L2Norm, Layer, Linear, Mode, Module};
use crate::real::{Real, Scalar};

/// `img_enc`: an encoder, if there is one, and a projection of the feature vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageTower<T> {
    /// `img_enc.cnn`: pictures → φ before it is normalised.
    pub cnn: Option<Encoder<T>>,
    /// `img_enc.fc` [D, F]
    pub fc: Linear<T>,
}

crate::module!(ImageTower<T>, tower { cnn, fc });

impl<T: Clone + Default> ImageTower<T> {
    pub(super) fn zeros(a: &Architecture) -> Self {
        Self { cnn: a.encoder.map(Encoder::zeros), fc: Linear::zeros(a.embed_size, a.img_dim) }
    }
}

/// What the image side keeps of a pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageCache<T> {
    /// What the encoder keeps, of the batch or of one part.
    pub(crate) encoder: EncoderCache<T>,
    /// Whether it is of the batch.
    whole: bool,
    /// cnn(i) before it is normalised, [B, F], where the encoder keeps nothing.
    features: Array2<T>,
    /// φ [B, F] is its y.
    phi: L2NormCache<T>,
    /// `W_fᵀ` φ + `b_f`, [B, D].
    pub fc: LinearCache<T>,
    /// Normalisation and absolute value: f [B, D] is its y.
    pub head: HeadCache<T>,
    /// The gradients with respect to the projection's output [B, D], φ and cnn(i) [B, F].
    d_fc: Array2<T>,
    d_phi: Array2<T>,
    d_features: Array2<T>,
}

/// How many pictures of Y × X pixels are in a part: four of 224 × 224. It depends on the shape alone, and so do the
/// bits of the gradient.
fn part([_, _, rows, columns]: [usize; 4]) -> usize {
    (4 * 224 * 224 / (rows * columns).max(1)).max(1)
}

/// The parts of some pictures, each with the number of its first.
fn parts<T>(x: ArrayView4<'_, T>) -> impl Iterator<Item = (usize, ArrayView4<'_, T>)> {
    let shape: [usize; 4] = x.dim().into();
    let size = part(shape);
    (0..shape[0]).step_by(size).map(move |first| {
        let end = shape[0].min(first + size);
        (first, x.clone().slice_move(s![first..end, .., .., ..]))
    })
}

impl<T: Scalar> ImageTower<T> {
    /// (IMG-2) and (IMG-1): features x [B, F] or pictures [B, 3, Y, X] → f [B, D].
    ///
    /// # Errors
    ///
    /// If there are pictures but no encoder for them; or if a row that is to be normalised is zero or not finite.
    pub(super) fn forward(&self, x: &Images<T>, mode: Mode, head: Head, cache: &mut ImageCache<T>) -> Result<()> {
        let phi = match x {
            Images::Features(x) => x.view(),
            Images::Pixels(x) => {
                self.encode(x.view(), mode, cache)?;
                cache.phi.y.view()
            }
        };
        // (IMG-1)  f(i) = W_fᵀ φ(i) + b_f, then (NORM-1) unless no_imgnorm, then (ABS-1) if use_abs
        self.fc.forward(phi, mode, &mut cache.fc)?;
        head.forward(cache.fc.y.view(), mode, &mut cache.head).map_err(|e| e.of("image embedding"))
    }

    /// (IMG-2): φ is then `cache.phi.y`.
    fn encode(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut ImageCache<T>) -> Result<()> {
        let cnn = self.encoder()?;
        cache.whole = mode == Mode::Train;
        if cache.whole {
            cnn.forward(x, mode, &mut cache.encoder)?;
        } else {
            linalg::reshape(&mut cache.features, (x.dim().0, self.fc.weight.ncols()));
            for (first, x) in parts(x) {
                let part = cnn.embed(x)?;
                cache.features.slice_mut(s![first..first + part.nrows(), ..]).assign(&part);
            }
        }
        let features = if cache.whole { &cache.encoder.y } else { &cache.features };
        // (IMG-2)  φ(i) = cnn(i) / ‖cnn(i)‖
        L2Norm.forward(features.view(), mode, &mut cache.phi).map_err(|e| e.of("image features"))
    }

    fn encoder(&self) -> Result<&Encoder<T>> {
        self.cnn.as_ref().ok_or_else(|| Error::mismatch("images: expected feature vectors [B, F], found pictures"))
    }

    /// φ [N, F] of pictures in [`Mode::Eval`], some at a time.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub(super) fn features(&self, x: ArrayView4<'_, T>) -> Result<Array2<T>> {
        let mut phi = Array2::zeros((x.dim().0, self.fc.weight.ncols()));
        for (first, x) in parts(x) {
            let part = self.encoder()?.embed(x)?;
            phi.slice_mut(s![first..first + part.nrows(), ..]).assign(&part);
        }
        normalise(&mut phi).map_err(|e| e.of("image features"))?;
        Ok(phi)
    }

    /// The same as a forward pass without a cache, where no backward pass follows.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub(super) fn embed(&self, phi: ArrayView2<'_, T>, head: Head) -> Result<Array2<T>> {
        let mut fc = LinearCache::default();
        self.fc.forward(phi, Mode::Eval, &mut fc)?;
        head.apply(&mut fc.y).map_err(|e| e.of("image embedding"))?;
        Ok(fc.y)
    }

    /// From df [B, D] to the parameters' gradients, and to dℓ/dφ [B, F] if `d_phi` is given. An encoder without
    /// gradient is left out.
    ///
    /// # Errors
    ///
    /// If a part of the pictures cannot be computed again.
    pub(super) fn backward(
        &self,
        x: &Images<T>,
        cache: &mut ImageCache<T>,
        df: &Array2<T>,
        write: Write,
        grad: &mut Self,
        d_phi: Option<&mut Array2<T>>,
    ) -> Result<()>
    where
        T: Real,
    {
        let ImageCache { encoder, whole, features, phi, fc, head, d_fc, d_phi: own, d_features } = cache;
        head.backward(fc.y.view(), df, d_fc);
        let cnn = grad.cnn.as_mut().filter(|cnn| cnn.count() > 0);
        let (pictures, cnn) = match (x, cnn) {
            (Images::Features(x), _) => {
                self.fc.backward(x.view(), fc, d_fc, write, &mut grad.fc, d_phi);
                return Ok(());
            }
            (Images::Pixels(_), None) => {
                self.fc.backward(phi.y.view(), fc, d_fc, write, &mut grad.fc, d_phi);
                return Ok(());
            }
            (Images::Pixels(x), Some(cnn)) => (x, cnn),
        };
        self.fc.backward(phi.y.view(), fc, d_fc, write, &mut grad.fc, Some(own));
        let kept = if *whole { &encoder.y } else { &*features };
        L2Norm.backward(kept.view(), phi, own, write, &mut L2Norm, Some(d_features));
        let net = self.encoder()?;
        if *whole {
            net.backward(pictures.view(), encoder, d_features, write, cnn, None);
        } else {
            let mut write = write;
            for (first, x) in parts(pictures.view()) {
                let d_part = d_features.slice(s![first..first + x.len_of(Axis(0)), ..]).to_owned();
                net.forward(x, Mode::Eval, encoder)?;
                net.backward(x, encoder, &d_part, write, cnn, None);
                write = Write::Add;
            }
        }
        if let Some(d_phi) = d_phi {
            d_phi.clone_from(own);
        }
        Ok(())
    }
}
