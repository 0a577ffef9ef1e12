//! The loss of students: the divergence from soft labels, and the cross-entropy to classes.

use crate::recipe::Student;
use guard_sdk::{Kind, Result, Tensor};

/// What a batch is to be taken for.
pub struct Target {
    /// Class probabilities `[N,K]` of the teacher at the temperature T, and T; none where there are classes only.
    pub soft: Option<(Tensor, f64)>,
    /// The images' classes as probabilities `[N,K]`, mixed as the images are.
    pub hard: Tensor,
}

/// The terms of a student's loss with their weights, as `(name, value, weight)`: `kl_weight` · KL + `cross_entropy_weight` ·
/// cross-entropy; with classes only, the cross-entropy alone.
///
/// # Errors
/// If libtorch refuses.
pub fn student_terms(
    student: &Student,
    logits: &Tensor,
    target: &Target,
) -> Result<Vec<(&'static str, Tensor, f64)>> {
    let Some((soft, temperature)) = &target.soft else {
        return Ok(vec![("cross-entropy", cross_entropy(logits, &target.hard), 1.0)]);
    };
    let mut terms = Vec::new();
    if student.kl_weight > 0.0 {
        terms.push(("kl", divergence(logits, soft, *temperature), student.kl_weight));
    }
    if student.cross_entropy_weight > 0.0 {
        terms.push(("cross-entropy", cross_entropy(logits, &target.hard), student.cross_entropy_weight));
    }
    Ok(terms)
}

/// Mean cross-entropy to class probabilities.
fn cross_entropy(logits: &Tensor, target: &Tensor) -> Tensor {
    -(target * logits.log_softmax(-1, None::<Kind>))
        .sum_dim_intlist(-1, false, None::<Kind>)
        .mean(None::<Kind>)
}

/// Mean KL(target ‖ softmax(logits / T)), without the factor T² as in SRe2L.
pub fn divergence(logits: &Tensor, target: &Tensor, temperature: f64) -> Tensor {
    let student = (logits / temperature).log_softmax(-1, None::<Kind>);
    let entropy = target.xlogy(target).sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>);
    entropy - (target * student).sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    fn random() -> Tensor {
        Tensor::randn([4, 5], (Kind::Double, Device::Cpu))
    }

    #[test]
    fn the_divergence_is_torchs_and_zero_for_equal_logits() {
        let (student, teacher) = (random(), random());
        let target = (&teacher / 3.0).softmax(-1, None::<Kind>);
        let expected =
            (&student / 3.0).log_softmax(-1, None::<Kind>).kl_div(&target, tch::Reduction::Sum, false) / 4.0;
        let off = (divergence(&student, &target, 3.0) - expected).abs().double_value(&[]);
        assert!(off < 1e-14, "{off}");
        assert!(divergence(&teacher, &target, 3.0).abs().double_value(&[]) < 1e-14);
    }

    #[test]
    fn the_loss_has_the_terms_that_have_a_weight() {
        let (logits, hard) = (random(), random().softmax(-1, None::<Kind>));
        let soft = random().softmax(-1, None::<Kind>);
        let names = |kl_weight, cross_entropy_weight, soft: Option<(Tensor, f64)>| {
            let student = Student { kl_weight, cross_entropy_weight, ..Student::default() };
            let target = Target { soft, hard: hard.shallow_clone() };
            let terms = student_terms(&student, &logits, &target).unwrap();
            terms.into_iter().map(|(name, _, weight)| (name, weight)).collect::<Vec<_>>()
        };
        let soft = || Some((soft.shallow_clone(), 4.0));
        assert_eq!(names(1.0, 0.0, soft()), [("kl", 1.0)]);
        assert_eq!(names(16.0, 0.5, soft()), [("kl", 16.0), ("cross-entropy", 0.5)]);
        assert_eq!(names(0.0, 0.5, soft()), [("cross-entropy", 0.5)]);
        // Without soft labels there is one term, whatever the weights.
        assert_eq!(names(0.0, 0.0, None), [("cross-entropy", 1.0)]);
    }
}
