//! torchvision's ResNet (He et al., CVPR 2016), with its names and its way to start. Bottleneck blocks have their stride
//! in the 3×3 convolution, as torchvision's do.

use super::{layers::Convolution, operation::Operation, program::Program};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What comes before a residual network's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A 3×3 convolution, for small images.
    Cifar,
    /// A 7×7 convolution of stride 2 and max-pooling, for images of 224 pixels.
    Imagenet,
}

/// Torchvision's residual network, of any size.
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
    /// Whether blocks are of 1×1, 3×3 and 1×1 convolutions with four times the channels at their ends, as ResNet-50's,
    /// rather than of two 3×3 convolutions.
    pub bottleneck: bool,
}

impl Default for Resnet {
    fn default() -> Resnet {
        Resnet { stem: Stem::Cifar, width: 64, blocks: vec![2, 2, 2, 2], bottleneck: false }
    }
}

/// Torchvision's residual network of the size that its name says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NamedResnet {
    /// What comes before the blocks; torchvision's is `imagenet`.
    pub stem: Stem,
    /// Channels of the first stage; each further stage doubles them.
    #[schemars(range(min = 1, max = 65536))]
    pub width: i64,
}

impl Default for NamedResnet {
    fn default() -> NamedResnet {
        NamedResnet { stem: Stem::Imagenet, width: 64 }
    }
}

impl NamedResnet {
    /// The network that a name stands for.
    pub(super) fn of(&self, blocks: [i64; 4], bottleneck: bool) -> Resnet {
        Resnet { stem: self.stem, width: self.width, blocks: blocks.to_vec(), bottleneck }
    }
}

pub(super) fn program(channels: i64, classes: i64, resnet: &Resnet) -> Program {
    let Resnet { stem, width, ref blocks, bottleneck } = *resnet;
    let mut program = Program::default();
    let mut operations = Vec::new();
    let conv1 = match stem {
        Stem::Cifar => Convolution::torchvision("conv1", channels, width, 3),
        Stem::Imagenet => Convolution { stride: 2, ..Convolution::torchvision("conv1", channels, width, 7) },
    };
    operations.push(program.convolution(conv1));
    operations.push(program.batch_norm_layer("bn1", width));
    operations.push(Operation::Relu);
    if stem == Stem::Imagenet {
        operations.push(Operation::MaximumPool);
    }
    let mut from = width;
    for (stage, &count) in blocks.iter().enumerate() {
        let inner = width << stage;
        let to = if bottleneck { 4 * inner } else { inner };
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            // Each convolution with its name's number, its channels, its size and its stride.
            let convolutions: &[_] = match bottleneck {
                true => &[(1, from, inner, 1, 1), (2, inner, inner, 3, stride), (3, inner, to, 1, 1)],
                false => &[(1, from, to, 3, stride), (2, to, to, 3, 1)],
            };
            operations.extend(residual_block(&mut program, &name, convolutions, (from, to, stride)));
            from = to;
        }
        operations.push(Operation::Stage(format!("layer{}", stage + 1)));
    }
    operations.extend([Operation::GlobalPool, Operation::Flatten, Operation::Embedding]);
    operations.push(program.linear("fc", from, classes));
    program.operations = operations;
    program
}

fn residual_block(
    program: &mut Program,
    name: &str,
    convolutions: &[(i64, i64, i64, i64, i64)],
    (from, to, stride): (i64, i64, i64),
) -> [Operation; 2] {
    let mut main = Vec::new();
    for &(number, from, to, size, stride) in convolutions {
        if number > 1 {
            main.push(Operation::Relu);
        }
        let convolution = format!("{name}.conv{number}");
        let convolution = Convolution { stride, ..Convolution::torchvision(&convolution, from, to, size) };
        main.push(program.convolution(convolution));
        main.push(program.batch_norm_layer(&format!("{name}.bn{number}"), to));
    }
    let mut shortcut = Vec::new();
    if stride != 1 || from != to {
        let convolution = format!("{name}.downsample.0");
        let convolution = Convolution { stride, ..Convolution::torchvision(&convolution, from, to, 1) };
        shortcut.push(program.convolution(convolution));
        shortcut.push(program.batch_norm_layer(&format!("{name}.downsample.1"), to));
    }
    [Operation::Residual { main, shortcut }, Operation::Relu]
}
