//! JSON Schemas of options.

use serde_json::Value;

/// The schema that `schema` refers to inside `root`, or itself.
pub fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}
