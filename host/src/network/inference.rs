//! A network prepared for what attacks and evaluations do: eval mode, input gradients.
//!
//! In eval mode BatchNorm is affine, and goes into the convolution before it: one pass over the activations less in each
//! direction. Convolutions read and write channels last where no layer wants planes, which spares libtorch's CPU library
//! the reordering around each of them.

use super::{
    model::{Model, channels_last},
    operation::Operation,
    program::{Initial, Parameter},
};
use crate::network::forward::EPSILON;
use guard_sdk::{Error, Kind, Result, Tensor, autograd::no_grad};

impl Model {
    /// The same logits and embedding in eval mode, but for rounding, from copies of the weights that need no gradients.
    /// It has no BatchNorm statistics to return where they were folded, and cannot be trained.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn for_inference(&self) -> Result<Model> {
        no_grad(|| {
            let mut folding = Folding {
                source: self,
                parameters: self.parameters().iter().map(Tensor::detach).collect(),
                added: Vec::new(),
            };
            let mut program = self.program().clone();
            program.operations = folding.all(&self.program().operations)?;
            let Folding { mut parameters, added, .. } = folding;
            program.parameters.extend(added);
            let planar = wants_planes(&program.operations) || self.device() != guard_sdk::Device::Cpu;
            if !planar {
                let stored = |tensor: &Tensor| match tensor.dim() {
                    4 => channels_last(tensor),
                    _ => tensor.shallow_clone(),
                };
                parameters = parameters.iter().map(stored).collect();
            }
            Ok(self.prepared(program, parameters, !planar))
        })
    }
}

/// Whether a layer is slow, or not defined, on channels-last activations.
fn wants_planes(operations: &[Operation]) -> bool {
    operations.iter().any(|operation| match operation {
        Operation::GroupNorm { .. } | Operation::LayerNorm { .. } | Operation::Tokens { .. } => true,
        other => other.branches().iter().any(|branch| wants_planes(branch)),
    })
}

/// A program on its way to one without the BatchNorm layers that follow a convolution.
struct Folding<'a> {
    source: &'a Model,
    parameters: Vec<Tensor>,
    added: Vec<Parameter>,
}

impl Folding<'_> {
    fn all(&mut self, operations: &[Operation]) -> Result<Vec<Operation>> {
        let mut folded = Vec::new();
        let mut rest = operations;
        while let [operation, after @ ..] = rest {
            rest = after;
            folded.push(match (operation, after) {
                (
                    Operation::Convolution { weight, bias, stride, padding, groups },
                    [Operation::BatchNorm { name, weight: scale, mean }, after @ ..],
                ) => {
                    rest = after;
                    let (weight, bias) = self.fold(name, (*weight, *bias), *scale, *mean)?;
                    let (stride, padding, groups) = (*stride, *padding, *groups);
                    Operation::Convolution { weight, bias: Some(bias), stride, padding, groups }
                }
                (Operation::Residual { main, shortcut }, _) => {
                    Operation::Residual { main: self.all(main)?, shortcut: self.all(shortcut)? }
                }
                (Operation::Concatenate { split, branches: [first, second] }, _) => {
                    Operation::Concatenate { split: *split, branches: [self.all(first)?, self.all(second)?] }
                }
                (other, _) => other.clone(),
            });
        }
        Ok(folded)
    }

    /// Positions of the weight w·s and the bias (b − mean)·s + β, where s = γ/√(variance + ε): computed in float64.
    fn fold(
        &mut self,
        layer: &str,
        convolution: (usize, Option<usize>),
        scale: usize,
        mean: usize,
    ) -> Result<(usize, usize)> {
        let (parameters, buffers) = (self.source.parameters(), self.source.buffers());
        let exact = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double);
        let weight = exact(&parameters[convolution.0]);
        let variance = exact(&buffers[mean + 1]);
        let factor = exact(&parameters[scale]) / (variance + EPSILON).sqrt();
        let centre = exact(&buffers[mean]);
        let centred = match convolution.1 {
            Some(bias) => exact(&parameters[bias]) - centre,
            None => -centre,
        };
        let bias = centred * &factor + exact(&parameters[scale + 1]);
        let weight = weight * factor.f_reshape([-1, 1, 1, 1]).map_err(Error::from)?;
        Ok((self.add(layer, "weight", &weight), self.add(layer, "bias", &bias)))
    }

    fn add(&mut self, layer: &str, what: &str, value: &Tensor) -> usize {
        let name = format!("{layer}.folded_{what}");
        self.added.push(Parameter { name, shape: value.size(), initial: Initial::Constant(0.0) });
        self.parameters.push(value.to_kind(self.parameters[0].kind()));
        self.parameters.len() - 1
    }
}
