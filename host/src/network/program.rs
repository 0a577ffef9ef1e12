//! An architecture as a program: operations that refer to parameters and buffers by position.

use crate::random::Streams;
use guard_sdk::{Device, Kind, Result, Tensor};

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// Uniform on [-bound, bound].
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// The same value everywhere.
    Constant(f64),
}

/// A named tensor that is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// torchvision's name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// How it starts.
    pub initial: Initial,
}

/// A named tensor that follows the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// torchvision's name.
    pub name: String,
    /// Its shape; empty for the int64 counter of batches.
    pub shape: Vec<i64>,
    /// Its first value.
    pub initial: f64,
}

/// One operation on the activations `[N,C,H,W]` (or `[N,F]` after `Flatten`).
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// 2-d convolution.
    Convolution {
        /// Position of the weight.
        weight: usize,
        /// Position of the bias.
        bias: Option<usize>,
        /// Stride in both directions.
        stride: i64,
        /// Zero padding in both directions.
        padding: i64,
    },
    /// BatchNorm with running statistics, momentum 0.1, ε 1e-5.
    BatchNorm {
        /// The layer's name.
        name: String,
        /// Position of the weight; the bias follows.
        weight: usize,
        /// Position of the running mean; running variance and counter follow.
        mean: usize,
    },
    /// GroupNorm, ε 1e-5.
    GroupNorm {
        /// Number of groups.
        groups: i64,
        /// Position of the weight; the bias follows.
        weight: usize,
    },
    /// LayerNorm over [C,H,W], ε 1e-5.
    LayerNorm {
        /// What is normalised together.
        shape: [i64; 3],
        /// Position of the weight; the bias follows.
        weight: usize,
    },
    /// max(0, x).
    Relu,
    /// Average over windows of 2×2.
    AveragePool,
    /// Maximum over windows of 3×3 with stride 2 and padding 1.
    MaximumPool,
    /// Average over all positions.
    GlobalPool,
    /// `[N,C,H,W]` to `[N,C·H·W]`.
    Flatten,
    /// What follows is the classifier: the activations are the embedding.
    Embedding,
    /// The activations are the output of the stage of this name.
    Stage(String),
    /// x ↦ main(x) + shortcut(x); an empty shortcut is the identity.
    Residual {
        /// The longer way.
        main: Vec<Operation>,
        /// The shorter way.
        shortcut: Vec<Operation>,
    },
    /// x ↦ x·Wᵀ + b.
    Linear {
        /// Position of the weight; the bias follows.
        weight: usize,
    },
}

/// An architecture for a given input and number of classes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// In the order of torchvision's `named_parameters`.
    pub parameters: Vec<Parameter>,
    /// In the order of torchvision's `named_buffers`.
    pub buffers: Vec<Buffer>,
    /// What a forward pass does.
    pub operations: Vec<Operation>,
}

impl Program {
    /// Names of the BatchNorm layers, in order of the forward pass.
    pub fn batch_norm(&self) -> Vec<String> {
        fn collect(operations: &[Operation], names: &mut Vec<String>) {
            for operation in operations {
                match operation {
                    Operation::BatchNorm { name, .. } => names.push(name.clone()),
                    Operation::Residual { main, shortcut } => {
                        collect(shortcut, names);
                        collect(main, names);
                    }
                    _ => {}
                }
            }
        }
        let mut names = Vec::new();
        collect(&self.operations, &mut names);
        names
    }

    /// Fresh float32 parameters; each depends on the streams and its own name alone.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn initial_parameters(&self, streams: &Streams, device: Device) -> Result<Vec<Tensor>> {
        self.parameters
            .iter()
            .map(|parameter| {
                let fresh = match parameter.initial {
                    Initial::Constant(value) => Tensor::full(&parameter.shape, value, (Kind::Float, device)),
                    Initial::Uniform(bound) => {
                        (streams.uniform(&parameter.name, &parameter.shape, Kind::Float)? * 2.0 - 1.0) * bound
                    }
                    Initial::Normal(std) => {
                        streams.normal(&parameter.name, &parameter.shape, Kind::Float)? * std
                    }
                };
                Ok(fresh.to_device(device).set_requires_grad(true))
            })
            .collect()
    }

    /// Buffers before any data was seen.
    pub fn initial_buffers(&self, device: Device) -> Vec<Tensor> {
        self.buffers
            .iter()
            .map(|buffer| match buffer.shape.is_empty() {
                true => Tensor::full([0i64; 0], buffer.initial as i64, (Kind::Int64, device)),
                false => Tensor::full(&buffer.shape, buffer.initial, (Kind::Float, device)),
            })
            .collect()
    }

    /// Adds a parameter and returns its position.
    fn parameter(&mut self, name: String, shape: &[i64], initial: Initial) -> usize {
        self.parameters.push(Parameter { name, shape: shape.to_vec(), initial });
        self.parameters.len() - 1
    }

    /// A convolution; `initial` of the weight, PyTorch's default for the bias.
    pub(super) fn convolution(&mut self, at: Convolution, initial: Option<Initial>) -> Operation {
        let Convolution { name, from, to, size, stride, padding, bias } = at;
        let default = Initial::Uniform(1.0 / ((from * size * size) as f64).sqrt());
        let weight =
            self.parameter(format!("{name}.weight"), &[to, from, size, size], initial.unwrap_or(default));
        let bias = bias.then(|| self.parameter(format!("{name}.bias"), &[to], default));
        Operation::Convolution { weight, bias, stride, padding }
    }

    pub(super) fn batch_norm_layer(&mut self, name: &str, channels: i64) -> Operation {
        let weight = self.affine(name, &[channels]);
        let mean = self.buffers.len();
        let mut buffer = |what: &str, shape: Vec<i64>, initial: f64| {
            self.buffers.push(Buffer { name: format!("{name}.{what}"), shape, initial });
        };
        buffer("running_mean", vec![channels], 0.0);
        buffer("running_var", vec![channels], 1.0);
        buffer("num_batches_tracked", vec![], 0.0);
        Operation::BatchNorm { name: name.to_string(), weight, mean }
    }

    /// Weight 1 and bias 0 of a norm layer; returns the weight's position.
    pub(super) fn affine(&mut self, name: &str, shape: &[i64]) -> usize {
        let weight = self.parameter(format!("{name}.weight"), shape, Initial::Constant(1.0));
        self.parameter(format!("{name}.bias"), shape, Initial::Constant(0.0));
        weight
    }

    /// The last layer, with PyTorch's default start.
    pub(super) fn linear(&mut self, name: &str, from: i64, to: i64) -> Operation {
        let initial = Initial::Uniform(1.0 / (from as f64).sqrt());
        let weight = self.parameter(format!("{name}.weight"), &[to, from], initial);
        self.parameter(format!("{name}.bias"), &[to], initial);
        Operation::Linear { weight }
    }
}

/// The shape of a convolution.
pub(super) struct Convolution<'a> {
    pub name: &'a str,
    pub from: i64,
    pub to: i64,
    pub size: i64,
    pub stride: i64,
    pub padding: i64,
    pub bias: bool,
}
