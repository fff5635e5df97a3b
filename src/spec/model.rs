//! The model put together: forward, backward, a step of training.
use super::{gru::*, layers::*, loss::*, optim::*, scores::*, *};
use crate::error::{ErrorKind, Result};

/// What is trained; or its gradients, or Adam's moments. `proj` is there with a caption projection.
#[derive(Clone, Debug)]
pub struct Parameters<T> {
    pub fc: Linear<T>,
    pub embed: Array2<T>,
    pub rnn: Vec<GruLayer<T>>,
    pub proj: Option<Linear<T>>,
}

/// A batch and the settings: φ [B, F], word ids [B, T], lengths `[B]`, the negatives of images and captions [B, B].
pub struct Task<T> {
    pub images: Array2<T>,
    pub captions: Array2<usize>,
    pub lengths: Vec<usize>,
    pub negatives: [Array2<bool>; 2],
    pub margin: f64,
    pub violation: Violation,
    pub measure: Measure,
    pub use_abs: bool,
    pub no_imgnorm: bool,
}

/// One side's vectors [B, D] before (NORM-1), after it, and after (ABS-1), or their gradients; and ‖x‖ `[B]`.
pub struct Side<T> {
    pub projected: Array2<T>,
    pub unit: Array2<T>,
    pub embedding: Array2<T>,
    pub norms: Option<Array1<T>>,
}

/// All values from the images and the words to the scores, or their gradients; `last` is ψ [B, H].
pub struct Pass<T> {
    pub images: Array2<T>,
    pub image: Side<T>,
    pub rnn: Vec<Gru<T>>,
    pub last: Array2<T>,
    pub caption: Side<T>,
    pub scores: Array2<T>,
}

fn side<T: Scalar>(x: Array2<T>, name: &str, normalise: bool, use_abs: bool) -> Result<Side<T>> {
    let zero = |row| ErrorKind::ZeroNorm { tensor: name.into(), row };
    let y = normalise.then(|| l2norm(&x)).transpose().map_err(zero)?;
    let (unit, norms) = y.map_or((x.clone(), None), |(unit, norms)| (unit, Some(norms)));
    let embedding = if use_abs { abs(&unit) } else { unit.clone() };
    Ok(Side { projected: x, unit, embedding, norms })
}

fn side_backward<T: Real>(y: &Side<T>, embedding: Array2<T>, use_abs: bool) -> Side<T> {
    let unit = if use_abs { abs_backward(&y.unit, &embedding) } else { embedding.clone() };
    let projected = y.norms.as_ref().map_or(unit.clone(), |norms| l2norm_backward(&y.unit, norms, &unit));
    Side { projected, unit, embedding, norms: None }
}

/// The states h [B, T, H] of the top layer give ψ [B, H].
pub(crate) fn last<T: Scalar>(h: &Array3<T>, lengths: &[usize]) -> Array2<T> {
    // (TXT-1)  ψ(c) = h of the top layer at the last token of c
    Array2::from_shape_fn((h.dim().0, h.dim().2), |(b, k)| h[[b, lengths[b] - 1, k]])
}

/// dψ [B, H] gives dh [B, T, H].
pub(crate) fn last_backward<T: Real>(d_last: &Array2<T>, steps: usize, lengths: &[usize]) -> Array3<T> {
    Array3::from_shape_fn((d_last.nrows(), steps, d_last.ncols()), |(b, t, k)| {
        // (TXT-1′)  dh of a node = Σ dψ(c) over the captions c that end there
        if t + 1 == lengths[b] { d_last[[b, k]] } else { T::zero() }
    })
}

/// The values and the loss. A row of zeros that is to be normalised is an error.
pub fn forward<T: Scalar>(w: &Parameters<T>, task: &Task<T>) -> Result<(Pass<T>, Loss<T>)> {
    // (IMG-1)  f(i) = W_fᵀ φ(i) + b_f, then (NORM-1) unless no_imgnorm, then (ABS-1) if use_abs
    let image = side(linear(&w.fc, &task.images), "image embedding", !task.no_imgnorm, task.use_abs)?;
    let mut rnn: Vec<Gru<T>> = Vec::new();
    for layer in &w.rnn {
        let x = rnn.last().map_or_else(|| words(&w.embed, &task.captions), |below| below.h.clone());
        rnn.push(gru(layer, x, Array2::zeros((task.lengths.len(), layer.weight_hh.ncols())), &task.lengths));
    }
    let last = last(&rnn[rnn.len() - 1].h, &task.lengths);
    // (TXT-2)  g(c) = ψ(c), or W_gᵀ ψ(c) + b_g with caption_projection, then (NORM-1), then (ABS-1) if use_abs
    let projected = w.proj.as_ref().map_or(last.clone(), |proj| linear(proj, &last));
    let caption = side(projected, "caption embedding", true, task.use_abs)?;
    let scores = scores(task.measure, &image.embedding, &caption.embedding);
    let loss = loss(&scores, task.margin, task.violation, &task.negatives);
    Ok((Pass { images: task.images.clone(), image, rnn, last, caption, scores }, loss))
}

/// dS [B, B] gives the gradients of the values that [`forward`] computed, and of the parameters.
pub fn backward<T: Real>(w: &Parameters<T>, task: &Task<T>, y: &Pass<T>, ds: Array2<T>) -> (Pass<T>, Parameters<T>) {
    let [df, dg] = scores_backward(task.measure, &y.image.embedding, &y.caption.embedding, &ds);
    let (image, caption) = (side_backward(&y.image, df, task.use_abs), side_backward(&y.caption, dg, task.use_abs));
    let (fc, images) = linear_backward(&w.fc, &y.images, &image.projected);
    let through_proj = w.proj.as_ref().map(|proj| linear_backward(proj, &y.last, &caption.projected));
    let (proj, last) = through_proj.map_or((None, caption.projected.clone()), |(d, last)| (Some(d), last));
    let mut dh = last_backward(&last, task.captions.ncols(), &task.lengths);
    let (mut rnn, mut d_rnn) = (Vec::new(), Vec::new());
    for (layer, y) in w.rnn.iter().zip(&y.rnn).rev() {
        let (d, d_layer) = gru_backward(layer, y, &dh, &task.lengths);
        dh.clone_from(&d.x);
        rnn.insert(0, d);
        d_rnn.insert(0, d_layer);
    }
    let embed = words_backward(w.embed.nrows(), &task.captions, &task.lengths, &dh);
    (Pass { images, image, rnn, last, caption, scores: ds }, Parameters { fc, embed, rnn: d_rnn, proj })
}

impl<T: Real> Parameters<T> {
    /// Every tensor, with the name that the original's checkpoints give it.
    pub fn named(&mut self) -> Vec<(String, ArrayViewMutD<'_, T>)> {
        let mut all = vec![
            ("img_enc.fc.weight".to_owned(), self.fc.weight.view_mut().into_dyn()),
            ("img_enc.fc.bias".to_owned(), self.fc.bias.view_mut().into_dyn()),
            ("txt_enc.embed.weight".to_owned(), self.embed.view_mut().into_dyn()),
        ];
        for (k, layer) in self.rnn.iter_mut().enumerate() {
            let name = |part: &str| format!("txt_enc.rnn.{part}_l{k}");
            all.push((name("weight_ih"), layer.weight_ih.view_mut().into_dyn()));
            all.push((name("weight_hh"), layer.weight_hh.view_mut().into_dyn()));
            all.push((name("bias_ih"), layer.bias_ih.view_mut().into_dyn()));
            all.push((name("bias_hh"), layer.bias_hh.view_mut().into_dyn()));
        }
        if let Some(proj) = &mut self.proj {
            all.push(("txt_enc.proj.weight".to_owned(), proj.weight.view_mut().into_dyn()));
            all.push(("txt_enc.proj.bias".to_owned(), proj.bias.view_mut().into_dyn()));
        }
        all
    }
}

/// Step t of training moves the parameters w by their gradient g with Adam's moments m and v, which it
/// updates. Returns the norm of the gradient, and the factor by which clipping multiplies it.
pub fn step<T: Real>([w, g, m, v]: [&mut Parameters<T>; 4], t: u64, lr: f64, max_norm: f64) -> (T, T) {
    let (w, g, m, v) = (w.named(), g.named(), m.named(), v.named());
    let norm = global_norm(g.iter().map(|(_, g)| g));
    let c = clip(norm, max_norm);
    for ((((_, w), (_, g)), (_, m)), (_, v)) in w.into_iter().zip(g).zip(m).zip(v) {
        adam([w, g, m, v], c, t, lr);
    }
    (norm, c)
}
