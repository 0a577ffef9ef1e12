//! The Vision Transformer (Dosovitskiy et al., ICLR 2021; DeiT's sizes): timm's `vit_*_patch16_224` with its names and its
//! start.

use super::{
    architecture::too_small,
    layers::Convolution,
    operation::Operation,
    program::{Initial, Program},
};
use guard_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// LayerNorm's ε.
const EPSILON: f64 = 1e-6;

/// timm cuts this law off at ±2, which is a hundred standard deviations.
const NORMAL: Initial = Initial::Normal(0.02);

/// The Vision Transformer of the width that its name says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Vit {
    /// Side of the square patches that the image is cut into.
    #[schemars(range(min = 1, max = 1024))]
    pub patch: i64,
    /// Blocks of attention and MLP.
    #[schemars(range(min = 1, max = 1000))]
    pub depth: i64,
}

impl Default for Vit {
    fn default() -> Vit {
        Vit { patch: 16, depth: 12 }
    }
}

/// `heads` of 64 channels each.
pub(super) fn program(input: [i64; 3], classes: i64, vit: &Vit, heads: i64) -> Result<Program> {
    let ([channels, height, columns], patch, width) = (input, vit.patch, 64 * heads);
    if height < patch || columns < patch {
        return Err(too_small(input, &format!("patches of {patch}x{patch}")).help("lower `patch`"));
    }
    if height % patch != 0 || columns % patch != 0 {
        let message = format!("patches of {patch}x{patch} do not divide images of {height}x{columns}");
        return Err(Error::new(message).help("choose another `patch`"));
    }
    let tokens = 1 + (height / patch) * (columns / patch);
    let mut program = Program::default();
    let class = program.parameter("cls_token".into(), &[1, 1, width], Initial::Normal(1e-6));
    let position = program.parameter("pos_embed".into(), &[1, tokens, width], NORMAL);
    let patches = Convolution {
        stride: patch,
        padding: 0,
        bias: true,
        ..Convolution::new("patch_embed.proj", channels, width, patch)
    };
    let mut operations = vec![program.convolution(patches), Operation::Tokens { class, position }];
    for block in 0..vit.depth {
        let name = |part: &str| format!("blocks.{block}.{part}");
        let attention = vec![
            program.layer_norm(&name("norm1"), &[width], EPSILON),
            linear(&mut program, &name("attn.qkv"), width, 3 * width),
            Operation::Attention { heads },
            linear(&mut program, &name("attn.proj"), width, width),
        ];
        let mlp = vec![
            program.layer_norm(&name("norm2"), &[width], EPSILON),
            linear(&mut program, &name("mlp.fc1"), width, 4 * width),
            Operation::Gelu,
            linear(&mut program, &name("mlp.fc2"), 4 * width, width),
        ];
        for main in [attention, mlp] {
            operations.push(Operation::Residual { main, shortcut: Vec::new() });
        }
        operations.push(Operation::Stage(format!("blocks.{block}")));
    }
    operations.push(program.layer_norm("norm", &[width], EPSILON));
    operations.extend([Operation::ClassToken, Operation::Embedding]);
    operations.push(linear(&mut program, "head", width, classes));
    program.operations = operations;
    Ok(program)
}

fn linear(program: &mut Program, name: &str, from: i64, to: i64) -> Operation {
    program.linear_from(name, from, to, NORMAL, Initial::Constant(0.0))
}
