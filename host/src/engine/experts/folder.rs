//! `experts/`: a manifest, and one safetensors file per trajectory with the tensors `<snapshot>/<name>` and `accuracy`. A
//! file is there whole or not at all.

use super::{manifest::ExpertManifest, mapped::Mapped, training::Trajectory};
use crate::{
    network::{Model, Program, weights::write_tensors},
    run::write_text,
};
use guard_sdk::{Device, Error, Result, Tensor, lab::ExpertsInfo, sent};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The manifest's name.
const MANIFEST: &str = "experts.json";
/// float64 `[snapshots]` in each file: the share of held-out images that are classified rightly.
const ACCURACY: &str = "accuracy";

/// A folder of trajectories.
pub struct ExpertFolder {
    path: PathBuf,
    manifest: ExpertManifest,
    program: Program,
    /// Files that were looked into.
    mapped: RefCell<BTreeMap<u64, Mapped>>,
}

impl ExpertFolder {
    /// Opens a folder that has a manifest.
    ///
    /// # Errors
    /// If it has none, or an unreadable one.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = path.join(MANIFEST);
        let text = fs::read(&manifest).map_err(|error| {
            Error::with_code("file", format!("`{}` cannot be read: {error}", manifest.display()))
                .help("give the folder that holds `experts.json`: `experts.folder` of the recipe, or `experts` in the run's folder")
        })?;
        let manifest = serde_json::from_slice(&text)
            .map_err(|error| Error::with_code("file", format!("`{}`: {error}", manifest.display())))?;
        Self::of(path, manifest)
    }

    /// Opens a folder, or makes one for experts of the kind of `manifest`.
    ///
    /// # Errors
    /// If it holds others, or the file system refuses.
    pub fn prepare(path: &Path, manifest: &ExpertManifest) -> Result<Self> {
        let place = path.join(MANIFEST);
        if !place.exists() {
            write_text(&place, &(serde_json::to_string_pretty(manifest)? + "\n"))?;
        }
        let mut folder = Self::open(path)?;
        let fits = folder.manifest.check(manifest);
        fits.map_err(|error| error.context(format!("expert folder `{}`", path.display())))?;
        // With what was fitted to the data, which no manifest has.
        folder.manifest.network.clone_from(&manifest.network);
        Ok(folder)
    }

    fn of(path: &Path, manifest: ExpertManifest) -> Result<Self> {
        let program = manifest.network.program()?;
        Ok(Self { path: path.to_path_buf(), manifest, program, mapped: RefCell::default() })
    }

    /// What its experts have in common.
    pub fn manifest(&self) -> &ExpertManifest {
        &self.manifest
    }

    /// Number of snapshots of each: the initialisation, and one after every epoch.
    pub fn snapshots(&self) -> u64 {
        (self.manifest.training.epochs as u64).saturating_add(1)
    }

    /// What objectives are told of the first `count`.
    pub fn info(&self, count: u64) -> ExpertsInfo {
        ExpertsInfo { trajectories: count, snapshots: self.snapshots() }
    }

    /// The file of a trajectory.
    pub fn file(&self, trajectory: u64) -> PathBuf {
        self.path.join(format!("trajectory-{trajectory:04}.safetensors"))
    }

    /// Whether a trajectory is there.
    pub fn has(&self, trajectory: u64) -> bool {
        self.file(trajectory).exists()
    }

    /// The trajectories that are there, counted from 0 without a gap.
    pub fn count(&self) -> u64 {
        (0..).take_while(|&trajectory| self.has(trajectory)).count() as u64
    }

    /// Bytes of the trajectories that are there.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn bytes(&self) -> Result<u64> {
        let size = |trajectory| fs::metadata(self.file(trajectory)).map(|metadata| metadata.len());
        let sizes = (0..self.count()).map(size).collect::<std::io::Result<Vec<_>>>();
        Ok(sizes.map_err(|error| Error::with_code("file", error.to_string()))?.iter().sum())
    }

    /// Writes a trajectory.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&self, number: u64, Trajectory { snapshots, accuracies }: &Trajectory) -> Result<()> {
        let names = self.names();
        let mut tensors = vec![(ACCURACY.to_string(), Tensor::f_from_slice(accuracies)?)];
        for (snapshot, values) in snapshots.iter().enumerate() {
            let named = names.iter().zip(values);
            tensors.extend(named.map(|(name, value)| (key(snapshot as u64, name), value.shallow_clone())));
        }
        write_tensors(&self.file(number), &tensors)
    }

    /// The network at a snapshot, with tensors of its own that need no gradients.
    ///
    /// # Errors
    /// If there is no such snapshot.
    pub fn network(&self, trajectory: u64, snapshot: u64, device: Device) -> Result<Model> {
        self.in_file(trajectory, |file| {
            let read = |name: &String| sent(&file.tensor(&key(snapshot, name))?, device);
            let tensors = self.names().iter().map(read).collect::<Result<Vec<_>>>()?;
            let mut parameters = tensors;
            let buffers = parameters.split_off(self.program.parameters.len());
            Model::new(&self.manifest.network, self.manifest.network.program()?, parameters, buffers)
        })
    }

    /// The share of held-out images that each snapshot of a trajectory classifies rightly.
    ///
    /// # Errors
    /// If there is no such trajectory.
    pub fn accuracies(&self, trajectory: u64) -> Result<Vec<f64>> {
        let accuracies =
            self.in_file(trajectory, |file| Ok(Vec::<f64>::try_from(file.tensor(ACCURACY)?)?))?;
        match accuracies.len() as u64 == self.snapshots() {
            true => Ok(accuracies),
            false => Err(Error::new(format!(
                "`{}` has {} snapshots, `{MANIFEST}` says {}",
                self.file(trajectory).display(),
                accuracies.len(),
                self.snapshots()
            ))),
        }
    }

    fn names(&self) -> Vec<String> {
        let parameters = self.program.parameters.iter().map(|parameter| parameter.name.clone());
        parameters.chain(self.program.buffers.iter().map(|buffer| buffer.name.clone())).collect()
    }

    fn in_file<T>(&self, trajectory: u64, body: impl FnOnce(&Mapped) -> Result<T>) -> Result<T> {
        let path = self.file(trajectory);
        let mut mapped = self.mapped.borrow_mut();
        let file = match mapped.entry(trajectory) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Mapped::open(&path)?),
        };
        body(file).map_err(|error| error.context(format!("expert `{}`", path.display())))
    }
}

fn key(snapshot: u64, name: &str) -> String {
    format!("{snapshot}/{name}")
}
