//! What reports know of one run, finished or not, read from its directory.

use super::{
    legacy::{Legacy, legacy},
    summary::{Summary, summary},
};
use crate::{
    data::Skipped,
    engine::RunResults,
    plan::Plan,
    run::{Begun, Line, read_json, read_metrics},
};
use guard_sdk::Result;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The file of the results.
pub const RESULTS: &str = "results.json";

/// One run.
pub struct RunRecord {
    /// Its directory.
    pub path: PathBuf,
    /// What was typed, and the recipe as given.
    pub begun: Begun,
    /// What was to be done.
    pub plan: Plan,
    /// What was found.
    pub results: RunResults,
    /// What was measured on the way.
    pub measurements: Vec<Line>,
}

impl RunRecord {
    /// Reads a run directory.
    ///
    /// # Errors
    /// Code `no-run` if no run was begun there; code `file` if something in it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let begun = Begun::read(path)?;
        let plan = begun.plan(path)?;
        let results = RunResults::read(path, &plan, skipped(path)?)?;
        Ok(Self { path: path.to_path_buf(), begun, plan, results, measurements: measured(path)? })
    }

    /// Its figures.
    pub fn summary(&self) -> Summary {
        summary(&self.results)
    }

    /// Figures of other papers.
    pub fn legacy(&self) -> Legacy {
        legacy(&self.plan, &self.results)
    }

    /// A field of `environment.json`.
    pub fn environment(&self, name: &str) -> &str {
        self.begun.environment(name).unwrap_or("?")
    }

    /// What each folder of the variants is, in the plan's order.
    pub fn folders(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let variants = self.plan.variants.iter();
        variants.map(|variant| (variant.name.as_str(), self.path.join(self.plan.folder(&variant.name))))
    }
}

/// Nothing where the run has not begun to measure.
fn measured(run: &Path) -> Result<Vec<Line>> {
    match read_metrics(run) {
        Err(error) if error.code == "no-run" => Ok(Vec::new()),
        lines => lines,
    }
}

/// What was left out of the data, once the run is done.
fn skipped(run: &Path) -> Result<Vec<Skipped>> {
    #[derive(Deserialize)]
    struct Results {
        skipped: Vec<Skipped>,
    }
    let path = run.join(RESULTS);
    match path.is_file() {
        true => read_json(&path).map(|Results { skipped }| skipped),
        false => Ok(Vec::new()),
    }
}
