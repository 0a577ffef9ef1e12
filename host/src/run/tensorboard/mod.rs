//! `tensorboard/VARIANT/`: event files, each variant a run of TensorBoard, live while the run goes.
//!
//! They are a copy of what is elsewhere. The numbers are those of `metrics.jsonl`; pictures and histograms are shown again by
//! each life of a run, from `distilled/` and `evaluations/`. So the first thing that a life has to tell of a variant makes it
//! write that variant's file anew: nothing is doubled, and what was damaged is gone.

mod event;
mod values;

pub use event::{Content, Event, Histogram, Image, START, SessionLog, Summary, Value, What};
pub use values::{histogram, picture};

use super::{
    atomic::{make_folder, remove, unwritten},
    failpoint::at,
    metrics::Line,
    read::read_text,
};
use guard_sdk::Result;
use prost::Message;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// The folder in the run directory.
const FOLDER: &str = "tensorboard";

/// How the names of event files begin; others in the folder are the user's.
const PREFIX: &str = "events.out.tfevents.";

/// What failpoints call an event file, whatever the time in its name.
const EVENTS: &str = "events";

/// The event files of a run.
pub(super) struct Board {
    folder: PathBuf,
    metrics: PathBuf,
    variants: HashMap<String, Variant>,
}

/// What was told of a variant.
#[derive(Default)]
struct Variant {
    /// None as long as the file is to be written anew.
    file: Option<EventFile>,
    /// What is no number.
    shown: Vec<Value>,
}

impl Board {
    /// The event files in a run directory, copies of the numbers in `metrics`. Nothing is read or written yet.
    pub fn new(run: &Path, metrics: &Path) -> Self {
        Self { folder: run.join(FOLDER), metrics: metrics.to_path_buf(), variants: HashMap::new() }
    }

    /// Tells a line that was written to `metrics.jsonl`.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn line(&mut self, line: &Line) -> Result<()> {
        self.tell(&line.variant, |file| file.write(line.iteration, numbers(line)))
    }

    /// Shows pictures and histograms; they take the place of those with the same tags.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn show(&mut self, variant: &str, values: Vec<Value>) -> Result<()> {
        let shown = &mut self.variants.entry(variant.into()).or_default().shown;
        shown.retain(|each| values.iter().all(|value| value.tag != each.tag));
        shown.extend(values.iter().cloned());
        self.tell(variant, |file| file.write(0, values))
    }

    /// Lines of the variant were dropped from `metrics.jsonl`.
    pub fn dropped(&mut self, variant: &str) {
        self.variants.entry(variant.into()).or_default().file = None;
    }

    /// Lets `more` add what is new to the file; where the file is written anew, that is in it already.
    fn tell(&mut self, variant: &str, more: impl FnOnce(&mut EventFile) -> Result<()>) -> Result<()> {
        let told = self.variants.entry(variant.into()).or_default();
        match &mut told.file {
            Some(file) => more(file),
            none => {
                *none = Some(anew(&self.folder.join(variant), variant, &self.metrics, &told.shown)?);
                Ok(())
            }
        }
    }
}

/// Replaces the event files in `folder` by one with all that is there to tell.
fn anew(folder: &Path, variant: &str, metrics: &Path, shown: &[Value]) -> Result<EventFile> {
    let refused = |error: std::io::Error| unwritten(folder, &error);
    make_folder(folder)?;
    for entry in fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            remove(&entry.path())?;
        }
    }
    let mut file = EventFile::create(folder)?;
    let text = if metrics.exists() { read_text(metrics)? } else { String::new() };
    for line in text.lines().filter_map(Line::read).filter(|line| line.variant == variant) {
        file.write(line.iteration, numbers(&line))?;
    }
    file.write(0, shown.to_vec())?;
    Ok(file)
}

/// The numbers of a line as `STAGE/METRIC`; those that JSON does not have are not numbers here either.
fn numbers(line: &Line) -> Vec<Value> {
    let scalar = |(name, value): (&String, &serde_json::Value)| Value {
        tag: format!("{}/{name}", line.stage),
        content: Some(Content::Scalar(value.as_f64().map_or(f32::NAN, |number| number as f32))),
    };
    line.metrics.iter().map(scalar).collect()
}

/// An event file that is written.
struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file, whose name comes after those of all earlier ones.
    fn create(folder: &Path) -> Result<Self> {
        let now = now();
        let path = folder.join(format!("{PREFIX}{:010}.{:09}", now.as_secs(), now.subsec_nanos()));
        let file = at("create", &folder.join(EVENTS), || File::create_new(&path));
        let file = file.map_err(|error| unwritten(&path, &error))?;
        let mut created = Self { path, file };
        created.event(0, What::FileVersion("brain.Event:2".into()))?;
        created.event(0, What::SessionLog(SessionLog { status: START }))?;
        Ok(created)
    }

    /// Writes values of a step, if there are any.
    fn write(&mut self, step: u64, values: Vec<Value>) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        self.event(step, What::Summary(Summary { values }))
    }

    fn event(&mut self, step: u64, what: What) -> Result<()> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let event = Event { wall_time: now().as_secs_f64(), step, what: Some(what) };
        // In one write: who reads along finds whole records.
        let record = record(&event.encode_to_vec());
        let Self { path, file } = self;
        at("append", &path.with_file_name(EVENTS), || file.write_all(&record))
            .map_err(|error| unwritten(path, &error))
    }
}

/// A record of TensorFlow's TFRecord format: length, its checksum, data, their checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked(&length));
    record.extend(data);
    record.extend(masked(data));
    record
}

/// CRC-32C, rotated and shifted: a checksum of data that hold their own checksum would be weak otherwise.
fn masked(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn now() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_by_masked_checksums() {
        // CRC-32C of "123456789" is e3069283.
        assert_eq!(
            u32::from_le_bytes(masked(b"123456789")),
            0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
        let framed = record(b"abc");
        assert_eq!(framed.len(), 8 + 4 + 3 + 4);
        assert_eq!((&framed[..8], &framed[12..15]), (&3u64.to_le_bytes()[..], &b"abc"[..]));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join(FOLDER), "in the way").unwrap();
        let mut board = Board::new(run.path(), &run.path().join("metrics.jsonl"));
        let error = board.show("a", Vec::new()).unwrap_err();
        assert!(error.message.contains("tensorboard` cannot be made"), "{error}");
        assert_eq!(error.code, "file");
    }
}
