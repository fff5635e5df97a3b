//! Clipping by the global norm, and Adam.
use super::*;

/// The norm of all gradients together. Summing in blocks loses fewer digits than one long sum.
pub fn global_norm<'a, T: Real>(gradients: impl IntoIterator<Item = &'a ArrayViewMutD<'a, T>>) -> T {
    let mut total = T::zero();
    for g in gradients {
        for block in g.iter().copied().collect::<Vec<T>>().chunks(1024) {
            total += block.iter().fold(T::zero(), |sum, &g| sum + g * g);
        }
    }
    total.sqrt() // (CLIP-1)  norm = ‖g‖₂ over all parameters together
}

/// The factor c of every gradient: 1 if the norm is within the limit, or if `max_norm` is 0 (no clipping).
pub fn clip<T: Real>(norm: T, max_norm: f64) -> T {
    // (CLIP-2)  g ← c g, c = max_norm / (norm + 1e-6), only where c < 1
    let c = T::from_f64(max_norm) / (norm + T::from_f64(1e-6));
    if max_norm > 0.0 && c < T::one() { c } else { T::one() }
}

/// Step t, counted from 1, of one tensor θ with its gradient g, which clipping scales by c, and its moments.
pub fn adam<T: Real>([theta, g, m, v]: [ArrayViewMutD<'_, T>; 4], c: T, t: u64, lr: f64) {
    const BETA: [f64; 2] = [0.9, 0.999];
    let (beta, rest) = (BETA.map(T::from_f64), BETA.map(|beta| T::from_f64(1.0 - beta)));
    let correction = BETA.map(|beta| T::from_f64(1.0 - power(beta, t)));
    ndarray::Zip::from(theta).and(g).and(m).and(v).for_each(|theta, &mut g, m, v| {
        // (ADAM-1)  m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²
        *m = beta[0] * *m + rest[0] * (c * g);
        *v = beta[1] * *v + rest[1] * ((c * g) * (c * g));
        let (m_hat, v_hat) = (*m / correction[0], *v / correction[1]); // (ADAM-2)  m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
        *theta -= T::from_f64(lr) * m_hat / (v_hat.sqrt() + T::from_f64(1e-8)); // (ADAM-3)  θ ← θ − lr m̂ / (√v̂ + ε)
    });
}
