//! The readers on real sets (`../shared/data` beside the checkout, or `GUARD_DATA_DIR`); ignored where they are missing.

use guard_host::data::{
    check::{self, Problem},
    readers::{known, read},
    source::{Images, Limits, OnError, Part},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

type Test = fn(&Path) -> Result<(), Failed>;

/// Each with the part of the folder that it reads.
const TESTS: [(&str, &str, Test); 4] = [
    ("fashion_mnist_has_its_published_counts_mean_and_standard_deviation", "fashion-mnist", fashion_mnist),
    (
        "cifar10_has_its_published_counts_mean_and_standard_deviation",
        "cifar-10/cifar-10-binary.tar.gz",
        cifar10,
    ),
    ("the_photos_are_ten_classes_of_seventy_and_twenty_and_all_decode", "caltech101-10", photos),
    ("the_check_of_the_photos_finds_all_of_them_readable", "caltech101-10", photos_checked),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = std::env::var_os("GUARD_DATA_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let trial = |(name, part, test): (&'static str, &str, Test)| {
        let path = root.join(part);
        Trial::ignorable_test(name, move || match path.exists() {
            true => test(&path).map(|()| Completion::Completed),
            false => Ok(Completion::ignored_with(format!(
                "there is no `{}`; GUARD_DATA_DIR names another folder",
                path.display()
            ))),
        })
    };
    libtest_mimic::run(&arguments, TESTS.map(trial).into()).exit_code()
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), Failed> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("found {found:?}, not {expected:?}").into()),
    }
}

fn counts(part: &Part, classes: usize) -> Vec<usize> {
    (0..classes as i64).map(|class| part.labels.iter().filter(|&&label| label == class).count()).collect()
}

/// Mean and standard deviation of each channel's pixels in [0,1], within 1e-4.
fn statistics(part: &Part, mean: &[f64], std: &[f64]) -> Result<(), Failed> {
    let Images::Bytes { values, shape: [channels, height, width], .. } = &part.images else {
        return Err("not bytes".into());
    };
    for channel in 0..*channels {
        let planes = values.chunks_exact(height * width).skip(channel).step_by(*channels);
        let (mut count, mut sum, mut squares) = (0u64, 0u64, 0u64);
        for value in planes.flatten().map(|&value| u64::from(value)) {
            (count, sum, squares) = (count + 1, sum + value, squares + value * value);
        }
        let average = sum as f64 / count as f64 / 255.0;
        let deviation = (squares as f64 / count as f64 / 255.0 / 255.0 - average * average).sqrt();
        if (average - mean[channel]).abs() > 1e-4 || (deviation - std[channel]).abs() > 1e-4 {
            return Err(format!("channel {channel}: mean {average}, standard deviation {deviation}").into());
        }
    }
    Ok(())
}

fn fashion_mnist(root: &Path) -> Result<(), Failed> {
    let source = read("fashion-mnist", Some(root), OnError::Stop, &Limits::default())?;
    same(counts(&source.train, 10), vec![6000; 10])?;
    same(source.test.map(|test| counts(&test, 10)), Some(vec![1000; 10]))?;
    statistics(&source.train, &[0.28604], &[0.35302])
}

fn cifar10(archive: &Path) -> Result<(), Failed> {
    let source = read("cifar10", Some(archive), OnError::Stop, &Limits::default())?;
    same(source.classes[9].as_str(), "truck")?;
    same(counts(&source.train, 10), vec![5000; 10])?;
    same(source.test.map(|test| counts(&test, 10)), Some(vec![1000; 10]))?;
    statistics(&source.train, &[0.49140, 0.48216, 0.44653], &[0.24703, 0.24348, 0.26159])?;
    // What the field writes are the same numbers, rounded.
    let constants = known("cifar10")?.constants.ok_or("no constants")?;
    statistics(&source.train, constants.mean, constants.std)
}

fn photos(root: &Path) -> Result<(), Failed> {
    let source = read("imagefolder", Some(root), OnError::Skip, &Limits::default())?;
    same(source.skipped.len(), 0)?;
    same(source.classes[..2].join(" "), "Leopards Motorbikes".into())?;
    same(counts(&source.train, 10), vec![70; 10])?;
    same(source.test.as_ref().map(|test| counts(test, 10)), Some(vec![20; 10]))?;
    let Images::Encoded(images) = &source.train.images else { return Err("not encoded".into()) };
    same(check::readable(images.as_ref(), &Limits::default()), vec![])
}

fn photos_checked(root: &Path) -> Result<(), Failed> {
    let report = check::check("imagefolder", Some(root), &Limits::default())?;
    same(report.images, 900)?;
    let others: Vec<_> =
        report.problems.iter().filter(|problem| !matches!(problem, Problem::Duplicate { .. })).collect();
    match others.is_empty() {
        true => Ok(()),
        false => Err(format!("{others:?}").into()),
    }
}
