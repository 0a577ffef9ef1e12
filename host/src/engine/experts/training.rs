//! A trajectory that is missing: a network on real data with the recipe's training loss, a snapshot after every epoch.

use super::folder::ExpertFolder;
use crate::{
    data::Split,
    engine::{
        Trained, Trainer, TrainingLoss,
        parts::{Parts, misfit, of_tensors},
        train::iterations,
    },
    network::Model,
    plugin::Context,
    random::Streams,
    run::{Checkpoint, Observer},
};
use guard_sdk::{Result, State, Tensor};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

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
}

impl ExpertTrainer<'_> {
    /// Trains one of `count` trajectories, or the rest of it if it was cut; what regularizers remember of another has no part in
    /// it. Who observes is told the iterations of all of them, counted through.
    ///
    /// # Errors
    /// If training fails.
    pub fn run(
        &self,
        folder: &ExpertFolder,
        trajectory: u64,
        count: u64,
        observer: &dyn Observer,
        context: &Context,
    ) -> Result<Trajectory> {
        let streams = self.streams.numbered(trajectory);
        let fresh = Model::fresh(&folder.manifest().network, &streams.named("network"), context.device)?;
        let begin = trajectory * self.iterations(folder)?;
        let (kept, resumed) = match observer.resumed() {
            Some(cut) => Trajectory::resumed(cut, begin, &fresh)?,
            None => {
                let first =
                    Trajectory { snapshots: vec![copies(&fresh)], accuracies: vec![self.accuracy(&fresh)?] };
                (first, None)
            }
        };
        let kept = RefCell::new(kept);
        let observer = One { observer, begin, count, kept: &kept, resumed: RefCell::new(resumed) };
        let Trained { failure, .. } =
            self.trainer(folder, streams, &observer).run_with(fresh, context, &mut |model| {
                let accuracy = self.accuracy(model)?;
                let mut kept = kept.borrow_mut();
                kept.snapshots.push(copies(model));
                kept.accuracies.push(accuracy);
                Ok(())
            });
        match failure {
            Some(failure) => Err(failure.context(format!("expert {trajectory}"))),
            None => Ok(kept.into_inner()),
        }
    }

    /// How many iterations each trajectory has.
    ///
    /// # Errors
    /// As [`iterations`].
    pub fn iterations(&self, folder: &ExpertFolder) -> Result<u64> {
        iterations(self.split, &folder.manifest().training, &self.streams)
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
            let batch = batch?.to_device(model.device())?;
            let found = model.eval_logits(&batch.images)?.f_argmax(-1, false)?;
            right += found.f_eq_tensor(&batch.labels)?.f_sum(guard_sdk::Kind::Double)?.f_double_value(&[])?;
        }
        Ok(right / part.len().max(1) as f64)
    }
}

/// A network at the beginning of its training and after each epoch so far.
pub struct Trajectory {
    /// The tensors of each.
    pub snapshots: Vec<Vec<Tensor>>,
    /// The share of held-out images that each classifies rightly.
    pub accuracies: Vec<f64>,
}

/// The numbers of a [`Trajectory`].
#[derive(Serialize, Deserialize)]
struct Numbers {
    accuracies: Vec<f64>,
}

impl Trajectory {
    fn save(&self) -> Result<State> {
        let numbers = Numbers { accuracies: self.accuracies.clone() };
        let tensors = self.snapshots.iter().flatten().enumerate();
        let named = tensors.map(|(number, tensor)| (number.to_string(), tensor.shallow_clone())).collect();
        Ok(State { json: serde_json::to_value(numbers)?, ..of_tensors(named) })
    }

    /// A trajectory of `fresh` that was cut, and the training as it was then, whose iterations are counted from `begin` on.
    fn resumed(
        Checkpoint { iteration, state }: Checkpoint,
        begin: u64,
        fresh: &Model,
    ) -> Result<(Self, Option<Checkpoint>)> {
        let mut parts = Parts::try_from(state)?;
        let training = parts.take("training")?;
        let State { json, tensors, .. } = parts.take("trajectory")?;
        let Numbers { accuracies } = serde_json::from_value(json).map_err(misfit)?;
        let mut tensors: Vec<(usize, Tensor)> = tensors
            .into_iter()
            .map(|(number, tensor)| Ok((number.parse().map_err(misfit)?, tensor)))
            .collect::<Result<_>>()?;
        tensors.sort_by_key(|(number, _)| *number);
        let tensors: Vec<Tensor> = tensors.into_iter().map(|(_, tensor)| tensor).collect();
        let each = fresh.parameters().len() + fresh.buffers().len();
        if tensors.len() != each * accuracies.len() {
            return Err(misfit(format!("{} tensors of {} snapshots", tensors.len(), accuracies.len())));
        }
        let snapshots = tensors
            .chunks(each)
            .map(|snapshot| snapshot.iter().map(Tensor::shallow_clone).collect())
            .collect();
        let iteration = iteration.saturating_sub(begin);
        Ok((Self { snapshots, accuracies }, Some(Checkpoint { iteration, state: training })))
    }
}

/// One of the trajectories, whose iterations are some of all.
struct One<'a> {
    observer: &'a dyn Observer,
    begin: u64,
    count: u64,
    kept: &'a RefCell<Trajectory>,
    resumed: RefCell<Option<Checkpoint>>,
}

impl Observer for One<'_> {
    fn iteration(&self, iteration: u64, iterations: u64) {
        self.observer.iteration(self.begin + iteration, self.count * iterations);
    }

    fn resumed(&self) -> Option<Checkpoint> {
        self.resumed.take()
    }

    fn checkpoint(&self, iteration: u64, state: &mut dyn FnMut() -> Result<State>) -> Result<()> {
        self.observer.checkpoint(self.begin + iteration, &mut || {
            let parts = Parts::default().with("training", state()?);
            Ok(parts.with("trajectory", self.kept.borrow().save()?).into())
        })
    }

    fn settled(&self) -> Result<()> {
        self.observer.settled()
    }

    fn warn(&self, message: &str) {
        self.observer.warn(message);
    }

    fn stop_if_asked(&self) -> Result<()> {
        self.observer.stop_if_asked()
    }
}

/// Tensors of its own, on the CPU.
fn copies(model: &Model) -> Vec<Tensor> {
    let tensors = model.parameters().iter().chain(model.buffers());
    tensors.map(|tensor| tensor.detach().copy().to_device(guard_sdk::Device::Cpu)).collect()
}
