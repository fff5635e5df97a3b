//! `vsepp compare`

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use super::series::{Seeds, Training, folder_name, make, write};
use super::settings::Settings;
use super::tested::Tested;
use super::{Output, note, train};
use crate::escape;
use crate::eval::Evaluation;
use crate::files::read_text;
use crate::model::{Config, Kind, Setting};
use crate::report::{Series, compare_figure, compare_table, mean_and_deviation, sweep_table};
use crate::train::RunFolder;

/// Trains with several settings, on the same data, from the same initial weights and with the same seeds, and compares
/// the results: a table with mean and standard deviation, and a figure of dev rsum by epoch.
///
/// Every training is an ordinary run in a folder of its own. What is done stays: after a stop the same command goes on,
/// and further settings or seeds train only what is new.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  vsepp compare sh mh\n  vsepp compare sh mh mh@k=4 \"mh lr=2e-3\" --seeds 3\n  \
                        vsepp compare sh mh --sweep learning-rate=1e-3,2e-3,4e-3 --data DIR --embed-size 256\n\n\
                        A setting is a list of words: sh, mh, a flag of `vsepp train` without its hyphens (no-imgnorm), or key=value. \
                        Short names: lr is learning-rate, k is hardest, tau is temperature, M is negatives. mh@KEY=VALUE is the same as \"mh KEY=VALUE\". All other flags of `vsepp train` hold for all trainings.")]
pub(crate) struct Args {
    /// What is compared: the settings that differ, one argument for each row of the table
    #[arg(value_name = "SETTING", required = true)]
    compared: Vec<String>,
    /// Folder of the runs, the table and the figure
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    run: PathBuf,
    /// Seeds of each training: N for 0 to N − 1, or the first and the last as in 3-5
    #[arg(long, value_name = "N", default_value = "3")]
    seeds: Seeds,
    /// Train each setting with each of these values, and compare each at its best one by mean dev rsum
    #[arg(long, value_name = "KEY=A,B,…")]
    sweep: Option<Sweep>,
    #[command(flatten)]
    base: Base,
}

/// What holds for all trainings.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Base {
    /// Settings in TOML, as in a run's config.toml; flags override them
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Train on the pixels of the scenes, with a small image encoder
    #[arg(long, conflicts_with_all = ["data", "images", "init"])]
    pub(super) pixels: bool,
    #[command(flatten)]
    pub(super) settings: Settings,
}

pub(crate) fn run(args: Args, threads: Option<usize>) -> Result<Output> {
    Comparison {
        name: "compare".into(),
        compared: args.compared,
        sweep: args.sweep,
        seeds: args.seeds,
        base: args.base,
    }
    .run(&args.run, threads)
}

/// Several settings, with several seeds each.
pub(super) struct Comparison {
    /// The name of the table and the figure.
    pub name: String,
    /// The settings, as people write them.
    pub compared: Vec<String>,
    pub sweep: Option<Sweep>,
    pub seeds: Seeds,
    pub base: Base,
}

/// A setting and its values.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    setting: &'static Setting,
    values: Vec<String>,
}

impl std::str::FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, values) =
            text.split_once('=').ok_or("expected a setting and its values, as in learning-rate=1e-3,2e-3")?;
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        if let Some(again) = values.iter().enumerate().find(|(k, value)| values[..*k].contains(value)) {
            return Err(format!("{}: this value occurs twice", again.1));
        }
        Ok(Self { setting: setting(key).map_err(|e| e.to_string())?, values })
    }
}

/// The trainings of one row and one value: a setting for each seed.
pub(super) struct Cell {
    row: usize,
    value: Option<usize>,
    seed: u64,
    training: Training,
}

/// The figures of a row with one value.
struct Found {
    seeds: Vec<(u64, Tested)>,
    curves: Vec<Vec<f64>>,
}

impl Found {
    /// rsum on dev, for each seed.
    fn dev(&self) -> Vec<f64> {
        self.seeds.iter().filter_map(|(_, tested)| tested.dev.as_ref()).map(|dev| dev.rsum).collect()
    }
}

impl Comparison {
    pub(super) fn run(&self, folder: &Path, threads: Option<usize>) -> Result<Output> {
        let cells = self.check()?;
        let (places, trainings): (Vec<_>, Vec<Training>) =
            cells.into_iter().map(|cell| ((cell.row, cell.value, cell.seed), cell.training)).unzip();
        let tested = match make(folder, &trainings, threads)? {
            Ok(tested) => tested,
            Err(stopped) => return Ok(stopped),
        };
        let mut found: Vec<Vec<Found>> = Vec::new();
        for row in 0..self.compared.len() {
            let mut by_value = Vec::new();
            for value in self.values() {
                let mut all = Found { seeds: Vec::new(), curves: Vec::new() };
                let own =
                    places.iter().zip(&trainings).zip(&tested).filter(|((at, _), _)| (at.0, at.1) == (row, value));
                for ((&(.., seed), training), tested) in own {
                    all.seeds.push((seed, tested.clone()));
                    all.curves.push(dev_by_epoch(&folder.join(&training.name))?);
                }
                by_value.push(all);
            }
            found.push(by_value);
        }
        self.report(folder, &found)
    }

    /// The values of the sweep; one without a value if there is none.
    fn values(&self) -> Vec<Option<usize>> {
        self.sweep.as_ref().map_or_else(|| vec![None], |sweep| (0..sweep.values.len()).map(Some).collect())
    }

    /// All trainings, after a check of their settings: a value that is not allowed is found before anything is trained.
    pub(super) fn check(&self) -> Result<Vec<Cell>> {
        ensure!(!self.base.settings.has("seed"), "--seed: there are several seeds; --seeds says which");
        let cells = self.cells()?;
        for cell in &cells {
            cell.training.args.new_config()?.check().with_context(|| self.compared[cell.row].clone())?;
        }
        Ok(cells)
    }

    /// All trainings, seed by seed.
    fn cells(&self) -> Result<Vec<Cell>> {
        let mut cells: Vec<Cell> = Vec::new();
        for seed in self.seeds.all() {
            for (row, text) in self.compared.iter().enumerate() {
                let own = parse(text).with_context(|| text.clone())?;
                for value in self.values() {
                    let (mut settings, mut name) = (own.clone(), text.clone());
                    if let (Some(value), Some(Sweep { setting, values })) = (value, &self.sweep) {
                        let twice = own.iter().any(|(key, _)| *key == setting.key);
                        ensure!(!twice, "{text}: --sweep gives the values of {}", setting.flag);
                        settings.push((setting.key, values[value].clone().into()));
                        name = format!("{name} {}={}", setting.flag, values[value]);
                    }
                    settings.push(("seed", seed.to_string().into()));
                    let name = format!("{}-{seed}", folder_name(&name));
                    let same = cells.iter().find(|cell| cell.training.name == name);
                    ensure!(same.is_none(), "{text}: another setting has the same folder, {name}");
                    let settings = self.base.settings.with(&Settings::of(&settings)?);
                    let args = train::Args::new(self.base.pixels, self.base.config.clone(), settings);
                    cells.push(Cell { row, value, seed, training: Training { name, args, crops: &[1] } });
                }
            }
        }
        Ok(cells)
    }

    fn report(&self, folder: &Path, found: &[Vec<Found>]) -> Result<Output> {
        let best: Vec<usize> = found.iter().map(|by_value| best_of(by_value)).collect();
        let is_tested =
            found.iter().flatten().flat_map(|found| &found.seeds).all(|(_, tested)| !tested.test.is_empty());
        let figures = |tested: &Tested| -> Option<Evaluation> {
            if is_tested { tested.test.first().map(|(_, test)| *test) } else { tested.dev }
        };
        let mut all = Vec::new();
        for (row, text) in self.compared.iter().enumerate() {
            let own = &found[row][best[row]];
            let setting = self.sweep.as_ref().map_or_else(
                || text.clone(),
                |sweep| format!("{text} {}={}", sweep.setting.flag, sweep.values[best[row]]),
            );
            let seeds = own.seeds.iter().filter_map(|(seed, tested)| Some((*seed, figures(tested)?))).collect();
            all.push(Series { setting, seeds, curves: own.curves.clone() });
        }
        let mut table = compare_table(&all);
        let mut json = json!({ "run": escape::json_path(folder), "split": if is_tested { "test" } else { "dev" }, "settings": all });
        if let Some(sweep) = &self.sweep {
            let rows: Vec<(String, Vec<Vec<f64>>, usize)> = (0..found.len())
                .map(|row| (self.compared[row].clone(), found[row].iter().map(Found::dev).collect(), best[row]))
                .collect();
            table = format!("{table}\n{}", sweep_table(&sweep.setting.flag, &sweep.values, &rows));
            let last = sweep.values.len() - 1;
            for (text, _, best) in rows.iter().filter(|(.., best)| last > 0 && (*best == 0 || *best == last)) {
                note(&format!(
                    "{text}: the best value, {}, is at an end of the sweep; the best one may lie beyond it",
                    sweep.values[*best]
                ));
            }
            json["sweep"] = json!({ "key": sweep.setting.key, "values": sweep.values, "dev_rsum":
                rows.iter().map(|(setting, by_value, _)| json!({ "setting": setting, "values": by_value })).collect::<Vec<_>>() });
        }
        if !is_tested {
            note("the data have no test split: the figures are those of dev");
        }
        let written = write(folder, &self.name, &table, &compare_figure(&all))?;
        Ok(Output::done(format!("{table}\n{written}"), json))
    }
}

/// The value with the highest mean rsum on dev.
fn best_of(by_value: &[Found]) -> usize {
    let mean = |found: &Found| mean_and_deviation(&found.dev()).0;
    let all = by_value.iter().map(mean).enumerate();
    // The first of several equals.
    all.fold((0, f64::NEG_INFINITY), |best, (k, x)| if x > best.1 { (k, x) } else { best }).0
}

/// Dev rsum after each epoch of a run.
fn dev_by_epoch(run: &Path) -> Result<Vec<f64>> {
    #[derive(Deserialize)]
    struct Line {
        event: String,
        dev: Option<Evaluation>,
    }
    /// Far above the metrics of any training that is repeated with several seeds.
    const LONGEST: u64 = 1 << 30;
    let file = RunFolder::at(run).metrics();
    let mut all = Vec::new();
    for (k, line) in read_text(&file, LONGEST)?.lines().enumerate() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("{}:{}", escape::path(&file), k + 1))?;
        all.extend(line.dev.filter(|_| line.event == "epoch").map(|dev| dev.rsum));
    }
    Ok(all)
}

/// A setting by its key or flag, or by its short name.
fn setting(name: &str) -> Result<&'static Setting> {
    let key = match name {
        "lr" => "learning_rate".to_owned(),
        "k" => "hardest".to_owned(),
        "tau" => "temperature".to_owned(),
        "M" => "negatives".to_owned(),
        name => name.replace('-', "_"),
    };
    let found = Config::settings().iter().find(|setting| setting.key == key);
    let found = found.with_context(|| format!("{name}: no such setting; `vsepp train --help` lists them"))?;
    ensure!(found.key != "seed", "seed: --seeds says which seeds there are");
    Ok(found)
}

/// The settings in a text such as `mh lr=2e-3`.
fn parse(text: &str) -> Result<Vec<(&'static str, OsString)>> {
    let mut all: Vec<(&'static str, OsString)> = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == '@').filter(|word| !word.is_empty()) {
        let off = Config::settings().iter().find(|setting| setting.off.is_some_and(|(off, _)| off == word));
        let (key, value) = match (word, word.split_once('='), off) {
            ("mh", ..) => ("max_violation", "true"),
            ("sh", ..) => ("max_violation", "false"),
            (_, Some((name, value)), _) => (setting(name)?.key, value),
            (_, None, Some(setting)) => (setting.key, "false"),
            (_, None, None) => {
                let found = setting(word)?;
                if !matches!(found.kind, Kind::Switch) {
                    bail!("{word}: expected a value, as in {word}=…");
                }
                (found.key, "true")
            }
        };
        ensure!(all.iter().all(|(own, _)| *own != key), "{word}: {key} is set twice");
        all.push((key, value.into()));
    }
    ensure!(!all.is_empty(), "expected a setting, such as mh or lr=2e-3, found none");
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(texts: &[&str], sweep: Option<&str>) -> Comparison {
        let base = Base { config: None, pixels: false, settings: Settings::default() };
        let sweep = sweep.map(|sweep| sweep.parse().unwrap());
        let compared = texts.iter().map(|&text| text.into()).collect();
        Comparison { name: "compare".into(), compared, sweep, seeds: "2".parse().unwrap(), base }
    }

    #[test]
    fn settings_are_words() {
        let all = |text: &str| {
            let found = parse(text).unwrap().into_iter();
            found.map(|(key, value)| format!("{key}={}", value.to_string_lossy())).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(all("sh"), "max_violation=false");
        assert_eq!(all("mh lr=2e-3"), "max_violation=true learning_rate=2e-3");
        assert_eq!(all("mh@k=4 M=31"), "max_violation=true hardest=4 negatives=31");
        assert_eq!(all("mh@warmup-epochs=2@no-imgnorm"), "max_violation=true warmup_epochs=2 no_imgnorm=true");
        assert_eq!(all("sum-violation margin=0.1"), "max_violation=false margin=0.1");
        for (wrong, message) in [
            ("mh lrr=1", "lrr: no such setting"),
            ("mh margin", "margin: expected a value"),
            ("mh sh", "sh: max_violation is set twice"),
            ("mh seed=1", "seed: --seeds"),
            ("  ", "expected a setting"),
        ] {
            let error = format!("{:#}", parse(wrong).unwrap_err());
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn every_setting_has_a_training_for_each_seed_and_value() {
        let cells = compared(&["sh", "mh margin=0.1"], Some("lr=1e-3,2e-3")).cells().unwrap();
        assert_eq!(cells.len(), 2 * 2 * 2);
        let last = cells.last().unwrap();
        assert_eq!(last.training.name, "mh-margin-0.1-learning-rate-2e-3-1");
        let config = last.training.args.new_config().unwrap();
        assert_eq!((config.margin, config.learning_rate, config.seed, config.max_violation), (0.1, 2e-3, 1, true));
        let error = |texts: &[&str], sweep| format!("{:#}", compared(texts, sweep).cells().err().unwrap());
        assert!(error(&["mh", "mh"], None).contains("mh: another setting has the same folder, mh-0"));
        assert!(error(&["mh lr=1"], Some("lr=1,2")).contains("--sweep gives the values of learning-rate"));
    }

    #[test]
    fn a_wrong_value_is_found_before_anything_is_trained() {
        let folder = tempfile::tempdir().unwrap();
        let error = compared(&["mh", "mh margin=-1"], None).run(folder.path(), None).err().unwrap();
        let error = format!("{error:#}");
        assert!(error.starts_with("mh margin=-1: margin"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut seeded = compared(&["mh"], None);
        seeded.base.settings = Settings::of(&[("seed", "3".into())]).unwrap();
        assert!(seeded.check().is_err_and(|e| e.to_string().starts_with("--seed: there are several seeds")));
        for wrong in ["learning-rate", "nothing=1,2", "lr=1,1"] {
            assert!(wrong.parse::<Sweep>().is_err(), "{wrong}");
        }
    }

    /// Two tiny trainings with two values each: a table, a figure, and nothing is trained again.
    #[test]
    fn a_comparison_makes_runs_a_table_and_a_figure() {
        let folder = tempfile::tempdir().unwrap();
        let small = [("num_epochs", "1"), ("embed_size", "4"), ("word_dim", "4")];
        let settings = Settings::of(&small.map(|(key, value)| (key, value.into()))).unwrap();
        let comparison = |texts: &[&str], sweep| {
            let mut comparison = compared(texts, sweep);
            comparison.base.settings = settings.clone();
            comparison.run(folder.path(), None).unwrap()
        };
        let first = comparison(&["sh", "mh"], Some("lr=1e-3,1e-2"));
        let run = folder.path().join("sh-learning-rate-1e-3-0");
        let written = || std::fs::metadata(run.join("last.safetensors")).unwrap().modified().unwrap();
        let before = written();
        assert_eq!(first.json["split"], "test");
        assert_eq!(first.json["settings"][1]["seeds"].as_array().unwrap().len(), 2);
        assert_eq!(first.json["sweep"]["dev_rsum"][0]["values"].as_array().unwrap().len(), 2);
        let dev = |value: usize| {
            let all = &first.json["sweep"]["dev_rsum"][0]["values"][value];
            all.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum::<f64>()
        };
        let chosen = if dev(1) > dev(0) { "1e-2" } else { "1e-3" };
        assert_eq!(first.json["settings"][0]["setting"], format!("sh learning-rate={chosen}"));
        let figure = std::fs::read_to_string(folder.path().join("compare.svg")).unwrap();
        assert_eq!(figure.matches("<polyline").count(), 2 * (2 + 1));
        let again = comparison(&["sh", "mh"], Some("lr=1e-3,1e-2"));
        assert_eq!((again.text, written()), (first.text, before));
        // The runs are ordinary ones.
        assert!(RunFolder::at(&run).last().exists() && Tested::read(&run).unwrap().unwrap().test.len() == 1);
    }
}
