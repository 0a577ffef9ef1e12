//! What a user of `load` sees: good recipes come back typed, bad ones as texts, and no input crashes.

mod bad;
mod good;
mod mangled;

use super::*;

/// A recipe that says everything.
const FULL: &str = r#"name = "digits"
seed = 7
plugins = ["guard_curv", "guard_sre2l", "guard_attacks"]

[data]
dataset = "digits"
root = "data/digits"
mean = [0.5]
std = [0.25]

[network]
architecture = "convnet"
width = 32
norm = "batch"

[training]
epochs = 20
label_smoothing = 0.1
optimizer = { kind = "sgd", learning_rate = 0.05, nesterov = true }
augment = ["flip", "crop"]

[[training.regularizers]]
use = "curvature"
weight = 0.5
options = { form = "norm", radius = 1.5 }

[distill]
objective = "sre2l"
iterations = 1000
optimizer = { kind = "adam", betas = [0.5, 0.9] }
options = { bn_weight = 0.01 }
regularizers = [{ use = "total-variation" }]

[relabel]
labels = "soft"
temperature = 5

[student]
count = 2
mixup = 0
network = { architecture = "resnet", blocks = [1, 1] }

[evaluate.threat]
norm = "linf"
epsilon = ["1/255", 0.05]

[[evaluate.attacks]]
use = "pgd"
name = "pgd-100"
options = { steps = 100 }

[[evaluate.attacks]]
use = "pgd"

[[variants]]
name = "plain"
training.regularizers = []

[[variants]]
name = "matching"
distill = { objective = "dm", images_per_class = 1 }
training.optimizer.momentum = 0.5
"#;

const SHORT: &str = "[data]\ndataset = \"digits\"\n";

fn good(text: &str, sets: &[&str]) -> Loaded {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    match load("recipes/my.toml", text, &sets) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    }
}

fn bad(text: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let problems = load("my.toml", text, &sets).expect_err("a bad recipe");
    problems.to_string()
}

/// The shortest good recipe, and more.
fn with(more: &str) -> String {
    format!("{SHORT}{more}")
}
