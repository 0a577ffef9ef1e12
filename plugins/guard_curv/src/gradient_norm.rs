//! The gradient-norm penalty of GUARD's ablation, with the second derivatives that the released code detaches.

use guard_sdk::{
    Batch, CleanRequest, InputGradient, Kind, Method, Network, Regularizer, Result, Services, Space,
    StatisticsFrom, Step, Tensor, batch::norm_each,
};

/// Options of `gradient-norm`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GradientNormOptions {
    /// Where ∇ₓ is taken: behind the network's normalisation, or in pixels.
    pub space: Space,
    /// Whose statistics BatchNorm uses: the running ones, or the batch's, as the cross-entropy does.
    pub statistics: StatisticsFrom,
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
    /// Passes: 1 forward and 1 input backward with graph, both shared.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let request = CleanRequest { mode: self.options.statistics.mode(), gradient: InputGradient::Graph };
        let clean = step.clean(network, batch, request)?;
        let gradient = network.convert_gradient(clean.gradient()?, batch.space, self.options.space);
        Ok(norm_each(&gradient).mean(None::<Kind>))
    }
}
