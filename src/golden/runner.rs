//! How each program runs: inputs are checked, the plain computation does the work, and every value
//! goes into the trace.

use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix1, Ix2, Ix3, s};

use super::mistakes::Mistake as M;
use super::plain::{Normalised, Optimiser, Padded, Pass, Plain, Tensors, Trace};
use super::program::{Inputs, Margins, Program, Run, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::nn::{GruLayer, Linear};
use crate::real::Real;
use crate::similarity::Measure;

impl Program {
    /// Computes.
    ///
    /// **Errors** if an input is missing, has not the shape that the others imply, or is one that
    /// must be refused (a zero row to be normalised, an id out of range, a length of 0, scores that
    /// are not finite).
    pub fn run<T: Real>(self, settings: &Settings, inputs: &Inputs, plain: &Plain<'_>) -> Result<Run<T>> {
        /// As many as a case of the user's own may have.
        const STEPS: usize = 100_000;
        if settings.steps > STEPS {
            return Err(Error::config("steps", format!("at most {STEPS}"), settings.steps));
        }
        let mut run = Runner { settings, inputs, plain, trace: Trace::default(), margins: Margins::NONE };
        match self {
            Self::GruCell => run.gru_cell()?,
            Self::Gru => run.gru()?,
            Self::Embedding => run.embedding()?,
            Self::Linear => run.linear()?,
            Self::L2norm => run.l2norm()?,
            Self::Scores => run.scores()?,
            Self::Loss => run.loss()?,
            Self::Optimiser => run.optimiser()?,
            Self::Model => run.model()?,
        }
        Ok(Run { trace: run.trace, margins: run.margins })
    }
}

/// A program on its way.
struct Runner<'a, 'p, T> {
    settings: &'a Settings,
    inputs: &'a Inputs,
    plain: &'a Plain<'p>,
    trace: Trace<T>,
    margins: Margins,
}

/// All parameters of a model as arrays.
struct Weights<T> {
    fc: Linear<T>,
    table: Array2<T>,
    gru: Vec<GruLayer<T>>,
    proj: Option<Linear<T>>,
}

/// The batch of a model.
struct Batch<T> {
    images: Array2<T>,
    captions: Array2<usize>,
    lengths: Vec<usize>,
    image_ids: Option<Vec<usize>>,
}

/// What a pass through the model gives to the optimiser.
struct ModelPass<T> {
    loss: T,
    gradient: Tensors<T>,
}

impl<T: Real> Runner<'_, '_, T> {
    // --- inputs -----------------------------------------------------------------------------------

    fn get(&self, name: &str) -> Result<&ArrayD<f64>> {
        self.inputs
            .get(name)
            .ok_or_else(|| Error::mismatch(format!("{name}: expected this tensor among the inputs, found none")))
    }

    /// An input of so many dimensions; `shape` says them in letters.
    fn dimensions<D: ndarray::Dimension>(&self, name: &str, shape: &str) -> Result<ndarray::Array<f64, D>> {
        let tensor = self.get(name)?;
        let found = tensor.shape().to_vec();
        tensor.clone().into_dimensionality::<D>().map_err(|_| Error::shape(name, shape, &found))
    }

    fn load<D: ndarray::Dimension>(&self, x: &ndarray::Array<f64, D>) -> ndarray::Array<T, D> {
        self.plain.arithmetic.store(x.mapv(T::from_f64))
    }

    fn vector(&self, name: &str, length: usize, shape: &str) -> Result<Array1<T>> {
        let x = self.dimensions::<Ix1>(name, shape)?;
        if x.len() == length {
            Ok(self.load(&x))
        } else {
            Err(Error::shape(name, format!("{shape} with {length} numbers"), x.shape()))
        }
    }

    fn matrix(&self, name: &str, rows: Option<usize>, columns: Option<usize>, shape: &str) -> Result<Array2<T>> {
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

    /// The parameter's name without `param.`, of the GRU.
    fn rnn(name: &str, k: usize) -> String {
        format!("txt_enc.rnn.{name}_l{k}")
    }

    fn gru_layers(&self, layers: usize, inputs: Option<usize>) -> Result<Vec<GruLayer<T>>> {
        if layers == 0 {
            return Err(Error::config("num_layers", "at least 1", layers));
        }
        let mut all: Vec<GruLayer<T>> = Vec::new();
        for k in 0..layers {
            let name = |part: &str| format!("param.{}", Self::rnn(part, k));
            let hidden = all.first().map(GruLayer::hidden_size);
            let weight_hh = self.matrix(&name("weight_hh"), hidden.map(|h| 3 * h), hidden, "[3H, H]")?;
            let hidden = weight_hh.ncols();
            if weight_hh.nrows() != 3 * hidden {
                return Err(Error::shape(&name("weight_hh"), "[3H, H]", weight_hh.shape()));
            }
            let inputs = if k == 0 { inputs } else { Some(hidden) };
            all.push(GruLayer {
                weight_ih: self.matrix(
                    &name("weight_ih"),
                    Some(3 * hidden),
                    inputs,
                    if k == 0 { "[3H, E]" } else { "[3H, H]" },
                )?,
                weight_hh,
                bias_ih: self.vector(&name("bias_ih"), 3 * hidden, "[3H]")?,
                bias_hh: self.vector(&name("bias_hh"), 3 * hidden, "[3H]")?,
            });
        }
        Ok(all)
    }

    // --- programs ---------------------------------------------------------------------------------

    fn gru_cell(&mut self) -> Result<()> {
        let x = self.matrix("in.x", None, None, "[B, E]")?;
        let gru = self.gru_layers(1, Some(x.ncols()))?;
        let (batch, hidden) = (x.nrows(), gru[0].hidden_size());
        let h = self.matrix("in.h", Some(batch), Some(hidden), "[B, H]")?;
        let d = self.matrix("in.d_h_next", Some(batch), Some(hidden), "[B, H]")?;
        let padded = Padded { values: x.insert_axis(Axis(1)), lengths: vec![1; batch] };
        let mut inner = Trace::default();
        // A cell knows nothing of sequences, nor can it go wrong there.
        let mistakes = self.plain.mistakes.iter().copied().filter(|mistake| !OF_SEQUENCES.contains(mistake)).collect();
        let plain = Plain { mistakes: &mistakes, d_scores: None, ..*self.plain };
        let pass = plain.gru(&gru, &padded, &h.insert_axis(Axis(0)), &mut inner);
        let back = plain.back().gru_backward(&pass, d.view(), &mut inner);
        let take = |trace: &mut Trace<T>, from: &str, to: &str, kept: bool| {
            if let Some(values) = inner.get(from).filter(|_| kept) {
                trace.real(to, &values.index_axis(Axis(1), 0).to_owned());
            }
        };
        for part in ["a", "c", "r", "z", "n"] {
            take(&mut self.trace, &format!("mid.l0.{part}"), &format!("mid.{part}"), true);
        }
        self.trace.real("out.h_next", &pass.last);
        for part in ["n", "z", "r", "a", "c"] {
            take(&mut self.trace, &format!("grad.mid.l0.{part}"), &format!("grad.mid.{part}"), true);
        }
        self.add_gru_gradient(&back.layers[0], 0);
        self.trace.real("grad.in.x", &back.x.index_axis(Axis(1), 0).to_owned());
        self.trace.real("grad.in.h", &back.h0.index_axis(Axis(0), 0).to_owned());
        Ok(())
    }

    fn add_gru_gradient(&mut self, d: &GruLayer<T>, k: usize) {
        self.trace.real(format!("grad.{}", Self::rnn("weight_ih", k)), &d.weight_ih);
        self.trace.real(format!("grad.{}", Self::rnn("weight_hh", k)), &d.weight_hh);
        self.trace.real(format!("grad.{}", Self::rnn("bias_ih", k)), &d.bias_ih);
        self.trace.real(format!("grad.{}", Self::rnn("bias_hh", k)), &d.bias_hh);
    }

    fn gru(&mut self) -> Result<()> {
        let x = self.dimensions::<Ix3>("in.x", "[B, T, E]")?;
        let (batch, steps, inputs) = x.dim();
        let lengths = self.lengths(batch, steps)?;
        let gru = self.gru_layers(self.settings.num_layers, Some(inputs))?;
        let hidden = gru[0].hidden_size();
        let h0 = self.dimensions::<Ix3>("in.h0", "[L, B, H]")?;
        if h0.dim() != (gru.len(), batch, hidden) {
            return Err(Error::shape("in.h0", format!("[L = {}, B = {batch}, H = {hidden}]", gru.len()), h0.shape()));
        }
        let (x, h0) = (self.load(&x), self.load(&h0));
        let d_last = self.matrix("in.d_last", Some(batch), Some(hidden), "[B, H]")?;
        let pass = self.plain.gru(&gru, &Padded { values: x, lengths }, &h0, &mut self.trace);
        self.trace.real("out.last", &pass.last);
        let back = self.plain.back().gru_backward(&pass, d_last.view(), &mut self.trace);
        for (k, d) in back.layers.iter().enumerate().rev() {
            self.add_gru_gradient(d, k);
        }
        self.trace.real("grad.in.x", &back.x);
        self.trace.real("grad.in.h0", &back.h0);
        Ok(())
    }

    fn captions(&self, vocabulary: usize) -> Result<(Array2<usize>, Vec<usize>)> {
        let captions = self.dimensions::<Ix2>("in.captions", "[B, T]")?;
        let (batch, steps) = captions.dim();
        if captions.is_empty() {
            return Err(Error::shape("in.captions", "[B, T], not empty", captions.shape()));
        }
        let lengths = self.lengths(batch, steps)?;
        // Behind a caption's end anything may stand; the id is kept if it is one.
        let mut ids = captions;
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

    fn embedding(&mut self) -> Result<()> {
        let table = self.matrix("param.txt_enc.embed.weight", None, None, "[V, E]")?;
        let (ids, lengths) = self.captions(table.nrows())?;
        let d = self.dimensions::<Ix3>("in.d_words", "[B, T, E]")?;
        if d.dim() != (ids.nrows(), ids.ncols(), table.ncols()) {
            let expected = format!("[B = {}, T = {}, E = {}]", ids.nrows(), ids.ncols(), table.ncols());
            return Err(Error::shape("in.d_words", expected, d.shape()));
        }
        let d = self.load(&d);
        self.trace.real("mid.words", &self.plain.words(table.view(), &ids));
        let d_table = self.plain.back().words_backward(table.nrows(), &ids, &lengths, &d);
        self.trace.real("grad.txt_enc.embed.weight", &d_table);
        Ok(())
    }

    fn projection(&self, name: &str, outputs: Option<usize>, inputs: Option<usize>, shape: &str) -> Result<Linear<T>> {
        let weight = self.matrix(&format!("param.{name}.weight"), outputs, inputs, shape)?;
        let bias = self.vector(&format!("param.{name}.bias"), weight.nrows(), "[D]")?;
        Ok(Linear { weight, bias })
    }

    fn linear(&mut self) -> Result<()> {
        let x = self.matrix("in.x", None, None, "[N, I]")?;
        let layer = self.projection("img_enc.fc", None, Some(x.ncols()), "[O, I]")?;
        let d_y = self.matrix("in.d_y", Some(x.nrows()), Some(layer.weight.nrows()), "[N, O]")?;
        let y = self.plain.linear(&layer, x.view(), M::FcBiasDropped);
        let (d, d_x) = self.plain.back().linear_backward(&layer, x.view(), d_y.view(), M::FcBiasDropped);
        self.trace.real("out.y", &y);
        self.trace.real("grad.img_enc.fc.weight", &d.weight);
        self.trace.real("grad.img_enc.fc.bias", &d.bias);
        self.trace.real("grad.in.x", &d_x);
        Ok(())
    }

    fn l2norm(&mut self) -> Result<()> {
        let x = self.matrix("in.x", None, None, "[N, D]")?;
        let d_y = self.matrix("in.d_y", Some(x.nrows()), Some(x.ncols()), "[N, D]")?;
        let norm = self.plain.l2norm(x, "image", &[M::NormSkipped])?;
        norm.norms.iter().for_each(|norm| Margins::see(&mut self.margins.norm, norm.re()));
        self.trace.real("mid.norm", &norm.norms);
        self.trace.real("out.y", &norm.output);
        self.trace.real("grad.in.x", &self.plain.back().l2norm_backward(&norm, d_y.view()));
        Ok(())
    }

    fn scores(&mut self) -> Result<()> {
        let f = self.matrix("in.image_embedding", None, None, "[N, D]")?;
        let g = self.matrix("in.caption_embedding", None, Some(f.ncols()), "[M, D]")?;
        let d = self.matrix("in.d_scores", Some(f.nrows()), Some(g.nrows()), "[N, M]")?;
        self.see_order_kinks(&f, &g);
        let scores = self.plain.scores(self.settings.measure, f.view(), g.view());
        let (df, dg) = self.plain.back().scores_backward(self.settings.measure, f.view(), g.view(), &scores, &d);
        self.trace.real("out.scores", &scores);
        self.trace.real("grad.in.image_embedding", &df);
        self.trace.real("grad.in.caption_embedding", &dg);
        Ok(())
    }

    /// −‖v‖ has a kink where v = 0: where the largest g − f is 0.
    fn see_order_kinks(&mut self, f: &Array2<T>, g: &Array2<T>) {
        if self.settings.measure == Measure::Order {
            for f in f.outer_iter() {
                for g in g.outer_iter() {
                    let largest = f.iter().zip(g).map(|(f, g)| g.re() - f.re()).fold(f64::NEG_INFINITY, f64::max);
                    Margins::see(&mut self.margins.sign, largest.abs());
                }
            }
        }
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

    /// **Errors** if a score is not finite: a loss of NaN teaches nothing.
    fn check_scores(&self, name: &str, scores: &Array2<T>) -> Result<()> {
        let bad = scores.indexed_iter().find(|(_, s)| !s.is_finite());
        match bad.filter(|_| self.plain.mistakes.is_empty()) {
            None => Ok(()),
            Some(((i, j), s)) => {
                Err(ErrorKind::NotFinite { tensor: name.into(), index: vec![i, j], value: s.re() }.into())
            }
        }
    }

    fn see_loss(&mut self, costs: &super::plain::Costs<T>, scores: &Array2<T>, image_ids: Option<&[usize]>) {
        let (hinge, hardest) = costs.margins(self.settings.hinge(), scores.view(), image_ids);
        Margins::see(&mut self.margins.hinge, hinge);
        Margins::see(&mut self.margins.hardest, hardest);
    }

    fn loss(&mut self) -> Result<()> {
        let scores = self.dimensions::<Ix2>("in.scores", "[B, B]")?;
        let batch = scores.nrows();
        let scores = self.matrix("in.scores", Some(batch), Some(batch), "[B, B]")?;
        self.check_scores("in.scores", &scores)?;
        let image_ids = self.image_ids(batch)?;
        let hinge = self.settings.hinge();
        let costs = self.plain.loss(hinge, scores.view(), image_ids.as_deref(), &mut self.trace);
        self.see_loss(&costs, &scores, image_ids.as_deref());
        self.trace.real("grad.in.scores", &self.plain.back().loss_backward(&costs, scores.view(), hinge.margin));
        Ok(())
    }

    fn optimiser(&mut self) -> Result<()> {
        let names: Vec<String> =
            self.inputs.keys().filter_map(|name| name.strip_prefix("param.")).map(Into::into).collect();
        let mut parameters: Tensors<T> = Vec::new();
        for name in &names {
            parameters.push((name.clone(), self.get(&format!("param.{name}"))?.mapv(T::from_f64)));
        }
        if parameters.is_empty() {
            return Err(Error::mismatch("param.*: expected at least one parameter, found none"));
        }
        let mut optimiser = Optimiser::new(&parameters);
        if self.inputs.contains_key("in.step") && !self.plain.mistakes.contains(&M::StateForgotten) {
            let step = self.indices("in.step", 1 << 40, "step")?;
            optimiser.step = step.first().copied().unwrap_or(0) as u64;
            for (k, name) in names.iter().enumerate() {
                for (letter, moment) in [("m", &mut optimiser.m[k].1), ("v", &mut optimiser.v[k].1)] {
                    let given = format!("in.{letter}.{name}");
                    let values = self.get(&given)?;
                    if values.shape() != moment.shape() {
                        return Err(Error::shape(&given, format!("{:?}", moment.shape()), values.shape()));
                    }
                    moment.assign(&values.mapv(T::from_f64));
                }
            }
        }
        let (mut norms, mut clips) = (Vec::new(), Vec::new());
        for step in 0..self.settings.steps {
            let mut gradient: Tensors<T> = Vec::new();
            for (name, p) in &parameters {
                let given = format!("in.grad.{name}");
                let all = self.get(&given)?;
                let mut expected = vec![self.settings.steps];
                expected.extend(p.shape());
                if all.shape() != expected {
                    return Err(Error::shape(&given, format!("{expected:?} (a gradient for each step)"), all.shape()));
                }
                let g = all.index_axis(Axis(0), step).as_standard_layout().mapv(T::from_f64);
                if self.plain.mistakes.is_empty()
                    && let Some((at, g)) = g.indexed_iter().find(|(_, g)| !g.is_finite())
                {
                    let index = ndarray::Dimension::slice(&at).to_vec();
                    return Err(ErrorKind::NotFinite { tensor: given, index, value: g.re() }.into());
                }
                gradient.push((name.clone(), g));
            }
            let (lr, clip) = (self.settings.learning_rate, self.settings.grad_clip);
            let found = self.plain.step(&mut optimiser, &mut parameters, &gradient, lr, clip);
            norms.push(found.norm);
            clips.push(found.clip);
        }
        self.trace.vector("opt.norms", norms);
        self.trace.vector("opt.clip", clips);
        self.add_state(&optimiser, &parameters);
        Ok(())
    }

    fn add_state(&mut self, optimiser: &Optimiser<T>, parameters: &Tensors<T>) {
        for (prefix, tensors) in [("m", &optimiser.m), ("v", &optimiser.v), ("param", parameters)] {
            for (name, tensor) in tensors {
                self.trace.real(format!("opt.{prefix}.{name}"), tensor);
            }
        }
    }

    fn model(&mut self) -> Result<()> {
        let images = self.matrix("in.images", None, None, "[B, F]")?;
        if let Some(((i, j), x)) = images.indexed_iter().find(|(_, x)| !x.is_finite()) {
            return Err(ErrorKind::NotFinite { tensor: "in.images".into(), index: vec![i, j], value: x.re() }.into());
        }
        let fc = self.projection("img_enc.fc", None, Some(images.ncols()), "[D, F]")?;
        let table = self.matrix("param.txt_enc.embed.weight", None, None, "[V, E]")?;
        let gru = self.gru_layers(self.settings.num_layers, Some(table.ncols()))?;
        let (joint, hidden) = (fc.weight.nrows(), gru[0].hidden_size());
        let proj = if self.settings.caption_projection {
            Some(self.projection("txt_enc.proj", Some(joint), Some(hidden), "[D, H]")?)
        } else if hidden == joint {
            None
        } else {
            return Err(Error::mismatch(format!(
                "expected H = D without a caption projection (param.txt_enc.proj.*), found H = {hidden} and D = {joint}"
            )));
        };
        let (captions, lengths) = self.captions(table.nrows())?;
        if captions.nrows() != images.nrows() {
            let expected = format!("[B = {}, T]", images.nrows());
            return Err(Error::shape("in.captions", expected, captions.shape()));
        }
        let image_ids = self.image_ids(images.nrows())?;
        let batch = Batch { images, captions, lengths, image_ids };
        let mut weights = Weights { fc, table, gru, proj };
        let first = self.model_pass(&weights, &batch)?;

        let steps = self.settings.steps;
        if steps == 0 {
            return Ok(());
        }
        let mut parameters = weights.tensors();
        let mut optimiser = Optimiser::new(&parameters);
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        let mut pass = first;
        for step in 0..steps {
            let (lr, clip) = (self.settings.learning_rate, self.settings.grad_clip);
            let found = self.plain.step(&mut optimiser, &mut parameters, &pass.gradient, lr, clip);
            losses.push(pass.loss);
            norms.push(found.norm);
            if step + 1 < steps {
                weights.set(&parameters);
                let kept = std::mem::take(&mut self.trace.entries);
                pass = self.model_pass(&weights, &batch)?;
                self.trace.entries = kept;
            }
        }
        self.trace.vector("opt.losses", losses);
        self.trace.vector("opt.norms", norms);
        self.add_state(&optimiser, &parameters);
        Ok(())
    }

    /// Forward and backward once.
    fn model_pass(&mut self, w: &Weights<T>, batch: &Batch<T>) -> Result<ModelPass<T>> {
        let (plain, settings) = (self.plain, self.settings);
        let image = self.image_side(w, batch)?;
        let caption = self.caption_side(w, batch)?;
        let (f, g) = (image.head.embedding.view(), caption.head.embedding.view());
        self.see_order_kinks(&image.head.embedding, &caption.head.embedding);
        let scores = plain.scores(settings.measure, f, g);
        self.trace.real("out.scores", &scores);
        self.check_scores("out.scores", &scores)?;
        let hinge = settings.hinge();
        let costs = plain.loss(hinge, scores.view(), batch.image_ids.as_deref(), &mut self.trace);
        self.see_loss(&costs, &scores, batch.image_ids.as_deref());

        let d_scores = plain.back().loss_backward(&costs, scores.view(), hinge.margin);
        self.trace.real("grad.out.scores", &d_scores);
        let (d_image, d_caption) = plain.back().scores_backward(settings.measure, f, g, &scores, &d_scores);
        self.trace.real("grad.out.image_embedding", &d_image);
        self.trace.real("grad.out.caption_embedding", &d_caption);
        let fc = self.image_side_backward(w, &image, d_image);
        let (table, gru, proj) = self.caption_side_backward(w, batch, &caption, d_caption);
        Ok(ModelPass { loss: costs.loss, gradient: Weights { fc, table, gru, proj }.tensors() })
    }

    fn wrong(&self, mistake: M) -> bool {
        self.plain.mistakes.contains(&mistake)
    }

    fn use_abs(&self) -> bool {
        self.settings.use_abs || self.wrong(M::AbsForced)
    }

    /// Normalisation, where it is asked for, and absolute value of a side's vectors.
    fn head(&mut self, x: Array2<T>, side: &'static str, skip: [M; 2], abs_dropped: [M; 2]) -> Result<Side<T>> {
        let mut out = Side { norm: None, unit: x, embedding: Array2::zeros((0, 0)) };
        if side == "caption" || !self.settings.no_imgnorm || self.wrong(M::ImageNormForced) {
            let norm = self.plain.l2norm(out.unit.clone(), side, &skip)?;
            norm.norms.iter().for_each(|norm| Margins::see(&mut self.margins.norm, norm.re()));
            self.trace.real(format!("mid.{side}.norm"), &norm.norms);
            out.unit.clone_from(&norm.output);
            out.norm = Some(norm);
        }
        out.embedding.clone_from(&out.unit);
        if self.use_abs() {
            self.trace.real(format!("mid.{side}.unit"), &out.unit);
            out.unit.iter().for_each(|x| Margins::see(&mut self.margins.sign, x.re().abs()));
            out.embedding = self.plain.abs(&out.unit, &abs_dropped);
        }
        self.trace.real(format!("out.{side}_embedding"), &out.embedding);
        Ok(out)
    }

    /// From the gradient of the embeddings to that of the side's vectors.
    fn head_backward(&mut self, head: &Side<T>, d_embedding: Array2<T>, side: &str, abs_dropped: [M; 2]) -> Array2<T> {
        let mut d = d_embedding;
        let use_abs = if self.plain.forward_only { self.settings.use_abs } else { self.use_abs() };
        if use_abs {
            d = self.plain.back().abs_backward(&head.unit, d.view(), &abs_dropped);
            self.trace.real(format!("grad.mid.{side}.unit"), &d);
        }
        match &head.norm {
            Some(norm) => self.plain.back().l2norm_backward(norm, d.view()),
            None => d,
        }
    }

    /// (IMG-1)
    fn image_side(&mut self, w: &Weights<T>, batch: &Batch<T>) -> Result<ImageSide<T>> {
        let features = if self.wrong(M::FeaturesNormalised) {
            self.plain.l2norm(batch.images.clone(), "image", &[])?.output
        } else {
            batch.images.clone()
        };
        let projected = self.plain.linear(&w.fc, features.view(), M::FcBiasDropped);
        self.trace.real("mid.image.projected", &projected);
        let head = self.head(projected, "image", [M::NormSkipped, M::ImageNormSkipped], ABS_OF_IMAGES)?;
        Ok(ImageSide { features, head })
    }

    fn image_side_backward(&mut self, w: &Weights<T>, image: &ImageSide<T>, d_embedding: Array2<T>) -> Linear<T> {
        let by_output =
            self.plain.back().mistakes.contains(&M::LinearBackwardUnnormalised).then(|| d_embedding.clone());
        let d = self.head_backward(&image.head, d_embedding, "image", ABS_OF_IMAGES);
        let d = by_output.unwrap_or(d);
        self.trace.real("grad.mid.image.projected", &d);
        let (d_fc, d_features) =
            self.plain.back().linear_backward(&w.fc, image.features.view(), d.view(), M::FcBiasDropped);
        self.trace.real("grad.img_enc.fc.weight", &d_fc.weight);
        self.trace.real("grad.img_enc.fc.bias", &d_fc.bias);
        self.trace.real("grad.in.images", &d_features);
        d_fc
    }

    /// (TXT-1) and (TXT-2)
    fn caption_side(&mut self, w: &Weights<T>, batch: &Batch<T>) -> Result<CaptionSide<T>> {
        let (rows, hidden) = (batch.captions.nrows(), w.gru[0].hidden_size());
        let words = self.plain.words(w.table.view(), &batch.captions);
        self.trace.real("mid.words", &words);
        let padded = Padded { values: words, lengths: batch.lengths.clone() };
        let pass = self.plain.gru(&w.gru, &padded, &Array3::zeros((w.gru.len(), rows, hidden)), &mut self.trace);
        self.trace.real("mid.last", &pass.last);
        let mut vectors = pass.last.clone();
        if let Some(proj) = &w.proj {
            vectors = self.plain.linear(proj, vectors.view(), M::ProjectionBiasDropped);
            self.trace.real("mid.caption.projected", &vectors);
        }
        let head = self.head(vectors, "caption", [M::NormSkipped, M::CaptionNormSkipped], ABS_OF_CAPTIONS)?;
        Ok(CaptionSide { pass, head })
    }

    #[allow(clippy::type_complexity)] // table, GRU, projection
    fn caption_side_backward(
        &mut self,
        w: &Weights<T>,
        batch: &Batch<T>,
        caption: &CaptionSide<T>,
        d_embedding: Array2<T>,
    ) -> (Array2<T>, Vec<GruLayer<T>>, Option<Linear<T>>) {
        let mut d = self.head_backward(&caption.head, d_embedding, "caption", ABS_OF_CAPTIONS);
        let mut d_proj = None;
        if let Some(proj) = &w.proj {
            self.trace.real("grad.mid.caption.projected", &d);
            let last = caption.pass.last.view();
            let (d_layer, d_last) = self.plain.back().linear_backward(proj, last, d.view(), M::ProjectionBiasDropped);
            self.trace.real("grad.txt_enc.proj.weight", &d_layer.weight);
            self.trace.real("grad.txt_enc.proj.bias", &d_layer.bias);
            d_proj = Some(d_layer);
            d = d_last;
        }
        self.trace.real("grad.mid.last", &d);
        let back = self.plain.back().gru_backward(&caption.pass, d.view(), &mut self.trace);
        for (k, d) in back.layers.iter().enumerate().rev() {
            self.add_gru_gradient(d, k);
        }
        self.trace.real("grad.mid.words", &back.x);
        let d_table =
            self.plain.back().words_backward(w.table.nrows(), &batch.captions, caption.pass.lengths(), &back.x);
        self.trace.real("grad.txt_enc.embed.weight", &d_table);
        (d_table, back.layers, d_proj)
    }
}

/// The mistakes that are made with sequences.
const OF_SEQUENCES: [M; 13] = [
    M::LastAtPaddedEnd,
    M::LastOfZeros,
    M::LastBeforeEnd,
    M::LastFirst,
    M::FirstTokenSkipped,
    M::Reversed,
    M::MeanPooling,
    M::MaxPooling,
    M::RowsNotRestored,
    M::BottomLayer,
    M::GradientAtPaddedEnd,
    M::Truncated,
    M::WeightGradientLastStep,
];

/// The mistakes that leave out the absolute value of one side.
const ABS_OF_IMAGES: [M; 2] = [M::AbsDropped, M::AbsCaptionsAlone];
const ABS_OF_CAPTIONS: [M; 2] = [M::AbsDropped, M::AbsImagesAlone];

/// A side's vectors on their way to the scores.
struct Side<T> {
    norm: Option<Normalised<T>>,
    /// Before the absolute value.
    unit: Array2<T>,
    embedding: Array2<T>,
}

struct ImageSide<T> {
    features: Array2<T>,
    head: Side<T>,
}

struct CaptionSide<T> {
    pass: Pass<T>,
    head: Side<T>,
}

/// A tensor's numbers as indices below a limit.
///
/// **Errors** with the first that is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
fn whole_numbers(name: &str, x: &ArrayD<f64>, limit: usize, what: &str) -> Result<ArrayD<usize>> {
    for (at, &value) in x.indexed_iter() {
        if !(value >= 0.0 && value.fract() == 0.0 && value < 9e15 && (value as usize) < limit) {
            let below = if limit == usize::MAX { String::new() } else { format!(" below {limit}") };
            let index = ndarray::Dimension::slice(&at);
            let problem = format!("{name}: {what} {value} at {index:?}: expected a whole number from 0{below}");
            return Err(Error::mismatch(problem));
        }
    }
    Ok(x.mapv(|value| value as usize))
}

impl<T: Real> Weights<T> {
    /// By name, in the order of [`crate::model::Parameters::named`].
    fn tensors(&self) -> Tensors<T> {
        let mut all: Tensors<T> = vec![
            ("img_enc.fc.weight".into(), self.fc.weight.clone().into_dyn()),
            ("img_enc.fc.bias".into(), self.fc.bias.clone().into_dyn()),
            ("txt_enc.embed.weight".into(), self.table.clone().into_dyn()),
        ];
        for (k, layer) in self.gru.iter().enumerate() {
            all.push((format!("txt_enc.rnn.weight_ih_l{k}"), layer.weight_ih.clone().into_dyn()));
            all.push((format!("txt_enc.rnn.weight_hh_l{k}"), layer.weight_hh.clone().into_dyn()));
            all.push((format!("txt_enc.rnn.bias_ih_l{k}"), layer.bias_ih.clone().into_dyn()));
            all.push((format!("txt_enc.rnn.bias_hh_l{k}"), layer.bias_hh.clone().into_dyn()));
        }
        if let Some(proj) = &self.proj {
            all.push(("txt_enc.proj.weight".into(), proj.weight.clone().into_dyn()));
            all.push(("txt_enc.proj.bias".into(), proj.bias.clone().into_dyn()));
        }
        all
    }

    /// The numbers of [`Self::tensors`] back into the arrays.
    fn set(&mut self, tensors: &Tensors<T>) {
        fn put<T: Real, D: ndarray::Dimension>(into: &mut ndarray::Array<T, D>, from: Option<&ArrayD<T>>) {
            let from = from.and_then(|x| x.view().into_dimensionality::<D>().ok()).expect("as many as before");
            into.assign(&from);
        }
        let mut tensors = tensors.iter().map(|(_, tensor)| tensor);
        put(&mut self.fc.weight, tensors.next());
        put(&mut self.fc.bias, tensors.next());
        put(&mut self.table, tensors.next());
        for layer in &mut self.gru {
            put(&mut layer.weight_ih, tensors.next());
            put(&mut layer.weight_hh, tensors.next());
            put(&mut layer.bias_ih, tensors.next());
            put(&mut layer.bias_hh, tensors.next());
        }
        if let Some(proj) = &mut self.proj {
            put(&mut proj.weight, tensors.next());
            put(&mut proj.bias, tensors.next());
        }
    }
}
