//! This crate's side of `cargo bench --bench peers`: one piece of work, and its data, which the other sides read
//! from a file.

use std::path::Path;
use std::str::FromStr;

use ndarray::ArrayView2;
use serde_json::{Value, json};

use super::SEED;
use super::captions::batch;
use super::encoder::useful_operations;
use super::machine::{cores, load, processor};
use super::measure::{Embeddings, Operands};
use super::run::Options;
use super::size::Model;
use super::subject::{Training, encoder};
use super::work::{Counts, Product, compared};
use crate::error::{Error, Result};
use crate::files::TensorWriter;
use crate::model::{Batch, Parameters, Vse};
use crate::nn::{Module, PrefixTree};
use crate::simd;

/// The work that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A training step.
    Step,
    /// Captions to joint embeddings.
    Encode,
    /// Pictures to feature vectors.
    Encoder,
    /// Ranks in both directions, from embeddings.
    Evaluate,
    /// A product.
    Product,
    /// A product by the crate matrixmultiply.
    Matrixmultiply,
}

impl Work {
    /// The names on a command line.
    pub(crate) const NAMES: [(&'static str, Self); 6] = [
        ("step", Self::Step),
        ("encode", Self::Encode),
        ("encoder", Self::Encoder),
        ("evaluate", Self::Evaluate),
        ("product", Self::Product),
        ("matrixmultiply", Self::Matrixmultiply),
    ];
}

impl FromStr for Work {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let work = Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, work)| work);
        work.ok_or_else(|| Error::config("serve", Self::NAMES.map(|(known, _)| known).join(", "), name))
    }
}

/// The data of a piece of work, drawn with a fixed seed.
pub(crate) struct Data {
    model: Model,
    kind: Kind,
}

enum Kind {
    Step(Batch<f32>),
    Encode(Vec<Vec<u32>>),
    Encoder(Batch<f32>),
    Evaluate(Embeddings),
    Product(Operands, Work),
}

impl Data {
    /// Draws the data.
    ///
    /// # Errors
    ///
    /// If a number is out of range, or if the captions cannot be read.
    pub(crate) fn draw(work: Work, product: &str, options: &Options) -> Result<Self> {
        options.check()?;
        let model = options.models.first().ok_or_else(|| Error::mismatch("expected a size, found none"))?.clone();
        let captions = |number| model.captions(&options.captions, number);
        let kind = match work {
            Work::Step => Kind::Step(batch(&model.architecture, captions(model.config.batch_size)?)),
            Work::Encode => Kind::Encode(captions(options.number_to_encode(&model)?)?),
            Work::Encoder => Kind::Encoder(batch(&model.architecture, captions(model.config.batch_size)?)),
            Work::Evaluate => Kind::Evaluate(Embeddings::new(options.evaluate, model.architecture.embed_size)?),
            Work::Product | Work::Matrixmultiply => Kind::Product(Operands::new(&named(product)?), work),
        };
        Ok(Self { model, kind })
    }

    /// Writes the file that the other sides read.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let mut writer = TensorWriter::default();
        match &self.kind {
            Kind::Step(batch) | Kind::Encoder(batch) => match batch.images().features() {
                Ok(features) => writer.add("images", &features.into_dyn()),
                Err(_) => writer.add("images", &batch.images().pixels()?.into_dyn()),
            },
            Kind::Encode(_) => {}
            Kind::Evaluate(embeddings) => {
                writer.add("images", &embeddings.images.view().into_dyn());
                writer.add("captions", &embeddings.captions.view().into_dyn());
            }
            Kind::Product(operands, _) => operands.write(&mut writer)?,
        }
        if let Some(captions) = self.captions() {
            add_captions(&mut writer, captions)?;
            let parameters = Parameters::<f32>::init(&self.model.architecture, SEED);
            parameters.each(|path, _, tensor| writer.add(path.to_string(), &tensor));
        }
        writer.write_safetensors(file, None)
    }

    fn captions(&self) -> Option<&[Vec<u32>]> {
        match &self.kind {
            Kind::Step(batch) | Kind::Encoder(batch) => Some(batch.captions()),
            Kind::Encode(captions) => Some(captions),
            Kind::Evaluate(_) | Kind::Product(..) => None,
        }
    }

    /// Whose code does the work.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        if matches!(self.kind, Kind::Product(_, Work::Matrixmultiply)) { "matrixmultiply" } else { "vsepp" }
    }

    /// What is timed, on which machine.
    #[must_use]
    pub(crate) fn about(&self) -> Value {
        let mut about = json!({ "processor": processor(), "cores": cores(), "vectors": simd::unit(), "load": load() });
        let mut lines = vec![match &self.kind {
            Kind::Step(_) | Kind::Encode(_) | Kind::Encoder(_) => size_line(&self.model),
            Kind::Evaluate(Embeddings { images, captions }) => {
                format!("{} images × {} captions, D {}", images.nrows(), captions.nrows(), images.ncols())
            }
            Kind::Product(operands, _) => product_line(operands.product()),
        }];
        if let Some(captions) = self.captions() {
            let tree = PrefixTree::new(captions);
            let c = Counts::of(&tree);
            about["architecture"] = json!(self.model.architecture);
            about["counts"] = json!(c);
            let [forward, step] = useful_operations(&self.model, captions);
            about["operations"] = json!(if matches!(self.kind, Kind::Encoder(_)) { forward } else { step });
            lines.push(format!(
                "{} captions: {} tokens, {} states, {} parents, {} distinct words",
                c.pairs, c.tokens, c.states, c.parents, c.distinct_words
            ));
        }
        about["lines"] = json!(lines);
        about
    }

    /// Does the work once at each call, and returns the value that must agree with the other sides.
    ///
    /// # Errors
    ///
    /// If there is no such model.
    pub(crate) fn work(self) -> Result<Box<dyn FnMut() -> Result<f64> + Send>> {
        Ok(match self.kind {
            Kind::Step(batch) => {
                let mut training = Training::new(&self.model)?;
                Box::new(move || training.step(&batch))
            }
            Kind::Encode(captions) => {
                let model = Vse::<f32>::init(self.model.architecture, SEED);
                Box::new(move || Ok(mean(model.embed_captions(&captions)?.view())))
            }
            Kind::Encoder(batch) => {
                let parameters = Parameters::init(&self.model.architecture, SEED);
                let encoder = encoder(&parameters)?.clone();
                drop(parameters);
                Box::new(move || Ok(mean(encoder.embed(batch.images().pixels()?)?.view())))
            }
            Kind::Evaluate(embeddings) => Box::new(move || Ok(embeddings.evaluate()?.rsum)),
            Kind::Product(mut operands, work) => Box::new(move || {
                if work == Work::Matrixmultiply {
                    operands.run_matrixmultiply();
                } else {
                    operands.run();
                }
                Ok(mean(operands.last_row()))
            }),
        })
    }
}

/// The compared product of this name.
fn named(name: &str) -> Result<Product> {
    let product = compared().into_iter().find(|product| product.name == name);
    product.ok_or_else(|| Error::config("product", format!("one of {}", compared().map(|p| p.name).join(", ")), name))
}

/// The mean of the absolute values.
fn mean(x: ArrayView2<'_, f32>) -> f64 {
    x.iter().map(|x| f64::from(x.abs())).fold(0.0, |sum, x| sum + x) / x.len() as f64
}

fn size_line(model: &Model) -> String {
    let a = &model.architecture;
    let layers = if a.num_layers == 1 { String::new() } else { format!(", {} layers", a.num_layers) };
    let (size, parameters) = (model.size, a.parameters());
    let (e, d, f, v) = (a.word_dim, a.embed_size, a.img_dim, a.vocab_size);
    format!("{size}: E {e}, H = D = {d}, F {f}, V {v}{layers}; {parameters} parameters")
}

fn product_line(product: &Product) -> String {
    let Product { name, form, m, k, n, .. } = product;
    let calls = if m.len() == 1 { String::new() } else { format!("{} × ", m.len()) };
    format!("{name}: {form}, {calls}{} × {k} × {n}", m[0])
}

/// Adds captions, padded with 0, and their lengths.
fn add_captions(writer: &mut TensorWriter, captions: &[Vec<u32>]) -> Result<()> {
    let longest = captions.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |caption: &Vec<u32>| -> Vec<i64> {
        caption.iter().map(|&word| i64::from(word)).chain(std::iter::repeat(0)).take(longest).collect()
    };
    let ids: Vec<i64> = captions.iter().flat_map(padded).collect();
    writer.add_integers("captions", &[captions.len(), longest], &ids)?;
    #[allow(clippy::cast_possible_wrap)] // an address has at most 63 bits
    let lengths: Vec<i64> = captions.iter().map(|caption| caption.len() as i64).collect();
    writer.add_integers("lengths", &[captions.len()], &lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Captions, Size};
    use crate::files::TensorFile;

    fn options() -> Options {
        Options { encode: Some(7), evaluate: 3, ..Options::of(vec![Size::Demo.model()], Captions::MadeUp) }
    }

    #[test]
    fn every_side_writes_its_data_and_repeats_its_work() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.safetensors");
        let all = [
            (Work::Step, vec!["captions", "images", "lengths"]),
            (Work::Encode, vec!["captions", "lengths"]),
            (Work::Evaluate, vec!["captions", "images"]),
            (Work::Product, vec!["a", "b", "form", "rows"]),
        ];
        for (work, tensors) in all {
            let data = Data::draw(work, "input", &options()).unwrap();
            data.write(&file).unwrap();
            let found = TensorFile::read(&file).unwrap();
            let names: Vec<&str> = found.names().filter(|name| !name.contains('.')).collect();
            assert_eq!(names, tensors, "{work:?}");
            assert!(data.about()["lines"].is_array());
            let mut work_once = data.work().unwrap();
            let values = [work_once().unwrap(), work_once().unwrap()];
            assert!(values.iter().all(|value| value.is_finite() && *value > 0.0), "{work:?}: {values:?}");
            assert_eq!(values[0] == values[1], work != Work::Step, "{work:?}: only a training step changes something");
        }
    }

    #[test]
    fn an_unknown_product_is_named() {
        let error = Data::draw(Work::Product, "cube", &options()).err().unwrap().to_string();
        assert!(error.starts_with("product = cube: expected one of square, gradient, "), "{error}");
    }
}
