//! The double-backpropagation penalty (Drucker and Le Cun, IEEE Transactions on Neural Networks 3(6), 1992). Put yours in
//! its place.
//!
//! | paper | here |
//! |---|---|
//! | x | `images` |
//! | E, the loss of an example | `losses` |
//! | ½ ‖∂E/∂x‖² | the penalty, averaged over examples |

use guard_sdk::{
    Batch, Kind, Method, Network, Regularizer, Result, Services, Space, Step, Tensor,
    autograd::{Graph, grad},
    batch::sum_each,
};

/// Options of `method-name`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MethodNameOptions {
    /// Where the gradient is taken: behind the network's normalisation, or in pixels.
    pub space: Space,
    /// The power of the gradient's length: 2 as in the paper.
    #[schemars(range(min = 1.0, max = 4.0))]
    pub power: f64,
}

impl Default for MethodNameOptions {
    fn default() -> Self {
        Self { space: Space::Normalised, power: 2.0 }
    }
}

/// mean_i ½ ‖∇ₓℓ(xᵢ)‖₂^p.
pub struct MethodName {
    options: MethodNameOptions,
}

impl Method for MethodName {
    type Options = MethodNameOptions;
    const NAME: &'static str = "method-name";

    fn new(options: MethodNameOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Regularizer for MethodName {
    /// Passes: 1 forward and 1 input backward with graph.
    fn penalty(&mut self, _: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let images = match batch.images.requires_grad() {
            true => batch.images.shallow_clone(),
            false => batch.images.detach().set_requires_grad(true),
        };
        let losses = batch.cross_entropy_each(&network.logits_in(batch.space, &images)?)?;
        let gradient = grad(&losses.sum(None::<Kind>), &[&images], Graph::Create)?.remove(0);
        let gradient = network.convert_gradient(&gradient, batch.space, self.options.space);
        let penalty = sum_each(&gradient.square()).pow_tensor_scalar(self.options.power / 2.0) * 0.5;
        Ok(penalty.mean(None::<Kind>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::testing::{Examples, FakeHost, assert_gradient};
    use serde_json::json;

    #[test]
    fn the_gradient_to_the_parameters_is_that_of_the_value() {
        let host = FakeHost::new(1);
        let mut method: MethodName = host.make(json!({ "space": "pixels" })).unwrap();
        let examples = Examples::new([3, 8, 8], Kind::Double, 3).unwrap();
        assert_gradient(
            |parameters| {
                let network = examples.model.at(parameters);
                method.penalty(&host.step(), &Network::lend(&network), &examples.batch())
            },
            examples.model.parameters(),
        );
    }

    #[test]
    fn a_network_that_is_flat_has_no_penalty() {
        let host = FakeHost::new(1);
        let mut method: MethodName = host.make(json!({})).unwrap();
        let mut examples = Examples::new([1, 8, 8], Kind::Float, 2).unwrap();
        examples.model = examples.model.flat();
        let penalty = method.penalty(&host.step(), &examples.network(), &examples.batch()).unwrap();
        assert_eq!(penalty.double_value(&[]), 0.0);
    }
}
