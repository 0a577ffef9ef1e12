//! Recipes: the TOML that a researcher writes, read into a typed [`Recipe`].
//!
//! The rule: one pass tells everything that is wrong, each thing with its file, line, column and caret, and the
//! nearest valid name. One mechanism does it all: text → JSON values that know their places ([`Document`]) → a JSON
//! Schema, derived from the typed recipe or shipped by a plugin → serde.
//!
//! Reading order: `model` is what a recipe can say; `load_extended` below is the way through; `document` is the index of
//! places, and `parse`, `extends`, `assign`, `overlay`, `sweep` and `validate` are what happens to it; `explain` and `forms` word what
//! schemas find, `checks` and `variants` find what schemas cannot; `problem` and `snippet` render.
//!
//! What this module does not do: it opens no file, loads no plugin and knows no method. Whether a method exists and
//! takes its options is asked later, through [`Document::validate`] with the plugin's schema.

mod assign;
mod augmentation;
mod checks;
mod data;
mod differences;
mod document;
mod epsilon;
mod experts;
mod explain;
mod extends;
mod first_images;
mod forms;
mod model;
mod optimizer;
mod origins;
mod overlay;
mod parse;
mod presets;
mod problem;
mod schema;
mod snippet;
mod students;
mod sweep;
#[cfg(test)]
mod tests;
mod validate;
mod variants;
mod words;

use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;

use self::validate::Checker;
use self::variants::Named;

pub use differences::{Difference, differences};
pub use document::{Document, Mark, child};
pub use extends::Bases;
pub use model::*;
pub use origins::annotated;
pub use problem::{Location, Problem, Problems};

/// A recipe that has been read and found good, apart from what only plugins can judge.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The recipe's name: as it says, else the file's name without its extension.
    pub name: String,
    /// The recipe with its places, assignments applied, variants included.
    pub document: Document,
    /// The recipe.
    pub recipe: Recipe,
    /// What to run, in the order written: the variants, or the recipe alone.
    pub variants: Vec<Variant>,
}

/// One of the recipes that run side by side.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The variant's name, or the recipe's where there are no variants.
    pub name: String,
    /// Whether the others are to be measured by it.
    pub baseline: bool,
    /// The recipe with the variant's keys replaced; their places are those in the variant.
    pub document: Document,
    /// The recipe with the variant's keys replaced; it has no variants.
    pub recipe: Recipe,
}

/// Reads a recipe that extends no other; see [`load_extended`].
///
/// # Errors
///
/// As there.
pub fn load(source_name: &str, text: &str, sets: &[String]) -> Result<Loaded, Problems> {
    load_extended(source_name, text, sets, &|_| Err(std::io::ErrorKind::Unsupported.into()))
}

/// Reads a recipe. `source_name` is what problems call the text, usually its path; `sets` are `--set` assignments,
/// which change the recipe before its variants are laid over it; `bases` gives the recipes that it extends.
///
/// # Errors
///
/// Everything that is wrong with the assignments, the recipe and each of its variants, in the order of the text; if the
/// text is not TOML, only what is wrong with it as such.
pub fn load_extended(
    source_name: &str,
    text: &str,
    sets: &[String],
    bases: Bases,
) -> Result<Loaded, Problems> {
    let (mut document, mut problems) = Document::read_extended(source_name, text, bases)?;
    for set in sets {
        if let Err(refused) = document.set(set) {
            problems.extend(refused.into_vec());
        }
    }
    problems.extend(document.late_extends());
    let name = document.get("/name").and_then(Value::as_str).map(str::to_owned);
    let name = name.unwrap_or_else(|| name_from_file(source_name));
    let (variants, found) = variants::variants(&document);
    problems.extend(found);
    let (variants, found) = sweep::sweep(&document, variants, &name);
    problems.extend(found);
    document.fill_in_preset();
    let recipe = typed(&document, &mut problems);
    let variants = variants.into_iter().filter_map(|Named { name, baseline, mut document }| {
        document.fill_in_preset();
        let recipe = typed(&document, &mut problems)?;
        Some(Variant { name, baseline, document, recipe })
    });
    let mut variants: Vec<Variant> = variants.collect();

    match recipe {
        Some(recipe) if problems.is_empty() => {
            if variants.is_empty() {
                variants.push(Variant {
                    name: name.clone(),
                    baseline: false,
                    document: document.clone(),
                    recipe: recipe.clone(),
                });
            }
            Ok(Loaded { name, document, recipe, variants })
        }
        _ => Err(Problems::new(problems)),
    }
}

/// The documents of a recipe that [`load`] refused, as far as its text can be read: so that what plugins have to say of their
/// options is told together with what is wrong with the rest.
pub fn documents(source_name: &str, text: &str, sets: &[String], bases: Bases) -> Vec<Document> {
    let Ok((mut document, _)) = Document::read_extended(source_name, text, bases) else { return Vec::new() };
    for set in sets {
        // What is wrong with an assignment has been told.
        let _ = document.set(set);
    }
    let (variants, _) = variants::variants(&document);
    let (variants, _) = sweep::sweep(&document, variants, "");
    std::iter::once(document).chain(variants.into_iter().map(|named| named.document)).collect()
}

/// The JSON Schema of recipes.
pub fn schema() -> Value {
    schemars::schema_for!(Recipe).to_value()
}

/// What is said of a recipe that the schema accepts and serde does not.
const UNREADABLE: &str = "the recipe cannot be read";

/// The typed recipe, unless something is wrong with it.
fn typed(document: &Document, problems: &mut Vec<Problem>) -> Option<Recipe> {
    static CHECKER: LazyLock<Checker> = LazyLock::new(|| Checker::new(schema()));
    let mut found = CHECKER.check(document, "");
    found.extend(checks::check(document));
    let recipe = match serde_json::from_value(document.value().clone()) {
        Ok(recipe) if found.is_empty() => Some(recipe),
        Err(error) if found.is_empty() && problems.is_empty() => {
            // The schema is derived from the type, so it has refused all that serde refuses; if it ever has not, this
            // is better than nothing.
            let message = format!("{UNREADABLE}: {error}");
            found.push(document.problem("", Mark::Value, message));
            None
        }
        _ => None,
    };
    problems.append(&mut found);
    recipe
}

/// A folder's name from a file's: `recipes/my süß.toml` gives `my s`.
fn name_from_file(source_name: &str) -> String {
    let stem = Path::new(source_name).file_stem().unwrap_or_default();
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() || "._ +-".contains(c) { c } else { '-' }
    };
    let name = stem.to_string_lossy();
    let name: String = name.chars().map(fit).take(checks::LONGEST_NAME).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "recipe".to_owned() } else { name.to_owned() }
}
