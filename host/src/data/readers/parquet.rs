//! Parquet files with a column of encoded images, as Hugging Face's hub lays them out.
//!
//! The root is a `.parquet` file, or a folder in which (or in whose `data`) files are named `train*.parquet` and
//! `test*.parquet` or `val*.parquet`; a folder of other names is a training split. Images are a column of structs with a
//! field `bytes`, or of plain bytes; labels a column of integers. Which columns, and the classes' names, are told by the
//! `huggingface` metadata if they are there; otherwise the only columns of these types are taken, or those called `image`
//! or `img` and `label`, `labels` or `fine_label` (`parquet_columns`).
//!
//! The encoded images stay in memory, for a row of a Parquet file cannot be read alone. `limits.memory` bounds them.

use super::{
    Found, Part,
    class_folders::listed,
    label_in_range, numbered, out_of_range,
    parquet_columns::{Columns, Fault},
};
use crate::data::{
    archive::{too_large_if, unreadable},
    source::{EncodedImages, Images, Limits, Records},
};
use ::parquet::{
    data_type::ByteArray,
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
};
use guard_sdk::{Error, Result};
use std::{
    borrow::Cow,
    fs::{self, File},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
};

const SPLITS: [&str; 3] = ["train", "test", "val"];

pub(super) fn read(root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    let [train, test, val] = shards(root)?;
    let test = if test.is_empty() { val } else { test };
    let mut left = limits.memory;
    let mut raw = |shards: &[PathBuf]| Rows::read(shards, &mut left, limits);
    let train = raw(&train)?;
    let test = if test.is_empty() { None } else { Some(raw(&test)?) };
    let classes = match &train.classes {
        Some(names) => names.clone(),
        None => numbered(train.class_count(root)?),
    };
    let train = train.into_part(classes.len(), records)?;
    let test = test.map(|test| test.into_part(classes.len(), records)).transpose()?;
    Ok(Found { classes, train, test })
}

/// The files of the training, test and validation splits, sorted.
fn shards(root: &Path) -> Result<[Vec<PathBuf>; 3]> {
    if root.is_file() {
        return Ok([vec![root.to_path_buf()], Vec::new(), Vec::new()]);
    }
    for folder in [root.to_path_buf(), root.join("data")] {
        let mut files = parquet_files(&folder)?;
        files.sort();
        if files.is_empty() {
            continue;
        }
        let of = |split: &str| {
            files.iter().filter(|path| name(path).starts_with(split)).cloned().collect::<Vec<_>>()
        };
        let splits = SPLITS.map(of);
        if splits[0].is_empty() && splits.iter().any(|split| !split.is_empty()) {
            return Err(unreadable(&folder, "has test files, but no `train*.parquet`"));
        }
        for split in &splits {
            all_shards(&folder, split)?;
        }
        return Ok(if splits[0].is_empty() { [files, Vec::new(), Vec::new()] } else { splits });
    }
    Err(unreadable(root, "has no `.parquet` files, neither has its folder `data`"))
}

fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, format!("cannot be read: {error}")))?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "parquet") {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// An error if a name such as `train-00001-of-00004.parquet` announces files that are not there.
fn all_shards(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let announced = files.iter().find_map(|path| {
        let (start, rest) = name(path).split_once("-of-")?;
        let (prefix, index) = start.rsplit_once('-')?;
        let total: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((prefix.to_owned(), index.len(), total))
    });
    let Some((prefix, digits, total)) = announced else { return Ok(()) };
    let count = total.parse().unwrap_or(0).min(100_000);
    let starts = (0..count).map(|index| format!("{prefix}-{index:0digits$}-of-{total}"));
    let missing: Vec<_> =
        starts.filter(|start| !files.iter().any(|path| name(path).starts_with(start))).collect();
    let missing: Vec<_> = missing.iter().map(String::as_str).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            Err(unreadable(folder, format!("lacks {} of {count} files: {}", missing.len(), listed(&missing))))
        }
    }
}

/// File, row in it, image (None where the column has no value) and label.
type Row = (u32, u32, Option<ByteArray>, Option<i64>);

/// The rows of some files.
struct Rows {
    files: Vec<String>,
    rows: Vec<Row>,
    classes: Option<Vec<String>>,
}

/// The rows of one.
struct Shard {
    rows: Vec<Row>,
    classes: Option<Vec<String>>,
}

impl Shard {
    fn read(path: &Path, number: u32, left: &mut u64, limits: &Limits) -> Result<Self> {
        let broken = |error: ParquetError| unreadable(path, format!("is a damaged Parquet file: {error}"));
        let file = File::open(path).map_err(|error| unreadable(path, format!("cannot be read: {error}")))?;
        let size = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        too_large_if(size, path.display(), limits)?;
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let columns = Columns::find(path, &reader)?;
        let mut rows: Vec<Row> = Vec::new();
        for index in 0..reader.num_row_groups() {
            let group = reader.get_row_group(index).map_err(broken)?;
            let labels = columns.labels(group.as_ref()).map_err(broken)?;
            let images = columns.images(group.as_ref(), left).map_err(|fault| match fault {
                Fault::Damaged(error) => broken(error),
                Fault::Memory => too_much(path, limits),
            })?;
            if labels.len() != images.len() {
                let counts = format!("{} images but {} labels", images.len(), labels.len());
                return Err(unreadable(path, format!("has {counts} in row group {index}")));
            }
            for (image, label) in images.into_iter().zip(labels) {
                rows.push((number, rows.len() as u32, image, label));
            }
        }
        Ok(Self { rows, classes: columns.classes })
    }
}

impl Rows {
    /// `left` is what the images may still take of the memory.
    fn read(paths: &[PathBuf], left: &mut u64, limits: &Limits) -> Result<Self> {
        let mut rows = Self { files: Vec::new(), rows: Vec::new(), classes: None };
        for path in paths {
            // The crate asserts what it expects of a file's metadata, so a damaged file can make it panic.
            let number = rows.files.len() as u32;
            let read = panic::catch_unwind(AssertUnwindSafe(|| Shard::read(path, number, left, limits)));
            let gave_up = |_| Err(unreadable(path, "is a damaged Parquet file: its reader gave up"));
            let shard = read.unwrap_or_else(gave_up)?;
            rows.files.push(path.display().to_string());
            rows.classes = rows.classes.or(shard.classes);
            rows.rows.extend(shard.rows);
        }
        Ok(rows)
    }

    /// The largest label tells the number of classes, if nothing else does.
    fn class_count(&self, root: &Path) -> Result<usize> {
        let largest = self.rows.iter().filter_map(|(_, _, _, label)| *label).max().unwrap_or(-1);
        match largest < self.rows.len() as i64 {
            true => Ok((largest + 1).max(0) as usize),
            false => Err(unreadable(
                root,
                format!("has {} images, but their labels go up to {largest}", self.rows.len()),
            )),
        }
    }

    /// The rows that can be used.
    fn into_part(self, classes: usize, records: &mut Records) -> Result<Part> {
        let (mut images, mut labels) = (InMemory { files: self.files, images: Vec::new() }, Vec::new());
        for (file, row, image, label) in self.rows {
            let title = || format!("{}, row {row}", images.files[file as usize]);
            match (image, label) {
                (Some(image), Some(label)) if label_in_range(label, classes).is_some() => {
                    images.images.push((file, row, image));
                    labels.push(label);
                }
                (Some(_), Some(label)) => records.unusable(title(), out_of_range(label, classes))?,
                (None, _) => records.unusable(title(), "has no image bytes")?,
                (_, None) => records.unusable(title(), "has no label")?,
            }
        }
        Ok(Part { images: Images::Encoded(Arc::new(images)), labels })
    }
}

fn too_much(path: &Path, limits: &Limits) -> Error {
    let why = format!("brings the images in memory above {} bytes", limits.memory);
    unreadable(path, why).help("a set of this size is better kept as an image folder")
}

/// Encoded images in memory, with their files and rows.
struct InMemory {
    files: Vec<String>,
    images: Vec<(u32, u32, ByteArray)>,
}

impl EncodedImages for InMemory {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, index: usize) -> String {
        let (file, row, _) = &self.images[index];
        format!("{}, row {row}", self.files[*file as usize])
    }

    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self.images[index].2.data()))
    }
}
