//! Adam (Kingma and Ba 2015, algorithm 1).
//!
//! ```text
//! (ADAM-1)  m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²
//! (ADAM-2)  m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)
//! (ADAM-3)  θ ← θ − lr m̂ / (√v̂ + ε)          ε outside the root
//! ```
//!
//! β₁ = 0.9, β₂ = 0.999, ε = 1e-8, no weight decay. Dense on the word vectors too: a word that is
//! not in the batch has g = 0, and keeps moving by what its moments remember.

use rayon::prelude::*;

use crate::model::{Architecture, Parameters};
use crate::real::{Real, power};
use crate::simd::vectorized;

/// The moments and the number of steps taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam<T> {
    /// First moments.
    pub m: Parameters<T>,
    /// Second moments.
    pub v: Parameters<T>,
    /// t: steps taken.
    pub step: u64,
}

impl<T: Real> Adam<T> {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;
    const EPSILON: f64 = 1e-8;

    /// Moments zero, no step taken.
    #[must_use]
    pub fn new(architecture: &Architecture) -> Self {
        let zeros = Parameters::zeros(architecture);
        Self { m: zeros.clone(), v: zeros, step: 0 }
    }

    /// One step with the gradient times `scale` (the clipping coefficient).
    pub fn update(&mut self, parameters: &mut Parameters<T>, gradient: &Parameters<T>, learning_rate: f64, scale: f64) {
        /// Numbers a task updates; they do not depend on one another.
        const CHUNK: usize = 1 << 14;
        self.step += 1;
        let number = T::from_f64;
        let (beta1, beta2) = (number(Self::BETA1), number(Self::BETA2));
        let (rest1, rest2) = (number(1.0 - Self::BETA1), number(1.0 - Self::BETA2));
        // (ADAM-2)  m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
        // The first divisor goes into the step size, the root of the second under √v.
        let step_size = number(learning_rate / (1.0 - power(Self::BETA1, self.step)));
        let root = number((1.0 - power(Self::BETA2, self.step)).sqrt());
        let (epsilon, scale) = (number(Self::EPSILON), number(scale));

        let moments = self.m.tensors_mut().zip(self.v.tensors_mut());
        for ((mut p, g), (mut m, mut v)) in parameters.tensors_mut().zip(gradient.tensors()).zip(moments) {
            let chunks = p.as_slice_mut().expect("contiguous").par_chunks_mut(CHUNK);
            let chunks = chunks.zip(g.as_slice().expect("contiguous").par_chunks(CHUNK));
            let chunks = chunks.zip(m.as_slice_mut().expect("contiguous").par_chunks_mut(CHUNK));
            let chunks = chunks.zip(v.as_slice_mut().expect("contiguous").par_chunks_mut(CHUNK));
            chunks.for_each(|(((p, g), m), v)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                            let g = g * scale;
                            // (ADAM-1)  m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²
                            *m = beta1 * *m + rest1 * g;
                            *v = beta2 * *v + rest2 * g * g;
                            // (ADAM-3)  θ ← θ − lr m̂ / (√v̂ + ε)
                            *p -= step_size * *m / (v.sqrt() / root + epsilon);
                        }
                    },
                );
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Config;

    #[test]
    fn adam_1_2_3_by_hand_for_two_steps() {
        let architecture =
            Config { embed_size: 1, word_dim: 1, ..Config::default() }.check().unwrap().architecture(1, 1);
        let mut parameters = Parameters::<f64>::zeros(&architecture);
        let mut gradient = parameters.clone();
        let mut adam = Adam::new(&architecture);
        let at = |p: &Parameters<f64>| p.img_enc.fc.bias[0];
        gradient.img_enc.fc.bias[0] = 4.0;
        adam.update(&mut parameters, &gradient, 0.1, 0.5);
        // g = 2, m̂ = 2, v̂ = 4: a step of lr · 2 / (2 + ε).
        approx::assert_relative_eq!(at(&parameters), -0.1 * 2.0 / (2.0 + 1e-8), max_relative = 1e-14);
        gradient.img_enc.fc.bias[0] = 0.0;
        let before = at(&parameters);
        adam.update(&mut parameters, &gradient, 0.1, 1.0);
        let (m, v) = (0.9 * 0.2 / (1.0 - 0.81), 0.999 * 0.004 / (1.0 - 0.998_001));
        let step = 0.1 * m / (f64::sqrt(v) + 1e-8);
        approx::assert_relative_eq!(at(&parameters) - before, -step, max_relative = 1e-12);
        assert!(step > 0.0, "a gradient of zero still moves");
    }
}
