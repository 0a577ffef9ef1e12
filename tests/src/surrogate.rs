//! A network that methods can ask for by name.

use crate::fixtures::spec;
use guard_host::{
    network::{Model, NormLayer},
    plugin::{NetworkSource, unknown_network},
    random::Streams,
};
use guard_sdk::{
    Device, Kind, NetworkInfo, Output, OwnedNetwork, Pass, Result, Tensor,
    network::{NetworkBackend, Tensors},
};
use std::any::Any;

/// Has the network `other`: of the architecture of [`spec`], with other weights than those of the examples, for images of
/// either dtype.
pub struct Other;

impl Other {
    /// The network itself.
    pub fn model(kind: Kind) -> Model {
        let streams = Streams::new(23);
        let fresh = Model::fresh(&spec(NormLayer::Instance), &streams, Device::Cpu);
        fresh.expect("the specification can be met").copy(kind, false)
    }
}

impl NetworkSource for Other {
    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        match name {
            "other" => Ok(OwnedNetwork::new(EitherKind {
                float: Self::model(Kind::Float),
                double: Self::model(Kind::Double),
            })),
            _ => Err(unknown_network(name, &["other"])),
        }
    }
}

struct EitherKind {
    float: Model,
    double: Model,
}

impl NetworkBackend for EitherKind {
    fn info(&self) -> &NetworkInfo {
        self.float.info()
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        match images.kind() {
            Kind::Double => self.double.pass(images, pass),
            _ => self.float.pass(images, pass),
        }
    }

    fn tensors(&self) -> Result<Tensors> {
        self.float.tensors()
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        self.float.rebind(parameters)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
