//! The iterative fast gradient sign method (Kurakin et al., 2016, arXiv 1607.02533), from a random start, in the linf and
//! l2 ball. Put yours in its place.
//!
//! | paper | here |
//! |---|---|
//! | ε | `budget.epsilon`, from the recipe |
//! | α | `relative_step_size` · ε |
//! | Clip | `budget.project` |

use guard_sdk::{
    Attack, Batch, Budget, Kind, Method, Network, Result, Services, Step, Tensor,
    autograd::{Graph, grad},
};

/// Options of `method-name`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MethodNameOptions {
    /// Number of steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// The length of a step, as a share of ε.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub relative_step_size: f64,
}

impl Default for MethodNameOptions {
    fn default() -> Self {
        Self { steps: 10, relative_step_size: 0.25 }
    }
}

/// Steps along the gradient of each example's loss, each brought back into the ball.
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

impl Attack for MethodName {
    /// Passes: `steps` forwards and input backwards.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let step_size = self.options.relative_step_size * budget.epsilon;
        // Each example's numbers depend on its id alone, and not on its batch mates.
        let start = step.uniform("start", 0, batch, &batch.images.size()[1..])? * 2.0 - 1.0;
        let mut adversarial = budget.project(&(batch.images + start * budget.epsilon), batch.images);
        for _ in 0..self.options.steps {
            step.services.check_cancelled()?;
            let images = adversarial.detach().set_requires_grad(true);
            let losses = batch.cross_entropy_each(&network.logits(&images)?)?;
            // The gradient of a sum holds each example's own.
            let gradient = grad(&losses.sum(None::<Kind>), &[&images], Graph::Free)?.remove(0);
            let stepped = adversarial + budget.norm.steepest(&gradient) * step_size;
            adversarial = budget.project(&stepped, batch.images);
        }
        Ok(adversarial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{
        Norm,
        testing::{Examples, FakeHost},
    };
    use serde_json::json;

    fn mean_loss(examples: &Examples, images: &Tensor) -> f64 {
        let logits = examples.network().logits(images).unwrap();
        examples.batch().cross_entropy_each(&logits).unwrap().mean(Kind::Double).double_value(&[])
    }

    #[test]
    fn the_loss_rises_within_the_ball() {
        let host = FakeHost::new(1);
        let examples = Examples::new([3, 8, 8], Kind::Float, 4).unwrap();
        for norm in [Norm::Linf, Norm::L2] {
            let budget = Budget { norm, epsilon: 0.1 };
            let mut method: MethodName = host.make(json!({ "steps": 5 })).unwrap();
            let images =
                method.perturb(&host.step(), &examples.network(), &examples.batch(), &budget).unwrap();
            assert!(mean_loss(&examples, &images) > mean_loss(&examples, &examples.images), "{norm:?}");
            let change = (&images - &examples.images).abs().max().double_value(&[]);
            assert!(change > 0.0 && change <= 0.1 + 1e-6, "{norm:?}: {change}");
        }
    }

    #[test]
    fn a_call_ends_when_the_run_is_asked_to_stop() {
        let host = FakeHost::new(1);
        host.cancel();
        let examples = Examples::new([1, 8, 8], Kind::Float, 2).unwrap();
        let budget = Budget { norm: Norm::Linf, epsilon: 0.1 };
        let mut method: MethodName = host.make(json!({})).unwrap();
        let error =
            method.perturb(&host.step(), &examples.network(), &examples.batch(), &budget).unwrap_err();
        assert_eq!(error.code, "cancelled");
    }
}
