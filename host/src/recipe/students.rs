//! Networks to train on the synthetic images: a list of names, or of tables with `architecture` where something is to be
//! said.
//!
//! ```toml
//! students = ["resnet18", { architecture = "convnet", width = 32 }]
//! ```

use crate::network::Architecture;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{borrow::Cow, ops::Deref};

/// Networks, by name or as tables with `architecture`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Value>", into = "Vec<Architecture>")]
pub struct Students(pub Vec<Architecture>);

impl Students {
    /// Whether the recipe names none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What results call each: its architecture's name, with its place where two have the same.
    pub fn labels(&self) -> Vec<String> {
        let names: Vec<String> = self.iter().map(Architecture::name).collect();
        let label = |(index, name): (usize, &String)| {
            let same = names.iter().filter(|other| *other == name).count();
            if same == 1 { name.clone() } else { format!("{name}-{}", index + 1) }
        };
        names.iter().enumerate().map(label).collect()
    }
}

impl Deref for Students {
    type Target = [Architecture];

    fn deref(&self) -> &[Architecture] {
        &self.0
    }
}

impl From<Students> for Vec<Architecture> {
    fn from(students: Students) -> Self {
        students.0
    }
}

impl TryFrom<Vec<Value>> for Students {
    type Error = serde_json::Error;

    fn try_from(written: Vec<Value>) -> Result<Self, Self::Error> {
        let one = |written: Value| match written {
            Value::String(name) => serde_json::from_value(json!({ "architecture": name })),
            table => serde_json::from_value(table),
        };
        written.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for Students {
    fn schema_name() -> Cow<'static, str> {
        "Students".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let tables = Architecture::json_schema(generator);
        json_schema!({
            "type": "array",
            "items": { "anyOf": [{ "type": "string", "enum": Architecture::names() }, tables] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_table_that_says_nothing_else_and_equal_names_are_told_apart() {
        let written = json!(["resnet18", { "architecture": "convnet", "width": 8 }, "convnet"]);
        let read: Students = serde_json::from_value(written).unwrap();
        assert_eq!(read.labels(), ["resnet18", "convnet-2", "convnet-3"]);
        assert_eq!(read[2], Architecture::default());
        assert_ne!(read[1], read[2]);
    }

    #[test]
    fn the_schema_knows_every_name() {
        let schema = serde_json::to_value(schemars::schema_for!(Students)).unwrap();
        let names = schema["items"]["anyOf"][0]["enum"].as_array().unwrap();
        assert!(names.contains(&json!("wrn-16-2")) && names.contains(&json!("vit_tiny")));
        for name in names {
            assert!(serde_json::from_value::<Students>(json!([name])).is_ok(), "{name}");
        }
    }
}
