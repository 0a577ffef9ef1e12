//! A variant laid over its recipe: the recipe again, with some keys replaced.
//!
//! The rule: tables merge key by key, everything else replaces, lists included. What belongs to a choice goes with
//! it: when the variant chooses another `kind`, `architecture` or `objective`, the settings of the recipe's own
//! choice do not stay behind, where they would be unknown keys.

use serde_json::{Map, Value};

use super::document::{Document, Mark, child, dotted, last, parent};
use super::problem::Problems;
use super::words::kind_of;

/// Keys that say what the rest of their table is about, and which of its entries go with the choice (none named: all).
const CHOICES: [(&str, &[&str]); 3] = [("kind", &[]), ("architecture", &[]), ("objective", &["options"])];

impl Document {
    /// The recipe with the table at `pointer` merged over it. The table's `name` and `baseline` are labels and change nothing;
    /// the top-level entry that holds the table (`variants`) is left out. Every part keeps its place in the text.
    ///
    /// # Errors
    ///
    /// There is no table at `pointer`.
    pub fn overlay(&self, pointer: &str) -> Result<Document, Problems> {
        let changes = match self.get(pointer) {
            Some(Value::Object(table)) => table,
            other => {
                let found = kind_of(other.unwrap_or(&Value::Null));
                let message = format!("expected a table for `{}`, found {found}", dotted(pointer));
                return Err(self.problem(pointer, Mark::Value, message).into());
            }
        };
        let mut merged = self.clone();
        if let Some(holder) = pointer.split('/').nth(1) {
            merged.remove(&format!("/{holder}"));
        }
        let mut changes = changes.clone();
        changes.shift_remove("name");
        changes.shift_remove("baseline");
        merged.merge("", self, pointer, &changes);
        Ok(merged)
    }

    /// Merges `changes`, which `from` has at `there`, into the table at `here`.
    pub(super) fn merge(&mut self, here: &str, from: &Document, there: &str, changes: &Map<String, Value>) {
        for entry in self.left_behind(here, changes) {
            self.remove(&child(here, &entry));
        }
        for (key, value) in changes {
            let (here, there) = (child(here, key), child(there, key));
            match (self.get(&here), value) {
                (Some(Value::Object(_)), Value::Object(changes)) => {
                    self.merge(&here, from, &there, changes);
                }
                _ => self.replace(&here, from, &there, value),
            }
        }
    }

    /// The entries of the table at `here` that belong to a choice which `changes` makes otherwise.
    fn left_behind(&self, here: &str, changes: &Map<String, Value>) -> Vec<String> {
        let Some(Value::Object(table)) = self.get(here) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (choice, with_it) in CHOICES {
            let before = table.get(choice);
            let after = changes.get(choice);
            if before.is_some() && after.is_some() && before != after {
                let goes = |key: &&String| with_it.is_empty() || with_it.contains(&key.as_str());
                entries.extend(table.keys().filter(goes).cloned());
            }
        }
        entries
    }

    fn replace(&mut self, here: &str, from: &Document, there: &str, value: &Value) {
        self.adopt(here, from, there);
        let table = parent(here).and_then(|up| self.value.pointer_mut(up));
        if let (Some(Value::Object(table)), Some(key)) = (table, last(here)) {
            table.insert(key, value.clone());
        }
    }

    /// Takes over the places at and below `there`.
    pub(super) fn adopt(&mut self, here: &str, from: &Document, there: &str) {
        self.forget(here);
        let below = format!("{there}/");
        for (at, place) in &from.places {
            if at == there || at.starts_with(&below) {
                let moved = format!("{here}{}", &at[there.len()..]);
                self.places.insert(moved, place.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"seed = 1
[training]
epochs = 20
augment = ["flip"]
optimizer = { kind = "sgd", momentum = 0.9 }
[distill]
objective = "sre2l"
images_per_class = 10
options = { r = 1 }
[[variants]]
name = "a"
training = { epochs = 5, augment = ["crop"], optimizer.momentum = 0.5 }
[[variants]]
name = "b"
training.optimizer = { kind = "adam" }
distill = { objective = "dm", options.s = 2 }
new.key = 1
"#;

    fn overlaid(pointer: &str) -> Document {
        let document = Document::parse("my.toml", TEXT).expect("valid TOML");
        document.overlay(pointer).expect("a table")
    }

    #[test]
    fn tables_merge_and_lists_replace() {
        assert_eq!(
            overlaid("/variants/0").value().to_string(),
            concat!(
                r#"{"seed":1,"#,
                r#""training":{"epochs":5,"augment":["crop"],"optimizer":{"kind":"sgd","momentum":0.5}},"#,
                r#""distill":{"objective":"sre2l","images_per_class":10,"options":{"r":1}}}"#
            )
        );
    }

    #[test]
    fn another_choice_leaves_the_settings_of_the_first_behind() {
        assert_eq!(
            overlaid("/variants/1").value().to_string(),
            concat!(
                r#"{"seed":1,"#,
                r#""training":{"epochs":20,"augment":["flip"],"optimizer":{"kind":"adam"}},"#,
                r#""distill":{"objective":"dm","images_per_class":10,"options":{"s":2}},"#,
                r#""new":{"key":1}}"#
            )
        );
    }

    #[test]
    fn every_part_points_at_where_it_was_written() {
        let merged = overlaid("/variants/0");
        let origin = |pointer| merged.origin(pointer).map(|place| place.to_string());
        assert_eq!(origin("/seed").as_deref(), Some("my.toml:1:8"));
        assert_eq!(origin("/training").as_deref(), Some("my.toml:2:1"));
        assert_eq!(origin("/training/epochs").as_deref(), Some("my.toml:12:23"));
        assert_eq!(origin("/training/augment/0").as_deref(), Some("my.toml:12:37"));
        assert_eq!(origin("/training/optimizer/kind").as_deref(), Some("my.toml:5:22"));
        assert_eq!(origin("/variants"), None);
    }

    #[test]
    fn only_a_table_can_be_laid_over() {
        let document = Document::parse("my.toml", TEXT).expect("valid TOML");
        let problems = document.overlay("/seed").expect_err("a number");
        assert!(problems.to_string().starts_with("error: expected a table for `seed`, found a number"));
        assert!(document.overlay("/variants/9").is_err());
    }
}
