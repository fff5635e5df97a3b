//! Clipping and Adam: (CLIP-1), (CLIP-2), (ADAM-1) to (ADAM-3).

use ndarray::ArrayD;

use super::Plain;
use crate::golden::arithmetic::Form;
use crate::real::{Real, power};

/// Named tensors in a fixed order.
pub(crate) type Tensors<T> = Vec<(String, ArrayD<T>)>;

/// Adam's memory.
#[derive(Clone, Debug)]
pub(crate) struct Optimiser<T> {
    /// First moments.
    pub m: Tensors<T>,
    /// Second moments.
    pub v: Tensors<T>,
    /// t: steps taken.
    pub step: u64,
}

/// What one step found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptimiserStep<T> {
    /// (CLIP-1): before clipping.
    pub norm: T,
    /// (CLIP-2): 1 where nothing is clipped.
    pub clip: T,
}

impl<T: Real> Optimiser<T> {
    /// Moments zero, no step taken.
    #[must_use]
    pub(crate) fn new(parameters: &Tensors<T>) -> Self {
        let zeros: Tensors<T> = parameters.iter().map(|(name, p)| (name.clone(), ArrayD::zeros(p.raw_dim()))).collect();
        Self { m: zeros.clone(), v: zeros, step: 0 }
    }
}

impl Plain<'_> {
    /// ‖x‖₂, in blocks as most kernels sum; or in eight long sums, as some do (`PyTorch`'s on a CPU),
    /// which costs digits where there are millions of terms.
    fn norm<T: Real>(&self, tensors: &[&ArrayD<T>]) -> T {
        const BLOCK: usize = 1024;
        const LANES: usize = 8;
        if self.arithmetic.form == Form::Interpolated {
            let mut lanes = vec![T::zero(); LANES * tensors.len()];
            for (lanes, x) in lanes.chunks_mut(LANES).zip(tensors) {
                for (k, &x) in x.iter().enumerate() {
                    lanes[k % LANES] += x * x;
                }
            }
            return self.arithmetic.sum(&lanes).sqrt();
        }
        let blocks: Vec<T> = tensors
            .iter()
            .flat_map(|x| x.as_slice().expect("contiguous").chunks(BLOCK))
            .map(|block| self.arithmetic.dot(block, block))
            .collect();
        self.arithmetic.sum(&blocks).sqrt()
    }

    /// One step of all parameters with clipping at `max_norm` (0: none).
    pub(crate) fn step<T: Real>(
        &self,
        optimiser: &mut Optimiser<T>,
        parameters: &mut Tensors<T>,
        gradient: &Tensors<T>,
        learning_rate: f64,
        max_norm: f64,
    ) -> OptimiserStep<T> {
        let norm = self.norm(&gradient.iter().map(|(_, g)| g).collect::<Vec<_>>());
        let coefficient = T::from_f64(max_norm) / (norm + T::from_f64(1e-6));
        let clip = if max_norm > 0.0 && coefficient < T::one() { coefficient } else { T::one() };
        optimiser.step += 1;
        let constants = self.constants(optimiser.step, learning_rate);
        for (k, (_, p)) in parameters.iter_mut().enumerate() {
            let (m, v) = (&mut optimiser.m[k].1, &mut optimiser.v[k].1);
            ndarray::Zip::from(p).and(&gradient[k].1).and(m).and(v).for_each(|p, &g, m, v| {
                self.adam(p, g * clip, [m, v], &constants);
            });
        }
        OptimiserStep { norm, clip }
    }

    /// Adam's numbers in step t; `rearranged` makes them in the backend's own precision, where
    /// 1 − 0.999 has few digits left.
    fn constants<T: Real>(&self, t: u64, learning_rate: f64) -> Constants<T> {
        let betas = [0.9, 0.999];
        let rearranged = self.arithmetic.form == Form::Rearranged;
        let rest = |beta: f64| if rearranged { T::one() - T::from_f64(beta) } else { T::from_f64(1.0 - beta) };
        let correction = |beta: f64| {
            if rearranged {
                T::one() - (0..t).fold(T::one(), |power, _| power * T::from_f64(beta))
            } else {
                T::from_f64(1.0 - power(beta, t))
            }
        };
        Constants {
            learning_rate: T::from_f64(learning_rate),
            betas: betas.map(T::from_f64),
            rests: betas.map(rest),
            corrections: betas.map(correction),
            epsilon: T::from_f64(1e-8),
        }
    }

    /// (ADAM-1) to (ADAM-3) for one number.
    fn adam<T: Real>(&self, p: &mut T, g: T, [m, v]: [&mut T; 2], c: &Constants<T>) {
        let square = g * g;
        (*m, *v) = match self.arithmetic.form {
            Form::Rearranged => (*m + (g - *m) * c.rests[0], *v + (square - *v) * c.rests[1]),
            Form::Interpolated => {
                (c.betas[0] * *m + (g - c.betas[0] * g), c.betas[1] * *v + (square - c.betas[1] * square))
            }
            Form::Definition => (c.betas[0] * *m + c.rests[0] * g, c.betas[1] * *v + c.rests[1] * square), // (ADAM-1)
        };
        let [first, second] = c.corrections;
        *p -= if self.arithmetic.form == Form::Rearranged {
            c.learning_rate / first * (*m / (v.sqrt() / second.sqrt() + c.epsilon))
        } else {
            let (m_hat, v_hat) = (*m / first, *v / second); // (ADAM-2)
            c.learning_rate * m_hat / (v_hat.sqrt() + c.epsilon) // (ADAM-3)
        };
    }
}

/// Adam's numbers in one step.
struct Constants<T> {
    learning_rate: T,
    /// β₁, β₂
    betas: [T; 2],
    /// 1 − β
    rests: [T; 2],
    /// 1 − βᵗ
    corrections: [T; 2],
    epsilon: T,
}
