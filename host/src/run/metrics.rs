//! The lines of `metrics.jsonl`.

use super::read::read_text;
use guard_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// The file in the run directory.
pub(super) const METRICS: &str = "metrics.jsonl";

/// A line: the numbers of one iteration of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The variant.
    pub variant: String,
    /// The stage.
    pub stage: String,
    /// The iteration.
    pub iteration: u64,
    /// Numbers by name; null where one was not finite.
    pub metrics: Map<String, Value>,
}

impl Line {
    /// None if the line is not whole.
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The same of bytes, which may be no text.
    pub(super) fn of_bytes(line: &[u8]) -> Option<Self> {
        Self::read(str::from_utf8(line).ok()?)
    }

    pub(super) fn is_of(&self, variant: &str, stage: &str) -> bool {
        (self.variant.as_str(), self.stage.as_str()) == (variant, stage)
    }
}

/// The lines that a run has written so far. A last one that is not finished is passed over: the run may be at work.
///
/// # Errors
/// Code `no-run` if no run has written any there; code `file` if they cannot be read, or one of them is damaged.
pub fn read_metrics(run: &Path) -> Result<Vec<Line>> {
    let path = run.join(METRICS);
    if !path.is_file() {
        let message = format!("`{}` holds no numbers of a run: it has no `{METRICS}`", run.display());
        return Err(Error::with_code("no-run", message).help("give the folder of a run, e.g. `runs/latest`"));
    }
    let text = read_text(&path)?;
    let finished = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let place = format!("line {} of `{}` is damaged: {error}", number + 1, path.display());
            Error::with_code("file", place).help("resuming the run drops it")
        })
    };
    finished.lines().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn line(iteration: u64) -> Line {
        Line { variant: "a".into(), stage: "train".into(), iteration, metrics: Map::new() }
    }

    #[test]
    fn lines_are_read_while_a_run_is_at_work_and_a_damaged_one_is_named() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(read_metrics(run.path()).unwrap_err().code, "no-run");
        let path = run.path().join(METRICS);
        let whole = [0, 1].map(|iteration| serde_json::to_string(&line(iteration)).unwrap() + "\n").concat();
        fs::write(&path, format!("{whole}{{\"variant\": \"a\"")).unwrap();
        assert_eq!(read_metrics(run.path()).unwrap(), [line(0), line(1)]);
        fs::write(&path, format!("{whole}nonsense\n")).unwrap();
        let error = read_metrics(run.path()).unwrap_err();
        assert!(error.message.starts_with("line 3 of"), "{error}");
    }
}
