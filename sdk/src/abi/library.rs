//! Host side: a plugin's library file as tables. Libraries are never unloaded.

use super::{c, calls::*, shim};
use crate::{
    Error, Result, Services, TORCH_VERSION,
    manifest::{Kind, Manifest, MethodEntry},
};
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
    offers: Offers,
}

/// Through which interface a library offers its methods.
enum Offers {
    /// abi_stable's.
    Tables(RootRef),
    /// C's.
    C(c::Plugin),
}

impl Library {
    /// Loads the library at `path`, which says `manifest` of itself, and compares layouts and fingerprints. The caller has looked
    /// at the file first: a damaged one ends the process inside the loader.
    ///
    /// # Errors
    /// If the loader, the layout of the root, or the fingerprint refuses. Long explanations are in `causes`.
    pub fn open(path: &Path, manifest: &Manifest) -> Result<Self> {
        let of_c = |method: &&MethodEntry| method.interface.starts_with("guard.c/");
        if let Some(method) = manifest.methods.iter().find(of_c) {
            if method.interface != c::C_INTERFACE {
                let (name, id) = (&method.name, &method.interface);
                let message = format!("offers `{name}` through `{id}`, which this host does not know");
                return Err(Error::with_code("interface", message).help("use a newer guard-host"));
            }
            return Ok(Self { offers: Offers::C(c::open(path)?) });
        }
        // abi_stable caches one root module per type; asking each header itself keeps several plugins apart.
        let root = lib_header_from_path(path)
            .and_then(|header| header.init_root_module::<RootRef>())
            .map_err(explain)?;
        let Fingerprint { torch, cxx11_abi, symbol } = (root.fingerprint())();
        check_fingerprint(torch.as_str(), cxx11_abi, symbol == shim::symbol())?;
        Ok(Self { offers: Offers::Tables(root) })
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
    /// If there is no such method, or the library does not offer its kind through this host's interface.
    pub fn schema(&self, kind: Kind, name: &str) -> Result<serde_json::Value> {
        match (&self.offers, kind) {
            (Offers::C(plugin), kind) => plugin.schema(kind, name),
            (Offers::Tables(_), Kind::Regularizer) => RegularizerInstance::schema(self.regularizers()?, name),
            (Offers::Tables(_), Kind::Attack) => AttackInstance::schema(self.attacks()?, name),
            (Offers::Tables(_), Kind::Objective) => ObjectiveInstance::schema(self.objectives()?, name),
        }
    }

    /// Whether it was the plugin's part to hold options against the schema; if not, the host's.
    pub fn checks_options(&self) -> bool {
        matches!(self.offers, Offers::Tables(_))
    }

    /// Makes a regularizer.
    ///
    /// # Errors
    /// As [`Library::schema`]; or if the method refuses the options.
    pub fn regularizer(
        &self,
        services: &Services,
        name: &str,
        options: &serde_json::Value,
    ) -> Result<RegularizerInstance> {
        match &self.offers {
            Offers::C(plugin) => {
                Ok(RegularizerInstance::boxed(Box::new(plugin.regularizer(services, name, options)?)))
            }
            Offers::Tables(_) => RegularizerInstance::create(self.regularizers()?, services, name, options),
        }
    }

    /// Makes an attack.
    ///
    /// # Errors
    /// See [`Library::regularizer`].
    pub fn attack(
        &self,
        services: &Services,
        name: &str,
        options: &serde_json::Value,
    ) -> Result<AttackInstance> {
        match &self.offers {
            Offers::C(plugin) => Ok(AttackInstance::boxed(Box::new(plugin.attack(services, name, options)?))),
            Offers::Tables(_) => AttackInstance::create(self.attacks()?, services, name, options),
        }
    }

    /// Makes an objective.
    ///
    /// # Errors
    /// See [`Library::regularizer`].
    pub fn objective(
        &self,
        services: &Services,
        name: &str,
        options: &serde_json::Value,
    ) -> Result<ObjectiveInstance> {
        match &self.offers {
            Offers::C(_) => Err(c::no_objectives()),
            Offers::Tables(_) => ObjectiveInstance::create(self.objectives()?, services, name, options),
        }
    }

    /// Whether the library answers for the interface with this id.
    pub fn offers(&self, id: &str) -> bool {
        match &self.offers {
            Offers::C(_) => id == c::C_INTERFACE,
            Offers::Tables(root) => (root.interface())(RStr::from(id)).is_some(),
        }
    }

    /// The functions of a kind, if they are offered through this host's interface and have its layout.
    fn table<T>(
        &self,
        kind: Kind,
        check: fn(&Interface) -> Result<&'static T, LayoutMismatch>,
    ) -> Result<&'static T> {
        let id = kind.interface();
        let interface = match &self.offers {
            Offers::C(_) => None,
            Offers::Tables(root) => (root.interface())(RStr::from(id)).into_option(),
        };
        let interface =
            interface.ok_or_else(|| Error::with_code("interface", format!("does not offer `{id}`")))?;
        check(&interface).map_err(|mismatch| {
            Error::with_code("interface", format!("has another `{id}` than this host"))
                .help("rebuild it against this host's SDK")
                .cause(mismatch.details)
        })
    }
}

/// An error if a plugin was compiled for another libtorch, with another C++ ABI, or has a libtorch of its own.
pub(super) fn check_fingerprint(torch: &str, cxx11_abi: bool, same_symbol: bool) -> Result<()> {
    if torch != TORCH_VERSION {
        return Err(wrong_torch(torch));
    }
    if !cxx11_abi {
        return Err(Error::with_code(
            "interface",
            "was compiled with the old C++ ABI, this host with the new one",
        )
        .help("rebuild it with _GLIBCXX_USE_CXX11_ABI=1"));
    }
    if !same_symbol {
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

pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
