//! The figures of a trained run.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::escape;
use crate::eval::Evaluation;
use crate::files::read_text;
use crate::model::Config;
use crate::train::RunFolder;

/// `test.json` in the folder of a run: its figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tested {
    /// From the first step to the last figure; none if it was stopped in between.
    pub seconds: Option<f64>,
    /// The best epoch, on the dev split.
    #[serde(default)]
    pub dev: Option<Evaluation>,
    /// That epoch's figures on the test split, for each number of crops; none if the data have no such split.
    pub test: Vec<(usize, Evaluation)>,
}

impl Tested {
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn write(&self, run: &Path) -> Result<()> {
        Ok(RunFolder::at(run).write_test(&serde_json::to_vec(self)?)?)
    }

    /// None if there is no such file.
    pub(crate) fn read(run: &Path) -> Result<Option<Self>> {
        let file = RunFolder::at(run).test();
        if !file.exists() {
            return Ok(None);
        }
        let text = read_text(&file, Config::LONGEST)?;
        serde_json::from_str(&text).with_context(|| escape::path(&file)).map(Some)
    }
}
