//! The command line on real image sets and real weights, in `../shared/data` or `GUARD_DATA_DIR`; where there are none, these
//! tests are counted as ignored.

mod here;

use here::{Here, quick};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn main() {
    let folder = std::env::var_os("GUARD_DATA_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let folder = folder.canonicalize().unwrap_or(folder);
    let trial = |name: &str, needs: &str, body: fn(PathBuf) -> Result<(), Failed>| {
        let (ignored, folder) = (!folder.join(needs).exists(), folder.clone());
        Trial::test(name, move || body(folder)).with_ignored_flag(ignored)
    };
    let trials = vec![
        trial("resnet20_is_right_on_9173_of_the_10000_cifar10_test_images", "weights", resnet20),
        trial("the_built_in_recipe_runs_on_fashion_mnist", "fashion-mnist", |folder| {
            recipe("fashion-mnist", &folder.join("fashion-mnist"), &[])
        }),
        trial("the_built_in_recipe_runs_on_cifar10", "cifar-10", |folder| {
            recipe("cifar10", &folder.join("cifar-10"), &[])
        }),
        trial("the_built_in_recipe_runs_on_a_folder_of_photos", "caltech101-10", |folder| {
            recipe("imagefolder", &folder.join("caltech101-10"), &["data.image_size=64", "network.depth=4"])
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn resnet20(folder: PathBuf) -> Result<(), Failed> {
    let (weights, root) = (folder.join("weights/resnet20-cifar10.safetensors"), folder.join("cifar-10"));
    let text = Here::new().succeeds(&[
        "evaluate",
        "--network",
        &weights.to_string_lossy(),
        "--architecture",
        "resnet20",
        "--dataset",
        "cifar10",
        "--root",
        &root.to_string_lossy(),
        "--mean",
        ".485,.456,.406",
        "--std",
        ".229,.224,.225",
        "--format",
        "json",
    ]);
    let found: Value = serde_json::from_str(&text)?;
    assert_eq!((&found["images"], &found["clean"]["correct"]), (&10_000.into(), &9173.into()));
    assert_eq!(found["clean"]["accuracy"], 0.9173);
    Ok(())
}

/// The recipe with `[data]` and `[network]` changed, and cut short.
fn recipe(dataset: &str, root: &Path, more: &[&str]) -> Result<(), Failed> {
    let sets = [
        format!("data.dataset={dataset}"),
        format!("data.root={}", root.display()),
        "data.train_images=300".into(),
        "data.test_images=100".into(),
        "network.width=16".into(),
    ];
    let mut arguments = quick(&["--quiet", "--out", "run"]);
    sets.iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .for_each(|set| arguments.extend(["--set", set]));
    let table = Here::new().succeeds(&arguments);
    assert!(table.contains(&format!("100 test images of {dataset}; robust: linf ball")), "{table}");
    Ok(())
}
