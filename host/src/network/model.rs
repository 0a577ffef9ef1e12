//! A program with tensors: what is trained, attacked and lent to plugins.

use super::{
    architecture::NetworkSpec, forward::Run, operation::Operation, precision::Precision, program::Program,
    whitening::WhiteningMap,
};
use crate::random::Streams;
use guard_sdk::{
    Device, Error, Kind, Mode, NetworkInfo, Output, Pass, Result, Space, Statistics, Tensor,
    autograd::no_grad,
    network::{NetworkBackend, Tensors, channel_values},
};
use std::{any::Any, sync::Arc};

/// A network with its tensors. Clones share them.
pub struct Model {
    spec: Arc<NetworkSpec>,
    program: Arc<Program>,
    info: Arc<NetworkInfo>,
    parameters: Vec<Tensor>,
    buffers: Vec<Tensor>,
    mean: Tensor,
    std: Tensor,
    whitening: Option<WhiteningMap>,
    /// Whether activations are stored channels last, as libtorch's convolutions on the CPU like them.
    channels_last: bool,
    /// What eval passes run on instead: see [`Model::for_inference`].
    prepared: Option<Box<Model>>,
    /// What its passes compute with.
    precision: Precision,
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
        Ok(Self::new(spec, program, parameters, buffers)?.stored_as_computed())
    }

    /// A network with the given tensors, in the program's order.
    ///
    /// # Errors
    /// If shapes differ, or the parameters' dtypes among themselves.
    pub fn new(
        spec: &NetworkSpec,
        program: Program,
        parameters: Vec<Tensor>,
        buffers: Vec<Tensor>,
    ) -> Result<Self> {
        let like = parameters.first().ok_or_else(|| Error::new("a network needs parameters"))?;
        let (mean, std) = (channel_values(&spec.mean, like), channel_values(&spec.std, like));
        let whitening =
            spec.whitening.as_ref().map(|whitening| whitening.map(spec.input, like)).transpose()?;
        let info = spec.info(&program);
        let channels_last = suits_channels_last(&program, spec.precision, like);
        let model = Self {
            spec: Arc::new(spec.clone()),
            program: Arc::new(program),
            info: Arc::new(info),
            parameters,
            buffers,
            mean,
            std,
            whitening,
            channels_last,
            prepared: None,
            precision: spec.precision,
            commits: false,
        };
        model.check()?;
        Ok(model)
    }

    fn check(&self) -> Result<()> {
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
            let (kind, found) = (self.mean.kind(), tensor.kind());
            if kind != found {
                let name = &parameter.name;
                return Err(Error::new(format!("parameter `{name}` must be {kind:?}, found {found:?}")));
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

    /// What comes after the normalisation.
    pub fn whitening(&self) -> Option<&WhiteningMap> {
        self.whitening.as_ref()
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
        let copy = Self {
            // From the decimal constants, so that float64 networks normalise in float64.
            mean: channel_values(&self.spec.mean, &parameters[0]),
            std: channel_values(&self.spec.std, &parameters[0]),
            whitening: self.whitening.as_ref().map(|whitening| whitening.to_kind(kind)),
            buffers: self.buffers.iter().map(copy).collect(),
            channels_last: suits_channels_last(&self.program, self.precision, &parameters[0]),
            prepared: None,
            parameters,
            ..self.share()
        };
        copy.stored_as_computed()
    }

    /// The same network, its convolutions' weights stored as their passes use them.
    pub(super) fn stored_as_computed(self) -> Self {
        if self.channels_last { self.channels_last() } else { self }
    }

    /// The same network with its convolutions' weights stored channels last, as copies: for images that are stored so.
    pub fn channels_last(&self) -> Self {
        let copy = |tensor: &Tensor| match tensor.dim() {
            4 => channels_last(&tensor.detach()).set_requires_grad(tensor.requires_grad()),
            _ => tensor.shallow_clone(),
        };
        Self { parameters: self.parameters.iter().map(copy).collect(), ..self.share() }
    }

    /// The same tensors without gradients: for attacks and evaluation, which need input gradients only.
    pub fn frozen(&self) -> Self {
        Self { parameters: self.parameters.iter().map(Tensor::detach).collect(), ..self.share() }
    }

    /// The same network computing in its tensors' own dtype, whatever [`NetworkSpec::precision`] says: for measurements.
    pub fn exact(self) -> Self {
        let channels_last = suits_channels_last(&self.program, Precision::Fp32, &self.parameters[0]);
        let prepared = self.prepared.map(|prepared| Box::new(prepared.exact()));
        Self { precision: Precision::Fp32, channels_last, prepared, ..self }
    }

    /// The same network for a plugin to own.
    pub fn committing(self) -> Self {
        Self { commits: true, ..self }
    }

    /// The same network, whose eval passes run this program on these tensors.
    pub(super) fn evaluated_by(self, program: Program, parameters: Vec<Tensor>) -> Self {
        let prepared = Self { program: Arc::new(program), parameters, ..self.share() }.stored_as_computed();
        Self { prepared: Some(Box::new(prepared)), ..self }
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
            whitening: self.whitening.as_ref().map(WhiteningMap::share),
            channels_last: self.channels_last,
            prepared: self.prepared.as_ref().map(|prepared| Box::new(prepared.share())),
            precision: self.precision,
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
        if let Some(prepared) = &self.prepared
            && pass.mode == Mode::Eval
            && !pass.statistics
        {
            return prepared.forward(images, pass, false);
        }
        let input = match pass.space {
            Space::Pixels => (images - &self.mean) / &self.std,
            Space::Normalised => images.shallow_clone(),
        };
        let input = match &self.whitening {
            Some(whitening) => whitening.apply(&input)?,
            None => input,
        };
        let input = if self.channels_last { channels_last(&input) } else { input };
        let Some(_autocast) = self.precision.of_pass(&input)? else {
            return Run::new(self, pass, commit).output(input);
        };
        // In half precision from the first layer on, to the last.
        Ok(in_kind(Run::new(self, pass, commit).output(input.to_kind(Kind::BFloat16))?, kind))
    }
}

/// The same with all that depends on the images in another dtype.
fn in_kind(output: Output, kind: Kind) -> Output {
    let statistics = |statistics: Statistics| Statistics {
        mean: statistics.mean.to_kind(kind),
        variance: statistics.variance.to_kind(kind),
        ..statistics
    };
    Output {
        logits: output.logits.to_kind(kind),
        embedding: output.embedding.map(|embedding| embedding.to_kind(kind)),
        statistics: output.statistics.into_iter().map(statistics).collect(),
        features: output.features.into_iter().map(|(name, value)| (name, value.to_kind(kind))).collect(),
    }
}

/// Whether all layers take activations of `like`'s kind and device stored channels last, and some gain by it.
fn suits_channels_last(program: &Program, precision: Precision, like: &Tensor) -> bool {
    // Whether an operation and those after it are what is looked for.
    fn any(operations: &[Operation], found: &dyn Fn(&Operation, &[Operation]) -> bool) -> bool {
        operations.iter().enumerate().any(|(at, operation)| {
            let inside = || operation.branches().iter().any(|branch| any(branch, found));
            found(operation, &operations[at + 1..]) || inside()
        })
    }
    let convolves = |operation: &Operation, _: &[Operation]| matches!(operation, Operation::Convolution(_));
    let wants_planes = |operation: &Operation, after: &[Operation]| match operation {
        // `guard_kernels` takes it together with what follows.
        Operation::GroupNorm { groups, weight } => {
            let instance = program.parameters[*weight].shape == [*groups];
            let pooled = matches!(after, [Operation::Relu, Operation::AveragePool, ..]);
            let served = like.device() == Device::Cpu && precision != Precision::Bf16;
            !(served && instance && pooled)
        }
        Operation::LayerNorm { .. } | Operation::Tokens { .. } => true,
        _ => false,
    };
    // oneDNN has no convolutions in float64; GPUs have units for such activations, but not for float32.
    let gains = match like.device() {
        Device::Cpu => like.kind() != Kind::Double,
        _ => like.kind() == Kind::Float && !precision.is_full(),
    };
    gains && any(&program.operations, &convolves) && !any(&program.operations, &wants_planes)
}

/// The same values `[N,C,H,W]`, stored channels last.
pub fn channels_last(images: &Tensor) -> Tensor {
    images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
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
            prepared: None,
            commits: true,
            ..self.share()
        };
        model.check()?;
        Ok(Box::new(model))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
