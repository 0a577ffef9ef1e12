//! One file per format: from a set's files to a [`Source`].
//!
//! | file | sets |
//! |---|---|
//! | `digits` | the built-in digits |
//! | `cifar` | CIFAR-10 and CIFAR-100, binary version |
//! | `idx` | MNIST, Fashion-MNIST |
//! | `imagefolder`, `class_folders`, `files` | a folder for each class: ImageNet, ImageNette, ImageWoof, anybody's own |
//! | `tiny_imagenet` | Tiny-ImageNet with its own layout of the validation images |
//! | `arrays`, `npz`, `safetensors` | arrays of images and labels in one file |
//! | `parquet`, `parquet_columns` | Parquet files as Hugging Face lays them out |
//! | `known` | the table of all, with what is known of each without reading it |

mod arrays;
mod cifar;
pub(super) mod class_folders;
mod digits;
mod files;
mod idx;
pub(super) mod imagefolder;
mod known;
mod npz;
mod parquet;
mod parquet_columns;
mod safetensors;
mod tiny_imagenet;

pub use arrays::RawSet;
pub use known::{Constants, DATASETS, IMAGENET, Known, known};

use self::class_folders::ClassFolders;
use super::source::{Images, Limits, OnError, Part, Records, Source, damaged};
use guard_sdk::{Error, Result};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Reads a set.
///
/// | `name` | `root` |
/// |---|---|
/// | `digits` | none |
/// | `cifar10`, `cifar100` | the `.tar.gz`, the folder with the `.bin` files, or the folder that either lies in |
/// | `mnist`, `fashion-mnist` | the folder with the IDX files (`.gz` or not), or the one torchvision made (`MNIST/raw`) |
/// | `tiny-imagenet` | the folder with `train` and `val`, or the one that `tiny-imagenet-200` lies in |
/// | `imagefolder`, `imagenet`, `imagenette`, `imagewoof` | a folder of class folders, or of `train` and `test`, `val` or `validation` with them |
/// | `npz`, `safetensors` | the file, with arrays `images` and `labels` (or `x_train`, `y_train`, `x_test`, ...) |
/// | `parquet` | a file, or a folder with `train*.parquet` and `test*.parquet` or `val*.parquet` |
///
/// # Errors
/// If there is no such reader, a file is missing or damaged, or what is there is not what the set should be. Records that
/// cannot be used are errors or left out, as `on_error` says; of encoded images only the headers are looked at, and only
/// with [`OnError::Skip`].
pub fn read(name: &str, root: Option<&Path>, on_error: OnError, limits: &Limits) -> Result<Source> {
    let known = known(name)?;
    let mut records = Records::new(on_error);
    let found = match (known.needs_root, root) {
        (false, _) => digits::read()?,
        (true, None) => {
            return Err(Error::with_code(
                "data",
                format!("data set `{name}` is read from files, but no root is given"),
            )
            .help("`root` in `[data]`, or `--root` on the command line, names its file or folder"));
        }
        (true, Some(root)) if !root.exists() => {
            return Err(damaged(root.display(), "does not exist")
                .help(format!("it is the root of data set `{name}`")));
        }
        (true, Some(root)) => read_files(known, root, &mut records, limits)?,
    };
    let Found { classes, train, test } = found;
    let source = Source { classes, train, test, skipped: records.into_skipped() };
    verify(known, &source)?;
    Ok(source)
}

/// The arrays of a synthetic set in an `.npz` or `.safetensors` file.
///
/// # Errors
/// If it cannot be read or lacks `images` or `labels`.
pub fn read_raw(path: &Path, limits: &Limits) -> Result<RawSet> {
    match path.extension().is_some_and(|extension| extension == "npz") {
        true => npz::read_raw(path, limits),
        false => safetensors::read_raw(path, limits),
    }
}

/// The images in each class folder of `root`, in the order of torchvision's `ImageFolder`.
///
/// # Errors
/// If there is no class folder, or one without images.
pub fn image_folder(root: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    Ok(ClassFolders::scan(root)?.complete()?.classes)
}

/// True for sets that are folders of class folders and nothing else.
pub(super) fn is_class_folders(known: &Known) -> bool {
    matches!(known.name, "imagefolder" | "imagenet" | "imagenette" | "imagewoof")
}

/// What a reader finds, apart from what it left out.
struct Found {
    classes: Vec<String>,
    train: Part,
    test: Option<Part>,
}

fn read_files(known: &Known, root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    match known.name {
        "cifar10" => cifar::read(&cifar::CIFAR10, root, records, limits),
        "cifar100" => cifar::read(&cifar::CIFAR100, root, records, limits),
        "mnist" => idx::read(&idx::MNIST, root, records, limits),
        "fashion-mnist" => idx::read(&idx::FASHION_MNIST, root, records, limits),
        "tiny-imagenet" => tiny_imagenet::read(root, records, limits),
        "npz" => npz::read(root, records, limits),
        "safetensors" => safetensors::read(root, records, limits),
        "parquet" => parquet::read(root, records, limits),
        _ => imagefolder::read(root, records, limits),
    }
}

/// What holds for every set, whoever read it.
fn verify(known: &Known, source: &Source) -> Result<()> {
    let failed = |why: String| Error::with_code("data", format!("data set `{}` {why}", known.name));
    if let Some(classes) = known.classes.filter(|&classes| classes != source.classes.len()) {
        return Err(failed(format!("has {classes} classes, but {} were found", source.classes.len()))
            .help("data set `imagefolder` reads any number of class folders"));
    }
    for (split, part) in [("training", Some(&source.train)), ("test", source.test.as_ref())] {
        let Some(part) = part else { continue };
        if let (Some(shape), Images::Bytes { shape: found, .. }) = (known.image, &part.images)
            && found.map(|length| length as i64) != shape
        {
            return Err(failed(format!("has images of shape {shape:?}, but those found are {found:?}")));
        }
        if part.images.len() != part.labels.len() {
            return Err(failed(format!(
                "has {} images but {} labels in its {split} split",
                part.images.len(),
                part.labels.len()
            )));
        }
        if part.labels.is_empty() {
            let error = failed(format!("has no image in its {split} split that can be used"));
            return Err(match source.skipped.first() {
                Some(first) => error.cause(format!("`{}` {}", first.file, first.why)),
                None => error,
            });
        }
    }
    Ok(())
}

/// A label, if it is one of `classes`.
fn label_in_range(label: i64, classes: usize) -> Option<i64> {
    usize::try_from(label).is_ok_and(|label| label < classes).then_some(label)
}

/// Why a label cannot be used.
fn out_of_range(label: i64, classes: usize) -> String {
    format!("has label {label}, but the labels of {classes} classes end at {}", classes as i64 - 1)
}

/// Numbers as names, for sets that do not name their classes.
fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}
