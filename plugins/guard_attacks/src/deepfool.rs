//! DeepFool (Moosavi-Dezfooli et al., CVPR 2016, arXiv 1511.04599), batched: steps to the nearest linearised boundary.

use crate::{
    apgd::likeliest,
    compat::Compat,
    examples::{Examples, keep, positions, remaining},
    gradient::{finite, fooled},
    margins::{Margins, dual_norm_each},
};
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Guarantee, Method, Network, Norm, Result, Services, Step, Tensor,
    autograd::no_grad, batch::per_image,
};

/// Options of `deepfool`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeepFoolOptions {
    /// The largest number of steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// How far the perturbation goes beyond the boundary, as a share of its length.
    #[schemars(range(min = 0.0))]
    pub overshoot: f64,
    /// How many of the likeliest classes of the clean image are looked at, the true one included.
    #[schemars(range(min = 2))]
    pub classes: i64,
    /// Computes what released code computes: the overshoot is applied to every step, rather than to their sum.
    pub compat: Option<Compat>,
}

impl Default for DeepFoolOptions {
    fn default() -> Self {
        Self { steps: 50, overshoot: 0.02, classes: 10, compat: None }
    }
}

/// r ← r + |f|/‖w‖₂² · w (l2) or r + |f|/‖w‖₁ · sign w (linf) for the nearest class, until x + (1 + overshoot) · r is
/// decided wrongly. Returns that image, or the last one where it never is.
pub struct DeepFool {
    options: DeepFoolOptions,
}

impl Method for DeepFool {
    type Options = DeepFoolOptions;
    const NAME: &'static str = "deepfool";

    fn new(options: DeepFoolOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Attack for DeepFool {
    fn info(&self) -> AttackInfo {
        let caveat = Compat::caveat(
            self.options.compat,
            "goes too far at every step: its perturbations are not the smallest",
        );
        AttackInfo { guarantee: Guarantee::MinimumNorm, caveat, ..AttackInfo::default() }
    }

    /// Passes: one forward for the clean images; two forwards and `classes - 1` input backwards for the survivors of each
    /// step.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let DeepFoolOptions { steps, overshoot, classes, compat } = self.options;
        let logits = no_grad(|| network.logits(batch.images))?;
        let right = positions(&fooled(&logits, batch.labels).logical_not());
        let others = likeliest(&logits, batch.labels).narrow(1, 0, (classes - 1).min(logits.size()[1] - 1));
        let mut others = others.index_select(0, &right);
        let mut examples = Examples::all(batch).at(&right)?;
        let mut results = batch.images.detach();
        let mut current = examples.images.shallow_clone();
        let mut sum = current.zeros_like();
        for _ in 0..steps {
            if examples.is_empty() {
                return Ok(results);
            }
            step.services.check_cancelled()?;
            let boundary = Margins::at(network, &current, &examples.labels, &others)?.nearest(budget.norm);
            let dual = dual_norm_each(&boundary.normal, budget.norm);
            // Where there is no slope there is no step, rather than 0 / 0.
            let length = boundary.margin.abs() / dual.where_self(&dual.gt(0.0), &dual.ones_like());
            let direction = match budget.norm {
                Norm::Linf => boundary.normal.sign(),
                Norm::L2 => &boundary.normal / per_image(&dual.where_self(&dual.gt(0.0), &dual.ones_like())),
            };
            let taken = finite(&(direction * per_image(&length)));
            let next = match compat {
                Some(Compat::Torchattacks) => &current + taken * (1.0 + overshoot),
                None => {
                    sum += taken;
                    &examples.images + &sum * (1.0 + overshoot)
                }
            };
            current = next.clamp(0.0, 1.0);
            let logits = no_grad(|| network.logits(&current))?;
            if let Some(rest) = remaining(&fooled(&logits, &examples.labels)) {
                results = examples.put(&results, &current);
                examples = examples.at(&rest)?;
                keep(&mut [&mut current, &mut sum, &mut others], &rest);
            }
        }
        Ok(examples.put(&results, &current))
    }
}
