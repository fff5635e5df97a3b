//! One training step, in this crate and in `PyTorch`, alternating on the same batch.
//!
//! ```text
//! cargo bench --bench step                                  # paper size, all threads
//! cargo bench --bench step -- --size coco --threads 1
//! cargo bench --bench step -- --captions train_caps.txt     # sentences of your own
//! ```
//!
//! A step is forward, backward (into a buffer that is set to zero and used again), the global norm,
//! and Adam with the clipped gradient. `PyTorch`'s is `benches/peers/pytorch_step.py`; it takes part
//! where `$VSEPP_PYTHON` or `python3` can import torch, numpy and safetensors. The two take turns step
//! by step, so that both meet the same machine in the same state; what to look at is the median of
//! the pairs' ratios. The two models begin with different random numbers: the losses are alike, not
//! equal.
//!
//! `cargo test --benches` starts this file without `--bench`: one tiny step, to see that it runs.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use ndarray::Array2;
use ndarray_rand::rand::RngCore;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use vsepp::model::{Architecture, Backward, Batch, Config, Forward, Parameters, ValidConfig, Vse};
use vsepp::nn::PrefixTree;
use vsepp::optim::{Adam, clip_coefficient, global_norm};
use vsepp::random::{permutation, stream};

/// Seed of the batch and of the parameters.
const SEED: u64 = 0;
/// Steps before those that count.
const WARM_UP: usize = 2;
/// Between two steps: the threads of the side that has just finished may spin for some milliseconds.
const PAUSE: Duration = Duration::from_millis(20);
/// `<start>`, `<end>`, `<unk>`; words begin after them.
const START: u32 = 1;
const END: u32 = 2;
const UNKNOWN: u32 = 3;
const FIRST_WORD: u32 = 4;

/// Times one training step beside `PyTorch`'s.
#[derive(Parser)]
struct Options {
    /// Dimensions of the model
    #[arg(long, value_enum, default_value = "paper")]
    size: Size,
    /// Threads of either side [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Steps of either side that count
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Draw the sentences from this file, one a line, instead of making them up
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Size {
    /// E 300, H = D = 1024, F 4096, V 11,755
    Paper,
    /// E 128, H = D = 256, F 1618, V 2,006
    Coco,
    /// E 32, H = D = 64, F 256, V 150
    Demo,
}

impl Size {
    /// The settings, F and V.
    fn settings(self) -> Result<(ValidConfig, Architecture)> {
        let (word_dim, embed_size, img_dim, vocab_size) = match self {
            Self::Paper => (300, 1024, 4096, 11_755),
            Self::Coco => (128, 256, 1618, 2006),
            Self::Demo => (32, 64, 256, 150),
        };
        let config = Config { word_dim, embed_size, ..Config::default() }.check()?;
        let architecture = config.architecture(vocab_size, img_dim);
        Ok((config, architecture))
    }
}

fn main() -> Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        let (config, architecture) = Size::Demo.settings()?;
        let batch = batch(&architecture, made_up_captions(architecture.vocab_size, 8));
        Ours::new(architecture, config).step(&batch)?;
        println!("one step runs; `cargo bench --bench step` takes the time");
        return Ok(());
    }
    let options = Options::parse();
    ensure!(options.steps > 0, "--steps: expected at least 1, found 0");
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(all).max(1);
    let report =
        rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| measure(&options, threads))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.print();
    }
    Ok(())
}

// ------------------------------------------------------------------------------------------------
// The batch

/// B captions with features drawn from U(0, 1), as if after a rectifier.
#[allow(clippy::cast_possible_truncation)] // exact
fn batch(architecture: &Architecture, captions: Vec<Vec<u32>>) -> Batch<f32> {
    let mut rng = stream(SEED, "bench/images");
    let shape = (captions.len(), architecture.img_dim);
    let images = Array2::from_shape_simple_fn(shape, || uniform(&mut rng) as f32);
    Batch { images, image_ids: (0..captions.len()).collect(), captions }
}

/// U(0, 1) with 24 bits, exact in an f32.
fn uniform(rng: &mut impl RngCore) -> f64 {
    f64::from(rng.next_u32() >> 8) / f64::from(1 << 24)
}

/// Numbers 0, 1, … drawn with given weights.
struct Weighted(Vec<f64>);

impl Weighted {
    fn new(weights: impl Iterator<Item = f64>) -> Self {
        let running = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self(running.collect())
    }

    /// The word of rank k (from 1) has weight k^−s.
    fn zipf(words: usize, s: f64) -> Self {
        Self::new((1..=words).map(|rank| (rank as f64).powf(-s)))
    }

    fn draw(&self, rng: &mut impl RngCore) -> usize {
        let at = uniform(rng) * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|&sum| sum <= at)
    }
}

/// Sentences with the lengths of MS-COCO's and words that follow Zipf's law.
///
/// The first word is far more often the same ("a": two in three), so that beginnings are shared.
fn made_up_captions(vocabulary: usize, number: usize) -> Vec<Vec<u32>> {
    /// Words in the shortest caption, and how many in a thousand have so many, one more, …
    const SHORTEST: usize = 7;
    const LENGTHS: [f64; 15] = [8., 162., 226., 217., 150., 97., 59., 34., 18., 10., 7., 4., 3., 2., 3.];
    let words = vocabulary - FIRST_WORD as usize;
    let (lengths, first, later) =
        (Weighted::new(LENGTHS.into_iter()), Weighted::zipf(words, 2.1), Weighted::zipf(words, 1.05));
    let mut rng = stream(SEED, "bench/captions");
    let caption = |_| {
        let length = SHORTEST + lengths.draw(&mut rng);
        let words: Vec<usize> =
            (0..length).map(|i| if i == 0 { first.draw(&mut rng) } else { later.draw(&mut rng) }).collect();
        enclose(words.into_iter())
    };
    (0..number).map(caption).collect()
}

/// Sentences of a file: split at white space, lower-cased, the V − 4 most frequent words known.
fn captions_of_file(path: &Path, vocabulary: usize, number: usize) -> Result<Vec<Vec<u32>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?.to_lowercase();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(lines.len() >= number, "{}: expected at least {number} captions, found {}", path.display(), lines.len());

    let mut counts = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_insert(0) += 1;
    }
    let mut words: Vec<(&str, usize)> = counts.into_iter().collect();
    words.sort_unstable_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
    words.truncate(vocabulary - FIRST_WORD as usize);
    let rank: HashMap<&str, usize> = words.iter().enumerate().map(|(rank, &(word, _))| (word, rank)).collect();

    let order = permutation(&mut stream(SEED, "bench/captions"), lines.len());
    let ranks = |line: &str| enclose(line.split_whitespace().map(|word| rank.get(word).copied().unwrap_or(usize::MAX)));
    Ok(order[..number].iter().map(|&line| ranks(lines[line])).collect())
}

/// `<start>`, the words by rank (of no rank: `<unk>`), `<end>`.
fn enclose(ranks: impl Iterator<Item = usize>) -> Vec<u32> {
    let word = |rank| u32::try_from(rank).ok().and_then(|rank| FIRST_WORD.checked_add(rank)).unwrap_or(UNKNOWN);
    std::iter::once(START).chain(ranks.map(word)).chain([END]).collect()
}

// ------------------------------------------------------------------------------------------------
// Our side

/// A model in training.
struct Ours {
    model: Vse<f32>,
    config: ValidConfig,
    adam: Adam<f32>,
    gradient: Parameters<f32>,
    pass: Forward<f32>,
    back: Backward<f32>,
}

/// The seconds of one step of ours.
#[derive(Clone, Copy)]
struct Parts {
    forward: f64,
    /// With the zeros in the gradient.
    backward: f64,
    norm: f64,
    adam: f64,
    total: f64,
    loss: f64,
}

impl Ours {
    fn new(architecture: Architecture, config: ValidConfig) -> Self {
        Self {
            model: Vse::init(architecture, SEED),
            config,
            adam: Adam::new(&architecture),
            gradient: Parameters::zeros(&architecture),
            pass: Forward::default(),
            back: Backward::default(),
        }
    }

    fn step(&mut self, batch: &Batch<f32>) -> Result<Parts> {
        let start = Instant::now();
        let mut before = 0.0;
        let mut lap = || {
            let now = start.elapsed().as_secs_f64();
            now - std::mem::replace(&mut before, now)
        };
        self.model.forward_into(batch, &self.config.objective(0), &mut self.pass)?;
        let forward = lap();
        self.gradient.clear();
        self.model.backward_into(batch, &self.pass, &mut self.back, &mut self.gradient);
        let backward = lap();
        let scale = clip_coefficient(global_norm(&self.gradient), self.config.grad_clip);
        let norm = lap();
        self.adam.update(&mut self.model.parameters, &self.gradient, self.config.learning_rate, scale);
        let adam = lap();
        let loss = f64::from(self.pass.hinges.loss);
        Ok(Parts { forward, backward, norm, adam, total: start.elapsed().as_secs_f64(), loss })
    }
}

/// The largest resident memory of this process so far, in MiB, where the system tells (Linux).
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// The mean number of running tasks in the last minute, where the system tells (Linux).
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

// ------------------------------------------------------------------------------------------------
// PyTorch's side

/// `pytorch_step.py`, which runs one step for each line that it is sent.
struct PyTorch {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    version: String,
}

#[derive(Deserialize)]
struct Ready {
    torch: String,
}

#[derive(Deserialize)]
struct PyTorchStep {
    seconds: f64,
    loss: f64,
    peak_rss_mb: f64,
}

impl PyTorch {
    /// None where Python or one of the three packages is not there.
    fn start(architecture: &Architecture, batch_file: &Path, threads: usize) -> Result<Option<Self>> {
        let python = std::env::var_os("VSEPP_PYTHON").unwrap_or_else(|| "python3".into());
        let mut probe = Command::new(&python);
        probe.args(["-c", "import torch, numpy, safetensors"]).stdout(Stdio::null()).stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/pytorch_step.py");
        let sizes = [
            ("--threads", threads),
            ("--embed-size", architecture.embed_size),
            ("--word-dim", architecture.word_dim),
            ("--vocab", architecture.vocab_size),
            ("--img-dim", architecture.img_dim),
        ];
        let mut command = Command::new(python);
        command.arg(script).arg("--batch").arg(batch_file).arg("--max-violation");
        command.args(sizes.into_iter().flat_map(|(flag, size)| [flag.to_owned(), size.to_string()]));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("no pipe")?).lines();
        let mut peer = Self { process, input, output, version: String::new() };
        peer.version = peer.line::<Ready>()?.torch;
        Ok(Some(peer))
    }

    /// The next line that it prints.
    fn line<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T> {
        let Some(line) = self.output.next() else { bail!("pytorch_step.py ended early; its message stands above") };
        let line = line?;
        serde_json::from_str(&line).with_context(|| format!("pytorch_step.py said: {line}"))
    }

    fn step(&mut self) -> Result<PyTorchStep> {
        writeln!(self.input.as_mut().context("no pipe")?, "step")?;
        self.line()
    }
}

impl Drop for PyTorch {
    /// It ends when its input does.
    fn drop(&mut self) {
        drop(self.input.take());
        self.process.wait().ok();
    }
}

/// The batch as `pytorch_step.py` reads it: captions padded with 0, their lengths, the images.
fn write_batch(batch: &Batch<f32>, path: &Path) -> Result<()> {
    let longest = batch.captions.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |caption: &Vec<u32>| -> Vec<i64> {
        caption.iter().map(|&word| i64::from(word)).chain(std::iter::repeat(0)).take(longest).collect()
    };
    let captions: Vec<u8> = batch.captions.iter().flat_map(padded).flat_map(i64::to_le_bytes).collect();
    let lengths: Vec<u8> = batch.captions.iter().flat_map(|caption| (caption.len() as u64).to_le_bytes()).collect();
    let images: Vec<u8> = batch.images.iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors = [
        ("captions", TensorView::new(Dtype::I64, vec![batch.len(), longest], &captions)?),
        ("lengths", TensorView::new(Dtype::I64, vec![batch.len()], &lengths)?),
        ("images", TensorView::new(Dtype::F32, batch.images.shape().to_vec(), &images)?),
    ];
    std::fs::write(path, safetensors::serialize(tensors, None)?)?;
    Ok(())
}

// ------------------------------------------------------------------------------------------------
// The measurement

/// The middle, the least and the greatest of several numbers.
#[derive(Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        Self { median: f64::midpoint(values[(n - 1) / 2], values[n / 2]), min: values[0], max: values[n - 1] }
    }
}

/// All that is printed; seconds and MiB.
#[derive(Serialize)]
struct Report {
    size: String,
    threads: usize,
    steps: usize,
    /// Of the machine, before the first step.
    load: Option<f64>,
    captions: String,
    batch: BatchReport,
    architecture: Architecture,
    parameters: usize,
    ours: Side,
    split: Split,
    pytorch: Option<Side>,
    /// Seconds of ours over seconds of `PyTorch`, pair by pair.
    ratio: Option<Spread>,
}

#[derive(Serialize)]
struct BatchReport {
    pairs: usize,
    tokens: usize,
    states: usize,
    parents: usize,
    distinct_words: usize,
}

#[derive(Serialize)]
struct Side {
    version: String,
    seconds: Spread,
    /// Of the first and of the last step.
    loss: [f64; 2],
    peak_rss_mb: Option<f64>,
}

/// Medians of the parts of our step.
#[derive(Serialize)]
struct Split {
    forward: f64,
    backward: f64,
    norm: f64,
    adam: f64,
}

fn measure(options: &Options, threads: usize) -> Result<Report> {
    let load = load();
    let (config, architecture) = options.size.settings()?;
    let captions = match &options.captions {
        Some(path) => captions_of_file(path, architecture.vocab_size, config.batch_size)?,
        None => made_up_captions(architecture.vocab_size, config.batch_size),
    };
    let batch = batch(&architecture, captions);
    let folder = tempfile::tempdir()?;
    let batch_file = folder.path().join("batch.safetensors");
    write_batch(&batch, &batch_file)?;
    let mut peer = PyTorch::start(&architecture, &batch_file, threads)?;

    let mut ours = Ours::new(architecture, config);
    let (mut our_steps, mut peer_steps) = (Vec::new(), Vec::new());
    for _ in 0..WARM_UP + options.steps {
        our_steps.push(ours.step(&batch)?);
        std::thread::sleep(PAUSE);
        if let Some(peer) = &mut peer {
            peer_steps.push(peer.step()?);
            std::thread::sleep(PAUSE);
        }
    }

    let tree = PrefixTree::new(&batch.captions);
    let part = |part: fn(&Parts) -> f64| Spread::of(our_steps[WARM_UP..].iter().map(part));
    let pytorch = peer.as_ref().map(|peer| Side {
        version: peer.version.clone(),
        seconds: Spread::of(peer_steps[WARM_UP..].iter().map(|step| step.seconds)),
        loss: [peer_steps[0].loss, peer_steps[peer_steps.len() - 1].loss],
        peak_rss_mb: peer_steps.last().map(|step| step.peak_rss_mb),
    });
    let pairs = our_steps.iter().zip(&peer_steps).skip(WARM_UP);
    Ok(Report {
        size: options.size.to_possible_value().map_or_else(String::new, |size| size.get_name().into()),
        threads,
        steps: options.steps,
        load,
        captions: options.captions.as_ref().map_or("made up".into(), |path| path.display().to_string()),
        batch: BatchReport {
            pairs: batch.len(),
            tokens: tree.tokens(),
            states: tree.nodes() - 1, // the root's state is h₀
            parents: tree.inner_nodes(),
            distinct_words: tree.words().len(),
        },
        architecture,
        parameters: ours.model.parameters.count(),
        ours: Side {
            version: env!("CARGO_PKG_VERSION").into(),
            seconds: part(|parts| parts.total),
            loss: [our_steps[0].loss, our_steps[our_steps.len() - 1].loss],
            peak_rss_mb: peak_rss_mb(),
        },
        split: Split {
            forward: part(|parts| parts.forward).median,
            backward: part(|parts| parts.backward).median,
            norm: part(|parts| parts.norm).median,
            adam: part(|parts| parts.adam).median,
        },
        ratio: pytorch.is_some().then(|| Spread::of(pairs.map(|(ours, peer)| ours.total / peer.seconds))),
        pytorch,
    })
}

impl Report {
    fn print(&self) {
        let (a, b) = (&self.architecture, &self.batch);
        println!(
            "one training step, {} size: B {}, E {}, H = D = {}, F {}, V {}; {} parameters",
            self.size, b.pairs, a.word_dim, a.embed_size, a.img_dim, a.vocab_size, self.parameters
        );
        println!(
            "captions {}: {} tokens, {} states, {} parents, {} distinct words",
            self.captions, b.tokens, b.states, b.parents, b.distinct_words
        );
        println!("threads {}, steps {} of each side, after {WARM_UP} that do not count", self.threads, self.steps);
        if let Some(load) = self.load.filter(|&load| load > 0.5) {
            println!("load {load:.1} before the first step: on a busy machine, trust one thread only");
        }
        println!();

        println!("{:16}{:>10}{:>10}{:>10}{:>12}   loss", "milliseconds", "median", "min", "max", "peak MiB");
        self.ours.print("vsepp");
        match (&self.pytorch, &self.ratio) {
            (Some(pytorch), Some(ratio)) => {
                pytorch.print("PyTorch");
                println!("{:16}{:>10.3}{:>10.3}{:>10.3}", "ours / PyTorch", ratio.median, ratio.min, ratio.max);
            }
            _ => println!("skipped: PyTorch is not there (python3 -m pip install torch numpy safetensors)"),
        }

        let Split { forward, backward, norm, adam } = self.split;
        println!("\n{:16}{:>10}{:>10}", "our step", "median", "share");
        for (name, seconds) in [("forward", forward), ("backward", backward), ("norm", norm), ("Adam", adam)] {
            println!("{name:16}{:>10.2}{:>9.0}%", 1e3 * seconds, 100.0 * seconds / self.ours.seconds.median);
        }
    }
}

impl Side {
    fn print(&self, name: &str) {
        let Spread { median, min, max } = self.seconds;
        let name = format!("{name} {}", self.version.split('+').next().unwrap_or_default());
        let peak = self.peak_rss_mb.map_or("?".into(), |peak| format!("{peak:.0}"));
        let [first, last] = self.loss;
        println!(
            "{name:16}{:>10.2}{:>10.2}{:>10.2}{peak:>12}   {first:.2} → {last:.2}",
            1e3 * median,
            1e3 * min,
            1e3 * max
        );
    }
}
