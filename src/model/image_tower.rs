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
//! the memory is that of the part, not of the batch. The first part is kept, so that it is computed once. With the
//! batch's statistics everything is kept.

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
    /// Whether it is of the batch, with its statistics.
    whole: bool,
    /// Whether the last backward pass went through the encoder: the next forward pass then keeps the first part.
    needed: bool,
    /// Whether it is of the first part.
    first: bool,
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

/// How many pictures of Y × X pixels are in a part: eight of 224 × 224. It depends on the shape alone, and so do the
/// bits of the gradient.
fn part([_, _, rows, columns]: [usize; 4]) -> usize {
    (8 * 224 * 224 / (rows * columns).max(1)).max(1)
}

/// The parts of some pictures, each with the number of its first.
fn parts<T>(x: ArrayView4<'_, T>) -> impl Iterator<Item = (usize, ArrayView4<'_, T>)> {
    let shape: [usize; 4] = x.dim().into();
    let size = part(shape);
    (0..shape[0]).step_by(size).map(move |first| {
        let end = shape[0].min(first + size);
        (first, x.slice_move(s![first..end, .., .., ..]))
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
            Images::Features(x) => {
                cache.whole = false;
                x.view()
            }
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
        cache.whole = mode == Mode::Train;
        if cache.whole {
            self.encoder()?.forward(x, mode, &mut cache.encoder)?;
        } else {
            cache.first = false;
            let keep = cache.needed.then_some(&mut cache.encoder);
            self.raw_features(x, &mut cache.features, keep)?;
            cache.first = cache.needed;
        }
        let features = if cache.whole { &cache.encoder.y } else { &cache.features };
        // (IMG-2)  φ(i) = cnn(i) / ‖cnn(i)‖
        L2Norm.forward(features.view(), mode, &mut cache.phi).map_err(|e| e.of("image features"))
    }

    fn encoder(&self) -> Result<&Encoder<T>> {
        self.cnn.as_ref().ok_or_else(|| Error::mismatch("images: expected feature vectors [B, F], found pictures"))
    }

    /// cnn(i) in [`Mode::Eval`], some pictures at a time. What the first ones need in a backward pass may be kept.
    fn raw_features(
        &self,
        x: ArrayView4<'_, T>,
        features: &mut Array2<T>,
        mut keep: Option<&mut EncoderCache<T>>,
    ) -> Result<()> {
        let cnn = self.encoder()?;
        linalg::reshape(features, (x.dim().0, self.fc.weight.ncols()));
        for (first, x) in parts(x) {
            let mut features = features.slice_mut(s![first..first + x.len_of(Axis(0)), ..]);
            if let Some(cache) = keep.take() {
                cnn.forward(x, Mode::Eval, cache)?;
                features.assign(&cache.y);
            } else {
                features.assign(&cnn.embed(x)?);
            }
        }
        Ok(())
    }

    /// Moves the encoder's running statistics towards those of a pass, if it took the batch's.
    pub(super) fn update_statistics(&mut self, cache: &ImageCache<T>) {
        if let Some(cnn) = self.cnn.as_mut().filter(|_| cache.whole) {
            cnn.update(&cache.encoder);
        }
    }

    /// φ [N, F] of pictures in [`Mode::Eval`].
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub(super) fn features(&self, x: ArrayView4<'_, T>) -> Result<Array2<T>> {
        let mut phi = Array2::default((0, 0));
        self.raw_features(x, &mut phi, None)?;
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
        let ImageCache { encoder, whole, needed, first: kept, features, phi, fc, head, d_fc, d_phi: own, d_features } =
            cache;
        head.backward(fc.y.view(), df, d_fc);
        *needed = false;
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
        let raw = if *whole { &encoder.y } else { &*features };
        L2Norm.backward(raw.view(), phi, own, write, &mut L2Norm, Some(d_features));
        let net = self.encoder()?;
        if *whole {
            net.backward(pictures.view(), encoder, d_features, write, cnn, None);
        } else {
            *needed = true;
            let (mut write, mut kept) = (write, std::mem::take(kept));
            for (first, x) in parts(pictures.view()) {
                let d_part = d_features.slice(s![first..first + x.len_of(Axis(0)), ..]).to_owned();
                if !std::mem::take(&mut kept) {
                    net.forward(x, Mode::Eval, encoder)?;
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Config, Parameters, Pass, ValidConfig, Vse};
    use crate::nn::{Path, Role};
    use crate::optim::gradient_of;
    use crate::random::{Symmetric, stream};
    use ndarray::{Array, Array4};
    use ndarray_rand::RandomExt;
    use num_complex::Complex64;

    const NETWORKS: [&str; 2] = ["resnet18,planes=2-3-4-5", "vgg19,planes=2-2-2-2-2"];

    fn config(network: &str, finetune: bool) -> ValidConfig {
        let paths = Config { images: Some("x".into()), data: Some("x".into()), ..Config::default() };
        let sizes = Config { embed_size: 6, word_dim: 3, encoder: Some(network.parse().unwrap()), ..paths };
        Config { finetune, ..sizes }.check().unwrap()
    }

    fn numbers<T: Scalar, D: ndarray::Dimension>(
        shape: impl ndarray::ShapeBuilder<Dim = D>,
        name: &str,
    ) -> Array<T, D> {
        Array::random_using(shape, Symmetric(1.0), &mut stream(0, name)).mapv(T::from_f64)
    }

    /// Five captions of four pictures.
    fn batch<T: Scalar>([rows, columns]: [usize; 2]) -> Batch<T> {
        let four: Array4<T> = numbers((4, 3, rows, columns), "x");
        let pictures = four.select(Axis(0), &[0, 1, 2, 3, 1]);
        let captions = vec![vec![1, 4, 2], vec![1, 4, 5, 2], vec![1, 6, 2], vec![1, 4, 5, 4, 2], vec![1, 7, 2]];
        Batch::new(pictures, captions, vec![0, 1, 2, 3, 1]).unwrap()
    }

    fn model<T: Scalar>(config: &ValidConfig) -> Vse<T> {
        Vse::init(config.architecture(10, 0), 1)
    }

    /// The gradient of a pass.
    fn gradient(
        model: &Vse<f64>,
        batch: &Batch<f64>,
        mode: Mode,
        config: &ValidConfig,
    ) -> (Parameters<f64>, Pass<f64>) {
        let mut pass = Pass::default();
        model.forward(batch, &config.objective(0), mode, &mut pass).unwrap();
        let mut gradient = gradient_of(&model.parameters, &config.groups());
        model.backward(batch, &mut pass, Write::Replace, &mut gradient, None).unwrap();
        (gradient, pass)
    }

    #[test]
    fn img_2_parts_give_the_embeddings_and_the_gradient_of_the_whole() {
        for network in NETWORKS {
            let config = config(network, true);
            let model = model::<f64>(&config);
            // Two pictures in a part, and one in the last.
            let batch = batch([420, 440]);
            assert_eq!(part([5, 3, 420, 440]), 2);
            let (parts, pass) = gradient(&model, &batch, Mode::Eval, &config);
            assert_eq!(model.embed(&batch.images).unwrap(), pass.f());

            // The next pass keeps the first part.
            let mut pass = pass;
            let mut again = gradient_of(&model.parameters, &config.groups());
            model.forward(&batch, &config.objective(0), Mode::Eval, &mut pass).unwrap();
            assert!(pass.image.first);
            for _ in 0..2 {
                model.backward(&batch, &mut pass, Write::Replace, &mut again, None).unwrap();
                assert_eq!(again, parts);
                assert!(!pass.image.first, "it is of the last part now");
            }

            // The whole at once, by hand: φ, then the model that takes it, then the encoder with dφ.
            let cnn = model.parameters.img_enc.cnn.as_ref().unwrap();
            let mut cache = EncoderCache::default();
            cnn.forward(batch.images.pixels().unwrap(), Mode::Eval, &mut cache).unwrap();
            let mut phi = L2NormCache::default();
            L2Norm.forward(cache.y.view(), Mode::Eval, &mut phi).unwrap();
            let mut of_features = batch.clone();
            of_features.set_images(phi.y.clone()).unwrap();
            let (mut pass, mut d_phi, mut dy) = (Pass::default(), Array2::default((0, 0)), Array2::default((0, 0)));
            let mut whole = gradient_of(&model.parameters, &config.groups());
            model.forward(&of_features, &config.objective(0), Mode::Eval, &mut pass).unwrap();
            model.backward(&of_features, &mut pass, Write::Replace, &mut whole, Some(&mut d_phi)).unwrap();
            let features = cache.y.clone();
            L2Norm.backward(features.view(), &mut phi, &d_phi, Write::Replace, &mut L2Norm, Some(&mut dy));
            let grad = whole.img_enc.cnn.as_mut().unwrap();
            cnn.backward(batch.images.pixels().unwrap(), &mut cache, &dy, Write::Replace, grad, None);
            for ((name, parts), (_, whole)) in parts.tensors().into_iter().zip(whole.tensors()) {
                let norm = |x: &ndarray::ArrayD<f64>| x.iter().map(|x| x * x).fold(0.0, |sum, x| sum + x).sqrt();
                let (difference, whole) = (norm(&(&parts - &whole)), norm(&whole));
                assert!(difference <= 1e-14 * whole, "{name}: {difference:.1e} of {whole:.1e}");
                assert!(whole > 0.0 || parts.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn an_encoder_that_does_not_move_has_no_gradient() {
        let frozen = config(NETWORKS[0], false);
        let (batch, model) = (batch([40, 36]), model::<f64>(&frozen));
        let (some, mut pass) = gradient(&model, &batch, Mode::Eval, &frozen);
        model.forward(&batch, &frozen.objective(0), Mode::Eval, &mut pass).unwrap();
        assert!(!pass.image.first, "nothing is kept for it");
        let (all, _) = gradient(&model, &batch, Mode::Eval, &config(NETWORKS[0], true));
        assert_eq!(some.img_enc.cnn.as_ref().unwrap().count(), 0);
        assert_eq!((&some.img_enc.fc, &some.txt_enc), (&all.img_enc.fc, &all.txt_enc));
    }

    /// The derivative of the loss along a random direction, by a complex step.
    #[test]
    fn the_gradient_of_the_loss_reaches_the_encoder() {
        const STEP: f64 = 1e-30;
        for (network, mode) in NETWORKS.into_iter().flat_map(|network| [(network, Mode::Eval), (network, Mode::Train)])
        {
            let config = config(network, true);
            let (real, batch) = (model::<f64>(&config), batch::<f64>([40, 36]));
            let (gradient, _) = gradient(&real, &batch, mode, &config);
            let mut complex = model::<Complex64>(&config);
            let (mut values, mut slope) = (real.parameters.tensors().into_iter(), 0.0);
            let mut gradients = gradient.tensors().into_iter();
            complex.parameters.each_mut(|path, tensor, mut x| {
                let ((_, value), (_, gradient)) = (values.next().unwrap(), gradients.next().unwrap());
                let mut along = Array::random_using(value.shape(), Symmetric(1.0), &mut stream(1, &path.to_string()));
                match tensor.role {
                    Role::Trained => slope += (&gradient * &along).sum(),
                    Role::Buffer => along.fill(0.0),
                }
                let both = value.iter().zip(&along).map(|(&x, &d)| Complex64::new(x, STEP * d));
                x.iter_mut().zip(both).for_each(|(x, value)| *x = value);
            });
            let pictures = batch.images.pixels().unwrap().mapv(|x| Complex64::new(x, 0.0));
            let batch = Batch::new(pictures, batch.captions.clone(), batch.image_ids.clone()).unwrap();
            let mut pass = Pass::default();
            complex.forward(&batch, &config.objective(0), mode, &mut pass).unwrap();
            // The scores of some ten numbers lose no more than the encoder: `tests/oracle_encoders.rs`.
            approx::assert_relative_eq!(pass.terms.loss.im / STEP, slope, max_relative = 1e-9);
        }
    }

    #[test]
    fn pictures_without_an_encoder_are_an_error() {
        let plain = Config { embed_size: 6, word_dim: 3, ..Config::default() }.check().unwrap();
        let model = Vse::<f64>::init(plain.architecture(10, 5), 1);
        let found = model.forward(&batch([4, 4]), &plain.objective(0), Mode::Eval, &mut Pass::default());
        assert_eq!(found.unwrap_err().to_string(), "images: expected [B = 5, F = 5], found [5, 3, 4, 4]");
        let names = |encoder: &str| {
            let mut names = Vec::new();
            Vse::<f64>::init(config(encoder, true).architecture(10, 0), 1).parameters.each(|path: &Path<'_>, _, _| {
                names.push(path.to_string());
            });
            names
        };
        assert_eq!(names(NETWORKS[0])[..2], ["img_enc.cnn.conv1.weight", "img_enc.cnn.bn1.weight"]);
        assert_eq!(names(NETWORKS[1])[..2], ["img_enc.cnn.features.0.weight", "img_enc.cnn.features.0.bias"]);
    }
}
