//! The ConvNet of DC, DSA, DM and MTT, with the names of an `nn.Sequential` called `features`.

use super::{
    architecture::{Convnet, NormLayer},
    program::{Convolution, Operation, Program},
};
use guard_sdk::{Error, Result};

pub(super) fn program(input: [i64; 3], classes: i64, convnet: &Convnet) -> Result<Program> {
    let Convnet { depth, width, norm } = *convnet;
    let [mut channels, mut height, mut columns] = input;
    let mut program = Program::default();
    let mut layer = 0;
    for block in 0..depth {
        // The papers pad MNIST's 28 pixels to 32.
        let padding = if block == 0 && input == [1, 28, 28] { 3 } else { 1 };
        (height, columns) = (height + 2 * padding - 2, columns + 2 * padding - 2);
        let name = format!("features.{layer}");
        let convolution =
            Convolution { name: &name, from: channels, to: width, size: 3, stride: 1, padding, bias: true };
        let operation = program.convolution(convolution, None);
        program.operations.push(operation);
        channels = width;

        let name = format!("features.{}", layer + 1);
        let normalised = match norm {
            NormLayer::Instance => {
                Some(Operation::GroupNorm { groups: width, weight: program.affine(&name, &[width]) })
            }
            NormLayer::Group if width % 4 == 0 => {
                Some(Operation::GroupNorm { groups: 4, weight: program.affine(&name, &[width]) })
            }
            NormLayer::Group => {
                return Err(Error::new(format!(
                    "group norm has 4 groups, which do not divide a width of {width}"
                )));
            }
            NormLayer::Batch => Some(program.batch_norm_layer(&name, width)),
            NormLayer::Layer => {
                let shape = [width, height, columns];
                Some(Operation::LayerNorm { shape, weight: program.affine(&name, &shape) })
            }
            NormLayer::None => None,
        };
        layer += 3 + i64::from(normalised.is_some());
        program.operations.extend(normalised);
        program.operations.extend([
            Operation::Relu,
            Operation::AveragePool,
            Operation::Stage(format!("block{}", block + 1)),
        ]);
        (height, columns) = (height / 2, columns / 2);
        if height == 0 || columns == 0 {
            let size = format!("images of {}x{}", input[1], input[2]);
            return Err(
                Error::new(format!("{size} are too small for {depth} poolings by 2")).help("lower `depth`")
            );
        }
    }
    program.operations.extend([Operation::Flatten, Operation::Embedding]);
    let classifier = program.linear("classifier", channels * height * columns, classes);
    program.operations.push(classifier);
    Ok(program)
}
