//! Image encoders φ(i; θφ): networks of convolutions without their last layer.
//!
//! [`Network`] says which one, in a table to read beside the papers; [`Encoder`] is its numbers. A picture of any
//! size that the layers allow gives a feature vector `[F]`. The tensors have torchvision's names.
//!
//! **Statistics.** In [`Mode::Eval`] the norms use running statistics and nothing is dropped, so that a picture's
//! features do not depend on the batch, to the bit. A backward pass may follow either mode.

mod network;
mod resnet;
mod vgg;

use ndarray::{Array2, Array4, ArrayView4};

use crate::error::{Error, Result};
use crate::linalg::Write;
use crate::nn::{Layer, Mode, Module, Path, Tensor, Visitor};
use crate::real::{Real, Scalar};
pub use network::Network;

use network::Family;
use resnet::{ResNet, ResNetCache};
use vgg::{Vgg, VggCache};

/// An image encoder: pictures x [N, 3, Y, X] give φ [N, F].
///
/// ```
/// use ndarray::Array4;
/// use vsepp::model::{Encoder, Network};
/// use vsepp::nn::Module;
///
/// # fn main() -> vsepp::Result<()> {
/// // ResNet-18 with 4, 6, 8 and 10 planes instead of 64, 128, 256 and 512.
/// let network: Network = "resnet18,planes=4-6-8-10".parse()?;
/// let mut encoder = Encoder::<f32>::zeros(network);
/// encoder.init(0);
/// let features = encoder.embed(Array4::ones((2, 3, 40, 33)).view())?;
/// assert_eq!(features.dim(), (2, network.features()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder<T>(Form<T>);

#[derive(Clone, Debug, PartialEq)]
enum Form<T> {
    Vgg(Vgg<T>),
    ResNet(ResNet<T>),
}

/// What [`Encoder`] keeps of a forward pass.
#[derive(Clone, Debug, Default)]
pub struct EncoderCache<T> {
    /// φ [N, F]
    pub y: Array2<T>,
    vgg: VggCache<T>,
    resnet: ResNetCache<T>,
}

impl<T> EncoderCache<T> {
    /// Where the dropouts of a network that has some begin to draw: see [`DropoutCache`](crate::nn::DropoutCache).
    pub fn set_draw(&mut self, draw: u64) {
        self.vgg.set_draw(draw);
    }
}

impl<T: Clone + Default> Encoder<T> {
    /// All zeros.
    #[must_use]
    pub fn zeros(network: Network) -> Self {
        Self(match network.table().family {
            Family::Vgg { features } => Form::Vgg(Vgg::zeros(network, features)),
            Family::ResNet { block, first, shortcut } => Form::ResNet(ResNet::zeros(network, block, first, shortcut)),
        })
    }
}

impl<T> Encoder<T> {
    fn multiplications(&self, size: [usize; 2]) -> [usize; 2] {
        match &self.0 {
            Form::Vgg(net) => net.multiplications(size),
            Form::ResNet(net) => net.multiplications(size),
        }
    }
}

/// By hand, because there are two forms.
impl<T: Clone + Default> Module<T> for Encoder<T> {
    fn visit<const M: usize, const S: usize>(
        changed: [&mut Self; M],
        read: [&Self; S],
        path: &Path<'_>,
        visitor: &mut Visitor<'_, T, M, S>,
    ) -> Result<()> {
        let all = changed.iter().map(|encoder| &**encoder).chain(read);
        match all.filter(|encoder| matches!(encoder.0, Form::ResNet(_))).count() {
            0 => Vgg::visit(changed.map(Self::vgg_mut), read.map(Self::vgg), path, visitor),
            count if count == M + S => {
                ResNet::visit(changed.map(Self::resnet_mut), read.map(Self::resnet), path, visitor)
            }
            _ => Err(Error::mismatch(format!("{path}: one value is a VGG, another a ResNet"))),
        }
    }

    fn empty(&mut self, path: &Path<'_>, which: &dyn Fn(&Path<'_>, Tensor) -> bool) {
        match &mut self.0 {
            Form::Vgg(vgg) => vgg.empty(path, which),
            Form::ResNet(resnet) => resnet.empty(path, which),
        }
    }
}

/// The forms, where it is known which one it is.
macro_rules! forms {
    ($($name:ident $name_mut:ident $form:ident)*) => {
        impl<T> Encoder<T> {$(
            fn $name(&self) -> &$form<T> {
                let Form::$form(net) = &self.0 else { unreachable!("all have one form") };
                net
            }

            fn $name_mut(&mut self) -> &mut $form<T> {
                let Form::$form(net) = &mut self.0 else { unreachable!("all have one form") };
                net
            }
        )*}
    };
}
forms!(vgg vgg_mut Vgg  resnet resnet_mut ResNet);

impl<T: Scalar> Layer<T> for Encoder<T> {
    /// x [N, 3, Y, X]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = Array4<T>;
    type Cache = EncoderCache<T>;

    /// # Errors
    ///
    /// If there are not three channels, or if a picture is too small for the network.
    fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut EncoderCache<T>) -> Result<()> {
        self.check(x)?;
        let EncoderCache { y, vgg, resnet } = cache;
        match &self.0 {
            Form::Vgg(net) => net.forward(x, mode, vgg)?,
            Form::ResNet(net) => net.forward(x, mode, resnet)?,
        }
        let phi = if matches!(self.0, Form::Vgg(_)) { vgg.phi_mut() } else { resnet.phi_mut() };
        // No backward pass reads φ.
        std::mem::swap(y, phi);
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut EncoderCache<T>,
        dy: &Array2<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        match &self.0 {
            Form::Vgg(net) => net.backward(x, &mut cache.vgg, dy, write, grad.vgg_mut(), dx),
            Form::ResNet(net) => net.backward(x, &mut cache.resnet, dy, write, grad.resnet_mut(), dx),
        }
    }
}

impl<T: Scalar> Encoder<T> {
    /// φ [N, F] in [`Mode::Eval`], for which nothing is kept: it needs the memory of the largest layers only.
    ///
    /// # Errors
    ///
    /// As a forward pass.
    pub fn embed(&self, x: ArrayView4<'_, T>) -> Result<Array2<T>> {
        self.check(x)?;
        match &self.0 {
            Form::Vgg(net) => net.embed(x),
            Form::ResNet(net) => net.embed(x),
        }
    }

    /// The seed of the dropouts, if the network has some.
    pub fn set_seed(&mut self, seed: u64) {
        if let Form::Vgg(net) = &mut self.0 {
            net.set_seed(seed);
        }
    }

    /// Moves the running statistics of every norm towards those of the pass: once after each step. Nothing moves if
    /// the pass took the running ones.
    pub fn update(&mut self, cache: &EncoderCache<T>) {
        if let Form::ResNet(net) = &mut self.0 {
            net.update(&cache.resnet);
        }
    }

    fn check(&self, x: ArrayView4<'_, T>) -> Result<()> {
        let least = if let Form::Vgg(net) = &self.0 { net.least() } else { 1 };
        let (_, channels, rows, columns) = x.dim();
        if channels == 3 && rows.min(columns) >= least {
            return Ok(());
        }
        Err(Error::shape("pictures", format!("[N, 3, Y ≥ {least}, X ≥ {least}]"), x.shape()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Role;
    use crate::random::{Symmetric, stream};
    use ndarray::{Array, Axis, s};
    use ndarray_rand::RandomExt;
    use num_complex::Complex64;

    fn encoder<T: Scalar>(network: &str) -> Encoder<T> {
        let mut encoder = Encoder::zeros(network.parse().unwrap());
        encoder.init(3);
        encoder
    }

    fn pictures<T: Scalar>(count: usize) -> Array4<T> {
        Array4::random_using((count, 3, 36, 33), Symmetric(1.0), &mut stream(0, "x")).mapv(T::from_f64)
    }

    const SMALL: [&str; 4] = [
        "vgg19,planes=2-3-4-5-6",
        "resnet18,planes=4-6-8-10",
        "resnet50,planes=2-3-4-5,stride=1x1",
        "resnet20,planes=4-6-8",
    ];

    /// y, the gradient and dx of a pass.
    fn run<T: Real>(encoder: &Encoder<T>, x: &Array4<T>, mode: Mode) -> (Array2<T>, Encoder<T>, Array4<T>) {
        let (mut cache, mut grad, mut dx) = (EncoderCache::default(), encoder.clone(), Array4::default([0; 4]));
        // The second pass finds used memory.
        for x in [&(x * T::from_f64(2.0)), x] {
            encoder.forward(x.view(), mode, &mut cache).unwrap();
            let dy = Array::random_using(cache.y.dim(), Symmetric(1.0), &mut stream(0, "dy")).mapv(T::from_f64);
            encoder.backward(x.view(), &mut cache, &dy, Write::Replace, &mut grad, Some(&mut dx));
        }
        (cache.y, grad, dx)
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        for network in SMALL {
            let (encoder, x) = (encoder::<f32>(network), pictures(3));
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| run(&encoder, &x, Mode::Train))
            };
            let one = on(1);
            assert!([2, 5].into_iter().all(|threads| on(threads) == one), "{network}");
        }
    }

    #[test]
    fn features_do_not_depend_on_the_batch() {
        for network in SMALL {
            let (encoder, x) = (encoder::<f32>(network), pictures(3));
            let all = encoder.embed(x.view()).unwrap();
            for n in 0..3 {
                assert_eq!(
                    encoder.embed(x.slice(s![n..=n, .., .., ..])).unwrap(),
                    all.slice(s![n..=n, ..]),
                    "{network}"
                );
            }
            assert_eq!(run(&encoder, &x, Mode::Eval).0, all, "{network}: a pass that keeps everything");
        }
    }

    /// The gradient of a batch, and the sum of those of its parts: with running statistics pictures are independent.
    #[test]
    fn the_gradient_of_parts_adds_up_to_that_of_the_batch() {
        for network in SMALL {
            let (encoder, x) = (encoder::<f64>(network), pictures(5));
            let mut cache = EncoderCache::default();
            encoder.forward(x.view(), Mode::Eval, &mut cache).unwrap();
            let dy = Array::random_using(cache.y.dim(), Symmetric(1.0), &mut stream(0, "dy"));
            let (mut whole, mut parts, mut dx) = (encoder.clone(), encoder.clone(), Array4::default([0; 4]));
            encoder.backward(x.view(), &mut cache, &dy, Write::Replace, &mut whole, Some(&mut dx));
            let mut write = Write::Replace;
            for n in [0..2, 2..4, 4..5] {
                let (x, dy) = (x.slice(s![n.clone(), .., .., ..]), dy.slice(s![n, ..]).to_owned());
                encoder.forward(x, Mode::Eval, &mut cache).unwrap();
                encoder.backward(x, &mut cache, &dy, write, &mut parts, None);
                write = Write::Add;
            }
            for ((name, whole), (_, parts)) in whole.tensors().into_iter().zip(parts.tensors()) {
                if name.contains("running") {
                    continue;
                }
                let largest = whole.fold(0.0, |m: f64, x| m.max(x.abs()));
                approx::assert_abs_diff_eq!(whole, parts, epsilon = 1e-14 * largest);
            }
        }
    }

    /// The derivative along a random direction, by a complex step.
    #[test]
    fn the_gradient_is_that_of_the_pass() {
        const STEP: f64 = 1e-30;
        for (network, mode) in SMALL.into_iter().flat_map(|network| [(network, Mode::Eval), (network, Mode::Train)]) {
            let (encoder, x) = (encoder::<f64>(network), pictures(2));
            let (phi, grad, dx) = run(&encoder, &x, mode);
            let dy = Array::random_using(phi.dim(), Symmetric(1.0), &mut stream(0, "dy"));
            let along = |name: &str, shape: &[usize]| Array::random_using(shape, Symmetric(1.0), &mut stream(1, name));
            let mut slope = (&dx.into_dyn() * &along("x", x.shape())).sum();
            let mut moved = Encoder::<Complex64>::zeros(network.parse().unwrap());
            let mut tensors = encoder.tensors().into_iter();
            let mut gradients = grad.tensors().into_iter();
            moved.each_mut(|path, tensor, mut moved| {
                let ((_, value), (_, gradient)) = (tensors.next().unwrap(), gradients.next().unwrap());
                let mut direction = along(&path.to_string(), value.shape());
                match tensor.role {
                    Role::Trained => slope += (&gradient * &direction).sum(),
                    Role::Buffer => direction.fill(0.0),
                }
                let both = value.iter().zip(&direction).map(|(&x, &d)| Complex64::new(x, STEP * d));
                moved.iter_mut().zip(both).for_each(|(moved, value)| *moved = value);
            });
            let direction = along("x", x.shape());
            let both = x.iter().zip(&direction).map(|(&x, &d)| Complex64::new(x, STEP * d)).collect();
            let x = Array4::from_shape_vec(x.dim(), both).unwrap();
            let mut cache = EncoderCache::default();
            moved.forward(x.view(), mode, &mut cache).unwrap();
            let found = cache.y.iter().zip(&dy).map(|(y, dy)| y.im / STEP * dy).fold(0.0, |sum, x| sum + x);
            // As in `tests/oracle_encoders.rs`, where deeper networks stay below 1e-10.
            approx::assert_relative_eq!(found, slope, max_relative = 1e-9);
        }
    }

    #[test]
    fn what_is_no_picture_for_the_network_is_an_error() {
        let message = |network: &str, shape: [usize; 4]| {
            encoder::<f32>(network).embed(Array4::ones(shape).view()).unwrap_err().to_string()
        };
        let found = message(SMALL[0], [1, 3, 31, 40]);
        assert_eq!(found, "pictures: expected [N, 3, Y ≥ 32, X ≥ 32], found [1, 3, 31, 40]");
        assert_eq!(message(SMALL[1], [1, 1, 8, 8]), "pictures: expected [N, 3, Y ≥ 1, X ≥ 1], found [1, 1, 8, 8]");
        let one = encoder::<f32>(SMALL[1]).embed(Array4::ones((1, 3, 1, 1)).view()).unwrap();
        assert_eq!(one.len_of(Axis(1)), 10);
        let other = encoder::<f32>(SMALL[0]);
        let found = other.check_gradient(&encoder(SMALL[1])).unwrap_err().to_string();
        assert!(found.ends_with("one value is a VGG, another a ResNet"), "{found}");
        let found = encoder::<f32>("resnet18").check_gradient(&encoder("resnet50")).unwrap_err().to_string();
        assert!(found.ends_with("one value has [2, 2, 2, 2] blocks, another [3, 4, 6, 3]"), "{found}");
    }
}
