//! Which networks there are, and what describes one completely.

use super::{convnet, program::Program, resnet};
use guard_sdk::{Error, NetworkInfo, Result};

/// The normalisation layers of a ConvNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConvNetNorm {
    /// GroupNorm with one group per channel.
    #[default]
    Instance,
    /// BatchNorm with running statistics.
    Batch,
    /// LayerNorm over channels and positions.
    Layer,
    /// GroupNorm with four groups.
    Group,
    /// No normalisation.
    None,
}

/// The first layers of a ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResNetStem {
    /// 3×3 convolution with stride 1, no pooling: for images of 32 or 64 pixels.
    #[default]
    Cifar,
    /// 7×7 convolution with stride 2, then pooling: torchvision's.
    Imagenet,
}

/// An architecture and its size.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(tag = "architecture", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Architecture {
    /// The ConvNet of the dataset distillation papers: depth × [3×3 convolution, norm, ReLU, 2×2 average pool], linear.
    Convnet {
        /// Number of blocks.
        #[serde(default = "convnet_depth")]
        #[schemars(range(min = 1, max = 8))]
        depth: i64,
        /// Channels of each block.
        #[serde(default = "convnet_width")]
        #[schemars(range(min = 1, max = 4096))]
        width: i64,
        /// The normalisation layers.
        #[serde(default)]
        norm: ConvNetNorm,
    },
    /// torchvision's ResNet of basic blocks; width 64 and blocks [2, 2, 2, 2] is ResNet-18.
    Resnet {
        /// The first layers.
        #[serde(default)]
        stem: ResNetStem,
        /// Channels of the first stage; each further stage has twice as many.
        #[serde(default = "resnet_width")]
        #[schemars(range(min = 1, max = 1024))]
        width: i64,
        /// Number of blocks of each stage.
        #[serde(default = "resnet_blocks")]
        #[schemars(length(min = 1, max = 6), inner(range(min = 1, max = 64)))]
        blocks: Vec<i64>,
    },
}

fn convnet_depth() -> i64 {
    3
}

fn convnet_width() -> i64 {
    128
}

fn resnet_width() -> i64 {
    64
}

fn resnet_blocks() -> Vec<i64> {
    vec![2, 2, 2, 2]
}

impl Default for Architecture {
    fn default() -> Self {
        Self::Convnet { depth: convnet_depth(), width: convnet_width(), norm: ConvNetNorm::default() }
    }
}

/// Everything that makes a network but its tensors.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NetworkSpec {
    /// The architecture and its size.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// Channels, height and width of the input.
    pub input: [i64; 3],
    /// Number of classes.
    pub classes: i64,
    /// What the normalisation subtracts, per channel.
    pub mean: Vec<f64>,
    /// What it divides by, per channel.
    pub std: Vec<f64>,
}

impl NetworkSpec {
    /// The operations and tensors.
    ///
    /// # Errors
    /// If the images are too small for the architecture, or mean and std do not fit the channels.
    pub fn program(&self) -> Result<Program> {
        let channels = self.input[0];
        if self.mean.len() as i64 != channels || self.std.len() as i64 != channels {
            return Err(Error::new(format!(
                "images have {channels} channels, but mean has {} values and std {}",
                self.mean.len(),
                self.std.len()
            )));
        }
        match &self.architecture {
            Architecture::Convnet { depth, width, norm } => {
                convnet::program(self.input, self.classes, *depth, *width, *norm)
            }
            Architecture::Resnet { stem, width, blocks } => {
                Ok(resnet::program(channels, self.classes, *stem, *width, blocks))
            }
        }
    }

    /// What plugins see.
    pub fn info(&self, program: &Program) -> NetworkInfo {
        NetworkInfo {
            architecture: match self.architecture {
                Architecture::Convnet { .. } => "convnet",
                Architecture::Resnet { .. } => "resnet",
            }
            .to_string(),
            classes: self.classes,
            input: self.input,
            mean: self.mean.clone(),
            std: self.std.clone(),
            batch_norm: program.batch_norm(),
        }
    }
}
