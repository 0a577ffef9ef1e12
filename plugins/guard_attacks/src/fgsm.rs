//! FGSM (Goodfellow et al., ICLR 2015, arXiv 1412.6572): one step of size ε.

use crate::gradient;
use guard_sdk::{Attack, Batch, Budget, Method, Network, Result, Services, Step, Tensor};

/// `fgsm` has no options.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FgsmOptions {}

/// x + ε · sign ∇ₓℓ (linf) or x + ε · ∇ₓℓ / ‖∇ₓℓ‖₂ (l2), clamped to [0,1].
pub struct Fgsm;

impl Method for Fgsm {
    type Options = FgsmOptions;
    const NAME: &'static str = "fgsm";

    fn new(_: FgsmOptions, _: &Services) -> Result<Self> {
        Ok(Self)
    }
}

impl Attack for Fgsm {
    fn perturb(&mut self, _: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let (gradient, _) = gradient::of_cross_entropy(network, batch, batch.images)?;
        let stepped = batch.images + gradient::steepest(&gradient, budget) * budget.epsilon;
        Ok(budget.project(&stepped, batch.images))
    }
}
