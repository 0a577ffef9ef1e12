//! `metrics.jsonl`: the source of truth of a run's numbers.

use super::{
    atomic::{unwritten, write_bytes},
    failpoint::at,
    interruption::Interruption,
    metrics::{Line, METRICS},
    read::unreadable,
    stage::StageLog,
    talk::{Display, Event},
    tensorboard::{Board, histogram, picture},
};
use guard_sdk::Result;
use std::{
    cell::RefCell,
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// A run's numbers, a line each, and its talk.
pub struct Journal {
    /// None where nothing but the display is wanted.
    file: Option<RefCell<Metrics>>,
    pub(super) display: Display,
    /// Whether its stages are to stop.
    pub(super) interruption: Interruption,
}

/// `metrics.jsonl`, open at its end.
struct Metrics {
    path: PathBuf,
    file: File,
    /// Variant and stage of the lines that were there when it was opened.
    earlier: HashSet<(String, String)>,
    /// Copies for TensorBoard.
    board: Board,
}

impl Journal {
    /// Opens the file in the run directory: a new one, or the one that an earlier part of the run wrote, less a last line
    /// that was not finished, and others that are damaged, of which it warns.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn open(run: &Path, display: Display) -> Result<Self> {
        let path = run.join(METRICS);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            text => Some(text.map_err(|error| unreadable(&path, error))?),
        };
        let lines: Vec<&[u8]> =
            text.iter().flat_map(|text| text.split_inclusive(|byte| *byte == b'\n')).collect();
        let is_whole = |line: &&[u8]| line.ends_with(b"\n") && Line::of_bytes(line).is_some();
        let (whole, others): (Vec<&[u8]>, Vec<&[u8]>) = lines.into_iter().partition(is_whole);
        if text.is_none() || !others.is_empty() {
            write_bytes(&path, &whole.concat())?;
        }
        let earlier = whole.into_iter().filter_map(Line::of_bytes).map(|line| (line.variant, line.stage));
        let earlier = earlier.collect();
        let board = Board::new(run, &path);
        let metrics = Metrics { file: appended(&path)?, path, earlier, board };
        let journal =
            Self { file: Some(RefCell::new(metrics)), display, interruption: Interruption::default() };
        // What was cut in the middle is no damage.
        let damaged = others.iter().filter(|line| line.ends_with(b"\n")).count();
        if damaged > 0 {
            journal.warn(&format!("{damaged} lines of `metrics.jsonl` are damaged and are left out"));
        }
        Ok(journal)
    }

    /// Shows progress and writes nothing.
    pub fn without_file(display: Display) -> Self {
        Self { file: None, display, interruption: Interruption::default() }
    }

    /// The same; its stages stop when they are asked to.
    pub fn stopped_by(self, interruption: Interruption) -> Self {
        Self { interruption, ..self }
    }

    /// Opens a stage of a variant.
    pub fn stage<'a>(&'a self, variant: &'a str, stage: &'a str) -> StageLog<'a> {
        StageLog::open(self, variant, stage)
    }

    /// Drops what an earlier part of the run wrote of a stage that now begins at the iteration `from`, of this one and later.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(super) fn begin(&self, variant: &str, stage: &str, from: u64) -> Result<()> {
        let Some(metrics) = &self.file else { return Ok(()) };
        let Metrics { path, file, earlier, board } = &mut *metrics.borrow_mut();
        if earlier.remove(&(variant.to_string(), stage.to_string())) {
            let text = fs::read(&*path).map_err(|error| unreadable(path, error))?;
            let dropped = |line: &[u8]| {
                Line::of_bytes(line).is_some_and(|line| line.is_of(variant, stage) && line.iteration >= from)
            };
            let lines = text.split_inclusive(|byte| *byte == b'\n');
            let kept: Vec<&[u8]> = lines.filter(|line| !dropped(line)).collect();
            if kept.concat() != text {
                write_bytes(path, &kept.concat())?;
                *file = appended(path)?;
                board.dropped(variant);
            }
        }
        Ok(())
    }

    /// Lets what was written outlast a failure of the machine.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(super) fn sync(&self) -> Result<()> {
        let Some(metrics) = &self.file else { return Ok(()) };
        let Metrics { path, file, .. } = &*metrics.borrow();
        at("sync", path, || file.sync_data()).map_err(|error| unwritten(path, &error))
    }

    /// Says something of a stage that is not at work.
    pub fn tell(&self, variant: &str, stage: &str, what: &str) {
        self.display.say(&Event::of_stage("stage", variant, stage, what));
    }

    /// Says something that does not look right.
    pub(super) fn warn(&self, message: &str) {
        self.display.say(&Event::of_run("warning", message));
    }

    /// Shows a PNG in TensorBoard.
    ///
    /// # Errors
    /// If it cannot be read, or the file system refuses.
    pub fn picture(&self, variant: &str, tag: &str, path: &Path) -> Result<()> {
        let Some(metrics) = &self.file else { return Ok(()) };
        match picture(tag, path)? {
            Some(value) => metrics.borrow_mut().board.show(variant, vec![value]),
            None => {
                self.warn(&format!(
                    "`{}` is too large for TensorBoard, which goes without it",
                    path.display()
                ));
                Ok(())
            }
        }
    }

    /// Shows in TensorBoard how numbers are distributed, by tag.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn histograms(&self, variant: &str, numbers: &[(String, Vec<f32>)]) -> Result<()> {
        let Some(metrics) = &self.file else { return Ok(()) };
        let values = numbers.iter().filter_map(|(tag, numbers)| histogram(tag, numbers)).collect();
        metrics.borrow_mut().board.show(variant, values)
    }

    /// Writes a line.
    pub(super) fn write(&self, line: &Line) -> Result<()> {
        let Some(metrics) = &self.file else { return Ok(()) };
        let Metrics { path, file, board, .. } = &mut *metrics.borrow_mut();
        let text = serde_json::to_string(line)? + "\n";
        // In one write: a killed run leaves whole lines.
        at("append", path, || file.write_all(text.as_bytes())).map_err(|error| unwritten(path, &error))?;
        board.line(line)
    }
}

fn appended(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).open(path).map_err(|error| unwritten(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn line(stage: &str, iteration: u64) -> Line {
        Line { variant: "a".into(), stage: stage.into(), iteration, metrics: Map::new() }
    }

    fn text(line: &Line) -> String {
        serde_json::to_string(line).unwrap() + "\n"
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
        journal.begin("a", "distill", 0).unwrap();
        journal.write(&line("distill", 0)).unwrap();
        // Its own lines stay.
        journal.begin("a", "distill", 0).unwrap();
        let expected = text(&line("train", 0)) + &text(&line("distill", 0));
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_stage_that_goes_on_leaves_what_came_before_its_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let journal = Journal::open(run.path(), Display::Quiet).unwrap();
        (0..4).for_each(|iteration| journal.write(&line("train", iteration)).unwrap());
        let journal = Journal::open(run.path(), Display::Quiet).unwrap();
        journal.begin("a", "train", 2).unwrap();
        journal.write(&line("train", 2)).unwrap();
        let expected: String = (0..3).map(|iteration| text(&line("train", iteration))).collect();
        assert_eq!(fs::read_to_string(run.path().join("metrics.jsonl")).unwrap(), expected);
    }
}
