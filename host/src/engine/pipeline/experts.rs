//! The expert trajectories that distillation follows: a part of its stage, each of them with checkpoints of its own.

use super::VariantRun;
use crate::{
    engine::{
        Pipeline,
        experts::{ExpertFolder, ExpertManifest, ExpertTrainer},
    },
    recipe::Training,
    run::Stage,
};
use guard_sdk::Result;

impl VariantRun<'_> {
    /// The expert trajectories: those of the folder, and what is missing.
    pub(super) fn experts(&self) -> Result<ExpertFolder> {
        let (Pipeline { data, journal, stages, .. }, recipe) = (self.pipeline, &self.variant.recipe);
        let (name, count) = (&self.variant.name, recipe.experts.count as u64);
        let manifest = ExpertManifest {
            dataset: self.pipeline.plan.data.name.clone(),
            images: data.train.len() as u64,
            network: self.variant.network.clone(),
            training: Training { epochs: recipe.experts.epochs, ..recipe.training.clone() },
        };
        let place = recipe.experts.folder.clone().unwrap_or_else(|| self.folder.join("experts"));
        let experts = ExpertFolder::prepare(&place, &manifest)?;
        let (streams, mut trained) = (self.streams("experts"), 0);
        for trajectory in 0..count {
            let key = &self.keys().expert(trajectory);
            if experts.has(trajectory) {
                stages.clear(key)?;
                continue;
            }
            let loss = self.training_loss()?;
            let trainer = ExpertTrainer {
                split: &data.train,
                held_out: &data.test,
                loss: &loss,
                streams: streams.clone(),
            };
            let begin = trajectory * trainer.iterations(&experts)?;
            let part = Stage { variant: name, name: "experts", folder: &self.folder, key };
            stages.part(&part, journal, begin, |log| {
                let context = self.context("experts", &streams, log);
                let found = trainer.run(&experts, trajectory, count, log, &context)?;
                let last = 100.0 * found.accuracies.last().copied().unwrap_or_default();
                let number = trajectory + 1;
                log.finish(&format!("expert {number} of {count}: {last:.1} % of held-out images right"))?;
                experts.write(trajectory, &found)
            })?;
            trained += 1;
        }
        journal.tell(
            name,
            "experts",
            &format!("{count} of {} epochs, {trained} trained now", recipe.experts.epochs),
        );
        Ok(experts)
    }
}
