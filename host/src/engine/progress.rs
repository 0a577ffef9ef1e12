//! What training remembers besides the network: the optimiser, the average of the weights, the best epoch.

use super::{
    average::Average,
    optimizer::OptimizerState,
    parts::{Parts, number, of_tensors, restore},
};
use crate::{network::Model, recipe::Training};
use guard_sdk::{Result, State};
use serde_json::json;

/// Between two iterations.
pub(super) struct Progress {
    pub optimizer: OptimizerState,
    /// Where the recipe averages.
    pub average: Option<Average>,
    /// The network with the most images right so far, and how many; where the recipe chooses.
    pub best: Option<(usize, Model)>,
}

impl Progress {
    /// Before the first iteration.
    pub fn new(model: &Model, training: &Training) -> Self {
        Self {
            optimizer: OptimizerState::new(&training.optimizer).clipped(training.clip_gradient),
            average: (training.ema > 0.0).then(|| Average::of(model, training.ema)),
            best: None,
        }
    }

    /// The network as it is now: averaged, where the recipe averages.
    pub fn present<'a>(&'a self, model: &'a Model) -> &'a Model {
        self.average.as_ref().map_or(model, Average::model)
    }

    /// What takes the place of the network at the end, if something does.
    pub fn into_model(self) -> Option<Model> {
        self.best.map(|(_, model)| model).or(self.average.map(Average::into_model))
    }

    /// With the network that it is of.
    pub fn save(&self, model: &Model) -> State {
        let mut parts = with_network(model, &self.optimizer);
        if let Some(average) = &self.average {
            parts = parts.with("average", average.save());
        }
        if let Some((right, best)) = &self.best {
            parts = parts
                .with("best", State { json: json!({ "right": right }), ..of_tensors(best.named_tensors()) });
        }
        parts.into()
    }

    /// Puts back what was saved, into the network as well.
    ///
    /// # Errors
    /// If the state is that of another training.
    pub fn load(&mut self, model: &Model, state: State) -> Result<()> {
        let mut parts = Parts::try_from(state)?;
        load_network(&mut parts, model, &mut self.optimizer)?;
        if let Some(average) = &mut self.average {
            average.load(parts.take("average")?)?;
        }
        self.best = parts.take_if_any("best").map(|state| best(model, &state)).transpose()?;
        Ok(())
    }
}

fn best(model: &Model, state: &State) -> Result<(usize, Model)> {
    let best = model.copy(model.parameters()[0].kind(), true);
    restore(&best.named_tensors(), state)?;
    Ok((number(state, "right")?, best))
}

/// A network and its optimiser.
pub(super) fn with_network(model: &Model, optimizer: &OptimizerState) -> Parts {
    Parts::default().with("network", of_tensors(model.named_tensors())).with("optimizer", optimizer.save())
}

/// Puts a network and its optimiser back.
///
/// # Errors
/// If the state is that of others.
pub(super) fn load_network(parts: &mut Parts, model: &Model, optimizer: &mut OptimizerState) -> Result<()> {
    restore(&model.named_tensors(), &parts.take("network")?)?;
    optimizer.load(&parts.take("optimizer")?, model.parameters())
}
