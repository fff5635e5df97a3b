//! The same work in this crate and in other libraries, in turn, on the same data.
//!
//! ```text
//! cargo bench --bench peers                                  # a training step, paper size, all threads
//! cargo bench --bench peers -- --size coco --threads 1
//! cargo bench --bench peers -- --captions train_caps.txt     # your own sentences
//! cargo bench --bench peers -- --what encode                 # 25,000 captions, against PyTorch
//! cargo bench --bench peers -- --what evaluate               # ranks, against NumPy, PyTorch, the original's loop
//! cargo bench --bench peers -- --what product                # six products, against matrixmultiply, NumPy, PyTorch
//! cargo bench --bench peers -- --what encoder --size vgg19   # an image encoder's forward pass, against PyTorch
//! cargo bench --bench peers -- --what finetune               # a fine-tuning step of ResNet-152, against PyTorch
//! cargo bench --bench peers -- --what finetune --size resnet8 --in-a-row 20   # … of the scenes' encoder, as in training
//! cargo bench --bench peers -- --avx2                        # no side uses AVX-512
//! cargo bench --bench peers -- -- --batch-size 32            # further flags of `vsepp bench`
//! ```
//!
//! A step is forward, backward, the global norm, and Adam with the clipped gradient. The peers are
//! `PyTorch` (`pytorch_step.py`, packed sequences), JAX (`jax_step.py`, compiled) and candle (`candle/`).
//! Every side, including this crate's (`vsepp bench --serve`), is a separate process with its own peak memory. They
//! take turns run by run, A B C D A B C D, so that all find the machine in the same state. The figure to compare is
//! the median of the ratios per round. All sides start with the same parameters. Their losses before and after
//! the first step must agree; otherwise they do not compute the same, and the exit code is 1.
//!
//! The Python peers run if `$VSEPP_PYTHON` or `python3` can import what they need, candle if its crates have
//! been downloaded. The report lists the skipped peers and how to install them.
//!
//! `cargo test --benches` starts this file without `--bench`: one round of this crate's side, at the
//! smallest size.

mod report;
mod side;
#[path = "../../src/bench/spread.rs"]
mod spread;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

use report::{Report, SideReport};
use side::{Round, Side, Starter};

/// The products of `--what product`, which `vsepp bench` knows.
const PRODUCTS: [&str; 6] = ["square", "gradient", "input", "convolution", "levels", "projection"];

/// Times the same work in vsepp and in other libraries, in turn.
#[derive(Clone, Parser)]
struct Options {
    /// The work to time
    #[arg(long, value_enum, default_value = "step")]
    what: What,
    /// Dimensions of the model: demo, coco or paper; or an encoder [default: paper, or resnet152 for an encoder]
    #[arg(long)]
    size: Option<String>,
    /// With --what product: only this one
    #[arg(long, value_name = "NAME", value_parser = PRODUCTS)]
    product: Option<String>,
    /// Threads of every side [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Timed rounds [default: 10 for steps and products, else 3]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Runs of a side before the next one takes its turn; a training has no rest between its steps
    #[arg(long, value_name = "N", default_value_t = 1)]
    in_a_row: usize,
    /// Milliseconds between two turns; the threads of the last side may spin for a while
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pause: u64,
    /// Leave AVX-512 unused on every side
    #[arg(long)]
    avx2: bool,
    /// Draw the sentences from this file, one per line, instead of making them up
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Captions to encode
    #[arg(long, value_name = "N", default_value_t = 25_000)]
    encode: usize,
    /// Images to rank, with five captions each
    #[arg(long, value_name = "N", default_value_t = 1000)]
    evaluate: usize,
    /// Only these peers (pytorch, jax, candle, numpy, loop, matrixmultiply); "none" for only this crate
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Further flags of `vsepp bench`, such as --batch-size 32
    #[arg(last = true)]
    sizes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    /// A training step
    Step,
    /// Captions to joint embeddings
    Encode,
    /// The forward pass of an image encoder
    Encoder,
    /// A training step with an image encoder
    Finetune,
    /// Ranks in both directions, from embeddings
    Evaluate,
    /// Matrix products
    Product,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Encode => "encode",
            Self::Encoder => "encoder",
            Self::Finetune => "finetune",
            Self::Evaluate => "evaluate",
            Self::Product => "product",
        }
    }

    /// The name of this work for `vsepp bench --serve`.
    fn served(self) -> &'static str {
        if self == Self::Finetune { "step" } else { self.name() }
    }

    /// Rounds for warming up.
    fn warm_up(self) -> usize {
        match self {
            Self::Step | Self::Product | Self::Finetune => 2,
            Self::Encode | Self::Encoder | Self::Evaluate => 1,
        }
    }

    /// The value of the first two runs on which all sides must agree, and the relative tolerance.
    fn agreement(self) -> (&'static str, f64) {
        match self {
            // Some hundred times the effect of the order of sums in f32.
            Self::Step => ("loss", 1e-5),
            Self::Encode => ("mean |g|", 1e-5),
            // A hundred layers of sums in f32.
            Self::Encoder => ("mean |phi|", 1e-4),
            Self::Finetune => ("loss", 1e-4),
            // A rank changes where two scores nearly tie: a few of thousands of queries.
            Self::Evaluate => ("rsum", 1e-3),
            Self::Product => ("mean |c|", 1e-5),
        }
    }
}

impl Options {
    fn size(&self) -> &str {
        let default = if matches!(self.what, What::Encoder | What::Finetune) { "resnet152" } else { "paper" };
        self.size.as_deref().unwrap_or(default)
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn rounds(&self) -> usize {
        self.steps.unwrap_or(if matches!(self.what, What::Step | What::Product) { 10 } else { 3 })
    }

    fn check(&self) -> Result<()> {
        let threads = self.threads();
        ensure!((1..=1024).contains(&threads), "--threads: expected 1 to 1024, found {threads}");
        for (flag, number) in [
            ("--steps", self.rounds()),
            ("--in-a-row", self.in_a_row),
            ("--encode", self.encode),
            ("--evaluate", self.evaluate),
        ] {
            ensure!((1..=1_000_000).contains(&number), "{flag}: expected 1 to 1000000, found {number}");
        }
        ensure!(self.product.is_none() || self.what == What::Product, "--product: expected --what product");
        let known: Vec<&str> = Starter::all(self.what).iter().map(|starter| starter.key).collect();
        let unknown = self.peers.iter().flatten().find(|peer| *peer != "none" && !known.contains(&peer.as_str()));
        if let Some(peer) = unknown {
            let expected = known.join(", ");
            anyhow::bail!(
                "--peers: expected some of {expected}, or none, for --what {}, found {peer}",
                self.what.name()
            );
        }
        Ok(())
    }

    fn wants(&self, peer: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|wanted| wanted == peer))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(agree) => ExitCode::from(u8::from(!agree)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all sides compute the same.
fn run() -> Result<bool> {
    let options = if std::env::args().any(|argument| argument == "--bench") {
        Options::parse()
    } else {
        Options::parse_from(["peers", "--size", "demo", "--steps", "1", "--threads", "1", "--peers", "none"])
    };
    options.check()?;
    let products: Vec<Option<&str>> = match (options.what, &options.product) {
        (What::Product, None) => PRODUCTS.map(Some).to_vec(),
        (_, product) => vec![product.as_deref()],
    };
    let mut agree = true;
    for (number, product) in products.into_iter().enumerate() {
        let report = measure(&options, product)?;
        if options.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            report.print(number == 0);
        }
        agree &= report.agree;
    }
    Ok(agree)
}

fn measure(options: &Options, product: Option<&str>) -> Result<Report> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("data.safetensors");
    side::write(options, product, &file)?;
    let mut sides = vec![Side::ours(options, options.what.served(), product)?];
    let mut skipped = Vec::new();
    for starter in Starter::all(options.what).iter().filter(|starter| options.wants(starter.key)) {
        match starter.start(options, product, &file)? {
            Ok(side) => sides.push(side),
            Err(reason) => skipped.push(reason),
        }
    }
    let warm_up = options.what.warm_up();
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); sides.len()];
    for round in 0..warm_up + options.rounds() {
        for (side, rounds) in sides.iter_mut().zip(&mut rounds) {
            if round < warm_up {
                eprintln!("{}: warming up", side.name());
            }
            for _ in 0..options.in_a_row {
                rounds.push(side.run()?);
            }
            std::thread::sleep(Duration::from_millis(options.pause));
        }
    }
    let (ours, untimed) = (rounds[0].clone(), warm_up * options.in_a_row);
    let reports: Vec<SideReport> =
        sides.iter().zip(&rounds).map(|(side, rounds)| SideReport::new(side, rounds, &ours, untimed)).collect();
    Ok(Report::new(options, sides[0].about().clone(), reports, skipped))
}
