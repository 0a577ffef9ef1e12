//! The ascent direction that all gradient attacks start from.

use guard_sdk::{
    Batch, Budget, Kind, Network, Norm, Result, Tensor,
    autograd::{Graph, grad},
    batch::{norm_each, per_image},
};

/// ∇ₓ of each example's cross-entropy at `images`, and the losses `[N]`: one forward and one input backward.
pub fn of_cross_entropy(network: &Network, batch: &Batch, images: &Tensor) -> Result<(Tensor, Tensor)> {
    let images = images.detach().set_requires_grad(true);
    let losses = batch.cross_entropy_each(&network.logits(&images)?)?;
    let gradient = grad(&losses.sum(None::<Kind>), &[&images], Graph::Free)?.remove(0);
    Ok((gradient, losses.detach()))
}

/// The steepest step of length 1 in the budget's norm: the sign, or g / ‖g‖₂ (0 where g is 0).
pub fn steepest(gradient: &Tensor, budget: &Budget) -> Tensor {
    match budget.norm {
        Norm::Linf => gradient.sign(),
        Norm::L2 => {
            let norm = norm_each(gradient);
            gradient / per_image(&norm.where_self(&norm.gt(0.0), &norm.ones_like()))
        }
    }
}
