//! Numbers from an integer hash, weights made of them, and 36 numbers about a tensor, as
//! `fixtures/oracle/make_encoders.py` describes them. No weights are kept.

// Each test program uses some of it.
#![allow(dead_code)]

use ndarray::{ArrayD, ArrayViewD, IxDyn};

/// The numbers of this name, in [−1, 1).
pub(crate) fn hashed(name: &str, shape: &[usize]) -> ArrayD<f64> {
    let key = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let number = |i: u64| {
        let z = key.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        2.0 * (((z ^ (z >> 31)) >> 11) as f64 / 2f64.powi(53)) - 1.0
    };
    let mut i = 0..;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || number(i.next().expect("no end")))
}

/// The values of a tensor of a network, from its name.
pub(crate) fn weights(name: &str, shape: &[usize]) -> ArrayD<f64> {
    let s = hashed(name, shape);
    if name.ends_with("running_var") {
        1.0 + 0.5 * s
    } else if name.ends_with("running_mean") || name.contains("bias") {
        0.1 * s
    } else if shape.len() == 1 {
        0.6 + 0.2 * s
    } else {
        let inputs: usize = shape[1..].iter().product();
        s * (6.0 / inputs as f64).sqrt()
    }
}

/// The largest |x|; NaN if there is one.
pub(crate) fn largest<'a>(x: impl IntoIterator<Item = &'a f64>) -> f64 {
    x.into_iter().fold(0.0, |m: f64, &x| if x.abs() > m || x.is_nan() { x.abs() } else { m })
}

/// The largest difference, over the largest expected number.
pub(crate) fn error(found: &ArrayD<f64>, expected: &ArrayD<f64>) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    largest(&(found - expected)) / largest(expected)
}

/// The largest difference of 36 numbers about a tensor from the expected ones, over the tensor's largest entry.
pub(crate) fn digest_error(name: &str, g: &ArrayViewD<'_, f64>, expected: &ArrayD<f64>) -> f64 {
    let g: Vec<f64> = g.iter().copied().collect();
    let n = g.len();
    let projection = |letter: &str| {
        let numbers = hashed(&format!("{name}/{letter}"), &[n]);
        numbers.iter().zip(&g).map(|(p, g)| p * g).fold(0.0, |sum, x| sum + x)
    };
    let norm = g.iter().map(|g| g * g).fold(0.0, |sum: f64, x| sum + x).sqrt();
    let places = (0..32).map(|j| g[j * n / 32]);
    let found: Vec<f64> = [norm, largest(&g), projection("p"), projection("q")].into_iter().chain(places).collect();
    assert_eq!(found.len(), expected.len());
    let scale = expected[1];
    let differences = found.iter().zip(expected).enumerate().map(|(k, (found, expected))| {
        // Differences of n numbers, with signs of no order, add up to √n of one.
        let count = if [0, 2, 3].contains(&k) { (n as f64).sqrt() } else { 1.0 };
        (found - expected).abs() / (scale * count)
    });
    differences.fold(0.0, |m: f64, x| if x > m || x.is_nan() { x } else { m })
}
