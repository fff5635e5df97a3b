//! All parameters, by name. Gradients and Adam's moments are held in the same struct.

use ndarray::{Array1, Array2, ArrayViewD, ArrayViewMutD};

use super::config::Architecture;
use super::image_tower::ImageTower;
use super::text_tower::TextTower;
use crate::nn::{Embedding, Gru, GruLayer, Linear};
use crate::real::Scalar;

/// The trained numbers of a model, or one number for each of them (a gradient, a moment).
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<T> {
    /// `img_enc`
    pub img_enc: ImageTower<T>,
    /// `txt_enc`
    pub txt_enc: TextTower<T>,
}

impl<T: Scalar> Parameters<T> {
    /// Zeros in the shapes of an architecture.
    #[must_use]
    pub fn zeros(a: &Architecture) -> Self {
        let linear =
            |outputs, inputs| Linear { weight: Array2::zeros((outputs, inputs)), bias: Array1::zeros(outputs) };
        let layer = |k| GruLayer {
            weight_ih: Array2::zeros((3 * a.hidden_size, if k == 0 { a.word_dim } else { a.hidden_size })),
            weight_hh: Array2::zeros((3 * a.hidden_size, a.hidden_size)),
            bias_ih: Array1::zeros(3 * a.hidden_size),
            bias_hh: Array1::zeros(3 * a.hidden_size),
        };
        Self {
            img_enc: ImageTower { fc: linear(a.embed_size, a.img_dim) },
            txt_enc: TextTower {
                embed: Embedding { weight: Array2::zeros((a.vocab_size, a.word_dim)) },
                rnn: Gru { layers: (0..a.num_layers).map(layer).collect() },
                proj: a.caption_projection.then(|| linear(a.embed_size, a.hidden_size)),
            },
        }
    }

    /// The names that the original's checkpoints give the tensors, in one fixed order.
    fn names(&self) -> impl Iterator<Item = String> {
        let layer = |k| ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|part| format!("txt_enc.rnn.{part}_l{k}"));
        ["img_enc.fc.weight", "img_enc.fc.bias", "txt_enc.embed.weight"]
            .map(String::from)
            .into_iter()
            .chain((0..self.txt_enc.rnn.layers.len()).flat_map(layer))
            .chain(["txt_enc.proj.weight", "txt_enc.proj.bias"].map(String::from))
    }

    /// All tensors, in the order of [`Self::named`].
    pub fn tensors(&self) -> impl Iterator<Item = ArrayViewD<'_, T>> {
        fn matrix<T>(x: &Array2<T>) -> ArrayViewD<'_, T> {
            x.view().into_dyn()
        }
        fn vector<T>(x: &Array1<T>) -> ArrayViewD<'_, T> {
            x.view().into_dyn()
        }
        fn layer<T>(layer: &GruLayer<T>) -> [ArrayViewD<'_, T>; 4] {
            [matrix(&layer.weight_ih), matrix(&layer.weight_hh), vector(&layer.bias_ih), vector(&layer.bias_hh)]
        }
        let (img, txt) = (&self.img_enc, &self.txt_enc);
        [matrix(&img.fc.weight), vector(&img.fc.bias), matrix(&txt.embed.weight)]
            .into_iter()
            .chain(txt.rnn.layers.iter().flat_map(layer))
            .chain(txt.proj.iter().flat_map(|proj| [matrix(&proj.weight), vector(&proj.bias)]))
    }

    /// As [`Self::tensors`], to change.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = ArrayViewMutD<'_, T>> {
        fn matrix<T>(x: &mut Array2<T>) -> ArrayViewMutD<'_, T> {
            x.view_mut().into_dyn()
        }
        fn vector<T>(x: &mut Array1<T>) -> ArrayViewMutD<'_, T> {
            x.view_mut().into_dyn()
        }
        fn layer<T>(layer: &mut GruLayer<T>) -> [ArrayViewMutD<'_, T>; 4] {
            let GruLayer { weight_ih, weight_hh, bias_ih, bias_hh } = layer;
            [matrix(weight_ih), matrix(weight_hh), vector(bias_ih), vector(bias_hh)]
        }
        let (img, txt) = (&mut self.img_enc, &mut self.txt_enc);
        [matrix(&mut img.fc.weight), vector(&mut img.fc.bias), matrix(&mut txt.embed.weight)]
            .into_iter()
            .chain(txt.rnn.layers.iter_mut().flat_map(layer))
            .chain(txt.proj.iter_mut().flat_map(|proj| [matrix(&mut proj.weight), vector(&mut proj.bias)]))
    }

    /// Every tensor with the name that the original's checkpoints give it, in one fixed order.
    #[must_use]
    pub fn named(&self) -> Vec<(String, ArrayViewD<'_, T>)> {
        self.names().zip(self.tensors()).collect()
    }

    /// The names and tensors of [`Self::named`], to change.
    pub fn named_mut(&mut self) -> Vec<(String, ArrayViewMutD<'_, T>)> {
        let names: Vec<String> = self.names().collect();
        names.into_iter().zip(self.tensors_mut()).collect()
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tensors().map(|tensor| tensor.len()).sum()
    }

    /// Sets every number, in the order of [`Self::named`], rows first.
    pub fn fill_with(&mut self, mut value: impl FnMut() -> T) {
        for mut tensor in self.tensors_mut() {
            tensor.map_inplace(|x| *x = value());
        }
    }

    /// The same numbers in another precision.
    #[must_use]
    pub fn cast<U: Scalar>(&self, architecture: &Architecture) -> Parameters<U> {
        let mut out = Parameters::zeros(architecture);
        for (from, mut to) in self.tensors().zip(out.tensors_mut()) {
            to.zip_mut_with(&from, |to, from| *to = U::from_f64(from.re()));
        }
        out
    }
}

impl Architecture {
    /// The name and the shape of every tensor, in the order of [`Parameters::named`], without making it.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { vocab_size: v, img_dim: f, word_dim: e, hidden_size: h, embed_size: d, .. } = *self;
        let mut tensors = vec![
            ("img_enc.fc.weight".into(), vec![d, f]),
            ("img_enc.fc.bias".into(), vec![d]),
            ("txt_enc.embed.weight".into(), vec![v, e]),
        ];
        // Sizes that nobody has checked may be anything.
        let gates = h.saturating_mul(3);
        for k in 0..self.num_layers {
            tensors.push((format!("txt_enc.rnn.weight_ih_l{k}"), vec![gates, if k == 0 { e } else { h }]));
            tensors.push((format!("txt_enc.rnn.weight_hh_l{k}"), vec![gates, h]));
            tensors.push((format!("txt_enc.rnn.bias_ih_l{k}"), vec![gates]));
            tensors.push((format!("txt_enc.rnn.bias_hh_l{k}"), vec![gates]));
        }
        if self.caption_projection {
            tensors.push(("txt_enc.proj.weight".into(), vec![d, h]));
            tensors.push(("txt_enc.proj.bias".into(), vec![d]));
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    #[test]
    fn names_and_shapes_are_the_originals() {
        let config = Config { embed_size: 6, word_dim: 3, num_layers: 2, ..Config::default() };
        let mut parameters = Parameters::<f32>::zeros(&config.check().unwrap().architecture(11, 5));
        let expected: [(&str, &[usize]); 11] = [
            ("img_enc.fc.weight", &[6, 5]),
            ("img_enc.fc.bias", &[6]),
            ("txt_enc.embed.weight", &[11, 3]),
            ("txt_enc.rnn.weight_ih_l0", &[18, 3]),
            ("txt_enc.rnn.weight_hh_l0", &[18, 6]),
            ("txt_enc.rnn.bias_ih_l0", &[18]),
            ("txt_enc.rnn.bias_hh_l0", &[18]),
            ("txt_enc.rnn.weight_ih_l1", &[18, 6]),
            ("txt_enc.rnn.weight_hh_l1", &[18, 6]),
            ("txt_enc.rnn.bias_ih_l1", &[18]),
            ("txt_enc.rnn.bias_hh_l1", &[18]),
        ];
        let named = parameters.named();
        let found: Vec<(&str, &[usize])> = named.iter().map(|(n, t)| (n.as_str(), t.shape())).collect();
        assert_eq!(found, expected);
        let shapes: Vec<Vec<usize>> = named.iter().map(|(_, t)| t.shape().to_vec()).collect();
        let mutable: Vec<Vec<usize>> = parameters.tensors_mut().map(|t| t.shape().to_vec()).collect();
        assert_eq!(shapes, mutable, "named and tensors_mut keep one order");
        for config in [
            Config { embed_size: 6, word_dim: 3, num_layers: 3, ..Config::default() },
            Config { embed_size: 6, hidden_size: Some(4), caption_projection: true, ..Config::default() },
        ] {
            let architecture = config.check().unwrap().architecture(11, 5);
            let zeros = Parameters::<f32>::zeros(&architecture);
            assert_eq!(zeros.count() as u128, architecture.parameters());
            let found: Vec<_> = zeros.named().into_iter().map(|(n, t)| (n, t.shape().to_vec())).collect();
            assert_eq!(architecture.tensors(), found);
        }
    }
}
