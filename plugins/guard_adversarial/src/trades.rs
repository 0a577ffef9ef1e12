//! TRADES (Zhang et al., ICML 2019, arXiv 1901.08573): the divergence between the answers to an image and to its worst
//! neighbour.
//!
//! | paper | here |
//! |---|---|
//! | 1/λ, β of the code | the recipe's `weight`; 6 in the paper's tables |
//! | ε, η₁ | `threat`, `relative_step_size` · ε |
//! | K | `steps` |

use crate::adversarial::{batch, placed};
use guard_sdk::{
    Batch, CleanRequest, Kind, Method, Network, Regularizer, Result, Services, Space, StatisticsFrom, Step,
    Tensor, Threat,
    autograd::{Graph, grad},
};

/// What the search for the neighbour raises.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Maximise {
    /// The divergence itself (the paper and its code).
    #[default]
    Kl,
    /// The cross-entropy to the label (GUARD's script).
    CrossEntropy,
}

/// Options of `trades`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "threat": { "norm": "linf", "epsilon": "8/255" } }]))]
pub struct TradesOptions {
    /// How far the neighbour may be from the image.
    pub threat: Threat,
    /// What the search for the neighbour raises.
    #[serde(default)]
    pub maximise: Maximise,
    /// Number of gradient steps of the search.
    #[serde(default = "steps")]
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// The length of a step, as a share of ε (0.007 at ε = 0.031 in the paper's code is 0.226).
    #[serde(default = "relative_step_size")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub relative_step_size: f64,
    /// Whose statistics BatchNorm uses in the divergence: the batch's own, as in training, or the running ones. The search
    /// always uses the running ones.
    #[serde(default = "batch")]
    pub statistics: StatisticsFrom,
}

fn steps() -> u64 {
    10
}

fn relative_step_size() -> f64 {
    0.25
}

/// mean_i KL(softmax f(xᵢ) ‖ softmax f(x′ᵢ)), with gradients through both answers and x′ᵢ a constant.
pub struct Trades {
    options: TradesOptions,
}

impl Method for Trades {
    type Options = TradesOptions;
    const NAME: &'static str = "trades";
    /// The neighbour is a constant.
    const STOPS_GRADIENT: bool = true;

    fn new(options: TradesOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Regularizer for Trades {
    /// Passes, with the clean ones shared: `steps` forwards and input backwards, and 2 forwards; one more, to search by
    /// `kl` when the divergence uses the batch's statistics.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let pixels = network.convert(batch.images, batch.space, Space::Pixels);
        let found = self.search(step, network, batch, &pixels.detach())?;
        let statistics = self.options.statistics;
        let request = CleanRequest { mode: statistics.mode(), ..CleanRequest::default() };
        let clean = step.clean(network, batch, request)?.logits;
        let moved = network.pass(&placed(&pixels, &found), statistics.pass(Space::Pixels))?.logits;
        Ok(divergence_each(&clean, &moved).mean(None::<Kind>))
    }
}

impl Trades {
    /// The neighbours, pixels in [0,1] without graph.
    fn search(&self, step: &Step, network: &Network, batch: &Batch, pixels: &Tensor) -> Result<Tensor> {
        /// Away from the image, where the divergence has no gradient.
        const START: f64 = 1e-3;
        let options = &self.options;
        let budget = options.threat.budget();
        let step_size = options.relative_step_size * budget.epsilon;
        let clean = match options.maximise {
            Maximise::Kl => Some(step.clean(network, batch, CleanRequest::default())?.logits.detach()),
            Maximise::CrossEntropy => None,
        };
        let placed = batch.with_images(pixels, Space::Pixels);
        let mut found = pixels + step.normal("start", 0, &placed, &pixels.size()[1..])? * START;
        for _ in 0..options.steps {
            step.services.check_cancelled()?;
            let images = found.detach().set_requires_grad(true);
            let logits = network.logits(&images)?;
            let raised = match &clean {
                Some(clean) => divergence_each(clean, &logits),
                None => batch.cross_entropy_each(&logits)?,
            };
            let gradient = grad(&raised.sum(None::<Kind>), &[&images], Graph::Free)?.remove(0);
            found = budget.project(&(&found + budget.norm.steepest(&gradient) * step_size), pixels);
        }
        Ok(found)
    }
}

/// KL(softmax p ‖ softmax q) of each example, `[N]`, for logits `[N,K]`.
fn divergence_each(p: &Tensor, q: &Tensor) -> Tensor {
    let (p, q) = (p.log_softmax(-1, None::<Kind>), q.log_softmax(-1, None::<Kind>));
    (p.exp() * (p - q)).sum_dim_intlist(-1, false, None::<Kind>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    #[test]
    fn the_divergence_is_torchs_and_has_gradients_to_both_answers() {
        let logits = || Tensor::randn([4, 5], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let (p, q) = (logits(), logits());
        let found = divergence_each(&p, &q).mean(None::<Kind>);
        let (target, log) = (p.softmax(-1, None::<Kind>), q.log_softmax(-1, None::<Kind>));
        let expected = log.kl_div(&target, tch::Reduction::Sum, false) / 4.0;
        assert!((&found - &expected).abs().double_value(&[]) < 1e-14);
        let gradients = grad(&found, &[&p, &q], Graph::Free).unwrap();
        for (gradient, expected) in gradients.iter().zip(grad(&expected, &[&p, &q], Graph::Free).unwrap()) {
            assert!((gradient - expected).abs().max().double_value(&[]) < 1e-14);
        }
        assert!(divergence_each(&p, &p).abs().max().double_value(&[]) < 1e-15);
    }
}
