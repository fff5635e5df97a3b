//! The layers of image encoders: convolution, batch normalisation, pools.
//!
//! In each family the smallest case comes first. Most pictures are 5 × 7 with 3 channels, so that no two sizes are
//! equal; the cases flagged `square` have all sizes equal.

use ndarray::{Array1, Array4, s};

use super::{Case, Draw, Inputs, Program, Result, Sketch, named};
use crate::random::permutation;

/// The outputs along an axis.
pub(super) fn outputs(pixels: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (pixels + 2 * padding - kernel) / stride + 1
}

/// Numbers rounded to `f32`.
#[allow(clippy::cast_possible_truncation)] // rounding is what is wanted
pub(super) fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

/// Name, x, [O, kh, kw], stride, padding, whether there is a bias.
type Convolution = (&'static str, [usize; 4], [usize; 3], usize, usize, bool, &'static [&'static str], &'static str);
const CONVOLUTIONS: [Convolution; 20] = [
    ("smallest", [1, 1, 2, 3], [1, 1, 2], 1, 0, false, &[], "One channel, a kernel of 1 × 2: to follow by hand."),
    ("one-by-one", [2, 3, 5, 7], [4, 1, 1], 1, 0, true, &[], "1 × 1: a linear map of the channels of each pixel."),
    ("one-by-one-stride-2", [2, 3, 5, 7], [4, 1, 1], 2, 0, false, &["unseen-pixels"], "1 × 1 of every second pixel."),
    ("two-by-two-padded", [1, 2, 3, 4], [3, 2, 2], 1, 1, true, &[], "2 × 2, padding 1: y is larger than x."),
    ("three-by-three", [2, 3, 5, 7], [4, 3, 3], 1, 0, true, &[], "3 × 3 without padding."),
    ("three-by-three-padded", [2, 3, 5, 7], [4, 3, 3], 1, 1, true, &[], "3 × 3, padding 1: y has the size of x."),
    ("three-by-three-without-bias", [2, 3, 5, 7], [2, 3, 3], 1, 1, false, &[], "The same without a bias."),
    ("three-by-three-stride-2", [2, 3, 5, 7], [4, 3, 3], 2, 1, true, &[], "3 × 3, stride 2, padding 1, odd sizes."),
    (
        "even-sizes-stride-2",
        [2, 3, 6, 8],
        [2, 3, 3],
        2,
        0,
        false,
        &["unseen-pixels"],
        "The last row and column are never seen.",
    ),
    (
        "even-sizes-stride-2-padded",
        [2, 3, 6, 8],
        [2, 3, 3],
        2,
        1,
        false,
        &[],
        "The padding below and on the right is never seen.",
    ),
    ("stride-3-of-2", [1, 2, 7, 8], [3, 2, 2], 3, 0, true, &["unseen-pixels"], "The stride is larger than the kernel."),
    ("flat-kernel", [2, 3, 5, 7], [2, 1, 3], 1, 0, true, &[], "1 × 3: rows and columns of the kernel differ."),
    ("tall-kernel-padded", [2, 3, 5, 7], [2, 5, 2], 2, 1, true, &[], "5 × 2, stride 2, padding 1."),
    (
        "whole-picture",
        [3, 2, 5, 7],
        [4, 5, 7],
        1,
        0,
        true,
        &[],
        "The kernel has the size of the picture: a linear map.",
    ),
    ("seven-by-seven", [2, 3, 9, 11], [5, 7, 7], 2, 3, false, &[], "7 × 7, stride 2, padding 3, as ResNet's first."),
    (
        "all-equal",
        [3, 3, 3, 3],
        [3, 3, 3],
        1,
        1,
        true,
        &["square"],
        "N = C = H = W = O = kernel = 3: only values show a wrong order of axes.",
    ),
    ("many-pixels", [4, 1, 24, 24], [2, 3, 3], 1, 1, true, &["large-k"], "dW sums over 2,304 pixels."),
    ("many-channels", [1, 128, 3, 5], [2, 3, 3], 1, 1, false, &["large-k"], "Sums over 1,152 numbers."),
    (
        "remainder-pixels",
        [1, 2, 3, 33],
        [17, 3, 3],
        1,
        1,
        true,
        &["remainder"],
        "99 pixels, 17 outputs, sums of 18: no tile of 8, 16 or 32 is full.",
    ),
    ("remainder", [2, 23, 5, 7], [45, 3, 3], 1, 1, true, &["remainder"], "23 channels, 45 outputs, sums of 207."),
];

pub(super) fn convolutions(cases: &mut Vec<Case>) -> Result<()> {
    for (name, [n, c, h, w], [o, kh, kw], stride, padding, bias, flags, note) in CONVOLUTIONS {
        let sketch = Sketch::new("conv", name, Program::Conv, note).flags(flags).with(|s| {
            (s.stride, s.padding) = (stride, padding);
        });
        cases.push(sketch.draw(|draw| {
            let shape = (n, o, outputs(h, kh, stride, padding), outputs(w, kw, stride, padding));
            let mut inputs = named([
                ("in.x", draw.array((n, c, h, w), 1.0).into_dyn()),
                ("in.d_y", draw.array(shape, 1.0).into_dyn()),
                ("param.weight", draw.array((o, c, kh, kw), 0.9).into_dyn()),
            ]);
            if bias {
                inputs.insert("param.bias".into(), draw.array(o, 0.5).into_dyn());
            }
            inputs
        })?);
    }
    Ok(())
}

/// γ, β and running statistics, which differ from those of any batch here. The variances are from 0.5 to 1.5 times
/// `variance`.
pub(super) fn add_norm(inputs: &mut Inputs, draw: &mut Draw, path: &str, channels: usize, variance: f64) {
    let mut add = |part: &str, values: Array1<f64>| {
        inputs.insert(format!("param.{path}{part}"), values.into_dyn());
    };
    add("weight", draw.array(channels, 1.5));
    add("bias", draw.array(channels, 0.5));
    add("running_mean", draw.array(channels, 0.7));
    add("running_var", draw.array(channels, 0.5).mapv(|x| single(variance * (1.0 + x))));
}

pub(super) fn norms(cases: &mut Vec<Case>) -> Result<()> {
    // Name, x, the scale of x, its mean, flags.
    type Kind<'a> = (&'a str, [usize; 4], f64, f64, &'a [&'static str], &'a str);
    let all: [Kind<'_>; 10] = [
        ("smallest", [2, 1, 1, 2], 1.0, 0.0, &[], "One channel of four numbers: to follow by hand."),
        ("one-pixel", [4, 3, 1, 1], 1.0, 0.5, &[], "M = N: the sums run over the pictures alone."),
        ("one-picture", [1, 3, 2, 3], 1.0, 0.5, &[], "M = H W: the sums run over the pixels alone."),
        ("plain", [2, 3, 5, 7], 1.0, 0.5, &[], "Two pictures of 5 × 7 with 3 channels."),
        ("small-variance", [2, 3, 5, 7], 2e-3, 0.0, &["small-variance"], "Variances below ε = 1e-5."),
        (
            "zero-variance",
            [2, 3, 2, 4],
            1.0,
            0.5,
            &["small-variance"],
            "Channel 1 is constant: its variance is 0, ε alone is in the root.",
        ),
        (
            "large-mean",
            [2, 3, 5, 7],
            1.0,
            20.0,
            &["cancellation"],
            "The mean is 35 deviations from 0: a variance from the mean of the squares loses digits.",
        ),
        ("all-equal", [3, 3, 3, 3], 1.0, 0.5, &["square"], "N = C = H = W = 3."),
        ("remainder", [2, 23, 5, 7], 1.0, 0.5, &["remainder"], "23 channels of 70 numbers."),
        ("many-pixels", [2, 2, 33, 35], 1.0, 0.5, &["large-k"], "Sums over 2,310 numbers."),
    ];
    for training in [true, false] {
        for (name, shape, scale, mean, flags, note) in all {
            let prefix = if training { "training" } else { "evaluation" };
            // What only the statistics of a batch show.
            if !training && ["large-mean", "zero-variance", "many-pixels"].contains(&name) {
                continue;
            }
            let name = format!("{prefix}-{name}");
            let mut sketch = Sketch::new("batch-norm", &name, Program::BatchNorm, note).flags(flags);
            if !training {
                sketch = sketch.flags(&["running-statistics"]);
            }
            cases.push(sketch.with(|s| s.training = training).draw(|draw| {
                let mut x = draw.array(shape, scale);
                for ((_, c, ..), x) in x.indexed_iter_mut() {
                    *x = single(*x + mean * (1.0 - 0.75 * (c % 3) as f64));
                }
                if name.ends_with("zero-variance") {
                    x.slice_mut(s![.., 1, .., ..]).fill(0.75);
                }
                let mut inputs = named([("in.x", x.into_dyn()), ("in.d_y", draw.array(shape, 1.0).into_dyn())]);
                let variance = if name.ends_with("small-variance") { 1e-7 } else { 1.0 };
                add_norm(&mut inputs, draw, "", shape[1], variance);
                inputs
            })?);
        }
    }
    Ok(())
}

/// What the numbers of a picture are.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// No two of a channel are equal. Up to 500 of them have few enough digits for bfloat16.
    Distinct,
    /// The same, all below 0.
    Negative,
    /// −½, 0 and ½.
    Ties,
    /// Half of them 0, as after a ReLU, and the others from ⅛ to 1.
    Zeros,
    /// All the same.
    Constant,
}

impl Numbers {
    fn draw(self, draw: &mut Draw, (n, c, h, w): (usize, usize, usize, usize)) -> Array4<f64> {
        let orders: Vec<Vec<usize>> = (0..n * c).map(|_| permutation(&mut draw.0, h * w)).collect();
        Array4::from_shape_fn((n, c, h, w), |(n, channel, i, j)| {
            let place = orders[n * c + channel][i * w + j] as f64;
            match self {
                Self::Distinct => (place - (h * w / 2) as f64) / 32.0,
                Self::Negative => (place - (h * w) as f64) / 32.0,
                Self::Ties => (place % 3.0 - 1.0) / 2.0,
                Self::Zeros => (place % 16.0 - 8.0).max(0.0) / 8.0,
                Self::Constant => 0.5,
            }
        })
    }
}

pub(super) fn max_pools(cases: &mut Vec<Case>) -> Result<()> {
    // Name, x, [kernel, stride, padding], what the numbers are, flags.
    type Kind<'a> = (&'a str, [usize; 4], [usize; 3], Numbers, &'a [&'static str], &'a str);
    use Numbers::{Constant, Distinct, Negative, Ties, Zeros};
    let all: [Kind<'_>; 13] = [
        ("smallest", [1, 1, 2, 4], [2, 2, 0], Distinct, &[], "Two windows: to follow by hand."),
        (
            "two-by-two",
            [2, 3, 5, 7],
            [2, 2, 0],
            Distinct,
            &["unseen-pixels"],
            "2 × 2, stride 2, as VGG's; odd sizes, so that a row and a column are left over.",
        ),
        (
            "three-by-three",
            [2, 3, 5, 7],
            [3, 2, 1],
            Distinct,
            &[],
            "3 × 3, stride 2, padding 1, as ResNet's first: windows overlap.",
        ),
        ("even-sizes", [2, 3, 6, 8], [3, 2, 1], Distinct, &[], "The same with even sizes."),
        (
            "stride-1",
            [1, 2, 5, 7],
            [3, 1, 1],
            Distinct,
            &[],
            "A pixel may be the largest of nine windows: their gradients add.",
        ),
        (
            "stride-3-of-2",
            [1, 2, 7, 8],
            [2, 3, 0],
            Distinct,
            &["unseen-pixels"],
            "The stride is larger than the window.",
        ),
        ("negative", [2, 3, 5, 7], [3, 2, 1], Negative, &[], "All numbers are below 0: a border of zeros would win."),
        ("ties", [2, 3, 5, 7], [3, 2, 1], Ties, &["pool-tie"], "Only −½, 0 and ½ occur."),
        ("ties-two-by-two", [2, 3, 6, 8], [2, 2, 0], Ties, &["pool-tie"], "The same with windows that do not overlap."),
        ("zeros", [2, 3, 5, 7], [3, 2, 1], Zeros, &["pool-tie"], "Half of the numbers are 0, as after a ReLU."),
        (
            "constant",
            [1, 2, 5, 7],
            [3, 2, 1],
            Constant,
            &["pool-tie"],
            "All numbers are equal: the gradient goes to the first pixel of each window.",
        ),
        ("all-equal", [3, 3, 3, 3], [3, 1, 1], Distinct, &["square"], "N = C = H = W = 3."),
        ("remainder", [1, 2, 15, 33], [3, 2, 1], Distinct, &["remainder"], "15 × 33 pixels."),
    ];
    for (name, [n, c, h, w], [kernel, stride, padding], numbers, flags, note) in all {
        let sketch = Sketch::new("max-pool", name, Program::MaxPool, note).flags(flags).with(|s| {
            (s.kernel, s.stride, s.padding) = (kernel, stride, padding);
        });
        cases.push(sketch.draw(|draw| {
            let shape = (n, c, outputs(h, kernel, stride, padding), outputs(w, kernel, stride, padding));
            named([
                ("in.x", numbers.draw(draw, (n, c, h, w)).into_dyn()),
                ("in.d_y", draw.array(shape, 1.0).into_dyn()),
            ])
        })?);
    }
    Ok(())
}

pub(super) fn average_pools(cases: &mut Vec<Case>) -> Result<()> {
    // Name, x, the size of y.
    type Kind<'a> = (&'a str, [usize; 4], usize, &'a [&'static str], &'a str);
    let all: [Kind<'_>; 9] = [
        ("smallest", [1, 1, 2, 3], 1, &[], "One mean of six numbers: to follow by hand."),
        ("to-1", [2, 3, 5, 7], 1, &[], "The mean of every channel, as before ResNet's last layer."),
        ("to-2", [2, 3, 5, 7], 2, &["uneven-cells"], "The middle row and the middle column belong to two cells."),
        ("to-3", [2, 3, 4, 8], 3, &["uneven-cells"], "Cells of 2 × 3 and 2 × 4 pixels."),
        (
            "to-7-of-9-by-5",
            [1, 2, 9, 5],
            7,
            &["uneven-cells"],
            "7 × 7, as VGG's: cells of 2 × 1 and 2 × 2; fewer columns than cells.",
        ),
        ("to-7-of-14", [1, 1, 14, 14], 7, &[], "Cells of 2 × 2."),
        ("to-7-of-7", [1, 2, 7, 7], 7, &[], "The picture itself."),
        ("all-equal", [3, 3, 3, 3], 3, &["square"], "N = C = H = W = 3, and the picture itself."),
        ("many-pixels", [2, 2, 33, 35], 1, &["large-k"], "Means of 1,155 numbers."),
    ];
    for (name, [n, c, h, w], size, flags, note) in all {
        let sketch = Sketch::new("avg-pool", name, Program::AvgPool, note).flags(flags).with(|s| s.size = size);
        cases.push(sketch.draw(|draw| {
            named([
                ("in.x", draw.array((n, c, h, w), 1.0).into_dyn()),
                ("in.d_y", draw.array((n, c, size, size), 1.0).into_dyn()),
            ])
        })?);
    }
    Ok(())
}
