//! The relations of the programs of pictures, layer by layer.

use std::ops::Range;

use ndarray::{Array1, Array2, Array3, ArrayD, IxDyn, s};

use super::equations as text;
use super::graph::{Builder, View};
use crate::golden::pictures::{CELLS_OF_VGG, POOL_OF_RESNET, POOL_OF_VGG};
use crate::golden::program::Program;
use crate::spec::pictures::pools::{Window, cell};

/// Pictures of more numbers than this have no relations: every kernel reads each of them several times, and all that is
/// read is kept.
const LARGE: usize = 1 << 17;

/// A tensor of pictures, its gradient, and [N, C, H, W].
#[derive(Clone)]
struct Pictures {
    x: String,
    d: String,
    shape: [usize; 4],
}

impl Pictures {
    fn new(x: &str, shape: [usize; 4]) -> Self {
        let d = match x {
            "out.y" => "in.d_y".into(),
            "out.phi" => "in.d_phi".into(),
            _ => format!("grad.{x}"),
        };
        Self { x: x.into(), d, shape }
    }
}

/// One axis of a kernel or a window that slides over pixels.
#[derive(Clone, Copy)]
struct Slide {
    pixels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

/// The pixel that place u of a kernel meets at output i, with [pixels, outputs, kernel, stride, padding].
type Meets = fn([isize; 5], isize, isize) -> isize;
/// The right one, and those of known mistakes.
const MEETS: [(&str, Meets); 8] = [
    ("", |[_, _, _, s, p], i, u| s * i + u - p),
    ("_dense", |[_, _, _, _, p], i, u| i + u - p),
    ("_after", |[_, _, _, s, _], i, u| s * i + u),
    ("_before", |[_, _, _, s, p], i, u| s * i + u - 2 * p),
    ("_same", |[n, outputs, k, s, _], i, u| s * i + u - (s * (outputs - 1) + k - n).max(0) / 2),
    ("_from_end", |[n, outputs, k, s, p], i, u| n + p - k - s * (outputs - 1 - i) + u),
    ("_clamped", |[n, _, _, s, p], i, u| (s * i + u - p).clamp(0, n - 1)),
    ("_wrapped", |[n, _, _, s, p], i, u| (s * i + u - p).rem_euclid(n)),
];

impl Slide {
    fn outputs(self) -> usize {
        (self.pixels + 2 * self.padding).saturating_sub(self.kernel) / self.stride.max(1) + 1
    }

    /// [`Meets`], −1 outside the picture.
    fn meets(self, (i, u): (usize, usize), meets: Meets) -> f64 {
        let sizes = [self.pixels, self.outputs(), self.kernel, self.stride, self.padding].map(usize::cast_signed);
        let pixel = meets(sizes, i.cast_signed(), u.cast_signed());
        if (0..sizes[0]).contains(&pixel) { pixel as f64 } else { -1.0 }
    }
}

/// The rows of cell i of k over n rows.
type Cells = fn(usize, usize, usize) -> Range<usize>;
/// The right ones, and those of known mistakes.
const CELLS: [(&str, Cells); 3] = [
    ("", cell),
    ("_apart", |i, k, n| i * n / k..((i + 1) * n / k).max(i * n / k + 1)),
    ("_of_one_size", |i, k, n| i * (n / k)..i * (n / k) + n - (k - 1) * (n / k)),
];

/// Short names, tensors, views.
type Leaves = Vec<(String, String, View)>;

fn whole(names: &[(&str, &str)]) -> Leaves {
    names.iter().map(|&(short, tensor)| (short.into(), tensor.into(), View::Whole)).collect()
}

/// x and y of a layer, and their gradients.
fn ends(x: (&Pictures, View), y: (&Pictures, View)) -> Leaves {
    let of = |short: &str, (pictures, view): (&Pictures, View)| {
        [(short.to_owned(), pictures.x.clone(), view), (format!("d.{short}"), pictures.d.clone(), view)]
    };
    of("x", x).into_iter().chain(of("y", y)).collect()
}

/// A program of pictures on its way forward; the backward relations of each layer are added at the end.
struct Pass<'b, 'a> {
    build: &'b mut Builder<'a>,
    /// Kind and part of each group, and its backward relations.
    back: Vec<(&'static str, String, &'static str)>,
}

impl Builder<'_> {
    /// The relations of a program of pictures.
    pub(super) fn pictures(&mut self) {
        let Some(&[n, c, h, w]) = self.case.inputs.get("in.x").map(ndarray::ArrayBase::shape) else { return };
        if n * c * h * w > LARGE {
            return;
        }
        let (program, settings) = (self.case.entry.program, self.settings);
        let mut pass = Pass { build: self, back: Vec::new() };
        let x = Pictures::new("in.x", [n, c, h, w]);
        let (stride, padding) = (settings.stride, settings.padding);
        match program {
            Program::Conv => drop(pass.conv("", &x, "out.y", [stride, padding])),
            Program::BatchNorm => drop(pass.batch_norm("", &x, "out.y")),
            Program::MaxPool => {
                drop(pass.max_pool("", &x, "out.y", Window { kernel: settings.kernel, stride, padding }));
            }
            Program::AvgPool => drop(pass.avg_pool(&x, "out.y", settings.size, View::Whole)),
            Program::Block => drop(pass.block("", &x, "out.y", &settings.strides)),
            Program::Resnet => pass.resnet(x),
            _ => pass.vgg(x),
        }
        for (kind, part, text) in std::mem::take(&mut pass.back).into_iter().rev() {
            self.equations(kind, &part, text, &[]);
        }
    }
}

impl Pass<'_, '_> {
    /// Adds a layer: its relations forward and backward, and its leaves.
    fn layer(&mut self, kind: &'static str, path: &str, [forward, back]: [&'static str; 2], leaves: &Leaves) {
        let leaves: Vec<(&str, String, View)> =
            leaves.iter().map(|(short, tensor, view)| (short.as_str(), tensor.clone(), *view)).collect();
        let part = self.part(path);
        self.build.viewed(kind, &part, forward, &leaves);
        self.back.push((kind, part, back));
    }

    /// The group's part: that of a block by itself is no part of a network.
    fn part(&self, path: &str) -> String {
        let block = self.build.case.entry.program == Program::Block;
        format!("{}{path}", if block { "block." } else { "" }).trim_end_matches('.').into()
    }

    /// A given tensor of a layer.
    fn give(&mut self, leaves: &mut Leaves, path: &str, short: &str, values: ArrayD<f64>) {
        let tensor = format!("{path}{short}");
        self.build.give(&tensor, values);
        leaves.push((short.into(), tensor, View::Whole));
    }

    fn number(&mut self, leaves: &mut Leaves, path: &str, short: &str, value: f64) {
        self.give(leaves, path, short, ArrayD::from_elem(IxDyn(&[]), value));
    }

    fn has(&self, name: &str) -> bool {
        self.build.case.inputs.contains_key(name)
    }

    /// The size of an axis of a parameter.
    fn size(&self, name: &str, axis: usize) -> usize {
        self.build.case.inputs.get(name).and_then(|x| x.shape().get(axis)).map_or(1, |&size| size.max(1))
    }

    /// A convolution and the start of its parameters' names, such as `conv1.`.
    fn conv(&mut self, path: &str, x: &Pictures, y: &str, [stride, padding]: [usize; 2]) -> Pictures {
        let weight = format!("param.{path}weight");
        let (outputs, [n, _, h, w]) = (self.size(&weight, 0), x.shape);
        let slides = [(h, 2), (w, 3)];
        let slides = slides.map(|(pixels, axis)| Slide { pixels, kernel: self.size(&weight, axis), stride, padding });
        let y = Pictures::new(y, [n, outputs, slides[0].outputs(), slides[1].outputs()]);
        let mut leaves = ends((x, View::Whole), (&y, View::Whole));
        let gradients = ["weight", "bias"].map(|name| format!("grad.{path}{name}"));
        leaves.extend(whole(&[("W", &weight), ("d.W", &gradients[0]), ("d.bias", &gradients[1])]));
        let bias = format!("param.{path}bias");
        if self.has(&bias) {
            leaves.extend(whole(&[("bias", &bias)]));
        } else {
            self.give(&mut leaves, path, "bias", ArrayD::zeros(IxDyn(&[outputs])));
        }
        for (axis, slide) in ["row", "column"].into_iter().zip(slides) {
            for (suffix, meets) in MEETS {
                let table = Array2::from_shape_fn((slide.outputs(), slide.kernel), |at| slide.meets(at, meets));
                self.give(&mut leaves, path, &format!("{axis}{suffix}"), table.into_dyn());
            }
        }
        self.give(&mut leaves, path, "per_picture", ArrayD::from_elem(IxDyn(&[n]), 1.0 / n.max(1) as f64));
        let last = Array1::from_shape_fn(n, |k| f64::from(u8::from(k + 1 == n)));
        self.give(&mut leaves, path, "last_picture", last.into_dyn());
        self.build.graph.shapes.insert(x.d.clone(), x.shape.to_vec());
        self.layer("conv", path, [text::CONV, text::CONV_BACK], &leaves);
        y
    }

    /// A norm and the start of its parameters' names, such as `bn1.`.
    fn batch_norm(&mut self, path: &str, x: &Pictures, y: &str) -> Pictures {
        let training = self.build.settings.training;
        let y = Pictures::new(y, x.shape);
        let mut leaves = ends((x, View::Whole), (&y, View::Whole));
        let statistics = if training { ["mid.", "mid."] } else { ["param.", "param."] };
        let running = if training { "" } else { "running_" };
        let mut add = |short: &str, prefix: &str, name: &str| {
            leaves.push((short.into(), format!("{prefix}{path}{name}"), View::Whole));
        };
        for part in ["weight", "bias"] {
            add(part, "param.", part);
            add(&format!("d.{part}"), "grad.", part);
        }
        for part in ["mean", "var"] {
            add(&format!("old_{part}"), "param.", &format!("running_{part}"));
            add(&format!("running_{part}"), "out.", &format!("running_{part}"));
            add(part, statistics[0], &format!("{running}{part}"));
        }
        // Both groups have these.
        for part in ["centred", "deviation", "hat"] {
            add(part, "batch-norm.", part);
        }
        let [n, _, h, w] = x.shape;
        let m = (n * h * w) as f64;
        self.number(&mut leaves, path, "per_number", 1.0 / m);
        self.number(&mut leaves, path, "per_pixel", 1.0 / (h * w) as f64);
        self.number(&mut leaves, path, "unbiased", if training { m / (m - 1.0) } else { 1.0 });
        if training {
            self.layer("statistics", path, [text::STATISTICS, text::STATISTICS_BACK], &leaves);
        } else {
            self.layer("frozen", path, [text::FROZEN, text::FROZEN_BACK], &leaves);
        }
        self.layer("batch-norm", path, [text::BATCH_NORM, text::BATCH_NORM_BACK], &leaves);
        y
    }

    fn relu(&mut self, path: &str, x: &Pictures, y: &str, view: View) -> Pictures {
        let y = Pictures::new(y, x.shape);
        self.layer("relu", path, [text::RELU, text::RELU_BACK], &ends((x, view), (&y, view)));
        y
    }

    fn max_pool(&mut self, path: &str, x: &Pictures, y: &str, window: Window) -> Pictures {
        let Window { kernel, stride, padding } = window;
        let [n, c, h, w] = x.shape;
        let [rows, columns] = [h, w].map(|pixels| Slide { pixels, kernel, stride, padding });
        let y = Pictures::new(y, [n, c, rows.outputs(), columns.outputs()]);
        let mut leaves = ends((x, View::Pixels), (&y, View::Whole));
        let chosen = format!("{path}chosen");
        leaves.extend(whole(&[("chosen", &chosen)]));
        if self.build.case.entry.program == Program::MaxPool {
            leaves.extend(whole(&[("index", "mid.index")]));
        }
        let shape = (rows.outputs(), columns.outputs(), kernel * kernel);
        for (suffix, meets) in MEETS {
            let table = Array3::from_shape_fn(shape, |(i, j, k)| {
                let (row, column) = (rows.meets((i, k / kernel), meets), columns.meets((j, k % kernel), meets));
                if row < 0.0 || column < 0.0 { -1.0 } else { row * w as f64 + column }
            });
            if suffix.is_empty() {
                let reversed = table.slice(s![.., .., ..;-1]).to_owned();
                self.give(&mut leaves, path, "pixel_reversed", reversed.into_dyn());
            }
            self.give(&mut leaves, path, &format!("pixel{suffix}"), table.into_dyn());
        }
        self.give(&mut leaves, path, "every", ArrayD::ones(IxDyn(&[shape.0, shape.1, shape.2])));
        self.give(&mut leaves, path, "place", Array1::from_shape_fn(shape.2, |k| k as f64).into_dyn());
        self.number(&mut leaves, path, "last_place", shape.2 as f64 - 1.0);
        self.build.graph.shapes.insert(chosen, vec![n, c, shape.0, shape.1, shape.2]);
        self.layer("max-pool", path, [text::MAX_POOL, text::MAX_POOL_BACK], &leaves);
        y
    }

    /// To size × size cells; of a network φ is the result, seen as pictures.
    fn avg_pool(&mut self, x: &Pictures, y: &str, size: usize, view: View) -> Pictures {
        let [n, c, h, w] = x.shape;
        let y = Pictures::new(y, [n, c, size, size]);
        let mut leaves = ends((x, View::Whole), (&y, view));
        for (suffix, cells) in CELLS {
            let of = |i: usize, n: usize| cells(i, size, n);
            for (axis, n) in [("rows", h), ("columns", w)] {
                let table = Array2::from_shape_fn((size, n), |(i, row)| f64::from(u8::from(of(i, n).contains(&row))));
                self.give(&mut leaves, "avg-pool.", &format!("{axis}{suffix}"), table.into_dyn());
            }
            let pixels = Array2::from_shape_fn((size, size), |(i, j)| (of(i, h).len() * of(j, w).len()) as f64);
            self.give(&mut leaves, "avg-pool.", &format!("pixels{suffix}"), pixels.into_dyn());
        }
        let even = ArrayD::from_elem(IxDyn(&[size, size]), (h * w) as f64 / (size * size) as f64);
        self.give(&mut leaves, "avg-pool.", "pixels_in_the_mean", even);
        self.layer("avg-pool", "", [text::AVG_POOL, text::AVG_POOL_BACK], &leaves);
        y
    }

    /// A convolution whose padding keeps the size at stride 1, and its norm.
    fn stage(&mut self, [conv, norm]: [&str; 2], x: &Pictures, stride: usize) -> Pictures {
        let padding = self.size(&format!("param.{conv}.weight"), 2) / 2;
        let h = self.conv(&format!("{conv}."), x, &format!("mid.{conv}"), [stride, padding]);
        self.batch_norm(&format!("{norm}."), &h, &format!("mid.{norm}"))
    }

    fn block(&mut self, path: &str, x: &Pictures, y: &str, strides: &[usize]) -> Pictures {
        let [main, side] = ["main", "side"].map(|way| Pictures { d: format!("{path}d.{way}"), ..x.clone() });
        self.back.push(("block", self.part(path), text::BLOCK_INPUT_BACK));
        let mut r = main.clone();
        for (k, &stride) in (1..).zip(strides) {
            if k > 1 {
                let relu = format!("{path}relu{}", k - 1);
                r = self.relu(&relu, &r, &format!("mid.{relu}"), View::Whole);
            }
            r = self.stage([&format!("{path}conv{k}"), &format!("{path}bn{k}")], &r, stride);
        }
        let sum = Pictures::new(&format!("mid.{path}sum"), r.shape);
        let y = Pictures::new(y, r.shape);
        let mut leaves = ends((x, View::Whole), (&y, View::Whole));
        leaves.extend(whole(&[
            ("r", &r.x),
            ("d.r", &r.d),
            ("sum", &sum.x),
            ("d.sum", &sum.d),
            ("d.main", &main.d),
            ("d.side", &side.d),
        ]));
        let stride = strides.iter().product();
        let names = [0, 1].map(|k| format!("{path}downsample.{k}"));
        if self.has(&format!("param.{}.weight", names[0])) {
            let s = self.stage([&names[0], &names[1]], &side, stride);
            leaves.extend(whole(&[("shortcut", &s.x), ("d.shortcut", &s.d), ("bare", &format!("mid.{}", names[0]))]));
            self.layer("projected", path, [text::PROJECTED, text::PROJECTED_BACK], &leaves);
        } else {
            self.taken(path, x, &r, stride, &mut leaves);
            self.layer("identity", path, [text::IDENTITY, text::IDENTITY_BACK], &leaves);
        }
        self.layer("block", path, [text::BLOCK, text::BLOCK_BACK], &leaves);
        y
    }

    /// Which channel, row and column of x a shortcut without parameters takes, and where each of them goes; −1 for
    /// none.
    fn taken(&mut self, path: &str, x: &Pictures, r: &Pictures, stride: usize, leaves: &mut Leaves) {
        let (inputs, outputs) = (x.shape, r.shape);
        let before = outputs[1].saturating_sub(inputs[1]) / 2;
        let mut add = |name: &str, size: usize, of: &dyn Fn(usize) -> Option<usize>| {
            let table = Array1::from_shape_fn(size, |k| of(k).map_or(-1.0, |k| k as f64));
            self.give(leaves, path, name, table.into_dyn());
        };
        let channel = |before: usize| move |o: usize| o.checked_sub(before).filter(|&c| c < inputs[1]);
        add("channel", outputs[1], &channel(before));
        add("channel_first", outputs[1], &channel(0));
        add("output", inputs[1], &|c| Some(c + before));
        add("output_first", inputs[1], &Some);
        for (name, axis) in [("row", 2), ("column", 3)] {
            add(name, outputs[axis], &|p| Some(p * stride));
            add(&format!("{name}_late"), outputs[axis], &|p| Some((p * stride + stride - 1).min(inputs[axis] - 1)));
            add(&format!("output_{name}"), inputs[axis], &|h| h.is_multiple_of(stride).then_some(h / stride));
        }
    }

    fn resnet(&mut self, x: Pictures) {
        let settings = self.build.settings;
        let r = self.stage(["conv1", "bn1"], &x, settings.stride);
        let mut h = self.relu("relu1", &r, "mid.relu1", View::Whole);
        if settings.pool {
            h = self.max_pool("maxpool.", &h, "mid.maxpool", POOL_OF_RESNET);
        }
        let ones = vec![1; settings.strides.len()];
        for (layer, &count) in settings.layers.iter().enumerate() {
            for number in 0..count {
                let strides = if layer > 0 && number == 0 { &settings.strides } else { &ones };
                let path = format!("layer{}.{number}.", layer + 1);
                h = self.block(&path, &h, &format!("mid.{path}y"), strides);
            }
        }
        self.avg_pool(&h, "out.phi", 1, View::OnePixel);
    }

    fn vgg(&mut self, mut h: Pictures) {
        let settings = self.build.settings;
        let mut modules = (0..).map(|number| format!("features.{number}"));
        let mut next = || modules.next().expect("endless");
        for &count in &settings.layers {
            for _ in 0..count {
                let (conv, relu) = (next(), next());
                let y = self.conv(&format!("{conv}."), &h, &format!("mid.{conv}"), [1, 1]);
                h = self.relu(&relu, &y, &format!("mid.{relu}"), View::Whole);
            }
            let pool = next();
            h = self.max_pool(&format!("{pool}."), &h, &format!("mid.{pool}"), POOL_OF_VGG);
        }
        h = self.avg_pool(&h, "mid.avgpool", CELLS_OF_VGG, View::Whole);
        for (linear, relu) in [("classifier.0", "mid.classifier.1"), ("classifier.3", "out.phi")] {
            let y = Pictures::new(&format!("mid.{linear}"), h.shape);
            let mut leaves = ends((&h, View::FlatRows), (&y, View::Whole));
            let [weight, bias] = ["weight", "bias"].map(|name| format!("{linear}.{name}"));
            for (short, name) in [("W", weight), ("bias", bias)] {
                leaves.extend(whole(&[
                    (short, &format!("param.{name}")),
                    (&format!("d.{short}"), &format!("grad.{name}")),
                ]));
            }
            let inputs: usize = h.shape[1..].iter().product();
            let channel_last = |i: usize| (i % h.shape[1] * (inputs / h.shape[1]) + i / h.shape[1]) as f64;
            let table = Array1::from_shape_fn(inputs, channel_last).into_dyn();
            self.give(&mut leaves, &format!("{linear}."), "channel_last", table);
            self.layer("linear", linear, [text::LINEAR, text::LINEAR_BACK], &leaves);
            h = self.relu(relu.split_once('.').map_or(relu, |(_, name)| name), &y, relu, View::OnePixel);
        }
    }
}
