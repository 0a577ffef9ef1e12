//! Networks that attacks ask for by name: those that the recipe names, and the run's own teacher.

use super::EvalOnly;
use crate::{
    network::Model,
    plan::SurrogatePlan,
    plugin::{NetworkSource, unknown_network},
};
use guard_sdk::{Device, OwnedNetwork, Result};
use std::cell::Cell;

/// Networks with names.
#[derive(Default)]
pub struct Surrogates(Vec<(String, Model)>);

impl Surrogates {
    /// Reads those that a recipe names.
    ///
    /// # Errors
    /// If a file cannot be read or does not fit.
    pub fn load(plans: &[SurrogatePlan], device: Device) -> Result<Self> {
        let load = |plan: &SurrogatePlan| {
            Ok((plan.name.clone(), Model::load(&plan.network, &plan.weights, device)?.frozen()))
        };
        Ok(Self(plans.iter().map(load).collect::<Result<_>>()?))
    }

    /// With one more.
    pub fn with(mut self, name: &str, model: &Model) -> Self {
        self.0.push((name.to_string(), model.frozen().exact()));
        self
    }
}

impl NetworkSource for Surrogates {
    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        let Some((_, model)) = self.0.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = self.0.iter().map(|(known, _)| known.as_str()).collect();
            return Err(unknown_network(name, &known));
        };
        // What is done to a copy stays with whoever asked for it.
        let copy = model.copy(model.parameters()[0].kind(), false);
        Ok(OwnedNetwork::new(EvalOnly::new(copy.exact().for_inference()?)))
    }
}

/// Takes note of whether somebody asked for the network under attack: an attack made on it is no black-box attack.
pub(super) struct Watched<'a> {
    inner: &'a dyn NetworkSource,
    attacked: Option<&'a str>,
    pub asked: Cell<bool>,
}

impl<'a> Watched<'a> {
    pub fn new(inner: &'a dyn NetworkSource, attacked: Option<&'a str>) -> Self {
        Self { inner, attacked, asked: Cell::new(false) }
    }
}

impl NetworkSource for Watched<'_> {
    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        if self.attacked == Some(name) {
            self.asked.set(true);
        }
        self.inner.network(name)
    }
}
