//! `--set key.path=value`: one assignment typed on the command line, applied to a `Document`.
//!
//! The rule: an assignment is a text of its own. What it sets is reported at the assignment, not at the file.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Document, Place, child, dotted};
use super::parse::{Reader, syntax_problems};
use super::problem::{Location, Problem, Problems, Source};
use super::words::kind_of;

const USAGE: &str = "write `--set key.path=value`, for example `--set training.epochs=5`; lists count from 0";

/// One key of a path and its place in the assignment.
type Segment = (String, Range<usize>);

impl Document {
    /// Applies `key.path=value`. The value is read as TOML, else taken as a string; a number in the path picks an
    /// element of a list; missing tables are made.
    ///
    /// # Errors
    ///
    /// A path that is no key path or leads through something other than tables and lists, a list element that does
    /// not exist, and a value that recipes do not use. The recipe is then as it was.
    pub fn set(&mut self, assignment: &str) -> Result<(), Problems> {
        self.assignments += 1;
        let mut next = self.clone();
        let source = Source::assignment(assignment, next.assignments);
        let Some((key, _)) = assignment.split_once('=') else {
            let message = format!("`{assignment}` sets no value");
            return Err(Problem::at(source.at(0..assignment.len()), message).help(USAGE).into());
        };
        let Some(path) = key_path(key) else {
            let message = format!("`{}` is not a key path", key.trim());
            return Err(Problem::at(source.at(0..key.len()), message).help(USAGE).into());
        };

        let rest = &assignment[key.len() + 1..];
        let start = assignment.len() - rest.trim_start().len();
        let text = rest.trim();
        let parsed = match DeValue::parse(text) {
            Ok(value) => value,
            Err(error) if text.starts_with(['[', '{', '"', '\'']) => {
                return Err(syntax_problems(&source, start, &DeTable::new(), vec![error]));
            }
            Err(_) => Spanned::new(0..text.len(), DeValue::String(text.into())),
        };

        let path: Vec<(String, Location)> =
            path.into_iter().map(|(key, range)| (key, source.at(range))).collect();
        let pointer = next.open(&path)?;
        next.forget(&pointer);
        let mut reader = Reader::new(&source, start);
        let key = path.last().map(|(_, location)| location.clone());
        let value = reader.value(&pointer, key, &parsed);
        if !reader.problems.is_empty() {
            return Err(Problems::new(reader.problems));
        }
        if let Some(slot) = next.value.pointer_mut(&pointer) {
            *slot = value;
        }
        next.places.append(&mut reader.places);
        *self = next;
        Ok(())
    }

    /// Makes sure that there is something at `path`, and returns its pointer.
    pub(super) fn open(&mut self, path: &[(String, Location)]) -> Result<String, Problem> {
        let mut value = &mut self.value;
        let mut pointer = String::new();
        for (key, location) in path {
            let below = child(&pointer, key);
            value = match value {
                Value::Object(table) => {
                    if !table.contains_key(key) {
                        let place = Place { key: Some(location.clone()), value: location.clone() };
                        self.places.insert(below.clone(), place);
                    }
                    table.entry(key.as_str()).or_insert_with(|| Value::Object(Map::new()))
                }
                Value::Array(list) => {
                    let length = list.len();
                    let plain = key.parse::<usize>().ok().filter(|i| i.to_string() == *key);
                    let Some(element) = plain.and_then(|index| list.get_mut(index)) else {
                        let list = dotted(&pointer);
                        let message = format!("`{list}` has no element `{key}`");
                        let help = match length {
                            0 => "the list is empty".to_owned(),
                            1 => "its only element is 0".to_owned(),
                            _ => format!("its elements are 0 to {}", length - 1),
                        };
                        return Err(Problem::at(location.clone(), message).help(help));
                    };
                    element
                }
                other => {
                    let (path, kind) = (dotted(&pointer), kind_of(other));
                    let message = format!("`{path}` is {kind}, so it has no key `{key}`");
                    return Err(Problem::at(location.clone(), message));
                }
            };
            pointer = below;
        }
        Ok(pointer)
    }
}

/// Reads a key path with TOML's own rules, quoted keys included.
fn key_path(text: &str) -> Option<Vec<Segment>> {
    if text.contains(['\n', '\r']) {
        return None;
    }
    let line = format!("{text}=0");
    let root = DeTable::parse(&line).ok()?;
    let mut table = root.get_ref();
    let mut path = Vec::new();
    loop {
        let (key, value) = table.iter().next()?;
        path.push((key.get_ref().to_string(), key.span()));
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "seed = 0\n[training]\nepochs = 20\naugment = [\"flip\", \"crop\"]\n";

    fn after(assignments: &[&str]) -> String {
        let mut document = Document::parse("my.toml", TEXT).expect("valid TOML");
        for assignment in assignments {
            document.set(assignment).expect(assignment);
        }
        document.value().to_string()
    }

    fn refused(assignment: &str) -> String {
        let mut document = Document::parse("my.toml", TEXT).expect("valid TOML");
        let before = document.value().clone();
        let problems = document.set(assignment).expect_err(assignment);
        assert_eq!(document.value(), &before);
        problems.to_string()
    }

    #[test]
    fn a_value_is_toml_or_else_text() {
        let cases = [
            ("seed=7", r#""seed":7"#),
            ("seed = 7 ", r#""seed":7"#),
            ("seed=8/255", r#""seed":"8/255""#),
            ("seed=", r#""seed":"""#),
            ("seed=a=b", r#""seed":"a=b""#),
            ("seed='7'", r#""seed":"7""#),
            ("seed={ a = 1 }", r#""seed":{"a":1}"#),
        ];
        for (assignment, expected) in cases {
            let after = after(&[assignment]);
            assert!(after.contains(expected), "{assignment}: {after}");
        }
    }

    #[test]
    fn missing_tables_are_made_and_list_elements_are_found() {
        assert_eq!(
            after(&["evaluate.threat.norm=l2", "training.augment.1=flip"]),
            r#"{"seed":0,"training":{"epochs":20,"augment":["flip","flip"]},"evaluate":{"threat":{"norm":"l2"}}}"#
        );
    }

    #[test]
    fn what_was_set_comes_from_the_assignment() {
        let mut document = Document::parse("my.toml", TEXT).expect("valid TOML");
        document.set("training.augment=[\"crop\"]").expect("good");
        document.set("training.batch_size=4").expect("good");
        let origin = |pointer| document.origin(pointer).map(|place| place.to_string());
        let typed = "--set training.augment=[\"crop\"]";
        assert_eq!(origin("/training/augment/0").as_deref(), Some(typed));
        assert_eq!(origin("/training/augment/1"), None);
        assert_eq!(origin("/training").as_deref(), Some("my.toml:2:1"));
        assert_eq!(origin("/training/batch_size").as_deref(), Some("--set training.batch_size=4"));
    }

    #[test]
    fn an_assignment_without_a_value_says_how_to_write_one() {
        assert_eq!(
            refused("training.epochs"),
            "\
error: `training.epochs` sets no value
 --> --set training.epochs
  |
  | training.epochs
  | ^^^^^^^^^^^^^^^
  = help: write `--set key.path=value`, for example `--set training.epochs=5`; lists count from 0"
        );
        for path in ["=1", "a b=1", "[a]=1", "a..b=1", "a\nb=1"] {
            assert!(refused(path).contains("is not a key path"), "{path}");
        }
    }

    #[test]
    fn a_path_through_a_number_or_past_the_end_of_a_list_is_refused() {
        assert_eq!(
            refused("training.epochs.x=1"),
            "\
error: `training.epochs` is a number, so it has no key `x`
 --> --set training.epochs.x=1
  |
  | training.epochs.x=1
  |                 ^"
        );
        assert_eq!(
            refused("training.augment.2=crop"),
            "\
error: `training.augment` has no element `2`
 --> --set training.augment.2=crop
  |
  | training.augment.2=crop
  |                  ^
  = help: its elements are 0 to 1"
        );
    }

    #[test]
    fn a_broken_list_is_not_taken_for_text() {
        assert_eq!(
            refused("training.augment= [\"flip\""),
            "\
error: invalid TOML: unclosed array, expected `]`
 --> --set training.augment= [\"flip\"
  |
  | training.augment= [\"flip\"
  |                          ^"
        );
        assert!(refused("seed=nan").contains("`nan` is not a finite number"));
    }
}
