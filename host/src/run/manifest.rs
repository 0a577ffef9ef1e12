//! What belongs to a distilled set beside its tensors, and where it comes from.

use crate::{network::Whitening, plan::PluginLock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The learnable that students take their learning rate from.
pub const LEARNED_RATE: &str = "learning-rate";

/// What belongs to the images, so that nobody has to guess: a set that is normalised differently scores at chance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DistilledManifest {
    /// The data set that was distilled.
    pub dataset: String,
    /// Names of the classes, in order of their labels.
    pub classes: Vec<String>,
    /// Channels, height and width.
    pub image: [i64; 3],
    /// What the images' values are: `pixels`. They are in [0,1], but for those of imported sets that were learned outside.
    pub space: String,
    /// The mean that the networks subtract, per channel; empty where it is not known of an imported set.
    pub mean: Vec<f64>,
    /// The standard deviation that they divide by, per channel.
    pub std: Vec<f64>,
    /// What the networks do after that, with the tensors of `whitening.safetensors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whitening: Option<Whitening>,
    /// Where the set comes from.
    #[serde(flatten)]
    pub origin: Origin,
    /// Images of each class, of that with the most.
    pub images_per_class: usize,
    /// `hard`, `learned` (`soft_labels` in `distilled.safetensors`), `soft` (teacher logits there), `online` (by the teacher,
    /// in `checkpoints/`) or `stored` (in `soft-labels.safetensors`).
    pub labels: String,
    /// What was learned besides the images.
    pub learned: Vec<(String, f64)>,
}

/// Where a set comes from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// A run made it.
    Run {
        /// The objective.
        objective: String,
        /// T of the soft labels.
        temperature: f64,
        /// The run's seed.
        seed: u64,
        /// BLAKE3 of the recipe as it was given.
        recipe_blake3: String,
        /// The plugins with their sums.
        plugins: Vec<PluginLock>,
    },
    /// It was imported.
    Import {
        /// What it was.
        imported: Imported,
    },
}

/// A set as others released it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// The file or folder.
    pub source: String,
    /// Whose way of keeping sets it is, such as `dc`.
    pub form: String,
    /// What its values were: `pixels`, `normalised` (by `mean` and `std`) or `whitened` (after that).
    pub space: String,
    /// How many of the images' values lie outside of [0,1]. They are kept in `distilled.safetensors`, and cut off in pictures.
    pub outside: u64,
    /// BLAKE3 sums of its files; of folders of pictures, of all of them together.
    pub blake3: BTreeMap<String, String>,
}
