//! What synthetic images start from: two words, or a path.

use guard_sdk::objective::Start;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, path::PathBuf};

/// What synthetic images start from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FirstImages {
    /// `noise` or `real`.
    Made(Start),
    /// A distilled set: the folder that a run left, or a safetensors file with `images` and `labels`.
    Given(PathBuf),
}

impl JsonSchema for FirstImages {
    fn schema_name() -> Cow<'static, str> {
        "FirstImages".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_are_known_and_all_else_is_a_path() {
        let read = |text: &str| serde_json::from_value::<FirstImages>(text.into()).unwrap();
        assert_eq!(read("noise"), FirstImages::Made(Start::Noise));
        assert_eq!(read("real"), FirstImages::Made(Start::Real));
        assert_eq!(read("runs/dm/distilled"), FirstImages::Given("runs/dm/distilled".into()));
        assert_eq!(serde_json::to_value(read("real")).unwrap(), "real");
    }
}
