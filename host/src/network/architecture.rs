//! Which networks there are, and what describes one completely. The doc comments are what the recipe's schema says.

use super::{convnet, program::Program, resnet};
use guard_sdk::{Error, NetworkInfo, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network, by its architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "architecture", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Architecture {
    /// Equal convolution blocks and a linear layer.
    Convnet(Convnet),
    /// Torchvision's residual network of basic blocks.
    Resnet(Resnet),
}

impl Default for Architecture {
    fn default() -> Architecture {
        Architecture::Convnet(Convnet::default())
    }
}

/// Equal blocks (convolution, norm, ReLU, average pooling) and a linear layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Convnet {
    /// Blocks; each halves the image.
    #[schemars(range(min = 1, max = 64))]
    pub depth: i64,
    /// Channels of each block.
    #[schemars(range(min = 1, max = 65536))]
    pub width: i64,
    /// The blocks' normalisation.
    pub norm: NormLayer,
}

impl Default for Convnet {
    fn default() -> Convnet {
        Convnet { depth: 3, width: 128, norm: NormLayer::Instance }
    }
}

/// A normalisation layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormLayer {
    /// Each channel of each image by itself.
    Instance,
    /// Each channel over the batch, with running statistics; objectives of the SRe2L family need it.
    Batch,
    /// All channels of each image together.
    Layer,
    /// The channels of each image in four groups.
    Group,
    /// No normalisation.
    None,
}

/// Torchvision's residual network of basic blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resnet {
    /// What comes before the blocks.
    pub stem: Stem,
    /// Channels of the first stage; each further stage doubles them.
    #[schemars(range(min = 1, max = 65536))]
    pub width: i64,
    /// Blocks of each stage; `[2, 2, 2, 2]` is ResNet-18.
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 1000)))]
    pub blocks: Vec<i64>,
}

impl Default for Resnet {
    fn default() -> Resnet {
        Resnet { stem: Stem::Cifar, width: 64, blocks: vec![2, 2, 2, 2] }
    }
}

/// What comes before a residual network's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A 3×3 convolution, for small images.
    Cifar,
    /// A 7×7 convolution of stride 2 and max-pooling, for images of 224 pixels.
    Imagenet,
}

/// A network that is larger is a slip of the pen.
const MOST_PARAMETERS: i128 = 4_000_000_000;

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
        // Empty in a plan that was made without the data.
        let known = |values: &[f64]| values.is_empty() || values.len() as i64 == channels;
        if !known(&self.mean) || !known(&self.std) {
            return Err(Error::new(format!(
                "images have {channels} channels, but mean has {} values and std {}",
                self.mean.len(),
                self.std.len()
            )));
        }
        let program = match &self.architecture {
            Architecture::Convnet(convnet) => convnet::program(self.input, self.classes, convnet)?,
            Architecture::Resnet(resnet) => resnet::program(channels, self.classes, resnet),
        };
        let size: i128 = program
            .parameters
            .iter()
            .map(|each| each.shape.iter().map(|&length| i128::from(length)).product::<i128>())
            .sum();
        if size > MOST_PARAMETERS {
            return Err(Error::new(format!(
                "the network would have {size} parameters, more than {MOST_PARAMETERS}"
            ))
            .help("lower `width`"));
        }
        Ok(program)
    }

    /// What plugins see.
    pub fn info(&self, program: &Program) -> NetworkInfo {
        NetworkInfo {
            architecture: match self.architecture {
                Architecture::Convnet(_) => "convnet",
                Architecture::Resnet(_) => "resnet",
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
