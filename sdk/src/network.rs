//! A network as a method sees it: a function of (parameters, buffers, input), whatever its architecture.

use crate::{Error, Result, Space, sent};
use std::any::Any;
use tch::Tensor;

/// What is known of a network without running it.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct NetworkInfo {
    /// The architecture's name, e.g. `convnet`.
    pub architecture: String,
    /// Number of classes, K.
    pub classes: i64,
    /// Channels, height and width of the input.
    pub input: [i64; 3],
    /// The mean that the network's normalisation subtracts, per channel.
    pub mean: Vec<f64>,
    /// The standard deviation that it divides by, per channel.
    pub std: Vec<f64>,
    /// Names of the BatchNorm layers, in order of the forward pass.
    pub batch_norm: Vec<String>,
}

/// How BatchNorm behaves in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Running statistics.
    #[default]
    Eval,
    /// Statistics of the batch. A lent network's running statistics stay as they are; an owned one's follow.
    Train,
}

/// Whose mean and variance BatchNorm uses in a term of the training loss, as an option of a regularizer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum StatisticsFrom {
    /// The running ones, as in an evaluation: the term of an example is its own.
    #[default]
    Running,
    /// The batch's, as the training loss's cross-entropy: an example's term then depends on its batch mates through them.
    Batch,
}

impl StatisticsFrom {
    /// The mode of such a pass.
    pub fn mode(self) -> Mode {
        match self {
            StatisticsFrom::Running => Mode::Eval,
            StatisticsFrom::Batch => Mode::Train,
        }
    }

    /// A pass on inputs in `space` that returns logits; the running statistics of a lent network stay as they are.
    pub fn pass(self, space: Space) -> Pass {
        Pass { mode: self.mode(), ..Pass::new(space) }
    }
}

/// One forward pass: in which space the input is, in which mode the network, and what to return besides logits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass {
    /// What the input's values mean.
    pub space: Space,
    /// How BatchNorm behaves.
    pub mode: Mode,
    /// Return the input of the last linear layer.
    pub embedding: bool,
    /// Return the statistics at the inputs of the BatchNorm layers.
    pub statistics: bool,
    /// Return the output of each stage.
    pub features: bool,
}

impl Pass {
    /// An eval pass on inputs in `space` that returns logits.
    pub fn new(space: Space) -> Self {
        Self { space, ..Self::default() }
    }

    /// The same in train mode.
    pub fn train(self) -> Self {
        Self { mode: Mode::Train, ..self }
    }

    /// The same with [`Output::embedding`].
    pub fn with_embedding(self) -> Self {
        Self { embedding: true, ..self }
    }

    /// The same with [`Output::statistics`].
    pub fn with_statistics(self) -> Self {
        Self { statistics: true, ..self }
    }

    /// The same with [`Output::features`].
    pub fn with_features(self) -> Self {
        Self { features: true, ..self }
    }
}

/// Statistics at the input of one BatchNorm layer, each `[C]`. Mean and variance carry the graph.
#[derive(Debug)]
pub struct Statistics {
    /// The layer's name, e.g. `layer1.0.bn1`.
    pub layer: String,
    /// Mean over batch and positions.
    pub mean: Tensor,
    /// Biased variance over batch and positions.
    pub variance: Tensor,
    /// The layer's running mean.
    pub running_mean: Tensor,
    /// The layer's running variance.
    pub running_variance: Tensor,
}

/// What a pass returns.
#[derive(Debug)]
pub struct Output {
    /// `[N,K]`.
    pub logits: Tensor,
    /// `[N,E]`, the input of the last linear layer, if asked for.
    pub embedding: Option<Tensor>,
    /// One per BatchNorm layer in order of the forward pass, if asked for.
    pub statistics: Vec<Statistics>,
    /// Each stage's name and output, if asked for.
    pub features: Vec<(String, Tensor)>,
}

/// A network's named tensors: the tensors themselves, not copies.
#[derive(Debug, Default)]
pub struct Tensors {
    /// What is trained, in the order of the architecture.
    pub parameters: Vec<(String, Tensor)>,
    /// Running statistics.
    pub buffers: Vec<(String, Tensor)>,
}

/// What stands behind a [`Network`]; the host implements it, and the boundary.
pub trait NetworkBackend: Send {
    /// See [`NetworkInfo`].
    fn info(&self) -> &NetworkInfo;
    /// One forward pass.
    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output>;
    /// The network's tensors.
    fn tensors(&self) -> Result<Tensors>;
    /// The same architecture with these parameters; buffers are copied.
    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>>;
    /// For the boundary to recognise its own.
    fn as_any(&self) -> &dyn Any;
}

/// A network lent for a call, or by its owner.
///
/// Parameters require gradients where somebody wants them (training); an attack takes input gradients only.
#[derive(Clone, Copy)]
pub struct Network<'a>(&'a dyn NetworkBackend);

/// A network that the method owns, from [`Network::with_parameters`] or the [`Lab`](crate::Lab). It can be kept between
/// calls.
pub struct OwnedNetwork(Box<dyn NetworkBackend>);

impl OwnedNetwork {
    /// Takes a backend over.
    pub fn new(backend: impl NetworkBackend + 'static) -> Self {
        Self(Box::new(backend))
    }

    /// The network, to be used.
    pub fn lend(&self) -> Network<'_> {
        Network(self.0.as_ref())
    }

    /// What stands behind.
    pub fn into_backend(self) -> Box<dyn NetworkBackend> {
        self.0
    }
}

impl<'a> Network<'a> {
    /// Lends a backend.
    pub fn lend(backend: &'a dyn NetworkBackend) -> Self {
        Self(backend)
    }

    /// What stands behind.
    pub fn backend(&self) -> &'a dyn NetworkBackend {
        self.0
    }

    /// What is known without running it.
    pub fn info(&self) -> &'a NetworkInfo {
        self.backend().info()
    }

    /// Logits `[N,K]` of pixels `[N,C,H,W]` in [0,1], in eval mode.
    ///
    /// # Errors
    /// If the shape does not fit the network.
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        self.logits_in(Space::Pixels, pixels)
    }

    /// Logits `[N,K]` of images in `space`, in eval mode.
    ///
    /// # Errors
    /// If the shape does not fit the network.
    pub fn logits_in(&self, space: Space, images: &Tensor) -> Result<Tensor> {
        Ok(self.pass(images, Pass::new(space))?.logits)
    }

    /// One forward pass.
    ///
    /// # Errors
    /// If the shape does not fit the network.
    pub fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let (size, input) = (images.size(), self.info().input);
        if size.len() != 4 || size[1..] != input {
            return Err(Error::new(format!(
                "the network takes images [N,{},{},{}], found {size:?}",
                input[0], input[1], input[2]
            )));
        }
        self.backend().pass(images, pass)
    }

    /// The network's named tensors.
    ///
    /// # Errors
    /// If the other side of the boundary fails.
    pub fn tensors(&self) -> Result<Tensors> {
        self.backend().tensors()
    }

    /// The same architecture with other parameters, in the order of [`Network::tensors`]; they keep their graph, so
    /// that a network can be unrolled. Buffers are copied and then belong to the new network.
    ///
    /// # Errors
    /// If number or shapes differ.
    pub fn with_parameters(&self, parameters: &[&Tensor]) -> Result<OwnedNetwork> {
        Ok(OwnedNetwork(self.backend().rebind(parameters)?))
    }

    /// Pixels `[N,C,H,W]` as the network's inner layers see them: `(pixels - mean) / std`.
    pub fn normalise(&self, pixels: &Tensor) -> Tensor {
        let (mean, std) = self.mean_and_std(pixels);
        (pixels - mean) / std
    }

    /// The pixels behind normalised images.
    pub fn denormalise(&self, normalised: &Tensor) -> Tensor {
        let (mean, std) = self.mean_and_std(normalised);
        normalised * std + mean
    }

    /// `images` of one space in another.
    pub fn convert(&self, images: &Tensor, from: Space, to: Space) -> Tensor {
        match (from, to) {
            (Space::Pixels, Space::Normalised) => self.normalise(images),
            (Space::Normalised, Space::Pixels) => self.denormalise(images),
            _ => images.shallow_clone(),
        }
    }

    /// Mean and standard deviation as `[1,C,1,1]`, of the dtype and on the device of `like`.
    fn mean_and_std(&self, like: &Tensor) -> (Tensor, Tensor) {
        let info = self.info();
        (channel_values(&info.mean, like), channel_values(&info.std, like))
    }
}

/// One value per channel as `[1,C,1,1]`, of the dtype and on the device of `like`.
pub fn channel_values(values: &[f64], like: &Tensor) -> Tensor {
    let values = Tensor::from_slice(values).to_kind(like.kind()).reshape([1, -1, 1, 1]);
    sent(&values, like.device()).expect("a GPU with tensors on it has room for a number per channel")
}
