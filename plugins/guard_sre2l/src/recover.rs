//! SRe2L's recover step: images that the teacher classifies, and whose BatchNorm statistics are those of real data.
//!
//! | paper | here |
//! |---|---|
//! | α_BN, r_bn | `batch_norm_weight` |
//! | weight of the first BatchNorm layer | `first_layer_weight` |
//! | R_BN | `batch-norm` in the log |

use guard_sdk::{
    Batch, Kind, Lab, Method, Needs, Objective, OwnedNetwork, Pass, Result, Services, Space, Statistics,
    Step, Synthetic, Tensor, Value,
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

/// Options of `sre2l`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sre2lOptions {
    /// r_bn: ImageNet-1K, ImageNette and CIFAR 0.01, Tiny-ImageNet 1.
    #[schemars(range(min = 0.0))]
    pub batch_norm_weight: f64,
    /// How much more the first BatchNorm layer counts.
    #[schemars(range(min = 0.0))]
    pub first_layer_weight: f64,
    /// What the images go through before the teacher sees them.
    pub augment: Augment,
    /// The smallest share of an image's area that a crop keeps.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub smallest_crop: f64,
    /// The largest roll, in pixels: 32 at 224 pixels, 4 at 32.
    #[schemars(range(min = 0))]
    pub largest_roll: i64,
}

impl Default for Sre2lOptions {
    fn default() -> Self {
        Self {
            batch_norm_weight: 0.01,
            first_layer_weight: 10.0,
            augment: Augment::Crop,
            smallest_crop: 0.08,
            largest_roll: 4,
        }
    }
}

/// CE(f(A(x̃)), y) + r_bn · Σ_l m_l (‖var_l − rvar_l‖₂ + ‖mean_l − rmean_l‖₂).
pub struct Sre2l {
    options: Sre2lOptions,
    teacher: Option<OwnedNetwork>,
}

impl Method for Sre2l {
    type Options = Sre2lOptions;
    const NAME: &'static str = "sre2l";

    fn new(options: Sre2lOptions, _: &Services) -> Result<Self> {
        Ok(Self { options, teacher: None })
    }
}

impl Objective for Sre2l {
    fn needs(&self) -> Needs {
        Needs {
            networks: Networks::Teacher,
            batch_norm: true,
            space: Space::Normalised,
            together: Together::OneImagePerClass,
            start: Start::Noise,
            iterations: 1000,
            updates: Updates::Adam { learning_rate: 0.25, betas: [0.5, 0.9], cosine: true },
            ..Needs::default()
        }
    }

    /// Passes: 1 forward; the host adds 1 input backward.
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let images = self.augmented(step, synthetic.images)?;
        let teacher = match &self.teacher {
            Some(teacher) => teacher,
            None => self.teacher.insert(lab.teacher()?),
        };
        let output = teacher.lend().pass(&images, Pass::new(synthetic.space).with_statistics())?;
        let Synthetic { labels, soft_labels, ids, space, .. } = *synthetic;
        let batch = Batch { images: &images, labels, soft_labels, ids, space };
        let cross_entropy = batch.cross_entropy_each(&output.logits)?.mean(None::<Kind>);
        let batch_norm = self.statistics_distance(step, &output.statistics)?;
        step.services.metric("cross-entropy", &cross_entropy)?;
        step.services.metric("batch-norm", &batch_norm)?;
        Ok(Value::Loss(cross_entropy + batch_norm * self.options.batch_norm_weight))
    }
}

impl Sre2l {
    fn augmented(&self, step: &Step, images: &Tensor) -> Result<Tensor> {
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
            let (size, scale) = ([height, width], [self.options.smallest_crop, 1.0]);
            let options = ResizedCropOptions { scale, ..ResizedCropOptions::default() };
            images = ResizedCrop::draw(crop.as_chunks().0, size, size, &options).apply(&images)?;
            images = Flip::draw(flip.as_chunks().0, 0.5).apply(&images)?;
        }
        Roll::draw(roll.as_chunks().0, self.options.largest_roll).apply(&images)
    }

    /// Σ_l m_l (‖var_l − rvar_l‖₂ + ‖mean_l − rmean_l‖₂), a scalar.
    fn statistics_distance(&self, step: &Step, statistics: &[Statistics]) -> Result<Tensor> {
        let mut total = None;
        for (index, layer) in statistics.iter().enumerate() {
            let distance = (&layer.running_variance - &layer.variance).norm()
                + (&layer.running_mean - &layer.mean).norm();
            step.services.metric(&format!("batch-norm/{}", layer.layer), &distance)?;
            let weighted = if index == 0 { distance * self.options.first_layer_weight } else { distance };
            total = Some(match total {
                None => weighted,
                Some(total) => total + weighted,
            });
        }
        total.ok_or_else(|| guard_sdk::Error::unsupported("the teacher has no BatchNorm layer"))
    }
}
