//! The gradients checked: complex steps and Taylor remainders.
//!
//! Two checks, neither of which knows how a gradient was derived. They look at one point of each
//! problem: a check, not a proof.
//!
//! ```text
//! (CHECK-1)  ∂f/∂x_k = Im f(x + i h e_k) / h, h = 1e-60           complex step, for every k
//! (CHECK-2)  r(h) = f(x + h v) − f(x) − h g · v                   Taylor, for random v with ‖v‖ = 1
//! (CHECK-2)  R(h) = |8 r(h/2) − r(h)|                             the same without its h³ term
//! (CHECK-2)  slope = log₂(R(h) / R(h/2)), 2 if g is the gradient, 1 if not
//! ```
//!
//! The complex step (Squire and Trapp 1998) has no difference and so no cancellation: it is exact to
//! rounding, about 1e-15, where the best central difference stops near 3e-10. It needs the forward
//! pass over complex numbers, with every branch on the real part and squares as s², not |s|².
//!
//! The Taylor test sees the function as it is, in real arithmetic. Its h is the smallest whose
//! remainder still stands well above the rounding of f: there a wrong gradient shows best. Without
//! its h³ term the remainder is clean also along directions in which f is hardly curved.
//!
//! The functions here have **kinks** (hinges, maxima, absolute values). Both sides of a comparison
//! must lie on one smooth piece: each problem tells its [`Problem::active_set`], and a direction along
//! which the set changes is counted and reported, never dropped in silence.

mod problems;

use ndarray_rand::rand::RngCore;
use num_complex::Complex;
use rayon::prelude::*;
use serde::Serialize;

pub use problems::{ModelProblem, all, models};

use crate::error::Result;
use crate::random::{Symmetric, stream};
use crate::real::Scalar;
use ndarray_rand::rand::distr::Distribution;

/// A scalar function of named blocks of numbers, with a gradient to be checked.
pub trait Problem: Sync {
    /// What is checked.
    fn name(&self) -> String;
    /// The blocks' names and sizes; x is their concatenation.
    fn blocks(&self) -> Vec<(String, usize)>;
    /// The point x at which the gradient is checked.
    fn point(&self) -> Vec<f64>;
    /// f(x), on real or complex numbers.
    ///
    /// **Errors** as the forward pass does.
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T>;
    /// The gradient at x, by the hand-written backward pass.
    ///
    /// **Errors** as the forward pass does.
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>>;
    /// Which smooth piece of f the point lies on; empty if f is smooth everywhere.
    ///
    /// **Errors** as the forward pass does.
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let _ = x;
        Ok(Vec::new())
    }
}

/// The largest error of a gradient entry that passes, relative to the largest of its block.
pub const TOLERANCE: f64 = 1e-12;
/// Slopes that pass.
pub const SLOPES: std::ops::RangeInclusive<f64> = 1.95..=2.05;
/// Random directions of the Taylor test.
pub const DIRECTIONS: usize = 200;

/// The complex-step result for one block.
#[derive(Clone, Debug, Serialize)]
pub struct BlockReport {
    /// The block's name.
    pub name: String,
    /// How many numbers it has; every one was checked.
    pub size: usize,
    /// The largest |gradient| in the block.
    pub largest: f64,
    /// The largest |gradient − complex step|, over `largest`.
    pub error: f64,
}

/// The Taylor result over all directions.
#[derive(Clone, Debug, Serialize)]
pub struct TaylorReport {
    /// Directions tried.
    pub directions: usize,
    /// The smallest slope.
    pub slope_min: f64,
    /// The largest slope.
    pub slope_max: f64,
    /// Directions along which the active set changes within a step of 1e-3; a smaller step was taken.
    pub near_kink: usize,
    /// Directions along which it changes within the smallest usable step: nothing could be measured.
    pub at_kink: usize,
}

/// Both tests of one problem.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was checked.
    pub problem: String,
    /// Complex step, block by block.
    pub blocks: Vec<BlockReport>,
    /// Taylor remainders.
    pub taylor: TaylorReport,
    /// Whether every block is within [`TOLERANCE`], every slope within [`SLOPES`], and no direction at
    /// a kink.
    pub passed: bool,
}

impl Report {
    /// The block with the largest error.
    #[must_use]
    pub fn worst(&self) -> Option<&BlockReport> {
        self.blocks.iter().max_by(|a, b| a.error.total_cmp(&b.error))
    }
}

/// Runs both tests.
///
/// **Errors** if the problem's forward pass does.
pub fn check<P: Problem>(problem: &P) -> Result<Report> {
    let x = problem.point();
    let gradient = problem.gradient(&x)?;
    let blocks = complex_step(problem, &x, &gradient)?;
    let taylor = taylor(problem, &x, &gradient)?;
    let passed = blocks.iter().all(|b| b.error <= TOLERANCE)
        && SLOPES.contains(&taylor.slope_min)
        && SLOPES.contains(&taylor.slope_max)
        && taylor.at_kink == 0;
    Ok(Report { problem: problem.name(), blocks, taylor, passed })
}

/// (CHECK-1)
fn complex_step<P: Problem>(problem: &P, x: &[f64], gradient: &[f64]) -> Result<Vec<BlockReport>> {
    /// Any h whose square vanishes beside 1 will do; this one keeps h² above the smallest f64.
    const H: f64 = 1e-60;
    let complex: Vec<Complex<f64>> = x.iter().map(|&x| Complex::new(x, 0.0)).collect();
    let derivative = |k: usize| {
        let mut x = complex.clone();
        x[k].im = H;
        // (CHECK-1)  ∂f/∂x_k = Im f(x + i h e_k) / h, h = 1e-60
        Ok(problem.value(&x)?.im / H)
    };
    let exact = (0..x.len()).into_par_iter().map(derivative).collect::<Result<Vec<f64>>>()?;
    let overall = exact.iter().fold(0.0, |m: f64, g| m.max(g.abs()));

    let mut start = 0;
    let mut reports = Vec::new();
    for (name, size) in problem.blocks() {
        let (exact, found) = (&exact[start..start + size], &gradient[start..start + size]);
        start += size;
        let largest = exact.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        // `max` would swallow NaN: an error that is NaN must not pass.
        let difference = exact.iter().zip(found).map(|(e, f)| (e - f).abs());
        let worst = difference.fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m });
        // A block whose gradient is zero but for rounding is measured against the others.
        let scale = if largest > 1e-12 * overall { largest } else { overall };
        reports.push(BlockReport { name, size, largest, error: if worst == 0.0 { 0.0 } else { worst / scale } });
    }
    Ok(reports)
}

/// (CHECK-2)
fn taylor<P: Problem>(problem: &P, x: &[f64], gradient: &[f64]) -> Result<TaylorReport> {
    let value = problem.value(x)?;
    let active = problem.active_set(x)?;
    let one = |direction: usize| {
        let v = unit_vector(x.len(), direction);
        let slope = v.iter().zip(gradient).map(|(v, g)| v * g).fold(0.0, |s, t| s + t);
        taylor_direction(problem, x, &v, value, slope, &active)
    };
    let lines = (0..DIRECTIONS).into_par_iter().map(one).collect::<Result<Vec<Line>>>()?;
    let slopes = || lines.iter().filter_map(|line| line.slope);
    Ok(TaylorReport {
        directions: DIRECTIONS,
        slope_min: slopes().fold(f64::INFINITY, |m, s| if s < m || s.is_nan() { s } else { m }),
        slope_max: slopes().fold(f64::NEG_INFINITY, |m, s| if s > m || s.is_nan() { s } else { m }),
        near_kink: lines.iter().filter(|line| line.near_kink && line.slope.is_some()).count(),
        at_kink: lines.iter().filter(|line| line.slope.is_none()).count(),
    })
}

/// One direction: the slope at the smallest usable step, none if a kink lies within it.
struct Line {
    slope: Option<f64>,
    near_kink: bool,
}

fn taylor_direction<P: Problem>(
    problem: &P,
    x: &[f64],
    v: &[f64],
    value: f64,
    slope: f64,
    active: &[bool],
) -> Result<Line> {
    /// Steps 2⁻⁴ … 2⁻³⁰ are tried, from the largest.
    const STEPS: std::ops::RangeInclusive<i32> = 4..=30;
    let at = |h: f64| -> Vec<f64> { x.iter().zip(v).map(|(x, v)| x + h * v).collect() };
    let same_piece = |h: f64| -> Result<bool> { Ok(problem.active_set(&at(h))? == active) };
    // Rounding of f(x + hv), f(x) and h g·v, 9 times over: at 1e4 times ε the slope is right to 0.01.
    let floor = 1e4 * f64::EPSILON * value.abs().max(1e-3);

    let mut usable: Option<(f64, f64, f64)> = None; // h, R(h), R(h/2)
    let mut remainders: Vec<f64> = Vec::new();
    for k in STEPS {
        let h = 2f64.powi(-k);
        // (CHECK-2)  r(h) = f(x + h v) − f(x) − h g · v
        remainders.push(problem.value(&at(h))? - value - h * slope);
        if let [.., a, b, c] = remainders[..] {
            // (CHECK-2)  R(h) = |8 r(h/2) − r(h)|
            let (whole, half) = ((8.0 * b - a).abs(), (8.0 * c - b).abs());
            if half < floor {
                break;
            }
            usable = Some((4.0 * h, whole, half));
        }
    }
    let near_kink = !same_piece(1e-3)?;
    let slope = match usable {
        // (CHECK-2)  slope = log₂(R(h) / R(h/2)), 2 if g is the gradient, 1 if not
        Some((h, r, half)) if same_piece(h)? && same_piece(h / 2.0)? && same_piece(h / 4.0)? => Some((r / half).log2()),
        _ => None,
    };
    Ok(Line { slope, near_kink })
}

/// A random direction of length 1.
fn unit_vector(n: usize, direction: usize) -> Vec<f64> {
    let mut rng = stream(direction as u64, "gradcheck/direction");
    let v: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
    let norm = crate::linalg::dot(&v, &v).sqrt();
    v.into_iter().map(|v| v / norm).collect()
}

/// Nearly normal: the sum of twelve uniform numbers in ±½.
fn normal(rng: &mut impl RngCore) -> f64 {
    (0..12).map(|_| Symmetric(0.5).sample(rng)).fold(0.0, |s, u| s + u)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f(x) = Σ x³ + |x₀ − kink|, with a gradient that can be spoiled.
    struct Cubic {
        kink: f64,
        spoil: f64,
    }

    impl Problem for Cubic {
        fn name(&self) -> String {
            "cubic".into()
        }
        fn blocks(&self) -> Vec<(String, usize)> {
            vec![("first".into(), 2), ("second".into(), 3)]
        }
        fn point(&self) -> Vec<f64> {
            vec![0.5, -1.0, 2.0, 0.25, 1.5]
        }
        fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
            let d = x[0] - T::from_f64(self.kink);
            Ok(x.iter().fold(if d.re() < 0.0 { -d } else { d }, |s, &x| s + x * x * x))
        }
        fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
            let mut g: Vec<f64> = x.iter().map(|x| 3.0 * x * x).collect();
            g[0] += (x[0] - self.kink).signum();
            g[3] *= 1.0 + self.spoil;
            Ok(g)
        }
        fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
            Ok(vec![x[0] > self.kink])
        }
    }

    #[test]
    fn check_1_and_2_pass_a_right_gradient() {
        let report = check(&Cubic { kink: -3.0, spoil: 0.0 }).unwrap();
        assert!(report.passed, "{report:?}");
        assert_eq!((report.taylor.near_kink, report.taylor.at_kink), (0, 0));
    }

    #[test]
    fn check_1_finds_a_relative_error_of_1e_9_and_names_the_block() {
        let report = check(&Cubic { kink: -3.0, spoil: 1e-9 }).unwrap();
        assert!(!report.passed);
        assert_eq!(report.worst().unwrap().name, "second");
    }

    #[test]
    fn check_2_finds_a_wrong_gradient_by_itself() {
        let report = check(&Cubic { kink: -3.0, spoil: 1e-2 }).unwrap();
        assert!(report.taylor.slope_min < 1.5, "{report:?}");
    }

    #[test]
    fn a_kink_nearby_is_reported_and_one_at_the_point_fails() {
        let near = check(&Cubic { kink: 0.5 + 2e-4, spoil: 0.0 }).unwrap();
        assert!(near.taylor.near_kink > 0 && near.passed, "{near:?}");
        let at = check(&Cubic { kink: 0.5 + 1e-12, spoil: 0.0 }).unwrap();
        assert!(at.taylor.at_kink > 0 && !at.passed, "{at:?}");
    }

    #[test]
    fn nan_does_not_pass() {
        let report = check(&Cubic { kink: -3.0, spoil: f64::NAN }).unwrap();
        assert!(!report.passed);
    }
}
