//! Clean and robust accuracy of a network on a whole split.

use super::verify::verify;
use crate::{
    data::Split,
    network::Model,
    plugin::{Context, Hosted},
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

/// Which examples of `split` the model classifies rightly.
///
/// # Errors
/// If the images do not fit the model.
pub fn clean(model: &Model, split: &Split, batch_size: usize) -> Result<Correct> {
    let mut correct = Vec::with_capacity(split.len());
    let positions: Vec<i64> = (0..split.len() as i64).collect();
    for positions in positions.chunks(batch_size) {
        let (images, labels) = split.select(positions);
        correct.extend(right(model, &images, &labels)?);
    }
    Ok(correct)
}

/// Runs each attack on the examples that are right without it.
///
/// # Errors
/// Those of the attacks; code `attack-invalid` for images that [`verify`] refuses.
pub fn robust(
    model: &Model,
    split: &Split,
    clean: &Correct,
    attacks: &mut [EvaluationAttack],
    budget: &Budget,
    batch_size: usize,
    context: &Context,
) -> Result<Evaluation> {
    let model = model.frozen();
    let attackable: Vec<i64> =
        clean.iter().zip(0..).filter_map(|(correct, position)| correct.then_some(position)).collect();
    let mut results = Vec::new();
    for EvaluationAttack { name, attack } in attacks {
        let guarantee = attack.info(context)?.guarantee;
        let mut correct = vec![false; clean.len()];
        for positions in attackable.chunks(batch_size) {
            let (images, labels) = split.select(positions);
            let ids: Vec<u64> = positions.iter().map(|&position| position as u64).collect();
            let batch = Batch::pixels(&images, &labels, &ids);
            let adversarial = attack.perturb(context, &Network::lend(&model), &batch, budget)?.detach();
            let named = |error: Error| error.context(format!("attack `{name}`"));
            let sizes = verify(&adversarial, &images, budget, guarantee).map_err(named)?;
            // A perturbation beyond the budget does not count against the network.
            let counted = match guarantee {
                Guarantee::Bounded => adversarial,
                Guarantee::MinimumNorm => {
                    adversarial.where_self(&per_image(&sizes.le(budget.epsilon)), &images)
                }
            };
            for (position, right) in positions.iter().zip(right(&model, &counted, &labels)?) {
                correct[*position as usize] = right;
            }
        }
        results.push(AttackResult { name: name.clone(), correct });
    }
    Ok(Evaluation { budget: Some(*budget), clean: clean.clone(), attacks: results })
}

fn right(model: &Model, images: &Tensor, labels: &Tensor) -> Result<Correct> {
    let right = model
        .eval_logits(images)?
        .argmax(-1, false)
        .eq_tensor(labels)
        .to_kind(Kind::Int64)
        .to_device(Device::Cpu);
    Ok(Vec::<i64>::try_from(right)?.into_iter().map(|right| right == 1).collect())
}
