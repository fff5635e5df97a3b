//! Checks of the gradients: complex steps and Taylor remainders.
//!
//! Neither check knows how a gradient was derived. Both look at one point of each problem, so they are
//! checks, not proofs.
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
//! remainder is still well above the rounding of f: there a wrong gradient shows best. Without its h³
//! term the remainder is accurate even along directions in which f is hardly curved.
//!
//! A function may be linear along a direction, as SH and MH are in the scores wherever no hinge opens or
//! closes. It then has no curvature to show a slope of 2. Instead r(h) itself must be zero up to rounding,
//! at the largest h that stays on one piece. With a wrong gradient it is h (∇f − g) · v.
//!
//! The functions here have **kinks** (hinges, maxima, absolute values). Both sides of a comparison
//! must lie on one smooth piece. Each problem gives its [`Problem::active_set`]; a direction along which
//! the set changes is counted and reported, never silently dropped.

mod problems;

use ndarray_rand::rand::RngCore;
use num_complex::Complex;
use rayon::prelude::*;
use serde::Serialize;

pub use problems::LossProblem;
pub(crate) use problems::all;

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
    /// # Errors
    ///
    /// As the forward pass does.
    fn value<T: Scalar>(&self, x: &[T]) -> Result<T>;
    /// The gradient at x, by the hand-written backward pass.
    ///
    /// # Errors
    ///
    /// As the forward pass does.
    fn gradient(&self, x: &[f64]) -> Result<Vec<f64>>;
    /// Which smooth piece of f the point lies on; empty if f is smooth everywhere.
    ///
    /// # Errors
    ///
    /// As the forward pass does.
    fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
        let _ = x;
        Ok(Vec::new())
    }
}

/// The largest error of a gradient entry that passes, relative to the largest of its block.
pub(crate) const TOLERANCE: f64 = 1e-12;
/// Slopes that pass.
pub(crate) const SLOPES: std::ops::RangeInclusive<f64> = 1.95..=2.05;
/// Random directions of the Taylor test.
pub(crate) const DIRECTIONS: usize = 200;

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
    /// The smallest slope; none if f is linear along every direction.
    pub slope_min: Option<f64>,
    /// The largest slope.
    pub slope_max: Option<f64>,
    /// Directions along which f is linear and the gradient is right.
    pub linear: usize,
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
    /// Whether every block is within 1e-12, every slope within 1.95 to 2.05, and no direction at
    /// a kink.
    pub passed: bool,
}

impl Report {
    /// The block with the largest error.
    #[must_use]
    pub(crate) fn worst(&self) -> Option<&BlockReport> {
        self.blocks.iter().max_by(|a, b| a.error.total_cmp(&b.error))
    }
}

/// Runs both tests.
///
/// ```
/// use vsepp::gradcheck::{Problem, check};
/// use vsepp::real::Scalar;
///
/// /// f(x) = Σ x³, and a gradient that is right only for `factor` = 3.
/// struct Cubes {
///     factor: f64,
/// }
///
/// impl Problem for Cubes {
///     fn name(&self) -> String {
///         "cubes".into()
///     }
///     fn blocks(&self) -> Vec<(String, usize)> {
///         vec![("x".into(), 3)]
///     }
///     fn point(&self) -> Vec<f64> {
///         vec![0.5, -1.0, 2.0]
///     }
///     fn value<T: Scalar>(&self, x: &[T]) -> vsepp::Result<T> {
///         Ok(x.iter().fold(T::zero(), |sum, &x| sum + x * x * x))
///     }
///     fn gradient(&self, x: &[f64]) -> vsepp::Result<Vec<f64>> {
///         Ok(x.iter().map(|x| self.factor * x * x).collect())
///     }
/// }
///
/// # fn main() -> vsepp::Result<()> {
/// assert!(check(&Cubes { factor: 3.0 })?.passed);
/// assert!(!check(&Cubes { factor: 3.001 })?.passed);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// If the problem's forward pass does.
pub fn check<P: Problem>(problem: &P) -> Result<Report> {
    let x = problem.point();
    let gradient = problem.gradient(&x)?;
    let blocks = complex_step(problem, &x, &gradient)?;
    let taylor = taylor(problem, &x, &gradient)?;
    let passed = blocks.iter().all(|b| b.error <= TOLERANCE)
        && [taylor.slope_min, taylor.slope_max].into_iter().flatten().all(|slope| SLOPES.contains(&slope))
        && taylor.at_kink == 0;
    Ok(Report { problem: problem.name(), blocks, taylor, passed })
}

/// (CHECK-1)
fn complex_step<P: Problem>(problem: &P, x: &[f64], gradient: &[f64]) -> Result<Vec<BlockReport>> {
    /// Any h with a negligible square works; this one keeps h² above the smallest f64.
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
        // A block whose gradient is zero up to rounding is measured against the others.
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
        let g_v = v.iter().zip(gradient).map(|(v, g)| v * g).fold(0.0, |s, t| s + t);
        taylor_direction(problem, x, &v, value, g_v, &active)
    };
    let lines = (0..DIRECTIONS).into_par_iter().map(one).collect::<Result<Vec<Line>>>()?;
    let slopes =
        || lines.iter().filter_map(|line| if let Found::Slope(slope) = line.found { Some(slope) } else { None });
    let count = |found: Found| lines.iter().filter(|line| line.found == found).count();
    Ok(TaylorReport {
        directions: DIRECTIONS,
        // NaN must not be swallowed.
        slope_min: slopes().reduce(|m, s| if s < m || s.is_nan() { s } else { m }),
        slope_max: slopes().reduce(|m, s| if s > m || s.is_nan() { s } else { m }),
        linear: count(Found::Linear),
        near_kink: lines.iter().filter(|line| line.near_kink && line.found != Found::Nothing).count(),
        at_kink: count(Found::Nothing),
    })
}

/// What the remainders along one direction say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    /// The slope at the smallest usable step.
    Slope(f64),
    /// The remainder is zero up to rounding.
    Linear,
    /// A kink lies within the smallest usable step.
    Nothing,
}

struct Line {
    found: Found,
    near_kink: bool,
}

/// (CHECK-2) along v: `value` is f(x), `g_v` is g · v, `active` the smooth piece of x.
fn taylor_direction<P: Problem>(
    problem: &P,
    x: &[f64],
    v: &[f64],
    value: f64,
    g_v: f64,
    active: &[bool],
) -> Result<Line> {
    /// Steps 2⁻⁴ … 2⁻³⁰ are tried, from the largest.
    const STEPS: std::ops::RangeInclusive<i32> = 4..=30;
    /// The smallest step at which a direction may count as linear. An error of floor / h in g · v passes
    /// there, and at smaller steps that would be too much.
    const SMALLEST_LINEAR: i32 = 20;
    let at = |h: f64| -> Vec<f64> { x.iter().zip(v).map(|(x, v)| x + h * v).collect() };
    let same_piece = |h: f64| -> Result<bool> { Ok(problem.active_set(&at(h))? == active) };
    // R(h) holds the rounding of f(x + hv), f(x) and h g · v nine times (8 + 1). If R(h) is at least 1e4
    // times ε, the slope is right to 0.01.
    let floor = 1e4 * f64::EPSILON * value.abs().max(1e-3);

    let mut usable: Option<(f64, f64, f64)> = None; // h, R(h), R(h/2)
    let mut remainders: Vec<f64> = Vec::new();
    for k in STEPS {
        let h = 2f64.powi(-k);
        // (CHECK-2)  r(h) = f(x + h v) − f(x) − h g · v
        remainders.push(problem.value(&at(h))? - value - h * g_v);
        // a, b, c are r(4h), r(2h), r(h).
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
    let found = match usable {
        // (CHECK-2)  slope = log₂(R(h) / R(h/2)), 2 if g is the gradient, 1 if not
        Some((h, r, half)) if same_piece(h)? && same_piece(h / 2.0)? && same_piece(h / 4.0)? => {
            Found::Slope((r / half).log2())
        }
        _ => {
            // No curvature can be measured on this piece: the largest step that stays on it decides.
            let mut found = Found::Nothing;
            for (k, remainder) in STEPS.zip(&remainders).take_while(|&(k, _)| k <= SMALLEST_LINEAR) {
                if same_piece(2f64.powi(-k))? {
                    if remainder.abs() < floor {
                        found = Found::Linear;
                    }
                    break;
                }
            }
            found
        }
    };
    Ok(Line { found, near_kink })
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
        assert!(report.taylor.slope_min.unwrap() < 1.5, "{report:?}");
    }

    #[test]
    fn a_kink_nearby_is_reported_and_one_at_the_point_fails() {
        let near = check(&Cubic { kink: 0.5 + 2e-4, spoil: 0.0 }).unwrap();
        assert!(near.taylor.near_kink > 0 && near.passed, "{near:?}");
        // The kink is so near that no step shows the curvature, and the remainder is not that of a linear
        // function.
        let hidden = check(&Cubic { kink: 0.5 + 1e-5, spoil: 0.0 }).unwrap();
        assert!(hidden.taylor.at_kink > 0 && !hidden.passed, "{hidden:?}");
        let at = check(&Cubic { kink: 0.5 + 1e-12, spoil: 0.0 }).unwrap();
        assert!(at.taylor.at_kink > 0 && !at.passed, "{at:?}");
    }

    /// f(x) = Σ k `|x_k|`, with a gradient that can be spoiled.
    struct Linear {
        spoil: f64,
        first: f64,
    }

    impl Problem for Linear {
        fn name(&self) -> String {
            "linear".into()
        }
        fn blocks(&self) -> Vec<(String, usize)> {
            vec![("all".into(), 4)]
        }
        fn point(&self) -> Vec<f64> {
            vec![self.first, -1.0, 0.003, 2.0]
        }
        fn value<T: Scalar>(&self, x: &[T]) -> Result<T> {
            let term = |(k, &x): (usize, &T)| T::from_f64(k as f64 + 1.0) * if x.re() < 0.0 { -x } else { x };
            Ok(x.iter().enumerate().map(term).fold(T::zero(), |sum, t| sum + t))
        }
        fn gradient(&self, x: &[f64]) -> Result<Vec<f64>> {
            let mut g: Vec<f64> = x.iter().enumerate().map(|(k, x)| (k as f64 + 1.0) * x.signum()).collect();
            g[3] *= 1.0 + self.spoil;
            Ok(g)
        }
        fn active_set(&self, x: &[f64]) -> Result<Vec<bool>> {
            Ok(x.iter().map(|x| *x > 0.0).collect())
        }
    }

    #[test]
    fn check_2_passes_a_piecewise_linear_function_and_finds_its_wrong_gradient() {
        let right = check(&Linear { spoil: 0.0, first: 0.5 }).unwrap();
        assert!(right.passed, "{right:?}");
        let TaylorReport { linear, near_kink, at_kink, slope_min, .. } = right.taylor;
        assert_eq!((linear, at_kink, slope_min), (DIRECTIONS, 0, None));
        assert!(check(&Linear { spoil: 0.0, first: 5e-4 }).unwrap().taylor.near_kink > near_kink);
        // The remainder of a wrong gradient is linear: the slope is 1.
        let wrong = check(&Linear { spoil: 1e-6, first: 0.5 }).unwrap();
        assert!(wrong.taylor.slope_min.unwrap() < 1.1 && !wrong.passed, "{wrong:?}");
        let at = check(&Linear { spoil: 0.0, first: 1e-12 }).unwrap();
        assert!(at.taylor.at_kink > 0 && !at.passed, "{at:?}");
    }

    #[test]
    fn nan_does_not_pass() {
        let report = check(&Cubic { kink: -3.0, spoil: f64::NAN }).unwrap();
        assert!(!report.passed);
    }
}
