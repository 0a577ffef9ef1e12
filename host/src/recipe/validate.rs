//! Checks a part of a `Document` against a JSON Schema: the recipe's own, or the one that a plugin ships for its
//! options.
//!
//! The rule: the schema alone decides what is wrong; `explain` only words the verdict.

use jsonschema::{Keyword, ValidationError, Validator};
use serde_json::{Map, Value};

use super::document::{Document, Mark};
use super::explain::Explain;
use super::problem::Problem;
use super::schema::type_names;

impl Document {
    /// Everything that `schema` finds wrong with the value at `at`; where nothing was written, with an empty table.
    ///
    /// Unlike JSON Schema, and like serde, `20.0` is not an integer here.
    pub fn validate(&self, schema: &Value, at: &str) -> Vec<Problem> {
        Checker::new(schema.clone()).check(self, at)
    }
}

/// A schema made ready to check documents with.
pub(super) struct Checker {
    schema: Value,
    /// Or why the schema is broken.
    validator: Result<Validator, String>,
}

impl Checker {
    pub(super) fn new(schema: Value) -> Checker {
        let options = jsonschema::options()
            .with_keyword("type", |_, types, _| Ok(Box::new(StrictType(type_names(types)))));
        let validator = options.build(&schema).map_err(|error| error.to_string());
        Checker { schema, validator }
    }

    /// Everything that is wrong with the value at `at`.
    pub(super) fn check(&self, document: &Document, at: &str) -> Vec<Problem> {
        let validator = match &self.validator {
            Ok(validator) => validator,
            Err(error) => {
                let message = format!("this cannot be checked, its schema is broken: {error}");
                return vec![document.problem(at, Mark::Value, message)];
            }
        };
        let empty = Value::Object(Map::new());
        let value = document.get(at).unwrap_or(&empty);
        let explain = Explain::new(document, &self.schema, at);
        let errors = validator.iter_errors(value);
        errors.flat_map(|error| explain.error(&error)).collect()
    }
}

/// JSON Schema's `type`, except that `20.0` is not an integer.
struct StrictType(Vec<String>);

impl<'i> Keyword<'i> for StrictType {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(value) { Ok(()) } else { Err(ValidationError::custom("wrong type")) }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.0.iter().any(|name| match name.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe::problem::Problems;

    /// The problems of `text` at `/options`, as text without the frame of carets.
    fn said(schema: &Value, text: &str) -> Vec<String> {
        let document = Document::parse("my.toml", text).expect("valid TOML");
        let problems = Problems::new(document.validate(schema, "/options"));
        let line = |problem: &Problem| {
            let place = problem.location.as_ref().map(ToString::to_string);
            let help = problem.help.as_ref().map(|help| format!(" ({help})"));
            let (place, help) = (place.unwrap_or_default(), help.unwrap_or_default());
            format!("{place} {}{help}", problem.message)
        };
        problems.as_slice().iter().map(line).collect()
    }

    #[test]
    fn every_keyword_has_its_words() {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["form"],
            "properties": {
                "form": { "type": "string", "description": "How it is computed.\nSee CURE.\n\nMore." },
                "steps": { "type": "integer", "minimum": 1, "maximum": 9 },
                "rate": { "type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1 },
                "many": { "type": "array", "minItems": 2, "uniqueItems": true, "items": { "type": "boolean" } },
                "pair": { "type": "array", "minItems": 2, "maxItems": 2 },
                "text": { "type": "string", "minLength": 1 },
                "odd": { "multipleOf": 2 },
                "mode": { "enum": ["fast", "slow"], "type": "string" },
                "never": false,
                "date": { "type": "string", "pattern": "^[0-9]+$", "description": "A number of days." }
            }
        });
        let text = r#"[options]
steps = 0
rate = 1
many = [true, 1]
pair = [1]
text = ""
odd = 3
mode = "fsat"
never = 1
date = "x"
step = 4
zebra = 5
"#;
        assert_eq!(
            said(&schema, text),
            [
                "my.toml:1:1 missing key `form` in `options` (How it is computed. See CURE.)",
                "my.toml:2:9 `options.steps` must be at least 1, found 0",
                "my.toml:3:8 `options.rate` must be less than 1, found 1",
                "my.toml:4:15 expected a boolean for `options.many.1`, found a number",
                "my.toml:5:8 `options.pair` needs exactly 2 elements, found 1",
                "my.toml:6:8 `options.text` must not be empty",
                "my.toml:7:7 `options.odd` must be a multiple of 2, found 3",
                "my.toml:8:8 unknown value `fsat` for `options.mode` (did you mean `fast`?)",
                "my.toml:9:9 `options.never` is not allowed here",
                "my.toml:10:8 `x` is not a valid value for `options.date` (A number of days.)",
                "my.toml:11:1 unknown key `step` in `options` (did you mean `steps`?)",
                "my.toml:12:1 unknown key `zebra` in `options` (choose `form`, `steps`, `rate`, `many`, `pair`, \
                 `text`, `odd`, `mode`, `never` or `date`)",
            ]
        );
    }

    #[test]
    fn a_wrong_type_says_what_to_write_instead() {
        let schema = json!({ "properties": {
            "a": { "type": "integer" }, "b": { "type": ["number", "null"] }, "c": { "type": "array" },
            "d": { "type": "object", "required": ["use"] }, "e": { "type": ["string", "boolean"] },
            "f": { "type": "array" }
        }});
        let text = "options = { a = 20.0, b = '1.5', c = 'x', d = 'y', e = 3, f = {} }";
        assert_eq!(
            said(&schema, text),
            [
                "my.toml:1:17 expected a whole number for `options.a`, found 20.0",
                "my.toml:1:27 expected a number for `options.b`, found a string (leave out the quotes: 1.5)",
                "my.toml:1:38 expected a list for `options.c`, found a string (write `[\"x\"]`)",
                "my.toml:1:47 expected a table for `options.d`, found a string (write `{ use = \"y\" }`)",
                "my.toml:1:56 expected a string or a boolean for `options.e`, found a number",
                "my.toml:1:63 expected a list for `options.f`, found a table (each table of a list has a header \
                 `[[options.f]]`)",
            ]
        );
    }

    #[test]
    fn a_missing_table_is_checked_as_an_empty_one() {
        let schema = json!({ "type": "object", "required": ["a"] });
        assert_eq!(said(&schema, "x = 1"), ["my.toml missing key `a` in `options`"]);
    }

    #[test]
    fn a_broken_schema_is_a_problem_of_its_own() {
        let said = said(&json!({ "type": 5 }), "options = 1");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("my.toml:1:11 this cannot be checked, its schema is broken:"));
    }

    #[test]
    fn a_tagged_table_is_checked_as_the_form_that_its_tag_names() {
        let schema = json!({ "properties": { "o": { "oneOf": [{ "$ref": "#/$defs/sgd" }, { "$ref": "#/$defs/adam" }] } },
        "$defs": {
            "sgd": { "type": "object", "required": ["kind"], "additionalProperties": false, "properties": {
                "kind": { "const": "sgd" }, "momentum": { "type": "number", "maximum": 1 } } },
            "adam": { "type": "object", "required": ["kind"], "additionalProperties": false, "properties": {
                "kind": { "const": "adam" }, "beta": { "type": "number" } } }
        }});
        let said = |text: &str| said(&schema, text);
        assert_eq!(
            said("options.o = { kind = 'sgd', momentum = 2, beta = 1 }"),
            [
                "my.toml:1:40 `options.o.momentum` must be at most 1, found 2",
                "my.toml:1:43 unknown key `beta` in `options.o` (choose `kind` or `momentum`)",
            ]
        );
        assert_eq!(
            said("options.o = { kind = 'adm', beta = 'x' }"),
            ["my.toml:1:22 unknown value `adm` for `options.o.kind` (did you mean `adam`?)"]
        );
        assert_eq!(
            said("options.o = { beta = 1 }"),
            ["my.toml:1:13 missing key `kind` in `options.o` (choose `sgd` or `adam`)"]
        );
        assert_eq!(
            said("options.o = 'sgd'"),
            ["my.toml:1:13 expected a table for `options.o`, found a string (write `{ kind = \"sgd\" }`)"]
        );
    }

    #[test]
    fn of_several_forms_the_one_of_the_written_type_is_explained() {
        let schema = json!({ "properties": {
            "e": { "anyOf": [
                { "type": "number", "exclusiveMinimum": 0 },
                { "type": "string", "pattern": "/", "description": "A fraction, such as `\"8/255\"`." },
                { "type": "array", "items": { "type": "number" } },
                { "type": "null" }
            ] },
            "m": { "anyOf": [{ "oneOf": [{ "const": "a" }, { "enum": ["b", "c"] }] }, { "type": "null" }] },
            "u": { "description": "One shape or the other.", "anyOf": [
                { "type": "object", "required": ["x"] }, { "type": "object", "required": ["y", "z"] }
            ] }
        }});
        let said = |text: &str| said(&schema, text);
        assert_eq!(said("options.e = -1"), ["my.toml:1:13 `options.e` must be greater than 0, found -1"]);
        assert_eq!(
            said("options.e = 'x'"),
            ["my.toml:1:13 `x` is not a valid value for `options.e` (A fraction, such as `\"8/255\"`.)"]
        );
        assert_eq!(
            said("options.e = [1, 'x']"),
            ["my.toml:1:17 expected a number for `options.e.1`, found a string"]
        );
        assert_eq!(
            said("options.e = true"),
            ["my.toml:1:13 expected a number, a string or a list for `options.e`, found a boolean"]
        );
        assert_eq!(
            said("options.m = 'x'"),
            ["my.toml:1:13 unknown value `x` for `options.m` (choose `a`, `b` or `c`)"]
        );
        assert_eq!(
            said("options.m = 1"),
            ["my.toml:1:13 expected a string for `options.m`, found a number (choose `a`, `b` or `c`)"]
        );
        assert_eq!(
            said("options.u = {}"),
            ["my.toml:1:13 `options.u` has none of the forms that it can have (One shape or the other.)"]
        );
    }
}
