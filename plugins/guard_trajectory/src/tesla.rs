//! TESLA: the gradient of the unroll in which the gradients of earlier steps are constants. It is not MTT's, and needs the
//! memory of one step, however many there are.
//!
//! With G = Σ gₙ and D = ‖θ*_t − θ*_{t+M}‖²,
//!
//! ```text
//! first pass    gₙ = ∇θ CE(A(Sₙ); θ̂ₙ), θ̂_{n+1} = θ̂ₙ − α gₙ
//! second pass   ∂L/∂S += vᵀ ∂gₙ/∂S,   v = −2 α (θ̂_N − θ*_{t+M}) / D = 2/D [α (θ*_{t+M} − θ*_t) + α² G]
//!               ∂L/∂α = −2 (θ̂_N − θ*_{t+M})ᵀ G / D
//! ```
//!
//! The second pass computes each gₙ again.

use crate::{
    options::TrajectoryOptions,
    unroll::{Unroll, descended, inner_product, learning_rate, leaves, squared_distance},
};
use guard_sdk::{
    Lab, Method, Needs, Objective, Result, Services, Step, Synthetic, Tensor, Value,
    autograd::{Graph, grad, vector_jacobian},
};

/// MTT's loss, with the gradients above.
pub struct Tesla {
    options: TrajectoryOptions,
}

impl Method for Tesla {
    type Options = TrajectoryOptions;
    const NAME: &'static str = "tesla";
    /// Each step's gradient is a constant: what tells TESLA from MTT.
    const STOPS_GRADIENT: bool = true;

    fn new(options: TrajectoryOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Objective for Tesla {
    fn needs(&self) -> Needs {
        self.options.needs()
    }

    /// Passes: 2 N forwards and backwards, N double backwards.
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let unroll = Unroll::draw(&self.options, step, lab)?;
        let rate = learning_rate(synthetic)?.detach();
        step.services.metric("learning-rate", &rate)?;
        let (reached, sum) = first_pass(&unroll, synthetic, &rate)?;
        let loss = squared_distance(&reached, &unroll.target)?.f_div(&unroll.distance)?;

        // ∂L/∂θ̂_N.
        let outer: Vec<Tensor> = reached
            .iter()
            .zip(&unroll.target)
            .map(|(reached, target)| reached.f_sub(target)?.f_mul_scalar(2.0)?.f_div(&unroll.distance))
            .collect::<Result<_, _>>()?;
        let weights: Vec<Tensor> =
            outer.iter().map(|each| each.f_mul(&rate)?.f_neg()).collect::<Result<_, _>>()?;
        let mut gradients = second_pass(&unroll, synthetic, &rate, &weights)?;
        gradients.push(inner_product(&outer, &sum)?.f_neg()?);
        Ok(Value::Gradients { loss, gradients })
    }
}

/// θ̂_N and G.
fn first_pass(unroll: &Unroll, synthetic: &Synthetic, rate: &Tensor) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
    let images = synthetic.images.detach();
    let soft_labels = synthetic.soft_labels.map(Tensor::detach);
    let constant = Synthetic { images: &images, soft_labels: soft_labels.as_ref(), ..*synthetic };
    let mut sum: Vec<Tensor> = unroll.start.iter().map(Tensor::f_zeros_like).collect::<Result<_, _>>()?;
    let mut parameters = unroll.start.iter().map(Tensor::detach).collect::<Vec<_>>();
    for index in 0..unroll.steps() {
        let leaves = leaves(&parameters);
        let loss = unroll.cross_entropy(&constant, index, &leaves)?;
        let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), Graph::Free)?;
        for (sum, gradient) in sum.iter_mut().zip(&gradients) {
            let _ = sum.f_add_(gradient)?;
        }
        parameters = descended(&parameters, &gradients, rate)?;
    }
    Ok((parameters, sum))
}

/// Σₙ vᵀ ∂gₙ/∂· of the images, then of the soft labels if they are learned.
fn second_pass(
    unroll: &Unroll,
    synthetic: &Synthetic,
    rate: &Tensor,
    weights: &[Tensor],
) -> Result<Vec<Tensor>> {
    let learned: Vec<&Tensor> = std::iter::once(synthetic.images).chain(synthetic.soft_labels).collect();
    let zeros = |tensor: &&Tensor| tensor.detach().f_zeros_like();
    let mut totals: Vec<Tensor> = learned.iter().map(zeros).collect::<Result<_, _>>()?;
    let mut parameters = unroll.start.iter().map(Tensor::detach).collect::<Vec<_>>();
    let weights: Vec<&Tensor> = weights.iter().collect();
    for index in 0..unroll.steps() {
        let leaves = leaves(&parameters);
        let loss = unroll.cross_entropy(synthetic, index, &leaves)?;
        let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), Graph::Create)?;
        let products =
            vector_jacobian(&gradients.iter().collect::<Vec<_>>(), &weights, &learned, Graph::Free)?;
        for (total, product) in totals.iter_mut().zip(&products) {
            let _ = total.f_add_(product)?;
        }
        let constants: Vec<Tensor> = gradients.iter().map(Tensor::detach).collect();
        parameters = descended(&parameters, &constants, rate)?;
    }
    Ok(totals)
}
