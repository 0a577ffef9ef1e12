//! CIFAR and IDX files.

use super::{bytes, read, refusal, renamed, skipped, skipping};
use guard_tests::data_files::{Files, Folder, cifar10, gzipped, idx, mnist, noise, tar_gz};

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
        assert_eq!((source.train.labels, test.labels.as_slice()), ([3, 9].repeat(5), [3, 9].as_slice()));
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
