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

    /// Every tensor with the name that the original's checkpoints give it, in one fixed order.
    #[must_use]
    pub fn named(&self) -> Vec<(String, ArrayViewD<'_, T>)> {
        let (img, txt) = (&self.img_enc, &self.txt_enc);
        let mut named = vec![
            ("img_enc.fc.weight".into(), img.fc.weight.view().into_dyn()),
            ("img_enc.fc.bias".into(), img.fc.bias.view().into_dyn()),
            ("txt_enc.embed.weight".into(), txt.embed.weight.view().into_dyn()),
        ];
        for (k, layer) in txt.rnn.layers.iter().enumerate() {
            named.push((format!("txt_enc.rnn.weight_ih_l{k}"), layer.weight_ih.view().into_dyn()));
            named.push((format!("txt_enc.rnn.weight_hh_l{k}"), layer.weight_hh.view().into_dyn()));
            named.push((format!("txt_enc.rnn.bias_ih_l{k}"), layer.bias_ih.view().into_dyn()));
            named.push((format!("txt_enc.rnn.bias_hh_l{k}"), layer.bias_hh.view().into_dyn()));
        }
        if let Some(proj) = &txt.proj {
            named.push(("txt_enc.proj.weight".into(), proj.weight.view().into_dyn()));
            named.push(("txt_enc.proj.bias".into(), proj.bias.view().into_dyn()));
        }
        named
    }

    /// The tensors of [`Self::named`], in its order, to change.
    pub fn tensors_mut(&mut self) -> Vec<ArrayViewMutD<'_, T>> {
        let (img, txt) = (&mut self.img_enc, &mut self.txt_enc);
        let mut tensors = vec![
            img.fc.weight.view_mut().into_dyn(),
            img.fc.bias.view_mut().into_dyn(),
            txt.embed.weight.view_mut().into_dyn(),
        ];
        for layer in &mut txt.rnn.layers {
            tensors.push(layer.weight_ih.view_mut().into_dyn());
            tensors.push(layer.weight_hh.view_mut().into_dyn());
            tensors.push(layer.bias_ih.view_mut().into_dyn());
            tensors.push(layer.bias_hh.view_mut().into_dyn());
        }
        if let Some(proj) = &mut txt.proj {
            tensors.push(proj.weight.view_mut().into_dyn());
            tensors.push(proj.bias.view_mut().into_dyn());
        }
        tensors
    }

    /// The names and tensors of [`Self::named`], to change.
    pub fn named_mut(&mut self) -> Vec<(String, ArrayViewMutD<'_, T>)> {
        let names: Vec<String> = self.named().into_iter().map(|(name, _)| name).collect();
        names.into_iter().zip(self.tensors_mut()).collect()
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.named().iter().map(|(_, tensor)| tensor.len()).sum()
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
        for ((_, from), mut to) in self.named().iter().zip(out.tensors_mut()) {
            to.zip_mut_with(from, |to, from| *to = U::from_f64(from.re()));
        }
        out
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
        let mutable: Vec<Vec<usize>> = parameters.tensors_mut().iter().map(|t| t.shape().to_vec()).collect();
        assert_eq!(shapes, mutable, "named and tensors_mut keep one order");
        for config in [
            Config { embed_size: 6, word_dim: 3, num_layers: 3, ..Config::default() },
            Config { embed_size: 6, hidden_size: Some(4), caption_projection: true, ..Config::default() },
        ] {
            let architecture = config.check().unwrap().architecture(11, 5);
            assert_eq!(Parameters::<f32>::zeros(&architecture).count() as u128, architecture.parameters());
        }
    }
}
