//! `[[variants]]`: one recipe, several versions of it to compare.
//!
//! The rule: a comparison is fair only if everything around it is equal, so a variant may change what is compared and
//! nothing that it is compared on.

use serde_json::Value;

use super::checks::{folder_name, repeated};
use super::document::{Document, Mark, child};
use super::explain::unknown_key;
use super::problem::Problem;

/// What a variant says of itself.
const OWN: [&str; 2] = ["name", "baseline"];

/// What a variant may say, beside its name.
const MAY_DIFFER: [&str; 7] = ["network", "training", "experts", "distill", "relabel", "student", "students"];

/// What all variants share.
const SHARED: [&str; 7] = ["data", "seed", "evaluate", "plugins", "variants", "sweep", "extends"];

/// A variant before its recipe is read.
pub(super) struct Named {
    pub name: String,
    pub baseline: bool,
    pub document: Document,
}

/// The variants of a recipe, and what is wrong with them as variants. Whether
/// each document is a good recipe is not asked here.
pub(super) fn variants(document: &Document) -> (Vec<Named>, Vec<Problem>) {
    let list = "/variants";
    let Some(elements) = document.get(list).and_then(Value::as_array) else {
        return (Vec::new(), Vec::new());
    };
    let name = |variant: &Value| Some(variant.get("name")?.as_str()?.to_owned());
    let mut problems = Vec::new();
    for pointer in repeated(list, elements, &name) {
        let at = child(&pointer, "name");
        let name = document.get(&at).and_then(Value::as_str).unwrap_or_default();
        let message = format!("two variants are called `{name}`");
        problems.push(document.problem(&at, Mark::Value, message));
    }

    let mut variants = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let Value::Object(table) = element else {
            continue;
        };
        let at = child(list, &index.to_string());
        problems.extend(folder_name(document, &child(&at, "name")));
        let mut base = document.clone();
        base.remove("/sweep");
        for key in table.keys() {
            let entry = child(&at, key);
            if OWN.contains(&key.as_str()) || may_differ(key) {
                continue;
            }
            problems.push(refused_key(document, key, &entry));
            base.remove(&entry);
        }
        if let Ok(overlaid) = base.overlay(&at) {
            let baseline = element.get("baseline") == Some(&Value::Bool(true));
            variants.push(Named { name: name(element).unwrap_or_default(), baseline, document: overlaid });
        }
    }
    (variants, problems)
}

/// Whether variants may differ in the top-level key `key`.
pub(super) fn may_differ(key: &str) -> bool {
    MAY_DIFFER.contains(&key)
}

/// A key in which variants cannot differ, or that is unknown.
pub(super) fn refused_key(document: &Document, key: &str, entry: &str) -> Problem {
    if SHARED.contains(&key) {
        let message = match key {
            "variants" => "a variant has no variants of its own".to_owned(),
            _ => format!("variants cannot differ in `{key}`"),
        };
        let help = match key {
            "variants" => "list them one after the other".to_owned(),
            _ => format!(
                "variants are compared with each other, so all have the same `{key}`: \
                 set it at the top of the recipe"
            ),
        };
        document.problem(entry, Mark::Key, message).help(help)
    } else {
        let names: Vec<String> = OWN.into_iter().chain(MAY_DIFFER).map(str::to_owned).collect();
        unknown_key(document, entry, &names)
    }
}
