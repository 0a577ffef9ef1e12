//! PGD (Madry et al., ICLR 2018, arXiv 1706.06083) in the linf and l2 ball.

use crate::gradient;
use guard_sdk::{
    Attack, Batch, Budget, Method, Network, Norm, Result, Services, Step, Tensor,
    autograd::no_grad,
    batch::{norm_each, per_image},
};

/// Options of `pgd`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PgdOptions {
    /// Number of gradient steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// α, the length of a step, as a share of ε (α = 2/255 at ε = 8/255 is 0.25).
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub relative_step_size: f64,
    /// Start at a random point of the ball rather than at the image.
    pub random_start: bool,
    /// Number of random starts; an example keeps one that is decided wrongly, or else the one with the highest loss.
    #[schemars(range(min = 1))]
    pub restarts: u64,
}

impl Default for PgdOptions {
    fn default() -> Self {
        Self { steps: 10, relative_step_size: 0.25, random_start: true, restarts: 1 }
    }
}

/// Projected gradient ascent on each example's cross-entropy.
pub struct Pgd {
    options: PgdOptions,
}

impl Method for Pgd {
    type Options = PgdOptions;
    const NAME: &'static str = "pgd";

    fn new(options: PgdOptions, _: &Services) -> Result<Self> {
        if options.restarts > 1 && !options.random_start {
            return Err(guard_sdk::Error::option(
                "/restarts",
                "restarts from the image itself are all the same",
            )
            .help("set `random_start = true` or `restarts = 1`"));
        }
        Ok(Self { options })
    }
}

impl Attack for Pgd {
    /// Passes: `steps` forwards and input backwards per restart, one more forward per restart if there are several.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let mut best = self.ascend(step, network, batch, budget, 0)?;
        if self.options.restarts == 1 {
            return Ok(best);
        }
        let (mut fooled, mut highest) = judge(network, batch, &best)?;
        for restart in 1..self.options.restarts {
            let candidate = self.ascend(step, network, batch, budget, restart)?;
            let (fools, losses) = judge(network, batch, &candidate)?;
            // A wrong decision counts for more than a high loss; among equals the loss decides.
            let better = losses.gt_tensor(&highest).logical_and(&fools.eq_tensor(&fooled));
            let better = better.logical_or(&fools.logical_and(&fooled.logical_not()));
            best = candidate.where_self(&per_image(&better), &best);
            highest = losses.where_self(&better, &highest);
            fooled = fools.logical_or(&fooled);
        }
        Ok(best)
    }
}

impl Pgd {
    fn ascend(
        &self,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
        restart: u64,
    ) -> Result<Tensor> {
        let step_size = self.options.relative_step_size * budget.epsilon;
        let mut adversarial = match self.options.random_start {
            true => {
                budget.project(&(batch.images + random_in_ball(step, batch, budget, restart)?), batch.images)
            }
            false => batch.images.detach(),
        };
        for _ in 0..self.options.steps {
            step.services.check_cancelled()?;
            let (gradient, _) = gradient::of_cross_entropy(network, batch, &adversarial)?;
            // One ascent step, then back into the ball and the pixel range.
            let stepped = &adversarial + gradient::steepest(&gradient, budget) * step_size;
            adversarial = budget.project(&stepped, batch.images);
        }
        Ok(adversarial)
    }
}

/// Whether each image is decided wrongly, and its loss, both `[N]`.
fn judge(network: &Network, batch: &Batch, images: &Tensor) -> Result<(Tensor, Tensor)> {
    no_grad(|| {
        let logits = network.logits(images)?;
        Ok((logits.argmax(-1, false).ne_tensor(batch.labels), batch.cross_entropy_each(&logits)?))
    })
}

/// Uniform in the linf ball; in the l2 ball a uniform direction with a length uniform on [0, ε).
fn random_in_ball(step: &Step, batch: &Batch, budget: &Budget, restart: u64) -> Result<Tensor> {
    let shape = &batch.images.size()[1..];
    match budget.norm {
        Norm::Linf => Ok((step.uniform("start", restart, batch, shape)? * 2.0 - 1.0) * budget.epsilon),
        Norm::L2 => {
            let direction = step.normal("start.direction", restart, batch, shape)?;
            let length = step.uniform("start.length", restart, batch, &[])? * budget.epsilon;
            Ok(&direction * per_image(&(length / norm_each(&direction))))
        }
    }
}
