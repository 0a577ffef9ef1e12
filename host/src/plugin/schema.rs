//! JSON Schemas of options.

use guard_sdk::{Error, Result, manifest::Kind};
use serde_json::Value;

/// The schema that `schema` refers to inside `root`, or itself.
pub fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// Holds options against the schema of the method `name`.
///
/// # Errors
/// If the schema does not allow them, or is none.
pub(super) fn fits(kind: Kind, name: &str, schema: &Value, options: &Value) -> Result<()> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| Error::with_code("interface", format!("the schema of `{name}`: {error}")))?;
    let Some(error) = validator.iter_errors(options).next() else { return Ok(()) };
    let place = error.instance_path().to_string();
    let message = format!("the options of the {kind} `{name}`: {error} at `{place}`");
    Err(Error { option_path: Some(place), ..Error::with_code("options", message) })
}
