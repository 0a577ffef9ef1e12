//! What is wrong with a set: every problem, not only the first.

use super::{
    decode::decode,
    readers::{
        self,
        class_folders::{ClassFolders, listed},
        imagefolder::Layout,
        known,
    },
    source::{EncodedImages, Images, Limits, OnError, Part, Source},
};
use guard_sdk::Result;
use rayon::prelude::*;
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};

/// What [`check`] finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The set.
    pub dataset: String,
    /// Images that were looked at, whether they can be used or not.
    pub images: usize,
    /// In the order: folders, unreadable images, duplicates.
    pub problems: Vec<Problem>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Problem {
    /// The set cannot be read at all.
    Unusable {
        /// The error of the reader.
        why: String,
    },
    /// An image or record that is damaged, cut short, not an image, too large or out of range.
    Unreadable {
        /// The file, with the record's index where it holds many.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The same pixels more than once.
    Duplicate {
        /// All that are the same, by split, file and class.
        images: Vec<Occurrence>,
        /// True if they are in the training and in the test split: what is tested was trained on.
        leaks: bool,
        /// True if they are under more than one class: one label must be wrong.
        mislabelled: bool,
    },
    /// A file in a class folder that is no image by its name. Readers pass over it.
    NotAnImage {
        /// Its path.
        file: String,
    },
    /// An image beside the class folders, so of no class. Readers pass over it.
    Classless {
        /// Its path.
        file: String,
    },
    /// A class folder without images.
    EmptyClass {
        /// The folder.
        folder: String,
    },
    /// A class that only one split has.
    OneSidedClass {
        /// The class.
        class: String,
        /// The split's folder.
        only_in: String,
    },
}

/// One of several images with the same pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// The file, with the record's index where it holds many.
    pub file: String,
    /// `train` or `test`.
    pub split: &'static str,
    /// The class it is under.
    pub class: String,
}

/// Looks at every image of a set: decodes it, compares it with all others, and with class folders looks at what else is in
/// them.
///
/// # Errors
/// If there is no reader of this name. A set that cannot be read is a problem in the report.
pub fn check(name: &str, root: Option<&Path>, limits: &Limits) -> Result<CheckReport> {
    let known = known(name)?;
    let mut report = CheckReport { dataset: known.name.into(), images: 0, problems: Vec::new() };
    let source = match root {
        Some(root) if readers::is_class_folders(known) => folders(name, root, limits, &mut report),
        _ => readers::read(name, root, OnError::Skip, limits),
    };
    match source {
        Ok(source) => report.look_at(&source, limits),
        Err(error) => report.problems.push(Problem::Unusable { why: error.to_string() }),
    }
    Ok(report)
}

/// The images that cannot be decoded, by their index, with the reason. In parallel; every image is decoded.
pub fn readable(images: &dyn EncodedImages, limits: &Limits) -> Vec<(usize, String)> {
    let fault = |index| pixels(images, index, limits).err().map(|why| (index, why));
    (0..images.len()).into_par_iter().filter_map(fault).collect()
}

/// The hash of an encoded image's pixels and its size, or why there are none.
fn pixels(images: &dyn EncodedImages, index: usize, limits: &Limits) -> Result<blake3::Hash, String> {
    let name = images.name(index);
    let picture = images.bytes(index).and_then(|bytes| decode(&bytes, &name, limits));
    // The name stands beside the reason already.
    let picture = picture.map_err(|error| error.to_string().replacen(&format!("`{name}` "), "", 1))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(picture.width as u64).to_le_bytes()).update(&picture.rgb);
    Ok(hasher.finalize())
}

/// Class folders as they are, with all classes that any split has.
fn folders(name: &str, root: &Path, limits: &Limits, report: &mut CheckReport) -> Result<Source> {
    let layout = Layout::find(root)?;
    let train = ClassFolders::scan(&layout.train)?;
    let test = layout.test.map(|folder| ClassFolders::scan(&folder)).transpose()?;
    for folders in [Some(&train), test.as_ref()].into_iter().flatten() {
        report.beside_the_images(folders);
    }
    if let Some(test) = &test {
        report.one_sided(&train, test);
        report.one_sided(test, &train);
    }
    // What else the reader refuses, such as another number of classes than the set has.
    let told =
        |problem: &Problem| matches!(problem, Problem::EmptyClass { .. } | Problem::OneSidedClass { .. });
    if !report.problems.iter().any(told)
        && let Err(error) = readers::read(name, Some(root), OnError::Stop, limits)
    {
        report.problems.push(Problem::Unusable { why: error.to_string() });
    }
    readers::imagefolder::everything(train, test, limits)
}

impl CheckReport {
    fn beside_the_images(&mut self, folders: &ClassFolders) {
        let path = |path: &Path| path.display().to_string();
        let empty = folders.empty();
        let empty = empty.iter().map(|name| Problem::EmptyClass { folder: path(&folders.root.join(name)) });
        self.problems.extend(empty);
        self.problems.extend(folders.classless.iter().map(|file| Problem::Classless { file: path(file) }));
        self.problems.extend(folders.others.iter().map(|file| Problem::NotAnImage { file: path(file) }));
    }

    fn one_sided(&mut self, one: &ClassFolders, other: &ClassFolders) {
        let only = one.classes.keys().filter(|name| !other.classes.contains_key(*name));
        let only_in = one.root.display().to_string();
        self.problems.extend(
            only.map(|class| Problem::OneSidedClass { class: class.clone(), only_in: only_in.clone() }),
        );
    }

    fn look_at(&mut self, source: &Source, limits: &Limits) {
        let unreadable = |(file, why)| Problem::Unreadable { file, why };
        let skipped = source.skipped.iter().map(|skipped| (skipped.file.clone(), skipped.why.clone()));
        self.problems.extend(skipped.map(unreadable));
        self.images = source.skipped.len();
        let mut same: BTreeMap<[u8; 32], Vec<Occurrence>> = BTreeMap::new();
        for (split, part) in [("train", Some(&source.train)), ("test", source.test.as_ref())] {
            let Some(part) = part else { continue };
            self.images += part.labels.len();
            for (index, (hash, &label)) in hashes(part, limits).into_iter().zip(&part.labels).enumerate() {
                let file = title(part, split, index);
                match hash {
                    Ok(hash) => same.entry(*hash.as_bytes()).or_default().push(Occurrence {
                        file,
                        split,
                        class: source.classes[label as usize].clone(),
                    }),
                    Err(why) => self.problems.push(unreadable((file, why))),
                }
            }
        }
        let mut duplicates: Vec<_> = same.into_values().filter(|images| images.len() > 1).collect();
        duplicates.sort_by(|a, b| a[0].file.cmp(&b[0].file));
        self.problems.extend(duplicates.into_iter().map(|images| Problem::Duplicate {
            leaks: images.iter().any(|image| image.split != images[0].split),
            mislabelled: images.iter().any(|image| image.class != images[0].class),
            images,
        }));
    }
}

/// The hash of each image's pixels, or why it has none.
fn hashes(part: &Part, limits: &Limits) -> Vec<Result<blake3::Hash, String>> {
    let length = |shape: &[usize; 3]| shape.iter().product::<usize>().max(1);
    match &part.images {
        Images::Bytes { values, shape, .. } => {
            values.par_chunks_exact(length(shape)).map(|image| Ok(blake3::hash(image))).collect()
        }
        Images::Floats { values, shape } => {
            let hash = |image: &[f32]| {
                let mut hasher = blake3::Hasher::new();
                image.iter().for_each(|value| {
                    hasher.update(&value.to_le_bytes());
                });
                Ok(hasher.finalize())
            };
            values.par_chunks_exact(length(shape)).map(hash).collect()
        }
        Images::Encoded(images) => {
            (0..images.len()).into_par_iter().map(|index| pixels(images.as_ref(), index, limits)).collect()
        }
    }
}

fn title(part: &Part, split: &str, index: usize) -> String {
    match &part.images {
        Images::Encoded(images) => images.name(index),
        _ => format!("{split}, image {index}"),
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unusable { why } => f.write_str(why),
            Self::Unreadable { file, why } => write!(f, "`{file}` {why}"),
            Self::Duplicate { images, leaks, mislabelled } => {
                let files: Vec<_> = images.iter().map(|image| image.file.as_str()).collect();
                write!(f, "the same pixels {} times: {}", images.len(), listed(&files))?;
                f.write_str(if *leaks { "; in training and test split" } else { "" })?;
                f.write_str(if *mislabelled { "; under different classes" } else { "" })
            }
            Self::NotAnImage { file } => write!(f, "`{file}` is no image, by its name"),
            Self::Classless { file } => write!(f, "`{file}` is beside the class folders, so of no class"),
            Self::EmptyClass { folder } => write!(f, "`{folder}` has no images"),
            Self::OneSidedClass { class, only_in } => write!(f, "class `{class}` is only in `{only_in}`"),
        }
    }
}
