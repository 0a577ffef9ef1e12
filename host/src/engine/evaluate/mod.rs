//! Clean and robust accuracy of a network on a whole split.
//!
//! The host decides: it checks every adversarial batch, classifies it itself, in eval mode, and keeps the outcome of every
//! example. `probes` looks for what is known to make such numbers worthless.

mod curvature;
mod eval_only;
mod examples;
mod flags;
mod members;
mod probes;
mod record;
mod surrogates;

pub use eval_only::EvalOnly;
pub use examples::Examples;
pub use flags::Flag;
pub use members::Member;
pub use probes::PROBE_ATTACKS;
pub use record::arrays;
pub use surrogates::Surrogates;

use self::{
    members::{MemberRecorder, add},
    surrogates::Watched,
};
use super::parts::{Parts, load_method, save_method};
use crate::{
    data::{Loaded, Split, View},
    plugin::{Context, Hosted, limit, verify},
    recipe::AttackUse,
    run::{CANCELLED, Checkpoint, Observer},
};
use guard_sdk::{
    Batch, Budget, Device, Error, Guarantee, Kind, Network, Result, State, Tensor,
    abi::calls::AttackInstance, attack::Knowledge, batch::per_image, network::NetworkBackend,
};
use serde_json::Value;
use std::time::Instant;

/// The caveat of a black-box attack whose surrogate is the network that it attacks.
const ON_ITSELF: &str = "is made on the very network that it attacks, and no black-box attack here";

/// Whether each example was classified rightly.
pub type Correct = Vec<bool>;

/// A class of each example, by number.
pub type Classes = Vec<i64>;

/// An attack of the recipe.
pub struct EvaluationAttack {
    /// Its name in results.
    pub name: String,
    /// The attack.
    pub attack: Hosted<AttackInstance>,
    /// Whether the surrogate that it asked for is the network under attack itself.
    pub on_itself: bool,
}

/// What is left under one attack.
#[derive(Debug, Clone, PartialEq)]
pub struct AttackResult {
    /// The attack's name.
    pub name: String,
    /// Right without and with the attack.
    pub correct: Correct,
    /// What the network takes each example for under the attack; without it where it is wrong then already.
    pub predicted: Classes,
    /// The size of each perturbation in the budget's norm; 0 for examples that were wrong without it.
    pub sizes: Vec<f32>,
    /// Whether the attack looks for the smallest perturbation; one beyond ε does not count against the network.
    pub minimum_norm: bool,
    /// What the attack sees of the network.
    pub knowledge: Knowledge,
    /// What the attack itself says against its numbers.
    pub caveat: Option<String>,
    /// What its members left one after the other, if it has any.
    pub members: Vec<Member>,
    /// How long it took.
    pub seconds: f64,
}

impl AttackResult {
    /// The median size of a minimum-norm attack's perturbations of examples that are right without it.
    pub fn median_size(&self, clean: &[bool]) -> Option<f32> {
        let attacked = self.sizes.iter().zip(clean).filter(|(_, clean)| **clean);
        let mut sizes: Vec<f32> = attacked.map(|(size, _)| *size).collect();
        sizes.sort_by(f32::total_cmp);
        sizes.get(sizes.len() / 2).copied().filter(|_| self.minimum_norm)
    }
}

/// What is left under all attacks within one budget.
#[derive(Debug, Clone, PartialEq)]
pub struct UnderThreat {
    /// The budget.
    pub budget: Budget,
    /// Under each attack.
    pub attacks: Vec<AttackResult>,
}

impl UnderThreat {
    /// What the attacks together see of the network.
    pub fn knowledge(&self) -> Knowledge {
        let black = self.attacks.iter().all(|attack| attack.knowledge == Knowledge::BlackBox);
        if black && !self.attacks.is_empty() { Knowledge::BlackBox } else { Knowledge::WhiteBox }
    }
}

/// The accuracy of one network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// What each example is.
    pub labels: Classes,
    /// What the network takes it for without attack.
    pub predicted: Classes,
    /// Right without attack.
    pub clean: Correct,
    /// How long that took.
    pub clean_seconds: f64,
    /// Per budget.
    pub threats: Vec<UnderThreat>,
    /// The largest eigenvalue of the Hessian of the cross-entropy along the input, in pixels, at some images; nothing if it was
    /// not asked for.
    pub curvature: Vec<f32>,
    /// What makes the numbers doubtful.
    pub flags: Vec<Flag>,
}

impl Evaluation {
    /// The mean of the curvature, where it was measured.
    pub fn mean_curvature(&self) -> Option<f64> {
        let sum: f64 = self.curvature.iter().map(|&value| f64::from(value)).sum();
        (!self.curvature.is_empty()).then(|| sum / self.curvature.len() as f64)
    }

    /// What the network takes each example for under the first attack that misleads it, if one does.
    pub fn worst_predicted(&self, threat: &UnderThreat) -> Classes {
        let mut worst = self.predicted.clone();
        for attack in threat.attacks.iter().rev() {
            for (place, worst) in worst.iter_mut().enumerate() {
                if self.clean[place] && !attack.correct[place] {
                    *worst = attack.predicted[place];
                }
            }
        }
        worst
    }

    /// Right under every attack.
    pub fn worst_case(&self, threat: &UnderThreat) -> Correct {
        let mut worst = self.clean.clone();
        for attack in &threat.attacks {
            worst.iter_mut().zip(&attack.correct).for_each(|(worst, correct)| *worst &= correct);
        }
        worst
    }
}

fn right(predicted: &[i64], labels: &[i64]) -> Correct {
    predicted.iter().zip(labels).map(|(predicted, label)| predicted == label).collect()
}

/// The number of examples that are right.
pub fn count(correct: &[bool]) -> usize {
    correct.iter().filter(|&&correct| correct).count()
}

/// The share of examples that are right.
pub fn accuracy(correct: &[bool]) -> f64 {
    count(correct) as f64 / correct.len().max(1) as f64
}

/// A radius with four decimals at most.
pub fn rounded(epsilon: f64) -> String {
    let text = format!("{epsilon:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A network and the images it is judged on.
pub struct Evaluator<'a> {
    /// The network.
    pub network: EvalOnly,
    /// What attacks that ask for networks by name call it, if they can.
    pub called: Option<&'a str>,
    /// The images.
    pub split: &'a Split,
    /// How many are looked at together.
    pub batch_size: usize,
    /// How many the probes look at.
    pub probe_images: usize,
    /// How many the curvature of the loss is measured at.
    pub curvature_images: usize,
    /// Watches.
    pub observer: &'a dyn Observer,
    /// Takes what the attacks made, where somebody wants it.
    pub keep: Option<&'a dyn Keep>,
}

/// Takes adversarial images.
pub trait Keep {
    /// The images `[N,C,H,W]` that `attack` made of a batch; for a minimum-norm attack the clean one where it left the budget.
    ///
    /// # Errors
    /// If they cannot be kept.
    fn adversarial(&self, budget: &Budget, attack: &str, clean: &Loaded, images: &Tensor) -> Result<()>;
}

/// One batch under one attack.
struct Attacked {
    images: Tensor,
    predicted: Classes,
    correct: Correct,
    sizes: Vec<f32>,
}

/// Where one attack's iterations lie among all, and where the evaluation goes on.
struct Part {
    /// Of each attack.
    batches: u64,
    total: u64,
    begin: u64,
    from: u64,
}

impl Part {
    fn is_done(&self) -> bool {
        self.from >= self.begin + self.batches
    }
}

/// What was found so far, and what the attack that is at work remembers.
fn save(found: &Evaluation, attack: &mut EvaluationAttack, context: &Context) -> Result<State> {
    let parts = Parts::default().with("found", found.save()?);
    Ok(parts.with("attack", save_method(&mut attack.attack, context)?).into())
}

fn remembers_nothing(attack: &mut EvaluationAttack, context: &Context) -> bool {
    attack.attack.save_all(context).is_ok_and(|states| states.iter().all(State::is_empty))
}

impl Evaluator<'_> {
    /// Clean accuracy, accuracy under each attack within each budget, and what makes the numbers doubtful.
    ///
    /// # Errors
    /// If the images do not fit the network; those of the attacks; code `attack-invalid` for images that [`verify`]
    /// refuses.
    pub fn run(&self, attacks: &[AttackUse], budgets: &[Budget], context: &Context) -> Result<Evaluation> {
        let (from, mut found, mut cut) = match self.observer.resumed() {
            Some(Checkpoint { iteration, state }) => {
                let mut parts = Parts::try_from(state)?;
                (iteration, Evaluation::of_state(parts.take("found")?)?, parts.take_if_any("attack"))
            }
            None => (0, self.clean(context)?, None),
        };
        let attackable: Vec<i64> = found
            .clean
            .iter()
            .zip(0..)
            .filter_map(|(correct, position)| correct.then_some(position))
            .collect();
        let batches = attackable.len().div_ceil(self.batch_size) as u64;
        let mut part =
            Part { batches, total: batches * (attacks.len() * budgets.len()) as u64, begin: 0, from };
        for (number, budget) in budgets.iter().enumerate() {
            if found.threats.len() == number {
                found.threats.push(UnderThreat { budget: *budget, attacks: Vec::new() });
            }
            for (place, attack) in self.attacks(attacks, context)?.iter_mut().enumerate() {
                let begun = found.threats[number].attacks.len() > place;
                if !(begun && part.is_done()) {
                    if !begun {
                        let result = self.nothing(attack, &found.predicted, context)?;
                        found.threats[number].attacks.push(result);
                    } else if let Some(state) = cut.take() {
                        load_method(&mut attack.attack, context, state)?;
                    }
                    self.robust(&mut found, attack, &attackable, &part, context)?;
                }
                part.begin += batches;
            }
        }
        self.observer.iteration(part.total, part.total);
        self.observer
            .checkpoint(part.total, &mut || Ok(Parts::default().with("found", found.save()?).into()))?;
        found.curvature = self.curvature(context)?;
        found.flags = flags::of_options(attacks, context.plugins)?;
        found.flags.extend(flags::of_results(&found, 1.0 / self.classes() as f64));
        found.flags.extend(self.probe(&found, attacks, context)?);
        Ok(found)
    }

    /// Makes the attacks of a recipe.
    fn attacks(&self, uses: &[AttackUse], context: &Context) -> Result<Vec<EvaluationAttack>> {
        let make = |attack: &AttackUse| {
            let (name, options) = (attack.label().to_string(), Value::Object(attack.options.clone()));
            let networks = Watched::new(context.networks, self.called);
            let context = &Context { networks: &networks, ..*context };
            let attack = context.plugins.attack(context, &attack.method, &name, &options)?;
            Ok(EvaluationAttack { name, attack, on_itself: networks.asked.get() })
        };
        uses.iter().map(make).collect()
    }

    /// Which examples the network classifies rightly, and nothing else yet.
    fn clean(&self, context: &Context) -> Result<Evaluation> {
        let (begun, mut found) = (Instant::now(), Evaluation::default());
        for batch in self.split.in_order(self.batch_size) {
            self.observer.stop_if_asked()?;
            let Loaded { images, labels, .. } = batch?.to_device(context.device)?;
            found.predicted.extend(self.predicted(&images)?);
            found.labels.extend(Classes::try_from(labels.to_device(Device::Cpu))?);
        }
        found.clean = right(&found.predicted, &found.labels);
        found.clean_seconds = begun.elapsed().as_secs_f64();
        Ok(found)
    }

    /// The result of an attack before its first batch.
    fn nothing(
        &self,
        attack: &mut EvaluationAttack,
        predicted: &Classes,
        context: &Context,
    ) -> Result<AttackResult> {
        let mut info = attack.attack.info(context)?;
        if attack.on_itself {
            (info.knowledge, info.caveat) = (Knowledge::WhiteBox, Some(ON_ITSELF.into()));
        }
        Ok(AttackResult {
            name: attack.name.clone(),
            correct: vec![false; self.split.len()],
            predicted: predicted.clone(),
            sizes: vec![0.0; self.split.len()],
            minimum_norm: info.guarantee == Guarantee::MinimumNorm,
            knowledge: info.knowledge,
            caveat: info.caveat,
            members: Vec::new(),
            seconds: 0.0,
        })
    }

    /// Runs an attack on the examples that are right without it; the result is the last one in `found`.
    fn robust(
        &self,
        found: &mut Evaluation,
        attack: &mut EvaluationAttack,
        attackable: &[i64],
        part: &Part,
        context: &Context,
    ) -> Result<()> {
        let Some(budget) = found.threats.last().map(|threat| threat.budget) else { return Ok(()) };
        let first = part.from.max(part.begin);
        let lists = attackable.chunks(self.batch_size).skip((first - part.begin) as usize);
        let batches = self.split.batches(lists.map(<[i64]>::to_vec).collect(), View::plain());
        for (iteration, batch) in (first..).zip(batches) {
            let begun = Instant::now();
            self.observer.iteration(iteration, part.total);
            self.observer.checkpoint(iteration, &mut || save(found, attack, context))?;
            let recorder = MemberRecorder::new(context.recorder, &attack.name);
            let batch = batch?.to_device(context.device)?;
            let watched = Context { recorder: &recorder, ..*context };
            let attacked = match self.attacked(attack, &batch, &budget, &watched) {
                // What a method remembers of an attack that was cut short is no place to go on from.
                Err(error) if error.code == CANCELLED && remembers_nothing(attack, context) => {
                    self.observer.checkpoint(iteration, &mut || save(found, attack, context))?;
                    return Err(error);
                }
                attacked => attacked?,
            };
            if let Some(keep) = self.keep {
                keep.adversarial(&budget, &attack.name, &batch, &attacked.images)?;
            }
            let Some(result) = found.threats.last_mut().and_then(|threat| threat.attacks.last_mut()) else {
                continue;
            };
            for (place, &id) in batch.ids.iter().enumerate() {
                result.correct[id as usize] = attacked.correct[place];
                result.predicted[id as usize] = attacked.predicted[place];
                result.sizes[id as usize] = attacked.sizes[place];
            }
            add(&mut result.members, recorder.members());
            result.seconds += begun.elapsed().as_secs_f64();
        }
        Ok(())
    }

    /// Which of the examples the network classifies rightly under the attack, and how far each was moved.
    fn attacked(
        &self,
        EvaluationAttack { name, attack, .. }: &mut EvaluationAttack,
        Loaded { images, labels, ids }: &Loaded,
        budget: &Budget,
        context: &Context,
    ) -> Result<Attacked> {
        let batch = Batch::pixels(images, labels, ids);
        let named = |who: &str, error: Error| match error.code.as_str() {
            "attack-invalid" => error.context(format!("attack `{name}` ({who})")),
            _ => error,
        };
        let adversarial = attack.perturb(context, &Network::lend(&self.network), &batch, budget);
        let adversarial = adversarial.map_err(|error| named(attack.who(), error))?.detach();
        if context.recorder.cancelled() {
            return Err(Error::with_code(CANCELLED, "the attack was cut short"));
        }
        let guarantee = attack.info(context)?.guarantee;
        let sizes =
            verify(&adversarial, images, budget, guarantee).map_err(|error| named(attack.who(), error))?;
        // A perturbation beyond the budget does not count against the network.
        let counted = match guarantee {
            Guarantee::Bounded => adversarial,
            Guarantee::MinimumNorm => adversarial.where_self(&per_image(&sizes.le(limit(budget))), images),
        };
        let sizes = Vec::<f32>::try_from(sizes.to_kind(Kind::Float).to_device(Device::Cpu))?;
        let predicted = self.predicted(&counted)?;
        let correct = right(&predicted, &Classes::try_from(labels.to_device(Device::Cpu))?);
        Ok(Attacked { images: counted, predicted, correct, sizes })
    }

    fn predicted(&self, images: &Tensor) -> Result<Classes> {
        let logits = self.logits(images)?;
        if logits.isfinite().all().int64_value(&[]) == 0 {
            return Err(Error::with_code("non-finite", "the network's logits are not finite"));
        }
        Ok(Classes::try_from(logits.argmax(-1, false).to_device(Device::Cpu))?)
    }

    fn classes(&self) -> i64 {
        self.network.info().classes
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        guard_sdk::autograd::no_grad(|| Network::lend(&self.network).logits(images))
    }
}
