//! Mangled files of a run: whatever their bytes, what comes of them is what was written, or something older, or an error that
//! names the file.

use super::{
    checkpoints::{Checkpoint, Checkpoints},
    distilled::Distilled,
    *,
};
use crate::{
    mangle::{Dice, mangle},
    recipe::{LabelStorage, Relabel, Student},
};
use guard_sdk::{Device, Error, Kind, State, Tensor};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// How many mangled files of each kind are read.
const CASES: usize = 200;

/// Files as they were written, one of which is mangled in each case.
struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    fn of<const N: usize>(paths: [PathBuf; N]) -> Self {
        Self(paths.map(|path| (path.clone(), fs::read(path).unwrap())).into())
    }

    fn each_mangled(&self, mut look: impl FnMut(&Path)) {
        let mut dice = Dice(1);
        for _ in 0..CASES {
            self.0.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            let (path, bytes) = &self.0[dice.below(self.0.len())];
            fs::write(path, mangle(&mut dice, bytes)).unwrap();
            look(path);
        }
    }
}

fn names(error: &Error, path: &Path) {
    assert!(error.message.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
}

#[test]
fn of_a_mangled_checkpoint_nothing_is_taken_but_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let stage = folder.path().join("stage");
    let checkpoints = Checkpoints::open(stage.clone(), Duration::ZERO);
    let state = |iteration: u64| {
        let tensors = vec![("x".to_string(), Tensor::from_slice(&[iteration as f32, 0.5]))];
        State { version: 1, json: json!({ "loss": 0.25, "words": ["a", "b"] }), tensors }
    };
    for iteration in [1, 2] {
        checkpoints.write(&Checkpoint { iteration, state: state(iteration) }).unwrap();
    }
    let files = ["1.json", "1.safetensors", "2.json", "2.safetensors"].map(|file| stage.join(file));
    let mut older = 0;
    Files::of(files).each_mangled(|path| {
        let warnings = RefCell::new(Vec::new());
        let found = checkpoints.newest(|warning| warnings.borrow_mut().push(warning.to_string())).unwrap();
        let Checkpoint { iteration, state: found } = found.unwrap();
        assert_eq!((found.version, found.json), (1, state(0).json));
        assert_eq!(found.tensors[0].1, state(iteration).tensors[0].1);
        if iteration == 1 {
            older += 1;
            assert!(
                warnings
                    .borrow()
                    .iter()
                    .any(|warning| warning.contains(&format!("{}.", path.with_extension("").display())))
            );
        }
    });
    assert!(older > CASES / 4, "{older}");
}

#[test]
fn a_mangled_record_is_an_error_or_its_stage_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let (key, variant) = (stages::key(&json!(1)), folder.path().join("a"));
    let file = variant.join("x.txt");
    let run = || {
        let stages = Stages::open(folder.path(), Vec::new(), Duration::ZERO)?;
        let stage = Stage { variant: "a", name: "train", folder: &variant, key: &key };
        let make = |_: &StageLog| {
            write_text(&file, "made")?;
            Ok(vec!["x.txt".into()])
        };
        stages.outcome(&stage, &Journal::without_file(Display::Quiet), make, || {
            Ok(fs::read_to_string(&file).unwrap())
        })
    };
    run().unwrap();
    let record = folder.path().join("stages").join(&key[..16]).with_extension("json");
    let (mut refused, mut good) = (0, 0);
    Files::of([record, file.clone()]).each_mangled(|path| match run() {
        Ok(text) => {
            good += 1;
            assert_eq!(text, "made");
        }
        Err(error) => {
            refused += 1;
            names(&error, path);
            assert!(error.help.unwrap().contains("delete it, and its stage is run again"));
        }
    });
    assert!(refused > CASES / 4 && good > CASES / 4, "{refused} {good}");
}

#[test]
fn of_mangled_metrics_the_whole_lines_stay() {
    let folder = tempfile::tempdir().unwrap();
    let line = |stage: &str, iteration: u64| {
        let metrics = json!({ "loss": 0.5 }).as_object().cloned().unwrap_or_default();
        Line { variant: "a".into(), stage: stage.into(), iteration, metrics }
    };
    let journal = Journal::open(folder.path(), Display::Quiet).unwrap();
    (0..4).for_each(|iteration| journal.write(&line("train", iteration)).unwrap());
    let path = folder.path().join("metrics.jsonl");
    Files::of([path.clone()]).each_mangled(|path| {
        let mangled = fs::read(path).unwrap();
        let journal = Journal::open(folder.path(), Display::Quiet).unwrap();
        let kept = fs::read_to_string(path).unwrap();
        for whole in kept.split_inclusive('\n') {
            serde_json::from_str::<Value>(whole).unwrap();
            assert!(
                whole.ends_with('\n') && mangled.windows(whole.len()).any(|part| part == whole.as_bytes())
            );
        }
        journal.begin("a", "train", 2).unwrap();
        journal.write(&line("train", 2)).unwrap();
        let last = serde_json::to_string(&line("train", 2)).unwrap() + "\n";
        assert!(fs::read_to_string(path).unwrap().ends_with(&last));
    });
}

#[test]
fn mangled_soft_labels_are_an_error_or_numbers_and_what_is_not_whole_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let plan = || {
        let relabel = Relabel { storage: LabelStorage::Int8, top_k: Some(2), ..Relabel::default() };
        LabelPlan::new(&relabel, &Student { epochs: 3, ..Student::default() }, 1, 5, 4)
    };
    let (written, order) = (plan(), |_: u64| vec![vec![3, 0, 1], vec![4, 2]]);
    let logits = Tensor::arange(20, (Kind::Float, Device::Cpu)).reshape([5, 4]);
    let write = |writer: &mut SoftLabelsWriter, from: u64| {
        let batches = (0..3).flat_map(|epoch| order(epoch).into_iter().map(move |rows| (epoch, rows)));
        for (epoch, rows) in batches.skip(from as usize) {
            writer.write(epoch, &rows, &logits.index_select(0, &Tensor::from_slice(&rows))).unwrap();
        }
    };
    let (aside, path) = (folder.path().join("aside"), folder.path().join("x.safetensors"));
    let mut writer = SoftLabelsWriter::create(&aside, &written).unwrap();
    write(&mut writer, 0);
    let sums = writer.sync().unwrap();
    writer.finish(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    // Another file from now on, not another name of that one.
    fs::remove_file(&aside).unwrap();
    fs::write(&aside, &whole).unwrap();
    let (mut refused, mut resumed) = (0, 0);
    Files::of([path.clone(), aside.clone()]).each_mangled(|mangled| {
        if mangled == path {
            match SoftLabels::open(&path, plan()) {
                Ok(labels) => drop(
                    (0..3)
                        .map(|epoch| labels.logits(epoch, &Tensor::from_slice(&[4i64, 0])))
                        .collect::<Vec<_>>(),
                ),
                Err(error) => {
                    refused += 1;
                    names(&error, &path);
                }
            }
            return;
        }
        match SoftLabelsWriter::resume(&aside, &written, 6, &sums, order) {
            Ok((mut writer, good)) => {
                resumed += usize::from(good < 6);
                write(&mut writer, good);
                assert!(fs::read(&aside).unwrap() == whole);
            }
            Err(error) => names(&error, &aside),
        }
    });
    assert!(refused > CASES / 4 && resumed > 0, "{refused} {resumed}");
}

#[test]
fn a_mangled_synthetic_set_is_an_error_or_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let (tensors, manifest) =
        (folder.path().join("distilled.safetensors"), folder.path().join("manifest.json"));
    let images = Tensor::zeros([2, 1, 2, 2], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("images", images), ("labels", Tensor::from_slice(&[0i64, 1]))], &tensors)
        .unwrap();
    let whole = json!({
        "dataset": "digits", "classes": ["0", "1"], "image": [1, 2, 2], "space": "pixels", "mean": [0.5], "std": [0.5],
        "objective": "dm", "temperature": 1.0, "seed": 0, "recipe_blake3": "", "plugins": [],
        "images_per_class": 1, "labels": "hard", "learned": [["learning-rate", 0.01]],
    });
    write_text(&manifest, &whole.to_string()).unwrap();
    Distilled::read(folder.path(), Device::Cpu).unwrap();
    let mut refused = 0;
    Files::of([tensors, manifest]).each_mangled(|path| {
        if let Err(error) = Distilled::read(folder.path(), Device::Cpu) {
            refused += 1;
            names(&error, path);
        }
    });
    assert!(refused > CASES / 2, "{refused}");
}

#[test]
fn what_a_run_says_of_itself_is_an_error_when_it_is_mangled_or_it_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let typed = Typed { recipe: "my.toml".into(), sets: vec!["seed=3".into()], ..Typed::default() };
    let files =
        ["command.json", "plan.json", "environment.json", "recipe.toml"].map(|file| folder.path().join(file));
    write_text(&files[0], &serde_json::to_string(&typed).unwrap()).unwrap();
    write_text(&files[1], &json!({ "name": "x", "variants": [{ "name": "a" }] }).to_string()).unwrap();
    write_text(&files[2], &json!({ "libtorch": "2.11.0" }).to_string()).unwrap();
    write_text(&files[3], "seed = 3\n").unwrap();
    let mut refused = 0;
    Files::of(files).each_mangled(|path| {
        if let Err(error) = RunDirectory::resume(folder.path()) {
            refused += 1;
            names(&error, path);
        }
    });
    assert!(refused > CASES / 4, "{refused}");
}
