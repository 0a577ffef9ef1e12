//! Plugins as `plugin list` tells them, from their manifests.

use crate::{Inspection, Locator, inspect};
use guard_manifest::MethodEntry;
use serde_json::{Value, json};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// Plugins in the order in which they are told.
#[derive(Debug, Default)]
pub struct Listing {
    found: Vec<(PathBuf, Inspection)>,
}

impl Listing {
    /// Adds the plugin whose file is at `path`.
    pub fn add(&mut self, path: &Path, inspection: Inspection) {
        self.found.push((path.to_path_buf(), inspection));
    }

    /// Adds those in the folders of `locator` that are not there yet. What has no manifest is some other library.
    pub fn add_installed(&mut self, locator: &Locator) {
        for path in locator.libraries() {
            let path = path.canonicalize().unwrap_or(path);
            if self.found.iter().all(|(known, _)| *known != path)
                && let Ok(inspection) = inspect(&path)
            {
                self.found.push((path, inspection));
            }
        }
    }

    /// Their files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.found.iter().map(|(path, _)| path.as_path())
    }

    /// Says on stderr where plugins were looked for, if there are none.
    pub fn tell_if_empty(&self, locator: &Locator) {
        if self.found.is_empty() {
            let folders: Vec<_> =
                locator.directories().iter().map(|folder| folder.display().to_string()).collect();
            eprintln!("no plugins in {}", folders.join(", "));
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (path, Inspection { manifest, .. }) in &self.found {
            let _ = writeln!(text, "{} {} (libtorch {})", manifest.id, manifest.version, manifest.torch);
            let _ = writeln!(text, "  {}", path.display());
            for MethodEntry { kind, name, .. } in &manifest.methods {
                let _ = writeln!(text, "  {kind} {name}");
            }
        }
        text
    }

    /// For programs: an array of [`entry`].
    pub fn json(&self) -> Value {
        self.found.iter().map(|(path, inspection)| entry(path, inspection)).collect()
    }
}

/// A plugin for programs: `id`, `version`, `path`, `blake3`, `torch` and `methods`.
pub fn entry(path: &Path, Inspection { manifest, blake3 }: &Inspection) -> Value {
    json!({
        "id": manifest.id,
        "version": manifest.version,
        "path": path.to_string_lossy(),
        "blake3": blake3,
        "torch": manifest.torch,
        "methods": manifest.methods,
    })
}
