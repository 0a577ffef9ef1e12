//! A network that is lent to attacks: it runs in eval mode and in no other.

use guard_sdk::{
    Error, Mode, NetworkInfo, Output, Pass, Result, Tensor,
    network::{NetworkBackend, Tensors},
};
use std::any::Any;

/// A network that refuses to run in train mode.
pub struct EvalOnly(Box<dyn NetworkBackend>);

impl EvalOnly {
    /// Takes a network whose parameters need no gradients.
    pub fn new(network: impl NetworkBackend + 'static) -> Self {
        Self(Box::new(network))
    }
}

impl NetworkBackend for EvalOnly {
    fn info(&self) -> &NetworkInfo {
        self.0.info()
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        if pass.mode == Mode::Train {
            return Err(Error::with_code("attack-invalid", "ran the network in train mode")
                .help("attacks see the network in eval mode"));
        }
        self.0.pass(images, pass)
    }

    fn tensors(&self) -> Result<Tensors> {
        self.0.tensors()
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        self.0.rebind(parameters)
    }

    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }
}
