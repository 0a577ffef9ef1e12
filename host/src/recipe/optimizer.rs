//! The recipe's optimizers and learning-rate schedules.
//!
//! The rule: names, defaults and meanings are PyTorch's.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

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

/// How the learning rate goes from its start, step by step, by its `kind`. Points of time are shares of all steps, so that a
/// schedule fits any number of epochs.
///
/// ```toml
/// schedule = "cosine"
/// schedule = { kind = "multi-step", milestones = [0.5, 0.75] }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls to 0 along half a cosine.
    Cosine,
    /// It is multiplied by a factor at equal distances.
    Step(StepSchedule),
    /// It is multiplied by a factor at given points.
    MultiStep(MultiStepSchedule),
    /// It rises to the optimizer's learning rate and falls to almost nothing, both along half a cosine.
    OneCycle(OneCycleSchedule),
}

impl Schedule {
    /// Reads a name as a table that says nothing else.
    pub(super) fn named_or_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = match Value::deserialize(deserializer)? {
            Value::String(name) => json!({ "kind": name }),
            table => table,
        };
        serde_json::from_value(table).map_err(serde::de::Error::custom)
    }

    /// The schema of what [`Schedule::named_or_table`] reads.
    pub(super) fn name_or_table(generator: &mut SchemaGenerator) -> Schema {
        let tables = Schedule::json_schema(generator);
        let forms = tables.get("oneOf").and_then(Value::as_array);
        let alone = |form: &&Value| form["required"].as_array().is_some_and(|keys| keys.len() == 1);
        let names: Vec<&Value> = forms
            .into_iter()
            .flatten()
            .filter(alone)
            .map(|form| &form["properties"]["kind"]["const"])
            .collect();
        json_schema!({ "anyOf": [{ "type": "string", "enum": names }, tables] })
    }
}

/// The learning rate is multiplied by a factor at equal distances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSchedule {
    /// Share of the steps between two changes, above 0 and at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub every: f64,
    /// What the learning rate is multiplied by, above 0.
    #[serde(default = "factor")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub factor: f64,
}

/// The learning rate is multiplied by a factor at given points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiStepSchedule {
    /// The points, as shares of the steps.
    #[schemars(length(min = 1), extend("items" = json!({ "type": "number", "minimum": 0, "maximum": 1 })))]
    pub milestones: Vec<f64>,
    /// What the learning rate is multiplied by, above 0.
    #[serde(default = "factor")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub factor: f64,
}

fn factor() -> f64 {
    0.1
}

/// One cycle of the learning rate (Smith & Topin 2017): from a 25th up, and down to 4e-6 of it, as PyTorch's `OneCycleLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycleSchedule {
    /// Share of the steps in which the learning rate rises, above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub rise: f64,
}

impl Default for OneCycleSchedule {
    fn default() -> OneCycleSchedule {
        OneCycleSchedule { rise: 0.3 }
    }
}
