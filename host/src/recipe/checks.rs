//! What a schema cannot say about a recipe: how its values must fit together.
//!
//! The rule: these checks read the document, not the typed recipe, so that they speak in the same pass as the schema
//! even when other parts are broken; on values of the wrong type they are silent, since the schema has spoken.

use serde_json::Value;

use super::document::{Document, Mark, child, dotted};
use super::epsilon::{Epsilon, EpsilonError};
use super::problem::Problem;

/// Leaves room for what is added to a name, where file systems end at 255 bytes.
pub(super) const LONGEST_NAME: usize = 100;

/// Everything that does not fit together in the recipe.
pub(super) fn check(document: &Document) -> Vec<Problem> {
    let name = folder_name(document, "/name");
    let mut problems: Vec<Problem> = name.into_iter().collect();
    problems.extend(channels(document));
    problems.extend(radii(document));
    problems.extend(attacks(document));
    problems.extend(students(document));
    problems.extend(student_loss(document));
    problems.extend(image_penalties(document));
    for optimizer in ["/training", "/distill", "/student"] {
        problems.extend(nesterov(document, &format!("{optimizer}/optimizer")));
    }
    problems
}

/// Names become folders, on any file system.
pub(super) fn folder_name(document: &Document, pointer: &str) -> Option<Problem> {
    let name = document.get(pointer)?.as_str()?;
    let fit = |c: char| c.is_ascii_alphanumeric() || "._ +-".contains(c);
    let message = if name.trim().is_empty() {
        "a name must not be empty".to_owned()
    } else if name.starts_with('.') {
        format!("the name `{name}` starts with a dot")
    } else if name.trim() != name {
        format!("the name `{name}` starts or ends with a space")
    } else if name.chars().count() > LONGEST_NAME {
        format!("a name has at most {LONGEST_NAME} characters")
    } else if let Some(other) = name.chars().find(|c| !fit(*c)) {
        format!("the name `{name}` contains `{other}`")
    } else {
        return None;
    };
    let help = "it becomes a folder: letters, digits, spaces and `.`, `_`, `+`, `-` are good";
    Some(document.problem(pointer, Mark::Value, message).help(help))
}

/// `data.mean` and `data.std` describe the same channels.
fn channels(document: &Document) -> Option<Problem> {
    let length = |pointer| Some(document.get(pointer)?.as_array()?.len());
    let (mean, std) = ("/data/mean", "/data/std");
    match (document.get(mean), document.get(std)) {
        (Some(_), None) => Some(
            document
                .problem(mean, Mark::Key, "`data.mean` is given without `data.std`")
                .help("give both, or neither for the data set's own"),
        ),
        (None, Some(_)) => Some(
            document
                .problem(std, Mark::Key, "`data.std` is given without `data.mean`")
                .help("give both, or neither for the data set's own"),
        ),
        _ => {
            let (means, stds) = (length(mean)?, length(std)?);
            let message = format!("`data.std` has {stds} channels, `data.mean` has {means}");
            (means != stds).then(|| document.problem(std, Mark::Value, message))
        }
    }
}

/// Radii are above 0, and within a pixel's range where the norm is of single pixels.
fn radii(document: &Document) -> Vec<Problem> {
    let at = "/evaluate/threat/epsilon";
    let linf = document.get("/evaluate/threat/norm").and_then(Value::as_str) == Some("linf");
    let judge = |pointer: String, radius: &Value| {
        let (message, help) = match read_radius(radius)? {
            Ok(radius) if linf && radius.pixels() > 1.0 => (
                format!("the radius `{radius}` is more than the whole range of a pixel"),
                "pixels are in [0, 1]; 8 levels of 255 are \"8/255\"",
            ),
            Ok(_) => return None,
            Err(error) => (error.to_string(), "a radius is above 0, such as \"8/255\""),
        };
        let problem = document.problem(&pointer, Mark::Value, message);
        Some(problem.help(help))
    };
    match document.get(at) {
        Some(Value::Array(list)) => {
            let radii = list.iter().enumerate();
            radii.filter_map(|(index, radius)| judge(child(at, &index.to_string()), radius)).collect()
        }
        Some(radius) => judge(at.to_owned(), radius).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The radius, or what only arithmetic finds wrong with it; `None` for what the schema refuses.
fn read_radius(radius: &Value) -> Option<Result<Epsilon, EpsilonError>> {
    match radius {
        Value::String(text) => match Epsilon::fraction(text) {
            Err(EpsilonError::NoFraction(_)) => None,
            read => Some(read),
        },
        other => Epsilon::number(other.as_f64()?).ok().map(Ok),
    }
}

/// Attacks need to know what they may do, and results need to tell them apart.
fn attacks(document: &Document) -> Vec<Problem> {
    let at = "/evaluate/attacks";
    let Some(attacks) = document.get(at).and_then(Value::as_array) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if !attacks.is_empty() && document.get("/evaluate/threat").is_none() {
        let message = "attacks need a threat model";
        let help = "say what an attacker may do:\n[evaluate.threat]\nnorm = \"linf\"\nepsilon = \"8/255\"";
        let first = child(at, "0");
        problems.push(document.problem(&first, Mark::Value, message).help(help));
    }
    let label = |attack: &Value| {
        let name = attack.get("name").or(attack.get("use"))?;
        Some(name.as_str()?.to_owned())
    };
    for pointer in repeated(at, attacks, &label) {
        let name = document.get(&pointer).and_then(label).unwrap_or_default();
        let message = format!("two attacks are called `{name}`");
        let problem = document.problem(&pointer, Mark::Value, message);
        problems.push(problem.help("give this one another `name`"));
    }
    problems
}

/// The list elements whose label an earlier one has, but for upper and lower case.
pub(super) fn repeated(
    list: &str,
    elements: &[Value],
    label: &dyn Fn(&Value) -> Option<String>,
) -> Vec<String> {
    let labels: Vec<Option<String>> =
        elements.iter().map(|element| label(element).map(|label| label.to_lowercase())).collect();
    let repeats = labels.iter().enumerate().filter(|(index, label)| {
        let earlier = &labels[..*index];
        label.is_some() && earlier.contains(label)
    });
    repeats.map(|(index, _)| child(list, &index.to_string())).collect()
}

/// Students are named in one place.
fn students(document: &Document) -> Option<Problem> {
    let (list, one) = ("/students", "/student/network");
    let several = document.get(list)?.as_array().is_some_and(|list| !list.is_empty());
    if !several || document.get(one).is_none() {
        return None;
    }
    let problem = document.problem(one, Mark::Key, "`student.network` is given beside `students`");
    Some(problem.help("put it into the list of `students`"))
}

/// Soft labels have no effect on students that weigh neither of their terms.
fn student_loss(document: &Document) -> Option<Problem> {
    let weight = |key: &str| document.get(&child("/student", key)).map_or(Some(0.0), Value::as_f64);
    let hard = document.get("/relabel/labels").and_then(Value::as_str) == Some("hard");
    document.get("/student/kl_weight")?;
    if hard || weight("kl_weight")? != 0.0 || weight("cross_entropy_weight")? != 0.0 {
        return None;
    }
    let problem = document.problem("/student/kl_weight", Mark::Value, "the students' loss has no terms");
    Some(problem.help("give `kl_weight` or `cross_entropy_weight` a value above 0"))
}

/// Weights of penalties change while networks are trained, not while images are made.
fn image_penalties(document: &Document) -> Vec<Problem> {
    let list = "/distill/regularizers";
    let count = document.get(list).and_then(Value::as_array).map_or(0, Vec::len);
    let keys = (0..count).flat_map(|index| {
        ["warmup", "initial_weight"].map(|key| child(&child(list, &index.to_string()), key))
    });
    let changes =
        |pointer: &String| document.get(pointer).and_then(Value::as_f64).is_some_and(|value| value != 0.0);
    let problem = |pointer: String| {
        let message =
            format!("`{}` changes nothing: penalties on images keep their weight", dotted(&pointer));
        document.problem(&pointer, Mark::Key, message).help("leave it out")
    };
    keys.filter(changes).map(problem).collect()
}

/// Nesterov's look ahead follows the momentum, so there must be one.
fn nesterov(document: &Document, optimizer: &str) -> Option<Problem> {
    let option = |key: &str| document.get(&child(optimizer, key));
    let without = option("momentum")?.as_f64()? == 0.0;
    if !without || option("nesterov") != Some(&Value::Bool(true)) {
        return None;
    }
    let message = format!("`{}` needs a momentum above 0", dotted(&child(optimizer, "nesterov")));
    Some(document.problem(&child(optimizer, "nesterov"), Mark::Value, message))
}
