//! A look at a library file before any of its code runs: a truncated library is a bus error inside the loader, and one that
//! is no plugin gives a mangled symbol name.

use guard_sdk::{
    Error, Result, TORCH_VERSION,
    abi::library::wrong_torch,
    manifest::{MANIFEST_FORMAT, MANIFEST_SECTION, Manifest, MethodEntry},
};
use object::{Object, ObjectSection, ObjectSegment};
use std::{fs, path::Path};

/// What a library file says of itself.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The manifest; methods of kinds that this host does not know are left out.
    pub manifest: Manifest,
    /// The file's BLAKE3 sum, in hexadecimal.
    pub blake3: String,
}

/// Reads the manifest of the library at `path` without loading it. Messages continue the sentence "plugin `path` ...".
///
/// # Errors
/// If the file is not a whole shared library with a manifest that this host can read.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let bytes =
        fs::read(path).map_err(|error| Error::with_code("file", format!("cannot be read: {error}")))?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(
            Error::with_code("file", "is not a shared library").help("name the `.so` file that cargo built")
        );
    }
    let damaged = |why: String| {
        Error::with_code("file", format!("is damaged or truncated ({why})")).help("build or copy it again")
    };
    let library = object::File::parse(bytes.as_slice()).map_err(|error| damaged(error.to_string()))?;
    for segment in library.segments() {
        let (offset, size) = segment.file_range();
        if offset.saturating_add(size) > bytes.len() as u64 {
            return Err(damaged(format!(
                "{} bytes, its headers promise {}",
                bytes.len(),
                offset.saturating_add(size)
            )));
        }
    }
    let section = library.section_by_name(MANIFEST_SECTION).ok_or_else(|| {
        Error::with_code("file", "is a shared library, but not a guard-host plugin: it has no manifest")
            .help("a plugin's crate calls `guard_sdk::plugin!` and has crate-type `cdylib`; one in C++ has `GUARD_MANIFEST`")
    })?;
    let text = section.data().map_err(|error| damaged(error.to_string()))?;
    Ok(Inspection { manifest: parse(text)?, blake3: blake3::hash(&bytes).to_hex().to_string() })
}

fn parse(text: &[u8]) -> Result<Manifest> {
    let unreadable =
        |why: String| Error::with_code("manifest", format!("has a manifest that cannot be read ({why})"));
    // A C compiler ends it in a zero.
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let mut value: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
    let format = value.get("format").and_then(|format| format.as_str()).unwrap_or("none").to_string();
    if format != MANIFEST_FORMAT {
        return Err(Error::with_code(
            "manifest",
            format!("has a manifest of format `{format}`, this host reads `{MANIFEST_FORMAT}`"),
        )
        .help("use a guard-host that is as new as the plugin's SDK"));
    }
    // A later SDK may know kinds of methods that this host does not; the others still work.
    if let Some(methods) = value.get_mut("methods").and_then(|methods| methods.as_array_mut()) {
        methods.retain(|method| serde_json::from_value::<MethodEntry>(method.clone()).is_ok());
    }
    serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))
}

impl Inspection {
    /// An error if loading the library is known to be wrong.
    ///
    /// # Errors
    /// If it is for another libtorch, or its panics would end the host.
    pub fn check(&self) -> Result<()> {
        if self.manifest.torch != TORCH_VERSION {
            return Err(wrong_torch(&self.manifest.torch));
        }
        if self.manifest.panic != "unwind" {
            return Err(Error::with_code(
                "manifest",
                "was built with `panic = \"abort\"`, so that its first panic would end the run",
            )
            .help("build it with `panic = \"unwind\"`"));
        }
        Ok(())
    }
}
