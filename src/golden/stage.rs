//! The stages of the data flow: which step of the model computes a tensor.

use std::fmt;

use serde::{Serialize, Serializer};

use super::inputs::{EMBED, FC, PROJ};
use super::program::Program;

/// A step of the data flow, in forward order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// (IMG-1) before the embedding itself.
    ImageSide,
    /// f
    ImageEmbedding,
    /// (EMB-1)
    Words,
    /// (GRU-0) to (GRU-4) of one layer.
    GruLayer,
    /// The state before or after a step of the GRU.
    State,
    /// (TXT-1)
    LastState,
    /// (TXT-2) before the embedding itself.
    CaptionSide,
    /// g
    CaptionEmbedding,
    /// (LIN-1) by itself.
    Projection,
    /// (NORM-1) by itself.
    Normalisation,
    /// (SIM-1), (SIM-2), (SIM-3)
    Scores,
    /// (HINGE-1) to (MH-1)
    Loss,
    /// The input of a GRU that is checked by itself.
    GruInput,
    /// The loss of every step of a trajectory.
    LossesOfTheSteps,
    /// (CLIP-1), (CLIP-2)
    Clipping,
    /// (ADAM-1) to (ADAM-3)
    Adam,
    /// (CONV-1) by itself.
    Convolution,
    /// (BN-1) to (BN-3) by themselves.
    BatchNorm,
    /// (MAXPOOL-1)
    MaxPool,
    /// (AVGPOOL-1)
    AvgPool,
    /// A convolution of a block, its norm and its ReLU: (BLOCK-1).
    BlockStage,
    /// The convolution and the norm of a block's shortcut.
    Shortcut,
    /// (BLOCK-2)
    BlockOutput,
    /// The input of a block or of a network.
    BlockInput,
    /// The convolution before the blocks of a network, its norm, `ReLU` and pool: (RESNET-1).
    FirstConvolution,
    /// A block of a network: (RESNET-2).
    NetworkBlock,
    /// A module of the convolutional part of a VGG: (VGG-1).
    VggFeatures,
    /// A module of the linear part of a VGG: (VGG-2).
    VggClassifier,
    /// φ
    Phi,
    /// The step of a tensor that no program has.
    Unknown,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::ImageSide => "image side",
            Self::ImageEmbedding => "image embedding",
            Self::Words => "words",
            Self::GruLayer => "gru layer",
            Self::State => "state",
            Self::LastState => "last state",
            Self::CaptionSide => "caption side",
            Self::CaptionEmbedding => "caption embedding",
            Self::Projection => "projection",
            Self::Normalisation => "normalisation",
            Self::Scores => "scores",
            Self::Loss => "loss",
            Self::GruInput => "gru input",
            Self::LossesOfTheSteps => "losses of the steps",
            Self::Clipping => "clipping",
            Self::Adam => "adam",
            Self::Convolution => "convolution",
            Self::BatchNorm => "batch norm",
            Self::MaxPool => "max pool",
            Self::AvgPool => "average pool",
            Self::BlockStage => "block stage",
            Self::Shortcut => "shortcut",
            Self::BlockOutput => "block output",
            Self::BlockInput => "block input",
            Self::FirstConvolution => "first convolution",
            Self::NetworkBlock => "layer",
            Self::VggFeatures => "features",
            Self::VggClassifier => "classifier",
            Self::Phi => "φ",
            Self::Unknown => "unknown",
        }
    }
}

/// Forward steps, then gradients, then the optimiser.
const FORWARD: [Step; 24] = [
    Step::ImageSide,
    Step::ImageEmbedding,
    Step::Words,
    Step::GruLayer,
    Step::State,
    Step::LastState,
    Step::CaptionSide,
    Step::CaptionEmbedding,
    Step::Projection,
    Step::Normalisation,
    Step::Scores,
    Step::Loss,
    Step::Convolution,
    Step::BatchNorm,
    Step::MaxPool,
    Step::VggFeatures,
    Step::AvgPool,
    Step::VggClassifier,
    Step::BlockStage,
    Step::Shortcut,
    Step::BlockOutput,
    Step::FirstConvolution,
    Step::NetworkBlock,
    Step::Phi,
];
const BACKWARD: [Step; 24] = [
    Step::Scores,
    Step::ImageEmbedding,
    Step::CaptionEmbedding,
    Step::Normalisation,
    Step::Projection,
    Step::ImageSide,
    Step::CaptionSide,
    Step::LastState,
    Step::GruLayer,
    Step::State,
    Step::GruInput,
    Step::Words,
    Step::Convolution,
    Step::BatchNorm,
    Step::MaxPool,
    Step::VggClassifier,
    Step::AvgPool,
    Step::VggFeatures,
    Step::BlockOutput,
    Step::Shortcut,
    Step::BlockStage,
    Step::NetworkBlock,
    Step::FirstConvolution,
    Step::BlockInput,
];
const AFTER: [Step; 3] = [Step::LossesOfTheSteps, Step::Clipping, Step::Adam];

/// More blocks than a layer of a network has.
const BLOCKS: usize = 1000;

/// A step, or the gradients of its results. Its text is `backward: gru layer 1`, for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// The step.
    pub step: Step,
    /// The layer of a [`Step::GruLayer`], the number of a [`Step::BlockStage`] or of a VGG's module; for a
    /// [`Step::NetworkBlock`] [`BLOCKS`] times its layer, plus its number in it.
    pub layer: usize,
    /// Whether it computes gradients, not values.
    pub backward: bool,
}

impl Stage {
    /// The stage of a tensor that no program has.
    pub(crate) const UNKNOWN: Self = Self::forward(Step::Unknown);

    /// The values of a step.
    #[must_use]
    pub(crate) const fn forward(step: Step) -> Self {
        Self { step, layer: 0, backward: false }
    }

    /// The gradients of the same values.
    #[must_use]
    pub(crate) const fn gradient(self) -> Self {
        Self { backward: true, ..self }
    }

    /// A key that sorts stages by the data flow. In the backward pass the top layer comes first.
    #[must_use]
    pub(crate) fn rank(self) -> (usize, usize) {
        let place = |order: &[Step], offset| {
            order.iter().position(|&step| step == self.step).map(|place: usize| offset + place)
        };
        let forward = || place(&FORWARD, 0).or_else(|| place(&AFTER, FORWARD.len() + BACKWARD.len()));
        let rank = if self.backward { place(&BACKWARD, FORWARD.len()) } else { forward() };
        (rank.unwrap_or(usize::MAX), if self.backward { usize::MAX - self.layer } else { self.layer })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backward = if self.backward { "backward: " } else { "" };
        let layer = match self.step {
            Step::GruLayer | Step::BlockStage | Step::VggFeatures | Step::VggClassifier => format!(" {}", self.layer),
            Step::NetworkBlock => format!(" {}.{}", self.layer / BLOCKS, self.layer % BLOCKS),
            _ => String::new(),
        };
        f.pad(&format!("{backward}{}{layer}", self.step.name()))
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Program {
    /// The stage of the data flow that computes a tensor; [`Stage::UNKNOWN`] if no program has this name.
    #[must_use]
    pub(crate) fn stage(self, name: &str) -> Stage {
        let (backward, name) = name.strip_prefix("grad.").map_or((false, name), |plain| (true, plain));
        let (step, layer) = if self.is_of_pictures() {
            self.step_of_pictures(name)
        } else if let Some(layer) = gru_layer(name) {
            (Step::GruLayer, layer)
        } else {
            (self.step(name), 0)
        };
        Stage { step, layer, backward: backward && step != Step::Unknown }
    }

    /// The step of a tensor of a program of pictures, and the number of a block's stage.
    fn step_of_pictures(self, name: &str) -> (Step, usize) {
        let (own, names): (Step, &[&str]) = match self {
            Self::Conv => (Step::Convolution, &["out.y", "weight", "bias", "in.x"]),
            Self::MaxPool => (Step::MaxPool, &["mid.index", "out.y", "in.x"]),
            Self::AvgPool => (Step::AvgPool, &["out.y", "in.x"]),
            Self::BatchNorm => (
                Step::BatchNorm,
                &["mid.mean", "mid.var", "out.running_mean", "out.running_var", "out.y", "weight", "bias", "in.x"],
            ),
            Self::Resnet => return step_of_resnet(name),
            Self::Vgg => return step_of_vgg(name),
            _ => return step_of_block(name),
        };
        (if names.contains(&name) { own } else { Step::Unknown }, 0)
    }

    /// The step of a tensor whose name has no layer.
    fn step(self, name: &str) -> Step {
        let below = |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        match name {
            EMBED | "mid.words" => Step::Words,
            "mid.last" | "out.last" => Step::LastState,
            "out.h_next" | "in.h" | "in.h0" => Step::State,
            "in.x" if matches!(self, Self::Gru | Self::GruCell) => Step::GruInput,
            "mid.a" | "mid.c" | "mid.r" | "mid.z" | "mid.n" if self == Self::GruCell => Step::GruLayer,
            _ if below(FC) && self == Self::Linear => Step::Projection,
            _ if below(FC) || below("mid.image") || name == "in.images" => Step::ImageSide,
            _ if below(PROJ) || below("mid.caption") => Step::CaptionSide,
            "out.image_embedding" | "in.image_embedding" => Step::ImageEmbedding,
            "out.caption_embedding" | "in.caption_embedding" => Step::CaptionEmbedding,
            "out.scores" | "in.scores" => Step::Scores,
            "mid.norm" | "out.y" | "in.x" if self == Self::L2norm => Step::Normalisation,
            "out.y" | "in.x" if self == Self::Linear => Step::Projection,
            "mid.cost_s" | "mid.cost_im" | "mid.hardest_s" | "mid.hardest_im" | "mid.active_s" | "mid.active_im"
            | "mid.weight_s" | "mid.weight_im" | "out.loss" => Step::Loss,
            "opt.losses" => Step::LossesOfTheSteps,
            "opt.norms" | "opt.clip" => Step::Clipping,
            _ if ["opt.m.", "opt.v.", "opt.param."].iter().any(|start| name.starts_with(start)) => Step::Adam,
            _ => Step::Unknown,
        }
    }
}

/// A name without `mid.` or `out.`.
fn plain(name: &str) -> &str {
    ["mid.", "out."].iter().find_map(|start| name.strip_prefix(start)).unwrap_or(name)
}

fn step_of_block(name: &str) -> (Step, usize) {
    let part = plain(name).split('.').next().unwrap_or(name);
    let number = ["conv", "bn", "relu"].iter().find_map(|layer| part.strip_prefix(layer)?.parse().ok());
    match (name, part, number) {
        ("mid.sum" | "out.y", ..) => (Step::BlockOutput, 0),
        ("in.x", ..) => (Step::BlockInput, 0),
        (_, "downsample", _) => (Step::Shortcut, 0),
        (.., Some(number)) => (Step::BlockStage, number),
        _ => (Step::Unknown, 0),
    }
}

fn step_of_resnet(name: &str) -> (Step, usize) {
    let mut parts = plain(name).split('.');
    let part = parts.next().unwrap_or_default();
    let mut block = || -> Option<usize> {
        let (layer, number): (usize, usize) = (part.strip_prefix("layer")?.parse().ok()?, parts.next()?.parse().ok()?);
        (number < BLOCKS).then(|| layer.checked_mul(BLOCKS)?.checked_add(number))?
    };
    match (name, part) {
        ("out.phi", _) => (Step::Phi, 0),
        ("in.x", _) => (Step::BlockInput, 0),
        (_, "conv1" | "bn1" | "relu1" | "maxpool") => (Step::FirstConvolution, 0),
        _ => block().map_or((Step::Unknown, 0), |block| (Step::NetworkBlock, block)),
    }
}

fn step_of_vgg(name: &str) -> (Step, usize) {
    let mut parts = plain(name).split('.');
    let (part, number) = (parts.next().unwrap_or_default(), parts.next().and_then(|number| number.parse().ok()));
    match (name, part, number) {
        ("out.phi", ..) => (Step::Phi, 0),
        ("in.x", ..) => (Step::BlockInput, 0),
        ("mid.avgpool", ..) => (Step::AvgPool, 0),
        (_, "features", Some(number)) => (Step::VggFeatures, number),
        (_, "classifier", Some(number)) => (Step::VggClassifier, number),
        _ => (Step::Unknown, 0),
    }
}

/// k of `mid.l{k}.…` and of `txt_enc.rnn.…_l{k}`.
fn gru_layer(name: &str) -> Option<usize> {
    let values = name.strip_prefix("mid.l").and_then(|rest| rest.split_once('.')).map(|(layer, _)| layer);
    let weights = || name.strip_prefix("txt_enc.rnn.").and_then(|rest| rest.rsplit_once("_l")).map(|(_, layer)| layer);
    values.or_else(weights)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_the_data_flow() {
        let layer = |layer| Stage { layer, ..Stage::forward(Step::GruLayer) };
        let [words, scores, adam] = [Step::Words, Step::Scores, Step::Adam].map(Stage::forward);
        let mut stages =
            [Stage::UNKNOWN, adam, layer(0).gradient(), layer(1), layer(1).gradient(), words, layer(0), scores];
        stages.sort_by_key(|stage| stage.rank());
        let expected = [
            "words",
            "gru layer 0",
            "gru layer 1",
            "scores",
            "backward: gru layer 1",
            "backward: gru layer 0",
            "adam",
            "unknown",
        ];
        assert_eq!(stages.map(|stage| stage.to_string()), expected);
    }

    #[test]
    fn a_tensor_that_no_program_has_is_of_no_stage() {
        let known = [
            (Program::Model, "grad.txt_enc.rnn.bias_hh_l1", "backward: gru layer 1"),
            (Program::Model, "mid.l12.h", "gru layer 12"),
            (Program::GruCell, "grad.mid.z", "backward: gru layer 0"),
            (Program::Linear, "img_enc.fc.bias", "projection"),
            (Program::Model, "grad.img_enc.fc.bias", "backward: image side"),
            (Program::Optimiser, "opt.param.p0", "adam"),
            (Program::Conv, "grad.bias", "backward: convolution"),
            (Program::BatchNorm, "out.running_var", "batch norm"),
            (Program::Block, "grad.mid.relu2", "backward: block stage 2"),
            (Program::Block, "out.bn3.running_mean", "block stage 3"),
            (Program::Block, "grad.downsample.0.weight", "backward: shortcut"),
            (Program::Block, "grad.in.x", "backward: block input"),
            (Program::Resnet, "mid.maxpool", "first convolution"),
            (Program::Resnet, "out.layer2.10.bn1.running_var", "layer 2.10"),
            (Program::Resnet, "grad.layer1.0.downsample.0.weight", "backward: layer 1.0"),
            (Program::Vgg, "mid.features.3", "features 3"),
            (Program::Vgg, "grad.classifier.3.bias", "backward: classifier 3"),
            (Program::Vgg, "out.phi", "φ"),
        ];
        for (program, name, stage) in known {
            assert_eq!(program.stage(name).to_string(), stage, "{name}");
        }
        for name in ["mid.lx.h", "mid.l.h", "out.losses", "grad.nothing", "opt.k.x", "", "txt_enc.rnn.bias"] {
            assert_eq!(Program::Model.stage(name), Stage::UNKNOWN, "{name}");
        }
        // Another program's tensor is not this one's.
        assert_eq!(Program::Loss.stage("mid.z"), Stage::UNKNOWN);
        for name in ["mid.mean", "conv.weight", "mid.bn", "mid.convx"] {
            assert_eq!(Program::Conv.stage(name), Stage::UNKNOWN, "{name}");
            assert_eq!(Program::Block.stage(name), Stage::UNKNOWN, "{name}");
            assert_eq!(Program::Resnet.stage(name), Stage::UNKNOWN, "{name}");
            assert_eq!(Program::Vgg.stage(name), Stage::UNKNOWN, "{name}");
        }
    }
}
