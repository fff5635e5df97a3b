//! `vsepp eval`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray::Array2;
use vsepp::eval::{Evaluation, evaluate_folds};
use vsepp::files::TensorFile;
use vsepp::nn::l2norm::normalise;
use vsepp::report::evaluation_table;
use vsepp::similarity::Measure;

use super::load::RunArgs;
use super::settings::MeasureName;
use super::{Output, busy, note};

/// R@1, R@5, R@10, median and mean rank in both directions.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  vsepp eval --run runs/coco-1\n  vsepp eval --run runs/coco-1 --data DIR --split testall --folds 5\n  \
                        vsepp eval --embeddings vectors.npz --normalize"
)]
pub(crate) struct Args {
    /// Folder of the run
    #[arg(long, value_name = "DIR", required_unless_present = "embeddings", conflicts_with = "embeddings")]
    run: Option<PathBuf>,
    /// Folder of the data [default: the data that the run was trained on]
    #[arg(long, value_name = "DIR", conflicts_with = "embeddings")]
    data: Option<PathBuf>,
    /// Split of the data
    #[arg(long, value_name = "NAME", default_value = "test", conflicts_with = "embeddings")]
    split: String,
    /// `best` or `last` of the run, or a checkpoint's file
    #[arg(long, value_name = "WHICH", default_value = "best", conflicts_with = "embeddings")]
    checkpoint: String,
    /// Mean over N equal parts of the images (COCO 1K: 5)
    #[arg(long, value_name = "N", default_value_t = 1)]
    folds: usize,
    /// Vectors from anywhere: safetensors or npz with `images` [N, D] and `captions` [M, D], M a
    /// multiple of N, captions of image i at i·M/N …
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// How the vectors of --embeddings are compared [default: cosine, the inner product as it is]
    #[arg(long, value_enum, requires = "embeddings", conflicts_with = "run")]
    measure: Option<MeasureName>,
    /// L2-normalise the vectors of --embeddings first
    #[arg(long, requires = "embeddings", conflicts_with = "run")]
    normalize: bool,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    let (title, evaluation) = match (args.embeddings, args.run) {
        (Some(file), _) => {
            let measure = args.measure.map_or(Measure::Cosine, Measure::from);
            let evaluation = of_embeddings(&file, measure, args.normalize, args.folds)?;
            (file.display().to_string(), evaluation)
        }
        (None, run) => {
            let run = run.context("--run or --embeddings is needed")?;
            let args_of_run = RunArgs { run, data: args.data, split: args.split, checkpoint: args.checkpoint };
            let loaded = args_of_run.load()?;
            let e = args_of_run.embed(&loaded)?;
            let bar = busy("ranking".into());
            let measure = loaded.model.architecture.measure;
            let found = evaluate_folds(e.images.view(), e.captions.view(), e.split.starts(), measure, args.folds)?;
            bar.finish_and_clear();
            (e.split.name, found)
        }
    };
    Ok(Output::done(evaluation_table(&title, &evaluation), serde_json::to_value(evaluation)?))
}

fn of_embeddings(file: &Path, measure: Measure, normalize: bool, folds: usize) -> Result<Evaluation> {
    let tensors = TensorFile::read(file)?;
    let (mut images, mut captions) = (tensors.matrix("images")?, tensors.matrix("captions")?);
    drop(tensors);
    let (n, m) = (images.nrows(), captions.nrows());
    anyhow::ensure!(
        n > 0 && images.ncols() > 0,
        "{}: images: expected at least one vector, found shape {:?}",
        file.display(),
        images.shape()
    );
    anyhow::ensure!(
        n > 0 && m > 0 && m.is_multiple_of(n),
        "{}: captions: expected a multiple of the {n} images, found {m}",
        file.display()
    );
    if normalize {
        normalise(&mut images, "image")?;
        normalise(&mut captions, "caption")?;
    } else if measure == Measure::Cosine {
        for (name, matrix) in [("images", &images), ("captions", &captions)] {
            if !is_normalised(matrix) {
                note(&format!(
                    "{name}: the rows have not length 1; scores are inner products as they are (--normalize for the cosine)"
                ));
            }
        }
    }
    let starts: Vec<usize> = (0..=n).map(|image| image * (m / n)).collect();
    let bar = busy("ranking".into());
    let evaluation = evaluate_folds(images.view(), captions.view(), &starts, measure, folds)
        .with_context(|| file.display().to_string())?;
    bar.finish_and_clear();
    Ok(evaluation)
}

/// Whether every row has length 1, to what half precision can hold.
fn is_normalised(matrix: &Array2<f32>) -> bool {
    matrix.outer_iter().all(|row| (row.iter().map(|x| x * x).fold(0.0, |s, x| s + x) - 1.0).abs() < 1e-2)
}
