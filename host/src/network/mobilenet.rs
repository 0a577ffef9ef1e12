//! torchvision's MobileNetV2 (Sandler et al., CVPR 2018), with its names and its way to start.

use super::{
    layers::Convolution,
    operation::Operation,
    program::{Initial, Program},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Torchvision's MobileNetV2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mobilenet {
    /// The share of the embedding that is zeroed in training.
    #[schemars(range(min = 0, max = 0.99))]
    pub dropout: f64,
}

impl Default for Mobilenet {
    fn default() -> Mobilenet {
        Mobilenet { dropout: 0.2 }
    }
}

/// Expansion, channels, blocks and stride of each stage: table 2 of the paper.
const STAGES: [(i64, i64, i64, i64); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

pub(super) fn program(channels: i64, classes: i64, mobilenet: &Mobilenet) -> Program {
    let mut program = Program::default();
    let stem = Convolution { stride: 2, ..Convolution::torchvision("features.0.0", channels, 32, 3) };
    let mut operations = activated(&mut program, stem, "features.0.1");
    let (mut from, mut number) = (32, 1);
    for (stage, &(expansion, to, blocks, stride)) in STAGES.iter().enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let name = format!("features.{number}.conv");
            let main = inverted_residual(&mut program, &name, (from, to), expansion, stride);
            match stride == 1 && from == to {
                true => operations.push(Operation::Residual { main, shortcut: Vec::new() }),
                false => operations.extend(main),
            }
            (from, number) = (to, number + 1);
        }
        operations.push(Operation::Stage(format!("stage{}", stage + 1)));
    }
    let last = Convolution::torchvision("features.18.0", from, 1280, 1);
    operations.extend(activated(&mut program, last, "features.18.1"));
    operations.extend([Operation::GlobalPool, Operation::Flatten, Operation::Embedding]);
    operations.push(Operation::Dropout(mobilenet.dropout));
    let (weight, bias) = (Initial::Normal(0.01), Initial::Constant(0.0));
    operations.push(program.linear_from("classifier.1", 1280, classes, weight, bias));
    program.operations = operations;
    program
}

/// More channels, a convolution within each of them, fewer channels.
fn inverted_residual(
    program: &mut Program,
    name: &str,
    (from, to): (i64, i64),
    expansion: i64,
    stride: i64,
) -> Vec<Operation> {
    let inner = from * expansion;
    let mut operations = Vec::new();
    let mut part = 0;
    if expansion != 1 {
        let expand = format!("{name}.0.0");
        let expand = Convolution::torchvision(&expand, from, inner, 1);
        operations.extend(activated(program, expand, &format!("{name}.0.1")));
        part = 1;
    }
    let depthwise = format!("{name}.{part}.0");
    let depthwise =
        Convolution { stride, groups: inner, ..Convolution::torchvision(&depthwise, inner, inner, 3) };
    operations.extend(activated(program, depthwise, &format!("{name}.{part}.1")));
    let project = format!("{name}.{}", part + 1);
    operations.push(program.convolution(Convolution::torchvision(&project, inner, to, 1)));
    operations.push(program.batch_norm_layer(&format!("{name}.{}", part + 2), to));
    operations
}

fn activated(program: &mut Program, convolution: Convolution, norm: &str) -> Vec<Operation> {
    let channels = convolution.to;
    vec![program.convolution(convolution), program.batch_norm_layer(norm, channels), Operation::Relu6]
}
