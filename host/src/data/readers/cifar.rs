//! CIFAR-10 and CIFAR-100 in their binary version: records of one or two label bytes and 3×32×32 pixels, red, green, blue.
//!
//! From the folder or straight from the `.tar.gz`. CIFAR-100 has its fine label in the second byte. (Krizhevsky 2009.)

use super::{Found, Part, label_in_range, numbered, out_of_range};
use crate::data::{
    archive::{read_file, tar_files, unreadable},
    source::{Images, Limits, Records},
};
use guard_sdk::Result;
use std::{collections::BTreeMap, path::Path};

const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// One of the two.
pub(super) struct Cifar {
    archive: &'static str,
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    names: &'static str,
    classes: usize,
    label_bytes: usize,
}

pub(super) const CIFAR10: Cifar = Cifar {
    archive: "cifar-10-binary.tar.gz",
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    classes: 10,
    label_bytes: 1,
};

pub(super) const CIFAR100: Cifar = Cifar {
    archive: "cifar-100-binary.tar.gz",
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    classes: 100,
    label_bytes: 2,
};

pub(super) fn read(cifar: &Cifar, root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    let mut files = cifar.files(root, limits)?;
    let missing: Vec<_> = cifar.binaries().filter(|name| !files.contains_key(*name)).collect();
    if !missing.is_empty() {
        let help = format!("the root is `{}`, or the folder with the `.bin` files", cifar.archive);
        return Err(unreadable(root, format!("lacks `{}`", missing.join("`, `"))).help(help));
    }
    let mut part = |names: &[&str]| -> Result<Part> {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for &name in names {
            // Each file's memory goes back as soon as it is read.
            let bytes = files.remove(name).unwrap_or_default();
            let title = root.join(name).display().to_string();
            cifar.parse(&title, &bytes, &mut values, &mut labels, records)?;
        }
        Ok(Part { images: Images::Bytes { values, shape: SHAPE, brightest: 255 }, labels })
    };
    let (train, test) = (part(cifar.train)?, part(&[cifar.test])?);
    Ok(Found { classes: cifar.class_names(files.get(cifar.names), root)?, train, test: Some(test) })
}

impl Cifar {
    fn binaries(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().copied().chain([self.test])
    }

    /// The set's files that are there, by name.
    fn files(&self, root: &Path, limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>> {
        let wanted = |name: &str| name == self.names || self.binaries().any(|binary| binary == name);
        let inner = root.join(self.folder);
        let archive = root.join(self.archive);
        let in_root = self.binaries().any(|name| root.join(name).is_file());
        if root.is_file() {
            return tar_files(root, wanted, limits);
        }
        if !in_root && !inner.is_dir() && archive.is_file() {
            return tar_files(&archive, wanted, limits);
        }
        let folder = if in_root { root } else { &inner };
        let names = self.binaries().chain([self.names]).filter(|name| folder.join(name).is_file());
        names.map(|name| Ok((name.to_owned(), read_file(&folder.join(name), limits)?))).collect()
    }

    fn parse(
        &self,
        title: &str,
        bytes: &[u8],
        values: &mut Vec<u8>,
        labels: &mut Vec<i64>,
        records: &mut Records,
    ) -> Result<()> {
        let length = self.label_bytes + PIXELS;
        values.reserve(bytes.len() / length * PIXELS);
        let whole = bytes.chunks_exact(length);
        let rest = whole.remainder().len();
        let count = whole.len();
        for (index, record) in whole.enumerate() {
            let (label, pixels) = record.split_at(self.label_bytes);
            let label = i64::from(label[self.label_bytes - 1]);
            match label_in_range(label, self.classes) {
                Some(label) => {
                    labels.push(label);
                    values.extend_from_slice(pixels);
                }
                None => {
                    records.unusable(format!("{title}, record {index}"), out_of_range(label, self.classes))?
                }
            }
        }
        if rest > 0 {
            let why = format!("is cut short: it has {rest} of {length} bytes");
            records.unusable(format!("{title}, record {count}"), why)?;
        }
        Ok(())
    }

    fn class_names(&self, file: Option<&Vec<u8>>, root: &Path) -> Result<Vec<String>> {
        let Some(bytes) = file else { return Ok(numbered(self.classes)) };
        let text = String::from_utf8_lossy(bytes);
        let names: Vec<_> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        match names.len() == self.classes {
            true => Ok(names),
            false => Err(unreadable(
                &root.join(self.names),
                format!("names {} classes instead of {}", names.len(), self.classes),
            )),
        }
    }
}
