//! The command line as a user meets it: the real binary, in a folder of its own.

mod here;

use here::{Here, json, quick, stderr};
use serde_json::Value;
use std::{fs, path::Path};

#[test]
fn the_bare_command_runs_the_built_in_recipe_and_leaves_a_whole_run_directory() {
    let here = Here::new();
    let table = here.succeeds(&quick(&["--plugin", "libguard_curv.so"]));
    assert!(table.contains("360 test images of digits; robust: linf ball"), "{table}");
    for row in ["| SRe2L             | teacher    |", "| SRe2L + curvature | 2 students |"] {
        assert!(table.contains(row), "{table}");
    }
    let run = here.path("runs/digits");
    assert_eq!(fs::read_link(here.path("runs/latest")).unwrap(), Path::new("digits"));
    for file in
        ["plan.json", "environment.json", "plugins.lock.json", "metrics.jsonl", "results.json", "report.html"]
    {
        assert!(fs::metadata(run.join(file)).unwrap().len() > 0, "{file}");
    }
    assert_eq!(json(&run.join("command.json"))["sets"][0], "training.epochs=1");
    for variant in ["SRe2L", "SRe2L + curvature"] {
        let distilled = run.join(variant).join("distilled");
        assert_eq!(json(&distilled.join("manifest.json"))["images_per_class"], 5);
        assert_eq!(fs::read_dir(distilled.join("images/7")).unwrap().count(), 5);
        let image = image::open(distilled.join("images/7/0000.png")).unwrap();
        assert_eq!((image.width(), image.height()), (8, 8));
        for checkpoint in ["teacher", "student-0", "student-1"] {
            assert!(run.join(variant).join(format!("checkpoints/{checkpoint}.safetensors")).is_file());
        }
    }
    let curvature: Vec<Value> = fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["metrics"]["loss/curvature"].is_number())
        .collect();
    assert!(!curvature.is_empty());
    assert!(curvature.iter().all(|line| line["variant"] == "SRe2L + curvature" && line["stage"] == "train"));
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
    let here = Here::new();
    for (out, seed) in [("a", "seed=3"), ("b", "seed=3"), ("c", "seed=4")] {
        here.succeeds(&quick(&["--quiet", "--out", out, "--set", seed]));
    }
    let read = |run: &str, file: &str| fs::read(here.path(run).join(file)).unwrap();
    for file in ["metrics.jsonl", "results.json", "SRe2L + curvature/distilled/distilled.safetensors"] {
        assert_eq!(read("a", file), read("b", file), "{file}");
        assert_ne!(read("a", file), read("c", file), "{file}");
    }
}

#[test]
fn variants_share_their_seeds() {
    let here = Here::new();
    let same = "variants=[{ name = \"one\" }, { name = \"two\" }]";
    here.succeeds(&quick(&["--quiet", "--out", "run", "--set", same]));
    let read = |variant: &str| {
        fs::read(here.path("run").join(variant).join("distilled/distilled.safetensors")).unwrap()
    };
    assert_eq!(read("one"), read("two"));
}

#[test]
fn json_results_follow_the_contract() {
    let here = Here::new();
    let results: Value =
        serde_json::from_str(&here.succeeds(&quick(&["--quiet", "--format", "json"]))).unwrap();
    assert_eq!(results, json(&here.path("runs/digits/results.json")));
    let students = results["variants"][1]["students"].as_array().unwrap();
    assert_eq!(students.len(), 2);
    let evaluations = students[0]["evaluate"].as_array().unwrap();
    assert_eq!(evaluations.len(), 2);
    for evaluation in evaluations {
        assert_eq!(
            (&evaluation["dataset"], &evaluation["images"]),
            (&Value::from("digits"), &Value::from(360))
        );
        assert_eq!(evaluation["threat"]["norm"], "linf");
        assert!(evaluation["flags"].is_array());
        let figure =
            |value: &Value| (value["correct"].as_f64().unwrap(), value["accuracy"].as_f64().unwrap());
        for value in [&evaluation["clean"], &evaluation["attacks"][0], &evaluation["worst_case"]] {
            let (correct, accuracy) = figure(value);
            assert!((correct / 360.0 - accuracy).abs() < 1e-12);
        }
        assert!(figure(&evaluation["worst_case"]).0 <= figure(&evaluation["attacks"][0]).0);
        assert!(figure(&evaluation["attacks"][0]).0 <= figure(&evaluation["clean"]).0);
    }
}

#[test]
fn a_run_never_overwrites_another() {
    let here = Here::new();
    fs::create_dir(here.path("mine")).unwrap();
    fs::write(here.path("mine/precious"), "").unwrap();
    let error = here.fails(2, &quick(&["--out", "mine"]));
    assert!(error.contains("run directory `mine` is not empty"), "{error}");
    assert_eq!(fs::read_dir(here.path("mine")).unwrap().count(), 1);
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let here = Here::new();
    let plan: Value =
        serde_json::from_str(&here.succeeds(&["run", "--dry-run", "--format", "json", "--set", "seed=9"]))
            .unwrap();
    assert_eq!(plan["seed"], 9);
    assert_eq!(plan["variants"][1]["recipe"]["training"]["regularizers"][0]["use"], "curvature");
    assert_eq!(plan["variants"][0]["budgets"][1]["epsilon"], 0.1);
    assert_eq!(plan["plugins"].as_array().unwrap().len(), 3);
    assert!(here.succeeds(&["--dry-run"]).contains("[variants.recipe.distill]"));
    assert_eq!(fs::read_dir(here.folder.path()).unwrap().count(), 0);
}

#[test]
fn every_recipe_under_configs_is_dry_run() {
    let here = Here::new();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let recipes: Vec<_> = fs::read_dir(configs).unwrap().map(|entry| entry.unwrap().path()).collect();
    let recipes: Vec<_> =
        recipes.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    assert!(!recipes.is_empty());
    for recipe in recipes {
        here.succeeds(&["run", recipe.to_str().unwrap(), "--dry-run", "--quiet"]);
    }
}

#[test]
fn everything_wrong_with_a_recipe_is_told_at_once_with_its_place() {
    let here = Here::new();
    let recipe = here.recipe(
        r#"plugins = ["guard_curv"]
[data]
dataset = "digits"
[network]
architecture = "convnet"
norm = "batch"
[training]
epoch = 3
[[training.regularizers]]
use = "curvatur"
[[training.regularizers]]
use = "curvature"
options = { radius = -1.0, fom = "norm" }
[distill]
objective = "sre2l"
[evaluate.threat]
norm = "linf"
epsilon = "8/255"
[[evaluate.attacks]]
use = "pgd"
options = { steps = 0 }
"#,
    );
    let error = here.fails(2, &[&recipe]);
    for part in [
        "unknown key `epoch` in `training`",
        "my.toml:8:1",
        "help: did you mean `epochs`?",
        "no plugin offers the regularizer `curvatur`",
        "my.toml:10:7",
        "help: did you mean `curvature`?",
        "my.toml:13:22",
        "unknown key `fom`",
        "help: did you mean `form`?",
        "my.toml:21:21",
    ] {
        assert!(error.contains(part), "`{part}` is missing in:\n{error}");
    }
    // What only the method itself can know is told once its options fit its schema.
    let set = [
        "--set",
        "evaluate.attacks.0.options.restarts=3",
        "--set",
        "evaluate.attacks.0.options.random_start=false",
    ];
    let error = here.fails(2, &set);
    assert!(error.contains("restarts from the image itself are all the same"), "{error}");
    assert!(error.contains("--set evaluate.attacks.0.options.restarts=3"), "{error}");
    assert!(!here.path("runs").exists());
}

#[test]
fn an_unknown_data_set_does_not_hide_an_unknown_method() {
    let here = Here::new();
    let error = here.fails(2, &["--set", "data.dataset=digit", "--set", "distill.objective=sre2"]);
    assert!(error.contains("there is no reader for data set `digit`"), "{error}");
    assert!(error.contains("no plugin offers the objective `sre2`"), "{error}");
}

#[test]
fn sre2l_with_a_network_without_batch_norm_is_refused_with_what_works() {
    let here = Here::new();
    let error = here.fails(2, &["--set", "network.norm=instance"]);
    assert!(error.contains("needs the running statistics of BatchNorm layers"), "{error}");
    assert!(error.contains("norm = \"batch\""), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state() {
    let here = Here::new();
    let explode = "training.optimizer.learning_rate=1e30";
    let output = here.run(&["--quiet", "--set", explode]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let error = stderr(&output);
    assert!(error.contains("`cross-entropy` is") && error.contains("of stage `train`"), "{error}");
    assert!(error.contains("teacher-last-good.safetensors"), "{error}");
    let kept = here.path("runs/digits/SRe2L/checkpoints/teacher-last-good.safetensors");
    let tensors = guard_sdk::Tensor::read_safetensors(kept).unwrap();
    assert!(tensors.iter().all(|(_, tensor)| tensor.isfinite().all().int64_value(&[]) == 1));
}

#[test]
fn distillation_that_diverges_keeps_its_images_and_names_the_plugin() {
    let here = Here::new();
    let output = here.run(&quick(&["--quiet", "--set", "distill.options.batch_norm_weight=1e39"]));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let error = stderr(&output);
    assert!(error.contains("`sre2l` (plugin `guard.sre2l`, objective `sre2l`) is"), "{error}");
    let kept = here.path("runs/digits/SRe2L/distilled-last-good.safetensors");
    let tensors = guard_sdk::Tensor::read_safetensors(kept).unwrap();
    assert!(tensors.iter().all(|(_, tensor)| tensor.isfinite().all().int64_value(&[]) == 1));
}

#[test]
fn a_batch_that_batch_norm_cannot_learn_from_is_refused() {
    let here = Here::new();
    // 1,437 images in batches of 4 leave one over, and four stages leave one position of 8 by 8 pixels.
    let resnet = "network={ architecture = \"resnet\", width = 4, blocks = [1, 1, 1, 1] }";
    let error = here.run(&quick(&["--quiet", "--set", resnet, "--set", "training.batch_size=4"]));
    assert_eq!(error.status.code(), Some(1));
    assert!(
        stderr(&error).contains("sees a single value per channel in a batch of one image"),
        "{}",
        stderr(&error)
    );
}

#[test]
fn sizes_beyond_reason_are_refused_before_anything_runs() {
    let here = Here::new();
    for (set, part) in [
        ("network.depth=20000000", "must be at most 64"),
        ("network.depth=9", "too small for 9 poolings"),
        ("network.width=65536", "parameters, more than"),
        ("network.width=9223372036854775807", "must be at most 65536"),
    ] {
        let error = here.fails(2, &["--dry-run", "--set", set]);
        assert!(error.contains(part), "{set}: {error}");
    }
}

#[test]
fn plugins_before_and_after_the_command_are_all_loaded() {
    let here = Here::new();
    for arguments in [
        &["--plugin", "./missing.so", "run", "--dry-run", "--plugin", "guard_curv"][..],
        &["--plugin", "guard_curv", "plugin", "list", "--plugin", "./missing.so"],
    ] {
        assert!(here.fails(2, arguments).contains("plugin `./missing.so` was not found"));
    }
}

#[test]
fn plugins_are_listed_and_explained() {
    let here = Here::new();
    let list: Value = serde_json::from_str(&here.succeeds(&["plugin", "list", "--format", "json"])).unwrap();
    let curv = list.as_array().unwrap().iter().find(|plugin| plugin["id"] == "guard.curv").unwrap();
    assert_eq!(curv["torch"], guard_sdk::TORCH_VERSION);
    assert_eq!(curv["blake3"].as_str().unwrap().len(), 64);
    assert_eq!(curv["methods"][0]["interface"], "guard.regularizer/0.1");
    let info: Value =
        serde_json::from_str(&here.succeeds(&["plugin", "info", "guard_curv", "--format", "json"])).unwrap();
    assert_eq!(info["methods"][0]["options"]["properties"]["radius"]["default"], 1.5);
    assert!(here.succeeds(&["plugin", "info", "guard_curv"]).contains("form (default \"norm\")"));
}

#[test]
fn a_plugin_that_is_none_is_one_line_and_exit_code_2() {
    let here = Here::new();
    fs::write(here.path("notes.so"), "not a library").unwrap();
    for command in [
        &["plugin", "info", "./notes.so"][..],
        &["run", "--plugin", "./notes.so"],
        &["--plugin", "notes.so", "doctor"],
    ] {
        let error = here.fails(2, command);
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = here.fails(2, &["--plugin", "notes.so"]);
    assert!(error.contains("write `./notes.so`"), "{error}");
}

#[test]
fn doctor_finds_the_bundled_plugins_and_libtorch() {
    let here = Here::new();
    let facts: Value = serde_json::from_str(&here.succeeds(&["doctor", "--format", "json"])).unwrap();
    assert_eq!(facts["libtorch"], guard_sdk::TORCH_VERSION);
    assert!(facts["libtorch_file"].as_str().unwrap().contains("libtorch_cpu"));
    assert!(
        facts["plugins"]
            .as_array()
            .unwrap()
            .iter()
            .any(|plugin| plugin["id"] == "guard.sre2l" && plugin["ok"] == true)
    );
}

#[test]
fn doctor_judges_every_line_and_helps() {
    let here = Here::new();
    here.recipe("[data]\ndataset = \"digits\"\n");
    fs::write(here.path("lost.toml"), "[data]\ndataset = \"cifar10\"\nroot = \"nowhere\"\n").unwrap();
    let text = here.succeeds(&["doctor", "my.toml"]);
    for line in [
        "ok    libtorch        2.11",
        "ok    threads ",
        "ok    data            digits: 1437 training and 360",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "no `{line}` in {text}");
    }
    let output = here.run(&["doctor", "my.toml", "lost.toml", "--format", "json"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let data: Vec<&Value> =
        told["findings"].as_array().unwrap().iter().filter(|each| each["name"] == "data").collect();
    assert_eq!((&data[0]["verdict"], &data[1]["verdict"]), (&"ok".into(), &"fail".into()));
    assert!(data[1]["what"].as_str().unwrap().contains("(`lost.toml`)"), "{}", data[1]);
    assert_eq!(told["ok"], false);
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let here = Here::new();
    here.succeeds(&["man", "--out", "man1"]);
    for page in ["guard-host.1", "guard-host-run.1", "guard-host-recipe-diff.1", "guard-host-plugin-list.1"] {
        let text = fs::read_to_string(here.path("man1").join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains("SYNOPSIS"), "{page}: {text}");
    }
    let run = fs::read_to_string(here.path("man1/guard-host-run.1")).unwrap();
    assert!(run.contains("Run only this variant of the recipe"), "{run}");
    assert!(!here.path("man1/guard-host-plugin-check-child.1").exists());
}

#[test]
fn a_dry_run_for_programs_tells_origins_and_the_estimate() {
    let here = Here::new();
    let plan = here.succeeds(&["--dry-run", "--quiet", "--format", "json", "--set", "training.epochs=3"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let origins = &plan["origins"][0];
    assert_eq!(origins["/training/epochs"], "--set training.epochs=3");
    assert_eq!(origins["/data/dataset"].as_str().unwrap().split(':').next(), Some("digits.toml"));
    assert_eq!(origins["/training/label_smoothing"], "default");
    assert!(plan["estimates"][0]["seconds"].as_f64().unwrap() > 0.0, "{}", plan["estimates"]);
}

#[test]
fn with_json_progress_is_an_object_a_line_and_the_result_stays_alone() {
    let here = Here::new();
    let output = here.run(&quick(&["--format", "json", "--out", "run"]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let _: Value = serde_json::from_slice(&output.stdout).unwrap();
    let talk = stderr(&output);
    let events: Vec<Value> = talk.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| events.iter().filter(|each| each["event"] == event).count();
    assert_eq!((of("estimate"), of("done")), (2, 1), "{talk}");
    assert!(of("finished") >= 6, "{talk}");
    let trained = events.iter().find(|each| each["event"] == "finished" && each["stage"] == "train").unwrap();
    assert!(trained["variant"] == "SRe2L" && trained["seconds"].as_f64().unwrap() > 0.0, "{trained}");
    assert!(stderr(&here.run(&quick(&["--format", "json", "--quiet", "--out", "other"]))).is_empty());
}

#[test]
fn a_profile_has_a_span_for_every_stage_step_term_and_plugin_call() {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--profile", "trace.json", "--out", "run"]));
    let trace: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(here.path("trace.json")).unwrap()).unwrap();
    let begun = |name: &str| {
        trace.iter().filter(|each| each["ph"] == "B" && each["name"] == name).collect::<Vec<_>>()
    };
    let stages: Vec<&str> = begun("stage").iter().filter_map(|each| each["args"]["stage"].as_str()).collect();
    assert!(stages.contains(&"\"train\"") || stages.contains(&"train"), "{stages:?}");
    assert!(begun("step").len() > 20 && begun("term").len() > 20 && begun("plugin").len() > 20);
    assert!(begun("plugin").iter().any(|each| each["args"]["who"].to_string().contains("curvature")));
    // Every span ends.
    let ended = trace.iter().filter(|each| each["ph"] == "E").count();
    assert_eq!(trace.iter().filter(|each| each["ph"] == "B").count(), ended);
    let error = here.fails(2, &["--profile", "no/such/trace.json", "doctor"]);
    assert!(error.contains("`no/such/trace.json` cannot be written"), "{error}");
}

#[test]
fn bad_usage_is_exit_code_2_with_advice() {
    let here = Here::new();
    assert!(here.fails(2, &["docter"]).contains("did you mean the command `doctor`?"));
    assert!(here.fails(2, &["--no-such-flag"]).contains("--no-such-flag"));
    assert!(here.fails(2, &["--quiet", "run"]).contains("come after the command"));
}

/// The README shows what the commands really print: same caption, same columns, same rows.
#[test]
fn the_readmes_table_is_that_of_the_built_in_recipe() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let here = Here::new();
    let table = here.succeeds(&quick(&["--quiet", "--set", "student.count=3"]));
    let caption = table.lines().next().unwrap();
    assert!(readme.contains(caption), "the README lacks `{caption}`");
    let labels =
        |line: &str| -> Vec<String> { line.split('|').take(3).map(|cell| cell.trim().to_string()).collect() };
    for line in table.lines().filter(|line| line.starts_with("| ")) {
        let shown = readme.lines().any(|shown| labels(shown) == labels(line));
        assert!(shown, "the README lacks a row like `{line}`");
    }
}

#[test]
fn without_attacks_nothing_is_said_of_robustness() {
    let here = Here::new();
    let sets = [
        "--quiet",
        "--variant",
        "SRe2L",
        "--set",
        "evaluate.attacks=[]",
        "--set",
        "evaluate.curvature_images=20",
    ];
    let table = here.succeeds(&quick(&sets));
    assert!(!table.contains("robust") && !table.contains("ε ="), "{table}");
    assert!(table.contains("|   curvature |"), "{table}");
}
