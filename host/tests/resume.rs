//! Runs that were stopped and go on, as a user meets them.

mod here;

use here::{Here, quick, stderr};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The files of a run by name, without what tells how long something took.
fn files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let timed = |name: &str| name.contains("evaluations/") && name.ends_with(".json");
    walk(run)
        .filter(|name| !(timed(name) || name.starts_with("stages/")))
        .filter(|name| !["legacy.json", "report.html"].contains(&name.as_str()))
        .map(|name| (name.clone(), fs::read(run.join(&name)).unwrap()))
        .collect()
}

fn walk(folder: &Path) -> impl Iterator<Item = String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => names.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_string()),
            }
        }
    }
    names.into_iter()
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_like_one_that_was_not() {
    let here = Here::new();
    let begun = Instant::now();
    let table = here.succeeds(&quick(&["--quiet", "--out", "whole"]));
    let whole = begun.elapsed();
    let mut kills = 0;
    let mut arguments = quick(&["--quiet", "--out", "killed"]);
    // Each life is longer than the one before, so that the run gets through whatever the machine does.
    for life in 1u32.. {
        let mut run = Command::new(env!("CARGO_BIN_EXE_guard-host"))
            .args(&arguments)
            .current_dir(here.folder.path())
            .env_remove("GUARD_PLUGIN_PATH")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + whole * life / 6 + Duration::from_millis(20);
        while run.try_wait().unwrap().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        match run.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => {
                run.kill().unwrap();
                run.wait().unwrap();
                kills += 1;
            }
        }
        if here.path("killed/plan.json").exists() {
            arguments = vec!["--quiet", "--resume", "killed"];
        } else if here.path("killed").exists() {
            fs::remove_dir_all(here.path("killed")).unwrap();
        }
    }
    assert!(kills > 0);
    assert_eq!(here.succeeds(&["--quiet", "--resume", "killed"]), table);
    let (expected, found) = (files(&here.path("whole")), files(&here.path("killed")));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
}

#[test]
fn stages_that_variants_have_in_common_are_run_once() {
    let here = Here::new();
    let recipe = here.recipe(
        "plugins = [\"guard_sre2l\", \"guard_attacks\"]\n\
         data.dataset = \"digits\"\n\
         network = { architecture = \"convnet\", width = 8, norm = \"batch\" }\n\
         training = { epochs = 1, batch_size = 64, optimizer = { kind = \"sgd\", learning_rate = 0.01 } }\n\
         distill = { objective = \"sre2l\", images_per_class = 1, iterations = 2, options = { augment = \"none\" } }\n\
         student = { epochs = 1, count = 1 }\n\
         [[variants]]\nname = \"one\"\n\
         [[variants]]\nname = \"two\"\ndistill.images_per_class = 2\n",
    );
    let output = here.run(&[&recipe, "--out", "run"]);
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    for line in ["two: train: as of one", "two: evaluate teacher: as of one"] {
        assert!(talk.contains(line), "{talk}");
    }
    assert!(!talk.contains("two: distill: as of one"), "{talk}");
    let teacher =
        |variant: &str| fs::read(here.path("run").join(variant).join("checkpoints/teacher.safetensors"));
    assert_eq!(teacher("one").unwrap(), teacher("two").unwrap());
}

#[test]
fn a_run_goes_on_with_another_recipe_only_by_force_and_runs_again_what_that_touches() {
    let here = Here::new();
    here.succeeds(&quick(&["--quiet", "--out", "run", "--variant", "SRe2L"]));
    let longer = ["--resume", "run", "--set", "student.epochs=3"];
    let error = here.fails(2, &longer);
    assert!(error.contains("`variants.0.recipe.student.epochs`: 2 → 3"), "{error}");
    assert!(error.contains("--force"), "{error}");
    let output = here.run(&[&longer[..], &["--force"]].concat());
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    assert!(talk.contains("SRe2L: distill: finished before"), "{talk}");
    assert!(talk.contains("SRe2L: student 1: 3 epochs"), "{talk}");
    // The change is now part of the run.
    here.succeeds(&["--quiet", "--resume", "run"]);
}

#[test]
fn another_run_takes_networks_over_and_attacks_them_otherwise() {
    let here = Here::new();
    let one = ["--variant", "SRe2L"];
    here.succeeds(&quick(&[&one[..], &["--quiet", "--out", "first"]].concat()));
    let sets = ["--set", "evaluate.attacks=[{use=\"fgsm\"}]", "--set", "data.test_images=50"];
    let second = [&one[..], &sets, &["--out", "second", "--reuse", "first"]].concat();
    let output = here.run(&quick(&second));
    let talk = stderr(&output);
    assert!(output.status.success(), "{talk}");
    for stage in ["train", "distill", "student 1", "student 2"] {
        assert!(talk.contains(&format!("SRe2L: {stage}: as of SRe2L in `first`")), "{talk}");
    }
    assert!(talk.contains("SRe2L: evaluate student 1: clean"), "{talk}");
    let error = here.fails(2, &quick(&["--out", "third", "--reuse", "nowhere"]));
    assert!(error.contains("`nowhere` holds no finished stage"), "{error}");
}

#[test]
fn a_folder_without_a_run_cannot_be_resumed() {
    let here = Here::new();
    fs::create_dir(here.path("empty")).unwrap();
    let error = here.fails(2, &["--resume", "empty"]);
    assert!(error.contains("`empty` holds no run"), "{error}");
    assert!(here.fails(2, &["--force"]).contains("--resume"));
}
