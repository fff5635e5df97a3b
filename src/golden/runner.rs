//! Runs each program: the inputs are checked, the plain computation does the work, and every value goes
//! into the trace.

use ndarray::{Array2, Array3, Axis};

use super::inputs::{Batch, EMBED, FC, GruInputs, PROJ, Reader, check_finite, rnn};
use super::pictures;
use super::plain::{Normalised, Optimiser, Padded, Pass, Plain, Tensors, Trace, abs, abs_backward, words};
use super::program::{Inputs, Margins, Program, Run, Settings};
use crate::error::{Error, Result};
use crate::real::Real;
use crate::spec::gru::GruLayer;
use crate::spec::layers::Linear;
use crate::spec::model::Parameters;

impl Program {
    /// Computes the program on these inputs.
    ///
    /// # Errors
    ///
    /// If an input is missing, does not have the shape that the others imply, or must be refused (a zero row
    /// to be normalised, an id out of range, a length of 0, scores that are not finite).
    pub(crate) fn run<T: Real>(self, settings: &Settings, inputs: &Inputs, plain: &Plain<'_>) -> Result<Run<T>> {
        check_steps(settings)?;
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
            Self::Conv | Self::BatchNorm | Self::MaxPool | Self::AvgPool | Self::Block | Self::Resnet | Self::Vgg => {
                return pictures::run(self, &run.reader(), plain);
            }
        }
        Ok(Run { trace: run.trace, margins: run.margins })
    }
}

/// # Errors
///
/// If there are more steps than a user's own case may have.
pub(super) fn check_steps(settings: &Settings) -> Result<()> {
    const STEPS: usize = 100_000;
    if settings.steps > STEPS {
        return Err(Error::config("steps", format!("at most {STEPS}"), settings.steps));
    }
    Ok(())
}

/// A running program.
struct Runner<'a, 'p, T> {
    settings: &'a Settings,
    inputs: &'a Inputs,
    plain: &'a Plain<'p>,
    trace: Trace<T>,
    margins: Margins,
}

/// The results of a pass through the model that the optimiser needs.
struct ModelPass<T> {
    loss: T,
    gradient: Tensors<T>,
}

impl<T: Real> Runner<'_, '_, T> {
    fn reader(&self) -> Reader<'_> {
        Reader { inputs: self.inputs, settings: self.settings, arithmetic: self.plain.arithmetic }
    }

    fn gru_cell(&mut self) -> Result<()> {
        let GruInputs { layers, x, lengths, h0, d_last } = self.reader().gru_cell()?;
        let mut inner = Trace::default();
        let pass = self.plain.gru(&layers, &Padded { values: x, lengths }, &h0, &mut inner);
        let back = self.plain.gru_backward(&pass, d_last.view(), &mut inner);
        let take = |trace: &mut Trace<T>, from: &str, to: &str| {
            if let Some(values) = inner.get(from) {
                trace.real(to, &values.index_axis(Axis(1), 0).to_owned());
            }
        };
        for part in ["a", "c", "r", "z", "n"] {
            take(&mut self.trace, &format!("mid.l0.{part}"), &format!("mid.{part}"));
        }
        self.trace.real("out.h_next", &pass.last);
        for part in ["n", "z", "r", "a", "c"] {
            take(&mut self.trace, &format!("grad.mid.l0.{part}"), &format!("grad.mid.{part}"));
        }
        self.add_gru_gradient(&back.layers[0], 0);
        self.trace.real("grad.in.x", &back.x.index_axis(Axis(1), 0).to_owned());
        self.trace.real("grad.in.h", &back.h0.index_axis(Axis(0), 0).to_owned());
        Ok(())
    }

    fn add_gru_gradient(&mut self, d: &GruLayer<T>, k: usize) {
        self.trace.real(format!("grad.{}", rnn("weight_ih", k)), &d.weight_ih);
        self.trace.real(format!("grad.{}", rnn("weight_hh", k)), &d.weight_hh);
        self.trace.real(format!("grad.{}", rnn("bias_ih", k)), &d.bias_ih);
        self.trace.real(format!("grad.{}", rnn("bias_hh", k)), &d.bias_hh);
    }

    fn gru(&mut self) -> Result<()> {
        let GruInputs { layers, x, lengths, h0, d_last } = self.reader().gru()?;
        let pass = self.plain.gru(&layers, &Padded { values: x, lengths }, &h0, &mut self.trace);
        self.trace.real("out.last", &pass.last);
        let back = self.plain.gru_backward(&pass, d_last.view(), &mut self.trace);
        for (k, d) in back.layers.iter().enumerate().rev() {
            self.add_gru_gradient(d, k);
        }
        self.trace.real("grad.in.x", &back.x);
        if self.inputs.contains_key("in.h0") {
            self.trace.real("grad.in.h0", &back.h0);
        }
        Ok(())
    }

    fn embedding(&mut self) -> Result<()> {
        let (table, ids, lengths, d) = self.reader().embedding()?;
        self.trace.real("mid.words", &words(table.view(), &ids));
        let d_table = self.plain.words_backward(table.nrows(), &ids, &lengths, &d);
        self.trace.real(format!("grad.{EMBED}"), &d_table);
        Ok(())
    }

    fn add_linear_gradient(&mut self, path: &str, d: &Linear<T>) {
        self.trace.real(format!("grad.{path}.weight"), &d.weight);
        self.trace.real(format!("grad.{path}.bias"), &d.bias);
    }

    fn linear(&mut self) -> Result<()> {
        let (layer, x, d_y) = self.reader().linear()?;
        let y = self.plain.linear(&layer, x.view());
        let (d, d_x) = self.plain.linear_backward(&layer, x.view(), d_y.view());
        self.trace.real("out.y", &y);
        self.add_linear_gradient(FC, &d);
        self.trace.real("grad.in.x", &d_x);
        Ok(())
    }

    fn l2norm(&mut self) -> Result<()> {
        let (x, d_y) = self.reader().l2norm()?;
        let norm = self.plain.l2norm(x, "image")?;
        self.margins.see_norms(&norm.norms);
        self.trace.real("mid.norm", &norm.norms);
        self.trace.real("out.y", &norm.output);
        self.trace.real("grad.in.x", &self.plain.l2norm_backward(&norm, d_y.view()));
        Ok(())
    }

    fn scores(&mut self) -> Result<()> {
        let (f, g, d) = self.reader().scores()?;
        self.margins.see_order(self.settings.measure, &f, &g);
        let scores = self.plain.scores(self.settings.measure, f.view(), g.view());
        let (df, dg) = self.plain.scores_backward(self.settings.measure, f.view(), g.view(), &scores, &d);
        self.trace.real("out.scores", &scores);
        self.trace.real("grad.in.image_embedding", &df);
        self.trace.real("grad.in.caption_embedding", &dg);
        Ok(())
    }

    fn loss(&mut self) -> Result<()> {
        let (scores, image_ids) = self.reader().loss()?;
        let hinge = self.settings.hinge();
        let costs = self.plain.loss(hinge, scores.view(), image_ids.as_deref(), &mut self.trace);
        self.margins.see_loss(hinge, &scores, image_ids.as_deref());
        self.trace.real("grad.in.scores", &self.plain.loss_backward(&costs));
        Ok(())
    }

    fn optimiser(&mut self) -> Result<()> {
        let mut parameters: Tensors<T> = self.reader().optimiser_parameters()?;
        let mut optimiser = Optimiser::new(&parameters);
        let state = self.reader().optimiser_state(&parameters)?;
        (optimiser.step, optimiser.m, optimiser.v) = (state.step, state.m, state.v);
        let (mut norms, mut clips) = (Vec::new(), Vec::new());
        for step in 0..self.settings.steps {
            let gradient = self.reader().optimiser_gradient(&parameters, step)?;
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
        let (mut weights, batch) = self.reader().model()?;
        let first = self.model_pass(&weights, &batch)?;

        let steps = self.settings.steps;
        if steps == 0 {
            return Ok(());
        }
        let mut parameters = tensors(&mut weights);
        let mut optimiser = Optimiser::new(&parameters);
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        let mut pass = first;
        for step in 0..steps {
            let (lr, clip) = (self.settings.learning_rate, self.settings.grad_clip);
            let found = self.plain.step(&mut optimiser, &mut parameters, &pass.gradient, lr, clip);
            losses.push(pass.loss);
            norms.push(found.norm);
            if step + 1 < steps {
                for ((_, mut into), (_, from)) in weights.named().into_iter().zip(&parameters) {
                    into.assign(from);
                }
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
    fn model_pass(&mut self, w: &Parameters<T>, batch: &Batch<T>) -> Result<ModelPass<T>> {
        let (plain, settings) = (self.plain, self.settings);
        let image = self.image_side(w, batch)?;
        let caption = self.caption_side(w, batch)?;
        let (f, g) = (image.embedding.view(), caption.head.embedding.view());
        self.margins.see_order(settings.measure, &image.embedding, &caption.head.embedding);
        let scores = plain.scores(settings.measure, f, g);
        self.trace.real("out.scores", &scores);
        check_finite("out.scores", &scores)?;
        let hinge = settings.hinge();
        let costs = plain.loss(hinge, scores.view(), batch.image_ids.as_deref(), &mut self.trace);
        self.margins.see_loss(hinge, &scores, batch.image_ids.as_deref());

        let d_scores = plain.loss_backward(&costs);
        self.trace.real("grad.out.scores", &d_scores);
        let (d_image, d_caption) = plain.scores_backward(settings.measure, f, g, &scores, &d_scores);
        self.trace.real("grad.out.image_embedding", &d_image);
        self.trace.real("grad.out.caption_embedding", &d_caption);
        let fc = self.image_side_backward(w, batch, &image, d_image);
        let (embed, rnn, proj) = self.caption_side_backward(w, batch, &caption, d_caption);
        Ok(ModelPass { loss: costs.loss, gradient: tensors(&mut Parameters { fc, embed, rnn, proj }) })
    }

    /// The normalisation and the absolute value of a side's vectors, as the settings ask.
    fn head(&mut self, x: Array2<T>, side: &'static str) -> Result<Side<T>> {
        let mut out = Side { norm: None, unit: x, embedding: Array2::zeros((0, 0)) };
        if side == "caption" || !self.settings.no_imgnorm {
            let norm = self.plain.l2norm(out.unit.clone(), side)?;
            self.margins.see_norms(&norm.norms);
            self.trace.real(format!("mid.{side}.norm"), &norm.norms);
            out.unit.clone_from(&norm.output);
            out.norm = Some(norm);
        }
        out.embedding.clone_from(&out.unit);
        if self.settings.use_abs {
            self.trace.real(format!("mid.{side}.unit"), &out.unit);
            self.margins.see_signs(&out.unit);
            out.embedding = abs(&out.unit);
        }
        self.trace.real(format!("out.{side}_embedding"), &out.embedding);
        Ok(out)
    }

    /// From the gradient of the embeddings to that of the side's vectors.
    fn head_backward(&mut self, head: &Side<T>, d_embedding: Array2<T>, side: &str) -> Array2<T> {
        let mut d = d_embedding;
        if self.settings.use_abs {
            d = abs_backward(&head.unit, d.view());
            self.trace.real(format!("grad.mid.{side}.unit"), &d);
        }
        match &head.norm {
            Some(norm) => self.plain.l2norm_backward(norm, d.view()),
            None => d,
        }
    }

    /// (IMG-1)
    fn image_side(&mut self, w: &Parameters<T>, batch: &Batch<T>) -> Result<Side<T>> {
        let projected = self.plain.linear(&w.fc, batch.images.view());
        self.trace.real("mid.image.projected", &projected);
        self.head(projected, "image")
    }

    fn image_side_backward(
        &mut self,
        w: &Parameters<T>,
        batch: &Batch<T>,
        image: &Side<T>,
        d_embedding: Array2<T>,
    ) -> Linear<T> {
        let d = self.head_backward(image, d_embedding, "image");
        self.trace.real("grad.mid.image.projected", &d);
        let (d_fc, d_features) = self.plain.linear_backward(&w.fc, batch.images.view(), d.view());
        self.add_linear_gradient(FC, &d_fc);
        self.trace.real("grad.in.images", &d_features);
        d_fc
    }

    /// (TXT-1) and (TXT-2)
    fn caption_side(&mut self, w: &Parameters<T>, batch: &Batch<T>) -> Result<CaptionSide<T>> {
        let (rows, hidden) = (batch.captions.nrows(), w.rnn[0].weight_hh.ncols());
        let all = words(w.embed.view(), &batch.captions);
        self.trace.real("mid.words", &all);
        let padded = Padded { values: all, lengths: batch.lengths.clone() };
        let pass = self.plain.gru(&w.rnn, &padded, &Array3::zeros((w.rnn.len(), rows, hidden)), &mut self.trace);
        self.trace.real("mid.last", &pass.last);
        let mut vectors = pass.last.clone();
        if let Some(proj) = &w.proj {
            vectors = self.plain.linear(proj, vectors.view());
            self.trace.real("mid.caption.projected", &vectors);
        }
        let head = self.head(vectors, "caption")?;
        Ok(CaptionSide { pass, head })
    }

    #[allow(clippy::type_complexity)] // table, GRU, projection
    fn caption_side_backward(
        &mut self,
        w: &Parameters<T>,
        batch: &Batch<T>,
        caption: &CaptionSide<T>,
        d_embedding: Array2<T>,
    ) -> (Array2<T>, Vec<GruLayer<T>>, Option<Linear<T>>) {
        let mut d = self.head_backward(&caption.head, d_embedding, "caption");
        let mut d_proj = None;
        if let Some(proj) = &w.proj {
            self.trace.real("grad.mid.caption.projected", &d);
            let last = caption.pass.last.view();
            let (d_layer, d_last) = self.plain.linear_backward(proj, last, d.view());
            self.add_linear_gradient(PROJ, &d_layer);
            d_proj = Some(d_layer);
            d = d_last;
        }
        self.trace.real("grad.mid.last", &d);
        let back = self.plain.gru_backward(&caption.pass, d.view(), &mut self.trace);
        for (k, d) in back.layers.iter().enumerate().rev() {
            self.add_gru_gradient(d, k);
        }
        self.trace.real("grad.mid.words", &back.x);
        let d_table = self.plain.words_backward(w.embed.nrows(), &batch.captions, caption.pass.lengths(), &back.x);
        self.trace.real(format!("grad.{EMBED}"), &d_table);
        (d_table, back.layers, d_proj)
    }
}

/// A side's vectors, from the projection to the scores.
struct Side<T> {
    norm: Option<Normalised<T>>,
    /// Before the absolute value.
    unit: Array2<T>,
    embedding: Array2<T>,
}

struct CaptionSide<T> {
    pass: Pass<T>,
    head: Side<T>,
}

/// A copy of all tensors, with their names.
fn tensors<T: Real>(parameters: &mut Parameters<T>) -> Tensors<T> {
    parameters.named().into_iter().map(|(name, tensor)| (name, tensor.to_owned())).collect()
}
