//! A folder for each class, and Tiny-ImageNet.

use super::{names, photos, read, refusal, renamed};
use guard_tests::data_files::{Files, Folder, photo};
use image::ImageFormat::{Jpeg, Png};

#[test]
fn class_folders_are_labelled_in_the_order_of_their_names() {
    let folder = Folder::with(&photos());
    folder.write("train/.cache/x.png", b"hidden");
    folder.write("train/a/.x.png", b"hidden");
    folder.write("train/a/notes.txt", b"no image");
    let source = read("imagefolder", folder.root()).unwrap();
    assert_eq!(source.classes, ["a", "b"]);
    assert_eq!(
        names(&source.train, &folder),
        ["train/a/x.bmp", "train/b/1.webp", "train/b/2.JPG", "train/b/deep/1.png"]
    );
    assert_eq!(source.train.labels, [0, 1, 1, 1]);
    let test = source.test.unwrap();
    assert_eq!(
        (names(&test, &folder), test.labels),
        (vec!["val/a/y.jpeg".into(), "val/b/z.png".into()], vec![0, 1])
    );
}

#[test]
fn one_folder_of_class_folders_has_no_test_split() {
    // A class that is called `train` is not a split.
    let files =
        renamed(photos(), |name| name.replace("train/b/", "train/").replace("deep/", "").replace("val/", ""));
    let folder = Folder::with(&files.into_iter().filter(|(name, _)| !name.contains("train/a")).collect());
    let source = read("imagefolder", folder.root()).unwrap();
    assert!(source.test.is_none());
    assert_eq!(
        (source.classes, source.train.labels),
        (vec!["a".into(), "b".into(), "train".into()], vec![0, 1, 2, 2, 2])
    );
}

#[test]
fn unlabelled_test_images_leave_the_validation_split_in_their_place() {
    let folder = Folder::with(&photos());
    folder.write("test/1.png", b"no class");
    assert_eq!(names(&read("imagefolder", folder.root()).unwrap().test.unwrap(), &folder)[0], "val/a/y.jpeg");
}

#[test]
fn class_folders_that_are_wrong_are_named() {
    let folder = Folder::with(&photos());
    folder.write("train/c/1.png", b"");
    folder.write("val/d/1.png", b"");
    assert_eq!(
        refusal("imagefolder", folder.root(), &folder),
        "`ROOT` has different classes in its splits: `c` only in `train`; `d` only in `val`"
    );
    let folder = Folder::with(&photos());
    folder.write("val/c/notes.txt", b"");
    assert_eq!(refusal("imagefolder", folder.root(), &folder), "`val` has class folders without images: `c`");
    let folder = Folder::with(&vec![("x.png".into(), photo(Png, 2, 2, 0))]);
    assert_eq!(refusal("imagefolder", folder.root(), &folder), "`ROOT` has no class folders");
    let folder = Folder::with(&photos());
    assert_eq!(
        refusal("imagenette", folder.root(), &folder),
        "data set `imagenette` has 10 classes, but 2 were found"
    );
    assert_eq!(refusal("imagefolder", &folder.path("none"), &folder), "`none` does not exist");
}

/// 200 classes with one image each, the published layout of the validation split.
fn tiny_imagenet(sorted: bool) -> Files {
    let image = photo(Jpeg, 64, 64, 3);
    let class = |index: usize| format!("n{index:08}");
    let mut files = Files::new();
    let mut annotations = String::new();
    for index in 0..200 {
        let class = class(index);
        files.push((format!("tiny-imagenet-200/train/{class}/images/{class}_0.JPEG"), image.clone()));
        // Annotated in another order than that of the classes.
        let name = format!("val_{}.JPEG", 199 - index);
        match sorted {
            true => files.push((format!("tiny-imagenet-200/val/{class}/images/{name}"), image.clone())),
            false => files.push((format!("tiny-imagenet-200/val/images/{name}"), image.clone())),
        }
        annotations = format!("{name}\t{class}\t0\t32\t44\t62\n{annotations}");
    }
    if !sorted {
        files.push(("tiny-imagenet-200/val/val_annotations.txt".into(), annotations.into_bytes()));
    }
    files
}

#[test]
fn tiny_imagenet_is_read_in_its_own_layout_and_sorted() {
    let folder = Folder::with(&tiny_imagenet(false));
    let own = read("tiny-imagenet", folder.root()).unwrap();
    let test = own.test.unwrap();
    assert_eq!((own.classes.len(), own.train.labels[..3].to_vec()), (200, vec![0, 1, 2]));
    assert_eq!(test.labels, (0..200).rev().collect::<Vec<_>>());
    assert_eq!(names(&test, &folder)[0], "tiny-imagenet-200/val/images/val_0.JPEG");
    let folder = Folder::with(&tiny_imagenet(true));
    let sorted = read("tiny-imagenet", &folder.path("tiny-imagenet-200")).unwrap();
    assert_eq!(sorted.test.unwrap().labels, (0..200).collect::<Vec<_>>());
}

#[test]
fn annotations_of_tiny_imagenet_that_name_nothing_are_errors() {
    let annotations = "tiny-imagenet-200/val/val_annotations.txt";
    let with = |line: &str| {
        let folder = Folder::with(&tiny_imagenet(false));
        folder.write(annotations, line.as_bytes());
        refusal("tiny-imagenet", folder.root(), &folder).replace("tiny-imagenet-200/val/", "")
    };
    assert_eq!(
        with("val_0.JPEG\tn00000300\t1"),
        "`val_annotations.txt, line 1` has class `n00000300`, of which there are no training images"
    );
    assert_eq!(
        with("../../x.JPEG\tn00000001"),
        "`val_annotations.txt, line 1` names no file: `../../x.JPEG`"
    );
    assert_eq!(
        with("gone.JPEG\tn00000001"),
        "`images` lacks images that `val_annotations.txt` labels: `gone.JPEG`"
    );
}
