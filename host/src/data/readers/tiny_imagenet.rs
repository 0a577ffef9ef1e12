//! Tiny-ImageNet: `train/WNID/images/*.JPEG` as class folders, and validation images that one text file labels.
//!
//! The published set keeps its validation images in `val/images` and their classes in `val/val_annotations.txt`; many
//! scripts sort them into class folders first, which is read as well. Labels are positions in the sorted names of the
//! class folders, not in `wnids.txt`, whose order is another. `test` has no labels and is not read.

use super::{
    Found,
    class_folders::{ClassFolders, listed},
    files::Files,
    imagefolder::{part, same_classes},
};
use crate::data::{
    archive::{read_file, unreadable},
    source::{Images, Limits, Part, Records},
};
use guard_sdk::Result;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

const FOLDER: &str = "tiny-imagenet-200";

pub(super) fn read(root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    let root = match root.join("train").is_dir() {
        true => root.to_path_buf(),
        false => root.join(FOLDER),
    };
    for split in ["train", "val"] {
        if !root.join(split).is_dir() {
            return Err(unreadable(&root, format!("lacks the folder `{split}`")));
        }
    }
    let train = ClassFolders::scan(&root.join("train"))?.complete()?;
    let classes: Vec<String> = train.classes.keys().cloned().collect();
    let (val, annotations) = (root.join("val"), root.join("val/val_annotations.txt"));
    let test = match annotations.is_file() && val.join("images").is_dir() {
        true => {
            let (files, labels) =
                Files::open(annotated(&annotations, &classes, records, limits)?, records, limits)?;
            Part { images: Images::Encoded(Arc::new(files)), labels }
        }
        false => {
            let test = ClassFolders::scan(&val)?.complete()?;
            same_classes(&train, &test)?;
            part(test, &classes, records, limits)?
        }
    };
    Ok(Found { train: part(train, &classes, records, limits)?, classes, test: Some(test) })
}

/// The validation images with their labels, in the order of the annotations: a file name and a class a line, then the box
/// of the object.
fn annotated(
    annotations: &Path,
    classes: &[String],
    records: &mut Records,
    limits: &Limits,
) -> Result<Vec<(PathBuf, i64)>> {
    let text = String::from_utf8_lossy(&read_file(annotations, limits)?).into_owned();
    let folder = annotations.with_file_name("images");
    let (mut images, mut absent) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut words = line.split('\t').map(str::trim);
        let (file, class) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let title = || format!("{}, line {}", annotations.display(), number + 1);
        // A name of more than one part would lead out of the folder.
        if Path::new(file).file_name().is_none_or(|name| name != file) {
            records.unusable(title(), format!("names no file: `{file}`"))?;
            continue;
        }
        let Ok(label) = classes.binary_search_by(|name| name.as_str().cmp(class)) else {
            records
                .unusable(title(), format!("has class `{class}`, of which there are no training images"))?;
            continue;
        };
        match folder.join(file) {
            path if path.is_file() => images.push((path, label as i64)),
            _ => absent.push(file.to_owned()),
        }
    }
    let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
    match absent.is_empty() {
        true => Ok(images),
        false => Err(unreadable(
            &folder,
            format!("lacks images that `{}` labels: {}", annotations.display(), listed(&absent)),
        )),
    }
}
