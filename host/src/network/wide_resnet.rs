//! WideResNet (Zagoruyko and Komodakis, BMVC 2016): norm and ReLU come before each convolution. Names and start of
//! `xternalz/WideResNet-pytorch`, which TRADES and RobustBench share.

use super::{
    layers::Convolution,
    operation::Operation,
    program::{Initial, Program},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The WideResNet of the depth and the width that its name says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WideResnet {
    /// The share of activations that are zeroed between a block's convolutions in training.
    #[schemars(range(min = 0, max = 0.99))]
    pub dropout: f64,
}

impl Default for WideResnet {
    fn default() -> WideResnet {
        WideResnet { dropout: 0.0 }
    }
}

/// `blocks` in each of the three stages: (depth - 4) / 6; `widen` times the width of a ResNet.
pub(super) fn program(channels: i64, classes: i64, resnet: &WideResnet, blocks: i64, widen: i64) -> Program {
    let mut program = Program::default();
    let mut operations = vec![program.convolution(convolution("conv1", channels, 16, 3, 1))];
    let mut from = 16;
    for stage in 0..3 {
        let to = (16 * widen) << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("block{}.layer.{block}", stage + 1);
            operations.extend(pre_activated(&mut program, &name, (from, to), stride, resnet.dropout));
            from = to;
        }
        operations.push(Operation::Stage(format!("block{}", stage + 1)));
    }
    operations.push(program.batch_norm_layer("bn1", from));
    operations.extend([Operation::Relu, Operation::GlobalPool, Operation::Flatten, Operation::Embedding]);
    let (weight, bias) = (Initial::pytorch(from), Initial::Constant(0.0));
    operations.push(program.linear_from("fc", from, classes, weight, bias));
    program.operations = operations;
    program
}

fn pre_activated(
    program: &mut Program,
    name: &str,
    (from, to): (i64, i64),
    stride: i64,
    dropout: f64,
) -> Vec<Operation> {
    let activation = [program.batch_norm_layer(&format!("{name}.bn1"), from), Operation::Relu];
    let mut main = vec![
        program.convolution(convolution(&format!("{name}.conv1"), from, to, 3, stride)),
        program.batch_norm_layer(&format!("{name}.bn2"), to),
        Operation::Relu,
    ];
    main.extend((dropout > 0.0).then_some(Operation::Dropout(dropout)));
    main.push(program.convolution(convolution(&format!("{name}.conv2"), to, to, 3, 1)));
    // A block that changes the number of channels lends its first activation to the shortcut.
    if from == to {
        main.splice(0..0, activation);
        return vec![Operation::Residual { main, shortcut: Vec::new() }];
    }
    let shortcut = format!("{name}.convShortcut");
    let shortcut = vec![program.convolution(convolution(&shortcut, from, to, 1, stride))];
    activation.into_iter().chain([Operation::Residual { main, shortcut }]).collect()
}

fn convolution(name: &str, from: i64, to: i64, size: i64, stride: i64) -> Convolution<'_> {
    Convolution { stride, ..Convolution::torchvision(name, from, to, size) }
}
