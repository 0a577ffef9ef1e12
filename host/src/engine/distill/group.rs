//! Images that are optimised together: one step of them.

use super::{SyntheticSet, state::Done};
use crate::{
    engine::{
        lab::{HostLab, Room},
        optimizer::OptimizerState,
        parts::{Parts, of_tensors, restore},
        soft_labels::SoftLabels,
        training_loss::{Gradients, WeightedRegularizer, finite, finite_gradients},
        undo::Before,
    },
    network::{Inverse, Model, NetworkSpec, Whitening},
    plugin::{Context, Hosted},
    recipe::{Optimizer, Sgd},
};
use guard_sdk::{
    Batch, Lab, Network, Result, Space, State, Synthetic, Tensor, Value,
    abi::calls::ObjectiveInstance,
    autograd::{Graph, grad, no_grad},
    network::channel_values,
    objective::{Learnable, Needs},
};
use std::rc::Rc;

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
    /// Returns the loss before the step, a scalar.
    ///
    /// # Errors
    /// Those of the methods; code `non-finite` if a term is not finite. What is learned is then as before; on a GPU,
    /// which is not waited for, the error comes later.
    pub fn step(
        &mut self,
        context: &Context,
        objective: &mut Hosted<ObjectiveInstance>,
        regularizers: &mut [WeightedRegularizer],
        room: &Room,
        rate: f64,
    ) -> Result<Tensor> {
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
        let (loss, gradients) = match value {
            Value::Loss(loss) => {
                let gradients = grad(&loss, &learned, Graph::Free)?;
                (loss, gradients)
            }
            Value::Gradients { loss, gradients } => (loss, gradients),
        };
        let Gradients { each: mut gradients, finite: mut kept } =
            finite_gradients(objective.label(), who, context, gradients)?;
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
                let of_term = finite_gradients(label, who, context, gradient)?;
                // Not in place: the plugin may hold on to what it returned.
                gradients[0] = gradients[0].f_add(&of_term.each[0])?;
                if let (Some(all), Some(this)) = (&mut kept, of_term.finite) {
                    *all = all.f_logical_and(&this)?;
                }
            }
        }
        context.recorder.metric("loss/total", &total);
        // A GPU is not waited for: what has failed is put back there.
        let learned = std::iter::once(&self.images)
            .chain(self.soft_labels.as_ref().map(SoftLabels::values))
            .chain(self.learnables.iter().map(|(_, value)| value));
        let before = Before::of(learned.filter(|_| kept.is_some()))?;
        self.apply(&gradients, rate)?;
        if let Some(kept) = kept {
            before.put_back_unless(&kept.f_logical_and(&total.isfinite())?)?;
        }
        self.lend(|synthetic| objective.after_step(context, synthetic, &lab))?;
        Ok(total)
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
    pub(super) fn finished(&self, spec: &NetworkSpec, loss: f64) -> Done {
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
    pub(super) fn pixels(&self, spec: &NetworkSpec) -> Tensor {
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

impl ImageGroup {
    /// What it needs to go on.
    pub(super) fn save(&self) -> State {
        let mut parts = Parts::default().with("learned", of_tensors(self.learned()));
        parts = parts.with("optimizer", self.optimizer.save());
        if let Some(soft_labels) = &self.soft_labels {
            parts = parts.with("soft-labels", soft_labels.save());
        }
        for (index, updates) in self.learnable_updates.iter().enumerate() {
            parts = parts.with(index, updates.save());
        }
        parts.into()
    }

    /// Puts back what was saved.
    ///
    /// # Errors
    /// If the state is that of another group.
    pub(super) fn load(&mut self, state: State) -> Result<()> {
        let mut parts = Parts::try_from(state)?;
        restore(&self.learned(), &parts.take("learned")?)?;
        self.optimizer.load(&parts.take("optimizer")?, std::slice::from_ref(&self.images))?;
        if let Some(soft_labels) = &mut self.soft_labels {
            soft_labels.load(parts.take("soft-labels")?)?;
        }
        for (index, updates) in self.learnable_updates.iter_mut().enumerate() {
            updates.load(&parts.take(index)?, std::slice::from_ref(&self.learnables[index].1))?;
        }
        Ok(())
    }

    /// The images and what is learned with them, but for the soft labels.
    fn learned(&self) -> Vec<(String, Tensor)> {
        let learnables = self.learnables.iter();
        let learnables = learnables.map(|(of, value)| (format!("learnable/{}", of.name), value.detach()));
        std::iter::once(("images".to_string(), self.images.detach())).chain(learnables).collect()
    }
}

/// The space that images are learned in where the network whitens and the objective works behind the normalisation.
pub(super) fn whitened_space(
    spec: &NetworkSpec,
    needs: &Needs,
    like: &Tensor,
) -> Result<Option<Rc<Inverse>>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{Architecture, Convnet},
        random::Streams,
    };
    use guard_sdk::{Device, Kind};

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
            precision: Default::default(),
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
