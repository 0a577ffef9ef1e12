//! Transfer (Papernot et al., arXiv 1605.07277): images that were made on another network, a surrogate. What they leave right
//! of a network whose gradients the attacker does not see is a sanity baseline for the attacks that do see them.

use crate::ensemble::Member;
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Error, Method, Network, OwnedNetwork, Result, Services, Step, Tensor,
    attack::Knowledge, services::AttackHandle,
};

/// Options of `transfer`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "network": "teacher", "attack": { "use": "fgsm" } }]))]
pub struct TransferOptions {
    /// The surrogate: `teacher`, or a network of the recipe's `evaluate.networks`.
    pub network: String,
    /// The attack on the surrogate, `pgd` with 50 steps unless said. One that goes on after the surrogate was fooled transfers
    /// better than one that stops there.
    #[serde(default = "pgd")]
    pub attack: Member,
}

fn pgd() -> Member {
    let options = [("steps", 50.into()), ("relative_step_size", 0.1.into())];
    let options = options.map(|(name, value): (&str, serde_json::Value)| (name.to_string(), value));
    Member { name: "pgd".into(), options: options.into_iter().collect() }
}

/// What the inner attack makes on the surrogate, brought into the budget where it looks for the smallest perturbation
/// and left it.
pub struct Transfer {
    surrogate: OwnedNetwork,
    attack: AttackHandle,
}

impl Method for Transfer {
    type Options = TransferOptions;
    const NAME: &'static str = "transfer";

    fn new(options: TransferOptions, services: &Services) -> Result<Self> {
        let at = |path: &str, error: Error| Error { option_path: Some(path.into()), ..error };
        let surrogate = services.network(&options.network).map_err(|error| at("/network", error))?;
        let attack = options.attack.ready(services).map_err(|error| at("/attack", error))?;
        Ok(Self { surrogate, attack })
    }
}

impl Attack for Transfer {
    fn info(&self) -> AttackInfo {
        AttackInfo { knowledge: Knowledge::BlackBox, ..AttackInfo::default() }
    }

    /// Passes: none of the network, those of the inner attack of the surrogate.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let surrogate = self.surrogate.lend();
        let (takes, has) = (surrogate.info(), network.info());
        if (takes.input, takes.classes) != (has.input, has.classes) {
            return Err(Error::unsupported(format!(
                "the surrogate takes {:?} images of {} classes, the network {:?} of {}",
                takes.input, takes.classes, has.input, has.classes
            )));
        }
        let found = self.attack.perturb(step, &surrogate, batch, budget)?;
        Ok(budget.project(&found, batch.images))
    }
}
