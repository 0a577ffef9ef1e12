//! FGSM (Goodfellow et al., ICLR 2015, arXiv 1412.6572): one step of size ε.

use crate::{
    goal::{Goal, Loss, Target},
    gradient::see,
};
use guard_sdk::{Attack, Batch, Budget, Method, Network, Result, Services, Step, Tensor};

/// Options of `fgsm`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FgsmOptions {
    /// What the step raises.
    pub loss: Loss,
    /// The class that the step aims at.
    pub target: Target,
}

/// x + ε · sign ∇ₓℓ (linf) or x + ε · ∇ₓℓ / ‖∇ₓℓ‖₂ (l2), clamped to [0,1].
pub struct Fgsm {
    options: FgsmOptions,
}

impl Method for Fgsm {
    type Options = FgsmOptions;
    const NAME: &'static str = "fgsm";

    fn new(options: FgsmOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Attack for Fgsm {
    /// Passes: one forward and one input backward; one more forward for a target that depends on the network.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let goal = Goal::aimed(self.options.loss, self.options.target, step, network, batch)?;
        let seen = see(network, batch, &goal, batch.images)?;
        let stepped = batch.images + budget.norm.steepest(&seen.gradient) * budget.epsilon;
        Ok(budget.project(&stepped, batch.images))
    }
}
