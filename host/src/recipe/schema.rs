//! Reads what problems need to know from a JSON Schema: descriptions, names, types, choices.
//!
//! The rule: any JSON may come in, since plugins ship schemas; what is not understood is `None` or empty.

use serde_json::Value;

/// How many references and combinations are followed, so that a circular schema ends.
const DEEPEST: usize = 8;

/// The schema that `schema` refers to within `root`, or itself.
pub(super) fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..DEEPEST {
        let reference = schema["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
        match reference.and_then(|pointer| root.pointer(pointer)) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// The first paragraph of the schema's description, on one line.
pub(super) fn description(schema: &Value) -> Option<String> {
    let text = schema["description"].as_str()?;
    let lines = text.lines().map(str::trim);
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    (!paragraph.is_empty()).then(|| paragraph.join(" "))
}

/// The names in the value of a `type` keyword.
pub(super) fn type_names(types: &Value) -> Vec<String> {
    match types {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().flat_map(type_names).collect(),
        _ => Vec::new(),
    }
}

/// The types that a schema allows, those of its forms included.
pub(super) fn types(root: &Value, schema: &Value) -> Vec<String> {
    gather(root, schema, DEEPEST, &|schema| type_names(&schema["type"]))
}

/// The keys that a table may have, those of the schemas it combines included.
pub(super) fn property_names(root: &Value, schema: &Value) -> Vec<String> {
    gather(root, schema, DEEPEST, &|schema| match &schema["properties"] {
        Value::Object(properties) => properties.keys().cloned().collect(),
        _ => Vec::new(),
    })
}

/// What `read` finds in a schema and in those it is combined from, each thing once.
fn gather(root: &Value, schema: &Value, depth: usize, read: &dyn Fn(&Value) -> Vec<String>) -> Vec<String> {
    let mut found = read(schema);
    if depth > 0 {
        let target = resolve(root, schema);
        let parts = ["allOf", "anyOf", "oneOf"].into_iter();
        let parts = parts.flat_map(|keyword| schema[keyword].as_array().into_iter().flatten());
        let referred = (!std::ptr::eq(target, schema)).then_some(target);
        for part in parts.chain(referred) {
            found.extend(gather(root, part, depth - 1, read));
        }
    }
    let mut once = Vec::with_capacity(found.len());
    for name in found {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    once
}

/// The values that a schema allows, if it lists them: `const`, `enum`, or forms that do.
pub(super) fn choices(root: &Value, schema: &Value) -> Option<Vec<Value>> {
    choices_within(root, schema, DEEPEST)
}

fn choices_within(root: &Value, schema: &Value, depth: usize) -> Option<Vec<Value>> {
    let schema = resolve(root, schema);
    if let Some(value) = schema.get("const") {
        return Some(vec![value.clone()]);
    }
    if let Some(values) = schema["enum"].as_array() {
        return Some(values.clone());
    }
    let forms = schema["oneOf"].as_array().or(schema["anyOf"].as_array())?;
    let depth = depth.checked_sub(1)?;
    let each = forms.iter().map(|form| choices_within(root, form, depth));
    Some(each.collect::<Option<Vec<_>>>()?.concat())
}

/// The key whose value tells the forms of a table apart.
pub(super) struct Tag<'a> {
    /// The key.
    pub key: &'a str,
    /// For each form, the values of the key that stand for it.
    pub values: Vec<Vec<Value>>,
}

/// Finds the tag of an internally tagged enum: a key for which each form lists its values.
pub(super) fn tag<'a>(root: &'a Value, forms: &[&'a Value]) -> Option<Tag<'a>> {
    let properties = forms.first()?["properties"].as_object()?;
    properties.keys().find_map(|key| {
        let value = |form: &&Value| choices(root, form["properties"].get(key)?);
        let values = forms.iter().map(value).collect::<Option<Vec<_>>>()?;
        Some(Tag { key, values })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_circular_schema_ends() {
        let root = json!({ "$ref": "#/$defs/a", "$defs": {
            "a": { "anyOf": [{ "$ref": "#/$defs/a" }], "properties": { "x": {} } } } });
        assert_eq!(property_names(&root, &root), ["x"]);
        assert_eq!(choices(&root, &root), None);
        let own = json!({ "$ref": "#" });
        assert_eq!(types(&own, &own), Vec::<String>::new());
    }

    #[test]
    fn combined_schemas_lend_their_keys() {
        let root = json!({
            "properties": { "a": {} },
            "allOf": [{ "properties": { "b": {} } }, { "$ref": "#/$defs/c" }],
            "$defs": { "c": { "properties": { "c": {}, "a": {} } } }
        });
        assert_eq!(property_names(&root, &root), ["a", "b", "c"]);
    }

    #[test]
    fn what_is_no_schema_has_nothing_to_say() {
        for odd in [json!(null), json!(3), json!([1]), json!({ "type": 3, "oneOf": 1 })] {
            assert_eq!(description(&odd), None);
            assert_eq!(choices(&odd, &odd), None);
            assert!(types(&odd, &odd).is_empty());
            assert!(tag(&odd, &[&odd]).is_none());
        }
    }
}
