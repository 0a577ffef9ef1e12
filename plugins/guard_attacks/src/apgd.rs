//! APGD (Croce & Hein, ICML 2020, arXiv 2003.01690, section 3 and algorithm 1): projected gradient ascent with momentum
//! whose step size halves by itself.

use crate::{
    ball,
    compat::Compat,
    examples::{Examples, keep, remaining, rounds_together},
    goal::{Goal, Loss},
    gradient::{Seen, fooled, look, see},
    losses::without,
    strongest::Strongest,
};
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Error, Kind, Method, Network, Result, Services, Step, Tensor,
    batch::per_image,
};

/// How much of a step is new; the rest is the step before.
const MOMENTUM: f64 = 0.75;

/// What APGD raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ApgdLoss {
    /// Cross-entropy; see [`Loss::Ce`].
    #[default]
    Ce,
    /// Difference of logits ratio; needs three classes.
    Dlr,
    /// Difference of logits ratio towards each of the likeliest other classes in turn; needs four classes.
    TargetedDlr,
}

/// Options of `apgd`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("examples" = [{ "steps": 20 }]))]
pub struct ApgdOptions {
    /// What is raised.
    pub loss: ApgdLoss,
    /// N, the number of gradient steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Number of random starts.
    #[schemars(range(min = 1))]
    pub restarts: u64,
    /// For the targeted loss: how many of the likeliest other classes are aimed at (as many as there are, at most).
    #[schemars(range(min = 1))]
    pub target_classes: i64,
    /// ρ: the step size halves where no more than this share of the steps since the last checkpoint raised the loss.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rho: f64,
    /// Passes over which loss and gradient are averaged, for stochastic networks.
    #[schemars(range(min = 1))]
    pub eot: u64,
    /// Computes what released code computes: at the first checkpoint the first step's loss is compared with 0 rather than
    /// with the loss at the start, and all steps are made; an example keeps the last image that was decided wrongly.
    pub compat: Option<Compat>,
}

impl Default for ApgdOptions {
    fn default() -> Self {
        let loss = ApgdLoss::Ce;
        Self { loss, steps: 100, restarts: 1, target_classes: 9, rho: 0.75, eot: 1, compat: None }
    }
}

/// Auto-PGD. Attacks what is decided rightly, and each example only until it is decided wrongly; where that fails, returns
/// the image with the highest cross-entropy among each run's best (the released code returns the clean image).
pub struct Apgd {
    options: ApgdOptions,
}

impl Method for Apgd {
    type Options = ApgdOptions;
    const NAME: &'static str = "apgd";

    fn new(options: ApgdOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Attack for Apgd {
    fn info(&self) -> AttackInfo {
        let caveat = Compat::caveat(
            self.options.compat,
            "compares the loss at the first checkpoint with 0 instead of with the loss at the start",
        );
        AttackInfo { caveat, ..AttackInfo::default() }
    }

    /// Passes: one forward for the clean images; for the survivors of each restart and target class `eot · (steps + 1)`
    /// forwards and `eot · steps` input backwards, and one forward. Few survivors go through several rounds together, those
    /// that an earlier round fools through the later ones in vain.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        self.within(batch.len(), step, network, batch, budget)
    }
}

impl Apgd {
    /// The attack where passes may be of `room` images: of a batch, these may be what others have left.
    pub fn within(
        &self,
        room: usize,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        let mut strongest = Strongest::clean(network, batch)?;
        let (stream, targets) = match self.options.loss {
            ApgdLoss::Ce => ("apgd.ce", None),
            ApgdLoss::Dlr => ("apgd.dlr", None),
            ApgdLoss::TargetedDlr => {
                ("apgd.targeted", Some(likeliest(&strongest.clean_logits, batch.labels)))
            }
        };
        let classes = self.options.target_classes.min(network.info().classes - 1) as u64;
        let rounds = if targets.is_some() { classes } else { 1 };
        let rounds = rounds * self.options.restarts;
        let mut round = 0;
        while round < rounds {
            step.services.progress(round as f64 / rounds as f64);
            let survivors = strongest.survivors()?;
            if survivors.is_empty() {
                break;
            }
            let together = rounds_together(room, survivors.len(), rounds - round);
            let of_each = |make: &dyn Fn(u64) -> Result<Tensor>| {
                let parts = (round..round + together).map(make).collect::<Result<Vec<_>>>()?;
                Ok::<_, Error>(Tensor::cat(&parts, 0))
            };
            let goal = match (&targets, self.options.loss) {
                (Some(targets), _) => {
                    let target =
                        |round| Ok(survivors.of(&targets.select(1, (round / self.options.restarts) as i64)));
                    Goal::towards(Loss::Dlr, network, of_each(&target)?)?
                }
                (None, ApgdLoss::Ce) => Goal::untargeted(Loss::Ce, network)?.exactly(self.options.eot > 1),
                (None, _) => Goal::untargeted(Loss::Dlr, network)?,
            };
            let once = survivors.batch();
            let starts = of_each(&|round| ball::surface(step, stream, round, &once, budget.norm))?;
            let several = survivors.repeated(together as i64);
            let attacked = several.batch();
            let start = budget.project(&(attacked.images + starts * budget.epsilon), attacked.images);
            let candidates = self.ascend(step, network, &attacked, goal, budget, start)?;
            let candidates = candidates.split(survivors.len() as i64, 0);
            strongest.offer_rounds(network, &survivors, &candidates, budget)?;
            round += together;
        }
        Ok(strongest.images)
    }
}

/// The other classes, the likeliest first, int64 `[N,K]`; the last column is the true class.
pub fn likeliest(logits: &Tensor, labels: &Tensor) -> Tensor {
    without(logits, labels).argsort(-1, true)
}

impl Apgd {
    /// One run from `start`: the first image of each example that is decided wrongly, or else the best.
    fn ascend(
        &self,
        step: &Step,
        network: &Network,
        batch: &Batch,
        goal: Goal,
        budget: &Budget,
        start: Tensor,
    ) -> Result<Tensor> {
        let steps = self.options.steps;
        let mut checkpoints = Checkpoints::new(steps);
        let seen = self.see(network, batch, &goal, &start, true)?;
        let mut results = start.shallow_clone();
        let mut search = Search::new(batch, goal, start, &seen, 2.0 * budget.epsilon);
        if self.options.compat.is_some() {
            search.last_loss = search.last_loss.zeros_like();
            search.goes_on = true;
        }
        search.collect_fooled(&mut results, &seen.logits)?;
        for number in 0..steps {
            if search.examples.is_empty() {
                return Ok(results);
            }
            step.services.check_cancelled()?;
            search.advance(budget, if number == 0 { 1.0 } else { MOMENTUM });
            // Nothing follows the last gradient.
            let last = number + 1 == steps;
            let seen = self.see(network, &search.examples.batch(), &search.goal, &search.current, !last)?;
            search.note(&seen);
            search.collect_fooled(&mut results, &seen.logits)?;
            if let Some(since) = checkpoints.passed() {
                search.halve_where_stuck(self.options.rho * since as f64);
            }
        }
        let best = search.examples.of(&results).where_self(&per_image(&search.fooled), &search.best);
        Ok(search.examples.put(&results, &best))
    }

    /// Logits, losses and gradients, averaged over `eot` passes.
    fn see(
        &self,
        network: &Network,
        batch: &Batch,
        goal: &Goal,
        images: &Tensor,
        gradient: bool,
    ) -> Result<Seen> {
        let once = || {
            if gradient {
                return see(network, batch, goal, images);
            }
            let (logits, losses) = look(network, batch, goal, images)?;
            Ok(Seen { logits, losses, gradient: images.zeros_like() })
        };
        let mut sum = once()?;
        if self.options.eot > 1 {
            for _ in 1..self.options.eot {
                let seen = once()?;
                sum.logits += seen.logits;
                sum.losses += seen.losses;
                sum.gradient += seen.gradient;
            }
            let share = 1.0 / self.options.eot as f64;
            (sum.logits, sum.losses, sum.gradient) =
                (sum.logits * share, sum.losses * share, sum.gradient * share);
        }
        Ok(sum)
    }
}

/// When the step size is looked at: after 22 % of the steps, then at intervals that shrink by 3 % of them down to 6 %.
struct Checkpoints {
    interval: u64,
    shrink: u64,
    least: u64,
    since: u64,
}

impl Checkpoints {
    fn new(steps: u64) -> Self {
        let share = |percent: u64| (steps * percent / 100).max(1);
        Self { interval: share(22), shrink: share(3), least: share(6), since: 0 }
    }

    /// Counts a step; at a checkpoint, the number of steps since the last.
    fn passed(&mut self) -> Option<u64> {
        self.since += 1;
        if self.since < self.interval {
            return None;
        }
        self.since = 0;
        let interval = self.interval;
        self.interval = interval.saturating_sub(self.shrink).max(self.least);
        Some(interval)
    }
}

/// Where a run stands, one row per example that is still attacked.
struct Search {
    examples: Examples,
    goal: Goal,
    current: Tensor,
    previous: Tensor,
    gradient: Tensor,
    best: Tensor,
    best_gradient: Tensor,
    best_loss: Tensor,
    last_loss: Tensor,
    /// How many steps raised the loss since the last checkpoint.
    raised: Tensor,
    /// The best loss at the last checkpoint.
    checked_loss: Tensor,
    /// Whether the step size was halved there, as a number.
    halved: Tensor,
    step_size: Tensor,
    /// Whether some image was decided wrongly; only if it goes on after that.
    fooled: Tensor,
    /// Whether examples stay after they were decided wrongly.
    goes_on: bool,
}

impl Search {
    fn new(batch: &Batch, goal: Goal, start: Tensor, seen: &Seen, step_size: f64) -> Self {
        let losses = &seen.losses;
        Self {
            examples: Examples::all(batch),
            goal,
            previous: start.shallow_clone(),
            best: start.shallow_clone(),
            current: start,
            gradient: seen.gradient.shallow_clone(),
            best_gradient: seen.gradient.shallow_clone(),
            best_loss: losses.shallow_clone(),
            last_loss: losses.shallow_clone(),
            raised: losses.zeros_like(),
            checked_loss: losses.shallow_clone(),
            // The first checkpoint asks for steps that raised the loss only.
            halved: losses.ones_like().to_kind(Kind::Bool),
            step_size: losses.full_like(step_size),
            fooled: losses.zeros_like().to_kind(Kind::Bool),
            goes_on: false,
        }
    }

    /// A step along the gradient, and what is left of the step before.
    fn advance(&mut self, budget: &Budget, share: f64) {
        let clean = &self.examples.images;
        let stepped = &self.current + budget.norm.steepest(&self.gradient) * per_image(&self.step_size);
        let step = budget.project(&stepped, clean) - &self.current;
        let momentum = &self.current - &self.previous;
        let next = budget.project(&(&self.current + step * share + momentum * (1.0 - share)), clean);
        self.previous = std::mem::replace(&mut self.current, next);
    }

    /// Takes note of what was seen at the current images.
    fn note(&mut self, seen: &Seen) {
        self.gradient = seen.gradient.shallow_clone();
        self.raised += seen.losses.gt_tensor(&self.last_loss).to_kind(self.raised.kind());
        self.last_loss = seen.losses.shallow_clone();
        let better = seen.losses.gt_tensor(&self.best_loss);
        self.best_loss = seen.losses.where_self(&better, &self.best_loss);
        let better = per_image(&better);
        self.best = self.current.where_self(&better, &self.best);
        self.best_gradient = self.gradient.where_self(&better, &self.best_gradient);
    }

    /// Halves the step size and returns to the best image where no more than `enough` steps raised the loss, or nothing
    /// came of the last interval although the step size had not been halved before it.
    fn halve_where_stuck(&mut self, enough: f64) {
        let idle = self.checked_loss.ge_tensor(&self.best_loss).logical_and(&self.halved.logical_not());
        self.halved = self.raised.le(enough).logical_or(&idle);
        self.checked_loss = self.best_loss.shallow_clone();
        self.raised = self.raised.zeros_like();
        self.step_size = (&self.step_size * 0.5).where_self(&self.halved, &self.step_size);
        let back = per_image(&self.halved);
        self.current = self.best.where_self(&back, &self.current);
        self.gradient = self.best_gradient.where_self(&back, &self.gradient);
    }

    /// Puts what is decided wrongly into `results`, and goes on with the rest.
    fn collect_fooled(&mut self, results: &mut Tensor, logits: &Tensor) -> Result<()> {
        let wrong = fooled(logits, &self.examples.labels);
        if self.goes_on {
            let last = self.current.where_self(&per_image(&wrong), &self.examples.of(results));
            *results = self.examples.put(results, &last);
            self.fooled = self.fooled.logical_or(&wrong);
            return Ok(());
        }
        let Some(rest) = remaining(&wrong) else { return Ok(()) };
        *results = self.examples.put(results, &self.current);
        self.examples = self.examples.at(&rest)?;
        self.goal = self.goal.at(&rest);
        let Self { current, previous, gradient, best, best_gradient, .. } = self;
        keep(&mut [current, previous, gradient, best, best_gradient], &rest);
        let Self { best_loss, last_loss, raised, checked_loss, halved, step_size, fooled, .. } = self;
        keep(&mut [best_loss, last_loss, raised, checked_loss, halved, step_size, fooled], &rest);
        Ok(())
    }
}
