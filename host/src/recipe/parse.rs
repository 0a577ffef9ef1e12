//! TOML text to a `Document`: JSON values and the place of each key and value.
//!
//! The rule: what JSON cannot hold (dates, infinity, not-a-number, integers beyond 64 bits) is refused here, at its
//! place, and reading goes on, so that one pass reports everything. Such a value becomes `null`, which TOML cannot
//! write; `validate` stays silent about it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::document::{Document, Place, child};
use super::problem::{Location, Problem, Problems, Source};

/// Tables and lists deeper than this are refused; recipes need 6.
const DEEPEST: usize = 32;

impl Document {
    /// Reads TOML. `name` is what problems call the text, usually its path.
    ///
    /// # Errors
    ///
    /// All of the text's syntax errors and of its values that recipes do not use.
    pub fn parse(name: &str, text: &str) -> Result<Document, Problems> {
        let (document, problems) = Document::read(name, text)?;
        if problems.is_empty() { Ok(document) } else { Err(Problems::new(problems)) }
    }

    /// Like `parse`, but values that recipes do not use are handed back beside the document.
    pub(super) fn read(name: &str, text: &str) -> Result<(Document, Vec<Problem>), Problems> {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let source = Source::file(name, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(syntax_problems(&source, 0, table.get_ref(), errors));
        }
        let mut reader = Reader::new(&source, 0);
        let value = reader.table("", table.get_ref());
        let Reader { places, problems, .. } = reader;
        let document = Document { value, places, source, assignments: 0 };
        Ok((document, problems))
    }
}

/// Turns the TOML reader's errors into problems, the first of each line.
///
/// A bracket that is never closed swallows the text behind it, and whatever is said about that text misleads. So it is
/// reported where it was opened, and nothing after it.
pub(super) fn syntax_problems(
    source: &Arc<Source>,
    offset: usize,
    table: &DeTable<'_>,
    mut errors: Vec<toml::de::Error>,
) -> Problems {
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let unclosed = |error: &toml::de::Error| error.message().starts_with("unclosed array,");
    errors.sort_by_key(start);
    let opened =
        errors.iter().find(|error| unclosed(error)).and_then(|error| bracket_around(table, start(error)));

    let mut problems: Vec<Problem> = Vec::new();
    for error in &errors {
        let mut span = error.span().unwrap_or(0..0);
        if let Some(opened) = opened.filter(|opened| span.start >= *opened) {
            if !unclosed(error) {
                continue;
            }
            span = opened..opened + 1;
        }
        let location = source.at(span.start + offset..span.end + offset);
        let line = |location: &Location| location.line();
        let same_line = |seen: &Problem| seen.location.as_ref().map(line) == Some(line(&location));
        if problems.last().is_some_and(same_line) {
            continue;
        }
        let message = format!("invalid TOML: {}", message(error, span.is_empty()));
        problems.push(Problem::at(location, message));
        if unclosed(error) {
            break;
        }
    }
    Problems::new(problems)
}

/// The TOML reader's words, without those that lead astray.
fn message(error: &toml::de::Error, empty: bool) -> &str {
    match error.message().split_once(", expected ") {
        Some(("string values must be quoted", _)) if empty => "missing value",
        Some((problem, "nothing" | "literal string")) => problem,
        _ => error.message(),
    }
}

/// Where the outermost list around `position` starts.
fn bracket_around(table: &DeTable<'_>, position: usize) -> Option<usize> {
    table.iter().find_map(|(_, value)| {
        let span = value.span();
        match value.get_ref() {
            DeValue::Array(_) if span.start <= position && position <= span.end => Some(span.start),
            DeValue::Array(list) => list.iter().find_map(|element| {
                let table = element.get_ref().as_table()?;
                bracket_around(table, position)
            }),
            DeValue::Table(inner) => bracket_around(inner, position),
            _ => None,
        }
    })
}

/// Collects values, places and problems of one text.
pub(super) struct Reader<'a> {
    source: &'a Arc<Source>,
    /// What to add to the TOML reader's byte positions.
    offset: usize,
    /// The place of every entry read.
    pub places: BTreeMap<String, Place>,
    /// The values that were refused.
    pub problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Arc<Source>, offset: usize) -> Reader<'a> {
        Reader { source, offset, places: BTreeMap::new(), problems: Vec::new() }
    }

    fn at(&self, span: Range<usize>) -> Location {
        self.source.at(span.start + self.offset..span.end + self.offset)
    }

    fn table(&mut self, pointer: &str, table: &DeTable<'_>) -> Value {
        let mut object = Map::new();
        for (key, value) in table {
            let name = key.get_ref();
            let location = self.at(key.span());
            let value = self.value(&child(pointer, name), Some(location), value);
            object.insert(name.to_string(), value);
        }
        Value::Object(object)
    }

    /// Reads one value and notes its place under `pointer`.
    pub(super) fn value(
        &mut self,
        pointer: &str,
        key: Option<Location>,
        value: &Spanned<DeValue<'_>>,
    ) -> Value {
        let location = self.at(value.span());
        let place = Place { key, value: location.clone() };
        self.places.insert(pointer.to_owned(), place);
        let read = match value.get_ref() {
            DeValue::String(text) => Ok(Value::String(text.to_string())),
            DeValue::Boolean(truth) => Ok(Value::Bool(*truth)),
            DeValue::Integer(integer) => read_integer(integer),
            DeValue::Float(float) => read_float(float),
            DeValue::Datetime(_) => Err(Problem::new("dates and times are not used in recipes")
                .help("put it in quotes to make it text")),
            DeValue::Array(_) | DeValue::Table(_) if pointer.matches('/').count() > DEEPEST => {
                Err(Problem::new("this is nested too deeply"))
            }
            DeValue::Array(array) => {
                let elements = array.iter().enumerate();
                let elements = elements
                    .map(|(index, element)| self.value(&child(pointer, &index.to_string()), None, element));
                Ok(Value::Array(elements.collect()))
            }
            DeValue::Table(table) => Ok(self.table(pointer, table)),
        };
        read.unwrap_or_else(|problem| {
            let location = Some(location);
            self.problems.push(Problem { location, ..problem });
            Value::Null
        })
    }
}

fn read_integer(integer: &DeInteger<'_>) -> Result<Value, Problem> {
    match i64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) => Ok(number.into()),
        Err(_) => Err(Problem::new(format!("`{integer}` does not fit a 64-bit integer"))
            .help(format!("the largest is {}", i64::MAX))),
    }
}

fn read_float(float: &DeFloat<'_>) -> Result<Value, Problem> {
    let number = float.as_str().parse::<f64>().ok();
    match number.and_then(Number::from_f64) {
        Some(number) => Ok(Value::Number(number)),
        None => Err(Problem::new(format!("`{float}` is not a finite number"))
            .help("every number of a recipe is finite")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Document::parse("my.toml", text).expect_err("refused").to_string()
    }

    #[test]
    fn values_keep_their_types_and_keys_their_order() {
        let text = "b = 0x1_0\na = 1.0\nc = [true, 'x']\nd.e = {}\n";
        let document = Document::parse("my.toml", text).expect("valid TOML");
        assert_eq!(document.value().to_string(), r#"{"b":16,"a":1.0,"c":[true,"x"],"d":{"e":{}}}"#);
    }

    #[test]
    fn dates_infinity_and_huge_integers_are_refused_together() {
        let text = "a = 2024-01-01\nb = [-inf, 1e999]\nc = 9223372036854775808\n";
        assert_eq!(
            refused(text),
            "\
error: dates and times are not used in recipes
 --> my.toml:1:5
  |
1 | a = 2024-01-01
  |     ^^^^^^^^^^
  = help: put it in quotes to make it text

error: `-inf` is not a finite number
 --> my.toml:2:6
  |
2 | b = [-inf, 1e999]
  |      ^^^^
  = help: every number of a recipe is finite

error: `1e999` is not a finite number
 --> my.toml:2:12
  |
2 | b = [-inf, 1e999]
  |            ^^^^^
  = help: every number of a recipe is finite

error: `9223372036854775808` does not fit a 64-bit integer
 --> my.toml:3:5
  |
3 | c = 9223372036854775808
  |     ^^^^^^^^^^^^^^^^^^^
  = help: the largest is 9223372036854775807"
        );
    }

    #[test]
    fn every_line_with_a_syntax_error_is_reported() {
        assert_eq!(
            refused("a =\nb = True\nc = 1\nc = 2\n"),
            "\
error: invalid TOML: missing value
 --> my.toml:1:4
  |
1 | a =
  |    ^

error: invalid TOML: invalid boolean, expected `true`
 --> my.toml:2:5
  |
2 | b = True
  |     ^^^^

error: invalid TOML: duplicate key
 --> my.toml:4:1
  |
4 | c = 2
  | ^"
        );
    }

    #[test]
    fn nothing_is_said_about_what_an_open_bracket_swallowed() {
        assert_eq!(
            refused("b =\na = [1,\n[training]\nepochs = 3\nseed = 1\n"),
            "\
error: invalid TOML: missing value
 --> my.toml:1:4
  |
1 | b =
  |    ^

error: invalid TOML: unclosed array, expected `]`
 --> my.toml:2:5
  |
2 | a = [1,
  |     ^"
        );
    }

    #[test]
    fn an_open_bracket_is_found_inside_a_table_of_a_list() {
        let problems = refused("[[variants]]\n[[variants]]\na.b = [1,\n[x]\ny = True\n");
        assert_eq!(
            problems,
            "\
error: invalid TOML: unclosed array, expected `]`
 --> my.toml:3:7
  |
3 | a.b = [1,
  |       ^"
        );
    }

    #[test]
    fn a_byte_order_mark_moves_no_column() {
        assert!(refused("\u{FEFF}a = inf").contains("my.toml:1:5"));
    }

    #[test]
    fn deep_nesting_is_a_problem_and_not_a_crash() {
        for levels in [33, 60, 100, 100_000] {
            let lists = format!("a = {}{}", "[".repeat(levels), "]".repeat(levels));
            refused(&lists);
            refused(&format!("{}a = 1", "a.".repeat(levels)));
            refused(&format!("[{}a]", "a.".repeat(levels)));
        }
        let dotted = format!("{}a", "a.".repeat(70));
        let mixed = format!("{}1{}", format!("{{ {dotted} = ").repeat(70), "}".repeat(70));
        refused(&format!("[{dotted}]\n{dotted} = {mixed}"));
    }
}
