//! `guard.lab/0.1`: what the host prepares for an objective.

use crate::{BatchView, NetworkHandle, NetworkView, Outcome, TensorHandle};
use abi_stable::{StableAbi, std_types::RString, std_types::RVec};
use std::marker::PhantomData;

/// The lab, lent for a call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct LabView<'a> {
    /// Passed back as the first argument of every function of [`LabTable`].
    pub data: *const (),
    /// The lifetime of the loan.
    pub lent: PhantomData<&'a ()>,
}

/// Real examples that the receiver owns.
#[repr(C)]
#[derive(StableAbi)]
pub struct DrawnBatch {
    /// `[N,C,H,W]`, pixels in [0,1].
    pub images: TensorHandle,
    /// int64 `[N]`.
    pub labels: TensorHandle,
    /// Each example's position in the training split.
    pub ids: RVec<u64>,
}

/// Functions of the lab.
#[repr(C)]
#[derive(StableAbi)]
pub struct LabTable {
    /// JSON: classes, images per class, image shape, number of real examples per class.
    pub describe: extern "C" fn(data: *const ()) -> Outcome<RString>,
    /// The trained teacher, in eval mode.
    pub teacher: extern "C" fn(data: *const ()) -> Outcome<NetworkHandle>,
    /// A freshly initialised network; the same `draw` gives the same one.
    pub fresh: extern "C" fn(data: *const (), draw: u64) -> Outcome<NetworkHandle>,
    /// `count` real examples of a class (any class if negative), without repetition while there are enough.
    pub real: extern "C" fn(data: *const (), class: i64, count: u64, draw: u64) -> Outcome<DrawnBatch>,
    /// The recipe's training loss (cross-entropy and regularizers), with graph to the network's parameters.
    pub training_loss: extern "C" fn(
        data: *const (),
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
    ) -> Outcome<TensorHandle>,
    /// Number of expert trajectories and of the snapshots in each, as JSON.
    pub experts: extern "C" fn(data: *const ()) -> Outcome<RString>,
    /// The network at one snapshot of one expert trajectory.
    pub expert: extern "C" fn(data: *const (), trajectory: u64, snapshot: u64) -> Outcome<NetworkHandle>,
}
