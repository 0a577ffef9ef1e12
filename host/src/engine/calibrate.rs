//! How fast this machine is: a few steps of a network on noise, and of penalties on a small network.

use super::optimizer::OptimizerState;
use crate::{
    network::{Architecture, Convnet, Model, NetworkSpec, NormLayer},
    plugin::{Context, NoNetworks, Plugins, Silent},
    random::Streams,
    recipe::{AdamW, Optimizer, RegularizerUse},
};
use guard_sdk::{
    Batch, Device, Kind, Network, Result, Space, Tensor,
    autograd::{Graph, grad, grad_if_used},
};
use serde_json::Value;
use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

/// A measurement takes at least as long as this, and so many turns unless they take longer than that.
const PATIENCE: Duration = Duration::from_millis(60);
const TURNS: usize = 5;
const LONGEST: Duration = Duration::from_secs(1);

/// Multiply-adds of a batch that is large enough for a steady speed.
const STEADY: f64 = 5e8;

/// Seconds that a network takes for an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    /// A forward pass without graph.
    pub forward: f64,
    /// A step of training: forward, backward and the optimiser.
    pub step: f64,
}

impl Speed {
    /// Of the network in batches of at most `batch_size` images; `multiply_adds` are those of one image's forward pass.
    ///
    /// # Errors
    /// If the network cannot be made.
    pub fn measure(spec: &NetworkSpec, multiply_adds: i64, batch_size: usize) -> Result<Self> {
        // A batch of one image has no statistics.
        let count = (STEADY / multiply_adds.max(1) as f64).clamp(2.0, batch_size.max(2) as f64) as i64;
        let trial = Trial::new(spec, count)?;
        let [forward, step] =
            seconds([&mut || trial.model.eval_logits(&trial.images).map(|_| ()), &mut || trial.step()])?;
        Ok(Self { forward: forward / count as f64, step: step / count as f64 })
    }

    /// A forward pass and a backward pass to the image alone, which is half of a backward pass.
    pub fn image_step(&self) -> f64 {
        self.forward + 0.5 * (self.step - self.forward).max(0.0)
    }
}

/// How many times as long as a plain step a step with the penalties takes, measured on a small network.
///
/// # Errors
/// If a penalty cannot be computed on noise.
pub(super) fn with_penalties(plugins: &Plugins, uses: &[RegularizerUse]) -> Result<f64> {
    if uses.is_empty() {
        return Ok(1.0);
    }
    let spec = NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 2, width: 16, norm: NormLayer::Batch }),
        input: [3, 16, 16],
        classes: 10,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        whitening: None,
        precision: Default::default(),
    };
    let (trial, random) = (Trial::new(&spec, 32)?, Streams::new(0));
    let context = Context {
        stage: "plan",
        iteration: 0,
        iterations: 1,
        random: &random,
        recorder: &Silent,
        plugins,
        networks: &NoNetworks,
        device: Device::Cpu,
    };
    let mut penalties = uses
        .iter()
        .map(|each| {
            plugins.regularizer(&context, &each.method, &each.method, &Value::Object(each.options.clone()))
        })
        .collect::<Result<Vec<_>>>()?;
    let [plain, penalised] = seconds([&mut || trial.step(), &mut || {
        trial.step()?;
        for penalty in &mut penalties {
            let value = penalty.penalty(&context, &Network::lend(&trial.model), &trial.batch())?;
            trial.gradients(&value)?;
        }
        Ok(())
    }])?;
    Ok((penalised / plain).max(1.0))
}

/// A network and a batch of noise.
struct Trial {
    model: Model,
    optimizer: RefCell<OptimizerState>,
    images: Tensor,
    labels: Tensor,
    ids: Vec<u64>,
}

impl Trial {
    fn new(spec: &NetworkSpec, count: i64) -> Result<Self> {
        let [channels, height, width] = spec.input;
        let streams = Streams::new(0);
        // Mean, std and whitening may be unknown before the data is there, and hardly matter.
        let known =
            |values: &Vec<f64>| if values.is_empty() { vec![0.5; channels as usize] } else { values.clone() };
        let (mean, std) = (known(&spec.mean), known(&spec.std));
        let spec = NetworkSpec { mean, std, whitening: None, ..spec.clone() };
        Ok(Self {
            model: Model::fresh(&spec, &streams, Device::Cpu)?,
            optimizer: RefCell::new(OptimizerState::new(&Optimizer::Adamw(AdamW::default()))),
            images: Tensor::f_full([count, channels, height, width], 0.5, (Kind::Float, Device::Cpu))?
                + streams.uniform("noise", &[1, channels, height, width], Kind::Float)? * 0.1,
            labels: Tensor::f_arange(count, (Kind::Int64, Device::Cpu))?.f_remainder(spec.classes)?,
            ids: (0..count as u64).collect(),
        })
    }

    fn batch(&self) -> Batch<'_> {
        Batch::pixels(&self.images, &self.labels, &self.ids)
    }

    /// The rate 0 leaves the network as it is, after all the work of a step.
    fn step(&self) -> Result<()> {
        let logits = self.model.train_logits(&self.images, Space::Pixels)?;
        let loss = self.batch().cross_entropy_each(&logits)?.mean(None::<Kind>);
        let parameters: Vec<&Tensor> = self.model.parameters().iter().collect();
        let gradients = grad(&loss, &parameters, Graph::Free)?;
        self.optimizer.borrow_mut().step(self.model.parameters(), &gradients, 0.0)
    }

    fn gradients(&self, penalty: &Tensor) -> Result<()> {
        let parameters: Vec<&Tensor> = self.model.parameters().iter().collect();
        grad_if_used(penalty, &parameters, Graph::Free).map(|_| ())
    }
}

/// The shortest of several times that each of `works` takes. They take turns, so that whatever else runs on the machine
/// delays all alike.
fn seconds<const N: usize>(mut works: [&mut dyn FnMut() -> Result<()>; N]) -> Result<[f64; N]> {
    let (begun, mut shortest) = (Instant::now(), [Duration::MAX; N]);
    for turn in 0.. {
        if begun.elapsed() >= PATIENCE && (turn >= TURNS || begun.elapsed() >= LONGEST) {
            break;
        }
        for (work, shortest) in works.iter_mut().zip(&mut shortest) {
            let begun = Instant::now();
            work()?;
            *shortest = begun.elapsed().min(*shortest);
        }
    }
    Ok(shortest.map(|shortest| shortest.as_secs_f64()))
}
