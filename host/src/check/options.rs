//! The options' schema, and what the method makes of options that are right, wrong and made up.

use super::{ALL, Test, Verdict, fuzz::Fuzz, room::Room, subject::Subject};
use crate::plugin::resolved;
use guard_sdk::{Error, Result};
use serde_json::{Map, Value, json};

/// Made-up tables of options.
const TABLES: u32 = 60;

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "options-schema",
        about: "the JSON Schema of the options is valid, describes every option, and refuses unknown keys",
        kinds: ALL,
        run: schema,
    },
    Test {
        name: "default-options",
        about: "the method can be made without options, or with the example that its schema gives, and with all defaults",
        kinds: ALL,
        run: defaults,
    },
    Test {
        name: "option-ranges",
        about: "values at the ends of each range and beyond are taken or refused, never a panic",
        kinds: ALL,
        run: ranges,
    },
    Test {
        name: "made-up-options",
        about: "random options that the schema allows are taken, or refused with an error that says why",
        kinds: ALL,
        run: made_up,
    },
];

fn properties(schema: &Value) -> Vec<(&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten().collect()
}

fn schema(subject: &Subject) -> Result<Verdict> {
    let schema = &subject.schema;
    if let Err(error) = jsonschema::meta::validate(schema) {
        return Ok(Verdict::Failed(format!("it is no JSON Schema: {error}")));
    }
    let validator = validator(schema)?;
    let mut unknown = subject.options();
    unknown["an-option-that-nobody-has"] = json!(1);
    if validator.is_valid(&unknown) {
        let advice = "add `#[serde(deny_unknown_fields)]` to the options";
        return Ok(Verdict::Failed(format!("it allows keys that do not exist; {advice}")));
    }
    let described = |about: &Value| {
        about["description"].is_string() || resolved(about, schema)["description"].is_string()
    };
    let bare = properties(schema).into_iter().find(|(_, about)| !described(about));
    Ok(bare.map_or(Verdict::Passed, |(name, _)| {
        Verdict::Failed(format!("the option `{name}` has no description; give it a doc comment"))
    }))
}

fn defaults(subject: &Subject) -> Result<Verdict> {
    let validator = validator(&subject.schema)?;
    let options = subject.options();
    if let Some(error) = validator.iter_errors(&options).next() {
        let advice = "give options defaults, or the schema an example: `#[schemars(extend(\"examples\" = [{ ... }]))]`";
        return Ok(Verdict::Failed(format!("`{options}`: {error}; {advice}")));
    }
    let room = Room::usual(subject.seed)?;
    drop(subject.make(&room)?);
    // Every default in full.
    let mut full = options;
    for (name, about) in properties(&subject.schema) {
        if let (Some(default), Some(table)) = (about.get("default"), full.as_object_mut())
            && !table.contains_key(name)
        {
            table.insert(name.clone(), default.clone());
        }
    }
    if let Some(error) = validator.iter_errors(&full).next() {
        return Ok(Verdict::Failed(format!(
            "a default is not allowed: {error} at `{}`",
            error.instance_path()
        )));
    }
    drop(subject.make_with(&room, &full).map_err(|error| error.context("with every default in full"))?);
    Ok(Verdict::Passed)
}

fn ranges(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    for (name, about) in properties(&subject.schema) {
        let bounds = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];
        let about = resolved(about, &subject.schema);
        let ends = bounds.iter().filter_map(|bound| about[bound].as_f64());
        let values = ends.flat_map(|end| [end - 1.0, end, end + 1.0]).map(|value| match value.fract() {
            0.0 if value.abs() < 1e15 => json!(value as i64),
            _ => json!(value),
        });
        for value in values.chain([json!("neither this nor that"), json!(null), json!([]), json!(1e308)]) {
            let mut options = subject.options();
            options[name] = value;
            if let Some(verdict) = wrong(subject, &room, &options) {
                return Ok(verdict);
            }
        }
    }
    Ok(Verdict::Passed)
}

fn made_up(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    let validator = validator(&subject.schema)?;
    let mut fuzz = Fuzz::new(&subject.schema, subject.seed);
    for _ in 0..TABLES {
        let mut options = subject.options();
        if let (Some(table), Value::Object(made_up)) = (options.as_object_mut(), fuzz.value(&subject.schema))
        {
            table.extend(made_up.into_iter().collect::<Map<_, _>>());
        }
        if validator.is_valid(&options)
            && let Some(Verdict::Failed(why)) = wrong(subject, &room, &options)
        {
            return Ok(Verdict::Failed(format!("seed {}: {why}", subject.seed)));
        }
    }
    Ok(Verdict::Passed)
}

/// What is wrong with how the method takes `options`.
fn wrong(subject: &Subject, room: &Room, options: &Value) -> Option<Verdict> {
    match subject.make_with(room, options) {
        Err(error) if matches!(error.code.as_str(), "panic" | "poisoned" | "interface") => {
            Some(Verdict::Failed(format!("`{options}`: {}", error.message)))
        }
        _ => None,
    }
}

fn validator(schema: &Value) -> Result<jsonschema::Validator> {
    jsonschema::validator_for(schema).map_err(|error| Error::new(format!("the options' schema: {error}")))
}
