//! Uniform noise within the budget: the baseline that any attack must beat by far.

use crate::{ball, strongest::Strongest};
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Method, Network, Result, Services, Step, Tensor, attack::Knowledge,
};

/// Options of `noise`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoiseOptions {
    /// Number of draws; an example keeps one that is decided wrongly, or else the one with the highest loss.
    #[schemars(range(min = 1))]
    pub draws: u64,
}

impl Default for NoiseOptions {
    fn default() -> Self {
        Self { draws: 1 }
    }
}

/// x + u, u uniform in the linf ball; in the l2 ball a uniform direction with a length uniform on [0, ε).
pub struct Noise {
    options: NoiseOptions,
}

impl Method for Noise {
    type Options = NoiseOptions;
    const NAME: &'static str = "noise";

    fn new(options: NoiseOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Attack for Noise {
    fn info(&self) -> AttackInfo {
        AttackInfo { knowledge: Knowledge::BlackBox, ..AttackInfo::default() }
    }

    /// Passes: none for one draw, else one forward for each and one for the clean images.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let drawn = |batch: &Batch, draw| {
            let noise = ball::inside(step, "noise", draw, batch, budget)?;
            Ok::<_, guard_sdk::Error>(budget.project(&(batch.images + noise), batch.images))
        };
        if self.options.draws == 1 {
            return drawn(batch, 0);
        }
        let mut strongest = Strongest::clean(network, batch)?;
        for draw in 0..self.options.draws {
            step.services.check_cancelled()?;
            let survivors = strongest.survivors()?;
            if survivors.is_empty() {
                break;
            }
            let candidates = drawn(&survivors.batch(), draw)?;
            strongest.offer(network, &survivors, &candidates, budget)?;
        }
        Ok(strongest.images)
    }
}
