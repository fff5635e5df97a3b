//! The architecture: the sizes and switches that fix what a model computes.

use serde::{Deserialize, Serialize};

use super::encoder::Network;
use crate::error::{Error, Result};
use crate::similarity::Measure;

/// Sizes and switches that fix what a model computes; kept in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// V
    pub vocab_size: usize,
    /// φ: the image encoder; none if the images are feature vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Network>,
    /// F
    pub img_dim: usize,
    /// E
    pub word_dim: usize,
    /// H; equal to D unless there is a caption projection.
    pub hidden_size: usize,
    /// D
    pub embed_size: usize,
    /// Layers of the GRU.
    pub num_layers: usize,
    /// Whether the caption side has a projection [H → D].
    pub caption_projection: bool,
    /// The similarity.
    pub measure: Measure,
    /// |·| of both embeddings.
    pub use_abs: bool,
    /// No L2 normalisation on the image side.
    pub no_imgnorm: bool,
}

impl Architecture {
    /// The most parameters that are accepted. Training holds four numbers for each: its value, its gradient
    /// and two moments.
    const LARGEST: u128 = 1_000_000_000;

    /// How many numbers are trained.
    #[must_use]
    pub fn parameters(&self) -> u128 {
        // Sizes from a file may be anything: the sum saturates instead of wrapping around.
        let [v, f, e, h, d, layers] = [
            self.vocab_size,
            self.img_dim,
            self.word_dim,
            self.hidden_size,
            self.embed_size,
            self.num_layers.saturating_sub(1),
        ]
        .map(|size| size as u128);
        // The GRU's first layer, then those above it: W_ih, W_hh and two biases for three gates.
        let first = (3 * h).saturating_mul(e + h + 2);
        let above = (3 * h).saturating_mul(h + h + 2).saturating_mul(layers);
        let projection = if self.caption_projection { d.saturating_mul(h + 1) } else { 0 };
        let encoder = self.encoder.map_or(0, |network| network.parameters() as u128);
        [encoder, d.saturating_mul(f + 1), v.saturating_mul(e), first, above, projection]
            .into_iter()
            .fold(0, u128::saturating_add)
    }

    /// Whether the sizes are those of a model that can be held.
    ///
    /// # Errors
    ///
    /// If a size is 0; if there are too many parameters, and how many; if H differs from D without a caption
    /// projection; or if F is not that of the encoder.
    pub(crate) fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("img_dim", self.img_dim),
            ("word_dim", self.word_dim),
            ("hidden_size", self.hidden_size),
            ("embed_size", self.embed_size),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::config(key, "at least 1", 0));
        }
        let parameters = self.parameters();
        if self.num_layers == 0 || parameters > Self::LARGEST {
            let problem = format!(
                "a model with V = {}, E = {}, H = {}, D = {}, F = {} and {} layer(s) would have {parameters} parameters; \
                 expected at least one layer and at most {} parameters",
                self.vocab_size,
                self.word_dim,
                self.hidden_size,
                self.embed_size,
                self.img_dim,
                self.num_layers,
                Self::LARGEST
            );
            return Err(Error::mismatch(problem));
        }
        if let Some(network) = self.encoder.filter(|network| network.features() != self.img_dim) {
            return Err(Error::config("img_dim", format!("{}, as {network} gives", network.features()), self.img_dim));
        }
        if !self.caption_projection && self.hidden_size != self.embed_size {
            let expected = format!("embed_size = {}, or caption_projection = true", self.embed_size);
            return Err(Error::config("hidden_size", expected, self.hidden_size));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Encoder;
    use crate::nn::Module;

    #[test]
    fn a_model_of_any_size_can_be_counted() {
        let largest = Architecture {
            encoder: None,
            vocab_size: usize::MAX,
            img_dim: usize::MAX,
            word_dim: usize::MAX,
            hidden_size: usize::MAX,
            embed_size: usize::MAX,
            num_layers: usize::MAX,
            caption_projection: true,
            measure: Measure::Cosine,
            use_abs: false,
            no_imgnorm: false,
        };
        assert_eq!(largest.parameters(), u128::MAX);
        assert!(largest.check().unwrap_err().to_string().contains("parameters"));
        let none = Architecture { word_dim: 0, ..largest };
        assert_eq!(none.check().unwrap_err().to_string(), "word_dim = 0: expected at least 1");
        let two = Architecture {
            vocab_size: 9,
            img_dim: 5,
            word_dim: 3,
            hidden_size: 4,
            embed_size: 6,
            num_layers: 1,
            caption_projection: false,
            ..largest
        };
        let small: Network = "resnet18,planes=1-1-1-2".parse().unwrap();
        let (without, with) = (two.parameters(), Architecture { encoder: Some(small), ..two }.parameters());
        assert_eq!(with - without, Encoder::<f32>::zeros(small).count() as u128 - 2 * 25, "without running statistics");
        let other = Architecture { encoder: Some(small), embed_size: 4, ..two }.check().unwrap_err().to_string();
        assert_eq!(other, "img_dim = 5: expected 2, as resnet18,planes=1-1-1-2 gives");
        let problem = "hidden_size = 4: expected embed_size = 6, or caption_projection = true";
        assert_eq!(two.check().unwrap_err().to_string(), problem);
    }
}
