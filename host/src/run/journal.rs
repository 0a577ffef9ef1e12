//! `metrics.jsonl`: the source of truth of a run's numbers.

use super::{atomic::write_text, stage::StageLog};
use guard_sdk::{Error, Result};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// How a run shows its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Bars on a terminal, lines elsewhere.
    Automatic,
    /// Nothing but errors.
    Quiet,
}

/// A run's numbers, a line each, and its talk.
pub struct Journal {
    /// None where nothing but the display is wanted.
    file: Option<RefCell<Metrics>>,
    pub(super) display: Display,
}

/// `metrics.jsonl`, open at its end.
struct Metrics {
    path: PathBuf,
    file: File,
    /// Variant and stage of the lines that were there when it was opened.
    earlier: HashSet<(String, String)>,
}

impl Journal {
    /// Opens the file in the run directory: a new one, or the one that an earlier part of the run wrote, less a last line
    /// that was not finished.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn open(run: &Path, display: Display) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| refused(&path, &error))?,
        };
        let whole: String = text.split_inclusive('\n').filter(|line| place(line).is_some()).collect();
        if whole.len() != text.len() {
            write_text(&path, &whole)?;
        }
        let earlier = whole.lines().filter_map(place).collect();
        let metrics = Metrics { file: appended(&path)?, path, earlier };
        Ok(Self { file: Some(RefCell::new(metrics)), display })
    }

    /// Shows progress and writes nothing.
    pub fn without_file(display: Display) -> Self {
        Self { file: None, display }
    }

    /// Opens a stage of a variant.
    pub fn stage<'a>(&'a self, variant: &'a str, stage: &'a str) -> StageLog<'a> {
        StageLog::open(self, variant, stage)
    }

    /// Drops what an earlier part of the run wrote of a stage that now begins anew.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(super) fn begin_anew(&self, variant: &str, stage: &str) -> Result<()> {
        let Some(metrics) = &self.file else { return Ok(()) };
        let Metrics { path, file, earlier } = &mut *metrics.borrow_mut();
        let dropped = (variant.to_string(), stage.to_string());
        if earlier.remove(&dropped) {
            let text = fs::read_to_string(&*path).map_err(|error| refused(path, &error))?;
            let kept = text.split_inclusive('\n').filter(|line| place(line).as_ref() != Some(&dropped));
            write_text(path, &kept.collect::<String>())?;
            *file = appended(path)?;
        }
        Ok(())
    }

    /// Says that a stage was not run, since there is its outcome: `whose`.
    pub(super) fn found(&self, variant: &str, stage: &str, whose: &str) {
        if self.display == Display::Automatic {
            eprintln!("{variant}: {stage}: {whose}");
        }
    }

    /// Says something that does not look right.
    pub(super) fn warn(&self, message: &str) {
        if self.display == Display::Automatic {
            eprintln!("warning: {message}");
        }
    }

    /// Writes a line.
    pub(super) fn write(&self, line: &Value) -> Result<()> {
        let Some(metrics) = &self.file else { return Ok(()) };
        let Metrics { path, file, .. } = &mut *metrics.borrow_mut();
        // In one write: a killed run leaves whole lines.
        file.write_all(format!("{line}\n").as_bytes()).map_err(|error| refused(path, &error))
    }
}

/// Variant and stage of a line; none if the line is not whole.
fn place(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    Some((line["variant"].as_str()?.into(), line["stage"].as_str()?.into()))
}

fn appended(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &std::io::Error) -> Error {
    Error::with_code("file", format!("`{}` cannot be read or written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, iteration: u64) -> Value {
        serde_json::json!({ "variant": "a", "stage": stage, "iteration": iteration, "metrics": {} })
    }

    #[test]
    fn a_stage_that_begins_anew_leaves_nothing_of_its_first_try_and_all_of_the_others() {
        let run = tempfile::tempdir().unwrap();
        let journal = Journal::open(run.path(), Display::Quiet).unwrap();
        for each in [line("train", 0), line("distill", 0), line("distill", 1)] {
            journal.write(&each).unwrap();
        }
        let path = run.path().join("metrics.jsonl");
        let torn = fs::read_to_string(&path).unwrap() + "{\"variant\": \"a\", \"sta";
        fs::write(&path, torn).unwrap();
        let journal = Journal::open(run.path(), Display::Quiet).unwrap();
        journal.begin_anew("a", "distill").unwrap();
        journal.write(&line("distill", 0)).unwrap();
        // Its own lines stay.
        journal.begin_anew("a", "distill").unwrap();
        let expected = format!("{}\n{}\n", line("train", 0), line("distill", 0));
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}
