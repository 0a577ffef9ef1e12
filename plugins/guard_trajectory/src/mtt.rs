//! MTT: the gradient of the whole unroll.
//!
//! ```text
//! θ̂_{n+1} = θ̂_n − α ∇θ CE(A(S_n); θ̂_n),  n < N        L = ‖θ̂_N − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖²
//! ```
//!
//! Memory holds the graph of all N steps.

use crate::{
    options::TrajectoryOptions,
    unroll::{Unroll, descended, learning_rate, leaves, squared_distance},
};
use guard_sdk::{
    Lab, Method, Needs, Objective, Result, Services, Step, Synthetic, Value,
    autograd::{Graph, grad},
};

/// ‖θ̂_N − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖², with graph to the images, the soft labels and the learning rate.
pub struct Mtt {
    options: TrajectoryOptions,
}

impl Method for Mtt {
    type Options = TrajectoryOptions;
    const NAME: &'static str = "mtt";

    fn new(options: TrajectoryOptions, _: &Services) -> Result<Self> {
        Ok(Self { options })
    }
}

impl Objective for Mtt {
    fn needs(&self) -> Needs {
        self.options.needs()
    }

    /// Passes: N forwards and backwards; the host adds N double backwards.
    fn value(&mut self, step: &Step, synthetic: &Synthetic, lab: &Lab) -> Result<Value> {
        let unroll = Unroll::draw(&self.options, step, lab)?;
        let rate = learning_rate(synthetic)?;
        step.services.metric("learning-rate", &rate.detach())?;
        let mut parameters = leaves(&unroll.start);
        for index in 0..unroll.steps() {
            let loss = unroll.cross_entropy(synthetic, index, &parameters)?;
            let gradients = grad(&loss, &parameters.iter().collect::<Vec<_>>(), Graph::Create)?;
            parameters = descended(&parameters, &gradients, &rate)?;
        }
        Ok(Value::Loss(squared_distance(&parameters, &unroll.target)?.f_div(&unroll.distance)?))
    }
}
