//! `guard.networks/0.1`: further networks of the run, beside the one that a call is about.

use crate::{NetworkHandle, Outcome};
use abi_stable::{StableAbi, std_types::RStr};

/// Functions of the host; the first argument is [`HostView::data`](crate::HostView).
#[repr(C)]
#[derive(StableAbi)]
pub struct NetworksTable {
    /// A copy of the run's network with this name, in eval mode; its parameters need no gradients.
    pub network: extern "C" fn(data: *const (), name: RStr<'_>) -> Outcome<NetworkHandle>,
}
