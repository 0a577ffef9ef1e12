//! `guard.services/0.1`: what the host does for any method.

use crate::{BatchView, BudgetView, NetworkView, Outcome, StepView, TensorHandle, TensorView};
use abi_stable::{
    StableAbi,
    std_types::{RSlice, RStr},
};

/// Random numbers, one row per example.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct RandomRequest<'a> {
    /// Names the use, e.g. `start`; the host adds run seed, stage, method and iteration.
    pub stream: RStr<'a>,
    /// Tells repeated draws of one call from each other.
    pub draw: u64,
    /// One id per row; a row depends on its id alone.
    pub ids: RSlice<'a, u64>,
    /// The shape of one row.
    pub shape: RSlice<'a, i64>,
    /// 0: uniform on [0,1); 1: standard normal.
    pub distribution: u8,
    /// libtorch's `ScalarType` of the result.
    pub kind: i32,
}

/// Functions of the host; the first argument is [`HostView::data`](crate::HostView).
#[repr(C)]
#[derive(StableAbi)]
pub struct ServicesTable {
    /// Writes a line to the run's log: level 0 error, 1 warning, 2 information, 3 detail.
    pub log: extern "C" fn(data: *const (), level: u8, message: RStr<'_>),
    /// Records a scalar tensor under a name. The host reads the value when it writes the log, not now.
    pub metric: extern "C" fn(data: *const (), name: RStr<'_>, value: TensorView<'_>) -> Outcome<()>,
    /// True once the user asked the run to stop.
    pub cancelled: extern "C" fn(data: *const ()) -> bool,
    /// Fraction of the call's work done, for calls that take long.
    pub progress: extern "C" fn(data: *const (), fraction: f64),
    /// The device that the run uses: -1 for the CPU, else the CUDA index.
    pub device: extern "C" fn(data: *const ()) -> i32,
    /// Draws a tensor `[ids.len(), shape...]` on the run's device.
    pub random: extern "C" fn(data: *const (), request: &RandomRequest<'_>) -> Outcome<TensorHandle>,
    /// Makes an attack of any loaded plugin: name as in the recipe's `use`, options as JSON. Returns a key.
    pub attack: extern "C" fn(data: *const (), name: RStr<'_>, options: RStr<'_>) -> Outcome<u64>,
    /// Makes a regularizer of any loaded plugin. Returns a key.
    pub regularizer: extern "C" fn(data: *const (), name: RStr<'_>, options: RStr<'_>) -> Outcome<u64>,
    /// Runs the attack behind a key.
    pub perturb: extern "C" fn(
        data: *const (),
        key: u64,
        step: &StepView<'_>,
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
        budget: &BudgetView,
    ) -> Outcome<TensorHandle>,
    /// Runs the regularizer behind a key.
    pub penalty: extern "C" fn(
        data: *const (),
        key: u64,
        step: &StepView<'_>,
        network: NetworkView<'_>,
        batch: &BatchView<'_>,
    ) -> Outcome<TensorHandle>,
}
