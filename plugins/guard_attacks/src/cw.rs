//! CW (Carlini & Wagner, IEEE S&P 2017, arXiv 1608.04644, section VI.A): the smallest l2 perturbation, by Adam on a change
//! of variables, x' = ½(tanh w + 1), with the weight of the margin found by binary search.

use crate::{
    compat::Compat,
    examples::{Examples, keep, positions, remaining},
    goal::{Goal, Loss, Target},
    gradient::{finite, fooled},
    losses::{margin, of_class, without},
};
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Error, Guarantee, Kind, Method, Network, Norm, Result, Services, Step,
    Tensor,
    autograd::{Graph, grad, no_grad},
    batch::{per_image, sum_each},
};

/// Pixels of exactly 0 or 1 would have w = ±∞, and never move.
const INTERIOR: f64 = 0.999_999;
/// Adam's decay rates and guard against a division by 0.
const BETAS: (f64, f64) = (0.9, 0.999);
const TINY: f64 = 1e-8;

/// Options of `cw`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("examples" = [{ "steps": 40, "search_steps": 3 }]))]
pub struct CwOptions {
    /// Rounds of the binary search for c; 9 unless said, and 1 with `compat`.
    #[schemars(range(min = 1))]
    pub search_steps: Option<u64>,
    /// Adam's steps per round; 10 000 unless said, and 50 with `compat`.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// c of the first round, the weight of the margin against the squared length; 0.001 unless said, and 1 with `compat`.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub constant: Option<f64>,
    /// Adam's learning rate.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub learning_rate: f64,
    /// κ, the margin by which a decision must be wrong.
    #[schemars(range(min = 0.0))]
    pub confidence: f64,
    /// Leave an example for the rest of a round once a tenth of the steps has not lowered its cost.
    pub abort_early: bool,
    /// The class that the margin aims at; a wrong decision counts, whichever class it is for.
    pub target: Target,
    /// Computes what released code computes: one c for all, which is not searched for; 0 takes part in the maximum of the
    /// other logits and in the true one; the batch stops when its summed cost rises, so that an example's result depends
    /// on its batch mates; pixels of 0 and 1 do not move.
    pub compat: Option<Compat>,
}

impl Default for CwOptions {
    fn default() -> Self {
        Self {
            search_steps: None,
            steps: None,
            constant: None,
            learning_rate: 0.01,
            confidence: 0.0,
            abort_early: true,
            target: Target::None,
            compat: None,
        }
    }
}

/// min ‖x' − x‖₂² + c · max(z_y − max_{i≠y} zᵢ, −κ). Returns the nearest image found that is decided wrongly, whatever its
/// distance, or the clean image where none was found.
pub struct Cw {
    options: CwOptions,
    rounds: u64,
    steps: u64,
    constant: f64,
}

impl Method for Cw {
    type Options = CwOptions;
    const NAME: &'static str = "cw";

    fn new(options: CwOptions, _: &Services) -> Result<Self> {
        let compat = options.compat.is_some();
        let rounds = options.search_steps.unwrap_or(if compat { 1 } else { 9 });
        if compat && rounds > 1 {
            return Err(Error::option("/search_steps", "the released code does not search for c")
                .help("leave out `search_steps` or `compat`"));
        }
        let steps = options.steps.unwrap_or(if compat { 50 } else { 10_000 });
        let constant = options.constant.unwrap_or(if compat { 1.0 } else { 1e-3 });
        Ok(Self { options, rounds, steps, constant })
    }
}

impl Attack for Cw {
    fn info(&self) -> AttackInfo {
        AttackInfo {
            guarantee: Guarantee::MinimumNorm,
            norms: vec![Norm::L2],
            caveat: Compat::caveat(
                self.options.compat,
                "masks the true logit with 0 instead of leaving it out, and searches no constant",
            ),
            ..AttackInfo::default()
        }
    }

    /// Passes: one forward for the clean images, then `search_steps · steps` forwards and input backwards, fewer where
    /// rounds end early.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        if budget.norm != Norm::L2 {
            return Err(Error::unsupported("`cw` is defined for l2 only").help("set `norm = \"l2\"`"));
        }
        let logits = no_grad(|| network.logits(batch.images))?;
        let goal = Goal::aimed(Loss::Margin, self.options.target, step, network, batch)?;
        // The released code starts from what is decided wrongly, too.
        let attacked = match self.options.compat {
            None => positions(&fooled(&logits, batch.labels).logical_not()),
            Some(_) => Tensor::arange(batch.len() as i64, (Kind::Int64, batch.images.device())),
        };
        let examples = Examples::all(batch).at(&attacked)?;
        if examples.is_empty() {
            return Ok(batch.images.detach());
        }
        let options = (batch.images.kind(), batch.images.device());
        let all = |value: f64| Tensor::full([examples.labels.size()[0]], value, options);
        let mut nearest = Nearest { images: examples.images.shallow_clone(), distance: all(f64::INFINITY) };
        let (mut low, mut high, mut constant) = (all(0.0), all(f64::INFINITY), all(self.constant));
        let targets = goal.at(&attacked).into_targets();
        for round in 0..self.rounds {
            let call = Call { step, network, round };
            let succeeded = self.descend(&call, &examples, targets.as_ref(), &constant, &mut nearest)?;
            high = constant.minimum(&high).where_self(&succeeded, &high);
            low = low.where_self(&succeeded, &constant.maximum(&low));
            let between = (&low + &high) * 0.5;
            constant = between.where_self(&high.isfinite(), &(&constant * 10.0));
        }
        Ok(examples.put(&batch.images.detach(), &nearest.images))
    }
}

/// What a round is called with.
struct Call<'a> {
    step: &'a Step<'a>,
    network: &'a Network<'a>,
    round: u64,
}

/// The nearest wrongly decided images so far, and their squared distances, ∞ where there is none.
struct Nearest {
    images: Tensor,
    distance: Tensor,
}

impl Cw {
    /// One round of Adam from the clean images, with c `[M]`; whether each example was decided wrongly at some step.
    fn descend(
        &self,
        call: &Call,
        examples: &Examples,
        targets: Option<&Tensor>,
        constant: &Tensor,
        nearest: &mut Nearest,
    ) -> Result<Tensor> {
        let Call { step, network, round } = *call;
        let mut active = Examples::all(&examples.batch());
        let mut targets = targets.map(Tensor::shallow_clone);
        let interior = if self.options.compat.is_some() { 1.0 } else { INTERIOR };
        let mut w = ((&active.images * 2.0 - 1.0) * interior).atanh();
        let (mut mean, mut square) = (w.zeros_like(), w.zeros_like());
        let mut constant = constant.shallow_clone();
        let mut last_cost = constant.full_like(f64::INFINITY);
        let mut succeeded = constant.zeros_like().to_kind(Kind::Bool);
        for number in 0..self.steps {
            step.services.check_cancelled()?;
            if number % 100 == 0 {
                let done = (round * self.steps + number) as f64;
                step.services.progress(done / (self.rounds * self.steps) as f64);
            }
            let leaf = w.detach().set_requires_grad(true);
            let images = (leaf.tanh() + 1.0) * 0.5;
            let logits = network.logits(&images)?;
            let distance = sum_each(&(&images - &active.images).square());
            let cost = &distance + &constant * self.hinge(&logits, &active.labels, targets.as_ref());
            let gradient = finite(&grad(&cost.sum(None::<Kind>), &[&leaf], Graph::Free)?.remove(0));
            let (images, logits) = (images.detach(), logits.detach());
            let (distance, cost) = (distance.detach(), cost.detach());

            let wrong = fooled(&logits, &active.labels);
            let wrong = wrong.logical_and(&margin(&logits, &active.labels).ge(self.options.confidence));
            nearest.offer(&active, &images, &distance, &wrong);
            succeeded = active.put(&succeeded, &active.of(&succeeded).logical_or(&wrong));

            mean = mean * BETAS.0 + &gradient * (1.0 - BETAS.0);
            square = square * BETAS.1 + gradient.square() * (1.0 - BETAS.1);
            let corrections = (1.0 - BETAS.0.powi(number as i32 + 1), 1.0 - BETAS.1.powi(number as i32 + 1));
            let deviation = square.sqrt() / corrections.1.sqrt() + TINY;
            w -= (&mean / deviation) * (self.options.learning_rate / corrections.0);

            if number % (self.steps / 10).max(1) == 0 {
                if self.options.compat.is_some() {
                    let (total, last) = (cost.sum(None::<Kind>), last_cost.sum(None::<Kind>));
                    if total.gt_tensor(&last).int64_value(&[]) == 1 {
                        break;
                    }
                    last_cost = cost;
                } else if self.options.abort_early {
                    let idle = cost.gt_tensor(&(&last_cost * 0.9999));
                    last_cost = cost;
                    if let Some(rest) = remaining(&idle) {
                        active = active.at(&rest)?;
                        let tensors = [&mut w, &mut mean, &mut square, &mut constant, &mut last_cost];
                        keep(&mut tensors.into_iter().chain(&mut targets).collect::<Vec<_>>(), &rest);
                    }
                    if active.is_empty() {
                        break;
                    }
                }
            }
        }
        Ok(succeeded)
    }

    /// max(−margin, −κ), `[M]`; the margin is negative where the decision is right or, with targets, another.
    fn hinge(&self, logits: &Tensor, labels: &Tensor, targets: Option<&Tensor>) -> Tensor {
        let lead = match (self.options.compat, targets) {
            (None, None) => -margin(logits, labels),
            (None, Some(targets)) => margin(logits, targets),
            (Some(_), targets) => {
                let class = targets.unwrap_or(labels);
                let other = without(logits, class).max_dim(-1, false).0.clamp_min(0.0);
                let lead = of_class(logits, class).clamp_min(0.0) - other;
                if targets.is_some() { -lead } else { lead }
            }
        };
        lead.clamp_min(-self.options.confidence)
    }
}

impl Nearest {
    /// Takes what is decided wrongly and nearer.
    fn offer(&mut self, active: &Examples, images: &Tensor, distance: &Tensor, wrong: &Tensor) {
        let nearer = wrong.logical_and(&distance.lt_tensor(&active.of(&self.distance)));
        let nearest = images.where_self(&per_image(&nearer), &active.of(&self.images));
        self.images = active.put(&self.images, &nearest);
        let shortest = distance.where_self(&nearer, &active.of(&self.distance));
        self.distance = active.put(&self.distance, &shortest);
    }
}
