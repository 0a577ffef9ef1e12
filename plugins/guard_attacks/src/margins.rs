//! Margins to other classes and their gradients: the linear picture of a network that DeepFool and FAB work on.

use crate::gradient::finite;
use guard_sdk::{
    Kind, Network, Norm, Result, Tensor,
    autograd::{Graph, grad},
    batch::norm_each,
};

/// What is known of images: how far each of J classes is from being decided for, and in which direction it comes nearer.
pub struct Margins {
    /// z_j − z_y, `[N,J]`.
    pub values: Tensor,
    /// Its gradients to the images, `[N,J,C,H,W]`; 0 where they are not finite.
    pub gradients: Tensor,
}

/// The nearest class's part of [`Margins`].
pub struct Boundary {
    /// `[N]`.
    pub margin: Tensor,
    /// `[N,C,H,W]`.
    pub normal: Tensor,
}

impl Margins {
    /// Of the classes int64 `[N,J]`: one forward and J input backwards.
    ///
    /// # Errors
    /// If the network fails.
    pub fn at(network: &Network, images: &Tensor, labels: &Tensor, classes: &Tensor) -> Result<Self> {
        let images = images.detach().set_requires_grad(true);
        let logits = network.logits(&images)?;
        let values = logits.gather(1, classes, false) - logits.gather(1, &labels.unsqueeze(1), false);
        let count = classes.size()[1];
        let gradients = (0..count)
            .map(|class| {
                let graph = if class + 1 < count { Graph::Keep } else { Graph::Free };
                let gradient = grad(&values.select(1, class).sum(None::<Kind>), &[&images], graph)?.remove(0);
                Ok(finite(&gradient))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { values: values.detach(), gradients: Tensor::stack(&gradients, 1) })
    }

    /// The class whose decision boundary is nearest in `norm`, if the network were linear.
    pub fn nearest(&self, norm: Norm) -> Boundary {
        let (rows, classes) = (self.values.size()[0], self.values.size()[1]);
        if classes == 1 {
            return Boundary { margin: self.values.select(1, 0), normal: self.gradients.select(1, 0) };
        }
        let lengths = dual_norm_each(&self.gradients.flatten(0, 1), norm).reshape([rows, classes]);
        let distance = self.values.abs() / (lengths + 1e-12);
        let nearest = distance.argmin(-1, true);
        let mut shape = self.gradients.size();
        shape[1] = 1;
        let index = nearest.reshape([-1, 1, 1, 1, 1]).expand(&shape, false);
        Boundary {
            margin: self.values.gather(1, &nearest, false).squeeze_dim(1),
            normal: self.gradients.gather(1, &index, false).squeeze_dim(1),
        }
    }
}

/// ‖w‖₁ for steps measured in linf, ‖w‖₂ for l2, `[N]`.
pub fn dual_norm_each(normals: &Tensor, norm: Norm) -> Tensor {
    match norm {
        Norm::Linf => normals.abs().flatten(1, -1).sum_dim_intlist([-1].as_slice(), false, None::<Kind>),
        Norm::L2 => norm_each(normals),
    }
}
