//! MIM, also called MI-FGSM (Dong et al., CVPR 2018, arXiv 1710.06081): iterated steps along an accumulated gradient.

use crate::{
    goal::{Goal, Loss, Target},
    gradient::see,
};
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Method, Network, Result, Services, Step, Tensor, batch::per_image,
};

/// Options of `mim`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MimOptions {
    /// Number of gradient steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// α, the length of a step, as a share of ε; the paper's is 1 / steps.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub relative_step_size: f64,
    /// μ, what remains of the accumulated gradient at each step.
    #[schemars(range(min = 0.0))]
    pub decay: f64,
    /// What the steps raise.
    pub loss: Loss,
    /// The class that the steps aim at.
    pub target: Target,
    /// Computes what released code computes.
    pub compat: Option<MimCompat>,
}

/// Whose numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MimCompat {
    /// GUARD's script: gradients of cross-entropy divided by the L1 norm of the whole batch, so that an example's result
    /// depends on its batch mates; 20 steps with α = ε there.
    Guard,
}

impl Default for MimOptions {
    fn default() -> Self {
        let (loss, target) = (Loss::Ce, Target::None);
        Self { steps: 10, relative_step_size: 0.25, decay: 1.0, loss, target, compat: None }
    }
}

/// m ← μ m + g / mean|g|, then x + α · sign m (linf) or x + α · m / ‖m‖₂ (l2), projected. Returns the last image.
pub struct Mim {
    options: MimOptions,
}

impl Method for Mim {
    type Options = MimOptions;
    const NAME: &'static str = "mim";

    fn new(options: MimOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Attack for Mim {
    fn info(&self) -> AttackInfo {
        let caveat = "repeats GUARD's script, where an example's result depends on its batch mates";
        AttackInfo { caveat: self.options.compat.map(|_| caveat.into()), ..AttackInfo::default() }
    }

    /// Passes: `steps` forwards and input backwards.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let MimOptions { steps, relative_step_size, decay, loss, target, compat } = self.options;
        let goal = Goal::aimed(loss, target, step, network, batch)?.exactly(compat.is_some());
        let mut adversarial = batch.images.detach();
        let mut momentum = adversarial.zeros_like();
        for _ in 0..steps {
            step.services.check_cancelled()?;
            let gradient = see(network, batch, &goal, &adversarial)?.gradient;
            let scale = match compat {
                None => gradient.abs().flatten(1, -1).mean_dim([-1].as_slice(), false, None),
                Some(MimCompat::Guard) => gradient.abs().sum(None).reshape([1]),
            };
            // A gradient of 0 adds nothing, rather than 0 / 0.
            let scale = scale.where_self(&scale.gt(0.0), &scale.ones_like());
            momentum = momentum * decay + gradient / per_image(&scale);
            let stepped =
                &adversarial + budget.norm.steepest(&momentum) * (relative_step_size * budget.epsilon);
            adversarial = budget.project(&stepped, batch.images);
        }
        Ok(adversarial)
    }
}
