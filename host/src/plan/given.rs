//! A synthetic set that a recipe starts from, as far as it is known before anything runs.

use crate::{
    data::DataInfo,
    run::{Distilled, DistilledManifest, blake3_of},
};
use guard_sdk::{Device, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A synthetic set that is there already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GivenSet {
    /// Of its files: what is made from another set is another result.
    pub blake3: String,
    /// How many images it has, where all of it is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    /// The names of its classes, where they are told.
    #[serde(skip)]
    classes: Vec<String>,
}

impl GivenSet {
    /// A set that is taken as it is.
    ///
    /// # Errors
    /// If it is not there, not whole, or of other images or another number of classes than the data.
    pub fn whole(folder: &Path, data: &DataInfo) -> Result<Self> {
        let Distilled { images, manifest: DistilledManifest { classes, image, .. }, .. } =
            Distilled::read(folder, Device::Cpu)?;
        if (classes.len(), image) != (data.classes.len(), data.image) {
            return Err(Error::new(format!(
                "the set has {} classes of images of {image:?}, data set `{}` has {} of {:?}",
                classes.len(),
                data.name,
                data.classes.len(),
                data.image
            )));
        }
        let images = u64::try_from(images.size()[0]).ok();
        Ok(Self { blake3: blake3_of(&Distilled::files(folder))?, images, classes })
    }

    /// A set that images only start from, a folder or a file of tensors: nothing but its sum is looked at.
    ///
    /// # Errors
    /// If it is not there.
    pub fn start(path: &Path) -> Result<Self> {
        let [tensors, _] = Distilled::files(path);
        let file = if path.is_dir() { tensors } else { path.to_path_buf() };
        Ok(Self { blake3: blake3_of(&[file])?, images: None, classes: Vec::new() })
    }

    /// An error if labels mean something else than in the data set, as far as both name their classes.
    ///
    /// # Errors
    /// Said.
    pub fn same_classes(&self, data: &DataInfo) -> Result<()> {
        let named =
            |classes: &[String]| !classes.iter().enumerate().all(|(label, name)| *name == label.to_string());
        if !(named(&self.classes) && named(&data.classes)) {
            return Ok(());
        }
        let different =
            self.classes.iter().zip(&data.classes).enumerate().find(|(_, (one, other))| one != other);
        match different {
            None => Ok(()),
            Some((label, (ours, theirs))) => Err(Error::new(format!(
                "label {label} of the set that is given is `{ours}`, and that of data set `{}` is `{theirs}`",
                data.name
            ))
            .help("import it again with the data set's `--root`, which puts its labels into this order")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_mean_something_else_are_told_where_both_sides_have_names() {
        let given = |classes: [&str; 2]| GivenSet {
            blake3: String::new(),
            images: None,
            classes: classes.map(str::to_string).to_vec(),
        };
        let data = |classes: [&str; 2]| DataInfo {
            name: "fruit".into(),
            classes: classes.map(str::to_string).to_vec(),
            image: [1, 2, 2],
            mean: Vec::new(),
            std: Vec::new(),
        };
        let error = given(["pear", "apple"]).same_classes(&data(["apple", "pear"])).unwrap_err();
        assert!(error.message.contains("label 0 of the set that is given is `pear`"), "{error}");
        assert!(given(["apple", "pear"]).same_classes(&data(["apple", "pear"])).is_ok());
        assert!(given(["0", "1"]).same_classes(&data(["apple", "pear"])).is_ok());
    }
}
