//! Results as JSON, accuracies as fractions; `results.json` and `--format json`.

use super::summary::{Row, Spread, Summary, summary};
use crate::engine::{Evaluation, Member, RunResults, UnderThreat, accuracy, count};
use guard_sdk::Budget;
use serde_json::{Value, json};

/// All results of a run.
pub fn json(results: &RunResults) -> Value {
    let evaluation = |evaluation: &Evaluation| evaluation_json(&results.dataset, results.images, evaluation);
    let variants: Vec<Value> = results
        .variants
        .iter()
        .map(|variant| {
            let students: Vec<Value> = variant
                .students
                .iter()
                .map(|student| {
                    let mut found =
                        json!({ "student": student.number, "evaluate": evaluation(&student.evaluation) });
                    if let Some(network) = &student.network {
                        found["network"] = json!(network);
                    }
                    found
                })
                .collect();
            json!({
                "name": variant.name,
                "baseline": variant.baseline,
                "teacher": variant.teacher.as_ref().map(evaluation),
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
        "table": table(&summary(results)),
    })
}

/// Figures with what they were measured on.
pub fn summary_json(summary: &Summary) -> Value {
    json!({
        "dataset": summary.dataset,
        "split": summary.split,
        "images": summary.images,
        "attacks": summary.attacks,
        "options": summary.options,
        "knowledge": summary.knowledge,
        "table": table(summary),
    })
}

/// The lines of the table; each is a curve of accuracy against ε, the clean one standing for ε = 0.
fn table(summary: &Summary) -> Vec<Value> {
    let spread = |spread: &Spread| json!({ "mean": spread.mean, "std": spread.std });
    let line = |row: &Row| {
        let robust = summary.budgets.iter().zip(&row.robust).map(|(budget, robust)| {
            let mut point = threat_json(budget);
            let worst = robust.as_ref().map(|robust| robust.worst);
            (point["mean"], point["std"]) =
                (json!(worst.map(|worst| worst.mean)), json!(worst.and_then(|worst| worst.std)));
            point
        });
        json!({
            "variant": row.variant,
            "baseline": row.baseline,
            "images_per_class": row.images_per_class,
            "network": row.network,
            "clean": spread(&row.clean),
            "robust": robust.collect::<Vec<_>>(),
            "curvature": row.curvature.as_ref().map(spread),
            "flags": row.flags,
        })
    };
    summary.rows.iter().map(line).collect()
}

/// A threat model.
pub(super) fn threat_json(budget: &Budget) -> Value {
    json!({ "norm": budget.norm, "epsilon": budget.epsilon })
}

/// One object per budget of one network on `images` images; one without threat where there is no budget.
pub fn evaluation_json(dataset: &str, images: usize, evaluation: &Evaluation) -> Vec<Value> {
    let right = |correct: &[bool]| json!({ "correct": count(correct), "accuracy": accuracy(correct) });
    let object = |threat: Option<&UnderThreat>| {
        let attacks = threat.map_or(&[][..], |threat| &threat.attacks).iter().map(|attack| {
            let mut figures = right(&attack.correct);
            figures["name"] = json!(attack.name);
            figures["knowledge"] = json!(attack.knowledge);
            let member = |member: &Member| {
                let accuracy = member.correct as f64 / images.max(1) as f64;
                json!({ "name": member.name, "correct": member.correct, "accuracy": accuracy })
            };
            figures["members"] = attack.members.iter().map(member).collect();
            if let Some(size) = attack.median_size(&evaluation.clean) {
                figures["median_size"] = json!(size);
            }
            figures
        });
        json!({
            "dataset": dataset,
            "images": images,
            "clean": right(&evaluation.clean),
            "threat": threat.map(|threat| threat_json(&threat.budget)),
            "attacks": attacks.collect::<Vec<_>>(),
            "worst_case": threat.map_or_else(
                || right(&evaluation.clean),
                |threat| right(&evaluation.worst_case(threat)),
            ),
            "curvature": evaluation.mean_curvature(),
            "flags": evaluation.flags,
        })
    };
    match evaluation.threats.as_slice() {
        [] => vec![object(None)],
        threats => threats.iter().map(|threat| object(Some(threat))).collect(),
    }
}
