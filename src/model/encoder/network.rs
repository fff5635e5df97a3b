//! The table of networks, to read beside the papers.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Encoder;
use crate::error::Error;
use crate::nn::{Module, Role};

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) family: Family,
    /// The channels of every layer: of its convolutions of 3 × 3.
    planes: &'static [usize],
    /// How many blocks (VGG: convolutions) every layer has.
    pub(super) blocks: &'static [usize],
    /// The rows and columns of the pictures that it is made for.
    side: usize,
}

/// What the layers of a network consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Convolutions with ReLU, and a max pool after each layer; then two linear maps to so many features.
    Vgg { features: usize },
    /// Residual blocks after a first convolution; the mean of all pixels.
    ResNet { block: BlockForm, first: First, shortcut: Shortcut },
}

/// The convolutions of a residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockForm {
    /// 3 × 3, 3 × 3.
    Basic,
    /// 1 × 1, 3 × 3, 1 × 1 to four times the planes.
    Bottleneck,
}

/// What comes before the blocks; each has a norm and a ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// 7 × 7 with stride 2, and a max pool of 3 × 3 with stride 2: for pictures of some 224 × 224.
    Seven,
    /// 3 × 3 with this stride: for small pictures.
    Three { stride: usize },
}

/// The shortcut of a block whose output has another shape than its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortcut {
    /// A convolution of 1 × 1 and a norm.
    Projection,
    /// Every second pixel and channels of zeros.
    Zeros,
}

const fn resnet(block: BlockForm, first: First, shortcut: Shortcut) -> Family {
    Family::ResNet { block, first, shortcut }
}

/// Simonyan and Zisserman 2015, table 1, column E; He et al. 2016, table 1, and section 4.2 for the net of 20 layers.
/// The net of 8 layers is our own, for the scenes.
#[rustfmt::skip]
const NETWORKS: [Table; 6] = [
    Table { name: "vgg19", family: Family::Vgg { features: 4096 },
            planes: &[64, 128, 256, 512, 512], blocks: &[2, 2, 4, 4, 4], side: 224 },
    Table { name: "resnet18", family: resnet(BlockForm::Basic, First::Seven, Shortcut::Projection),
            planes: &[64, 128, 256, 512], blocks: &[2, 2, 2, 2], side: 224 },
    Table { name: "resnet50", family: resnet(BlockForm::Bottleneck, First::Seven, Shortcut::Projection),
            planes: &[64, 128, 256, 512], blocks: &[3, 4, 6, 3], side: 224 },
    Table { name: "resnet152", family: resnet(BlockForm::Bottleneck, First::Seven, Shortcut::Projection),
            planes: &[64, 128, 256, 512], blocks: &[3, 8, 36, 3], side: 224 },
    Table { name: "resnet20", family: resnet(BlockForm::Basic, First::Three { stride: 1 }, Shortcut::Zeros),
            planes: &[16, 32, 64], blocks: &[3, 3, 3], side: 32 },
    Table { name: "resnet8", family: resnet(BlockForm::Basic, First::Three { stride: 2 }, Shortcut::Projection),
            planes: &[16, 32, 64], blocks: &[1, 1, 1], side: 48 },
];

/// The most layers of a network.
const LAYERS: usize = 5;
/// The most channels that a layer may have.
const MOST: usize = 1 << 14;

/// An image encoder's architecture: a row of the table, and what is different from it.
///
/// As text: `resnet152`; `resnet50,planes=32-64-128-256,first=64` has half as many channels after its first
/// convolution, which has as many as the first layer without `first`; `resnet50,stride=1x1` has the stride of a
/// bottleneck on the first convolution of 1 × 1, as He et al. have it, and not on that of 3 × 3, as torchvision
/// does.
///
/// | name | | F | paper |
/// |---|---|---|---|
/// | `vgg19` | fc7, after its ReLU | 4096 | Simonyan and Zisserman 2015, table 1 E |
/// | `resnet18`, `resnet50`, `resnet152` | pool5 | 512, 2048, 2048 | He et al. 2016, table 1 |
/// | `resnet20` | the mean of the last pixels | 64 | He et al. 2016, section 4.2 |
/// | `resnet8` | the mean of the last pixels | 64 | none: for the scenes |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    table: &'static Table,
    /// The channels of every layer; 0 after the last.
    planes: [usize; LAYERS],
    /// The channels before the first block, if they are not those of the first layer.
    first: Option<usize>,
    /// The stride of a bottleneck is on its first convolution.
    early_stride: bool,
}

impl Network {
    fn of(table: &'static Table) -> Self {
        let mut planes = [0; LAYERS];
        planes[..table.planes.len()].copy_from_slice(table.planes);
        Self { table, planes, first: None, early_stride: false }
    }

    /// A network that is not in the table, for tests.
    #[cfg(test)]
    fn small(family: Family, planes: &[usize], blocks: &[usize]) -> Self {
        let (planes, blocks) = (planes.to_vec().leak(), blocks.to_vec().leak());
        Self::of(Box::leak(Box::new(Table { name: "small", family, planes, blocks, side: 224 })))
    }

    /// A small VGG with so many convolutions in each layer, and F.
    #[cfg(test)]
    pub(crate) fn small_vgg(planes: &[usize], convolutions: &[usize], features: usize) -> Self {
        Self::small(Family::Vgg { features }, planes, convolutions)
    }

    /// A small residual network: the planes and the number of blocks of each layer, the channels before the first
    /// block, whether it is for large pictures.
    #[cfg(test)]
    pub(crate) fn small_resnet(planes: &[usize], blocks: &[usize], first: usize, large: bool) -> Self {
        let family =
            resnet(BlockForm::Basic, if large { First::Seven } else { First::Three { stride: 1 } }, Shortcut::Zeros);
        Self { first: Some(first), ..Self::small(family, planes, blocks) }
    }

    /// With other blocks: bottlenecks, shortcuts that are projected, a bottleneck's stride on its first convolution.
    #[cfg(test)]
    pub(crate) fn with_blocks(self, bottleneck: bool, projected: bool, early_stride: bool) -> Self {
        let Family::ResNet { first, .. } = self.table.family else { unreachable!("a residual network") };
        let block = if bottleneck { BlockForm::Bottleneck } else { BlockForm::Basic };
        let shortcut = if projected { Shortcut::Projection } else { Shortcut::Zeros };
        let family = resnet(block, first, shortcut);
        Self { early_stride, first: self.first, ..Self::small(family, self.table.planes, self.table.blocks) }
    }

    /// The names of all networks.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NETWORKS.iter().map(|table| table.name)
    }

    /// F: the length of a picture's feature vector.
    #[must_use]
    pub fn features(&self) -> usize {
        match self.table.family {
            Family::Vgg { features } => features,
            Family::ResNet { .. } => self.outputs(self.planes().len() - 1),
        }
    }

    /// The rows and columns of the pictures that it is made for.
    #[must_use]
    pub(crate) fn side(&self) -> usize {
        self.table.side
    }

    /// How many numbers are trained.
    #[must_use]
    pub(crate) fn parameters(&self) -> usize {
        let mut count = 0;
        // An array of `()` has a shape and no bytes.
        Encoder::<()>::zeros(*self)
            .each(|_, tensor, x| count += if tensor.role == Role::Trained { x.len() } else { 0 });
        count
    }

    /// The multiplications of a forward pass for a picture of so many rows and columns: of the first convolution, and
    /// of all other convolutions and linear maps.
    ///
    /// # Panics
    ///
    /// If the picture is too small.
    #[must_use]
    pub(crate) fn multiplications(&self, size: [usize; 2]) -> [usize; 2] {
        Encoder::<()>::zeros(*self).multiplications(size)
    }

    pub(super) fn table(&self) -> &'static Table {
        self.table
    }

    /// The channels of the convolutions of every layer.
    pub(super) fn planes(&self) -> &[usize] {
        &self.planes[..self.table.planes.len()]
    }

    /// The channels before the first block.
    pub(super) fn first(&self) -> usize {
        self.first.unwrap_or(self.planes[0])
    }

    /// The channels of a layer's output.
    pub(super) fn outputs(&self, layer: usize) -> usize {
        let bottleneck = matches!(self.table.family, Family::ResNet { block: BlockForm::Bottleneck, .. });
        if bottleneck { 4 * self.planes[layer] } else { self.planes[layer] }
    }

    /// A bottleneck's stride as those of its first two convolutions.
    pub(super) fn strides(&self, stride: usize) -> [usize; 2] {
        if self.early_stride { [stride, 1] } else { [1, stride] }
    }

    /// `planes=32-64-128-256`
    fn parse_planes(&mut self, text: &str) -> Option<()> {
        let planes: Vec<usize> = text.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
        let fits = planes.len() == self.planes().len() && planes.iter().all(|planes| (1..=MOST).contains(planes));
        // Without parameters, a shortcut has as many channels of zeros before x as after it.
        let zeros = matches!(self.table.family, Family::ResNet { shortcut: Shortcut::Zeros, .. });
        let grows = planes.windows(2).all(|pair| pair[1] >= pair[0] && (pair[1] - pair[0]) % 2 == 0);
        if !fits || (zeros && !grows) {
            return None;
        }
        self.planes[..planes.len()].copy_from_slice(&planes);
        Some(())
    }

    fn parse_option(&mut self, option: &str) -> Option<()> {
        match option.split_once('=')? {
            ("planes", planes) => self.parse_planes(planes),
            ("first", first) => {
                let first = first.parse().ok().filter(|first| (1..=MOST).contains(first))?;
                let Family::ResNet { shortcut: Shortcut::Projection, .. } = self.table.family else { return None };
                self.first = Some(first);
                Some(())
            }
            ("stride", stride @ ("1x1" | "3x3")) => {
                let bottleneck = matches!(self.table.family, Family::ResNet { block: BlockForm::Bottleneck, .. });
                self.early_stride = stride == "1x1";
                bottleneck.then_some(())
            }
            _ => None,
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    /// # Errors
    ///
    /// With the names and options that there are.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let Some(table) = NETWORKS.iter().find(|table| table.name == name) else {
            let names: Vec<&str> = Self::names().collect();
            return Err(Error::config("encoder", names.join(", "), name));
        };
        let mut network = Self::of(table);
        for option in parts {
            if network.parse_option(option).is_none() {
                let planes: Vec<String> = table.planes.iter().map(ToString::to_string).collect();
                let bottleneck = matches!(table.family, Family::ResNet { block: BlockForm::Bottleneck, .. });
                let projects = matches!(table.family, Family::ResNet { shortcut: Shortcut::Projection, .. });
                let first = if projects { ", first=N" } else { "" };
                let stride = if bottleneck { ", stride=1x1 or stride=3x3" } else { "" };
                let expected = format!("planes={} or as many other numbers{first}{stride}", planes.join("-"));
                return Err(Error::config(&format!("encoder {name}"), expected, option));
            }
        }
        network.first = network.first.filter(|&first| first != network.planes[0]);
        Ok(network)
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.table.name)?;
        if self.planes() != self.table.planes {
            let planes: Vec<String> = self.planes().iter().map(ToString::to_string).collect();
            write!(f, ",planes={}", planes.join("-"))?;
        }
        if let Some(first) = self.first {
            write!(f, ",first={first}")?;
        }
        f.write_str(if self.early_stride { ",stride=1x1" } else { "" })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    /// The numbers of torchvision 0.29 without the last layer, and F. Those of `resnet8` are from its table by hand.
    #[test]
    fn the_table_has_the_parameters_and_features_of_torchvision() {
        let counts = [
            ("vgg19", 139_570_240, 0, 4096),
            ("resnet18", 11_176_512, 9_600, 512),
            ("resnet50", 23_508_032, 53_120, 2048),
            ("resnet152", 58_143_808, 151_424, 2048),
            ("resnet20", 269_072, 1_376, 64),
            ("resnet8", 77_392, 672, 64),
        ];
        assert!(Network::names().eq(counts.map(|(name, ..)| name)));
        for (name, trained, running, features) in counts {
            let (mut found, encoder) = ((0, 0), Encoder::<f32>::zeros(network(name)));
            encoder.each(|_, tensor, x| match tensor.role {
                Role::Trained => found.0 += x.len(),
                Role::Buffer => found.1 += x.len(),
            });
            assert_eq!((found, network(name).features()), ((trained, running), features), "{name}");
        }
    }

    /// 10⁹ multiplications for 224 × 224, as torchvision's table of its weights gives them, and the classes.
    #[test]
    fn the_multiplications_are_those_of_torchvision() {
        for (name, expected) in [("resnet18", 1.814), ("resnet50", 4.089), ("resnet152", 11.514), ("vgg19", 19.632)] {
            let (network, classes) = (network(name), 1000);
            let [first, others] = network.multiplications([224, 224]);
            let found = (first + others + network.features() * classes) as f64 / 1e9;
            assert!((found - expected).abs() <= 0.0005, "{name}: {found}");
            let conv = if name == "vgg19" { 224 * 224 * 9 } else { 112 * 112 * 49 };
            assert_eq!(first, conv * 64 * 3);
        }
        assert_eq!(network("resnet20,planes=1-1-1").multiplications([4, 4])[1], 9 * (16 * 6 + 4 * 6 + 6));
    }

    #[test]
    fn a_network_is_read_as_it_is_written() {
        for text in [
            "vgg19",
            "resnet152,stride=1x1",
            "resnet50,planes=32-64-128-256,first=64,stride=1x1",
            "resnet18,planes=4-6-8-10",
        ] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("resnet50,first=64,stride=3x3,planes=64-128-256-512").to_string(), "resnet50");
        let text = "resnet50,first=64,planes=32-64-128-256";
        assert_eq!(network(text).to_string(), "resnet50,planes=32-64-128-256,first=64", "whichever comes first");
        let json = serde_json::to_string(&network("resnet18,planes=4-6-8-10")).unwrap();
        assert_eq!(json, "\"resnet18,planes=4-6-8-10\"");
        assert_eq!(serde_json::from_str::<Network>(&json).unwrap(), network("resnet18,planes=4-6-8-10"));
    }

    #[test]
    fn what_is_no_network_is_an_error_with_what_there_is() {
        let message = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        let expected = "encoder = \"resnet101\": expected vgg19, resnet18, resnet50, resnet152, resnet20, resnet8";
        assert_eq!(message("resnet101").replace("resnet101:", "\"resnet101\":"), expected);
        for wrong in
            ["planes=1-2-3", "planes=1-2-3-0", "planes=1-2-3-4-5", "planes=1-2-3-x", "stride=2x2", "planes", ""]
        {
            let found = message(&format!("resnet50,{wrong}"));
            let expected = "expected planes=64-128-256-512 or as many other numbers, first=N, stride=1x1 or stride=3x3";
            assert!(found.starts_with("encoder resnet50 = ") && found.ends_with(expected), "{found}");
        }
        assert!(message("resnet18,stride=1x1").ends_with("as many other numbers, first=N"));
        assert!(message("resnet20,planes=16-19-64").contains("planes"), "as many zeros before as after");
    }
}
