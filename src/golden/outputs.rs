//! What a backend computed, in memory instead of in files.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use rayon::prelude::*;

use super::check::{CheckOptions, CheckReport, check_one, missing, summary};
use super::compare::{Found, FoundTensors};
use super::diagnose::Checked;
use super::suite::{CaseEntry, Suite};
use super::tolerance::Profile;
use crate::error::{Error, Result};
use crate::escape;
use crate::files::ElementType;

/// The tensors of a backend by case.
///
/// ```
/// use std::path::Path;
/// use vsepp::golden::{CheckOptions, Outputs, Profile, Suite};
/// use vsepp::ndarray::arr1;
///
/// # fn main() -> vsepp::Result<()> {
/// let suite = Suite::open(Path::new("fixtures/golden"))?;
/// let mut outputs = Outputs::default();
/// outputs.add("loss-mh-worked-example", "out.loss", "F32", arr1(&[0.9]).into_dyn())?;
/// let report = outputs.check(&suite, Profile::F32, &CheckOptions::default())?;
/// assert!(!report.passed);
/// assert!(report.to_string().contains("out.loss in loss-mh-worked-example"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    cases: BTreeMap<String, FoundTensors>,
}

impl Outputs {
    /// Adds a case, or a tensor of a case. `element` is the type in which the backend holds the numbers, as in
    /// safetensors: `F64`, `F32`, `BF16`, `F16`, `I64`, …, `U8`, `BOOL`.
    ///
    /// # Errors
    ///
    /// If the type is unknown, or if the case has a tensor of this name already.
    pub fn add(&mut self, case: &str, name: &str, element: &str, values: ArrayD<f64>) -> Result<()> {
        let Some(element) = ElementType::ALL.into_iter().find(|known| known.to_string() == element) else {
            let (name, element) = (escape::name(name), escape::name(element));
            return Err(Error::mismatch(format!("{name}: expected a type such as F32, F64 or I64, found {element}")));
        };
        let tensors = self.cases.entry(case.into()).or_default();
        if tensors.insert(name.into(), Found { element, values }).is_some() {
            return Err(Error::mismatch(format!("case {}: {} is given twice", escape::name(case), escape::name(name))));
        }
        Ok(())
    }

    /// Compares these tensors with the suite, as [`check_folder`](super::check_folder) does with files.
    ///
    /// # Errors
    ///
    /// If a case does not exist, or if a file of the suite is damaged.
    pub fn check(&self, suite: &Suite, profile: Profile, options: &CheckOptions) -> Result<CheckReport> {
        let all = &suite.manifest.cases;
        let known = |id: &&String| all.iter().all(|case| case.id != **id);
        if let Some(unknown) = self.cases.keys().chain(&options.cases).find(known) {
            let unknown = escape::name(unknown);
            return Err(Error::mismatch(format!("there is no case {unknown} in the suite {}", suite.manifest.suite)));
        }
        let asked: Vec<&CaseEntry> =
            all.iter().filter(|case| options.cases.is_empty() || options.cases.contains(&case.id)).collect();
        let checked: Result<Vec<Checked>> = asked
            .par_iter()
            .map(|entry| match self.cases.get(&entry.id) {
                Some(found) => check_one(suite.load(entry)?, Ok(found.clone()), profile),
                None => Ok(missing(entry)),
            })
            .collect();
        Ok(summary(suite.manifest.suite.clone(), checked?, profile, options))
    }
}
