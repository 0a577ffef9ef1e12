//! Sizes of perturbations, and random ones of a given size.

use guard_sdk::{
    Batch, Budget, Norm, Result, Step, Tensor,
    batch::{norm_each, per_image},
};

/// The size of each perturbation `[N,C,H,W]` in a norm, `[N]`.
pub fn size_each(perturbation: &Tensor, norm: Norm) -> Tensor {
    match norm {
        Norm::Linf => perturbation.abs().flatten(1, -1).amax([-1].as_slice(), false),
        Norm::L2 => norm_each(perturbation),
    }
}

/// Uniform in the linf ball; in the l2 ball a uniform direction with a length uniform on [0, ε).
pub fn inside(step: &Step, stream: &str, draw: u64, batch: &Batch, budget: &Budget) -> Result<Tensor> {
    let shape = &batch.images.size()[1..];
    match budget.norm {
        Norm::Linf => Ok((step.uniform(stream, draw, batch, shape)? * 2.0 - 1.0) * budget.epsilon),
        Norm::L2 => {
            let direction = step.normal(&format!("{stream}.direction"), draw, batch, shape)?;
            let length = step.uniform(&format!("{stream}.length"), draw, batch, &[])? * budget.epsilon;
            Ok(&direction * per_image(&(length / norm_each(&direction))))
        }
    }
}

/// On the ball's surface, with ε = 1: uniform in the cube and scaled up to it (linf), or uniform on the sphere (l2).
pub fn surface(step: &Step, stream: &str, draw: u64, batch: &Batch, norm: Norm) -> Result<Tensor> {
    let shape = &batch.images.size()[1..];
    let inner = match norm {
        Norm::Linf => step.uniform(stream, draw, batch, shape)? * 2.0 - 1.0,
        Norm::L2 => step.normal(stream, draw, batch, shape)?,
    };
    Ok(&inner / per_image(&size_each(&inner, norm)))
}
