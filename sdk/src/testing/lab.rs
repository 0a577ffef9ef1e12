//! A lab for objectives, and the images that they are given.

use super::{SmallNetwork, device, normal, number, uniform};
use crate::{
    Batch, Error, Initial, Needs, Network, OwnedNetwork, Pass, Result, Space, Synthetic,
    autograd::{Graph, grad},
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
    objective::{Start, Together},
};
use tch::{Kind, Tensor};

/// Learning rate of the experts.
const LEARNING_RATE: f64 = 0.2;
/// Real images of each class.
const REAL_IMAGES: u64 = 12;

/// Has a teacher, fresh networks, experts that took a few steps, and real images; the training loss is the cross-entropy.
pub struct SmallLab {
    info: LabInfo,
    kind: Kind,
    snapshots: u64,
}

impl SmallLab {
    /// A lab for images of shape `input` `[C,H,W]` in `kind`, with two images per class and experts of as many epochs as
    /// `needs` asks for.
    pub fn new(input: [i64; 3], kind: Kind, needs: &Needs) -> Self {
        let info = LabInfo {
            classes: SmallNetwork::CLASSES,
            images_per_class: 2,
            image: input,
            real_images: vec![REAL_IMAGES; SmallNetwork::CLASSES as usize],
        };
        Self { info, kind, snapshots: needs.expert_epochs + 1 }
    }

    fn model(&self, seed: u64, trainable: bool) -> Result<SmallNetwork> {
        Ok(SmallNetwork::new(self.info.image, self.kind, seed)?.copy(trainable))
    }

    fn image(&self, class: i64, index: u64) -> Result<Tensor> {
        let [channels, height, width] = self.info.image;
        // Each class has its brightness, so that there is something to learn.
        let brightness = (class + 1) as f64 / (SmallNetwork::CLASSES + 1) as f64;
        let noise = uniform(number(("real", class, index)), &[1, channels, height, width])?;
        Ok((noise * 0.5 + 0.5 * brightness).f_to_kind(self.kind)?)
    }
}

impl LabBackend for SmallLab {
    fn info(&self) -> &LabInfo {
        &self.info
    }

    fn teacher(&self) -> Result<OwnedNetwork> {
        Ok(self.model(number("teacher"), false)?.owned())
    }

    fn fresh_network(&self, draw: u64) -> Result<OwnedNetwork> {
        Ok(self.model(number(("fresh", draw)), true)?.owned())
    }

    fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
        let classes = self.info.classes;
        if class.is_some_and(|class| !(0..classes).contains(&class)) {
            return Err(Error::new(format!("there are no real images of class {}", class.unwrap_or(-1))));
        }
        let chosen = (0..count).map(|index| {
            let class = class.unwrap_or(index as i64 % classes);
            (class, (draw + index) % REAL_IMAGES)
        });
        let chosen: Vec<(i64, u64)> = chosen.collect();
        let images = chosen.iter().map(|(class, index)| self.image(*class, *index));
        Ok(RealBatch {
            images: Tensor::f_cat(&images.collect::<Result<Vec<_>>>()?, 0)?,
            labels: Tensor::from_slice(&chosen.iter().map(|(class, _)| *class).collect::<Vec<_>>())
                .to_device(device()),
            ids: chosen.iter().map(|(class, index)| *class as u64 * REAL_IMAGES + index).collect(),
        })
    }

    fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
        let logits = network.pass(batch.images, Pass::new(batch.space))?.logits;
        Ok(batch.cross_entropy_each(&logits)?.f_mean(None::<Kind>)?)
    }

    fn experts(&self) -> Result<ExpertsInfo> {
        Ok(ExpertsInfo { trajectories: 1, snapshots: self.snapshots })
    }

    fn expert(&self, trajectory: u64, snapshot: u64) -> Result<OwnedNetwork> {
        if trajectory > 0 || snapshot >= self.snapshots {
            return Err(Error::new(format!("there is no snapshot {snapshot} of expert {trajectory}")));
        }
        let mut network = self.model(number("expert"), true)?;
        for epoch in 0..snapshot {
            let real = self.real(None, 8, epoch)?;
            let loss = self.training_loss(&Network::lend(&network), &real.batch())?;
            let parameters: Vec<&Tensor> = network.parameters().iter().collect();
            let gradients = grad(&loss, &parameters, Graph::Free)?;
            let moved: Vec<Tensor> = parameters
                .iter()
                .zip(&gradients)
                .map(|(parameter, gradient)| {
                    (parameter.detach() - gradient * LEARNING_RATE).set_requires_grad(true)
                })
                .collect();
            network = network.at(&moved);
        }
        Ok(network.owned())
    }
}

/// Synthetic images as a host prepares them for an objective.
pub struct SyntheticSet {
    /// `[N,C,H,W]`, a leaf that requires gradients.
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
    /// Class probabilities `[N,K]`, where they are learned.
    pub soft_labels: Option<Tensor>,
    /// What else is learned, by name.
    pub learnables: Vec<(String, Tensor)>,
    /// One per image.
    pub ids: Vec<u64>,
    /// What the images' values mean.
    pub space: Space,
}

impl SyntheticSet {
    /// What `needs` says, starting with `initial` if the objective made it.
    ///
    /// # Errors
    /// Those of the lab.
    pub fn new(lab: &SmallLab, needs: &Needs, initial: Option<Initial>) -> Result<Self> {
        let per_class = match needs.together {
            Together::All => lab.info.images_per_class,
            Together::OneImagePerClass => 1,
        };
        let labels: Vec<i64> =
            (0..lab.info.classes).flat_map(|class| vec![class; per_class as usize]).collect();
        let count = labels.len() as i64;
        let network = lab.model(0, false)?;
        let initial = match initial {
            Some(initial) => initial,
            None => {
                let [channels, height, width] = lab.info.image;
                let images = match needs.start {
                    Start::Noise => normal(number("noise"), &[count, channels, height, width])?,
                    Start::Real => {
                        let images = (0u64..)
                            .zip(&labels)
                            .map(|(index, class)| lab.image(*class, index % REAL_IMAGES));
                        let pixels = Tensor::f_cat(&images.collect::<Result<Vec<_>>>()?, 0)?;
                        Network::lend(&network).convert(&pixels, Space::Pixels, needs.space)
                    }
                };
                Initial { images, labels: Tensor::from_slice(&labels).to_device(device()) }
            }
        };
        let images = initial.images.f_to_kind(lab.kind)?.detach().copy();
        let scalar = |value: f64| Tensor::full([0i64; 0], value, (lab.kind, device()));
        let soft_labels = match needs.learn_soft_labels {
            true => {
                let hard = initial.labels.f_one_hot(lab.info.classes)?.f_to_kind(lab.kind)?;
                Some((hard * 0.8 + 0.05).set_requires_grad(true))
            }
            false => None,
        };
        Ok(Self {
            ids: (0..images.size()[0] as u64).collect(),
            images: images.set_requires_grad(true),
            labels: initial.labels,
            soft_labels,
            learnables: needs
                .learnables
                .iter()
                .map(|learnable| (learnable.name.clone(), scalar(learnable.initial).set_requires_grad(true)))
                .collect(),
            space: needs.space,
        })
    }

    /// All that is learned: images, soft labels, learnables.
    pub fn learned(&self) -> Vec<Tensor> {
        let learnables = self.learnables.iter().map(|(_, tensor)| tensor);
        let learned = std::iter::once(&self.images).chain(&self.soft_labels).chain(learnables);
        learned.map(Tensor::shallow_clone).collect()
    }

    /// The same set with other values of what is learned, in the order of [`SyntheticSet::learned`].
    pub fn at(&self, learned: &[Tensor]) -> Self {
        let mut next = learned.iter().map(Tensor::shallow_clone);
        let mut or = |tensor: &Tensor| next.next().unwrap_or_else(|| tensor.shallow_clone());
        Self {
            images: or(&self.images),
            labels: self.labels.shallow_clone(),
            soft_labels: self.soft_labels.as_ref().map(&mut or),
            learnables: self.learnables.iter().map(|(name, tensor)| (name.clone(), or(tensor))).collect(),
            ids: self.ids.clone(),
            space: self.space,
        }
    }

    /// Lends it for a call.
    pub fn lend<T>(&self, body: impl FnOnce(&Synthetic) -> T) -> T {
        let learnables: Vec<(&str, &Tensor)> =
            self.learnables.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        body(&Synthetic {
            images: &self.images,
            labels: &self.labels,
            soft_labels: self.soft_labels.as_ref(),
            learnables: &learnables,
            ids: &self.ids,
            space: self.space,
        })
    }
}
