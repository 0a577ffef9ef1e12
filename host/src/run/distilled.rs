//! `distilled/`: the synthetic set in forms that other tools open.

use super::{
    atomic::{write_atomically, write_text},
    png::{sheet, write_png},
};
use crate::{data::DataInfo, plan::PluginLock};
use guard_sdk::{Device, Kind, Result, Tensor};
use serde::Serialize;
use std::path::Path;

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

/// Writes `distilled.safetensors` (float32 images, labels, learned soft labels and teacher logits if any), an image folder of PNGs, a contact sheet
/// and the manifest. The manifest comes last: where it is, the rest is whole.
///
/// # Errors
/// If the file system refuses.
pub fn write_distilled(
    folder: &Path,
    (images, labels): (&Tensor, &Tensor),
    (soft_labels, logits): (Option<&Tensor>, Option<&Tensor>),
    info: &DataInfo,
    manifest: &DistilledManifest,
) -> Result<()> {
    let (images, labels) =
        (images.to_device(Device::Cpu).contiguous(), labels.to_device(Device::Cpu).contiguous());
    let mut tensors = vec![("images", images.shallow_clone()), ("labels", labels.shallow_clone())];
    tensors.extend(soft_labels.map(|soft| ("soft_labels", soft.to_device(Device::Cpu).contiguous())));
    tensors.extend(logits.map(|logits| ("teacher_logits", logits.to_device(Device::Cpu).contiguous())));
    write_atomically(&folder.join("distilled.safetensors"), |path| {
        Ok(Tensor::write_safetensors(&tensors, path)?)
    })?;

    let bytes = (&images * 255.0).round().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let mut counts = vec![0usize; info.classes.len()];
    let labels = Vec::<i64>::try_from(&labels)?;
    for (position, &label) in labels.iter().enumerate() {
        let class = label as usize;
        let path = folder.join("images").join(&info.classes[class]).join(format!("{:04}.png", counts[class]));
        counts[class] += 1;
        write_png(&path, &bytes.get(position as i64))?;
    }
    write_png(&folder.join("contact-sheet.png"), &sheet(&bytes, manifest.images_per_class as i64)?)?;
    write_text(&folder.join("manifest.json"), &(serde_json::to_string_pretty(manifest)? + "\n"))
}
