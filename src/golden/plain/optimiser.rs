//! Clipping and Adam: (CLIP-1), (CLIP-2), (ADAM-1) to (ADAM-3).

use ndarray::ArrayD;

use super::Plain;
use crate::golden::arithmetic::Form;
use crate::golden::mistakes::Mistake as M;
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
    /// What only mistakes remember: the largest v so far, the gradients so far.
    largest: Tensors<T>,
    gradients: Tensors<T>,
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
        Self { m: zeros.clone(), v: zeros.clone(), step: 0, largest: zeros.clone(), gradients: zeros }
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
        let mut gradient = gradient.clone();
        if self.wrong(M::GradientAccumulates) {
            for ((_, sum), (_, g)) in optimiser.gradients.iter_mut().zip(&mut gradient) {
                *sum += &*g;
                g.assign(sum);
            }
        }
        let all: Vec<&ArrayD<T>> = gradient.iter().map(|(_, g)| g).collect();
        let norm = if self.wrong(M::ClipSumOfNorms) {
            self.arithmetic.sum(&all.iter().map(|g| self.norm(&[g])).collect::<Vec<_>>())
        } else if self.wrong(M::ClipLargest) {
            T::from_f64(all.iter().flat_map(|g| g.iter()).fold(0.0, |m: f64, g| m.max(g.re().abs())))
        } else {
            self.norm(&all)
        };
        let coefficient = |norm: T| {
            let epsilon = if self.wrong(M::ClipWithoutEpsilon) { 0.0 } else { 1e-6 };
            let coefficient = T::from_f64(max_norm) / (norm + T::from_f64(epsilon));
            let acts = max_norm > 0.0 && !self.wrong(M::ClipDropped);
            if acts && (coefficient < T::one() || self.wrong(M::ClipAlways)) { coefficient } else { T::one() }
        };
        let clip = if self.wrong(M::ClipByValue) { T::one() } else { coefficient(norm) };
        let clips: Vec<T> = if self.wrong(M::ClipPerTensor) {
            gradient.iter().map(|(_, g)| coefficient(self.norm(&[g]))).collect()
        } else {
            vec![clip; gradient.len()]
        };
        let limit = T::from_f64(max_norm);
        optimiser.step += 1;
        let constants = self.constants(optimiser.step, learning_rate);
        for (k, (_, p)) in parameters.iter_mut().enumerate() {
            let (m, v, largest) = (&mut optimiser.m[k].1, &mut optimiser.v[k].1, &mut optimiser.largest[k].1);
            ndarray::Zip::from(p).and(&gradient[k].1).and(m).and(v).and(largest).for_each(|p, &g, m, v, largest| {
                let mut g = if self.wrong(M::MomentsUnclipped) { g } else { g * clips[k] };
                if self.wrong(M::ClipByValue) && max_norm > 0.0 {
                    g = if g > limit {
                        limit
                    } else if g < -limit {
                        -limit
                    } else {
                        g
                    };
                }
                self.adam(p, g, [m, v, largest], &constants);
            });
        }
        OptimiserStep { norm, clip }
    }

    /// Adam's numbers in step t; `rearranged` makes them in the backend's own precision, where
    /// 1 − 0.999 has few digits left.
    fn constants<T: Real>(&self, step: u64, learning_rate: f64) -> Constants<T> {
        let (mut beta1, mut beta2) = (0.9, if self.wrong(M::Beta2Of99) { 0.99 } else { 0.999 });
        if self.wrong(M::BetasSwapped) {
            std::mem::swap(&mut beta1, &mut beta2);
        }
        let t = if self.wrong(M::StepStale) {
            1
        } else if self.wrong(M::StepAhead) {
            step + 1
        } else {
            step
        };
        let rearranged = self.arithmetic.form == Form::Rearranged;
        let rest = |beta: f64| if rearranged { T::one() - T::from_f64(beta) } else { T::from_f64(1.0 - beta) };
        let correction = |beta: f64, dropped: bool| {
            if dropped || self.wrong(M::NoBiasCorrection) {
                T::one()
            } else if rearranged {
                T::one() - (0..t).fold(T::one(), |power, _| power * T::from_f64(beta))
            } else {
                T::from_f64(1.0 - power(beta, t))
            }
        };
        let epsilon = if self.wrong(M::Epsilon1e7) {
            1e-7
        } else if self.wrong(M::Epsilon1e6) {
            1e-6
        } else if self.wrong(M::EpsilonDropped) {
            0.0
        } else {
            1e-8
        };
        Constants {
            learning_rate: T::from_f64(learning_rate),
            betas: [T::from_f64(beta1), T::from_f64(beta2)],
            rests: [if self.wrong(M::FirstMomentNotDamped) { T::one() } else { rest(beta1) }, rest(beta2)],
            corrections: [
                correction(beta1, self.wrong(M::NoFirstCorrection)),
                correction(beta2, self.wrong(M::NoSecondCorrection)),
            ],
            epsilon: T::from_f64(epsilon),
        }
    }

    /// (ADAM-1) to (ADAM-3) for one number.
    fn adam<T: Real>(&self, p: &mut T, g: T, [m, v, largest]: [&mut T; 3], c: &Constants<T>) {
        let decay = T::from_f64(0.01);
        if self.wrong(M::SparseAdam) && g == T::zero() {
            return;
        }
        let g = if self.wrong(M::WeightDecay) { g + decay * *p } else { g };
        if self.wrong(M::DecoupledDecay) {
            *p -= c.learning_rate * decay * *p;
        }
        if self.wrong(M::Sgd) {
            *p -= c.learning_rate * g;
            return;
        }
        let before = (*m, *v);
        let absolute = if g < T::zero() { -g } else { g };
        let square = if self.wrong(M::SecondMomentAbsolute) { absolute } else { g * g };
        let undamped = self.wrong(M::FirstMomentNotDamped);
        (*m, *v) = match self.arithmetic.form {
            Form::Rearranged if !undamped => (*m + (g - *m) * c.rests[0], *v + (square - *v) * c.rests[1]),
            Form::Interpolated if !undamped => {
                (c.betas[0] * *m + (g - c.betas[0] * g), c.betas[1] * *v + (square - c.betas[1] * square))
            }
            _ => (c.betas[0] * *m + c.rests[0] * g, c.betas[1] * *v + c.rests[1] * square), // (ADAM-1)
        };
        let (used_m, mut used_v) = if self.wrong(M::MomentsBefore) { before } else { (*m, *v) };
        if self.wrong(M::AmsGrad) {
            *largest = if *v > *largest { *v } else { *largest };
            used_v = *largest;
        }
        let [first, second] = c.corrections;
        let update = if self.wrong(M::EpsilonInsideRoot) {
            c.learning_rate * (used_m / first) / (used_v / second + c.epsilon).sqrt()
        } else if self.wrong(M::EpsilonBeforeCorrection) {
            c.learning_rate * (used_m / first) / ((used_v.sqrt() + c.epsilon) / second.sqrt())
        } else if self.arithmetic.form == Form::Rearranged {
            c.learning_rate / first * (used_m / (used_v.sqrt() / second.sqrt() + c.epsilon))
        } else {
            let (m_hat, v_hat) = (used_m / first, used_v / second); // (ADAM-2)
            c.learning_rate * m_hat / (v_hat.sqrt() + c.epsilon) // (ADAM-3)
        };
        // 0 / 0 where ε is missing: such an element stays where it is.
        let update = if used_m == T::zero() { T::zero() } else { update };
        *p = if self.wrong(M::Ascent) { *p + update } else { *p - update };
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
