//! What makes a robustness number doubtful, as far as the results themselves show it.

use super::{AttackResult, Evaluation, accuracy};
use guard_sdk::attack::Knowledge;

/// Something that should not be so if the attacks did their work; printed beside the number.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Flag {
    /// A stable name, e.g. `rises-with-epsilon`.
    pub code: &'static str,
    /// What was seen, in a sentence.
    pub message: String,
}

impl Flag {
    pub(super) fn new(code: &'static str, message: String) -> Self {
        Self { code, message }
    }
}

/// By how much a black-box attack may beat the white-box ones before that is odd: .2 points.
const BLACK_BOX_MARGIN: f64 = 0.002;

/// The flags that need no further attack.
pub(super) fn of_results(evaluation: &Evaluation) -> Vec<Flag> {
    let mut flags = Vec::new();
    for attack in evaluation.threats.first().map_or(&[][..], |threat| &threat.attacks) {
        if let Some(caveat) = &attack.caveat {
            flags.push(Flag::new("attack-caveat", format!("`{}` {caveat}", attack.name)));
        }
    }
    for smaller in &evaluation.threats {
        for larger in &evaluation.threats {
            let (small, large) = (smaller.budget.epsilon, larger.budget.epsilon);
            for (before, after) in smaller.attacks.iter().zip(&larger.attacks) {
                let (before_left, after_left) = (accuracy(&before.correct), accuracy(&after.correct));
                if large > small && after_left > before_left {
                    flags.push(Flag::new(
                        "rises-with-epsilon",
                        format!(
                            "`{}` leaves {:.1} % at ε = {large} but only {:.1} % at the smaller ε = {small}: the attack fails",
                            before.name,
                            100.0 * after_left,
                            100.0 * before_left,
                        ),
                    ));
                }
            }
        }
    }
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
                    threat.budget.epsilon,
                    white.name,
                    100.0 * left(white),
                ),
            ));
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::UnderThreat;
    use guard_sdk::{Budget, Norm};

    fn threat(epsilon: f64, attacks: &[(Knowledge, usize)]) -> UnderThreat {
        let result = |&(knowledge, right): &(Knowledge, usize)| AttackResult {
            name: format!("{knowledge:?}"),
            correct: (0..1000).map(|i| i < right).collect(),
            sizes: vec![0.0; 1000],
            minimum_norm: false,
            knowledge,
            caveat: None,
            members: Vec::new(),
        };
        UnderThreat {
            budget: Budget { norm: Norm::Linf, epsilon },
            attacks: attacks.iter().map(result).collect(),
        }
    }

    fn codes(threats: Vec<UnderThreat>) -> Vec<&'static str> {
        let evaluation = Evaluation { clean: vec![true; 1000], threats, flags: Vec::new() };
        of_results(&evaluation).into_iter().map(|flag| flag.code).collect()
    }

    #[test]
    fn accuracy_that_rises_with_epsilon_is_flagged() {
        use Knowledge::WhiteBox;
        assert!(codes(vec![threat(0.1, &[(WhiteBox, 500)]), threat(0.2, &[(WhiteBox, 400)])]).is_empty());
        let rising = vec![threat(0.1, &[(WhiteBox, 500)]), threat(0.2, &[(WhiteBox, 501)])];
        assert_eq!(codes(rising), ["rises-with-epsilon"]);
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
