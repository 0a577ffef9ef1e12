//! `priors`: total variation and length of images in normalised space, with their gradients.

use crate::{
    checks::{Checks, Precision::Smooth},
    host::{Draws, Host},
};
use guard_sdk::{
    Batch, Kind, Network, Result, Tensor,
    autograd::{Graph, grad},
};
use serde_json::json;

pub fn check(checks: &mut Checks) -> Result<()> {
    let (model, images, space) = (checks.model()?, checks.input("images")?, checks.case.space()?);
    let images = images.set_requires_grad(true);
    let ids: Vec<u64> = (0..images.size()[0] as u64).collect();
    let labels = Tensor::zeros([ids.len() as i64], (Kind::Int64, images.device()));
    let batch = Batch { images: &images, labels: &labels, soft_labels: None, ids: &ids, space };
    let host = Host::new(&["guard_sre2l"], Draws::default())?;
    let context = host.context("distill");
    for (key, method, options) in [
        ("tv_l1", "total-variation", json!({ "form": "l1" })),
        ("tv_l2", "total-variation", json!({ "form": "l2", "compat": "deep-inversion" })),
        ("l2", "l2", json!({})),
    ] {
        let mut regularizer = host.plugins.regularizer(&context, method, method, &options)?;
        let penalty = regularizer.penalty(&context, &Network::lend(&model), &batch)?;
        checks.compare(key, &penalty, Smooth);
        checks.compare(&format!("{key}_grad"), &grad(&penalty, &[&images], Graph::Free)?[0], Smooth);
    }
    Ok(())
}
