//! The network that real and synthetic gradients are taken at: it learns from the synthetic images, and is kept from one
//! call to the next.

use guard_sdk::{
    Error, Kind, Lab, Network, OwnedNetwork, Result, Space, State, Step, Synthetic, Tensor,
    augment::{Dsa, DsaOptions, each_uniform},
    autograd::{Graph, grad, no_grad},
};

/// Of [`Learner::save`].
const VERSION: u32 = 1;

/// A network and its number: which of the run's it is.
pub struct Learner {
    /// The draw that made it.
    pub number: u64,
    network: OwnedNetwork,
}

/// How it learns.
pub struct Lesson<'a> {
    /// Passes over the synthetic images.
    pub epochs: u64,
    /// Images in a step.
    pub batch_size: usize,
    /// Of gradient descent.
    pub learning_rate: f64,
    /// What the images go through before each step.
    pub augment: Option<&'a DsaOptions>,
}

impl Learner {
    /// The run's network of this number, untrained.
    ///
    /// # Errors
    /// Those of the lab.
    pub fn fresh(lab: &Lab, number: u64) -> Result<Self> {
        Ok(Self { number, network: lab.fresh_network(number)? })
    }

    /// The network.
    pub fn network(&self) -> Network<'_> {
        self.network.lend()
    }

    /// Gradient descent on the cross-entropy of the synthetic images; BatchNorm keeps its statistics.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn learn(&self, step: &Step, synthetic: &Synthetic, lesson: &Lesson) -> Result<()> {
        let (_, _, height, width) = synthetic.images.size4()?;
        let network = self.network();
        let tensors = network.tensors()?;
        let mut parameters: Vec<Tensor> = tensors.parameters.into_iter().map(|(_, tensor)| tensor).collect();
        for epoch in 0..lesson.epochs {
            step.services.check_cancelled()?;
            let order = order(step, synthetic.ids, epoch, lesson.batch_size)?;
            for (index, positions) in order.chunks(lesson.batch_size).enumerate() {
                let chosen = synthetic.at(positions)?;
                let mut images = chosen.images.detach();
                if let Some(options) = lesson.augment {
                    let draw = (epoch << 32) + index as u64;
                    let size = [height, width];
                    images = Dsa::each(&step.services, "inner", draw, &chosen.ids, size, options)?
                        .apply(&images)?;
                }
                let batch = chosen.batch().with_images(&images, chosen.space);
                let losses = batch.cross_entropy_each(&network.logits_in(batch.space, batch.images)?)?;
                let leaves: Vec<&Tensor> = parameters.iter().collect();
                let gradients = grad(&losses.f_mean(None::<Kind>)?, &leaves, Graph::Free)?;
                no_grad(|| -> Result<()> {
                    for (parameter, gradient) in parameters.iter_mut().zip(&gradients) {
                        let _ = parameter.f_sub_(&(gradient * lesson.learning_rate))?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Number and tensors.
    ///
    /// # Errors
    /// If the host fails.
    pub fn save(&self) -> Result<State> {
        let tensors = self.network().tensors()?;
        let all = tensors.parameters.into_iter().chain(tensors.buffers);
        Ok(State {
            version: VERSION,
            json: serde_json::json!({ "network": self.number }),
            tensors: all.map(|(name, tensor)| (name, tensor.detach().copy())).collect(),
        })
    }

    /// The network as it was saved.
    ///
    /// # Errors
    /// If the state is another method's, or of another network.
    pub fn restore(lab: &Lab, state: &State) -> Result<Self> {
        let learner = Self::fresh(lab, number(state)?)?;
        let tensors = learner.network().tensors()?;
        no_grad(|| -> Result<()> {
            for (name, mut tensor) in tensors.parameters.into_iter().chain(tensors.buffers) {
                let saved = state.tensors.iter().find(|(saved, _)| *saved == name);
                let (_, saved) =
                    saved.ok_or_else(|| Error::new(format!("the state has no tensor `{name}`")))?;
                tensor.f_copy_(saved)?;
            }
            Ok(())
        })?;
        Ok(learner)
    }
}

/// The number of the network that was saved.
///
/// # Errors
/// If the state is another method's.
pub fn number(state: &State) -> Result<u64> {
    match (state.version, state.json["network"].as_u64()) {
        (VERSION, Some(number)) => Ok(number),
        (version, _) => {
            Err(Error::new(format!("no state of version {VERSION} with a network, found version {version}")))
        }
    }
}

/// The images' order in an epoch; as they are where one batch holds all.
fn order(step: &Step, ids: &[u64], epoch: u64, batch_size: usize) -> Result<Vec<i64>> {
    let mut order: Vec<i64> = (0..ids.len() as i64).collect();
    if ids.len() > batch_size {
        let keys = each_uniform::<1>(&step.services, "inner.order", epoch, ids)?;
        order.sort_by(|&one, &other| keys[one as usize][0].total_cmp(&keys[other as usize][0]));
    }
    Ok(order)
}

/// Real images as DSA sees them: augmented behind the normalisation, and back in pixels, in which every regularizer is
/// defined.
///
/// # Errors
/// Those of the transform.
pub fn augmented_pixels(network: &Network, pixels: &Tensor, augment: &Dsa) -> Result<Tensor> {
    let normalised = augment.apply(&network.normalise(pixels))?;
    Ok(network.convert(&normalised, Space::Normalised, Space::Pixels))
}
