//! Every method of some plugins with its options, as Markdown, out of the libraries themselves.

use crate::plugin::{Loaded, resolved};
use guard_sdk::Result;
use serde_json::Value;
use std::fmt::Write;

/// A page on `plugins`; `command` is what writes it.
///
/// # Errors
/// If a plugin does not give the schema of a method.
pub fn reference(plugins: &[&Loaded], command: &str) -> Result<String> {
    let mut page = format!(
        "# Methods and their options\n\n\
         Written by `{command}`; not to be edited. How options are given in a recipe is in [README.md](../README.md#recipes).\n"
    );
    for plugin in plugins {
        let _ = writeln!(page, "\n## {}", plugin.manifest.id);
        for method in &plugin.manifest.methods {
            let schema = plugin.schema(method.kind, &method.name)?;
            let _ = writeln!(page, "\n### {} `{}`\n", method.kind, method.name);
            let options = schema["properties"].as_object();
            match options.filter(|options| !options.is_empty()) {
                None => page.push_str("No options.\n"),
                Some(options) => {
                    page.push_str("| option | value | default | |\n|---|---|---|---|\n");
                    for (name, about) in options {
                        let required = schema["required"]
                            .as_array()
                            .is_some_and(|names| names.contains(&Value::from(name.as_str())));
                        let default = match about.get("default") {
                            Some(Value::Null) => String::new(),
                            Some(default) => format!("`{default}`"),
                            None if required => "must be given".into(),
                            None => String::new(),
                        };
                        let description = about["description"]
                            .as_str()
                            .or(resolved(about, &schema)["description"].as_str());
                        let _ = writeln!(
                            page,
                            "| `{name}` | {} | {} | {} |",
                            values(about, &schema),
                            cell(&default),
                            cell(description.unwrap_or_default())
                        );
                    }
                }
            }
        }
    }
    Ok(page)
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// What an option may be, in words.
fn values(schema: &Value, root: &Value) -> String {
    let schema = resolved(schema, root);
    let of = |choices: &Vec<Value>| {
        let mut words: Vec<String> =
            choices.iter().map(|choice| values(choice, root)).filter(|word| !word.is_empty()).collect();
        words.dedup();
        words.join(", ")
    };
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        return of(choices);
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(constant) = schema.get("const") {
        return format!("`{constant}`");
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect()
        }
        kind => kind.as_str().filter(|kind| *kind != "null").into_iter().collect::<Vec<_>>(),
    };
    let word = match kinds.as_slice() {
        ["boolean"] => "`true`, `false`".to_string(),
        ["object"] => "table".into(),
        ["array"] => match values(&schema["items"], root) {
            items if items.is_empty() => "list".into(),
            items => format!("list of {items}"),
        },
        kinds => kinds.join(", "),
    };
    let bounds = [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")];
    let bounds = bounds.iter().filter_map(|(key, sign)| Some(format!(" {sign} {}", schema.get(key)?)));
    word + &bounds.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_told_in_words() {
        let root = json!({ "$defs": { "Form": { "oneOf": [{ "const": "a" }, { "const": "b" }] } } });
        let told = |schema: Value| values(&schema, &root);
        assert_eq!(told(json!({ "$ref": "#/$defs/Form" })), "`\"a\"`, `\"b\"`");
        assert_eq!(
            told(json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 9 })),
            "integer ≥ 1, ≤ 9"
        );
        assert_eq!(told(json!({ "type": "array", "items": { "type": "number" } })), "list of number");
        assert_eq!(
            told(json!({ "anyOf": [{ "$ref": "#/$defs/Form" }, { "type": "null" }] })),
            "`\"a\"`, `\"b\"`"
        );
    }
}
