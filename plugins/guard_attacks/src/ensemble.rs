//! Any attacks of the run one after the other, of other plugins too, each on what the ones before it left.

use crate::strongest::Strongest;
use guard_sdk::{
    Attack, Batch, Budget, Error, Method, Network, Result, Services, Step, Tensor, services::AttackHandle,
};

/// A member, as an attack is written in a recipe.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The attack's name.
    #[serde(rename = "use")]
    pub name: String,
    /// Its options.
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
}

impl Member {
    /// Asks the host for it.
    ///
    /// # Errors
    /// If no plugin offers it, or it refuses the options.
    pub fn ready(self, services: &Services) -> Result<AttackHandle> {
        services.attack(&self.name, &self.options.into())
    }
}

/// Options of `ensemble`.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("examples" = [{ "attacks": [{ "use": "fgsm" }, { "use": "noise" }] }]))]
pub struct EnsembleOptions {
    /// The attacks, in this order.
    #[schemars(length(min = 1))]
    pub attacks: Vec<Member>,
}

/// The worst case per example over several attacks. An image beyond the budget, which an attack that looks for the smallest
/// perturbation may return, does not count. Where all fail, returns the image with the highest cross-entropy.
pub struct Ensemble {
    members: Vec<(String, AttackHandle)>,
}

impl Method for Ensemble {
    type Options = EnsembleOptions;
    const NAME: &'static str = "ensemble";

    fn new(options: EnsembleOptions, services: &Services) -> Result<Self> {
        if options.attacks.is_empty() {
            return Err(Error::option("/attacks", "an ensemble needs attacks")
                .help("write `attacks = [{ use = \"apgd\" }, { use = \"square\" }]`"));
        }
        let member = |member: Member| {
            let name = member.name.clone();
            Ok((name, member.ready(services)?))
        };
        Ok(Self { members: options.attacks.into_iter().map(member).collect::<Result<_>>()? })
    }
}

impl Attack for Ensemble {
    /// Passes: those of the members on the survivors; one forward for each of them and one for the clean images.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let mut strongest = Strongest::clean(network, batch)?;
        for (name, attack) in &self.members {
            step.services.check_cancelled()?;
            let survivors = strongest.survivors()?;
            if !survivors.is_empty() {
                let candidates = attack.perturb(step, network, &survivors.batch(), budget)?;
                strongest.offer(network, &survivors, &candidates, budget)?;
            }
            strongest.report(step, name)?;
        }
        Ok(strongest.images)
    }
}
