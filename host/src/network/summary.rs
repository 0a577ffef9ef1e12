//! What a network consists of and costs, layer by layer, by arithmetic alone.

use super::{
    architecture::NetworkSpec,
    operation::{BatchNorm, Convolution, Operation},
    program::Program,
};
use guard_sdk::Result;
use serde::Serialize;

/// An operation that has parameters, multiplies, or changes the shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// What the names of its tensors begin with; empty if it has none.
    pub name: String,
    /// What it does.
    pub operation: String,
    /// The shape of its output for one image.
    pub output: Vec<i64>,
    /// How many numbers it trains.
    pub parameters: i64,
    /// Multiplications followed by an addition for one image: those of convolutions, linear layers and attention's two
    /// products of matrices.
    pub multiply_adds: i64,
}

/// A network's layers in the order of their tensors, a shortcut after what it shortens, and their sums.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// See [`Layer`].
    pub layers: Vec<Layer>,
    /// How many numbers are trained.
    pub parameters: i64,
    /// See [`Layer::multiply_adds`].
    pub multiply_adds: i64,
}

impl Summary {
    /// The summary of a network for images of the specification's size.
    ///
    /// # Errors
    /// See [`NetworkSpec::program`].
    pub fn of(spec: &NetworkSpec) -> Result<Self> {
        let program = spec.program()?;
        let mut walk = Walk { program: &program, layers: Vec::new() };
        if spec.whitening.is_some() {
            let values: i64 = spec.input.iter().product();
            walk.layers.push(Layer {
                name: String::new(),
                operation: "ZCA whitening".into(),
                output: spec.input.to_vec(),
                parameters: 0,
                multiply_adds: values * values,
            });
        }
        walk.all(&program.operations, spec.input.to_vec());
        let layers = walk.layers;
        let sum = |count: fn(&Layer) -> i64| layers.iter().map(count).sum();
        Ok(Self {
            parameters: sum(|layer| layer.parameters),
            multiply_adds: sum(|layer| layer.multiply_adds),
            layers,
        })
    }
}

/// The layers so far.
struct Walk<'a> {
    program: &'a Program,
    layers: Vec<Layer>,
}

/// What an operation does to a shape.
struct Step {
    /// The tensors that it has, by position.
    tensors: Vec<usize>,
    operation: String,
    output: Vec<i64>,
    multiply_adds: i64,
}

impl Walk<'_> {
    /// The shape of the last output, from that of the first input.
    fn all(&mut self, operations: &[Operation], mut shape: Vec<i64>) -> Vec<i64> {
        for operation in operations {
            shape = match operation {
                Operation::Residual { main, shortcut } => {
                    let output = self.all(main, shape.clone());
                    self.all(shortcut, shape);
                    output
                }
                Operation::Concatenate { split, branches: [first, second] } => {
                    let mut input = shape;
                    input[0] /= if *split { 2 } else { 1 };
                    let (mut joined, other) = (self.all(first, input.clone()), self.all(second, input));
                    joined[0] += other[0];
                    joined
                }
                single => self.one(single, shape),
            };
        }
        shape
    }

    fn one(&mut self, operation: &Operation, input: Vec<i64>) -> Vec<i64> {
        let Some(Step { tensors, operation, output, multiply_adds }) = self.step(operation, &input) else {
            return input;
        };
        let name = |&at: &usize| self.program.parameters[at].name.trim_end_matches(".weight").to_string();
        let named: Vec<String> = tensors.iter().map(name).filter(|name| !name.ends_with(".bias")).collect();
        let parameters = tensors.iter().map(|&at| self.size(at)).sum();
        let name = named.join(", ");
        self.layers.push(Layer { name, operation, output: output.clone(), parameters, multiply_adds });
        output
    }

    /// How many numbers a parameter holds.
    fn size(&self, at: usize) -> i64 {
        self.program.parameters[at].shape.iter().product()
    }

    /// Nothing for an operation that has no tensors, multiplies nothing and leaves the shape as it is.
    fn step(&self, operation: &Operation, input: &[i64]) -> Option<Step> {
        let plain = |operation: String, output: Vec<i64>| {
            Some(Step { tensors: Vec::new(), operation, output, multiply_adds: 0 })
        };
        let with = |tensors: Vec<usize>, operation: String, output: Vec<i64>, multiply_adds: i64| {
            Some(Step { tensors, operation, output, multiply_adds })
        };
        match operation {
            Operation::Convolution(Convolution { weight, bias, stride, padding, groups }) => {
                let kernel = &self.program.parameters[*weight].shape;
                let mut text = format!("conv {0}x{0}", kernel[2]);
                for (what, value) in [("stride", *stride), ("groups", *groups)] {
                    if value > 1 {
                        text += &format!(", {what} {value}");
                    }
                }
                let side = |length: i64| (length + 2 * padding - kernel[2]) / stride + 1;
                let (height, columns) = (side(input[1]), side(input[2]));
                let tensors = [Some(*weight), *bias].into_iter().flatten().collect();
                let multiply_adds = self.size(*weight) * height * columns;
                with(tensors, text, vec![kernel[0], height, columns], multiply_adds)
            }
            Operation::BatchNorm(BatchNorm { weight, .. }) => norm(*weight, "batch norm".into(), input),
            Operation::GroupNorm { groups, weight } if *groups == input[0] => {
                norm(*weight, "instance norm".into(), input)
            }
            Operation::GroupNorm { groups, weight } => {
                norm(*weight, format!("group norm, groups {groups}"), input)
            }
            Operation::LayerNorm { weight, .. } => norm(*weight, "layer norm".into(), input),
            Operation::AveragePool => {
                plain("average pool 2x2".into(), vec![input[0], input[1] / 2, input[2] / 2])
            }
            Operation::MaximumPool => {
                let side = |length: i64| (length - 1) / 2 + 1;
                plain("max pool 3x3, stride 2".into(), vec![input[0], side(input[1]), side(input[2])])
            }
            Operation::GlobalPool => plain("global average pool".into(), vec![input[0], 1, 1]),
            Operation::Subsample { padding } => {
                let side = |length: i64| (length + 1) / 2;
                let output = vec![input[0] + 2 * padding, side(input[1]), side(input[2])];
                plain("every second position".into(), output)
            }
            Operation::Flatten => plain("flatten".into(), vec![input.iter().product()]),
            Operation::Tokens { class, position } => {
                let output = vec![1 + input[1] * input[2], input[0]];
                with(vec![*class, *position], "class token and positions".into(), output, 0)
            }
            Operation::Attention { heads } => {
                let (tokens, channels) = (input[0], input[1] / 3);
                let text = format!("attention, heads {heads}");
                with(Vec::new(), text, vec![tokens, channels], 2 * tokens * tokens * channels)
            }
            Operation::ClassToken => plain("class token".into(), vec![input[1]]),
            Operation::Linear { weight } => {
                let mut output = input.to_vec();
                let rows: i64 = output[..output.len() - 1].iter().product();
                if let Some(last) = output.last_mut() {
                    *last = self.program.parameters[*weight].shape[0];
                }
                let multiply_adds = rows * self.size(*weight);
                with(vec![*weight, weight + 1], "linear".into(), output, multiply_adds)
            }
            Operation::Relu
            | Operation::Relu6
            | Operation::Gelu
            | Operation::Dropout(_)
            | Operation::Shuffle { .. }
            | Operation::Embedding
            | Operation::Stage(_)
            | Operation::Residual { .. }
            | Operation::Concatenate { .. } => None,
        }
    }
}

fn norm(weight: usize, operation: String, input: &[i64]) -> Option<Step> {
    Some(Step { tensors: vec![weight, weight + 1], operation, output: input.to_vec(), multiply_adds: 0 })
}
