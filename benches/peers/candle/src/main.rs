//! VSE++'s training step in candle, one step for each line on standard input. `cargo bench --bench peers`
//! starts it.
//!
//! ```text
//! vsepp-candle-peer --batch FILE.safetensors --threads N
//! ```
//!
//! FILE holds `captions` [B, T] i64 padded with 0, `lengths` [B] i64, `images` [B, F] f32, and the
//! parameters under their names in the checkpoints. Prints one JSON line when it is ready, then
//! {"seconds", "value", `"peak_rss_mb"`} for each line "run": `value` is the loss before the step.
//!
//! As with `PyTorch`'s packed sequences, the GRU computes at each time step only the captions that have not
//! ended; all input products are one product. Sorting by length is not timed. `AdamW` without decay is
//! Adam. The parent sets the threads with `RAYON_NUM_THREADS`.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::backprop::GradStore;
use candle_core::{D, Device, Tensor, Var, safetensors};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, ops::sigmoid};
use serde_json::json;

const MARGIN: f64 = 0.2;
const GRAD_CLIP: f64 = 2.0;
const LEARNING_RATE: f64 = 2e-4;
/// The parameters' names in a fixed order; the gradient's norm runs over all of them.
const NAMES: [&str; 7] = [
    "img_enc.fc.weight",
    "img_enc.fc.bias",
    "txt_enc.embed.weight",
    "txt_enc.rnn.weight_ih_l0",
    "txt_enc.rnn.weight_hh_l0",
    "txt_enc.rnn.bias_ih_l0",
    "txt_enc.rnn.bias_hh_l0",
];

fn main() -> Result<()> {
    let (batch, threads) = arguments()?;
    let found = candle_core::utils::get_num_threads();
    if found != threads {
        bail!("RAYON_NUM_THREADS: expected {threads}, found {found}");
    }
    let mut tensors = safetensors::load(&batch, &Device::Cpu)?;
    let batch = Batch::new(&tensors)?;
    let mut model = Model::new(&mut tensors)?;
    drop(tensors);
    println!("{}", json!({"ready": true, "peer": "candle", "version": "0.11.1", "threads": found}));
    for line in std::io::stdin().lock().lines() {
        if line?.trim() != "run" {
            continue;
        }
        let start = Instant::now();
        let loss = model.step(&batch)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", json!({"seconds": seconds, "value": loss, "peak_rss_mb": peak_rss_mb()}));
    }
    Ok(())
}

/// --batch and --threads.
fn arguments() -> Result<(PathBuf, usize)> {
    let (mut batch, mut threads) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{flag}: expected a value"))?;
        match flag.as_str() {
            "--batch" => batch = Some(value.into()),
            "--threads" => threads = Some(value.parse().with_context(|| format!("--threads {value}"))?),
            _ => bail!("{flag}: expected --batch or --threads"),
        }
    }
    Ok((batch.context("--batch is needed")?, threads.context("--threads is needed")?))
}

/// The peak resident memory, if the system provides it (Linux).
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// A batch, longest caption first.
struct Batch {
    images: Tensor,
    /// The ids of all captions that have a token at time t, one time step after the other.
    ids: Tensor,
    /// The number of captions that have a token at time t, in falling order.
    active: Vec<usize>,
}

impl Batch {
    fn new(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let get = |name: &str| tensors.get(name).with_context(|| format!("the batch has no {name}"));
        let captions: Vec<Vec<i64>> = get("captions")?.to_vec2()?;
        let lengths: Vec<i64> = get("lengths")?.to_vec1()?;
        let mut order: Vec<usize> = (0..captions.len()).collect();
        order.sort_by_key(|&caption| -lengths[caption]);
        let longest = order.first().map_or(0, |&caption| lengths[caption]);
        let active: Vec<usize> = (0..longest).map(|t| lengths.iter().filter(|&&length| length > t).count()).collect();
        let ids = active.iter().enumerate().flat_map(|(t, &active)| order[..active].iter().map(move |&c| (c, t)));
        let ids = ids.map(|(caption, t)| u32::try_from(captions[caption][t])).collect::<Result<Vec<_>, _>>()?;
        let rows = order.iter().map(|&row| u32::try_from(row)).collect::<Result<Vec<_>, _>>()?;
        let images = get("images")?.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
        Ok(Self { images, ids: Tensor::new(ids, &Device::Cpu)?, active })
    }
}

/// The parameters, in the order of `NAMES`, and their optimiser.
struct Model {
    parameters: Vec<Var>,
    adam: AdamW,
}

impl Model {
    fn new(tensors: &mut HashMap<String, Tensor>) -> Result<Self> {
        let take = |name: &&str| {
            let tensor = tensors.remove(*name).with_context(|| format!("the batch has no {name}"))?;
            Ok(Var::from_tensor(&tensor)?)
        };
        let parameters: Vec<Var> = NAMES.iter().map(take).collect::<Result<_>>()?;
        let settings = ParamsAdamW { lr: LEARNING_RATE, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
        let adam = AdamW::new(parameters.clone(), settings)?;
        Ok(Self { parameters, adam })
    }

    /// Forward, backward, clipping, Adam; the loss before the step.
    fn step(&mut self, batch: &Batch) -> Result<f32> {
        let images = self.embed_images(batch)?;
        let captions = self.embed_captions(batch)?;
        let loss = max_hinge(&images.matmul(&captions.t()?)?)?;
        let mut gradients = loss.backward()?;
        self.clip(&mut gradients)?;
        self.adam.step(&gradients)?;
        Ok(loss.to_scalar()?)
    }

    fn embed_images(&self, batch: &Batch) -> Result<Tensor> {
        let [weight, bias, ..] = &self.parameters[..] else { bail!("parameters are missing") };
        normalise(&batch.images.matmul(&weight.t()?)?.broadcast_add(bias)?)
    }

    fn embed_captions(&self, batch: &Batch) -> Result<Tensor> {
        let [_, _, words, weight_ih, weight_hh, bias_ih, bias_hh] = &self.parameters[..] else {
            bail!("parameters are missing")
        };
        let hidden = weight_hh.dim(1)?;
        let inputs = words.index_select(&batch.ids, 0)?.matmul(&weight_ih.t()?)?.broadcast_add(bias_ih)?;
        let weight_hh = weight_hh.t()?;
        let mut h = Tensor::zeros((batch.active.first().copied().unwrap_or(0), hidden), inputs.dtype(), &Device::Cpu)?;
        let mut ended = Vec::new();
        let mut first = 0;
        for &active in &batch.active {
            if active < h.dim(0)? {
                ended.push(h.narrow(0, active, h.dim(0)? - active)?);
                h = h.narrow(0, 0, active)?;
            }
            let a = inputs.narrow(0, first, active)?;
            let c = h.matmul(&weight_hh)?.broadcast_add(bias_hh)?;
            let gate = |x: &Tensor, k: usize| x.narrow(1, k * hidden, hidden);
            let r = sigmoid(&(gate(&a, 0)? + gate(&c, 0)?)?)?;
            let z = sigmoid(&(gate(&a, 1)? + gate(&c, 1)?)?)?;
            let n = (gate(&a, 2)? + (r * gate(&c, 2)?)?)?.tanh()?;
            h = (&n + (z * (h - &n)?)?)?; // (1 − z) n + z h
            first += active;
        }
        ended.push(h);
        ended.reverse();
        normalise(&Tensor::cat(&ended, 0)?)
    }

    /// Scales all gradients if their global norm is too large.
    fn clip(&self, gradients: &mut GradStore) -> Result<()> {
        let mut square = 0.0;
        for parameter in &self.parameters {
            if let Some(gradient) = gradients.get(parameter) {
                square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let coefficient = GRAD_CLIP / (square.sqrt() + 1e-6);
        if coefficient < 1.0 {
            for parameter in &self.parameters {
                if let Some(gradient) = gradients.remove(parameter) {
                    gradients.insert(parameter, (gradient * coefficient)?);
                }
            }
        }
        Ok(())
    }
}

/// Rows of length 1.
fn normalise(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)?)
}

/// MH: the hardest negative of each image and of each caption; right pairs on the diagonal.
fn max_hinge(scores: &Tensor) -> Result<Tensor> {
    let eye = Tensor::eye(scores.dim(0)?, scores.dtype(), &Device::Cpu)?;
    let off = (1.0 - &eye)?;
    let own = (scores * &eye)?.sum_keepdim(D::Minus1)?;
    let margin = (scores + MARGIN)?;
    let cost_s = (margin.broadcast_sub(&own)?.relu()? * &off)?;
    let cost_im = (margin.broadcast_sub(&own.t()?)?.relu()? * &off)?;
    Ok((cost_s.max(1)?.sum_all()? + cost_im.max(0)?.sum_all()?)?)
}
