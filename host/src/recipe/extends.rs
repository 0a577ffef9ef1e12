//! `extends = "base.toml"`: a recipe laid over another.
//!
//! The rule: the recipe is laid over its base as a variant is laid over its recipe, and every part keeps its place, in the file
//! in which it was written. The base's `name` stays with the base.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::document::{Document, Mark};
use super::problem::{Problem, Problems};

/// Gives the text of a recipe that another extends, by its path.
pub type Bases<'a> = &'a dyn Fn(&str) -> io::Result<String>;

const KEY: &str = "/extends";

impl Document {
    /// Reads a recipe and those that it extends, laid over each other; values that recipes do not use are handed back beside.
    ///
    /// # Errors
    ///
    /// Texts that are no TOML, bases that cannot be read, recipes that extend themselves.
    pub(super) fn read_extended(
        name: &str,
        text: &str,
        bases: Bases,
    ) -> Result<(Document, Vec<Problem>), Problems> {
        extended(name, text, bases, &mut vec![name.to_owned()])
    }

    /// What is wrong with an `extends` that was typed.
    pub(super) fn late_extends(&self) -> Option<Problem> {
        // What is no text is told by the schema.
        self.get(KEY)?.as_str()?;
        let problem = self.problem(KEY, Mark::Key, "`extends` stands in the recipe's file");
        Some(problem.help("write it there, or give the other recipe"))
    }
}

fn extended(
    name: &str,
    text: &str,
    bases: Bases,
    under: &mut Vec<String>,
) -> Result<(Document, Vec<Problem>), Problems> {
    let (mut own, mut problems) = Document::read(name, text)?;
    // What is no text is left to the schema.
    let Some(Value::String(written)) = own.get(KEY) else { return Ok((own, problems)) };
    let path = Path::new(name).parent().unwrap_or(Path::new("")).join(written).display().to_string();
    let refused = |message: String| own.problem(KEY, Mark::Value, message);
    if under.contains(&path) {
        return Err(refused(format!("`{path}` extends itself"))
            .help("one of the recipes must stand alone")
            .into());
    }
    let base = bases(&path).map_err(|error| {
        let problem = refused(format!("`{path}` cannot be read: {error}"));
        problem.help("the path of a recipe, from the folder of this one")
    })?;
    under.push(path.clone());
    let (mut base, found) = extended(&path, &base, bases, under)?;
    problems.extend(found);
    base.remove("/name");
    own.remove(KEY);
    if let Value::Object(changes) = own.value.clone() {
        base.merge("", &own, "", &changes);
    }
    (base.source, base.assignments) = (own.source, 0);
    Ok((base, problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document, Problems> {
        let bases = |path: &str| {
            match path {
            "recipes/base.toml" => Ok("name = \"base\"\nseed = 1\n[training]\nepochs = 20\nbatch_size = 8\n[[variants]]\nname = \"a\"\n".to_owned()),
            "recipes/deeper/middle.toml" => Ok("extends = \"../base.toml\"\ntraining.epochs = 30\n".to_owned()),
            "recipes/deeper/../base.toml" => Ok("seed = 2\ntraining.batch_size = 4\n".to_owned()),
            "recipes/circle.toml" => Ok("extends = \"my.toml\"\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
        };
        Document::read_extended("recipes/my.toml", text, &bases).map(|(document, _)| document)
    }

    #[test]
    fn tables_merge_lists_replace_and_every_part_knows_its_file() {
        let document =
            read("extends = \"base.toml\"\n[training]\nepochs = 5\n[[variants]]\nname = \"b\"\n").unwrap();
        assert_eq!(
            document.value().to_string(),
            r#"{"seed":1,"training":{"epochs":5,"batch_size":8},"variants":[{"name":"b"}]}"#
        );
        let origin = |pointer| document.origin(pointer).map(|place| place.to_string());
        assert_eq!(origin("/seed").as_deref(), Some("recipes/base.toml:2:8"));
        assert_eq!(origin("/training/epochs").as_deref(), Some("recipes/my.toml:3:10"));
        assert_eq!(
            document.problem("/data", Mark::Key, "x").location.unwrap().to_string(),
            "recipes/my.toml"
        );
    }

    #[test]
    fn a_base_may_extend_another_from_its_own_folder() {
        let document = read("extends = \"deeper/middle.toml\"\n").unwrap();
        assert_eq!(document.value().to_string(), r#"{"seed":2,"training":{"batch_size":4,"epochs":30}}"#);
    }

    #[test]
    fn a_base_that_is_not_there_is_told_at_its_place() {
        let problems = read("seed = 1\nextends = \"bse.toml\"\n").unwrap_err().to_string();
        assert!(problems.starts_with("error: `recipes/bse.toml` cannot be read: "), "{problems}");
        assert!(problems.contains("--> recipes/my.toml:2:11"), "{problems}");
    }

    #[test]
    fn a_circle_is_told_and_not_followed() {
        let problems = read("extends = \"circle.toml\"\n").unwrap_err().to_string();
        assert!(problems.starts_with("error: `recipes/my.toml` extends itself"), "{problems}");
        assert!(problems.contains("--> recipes/circle.toml:1:11"), "{problems}");
    }
}
