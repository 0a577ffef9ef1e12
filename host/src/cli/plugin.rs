//! `guard-host plugin list|info`.

use super::{Format, Session, print, print_json};
use crate::{
    cli::Failure,
    plugin::{Inspection, Loaded, inspect},
};
use guard_sdk::manifest::MethodEntry;
use serde_json::{Value, json};
use std::{fmt::Write, path::Path};

/// Lists plugins by their manifests, without loading any.
pub(super) fn list(session: Session) -> Result<(), Failure> {
    let mut found: Vec<(String, Inspection)> = Vec::new();
    for request in &session.requests {
        let path = session.plugins.find_file(request).map_err(Failure::Usage)?;
        let inspection = Loaded::inspect(&path).map_err(Failure::Usage)?;
        found.push((path.display().to_string(), inspection));
    }
    for path in session.plugins.locator().libraries() {
        let path = path.canonicalize().unwrap_or(path).display().to_string();
        // What has no manifest is some other library.
        if let Ok(inspection) = inspect(Path::new(&path))
            && found.iter().all(|(known, _)| *known != path)
        {
            found.push((path, inspection));
        }
    }
    if session.format == Format::Json {
        return print_json(&found.iter().map(|(path, inspection)| entry(path, inspection)).collect());
    }
    let mut text = String::new();
    for (path, Inspection { manifest, .. }) in &found {
        let _ = writeln!(text, "{} {} (libtorch {})", manifest.id, manifest.version, manifest.torch);
        let _ = writeln!(text, "  {path}");
        for MethodEntry { kind, name, .. } in &manifest.methods {
            let _ = writeln!(text, "  {kind} {name}");
        }
    }
    if found.is_empty() {
        let folders: Vec<_> = session
            .plugins
            .locator()
            .directories()
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        eprintln!("no plugins in {}", folders.join(", "));
    }
    print(&text)
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
        let mut value = entry(&path, &inspection);
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

/// As the contract has it.
fn entry(path: &str, Inspection { manifest, blake3 }: &Inspection) -> Value {
    json!({
        "id": manifest.id,
        "version": manifest.version,
        "path": path,
        "blake3": blake3,
        "torch": manifest.torch,
        "methods": manifest.methods,
    })
}
