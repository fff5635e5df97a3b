//! Residual blocks, and the pictures and kernels that must be refused.

use super::pictures::{add_norm, outputs, single};
use super::{Case, Draw, Expected, Inputs, Program, Result, Sketch, named};

/// A block: the outputs of its convolutions, their strides, whether the shortcut is projected.
struct Shape<'a> {
    x: [usize; 4],
    outputs: &'a [usize],
    strides: &'a [usize],
    projected: bool,
}

/// A convolution with k × k and its norm. β from 0.4 to 0.9 keeps enough of the `ReLU`s open.
pub(super) fn add_stage(inputs: &mut Inputs, draw: &mut Draw, [conv, norm]: [String; 2], [o, c, k]: [usize; 3]) {
    let scale = (3.0 / (c * k * k) as f64).sqrt();
    inputs.insert(format!("param.{conv}.weight"), draw.array((o, c, k, k), scale).into_dyn());
    add_norm(inputs, draw, &format!("{norm}."), o, 1.0);
    let bias = inputs.get_mut(&format!("param.{norm}.bias")).expect("drawn");
    bias.mapv_inplace(|x| single(x.abs() + 0.4));
}

fn block_inputs(draw: &mut Draw, shape: &Shape<'_>) -> Inputs {
    let [n, c, mut h, mut w] = shape.x;
    let mut inputs = named([("in.x", draw.array((n, c, h, w), 1.0).into_dyn())]);
    let mut add = |draw: &mut Draw, names, shape| add_stage(&mut inputs, draw, names, shape);
    let mut channels = c;
    for (k, (&o, &stride)) in shape.outputs.iter().zip(shape.strides).enumerate() {
        // A bottleneck is 1 × 1, 3 × 3, 1 × 1; a basic block is 3 × 3, 3 × 3.
        let kernel = if shape.outputs.len() == 2 || k == 1 { 3 } else { 1 };
        add(draw, [format!("conv{}", k + 1), format!("bn{}", k + 1)], [o, channels, kernel]);
        (h, w) = (outputs(h, kernel, stride, kernel / 2), outputs(w, kernel, stride, kernel / 2));
        channels = o;
    }
    if shape.projected {
        add(draw, ["downsample.0".into(), "downsample.1".into()], [channels, c, 1]);
    }
    inputs.insert("in.d_y".into(), draw.array((n, channels, h, w), 1.0).into_dyn());
    inputs
}

/// Name, x, outputs, strides, whether it is projected and whether it trains, the distance from a kink, flags.
type Kind = (
    &'static str,
    [usize; 4],
    &'static [usize],
    &'static [usize],
    [bool; 2],
    f64,
    &'static [&'static str],
    &'static str,
);
const BLOCKS: [Kind; 16] = [
    (
        "basic-smallest",
        [1, 2, 2, 3],
        &[2, 2],
        &[1, 1],
        [false, false],
        0.1,
        &[],
        "x itself is the shortcut; far from every kink, so that low precision is judged too.",
    ),
    ("basic-evaluation", [2, 3, 4, 5], &[3, 3], &[1, 1], [false, false], 1e-3, &[], "x itself is the shortcut."),
    (
        "basic-training",
        [2, 3, 5, 7],
        &[3, 3],
        &[1, 1],
        [false, true],
        1e-3,
        &[],
        "The same with the statistics of the batch.",
    ),
    (
        "basic-stride-2-evaluation",
        [2, 3, 5, 7],
        &[4, 4],
        &[2, 1],
        [true, false],
        1e-3,
        &[],
        "3 × 3 with stride 2, and a projected shortcut of every second pixel.",
    ),
    (
        "basic-stride-2-training",
        [2, 3, 5, 7],
        &[4, 4],
        &[2, 1],
        [true, true],
        1e-3,
        &[],
        "The same with the statistics of the batch.",
    ),
    (
        "basic-wider-training",
        [2, 3, 5, 7],
        &[4, 4],
        &[1, 1],
        [true, true],
        1e-3,
        &[],
        "A projected shortcut without a stride.",
    ),
    (
        "bottleneck-training",
        [2, 12, 5, 7],
        &[3, 3, 12],
        &[1, 1, 1],
        [false, true],
        1e-3,
        &[],
        "1 × 1, 3 × 3, 1 × 1; x itself is the shortcut.",
    ),
    (
        "bottleneck-first-evaluation",
        [2, 3, 5, 7],
        &[3, 3, 12],
        &[1, 1, 1],
        [true, false],
        1e-3,
        &[],
        "A projected shortcut without a stride, as in the first layer.",
    ),
    (
        "bottleneck-stride-2-evaluation",
        [2, 3, 5, 7],
        &[3, 3, 12],
        &[1, 2, 1],
        [true, false],
        1e-3,
        &[],
        "The stride is on the 3 × 3, as torchvision has it.",
    ),
    (
        "bottleneck-stride-2-training",
        [2, 3, 5, 7],
        &[3, 3, 12],
        &[1, 2, 1],
        [true, true],
        1e-3,
        &[],
        "The same with the statistics of the batch.",
    ),
    (
        "bottleneck-stride-2-first-training",
        [2, 3, 5, 7],
        &[3, 3, 12],
        &[2, 1, 1],
        [true, true],
        1e-3,
        &[],
        "The stride is on the first 1 × 1, as He et al. have it.",
    ),
    ("basic-all-equal", [3, 3, 3, 3], &[3, 3], &[1, 1], [false, true], 1e-3, &["square"], "All sizes are 3."),
    (
        "basic-remainder",
        [2, 17, 5, 7],
        &[23, 23],
        &[2, 1],
        [true, true],
        1e-3,
        &["remainder"],
        "17 channels, 23 outputs.",
    ),
    (
        "basic-zeros-smallest",
        [1, 1, 3, 2],
        &[3, 3],
        &[2, 1],
        [false, false],
        0.25,
        &["shortcut-of-zeros"],
        "The shortcut without parameters: one channel of zeros before x and one after it; far from every kink.",
    ),
    (
        "basic-zeros-evaluation",
        [2, 3, 5, 7],
        &[7, 7],
        &[2, 1],
        [false, false],
        1e-3,
        &["shortcut-of-zeros"],
        "Two channels of zeros before x and two after it, as in the nets for CIFAR-10.",
    ),
    (
        "basic-zeros-training",
        [2, 3, 6, 8],
        &[5, 5],
        &[2, 1],
        [false, true],
        1e-3,
        &["shortcut-of-zeros"],
        "With the statistics of the batch; even sizes, of which the last row and column are not taken.",
    ),
];

pub(super) fn blocks(cases: &mut Vec<Case>) -> Result<()> {
    for (name, x, outputs, strides, [projected, training], apart, flags, note) in BLOCKS {
        let mut sketch = Sketch::new("block", name, Program::Block, note).flags(flags).apart(apart);
        if !training {
            sketch = sketch.flags(&["running-statistics"]);
        }
        let sketch = sketch.with(|s| (s.strides, s.training) = (strides.to_vec(), training));
        let shape = Shape { x, outputs, strides, projected };
        cases.push(sketch.draw(|draw| block_inputs(draw, &shape))?);
    }
    Ok(())
}

pub(super) fn rejected(cases: &mut Vec<Case>) -> Result<()> {
    let sketch = |name: &str, program, note: &str| {
        Sketch::new("rejected", name, program, note).flags(&["rejected"]).expecting(Expected::Invalid)
    };
    let four = |draw: &mut Draw, shape: [usize; 4]| draw.array(shape, 1.0).into_dyn();
    let note = "A kernel of 3 × 3 does not fit into 2 × 3 pixels without padding.";
    cases.push(sketch("kernel-too-large", Program::Conv, note).draw(|draw| {
        named([
            ("in.x", four(draw, [1, 2, 2, 3])),
            ("in.d_y", four(draw, [1, 2, 1, 1])),
            ("param.weight", four(draw, [2, 2, 3, 3])),
        ])
    })?);
    cases.push(sketch("channels-differ", Program::Conv, "A kernel for 2 channels, pictures with 3.").draw(|draw| {
        named([
            ("in.x", four(draw, [1, 3, 2, 3])),
            ("in.d_y", four(draw, [1, 2, 2, 3])),
            ("param.weight", four(draw, [2, 2, 1, 1])),
        ])
    })?);
    let note = "One number per channel has no variance to normalise with.";
    cases.push(sketch("one-number-per-channel", Program::BatchNorm, note).with(|s| s.training = true).draw(
        |draw| {
            let mut inputs = named([("in.x", four(draw, [1, 3, 1, 1])), ("in.d_y", four(draw, [1, 3, 1, 1]))]);
            add_norm(&mut inputs, draw, "", 3, 1.0);
            inputs
        },
    )?);
    let note = "Padding 2 around windows of 2 × 2: some windows have no pixel.";
    let padded = sketch("window-of-padding", Program::MaxPool, note);
    cases.push(
        padded
            .with(|s| (s.kernel, s.stride, s.padding) = (2, 2, 2))
            .draw(|draw| named([("in.x", four(draw, [1, 1, 2, 4])), ("in.d_y", four(draw, [1, 1, 3, 4]))]))?,
    );
    Ok(())
}
