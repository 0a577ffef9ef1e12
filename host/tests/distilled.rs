//! Synthetic sets of others: taken in, looked at, handed out, and trained on.

mod here;

use guard_sdk::{Kind, Tensor};
use here::{Here, json, stderr};
use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

fn fixture(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sets")).join(name);
    path.canonicalize().unwrap_or(path).display().to_string()
}

/// The pixels of `make.py`.
fn pixels() -> Tensor {
    let values: Vec<f32> =
        (0..640).map(|i| if i == 0 { 1.25 } else { (f64::from(7 * i % 31) / 30.0) as f32 }).collect();
    Tensor::from_slice(&values).reshape([10, 1, 8, 8])
}

fn tensors(folder: &Path) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(folder.join("distilled.safetensors")).unwrap().into_iter().collect()
}

fn close(found: &Tensor, expected: &Tensor) -> bool {
    found.size() == expected.size() && (found - expected).abs().max().double_value(&[]) < 1e-6
}

fn import<'a>(source: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["distilled", "import", source, "--dataset", "digits", "--out", out], more].concat()
}

#[test]
fn a_set_of_dc_becomes_pixels_and_what_was_learned_outside_of_their_range_is_kept_and_counted() {
    let here = Here::new();
    let source = fixture("dc.pt");
    let output = here.run(&import(&source, "set", &[]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 of 640 values (0.16 %) lie outside of [0,1]"), "{}", stderr(&output));
    let set = tensors(&here.path("set"));
    // The last of the two repetitions.
    assert!(close(&set["images"], &pixels()));
    assert!(set["labels"].equal(&Tensor::arange(10, (Kind::Int64, guard_sdk::Device::Cpu))));
    let manifest = json(&here.path("set/manifest.json"));
    assert_eq!((&manifest["space"], &manifest["labels"]), (&"pixels".into(), &"hard".into()));
    assert_eq!((&manifest["mean"], &manifest["std"]), (&json!([0.305386]), &json!([0.375507])));
    let imported = &manifest["imported"];
    assert_eq!((&imported["form"], &imported["space"]), (&"dc".into(), &"normalised".into()));
    assert_eq!((&imported["outside"], &imported["source"]), (&1.into(), &source.as_str().into()));
    assert_eq!(imported["blake3"]["dc.pt"].as_str().unwrap().len(), 64);
    let picture = image::open(here.path("set/images/7/0000.png")).unwrap().into_luma8();
    assert_eq!(
        picture.get_pixel(3, 2).0[0],
        (255.0 * f64::from(7 * (7 * 64 + 19) % 31) / 30.0).round() as u8
    );
    assert!(here.path("set/contact-sheet.png").is_file());

    let told = here.succeeds(&["distilled", "info", "set"]);
    for part in ["10 images of 1x8x8, of 10 classes of digits", "of each class: 1", "(dc, normalised there)"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let info: Value =
        serde_json::from_str(&here.succeeds(&["distilled", "info", "set", "--format", "json"])).unwrap();
    assert_eq!((&info["images"], &info["per_class"]), (&10.into(), &json!(vec![1; 10])));
    assert_eq!(info["range"], json!([0.0, 1.25]));
    let again = here.fails(2, &import(&source, "set", &[]));
    assert!(again.contains("`set` is not empty"), "{again}");
}

#[test]
fn a_set_of_mtt_needs_to_be_told_what_its_values_are_and_brings_its_learning_rate() {
    let here = Here::new();
    let source = fixture("mtt");
    let untold = here.fails(2, &import(&source, "set", &[]));
    assert!(untold.contains("nothing tells whether the values are pixels or normalised"), "{untold}");
    assert!(untold.contains("--space normalised") && !here.path("set").exists(), "{untold}");
    here.succeeds(&import(&source, "set", &["--space", "normalised"]));
    assert!(close(&tensors(&here.path("set"))["images"], &pixels()));
    let manifest = json(&here.path("set/manifest.json"));
    assert_eq!(manifest["learned"], json!([["learning-rate", 0.03125]]));
    assert_eq!(manifest["imported"]["form"], "mtt");
    assert_eq!(manifest["imported"]["blake3"].as_object().unwrap().len(), 3);

    // MTT's name for images whose whitening it has undone already says that they are pixels. These are none.
    fs::create_dir(here.path("unwhitened")).unwrap();
    for (from, to) in [("images_best.pt", "images_zca_5.pt"), ("labels_best.pt", "labels_5.pt")] {
        fs::copy(Path::new(&source).join(from), here.path("unwhitened").join(to)).unwrap();
    }
    let output = here.run(&import("unwhitened/images_zca_5.pt", "doubtful", &[]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("is it the right `--space`"), "{}", stderr(&output));
    assert_eq!(json(&here.path("doubtful/manifest.json"))["imported"]["space"], "pixels");

    // Labels that are learned as logits.
    let source = fixture("datm/images_best.pt");
    let untold = here.fails(2, &import(&source, "soft", &["--space", "normalised"]));
    assert!(untold.contains("soft labels are no probabilities") && untold.contains("logits"), "{untold}");
    let more = ["--space", "normalised", "--soft-labels", "logits", "--learning-rate", "0.5"];
    here.succeeds(&import(&source, "soft", &more));
    let soft = &tensors(&here.path("soft"))["soft_labels"];
    assert_eq!(soft.size(), [10, 10]);
    let (high, low) = (soft.double_value(&[3, 3]), soft.double_value(&[3, 4]));
    assert!((high + 9.0 * low - 1.0).abs() < 1e-6 && (high / low).ln() - 4.0 < 1e-4, "{high} {low}");
    let manifest = json(&here.path("soft/manifest.json"));
    assert_eq!((&manifest["labels"], &manifest["learned"][0][1]), (&"learned".into(), &0.5.into()));
}

#[test]
fn a_set_in_whitened_space_comes_back_by_the_whitening_of_the_real_images() {
    use guard_host::{data, network::Whitening, network::weights::write_tensors, recipe::Data};
    let here = Here::new();
    let real = data::prepare(&Data::named("digits")).unwrap().open().unwrap();
    // As MTT does: of pixels, with ε = 0.1.
    let whitening = Whitening::with_epsilon(0.1).fit(&real.train, &[0.0], &[1.0]).unwrap();
    let double = pixels().to_kind(Kind::Double);
    let whitened = whitening.map([1, 8, 8], &double).unwrap().apply(&double).unwrap();
    let labels = Tensor::arange(10, (Kind::Int64, guard_sdk::Device::Cpu));
    let set = [("images".to_string(), whitened), ("labels".to_string(), labels)];
    write_tensors(&here.path("white.pt"), &set).unwrap();
    here.succeeds(&import("white.pt", "set", &["--space", "whitened"]));
    let found = &tensors(&here.path("set"))["images"];
    assert!((found - pixels()).abs().max().double_value(&[]) < 1e-4);
    let manifest = json(&here.path("set/manifest.json"));
    assert_eq!(manifest["whitening"]["epsilon"], 0.1);
    assert_eq!((&manifest["mean"], &manifest["std"]), (&json!([0.0]), &json!([1.0])));
    assert!(here.path("set/whitening.safetensors").is_file());
    let call = [
        "distilled",
        "import",
        "white.pt",
        "--dataset",
        "fashion-mnist",
        "--space",
        "whitened",
        "--out",
        "x",
    ];
    let other = here.fails(2, &call);
    assert!(other.contains("images are 1x8x8, those of `fashion-mnist` are 1x28x28"), "{other}");
}

#[test]
fn folders_of_sre2l_and_of_classes_are_read_with_the_labels_that_their_names_tell() {
    let here = Here::new();
    for (class, level) in [(0u8, 10u8), (3, 40), (10, 200)] {
        let folder = here.path(&format!("syn/new{class:03}"));
        fs::create_dir_all(&folder).unwrap();
        for id in 0..2 {
            RgbImage::from_pixel(6, 6, Rgb([level, id, 0]))
                .save(folder.join(format!("class{class:03}_id{id:03}.png")))
                .unwrap();
        }
    }
    let call = ["distilled", "import", "syn", "--dataset", "imagenette", "--out", "set"];
    let few = here.fails(2, &call);
    assert!(few.contains("has label 10, but the labels of 10 classes end at 9"), "{few}");
    let call = ["distilled", "import", "syn", "--dataset", "imagefolder", "--classes", "11", "--out", "set"];
    here.succeeds(&call);
    let set = tensors(&here.path("set"));
    assert_eq!(Vec::<i64>::try_from(&set["labels"]).unwrap(), [0, 0, 3, 3, 10, 10]);
    assert!((set["images"].double_value(&[2, 0, 0, 0]) - 40.0 / 255.0).abs() < 1e-6);
    let manifest = json(&here.path("set/manifest.json"));
    assert_eq!((&manifest["imported"]["form"], &manifest["mean"]), (&"sre2l".into(), &json!([])));
    assert_eq!(manifest["imported"]["blake3"].as_object().unwrap().len(), 1);
    fs::rename(here.path("syn/new003/class003_id000.png"), here.path("syn/new010/class003_id000.png"))
        .unwrap();
    let moved = here.fails(2, &["distilled", "import", "syn", "--dataset", "imagefolder", "--out", "x"]);
    assert!(moved.contains("is of class 3, but in the folder of 10"), "{moved}");

    // The images of a distilled set of this host, and one of another size among them.
    let source = fixture("dc.pt");
    here.succeeds(&import(&source, "first", &[]));
    here.succeeds(&import("first/images", "second", &[]));
    let levels = (&tensors(&here.path("first"))["images"] * 255.0).round().clamp(0.0, 255.0) / 255.0;
    assert!(close(&tensors(&here.path("second"))["images"], &levels));
    GrayImage::from_pixel(9, 8, Luma([1])).save(here.path("first/images/4/0001.png")).unwrap();
    let larger = here.fails(2, &import("first/images", "third", &[]));
    assert!(larger.contains("4/0001.png` has 9x8 pixels") && larger.contains("one size"), "{larger}");
    fs::remove_file(here.path("first/images/4/0001.png")).unwrap();
    let ours = here.fails(2, &import("second", "third", &[]));
    assert!(ours.contains("is a distilled set of this host already"), "{ours}");
    let told = here.fails(2, &import("first/images", "third", &["--space", "normalised"]));
    assert!(told.contains("holds bytes, which are pixels and not `normalised`"), "{told}");
}

#[test]
fn what_is_exported_can_be_imported_again_and_parquet_is_what_hugging_face_writes() {
    let here = Here::new();
    let source = fixture("datm");
    let more = ["--space", "normalised", "--soft-labels", "logits", "--learning-rate", "0.5"];
    here.succeeds(&import(&source, "set", &more));
    let set = tensors(&here.path("set"));
    fs::copy(here.path("set/distilled.safetensors"), here.path("set.safetensors")).unwrap();
    here.succeeds(&import("set.safetensors", "from-safetensors", &["--space", "pixels"]));
    assert!(tensors(&here.path("from-safetensors"))["images"].equal(&set["images"]));
    for file in ["set.npz", "set.pt"] {
        let told = here.succeeds(&["distilled", "export", "set", "--out", file]);
        assert_eq!(told, format!("10 images in `{file}`\n"));
        let out = format!("from-{file}");
        let untold = here.fails(2, &import(file, &out, &[]));
        assert!(untold.contains("nothing tells whether"), "{untold}");
        here.succeeds(&import(file, &out, &["--space", "pixels"]));
        let again = tensors(&here.path(&out));
        assert!(again["images"].equal(&set["images"]), "{file}");
        assert!(again["labels"].equal(&set["labels"]), "{file}");
        assert!(close(&again["soft_labels"], &set["soft_labels"]), "{file}");
        assert_eq!(json(&here.path(&out).join("manifest.json"))["learned"], json!([["learning-rate", 0.5]]));
    }

    let output = here.run(&["distilled", "export", "set", "--out", "set.parquet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for lost in ["pictures have 256 levels", "learned besides the images is left out"] {
        assert!(stderr(&output).contains(lost), "{}", stderr(&output));
    }
    let call = ["data", "info", "parquet", "--root", "set.parquet", "--image-size", "8", "--format", "json"];
    let info: Value = serde_json::from_str(&here.succeeds(&call)).unwrap();
    assert_eq!(info["classes"], json!(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]));
    let images = |split: &str| info[split]["images"].as_u64().unwrap();
    assert_eq!(images("train") + images("test"), 10);

    let format = here.fails(2, &["distilled", "export", "set", "--out", "set.csv"]);
    assert!(format.contains("says no format") && format.contains(".parquet"), "{format}");
    let nothing = here.fails(2, &["distilled", "export", "nowhere", "--out", "set.npz"]);
    assert!(nothing.contains("`nowhere` holds no distilled set"), "{nothing}");
}

#[test]
fn files_that_are_no_sets_or_damaged_are_refused_by_name_and_nothing_is_executed() {
    let here = Here::new();
    fs::write(here.path("notes.pt"), "not a pickle").unwrap();
    fs::write(here.path("broken.npz"), "PK, but no more").unwrap();
    let cases: [(&str, &[&str]); 12] = [
        ("cut.pt", &["cut.pt", "damaged"]),
        ("plain.pt", &["plain.pt", "not one that `torch.save` wrote", "torch.save([images, labels]"]),
        ("malicious.pt", &["`data` is no list of pairs"]),
        ("network.pt", &["holds no synthetic set, but a dictionary with the keys `state_dict`"]),
        ("dc_range.pt", &["image 7 has label 10, but the labels of 10 classes end at 9", "--classes"]),
        ("dc_flat.pt", &["images are [10, 64], not [N,C,H,W]"]),
        ("dc_short.pt", &["there are 7 labels of 10 images"]),
        ("dc_nan.pt", &["image 4 holds a value that is not finite"]),
        ("images_alone.pt", &["holds images without labels", "labels_alone.pt"]),
        ("nowhere.pt", &["nowhere.pt` does not exist"]),
        ("make.py", &["is no set that can be read", ".npz"]),
        ("dc.pt --classes 11", &["data set `digits` has 10 classes, not 11"]),
    ];
    for (name, parts) in cases {
        let mut words = name.split(' ');
        let source = fixture(words.next().unwrap());
        let error = here.fails(2, &import(&source, "set", &words.collect::<Vec<_>>()));
        for part in parts {
            assert!(error.contains(part), "{name}: `{part}` is missing in:\n{error}");
        }
        assert!(!here.path("set").exists() && !here.path("executed").exists(), "{name}");
    }
    let text = here.fails(2, &import("notes.pt", "set", &[]));
    assert!(text.contains("notes.pt") && text.contains("no safetensors or PyTorch file"), "{text}");
    let archive = here.fails(2, &import("broken.npz", "set", &[]));
    assert!(archive.contains("`broken.npz` is not an .npz archive"), "{archive}");
    let source = fixture("pair.pt");
    let mean = here.fails(2, &import(&source, "set", &["--space=normalised", "--mean=0.1,0.2", "--std=1,1"]));
    assert!(mean.contains("`--mean` has 2 values for 1 channels"), "{mean}");
    let std = here.fails(2, &import(&source, "set", &["--space=normalised", "--mean=0.1", "--std=0"]));
    assert!(std.contains("`--std` must be above 0"), "{std}");
    let dataset = here.fails(2, &["distilled", "import", &source, "--dataset", "digit", "--out", "set"]);
    assert!(dataset.contains("did you mean `digits`?"), "{dataset}");
    assert!(here.fails(2, &["distiled"]).contains("did you mean the command `distilled`?"));
}

/// Students on a set that is given, by their classes or by labels that were learned.
fn recipe(distill: &str, student: &str) -> String {
    format!(
        "plugins = [\"guard_sre2l\", \"guard_attacks\"]\n\
         data = {{ dataset = \"digits\", train_images = 200, test_images = 50 }}\n\
         network = {{ architecture = \"convnet\", depth = 2, width = 8, norm = \"batch\" }}\n\
         distill = {{ objective = \"given\"{distill} }}\n\
         relabel = {{ labels = \"hard\" }}\n\
         student = {{ epochs = 3, count = 1, batch_size = 5, optimizer = {{ kind = \"sgd\", learning_rate = 0.01 }}{student} }}\n\
         evaluate = {{ threat = {{ norm = \"linf\", epsilon = 0.05 }}, attacks = [{{ use = \"fgsm\" }}], probe_images = 0 }}\n"
    )
}

#[test]
fn students_are_trained_on_a_given_set_as_it_is_with_its_labels_and_its_learning_rate() {
    let here = Here::new();
    let source = fixture("datm");
    for rate in ["0.5", "0.001"] {
        let more = ["--space", "normalised", "--soft-labels", "logits", "--learning-rate", rate];
        let out = format!("set-{rate}");
        here.succeeds(&import(&source, &out, &more));
    }
    let run = |set: &str, out: &str, student: &str| {
        fs::write(here.path("given.toml"), recipe(&format!(", start = \"{set}\""), student)).unwrap();
        here.run(&["given.toml", "--out", out])
    };
    let output = run("set-0.5", "run", "");
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("| 1 student |"), "{table}");
    let (given, found) = (tensors(&here.path("set-0.5")), tensors(&here.path("run/distilled")));
    for name in ["images", "labels", "soft_labels"] {
        assert!(found[name].equal(&given[name]), "{name}");
    }
    let manifest = json(&here.path("run/distilled/manifest.json"));
    assert_eq!((&manifest["objective"], &manifest["labels"]), (&"given".into(), &"learned".into()));
    assert_eq!((&manifest["images_per_class"], &manifest["learned"][0][1]), (&1.into(), &0.5.into()));
    assert!(!here.path("run/checkpoints/teacher.safetensors").exists(), "nobody needs a teacher");

    // The rate that was learned is the students', unless the recipe says otherwise.
    assert!(run("set-0.001", "slow", "").status.success());
    let student = |run: &str| fs::read(here.path(run).join("checkpoints/student-0.safetensors")).unwrap();
    assert_ne!(student("run"), student("slow"));
    for (set, out) in [("set-0.5", "own"), ("set-0.001", "own-too")] {
        assert!(run(set, out, ", learned_rate = false").status.success());
    }
    assert_eq!(student("own"), student("own-too"));

    // Another set in the same place is another result.
    fs::remove_dir_all(here.path("set-0.001")).unwrap();
    here.succeeds(&import(&fixture("dc.pt"), "set-0.001", &[]));
    let changed = here.fails(2, &["--quiet", "--resume", "own-too"]);
    assert!(changed.contains("`variants.0.distillation.given.blake3`"), "{changed}");
}

#[test]
fn a_given_set_that_is_missing_or_does_not_fit_is_told_before_anything_runs() {
    let here = Here::new();
    let refusal = |distill: &str| {
        fs::write(here.path("given.toml"), recipe(distill, "")).unwrap();
        here.fails(2, &["given.toml", "--dry-run"])
    };
    let missing = refusal("");
    assert!(
        missing.contains("objective `given` takes a set that is there already, and none is named"),
        "{missing}"
    );
    assert!(missing.contains("distill.start = ") && missing.contains("given.toml:4:"), "{missing}");
    assert!(refusal(", start = \"real\"").contains("none is named"));
    let nowhere = refusal(", start = \"nowhere\"");
    assert!(
        nowhere.contains("first images `nowhere`") && nowhere.contains("holds no distilled set"),
        "{nowhere}"
    );
    for class in 0..10 {
        let folder = here.path(&format!("large/{class}"));
        fs::create_dir_all(&folder).unwrap();
        GrayImage::from_pixel(9, 9, Luma([class])).save(folder.join("0.png")).unwrap();
    }
    let call =
        ["distilled", "import", "large", "--dataset", "imagefolder", "--classes", "10", "--out", "set"];
    here.succeeds(&call);
    let large = refusal(", start = \"set\"");
    assert!(
        large.contains("10 classes of images of [3, 9, 9], data set `digits` has 10 of [1, 8, 8]"),
        "{large}"
    );
    fs::write(here.path("set/manifest.json"), "{").unwrap();
    let damaged = refusal(", start = \"set\"");
    assert!(damaged.contains("manifest.json` cannot be read"), "{damaged}");
}
