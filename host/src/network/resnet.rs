//! torchvision's ResNet of basic blocks (He et al., CVPR 2016), with its names and its way to start.

use super::{
    architecture::{Resnet, Stem},
    program::{Convolution, Initial, Operation, Program},
};

pub(super) fn program(channels: i64, classes: i64, resnet: &Resnet) -> Program {
    let Resnet { stem, width, ref blocks } = *resnet;
    let mut program = Program::default();
    let mut operations = Vec::new();
    let (size, stride, padding) = match stem {
        Stem::Cifar => (3, 1, 1),
        Stem::Imagenet => (7, 2, 3),
    };
    operations.push(convolution(&mut program, "conv1", (channels, width), size, stride, padding));
    operations.push(program.batch_norm_layer("bn1", width));
    operations.push(Operation::Relu);
    if stem == Stem::Imagenet {
        operations.push(Operation::MaximumPool);
    }
    let mut from = width;
    for (stage, &count) in blocks.iter().enumerate() {
        let to = width << stage;
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            operations.extend(basic_block(&mut program, &name, from, to, stride));
            from = to;
        }
        operations.push(Operation::Stage(format!("layer{}", stage + 1)));
    }
    operations.extend([Operation::GlobalPool, Operation::Flatten, Operation::Embedding]);
    operations.push(program.linear("fc", from, classes));
    program.operations = operations;
    program
}

fn basic_block(program: &mut Program, name: &str, from: i64, to: i64, stride: i64) -> [Operation; 2] {
    let main = vec![
        convolution(program, &format!("{name}.conv1"), (from, to), 3, stride, 1),
        program.batch_norm_layer(&format!("{name}.bn1"), to),
        Operation::Relu,
        convolution(program, &format!("{name}.conv2"), (to, to), 3, 1, 1),
        program.batch_norm_layer(&format!("{name}.bn2"), to),
    ];
    let shortcut = match stride != 1 || from != to {
        true => vec![
            convolution(program, &format!("{name}.downsample.0"), (from, to), 1, stride, 0),
            program.batch_norm_layer(&format!("{name}.downsample.1"), to),
        ],
        false => Vec::new(),
    };
    [Operation::Residual { main, shortcut }, Operation::Relu]
}

/// A convolution without bias, started as torchvision does (He et al., fan out).
fn convolution(
    program: &mut Program,
    name: &str,
    (from, to): (i64, i64),
    size: i64,
    stride: i64,
    padding: i64,
) -> Operation {
    let initial = Initial::Normal((2.0 / (to * size * size) as f64).sqrt());
    program.convolution(Convolution { name, from, to, size, stride, padding, bias: false }, Some(initial))
}
