//! A plugin's library in this process.

use super::{
    file::{check, inspect},
    trust::only_trusted,
};
use guard_front::Inspection;
use guard_sdk::{
    Error, Result,
    abi::library::Library,
    manifest::{Kind, Manifest},
};
use std::path::{Path, PathBuf};

/// A loaded plugin.
pub struct Loaded {
    /// Where its file is.
    pub path: PathBuf,
    /// The file's BLAKE3 sum, in hexadecimal.
    pub blake3: String,
    /// What it says of itself.
    pub manifest: Manifest,
    pub(super) library: Library,
}

impl Loaded {
    /// Looks at the file, then loads it.
    ///
    /// # Errors
    /// If it is no plugin, or not one for this host. The message is a sentence that names the file.
    pub fn open(path: &Path) -> Result<Self> {
        let named = |error: Error| prefixed(error, path);
        let inspection = Self::inspect(path)?;
        check(&inspection).map_err(named)?;
        only_trusted(path).map_err(named)?;
        let library = Library::open(path, &inspection.manifest).map_err(named)?;
        Ok(Self {
            path: path.to_path_buf(),
            blake3: inspection.blake3,
            manifest: inspection.manifest,
            library,
        })
    }

    /// Looks at the file without loading it.
    ///
    /// # Errors
    /// If it is no plugin. The message is a sentence that names the file.
    pub fn inspect(path: &Path) -> Result<Inspection> {
        inspect(path).map_err(|error| prefixed(error, path))
    }

    /// Whether the library answers for the interface with this id.
    pub fn answers(&self, id: &str) -> bool {
        self.library.offers(id)
    }

    /// Whether it says that it has a method.
    pub(super) fn offers(&self, kind: Kind, name: &str) -> bool {
        self.manifest.methods.iter().any(|method| method.kind == kind && method.name == name)
    }

    /// The JSON Schema of a method's options.
    ///
    /// # Errors
    /// If the plugin does not offer the method through an interface of this host.
    pub fn schema(&self, kind: Kind, name: &str) -> Result<serde_json::Value> {
        self.library.schema(kind, name).map_err(|error| prefixed(error, &self.path))
    }
}

/// The file before a message that continues the sentence, all on one line: "plugin `file` was built for libtorch 2.10.0,
/// this host runs 2.11.0; rebuild it against libtorch 2.11.0".
pub(super) fn prefixed(mut error: Error, path: &Path) -> Error {
    error.message = format!("plugin `{}` {}", path.display(), error.message);
    error.causes.retain(|cause| match cause.contains('\n') {
        true => true,
        false => {
            error.message = format!("{}: {cause}", error.message);
            false
        }
    });
    if let Some(help) = error.help.take() {
        error.message = format!("{}; {help}", error.message);
    }
    error
}
