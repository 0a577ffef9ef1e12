//! The ResNet for CIFAR of He et al. (CVPR 2016, section 4.2): three stages of equal blocks, shortcuts without parameters
//! (option A). Names and start of `akamaster/pytorch_resnet_cifar10`.

use super::{
    layers::Convolution,
    operation::Operation,
    program::{Initial, Program},
};
use guard_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The residual network for CIFAR of the depth that its name says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CifarResnet {
    /// Channels of the first stage; each further stage doubles them. Even, since a shortcut's zeros come
    /// half before and half after its channels.
    #[schemars(range(min = 2, max = 65536))]
    pub width: i64,
}

impl Default for CifarResnet {
    fn default() -> CifarResnet {
        CifarResnet { width: 16 }
    }
}

/// `blocks` in each of the three stages: (depth - 2) / 6.
pub(super) fn program(channels: i64, classes: i64, resnet: &CifarResnet, blocks: i64) -> Result<Program> {
    if resnet.width % 2 != 0 {
        let message = format!("shortcuts without parameters need an even `width`, found {}", resnet.width);
        return Err(Error::new(message));
    }
    let mut program = Program::default();
    let mut operations = Vec::from(normalised(&mut program, ["conv1", "bn1"], (channels, resnet.width), 1));
    operations.push(Operation::Relu);
    let mut from = resnet.width;
    for stage in 0..3 {
        let to = resnet.width << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            let mut main =
                Vec::from(normalised(&mut program, [&name("conv1"), &name("bn1")], (from, to), stride));
            main.push(Operation::Relu);
            main.extend(normalised(&mut program, [&name("conv2"), &name("bn2")], (to, to), 1));
            // Option A: the channels that a stage adds are zeros.
            let shortcut = match stride {
                1 => Vec::new(),
                _ => vec![Operation::Subsample { padding: (to - from) / 2 }],
            };
            operations.extend([Operation::Residual { main, shortcut }, Operation::Relu]);
            from = to;
        }
        operations.push(Operation::Stage(format!("layer{}", stage + 1)));
    }
    operations.extend([Operation::GlobalPool, Operation::Flatten, Operation::Embedding]);
    let (weight, bias) = (Initial::kaiming_normal(from), Initial::pytorch(from));
    operations.push(program.linear_from("linear", from, classes, weight, bias));
    program.operations = operations;
    Ok(program)
}

fn normalised(
    program: &mut Program,
    [convolution, norm]: [&str; 2],
    (from, to): (i64, i64),
    stride: i64,
) -> [Operation; 2] {
    let initial = Some(Initial::kaiming_normal(from * 9));
    let convolution = Convolution { stride, initial, ..Convolution::new(convolution, from, to, 3) };
    [program.convolution(convolution), program.batch_norm_layer(norm, to)]
}
