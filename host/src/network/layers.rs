//! The layers that architectures are written with: each adds its tensors to the program and gives the operation.
//! Tensors are named in the order of the calls.

use super::{
    architecture::NormLayer,
    operation::{self, BatchNorm, Operation},
    program::{Buffer, Initial, Parameter, Program},
};
use guard_sdk::{Error, Result};

/// A square convolution.
pub(super) struct Convolution<'a> {
    pub name: &'a str,
    pub from: i64,
    pub to: i64,
    pub size: i64,
    pub stride: i64,
    pub padding: i64,
    pub groups: i64,
    pub bias: bool,
    /// How the weight starts, if not by PyTorch's own law; a bias always starts by that.
    pub initial: Option<Initial>,
}

impl<'a> Convolution<'a> {
    /// Of stride 1, padded so that odd sizes keep the image's, without bias.
    pub(super) fn new(name: &'a str, from: i64, to: i64, size: i64) -> Self {
        Self { name, from, to, size, stride: 1, padding: size / 2, groups: 1, bias: false, initial: None }
    }

    /// The same, started as torchvision starts its ResNets and MobileNets (fan out).
    pub(super) fn torchvision(name: &'a str, from: i64, to: i64, size: i64) -> Self {
        let initial = Some(Initial::kaiming_normal(to * size * size));
        Self { initial, ..Self::new(name, from, to, size) }
    }
}

impl Program {
    /// Adds a parameter and returns its position.
    pub(super) fn parameter(&mut self, name: String, shape: &[i64], initial: Initial) -> usize {
        self.parameters.push(Parameter { name, shape: shape.to_vec(), initial });
        self.parameters.len() - 1
    }

    pub(super) fn convolution(&mut self, at: Convolution) -> Operation {
        let Convolution { name, from, to, size, stride, padding, groups, bias, initial } = at;
        let default = Initial::pytorch(from / groups * size * size);
        let shape = [to, from / groups, size, size];
        let weight = self.parameter(format!("{name}.weight"), &shape, initial.unwrap_or(default));
        let bias = bias.then(|| self.parameter(format!("{name}.bias"), &[to], default));
        Operation::Convolution(operation::Convolution { weight, bias, stride, padding, groups })
    }

    /// Normalisation of activations of `shape` `[C,H,W]`; none for [`NormLayer::None`].
    ///
    /// # Errors
    /// If the groups of [`NormLayer::Group`] do not divide the channels, or [`NormLayer::Instance`] has one position only.
    pub(super) fn norm(&mut self, norm: NormLayer, name: &str, shape: [i64; 3]) -> Result<Option<Operation>> {
        let channels = shape[0];
        let grouped = |program: &mut Self, groups| {
            Some(Operation::GroupNorm { groups, weight: program.affine(name, &[channels]) })
        };
        Ok(match norm {
            NormLayer::Instance if shape[1..] == [1, 1] => {
                let message =
                    format!("instance norm `{name}` would see a single position, and give 0 for it");
                return Err(Error::new(message).help("choose larger images, or another `norm`"));
            }
            NormLayer::Instance => grouped(self, channels),
            NormLayer::Group if channels % 4 == 0 => grouped(self, 4),
            NormLayer::Group => {
                let message = format!("group norm has 4 groups, which do not divide a width of {channels}");
                return Err(Error::new(message).help("choose a `width` that is a multiple of 4"));
            }
            NormLayer::Batch => Some(self.batch_norm_layer(name, channels)),
            NormLayer::Layer => Some(self.layer_norm(name, &shape, 1e-5)),
            NormLayer::None => None,
        })
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
        Operation::BatchNorm(BatchNorm { name: name.to_string(), weight, mean })
    }

    pub(super) fn layer_norm(&mut self, name: &str, shape: &[i64], epsilon: f64) -> Operation {
        Operation::LayerNorm { shape: shape.to_vec(), weight: self.affine(name, shape), epsilon }
    }

    /// Weight 1 and bias 0 of a norm layer; returns the weight's position.
    fn affine(&mut self, name: &str, shape: &[i64]) -> usize {
        let weight = self.parameter(format!("{name}.weight"), shape, Initial::Constant(1.0));
        self.parameter(format!("{name}.bias"), shape, Initial::Constant(0.0));
        weight
    }

    /// A linear layer that starts by PyTorch's own law.
    pub(super) fn linear(&mut self, name: &str, from: i64, to: i64) -> Operation {
        let default = Initial::pytorch(from);
        self.linear_from(name, from, to, default, default)
    }

    /// A linear layer whose weight and bias start otherwise.
    pub(super) fn linear_from(
        &mut self,
        name: &str,
        from: i64,
        to: i64,
        weight: Initial,
        bias: Initial,
    ) -> Operation {
        let weight = self.parameter(format!("{name}.weight"), &[to, from], weight);
        self.parameter(format!("{name}.bias"), &[to], bias);
        Operation::Linear { weight }
    }
}
