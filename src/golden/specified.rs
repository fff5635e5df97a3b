//! The expected values of a case: each program computed by the specification, [`crate::spec`].
//!
//! The tensors and their order are those of [`Program::run`], which computes the same in any arithmetic
//! and with any mistake. `golden/tests.rs` compares the two, bit by bit.

use ndarray::{Array2, ArrayView, Axis, RemoveAxis};

use super::inputs::{EMBED, FC, GruInputs, PROJ, Reader, check_finite, rnn};
use super::pictures::Specification;
use super::plain::{Kind, Tensors, Trace};
use super::program::{Inputs, Margins, Program, Run, Settings};
use super::{Arithmetic, pictures, runner};
use crate::error::{ErrorKind, Result};
use crate::loss::Violation;
use crate::similarity::Measure;
use crate::spec::gru::{Gru, GruLayer, gru, gru_backward};
use crate::spec::layers::{self, Linear};
use crate::spec::loss::{self as spec_loss, Loss, loss, loss_backward};
use crate::spec::model::{self, Parameters, Side, Task};
use crate::spec::{optim, scores};

impl Program {
    /// Computes the golden values.
    ///
    /// # Errors
    ///
    /// As [`Program::run`].
    pub(crate) fn specified(self, settings: &Settings, inputs: &Inputs) -> Result<Run<f64>> {
        runner::check_steps(settings)?;
        let read = Reader { inputs, settings, arithmetic: Arithmetic::PLAIN };
        let mut run = Specified { settings, read, trace: Trace::default(), margins: Margins::NONE };
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
            Self::Conv | Self::BatchNorm | Self::MaxPool | Self::AvgPool | Self::Block | Self::Resnet | Self::Vgg => {
                return pictures::run(self, &run.read, &Specification);
            }
        }
        Ok(Run { trace: run.trace, margins: run.margins })
    }
}

/// A running program.
struct Specified<'a> {
    settings: &'a Settings,
    read: Reader<'a>,
    trace: Trace<f64>,
    margins: Margins,
}

/// The measure, as the specification's type.
fn measure(measure: Measure) -> scores::Measure {
    match measure {
        Measure::Cosine => scores::Measure::Cosine,
        Measure::Order => scores::Measure::Order,
        Measure::OrderSquared => scores::Measure::OrderSquared,
    }
}

/// All other pairs, or those of another image.
fn negatives(batch: usize, image_ids: Option<&[usize]>) -> [Array2<bool>; 2] {
    spec_loss::negatives(batch, |i, j| image_ids.is_none_or(|ids| ids[i] != ids[j]))
}

/// Which negatives count, as the specification's type.
fn violation(violation: Violation) -> spec_loss::Violation {
    match violation {
        Violation::Sum => spec_loss::Violation::Sum,
        Violation::Max => spec_loss::Violation::Max,
        Violation::Hardest(k) => spec_loss::Violation::Hardest(k),
        Violation::LogSumExp(temperature) => spec_loss::Violation::LogSumExp(temperature),
        Violation::SemiHard => spec_loss::Violation::SemiHard,
    }
}

/// The tensors of a GRU layer in the order of the data flow.
fn forward_of(y: &Gru<f64>) -> [(&'static str, &ndarray::Array3<f64>); 6] {
    [("a", &y.a), ("c", &y.c), ("r", &y.r), ("z", &y.z), ("n", &y.n), ("h", &y.h)]
}

/// Their gradients in the order in which they are computed.
fn backward_of(d: &Gru<f64>) -> [(&'static str, &ndarray::Array3<f64>); 6] {
    [("h", &d.h), ("n", &d.n), ("z", &d.z), ("r", &d.r), ("a", &d.a), ("c", &d.c)]
}

/// All layers.
fn gru_forward(inputs: &GruInputs<f64>) -> Vec<Gru<f64>> {
    let mut all: Vec<Gru<f64>> = Vec::new();
    for (layer, h0) in inputs.layers.iter().zip(inputs.h0.outer_iter()) {
        let x = all.last().map_or(&inputs.x, |below| &below.h).clone();
        all.push(gru(layer, x, h0.to_owned(), &inputs.lengths));
    }
    all
}

impl Specified<'_> {
    fn add_gru_gradient(&mut self, d: &GruLayer<f64>, k: usize) {
        self.trace.real(format!("grad.{}", rnn("weight_ih", k)), &d.weight_ih);
        self.trace.real(format!("grad.{}", rnn("weight_hh", k)), &d.weight_hh);
        self.trace.real(format!("grad.{}", rnn("bias_ih", k)), &d.bias_ih);
        self.trace.real(format!("grad.{}", rnn("bias_hh", k)), &d.bias_hh);
    }

    fn add_linear_gradient(&mut self, path: &str, d: &Linear<f64>) {
        self.trace.real(format!("grad.{path}.weight"), &d.weight);
        self.trace.real(format!("grad.{path}.bias"), &d.bias);
    }

    fn gru_cell(&mut self) -> Result<()> {
        /// The only row of an axis.
        fn only<D: RemoveAxis>(x: ArrayView<'_, f64, D>, axis: usize) -> ndarray::Array<f64, D::Smaller> {
            x.index_axis_move(Axis(axis), 0).to_owned()
        }
        let inputs = self.read.gru_cell()?;
        let y = gru_forward(&inputs).remove(0);
        let dh = model::last_backward(&inputs.d_last, 1, &inputs.lengths);
        let (d, dw) = gru_backward(&inputs.layers[0], &y, &dh, &inputs.lengths);
        for (name, values) in forward_of(&y).into_iter().filter(|&(name, _)| name != "h") {
            self.trace.real(format!("mid.{name}"), &only(values.view(), 1));
        }
        self.trace.real("out.h_next", &only(y.h.view(), 1));
        for (name, values) in backward_of(&d).into_iter().filter(|&(name, _)| name != "h") {
            self.trace.real(format!("grad.mid.{name}"), &only(values.view(), 1));
        }
        self.add_gru_gradient(&dw, 0);
        self.trace.real("grad.in.x", &only(d.x.view(), 1));
        self.trace.real("grad.in.h", &d.h0);
        Ok(())
    }

    fn add_gru(&mut self, layers: &[Gru<f64>]) {
        for (k, y) in layers.iter().enumerate() {
            for (name, values) in forward_of(y) {
                self.trace.real(format!("mid.l{k}.{name}"), values);
            }
        }
    }

    /// The top layer comes first.
    fn add_gru_backward(&mut self, layers: &[Gru<f64>], weights: &[GruLayer<f64>]) {
        for (k, d) in layers.iter().enumerate().rev() {
            for (name, values) in backward_of(d) {
                self.trace.real(format!("grad.mid.l{k}.{name}"), values);
            }
        }
        for (k, dw) in weights.iter().enumerate().rev() {
            self.add_gru_gradient(dw, k);
        }
    }

    fn gru(&mut self) -> Result<()> {
        let inputs = self.read.gru()?;
        let y = gru_forward(&inputs);
        self.add_gru(&y);
        let states = &y[y.len() - 1].h;
        self.trace.real("out.last", &model::last(states, &inputs.lengths));
        let mut dh = model::last_backward(&inputs.d_last, inputs.x.dim().1, &inputs.lengths);
        let (mut layers, mut weights) = (Vec::new(), Vec::new());
        for (layer, y) in inputs.layers.iter().zip(&y).rev() {
            let (d, dw) = gru_backward(layer, y, &dh, &inputs.lengths);
            dh.clone_from(&d.x);
            layers.insert(0, d);
            weights.insert(0, dw);
        }
        self.add_gru_backward(&layers, &weights);
        self.trace.real("grad.in.x", &layers[0].x);
        if self.read.inputs.contains_key("in.h0") {
            let mut h0 = inputs.h0;
            for (mut h0, d) in h0.outer_iter_mut().zip(&layers) {
                h0.assign(&d.h0);
            }
            self.trace.real("grad.in.h0", &h0);
        }
        Ok(())
    }

    fn embedding(&mut self) -> Result<()> {
        let (table, ids, lengths, d) = self.read.embedding()?;
        self.trace.real("mid.words", &layers::words(&table, &ids));
        self.trace.real(format!("grad.{EMBED}"), &layers::words_backward(table.nrows(), &ids, &lengths, &d));
        Ok(())
    }

    fn linear(&mut self) -> Result<()> {
        let (layer, x, dy) = self.read.linear()?;
        self.trace.real("out.y", &layers::linear(&layer, &x));
        let (d, dx) = layers::linear_backward(&layer, &x, &dy);
        self.add_linear_gradient(FC, &d);
        self.trace.real("grad.in.x", &dx);
        Ok(())
    }

    fn l2norm(&mut self) -> Result<()> {
        let (x, dy) = self.read.l2norm()?;
        let (y, norms) =
            layers::l2norm(&x).map_err(|row| ErrorKind::ZeroNorm { tensor: "image embedding".into(), row })?;
        self.margins.see_norms(&norms);
        self.trace.real("mid.norm", &norms);
        self.trace.real("out.y", &y);
        self.trace.real("grad.in.x", &layers::l2norm_backward(&y, &norms, &dy));
        Ok(())
    }

    fn scores(&mut self) -> Result<()> {
        let (f, g, ds) = self.read.scores()?;
        self.margins.see_order(self.settings.measure, &f, &g);
        let by = measure(self.settings.measure);
        self.trace.real("out.scores", &scores::scores(by, &f, &g));
        let [df, dg] = scores::scores_backward(by, &f, &g, &ds);
        self.trace.real("grad.in.image_embedding", &df);
        self.trace.real("grad.in.caption_embedding", &dg);
        Ok(())
    }

    fn add_loss(&mut self, y: &Loss<f64>, scores: &Array2<f64>, image_ids: Option<&[usize]>) {
        let hinge = self.settings.hinge();
        self.margins.see_loss(hinge, scores, image_ids);
        self.trace.real("mid.cost_s", &y.cost_s);
        self.trace.real("mid.cost_im", &y.cost_im);
        if matches!(hinge.violation, Violation::Max | Violation::SemiHard) {
            // The index of the negative that counts; −1 if there is none.
            let hardest = |counts: ArrayView<'_, f64, ndarray::Ix2>| -> ndarray::Array1<f64> {
                let place = |query: ndarray::ArrayView1<'_, f64>| query.iter().position(|&counts| counts > 0.0);
                counts.outer_iter().map(|query| place(query).map_or(-1.0, |place| place as f64)).collect()
            };
            self.trace.add("mid.hardest_s", Kind::Index, &hardest(y.counts_s.view()));
            self.trace.add("mid.hardest_im", Kind::Index, &hardest(y.counts_im.t()));
        }
        if matches!(hinge.violation, Violation::LogSumExp(_)) {
            self.trace.real("mid.weight_s", &y.counts_s);
            self.trace.real("mid.weight_im", &y.counts_im);
        } else {
            self.trace.add("mid.active_s", Kind::Mask, &y.counts_s);
            self.trace.add("mid.active_im", Kind::Mask, &y.counts_im);
        }
        self.trace.vector("out.loss", vec![y.loss]);
    }

    fn loss(&mut self) -> Result<()> {
        let (s, image_ids) = self.read.loss()?;
        let hinge = self.settings.hinge();
        let y = loss(&s, hinge.margin, violation(hinge.violation), &negatives(s.nrows(), image_ids.as_deref()));
        self.add_loss(&y, &s, image_ids.as_deref());
        self.trace.real("grad.in.scores", &loss_backward(&y));
        Ok(())
    }

    fn optimiser(&mut self) -> Result<()> {
        let mut parameters: Tensors<f64> = self.read.optimiser_parameters()?;
        let mut state = self.read.optimiser_state(&parameters)?;
        let (mut norms, mut clips) = (Vec::new(), Vec::new());
        for step in 0..self.settings.steps {
            let mut gradient = self.read.optimiser_gradient(&parameters, step)?;
            let gradient: Vec<_> = gradient.iter_mut().map(|(_, g)| g.view_mut()).collect();
            let norm = optim::global_norm(&gradient);
            let clip = optim::clip(norm, self.settings.grad_clip);
            state.step += 1;
            let moments = state.m.iter_mut().zip(&mut state.v);
            for (((_, theta), g), ((_, m), (_, v))) in parameters.iter_mut().zip(gradient).zip(moments) {
                let tensors = [theta.view_mut(), g, m.view_mut(), v.view_mut()];
                optim::adam(tensors, clip, state.step, self.settings.learning_rate);
            }
            norms.push(norm);
            clips.push(clip);
        }
        self.trace.vector("opt.norms", norms);
        self.trace.vector("opt.clip", clips);
        for (prefix, tensors) in [("m", &state.m), ("v", &state.v), ("param", &parameters)] {
            for (name, tensor) in tensors {
                self.trace.real(format!("opt.{prefix}.{name}"), tensor);
            }
        }
        Ok(())
    }

    fn model(&mut self) -> Result<()> {
        let (mut w, batch) = self.read.model::<f64>()?;
        let Settings { margin, use_abs, no_imgnorm, steps, learning_rate, grad_clip, .. } = *self.settings;
        let image_ids = batch.image_ids.as_deref();
        let task = Task {
            images: batch.images,
            negatives: negatives(batch.captions.nrows(), image_ids),
            captions: batch.captions,
            lengths: batch.lengths,
            margin,
            violation: violation(self.settings.hinge().violation),
            measure: measure(self.settings.measure),
            use_abs,
            no_imgnorm,
        };
        let mut pass = self.model_pass(&w, &task, image_ids)?;
        let zeros = |w: &Parameters<f64>| {
            let mut zeros = w.clone();
            zeros.named().into_iter().for_each(|(_, mut tensor)| tensor.fill(0.0));
            zeros
        };
        let (mut m, mut v) = (zeros(&w), zeros(&w));
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for step in 1..=steps {
            let (loss, mut gradient) = pass;
            let (norm, _) = model::step([&mut w, &mut gradient, &mut m, &mut v], step as u64, learning_rate, grad_clip);
            losses.push(loss);
            norms.push(norm);
            // The last step's parameters are not used.
            pass = (loss, gradient);
            if step < steps {
                let first = std::mem::take(&mut self.trace.entries);
                pass = self.model_pass(&w, &task, image_ids)?;
                self.trace.entries = first;
            }
        }
        if steps > 0 {
            self.trace.vector("opt.losses", losses);
            self.trace.vector("opt.norms", norms);
            for (prefix, parameters) in [("m", &mut m), ("v", &mut v), ("param", &mut w)] {
                for (name, tensor) in parameters.named() {
                    self.trace.real(format!("opt.{prefix}.{name}"), &tensor.to_owned());
                }
            }
        }
        Ok(())
    }

    fn add_side(&mut self, name: &str, y: &Side<f64>) {
        if let Some(norms) = &y.norms {
            self.margins.see_norms(norms);
            self.trace.real(format!("mid.{name}.norm"), norms);
        }
        if self.settings.use_abs {
            self.margins.see_signs(&y.unit);
            self.trace.real(format!("mid.{name}.unit"), &y.unit);
        }
        self.trace.real(format!("out.{name}_embedding"), &y.embedding);
    }

    /// Forward and backward once: the loss and the parameters' gradients.
    fn model_pass(
        &mut self,
        w: &Parameters<f64>,
        task: &Task<f64>,
        image_ids: Option<&[usize]>,
    ) -> Result<(f64, Parameters<f64>)> {
        let (y, loss) = model::forward(w, task)?;
        self.trace.real("mid.image.projected", &y.image.projected);
        self.add_side("image", &y.image);
        self.trace.real("mid.words", &y.rnn[0].x);
        self.add_gru(&y.rnn);
        self.trace.real("mid.last", &y.last);
        if w.proj.is_some() {
            self.trace.real("mid.caption.projected", &y.caption.projected);
        }
        self.add_side("caption", &y.caption);
        self.margins.see_order(self.settings.measure, &y.image.embedding, &y.caption.embedding);
        self.trace.real("out.scores", &y.scores);
        check_finite("out.scores", &y.scores)?;
        self.add_loss(&loss, &y.scores, image_ids);

        let (d, gradient) = model::backward(w, task, &y, loss_backward(&loss));
        self.trace.real("grad.out.scores", &d.scores);
        self.trace.real("grad.out.image_embedding", &d.image.embedding);
        self.trace.real("grad.out.caption_embedding", &d.caption.embedding);
        self.add_unit_gradient("image", &d.image);
        self.trace.real("grad.mid.image.projected", &d.image.projected);
        self.add_linear_gradient(FC, &gradient.fc);
        self.trace.real("grad.in.images", &d.images);
        self.add_unit_gradient("caption", &d.caption);
        if let Some(proj) = &gradient.proj {
            self.trace.real("grad.mid.caption.projected", &d.caption.projected);
            self.add_linear_gradient(PROJ, proj);
        }
        self.trace.real("grad.mid.last", &d.last);
        self.add_gru_backward(&d.rnn, &gradient.rnn);
        self.trace.real("grad.mid.words", &d.rnn[0].x);
        self.trace.real(format!("grad.{EMBED}"), &gradient.embed);
        Ok((loss.loss, gradient))
    }

    fn add_unit_gradient(&mut self, name: &str, d: &Side<f64>) {
        if self.settings.use_abs {
            self.trace.real(format!("grad.mid.{name}.unit"), &d.unit);
        }
    }
}
