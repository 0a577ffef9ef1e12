//! PGD (Madry et al., ICLR 2018, arXiv 1706.06083) in the linf and l2 ball.

use crate::{
    ball,
    examples::{Examples, keep, remaining},
    goal::{Goal, Loss, Target},
    gradient::{fooled, see},
    strongest::Strongest,
};
use guard_sdk::{Attack, Batch, Budget, Error, Method, Network, Result, Services, Step, Tensor};

/// Options of `pgd`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PgdOptions {
    /// Number of gradient steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// α, the length of a step, as a share of ε (α = 2/255 at ε = 8/255 is 0.25).
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub relative_step_size: f64,
    /// Start at a random point of the ball rather than at the image.
    pub random_start: bool,
    /// Number of random starts; an example keeps one that is decided wrongly, or else the one with the highest loss.
    #[schemars(range(min = 1))]
    pub restarts: u64,
    /// What the steps raise.
    pub loss: Loss,
    /// The class that the steps aim at; a wrong decision counts, whichever class it is for.
    pub target: Target,
    /// Keep an example's first image that is decided wrongly and go on with the others only: cheaper, and never weaker as
    /// an evaluation; adversarial training wants the last image.
    pub early_stop: bool,
}

impl Default for PgdOptions {
    fn default() -> Self {
        Self {
            steps: 10,
            relative_step_size: 0.25,
            random_start: true,
            restarts: 1,
            loss: Loss::Ce,
            target: Target::None,
            early_stop: false,
        }
    }
}

/// Projected gradient ascent on each example's loss. Returns the last image, or what `early_stop` and `restarts` say.
pub struct Pgd {
    options: PgdOptions,
}

impl Method for Pgd {
    type Options = PgdOptions;
    const NAME: &'static str = "pgd";

    fn new(options: PgdOptions, _: &Services) -> Result<Self> {
        if options.restarts > 1 && !options.random_start {
            return Err(Error::option("/restarts", "restarts from the image itself are all the same")
                .help("set `random_start = true` or `restarts = 1`"));
        }
        Ok(Self { options })
    }
}

impl Attack for Pgd {
    /// Passes: `steps` forwards and input backwards per restart; if there are several, one more forward for each and one
    /// for the clean images.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        let goal = Goal::aimed(self.options.loss, self.options.target, step, network, batch)?;
        if self.options.restarts == 1 {
            return self.ascend(step, network, batch, goal, budget, 0);
        }
        let mut strongest = Strongest::clean(network, batch)?;
        for restart in 0..self.options.restarts {
            let attacked =
                if self.options.early_stop { strongest.survivors()? } else { Examples::all(batch) };
            if attacked.is_empty() {
                break;
            }
            let goal = goal.at(&attacked.rows);
            let candidates = self.ascend(step, network, &attacked.batch(), goal, budget, restart)?;
            strongest.offer(network, &attacked, &candidates, budget)?;
        }
        Ok(strongest.images)
    }
}

impl Pgd {
    /// The images after one restart.
    fn ascend(
        &self,
        step: &Step,
        network: &Network,
        batch: &Batch,
        mut goal: Goal,
        budget: &Budget,
        restart: u64,
    ) -> Result<Tensor> {
        let step_size = self.options.relative_step_size * budget.epsilon;
        let mut adversarial = match self.options.random_start {
            true => {
                let start = ball::inside(step, "start", restart, batch, budget)?;
                budget.project(&(batch.images + start), batch.images)
            }
            false => batch.images.detach(),
        };
        let mut examples = Examples::all(batch);
        let mut results = adversarial.shallow_clone();
        for _ in 0..self.options.steps {
            step.services.check_cancelled()?;
            let mut seen = see(network, &examples.batch(), &goal, &adversarial)?;
            let fools = || fooled(&seen.logits, &examples.labels);
            if let Some(rest) = self.options.early_stop.then(|| remaining(&fools())).flatten() {
                results = examples.put(&results, &adversarial);
                (examples, goal) = (examples.at(&rest)?, goal.at(&rest));
                keep(&mut [&mut adversarial, &mut seen.gradient], &rest);
                if examples.is_empty() {
                    break;
                }
            }
            // One ascent step, then back into the ball and the pixel range.
            let stepped = &adversarial + budget.norm.steepest(&seen.gradient) * step_size;
            adversarial = budget.project(&stepped, &examples.images);
        }
        Ok(examples.put(&results, &adversarial))
    }
}
