//! Commands that need no recipe, and recipes on data of one's own, as a user meets them.

mod here;

use here::{Here, json, quick, stderr};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::fs;

/// What `network` and its options are in the built-in recipe.
const CONVNET: [&str; 8] = [
    "--architecture",
    "convnet",
    "--set",
    "network.depth=3",
    "--set",
    "network.width=32",
    "--set",
    "network.norm=batch",
];

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A run of the built-in recipe and the arguments that name its teacher.
fn trained() -> (Here, Vec<&'static str>) {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--out", "run", "--set", "variants=[]"]));
    let mut arguments =
        vec!["--network", "run/checkpoints/teacher.safetensors", "--dataset", "digits", "--quiet"];
    arguments.extend(CONVNET);
    (here, arguments)
}

/// A folder of class folders with `count` small pictures each, in two splits.
fn photos(here: &Here, count: u8) {
    for (split, offset) in [("train", 0), ("val", 100)] {
        for (class, tint) in [("apple", [200, 20, 20]), ("pear", [20, 200, 20])] {
            let folder = here.path(&format!("photos/{split}/{class}"));
            fs::create_dir_all(&folder).unwrap();
            for index in 0..count {
                let picture = RgbImage::from_fn(40 + u32::from(index), 36, |x, y| {
                    Rgb(tint
                        .map(|level: u8| level.wrapping_add((x * 2 + y) as u8).wrapping_add(offset + index)))
                });
                picture.save(folder.join(format!("{index}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn evaluate_finds_what_the_run_found_and_follows_the_contract() {
    let (here, arguments) = trained();
    let run = json(&here.path("run/results.json"));
    let teacher = &run["variants"][0]["teacher"][0];
    let call: Vec<&str> = [
        &["evaluate"],
        arguments.as_slice(),
        &["--attack", "pgd", "--epsilon", "0.05", "--format", "json"],
        &["--set", "evaluate.attacks.0.options={ steps = 2, relative_step_size = 0.25 }"],
    ]
    .concat();
    let found = parse(&here.succeeds(&call));
    assert_eq!(found["clean"], teacher["clean"]);
    assert_eq!(found["attacks"], teacher["attacks"]);
    assert_eq!((&found["threat"]["norm"], &found["images"]), (&"linf".into(), &360.into()));
    let flags = found["flags"].as_array().unwrap();
    assert!(flags.iter().any(|flag| flag["code"] == "not-converged"), "two steps are not enough: {flags:?}");
}

#[test]
fn attack_keeps_the_adversarial_images_and_shows_some() {
    let (here, arguments) = trained();
    let call: Vec<&str> =
        [&["attack"], arguments.as_slice(), &["--attack", "fgsm", "--epsilon", "8/255", "--out", "images"]]
            .concat();
    here.succeeds(&call);
    let tensors =
        guard_sdk::Tensor::read_safetensors(here.path("images/fgsm-linf-0.031373.safetensors")).unwrap();
    let of = |name: &str| tensors.iter().find(|(found, _)| found == name).unwrap().1.shallow_clone();
    let (clean, adversarial) = (of("clean"), of("adversarial"));
    assert_eq!(clean.size(), adversarial.size());
    assert_eq!(clean.size()[0], of("labels").size()[0]);
    let moved = (adversarial - clean).abs().max().double_value(&[]);
    assert!((moved - 8.0 / 255.0).abs() < 1e-6, "{moved}");
    let picture = image::open(here.path("images/fgsm-linf-0.031373.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (10 * 66, 3 * 66));

    // What cannot be written is told before anything is attacked, on a clean stdout.
    let into = |name: &'static str| {
        [&["attack"], arguments.as_slice(), &["--attack", name, "--epsilon", "8/255"]].concat()
    };
    fs::write(here.path("taken"), "").unwrap();
    let taken = here.fails(2, &[into("fgsm"), vec!["--out", "taken"]].concat());
    assert!(taken.contains("`taken` cannot be made"), "{taken}");
    let norm = here.fails(2, &into("cw"));
    assert!(norm.contains("`cw` is not defined for the norm `linf`") && norm.contains("`l2`"), "{norm}");
}

#[test]
fn another_network_lends_its_gradients_and_what_is_wrong_with_it_is_told_at_once() {
    let (here, arguments) = trained();
    let with = |more: &[&'static str]| {
        let transfer = ["--attack", "transfer", "--epsilon", "0.1", "--set", "evaluate.probe_images=0"];
        [&["evaluate"], arguments.as_slice(), &transfer, more].concat()
    };
    let other = ["--set", "evaluate.attacks.0.options={ network = \"other\" }"];
    let given = "--surrogate=other=run/checkpoints/student-0.safetensors";
    let found = parse(&here.succeeds(&[with(&other), vec![given, "--format", "json"]].concat()));
    let right = |value: &Value| value["correct"].as_u64().unwrap();
    assert!(right(&found["attacks"][0]) < right(&found["clean"]), "{found}");

    let unknown = here
        .fails(2, &[with(&other), vec!["--surrogate=othre=run/checkpoints/student-0.safetensors"]].concat());
    assert!(
        unknown.contains("there is no network `other` here") && unknown.contains("did you mean `othre`?"),
        "{unknown}"
    );
    let missing = here.fails(2, &[with(&other), vec!["--surrogate=other=nowhere.pth"]].concat());
    assert!(missing.contains("nowhere.pth"), "{missing}");
    let set = "evaluate.networks.other.network={ architecture = \"convnet\", width = 16, norm = \"batch\" }";
    let wide = here.fails(2, &[with(&other), vec![given, "--set", set]].concat());
    assert!(wide.contains("student-0.safetensors") && wide.contains("features.0.weight"), "{wide}");
    let teacher = ["--set", "evaluate.attacks.0.options={ network = \"teacher\" }"];
    let teacher = here.fails(2, &with(&teacher));
    assert!(teacher.contains("there is no network `teacher` here"), "{teacher}");
}

#[test]
fn a_curve_a_baseline_and_the_flags_are_in_report_and_results() {
    let here = Here::new();
    let sets = [
        "evaluate.threat.epsilon=curve",
        "evaluate.probe_images=40",
        "evaluate.attacks=[{ use = \"pgd\", options = { steps = 1 } }, { use = \"transfer\", options = { network = \"teacher\", attack = { use = \"fgsm\" } } }]",
        "data.test_images=100",
        "variants.0.baseline=true",
    ];
    let mut call = quick(&["--quiet", "--out", "run"]);
    sets.iter().for_each(|set| call.extend(["--set", set]));
    let table = here.succeeds(&call);
    assert!(table.contains("| SRe2L (baseline)  | teacher    |"), "{table}");
    assert!(table.contains("ε = 0.0627") && table.contains("flag "), "{table}");
    let page = fs::read_to_string(here.path("run/report.html")).unwrap();
    for part in ["<polyline points=", "<strong>Flag</strong> <code>", "SRe2L (baseline)", "relative_drop"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("No variant is a baseline"));
    let results = json(&here.path("run/results.json"));
    let line = &results["table"][0];
    assert_eq!((&line["baseline"], line["robust"].as_array().unwrap().len()), (&true.into(), 6));
    let legacy = json(&here.path("run/legacy.json"));
    assert_eq!(legacy["networks"].as_array().unwrap().len(), 4 * 6);
    assert!(legacy["networks"][5]["relative_drop"].is_number() && legacy["caveats"]["rr"].is_string());
    // What the teacher's own images do to the teacher is no transfer.
    let flags = results["variants"][0]["teacher"][0]["flags"].as_array().unwrap();
    assert!(flags.iter().any(|flag| flag["code"] == "attack-caveat"), "{flags:?}");
}

#[test]
fn evaluate_says_what_is_wrong_with_weights_and_options() {
    let (here, arguments) = trained();
    let with = |more: &[&'static str]| [&["evaluate"], arguments.as_slice(), more].concat();
    let depth = here.fails(2, &with(&["--set", "network.depth=2"]));
    assert!(depth.contains("features.8.weight") && depth.contains("teacher.safetensors"), "{depth}");
    let attack = here.fails(2, &with(&["--attack", "pdg", "--epsilon", "0.1"]));
    assert!(attack.contains("did you mean `pgd`?"), "{attack}");
    let radius = here.fails(2, &with(&["--attack", "pgd", "--epsilon", "8/0"]));
    assert!(radius.contains("divides by zero"), "{radius}");
    assert!(here.fails(2, &with(&["--attack", "pgd"])).contains("--epsilon"));
}

#[test]
fn the_built_in_recipe_runs_on_a_folder_of_photos_by_changing_data_and_network_only() {
    let here = Here::new();
    photos(&here, 12);
    let sets = ["data.dataset=imagefolder", "data.root=photos", "data.image_size=32", "network.width=8"];
    let mut call = quick(&["--quiet", "--out", "run"]);
    sets.iter().for_each(|set| call.extend(["--set", set]));
    let table = here.succeeds(&call);
    assert!(table.contains("24 test images of imagefolder"), "{table}");
    let manifest = json(&here.path("run/SRe2L/distilled/manifest.json"));
    assert_eq!(manifest["classes"], serde_json::json!(["apple", "pear"]));
    assert_eq!(manifest["mean"].as_array().unwrap().len(), 3);
    assert!(here.path("run/SRe2L/distilled/images/pear/0004.png").is_file());
}

#[test]
fn a_corrupt_photo_stops_the_run_or_is_left_out_and_reported() {
    let here = Here::new();
    photos(&here, 6);
    let good = fs::read(here.path("photos/train/pear/3.png")).unwrap();
    fs::write(here.path("photos/train/pear/3.png"), &good[..good.len() / 2]).unwrap();
    let mut call =
        quick(&["--quiet", "--out", "run", "--set", "data.dataset=imagefolder", "--set", "data.root=photos"]);
    call.extend(["--set", "data.image_size=32", "--set", "network.width=8"]);
    let stopped = here.fails(1, &call);
    assert!(stopped.contains("photos/train/pear/3.png") && stopped.contains("on_error"), "{stopped}");
    assert!(!here.path("run").exists(), "nothing was begun");
    call.extend(["--set", "data.on_error=skip"]);
    here.succeeds(&call);
    let skipped = &json(&here.path("run/results.json"))["skipped"];
    assert_eq!(skipped.as_array().unwrap().len(), 1);
    assert!(skipped[0]["file"].as_str().unwrap().ends_with("photos/train/pear/3.png"));
    assert!(fs::read_to_string(here.path("run/report.html")).unwrap().contains("pear/3.png"));
}

#[test]
fn data_info_tells_what_there_is_and_check_what_is_wrong() {
    let here = Here::new();
    photos(&here, 3);
    let call = ["data", "info", "imagefolder", "--root", "photos", "--image-size", "16", "--format", "json"];
    let info = parse(&here.succeeds(&[&call[..], &["--sheet", "sheet.png"]].concat()));
    assert_eq!(info["train"], serde_json::json!({ "images": 6, "per_class": [3, 3] }));
    assert_eq!(info["image"], serde_json::json!([3, 16, 16]));
    let sheet = image::open(here.path("sheet.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (10 * 66, 2 * 66));
    assert!(
        here.succeeds(&["data", "check", "imagefolder", "--root", "photos"])
            .contains("12 images, 0 problems")
    );

    fs::write(here.path("photos/train/pear/broken.jpg"), b"\xff\xd8\xff\xe0 no more").unwrap();
    fs::copy(here.path("photos/train/pear/0.png"), here.path("photos/val/apple/9.png")).unwrap();
    let output = here.run(&["data", "check", "imagefolder", "--root", "photos"]);
    assert_eq!(output.status.code(), Some(1));
    let listed = String::from_utf8_lossy(&output.stdout);
    for part in
        ["pear/broken.jpg", "val/apple/9.png", "14 images, 2 problems", "accuracy on them says nothing"]
    {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    assert!(stderr(&output).contains("has 2 problems"));
}

#[test]
fn an_unknown_data_set_or_a_missing_root_is_told_with_what_to_do() {
    let here = Here::new();
    let unknown = here.fails(2, &["data", "info", "cifar-10"]);
    assert!(unknown.contains("did you mean `cifar10`?"), "{unknown}");
    let rootless = here.fails(2, &["--dry-run", "--set", "data.dataset=npz"]);
    assert!(rootless.contains("needs a `root`") && rootless.contains("--root"), "{rootless}");
    let missing =
        here.fails(2, &["--dry-run", "--set", "data.dataset=npz", "--set", "data.root=nowhere.npz"]);
    assert!(missing.contains("`nowhere.npz`") && missing.contains("data.root"), "{missing}");
}

#[test]
fn a_plan_needs_no_data_where_the_recipe_says_what_is_in_it() {
    let here = Here::new();
    let sets = ["data.dataset=imagefolder", "data.root=nowhere", "data.classes=7", "data.image_size=32"];
    let mut call = vec!["--dry-run", "--format", "json"];
    sets.iter().for_each(|set| call.extend(["--set", set]));
    let plan = parse(&here.succeeds(&call));
    assert_eq!(plan["data"]["classes"].as_array().unwrap().len(), 7);
    assert_eq!(plan["data"]["mean"], serde_json::json!([]), "not computed yet");
    let known = parse(&here.succeeds(&[
        "--dry-run",
        "--format",
        "json",
        "--set",
        "data.dataset=cifar100",
        "--set",
        "data.root=x",
    ]));
    assert_eq!(known["data"]["std"], serde_json::json!([0.2673, 0.2564, 0.2762]));
}
