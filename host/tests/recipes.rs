//! `recipe check|show|diff`, `extends` and sweeps, as a user meets them.

mod here;

use here::{Here, json};
use serde_json::Value;
use std::fs;

const BASE: &str = r#"
plugins = ["guard_sre2l", "guard_curv", "guard_attacks"]
data = { dataset = "digits", train_images = 200, test_images = 40 }
network = { architecture = "convnet", depth = 2, width = 8, norm = "batch" }
training = { epochs = 1, regularizers = [{ use = "curvature", options = { radius = 2.0 } }] }
student = { epochs = 1, count = 1 }
distill = { objective = "sre2l", images_per_class = 1, iterations = 2 }
"#;

#[test]
fn recipes_are_checked_all_at_once() {
    let here = Here::new();
    fs::write(here.path("good.toml"), BASE).unwrap();
    fs::write(
        here.path("bad.toml"),
        BASE.replace("radius = 2.0", "radius = -2.0").replace("epochs = 1,", "epoch = 1,"),
    )
    .unwrap();
    assert!(here.succeeds(&["recipe", "check", "good.toml"]).starts_with("good.toml: good: 1 variant, "));

    let output = here.run(&["recipe", "check", "good.toml", "bad.toml", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let told = here::stderr(&output);
    for part in [
        "unknown key `epoch` in `training`\n --> bad.toml:5:",
        "must be greater than 0, found -2.0",
        "recipe `nowhere.toml` cannot be read: No such file or directory (os error 2)\n  = help: give the path",
    ] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    let output = here.run(&["recipe", "check", "good.toml", "bad.toml", "--format", "json"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&all[0]["good"], &all[1]["good"]), (&true.into(), &false.into()));
    assert_eq!(
        (&all[1]["problems"][0]["line"], &all[1]["problems"][0]["at"]),
        (&5.into(), &"bad.toml".into())
    );
}

#[test]
fn a_recipe_is_shown_whole_with_where_each_value_comes_from() {
    let here = Here::new();
    fs::create_dir(here.path("configs")).unwrap();
    fs::write(here.path("configs/base.toml"), BASE).unwrap();
    here.recipe("extends = \"configs/base.toml\"\ntraining.epochs = 3\nstudent.preset = \"sre2l-cifar\"\n");
    let text = here.succeeds(&["recipe", "show", "my.toml", "--set", "seed=5"]);
    for line in [
        "seed = 5  # --set seed=5",
        "epochs = 3  # my.toml:2:19",
        "width = 8  # configs/base.toml:4:",
        "batch_size = 128  # preset sre2l-cifar",
        "label_smoothing = 0.0  # default",
        "radius = 2.0  # configs/base.toml:5:",
        "form = \"norm\"  # default of curvature",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "no `{line}` in {text}");
    }
    let plan = here.succeeds(&["my.toml", "--dry-run", "--quiet"]);
    assert!(plan.contains("epochs = 3  # my.toml:2:19") && plan.contains("blake3 = "), "{plan}");
}

#[test]
fn two_recipes_differ_in_what_is_told_and_in_nothing_else() {
    let here = Here::new();
    fs::write(here.path("base.toml"), BASE).unwrap();
    here.recipe("extends = \"base.toml\"\n[distill]\nimages_per_class = 10\n");
    assert_eq!(
        here.succeeds(&["recipe", "diff", "base.toml", "my.toml"]),
        "distill.images_per_class: 1 → 10  (base.toml:7:53; my.toml:3:20)\n"
    );
    assert_eq!(here.succeeds(&["recipe", "diff", "base.toml", "base.toml"]), "");
    let error = here.fails(2, &["--plugin", "./missing.so", "recipe", "diff", "base.toml", "base.toml"]);
    assert!(error.contains("missing.so"), "{error}");
    let two = "[[variants]]\nname = \"one\"\n[[variants]]\nname = \"more\"\ndistill.iterations = 9\n";
    fs::write(here.path("two.toml"), format!("extends = \"base.toml\"\n{two}")).unwrap();
    assert_eq!(
        here.succeeds(&["recipe", "diff", "base.toml", "two.toml"]),
        "more: distill.iterations: 2 → 9  (base.toml:7:69; two.toml:6:22)\n"
    );
    here.succeeds(&["base.toml", "--quiet", "--out", "run", "--set", "seed=3"]);
    let told = here.succeeds(&["recipe", "diff", "base.toml", "run"]);
    assert_eq!(told, "seed: 0 → 3  (default; --set seed=3)\n");
}

#[test]
fn a_run_of_a_recipe_that_extends_another_goes_on_without_either_file() {
    let here = Here::new();
    fs::write(here.path("base.toml"), BASE).unwrap();
    here.recipe("extends = \"base.toml\"\nseed = 4\n");
    here.succeeds(&["my.toml", "--quiet", "--out", "run"]);
    let before = json(&here.path("run/results.json"));
    fs::remove_file(here.path("base.toml")).unwrap();
    let error = here.fails(2, &["my.toml", "--quiet"]);
    assert!(error.contains("`base.toml` cannot be read") && error.contains("my.toml:1:11"), "{error}");
    fs::remove_file(here.path("my.toml")).unwrap();
    here.succeeds(&["--resume", "run", "--quiet"]);
    assert_eq!(json(&here.path("run/results.json")), before);
}

#[test]
fn a_sweep_trains_one_teacher_and_tells_all_in_one_table() {
    let here = Here::new();
    here.recipe(BASE);
    let over = ["--over", "distill.images_per_class=[1,2]", "--over", "student.epochs=[1,2]"];
    let output = here.run(&[&["sweep", "my.toml", "--out", "run"], &over[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", here::stderr(&output));
    let (table, talk) = (String::from_utf8_lossy(&output.stdout).into_owned(), here::stderr(&output));
    for row in ["images_per_class 1 epochs 1", "images_per_class 2 epochs 2"] {
        assert!(table.contains(row), "{table}");
    }
    assert_eq!(talk.matches(": train: as of images_per_class 1 epochs 1").count(), 3, "{talk}");
    assert_eq!(talk.matches(": distill: as of ").count(), 2, "{talk}");
    // What it has is not run again, also when it is asked for another point.
    let more = ["--resume", "run", "--force", "--over", "student.epochs=[1,2,3]"];
    let output = here.run(&more);
    assert_eq!(output.status.code(), Some(0), "{}", here::stderr(&output));
    assert_eq!(here::stderr(&output).matches("1 epochs (").count(), 0, "{}", here::stderr(&output));
    let error = here.fails(2, &["sweep", "my.toml", "--over", "seed=[1,2]"]);
    assert!(error.contains("variants cannot differ in `seed`"), "{error}");
}
