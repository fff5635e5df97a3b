//! Tolerances, measured.
//!
//! For every tensor, E is the largest error of several honest ways to compute it, compared with the `f64`
//! value. The tolerance is T = 8 E. No tolerance is chosen for a tensor by hand. Errors are relative to the
//! tensor's scale, its largest |value| (or that of each row, if rows differ by orders of magnitude), never
//! to the single element: because of cancellation, the relative error of an element may honestly exceed 1.
//!
//! Three figures are compared: the largest error, the Frobenius norm of the error (which sees a
//! small error everywhere), and for large tensors its mean (which sees a drift). Each has a floor
//! of the order of the precision's unit roundoff u: all the measured ways give some tensors exactly, but a
//! backend that rounds them once is honest too.
//!
//! # Constants that are set by hand
//!
//! These hold for all tensors alike. The reason for each is given where it is defined, and `docs/golden.md`
//! lists them: [`SAFETY`] 8, [`LARGE`] 4096, [`FLOOR`] 1 and [`MEAN_FLOOR`] ¼ (in units of u),
//! [`KINK_BAND`] 3, [`TELLS_NOTHING`] ½, [`STEADY_STEPS`] 2.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::arithmetic::{Arithmetic, Form, Order, Rounding, UlpError};
use super::difference::{Deviation, Difference, difference, extent, lengths_of};
use super::plain::{Kind, Plain, Trace};
use super::program::{Inputs, Program, Run, Settings};
use crate::error::Result;

/// The factor on the largest measured error. It is needed because the measured ways are only a sample of the
/// honest ones. The publishing gate limits it from both sides: other honest ways stay below T, and every
/// known mistake is off by at least 10 T.
pub(crate) const SAFETY: f64 = 8.0;
/// Tensors of at least this many numbers also have a bound on their mean error. The mean of n errors of
/// random sign is about 1/√n of one error: from 4096 on that is at most 1/64, and a drift shows.
pub(crate) const LARGE: usize = 4096;
/// The least E of the largest error and of the Frobenius norm, in units of u: one rounding of a value.
pub(crate) const FLOOR: f64 = 1.0;
/// The least E of the mean error, in units of u. The mean error of values that are each rounded once is
/// smaller than one rounding; less than a quarter of it is luck, unless there are very many values.
pub(crate) const MEAN_FLOOR: f64 = 0.25;
/// A low-precision profile does not judge a gradient if a kink is nearer than this many E of a score (or of what a
/// ReLU is applied to). A hinge is a difference of two scores (2 E), and rounding it adds a little.
pub(crate) const KINK_BAND: f64 = 3.0;
/// A low-precision profile does not judge a tensor whose tolerance is at least this part of its scale:
/// zeros would nearly pass.
pub(crate) const TELLS_NOTHING: f64 = 0.5;
/// Up to this many steps, a low-precision profile judges Adam's moments in a model. Later the parameters have
/// moved by the signs of gradients, and signs near 0 flip.
pub(crate) const STEADY_STEPS: usize = 2;

/// The precision in which a backend computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// 64-bit numbers throughout.
    F64,
    /// 32-bit numbers throughout.
    F32,
    /// `f32` with product operands of 10 bits.
    Tf32,
    /// Product operands, or all results, in bfloat16, sums in `f32`.
    Bf16,
    /// Product operands, or all results, in half precision, sums in `f32`.
    F16,
}

impl Profile {
    /// All profiles, the most precise first.
    pub(crate) const ALL: [Self; 5] = [Self::F64, Self::F32, Self::Tf32, Self::Bf16, Self::F16];

    /// Its name.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// p: how many significant bits a number has, including the leading one.
    #[must_use]
    pub(crate) fn significant_bits(self) -> u32 {
        match self {
            Self::F64 => f64::MANTISSA_DIGITS,
            Self::F32 => f32::MANTISSA_DIGITS,
            Self::Tf32 | Self::F16 => half::f16::MANTISSA_DIGITS,
            Self::Bf16 => half::bf16::MANTISSA_DIGITS,
        }
    }

    /// u = 2⁻ᵖ: the largest relative error of rounding a number to the nearest.
    #[must_use]
    pub(crate) fn unit_roundoff(self) -> f64 {
        (0..self.significant_bits()).fold(1.0, |u, _| u / 2.0)
    }

    /// The honest ways to compute whose errors are measured.
    #[must_use]
    pub(crate) fn ways(self) -> Vec<Arithmetic> {
        let plain = Arithmetic::PLAIN;
        let way = |order, ulp_error| Arithmetic { order, ulp_error, ..plain };
        let rearranged = |way: Arithmetic| Arithmetic { form: Form::Rearranged, ..way };
        let low = |nearest: Rounding, bits: u32| {
            let operands = |operands| Arithmetic { operands, ..plain };
            let kept = |rounding| Arithmetic { operands: rounding, storage: rounding, ..plain };
            let mut ways = vec![
                operands(nearest),
                rearranged(Arithmetic { order: Order::Split(3), ulp_error: UlpError::Random(1), ..operands(nearest) }),
            ];
            ways.extend((1..=4).map(|seed| operands(Rounding::Dithered { bits, seed })));
            if self == Self::Tf32 {
                ways.push(operands(Rounding::Tf32Truncated));
            } else {
                ways.extend([kept(nearest), kept(Rounding::Dithered { bits, seed: 5 })]);
                ways.push(rearranged(Arithmetic {
                    order: Order::Backward,
                    ..kept(Rounding::Dithered { bits, seed: 6 })
                }));
            }
            ways
        };
        match self {
            Self::F64 | Self::F32 => vec![
                plain,
                way(Order::Backward, UlpError::None),
                way(Order::Split(2), UlpError::None),
                way(Order::Split(4), UlpError::None),
                way(Order::Fused, UlpError::None),
                way(Order::Forward, UlpError::Ulps(4)),
                way(Order::Forward, UlpError::Ulps(-4)),
                way(Order::Forward, UlpError::Random(1)),
                way(Order::Backward, UlpError::Random(2)),
                rearranged(plain),
                rearranged(way(Order::Split(3), UlpError::Random(3))),
                rearranged(way(Order::Fused, UlpError::Random(4))),
                rearranged(way(Order::Split(8), UlpError::Random(5))),
                rearranged(way(Order::Backward, UlpError::Random(6))),
                Arithmetic { form: Form::Interpolated, ..plain },
                Arithmetic { form: Form::Interpolated, ..way(Order::Split(3), UlpError::Random(7)) },
            ],
            Self::Tf32 => low(Rounding::Tf32, 10),
            Self::Bf16 => low(Rounding::Bf16, 7),
            Self::F16 => low(Rounding::F16, 10),
        }
    }

    /// Those of them that are measured on wide cases: sums from the first term, from the last and in three parts, all
    /// forms of the equations, σ and tanh off by the same, and at random. Of many numbers the largest error varies
    /// little from one way to another.
    fn few_ways(self) -> Vec<Arithmetic> {
        const FEW: [usize; 4] = [5, 8, 10, 15];
        let ways = self.ways();
        if matches!(self, Self::F64 | Self::F32) { FEW.map(|way| ways[way]).to_vec() } else { ways }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Deviation {
    /// This deviation in units of a tolerance: accepted up to 1. The mean counts for large tensors.
    #[must_use]
    pub(crate) fn in_units_of(self, tolerance: Self, numbers: usize) -> f64 {
        let part = |found: f64, allowed: f64| if found == 0.0 { 0.0 } else { found / allowed };
        let units = part(self.max, tolerance.max).max(part(self.frobenius, tolerance.frobenius));
        if numbers >= LARGE { units.max(part(self.bias, tolerance.bias)) } else { units }
    }

    /// T = 8 E with the floors of a profile, rounded up to two digits. For a tensor that is not large the mean
    /// is not judged, and its figure is 0.
    fn tolerance(self, profile: Profile, numbers: usize) -> Self {
        let u = profile.unit_roundoff();
        let allow = |error: f64, floor: f64| two_digits(SAFETY * error.max(floor));
        let floor = FLOOR * u;
        Self {
            max: allow(self.max, floor),
            frobenius: allow(self.frobenius, floor),
            bias: if numbers >= LARGE { allow(self.bias, MEAN_FLOOR * u) } else { 0.0 },
        }
    }
}

/// Rounded up to two digits, which is how a tolerance is written.
fn two_digits(x: f64) -> f64 {
    let text = format!("{x:.1e}");
    let rounded: f64 = text.parse().unwrap_or(x);
    if rounded >= x {
        return rounded;
    }
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let tenths: f64 = digits.replace('.', "").parse().unwrap_or(10.0);
    format!("{}e{}", tenths + 1.0, exponent.parse::<i32>().unwrap_or(0) - 1).parse().unwrap_or(x)
}

/// The tolerance of a tensor under each profile that judges it.
pub(crate) type Tolerances = std::collections::BTreeMap<Profile, Deviation>;

/// A case's golden values with the tolerances of every tensor, in the order of the data flow.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The golden run.
    pub golden: Run<f64>,
    /// For each tensor of the trace; indices and masks are exact and have none.
    pub tolerances: Vec<Tolerances>,
}

/// The golden values and the tolerances under some profiles. For a wide case the golden values are those of the plain
/// computation, which has the same bits as the specification and is faster, and four of the honest ways are measured.
///
/// # Errors
///
/// As [`Program::run`].
pub(crate) fn measure(
    program: Program,
    settings: &Settings,
    inputs: &Inputs,
    profiles: &[Profile],
    wide: bool,
) -> Result<Measured> {
    let golden = if wide {
        program.run(settings, inputs, &Plain::new(Arithmetic::PLAIN))?
    } else {
        program.specified(settings, inputs)?
    };
    let lengths = lengths_of(inputs);
    let mut tolerances = vec![Tolerances::new(); golden.trace.entries.len()];
    for &profile in profiles {
        let mut errors = vec![Deviation::default(); golden.trace.entries.len()];
        let mut compared = vec![0; errors.len()];
        let mut flipped = false;
        let of_way = |&way: &Arithmetic| -> Option<Vec<Difference>> {
            let plain = Plain::new(way);
            let trace = if profile == Profile::F64 {
                program.run::<f64>(settings, inputs, &plain).map(|run| run.trace)
            } else {
                program.run::<f32>(settings, inputs, &plain).map(|run| widened(&run.trace))
            };
            let trace = trace.ok()?;
            let entries = golden.trace.entries.iter().zip(&trace.entries).map(|(expected, found)| {
                difference(&expected.values, &found.values, extent(program, &expected.name, lengths.as_deref()))
            });
            Some(entries.collect())
        };
        // Several runs of a whole model at the paper's size would not fit into memory.
        let all: Vec<Option<Vec<Difference>>> = if wide {
            profile.few_ways().par_iter().map(of_way).collect()
        } else {
            profile.ways().iter().map(of_way).collect()
        };
        for found in all {
            // A precision that cannot hold the case (overflow, a norm that vanishes) does not judge it.
            let Some(found) = found else {
                for error in &mut errors {
                    error.max = f64::INFINITY;
                }
                continue;
            };
            let entries = golden.trace.entries.iter().zip(found);
            for ((expected, found), (error, compared)) in entries.zip(errors.iter_mut().zip(&mut compared)) {
                *compared = found.compared;
                if expected.kind == Kind::Real {
                    *error = error.largest(found.deviation);
                } else {
                    flipped |= found.deviation.max > 0.0;
                }
            }
        }
        let before_kinks = before_kinks(&golden.trace).into_iter().map(|place| {
            let entry = &golden.trace.entries[place];
            errors[place].max * extent(program, &entry.name, None).scales(&entry.values)[0]
        });
        let before_kinks = before_kinks.fold(0.0, f64::max);
        let near_kink = flipped || golden.margins.kink() < KINK_BAND * before_kinks;
        let low = !matches!(profile, Profile::F64 | Profile::F32);
        let errors = errors.into_iter().zip(compared);
        for ((entry, (error, compared)), out) in golden.trace.entries.iter().zip(errors).zip(&mut tolerances) {
            let behind_kink = entry.name.starts_with("grad.") || entry.name.starts_with("opt.");
            // Adam's first steps turn gradients into signs, and signs near 0 flip.
            let flips =
                settings.steps > STEADY_STEPS && entry.name.starts_with("opt.") || entry.name.starts_with("opt.param.");
            let chaotic = low && program == Program::Model && flips;
            let tolerance = error.tolerance(profile, compared);
            let tells_nothing = !tolerance.max.is_finite() || (low && tolerance.max >= TELLS_NOTHING);
            let judged = !((low && near_kink && behind_kink) || chaotic || tells_nothing);
            if judged && entry.kind == Kind::Real {
                out.insert(profile, tolerance);
            }
        }
        if !(low && near_kink) {
            let exact = Deviation::default();
            for (entry, out) in golden.trace.entries.iter().zip(&mut tolerances) {
                if entry.kind != Kind::Real {
                    out.insert(profile, exact);
                }
            }
        }
    }
    Ok(Measured { golden, tolerances })
}

/// The places of the tensors whose errors decide on which side of a kink a value is: the scores, or what each `ReLU`
/// of a block is applied to. (The choices of a max pool are compared themselves.)
fn before_kinks<T>(trace: &Trace<T>) -> Vec<usize> {
    let place = |name: &str| trace.entries.iter().position(|entry| entry.name == name);
    let scores = ["out.scores", "mid.cost_s"].into_iter().find_map(place);
    scores.into_iter().chain(["mid.bn1", "mid.bn2", "mid.sum"].into_iter().filter_map(place)).collect()
}

/// The same numbers as `f64`.
fn widened(trace: &Trace<f32>) -> Trace<f64> {
    let entries = trace.entries.iter().map(|entry| super::plain::Entry {
        name: entry.name.clone(),
        kind: entry.kind,
        values: entry.values.mapv(f64::from),
    });
    Trace { entries: entries.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// u by rounding: the largest relative error over numbers from 1 to 2, on a grid that is finer
    /// than the precision and has its midpoints.
    #[test]
    fn unit_roundoff_is_the_largest_relative_error_of_rounding() {
        let roundings =
            [(Profile::Tf32, Rounding::Tf32), (Profile::Bf16, Rounding::Bf16), (Profile::F16, Rounding::F16)];
        for (profile, rounding) in roundings {
            let error = |k: u32| {
                let x = 1.0 + f64::from(k) / 65536.0;
                (rounding.round(x) - x).abs() / x
            };
            let worst = (0..65536).map(error).fold(0.0, f64::max);
            let u = profile.unit_roundoff();
            assert!(worst <= u && worst > 0.99 * u, "{profile}: u = {u:e}, the largest error of rounding is {worst:e}");
        }
        let bits = Profile::ALL.map(Profile::significant_bits);
        assert_eq!(bits, [53, 24, 11, 8, 11]);
        assert_eq!(Profile::Bf16.unit_roundoff(), 1.0 / 256.0);
        assert_eq!(Profile::F32.unit_roundoff(), f64::from(f32::EPSILON) / 2.0);
        assert_eq!(Profile::F64.unit_roundoff(), f64::EPSILON / 2.0);
    }

    #[test]
    fn units_and_digits() {
        let d = Deviation { max: 3.0, frobenius: 1.0, bias: 9.0 };
        let t = Deviation { max: 2.0, frobenius: 1.0, bias: 1.0 };
        assert_eq!((d.in_units_of(t, 10), d.in_units_of(t, LARGE)), (1.5, 9.0));
        assert_eq!(Deviation::default().in_units_of(Deviation::default(), 3), 0.0, "exact and equal");
        assert_eq!(d.in_units_of(Deviation::default(), 3), f64::INFINITY);
        for (x, up) in [(1.23e-7, 1.3e-7), (9.91e-3, 1e-2), (2e-5, 2e-5), (0.0, 0.0)] {
            assert_eq!(two_digits(x), up);
        }
    }
}
