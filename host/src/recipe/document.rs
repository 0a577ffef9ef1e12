//! A recipe's text as a JSON value that remembers where each part of it was written.
//!
//! The rule: whoever finds fault with a value, names it by its JSON pointer (`/training/epochs`); this index turns the
//! pointer into file, line, column and caret. Nothing here knows what a recipe contains.
//!
//! `parse` reads TOML, `assign` applies `--set`, `overlay` applies a variant, `validate` checks against a JSON Schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::problem::{Location, Problem, Source};

/// A parsed recipe with the place of every key and value.
#[derive(Clone, Debug)]
pub struct Document {
    pub(super) value: Value,
    pub(super) places: BTreeMap<String, Place>,
    pub(super) source: Arc<Source>,
    /// How many `--set` assignments there have been, refused ones included.
    pub(super) assignments: usize,
}

/// Where one entry was written.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The key; list elements have none.
    pub key: Option<Location>,
    /// The value; for a table with a header, the header.
    pub value: Location,
}

/// Which part of an entry the carets point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The key; for a list element, its value.
    Key,
    /// The value; for a table with a header, the header.
    Value,
}

impl Document {
    /// The whole recipe.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The part at a JSON pointer; `""` is the whole recipe.
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    /// Where the value at `pointer` was written; `None` for what the recipe does not say.
    pub fn origin(&self, pointer: &str) -> Option<Location> {
        self.places.get(pointer).map(|place| place.value.clone())
    }

    /// A problem with the entry at `pointer`, or with the nearest table around it when it was not written.
    pub fn problem(&self, pointer: &str, mark: Mark, message: impl Into<String>) -> Problem {
        Problem::at(self.locate(pointer, mark), message)
    }

    /// The recipe's file as a whole.
    pub(super) fn whole(&self) -> Location {
        self.source.whole()
    }

    fn locate(&self, pointer: &str, mark: Mark) -> Location {
        let mut at = pointer;
        loop {
            if let Some(place) = self.places.get(at) {
                let written = at.len() == pointer.len();
                let key = place.key.as_ref().filter(|_| written && mark == Mark::Key);
                return key.unwrap_or(&place.value).clone();
            }
            match parent(at) {
                Some(up) => at = up,
                None => return self.source.whole(),
            }
        }
    }

    /// Takes the entry at `pointer` out of its table.
    pub(super) fn remove(&mut self, pointer: &str) {
        let Some(table) = parent(pointer).and_then(|up| self.value.pointer_mut(up)) else {
            return;
        };
        if let (Value::Object(table), Some(key)) = (table, last(pointer)) {
            table.shift_remove(&key);
            self.forget(pointer);
        }
    }

    /// Drops the places at and below `pointer`.
    pub(super) fn forget(&mut self, pointer: &str) {
        let below = format!("{pointer}/");
        self.places.retain(|at, _| at != pointer && !at.starts_with(&below));
    }
}

/// The pointer of an entry of the table or list at `pointer`.
pub fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The pointer of the table or list around `pointer`; `None` for the root.
pub(super) fn parent(pointer: &str) -> Option<&str> {
    pointer.rfind('/').map(|slash| &pointer[..slash])
}

/// The last key of a pointer, unescaped; `None` for the root.
pub(super) fn last(pointer: &str) -> Option<String> {
    let slash = pointer.rfind('/')?;
    Some(unescape(&pointer[slash + 1..]))
}

/// `/training/regularizers/0` as `training.regularizers.0`, the way `--set` writes it.
pub(super) fn dotted(pointer: &str) -> String {
    let keys = pointer.split('/').skip(1).map(|key| {
        let key = unescape(key);
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !key.is_empty() && key.chars().all(bare) { key } else { format!("{key:?}") }
    });
    keys.collect::<Vec<_>>().join(".")
}

fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let text = "seed = 3\n[training]\nepochs = 20\n[[variants]]\nname = \"a\"\n";
        Document::parse("my.toml", text).expect("valid TOML")
    }

    #[test]
    fn an_origin_is_file_line_and_column() {
        let document = document();
        let origin = |pointer| document.origin(pointer).map(|place| place.to_string());
        assert_eq!(origin("/seed").as_deref(), Some("my.toml:1:8"));
        assert_eq!(origin("/training").as_deref(), Some("my.toml:2:1"));
        assert_eq!(origin("/variants/0/name").as_deref(), Some("my.toml:5:8"));
        assert_eq!(origin("/training/batch_size"), None);
    }

    #[test]
    fn a_problem_points_at_the_key_at_the_value_or_at_the_table_around() {
        let document = document();
        let place = |pointer, mark| {
            let location = document.problem(pointer, mark, "x").location;
            location.map(|place| place.to_string()).unwrap_or_default()
        };
        assert_eq!(place("/training/epochs", Mark::Key), "my.toml:3:1");
        assert_eq!(place("/training/epochs", Mark::Value), "my.toml:3:10");
        assert_eq!(place("/training/batch/size", Mark::Key), "my.toml:2:1");
        assert_eq!(place("/variants/0", Mark::Key), "my.toml:4:1");
        assert_eq!(place("/data", Mark::Key), "my.toml");
    }

    #[test]
    fn a_pointer_reads_as_the_key_path_of_set() {
        assert_eq!(dotted("/training/regularizers/0"), "training.regularizers.0");
        assert_eq!(dotted("/a b/c~1d"), "\"a b\".\"c/d\"");
        assert_eq!(last(&child("/x", "a/~b")).as_deref(), Some("a/~b"));
    }

    #[test]
    fn what_is_removed_leaves_no_place_behind() {
        let mut document = document();
        document.remove("/training");
        assert_eq!(document.get("/training"), None);
        assert_eq!(document.origin("/training/epochs"), None);
        assert!(document.origin("/seed").is_some());
    }
}
