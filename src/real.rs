//! Numbers: `f32` trains, `f64` specifies, `Complex<f64>` checks gradients.
//!
//! The forward pass is written once, over [`Scalar`], and runs on all three; complex numbers carry
//! the complex-step derivative of [`crate::gradcheck`]. The backward pass and the optimiser need an
//! order and run over [`Real`], that is `f32` and `f64`.
//!
//! σ and tanh must give the same bits on every machine, so nothing here calls the platform's C
//! library: `f64` uses the pure-Rust `libm`, `f32` the two branch-free formulas below, made of
//! + − × ÷ alone (each is correctly rounded by IEEE 754, and the compiler never fuses them).
//!
//! exp and ln are `libm`'s, computed in `f64`.
//!
//! ```text
//! σ(x)    = [1 or t] / (1 + t),        t = exp(−|x|)          (numerator t where x < 0)
//! tanh(x) = sign(x) · −m / (m + 2),    m = expm1(−2|x|)
//! exp(y)  = 2ⁿ (1 + p(r)),  expm1(y) = 2ⁿ p(r) + (2ⁿ − 1),   n = round(y / ln 2), r = y − n ln 2
//! ```
//!
//! p is the Taylor polynomial of eʳ − 1 of degree 8 on |r| ≤ ln 2 / 2 (relative remainder
//! r⁸/9! ≤ 6e-10, a hundredth of an f32 ulp). The error of both is measured by the tests below, on
//! every f32.

use std::fmt::{Debug, Display};
use std::ops::{AddAssign, Neg, SubAssign};

use ndarray::ScalarOperand;
use num_complex::Complex;

use crate::simd::Tile;

/// A number that the forward pass can run on: `f32`, `f64` or `Complex<f64>`, and no other.
#[allow(private_bounds)] // only this crate's numbers have tiles
pub trait Scalar:
    Tile + ScalarOperand + Neg<Output = Self> + AddAssign + SubAssign + Default + Debug + Send + Sync
{
    /// A power of two S such that every non-zero number of this type, scaled by S or 1/S towards 1,
    /// can be squared without vanishing or overflowing.
    const SAFE_SCALE: f64;
    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// The real part, exactly. Every branch (hinge, maximum, sign) looks at this alone.
    fn re(self) -> f64;
    /// Square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// The logistic function σ(x) = 1 / (1 + e⁻ˣ).
    #[must_use]
    fn sigmoid(self) -> Self;
    /// Hyperbolic tangent.
    #[must_use]
    fn tanh(self) -> Self;
    /// eˣ.
    #[must_use]
    fn exp(self) -> Self;
    /// The natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
}

/// A real number that can be trained: `f32` or `f64`.
pub trait Real: Scalar + PartialOrd + Display {
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
}

impl Scalar for f32 {
    const SAFE_SCALE: f64 = (1u128 << 100) as f64;
    #[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn re(self) -> f64 {
        f64::from(self)
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn sigmoid(self) -> Self {
        sigmoid_f32(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        tanh_f32(self)
    }
    #[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
    fn exp(self) -> Self {
        libm::exp(f64::from(self)) as f32
    }
    #[allow(clippy::cast_possible_truncation)]
    fn ln(self) -> Self {
        libm::log(f64::from(self)) as f32
    }
}

impl Scalar for f64 {
    const SAFE_SCALE: f64 = f64::from_bits((1023 + 1000) << 52); // 2¹⁰⁰⁰
    fn from_f64(x: f64) -> Self {
        x
    }
    fn re(self) -> f64 {
        self
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    fn sigmoid(self) -> Self {
        let t = libm::exp(-self.abs());
        (if self < 0.0 { t } else { 1.0 }) / (1.0 + t)
    }
    fn tanh(self) -> Self {
        libm::tanh(self)
    }
    fn exp(self) -> Self {
        libm::exp(self)
    }
    fn ln(self) -> Self {
        libm::log(self)
    }
}

/// Only the gradient checks run on complex numbers; their last bits may depend on the platform.
impl Scalar for Complex<f64> {
    const SAFE_SCALE: f64 = f64::from_bits((1023 + 1000) << 52); // 2¹⁰⁰⁰
    fn from_f64(x: f64) -> Self {
        Complex::new(x, 0.0)
    }
    fn re(self) -> f64 {
        self.re
    }
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    fn sigmoid(self) -> Self {
        Complex::new(1.0, 0.0) / (Complex::new(1.0, 0.0) + (-self).exp())
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
    fn exp(self) -> Self {
        self.exp()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

impl Real for f32 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Real for f64 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

/// xⁿ by squaring: the same bits on every machine, which `f64::powi` does not promise.
pub(crate) fn power(x: f64, n: u64) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, x, n);
    while rest > 0 {
        if rest % 2 == 1 {
            result *= square;
        }
        square *= square;
        rest /= 2;
    }
    result
}

/// 2ⁿ for −126 ≤ n ≤ 127, from its bits.
#[inline(always)]
#[allow(clippy::cast_sign_loss)] // n is in range
fn pow2(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// Splits y into (n, r, q): y = n ln 2 + r with |r| ≤ ln 2 / 2, and eʳ − 1 = r + q.
///
/// r is the larger part. q is r²/2 + r³/6 + … plus the rounding error of r, so that their sum is rounded
/// only once.
#[inline(always)]
fn exp_parts(y: f32) -> (i32, f32, f32) {
    /// ln 2 in two parts, the first with so few bits that n · `LN2_HI` is exact.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    /// 1.5 · 2²³, where the last place of an f32 is 1: adding it rounds to an integer, which is then in
    /// the last bits.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = y * std::f32::consts::LOG2_E + SHIFT;
    let integer = shifted.to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed();
    let n = shifted - SHIFT;
    let exact = y - n * LN2_HI;
    let r = exact - n * LN2_LO;
    let lost = (exact - r) - n * LN2_LO;
    let c = 1.0 / 5040.0 + r * (1.0 / 40320.0);
    let c = 1.0 / 720.0 + r * c;
    let c = 1.0 / 120.0 + r * c;
    let c = 1.0 / 24.0 + r * c;
    let c = 1.0 / 6.0 + r * c;
    let c = 0.5 + r * c;
    (integer, r, lost + r * r * c)
}

/// a / (b + c) for a sum between 1 and 2, without the error of rounding that sum.
///
/// e is what the sum lost, and e / (b + c) is needed to a few per cent only: on [1, 2] the chord
/// 3/2 − d/2 of 1/d is near enough.
#[inline(always)]
fn quotient(a: f32, b: f32, c: f32) -> f32 {
    let d = b + c;
    let e = c - (d - b);
    let q = a / d;
    q - q * (e * (1.5 - 0.5 * d))
}

/// σ(x) to 2 ulp, without a branch.
#[inline(always)]
fn sigmoid_f32(x: f32) -> f32 {
    // Below e⁻¹⁰⁴ every f32 is 0; the clamp keeps n in range.
    let (n, r, q) = exp_parts((-x.abs()).max(-104.0));
    let one_r = 1.0 + r;
    let exp_r = one_r + ((r - (one_r - 1.0)) + q);
    // Two factors, since 2ⁿ alone would underflow before the result does.
    let half = n >> 1;
    let t = exp_r * pow2(half) * pow2(n - half);
    // `max` swallows NaN; 0 · x brings it back.
    quotient(if x < 0.0 { t } else { 1.0 }, 1.0, t) + 0.0 * x.clamp(-1.0, 1.0)
}

/// tanh(x) to 2 ulp, without a branch.
#[inline(always)]
fn tanh_f32(x: f32) -> f32 {
    // tanh is 1 to the last bit from |x| = 9.02 on.
    let (n, r, q) = exp_parts((-2.0 * x.abs()).max(-40.0));
    let scale = pow2(n);
    let high = (scale - 1.0) + scale * r;
    let m = high + ((scale * r - (high - (scale - 1.0))) + scale * q);
    quotient(-m, 2.0, m).copysign(x) + 0.0 * x.clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::vectorized;
    use rayon::prelude::*;

    /// Distance in units of the last place of the f32 nearest to `exact`.
    #[inline(always)]
    fn ulps(found: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        let up = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
        (f64::from(found) - exact).abs() / up
    }

    /// e⁻ˣ for 0 ≤ x ≤ 128 to 1e-13, quick enough to be compared with four thousand million times.
    #[inline(always)]
    fn exp_negative(x: f64) -> f64 {
        const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²: adding it rounds to an integer
        let shifted = x * std::f64::consts::LOG2_E + SHIFT;
        let r = (shifted - SHIFT) * std::f64::consts::LN_2 - x;
        let exp_r = INVERSE_FACTORIALS.iter().rev().fold(0.0, |sum, c| c + sum * r);
        // The integer is in the last bits of `shifted`.
        exp_r * f64::from_bits((1023 - (shifted.to_bits() & 0xfff)) << 52)
    }

    /// 1/k!
    const INVERSE_FACTORIALS: [f64; 14] = {
        let mut values = [1.0; 14];
        let mut k = 1;
        while k < values.len() {
            values[k] = values[k - 1] / k as f64;
            k += 1;
        }
        values
    };

    /// The largest error of f over every f32 but NaN, in ulp, and the x where it is. The reference
    /// takes |x| and gives f(|x|) and f(−|x|).
    fn worst(f: impl Fn(f32) -> f32 + Sync, reference: impl Fn(f64) -> [f64; 2] + Sync) -> (f64, f32) {
        const BLOCK: usize = 1 << 11;
        let worse = |a: (f64, f32), b: (f64, f32)| if b.0 > a.0 || b.0.is_nan() { b } else { a };
        let block = |block: u32| {
            let first = block * BLOCK as u32;
            let mut errors = [0.0f64; BLOCK];
            vectorized(
                #[inline(always)]
                || {
                    for (i, error) in errors.iter_mut().enumerate() {
                        let x = f32::from_bits((first + i as u32).min(f32::INFINITY.to_bits()));
                        let [right, left] = reference(f64::from(x));
                        let (right, left) = (ulps(f(x), right), ulps(f(-x), left));
                        *error = if right > left || right.is_nan() { right } else { left };
                    }
                },
            );
            (0u32..).zip(errors).map(|(i, error)| (error, f32::from_bits(first + i))).fold((0.0, 0.0), worse)
        };
        let blocks = f32::INFINITY.to_bits() / BLOCK as u32 + 1;
        (0..blocks).into_par_iter().map(block).reduce(|| (0.0, 0.0), worse)
    }

    /// [f(x), f(−x)] for σ. Beyond 120, e⁻ˣ is below half of the smallest f32.
    #[inline(always)]
    fn sigmoids(x: f64) -> [f64; 2] {
        let t = exp_negative(x.min(120.0));
        let near = [1.0 / (1.0 + t), t / (1.0 + t)];
        // The series ½ ± (x/4 − x³/48); what is left is below x⁵/480 < 2⁻⁷³.
        let tiny = x / 4.0 - x * x * x / 48.0;
        if x < 1.0 / 8192.0 { [0.5 + tiny, 0.5 - tiny] } else { near }
    }

    /// [f(x), f(−x)] for tanh. Beyond 20 it is 1 to more than the 53 bits of an f64.
    #[inline(always)]
    fn tanhs(x: f64) -> [f64; 2] {
        let t = exp_negative(2.0 * x.min(20.0));
        let near = (1.0 - t) / (1.0 + t);
        // The series x − x³/3; what is left is a part in 2⁵⁴ of x.
        let tanh = if x < 1.0 / 8192.0 { x - x * x * x / 3.0 } else { near };
        [tanh, -tanh]
    }

    #[test]
    fn the_references_agree_with_libm() {
        let sweep = (0..=f32::INFINITY.to_bits()).step_by(30_011).map(|bits| f64::from(f32::from_bits(bits)));
        for x in sweep {
            for (found, exact) in sigmoids(x).into_iter().zip([x.sigmoid(), (-x).sigmoid()]) {
                assert!((found - exact).abs() <= 1e-12 * exact + 1e-52, "σ(±{x:e}): {found:e}, {exact:e}");
            }
            let (found, exact) = (tanhs(x)[0], libm::tanh(x));
            assert!((found - exact).abs() <= 1e-11 * exact, "tanh({x:e}): {found:e}, {exact:e}");
        }
    }

    #[test]
    fn sigmoid_f32_is_within_two_ulp_on_every_f32() {
        let (ulp, x) = worst(sigmoid_f32, sigmoids);
        println!("σ: at most {ulp:.3} ulp, at ±{x:e}");
        assert!(ulp <= 2.0, "worst error of σ: {ulp} ulp at ±{x:e}");
    }

    #[test]
    fn tanh_f32_is_within_two_ulp_on_every_f32() {
        let (ulp, x) = worst(tanh_f32, tanhs);
        println!("tanh: at most {ulp:.3} ulp, at ±{x:e}");
        assert!(ulp <= 2.0, "worst error of tanh: {ulp} ulp at ±{x:e}");
    }

    #[test]
    fn powers() {
        assert_eq!([0, 1, 2, 5, 10].map(|n| power(2.0, n)), [1.0, 2.0, 4.0, 32.0, 1024.0]);
        approx::assert_relative_eq!(power(0.999, 1000), libm::pow(0.999, 1000.0), max_relative = 1e-12);
    }

    #[test]
    fn nan_stays_nan_and_limits_are_exact() {
        assert!(f32::NAN.sigmoid().is_nan() && Scalar::tanh(f32::NAN).is_nan());
        assert!(f64::NAN.sigmoid().is_nan() && Scalar::tanh(f64::NAN).is_nan());
        assert_eq!((0.0f32.sigmoid(), Scalar::tanh(0.0f32)), (0.5, 0.0));
        assert_eq!((40.0f32.sigmoid(), Scalar::tanh(40.0f32)), (1.0, 1.0));
        assert_eq!((-200.0f32.sigmoid(), Scalar::tanh(-40.0f32)), (-1.0, -1.0));
        assert_eq!((-200.0f32).sigmoid(), 0.0);
    }

    #[test]
    fn complex_functions_agree_with_real_ones() {
        for x in [-3.0, -0.5, 0.0, 0.1, 2.0] {
            let z = Complex::from_f64(x);
            approx::assert_relative_eq!(z.sigmoid().re, x.sigmoid(), max_relative = 1e-15);
            approx::assert_relative_eq!(Scalar::tanh(z).re, libm::tanh(x), max_relative = 1e-15);
            approx::assert_relative_eq!(Scalar::exp(z).re, libm::exp(x), max_relative = 1e-15);
            let positive = x.abs() + 0.5;
            approx::assert_relative_eq!(Complex::from_f64(positive).ln().re, libm::log(positive), epsilon = 1e-15);
        }
    }
}
