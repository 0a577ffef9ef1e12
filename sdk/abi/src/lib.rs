//! The types that cross between guard-host and a plugin, and nothing else.
//!
//! Rule of this crate: **what has an id never changes.** The root ([`Root`]) and every table of functions that a
//! published id names ([`ids`]) are frozen; abi_stable compares layouts field by field, and a grown type would refuse
//! every older plugin. A new need is a new table under a new id, and both sides offer the old one as well. Until
//! product version 1.0 ids are drafts (`/0.1`, `/0.2`, ...), with a new number at every edit.
//!
//! Plugin authors never see this crate: `guard-sdk` wraps it in safe traits. Meaning, shapes and units are documented
//! there; here stands who owns what, and how long a pointer lives.
//!
//! * A *view* is lent for the duration of the call it is passed to; the callee neither keeps nor frees it.
//! * A *handle* hands over one reference; whoever holds it releases it.
//! * `data` pointers are opaque to the side that did not make them.
//! * No function unwinds: each side catches its own panics and C++ exceptions and returns a [`Failure`].
//! * One call at a time per instance; callbacks into the host only on the calling thread, during the call.

mod attack;
mod clean;
mod failure;
mod host;
mod lab;
mod method;
mod network;
mod networks;
mod numbers;
mod objective;
mod regularizer;
mod root;
mod services;
mod tensor;

pub use attack::{AttackTable, BudgetView};
pub use clean::{CleanOutput, CleanRequest, CleanTable};
pub use failure::{Failure, Outcome};
pub use host::{HostView, StepView};
pub use lab::{DrawnBatch, LabTable, LabView};
pub use method::{Instance, MethodTable, State};
pub use network::{
    NetworkHandle, NetworkTable, NetworkTensors, NetworkView, PassOutput, PassRequest, Statistics,
};
pub use networks::NetworksTable;
pub use numbers::NumbersTable;
pub use objective::{Initial, ObjectiveTable, ObjectiveValue, SyntheticView};
pub use regularizer::{BatchView, RegularizerTable};
pub use root::{Fingerprint, Interface, LayoutMismatch, Root, RootRef};
pub use services::{RandomRequest, ServicesTable};
pub use tensor::{NamedHandle, NamedView, TensorHandle, TensorView};

/// The ids of the interfaces, each the name of one frozen table.
pub mod ids {
    /// [`RegularizerTable`](crate::RegularizerTable), offered by plugins.
    pub const REGULARIZER: &str = "guard.regularizer/0.1";
    /// [`AttackTable`](crate::AttackTable), offered by plugins.
    pub const ATTACK: &str = "guard.attack/0.1";
    /// [`ObjectiveTable`](crate::ObjectiveTable), offered by plugins.
    pub const OBJECTIVE: &str = "guard.objective/0.1";
    /// [`NetworkTable`](crate::NetworkTable), offered by the host.
    pub const NETWORK: &str = "guard.network/0.1";
    /// [`ServicesTable`](crate::ServicesTable), offered by the host.
    pub const SERVICES: &str = "guard.services/0.1";
    /// [`LabTable`](crate::LabTable), offered by the host.
    pub const LAB: &str = "guard.lab/0.1";
    /// [`NetworksTable`](crate::NetworksTable), offered by the host.
    pub const NETWORKS: &str = "guard.networks/0.1";
    /// [`CleanTable`](crate::CleanTable), offered by the host.
    pub const CLEAN: &str = "guard.clean/0.1";
    /// [`NumbersTable`](crate::NumbersTable), offered by the host.
    pub const NUMBERS: &str = "guard.numbers/0.1";
}

/// The section of the library file that holds the manifest (UTF-8 JSON), readable without loading the library.
pub const MANIFEST_SECTION: &str = ".guard_manifest";

/// The layout of the manifest itself.
pub const MANIFEST_FORMAT: &str = "guard-manifest/1";
