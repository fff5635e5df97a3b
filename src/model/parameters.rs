//! All parameters of a model. Its gradient is held in the same struct.

use super::architecture::Architecture;
use super::image_tower::ImageTower;
use super::text_tower::TextTower;
use crate::nn::{Module, Path, Tensor};
use crate::optim::Group;
use crate::real::Scalar;

/// The parameters of a model, or its gradient, which has one number for each of them.
///
/// The tensors have the names that the original's checkpoints give them.
///
/// ```
/// use vsepp::model::{Config, Parameters};
/// use vsepp::nn::Module;
///
/// # fn main() -> vsepp::Result<()> {
/// let config = Config { embed_size: 8, word_dim: 4, ..Config::default() }.check()?;
/// let parameters = Parameters::<f32>::init(&config.architecture(10, 3), 0);
/// assert_eq!(parameters.txt_enc.embed.weight.dim(), (10, 4)); // [V, E]
///
/// let mut names = Vec::new();
/// parameters.each(|path, _, _| names.push(path.to_string()));
/// assert_eq!(names[..3], ["img_enc.fc.weight", "img_enc.fc.bias", "txt_enc.embed.weight"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<T> {
    /// `img_enc`
    pub img_enc: ImageTower<T>,
    /// `txt_enc`
    pub txt_enc: TextTower<T>,
}

crate::module!(Parameters<T>, model { img_enc, txt_enc });

impl<T: Clone + Default> Parameters<T> {
    /// Zeros in the shapes of an architecture.
    #[must_use]
    pub fn zeros(architecture: &Architecture) -> Self {
        Self { img_enc: ImageTower::zeros(architecture), txt_enc: TextTower::zeros(architecture) }
    }
}

impl<T: Scalar> Parameters<T> {
    /// The values before training, from a seed: (INIT-1) to (INIT-3).
    #[must_use]
    pub fn init(architecture: &Architecture, seed: u64) -> Self {
        let mut parameters = Self::zeros(architecture);
        Module::init(&mut parameters, seed);
        parameters
    }
}

impl Architecture {
    /// The name and the shape of every tensor, in the order of a visit. It takes no memory for the numbers,
    /// so the sizes may come from a file, once [`Self::check`] has accepted them.
    #[must_use]
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors_with(|_, _| true)
    }

    /// The tensors that an optimiser with these groups moves.
    #[must_use]
    pub(crate) fn moving(&self, groups: &[Group]) -> Vec<(String, Vec<usize>)> {
        self.tensors_with(|path, tensor| Group::rate_of(groups, path, tensor).is_some())
    }

    fn tensors_with(&self, wanted: impl Fn(&Path<'_>, Tensor) -> bool) -> Vec<(String, Vec<usize>)> {
        // An array of `()` has a shape and no bytes.
        let mut tensors = Vec::new();
        Parameters::<()>::zeros(self).each(|path, tensor, x| {
            if wanted(path, tensor) {
                tensors.push((path.to_string(), x.shape().to_vec()));
            }
        });
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
        let parameters = Parameters::<f32>::zeros(&config.check().unwrap().architecture(11, 5));
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
        let tensors = parameters.tensors();
        let found: Vec<(&str, &[usize])> = tensors.iter().map(|(n, t)| (n.as_str(), t.shape())).collect();
        assert_eq!(found, expected);
        for config in [
            Config { embed_size: 6, word_dim: 3, num_layers: 3, ..Config::default() },
            Config { embed_size: 6, hidden_size: Some(4), caption_projection: true, ..Config::default() },
        ] {
            let architecture = config.check().unwrap().architecture(11, 5);
            let zeros = Parameters::<f32>::zeros(&architecture);
            assert_eq!(zeros.count() as u128, architecture.parameters());
            let found: Vec<_> = zeros.tensors().into_iter().map(|(n, t)| (n, t.shape().to_vec())).collect();
            assert_eq!(architecture.tensors(), found);
        }
    }

    #[test]
    fn init_1_2_3_fill_their_ranges_evenly() {
        let config = Config { embed_size: 64, word_dim: 32, caption_projection: true, ..Config::default() };
        let architecture = config.check().unwrap().architecture(100, 80);
        for (name, tensor) in Parameters::<f64>::init(&architecture, 0).tensors() {
            // The bounds written out, D = H = 64, F = 80.
            let a: f64 = match name.as_str() {
                "img_enc.fc.weight" => (6.0f64 / (80.0 + 64.0)).sqrt(),
                "txt_enc.proj.weight" => (6.0f64 / (64.0 + 64.0)).sqrt(),
                "txt_enc.embed.weight" => 0.1,
                rnn if rnn.starts_with("txt_enc.rnn.") => 0.125,
                _ => 0.0,
            };
            let largest = tensor.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            if a == 0.0 {
                assert!(name.ends_with("bias") && largest == 0.0, "{name}");
                continue;
            }
            assert!(largest <= a, "{name}: {largest} > {a}");
            // The largest of n uniform numbers is below 0.9 a with probability 0.9ⁿ; n ≥ 192.
            assert!(largest > 0.9 * a, "{name}: {largest} is far from {a}");
            // The mean of n numbers has standard deviation a / √(3n): allow five of them.
            let n = tensor.len() as f64;
            let mean = tensor.iter().fold(0.0, |s, x| s + x) / n;
            assert!(mean.abs() < 5.0 * a / (3.0 * n).sqrt(), "{name}: mean {mean}");
        }
    }

    #[test]
    fn a_seed_is_a_model_and_precisions_agree() {
        let architecture = Config { embed_size: 8, ..Config::default() }.check().unwrap().architecture(9, 5);
        let (a, b) = (Parameters::<f64>::init(&architecture, 1), Parameters::<f64>::init(&architecture, 2));
        assert_eq!(a, Parameters::init(&architecture, 1));
        assert_ne!(a, b);
        let single = Parameters::<f32>::init(&architecture, 1).tensors();
        let rounded: Vec<_> = a.tensors().into_iter().map(|(name, x)| (name, x.mapv(|x| x as f32))).collect();
        assert_eq!(rounded, single);
    }
}
