//! FAB (Croce & Hein, ICML 2020, arXiv 1907.02044): the smallest perturbation, by steps onto the linearised decision
//! boundary that lean back towards the clean image.

use crate::{
    apgd::likeliest,
    ball::{size_each, surface},
    examples::{Examples, keep, positions, remaining, repeated, rounds_together},
    gradient::fooled,
    hyperplane::step_to,
    margins::Margins,
};
use guard_sdk::{
    Attack, AttackInfo, Batch, Budget, Guarantee, Method, Network, Result, Services, Step, Tensor,
    autograd::no_grad,
    batch::{per_image, sum_each},
};

/// Options of `fab`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("examples" = [{ "steps": 20 }]))]
pub struct FabOptions {
    /// Towards each of the likeliest other classes in turn, with one gradient a step; otherwise towards the nearest of all,
    /// with a gradient for each class.
    pub targeted: bool,
    /// How many of the likeliest other classes are aimed at (as many as there are, at most).
    #[schemars(range(min = 1))]
    pub target_classes: i64,
    /// Number of steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Number of starts: the first at the image, the others at random.
    #[schemars(range(min = 1))]
    pub restarts: u64,
    /// The largest share of the way that a step takes from the clean image's projection rather than from the current one's.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alpha_max: f64,
    /// How far a step goes beyond the boundary.
    #[schemars(range(min = 1.0))]
    pub eta: f64,
    /// What is left of a perturbation that succeeded when the search goes on from it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub beta: f64,
    /// Leave an example as soon as its perturbation is within ε: enough for a robust accuracy, not for a median norm.
    pub early_stop: bool,
}

impl Default for FabOptions {
    fn default() -> Self {
        Self {
            targeted: true,
            target_classes: 9,
            steps: 100,
            restarts: 1,
            alpha_max: 0.1,
            eta: 1.05,
            beta: 0.9,
            early_stop: false,
        }
    }
}

/// Fast adaptive boundary attack. Returns the nearest image found that is decided wrongly, whatever its distance, or the
/// clean image where none was found.
pub struct Fab {
    options: FabOptions,
}

impl Method for Fab {
    type Options = FabOptions;
    const NAME: &'static str = "fab";

    fn new(options: FabOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Attack for Fab {
    fn info(&self) -> AttackInfo {
        AttackInfo { guarantee: Guarantee::MinimumNorm, ..AttackInfo::default() }
    }

    /// Passes: one forward for the clean images; for each restart and target class `2 · steps` forwards and `steps` input
    /// backwards (K − 1 times as many backwards, once for all classes, if it is not targeted). Few examples go towards several
    /// classes together.
    fn perturb(&mut self, step: &Step, network: &Network, batch: &Batch, budget: &Budget) -> Result<Tensor> {
        self.within(batch.len(), step, network, batch, budget)
    }
}

impl Fab {
    /// The attack where passes may be of `room` images: of a batch, these may be what others have left.
    pub fn within(
        &self,
        room: usize,
        step: &Step,
        network: &Network,
        batch: &Batch,
        budget: &Budget,
    ) -> Result<Tensor> {
        let logits = no_grad(|| network.logits(batch.images))?;
        let right = positions(&fooled(&logits, batch.labels).logical_not());
        let mut found = Found::none(Examples::all(batch).at(&right)?);
        let others = likeliest(&logits, batch.labels).narrow(1, 0, network.info().classes - 1);
        let others = others.index_select(0, &right);
        let rounds =
            if self.options.targeted { self.options.target_classes.min(others.size()[1]) } else { 1 };
        let mut round = 0;
        while round < rounds {
            let left = self.left(&found, budget)?;
            // A restart begins as far away as the best of the rounds before it.
            let together = match self.options {
                FabOptions { targeted: true, restarts: 1, .. } => {
                    rounds_together(room, left.examples.len(), (rounds - round) as u64) as i64
                }
                _ => 1,
            };
            if together > 1 {
                step.services.progress(round as f64 / rounds as f64);
                let classes = left.examples.of(&others.narrow(1, round, together));
                self.search_rounds(step, network, budget, left, &classes)?.report(&mut found);
                round += together;
                continue;
            }
            let classes =
                if self.options.targeted { others.narrow(1, round, 1) } else { others.shallow_clone() };
            for restart in 0..self.options.restarts {
                let number = round as u64 * self.options.restarts + restart;
                step.services.progress(number as f64 / (rounds as u64 * self.options.restarts) as f64);
                self.search(step, network, budget, &mut found, &classes, (restart > 0).then_some(number))?;
            }
            round += 1;
        }
        Ok(found.examples.put(&batch.images.detach(), &found.images))
    }
}

/// The nearest wrongly decided images so far.
struct Found {
    examples: Examples,
    /// The clean image where there is none.
    images: Tensor,
    /// Their distance, ∞ where there is none, `[M]`.
    distance: Tensor,
}

impl Found {
    fn none(examples: Examples) -> Self {
        let images = examples.images.shallow_clone();
        let options = (images.kind(), images.device());
        let distance = Tensor::full([images.size()[0]], f64::INFINITY, options);
        Self { examples, images, distance }
    }

    fn at(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self {
            examples: self.examples.at(rows)?,
            images: self.images.index_select(0, rows),
            distance: self.distance.index_select(0, rows),
        })
    }
}

impl Fab {
    /// What is still searched for: of each example, or of those that are not yet within ε.
    fn left(&self, found: &Found, budget: &Budget) -> Result<Found> {
        let all = Found {
            examples: Examples::all(&found.examples.batch()),
            images: found.images.shallow_clone(),
            distance: found.distance.shallow_clone(),
        };
        let rest = self.options.early_stop.then(|| remaining(&found.distance.le(budget.epsilon))).flatten();
        match rest {
            Some(rest) => all.at(&rest),
            None => Ok(all),
        }
    }

    /// A run towards each of the classes `[M,J]`, all together; what comes of it is as if they had been made one after the
    /// other.
    fn search_rounds(
        &self,
        step: &Step,
        network: &Network,
        budget: &Budget,
        mut left: Found,
        classes: &Tensor,
    ) -> Result<Found> {
        let (count, rounds) = (left.examples.len() as i64, classes.size()[1]);
        let mut several = Found {
            examples: left.examples.repeated(rounds),
            images: repeated(&left.images, rounds),
            distance: repeated(&left.distance, rounds),
        };
        let classes = classes.transpose(0, 1).reshape([-1, 1]);
        self.search(step, network, budget, &mut several, &classes, None)?;
        for (images, distance) in several.images.split(count, 0).iter().zip(several.distance.split(count, 0))
        {
            let mut nearer = distance.lt_tensor(&left.distance);
            if self.options.early_stop {
                nearer = nearer.logical_and(&left.distance.gt(budget.epsilon));
            }
            left.images = images.where_self(&per_image(&nearer), &left.images);
            left.distance = distance.where_self(&nearer, &left.distance);
        }
        Ok(left)
    }

    /// One run towards the nearest of `classes` `[M,J]`, from the clean images or, with a number, from random ones.
    fn search(
        &self,
        step: &Step,
        network: &Network,
        budget: &Budget,
        found: &mut Found,
        classes: &Tensor,
        random: Option<u64>,
    ) -> Result<()> {
        let FabOptions { alpha_max, eta, beta, .. } = self.options;
        let mut classes = classes.shallow_clone();
        let mut run = Found {
            examples: Examples::all(&found.examples.batch()),
            images: found.images.shallow_clone(),
            distance: found.distance.shallow_clone(),
        };
        let mut current = run.examples.images.shallow_clone();
        if let Some(number) = random {
            let batch = run.examples.batch();
            let start = surface(step, "fab", number, &batch, budget.norm)?;
            let reach = run.distance.clamp_max(budget.epsilon) * 0.5;
            current = (batch.images + start * per_image(&reach)).clamp(0.0, 1.0);
        }
        for _ in 0..self.options.steps {
            if self.options.early_stop
                && let Some(rest) = remaining(&run.distance.le(budget.epsilon))
            {
                run.report(found);
                run.examples = run.examples.at(&rest)?;
                keep(&mut [&mut run.images, &mut run.distance, &mut current, &mut classes], &rest);
            }
            if run.examples.is_empty() {
                return Ok(());
            }
            step.services.check_cancelled()?;
            let (clean, labels) = (&run.examples.images, &run.examples.labels);
            let boundary = Margins::at(network, &current, labels, &classes)?.nearest(budget.norm);
            // ⟨w, ·⟩ must rise by −margin from the current image for the linear margin to be 0.
            let rise = -boundary.margin;
            let rise_from_clean = &rise + sum_each(&(&boundary.normal * (&current - clean)));
            let near = step_to(&current, &boundary.normal, &rise, budget.norm);
            let straight = step_to(clean, &boundary.normal, &rise_from_clean, budget.norm);
            let length = |step: &Tensor| size_each(step, budget.norm).clamp_min(1e-8);
            let share = (length(&near) / (length(&near) + length(&straight))).clamp_max(alpha_max);
            let share = per_image(&share);
            let next =
                (&current + near * eta) * (share.ones_like() - &share) + (clean + straight * eta) * &share;
            let next = next.clamp(0.0, 1.0);

            let fools = fooled(&no_grad(|| network.logits(&next))?, labels);
            let distance = size_each(&(&next - clean), budget.norm);
            let nearer = fools.logical_and(&distance.lt_tensor(&run.distance));
            run.images = next.where_self(&per_image(&nearer), &run.images);
            run.distance = distance.where_self(&nearer, &run.distance);
            current = (clean + (&next - clean) * beta).where_self(&per_image(&fools), &next);
        }
        run.report(found);
        Ok(())
    }
}

impl Found {
    /// Writes into what `self` was taken from.
    fn report(&self, whole: &mut Found) {
        whole.images = self.examples.put(&whole.images, &self.images);
        whole.distance = self.examples.put(&whole.distance, &self.distance);
    }
}
