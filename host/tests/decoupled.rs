//! The decoupled objectives from the command line: what they make, what they need, what is refused.

mod here;

use guard_sdk::{Kind, Tensor};
use here::{Here, json, quick};

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
        Tensor::read_safetensors(here.path(out).join("distilled/distilled.safetensors")).unwrap()
    };
    let (first, second) = (images("a", "seed=0"), images("b", "seed=1"));
    assert!(first.iter().any(|(name, _)| name == "teacher_logits"));
    assert_ne!(first[0].1, second[0].1);
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
