//! A network prepared for what attacks and evaluations do: eval mode, input gradients.
//!
//! In eval mode BatchNorm is affine, and goes into the convolution before it: once here, and not in every pass.

use super::{
    convolution::fold,
    model::Model,
    operation::{BatchNorm, Convolution, Operation},
    program::{Initial, Parameter, Program},
};
use guard_sdk::{Kind, Result, Tensor, autograd::no_grad};

impl Model {
    /// The same network frozen, whose eval passes run on copies of its weights: the same logits, embedding and features,
    /// but for rounding. What becomes of its tensors later does not change what it computes.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn for_inference(&self) -> Result<Model> {
        let frozen = self.frozen();
        if self.program().batch_norm().is_empty() {
            return Ok(frozen);
        }
        let mut folding =
            Folding { source: &frozen, program: self.program().clone(), parameters: Vec::new() };
        folding.parameters = frozen.parameters().iter().map(Tensor::shallow_clone).collect();
        folding.program.operations = no_grad(|| folding.all(&self.program().operations))?;
        let Folding { program, parameters, .. } = folding;
        Ok(frozen.evaluated_by(program, parameters))
    }
}

/// A program on its way to one without the BatchNorm layers that follow a convolution.
struct Folding<'a> {
    source: &'a Model,
    program: Program,
    parameters: Vec<Tensor>,
}

impl Folding<'_> {
    fn all(&mut self, operations: &[Operation]) -> Result<Vec<Operation>> {
        let mut folded = Vec::new();
        let mut rest = operations;
        while let [operation, after @ ..] = rest {
            rest = after;
            folded.push(match (operation, after) {
                (Operation::Convolution(convolution), [Operation::BatchNorm(norm), after @ ..]) => {
                    rest = after;
                    Operation::Convolution(self.fold(convolution, norm)?)
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

    /// One convolution for both, whose weight and bias are computed in float64.
    fn fold(&mut self, convolution: &Convolution, norm: &BatchNorm) -> Result<Convolution> {
        let (parameters, buffers) = (self.source.parameters(), self.source.buffers());
        let exact = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let bias = convolution.bias.map(|bias| exact(&parameters[bias]));
        let [gamma, beta] = [norm.weight, norm.weight + 1].map(|at| exact(&parameters[at]));
        let [mean, variance] = [norm.mean, norm.mean + 1].map(|at| exact(&buffers[at]));
        let weight = exact(&parameters[convolution.weight]);
        let (weight, bias) = fold(&weight, bias.as_ref(), [&gamma, &beta, &mean, &variance])?;
        Ok(Convolution {
            weight: self.add(&norm.name, "weight", &weight),
            bias: Some(self.add(&norm.name, "bias", &bias)),
            ..convolution.clone()
        })
    }

    /// The position of a new parameter.
    fn add(&mut self, layer: &str, what: &str, value: &Tensor) -> usize {
        let name = format!("{layer}.folded_{what}");
        let parameter = Parameter { name, shape: value.size(), initial: Initial::Constant(0.0) };
        self.program.parameters.push(parameter);
        self.parameters.push(value.to_kind(self.parameters[0].kind()));
        self.parameters.len() - 1
    }
}
