//! Small image encoders from pictures to φ: residual networks and a VGG.

use ndarray::Array1;

use super::blocks::add_stage;
use super::pictures::single;
use super::{Case, Draw, Inputs, Program, Result, Sketch, named};

/// A residual network; its statistics are those of the batch if it trains.
struct Resnet {
    name: &'static str,
    x: [usize; 4],
    /// The first convolution is 7 × 7 with stride 2, and a max pool comes after it; else it is 3 × 3.
    large: bool,
    /// The outputs of the first convolution.
    first: usize,
    /// The planes of every layer, and how many blocks it has.
    planes: &'static [usize],
    layers: &'static [usize],
    /// Those of the first block of every layer after the first.
    strides: &'static [usize],
    /// A shortcut that changes the shape is projected; else it has no parameters.
    projected: bool,
    training: bool,
    /// The distance from a kink.
    apart: f64,
    flags: &'static [&'static str],
    note: &'static str,
}

/// As for CIFAR-10, with running statistics.
const RESNET_20: Resnet = Resnet {
    name: "20-evaluation",
    x: [2, 3, 5, 6],
    large: false,
    first: 2,
    planes: &[2, 2, 4],
    layers: &[3, 3, 3],
    strides: &[2, 1],
    projected: false,
    training: false,
    apart: 2e-4,
    flags: &["shortcut-of-zeros"],
    note: "ResNet-20, as for CIFAR-10, with 2, 2 and 4 planes; shortcuts without parameters.",
};

/// With basic blocks and running statistics.
const BASIC: Resnet = Resnet {
    name: "basic-evaluation",
    x: [2, 3, 9, 12],
    large: true,
    first: 4,
    planes: &[3, 5],
    layers: &[1, 1],
    strides: &[2, 1],
    projected: true,
    training: false,
    apart: 5e-4,
    flags: &[],
    note: "Begins as ResNet-18 does, with 7 × 7, stride 2, and a max pool; two layers of a basic block.",
};

/// With bottlenecks and running statistics.
const BOTTLENECK: Resnet = Resnet {
    name: "bottleneck-evaluation",
    x: [2, 3, 9, 12],
    large: true,
    first: 3,
    planes: &[2, 3],
    layers: &[1, 1],
    strides: &[1, 2, 1],
    projected: true,
    training: false,
    apart: 5e-4,
    flags: &[],
    note: "Begins as ResNet-50 does; bottlenecks with the stride on the 3 × 3, as torchvision has it.",
};

const RESNETS: [Resnet; 9] = [
    Resnet {
        name: "smallest",
        x: [1, 3, 3, 4],
        large: false,
        first: 2,
        planes: &[2],
        layers: &[1],
        strides: &[1, 1],
        projected: true,
        training: false,
        apart: 0.05,
        flags: &[],
        note: "One basic block; far from every kink, so that low precision is judged too.",
    },
    RESNET_20,
    Resnet { name: "20-training", training: true, note: "The same with the statistics of the batch.", ..RESNET_20 },
    BASIC,
    Resnet { name: "basic-training", training: true, note: "The same with the statistics of the batch.", ..BASIC },
    BOTTLENECK,
    Resnet {
        name: "bottleneck-training",
        training: true,
        note: "The same with the statistics of the batch.",
        ..BOTTLENECK
    },
    Resnet {
        name: "bottleneck-stride-first-training",
        x: [3, 3, 9, 11],
        large: true,
        first: 2,
        planes: &[2, 2],
        layers: &[1, 1],
        strides: &[2, 1, 1],
        projected: true,
        training: true,
        apart: 5e-4,
        flags: &[],
        note: "The stride is on the first 1 × 1, as He et al. have it.",
    },
    Resnet {
        name: "all-equal",
        x: [3, 3, 3, 3],
        large: false,
        first: 3,
        planes: &[3],
        layers: &[1],
        strides: &[1, 1],
        projected: true,
        training: true,
        apart: 1e-3,
        flags: &["square"],
        note: "All sizes are 3.",
    },
];

impl Resnet {
    fn inputs(&self, draw: &mut Draw) -> Inputs {
        let [n, c, h, w] = self.x;
        let mut inputs = named([("in.x", draw.array((n, c, h, w), 1.0).into_dyn())]);
        let kernel = if self.large { 7 } else { 3 };
        add_stage(&mut inputs, draw, ["conv1".into(), "bn1".into()], [self.first, c, kernel]);
        let mut channels = self.first;
        let bottleneck = self.strides.len() == 3;
        for (layer, (&count, &planes)) in self.layers.iter().zip(self.planes).enumerate() {
            for number in 0..count {
                let path = format!("layer{}.{number}.", layer + 1);
                let shapes = if bottleneck {
                    vec![[planes, channels, 1], [planes, planes, 3], [4 * planes, planes, 1]]
                } else {
                    vec![[planes, channels, 3], [planes, planes, 3]]
                };
                for (k, &shape) in shapes.iter().enumerate() {
                    add_stage(&mut inputs, draw, [format!("{path}conv{}", k + 1), format!("{path}bn{}", k + 1)], shape);
                }
                let [outputs, ..] = shapes[shapes.len() - 1];
                if self.projected && (outputs != channels || (layer > 0 && number == 0)) {
                    let names = [format!("{path}downsample.0"), format!("{path}downsample.1")];
                    add_stage(&mut inputs, draw, names, [outputs, channels, 1]);
                }
                channels = outputs;
            }
        }
        inputs.insert("in.d_phi".into(), draw.array((n, channels), 1.0).into_dyn());
        inputs
    }
}

pub(super) fn resnets(cases: &mut Vec<Case>) -> Result<()> {
    for net in &RESNETS {
        let mut sketch = Sketch::new("resnet", net.name, Program::Resnet, net.note).flags(net.flags).apart(net.apart);
        if !net.training {
            sketch = sketch.flags(&["running-statistics"]);
        }
        let sketch = sketch.with(|s| {
            s.stride = if net.large { 2 } else { 1 };
            (s.pool, s.training) = (net.large, net.training);
            (s.layers, s.strides) = (net.layers.to_vec(), net.strides.to_vec());
        });
        cases.push(sketch.draw(|draw| net.inputs(draw))?);
    }
    Ok(())
}

/// Name, x, the planes of every layer, its convolutions, F, the distance from a kink, flags.
type Vgg =
    (&'static str, [usize; 4], &'static [usize], &'static [usize], usize, f64, &'static [&'static str], &'static str);
const VGGS: [Vgg; 3] = [
    (
        "smallest",
        [1, 3, 2, 4],
        &[2],
        &[1],
        5,
        0.05,
        &["uneven-cells"],
        "One convolution; far from every kink, so that low precision is judged too.",
    ),
    (
        "two-layers",
        [2, 3, 9, 13],
        &[2, 3],
        &[2, 1],
        5,
        1e-3,
        &["uneven-cells"],
        "Two layers; odd sizes, so that the pools leave out a row and a column; 7 × 7 cells of 2 × 3 pixels.",
    ),
    ("all-equal", [3, 3, 3, 3], &[3], &[1], 3, 1e-3, &["square"], "All sizes are 3."),
];

pub(super) fn vggs(cases: &mut Vec<Case>) -> Result<()> {
    for (name, x, planes, layers, features, apart, flags, note) in VGGS {
        let sketch = Sketch::new("vgg", name, Program::Vgg, note).flags(flags).apart(apart);
        cases.push(sketch.with(|s| s.layers = layers.to_vec()).draw(|draw| {
            let [n, mut channels, h, w] = x;
            let mut inputs = named([("in.x", draw.array((n, channels, h, w), 1.0).into_dyn())]);
            // Biases from 0.4 to 0.9 keep enough of the ReLUs open.
            let bias =
                |draw: &mut Draw, size: usize| -> Array1<f64> { draw.array(size, 0.5).mapv(|x| single(x.abs() + 0.4)) };
            let mut number = 0;
            for (&count, &planes) in layers.iter().zip(planes) {
                for _ in 0..count {
                    let a = (3.0 / (9 * channels) as f64).sqrt();
                    // After a ReLU all numbers are positive: weights that are so a little more often keep it open.
                    let more = if number == 0 { 0.0 } else { 0.25 * a };
                    let weight = draw.array((planes, channels, 3, 3), a).mapv(|x| single(x + more));
                    inputs.insert(format!("param.features.{number}.weight"), weight.into_dyn());
                    inputs.insert(format!("param.features.{number}.bias"), bias(draw, planes).into_dyn());
                    (channels, number) = (planes, number + 2);
                }
                number += 1;
            }
            for (number, size) in [(0, 49 * channels), (3, features)] {
                let weight = draw.array((features, size), (3.0 / size as f64).sqrt()).into_dyn();
                inputs.insert(format!("param.classifier.{number}.weight"), weight);
                inputs.insert(format!("param.classifier.{number}.bias"), bias(draw, features).into_dyn());
            }
            inputs.insert("in.d_phi".into(), draw.array((n, features), 1.0).into_dyn());
            inputs
        })?);
    }
    Ok(())
}
