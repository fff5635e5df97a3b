//! `vsepp eval`

use std::path::{Path, PathBuf};

use crate::escape;
use crate::eval::{Chance, Embeddings, Evaluation, Names};
use crate::files::Kind;
use crate::report::evaluation_table;
use crate::similarity::Measure;
use anyhow::{Context, Result};
use ndarray::Array2;
use serde_json::{Value, json};

use super::load::RunArgs;
use super::settings::measure_parser;
use super::{Output, busy, note};

/// R@1, R@5, R@10, median and mean rank in both directions.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  vsepp eval --run runs/scenes-1\n  vsepp eval --run runs/coco-1 --data DIR --split testall --folds 5\n  \
                        vsepp eval --embeddings vectors.npz --normalize"
)]
pub(crate) struct Args {
    /// Folder of the run
    #[arg(long, value_name = "DIR", required_unless_present = "embeddings", conflicts_with = "embeddings")]
    run: Option<PathBuf>,
    /// Folder of the data [default: the data that the run was trained on]
    #[arg(long, value_name = "DIR", conflicts_with = "embeddings")]
    data: Option<PathBuf>,
    /// Folder of the pictures [default: those that the run was trained on, if it has an image encoder]
    #[arg(long, value_name = "DIR", conflicts_with = "embeddings")]
    images: Option<PathBuf>,
    /// Split of the data
    #[arg(long, value_name = "NAME", default_value = "test", conflicts_with = "embeddings")]
    split: String,
    /// `best` or `last` of the run, or the file of a checkpoint
    #[arg(long, value_name = "WHICH", default_value = "best", conflicts_with = "embeddings")]
    checkpoint: String,
    /// Embed the centre of a picture, or the mean of the features of ten crops: corners and centre, and all mirrored
    #[arg(long, value_name = "1|10", default_value = "1", value_parser = ["1", "10"], conflicts_with = "embeddings")]
    crops: String,
    /// Give the mean over N equal parts of the images (COCO 1K: 5)
    #[arg(long, value_name = "N", default_value_t = 1)]
    folds: usize,
    /// Vectors from any program: safetensors or npz with `images` [N, D], `captions` [M, D] and
    /// `image_ids` [M]; the last is optional if all images have the same number of captions, in order
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// Names of the arrays in --embeddings: images, captions and, optionally, the image of each caption
    /// [default: `images,captions,image_ids`]
    #[arg(
        long,
        value_name = "A,B[,C]",
        value_delimiter = ',',
        num_args = 1,
        requires = "embeddings",
        conflicts_with = "run"
    )]
    names: Option<Vec<String>>,
    /// Similarity measure for --embeddings [default: the file's, or cosine, which here is the plain inner
    /// product]
    #[arg(long, value_parser = measure_parser(), requires = "embeddings", conflicts_with = "run")]
    measure: Option<Measure>,
    /// L2-normalise the vectors of --embeddings first
    #[arg(long, requires = "embeddings", conflicts_with = "run")]
    normalize: bool,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    let (title, evaluation, chance) = match (&args.embeddings, &args.run) {
        (Some(file), _) => {
            let (evaluation, chance) = of_embeddings(file, &args)?;
            (escape::path(file), evaluation, chance)
        }
        (None, run) => {
            let run = run.clone().context("--run or --embeddings is needed")?;
            let args_of_run =
                RunArgs { run, data: args.data, images: args.images, split: args.split, checkpoint: args.checkpoint };
            let loaded = args_of_run.load()?;
            let ten = args.crops == "10";
            let e = if ten { args_of_run.embed_ten(&loaded)? } else { args_of_run.embed(&loaded)? };
            let bar = busy("ranking".into());
            let found = e.evaluate(args.folds)?;
            bar.finish_and_clear();
            let chance = e.chance(args.folds);
            (e.split.name, found, chance)
        }
    };
    note_chance(&[(&title, evaluation.rsum, chance)]);
    Ok(Output::done(evaluation_table(&title, &evaluation), json_of(&evaluation, chance)?))
}

/// The figures, and the chance level.
pub(super) fn json_of(evaluation: &Evaluation, chance: Chance) -> Result<Value> {
    let mut json = serde_json::to_value(evaluation)?;
    json["chance"] = json!({ "rsum": chance.rsum, "sd": chance.sd });
    Ok(json)
}

/// Notes that recall, of one split or several, is at chance level.
pub(super) fn note_chance(found: &[(&str, f64, Chance)]) {
    let at_chance = found.iter().filter(|(_, rsum, chance)| chance.explains(*rsum));
    let figures: Vec<String> = at_chance
        .map(|(what, rsum, chance)| format!("{what}: rsum {rsum:.1}, by chance {:.1} ± {:.1}", chance.rsum, chance.sd))
        .collect();
    if !figures.is_empty() {
        note(&format!(
            "recall is at chance: {} (mean ± standard deviation for as many images and captions with random scores). \
             Usual causes: rows and captions are in different orders; a line was lost or added, so that all later lines \
             are off by one; the vectors are from another model or split; the model is not trained, or its training failed",
            figures.join("; ")
        ));
    }
}

fn of_embeddings(file: &Path, args: &Args) -> Result<(Evaluation, Chance)> {
    check_kind(file)?;
    let mut e = Embeddings::read(file, &names(args.names.as_deref())?)?;
    e.notes.iter().for_each(|text| note(text));
    let measure = args.measure.or(e.measure).unwrap_or_default();
    if let Some(own) = e.measure
        && own != measure
    {
        note(&format!(
            "{}: the file says that its vectors are compared by {own}; --measure {measure} is used",
            escape::path(file)
        ));
    }
    if args.normalize {
        e.normalise()?;
    } else if measure == Measure::Cosine && e.measure.is_none() {
        for (name, matrix) in [("images", &e.images), ("captions", &e.captions)] {
            if !is_normalised(matrix) {
                note(&format!(
                    "{name}: the rows are not unit vectors; scores are plain inner products (--normalize gives the cosine)"
                ));
            }
        }
    }
    let bar = busy("ranking".into());
    let evaluation = e.evaluate(measure, args.folds).with_context(|| escape::path(file))?;
    bar.finish_and_clear();
    Ok((evaluation, Chance::of(&e.starts, args.folds)))
}

fn names(given: Option<&[String]>) -> Result<Names> {
    match given {
        None => Ok(Names::default()),
        Some([images, captions, rest @ ..]) if rest.len() < 2 && images != captions => {
            Ok(Names { images: images.clone(), captions: captions.clone(), image_ids: rest.first().cloned() })
        }
        Some(other) => anyhow::bail!(
            "--names: expected two or three different names, IMAGES,CAPTIONS or IMAGES,CAPTIONS,IMAGE_IDS, found {}",
            other.join(",")
        ),
    }
}

/// # Errors
///
/// If vectors often come in files of this kind but it cannot be read. The message says what to do.
fn check_kind(file: &Path) -> Result<()> {
    let Some(kind) = Kind::of(file) else { return Ok(()) };
    let advice = match kind {
        Kind::Npy => {
            "expected two arrays in one file. In Python: numpy.savez(\"vectors.npz\", images=f, captions=g) with f [N, D] \
             and g [M, D]. A matrix of scores [N, M] is not read"
        }
        Kind::Pickle => {
            "it is not read, and nothing in it was executed. In Python, with two tensors f [N, D] and g [M, D]: \
             numpy.savez(\"vectors.npz\", images=f.cpu().numpy(), captions=g.cpu().numpy())"
        }
        Kind::Hdf5 => {
            "it is not read. In Python, with h = h5py.File(…): numpy.savez(\"vectors.npz\", images=h[\"…\"][:], \
             captions=h[\"…\"][:])"
        }
        Kind::Empty | Kind::Json | Kind::Foreign(_) => {
            "expected safetensors, npz or a file of torch.save with `images` [N, D] and `captions` [M, D]"
        }
        Kind::Npz | Kind::Safetensors | Kind::PyTorch | Kind::OldPyTorch | Kind::Other => return Ok(()),
    };
    anyhow::bail!("{}: this is {}: {advice}", escape::path(file), kind.name())
}

/// Whether every row has length 1, within half precision.
fn is_normalised(matrix: &Array2<f32>) -> bool {
    matrix.outer_iter().all(|row| (row.iter().map(|x| x * x).fold(0.0, |s, x| s + x) - 1.0).abs() < 1e-2)
}
