//! A recipe as it was written: its text, and those of the recipes that it extends.

use super::{Failure, missing_recipe};
use crate::{
    recipe::{self, Document, Loaded, Problems},
    run::Begun,
};
use std::{cell::RefCell, collections::BTreeMap, fs, io, path::Path};

/// The recipe that runs when none is named.
const BUILT_IN: (&str, &str) = ("digits.toml", include_str!("../../../configs/digits.toml"));

pub(super) struct Written {
    /// The file, as it was called.
    pub name: String,
    pub text: String,
    /// The recipes that it extends, by path, as far as they were asked for.
    bases: RefCell<BTreeMap<String, String>>,
    /// Whether there are no others than these.
    closed: bool,
    /// Whether it is the recipe that runs when none is named.
    pub built_in: bool,
}

impl Written {
    /// A recipe's file.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| missing_recipe(path, &error))?;
        Ok(Self {
            name: path.display().to_string(),
            text,
            bases: RefCell::default(),
            closed: false,
            built_in: false,
        })
    }

    pub fn built_in() -> Self {
        let (name, text) = BUILT_IN;
        Self { name: name.into(), text: text.into(), bases: RefCell::default(), closed: true, built_in: true }
    }

    /// The recipe of a run as it was when the run was begun, whatever has become of the files.
    pub fn of_run(begun: &Begun) -> Self {
        Self {
            name: begun.typed.recipe.clone(),
            text: begun.recipe.clone(),
            bases: RefCell::new(begun.typed.bases.clone()),
            closed: true,
            built_in: begun.typed.built_in,
        }
    }

    /// The recipe with the changes `sets`.
    pub fn load(&self, sets: &[String]) -> Result<Loaded, Problems> {
        recipe::load_extended(&self.name, &self.text, sets, &|path| self.base(path))
    }

    /// The same as far as it can be read.
    pub fn documents(&self, sets: &[String]) -> Vec<Document> {
        recipe::documents(&self.name, &self.text, sets, &|path| self.base(path))
    }

    /// The recipes that it extends, once it was loaded.
    pub fn bases(&self) -> BTreeMap<String, String> {
        self.bases.borrow().clone()
    }

    fn base(&self, path: &str) -> io::Result<String> {
        if let Some(text) = self.bases.borrow().get(path) {
            return Ok(text.clone());
        }
        if self.closed {
            return Err(io::ErrorKind::NotFound.into());
        }
        let text = fs::read_to_string(path)?;
        self.bases.borrow_mut().insert(path.to_owned(), text.clone());
        Ok(text)
    }
}
