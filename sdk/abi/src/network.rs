//! `guard.network/0.1`: a network as a function of (parameters, buffers, input).

use crate::{NamedHandle, Outcome, TensorHandle, TensorView};
use abi_stable::{
    StableAbi,
    std_types::{ROption, RSlice, RString, RVec},
};
use std::marker::PhantomData;

/// A network lent for a call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct NetworkView<'a> {
    /// Passed back as the first argument of every function of [`NetworkTable`].
    pub data: *const (),
    /// The lifetime of the loan.
    pub lent: PhantomData<&'a ()>,
}

/// A network that the receiver owns, to be released with [`NetworkTable::release`].
#[repr(C)]
#[derive(StableAbi)]
pub struct NetworkHandle {
    /// Passed back as the first argument of every function of [`NetworkTable`].
    pub data: *const (),
}

/// One forward pass.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct PassRequest<'a> {
    /// `[N,C,H,W]`.
    pub input: TensorView<'a>,
    /// 0: pixels in [0,1]; 1: behind the network's normalisation.
    pub space: u8,
    /// 0: eval (running statistics); 1: train (batch statistics).
    pub mode: u8,
    /// Bit 0: embedding; bit 1: statistics of the inputs of BatchNorm layers; bit 2: features of each stage.
    pub wants: u32,
}

/// What a pass returns; only what was asked for is filled in.
#[repr(C)]
#[derive(StableAbi)]
pub struct PassOutput {
    /// `[N,K]`.
    pub logits: TensorHandle,
    /// `[N,E]`, the input of the last linear layer.
    pub embedding: ROption<TensorHandle>,
    /// One entry per BatchNorm layer, in order of the forward pass.
    pub statistics: RVec<Statistics>,
    /// One entry per stage, in order of the forward pass.
    pub features: RVec<NamedHandle>,
}

/// Statistics at the input of one BatchNorm layer, each `[C]`.
#[repr(C)]
#[derive(StableAbi)]
pub struct Statistics {
    /// The layer's name, e.g. `layer1.0.bn1`.
    pub layer: RString,
    /// Mean over batch and positions.
    pub mean: TensorHandle,
    /// Biased variance over batch and positions.
    pub variance: TensorHandle,
    /// The layer's running mean.
    pub running_mean: TensorHandle,
    /// The layer's running variance.
    pub running_variance: TensorHandle,
}

/// All tensors of a network.
#[repr(C)]
#[derive(StableAbi)]
pub struct NetworkTensors {
    /// What is trained, in the order of the architecture.
    pub parameters: RVec<NamedHandle>,
    /// Running statistics.
    pub buffers: RVec<NamedHandle>,
}

/// Functions on networks.
#[repr(C)]
#[derive(StableAbi)]
pub struct NetworkTable {
    /// JSON: architecture, classes, input shape, mean, std, names of the BatchNorm layers.
    pub describe: extern "C" fn(data: *const ()) -> Outcome<RString>,
    /// One forward pass. A lent network's buffers never change; an owned one's do in train mode.
    pub pass: extern "C" fn(data: *const (), request: &PassRequest<'_>) -> Outcome<PassOutput>,
    /// The network's tensors themselves, not copies.
    pub tensors: extern "C" fn(data: *const ()) -> Outcome<NetworkTensors>,
    /// The same architecture with these parameters, in the order of `tensors`, which keep their graph; buffers are copied.
    pub rebind:
        extern "C" fn(data: *const (), parameters: RSlice<'_, TensorView<'_>>) -> Outcome<NetworkHandle>,
    /// Frees an owned network.
    pub release: extern "C" fn(data: *const ()),
}
