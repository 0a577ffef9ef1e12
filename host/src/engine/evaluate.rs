//! Clean and robust accuracy of a network on a whole split.

use crate::{
    data::Split,
    network::Model,
    plugin::{Context, Hosted, limit, verify},
    run::Observer,
};
use guard_sdk::{
    Batch, Budget, Device, Error, Guarantee, Kind, Network, Result, Tensor, abi::calls::AttackInstance,
    batch::per_image,
};

/// Whether each example was classified rightly.
pub type Correct = Vec<bool>;

/// An attack of the recipe.
pub struct EvaluationAttack {
    /// Its name in results.
    pub name: String,
    /// The attack.
    pub attack: Hosted<AttackInstance>,
}

/// What is left under one attack.
pub struct AttackResult {
    /// The attack's name.
    pub name: String,
    /// Right without and with the attack.
    pub correct: Correct,
}

/// The accuracy of one network under one budget.
pub struct Evaluation {
    /// The budget; none for clean accuracy alone.
    pub budget: Option<Budget>,
    /// Right without attack.
    pub clean: Correct,
    /// Under each attack.
    pub attacks: Vec<AttackResult>,
}

impl Evaluation {
    /// Right under every attack.
    pub fn worst_case(&self) -> Correct {
        let mut worst = self.clean.clone();
        for attack in &self.attacks {
            worst.iter_mut().zip(&attack.correct).for_each(|(worst, correct)| *worst &= correct);
        }
        worst
    }
}

/// The share of examples that are right.
pub fn accuracy(correct: &[bool]) -> f64 {
    correct.iter().filter(|&&correct| correct).count() as f64 / correct.len().max(1) as f64
}

/// A frozen network and the images it is judged on.
pub struct Evaluator<'a> {
    /// The network; its parameters need no gradients.
    pub model: &'a Model,
    /// The images.
    pub split: &'a Split,
    /// How many are looked at together.
    pub batch_size: usize,
    /// Watches.
    pub observer: &'a dyn Observer,
}

impl Evaluator<'_> {
    /// Which examples the model classifies rightly.
    ///
    /// # Errors
    /// If the images do not fit the model.
    pub fn clean(&self) -> Result<Correct> {
        let mut correct = Vec::with_capacity(self.split.len());
        let positions: Vec<i64> = (0..self.split.len() as i64).collect();
        for positions in positions.chunks(self.batch_size) {
            let (images, labels) = self.split.select(positions);
            correct.extend(right(self.model, &images, &labels)?);
        }
        Ok(correct)
    }

    /// Runs each attack on the examples that are right without it.
    ///
    /// # Errors
    /// Those of the attacks; code `attack-invalid` for images that [`verify`] refuses.
    pub fn robust(
        &self,
        clean: &Correct,
        attacks: &mut [EvaluationAttack],
        budget: &Budget,
        context: &Context,
    ) -> Result<Evaluation> {
        let attackable: Vec<i64> =
            clean.iter().zip(0..).filter_map(|(correct, position)| correct.then_some(position)).collect();
        let batches = attackable.len().div_ceil(self.batch_size) as u64;
        let total = batches * attacks.len() as u64;
        let mut results = Vec::new();
        for (number, EvaluationAttack { name, attack }) in attacks.iter_mut().enumerate() {
            let mut correct = vec![false; clean.len()];
            for (index, positions) in attackable.chunks(self.batch_size).enumerate() {
                self.observer.iteration(number as u64 * batches + index as u64, total);
                for (position, right) in
                    positions.iter().zip(self.attacked(name, attack, positions, budget, context)?)
                {
                    correct[*position as usize] = right;
                }
            }
            results.push(AttackResult { name: name.clone(), correct });
        }
        Ok(Evaluation { budget: Some(*budget), clean: clean.clone(), attacks: results })
    }

    /// Which of the examples at `positions` the model classifies rightly under the attack.
    fn attacked(
        &self,
        name: &str,
        attack: &mut Hosted<AttackInstance>,
        positions: &[i64],
        budget: &Budget,
        context: &Context,
    ) -> Result<Correct> {
        let (images, labels) = self.split.select(positions);
        let ids: Vec<u64> = positions.iter().map(|&position| position as u64).collect();
        let batch = Batch::pixels(&images, &labels, &ids);
        let adversarial = attack.perturb(context, &Network::lend(self.model), &batch, budget)?.detach();
        let guarantee = attack.info(context)?.guarantee;
        let sizes = verify(&adversarial, &images, budget, guarantee)
            .map_err(|error| error.context(format!("attack `{name}` ({})", attack.who())))?;
        // A perturbation beyond the budget does not count against the network.
        let counted = match guarantee {
            Guarantee::Bounded => adversarial,
            Guarantee::MinimumNorm => adversarial.where_self(&per_image(&sizes.le(limit(budget))), &images),
        };
        right(self.model, &counted, &labels)
    }
}

fn right(model: &Model, images: &Tensor, labels: &Tensor) -> Result<Correct> {
    let logits = model.eval_logits(images)?;
    if logits.isfinite().all().int64_value(&[]) == 0 {
        return Err(Error::with_code("non-finite", "the network's logits are not finite"));
    }
    let right = logits.argmax(-1, false).eq_tensor(labels).to_kind(Kind::Int64).to_device(Device::Cpu);
    Ok(Vec::<i64>::try_from(right)?.into_iter().map(|right| right == 1).collect())
}
