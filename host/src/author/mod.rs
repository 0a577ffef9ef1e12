//! What an author of plugins is given: a crate to start from, and this host's SDK and libtorch to build it with.
//!
//! The SDK is not published; its sources are in this binary, so that an installed host needs no checkout.

mod crate_name;
mod reference;
mod sdk;
mod template;
mod torch;

pub use reference::reference;
pub use sdk::lay_down;
pub use template::{MethodKind, write};

use guard_sdk::{Error, Result};
use std::{fs, path::Path};

/// Writes a file and the folders it lies in.
fn put(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let refused = |error: std::io::Error| {
        Error::with_code("file", format!("`{}` cannot be written: {error}", path.display()))
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(refused)?;
    }
    fs::write(path, bytes).map_err(refused)
}
