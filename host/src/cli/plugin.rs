//! `guard-host plugin list|info`.

use super::{Format, Session, print, print_json};
use crate::{
    cli::Failure,
    plugin::{Inspection, Loaded},
};
use guard_front::{Listing, entry};
use guard_sdk::manifest::MethodEntry;
use serde_json::Value;
use std::fmt::Write;

/// Lists plugins by their manifests, without loading any; warns of those that may not be.
pub(super) fn list(session: Session) -> Result<(), Failure> {
    let mut listing = Listing::default();
    for request in &session.requests {
        let path = session.plugins.find_file(request).map_err(Failure::Usage)?;
        listing.add(&path, Loaded::inspect(&path).map_err(Failure::Usage)?);
    }
    let locator = session.plugins.locator();
    listing.add_installed(locator);
    for refused in listing.paths().filter_map(|path| session.plugins.admit(path).err()) {
        eprintln!("warning: {}", refused.message);
    }
    if session.format == Format::Json {
        return print_json(&listing.json());
    }
    listing.tell_if_empty(locator);
    print(&listing.text())
}

/// Loads one plugin and tells what it offers.
pub(super) fn info(session: Session, name: &str) -> Result<(), Failure> {
    let loaded = session.plugins.load(name).map_err(Failure::Usage)?;
    let inspection = Inspection { manifest: loaded.manifest.clone(), blake3: loaded.blake3.clone() };
    let path = loaded.path.display().to_string();
    let mut schemas = Vec::new();
    for MethodEntry { kind, name, .. } in &inspection.manifest.methods {
        schemas.push(loaded.schema(*kind, name).map_err(Failure::Usage)?);
    }
    if session.format == Format::Json {
        let mut value = entry(&loaded.path, &inspection);
        if let Some(methods) = value.get_mut("methods").and_then(Value::as_array_mut) {
            methods.iter_mut().zip(schemas).for_each(|(method, schema)| method["options"] = schema);
        }
        return print_json(&value);
    }
    let manifest = &inspection.manifest;
    let mut text = format!("{} {}\n", manifest.id, manifest.version);
    let _ = writeln!(
        text,
        "  file      {path}\n  BLAKE3    {}\n  libtorch  {}",
        inspection.blake3, manifest.torch
    );
    for (MethodEntry { kind, name, interface, .. }, schema) in manifest.methods.iter().zip(&schemas) {
        let _ = writeln!(text, "\n{kind} {name} ({interface})");
        for (option, about) in schema["properties"].as_object().into_iter().flatten() {
            let default = about.get("default").map_or(String::new(), |value| format!(" (default {value})"));
            let description = about["description"].as_str().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(text, "  {option}{default}: {description}");
        }
    }
    print(&text)
}
