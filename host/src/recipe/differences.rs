//! Where two values differ.

use serde_json::Value;

use super::document::{child, dotted};

/// A place at which two values differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The pointer of the place.
    pub pointer: String,
    /// What is there in the one; nothing if it has no such place.
    pub before: Option<Value>,
    /// What is there in the other.
    pub after: Option<Value>,
}

impl Difference {
    /// The place as `--set` writes it.
    pub fn place(&self) -> String {
        dotted(&self.pointer)
    }

    /// `before → after`, in a few words.
    pub fn change(&self) -> String {
        format!("{} → {}", short(self.before.as_ref()), short(self.after.as_ref()))
    }
}

/// Tables and lists of the same length are compared element by element, all else as a whole.
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(pointer: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                compare(&child(pointer, key), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&child(pointer, &index.to_string()), Some(old), Some(new), found);
            }
        }
        _ if before != after => found.push(Difference {
            pointer: pointer.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
        _ => {}
    }
}

fn short(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".into(),
        Some(Value::Array(items)) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            format!("{} of them", items.len())
        }
        Some(Value::Object(_)) => "something".into(),
        Some(single) => single.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_told_with_its_place() {
        let before = json!({"a": {"b": [1, 2], "c": "x"}, "e": [1], "f": [{}]});
        let after = json!({"a": {"b": [1, 3], "d": true}, "e": [1, 2], "f": []});
        let told: Vec<String> = differences(&before, &after)
            .iter()
            .map(|each| format!("{} {}", each.place(), each.change()))
            .collect();
        assert_eq!(
            told,
            ["a.b.1 2 → 3", "a.c \"x\" → nothing", "a.d nothing → true", "e [1] → [1,2]", "f 1 of them → []"]
        );
    }
}
