//! `grad_norm`: the recorded norms are of the batch-mean loss's gradient, the product's of each example's own, which is B
//! times as long: `gradient-norm` is B · `reg`, and so are its gradients.

use crate::{
    basic::parameter_gradients,
    checks::{Checks, Precision::Smooth},
    host::{Draws, Host},
};
use guard_host::engine::{TrainingLoss, WeightedRegularizer};
use guard_sdk::{Network, Result, Tensor};
use serde_json::json;

pub fn check(checks: &mut Checks) -> Result<()> {
    let (model, examples) = (checks.model()?, checks.examples()?);
    let size = examples.len() as f64;
    let options = match examples.space {
        guard_sdk::Space::Pixels => json!({ "space": "pixels" }),
        guard_sdk::Space::Normalised => json!({ "space": "normalised" }),
    };
    let host = Host::new(&["guard_curv"], Draws::default())?;
    let context = host.context("train");
    let network = Network::lend(&model);
    let mut regularizer = host.plugins.regularizer(&context, "gradient-norm", "gradient-norm", &options)?;

    // One example alone is a batch whose mean is its own loss.
    let alone = (0..examples.len())
        .map(|position| {
            Ok(regularizer.penalty(&context, &network, &examples.only(position).batch())?.detach())
        })
        .collect::<Result<Vec<Tensor>>>()?;
    checks.compare("grad_norm_each", &(Tensor::stack(&alone, 0) / size), Smooth);

    let weight = checks.case.number("beta")? / size;
    let loss = TrainingLoss::new(1.0, 0.0, vec![WeightedRegularizer { weight, regularizer }]);
    let total = loss.at(&context, &network, &examples.batch())?;
    let penalty = host.recording.metric("loss/gradient-norm") / size;
    checks.compare("ce", &host.recording.metric("loss/cross-entropy"), Smooth);
    checks.compare("reg", &penalty, Smooth);
    checks.compare("total", &total, Smooth);
    parameter_gradients(checks, "reg.grad", &model, &penalty)?;
    parameter_gradients(checks, "total.grad", &model, &total)
}
