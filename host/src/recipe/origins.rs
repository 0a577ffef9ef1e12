//! Where each value of a complete recipe comes from, and TOML that says so.

use toml_edit::{DocumentMut, Item, Table};

use super::document::{Document, child, parent};
use super::presets::Preset;

impl Document {
    /// Where the value at `pointer` of the complete recipe comes from: the place where it was written, `preset NAME`, or
    /// `default`.
    pub fn comes_from(&self, pointer: &str) -> String {
        if let Some(place) = self.origin(pointer) {
            return place.to_string();
        }
        // What a recipe writes in fewer words, such as `epsilon = "curve"`, is complete in more.
        let mut at = pointer;
        while let Some(up) = parent(at) {
            if let (Some(place), Some(value)) = (self.origin(up), self.get(up))
                && !value.is_object()
                && !value.is_array()
            {
                return place.to_string();
            }
            at = up;
        }
        match self.preset_says(pointer) {
            Some(preset) => format!("preset {preset}"),
            None => "default".to_owned(),
        }
    }

    fn preset_says(&self, pointer: &str) -> Option<String> {
        let name = self.get("/student/preset")?;
        let preset: Preset = serde_json::from_value(name.clone()).ok()?;
        let (table, rest) = pointer.split_at(pointer[1..].find('/')? + 1);
        let tables = preset.tables();
        let (_, defaults) = tables.iter().find(|(at, _)| *at == table)?;
        defaults.pointer(rest).and_then(|_| name.as_str().map(str::to_owned))
    }
}

/// TOML in which every value has a comment from `origin`, which is asked for its pointer.
///
/// # Errors
///
/// The text is not TOML.
pub fn annotated(
    text: &str,
    origin: &dyn Fn(&str) -> Option<String>,
) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    annotate(document.as_table_mut(), "", origin);
    Ok(document.to_string())
}

fn annotate(table: &mut Table, pointer: &str, origin: &dyn Fn(&str) -> Option<String>) {
    for (key, item) in table.iter_mut() {
        let at = child(pointer, key.get());
        match item {
            Item::Value(value) => {
                if let Some(origin) = origin(&at) {
                    value.decor_mut().set_suffix(format!("  # {origin}"));
                }
            }
            Item::Table(inner) => annotate(inner, &at, origin),
            Item::ArrayOfTables(tables) => {
                for (index, inner) in tables.iter_mut().enumerate() {
                    annotate(inner, &child(&at, &index.to_string()), origin);
                }
            }
            Item::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::load;

    #[test]
    fn every_value_says_where_it_comes_from() {
        let text = "[data]\ndataset = \"digits\"\n[student]\npreset = \"guard-cifar\"\n[evaluate.threat]\nnorm = \"linf\"\nepsilon = \"curve\"\n[[evaluate.attacks]]\nuse = \"pgd\"\n";
        let loaded = load("my.toml", text, &["training.epochs=5".to_owned()]).unwrap();
        let document = &loaded.variants[0].document;
        let complete = toml::to_string(&loaded.variants[0].recipe).unwrap();
        let text = annotated(&complete, &|pointer| Some(document.comes_from(pointer))).unwrap();
        for line in [
            "dataset = \"digits\"  # my.toml:2:11",
            "epochs = 5  # --set training.epochs=5",
            "seed = 0  # default",
            "use = \"pgd\"  # my.toml:9:7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        assert!(line("epsilon = [").ends_with("# my.toml:7:11"), "{text}");
        assert!(text.contains("  # preset guard-cifar"), "{text}");
        assert_eq!(toml::from_str::<toml::Value>(&text).unwrap(), toml::from_str(&complete).unwrap());
    }
}
