//! `vsepp embed`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use vsepp::files::TensorWriter;

use super::Output;
use super::load::{RunArgs, check_free};

/// Writes `images` [N, D] and `captions` [M, D] of a split, as `vsepp eval --embeddings` reads them.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  vsepp embed --run runs/scenes-1 --split test --out test.safetensors")]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// File to write: .safetensors or .npz
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file, if it is there already
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    let extension = args.out.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
    anyhow::ensure!(
        ["safetensors", "npz"].contains(&extension.as_str()),
        "--out {}: expected a name that ends in .safetensors or .npz",
        args.out.display()
    );
    check_free(&args.out, args.force)?;
    let e = args.run.embed(&args.run.load()?)?;
    let mut writer = TensorWriter::default();
    writer.add("images", &e.images.view().into_dyn());
    writer.add("captions", &e.captions.view().into_dyn());
    if extension == "npz" {
        writer.write_npz(&args.out)?;
    } else {
        writer.write_safetensors(&args.out, None)?;
    }
    let path = args.out.display().to_string();
    let text = format!("{path}: images {:?}, captions {:?}\n", e.images.shape(), e.captions.shape());
    let json =
        json!({ "file": path, "split": e.split.name, "images": e.images.shape(), "captions": e.captions.shape() });
    if e.split.captions.len() % e.split.images.nrows() != 0 {
        super::note("not every image has as many captions: `eval --embeddings` will refuse this file");
    }
    Ok(Output::done(text, json))
}
