//! The ConvNet of DC, DSA, DM and MTT, with the names of an `nn.Sequential` called `features`.

use super::{
    architecture::{NormLayer, too_small},
    layers::Convolution,
    operation::Operation,
    program::Program,
};
use guard_sdk::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

pub(super) fn program(input: [i64; 3], classes: i64, convnet: &Convnet) -> Result<Program> {
    let Convnet { depth, width, norm } = *convnet;
    let [mut channels, mut height, mut columns] = input;
    let mut program = Program::default();
    let mut layer = 0;
    for block in 0..depth {
        // The papers pad MNIST's 28 pixels to 32.
        let padding = if block == 0 && input == [1, 28, 28] { 3 } else { 1 };
        (height, columns) = (height + 2 * padding - 2, columns + 2 * padding - 2);
        if height < 2 || columns < 2 {
            return Err(too_small(input, &format!("{depth} poolings by 2")).help("lower `depth`"));
        }
        let name = format!("features.{layer}");
        let convolution = Convolution { padding, bias: true, ..Convolution::new(&name, channels, width, 3) };
        let operation = program.convolution(convolution);
        program.operations.push(operation);
        channels = width;

        let name = format!("features.{}", layer + 1);
        let normalised = program.norm(norm, &name, [width, height, columns])?;
        layer += 3 + i64::from(normalised.is_some());
        program.operations.extend(normalised);
        program.operations.extend([
            Operation::Relu,
            Operation::AveragePool,
            Operation::Stage(format!("block{}", block + 1)),
        ]);
        (height, columns) = (height / 2, columns / 2);
    }
    program.operations.extend([Operation::Flatten, Operation::Embedding]);
    let classifier = program.linear("classifier", channels * height * columns, classes);
    program.operations.push(classifier);
    Ok(program)
}
