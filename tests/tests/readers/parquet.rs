//! Parquet files with an image column.

use super::{names, read, refusal, skipped, skipping};
use ::parquet::basic::Compression;
use guard_host::data::{
    readers,
    source::{Images, Limits, OnError},
};
use guard_tests::data_files::{Folder, parquet, photo};
use image::ImageFormat::Png;

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
