//! Clean and robust accuracy of a network on a whole split.

use crate::{
    data::{Loaded, Split, View},
    network::Model,
    plugin::{Context, Hosted, limit, verify},
    recipe::AttackUse,
    run::Observer,
};
use guard_sdk::{
    Batch, Budget, Device, Error, Guarantee, Kind, Network, Result, Tensor, abi::calls::AttackInstance,
    batch::per_image,
};
use serde_json::Value;

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
    /// One evaluation per budget, each with attacks of its own; clean accuracy alone where there is no budget.
    ///
    /// # Errors
    /// Those of [`Evaluator::clean`] and [`Evaluator::robust`], and of making the attacks.
    pub fn all(&self, attacks: &[AttackUse], budgets: &[Budget], context: &Context) -> Result<Vec<Evaluation>> {
        let clean = self.clean()?;
        if budgets.is_empty() {
            return Ok(vec![Evaluation { budget: None, clean, attacks: Vec::new() }]);
        }
        let under = |budget: &Budget| {
            let make = |attack: &AttackUse| {
                let (name, options) = (attack.label().to_string(), Value::Object(attack.options.clone()));
                let attack = context.plugins.attack(context, &attack.method, &name, &options)?;
                Ok(EvaluationAttack { name, attack })
            };
            let mut attacks = attacks.iter().map(make).collect::<Result<Vec<_>>>()?;
            self.robust(&clean, &mut attacks, budget, context)
        };
        budgets.iter().map(under).collect()
    }

    /// Which examples the model classifies rightly.
    ///
    /// # Errors
    /// If the images do not fit the model.
    pub fn clean(&self) -> Result<Correct> {
        let mut correct = Vec::with_capacity(self.split.len());
        for batch in self.split.in_order(self.batch_size) {
            let Loaded { images, labels, .. } = batch?.to_device(self.model.device());
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
            let lists = attackable.chunks(self.batch_size).map(<[i64]>::to_vec).collect();
            for (index, batch) in self.split.batches(lists, View::plain()).enumerate() {
                self.observer.iteration(number as u64 * batches + index as u64, total);
                let batch = batch?.to_device(context.device);
                for (id, right) in batch.ids.iter().zip(self.attacked(name, attack, &batch, budget, context)?) {
                    correct[*id as usize] = right;
                }
            }
            results.push(AttackResult { name: name.clone(), correct });
        }
        Ok(Evaluation { budget: Some(*budget), clean: clean.clone(), attacks: results })
    }

    /// Which of the examples the model classifies rightly under the attack.
    fn attacked(
        &self,
        name: &str,
        attack: &mut Hosted<AttackInstance>,
        Loaded { images, labels, ids }: &Loaded,
        budget: &Budget,
        context: &Context,
    ) -> Result<Correct> {
        let batch = Batch::pixels(images, labels, ids);
        let adversarial = attack.perturb(context, &Network::lend(self.model), &batch, budget)?.detach();
        let guarantee = attack.info(context)?.guarantee;
        let sizes = verify(&adversarial, images, budget, guarantee)
            .map_err(|error| error.context(format!("attack `{name}` ({})", attack.who())))?;
        // A perturbation beyond the budget does not count against the network.
        let counted = match guarantee {
            Guarantee::Bounded => adversarial,
            Guarantee::MinimumNorm => adversarial.where_self(&per_image(&sizes.le(limit(budget))), images),
        };
        right(self.model, &counted, labels)
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
