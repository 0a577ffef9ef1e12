//! Synthetic images: the loop around an objective (SRe2L calls it recover).

mod part;
mod state;

pub use part::Part;

use self::state::{Done, Methods};
use super::{
    first_images::{first_images, given_set},
    lab::{HostLab, Room},
    optimizer::OptimizerState,
    soft_labels::SoftLabels,
    training_loss::{WeightedRegularizer, finite, finite_gradients},
};
use crate::{
    network::{Inverse, Model, NetworkSpec, Whitening},
    plugin::{Context, Hosted},
    random::Streams,
    recipe::{FirstImages, Optimizer, Schedule, Sgd},
    run::{Checkpoint, Observer, Shard},
};
use guard_sdk::{
    Batch, Device, Error, Kind, Lab, Network, Pass, Result, Space, Synthetic, Tensor, Value,
    abi::calls::ObjectiveInstance,
    autograd::{Graph, grad, no_grad},
    lab::LabBackend,
    network::channel_values,
    objective::{Initial, Learnable, Needs, SoftLabelStart, Together},
};
use std::rc::Rc;

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

/// Images that are optimised together, and what is remembered of them.
pub struct ImageGroup {
    images: Tensor,
    labels: Tensor,
    soft_labels: Option<SoftLabels>,
    learnables: Vec<(Learnable, Tensor)>,
    /// Of each learnable.
    learnable_updates: Vec<OptimizerState>,
    ids: Vec<u64>,
    space: Space,
    /// The least and greatest valid value per channel.
    range: (Tensor, Tensor),
    optimizer: OptimizerState,
    /// The space that normalised images are learned in, where the network whitens.
    whitening: Option<Rc<Inverse>>,
    /// What image-side regularizers see: the teacher where there is one, else a fresh network.
    image_side: Option<Model>,
}

impl ImageGroup {
    /// Starts from `images` `[N,C,H,W]` in the space of `needs`; soft labels, where they are learned, from hard ones.
    pub fn new(
        spec: &NetworkSpec,
        needs: &Needs,
        optimizer: &Optimizer,
        images: &Tensor,
        labels: &Tensor,
        ids: Vec<u64>,
    ) -> Self {
        let zero = channel_values(&vec![0.0; spec.mean.len()], images);
        let range = match needs.space {
            Space::Pixels => (zero.shallow_clone(), &zero + 1.0),
            Space::Normalised => {
                let (mean, std) = (channel_values(&spec.mean, images), channel_values(&spec.std, images));
                ((&zero - &mean) / &std, (1.0 - &mean) / &std)
            }
        };
        let learnable = |learnable: &Learnable| {
            let value = Tensor::full([0i64; 0], learnable.initial, (images.kind(), images.device()))
                .set_requires_grad(true);
            (learnable.clone(), value)
        };
        let one_hot = || labels.one_hot(spec.classes).to_kind(images.kind());
        Self {
            whitening: None,
            images: images.detach().copy().set_requires_grad(true),
            soft_labels: needs
                .learn_soft_labels
                .then(|| SoftLabels::new(&one_hot(), needs.soft_label_updates)),
            labels: labels.shallow_clone(),
            learnables: needs.learnables.iter().map(learnable).collect(),
            learnable_updates: needs.learnables.iter().map(learnable_updates).collect(),
            ids,
            space: needs.space,
            range,
            optimizer: OptimizerState::new(optimizer),
            image_side: None,
        }
    }

    /// The same, learned in whitened space.
    pub fn learned_in(self, whitening: Option<Rc<Inverse>>) -> Self {
        Self { whitening, ..self }
    }

    /// The same with soft labels that start from `initial` `[N,K]`, where they are learned.
    pub fn with_soft_labels(self, needs: &Needs, initial: &Tensor) -> Self {
        let soft_labels = self.soft_labels.map(|_| SoftLabels::new(initial, needs.soft_label_updates));
        Self { soft_labels, ..self }
    }

    /// The present class probabilities `[N,K]`, where they are learned.
    pub fn soft_labels(&self) -> Option<Tensor> {
        self.soft_labels.as_ref().map(|soft_labels| soft_labels.values().detach())
    }

    /// The present images `[N,C,H,W]` in the group's space.
    pub fn images(&self) -> Tensor {
        self.images.detach()
    }

    /// One step: the objective's loss and the weighted image regularizers, gradients, optimiser, clamp to the valid range.
    /// Returns the loss before the step.
    ///
    /// # Errors
    /// Those of the methods; code `non-finite` if a term is not finite. The images are then as before.
    pub fn step(
        &mut self,
        context: &Context,
        objective: &mut Hosted<ObjectiveInstance>,
        regularizers: &mut [WeightedRegularizer],
        room: &Room,
        rate: f64,
    ) -> Result<f64> {
        let host_lab = HostLab { room, context: *context };
        let lab = Lab::lend(&host_lab);
        let value = self.lend(|synthetic| objective.value(context, synthetic, &lab))?;
        let Self { images, labels, soft_labels, learnables, ids, space, image_side, .. } = self;
        let (images, labels, learnables, ids) = (&*images, &*labels, &*learnables, &*ids);
        let mut learned = vec![images];
        learned.extend(soft_labels.as_ref().map(SoftLabels::values));
        learned.extend(learnables.iter().map(|(_, value)| value));
        let who = Some(objective.who());
        let (Value::Loss(loss) | Value::Gradients { loss, .. }) = &value;
        finite(objective.label(), who, context, loss)?;
        let (loss, mut gradients) = match value {
            Value::Loss(loss) => {
                let gradients = grad(&loss, &learned, Graph::Free)?;
                (loss, gradients)
            }
            Value::Gradients { loss, gradients } => (loss, gradients),
        };
        finite_gradients(objective.label(), who, context, &gradients)?;
        context.recorder.metric(&format!("loss/{}", objective.label()), &loss);
        let mut total = loss.detach();
        if !regularizers.is_empty() {
            let batch = Batch { images, labels, soft_labels: None, ids, space: *space };
            let network = match image_side {
                Some(network) => &*network,
                none => &*none.insert(image_side_network(&host_lab)?),
            };
            for WeightedRegularizer { weight, regularizer } in regularizers {
                let penalty = regularizer.penalty(context, &Network::lend(network), &batch)?;
                let (label, who) = (regularizer.label(), Some(regularizer.who()));
                finite(label, who, context, &penalty)?;
                let weighted = &penalty * *weight;
                context.recorder.metric(&format!("loss/{label}"), &penalty);
                context.recorder.metric(&format!("loss/{label}/weighted"), &weighted);
                total = total.f_add(&weighted.detach())?;
                let gradient = grad(&weighted, &[images], Graph::Free)?;
                finite_gradients(label, who, context, &gradient)?;
                // Not in place: the plugin may hold on to what it returned.
                gradients[0] = gradients[0].f_add(&gradient[0])?;
            }
        }
        context.recorder.metric("loss/total", &total);
        self.apply(&gradients, rate)?;
        self.lend(|synthetic| objective.after_step(context, synthetic, &lab))?;
        Ok(total.f_double_value(&[])?)
    }

    /// Lends the present images and learnables.
    fn lend<T>(&self, body: impl FnOnce(&Synthetic) -> T) -> T {
        let Self { images, labels, soft_labels, learnables, ids, space, .. } = self;
        let soft_labels = soft_labels.as_ref().map(SoftLabels::values);
        let learnables: Vec<(&str, &Tensor)> =
            learnables.iter().map(|(learnable, value)| (learnable.name.as_str(), value)).collect();
        body(&Synthetic { images, labels, soft_labels, learnables: &learnables, ids, space: *space })
    }

    fn apply(&mut self, gradients: &[Tensor], rate: f64) -> Result<()> {
        self.apply_to_images(&gradients[0], rate)?;
        let mut rest = &gradients[1..];
        if let (Some(soft_labels), [gradient, others @ ..]) = (&mut self.soft_labels, rest) {
            soft_labels.step(gradient)?;
            rest = others;
        }
        no_grad(|| {
            let learned = self.learnables.iter_mut().zip(&mut self.learnable_updates).zip(rest);
            for (((learnable, value), updates), gradient) in learned {
                updates.step(&[value.shallow_clone()], std::slice::from_ref(gradient), 1.0)?;
                if let Some(minimum) = learnable.minimum {
                    let _ = value.f_clamp_min_(minimum)?;
                }
            }
            Ok(())
        })
    }

    /// A step of the images in the space that they are learned in, and the clamp.
    fn apply_to_images(&mut self, gradient: &Tensor, rate: f64) -> Result<()> {
        let Self { images, optimizer, whitening, range, .. } = self;
        let stepped = match whitening {
            None => {
                optimizer.step(&[images.shallow_clone()], std::slice::from_ref(gradient), rate)?;
                images.detach()
            }
            Some(whitening) => {
                let whitened = whitening.whiten(&images.detach())?;
                optimizer.step(&[whitened.shallow_clone()], &[whitening.gradient(gradient)?], rate)?;
                whitening.unwhiten(&whitened)?
            }
        };
        no_grad(|| Ok(images.f_copy_(&stepped.f_clamp_tensor(Some(&range.0), Some(&range.1))?)?))
    }

    /// What there is now, with the group's ids.
    fn finished(&self, spec: &NetworkSpec, loss: f64) -> Done {
        let learned = |(of, value): &(Learnable, Tensor)| (of.name.clone(), value.double_value(&[]));
        let set = SyntheticSet {
            images: self.pixels(spec),
            labels: self.labels.shallow_clone(),
            soft_labels: self.soft_labels(),
            loss,
            learned: self.learnables.iter().map(learned).collect(),
        };
        (self.ids.clone(), set)
    }

    /// The images as pixels in [0,1].
    fn pixels(&self, spec: &NetworkSpec) -> Tensor {
        let images = self.images();
        match self.space {
            Space::Pixels => images,
            Space::Normalised => {
                let pixels =
                    &images * channel_values(&spec.std, &images) + channel_values(&spec.mean, &images);
                pixels.clamp(0.0, 1.0)
            }
        }
    }
}

/// The space that images are learned in where the network whitens and the objective works behind the normalisation.
fn whitened_space(spec: &NetworkSpec, needs: &Needs, like: &Tensor) -> Result<Option<Rc<Inverse>>> {
    let whitening = spec.whitening.as_ref().filter(|_| needs.space == Space::Normalised);
    let inverse = |whitening: &Whitening| Ok(Rc::new(whitening.map(spec.input, like)?.inverse()?));
    whitening.map(inverse).transpose()
}

fn learnable_updates(learnable: &Learnable) -> OptimizerState {
    let Learnable { learning_rate, momentum, .. } = *learnable;
    OptimizerState::new(&Optimizer::Sgd(Sgd { learning_rate, momentum, weight_decay: 0.0, nesterov: false }))
}

/// See [`ImageGroup::image_side`].
fn image_side_network(lab: &HostLab) -> Result<Model> {
    match lab.room.teacher {
        Some(teacher) => Ok(teacher.frozen()),
        None => {
            Ok(Model::fresh(lab.room.spec, &lab.room.streams.named("image-side"), lab.context.device)?
                .frozen())
        }
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
            let (mut first, mut loss) = (0, 0.0);
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
                        done.push(group.finished(spec, loss));
                        return Err(Box::new(Stopped { failure, last_good: Some(in_order_of_ids(done)) }));
                    }
                }
            }
            done.push(group.finished(spec, loss));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Architecture, Convnet};

    /// z ← z − α W⁻¹ ∂L/∂x, with momentum, and the clamp in pixels; by matrices.
    #[test]
    fn images_of_a_network_that_whitens_are_learned_in_whitened_space() {
        let streams = Streams::new(4);
        let double = |name: &str, shape: &[i64]| streams.normal(name, shape, Kind::Double).unwrap();
        let (mean, root) = (double("mean", &[4]), double("root", &[4, 4]));
        let matrix = root.matmul(&root.tr()) + Tensor::eye(4, (Kind::Double, Device::Cpu));
        let (mean, matrix) = (mean.to_kind(Kind::Float), matrix.to_kind(Kind::Float));
        let spec = NetworkSpec {
            architecture: Architecture::Convnet(Convnet::default()),
            input: [1, 2, 2],
            classes: 2,
            mean: vec![0.5],
            std: vec![0.25],
            whitening: Some(Whitening::of_tensors(None, &mean, &matrix).unwrap()),
        };
        let (mean, matrix) = (mean.to_kind(Kind::Double), matrix.to_kind(Kind::Double));
        let needs = Needs { space: Space::Normalised, ..Needs::default() };
        let sgd = Sgd { learning_rate: 0.5, momentum: 0.5, weight_decay: 0.0, nesterov: false };
        let first = double("images", &[3, 1, 2, 2]) * 0.1;
        let labels = Tensor::zeros([3], (Kind::Int64, Device::Cpu));
        let ids = vec![0, 1, 2];
        let optimizer = Optimizer::Sgd(sgd);
        let mut group = ImageGroup::new(&spec, &needs, &optimizer, &first, &labels, ids)
            .learned_in(whitened_space(&spec, &needs, &first).unwrap());

        let mut images = first.reshape([3, 4]);
        let mut velocity = images.zeros_like();
        for step in ["one", "two"] {
            let gradient = double(step, &[3, 1, 2, 2]);
            group.apply(&[gradient.shallow_clone()], 1.0).unwrap();
            velocity = velocity * 0.5 + gradient.reshape([3, 4]).matmul(&Tensor::linalg_inv(&matrix));
            let whitened = (&images - &mean).matmul(&matrix) - &velocity * 0.5;
            images = (whitened.matmul(&Tensor::linalg_inv(&matrix)) + &mean).clamp(-2.0, 2.0);
            let found = group.images().reshape([3, 4]);
            assert!((found - &images).abs().max().double_value(&[]) < 1e-10);
        }
        assert!((&images - first.reshape([3, 4])).abs().max().double_value(&[]) > 0.01);
    }
}
