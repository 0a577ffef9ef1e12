//! The exponential moving average of a network's weights (Polyak & Juditsky 1992), as timm's `ModelEmaV2` takes it.

use super::parts::{number, of_tensors, restore};
use crate::network::Model;
use guard_sdk::{Kind, Result, State, autograd::no_grad};
use serde_json::json;

/// A network whose parameters and running statistics are averages over the steps of another's training.
///
/// Running statistics are averaged like the weights, as timm does; PyTorch's `AveragedModel` would leave them, and pass over
/// the data once more at the end. The number of batches seen is the trained network's.
pub struct Average {
    model: Model,
    decay: f64,
    steps: u64,
}

impl Average {
    /// Starts at `model`.
    pub fn of(model: &Model, decay: f64) -> Self {
        Self { model: model.copy(model.parameters()[0].kind(), false), decay, steps: 0 }
    }

    /// Takes the network after a step in. Early averages are short, so that the first weights are forgotten: the decay of
    /// step t, from 0, is at most (1+t)/(10+t).
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn update(&mut self, model: &Model) -> Result<()> {
        let step = self.steps as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step));
        self.steps += 1;
        let tensors = |model: &Model| {
            let all = model.parameters().iter().chain(model.buffers());
            all.map(|tensor| tensor.detach()).collect::<Vec<_>>()
        };
        no_grad(|| {
            for (mut average, present) in tensors(&self.model).into_iter().zip(tensors(model)) {
                match average.kind() {
                    Kind::Int64 => average.f_copy_(&present)?,
                    _ => {
                        let _ = average.f_lerp_(&present, 1.0 - decay)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// The averaged network, whose parameters need no gradients.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The averages so far.
    pub(super) fn save(&self) -> State {
        State { json: json!({ "steps": self.steps }), ..of_tensors(self.model.named_tensors()) }
    }

    /// Puts them back.
    ///
    /// # Errors
    /// If the state is that of another network.
    pub(super) fn load(&mut self, state: State) -> Result<()> {
        self.steps = number(&state, "steps")?;
        restore(&self.model.named_tensors(), &state)
    }

    /// The averaged network, to be trained on or kept.
    pub fn into_model(self) -> Model {
        let Self { model, .. } = self;
        let kind = model.parameters()[0].kind();
        model.copy(kind, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{Architecture, Convnet, NetworkSpec, NormLayer},
        random::Streams,
    };
    use guard_sdk::{Device, Tensor};

    fn fresh() -> Model {
        let spec = NetworkSpec {
            architecture: Architecture::Convnet(Convnet { depth: 1, width: 2, norm: NormLayer::Batch }),
            input: [1, 4, 4],
            classes: 2,
            mean: vec![0.5],
            std: vec![0.5],
            whitening: None,
            precision: Default::default(),
        };
        Model::fresh(&spec, &Streams::new(0), Device::Cpu).unwrap()
    }

    fn fill(model: &Model, value: f64) {
        no_grad(|| {
            for tensor in model.parameters().iter().chain(model.buffers()) {
                let _ = tensor.shallow_clone().fill_(value);
            }
        });
    }

    fn values(model: &Model) -> Vec<f64> {
        let all = model.parameters().iter().chain(model.buffers());
        all.map(|tensor| tensor.to_kind(Kind::Double).mean(Kind::Double).double_value(&[])).collect()
    }

    #[test]
    fn parameters_and_statistics_are_averaged_and_the_counter_is_not() {
        let model = fresh();
        fill(&model, 0.0);
        let mut average = Average::of(&model, 0.5);
        // Decays 1/10 and 2/11, both below 0.5.
        for value in [1.0, 3.0] {
            fill(&model, value);
            average.update(&model).unwrap();
        }
        let expected = 0.9 * 2.0 / 11.0 + 3.0 * 9.0 / 11.0;
        let found = values(average.model());
        let (counter, averaged) = found.split_last().unwrap();
        assert!(averaged.iter().all(|value| (value - expected).abs() < 1e-6), "{averaged:?}, not {expected}");
        assert_eq!(*counter, 3.0);
        assert!(average.into_model().parameters().iter().all(Tensor::requires_grad));
    }

    #[test]
    fn in_the_long_run_the_decay_is_the_one_asked_for() {
        let model = fresh();
        fill(&model, 0.0);
        let mut average = Average::of(&model, 0.5);
        (0..40).for_each(|_| average.update(&model).unwrap());
        fill(&model, 1.0);
        average.update(&model).unwrap();
        assert!((values(average.model())[0] - 0.5).abs() < 1e-6);
    }
}
