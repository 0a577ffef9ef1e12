//! A folder for each class: which there are, which images they hold, and what else lies about.

use crate::data::archive::unreadable;
use guard_sdk::Result;
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use walkdir::WalkDir;

/// torchvision's list: what counts as an image by its name, whatever its case.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// The class folders in a folder.
pub(in crate::data) struct ClassFolders {
    /// Where they lie.
    pub(in crate::data) root: PathBuf,
    /// Each class's images, sorted as torchvision's `ImageFolder` sorts them.
    pub(in crate::data) classes: BTreeMap<String, Vec<PathBuf>>,
    /// Files beside the class folders that are images, so of no class.
    pub(in crate::data) classless: Vec<PathBuf>,
    /// Files in class folders that are no images by their names.
    pub(in crate::data) others: Vec<PathBuf>,
}

impl ClassFolders {
    /// Looks through the folders in `root`, nested ones too. Names that begin with a dot are passed over.
    ///
    /// # Errors
    /// If a folder cannot be read, leads back to itself through a link, or has a name that is not UTF-8.
    pub(in crate::data) fn scan(root: &Path) -> Result<Self> {
        let (mut folders, mut classless) = (Vec::new(), Vec::new());
        for path in visible(root)? {
            match path.is_dir() {
                true => folders.push(path),
                false if is_image(&path) => classless.push(path),
                false => {}
            }
        }
        let scanned = folders.par_iter().map(|folder| scan_class(folder)).collect::<Result<Vec<_>>>()?;
        let (mut classes, mut others) = (BTreeMap::new(), Vec::new());
        for (name, images, rest) in scanned {
            classes.insert(name, images);
            others.extend(rest);
        }
        classless.sort();
        Ok(Self { root: root.to_path_buf(), classes, classless, others })
    }

    /// Names of the folders without an image.
    pub(in crate::data) fn empty(&self) -> Vec<&str> {
        self.classes.iter().filter(|(_, images)| images.is_empty()).map(|(name, _)| name.as_str()).collect()
    }

    /// The images with their labels in `classes`. Those of other classes are left out.
    pub(in crate::data) fn labelled(self, classes: &[String]) -> Vec<(PathBuf, i64)> {
        let label = |name: &String| classes.binary_search(name).ok();
        let of_class = |(name, images): (String, Vec<PathBuf>)| {
            let label = label(&name);
            images.into_iter().filter_map(move |image| Some((image, label? as i64)))
        };
        self.classes.into_iter().flat_map(of_class).collect()
    }

    /// An error if there is no class, or one without images.
    pub(in crate::data) fn complete(self) -> Result<Self> {
        if self.classes.is_empty() {
            let help =
                "a class is a folder with images: `ROOT/CLASS/IMAGE.jpg`, or `ROOT/train/CLASS/IMAGE.jpg`";
            return Err(unreadable(&self.root, "has no class folders").help(help));
        }
        let empty = self.empty();
        match empty.is_empty() {
            true => Ok(self),
            false => {
                Err(unreadable(&self.root, format!("has class folders without images: {}", listed(&empty)))
                    .help(format!("an image is a file that ends in .{}", EXTENSIONS.join(", ."))))
            }
        }
    }
}

/// The first of `names`, and how many more there are.
pub(in crate::data) fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len() > SHOWN {
        true => format!("{shown} and {} more", names.len() - SHOWN),
        false => shown,
    }
}

/// True if a file counts as an image by its name.
pub(in crate::data) fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The paths in a folder whose names do not begin with a dot, unsorted.
pub(in crate::data) fn visible(folder: &Path) -> Result<Vec<PathBuf>> {
    let refused = |error| unreadable(folder, format!("cannot be read: {error}"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// A class's name, its images, and its other files.
fn scan_class(folder: &Path) -> Result<(String, Vec<PathBuf>, Vec<PathBuf>)> {
    let name = folder.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| unreadable(folder, "has a name that is not UTF-8"))?.to_owned();
    let (mut images, mut others) = (Vec::new(), Vec::new());
    let hidden = |entry: &walkdir::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let walk = WalkDir::new(folder).min_depth(1).follow_links(true).into_iter();
    for entry in walk.filter_entry(|entry| !hidden(entry)) {
        let entry = entry.map_err(|error| unreadable(folder, format!("cannot be searched: {error}")))?;
        match entry.file_type().is_dir() {
            true => {}
            false if is_image(entry.path()) => images.push(entry.into_path()),
            false => others.push(entry.into_path()),
        }
    }
    // By folder, as text, then by name: so `a-b/x` comes before `a/x`, as in torchvision.
    let key = |path: &PathBuf| {
        let parent = path.parent().map(|parent| parent.as_os_str().to_owned());
        (parent, path.file_name().map(|name| name.to_owned()))
    };
    images.sort_by_cached_key(key);
    others.sort_by_cached_key(key);
    Ok((name, images, others))
}
