//! Regularizers: penalties added to a loss.

use crate::{Batch, Method, Network, Result, Step};
use tch::Tensor;

/// A penalty added to the training loss on real data, or to the objective's loss on synthetic images.
///
/// ```no_run
/// # use guard_sdk::{autograd::{grad, Graph}, batch::norm_each, *};
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct NoOptions {}
///
/// /// mean_i ‖∇ₓℓ(xᵢ)‖₂
/// struct InputGradient;
///
/// impl Method for InputGradient {
///     type Options = NoOptions;
///     const NAME: &'static str = "input-gradient";
///     fn new(_: NoOptions, _: &Services) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// impl Regularizer for InputGradient {
///     fn penalty(&mut self, _: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
///         let images = batch.images.detach().set_requires_grad(true);
///         let loss = batch.cross_entropy_each(&network.logits_in(batch.space, &images)?)?;
///         let gradients = grad(&loss.sum(None::<Kind>), &[&images], Graph::Create)?;
///         Ok(norm_each(&gradients[0]).mean(None::<Kind>))
///     }
/// }
/// ```
pub trait Regularizer: Method {
    /// The bare penalty, a scalar `[]` with graph to whatever requires gradients: the network's parameters (training) or
    /// the images (distillation). The weight is the recipe's and is applied by the host.
    ///
    /// The network is in eval mode, after the step's train-mode forward has updated its running statistics; they must
    /// stay as they are. A pass in train mode ([`Pass::train`](crate::Pass::train)) uses the batch's statistics and leaves
    /// the running ones alone: what trains a network on images of the method's own needs it, for weights that are trained
    /// against statistics which lag behind them do not fit those of an evaluation.
    ///
    /// Logits, losses and input gradients of the batch as it is come from [`Step::clean`], which all regularizers of a step
    /// share. The value is a mean over examples and depends on the batch size in no other way.
    ///
    /// # Errors
    /// If the penalty is not defined for this network or batch.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor>;
}
