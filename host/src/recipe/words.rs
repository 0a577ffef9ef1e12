//! Wording shared by all problems: lists of choices, the nearest valid name, the kinds of values.

use serde_json::Value;

/// What a reader calls this kind of value, with its article.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// What a reader calls a JSON Schema type, with its article; `None` for `null`, which TOML cannot write.
pub(super) fn kind_of_type(name: &str) -> Option<&str> {
    match name {
        "null" => None,
        "boolean" => Some("a boolean"),
        "integer" => Some("a whole number"),
        "number" => Some("a number"),
        "string" => Some("a string"),
        "array" => Some("a list"),
        "object" => Some("a table"),
        other => Some(other),
    }
}

/// `a, b or c`.
pub(super) fn either<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The start of a text, for use in a sentence.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Help for a wrong name: the nearest good one, else all of them.
pub(super) fn choose(wrong: &str, names: &[String]) -> Option<String> {
    if let Some(name) = nearest(wrong, names) {
        return Some(format!("did you mean `{name}`?"));
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => None,
        [only] => Some(format!("one valid choice is {only}")),
        _ => Some(format!("choose {}", either(&names))),
    }
}

/// The good name that a slip of the keyboard turns into the wrong one: a third of its letters at most.
pub(super) fn nearest<'a>(wrong: &str, names: &'a [String]) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let wrong = plain(wrong);
    let distance = |name: &String| strsim::damerau_levenshtein(&wrong, &plain(name));
    let near = |name: &String| {
        let letters = wrong.chars().count().max(name.chars().count());
        distance(name) <= (letters / 3).max(1) && distance(name) < letters
    };
    let candidates = names.iter().filter(|name| near(name));
    candidates.min_by_key(|name| distance(name)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_does_not() {
        let keys = names(&["epochs", "batch_size", "optimizer"]);
        assert_eq!(nearest("epoch", &keys), Some("epochs"));
        assert_eq!(nearest("batchsize", &keys), Some("batch_size"));
        assert_eq!(nearest("Batch-Size", &keys), Some("batch_size"));
        assert_eq!(nearest("optimiser", &keys), Some("optimizer"));
        assert_eq!(nearest("seed", &keys), None);
        assert_eq!(nearest("b", &names(&["a", "c"])), None);
    }

    #[test]
    fn help_names_the_nearest_or_lists_all() {
        let values = names(&["sgd", "adam", "adamw"]);
        assert_eq!(choose("sdg", &values).as_deref(), Some("did you mean `sgd`?"));
        let all = "choose `sgd`, `adam` or `adamw`";
        assert_eq!(choose("momentum", &values).as_deref(), Some(all));
        assert_eq!(choose("x", &[]), None);
    }
}
