//! Write distillation objectives, regularizers and attacks for guard-host, in safe Rust.
//!
//! A plugin is a `cdylib` whose root calls [`plugin!`]. It implements one or more of
//!
//! * [`Regularizer`]: a penalty added to a loss, with second derivatives where it needs them ([`autograd::grad`]),
//! * [`Attack`]: a search for adversarial images within a [`Budget`],
//! * [`Objective`]: what makes synthetic data good,
//!
//! each of which is also a [`Method`] with a name and options. The host lends a [`Network`], a [`Batch`] and a [`Step`];
//! tensors are libtorch's own and never copied, and the autograd graph crosses in both directions, on CPU and CUDA.
//!
//! What holds for every call:
//!
//! * Errors are returned ([`Error`]); a panic is caught, reported with plugin, method and message, and ends the instance.
//! * What is lent is not changed: not in place, not the running statistics, not libtorch's global state. Randomness comes
//!   from [`Step`] and never from `tch::manual_seed`, which belongs to the whole process.
//! * One call at a time, on the thread that called.
//!
//! A plugin has the user's full rights; the boundary protects against mistakes, not against malice.

/// The author's guide: its code is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod guide {}

#[doc(hidden)]
pub mod abi;
pub mod attack;
pub mod augment;
pub mod autograd;
pub mod batch;
pub mod budget;
pub mod clean;
mod error;
pub mod lab;
pub mod method;
pub mod network;
pub mod objective;
pub mod regularizer;
mod selection;
mod sent;
pub mod services;
pub mod testing;
pub mod threat;

pub use abi::export;
pub use attack::{Attack, AttackInfo, Guarantee};
pub use batch::{Batch, Space};
pub use budget::{Budget, Norm};
pub use clean::{Clean, CleanRequest, InputGradient};
pub use error::{Error, Result};
pub use guard_manifest as manifest;
pub use lab::Lab;
pub use manifest::TORCH_VERSION;
pub use method::{Method, State};
pub use network::{Mode, Network, NetworkInfo, Output, OwnedNetwork, Pass, Statistics, StatisticsFrom};
pub use objective::{Initial, Needs, Objective, Synthetic, Value};
pub use regularizer::Regularizer;
pub use selection::{ByClass, Selection};
pub use sent::sent;
pub use services::{Level, Services, Step};
pub use tch::{Device, IndexOp, Kind, Tensor};
pub use threat::Threat;
