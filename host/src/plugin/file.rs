//! A look at a library file before any of its code runs.

use guard_front::{Inspection, Refusal};
use guard_sdk::{Error, Result, TORCH_VERSION, abi::library::wrong_torch};
use std::path::Path;

/// Reads the manifest of the library at `path` without loading it. Messages continue the sentence "plugin `path` ...".
///
/// # Errors
/// If the file is not a whole shared library with a manifest that this host can read.
pub fn inspect(path: &Path) -> Result<Inspection> {
    guard_front::inspect(path).map_err(refused)
}

/// The same as an error of the host.
pub(crate) fn refused(Refusal { code, message, help }: Refusal) -> Error {
    let error = Error::with_code(code, message);
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

/// An error if loading the library is known to be wrong.
///
/// # Errors
/// If it is for another libtorch, or its panics would end the host.
pub(super) fn check(inspection: &Inspection) -> Result<()> {
    if inspection.manifest.torch != TORCH_VERSION {
        return Err(wrong_torch(&inspection.manifest.torch));
    }
    if inspection.manifest.panic != "unwind" {
        return Err(Error::with_code(
            "manifest",
            "was built with `panic = \"abort\"`, so that its first panic would end the run",
        )
        .help("build it with `panic = \"unwind\"`"));
    }
    Ok(())
}
