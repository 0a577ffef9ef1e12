//! `dc` and `dm`: the distance of real and synthetic images of one class, and its gradient to the synthetic ones.

use crate::{
    checks::{Checks, Examples, Precision::Smooth},
    host::{Draws, Host},
    lab::RecordedLab,
};
use guard_sdk::{
    Error, Kind, Lab, Network, Pass, Result, Space, Synthetic, Tensor, Value, network::NetworkBackend,
};
use serde_json::{Value as Json, json};

/// DC's three distances.
pub fn gradients(checks: &mut Checks) -> Result<()> {
    let (real, synthetic) = examples(checks)?;
    let labels = checks.input("labels_syn")?;
    let same = checks.input("labels_real")?.eq_tensor(&labels.get(0)).all().int64_value(&[]) == 1;
    checks.require(same, || "the real images are of another class than the synthetic ones".to_string());
    for (key, metric) in [("ours", "layer-wise"), ("mse", "squared-error"), ("cos", "cosine")] {
        let options = json!({ "metric": metric, "real_images": real.size()[0], "batch_norm_images": 0 });
        let (host, loss, gradient) = value(checks, "dc", options, &real, &synthetic, &labels)?;
        checks.compare(key, &loss, Smooth);
        checks.compare(&format!("{key}_grad_syn"), &gradient, Smooth);
        if key == "ours" {
            let layers: Vec<String> =
                checks.case.keys().into_iter().filter(|key| key.starts_with("ours.layer.")).collect();
            for layer in layers {
                let name = layer.trim_start_matches("ours.layer.").to_string();
                let found = host.recording.metric(&format!("dc/distance/{name}"));
                checks.compare(&layer, &found, Smooth);
            }
        }
    }
    Ok(())
}

/// DM's distance of mean embeddings.
pub fn embeddings(checks: &mut Checks) -> Result<()> {
    let (real, synthetic) = examples(checks)?;
    let labels = Tensor::zeros([synthetic.size()[0]], (Kind::Int64, synthetic.device()));
    let options = json!({
        "real_images": real.size()[0],
        "batch_norm_images": 0,
        "augment": { "strategy": "none" },
    });
    let (_, loss, gradient) = value(checks, "dm", options, &real, &synthetic, &labels)?;
    checks.compare("loss", &loss, Smooth);
    checks.compare("grad_syn", &gradient, Smooth);

    let model = checks.model()?.frozen();
    let embedding = |images: &Tensor| {
        let output = model.pass(images, Pass::new(Space::Normalised).with_embedding())?;
        output.embedding.ok_or_else(|| Error::new("the network has no embedding"))
    };
    let mean = embedding(&real)?.mean_dim([0].as_slice(), false, None::<Kind>);
    checks.compare("emb_real_mean", &mean, Smooth);
    checks.compare("emb_syn", &embedding(&synthetic)?, Smooth);
    Ok(())
}

/// Real and synthetic images, normalised.
fn examples(checks: &mut Checks) -> Result<(Tensor, Tensor)> {
    if checks.case.space()? != Space::Normalised {
        return Err(Error::new("matching objectives work behind the normalisation"));
    }
    Ok((checks.input("real")?, checks.input("syn")?))
}

/// The objective's loss and its gradient to the images.
fn value(
    checks: &Checks,
    name: &str,
    options: Json,
    real: &Tensor,
    synthetic: &Tensor,
    labels: &Tensor,
) -> Result<(Host, Tensor, Tensor)> {
    let draws = Draws(vec![("dsa", Tensor::zeros([1, 4], (Kind::Double, real.device())))]);
    let host = Host::new(&["guard_matching"], draws)?;
    let mut lab = RecordedLab::new(checks.model()?, synthetic.size()[0]);
    lab.real = Some(Network::lend(&lab.model).denormalise(real));
    let Examples { images, labels, ids, space } =
        Examples::new(synthetic.detach().set_requires_grad(true), labels.shallow_clone(), Space::Normalised);
    let synthetic =
        Synthetic { images: &images, labels: &labels, soft_labels: None, learnables: &[], ids: &ids, space };
    let value = {
        let context = host.context("distill");
        let mut objective = host.plugins.objective(&context, name, name, &options)?;
        objective.value(&context, &synthetic, &Lab::lend(&lab))?
    };
    match value {
        Value::Gradients { loss, mut gradients } => Ok((host, loss, gradients.remove(0))),
        Value::Loss(_) => Err(Error::new(format!("{name} returned a loss, not gradients"))),
    }
}
