//! Distillation between two iterations: groups that are done, the group that is at hand, and what the methods remember.

use super::{Distiller, ImageGroup, SyntheticSet};
use crate::{
    engine::{
        parts::{Parts, load_method, misfit, of_tensors, save_method},
        training_loss::{WeightedRegularizer, load, save},
    },
    plugin::{Context, Hosted},
};
use guard_sdk::{Result, State, abi::calls::ObjectiveInstance};
use serde::{Deserialize, Serialize};

/// A group that is done, with its ids.
pub(super) type Done = (Vec<u64>, SyntheticSet);

/// What distillation is made with.
pub(super) struct Methods<'a> {
    pub objective: &'a mut Hosted<ObjectiveInstance>,
    pub regularizers: &'a mut [WeightedRegularizer],
}

impl Methods<'_> {
    /// What they remember, and the training loss with them.
    fn save(&mut self, distiller: &Distiller, context: &Context) -> Result<State> {
        let parts = Parts::default().with("objective", save_method(self.objective, context)?);
        let parts = parts.with("regularizers", save(self.regularizers, context)?);
        Ok(parts.with("training-loss", distiller.room.loss.save(context)?).into())
    }

    fn load(&mut self, distiller: &Distiller, context: &Context, state: State) -> Result<()> {
        let mut parts = Parts::try_from(state)?;
        load_method(self.objective, context, parts.take("objective")?)?;
        load(self.regularizers, context, parts.take("regularizers")?)?;
        distiller.room.loss.load(context, parts.take("training-loss")?)
    }
}

impl Distiller<'_> {
    pub(super) fn save(
        &self,
        context: &Context,
        methods: &mut Methods,
        done: &[Done],
        group: &ImageGroup,
    ) -> Result<State> {
        let mut parts = Parts::default().with("methods", methods.save(self, context)?);
        for (number, (_, set)) in done.iter().enumerate() {
            parts = parts.with(number, set.save()?);
        }
        Ok(parts.with("group", group.save()).into())
    }

    /// The groups of `ids` that are done, and the state of the one at hand; what methods remember is put back.
    pub(super) fn load(
        &self,
        context: &Context,
        methods: &mut Methods,
        groups: &[(usize, Vec<u64>)],
        state: State,
    ) -> Result<(Vec<Done>, State)> {
        let mut parts = Parts::try_from(state)?;
        methods.load(self, context, parts.take("methods")?)?;
        let mut done = Vec::new();
        while let (Some((_, ids)), Some(set)) =
            (groups.get(done.len()), parts.take_if_any(&done.len().to_string()))
        {
            done.push((ids.clone(), SyntheticSet::of_state(set)?));
        }
        Ok((done, parts.take("group")?))
    }
}

/// The numbers of a [`SyntheticSet`].
#[derive(Serialize, Deserialize)]
struct Numbers {
    loss: f64,
    learned: Vec<(String, f64)>,
}

impl SyntheticSet {
    fn save(&self) -> Result<State> {
        let mut tensors = vec![
            ("images".into(), self.images.shallow_clone()),
            ("labels".into(), self.labels.shallow_clone()),
        ];
        tensors.extend(self.soft_labels.as_ref().map(|soft| ("soft-labels".into(), soft.shallow_clone())));
        let numbers = Numbers { loss: self.loss, learned: self.learned.clone() };
        Ok(State { json: serde_json::to_value(numbers)?, ..of_tensors(tensors) })
    }

    fn of_state(State { json, tensors, .. }: State) -> Result<Self> {
        let Numbers { loss, learned } = serde_json::from_value(json).map_err(misfit)?;
        let find = |name: &str| {
            tensors.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor.shallow_clone())
        };
        let needed = |name: &str| find(name).ok_or_else(|| misfit(format!("it has no `{name}`")));
        let (images, labels) = (needed("images")?, needed("labels")?);
        Ok(Self { images, labels, soft_labels: find("soft-labels"), loss, learned })
    }
}
