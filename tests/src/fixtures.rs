//! A small network, a few examples, and how results are compared.

use guard_host::{
    network::{Architecture, Convnet, Model, NetworkSpec, NormLayer},
    random::Streams,
};
use guard_sdk::{Batch, Device, Error, Kind, Tensor};

/// A ConvNet of two blocks for 4 classes of 3×8×8 images.
pub fn spec(norm: NormLayer) -> NetworkSpec {
    NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 2, width: 4, norm }),
        input: [3, 8, 8],
        classes: 4,
        mean: vec![0.5, 0.4, 0.3],
        std: vec![0.2, 0.25, 0.3],
        whitening: None,
        precision: Default::default(),
    }
}

/// A network and a batch for it.
pub struct Examples {
    /// See [`spec`]; its parameters require gradients.
    pub model: Model,
    /// `[N,3,8,8]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`, the classes in turn.
    pub labels: Tensor,
    /// Not in order, so that they cannot be mistaken for positions.
    pub ids: Vec<u64>,
}

impl Examples {
    /// `count` examples and a network with instance norm, both of dtype `kind`.
    pub fn new(kind: Kind, count: i64) -> Self {
        Self::with_norm(NormLayer::Instance, kind, count)
    }

    /// The same with other normalisation layers.
    pub fn with_norm(norm: NormLayer, kind: Kind, count: i64) -> Self {
        let streams = Streams::new(11);
        let model = Model::fresh(&spec(norm), &streams, Device::Cpu).expect("the specification can be met");
        let images = streams.uniform("images", &[count, 3, 8, 8], kind).expect("a shape that libtorch takes");
        Self {
            model: model.copy(kind, true),
            images,
            labels: Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(4),
            ids: (0..count as u64).map(|position| 100 - 7 * position).collect(),
        }
    }

    /// The same with a network that needs no gradients, so that a penalty needs no graph.
    pub fn frozen(self) -> Self {
        Self { model: self.model.frozen(), ..self }
    }

    /// The batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch::pixels(&self.images, &self.labels, &self.ids)
    }
}

/// The bits of all values, and the dtype: two tensors are the same if and only if these are.
pub fn bits(tensor: &Tensor) -> (Kind, Vec<i64>, Vec<u64>) {
    let values = Vec::<f64>::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).expect("numbers");
    (tensor.kind(), tensor.size(), values.into_iter().map(f64::to_bits).collect())
}

/// The message of an error, which must be a single line.
pub fn one_line(error: &Error) -> &str {
    assert!(!error.message.contains('\n'), "more than a line: {}", error.message);
    &error.message
}
