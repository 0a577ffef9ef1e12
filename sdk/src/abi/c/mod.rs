//! Host side: plugins in C, or in C++ with libtorch, through `include/guard_plugin.h`.
//!
//! | file | what |
//! |---|---|
//! | `tables` | the header's types |
//! | `text` | its texts and errors |
//! | `host`, `network`, `options`, `state` | the host's objects as its functions |
//! | `shield` | what each of these does with arguments, results and panics |
//! | `methods` | a plugin's functions as the safe traits |

mod host;
mod methods;
mod network;
mod options;
mod shield;
mod state;
pub mod tables;
mod text;

pub use methods::{CAttack, CRegularizer, Plugin, no_objectives};

use self::text::owned;
use super::{library::check_fingerprint, shim};
use crate::{Error, Result};
use std::{ffi::CString, mem, os::unix::ffi::OsStrExt, path::Path};

/// The id of the interface, as manifests name it.
pub const C_INTERFACE: &str = "guard.c/0.1";

/// The function that a plugin exports.
const EXPORT: &[u8] = b"guard_plugin_0_1";

/// Loads the library at `path`, which is never unloaded, and compares fingerprints. The caller has looked at the file first.
///
/// # Errors
/// If the loader or the fingerprint refuses, or the library exports no plugin.
pub fn open(path: &Path) -> Result<Plugin> {
    let refused = |why: String| Error::with_code("load", "is refused by the system's loader").cause(why);
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| refused(error.to_string()))?;
    // First where exceptions are caught.
    shim::load(&name).map_err(|error| refused(error.message))?;
    // SAFETY: it is loaded already.
    let library = unsafe { libloading::Library::new(path) };
    let library = library.map_err(|error| refused(super::library::innermost(&error)))?;
    // SAFETY: what is exported under this name has the header's type.
    let export = unsafe { library.get::<extern "C" fn() -> *const tables::Plugin>(EXPORT) };
    let export = *export.map_err(|error| {
        let name = String::from_utf8_lossy(EXPORT);
        Error::with_code("interface", format!("does not export `{name}`")).cause(error)
    })?;
    mem::forget(library);
    // SAFETY: a plugin's table is static, or null if it cannot be made.
    let table = unsafe { export().as_ref() };
    let table = table.ok_or_else(|| Error::with_code("interface", "has no table of functions"))?;
    if table.size < size_of::<tables::Plugin>() {
        let (found, expected) = (table.size, size_of::<tables::Plugin>());
        let message = format!("has a table of {found} bytes for `{C_INTERFACE}`, which has {expected}");
        return Err(Error::with_code("interface", message).help("rebuild it with this host's header"));
    }
    // SAFETY: a text of the plugin's, as the header says.
    let torch = unsafe { owned(table.torch_version) }.unwrap_or_default();
    check_fingerprint(&torch, table.cxx11_abi != 0, table.torch_symbol.addr() == shim::symbol())?;
    Plugin::of(table)
}
