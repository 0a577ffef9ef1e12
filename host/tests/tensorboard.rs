//! What a run tells TensorBoard, and its numbers as a table.

mod here;

use guard_host::run::tensorboard::Content;
use here::{Here, events::told, quick, stderr};
use serde_json::Value;
use std::{fs, path::PathBuf};

/// Variant, tag, step and number of each line of `metrics.jsonl`, sorted.
fn numbers(here: &Here, variant: &str) -> Vec<(String, i64, f32)> {
    let text = fs::read_to_string(here.path("run/metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut numbers: Vec<_> = lines
        .filter(|line| line["variant"] == variant)
        .flat_map(|line| {
            let metrics = line["metrics"].as_object().unwrap().clone();
            metrics.into_iter().map(move |(name, value)| {
                let tag = format!("{}/{name}", line["stage"].as_str().unwrap());
                (tag, line["iteration"].as_i64().unwrap(), value.as_f64().unwrap() as f32)
            })
        })
        .collect();
    numbers.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    numbers
}

fn folder(here: &Here, variant: &str) -> PathBuf {
    here.path("run/tensorboard").join(variant)
}

#[test]
fn each_variant_is_a_run_of_tensorboard_with_its_numbers_its_images_and_what_attacks_did() {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--out", "run"]));
    for variant in ["SRe2L", "SRe2L + curvature"] {
        let told = told(&folder(&here, variant));
        let scalars: Vec<(String, i64, f32)> = told
            .iter()
            .filter_map(|(tag, step, content)| match content {
                Content::Scalar(number) => Some((tag.clone(), *step, *number)),
                _ => None,
            })
            .collect();
        assert_eq!(scalars, numbers(&here, variant));
        assert!(scalars.iter().any(|(tag, ..)| tag == "train/loss/cross-entropy"));

        let pictures: Vec<_> =
            told.iter().filter(|(.., content)| matches!(content, Content::Image(_))).collect();
        let [(tag, 0, Content::Image(picture))] = &pictures[..] else { panic!("{pictures:?}") };
        let sheet = fs::read(here.path("run").join(variant).join("distilled/contact-sheet.png")).unwrap();
        assert_eq!((tag.as_str(), &picture.encoded), ("distill/contact-sheet", &sheet));
        let decoded = image::load_from_memory(&picture.encoded).unwrap();
        assert_eq!((picture.width as u32, picture.height as u32), (decoded.width(), decoded.height()));
        assert_eq!(picture.colorspace, 1);

        let histograms: Vec<_> =
            told.iter().filter(|(.., content)| matches!(content, Content::Histogram(_))).collect();
        // Three networks under one attack at two radii.
        assert_eq!(histograms.len(), 6);
        let arrays = here.path("run").join(variant).join("evaluations/teacher.safetensors");
        let arrays = guard_sdk::Tensor::read_safetensors(arrays).unwrap();
        let array = |name: &str| arrays.iter().find(|(found, _)| found == name).unwrap().1.shallow_clone();
        let name = "evaluate teacher/linf-0.05/pgd/size";
        let (.., Content::Histogram(sizes)) = histograms.iter().find(|(tag, ..)| tag == name).unwrap() else {
            panic!("{name}")
        };
        let attacked = array("clean").sum(guard_sdk::Kind::Int64).int64_value(&[]);
        assert_eq!((sizes.num, sizes.bucket.iter().sum::<f64>()), (attacked as f64, attacked as f64));
        let sum = array("linf-0.05/pgd/size").sum(guard_sdk::Kind::Double).double_value(&[]);
        assert!((sizes.sum - sum).abs() < 1e-6 * sum, "{} {sum}", sizes.sum);
    }
}

#[test]
fn a_damaged_event_file_is_written_anew_when_the_run_is_resumed_and_nothing_is_doubled() {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--out", "run", "--variant", "SRe2L"]));
    let folder = folder(&here, "SRe2L");
    let before = told(&folder);
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.join("events.out.tfevents.0"), "not an event").unwrap();
    here.succeeds(&["--quiet", "--resume", "run"]);
    assert_eq!(told(&folder), before);
    fs::remove_dir_all(here.path("run/tensorboard")).unwrap();
    here.succeeds(&["--quiet", "--resume", "run"]);
    assert_eq!(told(&folder), before);

    fs::remove_dir_all(here.path("run/tensorboard")).unwrap();
    fs::write(here.path("run/tensorboard"), "in the way").unwrap();
    let output = here.run(&["--quiet", "--resume", "run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("tensorboard` cannot be made"), "{}", stderr(&output));
}

#[test]
fn the_numbers_of_a_run_are_a_table() {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--out", "run", "--variant", "SRe2L"]));
    let table = here.succeeds(&["metrics", "run"]);
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    assert_eq!(reader.headers().unwrap(), vec!["variant", "stage", "iteration", "metric", "value"]);
    let mut rows: Vec<(String, i64, f32)> = reader
        .deserialize::<(String, String, i64, String, f32)>()
        .map(|row| {
            let (variant, stage, iteration, metric, value) = row.unwrap();
            assert_eq!(variant, "SRe2L");
            (format!("{stage}/{metric}"), iteration, value)
        })
        .collect();
    rows.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    assert_eq!(rows, numbers(&here, "SRe2L"));

    assert_eq!(here.succeeds(&["metrics", "run", "--out", "table.csv"]), "");
    assert_eq!(fs::read_to_string(here.path("table.csv")).unwrap(), table);
    let list: Value = serde_json::from_str(&here.succeeds(&["metrics", "run", "--format", "json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), rows.len());
    let nowhere = here.fails(2, &["metrics", "nowhere"]);
    assert!(nowhere.contains("`nowhere` holds no numbers of a run") && nowhere.contains("help"), "{nowhere}");
    assert!(here.fails(2, &["metrisc"]).contains("did you mean the command `metrics`?"));
}
