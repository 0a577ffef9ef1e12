//! Errors of plugins and data as problems of a recipe, at their places.

use crate::recipe::{Document, Mark, Problem};
use guard_sdk::Error;

/// What is wrong with the data set, at the key of `[data]` that it is about.
pub(super) fn in_data(document: &Document, error: Error) -> Problem {
    let inside = error.option_path.as_ref().map(|path| format!("/data{path}"));
    let place = inside.filter(|place| document.get(place).is_some());
    placed(document, &place.unwrap_or("/data/dataset".into()), error)
}

/// An error of a plugin as a problem without a place.
pub fn unplaced(error: Error) -> Problem {
    let problem = Problem::new(error.to_string());
    match error.help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// An error as a problem at a value of the recipe.
pub(super) fn placed(document: &Document, pointer: &str, error: Error) -> Problem {
    let problem = document.problem(pointer, Mark::Value, error.to_string());
    match error.help {
        Some(help) => problem.help(help),
        None => problem,
    }
}
