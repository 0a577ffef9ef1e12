//! A network with real layers, small and smooth.

use super::{device, normal, number, uniform};
use crate::{
    Error, Mode, NetworkInfo, Output, OwnedNetwork, Pass, Result, Space, Statistics,
    autograd::no_grad,
    network::{NetworkBackend, Tensors, channel_values},
};
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tch::{Kind, Tensor};

/// Channels of each block.
const WIDTH: i64 = 6;
/// How fast running statistics follow in train mode, as in PyTorch.
const MOMENTUM: f64 = 0.1;
/// What keeps a variance of 0 from being divided by, as in PyTorch.
const EPSILON: f64 = 1e-5;
const PARAMETERS: [&str; 8] = [
    "conv1.weight",
    "bn1.weight",
    "bn1.bias",
    "conv2.weight",
    "bn2.weight",
    "bn2.bias",
    "classifier.weight",
    "classifier.bias",
];
const BUFFERS: [&str; 4] = ["bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var"];

/// Two blocks (3×3 convolution, BatchNorm `bn1` and `bn2`, softplus), the mean over positions, a linear layer; 4 classes.
///
/// Softplus and not ReLU: derivatives exist everywhere, so that finite differences can be believed. The running statistics
/// are those of random images; no convolution has a bias, whose gradient BatchNorm would make 0.
#[derive(Debug)]
pub struct SmallNetwork {
    info: NetworkInfo,
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
    /// Whether train-mode passes update the running statistics: on networks that a method owns.
    commits: bool,
    /// Forward passes of this network and of those made of it.
    passes: Arc<AtomicU64>,
}

impl SmallNetwork {
    /// How many classes it tells apart.
    pub const CLASSES: i64 = 4;

    /// A network for images of shape `input` `[C,H,W]`, computing in `kind`; the same `seed` gives the same weights. Its
    /// parameters need no gradients.
    ///
    /// # Errors
    /// If libtorch refuses the shape.
    pub fn new(input: [i64; 3], kind: Kind, seed: u64) -> Result<Self> {
        let channels = input[0];
        let weights = |name: &str, shape: &[i64], fan_in: i64, gain: f64| -> Result<Tensor> {
            Ok(normal(number((seed, name)), shape)? * (gain / (fan_in as f64).sqrt()))
        };
        let scale = || uniform(number((seed, "scale")), &[WIDTH]).map(|draws| draws + 0.5);
        let parameters = vec![
            weights("conv1.weight", &[WIDTH, channels, 3, 3], channels * 9, 1.4)?,
            scale()?,
            weights("bn1.bias", &[WIDTH], 1, 0.3)?,
            weights("conv2.weight", &[WIDTH, WIDTH, 3, 3], WIDTH * 9, 1.4)?,
            scale()?,
            weights("bn2.bias", &[WIDTH], 1, 0.3)?,
            weights("classifier.weight", &[Self::CLASSES, WIDTH], WIDTH, 6.0)?,
            weights("classifier.bias", &[Self::CLASSES], 1, 0.1)?,
        ];
        let empty = || Tensor::zeros([WIDTH], (Kind::Double, device()));
        let network = Self {
            info: NetworkInfo {
                architecture: "small".into(),
                classes: Self::CLASSES,
                input,
                mean: (0..channels).map(|channel| 0.5 - 0.05 * channel as f64).collect(),
                std: (0..channels).map(|channel| 0.2 + 0.03 * channel as f64).collect(),
                batch_norm: vec!["bn1".into(), "bn2".into()],
            },
            parameters,
            buffers: vec![empty(), empty(), empty(), empty()],
            commits: false,
            passes: Arc::default(),
        };
        let images = uniform(number((seed, "images")), &[16, channels, input[1], input[2]])?;
        let seen = network.pass(&images, Pass::new(Space::Pixels).train().with_statistics())?.statistics;
        let buffers = seen.into_iter().flat_map(|layer| [layer.mean, layer.variance]).collect();
        Ok(Self { buffers, ..network }.converted(kind))
    }

    fn converted(mut self, kind: Kind) -> Self {
        for tensor in self.parameters.iter_mut().chain(&mut self.buffers) {
            *tensor = tensor.detach().to_kind(kind).copy();
        }
        self
    }

    /// A copy with tensors of its own, whose parameters require gradients if `trainable`.
    pub fn copy(&self, trainable: bool) -> Self {
        let copy = |tensor: &Tensor| tensor.detach().copy();
        Self {
            info: self.info.clone(),
            parameters: self.parameters.iter().map(|p| copy(p).set_requires_grad(trainable)).collect(),
            buffers: self.buffers.iter().map(copy).collect(),
            commits: self.commits,
            passes: self.passes.clone(),
        }
    }

    /// The same with a last layer of zeros: equal logits and no gradients to the images, whatever they are.
    pub fn flat(self) -> Self {
        no_grad(|| {
            for tensor in &self.parameters[6..] {
                let _ = tensor.shallow_clone().zero_();
            }
        });
        self
    }

    /// For a method to own: train-mode passes update its running statistics.
    pub fn owned(self) -> OwnedNetwork {
        OwnedNetwork::new(Self { commits: true, ..self })
    }

    /// How many forward passes it has made, with its copies.
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    /// Its parameters, in the order of [`NetworkBackend::tensors`].
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// The same network at other parameters, which keep their graph.
    pub fn at(&self, parameters: &[Tensor]) -> Self {
        Self {
            info: self.info.clone(),
            parameters: parameters.iter().map(Tensor::shallow_clone).collect(),
            buffers: self.buffers.iter().map(Tensor::copy).collect(),
            commits: self.commits,
            passes: self.passes.clone(),
        }
    }

    /// Convolution, BatchNorm and softplus; what the BatchNorm layer saw goes to `statistics`.
    fn block(
        &self,
        index: usize,
        input: &Tensor,
        mode: Mode,
        statistics: &mut Vec<Statistics>,
    ) -> Result<Tensor> {
        let parameter = |offset: usize| &self.parameters[3 * index + offset];
        let (running_mean, running_variance) = (&self.buffers[2 * index], &self.buffers[2 * index + 1]);
        let seen = input.f_conv2d(parameter(0), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1)?;
        let over = [0i64, 2, 3];
        let mean = seen.f_mean_dim(over.as_slice(), false, None::<Kind>)?;
        let variance = seen.f_var_dim(over.as_slice(), false, false)?;
        let (centre, spread) = match mode {
            Mode::Eval => (running_mean, running_variance),
            Mode::Train => (&mean, &variance),
        };
        let each = |tensor: &Tensor| tensor.reshape([1, -1, 1, 1]);
        let normalised = (&seen - each(centre)) / (each(spread) + EPSILON).sqrt();
        let output = (normalised * each(parameter(1)) + each(parameter(2))).f_softplus()?;
        if mode == Mode::Train && self.commits {
            let count = (seen.numel() as i64 / WIDTH) as f64;
            no_grad(|| -> Result<()> {
                let unbiased = &variance * (count / (count - 1.0).max(1.0));
                for (running, now) in [(running_mean, &mean), (running_variance, &unbiased)] {
                    let _ = running.shallow_clone().f_lerp_(now, MOMENTUM)?;
                }
                Ok(())
            })?;
        }
        statistics.push(Statistics {
            layer: self.info.batch_norm[index].clone(),
            mean,
            variance,
            running_mean: running_mean.shallow_clone(),
            running_variance: running_variance.shallow_clone(),
        });
        Ok(output)
    }
}

impl NetworkBackend for SmallNetwork {
    fn info(&self) -> &NetworkInfo {
        &self.info
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        let input = match pass.space {
            Space::Pixels => {
                images.f_sub(&channel_values(&self.info.mean, images))?
                    / channel_values(&self.info.std, images)
            }
            Space::Normalised => images.shallow_clone(),
        };
        let mut statistics = Vec::new();
        let first = self.block(0, &input, pass.mode, &mut statistics)?;
        let second = self.block(1, &first, pass.mode, &mut statistics)?;
        let embedding = second.f_mean_dim([2i64, 3].as_slice(), false, None::<Kind>)?;
        Ok(Output {
            logits: embedding.f_linear(&self.parameters[6], Some(&self.parameters[7]))?,
            embedding: pass.embedding.then_some(embedding),
            statistics: if pass.statistics { statistics } else { Vec::new() },
            features: match pass.features {
                true => vec![("block1".into(), first), ("block2".into(), second)],
                false => Vec::new(),
            },
        })
    }

    fn tensors(&self) -> Result<Tensors> {
        let named = |names: &[&str], tensors: &[Tensor]| {
            names.iter().map(|name| name.to_string()).zip(tensors.iter().map(Tensor::shallow_clone)).collect()
        };
        Ok(Tensors {
            parameters: named(&PARAMETERS, &self.parameters),
            buffers: named(&BUFFERS, &self.buffers),
        })
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        let sizes = |tensors: &[&Tensor]| tensors.iter().map(|tensor| tensor.size()).collect::<Vec<_>>();
        let (expected, found) = (sizes(&self.parameters.iter().collect::<Vec<_>>()), sizes(parameters));
        if expected != found {
            return Err(Error::new(format!(
                "the network has parameters of shapes {expected:?}, found {found:?}"
            )));
        }
        let parameters: Vec<Tensor> = parameters.iter().map(|tensor| tensor.shallow_clone()).collect();
        Ok(Box::new(Self { commits: true, ..self.at(&parameters) }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Network;

    #[test]
    fn running_statistics_stay_on_a_lent_network_and_follow_on_an_owned_one() {
        let network = SmallNetwork::new([3, 8, 8], Kind::Double, 1).unwrap();
        let images = uniform(2, &[4, 3, 8, 8]).unwrap();
        let before = network.buffers[0].copy();
        Network::lend(&network).pass(&images, Pass::new(Space::Pixels).train()).unwrap();
        assert_eq!(network.buffers[0], before);
        let owned = network.copy(false).owned();
        owned.lend().pass(&images, Pass::new(Space::Pixels).train()).unwrap();
        assert_ne!(owned.lend().tensors().unwrap().buffers[0].1, before);
    }

    #[test]
    fn images_matter_but_not_to_a_flat_network() {
        let network = SmallNetwork::new([1, 6, 9], Kind::Double, 1).unwrap();
        let logits = |network: &SmallNetwork, seed| {
            Network::lend(network).logits(&uniform(seed, &[2, 1, 6, 9]).unwrap()).unwrap()
        };
        assert_ne!(logits(&network, 1), logits(&network, 2));
        let flat = network.flat();
        assert_eq!(logits(&flat, 1), logits(&flat, 2));
    }
}
