//! Measures how far two tensors are apart.

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::program::{Inputs, Program};

/// How far a tensor is, or may be, from the golden one, in parts of its scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub(crate) struct Deviation {
    /// The largest error.
    pub max: f64,
    /// The Frobenius norm of the error, relative to that of the tensor.
    pub frobenius: f64,
    /// |mean error|
    pub bias: f64,
}

impl From<[f64; 3]> for Deviation {
    fn from([max, frobenius, bias]: [f64; 3]) -> Self {
        Self { max, frobenius, bias }
    }
}

impl From<Deviation> for [f64; 3] {
    fn from(d: Deviation) -> Self {
        [d.max, d.frobenius, d.bias]
    }
}

/// Which elements of a tensor are compared, and on what scale.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent<'a> {
    /// Each row (first dimension) has its own scale.
    pub rows: bool,
    /// Only t < length of each row is compared, in a tensor [B, T, …].
    pub lengths: Option<&'a [usize]>,
}

impl Extent<'_> {
    /// Whether the element at a flat position of a tensor of this shape is compared.
    #[must_use]
    pub(crate) fn holds(&self, shape: &[usize], flat: usize) -> bool {
        // A manifest may call a tensor padded that is not: then all of it counts.
        let (Some(lengths), [batch, steps, rest @ ..]) = (self.lengths, shape) else { return true };
        let inner: usize = rest.iter().product();
        if *batch != lengths.len() || inner * steps == 0 {
            return true;
        }
        (flat / inner) % steps < lengths[flat / inner / steps]
    }

    /// The scale of each row, or one scale for all: the largest |value| that is compared, or 1 if all are 0.
    #[must_use]
    pub(crate) fn scales(&self, values: &ArrayD<f64>) -> Vec<f64> {
        let shape = values.shape();
        let by_rows = self.rows && !shape.is_empty();
        let row = if by_rows { shape[1..].iter().product::<usize>().max(1) } else { values.len().max(1) };
        let mut scales = vec![0.0f64; values.len().div_ceil(row)];
        for (flat, &x) in values.iter().enumerate() {
            if x.is_finite() && self.holds(shape, flat) {
                scales[flat / row] = scales[flat / row].max(x.abs());
            }
        }
        scales.iter().map(|&scale| if scale == 0.0 { 1.0 } else { scale }).collect()
    }
}

/// The result of comparing two tensors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// How far they are apart, in parts of the scale.
    pub deviation: Deviation,
    /// The flat position of the largest error, or of the first value whose kind (finite, NaN,
    /// infinite) is not the expected one.
    pub worst: usize,
    /// A value is NaN or infinite where the expected one is not, or the other way round.
    pub pattern: bool,
    /// How many numbers were compared.
    pub compared: usize,
}

/// Compares two tensors of one shape.
#[must_use]
pub(crate) fn difference(expected: &ArrayD<f64>, found: &ArrayD<f64>, extent: Extent<'_>) -> Difference {
    let shape = expected.shape().to_vec();
    let scales = extent.scales(expected);
    let row = expected.len().max(1).div_ceil(scales.len().max(1));
    let mut out = Difference { deviation: Deviation::default(), worst: 0, pattern: false, compared: 0 };
    let (mut squares, mut reference, mut sum) = (0.0, 0.0, 0.0);
    for (flat, (&e, &f)) in expected.iter().zip(found.iter()).enumerate() {
        if !extent.holds(&shape, flat) {
            continue;
        }
        out.compared += 1;
        let same_kind = e.is_nan() == f.is_nan()
            && (e.is_finite() == f.is_finite())
            && (e.is_finite() || e.is_nan() || e.signum() * f.signum() > 0.0);
        if !same_kind {
            if !out.pattern {
                (out.pattern, out.worst) = (true, flat);
            }
            continue;
        }
        if !e.is_finite() {
            continue;
        }
        let scale = scales[flat / row];
        let error = (f - e) / scale;
        squares += error * error;
        reference += (e / scale) * (e / scale);
        sum += error;
        if error.abs() > out.deviation.max {
            out.deviation.max = error.abs();
            if !out.pattern {
                out.worst = flat;
            }
        }
    }
    out.deviation.frobenius = (squares / if reference == 0.0 { 1.0 } else { reference }).sqrt();
    out.deviation.bias = if out.compared == 0 { 0.0 } else { f64::abs(sum) / out.compared as f64 };
    if out.pattern {
        out.deviation = Deviation { max: f64::INFINITY, frobenius: f64::INFINITY, bias: f64::INFINITY };
    }
    out
}

impl Deviation {
    /// The larger of each figure.
    #[must_use]
    pub(crate) fn largest(self, other: Self) -> Self {
        Self {
            max: self.max.max(other.max),
            frobenius: self.frobenius.max(other.frobenius),
            bias: self.bias.max(other.bias),
        }
    }
}

/// How a tensor is compared, by its name.
#[must_use]
pub(crate) fn extent<'a>(program: Program, name: &str, lengths: Option<&'a [usize]>) -> Extent<'a> {
    Extent { rows: program == Program::L2norm, lengths: lengths.filter(|_| is_padded(program, name)) }
}

/// Whether a tensor is [B, T, …] with padding after the end of each row.
#[must_use]
pub(crate) fn is_padded(program: Program, name: &str) -> bool {
    let plain = name.strip_prefix("grad.").unwrap_or(name);
    match program {
        Program::Gru => plain.starts_with("mid.l") || plain == "in.x",
        Program::Embedding => plain == "mid.words",
        Program::Model => plain == "mid.words" || (plain.starts_with("mid.l") && plain != "mid.last"),
        _ => false,
    }
}

/// The lengths of the rows, if the case has them.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked by the program
pub(crate) fn lengths_of(inputs: &Inputs) -> Option<Vec<usize>> {
    inputs.get("in.lengths").map(|lengths| lengths.iter().map(|&length| length as usize).collect())
}

/// The index of a flat position.
#[must_use]
pub(crate) fn index_of(shape: &[usize], mut flat: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (place, &size) in index.iter_mut().zip(shape).rev() {
        *place = flat % size.max(1);
        flat /= size.max(1);
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{arr1, arr2};

    #[test]
    fn differences_by_hand() {
        let expected = arr2(&[[1.0, -4.0], [0.0, 2.0]]).into_dyn();
        let found = arr2(&[[1.0, -4.0], [0.4, 2.2]]).into_dyn();
        let d = difference(&expected, &found, Extent::default());
        assert!((d.deviation.max - 0.1).abs() < 1e-15 && d.worst == 2 && d.compared == 4);
        assert!((d.deviation.frobenius - (0.16f64 + 0.04).sqrt() / 21f64.sqrt()).abs() < 1e-15);
        assert!((d.deviation.bias - 0.6 / 16.0).abs() < 1e-15);
        let by_row = difference(&expected, &found, Extent { rows: true, lengths: None });
        assert!((by_row.deviation.max - 0.2).abs() < 1e-15, "the second row's scale is 2");
    }

    #[test]
    fn behind_a_rows_end_nothing_is_compared() {
        let expected = arr2(&[[1.0, 0.0], [2.0, 3.0]]).into_dyn().into_shape_with_order(vec![2, 2, 1]).unwrap();
        let mut found = expected.clone();
        found[[0, 1, 0]] = f64::NAN;
        let extent = Extent { rows: false, lengths: Some(&[1, 2]) };
        let d = difference(&expected, &found, extent);
        assert!(!d.pattern && d.compared == 3 && d.deviation.max == 0.0);
        found[[1, 1, 0]] = f64::INFINITY;
        let d = difference(&expected, &found, extent);
        assert!(d.pattern && d.worst == 3 && d.deviation.max.is_infinite());
    }

    #[test]
    fn where_all_expected_values_are_0_the_scale_is_1() {
        let d = difference(&arr1(&[0.0]).into_dyn(), &arr1(&[1e-3]).into_dyn(), Extent::default());
        assert_eq!(d.deviation.max, 1e-3);
    }
}
