//! The recipe's optimizers and learning-rate schedules.
//!
//! The rule: names, defaults and meanings are PyTorch's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What moves weights or images, by its `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam; its weight decay is an L2 penalty.
    Adam(Adam),
    /// Adam with decoupled weight decay.
    Adamw(AdamW),
}

/// Stochastic gradient descent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Step size, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// How much of the last step is kept, from 0 to below 1.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Factor of the L2 penalty.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Whether the gradient is looked up ahead of the momentum.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Sgd {
        Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 5e-4, nesterov: false }
    }
}

/// Adam; its weight decay is an L2 penalty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Step size, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Decay of the averages of the gradient and of its square, each from 0 to below 1.
    #[schemars(extend("items" = json!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 })))]
    pub betas: [f64; 2],
    /// What keeps the division finite, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Factor of the L2 penalty.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam { learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// Adam with decoupled weight decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Step size, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Decay of the averages of the gradient and of its square, each from 0 to below 1.
    #[schemars(extend("items" = json!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 })))]
    pub betas: [f64; 2],
    /// What keeps the division finite, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Share of each weight that a step of size 1 takes away.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 1e-2 }
    }
}

/// How the learning rate goes from its start, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls to 0 along half a cosine.
    Cosine,
}
