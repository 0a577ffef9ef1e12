//! `metrics.jsonl` as it is read again: the lines that are whole.

use super::read::unreadable;
use guard_sdk::Result;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind},
    path::Path,
};

/// The file's name in the run directory.
pub(super) const METRICS: &str = "metrics.jsonl";

/// What was measured in one iteration of a stage.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Measurement {
    /// The variant.
    pub variant: String,
    /// The stage's name.
    pub stage: String,
    /// The iteration, from 0.
    pub iteration: u64,
    /// The figures by name; null is a number that is not finite.
    #[serde(default)]
    pub metrics: Map<String, Value>,
}

impl Measurement {
    /// A line of the file; nothing if it is not whole.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// What a run has measured, in the order written; nothing where it has not begun.
///
/// # Errors
/// Code `file`.
pub fn measurements(run: &Path) -> Result<Vec<Measurement>> {
    let path = run.join(METRICS);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(|error| unreadable(&path, error))?,
    };
    let mut found = Vec::new();
    for line in BufReader::new(file).lines() {
        found.extend(Measurement::of_line(&line.map_err(|error| unreadable(&path, error))?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_read_and_a_torn_one_is_passed_over() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(measurements(run.path()).unwrap(), []);
        let line = r#"{"variant":"a","stage":"train","iteration":10,"metrics":{"loss/total":0.5,"x":null}}"#;
        std::fs::write(run.path().join(METRICS), format!("{line}\n{}", &line[..40])).unwrap();
        let found = measurements(run.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].iteration, found[0].metrics["loss/total"].as_f64()), (10, Some(0.5)));
    }
}
