//! How a backend may add and round: the freedom that an honest implementation has.
//!
//! The plain computation of [`super::plain`] takes every product, sum, σ, tanh, exp and ln from here. So it can
//! compute the same equations as other honest backends: with other orders of summation, fused
//! multiply-add, σ and tanh that are off by a few units in the last place, operands rounded as tensor
//! cores round them, results kept in 16 bits. [`super::tolerance`] measures how far these are apart.

use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Dimension};
use rayon::prelude::*;

use crate::real::Real;

/// The order in which the terms of a sum are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// From the first to the last; product and sum are rounded separately.
    Forward,
    /// From the last to the first.
    Backward,
    /// In this many contiguous parts, added at the end: "split-K".
    Split(usize),
    /// From the first to the last; product and sum are rounded once (fused multiply-add).
    Fused,
}

/// How a value is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Not at all.
    Exact,
    /// To 10 bits after the binary point, to nearest.
    Tf32,
    /// To 10 bits, the rest cut off, as tensor cores do with plain `f32` operands.
    Tf32Truncated,
    /// To bfloat16.
    Bf16,
    /// To bfloat16, the rest cut off, as by reading the upper 16 bits.
    Bf16Truncated,
    /// To half precision.
    F16,
    /// To this many bits after the binary point, to nearest.
    Bits(u32),
    /// To multiples of one over this, to nearest, or with the rest cut off.
    Fixed(u32),
    FixedTruncated(u32),
    /// To this many bits after the binary point, up or down at random (drawn from the value and the
    /// seed): an error like that of rounding, but a different one for each seed.
    Dithered {
        /// The bits that are kept.
        bits: u32,
        /// The seed of the random choice.
        seed: u64,
    },
}

impl Rounding {
    /// The rounded number.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // rounding is what is wanted
    pub(crate) fn round<T: Real>(self, x: T) -> T {
        /// The bits of an `f32` that TF32 lacks.
        const REST: u32 = (1 << 13) - 1;
        let single = x.re() as f32;
        match self {
            Self::Exact => x,
            _ if !single.is_finite() => x,
            Self::Tf32 => Self::Bits(10).round(x),
            Self::Bits(kept) => {
                let (bits, rest) = (single.to_bits(), (1u32 << (23 - kept)) - 1);
                let even = (bits >> (23 - kept)) & 1;
                T::from_f64(f64::from(f32::from_bits((bits + (rest >> 1) + even) & !rest)))
            }
            Self::Fixed(n) => T::from_f64((x.re() * f64::from(n)).round_ties_even() / f64::from(n)),
            Self::FixedTruncated(n) => T::from_f64((x.re() * f64::from(n)).trunc() / f64::from(n)),
            Self::Tf32Truncated => T::from_f64(f64::from(f32::from_bits(single.to_bits() & !REST))),
            Self::Bf16 => T::from_f64(bf16::from_f32(single).to_f64()),
            Self::Bf16Truncated => T::from_f64(f64::from(f32::from_bits(single.to_bits() & 0xffff_0000))),
            Self::F16 => T::from_f64(f16::from_f32(single).to_f64()),
            Self::Dithered { bits, seed } => {
                let rest = (1u32 << (23 - bits)) - 1;
                let chance = (mixed(u64::from(single.to_bits()) ^ (seed << 32)) >> 40) as u32 & rest;
                let up = (single.to_bits() & rest) > chance;
                let cut = single.to_bits() & !rest;
                T::from_f64(f64::from(f32::from_bits(if up { cut + rest + 1 } else { cut })))
            }
        }
    }
}

/// The error of σ, tanh, exp and ln.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UlpError {
    /// No error.
    None,
    /// This many units in the last place, every time.
    Ulps(i8),
    /// From −4 to 4 units in the last place, drawn from the value and this seed.
    Random(u64),
}

/// One honest way to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arithmetic {
    /// The order of every sum.
    pub order: Order,
    /// Rounding of both operands of a matrix product.
    pub operands: Rounding,
    /// Rounding of every stored result (except the optimiser's, whose master copies are `f32`).
    pub storage: Rounding,
    /// The error of σ, tanh, exp and ln.
    pub ulp_error: UlpError,
    /// The form in which the equations are written; all forms are equal on paper.
    pub form: Form,
}

/// Forms of the equations that are equal on paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the specification has them.
    Definition,
    /// h' = n + z ∘ (h − n), x · (1 / ‖x‖), (S − d) + α, column sums first; log-sum-exp of what is divided by τ before,
    /// and its weights exp(cost / τ − ln Σ exp(cost / τ)); Adam with its numbers in the
    /// backend's own precision, `lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`.
    Rearranged,
    /// As the specification has them; Adam with m = β₁ m + (g − β₁ g), β in the backend's own
    /// precision, but 1 − βᵗ in full; norms in eight long sums.
    Interpolated,
}

impl Arithmetic {
    /// The definition: sums from the first to the last, and no rounding except that of the type itself.
    pub(crate) const PLAIN: Self = Self {
        order: Order::Forward,
        operands: Rounding::Exact,
        storage: Rounding::Exact,
        ulp_error: UlpError::None,
        form: Form::Definition,
    };

    /// C = A · B, every element a sum over k in this order.
    #[must_use]
    pub(crate) fn product<T: Real>(&self, a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Array2<T> {
        /// Rows of C that share one pass over B.
        const ROWS: usize = 8;
        assert_eq!(a.ncols(), b.nrows(), "product of {:?} and {:?}", a.dim(), b.dim());
        let (a, b) = (self.operand(a), self.operand(b));
        let mut c = Array2::zeros((a.nrows(), b.ncols()));
        let blocks = c.axis_chunks_iter_mut(Axis(0), ROWS).zip(a.axis_chunks_iter(Axis(0), ROWS));
        if a.len() * b.ncols() < crate::linalg::PARALLEL_WORK {
            blocks.for_each(|(c, a)| self.product_rows(a, b.view(), c));
        } else {
            let blocks: Vec<_> = blocks.collect();
            blocks.into_par_iter().for_each(|(c, a)| self.product_rows(a, b.view(), c));
        }
        c
    }

    /// A contiguous copy, rounded as an operand.
    fn operand<T: Real>(&self, x: ArrayView2<'_, T>) -> Array2<T> {
        let x = x.as_standard_layout();
        if self.operands == Rounding::Exact { x.into_owned() } else { x.mapv(|x| self.operands.round(x)) }
    }

    fn product_rows<T: Real>(&self, a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, mut c: ArrayViewMut2<'_, T>) {
        let mut part = Array2::zeros(c.dim());
        for terms in self.parts(a.ncols()) {
            part.fill(T::zero());
            for k in terms {
                let b = b.row(k).to_slice().expect("contiguous");
                for (a, mut part) in a.outer_iter().zip(part.outer_iter_mut()) {
                    let (x, part) = (a[k], part.as_slice_mut().expect("contiguous"));
                    if self.order == Order::Fused {
                        part.iter_mut().zip(b).for_each(|(sum, &y)| *sum = fused(x, y, *sum));
                    } else {
                        part.iter_mut().zip(b).for_each(|(sum, &y)| *sum += x * y);
                    }
                }
            }
            c += &part;
        }
    }

    /// The indices 0..n in the order in which they are added, part by part.
    fn parts(&self, n: usize) -> Vec<Vec<usize>> {
        match self.order {
            Order::Forward | Order::Fused => vec![(0..n).collect()],
            Order::Backward => vec![(0..n).rev().collect()],
            Order::Split(parts) => {
                let length = n.div_ceil(parts).max(1);
                (0..n).step_by(length).map(|start| (start..(start + length).min(n)).collect()).collect()
            }
        }
    }

    /// Σ of some terms, in this order.
    #[must_use]
    pub(crate) fn sum<T: Real>(&self, terms: &[T]) -> T {
        let parts = self.parts(terms.len());
        let part = |indices: &Vec<usize>| indices.iter().fold(T::zero(), |sum, &k| sum + terms[k]);
        parts.iter().map(part).fold(T::zero(), |total, sum| total + sum)
    }

    /// Σ x∘y, in this order; no operand is rounded.
    #[must_use]
    pub(crate) fn dot<T: Real>(&self, x: &[T], y: &[T]) -> T {
        let term =
            |sum: T, k: usize| if self.order == Order::Fused { fused(x[k], y[k], sum) } else { sum + x[k] * y[k] };
        let parts = self.parts(x.len());
        parts.iter().map(|part| part.iter().copied().fold(T::zero(), term)).fold(T::zero(), |total, sum| total + sum)
    }

    /// Σ over the rows of a matrix: the gradient of a bias.
    #[must_use]
    pub(crate) fn column_sums<T: Real>(&self, x: ArrayView2<'_, T>) -> Array1<T> {
        x.columns().into_iter().map(|column| self.sum(&column.to_vec())).collect()
    }

    /// σ(x), with the error of this backend.
    #[must_use]
    pub(crate) fn sigmoid<T: Real>(&self, x: T) -> T {
        self.off(x, x.sigmoid())
    }

    /// tanh(x), with the error of this backend.
    #[must_use]
    pub(crate) fn tanh<T: Real>(&self, x: T) -> T {
        self.off(x, x.tanh())
    }

    /// eˣ, with the error of this backend.
    #[must_use]
    pub(crate) fn exp<T: Real>(&self, x: T) -> T {
        self.off(x, x.exp())
    }

    /// ln x, with the error of this backend.
    #[must_use]
    pub(crate) fn ln<T: Real>(&self, x: T) -> T {
        self.off(x, x.ln())
    }

    fn off<T: Real>(&self, x: T, y: T) -> T {
        /// Half the distance from 1 to the next number: k of these are k/2 to k units in the last place.
        fn half_ulp<T>() -> f64 {
            if size_of::<T>() == 4 { f64::from(f32::EPSILON) / 2.0 } else { f64::EPSILON / 2.0 }
        }
        let ulps = match self.ulp_error {
            UlpError::None => return y,
            UlpError::Ulps(n) => f64::from(n),
            UlpError::Random(seed) => (mixed(x.re().to_bits() ^ seed) % 9) as f64 - 4.0,
        };
        y + y * T::from_f64(ulps * half_ulp::<T>())
    }

    /// A result, rounded as it is stored.
    #[must_use]
    pub(crate) fn store<T: Real, D: Dimension>(&self, mut x: ndarray::Array<T, D>) -> ndarray::Array<T, D> {
        if self.storage != Rounding::Exact {
            x.mapv_inplace(|x| self.storage.round(x));
        }
        x
    }
}

/// Bits that look random (the finaliser of `SplitMix64`).
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// x y + z, rounded once (in `f32`, except for rare double roundings).
pub(crate) fn fused<T: Real>(x: T, y: T, z: T) -> T {
    if size_of::<T>() == 4 {
        T::from_f64(x.re() * y.re() + z.re())
    } else {
        T::from_f64(libm::fma(x.re(), y.re(), z.re()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, aview1};

    #[test]
    fn roundings_by_hand() {
        let x = 1.0f32 + 3.0 / 2048.0; // between two TF32 numbers, nearer to neither
        assert_eq!(Rounding::Tf32.round(x), 1.0 + 1.0 / 512.0, "to even");
        assert_eq!(Rounding::Tf32Truncated.round(x), 1.0 + 1.0 / 1024.0);
        assert_eq!(Rounding::Tf32Truncated.round(-x), -1.0 - 1.0 / 1024.0);
        assert_eq!(Rounding::Bf16.round(1.0f32 + 1.0 / 512.0), 1.0);
        assert_eq!(Rounding::F16.round(70000.0f32), f32::INFINITY);
        assert!(Rounding::Tf32.round(f32::NAN).is_nan());
        assert_eq!(Rounding::Exact.round(x), x);
    }

    #[test]
    fn every_order_adds_every_term_once() {
        // Small integers: all orders give the same value.
        let a = Array2::from_shape_fn((19, 13), |(i, j)| ((i * 7 + j * 3) % 11) as f32 - 5.0);
        let b = Array2::from_shape_fn((13, 9), |(i, j)| ((i * 5 + j * 2) % 7) as f32 - 3.0);
        let exact = a.dot(&b);
        for order in [Order::Forward, Order::Backward, Order::Split(3), Order::Split(40), Order::Fused] {
            let way = Arithmetic { order, ..Arithmetic::PLAIN };
            assert_eq!(way.product(a.view(), b.view()), exact, "{order:?}");
            assert_eq!(way.column_sums(a.view()), a.sum_axis(Axis(0)), "{order:?}");
            let (x, y) = (a.row(3).to_vec(), a.row(4).to_vec());
            assert_eq!(way.dot(&x, &y), aview1(&x).dot(&aview1(&y)), "{order:?}");
        }
    }

    #[test]
    fn orders_differ_in_the_last_places() {
        let x = [1.0f32, 4e-8, 4e-8, 4e-8, 4e-8, -1.0];
        let sum = |order| Arithmetic { order, ..Arithmetic::PLAIN }.sum(&x);
        assert_ne!(sum(Order::Forward), sum(Order::Split(3)));
        let (x, y) = ([1.0f32 + f32::EPSILON, -1.0], [1.0f32 - f32::EPSILON, 1.0]);
        let dot = |order| Arithmetic { order, ..Arithmetic::PLAIN }.dot(&x, &y);
        assert_eq!((dot(Order::Forward), dot(Order::Fused) != 0.0), (0.0, false), "the first product is rounded");
        assert_eq!(fused(x[0], y[0], -1.0f32), -f32::EPSILON * f32::EPSILON);
    }

    #[test]
    fn wobble_stays_within_four_ulp() {
        for ulp_error in [UlpError::Ulps(4), UlpError::Ulps(-4), UlpError::Random(3)] {
            let way = Arithmetic { ulp_error, ..Arithmetic::PLAIN };
            for i in -200..200 {
                let x = i as f32 * 0.043;
                let (y, off) = (Arithmetic::PLAIN.sigmoid(x), way.sigmoid(x));
                assert!(y.to_bits().abs_diff(off.to_bits()) <= 4, "{x} {ulp_error:?}");
            }
        }
        let kept = Arithmetic { storage: Rounding::Bf16, ..Arithmetic::PLAIN }.store(array![1.0f32 / 3.0]);
        assert_eq!(kept[0].to_bits() & 0xffff, 0);
    }
}
