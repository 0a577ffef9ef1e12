//! The ResNet-18 of DC and DSA whose strided convolutions are convolutions and average pooling, `ResNet18_AP`; with norm
//! `batch` it is `ResNet18BN_AP`. Names and start are those of the released code. There is no global pooling: the linear
//! layer sees every position.

use super::{
    architecture::{NormLayer, too_small},
    layers::Convolution,
    operation::Operation,
    program::Program,
};
use guard_sdk::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ResNet-18 of DC and DSA: average pooling instead of strides, and no global pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResnetAp {
    /// Channels of the first stage; each further stage doubles them.
    #[schemars(range(min = 1, max = 65536))]
    pub width: i64,
    /// The normalisation.
    pub norm: NormLayer,
}

impl Default for ResnetAp {
    fn default() -> ResnetAp {
        ResnetAp { width: 64, norm: NormLayer::Instance }
    }
}

pub(super) fn program(input: [i64; 3], classes: i64, resnet: &ResnetAp) -> Result<Program> {
    let [channels, mut height, mut columns] = input;
    if height < 8 || columns < 8 {
        return Err(too_small(input, "3 poolings by 2"));
    }
    let mut program = Program::default();
    let mut operations = vec![program.convolution(Convolution::new("conv1", channels, resnet.width, 3))];
    operations.extend(program.norm(resnet.norm, "bn1", [resnet.width, height, columns])?);
    operations.push(Operation::Relu);
    let mut from = resnet.width;
    for stage in 0..4 {
        let to = resnet.width << stage;
        for block in 0..2 {
            let halves = stage > 0 && block == 0;
            let name = format!("layer{}.{block}", stage + 1);
            let shape = [to, height, columns];
            if halves {
                (height, columns) = (height / 2, columns / 2);
            }
            let halved = [to, height, columns];
            operations.extend(basic_block(&mut program, &name, resnet.norm, from, shape, halved)?);
            from = to;
        }
        operations.push(Operation::Stage(format!("layer{}", stage + 1)));
    }
    operations.extend([Operation::Flatten, Operation::Embedding]);
    operations.push(program.linear("classifier", from * height * columns, classes));
    program.operations = operations;
    Ok(program)
}

/// From `from` channels to `shape`, and by pooling to `halved`, which is the same where nothing is pooled.
fn basic_block(
    program: &mut Program,
    name: &str,
    norm: NormLayer,
    from: i64,
    shape: [i64; 3],
    halved: [i64; 3],
) -> Result<[Operation; 2]> {
    let (to, pools) = (shape[0], shape != halved);
    let mut main = vec![program.convolution(Convolution::new(&format!("{name}.conv1"), from, to, 3))];
    main.extend(program.norm(norm, &format!("{name}.bn1"), shape)?);
    main.push(Operation::Relu);
    main.extend(pools.then_some(Operation::AveragePool));
    main.push(program.convolution(Convolution::new(&format!("{name}.conv2"), to, to, 3)));
    main.extend(program.norm(norm, &format!("{name}.bn2"), halved)?);
    let mut shortcut = Vec::new();
    if pools {
        // Number 1 of the released `nn.Sequential` is the pooling.
        shortcut.push(program.convolution(Convolution::new(&format!("{name}.shortcut.0"), from, to, 1)));
        shortcut.push(Operation::AveragePool);
        shortcut.extend(program.norm(norm, &format!("{name}.shortcut.2"), halved)?);
    }
    Ok([Operation::Residual { main, shortcut }, Operation::Relu])
}
