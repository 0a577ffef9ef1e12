//! Says in plain words what a JSON Schema finds wrong, each thing at its place in the recipe.
//!
//! The rule: the words are for someone who writes recipes and has never seen a schema. A key path stands in
//! backticks as `--set` takes it, and where a good name or a shape is known, help shows it.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::document::{Document, Mark, child, dotted, last, parent};
use super::problem::Problem;
use super::schema::{description, property_names, resolve, type_names};
use super::words::{choose, either, kind_of, kind_of_type, short};

/// Explains the errors of one validation.
pub(super) struct Explain<'a> {
    document: &'a Document,
    /// The schema, whole.
    pub schema: &'a Value,
    /// Where the validated value is in the document.
    at: &'a str,
}

impl<'a> Explain<'a> {
    pub(super) fn new(document: &'a Document, schema: &'a Value, at: &'a str) -> Explain<'a> {
        Explain { document, schema, at }
    }

    /// The problems behind one error: none where another error says the same, several where forms are nested.
    pub(super) fn error(&self, error: &ValidationError<'_>) -> Vec<Problem> {
        let value = error.instance().as_ref();
        if value.is_null() {
            // A value that was refused while reading; that has been said.
            return Vec::new();
        }
        let pointer = self.pointer(error);
        match error.kind() {
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => self.forms(error, context),
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                let names = property_names(self.schema, self.owner(error));
                let pointers = unexpected.iter().map(|key| child(&pointer, key));
                pointers.map(|pointer| unknown_key(self.document, &pointer, &names)).collect()
            }
            Kind::Required { property } => {
                vec![self.missing_key(error, property.as_str().unwrap_or_default())]
            }
            kind if kind.keyword() == "type" => {
                let owner = self.owner(error);
                let problem = self.wrong_type(&pointer, value, &type_names(&owner["type"]));
                // A bare name where a table wants nothing but a name.
                let required = owner["required"].as_array().map(Vec::as_slice);
                vec![match (value, required) {
                    (Value::String(_), Some([Value::String(key)])) => {
                        problem.help(format!("write `{{ {key} = {} }}`", short(&value.to_string())))
                    }
                    _ => problem,
                }]
            }
            Kind::Enum { options } => {
                let options = options.as_array().map_or(&[][..], Vec::as_slice);
                let typed = self.owner(error).get("type").is_some();
                let same_kind = |option: &Value| kind_of(option) == kind_of(value);
                if typed && !options.iter().any(same_kind) {
                    return Vec::new();
                }
                vec![self.unknown_value(&pointer, value, options)]
            }
            Kind::Constant { expected_value } => {
                let options = std::slice::from_ref(expected_value.as_ref());
                vec![self.unknown_value(&pointer, value, options)]
            }
            Kind::Pattern { pattern } => {
                let message = format!("{} is not a valid value for {}", shown(value), name(&pointer));
                let help = description(self.owner(error));
                let help = help.unwrap_or_else(|| format!("it must match the pattern `{pattern}`"));
                vec![self.at_value(&pointer, message).help(help)]
            }
            _ => vec![self.at_value(&pointer, self.sentence(error, &name(&pointer)))],
        }
    }

    /// Errors that one sentence tells.
    fn sentence(&self, error: &ValidationError<'_>, name: &str) -> String {
        let value = error.instance().as_ref();
        let must = |words: &str, limit: &dyn std::fmt::Display| {
            format!("{name} must be {words} {limit}, found {value}")
        };
        match error.kind() {
            Kind::Minimum { limit } => must("at least", &plain(limit)),
            Kind::Maximum { limit } => must("at most", &plain(limit)),
            Kind::ExclusiveMinimum { limit } => must("greater than", &plain(limit)),
            Kind::ExclusiveMaximum { limit } => must("less than", &plain(limit)),
            Kind::MultipleOf { multiple_of } => must("a multiple of", multiple_of),
            Kind::MinItems { limit } | Kind::MaxItems { limit } => {
                let found = value.as_array().map_or(0, Vec::len);
                let owner = self.owner(error);
                let words = match error.kind() {
                    _ if owner["minItems"] == owner["maxItems"] => "exactly",
                    Kind::MinItems { .. } => "at least",
                    _ => "at most",
                };
                let elements = if *limit == 1 { "element" } else { "elements" };
                format!("{name} needs {words} {limit} {elements}, found {found}")
            }
            Kind::MinLength { limit: 1 } => format!("{name} must not be empty"),
            Kind::MinLength { limit } => format!("{name} needs at least {limit} characters"),
            Kind::MaxLength { limit } => format!("{name} has more than {limit} characters"),
            Kind::UniqueItems => format!("{name} lists the same thing twice"),
            Kind::OneOfMultipleValid { .. } => format!("{name} can be read in more than one way"),
            Kind::FalseSchema => format!("{name} is not allowed here"),
            _ => format!("{name} is not valid: {}", error.masked()),
        }
    }

    /// A required key that is not there, with its description.
    pub(super) fn missing_key(&self, error: &ValidationError<'_>, key: &str) -> Problem {
        let table = self.pointer(error);
        let message = format!("missing key `{key}`{}", within(&table));
        let problem = self.at_value(&table, message);
        let property = &self.owner(error)["properties"][key];
        match description(property).or_else(|| description(resolve(self.schema, property))) {
            Some(help) => problem.help(help),
            None => problem,
        }
    }

    /// A value of another type than the schema's.
    pub(super) fn wrong_type(&self, pointer: &str, value: &Value, types: &[String]) -> Problem {
        let wanted = |name: &str| types.iter().any(|wanted| wanted == name);
        let mut expected: Vec<&str> = Vec::new();
        for kind in types.iter().filter_map(|name| kind_of_type(name)) {
            if !expected.contains(&kind) {
                expected.push(kind);
            }
        }
        let found = match value {
            Value::Number(number) if wanted("integer") => number.to_string(),
            other => kind_of(other).to_owned(),
        };
        let (expected, name) = (either(&expected), name(pointer));
        let problem = match expected.as_str() {
            "" => format!("{name} has none of the forms that it can have"),
            _ => format!("expected {expected} for {name}, found {found}"),
        };
        let problem = self.at_value(pointer, problem);

        let quoted = match value {
            Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        let unquoted = match &quoted {
            Value::Number(number) if number.is_f64() => wanted("number"),
            Value::Number(_) => wanted("number") || wanted("integer"),
            Value::Bool(_) => wanted("boolean"),
            _ => false,
        };
        if unquoted {
            problem.help(format!("leave out the quotes: {quoted}"))
        } else if wanted("array") && value.is_object() {
            let list = dotted(pointer);
            problem.help(format!("each table of a list has a header `[[{list}]]`"))
        } else if wanted("array") && !wanted("string") {
            problem.help(format!("write `[{}]`", short(&value.to_string())))
        } else {
            problem
        }
    }

    /// A value that is none of the choices.
    pub(super) fn unknown_value(&self, pointer: &str, value: &Value, options: &[Value]) -> Problem {
        let same_kind = |option: &Value| kind_of(option) == kind_of(value);
        let problem = if options.iter().any(same_kind) {
            format!("unknown value {} for {}", shown(value), name(pointer))
        } else {
            let mut expected: Vec<&str> = options.iter().map(kind_of).collect();
            expected.dedup();
            let (expected, found) = (either(&expected), kind_of(value));
            format!("expected {expected} for {}, found {found}", name(pointer))
        };
        let wrong = value.as_str().unwrap_or_default();
        let options: Vec<String> = options.iter().map(text_of).collect();
        let problem = self.at_value(pointer, problem);
        match choose(wrong, &options) {
            Some(help) => problem.help(help),
            None => problem,
        }
    }

    /// A problem with the value at `pointer`.
    pub(super) fn at_value(&self, pointer: &str, message: String) -> Problem {
        self.document.problem(pointer, Mark::Value, message)
    }

    /// Where in the document the error is.
    pub(super) fn pointer(&self, error: &ValidationError<'_>) -> String {
        format!("{}{}", self.at, error.instance_path().as_str())
    }

    /// The schema whose keyword failed.
    pub(super) fn owner(&self, error: &ValidationError<'_>) -> &'a Value {
        let owner = parent(error.schema_path().as_str()).and_then(|path| self.schema.pointer(path));
        owner.unwrap_or(&Value::Null)
    }
}

/// An unknown key, with the nearest of the names it could have.
pub(super) fn unknown_key(document: &Document, pointer: &str, names: &[String]) -> Problem {
    let key = last(pointer).unwrap_or_default();
    let table = within(parent(pointer).unwrap_or_default());
    let problem = document.problem(pointer, Mark::Key, format!("unknown key `{key}`{table}"));
    match choose(&key, names) {
        Some(help) => problem.help(help),
        None => problem.help("no keys are known here"),
    }
}

/// The key path in backticks.
pub(super) fn name(pointer: &str) -> String {
    match pointer {
        "" => "the recipe".to_owned(),
        _ => format!("`{}`", dotted(pointer)),
    }
}

fn within(table: &str) -> String {
    match table {
        "" => String::new(),
        _ => format!(" in `{}`", dotted(table)),
    }
}

/// A value as it can stand in a sentence.
pub(super) fn shown(value: &Value) -> String {
    format!("`{}`", short(&text_of(value)))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A limit as people write it: `0` for `0.0`.
fn plain(limit: &Value) -> String {
    let text = limit.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
