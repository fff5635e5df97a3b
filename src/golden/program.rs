//! The programs: what a case computes, from named inputs to named outputs.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Array4, ArrayD};
use serde::{Deserialize, Serialize};

use super::plain::Trace;
use crate::loss::{HingeLoss, Violation};
use crate::model::Config;
use crate::real::{Real, Scalar};
use crate::similarity::Measure;

/// The tensors that a case gives: `in.*` and `param.*`.
pub(crate) type Inputs = BTreeMap<String, ArrayD<f64>>;

/// What a case computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Program {
    /// One step of one layer, forward and backward.
    GruCell,
    /// Rows of different lengths through all layers.
    Gru,
    /// Word vectors.
    Embedding,
    /// A projection.
    Linear,
    /// L2 normalisation.
    L2norm,
    /// The score matrix.
    Scores,
    /// The loss of a score matrix.
    Loss,
    /// Clipping and Adam on given gradients.
    Optimiser,
    /// A whole model.
    Model,
    /// A convolution of pictures.
    Conv,
    /// Batch normalisation of pictures.
    BatchNorm,
    /// Max pool.
    MaxPool,
    /// Adaptive average pool.
    AvgPool,
    /// A residual block.
    Block,
    /// A small residual network, from pictures to φ.
    Resnet,
    /// A small VGG, from pictures to φ.
    Vgg,
}

/// The settings of a case; a program reads those of [`Program::keys`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // as in `Config`
pub(crate) struct Settings {
    pub margin: f64,
    pub max_violation: bool,
    // The three ways between SH and MH are written only where they are not the default.
    #[serde(skip_serializing_if = "is_one")]
    pub hardest: usize,
    #[serde(skip_serializing_if = "is_zero")]
    pub temperature: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub semi_hard: bool,
    pub mask_same_image: bool,
    pub measure: Measure,
    pub use_abs: bool,
    pub no_imgnorm: bool,
    pub num_layers: usize,
    pub caption_projection: bool,
    pub learning_rate: f64,
    pub grad_clip: f64,
    /// How often the batch is repeated.
    pub steps: usize,
    /// Pictures: every how many pixels a kernel or a window is placed.
    pub stride: usize,
    /// How many pixels around the picture it may cover.
    pub padding: usize,
    /// Rows and columns of a window of a max pool.
    pub kernel: usize,
    /// Rows and columns of an average pool's result.
    pub size: usize,
    /// Norms use the statistics of the batch, not the running ones.
    pub training: bool,
    /// The stride of each convolution of a block; in a network of the first block of every layer after the first.
    pub strides: Vec<usize>,
    /// How many blocks every layer of a residual network has; how many convolutions every layer of a VGG has.
    pub layers: Vec<usize>,
    /// A residual network has a max pool before its first block.
    pub pool: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde passes it
fn is_one(count: &usize) -> bool {
    *count == 1
}

#[allow(clippy::trivially_copy_pass_by_ref, clippy::float_cmp)] // as serde passes it; 0 is exact
fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(&Config::default(), 0)
    }
}

impl Settings {
    /// The settings of a run, for this many steps.
    pub(super) fn of(config: &Config, steps: usize) -> Self {
        Self {
            margin: config.margin,
            max_violation: config.max_violation,
            hardest: config.hardest,
            temperature: config.temperature,
            semi_hard: config.semi_hard,
            mask_same_image: config.mask_same_image,
            measure: config.measure,
            use_abs: config.use_abs,
            no_imgnorm: config.no_imgnorm,
            num_layers: config.num_layers,
            caption_projection: config.caption_projection,
            learning_rate: config.learning_rate,
            grad_clip: config.grad_clip,
            steps,
            stride: 1,
            padding: 0,
            kernel: 2,
            size: 1,
            training: false,
            strides: Vec::new(),
            layers: Vec::new(),
            pool: false,
        }
    }

    /// Sets which negatives count.
    pub(super) fn count(&mut self, violation: Violation) {
        let default = Self { max_violation: true, hardest: 1, temperature: 0.0, semi_hard: false, ..self.clone() };
        *self = match violation {
            Violation::Sum => Self { max_violation: false, ..default },
            Violation::Max => default,
            Violation::Hardest(hardest) => Self { hardest, ..default },
            Violation::LogSumExp(temperature) => Self { temperature, ..default },
            Violation::SemiHard => Self { semi_hard: true, ..default },
        };
    }

    /// Margin and kind of the loss.
    #[must_use]
    pub(crate) fn hinge(&self) -> HingeLoss {
        let violation = Violation::of(self.max_violation, self.hardest, self.temperature, self.semi_hard);
        HingeLoss { margin: self.margin, violation }
    }
}

/// How far a case is from the places where its function is not smooth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Margins {
    /// The smallest |hinge| that decides something: of log-sum-exp, of a query; of semi-hard negatives, also the
    /// smallest gap between a negative and the right pair.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hinge: Option<f64>,
    /// The smallest gap between the hardest negative of a query, or the k-th, and the next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hardest: Option<f64>,
    /// The smallest norm that is divided by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub norm: Option<f64>,
    /// The smallest |x| before an absolute value, or largest g − f before the root of an order similarity.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sign: Option<f64>,
    /// The smallest |x| before a ReLU.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub relu: Option<f64>,
    /// The smallest gap between the two largest numbers of a window of a max pool.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window: Option<f64>,
}

impl Margins {
    /// No kink is near.
    pub(crate) const NONE: Self = Self { hinge: None, hardest: None, norm: None, sign: None, relu: None, window: None };

    fn see(place: &mut Option<f64>, value: f64) {
        if value.is_finite() {
            *place = Some(place.map_or(value, |least| least.min(value)));
        }
    }

    pub(super) fn see_norms<T: Real>(&mut self, norms: &Array1<T>) {
        norms.iter().for_each(|norm| Self::see(&mut self.norm, norm.re()));
    }

    /// |x| has a kink at 0.
    pub(super) fn see_signs<T: Real>(&mut self, x: &Array2<T>) {
        x.iter().for_each(|x| Self::see(&mut self.sign, x.re().abs()));
    }

    /// A ReLU has a kink at 0.
    pub(super) fn see_relu<T: Real>(&mut self, x: &Array4<T>) {
        x.iter().for_each(|x| Self::see(&mut self.relu, x.re().abs()));
    }

    /// A maximum has a kink where the two largest numbers of a window are equal.
    pub(super) fn see_window<T: Real>(&mut self, numbers: impl Iterator<Item = T>) {
        let mut all: Vec<f64> = numbers.map(Scalar::re).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        if let [first, second, ..] = all[..] {
            Self::see(&mut self.window, first - second);
        }
    }

    /// −‖v‖ has a kink where v = 0: where the largest g − f is 0.
    pub(super) fn see_order<T: Real>(&mut self, measure: Measure, f: &Array2<T>, g: &Array2<T>) {
        if measure == Measure::Order {
            for f in f.outer_iter() {
                for g in g.outer_iter() {
                    let largest = f.iter().zip(g).map(|(f, g)| g.re() - f.re()).fold(f64::NEG_INFINITY, f64::max);
                    Self::see(&mut self.sign, largest.abs());
                }
            }
        }
    }

    /// The smallest |hinge| before [·]₊ of a negative that may count, and the smallest gap between the last negative
    /// that counts and the next.
    pub(super) fn see_loss<T: Real>(&mut self, hinge: HingeLoss, scores: &Array2<T>, image_ids: Option<&[usize]>) {
        let batch = scores.nrows();
        let negative = |i: usize, j: usize| i != j && image_ids.is_none_or(|ids| ids[i] != ids[j]);
        for rows in [true, false] {
            for query in 0..batch {
                let place = |other: usize| if rows { (query, other) } else { (other, query) };
                let places = (0..batch).map(place).filter(|&(i, j)| negative(i, j));
                let right = scores[(query, query)].re();
                let mut scores: Vec<f64> = places.map(|at| scores[at].re()).collect();
                if hinge.violation == Violation::SemiHard {
                    for score in &scores {
                        Self::see(&mut self.hinge, (score - right).abs());
                    }
                    scores.retain(|&score| score < right);
                }
                let mut raw: Vec<f64> = scores.iter().map(|score| hinge.margin + score - right).collect();
                raw.sort_by(|a, b| b.total_cmp(a));
                let most = match hinge.violation {
                    Violation::Sum => raw.len(),
                    Violation::Max | Violation::SemiHard => 1,
                    Violation::Hardest(most) => most,
                    Violation::LogSumExp(temperature) => {
                        let all: f64 = raw.iter().map(|x| libm::exp((x - raw[0]) / temperature)).sum();
                        raw = raw.first().map(|most| most + temperature * libm::log(all)).into_iter().collect();
                        1
                    }
                };
                raw.iter().take(most).for_each(|x| Self::see(&mut self.hinge, x.abs()));
                if let [.., last, next] = raw[..raw.len().min(most.saturating_add(1))]
                    && raw.len() > most
                    && last > 0.0
                {
                    Self::see(&mut self.hardest, last - next);
                }
            }
        }
    }

    /// The distance from the nearest kink, at which a gradient jumps.
    #[must_use]
    pub(crate) fn kink(&self) -> f64 {
        [self.hinge, self.hardest, self.sign, self.relu, self.window]
            .into_iter()
            .flatten()
            .fold(f64::INFINITY, f64::min)
    }
}

/// A computation's result.
#[derive(Clone, Debug)]
pub(crate) struct Run<T> {
    /// Every tensor, in the order of the data flow.
    pub trace: Trace<T>,
    /// Distance from kinks.
    pub margins: Margins,
}

impl Program {
    /// The keys of [`Settings`] that this program reads.
    #[must_use]
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::GruCell | Self::Embedding | Self::Linear | Self::L2norm => &[],
            Self::Gru => &["num_layers"],
            Self::Scores => &["measure"],
            Self::Loss => &["margin", "max_violation", "hardest", "temperature", "semi_hard", "mask_same_image"],
            Self::Optimiser => &["learning_rate", "grad_clip", "steps"],
            Self::Model => &[
                "margin",
                "max_violation",
                "hardest",
                "temperature",
                "semi_hard",
                "mask_same_image",
                "measure",
                "use_abs",
                "no_imgnorm",
                "num_layers",
                "caption_projection",
                "learning_rate",
                "grad_clip",
                "steps",
            ],
            Self::Conv => &["stride", "padding"],
            Self::BatchNorm => &["training"],
            Self::MaxPool => &["kernel", "stride", "padding"],
            Self::AvgPool => &["size"],
            Self::Block => &["strides", "training"],
            Self::Resnet => &["stride", "pool", "layers", "strides", "training"],
            Self::Vgg => &["layers"],
        }
    }

    /// Whether it computes an image encoder or a layer of one.
    #[must_use]
    pub(crate) fn is_of_pictures(self) -> bool {
        match self {
            Self::Conv | Self::BatchNorm | Self::MaxPool | Self::AvgPool | Self::Block | Self::Resnet | Self::Vgg => {
                true
            }
            Self::GruCell
            | Self::Gru
            | Self::Embedding
            | Self::Linear
            | Self::L2norm
            | Self::Scores
            | Self::Loss
            | Self::Optimiser
            | Self::Model => false,
        }
    }

    /// Its name in a manifest.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GruCell => "gru_cell",
            Self::Gru => "gru",
            Self::Embedding => "embedding",
            Self::Linear => "linear",
            Self::L2norm => "l2norm",
            Self::Scores => "scores",
            Self::Loss => "loss",
            Self::Optimiser => "optimiser",
            Self::Model => "model",
            Self::Conv => "conv",
            Self::BatchNorm => "batch_norm",
            Self::MaxPool => "max_pool",
            Self::AvgPool => "avg_pool",
            Self::Block => "block",
            Self::Resnet => "resnet",
            Self::Vgg => "vgg",
        }
    }
}
