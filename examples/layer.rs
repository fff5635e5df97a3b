//! Your own layer in front of the model: a convolution with a weight of four axes, and a running mean that
//! is saved but not trained.
//!
//! The convolution and VSE++ are one [`Module`]: one optimiser updates both, and one visit names, counts and
//! clips their tensors. The gradient for the features, dℓ/dφ, comes from the same backward pass as the
//! others. A part of the model is frozen.
//!
//! `cargo run --release --example layer` prints the tensors and the loss of some steps.

use ndarray::{Array1, Array2, Array4, ArrayView2, ArrayView4, Axis};
use vsepp::model::{Batch, Config, Parameters, Pass, Vse};
use vsepp::nn::{Layer, Mode, Module, Tensor, Write};
use vsepp::optim::{Adam, Group, clip_coefficient, global_norm, gradient_of};
use vsepp::real::{Real, Scalar};

/// A convolution whose kernel covers the whole picture: `y_bf = Σ_cij w_fcij (x_bcij − mean_c)`.
#[derive(Clone, Debug, PartialEq)]
struct Conv<T> {
    /// w [F, C, Y, X]
    weight: Array4<T>,
    /// The running mean of every channel, `[C]`.
    mean: Array1<T>,
}

vsepp::module!(
    Conv<T>,
    layer {
        weight: Tensor::uniform(1.0 / (layer.weight.len() as f64 / layer.weight.len_of(Axis(0)) as f64).sqrt()),
        mean: Tensor::buffer(0.0),
    }
);

/// The cache of [`Conv`].
#[derive(Default)]
struct ConvCache<T> {
    /// y [B, F]
    y: Array2<T>,
    /// x minus the mean, one row per picture, [B, C Y X].
    centred: Array2<T>,
    /// The mean of the batch, `[C]`: only in training.
    batch_mean: Option<Array1<T>>,
}

/// The kernel as a matrix, [F, C Y X].
fn rows<T: Clone>(weight: &Array4<T>) -> ArrayView2<'_, T> {
    let rows = weight.len_of(Axis(0));
    weight.view().into_shape_with_order((rows, weight.len() / rows)).expect("contiguous")
}

impl<T: Scalar> Layer<T> for Conv<T> {
    /// x [B, C, Y, X]
    type X<'a>
        = ArrayView4<'a, T>
    where
        T: 'a;
    type Y = Array2<T>;
    type Dx = Array4<T>;
    type Cache = ConvCache<T>;

    fn forward(&self, x: ArrayView4<'_, T>, mode: Mode, cache: &mut ConvCache<T>) -> vsepp::Result<()> {
        let (batch, width) = (x.len_of(Axis(0)), self.weight.len() / self.weight.len_of(Axis(0)));
        let centred = &x - &self.mean.view().insert_axis(Axis(1)).insert_axis(Axis(2));
        cache.centred = centred.into_shape_with_order((batch, width)).expect("as many numbers as the kernel");
        cache.y = cache.centred.dot(&rows(&self.weight).t());
        cache.batch_mean = (mode == Mode::Train).then(|| {
            let channels = x.axis_iter(Axis(1)).map(|x| x.iter().fold(0.0, |sum, x| sum + x.re()) / x.len() as f64);
            channels.map(T::from_f64).collect()
        });
        Ok(())
    }

    fn backward(
        &self,
        x: ArrayView4<'_, T>,
        cache: &mut ConvCache<T>,
        dy: &Array2<T>,
        write: Write,
        grad: &mut Self,
        dx: Option<&mut Array4<T>>,
    ) where
        T: Real,
    {
        if !grad.weight.is_empty() {
            let dw = dy.t().dot(&cache.centred).into_shape_with_order(self.weight.dim()).expect("w's numbers");
            if write == Write::Replace {
                grad.weight.fill(T::zero());
            }
            grad.weight += &dw;
        }
        if let Some(dx) = dx {
            *dx = dy.dot(&rows(&self.weight)).into_shape_with_order(x.dim()).expect("x's numbers");
        }
    }
}

impl<T: Scalar> Conv<T> {
    /// Moves the running mean by a tenth towards the mean of the last batch.
    fn update_mean(&mut self, cache: &ConvCache<T>) {
        if let Some(batch_mean) = &cache.batch_mean {
            let (keep, rest) = (T::from_f64(0.9), T::from_f64(0.1));
            self.mean.zip_mut_with(batch_mean, |mean, &new| *mean = keep * *mean + rest * new);
        }
    }
}

/// The convolution, and VSE++ on its output.
#[derive(Clone, Debug, PartialEq)]
struct Whole<T> {
    conv: Conv<T>,
    vse: Parameters<T>,
}

vsepp::module!(Whole<T>, model { conv, vse });

/// Trains on four random pictures, and returns the model before and after, and the losses.
fn train(groups: &[Group], steps: usize) -> vsepp::Result<(Whole<f64>, Whole<f64>, Vec<f64>)> {
    let config = Config { embed_size: 8, word_dim: 4, ..Config::default() }.check()?;
    let architecture = config.architecture(10, 6); // V = 10 words, F = 6
    let conv = Conv { weight: Array4::zeros((6, 3, 5, 5)), mean: Array1::zeros(3) };
    let mut model = Whole { conv, vse: Parameters::zeros(&architecture) };
    model.init(0);
    let before = model.clone();

    let pictures = Array4::from_shape_fn((4, 3, 5, 5), |(b, c, y, x)| ((b * 7 + c * 5 + y * 3 + x) as f64).sin() + 0.5);
    let captions = vec![vec![1, 4, 2], vec![1, 5, 2], vec![1, 4, 6, 2], vec![1, 7, 8, 9, 2]];
    let mut batch = Batch::new(Array2::zeros((4, 6)), captions, vec![0, 1, 2, 3])?;
    let mut adam = Adam::with_groups(&model, groups.to_vec())?;
    let mut gradient = gradient_of(&model, groups);
    let (mut cache, mut pass, mut d_features) = (ConvCache::default(), Pass::default(), Array2::zeros((0, 0)));
    let mut losses = Vec::new();
    for _ in 0..steps {
        model.conv.forward(pictures.view(), Mode::Train, &mut cache)?;
        batch.set_images(cache.y.clone())?;
        let vse = Vse::new(architecture, model.vse.clone())?;
        vse.forward(&batch, &config.objective(0), Mode::Train, &mut pass)?;
        vse.backward(&batch, &mut pass, Write::Replace, &mut gradient.vse, Some(&mut d_features))?;
        model.conv.backward(pictures.view(), &mut cache, &d_features, Write::Replace, &mut gradient.conv, None);
        model.conv.update_mean(&cache);
        let clip = clip_coefficient(global_norm(&gradient), config.grad_clip);
        adam.update(&mut model, &gradient, 0.01, clip)?;
        losses.push(pass.terms.loss);
    }
    Ok((before, model, losses))
}

fn main() -> vsepp::Result<()> {
    let (_, model, losses) = train(&[Group::frozen("vse.txt_enc.embed"), Group::scaled("conv", 0.5)], 50)?;
    model.each(|path, tensor, x| println!("{path}: {:?}, {:?}", x.shape(), tensor.role));
    println!("loss {:.3} at first, {:.3} after {} steps", losses[0], losses[losses.len() - 1], losses.len());
    Ok(())
}

#[cfg(test)]
use vsepp::nn::Role;

#[test]
fn all_parts_are_one_module_and_train() {
    let (before, after, losses) = train(&[], 50).unwrap();
    assert!(losses[49] < losses[0], "{losses:?}");
    let mut names = Vec::new();
    after.each(|path, tensor, _| names.push((path.to_string(), tensor.role)));
    assert_eq!(names[..2], [("conv.weight".into(), Role::Trained), ("conv.mean".into(), Role::Buffer)]);
    assert_eq!(names[2].0, "vse.img_enc.fc.weight");
    for ((name, before), (_, after)) in before.tensors().into_iter().zip(after.tensors()) {
        assert_ne!(before, after, "{name}");
    }
}

#[test]
fn a_frozen_group_stays() {
    let (before, after, _) = train(&[Group::frozen("vse.txt_enc"), Group::frozen("conv.weight")], 3).unwrap();
    assert_eq!((&before.vse.txt_enc, &before.conv.weight), (&after.vse.txt_enc, &after.conv.weight));
    assert_ne!(before.vse.img_enc, after.vse.img_enc);
}
