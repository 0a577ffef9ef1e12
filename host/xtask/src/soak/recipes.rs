//! The recipes: every objective with every kind of labels, each so small that a run takes about a second.

use anyhow::{Result, bail};

/// The objectives and their options.
const OBJECTIVES: [(&str, &str); 9] = [
    ("sre2l", "iterations = 2\nregularizers = [{ use = \"total-variation\", weight = 0.1 }]"),
    ("cda", "iterations = 2"),
    ("rded", "options = { candidates = 2, crops = 2 }"),
    ("random", ""),
    ("dc", "iterations = 1\noptions = { outer_loops = 2, inner_epochs = 1, real_images = 4 }"),
    ("dsa", "iterations = 1\noptions = { outer_loops = 2, inner_epochs = 1, real_images = 4 }"),
    ("dm", "iterations = 2\noptions = { real_images = 4 }"),
    (
        "mtt",
        "iterations = 2\noptions = { synthetic_steps = 1, expert_epochs = 1, max_start_epoch = 1, soft_labels = { start = \"expert\", learning_rate = 0.1 } }",
    ),
    ("tesla", "iterations = 2\noptions = { synthetic_steps = 1, expert_epochs = 1, max_start_epoch = 1 }"),
];

/// What students learn from.
const LABELS: [&str; 4] = ["hard", "soft", "stored", "online"];

/// Objective, labels and recipe of each; only those of some objectives, if any are named.
pub fn chosen(objectives: &[String]) -> Result<Vec<(&'static str, &'static str, String)>> {
    if let Some(unknown) = objectives.iter().find(|name| OBJECTIVES.iter().all(|(known, _)| known != name)) {
        bail!("there is no objective `{unknown}`; there are {}", OBJECTIVES.map(|(name, _)| name).join(", "));
    }
    let wanted = |objective: &str| objectives.is_empty() || objectives.iter().any(|name| name == objective);
    let all = OBJECTIVES.iter().filter(|(objective, _)| wanted(objective));
    let with_labels = |(objective, options): &(&'static str, &str)| {
        let (objective, options) = (*objective, (*options).to_owned());
        LABELS.map(move |labels| (objective, labels, recipe(objective, &options, labels)))
    };
    Ok(all.flat_map(with_labels).collect())
}

fn recipe(objective: &str, options: &str, labels: &str) -> String {
    format!(
        r#"plugins = ["guard_sre2l", "guard_matching", "guard_trajectory", "guard_curv", "guard_attacks"]
[data]
dataset = "digits"
train_images = 60
test_images = 20
[network]
architecture = "convnet"
depth = 1
width = 2
norm = "batch"
[training]
epochs = 2
batch_size = 30
ema = 0.5
[[training.regularizers]]
use = "curvature"
[experts]
count = 2
epochs = 1
[distill]
objective = "{objective}"
images_per_class = 1
{options}
[relabel]
labels = "{labels}"
[student]
count = 1
epochs = 2
batch_size = 10
[evaluate]
batch_size = 10
probe_images = 0
[evaluate.threat]
norm = "linf"
epsilon = 0.1
[[evaluate.attacks]]
use = "pgd"
options = {{ steps = 1 }}
"#
    )
}
