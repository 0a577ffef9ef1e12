//! The curvature penalty in its three forms.
//!
//! | paper | here |
//! |---|---|
//! | h | `radius` |
//! | λ, β | the recipe's `weight` |
//! | z | [`perturbation::step`] |
//! | ℓ | cross-entropy of one example |

use crate::perturbation::{self, Direction};
use guard_sdk::{
    Batch, Error, Kind, Method, Network, Regularizer, Result, Services, Space, Step, Tensor,
    autograd::{Graph, grad},
    batch::norm_each,
};

/// Which function of the two losses is penalised.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// mean_i ‖∇ₓℓ(xᵢ+zᵢ) − ∇ₓℓ(xᵢ)‖₂² (CURE; the GUARD paper's R(x)).
    Cure,
    /// mean_i ‖∇ₓℓ(xᵢ+zᵢ) − ∇ₓℓ(xᵢ)‖₂, not squared (GUARD's CIFAR script; λ = 100, h = 3).
    #[default]
    Norm,
    /// mean_i |ℓ(xᵢ+zᵢ) − ℓ(xᵢ)| (GUARD's ImageNet script; β = 1e-4, h = 3).
    LossDifference,
}

/// Whose numbers are reproduced.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// Per-example definitions: nothing depends on the batch size.
    #[default]
    None,
    /// The released scripts: gradients of the batch-mean loss, so that λ there is λ/B here (λ/B² with form `cure`); 1e-7
    /// added to every element of the gradient; `loss-difference` is the absolute difference of the batch means.
    GuardCifar,
}

/// Options of `curvature`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CurvatureOptions {
    /// Which function of the two losses is penalised.
    pub form: Form,
    /// h, the length of the step, in units of `space`.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub radius: f64,
    /// Along the gradient or its sign.
    pub direction: Direction,
    /// Where h is measured and ∇ₓ taken: behind the network's normalisation, as in the released code, or in pixels.
    pub space: Space,
    /// Whose numbers are reproduced.
    pub compat: Compat,
}

impl Default for CurvatureOptions {
    fn default() -> Self {
        Self {
            form: Form::Norm,
            radius: 1.5,
            direction: Direction::Gradient,
            space: Space::Normalised,
            compat: Compat::None,
        }
    }
}

/// The curvature penalty: how much the loss's gradient changes over a step of length h.
pub struct Curvature {
    options: CurvatureOptions,
}

impl Method for Curvature {
    type Options = CurvatureOptions;
    const NAME: &'static str = "curvature";

    fn new(options: CurvatureOptions, _: &Services) -> Result<Self> {
        if options.compat == Compat::GuardCifar
            && (options.direction, options.space) != (Direction::Gradient, Space::Normalised)
        {
            return Err(Error::option(
                "/compat",
                "the released scripts step along the gradient in normalised space",
            )
            .help("leave `direction` and `space` out, or leave out `compat`"));
        }
        Ok(Self { options })
    }
}

impl Regularizer for Curvature {
    /// Passes, with the clean gradient shared: 2 forwards and, for `cure` and `norm`, 2 input backwards with graph; for
    /// `loss-difference` 1 without.
    fn penalty(&mut self, _: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let options = &self.options;
        let images =
            network.convert(&batch.images.detach(), batch.space, options.space).set_requires_grad(true);
        let second_order = options.form != Form::LossDifference;

        let clean = self.losses(network, batch, &images)?;
        let graph = if second_order { Graph::Create } else { Graph::Keep };
        let clean_gradient = grad(&self.total(&clean), &[&images], graph)?.remove(0);

        let moved = (images.detach() + self.step(&clean_gradient.detach())).set_requires_grad(second_order);
        let perturbed = self.losses(network, batch, &moved)?;

        if second_order {
            let moved_gradient = grad(&self.total(&perturbed), &[&moved], Graph::Create)?.remove(0);
            let change = norm_each(&(moved_gradient - clean_gradient));
            let change = if options.form == Form::Cure { change.square() } else { change };
            return Ok(change.mean(None::<Kind>));
        }
        Ok(match options.compat {
            Compat::None => (perturbed - clean).abs().mean(None::<Kind>),
            Compat::GuardCifar => (perturbed.mean(None::<Kind>) - clean.mean(None::<Kind>)).abs(),
        })
    }
}

impl Curvature {
    fn losses(&self, network: &Network, batch: &Batch, images: &Tensor) -> Result<Tensor> {
        batch.cross_entropy_each(&network.logits_in(self.options.space, images)?)
    }

    /// The scalar whose gradient holds each example's own: the sum, or the mean as released.
    fn total(&self, losses: &Tensor) -> Tensor {
        match self.options.compat {
            Compat::None => losses.sum(None::<Kind>),
            Compat::GuardCifar => losses.mean(None::<Kind>),
        }
    }

    fn step(&self, gradient: &Tensor) -> Tensor {
        match self.options.compat {
            Compat::None => perturbation::step(gradient, self.options.radius, self.options.direction),
            Compat::GuardCifar => perturbation::step_as_released(gradient, self.options.radius),
        }
    }
}
