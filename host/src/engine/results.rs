//! What a run found, as the report takes it.

use super::Evaluation;
use crate::data::Skipped;

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
    /// Of the network trained on real data.
    pub teacher: Option<Evaluation>,
    /// Of the networks trained on synthetic data.
    pub students: Vec<StudentResult>,
}

impl VariantResults {
    /// What is a line of a table: the teacher, and the students of each network together.
    pub fn networks(&self) -> Vec<(String, Vec<&Evaluation>)> {
        let teacher = self.teacher.iter().map(|teacher| ("teacher".to_string(), vec![teacher]));
        let alike = self.students.chunk_by(|one, other| one.network == other.network).map(|students| {
            let name = match (&students[0].network, students.len()) {
                (Some(network), count) => format!("{count} {network}"),
                (None, 1) => "1 student".into(),
                (None, count) => format!("{count} students"),
            };
            (name, students.iter().map(|student| &student.evaluation).collect())
        });
        teacher.chain(alike).collect()
    }
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
