//! The pass over a batch as it is, which the methods of a step share.
//!
//! Penalties of the training loss begin alike: logits and losses of the clean images, often the losses' gradient to them.
//! [`Step::clean`] computes that once for all of them, and takes over what the host's own forward has computed where that
//! is the same. Where there is nothing to share (another batch, another network, an older host), it is computed for the
//! caller alone, with the same result.

use crate::{
    Batch, Error, Mode, Network, Pass, Result, Space, Step,
    autograd::{Graph, grad},
    network::channel_values,
};
use tch::{Kind, Tensor};

/// Whether gradients to the images are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputGradient {
    /// No.
    #[default]
    None,
    /// Their values.
    Value,
    /// With a graph of their own, for second derivatives.
    Graph,
}

/// What is asked of the pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct CleanRequest {
    /// How BatchNorm behaves.
    pub mode: Mode,
    /// Whether gradients to the images are wanted.
    pub gradient: InputGradient,
}

/// What came of the pass. The graph belongs to all methods of the step: further gradients are taken with [`Graph::Keep`] or
/// [`Graph::Create`].
#[derive(Debug)]
pub struct Clean {
    /// `[N,C,H,W]` in the batch's space: what went into the network; requires gradients.
    pub images: Tensor,
    /// `[N,K]`, with graph to the images and to the network's parameters.
    pub logits: Tensor,
    /// `[N]`, the cross-entropy of each example, with that graph.
    pub losses: Tensor,
    /// `[N,C,H,W]` in the batch's space, if asked for: see [`Clean::gradient`].
    pub gradient: Option<Tensor>,
}

impl Clean {
    /// The pass for one caller.
    ///
    /// # Errors
    /// If the batch does not fit the network.
    pub fn compute(network: &Network, batch: &Batch, request: CleanRequest) -> Result<Self> {
        let images = Self::leaf(batch);
        let pass = Pass { mode: request.mode, ..Pass::new(batch.space) };
        let logits = network.pass(&images, pass)?.logits;
        let losses = batch.cross_entropy_each(&logits)?;
        let gradient = Self::gradient_of(&losses, &images, request.gradient)?;
        Ok(Self { images, logits, losses, gradient })
    }

    /// The batch's images where they require gradients, as those of a synthetic set do, else a leaf of their values.
    pub fn leaf(batch: &Batch) -> Tensor {
        match batch.images.requires_grad() {
            true => batch.images.shallow_clone(),
            false => batch.images.detach().set_requires_grad(true),
        }
    }

    /// The gradients of `losses` `[N]` to `images`, each example's to its own.
    ///
    /// # Errors
    /// If the losses do not depend on the images.
    pub fn gradient_of(losses: &Tensor, images: &Tensor, wanted: InputGradient) -> Result<Option<Tensor>> {
        let graph = match wanted {
            InputGradient::None => return Ok(None),
            InputGradient::Value => Graph::Keep,
            InputGradient::Graph => Graph::Create,
        };
        Ok(Some(grad(&losses.sum(None::<Kind>), &[images], graph)?.remove(0)))
    }

    /// ∇ₓℓ of each example, `[N,C,H,W]` in the batch's space.
    ///
    /// # Errors
    /// If it was not asked for.
    pub fn gradient(&self) -> Result<&Tensor> {
        self.gradient.as_ref().ok_or_else(|| Error::new("the clean gradient was not asked for"))
    }
}

impl Step<'_> {
    /// Logits, losses and gradients of the batch's images as they are.
    ///
    /// # Errors
    /// If the batch does not fit the network.
    pub fn clean(&self, network: &Network, batch: &Batch, request: CleanRequest) -> Result<Clean> {
        self.services.backend().clean(network, batch, request)
    }
}

impl Network<'_> {
    /// Gradients to images of one space, `[N,C,H,W]`, as gradients to the same images in another.
    pub fn convert_gradient(&self, gradient: &Tensor, from: Space, to: Space) -> Tensor {
        // x = (p - mean) / std, hence ∂/∂p = ∂/∂x / std: the inverse of how a change of the image is converted.
        self.convert_change(gradient, to, from)
    }

    /// A change of images of one space, `[N,C,H,W]`, as a change of the same images in another.
    pub fn convert_change(&self, change: &Tensor, from: Space, to: Space) -> Tensor {
        let std = || channel_values(&self.info().std, change);
        match (from, to) {
            (Space::Pixels, Space::Normalised) => change / std(),
            (Space::Normalised, Space::Pixels) => change * std(),
            _ => change.shallow_clone(),
        }
    }
}
