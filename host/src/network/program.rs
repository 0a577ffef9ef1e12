//! An architecture as a program: named tensors, and the operations on them.

use super::operation::{BatchNorm, Operation};
use crate::random::Streams;
use guard_sdk::{Device, Kind, Result, Tensor, sent};

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

impl Initial {
    /// PyTorch's own law for weight and bias of a layer whose outputs see `fan_in` inputs each (He et al., 2015, with
    /// a = √5).
    pub fn pytorch(fan_in: i64) -> Self {
        Self::Uniform(1.0 / (fan_in as f64).sqrt())
    }

    /// He et al. (2015) for ReLU: normal with variance 2/fan.
    pub fn kaiming_normal(fan: i64) -> Self {
        Self::Normal((2.0 / fan as f64).sqrt())
    }
}

/// A named tensor that is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The name in the definition that the architecture follows, such as torchvision's.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// How it starts.
    pub initial: Initial,
}

impl Parameter {
    /// How many numbers it holds; more than an `i64` counts for a slip of the pen.
    pub fn size(&self) -> i128 {
        self.shape.iter().map(|&length| i128::from(length)).product()
    }
}

/// A named tensor that follows the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// The name in the definition that the architecture follows.
    pub name: String,
    /// Its shape; empty for the int64 counter of batches.
    pub shape: Vec<i64>,
    /// Its first value.
    pub initial: f64,
}

/// An architecture for a given input and number of classes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    /// In the order of PyTorch's `named_parameters`.
    pub parameters: Vec<Parameter>,
    /// In the order of PyTorch's `named_buffers`.
    pub buffers: Vec<Buffer>,
    /// What a forward pass does.
    pub operations: Vec<Operation>,
}

impl Program {
    /// Names of the BatchNorm layers, in order of the forward pass.
    pub fn batch_norm(&self) -> Vec<String> {
        fn collect(operations: &[Operation], names: &mut Vec<String>) {
            for operation in operations {
                if let Operation::BatchNorm(BatchNorm { name, .. }) = operation {
                    names.push(name.clone());
                }
                operation.branches().iter().for_each(|branch| collect(branch, names));
            }
        }
        let mut names = Vec::new();
        collect(&self.operations, &mut names);
        names
    }

    /// Whether a pass in train mode gives what one in eval mode gives: there is neither BatchNorm nor dropout.
    pub fn same_in_both_modes(&self) -> bool {
        fn same(operations: &[Operation]) -> bool {
            operations.iter().all(|operation| match operation {
                Operation::BatchNorm { .. } => false,
                Operation::Dropout(share) => *share == 0.0,
                other => other.branches().iter().all(|branch| same(branch)),
            })
        }
        same(&self.operations)
    }

    /// How many numbers are trained.
    pub fn size(&self) -> i128 {
        self.parameters.iter().map(Parameter::size).sum()
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
                Ok(sent(&fresh, device)?.set_requires_grad(true))
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
}
