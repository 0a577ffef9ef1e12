//! BatchNorm's statistics where batches of synthetic images are too small to have any.

use guard_sdk::{Lab, Network, Pass, Result, Space, Tensor, autograd::no_grad};

/// Sets a network's running statistics to those of `images_per_class` real images of each class; 0 leaves them as they are.
/// They are the batch's own: DC's code moves the statistics of a fresh network by BatchNorm's momentum of a tenth only.
///
/// # Errors
/// If there are no such images.
pub fn freeze(network: &Network, lab: &Lab, images_per_class: u64, draw: u64) -> Result<()> {
    if network.info().batch_norm.is_empty() || images_per_class == 0 {
        return Ok(());
    }
    let images: Vec<Tensor> = (0..lab.info().classes)
        .map(|class| Ok(lab.real(Some(class), images_per_class, draw)?.images))
        .collect::<Result<_>>()?;
    no_grad(|| {
        let images = Tensor::f_cat(&images, 0)?;
        let output = network.pass(&images, Pass::new(Space::Pixels).train().with_statistics())?;
        for mut layer in output.statistics {
            layer.running_mean.f_copy_(&layer.mean)?;
            layer.running_variance.f_copy_(&layer.variance)?;
        }
        Ok(())
    })
}
