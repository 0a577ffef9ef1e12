//! A set that is there already, such as one that others have released: students are trained on it and attacked by the same
//! protocol as on sets that are distilled here.

use guard_sdk::{
    Error, Lab, Method, Needs, Objective, Result, Services, Step, Synthetic, Value, objective::Networks,
};

/// Options of `given`: none. The recipe names the set with `distill.start`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GivenOptions {}

/// The recipe's set as it is, with its own labels and learning rate if it has any.
pub struct Given;

impl Method for Given {
    type Options = GivenOptions;
    const NAME: &'static str = "given";

    fn new(_: GivenOptions, _: &Services) -> Result<Self> {
        Ok(Self)
    }
}

impl Objective for Given {
    fn needs(&self) -> Needs {
        Needs { networks: Networks::None, given_set: true, iterations: 0, ..Needs::default() }
    }

    fn value(&mut self, _: &Step, _: &Synthetic, _: &Lab) -> Result<Value> {
        Err(Error::unsupported("there is nothing to optimise in a set that is given"))
    }
}
