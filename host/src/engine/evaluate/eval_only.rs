//! A network that is lent to attacks: it runs in eval mode and in no other.

use crate::network::Model;
use guard_sdk::{
    Error, Mode, NetworkInfo, Output, Pass, Result, Tensor,
    network::{NetworkBackend, Tensors},
};
use std::any::Any;

/// A network that refuses to run in train mode.
pub struct EvalOnly {
    network: Box<dyn NetworkBackend>,
    /// The same, prepared for passes that return logits or the embedding.
    prepared: Option<Model>,
}

impl EvalOnly {
    /// Takes a network whose parameters need no gradients.
    pub fn new(network: impl NetworkBackend + 'static) -> Self {
        Self { network: Box::new(network), prepared: None }
    }

    /// Of the host's own, which is prepared for speed.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn of(model: &Model) -> Result<Self> {
        Ok(Self { network: Box::new(model.frozen()), prepared: Some(model.for_inference()?) })
    }
}

impl NetworkBackend for EvalOnly {
    fn info(&self) -> &NetworkInfo {
        self.network.info()
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        if pass.mode == Mode::Train {
            return Err(Error::with_code("attack-invalid", "ran the network in train mode")
                .help("attacks see the network in eval mode"));
        }
        match &self.prepared {
            Some(prepared) if !pass.statistics && !pass.features => prepared.pass(images, pass),
            _ => self.network.pass(images, pass),
        }
    }

    fn tensors(&self) -> Result<Tensors> {
        self.network.tensors()
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        self.network.rebind(parameters)
    }

    fn as_any(&self) -> &dyn Any {
        self.network.as_any()
    }
}
