//! What attacks raise: losses `[N]` of logits `[N,K]` that are positive, or higher, where the decision is wrong.

use guard_sdk::Tensor;

/// DLR's guard against a division by 0.
const TINY: f64 = 1e-12;

/// log Σ_{i≠y} exp zᵢ − z_y, the log-odds of all other classes together.
///
/// Cross-entropy is log(1 + exp of this): it grows with it and has the same gradient but for a positive factor per
/// example. That factor, 1 − p_y, is exactly 0 in float32 once the network is sure, and an attack on cross-entropy then
/// stands still; here it does not.
pub fn log_odds(logits: &Tensor, labels: &Tensor) -> Tensor {
    without(logits, labels).logsumexp([-1].as_slice(), false) - of_class(logits, labels)
}

/// max_{i≠y} zᵢ − z_y: positive if and only if the decision is wrong.
pub fn margin(logits: &Tensor, labels: &Tensor) -> Tensor {
    without(logits, labels).max_dim(-1, false).0 - of_class(logits, labels)
}

/// Difference of logits ratio (Croce & Hein, ICML 2020, eq. 6): the margin in units of z_π1 − z_π3, whatever the logits'
/// scale. Needs three classes.
pub fn dlr(logits: &Tensor, labels: &Tensor) -> Tensor {
    let largest = logits.topk(3, -1, true, true).0;
    margin(logits, labels) / (largest.select(1, 0) - largest.select(1, 2) + TINY)
}

/// z_t − z_y.
pub fn targeted_margin(logits: &Tensor, labels: &Tensor, targets: &Tensor) -> Tensor {
    of_class(logits, targets) - of_class(logits, labels)
}

/// Targeted DLR (the same paper, eq. 7): (z_t − z_y) in units of z_π1 − ½(z_π3 + z_π4). Needs four classes.
pub fn targeted_dlr(logits: &Tensor, labels: &Tensor, targets: &Tensor) -> Tensor {
    let largest = logits.topk(4, -1, true, true).0;
    let scale = largest.select(1, 0) - (largest.select(1, 2) + largest.select(1, 3)) * 0.5;
    targeted_margin(logits, labels, targets) / (scale + TINY)
}

/// The logit of each example's class.
pub fn of_class(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.gather(1, &classes.unsqueeze(1), false).squeeze_dim(1)
}

/// The logits with −∞ in each example's class.
pub fn without(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.scatter_value(1, &classes.unsqueeze(1), f64::NEG_INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_sdk::Kind;

    fn example() -> (Tensor, Tensor) {
        let logits = Tensor::from_slice(&[1.0f64, 4.0, 2.0, -1.0, 0.5, 0.0, 3.0, 2.0]).reshape([2, 4]);
        (logits, Tensor::from_slice(&[1i64, 0]))
    }

    fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
        -logits.log_softmax(-1, None).gather(1, &labels.unsqueeze(1), false).squeeze_dim(1)
    }

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        Vec::try_from(tensor).unwrap()
    }

    #[test]
    fn the_losses_are_those_of_the_papers() {
        let (logits, labels) = example();
        assert_eq!(numbers(&margin(&logits, &labels)), [-2.0, 2.5]);
        let dlr = numbers(&dlr(&logits, &labels));
        assert!((dlr[0] + 2.0 / 3.0).abs() < 1e-9 && (dlr[1] - 1.0).abs() < 1e-9, "{dlr:?}");
        let targets = Tensor::from_slice(&[0i64, 1]);
        let targeted = numbers(&targeted_dlr(&logits, &labels, &targets));
        assert!((targeted[0] + 3.0 / 4.0).abs() < 1e-9, "{targeted:?}");
        assert!((targeted[1] + 0.5 / 2.75).abs() < 1e-9, "{targeted:?}");
    }

    #[test]
    fn cross_entropy_is_the_softplus_of_the_log_odds() {
        let (logits, labels) = example();
        let expected = cross_entropy(&logits, &labels);
        let off = (log_odds(&logits, &labels).softplus() - expected).abs().max().double_value(&[]);
        assert!(off < 1e-12, "{off}");
    }

    #[test]
    fn a_sure_network_leaves_the_log_odds_a_gradient() {
        let logits = (example().0 * 100.0).to_kind(Kind::Float).set_requires_grad(true);
        let labels = Tensor::from_slice(&[1i64, 2]);
        let gradient = |loss: Tensor| {
            let gradient =
                Tensor::run_backward(&[loss.sum(None::<Kind>)], &[&logits], false, false).remove(0);
            gradient.abs().amax([1].as_slice(), false).min().double_value(&[])
        };
        assert_eq!(gradient(cross_entropy(&logits, &labels)), 0.0);
        assert_eq!(gradient(log_odds(&logits, &labels)), 1.0);
    }
}
