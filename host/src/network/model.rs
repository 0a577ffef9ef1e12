//! A program with tensors: what is trained, attacked and lent to plugins.

use super::{architecture::NetworkSpec, program::Operation, program::Program};
use crate::random::Streams;
use guard_sdk::{
    Device, Error, Kind, Mode, NetworkInfo, Output, Pass, Result, Space, Statistics, Tensor,
    autograd::no_grad,
    network::{NetworkBackend, Tensors, channel_values},
};
use std::{any::Any, sync::Arc};

const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

/// A network with its tensors. Clones share them.
pub struct Model {
    spec: Arc<NetworkSpec>,
    program: Arc<Program>,
    info: Arc<NetworkInfo>,
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
    mean: Tensor,
    std: Tensor,
    /// Whether a train-mode pass through [`NetworkBackend`] updates the running statistics: only on networks that a
    /// plugin owns.
    commits: bool,
}

impl Model {
    /// A fresh float32 network whose parameters require gradients.
    ///
    /// # Errors
    /// If the specification cannot be met.
    pub fn fresh(spec: &NetworkSpec, streams: &Streams, device: Device) -> Result<Self> {
        let program = spec.program()?;
        let parameters = program.initial_parameters(streams, device)?;
        let buffers = program.initial_buffers(device);
        Self::new(spec, program, parameters, buffers)
    }

    /// A network with the given tensors, in the program's order.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn new(
        spec: &NetworkSpec,
        program: Program,
        parameters: Vec<Tensor>,
        buffers: Vec<Tensor>,
    ) -> Result<Self> {
        let like = parameters.first().ok_or_else(|| Error::new("a network needs parameters"))?;
        let (mean, std) = (channel_values(&spec.mean, like), channel_values(&spec.std, like));
        let info = spec.info(&program);
        let model = Self {
            spec: Arc::new(spec.clone()),
            program: Arc::new(program),
            info: Arc::new(info),
            parameters,
            buffers,
            mean,
            std,
            commits: false,
        };
        model.check_shapes()?;
        Ok(model)
    }

    fn check_shapes(&self) -> Result<()> {
        let expected = &self.program.parameters;
        if expected.len() != self.parameters.len() {
            return Err(Error::new(format!(
                "the network has {} parameters, found {}",
                expected.len(),
                self.parameters.len()
            )));
        }
        for (parameter, tensor) in expected.iter().zip(&self.parameters) {
            if parameter.shape != tensor.size() {
                let (name, shape, found) = (&parameter.name, &parameter.shape, tensor.size());
                return Err(Error::new(format!(
                    "parameter `{name}` must have shape {shape:?}, found {found:?}"
                )));
            }
        }
        Ok(())
    }

    /// What describes it.
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// Its operations and the names of its tensors.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where its tensors live.
    pub fn device(&self) -> Device {
        self.mean.device()
    }

    /// The parameters, in the program's order.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// The buffers, in the program's order.
    pub fn buffers(&self) -> &[Tensor] {
        &self.buffers
    }

    /// A copy with tensors of its own, of another dtype maybe; parameters require gradients if `trainable`.
    pub fn copy(&self, kind: Kind, trainable: bool) -> Self {
        let copy = |tensor: &Tensor| match tensor.kind() {
            Kind::Int64 => tensor.copy(),
            _ => tensor.detach().copy().to_kind(kind),
        };
        let parameters: Vec<_> =
            self.parameters.iter().map(|p| copy(p).set_requires_grad(trainable)).collect();
        Self {
            // From the decimal constants, so that float64 networks normalise in float64.
            mean: channel_values(&self.spec.mean, &parameters[0]),
            std: channel_values(&self.spec.std, &parameters[0]),
            buffers: self.buffers.iter().map(copy).collect(),
            parameters,
            ..self.share()
        }
    }

    /// The same tensors without gradients: for attacks and evaluation, which need input gradients only.
    pub fn frozen(&self) -> Self {
        Self { parameters: self.parameters.iter().map(Tensor::detach).collect(), ..self.share() }
    }

    /// The same network for a plugin to own.
    pub fn committing(self) -> Self {
        Self { commits: true, ..self }
    }

    fn share(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            program: self.program.clone(),
            info: self.info.clone(),
            parameters: self.parameters.iter().map(Tensor::shallow_clone).collect(),
            buffers: self.buffers.iter().map(Tensor::shallow_clone).collect(),
            mean: self.mean.shallow_clone(),
            std: self.std.shallow_clone(),
            commits: self.commits,
        }
    }

    /// A train-mode forward that commits the running statistics; logits `[N,K]`.
    ///
    /// # Errors
    /// If the images do not fit.
    pub fn train_logits(&self, images: &Tensor, space: Space) -> Result<Tensor> {
        Ok(self.forward(images, Pass::new(space).train(), true)?.logits)
    }

    /// Logits `[N,K]` of pixels in eval mode, without graph.
    ///
    /// # Errors
    /// If the images do not fit.
    pub fn eval_logits(&self, pixels: &Tensor) -> Result<Tensor> {
        no_grad(|| Ok(self.forward(pixels, Pass::new(Space::Pixels), false)?.logits))
    }

    /// One forward pass; `commit` says whether a train-mode pass updates the running statistics.
    ///
    /// # Errors
    /// If the images do not fit.
    pub fn forward(&self, images: &Tensor, pass: Pass, commit: bool) -> Result<Output> {
        let (kind, expected) = (images.kind(), self.parameters[0].kind());
        if kind != expected {
            return Err(Error::new(format!("the network computes in {expected:?}, the images are {kind:?}")));
        }
        let mut run =
            Run { model: self, pass, commit, embedding: None, statistics: Vec::new(), features: Vec::new() };
        let input = match pass.space {
            Space::Pixels => (images - &self.mean) / &self.std,
            Space::Normalised => images.shallow_clone(),
        };
        let logits = run.all(&self.program.operations, input)?;
        Ok(Output { logits, embedding: run.embedding, statistics: run.statistics, features: run.features })
    }
}

/// The state of one pass.
struct Run<'a> {
    model: &'a Model,
    pass: Pass,
    commit: bool,
    embedding: Option<Tensor>,
    statistics: Vec<Statistics>,
    features: Vec<(String, Tensor)>,
}

impl Run<'_> {
    fn all(&mut self, operations: &[Operation], mut x: Tensor) -> Result<Tensor> {
        for operation in operations {
            x = self.one(operation, x)?;
        }
        Ok(x)
    }

    fn one(&mut self, operation: &Operation, x: Tensor) -> Result<Tensor> {
        let parameters = &self.model.parameters;
        Ok(match operation {
            Operation::Convolution { weight, bias, stride, padding } => {
                let bias = bias.map(|bias| &parameters[bias]);
                x.f_conv2d(&parameters[*weight], bias, [*stride; 2], [*padding; 2], [1, 1], 1)?
            }
            Operation::BatchNorm { name, weight, mean } => self.batch_norm(name, *weight, *mean, &x)?,
            Operation::GroupNorm { groups, weight } => {
                let (weight, bias) = (&parameters[*weight], &parameters[weight + 1]);
                x.f_group_norm(*groups, Some(weight), Some(bias), EPSILON, true)?
            }
            Operation::LayerNorm { shape, weight } => {
                let (weight, bias) = (&parameters[*weight], &parameters[weight + 1]);
                x.f_layer_norm(shape, Some(weight), Some(bias), EPSILON, true)?
            }
            Operation::Relu => x.f_relu()?,
            Operation::AveragePool => x.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None)?,
            Operation::MaximumPool => x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?,
            Operation::GlobalPool => x.f_adaptive_avg_pool2d([1, 1])?,
            Operation::Flatten => x.f_flatten(1, -1)?,
            Operation::Embedding => {
                self.embedding = self.pass.embedding.then(|| x.shallow_clone());
                x
            }
            Operation::Stage(name) => {
                if self.pass.features {
                    self.features.push((name.clone(), x.shallow_clone()));
                }
                x
            }
            Operation::Residual { main, shortcut } => {
                let short = self.all(shortcut, x.shallow_clone())?;
                self.all(main, x)? + short
            }
            Operation::Linear { weight } => {
                x.f_linear(&parameters[*weight], Some(&parameters[weight + 1]))?
            }
        })
    }

    fn batch_norm(&mut self, name: &str, weight: usize, mean: usize, x: &Tensor) -> Result<Tensor> {
        let (parameters, buffers) = (&self.model.parameters, &self.model.buffers);
        let (running_mean, running_variance) = (&buffers[mean], &buffers[mean + 1]);
        if self.pass.statistics {
            let (variance, mean) = x.f_var_mean_dim([0, 2, 3].as_slice(), false, false)?;
            self.statistics.push(Statistics {
                layer: name.to_string(),
                mean,
                variance,
                running_mean: running_mean.shallow_clone(),
                running_variance: running_variance.shallow_clone(),
            });
        }
        let train = self.pass.mode == Mode::Train;
        if train && x.size().iter().product::<i64>() == x.size()[1] {
            let message =
                format!("BatchNorm layer `{name}` sees a single value per channel in a batch of one image");
            return Err(Error::new(message).help("choose a batch size that does not leave one image over"));
        }
        let apply = |running_mean: &Tensor, running_variance: &Tensor| {
            x.f_batch_norm(
                Some(&parameters[weight]),
                Some(&parameters[weight + 1]),
                Some(running_mean),
                Some(running_variance),
                train,
                MOMENTUM,
                EPSILON,
                true,
            )
        };
        if !train || self.commit {
            if train {
                let _ = buffers[mean + 2].shallow_clone().f_add_scalar_(1)?;
            }
            return Ok(apply(running_mean, running_variance)?);
        }
        Ok(apply(&running_mean.copy(), &running_variance.copy())?)
    }
}

impl NetworkBackend for Model {
    fn info(&self) -> &NetworkInfo {
        &self.info
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        self.forward(images, pass, self.commits)
    }

    fn tensors(&self) -> Result<Tensors> {
        let named = |name: &String, tensor: &Tensor| (name.clone(), tensor.shallow_clone());
        let parameters =
            self.program.parameters.iter().zip(&self.parameters).map(|(p, tensor)| named(&p.name, tensor));
        let buffers =
            self.program.buffers.iter().zip(&self.buffers).map(|(b, tensor)| named(&b.name, tensor));
        Ok(Tensors { parameters: parameters.collect(), buffers: buffers.collect() })
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        let model = Self {
            parameters: parameters.iter().map(|tensor| tensor.shallow_clone()).collect(),
            buffers: self.buffers.iter().map(Tensor::copy).collect(),
            commits: true,
            ..self.share()
        };
        model.check_shapes()?;
        Ok(Box::new(model))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
