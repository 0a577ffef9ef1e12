//! The tables of a recipe that name methods, held against what plugins offer.

use super::problems::placed;
use crate::{
    plugin::Plugins,
    recipe::{Document, Problem},
};
use guard_sdk::manifest::Kind;
use serde_json::{Map, Value};

/// A table of the recipe that names a method.
pub(super) struct MethodTable {
    pub kind: Kind,
    /// The table's pointer, e.g. `/training/regularizers/0`.
    table: String,
    /// The key that names the method: `use` or `objective`.
    key: &'static str,
}

impl MethodTable {
    pub fn element(kind: Kind, list: &str, index: usize) -> Self {
        Self { kind, table: format!("{list}/{index}"), key: "use" }
    }

    pub fn objective() -> Self {
        Self { kind: Kind::Objective, table: "/distill".into(), key: "objective" }
    }

    /// All of a document's.
    pub fn all(document: &Document) -> Vec<Self> {
        let lists = [
            (Kind::Regularizer, "/training/regularizers"),
            (Kind::Regularizer, "/distill/regularizers"),
            (Kind::Regularizer, "/student/regularizers"),
            (Kind::Attack, "/evaluate/attacks"),
        ];
        let elements = lists.into_iter().flat_map(|(kind, list)| {
            let count = document.get(list).and_then(Value::as_array).map_or(0, Vec::len);
            (0..count).map(move |index| Self::element(kind, list, index))
        });
        elements.chain([Self::objective()]).collect()
    }

    pub fn name(&self) -> String {
        format!("{}/{}", self.table, self.key)
    }

    pub fn options(&self) -> String {
        format!("{}/options", self.table)
    }

    /// The method's name and its options, once a plugin offers it and they fit its schema.
    pub fn read<'a>(
        &self,
        document: &'a Document,
        plugins: &mut Plugins,
    ) -> Result<(&'a str, Value), Vec<Problem>> {
        let (name, schema) = self.schema(document, plugins)?;
        let problems = document.validate(&schema, &self.options());
        let options = document.get(&self.options()).cloned().unwrap_or_else(|| Value::Object(Map::new()));
        if problems.is_empty() { Ok((name, options)) } else { Err(problems) }
    }

    /// The method's name and the schema of its options, once a plugin offers it.
    pub fn schema<'a>(
        &self,
        document: &'a Document,
        plugins: &mut Plugins,
    ) -> Result<(&'a str, Value), Vec<Problem>> {
        let name = document.get(&self.name()).and_then(Value::as_str).ok_or_else(Vec::new)?;
        let found = plugins.require(self.kind, name).and_then(|()| plugins.schema(self.kind, name));
        Ok((name, found.map_err(|error| vec![placed(document, &self.name(), error)])?))
    }
}

/// What plugins have to say of the methods in documents that are not yet a recipe.
pub fn check_methods(documents: &[Document], requests: &[String], plugins: &mut Plugins) -> Vec<Problem> {
    let named = documents
        .iter()
        .take(1)
        .flat_map(|document| document.get("/plugins").and_then(Value::as_array).into_iter().flatten());
    let names: Vec<&str> =
        requests.iter().map(String::as_str).chain(named.filter_map(Value::as_str)).collect();
    if names.iter().any(|name| plugins.load(name).is_err()) {
        // Told in its place once the recipe can be read; without it every method would seem unknown.
        return Vec::new();
    }
    let tables = documents
        .iter()
        .flat_map(|document| MethodTable::all(document).into_iter().map(move |table| (document, table)));
    tables.filter_map(|(document, table)| table.read(document, plugins).err()).flatten().collect()
}
