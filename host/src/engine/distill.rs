//! Synthetic images: the loop around an objective (SRe2L calls it recover).

use super::{
    lab::{HostLab, Room},
    optimizer::OptimizerState,
    training_loss::{WeightedRegularizer, finite, finite_gradients},
};
use crate::{
    network::{Model, NetworkSpec},
    plugin::{Context, Hosted},
    random::Streams,
    recipe::{Optimizer, Schedule, Sgd},
    run::Observer,
};
use guard_sdk::{
    Batch, Device, Error, Kind, Lab, Network, Result, Space, Synthetic, Tensor, Value,
    abi::calls::ObjectiveInstance,
    autograd::{Graph, grad, no_grad},
    lab::LabBackend,
    network::channel_values,
    objective::{Learnable, Needs, Start, Together},
    services::Distribution,
};

/// Synthetic images and their classes.
pub struct SyntheticSet {
    /// `[N,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
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
    learnables: Vec<(Learnable, Tensor)>,
    /// Of each learnable.
    learnable_updates: Vec<OptimizerState>,
    ids: Vec<u64>,
    space: Space,
    /// The least and greatest valid value per channel.
    range: (Tensor, Tensor),
    optimizer: OptimizerState,
    /// What image-side regularizers see: the teacher where there is one, else a fresh network.
    image_side: Option<Model>,
}

impl ImageGroup {
    /// Starts from `images` `[N,C,H,W]` in the space of `needs`.
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
        Self {
            images: images.detach().copy().set_requires_grad(true),
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
        let Self { images, labels, learnables, ids, space, image_side, .. } = self;
        let (images, labels, learnables, ids) = (&*images, &*labels, &*learnables, &*ids);
        let mut learned = vec![images];
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
        let Self { images, labels, learnables, ids, space, .. } = self;
        let learnables: Vec<(&str, &Tensor)> =
            learnables.iter().map(|(learnable, value)| (learnable.name.as_str(), value)).collect();
        body(&Synthetic { images, labels, soft_labels: None, learnables: &learnables, ids, space: *space })
    }

    fn apply(&mut self, gradients: &[Tensor], rate: f64) -> Result<()> {
        self.optimizer.step(&[self.images.shallow_clone()], &gradients[..1], rate)?;
        no_grad(|| {
            let clamped = self.images.f_clamp_tensor(Some(&self.range.0), Some(&self.range.1))?;
            self.images.f_copy_(&clamped)?;
            let learned = self.learnables.iter_mut().zip(&mut self.learnable_updates).zip(&gradients[1..]);
            for (((learnable, value), updates), gradient) in learned {
                updates.step(&[value.shallow_clone()], std::slice::from_ref(gradient), 1.0)?;
                if let Some(minimum) = learnable.minimum {
                    let _ = value.f_clamp_min_(minimum)?;
                }
            }
            Ok(())
        })
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
    /// How many iterations each group gets.
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
        let Room { info, needs, spec, .. } = self.room;
        let (classes, per_class) = (info.classes as u64, info.images_per_class as u64);
        let own =
            objective.initialise(context, &Lab::lend(&HostLab { room: self.room, context: *context }))?;
        if let Some(own) = own.as_ref().filter(|_| self.iterations == 0) {
            let group = ImageGroup::new(spec, needs, &self.optimizer, &own.images, &own.labels, Vec::new());
            return Ok(SyntheticSet {
                images: group.pixels(spec),
                labels: own.labels.shallow_clone(),
                loss: 0.0,
                learned: Vec::new(),
            });
        }
        // Image `index` of class `class` has the id `class · per_class + index`.
        let ids_of = |indices: std::ops::Range<u64>| -> Vec<u64> {
            (0..classes)
                .flat_map(|class| indices.clone().map(move |index| class * per_class + index))
                .collect()
        };
        let groups: Vec<Vec<u64>> = match needs.together {
            Together::All => vec![ids_of(0..per_class)],
            Together::OneImagePerClass => {
                let at_once = if needs.classes_together == 0 { classes } else { needs.classes_together };
                let of_each_class = (0..per_class).map(|index| ids_of(index..index + 1));
                of_each_class
                    .flat_map(|ids| {
                        ids.chunks(at_once.max(1) as usize).map(<[u64]>::to_vec).collect::<Vec<_>>()
                    })
                    .collect()
            }
        };
        let (mut done, mut losses, mut learned) = (Vec::new(), Vec::new(), Vec::new());
        for (number, ids) in groups.iter().enumerate() {
            let streams = self.streams.named("group").numbered(number as u64);
            let (images, labels) = match &own {
                Some(own) => {
                    let positions: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
                    let positions = Tensor::from_slice(&positions).to_device(context.device);
                    let select = |tensor: &Tensor| tensor.f_index_select(0, &positions).map_err(Error::from);
                    (select(&own.images)?, select(&own.labels)?)
                }
                None => self.first_images(context, ids, per_class)?,
            };
            let mut group = ImageGroup::new(spec, needs, &self.optimizer, &images, &labels, ids.clone());
            let total = self.iterations * groups.len() as u64;
            let mut loss = 0.0;
            for iteration in 0..self.iterations {
                self.observer.iteration(number as u64 * self.iterations + iteration, total);
                let context = Context { random: &streams, ..context.at(iteration, self.iterations) };
                let rate = self.schedule.rate(iteration, self.iterations);
                match group.step(&context, objective, regularizers, self.room, rate) {
                    Ok(now) => loss = now,
                    Err(failure) => {
                        done.push((ids, group.pixels(spec), labels));
                        let (images, labels) = in_order_of_ids(&done);
                        let last_good = Some(SyntheticSet { images, labels, loss, learned: Vec::new() });
                        return Err(Box::new(Stopped { failure, last_good }));
                    }
                }
            }
            losses.push(loss);
            learned = group
                .learnables
                .iter()
                .map(|(of, value)| (of.name.clone(), value.double_value(&[])))
                .collect();
            done.push((ids, group.pixels(spec), labels));
        }
        let (images, labels) = in_order_of_ids(&done);
        Ok(SyntheticSet { images, labels, loss: losses.iter().sum::<f64>() / losses.len() as f64, learned })
    }

    fn first_images(&self, context: &Context, ids: &[u64], per_class: u64) -> Result<(Tensor, Tensor)> {
        let Room { info, needs, spec, .. } = self.room;
        let classes: Vec<i64> = ids.iter().map(|id| (id / per_class) as i64).collect();
        let labels = Tensor::from_slice(&classes).to_device(context.device);
        match needs.start {
            Start::Noise => {
                let noise =
                    self.streams.named("noise").rows(ids, &info.image, Distribution::Normal, Kind::Float)?;
                let noise = noise.to_device(context.device);
                // Standard normal in normalised space; around the data's mean in pixels.
                let images = match needs.space {
                    Space::Normalised => noise,
                    Space::Pixels => (noise * channel_values(&spec.std, &labels.to_kind(Kind::Float))
                        + channel_values(&spec.mean, &labels.to_kind(Kind::Float)))
                    .clamp(0.0, 1.0),
                };
                Ok((images, labels))
            }
            Start::Real => {
                let lab = HostLab { room: self.room, context: *context };
                let batches: Vec<_> = (0..info.classes)
                    .map(|class| lab.real(Some(class), per_class, 0))
                    .collect::<Result<_>>()?;
                let images: Vec<Tensor> = ids
                    .iter()
                    .map(|id| batches[(id / per_class) as usize].images.get((id % per_class) as i64))
                    .collect();
                let pixels = Tensor::stack(&images, 0);
                let images = match needs.space {
                    Space::Pixels => pixels,
                    Space::Normalised => {
                        (&pixels - channel_values(&spec.mean, &pixels)) / channel_values(&spec.std, &pixels)
                    }
                };
                Ok((images, labels))
            }
        }
    }
}

/// The groups' images and labels, sorted by id: class by class.
fn in_order_of_ids(groups: &[(&Vec<u64>, Tensor, Tensor)]) -> (Tensor, Tensor) {
    let ids: Vec<i64> = groups.iter().flat_map(|(ids, _, _)| ids.iter().map(|&id| id as i64)).collect();
    let order = Tensor::from_slice(&ids).argsort(0, false);
    let images: Vec<&Tensor> = groups.iter().map(|(_, images, _)| images).collect();
    let labels: Vec<&Tensor> = groups.iter().map(|(_, _, labels)| labels).collect();
    let order = order.to_device(images.first().map_or(Device::Cpu, |images| images.device()));
    (Tensor::cat(&images, 0).index_select(0, &order), Tensor::cat(&labels, 0).index_select(0, &order))
}
