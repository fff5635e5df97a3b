//! Several trainings, one after the other. Each is an ordinary run in a folder of its own, and what is done stays.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use super::load::RunArgs;
use super::quote::shell_quote;
use super::tested::Tested;
use super::{Output, train};
use crate::escape;
use crate::files::write_atomically;
use crate::report::say;
use crate::train::RunFolder;

/// A training of a series.
pub(crate) struct Training {
    /// Its folder's name.
    pub name: String,
    pub args: train::Args,
    /// With how many crops of a picture it is tested.
    pub crops: &'static [usize],
}

/// Makes each training that is not done, and gives the figures of all; what to print instead, if one was stopped.
pub(crate) fn make(
    folder: &Path,
    trainings: &[Training],
    threads: Option<usize>,
) -> Result<Result<Vec<Tested>, Output>> {
    let mut all = Vec::new();
    for (k, training) in trainings.iter().enumerate() {
        let name = &training.name;
        say(&format!("{name} ({} of {})", k + 1, trainings.len()));
        let Some(tested) = training.tested(&folder.join(name), threads)? else {
            let text = format!("stopped in {name}; the same command goes on\n");
            return Ok(Err(Output { text, json: json!({ "interrupted": name }), exit: 130 }));
        };
        all.push(tested);
    }
    Ok(Ok(all))
}

impl Training {
    /// The figures of a training, which is begun, continued or done. None if it was stopped.
    fn tested(&self, path: &Path, threads: Option<usize>) -> Result<Option<Tested>> {
        let begun = Instant::now();
        let resume = RunFolder::at(path).last().exists();
        if resume {
            self.check_settings(path)?;
        }
        let is_complete = |tested: &Tested| {
            tested.test.is_empty() || self.crops.iter().all(|crops| tested.test.iter().any(|(own, _)| own == crops))
        };
        if let Some(tested) = Tested::read(path)?.filter(is_complete) {
            return Ok(Some(tested));
        }
        if train::run(self.args.at(path.into(), resume), threads)?.exit != 0 {
            return Ok(None);
        }
        let mut tested = Tested::read(path)?.with_context(|| format!("{}: no test.json", escape::path(path)))?;
        if self.crops.contains(&10) && !tested.test.is_empty() {
            let args = RunArgs::test_of(path.into());
            tested.test.push((10, args.embed_ten(&args.load()?)?.evaluate(1)?));
        }
        tested.seconds = (!resume).then(|| begun.elapsed().as_secs_f64());
        tested.write(path)?;
        Ok(Some(tested))
    }

    /// # Errors
    ///
    /// If the run that is there was made with other settings.
    fn check_settings(&self, path: &Path) -> Result<()> {
        let before = RunFolder::at(path).read_config()?;
        let now = self.args.new_config()?;
        let context = || format!("{}: it was made with other settings; remove its folder", escape::path(path));
        anyhow::ensure!(now.num_epochs == before.num_epochs, context());
        now.check_resumes(&before).with_context(context)
    }
}

/// Which seeds: N for 0 to N − 1, or A-B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    first: u64,
    last: u64,
}

impl Seeds {
    pub(crate) fn all(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MOST: u64 = 1000;
        let number = |text: &str| text.parse::<u64>().ok();
        let range = match text.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)),
            None => number(text).and_then(|n| Some((0, n.checked_sub(1)?))),
        };
        match range {
            Some((first, last)) if first <= last && last - first < MOST => Ok(Self { first, last }),
            _ => Err(format!("expected a number from 1 to {MOST}, or the first and the last seed as in 3-5")),
        }
    }
}

/// The folder's name for some text: letters, digits and dots, everything else as a hyphen.
pub(crate) fn folder_name(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(kept).collect()
}

/// Writes what came out next to the runs, and says where it is.
pub(crate) fn write(folder: &Path, name: &str, table: &str, figure: &str) -> Result<String> {
    for (extension, text) in [("md", table), ("svg", figure)] {
        write_atomically(&folder.join(format!("{name}.{extension}")), text.as_bytes())?;
    }
    Ok(format!("The table and a figure are in {}: {name}.md, {name}.svg\n", shell_quote(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::Settings;

    /// A model that is trained for one epoch on features of an encoder with random numbers.
    #[test]
    fn a_training_is_made_once_and_one_with_other_settings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let training = |rate: &str| {
            let settings = [
                ("finetune", "false"),
                ("statistics", "frozen"),
                ("num_epochs", "1"),
                ("embed_size", "4"),
                ("learning_rate", rate),
            ];
            let settings = Settings::of(&settings.map(|(key, value)| (key, value.into()))).unwrap();
            Training { name: "one".into(), args: train::Args::new(true, None, settings), crops: &[1, 10] }
        };
        let first = training("1e-2").tested(&path, None).unwrap().unwrap();
        assert_eq!(first.test.iter().map(|(crops, _)| *crops).collect::<Vec<_>>(), [1, 10]);
        assert!(first.test.iter().all(|(_, test)| test.images == 500) && first.seconds.is_some());
        let written = || std::fs::metadata(path.join("last.safetensors")).unwrap().modified().unwrap();
        let before = written();
        assert_eq!(training("1e-2").tested(&path, None).unwrap().unwrap(), first);
        assert_eq!(written(), before);
        // Without its figures, the run is tested again, not trained again.
        std::fs::remove_file(path.join("test.json")).unwrap();
        let again = training("1e-2").tested(&path, None).unwrap().unwrap();
        assert_eq!((again.test, again.dev, again.seconds), (first.test, first.dev, None));
        let error = format!("{:#}", training("2e-2").tested(&path, None).err().unwrap());
        assert!(error.contains("made with other settings") && error.contains("learning_rate"), "{error}");
    }

    #[test]
    fn seeds_are_a_number_or_a_range() {
        let all = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.all().collect::<Vec<_>>());
        assert_eq!(all("3"), Ok(vec![0, 1, 2]));
        assert_eq!(all("3-5"), Ok(vec![3, 4, 5]));
        for wrong in ["0", "5-3", "x", "1-", "0-1000", ""] {
            assert!(all(wrong).is_err_and(|e| e.contains("as in 3-5")), "{wrong}");
        }
    }
}
