//! Local linearity regularization (Qin et al., NeurIPS 2019, arXiv 1907.02610): how far the loss in a ball around an image is
//! from its tangent there.
//!
//! | paper | here |
//! |---|---|
//! | λ | the recipe's `weight` |
//! | μ / λ | `gradient_weight` |
//! | δ_LLR | what the search finds, a constant |

use guard_sdk::{
    Batch, CleanRequest, InputGradient, Kind, Method, Network, Regularizer, Result, Services, Space,
    StatisticsFrom, Step, Tensor, Threat,
    autograd::{Graph, grad},
    batch::{per_image, sum_each},
};

/// Options of `local-linearity`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "threat": { "norm": "linf", "epsilon": "8/255" } }]))]
pub struct LocalLinearityOptions {
    /// The ball in which the loss is to be linear.
    pub threat: Threat,
    /// Number of gradient steps of the search for the point where it is least so.
    #[serde(default = "steps")]
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// The length of a step, as a share of ε.
    #[serde(default = "relative_step_size")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub relative_step_size: f64,
    /// Weight of |δᵀ∇ₓℓ| beside the distance from the tangent.
    #[serde(default = "gradient_weight")]
    #[schemars(range(min = 0.0))]
    pub gradient_weight: f64,
    /// Whose statistics BatchNorm uses: the running ones, or the batch's, as the cross-entropy does.
    #[serde(default)]
    pub statistics: StatisticsFrom,
}

fn steps() -> u64 {
    2
}

fn relative_step_size() -> f64 {
    0.5
}

/// λ = 4 and μ = 3 for CIFAR-10 in the paper.
fn gradient_weight() -> f64 {
    0.75
}

/// mean_i |ℓ(xᵢ+δᵢ) − ℓ(xᵢ) − δᵢᵀ∇ₓℓ(xᵢ)| + (μ/λ) · |δᵢᵀ∇ₓℓ(xᵢ)|, where δᵢ makes the first term large.
pub struct LocalLinearity {
    options: LocalLinearityOptions,
}

impl Method for LocalLinearity {
    type Options = LocalLinearityOptions;
    const NAME: &'static str = "local-linearity";
    /// δ is a constant.
    const STOPS_GRADIENT: bool = true;

    fn new(options: LocalLinearityOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Regularizer for LocalLinearity {
    /// Passes, with the clean one and its input backward with graph shared: `steps` forwards and input backwards, and 1
    /// forward.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let mode = self.options.statistics.mode();
        let clean = step.clean(network, batch, CleanRequest { mode, gradient: InputGradient::Graph })?;
        let gradient = clean.gradient()?;
        let change = self.search(step, network, batch, &clean.losses.detach(), &gradient.detach())?;
        let tangent = sum_each(&(&change * gradient));
        let moved = self.losses(network, batch, &(&clean.images + &change))?;
        let distance = (moved - &clean.losses - &tangent).abs();
        Ok((distance + tangent.abs() * self.options.gradient_weight).mean(None::<Kind>))
    }
}

impl LocalLinearity {
    fn losses(&self, network: &Network, batch: &Batch, images: &Tensor) -> Result<Tensor> {
        batch.cross_entropy_each(&network.pass(images, self.options.statistics.pass(batch.space))?.logits)
    }

    /// δ `[N,C,H,W]` in the batch's space, without graph: gradient ascent on the distance from the tangent, within ε of the
    /// image and the pixel range, from a random point.
    fn search(
        &self,
        step: &Step,
        network: &Network,
        batch: &Batch,
        values: &Tensor,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let options = &self.options;
        let budget = options.threat.budget();
        let step_size = options.relative_step_size * budget.epsilon;
        let clean = network.convert(&batch.images.detach(), batch.space, Space::Pixels);
        let slope = network.convert_gradient(gradient, batch.space, Space::Pixels);
        let cube = step.uniform("start", 0, batch, &clean.size()[1..])? * 2.0 - 1.0;
        let mut found = budget.project(&(&clean + cube * budget.epsilon), &clean);
        for _ in 0..options.steps {
            step.services.check_cancelled()?;
            let images = network.convert(&found, Space::Pixels, batch.space).set_requires_grad(true);
            let losses = self.losses(network, batch, &images)?;
            let ascent = grad(&losses.sum(None::<Kind>), &[&images], Graph::Free)?.remove(0);
            let tangent = sum_each(&((&found - &clean) * &slope));
            let side = per_image(&(losses.detach() - values - tangent).sign());
            let ascent = network.convert_gradient(&ascent, batch.space, Space::Pixels) - &slope;
            let stepped = &found + budget.norm.steepest(&(ascent * side)) * step_size;
            found = budget.project(&stepped, &clean);
        }
        Ok(network.convert_change(&(found - clean), Space::Pixels, batch.space))
    }
}
