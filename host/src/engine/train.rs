//! A network on real data: the teacher (SRe2L calls it squeeze).

use super::{
    optimizer::OptimizerState,
    training_loss::{TrainingLoss, finite_gradients},
};
use crate::{
    data::{Loaded, Split, View},
    network::Model,
    plugin::Context,
    random::Streams,
    recipe::Training,
    run::Observer,
};
use guard_sdk::{
    Batch, Result, Tensor,
    autograd::{Graph, grad, no_grad},
};

/// One step down `loss`: gradients, a look at them, the optimiser.
pub(super) fn descend(
    model: &Model,
    name: &str,
    loss: &Tensor,
    optimizer: &mut OptimizerState,
    rate: f64,
    context: &Context,
) -> Result<()> {
    let parameters: Vec<&Tensor> = model.parameters().iter().collect();
    let gradients = grad(loss, &parameters, Graph::Free)?;
    finite_gradients(name, None, context, &gradients)?;
    optimizer.step(model.parameters(), &gradients, rate)
}

/// Dropout is drawn by libtorch's own generator, seeded anew for every step, so that a step does not depend on those before.
pub(super) fn seed_dropout(streams: &Streams, context: &Context) {
    tch::manual_seed(streams.named("libtorch").numbered(context.iteration).number() as i64);
}

/// Runs one training step; if it fails, the running statistics are as before, and so are the parameters, which a step
/// changes last.
pub(super) fn undone_on_failure(model: &Model, step: impl FnOnce() -> Result<()>) -> Result<()> {
    let statistics: Vec<Tensor> = model.buffers().iter().map(Tensor::copy).collect();
    step().inspect_err(|_| {
        no_grad(|| {
            let buffers = model.buffers().iter().map(Tensor::shallow_clone);
            buffers.zip(&statistics).for_each(|(mut buffer, before)| buffer.copy_(before));
        });
    })
}

/// A trained network, and why training stopped early if it did.
pub struct Trained {
    /// The network; the last good one if training failed.
    pub model: Model,
    /// The failure.
    pub failure: Option<guard_sdk::Error>,
}

/// What training takes besides the network.
pub struct Trainer<'a> {
    /// Real images.
    pub split: &'a Split,
    /// Epochs, batch size, optimiser, schedule, augmentation.
    pub training: &'a Training,
    /// Cross-entropy and regularizers.
    pub loss: &'a TrainingLoss,
    /// Order and augmentation.
    pub streams: Streams,
    /// Watches.
    pub observer: &'a dyn Observer,
}

impl Trainer<'_> {
    /// Trains `model`. A failure leaves it as it was before the failing step.
    pub fn run(&self, model: Model, context: &Context) -> Trained {
        self.run_with(model, context, &mut |_| Ok(()))
    }

    /// The same, with a look at the network after each epoch; its failure ends the training.
    pub fn run_with(
        &self,
        model: Model,
        context: &Context,
        after_epoch: &mut dyn FnMut(&Model) -> Result<()>,
    ) -> Trained {
        let Self { split, training, .. } = self;
        let mut optimizer = OptimizerState::new(&training.optimizer);
        let per_epoch = split.len().div_ceil(training.batch_size) as u64;
        let iterations = per_epoch * training.epochs as u64;
        for epoch in 0..training.epochs as u64 {
            let order = self.streams.named("order").numbered(epoch).permutation(split.len());
            let lists = order.chunks(training.batch_size).map(<[i64]>::to_vec).collect();
            let streams = self.streams.named("augment").numbered(epoch);
            let batches = split.batches(lists, View { augment: training.augment.clone(), streams });
            for (iteration, batch) in (epoch * per_epoch..).zip(batches) {
                self.observer.iteration(iteration, iterations);
                let context = context.at(iteration, iterations);
                let step = || self.step(&model, &mut optimizer, batch?.to_device(context.device), &context);
                if let Err(failure) = undone_on_failure(&model, step) {
                    return Trained { model, failure: Some(failure) };
                }
            }
            if let Err(failure) = after_epoch(&model) {
                return Trained { model, failure: Some(failure) };
            }
        }
        Trained { model, failure: None }
    }

    fn step(
        &self,
        model: &Model,
        optimizer: &mut OptimizerState,
        Loaded { images, labels, ids }: Loaded,
        context: &Context,
    ) -> Result<()> {
        seed_dropout(&self.streams, context);
        let total = self.loss.step(context, model, &Batch::pixels(&images, &labels, &ids))?;
        let rate = self.training.schedule.rate(context.iteration, context.iterations);
        descend(model, "loss/total", &total, optimizer, rate, context)
    }
}
