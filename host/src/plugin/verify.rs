//! What the host checks of every adversarial batch before it counts: an attack that cheats gives a number that means nothing.

use guard_sdk::{Budget, Error, Guarantee, Kind, Norm, Result, Tensor, autograd::no_grad, batch::norm_each};

/// A correct float32 clamp at 1/255 overshoots by 7e-6 relative.
const LINF_SLACK: f64 = 1.0 / (1u64 << 23) as f64;
const L2_SLACK: f64 = 1e-5;

/// The largest size of a perturbation that counts as within the budget.
pub fn limit(budget: &Budget) -> f64 {
    match budget.norm {
        Norm::Linf => budget.epsilon + LINF_SLACK,
        Norm::L2 => budget.epsilon * (1.0 + L2_SLACK),
    }
}

/// The size of each example's perturbation in the budget's norm, float64 `[N]`.
///
/// # Errors
/// If the images have another shape, dtype or device than `clean`, are not finite, leave [0,1], or, for an attack that
/// promises to stay within the budget, leave it. The message continues "attack `name` ...".
pub fn verify(adversarial: &Tensor, clean: &Tensor, budget: &Budget, guarantee: Guarantee) -> Result<Tensor> {
    let cheat = |what: String| Err(Error::with_code("attack-invalid", what));
    if adversarial.size() != clean.size() {
        return cheat(format!("returned images of shape {:?} for {:?}", adversarial.size(), clean.size()));
    }
    if (adversarial.kind(), adversarial.device()) != (clean.kind(), clean.device()) {
        let (kind, device) = (adversarial.kind(), adversarial.device());
        return cheat(format!(
            "returned {kind:?} images on {device:?} for {:?} on {:?}",
            clean.kind(),
            clean.device()
        ));
    }
    no_grad(|| {
        let (adversarial, clean) = (adversarial.to_kind(Kind::Double), clean.to_kind(Kind::Double));
        if adversarial.numel() == 0 {
            return Ok(norm_each(&adversarial));
        }
        let perturbation = &adversarial - &clean;
        let sizes = match budget.norm {
            Norm::Linf => perturbation.abs().flatten(1, -1).amax([-1].as_slice(), false),
            Norm::L2 => norm_each(&perturbation),
        };
        let finite = adversarial.isfinite().all().to_kind(Kind::Double);
        // A GPU is waited for once.
        let facts = Tensor::f_stack(&[finite, adversarial.min(), adversarial.max(), sizes.max()], 0)?;
        let [finite, least, greatest, largest] =
            <[f64; 4]>::try_from(Vec::<f64>::try_from(facts)?.as_slice())
                .map_err(|_| Error::new("the look at adversarial images gave other than four numbers"))?;
        if finite == 0.0 {
            return cheat("returned images that are not finite".into());
        }
        if least < 0.0 || greatest > 1.0 {
            return cheat(format!("left the pixel range [0,1]: values from {least} to {greatest}"));
        }
        if guarantee == Guarantee::Bounded && largest > limit(budget) {
            return cheat(format!(
                "exceeded its budget: {:?} norm {largest}, ε = {}",
                budget.norm, budget.epsilon
            ));
        }
        Ok(sizes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Device;

    fn images(value: f64) -> Tensor {
        Tensor::full([2, 1, 2, 2], value, (Kind::Float, Device::Cpu))
    }

    fn refusal(adversarial: &Tensor, norm: Norm, guarantee: Guarantee) -> Option<String> {
        verify(adversarial, &images(0.5), &Budget { norm, epsilon: 0.1 }, guarantee)
            .err()
            .map(|error| error.message)
    }

    #[test]
    fn each_way_to_cheat_is_named() {
        let bounded = |adversarial: &Tensor| refusal(adversarial, Norm::Linf, Guarantee::Bounded).unwrap();
        assert!(bounded(&images(0.5).narrow(0, 0, 1)).contains("shape [1, 1, 2, 2]"));
        assert!(bounded(&images(0.5).to_kind(Kind::Double)).contains("Double"));
        assert!(bounded(&images(f64::NAN)).contains("not finite"));
        assert!(bounded(&images(1.01)).contains("pixel range"));
        assert!(bounded(&images(0.61)).contains("exceeded its budget"));
        assert!(
            refusal(&images(0.56), Norm::L2, Guarantee::Bounded).unwrap().contains("exceeded its budget")
        );
    }

    #[test]
    fn what_is_within_the_budget_passes_and_a_minimum_norm_attack_may_leave_it() {
        assert_eq!(refusal(&images(0.6), Norm::Linf, Guarantee::Bounded), None);
        assert_eq!(refusal(&images(0.55), Norm::L2, Guarantee::Bounded), None);
        assert_eq!(refusal(&images(0.9), Norm::Linf, Guarantee::MinimumNorm), None);
    }
}
