//! `guard.clean/0.1`: the pass over the lent batch as it is, which the methods of a step share.

use crate::{BatchView, NetworkView, Outcome, TensorHandle};
use abi_stable::{StableAbi, std_types::ROption};

/// What is asked of the pass.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct CleanRequest {
    /// 0: eval (running statistics); 1: train (batch statistics).
    pub mode: u8,
    /// 0: no gradients; 1: their values; 2: with a graph of their own.
    pub gradient: u8,
}

/// What came of the pass. Logits and losses keep their graph, which belongs to all methods of the step: nobody frees it.
#[repr(C)]
#[derive(StableAbi)]
pub struct CleanOutput {
    /// `[N,C,H,W]`, what went into the network, in the batch's space; requires gradients.
    pub images: TensorHandle,
    /// `[N,K]`.
    pub logits: TensorHandle,
    /// `[N]`, the cross-entropy of each example.
    pub losses: TensorHandle,
    /// `[N,C,H,W]`, the gradient of each example's loss to its image, if asked for.
    pub gradient: ROption<TensorHandle>,
}

/// Functions of the host; the first argument is [`HostView::data`](crate::HostView).
#[repr(C)]
#[derive(StableAbi)]
pub struct CleanTable {
    /// The pass, computed when a method of the step first asks for it.
    pub clean: extern "C" fn(
        data: *const (),
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
        request: &CleanRequest,
    ) -> Outcome<CleanOutput>,
}
