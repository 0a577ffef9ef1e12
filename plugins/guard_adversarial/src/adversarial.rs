//! Adversarial training: the cross-entropy of images that an attack of the run has found.
//!
//! With `training.cross_entropy_weight = 0` it is the whole loss, as in Madry et al.:
//! min_θ mean_i max_{‖δᵢ‖ ≤ ε} ℓ(xᵢ + δᵢ). One `pgd` step with `relative_step_size = 1.25` from a random start is fast
//! adversarial training (Wong et al., ICLR 2020, arXiv 2001.03994).

use guard_sdk::{
    Batch, Kind, Method, Network, Regularizer, Result, Services, Space, StatisticsFrom, Step, Tensor, Threat,
    autograd::no_grad, services::AttackHandle,
};
use serde_json::{Map, Value};

/// An attack, as it is written in a recipe.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InnerAttack {
    /// The attack's name, as its plugin offers it.
    #[serde(rename = "use")]
    pub name: String,
    /// The attack's own options.
    #[serde(default)]
    pub options: Map<String, Value>,
}

impl Default for InnerAttack {
    /// PGD as it is: ten steps from a random start.
    fn default() -> Self {
        Self { name: "pgd".into(), options: Map::new() }
    }
}

/// Options of `adversarial`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "threat": { "norm": "linf", "epsilon": "8/255" } }]))]
pub struct AdversarialOptions {
    /// What looks for the images: an attack of any plugin. It sees the network in eval mode.
    #[serde(default)]
    pub attack: InnerAttack,
    /// How far the images may be from the real ones.
    pub threat: Threat,
    /// Whose statistics BatchNorm uses on the images found: the batch's own, as in training, or the running ones.
    #[serde(default = "batch")]
    pub statistics: StatisticsFrom,
}

pub(crate) fn batch() -> StatisticsFrom {
    StatisticsFrom::Batch
}

/// mean_i ℓ(xᵢ + δᵢ), with δᵢ the attack's answer, a constant.
///
/// The running statistics follow the clean images, which pass through the network in every step; they are what the network
/// is evaluated with, on clean and on attacked images.
pub struct Adversarial {
    attack: AttackHandle,
    threat: Threat,
    statistics: StatisticsFrom,
}

impl Method for Adversarial {
    type Options = AdversarialOptions;
    const NAME: &'static str = "adversarial";
    /// δ is a constant.
    const STOPS_GRADIENT: bool = true;

    fn new(options: AdversarialOptions, services: &Services) -> Result<Self> {
        let InnerAttack { name, options: inner } = options.attack;
        let attack = services.attack(&name, &inner.into()).map_err(|mut error| {
            error.option_path = Some("/attack".into());
            error
        })?;
        Ok(Self { attack, threat: options.threat, statistics: options.statistics })
    }
}

impl Regularizer for Adversarial {
    /// Passes: the attack's, and 1 forward. Records `accuracy`, the share of the images found that are decided rightly.
    fn penalty(&mut self, step: &Step, network: &Network, batch: &Batch) -> Result<Tensor> {
        let pixels = network.convert(batch.images, batch.space, Space::Pixels);
        let found = self.search(step, network, batch, &pixels.detach())?;
        let logits = network.pass(&placed(&pixels, &found), self.statistics.pass(Space::Pixels))?.logits;
        let right = logits.argmax(-1, false).eq_tensor(batch.labels).to_kind(Kind::Float);
        step.services.metric("accuracy", &right.mean(None::<Kind>))?;
        Ok(batch.cross_entropy_each(&logits)?.mean(None::<Kind>))
    }
}

impl Adversarial {
    /// The images that the attack finds, pixels in [0,1] without graph. What an attack that looks for the smallest
    /// perturbation leaves outside the ball is brought back into it.
    fn search(&self, step: &Step, network: &Network, batch: &Batch, pixels: &Tensor) -> Result<Tensor> {
        let budget = self.threat.budget();
        // Attacks take gradients to images only.
        let parameters: Vec<Tensor> =
            network.tensors()?.parameters.into_iter().map(|(_, tensor)| tensor.detach()).collect();
        let frozen = network.with_parameters(&parameters.iter().collect::<Vec<_>>())?;
        let clean = batch.with_images(pixels, Space::Pixels);
        let found = self.attack.perturb(step, &frozen.lend(), &clean, &budget)?;
        Ok(no_grad(|| budget.project(&found, pixels)))
    }
}

/// The images at the found ones, with a graph to `images` where these require gradients: the perturbation is a constant.
pub(crate) fn placed(images: &Tensor, found: &Tensor) -> Tensor {
    match images.requires_grad() {
        true => images + (found - images.detach()),
        false => found.shallow_clone(),
    }
}
