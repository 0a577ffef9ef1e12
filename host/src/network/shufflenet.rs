//! torchvision's ShuffleNetV2 (Ma et al., ECCV 2018) of width 1.0, with its names and its way to start.

use super::{layers::Convolution, operation::Operation, program::Program};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Torchvision's `shufflenet_v2_x1_0`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shufflenet {}

/// Channels and blocks of the stages that are called 2 to 4.
const STAGES: [(i64, i64); 3] = [(116, 4), (232, 8), (464, 4)];

pub(super) fn program(channels: i64, classes: i64) -> Program {
    let mut program = Program::default();
    let stem = Convolution { stride: 2, ..Convolution::new("conv1.0", channels, 24, 3) };
    let mut operations = normalised(&mut program, stem, "conv1.1", true);
    operations.push(Operation::MaximumPool);
    let mut from = 24;
    for (stage, &(to, blocks)) in STAGES.iter().enumerate() {
        let stage = format!("stage{}", stage + 2);
        for block in 0..blocks {
            operations.extend(unit(&mut program, &format!("{stage}.{block}"), from, to));
            from = to;
        }
        operations.push(Operation::Stage(stage));
    }
    operations.extend(normalised(&mut program, Convolution::new("conv5.0", from, 1024, 1), "conv5.1", true));
    operations.extend([Operation::GlobalPool, Operation::Flatten, Operation::Embedding]);
    operations.push(program.linear("fc", 1024, classes));
    program.operations = operations;
    program
}

/// A unit that keeps the number of channels works on half of them; another halves the image and works on all, twice.
fn unit(program: &mut Program, name: &str, from: i64, to: i64) -> [Operation; 2] {
    let (half, split) = (to / 2, from == to);
    let stride = if split { 1 } else { 2 };
    let mut first = Vec::new();
    if !split {
        let name = |part: i64| format!("{name}.branch1.{part}");
        let depthwise = name(0);
        let depthwise = Convolution { stride, groups: from, ..Convolution::new(&depthwise, from, from, 3) };
        first.extend(normalised(program, depthwise, &name(1), false));
        first.extend(normalised(program, Convolution::new(&name(2), from, half, 1), &name(3), true));
    }
    let name = |part: i64| format!("{name}.branch2.{part}");
    let from = if split { half } else { from };
    let mut second = normalised(program, Convolution::new(&name(0), from, half, 1), &name(1), true);
    let depthwise = name(3);
    let depthwise = Convolution { stride, groups: half, ..Convolution::new(&depthwise, half, half, 3) };
    second.extend(normalised(program, depthwise, &name(4), false));
    second.extend(normalised(program, Convolution::new(&name(5), half, half, 1), &name(6), true));
    [Operation::Concatenate { split, branches: [first, second] }, Operation::Shuffle { groups: 2 }]
}

fn normalised(program: &mut Program, convolution: Convolution, norm: &str, relu: bool) -> Vec<Operation> {
    let channels = convolution.to;
    let mut operations = vec![program.convolution(convolution), program.batch_norm_layer(norm, channels)];
    operations.extend(relu.then_some(Operation::Relu));
    operations
}
