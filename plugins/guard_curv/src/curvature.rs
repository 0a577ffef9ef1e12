//! The curvature penalty in its three forms.
//!
//! | paper | here |
//! |---|---|
//! | h | `radius` |
//! | λ, β | the recipe's `weight` |
//! | z | [`perturbation::step`] |
//! | ℓ | cross-entropy of one example |
//!
//! `steps` and `statistics` go beyond the paper: z found by several steps, and BatchNorm as the cross-entropy sees it.

use crate::perturbation::{self, Direction};
use guard_sdk::{
    Batch, CleanRequest, Error, InputGradient, Kind, Method, Network, Regularizer, Result, Services, Space,
    StatisticsFrom, Step, Tensor,
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
    /// In how many equal parts the step is made, each along the gradient where the one before it ended.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Whose statistics BatchNorm uses: the running ones, as in the released code, or the batch's, as the cross-entropy does.
    /// With the running ones a small weight can make the network less robust than none.
    pub statistics: StatisticsFrom,
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
            steps: 1,
            statistics: StatisticsFrom::Running,
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
    /// z is a constant.
    const STOPS_GRADIENT: bool = true;

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
        if options.compat == Compat::GuardCifar
            && (options.steps, options.statistics) != (1, StatisticsFrom::Running)
        {
            return Err(Error::option("/compat", "the released scripts make one step, in eval mode")
                .help("leave `steps` and `statistics` out, or leave out `compat`"));
        }
        Ok(Self { options })
    }
}

impl Regularizer for Curvature {
    /// Passes, with the clean one shared: `steps` forwards; for `cure` and `norm` as many input backwards, the last with
    /// graph, for `loss-difference` one less.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let options = &self.options;
        let second_order = options.form != Form::LossDifference;
        let gradient = if second_order { InputGradient::Graph } else { InputGradient::Value };
        let clean = step.clean(network, batch, CleanRequest { mode: options.statistics.mode(), gradient })?;
        let clean_gradient = self.seen(network, batch, clean.gradient()?);

        let mut z = self.part(&clean_gradient.detach());
        for _ in 1..options.steps {
            let moved = self.moved(network, batch, &clean.images.detach(), &z).set_requires_grad(true);
            let gradient =
                grad(&self.losses(network, batch, &moved)?.sum(None::<Kind>), &[&moved], Graph::Free)?;
            z += self.part(&self.seen(network, batch, &gradient[0]));
        }

        let moved = self.moved(network, batch, &clean.images, &z);
        let perturbed = self.losses(network, batch, &moved)?;
        if second_order {
            let gradient = grad(&perturbed.sum(None::<Kind>), &[&moved], Graph::Create)?;
            let change = norm_each(&(self.seen(network, batch, &gradient[0]) - clean_gradient));
            let change = if options.form == Form::Cure { change.square() } else { change };
            return Ok(change.mean(None::<Kind>));
        }
        Ok(match options.compat {
            Compat::None => (perturbed - clean.losses).abs().mean(None::<Kind>),
            Compat::GuardCifar => (perturbed.mean(None::<Kind>) - clean.losses.mean(None::<Kind>)).abs(),
        })
    }
}

impl Curvature {
    fn losses(&self, network: &Network, batch: &Batch, images: &Tensor) -> Result<Tensor> {
        batch.cross_entropy_each(&network.pass(images, self.options.statistics.pass(batch.space))?.logits)
    }

    /// Each example's gradient in the penalty's space; as released, that of the batch-mean loss.
    fn seen(&self, network: &Network, batch: &Batch, gradient: &Tensor) -> Tensor {
        let gradient = network.convert_gradient(gradient, batch.space, self.options.space);
        match self.options.compat {
            Compat::None => gradient,
            Compat::GuardCifar => gradient / batch.len() as f64,
        }
    }

    /// The images after a step `z` of the penalty's space.
    fn moved(&self, network: &Network, batch: &Batch, images: &Tensor, z: &Tensor) -> Tensor {
        images + network.convert_change(z, self.options.space, batch.space)
    }

    /// One of `steps` equal parts of the step along `gradient`.
    fn part(&self, gradient: &Tensor) -> Tensor {
        let radius = self.options.radius / self.options.steps as f64;
        match self.options.compat {
            Compat::None => perturbation::step(gradient, radius, self.options.direction),
            Compat::GuardCifar => perturbation::step_as_released(gradient, radius),
        }
    }
}
