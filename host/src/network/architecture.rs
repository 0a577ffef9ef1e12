//! Which networks there are, and what describes one completely. The doc comments are what the recipe's schema says.
//!
//! A name stands for a family's program and the sizes that it is known by; the recipe's other keys are the family's options.

use super::{
    cifar_resnet::{self, CifarResnet},
    convnet::{self, Convnet},
    mobilenet::{self, Mobilenet},
    precision::Precision,
    program::Program,
    resnet::{self, NamedResnet, Resnet, Stem},
    resnet_ap::{self, ResnetAp},
    shufflenet::{self, Shufflenet},
    vit::{self, Vit},
    whitening::Whitening,
    wide_resnet::{self, WideResnet},
};
use guard_sdk::{Error, NetworkInfo, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A network, by its architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "architecture", rename_all = "snake_case", deny_unknown_fields)]
pub enum Architecture {
    /// Equal convolution blocks and a linear layer.
    Convnet(Convnet),
    /// Torchvision's residual network, of any size.
    Resnet(Resnet),
    /// Torchvision's ResNet-18.
    Resnet18(NamedResnet),
    /// Torchvision's ResNet-34.
    Resnet34(NamedResnet),
    /// Torchvision's ResNet-50.
    Resnet50(NamedResnet),
    /// Torchvision's ResNet-101.
    Resnet101(NamedResnet),
    /// He et al.'s ResNet-20 for CIFAR.
    Resnet20(CifarResnet),
    /// He et al.'s ResNet-32 for CIFAR.
    Resnet32(CifarResnet),
    /// He et al.'s ResNet-56 for CIFAR.
    Resnet56(CifarResnet),
    /// The ResNet-18 of DC and DSA, with average pooling.
    Resnet18Ap(ResnetAp),
    /// The WideResNet of 16 layers, twice as wide.
    #[serde(rename = "wrn-16-2")]
    Wrn16x2(WideResnet),
    /// timm's Vision Transformer of 3 heads.
    VitTiny(Vit),
    /// timm's Vision Transformer of 6 heads.
    VitSmall(Vit),
    /// timm's Vision Transformer of 12 heads.
    VitBase(Vit),
    /// Torchvision's MobileNetV2.
    MobilenetV2(Mobilenet),
    /// Torchvision's ShuffleNetV2 of width 1.0.
    ShufflenetV2(Shufflenet),
}

impl Default for Architecture {
    fn default() -> Architecture {
        Architecture::Convnet(Convnet::default())
    }
}

impl Architecture {
    /// The images and the number of classes that it was published for: ImageNet's, or CIFAR-10's.
    pub fn published_for(&self) -> ([i64; 3], i64) {
        use Architecture::*;
        let imagenet = match self {
            Resnet(resnet) => resnet.stem == Stem::Imagenet,
            Resnet18(named) | Resnet34(named) | Resnet50(named) | Resnet101(named) => {
                named.stem == Stem::Imagenet
            }
            VitTiny(_) | VitSmall(_) | VitBase(_) | MobilenetV2(_) | ShufflenetV2(_) => true,
            Convnet(_) | Resnet20(_) | Resnet32(_) | Resnet56(_) | Resnet18Ap(_) | Wrn16x2(_) => false,
        };
        if imagenet { ([3, 224, 224], 1000) } else { ([3, 32, 32], 10) }
    }

    fn program(&self, input: [i64; 3], classes: i64) -> Result<Program> {
        use Architecture::*;
        let channels = input[0];
        let named = |resnet| Ok(resnet::program(channels, classes, &resnet));
        let cifar = |resnet, blocks| cifar_resnet::program(channels, classes, resnet, blocks);
        match self {
            Convnet(convnet) => convnet::program(input, classes, convnet),
            Resnet(resnet) => Ok(resnet::program(channels, classes, resnet)),
            Resnet18(resnet) => named(resnet.of([2, 2, 2, 2], false)),
            Resnet34(resnet) => named(resnet.of([3, 4, 6, 3], false)),
            Resnet50(resnet) => named(resnet.of([3, 4, 6, 3], true)),
            Resnet101(resnet) => named(resnet.of([3, 4, 23, 3], true)),
            Resnet20(resnet) => cifar(resnet, 3),
            Resnet32(resnet) => cifar(resnet, 5),
            Resnet56(resnet) => cifar(resnet, 9),
            Resnet18Ap(resnet) => resnet_ap::program(input, classes, resnet),
            Wrn16x2(resnet) => Ok(wide_resnet::program(channels, classes, resnet, 2, 2)),
            VitTiny(vit) => vit::program(input, classes, vit, 3),
            VitSmall(vit) => vit::program(input, classes, vit, 6),
            VitBase(vit) => vit::program(input, classes, vit, 12),
            MobilenetV2(mobilenet) => Ok(mobilenet::program(channels, classes, mobilenet)),
            ShufflenetV2(_) => Ok(shufflenet::program(channels, classes)),
        }
    }

    /// The names that recipes may say.
    pub fn names() -> Vec<String> {
        let schema = schemars::schema_for!(Architecture).to_value();
        let forms = schema["oneOf"].as_array().cloned().unwrap_or_default();
        let name = |form: &Value| form["properties"]["architecture"]["const"].as_str().map(str::to_string);
        forms.iter().filter_map(name).collect()
    }

    /// The name that recipes call it by.
    pub fn name(&self) -> String {
        // Plain data with a tag always becomes JSON.
        let written = serde_json::to_value(self).unwrap_or_default();
        written["architecture"].as_str().unwrap_or_default().to_string()
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

/// That an architecture halves images more often, or cuts them coarser, than their size allows.
pub(super) fn too_small([_, height, columns]: [i64; 3], what_for: &str) -> Error {
    Error::new(format!("images of {height}x{columns} are too small for {what_for}"))
}

/// A network that is larger is a slip of the pen.
const MOST_PARAMETERS: i128 = 4_000_000_000;

/// Images that are larger are a slip of the pen.
const LONGEST_SIDE: i64 = 32_768;

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
    /// What comes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whitening: Option<Whitening>,
    /// What its passes compute with.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
}

impl NetworkSpec {
    /// The operations and tensors.
    ///
    /// # Errors
    /// If the images do not fit the architecture, or mean and std do not fit the channels.
    pub fn program(&self) -> Result<Program> {
        let [channels, height, columns] = self.input;
        if self.classes < 1 || self.input.iter().any(|side| !(1..=LONGEST_SIDE).contains(side)) {
            return Err(Error::new(format!(
                "there is no network for {} classes of {channels}x{height}x{columns} images",
                self.classes
            ))
            .help(format!(
                "give at least 1 class, and images with 1 to {LONGEST_SIDE} channels, rows and columns"
            )));
        }
        // Empty in a plan that was made without the data.
        let known = |values: &[f64]| values.is_empty() || values.len() as i64 == channels;
        if !known(&self.mean) || !known(&self.std) {
            return Err(Error::new(format!(
                "images have {channels} channels, but mean has {} values and std {}",
                self.mean.len(),
                self.std.len()
            )));
        }
        let program = self.architecture.program(self.input, self.classes)?;
        let size = program.size();
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
            architecture: self.architecture.name(),
            classes: self.classes,
            input: self.input,
            mean: self.mean.clone(),
            std: self.std.clone(),
            batch_norm: program.batch_norm(),
        }
    }
}
