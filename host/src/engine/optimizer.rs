//! Optimisers with explicit state, which tch's own do not let one save: PyTorch's update rules on any list of tensors.

use super::parts::{number, restore};
use crate::recipe::{Optimizer, Sgd};
use guard_kernels::SgdStep;
use guard_sdk::{Result, State, Tensor, autograd::no_grad};
use serde_json::json;

/// An optimiser and what it remembers of each tensor.
pub struct OptimizerState {
    optimizer: Optimizer,
    /// Steps taken.
    steps: i32,
    /// Momentum, or the gradient's running mean.
    first: Vec<Tensor>,
    /// The squared gradient's running mean; empty for SGD.
    second: Vec<Tensor>,
    /// The greatest length of all gradients together.
    clip: Option<f64>,
}

impl OptimizerState {
    /// Nothing remembered yet.
    pub fn new(optimizer: &Optimizer) -> Self {
        Self { optimizer: optimizer.clone(), steps: 0, first: Vec::new(), second: Vec::new(), clip: None }
    }

    /// The same with gradients cut to a length, as PyTorch's `clip_grad_norm_` does.
    pub fn clipped(self, length: Option<f64>) -> Self {
        Self { clip: length, ..self }
    }

    /// The learning rate before any schedule.
    pub fn learning_rate(&self) -> f64 {
        match &self.optimizer {
            Optimizer::Sgd(sgd) => sgd.learning_rate,
            Optimizer::Adam(adam) => adam.learning_rate,
            Optimizer::Adamw(adamw) => adamw.learning_rate,
        }
    }

    /// Changes `tensors` in place by one step at `rate` times the learning rate.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn step(&mut self, tensors: &[Tensor], gradients: &[Tensor], rate: f64) -> Result<()> {
        no_grad(|| {
            if self.steps == 0 {
                self.remember(tensors);
            }
            self.steps += 1;
            let scale = self.clip.map(|length| clip_scale(gradients, length)).transpose()?;
            for (index, (tensor, gradient)) in tensors.iter().zip(gradients).enumerate() {
                let scaled = scale.as_ref().map(|scale| gradient * scale);
                self.update(index, &mut tensor.shallow_clone(), scaled.as_ref().unwrap_or(gradient), rate)?;
            }
            Ok(())
        })
    }

    /// Begins to remember something of each tensor.
    fn remember(&mut self, tensors: &[Tensor]) {
        self.first = tensors.iter().map(Tensor::zeros_like).collect();
        if !matches!(self.optimizer, Optimizer::Sgd(_)) {
            self.second = tensors.iter().map(Tensor::zeros_like).collect();
        }
    }

    /// What it remembers.
    pub(super) fn save(&self) -> State {
        State { version: 0, json: json!({ "steps": self.steps }), tensors: self.remembered() }
    }

    /// Puts back what it remembered of `tensors`.
    ///
    /// # Errors
    /// If the state is that of another optimiser or of other tensors.
    pub(super) fn load(&mut self, state: &State, tensors: &[Tensor]) -> Result<()> {
        self.steps = number(state, "steps")?;
        if self.steps > 0 {
            self.remember(tensors);
        }
        restore(&self.remembered(), state)
    }

    fn remembered(&self) -> Vec<(String, Tensor)> {
        let all = [("first", &self.first), ("second", &self.second)].into_iter();
        let named = |(name, tensors): (&str, &Vec<Tensor>)| {
            let named = tensors.iter().enumerate();
            named
                .map(|(index, tensor)| (format!("{name}.{index}"), tensor.shallow_clone()))
                .collect::<Vec<_>>()
        };
        all.flat_map(named).collect()
    }

    fn update(&mut self, index: usize, tensor: &mut Tensor, gradient: &Tensor, rate: f64) -> Result<()> {
        let learning_rate = self.learning_rate() * rate;
        match &self.optimizer {
            Optimizer::Sgd(sgd) => {
                // PyTorch starts the momentum with the first gradient, which is what μ·0 + g gives.
                let momentum = &mut self.first[index];
                let Sgd { momentum: decay, weight_decay, nesterov, .. } = *sgd;
                let step = SgdStep { learning_rate, momentum: decay, weight_decay, nesterov };
                guard_kernels::sgd(tensor, momentum, gradient, step)?;
            }
            Optimizer::Adam(adam) => {
                let gradient = decayed(gradient, tensor, adam.weight_decay)?;
                self.adam(index, tensor, &gradient, learning_rate, adam.betas, adam.epsilon)?;
            }
            Optimizer::Adamw(adamw) => {
                let _ = tensor.f_mul_scalar_(1.0 - learning_rate * adamw.weight_decay)?;
                let (betas, epsilon) = (adamw.betas, adamw.epsilon);
                self.adam(index, tensor, gradient, learning_rate, betas, epsilon)?;
            }
        }
        Ok(())
    }

    /// Kingma & Ba, ICLR 2015, algorithm 1.
    fn adam(
        &mut self,
        index: usize,
        tensor: &mut Tensor,
        gradient: &Tensor,
        learning_rate: f64,
        [beta1, beta2]: [f64; 2],
        epsilon: f64,
    ) -> Result<()> {
        let (mean, square) = (&mut self.first[index], &mut self.second[index]);
        let _ = mean.f_mul_scalar_(beta1)?.f_add_(&(gradient * (1.0 - beta1)))?;
        let _ = square.f_mul_scalar_(beta2)?.f_add_(&(gradient.square() * (1.0 - beta2)))?;
        let (correction1, correction2) = (1.0 - beta1.powi(self.steps), 1.0 - beta2.powi(self.steps));
        let denominator = square.sqrt() / correction2.sqrt() + epsilon;
        let _ = tensor.f_sub_(&(&*mean / denominator * (learning_rate / correction1)))?;
        Ok(())
    }
}

/// What brings gradients that are longer than `length` together back to it, a scalar.
fn clip_scale(gradients: &[Tensor], length: f64) -> Result<Tensor> {
    let norms: Vec<Tensor> = gradients.iter().map(|gradient| gradient.norm()).collect();
    let norm = Tensor::f_stack(&norms, 0)?.f_norm()?;
    Ok(((norm + 1e-6).reciprocal() * length).clamp_max(1.0))
}

/// The gradient of the loss with an l2 penalty.
fn decayed(gradient: &Tensor, tensor: &Tensor, weight_decay: f64) -> Result<Tensor> {
    Ok(if weight_decay == 0.0 {
        gradient.shallow_clone()
    } else {
        gradient.f_add(&(tensor * weight_decay))?
    })
}

impl Optimizer {
    /// Replaces the learning rate.
    pub fn set_learning_rate(&mut self, value: f64) {
        match self {
            Self::Sgd(sgd) => sgd.learning_rate = value,
            Self::Adam(adam) => adam.learning_rate = value,
            Self::Adamw(adamw) => adamw.learning_rate = value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Adam, AdamW};

    /// Two steps on x² from x = 1, by hand.
    fn two_steps(optimizer: Optimizer) -> f64 {
        let x = Tensor::from_slice(&[1.0f64]);
        let mut state = OptimizerState::new(&optimizer);
        for _ in 0..2 {
            state.step(&[x.shallow_clone()], &[&x * 2.0], 1.0).unwrap();
        }
        x.double_value(&[0])
    }

    #[test]
    fn sgd_with_momentum_and_decay_does_two_steps_as_by_hand() {
        let sgd = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.5, nesterov: false };
        // g = 2.5, m = 2.5, x = 0.75; g = 1.875, m = 4.125, x = 0.3375
        assert!((two_steps(Optimizer::Sgd(sgd.clone())) - 0.3375).abs() < 1e-12);
        // Nesterov: x = 1 - 0.1 (2.5 + 2.25) = 0.525; g = 1.3125, m = 3.5625, x = 0.525 - 0.1 (1.3125 + 3.20625)
        assert!((two_steps(Optimizer::Sgd(Sgd { nesterov: true, ..sgd })) - 0.073_125).abs() < 1e-12);
    }

    #[test]
    fn adams_first_steps_have_the_length_of_the_learning_rate() {
        let adam = Adam { learning_rate: 0.01, weight_decay: 0.0, ..Adam::default() };
        assert!((two_steps(Optimizer::Adam(adam)) - 0.98).abs() < 1e-4);
    }

    #[test]
    fn adamw_decays_the_weights_and_not_the_gradient() {
        let adamw = AdamW { learning_rate: 0.01, weight_decay: 0.1, ..AdamW::default() };
        let plain = AdamW { weight_decay: 0.0, ..adamw.clone() };
        let (decayed, plain) = (two_steps(Optimizer::Adamw(adamw)), two_steps(Optimizer::Adamw(plain)));
        assert!((plain - decayed - 2.0 * 0.001 * 0.98).abs() < 1e-4, "{plain} {decayed}");
    }

    #[test]
    fn gradients_are_cut_to_a_length_all_together_and_never_made_longer() {
        let sgd = Sgd { learning_rate: 1.0, momentum: 0.0, weight_decay: 0.0, nesterov: false };
        let step = |length: f64| {
            let (x, y) = (Tensor::from_slice(&[0.0f64]), Tensor::from_slice(&[0.0f64]));
            let mut state = OptimizerState::new(&Optimizer::Sgd(sgd.clone())).clipped(Some(length));
            let gradients = [Tensor::from_slice(&[3.0f64]), Tensor::from_slice(&[4.0f64])];
            state.step(&[x.shallow_clone(), y.shallow_clone()], &gradients, 1.0).unwrap();
            [x, y].map(|moved| moved.double_value(&[0]))
        };
        assert_eq!(step(10.0), [-3.0, -4.0]);
        let [x, y] = step(1.0);
        assert!((x + 0.6).abs() < 1e-6 && (y + 0.8).abs() < 1e-6, "{x} {y}");
    }
}
