//! `distilled/`: the synthetic set in forms that other tools open.

use super::{
    atomic::{write_atomically, write_text},
    manifest::DistilledManifest,
    png::{levels, sheet, write_png},
    read::{read_json, unreadable},
};
use crate::network::weights::write_tensors;
use guard_sdk::{Device, Error, Kind, Result, Tensor};
use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
};

/// The file of the tensors.
const TENSORS: &str = "distilled.safetensors";

/// The file of the networks' whitening.
const WHITENING: &str = "whitening.safetensors";

/// The file of the manifest.
const MANIFEST: &str = "manifest.json";

/// A synthetic set as it is read again.
pub struct Distilled {
    /// float32 `[N,C,H,W]`, pixels.
    pub images: Tensor,
    /// int64 `[N]`, each one of the manifest's classes.
    pub labels: Tensor,
    /// Class probabilities `[N,K]`, where they were learned.
    pub soft_labels: Option<Tensor>,
    /// The teacher's logits of the images as they are, `[N,K]`, where labels are `soft`.
    pub teacher_logits: Option<Tensor>,
    /// What belongs to the images.
    pub manifest: DistilledManifest,
}

impl Distilled {
    /// The same, or nothing where the folder holds no finished set.
    ///
    /// # Errors
    /// If the set cannot be read.
    pub fn read_if_any(folder: &Path, device: Device) -> Result<Option<Self>> {
        folder.join(MANIFEST).is_file().then(|| Self::read(folder, device)).transpose()
    }

    /// Reads the tensors and the manifest from the folder that [`write_distilled`] filled.
    ///
    /// # Errors
    /// If one of the two cannot be read, lacks something, or does not fit the other.
    pub fn read(folder: &Path, device: Device) -> Result<Self> {
        let path = folder.join(TENSORS);
        if !path.is_file() {
            let message = format!("`{}` holds no distilled set: it has no `{TENSORS}`", folder.display());
            let help = "give the folder `distilled` of a run, or one that `guard-host distilled import` made";
            return Err(Error::with_code("no-set", message).help(help));
        }
        let manifest: DistilledManifest = read_json(&folder.join(MANIFEST))?;
        let found = Tensor::read_safetensors(&path).map_err(|error| unreadable(&path, error))?;
        let mut found: HashMap<String, Tensor> = found.into_iter().collect();
        let mut take = |name: &str| found.remove(name).map(|tensor| tensor.to_device(device));
        let (images, labels) = (take("images"), take("labels"));
        let (soft_labels, teacher_logits) = (take("soft_labels"), take("teacher_logits"));
        let (Some(images), Some(labels)) = (images, labels) else {
            return Err(unreadable(&path, "it has no `images` or no `labels`"));
        };
        let read = Self { images, labels, soft_labels, teacher_logits, manifest };
        read.fits().map_err(|error| unreadable(&path, error))?;
        Ok(read)
    }

    /// The files by which the set is known to be the same.
    pub fn files(folder: &Path) -> [PathBuf; 2] {
        [TENSORS, MANIFEST].map(|file| folder.join(file))
    }

    /// How many images there are of each class.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn counts(&self) -> Result<Vec<usize>> {
        counts(&self.labels, self.manifest.classes.len())
    }

    /// An error if the tensors are not what the manifest says.
    fn fits(&self) -> Result<()> {
        let Self { images, labels, manifest, .. } = self;
        let DistilledManifest { classes, image, space, .. } = manifest;
        if space != "pixels" {
            return Err(Error::new(format!("the manifest says that its values are `{space}`, not `pixels`")));
        }
        let size = images.size();
        if images.kind() != Kind::Float || size.len() != 4 || size[1..] != image[..] {
            let message =
                format!("`images` is {:?} {size:?}, not float32 [N,C,H,W] of {image:?}", images.kind());
            return Err(Error::new(message));
        }
        if size[0] == 0 || labels.kind() != Kind::Int64 || labels.size() != size[..1] {
            let message =
                format!("`labels` is {:?} {:?} for {} images", labels.kind(), labels.size(), size[0]);
            return Err(Error::new(message));
        }
        counts(labels, classes.len())?;
        for (name, tensor) in [("soft_labels", &self.soft_labels), ("teacher_logits", &self.teacher_logits)] {
            let fits = |tensor: &Tensor| tensor.size() == [size[0], classes.len() as i64];
            if let Some(tensor) = tensor.as_ref().filter(|tensor| !fits(tensor)) {
                let wanted = [size[0], classes.len() as i64];
                return Err(Error::new(format!("`{name}` is {:?}, not {wanted:?}", tensor.size())));
            }
        }
        Ok(())
    }
}

/// How many labels there are of each of `classes`.
///
/// # Errors
/// If one is of none of them.
pub fn counts(labels: &Tensor, classes: usize) -> Result<Vec<usize>> {
    let mut counts = vec![0usize; classes];
    for (position, label) in Vec::<i64>::try_from(labels)?.into_iter().enumerate() {
        let count = usize::try_from(label).ok().and_then(|label| counts.get_mut(label));
        *count.ok_or_else(|| {
            let last = classes as i64 - 1;
            Error::new(format!(
                "image {position} has label {label}, but the labels of {classes} classes end at {last}"
            ))
        })? += 1;
    }
    Ok(counts)
}

/// Writes `distilled.safetensors` (float32 images, labels, learned soft labels and teacher logits if any), the whitening if any,
/// an image folder of PNGs, a contact sheet and the manifest, and tells their paths relative to `folder`. The manifest comes last: where it is,
/// the rest is whole, but for labels that the teacher gives later.
///
/// # Errors
/// If the file system refuses.
pub fn write_distilled(
    folder: &Path,
    (images, labels): (&Tensor, &Tensor),
    (soft_labels, logits): (Option<&Tensor>, Option<&Tensor>),
    manifest: &DistilledManifest,
) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = vec![TENSORS.into()];
    let mut place = |file: PathBuf| {
        let path = folder.join(&file);
        files.push(file);
        path
    };
    let (images, labels) =
        (images.to_device(Device::Cpu).contiguous(), labels.to_device(Device::Cpu).contiguous());
    let mut tensors = vec![("images", images.shallow_clone()), ("labels", labels.shallow_clone())];
    tensors.extend(soft_labels.map(|soft| ("soft_labels", soft.to_device(Device::Cpu).contiguous())));
    tensors.extend(logits.map(|logits| ("teacher_logits", logits.to_device(Device::Cpu).contiguous())));
    write_atomically(&folder.join(TENSORS), |path| Ok(Tensor::write_safetensors(&tensors, path)?))?;

    if let Some(whitening) = &manifest.whitening {
        let map = whitening.map(manifest.image, &images)?;
        write_tensors(&place(WHITENING.into()), &map.named())?;
    }

    let bytes = levels(&images);
    let folders = folders(&manifest.classes);
    let mut counts = vec![0usize; folders.len()];
    for (position, label) in Vec::<i64>::try_from(&labels)?.into_iter().enumerate() {
        let class = label as usize;
        let file = Path::new("images").join(&folders[class]).join(format!("{:04}.png", counts[class]));
        counts[class] += 1;
        write_png(&place(file), &bytes.get(position as i64))?;
    }
    // Class by class, whatever the order of the set.
    let order = labels.f_argsort_stable(true, 0, false)?;
    let picture = sheet(&bytes.f_index_select(0, &order)?, manifest.images_per_class.max(1) as i64)?;
    write_png(&place("contact-sheet.png".into()), &picture)?;
    write_text(&place(MANIFEST.into()), &(serde_json::to_string_pretty(manifest)? + "\n"))?;
    Ok(files)
}

/// The folder of each class: its name, but where that is no name of a folder or that of another class.
pub fn folders(classes: &[String]) -> Vec<String> {
    let plain = |name: &String| {
        let mut parts = Path::new(name).components();
        matches!(parts.next(), Some(Component::Normal(part)) if part == name.as_str())
            && parts.next().is_none()
    };
    let unique = |name: &String| classes.iter().filter(|other| *other == name).count() == 1;
    let folder = |(label, name): (usize, &String)| match plain(name) && unique(name) {
        true => name.clone(),
        false => format!("class-{label}"),
    };
    classes.iter().enumerate().map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Imported, LEARNED_RATE, Origin};
    use std::collections::BTreeMap;

    fn manifest(classes: &[&str]) -> DistilledManifest {
        let imported = Imported {
            source: "x.pt".into(),
            form: "dc".into(),
            space: "normalised".into(),
            outside: 1,
            blake3: BTreeMap::new(),
        };
        DistilledManifest {
            dataset: "digits".into(),
            classes: classes.iter().map(|class| (*class).to_string()).collect(),
            image: [1, 2, 2],
            space: "pixels".into(),
            mean: vec![0.5],
            std: vec![0.25],
            whitening: None,
            origin: Origin::Import { imported },
            images_per_class: 2,
            labels: "learned".into(),
            learned: vec![(LEARNED_RATE.into(), 0.1)],
        }
    }

    fn set() -> (Tensor, Tensor, Tensor) {
        let images = (Tensor::arange(12, (Kind::Float, Device::Cpu)) / 8.0).reshape([3, 1, 2, 2]);
        (images, Tensor::from_slice(&[1i64, 0, 1]), Tensor::full([3, 2], 0.5, (Kind::Float, Device::Cpu)))
    }

    #[test]
    fn a_set_is_read_as_it_was_written_values_outside_of_the_range_of_pixels_too() {
        let folder = tempfile::tempdir().unwrap();
        let (images, labels, soft) = set();
        let manifest = manifest(&["a", "b"]);
        let files =
            write_distilled(folder.path(), (&images, &labels), (Some(&soft), None), &manifest).unwrap();
        assert!(files.contains(&"images/b/0001.png".into()) && files.contains(&MANIFEST.into()), "{files:?}");
        let read = Distilled::read(folder.path(), Device::Cpu).unwrap();
        assert!(read.images.equal(&images) && read.labels.equal(&labels));
        assert!(read.soft_labels.as_ref().unwrap().equal(&soft));
        assert_eq!(read.counts().unwrap(), [1, 2]);
        assert_eq!(read.manifest.learned, manifest.learned);
        assert!(matches!(read.manifest.origin, Origin::Import { imported } if imported.outside == 1));
    }

    #[test]
    fn a_set_that_is_not_what_its_manifest_says_is_refused() {
        let (images, labels, soft) = set();
        let refusal = |classes: &[&str], images: &Tensor, labels: &Tensor, soft: &Tensor| {
            let folder = tempfile::tempdir().unwrap();
            let tensors = [("images", images), ("labels", labels), ("soft_labels", soft)];
            Tensor::write_safetensors(&tensors, folder.path().join(TENSORS)).unwrap();
            let text = serde_json::to_string(&manifest(classes)).unwrap();
            std::fs::write(folder.path().join(MANIFEST), text).unwrap();
            Distilled::read(folder.path(), Device::Cpu).err().unwrap().message
        };
        let few = refusal(&["a"], &images, &labels, &soft);
        assert!(few.contains("image 0 has label 1, but the labels of 1 classes end at 0"), "{few}");
        let other = refusal(&["a", "b"], &images.reshape([3, 1, 4, 1]), &labels, &soft);
        assert!(other.contains("`images` is Float [3, 1, 4, 1]"), "{other}");
        let short = refusal(&["a", "b"], &images, &labels.narrow(0, 0, 2), &soft);
        assert!(short.contains("`labels` is Int64 [2] for 3 images"), "{short}");
        let narrow = refusal(&["a", "b"], &images, &labels, &soft.narrow(1, 0, 1).contiguous());
        assert!(narrow.contains("`soft_labels` is [3, 1], not [3, 2]"), "{narrow}");
        let none = Distilled::read(Path::new("nowhere"), Device::Cpu).err().unwrap();
        assert_eq!(none.code, "no-set");
    }

    #[test]
    fn folders_are_named_after_classes_unless_that_leads_elsewhere() {
        let classes = ["apple", "..", "a/b", "", "twin", "twin"].map(str::to_string);
        let expected = ["apple", "class-1", "class-2", "class-3", "class-4", "class-5"];
        assert_eq!(folders(&classes), expected);
    }
}
