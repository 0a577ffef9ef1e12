//! What a recipe's `training` does to a network on real data: robustness by training, averages, choices, ramps.

mod here;

use here::{Here, json};
use serde_json::Value;
use std::fs;

/// Networks on a part of the digits, in a second each; `more` are further keys, variants last.
fn recipe(more: &str) -> String {
    format!(
        r#"name = "training"
[data]
dataset = "digits"
train_images = 600
test_images = 150
[network]
architecture = "convnet"
depth = 2
width = 16
norm = "batch"
[training]
epochs = 6
batch_size = 50
optimizer = {{ kind = "sgd", learning_rate = 0.05 }}
[evaluate]
probe_images = 0
[evaluate.threat]
norm = "linf"
epsilon = 0.1
[[evaluate.attacks]]
use = "pgd"
options = {{ steps = 5 }}
{more}"#
    )
}

/// Clean and robust accuracy of each variant's teacher.
fn accuracies(here: &Here, run: &str) -> Vec<(f64, f64)> {
    let results = json(&here.path(run).join("results.json"));
    let of = |variant: &Value| {
        let figure = |name: &str| variant["teacher"][0][name]["accuracy"].as_f64().unwrap();
        (figure("clean"), figure("worst_case"))
    };
    results["variants"].as_array().unwrap().iter().map(of).collect()
}

/// The recorded values of a metric in a variant's training, in order.
fn recorded(here: &Here, run: &str, variant: &str, metric: &str) -> Vec<f64> {
    let lines = fs::read_to_string(here.path(run).join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["variant"] == variant && line["stage"] == "train")
        .filter_map(|line| line["metrics"][metric].as_f64())
        .collect()
}

#[test]
fn adversarial_training_makes_a_network_with_batch_norm_robust() {
    let here = Here::new();
    let text = recipe(
        r#"
[[variants]]
name = "plain"

[[variants]]
name = "adversarial"
training.cross_entropy_weight = 0
[[variants.training.regularizers]]
use = "adversarial"
[variants.training.regularizers.options]
attack = { use = "pgd", options = { steps = 3, relative_step_size = 0.5 } }
threat = { norm = "linf", epsilon = "1/10" }

[[variants]]
name = "trades"
[[variants.training.regularizers]]
use = "trades"
weight = 3.0
options = { threat = { norm = "linf", epsilon = 0.1 }, steps = 3, relative_step_size = 0.5 }
"#,
    );
    here.succeeds(&["--quiet", &here.recipe(&text), "--out", "run"]);
    let found = accuracies(&here, "run");
    let [(_, plain), rest @ ..] = &found[..] else { panic!("{found:?}") };
    for (clean, robust) in rest {
        assert!(*clean > 0.85 && *robust > plain + 0.1, "clean and robust: {found:?}");
    }
    assert!(recorded(&here, "run", "adversarial", "loss/cross-entropy").is_empty());
    let accuracy = recorded(&here, "run", "adversarial", "adversarial/accuracy");
    assert!(accuracy.last() > accuracy.first(), "{accuracy:?}");
}

#[test]
fn averages_the_best_epoch_and_ramps_do_what_they_say() {
    let here = Here::new();
    let text = recipe(
        r#"
[[variants]]
name = "average"
training.ema = 0.95

[[variants]]
name = "best"
training = { keep = "best", validation_share = 0.2, ema = 0.9, schedule = { kind = "multi-step", milestones = [0.5] } }

[[variants]]
name = "ramp"
[variants.training]
warmup = 0.1
clip_gradient = 5.0
schedule = "one-cycle"
label_smoothing = 0.1
[[variants.training.regularizers]]
use = "gradient-norm"
weight = 0.1
warmup = 0.5
options = { statistics = "batch" }
"#,
    );
    here.succeeds(&["--quiet", &here.recipe(&text), "--out", "run"]);
    let found = accuracies(&here, "run");
    assert!(found.iter().all(|(clean, _)| *clean > 0.8), "{found:?}");

    let validation = recorded(&here, "run", "best", "validation/accuracy");
    assert_eq!(validation.len(), 6, "one for each epoch");
    assert!(recorded(&here, "run", "average", "validation/accuracy").is_empty());

    let [bare, weighted] = ["loss/gradient-norm", "loss/gradient-norm/weighted"]
        .map(|metric| recorded(&here, "run", "ramp", metric));
    let weights: Vec<f64> = bare.iter().zip(&weighted).map(|(bare, weighted)| weighted / bare).collect();
    // Every tenth of the 72 steps is recorded, and the last; the ramp takes 36.
    assert_eq!(weights.len(), 9);
    for (weight, step) in weights.iter().zip((0..).step_by(10)) {
        let expected = 0.1 * f64::min(f64::from(step) / 36.0, 1.0);
        assert!((weight - expected).abs() < 1e-6, "step {step}: {weights:?}");
    }
}

#[test]
fn what_cannot_be_trained_is_told_with_its_place() {
    let here = Here::new();
    let text = recipe(
        r#"
[[training.regularizers]]
use = "adversarial"
[training.regularizers.options]
attack = { use = "pgdd" }
threat = { norm = "linf", epsilon = "8/255" }

[[training.regularizers]]
use = "adversarial"
options = { attack = { use = "pgd" } }

[[training.regularizers]]
use = "trades"
options = { threat = { norm = "linf", epsilon = -1 }, maximise = "margin" }
"#,
    );
    let error = here.fails(2, &[&here.recipe(&text)]);
    for part in [
        "no plugin offers the attack `pgdd`",
        "help: did you mean `pgd`?",
        "missing key `threat` in `training.regularizers.1.options`",
        "`training.regularizers.2.options.threat.epsilon`",
        "unknown value `margin`",
    ] {
        assert!(error.contains(part), "`{part}` is missing in:\n{error}");
    }
}
