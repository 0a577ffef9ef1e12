//! Short attacks of the host's own, on a part of the images, that show whether the recipe's attacks and the network can be
//! trusted (Carlini et al. 2019, arXiv 1902.06705; Croce et al. 2022, arXiv 2202.13711).

use super::{Attacked, Evaluation, Evaluator, Flag, UnderThreat, count, rounded};
use crate::{
    data::{Loaded, View},
    plugin::Context,
    recipe::AttackUse,
};
use guard_sdk::{
    Batch, Budget, Kind, Network, Norm, Result, Tensor,
    autograd::{Graph, grad},
    batch::norm_each,
    manifest::Kind as MethodKind,
};
use serde_json::{Value, json};

/// The attacks that probes are made of.
pub const PROBE_ATTACKS: [&str; 4] =
    ["guard.attacks/noise", "guard.attacks/fgsm", "guard.attacks/apgd", "guard.attacks/square"];

/// Differences of so many examples are noise, whatever the share.
const TIES: usize = 1;
/// The share of examples whose gradient may vanish, or by which doubled steps may change a number.
const POINT: f64 = 0.01;
/// The share of pixels that rounding may move when a batch is split: the signs of small gradients flip.
const MOVED: f64 = 0.25;

/// The part of the images that the probes look at, all of them right without attack.
struct Probe<'a> {
    evaluator: &'a Evaluator<'a>,
    context: &'a Context<'a>,
    sample: Loaded,
    budget: Budget,
    /// How many of the sample are right under the recipe's attacks together.
    left: usize,
}

impl Evaluator<'_> {
    /// What is doubtful about the network, and about the attacks within one budget: the one within which the attacks leave a
    /// share nearest to half of the clean accuracy, where a difference between attacks shows best.
    ///
    /// # Errors
    /// If an attack fails.
    pub(super) fn probe(
        &self,
        evaluation: &Evaluation,
        attacks: &[AttackUse],
        context: &Context,
    ) -> Result<Vec<Flag>> {
        let half = 0.5 * count(&evaluation.clean) as f64;
        let from_half = |threat: &&UnderThreat| (count(&evaluation.worst_case(threat)) as f64 - half).abs();
        let nearest = evaluation.threats.iter().min_by(|a, b| from_half(a).total_cmp(&from_half(b)));
        let Some(threat) = nearest.filter(|_| !attacks.is_empty()) else {
            return Ok(Vec::new());
        };
        let right: Vec<i64> = evaluation
            .clean
            .iter()
            .zip(0..)
            .filter_map(|(right, position)| right.then_some(position))
            .collect();
        let wanted = self.probe_images.min(right.len());
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let positions: Vec<i64> = (0..wanted).map(|index| right[index * right.len() / wanted]).collect();
        let worst = evaluation.worst_case(threat);
        let left = positions.iter().filter(|&&position| worst[position as usize]).count();
        let sample = self.split.batch(&positions, &View::plain())?.to_device(context.device)?;
        let probe = Probe { evaluator: self, context, sample, budget: threat.budget, left };
        let mut flags = probe.network()?;
        flags.extend(probe.baselines()?);
        for (number, attack) in attacks.iter().enumerate() {
            let before: Vec<bool> =
                positions.iter().map(|&position| threat.attacks[number].correct[position as usize]).collect();
            flags.extend(probe.attack(attack, &before)?);
        }
        flags.extend(probe.beyond_all_bounds(attacks)?);
        Ok(flags)
    }
}

impl Probe<'_> {
    fn len(&self) -> usize {
        self.sample.ids.len()
    }

    /// Outputs that are no logits, a forward that differs from itself, gradients that vanish.
    fn network(&self) -> Result<Vec<Flag>> {
        let mut flags = Vec::new();
        let Loaded { images, labels, ids } = &self.sample;
        let logits = self.evaluator.logits(images)?;
        let sums = logits.sum_dim_intlist(-1, false, Kind::Double) - 1.0;
        if sums.abs().max().double_value(&[]) < 1e-3 && logits.min().double_value(&[]) >= 0.0 {
            let message =
                "the network's outputs are probabilities, not logits: losses saturate and gradients vanish";
            flags.push(Flag::new("outputs-are-probabilities", message.into()));
        }
        // A GPU may sum in another order the second time.
        let rounding =
            if images.device().is_cuda() { 1e-4 * logits.abs().max().double_value(&[]) } else { 0.0 };
        if (self.evaluator.logits(images)? - &logits).abs().max().double_value(&[]) > rounding {
            let message = "two passes of the same images differ: attack a stochastic network with `eot`";
            flags.push(Flag::new("stochastic-network", message.into()));
        }
        let variable = images.detach().set_requires_grad(true);
        let loss = Batch::pixels(&variable, labels, ids)
            .cross_entropy_each(&Network::lend(&self.evaluator.network).logits(&variable)?)?
            .sum(None::<Kind>);
        let gradient = grad(&loss, &[&variable], Graph::Free)?.remove(0);
        let vanished = norm_each(&gradient).eq(0.0).sum(Kind::Int64).int64_value(&[]);
        let share = vanished as f64 / self.len() as f64;
        if share > POINT {
            let message = format!(
                "the gradient of the cross-entropy is exactly 0 for {:.0} % of the images: gradient attacks cannot move there",
                100.0 * share
            );
            flags.push(Flag::new("zero-gradients", message));
        }
        Ok(flags)
    }

    /// Weak attacks, and ones of another kind, that the recipe's must not fall behind.
    fn baselines(&self) -> Result<Vec<Flag>> {
        let mut flags = Vec::new();
        let (left, all, epsilon) = (self.left, self.len(), rounded(self.budget.epsilon));
        let percent = |count: usize| 100.0 * count as f64 / all as f64;
        if let Some(noise) = self.with("noise", json!({}))?
            && noise <= left + self.tolerance()
            && noise < all
        {
            let message = format!(
                "uniform noise leaves {:.1} % of {all} images at ε = {epsilon}, the recipe's attacks {:.1} %",
                percent(noise),
                percent(left)
            );
            flags.push(Flag::new("noise-as-strong", message));
        }
        let stronger = [
            ("single-step-beats-iterative", "a single step (`fgsm`)", "fgsm", json!({}), TIES),
            (
                "margin-loss-beats-attacks",
                "20 steps of `apgd` on a margin loss",
                "apgd",
                json!({ "loss": "dlr", "steps": 20 }),
                self.tolerance(),
            ),
            (
                "black-box-beats-attacks",
                "100 queries of `square`, which sees no gradients,",
                "square",
                json!({ "queries": 100 }),
                TIES,
            ),
        ];
        for (code, what, attack, options, tolerance) in stronger {
            // Margin losses compare the true class with two others.
            if attack == "apgd" && self.evaluator.classes() < 3 {
                continue;
            }
            if let Some(found) = self.with(attack, options)?
                && found + tolerance < left
            {
                let message = format!(
                    "{what} leaves {:.1} % of {all} images at ε = {epsilon}, the recipe's attacks together {:.1} %",
                    percent(found),
                    percent(left)
                );
                flags.push(Flag::new(code, message));
            }
        }
        Ok(flags)
    }

    /// An attack that has not converged, or that looks at batch mates.
    fn attack(&self, attack: &AttackUse, before: &[bool]) -> Result<Vec<Flag>> {
        let mut flags = Vec::new();
        let (name, all) = (attack.label(), self.len());
        if let Some(steps) = self.steps(attack)? {
            let mut doubled = attack.clone();
            doubled.options.insert("steps".into(), json!(2 * steps));
            let after = count(&self.run(&doubled, &self.sample, &self.budget)?.correct);
            if after + self.tolerance() < count(before) {
                let message = format!(
                    "`{name}` leaves {} of {all} images after {steps} steps and {after} after {}: it has not converged",
                    count(before),
                    2 * steps
                );
                flags.push(Flag::new("not-converged", message));
            }
            if after > count(before) + self.tolerance() {
                let message = format!(
                    "`{name}` leaves {} of {all} images after {steps} steps and more, {after}, after {}: it does not search",
                    count(before),
                    2 * steps
                );
                flags.push(Flag::new("rises-with-steps", message));
            }
        }
        let together = self.run(attack, &self.sample, &self.budget)?;
        let half = all.div_ceil(2);
        let mut parts = Vec::new();
        for part in [0..half, half..all] {
            if !part.is_empty() {
                parts.push(self.run(attack, &self.part(part), &self.budget)?);
            }
        }
        let decided = parts.iter().flat_map(|part| &part.correct).zip(&together.correct);
        let differ = decided.filter(|(apart, together)| apart != together).count();
        let images: Vec<&Tensor> = parts.iter().map(|part| &part.images).collect();
        let apart = (Tensor::f_cat(&images, 0)? - &together.images).abs();
        let moved = apart.gt(POINT * self.budget.epsilon).to_kind(Kind::Double).mean(None::<Kind>);
        let moved = moved.double_value(&[]);
        if differ > self.tolerance() || moved > MOVED {
            let message = format!(
                "`{name}` decides {differ} of {all} images differently in other batches and changes {:.0} % of the pixels: it looks at batch mates",
                100.0 * moved
            );
            flags.push(Flag::new("depends-on-the-batch", message));
        }
        Ok(flags)
    }

    /// Nothing withstands half of the pixels' range.
    fn beyond_all_bounds(&self, attacks: &[AttackUse]) -> Result<Vec<Flag>> {
        let pixels = self.sample.images.size()[1..].iter().product::<i64>() as f64;
        let epsilon = match self.budget.norm {
            Norm::Linf => 0.5,
            Norm::L2 => pixels.sqrt() / 2.0,
        };
        let budget = Budget { epsilon, ..self.budget };
        let mut left = vec![true; self.len()];
        for attack in attacks {
            let correct = self.run(attack, &self.sample, &budget)?.correct;
            left.iter_mut().zip(correct).for_each(|(left, correct)| *left &= correct);
        }
        let share = count(&left) as f64 / self.len() as f64;
        if share <= 1.0 / self.evaluator.classes() as f64 {
            return Ok(Vec::new());
        }
        let message = format!(
            "the recipe's attacks leave {:.1} % at ε = {epsilon:.3}, where nothing of the image need be left: they are broken, or gradients are masked",
            100.0 * share
        );
        Ok(vec![Flag::new("huge-epsilon-fails", message)])
    }

    /// How many of the sample are right under a probe's attack; none if no plugin offers it.
    fn with(&self, name: &str, options: Value) -> Result<Option<usize>> {
        let method = format!("guard.attacks/{name}");
        if self.context.plugins.find(MethodKind::Attack, &method).is_err() {
            return Ok(None);
        }
        let options = options.as_object().cloned().unwrap_or_default();
        let attack = AttackUse { method, name: Some(format!("probe-{name}")), options };
        Ok(Some(count(&self.run(&attack, &self.sample, &self.budget)?.correct)))
    }

    fn run(&self, attack: &AttackUse, sample: &Loaded, budget: &Budget) -> Result<Attacked> {
        let mut made = self.evaluator.attacks(std::slice::from_ref(attack), self.context)?.remove(0);
        self.evaluator.attacked(&mut made, sample, budget, self.context)
    }

    fn part(&self, range: std::ops::Range<usize>) -> Loaded {
        let (start, count) = (range.start as i64, range.len() as i64);
        Loaded {
            images: self.sample.images.narrow(0, start, count),
            labels: self.sample.labels.narrow(0, start, count),
            ids: self.sample.ids[range].to_vec(),
        }
    }

    /// The number of steps of an attack that has such an option.
    fn steps(&self, attack: &AttackUse) -> Result<Option<u64>> {
        let schema = self.context.plugins.schema(MethodKind::Attack, &attack.method)?;
        let default = &schema["properties"]["steps"]["default"];
        Ok(attack.options.get("steps").unwrap_or(default).as_u64())
    }

    fn tolerance(&self) -> usize {
        TIES.max((POINT * self.len() as f64) as usize)
    }
}
