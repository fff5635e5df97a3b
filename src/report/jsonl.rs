//! `metrics.jsonl`: one JSON object a line.
//!
//! `{"event": "step", …}` every `log_step` steps, `"validation"` and `"epoch"` with the dev
//! evaluation, `"collapse"`. Every line has the `step` it belongs to.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files::{open_regular, write_atomically};
use crate::train::{Event, Observer};

/// Appends to `metrics.jsonl`.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: BufWriter<File>,
    log_step: u64,
}

impl JsonLines {
    /// Opens the file. When a run is taken up again at `step`, lines of later steps (written after
    /// the checkpoint that training goes on from) are dropped: they will be written again.
    ///
    /// **Errors** if the file cannot be read or written.
    pub fn open(path: &Path, step: u64, log_step: usize) -> Result<Self> {
        if path.exists() {
            let (file, _) = open_regular(path)?;
            let mut kept = String::new();
            for line in BufReader::new(file).lines() {
                let line = line.map_err(|e| Error::io(path, "read", e))?;
                // A line that was cut short by a crash is dropped too.
                let at = serde_json::from_str::<Value>(&line).ok().and_then(|v| v["step"].as_u64());
                if at.is_some_and(|at| at <= step) {
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
            write_atomically(path, kept.as_bytes())?;
        }
        let file = File::options().append(true).create(true).open(path).map_err(|e| Error::io(path, "write", e))?;
        Ok(Self { path: path.into(), file: BufWriter::new(file), log_step: log_step as u64 })
    }

    fn write(&mut self, event: &str, value: &impl Serialize) -> Result<()> {
        let failed = |e: serde_json::Error| Error::file(&self.path, e.to_string());
        let mut object = json!({ "event": event });
        if let (Some(object), Value::Object(fields)) =
            (object.as_object_mut(), serde_json::to_value(value).map_err(failed)?)
        {
            object.extend(fields);
        }
        writeln!(self.file, "{object}").map_err(|e| Error::io(&self.path, "write", e))
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, "write", e))
    }
}

impl Observer for JsonLines {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Step(step) if step.step.is_multiple_of(self.log_step) => self.write("step", step),
            Event::Step(_) | Event::Started { .. } => Ok(()),
            Event::Validated { step, epoch, dev } => {
                self.write("validation", &json!({ "step": step, "epoch": epoch, "dev": dev }))?;
                self.flush()
            }
            Event::EpochEnded(report) => {
                self.write("epoch", report)?;
                self.flush()
            }
            Event::Collapsed(collapse) => self.write("collapse", collapse),
            Event::Interrupted { .. } | Event::Finished { .. } => self.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Collapse;

    #[test]
    fn lines_after_the_checkpoint_are_dropped_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":10}\n{\"step\":20}\n{\"ste").unwrap();
        let mut lines = JsonLines::open(&path, 10, 10).unwrap();
        let collapse = Collapse { step: 15, loss: 51.5, stationary: 51.2, ahead: 0.5, ..Collapse::default() };
        lines.event(&Event::Collapsed(&collapse)).unwrap();
        lines.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":10}\n{\"event\":\"collapse\",\"step\":15,\"loss\":51.5,\"stationary\":51.2,\"spread\":0.0,\"gap\":0.0,\
             \"ahead\":0.5,\"ahead_before\":0.0,\"grad_norm\":0.0}\n"
        );
    }
}
