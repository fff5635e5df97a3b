//! Reads and checks the inputs of a case: named tensors become the values that a program computes with.
//!
//! Only this file has the names of a model's parameters.

use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Dimension, Ix1, Ix2, Ix3, s};

use super::arithmetic::Arithmetic;
use super::plain::Tensors;
use super::program::{Inputs, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::real::Real;
use crate::spec::gru::GruLayer;
use crate::spec::layers::Linear;
use crate::spec::model::Parameters;

/// The image projection and the caption projection; each has a `.weight` and a `.bias`.
pub(super) const FC: &str = "img_enc.fc";
pub(super) const PROJ: &str = "txt_enc.proj";
/// The table of word vectors.
pub(super) const EMBED: &str = "txt_enc.embed.weight";
/// The tensors of a GRU layer.
pub(super) const RNN: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

/// The name of a tensor of GRU layer k.
pub(super) fn rnn(part: &str, k: usize) -> String {
    format!("txt_enc.rnn.{part}_l{k}")
}

/// The names of a model's parameters, in the order of [`Parameters::named`].
pub(super) fn parameter_names(layers: usize, projection: bool) -> Vec<String> {
    let linear = |path: &str| [format!("{path}.weight"), format!("{path}.bias")];
    let mut names = Vec::from(linear(FC));
    names.push(EMBED.to_owned());
    names.extend((0..layers).flat_map(|k| RNN.map(|part| rnn(part, k))));
    names.extend(projection.then(|| linear(PROJ)).into_iter().flatten());
    names
}

/// Reads the inputs of a case as numbers of type T, rounded as an arithmetic stores them.
pub(super) struct Reader<'a> {
    pub inputs: &'a Inputs,
    pub settings: &'a Settings,
    pub arithmetic: Arithmetic,
}

/// A GRU and its inputs. A cell is a sequence of one token.
pub(super) struct GruInputs<T> {
    pub layers: Vec<GruLayer<T>>,
    /// [B, T, E]
    pub x: Array3<T>,
    pub lengths: Vec<usize>,
    /// [L, B, H]; zeros if the case gives none.
    pub h0: Array3<T>,
    /// [B, H]
    pub d_last: Array2<T>,
}

/// Adam's state before the first step.
pub(super) struct OptimiserState<T> {
    pub step: u64,
    pub m: Tensors<T>,
    pub v: Tensors<T>,
}

/// A batch of a model.
pub(super) struct Batch<T> {
    pub images: Array2<T>,
    pub captions: Array2<usize>,
    pub lengths: Vec<usize>,
    pub image_ids: Option<Vec<usize>>,
}

/// # Errors
///
/// If a number is not finite, because nothing can be learned from a loss of NaN.
pub(super) fn check_finite<T: Real, D: Dimension>(name: &str, x: &ndarray::Array<T, D>) -> Result<()> {
    let x = x.view().into_dyn();
    match x.indexed_iter().find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some((at, x)) => {
            let index = Dimension::slice(&at).to_vec();
            Err(ErrorKind::NotFinite { tensor: name.into(), index, value: x.re() }.into())
        }
    }
}

impl Reader<'_> {
    pub(super) fn get(&self, name: &str) -> Result<&ArrayD<f64>> {
        self.inputs
            .get(name)
            .ok_or_else(|| Error::mismatch(format!("{name}: expected this tensor among the inputs, found none")))
    }

    /// An input with this number of dimensions; `shape` gives them as letters.
    pub(super) fn dimensions<D: Dimension>(&self, name: &str, shape: &str) -> Result<ndarray::Array<f64, D>> {
        let tensor = self.get(name)?;
        let found = tensor.shape().to_vec();
        tensor.clone().into_dimensionality::<D>().map_err(|_| Error::shape(name, shape, &found))
    }

    pub(super) fn load<T: Real, D: Dimension>(&self, x: &ndarray::Array<f64, D>) -> ndarray::Array<T, D> {
        self.arithmetic.store(x.mapv(T::from_f64))
    }

    pub(super) fn vector<T: Real>(&self, name: &str, length: usize, shape: &str) -> Result<Array1<T>> {
        let x = self.dimensions::<Ix1>(name, shape)?;
        if x.len() == length {
            Ok(self.load(&x))
        } else {
            Err(Error::shape(name, format!("{shape} with {length} numbers"), x.shape()))
        }
    }

    pub(super) fn matrix<T: Real>(
        &self,
        name: &str,
        rows: Option<usize>,
        columns: Option<usize>,
        shape: &str,
    ) -> Result<Array2<T>> {
        let x = self.dimensions::<Ix2>(name, shape)?;
        let fits = rows.is_none_or(|n| n == x.nrows()) && columns.is_none_or(|n| n == x.ncols());
        if fits && !x.is_empty() {
            return Ok(self.load(&x));
        }
        let size = |n: Option<usize>| n.map_or("any".into(), |n| n.to_string());
        Err(Error::shape(name, format!("{shape} = [{}, {}], not empty", size(rows), size(columns)), x.shape()))
    }

    /// Whole numbers below a limit.
    fn indices(&self, name: &str, limit: usize, what: &str) -> Result<ArrayD<usize>> {
        whole_numbers(name, self.get(name)?, limit, what)
    }

    /// `in.lengths` `[B]`, each from 1 to T.
    fn lengths(&self, batch: usize, steps: usize) -> Result<Vec<usize>> {
        let lengths = self.indices("in.lengths", usize::MAX, "length")?;
        if lengths.shape() != [batch] {
            return Err(Error::shape("in.lengths", format!("[B = {batch}]"), lengths.shape()));
        }
        if let Some((row, length)) = lengths.iter().enumerate().find(|&(_, length)| !(1..=steps).contains(length)) {
            let problem = format!("in.lengths: row {row}: expected a length from 1 to T = {steps}, found {length}");
            return Err(Error::mismatch(problem));
        }
        Ok(lengths.into_iter().collect())
    }

    fn gru_layers<T: Real>(&self, layers: usize, inputs: Option<usize>) -> Result<Vec<GruLayer<T>>> {
        if layers == 0 {
            return Err(Error::config("num_layers", "at least 1", layers));
        }
        let mut all: Vec<GruLayer<T>> = Vec::new();
        for k in 0..layers {
            let [weight_ih, weight_hh, bias_ih, bias_hh] = RNN.map(|part| format!("param.{}", rnn(part, k)));
            let hidden = all.first().map(|first| first.weight_hh.ncols());
            let hh = self.matrix(&weight_hh, hidden.map(|h| 3 * h), hidden, "[3H, H]")?;
            let hidden = hh.ncols();
            if hh.nrows() != 3 * hidden {
                return Err(Error::shape(&weight_hh, "[3H, H]", hh.shape()));
            }
            let (inputs, shape) = if k == 0 { (inputs, "[3H, E]") } else { (Some(hidden), "[3H, H]") };
            all.push(GruLayer {
                weight_ih: self.matrix(&weight_ih, Some(3 * hidden), inputs, shape)?,
                weight_hh: hh,
                bias_ih: self.vector(&bias_ih, 3 * hidden, "[3H]")?,
                bias_hh: self.vector(&bias_hh, 3 * hidden, "[3H]")?,
            });
        }
        Ok(all)
    }

    pub(super) fn gru_cell<T: Real>(&self) -> Result<GruInputs<T>> {
        let x = self.matrix("in.x", None, None, "[B, E]")?;
        let layers = self.gru_layers(1, Some(x.ncols()))?;
        let (batch, hidden) = (x.nrows(), layers[0].weight_hh.ncols());
        let h = self.matrix("in.h", Some(batch), Some(hidden), "[B, H]")?;
        let d_last = self.matrix("in.d_h_next", Some(batch), Some(hidden), "[B, H]")?;
        let (x, h0) = (x.insert_axis(Axis(1)), h.insert_axis(Axis(0)));
        Ok(GruInputs { layers, x, lengths: vec![1; batch], h0, d_last })
    }

    pub(super) fn gru<T: Real>(&self) -> Result<GruInputs<T>> {
        let x = self.dimensions::<Ix3>("in.x", "[B, T, E]")?;
        let (batch, steps, inputs) = x.dim();
        let lengths = self.lengths(batch, steps)?;
        let layers = self.gru_layers(self.settings.num_layers, Some(inputs))?;
        let hidden = layers[0].weight_hh.ncols();
        let h0 = if self.inputs.contains_key("in.h0") {
            self.dimensions::<Ix3>("in.h0", "[L, B, H]")?
        } else {
            Array3::zeros((layers.len(), batch, hidden))
        };
        if h0.dim() != (layers.len(), batch, hidden) {
            let expected = format!("[L = {}, B = {batch}, H = {hidden}]", layers.len());
            return Err(Error::shape("in.h0", expected, h0.shape()));
        }
        let (x, h0) = (self.load(&x), self.load(&h0));
        let d_last = self.matrix("in.d_last", Some(batch), Some(hidden), "[B, H]")?;
        Ok(GruInputs { layers, x, lengths, h0, d_last })
    }

    /// Word ids [B, T] and lengths. Anything may follow the end of a caption; a valid id there is kept.
    fn captions(&self, vocabulary: usize) -> Result<(Array2<usize>, Vec<usize>)> {
        let mut ids = self.dimensions::<Ix2>("in.captions", "[B, T]")?;
        let (batch, steps) = ids.dim();
        if ids.is_empty() {
            return Err(Error::shape("in.captions", "[B, T], not empty", ids.shape()));
        }
        let lengths = self.lengths(batch, steps)?;
        for (b, &length) in lengths.iter().enumerate() {
            for id in ids.slice_mut(s![b, length..]) {
                if !(*id >= 0.0 && id.fract() == 0.0 && *id < vocabulary as f64) {
                    *id = 0.0;
                }
            }
        }
        let ids = whole_numbers("in.captions", &ids.into_dyn(), vocabulary, "word id")?;
        Ok((ids.into_dimensionality::<Ix2>().expect("as before"), lengths))
    }

    /// The table, the ids with their lengths, and the gradient of the words.
    #[allow(clippy::type_complexity)] // the four inputs of the program
    pub(super) fn embedding<T: Real>(&self) -> Result<(Array2<T>, Array2<usize>, Vec<usize>, Array3<T>)> {
        let table = self.matrix(&format!("param.{EMBED}"), None, None, "[V, E]")?;
        let (ids, lengths) = self.captions(table.nrows())?;
        let d = self.dimensions::<Ix3>("in.d_words", "[B, T, E]")?;
        if d.dim() != (ids.nrows(), ids.ncols(), table.ncols()) {
            let expected = format!("[B = {}, T = {}, E = {}]", ids.nrows(), ids.ncols(), table.ncols());
            return Err(Error::shape("in.d_words", expected, d.shape()));
        }
        let d = self.load(&d);
        Ok((table, ids, lengths, d))
    }

    fn projection<T: Real>(
        &self,
        path: &str,
        outputs: Option<usize>,
        inputs: Option<usize>,
        shape: &str,
    ) -> Result<Linear<T>> {
        let weight = self.matrix(&format!("param.{path}.weight"), outputs, inputs, shape)?;
        let bias = self.vector(&format!("param.{path}.bias"), weight.nrows(), "[D]")?;
        Ok(Linear { weight, bias })
    }

    /// The layer, x and dy.
    pub(super) fn linear<T: Real>(&self) -> Result<(Linear<T>, Array2<T>, Array2<T>)> {
        let x = self.matrix("in.x", None, None, "[N, I]")?;
        let layer = self.projection(FC, None, Some(x.ncols()), "[O, I]")?;
        let d_y = self.matrix("in.d_y", Some(x.nrows()), Some(layer.weight.nrows()), "[N, O]")?;
        Ok((layer, x, d_y))
    }

    /// x and dy.
    pub(super) fn l2norm<T: Real>(&self) -> Result<(Array2<T>, Array2<T>)> {
        let x = self.matrix("in.x", None, None, "[N, D]")?;
        let d_y = self.matrix("in.d_y", Some(x.nrows()), Some(x.ncols()), "[N, D]")?;
        Ok((x, d_y))
    }

    /// F, G and dS.
    pub(super) fn scores<T: Real>(&self) -> Result<(Array2<T>, Array2<T>, Array2<T>)> {
        let f = self.matrix("in.image_embedding", None, None, "[N, D]")?;
        let g = self.matrix("in.caption_embedding", None, Some(f.ncols()), "[M, D]")?;
        let d = self.matrix("in.d_scores", Some(f.nrows()), Some(g.nrows()), "[N, M]")?;
        Ok((f, g, d))
    }

    fn image_ids(&self, batch: usize) -> Result<Option<Vec<usize>>> {
        if !self.settings.mask_same_image {
            return Ok(None);
        }
        let ids = self.indices("in.image_ids", usize::MAX, "image id")?;
        if ids.shape() != [batch] {
            return Err(Error::shape("in.image_ids", format!("[B = {batch}]"), ids.shape()));
        }
        Ok(Some(ids.into_iter().collect()))
    }

    /// S, and the image ids if captions of one image are not negatives of each other.
    pub(super) fn loss<T: Real>(&self) -> Result<(Array2<T>, Option<Vec<usize>>)> {
        let batch = self.dimensions::<Ix2>("in.scores", "[B, B]")?.nrows();
        let scores = self.matrix("in.scores", Some(batch), Some(batch), "[B, B]")?;
        check_finite("in.scores", &scores)?;
        Ok((scores, self.image_ids(batch)?))
    }

    /// The parameters of an optimiser; their names are arbitrary.
    pub(super) fn optimiser_parameters<T: Real>(&self) -> Result<Tensors<T>> {
        let names = self.inputs.keys().filter_map(|name| name.strip_prefix("param."));
        let parameter = |name: &str| Ok((name.to_owned(), self.get(&format!("param.{name}"))?.mapv(T::from_f64)));
        let parameters: Tensors<T> = names.map(parameter).collect::<Result<_>>()?;
        if parameters.is_empty() {
            return Err(Error::mismatch("param.*: expected at least one parameter, found none"));
        }
        Ok(parameters)
    }

    /// Moments and step count, if the case continues from some; otherwise zeros.
    pub(super) fn optimiser_state<T: Real>(&self, parameters: &Tensors<T>) -> Result<OptimiserState<T>> {
        let zeros: Tensors<T> = parameters.iter().map(|(name, p)| (name.clone(), ArrayD::zeros(p.raw_dim()))).collect();
        let mut state = OptimiserState { step: 0, m: zeros.clone(), v: zeros };
        if !self.inputs.contains_key("in.step") {
            return Ok(state);
        }
        let step = self.indices("in.step", 1 << 40, "step")?;
        state.step = step.first().copied().unwrap_or(0) as u64;
        for (letter, moments) in [("m", &mut state.m), ("v", &mut state.v)] {
            for (name, moment) in moments {
                let given = format!("in.{letter}.{name}");
                let values = self.get(&given)?;
                if values.shape() != moment.shape() {
                    return Err(Error::shape(&given, format!("{:?}", moment.shape()), values.shape()));
                }
                moment.assign(&values.mapv(T::from_f64));
            }
        }
        Ok(state)
    }

    /// The gradient of one step.
    pub(super) fn optimiser_gradient<T: Real>(&self, parameters: &Tensors<T>, step: usize) -> Result<Tensors<T>> {
        let mut gradient: Tensors<T> = Vec::new();
        for (name, p) in parameters {
            let given = format!("in.grad.{name}");
            let all = self.get(&given)?;
            let mut expected = vec![self.settings.steps];
            expected.extend(p.shape());
            if all.shape() != expected {
                return Err(Error::shape(&given, format!("{expected:?} (a gradient for each step)"), all.shape()));
            }
            let g = all.index_axis(Axis(0), step).as_standard_layout().mapv(T::from_f64);
            check_finite(&given, &g)?;
            gradient.push((name.clone(), g));
        }
        Ok(gradient)
    }

    /// All parameters of a model, and a batch.
    pub(super) fn model<T: Real>(&self) -> Result<(Parameters<T>, Batch<T>)> {
        let images: Array2<T> = self.matrix("in.images", None, None, "[B, F]")?;
        check_finite("in.images", &images)?;
        let fc = self.projection(FC, None, Some(images.ncols()), "[D, F]")?;
        let embed: Array2<T> = self.matrix(&format!("param.{EMBED}"), None, None, "[V, E]")?;
        let rnn = self.gru_layers(self.settings.num_layers, Some(embed.ncols()))?;
        let (joint, hidden) = (fc.weight.nrows(), rnn[0].weight_hh.ncols());
        let proj = if self.settings.caption_projection {
            Some(self.projection(PROJ, Some(joint), Some(hidden), "[D, H]")?)
        } else if hidden == joint {
            None
        } else {
            return Err(Error::mismatch(format!(
                "expected H = D without a caption projection (param.{PROJ}.*), found H = {hidden} and D = {joint}"
            )));
        };
        let (captions, lengths) = self.captions(embed.nrows())?;
        if captions.nrows() != images.nrows() {
            let expected = format!("[B = {}, T]", images.nrows());
            return Err(Error::shape("in.captions", expected, captions.shape()));
        }
        let image_ids = self.image_ids(images.nrows())?;
        Ok((Parameters { fc, embed, rnn, proj }, Batch { images, captions, lengths, image_ids }))
    }
}

/// A tensor's numbers as indices below a limit.
///
/// # Errors
///
/// If a number is not such an index, with the first one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
fn whole_numbers(name: &str, x: &ArrayD<f64>, limit: usize, what: &str) -> Result<ArrayD<usize>> {
    for (at, &value) in x.indexed_iter() {
        if !(value >= 0.0 && value.fract() == 0.0 && value < 9e15 && (value as usize) < limit) {
            let below = if limit == usize::MAX { String::new() } else { format!(" below {limit}") };
            let index = Dimension::slice(&at);
            let problem = format!("{name}: {what} {value} at {index:?}: expected a whole number from 0{below}");
            return Err(Error::mismatch(problem));
        }
    }
    Ok(x.mapv(|value| value as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Config};

    #[test]
    fn the_names_are_those_of_a_model() {
        for (num_layers, caption_projection) in [(1, false), (2, true), (3, false)] {
            let config = Config { embed_size: 4, num_layers, caption_projection, ..Config::default() };
            let architecture: Architecture = config.check().unwrap().architecture(7, 5);
            let names: Vec<String> = architecture.tensors().into_iter().map(|(name, _)| name).collect();
            assert_eq!(parameter_names(num_layers, caption_projection), names);
        }
    }
}
