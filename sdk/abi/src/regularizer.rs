//! `guard.regularizer/0.1`.

use crate::{Instance, MethodTable, NetworkView, Outcome, StepView, TensorHandle, TensorView};
use abi_stable::{
    StableAbi,
    std_types::{ROption, RSlice},
};

/// Labelled examples lent for a call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct BatchView<'a> {
    /// `[N,C,H,W]`.
    pub images: TensorView<'a>,
    /// int64 `[N]`.
    pub labels: TensorView<'a>,
    /// Class probabilities `[N,K]`, where the examples have soft labels.
    pub soft_labels: ROption<TensorView<'a>>,
    /// One id per example, stable over the run.
    pub ids: RSlice<'a, u64>,
    /// 0: pixels in [0,1]; 1: behind the network's normalisation.
    pub space: u8,
}

/// Functions of regularizers.
#[repr(C)]
#[derive(StableAbi)]
pub struct RegularizerTable {
    /// What all methods have.
    pub method: MethodTable,
    /// The penalty, a scalar with graph.
    pub penalty: extern "C" fn(
        instance: Instance,
        step: &StepView<'_>,
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
    ) -> Outcome<TensorHandle>,
}
