//! Plugins: found, looked at, loaded, and called under guard.

mod call;
mod file;
mod kept;
mod loaded;
mod lock;
mod networks;
mod registry;
mod schema;
mod services;
mod shared;
mod signatures;
mod trust;
mod verify;

pub use call::{Context, Hosted, Recorder, Silent};
pub use file::inspect;
pub(crate) use file::refused;
pub use guard_front::{Inspection, Locator, library_name};
pub use loaded::Loaded;
pub use lock::{Lock, Locked};
pub use networks::{NetworkSource, NoNetworks, unknown_network};
pub use registry::{Plugins, plain_name};
pub use schema::resolved;
pub use shared::{SharedPasses, Sharing};
pub use signatures::TrustedKeys;
pub use verify::{limit, verify};
