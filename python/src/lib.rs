//! `vsepp._core`: what the Python package takes from the crate. `package/vsepp` is what its users see.

use std::path::{Path, PathBuf};

use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vsepp::eval::Embeddings;
use vsepp::golden::{CheckOptions, FuzzOptions, Outputs, Profile};
use vsepp::similarity::Measure;

/// An error of the crate as `ValueError`, with the crate's message.
fn value_error(e: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(e.to_string())
}

/// A setting by its name, as the crate reads it.
fn named<T: serde::de::DeserializeOwned>(key: &str, name: &str) -> PyResult<T> {
    serde_json::from_value(name.into()).map_err(|e| PyValueError::new_err(format!("{key}: {e}")))
}

/// A golden suite, open.
#[pyclass(frozen)]
struct Suite(vsepp::golden::Suite);

/// The case, the tensor's name, its type as in safetensors, and its numbers in `float64`.
type Given<'py> = (String, String, String, PyReadonlyArrayDyn<'py, f64>);

#[pymethods]
impl Suite {
    #[new]
    fn open(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        py.detach(|| vsepp::golden::Suite::open(&folder)).map(Self).map_err(value_error)
    }

    /// Compares tensors with the suite: whether all is right, the report as text, and as JSON.
    fn check(
        &self,
        py: Python<'_>,
        tensors: Vec<Given<'_>>,
        profile: &str,
        cases: Vec<String>,
        complete: bool,
    ) -> PyResult<(bool, String, String)> {
        let profile: Profile = named("profile", profile)?;
        let outputs = outputs(tensors)?;
        let options = CheckOptions { cases, complete, ..CheckOptions::default() };
        py.detach(|| {
            let report = outputs.check(&self.0, profile, &options).map_err(value_error)?;
            let json = serde_json::to_string(&report).map_err(value_error)?;
            Ok((report.passed, report.to_string(), json))
        })
    }
}

fn outputs(tensors: Vec<Given<'_>>) -> PyResult<Outputs> {
    let mut outputs = Outputs::default();
    for (case, name, element, values) in tensors {
        outputs.add(&case, &name, &element, values.as_array().to_owned()).map_err(value_error)?;
    }
    Ok(outputs)
}

/// What ends a search: an exception, or an error of the crate.
struct Ended(PyErr);

impl From<vsepp::Error> for Ended {
    fn from(e: vsepp::Error) -> Self {
        Self(value_error(e))
    }
}

/// Random cases: whether none failed, the report as text, and as JSON. `backend` is given the folder of a suite; it
/// returns what it computed, and the cases that it could not compute, with the reason.
#[pyfunction]
fn fuzz(
    py: Python<'_>,
    backend: Py<PyAny>,
    seeds: u64,
    first: u64,
    programs: Vec<String>,
    profile: &str,
    out: PathBuf,
) -> PyResult<(bool, String, String)> {
    let options = FuzzOptions { seeds, first, programs, profile: named("profile", profile)?, out };
    let compute = |folder: &Path| {
        let computed = |py: Python<'_>| -> PyResult<Outputs> {
            let (tensors, failed): (Vec<Given<'_>>, Vec<(String, String)>) =
                backend.call1(py, (folder,))?.extract(py)?;
            let mut outputs = outputs(tensors)?;
            failed.iter().for_each(|(case, problem)| outputs.fail(case, problem));
            Ok(outputs)
        };
        Python::attach(computed).map_err(Ended)
    };
    let fuzzed = py.detach(|| vsepp::golden::fuzz(&options, compute)).map_err(|Ended(e)| e)?;
    Ok((fuzzed.passed, fuzzed.to_string(), serde_json::to_string(&fuzzed).map_err(value_error)?))
}

/// R@K in both directions: the figures as JSON, and notes on the vectors.
#[pyfunction]
fn recall(
    py: Python<'_>,
    images: PyReadonlyArray2<'_, f32>,
    captions: PyReadonlyArray2<'_, f32>,
    image_ids: Option<PyReadonlyArray1<'_, i64>>,
    measure: &str,
    normalize: bool,
    folds: usize,
) -> PyResult<(String, Vec<String>)> {
    let measure: Measure = named("measure", measure)?;
    let (images, captions) = (images.as_array().to_owned(), captions.as_array().to_owned());
    let image_ids = image_ids.map(|ids| ids.as_array().to_vec());
    let ranked = py.detach(|| {
        let mut embeddings = Embeddings::new(images, captions, image_ids.as_deref())?;
        if normalize {
            embeddings.normalise()?;
        }
        Ok((embeddings.evaluate(measure, folds)?, embeddings.notes().to_vec()))
    });
    let (found, notes) = ranked.map_err(|e: vsepp::Error| value_error(e))?;
    Ok((serde_json::to_string(&found).map_err(value_error)?, notes))
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::{Suite, fuzz, recall};
}
