//! `cure_full` and `cure_simple`: `curvature` in its compat form, as a term of a training step. The step's train-mode
//! forward comes first and moves the running statistics that the penalty then sees.

use crate::{
    basic::{buffers_after, parameter_gradients},
    checks::{Checks, Examples, Precision::Smooth},
    host::{Draws, Host},
};
use guard_curv::perturbation;
use guard_host::{
    engine::{TrainingLoss, WeightedRegularizer},
    network::Model,
};
use guard_sdk::{
    Pass, Result, Tensor,
    autograd::{Graph, grad},
    batch::norm_each,
};
use serde_json::json;

/// mean_i λ ‖∇L(x+z) − ∇L(x)‖₂, L the mean cross-entropy.
pub fn full(checks: &mut Checks) -> Result<()> {
    let weight = checks.case.number("lam")?;
    let step = Step::take(checks, "norm", weight)?;
    checks.compare("curv", &step.weighted, Smooth);
    parameter_gradients(checks, "curv.grad", &step.model, &step.weighted)?;
    step.compare(checks)?;

    let Around { clean, z, moved } = step.around(checks)?;
    checks.compare("g", &clean.gradient, Smooth);
    checks.compare("z", &z, Smooth);
    checks.compare("z_norm", &norm_each(&z), Smooth);
    checks.compare("loss_orig", &clean.loss, Smooth);
    checks.compare("loss_pos", &moved.loss, Smooth);
    checks.compare("reg_each", &norm_each(&(moved.gradient - clean.gradient)), Smooth);
    Ok(())
}

/// |L(x+z) − L(x)|.
pub fn simple(checks: &mut Checks) -> Result<()> {
    let weight = checks.case.number("beta")?;
    let step = Step::take(checks, "loss-difference", weight)?;
    checks.compare("reg", &step.penalty, Smooth);
    parameter_gradients(checks, "reg.grad", &step.model, &step.penalty)?;
    step.compare(checks)?;

    let Around { clean, moved, .. } = step.around(checks)?;
    checks.compare("diff", &(moved.loss - clean.loss), Smooth);
    Ok(())
}

/// A training step with the penalty.
struct Step {
    model: Model,
    examples: Examples,
    cross_entropy: Tensor,
    penalty: Tensor,
    weighted: Tensor,
    total: Tensor,
}

impl Step {
    fn take(checks: &mut Checks, form: &str, weight: f64) -> Result<Self> {
        let (model, examples) = (checks.model()?, checks.examples()?);
        let options = json!({ "form": form, "radius": checks.case.number("h")?, "compat": "guard-cifar" });
        let host = Host::new(&["guard_curv"], Draws::default())?;
        let context = host.context("train");
        let regularizer = host.plugins.regularizer(&context, "curvature", "curvature", &options)?;
        let loss = TrainingLoss::new(1.0, 0.0, vec![WeightedRegularizer { weight, regularizer }]);
        let total = loss.step(&context, &model, &examples.batch())?;
        Ok(Self {
            model,
            examples,
            cross_entropy: host.recording.metric("loss/cross-entropy"),
            penalty: host.recording.metric("loss/curvature"),
            weighted: host.recording.metric("loss/curvature/weighted"),
            total,
        })
    }

    fn compare(&self, checks: &mut Checks) -> Result<()> {
        checks.compare("ce_train", &self.cross_entropy, Smooth);
        checks.compare("total", &self.total, Smooth);
        parameter_gradients(checks, "total.grad", &self.model, &self.total)?;
        buffers_after(checks, &self.model);
        Ok(())
    }

    fn at(&self, images: &Tensor) -> Result<Point> {
        let images = images.detach().set_requires_grad(true);
        let logits = self.model.frozen().forward(&images, Pass::new(self.examples.space), false)?.logits;
        let loss = self.examples.batch().cross_entropy_each(&logits)?.mean(logits.kind());
        let gradient = grad(&loss, &[&images], Graph::Free)?.remove(0);
        Ok(Point { loss: loss.detach(), gradient })
    }

    /// What no public path yields: the penalty's intermediates, from the plugin's own perturbation.
    fn around(&self, checks: &Checks) -> Result<Around> {
        let clean = self.at(&self.examples.images)?;
        let z = perturbation::step_as_released(&clean.gradient, checks.case.number("h")?);
        let moved = self.at(&(&self.examples.images + &z))?;
        Ok(Around { clean, z, moved })
    }
}

/// The two points of which the penalty is a function.
struct Around {
    clean: Point,
    z: Tensor,
    moved: Point,
}

/// The mean loss in eval mode, with the updated statistics, and its gradient to the images.
struct Point {
    loss: Tensor,
    gradient: Tensor,
}
