//! Random changes to images: a list of names, or of tables with `kind` where something is to be said.
//!
//! ```toml
//! augment = ["flip", { kind = "random-resized-crop", scale = [0.25, 1.0] }]
//! ```

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{borrow::Cow, ops::Deref};

/// A random change to each image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Augmentation {
    /// Mirrors half of the images left to right.
    Flip,
    /// Pads with zeros and cuts the original size out at a random place.
    Crop(PaddedCrop),
    /// Cuts a part of random size and aspect ratio out at a random place and resizes it to the original size.
    RandomResizedCrop(ResizedCrop),
}

/// Pads with zeros and cuts the original size out at a random place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PaddedCrop {
    /// Pixels of padding on each side.
    #[schemars(range(min = 1))]
    pub padding: u32,
}

impl Default for PaddedCrop {
    fn default() -> Self {
        Self { padding: 4 }
    }
}

/// Cuts a part of random size and aspect ratio out at a random place and resizes it to the original size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResizedCrop {
    /// The smallest and the largest share of the image's area that is kept, above 0 and at most 1.
    #[schemars(extend("items" = json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 })))]
    pub scale: [f64; 2],
}

impl Default for ResizedCrop {
    fn default() -> Self {
        Self { scale: [0.08, 1.0] }
    }
}

/// Random changes to each image, in this order; by name, or as tables with `kind` where something is to be said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Value>", into = "Vec<Augmentation>")]
pub struct Augmentations(pub Vec<Augmentation>);

impl Deref for Augmentations {
    type Target = [Augmentation];

    fn deref(&self) -> &[Augmentation] {
        &self.0
    }
}

impl From<Augmentations> for Vec<Augmentation> {
    fn from(augmentations: Augmentations) -> Self {
        augmentations.0
    }
}

impl TryFrom<Vec<Value>> for Augmentations {
    type Error = serde_json::Error;

    fn try_from(written: Vec<Value>) -> Result<Self, Self::Error> {
        let one = |written: Value| match written {
            Value::String(name) => serde_json::from_value(json!({ "kind": name })),
            table => serde_json::from_value(table),
        };
        written.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for Augmentations {
    fn schema_name() -> Cow<'static, str> {
        "Augmentations".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tables = Augmentation::json_schema(generator);
        let forms = tables.get("oneOf").and_then(Value::as_array);
        let names: Vec<&Value> =
            forms.into_iter().flatten().map(|form| &form["properties"]["kind"]["const"]).collect();
        json_schema!({
            "type": "array",
            "items": { "anyOf": [{ "type": "string", "enum": names }, tables] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_table_that_says_nothing_else() {
        let written = json!(["crop", { "kind": "crop" }, { "kind": "crop", "padding": 2 }, "flip"]);
        let read: Augmentations = serde_json::from_value(written).unwrap();
        let crop = |padding| Augmentation::Crop(PaddedCrop { padding });
        assert_eq!(*read, [crop(4), crop(4), crop(2), Augmentation::Flip]);
    }

    #[test]
    fn the_schema_knows_every_name() {
        let schema = serde_json::to_value(schemars::schema_for!(Augmentations)).unwrap();
        for name in schema["items"]["anyOf"][0]["enum"].as_array().unwrap() {
            assert!(serde_json::from_value::<Augmentations>(json!([name])).is_ok(), "{name}");
        }
    }
}
