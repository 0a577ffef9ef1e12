//! The real data: what `[data]` can say.

use super::model::OnError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

/// The real data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The data set's name, such as `digits` or `cifar10`, or its format, such as `imagefolder`.
    pub dataset: String,
    /// The folder, or the file, that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Side of the square images that networks see; unless said, the set's own, and 224 where images come in any size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub image_size: Option<usize>,
    /// Where images come in any size: the shorter side they are resized to before their middle is cut out; unless said,
    /// 256/224 of `image_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub resize: Option<usize>,
    /// Number of classes, where a plan is wanted before the data is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub classes: Option<usize>,
    /// Which mean and standard deviation normalise the images; unless said, the set's own where they are published, else
    /// those of the training split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
    /// Mean of each channel over pixels in [0, 1], in place of `statistics`. Goes with `std`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel over pixels in [0, 1], above 0. Goes with `mean`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), extend("items" = json!({ "type": "number", "exclusiveMinimum": 0 })))]
    pub std: Option<Vec<f64>>,
    /// ZCA whitening after the normalisation, fitted to the training images, as MTT has it for CIFAR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zca: Option<Zca>,
    /// Share of the images that become the test split of a set that has none.
    #[serde(default = "test_share")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub test_share: f64,
    /// Train on so many of the training images, of every class in proportion; unless said, on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub train_images: Option<usize>,
    /// Evaluate on so many of the test images, of every class in proportion; unless said, on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub test_images: Option<usize>,
    /// Chooses the images of `test_share`, `train_images` and `test_images`; runs with different `seed` share them.
    #[serde(default)]
    pub split_seed: u64,
    /// What happens when an image cannot be used.
    #[serde(default)]
    pub on_error: OnError,
    /// Gibibytes that decoded pictures may take; larger sets are decoded anew in every epoch.
    #[serde(default = "memory")]
    #[schemars(range(min = 0))]
    pub memory: f64,
}

fn test_share() -> f64 {
    0.2
}

fn memory() -> f64 {
    2.0
}

impl Data {
    /// A data set with nothing said but its name.
    pub fn named(dataset: &str) -> Self {
        Self {
            dataset: dataset.to_string(),
            root: None,
            image_size: None,
            resize: None,
            classes: None,
            statistics: None,
            mean: None,
            std: None,
            zca: None,
            test_share: test_share(),
            train_images: None,
            test_images: None,
            split_seed: 0,
            on_error: OnError::Stop,
            memory: memory(),
        }
    }
}

/// ZCA whitening: a linear map after which no two of an image's values are correlated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Zca {
    /// What is added to the covariance's eigenvalues. MTT's is 0.1, of pixels that are not normalised before (`mean` 0, `std`
    /// 1).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
}

impl Default for Zca {
    fn default() -> Self {
        Self { epsilon: 0.1 }
    }
}

/// Which mean and standard deviation normalise the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Statistics {
    /// The set's own, as published.
    Own,
    /// CIFAR-10's as DC, DSA, DM and MTT use them: a smaller standard deviation.
    Dc,
    /// ImageNet's.
    Imagenet,
    /// Computed from the training split.
    Computed,
}
