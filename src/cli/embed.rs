//! `vsepp embed`

use std::path::PathBuf;

use crate::escape;
use crate::eval::embeddings::write;
use anyhow::Result;
use serde_json::json;

use super::Output;
use super::load::{RunArgs, check_free};

/// Writes the vectors of a split, the image of each caption, and the similarity measure. With this file,
/// `vsepp eval --embeddings` gives the same figures as `vsepp eval --run`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  vsepp embed --run runs/scenes-1 --split test --out test.safetensors")]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// File to write: .safetensors or .npz
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    let extension = args.out.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
    anyhow::ensure!(
        ["safetensors", "npz"].contains(&extension.as_str()),
        "--out {}: expected a name that ends in .safetensors or .npz",
        escape::path(&args.out)
    );
    check_free(&args.out, args.force)?;
    let loaded = args.run.load()?;
    let e = args.run.embed(&loaded)?;
    let measure = e.measure;
    write(&args.out, e.images.view(), e.captions.view(), measure, &e.split)?;
    let path = escape::path(&args.out);
    let text =
        format!("{path}: images {:?}, captions {:?}, compared by {measure}\n", e.images.shape(), e.captions.shape());
    let json = json!({
        "file": escape::json_path(&args.out),
        "split": e.split.name,
        "images": e.images.shape(),
        "captions": e.captions.shape(),
        "measure": measure,
    });
    Ok(Output::done(text, json))
}
