//! Values that a JSON Schema allows, made up at random.

use crate::plugin::resolved;
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// How deep tables may nest.
const DEPTH: u32 = 4;

/// Makes values up.
pub struct Fuzz<'a> {
    root: &'a Value,
    generator: ChaCha8Rng,
    depth: u32,
}

impl<'a> Fuzz<'a> {
    /// `root` is where references point into.
    pub fn new(root: &'a Value, seed: u64) -> Self {
        Self { root, generator: ChaCha8Rng::seed_from_u64(seed), depth: 0 }
    }

    /// A value for `schema`; most are allowed by it, for constraints that are rare are not looked at.
    pub fn value(&mut self, schema: &Value) -> Value {
        self.depth += 1;
        let value = self.of(resolved(schema, self.root));
        self.depth -= 1;
        value
    }

    fn of(&mut self, schema: &Value) -> Value {
        if self.depth > DEPTH {
            return Value::Null;
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(words) = schema["enum"].as_array() {
            return words.choose(&mut self.generator).cloned().unwrap_or_default();
        }
        for choice in ["oneOf", "anyOf", "allOf"] {
            if let Some(chosen) = schema[choice].as_array().and_then(|all| all.choose(&mut self.generator)) {
                return self.value(&chosen.clone());
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.choose(&mut self.generator).and_then(Value::as_str),
            kind => kind.as_str(),
        };
        match kind {
            Some("boolean") => json!(self.generator.random_bool(0.5)),
            Some("integer") => json!(self.number(schema).round() as i64),
            Some("number") => json!(self.number(schema)),
            Some("string") => json!(["", "pgd", "8/255", "ünïcode \"quoted\""].choose(&mut self.generator)),
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(0);
                let count = self.generator.random_range(least..=least + 2);
                (0..count).map(|_| self.value(&schema["items"])).collect()
            }
            Some("object") => self.table(schema),
            _ => Value::Null,
        }
    }

    fn table(&mut self, schema: &Value) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut table = Map::new();
        for (name, about) in schema["properties"].as_object().into_iter().flatten() {
            if required.contains(&name.as_str()) || self.generator.random_bool(0.5) {
                table.insert(name.clone(), self.value(about));
            }
        }
        Value::Object(table)
    }

    /// Mostly near 0, at times at an end of the range or far out.
    fn number(&mut self, schema: &Value) -> f64 {
        let bound = |name: &str| schema[name].as_f64();
        let exclusive = bound("exclusiveMinimum").map(|least| least + 1e-9);
        let least = bound("minimum").or(exclusive).unwrap_or(f64::from(i32::MIN));
        let greatest = bound("maximum").or(bound("exclusiveMaximum").map(|greatest| greatest - 1e-9));
        let greatest = greatest.unwrap_or(f64::from(i32::MAX)).max(least);
        let near = 10.0f64.powf(self.generator.random_range(-3.0..3.0));
        let wanted = match self.generator.random_range(0..10) {
            0 => least,
            1 => greatest,
            2 => -near,
            _ => least.max(0.0) + near,
        };
        wanted.clamp(least, greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_is_allowed_and_repeats_with_the_seed() {
        let schema = json!({
            "type": "object",
            "required": ["count"],
            "properties": {
                "count": { "type": "integer", "minimum": 1, "maximum": 9 },
                "share": { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
                "form": { "$ref": "#/$defs/Form" },
                "list": { "type": "array", "minItems": 1, "items": { "type": "boolean" } },
            },
            "$defs": { "Form": { "oneOf": [{ "const": "a" }, { "enum": ["b", "c"] }] } },
        });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let tables = |seed| {
            let mut fuzz = Fuzz::new(&schema, seed);
            (0..50).map(|_| fuzz.value(&schema)).collect::<Vec<_>>()
        };
        assert!(tables(1).iter().all(|table| validator.is_valid(table)));
        assert_eq!(tables(1), tables(1));
        assert_ne!(tables(1), tables(2));
    }
}
