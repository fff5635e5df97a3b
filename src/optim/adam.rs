//! Adam (Kingma and Ba 2015, algorithm 1).
//!
//! ```text
//! (ADAM-1)  m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²
//! (ADAM-2)  m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)
//! (ADAM-3)  θ ← θ − lr m̂ / (√v̂ + ε)          ε outside the root
//! ```
//!
//! β₁ = 0.9, β₂ = 0.999, ε = 1e-8, no weight decay. It is dense on the word vectors too: a word that
//! is not in the batch has g = 0, but its moments still move it.

use ndarray::{ArrayD, ArrayViewD};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::nn::{Module, Path, Role, Tensor};
use crate::real::{Real, power};
use crate::simd::vectorized;

/// The tensors below a path, to be frozen or to have a learning rate of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    prefix: String,
    /// The factor of the learning rate; none: frozen.
    rate: Option<f64>,
}

impl Group {
    /// Tensors that do not move. They have no moments, and their gradient is empty.
    #[must_use]
    pub fn frozen(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), rate: None }
    }

    /// Tensors whose learning rate is `factor` times that of the others.
    #[must_use]
    pub fn scaled(prefix: impl Into<String>, factor: f64) -> Self {
        Self { prefix: prefix.into(), rate: Some(factor) }
    }

    /// The factor of a tensor's learning rate: that of the first group that contains it, or 1. `None` if the
    /// tensor is frozen or a buffer.
    pub(crate) fn rate_of(groups: &[Self], path: &Path<'_>, tensor: Tensor) -> Option<f64> {
        let group = groups.iter().find(|group| path.is_within(&group.prefix));
        group.map_or(Some(1.0), |group| group.rate).filter(|_| tensor.role == Role::Trained)
    }
}

/// A gradient to be filled: zeros in the shapes of a module's trained tensors. Buffers and frozen tensors
/// are empty.
#[must_use]
pub fn gradient_of<T: Real, M: Module<T> + Clone>(module: &M, groups: &[Group]) -> M {
    let mut gradient = module.clone();
    gradient.empty(&Path::default(), &|path, tensor| Group::rate_of(groups, path, tensor).is_none());
    gradient.each_mut(|_, _, mut x| x.fill(T::zero()));
    gradient
}

/// The moments of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments<T> {
    /// The tensor's path.
    pub name: String,
    /// First moments.
    pub m: ArrayD<T>,
    /// Second moments.
    pub v: ArrayD<T>,
}

/// The number of steps taken, and the moments of every tensor that moves. It works on any [`Module`].
///
/// ```
/// use ndarray::array;
/// use vsepp::nn::Linear;
/// use vsepp::optim::Adam;
///
/// # fn main() -> vsepp::Result<()> {
/// // ℓ = ½ ‖W‖² + ½ ‖b‖²: the gradient is the value.
/// let mut layer = Linear::<f64> { weight: array![[1.0, -2.0]], bias: array![0.5] };
/// let mut adam = Adam::new(&layer);
/// for _ in 0..400 {
///     let gradient = layer.clone();
///     adam.update(&mut layer, &gradient, 0.02, 1.0)?;
/// }
/// assert_eq!(adam.step, 400);
/// assert!(layer.weight.iter().chain(&layer.bias).all(|x| x.abs() < 0.01), "{layer:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Adam<T> {
    /// t: steps taken.
    pub step: u64,
    /// In the order of a visit.
    pub moments: Vec<Moments<T>>,
    groups: Vec<Group>,
}

impl<T: Real> Adam<T> {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;
    const EPSILON: f64 = 1e-8;

    /// No step taken, all moments zero, one learning rate for all trained tensors.
    #[must_use]
    pub fn new(module: &impl Module<T>) -> Self {
        Self::zero(module, Vec::new())
    }

    /// No step taken, all moments zero. A tensor belongs to the first group that contains it; without a
    /// group it has the usual learning rate.
    ///
    /// # Errors
    ///
    /// If a group contains no tensor, or if its factor is not a finite number ≥ 0.
    pub fn with_groups(module: &impl Module<T>, groups: Vec<Group>) -> Result<Self> {
        for Group { prefix, rate } in &groups {
            let mut found = false;
            module.each(|path, _, _| found |= path.is_within(prefix));
            if !found {
                return Err(Error::mismatch(format!("group {prefix:?}: expected the path of a tensor or a module")));
            }
            if let Some(rate) = rate.filter(|rate| !(rate.is_finite() && *rate >= 0.0)) {
                return Err(Error::config(&format!("rate of the group {prefix:?}"), "a number ≥ 0", rate));
            }
        }
        Ok(Self::zero(module, groups))
    }

    /// The state after some steps. A tensor belongs to the first group that contains it.
    #[must_use]
    pub(crate) fn after(step: u64, moments: Vec<Moments<T>>, groups: Vec<Group>) -> Self {
        Self { step, moments, groups }
    }

    fn zero(module: &impl Module<T>, groups: Vec<Group>) -> Self {
        let mut moments = Vec::new();
        module.each(|path, tensor, x| {
            if Group::rate_of(&groups, path, tensor).is_some() {
                let zeros = ArrayD::zeros(x.raw_dim());
                moments.push(Moments { name: path.to_string(), m: zeros.clone(), v: zeros });
            }
        });
        Self { step: 0, moments, groups }
    }

    /// One step with the gradient times `scale` (the clipping coefficient).
    ///
    /// # Errors
    ///
    /// If a tensor that moves has no gradient or no moments, if one that does not move has a gradient, or if
    /// there are moments without a tensor. Nothing has moved then.
    ///
    /// # Panics
    ///
    /// If a tensor is not in standard layout.
    pub fn update<M: Module<T>>(&mut self, module: &mut M, gradient: &M, learning_rate: f64, scale: f64) -> Result<()> {
        self.check(module, gradient)?;
        self.step += 1;
        let number = T::from_f64;
        // (ADAM-2)  m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
        // Both divisors are the same for all numbers: the first goes into the step size, the root of the
        // second divides √v.
        let root = number((1.0 - power(Self::BETA2, self.step)).sqrt());
        let correction = 1.0 - power(Self::BETA1, self.step);

        let Self { moments, groups, .. } = self;
        let mut moments = moments.iter_mut();
        M::visit([module], [gradient], &Path::default(), &mut |path, tensor, [mut p], [g]| {
            if let Some(rate) = Group::rate_of(groups, path, tensor)
                && let Some(Moments { m, v, .. }) = moments.next()
            {
                let step_size = number(learning_rate * rate / correction);
                let [p, m, v] = [p.as_slice_mut(), m.as_slice_mut(), v.as_slice_mut()].map(|x| x.expect("contiguous"));
                let g = g.as_slice().expect("contiguous");
                Self::step_tensor([p, m, v], g, number(scale), step_size, root);
            }
            Ok(())
        })
    }

    /// One step of one tensor θ, here `p`.
    fn step_tensor([p, m, v]: [&mut [T]; 3], g: &[T], scale: T, step_size: T, root: T) {
        /// Numbers per parallel task. They do not depend on one another, so the size does not change a bit.
        const CHUNK: usize = 1 << 14;
        let [beta1, beta2, rest1, rest2, epsilon] =
            [Self::BETA1, Self::BETA2, 1.0 - Self::BETA1, 1.0 - Self::BETA2, Self::EPSILON].map(T::from_f64);
        let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
        p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(moments).for_each(|((p, g), (m, v))| {
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

    /// Checks that every tensor has what its step needs.
    fn check<M: Module<T>>(&self, module: &M, gradient: &M) -> Result<()> {
        let wrong = |path: &Path<'_>, expected: String, found: &ArrayViewD<'_, T>| {
            Err(Error::shape(&format!("gradient of {path}"), expected, found.shape()))
        };
        let mut moments = self.moments.iter();
        M::visit([], [module, gradient], &Path::default(), &mut |path, tensor, [], [p, g]| {
            if Group::rate_of(&self.groups, path, tensor).is_none() {
                return if g.is_empty() { Ok(()) } else { wrong(path, "none, since it is not trained".into(), &g) };
            }
            if g.shape() != p.shape() {
                return wrong(path, format!("{:?}", p.shape()), &g);
            }
            match moments.next() {
                Some(Moments { name, m, v }) if path.is(name) && m.shape() == p.shape() && v.shape() == p.shape() => {
                    Ok(())
                }
                found => {
                    let found = found.map_or("none".into(), |x| format!("those of {} {:?}", x.name, x.m.shape()));
                    let expected = p.shape();
                    Err(Error::mismatch(format!(
                        "{path}: expected Adam's moments of shape {expected:?}, found {found}"
                    )))
                }
            }
        })?;
        match moments.next() {
            None => Ok(()),
            Some(extra) => {
                Err(Error::mismatch(format!("{}: Adam has moments for it, the module has no such tensor", extra.name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Linear;
    use ndarray::{Array1, Array4, array};

    /// A part with a weight of four axes and a buffer, and another part.
    #[derive(Clone, Debug, PartialEq)]
    struct Model<T> {
        kernel: Array4<T>,
        mean: Array1<T>,
        fc: Linear<T>,
        extra: Option<Linear<T>>,
    }
    crate::module!(Model<T>, model { kernel: Tensor::uniform(1.0), mean: Tensor::buffer(0.5), fc, extra });

    fn model(extra: bool) -> Model<f64> {
        let mut model = Model {
            kernel: Array4::zeros((2, 3, 2, 2)),
            mean: Array1::zeros(2),
            fc: Linear::zeros(3, 2),
            extra: extra.then(|| Linear::zeros(2, 2)),
        };
        model.init(1);
        model
    }

    fn ones(model: &Model<f64>, groups: &[Group]) -> Model<f64> {
        let mut gradient = gradient_of(model, groups);
        gradient.each_mut(|_, _, mut x| x.fill(1.0));
        gradient
    }

    #[test]
    fn adam_1_2_3_by_hand_for_two_steps() {
        let mut layer = Linear::<f64>::zeros(1, 1);
        let mut gradient = layer.clone();
        let mut adam = Adam::new(&layer);
        gradient.bias[0] = 4.0;
        adam.update(&mut layer, &gradient, 0.1, 0.5).unwrap();
        // g = 2, m̂ = 2, v̂ = 4: a step of lr · 2 / (2 + ε).
        approx::assert_relative_eq!(layer.bias[0], -0.1 * 2.0 / (2.0 + 1e-8), max_relative = 1e-14);
        gradient.bias[0] = 0.0;
        let before = layer.bias[0];
        adam.update(&mut layer, &gradient, 0.1, 1.0).unwrap();
        let (m, v) = (0.9 * 0.2 / (1.0 - 0.81), 0.999 * 0.004 / (1.0 - 0.998_001));
        let step = 0.1 * m / (f64::sqrt(v) + 1e-8);
        approx::assert_relative_eq!(layer.bias[0] - before, -step, max_relative = 1e-12);
        assert!(step > 0.0, "a gradient of zero still moves");
        assert_eq!(layer.weight, array![[0.0]]);
    }

    #[test]
    fn a_buffer_and_a_frozen_group_do_not_move_and_have_no_moments() {
        let groups = vec![Group::frozen("fc"), Group::scaled("kernel", 0.5)];
        let before = model(true);
        let mut after = before.clone();
        let mut adam = Adam::with_groups(&after, groups.clone()).unwrap();
        let names: Vec<&str> = adam.moments.iter().map(|moments| moments.name.as_str()).collect();
        assert_eq!(names, ["kernel", "extra.weight", "extra.bias"]);
        let gradient = ones(&after, &groups);
        adam.update(&mut after, &gradient, 0.1, 1.0).unwrap();
        assert_eq!((&after.mean, &after.fc), (&before.mean, &before.fc));
        // m̂ = 1 and v̂ = 1: everything else moves by its learning rate.
        let moved = &before.kernel - &after.kernel;
        assert!(moved.iter().all(|step| (step - 0.05).abs() < 1e-8), "{moved}");
        assert!(after.extra.unwrap().bias.iter().all(|step| (step + 0.1).abs() < 1e-8));
    }

    #[test]
    fn what_does_not_fit_is_named_and_nothing_moves() {
        let message = |adam: &Model<f64>, groups: &[Group], gradient: &Model<f64>| {
            let (mut moved, before) = (model(true), model(true));
            let mut adam = Adam::with_groups(adam, groups.to_vec()).unwrap();
            let error = adam.update(&mut moved, gradient, 0.1, 1.0).unwrap_err().to_string();
            assert_eq!((moved, adam.step), (before, 0));
            error
        };
        let (with, without) = (model(true), model(false));
        let frozen = [Group::frozen("fc.weight")];
        let found = message(&without, &[], &ones(&with, &[]));
        assert_eq!(found, "extra.weight: expected Adam's moments of shape [2, 2], found none");
        let found = message(&with, &[], &ones(&without, &[]));
        assert_eq!(found, "extra.weight, extra.bias: one value has it, another has not");
        let found = message(&with, &[], &ones(&with, &frozen));
        assert_eq!(found, "gradient of fc.weight: expected [3, 2], found [0, 0]");
        let found = message(&with, &frozen, &ones(&with, &[]));
        assert_eq!(found, "gradient of fc.weight: expected none, since it is not trained, found [3, 2]");
        let mut larger = Adam::new(&with);
        let found = larger.update(&mut model(false), &ones(&without, &[]), 0.1, 1.0).unwrap_err().to_string();
        assert_eq!(found, "extra.weight: Adam has moments for it, the module has no such tensor");
        let found = Adam::with_groups(&with, vec![Group::frozen("f")]).unwrap_err().to_string();
        assert_eq!(found, "group \"f\": expected the path of a tensor or a module");
        let found = Adam::with_groups(&with, vec![Group::scaled("fc", f64::NAN)]).unwrap_err().to_string();
        assert_eq!(found, "rate of the group \"fc\" = NaN: expected a number ≥ 0");
    }
}
