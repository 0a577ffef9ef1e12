//! Results as JSON, accuracies as fractions; `results.json` and `--format json`.

use super::summary::flags;
use crate::engine::{Evaluation, RunResults, accuracy};
use serde_json::{Value, json};

/// All results of a run.
pub fn json(results: &RunResults) -> Value {
    let evaluations = |evaluations: &[Evaluation]| evaluation_json(&results.dataset, results.images, evaluations);
    let variants: Vec<Value> = results
        .variants
        .iter()
        .map(|variant| {
            let students: Vec<Value> = variant
                .students
                .iter()
                .map(|student| json!({ "student": student.number, "evaluate": evaluations(&student.evaluations) }))
                .collect();
            json!({
                "name": variant.name,
                "teacher": variant.teacher.as_ref().map(|teacher| evaluations(teacher)),
                "students": students,
            })
        })
        .collect();
    json!({
        "dataset": results.dataset,
        "split": results.split,
        "images": results.images,
        "skipped": results.skipped,
        "variants": variants,
    })
}

/// One object per ε of one network on `images` images.
pub fn evaluation_json(dataset: &str, images: usize, evaluations: &[Evaluation]) -> Vec<Value> {
    evaluations
        .iter()
        .map(|evaluation| {
            let attacks: Vec<Value> = evaluation
                .attacks
                .iter()
                .map(|attack| {
                    json!({
                        "name": attack.name,
                        "correct": count(&attack.correct),
                        "accuracy": accuracy(&attack.correct),
                        "members": [],
                    })
                })
                .collect();
            let worst = evaluation.worst_case();
            json!({
                "dataset": dataset,
                "images": images,
                "clean": { "correct": count(&evaluation.clean), "accuracy": accuracy(&evaluation.clean) },
                "threat": evaluation.budget.map(|budget| json!({ "norm": budget.norm, "epsilon": budget.epsilon })),
                "attacks": attacks,
                "worst_case": { "correct": count(&worst), "accuracy": accuracy(&worst) },
                "flags": flags(evaluations),
            })
        })
        .collect()
}

fn count(correct: &[bool]) -> usize {
    correct.iter().filter(|&&correct| correct).count()
}
