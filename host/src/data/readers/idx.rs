//! MNIST and its kin: four IDX files, gzipped or not. A big-endian header (magic number, lengths), then bytes.

use super::{Found, Part, label_in_range, out_of_range};
use crate::data::{
    archive::{plain_or_gz, read_file, unreadable},
    source::{Images, Limits, Records, damaged},
};
use guard_sdk::{Error, Result};
use std::path::{Path, PathBuf};

/// Bytes, in three dimensions and in one.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// One of the kin.
pub(super) struct Idx {
    /// The folder that torchvision makes.
    folder: &'static str,
    names: [&'static str; 10],
}

pub(super) const MNIST: Idx =
    Idx { folder: "MNIST", names: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] };

pub(super) const FASHION_MNIST: Idx = Idx {
    folder: "FashionMNIST",
    names: [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
};

pub(super) fn read(idx: &Idx, root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    let classes: Vec<String> = idx.names.map(str::to_owned).to_vec();
    let mut part = |split: &str| -> Result<Part> {
        let images = idx.find(root, &format!("{split}-images"), "idx3-ubyte")?;
        let labels = idx.find(root, &format!("{split}-labels"), "idx1-ubyte")?;
        read_part(&images, &labels, classes.len(), records, limits)
    };
    let (train, test) = (part("train")?, part("t10k")?);
    Ok(Found { classes, train, test: Some(test) })
}

impl Idx {
    fn find(&self, root: &Path, stem: &str, kind: &str) -> Result<PathBuf> {
        let folders = [root.to_path_buf(), root.join("raw"), root.join(self.folder).join("raw")];
        // Some copies have a dot where the published names have a dash.
        let names = [format!("{stem}-{kind}"), format!("{stem}.{kind}")];
        let mut candidates = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
        candidates.find_map(|path| plain_or_gz(&path)).ok_or_else(|| missing(root, &names[0]))
    }
}

fn missing(root: &Path, name: &str) -> Error {
    unreadable(root, format!("lacks `{name}` (or `{name}.gz`)"))
}

fn read_part(
    image_file: &Path,
    label_file: &Path,
    classes: usize,
    records: &mut Records,
    limits: &Limits,
) -> Result<Part> {
    let (image_bytes, label_bytes) = (read_file(image_file, limits)?, read_file(label_file, limits)?);
    let ([count, height, width], pixels) = header(image_file, &image_bytes, IMAGES)?;
    let ([label_count], label_values) = header(label_file, &label_bytes, LABELS)?;
    if count != label_count {
        return Err(unreadable(
            image_file,
            format!("has {count} images, but `{}` has {label_count} labels", label_file.display()),
        ));
    }
    let length = height.saturating_mul(width);
    if length == 0 {
        return Err(unreadable(image_file, format!("has images of {height}×{width} pixels")));
    }
    let present = whole_records(image_file, pixels, count, length, records)?.min(whole_records(
        label_file,
        label_values,
        count,
        1,
        records,
    )?);
    let (mut values, mut labels) = (Vec::with_capacity(present * length), Vec::with_capacity(present));
    for (index, (image, &label)) in pixels.chunks_exact(length).zip(label_values).enumerate() {
        match label_in_range(i64::from(label), classes) {
            Some(label) => {
                labels.push(label);
                values.extend_from_slice(image);
            }
            None => records.unusable(
                format!("{}, label {index}", label_file.display()),
                out_of_range(i64::from(label), classes),
            )?,
        }
    }
    Ok(Part { images: Images::Bytes { values, shape: [1, height, width], brightest: 255 }, labels })
}

/// The lengths in the header, and what follows it.
fn header<'a, const D: usize>(path: &Path, bytes: &'a [u8], magic: u32) -> Result<([usize; D], &'a [u8])> {
    let number = |position: usize| {
        let bytes = bytes.get(4 * position..4 * position + 4)?;
        bytes.try_into().ok().map(u32::from_be_bytes)
    };
    let short = || unreadable(path, format!("is cut short: its header has {} bytes", bytes.len()));
    let found = number(0).ok_or_else(short)?;
    if found != magic {
        let help = "an IDX file of bytes begins with 00 00 08 and its number of dimensions";
        return Err(
            unreadable(path, format!("has the magic number {found:#010x}, not {magic:#010x}")).help(help)
        );
    }
    let mut lengths = [0; D];
    for (dimension, length) in lengths.iter_mut().enumerate() {
        *length = number(dimension + 1).ok_or_else(short)? as usize;
    }
    Ok((lengths, &bytes[4 * (D + 1)..]))
}

/// How many of the `count` records are there. Fewer are unusable records, more a damaged file.
fn whole_records(
    path: &Path,
    data: &[u8],
    count: usize,
    length: usize,
    records: &mut Records,
) -> Result<usize> {
    let announced = count.saturating_mul(length);
    if data.len() > announced {
        return Err(damaged(
            path.display(),
            format!(
                "has {} bytes after the {count} records that its header announces",
                data.len() - announced
            ),
        ));
    }
    let present = data.len() / length;
    if present < count {
        let why = format!(
            "is cut short: it holds {present} of {count} records, {} of {announced} bytes",
            data.len()
        );
        records.unusable(path.display().to_string(), why)?;
    }
    Ok(present)
}
