//! What a run found, as the report takes it.

use super::Evaluation;
use crate::{
    data::Skipped,
    plan::{Plan, VariantPlan, student_file},
    recipe::{EvaluationSplit, TEACHER},
};
use guard_sdk::Result;
use std::path::Path;

/// The folder of the evaluations, in a variant's.
pub const EVALUATIONS: &str = "evaluations";

/// What a run found.
pub struct RunResults {
    /// The data set.
    pub dataset: String,
    /// Number of images that were evaluated on.
    pub images: usize,
    /// `test` or `validation`.
    pub split: &'static str,
    /// Files of the data set that were left out because they cannot be used.
    pub skipped: Vec<Skipped>,
    /// Of each variant.
    pub variants: Vec<VariantResults>,
}

/// What one variant found.
pub struct VariantResults {
    /// The variant.
    pub name: String,
    /// Whether the recipe calls it a baseline.
    pub baseline: bool,
    /// How many synthetic images there are of each class; nothing if none were made.
    pub images_per_class: Option<usize>,
    /// Of the network trained on real data.
    pub teacher: Option<Evaluation>,
    /// Of the networks trained on synthetic data.
    pub students: Vec<StudentResult>,
}

impl RunResults {
    /// What the run directory `run` holds of what `plan` promises; what is not finished is left out.
    ///
    /// # Errors
    /// If an evaluation cannot be read.
    pub fn read(run: &Path, plan: &Plan, skipped: Vec<Skipped>) -> Result<Self> {
        let variants = plan.variants.iter().map(|variant| {
            VariantResults::read(&run.join(plan.folder(&variant.name)).join(EVALUATIONS), variant)
        });
        let variants = variants.collect::<Result<Vec<_>>>()?;
        let images = variants.iter().find_map(|variant| variant.evaluations().next());
        Ok(Self {
            dataset: plan.data.name.clone(),
            images: images.map_or(0, |evaluation| evaluation.clean.len()),
            split: split_name(plan),
            skipped,
            variants,
        })
    }
}

/// Of a set that is taken as it is, the mean.
fn images_per_class(plan: &VariantPlan) -> Option<usize> {
    let given = plan.distillation.as_ref().and_then(|distillation| distillation.given.as_ref()?.images);
    match given {
        Some(images) => Some(images as usize / plan.network.classes.max(1) as usize),
        None => plan.recipe.distill.as_ref().map(|distill| distill.images_per_class),
    }
}

/// What a run evaluates on.
pub(super) fn split_name(plan: &Plan) -> &'static str {
    match plan.variants.first().map(|variant| variant.recipe.evaluate.split) {
        Some(EvaluationSplit::Validation) => "validation",
        _ => "test",
    }
}

impl VariantResults {
    fn read(folder: &Path, plan: &VariantPlan) -> Result<Self> {
        let read = |file: &str| Evaluation::read_if_any(folder, file);
        let mut students = Vec::new();
        for network in &plan.students {
            for number in 0..plan.recipe.student.count as u64 {
                let found = read(&network.file(number))?;
                students.extend(found.map(|evaluation| StudentResult {
                    network: network.label.clone(),
                    number,
                    evaluation,
                }));
            }
        }
        Ok(Self { teacher: read(TEACHER)?, students, ..Self::nothing(plan) })
    }

    /// Of a variant that has not begun.
    pub(super) fn nothing(plan: &VariantPlan) -> Self {
        Self {
            name: plan.name.clone(),
            baseline: plan.baseline,
            images_per_class: images_per_class(plan),
            teacher: None,
            students: Vec::new(),
        }
    }

    /// Of the teacher, and of the students.
    pub fn evaluations(&self) -> impl Iterator<Item = &Evaluation> {
        self.teacher.iter().chain(self.students.iter().map(|student| &student.evaluation))
    }

    /// What is a line of a table: the teacher, and the students of each network together.
    pub fn networks(&self) -> Vec<NetworkResults<'_>> {
        let teacher = self.teacher.iter().map(|teacher| NetworkResults {
            name: TEACHER.into(),
            file: TEACHER.into(),
            evaluations: vec![teacher],
        });
        let alike = self.students.chunk_by(|one, other| one.network == other.network).map(|students| {
            let name = match (&students[0].network, students.len()) {
                (Some(network), count) => format!("{count} {network}"),
                (None, 1) => "1 student".into(),
                (None, count) => format!("{count} students"),
            };
            let file = student_file(students[0].network.as_deref(), students[0].number);
            NetworkResults {
                name,
                file,
                evaluations: students.iter().map(|student| &student.evaluation).collect(),
            }
        });
        teacher.chain(alike).collect()
    }
}

/// What is a line of a table.
pub struct NetworkResults<'a> {
    /// `teacher`, or `3 students`.
    pub name: String,
    /// What the files of the first of them are called, without extension.
    pub file: String,
    /// Of each of them.
    pub evaluations: Vec<&'a Evaluation>,
}

/// What one student found.
pub struct StudentResult {
    /// What results call its network, where there are several.
    pub network: Option<String>,
    /// The student's number among those of its network, from 0.
    pub number: u64,
    /// What it found.
    pub evaluation: Evaluation,
}
