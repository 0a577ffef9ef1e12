//! What became of every example, as tensors, so that anyone can check a number again.

use crate::engine::Evaluation;
use guard_sdk::{Norm, Tensor};

/// `clean` uint8 `[N]` (1 where the network is right), and for each budget and attack `NORM-EPSILON/ATTACK/correct` uint8
/// `[N]` and `.../size` float32 `[N]`, the size of the perturbation in that norm (0 where it was not attacked).
pub fn arrays(evaluation: &Evaluation) -> Vec<(String, Tensor)> {
    let flags = |correct: &[bool]| {
        Tensor::from_slice(&correct.iter().map(|&correct| u8::from(correct)).collect::<Vec<_>>())
    };
    let mut arrays = vec![("clean".to_string(), flags(&evaluation.clean))];
    for threat in &evaluation.threats {
        let norm = match threat.budget.norm {
            Norm::Linf => "linf",
            Norm::L2 => "l2",
        };
        for attack in &threat.attacks {
            let name = format!("{norm}-{}/{}", threat.budget.epsilon, attack.name);
            arrays.push((format!("{name}/correct"), flags(&attack.correct)));
            arrays.push((format!("{name}/size"), Tensor::from_slice(&attack.sizes)));
        }
    }
    arrays
}
