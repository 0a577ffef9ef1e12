//! What the check finds.

use super::{photos, skipped, skipping};
use guard_host::data::{
    check::{self, Problem},
    source::{Images, Limits},
};
use guard_tests::data_files::{Folder, cifar10, photo};
use image::ImageFormat::{Jpeg, Png};

#[test]
fn files_that_are_no_images_are_skipped_by_their_headers_and_damaged_ones_found_by_decoding() {
    let folder = Folder::with(&photos());
    folder.write("train/a/page.jpg", b"<html>");
    let whole = photo(Jpeg, 64, 64, 1);
    folder.write("train/a/cut.jpg", &whole[..whole.len() * 2 / 3]);
    let source = skipping("imagefolder", folder.root());
    assert_eq!(skipped(&source, &folder), [("train/a/page.jpg".into(), "is not an image".into())]);
    assert_eq!(source.train.labels, [0, 0, 1, 1, 1]);
    let Images::Encoded(images) = &source.train.images else { panic!("not encoded") };
    let faults = check::readable(images.as_ref(), &Limits::default());
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0], (0, "is cut short: it has no end-of-image marker".into()));
}

#[test]
fn the_check_lists_every_problem_of_class_folders() {
    let folder = Folder::with(&photos());
    folder.write("val/a/copy.png", &photo(Png, 8, 6, 1));
    folder.write("train/a/broken.png", &photo(Png, 8, 6, 1)[..60]);
    folder.write("train/a/notes.txt", b"");
    folder.write("train/loose.png", b"");
    folder.write("val/empty/.keep", b"");
    let report = check::check("imagefolder", Some(folder.root()), &Limits::default()).unwrap();
    let path = |name: &str| folder.path(name).display().to_string();
    assert_eq!(report.images, 8);
    assert_eq!(report.problems.len(), 6, "{report:#?}");
    assert_eq!(
        report.problems[..4],
        [
            Problem::Classless { file: path("train/loose.png") },
            Problem::NotAnImage { file: path("train/a/notes.txt") },
            Problem::EmptyClass { folder: path("val/empty") },
            Problem::OneSidedClass { class: "empty".into(), only_in: path("val") },
        ]
    );
    assert!(
        matches!(&report.problems[4], Problem::Unreadable { file, .. } if *file == path("train/a/broken.png"))
    );
    let Problem::Duplicate { images, leaks: true, mislabelled: true } = &report.problems[5] else {
        panic!("{report:#?}")
    };
    let found: Vec<_> =
        images.iter().map(|image| (image.file.clone(), image.split, image.class.as_str())).collect();
    assert_eq!(found, [(path("train/b/deep/1.png"), "train", "b"), (path("val/a/copy.png"), "test", "a")]);
    assert!(
        serde_json::to_string(&report).unwrap().contains("{\"kind\":\"one-sided-class\",\"class\":\"empty\"")
    );
}

#[test]
fn the_check_finds_duplicates_and_bad_records_of_binary_sets() {
    let mut files = cifar10(&[3, 9]);
    let copy = files[0].1[1..3073].to_vec();
    files[5].1[3074..].copy_from_slice(&copy);
    files[2].1[0] = 77;
    let folder = Folder::with(&files);
    let report = check::check("cifar10", Some(folder.root()), &Limits::default()).unwrap();
    assert_eq!(report.images, 12);
    let [Problem::Unreadable { .. }, Problem::Duplicate { images, leaks: true, mislabelled: true }] =
        &report.problems[..]
    else {
        panic!("{report:#?}")
    };
    assert_eq!((images[0].file.as_str(), images[1].file.as_str()), ("train, image 0", "test, image 1"));
    let report = check::check("cifar10", Some(&folder.path("nothing")), &Limits::default()).unwrap();
    assert!(matches!(&report.problems[..], [Problem::Unusable { .. }]));
}
