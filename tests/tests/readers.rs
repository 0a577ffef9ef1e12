//! The readers on tiny sets: what they find, and what they say of files that are not as they should be.

use guard_host::data::{
    check::{self, Problem},
    readers,
    source::{Images, Limits, OnError, Part, Source},
};
use guard_sdk::Result;
use guard_tests::data_files::{
    Files, Folder, cifar10, gzipped, idx, mnist, noise, npy, npz, parquet, photo, safetensors, tar_gz,
};
use image::ImageFormat::{Bmp, Jpeg, Png, WebP};
use parquet::basic::Compression;
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

#[test]
fn cifar_is_the_same_from_the_folder_its_parent_and_the_archive() {
    let files = cifar10(&[3, 9]);
    let archive = tar_gz(&files);
    let beside = Folder::with(&vec![("cifar-10-binary.tar.gz".into(), archive)]);
    let folder = Folder::with(&files);
    for root in [
        folder.path("cifar-10-batches-bin"),
        folder.root().into(),
        beside.path("cifar-10-binary.tar.gz"),
        beside.root().into(),
    ] {
        let source = read("cifar10", &root).unwrap();
        let test = source.test.unwrap();
        assert_eq!((source.train.labels, test.labels.as_slice()), (vec![3, 9].repeat(5), [3, 9].as_slice()));
        assert_eq!((bytes(&test).1, bytes(&test).0.len()), ([3, 32, 32], 2 * 3072));
        assert_eq!(bytes(&test).0[..3072], noise(3072, 35)[..]);
        assert_eq!(source.classes[3], "cat");
    }
}

#[test]
fn cifar100_has_its_fine_labels() {
    let record = |coarse, fine| [vec![coarse, fine], noise(3072, 1)].concat();
    let folder = Folder::with(&vec![("train.bin".into(), record(4, 99)), ("test.bin".into(), record(99, 7))]);
    let source = read("cifar100", folder.root()).unwrap();
    assert_eq!((source.train.labels, source.test.unwrap().labels), (vec![99], vec![7]));
    assert_eq!(source.classes.len(), 100);
}

#[test]
fn cifar_files_that_are_wrong_are_named_with_the_record() {
    let mut files = cifar10(&[3, 9]);
    files[1].1[3073] = 10;
    files[4].1.truncate(3073 + 100);
    let folder = Folder::with(&files);
    let first = "`data_batch_2.bin, record 1` has label 10, but the labels of 10 classes end at 9";
    assert_eq!(
        refusal("cifar10", &folder.path("cifar-10-batches-bin"), &folder)
            .replace("cifar-10-batches-bin/", ""),
        first
    );
    let source = skipping("cifar10", &folder.path("cifar-10-batches-bin"));
    assert_eq!(source.train.labels, [3, 9, 3, 3, 9, 3, 9, 3]);
    assert_eq!(bytes(&source.train).0.len(), 8 * 3072);
    let why: Vec<_> = source.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
    assert_eq!(
        why,
        ["has label 10, but the labels of 10 classes end at 9", "is cut short: it has 100 of 3073 bytes"]
    );

    files.remove(2);
    let folder = Folder::with(&files);
    assert_eq!(refusal("cifar10", folder.root(), &folder), "`ROOT` lacks `data_batch_3.bin`");
}

#[test]
fn idx_files_are_read_plain_gzipped_and_where_torchvision_puts_them() {
    let files = mnist(&[0, 5, 9], &[1]);
    let gz = |files: Files| {
        files.into_iter().map(|(name, bytes)| (name + ".gz", gzipped(&bytes))).collect::<Files>()
    };
    let raw = |files: Files, set: &str| renamed(files, |name| format!("{set}/raw/{name}"));
    for (set, files) in [
        ("mnist", files.clone()),
        ("fashion-mnist", gz(files.clone())),
        ("mnist", raw(files.clone(), "MNIST")),
        ("fashion-mnist", raw(gz(files.clone()), "FashionMNIST")),
    ] {
        let folder = Folder::with(&files);
        let source = read(set, folder.root()).unwrap();
        assert_eq!((source.train.labels.as_slice(), source.classes.len()), ([0, 5, 9].as_slice(), 10));
        assert_eq!(bytes(&source.train), (noise(3 * 784, 1).as_slice(), [1, 28, 28]));
        assert_eq!(source.test.unwrap().labels, [1]);
    }
}

#[test]
fn idx_files_that_are_wrong_are_named_with_what_is_wrong() {
    let with = |name: &str, bytes: Vec<u8>| {
        let folder = Folder::with(&mnist(&[0, 5, 9], &[1]));
        folder.write(name, &bytes);
        refusal("mnist", folder.root(), &folder)
    };
    assert_eq!(
        with("train-images-idx3-ubyte", idx(&[3], &[1, 2, 3])),
        "`train-images-idx3-ubyte` has the magic number 0x00000801, not 0x00000803"
    );
    assert_eq!(
        with("train-labels-idx1-ubyte", idx(&[2], &[1, 2])),
        "`train-images-idx3-ubyte` has 3 images, but `train-labels-idx1-ubyte` has 2 labels"
    );
    assert_eq!(
        with("train-images-idx3-ubyte", idx(&[3, 28, 28], &noise(2000, 1))),
        "`train-images-idx3-ubyte` is cut short: it holds 2 of 3 records, 2000 of 2352 bytes"
    );
    assert_eq!(
        with("t10k-labels-idx1-ubyte", idx(&[1], &[1, 2])),
        "`t10k-labels-idx1-ubyte` has 1 bytes after the 1 records that its header announces"
    );
    assert_eq!(
        with("train-labels-idx1-ubyte", idx(&[3], &[0, 10, 9])),
        "`train-labels-idx1-ubyte, label 1` has label 10, but the labels of 10 classes end at 9"
    );
    assert_eq!(
        with("train-images-idx3-ubyte", idx(&[3, 8, 8], &noise(192, 1))),
        "data set `mnist` has images of shape [1, 28, 28], but those found are [1, 8, 8]"
    );
    assert_eq!(
        with("train-labels-idx1-ubyte", vec![0, 0]),
        "`train-labels-idx1-ubyte` is cut short: its header has 2 bytes"
    );

    let folder = Folder::with(&mnist(&[0, 5, 9], &[1])[..3].to_vec());
    assert_eq!(
        refusal("mnist", folder.root(), &folder),
        "`ROOT` lacks `t10k-labels-idx1-ubyte` (or `t10k-labels-idx1-ubyte.gz`)"
    );
    let whole = gzipped(&idx(&[3], &[0, 5, 9]));
    let folder = Folder::with(&mnist(&[0, 5, 9], &[1]));
    folder.write("train-labels-idx1-ubyte", &whole[..whole.len() - 3]);
    assert!(
        refusal("mnist", folder.root(), &folder)
            .starts_with("`train-labels-idx1-ubyte` is damaged or cut short")
    );
}

#[test]
fn records_that_an_idx_file_lacks_are_skipped() {
    let folder = Folder::with(&mnist(&[0, 5, 9], &[1]));
    folder.write("train-images-idx3-ubyte", &idx(&[3, 28, 28], &noise(2000, 1)));
    let source = skipping("mnist", folder.root());
    assert_eq!(source.train.labels, [0, 5]);
    assert_eq!(skipped(&source, &folder)[0].0, "train-images-idx3-ubyte");
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

fn le(labels: &[i64]) -> Vec<u8> {
    labels.iter().flat_map(|label| label.to_le_bytes()).collect()
}

#[test]
fn arrays_are_read_by_the_names_of_the_field_in_every_layout() {
    let pixels = noise(2 * 4 * 5 * 3, 1);
    let labels = npy("<i8", &[2], &le(&[1, 0]));
    let image = |shape: &[usize]| npy("|u1", shape, &pixels[..shape.iter().product()]);
    let layouts: [(&[usize], [usize; 3]); 3] =
        [(&[2, 4, 5], [1, 4, 5]), (&[2, 3, 4, 5], [3, 4, 5]), (&[2, 4, 5, 3], [3, 4, 5])];
    for (shape, expected) in layouts {
        for [images, classes] in
            [["images", "labels"], ["x_train", "y_train"], ["train_images", "train_labels"]]
        {
            let folder = Folder::with(&vec![(
                "x.npz".into(),
                npz(&[(images, image(shape)), (classes, labels.clone())]),
            )]);
            let source = read("npz", &folder.path("x.npz")).unwrap();
            let (values, found) = bytes(&source.train);
            assert_eq!((found, source.train.labels.as_slice()), (expected, [1, 0].as_slice()));
            match shape.last() {
                // Channels first: the second image's green at row 0, column 1.
                Some(3) => assert_eq!(values[60 + 20 + 1], pixels[60 + 3 + 1]),
                _ => assert_eq!(values, &pixels[..values.len()]),
            }
            assert!(source.test.is_none());
        }
    }
}

#[test]
fn arrays_of_the_test_split_and_big_endian_floats_are_read() {
    let pixels: Vec<u8> = (0..8).flat_map(|value| (f64::from(value) / 8.0).to_be_bytes()).collect();
    let arrays = [
        ("x_train", npy(">f8", &[2, 2, 2], &pixels)),
        ("y_train", npy("|u1", &[2, 1], &[1, 0])),
        ("x_test", npy(">f8", &[1, 2, 2], &pixels[..32])),
        ("y_test", npy(">i4", &[1], &1i32.to_be_bytes())),
    ];
    let folder = Folder::with(&vec![("x.npz".into(), npz(&arrays))]);
    let source = read("npz", &folder.path("x.npz")).unwrap();
    assert_eq!(source.test.unwrap().labels, [1]);
    let Images::Floats { values, shape: [1, 2, 2] } = &source.train.images else { panic!("not floats") };
    assert_eq!(values, &[0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]);
}

#[test]
fn arrays_that_are_wrong_are_named() {
    let with = |images: Vec<u8>, labels: Vec<u8>| {
        let folder = Folder::with(&vec![("x.npz".into(), npz(&[("images", images), ("labels", labels)]))]);
        refusal("npz", &folder.path("x.npz"), &folder)
    };
    let images = || npy("|u1", &[2, 4, 4], &noise(32, 1));
    let labels = || npy("<i8", &[2], &le(&[0, 1]));
    assert_eq!(
        with(images(), npy("|O", &[2], b"cos\nsystem\n")),
        "`x.npz/labels` is an object array, which is a pickle and could run code"
    );
    assert_eq!(
        with(images(), npy("<i8", &[3], &le(&[0, 1, 2]))),
        "`x.npz/images` has shape [2, 4, 4], but there are 3 labels"
    );
    assert_eq!(
        with(images(), npy("<i8", &[2], &le(&[0, 7]))),
        "`x.npz/images` has 2 images, but their labels go up to 7"
    );
    assert_eq!(
        with(images(), npy("<f4", &[2], &[0; 8])),
        "`x.npz/labels` holds floating-point numbers; labels are integers"
    );
    assert_eq!(
        with(images(), npy("<i8", &[2], &le(&[-1, 0]))),
        "`x.npz/images, image 0` has label -1, but the labels of 1 classes end at 0"
    );
    assert_eq!(
        with(npy("|u1", &[2, 3, 4, 3], &noise(72, 1)), labels()),
        "`x.npz/images` has shape [2, 3, 4, 3], whose channels could be the second axis or the last"
    );
    assert_eq!(
        with(npy("|u1", &[2, 2, 4, 2], &noise(32, 1)), labels()),
        "`x.npz/images` has shape [2, 2, 4, 2]; neither its second axis nor its last is 1 or 3 channels"
    );
    assert_eq!(
        with(npy("<f4", &[2, 1, 1], &[0.5f32, 200.0].map(f32::to_le_bytes).concat()), labels()),
        "`x.npz/images, image 1` has a pixel of 200; pixels are in [0,1]"
    );
    assert_eq!(
        with(npy("|u1", &[2, 4, 4], &noise(31, 1)), labels()),
        "`x.npz/images` has 31 bytes of numbers, which is not what shape [2, 4, 4] takes"
    );
    let folder = Folder::with(&vec![("x.npz".into(), npz(&[("../images", images()), ("labels", labels())]))]);
    assert_eq!(
        refusal("npz", &folder.path("x.npz"), &folder),
        "`x.npz/../images.npy` has a name that leads out of the archive"
    );
    let folder = Folder::with(&vec![("x.npz".into(), npz(&[("pictures", images())]))]);
    assert_eq!(
        refusal("npz", &folder.path("x.npz"), &folder),
        "`x.npz` has no array `images`, `train_images` or `x_train`"
    );
}

#[test]
fn tensors_are_read_like_arrays() {
    use ::safetensors::Dtype::{F32, I64, U8};
    let pixels = noise(2 * 3 * 4 * 5, 1);
    let floats: Vec<u8> = pixels.iter().flat_map(|&value| (f32::from(value) / 255.0).to_le_bytes()).collect();
    let file = safetensors(&[
        ("images", F32, vec![2, 3, 4, 5], floats),
        ("labels", I64, vec![2], le(&[1, 0])),
        ("test_images", U8, vec![1, 3, 4, 5], pixels[..60].to_vec()),
        ("test_labels", I64, vec![1], le(&[1])),
    ]);
    let folder = Folder::with(&vec![("x.safetensors".into(), file.clone())]);
    let source = read("safetensors", &folder.path("x.safetensors")).unwrap();
    let Images::Floats { values, shape: [3, 4, 5] } = &source.train.images else { panic!("not floats") };
    assert_eq!(
        (values[7], source.train.labels.as_slice()),
        (f32::from(pixels[7]) / 255.0, [1, 0].as_slice())
    );
    assert_eq!(bytes(&source.test.unwrap()).0, &pixels[..60]);
    folder.write("cut.safetensors", &file[..file.len() - 1]);
    let message = refusal("safetensors", &folder.path("cut.safetensors"), &folder);
    assert!(message.starts_with("`cut.safetensors` is not a safetensors file"), "{message}");
}

#[test]
fn parquet_files_are_read_whatever_their_compression() {
    let rows: Vec<_> =
        (0..5).map(|index| (Some(photo(Png, 4, 4, index)), Some(i64::from(index % 2)))).collect();
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
    ] {
        let folder = Folder::with(&vec![
            ("data/train-00000-of-00001.parquet".into(), parquet(&rows, Some(&["cat", "dog", "owl"]), codec)),
            ("data/validation-00000-of-00001.parquet".into(), parquet(&rows[..1], None, codec)),
        ]);
        let source = read("parquet", folder.root()).unwrap();
        assert_eq!(
            (source.classes.as_slice(), source.train.labels.as_slice()),
            (["cat", "dog", "owl"].map(String::from).as_slice(), [0, 1, 0, 1, 0].as_slice())
        );
        assert_eq!(names(&source.train, &folder)[4], "data/train-00000-of-00001.parquet, row 4");
        let Images::Encoded(images) = &source.train.images else { panic!("not encoded") };
        assert_eq!(images.bytes(3).unwrap(), photo(Png, 4, 4, 3));
        assert_eq!(source.test.unwrap().labels, [0]);
    }
}

#[test]
fn parquet_rows_and_files_that_are_missing_are_named() {
    let image = || Some(photo(Png, 4, 4, 1));
    let rows = [(image(), Some(0)), (None, Some(1)), (image(), None), (image(), Some(5)), (image(), Some(1))];
    let file = parquet(&rows, Some(&["cat", "dog"]), Compression::SNAPPY);
    let folder = Folder::with(&vec![("train-00000-of-00002.parquet".into(), file.clone())]);
    assert_eq!(
        refusal("parquet", folder.root(), &folder),
        "`ROOT` lacks 1 of 2 files: `train-00001-of-00002`"
    );

    let folder = Folder::with(&vec![("x.parquet".into(), file)]);
    assert_eq!(
        refusal("parquet", &folder.path("x.parquet"), &folder),
        "`x.parquet, row 1` has no image bytes"
    );
    let source = skipping("parquet", folder.root());
    assert_eq!(source.train.labels, [0, 1]);
    assert_eq!(names(&source.train, &folder), ["x.parquet, row 0", "x.parquet, row 4"]);
    let rows: Vec<_> =
        skipped(&source, &folder).into_iter().map(|(row, why)| format!("{row} {why}")).collect();
    assert_eq!(
        rows,
        [
            "x.parquet, row 1 has no image bytes",
            "x.parquet, row 2 has no label",
            "x.parquet, row 3 has label 5, but the labels of 2 classes end at 1"
        ]
    );
    let limits = Limits { memory: 100, ..Limits::default() };
    let error = readers::read("parquet", Some(folder.root()), OnError::Skip, &limits).err().unwrap();
    assert!(error.message.ends_with("brings the images in memory above 100 bytes"), "{error}");
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
