//! The SDK's sources and where libtorch is, put into a plugin's crate.
//!
//! ```text
//! .guard/Cargo.toml        a workspace of the SDK alone, with this host's versions of what it depends on
//! .guard/sdk/              guard-sdk, guard-abi in `abi`, guard-manifest in `manifest`, the headers for C and C++ in
//!                          `include`, `examples`
//! .guard/link/lib/         what to link of libtorch: not its CUDA part, which the host loads where it is wanted
//! .cargo/config.toml       names both to cargo
//! Cargo.lock               this host's versions, unless the crate has its own
//! ```

use super::{put, template::files, torch};
use guard_sdk::{Error, Result};
use include_dir::{Dir, include_dir};
use std::{fs, path::Path};

static SOURCES: Dir = include_dir!("$CARGO_MANIFEST_DIR/../sdk/src");
static ABI: Dir = include_dir!("$CARGO_MANIFEST_DIR/../sdk/abi");
static MANIFEST: Dir = include_dir!("$CARGO_MANIFEST_DIR/../sdk/manifest");
static HEADERS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../sdk/include");
static EXAMPLES: Dir = include_dir!("$CARGO_MANIFEST_DIR/../sdk/examples");
const SINGLE: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../../../sdk/Cargo.toml")),
    ("build.rs", include_str!("../../../sdk/build.rs")),
    ("rpath.rs", include_str!("../../../sdk/rpath.rs")),
    ("README.md", include_str!("../../../sdk/README.md")),
];
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Puts SDK and libtorch's place into the crate in `folder`, in place of those of another host.
///
/// # Errors
/// If libtorch's headers are not found, or a file cannot be written.
pub fn lay_down(folder: &Path) -> Result<()> {
    let torch = torch::with_headers()?;
    let guard = folder.join(".guard");
    if guard.exists() {
        // What an older SDK had must not stay.
        fs::remove_dir_all(&guard).map_err(|error| {
            Error::with_code("file", format!("`{}` cannot be removed: {error}", guard.display()))
        })?;
    }
    let folders = [
        ("src", &SOURCES),
        ("abi", &ABI),
        ("manifest", &MANIFEST),
        ("include", &HEADERS),
        ("examples", &EXAMPLES),
    ];
    for (place, sources) in folders {
        for file in files(sources) {
            put(&guard.join("sdk").join(place).join(file.path()), file.contents())?;
        }
    }
    for (name, text) in SINGLE {
        put(&guard.join("sdk").join(name), text)?;
    }
    put(&guard.join("Cargo.toml"), workspace()?)?;
    torch::links(&torch, &guard.join("link/lib"))?;
    let libtorch = toml::Value::String(torch.display().to_string());
    let config = format!(
        "# Written by `guard-host plugin sdk`. Variables that are set already win.\n\
         [env]\n\
         LIBTORCH = {libtorch}\n\
         LIBTORCH_LIB = {{ value = \".guard/link\", relative = true }}\n"
    );
    put(&folder.join(".cargo/config.toml"), config)?;
    let lock = folder.join("Cargo.lock");
    if !lock.exists() {
        put(&lock, LOCK)?;
    }
    Ok(())
}

/// This repository's workspace with the SDK as its only members.
fn workspace() -> Result<String> {
    let unreadable = |error: &dyn std::fmt::Display| Error::new(format!("the workspace's manifest: {error}"));
    let mut manifest: toml::Table = toml::from_str(WORKSPACE).map_err(|error| unreadable(&error))?;
    manifest.retain(|key, _| key == "workspace");
    if let Some(workspace) = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut) {
        workspace.retain(|key, _| matches!(key, "resolver" | "package" | "dependencies" | "lints"));
        workspace.insert(
            "members".into(),
            ["sdk", "sdk/abi", "sdk/manifest"].map(toml::Value::from).to_vec().into(),
        );
        if let Some(dependencies) = workspace.get_mut("dependencies").and_then(toml::Value::as_table_mut) {
            let path = |dependency: &toml::Value| Some(dependency.get("path")?.as_str()?.to_owned());
            dependencies.retain(|_, dependency| path(dependency).is_none_or(|path| path.starts_with("sdk")));
        }
    }
    toml::to_string(&manifest).map_err(|error| unreadable(&error))
}
