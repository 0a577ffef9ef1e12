//! Anybody's images: a folder for each class, labels in the order of the sorted names, as torchvision's `ImageFolder`.
//!
//! `ROOT/train/CLASS/...` with `ROOT/test`, `ROOT/val` or `ROOT/validation` beside it (the first of them that has class
//! folders, so that a folder of unlabelled test images is passed over), or `ROOT/CLASS/...` without a test split of its
//! own. Files are images by their extension, in any case; nested folders are searched; hidden ones are not.

use super::{
    Found,
    class_folders::{ClassFolders, listed, visible},
    files::Files,
};
use crate::data::{
    archive::unreadable,
    source::{Images, Limits, OnError, Part, Records, Source},
};
use guard_sdk::Result;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

const TEST: [&str; 3] = ["test", "val", "validation"];

/// The folders that hold the class folders of the splits.
pub(in crate::data) struct Layout {
    /// The training split.
    pub(in crate::data) train: PathBuf,
    /// The test split, where it has a folder of its own.
    pub(in crate::data) test: Option<PathBuf>,
}

impl Layout {
    /// Looks for the splits' folders in `root`.
    ///
    /// # Errors
    /// If it is not a folder or cannot be read.
    pub(in crate::data) fn find(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return Err(unreadable(root, "is not a folder"));
        }
        let train = root.join("train");
        if !has_folders(&train)? {
            return Ok(Self { train: root.to_path_buf(), test: None });
        }
        for name in TEST {
            let test = root.join(name);
            if has_folders(&test)? {
                return Ok(Self { train, test: Some(test) });
            }
        }
        Ok(Self { train, test: None })
    }
}

/// True for a folder of folders: a class that is called `train` holds images instead.
fn has_folders(folder: &Path) -> Result<bool> {
    Ok(folder.is_dir() && visible(folder)?.iter().any(|path| path.is_dir()))
}

pub(super) fn read(root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    let layout = Layout::find(root)?;
    let train = ClassFolders::scan(&layout.train)?.complete()?;
    let test = layout.test.map(|folder| ClassFolders::scan(&folder)?.complete()).transpose()?;
    if let Some(test) = &test {
        same_classes(&train, test)?;
    }
    let classes: Vec<String> = train.classes.keys().cloned().collect();
    let train = part(train, &classes, records, limits)?;
    let test = test.map(|test| part(test, &classes, records, limits)).transpose()?;
    Ok(Found { classes, train, test })
}

/// All images of two splits, whatever is wrong with their folders. Labels are positions in the names of both.
pub(in crate::data) fn everything(
    train: ClassFolders,
    test: Option<ClassFolders>,
    limits: &Limits,
) -> Result<Source> {
    let names = train.classes.keys().chain(test.iter().flat_map(|test| test.classes.keys()));
    let classes: Vec<String> = names.cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let mut records = Records::new(OnError::Stop);
    let train = part(train, &classes, &mut records, limits)?;
    let test = test.map(|test| part(test, &classes, &mut records, limits)).transpose()?;
    Ok(Source { classes, train, test, skipped: Vec::new() })
}

/// The images of class folders with their labels.
pub(super) fn part(
    folders: ClassFolders,
    classes: &[String],
    records: &mut Records,
    limits: &Limits,
) -> Result<Part> {
    let (files, labels) = Files::open(folders.labelled(classes), records, limits)?;
    Ok(Part { images: Images::Encoded(Arc::new(files)), labels })
}

/// An error that lists the classes which only one split has.
pub(super) fn same_classes(train: &ClassFolders, test: &ClassFolders) -> Result<()> {
    let only = |one: &ClassFolders, other: &ClassFolders| {
        let names: Vec<&str> = one
            .classes
            .keys()
            .filter(|name| !other.classes.contains_key(*name))
            .map(String::as_str)
            .collect();
        (!names.is_empty()).then(|| format!("{} only in `{}`", listed(&names), one.root.display()))
    };
    let differences: Vec<_> = [only(train, test), only(test, train)].into_iter().flatten().collect();
    match differences.is_empty() {
        true => Ok(()),
        false => Err(unreadable(
            train.root.parent().unwrap_or(&train.root),
            format!("has different classes in its splits: {}", differences.join("; ")),
        )
        .help("labels are positions in the sorted names, so both splits need the same class folders")),
    }
}
