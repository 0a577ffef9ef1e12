//! The length of images: a prior that keeps synthetic images from glaring (DeepInversion, arXiv 1912.08795; optional in
//! SRe2L).

use guard_sdk::{
    Batch, Kind, Method, Network, Regularizer, Result, Services, Space, Step, Tensor, batch::norm_each,
};

/// Options of `l2`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct L2Options {
    /// Where lengths are taken: behind the network's normalisation, as in the released code, or in pixels.
    pub space: Space,
}

/// mean_i ‖xᵢ‖₂.
pub struct L2 {
    options: L2Options,
}

impl Method for L2 {
    type Options = L2Options;
    const NAME: &'static str = "l2";
    const CAPTURABLE: bool = true;

    fn new(options: L2Options, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Regularizer for L2 {
    fn penalty(&mut self, _: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let images = network.convert(batch.images, batch.space, self.options.space);
        Ok(norm_each(&images).mean(None::<Kind>))
    }
}
