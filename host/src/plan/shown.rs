//! Recipes and plans as people read them: complete, every value with where it comes from.

use super::{Plan, methods::MethodTable};
use crate::{
    plugin::Plugins,
    recipe::{Document, Loaded, Variant, annotated, child},
};
use guard_sdk::{Error, Result};
use serde_json::{Map, Value};

/// A variant's recipe with all defaults, those of its methods' options included.
#[derive(Debug, Clone)]
pub struct Complete {
    /// The variant's name.
    pub name: String,
    /// The recipe.
    pub recipe: Value,
    document: Document,
    /// The pointers of options that a plugin's schema fills in, and the method whose they are.
    filled: Vec<(String, String)>,
}

/// The variants of a recipe whose methods are all there.
///
/// # Errors
/// If the recipe cannot be told as JSON.
pub fn complete(recipe: &Loaded, plugins: &mut Plugins) -> Result<Vec<Complete>> {
    recipe.variants.iter().map(|variant| Complete::new(variant, plugins)).collect()
}

impl Complete {
    fn new(variant: &Variant, plugins: &mut Plugins) -> Result<Self> {
        let Variant { name, document, recipe, .. } = variant;
        let mut complete = Self {
            name: name.clone(),
            recipe: serde_json::to_value(recipe)?,
            document: document.clone(),
            filled: Vec::new(),
        };
        for table in MethodTable::all(document) {
            // A method that is missing has been told.
            let Ok((method, schema)) = table.schema(document, plugins) else { continue };
            let at = table.options();
            let Some(Value::Object(options)) = complete.recipe.pointer_mut(&at) else { continue };
            for (key, property) in schema["properties"].as_object().into_iter().flatten() {
                let Some(default) = property.get("default").filter(|default| !default.is_null()) else {
                    continue;
                };
                if !options.contains_key(key) {
                    options.insert(key.clone(), default.clone());
                    complete.filled.push((child(&at, key), method.to_owned()));
                }
            }
        }
        Ok(complete)
    }

    /// Where the value at `pointer` comes from.
    pub fn comes_from(&self, pointer: &str) -> String {
        let below = |filled: &str| pointer == filled || pointer.starts_with(&format!("{filled}/"));
        match self.filled.iter().find(|(filled, _)| below(filled)) {
            Some((_, method)) => format!("default of {method}"),
            None => self.document.comes_from(pointer),
        }
    }

    /// Where each value comes from, by its pointer.
    pub fn origins(&self) -> Map<String, Value> {
        let mut origins = Map::new();
        self.collect("", &self.recipe, &mut origins);
        origins
    }

    fn collect(&self, pointer: &str, value: &Value, origins: &mut Map<String, Value>) {
        match value {
            Value::Object(table) => {
                table.iter().for_each(|(key, value)| self.collect(&child(pointer, key), value, origins));
            }
            Value::Array(values) if values.iter().any(Value::is_object) => {
                let values = values.iter().enumerate();
                values.for_each(|(index, value)| {
                    self.collect(&child(pointer, &index.to_string()), value, origins)
                });
            }
            _ => {
                origins.insert(pointer.to_owned(), self.comes_from(pointer).into());
            }
        }
    }

    /// As TOML, with a comment on every value.
    ///
    /// # Errors
    /// If it cannot be told as TOML.
    pub fn text(&self) -> Result<String> {
        let text = toml::to_string(&said(&self.recipe)).map_err(untold)?;
        annotated(&text, &|pointer| Some(self.comes_from(pointer))).map_err(untold)
    }
}

impl Plan {
    /// The plan as TOML; the values of its recipes with where they come from.
    ///
    /// # Errors
    /// If it cannot be told as TOML.
    pub fn text(&self, variants: &[Complete]) -> Result<String> {
        let mut plan = serde_json::to_value(self)?;
        for (number, variant) in variants.iter().enumerate() {
            plan["variants"][number]["recipe"] = variant.recipe.clone();
        }
        let text = toml::to_string(&said(&plan)).map_err(untold)?;
        let origin = |pointer: &str| {
            let (number, rest) = pointer.strip_prefix("/variants/")?.split_once('/')?;
            let inside = rest.strip_prefix("recipe")?;
            Some(variants.get(number.parse::<usize>().ok()?)?.comes_from(inside))
        };
        annotated(&text, &origin).map_err(untold)
    }
}

/// Without what is null, which TOML does not know.
fn said(value: &Value) -> Value {
    match value {
        Value::Object(table) => {
            let there = table.iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(key, value)| (key.clone(), said(value))).collect())
        }
        Value::Array(values) => values.iter().map(said).collect(),
        other => other.clone(),
    }
}

fn untold(error: impl std::fmt::Display) -> Error {
    Error::new(format!("it cannot be told as TOML: {error}"))
}
