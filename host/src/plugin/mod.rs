//! Plugins: found, looked at, loaded, and called under guard.

mod call;
mod file;
mod locate;
mod registry;
mod services;
mod shared;
mod verify;

pub use call::{Context, Hosted, Recorder, Silent};
pub use file::{Inspection, inspect};
pub use locate::{Locator, library_name};
pub use registry::{Loaded, Plugins};
pub use shared::{SharedPasses, Sharing};
pub use verify::{limit, verify};
