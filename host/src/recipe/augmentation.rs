//! Random changes to images: a list of names, or of tables with `kind` where something is to be said.
//!
//! ```toml
//! augment = ["flip", { kind = "random-resized-crop", scale = [0.25, 1.0] }]
//! ```

use guard_sdk::augment::{ColorJitterOptions, DsaOptions, PaddedCropOptions, ResizedCropOptions};
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
    /// Pads and cuts the original size out at a random place.
    Crop(PaddedCropOptions),
    /// Cuts a part of random size and aspect ratio out at a random place and resizes it to the original size.
    RandomResizedCrop(ResizedCropOptions),
    /// Changes brightness, contrast, saturation and hue at random, each as far as said.
    ColorJitter(ColorJitterOptions),
    /// Differentiable Siamese augmentation: one change for the whole batch, of a strength of its own for each image.
    Dsa(DsaOptions),
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
        let crop = |padding| Augmentation::Crop(PaddedCropOptions { padding, ..Default::default() });
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
