//! `distilled/`: the synthetic set in forms that other tools open.

use super::{
    atomic::{write_atomically, write_text},
    png::{bytes, sheet, write_png},
    read::{read_json, unreadable},
};
use crate::{
    data::DataInfo,
    network::{Whitening, weights::write_tensors},
    plan::PluginLock,
};
use guard_sdk::{Device, Result, Tensor};
use serde::Serialize;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// What belongs to the images, so that nobody has to guess: a set that is normalised differently scores at chance.
#[derive(Debug, Serialize)]
pub struct DistilledManifest<'a> {
    /// The data set that was distilled.
    pub dataset: &'a str,
    /// Names of the classes, in order of their labels.
    pub classes: &'a [String],
    /// Channels, height and width.
    pub image: [i64; 3],
    /// What the images' values are: `pixels`, in [0,1].
    pub space: &'static str,
    /// The mean that the networks subtract, per channel.
    pub mean: &'a [f64],
    /// The standard deviation that they divide by, per channel.
    pub std: &'a [f64],
    /// What the networks do after that, with the tensors of `whitening.safetensors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whitening: Option<&'a Whitening>,
    /// The objective.
    pub objective: &'a str,
    /// Images of each class.
    pub images_per_class: usize,
    /// `hard`, `learned` (`soft_labels` in `distilled.safetensors`), `soft` (teacher logits there), `online` (by the teacher,
    /// in `checkpoints/`) or `stored` (in `soft-labels.safetensors`).
    pub labels: String,
    /// T of the soft labels.
    pub temperature: f64,
    /// The run's seed.
    pub seed: u64,
    /// BLAKE3 of the recipe as it was given.
    pub recipe_blake3: String,
    /// The plugins with their sums.
    pub plugins: &'a [PluginLock],
    /// What was learned besides the images.
    pub learned: &'a [(String, f64)],
}

/// The file of the tensors.
const TENSORS: &str = "distilled.safetensors";

/// The file of the networks' whitening.
const WHITENING: &str = "whitening.safetensors";

/// The file of the manifest.
const MANIFEST: &str = "manifest.json";

/// A synthetic set as it is read again.
pub struct Distilled {
    /// float32 `[N,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
    /// Class probabilities `[N,K]`, where they were learned.
    pub soft_labels: Option<Tensor>,
    /// The teacher's logits of the images as they are, `[N,K]`, where labels are `soft`.
    pub teacher_logits: Option<Tensor>,
    /// What was learned besides the images, by name.
    pub learned: Vec<(String, f64)>,
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
    /// If one of the two cannot be read or lacks something.
    pub fn read(folder: &Path, device: Device) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Manifest {
            learned: Vec<(String, f64)>,
        }
        let (tensors, manifest) = (folder.join(TENSORS), folder.join(MANIFEST));
        let Manifest { learned } = read_json(&manifest)?;
        let found = Tensor::read_safetensors(&tensors).map_err(|error| unreadable(&tensors, error))?;
        let mut found: HashMap<String, Tensor> = found.into_iter().collect();
        let mut take = |name: &str| found.remove(name).map(|tensor| tensor.to_device(device));
        let (images, labels) = (take("images"), take("labels"));
        let (soft_labels, teacher_logits) = (take("soft_labels"), take("teacher_logits"));
        let (Some(images), Some(labels)) = (images, labels) else {
            return Err(unreadable(&tensors, "it has no `images` or no `labels`"));
        };
        Ok(Self { images, labels, soft_labels, teacher_logits, learned })
    }
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
    info: &DataInfo,
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

    if let Some(whitening) = manifest.whitening {
        let map = whitening.map(manifest.image, &images)?;
        write_tensors(&place(WHITENING.into()), &map.named())?;
    }

    let bytes = bytes(&images);
    let mut counts = vec![0usize; info.classes.len()];
    let labels = Vec::<i64>::try_from(&labels)?;
    for (position, &label) in labels.iter().enumerate() {
        let class = label as usize;
        let file = Path::new("images").join(&info.classes[class]).join(format!("{:04}.png", counts[class]));
        counts[class] += 1;
        write_png(&place(file), &bytes.get(position as i64))?;
    }
    write_png(&place("contact-sheet.png".into()), &sheet(&bytes, manifest.images_per_class as i64)?)?;
    write_text(&place(MANIFEST.into()), &(serde_json::to_string_pretty(manifest)? + "\n"))?;
    Ok(files)
}
