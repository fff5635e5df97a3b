//! `vsepp search`

use std::fmt::Write;
use std::path::Path;

use crate::escape;
use crate::ndarray::ArrayView1;
use crate::train::{Embedded, Trained};
use anyhow::Result;
use serde_json::{Value, json};

use super::load::RunArgs;
use super::{Output, note};

/// Finds the best images for a sentence, or the best captions for an image.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  vsepp search --run runs/scenes-1 \"a red circle\"\n  vsepp search --run runs/scenes-1 --image 17"
)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// A sentence to find images for
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    sentence: Option<String>,
    /// An image to find captions for: the number of one of the split, from 0 (copies of an image, equal neighbouring
    /// rows if there is one row per caption, count once), or the file of a picture
    #[arg(long, value_name = "ROW|FILE")]
    image: Option<String>,
    /// Number of results
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
}

pub(crate) fn run(args: Args) -> Result<Output> {
    anyhow::ensure!(args.top > 0, "--top: expected at least 1, found 0");
    let loaded = args.run.load()?;
    // Reject an unusable sentence first.
    let sentence = args.sentence.as_deref().map(|sentence| loaded.encode_query(sentence)).transpose()?;
    if let Some((_, unknown)) = sentence.as_ref().filter(|(_, unknown)| !unknown.is_empty()) {
        note(&format!("not in the run's vocabulary, so read as <unk>: {}", unknown.join(", ")));
    }
    // Digits are a row, anything else is a path.
    let row = args.image.as_deref().and_then(|image| image.parse::<usize>().ok());
    let picture = args.image.as_deref().filter(|_| row.is_none()).map(Path::new);
    let picture = picture.map(|path| loaded.embed_picture(path).map(|embedding| (path, embedding))).transpose()?;
    let e = args.run.embed(&loaded)?;
    match (row, picture, args.sentence) {
        (Some(row), ..) => captions_for_row(&e, row, args.top),
        (None, Some((path, embedding)), _) => captions_for_picture(&e, path, embedding.row(0), args.top),
        (None, None, text) => {
            images_for(&loaded, &e, &text.unwrap_or_default(), sentence.unwrap_or_default(), args.top)
        }
    }
}

fn images_for(
    trained: &Trained,
    e: &Embedded,
    sentence: &str,
    (ids, unknown): (Vec<u32>, Vec<String>),
    top: usize,
) -> Result<Output> {
    let query = trained.model.embed_captions(&[ids])?;
    let found = e.search_images(query.row(0), top)?;
    let (mut text, mut results) = (format!("images of {} for \"{sentence}\"\n", e.split.name), Vec::new());
    for (rank, (image, score)) in (1..).zip(found) {
        let captions = &e.split.captions[e.split.captions_of(image)];
        let _ = writeln!(text, "\n{rank:>3}. image {image}   score {score:.4}");
        for caption in captions {
            let _ = writeln!(text, "       {caption}");
        }
        results.push(json!({ "rank": rank, "image": image, "score": score, "captions": captions }));
    }
    Ok(answer(text, json!({ "sentence": sentence, "unknown": unknown }), &e.split.name, results))
}

fn captions_for_picture(e: &Embedded, path: &Path, picture: ArrayView1<'_, f32>, top: usize) -> Result<Output> {
    let found = e.search_captions(picture, top)?;
    let path = escape::json_path(path);
    let (mut text, mut results) = (format!("captions of {} for {path}\n\n", e.split.name), Vec::new());
    for (rank, (caption, score)) in (1..).zip(found) {
        let words = &e.split.captions[caption];
        let _ = writeln!(text, "{rank:>3}. {score:.4}  {words}");
        results.push(json!({ "rank": rank, "caption": caption, "score": score, "text": words }));
    }
    Ok(answer(text, json!({ "image": path }), &e.split.name, results))
}

fn captions_for_row(e: &Embedded, row: usize, top: usize) -> Result<Output> {
    let images = e.images.nrows();
    anyhow::ensure!(row < images, "--image {row}: expected a row below {images}, the images of {}", e.split.name);
    let found = e.search_captions(e.images.row(row), top)?;
    let own = e.split.captions_of(row);
    let (mut text, mut results) =
        (format!("captions for image {row} of {}   (* its own)\n\n", e.split.name), Vec::new());
    for (rank, (caption, score)) in (1..).zip(found) {
        let is_own = own.contains(&caption);
        let words = &e.split.captions[caption];
        let _ = writeln!(text, "{rank:>3}. {} {score:.4}  {words}", if is_own { '*' } else { ' ' });
        results.push(json!({ "rank": rank, "caption": caption, "score": score, "text": words, "own": is_own }));
    }
    Ok(answer(text, json!({ "image": row, "own": e.split.captions[own] }), &e.split.name, results))
}

fn answer(text: String, query: Value, split: &str, results: Vec<Value>) -> Output {
    Output::done(text, json!({ "query": query, "split": split, "results": results }))
}
