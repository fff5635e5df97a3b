//! One error type for the whole library.
//!
//! Every message names the thing, the place (file, line, tensor, index), what was expected and what
//! was found. Bad data, files and settings get one of these, never a panic. A panic means a mistake in a
//! call: shapes that do not fit a layer, for example, as in `ndarray`. Only `report` prints, to stderr.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::escape;

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate. Match on [`Error::kind`]; print it for the whole message.
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A tensor has the wrong shape for the equation.
    #[error("{tensor}: expected {expected}, found {found}")]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// The shape expected, with the letters of the legend.
        expected: String,
        /// The shape found.
        found: String,
    },
    /// A number that must be finite is NaN or infinite.
    #[error("{tensor}: {value} at {index:?}: every value must be finite")]
    NotFinite {
        /// The tensor's name.
        tensor: String,
        /// Where, from 0.
        index: Vec<usize>,
        /// What was found there.
        value: f64,
    },
    /// L2 normalisation met a row that is zero everywhere.
    #[error("{tensor}: row {row} has norm 0 and cannot be L2-normalised (its direction is undefined)")]
    ZeroNorm {
        /// The tensor's name.
        tensor: String,
        /// The row, from 0.
        row: usize,
    },
    /// An id that is out of range.
    #[error("{what}: id {found} at position {position} is out of range; expected an id below {limit}")]
    IdRange {
        /// What the id names.
        what: String,
        /// Where in the list, from 0.
        position: usize,
        /// The id.
        found: usize,
        /// The first id that does not exist.
        limit: usize,
    },
    /// A setting is out of its range.
    #[error("{key} = {found}: expected {expected}")]
    Config {
        /// The setting's name.
        key: String,
        /// What it may be.
        expected: String,
        /// What it was.
        found: String,
    },
    /// The operating system refused something.
    #[error("{path}: cannot {action}: {source}", path = escape::path(.path))]
    Io {
        /// Which file.
        path: PathBuf,
        /// `read`, `write`, …
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error(
        "{path}{place}: {problem}",
        path = escape::path(.path),
        place = .line.map(|n| format!(":{n}")).unwrap_or_default()
    )]
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1, where the file has lines.
        line: Option<usize>,
        /// What was expected and what was found.
        problem: String,
    },
    /// Several things are valid by themselves but do not fit each other.
    #[error("{0}")]
    Mismatch(String),
}

impl Error {
    /// What went wrong, to match on.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Says which tensor of the model a layer's `x` or its result is: layers do not know.
    pub(crate) fn of(mut self, name: &str) -> Self {
        match &mut *self.0 {
            ErrorKind::ZeroNorm { tensor, .. } => *tensor = name.into(),
            ErrorKind::NotFinite { tensor, .. } => *tensor = format!("{tensor} of the {name}"),
            ErrorKind::IdRange { what, .. } => *what = format!("{what} ({name})"),
            _ => {}
        }
        self
    }

    pub(crate) fn shape(tensor: &str, expected: impl Into<String>, found: &[usize]) -> Self {
        let found = format!("{found:?}");
        ErrorKind::Shape { tensor: tensor.into(), expected: expected.into(), found }.into()
    }

    pub(crate) fn config(key: &str, expected: impl Into<String>, found: impl fmt::Display) -> Self {
        let found = found.to_string();
        ErrorKind::Config { key: key.into(), expected: expected.into(), found }.into()
    }

    pub(crate) fn mismatch(problem: impl Into<String>) -> Self {
        ErrorKind::Mismatch(problem.into()).into()
    }
}

#[cfg_attr(not(feature = "files"), allow(dead_code))]
impl Error {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        ErrorKind::Io { path: path.into(), action, source }.into()
    }

    pub(crate) fn file(path: &Path, problem: impl Into<String>) -> Self {
        ErrorKind::File { path: path.into(), line: None, problem: problem.into() }.into()
    }

    pub(crate) fn line(path: &Path, line: usize, problem: impl Into<String>) -> Self {
        ErrorKind::File { path: path.into(), line: Some(line), problem: problem.into() }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The message includes the cause, so there is no further source: a chain of causes would repeat it.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_thing_place_expected_and_found() {
        let e = Error::shape("h_prev", "[B = 128, H = 1024]", &[128, 512]);
        assert_eq!(e.to_string(), "h_prev: expected [B = 128, H = 1024], found [128, 512]");
        let e = Error::line(Path::new("dev_caps.txt"), 7, "the line is empty");
        assert_eq!(e.to_string(), "dev_caps.txt:7: the line is empty");
        let e = Error::file(Path::new("a\nerror: b\u{1b}[2J"), "the line is empty");
        assert_eq!(e.to_string(), "a\\nerror: b\\u001b[2J: the line is empty");
    }
}
