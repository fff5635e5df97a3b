//! This crate's side of `cargo bench --bench peers`: one piece of work, and its data for the other sides.

use std::path::Path;
use std::str::FromStr;

use ndarray::ArrayView2;
use serde_json::{Value, json};

use super::SEED;
use super::captions::batch;
use super::machine::{cores, load, processor};
use super::measure::{Embeddings, Operands};
use super::run::Options;
use super::size::Model;
use super::subject::Training;
use super::work::{Counts, Product, compared, operations, products};
use crate::error::{Error, Result};
use crate::files::TensorWriter;
use crate::model::{Parameters, Vse};
use crate::nn::{Module, PrefixTree};
use crate::simd;

/// The work that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A training step.
    Step,
    /// Captions to joint embeddings.
    Encode,
    /// Ranks in both directions, from embeddings.
    Evaluate,
    /// A product.
    Product,
    /// A product by the crate matrixmultiply.
    Matrixmultiply,
}

impl Work {
    /// The names on a command line.
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("step", Self::Step),
        ("encode", Self::Encode),
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

/// A side that is ready.
pub(crate) struct Side {
    /// Whose code does the work.
    pub name: &'static str,
    /// What is timed, on which machine.
    pub about: Value,
    /// Does the work once and returns the value that must agree with the other sides.
    pub work: Box<dyn FnMut() -> Result<f64> + Send>,
}

impl Side {
    /// Draws the data with a fixed seed, and writes the file that the other sides read.
    ///
    /// # Errors
    ///
    /// If a number is out of range, if the captions cannot be read, or if the file cannot be written.
    pub(crate) fn new(work: Work, product: &str, options: &Options, file: Option<&Path>) -> Result<Self> {
        options.check()?;
        let model = options.models.first().ok_or_else(|| Error::mismatch("expected a size, found none"))?;
        let architecture = model.architecture;
        let name = if work == Work::Matrixmultiply { "matrixmultiply" } else { "vsepp" };
        let mut writer = TensorWriter::default();
        let mut about = json!({
            "processor": processor(), "cores": cores(), "vectors": simd::unit(), "load": load(),
            "captions": options.captions.to_string(), "architecture": architecture, "parameters": architecture.parameters(),
        });
        let lines;
        let work: Box<dyn FnMut() -> Result<f64> + Send> = match work {
            Work::Step => {
                let captions = model.captions(&options.captions, model.config.batch_size)?;
                lines = vec![size_line(model), write_captions(&mut writer, &captions, model, &mut about)?];
                let batch = batch(&architecture, captions);
                writer.add("images", &batch.images().features()?.into_dyn());
                let mut training = Training::new(model)?;
                Box::new(move || training.step(&batch))
            }
            Work::Encode => {
                let captions = model.captions(&options.captions, options.number_to_encode()?)?;
                lines = vec![size_line(model), write_captions(&mut writer, &captions, model, &mut about)?];
                let model = Vse::<f32>::init(architecture, SEED);
                Box::new(move || Ok(mean(model.embed_captions(&captions)?.view())))
            }
            Work::Evaluate => {
                let embeddings = Embeddings::new(options.evaluate, architecture.embed_size)?;
                let (images, captions) = (embeddings.images.view(), embeddings.captions.view());
                lines =
                    vec![format!("{} images × {} captions, D {}", images.nrows(), captions.nrows(), images.ncols())];
                writer.add("images", &images.into_dyn());
                writer.add("captions", &captions.into_dyn());
                Box::new(move || Ok(embeddings.evaluate()?.rsum))
            }
            Work::Product | Work::Matrixmultiply => {
                let product = named(product)?;
                lines = vec![product_line(&product)];
                about["product"] = json!(product);
                let mut operands = Operands::new(&product);
                operands.write(&mut writer)?;
                let own = work == Work::Product;
                Box::new(move || {
                    if own {
                        operands.run();
                    } else {
                        operands.run_matrixmultiply();
                    }
                    Ok(mean(operands.last_row()))
                })
            }
        };
        about["lines"] = json!(lines);
        if let Some(file) = file {
            writer.write_safetensors(file, None)?;
        }
        Ok(Self { name, about, work })
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
    let (size, parameters) = (model.size.name(), a.parameters());
    let (e, d, f, v) = (a.word_dim, a.embed_size, a.img_dim, a.vocab_size);
    format!("{size}: E {e}, H = D = {d}, F {f}, V {v}{layers}; {parameters} parameters")
}

fn product_line(product: &Product) -> String {
    let Product { name, form, m, k, n, .. } = product;
    let calls = if m.len() == 1 { String::new() } else { format!("{} × ", m.len()) };
    format!("{name}: {form}, {calls}{} × {k} × {n}", m[0])
}

/// Writes captions, padded, with their lengths and the parameters that begin the training.
fn write_captions(
    writer: &mut TensorWriter,
    captions: &[Vec<u32>],
    model: &Model,
    about: &mut Value,
) -> Result<String> {
    let longest = captions.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |caption: &Vec<u32>| -> Vec<i64> {
        caption.iter().map(|&word| i64::from(word)).chain(std::iter::repeat(0)).take(longest).collect()
    };
    writer.add_integers(
        "captions",
        &[captions.len(), longest],
        &captions.iter().flat_map(padded).collect::<Vec<_>>(),
    )?;
    #[allow(clippy::cast_possible_wrap)] // an address has at most 63 bits
    let lengths: Vec<i64> = captions.iter().map(|caption| caption.len() as i64).collect();
    writer.add_integers("lengths", &[captions.len()], &lengths)?;
    let parameters = Parameters::<f32>::init(&model.architecture, SEED);
    parameters.each(|path, _, tensor| writer.add(path.to_string(), &tensor));
    let tree = PrefixTree::new(captions);
    let c = Counts::of(&tree);
    about["counts"] = json!(c);
    about["operations"] = json!(operations(&products(&model.architecture, &tree), None));
    Ok(format!(
        "{} captions: {} tokens, {} states, {} parents, {} distinct words",
        c.pairs, c.tokens, c.states, c.parents, c.distinct_words
    ))
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
            let mut side = Side::new(work, "input", &options(), Some(&file)).unwrap();
            let found = TensorFile::read(&file).unwrap();
            let names: Vec<&str> = found.names().filter(|name| !name.contains('.')).collect();
            assert_eq!(names, tensors, "{work:?}");
            let values = [(side.work)().unwrap(), (side.work)().unwrap()];
            assert!(values.iter().all(|value| value.is_finite() && *value > 0.0), "{work:?}: {values:?}");
            assert_eq!(values[0] == values[1], work != Work::Step, "{work:?}: only a training step changes something");
        }
    }

    #[test]
    fn an_unknown_product_is_named() {
        let error = Side::new(Work::Product, "cube", &options(), None).err().unwrap().to_string();
        assert!(error.starts_with("product = cube: expected one of square, gradient, "), "{error}");
    }
}
