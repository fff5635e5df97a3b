//! What a backend computed, in memory instead of in files.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use rayon::prelude::*;

use super::check::{CheckOptions, CheckReport, asked, check_one, known, missing, summary};
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
    /// What went wrong instead.
    failed: BTreeMap<String, String>,
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

    /// Says that the backend could not compute a case, and why.
    pub fn fail(&mut self, case: &str, problem: &str) {
        self.failed.insert(case.into(), problem.into());
    }

    /// Compares these tensors with the suite, as [`check_folder`](super::check_folder) does with files.
    ///
    /// # Errors
    ///
    /// If a case does not exist, or if a file of the suite is damaged.
    pub fn check(&self, suite: &Suite, profile: Profile, options: &CheckOptions) -> Result<CheckReport> {
        Ok(summary(suite.manifest.suite.clone(), self.checked(suite, profile, options)?, profile, options))
    }

    /// Compares each case.
    pub(super) fn checked(&self, suite: &Suite, profile: Profile, options: &CheckOptions) -> Result<Vec<Checked>> {
        self.cases.keys().chain(self.failed.keys()).try_for_each(|id| known(suite, id))?;
        let asked = asked(suite, options)?;
        let check = |entry: &&CaseEntry| match (self.failed.get(&entry.id), self.cases.get(&entry.id)) {
            (Some(problem), _) => check_one(suite.load(entry)?, Err(Error::mismatch(problem)), profile),
            (_, Some(found)) => check_one(suite.load(entry)?, Ok(found.clone()), profile),
            _ => Ok(missing(entry)),
        };
        asked.par_iter().map(check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::TensorWriter;
    use crate::golden::check_folder;
    use crate::pages;
    use ndarray::arr1;

    #[test]
    fn tensors_in_memory_give_the_report_of_files() {
        let folder = pages::root().join("fixtures/golden");
        let suite = Suite::open(&folder).unwrap();
        let out = tempfile::tempdir().unwrap();
        let mut outputs = Outputs::default();
        // A right case, a wrong one, and one with a name that it does not have.
        for (case, name, change) in [
            ("gru-cell-smallest", "out.h_next", 0.0),
            ("gru-cell-e3-h2", "mid.c", 1.0),
            ("gru-cell-e2-h5", "out.h", 0.0),
        ] {
            let entry = suite.manifest.cases.iter().find(|entry| entry.id == case).unwrap();
            let golden = suite.load(entry).unwrap();
            let mut values = golden.expected.get(name).cloned().unwrap_or_else(|| arr1(&[0.0]).into_dyn());
            *values.first_mut().unwrap() += change;
            values.mapv_inplace(|x| f64::from(x as f32));
            let mut writer = TensorWriter::default();
            writer.add(name, &values.mapv(|x| x as f32).view());
            writer.write_safetensors(&out.path().join(format!("{case}.safetensors")), None).unwrap();
            outputs.add(case, name, "F32", values).unwrap();
        }
        let options = CheckOptions::default();
        let memory = outputs.check(&suite, Profile::F32, &options).unwrap().to_string();
        let files = check_folder(&folder, out.path(), Profile::F32, &options).unwrap().to_string();
        assert_eq!(memory, files);
        assert!(memory.contains("mid.c in gru-cell-e3-h2") && memory.contains("out.h in gru-cell-e2-h5"), "{memory}");
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        let suite = Suite::open(&pages::root().join("fixtures/golden")).unwrap();
        let one = || arr1(&[1.0]).into_dyn();
        let mut outputs = Outputs::default();
        outputs.add("gru-cell", "out.h_next", "F32", one()).unwrap();
        let error = outputs.add("gru-cell", "out.h_next", "F64", one()).unwrap_err().to_string();
        assert_eq!(error, "case gru-cell: out.h_next is given twice");
        let error = outputs.add("gru-cell", "mid.c", "float32", one()).unwrap_err().to_string();
        assert_eq!(error, "mid.c: expected a type such as F32, F64 or I64, found float32");
        let error = outputs.check(&suite, Profile::F32, &CheckOptions::default()).unwrap_err().to_string();
        assert_eq!(error, "there is no case gru-cell in the suite core");
    }
}
