//! `vsepp study`

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::load::RunArgs;
use super::quote::shell_quote;
use super::settings::Settings;
use super::{Output, train};
use crate::escape;
use crate::eval::Evaluation;
use crate::files::{read_text, write_atomically};
use crate::model::Config;
use crate::report::{Score, mean_and_deviation, say, study_figure, study_steps, study_table};
use crate::train::RunFolder;

/// Repeats a study of the paper on the built-in scenes: makes its trainings one after the other, and a table and a
/// figure of what came out.
///
/// Every training is an ordinary run in a folder of its own. What is done stays: after a stop the same command goes on.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  vsepp study ablation --run runs/ablation\n\nablation: the paper's table of augmentation and fine-tuning. A small CNN is \
                  trained on the shapes and colours in pictures of the scenes. Then, with SH and MH: it stays as it is, and training sees the centres of \
                  pictures (1C) or random crops (RC); or it is trained, too, from there on (RC + FT). Each is tested with one crop and with ten."
)]
pub(crate) struct Args {
    /// Which study
    #[arg(value_name = "NAME", value_parser = ["ablation"])]
    name: String,
    /// Folder of the runs, the table and the figure
    #[arg(long, value_name = "DIR", default_value = "runs/ablation")]
    run: PathBuf,
    /// Seeds of each training: 0 to N − 1
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
}

const LOSSES: [&str; 2] = ["SH", "MH"];
const WAYS: [&str; 3] = ["1C", "RC", "RC + FT"];
/// The run that gives the encoder's weights.
const PRETRAINING: &str = "pretraining";
/// In the folder of a run: how long it took and its figures on the test split.
const TEST: &str = "test.json";

/// One training of a study.
struct Training {
    /// Its folder's name.
    name: String,
    /// What is different from the settings for pixels, or from the run that it begins with.
    settings: Vec<(&'static str, OsString)>,
    /// Loss and way, and the seed; none for the pretraining.
    row: Option<(&'static str, &'static str, u64)>,
}

/// What is kept of a training.
#[derive(Debug, Serialize, Deserialize)]
struct Tested {
    /// From the first step to the last figure; none if it was stopped in between.
    seconds: Option<f64>,
    /// The figures for each number of crops.
    test: Vec<(usize, Evaluation)>,
}

/// The trainings of the ablation, in an order in which each comes after those that it needs.
fn ablation(folder: &Path, seeds: u64) -> Vec<Training> {
    let text = |text: &str| OsString::from(text);
    let mut all = vec![Training {
        name: PRETRAINING.into(),
        settings: vec![
            ("labels", text("true")),
            ("max_violation", text("false")),
            ("learning_rate", text("4e-3")),
            ("num_epochs", text("5")),
            ("lr_update", text("4")),
        ],
        row: None,
    }];
    for seed in 0..seeds {
        for loss in LOSSES {
            let begun = |way: &str| format!("{}-{way}-{seed}", loss.to_lowercase());
            let is_mh = text(if loss == "MH" { "true" } else { "false" });
            let frozen = |view: &str| {
                vec![
                    ("weights", folder.join(PRETRAINING).join("best.safetensors").into()),
                    ("finetune", text("false")),
                    ("statistics", text("frozen")),
                    ("view", text(view)),
                    ("max_violation", is_mh.clone()),
                    ("warmup_epochs", text(if loss == "MH" { "2" } else { "0" })),
                    ("learning_rate", text("5e-3")),
                    ("num_epochs", text("30")),
                    ("lr_update", text("22")),
                    ("seed", seed.to_string().into()),
                ]
            };
            let tuned = vec![
                ("init", folder.join(begun("rc")).into()),
                ("finetune", text("true")),
                ("warmup_epochs", text("0")),
                ("learning_rate", text("2e-3")),
                ("num_epochs", text("12")),
                ("lr_update", text("8")),
            ];
            for (way, name, settings) in
                [(WAYS[0], "1c", frozen("centre")), (WAYS[1], "rc", frozen("random")), (WAYS[2], "ft", tuned)]
            {
                all.push(Training { name: begun(name), settings, row: Some((loss, way, seed)) });
            }
        }
    }
    all
}

pub(crate) fn run(args: Args, threads: Option<usize>) -> Result<Output> {
    let trainings = ablation(&args.run, args.seeds);
    let (mut scores, mut seconds) = (Vec::new(), Vec::new());
    for (k, training) in trainings.iter().enumerate() {
        say(&format!("{} ({} of {})", training.name, k + 1, trainings.len()));
        let Some(tested) = tested(&args.run.join(&training.name), training, threads)? else {
            let text = format!("stopped in {}; the same command goes on\n", training.name);
            return Ok(Output { text, json: json!({ "interrupted": training.name }), exit: 130 });
        };
        seconds.extend(tested.seconds);
        if let Some((loss, way, seed)) = training.row {
            let score = |(crops, test)| Score { loss: loss.into(), way: way.into(), crops, seed, test };
            scores.extend(tested.test.into_iter().map(score));
        }
    }
    scores.sort_by_key(|score| {
        let place = |names: &[&str], name: &str| names.iter().position(|own| *own == name);
        (place(&LOSSES, &score.loss), place(&WAYS, &score.way), score.crops, score.seed)
    });
    let table = format!("{}\n{}", study_table(&scores), study_steps(&scores, &WAYS, LOSSES));
    let figure = study_figure(&scores, &WAYS, LOSSES);
    let place = |end: &str| args.run.join(format!("{}.{end}", args.name));
    write_atomically(&place("md"), table.as_bytes())?;
    write_atomically(&place("svg"), figure.as_bytes())?;
    let quoted = shell_quote(&args.run);
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    let (mean, _) = mean_and_deviation(&seconds);
    let text = format!(
        "{table}\n{} trainings: {mean:.0} s each, {longest:.0} s at most, {:.0} min in all\n\
         The table and a figure are in {quoted}: {name}.md, {name}.svg\n",
        seconds.len(),
        seconds.iter().fold(0.0, |sum, s| sum + s) / 60.0,
        name = args.name,
    );
    let json = json!({ "run": escape::json_path(&args.run), "scores": scores, "seconds": seconds });
    Ok(Output::done(text, json))
}

/// The figures of a training, which is begun, continued or done. None if it was stopped.
fn tested(path: &Path, training: &Training, threads: Option<usize>) -> Result<Option<Tested>> {
    let file = path.join(TEST);
    let settings = Settings::of(&training.settings)?;
    if file.exists() {
        check_settings(path, &settings)?;
        let text = read_text(&file, Config::LONGEST)?;
        let tested = serde_json::from_str(&text).with_context(|| escape::path(&file))?;
        return Ok(Some(tested));
    }
    let begun = Instant::now();
    let resume = RunFolder::at(path).last().exists();
    if resume {
        check_settings(path, &settings)?;
    }
    let given = if resume { Settings::default() } else { settings };
    if train::run(train::Args::of_pixels(path.into(), resume, given), threads)?.exit != 0 {
        return Ok(None);
    }
    let mut test = Vec::new();
    if training.row.is_some() {
        let args = RunArgs::test_of(path.into());
        let trained = args.load()?;
        test.push((1, args.embed(&trained)?.evaluate(1)?));
        test.push((10, args.embed_ten(&trained)?.evaluate(1)?));
    }
    let tested = Tested { seconds: (!resume).then(|| begun.elapsed().as_secs_f64()), test };
    write_atomically(&file, &serde_json::to_vec(&tested)?)?;
    Ok(Some(tested))
}

/// # Errors
///
/// If the run that is there was made with other settings.
fn check_settings(path: &Path, settings: &Settings) -> Result<()> {
    let before = RunFolder::at(path).read_config()?;
    let mut now = before.clone();
    settings.apply(&mut now)?;
    let context = || format!("{}: it was made with other settings; remove its folder", escape::path(path));
    anyhow::ensure!(now.num_epochs == before.num_epochs, context());
    now.check_resumes(&before).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_training_of_the_ablation_has_valid_settings_and_comes_after_what_it_needs() {
        let folder = Path::new("runs/ablation");
        let all = ablation(folder, 2);
        assert_eq!(all.len(), 1 + 2 * 2 * 3);
        for (k, training) in all.iter().enumerate() {
            let mut config = Config::pixels();
            Settings::of(&training.settings).unwrap().apply(&mut config).unwrap();
            config.check().unwrap();
            for (key, value) in &training.settings {
                if ["weights", "init"].contains(key) {
                    let needed = Path::new(value).strip_prefix(folder).unwrap();
                    let earlier = all[..k].iter().find(|other| needed.starts_with(&other.name));
                    assert!(earlier.is_some(), "{}: {}", training.name, needed.display());
                }
            }
        }
    }

    /// A model that is trained for one epoch on features of an encoder with random numbers.
    #[test]
    fn a_training_is_made_once_and_one_with_other_settings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let settings = |rate: &str| {
            let text = [("finetune", "false"), ("statistics", "frozen"), ("num_epochs", "1"), ("embed_size", "4")];
            let mut all: Vec<(&'static str, OsString)> = text.map(|(key, value)| (key, value.into())).into();
            all.push(("learning_rate", rate.into()));
            all
        };
        let training = |rate| Training { name: "one".into(), settings: settings(rate), row: Some(("MH", "1C", 0)) };
        let first = tested(&path, &training("1e-2"), None).unwrap().unwrap();
        assert_eq!(first.test.iter().map(|(crops, _)| *crops).collect::<Vec<_>>(), [1, 10]);
        assert!(first.test.iter().all(|(_, test)| test.images == 500) && first.seconds.is_some());
        let written = std::fs::metadata(path.join("last.safetensors")).unwrap().modified().unwrap();
        let again = tested(&path, &training("1e-2"), None).unwrap().unwrap();
        assert_eq!((again.test, again.seconds), (first.test, first.seconds));
        assert_eq!(std::fs::metadata(path.join("last.safetensors")).unwrap().modified().unwrap(), written);
        // Without its figures, the run is tested again, not trained again.
        std::fs::remove_file(path.join(TEST)).unwrap();
        let again = tested(&path, &training("1e-2"), None).unwrap().unwrap();
        assert_eq!((again.test[0].1.rsum, again.seconds), (first_rsum(&path), None));
        let error = format!("{:#}", tested(&path, &training("2e-2"), None).err().unwrap());
        assert!(error.contains("made with other settings") && error.contains("learning_rate"), "{error}");
    }

    fn first_rsum(run: &Path) -> f64 {
        let args = RunArgs::test_of(run.into());
        args.embed(&args.load().unwrap()).unwrap().evaluate(1).unwrap().rsum
    }
}
