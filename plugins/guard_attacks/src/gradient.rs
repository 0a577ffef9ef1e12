//! Losses and input gradients, and the steps that gradient attacks take along them.

use crate::goal::Goal;
use guard_sdk::{
    Batch, Kind, Network, Result, Tensor,
    autograd::{Graph, grad, no_grad},
};

/// What is known of images after a pass, without graph.
pub struct Seen {
    /// `[N,K]`.
    pub logits: Tensor,
    /// What the goal raises, `[N]`.
    pub losses: Tensor,
    /// Its gradient to the images, `[N,C,H,W]`; 0 where it is not finite.
    pub gradient: Tensor,
}

/// Logits, losses and input gradients at `images`: one forward and one input backward.
pub fn see(network: &Network, batch: &Batch, goal: &Goal, images: &Tensor) -> Result<Seen> {
    let images = images.detach().set_requires_grad(true);
    let logits = network.logits(&images)?;
    let losses = goal.each(batch, &logits)?;
    let gradient = grad(&losses.sum(None::<Kind>), &[&images], Graph::Free)?.remove(0);
    Ok(Seen { logits: logits.detach(), losses: losses.detach(), gradient: finite(&gradient) })
}

/// Logits and losses at `images`: one forward.
pub fn look(network: &Network, batch: &Batch, goal: &Goal, images: &Tensor) -> Result<(Tensor, Tensor)> {
    no_grad(|| {
        let logits = network.logits(images)?;
        let losses = goal.each(batch, &logits)?;
        Ok((logits, losses))
    })
}

/// 0 in the place of what is not finite: the sign of NaN differs between devices.
pub fn finite(gradient: &Tensor) -> Tensor {
    gradient.nan_to_num(0.0, 0.0, 0.0)
}

/// Whether the decisions are wrong, `[N]`.
pub fn fooled(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(-1, false).ne_tensor(labels)
}
