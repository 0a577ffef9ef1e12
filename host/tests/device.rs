//! `--device`, `--libtorch`, `--deterministic` and `precision`. There may be no GPU where tests run: NVIDIA's driver is played by a
//! library that says what a test wants to hear, up to where libtorch's own CUDA part takes over.

mod here;

use guard_sdk::{Kind, Tensor};
use here::{Here, QUICK, stderr};
use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A driver for CUDA `version`, whose start returns `code` and which counts `gpus`.
fn driver(here: &Here, version: i32, code: i32, gpus: i32) -> PathBuf {
    let folder = here.path(&format!("driver-{version}-{code}-{gpus}"));
    fs::create_dir_all(&folder).unwrap();
    let source = folder.join("driver.c");
    let text = format!(
        r#"
        int cuInit(unsigned flags) {{ return {code}; }}
        int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}
        int cuDeviceGetCount(int *count) {{ *count = {gpus}; return 0; }}
        int cuGetErrorString(int code, const char **text) {{ *text = "initialization error"; return 0; }}
        int cuDeviceGet(int *device, int index) {{ *device = index; return 0; }}
        int cuDeviceGetName(char *name, int length, int device) {{ name[0] = 'X'; name[1] = 0; return 0; }}
        "#
    );
    fs::write(&source, text).unwrap();
    let library = folder.join("libcuda.so.1");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(status.unwrap().success());
    folder
}

fn with_libraries(here: &Here, folder: &Path, arguments: &[&str]) -> Output {
    here.command(arguments).env("LD_LIBRARY_PATH", folder).output().unwrap()
}

#[test]
fn what_is_missing_for_a_gpu_is_told_in_a_line_and_auto_falls_back_to_the_cpu() {
    let here = Here::new();
    // Of libtorch's own CUDA part, NVIDIA's libraries may or may not be here; behind the driver that is played there is no GPU.
    let last = ["cannot be opened", "libtorch finds none", "has no CUDA part"];
    for ((version, code, gpus), expected) in [
        ((13_000, 100, 1), &["does not start: initialization error (error 100)"][..]),
        ((13_000, 0, 0), &["finds no GPU"]),
        ((12_040, 0, 1), &["is for CUDA 12.4, libtorch 2.11.0 needs 13.0"]),
        ((13_000, 0, 1), &last),
    ] {
        let folder = driver(&here, version, code, gpus);
        let asked = with_libraries(&here, &folder, &["--device", "cuda", "doctor"]);
        let told = stderr(&asked);
        assert_eq!(asked.status.code(), Some(2), "{told}");
        // libtorch may have a warning of its own before.
        let line = told.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(expected.iter().any(|each| line.contains(each)), "{told}");
        let auto = with_libraries(&here, &folder, &["doctor"]);
        let text = String::from_utf8_lossy(&auto.stdout).into_owned();
        let line = text.lines().find(|line| line.contains(" device ")).unwrap();
        let why = expected.iter().any(|each| line.contains(each));
        assert!(auto.status.success() && line.contains("on the CPU: ") && why, "{text}");
    }
}

#[test]
fn a_run_says_where_it_computes_and_asks_for_no_gpu_where_the_cpu_is_named() {
    let here = Here::new();
    let folder = driver(&here, 13_000, 0, 0);
    let run = |device: &str| {
        let run = [&["--device", device, "run", "--until", "train", "--out", device][..], &QUICK].concat();
        let output = with_libraries(&here, &folder, &run);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(run("auto").contains("on the CPU: the NVIDIA driver finds no GPU"));
    let told = run("cpu");
    assert!(told.contains("on the CPU") && !told.contains("NVIDIA"), "{told}");
}

#[test]
fn devices_and_libtorches_that_are_none_are_bad_usage() {
    let here = Here::new();
    for device in ["gpu", "cuda:first", "cpu:1"] {
        let output = here.run(&["--device", device, "doctor"]);
        assert_eq!(output.status.code(), Some(2), "{device}");
        assert!(stderr(&output).contains(device), "{}", stderr(&output));
    }
    let output = here.run(&["--libtorch", ".", "doctor"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`.` holds no libtorch"), "{}", stderr(&output));
}

#[test]
fn another_folder_of_the_same_libtorch_takes_the_place_of_the_first() {
    let here = Here::new();
    let doctor: serde_json::Value =
        serde_json::from_str(&here.succeeds(&["doctor", "--format", "json"])).unwrap();
    let libraries = Path::new(doctor["libtorch_file"].as_str().unwrap()).parent().unwrap().to_path_buf();
    let other = here.path("site/torch/lib");
    fs::create_dir_all(&other).unwrap();
    // libtorch finds NVIDIA's libraries by a path from itself.
    let nvidia = libraries.join("../../nvidia");
    if nvidia.is_dir() {
        symlink(nvidia.canonicalize().unwrap(), here.path("site/nvidia")).unwrap();
    }
    for entry in fs::read_dir(&libraries).unwrap() {
        let file = entry.unwrap();
        symlink(file.path(), other.join(file.file_name())).unwrap();
    }
    let text = here.succeeds(&["--libtorch", "site/torch", "doctor"]);
    let line = text.lines().find(|line| line.contains("libtorch file")).unwrap();
    assert!(line.ends_with(&*here.path("site/torch/lib/libtorch_cpu.so").to_string_lossy()), "{text}");
}

#[test]
fn bfloat16_is_another_run_and_its_evaluation_computes_in_float32() {
    let here = Here::new();
    let recipe = r#"
        seed = 3
        [data]
        dataset = "digits"
        train_images = 256
        test_images = 64
        [network]
        architecture = "convnet"
        depth = 2
        width = 8
        norm = "batch"
        [training]
        epochs = 2
    "#;
    fs::write(here.path("r.toml"), recipe).unwrap();
    let run = |precision: &str| {
        let set = format!("precision=\"{precision}\"");
        here.succeeds(&["run", "r.toml", "--set", &set, "--out", precision]);
        let file = here.path(precision).join("checkpoints/teacher.safetensors");
        // In an order of its own each time it is read.
        let weights: BTreeMap<String, Tensor> = Tensor::read_safetensors(file).unwrap().into_iter().collect();
        assert!(weights.values().all(|tensor| tensor.kind() != Kind::BFloat16), "weights stay float32");
        weights
    };
    let (full, tf32, half) = (run("fp32"), run("tf32"), run("bf16"));
    // A CPU has no TensorFloat32.
    assert!(full == tf32 && full.keys().eq(half.keys()) && full != half);
    let evaluated = |run: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(here.path(run).join("results.json")).unwrap()).unwrap()
    };
    // The same weights are decided upon as `evaluate`, which knows no precision, decides.
    let text = here.succeeds(&[
        "evaluate",
        "--network",
        "bf16/checkpoints/teacher.safetensors",
        "--architecture",
        "convnet",
        "--set",
        "network.depth=2",
        "--set",
        "network.width=8",
        "--set",
        "network.norm=\"batch\"",
        "--dataset",
        "digits",
        "--set",
        "data.train_images=256",
        "--set",
        "data.test_images=64",
        "--format",
        "json",
    ]);
    let by_itself: serde_json::Value = serde_json::from_str(&text).unwrap();
    let of_run = evaluated("bf16");
    let clean = of_run.to_string();
    let correct = by_itself["clean"]["correct"].as_i64().unwrap();
    assert!(clean.contains(&format!("\"correct\":{correct}")), "{correct}: {clean}");
    let wrong = here.run(&["run", "r.toml", "--set", "precision=\"fp16\"", "--out", "wrong"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("precision") && stderr(&wrong).contains("bf16"), "{}", stderr(&wrong));
}

#[test]
fn a_deterministic_run_gives_the_bits_of_any_other_on_a_cpu() {
    let here = Here::new();
    let run = |name: &str, flags: &[&str]| {
        here.succeeds(&[flags, &["run", "--out", name][..], &QUICK].concat());
    };
    run("plain", &[]);
    run("strict", &["--deterministic"]);
    let mut compared = 0;
    for entry in walkdir::WalkDir::new(here.path("plain")) {
        let path = entry.unwrap().into_path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let other = here.path("strict").join(path.strip_prefix(here.path("plain")).unwrap());
            assert!(fs::read(&path).unwrap() == fs::read(&other).unwrap(), "{}", path.display());
            compared += 1;
        }
    }
    assert!(compared > 4, "{compared}");
}
