//! The host as a plugin sees it during a call.

use crate::Interface;
use abi_stable::{
    StableAbi,
    std_types::{ROption, RStr},
};
use std::marker::PhantomData;

/// The host, lent for a call. Its services are asked for by id, like a plugin's interfaces.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct HostView<'a> {
    /// Passed back as the first argument of every function of [`ServicesTable`](crate::ServicesTable).
    pub data: *const (),
    /// The host interface with this id, if the host offers it.
    pub interface: extern "C" fn(id: RStr<'_>) -> ROption<Interface>,
    /// The lifetime of the loan.
    pub lent: PhantomData<&'a ()>,
}

/// Where the run stands.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct StepView<'a> {
    /// `plan`, `train`, `distill`, `relabel`, `student` or `evaluate`.
    pub stage: RStr<'a>,
    /// The current iteration, from 0.
    pub iteration: u64,
    /// How many iterations the stage has; 0 where that is not known.
    pub iterations: u64,
    /// The host.
    pub host: HostView<'a>,
}
