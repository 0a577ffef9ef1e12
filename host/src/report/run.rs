//! What reports know of one run, finished or not, read from its directory.

use super::{
    legacy::{Legacy, legacy},
    summary::{Summary, summary},
};
use crate::{
    data::Skipped,
    engine::RunResults,
    plan::{Plan, VariantPlan},
    recipe::AttackUse,
    run::{Begun, Line, read_json, read_metrics},
};
use guard_sdk::Result;
use serde::Deserialize;
use serde_json::{Value, json};
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

    /// What the figures were measured with, beside what the summary tells: which images they are of, and the options of the
    /// attacks.
    pub fn footing(&self) -> Value {
        let evaluate = self.plan.variants.first().map(|variant| &variant.recipe.evaluate);
        let attacks = evaluate.map_or(&[][..], |evaluate| &evaluate.attacks);
        let labels = self.results.variants.iter().find_map(|variant| variant.evaluations().next());
        let mut data = self.plan.variants.first().map(|variant| variant.recipe.data.clone());
        if let Some(data) = &mut data {
            // Where the files lie and what was trained on is no matter.
            (data.root, data.train_images) = (None, None);
        }
        json!({ "data": data, "labels": labels.map(|evaluation| &evaluation.labels), "attacks": attacks })
    }

    /// The options of each attack as they stand in the recipe, in a few words.
    pub fn attack_options(&self) -> Vec<String> {
        let evaluate = self.plan.variants.first().map(|variant| &variant.recipe.evaluate);
        let words = |attack: &AttackUse| {
            let options = attack.options.iter().map(|(name, value)| match value {
                Value::String(text) => format!("{name} {text}"),
                value => format!("{name} {value}"),
            });
            options.collect::<Vec<_>>().join(", ")
        };
        evaluate.map_or(Vec::new(), |evaluate| evaluate.attacks.iter().map(words).collect())
    }

    /// How far it is, where it is not done.
    pub fn unfinished(&self) -> Option<String> {
        let evaluated =
            self.results.variants.iter().map(|variant| variant.evaluations().count()).sum::<usize>();
        let planned = |variant: &VariantPlan| {
            let students = if variant.recipe.distill.is_some() { variant.students.len() } else { 0 };
            usize::from(variant.trains_teacher) + students * variant.recipe.student.count
        };
        let planned: usize = self.plan.variants.iter().map(planned).sum();
        (evaluated < planned).then(|| {
            let run = self.path.display();
            format!("`{run}` is not finished: {evaluated} of {planned} networks are evaluated; `guard-host --resume {run}` goes on")
        })
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
