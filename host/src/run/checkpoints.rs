//! Checkpoints of a stage that is running: what it needs to go on and end with the same bits.
//!
//! | file in `stages/<key>/` | what |
//! |---|---|
//! | `<iteration>.safetensors` | the state's tensors |
//! | `<iteration>.json` | the rest of the state, and the BLAKE3 sum of all of it and of its place |
//!
//! Each is written aside, fsynced and renamed, the JSON last: where it is, the checkpoint is whole. The newest two are kept.
//! A stage may keep other files there, which it writes over many steps. All go when it is finished.

use super::{
    atomic::{remove, write_atomically, write_text},
    read::{hashed, read_json, unreadable},
};
use guard_sdk::{Device, Result, State, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How many are kept: the older one in case the newer one is damaged.
const KEPT: usize = 2;

/// Where writing takes long, checkpoints are so much rarer that it takes at most this part of the time.
const SHARE: u32 = 20;

/// The code of errors that say that a checkpoint is not one of the stage that is to go on there.
pub const CHECKPOINT: &str = "checkpoint";

/// A stage between two iterations.
pub struct Checkpoint {
    /// The iteration that comes next.
    pub iteration: u64,
    /// What the stage needs to go on there.
    pub state: State,
}

/// The checkpoints of one stage.
pub struct Checkpoints {
    folder: PathBuf,
    /// How often one is taken; 0 for after every iteration.
    every: Duration,
    taken: Cell<Instant>,
    /// How long writing the last one took.
    cost: Cell<Duration>,
}

/// `<iteration>.json`.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    json: Value,
    /// Of the tensors, as the state has them: their file keeps no order.
    #[serde(default)]
    names: Vec<String>,
    blake3: String,
}

impl Checkpoints {
    /// Those in `folder`, none if it is not there; the next one is due after `every`.
    pub fn open(folder: PathBuf, every: Duration) -> Self {
        Self { folder, every, taken: Cell::new(Instant::now()), cost: Cell::default() }
    }

    /// The newest one that is not damaged, if there is one; `warn` is told of those that are, which are removed.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn newest(&self, warn: impl Fn(&str)) -> Result<Option<Checkpoint>> {
        let whole = self.iterations("json")?;
        for cut in self.iterations("safetensors")?.into_iter().filter(|cut| !whole.contains(cut)) {
            self.remove(cut)?;
        }
        for iteration in whole.into_iter().rev() {
            match self.read(iteration) {
                Ok(state) => return Ok(Some(Checkpoint { iteration, state })),
                Err(error) => {
                    warn(&format!("{error}: the checkpoint is passed over"));
                    self.remove(iteration)?;
                }
            }
        }
        Ok(None)
    }

    /// Whether it is time for another one.
    pub fn due(&self) -> bool {
        let rarer = if self.every.is_zero() { self.every } else { self.every.max(self.cost.get() * SHARE) };
        self.taken.get().elapsed() >= rarer
    }

    /// Writes one, and removes those that are no longer needed: older ones, and later ones of a stage that had to begin anew.
    ///
    /// # Errors
    /// If the file system refuses; those that were there are then as they were.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<()> {
        let (begun, Checkpoint { iteration, state }) = (Instant::now(), checkpoint);
        let [tensors, record] = self.files(*iteration);
        let on_cpu = |(name, tensor): &(String, Tensor)| {
            (name.clone(), tensor.detach().to_device(Device::Cpu).contiguous())
        };
        let named: Vec<_> = state.tensors.iter().map(on_cpu).collect();
        write_atomically(&tensors, |aside| Ok(Tensor::write_safetensors(&named, aside)?))?;
        let names: Vec<String> = named.into_iter().map(|(name, _)| name).collect();
        let blake3 = self.sum(*iteration, state.version, &state.json, &names)?;
        let written = Record { version: state.version, json: state.json.clone(), names, blake3 };
        write_text(&record, &(serde_json::to_string(&written)? + "\n"))?;
        let (later, until_now): (Vec<u64>, Vec<u64>) =
            self.iterations("json")?.into_iter().partition(|other| other > iteration);
        later
            .into_iter()
            .chain(until_now.into_iter().rev().skip(KEPT))
            .try_for_each(|other| self.remove(other))?;
        self.cost.set(begun.elapsed());
        self.taken.set(Instant::now());
        Ok(())
    }

    /// Removes all of them.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn clear(&self) -> Result<()> {
        remove(&self.folder)
    }

    fn read(&self, iteration: u64) -> Result<State> {
        let [tensors, record] = self.files(iteration);
        let Record { version, json, names, blake3 } = read_json(&record)?;
        if self.sum(iteration, version, &json, &names)? != blake3 {
            return Err(unreadable(&tensors, "it is not what was written"));
        }
        let mut tensors = Tensor::read_safetensors(&tensors).map_err(|error| unreadable(&tensors, error))?;
        tensors.sort_by_cached_key(|(name, _)| names.iter().position(|other| other == name));
        Ok(State { version, json, tensors })
    }

    /// The JSON goes first: without it there is no checkpoint.
    fn remove(&self, iteration: u64) -> Result<()> {
        let [tensors, record] = self.files(iteration);
        remove(&record).and_then(|()| remove(&tensors))
    }

    /// Those of which there is a file with the given extension, oldest first.
    fn iterations(&self, extension: &str) -> Result<Vec<u64>> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&self.folder).map_err(|error| unreadable(&self.folder, error))?;
        let iteration = |path: &Path| {
            let wanted = path.extension().is_some_and(|found| found == extension);
            path.file_stem().filter(|_| wanted)?.to_str()?.parse().ok()
        };
        let mut found: Vec<u64> = entries.flatten().filter_map(|entry| iteration(&entry.path())).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn files(&self, iteration: u64) -> [PathBuf; 2] {
        ["safetensors", "json"].map(|extension| self.folder.join(format!("{iteration}.{extension}")))
    }

    /// BLAKE3 of a state whose tensors are written, with its stage and iteration: no other checkpoint passes for it.
    fn sum(&self, iteration: u64, version: u32, json: &Value, names: &[String]) -> Result<String> {
        let [tensors, _] = self.files(iteration);
        let stage = self.folder.file_name().unwrap_or_default().display();
        let mut hasher = hashed(&tensors)?;
        hasher.update(format!("{stage} {iteration} {version} {json}").as_bytes());
        for name in names {
            hasher.update(format!(" {name}").as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn checkpoints(folder: &Path) -> Checkpoints {
        Checkpoints::open(folder.join("stage"), Duration::ZERO)
    }

    fn write(checkpoints: &Checkpoints, iteration: u64) {
        let tensors = vec![("x".to_string(), Tensor::from_slice(&[iteration as f32, 0.1]).reshape([2, 1]))];
        let state = State { version: 1, json: serde_json::json!({ "loss": 0.1 + 0.2 }), tensors };
        checkpoints.write(&Checkpoint { iteration, state }).unwrap();
    }

    /// The newest one's iteration, which its tensor tells too, and the warnings.
    fn newest(checkpoints: &Checkpoints) -> (Option<u64>, Vec<String>) {
        let warnings = RefCell::new(Vec::new());
        let found = checkpoints.newest(|warning| warnings.borrow_mut().push(warning.to_string())).unwrap();
        let iteration = found.map(|Checkpoint { iteration, state }| {
            assert_eq!((state.version, &state.json["loss"]), (1, &serde_json::json!(0.1 + 0.2)));
            assert_eq!(state.tensors[0].1.double_value(&[0, 0]), iteration as f64);
            iteration
        });
        (iteration, warnings.into_inner())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder.join("stage")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_two_are_kept_and_the_newest_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        assert_eq!(newest(&checkpoints), (None, Vec::new()));
        [9, 10, 11].into_iter().for_each(|iteration| write(&checkpoints, iteration));
        assert_eq!(names(folder.path()), ["10.json", "10.safetensors", "11.json", "11.safetensors"]);
        assert_eq!(newest(&checkpoints), (Some(11), Vec::new()));
        checkpoints.clear().unwrap();
        checkpoints.clear().unwrap();
        assert_eq!(newest(&checkpoints), (None, Vec::new()));
    }

    #[test]
    fn tensors_come_back_in_the_order_in_which_a_method_gave_them() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        let names = ["w9", "w10", "b", "a", "z", "y"];
        let tensors: Vec<_> = names.iter().map(|name| (name.to_string(), Tensor::from(1.0f32))).collect();
        checkpoints
            .write(&Checkpoint { iteration: 1, state: State { tensors, ..State::default() } })
            .unwrap();
        let found = checkpoints.newest(|warning| panic!("{warning}")).unwrap().unwrap().state;
        assert_eq!(found.tensors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    }

    #[test]
    fn damage_anywhere_is_noticed_and_the_older_one_taken() {
        for file in ["2.safetensors", "2.json"] {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = checkpoints(folder.path());
            [1, 2].into_iter().for_each(|iteration| write(&checkpoints, iteration));
            let path = folder.path().join("stage").join(file);
            let mut bytes = fs::read(&path).unwrap();
            // A digit of the loss, a bit of the last element.
            let place = if file == "2.json" { 30 } else { bytes.len() - 1 };
            bytes[place] ^= 1;
            fs::write(&path, bytes).unwrap();
            let (found, warnings) = newest(&checkpoints);
            assert_eq!(found, Some(1), "{file}");
            assert!(warnings.len() == 1 && warnings[0].contains("passed over"), "{warnings:?}");
            assert_eq!(names(folder.path()), ["1.json", "1.safetensors"]);
        }
    }

    #[test]
    fn a_checkpoint_of_another_iteration_or_stage_does_not_pass_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        [1, 2].into_iter().for_each(|iteration| write(&checkpoints, iteration));
        let stage = folder.path().join("stage");
        for extension in ["json", "safetensors"] {
            fs::rename(stage.join("2").with_extension(extension), stage.join("7").with_extension(extension))
                .unwrap();
        }
        let (found, warnings) = newest(&checkpoints);
        assert_eq!((found, warnings.len()), (Some(1), 1));
        fs::rename(&stage, folder.path().join("other")).unwrap();
        let other = Checkpoints::open(folder.path().join("other"), Duration::ZERO);
        assert_eq!(newest(&other).0, None);
    }

    #[test]
    fn those_of_a_life_that_came_further_go_when_the_stage_had_to_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        [8, 9, 1].into_iter().for_each(|iteration| write(&checkpoints, iteration));
        assert_eq!(names(folder.path()), ["1.json", "1.safetensors"]);
    }

    #[test]
    fn a_crash_at_any_point_of_a_write_leaves_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoints, stage) = (checkpoints(folder.path()), folder.path().join("stage"));
        write(&checkpoints, 1);
        // Within the first file, between write and rename: what is aside has the name that it was to get.
        let aside = stage.join(".partial-x");
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("2.safetensors"), "half").unwrap();
        assert_eq!(newest(&checkpoints), (Some(1), Vec::new()));
        // Between the files.
        fs::rename(aside.join("2.safetensors"), stage.join("2.safetensors")).unwrap();
        assert_eq!(newest(&checkpoints), (Some(1), Vec::new()));
        assert!(!stage.join("2.safetensors").exists());
        // Between write and rename of the second.
        fs::write(aside.join("2.json"), "{}").unwrap();
        assert_eq!(newest(&checkpoints), (Some(1), Vec::new()));
        write(&checkpoints, 2);
        assert_eq!(newest(&checkpoints), (Some(2), Vec::new()));
    }

    #[test]
    fn a_write_that_fails_leaves_those_before() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        write(&checkpoints, 1);
        // A folder where the file is to go, as anything else that lets no rename through.
        fs::create_dir(folder.path().join("stage/2.json")).unwrap();
        let state = State { version: 1, json: Value::Null, tensors: Vec::new() };
        let error = checkpoints.write(&Checkpoint { iteration: 2, state }).unwrap_err();
        assert!(error.message.contains("2.json` cannot be written"), "{error}");
        fs::remove_dir(folder.path().join("stage/2.json")).unwrap();
        assert_eq!(newest(&checkpoints), (Some(1), Vec::new()));
    }
}
