//! How far the statistics of images are from those that the network's BatchNorm layers keep of real data: SRe2L's R_BN
//! (DeepInversion, Yin et al., CVPR 2020, arXiv 1912.08795), in the objectives and as a penalty of its own.
//!
//! | paper | here |
//! |---|---|
//! | m_l, weight of the first BatchNorm layer | [`LayerWeights`] |
//! | R_BN | `batch-norm` in the log |

use guard_sdk::{
    Batch, Error, Method, Network, Pass, Regularizer, Result, Services, Statistics, Step, Tensor,
};
use std::collections::BTreeMap;

/// How much each BatchNorm layer counts: options of the regularizer `bn-statistics`, and part of those of the objectives.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct LayerWeights {
    /// How much more the first BatchNorm layer counts.
    #[schemars(range(min = 0.0))]
    pub first_layer_weight: f64,
    /// How much BatchNorm layers count that are named here, e.g. `{ "layer4.1.bn2" = 0.0 }`; the others count 1, the first
    /// `first_layer_weight`.
    #[schemars(extend("additionalProperties" = { "type": "number", "minimum": 0.0 }))]
    pub layer_weights: BTreeMap<String, f64>,
}

impl Default for LayerWeights {
    fn default() -> Self {
        Self { first_layer_weight: 10.0, layer_weights: BTreeMap::new() }
    }
}

impl LayerWeights {
    /// m_l of the layer at `index` in the order of the forward pass.
    pub fn of(&self, index: usize, layer: &str) -> f64 {
        let other = if index == 0 { self.first_layer_weight } else { 1.0 };
        self.layer_weights.get(layer).copied().unwrap_or(other)
    }

    /// Names of the layers that must be there.
    pub fn named(&self) -> Vec<String> {
        self.layer_weights.keys().cloned().collect()
    }

    /// Σ_l m_l (‖var_l − rvar_l‖₂ + ‖mean_l − rmean_l‖₂), a scalar `[]`; each layer's term is a metric.
    ///
    /// # Errors
    /// If there are no layers, or one that is named is not among them.
    pub fn distance(&self, step: &Step, statistics: &[Statistics]) -> Result<Tensor> {
        let known = |name: &String| statistics.iter().any(|layer| layer.layer == *name);
        if let Some(unknown) = self.layer_weights.keys().find(|name| !known(name)) {
            let names: Vec<String> = statistics.iter().map(|layer| format!("`{}`", layer.layer)).collect();
            let error =
                Error::option("/layer_weights", format!("the network has no BatchNorm layer `{unknown}`"));
            return Err(error.help(format!("it has {}", names.join(", "))));
        }
        let mut total = None;
        for (index, layer) in statistics.iter().enumerate() {
            let distance = (&layer.running_variance - &layer.variance).norm()
                + (&layer.running_mean - &layer.mean).norm();
            step.services.metric(&format!("batch-norm/{}", layer.layer), &distance)?;
            let weight = self.of(index, &layer.layer);
            let weighted = if weight == 1.0 { distance } else { distance * weight };
            total = Some(match total {
                None => weighted,
                Some(total) => total + weighted,
            });
        }
        total.ok_or_else(|| Error::unsupported("the network has no BatchNorm layer"))
    }
}

/// R_BN of images as they are, for objectives that have no such term; `sre2l` and `cda` have it on augmented images.
pub struct BatchNorm {
    weights: LayerWeights,
}

/// Options of `bn-statistics`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct BatchNormOptions {
    /// How much each layer counts.
    #[serde(flatten)]
    pub weights: LayerWeights,
}

impl Method for BatchNorm {
    type Options = BatchNormOptions;
    const NAME: &'static str = "bn-statistics";

    fn new(options: BatchNormOptions, _: &Services) -> Result<Self> {
        Ok(Self { weights: options.weights })
    }
}

impl Regularizer for BatchNorm {
    /// Passes: 1 forward. Statistics are those of the batch, so unlike other penalties this one is of the whole batch.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let output = network.pass(batch.images, Pass::new(batch.space).with_statistics())?;
        self.weights.distance(step, &output.statistics)
    }
}
