//! A look at a library file before any of its code runs: a truncated library is a bus error inside the loader, and one that
//! is no plugin gives a mangled symbol name.

use crate::{Refusal, Result};
use guard_manifest::{MANIFEST_FORMAT, MANIFEST_SECTION, Manifest, MethodEntry};
use object::{
    Endianness, ReadCache, ReadRef,
    elf::{ELFCLASS32, ELFMAG, FileHeader64},
    read::elf::{FileHeader, ProgramHeader, SectionHeader},
};
use std::{
    fs::File,
    io::{self, Seek},
    path::Path,
};

/// Beyond this a manifest is none.
const LARGEST_MANIFEST: u64 = 1 << 20;

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
    let unreadable = |error: io::Error| Refusal::new("file", format!("cannot be read: {error}"));
    let mut file = File::open(path).map_err(unreadable)?;
    let text = manifest_text(&file)?;
    let manifest = parse(&text)?;
    let mut sum = blake3::Hasher::new();
    file.rewind().and_then(|()| sum.update_reader(&file).map(|_| ())).map_err(unreadable)?;
    Ok(Inspection { manifest, blake3: sum.finalize().to_hex().to_string() })
}

/// The section with the manifest. Of a file without one, its headers alone are read.
fn manifest_text(file: &File) -> Result<Vec<u8>> {
    let damaged = |why: String| {
        Refusal::new("file", format!("is damaged or truncated ({why})")).help("build or copy it again")
    };
    let unparsed = |error: object::read::Error| damaged(error.to_string());
    let data = &ReadCache::new(file);
    if data.read_bytes_at(0, ELFMAG.len() as u64) != Ok(&ELFMAG) {
        return Err(
            Refusal::new("file", "is not a shared library").help("name the `.so` file that cargo built")
        );
    }
    let size = data.len().map_err(|()| damaged("its size cannot be read".into()))?;
    if data.read_bytes_at(4, 1) == Ok(&[ELFCLASS32.0]) {
        return Err(Refusal::new("file", "is for another kind of machine").help("build it for this one"));
    }
    let header = FileHeader64::<Endianness>::parse(data).map_err(unparsed)?;
    let endian = header.endian().map_err(unparsed)?;
    for segment in header.program_headers(endian, data).map_err(unparsed)? {
        let (offset, length) = segment.file_range(endian);
        let promised = offset.saturating_add(length);
        if promised > size {
            return Err(damaged(format!("{size} bytes, its headers promise {promised}")));
        }
    }
    let sections = header.sections(endian, data).map_err(unparsed)?;
    let (_, section) = sections.section_by_name(endian, MANIFEST_SECTION.as_bytes()).ok_or_else(|| {
        Refusal::new("file", "is a shared library, but not a guard-host plugin: it has no manifest")
            .help("a plugin's crate calls `guard_sdk::plugin!` and has crate-type `cdylib`; one in C++ has `GUARD_MANIFEST`")
    })?;
    if section.sh_size(endian) > LARGEST_MANIFEST {
        return Err(Refusal::new(
            "manifest",
            format!("has a manifest of more than {LARGEST_MANIFEST} bytes"),
        ));
    }
    Ok(section.data(endian, data).map_err(unparsed)?.to_vec())
}

fn parse(text: &[u8]) -> Result<Manifest> {
    let unreadable =
        |why: String| Refusal::new("manifest", format!("has a manifest that cannot be read ({why})"));
    // A C compiler ends it in a zero.
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let mut value: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
    let format = value.get("format").and_then(|format| format.as_str()).unwrap_or("none").to_string();
    if format != MANIFEST_FORMAT {
        return Err(Refusal::new(
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
