//! `vsepp bench`

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bench::{self, Captions, Changes, Data, Model, Options, Size, Work, cores, peak_rss_mib};
use crate::report::bench_report;
use crate::simd;
use crate::train::Team;
use anyhow::Result;
use serde_json::{Value, json};

use super::{Output, busy};

/// Time training, encoding and ranking: a step and its parts, each matrix product, and what share of
/// the machine's own measured peak they reach.
///
/// The peak is a product of 2048³ in the same run, on the same number of threads. Only the products'
/// operations count as useful, after common beginnings of captions are merged.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
                        vsepp bench                                   # all sizes, 1 thread and all; a minute or two\n  \
                        vsepp bench --size paper --threads 1\n  \
                        vsepp bench --size coco --captions train_caps.txt\n  \
                        vsepp bench --size paper --encode 25000 --evaluate 5000 --json\n  \
                        vsepp bench --size coco --embed-size 512 --batch-size 64   # your own sizes\n  \
                        vsepp bench --size resnet152 --threads 2      # an image encoder: forward pass, fine-tuning step\n\n\
                        Sizes: demo (E 32, D 64, F 256, V 150), coco (E 128, D 256, F 1618, V 2,006),\n\
                        paper (E 300, D 1024, F 4096, V 11,755); B is 128. An encoder with its\n\
                        options is a size, too: the paper's with 8 pictures of 224 × 224, or that for the pixels of the\n\
                        scenes with 32 of 48 × 48 (resnet8). Other programs on the machine disturb the times: close them first.")]
pub(crate) struct Args {
    /// Size of the model: demo, coco, paper, or an image encoder such as resnet152 or vgg19; repeatable
    /// [default: demo, coco and paper]
    #[arg(long = "size", value_name = "SIZE", value_parser = |name: &str| name.parse::<Size>())]
    sizes: Vec<Size>,
    /// Captions from a file, one per line [default: made up, with COCO's lengths and shared beginnings]
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,
    /// Timed steps, after two for warming up
    #[arg(long, value_name = "N", default_value_t = 10)]
    steps: usize,
    /// Captions to encode; 0: leave it out [default: 5000, or as many as the file has]
    #[arg(long, value_name = "N")]
    encode: Option<usize>,
    /// Leave AVX-512 unused, to measure what a machine without it would take
    #[arg(long)]
    avx2: bool,
    /// Images to rank against five times as many captions; 0: leave it out
    #[arg(long, value_name = "N", default_value_t = 1000)]
    evaluate: usize,
    /// Milliseconds of rest before each step, as between the steps of a program that also does other work
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pause: u64,
    /// B: pairs in a batch [default: 128, and 8 with an encoder]
    #[arg(long, value_name = "N", help_heading = "Sizes")]
    batch_size: Option<usize>,
    /// H and D: sizes of the state and of the joint space
    #[arg(long, value_name = "N", help_heading = "Sizes")]
    embed_size: Option<usize>,
    /// E: size of a word's vector
    #[arg(long, value_name = "N", help_heading = "Sizes")]
    word_dim: Option<usize>,
    /// Layers of the GRU [default: 1]
    #[arg(long, value_name = "N", help_heading = "Sizes")]
    num_layers: Option<usize>,
    /// F: size of an image's features
    #[arg(long, value_name = "N", help_heading = "Sizes")]
    img_dim: Option<usize>,
    /// V: words of the vocabulary
    #[arg(long, value_name = "N", help_heading = "Sizes")]
    vocab_size: Option<usize>,
    /// Sentences in a caption: T grows by as much
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Sizes")]
    sentences: usize,
    /// Be one side of `cargo bench --bench peers`: do this once for each line "run"
    #[arg(long, hide = true)]
    serve: Option<Work>,
    /// With --serve product: which
    #[arg(long, hide = true, default_value = "")]
    product: String,
    /// With --serve: only write the file that the other sides read
    #[arg(long, hide = true)]
    write: Option<PathBuf>,
}

/// On 1 thread and on all, unless `--threads` asks for one number.
pub(crate) fn run(args: Args, threads: Option<usize>) -> Result<Output> {
    if args.avx2 {
        simd::avx2_at_most();
    }
    let mut all = threads.map_or_else(|| vec![1, cores()], |threads| vec![threads]);
    all.dedup();
    let mut sizes = if args.sizes.is_empty() { Size::ALL.to_vec() } else { args.sizes };
    sizes.sort_by_key(|size| Size::ALL.iter().position(|known| known == size).unwrap_or(Size::ALL.len()));
    sizes.dedup();
    let Args { batch_size, embed_size, word_dim, num_layers, img_dim, vocab_size, sentences, .. } = args;
    let changes = Changes { batch_size, embed_size, word_dim, num_layers, img_dim, vocab_size, sentences };
    let options = Options {
        models: sizes.into_iter().map(|size| Model::new(size, &changes)).collect::<crate::Result<_>>()?,
        threads: all,
        captions: args.captions.map_or(Captions::MadeUp, Captions::File),
        steps: args.steps,
        pause: Duration::from_millis(args.pause),
        encode: args.encode,
        evaluate: args.evaluate,
    };
    if let Some(work) = args.serve {
        let data = Data::draw(work, &args.product, &options)?;
        if let Some(file) = args.write {
            data.write(&file)?;
            return Ok(Output::default());
        }
        return serve(data, options.threads[0]);
    }
    let bar = busy("drawing captions".into());
    let report = bench::run(&options, &|next| bar.set_message(next.to_owned()));
    bar.finish_and_clear();
    let report = report?;
    Ok(Output::done(bench_report(&report), serde_json::to_value(&report)?))
}

/// Works once for each line "run", and ends at the end of the input. `benches/peers/protocol.py` describes what is
/// printed.
fn serve(data: Data, threads: usize) -> Result<Output> {
    let say = |line: Value| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush())
    };
    let (peer, about) = (data.name(), data.about());
    let (mut team, mut work) = (Team::new(threads)?, data.work()?);
    say(json!({
        "ready": true, "peer": peer, "version": env!("CARGO_PKG_VERSION"), "threads": threads, "about": about
    }))?;
    for line in std::io::stdin().lock().lines() {
        if line?.trim() != "run" {
            continue;
        }
        let start = Instant::now();
        let value = team.run(&mut work)?;
        let seconds = start.elapsed().as_secs_f64();
        say(json!({"seconds": seconds, "value": value, "peak_rss_mb": peak_rss_mib()}))?;
    }
    Ok(Output::default())
}
