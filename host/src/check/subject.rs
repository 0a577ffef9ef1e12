//! What a test works on: a library, or one of its methods.

use super::{call::Made, room::Room};
use crate::plugin::{Inspection, Loaded, Locator, Plugins};
use guard_sdk::{
    Error, Result,
    manifest::{Kind, Manifest, MethodEntry},
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A library as a whole.
pub struct Library {
    /// Its file.
    pub path: PathBuf,
}

impl Library {
    /// What the file says of itself.
    ///
    /// # Errors
    /// If it is no plugin.
    pub fn inspect(&self) -> Result<Inspection> {
        Loaded::inspect(&self.path)
    }

    /// The manifest alone.
    ///
    /// # Errors
    /// If it is no plugin.
    pub fn manifest(&self) -> Result<Manifest> {
        Ok(self.inspect()?.manifest)
    }
}

/// A method, and the options it is tried with.
pub struct Subject {
    /// In checked mode, so that writes are found that autograd does not see.
    pub plugins: Plugins,
    /// Kind and name.
    pub entry: MethodEntry,
    /// `id/name`, so that no other plugin's method of the name is meant.
    pub full_name: String,
    /// The schema of its options.
    pub schema: Value,
    /// Of random numbers and of made-up options.
    pub seed: u64,
}

impl Subject {
    /// The method `name` of the library at `path`.
    ///
    /// # Errors
    /// If the library cannot be loaded or has no such method.
    pub fn new(path: &std::path::Path, kind: Kind, name: &str, seed: u64) -> Result<Self> {
        let plugins = Plugins::new(Locator::from_environment()).checked(true);
        let loaded = plugins.load(&path.display().to_string())?;
        let entry = loaded.manifest.methods.iter().find(|entry| entry.kind == kind && entry.name == name);
        let entry = entry.ok_or_else(|| Error::new(format!("there is no {kind} `{name}`")))?.clone();
        let schema = loaded.schema(kind, name)?;
        let full_name = format!("{}/{name}", loaded.manifest.id);
        Ok(Self { plugins, entry, full_name, schema, seed })
    }

    /// The options that the tests use: the first of the schema's `examples`, else none at all.
    pub fn options(&self) -> Value {
        self.schema.pointer("/examples/0").cloned().unwrap_or_else(|| json!({}))
    }

    /// Whether the method's derivatives are other than those of its value, on purpose.
    pub fn stops_gradient(&self) -> bool {
        self.schema[guard_sdk::export::STOPS_GRADIENT] == true
    }

    /// Makes the method with the usual options.
    ///
    /// # Errors
    /// If it refuses them.
    pub fn make<'a>(&'a self, room: &'a Room) -> Result<Made<'a>> {
        self.make_with(room, &self.options())
    }

    /// Makes the method with these options.
    ///
    /// # Errors
    /// If it refuses them.
    pub fn make_with<'a>(&'a self, room: &'a Room, options: &Value) -> Result<Made<'a>> {
        Made::new(self, room, options)
    }
}
