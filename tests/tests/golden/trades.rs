//! `trades`: the regularizer as GUARD's script has it: the neighbour is searched by cross-entropy, and BatchNorm uses its
//! running statistics throughout.

use crate::{
    basic::parameter_gradients,
    checks::{Checks, Precision::Smooth},
    host::{Draws, Host, Watched},
};
use guard_sdk::{Error, Network, Result};
use serde_json::json;

pub fn check(checks: &mut Checks) -> Result<()> {
    let (model, examples) = (checks.model()?, checks.examples()?);
    let noise = checks.input("noise")?;
    let (epsilon, step) = (checks.case.number("eps")?, checks.case.number("step")?);
    let options = json!({
        "threat": { "norm": "linf", "epsilon": epsilon },
        "maximise": "cross-entropy",
        "steps": checks.case.count("steps")?,
        "relative_step_size": step / epsilon,
        "statistics": "running",
    });
    let host = Host::new(&["guard_adversarial"], Draws(vec![("start", noise)]))?;
    let context = host.context("train");
    let mut regularizer = host.plugins.regularizer(&context, "trades", "trades", &options)?;
    let watched = Watched::new(model.copy(checks.case.dtype.kind(), true));
    let penalty = regularizer.penalty(&context, &Network::lend(&watched), &examples.batch())?;
    checks.compare("kl", &penalty, Smooth);

    let last = watched.passes().pop().ok_or_else(|| Error::new("the regularizer ran no network"))?;
    checks.compare_images("adv", &last.images);
    checks.compare("logits_adv", &last.logits, Smooth);
    // Gradients belong to the tensors that the watched network holds.
    let penalty = regularizer.penalty(&context, &Network::lend(&model), &examples.batch())?;
    parameter_gradients(checks, "kl.grad", &model, &penalty)
}
