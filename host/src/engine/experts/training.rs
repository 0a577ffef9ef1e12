//! The trajectories that are missing: networks on real data with the recipe's training loss, a snapshot after every epoch.

use super::folder::ExpertFolder;
use crate::{
    data::Split,
    engine::{Trained, Trainer, TrainingLoss, parts::copy},
    network::Model,
    plugin::Context,
    random::Streams,
    run::Observer,
};
use guard_sdk::{Level, Result, State, Tensor};

/// How many held-out images each snapshot's accuracy is measured on, at most.
const HELD_OUT: usize = 2000;
/// Images in a step of that.
const BATCH: usize = 500;

/// What training experts takes.
pub struct ExpertTrainer<'a> {
    /// Real images.
    pub split: &'a Split,
    /// Images that they are not trained on.
    pub held_out: &'a Split,
    /// Cross-entropy and regularizers.
    pub loss: &'a TrainingLoss,
    /// Of all experts; each has its own.
    pub streams: Streams,
    /// Watches.
    pub observer: &'a dyn Observer,
}

impl ExpertTrainer<'_> {
    /// Trains those of the first `count` trajectories that the folder does not have. Returns how many there were.
    ///
    /// # Errors
    /// If training fails or the file system refuses; trajectories that were finished stay.
    pub fn run(&self, folder: &ExpertFolder, count: u64, context: &Context) -> Result<u64> {
        let missing: Vec<u64> = (0..count).filter(|&trajectory| !folder.has(trajectory)).collect();
        // No trajectory depends on those before it, whatever regularizers remember.
        let untouched = self.loss.save(context)?;
        for &trajectory in &missing {
            self.loss.load(context, copy(&untouched))?;
            let streams = self.streams.numbered(trajectory);
            let manifest = folder.manifest();
            let fresh = Model::fresh(&manifest.network, &streams.named("network"), context.device)?;
            let (mut snapshots, mut accuracies) = (vec![copies(&fresh)], vec![self.accuracy(&fresh)?]);
            let observer = One { observer: self.observer, trajectory, count };
            let trainer = self.trainer(folder, streams, &observer);
            let Trained { failure, .. } = trainer.run_with(fresh, context, &mut |model| {
                snapshots.push(copies(model));
                accuracies.push(self.accuracy(model)?);
                Ok(())
            });
            if let Some(failure) = failure {
                return Err(failure.context(format!("expert {trajectory}")));
            }
            folder.write(trajectory, &snapshots, &accuracies)?;
            let last = 100.0 * accuracies.last().copied().unwrap_or_default();
            let line = format!("expert {} of {count}: {last:.1} % of held-out images right", trajectory + 1);
            context.recorder.log(Level::Information, &line);
        }
        Ok(missing.len() as u64)
    }

    /// The iteration of all trajectories' that training goes on at: where the first missing one begins.
    ///
    /// # Errors
    /// As [`Trainer::iterations`].
    pub fn begin(&self, folder: &ExpertFolder, count: u64) -> Result<u64> {
        let each = self.trainer(folder, self.streams.clone(), self.observer).iterations()?;
        Ok((0..count).take_while(|&trajectory| folder.has(trajectory)).count() as u64 * each)
    }

    fn trainer<'b>(
        &'b self,
        folder: &'b ExpertFolder,
        streams: Streams,
        observer: &'b dyn Observer,
    ) -> Trainer<'b> {
        let training = &folder.manifest().training;
        Trainer { split: self.split, training, loss: self.loss, streams, observer }
    }

    fn accuracy(&self, model: &Model) -> Result<f64> {
        let every = self.held_out.len().div_ceil(HELD_OUT).max(1);
        let positions: Vec<i64> = (0..self.held_out.len() as i64).step_by(every).collect();
        let (part, mut right) = (self.held_out.part(&positions), 0.0);
        for batch in part.in_order(BATCH) {
            let batch = batch?.to_device(model.device());
            let found = model.eval_logits(&batch.images)?.f_argmax(-1, false)?;
            right += found.f_eq_tensor(&batch.labels)?.f_sum(guard_sdk::Kind::Double)?.f_double_value(&[])?;
        }
        Ok(right / part.len().max(1) as f64)
    }
}

/// One of the trajectories. What is cut begins anew: its checkpoints are the whole trajectories.
struct One<'a> {
    observer: &'a dyn Observer,
    trajectory: u64,
    count: u64,
}

impl Observer for One<'_> {
    fn iteration(&self, iteration: u64, iterations: u64) {
        let Self { observer, trajectory, count } = *self;
        observer.iteration(trajectory * iterations + iteration, count * iterations);
    }

    fn checkpoint(&self, _: u64, _: &mut dyn FnMut() -> Result<State>) -> Result<()> {
        self.observer.stop_if_asked()
    }
}

fn copies(model: &Model) -> Vec<Tensor> {
    let tensors = model.parameters().iter().chain(model.buffers());
    tensors.map(|tensor| tensor.detach().copy().to_device(guard_sdk::Device::Cpu)).collect()
}
