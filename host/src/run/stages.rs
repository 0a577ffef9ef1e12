//! The finished stages of a run, each under the sum of everything that determines its outcome. A stage that is asked for
//! again, by another variant, by the same run resumed or by another run that may use it, is not run again.

use super::{
    atomic::{link_atomically, write_text},
    checkpoints::{CHECKPOINT, Checkpoint, Checkpoints},
    journal::Journal,
    read::{hashed, read_json, unreadable},
    stage::StageLog,
};
use guard_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder of the records in the run directory.
const FOLDER: &str = "stages";

/// What determines the outcome of a stage, and which variant asks for it.
pub struct Stage<'a> {
    /// The variant.
    pub variant: &'a str,
    /// The stage's name in the journal.
    pub name: &'a str,
    /// The variant's folder.
    pub folder: &'a Path,
    /// BLAKE3 of what determines the outcome, see [`key`].
    pub key: &'a str,
}

/// A stage that was run to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finished {
    /// The run directory.
    #[serde(skip)]
    run: PathBuf,
    variant: String,
    stage: String,
    key: String,
    /// The variant's folder, relative to the run's.
    folder: PathBuf,
    /// The files it made, relative to the variant's folder, and their BLAKE3 sums.
    files: BTreeMap<PathBuf, String>,
}

/// The records of a run.
pub struct Stages {
    run: PathBuf,
    finished: RefCell<Vec<Finished>>,
    /// How often a stage that is running leaves a checkpoint.
    checkpoint_every: Duration,
}

/// The sum that stands for `inputs`: equal inputs, equal outcome.
pub fn key(inputs: &Value) -> String {
    blake3::hash(inputs.to_string().as_bytes()).to_hex().to_string()
}

/// What a stage's files are called by.
fn short(key: &str) -> &str {
    &key[..16]
}

impl Stages {
    /// The records in a run directory, none in a new one, and `others`, which may be used.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn open(run: &Path, others: Vec<Finished>, checkpoint_every: Duration) -> Result<Self> {
        let finished = [records(run)?, others].concat();
        Ok(Self { run: run.to_path_buf(), finished: RefCell::new(finished), checkpoint_every })
    }

    /// What other runs have finished.
    ///
    /// # Errors
    /// Code `no-run` if one of them has nothing finished; if a record cannot be read.
    pub fn of_others(runs: &[PathBuf]) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        for run in runs {
            let found = records(run)?;
            if found.is_empty() {
                let message = format!("`{}` holds no finished stage of a run", run.display());
                return Err(Error::with_code("no-run", message).help("give the folder of a run"));
            }
            finished.extend(found);
        }
        Ok(finished)
    }

    /// The outcome of a stage as `load` reads it from the variant's folder, after `make` has written `files` there (paths
    /// relative to that folder), unless they are there already. A stage that was cut goes on at its last checkpoint.
    ///
    /// # Errors
    /// Those of `make` and `load`, and of the file system; code [`CANCELLED`](super::CANCELLED) if the run is to stop.
    pub fn outcome<T>(
        &self,
        stage: &Stage,
        journal: &Journal,
        make: impl FnOnce(&StageLog) -> Result<Vec<PathBuf>>,
        load: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match self.find(stage.key, journal) {
            Some(found) => {
                self.bring(&found, stage)?;
                if found.run != self.run {
                    // From now on it is this run's own, so that it goes on without the other.
                    self.record(stage, found.files.keys().cloned().collect())?;
                }
                let whose = match (found.run == self.run, found.variant == stage.variant) {
                    (true, true) => "finished before".to_string(),
                    (true, false) => format!("as of {}", found.variant),
                    (false, _) => format!("as of {} in `{}`", found.variant, found.run.display()),
                };
                journal.tell(stage.variant, stage.name, &whose);
            }
            None => {
                journal.interruption.check()?;
                let files = self.make(stage, journal, 0, make)?;
                self.record(stage, files)?;
            }
        }
        self.clear(stage.key)?;
        load()
    }

    /// Runs a part of a stage that keeps its outcome itself, from the stage's iteration `begin` on. If it was cut, it goes on at
    /// its last checkpoint.
    ///
    /// # Errors
    /// As [`Stages::outcome`].
    pub fn part(
        &self,
        part: &Stage,
        journal: &Journal,
        begin: u64,
        make: impl FnOnce(&StageLog) -> Result<()>,
    ) -> Result<()> {
        journal.interruption.check()?;
        self.make(part, journal, begin, make)?;
        self.clear(part.key)
    }

    fn make<T>(
        &self,
        stage: &Stage,
        journal: &Journal,
        begin: u64,
        make: impl FnOnce(&StageLog) -> Result<T>,
    ) -> Result<T> {
        let checkpoints = self.checkpoints(stage.key);
        let resumed = checkpoints.newest(|warning| journal.warn(warning))?;
        if let Some(Checkpoint { iteration, .. }) = &resumed {
            journal.tell(stage.variant, stage.name, &format!("goes on at iteration {iteration}"));
        }
        let log = journal.stage(stage.variant, stage.name);
        log.begin(resumed.as_ref().map_or(begin, |resumed| resumed.iteration))?;
        make(&log.keeping(checkpoints, resumed)).map_err(|error| match error.code.as_str() {
            // A part of the stage may have told of its own.
            CHECKPOINT if error.help.is_none() => {
                let folder = self.folder(stage.key);
                error.help(format!("delete `{}`, and the stage begins anew", folder.display()))
            }
            _ => error,
        })
    }

    /// The folder of the checkpoints of the stage, or part, with the given key, and of what else it keeps until it is finished.
    pub fn folder(&self, key: &str) -> PathBuf {
        self.run.join(FOLDER).join(short(key))
    }

    /// Removes what a stage, or part, that is finished kept until then.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn clear(&self, key: &str) -> Result<()> {
        self.checkpoints(key).clear()
    }

    fn checkpoints(&self, key: &str) -> Checkpoints {
        Checkpoints::open(self.folder(key), self.checkpoint_every)
    }

    /// The record of `key`, if its files are as they were.
    fn find(&self, key: &str, journal: &Journal) -> Option<Finished> {
        let found = self.finished.borrow().iter().find(|each| each.key == key).cloned()?;
        let folder = found.run.join(&found.folder);
        for (file, expected) in &found.files {
            let path = folder.join(file);
            if sum(&path).as_ref().ok() != Some(expected) {
                let what = if path.exists() { "was changed" } else { "is missing" };
                let Finished { variant, stage, .. } = &found;
                journal.warn(&format!("`{}` {what}: {variant}: {stage} is run again", path.display()));
                self.finished.borrow_mut().retain(|each| each.key != key || each.run != found.run);
                return self.find(key, journal);
            }
        }
        Some(found)
    }

    /// Puts the files of a finished stage into the folder of the variant that asks for them.
    fn bring(&self, found: &Finished, stage: &Stage) -> Result<()> {
        let from = found.run.join(&found.folder);
        if from == stage.folder {
            return Ok(());
        }
        // Files are replaced and never written into, so that one file can stand in both places.
        found.files.keys().try_for_each(|file| link_atomically(&from.join(file), &stage.folder.join(file)))
    }

    fn record(&self, stage: &Stage, files: Vec<PathBuf>) -> Result<()> {
        let sums = files.into_iter().map(|file| Ok((file.clone(), sum(&stage.folder.join(&file))?)));
        let record = Finished {
            run: self.run.clone(),
            variant: stage.variant.into(),
            stage: stage.name.into(),
            key: stage.key.into(),
            folder: stage.folder.strip_prefix(&self.run).unwrap_or(stage.folder).to_path_buf(),
            files: sums.collect::<Result<_>>()?,
        };
        let path = self.run.join(FOLDER).join(format!("{}.json", short(stage.key)));
        write_text(&path, &(serde_json::to_string_pretty(&record)? + "\n"))?;
        self.finished.borrow_mut().push(record);
        Ok(())
    }
}

/// The records in a run directory.
fn records(run: &Path) -> Result<Vec<Finished>> {
    let folder = run.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let refused = |error: std::io::Error| unreadable(&folder, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            found.push(Finished { run: run.to_path_buf(), ..read(&path)? });
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Finished> {
    read_json(path).map_err(|error| error.help("delete it, and its stage is run again"))
}

fn sum(path: &Path) -> Result<String> {
    Ok(hashed(path)?.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Display;

    /// Runs a stage that writes `text`; tells what was read and whether it was made now.
    fn run(stages: &Stages, variant: &str, key: &str, text: &str) -> (String, bool) {
        let folder = stages.run.join(variant);
        let (file, mut made) = (folder.join("x.txt"), false);
        let stage = Stage { variant, name: "train", folder: &folder, key };
        let read = stages.outcome(
            &stage,
            &Journal::without_file(Display::Quiet),
            |_| {
                made = true;
                write_text(&file, text)?;
                Ok(vec!["x.txt".into()])
            },
            || Ok(fs::read_to_string(&file).unwrap()),
        );
        (read.unwrap(), made)
    }

    #[test]
    fn what_is_finished_is_not_run_again_by_this_run_or_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (key(&serde_json::json!([1])), key(&serde_json::json!([2])));
        let stages = Stages::open(directory.path(), Vec::new(), Duration::ZERO).unwrap();
        assert_eq!(run(&stages, "a", &one, "first"), ("first".into(), true));
        assert_eq!(run(&stages, "b", &one, "never"), ("first".into(), false));
        assert_eq!(run(&stages, "c", &other, "other"), ("other".into(), true));
        let stages = Stages::open(directory.path(), Vec::new(), Duration::ZERO).unwrap();
        assert_eq!(run(&stages, "a", &one, "never"), ("first".into(), false));
    }

    #[test]
    fn what_was_damaged_or_lost_is_run_again() {
        let directory = tempfile::tempdir().unwrap();
        let (one, stages) =
            (key(&serde_json::json!(1)), Stages::open(directory.path(), Vec::new(), Duration::ZERO).unwrap());
        run(&stages, "a", &one, "first");
        fs::write(directory.path().join("a/x.txt"), "damaged").unwrap();
        assert_eq!(run(&stages, "a", &one, "second"), ("second".into(), true));
        fs::remove_file(directory.path().join("a/x.txt")).unwrap();
        let stages = Stages::open(directory.path(), Vec::new(), Duration::ZERO).unwrap();
        assert_eq!(run(&stages, "a", &one, "third"), ("third".into(), true));
    }
}
