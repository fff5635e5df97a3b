//! `vsepp study`

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::json;

use super::compare::{Base, Comparison, Sweep};
use super::series::{Seeds, Training, make, write};
use super::settings::Settings;
use super::{Output, train};
use crate::escape;
use crate::report::{Score, mean_and_deviation, study_figure, study_steps, study_table};

/// Repeats a study of the paper: makes its trainings one after the other, and a table and a figure of what came out.
///
/// Every training is an ordinary run in a folder of its own. What is done stays: after a stop the same command goes on.
/// All studies but `ablation` are comparisons (`vsepp compare`), on the built-in scenes or with --data.
#[derive(clap::Args, Debug)]
#[command(after_help = after_help())]
pub(crate) struct Args {
    /// Which study
    #[arg(value_name = "NAME", value_parser = names())]
    name: String,
    /// Folder of the runs, the table and the figure [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Seeds of each training: N for 0 to N − 1, or the first and the last as in 3-5 [default: 5 for ablation, else 3]
    #[arg(long, value_name = "N")]
    seeds: Option<Seeds>,
    /// Other values for the study that trains with several
    #[arg(long, value_name = "KEY=A,B,…")]
    sweep: Option<Sweep>,
    #[command(flatten)]
    base: Base,
}

const ABLATION: &str = "ablation";

/// A study that is a comparison.
struct Compared {
    name: &'static str,
    says: &'static str,
    settings: &'static [&'static str],
    sweep: Option<&'static str>,
    pixels: bool,
}

impl Compared {
    /// On the scenes or on data, without a sweep.
    const fn new(name: &'static str, says: &'static str, settings: &'static [&'static str]) -> Self {
        Self { name, says, settings, sweep: None, pixels: false }
    }
}

const COMPARED: [Compared; 8] = [
    Compared::new(
        "loss",
        "the loss and the image norm, apart: from VSE0 to VSE++ both change",
        &["sh no-imgnorm", "sh", "mh no-imgnorm", "mh"],
    ),
    Compared {
        sweep: Some("learning-rate=5e-4,1e-3,2e-3,4e-3,8e-3,1.6e-2"),
        ..Compared::new("rate", "SH and MH, each at its own best learning rate", &["sh", "mh"])
    },
    Compared::new(
        "margin",
        "the margin",
        &[
            "sh margin=0.05",
            "sh margin=0.1",
            "sh",
            "sh margin=0.4",
            "mh margin=0.05",
            "mh margin=0.1",
            "mh",
            "mh margin=0.4",
        ],
    ),
    Compared::new(
        "warm-up",
        "epochs with SH before MH",
        &["sh", "mh", "mh warmup-epochs=1", "mh warmup-epochs=2", "mh warmup-epochs=4"],
    ),
    Compared::new(
        "negatives",
        "the size of the batch, and the number of negatives that the maximum is taken over, apart",
        &["mh batch-size=16", "mh batch-size=32", "mh batch-size=64", "mh", "mh M=15", "mh M=31", "mh M=63"],
    ),
    Compared::new(
        "spectrum",
        "the losses between SH and MH, and semi-hard negatives",
        &["sh", "mh@k=64", "mh@k=16", "mh@k=4", "mh", "mh@tau=0.1", "mh@tau=0.03", "mh@tau=0.01", "mh semi-hard"],
    ),
    Compared::new(
        "noise",
        "0, 5 and 20 % of the training captions exchanged",
        &[
            "sh",
            "sh label-noise=0.05",
            "sh label-noise=0.2",
            "mh",
            "mh label-noise=0.05",
            "mh label-noise=0.2",
            "mh M=32",
            "mh M=32 label-noise=0.05",
            "mh M=32 label-noise=0.2",
            "mh M=8",
            "mh M=8 label-noise=0.05",
            "mh M=8 label-noise=0.2",
        ],
    ),
    Compared {
        pixels: true,
        ..Compared::new(
            "pixels",
            "SH and MH epoch by epoch, from pixels with random crops",
            &[
                "sh view=random",
                "mh view=random",
                "mh view=random M=15",
                "mh view=random M=7",
                "mh view=random warmup-epochs=0",
            ],
        )
    },
];

fn names() -> Vec<&'static str> {
    [ABLATION].into_iter().chain(COMPARED.iter().map(|study| study.name)).collect()
}

fn after_help() -> String {
    let each: Vec<String> = COMPARED.iter().map(|study| format!("{}: {}", study.name, study.says)).collect();
    let each = each.join("\n");
    format!(
        "Examples:\n  vsepp study ablation\n  vsepp study loss --data DIR --embed-size 256 --seeds 5\n\n{ABLATION}: the paper's table of augmentation \
         and fine-tuning. A small CNN is trained on the shapes and colours in pictures of the scenes. Then, with SH and MH: it stays as it \
         is, and training sees the centres of pictures (1C) or random crops (RC); or it is trained, too, from there on (RC + FT). Each is \
         tested with one crop and with ten.\n{each}"
    )
}

const LOSSES: [&str; 2] = ["SH", "MH"];
const WAYS: [&str; 3] = ["1C", "RC", "RC + FT"];
/// The run that gives the encoder's weights.
const PRETRAINING: &str = "pretraining";

/// Loss and way, and the seed.
type Row = (&'static str, &'static str, u64);

/// The trainings of the ablation, in an order in which each comes after those that it needs.
fn ablation(folder: &Path, seeds: Seeds) -> Result<Vec<(Option<Row>, Training)>> {
    let text = |text: &str| OsString::from(text);
    let training = |name: String, settings: &[(&'static str, OsString)], crops| {
        let settings = Settings::of(settings)?;
        // A run that begins with another one has its settings.
        let pixels = !settings.has("init");
        Ok::<_, anyhow::Error>(Training { name, args: train::Args::new(pixels, None, settings), crops })
    };
    let labels = [
        ("labels", text("true")),
        ("max_violation", text("false")),
        ("learning_rate", text("4e-3")),
        ("num_epochs", text("5")),
        ("lr_update", text("4")),
    ];
    let mut all = vec![(None, training(PRETRAINING.into(), &labels, &[1][..])?)];
    for seed in seeds.all() {
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
                all.push((Some((loss, way, seed)), training(begun(name), &settings, &[1, 10])?));
            }
        }
    }
    Ok(all)
}

pub(crate) fn run(args: Args, threads: Option<usize>) -> Result<Output> {
    let folder = args.run.unwrap_or_else(|| Path::new("runs").join(&args.name));
    let seeds = |usual: &str| args.seeds.map_or_else(|| usual.parse().map_err(anyhow::Error::msg), Ok);
    let Some(study) = COMPARED.iter().find(|study| study.name == args.name) else {
        let has_settings = args.base.pixels || args.base.config.is_some() || !args.base.settings.is_empty();
        ensure!(
            !has_settings && args.sweep.is_none(),
            "{ABLATION}: its settings are fixed; only --run and --seeds may be given"
        );
        return run_ablation(&folder, seeds("5")?, threads);
    };
    let sweep = match (args.sweep, study.sweep) {
        (None, Some(sweep)) => Some(sweep.parse().map_err(anyhow::Error::msg)?),
        (given, _) => given,
    };
    let base = Base { pixels: args.base.pixels || study.pixels, ..args.base };
    let compared = study.settings.iter().map(|&setting| setting.into()).collect();
    Comparison { name: args.name, compared, sweep, seeds: seeds("3")?, base }.run(&folder, threads)
}

fn run_ablation(folder: &Path, seeds: Seeds, threads: Option<usize>) -> Result<Output> {
    let (rows, trainings): (Vec<_>, Vec<_>) = ablation(folder, seeds)?.into_iter().unzip();
    let tested = match make(folder, &trainings, threads)? {
        Ok(tested) => tested,
        Err(stopped) => return Ok(stopped),
    };
    let seconds: Vec<f64> = tested.iter().filter_map(|tested| tested.seconds).collect();
    let mut scores = Vec::new();
    for (row, tested) in rows.into_iter().zip(tested) {
        if let Some((loss, way, seed)) = row {
            let score = |(crops, test)| Score { loss: loss.into(), way: way.into(), crops, seed, test };
            scores.extend(tested.test.into_iter().map(score));
        }
    }
    scores.sort_by_key(|score| {
        let place = |names: &[&str], name: &str| names.iter().position(|own| *own == name);
        (place(&LOSSES, &score.loss), place(&WAYS, &score.way), score.crops, score.seed)
    });
    let table = format!("{}\n{}", study_table(&scores), study_steps(&scores, &WAYS, LOSSES));
    let written = write(folder, ABLATION, &table, &study_figure(&scores, &WAYS, LOSSES))?;
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    let (mean, _) = mean_and_deviation(&seconds);
    let text = format!(
        "{table}\n{} trainings: {mean:.0} s each, {longest:.0} s at most, {:.0} min in all\n{written}",
        seconds.len(),
        seconds.iter().fold(0.0, |sum, s| sum + s) / 60.0,
    );
    let json = json!({ "run": escape::json_path(folder), "scores": scores, "seconds": seconds });
    Ok(Output::done(text, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_training_of_the_ablation_has_valid_settings_and_comes_after_what_it_needs() {
        let folder = Path::new("runs/ablation");
        let all = ablation(folder, "2".parse().unwrap()).unwrap();
        assert_eq!(all.len(), 1 + 2 * 2 * 3);
        for (k, (_, training)) in all.iter().enumerate() {
            let mut config = crate::model::Config::pixels();
            training.args.settings().apply(&mut config).unwrap();
            for needed in [&config.weights, &config.init].into_iter().flatten() {
                let needed = needed.strip_prefix(folder).unwrap();
                let earlier = all[..k].iter().find(|(_, other)| needed.starts_with(&other.name));
                assert!(earlier.is_some(), "{}: {}", training.name, needed.display());
            }
            config.check().unwrap();
        }
    }

    #[test]
    fn the_settings_of_every_study_are_valid() {
        for study in &COMPARED {
            let base = Base { config: None, pixels: study.pixels, settings: Settings::default() };
            let compared = study.settings.iter().map(|&setting| setting.into()).collect();
            let sweep = study.sweep.map(|sweep| sweep.parse().unwrap());
            let seeds = "1".parse().unwrap();
            Comparison { name: study.name.into(), compared, sweep, seeds, base }.check().unwrap();
        }
    }
}
