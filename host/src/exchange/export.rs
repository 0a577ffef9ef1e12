//! A distilled set of this host → one file that other tools open.

use super::{npz, parquet};
use crate::{
    network::weights::write_tensors,
    run::{Distilled, LEARNED_RATE, write_atomically},
};
use guard_sdk::{Device, Error, Kind, Result, Tensor};
use std::path::Path;

/// What was written, and what the file does not hold.
pub struct Exported {
    /// How many images.
    pub images: i64,
    /// What is lost, a sentence each.
    pub lost: Vec<String>,
}

/// Writes the set in `folder` to a file, whose extension tells the format:
///
/// | extension | what |
/// |---|---|
/// | `parquet` | PNGs and labels, as Hugging Face's `datasets` loads them |
/// | `npz` | `images` float32 `[N,C,H,W]`, pixels; `labels` int64; `mean` and `std` of each channel; `soft_labels` and `learning_rate` where they were learned |
/// | `pt` | the same tensors, for `torch.load(path, weights_only=True)` |
///
/// # Errors
/// If the set cannot be read, the extension is another, or the file system refuses.
pub fn export(folder: &Path, path: &Path) -> Result<Exported> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if !["parquet", "npz", "pt"].contains(&extension) {
        let message = format!("the name of `{}` says no format to write", path.display());
        return Err(Error::with_code("format", message).help("end it in `.parquet`, `.npz` or `.pt`"));
    }
    let set = Distilled::read(folder, Device::Cpu)?;
    let mut lost = Vec::new();
    match extension {
        "parquet" => {
            let off = (&set.images * 255.0 - (&set.images * 255.0).round().clamp(0.0, 255.0)).abs();
            if off.max().f_double_value(&[])? > 1e-3 {
                lost.push(
                    "pictures have 256 levels, and the set's pixels lie between and outside of them".into(),
                );
            }
            if set.soft_labels.is_some() || !set.manifest.learned.is_empty() {
                lost.push("what was learned besides the images is left out".into());
            }
            write_atomically(path, |temporary| parquet::write(temporary, &set))?;
        }
        "npz" => write_atomically(path, |temporary| npz::write(temporary, &tensors(&set)?))?,
        _ => write_tensors(path, &tensors(&set)?)?,
    }
    Ok(Exported { images: set.images.size()[0], lost })
}

/// Everything that belongs to a set, by name.
fn tensors(set: &Distilled) -> Result<Vec<(String, Tensor)>> {
    let numbers = |values: &[f64]| -> Result<Tensor> { Ok(Tensor::f_from_slice(values)?) };
    let mut tensors = vec![
        ("images", set.images.shallow_clone()),
        ("labels", set.labels.shallow_clone()),
        ("mean", numbers(&set.manifest.mean)?),
        ("std", numbers(&set.manifest.std)?),
    ];
    tensors.extend(set.soft_labels.as_ref().map(|soft| ("soft_labels", soft.to_kind(Kind::Float))));
    let rate = set.manifest.learned.iter().find(|(name, _)| name == LEARNED_RATE);
    tensors.extend(rate.map(|(_, rate)| ("learning_rate", Tensor::from(*rate))));
    Ok(tensors.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect())
}
