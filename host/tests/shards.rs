//! A distillation in parts, as a cluster does it.

mod here;

use here::Here;
use std::{fs, process::Command};

/// Ten classes in groups of four: three groups for each image of a class, six in all.
const RECIPE: &str = r#"
plugins = ["guard_sre2l"]
data = { dataset = "digits", train_images = 200, test_images = 40 }
network = { architecture = "convnet", depth = 2, width = 8, norm = "batch" }
training = { epochs = 1 }
student = { epochs = 2, count = 1 }
relabel = { labels = "soft" }
[distill]
objective = "sre2l"
images_per_class = 2
iterations = 3
options = { classes_together = 4 }
"#;

#[test]
fn parts_that_share_a_teacher_are_joined_to_the_bits_of_the_whole() {
    for objective in ["sre2l", "cda"] {
        let here = Here::new();
        here.recipe(&RECIPE.replace("\"sre2l\"\nimages", &format!("\"{objective}\"\nimages")));
        here.succeeds(&["my.toml", "--quiet", "--out", "whole"]);
        assert_eq!(here.succeeds(&["my.toml", "--quiet", "--until", "train", "--out", "teacher"]), "");
        assert!(!here.path("teacher/distilled").exists());
        for part in 1..=4 {
            let (shard, out) = (format!("{part}/4"), format!("part-{part}"));
            let arguments = ["my.toml", "--shard", &shard, "--reuse", "teacher", "--out", &out];
            let output = here.run(&arguments);
            assert_eq!(output.status.code(), Some(0), "{}", here::stderr(&output));
            assert!(
                here::stderr(&output).contains(": train: as of my in `teacher`"),
                "{}",
                here::stderr(&output)
            );
        }
        let parts = ["part-3", "part-1", "part-4", "part-2"];
        here.succeeds(&[&["merge", "--quiet", "--out", "joined"], &parts[..]].concat());
        for file in ["distilled/distilled.safetensors", "checkpoints/student-0.safetensors", "results.json"] {
            let read = |run: &str| fs::read(here.path(run).join(file)).unwrap();
            assert!(read("whole") == read("joined"), "{objective}: {file} differs");
        }
    }
}

#[test]
fn parts_that_make_no_whole_are_named_before_anything_is_written() {
    let here = Here::new();
    here.recipe(RECIPE);
    for (shard, out, seed) in [("1/2", "one", "seed=0"), ("2/2", "two", "seed=0"), ("2/2", "other", "seed=1")]
    {
        here.succeeds(&["my.toml", "--quiet", "--shard", shard, "--out", out, "--set", seed]);
    }
    here.succeeds(&["my.toml", "--quiet", "--out", "whole"]);
    fs::create_dir(here.path("cut")).unwrap();
    for file in ["recipe.toml", "command.json", "plan.json", "environment.json"] {
        fs::copy(here.path("two").join(file), here.path("cut").join(file)).unwrap();
    }
    for (parts, told) in [
        (&["one"][..], "part 2/2 is missing"),
        (&["one", "one"], "`one` and `one` are both part 1/2"),
        (&["one", "other"], "`seed`: 0 → 1"),
        (&["one", "whole"], "`whole` is no part of a run"),
        (&["one", "cut"], "part 2/2 in `cut` is not finished\n  help: `guard-host --resume cut` goes on"),
        (&["one", "nowhere"], "`nowhere` holds no run"),
    ] {
        let error = here.fails(2, &[&["merge", "--quiet", "--out", "joined"], parts].concat());
        assert!(error.contains(told), "no `{told}` in {error}");
        assert!(!here.path("joined").exists());
    }
}

#[test]
fn what_was_taken_from_another_run_is_there_without_it() {
    let here = Here::new();
    here.recipe(RECIPE);
    here.succeeds(&["my.toml", "--quiet", "--until", "train", "--out", "teacher"]);
    for part in ["1/2", "2/2"] {
        let out = &part[..1];
        here.succeeds(&["my.toml", "--quiet", "--shard", part, "--reuse", "teacher", "--out", out]);
    }
    fs::remove_dir_all(here.path("teacher")).unwrap();
    for arguments in [&["--resume", "1"][..], &["merge", "1", "2", "--out", "joined"]] {
        let output = here.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", here::stderr(&output));
        assert!(!here::stderr(&output).contains("train: 1 epochs"), "{}", here::stderr(&output));
    }
}

#[test]
fn what_has_no_parts_or_too_few_is_refused_before_anything_runs() {
    let here = Here::new();
    here.recipe(RECIPE);
    let refused = |more: &[&str]| here.fails(2, &[&["my.toml", "--quiet", "--shard", "1/7"], more].concat());
    assert!(refused(&[]).contains("there are 6 groups of images, fewer than 7 parts"));
    let random = ["--set", "distill.objective=random", "--set", "distill.options={}"];
    assert!(refused(&random).contains("objective `random` takes its images and optimises nothing"));
    let dm = ["--plugin", "guard_matching", "--set", "distill.objective=dm", "--set", "distill.options={}"];
    let told = refused(&[&dm[..], &["--set", "relabel.labels=hard"]].concat());
    assert!(told.contains("the images of objective `dm` are all optimised together"), "{told}");
    assert!(refused(&["--dry-run"]).contains("fewer than 7 parts"));
    assert!(here.fails(2, &["my.toml", "--shard", "3/2"]).contains("such as `2/4`"));
    assert!(!here.path("runs").exists());
}

#[test]
fn an_array_job_of_slurm_makes_the_part_that_its_variables_name() {
    let here = Here::new();
    here.recipe(RECIPE);
    let job = |variables: &[(&str, &str)]| {
        Command::new(env!("CARGO_BIN_EXE_guard-host"))
            .args(["my.toml", "--quiet", "--shard", "slurm"])
            .current_dir(here.folder.path())
            .env_remove("GUARD_PLUGIN_PATH")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    };
    let array =
        [("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "3")];
    let output = job(&array);
    assert_eq!(output.status.code(), Some(0), "{}", here::stderr(&output));
    assert!(here.path("runs/my-2-of-3/distilled/part-2-of-3.safetensors").is_file());
    let output = job(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        here::stderr(&output).contains("SLURM_ARRAY_TASK_ID is not set: this is no array job"),
        "{output:?}"
    );
}

/// Runs the script with an `sbatch` that does every job at once, and gives its variables to each task of an array.
const SBATCH: &str = r#"#!/usr/bin/env bash
set -euo pipefail
array=
while [ $# -gt 0 ]; do
    case $1 in --array) array=$2 ;; esac
    shift
done
cat > job.sh
if [ -z "$array" ]; then
    bash job.sh >&2
else
    export SLURM_ARRAY_TASK_MIN=${array%-*} SLURM_ARRAY_TASK_MAX=${array#*-}
    export SLURM_ARRAY_TASK_COUNT=$((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1))
    for task in $(seq "$SLURM_ARRAY_TASK_MIN" "$SLURM_ARRAY_TASK_MAX"); do
        SLURM_ARRAY_TASK_ID=$task bash job.sh >&2
    done
fi
echo 7
"#;

#[test]
fn the_script_for_slurm_trains_divides_joins_and_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let here = Here::new();
    here.recipe(RECIPE);
    here.succeeds(&["my.toml", "--quiet", "--out", "whole"]);
    fs::write(here.path("sbatch"), SBATCH).unwrap();
    fs::set_permissions(here.path("sbatch"), fs::Permissions::from_mode(0o755)).unwrap();
    let submit = || {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/slurm/submit.sh"))
            .args(["my.toml", "3", "runs", "--partition=any"])
            .current_dir(here.folder.path())
            .env("PATH", format!("{}:{path}", here.folder.path().display()))
            .env("GUARD_HOST", env!("CARGO_BIN_EXE_guard-host"))
            .env_remove("GUARD_PLUGIN_PATH")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", here::stderr(&output));
        assert!(
            String::from_utf8_lossy(&output.stdout)
                .starts_with("jobs 7 (teachers), 7 (parts 1-3), 7 (the whole")
        );
    };
    submit();
    let results = |run: &str| fs::read(here.path(run).join("results.json")).unwrap();
    assert!(results("whole") == results("runs/whole"));
    // What is finished is not run again.
    fs::remove_dir_all(here.path("runs/whole")).unwrap();
    fs::remove_dir_all(here.path("runs/part-2")).unwrap();
    let teacher =
        fs::metadata(here.path("runs/teacher/checkpoints/teacher.safetensors")).unwrap().modified().unwrap();
    submit();
    assert!(results("whole") == results("runs/whole"));
    let now =
        fs::metadata(here.path("runs/teacher/checkpoints/teacher.safetensors")).unwrap().modified().unwrap();
    assert_eq!(teacher, now);
}
