//! Host side: a plugin's library file as tables. Libraries are never unloaded.

use super::{calls::*, shim};
use crate::{Error, Result, Services, TORCH_VERSION, manifest::Kind};
use abi_stable::{
    library::{LibraryError, lib_header_from_path},
    std_types::RStr,
};
use guard_abi::{
    AttackTable, Fingerprint, Interface, LayoutMismatch, ObjectiveTable, RegularizerTable, RootRef,
};
use std::path::Path;

/// A loaded library whose root has the right layout and that shares this process's libtorch.
pub struct Library {
    root: RootRef,
}

impl Library {
    /// Loads the library at `path` and compares layouts and fingerprints. The caller has looked at the file first: a
    /// damaged one ends the process inside the loader.
    ///
    /// # Errors
    /// If the loader, the layout of the root, or the fingerprint refuses. Long explanations are in `causes`.
    pub fn open(path: &Path) -> Result<Self> {
        // abi_stable caches one root module per type; asking each header itself keeps several plugins apart.
        let root = lib_header_from_path(path)
            .and_then(|header| header.init_root_module::<RootRef>())
            .map_err(explain)?;
        check_fingerprint((root.fingerprint())())?;
        Ok(Self { root })
    }

    /// Regularizers, through this host's interface.
    ///
    /// # Errors
    /// If the library does not offer it, or offers something else under its id.
    pub fn regularizers(&self) -> Result<&'static RegularizerTable> {
        self.table(Kind::Regularizer, Interface::table::<RegularizerTable>)
    }

    /// Attacks, through this host's interface.
    ///
    /// # Errors
    /// If the library does not offer it, or offers something else under its id.
    pub fn attacks(&self) -> Result<&'static AttackTable> {
        self.table(Kind::Attack, Interface::table::<AttackTable>)
    }

    /// Objectives, through this host's interface.
    ///
    /// # Errors
    /// If the library does not offer it, or offers something else under its id.
    pub fn objectives(&self) -> Result<&'static ObjectiveTable> {
        self.table(Kind::Objective, Interface::table::<ObjectiveTable>)
    }

    /// The JSON Schema of a method's options.
    ///
    /// # Errors
    /// If there is no such method.
    pub fn schema(&self, kind: Kind, name: &str) -> Result<serde_json::Value> {
        match kind {
            Kind::Regularizer => RegularizerInstance::schema(self.regularizers()?, name),
            Kind::Attack => AttackInstance::schema(self.attacks()?, name),
            Kind::Objective => ObjectiveInstance::schema(self.objectives()?, name),
        }
    }

    /// Makes a regularizer.
    ///
    /// # Errors
    /// If there is none of that name, or it refuses the options.
    pub fn regularizer(
        &self,
        services: &Services,
        name: &str,
        options: &serde_json::Value,
    ) -> Result<RegularizerInstance> {
        RegularizerInstance::create(self.regularizers()?, services, name, options)
    }

    /// Makes an attack.
    ///
    /// # Errors
    /// If there is none of that name, or it refuses the options.
    pub fn attack(
        &self,
        services: &Services,
        name: &str,
        options: &serde_json::Value,
    ) -> Result<AttackInstance> {
        AttackInstance::create(self.attacks()?, services, name, options)
    }

    /// Makes an objective.
    ///
    /// # Errors
    /// If there is none of that name, or it refuses the options.
    pub fn objective(
        &self,
        services: &Services,
        name: &str,
        options: &serde_json::Value,
    ) -> Result<ObjectiveInstance> {
        ObjectiveInstance::create(self.objectives()?, services, name, options)
    }

    /// Whether the library answers for the interface with this id.
    pub fn offers(&self, id: &str) -> bool {
        (self.root.interface())(RStr::from(id)).is_some()
    }

    fn table<T>(
        &self,
        kind: Kind,
        check: fn(&Interface) -> Result<&'static T, LayoutMismatch>,
    ) -> Result<&'static T> {
        let id = kind.interface();
        let interface = (self.root.interface())(RStr::from(id))
            .into_option()
            .ok_or_else(|| Error::with_code("interface", format!("does not offer `{id}`")))?;
        check(&interface).map_err(|mismatch| {
            Error::with_code("interface", format!("has another `{id}` than this host"))
                .help("rebuild it against this host's SDK")
                .cause(mismatch.details)
        })
    }
}

fn check_fingerprint(theirs: Fingerprint) -> Result<()> {
    if theirs.torch.as_str() != TORCH_VERSION {
        return Err(wrong_torch(theirs.torch.as_str()));
    }
    if !theirs.cxx11_abi {
        return Err(Error::with_code(
            "interface",
            "was compiled with the old C++ ABI, this host with the new one",
        )
        .help("rebuild it with _GLIBCXX_USE_CXX11_ABI=1"));
    }
    if theirs.symbol != shim::symbol() {
        return Err(Error::with_code("interface", "brought a second libtorch into the process")
            .help("link it against libtorch's shared libraries, not a static one, and start the host with one LIBTORCH"));
    }
    Ok(())
}

/// For a plugin of another libtorch. As everywhere here, the message continues the sentence "plugin `file` ...".
pub fn wrong_torch(theirs: &str) -> Error {
    Error::with_code(
        "torch-version",
        format!("was built for libtorch {theirs}, this host runs {TORCH_VERSION}"),
    )
    .help(format!("rebuild it against libtorch {TORCH_VERSION}"))
}

/// abi_stable's errors in a sentence, its pages of detail as a cause.
fn explain(error: LibraryError) -> Error {
    let details = error.to_string();
    let rebuild = "rebuild it against this host's SDK";
    match error {
        LibraryError::OpenError { err, .. } => {
            Error::with_code("load", "is refused by the system's loader").cause(innermost(err.as_ref()))
        }
        LibraryError::GetSymbolError { .. } => {
            Error::with_code("interface", "exports no plugin root").cause(details)
        }
        LibraryError::InvalidAbiHeader(_) => {
            Error::with_code("interface", "was built with another abi_stable than this host")
                .help(rebuild)
                .cause(details)
        }
        LibraryError::IncompatibleVersionNumber { .. } => {
            Error::with_code("interface", "was built for a later boundary than this host's")
                .help("use a newer guard-host")
                .cause(details)
        }
        LibraryError::AbiInstability(_) => {
            Error::with_code("interface", "has another root module than this host")
                .help(rebuild)
                .cause(details)
        }
        _ => Error::with_code("interface", "has a root module that cannot be made").cause(details),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
