//! The recover step of SRe2L and CDA: images that the teacher classifies, and whose BatchNorm statistics are those of
//! real data. The two differ in how much of an image a crop keeps, and when.
//!
//! | paper | here |
//! |---|---|
//! | α_BN, r_bn | `batch_norm_weight` |
//! | weight of the first BatchNorm layer | `first_layer_weight` |
//! | R_BN | `batch-norm` in the log |

use crate::LayerWeights;
use guard_sdk::{
    Batch, Kind, Lab, Needs, OwnedNetwork, Pass, Result, Space, Step, Synthetic, Tensor, Value,
    augment::{Flip, ResizedCrop, ResizedCropOptions, Roll, shared_uniform},
    objective::{Networks, Start, Together, Updates},
};

/// What the images go through before the teacher sees them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// Random-resized-crop, flip, and a roll of up to `largest_roll` pixels, drawn once per iteration.
    #[default]
    Crop,
    /// A roll of up to `largest_roll` pixels only.
    Roll,
    /// Nothing.
    None,
}

/// What SRe2L and CDA can be told alike. Serde cannot refuse unknown keys where tables are flattened; the schemas of those
/// who flatten this one do.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct RecoverOptions {
    /// r_bn: ImageNet-1K, ImageNette and CIFAR 0.01, Tiny-ImageNet 1.
    #[schemars(range(min = 0.0))]
    pub batch_norm_weight: f64,
    /// How much each BatchNorm layer counts.
    #[serde(flatten)]
    pub layers: LayerWeights,
    /// What the images go through before the teacher sees them.
    pub augment: Augment,
    /// The smallest share of an image's area that a crop keeps.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub smallest_crop: f64,
    /// The largest roll, in pixels: 32 at 224 pixels, 4 at 32.
    #[schemars(range(min = 0))]
    pub largest_roll: i64,
    /// How many classes are optimised together, one image of each; their statistics are taken together. 0 for all.
    #[schemars(range(min = 0))]
    pub classes_together: u64,
}

impl Default for RecoverOptions {
    fn default() -> Self {
        Self {
            batch_norm_weight: 0.01,
            layers: LayerWeights::default(),
            augment: Augment::Crop,
            smallest_crop: 0.08,
            largest_roll: 4,
            classes_together: 100,
        }
    }
}

/// CE(f(A(x̃)), y) + r_bn · Σ_l m_l (‖var_l − rvar_l‖₂ + ‖mean_l − rmean_l‖₂).
pub struct Recover {
    /// What it was told.
    pub options: RecoverOptions,
    teacher: Option<OwnedNetwork>,
}

impl Recover {
    /// The loss of these options.
    pub fn new(options: RecoverOptions) -> Self {
        Self { options, teacher: None }
    }

    /// A teacher with BatchNorm; one image of each class at a time, from noise, in normalised space.
    pub fn needs(&self) -> Needs {
        Needs {
            networks: Networks::Teacher,
            batch_norm: true,
            batch_norm_layers: self.options.layers.named(),
            space: Space::Normalised,
            together: Together::OneImagePerClass,
            classes_together: self.options.classes_together,
            start: Start::Noise,
            iterations: 1000,
            updates: Updates::Adam { learning_rate: 0.25, betas: [0.5, 0.9], cosine: true },
            ..Needs::default()
        }
    }

    /// The loss where a crop keeps at least the share `smallest_crop` of an image. Passes: 1 forward; the host adds 1
    /// input backward.
    ///
    /// # Errors
    /// If the host has no teacher, or the teacher no BatchNorm layers.
    pub fn value(
        &mut self,
        step: &Step,
        synthetic: &Synthetic,
        lab: &Lab,
        smallest_crop: f64,
    ) -> Result<Value> {
        let images = self.augmented(step, synthetic.images, smallest_crop)?;
        let teacher = match &self.teacher {
            Some(teacher) => teacher,
            None => self.teacher.insert(lab.teacher()?),
        };
        let output = teacher.lend().pass(&images, Pass::new(synthetic.space).with_statistics())?;
        let Synthetic { labels, soft_labels, ids, space, .. } = *synthetic;
        let batch = Batch { images: &images, labels, soft_labels, ids, space };
        let cross_entropy = batch.cross_entropy_each(&output.logits)?.mean(None::<Kind>);
        let batch_norm = self.options.layers.distance(step, &output.statistics)?;
        step.services.metric("cross-entropy", &cross_entropy)?;
        step.services.metric("batch-norm", &batch_norm)?;
        Ok(Value::Loss(cross_entropy + batch_norm * self.options.batch_norm_weight))
    }

    fn augmented(&self, step: &Step, images: &Tensor, smallest_crop: f64) -> Result<Tensor> {
        if self.options.augment == Augment::None {
            return Ok(images.shallow_clone());
        }
        // One number after the other as in earlier versions, so that their runs can be repeated.
        const DRAWS: usize = ResizedCrop::DRAWS + Flip::DRAWS + Roll::DRAWS;
        let draws = shared_uniform::<DRAWS>(&step.services, "augment", 0)?;
        let (crop, rest) = draws.split_at(ResizedCrop::DRAWS);
        let (flip, roll) = rest.split_at(Flip::DRAWS);
        let mut images = images.shallow_clone();
        if self.options.augment == Augment::Crop {
            let (_, _, height, width) = images.size4()?;
            let (size, scale) = ([height, width], [smallest_crop, 1.0]);
            let options = ResizedCropOptions { scale, ..ResizedCropOptions::default() };
            images = ResizedCrop::draw(crop.as_chunks().0, size, size, &options).apply(&images)?;
            images = Flip::draw(flip.as_chunks().0, 0.5).apply(&images)?;
        }
        Roll::draw(roll.as_chunks().0, self.options.largest_roll).apply(&images)
    }
}
