//! The decoupled objectives from the command line: what they make, what they need, what is refused.

mod here;

use guard_sdk::{Kind, Tensor};
use here::{Here, json, quick};
use std::collections::HashMap;

/// The built-in recipe without its variants, quick.
fn alone<'a>(more: &[&'a str]) -> Vec<&'a str> {
    quick(&[&["--quiet", "--out", "run", "--set", "variants=[]"], more].concat())
}

/// `distilled/distilled.safetensors` by name.
fn distilled(here: &Here, name: &str) -> Tensor {
    let tensors = Tensor::read_safetensors(here.path("run/distilled/distilled.safetensors")).unwrap();
    tensors.into_iter().find(|(found, _)| found == name).unwrap().1
}

#[test]
fn a_random_subset_holds_real_images_of_every_class_and_trains_no_teacher_for_hard_labels() {
    let here = Here::new();
    let random = "distill={ objective = \"random\", images_per_class = 3 }";
    here.succeeds(&alone(&["--set", random, "--set", "relabel.labels=hard"]));
    let (images, labels) = (distilled(&here, "images"), distilled(&here, "labels"));
    assert_eq!(Vec::<i64>::try_from(labels).unwrap(), (0..30).map(|index| index / 3).collect::<Vec<_>>());
    // The digits have 17 levels; nothing that was optimised or averaged keeps to them.
    let levels = &images * 16.0;
    assert!((&levels - levels.round()).abs().max().double_value(&[]) < 1e-5);
    let flat = images.flatten(1, -1);
    let distances = Tensor::cdist(&flat, &flat, 2.0, None) + Tensor::eye(30, (Kind::Float, images.device()));
    assert!(distances.min().double_value(&[]) > 0.1, "an image was drawn twice");
    assert!(!here.path("run/checkpoints/teacher.safetensors").exists());
    assert_eq!(json(&here.path("run/distilled/manifest.json"))["objective"], "random");
}

#[test]
fn another_seed_draws_another_subset_and_soft_labels_bring_a_teacher() {
    let here = Here::new();
    let random = "distill={ objective = \"random\", images_per_class = 1 }";
    let images = |out: &str, seed: &str| {
        let sets = ["--quiet", "--out", out, "--set", "variants=[]", "--set", random, "--set", seed];
        here.succeeds(&quick(&[&sets[..], &["--set", "relabel.labels=soft"]].concat()));
        assert!(here.path(out).join("checkpoints/teacher.safetensors").exists());
        // Read in no particular order.
        let tensors =
            Tensor::read_safetensors(here.path(out).join("distilled/distilled.safetensors")).unwrap();
        tensors.into_iter().collect::<HashMap<_, _>>()
    };
    let (first, second) = (images("a", "seed=0"), images("b", "seed=1"));
    assert!(first.contains_key("teacher_logits"));
    assert_ne!(first["images"], second["images"]);
}

#[test]
fn more_images_per_class_than_there_are_is_an_error_that_names_the_class() {
    let here = Here::new();
    let many = "distill={ objective = \"random\", images_per_class = 145 }";
    let error = here.fails(1, &alone(&["--set", many, "--set", "relabel.labels=hard"]));
    assert!(error.contains("fewer than the 145 images per class"), "{error}");
}

#[test]
fn cda_runs_and_its_schedule_is_told_apart_from_what_it_does_not_know() {
    let here = Here::new();
    let cda = "distill={ objective = \"cda\", iterations = 3, options = { milestone = 0.5, schedule = \"linear\" } }";
    here.succeeds(&alone(&["--set", cda]));
    assert_eq!(distilled(&here, "images").size(), [100, 1, 8, 8]);
    let wrong = "distill={ objective = \"cda\", options = { milestones = 0.5, smallest_crop = 2.0 } }";
    let error = here.fails(2, &["--dry-run", "--set", "variants=[]", "--set", wrong]);
    assert!(
        error.contains("unknown key `milestones`") && error.contains("did you mean `milestone`?"),
        "{error}"
    );
    assert!(error.contains("`distill.options.smallest_crop` must be at most 1, found 2"), "{error}");
}

#[test]
fn cda_with_a_network_without_batch_norm_is_refused_with_what_works() {
    let here = Here::new();
    let cda = "distill={ objective = \"cda\" }";
    let error = here.fails(2, &["--dry-run", "--set", cda, "--set", "network.norm=instance"]);
    assert!(error.contains("objective `cda` needs the running statistics of BatchNorm layers"), "{error}");
    assert!(error.contains("norm = \"batch\""), "{error}");
}

#[test]
fn a_batch_norm_layer_that_the_network_has_not_is_told_before_anything_runs() {
    let here = Here::new();
    let weights = |layer: &str| format!("distill.options.layer_weights={{ \"{layer}\" = 0.5 }}");
    here.succeeds(&["--dry-run", "--set", &weights("features.5")]);
    let error = here.fails(2, &["--dry-run", "--set", &weights("bn1")]);
    assert!(error.contains("the network has no BatchNorm layer `bn1`"), "{error}");
    assert!(error.contains("it has `features.1`, `features.5`, `features.9`"), "{error}");
}

#[test]
fn classes_that_are_optimised_apart_come_in_the_order_of_their_labels() {
    let here = Here::new();
    let apart = "distill.options.classes_together=3";
    here.succeeds(&alone(&["--set", apart, "--set", "distill.images_per_class=2"]));
    let labels = Vec::<i64>::try_from(distilled(&here, "labels")).unwrap();
    assert_eq!(labels, (0..20).map(|index| index / 2).collect::<Vec<_>>());
    let losses = std::fs::read_to_string(here.path("run/metrics.jsonl")).unwrap();
    // Groups of 3, 3, 3 and 1 class for either image, 3 iterations each: of 24 in all, 0, 10, 20 and 23 are recorded.
    let recorded = losses.lines().filter(|line| line.contains("\"stage\":\"distill\"")).count();
    assert_eq!(recorded, 4);
}

#[test]
fn rded_takes_the_crops_that_the_teacher_finds_most_like_their_class() {
    let here = Here::new();
    let cross_entropy = |rded: &str| {
        let arguments =
            ["--quiet", "--out", "run", "--set", "variants=[]", "--set", rded, "--set", "training.epochs=3"];
        let more = ["--set", "student.epochs=1", "--set", "student.count=1", "--set", "relabel.labels=soft"];
        here.succeeds(&[&arguments[..], &more, &["--set", "evaluate={}"]].concat());
        let (logits, labels) = (distilled(&here, "teacher_logits"), distilled(&here, "labels"));
        std::fs::remove_dir_all(here.path("run")).unwrap();
        assert_eq!(logits.size(), [40, 10]);
        logits.cross_entropy_for_logits(&labels).double_value(&[])
    };
    // Among one crop of 4 images of a class, or the best of 5 of 60.
    let some =
        "distill={ objective = \"rded\", images_per_class = 4, options = { crops = 1, candidates = 1 } }";
    let best =
        "distill={ objective = \"rded\", images_per_class = 4, options = { crops = 5, candidates = 60 } }";
    let (some, best) = (cross_entropy(some), cross_entropy(best));
    assert!(best < 0.5 * some, "{best} {some}");
}

#[test]
fn rded_stitches_four_crops_and_says_how_many_images_that_takes() {
    let here = Here::new();
    let rded = |per_class: usize| {
        format!(
            "distill={{ objective = \"rded\", images_per_class = {per_class}, options = {{ factor = 2, crops = 1 }} }}"
        )
    };
    here.succeeds(&alone(&["--set", &rded(2)]));
    assert_eq!(distilled(&here, "images").size(), [20, 1, 8, 8]);
    std::fs::remove_dir_all(here.path("run")).unwrap();
    let error = here.fails(1, &alone(&["--set", &rded(40)]));
    assert!(error.contains("fewer than the 160 crops that its images take"), "{error}");
}

/// `name` of a safetensors file in the run.
fn tensor_of(here: &Here, file: &str, name: &str) -> Tensor {
    let tensors = Tensor::read_safetensors(here.path("run").join(file)).unwrap();
    tensors.into_iter().find(|(found, _)| found == name).unwrap().1
}

#[test]
fn stored_labels_are_the_teachers_word_on_what_students_see_and_their_size_is_told_first() {
    let here = Here::new();
    let stored = ["--out", "run", "--set", "variants=[]", "--set", "relabel.labels=stored"];
    let output = here.run(&quick(&[&stored[..], &["--set", "student.augment=[\"crop\"]"]].concat()));
    let said = here::stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let path = here.path("run/distilled/soft-labels.safetensors");
    let size = "soft labels of 50 images in 2 epochs, 10 classes as float16";
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("relabel: ")).collect();
    assert!(lines[0].contains(size) && lines[0].contains("(20 bytes per image and epoch)"), "{said}");
    let logits = tensor_of(&here, "distilled/soft-labels.safetensors", "logits");
    assert_eq!((logits.size(), logits.kind()), (vec![2, 50, 10], Kind::Half));
    assert!(std::fs::metadata(path).unwrap().len() < 23 * 2 * 50 + 600);
    assert_eq!(json(&here.path("run/distilled/manifest.json"))["labels"], "stored");
    // Each epoch has its own views.
    assert_ne!(logits.get(0), logits.get(1));
}

#[test]
fn students_of_stored_labels_differ_in_their_seeds_only() {
    let here = Here::new();
    let students = |out: &str, more: &[&str]| {
        let stored = ["--quiet", "--out", out, "--set", "variants=[]", "--set", "relabel.labels=stored"];
        here.succeeds(&quick(&[&stored[..], more].concat()));
        ["student-0", "student-1"].map(|student| {
            std::fs::read(here.path(out).join(format!("checkpoints/{student}.safetensors"))).unwrap()
        })
    };
    let [first, second] = students("a", &[]);
    assert_ne!(first, second);
    assert_eq!(students("b", &[]), [first, second]);
    let [lossy, _] = students("c", &["--set", "relabel.top_k=3", "--set", "relabel.storage=int8"]);
    assert_ne!(lossy, students("a2", &[])[0]);
}

#[test]
fn several_student_networks_are_reported_in_rows_of_their_own() {
    let here = Here::new();
    let list = "students=[\"resnet20\", { architecture = \"convnet\", depth = 2, width = 8 }]";
    let table = here.succeeds(&alone(&["--set", list]));
    for row in ["| digits  | teacher    |", "| digits  | 2 resnet20 |", "| digits  | 2 convnet  |"] {
        assert!(table.contains(row), "{table}");
    }
    for student in ["resnet20-0", "resnet20-1", "convnet-0", "convnet-1"] {
        assert!(here.path(&format!("run/checkpoints/{student}.safetensors")).is_file(), "{student}");
        assert!(here.path(&format!("run/evaluations/{student}.safetensors")).is_file(), "{student}");
    }
    let results = json(&here.path("run/results.json"));
    let students = results["variants"][0]["students"].as_array().unwrap();
    let named: Vec<_> = students.iter().map(|each| (each["network"].as_str(), &each["student"])).collect();
    assert_eq!(named.len(), 4);
    assert_eq!(named[3], (Some("convnet"), &serde_json::json!(1)));
}

#[test]
fn what_does_not_fit_together_about_students_and_labels_is_told_before_anything_runs() {
    let here = Here::new();
    let refused = |sets: &[&str]| {
        let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        here.fails(2, &[&["--dry-run", "--set", "variants=[]"][..], &arguments].concat())
    };
    for (sets, part) in [
        (
            &["relabel.labels=stored", "relabel.top_k=11"][..],
            "`relabel.top_k` is 11, but there are 10 classes",
        ),
        (&["relabel.top_k=0"], "`relabel.top_k` must be at least 1, found 0"),
        (&["relabel.storage=int4"], "unknown value `int4` for `relabel.storage`"),
        (&["relabel.labels=store"], "did you mean `stored`?"),
        (&["student.kl_weight=0"], "the students' loss has no terms"),
        (&["student.preset=sre2l-cifra"], "did you mean `sre2l-cifar`?"),
        (&["students=[\"resnet19\"]"], "unknown value `resnet19` for `students.0`"),
        (&["students=[\"vit_tiny\"]"], "images of 8x8 are too small for patches of 16x16"),
        (
            &["students=[\"resnet20\"]", "student.network={ architecture = \"resnet20\" }"],
            "`student.network` is given beside `students`",
        ),
    ] {
        let error = refused(sets);
        assert!(error.contains(part), "{sets:?}: {error}");
    }
}

#[test]
fn a_variant_can_be_run_alone_and_an_unknown_one_is_told_with_those_there_are() {
    let here = Here::new();
    let chosen = ["--dry-run", "--format", "json", "--variant", "SRe2L + curvature"];
    let plan: serde_json::Value = serde_json::from_str(&here.succeeds(&chosen)).unwrap();
    let names: Vec<_> = plan["variants"].as_array().unwrap().iter().map(|variant| &variant["name"]).collect();
    assert_eq!(names, ["SRe2L + curvature"]);
    let error = here.fails(2, &["--dry-run", "--variant", "CDA"]);
    assert!(error.contains("the recipe has no variant `CDA`"), "{error}");
    assert!(error.contains("it has `SRe2L`, `SRe2L + curvature`"), "{error}");
}

#[test]
fn a_dry_run_estimates_time_memory_and_disk_on_stderr_and_leaves_stdout_to_the_plan() {
    let here = Here::new();
    let output = here.run(&["--dry-run", "--set", "relabel.labels=stored"]);
    assert!(toml::from_str::<toml::Table>(&String::from_utf8_lossy(&output.stdout)).is_ok());
    let said = here::stderr(&output);
    assert_eq!(said.lines().count(), 2, "{said}");
    for line in said.lines() {
        for part in
            [": about ", "(train ", "distill ", "relabel ", "students ", "evaluate ", "of memory", "of disk"]
        {
            assert!(line.contains(part), "`{part}` is missing in: {line}");
        }
    }
    let without = here.run(&[
        "--dry-run",
        "--set",
        "evaluate.attacks.0.use=autoattack",
        "--set",
        "evaluate.attacks.0.options={}",
    ]);
    assert!(here::stderr(&without).contains("; without attack `autoattack`"), "{}", here::stderr(&without));
    assert_eq!(here::stderr(&here.run(&["--dry-run", "--quiet"])), "");
}
