//! The gradient-norm penalty of GUARD's ablation, with the second derivatives that the released code detaches.

use guard_sdk::{
    Batch, Kind, Method, Network, Regularizer, Result, Services, Space, Step, Tensor,
    autograd::{Graph, grad},
    batch::norm_each,
};

/// Options of `gradient-norm`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientNormOptions {
    /// Where ∇ₓ is taken: behind the network's normalisation, or in pixels.
    pub space: Space,
}

/// mean_i ‖∇ₓℓ(xᵢ)‖₂.
pub struct GradientNorm {
    options: GradientNormOptions,
}

impl Method for GradientNorm {
    type Options = GradientNormOptions;
    const NAME: &'static str = "gradient-norm";

    fn new(options: GradientNormOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Regularizer for GradientNorm {
    /// Passes: 1 forward and 1 input backward with graph.
    fn penalty(&mut self, _: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let space = self.options.space;
        let images = network.convert(&batch.images.detach(), batch.space, space).set_requires_grad(true);
        let losses = batch.cross_entropy_each(&network.logits_in(space, &images)?)?;
        let gradient = grad(&losses.sum(None::<Kind>), &[&images], Graph::Create)?.remove(0);
        Ok(norm_each(&gradient).mean(None::<Kind>))
    }
}
