//! Synthetic images: the loop around an objective (SRe2L calls it recover).

mod group;
mod part;
mod state;

pub use group::ImageGroup;
pub use part::Part;

use self::{
    group::whitened_space,
    state::{Done, Methods},
};
use super::{
    first_images::{first_images, given_set},
    lab::{HostLab, Room},
    training_loss::WeightedRegularizer,
};
use crate::{
    plugin::{Context, Hosted},
    random::Streams,
    recipe::{FirstImages, Optimizer, Schedule},
    run::{Checkpoint, Observer, Shard},
};
use guard_sdk::{
    Device, Error, Kind, Lab, Pass, Result, Tensor,
    abi::calls::ObjectiveInstance,
    autograd::no_grad,
    lab::LabBackend,
    objective::{Initial, Needs, SoftLabelStart, Together},
};

/// Synthetic images and their classes.
pub struct SyntheticSet {
    /// `[N,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
    /// Class probabilities `[N,K]`, where they were learned.
    pub soft_labels: Option<Tensor>,
    /// The objective's last loss, the mean over what was optimised apart.
    pub loss: f64,
    /// What was learned besides the images, by name.
    pub learned: Vec<(String, f64)>,
}

/// Why distillation stopped, and the images as they were before the failing step.
pub struct Stopped {
    /// The failure.
    pub failure: Error,
    /// What there was by then; unfinished groups as far as they came.
    pub last_good: Option<SyntheticSet>,
}

impl From<Error> for Box<Stopped> {
    fn from(failure: Error) -> Self {
        Box::new(Stopped { failure, last_good: None })
    }
}

/// What distillation takes.
pub struct Distiller<'a> {
    /// What was prepared for the objective.
    pub room: &'a Room<'a>,
    /// What the images start from, unless the objective makes its own.
    pub start: FirstImages,
    /// How many steps each group gets.
    pub iterations: u64,
    /// Of the images.
    pub optimizer: Optimizer,
    /// Of its learning rate.
    pub schedule: Schedule,
    /// First images.
    pub streams: Streams,
    /// Watches.
    pub observer: &'a dyn Observer,
}

impl Distiller<'_> {
    /// Makes the synthetic set.
    ///
    /// # Errors
    /// Those of the objective and the regularizers.
    pub fn run(
        &self,
        context: &Context,
        objective: &mut Hosted<ObjectiveInstance>,
        regularizers: &mut [WeightedRegularizer],
    ) -> Result<SyntheticSet, Box<Stopped>> {
        let Room { needs, spec, .. } = self.room;
        if needs.given_set {
            return Ok(given_set(self.room, &self.start, context)?);
        }
        let own = self.own(context, objective)?;
        if let Some(own) = own.as_ref().filter(|_| self.iterations == 0) {
            let group = ImageGroup::new(spec, needs, &self.optimizer, &own.images, &own.labels, Vec::new());
            return Ok(SyntheticSet {
                images: group.pixels(spec),
                labels: own.labels.shallow_clone(),
                soft_labels: None,
                loss: 0.0,
                learned: Vec::new(),
            });
        }
        let done = self.groups(context, objective, regularizers, own.as_ref(), Shard::WHOLE)?;
        Ok(in_order_of_ids(done.into_iter().map(|(_, done)| done).collect()))
    }

    /// Makes a part of it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn part(
        &self,
        context: &Context,
        objective: &mut Hosted<ObjectiveInstance>,
        regularizers: &mut [WeightedRegularizer],
        shard: Shard,
    ) -> Result<Part, Box<Stopped>> {
        let own = self.own(context, objective)?;
        Ok(Part(self.groups(context, objective, regularizers, own.as_ref(), shard)?))
    }

    /// The images that the objective itself starts from, if it does.
    fn own(&self, context: &Context, objective: &mut Hosted<ObjectiveInstance>) -> Result<Option<Initial>> {
        objective.initialise(context, &Lab::lend(&HostLab { room: self.room, context: *context }))
    }

    /// The groups of a part, one after the other, by number.
    fn groups(
        &self,
        context: &Context,
        objective: &mut Hosted<ObjectiveInstance>,
        regularizers: &mut [WeightedRegularizer],
        own: Option<&Initial>,
        shard: Shard,
    ) -> Result<Vec<(usize, Done)>, Box<Stopped>> {
        let Room { info, needs, spec, .. } = self.room;
        let groups = together(needs, info.classes as u64, info.images_per_class as u64);
        let groups: Vec<(usize, Vec<u64>)> =
            groups.into_iter().enumerate().filter(|(number, _)| shard.has(*number)).collect();
        let like = Tensor::zeros([0], (Kind::Float, context.device));
        let whitening = whitened_space(spec, needs, &like)?;
        let mut methods = Methods { objective, regularizers };
        let (mut done, mut cut): (Vec<Done>, _) = (Vec::new(), None);
        if let Some(Checkpoint { iteration, state }) = self.observer.resumed() {
            let (before, group) = self.load(context, &mut methods, &groups, state)?;
            (done, cut) = (before, Some((iteration, group)));
        }
        for (place, (number, ids)) in groups.iter().enumerate().skip(done.len()) {
            let streams = self.streams.named("group").numbered(*number as u64);
            let (images, labels) = match own {
                Some(own) => {
                    let positions: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
                    let positions = Tensor::from_slice(&positions).to_device(context.device);
                    let select = |tensor: &Tensor| tensor.f_index_select(0, &positions).map_err(Error::from);
                    (select(&own.images)?, select(&own.labels)?)
                }
                None => first_images(self.room, &self.start, &self.streams, context, ids)?,
            };
            let mut group = ImageGroup::new(spec, needs, &self.optimizer, &images, &labels, ids.clone())
                .learned_in(whitening.clone());
            if needs.learn_soft_labels && needs.soft_label_updates.start == SoftLabelStart::Expert {
                group = group.with_soft_labels(needs, &self.expert_answers(context, &images)?);
            }
            let (begin, total) = (place as u64 * self.iterations, self.iterations * groups.len() as u64);
            let (mut first, mut loss) = (0, Tensor::from(0.0));
            if let Some((iteration, state)) = cut.take() {
                first = iteration.saturating_sub(begin);
                group.load(state)?;
            }
            for iteration in first..self.iterations {
                self.observer.iteration(begin + iteration, total);
                let context = Context { random: &streams, ..context.at(iteration, self.iterations) };
                let rate = self.schedule.rate(iteration, self.iterations);
                let mut state = || self.save(&context, &mut methods, &done, &group);
                let stepped = self.observer.checkpoint(begin + iteration, &mut state).and_then(|()| {
                    let Methods { objective, regularizers } = &mut methods;
                    group.step(&context, objective, regularizers, self.room, rate)
                });
                match stepped {
                    Ok(now) => loss = now,
                    Err(failure) => {
                        done.push(group.finished(spec, value_of(&loss)));
                        return Err(Box::new(Stopped { failure, last_good: Some(in_order_of_ids(done)) }));
                    }
                }
            }
            done.push(group.finished(spec, value_of(&loss)));
        }
        if let Err(failure) = self.observer.settled() {
            return Err(Box::new(Stopped { failure, last_good: Some(in_order_of_ids(done)) }));
        }
        Ok(groups.into_iter().map(|(number, _)| number).zip(done).collect())
    }

    /// Class probabilities `[N,K]` that the last snapshot of the first expert gives `images`.
    fn expert_answers(&self, context: &Context, images: &Tensor) -> Result<Tensor> {
        let lab = HostLab { room: self.room, context: *context };
        let last = lab.experts()?.snapshots.saturating_sub(1);
        let expert = lab.expert(0, last)?;
        let logits = no_grad(|| expert.lend().pass(images, Pass::new(self.room.needs.space)))?.logits;
        Ok(logits.f_softmax(-1, None::<Kind>)?)
    }
}

/// A scalar's number.
fn value_of(scalar: &Tensor) -> f64 {
    scalar.f_double_value(&[]).unwrap_or(f64::NAN)
}

/// The ids of the images that are optimised together, group by group. Image `index` of class `class` has the id
/// `class · per_class + index`.
pub fn together(needs: &Needs, classes: u64, per_class: u64) -> Vec<Vec<u64>> {
    let ids_of = |indices: std::ops::Range<u64>| -> Vec<u64> {
        (0..classes).flat_map(|class| indices.clone().map(move |index| class * per_class + index)).collect()
    };
    match needs.together {
        Together::All => vec![ids_of(0..per_class)],
        Together::OneImagePerClass => {
            let at_once = if needs.classes_together == 0 { classes } else { needs.classes_together };
            let of_each_class = (0..per_class).map(|index| ids_of(index..index + 1));
            let batches =
                |ids: Vec<u64>| ids.chunks(at_once.max(1) as usize).map(<[u64]>::to_vec).collect::<Vec<_>>();
            of_each_class.flat_map(batches).collect()
        }
    }
}

/// The groups' images and labels, sorted by id: class by class; the mean of their losses, and what the last one learned
/// besides.
fn in_order_of_ids(groups: Vec<Done>) -> SyntheticSet {
    let ids: Vec<i64> = groups.iter().flat_map(|(ids, _)| ids.iter().map(|&id| id as i64)).collect();
    let order = Tensor::from_slice(&ids).argsort(0, false);
    let ordered = |tensors: Vec<&Tensor>| {
        let order = order.to_device(tensors.first().map_or(Device::Cpu, |tensor| tensor.device()));
        Tensor::cat(&tensors, 0).index_select(0, &order)
    };
    let of_all =
        |part: fn(&SyntheticSet) -> &Tensor| ordered(groups.iter().map(|(_, set)| part(set)).collect());
    let soft_labels: Vec<&Tensor> = groups.iter().filter_map(|(_, set)| set.soft_labels.as_ref()).collect();
    SyntheticSet {
        images: of_all(|set| &set.images),
        labels: of_all(|set| &set.labels),
        soft_labels: (!soft_labels.is_empty()).then(|| ordered(soft_labels)),
        loss: groups.iter().map(|(_, set)| set.loss).sum::<f64>() / groups.len() as f64,
        learned: groups.last().map_or(Vec::new(), |(_, set)| set.learned.clone()),
    }
}
