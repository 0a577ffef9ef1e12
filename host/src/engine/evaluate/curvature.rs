//! How curved the loss is around images: what GUARD's regularizer is meant to lower, measured after the training.

use super::Evaluator;
use crate::{
    data::{Loaded, View},
    plugin::Context,
};
use guard_sdk::{
    Batch, Kind, Network, Result, Tensor,
    autograd::{Graph, grad},
    batch::{norm_each, per_image},
    network::NetworkBackend,
    services::{Distribution, Draw},
};

/// Iterations of the power method. The Hessian of the cross-entropy of a ReLU network has rank K − 1 nearly everywhere.
const ITERATIONS: usize = 10;

impl Evaluator<'_> {
    /// The largest eigenvalue of the Hessian of the cross-entropy along the input, in pixel space, at each of
    /// `curvature_images` images, spread evenly: ‖Hv‖₂ after ten iterations of the power method from a random start.
    ///
    /// # Errors
    /// If an operation of the network has no second derivative.
    pub(super) fn curvature(&self, context: &Context) -> Result<Vec<f32>> {
        let wanted = self.curvature_images.min(self.split.len());
        let positions: Vec<i64> =
            (0..wanted).map(|index| (index * self.split.len() / wanted) as i64).collect();
        let mut found = Vec::with_capacity(wanted);
        for part in positions.chunks(self.batch_size) {
            self.observer.stop_if_asked()?;
            let part = self.split.batch(part, &View::plain())?.to_device(context.device)?;
            found.extend(Vec::<f32>::try_from(self.largest(&part, context)?.to_kind(Kind::Float))?);
        }
        Ok(found)
    }

    fn largest(&self, Loaded { images, labels, ids }: &Loaded, context: &Context) -> Result<Tensor> {
        let images = images.detach().set_requires_grad(true);
        let batch = Batch::pixels(&images, labels, ids);
        // What is replayed from graphs has no second derivatives; the same network bound to its parameters has.
        let bound;
        let network = match guard_device::records_graphs() {
            true => {
                let parameters = self.network.tensors()?.parameters;
                let parameters: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| tensor).collect();
                bound = self.network.rebind(&parameters)?;
                Network::lend(bound.as_ref())
            }
            false => Network::lend(&self.network),
        };
        let losses = batch.cross_entropy_each(&network.logits(&images)?)?;
        let gradient = grad(&losses.sum(None::<Kind>), &[&images], Graph::Create)?.remove(0);
        let (shape, kind) = (&images.size()[1..], images.kind());
        let draw = Draw { stream: "start", draw: 0, ids, shape, distribution: Distribution::Normal, kind };
        let start = context.random.random("curvature", 0, &draw)?;
        let mut direction = unit(&start.to_device(images.device()));
        let mut size = Tensor::zeros_like(&losses);
        for _ in 0..ITERATIONS {
            let along = (&gradient * &direction).sum(None::<Kind>);
            let product = grad(&along, &[&images], Graph::Keep)?.remove(0);
            (size, direction) = (norm_each(&product), unit(&product));
        }
        Ok(size.detach())
    }
}

/// Each image's direction at length 1; 0 where it has none.
fn unit(images: &Tensor) -> Tensor {
    images / per_image(&norm_each(images)).clamp_min(f64::MIN_POSITIVE)
}
