//! Initialisation, as the original's.
//!
//! ```text
//! (INIT-1)  W ~ U(±√6 / √(in + out)), b = 0        projections (Glorot and Bengio 2010)
//! (INIT-2)  W ~ U(±0.1)                             word vectors, all rows
//! (INIT-3)  W, b ~ U(±1 / √H)                       GRU, every weight and both biases
//! ```
//!
//! Every tensor draws from a random stream of its own, named after it.

use ndarray::Array;
use ndarray_rand::RandomExt;

use super::config::Architecture;
use super::parameters::Parameters;
use crate::random::{Symmetric, stream};
use crate::real::Scalar;

impl<T: Scalar> Parameters<T> {
    /// (INIT-1) to (INIT-3) from a seed.
    #[must_use]
    pub fn init(architecture: &Architecture, seed: u64) -> Self {
        let mut parameters = Self::zeros(architecture);
        for (name, mut tensor) in parameters.named_mut() {
            let bound = bound(&name, tensor.shape(), architecture.hidden_size);
            let mut rng = stream(seed, &format!("init/{name}"));
            let values = Array::random_using(tensor.raw_dim(), Symmetric(bound), &mut rng);
            tensor.zip_mut_with(&values, |x, &value| *x = T::from_f64(value));
        }
        parameters
    }
}

/// a of U(±a), by the tensor's name; 0 for the projections' biases.
fn bound(name: &str, shape: &[usize], hidden: usize) -> f64 {
    match name {
        // (INIT-2)  W ~ U(±0.1)
        "txt_enc.embed.weight" => 0.1,
        // (INIT-3)  W, b ~ U(±1 / √H)
        _ if name.starts_with("txt_enc.rnn.") => 1.0 / (hidden as f64).sqrt(),
        // (INIT-1)  W ~ U(±√6 / √(in + out)), b = 0
        _ if shape.len() == 2 => (6.0 / (shape[0] + shape[1]) as f64).sqrt(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    #[test]
    fn init_1_2_3_fill_their_ranges_evenly() {
        let config = Config { embed_size: 64, word_dim: 32, caption_projection: true, ..Config::default() };
        let architecture = config.check().unwrap().architecture(100, 80);
        let parameters = Parameters::<f64>::init(&architecture, 0);
        for (name, tensor) in parameters.named() {
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
            // Of n uniform numbers the largest is below 0.9 a with probability 0.9ⁿ; n ≥ 192.
            assert!(largest > 0.9 * a, "{name}: {largest} is far from {a}");
            // The mean of n numbers has standard deviation a / √(3n): five of them.
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
        assert_eq!(a.cast::<f32>(&architecture), Parameters::init(&architecture, 1));
    }
}
