//! The readers on tiny sets: what they find, and what they say of files that are not as they should be.

mod arrays;
mod binary;
mod checks;
mod class_folders;
mod parquet;

use guard_host::data::{
    readers,
    source::{Images, Limits, OnError, Part, Source},
};
use guard_sdk::Result;
use guard_tests::data_files::{Files, Folder, photo};
use image::ImageFormat::{Bmp, Jpeg, Png, WebP};
use std::path::Path;

fn read(name: &str, root: &Path) -> Result<Source> {
    readers::read(name, Some(root), OnError::Stop, &Limits::default())
}

fn skipping(name: &str, root: &Path) -> Source {
    readers::read(name, Some(root), OnError::Skip, &Limits::default()).unwrap()
}

/// The message of a reader's error, with the folder's own path cut out.
fn refusal(name: &str, root: &Path, folder: &Folder) -> String {
    let error = read(name, root).err().expect("the reader refuses");
    assert!(!error.message.contains('\n'), "{}", error.message);
    error
        .message
        .replace(&format!("{}/", folder.root().display()), "")
        .replace(&folder.root().display().to_string(), "ROOT")
}

fn bytes(part: &Part) -> (&[u8], [usize; 3]) {
    match &part.images {
        Images::Bytes { values, shape, brightest: 255 } => (values, *shape),
        _ => panic!("not bytes"),
    }
}

fn names(part: &Part, folder: &Folder) -> Vec<String> {
    match &part.images {
        Images::Encoded(images) => (0..images.len())
            .map(|index| images.name(index).replace(&format!("{}/", folder.root().display()), ""))
            .collect(),
        _ => panic!("not encoded"),
    }
}

fn skipped(source: &Source, folder: &Folder) -> Vec<(String, String)> {
    let path = format!("{}/", folder.root().display());
    source.skipped.iter().map(|skipped| (skipped.file.replace(&path, ""), skipped.why.clone())).collect()
}

fn renamed(files: Files, rename: impl Fn(&str) -> String) -> Files {
    files.into_iter().map(|(name, bytes)| (rename(&name), bytes)).collect()
}

/// Two classes; both splits.
fn photos() -> Files {
    let names = [
        "train/b/2.JPG",
        "train/b/deep/1.png",
        "train/b/1.webp",
        "train/a/x.bmp",
        "val/a/y.jpeg",
        "val/b/z.png",
    ];
    let format = |name: &str| match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("png") => Png,
        Some("webp") => WebP,
        Some("bmp") => Bmp,
        _ => Jpeg,
    };
    names.iter().zip(0..).map(|(name, seed)| ((*name).to_owned(), photo(format(name), 8, 6, seed))).collect()
}

#[test]
fn a_set_without_a_root_says_what_is_missing() {
    let error = readers::read("cifar10", None, OnError::Stop, &Limits::default()).err().unwrap();
    assert_eq!(error.message, "data set `cifar10` is read from files, but no root is given");
    assert_eq!(
        readers::read("digits", None, OnError::Stop, &Limits::default()).unwrap().train.labels.len(),
        1437
    );
}
