//! The typed recipe: everything that a recipe can say, with its meaning, its range and its default.
//!
//! The rule: this file is the reference. Doc comments are the schema's descriptions and what `recipe schema` prints,
//! ranges are the schema's, and each default is written once, here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::PathBuf};

pub use super::augmentation::{Augmentation, Augmentations};
pub use super::data::{Data, Statistics, Zca};
pub use super::epsilon::{Epsilon, EpsilonError, Epsilons};
pub use super::experts::Experts;
pub use super::first_images::FirstImages;
pub use super::optimizer::{
    Adam, AdamW, MultiStepSchedule, OneCycleSchedule, Optimizer, Schedule, Sgd, StepSchedule,
};
pub use super::presets::Preset;
pub use super::students::Students;
pub use crate::{
    data::OnError,
    network::{Architecture, Precision},
};
pub use guard_sdk::Norm;

/// What a run shall do: networks are trained on real data, a small data set is distilled with their help, students
/// are trained on it, and their robustness is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "GUARD recipe")]
pub struct Recipe {
    /// The run's name and that of its folder under `runs/`; unless said, the recipe file's name without `.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Every random draw of the run derives from this number.
    #[serde(default)]
    pub seed: u64,
    /// The plugins that the recipe's methods come from: names, file names or paths.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// The real data.
    pub data: Data,
    /// The network of teachers and, unless they have their own, of students.
    #[serde(default)]
    pub network: Architecture,
    /// The numbers that networks compute with, teachers and students alike; `tf32` and `bf16` are for GPUs that have them.
    /// Evaluations are in float32 whatever it is.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    /// How any network is trained on real data.
    #[serde(default)]
    pub training: Training,
    /// The expert trajectories that some objectives follow; their networks are trained as `training` says.
    #[serde(default)]
    pub experts: Experts,
    /// How synthetic images are made; without it nothing is distilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
    /// How synthetic images get their labels.
    #[serde(default)]
    pub relabel: Relabel,
    /// How students are trained on synthetic images.
    #[serde(default)]
    pub student: Student,
    /// Networks to train on the synthetic images one after the other, `student.count` of each, by name or as tables with
    /// `architecture`; unless said, `student.network` alone.
    #[serde(default, skip_serializing_if = "Students::is_empty")]
    pub students: Students,
    /// What is measured at the end.
    #[serde(default)]
    pub evaluate: Evaluate,
    /// Another recipe's file, from this one's folder: this one is laid over it, tables key by key, all else as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// Keys, and for each of them a list of values, such as `distill.images_per_class = [1, 10]`: every combination, of every
    /// variant if there are any, is run as a variant.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub sweep: Map<String, Value>,
    /// Variants of this recipe, run side by side with the same seeds; none means the recipe alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Changes>,
}

/// How any network is trained on real data.
///
/// Its loss is `cross_entropy_weight` times cross-entropy, plus `weight` times each regularizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Passes over the data.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Images in a step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Weight of the cross-entropy; 0 leaves the loss to the regularizers, as adversarial training does.
    #[schemars(range(min = 0))]
    pub cross_entropy_weight: f64,
    /// Share of the label that is spread over all classes, from 0 to below 1.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// What moves the weights.
    pub optimizer: Optimizer,
    /// How the learning rate goes from its start, step by step.
    #[serde(deserialize_with = "Schedule::named_or_table")]
    #[schemars(schema_with = "Schedule::name_or_table")]
    pub schedule: Schedule,
    /// Share of the steps in which the learning rate rises along a line to where the schedule starts, from 0 to below 1.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub warmup: f64,
    /// The length that all gradients together are cut to where they are longer, above 0; unless said, they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_gradient: Option<f64>,
    /// Decay of the weights' exponential moving average, which then takes the place of the network; 0 averages nothing.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub ema: f64,
    /// Which epoch's network is kept.
    pub keep: KeptEpoch,
    /// Share of the training images that `keep = "best"` leaves out of training to choose on, above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
    /// Random changes to each image before each step, in this order.
    pub augment: Augmentations,
    /// Penalties added to the loss.
    pub regularizers: Vec<RegularizerUse>,
}

/// Which epoch's network is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeptEpoch {
    /// The last one's.
    Last,
    /// The one's that decides the most of `validation_share` rightly; the first of several.
    Best,
}

impl Default for Training {
    fn default() -> Training {
        Training {
            epochs: 20,
            batch_size: 128,
            cross_entropy_weight: 1.0,
            label_smoothing: 0.0,
            optimizer: Optimizer::Sgd(Sgd::default()),
            schedule: Schedule::Cosine,
            warmup: 0.0,
            clip_gradient: None,
            ema: 0.0,
            keep: KeptEpoch::Last,
            validation_share: 0.1,
            augment: Augmentations::default(),
            regularizers: Vec::new(),
        }
    }
}

/// A penalty that a plugin computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegularizerUse {
    /// The regularizer's name, as its plugin offers it.
    #[serde(rename = "use")]
    pub method: String,
    /// Factor of the penalty in the loss.
    #[serde(default = "weight")]
    #[schemars(range(min = 0))]
    pub weight: f64,
    /// Share of the steps in which the factor goes along a line from `initial_weight` to `weight`, from 0 to 1.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub warmup: f64,
    /// Factor of the penalty at the start of `warmup`.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub initial_weight: f64,
    /// The regularizer's own options.
    #[serde(default)]
    pub options: Map<String, Value>,
}

fn weight() -> f64 {
    1.0
}

/// How synthetic images are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distill {
    /// The objective that the images are optimised for, as its plugin offers it.
    pub objective: String,
    /// Synthetic images of each class; of a `given` set all are taken.
    #[serde(default = "images_per_class")]
    #[schemars(range(min = 1))]
    pub images_per_class: usize,
    /// Steps of the images' optimizer; unless said, the objective's own number. Objectives that optimise nothing, such as
    /// `random`, `rded` and `given`, leave this, `optimizer` and `regularizers` unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub iterations: Option<usize>,
    /// What moves the images; unless said, the objective's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// What the images start from: `noise`, `real` images of their class, or the path of a distilled set; unless said, the
    /// objective's own. `given` takes such a set as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<FirstImages>,
    /// The objective's own options.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// Penalties on the images, added to the objective.
    #[serde(default)]
    pub regularizers: Vec<RegularizerUse>,
}

fn images_per_class() -> usize {
    10
}

/// How synthetic images get their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Relabel {
    /// Where the labels come from.
    pub labels: Labels,
    /// What the teacher's logits are divided by before they become soft labels, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// The type of the numbers that stored labels are written as.
    pub storage: LabelStorage,
    /// Of stored labels, keep the logits of so many classes and the probability of the others together, which loses what
    /// the teacher says of the others; unless said, of all classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub top_k: Option<usize>,
}

impl Default for Relabel {
    fn default() -> Relabel {
        Relabel { labels: Labels::Online, temperature: 20.0, storage: LabelStorage::Float16, top_k: None }
    }
}

/// The type of the numbers that stored labels are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LabelStorage {
    /// Half precision: 2 bytes, and nothing is lost but its rounding.
    Float16,
    /// 256 steps from an image's lowest logit to its highest: 1 byte, and what lies between the steps is lost.
    Int8,
}

/// Where the labels of synthetic images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// The class that the image was made for, or the class probabilities that the objective learned for it.
    Hard,
    /// The teacher's answer to the image, computed once.
    Soft,
    /// The teacher's answer to the augmented image, computed in every step.
    Online,
    /// The same, computed for all epochs before the first student is trained, and kept in `soft-labels.safetensors`. All
    /// students see the same augmented images.
    Stored,
}

/// How students are trained on synthetic images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Student {
    /// The protocol of a paper: it fills in what this table and `[relabel]` do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// How many students of each network are trained, each from its own seed; results are means over them.
    #[schemars(range(min = 1))]
    pub count: usize,
    /// Passes over the synthetic images.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Images in a step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// What moves the weights.
    pub optimizer: Optimizer,
    /// How the learning rate goes from its start, step by step.
    #[serde(deserialize_with = "Schedule::named_or_table")]
    #[schemars(schema_with = "Schedule::name_or_table")]
    pub schedule: Schedule,
    /// Random changes to each image before each step, in this order.
    pub augment: Augmentations,
    /// Both parameters of the Beta distribution of the shares in which two images are mixed (Mixup); 0 mixes nothing.
    #[schemars(range(min = 0))]
    pub mixup: f64,
    /// Both parameters of the Beta distribution of the share of an image that another one's part covers (CutMix); 0 cuts
    /// nothing. With `mixup`, each batch takes one or the other.
    #[schemars(range(min = 0))]
    pub cutmix: f64,
    /// Weight of the divergence (KL) from soft labels; without soft labels it has no effect.
    #[schemars(range(min = 0))]
    pub kl_weight: f64,
    /// Weight of the cross-entropy to the images' classes beside soft labels; without those it is the whole loss.
    #[schemars(range(min = 0))]
    pub cross_entropy_weight: f64,
    /// Penalties added to the students' loss, of any number, on the synthetic images as a student sees them. They see the
    /// images' classes, mixed as the images are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regularizers: Vec<RegularizerUse>,
    /// The students' network; unless said, the recipe's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Architecture>,
    /// Whether a learning rate that the objective learned for its students takes the place of the optimizer's.
    pub learned_rate: bool,
}

impl Default for Student {
    fn default() -> Student {
        Student {
            preset: None,
            count: 3,
            epochs: 300,
            batch_size: 64,
            optimizer: Optimizer::Adamw(AdamW::default()),
            schedule: Schedule::Cosine,
            augment: Augmentations::default(),
            mixup: 0.8,
            cutmix: 0.0,
            kl_weight: 1.0,
            cross_entropy_weight: 0.0,
            regularizers: Vec::new(),
            network: None,
            learned_rate: true,
        }
    }
}

/// What is measured at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// The images that are evaluated on: `test` for results, `validation` for choosing settings.
    pub split: EvaluationSplit,
    /// Images in a step; no result depends on it.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// What an attacker may do; attacks need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threat: Option<Threat>,
    /// The attacks to withstand.
    pub attacks: Vec<AttackUse>,
    /// Further networks, by name, on which attacks such as `transfer` make their images. The name `teacher` stands for the
    /// network that the run itself trains on real data.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, GivenNetwork>,
    /// On so many images, weak, doubled and boundless attacks are tried as well, to flag numbers that cannot be believed; 0
    /// tries nothing.
    pub probe_images: usize,
    /// At so many images the curvature of the loss is measured: the largest eigenvalue of its Hessian along the input.
    pub curvature_images: usize,
    /// So many images, of different classes, are drawn before and after each attack, within the largest ε.
    pub example_images: usize,
}

impl Default for Evaluate {
    fn default() -> Evaluate {
        Evaluate {
            split: EvaluationSplit::Test,
            batch_size: 256,
            threat: None,
            attacks: Vec::new(),
            networks: BTreeMap::new(),
            probe_images: 100,
            curvature_images: 0,
            example_images: 8,
        }
    }
}

/// What attacks call the network that the run trains on real data.
pub const TEACHER: &str = "teacher";

/// A network whose weights are given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenNetwork {
    /// The weights: a safetensors file, or PyTorch's `.pth` or `.pt`.
    pub weights: PathBuf,
    /// Its architecture; unless said, the recipe's `network`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Architecture>,
    /// Mean of each channel that its images are normalised with; unless said, the data's. Goes with `std`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel, above 0; unless said, the data's. Goes with `mean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), extend("items" = json!({ "type": "number", "exclusiveMinimum": 0 })))]
    pub std: Option<Vec<f64>>,
}

/// The images that networks are evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvaluationSplit {
    /// The test split.
    Test,
    /// A fifth of the training split, chosen by the seed and left out of training: settings that are chosen on it leave
    /// the test split untouched.
    Validation,
}

/// What an attacker may do: change an image by at most a radius.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threat {
    /// How the size of a change is measured.
    pub norm: Norm,
    /// The radius or radii, in pixel units: images are in [0, 1].
    pub epsilon: Epsilons,
}
/// An attack that a plugin offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttackUse {
    /// The attack's name, as its plugin offers it.
    #[serde(rename = "use")]
    pub method: String,
    /// What results call it, if not by its own name; the same attack may stand here twice under two names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The attack's own options.
    #[serde(default)]
    pub options: Map<String, Value>,
}

impl AttackUse {
    /// What results call the attack.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.method)
    }
}

/// A variant: a name, and the keys in which it differs from the recipe.
///
/// Tables are merged key by key, everything else is replaced. What makes variants comparable (`data`, `seed`,
/// `evaluate`, `plugins`) cannot differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// The variant's name, different from the others'.
    pub name: String,
    /// Whether the others are to be measured by it, such as random real images or adversarial training; results say so.
    #[serde(default)]
    pub baseline: bool,
    /// The keys in which it differs.
    #[serde(flatten)]
    pub keys: Map<String, Value>,
}
