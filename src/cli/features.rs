//! `vsepp features`

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::data::{Crops, PictureFiles};
use crate::escape;
use crate::model::Network;
use crate::report::{say, thousands};
use crate::train::{About, Extraction, digest_of_names, digest_of_weights, read_encoder};
use anyhow::Result;
use serde_json::json;

use super::load::check_free;
use super::signals::{SAVING, stop_signal};
use super::{Output, busy, pictures_bar};

/// Computes the feature vectors of pictures, for `train` and `eval`: one row of norm 1 for each picture.
///
/// The names of the pictures are written to another file: to `train_ids.txt` for `train_ims.npy`. What is computed is kept, so
/// the same command goes on after it was stopped.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  vsepp features --images val2014 --encoder resnet152 --weights resnet152.pth --crops 10 \
                  --out data/dev_ims.npy\n\nEncoders: vgg19, resnet18, resnet50, resnet152, resnet20, resnet8; resnet50,planes=32-64-128-256,first=64 \
                  has other widths, resnet50,stride=1x1 the stride on the first convolution of a block. \
                  docs/encoders.md says which files of weights are read."
)]
pub(crate) struct Args {
    /// Folder of pictures (.jpg, .jpeg, .png, also in folders below), in the order of their names; or a file that
    /// lists them, one path a line
    #[arg(long, value_name = "DIR|LIST")]
    images: PathBuf,
    /// The image encoder
    #[arg(long, value_name = "NAME")]
    encoder: Network,
    /// Its weights: a safetensors or PyTorch file with torchvision's names, or a checkpoint of the original
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// The centre alone, or the mean of ten crops: corners and centre, and all mirrored
    #[arg(long, value_name = "1|10", default_value = "1", value_parser = ["1", "10"])]
    crops: String,
    /// The short side of a picture before it is cropped, in pixels
    #[arg(long, value_name = "N", default_value_t = 256)]
    resize: usize,
    /// The side of a crop, in pixels
    #[arg(long, value_name = "N", default_value_t = 224)]
    crop_size: usize,
    /// Turn pictures as their EXIF orientation says
    #[arg(long)]
    upright: bool,
    /// Crops that are encoded at a time; more take more memory, and the features stay the same
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// File to write: .npy
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite existing files, and begin again
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    let path = escape::path(&args.out);
    anyhow::ensure!(
        args.out.extension().is_some_and(|end| end == "npy"),
        "--out {path}: expected a name that ends in .npy"
    );
    let names = file_of_names(&args.out);
    check_free(&args.out, args.force)?;
    check_free(&names, args.force)?;
    let ten = args.crops == "10";
    let crops = Crops { resize: args.resize, crop: args.crop_size, random: None, upright: args.upright };
    anyhow::ensure!(
        !ten || args.resize >= args.crop_size,
        "--resize {}: expected at least --crop-size {} for ten crops",
        args.resize,
        args.crop_size
    );
    let pictures = PictureFiles::open(&args.images, crops)?;
    let bar = busy(format!("reading {}", args.weights.display()));
    let encoder = read_encoder(args.encoder, &args.weights)?;
    let about = About {
        encoder: args.encoder.to_string(),
        weights: digest_of_weights(&encoder)?,
        crops: format!("{} of {}, short side {}, upright {}", args.crops, args.crop_size, args.resize, args.upright),
        pictures: digest_of_names(&pictures),
    };
    bar.finish_and_clear();
    let features = args.encoder.features();
    let extraction =
        Extraction { encoder: &encoder, pictures: &pictures, features, ten, block: args.batch_size as usize };
    let total = pictures.names().len();
    let (stop, begun, bar) = (stop_signal(SAVING)?, Instant::now(), pictures_bar(total));
    let mut seen = None;
    let progress = |rows| {
        if seen.replace(rows).is_none() && rows > 0 {
            say(&format!("  {} of {} pictures are there already", thousands(rows), thousands(total)));
            bar.set_position(rows as u64);
            bar.reset_eta();
        }
        bar.set_position(rows as u64);
    };
    let written = extraction.write(&about, (&args.out, &names), args.force, &stop, progress)?;
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let rate = written.computed as f64 / seconds.max(1e-9);
    let json = json!({
        "file": escape::json_path(&args.out),
        "names": escape::json_path(&names),
        "shape": [total, features],
        "computed": written.computed,
        "seconds": seconds,
        "complete": written.complete,
    });
    let (computed, before) = (thousands(written.computed), thousands(written.before));
    let text = if written.complete {
        let kept = if written.before > 0 { format!(", {before} were there") } else { String::new() };
        format!(
            "{path}: [{total}, {features}], rows of norm 1{kept}\n{}: the name of each row\n{computed} pictures in {seconds:.1} s, {rate:.1} pictures/s\n",
            escape::path(&names)
        )
    } else {
        debug_assert!(stop.load(Ordering::Relaxed));
        let rows = thousands(written.before + written.computed);
        format!("interrupted: {path}.part has {rows} of {} rows; the same command goes on\n", thousands(total))
    };
    Ok(Output { text, json, exit: if written.complete { 0 } else { 130 } })
}

/// `train_ids.txt` for `train_ims.npy`, as `train` reads them; `x_ids.txt` for `x.npy`.
fn file_of_names(out: &Path) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    out.with_file_name(format!("{}_ids.txt", stem.strip_suffix("_ims").unwrap_or(&stem)))
}
