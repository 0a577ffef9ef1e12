//! Matching objectives from recipe to students, as a user meets them: experts that are kept, used again and told of, learned
//! labels and learning rates, and first images from a set that is there.

mod here;

use here::{Here, json, stderr};
use std::fs;

/// A recipe of a second on the built-in digits.
fn recipe(distill: &str) -> String {
    format!(
        r#"plugins = ["guard_matching", "guard_trajectory", "guard_curv"]
[data]
dataset = "digits"
train_images = 100
test_images = 50
[network]
architecture = "convnet"
depth = 1
width = 4
[training]
batch_size = 50
[training.optimizer]
kind = "sgd"
learning_rate = 0.05
[experts]
count = 2
epochs = 2
folder = "kept"
[distill]
images_per_class = 2
{distill}
[relabel]
labels = "hard"
[student]
count = 1
epochs = 2
mixup = 0.0
optimizer = {{ kind = "sgd", learning_rate = 0.5 }}
"#
    )
}

const MTT: &str = r#"objective = "mtt"
iterations = 2
[distill.options]
synthetic_steps = 2
expert_epochs = 1
max_start_epoch = 2
learning_rate = 0.02
soft_labels = { start = "expert", learning_rate = 0.1 }"#;

fn run(here: &Here, recipe: &str, out: &str) {
    fs::write(here.path("recipe.toml"), recipe).unwrap();
    here.succeeds(&["recipe.toml", "--quiet", "--out", out]);
}

#[test]
fn mtt_keeps_its_experts_uses_them_again_and_hands_labels_and_learning_rate_to_students() {
    let here = Here::new();
    run(&here, &recipe(MTT), "first");
    let written = |file: &str| fs::metadata(here.path(file)).unwrap().modified().unwrap();
    let expert = "kept/trajectory-0001.safetensors";
    let (first, other) = (written("kept/trajectory-0000.safetensors"), fs::read(here.path(expert)).unwrap());

    let manifest = json(&here.path("first/distilled/manifest.json"));
    assert_eq!(manifest["labels"], "learned");
    assert_eq!(manifest["learned"][0][0], "learning-rate");
    let rate = manifest["learned"][0][1].as_f64().unwrap();
    assert!(rate > 0.0 && (rate - 0.02).abs() < 1e-3, "{rate}");

    // An interrupted training goes on with what is missing, and ends with the same bits.
    fs::remove_file(here.path(expert)).unwrap();
    run(&here, &recipe(MTT), "second");
    assert_eq!(fs::read(here.path(expert)).unwrap(), other);
    assert_eq!(written("kept/trajectory-0000.safetensors"), first);
    let images = |run: &str| fs::read(here.path(&format!("{run}/distilled/distilled.safetensors"))).unwrap();
    assert_eq!(images("first"), images("second"));

    let info = here.succeeds(&["experts", "info", "kept"]);
    assert!(info.starts_with("2 experts of 2 epochs on 100 images of digits\n"), "{info}");
    let told: serde_json::Value =
        serde_json::from_str(&here.succeeds(&["experts", "info", "kept", "--format", "json"])).unwrap();
    assert_eq!((&told["experts"], &told["snapshots"]), (&2.into(), &3.into()));
    assert_eq!(told["accuracies"][1].as_array().unwrap().len(), 3);

    // Experts of another training are not taken for these.
    let regularized =
        recipe(MTT).replace("[experts]", "[[training.regularizers]]\nuse = \"curvature\"\n[experts]");
    fs::write(here.path("recipe.toml"), regularized).unwrap();
    let error = here.fails(1, &["recipe.toml", "--quiet", "--out", "third"]);
    assert!(error.contains("`training.regularizers` = []"), "{error}");

    // A damaged file is named.
    let half = other.len() / 2;
    fs::write(here.path(expert), &other[..half]).unwrap();
    let error = here.fails(1, &["experts", "info", "kept"]);
    assert!(error.contains("trajectory-0001.safetensors` is damaged"), "{error}");
}

#[test]
fn whitening_is_part_of_the_networks_and_of_the_artefact_and_undone_for_pictures() {
    let here = Here::new();
    let zca = recipe(MTT).replace("[network]\n", "zca = {}\n[network]\n");
    let zca = zca.replace("folder = \"kept\"\n", "").replace("iterations = 2", "iterations = 20");
    let zca = zca.replace("count = 1\nepochs = 2", "count = 1\nepochs = 100");
    run(&here, &zca, "whitened");
    let manifest = json(&here.path("whitened/distilled/manifest.json"));
    assert_eq!((&manifest["space"], &manifest["whitening"]["epsilon"]), (&"pixels".into(), &0.1.into()));
    let tensors =
        guard_host::network::weights::read_tensors(&here.path("whitened/distilled/whitening.safetensors"));
    let shapes: Vec<_> =
        tensors.unwrap().iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
    assert_eq!(shapes, [("zca.matrix".to_string(), vec![64, 64]), ("zca.mean".into(), vec![64])]);

    // A student is evaluated from its file alone.
    let results = json(&here.path("whitened/results.json"));
    let clean = results["variants"][0]["students"][0]["evaluate"][0]["clean"].clone();
    let evaluated = here.succeeds(&[
        "evaluate",
        "--network",
        "whitened/checkpoints/student-0.safetensors",
        "--architecture",
        "convnet",
        "--set",
        "network.depth=1",
        "--set",
        "network.width=4",
        "--dataset",
        "digits",
        "--set",
        "data.train_images=100",
        "--set",
        "data.test_images=50",
        "--format",
        "json",
        "--quiet",
    ]);
    let evaluated: serde_json::Value = serde_json::from_str(&evaluated).unwrap();
    assert_eq!(evaluated["clean"], clean, "{evaluated}");

    // A network's file holds the matrix, and the estimate knows.
    let told = |text: &str| {
        fs::write(here.path("recipe.toml"), text).unwrap();
        let told = stderr(&here.run(&["recipe.toml", "--dry-run"]));
        let place = told.find(" of disk").unwrap_or_else(|| panic!("{told}"));
        let words: Vec<&str> = told[..place].rsplit(' ').take(2).collect();
        assert_eq!(words[0], "KiB", "{told}");
        words[1].parse::<f64>().unwrap()
    };
    let matrices = told(&zca) - told(&zca.replace("zca = {}\n", ""));
    // Of a student and of the set.
    assert!((matrices - 2.0 * 4.0 * 64.0 * 65.0 / 1024.0).abs() < 0.1, "{matrices}");

    // Other images are learned than without, from the same experts' seeds.
    run(&here, &zca.replace("zca = {}\n", ""), "plain");
    let picture = |run: &str| fs::read(here.path(&format!("{run}/distilled/contact-sheet.png"))).unwrap();
    assert_ne!(picture("whitened"), picture("plain"));

    let large = zca.replace("zca = {}", "zca = { epsilon = 0.1 }\nimage_size = 112");
    fs::write(here.path("recipe.toml"), large).unwrap();
    let error = here.fails(2, &["recipe.toml", "--dry-run"]);
    assert!(error.contains("at most 12288 can be whitened"), "{error}");
    assert!(error.contains("recipe.toml:6:7"), "{error}");
}

#[test]
fn experts_that_are_too_short_are_told_before_anything_runs() {
    let here = Here::new();
    fs::write(here.path("recipe.toml"), recipe(&MTT.replace("max_start_epoch = 2", "max_start_epoch = 3")))
        .unwrap();
    let error = here.fails(2, &["recipe.toml", "--dry-run"]);
    assert!(error.contains("it follows experts for 3 epochs, and they have 2"), "{error}");
    let missing = here.fails(2, &["experts", "info", "nowhere"]);
    assert!(missing.contains("experts.json") && missing.contains("help"), "{missing}");
}

#[test]
fn images_start_from_a_set_that_is_there() {
    let here = Here::new();
    let dm = "objective = \"dm\"\niterations = 1\noptions = { real_images = 5 }";
    run(&here, &recipe(dm), "first");
    let still = "objective = \"dm\"\niterations = 1\noptions = { real_images = 5 }\nstart = \"first/distilled\"\noptimizer = { kind = \"sgd\", learning_rate = 1e-20, weight_decay = 0.0 }";
    run(&here, &recipe(still), "second");
    let picture = |run: &str| fs::read(here.path(&format!("{run}/distilled/contact-sheet.png"))).unwrap();
    assert_eq!(picture("first"), picture("second"));
    let plan = json(&here.path("second/plan.json"));
    assert_eq!(plan["variants"][0]["distillation"]["start"], "first/distilled");

    let error = {
        fs::write(here.path("recipe.toml"), recipe(&still.replace("first/distilled", "frist"))).unwrap();
        stderr(&here.run(&["recipe.toml", "--quiet", "--out", "third"]))
    };
    assert!(error.contains("first images `frist`"), "{error}");
}

#[test]
fn dc_takes_several_steps_with_each_network_and_dsa_starts_from_real_images() {
    let here = Here::new();
    let options = "options = { real_images = 8, inner_epochs = 2 }";
    run(&here, &recipe(&format!("objective = \"dc\"\niterations = 2\n{options}")), "dc");
    let plan = json(&here.path("dc/plan.json"));
    let distillation = &plan["variants"][0]["distillation"];
    assert_eq!((&distillation["iterations"], &distillation["steps_per_iteration"]), (&2.into(), &2.into()));
    assert_eq!(distillation["start"], "noise");
    run(&here, &recipe(&format!("objective = \"dsa\"\niterations = 1\n{options}")), "dsa");
    assert_eq!(json(&here.path("dsa/plan.json"))["variants"][0]["distillation"]["start"], "real");
}
