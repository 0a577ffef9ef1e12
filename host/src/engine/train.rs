//! A network on real data: the teacher (SRe2L calls it squeeze).

use super::{
    optimizer::OptimizerState,
    parts::Parts,
    progress::Progress,
    training_loss::{Gradients, TrainingLoss, finite_gradients},
    undo::Before,
};
use crate::{
    data::{Loaded, Split, View},
    network::Model,
    plugin::Context,
    random::Streams,
    recipe::{KeptEpoch, Training},
    run::{Checkpoint, Observer},
};
use guard_sdk::{
    Batch, Error, Kind, Result, State, Tensor,
    autograd::{Graph, grad},
};

/// One step down `loss`: gradients, a look at them, the optimiser. Returns whether they are finite, where that is not known yet.
pub(super) fn descend(
    model: &Model,
    name: &str,
    loss: &Tensor,
    optimizer: &mut OptimizerState,
    rate: f64,
    context: &Context,
) -> Result<Option<Tensor>> {
    let parameters: Vec<&Tensor> = model.parameters().iter().collect();
    let gradients = grad(loss, &parameters, Graph::Free)?;
    let Gradients { each, finite } = finite_gradients(name, None, context, gradients)?;
    optimizer.step(model.parameters(), &each, rate)?;
    // A loss may be infinite where its gradient is not.
    Ok(finite.map(|finite| finite.f_logical_and(&loss.detach().isfinite())).transpose()?)
}

/// Dropout is drawn by libtorch's own generator, seeded anew for every step, so that a step does not depend on those before.
pub(super) fn seed_dropout(streams: &Streams, context: &Context) {
    tch::manual_seed(streams.named("libtorch").numbered(context.iteration).number() as i64);
}

/// Runs one training step; if it fails, parameters and running statistics are as before. Where it is not known yet whether it
/// has failed, the step says so with a flag on the GPU, and they are put back there, without waiting.
pub(super) fn undone_on_failure(model: &Model, step: impl FnOnce() -> Result<Option<Tensor>>) -> Result<()> {
    // On a CPU a step changes the parameters last, and then it has not failed.
    let parameters = model.parameters().iter().filter(|_| model.device().is_cuda());
    let before = Before::of(model.buffers().iter().chain(parameters))?;
    match step() {
        Ok(None) => Ok(()),
        Ok(Some(finite)) => before.put_back_unless(&finite),
        Err(error) => {
            before.put_back()?;
            Err(error)
        }
    }
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
    /// Trains `model`. A failure leaves it as it was before the failing step. On a GPU, which is not waited for, a loss that is not
    /// finite is noticed up to two steps later: those after it, if theirs were finite, then stay.
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
        match self.epochs(&model, context, after_epoch) {
            Ok(kept) => Trained { model: kept.unwrap_or(model), failure: None },
            Err(failure) => Trained { model, failure: Some(failure) },
        }
    }

    /// All epochs; the network that takes the place of `model`, where the recipe averages or chooses.
    fn epochs(
        &self,
        model: &Model,
        context: &Context,
        after_epoch: &mut dyn FnMut(&Model) -> Result<()>,
    ) -> Result<Option<Model>> {
        let Self { training, .. } = self;
        let (split, validation) = parts(self.split, training, &self.streams)?;
        let mut progress = Progress::new(model, training);
        let begin = match self.observer.resumed() {
            Some(Checkpoint { iteration, state }) => {
                self.load(model, &mut progress, context, state)?;
                iteration
            }
            None => 0,
        };
        let per_epoch = split.len().div_ceil(training.batch_size) as u64;
        let iterations = per_epoch * training.epochs as u64;
        for epoch in begin.checked_div(per_epoch).unwrap_or(0)..training.epochs as u64 {
            let order = self.streams.named("order").numbered(epoch).permutation(split.len());
            let first = begin.max(epoch * per_epoch);
            let done = (first - epoch * per_epoch) as usize;
            let lists = order.chunks(training.batch_size).skip(done).map(<[i64]>::to_vec).collect();
            let streams = self.streams.named("augment").numbered(epoch);
            let batches = split.batches(lists, View { augment: training.augment.clone(), streams });
            for (iteration, batch) in (first..).zip(batches) {
                self.observer.iteration(iteration, iterations);
                let context = context.at(iteration, iterations);
                self.observer.checkpoint(iteration, &mut || self.save(model, &progress, &context))?;
                let step =
                    || self.step(model, &mut progress.optimizer, batch?.to_device(context.device)?, &context);
                undone_on_failure(model, step)?;
                if let Some(average) = &mut progress.average {
                    average.update(model)?;
                }
            }
            if let Some(validation) = &validation {
                let present = progress.present(model);
                let right = right(present, validation, training.batch_size, context)?;
                let accuracy = Tensor::from(right as f64 / validation.len() as f64);
                context.recorder.metric("validation/accuracy", &accuracy);
                if progress.best.as_ref().is_none_or(|(most, _)| right > *most) {
                    progress.best = Some((right, present.copy(present.parameters()[0].kind(), true)));
                }
            }
            after_epoch(model)?;
        }
        self.observer.settled()?;
        Ok(progress.into_model())
    }

    fn save(&self, model: &Model, progress: &Progress, context: &Context) -> Result<State> {
        let parts = Parts::default().with("progress", progress.save(model));
        Ok(parts.with("loss", self.loss.save(context)?).into())
    }

    fn load(&self, model: &Model, progress: &mut Progress, context: &Context, state: State) -> Result<()> {
        let mut parts = Parts::try_from(state)?;
        progress.load(model, parts.take("progress")?)?;
        self.loss.load(context, parts.take("loss")?)
    }

    fn step(
        &self,
        model: &Model,
        optimizer: &mut OptimizerState,
        Loaded { images, labels, ids }: Loaded,
        context: &Context,
    ) -> Result<Option<Tensor>> {
        seed_dropout(&self.streams, context);
        let total = self.loss.step(context, model, &Batch::pixels(&images, &labels, &ids))?;
        let Training { schedule, warmup, .. } = self.training;
        let rate = schedule.rate_after_warmup(*warmup, context.iteration, context.iterations);
        descend(model, "loss/total", &total, optimizer, rate, context)
    }
}

/// How many iterations training on `split` has, in all epochs.
///
/// # Errors
/// If there are no images to choose the best epoch on, though it is to be chosen.
pub(super) fn iterations(split: &Split, training: &Training, streams: &Streams) -> Result<u64> {
    let (split, _) = parts(split, training, streams)?;
    Ok((split.len().div_ceil(training.batch_size) * training.epochs) as u64)
}

/// What is trained on, and what the best epoch is chosen on, if one is.
fn parts(split: &Split, training: &Training, streams: &Streams) -> Result<(Split, Option<Split>)> {
    let Training { keep, validation_share, .. } = *training;
    if keep == KeptEpoch::Last {
        return Ok((split.clone(), None));
    }
    let (rest, validation) = split.without(validation_share, &streams.named("validation"));
    if rest.is_empty() || validation.is_empty() {
        return Err(Error::new(format!(
            "a share of {validation_share} of {} images leaves {} to train on and {} to choose on",
            split.len(),
            rest.len(),
            validation.len()
        ))
        .help("change `training.validation_share`, or keep the last epoch"));
    }
    Ok((rest, Some(validation)))
}

/// How many images of `split` the network decides rightly.
fn right(model: &Model, split: &Split, batch_size: usize, context: &Context) -> Result<usize> {
    let network = model.frozen();
    split.in_order(batch_size).try_fold(0, |right, batch| {
        let Loaded { images, labels, .. } = batch?.to_device(context.device)?;
        let decided = network.eval_logits(&images)?.argmax(-1, false).eq_tensor(&labels);
        Ok(right + decided.sum(Kind::Int64).int64_value(&[]) as usize)
    })
}
