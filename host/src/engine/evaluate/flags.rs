//! What makes a robustness number doubtful, as far as the results themselves show it.
//!
//! | code | what was seen |
//! |---|---|
//! | `attack-caveat` | an attack that says itself that its numbers are not to be believed |
//! | `few-steps` | an attack, or one inside it, that the recipe cuts to fewer steps or queries than it makes by default |
//! | `rises-with-epsilon`, `flat-with-epsilon` | accuracy does not fall as the budget grows; once for each attack |
//! | `constant-network` | every image is taken for the same class, so that attacks are not to blame for what they leave |
//! | `black-box-beats-white-box` | a black-box attack of the recipe beats the white-box ones by more than .2 points |
//!
//! `probes` finds the others:
//!
//! | code | what was seen |
//! |---|---|
//! | `outputs-are-probabilities`, `stochastic-network`, `zero-gradients` | a network that hides from gradients |
//! | `noise-as-strong`, `single-step-beats-iterative`, `black-box-beats-attacks` | a baseline that is as strong as the attacks, or stronger |
//! | `margin-loss-beats-attacks` | attacks that raise the cross-entropy only |
//! | `not-converged`, `rises-with-steps` | twice the steps leave less, or more |
//! | `depends-on-the-batch` | an example's result depends on its batch mates |
//! | `huge-epsilon-fails` | something is left at half of the pixels' range |

use super::{AttackResult, Evaluation, UnderThreat, accuracy, count, rounded};
use crate::{plugin::Plugins, recipe::AttackUse};
use guard_sdk::{Result, attack::Knowledge, manifest::Kind};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Something that should not be so if the attacks did their work; printed beside the number.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Flag {
    /// A stable name, e.g. `rises-with-epsilon`.
    pub code: Cow<'static, str>,
    /// What was seen, in a sentence.
    pub message: String,
}

impl Flag {
    pub(super) fn new(code: &'static str, message: String) -> Self {
        Self { code: code.into(), message }
    }
}

/// By how much a black-box attack may beat the white-box ones before that is odd: .2 points.
const BLACK_BOX_MARGIN: f64 = 0.002;

/// A budget that is so many times larger takes more, if anything is left.
const FLAT_FROM: f64 = 4.0;

/// The options that say how long an attack searches.
const LENGTHS: [&str; 2] = ["steps", "queries"];

/// Attacks that the recipe cuts short, as AutoAttack is cut to 10 steps in much published work.
///
/// # Errors
/// If a plugin's schema cannot be read.
pub(super) fn of_options(attacks: &[AttackUse], plugins: &Plugins) -> Result<Vec<Flag>> {
    let mut flags = Vec::new();
    for attack in attacks {
        cut_short(&format!("`{}`", attack.label()), &attack.method, &attack.options, plugins, &mut flags)?;
    }
    Ok(flags)
}

fn cut_short(
    who: &str,
    method: &str,
    options: &Map<String, Value>,
    plugins: &Plugins,
    flags: &mut Vec<Flag>,
) -> Result<()> {
    let schema = plugins.schema(Kind::Attack, method)?;
    for length in LENGTHS {
        let default = schema["properties"][length]["default"].as_u64();
        if let (Some(said), Some(default)) = (options.get(length).and_then(Value::as_u64), default)
            && said < default
        {
            let message =
                format!("{who} makes {said} {length}, by default {default}: accuracy may be overestimated");
            flags.push(Flag::new("few-steps", message));
        }
    }
    let nested = options
        .values()
        .flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    for inner in nested {
        if let Some(method) = inner["use"].as_str() {
            let none = Map::new();
            let options = inner["options"].as_object().unwrap_or(&none);
            cut_short(&format!("`{method}` in {who}"), method, options, plugins, flags)?;
        }
    }
    Ok(())
}

/// A network that takes all images for the same class, though they are not.
fn of_one_class(Evaluation { labels, predicted, threats, .. }: &Evaluation) -> Option<Flag> {
    // Without attacks nothing is said of robustness.
    threats.first()?;
    let class = predicted.first().filter(|first| predicted.iter().all(|class| class == *first))?;
    labels.iter().any(|label| label != class).then(|| {
        let message = format!(
            "the network takes every image for class {class}: what its accuracy withstands is no robustness, and no fault of the attacks"
        );
        Flag::new("constant-network", message)
    })
}

/// The flags that need no further attack; `chance` is the accuracy of guessing.
pub(super) fn of_results(evaluation: &Evaluation, chance: f64) -> Vec<Flag> {
    let mut flags = Vec::new();
    for attack in evaluation.threats.first().map_or(&[][..], |threat| &threat.attacks) {
        if let Some(caveat) = &attack.caveat {
            flags.push(Flag::new("attack-caveat", format!("`{}` {caveat}", attack.name)));
        }
    }
    flags.extend(of_one_class(evaluation));
    flags.extend(with_epsilon(evaluation, chance));
    for threat in &evaluation.threats {
        let best = |knowledge: Knowledge| {
            let of_kind = threat.attacks.iter().filter(|attack| attack.knowledge == knowledge);
            of_kind.min_by(|a, b| accuracy(&a.correct).total_cmp(&accuracy(&b.correct)))
        };
        let left = |attack: &AttackResult| accuracy(&attack.correct);
        if let (Some(black), Some(white)) = (best(Knowledge::BlackBox), best(Knowledge::WhiteBox))
            && left(black) + BLACK_BOX_MARGIN < left(white)
        {
            flags.push(Flag::new(
                "black-box-beats-white-box",
                format!(
                    "`{}`, which sees no gradients, leaves {:.1} % at ε = {}, the best white-box attack `{}` {:.1} %: gradients are masked",
                    black.name,
                    100.0 * left(black),
                    rounded(threat.budget.epsilon),
                    white.name,
                    100.0 * left(white),
                ),
            ));
        }
    }
    flags
}

/// Each attack's accuracy against ε: of all that is odd about it, what shows most.
fn with_epsilon(evaluation: &Evaluation, chance: f64) -> Vec<Flag> {
    let mut flags = Vec::new();
    let (all, clean) = (evaluation.clean.len(), count(&evaluation.clean));
    let attacks = evaluation.threats.first().map_or(&[][..], |threat| &threat.attacks);
    for (number, attack) in attacks.iter().enumerate() {
        let point = |threat: &UnderThreat| (threat.budget.epsilon, count(&threat.attacks[number].correct));
        let points: Vec<(f64, usize)> = evaluation.threats.iter().map(point).collect();
        let pairs = points.iter().flat_map(|&smaller| points.iter().map(move |&larger| (smaller, larger)));
        let pairs = pairs.filter(|(smaller, larger)| smaller.0 < larger.0);
        let told = |(epsilon, left): (f64, usize)| {
            format!("{:.1} % at ε = {}", 100.0 * left as f64 / all as f64, rounded(epsilon))
        };
        let rise = pairs.clone().filter(|(smaller, larger)| larger.1 > smaller.1);
        if let Some((smaller, larger)) = rise.max_by_key(|(smaller, larger)| larger.1 - smaller.1) {
            let message = format!(
                "`{}` leaves {} but only {}: the attack fails",
                attack.name,
                told(larger),
                told(smaller)
            );
            flags.push(Flag::new("rises-with-epsilon", message));
        }
        // Some was taken, and then nothing more, although more than chance is left.
        let flat = pairs.filter(|(smaller, larger)| {
            larger.0 >= FLAT_FROM * smaller.0
                && larger.1 == smaller.1
                && larger.1 < clean
                && larger.1 as f64 > chance * all as f64
        });
        let ratio = |(smaller, larger): &((f64, usize), (f64, usize))| larger.0 / smaller.0;
        if let Some((smaller, larger)) = flat.max_by(|a, b| ratio(a).total_cmp(&ratio(b))) {
            let message = format!(
                "`{}` leaves {} and no less at ε = {}: the attack fails, or gradients are masked",
                attack.name,
                told(smaller),
                rounded(larger.0)
            );
            flags.push(Flag::new("flat-with-epsilon", message));
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::{Budget, Norm};

    fn threat(epsilon: f64, attacks: &[(Knowledge, usize)]) -> UnderThreat {
        let result = |&(knowledge, right): &(Knowledge, usize)| AttackResult {
            name: format!("{knowledge:?}"),
            correct: (0..1000).map(|i| i < right).collect(),
            predicted: vec![0; 1000],
            sizes: vec![0.0; 1000],
            minimum_norm: false,
            knowledge,
            caveat: None,
            members: Vec::new(),
            seconds: 0.0,
        };
        UnderThreat {
            budget: Budget { norm: Norm::Linf, epsilon },
            attacks: attacks.iter().map(result).collect(),
        }
    }

    fn codes(threats: Vec<UnderThreat>) -> Vec<Cow<'static, str>> {
        let clean = vec![true; 1000];
        let evaluation = Evaluation { clean, clean_seconds: 0.0, threats, ..Evaluation::default() };
        of_results(&evaluation, 0.1).into_iter().map(|flag| flag.code).collect()
    }

    #[test]
    fn a_network_that_knows_one_class_is_told_and_one_that_knows_two_is_not() {
        let of = |predicted: &[i64]| {
            let threats =
                vec![UnderThreat { budget: Budget { norm: Norm::Linf, epsilon: 0.1 }, attacks: Vec::new() }];
            let (labels, predicted, clean) = (vec![0, 1, 1], predicted.to_vec(), vec![true, false, false]);
            let evaluation = Evaluation { labels, predicted, clean, threats, ..Evaluation::default() };
            of_results(&evaluation, 0.5).into_iter().map(|flag| flag.code).collect::<Vec<_>>()
        };
        assert_eq!(of(&[0, 0, 0]), ["constant-network"]);
        assert!(of(&[0, 0, 1]).is_empty());
    }

    #[test]
    fn accuracy_that_rises_with_epsilon_is_flagged() {
        use Knowledge::WhiteBox;
        assert!(codes(vec![threat(0.1, &[(WhiteBox, 500)]), threat(0.2, &[(WhiteBox, 400)])]).is_empty());
        let rising = vec![threat(0.1, &[(WhiteBox, 500)]), threat(0.2, &[(WhiteBox, 501)])];
        assert_eq!(codes(rising), ["rises-with-epsilon"]);
    }

    #[test]
    fn accuracy_that_stops_falling_with_epsilon_is_flagged() {
        use Knowledge::WhiteBox;
        let left = |small, large, epsilon| {
            codes(vec![threat(0.1, &[(WhiteBox, small)]), threat(epsilon, &[(WhiteBox, large)])])
        };
        assert_eq!(left(500, 500, 0.4), ["flat-with-epsilon"]);
        // Too small a change of ε, nothing taken at all, all taken.
        for (small, large, epsilon) in [(500, 500, 0.2), (1000, 1000, 0.4), (90, 90, 0.4), (500, 400, 0.4)] {
            assert!(left(small, large, epsilon).is_empty(), "{small}, {large}, {epsilon}");
        }
    }

    #[test]
    fn a_curve_that_is_flat_over_many_radii_is_flagged_once_from_end_to_end() {
        let threats = [0.4, 0.1, 0.8, 0.2].map(|epsilon| threat(epsilon, &[(Knowledge::WhiteBox, 500)]));
        let clean = vec![true; 1000];
        let evaluation =
            Evaluation { clean, clean_seconds: 0.0, threats: threats.into(), ..Evaluation::default() };
        let [flag] = &of_results(&evaluation, 0.1)[..] else { panic!("not one flag") };
        assert!(flag.message.contains("50.0 % at ε = 0.1 and no less at ε = 0.8"), "{}", flag.message);
    }

    #[test]
    fn a_black_box_attack_that_is_clearly_stronger_is_flagged() {
        use Knowledge::{BlackBox, WhiteBox};
        assert!(codes(vec![threat(0.1, &[(WhiteBox, 500), (BlackBox, 499)])]).is_empty());
        assert_eq!(
            codes(vec![threat(0.1, &[(BlackBox, 490), (WhiteBox, 500)])]),
            ["black-box-beats-white-box"]
        );
    }
}
