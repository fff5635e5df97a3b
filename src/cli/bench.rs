//! `vsepp bench`

use std::path::PathBuf;

use crate::bench::{self, Captions, Options, Size, cores};
use crate::report::bench_report;
use crate::simd;
use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};

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
                        vsepp bench --size paper --encode 25000 --evaluate 5000 --json\n\n\
                        Sizes: demo (E 32, D 64, F 256, V 150), coco (E 128, D 256, F 1618, V 2,006),\n\
                        paper (E 300, D 1024, F 4096, V 11,755); B is 128. Other programs on the machine\n\
                        disturb the times: close them first.")]
pub(crate) struct Args {
    /// Size of the model; repeatable [default: all three]
    #[arg(long = "size", value_name = "SIZE", value_parser = PossibleValuesParser::new(Size::names()).try_map(|name| name.parse::<Size>()))]
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
}

/// On 1 thread and on all, unless `--threads` asks for one number.
pub(crate) fn run(args: Args, threads: Option<usize>) -> Result<Output> {
    if args.avx2 {
        simd::avx2_at_most();
    }
    let mut all = threads.map_or_else(|| vec![1, cores()], |threads| vec![threads]);
    all.dedup();
    let mut sizes = if args.sizes.is_empty() { Size::ALL.to_vec() } else { args.sizes };
    sizes.sort_unstable();
    sizes.dedup();
    let options = Options {
        sizes,
        threads: all,
        captions: args.captions.map_or(Captions::MadeUp, Captions::File),
        steps: args.steps,
        encode: args.encode,
        evaluate: args.evaluate,
    };
    let bar = busy("drawing captions".into());
    let report = bench::run(&options, &|next| bar.set_message(next.to_owned()));
    bar.finish_and_clear();
    let report = report?;
    Ok(Output::done(bench_report(&report), serde_json::to_value(&report)?))
}
