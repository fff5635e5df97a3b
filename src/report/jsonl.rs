//! `metrics.jsonl`: one JSON object per line.
//!
//! The events are `"step"` every `log_step` steps, `"validation"` and `"epoch"` with the dev evaluation,
//! and `"collapse"`. Every line has its `step`, and the `time` in seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::train::{Event, Observer, Run};

/// Formats the lines of a run's `metrics.jsonl`; the run writes them to the file.
#[derive(Debug)]
pub(crate) struct JsonLines<'a> {
    run: &'a Run,
    log_step: u64,
}

impl<'a> JsonLines<'a> {
    /// Reports every `log_step`-th step.
    #[must_use]
    pub(crate) fn new(run: &'a Run, log_step: usize) -> Self {
        Self { run, log_step: log_step as u64 }
    }

    fn write(&self, event: &str, value: &impl Serialize) -> Result<()> {
        let failed = |e: serde_json::Error| Error::file(&self.run.folder().metrics(), e.to_string());
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut object = json!({ "event": event, "time": time });
        if let (Some(object), Value::Object(fields)) =
            (object.as_object_mut(), serde_json::to_value(value).map_err(failed)?)
        {
            object.extend(fields);
        }
        self.run.log(&object.to_string())
    }
}

impl Observer for JsonLines<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Step(step) if step.step.is_multiple_of(self.log_step) => self.write("step", step),
            Event::Validated { step, epoch, dev, hardest_percentile } => {
                let fields =
                    json!({ "step": step, "epoch": epoch, "dev": dev, "hardest_percentile": hardest_percentile });
                self.write("validation", &fields)
            }
            Event::EpochEnded(report) => self.write("epoch", report),
            Event::Collapsed(collapse) => self.write("collapse", collapse),
            Event::Started { .. }
            | Event::ThreadsChosen(_)
            | Event::Step(_)
            | Event::Interrupted { .. }
            | Event::Finished { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Collapse;

    #[test]
    fn nothing_is_written_before_the_first_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(&folder.path().join("run"), false).unwrap();
        let mut lines = JsonLines::new(&run, 10);
        let collapse = Collapse { step: 15, loss: 51.5, ..Collapse::default() };
        lines.event(&Event::Collapsed(&collapse)).unwrap();
        assert!(!run.folder().metrics().exists());
    }
}
