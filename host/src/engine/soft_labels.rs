//! Class probabilities that are learned with the images: gradient descent, then back onto the probabilities.

use super::{
    optimizer::OptimizerState,
    parts::{Parts, of_tensors, restore},
};
use crate::recipe::{Optimizer, Sgd};
use guard_sdk::{Kind, Result, State, Tensor, autograd::no_grad, objective::SoftLabelUpdates};

/// Probabilities `[N,K]`, and how they are learned.
pub(super) struct SoftLabels {
    values: Tensor,
    /// None where they stay what they are.
    updates: Option<OptimizerState>,
}

impl SoftLabels {
    /// Starts from the probabilities `initial`.
    pub fn new(initial: &Tensor, updates: SoftLabelUpdates) -> Self {
        let SoftLabelUpdates { learning_rate, momentum, .. } = updates;
        let sgd = Sgd { learning_rate, momentum, weight_decay: 0.0, nesterov: false };
        Self {
            values: initial.detach().copy().set_requires_grad(true),
            updates: (learning_rate > 0.0).then(|| OptimizerState::new(&Optimizer::Sgd(sgd))),
        }
    }

    /// The present probabilities, a leaf that requires gradients.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// The present probabilities, and how they came there.
    pub fn save(&self) -> State {
        let parts = Parts::default().with("values", of_tensors(vec![self.named()]));
        match &self.updates {
            Some(updates) => parts.with("updates", updates.save()).into(),
            None => parts.into(),
        }
    }

    /// Puts them back.
    ///
    /// # Errors
    /// If the state is that of others.
    pub fn load(&mut self, state: State) -> Result<()> {
        let mut parts = Parts::try_from(state)?;
        restore(&[self.named()], &parts.take("values")?)?;
        match &mut self.updates {
            Some(updates) => updates.load(&parts.take("updates")?, std::slice::from_ref(&self.values)),
            None => Ok(()),
        }
    }

    fn named(&self) -> (String, Tensor) {
        ("probabilities".into(), self.values.detach())
    }

    /// One step down `gradient`.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn step(&mut self, gradient: &Tensor) -> Result<()> {
        let Some(updates) = &mut self.updates else { return Ok(()) };
        updates.step(&[self.values.shallow_clone()], std::slice::from_ref(gradient), 1.0)?;
        no_grad(|| {
            let projected = onto_probabilities(&self.values)?;
            self.values.f_copy_(&projected)?;
            Ok(())
        })
    }
}

/// The nearest probabilities to each row of `[N,K]` (Duchi et al., ICML 2008, figure 1).
fn onto_probabilities(rows: &Tensor) -> Result<Tensor> {
    let classes = rows.size()[1];
    let (sorted, _) = rows.f_sort(-1, true)?;
    let excess = sorted.f_cumsum(-1, None::<Kind>)?.f_sub_scalar(1.0)?;
    let counts = Tensor::f_arange_start(1, classes + 1, (rows.kind(), rows.device()))?;
    let kept = sorted.f_mul(&counts)?.f_gt_tensor(&excess)?.f_sum_dim_intlist(-1, true, Kind::Int64)?;
    let threshold = excess.f_gather(-1, &kept.f_sub_scalar(1)?, false)?.f_div(&kept.to_kind(rows.kind()))?;
    Ok(rows.f_sub(&threshold)?.f_clamp_min(0.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_projected_onto_the_probabilities() {
        let rows = Tensor::from_slice(&[0.5f64, 0.5, 0.0, 2.0, 0.0, 0.0, 0.6, 0.7, -1.0, 0.0, 0.0, 0.0]);
        let found = onto_probabilities(&rows.reshape([4, 3])).unwrap();
        let expected = [0.5, 0.5, 0.0, 1.0, 0.0, 0.0, 0.45, 0.55, 0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0];
        let off = (found.reshape(-1) - Tensor::from_slice(&expected)).abs().max().double_value(&[]);
        assert!(off < 1e-12, "{off}");
    }

    #[test]
    fn labels_move_against_the_gradient_and_stay_probabilities_or_do_not_move_at_all() {
        let hard = Tensor::from_slice(&[1.0f64, 0.0]).reshape([1, 2]);
        let gradient = Tensor::from_slice(&[1.0f64, -1.0]).reshape([1, 2]);
        let moved = |learning_rate| {
            let mut labels =
                SoftLabels::new(&hard, SoftLabelUpdates { learning_rate, ..SoftLabelUpdates::default() });
            labels.step(&gradient).unwrap();
            Vec::<f64>::try_from(labels.values().reshape(-1)).unwrap()
        };
        let found = moved(0.25);
        assert!((found[0] - 0.75).abs() < 1e-12 && (found[1] - 0.25).abs() < 1e-12, "{found:?}");
        assert_eq!(moved(0.0), [1.0, 0.0]);
    }
}
