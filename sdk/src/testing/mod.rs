//! A testing kit: what a method's `cargo test` needs, without a host.
//!
//! * [`SmallNetwork`], [`Examples`]: a network with real layers and images for it, so small that a test takes milliseconds;
//! * [`FakeHost`]: the host's services, with what methods report kept for the test to look at;
//! * [`SmallLab`], [`SyntheticSet`]: what an objective asks for, and the images that it is given;
//! * [`assert_gradient`], [`assert_second_derivatives`]: derivatives held against finite differences.
//!
//! ```no_run
//! # use guard_sdk::{*, testing::*};
//! # fn test<R: Regularizer>() -> Result<()> {
//! let host = FakeHost::new(1);
//! let mut method: R = host.make(serde_json::json!({}))?;
//! let examples = Examples::new([3, 8, 8], Kind::Double, 4)?.trainable();
//! let penalty = method.penalty(&host.step(), &examples.network(), &examples.batch())?;
//! assert!(penalty.requires_grad());
//! # Ok(())
//! # }
//! ```
//!
//! `guard-host plugin check` works with the same network and images, and tests much more.

mod derivatives;
mod examples;
mod host;
mod lab;
mod network;

pub use derivatives::{assert_gradient, assert_second_derivatives, gradient_error, second_derivative_error};
pub use examples::Examples;
pub use host::FakeHost;
pub use lab::{SmallLab, SyntheticSet};
pub use network::SmallNetwork;

use crate::{Result, abi::shim::RandomState};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, OnceLock},
};
use tch::{Device, Kind, Tensor};

static DEVICE: OnceLock<Device> = OnceLock::new();

/// Where the kit's tensors are: on the CPU unless [`compute_on`] said otherwise.
pub fn device() -> Device {
    *DEVICE.get_or_init(|| Device::Cpu)
}

/// Puts the kit's tensors on `device`. Holds for the whole process and counts once, before the first tensor is made; tells
/// whether it did.
pub fn compute_on(device: Device) -> bool {
    *DEVICE.get_or_init(|| device) == device
}

/// A number that depends on all parts of `path`.
fn number(path: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// libtorch's own generator is one for all tests of a process, which run side by side.
static DRAWS: Mutex<()> = Mutex::new(());

/// Standard normal numbers that depend on `seed` alone, drawn on the CPU; libtorch's own generator is left as it was.
fn normal(seed: u64, shape: &[i64]) -> Result<Tensor> {
    let _alone = DRAWS.lock();
    let _random = RandomState::seeded(Device::Cpu, seed)?;
    Ok(Tensor::f_randn(shape, (Kind::Double, Device::Cpu))?.f_to_device(device())?)
}

/// Uniform numbers on [0,1) that depend on `seed` alone.
fn uniform(seed: u64, shape: &[i64]) -> Result<Tensor> {
    let _alone = DRAWS.lock();
    let _random = RandomState::seeded(Device::Cpu, seed)?;
    Ok(Tensor::f_rand(shape, (Kind::Double, Device::Cpu))?.f_to_device(device())?)
}
