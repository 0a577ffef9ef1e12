//! `guard.numbers/0.1`: random numbers where they are decided with, on the CPU.

use crate::{Outcome, RandomRequest};
use abi_stable::{StableAbi, std_types::RVec};

/// Functions of the host; the first argument is [`HostView::data`](crate::HostView).
#[repr(C)]
#[derive(StableAbi)]
pub struct NumbersTable {
    /// The numbers that [`ServicesTable::random`](crate::ServicesTable) would put into a tensor, in row-major order. They do not
    /// pass through the run's device, which nobody waits for.
    pub numbers: extern "C" fn(data: *const (), request: &RandomRequest<'_>) -> Outcome<RVec<f64>>,
}
