//! `basic_eval` and `basic_train`: logits, cross-entropy, its gradients, and BatchNorm's running statistics.

use crate::{
    checks::{Checks, Precision::Smooth},
    host::{Draws, Host},
};
use guard_host::{engine::TrainingLoss, network::Model};
use guard_sdk::{
    Network, Pass, Result, Tensor,
    autograd::{Graph, grad, grad_if_used},
};

/// The loss without regularizers, in eval mode.
pub fn eval(checks: &mut Checks) -> Result<()> {
    let (model, mut examples) = (checks.model()?, checks.examples()?);
    examples.images = examples.images.set_requires_grad(true);
    let batch = examples.batch();
    let logits = model.forward(batch.images, Pass::new(batch.space), false)?.logits;
    let each = batch.cross_entropy_each(&logits)?;
    checks.compare("logits", &logits, Smooth);
    checks.compare("ce_each", &each, Smooth);
    checks.compare(
        "input_grad_each",
        &grad(&each.sum(logits.kind()), &[batch.images], Graph::Free)?[0],
        Smooth,
    );

    let host = Host::new(&[], Draws::default())?;
    let total = cross_entropy().at(&host.context("train"), &Network::lend(&model), &batch)?;
    checks.compare("ce", &total, Smooth);
    parameter_gradients(checks, "ce.grad", &model, &total)
}

/// The loss of a training step without regularizers.
pub fn train(checks: &mut Checks) -> Result<()> {
    let (model, mut examples) = (checks.model()?, checks.examples()?);
    examples.images = examples.images.set_requires_grad(true);
    let batch = examples.batch();
    checks.compare("logits", &checks.model()?.train_logits(batch.images, batch.space)?, Smooth);

    let host = Host::new(&[], Draws::default())?;
    let total = cross_entropy().step(&host.context("train"), &model, &batch)?;
    checks.compare("ce", &total, Smooth);
    checks.compare("input_grad", &grad(&total, &[batch.images], Graph::Keep)?[0], Smooth);
    parameter_gradients(checks, "ce.grad", &model, &total)?;
    buffers_after(checks, &model);
    Ok(())
}

fn cross_entropy() -> TrainingLoss {
    TrainingLoss::new(1.0, 0.0, Vec::new())
}

/// Compares `<prefix>.<parameter>` with the gradients of `output`, where the case has them.
pub fn parameter_gradients(checks: &mut Checks, prefix: &str, model: &Model, output: &Tensor) -> Result<()> {
    let parameters: Vec<&Tensor> = model.parameters().iter().collect();
    let gradients = grad_if_used(output, &parameters, Graph::Keep)?;
    for ((parameter, tensor), gradient) in model.program().parameters.iter().zip(&parameters).zip(gradients) {
        let gradient = gradient.unwrap_or_else(|| tensor.zeros_like());
        checks.compare(&format!("{prefix}.{}", parameter.name), &gradient, Smooth);
    }
    Ok(())
}

/// Compares `after.<buffer>`, where the case has them.
pub fn buffers_after(checks: &mut Checks, model: &Model) {
    for (buffer, tensor) in model.program().buffers.iter().zip(model.buffers()) {
        checks.compare(&format!("after.{}", buffer.name), tensor, Smooth);
    }
}
