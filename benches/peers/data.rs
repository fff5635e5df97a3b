//! The file that every peer reads.

use std::path::Path;

use anyhow::Result;
use vsepp::bench::{Counts, Embeddings, SEED, batch};
use vsepp::files::TensorWriter;
use vsepp::model::{Batch, Parameters};
use vsepp::nn::{Module, PrefixTree};

use super::{Options, What};

/// The data of a side, drawn with a fixed seed, the same in every process.
pub(super) enum Data {
    Step(Batch<f32>),
    Encode(Vec<Vec<u32>>),
    Evaluate(Embeddings),
}

impl Data {
    pub(super) fn draw(options: &Options) -> Result<Self> {
        let (config, architecture) = options.size.settings();
        let captions = |number| options.captions().draw(architecture.vocab_size, number);
        Ok(match options.what {
            What::Step => Self::Step(batch(&architecture, captions(config.batch_size)?)),
            What::Encode => Self::Encode(captions(options.encode)?),
            What::Evaluate => Self::Evaluate(Embeddings::new(options.evaluate, architecture.embed_size)?),
        })
    }
}

/// Writes the data and the initial parameters of all sides; counts the captions' states.
pub(super) fn write(options: &Options, file: &Path) -> Result<Option<Counts>> {
    let mut writer = TensorWriter::default();
    let captions = match Data::draw(options)? {
        Data::Step(batch) => {
            writer.add("images", &batch.images().features()?.into_dyn());
            Some(batch.captions().to_vec())
        }
        Data::Encode(captions) => Some(captions),
        Data::Evaluate(embeddings) => {
            writer.add("images", &embeddings.images.view().into_dyn());
            writer.add("captions", &embeddings.captions.view().into_dyn());
            None
        }
    };
    if let Some(captions) = &captions {
        let longest = captions.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |caption: &Vec<u32>| -> Vec<i64> {
            caption.iter().map(|&word| i64::from(word)).chain(std::iter::repeat(0)).take(longest).collect()
        };
        let ids: Vec<i64> = captions.iter().flat_map(padded).collect();
        writer.add_integers("captions", &[captions.len(), longest], &ids)?;
        let lengths = captions.iter().map(|caption| i64::try_from(caption.len())).collect::<Result<Vec<_>, _>>()?;
        writer.add_integers("lengths", &[captions.len()], &lengths)?;
        let parameters = Parameters::<f32>::init(&options.size.settings().1, SEED);
        parameters.each(|path, _, tensor| writer.add(path.to_string(), &tensor));
    }
    writer.write_safetensors(file, None)?;
    Ok(captions.map(|captions| Counts::of(&PrefixTree::new(&captions))))
}
